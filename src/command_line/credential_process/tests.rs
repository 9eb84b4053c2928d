use std::sync::atomic::{AtomicUsize, Ordering};

use super::*;
use crate::base::clock::ManualClock;

fn folder() -> tempfile::TempDir {
    tempfile::tempdir().unwrap()
}

fn entry_in(folder: &tempfile::TempDir) -> Entry {
    Entry::new(folder.path().join("brevet/credentials"), "a role")
}

/// A session that begins now and lasts an hour.
fn session_at(now: Timestamp, id: &str) -> SessionCredentials {
    SessionCredentials {
        received_at: now,
        expires_at: now.plus(Duration::from_secs(3_600)),
        ..SessionCredentials::for_tests(id, "secret", "token")
    }
}

fn away() -> Failure {
    ClientError::Unreachable {
        url: "https://broker".into(),
        reason: "refused".into(),
    }
    .into()
}

fn refused(code: &str) -> Failure {
    ClientError::Refused {
        code: code.into(),
        message: "no".into(),
        request_id: String::new(),
    }
    .into()
}

/// The id of the key that a run gets, or the error with which it fails.
async fn got(
    entry: Option<&Entry>,
    clock: &ManualClock,
    answer: Result<SessionCredentials, Failure>,
) -> Result<String, String> {
    obtain(entry, clock, async || answer)
        .await
        .map(|session| session.access_key_id)
        .map_err(|failure| failure.to_string())
}

#[tokio::test]
async fn cached_credentials_are_printed_until_they_are_due() {
    let (folder, clock) = (
        folder(),
        ManualClock::new(Timestamp::from_seconds(1_800_000_000)),
    );
    let entry = entry_in(&folder);
    let at = |minutes: u64| {
        clock.set(Timestamp::from_seconds(1_800_000_000).plus(Duration::from_secs(60 * minutes)));
        &clock
    };
    let first = Ok(session_at(clock.now(), "FIRST"));
    assert_eq!(got(Some(&entry), at(0), first).await.unwrap(), "FIRST");
    assert_eq!(
        got(Some(&entry), at(39), Err(away())).await.unwrap(),
        "FIRST"
    );
    // From 40 minutes on they are due: new ones are taken, but the broker may be away for a while.
    assert_eq!(
        got(Some(&entry), at(41), Err(away())).await.unwrap(),
        "FIRST"
    );
    assert_eq!(
        got(Some(&entry), at(54), Err(refused("Throttling")))
            .await
            .unwrap(),
        "FIRST"
    );
    assert!(
        got(Some(&entry), at(55), Err(away()))
            .await
            .unwrap_err()
            .contains("cannot reach")
    );
    let second = Ok(session_at(at(56).now(), "SECOND"));
    assert_eq!(got(Some(&entry), at(56), second).await.unwrap(), "SECOND");
    // A refusal is final: cached credentials are not printed any more.
    let refusal = got(Some(&entry), at(56 + 41), Err(refused("AccessDenied"))).await;
    assert!(refusal.unwrap_err().contains("AccessDenied"));
    assert!(entry.read().is_none());
}

#[tokio::test]
async fn credentials_that_expire_too_soon_are_refused() {
    let clock = ManualClock::new(Timestamp::from_seconds(1_800_000_000));
    let ahead = |seconds: u64| SessionCredentials {
        expires_at: clock.now().plus(Duration::from_secs(seconds)),
        ..session_at(clock.now(), "SHORT")
    };
    assert!(got(None, &clock, Ok(ahead(301))).await.is_ok());
    let refused = got(None, &clock, Ok(ahead(300))).await.unwrap_err();
    assert!(refused.contains("check the clock"), "{refused}");
}

#[tokio::test]
async fn parallel_runs_ask_once() {
    let (folder, clock) = (
        folder(),
        ManualClock::new(Timestamp::from_seconds(1_800_000_000)),
    );
    let entry = entry_in(&folder);
    let asked = AtomicUsize::new(0);
    let run = || {
        obtain(Some(&entry), &clock, async || {
            asked.fetch_add(1, Ordering::SeqCst);
            tokio::task::yield_now().await;
            Ok(session_at(clock.now(), "ONCE"))
        })
    };
    let (one, two, three) = tokio::join!(run(), run(), run());
    for session in [one, two, three] {
        assert_eq!(session.unwrap().access_key_id, "ONCE");
    }
    assert_eq!(asked.load(Ordering::SeqCst), 1);
}

