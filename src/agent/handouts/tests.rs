use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::*;
use crate::agent::refresh;
use crate::agent::session::tests::answered;
use crate::agent::source::{Fetch, FetchError};
use crate::agent::wanted::{WorkloadId, WorkloadWanted};
use crate::base::clock::ManualClock;
use crate::base::entropy::NoEntropy;
use crate::client::{AssumeRole, ClientError};

const ROLE: &str = "arn:aws:iam::111122223333:role/App";
const HOUR: Duration = Duration::from_secs(3_600);

/// The answers of the broker in a test.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Broker {
    Answers,
    IsAway,
    Refuses,
    IsBusy,
}

struct Scripted {
    clock: Arc<ManualClock>,
    state: Mutex<Broker>,
    fetches: AtomicUsize,
    /// How far the clock of the broker is ahead, in milliseconds.
    lead: Mutex<i64>,
    /// While this is held, fetches wait.
    gate: tokio::sync::Mutex<()>,
}

impl Source for Scripted {
    fn fetch<'a>(&'a self, wanted: &'a Wanted) -> Fetch<'a> {
        Box::pin(async move {
            let number = self.fetches.fetch_add(1, Ordering::SeqCst) + 1;
            let _open = self.gate.lock().await;
            let refused = |code: &str| {
                FetchError::Client(ClientError::Refused {
                    code: code.into(),
                    message:
                        "User: x is not authorized. Encoded authorization failure message: abc"
                            .into(),
                    request_id: "r".into(),
                })
            };
            match *self.state.lock().unwrap() {
                Broker::Answers => {
                    let now = self.clock.now();
                    let lead = *self.lead.lock().unwrap();
                    let end = Timestamp::from_millis(now.plus(HOUR).millis() + lead);
                    let answer = answered(&format!("ASIA{number}"), now, end);
                    let role = match wanted {
                        Wanted::Role(request) => request.role_arn.clone(),
                        Wanted::Workload(wanted) => wanted.role_arn.clone().unwrap(),
                    };
                    Ok(RoleSession::new(&role, answer)?)
                }
                Broker::IsAway => Err(FetchError::Client(ClientError::Unreachable {
                    url: "https://broker".into(),
                    reason: "connection refused".into(),
                })),
                Broker::Refuses => Err(refused("AccessDenied")),
                Broker::IsBusy => Err(refused("Throttling")),
            }
        })
    }
}

/// A source of randomness that always gives the middle of a range.
struct Middle;

impl Entropy for Middle {
    fn fill(&self, buffer: &mut [u8]) -> Result<(), NoEntropy> {
        buffer.fill(0x80);
        Ok(())
    }
}

struct World {
    clock: Arc<ManualClock>,
    source: Arc<Scripted>,
    handouts: Handouts,
}

impl World {
    fn new() -> Self {
        let clock = Arc::new(ManualClock::new(Timestamp::from_seconds(1_767_323_045)));
        let source = Arc::new(Scripted {
            clock: clock.clone(),
            state: Mutex::new(Broker::Answers),
            fetches: AtomicUsize::new(0),
            lead: Mutex::new(0),
            gate: tokio::sync::Mutex::default(),
        });
        let handouts = Handouts::new(
            source.clone(),
            clock.clone(),
            Arc::new(Middle),
            Arc::new(Metrics::new()),
        );
        Self {
            clock,
            source,
            handouts,
        }
    }

    fn broker(&self, state: Broker) {
        *self.source.state.lock().unwrap() = state;
    }

    async fn get(&self, wanted: Wanted) -> Result<Arc<RoleSession>, Refusal> {
        self.handouts.get(wanted, self.clock.now()).await
    }

    fn fetches(&self) -> usize {
        self.source.fetches.load(Ordering::SeqCst)
    }

    /// Moves the clock, and begins the fetches that are due then.
    async fn after(&self, seconds: u64) {
        self.clock.advance(Duration::from_secs(seconds));
        self.handouts.tend();
        settle().await;
    }

    /// Lets `seconds` pass in steps of 10.
    async fn pass(&self, seconds: u64) {
        for _ in 0..seconds / 10 {
            self.after(10).await;
        }
    }
}

/// Lets tasks that are ready run, which is enough because they wait only for one another.
async fn settle() {
    for _ in 0..50 {
        tokio::task::yield_now().await;
    }
}

fn wanted(name: &str) -> Wanted {
    Wanted::Role(Box::new(AssumeRole::new(ROLE, name)))
}

fn key(session: &RoleSession) -> &str {
    &session.credentials.access_key_id
}

