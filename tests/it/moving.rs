//! Moving a store to PostgreSQL and back, a new master key for several brokers, and the record of who
//! did it.

use std::process::Command;

use brevet::api::sts::v1 as pb;
use brevet::api::sts::v1::revoke_sessions_request::Selector;
use brevet::client::{AssumeRole, Client, Credentials};

use crate::binary::{Home, brevet, serve};
use crate::harness::{code, eventually};
use crate::postgres::Postgres;

const ROLE: &str = "arn:aws:iam::111122223333:role/Administrator";
const SERIAL: &str = "arn:aws:iam::111122223333:mfa/administrator";

async fn revoke(client: &Client, keys: &Credentials) {
    let selector = Some(Selector::AccessKeyId(keys.access_key_id.clone()));
    client
        .revoke_sessions(pb::RevokeSessionsRequest {
            selector,
            ..Default::default()
        })
        .await
        .unwrap();
}

/// Whether a store records a device's code of this step as spent.
fn spent(statement: &str, url: Option<&str>, file: &std::path::Path) -> String {
    let code =
        "import sqlite3, sys\nprint(sqlite3.connect(sys.argv[1]).execute(sys.argv[2]).fetchall())";
    let output = match url {
        None => Command::new("python3")
            .args(["-c", code])
            .arg(file)
            .arg(statement)
            .output(),
        Some(url) => Command::new("psql")
            .args([url, "-At", "-c", statement])
            .output(),
    };
    String::from_utf8(output.unwrap().stdout)
        .unwrap()
        .trim()
        .to_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_moves_to_postgres_and_back_with_all_that_it_knows() {
    let postgres = Postgres::start();
    let home = Home::init();
    let mut daemon = home.serve();
    let client = home.client(&daemon);
    let kept = client
        .assume_role(&AssumeRole::new(ROLE, "kept"))
        .await
        .unwrap()
        .credentials;
    let ended = client
        .assume_role(&AssumeRole::new(ROLE, "ended"))
        .await
        .unwrap()
        .credentials;
    revoke(&client, &ended).await;
    // With its broker running nothing is moved.
    let running = home.try_run(&["move", "--to", &postgres.url()]);
    let said = String::from_utf8_lossy(&running.stderr).into_owned();
    assert!(
        running.status.code() == Some(1) && said.contains("another broker serves this store"),
        "{said}"
    );
    daemon.signal("-TERM");
    assert_eq!(daemon.ended().0, Some(0));
    let store = home.path.join("store.db");
    crate::store::sqlite(
        &store,
        &format!("INSERT INTO spent_steps VALUES ('{SERIAL}', 58000000, 3, 1)"),
    );
    crate::store::sqlite(
        &store,
        "INSERT INTO seen VALUES ('https://idp.example.com', 'jti-1', 99999999999)",
    );

    let said = home.run(&["move", "--to", &postgres.url()]);
    assert!(
        said.contains("revocations")
            && said.contains("the same in both stores")
            && said.contains("[store]"),
        "{said}"
    );
    println!("{said}");
    for command in [
        vec!["export"],
        vec!["backup", "x.db"],
        vec!["check"],
        vec!["serve"],
    ] {
        let left = home.try_run(&command);
        let said = String::from_utf8_lossy(&left.stderr).into_owned()
            + &String::from_utf8_lossy(&left.stdout);
        assert!(
            left.status.code() == Some(1) && said.contains("was moved to postgres://"),
            "{command:?}: {said}"
        );
    }
    let again = home.try_run(&["move", "--to", &postgres.url()]);
    assert_eq!(again.status.code(), Some(1));

    home.edit(|toml| {
        toml.replace(
            "file = \"store.db\"",
            &format!("url = \"{}\"", postgres.url()),
        )
    });
    let mut daemon = home.serve();
    let client = home.client(&daemon);
    assert!(
        daemon.client(&kept).get_caller_identity().await.is_ok(),
        "a session goes on"
    );
    let refused = daemon
        .client(&ended)
        .get_caller_identity()
        .await
        .unwrap_err();
    assert_eq!(
        code(&refused),
        "InvalidClientTokenId",
        "what was revoked stays revoked"
    );
    let steps =
        format!("SELECT step, drift, leaning FROM spent_steps WHERE serial_number = '{SERIAL}'");
    assert_eq!(spent(&steps, Some(&postgres.url()), &store), "58000000|3|1");
    assert_eq!(
        spent("SELECT id FROM seen", Some(&postgres.url()), &store),
        "jti-1"
    );
    // Somebody else's database is not overwritten, and neither is one that a broker is on.
    let back = home.path.join("back.db");
    let running = home.try_run(&["move", "--to", back.to_str().unwrap()]);
    let said = String::from_utf8_lossy(&running.stderr).into_owned();
    assert!(
        running.status.code() == Some(1) && said.contains("stop every broker"),
        "{said}"
    );
    let later = client
        .assume_role(&AssumeRole::new(ROLE, "later"))
        .await
        .unwrap()
        .credentials;
    revoke(&client, &later).await;
    daemon.signal("-TERM");
    assert_eq!(daemon.ended().0, Some(0));

    home.run(&["move", "--to", back.to_str().unwrap()]);
    home.edit(|toml| {
        toml.replace(
            &format!("url = \"{}\"", postgres.url()),
            "file = \"back.db\"",
        )
    });
    let daemon = home.serve();
    assert!(daemon.client(&kept).get_caller_identity().await.is_ok());
    for keys in [&ended, &later] {
        assert!(daemon.client(keys).get_caller_identity().await.is_err());
    }
    assert_eq!(spent(&steps, None, &back), "[(58000000, 3, 1)]");
}

#[test]
fn another_store_is_not_moved_over() {
    let postgres = Postgres::start();
    let _first = Home::init_with(&["--store", &postgres.url()]);
    let second = Home::init();
    let refused = second.try_run(&["move", "--to", &postgres.url()]);
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(
        refused.status.code() == Some(1)
            && said.contains("already contains a store")
            && said.contains("give an empty database"),
        "{said}"
    );
    second.run(&["check"]);
}

#[test]
fn a_new_master_key_waits_for_every_connected_broker() {
    let postgres = Postgres::start();
    let first = Home::init_with(&["--store", &postgres.url()]);
    let other = first.path.with_file_name("other");
    assert!(
        Command::new("cp")
            .arg("-a")
            .args([&first.path, &other])
            .status()
            .unwrap()
            .success()
    );
    let (_one, _two) = (first.serve(), serve(&other.join("brevet.toml")));
    // The second one does not have the key: nothing is sealed under it.
    let refused = first.try_run(&["rekey"]);
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    println!("{said}");
    assert!(
        refused.status.code() == Some(1) && said.contains("these brokers do not have the key"),
        "{said}"
    );
    assert!(
        said.contains("Restoring an earlier backup requires the key"),
        "{said}"
    );
    let key = |path: &std::path::Path| {
        brevet::master_key::MasterKey::load(&path.join("master.key")).unwrap()
    };
    let (old, next) = (
        key(&first.path).id().to_owned(),
        key(&first.path).next_id().unwrap().to_owned(),
    );
    // Once it was copied there, it goes on.
    let copy = || {
        std::fs::copy(first.path.join("master.key"), other.join("copied")).unwrap();
        std::fs::rename(other.join("copied"), other.join("master.key")).unwrap();
    };
    copy();
    let mut said = String::new();
    for _ in 0..40 {
        let output = first.try_run(&["rekey"]);
        said = String::from_utf8_lossy(&output.stderr).into_owned();
        if output.status.success() {
            break;
        }
        std::thread::sleep(std::time::Duration::from_millis(250));
    }
    assert!(
        said.contains(&format!("sealed under the key {next}")) && said.contains(&old),
        "{said}"
    );
    // The other one still seals with the old key.
    let refused = first.try_run(&["rekey", "--forget"]);
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(
        refused.status.code() == Some(1) && said.contains("these brokers seal with another key"),
        "{said}"
    );
    copy();
    let mut forgotten = false;
    for _ in 0..40 {
        forgotten = first.try_run(&["rekey", "--forget"]).status.success();
        if forgotten {
            break;
        }
        std::thread::sleep(std::time::Duration::from_millis(250));
    }
    assert!(forgotten && key(&first.path).ids().eq([next.as_str()]));
    first.run(&["check"]);
    // A broker of another cluster on the same store is told.
    let keyring = brevet::session::keyring::Keyring::generate(
        &brevet::base::entropy::SystemEntropy::new(),
        brevet::base::clock::Clock::now(&brevet::base::clock::SystemClock),
    );
    brevet::keyring_file::save(&keyring.unwrap(), &first.path.join("keyring.json")).unwrap();
    let checked = first.try_run(&["check"]);
    let said = String::from_utf8_lossy(&checked.stdout).into_owned();
    assert!(
        checked.status.code() == Some(1) && said.contains("the keyring of another cluster"),
        "{said}"
    );
}

/// The records of commands: the command, its phase, and the user who ran it.
fn commands(home: &Home) -> Vec<(String, String, String)> {
    let text = std::fs::read_to_string(home.path.join("audit.commands.jsonl")).unwrap();
    let record = |line: &str| {
        let record: serde_json::Value = serde_json::from_str(line).unwrap();
        let text = |value: &serde_json::Value| value.as_str().unwrap().to_owned();
        (
            text(&record["eventName"]),
            text(&record["additionalEventData"]["state"]),
            text(&record["userIdentity"]["userName"]),
        )
    };
    text.lines().map(record).collect()
}

#[tokio::test]
async fn commands_that_change_or_copy_secrets_are_on_record_by_the_kernels_account() {
    let home = Home::init();
    let begun = commands(&home).len();
    home.run(&["export"]);
    home.run(&["backup", home.path.join("b.db").to_str().unwrap()]);
    home.run(&["rekey", "--publish"]);
    home.run(&["rekey"]);
    home.run(&["rekey", "--forget"]);
    let rotated = brevet()
        .args(["keyring", "rotate"])
        .arg(home.path.join("keyring.json"))
        .output()
        .unwrap();
    assert!(rotated.status.success());
    assert!(
        !home
            .try_run(&["restore", home.path.join("b.db").to_str().unwrap()])
            .status
            .success(),
        "its key is gone"
    );
    home.run(&["restore", "--accept"]);
    let records = commands(&home);
    let names: Vec<String> = records[begun..]
        .iter()
        .map(|(name, state, _)| format!("{name} {state}"))
        .collect();
    let both = |name: &str| [format!("{name} begun"), format!("{name} done")];
    let mut expected: Vec<String> = [
        "ExportDirectory",
        "BackupStore",
        "PublishMasterKey",
        "RekeyStore",
        "ForgetMasterKeys",
        "RotateKeyring",
    ]
    .into_iter()
    .flat_map(both)
    .collect();
    expected.extend([
        "RestoreStore begun".to_owned(),
        "RestoreStore failed".to_owned(),
    ]);
    expected.extend(both("AcceptStore"));
    assert_eq!(names, expected);
    let account = format!("uid {}", rustix::process::getuid().as_raw());
    assert!(
        records.iter().all(|(_, _, who)| who.starts_with(&account)),
        "{records:?}"
    );

    // The environment is a claim beside the account, in the log of commands and in the feed.
    let file = home.path.join("user.json");
    let user = serde_json::json!({"UserDetailList": [{"Path": "/", "UserName": "bob", "Arn": "arn:aws:iam::111122223333:user/bob"}]});
    brevet::files::write_private(&file, user.to_string().as_bytes()).unwrap();
    let mut claiming = brevet();
    claiming
        .env("SUDO_USER", "mallory")
        .env("USER", "mallory")
        .args(["import", "--config"])
        .arg(home.config());
    assert!(
        claiming
            .arg(&file)
            .arg("--apply")
            .output()
            .unwrap()
            .status
            .success()
    );
    let (_, _, who) = commands(&home).pop().unwrap();
    assert!(
        who.starts_with(&account) && who.ends_with("SUDO_USER says mallory"),
        "{who}"
    );
    let feed = home.run(&["changes", "--after", "0"]);
    let last = feed
        .lines()
        .rfind(|l| l.contains("\"CreateUser\""))
        .unwrap();
    let change: serde_json::Value = serde_json::from_str(last).unwrap();
    assert_eq!(change["Actor"]["userName"].as_str().unwrap(), who);

    // A running broker keeps its own log to itself, and commands beside it do not disturb it.
    let daemon = home.serve();
    let client = home.client(&daemon);
    let assumed = client
        .assume_role(&AssumeRole::new(ROLE, "beside"))
        .await
        .unwrap();
    home.run(&["export"]);
    eventually("its line is there", async || {
        let audit = std::fs::read_to_string(home.path.join("audit.jsonl")).unwrap();
        audit.contains(&assumed.credentials.access_key_id)
    })
    .await;
    let audit = std::fs::read_to_string(home.path.join("audit.jsonl")).unwrap();
    assert!(!audit.contains("ExportDirectory"));
    assert!(
        audit
            .lines()
            .all(|line| serde_json::from_str::<serde_json::Value>(line).is_ok())
    );

    // What cannot be recorded is not done.
    std::fs::remove_file(home.path.join("audit.commands.jsonl")).unwrap();
    std::os::unix::fs::symlink("/dev/null", home.path.join("audit.commands.jsonl")).unwrap();
    let refused = home.try_run(&["export"]);
    assert!(refused.status.code() == Some(1) && refused.stdout.is_empty());
    assert!(String::from_utf8_lossy(&refused.stderr).contains("audit.commands.jsonl"));
    let refused = home.try_run(&["backup", home.path.join("c.db").to_str().unwrap()]);
    assert!(refused.status.code() == Some(1) && !home.path.join("c.db").exists());
}
