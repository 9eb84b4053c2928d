//! Shows that each limit has the same effect on a command as on an import.

use super::*;

/// A policy document with exactly this number of characters.
fn document(mut statement: Value, size: usize) -> Value {
    let mut values = vec![String::new()];
    loop {
        statement["Condition"] = json!({"StringEquals": {"aws:UserAgent": values}});
        let document = json!({"Version": "2012-10-17", "Statement": [statement]});
        match size - document.to_string().len() {
            0 => return document,
            rest @ 1..300 => values[0] = "x".repeat(rest),
            _ => values.push("x".repeat(200)),
        }
    }
}

fn allow(size: usize) -> Value {
    document(
        json!({"Effect": "Allow", "Action": "s3:*", "Resource": "*"}),
        size,
    )
}

fn trust(size: usize) -> Value {
    document(
        json!({"Effect": "Allow", "Action": "sts:AssumeRole", "Principal": {"AWS": ACCOUNT}}),
        size,
    )
}

fn simple_trust() -> Value {
    serde_json::from_str(TRUST).unwrap()
}

fn simple_policies(count: usize) -> Vec<Value> {
    let document: Value = serde_json::from_str(ALLOW).unwrap();
    let policy = |n| {
        json!({"PolicyName": format!("P{n}"), "Arn": arn("policy", &format!("P{n}")), "DefaultVersionId": "v1",
            "PolicyVersionList": [{"VersionId": "v1", "IsDefaultVersion": true, "Document": document}]})
    };
    (0..count).map(policy).collect()
}

fn attached(count: usize) -> Vec<Value> {
    let policy =
        |n| json!({"PolicyName": format!("P{n}"), "PolicyArn": arn("policy", &format!("P{n}"))});
    (0..count).map(policy).collect()
}

fn tags(count: usize) -> Vec<Value> {
    let tag = |n| json!({"Key": format!("key{n}"), "Value": ""});
    (0..count).map(tag).collect()
}

/// A function that makes a directory in which the resource with this name has a given number of
/// attachments.
type Having = fn(usize, &str) -> Value;

fn user_with(name: &str, field: &str, value: Value) -> Value {
    json!({"UserName": name, "Arn": arn("user", name), field: value})
}

fn group_with(name: &str, field: &str, value: Value) -> Value {
    json!({"GroupName": name, "Arn": arn("group", name), field: value})
}

fn role_with(name: &str, field: &str, value: Value) -> Value {
    let mut role = json!({"RoleName": name, "Arn": arn("role", name),
        "AssumeRolePolicyDocument": simple_trust()});
    role[field] = value;
    role
}

fn of_user(name: &str, list: &str, members: Vec<Value>) -> Value {
    json!({"UserDetailList": [{"UserName": name, "Arn": arn("user", name)}], "Brevet": {list: members}})
}

