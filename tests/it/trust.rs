//! Trust policies that admit anybody need a tag that says so, and rows of earlier versions without it
//! admit nobody.

use brevet::base::entropy::SystemEntropy;
use brevet::commands::{self, Command, CommandContext, CommandError, Edit};
use brevet::directory::Directory;
use brevet::directory::resource::{Name, Resource, ResourceKind};
use serde_json::{Value, json};

use crate::harness::*;

const ROLE: &str = "arn:aws:iam::111122223333:role/Everybody";

fn trust(principal: Value, condition: Value) -> Value {
    json!({"Version": "2012-10-17", "Statement": [
        {"Effect": "Allow", "Principal": {"AWS": "arn:aws:iam::111122223333:user/alice"}, "Action": "sts:AssumeRole"},
        {"Effect": "Allow", "Principal": principal, "Action": "sts:AssumeRole", "Condition": condition}]})
}

fn role(trust: &Value, tags: &[(&str, &str)]) -> Value {
    let tags: Vec<Value> = tags
        .iter()
        .map(|(k, v)| json!({"Key": k, "Value": v}))
        .collect();
    json!({"Path": "/", "RoleName": "Everybody", "RoleId": "AROAEVERYBODYEVERYB1", "Arn": ROLE,
        "AssumeRolePolicyDocument": trust, "Tags": tags})
}

fn directory(role: &Value) -> Value {
    let mut directory: Value = serde_json::from_str(DIRECTORY).unwrap();
    directory["RoleDetailList"]
        .as_array_mut()
        .unwrap()
        .push(role.clone());
    directory
}

async fn planned(hand: &OtherProcess, file: &Value) -> Result<commands::Import, CommandError> {
    let entropy = SystemEntropy::new();
    let context = CommandContext {
        store: &hand.store,
        master_key: &hand.master_key,
        entropy: &entropy,
        now: now(),
        issuer: None,
    };
    commands::plan(
        context,
        brevet::directory::parse(file.to_string().as_bytes()).unwrap(),
        false,
    )
    .await
}

#[tokio::test]
async fn cf_04_everybody_without_a_condition_is_refused_by_role_rule_and_tag() {
    let broker = Broker::start_stored().await;
    let hand = broker.hand().await;
    for principal in [
        json!("*"),
        json!({"AWS": "*"}),
        json!({"AWS": ["111122223333", "*"]}),
    ] {
        let public = trust(principal.clone(), json!({}));
        let says = |error: String| {
            assert!(
                error.contains("Everybody") && error.contains("Statement[1]"),
                "{error}"
            );
            assert!(
                error.contains("allows everybody: its Principal is `*`"),
                "{error}"
            );
            assert!(error.contains("`brevet:public` = `true`"), "{error}");
        };
        for tags in [
            &[][..],
            &[("brevet:public", "yes")],
            &[("brevet:unbound-subject", "true")],
        ] {
            let file = directory(&role(&public, tags));
            says(
                Directory::compile(file.to_string().as_bytes(), None)
                    .unwrap_err()
                    .to_string(),
            );
            says(planned(&hand, &file).await.unwrap_err().to_string());
        }
        let file = directory(&role(&public, &[("brevet:public", "true")]));
        assert!(
            Directory::compile(file.to_string().as_bytes(), None).is_ok(),
            "{principal}"
        );
        let import = planned(&hand, &file).await.unwrap();
        assert!(
            import
                .warnings
                .iter()
                .any(|w| w.contains(ROLE) && w.contains("brevet:public = true")),
            "{principal}"
        );
        let condition = json!({"StringEquals": {"aws:PrincipalOrgID": "o-1"}});
        let file = directory(&role(&trust(principal, condition), &[]));
        assert!(Directory::compile(file.to_string().as_bytes(), None).is_ok());
        assert!(planned(&hand, &file).await.is_ok());
    }
}

