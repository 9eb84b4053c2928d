//! Who may act as what.

use brevet::client::AssumeRole;

use crate::harness::*;

#[tokio::test]
async fn who_may_assume_which_role() {
    let broker = Broker::start().await;
    let chained = broker.assume(&user("alice"), OPEN).await.unwrap();
    for (who, role, allowed) in [
        // The account is named: the principal's own policy must allow too.
        (user("alice"), OPEN, true),
        (user("bob"), OPEN, false),
        // The principal is named: that is enough, but for an explicit deny of its own.
        (user("bob"), DIRECT, true),
        (user("bounded"), DIRECT, true),
        (user("denied"), DIRECT, false),
        (user("alice"), DIRECT, false),
        (user("bounded"), OPEN, false),
        (user("alice"), CLOSED, false),
        // Another account needs both sides, and here an external id.
        (user("carol"), PARTNER, false),
        (user("carol"), OPEN, false),
        // A session of a named role.
        (chained, DIRECT, true),
    ] {
        let got = broker.assume(&who, role).await;
        assert_eq!(got.is_ok(), allowed, "{} {role}: {:?}", who.id, got.err());
    }
}

#[tokio::test]
async fn az_06_an_external_id_is_compared_literally() {
    let broker = Broker::start().await;
    let ask = async |id: Option<&str>| {
        let request = AssumeRole { external_id: id.map(str::to_owned), ..AssumeRole::new(PARTNER, "session") };
        broker.client(&user("carol")).assume_role(&request).await.is_ok()
    };
    assert!(ask(Some("Customer-42")).await);
    for bad in [None, Some("customer-42"), Some("Customer-4"), Some("Customer-421"), Some("Customer-4?")] {
        assert!(!ask(bad).await, "{bad:?}");
    }
    // Wildcards are no characters of an external id, and two ids are none.
    assert!(!ask(Some("Customer-*")).await);
    let twice = [
        ("Action", "AssumeRole"),
        VERSION,
        ("RoleArn", PARTNER),
        ("RoleSessionName", "session"),
        ("ExternalId", "Customer-42"),
    ];
    assert_eq!(broker.query(Some(&user("carol")), &twice).await.code(), "ok");
    let twice = [&twice[..], &[("ExternalId", "other")]].concat();
    assert_eq!(broker.query(Some(&user("carol")), &twice).await.code(), "ValidationError");
}

#[tokio::test]
async fn az_02_every_combination_of_policies_agrees_with_the_model() {
    // Allow, deny or silence, in identity, boundary, session policy and trust: 81 worlds, each the
    // caller's session asking for a role that names the caller's role.
    const EFFECTS: [Option<&str>; 3] = [Some("Allow"), Some("Deny"), None];
    let policy = |effect: Option<&str>| match effect {
        Some(effect) => {
            serde_json::json!({"Statement": {"Effect": effect, "Action": "sts:AssumeRole", "Resource": "*"}})
        }
        None => serde_json::json!({"Statement": {"Effect": "Allow", "Action": "s3:GetObject", "Resource": "*"}}),
    };
    let mut directory: serde_json::Value = serde_json::from_str(DIRECTORY).unwrap();
    let mut worlds = Vec::new();
    for identity in EFFECTS {
        for boundary in EFFECTS {
            for trust in EFFECTS {
                let n = worlds.len();
                let arn = |kind: &str, name: &str| format!("arn:aws:iam::111122223333:{kind}/{name}{n}");
                directory["Policies"].as_array_mut().unwrap().push(serde_json::json!({
                    "PolicyName": format!("B{n}"), "Arn": arn("policy", "B"),
                    "PolicyVersionList": [{"VersionId": "v1", "IsDefaultVersion": true, "Document": policy(boundary)}]}));
                let trusts = |principal: &str, effect: &str, action: &str| serde_json::json!({"Statement": {"Effect": effect, "Principal": {"AWS": principal}, "Action": action}});
                let target = trusts(
                    &arn("role", "Caller"),
                    trust.unwrap_or("Allow"),
                    if trust.is_some() { "sts:AssumeRole" } else { "sts:TagSession" },
                );
                for (name, document, extra) in [
                    ("Caller", trusts("arn:aws:iam::111122223333:user/alice", "Allow", "sts:AssumeRole"), true),
                    ("Target", target, false),
                ] {
                    let mut role = serde_json::json!({"RoleName": format!("{name}{n}"), "RoleId": format!("AROA{}{n:08}", &name.to_uppercase()),
                        "Arn": arn("role", name), "AssumeRolePolicyDocument": document});
                    if extra {
                        role["RolePolicyList"] =
                            serde_json::json!([{"PolicyName": "p", "PolicyDocument": policy(identity)}]);
                        role["PermissionsBoundary"] = serde_json::json!({"PermissionsBoundaryArn": arn("policy", "B")});
                    }
                    directory["RoleDetailList"].as_array_mut().unwrap().push(role);
                }
                worlds.push((identity, boundary, trust));
            }
        }
    }
    let home = home();
    brevet::files::write_private(&home.path().join("directory.json"), directory.to_string().as_bytes()).unwrap();
    let broker = Broker::start_in(home, |_| {}).await;
    for (n, (identity, boundary, trust)) in worlds.iter().enumerate() {
        for session in EFFECTS {
            let arn = |name: &str| format!("arn:aws:iam::111122223333:role/{name}{n}");
            let request =
                AssumeRole { policy: Some(policy(session).to_string()), ..AssumeRole::new(&arn("Caller"), "session") };
            let caller = broker.client(&user("alice")).assume_role(&request).await.unwrap();
            let got = broker.assume(&Keys::from(&caller.credentials), &arn("Target")).await;
            let all = [*identity, *boundary, *trust, session];
            // A grant to the role's ARN stands within boundary and session policy, and needs no identity policy.
            let expected =
                !all.contains(&Some("Deny")) && [*boundary, *trust, session].iter().all(|e| *e == Some("Allow"));
            assert_eq!(got.is_ok(), expected, "identity, boundary, trust, session: {all:?}");
        }
    }
}

