//! Somebody who writes to the database directly cannot change what brokers accept: every kind of
//! change is noticed and reported.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use brevet::base::clock::Timestamp;
use brevet::base::entropy::SystemEntropy;
use brevet::commands::{self, Actor, Command, CommandContext};
use brevet::directory::resource::{Name, Resource, ResourceKind};
use brevet::master_key::MasterKey;
use brevet::revocations::{Mark, Revocations, Selector};
use brevet::store::{Access, Entrance, Entry, Place, Store, StoreError, Watermark};
use serde_json::{Value, json};
use sqlx::Connection;
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection};

use crate::binary::Home;
use crate::harness::*;

const ACCOUNT: &str = "111122223333";

pub(crate) fn arn(kind: &str, name: &str) -> String {
    format!("arn:aws:iam::{ACCOUNT}:{kind}/{name}")
}

/// Statements of another program.
pub(crate) async fn sql(path: &Path, statements: &str) {
    let mut connection =
        SqliteConnection::connect_with(&SqliteConnectOptions::new().filename(path))
            .await
            .unwrap();
    sqlx::raw_sql(sqlx::AssertSqlSafe(statements.to_owned()))
        .execute(&mut connection)
        .await
        .unwrap_or_else(|error| panic!("{statements}: {error}"));
    connection.close().await.unwrap();
}

/// Two things of a kind.
fn pair(kind: ResourceKind) -> [Value; 2] {
    let allow = json!({"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "s3:*", "Resource": "*"}]});
    let trust = json!({"Version": "2012-10-17", "Statement": [{"Effect": "Allow",
        "Principal": {"AWS": format!("arn:aws:iam::{ACCOUNT}:root")}, "Action": "sts:AssumeRole"}]});
    [1, 2].map(|n| match kind {
        ResourceKind::Account => json!({"AccountId": format!("{n}11122223333")}),
        ResourceKind::Policy => json!({"PolicyName": format!("P{n}"), "Arn": arn("policy", &format!("P{n}")), "DefaultVersionId": "v1",
            "PolicyVersionList": [{"VersionId": "v1", "IsDefaultVersion": true, "Document": allow}]}),
        ResourceKind::Group => json!({"GroupName": format!("G{n}"), "Arn": arn("group", &format!("G{n}")),
            "AttachedManagedPolicies": [{"PolicyName": format!("P{n}"), "PolicyArn": arn("policy", &format!("P{n}"))}]}),
        ResourceKind::User => json!({"UserName": format!("U{n}"), "Arn": arn("user", &format!("U{n}")),
            "GroupList": [format!("G{n}")], "UserPolicyList": [{"PolicyName": "own", "PolicyDocument": allow}]}),
        ResourceKind::Role => json!({"RoleName": format!("R{n}"), "Arn": arn("role", &format!("R{n}")),
            "AssumeRolePolicyDocument": trust}),
        ResourceKind::InstanceProfile => json!({"InstanceProfileName": format!("I{n}"),
            "Arn": arn("instance-profile", &format!("I{n}")), "Roles": [{"RoleName": format!("R{n}")}]}),
        ResourceKind::AccessKey => json!({"AccessKeyId": format!("AKIATESTTESTTESTTES{n}"),
            "UserArn": arn("user", &format!("U{n}")), "SecretAccessKey": format!("a-secret-that-is-long-enough-{n:010}")}),
        ResourceKind::Certificate => json!({"SpiffeId": format!("spiffe://example.org/node/{n}"),
            "UserArn": arn("user", &format!("U{n}"))}),
        ResourceKind::MfaDevice => json!({"SerialNumber": arn("mfa", &format!("U{n}")), "UserArn": arn("user", &format!("U{n}")),
            "Base32StringSeed": "JBSWY3DPEHPK3PXPJBSWY3DPEHPK3PXP"}),
        ResourceKind::LoginProfile => json!({"UserArn": arn("user", &format!("U{n}")),
            "PasswordHash": format!("$argon2id$v=19$m=19456,t=2,p=1$c2l4dGVlbiBieXRlIHN{n}dA$G/bFSWjBTx+oD5UAxzUD+cpH7AFcbWp48NzvOCVG3rM")}),
        ResourceKind::OidcProvider => json!({"Arn": arn("oidc-provider", &format!("idp{n}.example.com")),
            "Url": format!("https://idp{n}.example.com"), "ClientIDList": ["sts.amazonaws.com"]}),
        ResourceKind::SamlProvider => json!({"Arn": arn("saml-provider", &format!("S{n}")),
            "SAMLMetadataDocument": include_str!("../data/saml/pysaml2-metadata.xml")}),
        ResourceKind::Association => json!({"Arn": format!("arn:aws:ecs::{ACCOUNT}:task-definition/cluster/F{n}"),
            "Cluster": "cluster", "Family": format!("F{n}"), "RoleArn": arn("role", &format!("R{n}"))}),
        ResourceKind::BucketPolicy => json!({"Bucket": format!("bucket-{n}"), "AccountId": ACCOUNT, "Policy": {
            "Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Principal": {"AWS": arn("user", &format!("U{n}"))},
                "Action": "s3:GetObject", "Resource": format!("arn:aws:s3:::bucket-{n}/*")}]}}),
        ResourceKind::Organization => unreachable!("a directory has at most one"),
    })
}

/// A store with two things of each kind, each written twice, and revocations; and how it was in between.
pub(crate) struct World {
    dir: tempfile::TempDir,
    pub(crate) master_key: MasterKey,
    names: Vec<[Name; 2]>,
    pub(crate) head: i64,
}

const SESSION: &str = "00112233445566778899aabbccddeeff";

