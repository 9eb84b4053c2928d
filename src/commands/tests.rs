use std::time::Duration;

use serde_json::{Value, json};

use super::change::digest;
use super::*;
use crate::base::entropy::SystemEntropy;
use crate::directory::declaration::Declaration;
use crate::directory::resource::ResourceKind;
use crate::store::{Access, Attempt, LastUse, Matched, Place};
use crate::{directory, mfa};

mod limits;
mod passwords;

const ACCOUNT: &str = "111122223333";
const NOW: Timestamp = Timestamp::from_seconds(1_000_000_000);

struct World {
    store: Store,
    master_key: MasterKey,
    entropy: SystemEntropy,
}

impl World {
    async fn new() -> Self {
        let entropy = SystemEntropy::new();
        let master_key = MasterKey::ephemeral(&entropy).unwrap();
        let store = Store::open(
            &Place::Memory,
            Access::Create,
            Some(&master_key),
            NOW,
            &entropy,
        )
        .await
        .unwrap();
        let world = Self {
            store,
            master_key,
            entropy,
        };
        world
            .run(create("account", json!({"AccountId": ACCOUNT})))
            .await
            .unwrap();
        world
    }

    fn cx(&self) -> CommandContext<'_> {
        CommandContext {
            store: &self.store,
            master_key: &self.master_key,
            entropy: &self.entropy,
            now: NOW,
            issuer: None,
        }
    }

    async fn run(&self, command: Command) -> Result<i64, CommandError> {
        self.run_as("Test", command).await
    }

    async fn run_as(&self, action: &'static str, command: Command) -> Result<i64, CommandError> {
        execute(self.cx(), &Actor::operator("test"), action, vec![command]).await
    }

    async fn version(&self, name: &Name) -> i64 {
        let mut writer = self.store.write().await.unwrap();
        let version = writer.get(name).await.unwrap().unwrap().version;
        writer.abandon().await;
        version
    }

    async fn changes(&self) -> Vec<crate::store::Change> {
        self.store.feed_after(0, 10_000).await.unwrap()
    }
}

fn create(kind: &str, body: Value) -> Command {
    Command::Create(Resource::parse(ResourceKind::parse(kind).unwrap(), &body.to_string()).unwrap())
}

fn arn(kind: &str, name: &str) -> String {
    format!("arn:aws:iam::{ACCOUNT}:{kind}/{name}")
}

fn user(name: &str) -> Command {
    create("user", json!({"UserName": name, "Arn": arn("user", name)}))
}

fn edit(kind: ResourceKind, id: &str, edit: Edit) -> Command {
    Command::Edit {
        name: Name::new(kind, id),
        edit,
        expected: None,
    }
}

fn delete(kind: ResourceKind, id: &str) -> Command {
    Command::Delete {
        name: Name::new(kind, id),
        expected: None,
    }
}

const ALLOW: &str =
    r#"{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"s3:*","Resource":"*"}]}"#;
const TRUST: &str = r#"{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":{"AWS":"111122223333"},"Action":"sts:AssumeRole"}]}"#;

fn role(name: &str) -> Command {
    let trust: Value = serde_json::from_str(TRUST).unwrap();
    create(
        "role",
        json!({"RoleName": name, "Arn": arn("role", name), "AssumeRolePolicyDocument": trust}),
    )
}

fn policy(name: &str) -> Command {
    let document: Value = serde_json::from_str(ALLOW).unwrap();
    create(
        "policy",
        json!({"PolicyName": name, "Arn": arn("policy", name), "DefaultVersionId": "v1",
        "PolicyVersionList": [{"VersionId": "v1", "IsDefaultVersion": true, "Document": document}]}),
    )
}

fn key(id: &str, user: &str) -> Command {
    create(
        "access-key",
        json!({"AccessKeyId": id, "UserArn": arn("user", user), "SecretAccessKey": "a-secret-that-is-long-enough-0123456789"}),
    )
}

/// The error code of IAM, or `ok` if there is no error.
fn code(result: &Result<i64, CommandError>) -> String {
    match result {
        Ok(_) => "ok".to_owned(),
        Err(error) => error
            .to_string()
            .split(':')
            .next()
            .unwrap_or_default()
            .to_owned(),
    }
}

#[tokio::test]
async fn aws_rules_hold_at_the_door() {
    let world = World::new().await;
    let long = "x".repeat(65);
    let cases: Vec<(&str, Command, &str)> = vec![
        ("a user", user("alice"), "ok"),
        ("the same name", user("alice"), "EntityAlreadyExists"),
        (
            "the same name in another case",
            user("ALICE"),
            "EntityAlreadyExists",
        ),
        ("a name with a space", user("a b"), "ValidationError"),
        ("a name that is too long", user(&long), "ValidationError"),
        (
            "a path that does not end",
            create(
                "user",
                json!({"UserName": "p", "Path": "/x", "Arn": arn("user", "xp")}),
            ),
            "ValidationError",
        ),
        (
            "an ARN of another name",
            create("user", json!({"UserName": "q", "Arn": arn("user", "r")})),
            "ValidationError",
        ),
        (
            "an account that is not there",
            create(
                "user",
                json!({"UserName": "u", "Arn": "arn:aws:iam::999999999999:user/u"}),
            ),
            "NoSuchEntity",
        ),
        ("a key", key("AKIATESTTESTTESTTES1", "alice"), "ok"),
        ("a second key", key("AKIATESTTESTTESTTES2", "alice"), "ok"),
        (
            "a third key",
            key("AKIATESTTESTTESTTES3", "alice"),
            "LimitExceeded",
        ),
        (
            "a key of nobody",
            key("AKIATESTTESTTESTTES4", "nobody"),
            "NoSuchEntity",
        ),
        ("a role", role("Deploy"), "ok"),
        (
            "a role without trust",
            create("role", json!({"RoleName": "R", "Arn": arn("role", "R")})),
            "MalformedPolicyDocument",
        ),
        (
            "a trust policy that is none",
            edit(
                ResourceKind::Role,
                &arn("role", "Deploy"),
                Edit::UpdateAssumeRolePolicy("{\"Statement\":[]}".into()),
            ),
            "MalformedPolicyDocument",
        ),
        (
            "a session duration out of bounds",
            edit(
                ResourceKind::Role,
                &arn("role", "Deploy"),
                Edit::UpdateMaxSessionDuration(129_601),
            ),
            "ValidationError",
        ),
        ("a policy", policy("P"), "ok"),
        (
            "attaching it",
            edit(
                ResourceKind::Role,
                &arn("role", "Deploy"),
                Edit::AttachPolicy(arn("policy", "P")),
            ),
            "ok",
        ),
        (
            "attaching one that is not there",
            edit(
                ResourceKind::User,
                &arn("user", "alice"),
                Edit::AttachPolicy(arn("policy", "Q")),
            ),
            "NoSuchEntity",
        ),
        (
            "a boundary",
            edit(
                ResourceKind::User,
                &arn("user", "alice"),
                Edit::PutPermissionsBoundary(arn("policy", "P")),
            ),
            "ok",
        ),
        (
            "deleting a policy in use",
            delete(ResourceKind::Policy, &arn("policy", "P")),
            "DeleteConflict",
        ),
        (
            "deleting a role with a policy",
            delete(ResourceKind::Role, &arn("role", "Deploy")),
            "DeleteConflict",
        ),
        (
            "deleting a user with keys",
            delete(ResourceKind::User, &arn("user", "alice")),
            "DeleteConflict",
        ),
        (
            "deleting an account with users",
            delete(ResourceKind::Account, ACCOUNT),
            "DeleteConflict",
        ),
        (
            "an inline policy that is too long",
            edit(
                ResourceKind::User,
                &arn("user", "alice"),
                Edit::PutPolicy(
                    "big".into(),
                    format!(
                        "{{\"Statement\":{{\"Effect\":\"Allow\",\"Action\":\"s3:*\",\"Resource\":\"arn:aws:s3:::{}\"}}}}",
                        "b".repeat(2_048)
                    ),
                ),
            ),
            "LimitExceeded",
        ),
        (
            "detaching what is not attached",
            edit(
                ResourceKind::User,
                &arn("user", "alice"),
                Edit::DetachPolicy(arn("policy", "P")),
            ),
            "NoSuchEntity",
        ),
        (
            "a group",
            create(
                "group",
                json!({"GroupName": "devs", "Arn": arn("group", "devs")}),
            ),
            "ok",
        ),
        (
            "joining it, in another case",
            edit(
                ResourceKind::User,
                &arn("user", "alice"),
                Edit::AddToGroup("DEVS".into()),
            ),
            "ok",
        ),
        (
            "joining one that is not there",
            edit(
                ResourceKind::User,
                &arn("user", "alice"),
                Edit::AddToGroup("ops".into()),
            ),
            "NoSuchEntity",
        ),
        (
            "deleting a group with members",
            delete(ResourceKind::Group, &arn("group", "devs")),
            "DeleteConflict",
        ),
        (
            "fifty-one tags",
            edit(
                ResourceKind::Role,
                &arn("role", "Deploy"),
                Edit::Tag((0..51).map(|n| (n.to_string(), String::new())).collect()),
            ),
            "LimitExceeded",
        ),
        (
            "a profile",
            create(
                "instance-profile",
                json!({"InstanceProfileName": "web", "Arn": arn("instance-profile", "web")}),
            ),
            "ok",
        ),
        (
            "its role",
            edit(
                ResourceKind::InstanceProfile,
                &arn("instance-profile", "web"),
                Edit::AddRole("Deploy".into()),
            ),
            "ok",
        ),
        (
            "a second role",
            edit(
                ResourceKind::InstanceProfile,
                &arn("instance-profile", "web"),
                Edit::AddRole("Deploy".into()),
            ),
            "LimitExceeded",
        ),
        (
            "something that is not there",
            delete(ResourceKind::User, &arn("user", "bob")),
            "NoSuchEntity",
        ),
        (
            "an alias that is none",
            edit(
                ResourceKind::Account,
                ACCOUNT,
                Edit::SetAlias(Some("No Alias".into())),
            ),
            "ValidationError",
        ),
        (
            "tags on a group",
            edit(
                ResourceKind::Group,
                &arn("group", "devs"),
                Edit::Tag(vec![("k".into(), "v".into())]),
            ),
            "ValidationError",
        ),
    ];
    for (what, command, expected) in cases {
        let before = world.store.head().await.unwrap().sequence;
        let result = world.run(command).await;
        assert_eq!(code(&result), expected, "{what}: {result:?}");
        let after = world.store.head().await.unwrap().sequence;
        assert_eq!(
            after > before,
            expected == "ok",
            "{what}: a refusal changes nothing"
        );
    }
}

