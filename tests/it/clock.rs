//! A clock that is set back, runs ahead or stands still: nothing that has expired becomes valid
//! again, and nothing is issued while the clock cannot be right.

use std::sync::Arc;
use std::time::Duration;

use brevet::base::clock::{Clock, ManualClock, Timestamp};
use brevet::client::{AssumeRole, Client, Credentials, Endpoint};
use brevet::clock_mark::ClockMarkFile;
use brevet::commands::{self, Actor};
use brevet::mfa;

use crate::binary::{Home, brevet};
use crate::harness::*;

const HOUR: i64 = 3_600;

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_seconds(now().seconds() + seconds)
}

/// A client whose clock is right, whatever the broker's clock says.
fn client_at(broker: &Broker, keys: &Keys, time: Timestamp) -> Client {
    let endpoint = Endpoint {
        url: broker.url(),
        region: "us-east-1".into(),
        ca_pem: None,
    };
    let credentials = Credentials::new(&keys.id, &keys.secret, keys.token.as_deref());
    Client::with_clock(&endpoint, credentials, Arc::new(ManualClock::new(time))).unwrap()
}

async fn who_at(broker: &Broker, keys: &Keys, time: Timestamp) -> String {
    match client_at(broker, keys, time).get_caller_identity().await {
        Ok(_) => "ok".to_owned(),
        Err(error) => code(&error),
    }
}

async fn assume_at(broker: &Broker, time: Timestamp) -> Result<Keys, String> {
    let request = AssumeRole {
        duration_seconds: Some(900),
        ..AssumeRole::new(OPEN, "session")
    };
    let assumed = client_at(broker, &user("alice"), time)
        .assume_role(&request)
        .await;
    assumed
        .map(|a| Keys::from(&a.credentials))
        .map_err(|e| code(&e))
}

/// Runs a `brevet clock` command beside a broker, and returns its output.
fn accept(home: &Home) -> String {
    let done = brevet()
        .args(["clock", "accept", "--config"])
        .arg(home.config())
        .output()
        .unwrap();
    let said = String::from_utf8(done.stderr).unwrap();
    assert!(done.status.success(), "{said}");
    said
}

fn mark(broker: &Broker) -> ClockMarkFile {
    ClockMarkFile::beside(&broker.dir.path().join("store.watermark"))
}

#[tokio::test]
async fn op_05_what_has_expired_is_not_valid_again_when_the_clock_is_put_back() {
    let mut broker = Broker::start().await;
    let session = assume_at(&broker, at(0)).await.unwrap();
    assert_eq!(who_at(&broker, &session, at(0)).await, "ok");
    broker.clock.set(at(1_000));
    assert_eq!(who_at(&broker, &session, at(1_000)).await, "ExpiredToken");
    // By less than is allowed: the broker goes on, by the later time.
    for back in [300, 200, 100] {
        broker.clock.set(at(back));
        assert_eq!(
            who_at(&broker, &session, at(1_000)).await,
            "ExpiredToken",
            "{back}"
        );
        assert_eq!(broker.operator("/readyz").await.status, 200);
    }
    assert!(
        broker
            .operator("/metrics")
            .await
            .body
            .contains("brevet_clock_behind_seconds 900")
    );
    assert!(assume_at(&broker, at(1_000)).await.is_ok());
    // Over a restart.
    let dir = broker.dir.clone();
    broker.stop().await;
    let broker = Broker::start_in(dir, |_| {}).await;
    broker.clock.set(at(500));
    assert_eq!(who_at(&broker, &session, at(1_000)).await, "ExpiredToken");
}

#[tokio::test]
async fn op_05_a_session_ends_although_the_clock_stands_still_or_is_put_back() {
    for put_back in [0, 600] {
        // The change feed need not be confirmed meanwhile.
        let broker = Broker::start_with(|c| c.refuse_after = Duration::from_secs(129_600)).await;
        let session = assume_at(&broker, at(0)).await.unwrap();
        broker.clock.set(at(-put_back));
        // A sixteenth more slowly, the clock being wrong.
        broker.clock.pass(Duration::from_secs(900));
        assert_eq!(who_at(&broker, &session, at(840)).await, "ok");
        broker.clock.pass(Duration::from_secs(61));
        assert_eq!(
            who_at(&broker, &session, at(900)).await,
            "ExpiredToken",
            "{put_back}"
        );
    }
}