const LIMITS: &[(&str, usize, &str, Having)] = &[
    ("PoliciesPerUser", 20, "LimitExceeded", |n, name| {
        let user = user_with(name, "AttachedManagedPolicies", json!(attached(n)));
        json!({"UserDetailList": [user], "Policies": simple_policies(n)})
    }),
    ("PoliciesPerGroup", 10, "LimitExceeded", |n, name| {
        let group = group_with(name, "AttachedManagedPolicies", json!(attached(n)));
        json!({"GroupDetailList": [group], "Policies": simple_policies(n)})
    }),
    ("PoliciesPerRole", 25, "LimitExceeded", |n, name| {
        let role = role_with(name, "AttachedManagedPolicies", json!(attached(n)));
        json!({"RoleDetailList": [role], "Policies": simple_policies(n)})
    }),
    ("GroupsPerUser", 10, "LimitExceeded", |n, name| {
        let groups: Vec<String> = (0..n).map(|n| format!("G{n}")).collect();
        let list: Vec<Value> = groups
            .iter()
            .map(|g| group_with(g, "Path", json!("/")))
            .collect();
        let user = user_with(name, "GroupList", json!(groups));
        json!({"UserDetailList": [user], "GroupDetailList": list})
    }),
    ("AccessKeysPerUser", 2, "LimitExceeded", |n, name| {
        let key = |at| {
            json!({"AccessKeyId": format!("AKIATESTTEST{n:04}{at:04}"), "UserArn": arn("user", name),
            "SecretAccessKey": "a-secret-that-is-long-enough-0123456789"})
        };
        of_user(name, "AccessKeys", (0..n).map(key).collect())
    }),
    ("MFADevicesPerUser", 8, "LimitExceeded", |n, name| {
        let device = |at| {
            json!({"SerialNumber": arn("mfa", &format!("{name}-{at}")), "UserArn": arn("user", name),
            "Base32StringSeed": "JBSWY3DPEHPK3PXPJBSWY3DPEHPK3PXP"})
        };
        of_user(name, "MFADevices", (0..n).map(device).collect())
    }),
    ("UserPolicySize", 2_048, "LimitExceeded", |n, name| {
        let inline = json!([{"PolicyName": "i", "PolicyDocument": allow(n)}]);
        json!({"UserDetailList": [user_with(name, "UserPolicyList", inline)]})
    }),
    ("GroupPolicySize", 5_120, "LimitExceeded", |n, name| {
        let inline = json!([{"PolicyName": "i", "PolicyDocument": allow(n - 1_000)}, {"PolicyName": "j", "PolicyDocument": allow(1_000)}]);
        json!({"GroupDetailList": [group_with(name, "GroupPolicyList", inline)]})
    }),
    ("RolePolicySize", 10_240, "LimitExceeded", |n, name| {
        let inline = json!([{"PolicyName": "i", "PolicyDocument": allow(n)}]);
        json!({"RoleDetailList": [role_with(name, "RolePolicyList", inline)]})
    }),
    (
        "ACLSizePerRole",
        8_192,
        "LimitExceeded",
        |n, name| json!({"RoleDetailList": [role_with(name, "AssumeRolePolicyDocument", trust(n))]}),
    ),
    ("PolicySize", 6_144, "LimitExceeded", |n, name| {
        let version = json!({"VersionId": "v1", "IsDefaultVersion": true, "Document": allow(n)});
        json!({"Policies": [{"PolicyName": name, "Arn": arn("policy", name), "PolicyVersionList": [version]}]})
    }),
    ("VersionsPerPolicy", 5, "LimitExceeded", |n, name| {
        let version = |at| json!({"VersionId": format!("v{at}"), "IsDefaultVersion": at == n, "Document": allow(200)});
        let versions: Vec<Value> = (1..=n).map(version).collect();
        json!({"Policies": [{"PolicyName": name, "Arn": arn("policy", name), "PolicyVersionList": versions}]})
    }),
    (
        "TagsPerUser",
        50,
        "LimitExceeded",
        |n, name| json!({"UserDetailList": [user_with(name, "Tags", json!(tags(n)))]}),
    ),
    (
        "TagsPerRole",
        50,
        "LimitExceeded",
        |n, name| json!({"RoleDetailList": [role_with(name, "Tags", json!(tags(n)))]}),
    ),
    (
        "InstanceSessionsPerInstanceProfile",
        1,
        "LimitExceeded",
        |n, name| {
            let roles: Vec<String> = (0..n).map(|n| format!("R{n}")).collect();
            let list: Vec<Value> = roles
                .iter()
                .map(|r| role_with(r, "Path", json!("/")))
                .collect();
            let inside: Vec<Value> = roles.iter().map(|r| json!({"RoleName": r})).collect();
            json!({"RoleDetailList": list, "Brevet": {"InstanceProfiles": [
            {"InstanceProfileName": name, "Arn": arn("instance-profile", name), "Roles": inside}]}})
        },
    ),
    (
        "ClientIdsPerOpenIdConnectProvider",
        100,
        "LimitExceeded",
        |n, name| {
            let ids: Vec<String> = (0..n).map(|n| format!("client{n}")).collect();
            let host = format!("{}.example", name.to_ascii_lowercase());
            json!({"Brevet": {"OpenIDConnectProviders": [
            {"Arn": arn("oidc-provider", &host), "Url": format!("https://{host}"), "ClientIDList": ids}]}})
        },
    ),
    ("thumbprints", 5, "ValidationError", |n, name| {
        let host = format!("{}.example", name.to_ascii_lowercase());
        json!({"Brevet": {"OpenIDConnectProviders": [{"Arn": arn("oidc-provider", &host), "Url": format!("https://{host}"),
            "ClientIDList": ["c"], "ThumbprintList": vec!["a".repeat(40); n]}]}})
    }),
    (
        "a description",
        1_000,
        "ValidationError",
        |n, name| json!({"RoleDetailList": [role_with(name, "Description", json!("d".repeat(n)))]}),
    ),
    ("a user's name", 64, "ValidationError", |n, name| {
        let name = format!("{name:x<n$}");
        json!({"UserDetailList": [user_with(&name, "Path", json!("/"))]})
    }),
    ("a group's name", 128, "ValidationError", |n, name| {
        let name = format!("{name:x<n$}");
        json!({"GroupDetailList": [group_with(&name, "Path", json!("/"))]})
    }),
];

