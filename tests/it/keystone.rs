//! The part of OpenStack Keystone by which an object store asks whose signature a request has.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use brevet::base::digest::{hex, sha256};
use brevet::client::AssumeRole;
use http::{HeaderMap, HeaderValue};
use ring::hmac;
use serde_json::{Value, json};

use crate::harness::*;
use crate::relying::key_of;

const LOGIN: &str = "/v3/auth/tokens";
const ASK: &str = "/v3/s3tokens";

/// A broker with a user `rgw` for the store, and a role whose sessions may use it.
async fn broker(enabled: bool) -> Broker {
    let dir = home();
    let mut directory: Value = serde_json::from_str(DIRECTORY).unwrap();
    let arn = "arn:aws:iam::111122223333:user/rgw";
    let allow = |action: &str| {
        json!({"Version": "2012-10-17", "Statement": [
            {"Effect": "Allow", "Action": action, "Resource": arn}]})
    };
    directory["UserDetailList"]
        .as_array_mut()
        .unwrap()
        .push(json!({
        "Path": "/", "UserName": "rgw", "UserId": "AIDARGWRGWRGWRGWRGW1", "Arn": arn,
        "UserPolicyList": [{"PolicyName": "p", "PolicyDocument": allow("brevet:VerifyRequest")}]}));
    directory["Brevet"]["AccessKeys"]
        .as_array_mut()
        .unwrap()
        .push(json!({
        "UserArn": arn, "AccessKeyId": key_of("rgw").id, "SecretAccessKey": key_of("rgw").secret}));
    let policy = json!({"PolicyName": "store", "PolicyDocument": allow("brevet:UseObjectStore")});
    directory["RoleDetailList"][0]["RolePolicyList"]
        .as_array_mut()
        .unwrap()
        .push(policy.clone());
    directory["UserDetailList"][0]["UserPolicyList"]
        .as_array_mut()
        .unwrap()
        .push(policy);
    let path = dir.path().join("directory.json");
    brevet::files::write_private(&path, directory.to_string().as_bytes()).unwrap();
    Broker::start_in(dir, |c| c.keystone = enabled).await
}

async fn post(broker: &Broker, path: &str, token: Option<&str>, body: &Value) -> Answer {
    let mut headers = HeaderMap::new();
    headers.insert("content-type", HeaderValue::from_static("application/json"));
    if let Some(token) = token {
        headers.insert("x-auth-token", token.parse().unwrap());
    }
    broker
        .send("POST", path, headers, body.to_string().into_bytes())
        .await
}

async fn log_in(broker: &Broker, keys: &Keys) -> Answer {
    let user = json!({"name": keys.id, "password": keys.secret, "domain": {"name": "Default"}});
    let identity = json!({"methods": ["password"], "password": {"user": user}});
    post(
        broker,
        LOGIN,
        None,
        &json!({"auth": {"identity": identity}}),
    )
    .await
}

/// A question of the store: the string to sign of a request to it, and the signature.
fn question(keys: &Keys, service: &str, date: &str) -> Value {
    let day = &date[..8];
    let scope = format!("{day}/default/{service}/aws4_request");
    let digest = hex(&sha256(b"GET\n/bucket/key\n"));
    let text = format!("AWS4-HMAC-SHA256\n{date}\n{scope}\n{digest}");
    let mut key = format!("AWS4{}", keys.secret).into_bytes();
    for part in [day, "default", service, "aws4_request", &text] {
        let signed = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, &key), part.as_bytes());
        key = signed.as_ref().to_vec();
    }
    json!({"credentials": {"access": keys.id, "signature": hex(&key), "token": STANDARD.encode(text)}})
}

const NOW: &str = "20261124T120000Z";

async fn asked(broker: &Broker, token: &str, keys: &Keys) -> u16 {
    post(broker, ASK, Some(token), &question(keys, "s3", NOW))
        .await
        .status
}