#[tokio::test]
async fn versions_of_a_policy_come_and_go() {
    let world = World::new().await;
    let id = arn("policy", "P");
    world.run(policy("P")).await.unwrap();
    let version = |default| {
        edit(
            ResourceKind::Policy,
            &id,
            Edit::CreatePolicyVersion(ALLOW.into(), default),
        )
    };
    for _ in 0..4 {
        world.run(version(true)).await.unwrap();
    }
    assert_eq!(code(&world.run(version(false)).await), "LimitExceeded");
    assert_eq!(
        code(
            &world
                .run(edit(
                    ResourceKind::Policy,
                    &id,
                    Edit::DeletePolicyVersion("v5".into())
                ))
                .await
        ),
        "DeleteConflict"
    );
    assert_eq!(
        code(
            &world
                .run(edit(
                    ResourceKind::Policy,
                    &id,
                    Edit::SetDefaultPolicyVersion("v9".into())
                ))
                .await
        ),
        "NoSuchEntity"
    );
    assert_eq!(
        code(&world.run(delete(ResourceKind::Policy, &id)).await),
        "DeleteConflict"
    );
    for v in ["v1", "v2", "v3", "v4"] {
        world
            .run(edit(
                ResourceKind::Policy,
                &id,
                Edit::DeletePolicyVersion(v.into()),
            ))
            .await
            .unwrap();
    }
    world.run(delete(ResourceKind::Policy, &id)).await.unwrap();
}

#[tokio::test]
async fn two_administrators_lose_no_update() {
    let world = World::new().await;
    world.run(role("Deploy")).await.unwrap();
    let name = Name::new(ResourceKind::Role, arn("role", "Deploy"));
    let seen = world.version(&name).await;
    let change = |seconds, expected| Command::Edit {
        name: name.clone(),
        edit: Edit::UpdateMaxSessionDuration(seconds),
        expected: Some(expected),
    };
    world.run(change(7_200, seen)).await.unwrap();
    let second = world.run(change(3_600, seen)).await.unwrap_err();
    assert!(
        matches!(second, CommandError::ConcurrentModification { expected, .. } if expected == seen),
        "{second}"
    );
    world
        .run(change(3_600, world.version(&name).await))
        .await
        .unwrap();
}

#[tokio::test]
async fn commands_together_are_all_done_or_none() {
    let world = World::new().await;
    let before = world.store.head().await.unwrap();
    let both = execute(
        world.cx(),
        &Actor::operator("test"),
        "Test",
        vec![user("alice"), user("a b")],
    )
    .await;
    assert_eq!(code(&both), "ValidationError");
    assert_eq!(world.store.head().await.unwrap(), before);
    execute(
        world.cx(),
        &Actor::operator("test"),
        "Test",
        vec![user("alice"), key("AKIATESTTESTTESTTES1", "alice")],
    )
    .await
    .unwrap();
}

#[tokio::test]
async fn the_feed_says_who_what_before_and_after_and_no_secret() {
    let world = World::new().await;
    for (action, command) in [
        ("CreateUser", user("alice")),
        ("CreateAccessKey", key("AKIATESTTESTTESTTES1", "alice")),
        ("CreateRole", role("Deploy")),
    ] {
        world.run_as(action, command).await.unwrap();
    }
    let (deploy, id) = (arn("role", "Deploy"), "AKIATESTTESTTESTTES1");
    for (action, command) in [
        (
            "UpdateRole",
            edit(
                ResourceKind::Role,
                &deploy,
                Edit::UpdateMaxSessionDuration(7_200),
            ),
        ),
        (
            "UpdateAccessKey",
            edit(ResourceKind::AccessKey, id, Edit::SetActive(false)),
        ),
        ("DeleteRole", delete(ResourceKind::Role, &deploy)),
    ] {
        world.run_as(action, command).await.unwrap();
    }
    let changes = world.changes().await;
    assert!(
        changes.iter().zip(1..).all(|(c, n)| c.sequence == n),
        "no gap"
    );
    // The first made the account.
    let actions: Vec<&str> = changes.iter().skip(1).map(|c| c.action.as_str()).collect();
    assert_eq!(
        actions,
        [
            "CreateUser",
            "CreateAccessKey",
            "CreateRole",
            "UpdateRole",
            "UpdateAccessKey",
            "DeleteRole"
        ]
    );
    assert!(
        changes
            .iter()
            .all(|c| !c.detail.contains("a-secret-that-is-long") && c.actor.contains("test"))
    );
    let detail = |n: usize| serde_json::from_str::<Value>(&changes[n].detail).unwrap();
    assert!(
        detail(3)["After"]["AssumeRolePolicyDocument"]
            .as_str()
            .unwrap()
            .starts_with("sha256:")
    );
    assert_eq!(detail(4)["Before"], json!({"MaxSessionDuration": 3_600}));
    assert_eq!(detail(4)["After"], json!({"MaxSessionDuration": 7_200}));
    // Disabling a key and deleting a role end the sessions that came from them.
    assert_eq!(detail(5)["Revoked"][0]["Selector"], "access-key");
    assert_eq!(detail(6)["Revoked"][0]["Selector"], "role");
    assert_eq!(detail(6)["Revoked"][0]["BeforeSequence"], 7);
    // The whole resource is kept next to the feed, and each change contains the digests.
    let documents = world.store.documents_between(0, 100).await.unwrap();
    assert_eq!(
        documents.iter().map(|(n, _)| *n).collect::<Vec<_>>(),
        (1..=7).collect::<Vec<_>>()
    );
    for (n, (_, documents)) in documents.iter().enumerate() {
        for (text, name) in [
            (&documents.before, "BeforeSha256"),
            (&documents.after, "AfterSha256"),
        ] {
            assert_eq!(
                detail(n)[name].as_str(),
                text.as_deref().map(digest).as_deref(),
                "{n} {name}"
            );
            assert!(
                text.as_ref()
                    .is_none_or(|t| !t.contains("a-secret-that-is-long"))
            );
        }
    }
    let policy =
        |text: &Option<String>| text.as_ref().is_some_and(|t| t.contains("sts:AssumeRole"));
    assert!(
        policy(&documents[3].1.after)
            && policy(&documents[6].1.before)
            && documents[6].1.after.is_none()
    );
    // Both are kept for as long as the configuration says.
    let day = Duration::from_secs(86_400);
    let store = world.store.keeping_changes_for(60 * day);
    for (days, kept) in [(59, 7), (61, 1)] {
        store
            .sweep(NOW.plus(days * day), NOW.plus(days * day))
            .await
            .unwrap();
        assert_eq!(store.feed_after(0, 100).await.unwrap().len(), kept);
        assert_eq!(store.documents_between(0, 100).await.unwrap().len(), kept);
    }
}

