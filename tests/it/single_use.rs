//! `[sts] single_use_signatures`: a signature can be used once for credentials or a change.

use std::sync::Arc;
use std::time::Duration;

use crate::harness::*;

const ASSUME: &[(&str, &str)] = &[
    ("Action", "AssumeRole"),
    VERSION,
    ("RoleArn", OPEN),
    ("RoleSessionName", "test-session"),
];

async fn once(keys: &Keys, broker: &Broker, form: &[(&str, &str)]) -> String {
    broker.query(Some(keys), form).await.code().to_owned()
}

#[tokio::test]
async fn a_signature_comes_again_as_often_as_it_likes_by_default() {
    let broker = Broker::start().await;
    for _ in 0..3 {
        assert_eq!(once(&user("alice"), &broker, ASSUME).await, "ok");
    }
}

#[tokio::test]
async fn a_signature_brings_something_once_where_that_is_set() {
    let broker = Broker::start_in(stored_home().await, |c| {
        in_the_store(c);
        c.single_use_signatures = true;
    })
    .await;
    let (alice, admin) = (user("alice"), user(ADMIN));
    assert_eq!(once(&alice, &broker, ASSUME).await, "ok");
    let answer = broker.query(Some(&alice), ASSUME).await;
    assert_eq!((answer.status, answer.code()), (400, "Throttling"));
    // On gRPC too, each wire having signatures of its own.
    assert!(broker.assume(&alice, OPEN).await.is_ok());
    assert_eq!(
        broker.assume(&alice, OPEN).await.err().as_deref(),
        Some("Throttling")
    );
    // Another request has another signature, and so has the same one a second later.
    let other = [
        ("Action", "AssumeRole"),
        VERSION,
        ("RoleArn", OPEN),
        ("RoleSessionName", "another-session"),
    ];
    assert_eq!(once(&alice, &broker, &other).await, "ok");
    broker.clock.advance(Duration::from_secs(1));
    assert_eq!(once(&alice, &broker, ASSUME).await, "ok");
    // What reads, and what is refused, may come again.
    for _ in 0..3 {
        assert_eq!(once(&alice, &broker, WHO).await, "ok");
        let closed = [
            ("Action", "AssumeRole"),
            VERSION,
            ("RoleArn", CLOSED),
            ("RoleSessionName", "test-session"),
        ];
        assert_eq!(once(&alice, &broker, &closed).await, "AccessDenied");
    }
    // Ending sessions is never refused for it.
    let session = broker.assume(&alice, OPEN).await.unwrap();
    for _ in 0..2 {
        assert!(
            broker
                .revoke(&admin, Selector::AccessKeyId(session.id.clone()))
                .await
                .is_ok()
        );
    }
    let metrics = broker.operator("/metrics").await.body;
    assert!(
        metrics.contains("brevet_throttled_total{budget=\"signature\"} 2"),
        "{metrics}"
    );
    assert!(
        metrics.contains("brevet_signatures_unshared_total 0"),
        "{metrics}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_many_at_once_one_is_served() {
    let broker = Arc::new(Broker::start_with(|c| c.single_use_signatures = true).await);
    let calls = (0..30).map(|_| {
        let broker = broker.clone();
        tokio::spawn(async move { once(&user("alice"), &broker, ASSUME).await })
    });
    let mut codes = Vec::new();
    for call in calls.collect::<Vec<_>>() {
        codes.push(call.await.unwrap());
    }
    assert_eq!(
        codes.iter().filter(|code| *code == "ok").count(),
        1,
        "{codes:?}"
    );
    assert_eq!(
        codes.iter().filter(|code| *code == "Throttling").count(),
        29,
        "{codes:?}"
    );
}
