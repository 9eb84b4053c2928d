//! The change feed, followed: what another node or a command changed binds here within a second.
//! Revocations come first, and do not depend on anything else.

use std::sync::Arc;
use std::time::Duration;

use serde_json::value::{RawValue, to_raw_value};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::Shared;
use super::parts::reported_keys;
use super::shared::bind_revoked_keys;
use crate::audit::{self, UserIdentity};
use crate::base::clock::Timestamp;
use crate::base::entropy;
use crate::broker::Broker;
use crate::commands::{Actor, Detail};
use crate::directory::Directory;
use crate::directory::resource::{Kind, Name, Resource};
use crate::master_key::MasterKey;
use crate::revocations::{Key, Mark, Selector};
use crate::store::{Change, Head, Node, Step, Store, StoreError, Watermark};

/// How often the head is asked for.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// How often a node says that it is here when nothing changes.
const REPORT_EVERY: Duration = Duration::from_secs(2);
/// How often what has run out is swept, and key use noted.
const SWEEP_EVERY: Duration = Duration::from_secs(60);
/// How often all rows of the store are checked at the most.
const VERIFY_EVERY: Duration = Duration::from_secs(10);
/// And for how many times as long as a check takes there is none: it may cost half a percent of a core.
const VERIFY_SHARE: u32 = 200;
/// After so long without a check that came to an end, the log says so; and again after as long.
const UNVERIFIED_AFTER: Duration = Duration::from_secs(900);
/// History is deleted only by a clock that has gone on with the time that passes for so long.
const STEADY_FOR: Duration = Duration::from_secs(3_600);
/// By so much a clock may run away from the time that passes.
const UNSTEADY: Duration = Duration::from_secs(60);
/// How often it is looked whether that is due.
const TEND_EVERY: Duration = Duration::from_secs(1);
/// So many changes are taken where they are found; more are taken beside, so that what ends sessions
/// after them does not wait.
const FEW: i64 = 64;
/// How long many changes that could not be taken, or that were followed by as many, wait.
const PAUSE: Duration = Duration::from_secs(1);
/// So many changes that end sessions are read at once.
const MAX_MARKED: usize = 1_000;
/// So many changes at once are one line of the audit; the feed has each of them.
const MAX_AUDITED: usize = 256;

/// Why the store's changes were not taken. The node keeps what it has, and says so.
#[derive(Debug, thiserror::Error)]
pub(super) enum FollowError {
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A row that cannot be loaded here.
    #[error("change {0} cannot be taken: {1}")]
    Change(i64, String),
    /// The store is not what it was.
    #[error("{0}")]
    WentBack(String),
}

impl FollowError {
    /// Whether the database holds what no broker wrote.
    fn is_tampering(&self) -> bool {
        matches!(self, Self::Store(error) if error.is_tampering())
    }
}

/// The directory as the store has it, compiled; and the head that it belongs to.
///
/// # Errors
/// The first row that cannot be loaded.
pub(super) async fn load(
    store: &Store,
    master_key: &Arc<MasterKey>,
) -> Result<(Directory, Head), FollowError> {
    // Rows are read and compiled side by side: of a million, each takes as long as the other.
    let (sender, receiver) = std::sync::mpsc::sync_channel::<Vec<Row>>(16);
    let master_key = master_key.clone();
    let compiling = tokio::task::spawn_blocking(move || compile(&receiver, &master_key));
    let mut batch = Vec::with_capacity(BATCH);
    let scanned = store
        .scan::<FollowError>(|kind, id, version, body| {
            batch.push(Row {
                kind,
                id: id.to_owned(),
                version,
                body: body.to_owned(),
            });
            if batch.len() < BATCH {
                return Ok(());
            }
            let full = std::mem::replace(&mut batch, Vec::with_capacity(BATCH));
            sender
                .send(full)
                .map_err(|_| FollowError::Change(version, "is not the first that fails".to_owned()))
        })
        .await;
    // If nobody takes it, compiling has failed, and says why.
    let _ = sender.send(batch);
    drop(sender);
    let directory = compiling
        .await
        .map_err(|_| FollowError::Change(0, "compiling failed".to_owned()))??;
    Ok((directory, scanned?))
}

/// So many rows go from reading to compiling at once.
const BATCH: usize = 512;

struct Row {
    kind: Kind,
    id: String,
    version: i64,
    body: String,
}