#[tokio::test]
async fn a_renamed_user_keeps_keys_and_groups_and_loses_sessions() {
    let world = World::new().await;
    world
        .run(create(
            "group",
            json!({"GroupName": "devs", "Arn": arn("group", "devs")}),
        ))
        .await
        .unwrap();
    world.run(user("alice")).await.unwrap();
    world
        .run(edit(
            ResourceKind::User,
            &arn("user", "alice"),
            Edit::AddToGroup("devs".into()),
        ))
        .await
        .unwrap();
    world
        .run(key("AKIATESTTESTTESTTES1", "alice"))
        .await
        .unwrap();
    let rename = Edit::Rename {
        name: Some("alicia".into()),
        path: Some("/staff/".into()),
    };
    world
        .run(edit(ResourceKind::User, &arn("user", "alice"), rename))
        .await
        .unwrap();
    let rename = Edit::Rename {
        name: Some("developers".into()),
        path: None,
    };
    world
        .run(edit(ResourceKind::Group, &arn("group", "devs"), rename))
        .await
        .unwrap();
    let declared = directory::declared(export(&world.store).await.unwrap()).unwrap();
    let mut snapshot = Directory::empty().unwrap();
    for thing in &declared {
        snapshot.insert(thing, Some(&world.master_key)).unwrap();
    }
    for thing in &declared {
        snapshot.refers_to_what_is_there(thing).unwrap();
    }
    let key = snapshot.access_key("AKIATESTTESTTESTTES1").unwrap();
    assert_eq!(&*key.user_arn, &arn("user", "staff/alicia"));
    assert_eq!(
        key.secret.expose(),
        "a-secret-that-is-long-enough-0123456789"
    );
    let user = snapshot.user(&key.user_arn).unwrap();
    assert!(snapshot.effective_of_user(user).is_ok());
    let revoked = world
        .changes()
        .await
        .iter()
        .any(|c| c.detail.contains("principal") && c.detail.contains("user/alice"));
    assert!(revoked);
}

/// An export in AWS's format: 200 roles, 150 policies, boundaries, tags, groups, instance profiles,
/// and documents that are URL-encoded as in the IAM API.
fn realistic() -> String {
    use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
    let encoded = |text: String| json!(utf8_percent_encode(&text, NON_ALPHANUMERIC).to_string());
    let document = |n: usize| {
        format!(
            "{{\"Version\":\"2012-10-17\",\"Statement\":[{{\"Effect\":\"Allow\",\"Action\":\"s3:Get*\",\"Resource\":\"arn:aws:s3:::bucket-{n}/*\"}}]}}"
        )
    };
    let id = |prefix: &str, n: usize| format!("{prefix}{n:017}");
    let policies: Vec<Value> = (0..150)
        .map(|n| {
            let name = format!("Policy{n}");
            json!({"PolicyName": name, "PolicyId": id("ANPA", n), "Arn": arn("policy", &format!("team/{name}")), "Path": "/team/",
                "DefaultVersionId": "v2", "AttachmentCount": n % 3, "PermissionsBoundaryUsageCount": 1, "IsAttachable": true,
                "CreateDate": "2024-01-01T00:00:00+00:00", "UpdateDate": "2025-01-01T00:00:00+00:00",
                "PolicyVersionList": [
                    {"Document": encoded(document(n)), "VersionId": "v2", "IsDefaultVersion": true, "CreateDate": "2025-01-01T00:00:00+00:00"},
                    {"Document": encoded(document(n + 1000)), "VersionId": "v1", "IsDefaultVersion": false, "CreateDate": "2024-01-01T00:00:00+00:00"}]})
        })
        .collect();
    let attached = |n: usize| json!({"PolicyName": format!("Policy{n}"), "PolicyArn": arn("policy", &format!("team/Policy{n}"))});
    let boundary = |n: usize| json!({"PermissionsBoundaryType": "Policy", "PermissionsBoundaryArn": arn("policy", &format!("team/Policy{n}"))});
    let roles: Vec<Value> = (0..200)
        .map(|n| {
            let name = format!("Role{n}");
            let mut role = json!({"Path": "/service/", "RoleName": name, "RoleId": id("AROA", n), "Arn": arn("role", &format!("service/{name}")),
                "CreateDate": "2024-01-01T00:00:00+00:00", "AssumeRolePolicyDocument": encoded(TRUST.to_owned()),
                "InstanceProfileList": [], "RolePolicyList": [{"PolicyName": "own", "PolicyDocument": encoded(document(n))}],
                "AttachedManagedPolicies": [attached(n % 150)], "Tags": [{"Key": "team", "Value": format!("t{}", n % 7)}],
                "RoleLastUsed": {"LastUsedDate": "2025-06-01T00:00:00+00:00", "Region": "us-east-1"}});
            if n % 4 == 0 {
                role["PermissionsBoundary"] = boundary(n % 150);
            }
            if n % 50 == 0 {
                role["InstanceProfileList"] = json!([{"Path": "/", "InstanceProfileName": format!("Profile{n}"), "InstanceProfileId": id("AIPA", n),
                    "Arn": arn("instance-profile", &format!("Profile{n}")), "CreateDate": "2024-01-01T00:00:00+00:00",
                    "Roles": [{"Path": "/service/", "RoleName": name, "RoleId": id("AROA", n), "Arn": arn("role", &format!("service/{name}")),
                        "CreateDate": "2024-01-01T00:00:00+00:00", "AssumeRolePolicyDocument": encoded(TRUST.to_owned())}]}]);
            }
            role
        })
        .collect();
    let groups: Vec<Value> = (0..10)
        .map(|n| json!({"Path": "/", "GroupName": format!("Group{n}"), "GroupId": id("AGPA", n), "Arn": arn("group", &format!("Group{n}")),
            "CreateDate": "2024-01-01T00:00:00+00:00", "GroupPolicyList": [], "AttachedManagedPolicies": [attached(n)]}))
        .collect();
    let users: Vec<Value> = (0..30)
        .map(|n| json!({"Path": "/", "UserName": format!("user{n}"), "UserId": id("AIDA", n), "Arn": arn("user", &format!("user{n}")),
            "CreateDate": "2024-01-01T00:00:00+00:00", "GroupList": [format!("Group{}", n % 10)], "AttachedManagedPolicies": [],
            "PermissionsBoundary": boundary(n), "Tags": [{"Key": "CostCenter", "Value": ""}]}))
        .collect();
    json!({"UserDetailList": users, "GroupDetailList": groups, "RoleDetailList": roles, "Policies": policies,
        "Brevet": {"AccessKeys": [{"UserArn": arn("user", "user0"), "AccessKeyId": "AKIATESTTESTTESTTES1", "SecretAccessKey": "a-secret-that-is-long-enough-0123456789"}]}})
    .to_string()
}

#[tokio::test]
async fn an_export_imported_exported_and_imported_again_is_identical() {
    let world = World::new().await;
    let text = realistic();
    let first = plan(
        world.cx(),
        directory::parse(text.as_bytes()).unwrap(),
        false,
    )
    .await
    .unwrap();
    assert_eq!(first.planned.len(), 200 + 150 + 10 + 30 + 4 + 1);
    first
        .apply(world.cx(), &Actor::operator("test"))
        .await
        .unwrap();
    let again = plan(world.cx(), directory::parse(text.as_bytes()).unwrap(), true)
        .await
        .unwrap();
    assert_eq!(
        (again.planned.len(), again.kept),
        (0, 0),
        "{:?}",
        again.planned.first().map(Planned::describe)
    );
    let printed = |d: &Declaration| serde_json::to_string_pretty(d).unwrap();
    let exported = printed(&export(&world.store).await.unwrap());
    let second = plan(
        world.cx(),
        directory::parse(exported.as_bytes()).unwrap(),
        true,
    )
    .await
    .unwrap();
    assert!(second.planned.is_empty());
    // Into an empty store, under the same master key.
    let entropy = SystemEntropy::new();
    let other = Store::open(&Place::Memory, Access::Create, None, NOW, &entropy)
        .await
        .unwrap();
    let cx = CommandContext {
        store: &other,
        ..world.cx()
    };
    let third = plan(cx, directory::parse(exported.as_bytes()).unwrap(), true)
        .await
        .unwrap();
    third.apply(cx, &Actor::operator("test")).await.unwrap();
    assert_eq!(printed(&export(&other).await.unwrap()), exported);
    // AWS's output and Brevet's agree on counts and nesting.
    let value: Value = serde_json::from_str(&exported).unwrap();
    let role = value["RoleDetailList"]
        .as_array()
        .unwrap()
        .iter()
        .find(|r| r["RoleName"] == "Role50")
        .unwrap();
    assert_eq!(
        role["InstanceProfileList"][0]["Roles"][0]["RoleId"],
        role["RoleId"]
    );
    assert_eq!(value["Policies"][0]["AttachmentCount"], 3);
    assert!(!exported.contains("a-secret-that"), "no secret in clear");
}

