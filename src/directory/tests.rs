use std::time::Duration;

use serde_json::json;

use super::*;
use crate::evaluator::NamedPrincipal;

fn minimal() -> serde_json::Value {
    json!({
        "UserDetailList": [{"Path": "/", "UserName": "alice", "UserId": "AIDAALICEALICEALICE1", "Arn": "arn:aws:iam::111122223333:user/alice", "GroupList": ["devs"]}],
        "GroupDetailList": [{"GroupName": "devs", "GroupId": "AGPADEVSDEVSDEVSDEV1", "Arn": "arn:aws:iam::111122223333:group/devs", "AttachedManagedPolicies": [{"PolicyName": "P", "PolicyArn": "arn:aws:iam::111122223333:policy/P"}]}],
        "RoleDetailList": [{"RoleName": "R", "RoleId": "AROAROLEROLEROLEROL1", "Arn": "arn:aws:iam::111122223333:role/R",
            "AssumeRolePolicyDocument": "%7B%22Statement%22%3A%7B%22Effect%22%3A%22Allow%22%2C%22Principal%22%3A%7B%22AWS%22%3A%22111122223333%22%7D%2C%22Action%22%3A%22sts%3AAssumeRole%22%7D%7D"}],
        "Policies": [{"PolicyName": "P", "Arn": "arn:aws:iam::111122223333:policy/P", "DefaultVersionId": "v2", "PolicyVersionList": [
            {"VersionId": "v1", "Document": {"Statement": {"Effect": "Deny", "Action": "*", "Resource": "*"}}},
            {"VersionId": "v2", "IsDefaultVersion": true, "Document": {"Statement": {"Effect": "Allow", "Action": "*", "Resource": "*"}}}]}],
        "Brevet": {"AccessKeys": [{"UserArn": "arn:aws:iam::111122223333:user/alice", "AccessKeyId": "AKIATESTTESTTESTTEST", "SecretAccessKey": "abcdefghijklmnopqrstuvwxyz0123456789ABCD"}]}
    })
}

fn compile(value: &serde_json::Value) -> Result<Directory, DirectoryError> {
    Directory::compile(value.to_string().as_bytes(), None)
}

#[test]
fn what_a_row_of_the_store_lacks_is_not_looked_for_in_a_file() {
    let text = minimal()["GroupDetailList"][0].to_string();
    let group = Resource::parse(ResourceKind::Group, &text).unwrap();
    let error = Directory::empty()
        .unwrap()
        .refers_to_what_is_there(&group)
        .unwrap_err()
        .to_string();
    assert!(
        error.ends_with("there is no policy `arn:aws:iam::111122223333:policy/P`"),
        "{error}"
    );
    let mut file = minimal();
    file["Policies"] = json!([]);
    let error = compile(&file).unwrap_err().to_string();
    assert!(error.contains("in Policies; add the policy"), "{error}");
}

#[test]
fn an_export_compiles() {
    let directory = compile(&minimal()).unwrap();
    let key = directory.access_key("AKIATESTTESTTESTTEST").unwrap();
    let user = directory.user(&key.user_arn).unwrap();
    assert_eq!(
        (
            directory.effective_of_user(user).unwrap().identity.len(),
            key.active
        ),
        (1, true)
    );
    assert_eq!(
        directory
            .role("arn:aws:iam::111122223333:role/R")
            .unwrap()
            .max_session,
        Duration::from_secs(3_600)
    );
}

#[test]
fn policies_of_aws_itself_may_be_longer() {
    let long: Vec<String> = (0..2_000)
        .map(|n| format!("service{n}:Describe*"))
        .collect();
    let document = json!({"Statement": {"Effect": "Allow", "Action": long, "Resource": "*"}});
    for (arn, taken) in [
        ("arn:aws:iam::aws:policy/ReadOnlyAccess", true),
        ("arn:aws:iam::111122223333:policy/ReadOnlyAccess", false),
    ] {
        let mut export = minimal();
        export["Policies"].as_array_mut().unwrap().push(json!({"PolicyName": "ReadOnlyAccess", "Arn": arn,
            "PolicyVersionList": [{"VersionId": "v1", "IsDefaultVersion": true, "Document": document}]}));
        assert_eq!(compile(&export).is_ok(), taken, "{arn}");
    }
}

