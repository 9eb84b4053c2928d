use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::Command;

use proptest::prelude::*;
use serde_json::Value;
use serde_json::value::RawValue;

use super::line::MAX_TEXT;
use super::refusals::{Counted, Rate};
use super::state::UNPROVEN_PER_SECOND;
use super::*;
use crate::base::clock::ManualClock;
use crate::base::entropy::SystemEntropy;

const SOURCE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(203, 0, 113, 7));

fn start() -> Timestamp {
    Timestamp::from_seconds(1_700_000_000)
}

fn sample(name: &'static str) -> Record<'static> {
    record(name, start(), "r", "e")
}

fn counting(action: &'static str) -> Counting {
    Counting {
        event_source: "sts.amazonaws.com",
        action,
        source: SOURCE,
        now: start(),
    }
}

const REFUSED: &str = "MissingAuthenticationToken";

fn refused() -> Record<'static> {
    Record {
        error_code: Some(REFUSED),
        ..sample("AssumeRole")
    }
}

fn open(path: &Path, sync: bool) -> (Audit, Arc<ManualClock>) {
    let clock = Arc::new(ManualClock::new(start()));
    let surroundings = Surroundings {
        clock: clock.clone(),
        entropy: Arc::new(SystemEntropy::new()),
        metrics: Arc::new(Metrics::new()),
        region: "us-east-1".into(),
        head: None,
    };
    (
        Audit::open(
            &Target::File {
                path: path.to_owned(),
                sync,
            },
            surroundings,
        )
        .unwrap(),
        clock,
    )
}

fn audit(path: &Path) -> Audit {
    open(path, true).0
}

fn lines(path: &Path) -> Vec<Value> {
    std::fs::read_to_string(path)
        .unwrap()
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

/// Asserts that the chain continues through these files without a fault.
fn is_whole(files: &[&Path]) {
    let mut verifier = verify::Verifier::new(None);
    for file in files {
        verifier
            .read(std::io::BufReader::new(std::fs::File::open(file).unwrap()))
            .unwrap();
    }
    let report = verifier.finish();
    assert!(report.is_whole(), "{:?}", report.faults);
}

/// Counts the refusals in a log: those with lines of their own, and those that were counted.
fn refusals(lines: &[Value]) -> (u64, u64) {
    let (counted, others): (Vec<_>, Vec<_>) = lines
        .iter()
        .partition(|line| line["eventType"] == "BrevetAggregate");
    let one_by_one = others
        .iter()
        .filter(|line| line.get("errorCode").is_some())
        .count();
    (
        u64::try_from(one_by_one).unwrap(),
        counted
            .iter()
            .map(|l| l["additionalEventData"]["count"].as_u64().unwrap())
            .sum(),
    )
}

#[tokio::test]
async fn au_05_hostile_text_stays_on_one_line() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("audit.jsonl");
    let audit = audit(&path);
    let hostile = "a\r\nb\u{1b}[31m\u{2028}\u{2029}\u{85}\"}\u{1f600}\u{7f}";
    let mut record = sample(hostile);
    record.user_agent = Some(clip(&"x".repeat(65_536)).into());
    audit.commit(&record).await.unwrap();
    audit.close();
    let text = std::fs::read_to_string(&path).unwrap();
    assert!(text.is_ascii() && text.ends_with('\n'));
    assert_eq!(text.matches('\n').count(), 1);
    let json: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(json["eventName"], hostile);
    assert_eq!(json["userAgent"].as_str().unwrap().len(), MAX_TEXT);
    assert_eq!(std::fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
}

#[tokio::test]
async fn au_01_a_full_disk_releases_nothing() {
    let full = audit(Path::new("/dev/full"));
    assert_eq!(full.commit(&sample("a")).await, Err(AuditError));
    assert!(!full.is_up());
}

#[tokio::test]
async fn a_torn_tail_is_cut_off_and_rotation_loses_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("audit.jsonl");
    crate::files::write_private(&path, b"{\"whole\":1}\n{\"torn\":").unwrap();
    let audit = audit(&path);
    audit.commit(&sample("first")).await.unwrap();
    audit.count(REFUSED, counting("AssumeRole"));
    std::fs::rename(&path, dir.path().join("old")).unwrap();
    audit.reopen();
    audit.commit(&sample("second")).await.unwrap();
    audit
        .read(|| sample("third"), true, counting("GetCallerIdentity"))
        .unwrap();
    audit.note(&sample("fourth")).unwrap();
    audit.refuse(refused, false, REFUSED, counting("AssumeRole"));
    audit.close();
    let old = std::fs::read_to_string(dir.path().join("old")).unwrap();
    assert!(old.starts_with("{\"whole\":1}\n{\"eventVersion\""), "{old}");
    // What was counted before the rotation is in the file that is put aside.
    assert_eq!(refusals(&lines(&dir.path().join("old"))), (0, 1));
    assert_eq!(refusals(&lines(&path)), (1, 0));
    assert_eq!((old.lines().count(), lines(&path).len()), (3, 4));
    is_whole(&[&dir.path().join("old"), &path]);
}