#[tokio::test]
async fn a_session_comes_from_memory_and_is_renewed_ahead() {
    let world = World::new();
    let slot = world.handouts.pin(wanted("node"));
    assert_eq!(key(&slot.get(world.clock.now()).await.unwrap()), "ASIA1");
    for _ in 0..100 {
        assert_eq!(key(&slot.get(world.clock.now()).await.unwrap()), "ASIA1");
    }
    assert_eq!(world.fetches(), 1);
    world.pass(1_700).await;
    assert_eq!(world.fetches(), 1);
    world.pass(200).await;
    assert_eq!(world.fetches(), 2);
    assert_eq!(key(&slot.get(world.clock.now()).await.unwrap()), "ASIA2");
}

#[tokio::test]
async fn a_request_that_is_older_than_its_session_gets_it() {
    let world = World::new();
    let arrived = world.clock.now();
    world.clock.advance(Duration::from_millis(1));
    let first = world.handouts.get(wanted("node"), arrived).await.unwrap();
    assert_eq!(key(&first), "ASIA1");
    let arrived = world.clock.now();
    world.clock.advance(Duration::from_millis(1));
    world.handouts.ended(&["ASIA1".to_owned()]);
    let second = world.handouts.get(wanted("node"), arrived).await.unwrap();
    assert_eq!(key(&second), "ASIA2");
}

#[tokio::test]
async fn what_is_pinned_is_fetched_before_anybody_asks() {
    let world = World::new();
    let slot = world.handouts.pin(wanted("node"));
    world.pass(10).await;
    assert_eq!(
        world.fetches(),
        0,
        "agents that start together do not fetch together"
    );
    world.pass(20).await;
    assert_eq!(world.fetches(), 1);
    assert_eq!(key(&slot.session().unwrap()), "ASIA1");
}

#[tokio::test]
async fn many_callers_make_one_fetch() {
    let world = World::new();
    let slot = world.handouts.pin(wanted("node"));
    let gate = world.source.gate.lock().await;
    let now = world.clock.now();
    let callers: Vec<_> = (0..50)
        .map(|_| {
            let slot = slot.clone();
            tokio::spawn(async move { slot.get(now).await })
        })
        .collect();
    settle().await;
    drop(gate);
    for caller in callers {
        assert_eq!(key(&caller.await.unwrap().unwrap()), "ASIA1");
    }
    assert_eq!(world.fetches(), 1);
}

#[tokio::test]
async fn ag_04_an_outage_is_bridged_until_shortly_before_the_expiry() {
    let world = World::new();
    let slot = world.handouts.pin(wanted("node"));
    let first = slot.get(world.clock.now()).await.unwrap();
    world.broker(Broker::IsAway);
    let mut left = u64::MAX;
    for _ in 0..7_200 / 10 {
        world.after(10).await;
        match slot.get(world.clock.now()).await {
            Ok(session) => {
                assert_eq!(key(&session), key(&first));
                left = session.expires_at.since(world.clock.now()).as_secs();
                assert!(left > refresh::MARGIN.as_secs(), "{left}");
            }
            Err(refusal) => {
                assert!(world.clock.now().plus(refresh::MARGIN) >= first.expires_at);
                assert!(matches!(refusal, Refusal::Unavailable { .. }), "{refusal}");
            }
        }
    }
    assert!((60..=80).contains(&left), "the last one had {left} s left");
    // About once a minute while there were credentials, and every 16 seconds afterwards.
    let attempts = world.fetches();
    assert!((100..400).contains(&attempts), "{attempts}");
    world.broker(Broker::Answers);
    world.pass(30).await;
    assert!(key(&slot.get(world.clock.now()).await.unwrap()) != key(&first));
}

#[tokio::test]
async fn ag_04_a_refusal_is_passed_on_and_ends_what_was_held() {
    let world = World::new();
    let slot = world.handouts.pin(wanted("node"));
    assert!(slot.get(world.clock.now()).await.is_ok());
    world.broker(Broker::Refuses);
    world.pass(2_000).await;
    let refusal = slot.get(world.clock.now()).await.unwrap_err();
    let expected = Refusal::Denied {
        code: "AccessDenied".into(),
        message: "User: x is not authorized".into(),
    };
    assert_eq!(refusal, expected);
    // It is remembered for some seconds, however many ask.
    let before = world.fetches();
    for _ in 0..100 {
        assert!(slot.get(world.clock.now()).await.is_err());
    }
    assert_eq!(world.fetches(), before);
    world.broker(Broker::Answers);
    world.pass(20).await;
    assert!(slot.get(world.clock.now()).await.is_ok());
}