#[test]
fn policies_of_aws_itself_have_a_mebibyte_and_customers_have_their_quota() {
    let actions = |n: usize| -> Vec<String> {
        (0..n)
            .map(|n| format!("service{n}:DescribeSomethingOrOther"))
            .collect()
    };
    let compiled = |arn: &str, text: String| {
        let document: serde_json::Value = text.into();
        let mut export = minimal();
        export["Policies"].as_array_mut().unwrap().push(json!({"PolicyName": "Long", "Arn": arn,
            "PolicyVersionList": [{"VersionId": "v1", "IsDefaultVersion": true, "Document": document}]}));
        compile(&export).map(|_| ()).map_err(|e| e.to_string())
    };
    let (aws, own) = (
        "arn:aws:iam::aws:policy/Long",
        "arn:aws:iam::111122223333:policy/Long",
    );
    let policy =
        |n| json!({"Statement": {"Effect": "Allow", "Action": actions(n), "Resource": "*"}});
    // Indented as by the AWS CLI, and with white space up to the limit, which is not counted.
    assert_eq!(
        compiled(aws, serde_json::to_string_pretty(&policy(4_000)).unwrap()),
        Ok(())
    );
    let spaced = |text: String, length: usize| {
        text.replacen('{', &format!("{{{}", " ".repeat(length - text.len())), 1)
    };
    assert_eq!(
        compiled(aws, spaced(policy(20_000).to_string(), 1 << 20)),
        Ok(())
    );
    assert_eq!(
        compiled(own, spaced(policy(200).to_string(), 1 << 20)),
        Ok(())
    );
    let error = compiled(aws, spaced(policy(4_000).to_string(), (1 << 20) + 1)).unwrap_err();
    assert!(
        error.contains("1048576 bytes, including white space"),
        "{error}"
    );
    let error = compiled(own, policy(1_000).to_string()).unwrap_err();
    assert!(
        error.contains("10240 characters (white space is not counted)"),
        "{error}"
    );
    // With many statements on one line, their places are found without counting from the beginning
    // each time.
    let statement = json!({"Effect": "Deny", "Action": "a:b", "Resource": "*"});
    let many = json!({"Statement": vec![statement; 20_000]}).to_string();
    let started = std::time::Instant::now();
    assert_eq!(compiled(aws, many), Ok(()));
    assert!(
        started.elapsed() < std::time::Duration::from_secs(20),
        "{:?}",
        started.elapsed()
    );
}

#[test]
fn whoever_has_a_policy_that_is_not_here_may_do_nothing() {
    let missing = json!([{"PolicyName": "AWSConfigRole", "PolicyArn": "arn:aws:iam::aws:policy/service-role/AWSConfigRole"}]);
    let boundary = json!({"PermissionsBoundaryType": "Policy", "PermissionsBoundaryArn": "arn:aws:iam::aws:policy/Gone"});
    let allow = json!([{"PolicyName": "all", "PolicyDocument": {"Statement": {"Effect": "Allow", "Action": "*", "Resource": "*"}}}]);
    let may = |effective: &Effective| {
        use crate::evaluator::{Outcome, Policies, Principal, Request, RequestContext, evaluate};
        let context = RequestContext::new();
        let request = Request {
            principal: Principal::User {
                account: "111122223333",
                arn: "arn:aws:iam::111122223333:user/alice",
                id: None,
            },
            action: "s3:GetObject",
            resource: "arn:aws:s3:::b/k",
            resource_account: "111122223333",
            context: &context,
        };
        let identity: Vec<&Policy> = effective.identity.iter().map(Arc::as_ref).collect();
        let policies = Policies {
            identity: &identity,
            boundary: effective.boundary.as_deref(),
            ..Policies::default()
        };
        evaluate(&request, &policies).outcome != Outcome::ExplicitlyDenied
    };
    for (pointer, value, user_may, role_may) in [
        ("/Marker", json!("nothing is changed"), true, true),
        (
            "/UserDetailList/0/AttachedManagedPolicies",
            missing.clone(),
            false,
            true,
        ),
        (
            "/UserDetailList/0/PermissionsBoundary",
            boundary.clone(),
            false,
            true,
        ),
        (
            "/GroupDetailList/0/AttachedManagedPolicies",
            missing.clone(),
            false,
            true,
        ),
        (
            "/RoleDetailList/0/AttachedManagedPolicies",
            missing,
            true,
            false,
        ),
        (
            "/RoleDetailList/0/PermissionsBoundary",
            boundary,
            true,
            false,
        ),
    ] {
        let mut export = minimal();
        export["UserDetailList"][0]["UserPolicyList"] = allow.clone();
        export["RoleDetailList"][0]["RolePolicyList"] = allow.clone();
        let (parent, field) = pointer.rsplit_once('/').unwrap();
        export.pointer_mut(parent).unwrap()[field] = value;
        let directory = compile(&export).unwrap();
        let user = directory.users().next().unwrap();
        let role = directory.roles().next().unwrap();
        assert_eq!(
            may(&directory.effective_of_user(user).unwrap()),
            user_may,
            "user: {pointer}"
        );
        assert_eq!(
            may(&directory.effective_of_role(role).unwrap()),
            role_may,
            "role: {pointer}"
        );
        let warnings = directory.warnings();
        assert_eq!(
            warnings.len(),
            usize::from(!(user_may && role_may)),
            "{pointer}: {warnings:?}"
        );
        assert!(
            warnings
                .iter()
                .all(|w| w.contains("arn:aws:iam::aws:policy/")
                    && w.contains("is denied everything"))
        );
    }
}

