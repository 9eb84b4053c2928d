//! Session tokens in the hands of their owner and of a thief.

use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use brevet::audit::verify::Verifier;
use brevet::base::digest::hex;
use brevet::client::AssumeRole;
use brevet::session::merkle::{Hash, Tree};
use serde_json::Value;

use crate::harness::*;

#[tokio::test]
async fn tk_04_a_session_ends_to_the_second() {
    let broker = Broker::start().await;
    let request = AssumeRole {
        duration_seconds: Some(900),
        ..AssumeRole::new(OPEN, "session")
    };
    let session = Keys::from(
        &broker
            .client(&user("alice"))
            .assume_role(&request)
            .await
            .unwrap()
            .credentials,
    );
    let who = async || {
        broker
            .client(&session)
            .get_caller_identity()
            .await
            .map(|_| ())
            .map_err(|e| code(&e))
    };
    broker.clock.advance(Duration::from_secs(899));
    assert_eq!(who().await, Ok(()));
    broker.clock.advance(Duration::from_secs(1));
    assert_eq!(who().await, Err("ExpiredToken".into()));
    broker.clock.advance(Duration::from_secs(1));
    assert_eq!(who().await, Err("ExpiredToken".into()));
}

#[tokio::test]
async fn tk_04_a_token_from_a_clock_slightly_ahead_is_good_and_one_far_ahead_is_not() {
    let dir = home();
    let (here, ahead) = (
        Broker::start_in(dir.clone(), |_| {}).await,
        Broker::start_beside(dir).await,
    );
    for (seconds, good) in [(30, true), (120, false)] {
        ahead
            .clock
            .set(brevet::base::clock::Timestamp::from_seconds(
                now().seconds() + seconds,
            ));
        let session = ahead.assume(&user("alice"), OPEN).await.unwrap();
        let got = here.client(&session).get_caller_identity().await;
        assert_eq!(got.is_ok(), good, "{seconds} s ahead");
    }
}

#[tokio::test]
async fn tk_07_a_token_altered_anywhere_is_refused() {
    let broker = Broker::start_with(|c| c.audit = brevet::audit::Target::Discard).await;
    let session = broker.assume(&user("alice"), OPEN).await.unwrap();
    let token = session.token.clone().unwrap();
    let bytes = URL_SAFE_NO_PAD.decode(&token).unwrap();
    assert!(broker.client(&session).get_caller_identity().await.is_ok());
    // Every bit in the unit test; on the wire one bit of every byte.
    for i in 0..bytes.len() {
        let mut altered = bytes.clone();
        altered[i] ^= 1 << (i % 8);
        let thief = Keys {
            token: Some(URL_SAFE_NO_PAD.encode(altered)),
            ..session.clone()
        };
        let answer = broker.query(Some(&thief), WHO).await;
        assert_eq!(
            (answer.status, answer.code()),
            (403, "InvalidClientTokenId"),
            "byte {i}"
        );
    }
}

