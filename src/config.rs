//! Reads a TOML file into a checked [`Config`]. Unknown keys are refused, bounds are checked, errors name the
//! key and the rule, and secrets are paths to files. Opens no socket.

mod backends;
mod document;
mod forwarded_header;
mod limits;
mod listener;
mod s3;
mod saml;
mod sign_in;

use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::audit::Target;
use crate::budgets::BudgetLimits;
use crate::federation::providers::Reach;
use crate::federation::saml::ServiceProvider;
use crate::files::{self, Audience, FileError};
use crate::key_ages::KeyAges;
use crate::ops::registry;
use crate::password::block_list::BlockList;
use crate::proof::sigv4::{self, MAX_SKEW};
use crate::s3::DataEvents;
use crate::session::lifted_claims;
use crate::sessions::{self, RedisOptions};
use crate::sign_ins::Settings;
use crate::store::{KEEP_CHANGES, Place};
use crate::tokens::TokenBounds;
use document::{
    AuditSection, DataEventsKey, Document, SingleUseSignatures, StoreSection, StsSection,
};

pub use backends::store_at;
pub use forwarded_header::ForwardedHeader;
pub use limits::Limits;
#[cfg(any(test, feature = "internals"))]
pub use listener::PLAINTEXT_SENTENCE;
pub use listener::{Listener, Names, names_are_needed};
pub use s3::{S3, StoreSettings};

const MAX_FILE_BYTES: u64 = 1 << 20;
const MAX_BLOCK_LIST_BYTES: u64 = 16 << 20;
const DAY: Duration = Duration::from_secs(86_400);

#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The configuration file, or a file that it names, cannot be read.
    #[error(transparent)]
    File(#[from] FileError),
    /// The file is not TOML, or a key is unknown, misplaced, missing or of the wrong type.
    #[error("{path}: {error}")]
    Syntax {
        path: PathBuf,
        /// The error, with line and column.
        error: Box<toml::de::Error>,
    },
    /// A key is missing, or its value breaks a rule.
    #[error("{key}: {rule}")]
    Value {
        /// The section and the key, such as `[listen] address`.
        key: &'static str,
        /// The rule that the value breaks, and what to write instead.
        rule: String,
    },
}

