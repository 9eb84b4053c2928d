//! Starts brokers for the tests, and sends requests to them.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use brevet::api::sts::v1 as pb;
pub use brevet::api::sts::v1::revoke_sessions_request::Selector;
use brevet::audit::Target;
use brevet::base::clock::{Clock, ManualClock, Timestamp};
use brevet::base::digest::sha256;
use brevet::base::entropy::SystemEntropy;
use brevet::budgets::BudgetLimits;
use brevet::client::{Client, Credentials, Endpoint};
use brevet::commands::{self, Actor, Command, CommandContext, CommandError, Edit};
use brevet::config::{Config, Limits};
use brevet::directory::resource::{Name, ResourceKind};
use brevet::master_key::MasterKey;
use brevet::proof::sigv4::Signer;
use brevet::server::{self, Running};
use brevet::session::keyring::Keyring;
use brevet::store::{Access, Place, Store, Watermark};
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request};
use http_body_util::{BodyExt, Full};
use hyper_util::rt::TokioIo;

pub const DIRECTORY: &str = include_str!("../data/directory.json");
pub const OPEN: &str = "arn:aws:iam::111122223333:role/Open";
pub const DIRECT: &str = "arn:aws:iam::111122223333:role/deep/path/Direct";
pub const CLOSED: &str = "arn:aws:iam::111122223333:role/Closed";
pub const PARTNER: &str = "arn:aws:iam::111122223333:role/Partner";

/// Fails where the machine lacks what a test needs, since a test that passes without running shows nothing. With
/// `BREVET_MAY_SKIP=1` it passes.
pub fn may_skip(why: &str) {
    let may = std::env::var_os("BREVET_MAY_SKIP").is_some_and(|value| value == "1");
    assert!(may, "{why}. With BREVET_MAY_SKIP=1 such tests are skipped.");
    eprintln!("skipped: {why}");
}

/// A key pair, with a session token for temporary credentials.
#[derive(Clone)]
pub struct Keys {
    pub id: String,
    pub secret: String,
    pub token: Option<String>,
}

impl Keys {
    /// Signs with these credentials for this region.
    pub fn signer<'a>(&'a self, region: &'a str) -> Signer<'a> {
        Signer {
            access_key_id: &self.id,
            secret_access_key: self.secret.as_bytes(),
            session_token: self.token.as_deref(),
            region,
            service: "sts",
        }
    }
}

/// The long-term key of a user of the test directory. Users are found by the end of their ARN.
pub fn user(name: &str) -> Keys {
    let directory: serde_json::Value = serde_json::from_str(DIRECTORY).unwrap();
    let keys = directory["Brevet"]["AccessKeys"].as_array().unwrap();
    let key = keys
        .iter()
        .find(|k| {
            k["UserArn"]
                .as_str()
                .unwrap()
                .ends_with(&format!(":user/{name}"))
        })
        .unwrap();
    let text = |field: &str| key[field].as_str().unwrap().to_owned();
    Keys {
        id: text("AccessKeyId"),
        secret: text("SecretAccessKey"),
        token: None,
    }
}

impl From<&Credentials> for Keys {
    fn from(c: &Credentials) -> Self {
        Self {
            id: c.access_key_id.clone(),
            secret: c.secret_access_key.expose().clone(),
            token: c.session_token.as_ref().map(|t| t.expose().clone()),
        }
    }
}

/// A running broker with a clock that only moves when it is set.
pub struct Broker {
    pub running: Option<Running>,
    pub clock: Arc<ManualClock>,
    pub address: SocketAddr,
    pub operator: SocketAddr,
    pub dir: Arc<tempfile::TempDir>,
}

pub fn now() -> Timestamp {
    Timestamp::from_amz("20261124T120000Z").unwrap()
}

/// A folder with a directory file and a keyring, as an operator would make it.
pub fn home() -> Arc<tempfile::TempDir> {
    let dir = tempfile::tempdir().unwrap();
    brevet::files::write_private(&dir.path().join("directory.json"), DIRECTORY.as_bytes()).unwrap();
    let keyring = Keyring::generate(&SystemEntropy::new(), now()).unwrap();
    brevet::keyring_file::save(&keyring, &dir.path().join("keyring.json")).unwrap();
    Arc::new(dir)
}

