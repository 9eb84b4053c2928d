//! Each operation over both APIs has the same outcome and the same audit record.

use brevet::client::AssumeRole;

use crate::harness::*;
use crate::saml_idp::{Idp, Says};
use crate::saml_login::{self, PROVIDER, ROLE};

fn without_ids(mut record: serde_json::Value) -> serde_json::Value {
    for field in ["requestID", "eventID", "userAgent", "tokenLeaf", "chain"] {
        record.as_object_mut().unwrap().remove(field);
    }
    if let Some(credentials) = record.pointer_mut("/responseElements/credentials") {
        credentials.as_object_mut().unwrap().remove("accessKeyId");
    }
    // An assertion can be used once: each wire has one of its own.
    if let Some(parameters) = record["requestParameters"].as_object_mut() {
        parameters.remove("sAMLAssertionID");
    }
    record
}

#[tokio::test]
async fn both_wires_say_and_record_the_same() {
    let broker = Broker::start().await;
    let alice = user("alice");
    let long = "x".repeat(65);
    let cases: &[(&str, &str, &str, Option<i32>)] = &[
        ("ok", OPEN, "session", None),
        ("ok", OPEN, "session", Some(129_600)),
        ("AccessDenied", CLOSED, "session", None),
        (
            "AccessDenied",
            "arn:aws:iam::111122223333:role/Missing",
            "session",
            None,
        ),
        ("ValidationError", OPEN, "a", None),
        ("ValidationError", OPEN, &long, None),
        ("ValidationError", OPEN, "session", Some(899)),
        ("ValidationError", OPEN, "session", Some(129_601)),
        ("ValidationError", "arn:aws:iam::1:role/x", "session", None),
    ];
    for (expected, role, name, seconds) in cases {
        let mut form = vec![
            ("Action", "AssumeRole"),
            VERSION,
            ("RoleArn", role),
            ("RoleSessionName", name),
        ];
        let text = seconds.map(|s| s.to_string());
        if let Some(text) = &text {
            form.push(("DurationSeconds", text));
        }
        let query = broker.query(Some(&alice), &form).await;
        let request = AssumeRole {
            duration_seconds: *seconds,
            ..AssumeRole::new(role, name)
        };
        let grpc = broker.client(&alice).assume_role(&request).await;
        let grpc_code = grpc.as_ref().map_or_else(code, |_| "ok".to_owned());
        assert_eq!(
            (query.code(), grpc_code.as_str()),
            (*expected, *expected),
            "{role} {name} {seconds:?}: {}",
            query.body
        );
        if let Err(brevet::client::ClientError::Refused { message, .. }) = &grpc {
            let said = query
                .element("Message")
                .unwrap()
                .replace("&gt;", ">")
                .replace("&lt;", "<")
                .replace("&apos;", "'");
            // Both carry an encoded message, each its own.
            let ((one, first), (two, second)) = (sentence(message), sentence(&said));
            assert_eq!((one, first.len()), (two, second.len()));
        }
    }
    for (expected, id) in [
        ("ok", alice.id.as_str()),
        ("ValidationError", "short"),
        ("ValidationError", "AKIAIOSFODNN7EXAMPLE"),
    ] {
        let query = broker
            .query(
                Some(&alice),
                &[("Action", "GetAccessKeyInfo"), VERSION, ("AccessKeyId", id)],
            )
            .await;
        let grpc = broker.client(&alice).get_access_key_info(id).await;
        assert_eq!(query.code(), expected);
        assert_eq!(
            grpc.as_ref().map_or_else(code, |_| "ok".to_owned()),
            expected
        );
        if expected == "ok" {
            assert_eq!(query.element("Account").unwrap(), grpc.unwrap());
        }
    }
    let query = broker.query(Some(&alice), WHO).await;
    let grpc = broker.client(&alice).get_caller_identity().await.unwrap();
    assert_eq!(query.element("Arn").unwrap(), grpc.arn);
    assert_eq!(query.element("UserId").unwrap(), grpc.user_id);

    // Committed and deferred lines may change places between calls, so pairs are looked for.
    let mut records: Vec<_> = broker
        .into_audit()
        .await
        .into_iter()
        .map(without_ids)
        .map(|r| r.to_string())
        .collect();
    assert_eq!(records.len(), 2 * (cases.len() + 3 + 1));
    records.sort();
    for pair in records.chunks(2) {
        assert_eq!(pair[0], pair[1]);
    }
}