/// The broker's configuration, checked. Relative paths are resolved.
#[derive(Debug)]
pub struct Config {
    /// The address of the service; port 0 takes any free port.
    pub listen: SocketAddr,
    /// The names, proxies and origins that the service accepts.
    pub listener: Listener,
    /// The files with the certificate chain and the private key; without them there is no TLS.
    pub tls: Option<(PathBuf, PathBuf)>,
    /// The file with the CA certificates by which client certificates are verified; without it no client
    /// is asked for one.
    pub client_ca: Option<PathBuf>,
    /// The address of the endpoints for operators: metrics and health checks.
    pub operator: SocketAddr,
    /// The regions that a signature's scope may name; the first is the broker's own.
    pub regions: Vec<String>,
    /// How far the date of a signature may differ from the broker's clock.
    pub skew: Duration,
    /// The STS actions that a presigned URL may call, in addition to GetCallerIdentity.
    pub presigned_actions: Vec<String>,
    /// Whether a signature can be used only once for a call that issues credentials or changes something.
    pub single_use_signatures: bool,
    /// Whether clients may ask the gRPC server for descriptions of its services and messages (server
    /// reflection).
    pub reflection: bool,
    /// The directory file; `None` if the directory is in the store.
    pub directory: Option<PathBuf>,
    /// The file with the master key, which seals the secrets in the directory.
    pub master_key: Option<PathBuf>,
    /// The SQLite file or the PostgreSQL database of the store.
    pub store: Place,
    /// The file in which this node records how far it has read the store, to notice if the store is put back to an
    /// earlier state.
    pub watermark: Option<PathBuf>,
    /// How long a node may be without confirmation that it knows the change feed, from 10 s to 36 h. After that it
    /// accepts nobody.
    pub refuse_after: Duration,
    /// How long a change stays in the feed: 1 to 36,500 days.
    pub keep_changes: Duration,
    /// The file with the keys that seal session tokens and sign web identity tokens.
    pub keyring: PathBuf,
    /// Where audit records are written.
    pub audit: Target,
    /// The bounds of the session records that are kept in memory.
    pub session_records: sessions::Bounds,
    /// The bounds of the cache of opened session tokens.
    pub opened_tokens: TokenBounds,
    /// The Redis in which brokers share session records; `None` if each broker keeps its own in memory.
    pub redis: Option<RedisOptions>,
    /// Bounds on connections, calls and times.
    pub limits: Limits,
    /// The issuer (`iss`) of web identity tokens; `None` if the broker issues none. `{address}` in it is
    /// replaced by the address of the service.
    pub issuer: Option<String>,
    /// Whether object stores may use the API of OpenStack's Keystone.
    pub keystone: bool,
    /// The claims that roles may have at the top level of their tokens.
    pub lifted_claims: Vec<String>,
    /// The service provider for which SAML assertions must be made. `{address}` in it is replaced by the
    /// broker's address.
    pub service_provider: ServiceProvider,
    /// How old and how long unused an access key may become.
    pub key_ages: KeyAges,
    /// The passwords that nobody may choose.
    pub blocked_passwords: Option<BlockList>,
    /// The networks in which the broker may connect to identity providers.
    pub reach: Reach,
    /// How many calls and sessions are allowed to a principal, an account and a source address.
    pub budgets: BudgetLimits,
    /// How people sign in with a browser; `None` if they cannot.
    pub sign_in: Option<Settings>,
    /// Which decisions about object stores are written to the audit log.
    pub data_events: DataEvents,
    /// The listener for proxies in front of object stores, and the stores.
    pub s3: Option<S3>,
}

impl Config {
    /// A configuration with default values, whose files are in `folder`. It has no directory file and no
    /// master key yet.
    pub fn in_folder(folder: &Path, listen: SocketAddr) -> Self {
        Self {
            listen,
            listener: Listener::default(),
            tls: None,
            client_ca: None,
            operator: SocketAddr::new(IpAddr::from([127, 0, 0, 1]), 7481),
            regions: vec!["us-east-1".to_owned()],
            skew: MAX_SKEW,
            presigned_actions: Vec::new(),
            single_use_signatures: false,
            reflection: false,
            directory: None,
            master_key: None,
            store: Place::Sqlite(folder.join("store.db")),
            watermark: Some(folder.join("store.watermark")),
            refuse_after: Duration::from_secs(900),
            keep_changes: KEEP_CHANGES,
            keyring: folder.join("keyring.json"),
            audit: Target::File {
                path: folder.join("audit.jsonl"),
                sync: true,
            },
            session_records: sessions::Bounds::default(),
            opened_tokens: TokenBounds::default(),
            redis: None,
            limits: Limits::default(),
            issuer: None,
            keystone: false,
            lifted_claims: Vec::new(),
            service_provider: ServiceProvider::default(),
            reach: Reach {
                private: false,
                http_on_loopback: false,
            },
            key_ages: KeyAges::OFF,
            blocked_passwords: None,
            budgets: BudgetLimits::default(),
            sign_in: None,
            data_events: DataEvents::default(),
            s3: None,
        }
    }

