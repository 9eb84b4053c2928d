//! The hash chain and the file of the audit log: changed lines are reported, and a log file that
//! others could have written to is refused.

use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use brevet::client::{AssumeRole, Credentials};

use crate::binary::{Daemon, Home, brevet};
use crate::harness::{eventually, http1};

fn role() -> AssumeRole {
    AssumeRole::new("arn:aws:iam::111122223333:role/Administrator", "test")
}

/// Makes calls that leave lines of each kind: some whose response waits for the line, reads, and
/// refusals.
async fn call(home: &Home, daemon: &Daemon, times: usize) {
    let client = home.client(daemon);
    let nobody = daemon.client(&Credentials::long_term("AKIAAAAAAAAAAAAAAAAA", "wrong"));
    for _ in 0..times {
        client.assume_role(&role()).await.unwrap();
        client.get_caller_identity().await.unwrap();
        nobody.get_caller_identity().await.unwrap_err();
    }
}

fn stop(mut daemon: Daemon) -> String {
    daemon.signal("-TERM");
    let (status, log) = daemon.ended();
    assert_eq!(status, Some(0));
    log.join("\n")
}

/// Runs `brevet audit verify`. Returns whether the files are complete, and the output.
fn verify(home: &Home, head: bool, files: &[&Path]) -> (bool, String) {
    let mut command = brevet();
    command.args(["audit", "verify"]);
    if head {
        command.arg("--config").arg(home.config());
    }
    let done = command.args(files).output().unwrap();
    assert!(matches!(done.status.code(), Some(0 | 1)));
    let text = String::from_utf8(done.stdout).unwrap() + &String::from_utf8(done.stderr).unwrap();
    (done.status.success(), text)
}

fn lines(path: &Path) -> Vec<String> {
    std::fs::read_to_string(path)
        .unwrap()
        .lines()
        .map(str::to_owned)
        .collect()
}

fn write(path: &Path, lines: &[String]) {
    std::fs::write(
        path,
        lines
            .iter()
            .map(|line| format!("{line}\n"))
            .collect::<String>(),
    )
    .unwrap();
}

/// What is written to a file without a name is lost with the process: the log goes on in a new one.
#[tokio::test(flavor = "multi_thread")]
async fn au_04_a_log_that_is_deleted_is_missed_at_once() {
    let home = Home::init();
    let log = home.path.join("audit.jsonl");
    let daemon = home.serve();
    call(&home, &daemon, 2).await;
    std::fs::remove_file(&log).unwrap();
    home.client(&daemon).assume_role(&role()).await.unwrap();
    let written = lines(&log);
    assert!(
        written
            .iter()
            .any(|line| line.contains("\"eventName\":\"AssumeRole\"")),
        "{written:?}"
    );
    let said = stop(daemon);
    assert!(
        said.contains("deleted the audit log while the broker was writing to it"),
        "{said}"
    );
    // The chain goes on: which lines are gone is known.
    let (whole, text) = verify(&home, true, &[&log]);
    assert!(whole && text.contains("are not in these files"), "{text}");
}

