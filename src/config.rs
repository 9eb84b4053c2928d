//! TOML to a typed [`Config`]. Opens no socket. Unknown keys refuse, bounds are checked at load,
//! errors name the key and the range; secrets are paths to files.

use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroU32;
use std::path::{Path, PathBuf};
use std::time::Duration;

use http::HeaderValue;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use serde::Deserialize;

use crate::audit::Target;
use crate::base::host_names::{HostName, HostNames};
use crate::base::secret::Secret;
use crate::budgets::BudgetLimits;
use crate::evaluator::Network;
use crate::files::{self, Audience, FileError};
use crate::ops::registry;
use crate::proof::sigv4::{self, MAX_SKEW};
use crate::providers::Reach;
use crate::sessions::{self, Mode, RedisOptions};
use crate::store::{self, Place};
use crate::tokens::TokenBounds;

const MAX_FILE_BYTES: u64 = 1 << 20;
const DAY: Duration = Duration::from_secs(86_400);
/// The sentence that lets credentials travel in clear beyond this machine.
pub const PLAINTEXT_SENTENCE: &str = "a proxy in front terminates TLS";

/// Why a configuration was refused.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file itself, or one that it names.
    #[error(transparent)]
    File(#[from] FileError),
    /// Not TOML, or an unknown or misplaced key: with line and column.
    #[error("{path}: {error}")]
    Syntax {
        /// The file.
        path: PathBuf,
        /// With its place.
        error: Box<toml::de::Error>,
    },
    /// A value out of its range.
    #[error("{key}: {rule}")]
    Value {
        /// `[listen] address`
        key: &'static str,
        /// What must hold.
        rule: String,
    },
}

