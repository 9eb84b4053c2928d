//! Deactivates access keys that are too old, or that nobody has used for too long, after announcing this in the log
//! (`[credentials]` in the configuration).

use std::collections::HashSet;
use std::time::Duration;

use crate::base::clock::Timestamp;
use crate::broker::Broker;
use crate::commands::{self, Actor, Command, CommandContext, CommandError, Edit};
use crate::directory::Directory;
use crate::directory::resource::{Name, Resource, ResourceKind};
use crate::key_ages::{End, KeyAges, Reason};
use crate::store::{Store, StoreError};

/// How often the ages of all access keys are checked.
const LOOK_EVERY: Duration = Duration::from_secs(3_600);
/// The maximum number of keys that one check deactivates; the next check continues.
const MOST_AT_ONCE: usize = 1_000;
/// How long a key stays active after it has been unused for the configured time. Meanwhile every broker writes the uses
/// that it knows to the store (`sweep.rs`), so that no use is overlooked.
const RECORDED_AFTER: Duration = Duration::from_secs(120);

/// An active access key that has reached its end, or will reach it soon.
pub struct Ending {
    pub access_key_id: String,
    pub user_arn: String,
    pub end: End,
}

impl Ending {
    fn is_due(&self, now: Timestamp) -> bool {
        match self.end.reason {
            Reason::Age => self.end.at <= now,
            Reason::Unused => self.end.at.plus(RECORDED_AFTER) <= now,
        }
    }
}

/// The active access keys that end by `until`, ordered by their end.
///
/// # Errors
/// [`StoreError`] if an operation of the store fails.
pub async fn endings(
    store: &Store,
    directory: &Directory,
    ages: KeyAges,
    until: Timestamp,
) -> Result<Vec<Ending>, StoreError> {
    if !ages.is_on() {
        return Ok(Vec::new());
    }
    let uses = store.all_key_uses().await?;
    let active = directory.access_keys().filter(|key| key.active);
    let ending = active.filter_map(|key| {
        let id = key.id.as_str();
        let created = Timestamp::from_seconds(key.created_at);
        let end = ages.end(created, uses.get(id).copied())?;
        (end.at <= until).then(|| Ending {
            access_key_id: id.to_owned(),
            user_arn: key.user_arn.to_string(),
            end,
        })
    });
    let mut all: Vec<Ending> = ending.collect();
    all.sort_by(|a, b| (a.end.at, &a.access_key_id).cmp(&(b.end.at, &b.access_key_id)));
    Ok(all)
}

/// The time of the last check, and the keys whose end was already announced.
#[derive(Default)]
pub(super) struct KeyWatch {
    looked_at: Option<Duration>,
    announced: HashSet<String>,
}

impl KeyWatch {
    /// Checks the ages of all keys if the last check was more than [`LOOK_EVERY`] ago. Callers must do this only while
    /// the clock is steady: by a clock that is ahead, every key looks too old.
    pub(super) async fn look_if_due(&mut self, broker: &Broker, now: Duration) {
        let is_early = |at: Duration| now.saturating_sub(at) < LOOK_EVERY;
        if !broker.directory_is_in_the_store || self.looked_at.is_some_and(is_early) {
            return;
        }
        self.looked_at = Some(now);
        let time = broker.clock.now();
        let until = time.plus(broker.key_ages.notice);
        let directory = broker.directory.load_full();
        let found = endings(&broker.store, &directory, broker.key_ages, until).await;
        let found = match found {
            Ok(found) => found,
            Err(error) => {
                tracing::warn!(%error, "the ages of access keys could not be checked; the broker tries again");
                return;
            }
        };
        let (due, later): (Vec<Ending>, Vec<Ending>) =
            found.into_iter().partition(|ending| ending.is_due(time));
        broker
            .metrics
            .access_keys_ending
            .set(i64::try_from(later.len()).unwrap_or(i64::MAX));
        for ending in &later {
            if self.announced.insert(ending.access_key_id.clone()) {
                tracing::warn!(
                    access_key_id = ending.access_key_id,
                    user = ending.user_arn,
                    at = %ending.end.at,
                    setting = ending.end.reason.setting(),
                    "an access key will be switched off at the time `at`, as `setting` says, unless it is replaced before or, if \
                     the setting is about unused keys, used before"
                );
            }
        }
        let later: HashSet<&String> = later.iter().map(|ending| &ending.access_key_id).collect();
        self.announced.retain(|id| later.contains(id));
        for ending in due.into_iter().take(MOST_AT_ONCE) {
            match switch_off(broker, &ending, time).await {
                Ok(true) => tracing::warn!(
                    access_key_id = ending.access_key_id,
                    user = ending.user_arn,
                    setting = ending.end.reason.setting(),
                    "an access key was switched off"
                ),
                // Another broker or an administrator was faster.
                Ok(false) => {}
                Err(error) => tracing::warn!(
                    %error,
                    access_key_id = ending.access_key_id,
                    "an access key could not be switched off; the broker tries again"
                ),
            }
        }
    }
}

/// Deactivates a key. Returns `false` if it was no longer active, was changed at the same time, or the broker has no
/// master key.
async fn switch_off(
    broker: &Broker,
    ending: &Ending,
    now: Timestamp,
) -> Result<bool, CommandError> {
    let Some(master_key) = broker.master_key.load_full() else {
        return Ok(false);
    };
    let id = ending.access_key_id.as_str();
    let kind = ResourceKind::AccessKey;
    let Some((_, row)) = broker.store.get_all(kind, vec![id.to_owned()]).await?.pop() else {
        return Ok(false);
    };
    let key = Resource::parse(kind, &row.body).map_err(|e| StoreError::Row(e.to_string()))?;
    if !key.is_active() {
        return Ok(false);
    }
    let context = CommandContext {
        store: &broker.store,
        master_key: &master_key,
        entropy: &*broker.entropy,
        now,
        issuer: broker.issuer.as_deref(),
    };
    let command = Command::Edit {
        name: Name::new(kind, id),
        edit: Edit::SetActive(false),
        expected: Some(row.version),
    };
    let writer = broker.store.write().await?;
    let actor = Actor::broker(ending.end.reason.setting());
    // The setting holds for the last administrator's key too, who was warned.
    let done = commands::execute_in(
        writer,
        context,
        &actor,
        "UpdateAccessKey",
        vec![command],
        None,
    )
    .await;
    match done {
        Ok(_) => {
            broker.feed.nudge();
            Ok(true)
        }
        Err(CommandError::ConcurrentModification { .. } | CommandError::NoSuchEntity(_)) => {
            Ok(false)
        }
        Err(error) => Err(error),
    }
}