fn declaration(file: &Value) -> Declaration {
    directory::parse(file.to_string().as_bytes()).unwrap()
}

/// Creates all declared resources that do not exist yet, with one command each.
async fn by_commands(world: &World, file: &Value) -> Result<i64, CommandError> {
    let mut sequence = 0;
    for resource in directory::declared(declaration(file)).unwrap() {
        let mut writer = world.store.write().await.unwrap();
        let is_there = writer.get(&resource.name()).await.unwrap().is_some();
        writer.abandon().await;
        if !is_there {
            sequence = world.run(Command::Create(resource)).await?;
        }
    }
    Ok(sequence)
}

async fn by_import(world: &World, file: &Value) -> Result<i64, CommandError> {
    let import = plan(world.cx(), declaration(file), false).await?;
    import.apply(world.cx(), &Actor::operator("test")).await
}

#[tokio::test]
async fn an_import_exceeds_no_limit_that_a_command_keeps() {
    let (one, other) = (World::new().await, World::new().await);
    for (what, most, refusal, having) in LIMITS {
        for (count, expected) in [(*most, "ok"), (most + 1, *refusal)] {
            let name: String = what.chars().filter(char::is_ascii_alphanumeric).collect();
            let file = having(count, &format!("{name}{count}"));
            let results = [
                ("command", by_commands(&one, &file).await),
                ("import", by_import(&other, &file).await),
            ];
            for (way, result) in results {
                assert_eq!(
                    code(&result),
                    expected,
                    "{what}: {count} by {way}: {result:?}"
                );
                if expected == "LimitExceeded" {
                    let said = result.unwrap_err().to_string();
                    let ends = format!("the quota {what} allows at most {most}");
                    assert!(said.ends_with(&ends), "{said}");
                }
            }
        }
    }
}

#[tokio::test]
async fn an_import_refers_to_nothing_that_a_command_would_miss() {
    let (one, other) = (World::new().await, World::new().await);
    let missing = [
        json!({"UserDetailList": [user_with("u", "AttachedManagedPolicies", json!(attached(1)))]}),
        json!({"UserDetailList": [user_with("u", "GroupList", json!(["nobody"]))]}),
        json!({"Brevet": {"AccessKeys": [{"AccessKeyId": "AKIATESTTESTTESTTEST", "UserArn": arn("user", "nobody"),
            "SecretAccessKey": "a-secret-that-is-long-enough-0123456789"}]}}),
        json!({"Brevet": {"InstanceProfiles": [{"InstanceProfileName": "p", "Arn": arn("instance-profile", "p"),
            "Roles": [{"RoleName": "nobody"}]}]}}),
    ];
    for file in missing {
        for result in [
            by_commands(&one, &file).await,
            by_import(&other, &file).await,
        ] {
            assert_eq!(code(&result), "NoSuchEntity", "{file}: {result:?}");
        }
    }
}

#[tokio::test]
async fn what_is_attached_after_a_plan_was_made_is_not_pruned() {
    let world = World::new().await;
    world.run(policy("P")).await.unwrap();
    let file = json!({"Brevet": {"Accounts": [{"AccountId": ACCOUNT}]}});
    let import = plan(world.cx(), declaration(&file), true).await.unwrap();
    assert_eq!(import.planned.len(), 1);
    world.run(user("alice")).await.unwrap();
    let attach = Edit::AttachPolicy(arn("policy", "P"));
    world
        .run(edit(ResourceKind::User, &arn("user", "alice"), attach))
        .await
        .unwrap();
    let before = world.store.head().await.unwrap();
    let refused = import.apply(world.cx(), &Actor::operator("test")).await;
    assert_eq!(code(&refused), "NoSuchEntity", "{refused:?}");
    assert_eq!(world.store.head().await.unwrap(), before);
}

