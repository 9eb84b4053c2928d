//! Session records in a real redis-server that is killed, stopped or tampered with.

use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use brevet::base::clock::Clock;
use brevet::budgets::BudgetLimits;
use brevet::session::token::Ancestor;
use brevet::sessions::{Mode, RedisOptions, SessionRecord, Sessions, SessionsError};
use http::HeaderMap;

use crate::harness::*;
use crate::saml_idp::{Idp, Says};
use crate::saml_login::{self, PROVIDER, ROLE};

/// A redis-server for one test.
pub struct Redis {
    child: Child,
    pub port: u16,
    dir: tempfile::TempDir,
}

impl Redis {
    fn start() -> Self {
        Self::start_with(&[])
    }

    pub fn start_with(more: &[&str]) -> Self {
        // Somebody else may take the port in between.
        for _ in 0..5 {
            let port = free_port();
            let dir = tempfile::tempdir().unwrap();
            let mut redis = Self {
                child: spawn(port, dir.path(), more),
                port,
                dir,
            };
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
        assert!(
            self.answers(),
            "redis-server does not start: apt-get install redis-server"
        );
    }

    fn answers(&mut self) -> bool {
        for _ in 0..1_500 {
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

    pub fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    fn signal(&self, name: &str) {
        assert!(
            Command::new("kill")
                .args([name, &self.child.id().to_string()])
                .status()
                .unwrap()
                .success()
        );
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
            + u16::from_be_bytes(
                brevet::base::entropy::bytes(&brevet::base::entropy::SystemEntropy::new()).unwrap(),
            ) % 20_000;
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
    redis::cmd(arguments[0])
        .arg(&arguments[1..])
        .query(&mut connection)
}

fn keys(port: u16) -> Vec<String> {
    redis::from_redis_value(redis_command(port, &["KEYS", "*"]).unwrap()).unwrap()
}

fn records(port: u16) -> usize {
    keys(port)
        .iter()
        .filter(|k| k.contains(":session:"))
        .count()
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
        assert!(
            broker.assume(&alice, OPEN).await.is_ok(),
            "a session is minted without Redis"
        );
        assert!(
            broker.client(&before).get_caller_identity().await.is_ok(),
            "and verified"
        );
    }
    let ready = broker.operator("/readyz").await;
    assert!(
        ready.status == 200 && ready.body.contains("degraded"),
        "{}",
        ready.body
    );
    assert!(
        broker
            .operator("/metrics")
            .await
            .body
            .contains("brevet_session_store_up 0")
    );
    redis.restart();
    eventually("redis is used again", async || {
        broker.operator("/readyz").await.body == "ready\n"
    })
    .await;
    assert!(broker.client(&before).get_caller_identity().await.is_ok());
    // A record may be lost while the machine is so busy that Redis seems slow.
    eventually("a session has a record again", async || {
        broker.assume(&alice, OPEN).await.is_ok() && records(redis.port) > 0
    })
    .await;
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
    // The limit is 250 ms of looking for an answer; a busy machine looks less often.
    assert!(
        p99 <= Duration::from_millis(600),
        "p99 {p99:?} of {} calls",
        times.len()
    );
    assert!(
        times.last().unwrap() < &Duration::from_millis(800),
        "{:?}",
        times.last()
    );
    redis.signal("-CONT");
    eventually("redis is used again", async || {
        broker.operator("/readyz").await.body == "ready\n"
    })
    .await;
    // Late answers went to nobody: what is asked now gets its own answer.
    let session = broker.assume(&alice, OPEN).await.unwrap();
    assert!(broker.client(&session).get_caller_identity().await.is_ok());
}

/// Two brokers on one Redis, each with its own store, and a budget of 5 calls per second for a
/// principal.
async fn two_brokers(redis: &Redis) -> [Broker; 2] {
    let dir = stored_home().await;
    let path = dir.path().to_owned();
    let limits = BudgetLimits {
        principal_calls: std::num::NonZeroU32::new(5),
        ..BudgetLimits::OFF
    };
    let one = Broker::start_in(dir, |c| {
        in_the_store(c);
        (c.redis, c.budgets) = (Some(redis.options()), limits);
    })
    .await;
    let two = Broker::start_with(|c| {
        c.keyring = path.join("keyring.json");
        (c.redis, c.budgets) = (Some(redis.options()), limits);
    })
    .await;
    [one, two]
}

/// How many of twenty parallel calls succeed.
async fn passed(broker: &Broker, who: &str) -> usize {
    let mut passed = 0;
    for _ in 0..20 {
        let form = [
            ("Action", "GetAccessKeyInfo"),
            VERSION,
            ("AccessKeyId", &*user("alice").id),
        ];
        passed += usize::from(broker.query(Some(&user(who)), &form).await.code() != "Throttling");
    }
    passed
}

fn pass(brokers: &[Broker], seconds: u64) {
    for broker in brokers {
        broker.clock.pass(Duration::from_secs(seconds));
        broker.clock.advance(Duration::from_secs(seconds));
    }
}

/// Waits until each broker counts this many brokers, including itself.
async fn counted(brokers: &[Broker], number: usize) {
    for broker in brokers {
        eventually("the brokers are counted", async || {
            pass(std::slice::from_ref(broker), u64::from(number == 1));
            broker
                .operator("/metrics")
                .await
                .body
                .contains(&format!("\nbrevet_brokers {number}\n"))
        })
        .await;
    }
}

fn brokers_key(redis: &Redis) -> Option<String> {
    keys(redis.port)
        .into_iter()
        .find(|key| key.ends_with(":brokers"))
}

#[tokio::test]
async fn brokers_share_a_limit_and_each_has_the_whole_of_it_without_redis() {
    let mut redis = Redis::start();
    let brokers = two_brokers(&redis).await;
    counted(&brokers, 2).await;
    // Twice a second's calls may come at once: to both together.
    assert_eq!(
        (
            passed(&brokers[0], "alice").await,
            passed(&brokers[1], "alice").await
        ),
        (5, 5)
    );
    let metrics = brokers[0].operator("/metrics").await.body;
    assert!(
        metrics.contains("brevet_throttled_total{budget=\"principal\"}"),
        "{metrics}"
    );
    // One of them rests: what it leaves over is the other one's.
    eventually("the whole limit is this broker's", async || {
        pass(&brokers, 3);
        let passed = passed(&brokers[0], "alice").await;
        // Until the counts have been exchanged.
        tokio::time::sleep(Duration::from_millis(250)).await;
        passed == 10
    })
    .await;
    // It comes back, and has its equal share at once.
    assert!(passed(&brokers[1], "alice").await >= 5);
    redis.kill();
    counted(&brokers, 1).await;
    pass(&brokers, 5);
    assert_eq!(
        (
            passed(&brokers[0], "alice").await,
            passed(&brokers[1], "alice").await
        ),
        (10, 10)
    );
}

#[tokio::test]
async fn nobody_waits_for_counts_and_a_redis_that_hangs_costs_no_call_its_time() {
    let redis = Redis::start();
    let brokers = two_brokers(&redis).await;
    counted(&brokers, 2).await;
    redis.signal("-STOP");
    for _ in 0..5 {
        pass(&brokers, 5);
        let started = Instant::now();
        assert!(passed(&brokers[0], "alice").await >= 5);
        let each = started.elapsed() / 20;
        assert!(each < Duration::from_millis(50), "{each:?} for a call");
    }
    redis.signal("-CONT");
}

#[tokio::test]
async fn what_a_writer_of_redis_puts_there_refuses_nobody_and_leaves_every_broker_ready() {
    let redis = Redis::start();
    let brokers = two_brokers(&redis).await;
    counted(&brokers, 2).await;
    let session = brokers[0].assume(&user("alice"), OPEN).await.unwrap();
    let command = |arguments: &[&str]| redis_command(redis.port, arguments).unwrap();
    let counters = || {
        keys(redis.port)
            .into_iter()
            .filter(|key| key.contains(":calls:"))
            .collect::<Vec<_>>()
    };
    eventually("there are counters", async || !counters().is_empty()).await;
    let huge = i64::MAX.to_string();
    for hostile in [
        "1000000000",
        huge.as_str(),
        "-9223372036854775808",
        "not a number",
        "",
        "list",
        "gone",
    ] {
        pass(&brokers, 5);
        for broker in &brokers {
            passed(broker, "alice").await;
        }
        for key in counters() {
            command(&["DEL", &key]);
            match hostile {
                "list" => _ = command(&["RPUSH", &key, "1"]),
                "gone" => {}
                value => _ = command(&["SET", &key, value]),
            }
        }
        tokio::time::sleep(Duration::from_millis(300)).await;
        for round in 0..2 {
            pass(&brokers, 5);
            for broker in &brokers {
                let passed = passed(broker, "alice").await;
                assert!(
                    (5..=10).contains(&passed),
                    "{hostile:?}, round {round}: {passed} of 5 to 10 pass"
                );
            }
            tokio::time::sleep(Duration::from_millis(250)).await;
        }
        for broker in &brokers {
            let ready = broker.operator("/readyz").await;
            assert_eq!(ready.status, 200, "{hostile:?}: {}", ready.body);
        }
    }
    // Brokers that are none make no share smaller: not by their number, nor by what they say.
    let key = brokers_key(&redis).unwrap();
    for n in 0..500 {
        command(&[
            "ZADD",
            &key,
            "0",
            &format!("{:012x}:{n}", brokers[0].clock.now().seconds()),
        ]);
    }
    pass(&brokers, 5);
    tokio::time::sleep(Duration::from_millis(2_500)).await;
    assert!(passed(&brokers[0], "alice").await >= 5);
    counted(&brokers[..1], 2).await;
    command(&["DEL", &key]);
    command(&["SET", &key, "x"]);
    pass(&brokers, 5);
    tokio::time::sleep(Duration::from_millis(2_500)).await;
    assert!(passed(&brokers[0], "alice").await >= 5);
    let ready = brokers[0].operator("/readyz").await;
    assert!(
        ready.status == 200 && ready.body.contains("degraded: a key of this cluster"),
        "{}",
        ready.body
    );
    assert_eq!(brokers[0].who(&session).await, "ok");
}

#[tokio::test]
async fn listings_pass_over_what_names_no_session_and_what_is_in_a_records_place() {
    let redis = Redis::start();
    let broker = broker(&redis).await;
    let mut sessions = Vec::new();
    for _ in 0..3 {
        sessions.push(broker.assume(&user("alice"), OPEN).await.unwrap());
    }
    let index = keys(redis.port)
        .into_iter()
        .find(|key| key.ends_with(":sessions"))
        .unwrap();
    // 600 of them, so that whole pages hold nothing else.
    let client = redis::Client::open(format!("redis://127.0.0.1:{}", redis.port)).unwrap();
    let mut connection = client
        .get_connection_with_timeout(Duration::from_secs(1))
        .unwrap();
    let end = format!("{:012x}", now().seconds() + 600);
    for n in 0..600_u16 {
        let member = match n % 3 {
            0 => [end.as_bytes(), b":\xff\xfe", &n.to_be_bytes()].concat(),
            1 => format!("{end}:{n}").into_bytes(),
            _ => [b"\xff", n.to_be_bytes().as_slice()].concat(),
        };
        redis::cmd("ZADD")
            .arg(&index)
            .arg(0)
            .arg(member)
            .exec(&mut connection)
            .unwrap();
    }
    let list = async || {
        let request = brevet::api::sts::v1::ListSessionsRequest::default();
        broker
            .client(&user(ADMIN))
            .list_sessions(request)
            .await
            .map(|answer| (answer.sessions.len(), answer.unreadable))
    };
    assert_eq!(list().await.unwrap(), (3, 0));
    let left = redis_command(redis.port, &["ZCARD", &index]).unwrap();
    assert_eq!(
        left,
        redis::Value::Int(3),
        "what no broker has put there is gone"
    );
    // A record's key is taken for something else: the others are listed, and the broker stays ready.
    let record = keys(redis.port)
        .into_iter()
        .find(|key| key.contains(":session:"))
        .unwrap();
    redis_command(redis.port, &["DEL", &record]).unwrap();
    redis_command(redis.port, &["RPUSH", &record, "x"]).unwrap();
    assert_eq!(list().await.unwrap(), (2, 1), "it is never absent");
    let ready = broker.operator("/readyz").await;
    assert!(
        ready.status == 200 && ready.body.contains("degraded: a key of this cluster"),
        "{}",
        ready.body
    );
    assert!(
        broker
            .operator("/metrics")
            .await
            .body
            .contains("brevet_session_records_forged_total 1")
    );
    // So is the index: sessions are issued, and the broker stays ready.
    redis_command(redis.port, &["DEL", &index]).unwrap();
    redis_command(redis.port, &["SET", &index, "x"]).unwrap();
    assert!(broker.assume(&user("alice"), OPEN).await.is_ok());
    assert_eq!(broker.operator("/readyz").await.status, 200);
    assert!(list().await.is_err(), "not an empty list");
    for session in &sessions {
        assert_eq!(broker.who(session).await, "ok");
    }
}

#[tokio::test]
async fn a_caller_who_hangs_up_erases_nothing() {
    use tokio::io::AsyncWriteExt;
    let redis = Redis::start();
    let broker = broker(&redis).await;
    // A Redis that hangs keeps the call in progress long enough to leave it.
    redis.signal("-STOP");
    let body = encode(&[
        ("Action", "AssumeRole"),
        VERSION,
        ("RoleArn", OPEN),
        ("RoleSessionName", "hung-up"),
    ]);
    let mut headers = form_headers();
    broker.sign("/", &user("alice"), &mut headers, body.as_bytes());
    let mut request = format!(
        "POST / HTTP/1.1\r\nhost: {}\r\ncontent-length: {}\r\n",
        broker.address,
        body.len()
    );
    for (name, value) in &headers {
        request.push_str(&format!("{name}: {}\r\n", value.to_str().unwrap()));
    }
    let mut stream = tokio::net::TcpStream::connect(broker.address)
        .await
        .unwrap();
    stream
        .write_all(format!("{request}\r\n{body}").as_bytes())
        .await
        .unwrap();
    tokio::time::sleep(Duration::from_millis(100)).await;
    stream.set_zero_linger().unwrap();
    drop(stream);
    let path = broker.audit_path();
    assert!(
        !std::fs::read_to_string(&path).unwrap().contains("hung-up"),
        "the call was still in progress"
    );
    eventually("the call is on record", async || {
        std::fs::read_to_string(&path).unwrap().contains("hung-up")
    })
    .await;
    redis.signal("-CONT");
    let lines = broker.into_audit().await;
    assert!(lines.iter().any(|l| {
        l["responseElements"]["assumedRoleUser"]["arn"]
            .as_str()
            .is_some_and(|a| a.ends_with("/hung-up"))
    }));
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
        broker
            .client(&user("alice"))
            .assume_role(&request)
            .await
            .unwrap();
    }
    for bad in [
        "a\r\nSET x y",
        "*3\r\n$3\r\nSET",
        "nul\0nul",
        "{}",
        "glob*?[a]",
    ] {
        let request = brevet::client::AssumeRole::new(OPEN, bad);
        assert_eq!(
            code(
                &broker
                    .client(&user("alice"))
                    .assume_role(&request)
                    .await
                    .unwrap_err()
            ),
            "ValidationError",
            "{bad:?}"
        );
    }
    let keys: Vec<String> = keys(redis.port)
        .into_iter()
        .filter(|k| k.contains(":session:"))
        .collect();
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
async fn the_sessions_of_a_sign_in_are_found_among_very_many_others() {
    let redis = Redis::start();
    let broker = broker(&redis).await;
    let keyring = brevet::keyring_file::load(&broker.dir.path().join("keyring.json")).unwrap();
    let sessions = Sessions::in_redis(&redis.options(), Default::default()).unwrap();
    let now = now();
    let ancestor = |sign_in: u8| Ancestor {
        session_id: vec![sign_in; 16],
        access_key_id: "password of arn:aws:iam::111122223333:user/alice".to_owned(),
        ..Ancestor::default()
    };
    for n in 0..60_u8 {
        let record = SessionRecord {
            session_id: vec![n; 16],
            expires_at: now.seconds() + 1_000 + i64::from(n),
            ancestors: vec![ancestor(200 + n % 2)],
            ..SessionRecord::default()
        };
        sessions.record(&keyring, &record, now).await;
    }
    let listed = |limit, marker: String| {
        let (sessions, keyring) = (&sessions, &keyring);
        async move {
            let of = (&[200; 16], marker.as_str());
            let listed = sessions.list_of_sign_in(keyring, of, limit, now, |_| true);
            listed.await.unwrap()
        }
    };
    let page = listed(10, String::new()).await;
    let rest = listed(100, page.marker.clone()).await;
    assert_eq!((page.records.len(), rest.records.len()), (10, 20));
    let mut all = page.records.iter().chain(&rest.records);
    assert!(all.all(|record| record.ancestors[0].session_id == [200; 16]));
    // The index goes when the last session can have ended.
    let index = keys(redis.port)
        .into_iter()
        .find(|key| key.contains(":sign-in:"));
    let lives = redis_command(redis.port, &["TTL", &index.unwrap()]).unwrap();
    let lives: i64 = redis::from_redis_value(lives).unwrap();
    assert!((1_100..=129_600).contains(&lives), "{lives}");
}

#[tokio::test]
async fn st_12_records_that_were_tampered_with_are_errors() {
    let redis = Redis::start();
    let broker = broker(&redis).await;
    let (one, two) = (
        broker.assume(&user("alice"), OPEN).await.unwrap(),
        broker.assume(&user("alice"), OPEN).await.unwrap(),
    );
    let keyring = brevet::keyring_file::load(&broker.dir.path().join("keyring.json")).unwrap();
    let sessions = Sessions::in_redis(&redis.options(), Default::default()).unwrap();
    let id = |key: &str| -> [u8; 16] {
        let hex = key.rsplit(':').next().unwrap();
        std::array::from_fn(|i| u8::from_str_radix(&hex[2 * i..2 * i + 2], 16).unwrap())
    };
    let names: Vec<String> = keys(redis.port)
        .into_iter()
        .filter(|k| k.contains(":session:"))
        .collect();
    let found = sessions
        .find(&keyring, &id(&names[0]), now())
        .await
        .unwrap()
        .unwrap();
    assert!([&one.id, &two.id].contains(&&found.access_key_id));
    assert_eq!(
        found.ancestors[0].arn,
        "arn:aws:iam::111122223333:user/alice"
    );
    // Expiry is judged at use, whatever the store still holds.
    let later = brevet::base::clock::Timestamp::from_seconds(found.expires_at);
    assert_eq!(
        sessions
            .find(&keyring, &id(&names[0]), later)
            .await
            .unwrap(),
        None
    );
    // Swapped with another, valid one.
    redis_command(redis.port, &["COPY", &names[1], &names[0], "REPLACE"]).unwrap();
    assert_eq!(
        sessions.find(&keyring, &id(&names[0]), now()).await,
        Err(SessionsError::Forged)
    );
    // Edited, huge, of another type, deleted.
    redis_command(redis.port, &["SETRANGE", &names[1], "60", "x"]).unwrap();
    assert_eq!(
        sessions.find(&keyring, &id(&names[1]), now()).await,
        Err(SessionsError::Forged)
    );
    redis_command(redis.port, &["SET", &names[1], &"x".repeat(1 << 20)]).unwrap();
    assert_eq!(
        sessions.find(&keyring, &id(&names[1]), now()).await,
        Err(SessionsError::Forged)
    );
    redis_command(redis.port, &["DEL", &names[0]]).unwrap();
    assert_eq!(
        sessions.find(&keyring, &id(&names[0]), now()).await,
        Ok(None)
    );
    redis_command(redis.port, &["DEL", &names[1]]).unwrap();
    redis_command(redis.port, &["LPUSH", &names[1], "x"]).unwrap();
    assert_eq!(
        sessions.find(&keyring, &id(&names[1]), now()).await,
        Err(SessionsError::Forged)
    );
    assert!(
        broker.client(&one).get_caller_identity().await.is_ok(),
        "the token alone verifies a session"
    );
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
        "+incrby",
        "+expire",
    ];
    redis_command(guarded.port, &rules).unwrap();
    let password = |text: &str| Some(brevet::base::secret::Secret::new(text.to_owned()));
    let options = RedisOptions {
        username: Some("brevet".into()),
        password: password("a-password"),
        ..guarded.options()
    };
    record(options, "an ACL user").await;
    assert!(records(guarded.port) >= 2);
    let wrong = RedisOptions {
        username: Some("brevet".into()),
        password: password("wrong"),
        ..guarded.options()
    };
    let broker = Broker::start_with(|c| c.redis = Some(wrong)).await;
    assert!(broker.assume(&user("alice"), OPEN).await.is_ok());
    eventually("WRONGPASS is told", async || {
        broker
            .operator("/readyz")
            .await
            .body
            .contains("authentication failed")
    })
    .await;

    let primary = Redis::start();
    let sentinel_port = free_port();
    let config = primary.dir.path().join("sentinel.conf");
    std::fs::write(
        &config,
        format!(
            "port {sentinel_port}\nbind 127.0.0.1\nsentinel monitor brevet 127.0.0.1 {} 1\n",
            primary.port
        ),
    )
    .unwrap();
    let sentinel = Command::new("redis-server")
        .arg(&config)
        .arg("--sentinel")
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let sentinel = Redis {
        child: sentinel,
        port: sentinel_port,
        dir: tempfile::tempdir().unwrap(),
    };
    let mut waiting = sentinel;
    waiting.wait();
    let urls = vec![format!("redis://127.0.0.1:{sentinel_port}")];
    record(
        RedisOptions {
            mode: Mode::Sentinel {
                primary: "brevet".into(),
            },
            urls,
            ..primary.options()
        },
        "Sentinel",
    )
    .await;
    assert!(!keys(primary.port).is_empty());

    let node = Redis::start_with(&["--cluster-enabled", "yes"]);
    redis_command(node.port, &["CLUSTER", "ADDSLOTSRANGE", "0", "16383"]).unwrap();
    record(
        RedisOptions {
            mode: Mode::Cluster,
            ..node.options()
        },
        "a cluster",
    )
    .await;
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
    record(
        RedisOptions {
            urls: urls.clone(),
            ca: Some(ca.into_bytes()),
            ..secure.options()
        },
        "TLS",
    )
    .await;
    assert!(!keys(secure.port).is_empty());
    let broker = Broker::start_with(|c| {
        c.redis = Some(RedisOptions {
            urls,
            ca: Some(self::certificate().0.into_bytes()),
            ..secure.options()
        })
    })
    .await;
    assert!(broker.assume(&user("alice"), OPEN).await.is_ok());
    assert!(
        broker.operator("/readyz").await.body.contains("degraded"),
        "another CA is not trusted"
    );
}

#[tokio::test]
async fn st_03_a_stale_replica_that_is_promoted_revives_nothing() {
    let mut primary = Redis::start();
    let replica = Redis::start_with(&["--replicaof", "127.0.0.1", &primary.port.to_string()]);
    let sentinel_port = free_port();
    let file = primary.dir.path().join("sentinel.conf");
    let monitor = format!(
        "port {sentinel_port}\nbind 127.0.0.1\nsentinel monitor brevet 127.0.0.1 {} 1\n\
         sentinel down-after-milliseconds brevet 300\nsentinel failover-timeout brevet 1000\n",
        primary.port
    );
    std::fs::write(&file, monitor).unwrap();
    let child = Command::new("redis-server")
        .arg(&file)
        .arg("--sentinel")
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let mut sentinel = Redis {
        child,
        port: sentinel_port,
        dir: tempfile::tempdir().unwrap(),
    };
    sentinel.wait();
    let urls = vec![format!("redis://127.0.0.1:{sentinel_port}")];
    let options = RedisOptions {
        mode: Mode::Sentinel {
            primary: "brevet".into(),
        },
        urls,
        ..primary.options()
    };
    let broker = Broker::start_in(stored_home().await, |c| {
        in_the_store(c);
        c.redis = Some(options);
    })
    .await;
    let session = broker.assume(&user("alice"), OPEN).await.unwrap();
    // The replica stops listening: what comes now it never sees.
    redis_command(replica.port, &["REPLICAOF", "NO", "ONE"]).unwrap();
    broker
        .revoke(&user("admin"), Selector::AccessKeyId(session.id.clone()))
        .await
        .unwrap();
    primary.kill();
    redis_command(sentinel.port, &["SENTINEL", "REMOVE", "brevet"]).unwrap();
    let port = replica.port.to_string();
    redis_command(
        sentinel.port,
        &["SENTINEL", "MONITOR", "brevet", "127.0.0.1", &port, "1"],
    )
    .unwrap();
    assert_eq!(broker.who(&session).await, "InvalidClientTokenId");
    eventually("records go to the promoted one", async || {
        assert!(broker.assume(&user("alice"), OPEN).await.is_ok());
        records(replica.port) > 0
    })
    .await;
}

#[tokio::test]
async fn st_04_a_redis_that_lets_nobody_in_is_told_and_passes() {
    let redis = Redis::start();
    redis_command(
        redis.port,
        &[
            "ACL",
            "SETUSER",
            "brevet",
            "on",
            ">first",
            "~brevet:*",
            "+@all",
        ],
    )
    .unwrap();
    let password = |text: &str| Some(brevet::base::secret::Secret::new(text.to_owned()));
    let options = RedisOptions {
        username: Some("brevet".into()),
        password: password("first"),
        ..redis.options()
    };
    let broker = Broker::start_with(|c| c.redis = Some(options)).await;
    let is = async |what: &str, body: &str| {
        eventually(what, async || {
            let ready = broker.operator("/readyz").await;
            // A call now and then, so that trouble shows by itself as well as by the probe.
            let _ = broker.assume(&user("alice"), OPEN).await;
            ready.body.contains(body)
        })
        .await;
    };
    is("it is used", "ready\n").await;
    // The password is rotated under it, and put right again.
    redis_command(
        redis.port,
        &["ACL", "SETUSER", "brevet", "resetpass", ">second"],
    )
    .unwrap();
    redis_command(redis.port, &["CLIENT", "KILL", "USER", "brevet"]).unwrap();
    is(
        "WRONGPASS",
        "not ready: redis is not configured as a broker needs it",
    )
    .await;
    assert!(
        broker
            .operator("/metrics")
            .await
            .body
            .contains("brevet_session_store_fit 0")
    );
    assert!(
        broker.assume(&user("alice"), OPEN).await.is_ok(),
        "who is served all the same is served"
    );
    redis_command(
        redis.port,
        &["ACL", "SETUSER", "brevet", "resetpass", ">first"],
    )
    .unwrap();
    is("it is used again, without a restart", "ready\n").await;
    // A right is taken away, and given back.
    redis_command(redis.port, &["ACL", "SETUSER", "brevet", "-set"]).unwrap();
    is("NOPERM", "not ready").await;
    redis_command(redis.port, &["ACL", "SETUSER", "brevet", "+set"]).unwrap();
    is("it is used again", "ready\n").await;
    // No login where one is needed.
    let locked = Redis::start_with(&["--requirepass", "secret"]);
    let broker = Broker::start_with(|c| c.redis = Some(locked.options())).await;
    eventually("NOAUTH", async || {
        broker.operator("/readyz").await.status == 503
    })
    .await;
}

#[tokio::test]
async fn st_05_a_redis_that_may_drop_records_unnoticed_is_not_used() {
    let redis = Redis::start_with(&["--maxmemory-policy", "allkeys-lru"]);
    let broker = broker(&redis).await;
    eventually("an evicting policy", async || {
        let ready = broker.operator("/readyz").await;
        ready.status == 503 && ready.body.contains("allkeys-lru")
    })
    .await;
    let set =
        |policy| redis_command(redis.port, &["CONFIG", "SET", "maxmemory-policy", policy]).unwrap();
    set("noeviction");
    for (policy, status) in [
        ("noeviction", 200),
        ("volatile-ttl", 503),
        ("noeviction", 200),
    ] {
        set(policy);
        let started = Instant::now();
        while broker.operator("/readyz").await.status != status {
            assert!(started.elapsed() < Duration::from_secs(30), "{policy}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

#[tokio::test]
async fn st_06_a_full_redis_loses_records_and_no_revocation() {
    let redis = Redis::start_with(&["--maxmemory-policy", "noeviction"]);
    let options = redis.options();
    let broker = Broker::start_in(stored_home().await, |c| {
        in_the_store(c);
        c.redis = Some(options);
    })
    .await;
    let session = broker.assume(&user("alice"), OPEN).await.unwrap();
    redis_command(redis.port, &["CONFIG", "SET", "maxmemory", "1"]).unwrap();
    let unrecorded = broker.assume(&user("alice"), OPEN).await.unwrap();
    assert_eq!(broker.who(&unrecorded).await, "ok");
    assert!(
        broker.operator("/readyz").await.body.contains("degraded"),
        "the loss is told"
    );
    let lost = broker.operator("/metrics").await.body;
    assert!(
        !lost.contains("brevet_session_records_lost_total 0"),
        "and counted"
    );
    for keys in [&session, &unrecorded] {
        broker
            .revoke(&user("admin"), Selector::AccessKeyId(keys.id.clone()))
            .await
            .unwrap();
        assert_eq!(broker.who(keys).await, "InvalidClientTokenId");
    }
}

/// A Redis that is slow, sends byte by byte, disconnects, or sends too much or something else.
async fn odd_redis(behaviour: &'static str, real: u16) -> u16 {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        loop {
            let Ok((mut client, _)) = listener.accept().await else {
                return;
            };
            tokio::spawn(async move {
                let mut server = tokio::net::TcpStream::connect(("127.0.0.1", real)).await?;
                let (mut asked, mut answered) = (vec![0; 65_536], vec![0; 65_536]);
                loop {
                    tokio::select! {
                        read = client.read(&mut asked) => match read? {
                            0 => return Ok::<(), std::io::Error>(()),
                            // An error for everything but the greeting, as a server in that state gives it.
                            n if behaviour.starts_with('-') && !String::from_utf8_lossy(&asked[..n]).contains("CLIENT") => {
                                let commands = asked[..n].iter().filter(|b| **b == b'*').count().max(1);
                                client.write_all(format!("{behaviour}\r\n").repeat(commands).as_bytes()).await?;
                            }
                            n => server.write_all(&asked[..n]).await?,
                        },
                        read = server.read(&mut answered) => match read? {
                            0 => return Ok(()),
                            n => match behaviour {
                                "slow" => {
                                    tokio::time::sleep(Duration::from_millis(400)).await;
                                    client.write_all(&answered[..n]).await?;
                                }
                                "trickle" => {
                                    for byte in &answered[..n] {
                                        client.write_all(&[*byte]).await?;
                                        tokio::time::sleep(Duration::from_millis(100)).await;
                                    }
                                }
                                "cut" => {
                                    client.write_all(&answered[..n / 2]).await?;
                                    return Ok(());
                                }
                                "extra" => {
                                    client.write_all(b"$5\r\nextra\r\n").await?;
                                    client.write_all(&answered[..n]).await?;
                                }
                                _ => client.write_all(&answered[..n]).await?,
                            },
                        },
                    }
                }
            });
        }
    });
    port
}

#[tokio::test]
async fn a_long_record_is_a_record() {
    let redis = Redis::start();
    let keyring = brevet::session::keyring::Keyring::generate(
        &brevet::base::entropy::SystemEntropy::new(),
        now(),
    )
    .unwrap();
    let metrics = std::sync::Arc::<brevet::metrics::Metrics>::default();
    let sessions = Sessions::in_redis(&redis.options(), metrics.clone()).unwrap();
    // As earlier versions wrote it: fifty of the longest tags in four-byte characters.
    let tag = |n: usize| brevet::session::packing::TagClaim {
        key: format!("{n:03}{}", "𝔸".repeat(125)),
        value: "𝔸".repeat(256),
        transitive: false,
    };
    let record = brevet::sessions::SessionRecord {
        session_id: vec![7; 16],
        expires_at: now().seconds() + 3_600,
        tags: (0..50).map(tag).collect(),
        ..Default::default()
    };
    assert!(prost::Message::encoded_len(&record) > 76_000);
    sessions.record(&keyring, &record, now()).await;
    assert_eq!(
        sessions.find(&keyring, &[7; 16], now()).await,
        Ok(Some(record.clone()))
    );
    let listed = sessions
        .list(&keyring, "", 10, now(), |_| true)
        .await
        .unwrap();
    assert_eq!(
        (
            listed.records,
            listed.marker.as_str(),
            listed.unreadable,
            metrics.sessions_forged.get()
        ),
        (vec![record], "", 0, 0)
    );
}

/// Whoever writes to Redis refuses nobody: that a signature was used is believed of brokers only.
#[tokio::test]
async fn st_12_only_a_broker_says_that_a_signature_was_used() {
    let redis = Redis::start();
    let keyring = brevet::session::keyring::Keyring::generate(
        &brevet::base::entropy::SystemEntropy::new(),
        now(),
    )
    .unwrap();
    let [one, two] =
        [(); 2].map(|()| Sessions::in_redis(&redis.options(), Default::default()).unwrap());
    let span = Duration::from_secs(60);
    let claim =
        async |sessions: &Sessions, n: u8| sessions.claim_signature(&keyring, &[n; 16], span).await;
    assert_eq!(claim(&one, 1).await, Ok(true));
    assert_eq!(claim(&two, 1).await, Ok(false));
    // Its own claim is nobody else's use.
    assert_eq!(claim(&one, 1).await, Ok(true));
    let name = keys(redis.port)
        .into_iter()
        .find(|key| key.contains(":signature:"))
        .unwrap();
    let other = name.replace(&"01".repeat(16), &"02".repeat(16));
    assert_ne!(name, other);
    redis_command(redis.port, &["COPY", &name, &other]).unwrap();
    for forged in [
        other.clone(),
        name.replace(&"01".repeat(16), &"03".repeat(16)),
    ] {
        if forged != other {
            redis_command(redis.port, &["SET", &forged, "1"]).unwrap();
        }
        let n = if forged == other { 2 } else { 3 };
        assert_eq!(claim(&two, n).await, Err(SessionsError::Forged), "{forged}");
    }
}

#[tokio::test]
async fn st_07_no_late_or_foreign_answer_is_taken_for_an_answer() {
    let redis = Redis::start();
    let keyring = brevet::session::keyring::Keyring::generate(
        &brevet::base::entropy::SystemEntropy::new(),
        now(),
    )
    .unwrap();
    let straight = Sessions::in_redis(&redis.options(), Default::default()).unwrap();
    let record = |n: u8| brevet::sessions::SessionRecord {
        session_id: vec![n; 16],
        expires_at: now().seconds() + 3_600,
        ..Default::default()
    };
    for n in 1..=2 {
        straight.record(&keyring, &record(n), now()).await;
    }
    for behaviour in ["slow", "trickle", "cut", "extra"] {
        let port = odd_redis(behaviour, redis.port).await;
        let options = RedisOptions {
            urls: vec![format!("redis://127.0.0.1:{port}")],
            ..redis.options()
        };
        let odd = Sessions::in_redis(&options, Default::default()).unwrap();
        for n in [1, 2, 1, 2] {
            let started = Instant::now();
            // Right, or an error; never another one's record, never "absent".
            match odd.find(&keyring, &[n; 16], now()).await {
                Ok(Some(found)) => assert_eq!(found.session_id, vec![n; 16], "{behaviour}"),
                Ok(None) => panic!("{behaviour}: absent"),
                Err(_) => {}
            }
            assert!(
                started.elapsed() < Duration::from_millis(400),
                "{behaviour}: {:?}",
                started.elapsed()
            );
        }
    }
}

#[tokio::test]
async fn st_08_an_error_is_never_absent() {
    let redis = Redis::start();
    let keyring = brevet::session::keyring::Keyring::generate(
        &brevet::base::entropy::SystemEntropy::new(),
        now(),
    )
    .unwrap();
    for (answer, unfit) in [
        (
            "-READONLY You can't write against a read only replica.",
            true,
        ),
        ("-NOPERM this user has no permissions", true),
        ("-LOADING Redis is loading the dataset in memory", false),
        ("-MISCONF Redis is configured to save RDB snapshots", false),
        ("-NOREPLICAS Not enough good replicas to write.", false),
        ("-MOVED 1 127.0.0.1:1", false),
        ("-CLUSTERDOWN The cluster is down", false),
        (
            "-OOM command not allowed when used memory > 'maxmemory'",
            false,
        ),
        ("-ERR something else", false),
    ] {
        let port = odd_redis(answer, redis.port).await;
        let options = RedisOptions {
            urls: vec![format!("redis://127.0.0.1:{port}")],
            ..redis.options()
        };
        let odd = Sessions::in_redis(&options, Default::default()).unwrap();
        let found = odd.find(&keyring, &[1; 16], now()).await;
        assert!(
            matches!(found, Err(SessionsError::Unreachable(_))),
            "{answer}: {found:?}"
        );
        let standing = odd.standing();
        assert_eq!(
            matches!(standing, brevet::sessions::Standing::Unfit(_)),
            unfit,
            "{answer}: {standing:?}"
        );
        assert_ne!(standing, brevet::sessions::Standing::Up, "{answer}");
    }
    // One that is the key's own is not absent either.
    let port = odd_redis(
        "-WRONGTYPE Operation against a key holding the wrong kind of value",
        redis.port,
    )
    .await;
    let options = RedisOptions {
        urls: vec![format!("redis://127.0.0.1:{port}")],
        ..redis.options()
    };
    let odd = Sessions::in_redis(&options, Default::default()).unwrap();
    assert_eq!(
        odd.find(&keyring, &[1; 16], now()).await,
        Err(SessionsError::Forged)
    );
    assert_eq!(odd.standing(), brevet::sessions::Standing::Odd);
}

#[tokio::test]
async fn st_10_what_is_revoked_stays_so_whatever_becomes_of_redis() {
    let mut redis = Redis::start();
    let options = redis.options();
    let broker = Broker::start_in(stored_home().await, |c| {
        in_the_store(c);
        c.redis = Some(options);
    })
    .await;
    let session = broker.assume(&user("alice"), OPEN).await.unwrap();
    let yesterday = redis_command(redis.port, &["DUMP", &keys(redis.port)[0]]).unwrap();
    broker
        .revoke(&user("admin"), Selector::AccessKeyId(session.id.clone()))
        .await
        .unwrap();
    redis_command(redis.port, &["FLUSHALL"]).unwrap();
    assert_eq!(broker.who(&session).await, "InvalidClientTokenId");
    redis.kill();
    assert_eq!(broker.who(&session).await, "InvalidClientTokenId");
    redis.restart();
    assert!(!matches!(yesterday, redis::Value::Nil));
    eventually("it is used again", async || {
        broker.operator("/readyz").await.body == "ready\n"
    })
    .await;
    assert_eq!(broker.who(&session).await, "InvalidClientTokenId");
    assert!(broker.assume(&user("alice"), OPEN).await.is_ok());
}

#[tokio::test]
async fn sa_06_an_assertion_stays_used_whatever_becomes_of_redis() {
    let mut redis = Redis::start();
    let options = redis.options();
    let broker = Broker::start_in(stored_home().await, |c| {
        in_the_store(c);
        c.redis = Some(options);
    })
    .await;
    let idp = Idp::new("https://idp.example.com/saml");
    let (hand, declaration) = (broker.hand().await, saml_login::declaration(&idp));
    broker
        .reaches(hand.import(&declaration).await.unwrap())
        .await;
    // What was made before this store knew the past counts as used.
    broker.clock.advance(Duration::from_secs(60));
    let says = Says::new("once", ROLE, PROVIDER, broker.clock.now());
    let response = idp.response(&says);
    let code = async || {
        let answer = saml_login::login(&broker, &response, &[]).await;
        answer.code().to_owned()
    };
    assert_eq!(code().await, "ok");
    redis_command(redis.port, &["FLUSHALL"]).unwrap();
    assert_eq!(code().await, "IDPRejectedClaim");
    redis.kill();
    assert_eq!(code().await, "IDPRejectedClaim");
    redis.restart();
    eventually("it is used again", async || {
        broker.operator("/readyz").await.body == "ready\n"
    })
    .await;
    assert_eq!(code().await, "IDPRejectedClaim");
}

/// A CA, and the files of a server whose certificate it signed.
fn certificate() -> (String, tempfile::TempDir) {
    let dir = tempfile::tempdir().unwrap();
    let ca_key = rcgen::KeyPair::generate().unwrap();
    let mut ca = rcgen::CertificateParams::new(Vec::new()).unwrap();
    ca.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let pem = ca.self_signed(&ca_key).unwrap().pem();
    let issuer = rcgen::Issuer::from_params(&ca, &ca_key);
    let key = rcgen::KeyPair::generate().unwrap();
    let leaf = rcgen::CertificateParams::new(vec!["localhost".to_owned()])
        .unwrap()
        .signed_by(&key, &issuer)
        .unwrap();
    for (name, text) in [
        ("tls.crt", leaf.pem()),
        ("tls.key", key.serialize_pem()),
        ("ca.crt", pem.clone()),
    ] {
        std::fs::write(dir.path().join(name), text).unwrap();
    }
    (pem, dir)
}

#[tokio::test]
async fn a_signature_is_used_for_all_brokers_on_one_redis() {
    let mut redis = Redis::start();
    let dir = home();
    let once = |c: &mut brevet::config::Config| {
        c.single_use_signatures = true;
        c.redis = Some(redis.options());
    };
    let one = Broker::start_in(dir.clone(), once).await;
    let two = Broker::start_in(home_beside(&dir).await, once).await;
    let form = [
        ("Action", "AssumeRole"),
        VERSION,
        ("RoleArn", OPEN),
        ("RoleSessionName", "test-session"),
    ];
    // The same request, signed for the first broker, reaches both.
    let body = encode(&form);
    let mut headers = form_headers();
    one.sign("/", &user("alice"), &mut headers, body.as_bytes());
    headers.insert("host", one.address.to_string().parse().unwrap());
    let ask = async |broker: &Broker, headers: &HeaderMap| {
        broker
            .send("POST", "/", headers.clone(), body.clone().into_bytes())
            .await
            .code()
            .to_owned()
    };
    assert_eq!(ask(&one, &headers).await, "ok");
    assert_eq!(ask(&two, &headers).await, "Throttling");
    assert_eq!(ask(&one, &headers).await, "Throttling");
    let key = keys(redis.port)
        .into_iter()
        .find(|key| key.contains(":signature:"))
        .unwrap();
    let left = redis_command(redis.port, &["TTL", &key]).unwrap();
    assert!(matches!(left, redis::Value::Int(890..=901)), "{left:?}");
    // Without Redis each broker knows its own, and says so.
    redis.kill();
    one.clock.advance(Duration::from_secs(1));
    two.clock.advance(Duration::from_secs(1));
    let mut headers = form_headers();
    one.sign("/", &user("alice"), &mut headers, body.as_bytes());
    headers.insert("host", one.address.to_string().parse().unwrap());
    assert_eq!(ask(&one, &headers).await, "ok");
    assert_eq!(ask(&one, &headers).await, "Throttling");
    assert_eq!(ask(&two, &headers).await, "ok", "it cannot know");
    for broker in [&one, &two] {
        assert!(
            broker
                .operator("/metrics")
                .await
                .body
                .contains("brevet_signatures_unshared_total 1")
        );
    }
}

#[tokio::test]
async fn a_mark_that_may_be_another_brokers_stays_when_a_call_fails() {
    let redis = Redis::start();
    let broker = Broker::start_in(home(), |c| {
        c.single_use_signatures = true;
        c.redis = Some(redis.options());
    })
    .await;
    let signed = |role| {
        let body = encode(&[
            ("Action", "AssumeRole"),
            VERSION,
            ("RoleArn", role),
            ("RoleSessionName", "test-session"),
        ]);
        let mut headers = form_headers();
        broker.sign("/", &user("alice"), &mut headers, body.as_bytes());
        headers.insert("host", broker.address.to_string().parse().unwrap());
        (headers, body.into_bytes())
    };
    let (headers, body) = signed(OPEN);
    assert_eq!(broker.send("POST", "/", headers, body).await.code(), "ok");
    let key = keys(redis.port)
        .into_iter()
        .find(|key| key.contains(":signature:"))
        .unwrap();
    let (names, _) = key.rsplit_once(':').unwrap();
    // The mark of the next call is there already, and nobody knows whose it is.
    let (headers, body) = signed(CLOSED);
    let authorization = headers["authorization"].to_str().unwrap();
    let (_, signature) = authorization.split_once("Signature=").unwrap();
    let key = format!("{names}:{}", &signature[..32]);
    redis_command(redis.port, &["SET", &key, "unknown"]).unwrap();
    let answer = broker.send("POST", "/", headers, body).await;
    assert_eq!(answer.code(), "AccessDenied");
    let metrics = broker.operator("/metrics").await.body;
    assert!(
        metrics.contains("brevet_signatures_unshared_total 1"),
        "{metrics}"
    );
    let mark = redis_command(redis.port, &["GET", &key]).unwrap();
    assert_eq!(mark, redis::Value::BulkString(b"unknown".to_vec()));
}

/// The folder of a second broker, with copies of the same directory, keyring and store.
async fn home_beside(dir: &std::sync::Arc<tempfile::TempDir>) -> std::sync::Arc<tempfile::TempDir> {
    let second = tempfile::tempdir().unwrap();
    for file in ["directory.json", "keyring.json"] {
        let bytes = std::fs::read(dir.path().join(file)).unwrap();
        brevet::files::write_private(&second.path().join(file), &bytes).unwrap();
    }
    std::sync::Arc::new(second)
}
