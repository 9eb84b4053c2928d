//! The store of the built executable: killed, damaged, full, restored from a backup, and under a new
//! key.

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use brevet::api::sts::v1 as pb;
use brevet::api::sts::v1::revoke_sessions_request::Selector;
use brevet::client::{AssumeRole, Client, Credentials};

use crate::binary::Home;
use crate::harness::{PATIENCE, code};

const ROLE: &str = "arn:aws:iam::111122223333:role/Administrator";

/// The number of repetitions, which is lower in a quick run.
pub fn times(variable: &str, default: usize) -> usize {
    std::env::var(variable)
        .ok()
        .and_then(|n| n.parse().ok())
        .unwrap_or(default)
}

async fn revoke(client: &Client, keys: &Credentials) -> bool {
    let selector = Some(Selector::AccessKeyId(keys.access_key_id.clone()));
    client
        .revoke_sessions(pb::RevokeSessionsRequest {
            selector,
            ..Default::default()
        })
        .await
        .is_ok()
}

/// The answers that the clients of one round received.
#[derive(Default)]
struct Outcomes {
    revoked: Vec<Credentials>,
    alive: Vec<Credentials>,
    duration: i64,
}

async fn work(client: Client, outcomes: std::sync::Arc<std::sync::Mutex<Outcomes>>) {
    for n in 0.. {
        let Ok(assumed) = client.assume_role(&AssumeRole::new(ROLE, "round")).await else {
            return;
        };
        if n % 3 == 0 {
            if revoke(&client, &assumed.credentials).await {
                outcomes.lock().unwrap().revoked.push(assumed.credentials);
            }
        } else {
            outcomes.lock().unwrap().alive.push(assumed.credentials);
        }
    }
}

#[tokio::test]
async fn au_03_op_01_nothing_acknowledged_is_lost_by_kill_9() {
    let home = Home::init();
    let mut declared: serde_json::Value = serde_json::from_str(&exported(&home)).unwrap();
    let file = home.path.join("declared.json");
    let outcomes = std::sync::Arc::new(std::sync::Mutex::new(Outcomes {
        duration: 3_600,
        ..Outcomes::default()
    }));
    let rounds = times("BREVET_KILLS", 12);
    for round in 0..rounds {
        let started = Instant::now();
        let mut daemon = home.serve();
        assert!(
            started.elapsed() < PATIENCE,
            "ready {:?} after a kill",
            started.elapsed()
        );
        let client = home.client(&daemon);
        // What was acknowledged before the kill.
        let duration = outcomes.lock().unwrap().duration;
        let longest = AssumeRole {
            duration_seconds: Some(i32::try_from(duration).unwrap()),
            ..AssumeRole::new(ROLE, "longest")
        };
        assert!(
            client.assume_role(&longest).await.is_ok(),
            "round {round}: MaxSessionDuration {duration}"
        );
        let (revoked, alive): (Vec<_>, Vec<_>) = {
            let mut outcomes = outcomes.lock().unwrap();
            (
                outcomes.revoked.clone(),
                std::mem::take(&mut outcomes.alive),
            )
        };
        for keys in revoked.iter().rev().take(50) {
            assert_eq!(
                code(
                    &daemon
                        .client(keys)
                        .get_caller_identity()
                        .await
                        .err()
                        .unwrap()
                ),
                "InvalidClientTokenId"
            );
        }
        for keys in alive.iter().take(20) {
            assert!(
                daemon.client(keys).get_caller_identity().await.is_ok(),
                "round {round}: a session from before"
            );
        }
        let workers: Vec<_> = (0..4)
            .map(|_| tokio::spawn(work(client.clone(), outcomes.clone())))
            .collect();
        // A change beside the load, acknowledged by its command.
        let duration = 3_600 + i64::try_from(round + 1).unwrap() * 60;
        declared["RoleDetailList"][0]["MaxSessionDuration"] = duration.into();
        brevet::files::write_private(&file, declared.to_string().as_bytes()).unwrap();
        home.run(&["import", file.to_str().unwrap(), "--apply"]);
        outcomes.lock().unwrap().duration = duration;
        let moment = u64::from(
            brevet::base::entropy::bytes::<1>(&brevet::base::entropy::SystemEntropy::new())
                .unwrap()[0],
        );
        tokio::time::sleep(Duration::from_millis(moment)).await;
        daemon.child.kill().unwrap();
        daemon.child.wait().unwrap();
        for worker in workers {
            worker.await.unwrap();
        }
        let audit = std::fs::read_to_string(home.path.join("audit.jsonl")).unwrap();
        for keys in &outcomes.lock().unwrap().alive {
            assert!(
                audit.contains(&keys.access_key_id),
                "answered, and not on record"
            );
        }
    }
    let outcomes = outcomes.lock().unwrap();
    // On a busy machine many rounds end before their first revocation.
    assert!(
        outcomes.revoked.len() * 4 >= rounds,
        "{} revocations in {rounds} rounds",
        outcomes.revoked.len()
    );
    println!(
        "{rounds} kills, {} revocations, none lost",
        outcomes.revoked.len()
    );
}

