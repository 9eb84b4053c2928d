//! The AuthZEN Authorization API over HTTP: the certification scenario of the OpenID Foundation as a table,
//! and who may ask.

use std::num::NonZeroU32;

use brevet::api::relying::v1 as pb;
use brevet::budgets::BudgetLimits;
use http::{HeaderMap, HeaderValue};
use serde_json::{Value, json};

use crate::harness::*;
use crate::relying::{broker, broker_with, key_of};

const EVALUATION: &str = "/access/v1/evaluation";
const EVALUATIONS: &str = "/access/v1/evaluations";

async fn send(broker: &Broker, keys: &Keys, path: &str, body: &str) -> Answer {
    let mut headers = HeaderMap::new();
    headers.insert("content-type", HeaderValue::from_static("application/json"));
    broker.sign(path, keys, &mut headers, body.as_bytes());
    broker
        .send("POST", path, headers, body.as_bytes().to_vec())
        .await
}

async fn ask(broker: &Broker, path: &str, body: &Value) -> Value {
    let answer = send(broker, &key_of("app"), path, &body.to_string()).await;
    assert_eq!(answer.status, 200, "{body}: {}", answer.body);
    assert_eq!(answer.headers["content-type"], "application/json");
    serde_json::from_str(&answer.body).unwrap()
}

fn question(subject: &str, action: &str, record: &str) -> Value {
    json!({"subject": {"type": "user", "id": subject}, "action": {"name": action},
        "resource": {"type": "record", "id": record}})
}

/// Adds properties to an entity.
fn with(mut question: Value, entity: &str, properties: Value) -> Value {
    question[entity]["properties"] = properties;
    question
}

/// The fixture's eight decisions, and requests that must not change them.
fn decisions() -> Vec<(Value, bool)> {
    let archived = || json!({"status": "archived"});
    let context = |mut q: Value| {
        q["context"] = json!({"time": "2025-06-27T18:03-07:00", "ip": "192.168.1.1"});
        q
    };
    let mut unknown = question("alice", "read", "record-1");
    unknown["foo"] = json!("bar");
    unknown["futureField"] = json!({"nested": true});
    let described = with(
        with(
            with(
                question("alice", "read", "record-1"),
                "subject",
                json!({"department": "Sales", "role": "manager"}),
            ),
            "action",
            json!({"method": "GET"}),
        ),
        "resource",
        json!({"status": "active", "owner": "bob"}),
    );
    let admin = with(
        question("bob", "write", "record-2"),
        "subject",
        json!({"role": "admin"}),
    );
    let delete = |soft: bool| {
        let properties = json!({"soft": soft});
        with(
            question("alice", "delete", "record-1"),
            "action",
            properties,
        )
    };
    vec![
        (question("alice", "read", "record-1"), true),
        (question("alice", "write", "record-1"), true),
        (question("bob", "read", "record-1"), true),
        (question("bob", "write", "record-1"), false),
        (
            with(
                question("alice", "write", "record-2"),
                "resource",
                archived(),
            ),
            false,
        ),
        (with(admin, "resource", archived()), true),
        (delete(true), true),
        (delete(false), false),
        (context(question("alice", "read", "record-1")), true),
        (context(question("bob", "write", "record-1")), false),
        (described, true),
        (unknown, true),
    ]
}

#[tokio::test]
async fn a_service_that_cannot_sign_asks_with_a_bearer_token() {
    let broker = broker().await;
    let body = question("alice", "read", "record-1").to_string();
    let token = crate::s3_signer::bearer(&broker, &key_of("app")).await;
    let asked = |token: String, body: String| {
        let mut headers = HeaderMap::new();
        headers.insert("content-type", HeaderValue::from_static("application/json"));
        headers.insert("authorization", format!("Bearer {token}").parse().unwrap());
        broker.send("POST", EVALUATION, headers, body.into_bytes())
    };
    let answer = asked(token.clone(), body.clone()).await;
    assert_eq!(answer.status, 200, "{}", answer.body);
    assert!(answer.body.contains("\"decision\":true"), "{}", answer.body);
    // Who may not ask, a token that is none, and one that has expired.
    let other = crate::s3_signer::bearer(&broker, &user("bob")).await;
    assert_eq!(asked(other, body.clone()).await.status, 403);
    assert_eq!(asked("x".repeat(200), body.clone()).await.status, 401);
    broker.elapse(3_600);
    assert_eq!(asked(token, body).await.status, 401);
}

