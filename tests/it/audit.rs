//! The audit records of refused calls, for every endpoint.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use brevet::api::sts::v1 as pb;
use brevet::audit::MAX_REFUSAL;
use brevet::ops::registry;
use http::{HeaderMap, HeaderValue};
use prost::Message;
use serde_json::{Value, json};

use crate::harness::*;

/// A letter of four bytes in UTF-8, which takes twelve bytes in a line of the log.
const WIDE: &str = "\u{10400}";

fn wide(characters: usize) -> String {
    WIDE.repeat(characters)
}

/// The caller: one without credentials, one with an unknown key, and one whom a policy denies
/// everything.
fn callers() -> [Option<Keys>; 3] {
    let unknown = Keys {
        id: "A".repeat(20_000),
        secret: "x".repeat(40),
        token: None,
    };
    [None, Some(unknown), Some(user("denied"))]
}

fn role_arn() -> String {
    let arn = "arn:aws:iam::111122223333:role/";
    format!("{arn}{}/r", "p".repeat(2_048 - arn.len() - 2))
}

fn saml_provider_arn() -> String {
    format!(
        "arn:aws:iam::111122223333:saml-provider/{}",
        "p".repeat(128)
    )
}

/// The largest parameters of an STS action, as far as each is checked alone.
fn largest(action: &str) -> Vec<(String, String)> {
    let mut form: Vec<(String, String)> = Vec::new();
    let mut put = |name: &str, value: String| form.push((name.to_owned(), value));
    let tags = matches!(
        action,
        "AssumeRole" | "GetFederationToken" | "GetWebIdentityToken"
    );
    match action {
        "AssumeRole" => {
            put("RoleArn", role_arn());
            put("RoleSessionName", "n".repeat(64));
            put("ExternalId", "e".repeat(1_224));
            put("SerialNumber", "s".repeat(256));
            put("TokenCode", "1".repeat(6));
            put("SourceIdentity", "i".repeat(64));
        }
        "AssumeRoleWithWebIdentity" => {
            put("RoleArn", role_arn());
            put("RoleSessionName", "n".repeat(64));
            put("WebIdentityToken", "t".repeat(20_000));
        }
        "GetSessionToken" => {
            put("SerialNumber", "s".repeat(256));
            put("TokenCode", "1".repeat(6));
        }
        "GetFederationToken" => put("Name", "n".repeat(32)),
        "GetWebIdentityToken" => {
            for n in 1..=10 {
                put(&format!("Audience.member.{n}"), wide(1_000));
            }
            put("SigningAlgorithm", "RS256".to_owned());
        }
        "GetScopedCredentials" => {
            put("DurationSeconds", "129600".to_owned());
            put("MinimumSessionTokenSize", "4096".to_owned());
            put("ScopedSessionDescription", "\u{ff}".repeat(256));
        }
        "GetAccessKeyInfo" => put("AccessKeyId", "A".repeat(128)),
        "DecodeAuthorizationMessage" => put("EncodedMessage", wide(10_240)),
        "AssumeRoleWithSAML" => {
            put("RoleArn", role_arn());
            put("PrincipalArn", saml_provider_arn());
            put("SAMLAssertion", "A".repeat(100_000));
        }
        "GetCallerIdentity" => {}
        // On gRPC alone.
        other if registry::ADMINISTRATION.contains(&other) => {}
        other => panic!("say what the largest input of {other} is"),
    }
    if tags {
        // More would not fit in a request.
        let each = if action == "GetWebIdentityToken" {
            64
        } else {
            200
        };
        for n in 1..=50 {
            put(&format!("Tags.member.{n}.Key"), format!("{n}{}", wide(100)));
            put(&format!("Tags.member.{n}.Value"), wide(each));
            if action == "AssumeRole" && n <= 12 {
                put(
                    &format!("TransitiveTagKeys.member.{n}"),
                    format!("{n}{}", wide(100)),
                );
            }
        }
    }
    form
}