/// A folder whose directory is in a store, as `brevet init` and `brevet import` make it.
pub async fn stored_home() -> Arc<tempfile::TempDir> {
    let dir = home();
    fill_store(dir.path(), &Place::Sqlite(dir.path().join("store.db"))).await;
    dir
}

/// Makes a store that contains the test directory.
pub async fn fill_store(dir: &Path, place: &Place) {
    fill_store_with(dir, place, DIRECTORY).await;
}

/// Makes a store that contains this directory.
pub async fn fill_store_with(dir: &Path, place: &Place, directory: &str) {
    let entropy = SystemEntropy::new();
    let master_key = MasterKey::create(&dir.join("master.key"), &entropy).unwrap();
    let store = Store::open(place, Access::Create, Some(&master_key), now(), &entropy)
        .await
        .unwrap();
    let context = CommandContext {
        store: &store,
        master_key: &master_key,
        entropy: &entropy,
        now: now(),
        issuer: None,
    };
    let declaration = brevet::directory::parse(directory.as_bytes()).unwrap();
    let import = commands::plan(context, declaration, false).await.unwrap();
    import
        .apply(context, &Actor::operator("test"))
        .await
        .unwrap();
    Watermark::of(&store.head().await.unwrap())
        .save(&dir.join("store.watermark"))
        .unwrap();
    store.close().await;
}

/// Opens a broker's store a second time, as a command beside it does.
pub struct OtherProcess {
    pub store: Store,
    pub master_key: MasterKey,
    entropy: SystemEntropy,
}

impl OtherProcess {
    pub async fn on(dir: &Path, place: &Place) -> Self {
        let entropy = SystemEntropy::new();
        let master_key = MasterKey::load(&dir.join("master.key")).unwrap();
        let store = Store::open(place, Access::Use, Some(&master_key), now(), &entropy)
            .await
            .unwrap();
        Self {
            store,
            master_key,
            entropy,
        }
    }

    pub async fn run(&self, command: Command) -> Result<i64, CommandError> {
        self.run_as("Test", command).await
    }

    /// Makes a change by an action of the IAM API.
    pub async fn run_as(
        &self,
        action: &'static str,
        command: Command,
    ) -> Result<i64, CommandError> {
        let (store, master_key, entropy) = (&self.store, &self.master_key, &self.entropy);
        let context = CommandContext {
            store,
            master_key,
            entropy,
            now: now(),
            issuer: None,
        };
        commands::execute(context, &Actor::operator("hand"), action, vec![command]).await
    }

    /// Imports a file. Returns the number of the last change.
    pub async fn import(&self, file: &serde_json::Value) -> Result<i64, CommandError> {
        let (store, master_key, entropy) = (&self.store, &self.master_key, &self.entropy);
        let context = CommandContext {
            store,
            master_key,
            entropy,
            now: now(),
            issuer: None,
        };
        let declaration = brevet::directory::parse(file.to_string().as_bytes()).unwrap();
        commands::plan(context, declaration, false)
            .await?
            .apply(context, &Actor::operator("hand"))
            .await
    }

    /// Changes one aspect of an entity.
    pub async fn edit(
        &self,
        kind: ResourceKind,
        id: &str,
        edit: Edit,
    ) -> Result<i64, CommandError> {
        self.run(Command::Edit {
            name: Name::new(kind, id),
            edit,
            expected: None,
        })
        .await
    }
}

/// Makes the configuration use the directory in the store.
pub fn in_the_store(config: &mut Config) {
    config.master_key = config
        .directory
        .take()
        .map(|file| file.with_file_name("master.key"));
}

pub fn config(dir: &Path) -> Config {
    let any = SocketAddr::from(([127, 0, 0, 1], 0));
    Config {
        operator: any,
        regions: vec!["us-east-1".into(), "eu-central-1".into()],
        reflection: true,
        directory: Some(dir.join("directory.json")),
        limits: Limits {
            shutdown_grace: Duration::from_secs(5),
            ..Limits::default()
        },
        issuer: Some("http://{address}".to_owned()),
        service_provider: brevet::federation::saml::ServiceProvider::at("https://sts.example.com"),
        reach: brevet::federation::providers::Reach {
            private: false,
            http_on_loopback: true,
        },
        // Tests of budgets switch on what they are about.
        budgets: BudgetLimits::OFF,
        ..Config::in_folder(dir, any)
    }
}

