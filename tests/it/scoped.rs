//! GetScopedCredentials: a session gets credentials of itself that may do less or end earlier.

use brevet::api::sts::v1 as pb;
use brevet::client::{AssumeRole, ClientError};
use serde_json::{Value, json};

use crate::harness::*;

const NAME: (&str, &str) = ("Action", "GetScopedCredentials");
const SESSION: &str = "arn:aws:sts::111122223333:assumed-role/Open/test-session";

fn policy(actions: &[&str], resource: &str) -> String {
    let statement = json!({"Effect": "Allow", "Action": actions, "Resource": resource});
    json!({"Version": "2012-10-17", "Statement": [statement]}).to_string()
}

/// A policy that allows all of STS, so that the credentials can be narrowed further.
fn sts() -> String {
    policy(&["sts:*"], "*")
}

/// Narrows a session by the Query protocol.
async fn narrow(broker: &Broker, keys: &Keys, parameters: &[(&str, &str)]) -> Answer {
    let mut form = vec![NAME, VERSION];
    form.extend(parameters);
    broker.query(Some(keys), &form).await
}

/// Narrows a session by a policy. Panics unless the broker does it.
async fn narrowed(broker: &Broker, keys: &Keys, policy: &str) -> Keys {
    narrow(broker, keys, &[("Policy", policy)])
        .await
        .credentials()
}

async fn assume(broker: &Broker, keys: &Keys, role: &str) -> String {
    let assumed = broker.assume(keys, role).await;
    assumed.map_or_else(|code| code, |_| "ok".to_owned())
}

/// A broker with one more role, which trusts the session itself by its ARN.
async fn with_role_that_trusts_the_session() -> Broker {
    let dir = home();
    let mut directory: Value = serde_json::from_str(DIRECTORY).unwrap();
    let trust = json!({"Version": "2012-10-17", "Statement": [
        {"Effect": "Allow", "Principal": {"AWS": SESSION}, "Action": "sts:AssumeRole"}]});
    let roles = directory["RoleDetailList"].as_array_mut().unwrap();
    roles.push(
        json!({"RoleName": "ForSession", "Arn": FOR_SESSION, "AssumeRolePolicyDocument": trust}),
    );
    let path = dir.path().join("directory.json");
    brevet::files::write_private(&path, directory.to_string().as_bytes()).unwrap();
    Broker::start_in(dir, |_| {}).await
}

const FOR_SESSION: &str = "arn:aws:iam::111122223333:role/ForSession";

