//! `[s3]`: the listener for proxies in front of object stores, and the object stores.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use super::document::{S3CorsSection, S3Section, S3StoreSection, S3Style};
use super::{ConfigError, value};
use crate::base::arn::AccountId;
use crate::base::host_names::HostName;
use crate::base::names::is_bucket;
use crate::proof::sigv4;
use crate::s3::cors::CorsRule;

/// The maximum number of stores. The broker watches the key file of each.
const MAX_STORES: usize = 64;
/// Names that cannot be buckets, because Ceph RGW uses them for its administration and Swift APIs.
const RESERVED: [&str; 3] = ["admin", "auth", "swift"];
/// The maximum number of regions for which gateways may have signing keys.
const MAX_REGIONS: usize = 16;
/// The maximum number of shared secrets: the one in use and its successor.
const MAX_SECRETS: usize = 2;
const DEFAULT_REGION: &str = "us-east-1";

/// The listener for the proxies in front of object stores, and the settings of these stores.
#[derive(Debug, Clone)]
pub struct S3 {
    /// The address of the listener; port 0 takes any free port.
    pub address: SocketAddr,
    /// The files with the listener's certificate chain and private key; without them there is no TLS.
    pub tls: Option<(PathBuf, PathBuf)>,
    /// The file with the CA certificates by which the proxies' certificates are verified. Without it, a proxy must show
    /// one of the secrets.
    pub client_ca: Option<PathBuf>,
    /// The names that a proxy's certificate may have; `None` accepts every certificate of the CA.
    pub client_names: Option<Vec<String>>,
    /// The files with the secrets by which a proxy may authenticate itself instead of by a certificate.
    pub secret_files: Vec<PathBuf>,
    /// The regions for which gateways that check signatures themselves may have signing keys; `None` if there are no
    /// such gateways.
    pub gateway_regions: Option<Vec<String>>,
    pub stores: Vec<StoreSettings>,
}

/// One object store, and how requests to it are recognized and signed.
#[derive(Debug, Clone)]
pub struct StoreSettings {
    /// The store's name in messages and in the audit log.
    pub name: String,
    /// The hosts by which clients call the proxy in front of the store. With virtual hosts, a bucket's name and a
    /// dot come before them.
    pub hosts: Vec<String>,
    /// The store's host and port, as its clients write them into `Host`; requests are signed for it.
    pub authority: String,
    /// The region of the signatures that the store accepts.
    pub region: String,
    /// The file with the access key by which requests to the store are signed.
    pub key_file: PathBuf,
    /// Whether the bucket is the first label of the host and not the first segment of the path.
    pub virtual_host: bool,
    /// Whether the store keeps `//` and backslashes in keys. If it does not, keys with empty segments, backslashes or
    /// segments that such stores reserve for their own data are refused.
    pub keeps_slashes: bool,
    /// Whether the store decodes `aws-chunked` bodies with a trailing checksum.
    pub takes_trailers: bool,
    /// Whether requests are also signed for clients that call the store directly, without the proxy.
    pub remote_signing: bool,
    /// The account that owns each bucket. Requests for other buckets are refused.
    pub buckets: BTreeMap<String, AccountId>,
    /// The CORS rules of the buckets: what web pages of other origins may do.
    pub cors: Vec<CorsRule>,
}

