//! Commands that replace something keep the old content, wherever they are interrupted. `cargo test
//! --test it replacing -- --nocapture` prints the tables.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::OnceLock;

use crate::binary::{Home, brevet};
use crate::store::sqlite;

/// A preloaded library that ends a command, or simulates a full disk, at a chosen call.
pub fn faults() -> &'static Path {
    static BUILT: OnceLock<(tempfile::TempDir, PathBuf)> = OnceLock::new();
    let (_, library) = BUILT.get_or_init(|| {
        let dir = tempfile::tempdir().unwrap();
        let library = dir.path().join("fault.so");
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/faults/fault.c");
        let compiler = std::env::var("CC").unwrap_or_else(|_| "cc".to_owned());
        let built = Command::new(compiler)
            .args(["-shared", "-fPIC", "-o"])
            .arg(&library)
            .arg(source)
            .arg("-ldl")
            .output();
        let built = built.expect("a C compiler, which building the broker needs too");
        assert!(
            built.status.success(),
            "{}",
            String::from_utf8_lossy(&built.stderr)
        );
        (dir, library)
    });
    library
}

/// The folder of a broker, which is copied for each try.
pub struct Fixture {
    home: Home,
    backup: PathBuf,
}

/// One try in a folder of its own.
pub struct Try {
    _dir: tempfile::TempDir,
    pub path: PathBuf,
}

pub const BEFORE: &str = "arn:aws:iam::111122223333:role/Before";
pub const AFTER: &str = "arn:aws:iam::111122223333:role/After";

