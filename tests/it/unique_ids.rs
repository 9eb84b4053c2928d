//! A directory file may omit unique ids. They are generated once and kept in the store, and an entry
//! that was removed from the file is gone for good, also if it was removed while no broker ran.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use brevet::base::entropy::SystemEntropy;
use brevet::directory::resource::{Name, ResourceKind};
use brevet::files::write_private;
use brevet::server::{self, StartError};
use brevet::store::{Access, Place, Store};
use serde_json::{Value, json};
use sqlx::Connection;
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection};

use crate::binary::Home;
use crate::harness::*;
use crate::postgres::Postgres;

/// The fields that contain unique ids, by list.
const IDS: [(&str, &str); 4] = [
    ("UserDetailList", "UserId"),
    ("GroupDetailList", "GroupId"),
    ("RoleDetailList", "RoleId"),
    ("Policies", "PolicyId"),
];

/// The test directory, with all unique ids or with none.
fn directory(states_ids: bool) -> Value {
    let mut file: Value = serde_json::from_str(DIRECTORY).unwrap();
    for (list, field) in IDS.into_iter().filter(|_| !states_ids) {
        for entry in file[list].as_array_mut().unwrap() {
            entry.as_object_mut().unwrap().remove(field);
        }
    }
    file
}

fn write(path: &Path, file: &Value) {
    write_private(path, file.to_string().as_bytes()).unwrap();
}

/// A broker's folder with this directory file.
fn home_with(file: &Value) -> Arc<tempfile::TempDir> {
    let dir = home();
    write(&dir.path().join("directory.json"), file);
    dir
}

/// The unique id of the caller.
async fn id(broker: &Broker, keys: &Keys) -> Result<String, String> {
    let who = broker.client(keys).get_caller_identity().await;
    who.map(|who| who.user_id).map_err(|error| code(&error))
}

/// Replaces the broker's directory file, and waits until it is read.
async fn reload(broker: &Broker, file: &Value) {
    let count = async || {
        let metrics = broker.operator("/metrics").await.body;
        let of = |outcome: &str| {
            let line = format!("brevet_reloads_total{{what=\"directory\",outcome=\"{outcome}\"}} ");
            let found = metrics.lines().find_map(|l| l.strip_prefix(&line));
            found.map_or(0, |n| n.parse::<u64>().unwrap())
        };
        (of("ok"), of("failed"))
    };
    let before = count().await;
    write(&broker.dir.path().join("directory.json"), file);
    eventually("the file is read", async || count().await.0 > before.0).await;
    assert_eq!(count().await.1, before.1);
}

/// The entries that the store of a stopped broker has recorded.
async fn kept(dir: &Path) -> Vec<(Name, String)> {
    let place = Place::Sqlite(dir.join("store.db"));
    let store = Store::open(&place, Access::Use, None, now(), &SystemEntropy::new())
        .await
        .unwrap();
    assert_eq!(store.findings(now()).await.unwrap(), [""; 0]);
    let kept = store.directory_entries().await.unwrap();
    store.close().await;
    kept.iter()
        .map(|(name, identity)| (name.clone(), identity.to_owned()))
        .collect()
}

async fn sql(path: &Path, statements: &str) {
    let options = SqliteConnectOptions::new().filename(path);
    let mut connection = SqliteConnection::connect_with(&options).await.unwrap();
    sqlx::raw_sql(sqlx::AssertSqlSafe(statements.to_owned()))
        .execute(&mut connection)
        .await
        .unwrap();
    connection.close().await.unwrap();
}

/// Removes a role or a user from a file.
fn without(file: &Value, list: &str, name: &str) -> Value {
    let mut file = file.clone();
    let entries = file[list].as_array_mut().unwrap();
    let before = entries.len();
    entries.retain(|entry| entry["RoleName"] != name && entry["UserName"] != name);
    assert_eq!(entries.len() + 1, before, "{list} {name}");
    file
}

