//! Services that ask: whose signature a request has, and what a principal may do.

use std::sync::Arc;

use brevet::api::relying::v1 as pb;
use brevet::base::digest::sha256;
use brevet::base::secret::Secret;
use brevet::client::{AssumeRole, WatchedSession};
use brevet::proof::sigv4::Signer;
use http::HeaderMap;
use serde_json::{Value, json};

use crate::harness::*;
use crate::s3_proxies::{self, HOST};

/// A broker with a user `app` whose policies let it ask about its own resources, a user `narrow` who may
/// ask about resources of the service `other` only, and a user `watcher` who may watch its own sessions.
pub async fn broker() -> Broker {
    broker_with(|_| {}).await
}

pub async fn broker_with(change: impl FnOnce(&mut brevet::config::Config)) -> Broker {
    let dir = home();
    let mut directory: Value = serde_json::from_str(DIRECTORY).unwrap();
    let allow = |action: Value, resource: Value| {
        json!({"Version": "2012-10-17", "Statement": [
            {"Effect": "Allow", "Action": action, "Resource": resource}]})
    };
    let (verify, watch) = ("brevet:VerifyRequest", "brevet:WatchRevocations");
    for (name, id, policy) in [
        (
            "app",
            "AIDAAPPAPPAPPAPPAPP1",
            allow(json!(["brevet:Authorize", verify, watch]), json!("*")),
        ),
        (
            "watcher",
            "AIDAWATCHERWATCHERW1",
            allow(json!(watch), json!("*")),
        ),
        (
            "narrow",
            "AIDANARROWNARROWNAR1",
            allow(
                json!("brevet:Authorize"),
                json!("arn:aws:other::111122223333:*"),
            ),
        ),
    ] {
        let arn = format!("arn:aws:iam::111122223333:user/{name}");
        directory["UserDetailList"]
            .as_array_mut()
            .unwrap()
            .push(json!({
            "Path": "/", "UserName": name, "UserId": id, "Arn": arn,
            "UserPolicyList": [{"PolicyName": "p", "PolicyDocument": policy}]}));
        directory["Brevet"]["AccessKeys"].as_array_mut().unwrap().push(json!({
            "UserArn": arn, "AccessKeyId": key_of(name).id, "SecretAccessKey": key_of(name).secret}));
    }
    let records = json!({"Version": "2012-10-17", "Statement": [
        {"Effect": "Allow", "Action": ["record:read", "record:write"], "Resource": "arn:aws:record::111122223333:*"},
        {"Effect": "Deny", "Action": "record:write", "Resource": "*",
         "Condition": {"StringEquals": {"aws:ResourceTag/status": "archived"},
                       "StringNotEquals": {"record:Subject/role": "admin"}}},
        {"Effect": "Allow", "Action": "record:delete", "Resource": "*",
         "Condition": {"Bool": {"record:Action/soft": "true"}}},
        {"Effect": "Allow", "Action": "record:print", "Resource": "*",
         "Condition": {"IpAddress": {"aws:SourceIp": "127.0.0.0/8"}}},
        {"Effect": "Allow", "Action": "record:sign", "Resource": "*",
         "Condition": {"Bool": {"aws:MultiFactorAuthPresent": "true"}}}]});
    let bobs = json!({"Version": "2012-10-17", "Statement": [
        {"Effect": "Allow", "Action": "record:read", "Resource": "*"},
        {"Effect": "Allow", "Action": "record:write", "Resource": "*",
         "Condition": {"StringEquals": {"record:Subject/role": "admin"}}}]});
    for (user, policy) in [("alice", &records), ("bob", &bobs)] {
        let users = directory["UserDetailList"].as_array_mut().unwrap();
        let found = users.iter_mut().find(|u| u["UserName"] == user).unwrap();
        let policies = found.as_object_mut().unwrap().entry("UserPolicyList");
        let policies = policies.or_insert(json!([])).as_array_mut().unwrap();
        policies.push(json!({"PolicyName": "records", "PolicyDocument": policy}));
    }
    let role = &mut directory["RoleDetailList"][0];
    role["RolePolicyList"]
        .as_array_mut()
        .unwrap()
        .push(json!({"PolicyName": "records", "PolicyDocument": records}));
    let path = dir.path().join("directory.json");
    brevet::files::write_private(&path, directory.to_string().as_bytes()).unwrap();
    Broker::start_in(dir, change).await
}

