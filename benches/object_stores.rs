//! What a decision about a request to an object store costs beside GetCallerIdentity, with the session of a role, and
//! what an evaluation of AuthZEN costs, with the key of a user, if it is allowed and if it is refused with a sealed
//! reason: in one process, without any wire.
//!
//! `cargo bench --all-features --bench object_stores` prints microseconds of one core. Where the machine is too
//! noisy for that, count instructions: run the program under `valgrind --tool=callgrind` with `decide 1000`
//! and `decide 2000`, and divide the difference by 1000; likewise with `identity` and `evaluation`.

use std::collections::HashMap;
use std::hint::black_box;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use brevet::audit::Target;
use brevet::authn::Evidence;
use brevet::authzen;
use brevet::base::arn::AccountId;
use brevet::base::clock::{Clock, SystemClock, Timestamp};
use brevet::base::digest::sha256;
use brevet::base::entropy::SystemEntropy;
use brevet::base::secret::Secret;
use brevet::broker::Broker;
use brevet::budgets::BudgetLimits;
use brevet::client::{AssumeRole, Client, Credentials, Endpoint};
use brevet::config::Config;
use brevet::ops;
use brevet::ops::s3::decide::{Decision, decide};
use brevet::ops::sts::get_caller_identity::GetCallerIdentity;
use brevet::origin::Origin;
use brevet::proof::sigv4::s3::{S3Request, authorization};
use brevet::proof::sigv4::{Incoming, Presented, Signer, SigningSecret};
use brevet::s3::{Bucket, Head, S3Store, StoreKey, StoreRules, Style};
use brevet::session::keyring::Keyring;
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request};
use http_body_util::Full;
use rustix::time::{ClockId, clock_gettime};

const HOST: &str = "s3.example.com";
const OWNER: (&str, &str) = (
    "AKIABENCHBENCHBENCH1",
    "0123456789abcdefghijklmnopqrstuvwxyzABCD",
);
/// How many items a call of AuthZEN has that asks about many.
const ITEMS: usize = 100;
/// A user to whom everything is allowed, and one to whom nothing is.
const USERS: [&str; 2] = ["owner", "nobody"];
/// The path of an object that the role may read, and of one that it may not, as the client means them.
const ALLOWED: &str = "/reports/team/2026/november/report 42.csv";
const REFUSED: &str = "/reports/board/2026/november/report 42.csv";
const EMPTY: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
const POLICY: &str = r#"{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":["s3:GetObject","s3:PutObject"],"Resource":"arn:aws:s3:::reports/${aws:userid}/*"},{"Effect":"Allow","Action":"s3:GetObject","Resource":"arn:aws:s3:::reports/team/*","Condition":{"IpAddress":{"aws:SourceIp":"127.0.0.0/8"}}},{"Effect":"Deny","Action":"*","Resource":"*","Condition":{"Bool":{"aws:SecureTransport":"false"}}}]}"#;

fn main() {
    let words: Vec<String> = std::env::args().collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .unwrap();
    let world = runtime.block_on(World::start());
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        match words.as_slice() {
            [_, "decide", times, ..] => world.decide(ALLOWED, times.parse().unwrap()).await,
            [_, "refuse", times, ..] => world.decide(REFUSED, times.parse().unwrap()).await,
            [_, "identity", times, ..] => world.identity(times.parse().unwrap()).await,
            [_, "evaluation", times, ..] => {
                world.evaluation("owner", 1, times.parse().unwrap()).await
            }
            _ => {
                // Each once before it counts, and in turns, so that the machine's mood is the same.
                world.decide(ALLOWED, 2_000).await;
                world.decide(REFUSED, 2_000).await;
                world.identity(2_000).await;
                world.evaluation("owner", 1, 2_000).await;
                let (mut decide, mut refuse, mut identity) = (f64::MAX, f64::MAX, f64::MAX);
                let mut evaluations = [[f64::MAX; 2]; 2];
                for _ in 0..5 {
                    decide = decide.min(cpu(world.decide(ALLOWED, 10_000)).await);
                    refuse = refuse.min(cpu(world.decide(REFUSED, 10_000)).await);
                    identity = identity.min(cpu(world.identity(10_000)).await);
                    for (user, [one, many]) in USERS.iter().zip(&mut evaluations) {
                        *one = one.min(cpu(world.evaluation(user, 1, 10_000)).await);
                        // A tenth of the calls, for the time of 10,000.
                        *many = many.min(cpu(world.evaluation(user, ITEMS, 1_000)).await * 10.0);
                    }
                }
                println!("decide on a head:    {decide:.1} us, {refuse:.1} us if it is refused");
                println!("GetCallerIdentity:   {identity:.1} us");
                println!("difference:          {:.1} us", decide - identity);
                for ([one, many], what) in evaluations.iter().zip(["allowed", "refused"]) {
                    let rate = 1e6 / one;
                    println!(
                        "AuthZEN evaluation:  {one:.1} us, {rate:.0} a second, if it is {what}"
                    );
                    let each = (many - one) / (ITEMS - 1) as f64;
                    println!("each further item:   {each:.2} us");
                }
            }
        }
    });
}