#[tokio::test]
async fn ids_that_the_file_leaves_out_are_the_same_after_a_reload_and_a_restart() {
    let file = directory(false);
    let dir = home_with(&file);
    let mut broker = Broker::start_in(dir.clone(), |_| {}).await;
    let alice = id(&broker, &user("alice")).await.unwrap();
    assert!(alice.starts_with("AIDA") && alice.len() == 20, "{alice}");
    let session = broker.assume(&user("alice"), OPEN).await.unwrap();
    let of_session = id(&broker, &session).await.unwrap();
    assert!(of_session.starts_with("AROA"), "{of_session}");
    // Somebody new, at the front.
    let mut more = file.clone();
    let dave = json!({"UserName": "dave", "Arn": "arn:aws:iam::111122223333:user/dave"});
    more["UserDetailList"]
        .as_array_mut()
        .unwrap()
        .insert(0, dave);
    reload(&broker, &more).await;
    for _ in 0..2 {
        assert_eq!(id(&broker, &user("alice")).await, Ok(alice.clone()));
        assert_eq!(id(&broker, &session).await, Ok(of_session.clone()));
        broker.stop().await;
        broker = Broker::start_in(dir.clone(), |_| {}).await;
    }
    // A file that states what is kept means the same.
    let mut stated = more.clone();
    for entry in stated["UserDetailList"].as_array_mut().unwrap() {
        if entry["UserName"] == "alice" {
            entry["UserId"] = json!(alice);
        }
    }
    reload(&broker, &stated).await;
    assert_eq!(id(&broker, &session).await, Ok(of_session));
    broker.stop().await;
    let kept = kept(dir.path()).await;
    let dave = Name::new(ResourceKind::User, "arn:aws:iam::111122223333:user/dave");
    assert!(
        kept.iter()
            .any(|(name, id)| *name == dave && id.starts_with("AIDA"))
    );
    let policies = kept
        .iter()
        .filter(|(name, _)| name.kind == ResourceKind::Policy);
    assert!(policies.clone().count() > 0);
    for (name, id) in policies {
        assert!(id.starts_with("ANPA"), "{name}: {id}");
    }
}

#[tokio::test]
async fn a_reload_writes_what_changed_and_nothing_else() {
    let file = directory(false);
    let broker = Broker::start_in(home_with(&file), |_| {}).await;
    let store = Store::open(
        &Place::Sqlite(broker.dir.path().join("store.db")),
        Access::Use,
        None,
        now(),
        &SystemEntropy::new(),
    )
    .await
    .unwrap();
    let before = store.head().await.unwrap();
    let mut other = file.clone();
    other["UserDetailList"][0]["Tags"] = json!([{"Key": "team", "Value": "green"}]);
    reload(&broker, &other).await;
    assert_eq!(store.head().await.unwrap(), before, "nothing came or went");
    let dave = json!({"UserName": "dave", "Arn": "arn:aws:iam::111122223333:user/dave"});
    other["UserDetailList"].as_array_mut().unwrap().push(dave);
    reload(&broker, &without(&other, "RoleDetailList", "Open")).await;
    let changes = store.feed_after(before.sequence, 10).await.unwrap();
    assert_eq!(changes.len(), 1);
    let detail: Value = serde_json::from_str(&changes[0].detail).unwrap();
    let entries = detail["Entries"].as_array().unwrap();
    assert_eq!(entries.len(), 2, "{detail}");
    assert_eq!(entries[0][1], "arn:aws:iam::111122223333:user/dave");
    assert!(entries[0][2].as_str().unwrap().starts_with("AIDA"));
    assert_eq!(entries[1], json!(["role", OPEN, null]));
    assert_eq!(detail["Revoked"][0]["Value"], OPEN);
    store.close().await;
}

/// An entry that is removed and added again: its list, its name, and whose session ends with it.
const GOES: [(&str, &str); 2] = [("RoleDetailList", "Open"), ("UserDetailList", "alice")];

#[tokio::test]
async fn what_goes_and_comes_back_is_another_one_whose_old_sessions_are_refused() {
    for states_ids in [false, true] {
        for (list, name) in GOES {
            let case = format!("{name}, ids stated: {states_ids}");
            let file = directory(states_ids);
            let broker = Broker::start_in(home_with(&file), |_| {}).await;
            let session = broker.assume(&user("alice"), OPEN).await.unwrap();
            let (alice, open) = (
                id(&broker, &user("alice")).await.unwrap(),
                id(&broker, &session).await.unwrap(),
            );
            let mut less = without(&file, list, name);
            if name == "alice" {
                let keys = less["Brevet"]["AccessKeys"].as_array_mut().unwrap();
                keys.retain(|key| !key["UserArn"].as_str().unwrap().ends_with("/alice"));
                let devices = less["Brevet"]["MFADevices"].as_array_mut();
                if let Some(devices) = devices {
                    devices.retain(|d| {
                        !d["UserArn"]
                            .as_str()
                            .unwrap_or_default()
                            .ends_with("/alice")
                    });
                }
            }
            reload(&broker, &less).await;
            assert!(id(&broker, &session).await.is_err(), "{case}");
            reload(&broker, &file).await;
            assert!(id(&broker, &session).await.is_err(), "{case}");
            let again = broker.assume(&user("alice"), OPEN).await.unwrap();
            let now = (
                id(&broker, &user("alice")).await.unwrap(),
                id(&broker, &again).await.unwrap(),
            );
            assert_eq!(now.0 == alice, states_ids || name != "alice", "{case}");
            assert_eq!(now.1 == open, states_ids || name != "Open", "{case}");
        }
    }
}