/// Checks the section `[s3]`. Relative paths in it start at `base`.
///
/// # Errors
/// [`ConfigError::Value`] with the first key that breaks a rule.
pub(super) fn s3(section: S3Section, base: &Path) -> Result<S3, ConfigError> {
    let at = |path: PathBuf| base.join(path);
    let tls = match (section.certificate, section.private_key) {
        (Some(certificate), Some(key)) => Some((at(certificate), at(key))),
        (None, None) => None,
        _ => {
            let rule = "must be set together, or both be left out";
            return Err(value("[s3] certificate and private_key", rule));
        }
    };
    if tls.is_none() && !section.address.ip().is_loopback() {
        let rule = format!(
            "{} is not a loopback address, so TLS is required, because the answers contain signatures that the object \
             store accepts: set certificate and private_key",
            section.address
        );
        return Err(value("[s3] address", rule));
    }
    if section.client_ca.is_some() && tls.is_none() {
        let rule = "requires TLS: set certificate and private_key";
        return Err(value("[s3] client_ca", rule));
    }
    if section.client_ca.is_none() && section.secret_files.is_empty() {
        let rule = "must have client_ca, secret_files or both, so that only your proxies can call this listener";
        return Err(value("[s3]", rule));
    }
    if section.client_names.is_some() && section.client_ca.is_none() {
        let rule = "requires client_ca, the CA with which the broker verifies client certificates";
        return Err(value("[s3] client_names", rule));
    }
    if section.client_names.as_ref().is_some_and(Vec::is_empty) {
        let rule = "must have at least one name, or be left out";
        return Err(value("[s3] client_names", rule));
    }
    if section.secret_files.len() > MAX_SECRETS {
        let rule =
            "must be at most two files: one for the secret in use, and one for the next secret";
        return Err(value("[s3] secret_files", rule));
    }
    if let Some(regions) = &section.gateway_regions {
        if section.client_ca.is_none() {
            let rule =
                "requires client_ca: a gateway that gets signing keys must show a certificate";
            return Err(value("[s3] gateway_regions", rule));
        }
        let are_few = (1..=MAX_REGIONS).contains(&regions.len());
        if !are_few || !regions.iter().all(|region| sigv4::is_region(region)) {
            let rule = format!(
                "must be 1 to {MAX_REGIONS} names of 1 to 64 lower-case letters, digits and `-`, such as `us-east-1`"
            );
            return Err(value("[s3] gateway_regions", rule));
        }
    }
    let needs_stores = section.gateway_regions.is_none();
    let stores = stores(section.stores, base, needs_stores)?;
    let mut regions = section.gateway_regions.iter().flatten();
    let is_shared = |region: &&String| stores.iter().any(|store| store.region == **region);
    if let Some(region) = regions.find(is_shared) {
        let rule = format!(
            "`{region}` is the region of one of the [[s3.stores]]: with its signing keys, a gateway could sign \
             requests to this store; give the store or the gateway another region"
        );
        return Err(value("[s3] gateway_regions", rule));
    }
    let s3 = S3 {
        address: section.address,
        tls,
        client_ca: section.client_ca.map(at),
        client_names: section.client_names,
        secret_files: section.secret_files.into_iter().map(at).collect(),
        gateway_regions: section.gateway_regions,
        stores,
    };
    Ok(s3)
}

fn stores(
    sections: Vec<S3StoreSection>,
    base: &Path,
    are_needed: bool,
) -> Result<Vec<StoreSettings>, ConfigError> {
    if !(usize::from(are_needed)..=MAX_STORES).contains(&sections.len()) {
        let rule = format!(
            "must be 1 to {MAX_STORES} tables [[s3.stores]], or none if gateway_regions is set"
        );
        return Err(value("[s3] stores", rule));
    }
    let mut all: Vec<StoreSettings> = Vec::with_capacity(sections.len());
    for section in sections {
        let store = store(section, base)?;
        if all.iter().any(|other| other.name == store.name) {
            let rule = format!("`{}` is the name of two stores", store.name);
            return Err(value("[[s3.stores]] name", rule));
        }
        for other in &all {
            if let Some(host) = store.hosts.iter().find(|host| other.hosts.contains(host)) {
                let rule = format!(
                    "`{host}` is a host of two stores, but each host may belong to one store only"
                );
                return Err(value("[[s3.stores]] hosts", rule));
            }
            // Policies name a bucket without its store.
            let twice = |bucket: &&String| other.buckets.contains_key(*bucket);
            if let Some(bucket) = store.buckets.keys().find(twice) {
                let rule = format!(
                    "`{bucket}` is a bucket of two stores; policies name a bucket without its store, so each name may \
                     occur once"
                );
                return Err(value("[[s3.stores]] buckets", rule));
            }
        }
        all.push(store);
    }
    Ok(all)
}

