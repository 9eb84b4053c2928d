//! What an operator does after a signing key, an access key, an account or everything has leaked.

use std::path::Path;
use std::process::Output;
use std::time::{Duration, Instant};

use brevet::client::{AssumeRole, Credentials};

use crate::binary::{Daemon, Home, brevet, serve};
use crate::harness::{code, eventually};
use crate::postgres::Postgres;

fn role() -> AssumeRole {
    AssumeRole::new(
        "arn:aws:iam::111122223333:role/Administrator",
        "test-session",
    )
}

async fn who(daemon: &Daemon, keys: &Credentials) -> String {
    match daemon.client(keys).get_caller_identity().await {
        Ok(_) => "ok".to_owned(),
        Err(error) => code(&error),
    }
}

async fn assume(daemon: &Daemon, keys: &Credentials) -> Result<Credentials, String> {
    daemon
        .client(keys)
        .assume_role(&role())
        .await
        .map(|role| role.credentials)
        .map_err(|error| code(&error))
}

/// The ids of the keys of a keyring that are in a state.
fn ids(keyring: &Path, state: &str) -> Vec<String> {
    let output = brevet()
        .args(["keyring", "list", "--output", "json"])
        .arg(keyring)
        .output()
        .unwrap();
    let listed: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let keys = listed["Keys"].as_array().unwrap();
    keys.iter()
        .filter(|k| k["State"] == state)
        .map(|k| k["KeyId"].as_str().unwrap().to_owned())
        .collect()
}

fn ready(daemon: &Daemon) -> String {
    let output = brevet()
        .args(["health", "--operator", &daemon.operator])
        .output()
        .unwrap();
    String::from_utf8([output.stdout, output.stderr].concat()).unwrap()
}

/// Runs `brevet sessions` with the key of a user.
fn sessions(daemon: &Daemon, keys: &Credentials, arguments: &[&str]) -> Output {
    brevet()
        .arg("sessions")
        .args(arguments)
        .env("BREVET_ENDPOINT", format!("http://{}", daemon.address))
        .env("AWS_ACCESS_KEY_ID", &keys.access_key_id)
        .env("AWS_SECRET_ACCESS_KEY", keys.secret_access_key.expose())
        .env("AWS_REGION", "us-east-1")
        .output()
        .unwrap()
}

fn good(output: &Output) -> serde_json::Value {
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    serde_json::from_slice(&output.stdout).unwrap()
}

/// A key that rotations have dropped does not come back with an older keyring file.
#[tokio::test]
async fn op_04_an_older_keyring_file_brings_no_retired_key_back() {
    use brevet::base::clock::{Clock, SystemClock};
    let home = Home::init();
    let keyring = home.path.join("keyring.json");
    let old = std::fs::read(&keyring).unwrap();
    let retired = ids(&keyring, "current").remove(0);
    let daemon = home.serve();
    let session = assume(&daemon, &home.keys).await.unwrap();
    let entropy = brevet::base::entropy::SystemEntropy::new();
    for days in [2_u64, 4, 6] {
        let at = SystemClock
            .now()
            .plus(Duration::from_secs(days * 24 * 3_600));
        let rotated = brevet::keyring_file::load(&keyring)
            .unwrap()
            .rotate(&entropy, at)
            .unwrap();
        brevet::keyring_file::save(&rotated, &keyring).unwrap();
    }
    eventually("the store knows of it", async || {
        let feed = home.run(&["changes"]);
        feed.contains("RetireSigningKey") && feed.contains(&retired)
    })
    .await;
    assert!(
        assume(&daemon, &home.keys).await.is_ok(),
        "the new key issues"
    );
    brevet::files::write_private(&keyring, &old).unwrap();
    eventually("nothing is issued under it", async || {
        assume(&daemon, &home.keys).await.is_err()
    })
    .await;
    assert_eq!(who(&daemon, &session).await, "InvalidClientTokenId");
    assert!(ready(&daemon).contains("revoked"), "{}", ready(&daemon));
    drop(daemon);
    // Nor after a restart.
    let daemon = home.serve();
    assert!(assume(&daemon, &home.keys).await.is_err());
    assert_eq!(who(&daemon, &session).await, "InvalidClientTokenId");
}