#[tokio::test]
async fn what_goes_while_no_broker_runs_is_gone_all_the_same() {
    let mut inactive = directory(true);
    for key in inactive["Brevet"]["AccessKeys"].as_array_mut().unwrap() {
        if key["UserArn"].as_str().unwrap().ends_with("/alice") {
            key["Status"] = json!("Inactive");
        }
    }
    let stated = directory(true);
    let bare = directory(false);
    for (case, file, less) in [
        (
            "a role with an id of its own",
            &stated,
            without(&stated, "RoleDetailList", "Open"),
        ),
        (
            "a role without one",
            &bare,
            without(&bare, "RoleDetailList", "Open"),
        ),
        ("a key that is switched off", &stated, inactive),
    ] {
        let dir = home_with(file);
        let mut broker = Broker::start_in(dir.clone(), |_| {}).await;
        let session = broker.assume(&user("alice"), OPEN).await.unwrap();
        broker.stop().await;
        for file in [&less, file] {
            write(&dir.path().join("directory.json"), file);
            broker = Broker::start_in(dir.clone(), |_| {}).await;
            assert!(id(&broker, &session).await.is_err(), "{case}");
            broker.stop().await;
        }
        broker = Broker::start_in(dir.clone(), |_| {}).await;
        assert!(id(&broker, &session).await.is_err(), "{case}");
        let again = broker.assume(&user("alice"), OPEN).await.unwrap();
        assert!(id(&broker, &again).await.is_ok(), "{case}");
        // The end of it is in the audit log of the broker that noticed it.
        let ended = broker.into_audit().await.into_iter().filter(|record| {
            let revoked = &record["additionalEventData"]["revoked"];
            record["eventName"] == "LoadDirectory"
                && revoked.as_array().is_some_and(|r| r.len() == 1)
        });
        assert_eq!(ended.count(), 1, "{case}");
    }
}

#[tokio::test]
async fn another_id_in_the_file_counts_and_the_old_one_is_gone() {
    let file = directory(false);
    let dir = home_with(&file);
    let mut broker = Broker::start_in(dir.clone(), |_| {}).await;
    let session = broker.assume(&user("alice"), OPEN).await.unwrap();
    let made = id(&broker, &session).await.unwrap();
    broker.stop().await;
    let mut stated = file.clone();
    for role in stated["RoleDetailList"].as_array_mut().unwrap() {
        if role["RoleName"] == "Open" {
            role["RoleId"] = json!("AROASTATEDSTATEDSTAT");
        }
    }
    write(&dir.path().join("directory.json"), &stated);
    broker = Broker::start_in(dir.clone(), |_| {}).await;
    assert!(id(&broker, &session).await.is_err());
    let now = broker.assume(&user("alice"), OPEN).await.unwrap();
    let now = id(&broker, &now).await.unwrap();
    assert!(
        now.starts_with("AROASTATEDSTATEDSTAT:") && now != made,
        "{now}"
    );
    // Left out again, it is the one that was stated last.
    reload(&broker, &file).await;
    let now = broker.assume(&user("alice"), OPEN).await.unwrap();
    let now = id(&broker, &now).await.unwrap();
    assert!(now.starts_with("AROASTATEDSTATEDSTAT:"), "{now}");
}