fn store(section: S3StoreSection, base: &Path) -> Result<StoreSettings, ConfigError> {
    let is_name = |text: &str| {
        let legal = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
        (1..=64).contains(&text.len()) && text.bytes().all(legal)
    };
    if !is_name(&section.name) {
        let rule = format!(
            "`{}` must be 1 to 64 lower-case letters, digits or `-`",
            section.name
        );
        return Err(value("[[s3.stores]] name", rule));
    }
    if section.hosts.is_empty() {
        let rule = "must have at least one host by which clients call the proxy of the store";
        return Err(value("[[s3.stores]] hosts", rule));
    }
    let host = |text: &String| match HostName::parse(text) {
        Some(HostName::AnyLabel(_)) | None => {
            let rule =
                format!("`{text}` must be a host name or an IP address, such as `s3.example.com`");
            Err(value("[[s3.stores]] hosts", rule))
        }
        Some(HostName::Address(_)) if section.style == S3Style::VirtualHost => {
            let rule = format!(
                "`{text}` is an IP address, but the bucket's name must come before a host name (BUCKET.HOST): use a \
                 host name, or set style = \"path\""
            );
            Err(value("[[s3.stores]] hosts", rule))
        }
        Some(host) => Ok(host.to_string()),
    };
    let hosts = section.hosts.iter().map(host).collect::<Result<_, _>>()?;
    let region = section.region.unwrap_or_else(|| DEFAULT_REGION.to_owned());
    if !sigv4::is_region(&region) {
        let rule = format!("`{region}` must be 1 to 64 lower-case letters, digits and `-`");
        return Err(value("[[s3.stores]] region", rule));
    }
    Ok(StoreSettings {
        authority: authority(&section.endpoint)?,
        hosts,
        region,
        key_file: base.join(section.key_file),
        virtual_host: section.style == S3Style::VirtualHost,
        keeps_slashes: section.keeps_slashes,
        takes_trailers: section.takes_trailers,
        remote_signing: section.remote_signing,
        buckets: buckets(section.buckets)?,
        cors: section
            .cors
            .into_iter()
            .map(cors)
            .collect::<Result<_, _>>()?,
        name: section.name,
    })
}

/// The host and port of an endpoint as HTTP clients send them, without a port that is the default of the scheme.
fn authority(endpoint: &str) -> Result<String, ConfigError> {
    let wrong = || {
        let rule = format!(
            "`{endpoint}` must be http://HOST or https://HOST, with a port if needed and without a path"
        );
        value("[[s3.stores]] endpoint", rule)
    };
    let (rest, own_port) = match endpoint.split_once("://") {
        Some(("http", rest)) => (rest, ":80"),
        Some(("https", rest)) => (rest, ":443"),
        _ => return Err(wrong()),
    };
    let rest = rest.strip_suffix('/').unwrap_or(rest);
    let rest = rest.strip_suffix(own_port).unwrap_or(rest);
    let parsed: http::uri::Authority = rest.parse().map_err(|_| wrong())?;
    if rest.contains('@') || HostName::parse(parsed.host()).is_none() {
        return Err(wrong());
    }
    Ok(rest.to_ascii_lowercase())
}

fn buckets(named: BTreeMap<String, String>) -> Result<BTreeMap<String, AccountId>, ConfigError> {
    if named.is_empty() {
        let rule =
            "must name at least one bucket and its account: buckets = { data = \"111122223333\" }";
        return Err(value("[[s3.stores]] buckets", rule));
    }
    let one = |(bucket, account): (String, String)| {
        let rule = if RESERVED.contains(&bucket.as_str()) {
            format!(
                "`{bucket}` cannot be the name of a bucket: object stores serve another API below the path `/{bucket}`"
            )
        } else if !is_bucket(&bucket) {
            format!(
                "`{bucket}` must be the name of a bucket: 3 to 63 lower-case letters, digits, `-` or `.`, with a letter or \
                 digit at both ends, without `..`, and not an IPv4 address"
            )
        } else if let Some(account) = AccountId::parse(&account) {
            return Ok((bucket, account));
        } else {
            format!(
                "the value of `{bucket}` must be the 12 digits of the account that owns the bucket"
            )
        };
        Err(value("[[s3.stores]] buckets", rule))
    };
    named.into_iter().map(one).collect()
}