#[tokio::test]
async fn the_certification_scenario_basic() {
    let broker = broker().await;
    for (question, expected) in decisions() {
        for path in [EVALUATION, EVALUATIONS] {
            for _ in 0..2 {
                let answer = ask(&broker, path, &question).await;
                assert_eq!(answer["decision"], expected, "{question}: {answer}");
                assert!(answer["context"].is_object());
            }
        }
    }
    let good = question("alice", "read", "record-1");
    let without = |path: &[&str]| {
        let mut q = good.clone();
        let (last, first) = path.split_last().unwrap();
        let entity = first.iter().fold(&mut q, |at, name| &mut at[*name]);
        entity.as_object_mut().unwrap().remove(*last);
        q.to_string()
    };
    let mut wrong: Vec<String> = [
        &["subject"][..],
        &["action"],
        &["resource"],
        &["subject", "type"],
        &["subject", "id"],
        &["action", "name"],
        &["resource", "type"],
        &["resource", "id"],
    ]
    .into_iter()
    .map(without)
    .collect();
    for (entity, value) in [
        ("subject", json!("alice")),
        ("action", json!({"name": 123})),
        ("resource", json!([])),
        ("context", json!("x")),
        (
            "subject",
            json!({"type": "user", "id": "alice", "properties": 1}),
        ),
    ] {
        let mut q = good.clone();
        q[entity] = value;
        wrong.push(q.to_string());
    }
    wrong.extend(["", "{", "[]", "null", "\"x\""].map(str::to_owned));
    wrong.push(
        good.to_string()
            .replacen('{', "{\"action\":{\"name\":\"write\"},", 1),
    );
    wrong.push(format!(
        "{{\"x\":{}{}}}",
        "[".repeat(5_000),
        "]".repeat(5_000)
    ));
    for body in wrong {
        let answer = send(&broker, &key_of("app"), EVALUATION, &body).await;
        assert_eq!(answer.status, 400, "{body}: {}", answer.body);
        assert!(
            serde_json::from_str::<Value>(&answer.body)
                .unwrap()
                .is_string()
        );
    }
    // Another content type, and the id of the request.
    for (content_type, status) in [
        (Some("text/plain"), 400),
        (Some("application/jsonx"), 400),
        (None, 400),
        (Some("application/json; charset=utf-8"), 200),
    ] {
        let body = good.to_string();
        let mut headers = HeaderMap::new();
        if let Some(value) = content_type {
            headers.insert("content-type", value.parse().unwrap());
        }
        broker.sign(EVALUATION, &key_of("app"), &mut headers, body.as_bytes());
        headers.insert(
            "x-request-id",
            "bfe9eb29-ab87-4ca3-be83-a1d5d8305716".parse().unwrap(),
        );
        let answer = broker
            .send("POST", EVALUATION, headers, body.into_bytes())
            .await;
        assert_eq!(answer.status, status, "{content_type:?}");
        assert_eq!(
            answer.headers["x-request-id"],
            "bfe9eb29-ab87-4ca3-be83-a1d5d8305716"
        );
    }
}

