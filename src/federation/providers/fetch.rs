//! Asks identity providers with a restricted HTTP client, for discovery documents, key sets and tokens: no redirects,
//! no compression, limits on size and time, and, unless [`Reach`] allows more, only https and only connections to
//! public internet addresses. The address is checked when it is connected to, so that a change in DNS cannot bypass the
//! check.

use std::future::Future;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::header::{ACCEPT, AUTHORIZATION, CONTENT_ENCODING, CONTENT_TYPE};
use http::{HeaderValue, Method, Request, StatusCode, Uri};
use http_body_util::{BodyExt, Full, Limited};
use hyper_rustls::HttpsConnector;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::client::legacy::connect::dns::Name;
use hyper_util::rt::TokioExecutor;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore};

use super::metadata::Metadata;
use crate::directory::OidcProvider;
use crate::proof::jwt::{KeySet, MAX_KEY_SET_BYTES};

/// The time limit for fetching the discovery document and the keys together, and for exchanging a code.
const DEADLINE: Duration = Duration::from_secs(5);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
const MAX_DISCOVERY_BYTES: usize = 65_536;
/// The maximum size in bytes of a token endpoint's answer. An ID token has at most 20,000 characters.
const MAX_TOKEN_ANSWER_BYTES: usize = 131_072;
/// The name that always means this machine, whatever a resolver says: RFC 6761 section 6.3.
const LOCALHOST: &str = "localhost";

/// To what the client may connect, in addition to public addresses over https.
#[derive(Debug, Clone, Copy, Default)]
pub struct Reach {
    /// Whether https to any address is allowed, such as those of private networks and of this machine.
    pub private: bool,
    /// Whether this machine is allowed, by https and by plain http, for development.
    pub http_on_loopback: bool,
}

/// Why a document could not be fetched.
#[derive(Debug, thiserror::Error)]
pub(super) enum FetchError {
    #[error("no answer within 5 seconds")]
    Late,
    #[error("the last request to the provider failed less than 5 seconds ago")]
    FailedLately,
    #[error(
        "`{0}` is not a URL that may be fetched: it must be an https URL with a host, without user and password"
    )]
    Url(String),
    #[error(
        "{0} is not a public internet address; set [federation] private_addresses to allow private addresses"
    )]
    Address(IpAddr),
    #[error("{0}")]
    Connection(String),
    #[error("the provider answered with HTTP status {0}")]
    Status(StatusCode),
    #[error("the provider's answer cannot be used: {0}")]
    Content(&'static str),
    /// The answer ended early, or is longer than this number of bytes.
    #[error("the provider's answer ended early, or is longer than {0} bytes")]
    Body(usize),
    #[error("the CA certificate that is declared for the provider is not valid")]
    PinnedCa,
}

type Http = Client<HttpsConnector<HttpConnector<Guarded>>, Full<Bytes>>;

pub(super) struct Fetcher {
    reach: Reach,
    http: Http,
}

impl Fetcher {
    pub fn new(reach: Reach) -> Result<Self, rustls::Error> {
        let roots = RootCertStore {
            roots: webpki_roots::TLS_SERVER_ROOTS.to_vec(),
        };
        Ok(Self {
            reach,
            http: client(reach, roots)?,
        })
    }

    /// Fetches the keys of a provider from the address in its discovery document.
    pub async fn keys(&self, provider: &OidcProvider) -> Result<KeySet, FetchError> {
        let pinned = self.pinned_of(provider)?;
        let http = pinned.as_ref().unwrap_or(&self.http);
        in_time(async {
            let discovery = self.discovery(http, provider).await?;
            let keys = discovery.get("jwks_uri").and_then(|v| v.as_str());
            let keys = keys.ok_or(FetchError::Content(
                "the discovery document has no `jwks_uri`, or its `jwks_uri` is not a string",
            ))?;
            let keys = self.get(http, keys, MAX_KEY_SET_BYTES).await?;
            KeySet::parse(&keys).map_err(|_| {
                FetchError::Content(
                    "the key set is not a JSON Web Key Set (RFC 7517) of at most 200 keys",
                )
            })
        })
        .await
    }

