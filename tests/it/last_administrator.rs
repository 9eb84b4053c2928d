//! The last administrator cannot be taken away unnoticed: by an import, or by the IAM API.

use brevet::client::Credentials;
use serde_json::{Value, json};

use crate::binary::Home;

const ACCOUNT: &str = "111122223333";

fn arn(what: &str) -> String {
    format!("arn:aws:iam::{ACCOUNT}:{what}")
}

fn document(statements: Value) -> Value {
    json!({"Version": "2012-10-17", "Statement": statements})
}

fn everything() -> Value {
    document(json!([{"Effect": "Allow", "Action": "*", "Resource": "*"}]))
}

/// Everything, but only with an MFA code.
fn everything_with_a_code() -> Value {
    document(json!([{"Effect": "Allow", "Action": "*", "Resource": "*",
        "Condition": {"Bool": {"aws:MultiFactorAuthPresent": "true"}}}]))
}

fn user(name: &str, more: Value) -> Value {
    let mut user = json!({"UserName": name, "Arn": arn(&format!("user/{name}"))});
    for (field, value) in more.as_object().unwrap() {
        user[field] = value.clone();
    }
    user
}

fn inline(document: Value) -> Value {
    json!([{"PolicyName": "own", "PolicyDocument": document}])
}

fn policy(name: &str, document: Value) -> Value {
    json!({"PolicyName": name, "Arn": arn(&format!("policy/{name}")), "DefaultVersionId": "v1",
        "PolicyVersionList": [{"VersionId": "v1", "IsDefaultVersion": true, "Document": document}]})
}

fn attached(name: &str) -> Value {
    json!([{"PolicyName": name, "PolicyArn": arn(&format!("policy/{name}"))}])
}

fn key_id(name: &str) -> String {
    format!("AKIAADMIN{:0>11}", name.to_ascii_uppercase())
}

fn secret(name: &str) -> String {
    format!("canary+secret/of/{name:0>23}")
}

fn key(name: &str, status: &str) -> Value {
    json!({"UserArn": arn(&format!("user/{name}")), "AccessKeyId": key_id(name), "SecretAccessKey": secret(name), "Status": status})
}

/// An administrator by a policy of a group, within a boundary. There is no other.
fn administrator() -> Value {
    json!({
        "Policies": [policy("All", everything()), policy("Bound", everything())],
        "GroupDetailList": [{"GroupName": "admins", "Arn": arn("group/admins"), "AttachedManagedPolicies": attached("All")}],
        "UserDetailList": [user("ann", json!({"GroupList": ["admins"],
            "PermissionsBoundary": {"PermissionsBoundaryType": "Policy", "PermissionsBoundaryArn": arn("policy/Bound")}}))],
        "Brevet": {"AccessKeys": [key("ann", "Active")]},
    })
}

/// A second one, who may administer by a role that a user without other permissions can assume.
fn second() -> Value {
    let trust = document(
        json!([{"Effect": "Allow", "Principal": {"AWS": arn("user/bea")}, "Action": "sts:AssumeRole"}]),
    );
    json!({
        "UserDetailList": [user("bea", json!({}))],
        "RoleDetailList": [{"RoleName": "Admin", "Arn": arn("role/Admin"), "AssumeRolePolicyDocument": trust,
            "RolePolicyList": inline(everything())}],
        "Brevet": {"AccessKeys": [key("bea", "Active")]},
    })
}

/// Both files in one.
fn merged(one: &Value, two: &Value) -> Value {
    match (one, two) {
        (Value::Object(one), Value::Object(two)) => {
            let mut all = one.clone();
            for (name, value) in two {
                let before = all.get(name).cloned().unwrap_or(Value::Null);
                all.insert(name.clone(), merged(&before, value));
            }
            Value::Object(all)
        }
        (Value::Array(one), Value::Array(two)) => Value::Array([one.clone(), two.clone()].concat()),
        (_, two) => two.clone(),
    }
}

struct World(Home);

