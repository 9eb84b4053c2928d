//! Revoked sessions: each selector ends the sessions that it selects and those made from them, and no
//! others.

use std::time::Duration;

use brevet::api::sts::v1 as pb;
use brevet::commands::{Command, Edit};
use brevet::directory::resource::{Name, ResourceKind};
use brevet::store::{Attempt, Matched, Place};

use crate::harness::*;

/// The id of a session, found by its access key id.
async fn session_id(broker: &Broker, keys: &Keys) -> String {
    let listed = broker
        .client(&user(ADMIN))
        .list_sessions(pb::ListSessionsRequest::default())
        .await
        .unwrap();
    listed
        .sessions
        .into_iter()
        .find(|s| s.access_key_id == keys.id)
        .expect("it is on record")
        .session_id
}

#[tokio::test]
async fn each_selector_ends_what_it_names_and_what_came_from_it() {
    let broker = Broker::start_stored().await;
    let alice = user("alice");
    for selector in [
        "session",
        "access key",
        "long-term key",
        "principal",
        "user",
        "role",
        "source identity",
    ] {
        let named = brevet::client::AssumeRole {
            source_identity: Some(format!("who-{}", selector.replace(' ', "-"))),
            ..brevet::client::AssumeRole::new(OPEN, "first")
        };
        let first = Keys::from(
            &broker
                .client(&alice)
                .assume_role(&named)
                .await
                .unwrap()
                .credentials,
        );
        let second = broker.assume(&first, OPEN).await.unwrap();
        let third = broker.assume(&second, OPEN).await.unwrap();
        let bystander = broker.assume(&user("bob"), DIRECT).await.unwrap();
        let chosen = match selector {
            "session" => Selector::SessionId(session_id(&broker, &first).await),
            "access key" => Selector::AccessKeyId(first.id.clone()),
            "long-term key" => Selector::AccessKeyId(alice.id.clone()),
            "principal" => {
                Selector::PrincipalArn("arn:aws:sts::111122223333:assumed-role/Open/first".into())
            }
            "user" => Selector::PrincipalArn("arn:aws:iam::111122223333:user/alice".into()),
            "role" => Selector::RoleArn(OPEN.into()),
            _ => Selector::SourceIdentity("who-source-identity".into()),
        };
        broker.revoke(&user(ADMIN), chosen).await.unwrap();
        for (session, whose) in [
            (&first, "the session"),
            (&second, "its child"),
            (&third, "its grandchild"),
        ] {
            assert_eq!(
                broker.who(session).await,
                "InvalidClientTokenId",
                "{selector}: {whose}"
            );
            assert!(
                broker.assume(session, OPEN).await.is_err(),
                "{selector}: {whose}"
            );
        }
        assert_eq!(
            broker.who(&bystander).await,
            "ok",
            "{selector}: somebody else"
        );
        assert_eq!(broker.who(&alice).await, "ok", "{selector}: the key itself");
        // In the same second, by a clock that stands: what comes after is not what came before.
        let again = Keys::from(
            &broker
                .client(&alice)
                .assume_role(&named)
                .await
                .unwrap()
                .credentials,
        );
        assert_eq!(
            broker.who(&again).await,
            "ok",
            "{selector}: a session made afterwards"
        );
    }
}

#[tokio::test]
async fn issued_before_goes_by_the_clock_and_may_stand_alone() {
    let broker = Broker::start_stored().await;
    let old = broker.assume(&user("alice"), OPEN).await.unwrap();
    broker.clock.advance(Duration::from_secs(60));
    let new = broker.assume(&user("alice"), OPEN).await.unwrap();
    let at = |seconds| Some(prost_types::Timestamp { seconds, nanos: 0 });
    let ask = async |selector, issued_before| {
        let request = pb::RevokeSessionsRequest {
            selector,
            issued_before,
            ..Default::default()
        };
        broker
            .client(&user(ADMIN))
            .revoke_sessions(request)
            .await
            .map(|r| r.sequence_number)
            .map_err(|e| code(&e))
    };
    assert_eq!(
        ask(None, None).await.unwrap_err(),
        "ValidationError",
        "everything is not ended by an empty request"
    );
    let future = now().seconds() + 3_600;
    assert_eq!(ask(None, at(future)).await.unwrap_err(), "ValidationError");
    ask(
        Some(Selector::RoleArn(CLOSED.into())),
        at(now().seconds() + 30),
    )
    .await
    .unwrap();
    assert_eq!(
        (broker.who(&old).await, broker.who(&new).await),
        ("ok".into(), "ok".into())
    );
    ask(None, at(now().seconds() + 30)).await.unwrap();
    assert_eq!(broker.who(&old).await, "InvalidClientTokenId");
    assert_eq!(broker.who(&new).await, "ok");
}