impl World {
    pub(crate) async fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let entropy = SystemEntropy::new();
        let master_key = MasterKey::create(&dir.path().join("master.key"), &entropy).unwrap();
        let place = Place::Sqlite(dir.path().join("store.db"));
        let store = Store::open(&place, Access::Create, Some(&master_key), now(), &entropy)
            .await
            .unwrap();
        let context = CommandContext {
            store: &store,
            master_key: &master_key,
            entropy: &entropy,
            now: now(),
            issuer: None,
        };
        let actor = Actor::operator("test");
        let mut names = Vec::new();
        let kinds = ResourceKind::ALL.into_iter();
        for kind in kinds.filter(|kind| *kind != ResourceKind::Organization) {
            let things = pair(kind).map(|value| Resource::parse(kind, &value.to_string()).unwrap());
            names.push(things.each_ref().map(Resource::name));
            let create = things.into_iter().map(Command::Create).collect();
            commands::execute(context, &actor, "Test", create)
                .await
                .unwrap();
        }
        keep(
            &store,
            1,
            &[
                ("user/F1", "AIDAFFFFFFFFFFFFFFF1"),
                ("user/F2", "AIDAFFFFFFFFFFFFFFF2"),
            ],
            &[],
        )
        .await;
        keep(&store, 1, &[("user/left", "AIDAFFFFFFFFFFFFFFF3")], &[]).await;
        // A user that is not there any more later on.
        let gone = json!({"UserName": "gone", "Arn": arn("user", "gone")});
        let gone = Resource::parse(ResourceKind::User, &gone.to_string()).unwrap();
        let name = gone.name();
        commands::execute(context, &actor, "Test", vec![Command::Create(gone)])
            .await
            .unwrap();
        for (account, selector, value, seconds) in [
            (ACCOUNT, Selector::Session, SESSION, 0),
            (
                ACCOUNT,
                Selector::Role,
                "arn:aws:iam::111122223333:role/R1",
                0,
            ),
            ("", Selector::Everything, "", 1),
        ] {
            revoke(&store, selector, account, value, seconds).await;
        }
        brevet::store::backup(&store, &dir.path().join("older.db"))
            .await
            .unwrap();
        let mut bodies: Vec<(ResourceKind, String)> = Vec::new();
        store
            .scan::<StoreError>(|kind, _, _, body| {
                bodies.push((kind, body.to_owned()));
                Ok(())
            })
            .await
            .unwrap();
        for (kind, body) in bodies {
            let thing = Resource::parse(kind, &body).unwrap();
            let mut writer = store.write().await.unwrap();
            let name = thing.name();
            record(
                &mut writer,
                "UpdateThing",
                kind.as_str(),
                &name.id,
                json!({}),
            )
            .await;
            writer.put(&thing).await.unwrap();
            writer.commit().await.unwrap();
        }
        commands::execute(
            context,
            &actor,
            "Test",
            vec![Command::Delete {
                name,
                expected: None,
            }],
        )
        .await
        .unwrap();
        keep(
            &store,
            2,
            &[
                ("user/F1", "AIDAFFFFFFFFFFFFFFF4"),
                ("user/F2", "AIDAFFFFFFFFFFFFFFF5"),
            ],
            &["user/left"],
        )
        .await;
        Watermark::of(&store.head().await.unwrap())
            .save(&dir.path().join("store.watermark"))
            .unwrap();
        for (account, selector, value) in [
            (ACCOUNT, Selector::Session, SESSION),
            (ACCOUNT, Selector::Role, "arn:aws:iam::111122223333:role/R1"),
            (ACCOUNT, Selector::AccessKey, "AKIATESTTESTTESTTES1"),
            ("", Selector::Everything, ""),
        ] {
            revoke(&store, selector, account, value, 100).await;
        }
        let base = dir.path().join("base.db");
        brevet::store::backup(&store, &base).await.unwrap();
        // So that opening a copy need not change its form first.
        sql(&base, "PRAGMA journal_mode = WAL").await;
        let head = store.head().await.unwrap().sequence;
        store.close().await;
        Self {
            dir,
            master_key,
            names,
            head,
        }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// A copy of the store after statements of another program.
    pub(crate) async fn changed(&self, n: usize, statements: &str) -> Place {
        let path = self.path(&format!("case-{n}.db"));
        std::fs::copy(self.path("base.db"), &path).unwrap();
        sql(&path, statements).await;
        Place::Sqlite(path)
    }

    pub(crate) async fn open(&self, place: &Place, access: Access) -> Result<Store, String> {
        let watermark = self.path("store.watermark");
        let entrance = Entrance {
            place,
            master_key: Some(&self.master_key),
            watermark: Some(&watermark),
        };
        entrance
            .open(access, now(), &SystemEntropy::new())
            .await
            .map_err(|error| error.to_string())
    }

    /// Opens a store as a node does that has seen nothing of it yet.
    async fn open_unseen(&self, place: &Place, access: Access) -> Store {
        Store::open(
            place,
            access,
            Some(&self.master_key),
            now(),
            &SystemEntropy::new(),
        )
        .await
        .unwrap()
    }

    /// A store that is opened, and then changed by statements of another program.
    async fn opened_before(&self, n: usize, statements: &str) -> Store {
        let place = self.changed(n, "").await;
        let store = self.open(&place, Access::Serve).await.unwrap();
        sql(&self.path(&format!("case-{n}.db")), statements).await;
        store
    }

    /// What a broker does before it listens, and once it does; each with its refusal.
    pub(crate) async fn start(&self, place: &Place) -> (Result<(), String>, Result<(), String>) {
        let store = match self.open(place, Access::Serve).await {
            Ok(store) => store,
            Err(error) => return (Err(error), Ok(())),
        };
        let loaded = async {
            store
                .load_revocations(&Revocations::default(), now())
                .await?;
            store.scan::<StoreError>(|_, _, _, _| Ok(())).await?;
            store.directory_entries().await?;
            Ok::<_, StoreError>(())
        };
        let loaded = loaded.await.map_err(|error| error.to_string());
        let verified = store.verify(now()).await.map_err(|error| error.to_string());
        if verified.is_err() {
            assert!(store.suspicion().is_some());
        }
        store.close().await;
        (loaded, verified)
    }
}

async fn record(
    writer: &mut brevet::store::Writer<'_>,
    action: &'static str,
    kind: &'static str,
    id: &str,
    detail: Value,
) {
    let entry = Entry {
        changed_at: now(),
        actor: Actor::operator("test").text(),
        action,
        kind,
        id: id.to_owned(),
        detail: detail.to_string(),
    };
    writer.record(&entry).await.unwrap();
}

/// Keeps entries of a directory file, and forgets others, as a broker does that reads one.
async fn keep(store: &Store, n: usize, came: &[(&str, &str)], went: &[&str]) {
    let user = |name: &str| Name::new(ResourceKind::User, format!("arn:aws:iam::{ACCOUNT}:{name}"));
    let came: Vec<(Name, &str)> = came.iter().map(|(name, id)| (user(name), *id)).collect();
    let went: Vec<Name> = went.iter().map(|name| user(name)).collect();
    let mut writer = store.write().await.unwrap();
    let kept = writer.directory_entries().await.unwrap();
    let entries: Vec<Value> = (came.iter().map(|(name, id)| json!(["user", name.id, id])))
        .chain(went.iter().map(|name| json!(["user", name.id, null])))
        .collect();
    let id = format!("directory-{n}.json");
    record(
        &mut writer,
        "LoadDirectory",
        "directory-entries",
        &id,
        json!({"Entries": entries}),
    )
    .await;
    let came: Vec<(&Name, &str)> = came.iter().map(|(name, id)| (name, *id)).collect();
    writer.keep_directory_entries(&kept, &came).await.unwrap();
    writer
        .forget_directory_entries(&kept, &went.iter().collect::<Vec<_>>())
        .await
        .unwrap();
    writer.commit().await.unwrap();
}