#[tokio::test]
async fn cf_04_a_tag_that_overrides_the_rule_lets_in_and_is_audited() {
    let overrides = |audit: &[Value]| -> Vec<(String, Value)> {
        let of = |l: &&Value| {
            l["requestParameters"]["id"] == ROLE
                && l["additionalEventData"]["overridden"][0].is_string()
        };
        let records = audit.iter().filter(of);
        records
            .map(|l| {
                (
                    l["eventName"].as_str().unwrap().to_owned(),
                    l["additionalEventData"]["overridden"].clone(),
                )
            })
            .collect()
    };
    let public = trust(json!({"AWS": "*"}), json!({}));
    // In a file.
    let home = home();
    let path = home.path().join("directory.json");
    let tagged = directory(&role(&public, &[("brevet:public", "true")]));
    brevet::files::write_private(&path, tagged.to_string().as_bytes()).unwrap();
    let broker = Broker::start_in(home, |_| {}).await;
    assert!(broker.assume(&user("bob"), ROLE).await.is_ok());
    let audit = broker.into_audit().await;
    assert_eq!(
        overrides(&audit),
        [("LoadDirectory".to_owned(), json!(["brevet:public = true"]))]
    );
    // In the store: one change is refused, and with the tag it is taken.
    let broker = Broker::start_stored().await;
    let hand = broker.hand().await;
    let own = trust(
        json!({"AWS": "arn:aws:iam::111122223333:user/alice"}),
        json!({}),
    );
    let created = Resource::parse(ResourceKind::Role, &role(&own, &[]).to_string()).unwrap();
    hand.run(Command::Create(created)).await.unwrap();
    let open = || Edit::UpdateAssumeRolePolicy(public.to_string());
    let refused = hand
        .edit(ResourceKind::Role, ROLE, open())
        .await
        .unwrap_err();
    assert!(
        matches!(&refused, CommandError::MalformedPolicyDocument(why) if why.to_string().contains("brevet:public")),
        "{refused}"
    );
    hand.edit(
        ResourceKind::Role,
        ROLE,
        Edit::Tag(vec![("brevet:public".into(), "true".into())]),
    )
    .await
    .unwrap();
    let update = Command::Edit {
        name: Name::new(ResourceKind::Role, ROLE),
        edit: open(),
        expected: None,
    };
    let action = "UpdateAssumeRolePolicy";
    let sequence = hand.run_as(action, update).await.unwrap();
    broker.reaches(sequence).await;
    assert!(broker.assume(&user("bob"), ROLE).await.is_ok());
    // Nor does the tag go while the rule needs it.
    assert!(
        hand.edit(
            ResourceKind::Role,
            ROLE,
            Edit::Untag(vec!["brevet:public".into()])
        )
        .await
        .is_err()
    );
    let audit = broker.into_audit().await;
    assert_eq!(
        overrides(&audit),
        [(
            "UpdateAssumeRolePolicy".to_owned(),
            json!(["brevet:public = true"])
        )]
    );
}

#[tokio::test]
async fn cf_04_trust_in_another_account_without_an_external_id_is_a_warning() {
    let broker = Broker::start_stored().await;
    let hand = broker.hand().await;
    let warned = |warnings: &[String]| {
        warnings
            .iter()
            .any(|w| w.contains(ROLE) && w.contains("sts:ExternalId"))
    };
    for (principal, condition, expected) in [
        ("arn:aws:iam::444455556666:root", json!({}), true),
        ("arn:aws:iam::444455556666:user/carol", json!({}), true),
        ("arn:aws:iam::999999999999:role/Elsewhere", json!({}), true),
        (
            "arn:aws:iam::444455556666:root",
            json!({"StringEquals": {"sts:ExternalId": "x-1"}}),
            false,
        ),
        ("arn:aws:iam::111122223333:root", json!({}), false),
    ] {
        let file = directory(&role(&trust(json!({"AWS": principal}), condition), &[]));
        assert_eq!(
            warned(&planned(&hand, &file).await.unwrap().warnings),
            expected,
            "import: {principal}"
        );
        let loaded = Directory::compile(file.to_string().as_bytes(), None).unwrap();
        assert_eq!(warned(&loaded.warnings()), expected, "check: {principal}");
    }
}