#[tokio::test]
async fn a_busy_broker_is_no_refusal() {
    let world = World::new();
    let slot = world.handouts.pin(wanted("node"));
    let first = slot.get(world.clock.now()).await.unwrap();
    world.broker(Broker::IsBusy);
    world.pass(2_000).await;
    assert_eq!(
        key(&slot.get(world.clock.now()).await.unwrap()),
        key(&first)
    );
    world.clock.advance(HOUR);
    assert!(matches!(
        slot.get(world.clock.now()).await,
        Err(Refusal::Unavailable { .. })
    ));
}

#[tokio::test]
async fn ag_04_what_the_broker_ended_is_dropped() {
    let world = World::new();
    let slot = world.handouts.pin(wanted("node"));
    assert!(slot.get(world.clock.now()).await.is_ok());
    world.handouts.ended(&["ASIA9".to_owned()]);
    assert_eq!(key(&slot.session().unwrap()), "ASIA1");
    world.broker(Broker::IsAway);
    world.handouts.ended(&["ASIA1".to_owned()]);
    assert!(slot.session().is_none());
    assert!(slot.get(world.clock.now()).await.is_err());
    world.broker(Broker::Answers);
    world.pass(30).await;
    assert_eq!(key(&slot.get(world.clock.now()).await.unwrap()), "ASIA3");
}

#[tokio::test]
async fn workloads_have_sessions_of_their_own_and_are_forgotten() {
    let world = World::new();
    let one = world.get(wanted("one")).await.unwrap();
    let two = world.get(wanted("two")).await.unwrap();
    assert_ne!(key(&one), key(&two));
    assert_eq!(key(&world.get(wanted("one")).await.unwrap()), key(&one));
    assert_eq!(world.handouts.sessions().len(), 2);
    // Both are renewed once, since somebody asked for them; nobody asks for what came then.
    world.pass(9_000).await;
    assert_eq!(world.fetches(), 4);
    assert!(world.handouts.lock().is_empty());
}

#[tokio::test]
async fn ag_05_who_asks_for_very_many_sessions_takes_no_place_from_others() {
    let world = World::new();
    let pinned = world.handouts.pin(wanted("node"));
    assert!(pinned.get(world.clock.now()).await.is_ok());
    let pods = ["one", "two"].map(wanted);
    for pod in &pods {
        assert!(world.get(pod.clone()).await.is_ok());
    }
    world.broker(Broker::Refuses);
    for number in 0..MAX_SLOTS * 2 {
        let forged = wanted(&format!("forged {number}"));
        assert!(world.get(forged).await.is_err());
    }
    let held = world.handouts.lock().len();
    assert!(held <= MAX_SLOTS, "{held}");
    assert!(pods.iter().all(|pod| world.handouts.holds(pod)));
    assert!(pinned.session().is_some());
    // Among sessions, those that were asked for longest ago make room.
    world.broker(Broker::Answers);
    world.clock.advance(Duration::from_secs(1));
    assert!(world.get(pods[1].clone()).await.is_ok());
    for number in 0..MAX_SLOTS - 2 {
        let more = wanted(&format!("more {number}"));
        assert!(world.get(more).await.is_ok());
    }
    assert!(!world.handouts.holds(&pods[0]) && world.handouts.holds(&pods[1]));
    assert!(pinned.session().is_some());
}

#[tokio::test]
async fn ag_04_a_wrong_clock_prolongs_no_session() {
    let world = World::new();
    let slot = world
        .handouts
        .pin(Wanted::Role(Box::new(AssumeRole::new(ROLE, "node"))));
    // The clock of the broker is two days ahead, or two days behind.
    *world.source.lead.lock().unwrap() = 2 * 86_400_000;
    let until = slot.get(world.clock.now()).await.unwrap().expires_at;
    let longest = Duration::from_secs(129_600);
    assert_eq!(until, world.clock.now().plus(longest));
    *world.source.lead.lock().unwrap() = -2 * 86_400_000;
    let slot = world.handouts.pin(wanted("other"));
    let refusal = slot.get(world.clock.now()).await.unwrap_err();
    assert!(matches!(refusal, Refusal::Unavailable { .. }), "{refusal}");
    assert!(refusal.to_string().contains("check the clock"), "{refusal}");
    let before = world.fetches();
    for _ in 0..100 {
        assert!(slot.get(world.clock.now()).await.is_err());
    }
    assert_eq!(
        world.fetches(),
        before,
        "it is not asked for at each request"
    );
}