pub fn key_of(name: &str) -> Keys {
    Keys {
        id: format!("AKIATEST{:0<12}", name.to_uppercase()),
        secret: format!("canary+secret/of/{name}/0123456789abcdefghijkl"),
        token: None,
    }
}

fn session(keys: &Keys) -> pb::Subject {
    pb::Subject {
        subject: Some(pb::subject::Subject::Session(pb::SubjectSession {
            access_key_id: keys.id.clone(),
            session_token: keys.token.clone().unwrap_or_default(),
        })),
    }
}

fn principal(arn: &str) -> pb::Subject {
    pb::Subject {
        subject: Some(pb::subject::Subject::PrincipalArn(arn.to_owned())),
    }
}

fn item(action: &str, record: &str, context: &[(&str, &str)]) -> pb::AuthorizeItem {
    pb::AuthorizeItem {
        action: action.to_owned(),
        resource: format!("arn:aws:record::111122223333:{record}"),
        context: context
            .iter()
            .map(|(key, value)| pb::ContextEntry {
                key: (*key).to_owned(),
                values: vec![(*value).to_owned()],
            })
            .collect(),
    }
}

async fn ask(
    broker: &Broker,
    keys: &Keys,
    subject: pb::Subject,
    items: Vec<pb::AuthorizeItem>,
) -> Result<Vec<pb::Decision>, String> {
    let request = pb::AuthorizeRequest {
        subject: Some(subject),
        items,
        ..Default::default()
    };
    let answer = broker.client(keys).authorize(request).await;
    answer.map(|a| a.decisions).map_err(|error| code(&error))
}

/// The codes of the decisions.
async fn codes(
    broker: &Broker,
    subject: pb::Subject,
    items: Vec<pb::AuthorizeItem>,
) -> Vec<String> {
    let decisions = ask(broker, &key_of("app"), subject, items).await.unwrap();
    decisions.into_iter().map(|d| d.code).collect()
}

#[tokio::test]
async fn a_session_is_judged_by_its_policies_until_it_ends() {
    let broker = broker().await;
    let whole = broker.assume(&user("alice"), OPEN).await.unwrap();
    let items = || {
        vec![
            item("record:read", "1", &[]),
            item(
                "record:write",
                "1",
                &[("aws:ResourceTag/status", "archived")],
            ),
            item("record:delete", "1", &[("record:Action/soft", "false")]),
            item("record:delete", "1", &[("record:Action/soft", "true")]),
        ]
    };
    let answers = ask(&broker, &key_of("app"), session(&whole), items())
        .await
        .unwrap();
    let got: Vec<&str> = answers.iter().map(|d| d.code.as_str()).collect();
    assert_eq!(got, ["Allowed", "ExplicitDeny", "ImplicitDeny", "Allowed"]);
    assert!(
        answers
            .iter()
            .all(|d| d.expires_at.is_some() && d.cache_seconds == 2)
    );
    // Whoever may know the reason opens it.
    let opened = broker
        .client(&user("admin"))
        .decode_authorization_message(&answers[1].encoded_message)
        .await
        .unwrap();
    let opened: Value = serde_json::from_str(&opened).unwrap();
    assert_eq!(opened["context"]["action"], "record:write");
    assert_eq!(opened["explicitDeny"], true, "{opened}");
    // A session policy limits what is allowed.
    let policy = json!({"Version": "2012-10-17", "Statement": [
        {"Effect": "Allow", "Action": "record:delete", "Resource": "*"}]});
    let request = AssumeRole {
        policy: Some(policy.to_string()),
        ..AssumeRole::new(OPEN, "limited")
    };
    let limited = broker
        .client(&user("alice"))
        .assume_role(&request)
        .await
        .unwrap();
    let limited = Keys::from(&limited.credentials);
    assert_eq!(
        codes(&broker, session(&limited), items()).await,
        ["ImplicitDeny", "ExplicitDeny", "ImplicitDeny", "Allowed"]
    );
    // What narrows the session limits it further.
    let policy = json!({"Version": "2012-10-17", "Statement": [
        {"Effect": "Allow", "Action": "record:read", "Resource": "*"}]});
    let client = broker.client(&whole);
    let narrowed = client
        .get_scoped_credentials(Some(&policy.to_string()), None, None)
        .await
        .unwrap();
    assert_eq!(
        codes(&broker, session(&Keys::from(&narrowed)), items()).await,
        ["Allowed", "ExplicitDeny", "ImplicitDeny", "ImplicitDeny"]
    );
    // The token of another session with the key of this one, and a token that is none.
    for wrong in [
        Keys {
            token: limited.token.clone(),
            ..whole.clone()
        },
        Keys {
            token: Some("x".repeat(400)),
            ..whole.clone()
        },
    ] {
        let got = codes(
            &broker,
            session(&wrong),
            vec![item("record:read", "1", &[])],
        )
        .await;
        assert_eq!(got, ["NoSuchSession"]);
    }
    broker
        .revoke(&user("admin"), Selector::AccessKeyId(limited.id.clone()))
        .await
        .unwrap();
    let read = || vec![item("record:read", "1", &[])];
    assert_eq!(
        codes(&broker, session(&limited), read()).await,
        ["SessionEnded"]
    );
    broker.clock.advance(std::time::Duration::from_secs(3_599));
    let last = ask(&broker, &key_of("app"), session(&whole), read())
        .await
        .unwrap();
    assert_eq!(
        (last[0].code.as_str(), last[0].cache_seconds),
        ("Allowed", 1)
    );
    broker.clock.advance(std::time::Duration::from_secs(1));
    assert_eq!(
        codes(&broker, session(&whole), read()).await,
        ["ExpiredToken"]
    );
}