#[tokio::test]
async fn oi_03_a_role_for_everybody_is_none_for_the_tenants_of_a_shared_issuer() {
    let broker = Broker::start_stored().await;
    let hand = broker.hand().await;
    let with = |principal: Value, action: &str, condition: Value, host: &str| {
        let mut file = directory(&role(
            &json!({"Version": "2012-10-17", "Statement": [
                {"Effect": "Allow", "Principal": principal, "Action": action, "Condition": condition}]}),
            &[],
        ));
        file["Brevet"]["OpenIDConnectProviders"] = json!([{"Url": format!("https://{host}"), "ClientIDList": ["sts"],
            "Arn": format!("arn:aws:iam::111122223333:oidc-provider/{host}")}]);
        file
    };
    let ip = json!({"IpAddress": {"aws:SourceIp": "127.0.0.0/8"}});
    let audience = json!({"StringEquals": {"gitlab.com:aud": "sts"}});
    let owner = json!({"StringLike": {"gitlab.com:sub": "project_path:acme/*"}});
    for (principal, action, condition, host, taken) in [
        (json!("*"), "sts:*", &ip, "gitlab.com", false),
        (
            json!("*"),
            "sts:AssumeRoleWithWebIdentity",
            &audience,
            "gitlab.com",
            false,
        ),
        (
            json!("*"),
            "sts:AssumeRoleWithWebIdentity",
            &owner,
            "gitlab.com",
            true,
        ),
        (json!("*"), "sts:AssumeRole", &ip, "gitlab.com", true),
        (json!("*"), "sts:*", &ip, "idp.example.com", true),
        (json!({"AWS": "*"}), "sts:*", &ip, "gitlab.com", true),
    ] {
        let file = with(principal.clone(), action, condition.clone(), host);
        let compiled = Directory::compile(file.to_string().as_bytes(), None);
        assert_eq!(
            compiled.is_ok(),
            taken,
            "{principal} {action} {condition} {host}"
        );
        let plan = planned(&hand, &file).await;
        assert_eq!(
            plan.is_ok(),
            taken,
            "{principal} {action} {condition} {host}"
        );
        if let Err(error) = plan {
            let error = error.to_string();
            assert!(
                error.contains(ROLE) && error.contains("oidc-provider/gitlab.com"),
                "{error}"
            );
        }
    }
    // A provider that AWS builds in is said to be none here, with what to declare.
    let file = with(
        json!({"Federated": "accounts.google.com"}),
        "sts:*",
        json!({}),
        "idp.example.com",
    );
    let error = planned(&hand, &file).await.unwrap_err().to_string();
    assert!(
        error.contains("built into AWS") && error.contains("https://accounts.google.com"),
        "{error}"
    );
}

#[tokio::test]
async fn a_role_of_the_store_that_breaks_a_younger_rule_lets_in_nobody_and_the_rest_works() {
    let home = stored_home().await;
    let place = brevet::store::Place::Sqlite(home.path().join("store.db"));
    let hand = OtherProcess::on(home.path(), &place).await;
    // As an earlier version wrote it: the rule did not exist.
    let mut writer = hand.store.write().await.unwrap();
    let row = Resource::parse(
        ResourceKind::Role,
        &role(&trust(json!("*"), json!({})), &[]).to_string(),
    )
    .unwrap();
    writer.put(&row).await.unwrap();
    writer.commit().await.unwrap();
    let broker = Broker::start_in(home, in_the_store).await;
    for who in ["alice", "bob"] {
        assert_eq!(
            broker.assume(&user(who), ROLE).await.err().as_deref(),
            Some("AccessDenied"),
            "{who}"
        );
    }
    assert!(
        broker
            .assume(&user("alice"), "arn:aws:iam::111122223333:role/Open")
            .await
            .is_ok()
    );
    let directory = broker
        .running
        .as_ref()
        .unwrap()
        .broker
        .directory
        .load_full();
    let warnings = directory.warnings();
    assert!(
        warnings.iter().any(|w| w.contains(ROLE)
            && w.contains("trusts nobody")
            && w.contains("brevet:public"))
    );
    // The tag is all that it takes.
    let sequence = hand
        .edit(
            ResourceKind::Role,
            ROLE,
            Edit::Tag(vec![("brevet:public".into(), "true".into())]),
        )
        .await
        .unwrap();
    broker.reaches(sequence).await;
    assert!(broker.assume(&user("bob"), ROLE).await.is_ok());
    assert!(
        !hand
            .store
            .get_all(ResourceKind::Role, vec![ROLE.to_owned()])
            .await
            .unwrap()
            .is_empty()
    );
}