#[tokio::test]
async fn the_metric_of_the_sequence_does_not_fall_at_a_start() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("audit.jsonl");
    for name in ["first", "second"] {
        let audit = audit(&path);
        audit.commit(&sample(name)).await.unwrap();
        audit.close();
    }
    let audit = audit(&path);
    eventually("the sequence", || {
        audit.shared.metrics.audit_sequence.get() == 2
    });
    audit.close();
}

#[tokio::test]
async fn a_file_that_somebody_cut_is_not_filled_with_zeros() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("audit.jsonl");
    let audit = audit(&path);
    audit.commit(&sample("first")).await.unwrap();
    std::fs::OpenOptions::new()
        .write(true)
        .open(&path)
        .unwrap()
        .set_len(0)
        .unwrap();
    // As after a write that failed.
    audit.shared.tell(false, "a test");
    audit.commit(&sample("second")).await.unwrap();
    audit.close();
    assert_eq!(lines(&path).len(), 1);
}

/// Floods the log with 10,000 refusals a second by a simulated clock, together with calls that succeed. The flood lasts
/// a minute, or as many seconds as `BREVET_FLOOD` says.
#[tokio::test]
async fn au_07_a_flood_of_refusals_is_bounded_and_counted() {
    const A_SECOND: u64 = 10_000;
    let seconds = std::env::var("BREVET_FLOOD").map_or(60, |seconds| seconds.parse().unwrap());
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("audit.jsonl");
    let (audit, clock) = open(&path, false);
    let agent = "x".repeat(MAX_TEXT);
    let hostile = || Record {
        user_agent: Some(agent.as_str().into()),
        ..refused()
    };
    for second in 0..seconds {
        let now = Clock::now(&*clock);
        for _ in 0..A_SECOND {
            audit.refuse(
                hostile,
                false,
                REFUSED,
                Counting {
                    now,
                    ..counting("AssumeRole")
                },
            );
        }
        audit
            .read(
                || sample("GetCallerIdentity"),
                true,
                counting("GetCallerIdentity"),
            )
            .unwrap();
        let mut granted = sample("AssumeRole");
        granted.event_id = format!("granted {second}").into();
        audit.commit(&granted).await.unwrap();
        clock.pass(Duration::from_secs(1));
        clock.advance(Duration::from_secs(1));
    }
    assert!(audit.is_up());
    let counted_now = audit.shared.metrics.audit_aggregated.get();
    audit.close();
    let lines = lines(&path);
    let (one_by_one, counted) = refusals(&lines);
    assert_eq!(
        one_by_one + counted,
        seconds * A_SECOND,
        "nothing is uncounted"
    );
    assert_eq!(counted, counted_now);
    for second in 0..seconds {
        assert!(
            lines
                .iter()
                .any(|line| line["eventID"] == format!("granted {second}")),
            "{second}"
        );
    }
    assert_eq!(
        lines
            .iter()
            .filter(|line| line["eventName"] == "GetCallerIdentity")
            .count() as u64,
        seconds
    );
    // Lines at the rate, the burst, a line too many for each second, and a record every ten seconds.
    let rate = u64::try_from(UNPROVEN_PER_SECOND).unwrap();
    let bound = rate * (seconds + 4) + 4_096 * (seconds + 1);
    let grown: u64 = lines
        .iter()
        .filter(|l| l.get("errorCode").is_some())
        .map(|l| l.to_string().len() as u64)
        .sum();
    assert!(
        std::fs::metadata(&path).unwrap().len() < bound + 1_200 * 2 * seconds,
        "{grown}"
    );
    assert!(
        grown > rate * seconds / 2,
        "what the rate allows is written: {grown}"
    );
    let aggregates: Vec<&Value> = lines
        .iter()
        .filter(|line| line["eventType"] == "BrevetAggregate")
        .collect();
    assert!(
        (seconds / 10..=seconds / 10 + 1).contains(&(aggregates.len() as u64)),
        "{}",
        aggregates.len()
    );
    let first = aggregates[0];
    assert_eq!(
        (
            &first["eventName"],
            &first["errorCode"],
            &first["sourceIPAddress"]
        ),
        (
            &"AssumeRole".into(),
            &"MissingAuthenticationToken".into(),
            &"203.0.113.7".into()
        )
    );
    assert_eq!(
        first["additionalEventData"]["firstTime"],
        start().to_string()
    );
    assert_eq!(first["additionalEventData"]["lastTime"], first["eventTime"]);
    assert!(first.get("requestID").is_none() && first["eventID"].as_str().unwrap().len() == 36);
}