#[tokio::test]
async fn op_04_a_revoked_signing_key_is_refused_for_ever() {
    let home = Home::init();
    let (keyring, old) = (home.path.join("keyring.json"), home.path.join("old.json"));
    std::fs::copy(&keyring, &old).unwrap();
    let daemon = home.serve();
    let session = assume(&daemon, &home.keys).await.unwrap();
    assert_eq!(who(&daemon, &session).await, "ok");
    let [current] = ids(&keyring, "current").try_into().unwrap();
    let [next] = ids(&keyring, "next").try_into().unwrap();

    let said = brevet()
        .args(["keyring", "revoke", &current, "--config"])
        .arg(home.config())
        .output()
        .unwrap();
    assert!(
        said.status.success(),
        "{}",
        String::from_utf8_lossy(&said.stderr)
    );
    let revoked = Instant::now();
    eventually("the session is refused", async || {
        who(&daemon, &session).await == "InvalidClientTokenId"
    })
    .await;
    println!("refused {:?} after the command", revoked.elapsed());
    // The key that was published before goes on, and the broker takes the new file by itself.
    assert_eq!(ids(&keyring, "current"), [next]);
    eventually("sessions are issued again", async || {
        assume(&daemon, &home.keys).await.is_ok()
    })
    .await;
    let newer = assume(&daemon, &home.keys).await.unwrap();

    // The old file is put back: it opens nothing, signs nothing, and says what to do.
    std::fs::copy(&keyring, home.path.join("new.json")).unwrap();
    let put = |from: &str| {
        let bytes = std::fs::read(home.path.join(from)).unwrap();
        brevet::files::write_private(&keyring, &bytes).unwrap();
    };
    put("old.json");
    let refused = async |daemon: &Daemon| assume(daemon, &home.keys).await.err();
    eventually("nothing is signed", async || {
        refused(&daemon).await.as_deref() == Some("ServiceUnavailable")
    })
    .await;
    assert_eq!(who(&daemon, &session).await, "InvalidClientTokenId");
    assert_eq!(who(&daemon, &home.keys).await, "ok", "long-term keys go on");
    let reason = ready(&daemon);
    assert!(
        reason.contains("not ready")
            && reason.contains("was revoked")
            && reason.contains("keyring"),
        "{reason}"
    );
    drop(daemon);
    // A restart forgets nothing of it.
    let daemon = home.serve();
    assert_eq!(who(&daemon, &session).await, "InvalidClientTokenId");
    assert_eq!(
        refused(&daemon).await.as_deref(),
        Some("ServiceUnavailable")
    );
    assert!(ready(&daemon).contains("was revoked"));
    // A file that was torn, or is gone, changes nothing in a broker that runs…
    put("new.json");
    eventually("it signs", async || {
        assume(&daemon, &home.keys).await.is_ok()
    })
    .await;
    let whole = std::fs::read(&keyring).unwrap();
    std::fs::write(&keyring, &whole[..whole.len() / 2]).unwrap();
    tokio::time::sleep(Duration::from_millis(1_500)).await;
    assert!(assume(&daemon, &home.keys).await.is_ok());
    assert_eq!(who(&daemon, &newer).await, "ok");
    drop(daemon);
    // … and none starts with it, or makes keys by itself.
    home.refused("keyring.json");
    std::fs::remove_file(&keyring).unwrap();
    home.refused("keyring.json");
    assert!(!keyring.exists());
    put("new.json");
    let daemon = home.serve();
    assert_eq!(who(&daemon, &newer).await, "ok");
    assert_eq!(who(&daemon, &session).await, "InvalidClientTokenId");
}