#[test]
fn analyze_takes_what_import_takes_and_fails_with_findings() {
    let home = tempfile::tempdir().unwrap();
    let file = home.path().join("account.json");
    let run = |roles: Value, more: &[&str]| {
        // No ids, dates or paths; documents as the IAM API encodes them.
        std::fs::write(
            &file,
            json!({"RoleDetailList": roles, "IsTruncated": false}).to_string(),
        )
        .unwrap();
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_brevet"));
        let out = command
            .args(["policy", "analyze"])
            .args(more)
            .arg(&file)
            .output()
            .unwrap();
        (out.status.code(), String::from_utf8(out.stdout).unwrap())
    };
    let role = |name: &str, principal: &str| {
        let document = json!({"Version": "2012-10-17", "Statement": [
            {"Effect": "Allow", "Principal": {"AWS": principal}, "Action": "sts:AssumeRole"}]});
        let document = percent_encoding::utf8_percent_encode(
            &document.to_string(),
            percent_encoding::NON_ALPHANUMERIC,
        )
        .to_string();
        json!({"RoleName": name, "Arn": format!("arn:aws:iam::111122223333:role/{name}"), "AssumeRolePolicyDocument": document})
    };
    let own = role("Own", "arn:aws:iam::111122223333:user/alice");
    assert_eq!(run(json!([own]), &[]), (Some(0), String::new()));
    let (code, lines) = run(
        json!([own, role("Partner", "444455556666")]),
        &["--directory"],
    );
    assert_eq!(code, Some(1));
    assert!(
        lines.contains("role/Partner") && lines.contains("arn:aws:iam::444455556666:root"),
        "{lines}"
    );
    assert_eq!(lines.lines().count(), 1);
    let (code, lines) = run(json!([role("Open", "*")]), &["--json"]);
    let lines: Vec<Value> = lines
        .lines()
        .map(|l| serde_json::from_str(l).unwrap())
        .collect();
    assert_eq!((code, lines.len()), (Some(1), 2));
    assert_eq!(lines[0]["principal"], "*");
    assert!(
        lines[1]["refused"]
            .as_str()
            .unwrap()
            .contains("brevet:public"),
        "{lines:?}"
    );
}