    /// Reads and checks a configuration file. Relative paths in it start at its own folder.
    ///
    /// # Errors
    /// The file cannot be read, is not TOML, or breaks a rule; see [`ConfigError`].
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
                format!("is missing ({such_as}); `brevet init` makes a complete configuration"),
            )
        };
        let listen = document
            .listen
            .ok_or_else(|| missing("[listen] address", "such as \"127.0.0.1:7480\""))?;
        let keyring = document.keyring.ok_or_else(|| {
            missing(
                "[keyring] file",
                "the file with the keys that seal and sign session tokens",
            )
        })?;
        listener::check_plaintext(&listen, document.tls.is_some())?;
        let mut config = Self::in_folder(base, listen.address);
        config.listener = listener::listener(listen, document.tls.is_some())?;
        config.read_sts(document.sts.unwrap_or_default())?;
        config.master_key = document.directory.master_key.map(at);
        config.directory = document.directory.file.map(at);
        if config.directory.is_none() && config.master_key.is_none() {
            return Err(missing(
                "[directory] master_key",
                "the file with the keys under which the secrets in the store are sealed",
            ));
        }
        let client_ca = document.tls.as_ref().and_then(|t| t.client_ca.clone());
        config.client_ca = client_ca.map(at);
        config.tls = document.tls.map(|t| (at(t.certificate), at(t.private_key)));
        if let Some(operator) = document.operator {
            config.operator = operator.address;
        }
        config.read_store(document.store.unwrap_or_default(), base)?;
        config.keyring = at(keyring.file);
        let data_events = document.audit.as_ref().map(|audit| audit.data_events);
        config.data_events = match data_events.unwrap_or_default() {
            DataEventsKey::All => DataEvents::All,
            DataEventsKey::Refused => DataEvents::Refused,
        };
        config.audit = audit(document.audit, base)?;
        let sessions = document.sessions.unwrap_or_default();
        config.session_records = limits::session_records(&sessions)?;
        config.opened_tokens = limits::opened_tokens(&sessions)?;
        config.redis = sessions
            .redis
            .map(|r| backends::redis(r, base))
            .transpose()?;
        config.limits = limits::limits(document.limits)?;
        config.key_ages = limits::key_ages(&document.credentials)?;
        let blocked = document.credentials.password_block_list.map(at);
        config.blocked_passwords = blocked.map(|path| block_list(&path)).transpose()?;
        if let Some(section) = document.web_identity {
            config.issuer = Some(issuer(section.issuer)?);
            config.lifted_claims = claims(section.claims)?;
        }
        config.keystone = document.keystone.is_some_and(|k| k.enabled);
        let sign_in_url = document.sign_in.as_ref().map(|s| s.public_url.clone());
        let url = config.issuer.as_deref().or(sign_in_url.as_deref());
        config.service_provider = saml::service_provider(document.saml, url, base)?;
        config.reach.private = document
            .federation
            .and_then(|f| f.private_addresses)
            .unwrap_or(false);
        config.budgets = limits::budgets(&document.budgets);
        let has_master_key = config.master_key.is_some();
        config.sign_in = document
            .sign_in
            .map(|section| sign_in::settings(section, has_master_key))
            .transpose()?;
        config.s3 = document
            .s3
            .map(|section| s3::s3(section, base))
            .transpose()?;
        if let Some(settings) = &config.sign_in {
            saml::for_sign_in(&mut config.service_provider, &settings.public_url);
        }
        Ok(config)
    }

    fn read_sts(&mut self, section: StsSection) -> Result<(), ConfigError> {
        if let Some(regions) = section.regions {
            let known = |r: &String| sigv4::is_region(r) || r == sigv4::ANY_REGION;
            if regions.is_empty() || !regions.iter().all(known) {
                let rule = "must be at least one name of lower-case letters, digits and `-`, or `*` for any region";
                return Err(value("[sts] regions", rule));
            }
            self.regions = regions;
        }
        let longest = MAX_SKEW.as_secs();
        let skew = ranged(
            "[sts] skew_seconds",
            section.skew_seconds,
            longest,
            1..=longest,
        )?;
        self.skew = Duration::from_secs(skew);
        self.single_use_signatures =
            section.single_use_signatures == Some(SingleUseSignatures::Issuing);
        self.presigned_actions = presigned_actions(section.presigned_actions.unwrap_or_default())?;
        self.reflection = section.reflection.unwrap_or(false);
        Ok(())
    }

    fn read_store(&mut self, section: StoreSection, base: &Path) -> Result<(), ConfigError> {
        self.store = backends::place(&section, base)?;
        if let Some(watermark) = section.watermark {
            self.watermark = Some(base.join(watermark));
        }
        let refuse_after = ranged(
            "[store] refuse_after_seconds",
            section.refuse_after_seconds,
            self.refuse_after.as_secs(),
            10..=129_600,
        )?;
        self.refuse_after = Duration::from_secs(refuse_after);
        let days = ranged(
            "[store] keep_changes_days",
            section.keep_changes_days,
            30,
            1..=36_500,
        )?;
        self.keep_changes = DAY * u32::try_from(days).unwrap_or(u32::MAX);
        Ok(())
    }
}