impl Broker {
    pub async fn start() -> Self {
        Self::start_in(home(), |_| {}).await
    }

    pub async fn start_with(change: impl FnOnce(&mut Config)) -> Self {
        Self::start_in(home(), change).await
    }

    /// Starts a broker with its directory in the store.
    pub async fn start_stored() -> Self {
        Self::start_in(stored_home().await, in_the_store).await
    }

    /// Opens this broker's store a second time.
    pub async fn hand(&self) -> OtherProcess {
        OtherProcess::on(
            self.dir.path(),
            &Place::Sqlite(self.dir.path().join("store.db")),
        )
        .await
    }

    /// Waits until a change of the feed is in force here.
    pub async fn reaches(&self, sequence: i64) {
        let broker = &self.running.as_ref().unwrap().broker;
        eventually("the change is in force", async || {
            broker.feed.sequence() >= sequence
        })
        .await;
    }

    /// Calls GetCallerIdentity with these credentials. Returns `ok`, or the error code.
    pub async fn who(&self, keys: &Keys) -> String {
        match self.client(keys).get_caller_identity().await {
            Ok(_) => "ok".to_owned(),
            Err(error) => code(&error),
        }
    }

    /// Revokes sessions as an administrator of the account. Returns the number of the change.
    pub async fn revoke(&self, keys: &Keys, selector: Selector) -> Result<i64, String> {
        let request = pb::RevokeSessionsRequest {
            selector: Some(selector),
            ..Default::default()
        };
        self.client(keys)
            .revoke_sessions(request)
            .await
            .map(|r| r.sequence_number)
            .map_err(|e| code(&e))
    }

    pub async fn start_in(dir: Arc<tempfile::TempDir>, change: impl FnOnce(&mut Config)) -> Self {
        let clock = Arc::new(ManualClock::new(now()));
        let mut config = config(dir.path());
        change(&mut config);
        let running = server::start(config, clock.clone(), Arc::new(SystemEntropy::new()))
            .await
            .unwrap();
        Self {
            address: running.address,
            operator: running.operator,
            running: Some(running),
            clock,
            dir,
        }
    }

    /// Starts another broker with the same directory and keyring, an audit log of its own and a copy
    /// of the store.
    pub async fn start_beside(dir: Arc<tempfile::TempDir>) -> Self {
        let path = dir.path().join("audit2.jsonl");
        let (store, watermark) = (
            dir.path().join("store2.db"),
            dir.path().join("store2.watermark"),
        );
        let first = Place::Sqlite(dir.path().join("store.db"));
        let first = Store::open(&first, Access::Use, None, now(), &SystemEntropy::new())
            .await
            .unwrap();
        brevet::store::backup(&first, &store).await.unwrap();
        Watermark::of(&first.head().await.unwrap())
            .save(&watermark)
            .unwrap();
        Self::start_in(dir, |c| {
            c.audit = Target::File { path, sync: true };
            c.store = Place::Sqlite(store);
            c.watermark = Some(watermark);
        })
        .await
    }

