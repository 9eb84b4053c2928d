//! `brevet import` without `--apply` always reports what `--apply` would do. `cargo test --test it
//! importing -- --nocapture` prints the table.

use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Output};

use serde_json::{Value, json};

use crate::binary::{Home, brevet};

const ACCOUNT: &str = "111122223333";

fn arn(what: &str) -> String {
    format!("arn:aws:iam::{ACCOUNT}:{what}")
}

fn trust(principal: Value, condition: Value) -> Value {
    json!({"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Principal": principal,
        "Action": ["sts:AssumeRole", "sts:AssumeRoleWithWebIdentity"], "Condition": condition}]})
}

/// A role with some fields added or replaced.
fn role(name: &str, more: Value) -> Value {
    let mut role = json!({"Path": "/", "RoleName": name, "Arn": arn(&format!("role/{name}")),
        "AssumeRolePolicyDocument": {"Version": "2012-10-17", "Statement": [
            {"Effect": "Allow", "Principal": {"AWS": ACCOUNT}, "Action": "sts:AssumeRole"}]}});
    for (field, value) in more.as_object().unwrap() {
        role[field] = value.clone();
    }
    role
}

fn roles(list: &[Value]) -> Value {
    json!({"RoleDetailList": list})
}

fn user(name: &str, more: Value) -> Value {
    let mut user = json!({"Path": "/", "UserName": name, "Arn": arn(&format!("user/{name}"))});
    for (field, value) in more.as_object().unwrap() {
        user[field] = value.clone();
    }
    json!({"UserDetailList": [user]})
}

fn brevet_section(section: Value) -> Value {
    json!({"Brevet": section})
}

fn bucket(principal: String, resource: &str) -> Value {
    brevet_section(
        json!({"BucketPolicies": [{"Bucket": "data", "AccountId": ACCOUNT, "Policy": {
        "Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Principal": {"AWS": principal},
            "Action": "s3:GetObject", "Resource": resource}]}}]}),
    )
}

fn policy(versions: usize) -> Value {
    let version = |n: usize| {
        json!({"VersionId": format!("v{n}"), "IsDefaultVersion": n == 1, "Document": {"Version": "2012-10-17",
            "Statement": [{"Effect": "Allow", "Action": "s3:*", "Resource": "*"}]}})
    };
    json!({"Policies": [{"PolicyName": "P", "Arn": arn("policy/P"), "DefaultVersionId": "v1",
        "PolicyVersionList": (1..=versions).map(version).collect::<Vec<_>>()}]})
}

