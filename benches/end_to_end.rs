//! Compares the daemon under load with a bare tonic echo server whose messages have the same form,
//! in one run.
//!
//! Each server runs in a process of its own with one worker thread, pinned to core 0. The load
//! comes from this process, pinned to core 1, and is signed once beforehand, so that the generator
//! costs the same for all servers. The output has the requests per second, the CPU time of the
//! server per request, and the ratios to the baselines. Run with `cargo bench --bench end_to_end
//! [-- SECONDS]`.

mod load;

use std::io::{BufRead, BufReader, Write};
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use http::{Request, Response};
use tonic::body::Body;
use tonic::{Status, codegen::http};

use brevet::api::sts::v1 as pb;

use load::{Outcome, WIDE_BUDGETS, drive, init, load, pin};

const ROLE: &str = "arn:aws:iam::111122223333:role/Demo";

/// The baselines use the daemon's allocator, so that it does not affect the ratios.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    match arguments.get(1).map(String::as_str) {
        Some("echo") => return echo(false),
        Some("echo-sign") => return echo(true),
        _ => {}
    }
    let seconds = arguments
        .iter()
        .filter_map(|a| a.parse().ok())
        .next()
        .unwrap_or(5);
    let span = Duration::from_secs(seconds);
    pin(std::process::id(), 1);
    println!(
        "{:<46} {:>9} {:>12} {:>6} {:>6} {:>7}",
        "", "req/s", "CPU us/req", "of (a)", "of (b)", "busy"
    );

    let a = Echo::start("echo").measure(span);
    a.print("(a) bare tonic echo", None, None);
    let b = Echo::start("echo-sign").measure(span);
    b.print("(b) echo and one Ed25519 signature", Some(&a), None);
    for (name, audit) in [
        ("(c) AssumeRole, audit unsynced", Audit::Unsynced),
        ("(c) AssumeRole, audit on stable storage", Audit::Synced),
    ] {
        let broker = Broker::start(audit, None);
        broker.assume_role(span).print(name, Some(&a), Some(&b));
        if matches!(audit, Audit::Unsynced) {
            for (name, kind) in [
                (
                    "    AssumeRole with three tags and a policy",
                    Asked::CutRole,
                ),
                ("    GetSessionToken", Asked::Own),
            ] {
                broker.issue(kind, span).print(name, Some(&a), Some(&b));
            }
            for (name, kind) in [
                ("    GetCallerIdentity, a role's session", Asked::Role),
                (
                    "    GetCallerIdentity, with tags and a policy",
                    Asked::CutRole,
                ),
                ("    GetCallerIdentity, a user's, with MFA", Asked::Mfa),
            ] {
                broker
                    .get_caller_identity(kind, span)
                    .print(name, Some(&a), Some(&b));
            }
        }
    }
    if let Some(redis) = Redis::start() {
        Broker::start(Audit::Unsynced, Some(&redis))
            .assume_role(span)
            .print("(c) AssumeRole, records in Redis", Some(&a), Some(&b));
    } else {
        println!("redis-server is not installed, so the row for Redis is left out");
    }
}

struct Echo(Child, SocketAddr);

impl Echo {
    fn start(mode: &str) -> Self {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .arg(mode)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        pin(child.id(), 0);
        let mut line = String::new();
        BufReader::new(child.stdout.as_mut().unwrap())
            .read_line(&mut line)
            .unwrap();
        Self(child, line.trim().parse().unwrap())
    }

    fn measure(mut self, span: Duration) -> Outcome {
        let outcome = drive(
            self.1,
            self.0.id(),
            &load("AssumeRole", &assume_role(), None, self.1),
            span,
        );
        self.0.kill().unwrap();
        self.0.wait().unwrap();
        outcome
    }
}

/// The kind of session with which a call is made.
#[derive(Clone, Copy)]
enum Asked {
    Role,
    CutRole,
    Own,
    Mfa,
}

const POLICY: &str = r#"{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":["s3:GetObject","s3:ListBucket","sts:*"],"Resource":["arn:aws:s3:::reports","arn:aws:s3:::reports/${aws:PrincipalTag/team}/*"]},{"Effect":"Deny","Action":"*","Resource":"*","Condition":{"Bool":{"aws:SecureTransport":"false"}}}]}"#;

fn cut() -> pb::AssumeRoleRequest {
    let tag = |key: &str, value: &str| pb::Tag {
        key: key.into(),
        value: value.into(),
    };
    pb::AssumeRoleRequest {
        role_arn: ROLE.replace("Demo", "Administrator"),
        policy: Some(POLICY.to_owned()),
        tags: vec![
            tag("team", "blue"),
            tag("cost-center", "4711"),
            tag("email", "alice@example.com"),
        ],
        transitive_tag_keys: vec!["team".to_owned()],
        ..assume_role()
    }
}

