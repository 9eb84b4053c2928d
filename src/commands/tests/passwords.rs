//! Tests commands on login profiles, password policies and account aliases.

use super::*;
use crate::base::secret::Secret;
use crate::directory::declaration::PasswordPolicyDetail;
use crate::password::hash::{self, Cost};

const HASH: &str = "$argon2id$v=19$m=19456,t=2,p=1$c2l4dGVlbiBieXRlIHNsdA$G/bFSWjBTx+oD5UAxzUD+cpH7AFcbWp48NzvOCVG3rM";

fn profile(user: &str) -> Command {
    create(
        "login-profile",
        json!({"UserArn": arn("user", user), "PasswordHash": HASH}),
    )
}

/// A hash that differs from others by its salt.
fn nth_hash(n: usize) -> String {
    HASH.replace("c2l4", &format!("{n:04}"))
}

async fn stored(world: &World, user: &str) -> Option<(Value, Vec<String>)> {
    let name = Name::new(ResourceKind::LoginProfile, arn("user", user));
    let mut writer = world.store.write().await.unwrap();
    let row = writer.get(&name).await.unwrap();
    writer.abandon().await;
    let row = row?;
    let resource = Resource::parse(ResourceKind::LoginProfile, &row.body).unwrap();
    let field = resource.secret().unwrap();
    let opened = world
        .master_key
        .open(&field.bound_to, field.sealed.unwrap());
    let opened = opened.unwrap();
    let hashes = hash::each(opened.expose()).map(str::to_owned).collect();
    Some((serde_json::from_str(&row.body).unwrap(), hashes))
}

#[tokio::test]
async fn a_password_is_kept_sealed_and_its_predecessors_with_it() {
    let world = World::new().await;
    world.run(user("alice")).await.unwrap();
    world.run(profile("alice")).await.unwrap();
    assert_eq!(
        code(&world.run(profile("alice")).await),
        "EntityAlreadyExists"
    );
    assert_eq!(code(&world.run(profile("bob")).await), "NoSuchEntity");
    assert_eq!(
        code(
            &world
                .run(delete(ResourceKind::User, &arn("user", "alice")))
                .await
        ),
        "DeleteConflict"
    );
    let change = |n, reset| {
        edit(
            ResourceKind::LoginProfile,
            &arn("user", "alice"),
            Edit::UpdateLoginProfile {
                password_hash: Some(Secret::new(nth_hash(n))),
                password_reset_required: reset,
            },
        )
    };
    for n in 1..=30 {
        world
            .run(change(n, (n == 1).then_some(true)))
            .await
            .unwrap();
    }
    let (row, hashes) = stored(&world, "alice").await.unwrap();
    assert!(!row.to_string().contains("argon2id"), "{row}");
    assert_eq!(row["PasswordResetRequired"], true);
    let expected: Vec<String> = (7..=30).rev().map(nth_hash).collect();
    assert_eq!(hashes, expected);
    // Neither the feed nor the documents beside it contain a hash.
    for change in world.changes().await {
        assert!(!change.detail.contains("argon2id"), "{}", change.detail);
    }
    world
        .run(delete(ResourceKind::LoginProfile, &arn("user", "alice")))
        .await
        .unwrap();
    world
        .run(delete(ResourceKind::User, &arn("user", "alice")))
        .await
        .unwrap();
}

#[tokio::test]
async fn a_hash_that_is_made_anew_ends_nothing_and_is_of_the_same_password() {
    let world = World::new().await;
    world.run(user("alice")).await.unwrap();
    let hashes = format!("{HASH} {}", nth_hash(1));
    let imported = json!({"UserArn": arn("user", "alice"), "PasswordHash": hashes,
        "PasswordLastChanged": "2001-01-01T00:00:00Z"});
    world.run(create("login-profile", imported)).await.unwrap();
    let name = arn("user", "alice");
    let change = |edit_: Edit| edit(ResourceKind::LoginProfile, &name, edit_);
    let anew = hash::anew("correct horse", HASH, Cost::DEFAULT).unwrap();
    let anew = || Edit::MakePasswordHashAnew(Secret::new(anew.to_string()));
    let revoked = async || {
        let changes = world.changes().await;
        changes
            .iter()
            .filter(|c| c.detail.contains("Revoked"))
            .count()
    };
    world.run(change(anew())).await.unwrap();
    let (row, stored_hashes) = stored(&world, "alice").await.unwrap();
    assert_eq!(Cost::of(&stored_hashes[0]), Ok(Cost::DEFAULT));
    assert_eq!(hash::matches("correct horse", &stored_hashes[0]), Ok(true));
    assert_eq!(stored_hashes[1..], [nth_hash(1)]);
    assert_eq!(row["PasswordLastChanged"], "2001-01-01T00:00:00Z");
    assert_eq!(revoked().await, 0);
    // An older export, which still has the first hash, brings no other password either.
    let again = json!({"UserArn": name, "PasswordHash": hashes});
    let again = Command::Replace {
        resource: Resource::parse(ResourceKind::LoginProfile, &again.to_string()).unwrap(),
        expected: None,
    };
    world.run(again).await.unwrap();
    assert_eq!(revoked().await, 0);
    // Another password does, and the hash of the one before comes too late.
    let other = Edit::UpdateLoginProfile {
        password_hash: Some(Secret::new(nth_hash(2))),
        password_reset_required: None,
    };
    world.run(change(other)).await.unwrap();
    assert_eq!(revoked().await, 1);
    assert_eq!(code(&world.run(change(anew())).await), "ValidationError");
    assert_eq!(stored(&world, "alice").await.unwrap().1[0], nth_hash(2));
}