#[tokio::test]
async fn au_07_who_proved_something_has_a_rate_of_its_own() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("audit.jsonl");
    let (audit, _clock) = open(&path, false);
    for _ in 0..10_000 {
        audit.refuse(refused, false, REFUSED, counting("AssumeRole"));
    }
    let mut denied = Record {
        error_code: Some("AccessDenied"),
        ..sample("AssumeRole")
    };
    denied.user_identity.r#type = "IAMUser".into();
    audit.refuse(|| denied, true, "AccessDenied", counting("AssumeRole"));
    audit.close();
    assert_eq!(
        lines(&path)
            .iter()
            .filter(|line| line["errorCode"] == "AccessDenied")
            .count(),
        1
    );
    assert_eq!(
        refusals(&lines(&path)).0 + refusals(&lines(&path)).1,
        10_001
    );
}

#[test]
fn a_rate_saves_what_is_not_used_up_to_a_bound() {
    let at = Duration::from_millis;
    let mut rate = Rate::new(1_000, 4_000, at(0));
    let mut written = 0;
    let mut write = |rate: &mut Rate, now| {
        let before = written;
        while rate.has_room(now) {
            rate.spend(300);
            written += 300;
        }
        written - before
    };
    assert_eq!(
        write(&mut rate, at(0)),
        4_200,
        "the burst, and the rest of a line"
    );
    assert_eq!(write(&mut rate, at(0)), 0);
    assert_eq!(
        write(&mut rate, at(200)),
        0,
        "the line too large is paid for first"
    );
    assert_eq!(write(&mut rate, at(201)), 300);
    assert_eq!(
        write(&mut rate, at(3_600_000)),
        4_200,
        "no more than the burst, however long it was quiet"
    );
    assert_eq!(write(&mut rate, at(0)), 0, "time does not go back");
    let mut total = 0;
    for ms in 0..100_000 {
        total += write(&mut rate, at(3_600_000 + ms));
    }
    assert!((99_000..=100_300).contains(&total), "{total}");
}