#[derive(Clone, Copy)]
enum Audit {
    Unsynced,
    Synced,
}

struct Broker {
    child: Child,
    _dir: tempfile::TempDir,
    address: SocketAddr,
    keys: (String, String),
}

impl Broker {
    fn start(audit: Audit, redis: Option<&Redis>) -> Self {
        let dir = tempfile::Builder::new()
            .prefix("brevet-bench")
            .tempdir_in(env!("CARGO_TARGET_TMPDIR"))
            .unwrap();
        let brevet = env!("CARGO_BIN_EXE_brevet");
        let home = dir.path().join("broker");
        let keys = init(&home);
        let config = home.join("brevet.toml");
        let mut toml = std::fs::read_to_string(&config).unwrap();
        if matches!(audit, Audit::Unsynced) {
            toml.push_str("sync = false\n");
        }
        toml.push_str(WIDE_BUDGETS);
        if let Some(redis) = redis {
            toml.push_str(&format!(
                "\n[sessions.redis]\nurls = [\"redis://127.0.0.1:{}\"]\n",
                redis.1
            ));
        }
        std::fs::write(&config, toml).unwrap();
        let mut child = Command::new(brevet)
            .args(["serve", "--log-format", "json", "--config"])
            .arg(&config)
            .env("TOKIO_WORKER_THREADS", "1")
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        pin(child.id(), 0);
        let mut line = String::new();
        BufReader::new(child.stderr.as_mut().unwrap())
            .read_line(&mut line)
            .unwrap();
        let line: serde_json::Value = serde_json::from_str(&line).unwrap();
        let address = line["fields"]["address"].as_str().unwrap().parse().unwrap();
        Self {
            child,
            _dir: dir,
            address,
            keys,
        }
    }

    fn assume_role(&self, span: Duration) -> Outcome {
        let message = pb::AssumeRoleRequest {
            role_arn: ROLE.replace("Demo", "Administrator"),
            ..assume_role()
        };
        drive(
            self.address,
            self.child.id(),
            &load(
                "AssumeRole",
                &message,
                Some((&self.keys.0, &self.keys.1, None)),
                self.address,
            ),
            span,
        )
    }

    fn issue(&self, asked: Asked, span: Duration) -> Outcome {
        let keys = Some((self.keys.0.as_str(), self.keys.1.as_str(), None));
        let load = match asked {
            Asked::CutRole => load("AssumeRole", &cut(), keys, self.address),
            _ => load(
                "GetSessionToken",
                &pb::GetSessionTokenRequest::default(),
                keys,
                self.address,
            ),
        };
        drive(self.address, self.child.id(), &load, span)
    }

    fn get_caller_identity(&self, asked: Asked, span: Duration) -> Outcome {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        let session = runtime.block_on(self.session(asked));
        let keys = (
            session.access_key_id.as_str(),
            session.secret_access_key.expose().as_str(),
            Some(session.session_token.as_ref().unwrap().expose().as_str()),
        );
        drive(
            self.address,
            self.child.id(),
            &load(
                "GetCallerIdentity",
                &pb::GetCallerIdentityRequest {},
                Some(keys),
                self.address,
            ),
            span,
        )
    }