fn compile(
    rows: &std::sync::mpsc::Receiver<Vec<Row>>,
    master_key: &MasterKey,
) -> Result<Directory, FollowError> {
    let mut directory = Directory::empty().map_err(|e| FollowError::Change(0, e.to_string()))?;
    for row in rows.iter().flatten() {
        let fault = |why: String| {
            FollowError::Change(row.version, format!("{} {}: {why}", row.kind, row.id))
        };
        let resource = Resource::parse(row.kind, &row.body).map_err(|e| fault(e.to_string()))?;
        directory
            .insert_stored(&resource, Some(master_key))
            .map_err(|e| fault(e.to_string()))?;
    }
    Ok(directory)
}

/// Follows until the daemon is gone.
pub(super) async fn follow(shared: Arc<Shared>) {
    let mut look = tokio::time::interval(LOOK_EVERY);
    look.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let broker = &shared.broker;
    let (reached, latest) = watch::channel(broker.feed.place());
    let _saving = AbortOnDrop(
        shared
            .ordinary
            .spawn(save_watermarks(shared.clone(), latest)),
    );
    let mut follower = Follower {
        shared: shared.clone(),
        marked: broker.feed.sequence(),
        work: None,
        pause_until: Instant::now(),
    };
    let mut reported: Option<Duration> = None;
    loop {
        tokio::select! {
            _ = look.tick() => {}
            () = broker.feed.nudged() => {}
        }
        let before = broker.feed.sequence();
        let failed = broker.feed.fault().is_some();
        match follower.step().await {
            Ok(()) => {
                broker.metrics.feed_up.set(1);
                if failed && broker.feed.fault().is_none() {
                    tracing::info!(
                        sequence = broker.feed.sequence(),
                        "the change feed is confirmed again"
                    );
                }
            }
            Err(error) => {
                broker.metrics.feed_up.set(0);
                if error.is_tampering() {
                    if broker.feed.distrust(error.to_string()) {
                        tracing::error!(%error, "the store is not as brokers left it; nobody is accepted");
                    }
                } else if broker.feed.fail(error.to_string()) {
                    tracing::warn!(%error, "the change feed is not confirmed");
                }
            }
        }
        let now = broker.clock.monotonic();
        let is_due = reported.is_none_or(|at| now.saturating_sub(at) >= REPORT_EVERY);
        let has_moved = broker.feed.sequence() != before;
        if has_moved {
            show_place(broker);
        }
        if broker.store.is_shared() && (is_due || has_moved) {
            let master_keys = broker
                .master_key
                .load()
                .as_deref()
                .map(reported_keys)
                .unwrap_or_default();
            let node = Node {
                confirmed: broker.feed.sequence(),
                master_keys,
                directory: shared.serving.digest(),
                ..shared.node.clone()
            };
            if let Err(error) = broker.store.report(&node).await {
                tracing::debug!(%error, "this node could not say that it is here");
            }
            reported = Some(now);
        }
        if has_moved {
            reached.send_replace(broker.feed.place());
        }
    }
}

/// How far the feed was followed, for the metrics.
pub(super) fn show_place(broker: &Broker) {
    let (sequence, chain) = broker.feed.place();
    broker.metrics.feed_sequence.set(sequence);
    let digest = chain
        .get(..12)
        .and_then(|digits| i64::from_str_radix(digits, 16).ok());
    broker.metrics.feed_digest.set(digest.unwrap_or_default());
}

/// Keeps the watermark on the disk. Nobody waits for it: a revocation does not bind later because the
/// disk is slow.
async fn save_watermarks(shared: Arc<Shared>, mut latest: watch::Receiver<(i64, String)>) {
    while latest.changed().await.is_ok() {
        let place = latest.borrow_and_update().clone();
        let shared = shared.clone();
        // It waits for the disk; what goes wrong is logged there.
        let _ = tokio::task::spawn_blocking(move || save_watermark(&shared, place)).await;
    }
}

/// Writes down how far the store had come.
pub(super) fn save_watermark(shared: &Shared, (sequence, chain): (i64, String)) {
    let Some(path) = &shared.watermark else {
        return;
    };
    let watermark = Watermark {
        store_id: shared.broker.store.id().to_owned(),
        sequence,
        chain: Some(chain),
        key: Some(shared.broker.store.sealing_key()).filter(|key| !key.is_empty()),
    };
    if let Err(error) = watermark.advance(path) {
        tracing::error!(%error, "the watermark is not written; a store that goes back may not be told");
    }
}