async fn revoke(store: &Store, selector: Selector, account: &str, value: &str, seconds: i64) {
    let mut writer = store.write_revocation().await.unwrap();
    let mark = Mark {
        before_sequence: writer.sequence() + 1,
        before_seconds: seconds,
        expires_at: Mark::outlives(now()),
    };
    let detail = json!({"Revoked": [{"Selector": selector.as_str(), "Account": account, "Value": value,
        "BeforeSequence": mark.before_sequence, "BeforeSeconds": mark.before_seconds, "ExpiresAt": mark.expires_at}]});
    record(
        &mut writer,
        "RevokeSessions",
        "revocation",
        &format!("{} {value}", selector.as_str()),
        detail,
    )
    .await;
    writer
        .revoke(selector.as_str(), account, value, mark)
        .await
        .unwrap();
    writer.commit().await.unwrap();
}

/// One way to change the database.
struct Case {
    what: String,
    sql: String,
    /// What the refusal names.
    named: String,
    /// Whether nobody may be let in before it is noticed. What lies in the feed behind what this node has
    /// seen decides nothing, and is noticed by the check of everything.
    at_once: bool,
}

/// So many cases run at the same time: each of them waits for the disk.
const AT_ONCE: usize = 8;

impl Case {
    /// What went wrong: it was accepted, or not named.
    async fn run(self, world: Arc<World>, n: usize) -> Option<String> {
        let place = world.changed(n, &self.sql).await;
        let (loaded, verified) = world.start(&place).await;
        let told: Vec<String> = [&loaded, &verified]
            .into_iter()
            .filter_map(|r| r.as_ref().err().cloned())
            .collect();
        if let Place::Sqlite(path) = &place {
            std::fs::remove_file(path).unwrap();
        }
        if told.is_empty() || (self.at_once && loaded.is_ok()) {
            return Some(format!("ACCEPTED {}: {told:?}", self.what));
        }
        let is_named = told.iter().any(|told| told.contains(&self.named));
        (!is_named).then(|| format!("NOT NAMED {}: `{}`: {told:?}", self.what, self.named))
    }
}

fn case(what: impl Into<String>, sql: impl Into<String>, named: impl Into<String>) -> Case {
    Case {
        what: what.into(),
        sql: sql.into(),
        named: named.into(),
        at_once: true,
    }
}

fn where_(name: &Name) -> String {
    format!("WHERE kind = '{}' AND id = '{}'", name.kind, name.id)
}

const COLUMNS: &str = "kind, id, account, folded, unique_id, version, body, mac";

fn of_resources(world: &World) -> Vec<Case> {
    let older = format!("ATTACH '{}' AS older;", world.path("older.db").display());
    let mut cases = Vec::new();
    for [one, two] in &world.names {
        let this = where_(one);
        let name = one.to_string();
        let changed =
            |column: &str, value: &str| format!("UPDATE resources SET {column} = {value} {this}");
        for (column, value, named) in [
            ("kind", "'polic'", format!("polic {}", one.id)),
            (
                "kind",
                if one.kind == ResourceKind::Role {
                    "'user'"
                } else {
                    "'role'"
                },
                one.id.clone(),
            ),
            ("id", "id || 'x'", format!("{name}x")),
            ("account", "'999988887777'", name.clone()),
            ("folded", "folded || 'x'", name.clone()),
            ("unique_id", "'AIDAEVILEVILEVILEVIL'", name.clone()),
            ("version", "version + 1", name.clone()),
            ("version", "version - 1", name.clone()),
            ("body", "body || ' '", name.clone()),
            ("body", "replace(body, '1', '2')", name.clone()),
            ("mac", "''", name.clone()),
            ("mac", "upper(mac)", name.clone()),
        ] {
            cases.push(case(
                format!("{name}: {column} = {value}"),
                changed(column, value),
                named,
            ));
        }
        cases.push(case(
            format!("{name}: the MAC of another row"),
            changed(
                "mac",
                &format!("(SELECT mac FROM resources {})", where_(two)),
            ),
            &name,
        ));
        cases.push(case(
            format!("{name}: the content of another row"),
            format!(
                "UPDATE resources SET (body, mac) = (SELECT body, mac FROM resources {}) {this}",
                where_(two)
            ),
            &name,
        ));
        cases.push(case(
            format!("{name}: removed"),
            format!("DELETE FROM resources {this}"),
            format!("{name} is missing"),
        ));
        cases.push(case(
            format!("{name}: of an earlier state"),
            format!("{older} DELETE FROM resources {this}; INSERT INTO resources SELECT * FROM older.resources {this}"),
            format!("{name} has the content of change"),
        ));
        cases.push(case(
            format!("{name}: twice"),
            format!(
                "CREATE TABLE doubled AS SELECT * FROM resources; DROP TABLE resources; \
                 ALTER TABLE doubled RENAME TO resources; \
                 INSERT INTO resources SELECT {COLUMNS} FROM resources {this}"
            ),
            format!("{name} occurs twice"),
        ));
        cases.push(case(
            format!("{name}: under another name"),
            format!(
                "INSERT INTO resources SELECT kind, id || '2', account, folded || '2', NULL, version, \
                 replace(body, '{0}', '{0}2'), mac FROM resources {this}",
                one.id
            ),
            format!("{name}2"),
        ));
    }
    // To another owner.
    let (one, two) = (arn("user", "U1"), arn("user", "U2"));
    for kind in ["access-key", "mfa-device"] {
        let named = if kind == "access-key" {
            "access-key AKIATESTTESTTESTTES1"
        } else {
            "mfa/U1"
        };
        cases.push(case(
            format!("a {kind} of another user"),
            format!(
                "UPDATE resources SET body = replace(body, '{one}', '{two}') WHERE kind = '{kind}'"
            ),
            named,
        ));
    }
    let gone = format!("WHERE kind = 'user' AND id = '{}'", arn("user", "gone"));
    cases.push(case(
        "a deleted user put back",
        format!("{older} INSERT INTO resources SELECT * FROM older.resources {gone}"),
        "user/gone exists, although change",
    ));
    cases.push(case(
        "all users gone",
        "DELETE FROM resources WHERE kind = 'user'",
        "user/U1 is missing",
    ));
    cases.push(case(
        "everything gone",
        "DELETE FROM resources",
        "role/R1 is missing",
    ));
    cases.push(case(
        "everything of an earlier state",
        format!(
            "{older} DELETE FROM resources; INSERT INTO resources SELECT * FROM older.resources"
        ),
        "saml-provider/S1 has the content of change",
    ));
    cases
}