#[tokio::test]
async fn the_certification_scenario_batch() {
    let broker = broker().await;
    let record = |id: &str| json!({"resource": {"type": "record", "id": id}});
    let tagged = |id: &str, status: &str| json!({"resource": {"type": "record", "id": id, "properties": {"status": status}}});
    let alice = || json!({"type": "user", "id": "alice"});
    let with = |mut top: Value, evaluations: Vec<Value>| {
        top["evaluations"] = evaluations.into();
        top
    };
    let read = || json!({"subject": alice(), "action": {"name": "read"}});
    let write = || json!({"subject": alice(), "action": {"name": "write"}});
    let admin = json!({"subject": {"type": "user", "id": "bob", "properties": {"role": "admin"}}});
    let mut archived = tagged("record-2", "archived");
    archived["action"] = json!({"name": "write"});
    let mut defaults = write();
    defaults["resource"] = tagged("record-1", "active")["resource"].clone();
    let mut timed = read();
    timed["context"] = json!({"time": "2025-06-27T18:03-07:00"});
    let mut other_time = record("record-2");
    other_time["context"] = json!({"time": "2025-06-27T19:00-07:00", "source": "batch-override"});
    let mut pinned = read();
    pinned["options"] = json!({"evaluations_semantic": "execute_all", "another_option": "value"});
    let bob = json!({"subject": {"type": "user", "id": "bob"}, "resource": {"type": "record", "id": "record-1"}});
    for (request, expected) in [
        (
            with(read(), vec![record("record-1"), record("record-2")]),
            vec![true, true],
        ),
        (
            with(
                bob,
                vec![
                    json!({"action": {"name": "read"}}),
                    json!({"action": {"name": "write"}}),
                ],
            ),
            vec![true, false],
        ),
        (
            with(
                write(),
                vec![tagged("record-1", "active"), tagged("record-2", "archived")],
            ),
            vec![true, false],
        ),
        (
            with(archived, vec![json!({"subject": alice()}), admin]),
            vec![false, true],
        ),
        (
            with(
                json!({}),
                vec![
                    question("alice", "read", "record-1"),
                    question("bob", "write", "record-1"),
                ],
            ),
            vec![true, false],
        ),
        (
            with(timed, vec![record("record-1"), other_time]),
            vec![true, true],
        ),
        (
            with(defaults, vec![json!({}), tagged("record-2", "archived")]),
            vec![true, false],
        ),
        (
            with(pinned, vec![record("record-1"), json!({})]),
            vec![true, false],
        ),
    ] {
        let answer = ask(&broker, EVALUATIONS, &request).await;
        let got: Vec<bool> = answer["evaluations"]
            .as_array()
            .unwrap_or_else(|| panic!("{answer}"))
            .iter()
            .map(|e| e["decision"].as_bool().unwrap())
            .collect();
        assert_eq!(got, expected, "{request}");
        assert!(answer.get("decision").is_none());
    }
    let mut single = question("alice", "read", "record-1");
    single["evaluations"] = json!([]);
    assert_eq!(ask(&broker, EVALUATIONS, &single).await["decision"], true);
    // The two that end early.
    let three = || {
        ["read", "print", "write"]
            .map(
                |name| json!({"action": {"name": name}, "resource": {"type": "record", "id": "1"}}),
            )
            .to_vec()
    };
    for (semantic, expected) in [
        ("execute_all", vec![true, false, true]),
        ("deny_on_first_deny", vec![true, false]),
        ("permit_on_first_permit", vec![true]),
    ] {
        let mut request = with(json!({"subject": alice()}), three());
        request["options"] = json!({"evaluations_semantic": semantic});
        let answer = ask(&broker, EVALUATIONS, &request).await;
        let list = answer["evaluations"].as_array().unwrap();
        let got: Vec<bool> = list
            .iter()
            .map(|e| e["decision"].as_bool().unwrap())
            .collect();
        assert_eq!(got, expected, "{semantic}");
    }
    for broken in [
        json!({"evaluations": {}}),
        json!({"evaluations": vec![json!({}); 101]}),
        json!({"subject": "alice", "evaluations": [question("alice", "read", "1")]}),
        json!({"evaluations": [{}], "options": {"evaluations_semantic": "any"}}),
    ] {
        let answer = send(&broker, &key_of("app"), EVALUATIONS, &broken.to_string()).await;
        assert_eq!(answer.status, 400, "{broken}");
    }
}

#[tokio::test]
async fn the_metadata_say_where_the_endpoints_are() {
    let broker = broker_with(|c| c.issuer = Some("https://sts.example.com".into())).await;
    let path = "/.well-known/authzen-configuration";
    let answer = broker.send("GET", path, HeaderMap::new(), Vec::new()).await;
    assert_eq!(answer.status, 200);
    assert_eq!(answer.headers["content-type"], "application/json");
    let document: Value = serde_json::from_str(&answer.body).unwrap();
    assert_eq!(
        document,
        json!({"policy_decision_point": "https://sts.example.com",
            "access_evaluation_endpoint": "https://sts.example.com/access/v1/evaluation",
            "access_evaluations_endpoint": "https://sts.example.com/access/v1/evaluations"})
    );
    let silent = broker_with(|c| c.issuer = None).await;
    let answer = silent.send("GET", path, HeaderMap::new(), Vec::new()).await;
    assert!(answer.status >= 400, "{}", answer.status);
}