impl World {
    /// A store whose only administrators are those of a file.
    fn of(file: &Value) -> Self {
        let world = Self(Home::init());
        let (ok, text) = world.import(file, &["--prune", "--apply"]);
        assert!(ok, "{text}");
        world
    }

    fn import(&self, file: &Value, more: &[&str]) -> (bool, String) {
        let path = self.0.path.join("file.json");
        brevet::files::write_private(&path, file.to_string().as_bytes()).unwrap();
        let arguments = [&["import", path.to_str().unwrap()], more].concat();
        let output = self.0.try_run(&arguments);
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        (output.status.success(), text)
    }
}

fn denies() -> Value {
    document(json!([{"Effect": "Deny", "Action": "iam:*", "Resource": "*"}]))
}

fn organization() -> Value {
    let targets = ["r-exam", ACCOUNT, "999988887777"].map(|id| json!({"TargetId": id}));
    let scp = |id: &str, content: Value, targets: Value| json!({"PolicySummary": {"Id": id, "Type": "SERVICE_CONTROL_POLICY"}, "Content": content, "Targets": targets});
    json!({"Brevet": {"Organization": {"Id": "o-exampleorgid", "MasterAccountId": "999988887777", "Roots": [{"Id": "r-exam"}],
        "Accounts": [{"Id": ACCOUNT, "ParentId": "r-exam"}, {"Id": "999988887777", "ParentId": "r-exam"}],
        "Policies": [scp("p-FullAWSAccess", everything(), json!(targets)),
            scp("p-noiamhere", denies(), json!([{"TargetId": "r-exam"}]))]}}})
}

/// Changes that take the administrator away, each as a file; and whether another one in the same file
/// would be left.
fn changes() -> Vec<(&'static str, Value, bool)> {
    let ann = |more: Value| json!({"UserDetailList": [user("ann", more)]});
    let bound =
        json!({"PermissionsBoundaryType": "Policy", "PermissionsBoundaryArn": arn("policy/Bound")});
    let users_only = json!([{"Effect": "Allow", "Action": "iam:*", "Resource": arn("user/*")}]);
    let sts_only = json!([{"Effect": "Allow", "Action": "sts:*", "Resource": "*"}]);
    vec![
        (
            "the access key is inactive",
            json!({"Brevet": {"AccessKeys": [key("ann", "Inactive")]}}),
            true,
        ),
        (
            "the user leaves the group",
            ann(json!({"PermissionsBoundary": bound})),
            true,
        ),
        (
            "a policy of its own denies",
            ann(json!({"GroupList": ["admins"], "UserPolicyList": inline(denies())})),
            true,
        ),
        (
            "the group has no policy",
            json!({"GroupDetailList": [{"GroupName": "admins", "Arn": arn("group/admins")}]}),
            true,
        ),
        (
            "the policy allows less",
            json!({"Policies": [policy("All", document(users_only))]}),
            true,
        ),
        (
            "the boundary allows less",
            json!({"Policies": [policy("Bound", document(sts_only))]}),
            true,
        ),
        (
            "a code is demanded, and there is no device",
            json!({"Policies": [policy("All", everything_with_a_code())]}),
            true,
        ),
        ("the organization denies", organization(), false),
    ]
}

#[test]
fn an_import_after_which_nobody_administers_is_refused_and_one_that_leaves_another_is_not() {
    let world = World::of(&administrator());
    for (name, file, leaves_others) in changes() {
        for more in [&[][..], &["--apply"]] {
            let (ok, text) = world.import(&file, more);
            assert!(
                !ok && text.contains("UnmodifiableEntity: nobody could administer"),
                "{name}: {text}"
            );
            assert!(text.contains("--allow-lockout"), "{name}: {text}");
        }
        // The control: with another administrator in the same file, nothing is wrong with the change.
        let (ok, text) = world.import(&merged(&file, &second()), &[]);
        assert_eq!(ok, leaves_others, "{name}: {text}");
        assert_eq!(
            text.contains("UnmodifiableEntity"),
            !leaves_others,
            "{name}: {text}"
        );
    }
    // Whoever has the host may do it all the same, and then nothing is there to lose.
    let (_, file, _) = changes().swap_remove(0);
    let (ok, text) = world.import(&file, &["--apply", "--allow-lockout"]);
    assert!(ok, "{text}");
    let (_, file, _) = changes().swap_remove(2);
    let (ok, text) = world.import(&file, &["--apply"]);
    assert!(ok, "nobody administered before: {text}");
    // And it is the way back.
    let (ok, text) = world.import(&second(), &["--apply"]);
    assert!(ok, "{text}");
    let inactive = json!({"Brevet": {"AccessKeys": [key("bea", "Inactive")]}});
    let (ok, text) = world.import(&inactive, &["--apply"]);
    assert!(!ok && text.contains("UnmodifiableEntity"), "{text}");
}

