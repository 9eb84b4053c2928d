//! One question asked in three ways: by gRPC, by AuthZEN and as a request to an object store. The answers are the same
//! wherever no policy of a bucket has a say.

use brevet::api::relying::v1 as pb;
use brevet::client::AssumeRole;
use http::{HeaderMap, HeaderValue};
use serde_json::{Value, json};

use crate::harness::*;
use crate::relying::key_of;
use crate::s3_proxies::{directory, get, started_with};

/// The directory of the object stores, with a user `app` who may ask about everybody.
fn with_app() -> String {
    let mut directory: Value = serde_json::from_str(&directory()).unwrap();
    let arn = "arn:aws:iam::111122223333:user/app";
    let mut push = |path: &str, value: Value| {
        let list = directory.pointer_mut(path).unwrap();
        list.as_array_mut().unwrap().push(value);
    };
    push(
        "/UserDetailList",
        json!({"Path": "/", "UserName": "app", "UserId": "AIDAAPPAPPAPPAPPAPP1", "Arn": arn,
            "UserPolicyList": [{"PolicyName": "p", "PolicyDocument": {"Version": "2012-10-17", "Statement": [
                {"Effect": "Allow", "Action": "brevet:Authorize", "Resource": "*"}]}}]}),
    );
    push(
        "/Brevet/AccessKeys",
        json!({"UserArn": arn, "AccessKeyId": key_of("app").id, "SecretAccessKey": key_of("app").secret}),
    );
    directory.to_string()
}

async fn by_grpc(broker: &Broker, session: &Keys, resource: &str) -> bool {
    let subject = pb::subject::Subject::Session(pb::SubjectSession {
        access_key_id: session.id.clone(),
        session_token: session.token.clone().unwrap_or_default(),
    });
    let request = pb::AuthorizeRequest {
        subject: Some(pb::Subject {
            subject: Some(subject),
        }),
        items: vec![pb::AuthorizeItem {
            action: "s3:GetObject".to_owned(),
            resource: resource.to_owned(),
            context: Vec::new(),
        }],
        ..Default::default()
    };
    let answer = broker.client(&key_of("app")).authorize(request).await;
    answer.unwrap().decisions[0].allowed
}

async fn by_authzen(broker: &Broker, session: &Keys, resource: &str) -> bool {
    let path = "/access/v1/evaluation";
    let body = json!({"subject": {"type": "session", "id": session.id, "properties": {"session_token": session.token}},
        "action": {"name": "s3:GetObject"}, "resource": {"type": "s3", "id": resource}});
    let body = body.to_string().into_bytes();
    let mut headers = HeaderMap::new();
    headers.insert("content-type", HeaderValue::from_static("application/json"));
    broker.sign(path, &key_of("app"), &mut headers, &body);
    let answer = broker.send("POST", path, headers, body).await;
    assert_eq!(answer.status, 200, "{}", answer.body);
    let answer: Value = serde_json::from_str(&answer.body).unwrap();
    answer["decision"].as_bool().unwrap()
}

#[tokio::test]
async fn the_same_question_has_the_same_answer_on_every_way() {
    let broker = started_with(&with_app(), |_| {}).await;
    let statement = |effect: &str, resource: &str| json!({"Effect": effect, "Action": "s3:Get*", "Resource": resource});
    let policies = [
        None,
        Some(vec![statement("Allow", "arn:aws:s3:::data/home/*")]),
        Some(vec![
            statement("Allow", "*"),
            statement("Deny", "arn:aws:s3:::data/home/secret*"),
        ]),
        Some(vec![
            json!({"Effect": "Allow", "Action": "sts:*", "Resource": "*"}),
        ]),
    ];
    let (mut allowed, mut refused) = (0, 0);
    for policy in policies {
        let policy = policy.map(|s| json!({"Version": "2012-10-17", "Statement": s}).to_string());
        let request = AssumeRole {
            policy,
            ..AssumeRole::new(OPEN, "same")
        };
        let made = broker.client(&user("alice")).assume_role(&request).await;
        let session = Keys::from(&made.unwrap().credentials);
        for key in ["home/x", "home/secret/x", "other/x"] {
            let resource = format!("arn:aws:s3:::data/{key}");
            let grpc = by_grpc(&broker, &session, &resource).await;
            let authzen = by_authzen(&broker, &session, &resource).await;
            let store = get(&broker, &session, &format!("/data/{key}")).await;
            let s3 = store.status == 200;
            let policy = &request.policy;
            assert_eq!(
                (grpc, authzen),
                (s3, s3),
                "{key} {policy:?}: {}",
                store.body
            );
            *if s3 { &mut allowed } else { &mut refused } += 1;
        }
    }
    assert!(allowed > 3 && refused > 3, "{allowed} {refused}");
}