#[test]
fn kinds_are_told_apart_up_to_a_bound_and_the_rest_is_counted_together() {
    let kind = |n: u32| Kind {
        event_source: "sts.amazonaws.com",
        action: "AssumeRole",
        error_code: "AccessDenied",
        source: budgets::source(IpAddr::from([10, 0, (n >> 8) as u8, n as u8])),
    };
    let mut counted = Counted::default();
    for n in 0..1_000 {
        for _ in 0..=n % 3 {
            counted.count(kind(n), start().plus(Duration::from_secs(n.into())));
        }
    }
    let all = (0..1_000u32).map(|n| u64::from(n % 3 + 1)).sum::<u64>();
    assert_eq!(counted.total(), all);
    let records = |counted: &Counted| -> Vec<Value> {
        counted
            .records("us-east-1", || "e".into())
            .map(|r| serde_json::to_value(r).unwrap())
            .collect()
    };
    assert_eq!(records(&counted).len(), MAX_KINDS + 1);
    let rest = records(&counted)
        .into_iter()
        .find(|r| r["eventName"] == "others")
        .unwrap();
    assert!(rest.get("errorCode").is_none() && rest["sourceIPAddress"] == "");
    assert_eq!(
        rest["eventTime"],
        start().plus(Duration::from_secs(999)).to_string()
    );
    assert_eq!(refusals(&records(&counted)).1, all);
    // What could not be written is taken back, beside what came meanwhile.
    let mut later = Counted::default();
    later.count(kind(0), start().plus(Duration::from_secs(5_000)));
    later.count(kind(77_777), start());
    later.merge(counted);
    assert_eq!(later.total(), all + 2);
    assert_eq!(records(&later).len(), MAX_KINDS + 1);
    let first = records(&later)
        .into_iter()
        .find(|r| r["sourceIPAddress"] == "10.0.0.0")
        .unwrap();
    assert_eq!(first["additionalEventData"]["count"], 2);
    assert_eq!(
        first["additionalEventData"]["firstTime"],
        start().to_string()
    );
    assert_eq!(
        first["additionalEventData"]["lastTime"],
        start().plus(Duration::from_secs(5_000)).to_string()
    );
}

#[test]
fn an_ipv6_source_is_its_64() {
    let source = |text: &str| budgets::source(text.parse::<IpAddr>().unwrap()).to_string();
    assert_eq!(source("2001:db8:1:2:3:4:5:6"), "2001:db8:1:2::/64");
    assert_eq!(source("::ffff:203.0.113.7"), "203.0.113.7");
    assert_eq!(source("203.0.113.7"), "203.0.113.7");
}

#[test]
fn au_07_identities_beyond_the_rate_are_counted_and_answered() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("audit.jsonl");
    let (audit, clock) = open(&path, false);
    let large = || Record {
        user_agent: Some("x".repeat(10_000).into()),
        ..sample("GetCallerIdentity")
    };
    for _ in 0..1_000 {
        audit
            .read(large, true, counting("GetCallerIdentity"))
            .unwrap();
    }
    audit
        .read(|| sample("ListSessions"), false, counting("ListSessions"))
        .unwrap();
    clock.pass(Duration::from_secs(2));
    audit
        .read(
            || sample("GetCallerIdentity"),
            true,
            counting("GetCallerIdentity"),
        )
        .unwrap();
    audit.close();
    let lines = lines(&path);
    let single = lines
        .iter()
        .filter(|l| l["eventName"] == "GetCallerIdentity" && l["eventType"] == "AwsApiCall")
        .count();
    let counted: Vec<&Value> = lines
        .iter()
        .filter(|l| l["eventType"] == "BrevetAggregate")
        .collect();
    let [counted] = counted.as_slice() else {
        panic!("{counted:?}")
    };
    assert!(
        (390..=450).contains(&single),
        "{single}: 4 MiB, and one later"
    );
    assert_eq!(
        counted["additionalEventData"]["count"].as_u64().unwrap() + single as u64,
        1_001
    );
    assert!(counted.get("errorCode").is_none() && counted["eventName"] == "GetCallerIdentity");
    assert_eq!(
        lines
            .iter()
            .filter(|l| l["eventName"] == "ListSessions")
            .count(),
        1
    );
    is_whole(&[&path]);
}

#[test]
fn what_is_not_signed_is_clipped_as_it_is_written() {
    assert_eq!(clip_written("aws-cli/2.31", 512), "aws-cli/2.31");
    assert_eq!(clip_written("abcdef", 3), "abc");
    assert_eq!(
        clip_written(&"\u{1f600}".repeat(512), 512).chars().count(),
        42
    );
    assert_eq!(clip_written(&"é".repeat(512), 512).chars().count(), 85);
    assert_eq!(clip_written("é", 5), "");
}