/// As `largest`, with the largest policies instead of tags: a request has no room for both.
fn largest_policies(action: &str) -> Option<Vec<(String, String)>> {
    let mut form = largest(action);
    form.retain(|(name, _)| !name.contains("Tag"));
    if !matches!(
        action,
        "AssumeRole" | "AssumeRoleWithWebIdentity" | "GetFederationToken"
    ) {
        return None;
    }
    for n in 1..=10 {
        form.push((format!("PolicyArns.member.{n}.arn"), "\u{1}".repeat(1_000)));
    }
    form.push(("Policy".to_owned(), "\0".repeat(60_000)));
    Some(form)
}

fn agent() -> HeaderValue {
    HeaderValue::from_bytes("\u{1f600}".repeat(2_000).as_bytes()).unwrap()
}

/// Two seconds pass, by both clocks.
fn time_passes(broker: &Broker) {
    broker.clock.pass(Duration::from_secs(2));
    broker.clock.advance(Duration::from_secs(2));
}

async fn query(
    broker: &Broker,
    keys: Option<&Keys>,
    version: &str,
    form: &[(String, String)],
) -> Answer {
    time_passes(broker); // the rate of refusals is not what is tested here
    let mut pairs = vec![("Version", version)];
    pairs.extend(
        form.iter()
            .map(|(name, value)| (name.as_str(), value.as_str())),
    );
    let body = encode(&pairs);
    assert!(
        body.len() <= brevet::request_body::MAX_BODY_BYTES,
        "{}",
        body.len()
    );
    let mut headers = form_headers();
    if let Some(keys) = keys {
        let signer = brevet::proof::sigv4::Signer {
            access_key_id: &keys.id,
            secret_access_key: keys.secret.as_bytes(),
            session_token: None,
            region: "us-east-1",
            service: if version == "2010-05-08" {
                "iam"
            } else {
                "sts"
            },
        };
        let digest = brevet::base::digest::sha256(body.as_bytes());
        let host = broker.address.to_string();
        signer
            .sign(
                "POST",
                "/",
                &host,
                &mut headers,
                &digest,
                brevet::base::clock::Clock::now(&*broker.clock),
            )
            .unwrap();
    }
    headers.insert("user-agent", agent());
    broker.send("POST", "/", headers, body.into_bytes()).await
}

async fn call(
    broker: &Broker,
    keys: Option<&Keys>,
    service: &str,
    action: &str,
    message: Vec<u8>,
) -> GrpcAnswer {
    time_passes(broker);
    assert!(
        message.len() <= brevet::grpc::MAX_MESSAGE_BYTES,
        "{action}: {}",
        message.len()
    );
    let path = format!("/{service}/{action}");
    let mut headers = HeaderMap::new();
    headers.insert("content-type", HeaderValue::from_static("application/grpc"));
    if let Some(keys) = keys {
        broker.sign(&path, keys, &mut headers, &message);
    }
    headers.insert("user-agent", agent());
    grpc(broker.address, &path, headers, frame(&message)).await
}