#[tokio::test]
async fn an_import_shows_changes_prunes_and_refuses_what_is_broken() {
    let world = World::new().await;
    let whole = |text: &str| directory::parse(text.as_bytes()).unwrap();
    plan(world.cx(), whole(&realistic()), false)
        .await
        .unwrap()
        .apply(world.cx(), &Actor::operator("t"))
        .await
        .unwrap();
    let mut value: Value = serde_json::from_str(&realistic()).unwrap();
    value["RoleDetailList"][3]["MaxSessionDuration"] = json!(7_200);
    value["RoleDetailList"].as_array_mut().unwrap().remove(7);
    let text = value.to_string();
    let kept = plan(world.cx(), whole(&text), false).await.unwrap();
    assert_eq!((kept.planned.len(), kept.kept), (1, 1));
    let shown = kept.planned[0].describe();
    assert!(
        shown.contains("-  \"MaxSessionDuration\": 3600")
            && shown.contains("+  \"MaxSessionDuration\": 7200"),
        "{shown}"
    );
    let pruned = plan(world.cx(), whole(&text), true).await.unwrap();
    assert_eq!(
        pruned
            .planned
            .iter()
            .filter(|p| matches!(p, Planned::Delete { .. }))
            .count(),
        1
    );
    // Another administrator was faster.
    world
        .run(edit(
            ResourceKind::Role,
            &arn("role", "service/Role3"),
            Edit::UpdateDescription("x".into()),
        ))
        .await
        .unwrap();
    let error = pruned
        .apply(world.cx(), &Actor::operator("t"))
        .await
        .unwrap_err();
    assert!(
        matches!(error, CommandError::ConcurrentModification { .. }),
        "{error}"
    );
    plan(world.cx(), whole(&text), true)
        .await
        .unwrap()
        .apply(world.cx(), &Actor::operator("t"))
        .await
        .unwrap();
    // A policy that is deleted while it is attached.
    value["Policies"].as_array_mut().unwrap().remove(3);
    let error = plan(world.cx(), whole(&value.to_string()), true)
        .await
        .unwrap_err();
    assert!(error.to_string().contains("Policy3"), "{error}");
}

#[tokio::test]
async fn secrets_are_sealed_anew() {
    let world = World::new().await;
    world.run(user("alice")).await.unwrap();
    world
        .run(key("AKIATESTTESTTESTTES1", "alice"))
        .await
        .unwrap();
    let path = std::path::Path::new("x");
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("master.key");
    world.master_key.save(&file).unwrap();
    let promoted = MasterKey::load(&file)
        .unwrap()
        .with_fresh(path, &world.entropy)
        .unwrap()
        .promoted();
    let cx = CommandContext {
        master_key: &promoted,
        ..world.cx()
    };
    assert_eq!(reseal(cx, &Actor::operator("t")).await.unwrap(), 1);
    assert_eq!(reseal(cx, &Actor::operator("t")).await.unwrap(), 0);
    let new = promoted.without_retired();
    let mut snapshot = Directory::empty().unwrap();
    for thing in directory::declared(export(&world.store).await.unwrap()).unwrap() {
        snapshot.insert(&thing, Some(&new)).unwrap();
    }
    assert_eq!(
        snapshot
            .access_key("AKIATESTTESTTESTTES1")
            .unwrap()
            .secret
            .expose(),
        "a-secret-that-is-long-enough-0123456789"
    );
}

#[tokio::test]
async fn mf_02_mf_04_a_step_and_an_id_are_good_once_and_steps_only_grow() {
    let world = World::new().await;
    let store = &world.store;
    let step = NOW.seconds() / 30 + 2;
    let spend = async |device: &str, step: i64| {
        let matched = Matched {
            serial_number: device.into(),
            step,
            offset: 0,
            made_at: 0,
        };
        store
            .attempt("AIDA", Some(matched), mfa::LOCKOUT, NOW)
            .await
            .unwrap()
            == Attempt::Accepted
    };
    assert!(spend("arn:x", step).await);
    assert!(!spend("arn:x", step).await);
    assert!(!spend("arn:x", step - 1).await);
    assert!(spend("arn:y", step).await, "another device");
    assert!(spend("arn:x", step + 1).await);
    // For the time before this store, the last use is unknown.
    let home = tempfile::tempdir().unwrap();
    let place = Place::Sqlite(home.path().join("store.db"));
    let lasting = Store::open(&place, Access::Create, None, NOW, &SystemEntropy::new())
        .await
        .unwrap();
    let before = Matched {
        serial_number: "arn:z".into(),
        step: NOW.seconds() / 30 - 1,
        offset: 0,
        made_at: 0,
    };
    assert_eq!(
        lasting
            .attempt("AIDA", Some(before), mfa::LOCKOUT, NOW)
            .await
            .unwrap(),
        Attempt::Spent
    );
    let later = Timestamp::from_seconds(NOW.seconds() + 60);
    assert!(
        store
            .mark_used("https://idp", "a", (NOW, Duration::ZERO), later)
            .await
            .unwrap()
    );
    assert!(
        !store
            .mark_used("https://idp", "a", (NOW, Duration::ZERO), later)
            .await
            .unwrap()
    );
    assert!(
        store
            .mark_used("https://other", "a", (NOW, Duration::ZERO), later)
            .await
            .unwrap()
    );
    assert!(
        !lasting
            .mark_used(
                "https://idp",
                "b",
                (Timestamp::from_seconds(NOW.seconds() - 1), Duration::ZERO),
                later
            )
            .await
            .unwrap()
    );
    // Expired entries are swept ten minutes later, since the clock of another broker may be behind.
    for (seconds, is_forgotten) in [(59, false), (60 + 599, false), (60 + 600, true)] {
        let now = Timestamp::from_seconds(NOW.seconds() + seconds);
        store.sweep(now, NOW).await.unwrap();
        let used = store.mark_used("https://idp", "a", (NOW, Duration::ZERO), later);
        assert_eq!(used.await.unwrap(), is_forgotten, "{seconds}");
    }
    let used = LastUse {
        at: NOW,
        service: "iam".into(),
        region: "us-east-1".into(),
    };
    store
        .note_key_use(&[("AKIA1".into(), used.clone())])
        .await
        .unwrap();
    assert_eq!(
        store.last_key_use("AKIA1").await.unwrap(),
        Some(used.clone())
    );
    // A broker that is late does not put the last use back.
    let earlier = LastUse {
        at: Timestamp::from_seconds(NOW.seconds() - 60),
        ..used.clone()
    };
    store
        .note_key_use(&[("AKIA1".into(), earlier)])
        .await
        .unwrap();
    assert_eq!(
        store.last_key_use("AKIA1").await.unwrap(),
        Some(used.clone())
    );
    let ids = ["AKIA1".to_owned(), "AKIA2".to_owned()];
    let all = store.last_key_uses(&ids).await.unwrap();
    assert_eq!(all, [("AKIA1".to_owned(), used)].into());
}

#[tokio::test]
async fn mf_01_a_user_has_five_wrong_codes_and_a_hundred_a_day() {
    let world = World::new().await;
    let store = &world.store;
    let right = |step: i64| {
        Some(Matched {
            serial_number: "arn:x".into(),
            step,
            offset: 0,
            made_at: 0,
        })
    };
    let at = |seconds: i64| Timestamp::from_seconds(NOW.seconds() + seconds);
    let wrong = async |user: &str, now| store.attempt(user, None, mfa::LOCKOUT, now).await.unwrap();
    for _ in 0..5 {
        assert_eq!(wrong("AIDA1", at(0)).await, Attempt::Counted);
    }
    assert_eq!(wrong("AIDA1", at(0)).await, Attempt::Locked);
    // A correct code is neither checked nor spent.
    let step = at(0).seconds() / 30 + 100;
    assert_eq!(
        store
            .attempt("AIDA1", right(step), mfa::LOCKOUT, at(899))
            .await
            .unwrap(),
        Attempt::Locked
    );
    assert_eq!(
        wrong("AIDA2", at(0)).await,
        Attempt::Counted,
        "another user"
    );
    // After 15 minutes it is accepted, but the failures are not forgotten.
    assert_eq!(
        store
            .attempt("AIDA1", right(step), mfa::LOCKOUT, at(900))
            .await
            .unwrap(),
        Attempt::Accepted
    );
    assert_eq!(wrong("AIDA1", at(900)).await, Attempt::Counted);
    assert_eq!(wrong("AIDA1", at(900)).await, Attempt::Locked);
    // Trying every minute gives about a hundred attempts a day.
    let mut counted = 0;
    for minute in 0..24 * 60 {
        counted += usize::from(wrong("AIDA3", at(minute * 60)).await == Attempt::Counted);
    }
    assert_eq!(counted, 100);
    // Forgiven failures are deleted.
    store.sweep(at(90_000), at(90_000)).await.unwrap();
    assert_eq!(wrong("AIDA1", at(90_000)).await, Attempt::Counted);
}