/// The microseconds of this thread for one of 10,000 calls.
async fn cpu(calls: impl Future<Output = ()>) -> f64 {
    let now = || {
        let time = clock_gettime(ClockId::ThreadCPUTime);
        Duration::new(time.tv_sec.unsigned_abs(), time.tv_nsec as u32)
    };
    let begun = now();
    calls.await;
    (now() - begun).as_secs_f64() * 1e6 / 10_000.0
}

struct World {
    running: brevet::server::Running,
    _dir: tempfile::TempDir,
    store: S3Store,
    keys: Credentials,
    origin: Origin,
}

impl World {
    async fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let role = r#"{"RoleName":"Worker","Arn":"arn:aws:iam::111122223333:role/Worker","AssumeRolePolicyDocument":{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":{"AWS":"111122223333"},"Action":"sts:AssumeRole"}]},"RolePolicyList":[{"PolicyName":"own","PolicyDocument":POLICY}]}"#.replace("POLICY", POLICY);
        let (id, secret) = OWNER;
        let directory = format!(
            r#"{{"UserDetailList":[{{"UserName":"owner","Arn":"arn:aws:iam::111122223333:user/owner","UserPolicyList":[{{"PolicyName":"own","PolicyDocument":{{"Version":"2012-10-17","Statement":[{{"Effect":"Allow","Action":"*","Resource":"*"}}]}}}}]}},{{"UserName":"nobody","Arn":"arn:aws:iam::111122223333:user/nobody"}}],"RoleDetailList":[{role}],"Brevet":{{"AccessKeys":[{{"AccessKeyId":"{id}","SecretAccessKey":"{secret}","UserArn":"arn:aws:iam::111122223333:user/owner"}}]}}}}"#
        );
        let at = |name: &str| dir.path().join(name);
        brevet::files::write_private(&at("directory.json"), directory.as_bytes()).unwrap();
        let keyring = Keyring::generate(&SystemEntropy::new(), SystemClock.now()).unwrap();
        brevet::keyring_file::save(&keyring, &at("keyring.json")).unwrap();
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        let config = Config {
            operator: any,
            regions: vec!["us-east-1".into()],
            directory: Some(at("directory.json")),
            audit: Target::Discard,
            budgets: BudgetLimits::OFF,
            ..Config::in_folder(dir.path(), any)
        };
        let entropy = Arc::new(SystemEntropy::new());
        let running = brevet::server::start(config, Arc::new(SystemClock), entropy)
            .await
            .unwrap();
        let endpoint = Endpoint {
            url: format!("http://{}", running.address),
            region: "us-east-1".into(),
            ca_pem: None,
        };
        let owner = Credentials::long_term(OWNER.0, OWNER.1);
        let client = Client::new(&endpoint, owner).unwrap();
        let role = AssumeRole::new("arn:aws:iam::111122223333:role/Worker", "bench");
        let keys = client.assume_role(&role).await.unwrap().credentials;
        Self {
            running,
            _dir: dir,
            store: store(),
            keys,
            origin: Origin {
                source_ip: [127, 0, 0, 1].into(),
                secure_transport: true,
                user_agent: Some("aws-cli/2 Boto3/1 md/Botocore#1".into()),
                referer: None,
                certificate: None,
                call: None,
            },
        }
    }

    fn broker(&self) -> &Arc<Broker> {
        &self.running.broker
    }

    fn token(&self) -> &str {
        self.keys.session_token.as_ref().unwrap().expose()
    }

    async fn identity(&self, times: usize) {
        let body = b"Action=GetCallerIdentity&Version=2011-06-15";
        let signer = Signer {
            access_key_id: &self.keys.access_key_id,
            secret_access_key: self.keys.secret_access_key.expose().as_bytes(),
            session_token: Some(self.token()),
            region: "us-east-1",
            service: "sts",
        };
        let host = self.running.address.to_string();
        let mut headers = HeaderMap::new();
        let payload = sha256(body);
        let now = SystemClock.now();
        signer
            .sign("POST", "/", &host, &mut headers, &payload, now)
            .unwrap();
        for _ in 0..times {
            let incoming = Incoming {
                method: "POST",
                path: "/",
                query: &[],
                headers: &headers,
                host: &host,
                payload_sha256: sha256(black_box(body)),
            };
            let evidence = Evidence::signed(Presented::read(&incoming).unwrap());
            let origin = self.origin.clone();
            let reply =
                ops::serve(self.broker(), Ok(evidence), Ok(GetCallerIdentity), origin).await;
            assert!(reply.result.is_ok());
        }
    }

    /// Calls of AuthZEN about so many items of this user, each signed by the service.
    async fn evaluation(&self, user: &str, items: usize, times: usize) {
        let user =
            format!(r#""subject":{{"type":"user","id":"{user}"}},"action":{{"name":"read"}}"#);
        let record = |n: usize| format!(r#""resource":{{"type":"record","id":"record-{n}"}}"#);
        let (endpoint, path, body) = match items {
            1 => {
                let body = format!("{{{user},{}}}", record(1));
                (authzen::Endpoint::Evaluation, "/access/v1/evaluation", body)
            }
            _ => {
                let each: Vec<String> = (0..items).map(|n| format!("{{{}}}", record(n))).collect();
                let body = format!(r#"{{{user},"evaluations":[{}]}}"#, each.join(","));
                (
                    authzen::Endpoint::Evaluations,
                    "/access/v1/evaluations",
                    body,
                )
            }
        };
        let signer = Signer {
            access_key_id: OWNER.0,
            secret_access_key: OWNER.1.as_bytes(),
            session_token: None,
            region: "us-east-1",
            service: "sts",
        };
        let host = self.running.address.to_string();
        let mut headers = HeaderMap::new();
        headers.insert("host", HeaderValue::from_str(&host).unwrap());
        headers.insert("content-type", HeaderValue::from_static("application/json"));
        let payload = sha256(body.as_bytes());
        let now = SystemClock.now();
        signer
            .sign("POST", path, &host, &mut headers, &payload, now)
            .unwrap();
        let body = Bytes::from(body);
        for _ in 0..times {
            let mut request = Request::new(Full::new(black_box(&body).clone()));
            *request.method_mut() = http::Method::POST;
            *request.uri_mut() = http::Uri::from_static(path);
            *request.headers_mut() = headers.clone();
            let origin = self.origin.clone();
            let answer = authzen::serve(self.broker(), origin, endpoint, request).await;
            assert!(answer.status().is_success(), "{}", answer.status());
        }
    }

    async fn decide(&self, object: &str, times: usize) {
        let path = object.replace(' ', "%20");
        let headers = self.signed(object, SystemClock.now());
        for _ in 0..times {
            let head = Head {
                method: "GET",
                path: black_box(&path),
                authority: HOST,
                headers: &headers,
                body: None,
                size: None,
            };
            let decision = decide(self.broker(), &self.store, head, self.origin.clone()).await;
            let is_allowed = matches!(decision, Decision::Allow { .. });
            assert_eq!(is_allowed, object == ALLOWED);
        }
    }

    /// The headers of a request as an SDK sends them.
    fn signed(&self, path: &str, now: Timestamp) -> Vec<(String, String)> {
        let date = now.to_amz();
        let own = [
            ("host", HOST),
            ("x-amz-checksum-mode", "ENABLED"),
            ("x-amz-content-sha256", EMPTY),
            ("x-amz-date", &date),
            ("x-amz-security-token", self.token()),
        ];
        let owned = |(n, v): &(&str, &str)| ((*n).to_owned(), (*v).to_owned());
        let mut headers: Vec<(String, String)> = own.iter().skip(1).map(owned).collect();
        let secret = self.keys.secret_access_key.expose().clone();
        let secret = SigningSecret::new(Secret::new(secret));
        let request = S3Request {
            method: "GET",
            path,
            query: &[],
            headers: &headers,
            host: HOST,
        };
        let signer = (self.keys.access_key_id.as_str(), &secret);
        let value = authorization(signer, "us-east-1", now, &request, |_| false, &own, EMPTY);
        headers.push(("authorization".into(), value));
        for (name, value) in [
            ("user-agent", "aws-cli/2 Boto3/1 md/Botocore#1"),
            ("accept-encoding", "identity"),
            ("amz-sdk-request", "attempt=1"),
        ] {
            headers.push((name.into(), value.into()));
        }
        headers
    }
}

fn store() -> S3Store {
    let rules = StoreRules {
        style: Style::Path,
        names: vec![HOST.into()],
        keeps_slashes: false,
        takes_trailers: true,
        region: "us-east-1".into(),
    };
    let key = StoreKey {
        access_key_id: "AKIASTORESTORESTORE0".into(),
        secret: SigningSecret::new(Secret::new(
            "a-secret-of-the-store-with-40-characters".into(),
        )),
    };
    let bucket = Bucket {
        account: AccountId::parse("111122223333").unwrap(),
        cors: Vec::new(),
    };
    S3Store {
        buckets: HashMap::from([("reports".to_owned(), bucket)]),
        ..S3Store::new("main".into(), rules, "store.internal:8333".into(), key)
    }
}
