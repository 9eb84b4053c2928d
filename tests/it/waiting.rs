//! Calls that wait for the database, and the data on which they are decided after the wait.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use brevet::api::sts::v1 as pb;
use brevet::client::AssumeRole;
use brevet::commands::Edit;
use brevet::directory::resource::{Resource, ResourceKind};
use brevet::store::Entry;
use sqlx::{Connection, PgConnection};

use crate::harness::*;
use crate::mfa::{SERIAL, code, session_token};
use crate::postgres::{CUT, PASS, Postgres, Wire, brokers, quantiles};

const ALICE: &str = "arn:aws:iam::111122223333:user/alice";
const DENY: &str =
    r#"{"Version":"2012-10-17","Statement":[{"Effect":"Deny","Action":"*","Resource":"*"}]}"#;
/// The tables that are read for an MFA code, and those that count attempts.
const READ: &str = "spent_steps";
const WRITTEN: &str = "mfa_failures";

/// A transaction of another program, which locks tables of PostgreSQL.
struct Locked(PgConnection);

impl Locked {
    async fn tables(postgres: &Postgres, tables: &str) -> Self {
        let mut connection = PgConnection::connect(&postgres.url()).await.unwrap();
        sqlx::raw_sql("BEGIN")
            .execute(&mut connection)
            .await
            .unwrap();
        let sql = format!("LOCK TABLE {tables} IN ACCESS EXCLUSIVE MODE");
        sqlx::raw_sql(sqlx::AssertSqlSafe(sql))
            .execute(&mut connection)
            .await
            .unwrap();
        Self(connection)
    }

    async fn release(mut self) {
        sqlx::raw_sql("ROLLBACK")
            .execute(&mut self.0)
            .await
            .unwrap();
    }
}

/// The value of a metric; 0 if it is not there yet.
async fn metric(broker: &Broker, name: &str) -> i64 {
    let text = broker.operator("/metrics").await.body;
    let line = text.lines().find_map(|line| {
        line.strip_prefix(name)?
            .strip_prefix(' ')
            .map(str::to_owned)
    });
    line.map_or(0, |value| value.parse().unwrap())
}

/// Calls GetSessionToken with a code. Returns the code of the refusal.
async fn attempt(broker: &Broker, keys: &Keys, token_code: &str) -> String {
    let form = [
        ("Action", "GetSessionToken"),
        VERSION,
        ("SerialNumber", SERIAL),
        ("TokenCode", token_code),
    ];
    broker.query(Some(keys), &form).await.code().to_owned()
}

