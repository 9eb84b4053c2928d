//! Client certificates: whose they are, and when they are refused.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use brevet::base::clock::Clock;
use brevet::base::secret::Secret;
use brevet::client::{Client, ClientError, Endpoint};
use http::HeaderMap;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    SanType,
};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;

use crate::harness::*;

const ACCOUNT: &str = "111122223333";
const SPIFFE_ID: &str = "spiffe://example.org/node/a";

fn arn(name: &str) -> String {
    format!("arn:aws:iam::{ACCOUNT}:user/{name}")
}

/// A CA, and what it certifies.
pub struct Ca {
    params: CertificateParams,
    key: KeyPair,
}

/// A certificate and its private key, both in PEM.
pub struct Certified {
    pub certificate: String,
    pub key: String,
}

impl Ca {
    pub fn new() -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        Self {
            params,
            key: KeyPair::generate().unwrap(),
        }
    }

    pub fn pem(&self) -> String {
        self.params.self_signed(&self.key).unwrap().pem()
    }

    pub fn sign(&self, params: &CertificateParams) -> Certified {
        let key = KeyPair::generate().unwrap();
        let issuer = Issuer::from_params(&self.params, &self.key);
        Certified {
            certificate: params.signed_by(&key, &issuer).unwrap().pem(),
            key: key.serialize_pem(),
        }
    }

    fn node(&self, id: &str) -> Certified {
        self.sign(&spiffe(id))
    }
}

fn spiffe(id: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params
        .subject_alt_names
        .push(SanType::URI(id.try_into().unwrap()));
    params
}

pub fn named(common_name: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = rcgen::DistinguishedName::new();
    let names = &mut params.distinguished_name;
    names.push(DnType::OrganizationName, "Example Inc");
    names.push(DnType::CommonName, common_name);
    params
}

fn directory(status: &str) -> Value {
    let user = |name: &str| json!({"UserName": name, "Arn": arn(name), "UserId": format!("AIDA{:0>16}", name.to_ascii_uppercase())});
    json!({"UserDetailList": [user("nodea"), user("nodeb")], "Brevet": {"Certificates": [
        {"SpiffeId": SPIFFE_ID, "UserArn": arn("nodea"), "Status": status},
        {"Subject": "CN=node-b,O=Example Inc", "UserArn": arn("nodeb")}]}})
}

fn write(dir: &Path, name: &str, text: &str) {
    brevet::files::write_private(&dir.join(name), text.as_bytes()).unwrap();
}

/// A broker with a certificate for `localhost` that trusts the clients of a CA, and its own CA in PEM.
async fn broker_for(clients: &Ca) -> (Broker, String) {
    let (dir, own) = (home(), Ca::new());
    let server = own.sign(&CertificateParams::new(vec!["localhost".to_owned()]).unwrap());
    write(dir.path(), "tls.crt", &server.certificate);
    write(dir.path(), "tls.key", &server.key);
    write(dir.path(), "clients.crt", &clients.pem());
    write(
        dir.path(),
        "directory.json",
        &directory("Active").to_string(),
    );
    let path = dir.path().to_owned();
    let broker = Broker::start_in(dir, |c| {
        c.tls = Some((path.join("tls.crt"), path.join("tls.key")));
        c.client_ca = Some(path.join("clients.crt"));
    })
    .await;
    (broker, own.pem())
}

fn endpoint(broker: &Broker, ca: &str) -> Endpoint {
    Endpoint {
        url: format!("https://localhost:{}", broker.address.port()),
        region: "us-east-1".into(),
        ca_pem: Some(ca.to_owned()),
    }
}

fn client(broker: &Broker, ca: &str, shown: &Certified) -> Client {
    let key = Secret::new(shown.key.clone());
    let endpoint = endpoint(broker, ca);
    Client::with_certificate(&endpoint, &shown.certificate, &key, broker.clock.clone()).unwrap()
}

/// The ARN of the caller, the code of the refusal, or `handshake` if the connection was refused.
async fn who(client: &Client) -> String {
    match client.get_caller_identity().await {
        Ok(who) => who.arn,
        Err(ClientError::Unreachable { .. }) => "handshake".to_owned(),
        Err(error) => code(&error),
    }
}