#[test]
fn a_queue_that_is_full_fails_only_itself() {
    let dir = tempfile::tempdir().unwrap();
    let fifo = dir.path().join("fifo");
    assert!(
        Command::new("mkfifo")
            .arg(&fifo)
            .status()
            .unwrap()
            .success()
    );
    // Nobody reads: the writer hangs.
    let _reader = std::fs::OpenOptions::new()
        .read(true)
        .write(true)
        .open(&fifo)
        .unwrap();
    let (audit, clock) = open(&fifo, true);
    let large = |name| Record {
        user_agent: Some("x".repeat(60_000).into()),
        ..sample(name)
    };
    let mut reads = 0;
    while audit
        .read(|| large("ListSessions"), false, counting("ListSessions"))
        .is_ok()
    {
        reads += 1;
    }
    assert!((120..=140).contains(&reads), "{reads}: 8 MiB");
    let mut changes = 0;
    while audit.note(&large("CreateRole")).is_ok() {
        changes += 1;
    }
    assert!((120..=140).contains(&changes), "{changes}: 8 MiB");
    for _ in 0..60 {
        for _ in 0..1_000 {
            audit.refuse(refused, false, REFUSED, counting("AssumeRole"));
        }
        clock.pass(Duration::from_secs(1));
    }
    let state = audit.shared.lock();
    let [awaited, _, _, refusals] = state.lengths();
    assert!(
        refusals <= MAX_REFUSALS && refusals > MAX_REFUSALS - 4_096,
        "{refusals}"
    );
    assert!(state.counted.total() > 50_000);
    // There is room for what credentials wait for.
    assert!(awaited == 0 && MAX_AWAITED - MAX_CHANGES >= 8 << 20);
}

/// A small file system in memory, which can be made only where this user may mount one.
struct Tmpfs(tempfile::TempDir);

impl Tmpfs {
    fn mount(options: &str) -> Option<Self> {
        let dir = tempfile::tempdir().unwrap();
        let done = Command::new("mount")
            .args(["-t", "tmpfs", "-o", options, "brevet-test"])
            .arg(dir.path())
            .output();
        done.is_ok_and(|output| output.status.success())
            .then(|| Self(dir))
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// Fills the file system until this many bytes are free.
    fn leave(&self, bytes: u64) {
        let filler = self.path("filler");
        let _ = std::fs::remove_file(&filler);
        let stat = rustix::fs::statvfs(self.0.path()).unwrap();
        let size = (stat.f_bavail * stat.f_frsize).saturating_sub(bytes);
        std::fs::write(filler, vec![0; usize::try_from(size).unwrap()]).unwrap();
    }
}

impl Drop for Tmpfs {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(self.0.path()).status();
    }
}