    /// Fetches the parts of a provider's discovery document that signing people in needs.
    pub async fn metadata(&self, provider: &OidcProvider) -> Result<Metadata, FetchError> {
        let pinned = self.pinned_of(provider)?;
        let http = pinned.as_ref().unwrap_or(&self.http);
        in_time(async {
            let discovery = self.discovery(http, provider).await?;
            let may_redirect_to = |url: &str| self.target(url).is_ok();
            Metadata::read(&discovery, may_redirect_to).map_err(FetchError::Content)
        })
        .await
    }

    /// Posts a form to an endpoint of a provider. Returns the status and the body for every status except a
    /// redirection, which is an error.
    pub async fn post(
        &self,
        provider: &OidcProvider,
        url: &str,
        form: String,
        authorization: Option<HeaderValue>,
    ) -> Result<(StatusCode, Bytes), FetchError> {
        let pinned = self.pinned_of(provider)?;
        let http = pinned.as_ref().unwrap_or(&self.http);
        in_time(async {
            let mut request = Request::post(self.target(url)?)
                .header(ACCEPT, "application/json")
                .header(CONTENT_TYPE, "application/x-www-form-urlencoded")
                .body(Full::new(Bytes::from(form)))
                .map_err(|_| bad_url(url))?;
            if let Some(authorization) = authorization {
                request.headers_mut().insert(AUTHORIZATION, authorization);
            }
            self.send(http, request, MAX_TOKEN_ANSWER_BYTES).await
        })
        .await
    }

    /// Fetches a provider's discovery document, and checks that its `issuer` is the provider's URL.
    async fn discovery(
        &self,
        http: &Http,
        provider: &OidcProvider,
    ) -> Result<serde_json::Value, FetchError> {
        let url = format!(
            "{}/.well-known/openid-configuration",
            provider.url.trim_end_matches('/')
        );
        let discovery = self.get(http, &url, MAX_DISCOVERY_BYTES).await?;
        let discovery: serde_json::Value = serde_json::from_slice(&discovery)
            .map_err(|_| FetchError::Content("the discovery document is not JSON"))?;
        // Discovery 1.0 section 4.3: `issuer` must be exactly the issuer for which the document was
        // requested.
        if discovery.get("issuer").and_then(|v| v.as_str()) != Some(&*provider.url) {
            return Err(FetchError::Content(
                "`issuer` in the discovery document differs from the provider's URL",
            ));
        }
        Ok(discovery)
    }

    /// Makes a client that trusts only the CA of this provider; `None` if the provider has no CA of its
    /// own.
    fn pinned_of(&self, provider: &OidcProvider) -> Result<Option<Http>, FetchError> {
        provider.ca.as_ref().map(|pem| self.pinned(pem)).transpose()
    }

    fn pinned(&self, pem: &[u8]) -> Result<Http, FetchError> {
        let mut roots = RootCertStore::empty();
        for certificate in CertificateDer::pem_slice_iter(pem) {
            let certificate = certificate.map_err(|_| FetchError::PinnedCa)?;
            roots.add(certificate).map_err(|_| FetchError::PinnedCa)?;
        }
        client(self.reach, roots).map_err(|e| FetchError::Connection(e.to_string()))
    }

    async fn get(&self, http: &Http, url: &str, limit: usize) -> Result<Bytes, FetchError> {
        let request = Request::builder()
            .method(Method::GET)
            .uri(self.target(url)?)
            .header(ACCEPT, "application/json")
            .body(Full::default())
            .map_err(|_| bad_url(url))?;
        let (status, body) = self.send(http, request, limit).await?;
        if status != StatusCode::OK {
            return Err(FetchError::Status(status));
        }
        Ok(body)
    }

    /// Checks whether a URL may be requested: its scheme, that it has a host but no user or password, and the address
    /// if the host is an IP address.
    fn target(&self, url: &str) -> Result<Uri, FetchError> {
        let bad = || bad_url(url);
        let uri: Uri = url.parse().map_err(|_| bad())?;
        let authority = uri
            .authority()
            .filter(|a| !a.as_str().contains('@'))
            .ok_or_else(bad)?;
        let host = authority
            .host()
            .trim_start_matches('[')
            .trim_end_matches(']')
            .to_owned();
        // A literal address is not resolved, so it has to be checked here.
        let address = host.parse::<IpAddr>().ok();
        let loopback = host == LOCALHOST || address.is_some_and(|a| a.is_loopback());
        match uri.scheme_str() {
            Some("https") => {}
            Some("http") if loopback && self.reach.http_on_loopback => {}
            _ => return Err(bad()),
        }
        match address.filter(|a| !self.reach.may_go_to(*a)) {
            Some(address) => Err(FetchError::Address(address)),
            None => Ok(uri),
        }
    }