fn of_revocations(world: &World) -> Vec<Case> {
    let older = format!("ATTACH '{}' AS older;", world.path("older.db").display());
    let mut cases = Vec::new();
    for (selector, value) in [
        ("session", SESSION),
        ("role", "arn:aws:iam::111122223333:role/R1"),
        ("everything", ""),
    ] {
        let this = format!("WHERE selector = '{selector}' AND value = '{value}'");
        let name = format!("the revocation of {selector} {value}")
            .trim_end()
            .to_owned();
        for (column, to, named) in [
            (
                "selector",
                "'account'",
                format!("the revocation of account {value}")
                    .trim_end()
                    .to_owned(),
            ),
            ("account", "'999988887777'", name.clone()),
            (
                "value",
                "value || 'x'",
                format!("the revocation of {selector} {value}x"),
            ),
            ("before_sequence", "0", name.clone()),
            ("before_seconds", "0", name.clone()),
            ("expires_at", "1", name.clone()),
            ("mac", "''", name.clone()),
            (
                "mac",
                "(SELECT MAX(mac) FROM revocations WHERE selector = 'access-key')",
                name.clone(),
            ),
        ] {
            let sql = format!("UPDATE revocations SET {column} = {to} {this}");
            cases.push(case(format!("{name}: {column} = {to}"), sql, named));
        }
        let removed = format!("DELETE FROM revocations {this}");
        cases.push(case(
            format!("{name}: removed"),
            removed,
            "rows that are revocations instead of 5",
        ));
        cases.push(case(
            format!("{name}: of an earlier state"),
            format!(
                "{older} DELETE FROM revocations {this}; INSERT INTO revocations SELECT * FROM older.revocations {this}"
            ),
            "rows that are revocations include one of an earlier version",
        ));
        cases.push(case(
            format!("{name}: twice"),
            format!(
                "CREATE TABLE doubled AS SELECT * FROM revocations; DROP TABLE revocations; \
                 ALTER TABLE doubled RENAME TO revocations; INSERT INTO revocations SELECT * FROM revocations {this}"
            ),
            "6 rows that are revocations instead of 5",
        ));
        cases.push(case(
            format!("{name}: under another name"),
            format!(
                "INSERT INTO revocations SELECT selector, account, value || '2', before_sequence, before_seconds, \
                 expires_at, mac FROM revocations {this}"
            ),
            format!("{selector} {value}2"),
        ));
    }
    cases.push(case(
        "no revocations",
        "DELETE FROM revocations",
        "0 rows that are revocations instead of 5",
    ));
    cases
}

fn of_directory_entries(world: &World) -> Vec<Case> {
    let older = format!("ATTACH '{}' AS older;", world.path("older.db").display());
    let table = "directory_entries";
    let id = |name: &str| format!("arn:aws:iam::{ACCOUNT}:user/{name}");
    let (this, other) = (
        format!("WHERE id = '{}'", id("F1")),
        format!("WHERE id = '{}'", id("F2")),
    );
    let name = format!("directory entry user {}", id("F1"));
    let mut cases = Vec::new();
    for (column, to, named) in [
        (
            "kind",
            "'role'",
            format!("directory entry role {}", id("F1")),
        ),
        ("kind", "'rol'", format!("directory entry rol {}", id("F1"))),
        ("id", "id || 'x'", format!("{name}x")),
        ("identity", "'AIDAEVILEVILEVILEVIL'", name.clone()),
        ("identity", "''", name.clone()),
        ("identity", "x'ff'", name.clone()),
        ("version", "version + 1", name.clone()),
        ("version", "version - 1", name.clone()),
        ("version", "'one'", name.clone()),
        ("mac", "''", name.clone()),
        ("mac", "upper(mac)", name.clone()),
        ("mac", "(SELECT MAX(mac) FROM resources)", name.clone()),
    ] {
        let sql = format!("UPDATE {table} SET {column} = {to} {this}");
        cases.push(case(format!("{name}: {column} = {to}"), sql, named));
    }
    for (what, sql, named) in [
        (
            "the MAC of another one",
            format!("UPDATE {table} SET mac = (SELECT mac FROM {table} {other}) {this}"),
            name.clone(),
        ),
        (
            "the content of another one",
            format!(
                "UPDATE {table} SET (identity, mac) = (SELECT identity, mac FROM {table} {other}) {this}"
            ),
            name.clone(),
        ),
        (
            "removed",
            format!("DELETE FROM {table} {this}"),
            format!("{name} is missing, although change"),
        ),
        (
            "of an earlier state",
            format!(
                "{older} DELETE FROM {table} {this}; INSERT INTO {table} SELECT * FROM older.{table} {this}"
            ),
            format!("{name} has the content of change"),
        ),
        (
            "twice",
            format!(
                "CREATE TABLE doubled AS SELECT * FROM {table}; DROP TABLE {table}; \
                 ALTER TABLE doubled RENAME TO {table}; INSERT INTO {table} SELECT * FROM {table} {this}"
            ),
            format!("{name} occurs twice"),
        ),
        (
            "under another name",
            format!(
                "INSERT INTO {table} SELECT kind, id || '2', identity, version, mac FROM {table} {this}"
            ),
            format!("{name}2"),
        ),
        (
            "one that went put back",
            format!(
                "{older} INSERT INTO {table} SELECT * FROM older.{table} WHERE id = '{}'",
                id("left")
            ),
            "user/left exists, although change".to_owned(),
        ),
        (
            "all removed",
            format!("DELETE FROM {table}"),
            "0 rows that are directory entries instead of 2".to_owned(),
        ),
        (
            "all of an earlier state",
            format!("{older} DELETE FROM {table}; INSERT INTO {table} SELECT * FROM older.{table}"),
            "3 rows that are directory entries instead of 2".to_owned(),
        ),
    ] {
        cases.push(case(format!("{name}: {what}"), sql, named));
    }
    cases
}

