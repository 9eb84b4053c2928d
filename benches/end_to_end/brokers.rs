//! The brokers that are measured, each in a process and a folder of its own, and the calls with which they are
//! loaded.

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use brevet::api::sts::v1 as pb;
use brevet::base::clock::{Clock, SystemClock};
use brevet::base::secret::Secret;
use brevet::client::{AssumeRole, Client, Credentials, Endpoint};
use brevet::proof::sigv4::SigningSecret;
use brevet::proof::sigv4::s3::{S3Request, authorization};
use http::{HeaderMap, HeaderName, HeaderValue};

use crate::envoy;
use crate::floors::{ROLE, SESSION};
use crate::load::{self, Keys, Request, WIDE_BUDGETS, init, on_cores, pin, this_build};

/// How a broker is configured, beside what `brevet init` writes.
#[derive(Clone, Default)]
pub struct Settings<'a> {
    /// The executable, if it is not the one of this build.
    pub program: Option<&'a Path>,
    /// The audit log is written, and not synced before there is an answer.
    pub unsynced: bool,
    /// The port of the Redis in which session records are kept.
    pub redis: Option<u16>,
    /// A certificate and its private key in PEM.
    pub tls: Option<(&'a str, &'a str)>,
    /// The port for proxies in front of an object store.
    pub proxies: Option<u16>,
}

/// A running broker.
pub struct Broker {
    child: Child,
    _dir: tempfile::TempDir,
    pub address: SocketAddr,
    keys: (String, String),
}