pub fn role(arn: &str) -> String {
    let name = arn.rsplit('/').next().unwrap();
    serde_json::json!({"RoleDetailList": [{"Path": "/", "RoleName": name, "Arn": arn, "AssumeRolePolicyDocument":
        {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Principal": {"AWS": "111122223333"}, "Action": "sts:AssumeRole"}]}}]})
    .to_string()
}

fn make_role(path: &Path, arn: &str) {
    let file = path.join("role.json");
    brevet::files::write_private(&file, role(arn).as_bytes()).unwrap();
    let made = command(path, &["import", file.to_str().unwrap(), "--apply"])
        .output()
        .unwrap();
    assert!(made.status.success(), "{}", text(&made));
    std::fs::remove_file(file).unwrap();
}

pub fn command(path: &Path, arguments: &[&str]) -> Command {
    let (name, rest) = arguments.split_first().unwrap();
    let mut command = brevet();
    command
        .arg(name)
        .arg("--config")
        .arg(path.join("brevet.toml"))
        .args(rest);
    command
}

pub fn text(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned() + &String::from_utf8_lossy(&output.stdout)
}

impl Fixture {
    /// A store with a role, a backup of it, and another role that was made after the backup.
    pub fn new() -> Self {
        let home = Home::init();
        make_role(&home.path, BEFORE);
        let backup = home.path.join("backup.db");
        home.run(&["backup", backup.to_str().unwrap()]);
        make_role(&home.path, AFTER);
        Self { home, backup }
    }

    pub fn copy(&self) -> Try {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("broker");
        assert!(
            Command::new("cp")
                .arg("-a")
                .args([&self.home.path, &path])
                .status()
                .unwrap()
                .success()
        );
        Try { _dir: dir, path }
    }
}

impl Try {
    pub fn file(&self, name: &str) -> String {
        self.path.join(name).to_str().unwrap().to_owned()
    }

    pub fn run(&self, arguments: &[&str]) -> Output {
        command(&self.path, arguments).output().unwrap()
    }

    pub fn done(&self, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        assert!(output.status.success(), "{arguments:?}: {}", text(&output));
        text(&output)
    }

    /// Runs a command that is ended, or finds the disk full, at some call.
    pub fn faulty(&self, arguments: &[&str], variable: &str, at: usize) -> Output {
        command(&self.path, arguments)
            .env("LD_PRELOAD", faults())
            .env(variable, at.to_string())
            .output()
            .unwrap()
    }

    /// Checks that every file that the broker needs exists, and that every secret can be opened.
    pub fn is_whole(&self) -> Result<(), String> {
        let output = self.run(&["check"]);
        if output.status.success() {
            Ok(())
        } else {
            Err(text(&output))
        }
    }

    fn roles(&self) -> Vec<String> {
        let output = self.run(&["export"]);
        assert!(output.status.success(), "{}", text(&output));
        let exported: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        let roles = exported["RoleDetailList"].as_array().unwrap();
        roles
            .iter()
            .map(|role| role["Arn"].as_str().unwrap().to_owned())
            .collect()
    }

    pub fn has(&self, arn: &str) -> bool {
        self.roles().iter().any(|role| role == arn)
    }

    /// The files that were kept of something that was replaced.
    pub fn kept(&self, of: &str) -> Vec<String> {
        let prefix = format!("{of}.replaced-");
        let mut found: Vec<String> = std::fs::read_dir(&self.path)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .filter(|name| {
                name.starts_with(&prefix) && !name.ends_with("-wal") && !name.ends_with("-shm")
            })
            .collect();
        found.sort();
        found
    }

    pub fn key_ids(&self) -> Vec<String> {
        let key = brevet::master_key::MasterKey::load(&self.path.join("master.key")).unwrap();
        key.ids().map(str::to_owned).collect()
    }
}

/// A row of the table: the variant, the output, and the state afterwards.
fn row(variant: &str, status: Option<i32>, said: &str, holds: &str) {
    let said: Vec<&str> = said.lines().filter(|l| !l.starts_with("warning")).collect();
    let status = status.map_or("killed".to_owned(), |s| format!("exit {s}"));
    println!(
        "{variant}\n    {status}: {}\n    holds: {holds}",
        said.join("\n        ")
    );
}

/// Runs a restore that must be refused with a message that contains these texts, and must replace
/// nothing.
fn refused(variant: &str, case: &Try, arguments: &[&str], named: &[&str]) -> String {
    let before = case.roles();
    refused_blindly(variant, case, arguments, named, |case| {
        assert_eq!(case.roles(), before, "{variant}")
    })
}

fn refused_blindly(
    variant: &str,
    case: &Try,
    arguments: &[&str],
    named: &[&str],
    holds: impl FnOnce(&Try),
) -> String {
    let kept = case.kept("store.db");
    let output = case.run(arguments);
    let said = text(&output);
    assert_eq!(output.status.code(), Some(1), "{variant}: {said}");
    for name in named {
        assert!(said.contains(name), "{variant} does not say {name}: {said}");
    }
    assert_eq!(
        case.kept("store.db"),
        kept,
        "{variant}: nothing was replaced"
    );
    assert!(
        !case.path.join("store.db.restoring").exists(),
        "{variant}: nothing is left behind"
    );
    holds(case);
    row(
        variant,
        output.status.code(),
        &said,
        "the store is as it was",
    );
    said
}

/// Runs a restore that succeeds: the store has the role of the backup, and the kept file has the
/// later one.
fn restored(variant: &str, case: &Try, arguments: &[&str]) {
    let kept = case.kept("store.db").len();
    let said = case.done(arguments);
    assert!(case.has(BEFORE), "{variant}: {said}");
    case.is_whole()
        .unwrap_or_else(|error| panic!("{variant}: {error}"));
    let files = case.kept("store.db");
    assert_eq!(
        files.len(),
        kept + 1,
        "{variant}: what was there is kept: {said}"
    );
    assert!(
        files.iter().any(|file| said.contains(file.as_str())),
        "{variant}: its name is printed: {said}"
    );
    assert!(
        said.contains("brevet restore --config"),
        "{variant}: the way back is printed: {said}"
    );
    row(
        variant,
        Some(0),
        &said,
        &format!("every secret opens; kept: {}", files.join(", ")),
    );
}

#[test]
fn backup_rekey_restore_and_what_comes_between() {
    let fixture = Fixture::new();
    let backup = "backup.db";

    let case = fixture.copy();
    case.done(&["rekey"]);
    restored(
        "1 backup, rekey, restore",
        &case,
        &["restore", &case.file(backup)],
    );
    assert!(!case.has(AFTER));
    let kept = case.kept("store.db").remove(0);
    // What is there now went on from the backup: going back is another history.
    refused(
        "1a the way back, not meant",
        &case,
        &["restore", &case.file(&kept)],
        &["but with other changes", "--another-store"],
    );
    case.done(&["restore", &case.file(&kept), "--another-store"]);
    assert!(
        case.has(AFTER) && case.is_whole().is_ok(),
        "the printed way back goes back"
    );

    let case = fixture.copy();
    let old = case.key_ids().remove(0);
    std::fs::copy(case.path.join("master.key"), case.path.join("old.key")).unwrap();
    case.done(&["rekey"]);
    case.done(&["rekey", "--forget"]);
    let named = [
        old.as_str(),
        "old.key",
        "--master-key",
        "Nothing was replaced",
    ];
    refused(
        "2a older key, forgotten",
        &case,
        &["restore", &case.file(backup)],
        &named,
    );
    let opened = [
        "restore",
        &case.file(backup),
        "--master-key",
        &case.file("old.key"),
    ];
    restored("2b the same, with the old key file", &case, &opened);
    assert_eq!(case.key_ids().len(), 2, "today's key and the old one");

    let case = fixture.copy();
    std::fs::copy(case.path.join("master.key"), case.path.join("old.key")).unwrap();
    case.done(&["rekey"]);
    let new = case.key_ids().remove(0);
    case.done(&["backup", &case.file("later.db")]);
    std::fs::rename(case.path.join("master.key"), case.path.join("new.key")).unwrap();
    std::fs::rename(case.path.join("old.key"), case.path.join("master.key")).unwrap();
    let named = [new.as_str(), "new.key", "--master-key"];
    // The store that is there does not open with that file either.
    let later = case.file("later.db");
    refused_blindly(
        "3 newer backup, older key file in place",
        &case,
        &["restore", &later],
        &named,
        |_| {},
    );

    let case = fixture.copy();
    let foreign = Fixture::new();
    std::fs::copy(&foreign.backup, case.path.join("foreign.db")).unwrap();
    std::fs::copy(
        foreign.home.path.join("master.key"),
        case.path.join("foreign.key"),
    )
    .unwrap();
    let foreign = case.file("foreign.db");
    let named = [
        "is a backup of the store",
        "--another-store",
        "Nothing was replaced",
    ];
    refused(
        "4a backup of another store",
        &case,
        &["restore", &foreign],
        &named,
    );
    refused(
        "4b the same, meant, without its key",
        &case,
        &["restore", &foreign, "--another-store"],
        &["cannot be checked", "foreign.key"],
    );
    let meant = [
        "restore",
        foreign.as_str(),
        "--another-store",
        "--master-key",
        &case.file("foreign.key"),
    ];
    restored("4c the same, meant, with its key", &case, &meant);

    let case = fixture.copy();
    case.done(&["rekey"]);
    case.done(&["backup", &case.file("after.db")]);
    restored(
        "5a backup from after rekey",
        &case,
        &["restore", &case.file("after.db")],
    );
    let case = during_rekey(&fixture);
    case.done(&["backup", &case.file("during.db")]);
    case.done(&["rekey"]);
    restored(
        "5b backup from the middle of rekey",
        &case,
        &["restore", &case.file("during.db")],
    );

    let case = fixture.copy();
    restored("6a restore", &case, &["restore", &case.file(backup)]);
    restored("6b restore twice", &case, &["restore", &case.file(backup)]);
    assert_eq!(case.kept("store.db").len(), 2);

    let case = fixture.copy();
    let daemon = crate::binary::serve(&case.path.join("brevet.toml"));
    refused(
        "7 while a broker serves it",
        &case,
        &["restore", &case.file(backup)],
        &["another broker serves this store"],
    );
    drop(daemon);

    let case = fixture.copy();
    let bytes = std::fs::read(&fixture.backup).unwrap();
    std::fs::write(case.path.join(backup), &bytes[..bytes.len() / 2]).unwrap();
    refused(
        "8a truncated backup",
        &case,
        &["restore", &case.file(backup)],
        &["is not a complete backup"],
    );
    std::fs::write(case.path.join(backup), b"").unwrap();
    refused(
        "8b empty backup",
        &case,
        &["restore", &case.file(backup)],
        &["is not a complete backup"],
    );
    std::fs::write(case.path.join(backup), vec![b'x'; 8_192]).unwrap();
    refused(
        "8c something else",
        &case,
        &["restore", &case.file(backup)],
        &["is not a complete backup"],
    );
    refused(
        "8d a missing file",
        &case,
        &["restore", &case.file("gone.db")],
        &["gone.db", "the file does not exist"],
    );

    let case = fixture.copy();
    sqlite(
        &case.path.join(backup),
        "UPDATE resources SET body = replace(body, 'SealedSecretAccessKey\":\"', 'SealedSecretAccessKey\":\"00000000') \
         WHERE kind = 'access-key'",
    );
    refused(
        "9a a backup whose secret was edited",
        &case,
        &["restore", &case.file(backup)],
        &["Nothing was replaced"],
    );
    std::fs::copy(&fixture.backup, case.path.join(backup)).unwrap();
    sqlite(
        &case.path.join(backup),
        "UPDATE resources SET body = '{\"Surprise\":1}' WHERE kind = 'role'",
    );
    refused(
        "9b a backup whose row was edited",
        &case,
        &["restore", &case.file(backup)],
        &["Nothing was replaced"],
    );

    let case = fixture.copy();
    std::fs::rename(
        case.path.join("master.key"),
        case.path.join("elsewhere.key"),
    )
    .unwrap();
    refused_blindly(
        "10 missing master key",
        &case,
        &["restore", &case.file(backup)],
        &["master.key"],
        |_| {},
    );

    let case = fixture.copy();
    std::fs::write(case.path.join("store.db"), vec![b'x'; 8_192]).unwrap();
    restored(
        "11 over a store that is damaged",
        &case,
        &["restore", &case.file(backup)],
    );
    let kept = case.kept("store.db").remove(0);
    assert_eq!(
        std::fs::read(case.path.join(kept)).unwrap(),
        vec![b'x'; 8_192],
        "as it was"
    );

    let case = fixture.copy();
    for name in ["store.db", "store.db-wal", "store.db-shm"] {
        let _ = std::fs::remove_file(case.path.join(name));
    }
    let said = case.done(&["restore", &case.file(backup)]);
    assert!(case.has(BEFORE) && case.kept("store.db").is_empty());
    row(
        "12 over a store that is gone",
        Some(0),
        &said,
        "every secret can be opened",
    );

    let case = fixture.copy();
    let keyring = brevet::keyring_file::load(&case.path.join("keyring.json")).unwrap();
    let id = format!("{:08x}", keyring.current().unwrap().id());
    let mut revoke = brevet();
    revoke
        .args(["keyring", "revoke", &id, "--config"])
        .arg(case.path.join("brevet.toml"));
    let revoked = revoke.output().unwrap();
    assert!(revoked.status.success(), "{}", text(&revoked));
    let said = case.done(&["restore", &case.file(backup)]);
    assert!(
        said.contains(&format!("are now revoked in the restored store too: {id}")),
        "{said}"
    );
    let feed = case.done(&["changes", "--after", "0"]);
    assert!(
        feed.lines()
            .any(|l| l.contains("RevokeSigningKey") && l.contains(&id)),
        "{feed}"
    );
    row(
        "14 a signing key was revoked after the backup",
        Some(0),
        &said,
        "it is revoked in the restored store",
    );

    let case = fixture.copy();
    let _ = std::fs::remove_file(case.path.join("audit.commands.jsonl"));
    std::fs::create_dir(case.path.join("audit.commands.jsonl")).unwrap();
    refused_blindly(
        "13 a log of commands that cannot be written",
        &case,
        &["restore", &case.file(backup)],
        &["audit.commands.jsonl", "nothing was done"],
        |_| {},
    );
}

/// An interruption after the new key seals but before every secret is sealed under it.
fn during_rekey(fixture: &Fixture) -> Try {
    for at in 1.. {
        let case = fixture.copy();
        let before = case.key_ids();
        let output = case.faulty(&["rekey"], "FAULT_KILL_AT", at);
        assert!(
            output.status.code().is_none(),
            "it was not in the middle of it: {}",
            text(&output)
        );
        let now = case.key_ids();
        if now.len() == 2 && now[0] != before[0] {
            return case;
        }
    }
    unreachable!()
}