#[tokio::test]
async fn users_and_roles_are_judged_and_what_nobody_knows_allows_nothing() {
    let broker = broker().await;
    let alice = "arn:aws:iam::111122223333:user/alice";
    for who in [alice, OPEN] {
        let items = vec![
            item("record:read", "1", &[]),
            item("record:print", "1", &[]),
            item("record:sign", "1", &[]),
            item("record:nothing", "1", &[]),
        ];
        assert_eq!(
            codes(&broker, principal(who), items).await,
            ["Allowed", "ImplicitDeny", "ImplicitDeny", "ImplicitDeny"],
            "{who}"
        );
    }
    // A resource of another account needs a policy of its own.
    let mut foreign = item("record:read", "1", &[]);
    foreign.resource = "arn:aws:record::444455556666:1".to_owned();
    assert_eq!(
        codes(&broker, principal(alice), vec![foreign]).await,
        ["ImplicitDeny"]
    );
    for unknown in [
        "arn:aws:iam::111122223333:user/nobody",
        "arn:aws:iam::111122223333:role/Nothing",
        "arn:aws:iam::444455556666:user/carol",
    ] {
        let got = codes(
            &broker,
            principal(unknown),
            vec![item("record:read", "1", &[])],
        )
        .await;
        assert_eq!(got, ["NoSuchPrincipal"], "{unknown}");
    }
}

#[tokio::test]
async fn az_08_a_service_cannot_say_what_the_broker_says() {
    let broker = broker().await;
    let subject = || principal("arn:aws:iam::111122223333:user/alice");
    for (key, value) in [
        ("aws:MultiFactorAuthPresent", "true"),
        ("AWS:multifactorauthpresent", "true"),
        ("aws:SourceIp", "127.0.0.1"),
        ("aws:PrincipalTag/team", "red"),
        ("aws:PrincipalArn", "arn:aws:iam::111122223333:user/admin"),
        ("aws:CurrentTime", "2000-01-01T00:00:00Z"),
        ("sts:ExternalId", "x"),
        ("accounts.google.com:sub", "x"),
        ("other:key", "x"),
    ] {
        let items = vec![item("record:sign", "1", &[(key, value)])];
        let got = ask(&broker, &key_of("app"), subject(), items).await;
        assert_eq!(got.err().as_deref(), Some("ValidationError"), "{key}");
    }
    for action in [
        "iam:CreateUser",
        "sts:AssumeRole",
        "brevet:Authorize",
        "record:*",
        "record",
        "*",
    ] {
        let items = vec![item(action, "1", &[])];
        let got = ask(&broker, &key_of("app"), subject(), items).await;
        assert_eq!(got.err().as_deref(), Some("ValidationError"), "{action}");
    }
}