fn of_the_feed(world: &World) -> Vec<Case> {
    let older = format!("ATTACH '{}' AS older;", world.path("older.db").display());
    let mut cases = Vec::new();
    for sequence in [1, 20, world.head - 2, world.head] {
        let this = format!("WHERE sequence = {sequence}");
        let name = format!("change {sequence}");
        let seen = sequence <= world.head - 4;
        let mut push = |what: &str, sql: String, named: String| {
            cases.push(Case {
                at_once: !seen,
                ..case(format!("{name}: {what}"), sql, named)
            });
        };
        for (column, to, named) in [
            ("sequence", "sequence + 100000", &*sequence.to_string()),
            ("changed_at", "changed_at - 1", &name),
            (
                "actor",
                "'{\"type\":\"Operator\",\"userName\":\"nobody\"}'",
                &name,
            ),
            ("action", "'CreateUser'", &name),
            ("kind", "'other'", &name),
            ("id", "id || 'x'", &name),
            ("detail", "'{}'", &name),
            ("detail", "'{\"Revoked\":[]}'", &name),
            (
                "chain",
                "(SELECT chain FROM changes WHERE sequence = 2)",
                &name,
            ),
            ("mac", "(SELECT mac FROM changes WHERE sequence = 2)", &name),
            ("mac", "''", &name),
        ] {
            push(
                &format!("{column} = {to}"),
                format!("UPDATE changes SET {column} = {to} {this}"),
                named.to_owned(),
            );
        }
        let removed = if sequence == 1 || sequence == world.head {
            name.clone()
        } else {
            format!("{sequence} to {sequence}")
        };
        push("removed", format!("DELETE FROM changes {this}"), removed);
        push(
            "the content of another one",
            format!(
                "UPDATE changes SET (action, kind, id, detail, mac) = \
                 (SELECT action, kind, id, detail, mac FROM changes WHERE sequence = 5) {this}"
            ),
            name.clone(),
        );
        let next = world.head + 1;
        cases.push(Case {
            at_once: false,
            ..case(
                format!("{name}: twice"),
                format!(
                    "INSERT INTO changes SELECT {next}, changed_at, actor, action, kind, id, detail, chain, mac \
                     FROM changes {this}"
                ),
                format!("change {next} of the feed"),
            )
        });
    }
    let all = world.head;
    cases.push(Case {
        at_once: false,
        ..case(
            "the beginning of the feed removed",
            "DELETE FROM changes WHERE sequence < 10",
            "change 1 of the feed is missing",
        )
    });
    cases.push(case(
        "the end of the feed removed",
        format!("DELETE FROM changes WHERE sequence > {} - 3", all),
        "missing",
    ));
    cases.push(case(
        "no feed",
        "DELETE FROM changes",
        "missing from the feed",
    ));
    cases.push(case(
        "the feed of an earlier state",
        format!("{older} DELETE FROM changes; INSERT INTO changes SELECT * FROM older.changes"),
        "missing from the feed",
    ));
    cases
}

fn of_the_store_itself(world: &World) -> Vec<Case> {
    let older = format!("ATTACH '{}' AS older;", world.path("older.db").display());
    let own = "the store's own row (in the table `store`) differs from what a broker wrote";
    let mut cases = Vec::new();
    for (column, to, named) in [
        (
            "store_id",
            "'0000000000000000'",
            "but this node has used the store",
        ),
        ("sequence", "sequence - 1", own),
        ("sequence", "sequence + 1", own),
        (
            "sequence",
            "1",
            "the store was restored to an earlier state",
        ),
        ("not_before", "0", own),
        (
            "chain",
            "(SELECT chain FROM changes WHERE sequence = 1)",
            own,
        ),
        ("seal", "''", "had MACs when this node last saw it"),
        ("seal", "(SELECT mac FROM changes WHERE sequence = 1)", own),
    ] {
        cases.push(case(
            format!("store: {column} = {to}"),
            format!("UPDATE store SET {column} = {to}"),
            named,
        ));
    }
    cases.push(case(
        "store: removed",
        "DELETE FROM store",
        "contains no store",
    ));
    cases.push(case(
        "store: of an earlier state",
        format!("{older} DELETE FROM store; INSERT INTO store SELECT * FROM older.store"),
        "the store was restored to an earlier state",
    ));
    cases.push(case(
        "store: the sums of an earlier state",
        format!("{older} UPDATE store SET seal = (SELECT seal FROM older.store)"),
        own,
    ));
    cases.push(case(
        "store: everything as an earlier version would have it",
        "UPDATE resources SET mac = ''; UPDATE revocations SET mac = ''; UPDATE changes SET mac = '', chain = ''; \
         UPDATE store SET seal = '', chain = ''",
        "had MACs when this node last saw it",
    ));
    cases.push(case(
        "everything of an earlier state",
        format!(
            "{older} DELETE FROM store; INSERT INTO store SELECT * FROM older.store; DELETE FROM resources; \
             INSERT INTO resources SELECT * FROM older.resources; DELETE FROM changes; \
             INSERT INTO changes SELECT * FROM older.changes; DELETE FROM revocations; \
             INSERT INTO revocations SELECT * FROM older.revocations"
        ),
        "the store was restored to an earlier state",
    ));
    cases
}

#[tokio::test]
async fn every_way_to_change_the_database_by_hand_is_noticed_and_named() {
    let world = Arc::new(World::new().await);
    let untouched = world.changed(0, "SELECT 1").await;
    assert_eq!(
        world.start(&untouched).await,
        (Ok(()), Ok(())),
        "what brokers left is taken"
    );
    let cases: Vec<Case> = of_resources(&world)
        .into_iter()
        .chain(of_revocations(&world))
        .chain(of_directory_entries(&world))
        .chain(of_the_feed(&world))
        .chain(of_the_store_itself(&world))
        .collect();
    assert!(cases.len() >= 220, "{}", cases.len());
    let count = cases.len();
    let (mut wrong, mut running) = (Vec::new(), tokio::task::JoinSet::new());
    for (n, case) in cases.into_iter().enumerate() {
        if running.len() == AT_ONCE {
            wrong.extend(running.join_next().await.unwrap().unwrap());
        }
        running.spawn(case.run(world.clone(), n + 1));
    }
    wrong.extend(running.join_all().await.into_iter().flatten());
    assert!(
        wrong.is_empty(),
        "{} of {count}:\n{}",
        wrong.len(),
        wrong.join("\n")
    );
    println!("{count} ways, none accepted");
}

/// A database can show its own row, seal, sums and rows as they once were, all of which fit each other.
#[tokio::test]
async fn an_earlier_state_is_refused_by_a_broker_that_has_seen_a_later_one() {
    let world = World::new().await;
    let place = world.changed(1, "SELECT 1").await;
    let store = world.open(&place, Access::Serve).await.unwrap();
    let head = store.head().await.unwrap();
    store.reached(head.sequence, &head.chain);
    let Place::Sqlite(path) = &place else {
        unreachable!()
    };
    let older = world.path("older.db");
    let put_back = ["resources", "revocations", "changes", "store"]
        .map(|table| {
            format!("DELETE FROM {table}; INSERT INTO {table} SELECT * FROM older.{table};")
        })
        .concat();
    let attach = format!("ATTACH '{}' AS older;", older.display());
    sql(path, &format!("{attach} BEGIN; {put_back} COMMIT")).await;
    let revocations = store
        .load_revocations(&Revocations::default(), now())
        .await
        .unwrap_err();
    assert!(
        matches!(revocations, StoreError::WentBack { .. }),
        "{revocations}"
    );
    let rows = store
        .scan::<StoreError>(|_, _, _, _| panic!("a row of an earlier state"))
        .await
        .unwrap_err();
    assert!(matches!(rows, StoreError::WentBack { .. }), "{rows}");
    let verified = store.verify(now()).await.unwrap_err().to_string();
    assert!(
        verified.contains("restored to an earlier state"),
        "{verified}"
    );
    store.close().await;
}