#[tokio::test]
async fn az_03_a_session_policy_only_narrows() {
    let broker = Broker::start().await;
    let alice = user("alice");
    let wide = r#"{"Statement":{"Effect":"Allow","Action":"*","Resource":"*"}}"#;
    let narrow = r#"{"Statement":{"Effect":"Allow","Action":"s3:GetObject","Resource":"*"}}"#;
    let as_role = async |role: &str, policy: Option<&str>, arns: &[&str]| {
        let request = AssumeRole {
            policy: policy.map(str::to_owned),
            policy_arns: arns.iter().map(|a| (*a).to_owned()).collect(),
            ..AssumeRole::new(role, "session")
        };
        broker
            .client(&alice)
            .assume_role(&request)
            .await
            .map(|r| (Keys::from(&r.credentials), r.packed_policy_size))
            .map_err(|e| code(&e))
    };
    // GetAccessKeyInfo stands for anything that needs a permission.
    let may = async |keys: &Keys| broker.client(keys).get_access_key_info(&alice.id).await.is_ok();
    let sts = "arn:aws:iam::111122223333:policy/Sts";
    let no_sts = "arn:aws:iam::111122223333:policy/NoSts";
    assert!(may(&as_role(OPEN, None, &[]).await.unwrap().0).await);
    assert!(may(&as_role(OPEN, Some(wide), &[]).await.unwrap().0).await);
    assert!(!may(&as_role(OPEN, Some(narrow), &[]).await.unwrap().0).await);
    assert!(may(&as_role(OPEN, None, &[sts]).await.unwrap().0).await);
    assert!(!may(&as_role(OPEN, None, &[no_sts]).await.unwrap().0).await);
    // Session policies act as one document.
    let (both, packed) = as_role(OPEN, Some(narrow), &[sts]).await.unwrap();
    assert!(may(&both).await && packed > 0);
    // A policy wider than the role gives nothing that the role has not: bob's role has no policy at all.
    let direct = AssumeRole { policy: Some(wide.to_owned()), ..AssumeRole::new(DIRECT, "session") };
    let direct = broker.client(&user("bob")).assume_role(&direct).await.unwrap();
    assert!(!may(&Keys::from(&direct.credentials)).await);

    let sized = |n: usize| {
        let bare = r#"{"Statement":[{"Sid":"","Effect":"Allow","Action":"s3:Get","Resource":"*"}]}"#;
        bare.replace(r#""Sid":"""#, &format!(r#""Sid":"{}""#, "a".repeat(n - bare.len())))
    };
    assert!(as_role(OPEN, Some(&sized(2_048)), &[]).await.is_ok());
    assert_eq!(as_role(OPEN, Some(&sized(2_049)), &[]).await.err().unwrap(), "MalformedPolicyDocument");
    assert_eq!(as_role(OPEN, Some(""), &[]).await.err().unwrap(), "ValidationError");
    assert_eq!(as_role(OPEN, Some("{}"), &[]).await.err().unwrap(), "MalformedPolicyDocument");
    assert_eq!(
        as_role(OPEN, None, &["arn:aws:iam::111122223333:policy/Missing"]).await.err().unwrap(),
        "ValidationError"
    );
    assert_eq!(as_role(OPEN, None, &[sts; 11]).await.err().unwrap(), "ValidationError");
}

#[tokio::test]
async fn chaining_is_an_hour_and_keeps_source_identity_and_transitive_tags() {
    let broker = Broker::start().await;
    let first = AssumeRole {
        source_identity: Some("alice@corp".into()),
        tags: vec![("Team".into(), "red".into()), ("once".into(), "x".into())],
        transitive_tag_keys: vec!["team".into()],
        ..AssumeRole::new(OPEN, "first")
    };
    let session = Keys::from(&broker.client(&user("alice")).assume_role(&first).await.unwrap().credentials);
    let client = broker.client(&session);
    let again = |seconds, identity: Option<&str>, tags: &[(&str, &str)]| AssumeRole {
        duration_seconds: Some(seconds),
        source_identity: identity.map(str::to_owned),
        tags: tags.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect(),
        ..AssumeRole::new(OPEN, "second")
    };
    assert_eq!(client.assume_role(&again(3_600, None, &[])).await.unwrap().source_identity, "alice@corp");
    assert!(client.assume_role(&again(3_600, Some("alice@corp"), &[])).await.is_ok());
    for (request, expected) in [
        (again(3_601, None, &[]), "ValidationError"),
        (again(3_600, Some("mallory"), &[]), "AccessDenied"),
        (again(3_600, None, &[("TEAM", "blue")]), "ValidationError"),
    ] {
        assert_eq!(code(&client.assume_role(&request).await.unwrap_err()), expected);
    }
    assert!(
        client.assume_role(&again(3_600, None, &[("once", "y")])).await.is_ok(),
        "not transitive, so not inherited"
    );
}

#[tokio::test]
async fn a_code_that_cannot_be_checked_is_refused() {
    let broker = Broker::start().await;
    let form = [
        ("Action", "AssumeRole"),
        VERSION,
        ("RoleArn", OPEN),
        ("RoleSessionName", "session"),
        ("SerialNumber", "arn:aws:iam::111122223333:mfa/alice"),
        ("TokenCode", "123456"),
    ];
    assert_eq!(broker.query(Some(&user("alice")), &form).await.code(), "AccessDenied");
    assert_eq!(broker.query(Some(&user("alice")), &form[..4]).await.code(), "ok");
}