impl Broker {
    /// Starts a broker on these cores, with as many workers as there are cores.
    pub fn start(settings: &Settings<'_>, cores: &str) -> Self {
        let dir = tempfile::Builder::new()
            .prefix("brevet-bench")
            .tempdir_in(env!("CARGO_TARGET_TMPDIR"))
            .unwrap();
        let home = dir.path().join("broker");
        let program = settings.program.unwrap_or(this_build());
        let keys = init(program, &home);
        let config = home.join("brevet.toml");
        let mut toml = std::fs::read_to_string(&config).unwrap();
        if settings.unsynced {
            // The last section of the file is `[audit]`.
            toml.push_str("sync = false\n");
        }
        toml.push_str(WIDE_BUDGETS);
        // Connections stay for as long as a measurement takes.
        toml.push_str("\n[limits]\nidle_seconds = 600\n");
        if let Some(port) = settings.redis {
            toml.push_str(&format!(
                "\n[sessions.redis]\nurls = [\"redis://127.0.0.1:{port}\"]\n"
            ));
        }
        if let Some((certificate, key)) = settings.tls {
            let [certificate_file, key_file] = ["tls.crt", "tls.key"].map(|name| home.join(name));
            std::fs::write(certificate_file, certificate).unwrap();
            brevet::files::write_private(&key_file, key.as_bytes()).unwrap();
            toml.push_str("\n[tls]\ncertificate = \"tls.crt\"\nprivate_key = \"tls.key\"\n");
        }
        if let Some(port) = settings.proxies {
            let secret = |name: &str, text: &str| {
                brevet::files::write_private(&home.join(name), text.as_bytes()).unwrap();
            };
            secret("proxy.secret", PROXYS_SECRET);
            secret("store.key", STORES_KEY);
            toml.push_str(&format!(
                "\n[s3]\naddress = \"127.0.0.1:{port}\"\nsecret_files = [\"proxy.secret\"]\n\n[[s3.stores]]\nname = \"main\"\nhosts = [\"{HOST}\"]\nendpoint = \"http://127.0.0.1:8333\"\nkey_file = \"store.key\"\nbuckets = {{ reports = \"111122223333\" }}\n"
            ));
        }
        std::fs::write(&config, toml).unwrap();
        let mut child = on_cores(cores, program)
            .args(["serve", "--log-format", "json", "--config"])
            .arg(&config)
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let address = address(&mut child);
        Self {
            child,
            _dir: dir,
            address,
            keys,
        }
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Makes a user to whom nothing is allowed, with the name [`NOBODY`].
    pub fn make_nobody(&self) {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        let name = [("UserName", NOBODY)];
        runtime
            .block_on(async { self.client().iam("CreateUser", &name).await })
            .unwrap();
    }

    /// A client with the keys of its administrator.
    fn client(&self) -> Client {
        let endpoint = Endpoint {
            url: format!("http://{}", self.address),
            region: "us-east-1".into(),
            ca_pem: None,
        };
        let keys = Credentials::long_term(&self.keys.0, &self.keys.1);
        Client::new(&endpoint, keys).unwrap()
    }

    /// Moves the broker to other cores, without changing the number of its workers.
    pub fn move_to(&self, cores: &str) {
        pin(self.pid(), cores);
    }

    /// The keys of its administrator.
    pub fn administrator(&self) -> Keys {
        Keys::long_term(&self.keys)
    }

    /// Begins a session.
    pub fn session(&self, kind: Session) -> Keys {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        let made = runtime.block_on(self.begin(kind));
        Keys {
            id: made.access_key_id,
            secret: made.secret_access_key.expose().clone(),
            token: made.session_token.map(|token| token.expose().clone()),
        }
    }

    async fn begin(&self, kind: Session) -> Credentials {
        let client = self.client();
        let plain = AssumeRole::new(ROLE, SESSION);
        match kind {
            Session::Role => client.assume_role(&plain).await.unwrap().credentials,
            Session::LimitedRole => {
                let limited = limited_role();
                let asked = AssumeRole {
                    policy: limited.policy,
                    tags: limited.tags.into_iter().map(|t| (t.key, t.value)).collect(),
                    ..plain
                };
                client.assume_role(&asked).await.unwrap().credentials
            }
            Session::UserWithMfa => {
                let (serial, code) = mfa_device(&client).await;
                client
                    .get_session_token(Some((serial, &code)))
                    .await
                    .unwrap()
            }
        }
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The address that a broker logs when it listens. What it logs afterwards is read and thrown away, because a
/// full pipe would stop it.
fn address(child: &mut Child) -> SocketAddr {
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
    let address = lines.find_map(|line| {
        let line: serde_json::Value = serde_json::from_str(&line.unwrap()).ok()?;
        line["fields"]["address"]
            .as_str()
            .map(|address| address.parse().unwrap())
    });
    std::thread::spawn(move || lines.for_each(drop));
    address.expect("the broker ended before it listened")
}

/// The kind of session with which GetCallerIdentity is called.
#[derive(Debug, Clone, Copy)]
pub enum Session {
    Role,
    /// A role's session with three tags and a session policy.
    LimitedRole,
    UserWithMfa,
}

const POLICY: &str = r#"{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":["s3:GetObject","s3:ListBucket","sts:*"],"Resource":["arn:aws:s3:::reports","arn:aws:s3:::reports/${aws:PrincipalTag/team}/*"]},{"Effect":"Deny","Action":"*","Resource":"*","Condition":{"Bool":{"aws:SecureTransport":"false"}}}]}"#;

fn role() -> pb::AssumeRoleRequest {
    pb::AssumeRoleRequest {
        role_arn: ROLE.to_owned(),
        role_session_name: SESSION.to_owned(),
        ..pb::AssumeRoleRequest::default()
    }
}

fn limited_role() -> pb::AssumeRoleRequest {
    let tag = |key: &str, value: &str| pb::Tag {
        key: key.into(),
        value: value.into(),
    };
    pb::AssumeRoleRequest {
        policy: Some(POLICY.to_owned()),
        tags: vec![
            tag("team", "blue"),
            tag("cost-center", "4711"),
            tag("email", "alice@example.com"),
        ],
        transitive_tag_keys: vec!["team".to_owned()],
        ..role()
    }
}

/// A call with which a server is loaded.
#[derive(Debug, Clone, Copy)]
pub enum Call {
    AssumeRole,
    /// With three tags and a session policy.
    LimitedAssumeRole,
    GetSessionToken,
    GetCallerIdentity,
    QueryAssumeRole,
    QueryGetCallerIdentity,
    /// Envoy asks about a request to an object store, which is allowed.
    EnvoyCheck,
    /// nginx asks about the same request.
    S3Authorize,
    /// A service asks by AuthZEN what the administrator may do.
    Evaluation,
    /// It asks about a user to whom nothing is allowed.
    RefusedEvaluation,
}

/// A user to whom nothing is allowed.
const NOBODY: &str = "nobody";
/// The host by which clients call the object store, and the object that they get.
const HOST: &str = "s3.example.com";
const OBJECT: &str = "/reports/team/2026/november/report-42.csv";
const PROXYS_SECRET: &str = "the-secret-that-the-proxies-share-0123456789";
const STORES_KEY: &str = "[default]\naws_access_key_id = AKIASTORESTORESTORE0\naws_secret_access_key = a-secret-of-the-store-with-40-characters\n";

impl Call {
    /// The request for a server, signed with these keys now.
    pub fn request(self, keys: &Keys, address: SocketAddr) -> Request {
        match self {
            Self::AssumeRole => load::grpc("AssumeRole", &role(), keys, address),
            Self::LimitedAssumeRole => load::grpc("AssumeRole", &limited_role(), keys, address),
            Self::GetSessionToken => {
                let default = pb::GetSessionTokenRequest::default();
                load::grpc("GetSessionToken", &default, keys, address)
            }
            Self::GetCallerIdentity => {
                let empty = pb::GetCallerIdentityRequest {};
                load::grpc("GetCallerIdentity", &empty, keys, address)
            }
            Self::QueryAssumeRole => {
                let parameters = [("RoleArn", ROLE), ("RoleSessionName", SESSION)];
                load::query("AssumeRole", &parameters, keys, address)
            }
            Self::QueryGetCallerIdentity => load::query("GetCallerIdentity", &[], keys, address),
            Self::EnvoyCheck => {
                let question = envoy::question("GET", OBJECT, HOST, &of_client(keys));
                let path = format!("/{}/Check", envoy::SERVICE);
                load::grpc_unsigned(&path, &question, as_headers(&[]), address)
            }
            Self::S3Authorize => {
                let own = [
                    ("x-original-method", "GET"),
                    ("x-original-uri", OBJECT),
                    ("x-original-host", HOST),
                    ("x-forwarded-for", "127.0.0.1"),
                    ("x-forwarded-proto", "https"),
                ];
                let own = own.map(|(name, value)| (name.to_owned(), value.to_owned()));
                let headers = as_headers(&[&own[..], &of_client(keys)].concat());
                load::get("/s3/authorize", &headers, address)
            }
            Self::Evaluation => evaluation("administrator", keys, address),
            Self::RefusedEvaluation => evaluation(NOBODY, keys, address),
        }
    }

    /// Whether it is a call over HTTP/1.1, and not by gRPC.
    pub fn is_http1(self) -> bool {
        matches!(
            self,
            Self::QueryAssumeRole
                | Self::QueryGetCallerIdentity
                | Self::S3Authorize
                | Self::Evaluation
                | Self::RefusedEvaluation
        )
    }
}

fn evaluation(user: &str, keys: &Keys, address: SocketAddr) -> Request {
    let body = format!(
        r#"{{"subject":{{"type":"user","id":"{user}"}},"action":{{"name":"read"}},"resource":{{"type":"record","id":"record-1"}}}}"#
    );
    load::json("/access/v1/evaluation", &body, keys, address)
}

/// Headers, with the secret by which a proxy is admitted.
fn as_headers(headers: &[(String, String)]) -> HeaderMap {
    let mut all = HeaderMap::new();
    let secret = HeaderValue::from_static(PROXYS_SECRET);
    all.insert("x-brevet-proxy-secret", secret);
    for (name, value) in headers {
        let name = HeaderName::from_bytes(name.as_bytes()).unwrap();
        all.insert(name, HeaderValue::from_str(value).unwrap());
    }
    all
}

/// The headers with which a client gets [`OBJECT`], as an SDK sends them. The signature is valid for 15 minutes.
fn of_client(keys: &Keys) -> Vec<(String, String)> {
    const EMPTY: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
    let now = Clock::now(&SystemClock);
    let date = now.to_amz();
    let mut own = vec![
        ("host", HOST),
        ("x-amz-checksum-mode", "ENABLED"),
        ("x-amz-content-sha256", EMPTY),
        ("x-amz-date", date.as_str()),
    ];
    own.extend(
        keys.token
            .as_deref()
            .map(|token| ("x-amz-security-token", token)),
    );
    let owned = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
    let mut headers: Vec<(String, String)> = own.iter().skip(1).map(owned).collect();
    let request = S3Request {
        method: "GET",
        path: OBJECT,
        query: &[],
        headers: &headers,
        host: HOST,
    };
    let secret = SigningSecret::new(Secret::new(keys.secret.clone()));
    let signer = (keys.id.as_str(), &secret);
    let signature = authorization(signer, "us-east-1", now, &request, |_| false, &own, EMPTY);
    headers.push(("authorization".to_owned(), signature));
    let agent = "aws-cli/2 Boto3/1 md/Botocore#1".to_owned();
    headers.push(("user-agent".to_owned(), agent));
    headers
}

/// Makes an MFA device for the administrator; returns its serial number and a code that was not used yet.
async fn mfa_device(client: &Client) -> (&'static str, String) {
    let name = [("VirtualMFADeviceName", "bench")];
    let made = client.iam("CreateVirtualMFADevice", &name).await.unwrap();
    let seed = made["VirtualMFADevice"]["Base32StringSeed"]
        .as_str()
        .unwrap();
    let seed = base64::Engine::decode(&base64::engine::general_purpose::STANDARD, seed).unwrap();
    let seed = totp_rs::Secret::try_from_base32(std::str::from_utf8(&seed).unwrap()).unwrap();
    let totp = totp_rs::Builder::new().with_secret(seed).build().unwrap();
    let now = Clock::now(&SystemClock).seconds().unsigned_abs();
    let code = |seconds: u64| totp.generate(seconds).to_string();
    let serial = "arn:aws:iam::111122223333:mfa/bench";
    let (first, second) = (code(now - 30), code(now));
    let enable = [
        ("UserName", "administrator"),
        ("SerialNumber", serial),
        ("AuthenticationCode1", first.as_str()),
        ("AuthenticationCode2", second.as_str()),
    ];
    client.iam("EnableMFADevice", &enable).await.unwrap();
    (serial, code(now + 30))
}

/// A port on which nobody listens.
pub fn free_port() -> u16 {
    let any = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    any.local_addr().unwrap().port()
}

/// A running Redis that keeps nothing on the disk.
pub struct Redis {
    child: Child,
    pub port: u16,
}

impl Redis {
    /// Starts it on these cores; `None` if it is not installed.
    pub fn start(cores: &str) -> Option<Self> {
        Command::new("redis-server")
            .arg("--version")
            .stdout(Stdio::null())
            .status()
            .ok()?;
        let port = free_port();
        let child = on_cores(cores, "redis-server")
            .args(["--port", &port.to_string()])
            .args(["--save", "", "--appendonly", "no"])
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        while std::net::TcpStream::connect(("127.0.0.1", port)).is_err() {
            std::thread::sleep(Duration::from_millis(50));
        }
        Some(Self { child, port })
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
