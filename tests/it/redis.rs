//! Session records in a real redis-server that is killed, stopped and tampered with.

use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use brevet::sessions::{Mode, RedisOptions, Sessions, SessionsError};

use crate::harness::*;

/// A redis-server of this test's own.
struct Redis {
    child: Child,
    port: u16,
    dir: tempfile::TempDir,
}

impl Redis {
    fn start() -> Self {
        Self::start_with(&[])
    }

    fn start_with(more: &[&str]) -> Self {
        // Somebody else may take the port in between.
        for _ in 0..5 {
            let port = free_port();
            let dir = tempfile::tempdir().unwrap();
            let mut redis = Self { child: spawn(port, dir.path(), more), port, dir };
            if redis.answers() {
                return redis;
            }
        }
        panic!("redis-server does not start: apt-get install redis-server");
    }

    fn restart(&mut self) {
        self.child = spawn(self.port, self.dir.path(), &[]);
        self.wait();
    }

    fn wait(&mut self) {
        assert!(self.answers(), "redis-server does not start: apt-get install redis-server");
    }

    fn answers(&mut self) -> bool {
        for _ in 0..250 {
            // Not somebody else's server on its port.
            if self.child.try_wait().unwrap().is_some() {
                return false;
            }
            let answer = redis_command(self.port, &["PING"]);
            if answer.is_ok() || answer.is_err_and(|e| e.code() == Some("NOAUTH")) {
                return true;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        false
    }

    fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    fn signal(&self, name: &str) {
        assert!(Command::new("kill").args([name, &self.child.id().to_string()]).status().unwrap().success());
    }

    fn options(&self) -> RedisOptions {
        RedisOptions {
            mode: Mode::Single,
            urls: vec![format!("redis://127.0.0.1:{}", self.port)],
            username: None,
            password: None,
            ca: None,
        }
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn free_port() -> u16 {
    // Below the range that the system hands out by itself, and with room for a cluster's second port.
    loop {
        let port = 10_000
            + u16::from_be_bytes(brevet::entropy::bytes(&brevet::entropy::SystemEntropy::new()).unwrap()) % 20_000;
        if std::net::TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}

fn spawn(port: u16, dir: &std::path::Path, more: &[&str]) -> Child {
    Command::new("redis-server")
        .args([
            "--port",
            &port.to_string(),
            "--bind",
            "127.0.0.1",
            "--save",
            "",
            "--appendonly",
            "no",
            "--dir",
            dir.to_str().unwrap(),
        ])
        .args(more)
        .stdout(Stdio::null())
        .spawn()
        .expect("redis-server: apt-get install redis-server")
}

fn redis_command(port: u16, arguments: &[&str]) -> redis::RedisResult<redis::Value> {
    let client = redis::Client::open(format!("redis://127.0.0.1:{port}"))?;
    let mut connection = client.get_connection_with_timeout(Duration::from_secs(1))?;
    redis::cmd(arguments[0]).arg(&arguments[1..]).query(&mut connection)
}

fn keys(port: u16) -> Vec<String> {
    redis::from_redis_value(redis_command(port, &["KEYS", "*"]).unwrap()).unwrap()
}

fn records(port: u16) -> usize {
    keys(port).iter().filter(|k| k.contains(":session:")).count()
}

async fn broker(redis: &Redis) -> Broker {
    let options = redis.options();
    Broker::start_with(|c| c.redis = Some(options)).await
}

#[tokio::test]
async fn st_01_redis_killed_and_restarted_empty_refuses_nobody() {
    let mut redis = Redis::start();
    let broker = broker(&redis).await;
    let alice = user("alice");
    let before = broker.assume(&alice, OPEN).await.unwrap();
    assert_eq!(records(redis.port), 1);
    redis.kill();
    for _ in 0..20 {
        assert!(broker.assume(&alice, OPEN).await.is_ok(), "a session is minted without Redis");
        assert!(broker.client(&before).get_caller_identity().await.is_ok(), "and verified");
    }
    let ready = broker.operator("/readyz").await;
    assert!(ready.status == 200 && ready.body.contains("degraded"), "{}", ready.body);
    assert!(broker.operator("/metrics").await.body.contains("brevet_session_store_up 0"));
    redis.restart();
    let started = Instant::now();
    eventually("redis is used again", async || broker.operator("/readyz").await.body == "ready\n").await;
    assert!(started.elapsed() < Duration::from_secs(5));
    assert!(broker.client(&before).get_caller_identity().await.is_ok());
    assert!(broker.assume(&alice, OPEN).await.is_ok());
    assert_eq!(records(redis.port), 1);
}

#[tokio::test]
async fn st_02_a_redis_that_hangs_costs_nobody_more_than_its_deadline() {
    let redis = Redis::start();
    let broker = broker(&redis).await;
    let alice = user("alice");
    assert!(broker.assume(&alice, OPEN).await.is_ok());
    redis.signal("-STOP");
    let mut times = Vec::new();
    let until = Instant::now() + Duration::from_secs(4);
    while Instant::now() < until {
        let started = Instant::now();
        assert!(broker.assume(&alice, OPEN).await.is_ok());
        times.push(started.elapsed());
    }
    times.sort();
    let p99 = times[times.len() * 99 / 100];
    assert!(p99 <= Duration::from_millis(300), "p99 {p99:?} of {} calls", times.len());
    assert!(times.last().unwrap() < &Duration::from_millis(800), "{:?}", times.last());
    redis.signal("-CONT");
    eventually("redis is used again", async || broker.operator("/readyz").await.body == "ready\n").await;
    // Late answers went to nobody: what is asked now gets its own answer.
    let session = broker.assume(&alice, OPEN).await.unwrap();
    assert!(broker.client(&session).get_caller_identity().await.is_ok());
}

#[tokio::test]
async fn a_caller_who_hangs_up_erases_nothing() {
    use tokio::io::AsyncWriteExt;
    let redis = Redis::start();
    let broker = broker(&redis).await;
    // A Redis that hangs keeps the call in progress long enough to leave it.
    redis.signal("-STOP");
    let body = encode(&[("Action", "AssumeRole"), VERSION, ("RoleArn", OPEN), ("RoleSessionName", "hung-up")]);
    let mut headers = form_headers();
    broker.sign("/", &user("alice"), &mut headers, body.as_bytes());
    let mut request = format!("POST / HTTP/1.1\r\nhost: {}\r\ncontent-length: {}\r\n", broker.address, body.len());
    for (name, value) in &headers {
        request.push_str(&format!("{name}: {}\r\n", value.to_str().unwrap()));
    }
    let mut stream = tokio::net::TcpStream::connect(broker.address).await.unwrap();
    stream.write_all(format!("{request}\r\n{body}").as_bytes()).await.unwrap();
    tokio::time::sleep(Duration::from_millis(100)).await;
    stream.set_zero_linger().unwrap();
    drop(stream);
    let path = broker.audit_path();
    assert!(!std::fs::read_to_string(&path).unwrap().contains("hung-up"), "the call was still in progress");
    eventually("the call is on record", async || std::fs::read_to_string(&path).unwrap().contains("hung-up")).await;
    redis.signal("-CONT");
    let lines = broker.into_audit().await;
    assert!(
        lines
            .iter()
            .any(|l| l["responseElements"]["assumedRoleUser"]["arn"].as_str().is_some_and(|a| a.ends_with("/hung-up")))
    );
}

#[tokio::test]
async fn st_11_hostile_names_are_stored_literally() {
    let redis = Redis::start();
    let broker = broker(&redis).await;
    for (key, value) in [("a:b", "x/y=z"), ("{tag}", "@"), ("k", "+- .:")] {
        let request = brevet::client::AssumeRole {
            tags: vec![(key.replace(['{', '}'], "_"), value.to_owned())],
            ..brevet::client::AssumeRole::new(OPEN, "na,me=+@.-")
        };
        broker.client(&user("alice")).assume_role(&request).await.unwrap();
    }
    for bad in ["a\r\nSET x y", "*3\r\n$3\r\nSET", "nul\0nul", "{}", "glob*?[a]"] {
        let request = brevet::client::AssumeRole::new(OPEN, bad);
        assert_eq!(
            code(&broker.client(&user("alice")).assume_role(&request).await.unwrap_err()),
            "ValidationError",
            "{bad:?}"
        );
    }
    let keys: Vec<String> = keys(redis.port).into_iter().filter(|k| k.contains(":session:")).collect();
    assert_eq!(keys.len(), 3);
    for key in keys {
        let parts: Vec<&str> = key.split(':').collect();
        assert!(
            matches!(parts[..], ["brevet", cluster, "session", id] if cluster.len() == 16 && id.len() == 32),
            "{key}"
        );
    }
}

#[tokio::test]
async fn st_12_records_that_were_tampered_with_are_errors() {
    let redis = Redis::start();
    let broker = broker(&redis).await;
    let (one, two) =
        (broker.assume(&user("alice"), OPEN).await.unwrap(), broker.assume(&user("alice"), OPEN).await.unwrap());
    let keyring = brevet::keyring_file::load(&broker.dir.path().join("keyring.json")).unwrap();
    let sessions = Sessions::in_redis(&redis.options(), Default::default()).unwrap();
    let id = |key: &str| -> [u8; 16] {
        let hex = key.rsplit(':').next().unwrap();
        std::array::from_fn(|i| u8::from_str_radix(&hex[2 * i..2 * i + 2], 16).unwrap())
    };
    let names: Vec<String> = keys(redis.port).into_iter().filter(|k| k.contains(":session:")).collect();
    let found = sessions.find(&keyring, &id(&names[0]), now()).await.unwrap().unwrap();
    assert!([&one.id, &two.id].contains(&&found.access_key_id));
    assert_eq!(found.ancestors[0].arn, "arn:aws:iam::111122223333:user/alice");
    // Expiry is judged at use, whatever the store still holds.
    let later = brevet::clock::Timestamp::from_seconds(found.expires_at);
    assert_eq!(sessions.find(&keyring, &id(&names[0]), later).await.unwrap(), None);
    // Swapped with another, valid one.
    redis_command(redis.port, &["COPY", &names[1], &names[0], "REPLACE"]).unwrap();
    assert_eq!(sessions.find(&keyring, &id(&names[0]), now()).await, Err(SessionsError::Forged));
    // Edited, huge, of another type, deleted.
    redis_command(redis.port, &["SETRANGE", &names[1], "60", "x"]).unwrap();
    assert_eq!(sessions.find(&keyring, &id(&names[1]), now()).await, Err(SessionsError::Forged));
    redis_command(redis.port, &["SET", &names[1], &"x".repeat(1 << 20)]).unwrap();
    assert_eq!(sessions.find(&keyring, &id(&names[1]), now()).await, Err(SessionsError::Forged));
    redis_command(redis.port, &["DEL", &names[0]]).unwrap();
    assert_eq!(sessions.find(&keyring, &id(&names[0]), now()).await, Ok(None));
    redis_command(redis.port, &["DEL", &names[1]]).unwrap();
    redis_command(redis.port, &["LPUSH", &names[1], "x"]).unwrap();
    assert!(matches!(sessions.find(&keyring, &id(&names[1]), now()).await, Err(SessionsError::Unreachable(_))));
    assert!(broker.client(&one).get_caller_identity().await.is_ok(), "the token alone verifies a session");
    drop(two);
}

#[tokio::test]
async fn sentinel_cluster_acl_and_tls_hold_records_too() {
    let record = async |options: RedisOptions, what: &str| {
        let broker = Broker::start_with(|c| c.redis = Some(options)).await;
        // A cluster needs a moment after its slots are given out.
        eventually(what, async || {
            broker.assume(&user("alice"), OPEN).await.unwrap();
            broker.operator("/readyz").await.body == "ready\n"
        })
        .await;
        broker.assume(&user("alice"), OPEN).await.unwrap();
        assert_eq!(broker.operator("/readyz").await.body, "ready\n", "{what}");
    };

    let guarded = Redis::start();
    let rules = [
        "ACL",
        "SETUSER",
        "brevet",
        "on",
        ">a-password",
        "~brevet:*",
        "+get",
        "+set",
        "+zadd",
        "+zrange",
        "+zremrangebylex",
        "+info",
    ];
    redis_command(guarded.port, &rules).unwrap();
    let password = |text: &str| Some(brevet::secret::Secret::new(text.to_owned()));
    let options =
        RedisOptions { username: Some("brevet".into()), password: password("a-password"), ..guarded.options() };
    record(options, "an ACL user").await;
    assert!(records(guarded.port) >= 2);
    let wrong = RedisOptions { username: Some("brevet".into()), password: password("wrong"), ..guarded.options() };
    let broker = Broker::start_with(|c| c.redis = Some(wrong)).await;
    assert!(broker.assume(&user("alice"), OPEN).await.is_ok());
    eventually("WRONGPASS is told", async || broker.operator("/readyz").await.body.contains("authentication failed"))
        .await;

    let primary = Redis::start();
    let sentinel_port = free_port();
    let config = primary.dir.path().join("sentinel.conf");
    std::fs::write(
        &config,
        format!("port {sentinel_port}\nbind 127.0.0.1\nsentinel monitor brevet 127.0.0.1 {} 1\n", primary.port),
    )
    .unwrap();
    let sentinel = Command::new("redis-server").arg(&config).arg("--sentinel").stdout(Stdio::null()).spawn().unwrap();
    let sentinel = Redis { child: sentinel, port: sentinel_port, dir: tempfile::tempdir().unwrap() };
    let mut waiting = sentinel;
    waiting.wait();
    let urls = vec![format!("redis://127.0.0.1:{sentinel_port}")];
    record(RedisOptions { mode: Mode::Sentinel { primary: "brevet".into() }, urls, ..primary.options() }, "Sentinel")
        .await;
    assert!(!keys(primary.port).is_empty());

    let node = Redis::start_with(&["--cluster-enabled", "yes"]);
    redis_command(node.port, &["CLUSTER", "ADDSLOTSRANGE", "0", "16383"]).unwrap();
    record(RedisOptions { mode: Mode::Cluster, ..node.options() }, "a cluster").await;
    assert!(!keys(node.port).is_empty());

    let (ca, files) = certificate();
    let tls_port = free_port();
    let [certificate, key, ca_file] =
        ["tls.crt", "tls.key", "ca.crt"].map(|f| files.path().join(f).to_str().unwrap().to_owned());
    let port = tls_port.to_string();
    let secure = Redis::start_with(&[
        "--tls-port",
        &port,
        "--tls-cert-file",
        &certificate,
        "--tls-key-file",
        &key,
        "--tls-ca-cert-file",
        &ca_file,
        "--tls-auth-clients",
        "no",
    ]);
    let urls = vec![format!("rediss://localhost:{tls_port}")];
    record(RedisOptions { urls: urls.clone(), ca: Some(ca.into_bytes()), ..secure.options() }, "TLS").await;
    assert!(!keys(secure.port).is_empty());
    let broker = Broker::start_with(|c| {
        c.redis = Some(RedisOptions { urls, ca: Some(self::certificate().0.into_bytes()), ..secure.options() })
    })
    .await;
    assert!(broker.assume(&user("alice"), OPEN).await.is_ok());
    assert!(broker.operator("/readyz").await.body.contains("degraded"), "another CA is not trusted");
}

/// A CA, and files for a server that it vouches for.
fn certificate() -> (String, tempfile::TempDir) {
    let dir = tempfile::tempdir().unwrap();
    let ca_key = rcgen::KeyPair::generate().unwrap();
    let mut ca = rcgen::CertificateParams::new(Vec::new()).unwrap();
    ca.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let pem = ca.self_signed(&ca_key).unwrap().pem();
    let issuer = rcgen::Issuer::from_params(&ca, &ca_key);
    let key = rcgen::KeyPair::generate().unwrap();
    let leaf = rcgen::CertificateParams::new(vec!["localhost".to_owned()]).unwrap().signed_by(&key, &issuer).unwrap();
    for (name, text) in [("tls.crt", leaf.pem()), ("tls.key", key.serialize_pem()), ("ca.crt", pem.clone())] {
        std::fs::write(dir.path().join(name), text).unwrap();
    }
    (pem, dir)
}