#[tokio::test]
async fn az_10_narrowed_credentials_are_the_same_identity_and_can_do_less() {
    let broker = with_role_that_trusts_the_session().await;
    let parent = broker.assume(&user("alice"), OPEN).await.unwrap();
    let identity = broker.query(Some(&parent), WHO).await;
    assert_eq!(identity.element("Arn"), Some(SESSION));
    for role in [DIRECT, FOR_SESSION] {
        assert_eq!(assume(&broker, &parent, role).await, "ok", "{role}");
    }
    let only_direct = policy(&["sts:AssumeRole"], DIRECT);
    let answer = narrow(&broker, &parent, &[("Policy", &only_direct)]).await;
    let child = answer.credentials();
    assert_ne!((&child.id, &child.secret), (&parent.id, &parent.secret));
    assert_eq!(answer.element("Arn"), Some(SESSION));
    assert_eq!(
        answer.element("ScopedSessionId"),
        identity.element("UserId")
    );
    assert_eq!(answer.element("SourceIdentity"), None);
    assert_eq!(answer.element("ScopedPoliciesCount"), Some("1"));
    let size = child.token.as_ref().unwrap().len().to_string();
    assert_eq!(answer.element("SessionTokenSize"), Some(size.as_str()));
    let used: u64 = answer
        .element("SessionTokenUtilization")
        .unwrap()
        .parse()
        .unwrap();
    assert!((1..=100).contains(&used), "{used}");
    let own = broker.query(Some(&child), WHO).await;
    for name in ["Arn", "UserId", "Account"] {
        assert_eq!(own.element(name), identity.element(name), "{name}");
    }
    // It may do what the role and the policy allow: neither what the policy leaves out, although a
    // trust policy names the session itself, nor return to the role.
    assert_eq!(assume(&broker, &child, DIRECT).await, "ok");
    for role in [FOR_SESSION, OPEN] {
        assert_eq!(
            assume(&broker, &child, role).await,
            "AccessDenied",
            "{role}"
        );
    }
    // The next policy cannot give back what the first one took.
    let neither = narrow(&broker, &child, &[("Policy", &sts())]).await;
    assert_eq!(neither.code(), "AccessDenied");
    let first = policy(&["sts:GetScopedCredentials", "sts:AssumeRole"], "*");
    let first = narrowed(&broker, &parent, &first).await;
    let second = policy(
        &["sts:GetScopedCredentials", "sts:TagSession", "iam:*"],
        "*",
    );
    let second = narrowed(&broker, &first, &second).await;
    assert_eq!(assume(&broker, &first, DIRECT).await, "ok");
    assert_eq!(assume(&broker, &second, DIRECT).await, "AccessDenied");
    let third = narrowed(&broker, &second, &policy(&["*"], "*")).await;
    assert_eq!(assume(&broker, &third, DIRECT).await, "AccessDenied");
    // A source identity stays as it is.
    let request = AssumeRole {
        source_identity: Some("alice@example".to_owned()),
        ..AssumeRole::new(OPEN, "test-session")
    };
    let named = broker.client(&user("alice")).assume_role(&request).await;
    let named = Keys::from(&named.unwrap().credentials);
    for _ in 0..2 {
        let answer = narrow(&broker, &named, &[("DurationSeconds", "60")]).await;
        assert_eq!(answer.element("SourceIdentity"), Some("alice@example"));
    }
    // Nothing was taken from the parent.
    assert_eq!(assume(&broker, &parent, FOR_SESSION).await, "ok");
}

#[tokio::test]
async fn az_10_a_session_keeps_its_session_policy_and_its_own_role_is_closed_to_it() {
    let broker = Broker::start().await;
    let request = AssumeRole {
        policy: Some(policy(&["sts:GetScopedCredentials"], "*")),
        ..AssumeRole::new(OPEN, "test-session")
    };
    let parent = broker.client(&user("alice")).assume_role(&request).await;
    let parent = Keys::from(&parent.unwrap().credentials);
    // A policy that allows everything adds nothing to what the session policy allows.
    let child = narrowed(&broker, &parent, &policy(&["*"], "*")).await;
    assert_eq!(assume(&broker, &child, DIRECT).await, "AccessDenied");
    // A session of a user can be narrowed too; by a policy that names one role it reaches no other.
    let own = [("Action", "GetSessionToken"), VERSION];
    let own = broker.query(Some(&user("alice")), &own).await.credentials();
    let child = narrowed(&broker, &own, &policy(&["sts:AssumeRole"], OPEN)).await;
    assert_eq!(assume(&broker, &child, OPEN).await, "ok");
    let child = narrowed(&broker, &own, &policy(&["sts:AssumeRole"], DIRECT)).await;
    assert_eq!(assume(&broker, &child, OPEN).await, "AccessDenied");
    // From a session of a role that was narrowed, no chain leads back to the role.
    let parent = broker.assume(&user("alice"), OPEN).await.unwrap();
    let child = narrowed(&broker, &parent, &sts()).await;
    assert_eq!(assume(&broker, &child, OPEN).await, "AccessDenied");
    let shorter = narrow(&broker, &parent, &[("DurationSeconds", "60")]).await;
    // One that was narrowed in time only would be rid of that, too.
    let shorter = shorter.credentials();
    assert_eq!(assume(&broker, &shorter, OPEN).await, "AccessDenied");
    // What it assumes ends when it does, and so does what comes from that.
    let assume_for = async |seconds: Option<i32>| {
        let request = AssumeRole {
            duration_seconds: seconds,
            ..AssumeRole::new(DIRECT, "chained")
        };
        let answer = broker.client(&shorter).assume_role(&request).await;
        answer.map_err(|error| code(&error))
    };
    let longer = assume_for(Some(900)).await.err();
    assert_eq!(longer.as_deref(), Some("InsufficientSessionLifetime"));
    let chained = assume_for(None).await.unwrap();
    let chained = Keys::from(&chained.credentials);
    broker.elapse(59);
    assert_eq!(broker.who(&chained).await, "ok");
    broker.elapse(1);
    assert_eq!(broker.who(&chained).await, "ExpiredToken");
}

