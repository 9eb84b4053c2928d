//! Brokers that differ for a while: keys that are rotated on one broker after the other, and an
//! upgrade that is reverted.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use brevet::api::sts::v1 as pb;
use brevet::audit::Target;
use brevet::base::clock::Timestamp;
use brevet::base::entropy::SystemEntropy;
use brevet::client::{AssumeRole, Credentials};
use brevet::keyring_file;
use brevet::store::{Access, Place, Store};

use crate::binary::{Daemon, Home, serve_by};
use crate::harness::*;
use crate::postgres::Postgres;

/// The second broker of a cluster, with files of its own.
async fn second(dir: Arc<tempfile::TempDir>) -> Broker {
    Broker::start_in(dir.clone(), |c| {
        c.audit = Target::File {
            path: dir
                .path()
                .join(format!("audit-{}.jsonl", std::process::id())),
            sync: true,
        }
    })
    .await
}

fn current(broker: &Broker) -> u32 {
    broker
        .running
        .as_ref()
        .unwrap()
        .broker
        .tokens
        .keyring()
        .current()
        .unwrap()
        .id()
}

fn rotate(file: &Path, now: Timestamp) {
    let rotated = keyring_file::load(file)
        .unwrap()
        .rotate(&SystemEntropy::new(), now)
        .unwrap();
    keyring_file::save(&rotated, file).unwrap();
}

#[tokio::test]
async fn op_03_a_rotation_from_broker_to_broker_refuses_no_session() {
    let homes = [home(), Arc::new(tempfile::tempdir().unwrap())];
    let ahead = Broker::start_in(homes[0].clone(), |_| {}).await;
    for file in ["directory.json", "keyring.json"] {
        let bytes = std::fs::read(homes[0].path().join(file)).unwrap();
        brevet::files::write_private(&homes[1].path().join(file), &bytes).unwrap();
    }
    let store = Place::Sqlite(homes[0].path().join("store.db"));
    let store = Store::open(&store, Access::Use, None, now(), &SystemEntropy::new())
        .await
        .unwrap();
    brevet::store::backup(&store, &homes[1].path().join("store.db"))
        .await
        .unwrap();
    let seen = brevet::store::Watermark::of(&store.head().await.unwrap());
    seen.save(&homes[1].path().join("store.watermark")).unwrap();
    store.close().await;
    let mut behind = second(homes[1].clone()).await;
    // Their clocks are a minute apart.
    let tell = |broker: &Broker, seconds: i64| {
        broker
            .clock
            .set(Timestamp::from_seconds(now().seconds() + seconds))
    };
    tell(&ahead, 30);
    tell(&behind, -30);
    let files = homes
        .each_ref()
        .map(|home| home.path().join("keyring.json"));
    let mut sessions: Vec<Keys> = Vec::new();
    let all_live = async |one: &Broker, other: &Broker, sessions: &[Keys], when: &str| {
        for (n, session) in sessions.iter().enumerate() {
            assert_eq!(one.who(session).await, "ok", "{when}: {n}");
            assert_eq!(other.who(session).await, "ok", "{when}: {n}");
        }
    };
    for round in 0..3 {
        for broker in [&ahead, &behind] {
            sessions.push(broker.assume(&user("alice"), OPEN).await.unwrap());
        }
        all_live(&ahead, &behind, &sessions, "before").await;
        let old = current(&ahead);
        rotate(&files[0], now());
        eventually("the first broker has turned", async || {
            current(&ahead) != old
        })
        .await;
        // What the first one signs now, the second knows as its next key.
        assert_eq!(current(&behind), old);
        for broker in [&ahead, &behind] {
            sessions.push(broker.assume(&user("alice"), OPEN).await.unwrap());
        }
        all_live(&ahead, &behind, &sessions, "in between").await;
        if round == 1 {
            // The second one is started anew in the middle of it.
            behind.stop().await;
            behind = second(homes[1].clone()).await;
            tell(&behind, -30);
            all_live(&ahead, &behind, &sessions, "after a restart").await;
        }
        std::fs::copy(&files[0], &files[1]).unwrap();
        eventually("the second broker has turned", async || {
            current(&behind) == current(&ahead)
        })
        .await;
        all_live(&ahead, &behind, &sessions, "after").await;
    }
    // A key that is retired opens nothing, though its sessions have not ended.
    rotate(&files[0], now().plus(Duration::from_secs(10 * 24 * 3_600)));
    std::fs::copy(&files[0], &files[1]).unwrap();
    let last = sessions.len();
    for broker in [&ahead, &behind] {
        eventually("the keys are retired", async || {
            broker.who(&sessions[0]).await == "InvalidClientTokenId"
        })
        .await;
        // But for the last two rounds' keys, which were current and next until now.
        let mut refused = 0;
        for session in &sessions {
            refused += usize::from(broker.who(session).await == "InvalidClientTokenId");
        }
        assert!(refused >= last - 4, "{refused} of {last}");
    }
}