#[tokio::test]
async fn who_may_not_ask_learns_nothing() {
    let broker = broker().await;
    let whole = broker.assume(&user("alice"), OPEN).await.unwrap();
    let nobody = Keys {
        id: "ASIAAAAAAAAAAAAAAAAA".into(),
        ..whole.clone()
    };
    let subjects = || {
        [
            session(&whole),
            session(&nobody),
            principal("arn:aws:iam::111122223333:user/alice"),
            principal("arn:aws:iam::111122223333:user/nobody"),
            principal("arn:aws:iam::444455556666:user/carol"),
        ]
    };
    for caller in [user("bob"), key_of("narrow"), whole.clone()] {
        let mut seen = Vec::new();
        for subject in subjects() {
            let request = pb::AuthorizeRequest {
                subject: Some(subject),
                items: vec![item("record:read", "1", &[])],
                ..Default::default()
            };
            let error = broker
                .client(&caller)
                .authorize(request)
                .await
                .err()
                .unwrap();
            assert_eq!(code(&error), "AccessDenied");
            seen.push(sentence(&error.to_string()).0.to_owned());
        }
        seen.dedup();
        assert_eq!(seen.len(), 1, "{seen:?}");
    }
    // About its own resources, the narrow one may ask.
    let mut own = item("other:read", "1", &[]);
    own.resource = "arn:aws:other::111122223333:1".to_owned();
    let got = ask(
        &broker,
        &key_of("narrow"),
        session(&whole),
        vec![own.clone()],
    )
    .await;
    assert_eq!(got.unwrap()[0].code, "ImplicitDeny");
    // One resource too many refuses the whole call.
    let both = vec![own, item("record:read", "1", &[])];
    let got = ask(&broker, &key_of("narrow"), session(&whole), both).await;
    assert_eq!(got.err().as_deref(), Some("AccessDenied"));
    let audit = broker.into_audit().await;
    let text = |l: &Value| l.to_string();
    let token = whole.token.unwrap();
    assert!(audit.iter().all(|l| !text(l).contains(&token)));
    let asked = audit
        .iter()
        .find(|l| l["eventName"] == "Authorize" && l.get("errorCode").is_none());
    let asked = asked.unwrap();
    assert_eq!(asked["requestParameters"]["subject"], whole.id.as_str());
    assert_eq!(
        asked["responseElements"],
        json!({"allowed": 0, "denied": 1})
    );
}

#[tokio::test]
async fn a_call_is_bounded_and_stops_where_it_is_told_to() {
    let broker = broker().await;
    let subject = || principal("arn:aws:iam::111122223333:user/bob");
    let many = |n: usize| vec![item("record:read", "1", &[]); n];
    assert_eq!(codes(&broker, subject(), many(100)).await.len(), 100);
    for n in [0, 101] {
        let got = ask(&broker, &key_of("app"), subject(), many(n)).await;
        assert_eq!(got.err().as_deref(), Some("ValidationError"), "{n}");
    }
    let long = "x".repeat(2_049);
    let got = ask(
        &broker,
        &key_of("app"),
        subject(),
        vec![item("record:read", &long, &[])],
    )
    .await;
    assert_eq!(got.err().as_deref(), Some("ValidationError"));
    let items = || {
        vec![
            item("record:read", "1", &[]),
            item("record:write", "1", &[]),
            item("record:read", "2", &[]),
        ]
    };
    for (semantic, expected) in [
        (pb::Semantic::Unspecified, vec![true, false, true]),
        (pb::Semantic::DenyOnFirstDeny, vec![true, false]),
        (pb::Semantic::PermitOnFirstPermit, vec![true]),
    ] {
        let request = pb::AuthorizeRequest {
            subject: Some(subject()),
            items: items(),
            semantic: semantic.into(),
            ..Default::default()
        };
        let answer = broker
            .client(&key_of("app"))
            .authorize(request)
            .await
            .unwrap();
        let got: Vec<bool> = answer.decisions.iter().map(|d| d.allowed).collect();
        assert_eq!(got, expected, "{}", semantic.as_str_name());
    }
}

/// A request to a service `photos` as the service receives it.
struct Received {
    headers: HeaderMap,
    uri: &'static str,
    body: &'static [u8],
}

const URI: &str = "/albums/summer%202026?page=2";