#[tokio::test]
async fn administrators_need_leave_and_reach_their_own_account_alone() {
    let broker = Broker::start_stored().await;
    let session = broker.assume(&user("alice"), OPEN).await.unwrap();
    let id = session_id(&broker, &session).await;
    let selectors = [
        Selector::SessionId(id.clone()),
        Selector::AccessKeyId(session.id.clone()),
        Selector::SourceIdentity("nobody".into()),
    ];
    for selector in selectors {
        assert_eq!(
            broker
                .revoke(&user("alice"), selector.clone())
                .await
                .unwrap_err(),
            "AccessDenied"
        );
        // Another account's administrator names it, and ends nothing.
        broker.revoke(&user("other-admin"), selector).await.unwrap();
        assert_eq!(broker.who(&session).await, "ok");
    }
    for selector in [
        Selector::RoleArn(OPEN.into()),
        Selector::PrincipalArn("arn:aws:iam::111122223333:user/alice".into()),
        Selector::PrincipalArn("arn:aws:sts::111122223333:assumed-role/Open/test-session".into()),
    ] {
        assert_eq!(
            broker
                .revoke(&user("other-admin"), selector)
                .await
                .unwrap_err(),
            "ValidationError"
        );
    }
    for bad in [
        Selector::SessionId("xyz".into()),
        Selector::SessionId(id.to_uppercase()),
        Selector::AccessKeyId("short".into()),
        Selector::PrincipalArn("arn:aws:iam::111122223333:group/x".into()),
        Selector::PrincipalArn("arn:aws:sts::111122223333:assumed-role/Open".into()),
        Selector::RoleArn("arn:aws:iam::111122223333:user/alice".into()),
        Selector::SourceIdentity("a b".into()),
    ] {
        assert_eq!(
            broker.revoke(&user(ADMIN), bad.clone()).await.unwrap_err(),
            "ValidationError"
        );
    }
    let administrator = broker.client(&user(ADMIN));
    let described = administrator.describe_session(&id).await.unwrap();
    assert_eq!(
        described.arn,
        "arn:aws:sts::111122223333:assumed-role/Open/test-session"
    );
    assert_eq!(
        described.came_from,
        ["arn:aws:iam::111122223333:user/alice"]
    );
    assert!(!described.revoked);
    for (keys, expected) in [
        (user("alice"), "AccessDenied"),
        (user("other-admin"), "NoSuchEntity"),
    ] {
        assert_eq!(
            code(
                &broker
                    .client(&keys)
                    .describe_session(&id)
                    .await
                    .err()
                    .unwrap()
            ),
            expected
        );
    }
    assert_eq!(
        code(
            &administrator
                .describe_session(&"0".repeat(32))
                .await
                .err()
                .unwrap()
        ),
        "NoSuchEntity"
    );
    let foreign = broker
        .client(&user("other-admin"))
        .list_sessions(pb::ListSessionsRequest::default())
        .await
        .unwrap();
    assert!(foreign.sessions.is_empty());
    broker
        .revoke(&user(ADMIN), Selector::AccessKeyId(session.id.clone()))
        .await
        .unwrap();
    assert!(administrator.describe_session(&id).await.unwrap().revoked);
}