#[tokio::test]
async fn what_an_operator_accepts_is_taken_as_it_is_and_ends_what_came_before() {
    let world = World::new().await;
    let base = Place::Sqlite(world.path("base.db"));
    let before = world.open_unseen(&base, Access::Use).await;
    revoke(&before, Selector::SigningKey, "", "0a0b0c0d", i64::MAX).await;
    before.close().await;
    let place = world
        .changed(
            1,
            "DELETE FROM resources WHERE kind = 'instance-profile'; UPDATE resources SET body = body || ' ' WHERE kind = 'role'; \
             DELETE FROM revocations; DELETE FROM changes WHERE sequence IN (3, 4); UPDATE store SET not_before = 0",
        )
        .await;
    assert!(world.start(&place).await.0.is_err());
    let store = world.open_unseen(&place, Access::Serve).await;
    let findings = store.findings(now()).await.unwrap().join("\n");
    for named in [
        "role/R1 differs from",
        "role/R2 differs from",
        "instance-profile/I1 is missing",
        "changes 3 to 4",
        "own row",
    ] {
        assert!(findings.contains(named), "{named}: {findings}");
    }
    let shown = store.show(now()).await.unwrap();
    let head = store
        .accept(&shown, world.head + 1_000, now())
        .await
        .unwrap();
    assert!(head.sequence > world.head + 1_000 && head.not_before == now().seconds());
    assert!(store.findings(now()).await.unwrap().is_empty());
    // A node that had seen the store before goes on: the operator's word is in the feed.
    assert_eq!(world.start(&place).await, (Ok(()), Ok(())));
    let revocations = Revocations::default();
    store.load_revocations(&revocations, now()).await.unwrap();
    let everything = brevet::revocations::RevocationKey::new(Selector::Everything, "", "");
    assert!(revocations.is_revoked(&[everything], head.sequence - 1, now().seconds()));
    assert!(
        revocations.signing_keys().iter().any(|id| id == "0a0b0c0d"),
        "a key that leaked stays revoked"
    );
}

/// What a database says that it did is not taken for what it did.
#[tokio::test]
async fn what_a_database_does_not_write_is_never_acknowledged() {
    let world = World::new().await;
    let ignored = |what: &str| {
        format!("CREATE TRIGGER ignores BEFORE {what} BEGIN SELECT RAISE(IGNORE); END;")
    };
    let silent = [
        "INSERT ON changes",
        "INSERT ON revocations",
        "UPDATE ON store",
    ];
    let silent: Vec<String> = silent
        .iter()
        .enumerate()
        .map(|(n, what)| ignored(what).replace("ignores", &format!("ignores_{n}")))
        .collect();
    let cases = silent.iter().cloned().chain([silent.concat()]);
    for (n, trigger) in cases.enumerate() {
        let store = world.opened_before(100 + n, &trigger).await;
        let mut writer = match store.write_revocation().await {
            Ok(writer) => writer,
            Err(error) => {
                assert!(error.to_string().contains("no row"), "{trigger}: {error}");
                continue;
            }
        };
        let mark = Mark {
            before_sequence: writer.sequence() + 1,
            before_seconds: 0,
            expires_at: Mark::outlives(now()),
        };
        let entry = Entry {
            changed_at: now(),
            actor: Actor::operator("test").text(),
            action: "RevokeSessions",
            kind: "revocation",
            id: "access-key AKIA".to_owned(),
            detail: "{}".to_owned(),
        };
        let done = async {
            writer.record(&entry).await?;
            writer
                .revoke(Selector::AccessKey.as_str(), ACCOUNT, "AKIATEST", mark)
                .await?;
            writer.commit().await
        };
        let error = done.await.unwrap_err();
        assert!(error.is_tampering(), "{trigger}: {error}");
        store.close().await;
    }
    // A row that is still there after it was deleted.
    let store = world
        .opened_before(200, &ignored("DELETE ON resources"))
        .await;
    store.scan::<StoreError>(|_, _, _, _| Ok(())).await.unwrap();
    let name = Name::new(ResourceKind::Role, arn("role", "R2"));
    let mut writer = store.write().await.unwrap();
    let error = writer.delete(&name).await.unwrap_err();
    assert!(error.to_string().contains("still there"), "{error}");
    store.close().await;
}

#[tokio::test]
async fn a_row_of_the_lowest_number_is_looked_at() {
    let world = World::new().await;
    let invented = format!(
        "INSERT INTO resources (rowid, kind, id, account, folded, version, body, mac) VALUES \
         (-9223372036854775808, 'role', '{0}', '{ACCOUNT}', '{0}', 1, '{{}}', 'x')",
        arn("role", "Backdoor")
    );
    let place = world.changed(1, &invented).await;
    let (loaded, verified) = world.start(&place).await;
    for refused in [loaded.unwrap_err(), verified.unwrap_err()] {
        assert!(refused.contains("role/Backdoor"), "{refused}");
    }
}

#[tokio::test]
async fn a_value_of_another_type_is_noticed_and_named() {
    let world = World::new().await;
    for (n, column) in ["id", "body", "version"].into_iter().enumerate() {
        let id = arn("role", "R1");
        let changed =
            format!("UPDATE resources SET {column} = CAST({column} AS BLOB) WHERE id = '{id}'");
        let place = world.changed(n + 1, &changed).await;
        let (loaded, verified) = world.start(&place).await;
        for refused in [loaded.unwrap_err(), verified.unwrap_err()] {
            assert!(refused.contains("role/R1"), "{column}: {refused}");
        }
    }
}

/// The number of a store whose own row was altered is whoever's: with the highest one there is, the next
/// change would have none.
#[tokio::test]
async fn the_number_of_an_altered_store_is_not_taken_over() {
    let world = World::new().await;
    let place = world
        .changed(1, "UPDATE store SET sequence = 9223372036854775806")
        .await;
    let store = world.open_unseen(&place, Access::Serve).await;
    let shown = store.show(now()).await.unwrap();
    let head = store.accept(&shown, world.head, now()).await.unwrap();
    assert_eq!(head.sequence, world.head + 1);
    store.verify(now()).await.unwrap();
    store.close().await;
}

#[tokio::test]
async fn an_operator_accepts_what_was_shown_and_nothing_else() {
    let world = World::new().await;
    let altered = |id: &str| {
        let id = arn("role", id);
        format!("UPDATE resources SET body = replace(body, 'Allow', 'Deny') WHERE id = '{id}'")
    };
    let place = world.changed(1, &altered("R1")).await;
    let store = world.open_unseen(&place, Access::Serve).await;
    let shown = store.show(now()).await.unwrap();
    let findings = shown.findings.join("\n");
    assert!(
        findings.contains("role/R1 differs from what a broker wrote; it is now: {"),
        "{findings}"
    );
    let Place::Sqlite(path) = &place else {
        unreachable!()
    };
    sql(path, &altered("R2")).await;
    let error = store
        .accept(&shown, 0, now())
        .await
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("have changed since this command listed them"),
        "{error}"
    );
    let findings = store.findings(now()).await.unwrap().join("\n");
    assert!(
        findings.contains("role/R1") && findings.contains("role/R2"),
        "{findings}"
    );
    let shown = store.show(now()).await.unwrap();
    store.accept(&shown, 0, now()).await.unwrap();
    assert!(store.findings(now()).await.unwrap().is_empty());
    store.close().await;
}

