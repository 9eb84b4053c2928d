//! Commands that are killed, or find the disk full, at each call that changes a file. `cargo test
//! --test it killed -- --nocapture` prints the tables.

use crate::binary::brevet;
use crate::replacing::{AFTER, BEFORE, Fixture, Try, command, faults, role, text};

impl Try {
    /// The number of calls that change a file, at each of which the command is ended, and the number
    /// of writes.
    fn calls(&self, arguments: &[&str]) -> (usize, usize) {
        let count = self.path.join("count");
        let output = command(&self.path, arguments)
            .env("LD_PRELOAD", faults())
            .env("FAULT_COUNT", &count)
            .output()
            .unwrap();
        assert!(output.status.success(), "{arguments:?}: {}", text(&output));
        let counted = std::fs::read_to_string(count).unwrap();
        let mut numbers = counted.split_whitespace().map(|n| n.parse().unwrap());
        (numbers.next().unwrap(), numbers.next().unwrap())
    }
}

#[test]
fn a_command_that_is_killed_anywhere_loses_nothing() {
    let fixture = Fixture::new();
    println!(
        "{:<28} {:>6} {:>5} {:>5}",
        "killed at each call of", "calls", "old", "new"
    );

    // Restore: the old store or the new one, whole; run again it is the new one, and the old one is kept.
    let case = fixture.copy();
    let (calls, _) = case.calls(&["restore", &case.file("backup.db")]);
    let (mut old, mut new) = (0, 0);
    for at in 1..=calls {
        let case = fixture.copy();
        let restore = ["restore", &case.file("backup.db")];
        case.faulty(&restore, "FAULT_KILL_AT", at);
        case.is_whole()
            .unwrap_or_else(|error| panic!("restore, killed at {at}: {error}"));
        if case.has(AFTER) {
            old += 1;
        } else {
            new += 1;
            assert!(
                !case.kept("store.db").is_empty(),
                "restore, killed at {at}: what was there is kept"
            );
        }
        case.done(&restore);
        assert!(
            case.has(BEFORE) && !case.has(AFTER),
            "restore, killed at {at}, run again"
        );
        let is_kept = |kept: &String| {
            let case = copy_with(&fixture, &case, kept);
            case.done(&["restore", &case.file("kept.db"), "--another-store"]);
            case.has(AFTER)
        };
        assert!(
            case.kept("store.db").iter().any(is_kept),
            "restore, killed at {at}: the way back"
        );
    }
    println!("{:<28} {calls:>6} {old:>5} {new:>5}", "restore");
    assert!(old > 0 && new > 0);

    // Rekey: every secret opens; run again it is done; a backup from before can be restored.
    let case = fixture.copy();
    let (calls, _) = case.calls(&["rekey"]);
    let (mut old, mut new) = (0, 0);
    for at in 1..=calls {
        let case = fixture.copy();
        let before = case.key_ids();
        case.faulty(&["rekey"], "FAULT_KILL_AT", at);
        case.is_whole()
            .unwrap_or_else(|error| panic!("rekey, killed at {at}: {error}"));
        if case.key_ids()[0] == before[0] {
            old += 1
        } else {
            new += 1
        }
        case.done(&["rekey"]);
        assert!(
            case.key_ids()[0] != before[0] && case.key_ids().contains(&before[0]),
            "rekey, killed at {at}"
        );
        case.is_whole()
            .unwrap_or_else(|error| panic!("rekey, killed at {at}, run again: {error}"));
        case.done(&["restore", &case.file("backup.db")]);
    }
    println!("{:<28} {calls:>6} {old:>5} {new:>5}", "rekey");

    // Keyring rotation: a keyring, whole; what was there is there or kept.
    let rotate = |case: &Try, fault: Option<usize>| {
        let mut command = brevet();
        command.args(["keyring", "rotate", &case.file("keyring.json")]);
        if let Some(at) = fault {
            command
                .env("LD_PRELOAD", faults())
                .env("FAULT_KILL_AT", at.to_string());
        }
        command.output().unwrap()
    };
    let (mut calls, mut old, mut new) = (0, 0, 0);
    for at in 1.. {
        let case = fixture.copy();
        let before = std::fs::read(case.path.join("keyring.json")).unwrap();
        let output = rotate(&case, Some(at));
        case.is_whole()
            .unwrap_or_else(|error| panic!("rotate, killed at {at}: {error}"));
        if std::fs::read(case.path.join("keyring.json")).unwrap() == before {
            old += 1;
        } else {
            new += 1;
            let kept = case.kept("keyring.json").remove(0);
            assert_eq!(std::fs::read(case.path.join(kept)).unwrap(), before);
        }
        if output.status.code() == Some(0) {
            break;
        }
        calls += 1;
        assert!(rotate(&case, None).status.success());
    }
    println!("{:<28} {calls:>6} {old:>5} {new:>5}", "keyring rotate");

    // Backup: there is a whole one under the name, or none.
    let case = fixture.copy();
    let (calls, _) = case.calls(&["backup", &case.file("new.db")]);
    let (mut none, mut whole) = (0, 0);
    for at in 1..=calls {
        let case = fixture.copy();
        case.faulty(&["backup", &case.file("new.db")], "FAULT_KILL_AT", at);
        if case.path.join("new.db").exists() {
            whole += 1;
        } else {
            none += 1;
            case.done(&["backup", &case.file("new.db")]);
        }
        case.done(&["restore", &case.file("new.db")]);
        assert!(case.has(AFTER));
    }
    println!("{:<28} {calls:>6} {none:>5} {whole:>5}", "backup");

    // Import: all of it or nothing, and what was replaced can be brought back.
    let declared = |case: &Try| {
        let exported = case.run(&["export"]).stdout;
        let text = String::from_utf8(exported).unwrap().replace(
            "\"MaxSessionDuration\": 3600",
            "\"MaxSessionDuration\": 7200",
        );
        brevet::files::write_private(&case.path.join("declared.json"), text.as_bytes()).unwrap();
        case.file("declared.json")
    };
    let case = fixture.copy();
    let (calls, _) = case.calls(&["import", &declared(&case), "--apply"]);
    let (mut old, mut new) = (0, 0);
    for at in 1..=calls {
        let case = fixture.copy();
        let file = declared(&case);
        case.faulty(&["import", &file, "--apply"], "FAULT_KILL_AT", at);
        case.is_whole()
            .unwrap_or_else(|error| panic!("import, killed at {at}: {error}"));
        let exported = text(&case.run(&["export"]));
        match (
            exported.contains("\"MaxSessionDuration\": 3600"),
            exported.contains("\"MaxSessionDuration\": 7200"),
        ) {
            (true, false) => old += 1,
            (false, true) => {
                new += 1;
                let kept = case.kept("directory.json").remove(0);
                case.done(&["import", &case.file(&kept), "--apply"]);
                assert!(
                    text(&case.run(&["export"])).contains("\"MaxSessionDuration\": 3600"),
                    "import, killed at {at}"
                );
            }
            both => panic!("import, killed at {at}: half of it {both:?}"),
        }
    }
    println!("{:<28} {calls:>6} {old:>5} {new:>5}", "import --apply");

    // Move: at most one of the two is used, and the same command goes on.
    let case = fixture.copy();
    let (calls, _) = case.calls(&["move", "--to", &case.file("moved.db")]);
    let (mut here, mut there, mut neither) = (0, 0, 0);
    for at in 1..=calls {
        let case = fixture.copy();
        let goes = ["move", "--to", &case.file("moved.db")];
        let output = case.faulty(&goes, "FAULT_KILL_AT", at);
        match (
            case.run(&["export"]).status.success(),
            case.is_used_at("moved.db"),
        ) {
            (true, true) => panic!("move, killed at {at}: both are used"),
            (true, false) => here += 1,
            (false, true) => there += 1,
            (false, false) => neither += 1,
        }
        if !case.is_used_at("moved.db") {
            case.done(&goes);
        } else {
            assert!(
                output.status.code().is_some() || text(&case.run(&goes)).contains("moved"),
                "move, killed at {at}"
            );
        }
        assert!(
            !case.run(&["export"]).status.success(),
            "what is left behind is not used"
        );
        case.config(|toml| toml.replace("\"store.db\"", "\"moved.db\""));
        case.is_whole()
            .unwrap_or_else(|error| panic!("move, killed at {at}: {error}"));
        assert!(case.has(AFTER));
    }
    println!(
        "{:<28} {calls:>6} {here:>5} {there:>5}, {neither} neither until it is run again",
        "move"
    );
}