    async fn send(
        &self,
        http: &Http,
        request: Request<Full<Bytes>>,
        limit: usize,
    ) -> Result<(StatusCode, Bytes), FetchError> {
        let response = http
            .request(request)
            .await
            .map_err(|e| FetchError::Connection(causes(&e)))?;
        let status = response.status();
        if status.is_redirection() {
            return Err(FetchError::Status(status));
        }
        if response
            .headers()
            .get(CONTENT_ENCODING)
            .is_some_and(|v| v != "identity")
        {
            return Err(FetchError::Content("the answer is compressed"));
        }
        let body = Limited::new(response.into_body(), limit).collect().await;
        let body = body.map_err(|_| FetchError::Body(limit))?;
        Ok((status, body.to_bytes()))
    }
}

fn bad_url(url: &str) -> FetchError {
    FetchError::Url(url.chars().take(255).collect())
}

/// Runs `work`; the error is that of a timeout if it takes longer than [`DEADLINE`].
async fn in_time<T>(work: impl Future<Output = Result<T, FetchError>>) -> Result<T, FetchError> {
    tokio::time::timeout(DEADLINE, work)
        .await
        .unwrap_or(Err(FetchError::Late))
}

fn client(reach: Reach, roots: RootCertStore) -> Result<Http, rustls::Error> {
    let provider = std::sync::Arc::new(rustls::crypto::ring::default_provider());
    let tls = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth();
    let mut connector = HttpConnector::new_with_resolver(Guarded(reach));
    connector.enforce_http(false);
    connector.set_connect_timeout(Some(CONNECT_TIMEOUT));
    let builder = hyper_rustls::HttpsConnectorBuilder::new().with_tls_config(tls);
    // Whether plain http is allowed is decided for each URL.
    let connector = builder
        .https_or_http()
        .enable_http1()
        .wrap_connector(connector);
    Ok(Client::builder(TokioExecutor::new())
        .pool_max_idle_per_host(0)
        .build(connector))
}

fn causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}

impl Reach {
    fn may_go_to(self, address: IpAddr) -> bool {
        self.private || (self.http_on_loopback && address.is_loopback()) || is_global(address)
    }
}

/// Whether the address may belong to a host on the public internet. An IPv6 address that contains an IPv4 address
/// (IPv4-mapped, 6to4, or NAT64 in 64:ff9b::/96) is judged by that IPv4 address. Returns false for all other addresses
/// that IANA's registries of special-purpose addresses mark as not globally reachable, for multicast addresses, for all
/// of 192.0.0.0/24, 192.88.99.0/24 and 2001::/23, and for IPv6 addresses outside 2000::/3. Returns true for special
/// addresses that are globally reachable, such as 192.175.48.0/24.
fn is_global(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => is_global_v4(v4),
        IpAddr::V6(v6) => is_global_v6(v6),
    }
}

fn is_global_v4(address: Ipv4Addr) -> bool {
    let [a, b, c, _] = address.octets();
    let special = address.is_unspecified()
        || address.is_loopback()
        || address.is_private()
        || address.is_link_local()
        || address.is_broadcast()
        || address.is_multicast()
        || address.is_documentation()
        || a == 0
        || a >= 240
        || (a == 100 && (64..128).contains(&b))
        || (a == 198 && (b == 18 || b == 19))
        || (a, b, c) == (192, 0, 0)
        || (a, b, c) == (192, 88, 99);
    !special
}

fn is_global_v6(address: Ipv6Addr) -> bool {
    let [a, b, c, d, e, f, g, h] = address.segments();
    let inner = |high: u16, low: u16| {
        let ([p, q], [r, s]) = (high.to_be_bytes(), low.to_be_bytes());
        is_global_v4(Ipv4Addr::new(p, q, r, s))
    };
    match (a, b) {
        // IPv6 addresses that contain an IPv4 address: mapped, compatible, NAT64 and 6to4.
        (0, 0) if (c, d, e) == (0, 0, 0) && (f == 0xffff || f == 0) => f == 0xffff && inner(g, h),
        (0x64, 0xff9b) => (c, d, e, f) == (0, 0, 0, 0) && inner(g, h),
        (0x2002, _) => inner(b, c),
        // No identity provider is in the reachable assignments of 2001::/23.
        (0x2001, 0..=0x1ff) | (0x2001, 0xdb8) => false,
        // Documentation (RFC 9637).
        (0x3fff, 0..=0xfff) => false,
        // Global unicast is 2000::/3.
        _ => a & 0xe000 == 0x2000,
    }
}