#[tokio::test]
async fn op_05_a_broker_whose_clock_is_behind_issues_nothing_and_goes_on_when_it_has_caught_up() {
    let mut broker = Broker::start().await;
    let session = assume_at(&broker, at(0)).await.unwrap();
    let revoked = assume_at(&broker, at(0)).await.unwrap();
    broker.clock.set(at(-2 * HOUR));
    let ready = broker.operator("/readyz").await;
    assert_eq!(ready.status, 503);
    assert!(
        ready.body.contains("7200 s behind") && ready.body.contains("brevet clock accept"),
        "{}",
        ready.body
    );
    assert_eq!(
        assume_at(&broker, at(0)).await.err().as_deref(),
        Some("ServiceUnavailable")
    );
    assert_eq!(
        who_at(&broker, &session, at(-2 * HOUR)).await,
        "RequestExpired"
    );
    // What needs no new date goes on: who somebody is, and ending sessions.
    assert_eq!(who_at(&broker, &session, at(0)).await, "ok");
    let selector = Selector::AccessKeyId(revoked.id.clone());
    let request = brevet::api::sts::v1::RevokeSessionsRequest {
        selector: Some(selector),
        ..Default::default()
    };
    client_at(&broker, &user(ADMIN), at(0))
        .revoke_sessions(request)
        .await
        .unwrap();
    assert_eq!(
        who_at(&broker, &revoked, at(0)).await,
        "InvalidClientTokenId"
    );
    // Over a restart too.
    let dir = broker.dir.clone();
    broker.stop().await;
    let clock = Arc::new(ManualClock::new(at(-2 * HOUR)));
    let entropy = Arc::new(brevet::base::entropy::SystemEntropy::new());
    let running = brevet::server::start(config(dir.path()), clock.clone(), entropy)
        .await
        .unwrap();
    let (address, operator) = (running.address, running.operator);
    let broker = Broker {
        running: Some(running),
        clock,
        address,
        operator,
        dir,
    };
    assert_eq!(broker.operator("/readyz").await.status, 503);
    assert_eq!(
        who_at(&broker, &revoked, at(0)).await,
        "InvalidClientTokenId"
    );
    // Less than an hour: there is nothing to do but to wait.
    broker.clock.set(at(-1_000));
    let ready = broker.operator("/readyz").await;
    assert!(
        ready.status == 503 && ready.body.contains("until this is at most 900 s"),
        "{}",
        ready.body
    );
    broker.clock.set(at(-900));
    assert_eq!(broker.operator("/readyz").await.status, 200);
    assert!(assume_at(&broker, at(0)).await.is_ok());
}

#[tokio::test]
async fn op_05_a_clock_that_was_ahead_is_accepted_and_everything_of_before_ends() {
    let broker = Broker::start_stored().await;
    let hand = broker.hand().await;
    let before = assume_at(&broker, at(0)).await.unwrap();
    // A year ahead, until somebody notices. What is issued then is dated so.
    let year = 365 * 24 * HOUR;
    broker.clock.set(at(year));
    assert_eq!(who_at(&broker, &before, at(year)).await, "ExpiredToken");
    let ahead = assume_at(&broker, at(year)).await.unwrap();
    let user_id = "AIDAALICEALICEALICE1";
    for _ in 0..5 {
        hand.store
            .attempt(user_id, None, mfa::LOCKOUT, at(year))
            .await
            .unwrap();
    }
    broker.clock.set(at(60));
    let ready = broker.operator("/readyz").await;
    assert!(
        ready.status == 503 && ready.body.contains("brevet clock accept"),
        "{}",
        ready.body
    );
    eventually("the mark is on the disk", async || {
        mark(&broker)
            .load()
            .unwrap()
            .is_some_and(|mark| mark.time() >= at(year))
    })
    .await;
    // As `brevet clock accept` does it, beside the broker.
    let highest = mark(&broker).load().unwrap().unwrap().time();
    let actor = Actor::operator("test");
    let number = commands::accept_clock(
        &hand.store,
        &actor,
        "host".into(),
        highest,
        mfa::LOCKOUT,
        at(60),
    )
    .await
    .unwrap();
    mark(&broker).accept(at(60), number).unwrap();
    eventually("it is ready", async || {
        broker.operator("/readyz").await.status == 200
    })
    .await;
    for old in [&before, &ahead] {
        assert_eq!(who_at(&broker, old, at(60)).await, "InvalidClientTokenId");
    }
    let fresh = assume_at(&broker, at(60)).await.unwrap();
    assert_eq!(who_at(&broker, &fresh, at(60)).await, "ok");
    // Nobody is locked out for a year.
    let hand = broker.hand().await;
    assert_eq!(
        hand.store
            .attempt(user_id, None, mfa::LOCKOUT, at(60 + HOUR))
            .await
            .unwrap(),
        brevet::store::Attempt::Counted
    );
    // Nor is the session of then valid when that time comes, a sweep and a restart later.
    broker.clock.set(at(year + 10));
    hand.store
        .sweep(at(year + 10), at(year + 10))
        .await
        .unwrap();
    assert_eq!(
        who_at(&broker, &ahead, at(year + 10)).await,
        "InvalidClientTokenId"
    );
    let mut broker = broker;
    let dir = broker.dir.clone();
    broker.stop().await;
    let broker = Broker::start_in(dir, in_the_store).await;
    broker.clock.set(at(year + 20));
    assert_eq!(
        who_at(&broker, &ahead, at(year + 20)).await,
        "InvalidClientTokenId"
    );
    let lines = broker.into_audit().await;
    let accepted: Vec<_> = lines
        .iter()
        .filter(|line| line["eventName"] == "AcceptClock")
        .collect();
    assert_eq!(accepted.len(), 1);
    assert_eq!(accepted[0]["userIdentity"]["userName"], "test");
}