struct AbortOnDrop<T>(JoinHandle<T>);

impl<T> Drop for AbortOnDrop<T> {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Sweeps what has run out, notes when keys were used and checks the whole store, until the daemon is
/// gone. `loaded_in` is how long the first check took.
pub(super) async fn tend(shared: Arc<Shared>, loaded_in: Duration) {
    let broker = &shared.broker;
    let mut tick = tokio::time::interval(TEND_EVERY);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut swept = Duration::ZERO;
    // Since when the clock has gone on with the time that passes.
    let mut steady = (broker.clock.monotonic(), broker.clock.now());
    let mut verified = broker.clock.monotonic();
    // When a check last came to an end, and when the log last said that none does.
    let (mut answered, mut said) = (verified, verified);
    let mut pause = VERIFY_EVERY.max(loaded_in * VERIFY_SHARE);
    loop {
        tick.tick().await;
        let now = broker.clock.monotonic();
        if now.saturating_sub(verified) >= pause {
            let started = Instant::now();
            match broker.store.verify(broker.clock.now()).await {
                Ok(()) => answered = broker.clock.monotonic(),
                // Whoever follows the feed says so, and accepts nobody.
                Err(error) if error.is_tampering() => {
                    answered = broker.clock.monotonic();
                    broker.feed.nudge();
                }
                Err(error) => {
                    let now = broker.clock.monotonic();
                    let (silent, unsaid) = (now.saturating_sub(answered), now.saturating_sub(said));
                    if silent.min(unsaid) >= UNVERIFIED_AFTER {
                        said = now;
                        tracing::warn!(
                            %error, seconds = silent.as_secs(),
                            "no check of all rows of the store has come to an end for so long: whether they are as brokers \
                             wrote them is not known"
                        );
                    } else {
                        tracing::debug!(%error, "the store was not checked; the next check tries again");
                    }
                }
            }
            // While something is wrong it is looked often whether it was put right.
            let share = if broker.store.suspicion().is_some() {
                10
            } else {
                VERIFY_SHARE
            };
            pause = VERIFY_EVERY.max(started.elapsed() * share);
            verified = broker.clock.monotonic();
        }
        let unverified = broker.clock.monotonic().saturating_sub(answered);
        broker
            .metrics
            .store_unverified_seconds
            .set(i64::try_from(unverified.as_secs()).unwrap_or(i64::MAX));
        if now.saturating_sub(swept) < SWEEP_EVERY {
            continue;
        }
        swept = now;
        note_key_use(broker).await;
        // What has run out by a time is forgotten only once that time is on the disk: a node that does not
        // remember the time must not have forgotten the revocations either.
        let keeper = shared.clone();
        let saved = tokio::task::spawn_blocking(move || keeper.timekeeper.save()).await;
        if !matches!(saved, Ok(Ok(()))) {
            tracing::debug!("the highest time that was seen is not written; nothing is swept");
            continue;
        }
        // A clock that is ahead for a minute must not delete the history of changes.
        let time = broker.clock.now();
        let passed = now.saturating_sub(steady.0);
        if time.since(steady.1.plus(passed)) > UNSTEADY {
            steady = (now, time);
        }
        let history = if now.saturating_sub(steady.0) >= STEADY_FOR {
            time
        } else {
            Timestamp::from_millis(i64::MIN / 2)
        };
        broker.revocations.sweep(broker.clock.now());
        if let Some(single_use) = &broker.single_use {
            single_use.sweep(now);
        }
        if let Err(error) = broker.store.sweep(broker.clock.now(), history).await {
            tracing::debug!(%error, "expired rows were not deleted from the store; the next sweep tries again");
        }
    }
}

/// Writes down when long-term keys were last used.
pub(super) async fn note_key_use(broker: &Broker) {
    let used = broker.key_use.take();
    if let Err(error) = broker.store.note_key_use(&used, &broker.region).await {
        tracing::debug!(%error, "the last use of access keys is lost");
    }
}

/// This node on its way along the feed.
struct Follower {
    shared: Arc<Shared>,
    /// Whatever ended sessions up to this change is in force here.
    marked: i64,
    /// The taking of many changes, or of everything, which goes on beside; and when it was begun.
    work: Option<(AbortOnDrop<Result<Taken, FollowError>>, Duration)>,
    /// What failed is not begun again at once.
    pause_until: Instant,
}

/// What was made of changes, to be put in force.
struct Taken {
    /// None: it stays as it is.
    directory: Option<Directory>,
    changes: Vec<(Change, Detail)>,
    /// The last change, and the digest of the feed up to it.
    reached: (i64, String),
}

impl Follower {
    async fn step(&mut self) -> Result<(), FollowError> {
        let broker = &self.shared.broker;
        let asked_at = broker.clock.monotonic();
        let head = broker.store.feed_head().await?;
        if let Some(found) = broker.store.suspicion() {
            return Err(found.into());
        }
        let (here, chain) = broker.feed.place();
        if head.store_id != broker.store.id() || head.sequence < here {
            // Nothing that is known here is given up for a store that knows less.
            return Err(FollowError::WentBack(format!(
                "the store went back from change {here} to {}, or is another one; restart to say what is to be done",
                head.sequence
            )));
        }
        if head.sequence == here {
            if head.chain != chain {
                return Err(StoreError::Tampered(format!(
                    "change {here} is another one in the store than the one that is in force here"
                ))
                .into());
            }
            broker.feed.confirm(here, &chain, asked_at);
            self.marked = here;
            return Ok(());
        }
        let Some((work, begun_at)) = &mut self.work else {
            if head.sequence - here <= FEW
                && let Step::Changes(changes) = broker.store.changes_after(here, &chain).await?
            {
                let details = mark(broker, &changes)?;
                let taken = take(&self.shared, changes, details)?;
                put_in_force(broker, taken, asked_at);
                return Ok(());
            }
            if Instant::now() >= self.pause_until {
                let work = self
                    .shared
                    .ordinary
                    .spawn(catch_up(self.shared.clone(), here, chain));
                self.work = Some((AbortOnDrop(work), asked_at));
            }
            return self.mark_ahead(head.sequence).await;
        };
        if work.0.is_finished() {
            let (taken, begun_at) = ((&mut work.0).await, *begun_at);
            self.work = None;
            self.pause_until = Instant::now() + PAUSE;
            let taken = taken
                .map_err(|_| FollowError::Change(here, "taking the changes failed".to_owned()))??;
            put_in_force(broker, taken, begun_at);
        }
        self.mark_ahead(head.sequence).await
    }