#[tokio::test]
async fn what_the_store_does_not_keep_is_not_in_force() {
    // Of erin's two entries there is room for one.
    let refuse = "CREATE UNIQUE INDEX full ON directory_entries ((1)) WHERE id LIKE '%erin%'";
    let file = directory(false);
    let dir = home_with(&file);
    let db = dir.path().join("store.db");
    let mut broker = Broker::start_in(dir.clone(), |_| {}).await;
    let alice = id(&broker, &user("alice")).await.unwrap();
    sql(&db, refuse).await;
    let mut more = file.clone();
    let erin = json!({"UserName": "erin", "Arn": "arn:aws:iam::111122223333:user/erin"});
    more["UserDetailList"].as_array_mut().unwrap().push(erin);
    let key = json!({"UserArn": "arn:aws:iam::111122223333:user/erin", "AccessKeyId": "AKIAERINERINERINERIN",
        "SecretAccessKey": "erin-has-a-secret-of-her-own-0123456789"});
    more["Brevet"]["AccessKeys"]
        .as_array_mut()
        .unwrap()
        .push(key);
    write(&dir.path().join("directory.json"), &more);
    eventually("the file is refused", async || {
        let failed = "brevet_reloads_total{what=\"directory\",outcome=\"failed\"}";
        broker.operator("/metrics").await.body.contains(failed)
    })
    .await;
    let erin = Keys {
        id: "AKIAERINERINERINERIN".to_owned(),
        secret: "erin-has-a-secret-of-her-own-0123456789".to_owned(),
        token: None,
    };
    assert!(id(&broker, &erin).await.is_err());
    assert_eq!(id(&broker, &user("alice")).await, Ok(alice.clone()));
    let ready = broker.operator("/readyz").await;
    assert!(
        ready.status == 503 && ready.body.contains("the store cannot record"),
        "{}",
        ready.body
    );
    broker.stop().await;
    let start = server::start(
        config(dir.path()),
        Arc::new(brevet::base::clock::ManualClock::new(now())),
        Arc::new(SystemEntropy::new()),
    );
    let error = start.await.err().unwrap();
    assert!(matches!(error, StartError::Take(_)), "{error:?}");
    let said = error.to_string();
    assert!(said.contains("cannot be recorded in the store"), "{said}");
    sql(&db, "DROP INDEX full").await;
    broker = Broker::start_in(dir, |_| {}).await;
    assert_eq!(id(&broker, &user("alice")).await, Ok(alice));
    assert!(id(&broker, &erin).await.unwrap().starts_with("AIDA"));
}

/// What goes from the file ends at once, whether or not the store can write that down.
#[tokio::test]
async fn cf_02_what_went_ends_while_the_store_takes_no_writes() {
    let file = directory(false);
    let dir = home_with(&file);
    let db = dir.path().join("store.db");
    let broker = Broker::start_in(dir.clone(), |_| {}).await;
    let session = broker.assume(&user("alice"), OPEN).await.unwrap();
    let alice = id(&broker, &user("alice")).await.unwrap();
    // No change can be numbered.
    sql(
        &db,
        "CREATE UNIQUE INDEX full ON changes ((1)) WHERE action = 'LoadDirectory'",
    )
    .await;
    let mut less = file.clone();
    let keys = less["Brevet"]["AccessKeys"].as_array_mut().unwrap();
    let own = user("alice").id;
    keys.retain(|key| key["AccessKeyId"] != own.as_str());
    write(&dir.path().join("directory.json"), &less);
    eventually("the key is gone", async || {
        id(&broker, &user("alice")).await.is_err()
    })
    .await;
    assert!(
        id(&broker, &session).await.is_err(),
        "and what came from it"
    );
    eventually("it is not ready", async || {
        let ready = broker.operator("/readyz").await;
        ready.status == 503 && ready.body.contains("the store cannot record")
    })
    .await;
    sql(&db, "DROP INDEX full").await;
    eventually("it is ready", async || {
        broker.operator("/readyz").await.status == 200
    })
    .await;
    // It was written down: it does not come back with the old file.
    write(&dir.path().join("directory.json"), &file);
    eventually("the key is back", async || {
        id(&broker, &user("alice")).await == Ok(alice.clone())
    })
    .await;
    assert!(
        id(&broker, &session).await.is_err(),
        "and the session is not"
    );
}