#[tokio::test]
async fn a_device_whose_clock_drifts_is_followed() {
    let world = World::new().await;
    let store = &world.store;
    let day = 2_880;
    let first = NOW.seconds() / 30 + 10;
    let accept = async |step: i64, offset: i64| {
        let matched = Matched {
            serial_number: "arn:x".into(),
            step,
            offset,
            made_at: 0,
        };
        assert_eq!(
            store
                .attempt("AIDA", Some(matched), mfa::LOCKOUT, NOW)
                .await
                .unwrap(),
            Attempt::Accepted
        );
        store.device_past("arn:x").await.unwrap().drift
    };
    assert_eq!(store.device_past("arn:x").await.unwrap().drift, 0);
    assert_eq!(accept(first, 1).await, 0);
    assert_eq!(
        accept(first + 1, 1).await,
        0,
        "a minute later proves nothing"
    );
    assert_eq!(accept(first + 1 + day, 1).await, 1, "a day later it does");
    assert_eq!(
        accept(first + 2 + 2 * day, 1).await,
        1,
        "what was learnt counts anew"
    );
    store.set_mfa_drift("arn:x", -7).await.unwrap();
    assert_eq!(accept(first + 3 + 3 * day, 1).await, -7);
}

fn file(value: &Value) -> Declaration {
    directory::parse(value.to_string().as_bytes()).unwrap()
}

fn role_of(name: &str, id: &str) -> Value {
    let trust: Value = serde_json::from_str(TRUST).unwrap();
    json!({"RoleName": name, "RoleId": id, "Arn": arn("role", name), "AssumeRolePolicyDocument": trust})
}

async fn apply(world: &World, value: &Value, prune: bool) -> Result<i64, CommandError> {
    plan(world.cx(), file(value), prune)
        .await?
        .apply(world.cx(), &Actor::operator("t"))
        .await
}

#[tokio::test]
async fn two_things_with_one_name_or_unique_id_are_both_named() {
    let world = World::new().await;
    let id = "AROA00000000000000001";
    let says = |error: CommandError, names: &[&str]| {
        let error = error.to_string();
        assert!(names.iter().all(|n| error.contains(n)), "{error}");
    };
    // In one file.
    let both = json!({"RoleDetailList": [role_of("a1", id), role_of("b1", id)]});
    says(
        plan(world.cx(), file(&both), false).await.unwrap_err(),
        &["role/a1", "role/b1", id],
    );
    let both =
        json!({"RoleDetailList": [role_of("a1", id), role_of("A1", "AROA00000000000000002")]});
    says(
        plan(world.cx(), file(&both), false).await.unwrap_err(),
        &["role/a1", "role/A1", "ignoring case"],
    );
    // In the store and in a file.
    apply(
        &world,
        &json!({"RoleDetailList": [role_of("a1", id)]}),
        false,
    )
    .await
    .unwrap();
    let other = json!({"RoleDetailList": [role_of("b1", id)]});
    says(
        plan(world.cx(), file(&other), false).await.unwrap_err(),
        &["role/a1", "role/b1", id],
    );
    // By a command.
    let command = Command::Create(
        Resource::parse(ResourceKind::Role, &role_of("b1", id).to_string()).unwrap(),
    );
    says(
        world.run(command).await.unwrap_err(),
        &["role/a1", "role/b1", id],
    );
    // A resource that the same import deletes does not conflict.
    apply(&world, &other, true).await.unwrap();
}

#[tokio::test]
async fn what_an_export_of_aws_does_not_say_stays_as_it_is() {
    let world = World::new().await;
    let mut role = role_of("r", "AROA00000000000000001");
    role["MaxSessionDuration"] = json!(43_200);
    role["Description"] = json!("mine");
    let policy = |tags: Value| {
        let mut policy = json!({"PolicyName": "P", "Arn": arn("policy", "P"), "DefaultVersionId": "v1",
            "PolicyVersionList": [{"VersionId": "v1", "IsDefaultVersion": true, "Document": serde_json::from_str::<Value>(ALLOW).unwrap()}]});
        if !tags.is_null() {
            policy["Tags"] = tags;
        }
        policy
    };
    let profile = |tags: bool| {
        let mut profile = json!({"InstanceProfileName": "web", "InstanceProfileId": "AIPA00000000000000001",
            "Arn": arn("instance-profile", "web"), "Roles": [{"RoleName": "r"}]});
        if tags {
            profile["Tags"] = json!([{"Key": "a", "Value": "b"}]);
        }
        profile
    };
    let key = |status: &str| {
        let mut key = json!({"UserArn": arn("user", "alice"), "AccessKeyId": "AKIATESTTESTTESTTES1",
            "SecretAccessKey": "a-secret-that-is-long-enough-0123456789"});
        if !status.is_empty() {
            key["Status"] = json!(status);
        }
        key
    };
    let device = json!({"SerialNumber": arn("mfa", "alice"), "UserArn": arn("user", "alice"),
        "Base32StringSeed": "aebagbafaydqqcikbmga2dqpcaireeyuculboga2"});
    let users = json!([{"UserName": "alice", "UserId": "AIDA00000000000000001", "Arn": arn("user", "alice")}]);
    let tags = json!([{"Key": "a", "Value": "b"}]);
    let full = json!({"UserDetailList": users, "RoleDetailList": [role], "Policies": [policy(tags)],
        "Brevet": {"InstanceProfiles": [profile(true)], "AccessKeys": [key("Inactive")], "MFADevices": [device]}});
    apply(&world, &full, false).await.unwrap();
    let before = world.store.head().await.unwrap();
    // A day later, the same import, and one with only AWS's own fields.
    let plain = json!({"UserDetailList": users, "RoleDetailList": [role_of("r", "AROA00000000000000001")],
        "Policies": [policy(Value::Null)],
        "Brevet": {"InstanceProfiles": [profile(false)], "AccessKeys": [key("")],
            "MFADevices": [{"SerialNumber": arn("mfa", "alice"), "UserArn": arn("user", "alice"),
                "Base32StringSeed": "AEBA GBAF AYDQ QCIK BMGA 2DQP CAIR EEYU CULB OGA2"}]}});
    let later = CommandContext {
        now: Timestamp::from_seconds(NOW.seconds() + 86_400),
        ..world.cx()
    };
    for again in [&full, &plain] {
        let planned = plan(later, file(again), true).await.unwrap();
        let shown: String = planned.planned.iter().map(Planned::describe).collect();
        assert!(shown.is_empty(), "{shown}");
    }
    assert_eq!(world.store.head().await.unwrap(), before);
    // Explicit values are applied; for tags, empty is an explicit value.
    let mut emptied = plain.clone();
    emptied["Policies"] = json!([policy(json!([]))]);
    emptied["RoleDetailList"][0]["MaxSessionDuration"] = json!(3_600);
    assert_eq!(
        plan(later, file(&emptied), false)
            .await
            .unwrap()
            .planned
            .len(),
        2
    );
    apply(&world, &emptied, false).await.unwrap();
    assert!(
        plan(later, file(&emptied), false)
            .await
            .unwrap()
            .planned
            .is_empty()
    );
}

#[tokio::test]
async fn a_policy_of_aws_that_an_export_leaves_out_is_a_warning_and_comes_later() {
    let world = World::new().await;
    let gone = "arn:aws:iam::aws:policy/service-role/AWSConfigRole";
    let mut role = role_of("r", "AROA00000000000000001");
    role["AttachedManagedPolicies"] = json!([{"PolicyName": "AWSConfigRole", "PolicyArn": gone}]);
    let export = json!({"RoleDetailList": [role]});
    let planned = plan(world.cx(), file(&export), false).await.unwrap();
    assert_eq!(planned.warnings.len(), 1, "{:?}", planned.warnings);
    assert!(planned.warnings[0].contains(gone) && planned.warnings[0].contains(&arn("role", "r")));
    planned
        .apply(world.cx(), &Actor::operator("t"))
        .await
        .unwrap();
    // Changes that do not concern that policy are possible, but attaching another missing policy is
    // not.
    world
        .run(edit(
            ResourceKind::Role,
            &arn("role", "r"),
            Edit::UpdateDescription("x".into()),
        ))
        .await
        .unwrap();
    let attach = |name: &str| {
        edit(
            ResourceKind::Role,
            &arn("role", "r"),
            Edit::AttachPolicy(format!("arn:aws:iam::aws:policy/{name}")),
        )
    };
    assert_eq!(code(&world.run(attach("Unknown")).await), "NoSuchEntity");
    assert!(
        plan(world.cx(), file(&export), true)
            .await
            .unwrap()
            .planned
            .is_empty()
    );
    // With its document it is a policy like any other.
    let document: Value = serde_json::from_str(ALLOW).unwrap();
    let mut whole = export.clone();
    whole["Policies"] = json!([{"PolicyName": "AWSConfigRole", "Arn": gone, "DefaultVersionId": "v7",
        "PolicyVersionList": (1..=7).map(|n| json!({"VersionId": format!("v{n}"), "IsDefaultVersion": n == 7, "Document": document})).collect::<Vec<_>>()}]);
    let planned = plan(world.cx(), file(&whole), false).await.unwrap();
    assert!(planned.warnings.is_empty(), "{:?}", planned.warnings);
    planned
        .apply(world.cx(), &Actor::operator("t"))
        .await
        .unwrap();
    // A missing policy of the account itself is still an error.
    let mut own = role_of("s", "AROA00000000000000002");
    own["AttachedManagedPolicies"] = json!([{"PolicyName": "Q", "PolicyArn": arn("policy", "Q")}]);
    let error = apply(&world, &json!({"RoleDetailList": [own]}), false)
        .await
        .unwrap_err();
    assert!(error.to_string().contains("policy/Q"), "{error}");
}