#[tokio::test]
async fn az_10_a_fourth_policy_is_refused_on_both_wires_and_a_shorter_life_is_not() {
    let broker = Broker::start().await;
    let mut keys = broker.assume(&user("alice"), OPEN).await.unwrap();
    for count in ["1", "2", "3"] {
        let answer = narrow(&broker, &keys, &[("Policy", &sts())]).await;
        assert_eq!(answer.element("ScopedPoliciesCount"), Some(count));
        keys = answer.credentials();
    }
    let fourth = narrow(&broker, &keys, &[("Policy", &sts())]).await;
    assert_eq!((fourth.status, fourth.code()), (403, "AccessDenied"));
    let client = broker.client(&keys);
    let refused = client
        .get_scoped_credentials(Some(&sts()), None, None)
        .await;
    assert_eq!(code(&refused.unwrap_err()), "AccessDenied");
    let encoded = sentence(fourth.element("Message").unwrap()).1;
    let reason = broker
        .client(&user(ADMIN))
        .decode_authorization_message(encoded)
        .await
        .unwrap();
    assert!(
        reason.contains("already been narrowed by three policies"),
        "{reason}"
    );
    let shorter = narrow(&broker, &keys, &[("DurationSeconds", "60")]).await;
    assert_eq!(shorter.element("ScopedPoliciesCount"), Some("3"));
    // A chain ends in any case.
    let mut keys = shorter.credentials();
    let mut count = 0;
    let refused = loop {
        let next = narrow(&broker, &keys, &[("DurationSeconds", "60")]).await;
        if next.code() != "ok" {
            break next;
        }
        keys = next.credentials();
        count += 1;
    };
    assert_eq!((refused.code(), count), ("ValidationError", 5));
}

#[tokio::test]
async fn az_10_tk_04_narrowed_credentials_never_outlive_the_session() {
    let broker = Broker::start().await;
    let parent = broker.assume(&user("alice"), OPEN).await.unwrap();
    broker.elapse(600);
    for (seconds, expected) in [
        ("0", "ValidationError"),
        ("-1", "ValidationError"),
        ("129601", "ValidationError"),
        ("129600", "InsufficientSessionLifetime"),
        ("3001", "InsufficientSessionLifetime"),
        ("3000", "ok"),
        ("1", "ok"),
    ] {
        let answer = narrow(&broker, &parent, &[("DurationSeconds", seconds)]).await;
        assert_eq!(answer.code(), expected, "{seconds}: {}", answer.body);
        let number = seconds.parse().unwrap();
        let client = broker.client(&parent);
        let grpc = client
            .get_scoped_credentials(None, Some(number), None)
            .await;
        let grpc = grpc.map_or_else(|error| code(&error), |_| "ok".to_owned());
        assert_eq!(grpc, expected, "{seconds}");
    }
    // Without a duration, they end with the session.
    let whole = narrow(&broker, &parent, &[("Policy", &sts())]).await;
    assert_eq!(whole.element("Expiration"), Some("2026-11-24T13:00:00Z"));
    let short = narrow(&broker, &parent, &[("DurationSeconds", "60")]).await;
    assert_eq!(short.element("Expiration"), Some("2026-11-24T12:11:00Z"));
    let (whole, short) = (whole.credentials(), short.credentials());
    // What is made from the shorter ones ends with them.
    broker.elapse(10);
    let longer = narrow(&broker, &short, &[("DurationSeconds", "51")]).await;
    assert_eq!(longer.code(), "InsufficientSessionLifetime");
    let last = narrow(&broker, &short, &[("Policy", &sts())]).await;
    assert_eq!(last.element("Expiration"), Some("2026-11-24T12:11:00Z"));
    broker.elapse(49);
    for keys in [&short, &last.credentials()] {
        assert_eq!(broker.who(keys).await, "ok");
    }
    broker.elapse(1);
    for keys in [&short, &last.credentials()] {
        assert_eq!(broker.who(keys).await, "ExpiredToken");
    }
    assert_eq!(broker.who(&whole).await, "ok");
}