/// A user with a key, whose own policies allow every STS action.
fn person(arn: &str, key: &Keys) -> Value {
    let name = arn.rsplit('/').next().unwrap();
    let allow = json!({"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "sts:*", "Resource": "*"}]});
    json!({"UserDetailList": [{"UserName": name, "Arn": arn,
            "UserPolicyList": [{"PolicyName": "p", "PolicyDocument": allow}]}],
        "Brevet": {"AccessKeys": [{"UserArn": arn, "AccessKeyId": key.id, "SecretAccessKey": key.secret}]}})
}

fn key(id: &str) -> Keys {
    Keys {
        id: id.to_owned(),
        secret: format!("canary+secret/of/{id}/0123456789"),
        token: None,
    }
}

fn trusts(principal: &str) -> Value {
    json!({"RoleDetailList": [role(&json!({"Version": "2012-10-17", "Statement": [
        {"Effect": "Allow", "Principal": {"AWS": principal}, "Action": "sts:AssumeRole"}]}), &[])]})
}

#[tokio::test]
async fn somebody_else_under_a_deleted_users_name_is_not_let_in() {
    let broker = Broker::start_stored().await;
    let hand = broker.hand().await;
    for (account, number) in [("111122223333", 1), ("444455556666", 2)] {
        let arn = format!("arn:aws:iam::{account}:user/eve");
        let (old, new) = (
            key(&format!("AKIAEVEEVEEVEEVEEV{number}A")),
            key(&format!("AKIAEVEEVEEVEEVEEV{number}B")),
        );
        hand.import(&person(&arn, &old)).await.unwrap();
        let sequence = hand.import(&trusts(&arn)).await.unwrap();
        broker.reaches(sequence).await;
        let session = broker.assume(&old, ROLE).await.unwrap();
        assert_eq!(broker.who(&session).await, "ok");
        // The one who is renamed is the same one.
        let rename = |name: &str| Edit::Rename {
            name: Some(name.to_owned()),
            path: None,
        };
        let sequence = hand
            .edit(ResourceKind::User, &arn, rename("eva"))
            .await
            .unwrap();
        broker.reaches(sequence).await;
        assert!(broker.assume(&old, ROLE).await.is_ok());
        hand.edit(
            ResourceKind::User,
            &arn.replace("eve", "eva"),
            rename("eve"),
        )
        .await
        .unwrap();
        // Made anew under the name.
        let delete = |kind, id: &str| Command::Delete {
            name: Name::new(kind, id),
            expected: None,
        };
        hand.run(delete(ResourceKind::AccessKey, &old.id))
            .await
            .unwrap();
        hand.edit(ResourceKind::User, &arn, Edit::DeletePolicy("p".into()))
            .await
            .unwrap();
        hand.run(delete(ResourceKind::User, &arn)).await.unwrap();
        let sequence = hand.import(&person(&arn, &new)).await.unwrap();
        broker.reaches(sequence).await;
        assert_eq!(broker.who(&new).await, "ok");
        assert_eq!(
            broker.assume(&new, ROLE).await.err().as_deref(),
            Some("AccessDenied"),
            "{account}"
        );
        // Whoever writes the policy again means the one who is there now.
        let sequence = hand.import(&trusts(&arn)).await.unwrap();
        broker.reaches(sequence).await;
        assert!(broker.assume(&new, ROLE).await.is_ok());
    }
}

#[tokio::test]
async fn a_session_of_a_role_that_was_made_anew_is_not_let_in() {
    let broker = Broker::start_stored().await;
    let hand = broker.hand().await;
    let session = "arn:aws:sts::111122223333:assumed-role/Open/job";
    for principal in [OPEN, session] {
        let sequence = hand.import(&trusts(principal)).await.unwrap();
        broker.reaches(sequence).await;
        let client = broker.client(&user("alice"));
        let job = async || {
            Keys::from(
                &client
                    .assume_role(&brevet::client::AssumeRole::new(OPEN, "job"))
                    .await
                    .unwrap()
                    .credentials,
            )
        };
        assert!(
            broker.assume(&job().await, ROLE).await.is_ok(),
            "{principal}"
        );
        let mut file: Value = serde_json::from_str(DIRECTORY).unwrap();
        let open = file["RoleDetailList"]
            .as_array_mut()
            .unwrap()
            .iter_mut()
            .find(|r| r["Arn"] == OPEN)
            .unwrap()
            .take();
        let anew = |id: &str| {
            let mut open = open.clone();
            open["RoleId"] = json!(id);
            json!({"RoleDetailList": [open]})
        };
        let sequence = hand.import(&anew("AROANEWNEWNEWNEWNEW1")).await.unwrap();
        broker.reaches(sequence).await;
        let refused = broker.assume(&job().await, ROLE).await.err();
        assert_eq!(refused.as_deref(), Some("AccessDenied"), "{principal}");
        hand.import(&anew("AROAOPENOPENOPENOPE1")).await.unwrap();
    }
    // A role that is not there is named by nobody.
    let missing = hand
        .import(&trusts("arn:aws:iam::111122223333:role/prod/Open"))
        .await
        .unwrap_err()
        .to_string();
    assert!(
        missing.contains(ROLE) && missing.contains("role/prod/Open"),
        "{missing}"
    );
}

#[tokio::test]
async fn a_row_of_an_earlier_version_is_bound_when_its_broker_starts() {
    let home = stored_home().await;
    let hand = OtherProcess::on(
        home.path(),
        &brevet::store::Place::Sqlite(home.path().join("store.db")),
    )
    .await;
    let row = trusts("arn:aws:iam::111122223333:user/bob")["RoleDetailList"][0].to_string();
    let mut writer = hand.store.write().await.unwrap();
    writer
        .put(&Resource::parse(ResourceKind::Role, &row).unwrap())
        .await
        .unwrap();
    writer.commit().await.unwrap();
    let before = hand.store.head().await.unwrap().sequence;
    let mut broker = Broker::start_in(home.clone(), in_the_store).await;
    broker.reaches(before + 1).await;
    assert!(broker.assume(&user("bob"), ROLE).await.is_ok());
    let mut writer = hand.store.write().await.unwrap();
    let stored = writer
        .get(&Name::new(ResourceKind::Role, ROLE))
        .await
        .unwrap()
        .unwrap();
    writer.abandon().await;
    assert!(
        stored.body.contains("AIDABOBBOBBOBBOBBOB1") && !stored.body.contains("user/bob"),
        "{}",
        stored.body
    );
    // Once: the next start finds nothing to do.
    broker.stop().await;
    let broker = Broker::start_in(home, in_the_store).await;
    assert!(broker.assume(&user("bob"), ROLE).await.is_ok());
    assert_eq!(hand.store.head().await.unwrap().sequence, before + 1);
}