#[test]
fn the_last_administrator_is_not_deleted() {
    let world = World::of(&administrator());
    let empty = json!({"Brevet": {"Accounts": [{"AccountId": ACCOUNT}]}});
    let (ok, text) = world.import(&empty, &["--prune"]);
    assert!(!ok && text.contains("UnmodifiableEntity"), "{text}");
    let (ok, text) = world.import(&second(), &["--prune", "--apply"]);
    assert!(ok, "{text}");
    // A role counts as long as it trusts a user with a key.
    let mut closed = second();
    closed["RoleDetailList"][0]["AssumeRolePolicyDocument"]["Statement"][0]["Principal"]["AWS"] =
        json!("999988887777");
    let (ok, text) = world.import(&closed, &[]);
    assert!(!ok && text.contains("UnmodifiableEntity"), "{text}");
    // A provider that the role trusts can let somebody in as well.
    let provider = arn("oidc-provider/idp.example.com");
    closed["RoleDetailList"][0]["AssumeRolePolicyDocument"]["Statement"][0] = json!({
        "Effect": "Allow", "Principal": {"Federated": provider}, "Action": "sts:AssumeRoleWithWebIdentity",
        "Condition": {"StringEquals": {"idp.example.com:aud": "c", "idp.example.com:sub": "bea"}}});
    closed["Brevet"]["OpenIDConnectProviders"] =
        json!([{"Arn": provider, "Url": "https://idp.example.com", "ClientIDList": ["c"]}]);
    let (ok, text) = world.import(&closed, &[]);
    assert!(ok, "{text}");
}

/// An administrator who needs a code has a device that somebody else could take away.
#[tokio::test]
async fn the_iam_api_does_not_take_the_last_administrator_away() {
    let serial = arn("mfa/ann");
    let helps = document(
        json!([{"Effect": "Allow", "Action": "iam:DeactivateMFADevice", "Resource": "*"}]),
    );
    let world = World::of(&json!({
        "UserDetailList": [user("ann", json!({"UserPolicyList": inline(everything_with_a_code())})),
            user("helper", json!({"UserPolicyList": inline(helps)}))],
        "Brevet": {"AccessKeys": [key("ann", "Active"), key("helper", "Active")],
            "MFADevices": [{"SerialNumber": serial, "UserArn": arn("user/ann"), "Base32StringSeed": "JBSWY3DPEHPK3PXPJBSWY3DPEHPK3PXP"}]},
    }));
    let daemon = world.0.serve();
    let client = daemon.client(&Credentials::long_term(
        &key_id("helper"),
        &secret("helper"),
    ));
    let device = [("UserName", "ann"), ("SerialNumber", serial.as_str())];
    let refused = client
        .iam("DeactivateMFADevice", &device)
        .await
        .unwrap_err();
    assert_eq!(crate::harness::code(&refused), "UnmodifiableEntity");
    assert!(
        refused.to_string().contains("Nobody could administer"),
        "{refused}"
    );
    // The control: the same call, once there is another administrator.
    let (ok, text) = world.import(&second(), &["--apply"]);
    assert!(ok, "{text}");
    crate::harness::eventually("the other administrator is known", async || {
        client.iam("DeactivateMFADevice", &device).await.is_ok()
    })
    .await;
}