#[tokio::test]
async fn az_10_only_a_session_that_may_narrows_itself() {
    let broker = Broker::start().await;
    let shorter: &[(&str, &str)] = &[("DurationSeconds", "60")];
    let refused = async |keys: &Keys| {
        let answer = narrow(&broker, keys, shorter).await;
        (answer.status, answer.code().to_owned())
    };
    // Long-term credentials are no session, with or without permission.
    for who in ["alice", "bob"] {
        let answer = refused(&user(who)).await;
        assert_eq!(
            answer,
            (400, "InvalidSubjectCredentials".to_owned()),
            "{who}"
        );
        let client = broker.client(&user(who));
        let grpc = client.get_scoped_credentials(None, Some(60), None).await;
        assert_eq!(code(&grpc.unwrap_err()), "InvalidSubjectCredentials");
    }
    // Bob's own policies allow nothing, neither to him nor to a session of his.
    let own = [("Action", "GetSessionToken"), VERSION];
    let own = broker.query(Some(&user("bob")), &own).await.credentials();
    assert_eq!(refused(&own).await, (403, "AccessDenied".to_owned()));
    // A federated user without session policies may do nothing, and with some what they allow.
    for (given, expected) in [(None, 403), (Some(sts()), 200)] {
        let mut form = vec![("Action", "GetFederationToken"), VERSION, ("Name", "guest")];
        form.extend(given.as_ref().map(|policy| ("Policy", policy.as_str())));
        let guest = broker
            .query(Some(&user("alice")), &form)
            .await
            .credentials();
        assert_eq!(refused(&guest).await.0, expected);
    }
    // The token of one session with the key of another, and nobody at all.
    let one = broker.assume(&user("alice"), OPEN).await.unwrap();
    let other = broker.assume(&user("alice"), OPEN).await.unwrap();
    let mixed = Keys {
        token: other.token.clone(),
        ..one.clone()
    };
    let unknown = (403, "InvalidClientTokenId".to_owned());
    assert_eq!(refused(&mixed).await, unknown);
    let form = [NAME, VERSION, shorter[0]];
    let nobody = broker.query(None, &form).await;
    assert_eq!(nobody.code(), "MissingAuthenticationToken");
    // What the parameters must be.
    let long = "x".repeat(2_049);
    for (parameters, expected) in [
        (&[][..], "ValidationError"),
        (
            &[("ScopedSessionDescription", "what for")],
            "ValidationError",
        ),
        (&[("Policy", "{}")], "MalformedPolicyDocument"),
        (&[("Policy", "")], "ValidationError"),
        (&[("Policy", &long)], "ValidationError"),
        (
            &[shorter[0], ("MinimumSessionTokenSize", "4097")],
            "ValidationError",
        ),
        (
            &[shorter[0], ("ScopedSessionDescription", "x")],
            "ValidationError",
        ),
        (
            &[shorter[0], ("PolicyArns.member.1.arn", OPEN)],
            "ValidationError",
        ),
    ] {
        let answer = narrow(&broker, &one, parameters).await;
        assert_eq!(answer.code(), expected, "{parameters:?}: {}", answer.body);
    }
    let padded = [shorter[0], ("MinimumSessionTokenSize", "4096")];
    let padded = narrow(&broker, &one, &padded).await.credentials();
    assert!((4_096..5_000).contains(&padded.token.as_ref().unwrap().len()));
    assert_eq!(broker.who(&padded).await, "ok");
    // Three policies that do not compress are too much together.
    let noise = |n: u32| {
        let digests = (0..28u32).map(|i| {
            let bytes = [i.to_be_bytes(), n.to_be_bytes()].concat();
            format!(
                "arn:aws:s3:::{}/*",
                brevet::base::digest::hex(&brevet::base::digest::sha256(&bytes))
            )
        });
        let resources: Vec<String> = digests.take(22).collect();
        json!({"Version": "2012-10-17", "Statement": [
            {"Effect": "Allow", "Action": "sts:*", "Resource": "*"},
            {"Effect": "Allow", "Action": "s3:GetObject", "Resource": resources}]})
        .to_string()
    };
    let mut keys = one;
    let mut refusals = Vec::new();
    for n in 0..3 {
        let answer = narrow(&broker, &keys, &[("Policy", &noise(n))]).await;
        match answer.code() {
            "ok" => keys = answer.credentials(),
            _ => refusals.push(answer),
        }
    }
    let refused = refusals.first().expect("the allotment is bounded");
    assert_eq!(refused.code(), "PackedPolicyTooLarge");
    let message = refused.element("Message").unwrap();
    assert!(message.contains("from scope-down policy 1"), "{message}");
}