    /// Puts in force what ended sessions up to a change, whatever else there is to do before it.
    async fn mark_ahead(&mut self, head: i64) -> Result<(), FollowError> {
        while self.marked < head {
            let found = self
                .shared
                .broker
                .store
                .revoking_after(self.marked, MAX_MARKED)
                .await?;
            for (sequence, detail) in &found {
                mark_one(&self.shared.broker, *sequence, detail)?;
            }
            self.marked = found
                .get(MAX_MARKED - 1)
                .map_or(head, |(sequence, _)| *sequence);
        }
        Ok(())
    }
}

/// What ends with changes, at once.
fn mark(broker: &Broker, changes: &[Change]) -> Result<Vec<Detail>, FollowError> {
    changes
        .iter()
        .map(|change| mark_one(broker, change.sequence, &change.detail))
        .collect()
}

fn mark_one(broker: &Broker, sequence: i64, detail: &str) -> Result<Detail, FollowError> {
    let fault = |why: String| FollowError::Change(sequence, why);
    let detail: Detail = serde_json::from_str(detail).map_err(|e| fault(e.to_string()))?;
    for revoked in &detail.revoked {
        let selector = Selector::parse(&revoked.selector)
            .ok_or_else(|| fault("an unknown selector".into()))?;
        if selector == Selector::SigningKey {
            broker.revocations.revoke_signing_key(&revoked.value);
            bind_revoked_keys(broker);
            continue;
        }
        let mark = Mark {
            before_sequence: revoked.before_sequence,
            before_seconds: revoked.before_seconds,
            expires_at: revoked.expires_at,
        };
        broker
            .revocations
            .mark(&Key::new(selector, &revoked.account, &revoked.value), mark);
    }
    Ok(detail)
}

/// Takes many changes, or everything: it takes its time, and holds up nothing.
async fn catch_up(shared: Arc<Shared>, here: i64, chain: String) -> Result<Taken, FollowError> {
    let Step::Changes(changes) = shared.broker.store.many_changes_after(here, &chain).await? else {
        return reload(&shared, here, &chain).await;
    };
    let taking = tokio::task::spawn_blocking(move || {
        let details = mark(&shared.broker, &changes)?;
        take(&shared, changes, details)
    });
    taking
        .await
        .map_err(|_| FollowError::Change(here, "taking the changes failed".to_owned()))?
}

/// Takes changes one by one into a copy of the directory.
fn take(shared: &Shared, changes: Vec<Change>, details: Vec<Detail>) -> Result<Taken, FollowError> {
    let broker = &shared.broker;
    let mut taken = None;
    if broker.directory_is_in_the_store {
        let mut directory = Directory::clone(&broker.directory.load());
        let mut touched = Vec::new();
        for change in &changes {
            let fault = |why: String| FollowError::Change(change.sequence, why);
            let Some(kind) = Kind::parse(&change.kind) else {
                continue;
            };
            match &change.body {
                Some(body) => {
                    let resource = Resource::parse(kind, body).map_err(|e| fault(e.to_string()))?;
                    let master_key = broker.master_key.load();
                    directory
                        .insert_stored(&resource, master_key.as_deref())
                        .map_err(|e| fault(e.to_string()))?;
                    touched.push((change.sequence, resource));
                }
                None => directory.remove(&Name::new(kind, change.id.as_str())),
            }
        }
        for (sequence, resource) in &touched {
            let whole = directory.refers_to_what_is_there(resource);
            whole.map_err(|e| FollowError::Change(*sequence, e.to_string()))?;
        }
        taken = Some(directory);
    }
    let reached = changes
        .last()
        .map_or_else(|| broker.feed.place(), |c| (c.sequence, c.chain.clone()));
    Ok(Taken {
        directory: taken,
        changes: changes.into_iter().zip(details).collect(),
        reached,
    })
}

/// What the directory is; then the audit. What was revoked is in force already. `asked_at` is when it
/// was known that there is no more.
fn put_in_force(broker: &Broker, taken: Taken, asked_at: Duration) {
    if let Some(directory) = taken.directory {
        broker.directory.store(Arc::new(directory));
    }
    let (reached, chain) = &taken.reached;
    broker.store.reached(*reached, chain);
    broker.feed.confirm(*reached, chain, asked_at);
    let mut changes = taken.changes.into_iter();
    for (change, detail) in changes.by_ref().take(MAX_AUDITED) {
        write_down(broker, &change, detail);
    }
    if let Some((first, _)) = changes.next() {
        tracing::info!(
            first = first.sequence,
            last = reached,
            "changes are in the feed and not in the audit log"
        );
    }
}

/// Loads everything anew, of a store that went on from the last change that is in force here.
async fn reload(shared: &Arc<Shared>, here: i64, chain: &str) -> Result<Taken, FollowError> {
    let broker = &shared.broker;
    // First the head, so that what changes meanwhile is taken again.
    let mut seen = Vec::new();
    let mut more = 0_usize;
    let mut marked = Ok(());
    let head = broker
        .store
        .goes_on_from(here, chain, |change| {
            // What ends sessions binds whatever else is shown: ending one too many lets nobody in.
            match mark_one(broker, change.sequence, &change.detail) {
                Ok(detail) if seen.len() < MAX_AUDITED => seen.push((change, detail)),
                Ok(_) => more += 1,
                Err(error) if marked.is_ok() => marked = Err(error),
                Err(_) => {}
            }
        })
        .await?;
    marked?;
    broker.store.reached(head.sequence, &head.chain);
    broker
        .store
        .load_revocations(&broker.revocations, broker.clock.now())
        .await?;
    bind_revoked_keys(broker);
    let mut directory = None;
    if broker.directory_is_in_the_store {
        let master_key = broker.master_key.load_full();
        let master_key = master_key
            .ok_or_else(|| FollowError::Change(0, "there is no master key".to_owned()))?;
        let shared = shared.clone();
        // Reading waits for compiling on its thread, which must not be one that calls are served on.
        let loading = tokio::task::spawn_blocking(move || {
            tokio::runtime::Handle::current().block_on(load(&shared.broker.store, &master_key))
        });
        let loaded = loading
            .await
            .map_err(|_| FollowError::Change(0, "loading failed".to_owned()))??;
        announce(broker, &loaded.0);
        directory = Some(loaded.0);
    }
    tracing::info!(
        sequence = head.sequence,
        after = here,
        in_the_feed_only = more,
        "the store was loaded anew"
    );
    Ok(Taken {
        directory,
        changes: seen,
        reached: (head.sequence, head.chain),
    })
}

/// So many warnings are logged one by one when a directory is loaded.
const MAX_WARNED: usize = 50;

/// What an operator should know of a directory that was just loaded: the warnings go to the log. Where
/// the directory is a file, its roles whose tags override a rule go to the audit log (a change of the
/// store is in it by itself).
pub(super) fn announce(broker: &Broker, directory: &Directory) {
    let mut warnings: Vec<String> = directory
        .own_provider(broker.issuer.as_deref())
        .into_iter()
        .collect();
    warnings.extend(directory.warnings());
    for warning in warnings.iter().take(MAX_WARNED) {
        tracing::warn!("{warning}");
    }
    if let Some(rest) = warnings
        .len()
        .checked_sub(MAX_WARNED)
        .filter(|rest| *rest > 0)
    {
        tracing::warn!("{rest} more warnings of this kind; `brevet check` prints all of them");
    }
    if broker.directory_is_in_the_store {
        return;
    }
    for role in directory.roles().filter(|role| !role.overridden.is_empty()) {
        let Some((request_id, event_id)) = ids(broker) else {
            return;
        };
        let mut record = audit::record("LoadDirectory", broker.clock.now(), request_id, event_id);
        record.event_type = "BrevetChange";
        record.event_source = "iam.amazonaws.com";
        record.read_only = false;
        record.aws_region.clone_from(&broker.region);
        record.request_parameters = raw(&serde_json::json!({"kind": "role", "id": role.arn}));
        record.additional_event_data = raw(&serde_json::json!({"overridden": role.overridden}));
        if broker.audit.note(&record).is_err() {
            tracing::error!(role = %role.arn, "a tag overrides a rule, and the audit log does not say so");
        }
    }
}

/// Two random UUIDs, for a record of the audit log.
fn ids(broker: &Broker) -> Option<(String, String)> {
    let uuid = || {
        let bytes = entropy::bytes::<16>(&*broker.entropy).ok()?;
        Some(
            uuid::Builder::from_random_bytes(bytes)
                .into_uuid()
                .to_string(),
        )
    };
    Some((uuid()?, uuid()?))
}

/// Writes down in this node's audit what ended with the changes after one that were made before this node
/// followed the feed.
pub(super) async fn write_down_what_ended(broker: &Broker, after: i64) -> Result<(), StoreError> {
    for change in broker.store.feed_after(after, MAX_AUDITED).await? {
        match serde_json::from_str::<Detail>(&change.detail) {
            Ok(detail) if detail.revoked.is_empty() => {}
            Ok(detail) => write_down(broker, &change, detail),
            Err(error) => return Err(StoreError::Row(error.to_string())),
        }
    }
    Ok(())
}

/// A change of the feed as this node's audit has it: who, what, before and after, and its number.
fn write_down(broker: &Broker, change: &Change, detail: Detail) {
    let Some((request_id, event_id)) = ids(broker) else {
        return;
    };
    let actor: Actor =
        serde_json::from_str(&change.actor).unwrap_or_else(|_| Actor::operator("unknown"));
    let request_id = actor.request_id.clone().unwrap_or(request_id);
    let mut record = audit::record(
        change.action.clone(),
        broker.clock.now(),
        request_id,
        event_id,
    );
    record.event_type = "BrevetChange";
    record.event_source = "iam.amazonaws.com";
    record.read_only = false;
    record.aws_region.clone_from(&broker.region);
    record.user_identity = UserIdentity {
        r#type: actor.r#type.into(),
        arn: actor.arn,
        access_key_id: actor.access_key_id,
        user_name: actor.user_name,
        ..UserIdentity::default()
    };
    record.request_parameters = raw(&serde_json::json!({"kind": change.kind, "id": change.id}));
    record.additional_event_data = raw(&serde_json::json!({
        "sequenceNumber": change.sequence, "before": detail.before, "after": detail.after, "beforeSha256": detail.before_sha256, "afterSha256": detail.after_sha256, "revoked": detail.revoked,
        "overridden": detail.overridden, "entries": detail.entries,
    }));
    if broker.audit.note(&record).is_err() {
        tracing::error!(
            sequence = change.sequence,
            "a change is in the feed and not in the audit log"
        );
    }
}

fn raw(value: &serde_json::Value) -> Option<Box<RawValue>> {
    to_raw_value(value).ok()
}