    async fn session(&self, asked: Asked) -> brevet::client::Credentials {
        use brevet::client::{AssumeRole, Client, Credentials, Endpoint};
        let endpoint = Endpoint {
            url: format!("http://{}", self.address),
            region: "us-east-1".into(),
            ca_pem: None,
        };
        let client = Client::new(
            &endpoint,
            Credentials::long_term(&self.keys.0, &self.keys.1),
        )
        .unwrap();
        let plain = AssumeRole::new(&ROLE.replace("Demo", "Administrator"), "bench");
        let cut = cut();
        match asked {
            Asked::Role => client.assume_role(&plain).await.unwrap().credentials,
            Asked::CutRole => {
                let tags = cut.tags.into_iter().map(|t| (t.key, t.value)).collect();
                client
                    .assume_role(&AssumeRole {
                        policy: cut.policy,
                        tags,
                        ..plain
                    })
                    .await
                    .unwrap()
                    .credentials
            }
            Asked::Own => client.get_session_token(None).await.unwrap(),
            Asked::Mfa => {
                let made = client
                    .iam(
                        "CreateVirtualMFADevice",
                        &[("VirtualMFADeviceName", "bench")],
                    )
                    .await
                    .unwrap();
                let seed = made["VirtualMFADevice"]["Base32StringSeed"]
                    .as_str()
                    .unwrap();
                let seed = base64::Engine::decode(&base64::engine::general_purpose::STANDARD, seed)
                    .unwrap();
                let seed =
                    totp_rs::Secret::try_from_base32(std::str::from_utf8(&seed).unwrap()).unwrap();
                let totp = totp_rs::Builder::new().with_secret(seed).build().unwrap();
                let now = brevet::base::clock::Clock::now(&brevet::base::clock::SystemClock)
                    .seconds()
                    .unsigned_abs();
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
                client
                    .get_session_token(Some((serial, &code(now + 30))))
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

struct Redis(Child, u16);

impl Redis {
    fn start() -> Option<Self> {
        let port = std::net::TcpListener::bind("127.0.0.1:0")
            .unwrap()
            .local_addr()
            .unwrap()
            .port();
        let child = Command::new("redis-server")
            .args([
                "--port",
                &port.to_string(),
                "--save",
                "",
                "--appendonly",
                "no",
            ])
            .stdout(Stdio::null())
            .spawn()
            .ok()?;
        pin(child.id(), 1);
        std::thread::sleep(Duration::from_millis(300));
        Some(Self(child, port))
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn assume_role() -> pb::AssumeRoleRequest {
    pb::AssumeRoleRequest {
        role_arn: ROLE.to_owned(),
        role_session_name: "bench".to_owned(),
        ..pb::AssumeRoleRequest::default()
    }
}

/// The baseline: tonic's own server and codec, and nothing else.
fn echo(sign: bool) {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        println!("{}", listener.local_addr().unwrap());
        std::io::stdout().flush().unwrap();
        let key = ring::signature::Ed25519KeyPair::from_seed_unchecked(&[7; 32]).unwrap();
        let service = EchoService(sign.then(|| Arc::new(key)));
        let incoming =
            tonic::transport::server::TcpIncoming::from(listener).with_nodelay(Some(true));
        tonic::transport::Server::builder()
            .add_service(service)
            .serve_with_incoming(incoming)
            .await
            .unwrap();
    });
}

#[derive(Clone)]
struct EchoService(Option<Arc<ring::signature::Ed25519KeyPair>>);

impl tonic::server::NamedService for EchoService {
    const NAME: &'static str = brevet::api::SERVICE;
}

impl tower_service::Service<Request<Body>> for EchoService {
    type Response = Response<Body>;
    type Error = std::convert::Infallible;
    type Future =
        std::pin::Pin<Box<dyn Future<Output = Result<Response<Body>, Self::Error>> + Send>>;

    fn poll_ready(
        &mut self,
        _: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Result<(), Self::Error>> {
        std::task::Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let handler = self.clone();
        Box::pin(async move {
            let codec =
                tonic_prost::ProstCodec::<pb::AssumeRoleResponse, pb::AssumeRoleRequest>::default();
            Ok(tonic::server::Grpc::new(codec)
                .unary(Handler(handler), request)
                .await)
        })
    }
}

struct Handler(EchoService);

impl tower_service::Service<tonic::Request<pb::AssumeRoleRequest>> for Handler {
    type Response = tonic::Response<pb::AssumeRoleResponse>;
    type Error = Status;
    type Future = std::future::Ready<Result<Self::Response, Status>>;

    fn poll_ready(
        &mut self,
        _: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Result<(), Status>> {
        std::task::Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: tonic::Request<pb::AssumeRoleRequest>) -> Self::Future {
        let message = request.into_inner();
        let mut token = "t".repeat(560);
        if let Some(key) = &self.0.0 {
            token.push_str(&format!("{:02x}", key.sign(token.as_bytes()).as_ref()[0]));
        }
        let credentials = pb::Credentials {
            access_key_id: "ASIARTX3GSDSUVGMOSXK".to_owned(),
            secret_access_key: "s".repeat(40),
            session_token: token,
            expiration: Some(prost_types::Timestamp {
                seconds: 1_800_000_000,
                nanos: 0,
            }),
        };
        let user = pb::AssumedRoleUser {
            assumed_role_id: message.role_session_name,
            arn: message.role_arn,
        };
        std::future::ready(Ok(tonic::Response::new(pb::AssumeRoleResponse {
            credentials: Some(credentials),
            assumed_role_user: Some(user),
            packed_policy_size: 0,
            source_identity: String::new(),
        })))
    }
}