#[tokio::test]
async fn a_file_with_a_fault_changes_nothing_and_the_fault_is_named() {
    let file = directory(false);
    let dir = home_with(&file);
    let mut broker = Broker::start_in(dir.clone(), |_| {}).await;
    broker.stop().await;
    let before = kept(dir.path()).await;
    let mut twice = without(&file, "RoleDetailList", "Open");
    let alice = (before.iter()).find(|(name, _)| name.id.ends_with("user/alice"));
    for user in twice["UserDetailList"].as_array_mut().unwrap() {
        if user["UserName"] == "bob" {
            user["UserId"] = json!(alice.unwrap().1);
        }
    }
    let mut short = file.clone();
    short["UserDetailList"][0]["UserId"] = json!("AIDA");
    for (bad, named) in [
        (
            twice,
            [
                "UserDetailList[1] bob",
                "the same unique id as UserDetailList[0] alice",
            ],
        ),
        (
            short,
            [
                "UserDetailList[0] alice",
                "16 to 128 letters and digits; leave it out to have one generated",
            ],
        ),
    ] {
        write(&dir.path().join("directory.json"), &bad);
        let start = server::start(
            config(dir.path()),
            Arc::new(brevet::base::clock::ManualClock::new(now())),
            Arc::new(SystemEntropy::new()),
        );
        let said = start.await.err().unwrap().to_string();
        for named in named {
            assert!(said.contains(named), "{named}: {said}");
        }
        assert_eq!(kept(dir.path()).await, before);
    }
}

#[tokio::test]
async fn a_store_of_an_earlier_version_gets_the_list() {
    let dir = home_with(&directory(false));
    let place = Place::Sqlite(dir.path().join("store.db"));
    let entropy = SystemEntropy::new();
    let store = Store::open(&place, Access::Create, None, now(), &entropy)
        .await
        .unwrap();
    brevet::store::Watermark::of(&store.head().await.unwrap())
        .save(&dir.path().join("store.watermark"))
        .unwrap();
    store.close().await;
    sql(
        &dir.path().join("store.db"),
        "DROP TABLE sign_ins; DROP TABLE sign_in_grants; DROP INDEX resources_names; DROP TABLE directory_entries; ALTER TABLE nodes DROP COLUMN directory; \
         DELETE FROM _sqlx_migrations WHERE version > 6",
    )
    .await;
    let mut broker = Broker::start_in(dir.clone(), |_| {}).await;
    assert!(
        id(&broker, &user("alice"))
            .await
            .unwrap()
            .starts_with("AIDA")
    );
    broker.stop().await;
    let kept = kept(dir.path()).await;
    for kind in [
        ResourceKind::User,
        ResourceKind::Role,
        ResourceKind::Policy,
        ResourceKind::AccessKey,
    ] {
        assert!(kept.iter().any(|(name, _)| name.kind == kind), "{kind}");
    }
}

#[test]
fn check_says_what_is_new_and_what_went_and_writes_nothing() {
    let home = Home::init().declared_in_a_file();
    let path = home.path.join("directory.json");
    let mut file: Value = serde_json::from_str(&std::fs::read_to_string(&path).unwrap()).unwrap();
    let mut daemon = home.serve();
    daemon.signal("-TERM");
    daemon.ended();
    for (list, field) in IDS {
        let entries = file.get_mut(list).and_then(Value::as_array_mut);
        for entry in entries.into_iter().flatten() {
            entry.as_object_mut().unwrap().remove(field);
        }
    }
    let role = &mut file["RoleDetailList"][0];
    let (arn, name) = ("arn:aws:iam::111122223333:role/Other", "Other");
    let account = role["Arn"]
        .as_str()
        .unwrap()
        .split(':')
        .nth(4)
        .unwrap()
        .to_owned();
    role["Arn"] = json!(arn.replace("111122223333", &account));
    role["RoleName"] = json!(name);
    write(&path, &file);
    let before = home.run(&["changes"]);
    for _ in 0..2 {
        let output = home.try_run(&["check"]);
        let said = String::from_utf8(output.stdout).unwrap();
        assert!(output.status.success(), "{said}");
        assert!(said.contains("1 new entries have no unique id;"), "{said}");
        assert!(
            said.contains(&format!(
                "role arn:aws:iam::{account}:role/Administrator; their sessions end"
            )),
            "{said}"
        );
    }
    assert_eq!(home.run(&["changes"]), before);
}

fn shared(postgres: &Postgres) -> Place {
    Place::Postgres {
        url: format!(
            "postgres://brevet@127.0.0.1:{}/brevet?sslmode=disable",
            postgres.port
        ),
        password: None,
    }
}

/// Makes a store for brokers to open.
async fn found(place: &Place) {
    let entropy = SystemEntropy::new();
    let made = Store::open(place, Access::Create, None, now(), &entropy);
    made.await.unwrap().close().await;
}