#[tokio::test]
async fn both_wires_answer_assume_role_with_saml_alike() {
    let idp = Idp::new("https://idp.example.com/saml");
    let broker = saml_login::broker(&idp).await;
    let good = |id: &str| Says::new(id, ROLE, PROVIDER, now());
    let full = |id: &str| {
        good(id)
            .with("PrincipalTag:Team", &["blue"])
            .with("TransitiveTagKeys", &["Team"])
            .with("SourceIdentity", &["alice"])
    };
    let other = |id: &str| {
        let mut says = good(id);
        says.audience = "urn:other".to_owned();
        says
    };
    let late = |id: &str| {
        let mut says = good(id);
        says.not_on_or_after = now().minus(std::time::Duration::from_secs(61));
        says
    };
    let unpaired = |id: &str| good(id).with("Role", &["arn:aws:iam::111122223333:role/X"]);
    let failed = |id: &str| {
        let mut says = good(id);
        says.status = "urn:oasis:names:tc:SAML:2.0:status:Responder".to_owned();
        says
    };
    type Make<'a> = &'a dyn Fn(&str) -> Says;
    let cases: [(&str, Make<'_>, &str, Option<i32>); 8] = [
        ("ok", &good, PROVIDER, None),
        ("ok", &full, PROVIDER, Some(900)),
        ("ValidationError", &good, PROVIDER, Some(899)),
        ("ValidationError", &good, ROLE, None),
        ("InvalidIdentityToken", &other, PROVIDER, None),
        ("ExpiredTokenException", &late, PROVIDER, None),
        ("InvalidIdentityToken", &failed, PROVIDER, None),
        ("AccessDenied", &unpaired, PROVIDER, None),
    ];
    let endpoint = brevet::client::Endpoint {
        url: broker.url(),
        region: "us-east-1".into(),
        ca_pem: None,
    };
    let client = brevet::client::Client::anonymous(&endpoint, false).unwrap();
    let mut saw_all = false;
    for (n, (expected, make, provider, seconds)) in cases.iter().enumerate() {
        let text = seconds.map(|s| s.to_string());
        let mut more = vec![("PrincipalArn", *provider)];
        more.extend(text.as_deref().map(|text| ("DurationSeconds", text)));
        let response = idp.response(&make(&format!("query{n}")));
        let query = saml_login::login(&broker, &response, &more).await;
        let response = idp.response(&make(&format!("grpc{n}")));
        let request = brevet::client::AssumeRoleWithSaml {
            role_arn: ROLE.to_owned(),
            principal_arn: (*provider).to_owned(),
            response: std::sync::Arc::new(brevet::base::secret::Secret::new(response)),
            duration_seconds: *seconds,
            policy: None,
            policy_arns: Vec::new(),
        };
        let grpc = client.assume_role_with_saml(&request).await;
        let grpc_code = grpc.as_ref().map_or_else(code, |_| "ok".to_owned());
        assert_eq!(
            (query.code(), grpc_code.as_str()),
            (*expected, *expected),
            "{n}: {}",
            query.body
        );
        match &grpc {
            Err(brevet::client::ClientError::Refused { message, .. }) => {
                let said = query.element("Message").unwrap().replace("&apos;", "'");
                let ((one, first), (two, second)) = (sentence(message), sentence(&said));
                assert_eq!((one, first.len()), (two, second.len()));
            }
            Err(other) => panic!("{other}"),
            Ok(made) => {
                for (name, value) in [
                    ("Subject", &made.subject),
                    ("SubjectType", &made.subject_type),
                    ("Issuer", &made.issuer),
                    ("Audience", &made.audience),
                    ("NameQualifier", &made.name_qualifier),
                    ("AssumedRoleId", &made.role.assumed_role_id),
                ] {
                    assert_eq!(query.element(name), Some(value.as_str()), "{name}");
                }
                let identity = &made.role.source_identity;
                let said = query.element("SourceIdentity").unwrap_or_default();
                assert_eq!(said, identity);
                let packed = made.role.packed_policy_size.to_string();
                let said = query.element("PackedPolicySize").unwrap_or("0");
                assert_eq!(said, packed);
                saw_all |= !identity.is_empty() && packed != "0";
            }
        }
    }
    assert!(saw_all, "no answer had everything");
    let mut records: Vec<_> = broker
        .into_audit()
        .await
        .into_iter()
        .filter(|r| r["eventName"] == "AssumeRoleWithSAML")
        .map(without_ids)
        .map(|r| r.to_string())
        .collect();
    assert_eq!(records.len(), 2 * cases.len());
    records.sort();
    for pair in records.chunks(2) {
        assert_eq!(pair[0], pair[1]);
    }
}

#[tokio::test]
async fn a_grpc_refusal_has_details_for_programs() {
    use brevet::api::sts::v1 as pb;
    use prost::Message;
    let broker = Broker::start().await;
    let message = pb::AssumeRoleRequest {
        role_arn: OPEN.into(),
        role_session_name: "a".into(),
        ..Default::default()
    }
    .encode_to_vec();
    let path = format!("/{}/AssumeRole", brevet::api::SERVICE);
    let mut headers = http::HeaderMap::new();
    headers.insert(
        "content-type",
        http::HeaderValue::from_static("application/grpc"),
    );
    broker.sign(&path, &user("alice"), &mut headers, &message);
    let channel = tonic::transport::Channel::from_shared(broker.url())
        .unwrap()
        .connect()
        .await
        .unwrap();
    let mut client = pb::security_token_service_client::SecurityTokenServiceClient::new(channel);
    let mut request =
        tonic::Request::new(pb::AssumeRoleRequest::decode(message.as_slice()).unwrap());
    headers.remove("content-type");
    *request.metadata_mut() = tonic::metadata::MetadataMap::from_headers(headers);
    let status = client.assume_role(request).await.err().unwrap();
    use tonic_types::StatusExt;
    let details = status.get_error_details();
    assert_eq!(status.code(), tonic::Code::InvalidArgument);
    assert_eq!(details.error_info().unwrap().reason, "ValidationError");
    assert_eq!(details.error_info().unwrap().domain, "brevet");
    assert_eq!(
        details.bad_request().unwrap().field_violations[0].field,
        "role_session_name"
    );
    assert_eq!(details.request_info().unwrap().request_id.len(), 36);
}