/// The largest message of an action.
fn largest_message(action: &str, policies: bool) -> Vec<u8> {
    let form = if policies {
        largest_policies(action).unwrap_or_default()
    } else {
        largest(action)
    };
    let one = |name: &str| {
        form.iter()
            .find(|(n, _)| n == name)
            .map(|(_, value)| value.clone())
    };
    let all = |prefix: &str, end: &str| -> Vec<String> {
        let matches = |n: &str| n.starts_with(prefix) && n.ends_with(end);
        form.iter()
            .filter(|(n, _)| matches(n))
            .map(|(_, value)| value.clone())
            .collect()
    };
    let tags: Vec<pb::Tag> = all("Tags.", ".Key")
        .into_iter()
        .zip(all("Tags.", ".Value"))
        .map(|(key, value)| pb::Tag { key, value })
        .collect();
    match action {
        "AssumeRole" => pb::AssumeRoleRequest {
            role_arn: role_arn(),
            role_session_name: "n".repeat(64),
            policy_arns: all("PolicyArns.", ""),
            policy: one("Policy"),
            duration_seconds: None,
            tags,
            transitive_tag_keys: all("TransitiveTagKeys.", ""),
            external_id: one("ExternalId"),
            serial_number: one("SerialNumber"),
            token_code: one("TokenCode"),
            source_identity: one("SourceIdentity"),
        }
        .encode_to_vec(),
        "AssumeRoleWithWebIdentity" => pb::AssumeRoleWithWebIdentityRequest {
            role_arn: role_arn(),
            role_session_name: "n".repeat(64),
            web_identity_token: "t".repeat(20_000),
            provider_id: None,
            policy_arns: all("PolicyArns.", ""),
            policy: one("Policy"),
            duration_seconds: None,
        }
        .encode_to_vec(),
        "GetSessionToken" => pb::GetSessionTokenRequest {
            duration_seconds: None,
            serial_number: one("SerialNumber"),
            token_code: one("TokenCode"),
        }
        .encode_to_vec(),
        "GetFederationToken" => pb::GetFederationTokenRequest {
            name: "n".repeat(32),
            policy: one("Policy"),
            policy_arns: all("PolicyArns.", ""),
            duration_seconds: None,
            tags,
        }
        .encode_to_vec(),
        "GetWebIdentityToken" => pb::GetWebIdentityTokenRequest {
            audience: all("Audience.", ""),
            signing_algorithm: "RS256".to_owned(),
            duration_seconds: None,
            tags,
        }
        .encode_to_vec(),
        "GetScopedCredentials" => pb::GetScopedCredentialsRequest {
            policy: None,
            duration_seconds: Some(129_600),
            minimum_session_token_size: Some(4_096),
            scoped_session_description: one("ScopedSessionDescription"),
        }
        .encode_to_vec(),
        "GetAccessKeyInfo" => pb::GetAccessKeyInfoRequest {
            access_key_id: "A".repeat(128),
        }
        .encode_to_vec(),
        "DecodeAuthorizationMessage" => pb::DecodeAuthorizationMessageRequest {
            encoded_message: wide(10_240),
        }
        .encode_to_vec(),
        "ListSessions" => pb::ListSessionsRequest {
            role_arn: Some(role_arn()),
            marker: Some("f".repeat(256)),
            ..Default::default()
        }
        .encode_to_vec(),
        "DescribeSession" => pb::DescribeSessionRequest {
            session_id: "f".repeat(32),
        }
        .encode_to_vec(),
        "RevokeSessions" | "PreviewRevocation" => pb::RevokeSessionsRequest {
            selector: Some(Selector::RoleArn(role_arn())),
            ..Default::default()
        }
        .encode_to_vec(),
        "AssumeRoleWithSAML" => pb::AssumeRoleWithSamlRequest {
            role_arn: role_arn(),
            principal_arn: saml_provider_arn(),
            saml_assertion: "A".repeat(100_000),
            policy_arns: all("PolicyArns.", ""),
            policy: one("Policy"),
            duration_seconds: None,
        }
        .encode_to_vec(),
        "ListSignIns" => pb::ListSignInsRequest {
            marker: Some("f".repeat(32)),
            ..Default::default()
        }
        .encode_to_vec(),
        "EndSignIn" => pb::EndSignInRequest {
            sign_in_id: "f".repeat(32),
        }
        .encode_to_vec(),
        "GetCallerIdentity" => Vec::new(),
        other => panic!("say what the largest message of {other} is"),
    }
}

/// The largest input of an IAM action, from its model: a value for each of its members.
fn largest_of_model(model: &Value, action: &str) -> Vec<(String, String)> {
    let mut form = vec![("Action".to_owned(), action.to_owned())];
    if let Some(input) = model["operations"][action]["input"].as_str() {
        fill(&model["shapes"], input, "", 0, &mut form);
    }
    while form.iter().map(|(_, value)| value.len() * 3).sum::<usize>() > 240_000 {
        // What is required stays: the further members of lists go first.
        let further = |(name, _): &(String, String)| {
            let members = name.split("member.").skip(1);
            let mut numbers = members.filter_map(|rest| rest.split('.').next());
            numbers.any(|number| number != "1")
        };
        match form.iter().rposition(further) {
            Some(at) => _ = form.remove(at),
            None => _ = form.pop(),
        }
    }
    form
}