    /// Advances the monotonic clock and the wall clock by this many seconds.
    pub fn elapse(&self, seconds: u64) {
        self.clock.advance(Duration::from_secs(seconds));
        self.clock.pass(Duration::from_secs(seconds));
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// A gRPC client that uses this broker's clock.
    pub fn client(&self, keys: &Keys) -> Client {
        let endpoint = Endpoint {
            url: self.url(),
            region: "us-east-1".into(),
            ca_pem: None,
        };
        Client::with_clock(
            &endpoint,
            Credentials::new(&keys.id, &keys.secret, keys.token.as_deref()),
            self.clock.clone(),
        )
        .unwrap()
    }

    /// Assumes a role. Returns the credentials, or the error code.
    pub async fn assume(&self, keys: &Keys, role: &str) -> Result<Keys, String> {
        let request = brevet::client::AssumeRole::new(role, "test-session");
        self.client(keys)
            .assume_role(&request)
            .await
            .map(|r| Keys::from(&r.credentials))
            .map_err(|e| code(&e))
    }

    /// Sends a signed form over the Query protocol.
    pub async fn query(&self, keys: Option<&Keys>, form: &[(&str, &str)]) -> Answer {
        let body = encode(form);
        let mut headers = form_headers();
        if let Some(keys) = keys {
            self.sign("/", keys, &mut headers, body.as_bytes());
        }
        self.send("POST", "/", headers, body.into_bytes()).await
    }

    /// Calls an action of the IAM API.
    pub async fn iam(&self, keys: &Keys, action: &str, form: &[(&str, &str)]) -> Answer {
        let mut all = vec![("Action", action), ("Version", "2010-05-08")];
        all.extend(form);
        let body = encode(&all).into_bytes();
        let mut headers = form_headers();
        let signer = Signer {
            service: "iam",
            ..keys.signer("us-east-1")
        };
        let host = self.address.to_string();
        signer
            .sign(
                "POST",
                "/",
                &host,
                &mut headers,
                &sha256(&body),
                self.clock.now(),
            )
            .unwrap();
        self.send("POST", "/", headers, body).await
    }

    pub fn sign(&self, path: &str, keys: &Keys, headers: &mut HeaderMap, payload: &[u8]) {
        self.sign_at(self.clock.now(), path, keys, headers, payload);
    }

    /// As `sign`, with the time of the client's clock.
    pub fn sign_at(
        &self,
        at: Timestamp,
        path: &str,
        keys: &Keys,
        headers: &mut HeaderMap,
        payload: &[u8],
    ) {
        keys.signer("us-east-1")
            .sign(
                "POST",
                path,
                &self.address.to_string(),
                headers,
                &sha256(payload),
                at,
            )
            .unwrap();
    }

    /// Sends any request over HTTP/1.1, with exactly these headers.
    pub async fn send(
        &self,
        method: &str,
        target: &str,
        headers: HeaderMap,
        body: Vec<u8>,
    ) -> Answer {
        http1(self.address, method, target, headers, body).await
    }

    pub async fn operator(&self, path: &str) -> Answer {
        http1(self.operator, "GET", path, HeaderMap::new(), Vec::new()).await
    }

    pub fn audit_path(&self) -> PathBuf {
        self.dir.path().join("audit.jsonl")
    }

    /// Stops the broker and reads every line of its audit log.
    pub async fn into_audit(mut self) -> Vec<serde_json::Value> {
        self.stop().await;
        let text = std::fs::read_to_string(self.audit_path()).unwrap();
        assert!(!text.contains("canary+secret"), "a secret in the audit");
        text.lines()
            .map(|l| serde_json::from_str(l).unwrap())
            .collect()
    }

    pub async fn stop(&mut self) {
        if let Some(running) = self.running.take() {
            running.shutdown(std::future::pending()).await;
        }
    }
}

/// The user who may do anything in the account that most tests use.
pub const ADMIN: &str = "admin";

/// The message of a refusal, and its encoded authorization message, which may be empty.
pub fn sentence(message: &str) -> (&str, &str) {
    message
        .split_once(". Encoded authorization failure message: ")
        .unwrap_or((message, ""))
}

/// The error code of a refusal, or `Unreachable` if nobody answered.
pub fn code(error: &brevet::client::ClientError) -> String {
    match error {
        brevet::client::ClientError::Refused { code, .. } => code.clone(),
        other => format!("Unreachable: {other}"),
    }
}

pub fn form_headers() -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert(
        "content-type",
        HeaderValue::from_static("application/x-www-form-urlencoded; charset=utf-8"),
    );
    headers
}

pub fn encode(form: &[(&str, &str)]) -> String {
    use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
    let text = |t: &str| utf8_percent_encode(t, NON_ALPHANUMERIC).to_string();
    form.iter()
        .map(|(n, v)| format!("{}={}", text(n).replace("%2E", "."), text(v)))
        .collect::<Vec<_>>()
        .join("&")
}

pub const VERSION: (&str, &str) = ("Version", "2011-06-15");
/// A call that needs nothing but a good signature.
pub const WHO: &[(&str, &str)] = &[("Action", "GetCallerIdentity"), VERSION];

/// An HTTP answer.
pub struct Answer {
    pub status: u16,
    pub headers: HeaderMap,
    pub body: String,
}

impl Answer {
    /// The text of an XML element.
    pub fn element(&self, name: &str) -> Option<&str> {
        let after = self.body.split_once(&format!("<{name}>"))?.1;
        Some(after.split_once(&format!("</{name}>"))?.0)
    }