/// A resolver that returns only addresses to which the client may connect.
#[derive(Clone)]
struct Guarded(Reach);

impl tower_service::Service<Name> for Guarded {
    type Response = std::vec::IntoIter<SocketAddr>;
    type Error = std::io::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, std::io::Error>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), std::io::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, name: Name) -> Self::Future {
        let reach = self.0;
        Box::pin(async move {
            let found: Vec<SocketAddr> =
                tokio::net::lookup_host((name.as_str(), 0)).await?.collect();
            let here = |a: IpAddr| name.as_str() != LOCALHOST || a.is_loopback();
            let allowed: Vec<SocketAddr> = found
                .into_iter()
                .filter(|a| reach.may_go_to(a.ip()) && here(a.ip()))
                .collect();
            if allowed.is_empty() {
                return Err(std::io::Error::other(
                    "the host name has no public internet address; set [federation] private_addresses to allow \
                     private addresses",
                ));
            }
            Ok(allowed.into_iter())
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn oi_04_what_is_not_out_on_the_internet_is_not_gone_to() {
        for inside in [
            "127.0.0.1",
            "127.9.9.9",
            "0.0.0.0",
            "10.1.2.3",
            "172.16.0.1",
            "192.168.1.1",
            "169.254.169.254",
            "100.64.0.1",
            "224.0.0.1",
            "255.255.255.255",
            "240.0.0.1",
            "192.0.2.1",
            "198.18.0.1",
            "::1",
            "::",
            "fe80::1",
            "fc00::1",
            "fd00:ec2::23",
            "ff02::1",
            "::ffff:127.0.0.1",
            "::ffff:169.254.169.254",
            "::127.0.0.1",
            "64:ff9b::a9fe:a9fe",
            "2002:7f00:1::",
            "2001:db8::1",
            "3fff::1",
            "3fff:fff:ffff::1",
            "100::1",
        ] {
            assert!(
                !Reach::default().may_go_to(inside.parse().unwrap()),
                "{inside}"
            );
        }
        for outside in [
            "1.1.1.1",
            "140.82.112.3",
            "2606:4700::1111",
            "3fff:1000::1",
            "::ffff:1.1.1.1",
        ] {
            assert!(
                Reach::default().may_go_to(outside.parse().unwrap()),
                "{outside}"
            );
        }
        let dev = Reach {
            http_on_loopback: true,
            private: false,
        };
        assert!(
            dev.may_go_to("127.0.0.1".parse().unwrap())
                && !dev.may_go_to("10.0.0.1".parse().unwrap())
        );
    }

    #[tokio::test]
    async fn oi_04_urls_that_are_not_gone_to() {
        let fetcher = Fetcher::new(Reach::default()).unwrap();
        for url in [
            "http://example.com/",
            "file:///etc/passwd",
            "https://user@example.com/",
            "https://127.0.0.1/",
            "https://[::1]/",
            "https://169.254.169.254/latest/meta-data",
            "https://localhost/",
            "ftp://example.com/",
            "//example.com/",
            "",
        ] {
            assert!(fetcher.get(&fetcher.http, url, 10).await.is_err(), "{url}");
        }
        // For development, plain http is allowed to this machine, by name or address, and to no
        // other.
        let dev = Fetcher::new(Reach {
            http_on_loopback: true,
            private: false,
        })
        .unwrap();
        for url in [
            "http://localhost:1/",
            "http://127.0.0.1:1/",
            "http://[::1]:1/",
        ] {
            assert!(
                matches!(
                    dev.get(&dev.http, url, 10).await,
                    Err(FetchError::Connection(_))
                ),
                "{url}"
            );
        }
        for url in [
            "http://localhost.example.com/",
            "http://LOCALHOST.example/",
            "http://10.0.0.1/",
            "http://1.1.1.1/",
        ] {
            assert!(
                matches!(dev.get(&dev.http, url, 10).await, Err(FetchError::Url(_))),
                "{url}"
            );
        }
    }
}