/// The file as it is written. Every key has a default but the paths.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    listen: Option<Listen>,
    tls: Option<Tls>,
    operator: Option<Operator>,
    sts: Option<StsSection>,
    #[serde(default)]
    directory: DirectorySection,
    store: Option<StoreSection>,
    keyring: Option<KeyringSection>,
    audit: Option<AuditSection>,
    sessions: Option<SessionsSection>,
    limits: Option<LimitsSection>,
    web_identity: Option<WebIdentitySection>,
    federation: Option<FederationSection>,
    #[serde(default)]
    budgets: BudgetsSection,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct WebIdentitySection {
    issuer: String,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct FederationSection {
    private_addresses: Option<bool>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct BudgetsSection {
    principal: PrincipalBudget,
    account: AccountBudget,
    source: SourceBudget,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct PrincipalBudget {
    calls_per_second: Option<u32>,
    reads_per_second: Option<u32>,
    live_sessions: Option<u32>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct AccountBudget {
    calls_per_second: Option<u32>,
    live_sessions: Option<u32>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct SourceBudget {
    unproven_calls_per_second: Option<u32>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Listen {
    address: SocketAddr,
    plaintext_off_loopback: Option<String>,
    names: Option<Vec<String>>,
    #[serde(default)]
    trusted_proxies: Vec<String>,
    #[serde(default)]
    forwarded_header: ForwardedHeader,
    #[serde(default)]
    proxy_protocol: bool,
    #[serde(default)]
    cors_origins: Vec<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Tls {
    certificate: PathBuf,
    private_key: PathBuf,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Operator {
    address: SocketAddr,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct StsSection {
    regions: Option<Vec<String>>,
    skew_seconds: Option<u64>,
    reflection: Option<bool>,
    presigned_actions: Option<Vec<String>>,
    single_use_signatures: Option<SingleUseSignatures>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum SingleUseSignatures {
    Off,
    Issuing,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct StoreSection {
    file: Option<PathBuf>,
    url: Option<String>,
    password_file: Option<PathBuf>,
    ca_file: Option<PathBuf>,
    unverified_off_loopback: Option<String>,
    watermark: Option<PathBuf>,
    refuse_after_seconds: Option<u64>,
    keep_changes_days: Option<u64>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct DirectorySection {
    file: Option<PathBuf>,
    master_key: Option<PathBuf>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct KeyringSection {
    file: PathBuf,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct AuditSection {
    file: Option<PathBuf>,
    stdout: Option<bool>,
    sync: Option<bool>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct SessionsSection {
    max_records: Option<usize>,
    records_mib: Option<usize>,
    opened_tokens: Option<u64>,
    opened_tokens_mib: Option<u64>,
    redis: Option<Redis>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Redis {
    mode: Option<RedisMode>,
    urls: Vec<String>,
    primary: Option<String>,
    username: Option<String>,
    password_file: Option<PathBuf>,
    ca_file: Option<PathBuf>,
    unverified_off_loopback: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum RedisMode {
    Single,
    Sentinel,
    Cluster,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct LimitsSection {
    connections: Option<usize>,
    calls: Option<usize>,
    request_memory_mib: Option<usize>,
    streams_per_connection: Option<u32>,
    handshake_seconds: Option<u64>,
    idle_seconds: Option<u64>,
    connection_age_seconds: Option<u64>,
    shutdown_grace_seconds: Option<u64>,
}

/// Where the configuration, keys and directory come from, checked.
#[derive(Debug)]
pub struct Config {
    /// The service's listener; port 0 takes any free one.
    pub listen: SocketAddr,
    /// Who may be meant and believed on that listener.
    pub listener: Listener,
    /// Certificate chain and private key; none: plaintext.
    pub tls: Option<(PathBuf, PathBuf)>,
    /// The operators' listener.
    pub operator: SocketAddr,
    /// The regions that a signature's scope may name; the first is the broker's own.
    pub regions: Vec<String>,
    /// How far a signature's date may be off.
    pub skew: Duration,
    /// The actions of STS that a presigned request may ask for, besides GetCallerIdentity.
    pub presigned_actions: Vec<String>,
    /// Whether a signature brings credentials or a change once only.
    pub single_use_signatures: bool,
    /// Whether gRPC reflection answers.
    pub reflection: bool,
    /// The directory file; none: the directory is in the store.
    pub directory: Option<PathBuf>,
    /// What sealed secrets open with.
    pub master_key: Option<PathBuf>,
    /// Where what must not be lost is.
    pub store: Place,
    /// What this node has seen of the store.
    pub watermark: Option<PathBuf>,
    /// A node that has not confirmed the change feed for so long accepts nobody: 10 s to 36 h.
    pub refuse_after: Duration,
    /// How long a change stays in the feed: 1 to 36,500 days.
    pub keep_changes: Duration,
    /// The keyring file.
    pub keyring: PathBuf,
    /// Where audit records go.
    pub audit: Target,
    /// The most session records in memory.
    pub session_records: sessions::Bounds,
    /// How many opened tokens are remembered.
    pub opened_tokens: TokenBounds,
    /// Where session records are shared.
    pub redis: Option<RedisOptions>,
    /// See [`Limits`].
    pub limits: Limits,
    /// Who vouches in web identity tokens; `{address}` in it is where the broker listens.
    pub issuer: Option<String>,
    /// Where identity providers may be.
    pub reach: Reach,
    /// What a principal, an account and a source address may ask for.
    pub budgets: BudgetLimits,
}

/// Who may be meant and believed on the service's listener.
#[derive(Debug, Clone, Default)]
pub struct Listener {
    /// What clients call this broker.
    pub names: Names,
    /// Whose forwarded headers, and whose PROXY headers, are believed.
    pub trusted_proxies: Vec<Network>,
    /// The header in which they name their clients.
    pub forwarded_header: ForwardedHeader,
    /// Whether their connections begin with a header of the PROXY protocol, version 2.
    pub proxy_protocol: bool,
    /// Pages of these origins may call the broker from a browser.
    pub cors_origins: Vec<HeaderValue>,
}

impl Listener {
    /// Whether an address is a proxy's that is believed.
    pub fn is_trusted(&self, ip: IpAddr) -> bool {
        let ip = ip.to_canonical();
        self.trusted_proxies
            .iter()
            .any(|network| network.contains(ip))
    }
}

/// Where the names come from that clients call this broker.
#[derive(Debug, Clone, Default)]
pub enum Names {
    /// The address that it listens on, and its certificate.
    #[default]
    Derived,
    /// The configuration.
    Listed(HostNames),
    /// Every name is taken: for development.
    Any,
}

/// Which header names a proxy's client.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
pub enum ForwardedHeader {
    /// `X-Forwarded-For`, with `X-Forwarded-Proto`.
    #[default]
    #[serde(rename = "x-forwarded-for")]
    XForwardedFor,
    /// `Forwarded`: RFC 7239.
    #[serde(rename = "forwarded")]
    Forwarded,
}

/// What one process takes on at the most.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Open connections.
    pub connections: usize,
    /// Calls in flight.
    pub calls: usize,
    /// Bytes that requests and unsent answers hold.
    pub request_memory_bytes: usize,
    /// Calls at once on one HTTP/2 connection.
    pub streams_per_connection: u32,
    /// From the connection to its first whole request.
    pub handshake: Duration,
    /// Without a call in progress.
    pub idle: Duration,
    /// Then it is asked to go; credentials of a rotated TLS key do not live on in old connections.
    pub connection_age: Duration,
    /// From the signal to the end of calls in progress.
    pub shutdown_grace: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 10_000,
            calls: 4_096,
            request_memory_bytes: 128 << 20,
            streams_per_connection: 256,
            handshake: Duration::from_secs(10),
            idle: Duration::from_secs(120),
            connection_age: Duration::from_secs(3_600),
            shutdown_grace: Duration::from_secs(10),
        }
    }
}

impl Config {
    /// Reads and checks a configuration file. Relative paths in it start at its own folder.
    ///
    /// # Errors
    /// Names the file, or the key and its range.
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        let bytes = files::read(path, Audience::Everyone, MAX_FILE_BYTES)?;
        let text = std::str::from_utf8(bytes.expose())
            .map_err(|_| value("configuration", "must be UTF-8"))?;
        let document: Document = toml::from_str(text).map_err(|error| ConfigError::Syntax {
            path: path.to_owned(),
            error: Box::new(error),
        })?;
        let base = path.parent().unwrap_or(Path::new("")).to_owned();
        Self::from_document(document, &base)
    }

    fn from_document(document: Document, base: &Path) -> Result<Self, ConfigError> {
        let at = |path: PathBuf| base.join(path);
        let missing = |key, such_as: &str| {
            value(
                key,
                format!("is missing: {such_as}; `brevet init` makes a configuration"),
            )
        };
        let listen = document
            .listen
            .ok_or_else(|| missing("[listen] address", "such as \"127.0.0.1:7480\""))?;
        let keyring = document
            .keyring
            .ok_or_else(|| missing("[keyring] file", "the keys of session tokens"))?;
        if document.tls.is_none()
            && !listen.address.ip().is_loopback()
            && listen.plaintext_off_loopback.as_deref() != Some(PLAINTEXT_SENTENCE)
        {
            let rule = format!(
                "{} is not a loopback address: give [tls] a certificate, or set plaintext_off_loopback = \"{PLAINTEXT_SENTENCE}\"",
                listen.address
            );
            return Err(value("[listen] address", rule));
        }
        let address = listen.address;
        let listener = listener(listen, document.tls.is_some())?;
        let sts = document.sts.unwrap_or_default();
        let regions = sts.regions.unwrap_or_else(|| vec!["us-east-1".to_owned()]);
        if regions.is_empty()
            || !regions
                .iter()
                .all(|r| sigv4::is_region(r) || r == sigv4::ANY_REGION)
        {
            let rule = "must be at least one name of lower-case letters, digits and `-`, or `*` for any region";
            return Err(value("[sts] regions", rule));
        }
        let skew = ranged(
            "[sts] skew_seconds",
            sts.skew_seconds,
            MAX_SKEW.as_secs(),
            1..=MAX_SKEW.as_secs(),
        )?;
        let sessions = document.sessions.unwrap_or_default();
        let store = document.store.unwrap_or_default();
        let master_key = document.directory.master_key;
        if document.directory.file.is_none() && master_key.is_none() {
            return Err(missing(
                "[directory] master_key",
                "the secrets in the store are sealed under it",
            ));
        }
        Ok(Self {
            listen: address,
            listener,
            tls: document.tls.map(|t| (at(t.certificate), at(t.private_key))),
            operator: document
                .operator
                .map_or(SocketAddr::new(IpAddr::from([127, 0, 0, 1]), 7481), |o| {
                    o.address
                }),
            regions,
            skew: Duration::from_secs(skew),
            single_use_signatures: sts.single_use_signatures == Some(SingleUseSignatures::Issuing),
            presigned_actions: presigned_actions(sts.presigned_actions.unwrap_or_default())?,
            reflection: sts.reflection.unwrap_or(false),
            directory: document.directory.file.map(at),
            master_key: master_key.map(at),
            store: place(&store, base)?,
            watermark: Some(at(store
                .watermark
                .unwrap_or_else(|| "store.watermark".into()))),
            refuse_after: Duration::from_secs(ranged(
                "[store] refuse_after_seconds",
                store.refuse_after_seconds,
                900,
                10..=129_600,
            )?),
            keep_changes: DAY
                * u32::try_from(ranged(
                    "[store] keep_changes_days",
                    store.keep_changes_days,
                    30,
                    1..=36_500,
                )?)
                .unwrap_or(u32::MAX),
            keyring: at(keyring.file),
            audit: audit(document.audit, base)?,
            session_records: session_records(&sessions)?,
            opened_tokens: opened_tokens(&sessions)?,
            redis: sessions.redis.map(|r| redis(r, base)).transpose()?,
            limits: limits(document.limits)?,
            issuer: document
                .web_identity
                .map(|w| issuer(w.issuer))
                .transpose()?,
            reach: Reach {
                private: document
                    .federation
                    .and_then(|f| f.private_addresses)
                    .unwrap_or(false),
                http_on_loopback: false,
            },
            budgets: budgets(&document.budgets),
        })
    }
}

fn listener(section: Listen, has_certificate: bool) -> Result<Listener, ConfigError> {
    const NAMES: &str = "[listen] names";
    let names = match section.names {
        Some(list) if list.is_empty() => return Err(value(NAMES, "must be at least one name")),
        Some(list) => {
            let one = |text: &String| {
                let rule = format!(
                    "`{text}` must be a host name or an IP address, such as `sts.example.com`"
                );
                HostName::parse(text).ok_or_else(|| value(NAMES, rule))
            };
            Names::Listed(HostNames::new(
                list.iter().map(one).collect::<Result<Vec<_>, _>>()?,
            ))
        }
        None if section.address.ip().is_unspecified() && !has_certificate => {
            return Err(value(NAMES, names_are_needed(section.address)));
        }
        None => Names::Derived,
    };
    let network = |text: &String| {
        let rule = format!("`{text}` must be an IP address or a range such as `10.0.0.0/8`");
        Network::parse(text).ok_or_else(|| value("[listen] trusted_proxies", rule))
    };
    let trusted_proxies = section
        .trusted_proxies
        .iter()
        .map(network)
        .collect::<Result<Vec<_>, _>>()?;
    if section.proxy_protocol && trusted_proxies.is_empty() {
        return Err(value(
            "[listen] proxy_protocol",
            "needs trusted_proxies: whose PROXY header is believed",
        ));
    }
    Ok(Listener {
        names,
        trusted_proxies,
        forwarded_header: section.forwarded_header,
        proxy_protocol: section.proxy_protocol,
        cors_origins: section
            .cors_origins
            .iter()
            .map(|o| cors_origin(o))
            .collect::<Result<_, _>>()?,
    })
}

/// What is wrong with a listener whose names nobody knows.
pub fn names_are_needed(address: SocketAddr) -> String {
    format!(
        "is needed: {} is every address of this machine, and no certificate names a host. Name what clients call \
         this broker, for example names = [\"sts.example.com\"]",
        address.ip()
    )
}

/// RFC 6454 section 6.1, as browsers send it.
fn cors_origin(text: &str) -> Result<HeaderValue, ConfigError> {
    let rest = text
        .split_once("://")
        .filter(|(scheme, _)| !scheme.is_empty())
        .map_or("", |(_, rest)| rest);
    let legal = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b"-._:[]+".contains(&b);
    let is_origin =
        !rest.is_empty() && rest.bytes().all(legal) && text.bytes().all(|b| legal(b) || b == b'/');
    HeaderValue::from_str(text).ok().filter(|_| is_origin).ok_or_else(|| {
        let rule =
            format!("`{text}` must be an origin such as `https://app.example.com`, in lower case and without a path");
        value("[listen] cors_origins", rule)
    })
}

/// Actions as AWS names them, with or without `sts:`.
fn presigned_actions(named: Vec<String>) -> Result<Vec<String>, ConfigError> {
    let one = |text: String| {
        let name = text.strip_prefix("sts:").unwrap_or(&text);
        match registry::ACTIONS.iter().any(|(action, _)| *action == name) {
            true => Ok(name.to_owned()),
            false => Err(value(
                "[sts] presigned_actions",
                format!("`{text}` must be an action of STS"),
            )),
        }
    };
    named.into_iter().map(one).collect()
}

/// OpenID Connect Discovery 1.0 section 3: an https URL without query and fragment; the discovery
/// document is right below it.
fn issuer(url: String) -> Result<String, ConfigError> {
    let rest = url.strip_prefix("https://").unwrap_or_default();
    let legal = |b: u8| b.is_ascii_alphanumeric() || b"-._~:/[]".contains(&b);
    if rest.is_empty()
        || rest.starts_with('/')
        || url.ends_with('/')
        || url.len() > 255
        || !rest.bytes().all(legal)
    {
        let rule = "must be `https://HOST` with port and path if need be, without a slash at the end: at most 255 characters";
        return Err(value("[web_identity] issuer", rule));
    }
    Ok(url)
}

/// Zero switches a budget off.
fn budgets(section: &BudgetsSection) -> BudgetLimits {
    let BudgetsSection {
        principal,
        account,
        source,
    } = section;
    let default = BudgetLimits::default();
    let limit = |asked: Option<u32>, default| asked.map_or(default, NonZeroU32::new);
    BudgetLimits {
        principal_calls: limit(principal.calls_per_second, default.principal_calls),
        principal_reads: limit(principal.reads_per_second, default.principal_reads),
        principal_sessions: limit(principal.live_sessions, default.principal_sessions),
        account_calls: limit(account.calls_per_second, default.account_calls),
        account_sessions: limit(account.live_sessions, default.account_sessions),
        unproven_calls: limit(source.unproven_calls_per_second, default.unproven_calls),
    }
}

fn audit(section: Option<AuditSection>, base: &Path) -> Result<Target, ConfigError> {
    match section {
        None => Ok(Target::File {
            path: base.join("audit.jsonl"),
            sync: true,
        }),
        Some(AuditSection {
            file: Some(path),
            stdout: None | Some(false),
            sync,
        }) => Ok(Target::File {
            path: base.join(path),
            sync: sync.unwrap_or(true),
        }),
        Some(AuditSection {
            file: None,
            stdout: Some(true),
            sync: None,
        }) => Ok(Target::Stdout),
        Some(_) => Err(value(
            "[audit]",
            "must have either `file` (and `sync`) or `stdout = true`",
        )),
    }
}

/// Where a store is that a command names: `postgres://…` with its password in a file, or a SQLite file. By
/// the rules of [store].
///
/// # Errors
/// Names the key, and the rule.
pub fn store_at(
    to: &str,
    password_file: Option<&Path>,
    ca_file: Option<&Path>,
) -> Result<Place, ConfigError> {
    let is_url = to.contains("://");
    let section = StoreSection {
        file: (!is_url).then(|| to.into()),
        url: is_url.then(|| to.to_owned()),
        password_file: password_file.map(Path::to_owned),
        ca_file: ca_file.map(Path::to_owned),
        ..StoreSection::default()
    };
    place(&section, Path::new(""))
}

fn place(section: &StoreSection, base: &Path) -> Result<Place, ConfigError> {
    const UNVERIFIED: &str = "[store] unverified_off_loopback";
    let may_be_unverified = said(
        UNVERIFIED,
        section.unverified_off_loopback.as_deref(),
        store::UNVERIFIED_SENTENCE,
    )?;
    match (&section.file, &section.url, &section.password_file) {
        (None, Some(url), password) => {
            let ca = section
                .ca_file
                .as_ref()
                .map(|ca| certificates("[store] ca_file", &base.join(ca)))
                .transpose()?;
            let ca = ca.map(|(path, _)| path);
            let url = store::postgres_url(url, ca.as_deref(), may_be_unverified)
                .map_err(|(key, rule)| ConfigError::Value { key, rule })?;
            let password = password
                .as_ref()
                .map(|p| secret("[store] password_file", &base.join(p)))
                .transpose()?;
            Ok(Place::Postgres { url, password })
        }
        (file, None, None) if section.ca_file.is_none() && !may_be_unverified => Ok(Place::Sqlite(
            base.join(file.clone().unwrap_or_else(|| "store.db".into())),
        )),
        _ => Err(value(
            "[store]",
            "must have either `file`, or `url` (and `password_file`, `ca_file`, `unverified_off_loopback`)",
        )),
    }
}

/// Whether a key that gives protection up was set. It holds a sentence that says what is given up.
fn said(key: &'static str, text: Option<&str>, sentence: &str) -> Result<bool, ConfigError> {
    match text {
        None => Ok(false),
        Some(text) if text == sentence => Ok(true),
        Some(_) => Err(value(
            key,
            format!(
                "must be left out, or be the sentence that says what is given up: \"{sentence}\""
            ),
        )),
    }
}

/// A file with the certificates of CAs: its path, and what it holds.
fn certificates(key: &'static str, path: &Path) -> Result<(PathBuf, Vec<u8>), ConfigError> {
    let bytes = files::read(path, Audience::Everyone, MAX_FILE_BYTES)?
        .expose()
        .clone();
    match CertificateDer::pem_slice_iter(&bytes).collect::<Result<Vec<_>, _>>() {
        Ok(found) if !found.is_empty() => Ok((path.to_owned(), bytes)),
        _ => Err(value(
            key,
            format!("{}: must hold certificates in PEM", path.display()),
        )),
    }
}

/// A secret in a private file, on one line.
fn secret(key: &'static str, path: &Path) -> Result<Secret<String>, ConfigError> {
    let bytes = files::read(path, Audience::Owner, 4_096)?;
    let text = std::str::from_utf8(bytes.expose()).map_err(|_| value(key, "must be UTF-8"))?;
    Ok(Secret::new(text.trim_end().to_owned()))
}

fn redis(section: Redis, base: &Path) -> Result<RedisOptions, ConfigError> {
    const URLS: &str = "[sessions.redis] urls";
    if section.urls.is_empty() || section.urls.len() > 64 {
        return Err(value(URLS, "must be 1 to 64 URLs"));
    }
    let may_be_unverified = said(
        "[sessions.redis] unverified_off_loopback",
        section.unverified_off_loopback.as_deref(),
        sessions::UNVERIFIED_SENTENCE,
    )?;
    let names_others = section.mode.is_some_and(|mode| mode != RedisMode::Single);
    for url in &section.urls {
        sessions::check_redis_url(url, names_others, may_be_unverified)
            .map_err(|rule| value(URLS, rule))?;
    }
    let secure = section
        .urls
        .iter()
        .filter(|u| u.starts_with("rediss://"))
        .count();
    if secure != 0 && secure != section.urls.len() {
        return Err(value(URLS, "must be all `redis://` or all `rediss://`"));
    }
    if secure == 0 && section.ca_file.is_some() {
        return Err(value(
            "[sessions.redis] ca_file",
            "is of no use with `redis://`; TLS is `rediss://`",
        ));
    }
    let mode = match (section.mode.unwrap_or(RedisMode::Single), section.primary) {
        (RedisMode::Single, None) if section.urls.len() == 1 => Mode::Single,
        (RedisMode::Single, None) => {
            return Err(value(URLS, "must be one URL when `mode` is `single`"));
        }
        (RedisMode::Sentinel, Some(primary)) if !primary.is_empty() => Mode::Sentinel { primary },
        (RedisMode::Cluster, None) => Mode::Cluster,
        _ => {
            return Err(value(
                "[sessions.redis] primary",
                "must be the primary's name when `mode` is `sentinel`, and absent otherwise",
            ));
        }
    };
    let password = section
        .password_file
        .map(|p| secret("[sessions.redis] password_file", &base.join(p)))
        .transpose()?;
    let ca = section
        .ca_file
        .map(|p| certificates("[sessions.redis] ca_file", &base.join(p)))
        .transpose()?;
    Ok(RedisOptions {
        mode,
        urls: section.urls,
        username: section.username,
        password,
        ca: ca.map(|(_, pem)| pem),
    })
}

fn session_records(section: &SessionsSection) -> Result<sessions::Bounds, ConfigError> {
    let default = sessions::Bounds::default();
    let mib = ranged(
        "[sessions] records_mib",
        section.records_mib,
        default.max_bytes >> 20,
        1..=65_536,
    )?;
    Ok(sessions::Bounds {
        max_records: ranged(
            "[sessions] max_records",
            section.max_records,
            default.max_records,
            1..=100_000_000,
        )?,
        max_bytes: mib << 20,
    })
}

fn opened_tokens(section: &SessionsSection) -> Result<TokenBounds, ConfigError> {
    let default = TokenBounds::default();
    let mib = ranged(
        "[sessions] opened_tokens_mib",
        section.opened_tokens_mib,
        default.max_bytes >> 20,
        0..=65_536,
    )?;
    Ok(TokenBounds {
        max_tokens: ranged(
            "[sessions] opened_tokens",
            section.opened_tokens,
            default.max_tokens,
            0..=10_000_000,
        )?,
        max_bytes: mib << 20,
    })
}

fn limits(section: Option<LimitsSection>) -> Result<Limits, ConfigError> {
    let Some(section) = section else {
        return Ok(Limits::default());
    };
    let default = Limits::default();
    let seconds = |key, asked, default: Duration, range| {
        ranged(key, asked, default.as_secs(), range).map(Duration::from_secs)
    };
    Ok(Limits {
        connections: ranged(
            "[limits] connections",
            section.connections,
            default.connections,
            1..=1_000_000,
        )?,
        calls: ranged(
            "[limits] calls",
            section.calls,
            default.calls,
            16..=1_000_000,
        )?,
        request_memory_bytes: ranged(
            "[limits] request_memory_mib",
            section.request_memory_mib,
            default.request_memory_bytes >> 20,
            16..=65_536,
        )? << 20,
        streams_per_connection: ranged(
            "[limits] streams_per_connection",
            section.streams_per_connection,
            default.streams_per_connection,
            1..=10_000,
        )?,
        handshake: seconds(
            "[limits] handshake_seconds",
            section.handshake_seconds,
            default.handshake,
            1..=60,
        )?,
        idle: seconds(
            "[limits] idle_seconds",
            section.idle_seconds,
            default.idle,
            1..=3_600,
        )?,
        connection_age: seconds(
            "[limits] connection_age_seconds",
            section.connection_age_seconds,
            default.connection_age,
            1..=86_400,
        )?,
        shutdown_grace: seconds(
            "[limits] shutdown_grace_seconds",
            section.shutdown_grace_seconds,
            default.shutdown_grace,
            0..=300,
        )?,
    })
}

fn ranged<T: PartialOrd + std::fmt::Display + Copy>(
    key: &'static str,
    asked: Option<T>,
    default: T,
    range: std::ops::RangeInclusive<T>,
) -> Result<T, ConfigError> {
    match asked {
        None => Ok(default),
        Some(asked) if range.contains(&asked) => Ok(asked),
        Some(asked) => Err(value(
            key,
            format!("{asked} is not from {} to {}", range.start(), range.end()),
        )),
    }
}

fn value(key: &'static str, rule: impl Into<String>) -> ConfigError {
    ConfigError::Value {
        key,
        rule: rule.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Config, String> {
        let document: Document = toml::from_str(text).map_err(|e| e.to_string())?;
        Config::from_document(document, Path::new("/etc/brevet")).map_err(|e| e.to_string())
    }

    const MINIMAL: &str = "listen.address = \"127.0.0.1:0\"\ndirectory.file = \"d.json\"\nkeyring.file = \"k.json\"\n";

    #[test]
    fn the_complete_example_loads() {
        let config = parse(include_str!("../config/brevet.toml")).unwrap();
        assert_eq!(config.directory, None);
        assert!(
            matches!(config.store, Place::Sqlite(path) if path == Path::new("/etc/brevet/store.db"))
        );
        assert!(parse(MINIMAL).is_ok());
    }

    #[test]
    fn budgets_are_on_and_zero_switches_one_off() {
        assert_eq!(parse(MINIMAL).unwrap().budgets, BudgetLimits::default());
        assert_eq!(
            parse(include_str!("../config/brevet.toml"))
                .unwrap()
                .budgets,
            BudgetLimits::default()
        );
        let text = "budgets.principal = { calls_per_second = 0, live_sessions = 7 }\nbudgets.source.unproven_calls_per_second = 0\n";
        let expected = BudgetLimits {
            principal_calls: None,
            principal_sessions: NonZeroU32::new(7),
            unproven_calls: None,
            ..BudgetLimits::default()
        };
        assert_eq!(
            parse(&(text.to_owned() + MINIMAL)).unwrap().budgets,
            expected
        );
        assert!(parse(&("budgets.account.reads_per_second = 1\n".to_owned() + MINIMAL)).is_err());
    }

    #[test]
    fn cf_01_what_is_wrong_is_named() {
        for (line, named) in [
            ("surprise = 1", "surprise"),
            ("listen.address = \"127.0.0.1:1\"", "duplicate"),
            (
                "sts.skew_seconds = 901",
                "[sts] skew_seconds: 901 is not from 1 to 900",
            ),
            ("sts.skew_seconds = \"9\"", "skew_seconds"),
            ("sts.regions = []", "[sts] regions"),
            ("sts.regions = [\"us-east-1\", \"**\"]", "[sts] regions"),
            (
                "sts.presigned_actions = [\"AssumeRol\"]",
                "[sts] presigned_actions: `AssumeRol`",
            ),
            (
                "sts.presigned_actions = [\"iam:AssumeRole\"]",
                "[sts] presigned_actions",
            ),
            (
                "sts.single_use_signatures = \"on\"",
                "single_use_signatures",
            ),
            ("listen.names = []", "[listen] names"),
            (
                "listen.names = [\"a\", \"https://b\"]",
                "[listen] names: `https://b`",
            ),
            ("listen.names = [\"*\"]", "[listen] names: `*`"),
            (
                "listen.trusted_proxies = [\"10.0.0.0/33\"]",
                "[listen] trusted_proxies: `10.0.0.0/33`",
            ),
            (
                "listen.trusted_proxies = [\"proxy\"]",
                "[listen] trusted_proxies",
            ),
            (
                "listen.proxy_protocol = true",
                "[listen] proxy_protocol: needs trusted_proxies",
            ),
            ("listen.forwarded_header = \"x-real-ip\"", "x-forwarded-for"),
            (
                "listen.cors_origins = [\"*\"]",
                "[listen] cors_origins: `*`",
            ),
            (
                "listen.cors_origins = [\"https://a/\"]",
                "[listen] cors_origins",
            ),
            ("listen.cors_origins = [\"null\"]", "[listen] cors_origins"),
            ("limits.connections = 0", "[limits] connections"),
            (
                "limits.request_memory_mib = 15",
                "[limits] request_memory_mib: 15 is not from 16 to 65536",
            ),
            (
                "limits.calls = 15",
                "[limits] calls: 15 is not from 16 to 1000000",
            ),
            ("sessions.records_mib = 0", "[sessions] records_mib"),
            (
                "sessions.opened_tokens_mib = 65537",
                "[sessions] opened_tokens_mib",
            ),
            (
                "store.refuse_after_seconds = 9",
                "[store] refuse_after_seconds: 9 is not from 10 to 129600",
            ),
            (
                "store = { file = \"a\", url = \"postgres://h/d\" }",
                "[store]",
            ),
            ("store.url = \"postgres://u:secret@h/d\"", "password_file"),
            ("store.url = \"mysql://h/d\"", "postgres://"),
            ("audit = { stdout = true, file = \"a\" }", "[audit]"),
            (
                "sessions.redis = { urls = [\"redis://:secret@h\"] }",
                "password_file",
            ),
            ("sessions.redis = { urls = [\"http://h\"] }", "redis://"),
            (
                "sessions.redis = { urls = [\"rediss://h\"], mode = \"sentinel\" }",
                "primary",
            ),
            (
                "sessions.redis = { urls = [\"redis://h\"], password = \"x\" }",
                "password",
            ),
            (
                "sessions.redis = { urls = [\"redis://localhost\"], ca_file = \"x\" }",
                "[sessions.redis] ca_file: is of no use",
            ),
            (
                "store.unverified_off_loopback = \"yes\"",
                "[store] unverified_off_loopback: must be left out",
            ),
            ("store.ca_file = \"x\"", "[store]: must have either"),
        ] {
            let error = parse(&format!("{MINIMAL}{line}\n")).unwrap_err();
            assert!(error.contains(named), "{line}: {error}");
        }
    }

    #[test]
    fn lines_beyond_this_machine_are_verified_unless_a_sentence_gives_it_up() {
        let url = "store.url = \"postgres://b@db.example.com/b?sslmode=require\"\n";
        let error = parse(&format!("{MINIMAL}{url}")).unwrap_err();
        assert!(
            error.starts_with("[store] url: sslmode=require")
                && error.contains("db.example.com:5432"),
            "{error}"
        );
        let sentence = format!(
            "store.unverified_off_loopback = \"{}\"\n",
            store::UNVERIFIED_SENTENCE
        );
        assert!(parse(&format!("{MINIMAL}{url}{sentence}")).is_ok());
        let default = parse(&format!(
            "{MINIMAL}store.url = \"postgres://b@db.example.com/b\"\n"
        ))
        .unwrap();
        assert!(
            matches!(default.store, Place::Postgres { url, .. } if url.ends_with("?sslmode=verify-full"))
        );
        let redis = "sessions.redis.urls = [\"redis://cache.example.com\"]\n";
        let error = parse(&format!("{MINIMAL}{redis}")).unwrap_err();
        for named in [
            "[sessions.redis] urls",
            "redis://cache.example.com",
            "rediss://",
            "unverified_off_loopback",
        ] {
            assert!(error.contains(named), "{named}: {error}");
        }
        let sentence = format!(
            "sessions.redis.unverified_off_loopback = \"{}\"\n",
            sessions::UNVERIFIED_SENTENCE
        );
        assert!(parse(&format!("{MINIMAL}{redis}{sentence}")).is_ok());
        assert!(
            parse(&format!(
                "{MINIMAL}{}",
                redis.replace("redis://", "rediss://")
            ))
            .is_ok()
        );
    }

    #[test]
    fn an_05_plaintext_off_loopback_needs_words() {
        let off = MINIMAL.replace("127.0.0.1", "0.0.0.0");
        assert!(parse(&off).unwrap_err().contains("plaintext_off_loopback"));
        assert!(parse(&format!("{off}listen.plaintext_off_loopback = \"yes\"\n")).is_err());
        let said = format!("{off}listen.plaintext_off_loopback = \"{PLAINTEXT_SENTENCE}\"\n");
        assert!(parse(&format!("{said}listen.names = [\"sts.example.com\"]\n")).is_ok());
        // Nobody knows then what clients call this broker.
        assert!(
            parse(&said)
                .unwrap_err()
                .starts_with("[listen] names: is needed"),
            "{:?}",
            parse(&said)
        );
        assert!(parse(&said.replace("0.0.0.0", "192.0.2.1")).is_ok());
    }
}