    /// The error code, or `ok` if there is none.
    pub fn code(&self) -> &str {
        self.element("Code")
            .unwrap_or(if self.status == 200 { "ok" } else { "no code" })
    }

    /// The credentials in the answer.
    #[track_caller]
    pub fn credentials(&self) -> Keys {
        let text = |name: &str| {
            self.element(name)
                .unwrap_or_else(|| panic!("{}", self.body))
                .to_owned()
        };
        Keys {
            id: text("AccessKeyId"),
            secret: text("SecretAccessKey"),
            token: Some(text("SessionToken")),
        }
    }
}

pub async fn http1(
    address: SocketAddr,
    method: &str,
    target: &str,
    headers: HeaderMap,
    body: Vec<u8>,
) -> Answer {
    let stream = tokio::net::TcpStream::connect(address).await.unwrap();
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
        .await
        .unwrap();
    let connection = tokio::spawn(connection);
    let mut request = Request::builder()
        .method(method)
        .uri(target)
        .body(Full::new(Bytes::from(body)))
        .unwrap();
    *request.headers_mut() = headers;
    if !request.headers().contains_key("host") {
        request
            .headers_mut()
            .insert("host", HeaderValue::from_str(&address.to_string()).unwrap());
    }
    let response = sender.send_request(request).await.unwrap();
    let (head, body) = response.into_parts();
    let body = String::from_utf8(body.collect().await.unwrap().to_bytes().to_vec()).unwrap();
    connection.abort();
    Answer {
        status: head.status.as_u16(),
        headers: head.headers,
        body,
    }
}

/// Makes a gRPC call over HTTP/2 with any headers and any body. Returns its status, message and body.
pub async fn grpc(
    address: SocketAddr,
    path: &str,
    headers: HeaderMap,
    body: Vec<u8>,
) -> GrpcAnswer {
    grpc_for(address, &address.to_string(), path, headers, body).await
}

/// The same with another `:authority`.
pub async fn grpc_for(
    address: SocketAddr,
    authority: &str,
    path: &str,
    headers: HeaderMap,
    body: Vec<u8>,
) -> GrpcAnswer {
    let stream = tokio::net::TcpStream::connect(address).await.unwrap();
    let (mut sender, connection) = hyper::client::conn::http2::handshake(
        hyper_util::rt::TokioExecutor::new(),
        TokioIo::new(stream),
    )
    .await
    .unwrap();
    let connection = tokio::spawn(connection);
    let mut request = Request::post(format!("http://{authority}{path}"))
        .body(Full::new(Bytes::from(body)))
        .unwrap();
    *request.headers_mut() = headers;
    request
        .headers_mut()
        .insert("content-type", HeaderValue::from_static("application/grpc"));
    request
        .headers_mut()
        .insert("te", HeaderValue::from_static("trailers"));
    let response = sender.send_request(request).await.unwrap();
    let headers = response.headers().clone();
    let mut status = response.headers().get("grpc-status").cloned();
    let mut message = response.headers().get("grpc-message").cloned();
    let collected = response.into_body().collect().await.unwrap();
    if let Some(trailers) = collected.trailers() {
        status = status.or_else(|| trailers.get("grpc-status").cloned());
        message = message.or_else(|| trailers.get("grpc-message").cloned());
    }
    connection.abort();
    let text = |v: Option<HeaderValue>| {
        v.map(|v| v.to_str().unwrap().to_owned())
            .unwrap_or_default()
    };
    GrpcAnswer {
        status: text(status).parse().unwrap_or(-1),
        message: text(message),
        headers,
    }
}

#[derive(Debug)]
pub struct GrpcAnswer {
    pub headers: HeaderMap,
    pub status: i32,
    pub message: String,
}

pub fn frame(message: &[u8]) -> Vec<u8> {
    let mut body = vec![0];
    body.extend_from_slice(&u32::try_from(message.len()).unwrap().to_be_bytes());
    body.extend_from_slice(message);
    body
}

/// How long a test waits for something that must happen. A machine that does other things as well may
/// be many times slower than a quiet one.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Waits for something that another thread does; panics after [`PATIENCE`].
pub async fn eventually(what: &str, mut check: impl AsyncFnMut() -> bool) {
    let started = std::time::Instant::now();
    while started.elapsed() < PATIENCE {
        if check().await {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("not within {PATIENCE:?}: {what}");
}