/// Reads the list of passwords that nobody may choose.
fn block_list(path: &Path) -> Result<BlockList, ConfigError> {
    const KEY: &str = "[credentials] password_block_list";
    let bytes = files::read(path, Audience::Everyone, MAX_BLOCK_LIST_BYTES)?;
    let text = std::str::from_utf8(bytes.expose()).map_err(|_| value(KEY, "must be UTF-8"))?;
    BlockList::read(text).map_err(|rule| value(KEY, rule))
}

/// Checks names of STS actions, which may begin with `sts:`, and returns them without that prefix.
fn presigned_actions(named: Vec<String>) -> Result<Vec<String>, ConfigError> {
    let one = |text: String| {
        let name = text.strip_prefix("sts:").unwrap_or(&text);
        match registry::ACTIONS.iter().any(|(action, _)| *action == name) {
            true => Ok(name.to_owned()),
            false => Err(value(
                "[sts] presigned_actions",
                format!("`{text}` must be an action of STS, such as AssumeRole"),
            )),
        }
    };
    named.into_iter().map(one).collect()
}

/// Checks an issuer, which is an https URL without query and fragment. The discovery document is below it
/// (OpenID Connect Discovery 1.0 section 3).
fn issuer(url: String) -> Result<String, ConfigError> {
    let rest = url.strip_prefix("https://").unwrap_or_default();
    let legal = |b: u8| b.is_ascii_alphanumeric() || b"-._~:/[]".contains(&b);
    if rest.is_empty()
        || rest.starts_with('/')
        || url.ends_with('/')
        || url.len() > 255
        || !rest.bytes().all(legal)
    {
        let rule = "must be https://HOST, with a port and a path if needed, of ASCII letters, digits and `-._~:/[]`, without a slash \
                    at the end, at most 255 characters";
        return Err(value("[web_identity] issuer", rule));
    }
    Ok(url)
}

/// Checks the names of the claims that roles may have in their tokens.
fn claims(names: Vec<String>) -> Result<Vec<String>, ConfigError> {
    let most = lifted_claims::MAX_CLAIMS;
    if names.len() > most {
        let rule = format!("must have at most {most} names");
        return Err(value("[web_identity] claims", rule));
    }
    match names.iter().find(|name| !lifted_claims::is_allowable(name)) {
        Some(name) => {
            let rule = format!(
                "`{name}` cannot be a claim that a tag sets: a name must have 1 to 64 letters, digits, `_` and `-`, \
                 begin with a letter, and differ from the claims that the broker itself sets, such as `sub`"
            );
            Err(value("[web_identity] claims", rule))
        }
        None => Ok(names),
    }
}