#[tokio::test(start_paused = true)]
async fn a_run_that_hangs_does_not_hold_up_the_others_for_ever() {
    let (folder, clock) = (
        folder(),
        ManualClock::new(Timestamp::from_seconds(1_800_000_000)),
    );
    let entry = entry_in(&folder);
    let _held = entry.lock(MAX_WAIT).await.unwrap();
    let own = Ok(session_at(clock.now(), "OWN"));
    assert_eq!(got(Some(&entry), &clock, own).await.unwrap(), "OWN");
}

#[tokio::test]
async fn a_cache_that_is_of_no_use_is_no_error() {
    use std::os::unix::fs::PermissionsExt;
    let (folder, clock) = (
        folder(),
        ManualClock::new(Timestamp::from_seconds(1_800_000_000)),
    );
    // A file where the folder should be.
    let file = folder.path().join("file");
    std::fs::write(&file, "").unwrap();
    let entry = Entry::new(file, "a role");
    for id in ["FIRST", "SECOND"] {
        let answer = Ok(session_at(clock.now(), id));
        assert_eq!(got(Some(&entry), &clock, answer).await.unwrap(), id);
    }
    // Cached files that others can read, that are cut off, or that hold something else.
    let entry = entry_in(&folder);
    got(Some(&entry), &clock, Ok(session_at(clock.now(), "FIRST")))
        .await
        .unwrap();
    let [path] = std::fs::read_dir(folder.path().join("brevet/credentials"))
        .unwrap()
        .map(|file| file.unwrap().path())
        .filter(|path| path.extension().is_some_and(|e| e == "json"))
        .collect::<Vec<_>>()
        .try_into()
        .unwrap();
    let mode =
        |path: &std::path::Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&path), 0o600);
    assert_eq!(mode(path.parent().unwrap()), 0o700);
    assert!(entry.read().is_some());
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
    assert!(entry.read().is_none());
    let whole = std::fs::read_to_string(&path).unwrap();
    for bad in [
        "",
        "{}",
        &whole[..whole.len() / 2],
        &whole.replace("FIRST", "FI'RST"),
    ] {
        std::fs::remove_file(&path).unwrap();
        std::fs::write(&path, bad).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        assert!(entry.read().is_none(), "{bad}");
    }
}

#[test]
fn another_question_has_another_place() {
    let folder = folder();
    let clock = Timestamp::from_seconds(1_800_000_000);
    entry_in(&folder).write(&session_at(clock, "FIRST"), clock);
    assert!(entry_in(&folder).read().is_some());
    let other = Entry::new(folder.path().join("brevet/credentials"), "another role");
    assert!(other.read().is_none());
}

#[test]
fn files_of_sessions_that_have_ended_are_removed() {
    let folder = folder();
    let now = SystemClock.now();
    entry_in(&folder).write(&session_at(now, "FIRST"), now);
    let other = Entry::new(folder.path().join("brevet/credentials"), "another role");
    let later = now.plus(Duration::from_secs(129_700));
    other.write(&session_at(later, "SECOND"), later);
    assert!(entry_in(&folder).read().is_none() && other.read().is_some());
}

#[test]
fn other_files_in_the_folder_stay_however_old_they_are() {
    let folder = folder();
    let strangers = [
        "package.json",
        "Cargo.lock",
        "notes.new-1",
        &format!("{}.json", "x".repeat(64)),
    ];
    for name in strangers {
        std::fs::write(folder.path().join(name), "{}").unwrap();
    }
    let later = SystemClock.now().plus(Duration::from_secs(129_700));
    let entry = Entry::new(folder.path().to_owned(), "a role");
    entry.write(&session_at(later, "FIRST"), later);
    assert!(entry.read().is_some());
    for name in strangers {
        assert!(folder.path().join(name).exists(), "{name}");
    }
}