#[tokio::test]
async fn a_session_is_a_subject_with_its_token_and_who_may_not_ask_is_refused() {
    let broker = broker().await;
    let whole = broker.assume(&user("alice"), OPEN).await.unwrap();
    let mut request = question("x", "read", "record-1");
    request["subject"] =
        json!({"type": "session", "id": whole.id, "properties": {"session_token": whole.token}});
    let answer = ask(&broker, EVALUATION, &request).await;
    assert_eq!(
        (&answer["decision"], &answer["context"]["cache_seconds"]),
        (&json!(true), &json!(2))
    );
    assert!(answer["context"]["expires_at"].is_string() && answer["context"]["change"].is_i64());
    broker
        .revoke(&user("admin"), Selector::AccessKeyId(whole.id.clone()))
        .await
        .unwrap();
    let answer = ask(&broker, EVALUATION, &request).await;
    assert_eq!(
        (&answer["decision"], &answer["context"]["code"]),
        (&json!(false), &json!("SessionEnded"))
    );
    for subject in [
        json!({"type": "session", "id": whole.id}),
        json!({"type": "robot", "id": "r2"}),
        json!({"type": "principal", "id": "alice"}),
        json!({"type": "user", "id": "Alice"}),
        json!({"type": "user", "id": ""}),
    ] {
        request["subject"] = subject;
        assert_eq!(ask(&broker, EVALUATION, &request).await["decision"], false);
    }
    let body = question("alice", "read", "record-1").to_string();
    for (keys, status) in [
        (user("bob"), 403),
        (key_of("narrow"), 403),
        (
            Keys {
                secret: "wrong".into(),
                ..key_of("app")
            },
            401,
        ),
        (
            Keys {
                id: "AKIAUNKNOWN000000000".into(),
                ..key_of("app")
            },
            401,
        ),
    ] {
        let answer = send(&broker, &keys, EVALUATION, &body).await;
        assert_eq!(answer.status, status, "{}", answer.body);
    }
    let mut headers = HeaderMap::new();
    headers.insert("content-type", HeaderValue::from_static("application/json"));
    let answer = broker
        .send("POST", EVALUATION, headers, body.clone().into_bytes())
        .await;
    assert_eq!(answer.status, 401);
    let answer = broker
        .send("GET", EVALUATION, HeaderMap::new(), Vec::new())
        .await;
    assert_eq!(
        (answer.status, answer.headers["allow"].to_str().unwrap()),
        (405, "POST")
    );
    // A signature for another path is none for this one.
    let mut headers = HeaderMap::new();
    headers.insert("content-type", HeaderValue::from_static("application/json"));
    broker.sign(EVALUATION, &key_of("app"), &mut headers, body.as_bytes());
    let answer = broker
        .send("POST", EVALUATIONS, headers, body.into_bytes())
        .await;
    assert_eq!(answer.status, 401);
    let audit = broker.into_audit().await;
    assert!(
        audit
            .iter()
            .any(|l| l["eventName"] == "Authorize" && l["errorCode"] == "AccessDenied")
    );
}

#[tokio::test]
async fn tr_04_a_call_with_many_items_counts_as_several() {
    let limits = BudgetLimits {
        principal_reads: NonZeroU32::new(10),
        ..BudgetLimits::OFF
    };
    let broker = broker_with(|config| config.budgets = limits).await;
    let one = question("alice", "read", "record-1");
    let ask = async |path: &str, body: &Value| {
        let answer = send(&broker, &key_of("app"), path, &body.to_string()).await;
        answer.status
    };
    // Twenty may come at once, and a hundred items count as ten.
    let many = json!({"evaluations": vec![one.clone(); 100]});
    assert_eq!(ask(EVALUATIONS, &many).await, 200);
    for _ in 0..10 {
        assert_eq!(ask(EVALUATION, &one).await, 200);
    }
    assert_eq!(ask(EVALUATION, &one).await, 429);
    // As they do by gRPC, where one call is always possible and uses up what comes later.
    broker.clock.pass(std::time::Duration::from_secs(2));
    let item = pb::AuthorizeItem {
        action: "record:read".to_owned(),
        resource: "arn:aws:record::111122223333:record-1".to_owned(),
        ..Default::default()
    };
    let alice = "arn:aws:iam::111122223333:user/alice".to_owned();
    let request = pb::AuthorizeRequest {
        subject: Some(pb::Subject {
            subject: Some(pb::subject::Subject::PrincipalArn(alice)),
        }),
        items: vec![item; 100],
        ..Default::default()
    };
    let client = broker.client(&key_of("app"));
    for is_served in [true, true, false] {
        assert_eq!(client.authorize(request.clone()).await.is_ok(), is_served);
    }
}