#[tokio::test]
async fn an_import_of_many_large_policies_takes_time_in_proportion() {
    let world = World::new().await;
    let statement = json!({"Effect": "Deny", "Action": "a:b", "Resource": "*"});
    let export = |policies: usize, statements: usize, action: &str| {
        let mut statement = statement.clone();
        statement["Action"] = json!(action);
        let document = json!({"Statement": vec![statement; statements]});
        let policies: Vec<Value> = (0..policies)
            .map(|n| json!({"PolicyName": format!("P{n}"), "Arn": format!("arn:aws:iam::aws:policy/P{n}"), "DefaultVersionId": "v1",
                "PolicyVersionList": [{"VersionId": "v1", "IsDefaultVersion": true, "Document": document}]}))
            .collect();
        json!({"Policies": policies})
    };
    let timed = async |value: &Value| {
        let started = std::time::Instant::now();
        let planned = plan(world.cx(), file(value), false).await.unwrap();
        let shown: usize = planned.planned.iter().map(|p| p.describe().len()).sum();
        planned
            .apply(world.cx(), &Actor::operator("t"))
            .await
            .unwrap();
        (started.elapsed(), shown)
    };
    let (small, _) = timed(&export(2, 1_000, "a:b")).await;
    // Ten times the text in the same number of policies, with every line different.
    let (large, shown) = timed(&export(2, 10_000, "c:d")).await;
    assert!(shown > 500_000, "all of it differs");
    let bound = small * 10 * 6 + std::time::Duration::from_secs(4);
    assert!(large < bound, "{small:?}, then {large:?}");
}

#[tokio::test]
async fn the_broker_itself_is_taken_as_a_provider_by_no_command() {
    let world = World::new().await;
    let provider = |url: &str| {
        let host = url.split_once("://").unwrap().1;
        create(
            "oidc-provider",
            json!({"Arn": arn("oidc-provider", host), "Url": url, "ClientIDList": ["x"]}),
        )
    };
    let cx = CommandContext {
        issuer: Some("https://broker.example.com/a"),
        ..world.cx()
    };
    let run = async |command| execute(cx, &Actor::operator("test"), "Test", vec![command]).await;
    for own in [
        "https://broker.example.com/a",
        "https://broker.example.com/a/",
        "https://Broker.Example.com/a",
        "https://broker.example.com:443/a",
    ] {
        let refused = run(provider(own)).await.unwrap_err().to_string();
        assert!(
            refused.contains("Url is this broker's own [web_identity] issuer"),
            "{own}: {refused}"
        );
    }
    for other in [
        "https://broker.example.com",
        "https://broker.example.com/b",
        "https://broker.example.com:8443/a",
    ] {
        run(provider(other)).await.unwrap();
    }
    // A provider that another configuration allowed cannot be changed either, only deleted.
    world
        .run(provider("https://broker.example.com/a"))
        .await
        .unwrap();
    let name = Name::new(
        ResourceKind::OidcProvider,
        arn("oidc-provider", "broker.example.com/a"),
    );
    let Command::Create(resource) = provider("https://broker.example.com/a") else {
        unreachable!()
    };
    assert!(
        run(Command::Replace {
            resource,
            expected: None
        })
        .await
        .is_err()
    );
    run(Command::Delete {
        name,
        expected: None,
    })
    .await
    .unwrap();
    // By import.
    let declared = json!({"Brevet": {"OpenIDConnectProviders": [
        {"Arn": arn("oidc-provider", "broker.example.com/a"), "Url": "https://broker.example.com/a", "ClientIDList": ["x"]}]}});
    let declaration = crate::directory::parse(declared.to_string().as_bytes()).unwrap();
    let refused = plan(cx, declaration, false).await.unwrap_err().to_string();
    assert!(refused.contains("own [web_identity] issuer"), "{refused}");
}

/// A policy statement with this effect and these AWS principals.
fn names(effect: &str, principals: Value) -> Value {
    json!({"Effect": effect, "Principal": {"AWS": principals}, "Action": "sts:AssumeRole"})
}

fn trusting(name: &str, statements: Value) -> Value {
    let document = json!({"Version": "2012-10-17", "Statement": statements});
    json!({"RoleName": name, "Arn": arn("role", name), "AssumeRolePolicyDocument": document})
}

async fn row_of(world: &World, name: &Name) -> String {
    let mut writer = world.store.write().await.unwrap();
    let stored = writer.get(name).await.unwrap().unwrap();
    writer.abandon().await;
    stored.body
}

/// The trust policy of a role as it is stored.
async fn trust_row(world: &World, name: &str) -> String {
    let body = row_of(world, &Name::new(ResourceKind::Role, arn("role", name))).await;
    serde_json::from_str::<Value>(&body).unwrap()["AssumeRolePolicyDocument"].to_string()
}

/// The trust policy of a role as it is exported.
async fn trust_shown(world: &World, name: &str) -> String {
    let declaration = export(&world.store).await.unwrap();
    let role = declaration
        .role_detail_list
        .iter()
        .find(|r| r.role_name == name)
        .unwrap();
    role.assume_role_policy_document
        .as_ref()
        .unwrap()
        .text()
        .unwrap()
        .into_owned()
}

async fn export_changes_nothing(world: &World) {
    let exported = serde_json::to_value(export(&world.store).await.unwrap()).unwrap();
    let planned = plan(world.cx(), file(&exported), true).await.unwrap();
    let shown: String = planned.planned.iter().map(Planned::describe).collect();
    assert!(planned.planned.is_empty(), "{shown}");
}

async fn id_of(world: &World, name: &Name) -> String {
    read(name, &row_of(world, name).await)
        .unwrap()
        .unique_id()
        .unwrap()
        .to_owned()
}

const ELSEWHERE: &str = "arn:aws:iam::444455556666:user/x";