/// A try: its name, the arguments before the file, the file, and the exit status.
type Case = (&'static str, &'static [&'static str], String, i32);

fn cases() -> Vec<Case> {
    let missing = arn("policy/Missing");
    let long = "s3:".to_owned() + &"x".repeat(11_000);
    let wide = json!([{"PolicyName": "wide", "PolicyDocument": {"Version": "2012-10-17",
        "Statement": [{"Effect": "Allow", "Action": long, "Resource": "*"}]}}]);
    let github = arn("oidc-provider/token.actions.githubusercontent.com");
    let provider = json!({"Arn": github, "Url": "https://token.actions.githubusercontent.com", "ClientIDList": ["sts.amazonaws.com"]});
    let key = |user: &str, id: &str, secret: &str| json!({"UserArn": arn(&format!("user/{user}")), "AccessKeyId": id, "SecretAccessKey": secret});
    let administrator =
        json!({"UserName": "administrator", "Path": "/", "Arn": arn("user/administrator")});
    let good = "0123456789abcdefghijABCDEFGHIJ0123456789";
    let list: Vec<(&'static str, &'static [&'static str], Value, i32)> = vec![
        ("nothing at all", &[], json!({}), 0),
        ("a new role", &[], roles(&[role("New", json!({}))]), 0),
        (
            "a new user with a key",
            &[],
            {
                let mut both = user("bob", json!({}));
                both["Brevet"] = json!({"AccessKeys": [key("bob", "AKIA5VZ3DEXAMPLE2345", good)]});
                both
            },
            0,
        ),
        (
            "a policy of AWS's that is not here",
            &[],
            roles(&[role(
                "New",
                json!({"AttachedManagedPolicies":
            [{"PolicyName": "AWSConfigRole", "PolicyArn": "arn:aws:iam::aws:policy/AWSConfigRole"}]}),
            )]),
            0,
        ),
        ("a managed policy", &[], policy(2), 0),
        ("a policy with six versions", &[], policy(6), 1),
        (
            "a user in a group that is not here",
            &[],
            user("bob", json!({"GroupList": ["nobody"]})),
            1,
        ),
        (
            "an attached policy that is not here",
            &[],
            roles(&[role(
                "New",
                json!({"AttachedManagedPolicies": [{"PolicyName": "Missing", "PolicyArn": missing}]}),
            )]),
            1,
        ),
        (
            "a boundary that is not here",
            &[],
            roles(&[role(
                "New",
                json!({"PermissionsBoundary":
            {"PermissionsBoundaryType": "Policy", "PermissionsBoundaryArn": missing}}),
            )]),
            1,
        ),
        (
            "a role that is declared twice",
            &[],
            roles(&[role("New", json!({})), role("New", json!({}))]),
            1,
        ),
        (
            "a name that differs in case only",
            &[],
            roles(&[role("administrator", json!({}))]),
            1,
        ),
        (
            "two roles with one unique id",
            &[],
            roles(&[
                role("One", json!({"RoleId": "AROA5VZ3DEXAMPLE23456"})),
                role("Two", json!({"RoleId": "AROA5VZ3DEXAMPLE23456"})),
            ]),
            1,
        ),
        (
            "a path without an end",
            &[],
            roles(&[role("New", json!({"Path": "/x", "Arn": arn("role/x/New")}))]),
            1,
        ),
        (
            "an ARN of another name",
            &[],
            roles(&[role("New", json!({"Arn": arn("role/Other")}))]),
            1,
        ),
        (
            "a trusted user that is not here",
            &[],
            roles(&[role(
                "New",
                json!({"AssumeRolePolicyDocument":
            trust(json!({"AWS": arn("user/nobody")}), json!({}))}),
            )]),
            1,
        ),
        (
            "a trusted user that is made as well",
            &[],
            {
                let mut both = user("carol", json!({}));
                both["RoleDetailList"] = json!([role(
                    "New",
                    json!({"AssumeRolePolicyDocument":
                trust(json!({"AWS": arn("user/carol")}), json!({}))})
                )]);
                both
            },
            0,
        ),
        (
            "everybody is trusted",
            &[],
            roles(&[role(
                "New",
                json!({"AssumeRolePolicyDocument":
            trust(json!("*"), json!({}))}),
            )]),
            1,
        ),
        (
            "every tenant of a shared issuer is trusted",
            &[],
            {
                let mut both = roles(&[role(
                    "New",
                    json!({"AssumeRolePolicyDocument": trust(json!({"Federated": github}), json!({}))}),
                )]);
                both["Brevet"] = json!({"OpenIDConnectProviders": [provider]});
                both
            },
            1,
        ),
        (
            "one tenant of it",
            &[],
            {
                let condition = json!({"StringEquals": {"token.actions.githubusercontent.com:aud": "sts.amazonaws.com",
                "token.actions.githubusercontent.com:sub": "repo:org/app:ref:refs/heads/main"}});
                let mut both = roles(&[role(
                    "New",
                    json!({"AssumeRolePolicyDocument": trust(json!({"Federated": github}), condition)}),
                )]);
                both["Brevet"] = json!({"OpenIDConnectProviders": [provider]});
                both
            },
            0,
        ),
        (
            "a version of the policy language that is none",
            &[],
            roles(&[role(
                "New",
                json!({"AssumeRolePolicyDocument":
            {"Version": "2013-10-17", "Statement": []}}),
            )]),
            1,
        ),
        (
            "an inline policy that is too long",
            &[],
            roles(&[role("New", json!({"RolePolicyList": wide}))]),
            1,
        ),
        (
            "a session of a second",
            &[],
            roles(&[role("New", json!({"MaxSessionDuration": 1}))]),
            1,
        ),
        (
            "a secret that is too short",
            &[],
            brevet_section(
                json!({"AccessKeys": [key("administrator", "AKIA5VZ3DEXAMPLE2345", "short")]}),
            ),
            1,
        ),
        (
            "a key of a user that is not here",
            &[],
            brevet_section(json!({"AccessKeys": [key("nobody", "AKIA5VZ3DEXAMPLE2345", good)]})),
            1,
        ),
        (
            "a seed that is none",
            &[],
            brevet_section(json!({"MFADevices": [{"SerialNumber": arn("mfa/x"),
            "UserArn": arn("user/administrator"), "Base32StringSeed": "!!!"}]})),
            1,
        ),
        (
            "a provider without https",
            &[],
            brevet_section(json!({"OpenIDConnectProviders":
            [{"Arn": arn("oidc-provider/idp.example.com"), "Url": "http://idp.example.com", "ClientIDList": ["x"]}]})),
            1,
        ),
        (
            "SAML metadata that is none",
            &[],
            brevet_section(json!({"SAMLProviders":
            [{"Arn": arn("saml-provider/S"), "SAMLMetadataDocument": "<x/>"}]})),
            1,
        ),
        (
            "the policy of a bucket",
            &[],
            bucket(arn("user/administrator"), "arn:aws:s3:::data/*"),
            0,
        ),
        (
            "the policy of a bucket for a user who is not here",
            &[],
            bucket(arn("user/nobody"), "arn:aws:s3:::data/*"),
            1,
        ),
        (
            "the policy of a bucket about another bucket",
            &[],
            bucket(arn("user/administrator"), "arn:aws:s3:::other/*"),
            1,
        ),
        (
            "an instance profile with two roles",
            &[],
            brevet_section(json!({"InstanceProfiles": [{"Path": "/",
            "InstanceProfileName": "I", "Arn": arn("instance-profile/I"),
            "Roles": [{"RoleName": "Administrator"}, {"RoleName": "Other"}]}]})),
            1,
        ),
        (
            "a page of an export",
            &[],
            json!({"IsTruncated": true, "Marker": "x"}),
            1,
        ),
        (
            "a field that is misspelt",
            &[],
            json!({"RoleDetailLists": []}),
            1,
        ),
        (
            "--prune: the user goes that a role trusts",
            &["--prune"],
            roles(&[role(
                "Administrator",
                json!({
            "AssumeRolePolicyDocument": trust(json!({"AWS": arn("user/administrator")}), json!({}))}),
            )]),
            1,
        ),
        (
            "--prune: the role goes, its user stays",
            &["--prune", "--allow-lockout"],
            json!({"UserDetailList": [administrator]}),
            0,
        ),
        (
            "--prune: everything goes but one new role",
            &["--prune", "--allow-lockout"],
            roles(&[role("New", json!({}))]),
            0,
        ),
        (
            "--prune: the last administrator goes",
            &["--prune"],
            roles(&[role("New", json!({}))]),
            1,
        ),
        (
            "several errors at once",
            &[],
            roles(&[
                role("One", json!({"MaxSessionDuration": 1})),
                role("Two", json!({"Path": "x"})),
                role("Three", json!({})),
            ]),
            1,
        ),
    ];
    let mut cases: Vec<Case> = list
        .into_iter()
        .map(|(what, more, file, exit)| (what, more, file.to_string(), exit))
        .collect();
    cases.push(("a file that is not JSON", &[], "not JSON".to_owned(), 1));
    cases
}

fn import(home: &Home, file: &str, more: &[&str]) -> Output {
    brevet()
        .args(["import", "--config"])
        .arg(home.config())
        .arg(file)
        .args(more)
        .output()
        .unwrap()
}

fn exported(home: &Home) -> Vec<u8> {
    let output = home.try_run(&["export"]);
    assert!(output.status.success());
    output.stdout
}

#[test]
fn a_try_has_the_verdict_of_the_deed() {
    let cases = cases();
    assert!(cases.len() >= 30, "{}", cases.len());
    let mut wrong = Vec::new();
    println!("{:>3}  {:>5}  {:>7}  tried", "#", "alone", "--apply");
    for (n, (what, more, text, expected)) in cases.iter().enumerate() {
        let home = Home::init();
        let file = home.path.join("file.json");
        brevet::files::write_private(&file, text.as_bytes()).unwrap();
        let file = file.to_str().unwrap();
        let before = exported(&home);
        let dry = import(&home, file, more);
        assert_eq!(exported(&home), before, "{what}: a try changes nothing");
        let apply: Vec<&str> = more.iter().copied().chain(["--apply"]).collect();
        let wet = import(&home, file, &apply);
        let status = |output: &Output| output.status.code().unwrap();
        println!(
            "{:>3}  {:>5}  {:>7}  {what}",
            n + 1,
            status(&dry),
            status(&wet)
        );
        let said = |output: &Output| String::from_utf8_lossy(&output.stderr).into_owned();
        if status(&dry) != status(&wet) || status(&dry) != *expected {
            wrong.push(format!(
                "{what}: {} and {}, expected {expected}\n{}\n{}",
                status(&dry),
                status(&wet),
                said(&dry),
                said(&wet)
            ));
        }
        if status(&wet) == 1 {
            assert_eq!(exported(&home), before, "{what}: all or nothing");
            assert!(
                said(&dry).starts_with("error: "),
                "{what}: errors come first: {}",
                said(&dry)
            );
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn a_store_that_refuses_the_deed_refuses_the_try() {
    let home = Home::init();
    let file = home.path.join("file.json");
    brevet::files::write_private(
        &file,
        roles(&[role("New", json!({}))]).to_string().as_bytes(),
    )
    .unwrap();
    let file = file.to_str().unwrap();
    // The log of commands cannot be written.
    std::fs::remove_file(home.path.join("audit.commands.jsonl")).unwrap();
    std::os::unix::fs::symlink("/dev/null", home.path.join("audit.commands.jsonl")).unwrap();
    assert_eq!(
        (
            import(&home, file, &[]).status.code(),
            import(&home, file, &["--apply"]).status.code()
        ),
        (Some(1), Some(1))
    );
    std::fs::remove_file(home.path.join("audit.commands.jsonl")).unwrap();
    // Somebody else could have written the file.
    std::fs::set_permissions(file, std::fs::Permissions::from_mode(0o666)).unwrap();
    assert_eq!(
        (
            import(&home, file, &[]).status.code(),
            import(&home, file, &["--apply"]).status.code()
        ),
        (Some(1), Some(1))
    );
    std::fs::set_permissions(file, std::fs::Permissions::from_mode(0o600)).unwrap();
    // Another process writes and does not end.
    let locked = Command::new("python3")
        .args(["-c", "import sqlite3, sys, time\nc = sqlite3.connect(sys.argv[1])\nc.execute('BEGIN IMMEDIATE')\nprint(1, flush=True)\ntime.sleep(60)"])
        .arg(home.path.join("store.db"))
        .stdout(std::process::Stdio::piped())
        .spawn();
    let mut locked = locked.unwrap();
    let mut byte = [0];
    std::io::Read::read_exact(locked.stdout.as_mut().unwrap(), &mut byte).unwrap();
    let statuses = (
        import(&home, file, &[]).status.code(),
        import(&home, file, &["--apply"]).status.code(),
    );
    locked.kill().unwrap();
    locked.wait().unwrap();
    assert_eq!(statuses, (Some(1), Some(1)));
    assert!(import(&home, file, &["--apply"]).status.success());
}

#[test]
fn what_policy_check_warns_of_and_what_means_nothing_here_is_named() {
    let home = Home::init();
    let statement = |more: &str| {
        let text =
            format!(r#"{{"Version":"2012-10-17","Statement":[{{"Effect":"Allow",{more}}}]}}"#);
        serde_json::from_str::<Value>(&text).unwrap()
    };
    let service = statement(
        r#""Principal":{"Service":["ec2.amazonaws.com","lambda.amazonaws.com"]},"Action":"sts:AssumeRole""#,
    );
    let saml = statement(
        r#""Principal":{"Federated":"arn:aws:iam::111122223333:saml-provider/S"},"Action":"sts:AssumeRoleWithSAML","Condition":{"StringEquals":{"SAML:aud":"x"}}"#,
    );
    let absent = statement(
        r#""Action":"sts:AsumeRole","Resource":"*","Condition":{"StringEquals":{"aws:SourceVpc":"v"}}"#,
    );
    let file = json!({
        "RoleDetailList": [
            role("Service", json!({"AssumeRolePolicyDocument": service, "MaxSigninSessionDuration": 3600,
                "RoleLastUsed": {}, "InstanceProfileList": [{"Path": "/", "InstanceProfileName": "I",
                "Arn": arn("instance-profile/I"), "Roles": [{"RoleName": "Service"}]}]})),
            role("Saml", json!({"AssumeRolePolicyDocument": saml,
                "RolePolicyList": [{"PolicyName": "own", "PolicyDocument": absent}]})),
        ],
    });
    let path = home.path.join("file.json");
    brevet::files::write_private(&path, file.to_string().as_bytes()).unwrap();
    let path = path.to_str().unwrap();
    let dry = import(&home, path, &[]);
    let said = String::from_utf8_lossy(&dry.stderr).into_owned();
    assert!(dry.status.success(), "{said}");
    for named in [
        "names lambda.amazonaws.com, but no AWS service ever calls this broker",
        "MaxSigninSessionDuration",
        "instance profile arn:aws:iam::111122223333:instance-profile/I",
        "inline policy own: no request to this broker has the key `aws:sourcevpc`",
        "[absent-key]",
        "did you mean `sts:AssumeRole`?",
    ] {
        assert!(
            said.to_lowercase().contains(&named.to_lowercase()),
            "{named}: {said}"
        );
    }
    assert!(
        !said.contains("RoleLastUsed"),
        "what AWS observes is not declared: {said}"
    );
    // Each finding of `brevet policy check` is among the warnings.
    let document = home.path.join("own.json");
    std::fs::write(&document, absent.to_string()).unwrap();
    let checked = brevet()
        .args(["policy", "check", "--kind", "identity", "--json"])
        .arg(&document)
        .output()
        .unwrap();
    let findings = String::from_utf8(checked.stdout).unwrap();
    assert!(findings.lines().count() >= 2, "{findings}");
    for line in findings.lines() {
        let finding: Value = serde_json::from_str(line).unwrap();
        assert!(
            said.contains(finding["message"].as_str().unwrap()),
            "{line}: {said}"
        );
    }
}

#[test]
fn what_an_import_replaces_can_be_brought_back() {
    let home = Home::init();
    let before = exported(&home);
    let mut declared: Value = serde_json::from_slice(&before).unwrap();
    declared["RoleDetailList"][0]["MaxSessionDuration"] = json!(7_200);
    let file = home.path.join("file.json");
    brevet::files::write_private(&file, declared.to_string().as_bytes()).unwrap();
    let applied = import(&home, file.to_str().unwrap(), &["--apply"]);
    let said = String::from_utf8_lossy(&applied.stderr).into_owned();
    assert!(
        applied.status.success() && exported(&home) != before,
        "{said}"
    );
    let way_back = said
        .lines()
        .find_map(|l| l.strip_prefix("To restore them: brevet import --config "))
        .unwrap();
    let (config, kept) = way_back
        .strip_suffix(" --apply")
        .and_then(|files| files.split_once(' '))
        .unwrap();
    assert!(config.ends_with("brevet.toml"), "{way_back}");
    assert_eq!(
        std::fs::metadata(kept).unwrap().permissions().mode() & 0o777,
        0o600
    );
    assert!(import(&home, kept, &["--apply"]).status.success());
    assert_eq!(exported(&home), before);
}