/// A try with the same keys and the file `kept.db`, which another try has kept.
fn copy_with(fixture: &Fixture, other: &Try, kept: &str) -> Try {
    let case = fixture.copy();
    std::fs::copy(other.path.join(kept), case.path.join("kept.db")).unwrap();
    let wal = other.path.join(format!("{kept}-wal"));
    if wal.exists() {
        std::fs::copy(wal, case.path.join("kept.db-wal")).unwrap();
    }
    case
}

impl Try {
    fn config(&self, change: impl FnOnce(String) -> String) {
        let path = self.path.join("brevet.toml");
        let text = change(std::fs::read_to_string(&path).unwrap());
        std::fs::write(path, text).unwrap();
    }

    /// Whether commands can use the store in another file.
    fn is_used_at(&self, file: &str) -> bool {
        if !self.path.join(file).exists() {
            return false;
        }
        let other = self.path.join("other.toml");
        let text = std::fs::read_to_string(self.path.join("brevet.toml")).unwrap();
        brevet::files::write_private(
            &other,
            text.replace("\"store.db\"", &format!("\"{file}\""))
                .as_bytes(),
        )
        .unwrap();
        let output = brevet()
            .args(["export", "--config"])
            .arg(other)
            .output()
            .unwrap();
        output.status.success() && String::from_utf8_lossy(&output.stdout).contains(AFTER)
    }
}