fn eventually(what: &str, check: impl Fn() -> bool) {
    for _ in 0..500 {
        if check() {
            return;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    panic!("not within five seconds: {what}");
}

#[tokio::test(flavor = "multi_thread")]
async fn au_01_au_07_the_rest_of_the_disk_belongs_to_credentials() {
    let Some(tmpfs) = Tmpfs::mount("size=4m,mode=0700") else {
        println!("left out: this account may not mount a tmpfs");
        return;
    };
    let path = tmpfs.path("audit.jsonl");
    let (audit, _clock) = open(&path, true);
    let counted = || audit.shared.metrics.audit_aggregated.get();
    let refuse = || audit.refuse(refused, false, REFUSED, counting("AssumeRole"));
    let read = || {
        audit.read(
            || sample("GetCallerIdentity"),
            true,
            counting("GetCallerIdentity"),
        )
    };
    let seen = |free: std::ops::Range<u64>| {
        eventually("the writer has seen it", || {
            audit
                .shared
                .lock()
                .space
                .is_some_and(|s| free.contains(&s.free))
        });
    };
    refuse();
    assert_eq!((counted(), read()), (0, Ok(())));
    // Less than a fifth: refusals are counted.
    tmpfs.leave(600 << 10);
    seen(1..700 << 10);
    refuse();
    assert_eq!((counted(), read()), (1, Ok(())));
    // Less than a tenth: reads are counted too, credentials go on.
    tmpfs.leave(200 << 10);
    seen(1..300 << 10);
    refuse();
    assert_eq!((counted(), read()), (2, Ok(())));
    assert_eq!(counted(), 3);
    assert_eq!(audit.commit(&sample("AssumeRole")).await, Ok(()));
    assert!(audit.is_up());
    let free = audit.shared.metrics.render();
    assert!(
        free.lines()
            .any(|l| l.starts_with("brevet_audit_free_bytes ")
                || l.starts_with("brevet_audit_free_bytes{} ")),
        "{free}"
    );
    assert!(
        !free.contains("brevet_shed_total{reason=\"audit\"}")
            && free.contains("brevet_audit_aggregated_total 3")
    );
    // Until there is nothing left: what somebody waits for fails, and the counts are kept.
    tmpfs.leave(0);
    let mut granted = 2;
    while audit.commit(&sample("AssumeRole")).await.is_ok() {
        granted += 1;
        assert!(granted < 200);
    }
    refuse();
    audit.note(&sample("CreateRole")).unwrap();
    assert!(!audit.is_up());
    assert_eq!(counted(), 4);
    // By itself again.
    tmpfs.leave(2 << 20);
    eventually("it is up", || audit.is_up());
    seen(1 << 20..4 << 20);
    refuse();
    assert_eq!((counted(), read()), (4, Ok(())));
    assert_eq!(audit.commit(&sample("AssumeRole")).await, Ok(()));
    audit.close();
    let lines = lines(&path);
    assert_eq!(refusals(&lines), (2, 4), "one of them was answered");
    let single = |l: &&Value| l["eventType"] != "BrevetAggregate" && l.get("errorCode").is_none();
    let named = |name: &str| {
        lines
            .iter()
            .filter(single)
            .filter(|l| l["eventName"] == name)
            .count()
    };
    assert_eq!(
        (
            named("AssumeRole"),
            named("GetCallerIdentity"),
            named("CreateRole")
        ),
        (granted, 3, 1)
    );
    is_whole(&[&path]);
}

#[tokio::test]
async fn au_01_what_comes_first_does_not_fail_with_what_comes_later() {
    let Some(tmpfs) = Tmpfs::mount("size=1m,mode=0700") else {
        println!("left out: this account may not mount a tmpfs");
        return;
    };
    let path = tmpfs.path("audit.jsonl");
    let (audit, _clock) = open(&path, true);
    audit.commit(&sample("AssumeRole")).await.unwrap();
    tmpfs.leave(64 << 10);
    // More reads than the disk has room for, and one line that somebody waits for, in one round.
    let large = || Record {
        user_agent: Some("x".repeat(100_000).into()),
        ..sample("GetCallerIdentity")
    };
    audit.shared.lock().space = None;
    for _ in 0..2 {
        audit
            .read(large, true, counting("GetCallerIdentity"))
            .unwrap();
    }
    audit.note(&sample("CreateRole")).unwrap();
    assert_eq!(audit.commit(&sample("AssumeRole")).await, Ok(()));
    assert!(!audit.is_up(), "the reads are not written");
    assert_eq!(
        lines(&path).len(),
        3,
        "whole lines, and none of the part that failed"
    );
    tmpfs.leave(512 << 10);
    eventually("it is up", || audit.is_up());
    audit.close();
    assert_eq!(lines(&path).len(), 5);
    is_whole(&[&path]);
}

/// Texts that are longest when they are escaped in a line, and texts at the limits of what is escaped.
const HOSTILE: &[&str] = &[
    "\u{1f600}",
    "\0",
    "\u{7f}",
    "\"",
    "\\",
    "é",
    "a",
    "\u{2028}",
    "\u{d7ff}",
];

fn hostile_text() -> impl Strategy<Value = String> {
    let long =
        (prop::sample::select(HOSTILE), 0..3_000usize).prop_map(|(unit, times)| unit.repeat(times));
    prop_oneof![long, ".{0,40}", any::<String>()]
}

fn hostile_value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        hostile_text().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<bool>().prop_map(Value::from),
        Just(Value::Null),
    ];
    leaf.prop_recursive(4, 60, 30, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..30).prop_map(Value::from),
            prop::collection::hash_map(".{0,100}", inner, 0..20)
                .prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

fn hostile_object() -> impl Strategy<Value = Option<Box<RawValue>>> {
    prop::collection::hash_map("[a-zA-Z\"\\\\]{0,80}", hostile_value(), 0..12)
        .prop_map(|map| serde_json::value::to_raw_value(&map).ok())
}

prop_compose! {
    fn hostile_record()(
        texts in prop::collection::vec(hostile_text(), 12),
        parameters in hostile_object(),
        elements in hostile_object(),
        data in hostile_object(),
    ) -> Record<'static> {
        let mut texts = texts.into_iter();
        let mut text = || texts.next().unwrap();
        let mut record = record(text(), start(), "409c5144-4b2a-4956-8515-901de5870e2f", "e".repeat(36));
        record.user_agent = Some(text().into());
        record.error_code = Some("OutboundWebIdentityFederationDisabledException");
        record.error_message = Some(text());
        record.source_ip_address = SourceAddress::Address("2001:db8:ffff:ffff:ffff:ffff:ffff:ffff".parse().unwrap());
        record.aws_region = "ap-southeast-1".into();
        record.recipient_account_id = Some("111122223333".into());
        record.user_identity = UserIdentity {
            r#type: "WebIdentityUser".into(),
            principal_id: Some(text().into()),
            arn: Some(text().into()),
            account_id: Some("111122223333".into()),
            access_key_id: Some(text().into()),
            user_name: Some(text().into()),
            identity_provider: Some(text().into()),
            session_context: Some(SessionContext {
                session_issuer: Some(SessionIssuer {
                    r#type: "Role",
                    principal_id: "AROADEMO0000000000001".into(),
                    arn: text().into(),
                    account_id: "111122223333".into(),
                    user_name: text().into(),
                }),
                attributes: SessionAttributes { creation_date: start(), mfa_authenticated: "false" },
                source_identity: Some(text().into()),
            }),
        };
        record.request_parameters = parameters;
        record.response_elements = elements;
        record.additional_event_data = data;
        record
    }
}