#[tokio::test]
async fn a_revocation_says_what_it_hits_and_a_preview_ends_nothing() {
    let broker = Broker::start_stored().await;
    let administrator = broker.client(&user(ADMIN));
    let mut sessions = Vec::new();
    for _ in 0..3 {
        sessions.push(broker.assume(&user("alice"), OPEN).await.unwrap());
    }
    let bystander = broker.assume(&user("bob"), DIRECT).await.unwrap();
    let request = |selector| pb::RevokeSessionsRequest {
        selector: Some(selector),
        ..Default::default()
    };
    let told = |t: pb::RevocationTarget| {
        assert!(!t.more);
        (
            t.exists,
            t.sessions_on_record.unwrap(),
            t.access_key_goes_on,
        )
    };
    let preview = async |selector| {
        told(
            administrator
                .preview_revocation(request(selector))
                .await
                .unwrap(),
        )
    };
    let revoke = async |selector| {
        told(
            administrator
                .revoke_sessions(request(selector))
                .await
                .unwrap()
                .target
                .unwrap(),
        )
    };
    let head = broker.running.as_ref().unwrap().broker.feed.sequence();
    let role = || Selector::RoleArn(OPEN.into());
    let key = |name: &str| Selector::AccessKeyId(user(name).id);
    assert_eq!(preview(role()).await, (Some(true), 3, false));
    assert_eq!(preview(key("alice")).await, (Some(true), 3, true));
    assert_eq!(
        preview(key("other-admin")).await,
        (Some(false), 0, false),
        "nothing of another account is told"
    );
    assert_eq!(
        preview(Selector::RoleArn(format!("{OPEN}x"))).await,
        (Some(false), 0, false)
    );
    let user_arn =
        |name: &str| Selector::PrincipalArn(format!("arn:aws:iam::111122223333:user/{name}"));
    assert_eq!(preview(user_arn("alice")).await, (Some(true), 3, false));
    assert_eq!(preview(user_arn("nobody")).await, (Some(false), 0, false));
    assert_eq!(
        preview(Selector::AccessKeyId(sessions[0].id.clone())).await,
        (None, 1, false)
    );
    let later = Some(prost_types::Timestamp {
        seconds: now().seconds(),
        nanos: 0,
    });
    let by_time = pb::RevokeSessionsRequest {
        selector: Some(role()),
        issued_before: later,
        ..Default::default()
    };
    assert_eq!(
        told(administrator.preview_revocation(by_time).await.unwrap()),
        (Some(true), 0, false)
    );
    for session in sessions.iter().chain([&bystander]) {
        assert_eq!(broker.who(session).await, "ok", "a preview ends nothing");
    }
    assert_eq!(
        broker.running.as_ref().unwrap().broker.feed.sequence(),
        head,
        "and changes nothing"
    );
    let alice = broker.client(&user("alice"));
    assert_eq!(
        code(
            &alice
                .preview_revocation(request(role()))
                .await
                .err()
                .unwrap()
        ),
        "AccessDenied"
    );
    assert_eq!(
        revoke(Selector::AccessKeyId(sessions[0].id.clone())).await,
        (None, 1, false)
    );
    assert_eq!(
        revoke(role()).await,
        (Some(true), 2, false),
        "one had ended"
    );
    assert_eq!(revoke(role()).await, (Some(true), 0, false));
    assert_eq!(broker.who(&bystander).await, "ok");
    let listed = async |include_revoked| {
        let request = pb::ListSessionsRequest {
            include_revoked,
            ..Default::default()
        };
        let mut listed = administrator.list_sessions(request).await.unwrap().sessions;
        listed.sort_by_key(|s| s.revoked);
        listed.into_iter().map(|s| s.revoked).collect::<Vec<_>>()
    };
    assert_eq!(listed(false).await, [false]);
    assert_eq!(listed(true).await, [false, true, true, true]);
    let audit = broker.into_audit().await;
    assert_eq!(
        audit
            .iter()
            .filter(|r| r["eventName"] == "PreviewRevocation")
            .count(),
        9
    );
}

#[tokio::test]
async fn sessions_are_listed_page_by_page() {
    let broker = Broker::start_stored().await;
    for n in 0..25 {
        let role = if n % 5 == 0 { DIRECT } else { OPEN };
        let keys = if n % 5 == 0 {
            user("bob")
        } else {
            user("alice")
        };
        broker.assume(&keys, role).await.unwrap();
    }
    let administrator = broker.client(&user(ADMIN));
    let (mut seen, mut marker) = (std::collections::BTreeSet::new(), None);
    loop {
        let request = pb::ListSessionsRequest {
            max_items: Some(7),
            marker,
            ..Default::default()
        };
        let page = administrator.list_sessions(request).await.unwrap();
        assert!(page.sessions.len() <= 7 && !page.shared);
        let before = seen.len();
        seen.extend(page.sessions.iter().map(|s| s.session_id.clone()));
        assert_eq!(seen.len() - before, page.sessions.len(), "none twice");
        if page.marker.is_empty() {
            break;
        }
        marker = Some(page.marker);
    }
    assert_eq!(seen.len(), 25);
    let request = pb::ListSessionsRequest {
        role_arn: Some(DIRECT.into()),
        ..Default::default()
    };
    assert_eq!(
        administrator
            .list_sessions(request)
            .await
            .unwrap()
            .sessions
            .len(),
        5
    );
    for (max_items, marker) in [
        (Some(0), None),
        (Some(1_001), None),
        (None, Some("x y".to_owned())),
    ] {
        let request = pb::ListSessionsRequest {
            max_items,
            marker,
            ..Default::default()
        };
        assert_eq!(
            code(&administrator.list_sessions(request).await.err().unwrap()),
            "ValidationError"
        );
    }
    broker.clock.advance(Duration::from_secs(3_600));
    let left = administrator
        .list_sessions(pb::ListSessionsRequest::default())
        .await
        .unwrap();
    assert!(left.sessions.is_empty(), "what has ended is not listed");
}