/// A copy of this program that reports another version.
fn other_version(dir: &Path) -> PathBuf {
    const VERSION: &str = env!("CARGO_PKG_VERSION");
    let last = VERSION.as_bytes().last().copied().unwrap();
    let other = format!(
        "{}{}",
        &VERSION[..VERSION.len() - 1],
        char::from(if last == b'9' { b'8' } else { last + 1 })
    );
    let mut bytes = std::fs::read(env!("CARGO_BIN_EXE_brevet")).unwrap();
    let places: Vec<usize> = memchr::memmem::find_iter(&bytes, VERSION).collect();
    for at in places {
        bytes[at..at + VERSION.len()].copy_from_slice(other.as_bytes());
    }
    let path = dir.join("brevet");
    std::fs::write(&path, bytes).unwrap();
    std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let said = Command::new(&path).arg("version").output().unwrap();
    let said = String::from_utf8(said.stdout).unwrap();
    assert!(said.starts_with(&format!("brevet {other} ")), "{said}");
    path
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn op_06_two_versions_beside_each_other_and_back_again() {
    let dir = tempfile::tempdir().unwrap();
    let newer = other_version(dir.path());
    let postgres = Postgres::start();
    let first = Home::init_with(&["--store", &postgres.url()]);
    let folder = dir.path().join("second");
    brevet::files::create_private_dir(&folder).unwrap();
    for file in [
        "brevet.toml",
        "master.key",
        "keyring.json",
        "store.watermark",
    ] {
        std::fs::copy(first.path.join(file), folder.join(file)).unwrap();
    }
    let second =
        |program: &Path| serve_by(Command::new(program), &folder.join("brevet.toml"), "info");
    let keys = &first.keys;
    let role = AssumeRole::new(
        "arn:aws:iam::111122223333:role/Administrator",
        "test-session",
    );
    let who = async |daemon: &Daemon, keys: &Credentials| match daemon
        .client(keys)
        .get_caller_identity()
        .await
    {
        Ok(_) => "ok".to_owned(),
        Err(error) => code(&error),
    };
    let revoke = async |daemon: &Daemon, id: &str| {
        let selector = Some(Selector::AccessKeyId(id.to_owned()));
        let request = pb::RevokeSessionsRequest {
            selector,
            ..Default::default()
        };
        daemon.client(keys).revoke_sessions(request).await.unwrap();
    };
    let one = first.serve();
    let mut live: Vec<Credentials> = Vec::new();
    let mut ended: Vec<Credentials> = Vec::new();
    // The new version joins; then the old one comes back in its place.
    for program in [newer.as_path(), Path::new(env!("CARGO_BIN_EXE_brevet"))] {
        let two = second(program);
        for n in 0..12 {
            let (here, there) = if n % 2 == 0 {
                (&one, &two)
            } else {
                (&two, &one)
            };
            let session = here
                .client(keys)
                .assume_role(&role)
                .await
                .unwrap()
                .credentials;
            assert_eq!(who(there, &session).await, "ok");
            if n % 3 == 0 {
                // What is acknowledged binds within two seconds.
                revoke(there, &session.access_key_id).await;
                eventually("it binds here", async || {
                    who(here, &session).await == "InvalidClientTokenId"
                })
                .await;
                ended.push(session);
            } else {
                live.push(session);
            }
        }
        for daemon in [&one, &two] {
            for session in &live {
                assert_eq!(who(daemon, session).await, "ok");
            }
            for session in &ended {
                assert_eq!(who(daemon, session).await, "InvalidClientTokenId");
            }
        }
        two.signal("-TERM");
        let mut two = two;
        assert_eq!(two.ended().0, Some(0));
    }
}