/// Revokes a new session on one broker. Returns how long the answer took, after checking that both
/// refuse the session.
async fn revoke_one(one: &Broker, other: &Broker) -> Duration {
    let session = one.assume(&user("alice"), OPEN).await.unwrap();
    assert_eq!(other.who(&session).await, "ok");
    let selector = Some(Selector::AccessKeyId(session.id.clone()));
    let request = pb::RevokeSessionsRequest {
        selector,
        ..Default::default()
    };
    let started = Instant::now();
    let answer = one
        .client(&user(ADMIN))
        .revoke_sessions(request)
        .await
        .unwrap();
    let took = started.elapsed();
    assert_eq!((answer.nodes_connected, answer.nodes_confirmed), (2, 2));
    assert_eq!(
        [one.who(&session).await, other.who(&session).await],
        ["InvalidClientTokenId", "InvalidClientTokenId"]
    );
    took
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_revocation_waits_for_no_call_however_many_there_are() {
    let postgres = Postgres::start();
    let ([one, two], _hand) = brokers(&postgres, [postgres.port; 2]).await;
    for broker in [&one, &two] {
        broker.clock.advance(Duration::from_secs(120));
    }
    let (one, two) = (Arc::new(one), Arc::new(two));
    // Every look-up and every attempt now hangs until its deadline.
    let locked = Locked::tables(&postgres, &format!("{READ}, {WRITTEN}")).await;
    let stop = Arc::new(AtomicBool::new(false));
    let mut flood = Vec::new();
    for n in 0..200 {
        let (one, stop) = (one.clone(), stop.clone());
        // A malformed code is counted without a look-up.
        let given = if n % 2 == 0 { "12345" } else { "123456" };
        flood.push(tokio::spawn(async move {
            let mut heard = Vec::new();
            while !stop.load(Ordering::SeqCst) {
                let started = Instant::now();
                heard.push((
                    attempt(&one, &user("alice"), given).await,
                    started.elapsed(),
                ));
                // It is the database that is slow here, and not the processor.
                tokio::time::sleep(Duration::from_millis(250)).await;
            }
            heard
        }));
    }
    eventually("the queues are full", async || {
        metric(&one, "brevet_store_waiting{pool=\"write\"}").await == 64
    })
    .await;
    let mut times = Vec::new();
    for n in 0..20 {
        times.push(if n % 2 == 0 {
            revoke_one(&one, &two).await
        } else {
            revoke_one(&two, &one).await
        });
        assert!(metric(&one, "brevet_store_waiting{pool=\"read\"}").await <= 64);
    }
    assert_eq!(metric(&one, "brevet_feed_age_seconds").await, 0);
    assert_eq!(metric(&one, "brevet_revocations_pending_nodes").await, 0);
    assert_eq!(one.operator("/readyz").await.body, "ready\n");
    tokio::time::sleep(Duration::from_millis(2_500)).await;
    stop.store(true, Ordering::SeqCst);
    let (mut heard, mut longest) = (BTreeMap::<String, usize>::new(), Duration::ZERO);
    for lane in flood {
        for (code, took) in lane.await.unwrap() {
            *heard.entry(code).or_default() += 1;
            longest = longest.max(took);
        }
    }
    let (p50, p99, most) = quantiles(times);
    println!(
        "revocations under the flood: p50 {p50:?}, p99 {p99:?}, max {most:?}; the flood: {heard:?}, {longest:?}"
    );
    assert!(most < Duration::from_secs(1), "{most:?}");
    assert_eq!(
        heard.keys().collect::<Vec<_>>(),
        ["ServiceUnavailable", "Throttling"],
        "nothing else is said"
    );
    assert!(longest < Duration::from_secs(5), "{longest:?}");
    for reason in ["store_queue", "store_deadline"] {
        assert!(
            metric(&one, &format!("brevet_shed_total{{reason=\"{reason}\"}}")).await > 0,
            "{reason}"
        );
    }
    locked.release().await;
    assert!(
        session_token(&one, &user("alice"), Some((SERIAL, &code(&one, 0))))
            .await
            .is_ok(),
        "nothing was counted"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_hangs_up_leaves_the_queue() {
    let postgres = Postgres::start();
    let ([one], _hand) = brokers(&postgres, [postgres.port]).await;
    let one = Arc::new(one);
    let _locked = Locked::tables(&postgres, WRITTEN).await;
    let waiting = async || metric(&one, "brevet_store_waiting{pool=\"write\"}").await;
    let mut calls = Vec::new();
    for _ in 0..50 {
        let one = one.clone();
        calls.push(tokio::spawn(async move {
            attempt(&one, &user("alice"), "12345").await
        }));
    }
    eventually("they wait", async || waiting().await >= 40).await;
    let hung_up = Instant::now();
    calls.iter().for_each(|call| call.abort());
    eventually("they are gone", async || waiting().await == 0).await;
    assert!(
        hung_up.elapsed() < Duration::from_millis(1_500),
        "before their deadline: {:?}",
        hung_up.elapsed()
    );
    // Each is on record all the same, as a call that was refused.
    let path = one.dir.path().join("audit-0.jsonl");
    let refused = || {
        let text = std::fs::read_to_string(&path).unwrap();
        text.lines()
            .filter(|l| l.contains("GetSessionToken") && l.contains("ServiceUnavailable"))
            .count()
    };
    eventually("they are on record", async || refused() >= 40).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_sqlite_a_revocation_goes_before_the_calls_that_queue() {
    let broker = Arc::new(Broker::start_stored().await);
    let hand = broker.hand().await;
    let session = broker.assume(&user("alice"), OPEN).await.unwrap();
    // Somebody else writes, and one call waits for that; the others wait for the call.
    let lock = hand.store.write().await.unwrap();
    let mut calls = Vec::new();
    for _ in 0..200 {
        let broker = broker.clone();
        calls.push(tokio::spawn(async move {
            attempt(&broker, &user("alice"), "12345").await
        }));
    }
    let waiting = async || metric(&broker, "brevet_store_waiting{pool=\"write\"}").await;
    eventually("the queue is full", async || waiting().await == 64).await;
    let started = Instant::now();
    let revoked = tokio::spawn({
        let (broker, id) = (broker.clone(), session.id.clone());
        async move { broker.revoke(&user(ADMIN), Selector::AccessKeyId(id)).await }
    });
    tokio::time::sleep(Duration::from_millis(200)).await;
    lock.abandon().await;
    revoked.await.unwrap().unwrap();
    assert!(
        started.elapsed() < Duration::from_secs(1),
        "{:?}",
        started.elapsed()
    );
    assert_eq!(broker.who(&session).await, "InvalidClientTokenId");
    let mut heard = BTreeMap::<String, usize>::new();
    for call in calls {
        *heard.entry(call.await.unwrap()).or_default() += 1;
    }
    assert!(heard["Throttling"] >= 60, "beyond the queue: {heard:?}");
    assert!(
        heard["ValidationError"] <= 5 && heard.contains_key("AccessDenied"),
        "five, then locked: {heard:?}"
    );
}

/// Starts an AssumeRole with a valid code, runs something while the call waits for the database, and
/// returns the answer.
async fn meanwhile(
    postgres: &Postgres,
    broker: &Arc<Broker>,
    keys: &Keys,
    happen: impl AsyncFn(),
) -> Result<Keys, String> {
    // Time for a new code.
    broker.clock.advance(Duration::from_secs(30));
    let locked = Locked::tables(postgres, READ).await;
    let mfa = Some((SERIAL.to_owned(), code(broker, 0)));
    let request = AssumeRole {
        mfa,
        ..AssumeRole::new(OPEN, "session")
    };
    let call = tokio::spawn({
        let client = broker.client(keys);
        async move {
            client
                .assume_role(&request)
                .await
                .map(|r| Keys::from(&r.credentials))
        }
    });
    // The call is on its way when the database has it waiting.
    let mut watch = PgConnection::connect(&postgres.url()).await.unwrap();
    eventually("the call waits", async || {
        let sql = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE '%drift%'";
        sqlx::query_scalar::<_, i64>(sql).fetch_one(&mut watch).await.unwrap() > 0
    })
    .await;
    happen().await;
    locked.release().await;
    call.await.unwrap().map_err(|e| crate::harness::code(&e))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_that_waited_is_decided_on_what_holds_when_it_is_decided() {
    let postgres = Postgres::start();
    let ([broker], hand) = brokers(&postgres, [postgres.port]).await;
    let broker = Arc::new(broker);
    broker.clock.advance(Duration::from_secs(120));
    let alice = user("alice");
    let edit = async |kind, id: &str, edit| {
        let number = hand.edit(kind, id, edit).await.unwrap();
        broker.reaches(number).await;
    };
    assert!(
        meanwhile(&postgres, &broker, &alice, async || {})
            .await
            .is_ok(),
        "positive control"
    );

    let denied = meanwhile(&postgres, &broker, &alice, async || {
        edit(
            ResourceKind::User,
            ALICE,
            Edit::PutPolicy("deny".into(), DENY.into()),
        )
        .await;
    });
    assert_eq!(
        denied.await.unwrap_err(),
        "AccessDenied",
        "a Deny that came meanwhile"
    );
    edit(ResourceKind::User, ALICE, Edit::DeletePolicy("deny".into())).await;

    let disabled = meanwhile(&postgres, &broker, &alice, async || {
        edit(ResourceKind::AccessKey, &alice.id, Edit::SetActive(false)).await;
    });
    assert_eq!(
        disabled.await.unwrap_err(),
        "InvalidClientTokenId",
        "a key that was disabled meanwhile"
    );
    edit(ResourceKind::AccessKey, &alice.id, Edit::SetActive(true)).await;

    let session = session_token(&broker, &alice, None).await.unwrap();
    let revoked = meanwhile(&postgres, &broker, &session, async || {
        broker
            .revoke(&user(ADMIN), Selector::AccessKeyId(session.id.clone()))
            .await
            .unwrap();
    });
    assert_eq!(
        revoked.await.unwrap_err(),
        "InvalidClientTokenId",
        "a session that was revoked meanwhile"
    );

    let form = [
        ("Action", "GetSessionToken"),
        VERSION,
        ("DurationSeconds", "900"),
    ];
    let answer = broker.query(Some(&alice), &form).await;
    let session = answer.credentials();
    let ended = meanwhile(&postgres, &broker, &session, async || {
        broker.clock.advance(Duration::from_secs(870))
    });
    assert_eq!(
        ended.await.unwrap_err(),
        "ExpiredToken",
        "a session that ended meanwhile"
    );

    let closed = meanwhile(&postgres, &broker, &alice, async || {
        edit(
            ResourceKind::Role,
            OPEN,
            Edit::UpdateAssumeRolePolicy(
                r#"{"Version":"2012-10-17","Statement":[{"Effect":"Deny","Principal":"*","Action":"sts:AssumeRole"}]}"#
                    .into(),
            ),
        )
        .await;
    });
    assert_eq!(
        closed.await.unwrap_err(),
        "AccessDenied",
        "a role that was closed meanwhile"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_device_that_is_taken_away_while_its_code_is_looked_up_proves_nothing() {
    let postgres = Postgres::start();
    let ([broker], hand) = brokers(&postgres, [postgres.port]).await;
    let broker = Arc::new(broker);
    broker.clock.advance(Duration::from_secs(120));
    let alice = user("alice");
    let released = meanwhile(&postgres, &broker, &alice, async || {
        let number = hand
            .edit(ResourceKind::MfaDevice, SERIAL, Edit::ReleaseMfaDevice)
            .await
            .unwrap();
        broker.reaches(number).await;
    });
    assert_eq!(released.await.unwrap_err(), "AccessDenied");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn mf_01_a_locked_user_and_a_spent_code_are_refused_without_the_database() {
    let postgres = Postgres::start();
    let ([broker], _hand) = brokers(&postgres, [postgres.port]).await;
    let broker = Arc::new(broker);
    broker.clock.advance(Duration::from_secs(120));
    let alice = user("alice");
    let right = code(&broker, 0);
    assert!(
        session_token(&broker, &alice, Some((SERIAL, &right)))
            .await
            .is_ok()
    );
    let tables = format!("{READ}, {WRITTEN}");
    let locked = Locked::tables(&postgres, &tables).await;
    let started = Instant::now();
    for _ in 0..20 {
        let refused = session_token(&broker, &alice, Some((SERIAL, &right)))
            .await
            .unwrap_err();
        assert!(
            refused.contains("invalid MFA one time pass code"),
            "{refused}"
        );
    }
    locked.release().await;
    for _ in 0..5 {
        assert!(
            !session_token(&broker, &alice, Some((SERIAL, "12345")))
                .await
                .unwrap_err()
                .contains("too many")
        );
    }
    let locked = Locked::tables(&postgres, &tables).await;
    for serial in [SERIAL, "arn:aws:iam::111122223333:mfa/other"] {
        for given in ["12345", "123456", &code(&broker, 1)] {
            let refused = session_token(&broker, &alice, Some((serial, given)))
                .await
                .unwrap_err();
            assert!(refused.contains("too many invalid"), "{refused}");
        }
    }
    let codes = [
        ("AuthenticationCode1", "123456"),
        ("AuthenticationCode2", "123456"),
    ];
    let resync = [[("UserName", "alice"), ("SerialNumber", SERIAL)], codes].concat();
    let refused = broker
        .client(&user(ADMIN))
        .iam("ResyncMFADevice", &resync)
        .await
        .unwrap_err();
    assert_eq!(
        crate::harness::code(&refused),
        "EntityTemporarilyUnmodifiable"
    );
    assert!(
        started.elapsed() < Duration::from_secs(2),
        "{:?}",
        started.elapsed()
    );
    locked.release().await;
    broker.clock.advance(Duration::from_secs(900));
    assert!(
        session_token(&broker, &alice, Some((SERIAL, &code(&broker, 0))))
            .await
            .is_ok(),
        "it ends with the lock"
    );
}

#[tokio::test]
async fn mf_01_on_sqlite_a_locked_user_writes_nothing() {
    let broker = Broker::start_stored().await;
    broker.clock.advance(Duration::from_secs(120));
    for _ in 0..5 {
        assert_eq!(
            attempt(&broker, &user("alice"), "12345").await,
            "ValidationError"
        );
    }
    let hand = broker.hand().await;
    let lock = hand.store.write().await.unwrap();
    let started = Instant::now();
    for given in ["12345", "123456", &code(&broker, 0)] {
        assert_eq!(
            attempt(&broker, &user("alice"), given).await,
            "AccessDenied"
        );
    }
    assert!(
        started.elapsed() < Duration::from_secs(1),
        "{:?}",
        started.elapsed()
    );
    lock.abandon().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_lacks_the_permission_is_refused_without_the_database() {
    let postgres = Postgres::start();
    let ([broker], _hand) = brokers(&postgres, [postgres.port]).await;
    broker.clock.advance(Duration::from_secs(120));
    // Bob has no policy at all.
    let bob = broker.client(&user("bob"));
    postgres.signal("-STOP");
    let started = Instant::now();
    let (device, nobody) = (("SerialNumber", SERIAL), ("UserName", "nobody"));
    let codes = [
        ("AuthenticationCode1", "123456"),
        ("AuthenticationCode2", "123456"),
    ];
    let both = [vec![nobody, device], codes.to_vec()].concat();
    for (action, parameters) in [
        (
            "CreateVirtualMFADevice",
            vec![("VirtualMFADeviceName", "x")],
        ),
        ("EnableMFADevice", both.clone()),
        ("ResyncMFADevice", both),
        ("DeactivateMFADevice", vec![nobody, device]),
        ("DeleteVirtualMFADevice", vec![device]),
        ("ListMFADevices", vec![nobody]),
        ("ListMFADevices", vec![("UserName", "ALICE")]),
        ("ListVirtualMFADevices", vec![]),
    ] {
        let refused = bob.iam(action, &parameters).await.unwrap_err();
        assert_eq!(crate::harness::code(&refused), "AccessDenied", "{action}");
    }
    assert_eq!(
        broker
            .revoke(&user("bob"), Selector::RoleArn(OPEN.into()))
            .await
            .unwrap_err(),
        "AccessDenied"
    );
    // A code of one's own makes no difference where it could not help.
    let mfa = Some((SERIAL.to_owned(), code(&broker, 0)));
    let closed = AssumeRole {
        mfa,
        ..AssumeRole::new(CLOSED, "session")
    };
    let refused = broker
        .client(&user("alice"))
        .assume_role(&closed)
        .await
        .unwrap_err();
    assert_eq!(crate::harness::code(&refused), "AccessDenied");
    assert_eq!(
        attempt(&broker, &user("denied"), "123456").await,
        "AccessDenied"
    );
    assert!(
        started.elapsed() < Duration::from_secs(1),
        "{:?}",
        started.elapsed()
    );
    postgres.signal("-CONT");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_is_not_heard_of_is_pending_until_it_refuses_everybody() {
    let postgres = Postgres::start();
    let wire = Wire::to(postgres.port).await;
    let ([near, mut far], _hand) = brokers(&postgres, [postgres.port, wire.port]).await;
    let mut sql = PgConnection::connect(&postgres.url()).await.unwrap();
    let revoke = async || {
        let selector = Some(Selector::RoleArn(CLOSED.into()));
        let request = pb::RevokeSessionsRequest {
            selector,
            ..Default::default()
        };
        let started = Instant::now();
        let answer = near
            .client(&user(ADMIN))
            .revoke_sessions(request)
            .await
            .unwrap();
        let pending = i64::try_from(answer.pending.len()).unwrap();
        assert_eq!(
            metric(&near, "brevet_revocations_pending_nodes").await,
            pending
        );
        (
            (answer.nodes_connected, answer.nodes_confirmed, pending),
            started.elapsed(),
        )
    };
    assert_eq!(revoke().await.0, (2, 2, 0));
    let said: i64 = sqlx::query_scalar("SELECT min(refuse_after) FROM nodes")
        .fetch_one(&mut sql)
        .await
        .unwrap();
    assert_eq!(said, 60, "each says after how long it refuses everybody");
    // Cut off. The database's clock is not moved, so the last report is.
    wire.set(CUT);
    assert_eq!(
        revoke().await.0,
        (2, 1, 1),
        "heard of a moment ago, and waited for"
    );
    let mut silent_for = async |seconds: i64| {
        let update = "UPDATE nodes SET seen_at = CAST(EXTRACT(EPOCH FROM now()) AS BIGINT) - $1 \
                      WHERE confirmed < (SELECT sequence FROM store)";
        let done = sqlx::query(update)
            .bind(seconds)
            .execute(&mut sql)
            .await
            .unwrap();
        assert_eq!(done.rows_affected(), 1);
    };
    for seconds in [12, 60] {
        silent_for(seconds).await;
        let (answer, took) = revoke().await;
        assert_eq!(
            answer,
            (2, 1, 1),
            "silent for {seconds} s, and may accept sessions"
        );
        assert!(
            took < Duration::from_secs(1),
            "it is not waited for: {took:?}"
        );
    }
    // With room for a report that is older than the last look at the feed.
    silent_for(75).await;
    assert_eq!(
        revoke().await.0,
        (1, 1, 0),
        "it has refused everybody by itself"
    );
    wire.set(PASS);
    eventually("it is back", async || revoke().await.0 == (2, 2, 0)).await;
    far.stop().await;
    assert_eq!(
        revoke().await.0,
        (1, 1, 0),
        "whoever leaves is not waited for"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_revocation_binds_where_many_changes_cannot_be_taken() {
    let postgres = Postgres::start();
    let ([near, far], hand) = brokers(&postgres, [postgres.port; 2]).await;
    let session = near.assume(&user("alice"), OPEN).await.unwrap();
    assert_eq!(far.who(&session).await, "ok");
    // A thing that no broker can load, and so many changes of it that they are not taken one by one.
    let broken = serde_json::json!({"Path": "/", "RoleName": "Closed", "RoleId": "AROACLOSEDCLOSEDCLO1",
        "Arn": CLOSED, "AssumeRolePolicyDocument": {"Version": "2012-10-17", "Statement": [{"Effect": "Maybe"}]}});
    let broken = Resource::parse(ResourceKind::Role, &broken.to_string()).unwrap();
    let mut writer = hand.store.write_much().await.unwrap();
    for _ in 0..300 {
        let entry = Entry {
            changed_at: now(),
            actor: "{}".to_owned(),
            action: "UpdateRole",
            kind: "role",
            id: CLOSED.to_owned(),
            detail: "{}".to_owned(),
        };
        writer.record(&entry).await.unwrap();
    }
    writer.put(&broken).await.unwrap();
    writer.commit().await.unwrap();
    let head = hand.store.head().await.unwrap().sequence;
    let selector = Some(Selector::AccessKeyId(session.id.clone()));
    let request = pb::RevokeSessionsRequest {
        selector,
        ..Default::default()
    };
    let answer = near
        .client(&user(ADMIN))
        .revoke_sessions(request)
        .await
        .unwrap();
    assert_eq!(
        (answer.sequence_number, answer.nodes_confirmed),
        (head + 1, 0),
        "neither says that it has all"
    );
    eventually("it binds all the same", async || {
        far.who(&session).await == "InvalidClientTokenId"
    })
    .await;
    assert!(far.running.as_ref().unwrap().broker.feed.sequence() < head);
}

#[tokio::test]
async fn a_body_that_never_comes_to_its_end_is_given_up_after_ten_seconds() {
    let broker = Broker::start().await;
    let broker = &broker.running.as_ref().unwrap().broker;
    for path in ["/", "/oauth2/token"] {
        let body = http_body_util::StreamBody::new(futures_util::stream::pending::<
            Result<http_body::Frame<bytes::Bytes>, std::convert::Infallible>,
        >());
        let request = http::Request::post(path).body(body).unwrap();
        let origin = brevet::origin::Origin {
            source_ip: [127, 0, 0, 1].into(),
            secure_transport: false,
            user_agent: None,
            referer: None,
            certificate: None,
            call: None,
        };
        tokio::time::pause();
        let started = tokio::time::Instant::now();
        let response = match path {
            "/" => brevet::query::serve(broker, origin, request).await,
            _ => brevet::oauth::token::serve(broker, origin, request).await,
        };
        let took = started.elapsed();
        tokio::time::resume();
        assert!((10..20).contains(&took.as_secs()), "{path}: {took:?}");
        assert_eq!(response.headers()["connection"], "close", "{path}");
        assert_eq!(response.status(), if path == "/" { 408 } else { 503 });
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_that_the_database_has_ended_are_made_anew_and_nobody_notices() {
    let postgres = Postgres::start();
    let ([broker], _hand) = brokers(&postgres, [postgres.port]).await;
    let admin = broker.client(&user(ADMIN));
    let revoke = async || {
        broker
            .revoke(&user(ADMIN), Selector::RoleArn(CLOSED.into()))
            .await
    };
    let mut sql = PgConnection::connect(&postgres.url()).await.unwrap();
    for name in ["one", "two"] {
        revoke().await.unwrap();
        admin
            .iam("CreateVirtualMFADevice", &[("VirtualMFADeviceName", name)])
            .await
            .unwrap();
        assert!(
            admin
                .iam("ListVirtualMFADevices", &[])
                .await
                .unwrap()
                .to_string()
                .contains(name)
        );
        let end = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity \
                   WHERE datname = 'brevet' AND pid <> pg_backend_pid()";
        sqlx::raw_sql(end).execute(&mut sql).await.unwrap();
    }
    assert!(revoke().await.is_ok());
}