#[tokio::test]
async fn rows_name_principals_by_unique_id_and_people_by_arn() {
    let world = World::new().await;
    world.run(user("alice")).await.unwrap();
    let mut middle = trusting("Mid", json!([names("Allow", json!(ACCOUNT))]));
    middle["Arn"] = json!(arn("role", "team/Mid"));
    middle["Path"] = json!("/team/");
    world.run(create("role", middle)).await.unwrap();
    let (alice, mid, own) = (
        arn("user", "alice"),
        arn("role", "team/Mid"),
        arn("role", "R"),
    );
    let session = format!("arn:aws:sts::{ACCOUNT}:assumed-role/Mid/job");
    let statements = json!([
        names(
            "Allow",
            json!([alice, mid, session, ACCOUNT, ELSEWHERE, own])
        ),
        names("Deny", json!([alice])),
        names("Deny", json!(mid)),
    ]);
    world
        .run(create("role", trusting("R", statements.clone())))
        .await
        .unwrap();
    let alice_id = id_of(&world, &Name::new(ResourceKind::User, alice.as_str())).await;
    let mid_id = id_of(&world, &Name::new(ResourceKind::Role, mid.as_str())).await;
    let own_id = id_of(&world, &Name::new(ResourceKind::Role, own.as_str())).await;
    let row = trust_row(&world, "R").await;
    let expected = statements
        .to_string()
        .replace(&session, &format!("{mid_id}:job"))
        .replace(&alice, &alice_id)
        .replace(&mid, &mid_id)
        .replace(&own, &own_id);
    let whole =
        |statements: &str| format!(r#"{{"Statement":{statements},"Version":"2012-10-17"}}"#);
    let canonical = |text: &str| serde_json::from_str::<Value>(text).unwrap();
    assert_eq!(canonical(&row), canonical(&whole(&expected)));
    assert_eq!(
        canonical(&trust_shown(&world, "R").await),
        canonical(&whole(&statements.to_string()))
    );
    export_changes_nothing(&world).await;
    // A renamed user is still trusted.
    let rename = Edit::Rename {
        name: Some("alicia".into()),
        path: Some("/staff/".into()),
    };
    world
        .run(edit(ResourceKind::User, &alice, rename))
        .await
        .unwrap();
    assert_eq!(trust_row(&world, "R").await, row);
    assert!(
        trust_shown(&world, "R")
            .await
            .contains(&arn("user", "staff/alicia"))
    );
    export_changes_nothing(&world).await;
    // Only the id of a deleted user is left. It belongs to nobody, even if the name is used again.
    world
        .run(delete(ResourceKind::User, &arn("user", "staff/alicia")))
        .await
        .unwrap();
    for _ in 0..2 {
        let shown = trust_shown(&world, "R").await;
        assert!(
            shown.contains(&alice_id) && !shown.contains("alic"),
            "{shown}"
        );
        export_changes_nothing(&world).await;
        assert_eq!(trust_row(&world, "R").await, row);
        let _ = world
            .run(create("user", json!({"UserName": "alicia", "Path": "/staff/", "Arn": arn("user", "staff/alicia")})))
            .await;
    }
    // Another edit of the role does not bind it to the new user; naming the user again does.
    let tag = Edit::Tag(vec![("k".into(), "v".into())]);
    world
        .run(edit(ResourceKind::Role, &own, tag))
        .await
        .unwrap();
    assert_eq!(trust_row(&world, "R").await, row);
    let again = json!({"Version": "2012-10-17", "Statement": [names("Allow", json!(arn("user", "staff/alicia")))]});
    world
        .run(edit(
            ResourceKind::Role,
            &own,
            Edit::UpdateAssumeRolePolicy(again.to_string()),
        ))
        .await
        .unwrap();
    let new_id = id_of(
        &world,
        &Name::new(ResourceKind::User, arn("user", "staff/alicia")),
    )
    .await;
    assert!(new_id != alice_id && trust_row(&world, "R").await.contains(&new_id));
}

#[tokio::test]
async fn who_will_not_be_there_refuses_by_role_and_principal() {
    let world = World::new().await;
    world.run(user("alice")).await.unwrap();
    world.run(role("R")).await.unwrap();
    let refused = |result: Result<i64, CommandError>, principal: &str| {
        let error = result.unwrap_err();
        assert!(
            matches!(error, CommandError::MalformedPolicyDocument(_)),
            "{error}"
        );
        let error = error.to_string();
        assert!(
            error.contains(&arn("role", "R")) && error.contains(principal),
            "{error}"
        );
    };
    let before = world.store.head().await.unwrap();
    for missing in [
        arn("user", "bob"),
        arn("user", "Alice"),
        arn("user", "path/alice"),
        arn("role", "r"),
        format!("arn:aws:sts::{ACCOUNT}:assumed-role/Other/job"),
        format!("arn:aws:sts::{ACCOUNT}:assumed-role/r/job"),
    ] {
        for effect in ["Allow", "Deny"] {
            let declared = trusting("R", json!([names(effect, json!([ACCOUNT, missing]))]));
            let document = declared["AssumeRolePolicyDocument"].to_string();
            let update = Edit::UpdateAssumeRolePolicy(document);
            refused(
                world
                    .run(edit(ResourceKind::Role, &arn("role", "R"), update))
                    .await,
                &missing,
            );
            refused(
                apply(&world, &json!({"RoleDetailList": [declared]}), false).await,
                &missing,
            );
        }
    }
    // A user whom the same import deletes will not exist.
    let trusts_alice = trusting("R", json!([names("Allow", json!(arn("user", "alice")))]));
    refused(
        apply(&world, &json!({"RoleDetailList": [trusts_alice]}), true).await,
        &arn("user", "alice"),
    );
    assert_eq!(world.store.head().await.unwrap(), before);
    // A user whom it creates will exist, in any order, and roles may name each other.
    let both = json!({"UserDetailList": [{"UserName": "bob", "Arn": arn("user", "bob")}], "RoleDetailList": [
        trusting("R", json!([names("Allow", json!([arn("user", "bob"), arn("role", "S")]))])),
        trusting("S", json!([names("Allow", json!([arn("role", "R"), arn("role", "S")]))])),
    ]});
    apply(&world, &both, false).await.unwrap();
    let rows = trust_row(&world, "R").await + &trust_row(&world, "S").await;
    assert!(!rows.contains("arn:aws"), "{rows}");
    export_changes_nothing(&world).await;
    // A user who is deleted after planning will not exist either.
    let planned = plan(
        world.cx(),
        file(&json!({"RoleDetailList": [trusts_alice]})),
        false,
    )
    .await
    .unwrap();
    world
        .run(delete(ResourceKind::User, &arn("user", "alice")))
        .await
        .unwrap();
    refused(
        planned.apply(world.cx(), &Actor::operator("t")).await,
        &arn("user", "alice"),
    );
    // An id that belongs to nobody is accepted, because it allows nobody.
    let gone = trusting("R", json!([names("Allow", json!("AIDASOMEBODYWHOISGONE"))]));
    apply(&world, &json!({"RoleDetailList": [gone]}), false)
        .await
        .unwrap();
    export_changes_nothing(&world).await;
}

#[tokio::test]
async fn an_import_shows_to_whom_a_trust_policy_is_bound_anew() {
    let world = World::new().await;
    let alice = |id: &str| json!({"UserName": "alice", "UserId": id, "Arn": arn("user", "alice")});
    let (one, two) = ("AIDA0000000000000001", "AIDA0000000000000002");
    let trusts = trusting("R", json!([names("Allow", json!(arn("user", "alice")))]));
    apply(
        &world,
        &json!({"UserDetailList": [alice(one)], "RoleDetailList": [trusts]}),
        false,
    )
    .await
    .unwrap();
    assert!(trust_row(&world, "R").await.contains(one));
    // If an import recreates the user and does not mention the role, the role no longer trusts
    // anybody.
    apply(&world, &json!({"UserDetailList": [alice(two)]}), false)
        .await
        .unwrap();
    assert!(
        trust_row(&world, "R").await.contains(one) && trust_shown(&world, "R").await.contains(one)
    );
    // If it mentions the role, the declared user is meant.
    let again = json!({"UserDetailList": [alice(two)], "RoleDetailList": [trusts]});
    let planned = plan(world.cx(), file(&again), false).await.unwrap();
    let shown: String = planned.planned.iter().map(Planned::describe).collect();
    assert!(
        shown.contains(one) && shown.contains(&arn("user", "alice")) && !shown.contains(two),
        "{shown}"
    );
    planned
        .apply(world.cx(), &Actor::operator("t"))
        .await
        .unwrap();
    assert!(trust_row(&world, "R").await.contains(two));
}

#[tokio::test]
async fn rows_of_an_earlier_version_are_bound_once() {
    let world = World::new().await;
    let (alice, gone) = (arn("user", "alice"), arn("user", "gone"));
    world.run(user("alice")).await.unwrap();
    let put = async |value: &Value| {
        let mut value = value.clone();
        value["RoleId"] = json!("AROA0000000000000001");
        (value["Path"], value["MaxSessionDuration"]) = (json!("/"), json!(3_600));
        value["CreateDate"] = json!("2001-09-09T01:46:40Z");
        let mut writer = world.store.write().await.unwrap();
        writer
            .put(&Resource::parse(ResourceKind::Role, &value.to_string()).unwrap())
            .await
            .unwrap();
        writer.commit().await.unwrap();
    };
    let load = async || {
        let mut directory = Directory::empty().unwrap();
        world
            .store
            .scan::<StoreError>(|kind, _, _, body| {
                directory
                    .insert_stored(&Resource::parse(kind, body).unwrap(), None)
                    .unwrap();
                Ok(())
            })
            .await
            .unwrap();
        directory
    };
    put(&trusting(
        "R",
        json!([names("Allow", json!([alice, gone, ELSEWHERE]))]),
    ))
    .await;
    let before = world.store.head().await.unwrap().sequence;
    assert_eq!(bind_stored(world.cx(), &load().await).await.unwrap(), 1);
    let id = id_of(&world, &Name::new(ResourceKind::User, alice.as_str())).await;
    let row = trust_row(&world, "R").await;
    assert!(
        row.contains(&id)
            && !row.contains(&gone)
            && row.contains(ELSEWHERE)
            && !row.contains(&alice),
        "{row}"
    );
    // A user who was deleted before is bound to an unused id, whoever gets the name later.
    let nobody = (row.split('"'))
        .find(|text| text.starts_with("AIDA") && *text != id)
        .unwrap()
        .to_owned();
    let change = world.store.feed_after(before, 10).await.unwrap();
    assert_eq!(
        change.iter().map(|c| c.action.as_str()).collect::<Vec<_>>(),
        ["UpdateAssumeRolePolicy"]
    );
    world.run(user("gone")).await.unwrap();
    assert_ne!(
        id_of(&world, &Name::new(ResourceKind::User, gone.as_str())).await,
        nobody
    );
    // Nothing more is bound, even if another user has the name.
    world.run(delete(ResourceKind::User, &alice)).await.unwrap();
    world.run(user("alice")).await.unwrap();
    assert_eq!(bind_stored(world.cx(), &load().await).await.unwrap(), 0);
    assert_eq!(trust_row(&world, "R").await, row);
    // There is a warning about the missing user, but other changes are possible.
    let warnings = load().await.warnings();
    for gone in [&nobody, &id] {
        assert!(
            warnings
                .iter()
                .any(|w| w.contains(&arn("role", "R")) && w.contains(gone)),
            "{warnings:?}"
        );
    }
    assert!(!warnings.iter().any(|w| w.contains(&alice)), "{warnings:?}");
    world
        .run(edit(
            ResourceKind::Role,
            &arn("role", "R"),
            Edit::Tag(vec![("k".into(), "v".into())]),
        ))
        .await
        .unwrap();
    export_changes_nothing(&world).await;
}

#[tokio::test]
async fn a_principal_of_another_account_is_warned_of_by_its_arn() {
    let world = World::new().await;
    let carol = json!({"UserName": "carol", "Arn": ELSEWHERE.replace("/x", "/carol")});
    let other = json!({"RoleName": "Other", "Arn": "arn:aws:iam::444455556666:role/Other",
        "AssumeRolePolicyDocument": serde_json::from_str::<Value>(TRUST).unwrap()});
    let session = "arn:aws:sts::444455556666:assumed-role/Other/job";
    let foreign = json!([carol["Arn"], other["Arn"], session]);
    let mine = trusting("R", json!([names("Allow", foreign)]));
    let all = json!({"UserDetailList": [carol], "RoleDetailList": [other, mine]});
    let planned = plan(world.cx(), file(&all), false).await.unwrap();
    let mut loaded = Directory::empty().unwrap();
    for thing in planned.planned.iter() {
        let Planned::Create(thing) = thing else {
            continue;
        };
        loaded.insert_stored(thing, None).unwrap();
    }
    for (place, warnings) in [("import", &planned.warnings), ("check", &loaded.warnings())] {
        for principal in [
            carol["Arn"].as_str().unwrap(),
            other["Arn"].as_str().unwrap(),
            session,
        ] {
            let warned = |w: &&String| {
                w.contains(&format!("role/R trusts {principal} of")) && w.contains("sts:ExternalId")
            };
            assert_eq!(
                warnings.iter().filter(warned).count(),
                1,
                "{place}: {principal}: {warnings:?}"
            );
        }
    }
}

proptest::proptest! {
    #![proptest_config(proptest::test_runner::Config::with_cases(24))]
    /// Shows that exporting and importing changes nothing, whatever trust policies name and whoever
    /// is deleted.
    #[test]
    fn an_export_that_is_imported_changes_nothing(
        picks in proptest::collection::vec((0usize..7, 0usize..2), 1..8),
        goes in proptest::collection::vec(0usize..3, 0..3),
        comes_back in proptest::bool::ANY,
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let world = World::new().await;
            let known = [arn("user", "u0"), arn("user", "u1"), arn("user", "u2"), arn("role", "R"),
                format!("arn:aws:sts::{ACCOUNT}:assumed-role/R/job"), ELSEWHERE.to_owned(), ACCOUNT.to_owned()];
            for n in 0..3 {
                world.run(user(&format!("u{n}"))).await.unwrap();
            }
            let effects = ["Allow", "Deny"];
            let statements: Vec<Value> =
                picks.iter().map(|(who, how)| names(effects[*how], json!(known[*who]))).collect();
            world.run(create("role", trusting("R", json!(statements)))).await.unwrap();
            let row = trust_row(&world, "R").await;
            for n in goes {
                let name = format!("u{n}");
                let _ = world.run(delete(ResourceKind::User, &arn("user", &name))).await;
                if comes_back {
                    let _ = world.run(user(&name)).await;
                }
            }
            export_changes_nothing(&world).await;
            assert_eq!(trust_row(&world, "R").await, row);
        });
    }
}