#[tokio::test]
async fn op_04_a_keyring_that_leaked_is_replaced_as_a_whole() {
    let home = Home::init();
    let keyring = home.path.join("keyring.json");
    let daemon = home.serve();
    let session = assume(&daemon, &home.keys).await.unwrap();
    let before: Vec<String> = ["current", "next"]
        .iter()
        .flat_map(|state| ids(&keyring, state))
        .collect();
    let said = brevet()
        .args(["keyring", "revoke", "--all", "--config"])
        .arg(home.config())
        .output()
        .unwrap();
    assert!(
        said.status.success(),
        "{}",
        String::from_utf8_lossy(&said.stderr)
    );
    eventually("the session is refused", async || {
        who(&daemon, &session).await == "InvalidClientTokenId"
    })
    .await;
    eventually("sessions are issued again", async || {
        assume(&daemon, &home.keys).await.is_ok()
    })
    .await;
    let after: Vec<String> = ["current", "next"]
        .iter()
        .flat_map(|state| ids(&keyring, state))
        .collect();
    assert!(
        after.len() == 2 && after.iter().all(|id| !before.contains(id)),
        "{before:?} {after:?}"
    );
    // What is no id is told before anything is done.
    let said = brevet()
        .args(["keyring", "revoke", "nonsense", "--config"])
        .arg(home.config())
        .output()
        .unwrap();
    assert_eq!(said.status.code(), Some(2));
    let said = brevet()
        .args(["keyring", "revoke", "01234567", "--config"])
        .arg(home.config())
        .output()
        .unwrap();
    assert!(
        String::from_utf8_lossy(&said.stderr).contains("has no such keys"),
        "{said:?}"
    );
}

#[tokio::test]
async fn op_04_a_revoked_signing_key_binds_on_every_broker() {
    let postgres = Postgres::start();
    let first = Home::init_with(&["--store", &postgres.url()]);
    let second = tempfile::tempdir().unwrap();
    for file in [
        "brevet.toml",
        "master.key",
        "keyring.json",
        "store.watermark",
    ] {
        std::fs::copy(first.path.join(file), second.path().join(file)).unwrap();
    }
    let (one, two) = (first.serve(), serve(&second.path().join("brevet.toml")));
    let session = assume(&two, &first.keys).await.unwrap();
    let [current] = ids(&first.path.join("keyring.json"), "current")
        .try_into()
        .unwrap();
    let said = brevet()
        .args(["keyring", "revoke", &current, "--config"])
        .arg(first.config())
        .output()
        .unwrap();
    assert!(
        said.status.success(),
        "{}",
        String::from_utf8_lossy(&said.stderr)
    );
    for daemon in [&one, &two] {
        eventually("it binds here", async || {
            who(daemon, &session).await == "InvalidClientTokenId"
        })
        .await;
    }
    // The one whose file is old does not sign with what was revoked. Its copy of the new file ends that.
    assert_eq!(
        assume(&two, &first.keys).await.err().as_deref(),
        Some("ServiceUnavailable")
    );
    let new = std::fs::read(first.path.join("keyring.json")).unwrap();
    brevet::files::write_private(&second.path().join("keyring.json"), &new).unwrap();
    eventually("it signs again", async || {
        assume(&two, &first.keys).await.is_ok()
    })
    .await;
    let session = assume(&two, &first.keys).await.unwrap();
    assert_eq!(who(&one, &session).await, "ok");
}