#[tokio::test]
async fn op_05_revocations_that_a_wrong_clock_swept_are_covered_by_its_acceptance() {
    let world = World::new().await;
    let place = world.changed(1, "SELECT 1").await;
    let store = world.open(&place, Access::Serve).await.unwrap();
    revoke(
        &store,
        Selector::AccessKey,
        ACCOUNT,
        "AKIATESTTESTTESTTES2",
        0,
    )
    .await;
    let ahead = Timestamp::from_seconds(now().seconds() + 60 * 3_600);
    store.sweep(ahead, now()).await.unwrap();
    assert!(
        store.verify(now()).await.is_err(),
        "as long as nobody says that the clock was wrong"
    );
    let actor = Actor::operator("test");
    commands::accept_clock(
        &store,
        &actor,
        "host".to_owned(),
        ahead,
        brevet::mfa::LOCKOUT,
        now(),
    )
    .await
    .unwrap();
    store.verify(now()).await.unwrap();
    store.close().await;
}

#[tokio::test]
async fn mf_04_what_the_database_says_of_codes_is_bounded() {
    let world = World::new().await;
    let statements = "INSERT INTO spent_steps (serial_number, step, drift, leaning) VALUES ('old', 1, -500, 0); \
         INSERT INTO spent_steps (serial_number, step, drift, leaning) VALUES ('oldest', 1, -9223372036854775808, 0); \
         INSERT INTO mfa_failures VALUES ('AIDALEAST', -9223372036854775808), ('AIDAMOST', 9223372036854775807); \
         CREATE TRIGGER forgives AFTER UPDATE ON mfa_failures WHEN new.forgiven_at > 0 BEGIN \
         UPDATE mfa_failures SET forgiven_at = 0 WHERE user_id = new.user_id; END";
    let store = world.opened_before(1, statements).await;
    let error = store.device_past("old").await.unwrap_err();
    assert!(
        error.is_tampering() && error.to_string().contains("-500 steps"),
        "{error}"
    );
    assert!(
        store
            .device_past("oldest")
            .await
            .unwrap_err()
            .is_tampering()
    );
    let attempt = async |user: &str, at| {
        let lockout = brevet::mfa::LOCKOUT;
        store.attempt(user, None, lockout, at).await.unwrap()
    };
    assert_eq!(
        attempt("AIDALEAST", now()).await,
        brevet::store::Attempt::Counted
    );
    assert_eq!(
        attempt("AIDAMOST", now()).await,
        brevet::store::Attempt::Locked
    );
    let mut attempts = Vec::new();
    for _ in 0..7 {
        attempts.push(
            store
                .attempt("AIDATEST", None, brevet::mfa::LOCKOUT, now())
                .await
                .unwrap(),
        );
    }
    assert_eq!(attempts[..5], [brevet::store::Attempt::Counted; 5]);
    assert_eq!(attempts[5..], [brevet::store::Attempt::Locked; 2]);
    store.close().await;
}

#[tokio::test]
async fn every_mac_is_made_anew_under_a_new_master_key() {
    let world = World::new().await;
    let place = world.changed(1, "SELECT 1").await;
    let entropy = SystemEntropy::new();
    let path = world.path("master.key");
    let both = MasterKey::load(&path)
        .unwrap()
        .with_fresh(&path, &entropy)
        .unwrap();
    both.save(&path).unwrap();
    let old = Store::open(&place, Access::Use, Some(&both), now(), &entropy)
        .await
        .unwrap();
    let promoted = MasterKey::load(&path).unwrap().promoted();
    let new = Store::open(&place, Access::Use, Some(&promoted), now(), &entropy)
        .await
        .unwrap();
    let rows = usize::try_from(world.head).unwrap() + 2 * world.names.len() + 5 + 2;
    assert_eq!(new.renew().await.unwrap(), rows);
    // Whoever has the new key in its file, and not in front, writes under it as well.
    revoke(
        &old,
        Selector::Session,
        ACCOUNT,
        "ffeeddccbbaa99887766554433221100",
        0,
    )
    .await;
    assert_eq!(
        new.renew().await.unwrap(),
        0,
        "nothing is left under the old one"
    );
    // Whoever has the old key, which still opens older backups, cannot seal the store with it any more.
    let watermark = world.path("store.watermark");
    Watermark::of(&new.head().await.unwrap())
        .save(&watermark)
        .unwrap();
    let forged = world.path("forged.db");
    brevet::store::backup(&new, &forged).await.unwrap();
    let forged = Place::Sqlite(forged);
    let forger = world.open_unseen(&forged, Access::Use).await;
    let shown = forger.show(now()).await.unwrap();
    forger.accept(&shown, 0, now()).await.unwrap();
    forger.close().await;
    let entrance = Entrance {
        place: &forged,
        master_key: Some(&promoted),
        watermark: Some(&watermark),
    };
    let refused = entrance
        .open(Access::Use, now(), &entropy)
        .await
        .err()
        .unwrap()
        .to_string();
    assert!(refused.contains("has replaced"), "{refused}");
    let alone = promoted.without_retired();
    new.use_master_key(&alone).unwrap();
    new.verify(now()).await.unwrap();
    let gone = world.open_unseen(&place, Access::Use).await;
    assert!(
        gone.verify(now())
            .await
            .unwrap_err()
            .to_string()
            .contains("is sealed under the master key")
    );
}

#[tokio::test]
async fn what_ran_out_is_swept_and_nothing_is_missed() {
    let world = World::new().await;
    let place = world.changed(1, "SELECT 1").await;
    let store = world.open(&place, Access::Use).await.unwrap();
    let later = Timestamp::from_seconds(now().seconds() + 40 * 24 * 3_600);
    store.sweep(later, later).await.unwrap();
    let feed = store.feed_after(0, 10).await.unwrap();
    assert_eq!(
        feed.iter().map(|c| c.sequence).collect::<Vec<_>>(),
        [world.head],
        "the last change stays"
    );
    store.verify(later).await.unwrap();
    revoke(&store, Selector::Session, ACCOUNT, SESSION, 0).await;
    store.verify(later).await.unwrap();
    // A node whose watermark the feed does not reach back to cannot tell.
    let refused = world.open(&place, Access::Use).await.err().unwrap();
    assert!(
        refused.contains("it is unknown whether the store continues"),
        "{refused}"
    );
}

/// Statements on a broker's store while it runs.
async fn behind_the_back(broker: &Broker, statements: &str) {
    sql(&broker.dir.path().join("store.db"), statements).await;
}