fn fill(shapes: &Value, shape: &str, at: &str, depth: usize, form: &mut Vec<(String, String)>) {
    let shape = &shapes[shape];
    let below = |name: &str| {
        if at.is_empty() {
            name.to_owned()
        } else {
            format!("{at}.{name}")
        }
    };
    let number = |name: &str| shape[name].as_u64();
    match shape["type"].as_str().unwrap() {
        _ if depth > 4 => {}
        "structure" => {
            for (name, member) in shape["members"].as_object().into_iter().flatten() {
                fill(
                    shapes,
                    member.as_str().unwrap(),
                    &below(name),
                    depth + 1,
                    form,
                );
            }
        }
        "list" => {
            for n in 1..=number("max").unwrap_or(12).min(12) {
                fill(
                    shapes,
                    shape["member"].as_str().unwrap(),
                    &below(&format!("member.{n}")),
                    depth + 1,
                    form,
                );
            }
        }
        "map" => {
            fill(
                shapes,
                shape["key"].as_str().unwrap(),
                &below("entry.1.key"),
                depth + 1,
                form,
            );
            fill(
                shapes,
                shape["value"].as_str().unwrap(),
                &below("entry.1.value"),
                depth + 1,
                form,
            );
        }
        "integer" => form.push((at.to_owned(), number("max").unwrap_or(1_000).to_string())),
        "boolean" => form.push((at.to_owned(), "true".to_owned())),
        "timestamp" => form.push((at.to_owned(), "2026-01-01T00:00:00Z".to_owned())),
        "blob" => form.push((at.to_owned(), "AAAA".repeat(1_000))),
        _ => {
            let max = usize::try_from(number("max").unwrap_or(5_000))
                .unwrap()
                .min(5_000);
            let first = shape["enum"][0].as_str();
            // In a list of tags keys must differ.
            let key: String = at.chars().filter(char::is_ascii_digit).collect();
            let fits = |text: &String| {
                let pattern = shape["pattern"]
                    .as_str()
                    .map(|p| p.replace("\\/", "/").replace("\\w", "[0-9A-Za-z_]"))
                    .map(|p| format!("^(?:{})$", p.replace("\\d", "[0-9]")));
                pattern
                    .and_then(|p| regex::Regex::new(&p).ok())
                    .is_none_or(|p| p.is_match(text))
            };
            let long = |unit: &str| {
                let text: String = key
                    .chars()
                    .chain(unit.repeat(max).chars())
                    .take(max)
                    .collect();
                text
            };
            let paths = [
                format!("/{}/", "p".repeat(max.saturating_sub(2))),
                "1".repeat(max),
                "123456".to_owned(),
                "v1".to_owned(),
            ];
            let units = [WIDE, "\u{1}", "é", "a", "1"].iter().map(|unit| long(unit));
            let text = first
                .map(str::to_owned)
                .or_else(|| units.chain(paths).find(fits))
                .unwrap_or_else(|| long("a"));
            form.push((at.to_owned(), text));
        }
    }
}