#[tokio::test]
async fn an_02_disabled_and_deleted_keys_and_principals_end_what_came_from_them() {
    let broker = Broker::start_stored().await;
    let hand = broker.hand().await;
    let (alice, bob) = (user("alice"), user("bob"));
    let before = broker.assume(&alice, OPEN).await.unwrap();
    let chained = broker.assume(&before, DIRECT).await.unwrap();
    let bobs = broker.assume(&bob, DIRECT).await.unwrap();
    hand.edit(ResourceKind::AccessKey, &alice.id, Edit::SetActive(false))
        .await
        .unwrap();
    eventually("the key is refused", async || {
        broker.who(&alice).await == "InvalidClientTokenId"
    })
    .await;
    for session in [&before, &chained] {
        assert_eq!(broker.who(session).await, "InvalidClientTokenId");
    }
    assert_eq!(broker.who(&bobs).await, "ok");
    // What has ended does not come back with the key.
    hand.edit(ResourceKind::AccessKey, &alice.id, Edit::SetActive(true))
        .await
        .unwrap();
    eventually("the key is good again", async || {
        broker.who(&alice).await == "ok"
    })
    .await;
    assert_eq!(broker.who(&before).await, "InvalidClientTokenId");
    let delete = |kind, id: &str| Command::Delete {
        name: Name::new(kind, id),
        expected: None,
    };
    hand.run(delete(ResourceKind::AccessKey, &bob.id))
        .await
        .unwrap();
    eventually("the deleted key is refused", async || {
        broker.who(&bob).await == "InvalidClientTokenId"
    })
    .await;
    assert_eq!(broker.who(&bobs).await, "InvalidClientTokenId");
    // A role that goes, while a session of it goes on by another one.
    let first = broker.assume(&alice, OPEN).await.unwrap();
    let second = broker.assume(&first, DIRECT).await.unwrap();
    hand.edit(ResourceKind::Role, OPEN, Edit::DeletePolicy("sts".into()))
        .await
        .unwrap();
    hand.run(delete(ResourceKind::Role, OPEN)).await.unwrap();
    eventually("the role is gone", async || {
        broker.who(&first).await == "InvalidClientTokenId"
    })
    .await;
    assert_eq!(broker.who(&second).await, "InvalidClientTokenId");
}

#[tokio::test]
async fn tk_08_a_revoked_session_stays_revoked_however_its_token_is_written() {
    use base64::Engine;
    use base64::engine::general_purpose::{STANDARD, URL_SAFE, URL_SAFE_NO_PAD};
    let broker = Broker::start_stored().await;
    let session = broker.assume(&user("alice"), OPEN).await.unwrap();
    assert_eq!(broker.who(&session).await, "ok");
    let id = session_id(&broker, &session).await;
    broker
        .revoke(&user(ADMIN), Selector::SessionId(id))
        .await
        .unwrap();
    let bytes = URL_SAFE_NO_PAD
        .decode(session.token.as_ref().unwrap())
        .unwrap();
    let twins = [
        session.token.clone().unwrap(),
        URL_SAFE.encode(&bytes),
        STANDARD.encode(&bytes),
    ];
    for twin in twins {
        let keys = Keys {
            token: Some(twin),
            ..session.clone()
        };
        // The actions are of gRPC alone, and a revoked session is refused them as well.
        assert_eq!(
            broker
                .revoke(&keys, Selector::RoleArn(OPEN.into()))
                .await
                .unwrap_err(),
            "InvalidClientTokenId"
        );
        assert_eq!(broker.who(&keys).await, "InvalidClientTokenId");
    }
}