/// Calls `check` with every value of a record.
fn walk(value: &Value, check: &mut impl FnMut(&Value)) {
    check(value);
    match value {
        Value::Array(items) => items.iter().for_each(|item| walk(item, check)),
        Value::Object(map) => map.values().for_each(|item| walk(item, check)),
        _ => {}
    }
}

fn is_one_line(line: &[u8]) -> Value {
    assert!(line.is_ascii() && line.ends_with(b"\n"));
    assert_eq!(line.iter().filter(|b| b.is_ascii_control()).count(), 1);
    serde_json::from_slice(line).unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn au_05_any_refusal_is_one_short_line(record in hostile_record()) {
        let line = line::refusal(&record).unwrap();
        prop_assert!(line.len() <= MAX_REFUSAL, "{}", line.len());
        let json = is_one_line(&line);
        walk(&json, &mut |value| match value {
            Value::String(text) => assert!(text.chars().count() <= MAX_TEXT),
            Value::Array(items) => assert!(items.len() <= 10),
            _ => {}
        });
        // What Brevet itself says is never cut.
        prop_assert_eq!(&json["requestID"], &*record.request_id);
        prop_assert_eq!(&json["eventID"], &*record.event_id);
        prop_assert_eq!(&json["errorCode"], "OutboundWebIdentityFederationDisabledException");
        prop_assert_eq!(&json["sourceIPAddress"], "2001:db8:ffff:ffff:ffff:ffff:ffff:ffff");
        prop_assert_eq!(&json["userIdentity"]["accountId"], "111122223333");
        let agent = json["userAgent"].as_str().unwrap();
        prop_assert!(record.user_agent.as_ref().unwrap().starts_with(agent));
        let whole = serde_json::to_value(&record).unwrap();
        if record.request_parameters.is_some() && whole.to_string().len() < 2_000 && whole == json {
            prop_assert!(json["requestParameters"].get("omitted").is_none());
        }
    }

    #[test]
    fn au_05_any_other_record_is_one_whole_line(record in hostile_record()) {
        let line = line::whole(&record).unwrap();
        prop_assert!(line.len() <= MAX_LINE);
        let json = is_one_line(&line);
        let whole = serde_json::to_value(&record).unwrap();
        if serde_json::to_string(&whole).unwrap().len() < MAX_LINE / 6 {
            prop_assert_eq!(json, whole);
        }
    }
}