fn cors(section: S3CorsSection) -> Result<CorsRule, ConfigError> {
    const METHODS: [&str; 5] = ["GET", "PUT", "HEAD", "POST", "DELETE"];
    let is_pattern = |text: &String| {
        let count = text.bytes().filter(|b| *b == b'*').count();
        !text.is_empty() && count <= 1 && text.bytes().all(|b| b.is_ascii_graphic())
    };
    let origins = &section.allowed_origins;
    if origins.is_empty() || !origins.iter().all(is_pattern) {
        let rule = "must be one or more origins such as `https://app.example.com`, with at most one `*` in each";
        return Err(value("[[s3.stores.cors]] allowed_origins", rule));
    }
    let methods = &section.allowed_methods;
    if methods.is_empty() || !methods.iter().all(|m| METHODS.contains(&m.as_str())) {
        let rule = format!("must be one or more of {}", METHODS.join(", "));
        return Err(value("[[s3.stores.cors]] allowed_methods", rule));
    }
    if !section.allowed_headers.iter().all(is_pattern) {
        let rule = "must be names of headers, with at most one `*` in each";
        return Err(value("[[s3.stores.cors]] allowed_headers", rule));
    }
    Ok(CorsRule {
        allowed_origins: section.allowed_origins,
        allowed_methods: section.allowed_methods,
        allowed_headers: section.allowed_headers,
        max_age_seconds: section.max_age_seconds,
    })
}