#[tokio::test]
async fn au_05_no_refused_call_leaves_more_than_four_kibibytes() {
    // The clocks run far ahead of the feed's confirmations, which come in real time.
    let mut broker = Broker::start_in(stored_home().await, |config| {
        in_the_store(config);
        config.refuse_after = Duration::from_secs(129_600);
    })
    .await;
    let mut made = 0;
    let mut expected = BTreeSet::new();
    let model: Value =
        serde_json::from_str(include_str!("../../src/query/iam_model.json")).unwrap();
    let actions = model["operations"].as_object().unwrap().keys();
    let mut iam: BTreeMap<String, _> = actions
        .map(|a| (a.clone(), largest_of_model(&model, a)))
        .collect();
    for keys in callers() {
        let keys = keys.as_ref();
        for (action, answered) in registry::ACTIONS {
            for form in [Some(largest(action)), largest_policies(action)]
                .into_iter()
                .flatten()
            {
                let mut form = form;
                form.push(("Action".to_owned(), (*action).to_owned()));
                made += 1;
                query(&broker, keys, VERSION.1, &form).await;
            }
            for policies in [false, true]
                .into_iter()
                .filter(|p| !p || largest_policies(action).is_some())
            {
                made += 1;
                call(
                    &broker,
                    keys,
                    brevet::api::SERVICE,
                    action,
                    largest_message(action, policies),
                )
                .await;
            }
            if *answered {
                expected.insert((*action).to_owned());
            }
        }
        for action in registry::ADMINISTRATION {
            made += 1;
            call(
                &broker,
                keys,
                brevet::api::ADMINISTRATION,
                action,
                largest_message(action, false),
            )
            .await;
            expected.insert((*action).to_owned());
        }
        for (action, form) in &iam {
            made += 1;
            let answer = query(&broker, keys, "2010-05-08", form).await;
            // Actions that are not answered yet say so to anybody, without a look at their parameters.
            if answer.code() != "InvalidAction" {
                expected.insert(action.clone());
            }
        }
        iam.retain(|action, _| expected.contains(action));
        // What is no action, and what cannot be read at all.
        for (version, name) in [
            (VERSION.1, wide(20_000)),
            ("2010-05-08", wide(20_000)),
            (&wide(9_000), "x".into()),
        ] {
            made += 1;
            query(&broker, keys, version, &[("Action".to_owned(), name)]).await;
        }
        for (name, value) in [
            (wide(9_000), "x".into()),
            ("RoleArn".into(), wide(20_000)),
            ("RoleArn".into(), "\r\n".into()),
        ] {
            made += 1;
            query(
                &broker,
                keys,
                VERSION.1,
                &[("Action".into(), "AssumeRole".into()), (name, value)],
            )
            .await;
        }
        made += 1;
        call(
            &broker,
            keys,
            brevet::api::SERVICE,
            &"Z".repeat(20_000),
            b"\xff\xff".to_vec(),
        )
        .await;
        let exchange = encode(&[
            (
                "grant_type",
                "urn:ietf:params:oauth:grant-type:token-exchange",
            ),
            (
                "subject_token_type",
                "urn:ietf:params:oauth:token-type:id_token",
            ),
            ("subject_token", &"t".repeat(20_000)),
            ("resource", &role_arn()),
            ("scope", &"n".repeat(64)),
            ("audience", &wide(9_000)),
            (
                "requested_token_type",
                "urn:ietf:params:oauth:token-type:jwt",
            ),
        ]);
        let surprise = encode(&[("grant_type", &wide(9_000)), (&wide(9_000), "x")]);
        for body in [exchange, surprise] {
            made += 1;
            let mut headers = form_headers();
            headers.insert("user-agent", agent());
            time_passes(&broker);
            let answer = broker
                .send("POST", "/oauth2/token", headers, body.into_bytes())
                .await;
            assert_eq!(answer.status, 400, "{}", answer.body);
        }
    }
    let metrics = broker.operator("/metrics").await.body;
    assert!(
        metrics.contains("brevet_audit_aggregated_total 0"),
        "each of them has a line"
    );
    broker.stop().await;
    let text = std::fs::read_to_string(broker.audit_path()).unwrap();
    let mut with_parameters = BTreeSet::new();
    let mut longest = 0;
    for line in text.lines() {
        let record: Value = serde_json::from_str(line).unwrap();
        let Some(code) = record.get("errorCode") else {
            assert!(
                ["GetCallerIdentity"].contains(&record["eventName"].as_str().unwrap()),
                "{line}"
            );
            continue;
        };
        longest = longest.max(line.len() + 1);
        assert!(
            line.len() < MAX_REFUSAL && line.is_ascii(),
            "{} bytes: {line}",
            line.len()
        );
        assert!(code.is_string() && record["requestID"].as_str().unwrap().len() == 36);
        let parameters = &record["requestParameters"];
        if parameters.is_object() {
            with_parameters.insert(record["eventName"].as_str().unwrap().to_owned());
            if let Some(policy) = parameters.get("policy") {
                assert_eq!(
                    (
                        policy["length"].as_u64(),
                        policy["sha256"].as_str().map(str::len)
                    ),
                    (Some(60_000), Some(64))
                );
            }
            if let Some(total) = parameters.get("tagsTotal") {
                assert!([json!(12), json!(50)].contains(total), "{total}");
                assert_eq!(parameters["tags"].as_array().unwrap().len(), 10);
            }
        }
    }
    assert_eq!(text.lines().count(), made, "a line for each call");
    assert!(
        longest > 3_000,
        "{longest}: the largest calls are among them"
    );
    for none in ["GetCallerIdentity", "DecodeAuthorizationMessage"] {
        expected.remove(none);
    }
    assert!(expected.contains("EnableMFADevice"));
    let missing: Vec<_> = expected.difference(&with_parameters).collect();
    assert!(
        missing.is_empty(),
        "never got as far as their parameters: {missing:?}"
    );
}