#[tokio::test]
async fn tk_01_tk_02_tk_05_tk_06_nothing_else_is_a_session_token() {
    let broker = Broker::start().await;
    let session = broker.assume(&user("alice"), OPEN).await.unwrap();
    let token = session.token.clone().unwrap();
    assert!(
        jsonwebtoken::decode_header(&token).is_err(),
        "opaque: no JOSE library reads anything in it"
    );
    let part = |json: &str| URL_SAFE_NO_PAD.encode(json);
    let claims = part(r#"{"iss":"brevet","sub":"AROAOPENOPENOPENOPE1:x","exp":4102444800}"#);
    let jwt = |header: &str, signature: &[u8]| {
        format!(
            "{}.{claims}.{}",
            part(header),
            URL_SAFE_NO_PAD.encode(signature)
        )
    };
    let hs256 = ring::hmac::sign(&ring::hmac::Key::new(ring::hmac::HMAC_SHA256, b""), b"x");
    let foreign = Broker::start()
        .await
        .assume(&user("alice"), OPEN)
        .await
        .unwrap()
        .token
        .unwrap();
    let mut other_version = URL_SAFE_NO_PAD.decode(&token).unwrap();
    other_version[0] = 1;
    let mut other_key = URL_SAFE_NO_PAD.decode(&token).unwrap();
    other_key[4] ^= 1;
    let forged = [
        jwt(r#"{"alg":"none"}"#, b""),
        jwt(r#"{"alg":"NoNe"}"#, b""),
        jwt(r#"{"alg":"HS256"}"#, hs256.as_ref()),
        jwt(r#"{"alg":["HS256"]}"#, hs256.as_ref()),
        jwt(r#"{"alg":"ES256"}"#, &[0; 64]),
        jwt(
            r#"{"alg":"RS256","kid":"../../etc/passwd","jku":"http://127.0.0.1:1/","x5u":"file:///etc/passwd"}"#,
            &[1; 256],
        ),
        foreign,
        URL_SAFE_NO_PAD.encode(other_version),
        URL_SAFE_NO_PAD.encode(other_key),
        format!("{token}="),
        format!("{token}{token}"),
        format!("{token}."),
        ".".repeat(4_000),
        "a.b.c.d".into(),
        "AQ".into(),
        token.to_lowercase(),
    ];
    assert!(broker.client(&session).get_caller_identity().await.is_ok());
    for forged in forged {
        let thief = Keys {
            token: Some(forged.clone()),
            ..session.clone()
        };
        let answer = broker.query(Some(&thief), WHO).await;
        assert_eq!(
            (answer.status, answer.code()),
            (403, "InvalidClientTokenId"),
            "{forged}"
        );
    }
    let long = Keys {
        token: Some("A".repeat(21_000)),
        ..session
    };
    assert_eq!(broker.query(Some(&long), WHO).await.status, 400);
}

#[tokio::test]
async fn tk_09_durations_are_exact_on_both_wires() {
    let broker = Broker::start().await;
    let alice = user("alice");
    for (seconds, good) in [
        ("899", false),
        ("900", true),
        ("129600", true),
        ("129601", false),
        ("0", false),
        ("-1", false),
        ("2147483648", false),
        ("1e3", false),
        ("", false),
        (" 900", false),
        ("900.0", false),
        ("99999999999999999999", false),
    ] {
        let form = [
            ("Action", "AssumeRole"),
            VERSION,
            ("RoleArn", OPEN),
            ("RoleSessionName", "session"),
            ("DurationSeconds", seconds),
        ];
        let answer = broker.query(Some(&alice), &form).await;
        assert_eq!(
            answer.code(),
            if good { "ok" } else { "ValidationError" },
            "{seconds}: {}",
            answer.body
        );
    }
    // Beyond the role's maximum, and the sentence that tools look for.
    let form = [
        ("Action", "AssumeRole"),
        VERSION,
        ("RoleArn", DIRECT),
        ("RoleSessionName", "session"),
        ("DurationSeconds", "7201"),
    ];
    let answer = broker.query(Some(&user("bob")), &form).await;
    assert_eq!(
        answer.element("Message").unwrap(),
        "The requested DurationSeconds exceeds the MaxSessionDuration set for this role."
    );
}

#[tokio::test]
async fn what_one_broker_mints_another_accepts_at_once_and_after_a_restart() {
    let dir = home();
    let mut one = Broker::start_in(dir.clone(), |_| {}).await;
    let two = Broker::start_beside(dir).await;
    let session = one.assume(&user("alice"), OPEN).await.unwrap();
    assert!(two.client(&session).get_caller_identity().await.is_ok());
    one.stop().await;
    assert!(two.client(&session).get_caller_identity().await.is_ok());
    assert!(two.assume(&session, DIRECT).await.is_ok());
}

/// Under load the tokens of one write of the log have one signature, each opens by itself on any node,
/// and the log says what was signed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tk_07_tokens_that_are_issued_together_share_signatures_and_open_on_every_node() {
    const AT_ONCE: usize = 48;
    let dir = home();
    let mut one = Broker::start_in(dir.clone(), |_| {}).await;
    let two = Broker::start_beside(dir.clone()).await;
    let alice = user("alice");
    let mut sessions = Vec::new();
    // Calls that are made at the same time usually meet; what is meant is that they can.
    for _ in 0..10 {
        let calls = (0..AT_ONCE).map(|_| one.assume(&alice, OPEN));
        sessions.extend(futures_util::future::join_all(calls).await);
        if signatures(&one).await < sessions.len() {
            break;
        }
    }
    let sessions: Vec<Keys> = sessions.into_iter().map(Result::unwrap).collect();
    let signatures = signatures(&one).await;
    assert!(signatures < sessions.len(), "{signatures} signatures");
    for session in &sessions {
        assert!(two.client(session).get_caller_identity().await.is_ok());
    }
    let length = |session: &&Keys| session.token.as_ref().map(String::len);
    let longest = sessions.iter().max_by_key(length).unwrap();
    let bytes = URL_SAFE_NO_PAD
        .decode(longest.token.as_ref().unwrap())
        .unwrap();
    // Every bit in the unit test.
    for at in (0..bytes.len()).step_by(13) {
        let mut altered = bytes.clone();
        altered[at] ^= 1 << (at % 8);
        let thief = Keys {
            token: Some(URL_SAFE_NO_PAD.encode(altered)),
            ..longest.clone()
        };
        let answer = two.query(Some(&thief), WHO).await;
        let refused = (answer.status, answer.code());
        assert_eq!(refused, (403, "InvalidClientTokenId"), "byte {at}");
    }

    one.stop().await;
    let text = std::fs::read_to_string(one.audit_path()).unwrap();
    let mut verifier = Verifier::new(None);
    verifier.read(text.as_bytes()).unwrap();
    assert!(verifier.finish().is_whole());
    let (mut leaves, mut together, mut batches) = (Vec::new(), 0, 0);
    for line in text.lines() {
        let record: Value = serde_json::from_str(line).unwrap();
        if let Some(leaf) = record["tokenLeaf"].as_str() {
            let bytes = (0..64).step_by(2);
            let bytes = bytes.map(|at| u8::from_str_radix(&leaf[at..at + 2], 16).unwrap());
            let leaf: Hash = bytes.collect::<Vec<u8>>().try_into().unwrap();
            leaves.push(leaf);
        }
        if record["eventName"] == "SignSessionTokens" {
            let signed = &record["additionalEventData"];
            let size = usize::try_from(signed["treeSize"].as_u64().unwrap()).unwrap();
            let tree = Tree::new(leaves[leaves.len() - size..].to_vec()).unwrap();
            assert_eq!(signed["rootHash"], hex(&tree.root()));
            together += size;
            batches += 1;
        }
    }
    assert_eq!(leaves.len(), sessions.len());
    assert_eq!(batches + leaves.len() - together, signatures);
}

/// How many signatures of tokens a broker has made.
async fn signatures(broker: &Broker) -> usize {
    let metrics = broker.operator("/metrics").await.body;
    let name = "brevet_token_signatures_total ";
    let line = metrics.lines().find_map(|line| line.strip_prefix(name));
    line.unwrap().parse().unwrap()
}

#[tokio::test]
async fn an_07_a_remembered_token_vouches_for_no_other_that_begins_like_it() {
    let broker = Broker::start_with(|c| c.audit = brevet::audit::Target::Discard).await;
    let session = broker.assume(&user("alice"), OPEN).await.unwrap();
    let token = session.token.clone().unwrap();
    let ask = async |token: String| {
        let thief = Keys {
            token: Some(token),
            ..session.clone()
        };
        let answer = broker.query(Some(&thief), WHO).await;
        (answer.status, answer.code().to_owned())
    };
    // It is remembered from here on.
    assert_eq!(ask(token.clone()).await, (200, "ok".to_owned()));
    let refused = (403, "InvalidClientTokenId".to_owned());
    for length in 20..=200 {
        let (same, rest) = token.split_at(length);
        // The same beginning with another end: one character differs, or all of them.
        let next = if rest.starts_with('A') { "B" } else { "A" };
        assert_eq!(
            ask(format!("{same}{next}{}", &rest[1..])).await,
            refused,
            "{length}"
        );
        assert_eq!(
            ask(format!("{same}{}", next.repeat(rest.len()))).await,
            refused,
            "{length}"
        );
        assert_eq!(
            ask(same.to_owned()).await,
            refused,
            "{length}: nothing but the beginning"
        );
    }
    assert_eq!(ask(token.clone()).await, (200, "ok".to_owned()));
    // The same end with another beginning.
    let (first, rest) = token.split_at(1);
    assert_eq!(
        ask(format!("{}{rest}", if first == "A" { "B" } else { "A" })).await,
        refused
    );
}