#[tokio::test]
async fn awss_own_way_to_end_sessions_works_too() {
    let broker = Broker::start_stored().await;
    let hand = broker.hand().await;
    let old = broker.assume(&user("alice"), OPEN).await.unwrap();
    broker.clock.advance(Duration::from_secs(10));
    // IAM User Guide, "Revoke IAM role temporary security credentials".
    let until = brevet::base::clock::Timestamp::from_seconds(now().seconds() + 5);
    let document = format!(
        r#"{{"Version":"2012-10-17","Statement":[{{"Effect":"Deny","Action":"*","Resource":"*","Condition":{{"DateLessThan":{{"aws:TokenIssueTime":"{until}"}}}}}}]}}"#
    );
    hand.edit(
        ResourceKind::Role,
        OPEN,
        Edit::PutPolicy("AWSRevokeOlderSessions".into(), document),
    )
    .await
    .unwrap();
    eventually("it binds", async || {
        broker.assume(&old, DIRECT).await == Err("AccessDenied".into())
    })
    .await;
    let new = broker.assume(&user("alice"), OPEN).await.unwrap();
    assert!(broker.assume(&new, DIRECT).await.is_ok());
}

impl PartialEq for Keys {
    fn eq(&self, other: &Self) -> bool {
        self.id == other.id
    }
}

impl std::fmt::Debug for Keys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.id)
    }
}

#[tokio::test]
async fn au_01_revoking_works_when_nothing_can_be_written_down() {
    let broker = Broker::start_in(stored_home().await, |c| {
        in_the_store(c);
        c.audit = brevet::audit::Target::File {
            path: "/dev/full".into(),
            sync: true,
        };
    })
    .await;
    // Nothing is issued; so the session comes from a broker beside it, on the same keyring and store.
    assert_eq!(
        broker.assume(&user("alice"), OPEN).await.unwrap_err(),
        "ServiceUnavailable"
    );
    let answer = broker
        .revoke(&user(ADMIN), Selector::RoleArn(OPEN.into()))
        .await;
    assert!(answer.is_ok(), "{answer:?}");
    let hand = broker.hand().await;
    let feed = hand
        .store
        .feed_after(answer.unwrap() - 1, 10)
        .await
        .unwrap();
    assert_eq!(feed[0].action, "RevokeSessions");
    assert!(feed[0].actor.contains("user/admin"));
}

#[tokio::test]
async fn a_chain_is_at_most_ten_roles_long() {
    let broker = Broker::start_stored().await;
    let mut keys = broker.assume(&user("alice"), OPEN).await.unwrap();
    for n in 2..=10 {
        keys = broker
            .assume(&keys, OPEN)
            .await
            .unwrap_or_else(|e| panic!("role {n}: {e}"));
        assert_eq!(broker.who(&keys).await, "ok");
    }
    assert_eq!(
        broker.assume(&keys, OPEN).await.unwrap_err(),
        "ValidationError"
    );
}

#[tokio::test]
async fn changes_and_revocations_are_in_the_audit_with_their_numbers() {
    let broker = Broker::start_stored().await;
    let hand = broker.hand().await;
    let update = Command::Edit {
        name: Name::new(ResourceKind::Role, DIRECT),
        edit: Edit::UpdateMaxSessionDuration(3_600),
        expected: None,
    };
    hand.run_as("UpdateRole", update).await.unwrap();
    broker
        .revoke(&user(ADMIN), Selector::RoleArn(OPEN.into()))
        .await
        .unwrap();
    let sequence = hand.store.head().await.unwrap().sequence;
    eventually("both are written down", async || {
        broker
            .operator("/metrics")
            .await
            .body
            .contains(&format!("brevet_feed_sequence {sequence}"))
    })
    .await;
    let lines = broker.into_audit().await;
    let change = lines
        .iter()
        .find(|l| l["eventName"] == "UpdateRole")
        .unwrap();
    assert_eq!(
        change["additionalEventData"]["sequenceNumber"],
        sequence - 1
    );
    assert_eq!(
        change["additionalEventData"]["before"]["MaxSessionDuration"],
        7_200
    );
    assert_eq!(
        change["additionalEventData"]["after"]["MaxSessionDuration"],
        3_600
    );
    // The whole thing before and after is beside the feed, and the record has its digests.
    let number = change["additionalEventData"]["sequenceNumber"]
        .as_i64()
        .unwrap();
    let documents = hand
        .store
        .documents_between(number - 1, number)
        .await
        .unwrap();
    let [(_, documents)] = &documents[..] else {
        panic!("{documents:?}")
    };
    for (text, name, seconds) in [
        (&documents.before, "before", 7_200),
        (&documents.after, "after", 3_600),
    ] {
        let text = text.as_deref().unwrap();
        let json: serde_json::Value = serde_json::from_str(text).unwrap();
        assert_eq!(
            (&json["MaxSessionDuration"], &json["Arn"]),
            (&seconds.into(), &DIRECT.into())
        );
        assert!(json["AssumeRolePolicyDocument"].is_object());
        let digest = brevet::base::digest::hex(&brevet::base::digest::sha256(text.as_bytes()));
        assert_eq!(
            change["additionalEventData"][format!("{name}Sha256")],
            digest
        );
    }
    assert_eq!(
        (&change["eventType"], &change["readOnly"]),
        (&"BrevetChange".into(), &false.into())
    );
    assert_eq!(change["userIdentity"]["userName"], "hand");
    let revocations: Vec<_> = lines
        .iter()
        .filter(|l| l["eventName"] == "RevokeSessions")
        .collect();
    assert_eq!(revocations.len(), 2, "the call, and its change");
    assert_eq!(revocations[0]["requestID"], revocations[1]["requestID"]);
}