#[tokio::test]
async fn ag_04_sessions_are_renewed_at_once_when_nobody_says_whether_they_have_ended() {
    let world = World::new();
    let slot = world.handouts.pin(wanted("node"));
    let empty = world.handouts.pin(wanted("empty"));
    assert!(slot.get(world.clock.now()).await.is_ok());
    world.handouts.renew_all();
    world.handouts.tend();
    settle().await;
    assert_eq!(key(&slot.session().unwrap()), "ASIA2");
    assert!(
        empty.session().is_none(),
        "what is not held is fetched in its own time"
    );
}

#[tokio::test]
async fn ag_05_after_a_restart_each_workload_gets_the_session_that_it_had() {
    let of = |role: &str, name: &str| {
        Wanted::Workload(Box::new(WorkloadWanted {
            workload: WorkloadId::Process {
                uid: Some(7),
                unit: None,
                name: name.into(),
            },
            role_arn: Some(role.into()),
            role_session_name: Some(name.into()),
            duration_seconds: Some(3_600),
            tags: Vec::new(),
        }))
    };
    // Roles of two accounts with the same name, and two sessions of the same role.
    let other = "arn:aws:iam::444455556666:role/App";
    let all = [of(ROLE, "web"), of(ROLE, "mailer"), of(other, "web")];
    let before = World::new();
    let mut had = Vec::new();
    for wanted in &all {
        let slot = before.handouts.pin(wanted.clone());
        let session = slot.get(before.clock.now()).await.unwrap();
        had.push(key(&session).to_owned());
    }
    let kept = before.handouts.kept();
    assert_eq!(kept.len(), 3);
    let after = World::new();
    let slots: Vec<_> = all.iter().map(|w| after.handouts.pin(w.clone())).collect();
    let new = after.handouts.pin(of(ROLE, "new"));
    for session in &kept {
        after.handouts.restore(session);
    }
    for (slot, had) in slots.iter().zip(had) {
        assert_eq!(key(&slot.session().unwrap()), had);
    }
    assert!(new.session().is_none(), "it had none");
    assert!(after.handouts.holds_restored());
}

/// Shows that agents spread their fetches, both when a broker comes back and when many agents start together.
#[test]
fn ag_04_a_thousand_agents_do_not_fetch_in_one_second() {
    // The curve is the same at each run: a linear congruential generator, of which the upper bits are used.
    let mut state = 1_u64;
    let mut random = std::iter::repeat_with(|| {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        u16::try_from(state >> 48).unwrap()
    });
    let start = Timestamp::from_seconds(0);
    let started: Vec<u64> = (0..1_000)
        .map(|_| {
            refresh::first_at(start, random.next().unwrap())
                .since(start)
                .as_secs()
        })
        .collect();
    // The broker comes back after an hour; each agent has tried all the time.
    let back = Timestamp::from_seconds(3_600);
    let mut recovered = Vec::new();
    for _ in 0..1_000 {
        let mut at = start;
        let mut failures = 0;
        while at < back {
            failures += 1;
            at = refresh::retry_at(at, failures, true, random.next().unwrap());
        }
        recovered.push(at.since(back).as_secs());
    }
    // The streams that tell agents of revocations end together when the broker restarts.
    let reopened: Vec<u64> = (0..1_000)
        .map(|_| {
            refresh::reopen_at(start, random.next().unwrap())
                .since(start)
                .as_secs()
        })
        .collect();
    // And an hour after a fetch, those who fetched in one second renew.
    let renewed: Vec<u64> = (0..1_000)
        .map(|_| {
            let end = start.plus(HOUR);
            refresh::renew_at(start, end, random.next().unwrap())
                .since(start)
                .as_secs()
        })
        .collect();
    for (name, times, most) in [
        ("start together", started, 80),
        ("the broker is back", recovered, 160),
        ("streams are opened again", reopened, 160),
        ("renewal", renewed, 15),
    ] {
        let curve = per_second(&times);
        let peak = curve.iter().map(|(_, count)| *count).max().unwrap();
        println!("{name}: calls by second, peak {peak}: {curve:?}");
        assert!(peak <= most, "{name}: {peak} in one second");
        assert_eq!(times.len(), 1_000);
    }
}

/// Counts the fetches in each second.
fn per_second(times: &[u64]) -> VecDeque<(u64, usize)> {
    let mut sorted = times.to_vec();
    sorted.sort_unstable();
    let groups = sorted.chunk_by(|a, b| a == b);
    groups.map(|group| (group[0], group.len())).collect()
}