#[tokio::test]
async fn a_password_follows_its_user_to_another_name() {
    let world = World::new().await;
    world.run(user("alice")).await.unwrap();
    world.run(profile("alice")).await.unwrap();
    let rename = Edit::Rename {
        name: Some("carol".into()),
        path: None,
    };
    world
        .run_as(
            "UpdateUser",
            edit(ResourceKind::User, &arn("user", "alice"), rename),
        )
        .await
        .unwrap();
    assert!(stored(&world, "alice").await.is_none());
    assert_eq!(stored(&world, "carol").await.unwrap().1, [HASH]);
    let names: Vec<(String, String)> = world
        .changes()
        .await
        .into_iter()
        .filter(|change| change.kind == "login-profile")
        .map(|change| (change.action, change.id))
        .collect();
    let gone = ("DeleteLoginProfile".to_owned(), arn("user", "alice"));
    assert!(names.contains(&gone), "{names:?}");
}

#[tokio::test]
async fn what_is_no_hash_is_refused() {
    let world = World::new().await;
    world.run(user("alice")).await.unwrap();
    let command = |hash: &str| {
        create(
            "login-profile",
            json!({"UserArn": arn("user", "alice"), "PasswordHash": hash}),
        )
    };
    for hash in ["hunter2", "", &HASH.replace("m=19456", "m=64")] {
        let refused = world.run(command(hash)).await.unwrap_err().to_string();
        assert!(
            refused.contains("PasswordHash") || hash.is_empty(),
            "{refused}"
        );
        assert!(!refused.contains("hunter2"), "{refused}");
    }
    let of_a_role = json!({"UserArn": arn("role", "R"), "PasswordHash": HASH});
    let refused = world.run(create("login-profile", of_a_role)).await;
    assert_eq!(code(&refused), "ValidationError");
}

#[tokio::test]
async fn an_alias_belongs_to_one_account() {
    let world = World::new().await;
    let other = json!({"AccountId": "444455556666"});
    world.run(create("account", other)).await.unwrap();
    let alias = |account: &str, alias: Option<&str>| {
        let alias = alias.map(str::to_owned);
        edit(ResourceKind::Account, account, Edit::SetAlias(alias))
    };
    for (account, name, expected) in [
        (ACCOUNT, Some("acme"), "ok"),
        (ACCOUNT, Some("acme"), "ok"),
        ("444455556666", Some("acme"), "EntityAlreadyExists"),
        (ACCOUNT, Some("acme-2"), "ok"),
        ("444455556666", Some("acme"), "ok"),
        (ACCOUNT, Some("444455556666"), "ValidationError"),
        (ACCOUNT, Some("a--b"), "ValidationError"),
        (ACCOUNT, Some("-ab"), "ValidationError"),
        (ACCOUNT, Some("ab"), "ValidationError"),
        (ACCOUNT, Some("Other"), "ValidationError"),
        (ACCOUNT, None, "ok"),
        ("444455556666", Some("acme-2"), "ok"),
    ] {
        let result = world.run(alias(account, name)).await;
        assert_eq!(code(&result), expected, "{account} {name:?}: {result:?}");
    }
}

#[tokio::test]
async fn a_name_that_differs_only_in_path_is_taken() {
    let world = World::new().await;
    world.run(user("alice")).await.unwrap();
    world.run(user("bob")).await.unwrap();
    let rename = |name: &str, path: &str| {
        let rename = Edit::Rename {
            name: Some(name.into()),
            path: Some(path.into()),
        };
        edit(ResourceKind::User, &arn("user", "bob"), rename)
    };
    for name in ["alice", "Alice"] {
        let result = world.run(rename(name, "/staff/")).await;
        assert_eq!(code(&result), "EntityAlreadyExists", "{name}: {result:?}");
    }
    world.run(rename("Bob", "/staff/")).await.unwrap();
}

#[tokio::test]
async fn a_password_policy_is_checked_and_can_be_removed() {
    let world = World::new().await;
    let set = |policy: Value| {
        let policy: Option<PasswordPolicyDetail> = serde_json::from_value(policy).unwrap();
        edit(
            ResourceKind::Account,
            ACCOUNT,
            Edit::SetPasswordPolicy(policy),
        )
    };
    for (policy, expected) in [
        (json!({}), "ok"),
        (
            json!({"MinimumPasswordLength": 128, "MaxPasswordAge": 1095, "PasswordReusePrevention": 24}),
            "ok",
        ),
        (json!({"MinimumPasswordLength": 5}), "ValidationError"),
        (json!({"MinimumPasswordLength": 129}), "ValidationError"),
        (json!({"MaxPasswordAge": 0}), "ValidationError"),
        (json!({"MaxPasswordAge": 1096}), "ValidationError"),
        (json!({"PasswordReusePrevention": 0}), "ValidationError"),
        (json!({"PasswordReusePrevention": 25}), "ValidationError"),
        (json!(null), "ok"),
    ] {
        let result = world.run(set(policy.clone())).await;
        assert_eq!(code(&result), expected, "{policy}: {result:?}");
    }
}