#[tokio::test]
async fn az_10_whatever_ends_the_session_ends_its_narrowed_credentials() {
    let broker = Broker::start_stored().await;
    let admin = user(ADMIN);
    let family = async || {
        let parent = broker.assume(&user("alice"), OPEN).await.unwrap();
        let child = narrowed(&broker, &parent, &sts()).await;
        let grandchild = narrowed(&broker, &child, &sts()).await;
        let chained = broker.assume(&grandchild, DIRECT).await.unwrap();
        [parent, child, grandchild, chained]
    };
    let state = async |keys: &[Keys]| {
        let mut all = Vec::new();
        for keys in keys {
            all.push(broker.who(keys).await == "ok");
        }
        all
    };
    // The second of the family ends with all that came from it.
    let ([one, two], other) = ([family().await, family().await], family().await);
    for (selector, family, expected) in [
        (
            Selector::AccessKeyId(one[1].id.clone()),
            &one,
            [true, false, false, false],
        ),
        (
            Selector::AccessKeyId(two[0].id.clone()),
            &two,
            [false, false, false, false],
        ),
    ] {
        assert_eq!(state(family).await, [true; 4]);
        let change = broker.revoke(&admin, selector).await.unwrap();
        broker.reaches(change).await;
        assert_eq!(state(family).await, expected);
        assert_eq!(state(&other).await, [true; 4]);
    }
    // A revocation of what was issued before some time ends what was narrowed after it.
    let parent = broker.assume(&user("alice"), OPEN).await.unwrap();
    broker.elapse(60);
    let child = narrowed(&broker, &parent, &sts()).await;
    let fresh = broker.assume(&user("alice"), OPEN).await.unwrap();
    let request = pb::RevokeSessionsRequest {
        selector: Some(Selector::RoleArn(OPEN.to_owned())),
        issued_before: Some(prost_types::Timestamp {
            seconds: now().seconds() + 30,
            nanos: 0,
        }),
        ..Default::default()
    };
    let revoked = broker.client(&admin).revoke_sessions(request).await;
    broker.reaches(revoked.unwrap().sequence_number).await;
    assert_eq!(state(&[parent, child, fresh]).await, [false, false, true]);
    // An ancestor: the key of the user with which the session was requested.
    let last = family().await;
    let change = broker
        .revoke(&admin, Selector::AccessKeyId(user("alice").id))
        .await;
    broker.reaches(change.unwrap()).await;
    assert_eq!(state(&last).await, [false; 4]);
}