#[tokio::test]
async fn an_06_a_certificate_is_the_user_whom_the_directory_names_and_nobody_else() {
    let ca = Ca::new();
    let (broker, server) = broker_for(&ca).await;
    let ask = async |shown: &Certified| who(&client(&broker, &server, shown)).await;
    let good = ca.node(SPIFFE_ID);
    assert_eq!(ask(&good).await, arn("nodea"));
    assert_eq!(ask(&ca.sign(&named("node-b"))).await, arn("nodeb"));
    // Names are compared exactly, and a SPIFFE ID counts and not the subject beside it.
    let mut both = spiffe("spiffe://example.org/node/b");
    both.distinguished_name = named("node-b").distinguished_name;
    let mut two = spiffe(SPIFFE_ID);
    two.subject_alt_names.push(SanType::URI(
        "spiffe://example.org/node/b".try_into().unwrap(),
    ));
    for params in [
        spiffe("spiffe://example.org/node/a/"),
        spiffe("spiffe://example.org/node/A"),
        spiffe("spiffe://example.org/node"),
        named("node-b "),
        named("node-c,O=Example Inc"),
        both,
    ] {
        assert_eq!(ask(&ca.sign(&params)).await, "InvalidClientTokenId");
    }
    // A certificate that is ambiguous is none.
    assert_eq!(ask(&ca.sign(&two)).await, "MissingAuthenticationToken");
    let anonymous = Client::anonymous(&endpoint(&broker, &server), false).unwrap();
    assert_eq!(who(&anonymous).await, "MissingAuthenticationToken");
    // The key must be the certificate's, and the CA the trusted one, whatever its name is.
    assert_eq!(ask(&Ca::new().node(SPIFFE_ID)).await, "handshake");
    let audit = broker.into_audit().await;
    let first = audit
        .iter()
        .find(|record| record["eventName"] == "GetCallerIdentity");
    let identity = &first.unwrap()["userIdentity"];
    assert_eq!(
        (&identity["accessKeyId"], &identity["type"]),
        (&json!(SPIFFE_ID), &json!("IAMUser"))
    );
}

#[tokio::test]
async fn an_06_only_a_ca_makes_certificates_and_each_is_good_for_its_use() {
    let ca = Ca::new();
    let (broker, server) = broker_for(&ca).await;
    let ask = async |shown: &Certified| who(&client(&broker, &server, shown)).await;
    let using = |usage: ExtendedKeyUsagePurpose| {
        let mut params = spiffe(SPIFFE_ID);
        params.extended_key_usages = vec![usage];
        ca.sign(&params)
    };
    assert_eq!(
        ask(&using(ExtendedKeyUsagePurpose::ClientAuth)).await,
        arn("nodea")
    );
    assert_eq!(
        ask(&using(ExtendedKeyUsagePurpose::ServerAuth)).await,
        "handshake"
    );
    let mut later = spiffe(SPIFFE_ID);
    later.not_before = rcgen::date_time_ymd(4000, 1, 1);
    assert_eq!(ask(&ca.sign(&later)).await, "handshake");
    // A node whose certificate is good makes one for another node, and shows its own as the CA of that.
    let made_by = |params: CertificateParams| {
        let own = KeyPair::generate().unwrap();
        let issuer = Issuer::from_params(&ca.params, &ca.key);
        let certificate = params.signed_by(&own, &issuer).unwrap().pem();
        let made = Ca { params, key: own }.node(SPIFFE_ID);
        Certified {
            certificate: made.certificate + &certificate,
            key: made.key,
        }
    };
    assert_eq!(ask(&made_by(named("node-b"))).await, "handshake");
    let mut intermediate = named("intermediate");
    intermediate.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    assert_eq!(ask(&made_by(intermediate)).await, arn("nodea"));
    // The CA itself is nobody, even if it has the name of a node.
    let mut params = spiffe(SPIFFE_ID);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let as_ca = ca.sign(&params);
    assert_eq!(ask(&as_ca).await, "handshake");
}

#[tokio::test]
async fn an_06_a_call_that_was_signed_is_good_for_its_method_and_its_time_alone() {
    let broker = Broker::start().await;
    let path = |method: &str| format!("/{}/{method}", brevet::api::SERVICE);
    let ask = async |signed_for: &str, sent_to: &str, late: u64| {
        let mut headers = HeaderMap::new();
        let at = broker.clock.now();
        broker.sign_at(at, &path(signed_for), &user("alice"), &mut headers, b"");
        broker.clock.advance(Duration::from_secs(late));
        grpc(broker.address, &path(sent_to), headers, frame(b""))
            .await
            .status
    };
    let (own, other) = ("GetCallerIdentity", "AssumeRoleForWorkload");
    assert_eq!(ask(own, own, 0).await, 0);
    assert_eq!(ask(own, other, 0).await, 16);
    assert_eq!(ask(own, own, 16 * 60).await, 16);
    let relying = format!("/{}/WatchRevocations", brevet::api::RELYING);
    let mut headers = HeaderMap::new();
    broker.sign(&path(own), &user("alice"), &mut headers, b"");
    let replayed = grpc(broker.address, &relying, headers, frame(b"")).await;
    assert_eq!(replayed.status, 16);
    for nothing in [path(other), relying] {
        let answer = grpc(broker.address, &nothing, HeaderMap::new(), frame(b"")).await;
        assert_eq!(answer.status, 16, "{nothing}");
    }
}