#[tokio::test]
async fn a_store_learns_whose_request_it_is_until_the_session_ends() {
    let broker = broker(true).await;
    let answer = log_in(&broker, &key_of("rgw")).await;
    assert_eq!(answer.status, 201, "{}", answer.body);
    let token = answer.headers["x-subject-token"]
        .to_str()
        .unwrap()
        .to_owned();
    assert!(!token.contains(&key_of("rgw").secret) && !answer.body.contains("canary"));
    let session = broker.assume(&user("alice"), OPEN).await.unwrap();
    let answer = post(&broker, ASK, Some(&token), &question(&session, "s3", NOW)).await;
    assert_eq!(answer.status, 200, "{}", answer.body);
    let body: Value = serde_json::from_str(&answer.body).unwrap();
    assert_eq!(body["token"]["project"]["id"], "111122223333");
    assert_eq!(
        body["token"]["user"]["name"],
        "arn:aws:sts::111122223333:assumed-role/Open/test-session"
    );
    assert_eq!(body["token"]["expires_at"], "2026-11-24T13:00:00.000000Z");
    // A long-term key; the secret is never handed out.
    assert_eq!(asked(&broker, &token, &user("alice")).await, 200);
    let path = format!("/v3/users/x/credentials/OS-EC2/{}", user("alice").id);
    assert_eq!(
        broker
            .send("GET", &path, HeaderMap::new(), Vec::new())
            .await
            .status,
        404
    );
    // Who may not use the store, whatever its signature is.
    assert_eq!(asked(&broker, &token, &user("bob")).await, 401);
    let policy = json!({"Version": "2012-10-17", "Statement": [
        {"Effect": "Allow", "Action": "s3:*", "Resource": "*"}]});
    let request = AssumeRole {
        policy: Some(policy.to_string()),
        ..AssumeRole::new(OPEN, "limited")
    };
    let limited = broker
        .client(&user("alice"))
        .assume_role(&request)
        .await
        .unwrap();
    assert_eq!(
        asked(&broker, &token, &Keys::from(&limited.credentials)).await,
        401
    );
    // A wrong secret, an unknown session, another account, another service, an old date.
    for keys in [
        Keys {
            secret: "wrong".into(),
            ..session.clone()
        },
        Keys {
            id: "ASIAAAAAAAAAAAAAAAAA".into(),
            ..session.clone()
        },
        user("carol"),
    ] {
        assert_eq!(asked(&broker, &token, &keys).await, 401, "{}", keys.id);
    }
    for (service, date) in [
        ("sts", NOW),
        ("s3", "20261124T113000Z"),
        ("s3", "20261123T120000Z"),
    ] {
        let answer = post(
            &broker,
            ASK,
            Some(&token),
            &question(&session, service, date),
        )
        .await;
        assert_eq!(answer.status, 401, "{service} {date}");
    }
    broker
        .revoke(&user("admin"), Selector::AccessKeyId(session.id.clone()))
        .await
        .unwrap();
    assert_eq!(asked(&broker, &token, &session).await, 401);
    let audit = broker.into_audit().await;
    assert!(audit.iter().any(|l| l["eventName"] == "VerifyStringToSign"
        && l["responseElements"]["arn"]
            == "arn:aws:sts::111122223333:assumed-role/Open/test-session"));
    assert!(audit.iter().all(|l| !l.to_string().contains(&token)));
}

#[tokio::test]
async fn a_stranger_is_no_store() {
    let broker = broker(true).await;
    for keys in [
        Keys {
            secret: "wrong".into(),
            ..key_of("rgw")
        },
        Keys {
            id: "AKIAUNKNOWN000000000".into(),
            ..key_of("rgw")
        },
    ] {
        assert_eq!(log_in(&broker, &keys).await.status, 401);
    }
    let alice = question(&user("alice"), "s3", NOW);
    assert_eq!(post(&broker, ASK, None, &alice).await.status, 401);
    assert_eq!(post(&broker, ASK, Some("x"), &alice).await.status, 401);
    // A session token is no token of a store.
    let session = broker.assume(&user("alice"), OPEN).await.unwrap();
    let token = session.token.unwrap();
    assert_eq!(
        post(&broker, ASK, Some(&token[..1_000.min(token.len())]), &alice)
            .await
            .status,
        401
    );
    // A user without the permission may log in, and learns nothing.
    let answer = log_in(&broker, &user("bob")).await;
    let token = answer.headers["x-subject-token"]
        .to_str()
        .unwrap()
        .to_owned();
    assert_eq!(asked(&broker, &token, &user("alice")).await, 401);
    for body in [
        json!({}),
        json!({"auth": {}}),
        json!([]),
        json!({"credentials": {"access": 1}}),
    ] {
        let answer = post(&broker, LOGIN, None, &body).await;
        assert_eq!(answer.status, 400, "{body}: {}", answer.body);
    }
    // The token of a store ends.
    let answer = log_in(&broker, &key_of("rgw")).await;
    let token = answer.headers["x-subject-token"]
        .to_str()
        .unwrap()
        .to_owned();
    broker.clock.advance(std::time::Duration::from_secs(3_600));
    assert_eq!(asked(&broker, &token, &user("alice")).await, 401);
}

#[tokio::test]
async fn it_is_off_unless_it_is_switched_on() {
    let broker = broker(false).await;
    for path in [LOGIN, ASK] {
        let answer = post(&broker, path, None, &json!({})).await;
        assert!(
            answer.body.contains("UnknownOperationException"),
            "{}",
            answer.body
        );
    }
}
