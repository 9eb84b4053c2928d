//! Policy simulations over the IAM API, with the directory in a file and in the store.

use std::sync::Arc;

use brevet::client::Client;
use serde_json::{Value, json};

use crate::binary::{Home, brevet};
use crate::harness::{Broker, DIRECTORY, code, home, in_the_store, user};

const BOB: &str = "arn:aws:iam::111122223333:user/bob";

/// A folder in which bob is in two groups, has a boundary, and may read what has his team's tag.
async fn furnished(stored: bool) -> Arc<tempfile::TempDir> {
    let mut directory: Value = serde_json::from_str(DIRECTORY).unwrap();
    let allow = |action: &str, resource: &str| json!({"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": action, "Resource": resource}]});
    let inline =
        |name: &str, document: Value| json!([{"PolicyName": name, "PolicyDocument": document}]);
    let bob = directory["UserDetailList"]
        .as_array_mut()
        .unwrap()
        .iter_mut()
        .find(|user| user["UserName"] == "bob")
        .unwrap();
    bob["GroupList"] = json!(["readers", "Writers"]);
    bob["Tags"] = json!([{"Key": "team", "Value": "blue"}]);
    bob["UserPolicyList"] = inline(
        "own",
        allow("s3:DeleteObject", "arn:aws:s3:::b/${aws:username}/*"),
    );
    bob["PermissionsBoundary"] = json!({"PermissionsBoundaryType": "Policy", "PermissionsBoundaryArn": "arn:aws:iam::111122223333:policy/NoSts"});
    let users = directory["UserDetailList"].as_array_mut().unwrap();
    for (name, id, policy) in [
        ("auditor", "AIDAAUDITORAUDITOR01", "ReadOnlyAccess"),
        ("closed", "AIDACLOSEDCLOSEDCL01", "OfAnotherTime"),
    ] {
        let arn = format!("arn:aws:iam::111122223333:user/{name}");
        let attached = json!([{"PolicyName": policy, "PolicyArn": format!("arn:aws:iam::aws:policy/{policy}")}]);
        users.push(json!({"Path": "/", "UserName": name, "UserId": id, "Arn": arn, "AttachedManagedPolicies": attached}));
    }
    directory["GroupDetailList"] = json!([
        {"Path": "/", "GroupName": "readers", "GroupId": "AGPAREADERSREADERS01", "Arn": "arn:aws:iam::111122223333:group/readers",
         "GroupPolicyList": inline("read", allow("s3:GetObject", "arn:aws:s3:::b/${aws:PrincipalTag/team}/*"))},
        {"Path": "/x/", "GroupName": "Writers", "GroupId": "AGPAWRITERSWRITERS01", "Arn": "arn:aws:iam::111122223333:group/x/Writers",
         "GroupPolicyList": inline("write", json!({"Version": "2012-10-17", "Statement": [
            {"Effect": "Allow", "Action": "s3:PutObject", "Resource": "*", "Condition": {"Bool": {"aws:SecureTransport": "true"}}}]})),
         "AttachedManagedPolicies": [{"PolicyName": "Sts", "PolicyArn": "arn:aws:iam::111122223333:policy/Sts"}]},
    ]);
    let dir = home();
    let text = serde_json::to_vec_pretty(&directory).unwrap();
    brevet::files::write_private(&dir.path().join("directory.json"), &text).unwrap();
    if stored {
        crate::harness::fill_store(
            dir.path(),
            &brevet::store::Place::Sqlite(dir.path().join("store.db")),
        )
        .await;
        let other = crate::harness::OtherProcess::on(
            dir.path(),
            &brevet::store::Place::Sqlite(dir.path().join("store.db")),
        )
        .await;
        other.import(&directory).await.unwrap();
        other.store.close().await;
    }
    dir
}

async fn simulate(client: &Client, more: &[(&str, &str)]) -> Value {
    let form = [&[("PolicySourceArn", BOB)], more].concat();
    client.iam("SimulatePrincipalPolicy", &form).await.unwrap()
}