#[test]
fn a_disk_that_gets_full_anywhere_loses_nothing() {
    let fixture = Fixture::new();
    println!(
        "{:<28} {:>6} {:>7} {:>5}",
        "full from each write on of", "writes", "refused", "done"
    );
    for what in ["restore", "rekey", "backup", "import", "move"] {
        let arguments = |case: &Try| -> Vec<String> {
            let file = |name: &str| case.file(name);
            match what {
                "restore" => vec!["restore".to_owned(), file("backup.db")],
                "rekey" => vec!["rekey".to_owned()],
                "backup" => vec!["backup".to_owned(), file("new.db")],
                "import" => {
                    let text = role("arn:aws:iam::111122223333:role/Third");
                    brevet::files::write_private(&case.path.join("third.json"), text.as_bytes())
                        .unwrap();
                    vec![
                        "import".to_owned(),
                        file("third.json"),
                        "--apply".to_owned(),
                    ]
                }
                _ => vec!["move".to_owned(), "--to".to_owned(), file("moved.db")],
            }
        };
        let case = fixture.copy();
        let words = arguments(&case);
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        let (_, writes) = case.calls(&words);
        let (mut refused, mut done) = (0, 0);
        // Every write would take minutes: the first ones, where most files begin, and then every fifth.
        for at in (1..=writes).filter(|at| *at <= 8 || at % 5 == 0) {
            let case = fixture.copy();
            let words = arguments(&case);
            let words: Vec<&str> = words.iter().map(String::as_str).collect();
            let output = case.faulty(&words, "FAULT_FULL_AT", at);
            let said = text(&output);
            match output.status.code() {
                // What could not be written was the last record of the log, or nobody's loss.
                Some(0) => done += 1,
                Some(1) => {
                    refused += 1;
                    // A move may be cut off between its two marks; then neither store is used.
                    if what != "move" {
                        case.is_whole().unwrap_or_else(|error| {
                            panic!("{what}, full from {at}: {error}\n{said}")
                        });
                        let is_there = case.has(AFTER) || !case.kept("store.db").is_empty();
                        assert!(
                            is_there,
                            "{what}, full from {at}: what was there is there, or kept: {said}"
                        );
                    }
                    if what == "backup" {
                        assert!(
                            !case.path.join("new.db").exists(),
                            "{what}, full from {at}: {said}"
                        );
                    }
                    case.done(&words);
                }
                other => panic!("{what}, full from {at}: {other:?} {said}"),
            }
        }
        println!("{what:<28} {writes:>6} {refused:>7} {done:>5}");
        assert!(refused > 0, "{what}");
    }
}