#[tokio::test]
async fn an_06_a_certificate_counts_on_grpc_alone() {
    let ca = Ca::new();
    let (broker, server) = broker_for(&ca).await;
    let shown = ca.node(SPIFFE_ID);
    assert_eq!(who(&client(&broker, &server, &shown)).await, arn("nodea"));
    let answer = by_query(&broker, &server, &shown).await;
    assert!(answer.contains("MissingAuthenticationToken"), "{answer}");
}

/// Completes a TLS handshake as a client that trusts the CA `ca`, and shows a certificate or none. Offers `protocols`
/// (ALPN).
pub async fn over_tls(
    stream: TcpStream,
    ca: &str,
    shown: Option<&Certified>,
    protocols: &[&[u8]],
) -> std::io::Result<TlsStream<TcpStream>> {
    let mut roots = rustls::RootCertStore::empty();
    roots
        .add(CertificateDer::from_pem_slice(ca.as_bytes()).unwrap())
        .unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots);
    let mut config = match shown {
        None => config.with_no_client_auth(),
        Some(shown) => {
            let chain = CertificateDer::from_pem_slice(shown.certificate.as_bytes()).unwrap();
            let key = PrivateKeyDer::from_pem_slice(shown.key.as_bytes()).unwrap();
            config.with_client_auth_cert(vec![chain], key).unwrap()
        }
    };
    config.alpn_protocols = protocols.iter().map(|name| name.to_vec()).collect();
    let name = ServerName::try_from("localhost").unwrap();
    let connector = tokio_rustls::TlsConnector::from(Arc::new(config));
    connector.connect(name, stream).await
}

/// Calls GetCallerIdentity by the Query protocol over a connection with a certificate.
async fn by_query(broker: &Broker, ca: &str, shown: &Certified) -> String {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let stream = TcpStream::connect(broker.address).await.unwrap();
    let mut stream = over_tls(stream, ca, Some(shown), &[]).await.unwrap();
    let body = encode(WHO);
    let request = format!(
        "POST / HTTP/1.1\r\nhost: localhost:{}\r\nconnection: close\r\ncontent-type: application/x-www-form-urlencoded\r\ncontent-length: {}\r\n\r\n{body}",
        broker.address.port(),
        body.len()
    );
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer).await; // the end may come without a close_notify
    String::from_utf8_lossy(&answer).into_owned()
}

#[tokio::test]
async fn tr_07_certificates_that_expired_or_are_not_trusted_any_more_are_refused() {
    let ca = Ca::new();
    let (broker, server) = broker_for(&ca).await;
    let dir = broker.dir.path().to_owned();
    let shown = ca.node(SPIFFE_ID);
    let open = client(&broker, &server, &shown);
    assert_eq!(who(&open).await, arn("nodea"));
    let mut expired = spiffe(SPIFFE_ID);
    expired.not_after = rcgen::date_time_ymd(2001, 1, 1);
    assert_eq!(
        who(&client(&broker, &server, &ca.sign(&expired))).await,
        "handshake"
    );
    // A file that holds no CA changes nothing.
    let metrics = async || broker.operator("/metrics").await.body;
    write(&dir, "clients.crt", "nothing");
    let failed = "reloads_total{what=\"certificate\",outcome=\"failed\"}";
    eventually("it was looked at", async || {
        metrics().await.contains(failed)
    })
    .await;
    assert_eq!(who(&client(&broker, &server, &shown)).await, arn("nodea"));
    // A mapping that is inactive: new calls of a connection that stands are refused.
    write(&dir, "directory.json", &directory("Inactive").to_string());
    eventually("the mapping is inactive", async || {
        who(&open).await == "InvalidClientTokenId"
    })
    .await;
    write(&dir, "directory.json", &directory("Active").to_string());
    eventually("it is active again", async || {
        who(&open).await == arn("nodea")
    })
    .await;
    // Another CA: the connection that stands counts for nobody, and new ones are refused.
    let other = Ca::new();
    write(&dir, "clients.crt", &other.pem());
    eventually("the old CA is not trusted", async || {
        who(&open).await == "MissingAuthenticationToken"
    })
    .await;
    assert_eq!(who(&client(&broker, &server, &shown)).await, "handshake");
    let renewed = other.node(SPIFFE_ID);
    assert_eq!(who(&client(&broker, &server, &renewed)).await, arn("nodea"));
}