/// Commands that end access are on record too, in a chain of their own.
#[tokio::test(flavor = "multi_thread")]
async fn au_04_commands_on_the_machine_have_a_chain() {
    let home = Home::init();
    let log = home.path.join("audit.commands.jsonl");
    for command in [
        &["sessions", "revoke", "--all"][..],
        &["keyring", "revoke", "0a0b0c0d"],
    ] {
        let done = brevet()
            .args(command)
            .arg("--config")
            .arg(home.config())
            .output()
            .unwrap();
        assert!(done.status.success(), "{command:?}: {done:?}");
    }
    home.run(&["export"]);
    let written = lines(&log);
    for name in ["RevokeSessions", "RevokeSigningKey", "ExportDirectory"] {
        let of = written
            .iter()
            .filter(|line| line.contains(&format!("\"eventName\":\"{name}\"")));
        assert_eq!(of.count(), 2, "{name}: begun and done");
    }
    let verified = || {
        let done = brevet()
            .args(["audit", "verify", "--commands", "--config"])
            .arg(home.config())
            .arg(&log)
            .output()
            .unwrap();
        let said =
            String::from_utf8(done.stdout).unwrap() + &String::from_utf8(done.stderr).unwrap();
        (done.status.success(), said)
    };
    let (whole, said) = verified();
    assert!(whole, "{said}");
    for lost in [0, written.len() / 2, written.len() - 1] {
        let mut fewer = written.clone();
        fewer.remove(lost);
        write(&log, &fewer);
        let (whole, said) = verified();
        assert!(lost == 0 || !whole, "{lost}: {said}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn au_04_the_chain_goes_on_over_rotation_and_kill_9_and_what_is_changed_is_named() {
    let home = Home::init();
    let [log, first, second] =
        ["audit.jsonl", "audit.jsonl-1", "audit.jsonl-2"].map(|name| home.path.join(name));
    let daemon = home.serve();
    call(&home, &daemon, 5).await;
    // Renamed, under load.
    let client = home.client(&daemon);
    let load = tokio::spawn(async move {
        for _ in 0..50 {
            client.assume_role(&role()).await.unwrap();
        }
    });
    std::fs::rename(&log, &first).unwrap();
    daemon.signal("-HUP");
    eventually("there is a new file", async || log.exists()).await;
    load.await.unwrap();
    call(&home, &daemon, 5).await;
    let said = stop(daemon);
    assert!(
        said.contains("the audit log was opened again") && said.contains("the broker stops"),
        "{said}"
    );
    let (whole, text) = verify(&home, true, &[&first, &log]);
    assert!(whole, "{text}");
    let written = [lines(&first), lines(&log)].concat();
    let granted = written
        .iter()
        .filter(|line| line.contains("\"eventName\":\"AssumeRole\""));
    assert_eq!(granted.count(), 60, "no line is lost");

    // Killed under load, again and again: nothing but what was being written is lost, and the chain goes on.
    for round in 0..5 {
        let mut daemon = home.serve();
        let client = home.client(&daemon);
        let load = tokio::spawn(async move { while client.assume_role(&role()).await.is_ok() {} });
        tokio::time::sleep(Duration::from_millis(50 + 31 * round)).await;
        daemon.child.kill().unwrap();
        daemon.child.wait().unwrap();
        load.await.unwrap();
    }
    std::fs::rename(&log, &second).unwrap();
    let daemon = home.serve();
    call(&home, &daemon, 3).await;
    stop(daemon);
    let files = [first.as_path(), &second, &log];
    let (whole, text) = verify(&home, true, &files);
    assert!(whole, "{text}");
    // Piecewise too; the command says what it cannot know.
    let (whole, text) = verify(&home, false, &[&second]);
    assert!(
        whole && text.contains("No head was given") && text.contains("are not in these files"),
        "{text}"
    );

    let good: Vec<Vec<String>> = files.iter().map(|path| lines(path)).collect();
    let restore = || {
        files
            .iter()
            .zip(&good)
            .for_each(|(path, lines)| write(path, lines))
    };
    let changed = |file: usize, named: &str, change: &dyn Fn(&mut Vec<String>)| {
        let mut lines = good[file].clone();
        change(&mut lines);
        write(files[file], &lines);
        let (whole, text) = verify(&home, true, &files);
        assert!(!whole && text.contains(named), "{named}: {text}");
        restore();
    };
    let at = |file: usize, line: usize| format!("{}:{line}: ", files[file].display());
    changed(0, &at(0, 4), &|l| drop(l.remove(3)));
    changed(0, &at(0, 4), &|l| l.swap(2, 3));
    changed(1, &at(1, 2), &|l| {
        l[1] = l[1].replace("readOnly\":true", "readOnly\":null")
    });
    changed(1, &at(1, 2), &|l| {
        l[1] = l[1].replace("eventVersion\":\"1.11", "eventVersion\":\"1.12")
    });
    changed(2, &at(2, 1), &|l| drop(l.remove(0)));
    changed(0, &at(1, 1), &|l| drop(l.pop()));
    changed(2, "were cut off", &|l| drop(l.pop()));
    changed(2, "were cut off", &|l| l.clear());
    changed(2, &at(2, 3), &|l| l.insert(2, good[0][0].clone()));
    changed(2, &at(2, 3), &|l| {
        l.insert(2, "{\"eventName\":\"AssumeRole\"}".into())
    });
    let (whole, text) = verify(&home, true, &files);
    assert!(whole, "{text}");
    // A whole file that is left out, or in another place.
    assert!(!verify(&home, true, &[&first, &log]).0);
    assert!(!verify(&home, true, &[&second, &first, &log]).0);
}

#[tokio::test(flavor = "multi_thread")]
async fn au_04_a_start_says_when_lines_were_cut_off_and_the_place_stays_to_be_found() {
    let home = Home::init();
    let log = home.path.join("audit.jsonl");
    let daemon = home.serve();
    call(&home, &daemon, 5).await;
    stop(daemon);
    let head = home.path.join("store.watermark.audit");
    assert_eq!(std::fs::metadata(&head).unwrap().mode() & 0o777, 0o600);
    let mut kept = lines(&log);
    let cut = kept.len() - 3;
    kept.truncate(cut);
    write(&log, &kept);
    let daemon = home.serve();
    call(&home, &daemon, 1).await;
    let said = stop(daemon);
    assert!(
        said.contains("the last line of the audit log is not the one that its head file records"),
        "{said}"
    );
    let (whole, text) = verify(&home, true, &[&log]);
    assert!(
        !whole && text.contains(&format!("audit.jsonl:{}: lines ", cut + 1)),
        "{text}"
    );
    // copytruncate: what came between the copy and the cut is missing, and nothing else.
    let daemon = home.serve();
    call(&home, &daemon, 2).await;
    eventually("all is written", async || lines(&log).len() > cut + 7).await;
    let copy = home.path.join("copy");
    std::fs::copy(&log, &copy).unwrap();
    home.client(&daemon).assume_role(&role()).await.unwrap();
    std::fs::File::options()
        .write(true)
        .open(&log)
        .unwrap()
        .set_len(0)
        .unwrap();
    home.client(&daemon).assume_role(&role()).await.unwrap();
    stop(daemon);
    let bytes = std::fs::read(&log).unwrap();
    assert!(!bytes.contains(&0) && !bytes.is_empty());
    let (whole, text) = verify(&home, true, &[&copy, &log]);
    assert!(!whole && text.contains("audit.jsonl:1: line"), "{text}");
    // An empty head, or one of something else: the log goes on, and says so.
    brevet::files::write_private(&head, b"").unwrap();
    let said = stop(home.serve());
    assert!(
        said.contains("the head file of the audit log cannot be read"),
        "{said}"
    );
    // What could not be read is kept, and the new head is whole.
    let kept = home.path.join("store.watermark.audit.unreadable");
    assert!(
        said.contains(kept.to_str().unwrap()) && std::fs::read(&kept).unwrap().is_empty(),
        "{said}"
    );
    assert!(!stop(home.serve()).contains("cannot be read"));
}

#[tokio::test(flavor = "multi_thread")]
async fn cf_03_an_audit_file_that_others_could_have_written_is_not_taken() {
    let home = Home::init();
    let log = home.path.join("audit.jsonl");
    let target = home.path.join("other");
    std::fs::write(&target, "{\"not\":\"cut off\"").unwrap();
    std::os::unix::fs::symlink(&target, &log).unwrap();
    home.refused("symbolic link");
    assert_eq!(
        std::fs::read_to_string(&target).unwrap(),
        "{\"not\":\"cut off\"",
        "nothing of its target is cut off"
    );
    std::fs::remove_file(&log).unwrap();
    for mode in [0o666, 0o620, 0o640, 0o604] {
        std::fs::write(&log, "").unwrap();
        std::fs::set_permissions(&log, std::fs::Permissions::from_mode(mode)).unwrap();
        home.refused("chmod 600");
    }
    std::fs::remove_file(&log).unwrap();
    std::fs::create_dir(&log).unwrap();
    home.refused("audit.jsonl");
    std::fs::remove_dir(&log).unwrap();
    // After a rotation the old file stays in use.
    let daemon = home.serve();
    let old: PathBuf = home.path.join("old");
    std::fs::rename(&log, &old).unwrap();
    std::os::unix::fs::symlink(&target, &log).unwrap();
    daemon.signal("-HUP");
    let operator = daemon.operator.parse().unwrap();
    eventually("the reload is done", async || {
        let metrics = http1(
            operator,
            "GET",
            "/metrics",
            http::HeaderMap::new(),
            Vec::new(),
        )
        .await
        .body;
        metrics.contains("brevet_reloads_total{what=\"keyring\",outcome=\"ok\"} 1")
    })
    .await;
    let said = stop(daemon);
    assert!(
        said.contains("the broker goes on writing to the old file")
            && said.contains("symbolic link"),
        "{said}"
    );
    assert_eq!(
        std::fs::read_to_string(&target).unwrap(),
        "{\"not\":\"cut off\""
    );
}