#[tokio::test]
async fn a_key_that_is_imported_counts_beside_those_that_are_there() {
    let world = World::new().await;
    let keys = |numbers: &[u8]| {
        let key = |n: &u8| {
            json!({"AccessKeyId": format!("AKIATESTTESTTESTTES{n}"), "UserArn": arn("user", "alice"),
            "SecretAccessKey": "a-secret-that-is-long-enough-0123456789"})
        };
        of_user("alice", "AccessKeys", numbers.iter().map(key).collect())
    };
    by_import(&world, &keys(&[1, 2])).await.unwrap();
    assert_eq!(code(&by_import(&world, &keys(&[3])).await), "LimitExceeded");
    by_import(&world, &keys(&[1, 2])).await.unwrap();
    // One is deleted in the same import.
    let import = plan(world.cx(), declaration(&keys(&[2, 3])), true)
        .await
        .unwrap();
    import
        .apply(world.cx(), &Actor::operator("test"))
        .await
        .unwrap();
}

#[tokio::test]
async fn what_is_older_than_a_quota_may_shrink_and_not_grow() {
    let world = World::new().await;
    by_import(&world, &json!({"Policies": simple_policies(23)}))
        .await
        .unwrap();
    let user = json!({"UserName": "u", "Arn": arn("user", "u"), "UserId": "AIDAUSERUSERUSERUSE1", "Path": "/",
        "CreateDate": "2001-09-09T01:46:40Z", "AttachedManagedPolicies": attached(22)});
    let mut writer = world.store.write().await.unwrap();
    let row = Resource::parse(ResourceKind::User, &user.to_string()).unwrap();
    writer.put(&row).await.unwrap();
    writer.commit().await.unwrap();
    let change = |change| edit(ResourceKind::User, &arn("user", "u"), change);
    let tag = || change(Edit::Tag(vec![("k".to_owned(), "v".to_owned())]));
    world.run(tag()).await.unwrap();
    let attach = || change(Edit::AttachPolicy(arn("policy", "P22")));
    assert_eq!(code(&world.run(attach()).await), "LimitExceeded");
    for n in 0..3 {
        let detach = change(Edit::DetachPolicy(arn("policy", &format!("P{n}"))));
        world.run(detach).await.unwrap();
    }
    world.run(attach()).await.unwrap();
    let again = change(Edit::AttachPolicy(arn("policy", "P0")));
    assert_eq!(code(&world.run(again).await), "LimitExceeded");
    // An import of the existing state changes nothing.
    let mut file = serde_json::to_value(export(&world.store).await.unwrap()).unwrap();
    assert!(
        plan(world.cx(), declaration(&file), true)
            .await
            .unwrap()
            .planned
            .is_empty()
    );
    file["UserDetailList"][0]["AttachedManagedPolicies"] = json!(attached(21));
    assert_eq!(code(&by_import(&world, &file).await), "LimitExceeded");
}

#[tokio::test]
async fn exports_of_real_accounts_are_imported() {
    let mut count = 0;
    for folder in ["tests/data", "config"] {
        let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join(folder);
        let mut folders = vec![root];
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    folders.push(path);
                    continue;
                }
                let text = std::fs::read(&path).unwrap();
                let is_json = path.extension().is_some_and(|e| e == "json");
                let Some(declaration) = is_json.then(|| directory::parse(&text).ok()).flatten()
                else {
                    continue;
                };
                // A file with data of another kind can look like an empty declaration.
                if declaration.role_detail_list.is_empty() {
                    continue;
                }
                let world = World::new().await;
                let sealed = directory::parse(&text).unwrap();
                let import = plan(world.cx(), sealed, false).await;
                let import = import.unwrap_or_else(|e| panic!("{}: {e}", path.display()));
                import
                    .apply(world.cx(), &Actor::operator("test"))
                    .await
                    .unwrap();
                count += 1;
            }
        }
    }
    assert!(count > 0, "there is no export to import");
}