#[test]
fn a_seed_is_taken_in_each_way_in_which_it_is_printed() {
    let bare = "AEBAGBAFAYDQQCIKBMGA2DQPCAIREEYUCULBOGA2";
    let groups = |by: char| {
        let groups: Vec<&str> = (0..bare.len())
            .step_by(4)
            .map(|at| &bare[at..at + 4])
            .collect();
        groups.join(&by.to_string())
    };
    for text in [
        bare.to_owned(),
        bare.to_ascii_lowercase(),
        groups(' '),
        groups('-').to_ascii_lowercase(),
        format!("{bare}====\n"),
        format!(" {bare}"),
    ] {
        assert_eq!(
            normal_seed(&text).as_deref().map(String::as_str),
            Ok(bare),
            "{text}"
        );
    }
    for (text, why) in [
        ("0189".repeat(8), "Base32"),
        (format!("{}=A", bare), "Base32"),
        ("é".repeat(26), "Base32"),
        ("A".repeat(25), "16 bytes"),
        (String::new(), "16 bytes"),
        ("A".repeat(27), "is incomplete"),
        ("A".repeat(513), "512"),
    ] {
        let rule = normal_seed(&text).unwrap_err();
        assert!(rule.contains(why), "{text}: {rule}");
    }
}

#[test]
fn a_file_names_its_own_users_and_roles_by_unique_id() {
    let arn = |rest: &str| format!("arn:aws:iam::111122223333:{rest}");
    let trust = |principals: serde_json::Value| json!({"Statement": [{"Effect": "Allow", "Principal": {"AWS": principals}, "Action": "sts:AssumeRole"}]});
    let session = "arn:aws:sts::111122223333:assumed-role/R/job";
    let elsewhere = "arn:aws:iam::444455556666:user/x";
    let mut file = minimal();
    let later = json!({"RoleName": "S", "RoleId": "AROASSSSSSSSSSSSSSS1", "Arn": arn("role/p/S"),
        "AssumeRolePolicyDocument": trust(json!([arn("user/alice"), arn("role/R"), session]))});
    file["RoleDetailList"]
        .as_array_mut()
        .unwrap()
        .insert(0, later);
    let other = json!({"RoleName": "T", "RoleId": "AROATTTTTTTTTTTTTTT1", "Arn": arn("role/T"),
        "AssumeRolePolicyDocument": trust(json!([arn("role/p/S"), arn("role/S"), arn("user/gone"), elsewhere,
            "AIDASOMEBODYWHOISGONE"]))});
    file["RoleDetailList"].as_array_mut().unwrap().push(other);
    let directory = compile(&file).unwrap();
    let named = |role: &str| -> Vec<String> {
        let named = directory.role(&arn(role)).unwrap().trust.named_principals();
        named
            .map(|named| match named {
                NamedPrincipal::ById(id) => id.to_owned(),
                NamedPrincipal::ByArn(arn) => arn.to_owned(),
            })
            .collect()
    };
    assert_eq!(
        named("role/p/S"),
        [
            "AIDAALICEALICEALICE1",
            "AROAROLEROLEROLEROL1",
            "AROAROLEROLEROLEROL1"
        ]
    );
    assert_eq!(
        named("role/T"),
        [
            "AROASSSSSSSSSSSSSSS1",
            &*arn("role/S"),
            &*arn("user/gone"),
            elsewhere,
            "AIDASOMEBODYWHOISGONE"
        ]
    );
    let warnings = directory.warnings();
    for nobody in [&*arn("role/S"), &*arn("user/gone"), "AIDASOMEBODYWHOISGONE"] {
        let warns = |w: &&String| w.contains("role/T names") && w.contains(nobody);
        assert_eq!(warnings.iter().filter(warns).count(), 1, "{warnings:?}");
    }
    assert_eq!(
        warnings.iter().filter(|w| w.contains(" names ")).count(),
        3,
        "{warnings:?}"
    );
}