#[tokio::test]
async fn a_policy_is_recorded_by_its_digest_and_everything_else_of_a_granted_call_in_full() {
    let broker = Broker::start().await;
    let policy =
        r#"{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"*","Resource":"*"}]}"#;
    let mut form = vec![
        ("Action", "AssumeRole"),
        VERSION,
        ("RoleArn", OPEN),
        ("RoleSessionName", "session"),
    ];
    form.push(("Policy", policy));
    let names: Vec<(String, String)> = (1..=12)
        .map(|n| {
            (
                format!("Tags.member.{n}.Key"),
                format!("Tags.member.{n}.Value"),
            )
        })
        .collect();
    let value = "v".repeat(200);
    let keys: Vec<String> = (1..=12).map(|n| format!("k{n}")).collect();
    for ((key, tag), name) in names.iter().zip(&keys) {
        form.extend([
            (key.as_str(), name.as_str()),
            (tag.as_str(), value.as_str()),
        ]);
    }
    assert_eq!(broker.query(Some(&user("alice")), &form).await.code(), "ok");
    let lines = broker.into_audit().await;
    let parameters = &lines[0]["requestParameters"];
    let digest = brevet::base::digest::hex(&brevet::base::digest::sha256(policy.as_bytes()));
    assert_eq!(
        parameters["policy"],
        json!({"sha256": digest, "length": policy.len()})
    );
    assert_eq!(parameters["tags"].as_array().unwrap().len(), 12);
    assert_eq!(
        parameters["tags"][11],
        json!({"key": "k12", "value": value})
    );
}

#[tokio::test]
async fn au_07_refusals_beyond_the_rate_are_counted_and_answered() {
    let mut broker = Broker::start_with(|c| {
        c.audit = brevet::audit::Target::File {
            path: match &c.audit {
                brevet::audit::Target::File { path, .. } => path.clone(),
                other => panic!("{other:?}"),
            },
            sync: false,
        }
    })
    .await;
    let alice = user("alice");
    let form = [("Action", "GetCallerIdentity"), VERSION];
    const CALLS: usize = 900;
    for _ in 0..CALLS {
        assert_eq!(
            broker.query(None, &form).await.code(),
            "MissingAuthenticationToken"
        );
    }
    assert_eq!(broker.query(Some(&alice), &form).await.code(), "ok");
    assert!(broker.assume(&alice, OPEN).await.is_ok());
    assert_eq!(
        broker.assume(&alice, CLOSED).await.unwrap_err(),
        "AccessDenied"
    );
    // After ten seconds of the broker's clock the count is written.
    broker.clock.pass(Duration::from_secs(10));
    let path = broker.audit_path();
    let aggregates = move || -> Vec<Value> {
        let text = std::fs::read_to_string(&path).unwrap();
        let records = text
            .lines()
            .map(|line| serde_json::from_str::<Value>(line).unwrap());
        records
            .filter(|record| record["eventType"] == "BrevetAggregate")
            .collect()
    };
    eventually("the count is written", async || !aggregates().is_empty()).await;
    let [aggregate] = &aggregates()[..] else {
        panic!("one kind")
    };
    let count = aggregate["additionalEventData"]["count"].as_u64().unwrap();
    assert_eq!(aggregate["eventName"], "GetCallerIdentity");
    assert_eq!(aggregate["errorCode"], "MissingAuthenticationToken");
    assert_eq!(aggregate["sourceIPAddress"], "127.0.0.1");
    let metrics = broker.operator("/metrics").await.body;
    assert!(
        metrics.contains(&format!("brevet_audit_aggregated_total {count}")),
        "{metrics}"
    );
    broker.stop().await;
    let text = std::fs::read_to_string(broker.audit_path()).unwrap();
    let singles = text
        .lines()
        .filter(|l| l.contains("MissingAuthenticationToken") && l.contains("AwsApiCall"))
        .count();
    assert_eq!(singles + usize::try_from(count).unwrap(), CALLS);
    assert!(
        singles > 300 && singles < 600,
        "{singles} lines: 256 KiB at once"
    );
    assert!(
        text.contains("\"errorCode\":\"AccessDenied\""),
        "who proved something has a rate of its own"
    );
}