fn exported(home: &Home) -> String {
    let output = home.try_run(&["export"]);
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout).unwrap()
}

#[tokio::test]
async fn init_serve_import_kill_start() {
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
    assert!(revoke(&client, &ended).await);
    let file = home.path.join("more.json");
    let more = serde_json::json!({"RoleDetailList": [{"Path": "/", "RoleName": "Second", "Arn": "arn:aws:iam::111122223333:role/Second",
        "AssumeRolePolicyDocument": {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Principal": {"AWS": "111122223333"}, "Action": "sts:AssumeRole"}]}}]});
    brevet::files::write_private(&file, more.to_string().as_bytes()).unwrap();
    let path = file.to_str().unwrap();
    let dry = home.run(&["import", path]);
    assert!(
        dry.contains("+ role arn:aws:iam::111122223333:role/Second") && dry.contains("--apply"),
        "{dry}"
    );
    let second = AssumeRole::new("arn:aws:iam::111122223333:role/Second", "second");
    assert!(
        client.assume_role(&second).await.is_err(),
        "a dry run changes nothing"
    );
    home.run(&["import", path, "--apply"]);
    crate::harness::eventually("the role is there", async || {
        client.assume_role(&second).await.is_ok()
    })
    .await;
    assert!(
        home.run(&["import", path, "--apply"])
            .contains("nothing to change")
    );
    daemon.child.kill().unwrap();
    daemon.child.wait().unwrap();
    let daemon = home.serve();
    let client = home.client(&daemon);
    assert!(
        client.assume_role(&second).await.is_ok(),
        "the change is there"
    );
    assert!(
        daemon.client(&kept).get_caller_identity().await.is_ok(),
        "a credential from before still works"
    );
    assert_eq!(
        code(
            &daemon
                .client(&ended)
                .get_caller_identity()
                .await
                .err()
                .unwrap()
        ),
        "InvalidClientTokenId"
    );
    // The feed, for people and programs.
    let feed = home.run(&["changes", "--after", "4"]);
    let actions: Vec<String> = feed
        .lines()
        .map(|l| {
            serde_json::from_str::<serde_json::Value>(l).unwrap()["Action"]
                .as_str()
                .unwrap()
                .to_owned()
        })
        .collect();
    assert_eq!(actions, ["RevokeSessions", "CreateRole"]);
    let feed = home.run(&["changes", "--after", "5", "--documents"]);
    let change: serde_json::Value = serde_json::from_str(feed.lines().next().unwrap()).unwrap();
    assert!(
        change["AfterDocument"]["AssumeRolePolicyDocument"].is_object(),
        "{feed}"
    );
    assert!(change.get("BeforeDocument").is_none() && change["Detail"]["AfterSha256"].is_string());
    // One that somebody altered in the database is told from what the change has the digest of.
    sqlite(
        &home.path.join("store.db"),
        "UPDATE change_documents SET new_document = replace(new_document, 'sts:AssumeRole', 'sts:*') WHERE sequence = 6",
    );
    let output = home.try_run(&["changes", "--after", "5", "--documents"]);
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(
        output.status.code() == Some(1)
            && error.contains("change 6: the AfterDocument of this change does not match"),
        "{error}"
    );
}

#[tokio::test]
async fn a_new_master_key_while_the_daemon_runs() {
    let home = Home::init();
    let mut daemon = home.serve();
    let client = home.client(&daemon);
    let old = std::fs::read_to_string(home.path.join("master.key")).unwrap();
    let said = home.run(&["rekey"]);
    assert!(said.contains("1 secret is now sealed"), "{said}");
    let new = std::fs::read_to_string(home.path.join("master.key")).unwrap();
    // The old key stays for older backups, and only opens.
    assert_eq!(new.lines().collect::<Vec<_>>()[1..], [old.trim()]);
    home.run(&["rekey", "--forget"]);
    assert_eq!(
        std::fs::read_to_string(home.path.join("master.key"))
            .unwrap()
            .lines()
            .count(),
        1
    );
    assert!(
        client
            .assume_role(&AssumeRole::new(ROLE, "before"))
            .await
            .is_ok()
    );
    let file = home.path.join("declared.json");
    let declared = exported(&home).replace(
        "\"MaxSessionDuration\": 3600",
        "\"MaxSessionDuration\": 7200",
    );
    brevet::files::write_private(&file, declared.as_bytes()).unwrap();
    home.run(&["import", file.to_str().unwrap(), "--apply"]);
    let longer = AssumeRole {
        duration_seconds: Some(7_200),
        ..AssumeRole::new(ROLE, "longer")
    };
    crate::harness::eventually("changes go on", async || {
        client.assume_role(&longer).await.is_ok()
    })
    .await;
    daemon.signal("-TERM");
    assert_eq!(daemon.ended().0, Some(0));
    let daemon = home.serve();
    assert!(home.client(&daemon).assume_role(&longer).await.is_ok());
    drop(daemon);
    // Published first, where there are more brokers.
    home.run(&["rekey", "--publish"]);
    let published = std::fs::read_to_string(home.path.join("master.key")).unwrap();
    assert_eq!(published.lines().count(), 2);
    let daemon = home.serve();
    home.run(&["rekey"]);
    assert!(home.client(&daemon).assume_role(&longer).await.is_ok());
    home.run(&["rekey", "--forget"]);
    assert_eq!(
        std::fs::read_to_string(home.path.join("master.key"))
            .unwrap()
            .lines()
            .count(),
        1
    );
    drop(daemon);
    // The first one opens nothing any more.
    brevet::files::write_private(&home.path.join("master.key"), old.as_bytes()).unwrap();
    home.refused("is sealed under the master key");
}

#[tokio::test]
async fn what_is_wrong_with_a_store_is_told_with_the_way_out() {
    let home = Home::init();
    let store = home.path.join("store.db");
    {
        let daemon = home.serve();
        assert!(
            home.client(&daemon)
                .assume_role(&AssumeRole::new(ROLE, "first"))
                .await
                .is_ok()
        );
        home.refused("another broker serves this store");
    }
    // One file without its companions, so that it can be exchanged.
    home.run(&["backup", home.path.join("good.db").to_str().unwrap()]);
    let good = std::fs::read(home.path.join("good.db")).unwrap();
    let put = |bytes: &[u8]| {
        for suffix in ["-wal", "-shm"] {
            let _ = std::fs::remove_file(home.path.join(format!("store.db{suffix}")));
        }
        brevet::files::write_private(&store, bytes).unwrap();
    };
    for (what, bytes) in [
        ("truncated", good[..good.len() / 2].to_vec()),
        ("no database", vec![b'x'; 8_192]),
    ] {
        put(&bytes);
        home.refused("brevet restore");
        assert_eq!(
            std::fs::read(&store).unwrap().len(),
            bytes.len(),
            "{what}: nothing was damaged further"
        );
    }
    // An empty file is no loss that passes unnoticed.
    put(b"");
    home.refused("the database contains no store");
    std::fs::remove_file(&store).unwrap();
    home.refused("there is no store");
    // From the future.
    put(&good);
    sqlite(
        &store,
        "INSERT INTO _sqlx_migrations VALUES (99, 'later', CURRENT_TIMESTAMP, 1, x'00', 0)",
    );
    home.refused("schema 99, which is newer");
    assert!(String::from_utf8_lossy(&home.try_run(&["export"]).stderr).contains("schema 99"));
    // Another master key.
    put(&good);
    let key = std::fs::read(home.path.join("master.key")).unwrap();
    std::fs::remove_file(home.path.join("master.key")).unwrap();
    brevet::master_key::MasterKey::create(
        &home.path.join("master.key"),
        &brevet::base::entropy::SystemEntropy::new(),
    )
    .unwrap();
    home.refused("is sealed under the master key");
    brevet::files::write_private(&home.path.join("master.key"), &key).unwrap();
    // A row that nobody wrote like this: no node loads a half of it.
    put(&good);
    sqlite(
        &store,
        "UPDATE resources SET body = '{\"Surprise\":1}' WHERE kind = 'role'",
    );
    home.refused(
        "role arn:aws:iam::111122223333:role/Administrator differs from what a broker wrote",
    );
    // A watermark that is none.
    put(&good);
    let watermark = home.path.join("store.watermark");
    let seen = std::fs::read(&watermark).unwrap();
    brevet::files::write_private(&watermark, b"{").unwrap();
    home.refused("store.watermark");
    brevet::files::write_private(&watermark, &seen).unwrap();
    // And it goes on as it was.
    let daemon = home.serve();
    assert!(
        home.client(&daemon)
            .assume_role(&AssumeRole::new(ROLE, "last"))
            .await
            .is_ok()
    );
}

/// Runs an SQL statement in another program.
pub fn sqlite(store: &Path, statement: &str) {
    let code = "import sqlite3, sys\nc = sqlite3.connect(sys.argv[1])\nc.execute(sys.argv[2])\nc.commit()\nc.close()";
    let done = Command::new("python3")
        .args(["-c", code])
        .arg(store)
        .arg(statement)
        .output()
        .unwrap();
    assert!(
        done.status.success(),
        "{}",
        String::from_utf8_lossy(&done.stderr)
    );
}

/// A small file system in memory, if this account may mount one.
struct Tmpfs(std::path::PathBuf);

impl Tmpfs {
    fn mount(path: &Path, options: &str) -> Option<Self> {
        std::fs::create_dir_all(path).unwrap();
        let done = Command::new("mount")
            .args(["-t", "tmpfs", "-o", options, "brevet-test"])
            .arg(path)
            .output();
        done.is_ok_and(|o| o.status.success())
            .then(|| Self(path.to_owned()))
    }

    fn remount(&self, options: &str) {
        assert!(
            Command::new("mount")
                .args(["-o", &format!("remount,{options}")])
                .arg(&self.0)
                .status()
                .unwrap()
                .success()
        );
    }
}

impl Drop for Tmpfs {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

/// A limit on the size of files is as good as a full disk: it ends no process.
#[test]
fn au_01_a_limit_on_the_size_of_files_is_an_error() {
    use std::os::unix::process::ExitStatusExt;
    let home = Home::init();
    let backup = home.path.join("backup.db");
    let done = std::process::Command::new("bash")
        .args([
            "-c",
            "ulimit -f 40; exec \"$0\" backup --config \"$1\" \"$2\"",
        ])
        .arg(crate::binary::brevet().get_program())
        .arg(home.config())
        .arg(&backup)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&done.stderr);
    assert_eq!(done.status.signal(), None, "{said}");
    assert_eq!(done.status.code(), Some(1), "{said}");
    assert!(!backup.exists());
}

/// What is in memory, keys among it, gets into no core file.
#[test]
fn a_crash_writes_no_key_to_the_disk() {
    let home = Home::init();
    let daemon = home.serve();
    let limits = format!("/proc/{}/limits", daemon.child.id());
    let limits = std::fs::read_to_string(limits).unwrap();
    let core = limits
        .lines()
        .find(|line| line.starts_with("Max core file size"))
        .unwrap();
    let numbers: Vec<&str> = core.split_whitespace().skip(4).take(2).collect();
    assert_eq!(numbers, ["0", "0"]);
}

#[tokio::test]
async fn a_full_or_read_only_disk_is_told_and_passes() {
    let home = Home::init();
    let disk = home.path.join("disk");
    let Some(tmpfs) = Tmpfs::mount(&disk, "size=1m,mode=0700") else {
        println!("left out: this account may not mount a tmpfs");
        return;
    };
    home.run(&["backup", disk.join("store.db").to_str().unwrap()]);
    home.edit(|toml| toml.replace("file = \"store.db\"", "file = \"disk/store.db\""));
    let daemon = home.serve();
    let client = home.client(&daemon);
    let session = client
        .assume_role(&AssumeRole::new(ROLE, "session"))
        .await
        .unwrap()
        .credentials;
    // Full: nothing is acknowledged, and sessions go on.
    let filler = disk.join("filler");
    let full = std::fs::write(&filler, vec![0; 4 << 20]);
    assert!(full.is_err());
    let mut refused = 0;
    for _ in 0..200 {
        let session = client
            .assume_role(&AssumeRole::new(ROLE, "other"))
            .await
            .unwrap()
            .credentials;
        if !revoke(&client, &session).await {
            refused += 1;
            break;
        }
    }
    assert_eq!(refused, 1, "a full disk acknowledges nothing");
    assert!(daemon.client(&session).get_caller_identity().await.is_ok());
    std::fs::remove_file(&filler).unwrap();
    crate::harness::eventually("there is room again", async || {
        revoke(&client, &session).await
    })
    .await;
    assert!(daemon.client(&session).get_caller_identity().await.is_err());
    drop(daemon);
    tmpfs.remount("ro");
    let output = home.try_run(&["serve"]);
    let error = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1));
    assert!(
        error.contains("disk/store.db") && error.to_lowercase().contains("read-only"),
        "{error}"
    );
    tmpfs.remount("rw");
    let daemon = home.serve();
    assert!(
        daemon.client(&session).get_caller_identity().await.is_err(),
        "still revoked"
    );
}

#[tokio::test]
async fn a_directory_in_a_file_has_a_store_for_everything_else() {
    let home = Home::init().declared_in_a_file();
    // The file is its own source; the store begins by itself, once.
    for file in ["store.db", "store.watermark"] {
        std::fs::remove_file(home.path.join(file)).unwrap();
    }
    let mut daemon = home.serve();
    let client = home.client(&daemon);
    let session = client
        .assume_role(&AssumeRole::new(ROLE, "session"))
        .await
        .unwrap()
        .credentials;
    assert!(revoke(&client, &session).await);
    assert!(daemon.client(&session).get_caller_identity().await.is_err());
    let refused = home.try_run(&["import", home.path.join("directory.json").to_str().unwrap()]);
    assert!(
        String::from_utf8_lossy(&refused.stderr).contains("nothing can be imported into the store")
    );
    let alive = client
        .assume_role(&AssumeRole::new(ROLE, "alive"))
        .await
        .unwrap()
        .credentials;
    daemon.child.kill().unwrap();
    daemon.child.wait().unwrap();
    let mut daemon = home.serve();
    assert!(
        daemon.client(&session).get_caller_identity().await.is_err(),
        "revoked for good"
    );
    assert!(daemon.client(&alive).get_caller_identity().await.is_ok());
    daemon.child.kill().unwrap();
    daemon.child.wait().unwrap();
    // A store that is lost is not replaced by one that knows of no revocation.
    for file in ["store.db", "store.db-wal", "store.db-shm"] {
        let _ = std::fs::remove_file(home.path.join(file));
    }
    home.refused("there is no store");
    std::fs::remove_file(home.path.join("store.watermark")).unwrap();
    let daemon = home.serve();
    assert!(
        daemon.client(&alive).get_caller_identity().await.is_err(),
        "an empty store ends what came before it"
    );
}