#[tokio::test]
async fn op_04_all_sessions_end_by_call_and_beside_the_broker() {
    let home = Home::init();
    let daemon = home.serve();
    let session = assume(&daemon, &home.keys).await.unwrap();
    let shown = good(&sessions(
        &daemon,
        &home.keys,
        &["revoke", "--all", "--dry-run", "--output", "json"],
    ));
    assert_eq!(shown["Target"]["SessionsOnRecord"], 1);
    assert_eq!(who(&daemon, &session).await, "ok");
    let other = sessions(
        &daemon,
        &home.keys,
        &["revoke", "--all", "--account", "999900001111"],
    );
    assert!(
        String::from_utf8_lossy(&other.stderr).contains("--config FILE"),
        "{other:?}"
    );
    let shown = good(&sessions(
        &daemon,
        &home.keys,
        &[
            "revoke",
            "--all",
            "--account",
            "111122223333",
            "--output",
            "json",
        ],
    ));
    assert_eq!(shown["Target"]["SessionsOnRecord"], 1);
    assert_eq!(who(&daemon, &session).await, "InvalidClientTokenId");
    // Without credentials, of one account and of all.
    let accounts = [
        vec!["--account", "999900001111"],
        vec!["--account", "111122223333"],
        vec![],
    ];
    for (more, ends) in accounts.iter().zip([false, true, true]) {
        let session = assume(&daemon, &home.keys).await.unwrap();
        let run = |more: &[&str]| {
            brevet()
                .args(["sessions", "revoke", "--all", "--config"])
                .arg(home.config())
                .args(more)
                .output()
                .unwrap()
        };
        let preview = run(&[more.as_slice(), &["--dry-run"]].concat());
        assert!(
            String::from_utf8_lossy(&preview.stderr).contains("would end"),
            "{preview:?}"
        );
        assert_eq!(who(&daemon, &session).await, "ok");
        good(&run(more));
        if ends {
            eventually("it ends", async || {
                who(&daemon, &session).await == "InvalidClientTokenId"
            })
            .await;
        } else {
            tokio::time::sleep(Duration::from_millis(500)).await;
            assert_eq!(who(&daemon, &session).await, "ok");
        }
        eventually("what is issued now lives", async || {
            let session = assume(&daemon, &home.keys).await.unwrap();
            who(&daemon, &session).await == "ok"
        })
        .await;
    }
    let feed = home.run(&["changes"]);
    assert!(
        feed.contains("\"Id\":\"everything\"") && feed.contains("\"Id\":\"account 111122223333\""),
        "{feed}"
    );
}

#[tokio::test]
async fn op_04_a_long_term_key_goes_on_until_it_is_deactivated() {
    let home = Home::init();
    let daemon = home.serve();
    let id = home.keys.access_key_id.as_str();
    let session = assume(&daemon, &home.keys).await.unwrap();
    let output = sessions(
        &daemon,
        &home.keys,
        &["revoke", "--access-key-id", id, "--output", "json"],
    );
    let shown = good(&output);
    assert_eq!(shown["Target"]["AccessKeyGoesOn"], true);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(
        said.contains("can still sign calls") && said.contains("--deactivate-access-key"),
        "{said}"
    );
    assert_eq!(who(&daemon, &session).await, "InvalidClientTokenId");
    assert_eq!(who(&daemon, &home.keys).await, "ok");
    // Of a temporary key there is nothing to deactivate.
    let wrong = sessions(
        &daemon,
        &home.keys,
        &[
            "revoke",
            "--access-key-id",
            &session.access_key_id,
            "--deactivate-access-key",
        ],
    );
    assert!(
        String::from_utf8_lossy(&wrong.stderr).contains("long-term"),
        "{wrong:?}"
    );
    let session = assume(&daemon, &home.keys).await.unwrap();
    let shown = good(&sessions(
        &daemon,
        &home.keys,
        &[
            "revoke",
            "--access-key-id",
            id,
            "--deactivate-access-key",
            "--output",
            "json",
        ],
    ));
    assert_eq!(
        (
            &shown["Target"]["AccessKeyGoesOn"],
            &shown["AccessKeyDeactivated"]
        ),
        (&false.into(), &true.into())
    );
    eventually("the key proves nothing", async || {
        who(&daemon, &home.keys).await == "InvalidClientTokenId"
    })
    .await;
    assert_eq!(who(&daemon, &session).await, "InvalidClientTokenId");
}