#[tokio::test]
async fn az_10_an_older_session_does_not_become_a_new_one_by_narrowing() {
    let broker = Broker::start().await;
    let parent = broker.assume(&user("alice"), OPEN).await.unwrap();
    broker.elapse(600);
    // A policy that requires sessions of the last minutes refuses the parent, and the child as well.
    let with_condition = |operator: &str| {
        let when = now().plus(std::time::Duration::from_secs(300)).to_string();
        json!({"Version": "2012-10-17", "Statement": [
            {"Effect": "Allow", "Action": "sts:*", "Resource": "*",
                "Condition": {operator: {"aws:TokenIssueTime": when}}}]})
        .to_string()
    };
    for (operator, expected) in [("DateGreaterThan", "AccessDenied"), ("DateLessThan", "ok")] {
        let child = narrowed(&broker, &parent, &with_condition(operator)).await;
        assert_eq!(
            assume(&broker, &child, DIRECT).await,
            expected,
            "{operator}"
        );
    }
}

#[tokio::test]
async fn narrowed_credentials_are_listed_with_what_they_came_from() {
    let broker = Broker::start().await;
    let parent = broker.assume(&user("alice"), OPEN).await.unwrap();
    broker.elapse(30);
    let form = [
        ("Policy", sts()),
        ("ScopedSessionDescription", "reads invoices é".to_owned()),
    ];
    let form: Vec<(&str, &str)> = form.iter().map(|(n, v)| (*n, v.as_str())).collect();
    let child = narrow(&broker, &parent, &form).await.credentials();
    let listed = broker
        .client(&user(ADMIN))
        .list_sessions(pb::ListSessionsRequest::default())
        .await
        .unwrap()
        .sessions;
    let found = |keys: &Keys| {
        let mut sessions = listed.iter();
        sessions
            .find(|s| s.access_key_id == keys.id)
            .unwrap()
            .clone()
    };
    let (parent, child) = (found(&parent), found(&child));
    assert_eq!(parent.made_by, "AssumeRole");
    assert!(parent.narrowing.is_none());
    assert_eq!(child.made_by, "GetScopedCredentials");
    assert_eq!(
        (&child.arn, &child.role_arn),
        (&parent.arn, &parent.role_arn)
    );
    assert_eq!(child.issued_at, parent.issued_at);
    assert_eq!(child.assumed_by_access_key_id, parent.access_key_id);
    let alice = "arn:aws:iam::111122223333:user/alice";
    assert_eq!(child.came_from, [alice, SESSION]);
    let narrowing = child.narrowing.unwrap();
    assert_eq!(narrowing.description, "reads invoices é");
    let at = narrowing.narrowed_at.unwrap().seconds;
    assert_eq!(at, now().seconds() + 30);
    let client = broker.client(&user(ADMIN));
    let shown = client.describe_session(&child.session_id).await.unwrap();
    assert_eq!(shown.access_key_id, child.access_key_id);
}