#[tokio::test]
async fn a_broker_that_runs_notices_and_accepts_nobody_until_it_is_put_right() {
    let broker = Broker::start_stored().await;
    let session = broker.assume(&user("alice"), OPEN).await.unwrap();
    let ready = async |named: &str| {
        let answer = broker.operator("/readyz").await;
        if named.is_empty() {
            answer.status == 200
        } else {
            answer.status == 503 && answer.body.contains(named)
        }
    };
    let role = format!("WHERE kind = 'role' AND id = '{OPEN}'");
    for (change, back, named) in [
        (
            format!("UPDATE resources SET body = replace(body, 'Allow', 'Deny') {role}"),
            format!("UPDATE resources SET body = replace(body, 'Deny', 'Allow') {role}"),
            format!("role {OPEN} differs from what a broker wrote"),
        ),
        (
            "INSERT INTO changes SELECT sequence + 1, changed_at, actor, 'DeleteUser', kind, id, detail, chain, mac \
             FROM changes ORDER BY sequence DESC LIMIT 1"
                .to_owned(),
            "DELETE FROM changes WHERE sequence = (SELECT MAX(sequence) FROM changes)".to_owned(),
            "of the feed differs from what a broker wrote".to_owned(),
        ),
        (
            "UPDATE store SET sequence = sequence + 1".to_owned(),
            "UPDATE store SET sequence = sequence - 1".to_owned(),
            "the store's own row (in the table `store`) differs from what a broker wrote".to_owned(),
        ),
        (
            "CREATE TABLE kept AS SELECT * FROM resources WHERE kind = 'policy'; DELETE FROM resources WHERE kind = 'policy'".to_owned(),
            "INSERT INTO resources SELECT * FROM kept; DROP TABLE kept".to_owned(),
            "is missing, although change".to_owned(),
        ),
    ] {
        assert_eq!(broker.who(&session).await, "ok");
        behind_the_back(&broker, &change).await;
        broker.clock.pass(Duration::from_secs(60));
        eventually("it is noticed", async || ready(&named).await).await;
        assert_eq!(broker.who(&session).await, "ServiceUnavailable", "{named}");
        assert_eq!(broker.who(&user("alice")).await, "ServiceUnavailable", "{named}");
        behind_the_back(&broker, &back).await;
        broker.clock.pass(Duration::from_secs(60));
        eventually("it is right again", async || ready("").await).await;
    }
    assert_eq!(broker.who(&session).await, "ok");
}

#[tokio::test]
async fn a_change_that_was_tampered_with_is_never_taken() {
    let broker = Broker::start_stored().await;
    let hand = broker.hand().await;
    // A Deny that is removed from the database as soon as it is there.
    let denied = brevet::commands::Edit::UpdateMaxSessionDuration(7_200);
    behind_the_back(
        &broker,
        "CREATE TRIGGER quick AFTER UPDATE OF version ON resources WHEN new.kind = 'role' BEGIN \
         DELETE FROM resources WHERE kind = new.kind AND id = new.id; END",
    )
    .await;
    hand.edit(ResourceKind::Role, OPEN, denied).await.unwrap();
    eventually("it is noticed", async || {
        let answer = broker.operator("/readyz").await;
        answer.status == 503
            && answer
                .body
                .contains(&format!("role {OPEN} is missing, although change"))
    })
    .await;
    assert_eq!(broker.who(&user("alice")).await, "ServiceUnavailable");
}

#[tokio::test]
async fn no_command_works_on_a_store_that_was_changed_or_put_back() {
    let home = Home::init();
    let store = home.path.join("store.db");
    home.run(&["backup", home.path.join("before.db").to_str().unwrap()]);
    let declared = home.path.join("declared.json");
    let exported = String::from_utf8(home.try_run(&["export"]).stdout).unwrap();
    let longer = exported.replace(
        "\"MaxSessionDuration\": 3600",
        "\"MaxSessionDuration\": 7200",
    );
    brevet::files::write_private(&declared, longer.as_bytes()).unwrap();
    home.run(&["import", declared.to_str().unwrap(), "--apply"]);
    home.run(&["backup", home.path.join("good.db").to_str().unwrap()]);
    let put = |name: &str| {
        for suffix in ["-wal", "-shm"] {
            let _ = std::fs::remove_file(home.path.join(format!("store.db{suffix}")));
        }
        std::fs::copy(home.path.join(name), &store).unwrap();
    };
    let declared = declared.to_str().unwrap();
    let copy = home.path.join("copy.db");
    let all: [&[&str]; 7] = [
        &["serve"],
        &["check"],
        &["export"],
        &["changes"],
        &["import", declared, "--apply"],
        &["backup", copy.to_str().unwrap()],
        &["rekey"],
    ];
    let refused = |named: &str| {
        for command in all {
            let output = home.try_run(command);
            // `check` prints its findings as data.
            let said =
                String::from_utf8_lossy(&output.stderr) + String::from_utf8_lossy(&output.stdout);
            assert!(
                !output.status.success() && said.contains(named),
                "{command:?}: {named}: {said}"
            );
        }
        assert!(!copy.exists());
    };
    // An earlier state, of which this machine has seen a later one by an import alone.
    put("before.db");
    refused("the store was restored to an earlier state");
    // Without the file that says what was seen.
    put("good.db");
    let watermark = std::fs::read(home.path.join("store.watermark")).unwrap();
    std::fs::remove_file(home.path.join("store.watermark")).unwrap();
    refused("cannot tell whether the store was restored");
    brevet::files::write_private(&home.path.join("store.watermark"), &watermark).unwrap();
    // A row that grants.
    sql(&store, "UPDATE resources SET body = replace(body, '\"Effect\":\"Allow\"', '\"Effect\": \"Allow\"') WHERE kind = 'role'")
        .await;
    let named =
        "role arn:aws:iam::111122223333:role/Administrator differs from what a broker wrote";
    for command in [
        &["serve"] as &[&str],
        &["check"],
        &["export"],
        &["import", declared],
    ] {
        let output = home.try_run(command);
        let said =
            String::from_utf8_lossy(&output.stderr) + String::from_utf8_lossy(&output.stdout);
        assert!(
            !output.status.success() && said.contains(named),
            "{command:?}: {said}"
        );
    }
    // The operator's word.
    let said = home.run(&["restore", "--accept"]);
    assert!(said.contains(named) && said.contains("has ended"), "{said}");
    home.run(&["check"]);
    // A backup that was changed is refused as well.
    sql(
        &home.path.join("good.db"),
        "DELETE FROM resources WHERE kind = 'access-key'",
    )
    .await;
    let output = home.try_run(&["restore", home.path.join("good.db").to_str().unwrap()]);
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(
        !output.status.success() && error.contains("is missing, although change"),
        "{error}"
    );
    home.run(&["check"]);
}