#[tokio::test]
async fn a_restored_backup_revives_nothing() {
    let home = stored_home().await;
    let mut broker = Broker::start_in(home.clone(), in_the_store).await;
    let hand = broker.hand().await;
    let session = broker.assume(&user("alice"), OPEN).await.unwrap();
    let backup = home.path().join("backup.db");
    brevet::store::backup(&hand.store, &backup).await.unwrap();
    broker
        .revoke(&user(ADMIN), Selector::AccessKeyId(session.id.clone()))
        .await
        .unwrap();
    let step = now().seconds() / 30;
    let code = |step| {
        Some(Matched {
            serial_number: "arn:device".into(),
            step,
            offset: 0,
            made_at: 0,
        })
    };
    assert_eq!(
        hand.store
            .attempt("AIDA", code(step + 1), brevet::mfa::LOCKOUT, now())
            .await
            .unwrap(),
        Attempt::Accepted
    );
    eventually("the broker has seen it", async || {
        std::fs::read_to_string(home.path().join("store.watermark"))
            .unwrap()
            .contains(&hand.store.head().await.unwrap().sequence.to_string())
    })
    .await;
    drop(hand);
    let store = home.path().join("store.db");
    let entropy = brevet::base::entropy::SystemEntropy::new();
    let master_key = brevet::master_key::MasterKey::load(&home.path().join("master.key")).unwrap();
    // While a broker runs, nothing is put back.
    assert!(
        brevet::store::prepare(&backup, &store, Some(&master_key), now(), &entropy)
            .await
            .is_err()
    );
    broker.stop().await;
    drop(broker);

    // By hand, behind the broker's back: it is told.
    let good = std::fs::read(&store).unwrap();
    for suffix in ["-wal", "-shm"] {
        let _ = std::fs::remove_file(home.path().join(format!("store.db{suffix}")));
    }
    std::fs::copy(&backup, &store).unwrap();
    let mut config = config(home.path());
    in_the_store(&mut config);
    let clock = std::sync::Arc::new(brevet::base::clock::ManualClock::new(now()));
    let refused = brevet::server::start(config, clock, std::sync::Arc::new(entropy.clone())).await;
    let error = refused.err().expect("a store that went back").to_string();
    assert!(error.contains("brevet restore --accept"), "{error}");
    std::fs::write(&store, good).unwrap();

    // As it is done: everything from before has ended, whatever the backup knows.
    let kept = home.path().join("kept.db");
    let prepared = brevet::store::prepare(&backup, &store, Some(&master_key), now(), &entropy)
        .await
        .unwrap();
    let placed = prepared
        .put_in_place(None, 1_000, kept.clone(), now())
        .await
        .unwrap();
    assert_eq!((placed.kept.as_ref(), kept.is_file()), (Some(&kept), true));
    let head = placed.head;
    assert!(
        head.sequence > 1_000,
        "behind everything that was ever seen"
    );
    brevet::store::Watermark::of(&head)
        .save(&home.path().join("store.watermark"))
        .unwrap();
    let broker = Broker::start_in(home.clone(), in_the_store).await;
    assert_eq!(broker.who(&session).await, "InvalidClientTokenId");
    let hand = OtherProcess::on(home.path(), &Place::Sqlite(store)).await;
    assert_eq!(
        hand.store
            .attempt("AIDA", code(step - 1), brevet::mfa::LOCKOUT, now())
            .await
            .unwrap(),
        Attempt::Spent
    );
    let fresh = broker.assume(&user("alice"), OPEN).await.unwrap();
    assert_eq!(broker.who(&fresh).await, "ok");
    assert!(!home.path().join("store.db.restoring").exists());
}