fn received(keys: &Keys, service: &str, host: &str, extra: &[(&'static str, &str)]) -> Received {
    let mut headers = HeaderMap::new();
    for (name, value) in extra {
        headers.insert(*name, value.parse().unwrap());
    }
    let body = b"{}";
    let signer = Signer {
        service,
        ..keys.signer("eu-north-1")
    };
    // The client encodes the path once more, as all services but S3 want it.
    signer
        .sign("POST", "/albums", host, &mut headers, &sha256(body), now())
        .unwrap();
    headers.insert("host", host.parse().unwrap());
    Received {
        headers,
        uri: "/albums",
        body,
    }
}

fn expected() -> pb::ExpectedRequest {
    pb::ExpectedRequest {
        service: "photos".into(),
        hosts: vec!["photos.example.com".into()],
        ..Default::default()
    }
}

async fn verify(
    broker: &Broker,
    received: &Received,
    expected: pb::ExpectedRequest,
) -> Result<pb::Signer, String> {
    let headers = received.headers.iter().map(|(name, value)| pb::Header {
        name: name.to_string(),
        value: value.as_bytes().to_vec(),
    });
    let request = pb::VerifyRequestRequest {
        request: Some(pb::SignedRequest {
            method: "POST".into(),
            uri: received.uri.into(),
            headers: headers.collect(),
            payload: Some(pb::signed_request::Payload::Body(received.body.to_vec())),
        }),
        expected: Some(expected),
    };
    let answer = broker.client(&key_of("app")).verify_request(request).await;
    match answer.map_err(|error| code(&error))?.outcome.unwrap() {
        pb::verify_request_response::Outcome::Signer(signer) => Ok(signer),
        pb::verify_request_response::Outcome::Refused(refused) => Err(refused.code),
    }
}

/// The outcome for a request to a store at `s3_proxies::HOST`.
async fn verify_s3(
    broker: &Broker,
    (method, uri): (&str, &str),
    headers: &HeaderMap,
    payload: Option<pb::signed_request::Payload>,
    region: Option<&str>,
) -> Result<pb::Signer, String> {
    let mut headers = headers.clone();
    headers.insert("host", HOST.parse().unwrap());
    let headers = headers.iter().map(|(name, value)| pb::Header {
        name: name.to_string(),
        value: value.as_bytes().to_vec(),
    });
    let request = pb::VerifyRequestRequest {
        request: Some(pb::SignedRequest {
            method: method.into(),
            uri: uri.into(),
            headers: headers.collect(),
            payload,
        }),
        expected: Some(pb::ExpectedRequest {
            service: "s3".into(),
            hosts: vec![HOST.into()],
            region: region.map(str::to_owned),
            ..Default::default()
        }),
    };
    let answer = broker.client(&key_of("app")).verify_request(request).await;
    match answer.map_err(|error| code(&error))?.outcome.unwrap() {
        pb::verify_request_response::Outcome::Signer(signer) => Ok(signer),
        pb::verify_request_response::Outcome::Refused(refused) => Err(refused.code),
    }
}

#[tokio::test]
async fn sv_06_a_request_in_the_form_of_s3_is_verified_with_the_codes_of_s3() {
    use pb::signed_request::Payload;
    let broker = broker().await;
    let whole = broker.assume(&user("alice"), OPEN).await.unwrap();
    let signed = |keys: &Keys| {
        let mut headers = HeaderMap::new();
        s3_proxies::sign(&broker, keys, "GET", "/data/a b+c", &mut headers);
        headers
    };
    let (asked, headers) = (("GET", "/data/a%20b%2Bc"), signed(&whole));
    let signer = verify_s3(&broker, asked, &headers, None, None)
        .await
        .unwrap();
    assert_eq!((&*signer.role_arn, &*signer.region), (OPEN, "us-east-1"));
    assert_eq!(
        signer.declared_payload,
        brevet::base::digest::hex(&sha256(b""))
    );
    let empty = Payload::Body(Vec::new());
    let same = verify_s3(&broker, asked, &headers, Some(empty), Some("us-east-1"));
    assert!(same.await.is_ok());
    let mut unsigned = headers.clone();
    unsigned.insert("x-amz-acl", "public-read".parse().unwrap());
    let mut nothing = headers.clone();
    nothing.remove("authorization");
    let other = Payload::Body(b"other".to_vec());
    let unknown = Keys {
        id: "AKIAUNKNOWNUNKNOWN12".into(),
        ..user("alice")
    };
    let other_account = signed(&user("carol"));
    for (asked, headers, payload, region, expected) in [
        (asked, &headers, Some(other), None, "BadDigest"),
        (
            ("GET", "/data/a%20b"),
            &headers,
            None,
            None,
            "SignatureDoesNotMatch",
        ),
        (
            ("PUT", asked.1),
            &headers,
            None,
            None,
            "SignatureDoesNotMatch",
        ),
        (
            ("GET", "/data/a%2520b%2Bc"),
            &headers,
            None,
            None,
            "SignatureDoesNotMatch",
        ),
        (("GET", "/data%2Fa"), &headers, None, None, "InvalidURI"),
        (
            asked,
            &headers,
            None,
            Some("eu-north-1"),
            "AuthorizationHeaderMalformed",
        ),
        (asked, &unsigned, None, None, "AccessDenied"),
        (asked, &nothing, None, None, "AccessDenied"),
        (asked, &signed(&unknown), None, None, "InvalidToken"),
        (asked, &other_account, None, None, "InvalidToken"),
    ] {
        let got = verify_s3(&broker, asked, headers, payload, region).await;
        assert_eq!(got.err().as_deref(), Some(expected), "{asked:?}");
    }
    broker.clock.advance(std::time::Duration::from_secs(3_600));
    let late = signed(&whole);
    let got = verify_s3(&broker, asked, &late, None, None).await;
    assert_eq!(got.err().as_deref(), Some("ExpiredToken"));
    let got = verify_s3(&broker, asked, &headers, None, None).await;
    assert_eq!(got.err().as_deref(), Some("RequestTimeTooSkewed"));
}

#[tokio::test]
async fn a_service_that_may_verify_requests_learns_of_the_end_of_the_sessions_that_it_was_shown() {
    let broker = broker().await;
    let watched = |keys: &Keys| WatchedSession {
        access_key_id: keys.id.clone(),
        session_token: Arc::new(Secret::new(keys.token.clone().unwrap())),
    };
    let [first, second] = [
        broker.assume(&user("alice"), OPEN).await.unwrap(),
        broker.assume(&user("alice"), OPEN).await.unwrap(),
    ];
    let shown = [watched(&first), watched(&second)];
    let client = broker.client(&key_of("app"));
    let mut stream = client.watch_revocations(&shown, None).await.unwrap();
    let begun = stream.next().await.unwrap().unwrap();
    assert!(begun.ended_access_key_ids.is_empty());
    let change = broker
        .revoke(&user("admin"), Selector::AccessKeyId(first.id.clone()))
        .await
        .unwrap();
    let ended = loop {
        let message = stream.next().await.unwrap().unwrap();
        if !message.ended_access_key_ids.is_empty() {
            break message;
        }
    };
    assert_eq!(ended.ended_access_key_ids, std::slice::from_ref(&first.id));
    assert!(ended.sequence_number >= change);
    // Who may only watch what it handed out learns nothing, and nobody learns of another account's sessions.
    let client = broker.client(&key_of("watcher"));
    let got = client.watch_revocations(&shown, None).await.map(drop);
    assert_eq!(
        got.err().map(|error| code(&error)).as_deref(),
        Some("AccessDenied")
    );
    let carol = broker.client(&user("carol")).get_session_token(None).await;
    let of_others = [watched(&Keys::from(&carol.unwrap()))];
    let client = broker.client(&key_of("app"));
    let got = client.watch_revocations(&of_others, None).await.map(drop);
    assert_eq!(
        got.err().map(|error| code(&error)).as_deref(),
        Some("AccessDenied")
    );
}

#[tokio::test]
async fn a_request_to_another_service_is_verified() {
    let broker = broker().await;
    let whole = broker.assume(&user("alice"), OPEN).await.unwrap();
    let host = "photos.example.com";
    let signer = verify(&broker, &received(&whole, "photos", host, &[]), expected())
        .await
        .unwrap();
    assert_eq!(
        signer.arn,
        "arn:aws:sts::111122223333:assumed-role/Open/test-session"
    );
    assert_eq!(
        (signer.role_arn.as_str(), signer.access_key_id.as_str()),
        (OPEN, whole.id.as_str())
    );
    assert_eq!(
        (signer.account.as_str(), signer.region.as_str()),
        ("111122223333", "eu-north-1")
    );
    let found = signer.session.unwrap();
    assert_eq!(
        (found.session_id.len(), found.session_name.as_str()),
        (32, "test-session")
    );
    let own = verify(
        &broker,
        &received(&user("alice"), "photos", host, &[]),
        expected(),
    )
    .await
    .unwrap();
    assert_eq!(own.tags.get("team").map(String::as_str), Some("blue"));
    assert!(own.session.is_none());
    // What the service expects is not what was signed.
    let good = received(&whole, "photos", host, &[("x-service-id", "album-1")]);
    let audience = |header: &str, value: &str| pb::ExpectedRequest {
        audience: Some(pb::Audience {
            header: header.into(),
            value: value.into(),
        }),
        ..expected()
    };
    assert!(verify(&broker, &good, expected()).await.is_ok());
    let mut signed = received(
        &whole,
        "photos",
        host,
        &[("x-amz-meta-audience", "album-1")],
    );
    assert!(
        verify(&broker, &signed, audience("x-amz-meta-audience", "album-1"))
            .await
            .is_ok()
    );
    for (request, expected, code) in [
        // The header is there, and not signed.
        (
            &good,
            audience("x-service-id", "album-1"),
            "SignatureDoesNotMatch",
        ),
        (
            &signed,
            audience("x-amz-meta-audience", "album-2"),
            "SignatureDoesNotMatch",
        ),
        (
            &signed,
            audience("x-amz-meta-other", "album-1"),
            "SignatureDoesNotMatch",
        ),
        (
            &good,
            pb::ExpectedRequest {
                method: Some("GET".into()),
                ..expected()
            },
            "SignatureDoesNotMatch",
        ),
        (
            &good,
            pb::ExpectedRequest {
                path: Some("/other".into()),
                ..expected()
            },
            "SignatureDoesNotMatch",
        ),
        (
            &good,
            pb::ExpectedRequest {
                region: Some("us-east-1".into()),
                ..expected()
            },
            "SignatureDoesNotMatch",
        ),
        (
            &good,
            pb::ExpectedRequest {
                hosts: vec!["other.example.com".into()],
                ..expected()
            },
            "SignatureDoesNotMatch",
        ),
        (
            &good,
            pb::ExpectedRequest {
                service: "other".into(),
                ..expected()
            },
            "SignatureDoesNotMatch",
        ),
        (
            &good,
            pb::ExpectedRequest {
                service: "sts".into(),
                ..expected()
            },
            "ValidationError",
        ),
        (
            &good,
            pb::ExpectedRequest {
                hosts: Vec::new(),
                ..expected()
            },
            "ValidationError",
        ),
    ] {
        let got = verify(&broker, request, expected).await;
        assert_eq!(got.err().as_deref(), Some(code));
    }
    // An altered body, header, or path.
    let altered = Received {
        body: b"{ }",
        ..received(&whole, "photos", host, &[])
    };
    assert_eq!(
        verify(&broker, &altered, expected()).await.err().as_deref(),
        Some("SignatureDoesNotMatch")
    );
    let altered = Received {
        uri: "/albums/1",
        ..received(&whole, "photos", host, &[])
    };
    assert_eq!(
        verify(&broker, &altered, expected()).await.err().as_deref(),
        Some("SignatureDoesNotMatch")
    );
    signed
        .headers
        .append("x-amz-date", "20261124T120000Z".parse().unwrap());
    assert_eq!(
        verify(&broker, &signed, expected()).await.err().as_deref(),
        Some("IncompleteSignature")
    );
    // A principal of another account, an unknown key, a wrong secret, an ended session.
    let carol = received(&user("carol"), "photos", host, &[]);
    assert_eq!(
        verify(&broker, &carol, expected()).await.err().as_deref(),
        Some("InvalidClientTokenId")
    );
    let wrong = Keys {
        secret: "wrong".into(),
        ..user("alice")
    };
    let wrong = received(&wrong, "photos", host, &[]);
    assert_eq!(
        verify(&broker, &wrong, expected()).await.err().as_deref(),
        Some("SignatureDoesNotMatch")
    );
    broker
        .revoke(&user("admin"), Selector::RoleArn(OPEN.into()))
        .await
        .unwrap();
    assert_eq!(
        verify(&broker, &good, expected()).await.err().as_deref(),
        Some("InvalidClientTokenId")
    );
    // The caller needs the permission on its own ARN.
    let request = pb::VerifyRequestRequest {
        request: Some(pb::SignedRequest {
            method: "GET".into(),
            uri: "/".into(),
            ..Default::default()
        }),
        expected: Some(expected()),
    };
    let error = broker
        .client(&user("bob"))
        .verify_request(request)
        .await
        .err()
        .unwrap();
    assert_eq!(code(&error), "AccessDenied");
    assert!(URI.contains("%20"));
}
