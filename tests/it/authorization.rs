//! Which principals may assume which roles.

use std::num::NonZeroU32;
use std::time::Duration;

use brevet::budgets::BudgetLimits;
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
        let request = AssumeRole {
            external_id: id.map(str::to_owned),
            ..AssumeRole::new(PARTNER, "session")
        };
        broker
            .client(&user("carol"))
            .assume_role(&request)
            .await
            .is_ok()
    };
    assert!(ask(Some("Customer-42")).await);
    for bad in [
        None,
        Some("customer-42"),
        Some("Customer-4"),
        Some("Customer-421"),
        Some("Customer-4?"),
    ] {
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
    assert_eq!(
        broker.query(Some(&user("carol")), &twice).await.code(),
        "ok"
    );
    let twice = [&twice[..], &[("ExternalId", "other")]].concat();
    assert_eq!(
        broker.query(Some(&user("carol")), &twice).await.code(),
        "ValidationError"
    );
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
        None => {
            serde_json::json!({"Statement": {"Effect": "Allow", "Action": "s3:GetObject", "Resource": "*"}})
        }
    };
    let mut directory: serde_json::Value = serde_json::from_str(DIRECTORY).unwrap();
    let mut worlds = Vec::new();
    for identity in EFFECTS {
        for boundary in EFFECTS {
            for trust in EFFECTS {
                let n = worlds.len();
                let arn =
                    |kind: &str, name: &str| format!("arn:aws:iam::111122223333:{kind}/{name}{n}");
                directory["Policies"].as_array_mut().unwrap().push(serde_json::json!({
                    "PolicyName": format!("B{n}"), "Arn": arn("policy", "B"),
                    "PolicyVersionList": [{"VersionId": "v1", "IsDefaultVersion": true, "Document": policy(boundary)}]}));
                let trusts = |principal: &str, effect: &str, action: &str| serde_json::json!({"Statement": {"Effect": effect, "Principal": {"AWS": principal}, "Action": action}});
                let target = trusts(
                    &arn("role", "Caller"),
                    trust.unwrap_or("Allow"),
                    if trust.is_some() {
                        "sts:AssumeRole"
                    } else {
                        "sts:TagSession"
                    },
                );
                for (name, document, extra) in [
                    (
                        "Caller",
                        trusts(
                            "arn:aws:iam::111122223333:user/alice",
                            "Allow",
                            "sts:AssumeRole",
                        ),
                        true,
                    ),
                    ("Target", target, false),
                ] {
                    let mut role = serde_json::json!({"RoleName": format!("{name}{n}"), "RoleId": format!("AROA{}{n:08}", &name.to_uppercase()),
                        "Arn": arn("role", name), "AssumeRolePolicyDocument": document});
                    if extra {
                        role["RolePolicyList"] = serde_json::json!([{"PolicyName": "p", "PolicyDocument": policy(identity)}]);
                        role["PermissionsBoundary"] =
                            serde_json::json!({"PermissionsBoundaryArn": arn("policy", "B")});
                    }
                    directory["RoleDetailList"]
                        .as_array_mut()
                        .unwrap()
                        .push(role);
                }
                worlds.push((identity, boundary, trust));
            }
        }
    }
    let home = home();
    brevet::files::write_private(
        &home.path().join("directory.json"),
        directory.to_string().as_bytes(),
    )
    .unwrap();
    let broker = Broker::start_in(home, |_| {}).await;
    for (n, (identity, boundary, trust)) in worlds.iter().enumerate() {
        for session in EFFECTS {
            let arn = |name: &str| format!("arn:aws:iam::111122223333:role/{name}{n}");
            let request = AssumeRole {
                policy: Some(policy(session).to_string()),
                ..AssumeRole::new(&arn("Caller"), "session")
            };
            let caller = broker
                .client(&user("alice"))
                .assume_role(&request)
                .await
                .unwrap();
            let got = broker
                .assume(&Keys::from(&caller.credentials), &arn("Target"))
                .await;
            let all = [*identity, *boundary, *trust, session];
            // A grant to the role's ARN stands within boundary and session policy, and needs no identity policy.
            let expected = !all.contains(&Some("Deny"))
                && [*boundary, *trust, session]
                    .iter()
                    .all(|e| *e == Some("Allow"));
            assert_eq!(
                got.is_ok(),
                expected,
                "identity, boundary, trust, session: {all:?}"
            );
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
    let may = async |keys: &Keys| {
        broker
            .client(keys)
            .get_access_key_info(&alice.id)
            .await
            .is_ok()
    };
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
    let direct = AssumeRole {
        policy: Some(wide.to_owned()),
        ..AssumeRole::new(DIRECT, "session")
    };
    let direct = broker
        .client(&user("bob"))
        .assume_role(&direct)
        .await
        .unwrap();
    assert!(!may(&Keys::from(&direct.credentials)).await);

    let sized = |n: usize| {
        let bare =
            r#"{"Statement":[{"Sid":"","Effect":"Allow","Action":"s3:Get","Resource":"*"}]}"#;
        bare.replace(
            r#""Sid":"""#,
            &format!(r#""Sid":"{}""#, "a".repeat(n - bare.len())),
        )
    };
    assert!(as_role(OPEN, Some(&sized(2_048)), &[]).await.is_ok());
    assert_eq!(
        as_role(OPEN, Some(&sized(2_049)), &[]).await.err().unwrap(),
        "ValidationError"
    );
    assert_eq!(
        as_role(OPEN, Some(""), &[]).await.err().unwrap(),
        "ValidationError"
    );
    assert_eq!(
        as_role(OPEN, Some("{}"), &[]).await.err().unwrap(),
        "MalformedPolicyDocument"
    );
    assert_eq!(
        as_role(OPEN, None, &["arn:aws:iam::111122223333:policy/Missing"])
            .await
            .err()
            .unwrap(),
        "ValidationError"
    );
    assert_eq!(
        as_role(OPEN, None, &[sts; 11]).await.err().unwrap(),
        "ValidationError"
    );
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
    let session = Keys::from(
        &broker
            .client(&user("alice"))
            .assume_role(&first)
            .await
            .unwrap()
            .credentials,
    );
    let client = broker.client(&session);
    let again = |seconds, identity: Option<&str>, tags: &[(&str, &str)]| AssumeRole {
        duration_seconds: Some(seconds),
        source_identity: identity.map(str::to_owned),
        tags: tags
            .iter()
            .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
            .collect(),
        ..AssumeRole::new(OPEN, "second")
    };
    assert_eq!(
        client
            .assume_role(&again(3_600, None, &[]))
            .await
            .unwrap()
            .source_identity,
        "alice@corp"
    );
    assert!(
        client
            .assume_role(&again(3_600, Some("alice@corp"), &[]))
            .await
            .is_ok()
    );
    for (request, expected) in [
        (again(3_601, None, &[]), "ValidationError"),
        (again(3_600, Some("mallory"), &[]), "AccessDenied"),
        (again(3_600, None, &[("TEAM", "blue")]), "ValidationError"),
    ] {
        assert_eq!(
            code(&client.assume_role(&request).await.unwrap_err()),
            expected
        );
    }
    assert!(
        client
            .assume_role(&again(3_600, None, &[("once", "y")]))
            .await
            .is_ok(),
        "not transitive, so not inherited"
    );
}

async fn federate(broker: &Broker, keys: &Keys, more: &[(&str, &str)]) -> Result<Keys, String> {
    let form = [
        &[("Action", "GetFederationToken"), VERSION, ("Name", "guest")][..],
        more,
    ]
    .concat();
    let answer = broker.query(Some(keys), &form).await;
    if answer.status != 200 {
        return Err(answer.code().to_owned());
    }
    let text = |name: &str| answer.element(name).unwrap().to_owned();
    assert_eq!(text("FederatedUserId"), "111122223333:guest");
    Ok(answer.credentials())
}

#[tokio::test]
async fn a_federated_user_has_what_both_sides_leave_and_nothing_by_default() {
    let broker = Broker::start().await;
    let alice = user("alice");
    let wide = r#"{"Statement":{"Effect":"Allow","Action":"*","Resource":"*"}}"#;
    for more in [
        &[][..],
        &[("Policy", wide)],
        &[(
            "PolicyArns.member.1.arn",
            "arn:aws:iam::111122223333:policy/Sts",
        )],
    ] {
        let guest = federate(&broker, &alice, more).await.unwrap();
        let identity = broker.client(&guest).get_caller_identity().await.unwrap();
        assert_eq!(
            identity.arn,
            "arn:aws:sts::111122223333:federated-user/guest"
        );
        assert_eq!(identity.user_id, "111122223333:guest");
        // Whatever its policies say, in STS it reaches GetCallerIdentity alone.
        assert_eq!(
            broker.assume(&guest, OPEN).await.unwrap_err(),
            "AccessDenied"
        );
        assert!(
            broker
                .client(&guest)
                .get_access_key_info(&alice.id)
                .await
                .is_err()
        );
        assert_eq!(
            federate(&broker, &guest, &[]).await.unwrap_err(),
            "AccessDenied"
        );
    }
    for (keys, more, expected) in [
        (user("bob"), &[][..], "AccessDenied"),
        (
            broker.assume(&alice, OPEN).await.unwrap(),
            &[],
            "AccessDenied",
        ),
        (
            alice.clone(),
            &[("DurationSeconds", "899")],
            "ValidationError",
        ),
        (
            alice.clone(),
            &[("DurationSeconds", "129601")],
            "ValidationError",
        ),
        (
            alice.clone(),
            &[("Policy", "{}")],
            "MalformedPolicyDocument",
        ),
        (
            alice.clone(),
            &[(
                "PolicyArns.member.1.arn",
                "arn:aws:iam::444455556666:policy/Sts",
            )],
            "ValidationError",
        ),
        (
            alice.clone(),
            &[("Tags.member.1.Key", "aws:x"), ("Tags.member.1.Value", "y")],
            "ValidationError",
        ),
    ] {
        assert_eq!(
            federate(&broker, &keys, more).await.err().as_deref(),
            Some(expected),
            "{more:?}"
        );
    }
    assert!(
        federate(&broker, &alice, &[("DurationSeconds", "129600")])
            .await
            .is_ok()
    );
}

#[tokio::test]
async fn az_03_a_session_whose_managed_policy_is_gone_may_do_nothing() {
    const EXTRA: &str = "arn:aws:iam::111122223333:policy/Extra";
    let broker = Broker::start_in(stored_home().await, in_the_store).await;
    let hand = broker.hand().await;
    let document = serde_json::json!({"Version": "2012-10-17", "Statement":
        [{"Effect": "Deny", "Action": "s3:*", "Resource": "*"}]});
    let declared = serde_json::json!({"Policies": [{"PolicyName": "Extra", "Arn": EXTRA, "DefaultVersionId": "v1",
        "PolicyVersionList": [{"Document": document, "VersionId": "v1", "IsDefaultVersion": true}]}]});
    let number = hand.import(&declared).await.unwrap();
    broker.reaches(number).await;

    let policy_arns = vec![
        "arn:aws:iam::111122223333:policy/Sts".to_owned(),
        EXTRA.to_owned(),
    ];
    let request = AssumeRole {
        policy_arns,
        ..AssumeRole::new(OPEN, "cut")
    };
    let cut = Keys::from(
        &broker
            .client(&user("alice"))
            .assume_role(&request)
            .await
            .unwrap()
            .credentials,
    );
    assert!(broker.assume(&cut, DIRECT).await.is_ok());

    let name = brevet::directory::resource::Name::new(
        brevet::directory::resource::ResourceKind::Policy,
        EXTRA,
    );
    let number = hand
        .run(brevet::commands::Command::Delete {
            name,
            expected: None,
        })
        .await
        .unwrap();
    broker.reaches(number).await;
    assert_eq!(
        broker.assume(&cut, DIRECT).await.unwrap_err(),
        "AccessDenied"
    );
}

#[tokio::test]
async fn az_04_a_restricted_session_does_not_shed_its_policy() {
    let home = stored_home().await;
    let broker = Broker::start_in(home, in_the_store).await;
    let hand = broker.hand().await;
    // The trust policy names the session itself, which session policies do not limit by themselves.
    let trust = r#"{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":{"AWS":["111122223333","arn:aws:sts::111122223333:assumed-role/Open/cut"]},"Action":"sts:AssumeRole"}]}"#;
    for role in [OPEN, DIRECT] {
        let edit = brevet::commands::Edit::UpdateAssumeRolePolicy(trust.into());
        let number = hand
            .edit(brevet::directory::resource::ResourceKind::Role, role, edit)
            .await
            .unwrap();
        broker.reaches(number).await;
    }
    let cut = async |policy: &str| {
        let request = AssumeRole {
            policy: Some(policy.to_owned()),
            ..AssumeRole::new(OPEN, "cut")
        };
        Keys::from(
            &broker
                .client(&user("alice"))
                .assume_role(&request)
                .await
                .unwrap()
                .credentials,
        )
    };
    let reads = cut(r#"{"Statement":{"Effect":"Allow","Action":"s3:Get*","Resource":"*"}}"#).await;
    let chains = cut(r#"{"Statement":{"Effect":"Allow","Action":"sts:*","Resource":"*"}}"#).await;
    // What its policy does not name it does not reach; what it names it reaches, but never itself again.
    for (keys, role, allowed) in [
        (&reads, OPEN, false),
        (&reads, DIRECT, false),
        (&chains, OPEN, false),
        (&chains, DIRECT, true),
    ] {
        assert_eq!(broker.assume(keys, role).await.is_ok(), allowed, "{role}");
    }
    // Nor by way of another role.
    let through = broker.assume(&chains, DIRECT).await.unwrap();
    assert_eq!(
        broker.assume(&through, OPEN).await.unwrap_err(),
        "AccessDenied"
    );
    // Keys, children and policies.
    for (action, wanted) in [
        ("CreateAccessKey", &[("UserName", "alice")][..]),
        (
            "PutRolePolicy",
            &[
                ("RoleName", "Open"),
                ("PolicyName", "all"),
                ("PolicyDocument", "{}"),
            ],
        ),
        ("CreateUser", &[("UserName", "mallory")]),
        ("CreateVirtualMFADevice", &[("VirtualMFADeviceName", "x")]),
    ] {
        let refused = code(&broker.client(&reads).iam(action, wanted).await.unwrap_err());
        assert_eq!(refused, "AccessDenied", "{action}");
    }
    for own in ["GetSessionToken", "GetFederationToken"] {
        let form = [("Action", own), VERSION, ("Name", "guest")];
        let form = if own == "GetSessionToken" {
            &form[..2]
        } else {
            &form[..]
        };
        assert_eq!(
            broker.query(Some(&chains), form).await.code(),
            "AccessDenied"
        );
    }
}

#[tokio::test]
async fn az_05_a_chain_is_an_hour_keeps_its_source_and_proves_nothing_anew() {
    let broker = Broker::start().await;
    let alice = user("alice");
    let own = [
        ("Action", "GetSessionToken"),
        VERSION,
        ("DurationSeconds", "129600"),
    ];
    let answer = broker.query(Some(&alice), &own).await;
    let own = answer.credentials();
    let ask = async |keys: &Keys, seconds: i32| {
        let request = AssumeRole {
            duration_seconds: Some(seconds),
            ..AssumeRole::new(OPEN, "session")
        };
        broker
            .client(keys)
            .assume_role(&request)
            .await
            .map(|r| Keys::from(&r.credentials))
            .map_err(|e| code(&e))
    };
    // Any temporary credential is an hour's, a user's own session too.
    let first = ask(&own, 3_600).await.unwrap();
    for keys in [&own, &first] {
        assert_eq!(
            ask(keys, 3_601).await.err().as_deref(),
            Some("ValidationError")
        );
        for action in ["GetSessionToken", "GetFederationToken"] {
            let form = [("Action", action), VERSION, ("Name", "guest")];
            let form = if action == "GetSessionToken" {
                &form[..2]
            } else {
                &form[..]
            };
            let answer = broker.query(Some(keys), form).await;
            let sentence = format!("Cannot call {action} with session credentials");
            assert_eq!(
                (answer.code(), answer.element("Message")),
                ("AccessDenied", Some(&*sentence))
            );
        }
    }
    assert!(ask(&alice, 129_600).await.is_ok());
}

#[tokio::test]
async fn az_08_nothing_that_a_caller_says_passes_for_what_the_broker_knows() {
    let broker = Broker::start().await;
    let alice = user("alice");
    for key in [
        "aws:userid",
        "AWS:MultiFactorAuthPresent",
        "aws:PrincipalArn",
    ] {
        let request = AssumeRole {
            tags: vec![(key.into(), "true".into())],
            ..AssumeRole::new(OPEN, "session")
        };
        assert_eq!(
            code(
                &broker
                    .client(&alice)
                    .assume_role(&request)
                    .await
                    .unwrap_err()
            ),
            "ValidationError"
        );
    }
    // Tags that are called like keys of other families are tags, and no more.
    let tags = vec![
        ("sts:ExternalId".into(), "Customer-42".into()),
        ("MultiFactorAuthPresent".into(), "true".into()),
    ];
    let request = AssumeRole {
        tags,
        ..AssumeRole::new(PARTNER, "session")
    };
    assert_eq!(
        code(
            &broker
                .client(&user("carol"))
                .assume_role(&request)
                .await
                .unwrap_err()
        ),
        "AccessDenied"
    );
    // The peer's address counts, whatever a header says; and a role is its account's.
    let body = encode(&[
        ("Action", "AssumeRole"),
        VERSION,
        ("RoleArn", CLOSED),
        ("RoleSessionName", "session"),
    ]);
    let mut headers = form_headers();
    for name in [
        "x-forwarded-for",
        "x-real-ip",
        "forwarded",
        "aws-userid",
        "sts-externalid",
    ] {
        headers.insert(
            http::HeaderName::from_static(name),
            http::HeaderValue::from_static("10.9.8.7"),
        );
    }
    broker.sign("/", &alice, &mut headers, body.as_bytes());
    let refused = broker.send("POST", "/", headers, body.into_bytes()).await;
    let (_, encoded) = sentence(refused.element("Message").unwrap());
    let why = broker
        .client(&user(ADMIN))
        .decode_authorization_message(encoded)
        .await
        .unwrap();
    assert!(
        why.contains("127.0.0.1") && !why.contains("10.9.8.7"),
        "{why}"
    );
    assert_eq!(
        broker
            .assume(&alice, &OPEN.replace("111122223333", "444455556666"))
            .await
            .unwrap_err(),
        "AccessDenied"
    );
}

#[tokio::test]
async fn a_refusal_is_explained_to_those_who_may_know() {
    let broker = Broker::start().await;
    let refusal = async |who: &str, role: &str, id: Option<&str>| {
        let request = AssumeRole {
            external_id: id.map(str::to_owned),
            ..AssumeRole::new(role, "session")
        };
        match broker
            .client(&user(who))
            .assume_role(&request)
            .await
            .unwrap_err()
        {
            brevet::client::ClientError::Refused { message, .. } => sentence(&message).1.to_owned(),
            other => panic!("{other}"),
        }
    };
    let decode = async |who: &str, text: &str| {
        let decoded = broker
            .client(&user(who))
            .decode_authorization_message(text)
            .await
            .map_err(|e| code(&e));
        decoded.map(|json| serde_json::from_str::<serde_json::Value>(&json).unwrap())
    };
    let near = refusal("carol", PARTNER, Some("customer-42")).await;
    // The role's account sees its trust policy, the caller's sees the caller's; neither sees both.
    let of_role = decode(ADMIN, &near).await.unwrap();
    let condition = &of_role["explanation"]["statements"][0]["conditions"][0];
    assert_eq!(condition["key"], "sts:externalid");
    assert_eq!(
        (&condition["wanted"][0], &condition["got"][0]),
        (&"Customer-42".into(), &"customer-42".into())
    );
    assert_eq!(condition["nearMiss"], "differs only in case");
    assert!(
        of_role["explanation"]["summary"]
            .as_str()
            .unwrap()
            .contains("differs only in case")
    );
    let of_caller = decode("other-admin", &near).await.unwrap();
    let kinds = |value: &serde_json::Value| -> Vec<String> {
        let list = value["explanation"]["statements"].as_array().unwrap();
        list.iter()
            .map(|s| s["policy"].as_str().unwrap().to_owned())
            .collect()
    };
    assert_eq!(
        (kinds(&of_role), kinds(&of_caller)),
        (vec!["trust policy".into()], vec!["identity policy".into()])
    );
    assert_eq!(
        (&of_role["allowed"], &of_role["context"]["action"]),
        (&false.into(), &"sts:AssumeRole".into())
    );
    assert_eq!(
        of_role["context"]["principal"]["arn"],
        "arn:aws:iam::444455556666:user/carol"
    );
    // An explicit deny, and a role that is not there, for the role's account alone.
    let denied = decode(ADMIN, &refusal("alice", CLOSED, None).await)
        .await
        .unwrap();
    assert_eq!(
        (
            &denied["explicitDeny"],
            &denied["matchedStatements"]["items"][0]["effect"]
        ),
        (&true.into(), &"DENY".into())
    );
    let missing = decode(
        ADMIN,
        &refusal("alice", &OPEN.replace("Open", "open"), None).await,
    )
    .await
    .unwrap();
    assert!(
        missing["explanation"]["summary"]
            .as_str()
            .unwrap()
            .starts_with("There is no role ")
    );
    // To the caller's own account a role of another one that denies reads like one that is not there.
    let told = async |role: &str| {
        let mut told = decode("other-admin", &refusal("carol", role, None).await)
            .await
            .unwrap();
        told["explanation"]["requestId"] = role.into();
        told.to_string().replace(role, "ROLE")
    };
    assert_eq!(
        told(CLOSED).await,
        told("arn:aws:iam::111122223333:role/Missed").await
    );
    // To the role's account, what denies in the caller's account reads like what does not allow, and
    // where the caller works is not its business.
    let unlike = decode(ADMIN, &near).await.unwrap();
    assert_eq!(unlike["explicitDeny"], false);
    let said = |value: &serde_json::Value| -> Vec<String> {
        let list = value["context"]["conditions"]["items"].as_array().unwrap();
        list.iter()
            .map(|item| item["key"].as_str().unwrap().to_owned())
            .collect()
    };
    for private in ["aws:sourceip", "aws:useragent", "aws:username"] {
        assert!(
            said(&of_caller).iter().any(|key| key == private),
            "{private}"
        );
        assert!(
            !said(&of_role).iter().any(|key| key == private),
            "{private}"
        );
    }
    assert!(said(&of_role).iter().any(|key| key == "sts:externalid"));
    // Nobody else: no permission, no part in it, no message.
    let own = refusal("alice", CLOSED, None).await;
    assert_eq!(decode("bob", &own).await.unwrap_err(), "AccessDenied");
    assert_eq!(
        decode("other-admin", &own).await.unwrap_err(),
        "InvalidAuthorizationMessageException"
    );
    for bad in ["x", &own[..own.len() - 1], &user("alice").secret] {
        assert_eq!(
            decode(ADMIN, bad).await.unwrap_err(),
            "InvalidAuthorizationMessageException"
        );
    }
}

fn budgets(calls: u32, reads: u32, unproven: u32, sessions: u32) -> BudgetLimits {
    BudgetLimits {
        principal_calls: NonZeroU32::new(calls),
        principal_reads: NonZeroU32::new(reads),
        unproven_calls: NonZeroU32::new(unproven),
        principal_sessions: NonZeroU32::new(sessions),
        ..BudgetLimits::OFF
    }
}

#[tokio::test]
async fn whoever_asks_too_much_is_slowed_down_and_nobody_else() {
    let broker = Broker::start_with(|c| c.budgets = budgets(5, 7, 0, 0)).await;
    let who = [("Action", "GetCallerIdentity"), VERSION];
    let whose = [
        ("Action", "GetAccessKeyInfo"),
        VERSION,
        ("AccessKeyId", "AKIATESTALICE0000001"),
    ];
    for (form, limit) in [(&who[..], 14), (&whose, 10)] {
        for _ in 0..limit {
            let answer = broker.query(Some(&user("alice")), form).await;
            assert_ne!(answer.code(), "Throttling");
        }
        let answer = broker.query(Some(&user("alice")), form).await;
        assert_eq!(
            (answer.status, answer.code(), answer.element("Message")),
            (400, "Throttling", Some("Rate exceeded"))
        );
        assert_eq!(answer.headers["retry-after"], "1");
        assert_ne!(
            broker.query(Some(&user("bob")), form).await.code(),
            "Throttling"
        );
    }
    // By gRPC: the same count, and the same hint.
    let error = broker
        .client(&user("alice"))
        .get_caller_identity()
        .await
        .unwrap_err();
    assert_eq!(code(&error), "Throttling");
    let mut headers = http::HeaderMap::new();
    let path = "/brevet.sts.v1.SecurityTokenService/GetCallerIdentity";
    headers.insert("content-type", "application/grpc".parse().unwrap());
    broker.sign(path, &user("alice"), &mut headers, b"");
    let answer = grpc(broker.address, path, headers, frame(b"")).await;
    assert_eq!(
        (answer.status, answer.message.as_str()),
        (8, "Rate%20exceeded")
    );
    let metrics = broker.operator("/metrics").await.body;
    for (budget, count) in [("principal", 1), ("reads", 3)] {
        assert!(
            metrics.contains(&format!(
                "brevet_throttled_total{{budget=\"{budget}\"}} {count}\n"
            )),
            "{metrics}"
        );
    }
    broker.clock.pass(Duration::from_secs(2));
    assert_eq!(broker.who(&user("alice")).await, "ok");
}

#[tokio::test]
async fn sessions_that_live_have_a_budget() {
    let broker = Broker::start_with(|c| c.budgets = budgets(0, 0, 0, 2)).await;
    // Two sessions live; a third waits until one has ended.
    assert!(
        broker.assume(&user("alice"), OPEN).await.is_ok()
            && broker.assume(&user("alice"), OPEN).await.is_ok()
    );
    assert_eq!(
        broker.assume(&user("alice"), OPEN).await.unwrap_err(),
        "Throttling"
    );
    assert!(
        broker
            .operator("/metrics")
            .await
            .body
            .contains("brevet_throttled_total{budget=\"sessions\"} 1\n")
    );
    broker.clock.advance(Duration::from_secs(3_700));
    assert!(broker.assume(&user("alice"), OPEN).await.is_ok());
}

#[tokio::test]
async fn an_account_has_a_budget_of_its_own() {
    let limits = BudgetLimits {
        account_calls: NonZeroU32::new(2),
        ..budgets(3, 0, 0, 0)
    };
    let broker = Broker::start_with(|c| c.budgets = limits).await;
    let mut codes = Vec::new();
    // Four at once, and two of what is left for everybody when some have used that up.
    for name in ["alice", "alice", "alice", "bob", "bob", "bob", "bob"] {
        let form = [
            ("Action", "GetAccessKeyInfo"),
            VERSION,
            ("AccessKeyId", &*user("alice").id),
        ];
        codes.push(broker.query(Some(&user(name)), &form).await.code() == "Throttling");
    }
    assert_eq!(codes, [false, false, false, false, false, false, true]);
    // Another account's budget is untouched.
    let form = [
        ("Action", "GetAccessKeyInfo"),
        VERSION,
        ("AccessKeyId", &*user("carol").id),
    ];
    assert_ne!(
        broker.query(Some(&user("carol")), &form).await.code(),
        "Throttling"
    );
    assert!(
        broker
            .operator("/metrics")
            .await
            .body
            .contains("brevet_throttled_total{budget=\"account\"} 1\n")
    );
}

#[tokio::test]
async fn whoever_proves_nothing_uses_up_the_budget_of_its_address_and_good_callers_there_are_served()
 {
    let broker = Broker::start_with(|c| c.budgets = budgets(0, 0, 3, 0)).await;
    let who = [("Action", "GetCallerIdentity"), VERSION];
    let forged = Keys {
        secret: "x".repeat(40),
        ..user("alice")
    };
    let unknown = Keys {
        id: "AKIAUNKNOWNUNKNOWN12".into(),
        ..user("alice")
    };
    let web = |token: &'static str| {
        [
            ("Action", "AssumeRoleWithWebIdentity"),
            VERSION,
            ("RoleArn", OPEN),
            ("RoleSessionName", "web"),
            ("WebIdentityToken", token),
        ]
    };
    // Each in its own way proves nobody: six at once, and no seventh.
    let mut codes = vec![
        broker.query(None, &who).await.code().to_owned(),
        broker.query(Some(&forged), &who).await.code().to_owned(),
        broker.query(Some(&unknown), &who).await.code().to_owned(),
        broker
            .query(None, &web("junk.junk.junk"))
            .await
            .code()
            .to_owned(),
        broker
            .send("POST", "/", form_headers(), b"Action=%zz".to_vec())
            .await
            .code()
            .to_owned(),
    ];
    let path = "/brevet.sts.v1.SecurityTokenService/GetCallerIdentity";
    codes.push(
        grpc(broker.address, path, Default::default(), frame(b""))
            .await
            .status
            .to_string(),
    );
    assert_eq!(
        codes,
        [
            "MissingAuthenticationToken",
            "SignatureDoesNotMatch",
            "InvalidClientTokenId",
            "InvalidIdentityToken",
            "ValidationError",
            "16"
        ]
    );
    for answer in [
        broker.query(None, &who).await,
        broker.query(Some(&forged), &who).await,
        broker.query(Some(&unknown), &who).await,
        broker.query(None, &web("junk.junk.junk")).await,
        broker
            .send("POST", "/", form_headers(), b"Action=%zz".to_vec())
            .await,
        broker.send("PUT", "/", form_headers(), Vec::new()).await,
    ] {
        assert_eq!(
            (answer.status, answer.code(), &answer.headers["retry-after"]),
            (400, "Throttling", &"1".parse().unwrap())
        );
    }
    assert_eq!(
        grpc(broker.address, path, Default::default(), frame(b""))
            .await
            .status,
        8
    );
    for body in ["", "grant_type=x"] {
        let answer = broker
            .send("POST", "/oauth2/token", form_headers(), body.into())
            .await;
        assert_eq!(
            (answer.status, &answer.headers["retry-after"]),
            (503, &"1".parse().unwrap()),
            "{}",
            answer.body
        );
    }
    // The same address, and a signature that is good.
    for _ in 0..20 {
        assert_eq!(broker.query(Some(&user("alice")), &who).await.code(), "ok");
        assert_eq!(broker.who(&user("bob")).await, "ok");
    }
    assert!(
        broker
            .operator("/metrics")
            .await
            .body
            .contains("brevet_throttled_total{budget=\"source\"} 9\n")
    );
    broker.clock.pass(Duration::from_secs(1));
    assert_eq!(
        broker.query(None, &who).await.code(),
        "MissingAuthenticationToken"
    );
}