fn audit(section: Option<AuditSection>, base: &Path) -> Result<Target, ConfigError> {
    match section {
        None
        | Some(AuditSection {
            file: None,
            stdout: None | Some(false),
            sync: None,
            data_events: _,
        }) => Ok(Target::File {
            path: base.join("audit.jsonl"),
            sync: true,
        }),
        Some(AuditSection {
            file: Some(path),
            stdout: None | Some(false),
            sync,
            data_events: _,
        }) => Ok(Target::File {
            path: base.join(path),
            sync: sync.unwrap_or(true),
        }),
        Some(AuditSection {
            file: None,
            stdout: Some(true),
            sync: None,
            data_events: _,
        }) => Ok(Target::Stdout),
        Some(_) => Err(value(
            "[audit]",
            "must not combine `stdout = true` with `file` or `sync`, nor have `sync` without `file`",
        )),
    }
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
            format!(
                "must be from {} to {}, but is {asked}",
                range.start(),
                range.end()
            ),
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
    use std::num::NonZeroU32;

    use super::*;
    use crate::store;

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
    fn what_the_example_says_of_object_stores_loads() {
        let example = include_str!("../config/brevet.toml");
        let section = example.split("# [s3]\n").nth(1).unwrap();
        let section = section.split("\n[saml]").next().unwrap();
        let keys = section.lines().filter_map(|line| line.strip_prefix("# "));
        let is_key = |line: &&str| {
            let word = line.split(' ').next().unwrap_or_default();
            let rest = line.strip_prefix(word).unwrap_or_default();
            word.starts_with('[') || (rest.starts_with(" = ") && word.to_lowercase() == word)
        };
        let keys: Vec<&str> = keys.filter(is_key).collect();
        assert_eq!(keys.len(), 23, "{keys:?}");
        let text = format!("{MINIMAL}[s3]\n{}\n", keys.join("\n"));
        let s3 = parse(&text).unwrap().s3.unwrap();
        assert_eq!(s3.stores[0].cors.len(), 1);
        assert_eq!(s3.files().count(), 5);
    }

    #[test]
    fn access_keys_have_no_end_unless_it_is_set() {
        let example = parse(include_str!("../config/brevet.toml")).unwrap();
        assert_eq!(example.key_ages, KeyAges::OFF);
        let text =
            "credentials.access_key_max_age_days = 90\ncredentials.access_key_notice_days = 0\n";
        let expected = KeyAges {
            max_age: Some(90 * DAY),
            notice: Duration::ZERO,
            ..KeyAges::OFF
        };
        assert_eq!(
            parse(&(text.to_owned() + MINIMAL)).unwrap().key_ages,
            expected
        );
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
        let text = "budgets.principal = { calls_per_second = 0, object_requests_per_second = 9, live_sessions = 7 }\nbudgets.source.unproven_calls_per_second = 0\n";
        let expected = BudgetLimits {
            principal_calls: None,
            principal_object_requests: NonZeroU32::new(9),
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
                "[sts] skew_seconds: must be from 1 to 900, but is 901",
            ),
            (
                "credentials.access_key_max_age_days = 0",
                "[credentials] access_key_max_age_days: must be from 1 to 36500, but is 0",
            ),
            (
                "credentials.access_key_notice_days = 366",
                "[credentials] access_key_notice_days: must be from 0 to 365, but is 366",
            ),
            (
                "web_identity = { issuer = \"https://b\", claims = [\"groups\", \"sub\"] }",
                "[web_identity] claims: `sub`",
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
                "[listen] proxy_protocol: requires trusted_proxies",
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
                "[limits] request_memory_mib: must be from 16 to 65536, but is 15",
            ),
            (
                "limits.calls = 15",
                "[limits] calls: must be from 16 to 1000000, but is 15",
            ),
            ("sessions.records_mib = 0", "[sessions] records_mib"),
            (
                "sessions.opened_tokens_mib = 65537",
                "[sessions] opened_tokens_mib",
            ),
            (
                "store.refuse_after_seconds = 9",
                "[store] refuse_after_seconds: must be from 10 to 129600, but is 9",
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
                "[sessions.redis] ca_file: must be left out with `redis://`",
            ),
            (
                "store.unverified_off_loopback = \"yes\"",
                "[store] unverified_off_loopback: must be left out",
            ),
            (
                "store.ca_file = \"x\"",
                "[store]: must not have both `file` and `url`",
            ),
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
                .starts_with("[listen] names: is required"),
            "{:?}",
            parse(&said)
        );
        assert!(parse(&said.replace("0.0.0.0", "192.0.2.1")).is_ok());
    }
}