#[test]
fn lists_that_are_cut_say_how_long_they_were() {
    let mut record = refused();
    let cut = |record: &Record<'_>| is_one_line(&line::refusal(record).unwrap());
    let parameters = |n: usize| {
        let tags: Vec<_> = (0..n)
            .map(|i| serde_json::json!({"key": format!("k{i}"), "value": ["x", "y"]}))
            .collect();
        let value = serde_json::json!({"before": [1, 2], "tags": tags, "nested": {"list": vec![vec![0; n]; n]}, "z": "end"});
        serde_json::value::to_raw_value(&value).ok()
    };
    record.request_parameters = parameters(10);
    assert_eq!(
        cut(&record),
        serde_json::to_value(&record).unwrap(),
        "ten items are not cut"
    );
    record.request_parameters = parameters(11);
    let json = cut(&record);
    let cut = &json["requestParameters"];
    assert_eq!(
        (cut["tags"].as_array().unwrap().len(), &cut["tagsTotal"]),
        (10, &11.into())
    );
    assert_eq!(
        cut["tags"][9],
        serde_json::json!({"key": "k9", "value": ["x", "y"]})
    );
    assert_eq!(
        (&cut["before"], &cut["z"]),
        (&serde_json::json!([1, 2]), &"end".into())
    );
    assert!(cut.get("beforeTotal").is_none());
    assert_eq!(
        (
            cut["nested"]["list"][0].as_array().unwrap().len(),
            &cut["nested"]["listTotal"]
        ),
        (10, &11.into())
    );
}

#[test]
fn texts_are_cut_between_characters_and_identity_last() {
    let of = |times: usize| {
        let mut record = refused();
        record.user_identity.arn = Some("i".repeat(300).into());
        record.user_agent = Some(format!("a{}", "\u{1f600}".repeat(times)).into());
        record.request_parameters =
            serde_json::value::to_raw_value(&serde_json::json!({"x": "é".repeat(400)})).ok();
        is_one_line(&line::refusal(&record).unwrap())
    };
    // Everything has room.
    assert_eq!(
        of(5)["requestParameters"]["x"]
            .as_str()
            .unwrap()
            .chars()
            .count(),
        400
    );
    // It has not: texts of 256 bytes, of which a character takes 12 here.
    let json = of(500);
    assert_eq!(json["userAgent"], format!("a{}", "\u{1f600}".repeat(21)));
    assert_eq!(json["requestParameters"]["x"], "é".repeat(42));
    assert_eq!(json["userIdentity"]["arn"], "i".repeat(256));
}

#[test]
fn the_largest_call_that_can_be_granted_is_recorded_whole() {
    let tag = serde_json::json!({"key": "\u{10400}".repeat(128), "value": "\u{10400}".repeat(256)});
    let value = serde_json::json!({
        "roleArn": "a".repeat(2_048),
        "policyArns": vec!["a".repeat(2_048); 10],
        "tags": vec![tag; 50],
        "transitiveTagKeys": vec!["\u{10400}".repeat(128); 50],
    });
    let mut record = sample("AssumeRole");
    record.user_agent = Some("\u{1f600}".repeat(MAX_TEXT).into());
    record.request_parameters = serde_json::value::to_raw_value(&value).ok();
    let line = line::whole(&record).unwrap();
    assert!(
        line.len() > 300_000 && line.len() < MAX_LINE,
        "{}",
        line.len()
    );
    assert_eq!(is_one_line(&line), serde_json::to_value(&record).unwrap());
}

#[test]
fn a_record_beyond_every_bound_is_cut_and_not_lost() {
    let mut record = sample("CreatePolicy");
    record.additional_event_data =
        serde_json::value::to_raw_value(&vec!["x".repeat(1_000); 2_000]).ok();
    let line = line::whole(&record).unwrap();
    assert!(line.len() <= MAX_LINE);
    assert_eq!(
        is_one_line(&line)["additionalEventData"]
            .as_array()
            .unwrap()
            .len(),
        10
    );
    let many: std::collections::BTreeMap<String, u32> =
        (0..100_000).map(|n| (n.to_string(), n)).collect();
    record.additional_event_data = serde_json::value::to_raw_value(&many).ok();
    let omitted = is_one_line(&line::whole(&record).unwrap());
    let size = record.additional_event_data.as_ref().unwrap().get().len();
    assert_eq!(
        omitted["additionalEventData"],
        serde_json::json!({"omitted": true, "originalSize": size})
    );
}