impl S3 {
    /// The files of this section that are watched for changes.
    pub fn files(&self) -> impl Iterator<Item = &Path> {
        let tls = self
            .tls
            .iter()
            .flat_map(|(certificate, key)| [certificate, key]);
        let keys = self.stores.iter().map(|store| &store.key_file);
        let files = tls.chain(&self.client_ca).chain(&self.secret_files);
        files.chain(keys).map(PathBuf::as_path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LISTENER: &str = "address = \"127.0.0.1:0\"\nsecret_files = [\"proxy.secret\"]\n";
    const STORE: &str = "[[stores]]\nname = \"main\"\nhosts = [\"s3.example.com\"]\nendpoint = \"http://10.0.0.5:8333\"\n\
        key_file = \"main.key\"\nbuckets = { data = \"111122223333\" }\n";

    fn read(text: &str) -> Result<S3, String> {
        let section: S3Section = toml::from_str(text).map_err(|e| e.to_string())?;
        s3(section, Path::new("/etc/brevet")).map_err(|e| e.to_string())
    }

    #[test]
    fn a_store_needs_little() {
        let made = read(&[LISTENER, STORE].concat()).unwrap();
        let store = &made.stores[0];
        assert_eq!(store.authority, "10.0.0.5:8333");
        assert_eq!(store.region, "us-east-1");
        assert_eq!(store.key_file, Path::new("/etc/brevet/main.key"));
        assert!(!store.virtual_host && !store.keeps_slashes && !store.takes_trailers);
        assert!(!store.remote_signing);
        assert_eq!(store.buckets["data"].as_str(), "111122223333");
        assert!(made.tls.is_none() && made.client_ca.is_none());
    }

    #[test]
    fn an_endpoint_is_signed_as_clients_write_it() {
        for (endpoint, expected) in [
            ("http://store", Some("store")),
            ("http://store:80/", Some("store")),
            ("https://store:443", Some("store")),
            ("https://store:80", Some("store:80")),
            ("http://[::1]:9000", Some("[::1]:9000")),
            ("https://S3.Example.com", Some("s3.example.com")),
            ("store:9000", None),
            ("http://user@store", None),
            ("http://store/path", None),
            ("ftp://store", None),
            ("http://", None),
        ] {
            assert_eq!(authority(endpoint).ok().as_deref(), expected, "{endpoint}");
        }
    }

    #[test]
    fn cf_01_what_is_wrong_with_stores_is_named() {
        let whole = [LISTENER, STORE].concat();
        // Gateways need no store here.
        let gateways = "address = \"127.0.0.1:0\"\ncertificate = \"c\"\nprivate_key = \"k\"\nclient_ca = \"ca\"\ngateway_regions = [\"eu-central-1\"]\n";
        let made = read(gateways).unwrap();
        assert!(made.stores.is_empty() && made.gateway_regions.unwrap() == ["eu-central-1"]);
        let second = STORE.replace("main", "second").replace("s3.", "s4.");
        for (text, named) in [
            (LISTENER.to_owned(), "[s3] stores: must be 1 to 64"),
            (
                whole.replace("127.0.0.1:0", "0.0.0.0:7482"),
                "[s3] address: 0.0.0.0:7482 is not a loopback address, so TLS is required",
            ),
            (
                whole.replace("secret_files = [\"proxy.secret\"]", ""),
                "[s3]: must have client_ca, secret_files or both",
            ),
            (
                whole.replace("secret_files", "client_ca = \"ca\"\nsecret_files"),
                "[s3] client_ca: requires TLS",
            ),
            (
                whole.replace("secret_files", "client_names = [\"CN=x\"]\nsecret_files"),
                "[s3] client_names: requires client_ca",
            ),
            (
                whole.replace("secret_files", "certificate = \"x\"\nsecret_files"),
                "[s3] certificate and private_key: must be set together",
            ),
            (
                whole.replace("\"proxy.secret\"", "\"a\", \"b\", \"c\""),
                "[s3] secret_files",
            ),
            (
                whole.replace(
                    "secret_files",
                    "gateway_regions = [\"us-east-1\"]\nsecret_files",
                ),
                "[s3] gateway_regions: requires client_ca",
            ),
            (
                whole
                    .replace("secret_files", "certificate = \"c\"\nprivate_key = \"k\"\nclient_ca = \"ca\"\ngateway_regions = [\"us-east-1\"]\nsecret_files"),
                "[s3] gateway_regions: `us-east-1` is the region of one",
            ),
            (
                gateways.replace("\"eu-central-1\"", "\"*\""),
                "[s3] gateway_regions: must be 1 to 16",
            ),
            (
                gateways.replace("\"eu-central-1\"", ""),
                "[s3] gateway_regions: must be 1 to 16",
            ),
            (
                whole.replace("\"main\"", "\"Main\""),
                "[[s3.stores]] name: `Main`",
            ),
            (
                whole.replace("s3.example.com", "s3 example"),
                "[[s3.stores]] hosts: `s3 example`",
            ),
            (
                whole.replace("s3.example.com", "*.example.com"),
                "[[s3.stores]] hosts",
            ),
            (
                whole
                    .replace("s3.example.com", "10.0.0.1")
                    .replace("key_file", "style = \"virtual-host\"\nkey_file"),
                "[[s3.stores]] hosts: `10.0.0.1` is an IP address",
            ),
            (whole.replace("http://10", "10"), "[[s3.stores]] endpoint"),
            (
                whole.replace("key_file", "region = \"Mars\"\nkey_file"),
                "[[s3.stores]] region: `Mars`",
            ),
            (
                whole.replace("data =", "Data ="),
                "[[s3.stores]] buckets: `Data`",
            ),
            (
                whole.replace("data =", "admin ="),
                "[[s3.stores]] buckets: `admin` cannot be the name of a bucket",
            ),
            (
                whole.replace("111122223333", "1"),
                "[[s3.stores]] buckets: the value of `data`",
            ),
            (
                whole.replace("data = \"111122223333\"", ""),
                "[[s3.stores]] buckets: must name at least one",
            ),
            (
                whole.replace("key_file", "style = \"host\"\nkey_file"),
                "virtual-host",
            ),
            (
                whole.replace("key_file", "keyfile = \"x\"\nkey_file"),
                "keyfile",
            ),
            ([&whole, STORE].concat(), "`main` is the name of two stores"),
            (
                format!("{whole}{second}"),
                "[[s3.stores]] buckets: `data` is a bucket of two stores",
            ),
            (
                whole.clone() + &second.replace("s4.", "s3.").replace("data", "other"),
                "[[s3.stores]] hosts: `s3.example.com` is a host of two stores",
            ),
            (
                format!(
                    "{whole}[[stores.cors]]\nallowed_origins = []\nallowed_methods = [\"GET\"]\n"
                ),
                "[[s3.stores.cors]] allowed_origins",
            ),
            (
                format!(
                    "{whole}[[stores.cors]]\nallowed_origins = [\"*\"]\nallowed_methods = [\"PATCH\"]\n"
                ),
                "[[s3.stores.cors]] allowed_methods",
            ),
        ] {
            let error = read(&text).unwrap_err();
            assert!(error.contains(named), "{named}: {error}");
        }
    }
}