#[tokio::test]
async fn op_05_the_command_says_what_it_does_and_the_log_names_it() {
    let home = Home::init();
    let said = accept(&home);
    assert!(said.contains("is not behind"), "{said}");
    let file = ClockMarkFile::beside(&home.path.join("store.watermark"));
    let wall = brevet::base::clock::SystemClock.now();
    let ahead = wall.plus(Duration::from_secs(90_000));
    file.raise(ahead, 0).unwrap();
    let mut daemon = home.serve();
    let client = home.client(&daemon);
    let role = AssumeRole::new("arn:aws:iam::111122223333:role/Administrator", "test");
    assert!(
        client.assume_role(&role).await.is_err(),
        "its own clock is right, and the broker's time is not"
    );
    let said = accept(&home);
    assert!(
        said.contains("Every session that was issued before now has ended"),
        "{said}"
    );
    eventually("it issues again", async || {
        client.assume_role(&role).await.is_ok()
    })
    .await;
    daemon.signal("-TERM");
    let (status, log) = daemon.ended();
    assert_eq!(status, Some(0));
    let log = log.join("\n");
    assert!(
        log.contains("not ready: the clock") && log.contains("run `brevet clock accept`"),
        "{log}"
    );
    assert!(log.contains("an operator has accepted the clock"), "{log}");
    assert!(file.load().unwrap().unwrap().time() < ahead);
    // A mark that cannot be read is refused, and the same command writes it anew.
    brevet::files::write_private(file.path(), b"{").unwrap();
    home.refused("store.watermark.clock");
    let said = accept(&home);
    assert!(
        said.contains("is damaged") && !said.contains("brevet clock accept"),
        "{said}"
    );
    let daemon = home.serve();
    assert!(home.client(&daemon).assume_role(&role).await.is_ok());
}

#[tokio::test]
async fn op_05_the_command_works_where_roles_are_in_a_file_and_without_a_broker() {
    let home = Home::init().declared_in_a_file();
    let daemon = home.serve();
    let role = AssumeRole::new("arn:aws:iam::111122223333:role/Administrator", "test");
    let before = home
        .client(&daemon)
        .assume_role(&role)
        .await
        .unwrap()
        .credentials;
    drop(daemon);
    let file = ClockMarkFile::beside(&home.path.join("store.watermark"));
    let wall = brevet::base::clock::SystemClock.now();
    file.raise(wall.plus(Duration::from_secs(90_000)), 0)
        .unwrap();
    accept(&home);
    let daemon = home.serve();
    assert_eq!(
        code(
            &daemon
                .client(&before)
                .get_caller_identity()
                .await
                .unwrap_err()
        ),
        "InvalidClientTokenId"
    );
    assert!(home.client(&daemon).assume_role(&role).await.is_ok());
}