#[tokio::test]
async fn sa_06_oi_08_what_may_be_from_before_the_past_was_forgotten_counts_as_used() {
    let home = tempfile::tempdir().unwrap();
    let place = Place::Sqlite(home.path().join("store.db"));
    let store = Store::open(&place, Access::Create, None, NOW, &SystemEntropy::new())
        .await
        .unwrap();
    let at = |seconds: i64| Timestamp::from_seconds(NOW.seconds() + seconds);
    let minute = Duration::from_secs(60);
    let is_first = async |id: &str, seconds: i64| {
        let issued_at = (at(seconds), minute);
        store.mark_used("i", id, issued_at, at(600)).await.unwrap()
    };
    // Nothing was used before a store was made.
    assert!(is_first("new", 0).await && !is_first("older", -1).await);
    let (actor, host) = (Actor::operator("test"), "host".to_owned());
    accept_clock(&store, &actor, host, NOW, mfa::LOCKOUT, NOW)
        .await
        .unwrap();
    // It was issued by a clock that was ahead, and used before.
    for (id, seconds, expected) in [("a", 0, false), ("b", 60, false), ("c", 61, true)] {
        assert_eq!(is_first(id, seconds).await, expected, "{seconds}");
    }
}

#[tokio::test]
async fn a_bucket_policy_does_not_follow_the_name_of_a_deleted_user() {
    let world = World::new().await;
    world.run(user("alice")).await.unwrap();
    let alice = arn("user", "alice");
    let bucket = |principal: &str| {
        json!({"Bucket": "data", "AccountId": ACCOUNT, "Policy": {"Version": "2012-10-17", "Statement": [
            {"Effect": "Allow", "Principal": {"AWS": principal}, "Action": "s3:GetObject", "Resource": "arn:aws:s3:::data/*"}]}})
    };
    // Whoever it names must exist.
    let nobody = create("bucket-policy", bucket(&arn("user", "nobody")));
    let refused = world.run(nobody).await.unwrap_err().to_string();
    assert!(
        refused.contains("bucket-policy data: Policy: the principal") && refused.contains("nobody"),
        "{refused}"
    );
    world
        .run(create("bucket-policy", bucket(&alice)))
        .await
        .unwrap();
    let name = Name::new(ResourceKind::BucketPolicy, "data");
    let id = id_of(&world, &Name::new(ResourceKind::User, alice.as_str())).await;
    let row = row_of(&world, &name).await;
    assert!(row.contains(&id) && !row.contains(&alice), "{row}");
    // An export names people by their ARNs, and an import of it changes nothing.
    let exported = serde_json::to_value(export(&world.store).await.unwrap()).unwrap();
    let shown = &exported["Brevet"]["BucketPolicies"][0]["Policy"];
    assert_eq!(shown["Statement"][0]["Principal"]["AWS"], alice.as_str());
    export_changes_nothing(&world).await;
    // A change is shown with ARNs, too.
    let mut changed = exported.clone();
    changed["Brevet"]["BucketPolicies"][0]["Policy"]["Statement"][0]["Effect"] = json!("Deny");
    let planned = plan(world.cx(), file(&changed), true).await.unwrap();
    let shown: String = planned.planned.iter().map(Planned::describe).collect();
    assert!(
        shown.contains("~ bucket-policy data") && shown.contains(&alice) && !shown.contains(&id),
        "{shown}"
    );
    // The name belongs to somebody else later; the policy does not.
    world.run(delete(ResourceKind::User, &alice)).await.unwrap();
    world.run(user("alice")).await.unwrap();
    assert_ne!(
        id_of(&world, &Name::new(ResourceKind::User, alice.as_str())).await,
        id
    );
    assert_eq!(row_of(&world, &name).await, row);
    // Bucket policies belong to their account, and go with a complete declaration of it.
    let mut without = serde_json::to_value(export(&world.store).await.unwrap()).unwrap();
    without["Brevet"]["BucketPolicies"] = json!([]);
    let planned = plan(world.cx(), file(&without), true).await.unwrap();
    let shown: String = planned.planned.iter().map(Planned::describe).collect();
    assert_eq!(shown, "- bucket-policy data\n");
}

#[tokio::test]
async fn a_bucket_that_everybody_may_read_is_warned_of() {
    let world = World::new().await;
    let public = json!({"Brevet": {"BucketPolicies": [{"Bucket": "site", "AccountId": ACCOUNT, "Policy": {
        "Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Principal": "*", "Action": "s3:GetObject",
            "Resource": "arn:aws:s3:::site/*"}]}}]}});
    let import = plan(world.cx(), file(&public), false).await.unwrap();
    let warned = import
        .warnings
        .iter()
        .any(|w| w.starts_with("the policy of bucket site allows everybody"));
    assert!(warned, "{:?}", import.warnings);
    import
        .apply(world.cx(), &Actor::operator("test"))
        .await
        .unwrap();
    let mut directory = Directory::empty().unwrap();
    world
        .store
        .scan::<StoreError>(|kind, _, _, body| {
            let thing = Resource::parse(kind, body).unwrap();
            directory
                .insert_stored(&thing, Some(&world.master_key))
                .unwrap();
            Ok(())
        })
        .await
        .unwrap();
    let warnings = directory.warnings();
    assert!(
        warnings.iter().any(|w| w.contains("bucket site")),
        "{warnings:?}"
    );
}