/// The decisions of each result.
fn decisions(answer: &Value) -> Vec<&str> {
    let results = answer["EvaluationResults"].as_array().unwrap();
    results
        .iter()
        .map(|result| result["EvalDecision"].as_str().unwrap())
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_principal_is_simulated_with_its_groups_tags_and_boundary() {
    for stored in [false, true] {
        let dir = furnished(stored).await;
        let broker = Broker::start_in(dir, |config| {
            if stored {
                in_the_store(config);
            }
        })
        .await;
        let client = broker.client(&user("admin"));
        let answer = simulate(
            &client,
            &[
                ("ActionNames.member.1", "s3:GetObject"),
                ("ActionNames.member.2", "s3:PutObject"),
                ("ActionNames.member.3", "s3:DeleteObject"),
                ("ActionNames.member.4", "sts:AssumeRole"),
                ("ResourceArns.member.1", "arn:aws:s3:::b/blue/x"),
                ("ResourceArns.member.2", "arn:aws:s3:::b/bob/x"),
            ],
        )
        .await;
        assert_eq!(
            decisions(&answer),
            [
                "implicitDeny",
                "implicitDeny",
                "implicitDeny",
                "implicitDeny"
            ],
            "{stored} {answer:#}"
        );
        assert_eq!(answer["IsTruncated"], false);
        let result = |at: usize| &answer["EvaluationResults"][at];
        let single = |at: usize, resource: usize| &result(at)["ResourceSpecificResults"][resource];
        // A group's policy by the user's tag, and the user's own by its name.
        let read = single(0, 0);
        assert_eq!(read["EvalResourceName"], "arn:aws:s3:::b/blue/x");
        assert_eq!(read["EvalResourceDecision"], "allowed", "{read:#}");
        assert_eq!(
            read["MatchedStatements"][0]["SourcePolicyId"],
            "group_readers_read"
        );
        assert_eq!(
            read["MatchedStatements"][0]["SourcePolicyType"],
            "IAM Policy"
        );
        assert_eq!(single(0, 1)["EvalResourceDecision"], "implicitDeny");
        assert_eq!(single(2, 1)["EvalResourceDecision"], "allowed");
        let own = &single(2, 1)["MatchedStatements"][0];
        assert_eq!(own["SourcePolicyId"], "user_bob_own");
        assert!(own["StartPosition"]["Line"].as_u64().unwrap() >= 1, "{own}");
        // What is not known is said, as the policy spells it.
        assert_eq!(
            result(1)["MissingContextValues"],
            json!(["aws:SecureTransport"])
        );
        // The boundary does not allow what the attached policy of a group does.
        assert_eq!(
            result(3)["PermissionsBoundaryDecisionDetail"]["AllowedByPermissionsBoundary"],
            false
        );
        assert_eq!(
            result(0)["PermissionsBoundaryDecisionDetail"]["AllowedByPermissionsBoundary"],
            true
        );
        // One resource, and the condition key: all of it is allowed.
        let answer = simulate(
            &client,
            &[
                ("ActionNames.member.1", "s3:GetObject"),
                ("ActionNames.member.2", "s3:PutObject"),
                ("ResourceArns.member.1", "arn:aws:s3:::b/blue/x"),
                (
                    "ContextEntries.member.1.ContextKeyName",
                    "AWS:securetransport",
                ),
                ("ContextEntries.member.1.ContextKeyType", "boolean"),
                ("ContextEntries.member.1.ContextKeyValues.member.1", "true"),
            ],
        )
        .await;
        assert_eq!(decisions(&answer), ["allowed", "allowed"], "{answer:#}");
        // A boundary of the request takes the place of the user's, and a policy is added.
        let all = r#"{"Statement":{"Effect":"Allow","Action":"*","Resource":"*"}}"#;
        let deny = r#"{"Statement":[{"Effect":"Deny","Action":"sts:Tag*","Resource":"*"}]}"#;
        let answer = simulate(
            &client,
            &[
                ("ActionNames.member.1", "sts:AssumeRole"),
                ("ActionNames.member.2", "sts:TagSession"),
                ("PermissionsBoundaryPolicyInputList.member.1", all),
                ("PolicyInputList.member.1", deny),
            ],
        )
        .await;
        assert_eq!(decisions(&answer), ["allowed", "explicitDeny"]);
        let allowed = &answer["EvaluationResults"][0];
        assert_eq!(allowed["EvalResourceName"], "*");
        assert_eq!(allowed["MatchedStatements"][0]["SourcePolicyId"], "Sts");
        assert_eq!(allowed.get("ResourceSpecificResults"), None);
        let denied = &answer["EvaluationResults"][1]["MatchedStatements"];
        assert_eq!(
            *denied,
            json!([{"SourcePolicyId": "PolicyInputList.1", "SourcePolicyType": "IAM Policy",
                "StartPosition": {"Line": 1, "Column": 15}, "EndPosition": {"Line": 1, "Column": deny.len() - 1}}])
        );
        let keys = client
            .iam(
                "GetContextKeysForPrincipalPolicy",
                &[
                    ("PolicySourceArn", BOB),
                    ("PolicyInputList.member.1", r#"{"Version":"2012-10-17","Statement":{"Effect":"Deny","Action":"*","Resource":"arn:aws:s3:::${s3:y}/${AWS:USERNAME}"}}"#),
                ],
            )
            .await
            .unwrap();
        let mut names: Vec<&str> = keys["ContextKeyNames"]
            .as_array()
            .unwrap()
            .iter()
            .map(|name| name.as_str().unwrap())
            .collect();
        names.sort_unstable();
        assert_eq!(
            names,
            [
                "aws:PrincipalTag/team",
                "aws:SecureTransport",
                "aws:username",
                "s3:y"
            ]
        );
        // A policy of AWS that is built in, and one that is not here and may deny anything.
        for (user, decision, policy) in [
            ("auditor", "allowed", "ReadOnlyAccess"),
            ("closed", "explicitDeny", "OfAnotherTime"),
        ] {
            let source = format!("arn:aws:iam::111122223333:user/{user}");
            let answer = client
                .iam(
                    "SimulatePrincipalPolicy",
                    &[
                        ("PolicySourceArn", source.as_str()),
                        ("ActionNames.member.1", "iam:GetUser"),
                    ],
                )
                .await
                .unwrap();
            assert_eq!(decisions(&answer), [decision], "{answer:#}");
            let by = &answer["EvaluationResults"][0]["MatchedStatements"][0];
            assert_eq!(by["SourcePolicyId"], policy);
        }
        // A group by itself.
        let answer = client
            .iam(
                "SimulatePrincipalPolicy",
                &[
                    (
                        "PolicySourceArn",
                        "arn:aws:iam::111122223333:group/x/Writers",
                    ),
                    ("ActionNames.member.1", "sts:AssumeRole"),
                ],
            )
            .await
            .unwrap();
        assert_eq!(decisions(&answer), ["allowed"]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_may_not_ask_learns_nothing() {
    let broker = Broker::start_stored().await;
    let actions = ("ActionNames.member.1", "s3:GetObject");
    let all = r#"{"Statement":{"Effect":"Allow","Action":"*","Resource":"*"}}"#;
    let input = ("PolicyInputList.member.1", all);
    for (source, words) in [
        (BOB, None),
        (
            "arn:aws:iam::111122223333:user/nobody",
            Some("The user with name nobody cannot be found."),
        ),
        (
            "arn:aws:iam::111122223333:user/path/bob",
            Some("The user with name bob cannot be found."),
        ),
        (
            "arn:aws:iam::111122223333:role/Direct",
            Some("The role with name Direct cannot be found."),
        ),
        (
            "arn:aws:iam::444455556666:user/carol",
            Some("The user with name carol cannot be found."),
        ),
        (
            "arn:aws:iam::111122223333:group/nobody",
            Some("The group with name nobody cannot be found."),
        ),
    ] {
        let source = ("PolicySourceArn", source);
        for (action, form) in [
            ("SimulatePrincipalPolicy", vec![source, actions]),
            ("GetContextKeysForPrincipalPolicy", vec![source]),
        ] {
            // Alice may call STS only.
            let refused = broker.client(&user("alice")).iam(action, &form).await;
            assert_eq!(code(&refused.unwrap_err()), "AccessDenied", "{source:?}");
            let answer = broker.client(&user("admin")).iam(action, &form).await;
            match words {
                None => drop(answer.unwrap()),
                Some(words) => {
                    let error = answer.unwrap_err();
                    assert_eq!(code(&error), "NoSuchEntity", "{source:?}");
                    assert!(error.to_string().contains(words), "{error}");
                }
            }
        }
    }
    for (action, form) in [
        ("SimulateCustomPolicy", vec![input, actions]),
        ("GetContextKeysForCustomPolicy", vec![input]),
    ] {
        let refused = broker.client(&user("alice")).iam(action, &form).await;
        assert_eq!(code(&refused.unwrap_err()), "AccessDenied", "{action}");
        broker
            .client(&user("admin"))
            .iam(action, &form)
            .await
            .unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_have_every_action_once_and_bad_input_is_named() {
    let broker = Broker::start().await;
    let client = broker.client(&user("admin"));
    let all = r#"{"Statement":{"Effect":"Allow","Action":"s3:*","Resource":"*"}}"#;
    let names: Vec<(String, String)> = (1..=7)
        .map(|n| (format!("ActionNames.member.{n}"), format!("s3:Act{n}")))
        .collect();
    let mut form: Vec<(&str, &str)> = vec![("PolicyInputList.member.1", all), ("MaxItems", "3")];
    form.extend(names.iter().map(|(k, v)| (k.as_str(), v.as_str())));
    let mut seen = Vec::new();
    let mut marker: Option<String> = None;
    loop {
        let mut form = form.clone();
        form.extend(marker.as_deref().map(|marker| ("Marker", marker)));
        let page = client.iam("SimulateCustomPolicy", &form).await.unwrap();
        let results = page["EvaluationResults"].as_array().unwrap().clone();
        assert!(results.len() <= 3);
        seen.extend(
            results
                .iter()
                .map(|r| r["EvalActionName"].as_str().unwrap().to_owned()),
        );
        marker = page["Marker"].as_str().map(str::to_owned);
        assert_eq!(page["IsTruncated"], marker.is_some());
        if marker.is_none() {
            break;
        }
    }
    let expected: Vec<String> = (1..=7).map(|n| format!("s3:Act{n}")).collect();
    assert_eq!(seen, expected);
    let own = r#"{"Statement":{"Effect":"Allow","Principal":"*","Action":"s3:*","Resource":"*"}}"#;
    for (more, words) in [
        (
            vec![("ResourceArns.member.1", "bucket")],
            "ResourceNames are not in a valid ARN format: bucket.",
        ),
        (
            vec![("ActionNames.member.8", "s3:*")],
            "ActionNames are not in a valid format: s3:*.",
        ),
        (
            vec![("ActionNames.member.8", "Get")],
            "ActionNames are not in a valid format: Get.",
        ),
        (
            vec![("PolicyInputList.member.2", "{}")],
            "PolicyInputList.2: ",
        ),
        (
            vec![("ResourcePolicy", own)],
            "CallerArn is required with a ResourcePolicy",
        ),
        (
            vec![("ResourcePolicy", "{}"), ("CallerArn", BOB)],
            "ResourcePolicy: ",
        ),
        (
            vec![("CallerArn", "arn:aws:sts::111122223333:assumed-role/R/s")],
            "Invalid Entity Arn: arn:aws:sts::111122223333:assumed-role/R/s does not clearly define entity type and name.",
        ),
        (
            vec![("ResourceOwner", "bob")],
            "'bob' is not a valid as a Resource Owner.",
        ),
        (
            vec![
                ("PermissionsBoundaryPolicyInputList.member.1", all),
                ("PermissionsBoundaryPolicyInputList.member.2", all),
            ],
            "PermissionsBoundaryPolicyInputList may have only one policy.",
        ),
        (
            vec![
                ("ContextEntries.member.1.ContextKeyName", "aws:SourceIp"),
                ("ContextEntries.member.1.ContextKeyType", "ip"),
                ("ContextEntries.member.1.ContextKeyValues.member.1", "here"),
            ],
            "ContextEntries.1: `here` is not a value of the type ip.",
        ),
    ] {
        let error = client
            .iam("SimulateCustomPolicy", &[form.clone(), more].concat())
            .await
            .unwrap_err();
        assert_eq!(code(&error), "InvalidInput", "{words}");
        assert!(error.to_string().contains(words), "{error}");
    }
    for marker in ["3", "~x", "~0", "~7"] {
        let form = [form.clone(), vec![("Marker", marker)]].concat();
        let error = client.iam("SimulateCustomPolicy", &form).await.unwrap_err();
        assert!(
            error.to_string().contains("Invalid Marker."),
            "{marker}: {error}"
        );
    }
    // A resource policy across accounts, and within one.
    let partner = r#"{"Statement":{"Effect":"Allow","Principal":{"AWS":"arn:aws:iam::444455556666:user/eve"},"Action":"s3:*","Resource":"*"}}"#;
    for (caller, owner, allowed) in [
        (
            "arn:aws:iam::444455556666:user/eve",
            "111122223333",
            "allowed",
        ),
        (
            "arn:aws:iam::444455556666:user/mallory",
            "arn:aws:iam::111122223333:root",
            "implicitDeny",
        ),
    ] {
        let form = [
            ("PolicyInputList.member.1", all),
            ("ActionNames.member.1", "s3:GetObject"),
            ("ResourceArns.member.1", "arn:aws:s3:::b/x"),
            ("ResourcePolicy", partner),
            ("CallerArn", caller),
            ("ResourceOwner", owner),
        ];
        let answer = client.iam("SimulateCustomPolicy", &form).await.unwrap();
        assert_eq!(decisions(&answer), [allowed], "{caller}");
        assert!(answer["EvaluationResults"][0]["EvalDecisionDetails"].is_object());
    }
}

/// Runs `brevet policy …` beside a broker. Returns whether it succeeded, and its output.
fn policy(config: &std::path::Path, arguments: &[&str]) -> (bool, String) {
    let output = brevet()
        .arg("policy")
        .args(arguments)
        .env("BREVET_CONFIG", config)
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap() + &String::from_utf8_lossy(&output.stderr);
    (output.status.success(), text)
}

#[test]
fn the_live_directory_answers_who_may_do_what() {
    for in_a_file in [false, true] {
        let home = Home::init();
        let allow = |action: &str| json!({"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": action, "Resource": "*"}]});
        let inline = |document: Value| json!([{"PolicyName": "own", "PolicyDocument": document}]);
        let arn = |rest: &str| format!("arn:aws:iam::111122223333:{rest}");
        let trust = |principal: Value, condition: Value| {
            json!({"Version": "2012-10-17", "Statement": [
            {"Effect": "Allow", "Principal": principal, "Action": "sts:AssumeRole", "Condition": condition}]})
        };
        let file = json!({
            "UserDetailList": [
                {"UserName": "bob", "Arn": arn("user/bob"), "GroupList": ["team"], "Tags": [{"Key": "team", "Value": "blue"}]},
                {"UserName": "eve", "Arn": arn("user/eve"), "UserPolicyList": inline(allow("s3:*"))},
            ],
            "GroupDetailList": [{"GroupName": "team", "Arn": arn("group/team"), "GroupPolicyList": inline(allow("sts:AssumeRole"))}],
            "RoleDetailList": [
                {"RoleName": "Plain", "Arn": arn("role/Plain"), "AssumeRolePolicyDocument": trust(json!({"AWS": arn("root")}), json!({}))},
                {"RoleName": "Named", "Arn": arn("role/Named"), "AssumeRolePolicyDocument": trust(json!({"AWS": arn("user/eve")}), json!({}))},
                {"RoleName": "Guarded", "Arn": arn("role/Guarded"), "AssumeRolePolicyDocument": trust(json!({"AWS": arn("root")}), json!({"Bool": {"aws:MultiFactorAuthPresent": "true"}, "StringEquals": {"aws:PrincipalTag/team": "blue"}}))},
                {"RoleName": "Partner", "Arn": arn("role/Partner"), "AssumeRolePolicyDocument": trust(json!({"AWS": "arn:aws:iam::444455556666:root"}), json!({"StringEquals": {"sts:ExternalId": "x"}}))},
            ],
        });
        let path = home.path.join("more.json");
        brevet::files::write_private(&path, file.to_string().as_bytes()).unwrap();
        home.run(&["import", path.to_str().unwrap(), "--apply"]);
        let home = if in_a_file {
            home.declared_in_a_file()
        } else {
            home
        };
        let config = home.config();
        let ask = |arguments: &[&str]| policy(&config, arguments);

        let (allowed, said) = ask(&[
            "simulate",
            "--principal",
            "bob",
            "--action",
            "sts:AssumeRole",
            "--resource",
            "Plain",
        ]);
        assert!(allowed && said.starts_with("allowed\n"), "{said}");
        assert!(
            said.contains("decided by policy own of group team, statement 0"),
            "{said}"
        );
        assert!(
            said.contains(
                "trust policy of arn:aws:iam::111122223333:role/Plain, statement 0 Allow: applies"
            ),
            "{said}"
        );
        let guarded = [
            "simulate",
            "--principal",
            "bob",
            "--action",
            "sts:AssumeRole",
            "--resource",
            "Guarded",
        ];
        let (allowed, said) = ask(&guarded);
        assert!(!allowed && said.starts_with("implicitDeny\n"), "{said}");
        assert!(
            said.contains("keys that the request does not have: aws:multifactorauthpresent"),
            "{said}"
        );
        let with_code = [
            &guarded[..],
            &["--context", "aws:MultiFactorAuthPresent=true", "--json"],
        ]
        .concat();
        let (allowed, said) = ask(&with_code);
        let said: Value = serde_json::from_str(&said).unwrap();
        assert!(
            allowed && said["Decision"] == "allowed" && said["MissingContextValues"] == json!([]),
            "{said}"
        );
        let (allowed, said) = ask(&[
            "simulate",
            "--principal",
            "eve",
            "--action",
            "sts:AssumeRole",
            "--resource",
            "Plain",
        ]);
        assert!(
            !allowed && said.contains("user/eve is not allowed to perform this action"),
            "{said}"
        );
        let (known, said) = ask(&[
            "simulate",
            "--principal",
            "mallory",
            "--action",
            "sts:AssumeRole",
        ]);
        assert!(
            !known
                && said
                    .contains("--principal: there is no user or role `mallory` in the directory"),
            "{said}"
        );

        // The user and the role differ in case only.
        let (_, said) = ask(&["may-assume", "administrator"]);
        assert!(said.starts_with(&arn("role/Administrator")), "{said}");
        let (known, said) = ask(&["may-assume", "ADMINISTRATOR"]);
        assert!(!known && said.contains("; use the ARN"), "{said}");

        // Who may, and what one may.
        let (_, said) = ask(&["who-may-assume", "Named"]);
        assert_eq!(
            said.split_whitespace().collect::<Vec<_>>(),
            [arn("user/eve").as_str(), "always"],
            "{said}"
        );
        let (_, said) = ask(&["who-may-assume", "Guarded"]);
        let bob = said
            .lines()
            .find(|line| line.starts_with(&arn("user/bob")))
            .unwrap();
        assert!(
            bob.contains("depends on Bool aws:multifactorauthpresent [true]"),
            "{said}"
        );
        assert!(!said.contains("user/eve"), "{said}");
        let (_, said) = ask(&["who-may-assume", "Partner", "--json"]);
        let partner: Value = serde_json::from_str(said.trim()).unwrap();
        assert_eq!(partner["Verdict"], "depends");
        assert_eq!(
            partner["When"],
            json!([
                "the decision of its own account or provider",
                "StringEquals sts:externalid [x]"
            ])
        );
        let (_, said) = ask(&["may-assume", "bob"]);
        let roles: Vec<&str> = said
            .lines()
            .map(|line| line.split_whitespace().next().unwrap())
            .collect();
        assert_eq!(roles, [arn("role/Guarded"), arn("role/Plain")], "{said}");
        let (_, said) = ask(&[
            "may-assume",
            "bob",
            "--context",
            "aws:MultiFactorAuthPresent=true",
        ]);
        assert_eq!(said.matches("always").count(), 2, "{said}");
        let (_, said) = ask(&["may-assume", "eve"]);
        assert!(
            said.starts_with(&arn("role/Named")) && said.lines().count() == 1,
            "{said}"
        );
    }
}