#[tokio::test]
async fn a_refusal_names_the_policy_that_refused() {
    let broker = Broker::start().await;
    let parent = broker.assume(&user("alice"), OPEN).await.unwrap();
    let first = narrowed(&broker, &parent, &sts()).await;
    let not_direct = json!({"Version": "2012-10-17", "Statement": [
        {"Effect": "Allow", "Action": "*", "Resource": "*"},
        {"Sid": "NotThere", "Effect": "Deny", "Action": "sts:AssumeRole", "Resource": DIRECT}]});
    let silent = narrowed(&broker, &first, &policy(&["s3:*"], "*")).await;
    let denying = narrowed(&broker, &first, &not_direct.to_string()).await;
    for (keys, is_explicit, summary) in [
        (
            &silent,
            false,
            "Scope-down policy 2 of the session does not allow the request.",
        ),
        (
            &denying,
            true,
            "Statement[1] (NotThere) of the caller's scope-down policy 2 denies the request.",
        ),
    ] {
        let request = AssumeRole::new(DIRECT, "helper");
        let refused = broker.client(keys).assume_role(&request).await;
        let Err(ClientError::Refused { message, .. }) = refused else {
            panic!("{refused:?}");
        };
        let decoded = broker
            .client(&user(ADMIN))
            .decode_authorization_message(sentence(&message).1)
            .await
            .unwrap();
        let decoded: Value = serde_json::from_str(&decoded).unwrap();
        assert_eq!(decoded["explanation"]["summary"], summary);
        assert_eq!(decoded["explicitDeny"], is_explicit);
        let statements = decoded["explanation"]["statements"].as_array().unwrap();
        let numbers: Vec<u64> = statements
            .iter()
            .filter(|s| s["policy"] == "scope-down policy")
            .map(|s| s["policyNumber"].as_u64().unwrap())
            .collect();
        assert_eq!(numbers.first(), Some(&0));
        assert_eq!(numbers.last(), Some(&1));
    }
    let audit = broker.into_audit().await;
    let mut refusals = audit
        .iter()
        .filter(|record| record["errorCode"] == "AccessDenied");
    let said = |record: Option<&Value>| record.unwrap()["additionalEventData"].clone();
    let silent = said(refusals.next());
    assert_eq!(
        silent["reason"],
        "Scope-down policy 2 of the session does not allow the request."
    );
    let denying = said(refusals.next());
    assert_eq!(denying["deniedBy"], "scope-down policy");
    assert_eq!(denying["policyNumber"], 2);
    assert_eq!(denying["statement"], 1);
}

#[tokio::test]
async fn both_wires_answer_and_record_the_same() {
    let broker = Broker::start().await;
    let parent = broker.assume(&user("alice"), OPEN).await.unwrap();
    let (policy, description) = (sts(), "the nightly report");
    let form = [
        ("Policy", policy.as_str()),
        ("DurationSeconds", "900"),
        ("ScopedSessionDescription", description),
    ];
    let query = narrow(&broker, &parent, &form).await;
    let client = broker.client(&parent);
    let grpc = client
        .get_scoped_credentials(Some(&policy), Some(900), Some(description))
        .await;
    let grpc = Keys::from(&grpc.unwrap());
    assert_eq!(broker.who(&query.credentials()).await, "ok");
    assert_eq!(broker.who(&grpc).await, "ok");
    let audit = broker.into_audit().await;
    let records: Vec<&Value> = audit
        .iter()
        .filter(|record| record["eventName"] == "GetScopedCredentials")
        .collect();
    let [one, two] = records.as_slice() else {
        panic!("{} records", records.len());
    };
    let comparable = |record: &Value| {
        let mut record = record.clone();
        for field in ["requestID", "eventID", "userAgent", "tokenLeaf", "chain"] {
            record.as_object_mut().unwrap().remove(field);
        }
        let credentials = record.pointer_mut("/responseElements/credentials").unwrap();
        credentials.as_object_mut().unwrap().remove("accessKeyId");
        record
    };
    assert_eq!(comparable(one), comparable(two));
    assert_eq!(one["userIdentity"]["accessKeyId"], parent.id.as_str());
    let asked = &one["requestParameters"];
    assert_eq!(asked["scopedSessionDescription"], description);
    assert_eq!(asked["durationSeconds"], 900);
    assert!(asked["policy"].is_object() || asked["policy"].is_string());
    let answered = &one["responseElements"];
    assert_eq!(answered["sessionInfo"]["arn"], SESSION);
    assert_eq!(answered["scopedPoliciesCount"], 1);
}
