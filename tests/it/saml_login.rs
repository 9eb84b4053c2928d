//! SAML logins, with an identity provider in the test that can be told to misbehave.

use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use brevet::base::clock::Clock;
use serde_json::{Value, json};

use crate::harness::*;
use crate::saml_idp::{Idp, RECIPIENT, Says};

pub const ROLE: &str = "arn:aws:iam::111122223333:role/Saml";
pub const PROVIDER: &str = "arn:aws:iam::111122223333:saml-provider/corp";
const ENTITY: &str = "https://idp.example.com/saml";
const NOT_VOUCHED: &str = "InvalidIdentityToken";

fn role(arn: &str, statement: &Value, more: Value) -> Value {
    let sts = json!({"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "sts:*", "Resource": "*"}]});
    let mut role = json!({"Path": "/", "RoleName": arn.rsplit('/').next().unwrap(), "Arn": arn,
        "RolePolicyList": [{"PolicyName": "sts", "PolicyDocument": sts}],
        "AssumeRolePolicyDocument": {"Version": "2012-10-17", "Statement": statement}});
    for (name, value) in more.as_object().unwrap() {
        role[name] = value.clone();
    }
    role
}

/// A statement that allows the provider these actions under a condition.
fn trusts(actions: &[&str], condition: &Value) -> Value {
    json!({"Effect": "Allow", "Principal": {"Federated": PROVIDER}, "Action": actions,
        "Condition": condition})
}

const ALL: [&str; 3] = [
    "sts:AssumeRoleWithSAML",
    "sts:TagSession",
    "sts:SetSourceIdentity",
];

fn audience() -> Value {
    json!({"StringEquals": {"SAML:aud": RECIPIENT}})
}

/// The test directory with these providers and roles added.
fn directory(providers: &[Value], roles: &[Value]) -> Value {
    let mut directory: Value = serde_json::from_str(DIRECTORY).unwrap();
    directory["Brevet"]["SAMLProviders"] = providers.into();
    let list = directory["RoleDetailList"].as_array_mut().unwrap();
    list.extend(roles.iter().cloned());
    directory
}

fn save(broker: &Broker, directory: &Value) {
    let path = broker.dir.path().join("directory.json");
    brevet::files::write_private(&path, directory.to_string().as_bytes()).unwrap();
}

async fn broker_of(providers: &[Value], roles: &[Value]) -> Broker {
    let dir = home();
    let path = dir.path().join("directory.json");
    let text = directory(providers, roles).to_string();
    brevet::files::write_private(&path, text.as_bytes()).unwrap();
    Broker::start_in(dir, |_| {}).await
}

/// A broker with one provider, and a role that trusts it for everything.
pub async fn broker(idp: &Idp) -> Broker {
    let role = role(ROLE, &trusts(&ALL, &audience()), json!({}));
    broker_of(&[idp.declared(PROVIDER)], &[role]).await
}

/// The directory of [`broker`].
pub fn directory_of(idp: &Idp) -> Value {
    let role = role(ROLE, &trusts(&ALL, &audience()), json!({}));
    directory(&[idp.declared(PROVIDER)], &[role])
}

/// The form of a call that assumes the role of [`broker`].
pub fn form_of(response: &str) -> [(&str, &str); 5] {
    [
        ("Action", "AssumeRoleWithSAML"),
        VERSION,
        ("RoleArn", ROLE),
        ("PrincipalArn", PROVIDER),
        ("SAMLAssertion", response),
    ]
}

fn says(id: &str) -> Says {
    Says::new(id, ROLE, PROVIDER, now())
}

pub async fn login(broker: &Broker, response: &str, more: &[(&str, &str)]) -> Answer {
    let mut form = form_of(response).to_vec();
    for (name, value) in more {
        form.retain(|(n, _)| n != name);
        form.push((name, value));
    }
    broker.query(None, &form).await
}

#[tokio::test]
async fn a_login_and_all_that_the_answer_has() {
    let idp = Idp::new(ENTITY);
    let broker = broker(&idp).await;
    let says = says("one")
        .with("PrincipalTag:Team", &["blue"])
        .with("TransitiveTagKeys", &["Team"])
        .with("SourceIdentity", &["alice"]);
    let response = idp.response(&says);
    let answer = login(&broker, &response, &[]).await;
    let session = answer.credentials();
    for (name, expected) in [
        ("Subject", "alice"),
        ("SubjectType", "persistent"),
        ("Issuer", ENTITY),
        ("Audience", RECIPIENT),
        // printf %s https://idp.example.com/saml111122223333/corp | openssl sha1 -binary | base64
        ("NameQualifier", "q9cKCJk6vpTW1u2/xwTUYDemF2k="),
        ("SourceIdentity", "alice"),
        ("PackedPolicySize", "1"),
    ] {
        assert_eq!(answer.element(name), Some(expected), "{name}");
    }
    let identity = broker.client(&session).get_caller_identity().await.unwrap();
    assert_eq!(
        identity.arn,
        "arn:aws:sts::111122223333:assumed-role/Saml/alice@example.com"
    );
    let audit = broker.into_audit().await;
    let line = audit
        .iter()
        .find(|l| l["eventName"] == "AssumeRoleWithSAML")
        .unwrap();
    assert_eq!(
        line["userIdentity"],
        json!({"type": "SAMLUser", "principalId": "q9cKCJk6vpTW1u2/xwTUYDemF2k=:alice",
            "arn": PROVIDER, "accountId": "111122223333",
            "identityProvider": "q9cKCJk6vpTW1u2/xwTUYDemF2k=", "userName": "alice"})
    );
    assert_eq!(
        line["requestParameters"],
        json!({"roleArn": ROLE, "principalArn": PROVIDER, "sAMLAssertionID": "_one",
            "roleSessionName": "alice@example.com", "sourceIdentity": "alice",
            "principalTags": {"Team": "blue"}, "transitiveTagKeys": ["Team"]})
    );
    assert_eq!(line["responseElements"]["subjectType"], "persistent");
    assert_eq!(line["responseElements"]["subject"], "alice");
    let text = audit.iter().map(Value::to_string).collect::<String>();
    tells_nothing_of(&response, &text);
}

/// Nothing of a response is in a log: neither its base64, from wherever it is cut off, nor its
/// signature and digest, nor its XML.
fn tells_nothing_of(response: &str, log: &str) {
    let decoded = String::from_utf8(STANDARD.decode(response).unwrap()).unwrap();
    let of = |name: &str| {
        let (_, rest) = decoded.split_once(&format!("<ds:{name}>")).unwrap();
        rest.split_once('<').unwrap().0.to_owned()
    };
    let windows = (0..response.len() / 48).map(|n| response[48 * n..48 * n + 48].to_owned());
    let parts = [of("SignatureValue"), of("DigestValue"), "<saml:".to_owned()];
    for part in windows.chain(parts) {
        assert!(!log.contains(&part), "`{part}` is in the log: {log}");
    }
}

#[tokio::test]
async fn no_part_of_a_response_is_in_the_audit_whatever_becomes_of_it() {
    let idp = Idp::new(ENTITY);
    let broker = broker(&idp).await;
    let good = idp.response(&says("good"));
    assert_eq!(login(&broker, &good, &[]).await.code(), "ok");
    let mut all = vec![good.clone()];
    assert_eq!(login(&broker, &good, &[]).await.code(), "IDPRejectedClaim");
    for (expected, says) in [
        (NOT_VOUCHED, {
            let mut says = says("elsewhere");
            says.audience = "urn:other".to_owned();
            says
        }),
        ("ExpiredTokenException", {
            let mut says = says("late");
            says.not_on_or_after = now().minus(Duration::from_secs(120));
            says
        }),
        ("AccessDenied", says("unpaired").with("Role", &[OPEN])),
    ] {
        let response = idp.response(&says);
        let answer = login(&broker, &response, &[]).await;
        assert_eq!(answer.code(), expected, "{}", answer.body);
        all.push(response);
    }
    let forged = Idp::new(ENTITY).response(&says("forged"));
    assert_eq!(login(&broker, &forged, &[]).await.code(), NOT_VOUCHED);
    all.push(forged);
    let audit = broker.into_audit().await;
    let calls = audit
        .iter()
        .filter(|line| line["eventName"] == "AssumeRoleWithSAML");
    assert_eq!(calls.count(), 6);
    let text = audit.iter().map(Value::to_string).collect::<String>();
    for response in all {
        tells_nothing_of(&response, &text);
    }
}

#[tokio::test]
async fn a_failure_that_the_identity_provider_signed_is_its_word() {
    let idp = Idp::new(ENTITY);
    let broker = broker(&idp).await;
    let status = "urn:oasis:names:tc:SAML:2.0:status:Responder";
    let failure = idp.failure(status, "no such user", now());
    let answer = login(&broker, &failure, &[]).await;
    assert_eq!(
        (answer.status, answer.code()),
        (403, "IDPRejectedClaim"),
        "{}",
        answer.body
    );
    assert!(!answer.body.contains("no such user"), "{}", answer.body);
    // Somebody else's word, and that of a provider that is not there.
    let forged = Idp::new(ENTITY).failure(status, "no such user", now());
    assert_eq!(login(&broker, &forged, &[]).await.code(), NOT_VOUCHED);
    let missing = "arn:aws:iam::111122223333:saml-provider/missing";
    let answer = login(&broker, &failure, &[("PrincipalArn", missing)]).await;
    assert_eq!(answer.code(), NOT_VOUCHED);
    let audit = broker.into_audit().await;
    let of = |code: &str| {
        let found = audit.iter().find(|line| line["errorCode"] == code);
        found.unwrap()["additionalEventData"]["reason"].to_string()
    };
    let reason = of("IDPRejectedClaim");
    assert!(
        reason.contains(status) && reason.contains("no such user"),
        "{reason}"
    );
}

#[tokio::test]
async fn sa_06_an_assertion_for_aws_is_good_only_where_that_is_configured() {
    const AWS: (&str, &str) = (
        "urn:amazon:webservices",
        "https://signin.aws.amazon.com/saml",
    );
    let idp = Idp::new(ENTITY);
    let trust = trusts(
        &ALL,
        &json!({"StringEquals": {"SAML:aud": [RECIPIENT, AWS.1]}}),
    );
    let text = directory(&[idp.declared(PROVIDER)], &[role(ROLE, &trust, json!({}))]).to_string();
    for (audience, recipient, expected) in [
        (false, false, NOT_VOUCHED),
        (true, false, NOT_VOUCHED),
        (false, true, NOT_VOUCHED),
        (true, true, "ok"),
    ] {
        let dir = home();
        let path = dir.path().join("directory.json");
        brevet::files::write_private(&path, text.as_bytes()).unwrap();
        let broker = Broker::start_in(dir, |config| {
            let here = &mut config.service_provider;
            here.audiences.extend(audience.then(|| AWS.0.to_owned()));
            here.recipients.extend(recipient.then(|| AWS.1.to_owned()));
        })
        .await;
        let mut for_aws = says("aws");
        (for_aws.audience, for_aws.recipient) = (AWS.0.to_owned(), AWS.1.to_owned());
        for_aws.destination = Some(AWS.1.to_owned());
        let answer = login(&broker, &idp.response(&for_aws), &[]).await;
        assert_eq!(answer.code(), expected, "{audience} {recipient}");
        if expected == "ok" {
            assert_eq!(answer.element("Audience"), Some(AWS.1));
        }
        // What was made for this broker is good in any case.
        let answer = login(&broker, &idp.response(&says("here")), &[]).await;
        assert_eq!(answer.code(), "ok", "{}", answer.body);
    }
}

#[tokio::test]
async fn stray_signatures_are_not_looked_at() {
    let idp = Idp::new(ENTITY);
    let broker = broker(&idp).await;
    let response = idp.response(&says("one"));
    let form = form_of(&response);
    let mut headers = form_headers();
    headers.insert("x-amz-security-token", "stray".parse().unwrap());
    headers.insert(
        "authorization",
        "AWS4-HMAC-SHA256 nonsense".parse().unwrap(),
    );
    let answer = broker
        .send("POST", "/", headers, encode(&form).into_bytes())
        .await;
    assert_eq!(answer.code(), "ok", "{}", answer.body);
}

#[tokio::test]
async fn sa_06_an_assertion_is_good_here_and_now_only() {
    let idp = Idp::new(ENTITY);
    let broker = broker(&idp).await;
    let minutes = |n: u64| Duration::from_secs(60 * n);
    let elsewhere = || "https://other.example.com/saml/acs".to_owned();
    let change = |change: &dyn Fn(&mut Says)| {
        let mut says = says("same");
        change(&mut says);
        says
    };
    let cases: Vec<(&str, &str, Says)> = vec![
        (
            "audience",
            NOT_VOUCHED,
            change(&|s| s.audience = "urn:amazon:webservices".into()),
        ),
        (
            "recipient",
            NOT_VOUCHED,
            change(&|s| s.recipient = elsewhere()),
        ),
        (
            "destination",
            NOT_VOUCHED,
            change(&|s| s.destination = Some(elsewhere())),
        ),
        (
            "issuer",
            NOT_VOUCHED,
            change(&|s| s.issuer = Some("https://evil.example.com".into())),
        ),
        (
            "not before",
            NOT_VOUCHED,
            change(&|s| s.not_before = now().plus(minutes(2))),
        ),
        (
            "made later",
            NOT_VOUCHED,
            change(&|s| s.issued_at = now().plus(minutes(11))),
        ),
        (
            "conditions",
            "ExpiredTokenException",
            change(&|s| {
                s.not_on_or_after = now().minus(minutes(2));
                s.confirmed_until = Some(now().plus(minutes(5)));
            }),
        ),
        (
            "confirmation",
            "ExpiredTokenException",
            change(&|s| s.confirmed_until = Some(now().minus(minutes(2)))),
        ),
        (
            "session",
            "ExpiredTokenException",
            change(&|s| s.session_until = Some(now().minus(minutes(2)))),
        ),
        // No leeway helps, since nothing would be left of the session.
        (
            "session",
            "ExpiredTokenException",
            change(&|s| s.session_until = Some(now())),
        ),
        (
            "status",
            NOT_VOUCHED,
            change(&|s| s.status = "urn:oasis:names:tc:SAML:2.0:status:Responder".into()),
        ),
        (
            "session name",
            NOT_VOUCHED,
            says("same").with("RoleSessionName", &["a b"]),
        ),
        (
            "session names",
            NOT_VOUCHED,
            says("same").with("RoleSessionName", &["alice", "bob"]),
        ),
        (
            "duration",
            NOT_VOUCHED,
            says("same").with("SessionDuration", &["60"]),
        ),
        (
            "tags",
            NOT_VOUCHED,
            says("same").with("PrincipalTag:Team", &["a", "b"]),
        ),
        (
            "tags",
            NOT_VOUCHED,
            says("same")
                .with("PrincipalTag:Team", &["a"])
                .with("PrincipalTag:TEAM", &["b"]),
        ),
        (
            "transitive",
            NOT_VOUCHED,
            says("same").with("TransitiveTagKeys", &["Team"]),
        ),
        ("no role", NOT_VOUCHED, says("same").with("Role", &[])),
    ];
    for (what, code, says) in &cases {
        let answer = login(&broker, &idp.response(says), &[]).await;
        assert_eq!(answer.code(), *code, "{what}: {}", answer.body);
        // The caller learns the code; why is in the audit.
        assert!(
            !answer.body.contains("example.com"),
            "{what}: {}",
            answer.body
        );
    }
    // What was refused was not used up.
    let answer = login(&broker, &idp.response(&says("same")), &[]).await;
    assert_eq!(answer.code(), "ok", "{}", answer.body);
    let audit = broker.into_audit().await;
    let reasons: Vec<&str> = audit
        .iter()
        .filter_map(|l| l.pointer("/additionalEventData/reason")?.as_str())
        .collect();
    for named in [
        "its AudienceRestriction names `urn:amazon:webservices`",
        "the Recipient of the SubjectConfirmationData is `https://other.example.com/saml/acs`",
        "the Destination of the response",
        "the Issuer of the Assertion is `https://evil.example.com`",
        "the NotBefore of the Conditions",
        "more than six minutes in the future",
        "the NotOnOrAfter of the SubjectConfirmationData",
        "the response reports a failed sign-in, but is not signed",
    ] {
        assert!(
            reasons.iter().any(|r| r.contains(named)),
            "{named}: {reasons:#?}"
        );
    }
}

#[tokio::test]
async fn sa_06_the_role_and_the_provider_must_be_a_pair_of_the_assertion() {
    let idp = Idp::new(ENTITY);
    let broker = broker(&idp).await;
    let other_role = "arn:aws:iam::111122223333:role/Other";
    let other_provider = "arn:aws:iam::111122223333:saml-provider/other";
    let pair = |first: &str, second: &str| format!("{first},{second}");
    for (n, (values, expected)) in [
        (vec![pair(ROLE, PROVIDER)], "ok"),
        (vec![pair(PROVIDER, ROLE)], "ok"),
        (vec![pair(other_role, PROVIDER), pair(ROLE, PROVIDER)], "ok"),
        (vec![pair(other_role, PROVIDER)], "AccessDenied"),
        (vec![pair(ROLE, other_provider)], "AccessDenied"),
        (vec![pair(ROLE, ROLE)], "AccessDenied"),
        (vec![ROLE.to_owned()], "AccessDenied"),
        (
            vec![format!("{ROLE},{PROVIDER},{other_provider}")],
            "AccessDenied",
        ),
        // The parts of two pairs are no pair.
        (
            vec![pair(other_role, PROVIDER), pair(ROLE, other_provider)],
            "AccessDenied",
        ),
    ]
    .into_iter()
    .enumerate()
    {
        let values: Vec<&str> = values.iter().map(String::as_str).collect();
        let says = says(&format!("pair{n}")).with("Role", &values);
        let answer = login(&broker, &idp.response(&says), &[]).await;
        assert_eq!(answer.code(), expected, "{values:?}: {}", answer.body);
        if expected == "AccessDenied" {
            assert_eq!(answer.status, 403);
            let (said, encoded) = sentence(answer.element("Message").unwrap());
            assert_eq!(said, "Not authorized to perform sts:AssumeRoleWithSAML");
            let form = [
                ("Action", "DecodeAuthorizationMessage"),
                VERSION,
                ("EncodedMessage", encoded),
            ];
            let decoded = broker.query(Some(&user(ADMIN)), &form).await;
            let named = "the attribute `Role` does not name the role";
            assert!(decoded.body.contains(named), "{}", decoded.body);
        }
    }
}

#[tokio::test]
async fn sa_06_an_assertion_is_used_once_also_after_a_restart() {
    let idp = Idp::new(ENTITY);
    let mut broker = broker(&idp).await;
    let response = idp.response(&says("once"));
    assert_eq!(login(&broker, &response, &[]).await.code(), "ok");
    let again = login(&broker, &response, &[]).await;
    assert_eq!((again.status, again.code()), (403, "IDPRejectedClaim"));
    // The same assertion, signed anew.
    let resigned = login(&broker, &idp.response(&says("once")), &[]).await;
    assert_eq!(resigned.code(), "IDPRejectedClaim");
    let time = broker.clock.now();
    let dir = broker.dir.clone();
    broker.stop().await;
    let broker = Broker::start_in(dir, |_| {}).await;
    broker.clock.set(time);
    assert_eq!(
        login(&broker, &response, &[]).await.code(),
        "IDPRejectedClaim",
        "after a restart"
    );
    assert_eq!(
        login(&broker, &idp.response(&says("twice")), &[])
            .await
            .code(),
        "ok"
    );
}

#[tokio::test]
async fn sa_05_sa_06_only_the_provider_of_that_name_and_account_vouches() {
    let (idp, other) = (Idp::new(ENTITY), Idp::new("https://other.example.com/saml"));
    let foreign = "arn:aws:iam::999900001111:saml-provider/corp";
    let statement = json!([trusts(&ALL, &audience()),
        {"Effect": "Allow", "Principal": {"Federated": foreign}, "Action": ALL}]);
    let broker = broker_of(
        &[
            idp.declared(PROVIDER),
            idp.declared(foreign),
            other.declared("arn:aws:iam::111122223333:saml-provider/other"),
        ],
        &[role(ROLE, &statement, json!({}))],
    )
    .await;
    // A provider of another account, although the role's trust policy names it.
    let both = says("foreign").with("Role", &[&format!("{ROLE},{foreign}")]);
    let answer = login(&broker, &idp.response(&both), &[("PrincipalArn", foreign)]).await;
    assert_eq!(answer.code(), NOT_VOUCHED, "{}", answer.body);
    // Another provider's assertion, and one that nobody has signed.
    let answer = login(&broker, &other.response(&says("a")), &[]).await;
    assert_eq!(answer.code(), NOT_VOUCHED);
    let mut by_other = says("a");
    by_other.issuer = Some(ENTITY.to_owned());
    let answer = login(&broker, &other.response(&by_other), &[]).await;
    assert_eq!(answer.code(), NOT_VOUCHED);
    // A provider that is not there reads like one that did not sign.
    let missing = "arn:aws:iam::111122223333:saml-provider/missing";
    let one = login(
        &broker,
        &idp.response(&says("a")),
        &[("PrincipalArn", missing)],
    )
    .await;
    assert_eq!(
        (one.code(), one.element("Message")),
        (NOT_VOUCHED, answer.element("Message"))
    );
    // A role that is not there reads like one that does not trust the provider.
    let no_role = "arn:aws:iam::111122223333:role/Missing";
    let says = says("a").with("Role", &[&format!("{no_role},{PROVIDER}")]);
    let answer = login(&broker, &idp.response(&says), &[("RoleArn", no_role)]).await;
    assert_eq!(answer.code(), "AccessDenied", "{}", answer.body);
}

#[tokio::test]
async fn sa_06_a_session_is_no_longer_than_provider_and_role_let_it_be() {
    let idp = Idp::new(ENTITY);
    let more = json!({"MaxSessionDuration": 7200});
    let broker = broker_of(
        &[idp.declared(PROVIDER)],
        &[role(ROLE, &trusts(&ALL, &audience()), more)],
    )
    .await;
    let until = |minutes: u64| Some(now().plus(Duration::from_secs(60 * minutes)));
    for (n, (asked, attribute, session_until, expected)) in [
        (None, None, None, Ok(60)),
        (None, Some("7200"), None, Ok(120)),
        // The role's maximum holds.
        (None, Some("43200"), None, Ok(120)),
        (Some("10800"), Some("43200"), None, Err("ValidationError")),
        (Some("7200"), None, None, Ok(120)),
        // Whatever is asked for, the provider's word holds.
        (Some("7200"), Some("1800"), None, Ok(30)),
        (Some("7200"), None, until(10), Ok(10)),
        (None, Some("1800"), until(1), Ok(1)),
        (Some("899"), None, None, Err("ValidationError")),
    ]
    .into_iter()
    .enumerate()
    {
        let mut says = says(&format!("duration{n}"));
        says.session_until = session_until;
        if let Some(attribute) = attribute {
            says = says.with("SessionDuration", &[attribute]);
        }
        let more: Vec<_> = asked.map(|a| ("DurationSeconds", a)).into_iter().collect();
        let answer = login(&broker, &idp.response(&says), &more).await;
        match expected {
            Err(code) => assert_eq!(answer.code(), code, "{n}"),
            Ok(minutes) => {
                let end = answer
                    .element("Expiration")
                    .unwrap_or_else(|| panic!("{n}: {}", answer.body));
                let expected = now().plus(Duration::from_secs(60 * minutes)).to_string();
                assert_eq!(end, expected, "{n}");
            }
        }
    }
}

#[tokio::test]
async fn tags_and_source_identity_need_leave_of_the_trust_policy() {
    let idp = Idp::new(ENTITY);
    let broker = broker_of(
        &[idp.declared(PROVIDER)],
        &[role(
            ROLE,
            &trusts(&["sts:AssumeRoleWithSAML"], &audience()),
            json!({}),
        )],
    )
    .await;
    for (says, expected) in [
        (says("a"), "ok"),
        (
            says("b").with("PrincipalTag:Team", &["blue"]),
            "AccessDenied",
        ),
        (says("b").with("SourceIdentity", &["alice"]), "AccessDenied"),
    ] {
        let answer = login(&broker, &idp.response(&says), &[]).await;
        assert_eq!(answer.code(), expected, "{}", answer.body);
    }
}

#[tokio::test]
async fn what_an_assertion_says_is_seen_by_conditions() {
    let idp = Idp::new(ENTITY);
    let condition = json!({
        "StringEquals": {
            "SAML:aud": RECIPIENT, "SAML:iss": ENTITY, "SAML:sub": "alice", "SAML:sub_type": "persistent",
            "SAML:namequalifier": "q9cKCJk6vpTW1u2/xwTUYDemF2k=", "SAML:doc": "111122223333/corp",
            "saml:mail": "alice@example.com", "saml:commonName": "Alice",
            "sts:RoleSessionName": "alice@example.com", "sts:SourceIdentity": "alice",
            "aws:RequestTag/Team": "blue", "aws:FederatedProvider": PROVIDER,
        },
        "ForAnyValue:StringEquals": {"saml:edupersonaffiliation": "staff"},
        "ForAllValues:StringEquals": {"aws:TagKeys": ["Team"], "sts:TransitiveTagKeys": ["Team"]},
        "Null": {"saml:uid": "true", "sts:RoleAuthorizedByIdp": "true", "aws:userid": "true"},
    });
    let broker = broker_of(
        &[idp.declared(PROVIDER)],
        &[role(ROLE, &trusts(&ALL, &condition), json!({}))],
    )
    .await;
    let good = |id: &str| {
        says(id)
            .with("PrincipalTag:Team", &["blue"])
            .with("TransitiveTagKeys", &["Team"])
            .with("SourceIdentity", &["alice"])
            .with_any("urn:oid:0.9.2342.19200300.100.1.3", &["alice@example.com"])
            .with_any("http://schemas.xmlsoap.org/claims/CommonName", &["Alice"])
            .with_any("urn:oid:1.3.6.1.4.1.5923.1.1.1.1", &["member", "staff"])
    };
    let answer = login(&broker, &idp.response(&good("a")), &[]).await;
    assert_eq!(answer.code(), "ok", "{}", answer.body);
    for says in [
        good("b").with("PrincipalTag:Team", &["red"]),
        good("b").with("PrincipalTag:Other", &["x"]),
        good("b").with_any("urn:oid:1.3.6.1.4.1.5923.1.1.1.1", &["member"]),
        good("b").with_any("urn:oid:0.9.2342.19200300.100.1.1", &["alice"]),
    ] {
        let answer = login(&broker, &idp.response(&says), &[]).await;
        assert_eq!(answer.code(), "AccessDenied", "{}", answer.body);
    }
}

#[tokio::test]
async fn sessions_end_with_their_provider_and_by_revocation() {
    let idp = Idp::new(ENTITY);
    let broker = broker(&idp).await;
    let enter = async |id: &str, subject: &str| {
        let mut says = says(id);
        says.subject = subject.to_owned();
        login(&broker, &idp.response(&says), &[])
            .await
            .credentials()
    };
    let (alice, bob) = (enter("a", "alice").await, enter("b", "bob").await);
    let chained = broker.assume(&alice, OPEN).await.unwrap();
    let vouched_for = |subject: Option<&str>| {
        Selector::VouchedFor(brevet::api::sts::v1::VouchedFor {
            provider_arn: PROVIDER.to_owned(),
            subject: subject.map(str::to_owned),
        })
    };
    broker
        .revoke(&user(ADMIN), vouched_for(Some("alice")))
        .await
        .unwrap();
    for (keys, expected) in [
        (&alice, "InvalidClientTokenId"),
        (&chained, "InvalidClientTokenId"),
        (&bob, "ok"),
    ] {
        assert_eq!(broker.who(keys).await, expected);
    }
    broker
        .revoke(&user(ADMIN), vouched_for(None))
        .await
        .unwrap();
    assert_eq!(broker.who(&bob).await, "InvalidClientTokenId");

    let carol = enter("c", "carol").await;
    assert_eq!(broker.who(&carol).await, "ok");
    let statement = trusts(&ALL, &audience());
    save(
        &broker,
        &directory(&[], &[role(ROLE, &statement, json!({}))]),
    );
    eventually("the provider vouches for nobody", async || {
        login(&broker, &idp.response(&says("d")), &[]).await.code() == NOT_VOUCHED
    })
    .await;
    assert_eq!(broker.who(&carol).await, "InvalidClientTokenId");
}

#[tokio::test]
async fn sa_04_keys_are_those_of_the_metadata_while_their_certificates_are_valid() {
    let (old, new) = (Idp::valid(ENTITY, (2020, 2026)), Idp::new(ENTITY));
    let statement = trusts(&ALL, &audience());
    let roles = [role(ROLE, &statement, json!({}))];
    // A rollover: both keys are in the metadata, and the certificate of the old one has expired.
    let rollover = json!({"Arn": PROVIDER, "SAMLMetadataDocument": new.metadata_with(&[&old])});
    let broker = broker_of(&[rollover], &roles).await;
    let code = async |idp: &Idp, id: &str| {
        let answer = login(&broker, &idp.response(&says(id)), &[]).await;
        answer.code().to_owned()
    };
    assert_eq!(code(&new, "a").await, "ok");
    assert_eq!(code(&old, "b").await, NOT_VOUCHED);
    // A new key is taken from new metadata only, and a key that is gone from it is not good any more.
    let newer = Idp::new(ENTITY);
    assert_eq!(code(&newer, "c").await, NOT_VOUCHED);
    save(&broker, &directory(&[newer.declared(PROVIDER)], &roles));
    eventually("the new key is taken", async || {
        code(&newer, "c").await == "ok" || code(&newer, "c").await == "IDPRejectedClaim"
    })
    .await;
    assert_eq!(code(&new, "d").await, NOT_VOUCHED);
}

#[tokio::test]
async fn lengths_and_forms_are_checked_before_anything_else() {
    let idp = Idp::new(ENTITY);
    let broker = broker(&idp).await;
    let response = idp.response(&says("a"));
    let (most, more) = ("A".repeat(100_000), "A".repeat(100_001));
    for (name, value, expected) in [
        ("SAMLAssertion", "AAA", "ValidationError"),
        ("SAMLAssertion", more.as_str(), "ValidationError"),
        ("SAMLAssertion", most.as_str(), NOT_VOUCHED),
        ("SAMLAssertion", "not base64", NOT_VOUCHED),
        ("PrincipalArn", ROLE, "ValidationError"),
        (
            "PrincipalArn",
            "arn:aws:iam::111122223333:saml-provider/a/b",
            "ValidationError",
        ),
        ("RoleArn", PROVIDER, "ValidationError"),
        ("Policy", "{}", "MalformedPolicyDocument"),
        (
            "PolicyArns.member.1.arn",
            "arn:aws:iam::111122223333:policy/Missing",
            "ValidationError",
        ),
        ("Unknown", "x", "ValidationError"),
    ] {
        let answer = login(&broker, &response, &[(name, value)]).await;
        assert_eq!(answer.code(), expected, "{name}: {}", answer.body);
    }
    // White space around the response is none of it.
    let spaced = format!("  {response}\r\n");
    assert_eq!(login(&broker, &spaced, &[]).await.code(), "ok");
}

/// The role and the provider of [`broker`], as a file declares them.
pub fn declaration(idp: &Idp) -> Value {
    json!({
        "RoleDetailList": [role(ROLE, &trusts(&ALL, &audience()), json!({}))],
        "Brevet": {"SAMLProviders": [idp.declared(PROVIDER)]},
    })
}

async fn declare(hand: &OtherProcess, idp: &Idp) -> i64 {
    hand.import(&declaration(idp)).await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sa_06_an_assertion_is_used_once_on_all_nodes_together() {
    let postgres = crate::postgres::Postgres::start();
    let ([one, two], hand) = crate::postgres::brokers(&postgres, [postgres.port; 2]).await;
    let idp = Idp::new(ENTITY);
    let declared = declare(&hand, &idp).await;
    for broker in [&one, &two] {
        broker.reaches(declared).await;
        // What was made before this store knew the past counts as used.
        broker.clock.advance(Duration::from_secs(60));
    }
    let now = one.clock.now();
    for n in 0..3 {
        let response = idp.response(&Says::new(&format!("n{n}"), ROLE, PROVIDER, now));
        let tries = (0..10).map(|n| {
            let broker = if n % 2 == 0 { &one } else { &two };
            login(broker, &response, &[])
        });
        let got = futures_util::future::join_all(tries).await;
        let codes: Vec<&str> = got.iter().map(Answer::code).collect();
        let good = codes.iter().filter(|code| **code == "ok").count();
        assert_eq!(good, 1, "{codes:?}");
        let used = codes.iter().filter(|code| **code == "IDPRejectedClaim");
        assert_eq!(used.count(), 9, "{codes:?}");
    }
}

#[tokio::test]
async fn metadata_is_renewed_while_the_broker_runs_and_its_end_is_a_metric() {
    let broker = Broker::start_stored().await;
    let hand = broker.hand().await;
    let (first, second) = (Idp::new(ENTITY), Idp::valid(ENTITY, (2020, 2027)));
    broker.reaches(declare(&hand, &first).await).await;
    broker.clock.advance(Duration::from_secs(60));
    let now = broker.clock.now();
    let code = async |idp: &Idp, id: &str| {
        let response = idp.response(&Says::new(id, ROLE, PROVIDER, now));
        login(&broker, &response, &[]).await.code().to_owned()
    };
    assert_eq!(code(&first, "a").await, "ok");
    assert_eq!(code(&second, "b").await, NOT_VOUCHED);
    let file = json!({"Brevet": {"SAMLProviders": [second.declared(PROVIDER)]}});
    broker.reaches(hand.import(&file).await.unwrap()).await;
    assert_eq!(code(&second, "b").await, "ok");
    assert_eq!(code(&first, "c").await, NOT_VOUCHED);

    let metrics = broker.operator("/metrics").await.body;
    let line = format!(r#"brevet_saml_provider_usable_seconds{{provider="{PROVIDER}"}} "#);
    let seconds = metrics.lines().find_map(|l| l.strip_prefix(&line));
    let seconds: u64 = seconds
        .unwrap_or_else(|| panic!("{metrics}"))
        .parse()
        .unwrap();
    // To the end of the year.
    assert!((37 * 86_400..39 * 86_400).contains(&seconds), "{seconds}");

    let answer = broker
        .send("GET", "/saml/metadata", http::HeaderMap::new(), Vec::new())
        .await;
    assert_eq!(
        (
            answer.status,
            answer.headers["content-type"].to_str().unwrap()
        ),
        (200, "application/samlmetadata+xml")
    );
    assert!(answer.body.contains(RECIPIENT), "{}", answer.body);
}

#[tokio::test]
async fn a_document_that_is_no_metadata_is_refused_by_name() {
    let broker = Broker::start_stored().await;
    let hand = broker.hand().await;
    let idp = Idp::new(ENTITY);
    let before = declare(&hand, &idp).await;
    let no_key = idp.metadata().replace("signing", "encryption");
    for (document, named) in [
        (
            format!("<!DOCTYPE x>{}", idp.metadata()),
            "document type declaration",
        ),
        (no_key, "no signing key"),
        ("x".repeat(1_000), PROVIDER),
    ] {
        let file = json!({"Brevet": {"SAMLProviders": [{"Arn": PROVIDER, "SAMLMetadataDocument": document}]}});
        let error = hand.import(&file).await.unwrap_err().to_string();
        assert!(error.contains(named), "{named}: {error}");
        assert!(error.contains(PROVIDER), "{error}");
    }
    let same = json!({"Brevet": {"SAMLProviders": [idp.declared(PROVIDER)]}});
    assert_eq!(
        hand.import(&same).await.ok(),
        Some(before),
        "nothing was changed"
    );
}

#[tokio::test]
async fn sa_01_what_is_not_signed_is_nobodys_word() {
    let encode =
        |xml: &str| base64::Engine::encode(&base64::engine::general_purpose::STANDARD, xml);
    let idp = Idp::new(ENTITY);
    let broker = broker(&idp).await;
    let good = idp.xml(&says("good"));
    let (before, rest) = good.split_once("<saml:Assertion ").unwrap();
    let (assertion, after) = rest.split_once("</saml:Assertion>").unwrap();
    let signed = format!("<saml:Assertion {assertion}</saml:Assertion>");
    let (start, signature) = signed.split_once("<ds:Signature ").unwrap();
    let (signature, end) = signature.split_once("</ds:Signature>").unwrap();
    let signature = format!("<ds:Signature {signature}</ds:Signature>");
    let bare = format!("{start}{end}");
    let evil = |id: &str| bare.replace(">alice<", ">root<").replace("_good", id);
    let with = |assertions: &str| format!("{before}{assertions}{after}");
    let behind_the_issuer = |evil: &str, inner: &str| {
        evil.replacen("</saml:Issuer>", &format!("</saml:Issuer>{inner}"), 1)
    };
    let object = format!("<ds:Object>{bare}</ds:Object></ds:Signature>");
    let with_object = signature.replace("</ds:Signature>", &object);
    let advice = format!("<saml:Advice>{signed}</saml:Advice></saml:Assertion>");
    let extensions = format!("<samlp:Extensions>{signed}</samlp:Extensions><samlp:Status>");
    let evil_alone = with(&evil("_evil"));
    let attacks = [
        ("unsigned", with(&bare)),
        ("changed", with(&signed.replace(">alice<", ">root<"))),
        ("before", with(&format!("{}{signed}", evil("_evil")))),
        ("behind", with(&format!("{signed}{}", evil("_evil")))),
        ("the same ID", with(&format!("{}{signed}", evil("_good")))),
        (
            "in an advice",
            with(&evil("_evil").replacen("</saml:Assertion>", &advice, 1)),
        ),
        (
            "in an object",
            with(&behind_the_issuer(&evil("_evil"), &with_object)),
        ),
        (
            "in extensions",
            evil_alone.replacen("<samlp:Status>", &extensions, 1),
        ),
        ("around", with(&behind_the_issuer(&evil("_evil"), &signed))),
        (
            "an entity",
            format!("<!DOCTYPE r [<!ENTITY e \"root\">]>{good}"),
        ),
    ];
    for (what, xml) in &attacks {
        let answer = login(&broker, &encode(xml), &[]).await;
        assert_eq!(answer.code(), NOT_VOUCHED, "{what}: {xml}");
    }
    // A comment is no part of what is signed, and splits nothing.
    let commented = with(&signed.replace(">alice<", ">al<!---->ice<"));
    let answer = login(&broker, &encode(&commented), &[]).await;
    assert_eq!(answer.element("Subject"), Some("alice"), "{}", answer.body);
    let answer = login(&broker, &encode(&good), &[]).await;
    assert_eq!(
        answer.code(),
        "IDPRejectedClaim",
        "it is the same assertion"
    );
}

#[tokio::test]
async fn private_keys_of_a_provider_are_sealed_and_stay() {
    const KEY: &str = include_str!("../data/saml/rsa.key");
    let broker = Broker::start_stored().await;
    let hand = broker.hand().await;
    let idp = Idp::new(ENTITY);
    let mut provider = idp.declared(PROVIDER);
    provider["PrivateKeys"] = KEY.into();
    let file = |provider: &Value| json!({"Brevet": {"SAMLProviders": [provider]}});
    broker
        .reaches(hand.import(&file(&provider)).await.unwrap())
        .await;
    let exported = async || {
        let exported = brevet::commands::export(&hand.store).await.unwrap();
        serde_json::to_value(exported).unwrap()["Brevet"]["SAMLProviders"][0].clone()
    };
    let first = exported().await;
    let sealed = first["SealedPrivateKeys"].clone();
    assert!(sealed.is_string(), "{first}");
    assert!(first.get("PrivateKeys").is_none(), "{first}");
    let line = KEY.lines().nth(1).unwrap();
    assert!(!first.to_string().contains(line), "{first}");
    let keys = || {
        let directory = broker.running.as_ref().unwrap().broker.directory.load();
        directory
            .saml_provider(PROVIDER)
            .unwrap()
            .private_keys
            .len()
    };
    assert_eq!(keys(), 1);
    // What AWS prints of the provider has no keys, and its metadata may be newer.
    let newer = file(&Idp::new(ENTITY).declared(PROVIDER));
    broker.reaches(hand.import(&newer).await.unwrap()).await;
    let second = exported().await;
    assert_eq!(second["SealedPrivateKeys"], sealed);
    assert_ne!(
        second["SAMLMetadataDocument"],
        first["SAMLMetadataDocument"]
    );
    assert_eq!(keys(), 1);
    for bad in ["text", &KEY.replace("MII", "MIJ")] {
        provider["PrivateKeys"] = bad.into();
        let error = hand.import(&file(&provider)).await.unwrap_err().to_string();
        assert!(error.contains("PrivateKeys"), "{error}");
        assert!(!error.contains("MIJ"), "{error}");
    }
}

#[tokio::test]
async fn sa_06_another_provider_uses_up_no_ids_of_an_issuer_by_its_name() {
    let (idp, twin) = (Idp::new(ENTITY), Idp::new(ENTITY));
    let twin_arn = "arn:aws:iam::111122223333:saml-provider/twin";
    let twin_role = "arn:aws:iam::111122223333:role/Twin";
    let trusts_twin =
        json!({"Effect": "Allow", "Principal": {"Federated": twin_arn}, "Action": ALL});
    let broker = broker_of(
        &[idp.declared(PROVIDER), twin.declared(twin_arn)],
        &[
            role(ROLE, &trusts(&ALL, &audience()), json!({})),
            role(twin_role, &trusts_twin, json!({})),
        ],
    )
    .await;
    let burns = Says::new("same", twin_role, twin_arn, now());
    let more = [("RoleArn", twin_role), ("PrincipalArn", twin_arn)];
    let answer = login(&broker, &twin.response(&burns), &more).await;
    assert_eq!(answer.code(), "ok", "{}", answer.body);
    let response = idp.response(&says("same"));
    let answer = login(&broker, &response, &[]).await;
    assert_eq!(answer.code(), "ok", "{}", answer.body);
    let again = login(&broker, &response, &[]).await;
    assert_eq!(again.code(), "IDPRejectedClaim");
}

#[tokio::test]
async fn a_failure_that_nobody_signed_tells_nothing_of_the_provider() {
    let idp = Idp::new(ENTITY);
    let broker = broker(&idp).await;
    let mut failed = says("failed");
    failed.status = "urn:oasis:names:tc:SAML:2.0:status:Responder".to_owned();
    let response = idp.response(&failed);
    let here = login(&broker, &response, &[]).await;
    let missing = "arn:aws:iam::111122223333:saml-provider/missing";
    let not_here = login(&broker, &response, &[("PrincipalArn", missing)]).await;
    assert_eq!(here.code(), NOT_VOUCHED);
    assert_eq!(
        (here.status, here.element("Message")),
        (not_here.status, not_here.element("Message"))
    );
}