/// A broker of several, each with its own directory file.
async fn node(dir: &Arc<tempfile::TempDir>, place: &Place, name: &str) -> Broker {
    let (place, path): (Place, PathBuf) = (place.clone(), dir.path().to_owned());
    let name = name.to_owned();
    Broker::start_in(dir.clone(), |c| {
        c.store = place;
        c.watermark = None;
        c.directory = Some(path.join(format!("{name}.json")));
        c.audit = brevet::audit::Target::File {
            path: path.join(format!("{name}.jsonl")),
            sync: true,
        };
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn brokers_that_read_one_file_at_the_same_moment_agree() {
    let postgres = Postgres::start();
    let (dir, place) = (home(), shared(&postgres));
    found(&place).await;
    for name in ["a", "b", "c"] {
        write(&dir.path().join(format!("{name}.json")), &directory(false));
    }
    let (a, b, c) = tokio::join!(
        node(&dir, &place, "a"),
        node(&dir, &place, "b"),
        node(&dir, &place, "c")
    );
    let session = a.assume(&user("alice"), OPEN).await.unwrap();
    let open = id(&a, &session).await.unwrap();
    for broker in [&a, &b, &c] {
        assert_eq!(id(broker, &session).await, Ok(open.clone()));
        assert_eq!(
            id(broker, &user("alice")).await,
            id(&a, &user("alice")).await
        );
    }
}

/// Advances a broker's time, so that it reports repeatedly.
fn keep_alive(broker: &Broker) -> tokio::task::AbortHandle {
    let clock = broker.clock.clone();
    let ticking = tokio::spawn(async move {
        loop {
            clock.pass(Duration::from_secs(3));
            tokio::time::sleep(Duration::from_millis(300)).await;
        }
    });
    ticking.abort_handle()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broker_with_another_file_does_not_end_what_this_one_has() {
    let postgres = Postgres::start();
    let (dir, place) = (home(), shared(&postgres));
    found(&place).await;
    let whole = directory(false);
    let less = without(&whole, "RoleDetailList", "Open");
    write(&dir.path().join("a.json"), &whole);
    write(&dir.path().join("b.json"), &less);
    let a = node(&dir, &place, "a").await;
    keep_alive(&a);
    let session = a.assume(&user("alice"), OPEN).await.unwrap();
    let open = id(&a, &session).await.unwrap();
    // B never had the role: starting again and again, it does not end it for A.
    for _ in 0..2 {
        let mut b = node(&dir, &place, "b").await;
        assert!(id(&b, &session).await.is_err(), "B does not know the role");
        assert_eq!(id(&b, &user("alice")).await, id(&a, &user("alice")).await);
        assert_eq!(id(&a, &session).await, Ok(open.clone()));
        b.stop().await;
    }
    // When A reads the file that B has, the role has ended, whoever has it later.
    let b = node(&dir, &place, "b").await;
    keep_alive(&b);
    write(&dir.path().join("a.json"), &less);
    eventually("A's session has ended", async || {
        id(&a, &session).await.is_err()
    })
    .await;
    write(&dir.path().join("b.json"), &whole);
    eventually("B has the role", async || {
        b.assume(&user("alice"), OPEN).await.is_ok()
    })
    .await;
    assert!(id(&b, &session).await.is_err());
    let again = b.assume(&user("alice"), OPEN).await.unwrap();
    assert_ne!(id(&b, &again).await, Ok(open));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_only_another_broker_had_is_gone_once_that_broker_has_stopped() {
    let postgres = Postgres::start();
    let (dir, place) = (home(), shared(&postgres));
    found(&place).await;
    let whole = directory(true);
    write(&dir.path().join("a.json"), &whole);
    write(
        &dir.path().join("b.json"),
        &without(&whole, "RoleDetailList", "Open"),
    );
    let mut a = node(&dir, &place, "a").await;
    keep_alive(&a);
    let session = a.assume(&user("alice"), OPEN).await.unwrap();
    let b = node(&dir, &place, "b").await;
    keep_alive(&b);
    a.stop().await;
    eventually("B has read its file again", async || {
        let read = "brevet_reloads_total{what=\"directory\",outcome=\"ok\"} 1";
        b.operator("/metrics").await.body.contains(read)
    })
    .await;
    let a = node(&dir, &place, "a").await;
    assert!(
        id(&a, &session).await.is_err(),
        "the role was gone meanwhile"
    );
    assert!(a.assume(&user("alice"), OPEN).await.is_ok());
}