#[test]
fn cf_01_what_is_wrong_is_named() {
    let cases = [
        (
            "/RoleDetailList/0/MaxSessionDuration",
            json!(3_599),
            "MaxSessionDuration",
        ),
        (
            "/RoleDetailList/0/Arn",
            json!("arn:aws:iam::111122223333:role/Other"),
            "Arn",
        ),
        (
            "/RoleDetailList/0/AssumeRolePolicyDocument",
            json!({"Statement": []}),
            "AssumeRolePolicyDocument",
        ),
        ("/UserDetailList/0/GroupList/0", json!("nobody"), "nobody"),
        (
            "/GroupDetailList/0/AttachedManagedPolicies/0/PolicyArn",
            json!("arn:aws:iam::111122223333:policy/Missing"),
            "Missing",
        ),
        (
            "/Brevet/AccessKeys/0/UserArn",
            json!("arn:aws:iam::111122223333:user/bob"),
            "bob",
        ),
        (
            "/Brevet/AccessKeys/0/SecretAccessKey",
            json!("wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"),
            "example",
        ),
        (
            "/Brevet/AccessKeys/0/SecretAccessKey",
            json!(""),
            "16 to 128",
        ),
        ("/Brevet/AccessKeys/0/Status", json!("On"), "Status"),
        ("/UserDetailList/0/Surprise", json!(1), "Surprise"),
        ("/IsTruncated", json!(true), "IsTruncated"),
        (
            "/NextToken",
            json!("eyJNYXJrZXIiOiBudWxs"),
            "only one page of an export",
        ),
    ];
    for (pointer, value, named) in cases {
        let mut altered = minimal();
        let (parent, field) = pointer.rsplit_once('/').unwrap();
        match altered.pointer_mut(parent).unwrap() {
            serde_json::Value::Object(map) => _ = map.insert(field.to_owned(), value),
            serde_json::Value::Array(list) => list[field.parse::<usize>().unwrap()] = value,
            other => panic!("{other}"),
        }
        let error = compile(&altered).unwrap_err().to_string();
        assert!(error.contains(named), "{pointer}: {error}");
    }
    let twice =
        minimal()
            .to_string()
            .replacen("\"UserName\"", "\"UserName\":\"x\",\"UserName\"", 1);
    assert!(
        Directory::compile(twice.as_bytes(), None)
            .unwrap_err()
            .to_string()
            .contains("duplicate")
    );
}

#[test]
fn a_built_in_policy_means_what_it_says_until_one_is_imported() {
    let arn = "arn:aws:iam::aws:policy/SecurityAudit";
    let mut export = minimal();
    export["RoleDetailList"][0]["AttachedManagedPolicies"] =
        json!([{"PolicyName": "SecurityAudit", "PolicyArn": arn}]);
    let directory = compile(&export).unwrap();
    assert_eq!(directory.built_in_policies_in_use(), [arn]);
    assert!(
        directory.warnings().is_empty(),
        "{:?}",
        directory.warnings()
    );
    let account = AccountId::parse("111122223333").unwrap();
    assert_eq!(directory.policy_uses(account, arn), (1, 0));
    let other = AccountId::parse("444455556666").unwrap();
    assert_eq!(directory.policy_uses(other, arn), (0, 0));
    let built_in = directory.managed(arn).unwrap().clone();

    export["Policies"].as_array_mut().unwrap().push(json!({
        "PolicyName": "SecurityAudit", "Arn": arn, "PolicyVersionList": [{"VersionId": "v9", "IsDefaultVersion": true,
            "Document": {"Statement": {"Effect": "Deny", "Action": "*", "Resource": "*"}}}]}));
    let imported = compile(&export).unwrap();
    assert!(imported.built_in_policies_in_use().is_empty());
    assert!(!Arc::ptr_eq(imported.managed(arn).unwrap(), &built_in));
    // A snapshot without the import shares the one that was compiled before.
    assert!(Arc::ptr_eq(directory.managed(arn).unwrap(), &built_in));
}
