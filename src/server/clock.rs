//! Watches the clock: saves the highest time that was seen, logs when the wall clock is behind this time or jumps, and
//! applies an operator's acceptance of the wall clock.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

use super::{Shared, StartError};
use crate::authn;
use crate::base::clock::{Clock, HighWaterClock, Timestamp};
use crate::clock_mark::{ClockMark, ClockMarkError, ClockMarkFile};
use crate::commands;
use crate::config::Config;
use crate::store::Place;

/// How often the clock is checked.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// The highest time is saved when it has risen by this much.
const SAVE_EVERY: Duration = Duration::from_secs(60);
/// A jump is logged if the wall clock and the monotonic clock have moved apart by more than this many milliseconds
/// between two checks.
const JUMP: i64 = 60_000;
/// If the wall clock is further behind than this, the log asks the operator to set it right instead of waiting.
const LONG: Duration = Duration::from_secs(3_600);
/// The command by which an operator declares that the wall clock is right.
pub(super) const ACCEPT: &str = "brevet clock accept";

/// The clock of a broker, and the file that keeps its highest time.
pub(super) struct Timekeeper {
    clock: Arc<HighWaterClock>,
    file: Option<ClockMarkFile>,
    /// How many acceptances of the wall clock this broker has applied.
    accepted: AtomicU64,
    /// The sequence number, in the change feed, of the last acceptance that this broker has applied.
    accepted_by: AtomicI64,
    /// Whether an acceptance in the file was refused and the refusal logged, so that it is logged only once.
    refused: AtomicBool,
}

impl Timekeeper {
    /// Makes a clock that continues from the highest time that this node has seen.
    ///
    /// # Errors
    /// [`StartError::ClockMark`] if the file exists but cannot be read or is not valid.
    pub(super) fn start(config: &Config, wall: Arc<dyn Clock>) -> Result<Self, StartError> {
        let file = config.watermark.as_deref().map(ClockMarkFile::beside);
        let mark = file
            .as_ref()
            .map(ClockMarkFile::load)
            .transpose()?
            .flatten();
        // A broker whose time is further ahead makes sessions that the others refuse.
        let allowed = match config.store {
            Place::Postgres { .. } => config.skew.min(Duration::from_secs(
                authn::ISSUED_AHEAD_SECONDS.unsigned_abs(),
            )),
            Place::Sqlite(_) | Place::Memory => config.skew,
        };
        let clock = Arc::new(HighWaterClock::new(
            wall,
            mark.map(ClockMark::time),
            allowed,
        ));
        Ok(Self {
            clock,
            file,
            accepted: AtomicU64::new(mark.map_or(0, |mark| mark.accepted)),
            accepted_by: AtomicI64::new(mark.map_or(0, |mark| mark.sequence)),
            refused: AtomicBool::new(false),
        })
    }

    pub(super) fn clock(&self) -> Arc<HighWaterClock> {
        self.clock.clone()
    }

    /// Saves the highest time that was seen. Returns when the file is on the disk.
    ///
    /// # Errors
    /// [`ClockMarkError`] if the file cannot be written.
    pub(super) fn save(&self) -> Result<(), ClockMarkError> {
        if let Some(file) = &self.file {
            file.raise(self.clock.now(), self.accepted.load(Ordering::Relaxed))?;
        }
        Ok(())
    }

    /// Saves the time like [`Timekeeper::save`], but logs a failure instead of returning it.
    pub(super) fn save_or_say(&self) {
        if let Err(error) = self.save() {
            tracing::error!(%error, "the latest time that this broker has seen cannot be saved; if the clock is \
                behind after a restart, expired sessions may be valid again");
        }
    }

    /// The acceptance in the clock file; `None` if there is none, if the file cannot be read, or if this broker has
    /// already applied the acceptance.
    fn news(&self) -> Option<ClockMark> {
        let mark = self.file.as_ref()?.load().ok().flatten()?;
        (mark.accepted > self.accepted.load(Ordering::Relaxed)).then_some(mark)
    }
}

/// The reason, for the log and `/readyz`, why a node whose wall clock is behind by `lag` is not ready, with the command
/// that helps.
pub(super) fn why(clock: &HighWaterClock, lag: Duration) -> String {
    let wall = clock.wall();
    let behind = format!(
        "the clock ({wall}) is {} s behind the latest time that this broker has seen ({})",
        lag.as_secs(),
        wall.plus(lag)
    );
    let minutes = clock.until_caught_up().as_secs().div_ceil(60);
    match lag > LONG {
        true => format!(
            "{behind}: correct the clock; if the clock is right, run `{ACCEPT}`, which ends every session"
        ),
        false => format!(
            "{behind}: until this is at most {} s, in about {minutes} minutes, the broker refuses calls that issue or \
             change something, except revocations; to continue at once, run `{ACCEPT}`, which ends every session",
            clock.allowed().as_secs()
        ),
    }
}

/// Watches the clock until the daemon ends.
pub(super) async fn watch(shared: Arc<Shared>) {
    let clock = shared.timekeeper.clock();
    let mut tick = tokio::time::interval(LOOK_EVERY);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut saved = clock.now();
    let mut look = Look::at(&clock);
    let mut reported = Reported::Right;
    loop {
        tick.tick().await;
        let last = std::mem::replace(&mut look, Look::at(&clock));
        look.tell_jump(&last);
        let lag = clock.lag();
        shared
            .broker
            .metrics
            .clock_behind_seconds
            .set(i64::try_from(lag.as_secs()).unwrap_or(i64::MAX));
        reported = reported.next(&clock, lag);
        let now = clock.now();
        let is_due = now.since(saved) >= SAVE_EVERY;
        if !is_due && lag < LOOK_EVERY {
            continue;
        }
        // Both calls wait for the disk.
        let keeper = shared.clone();
        let work = tokio::task::spawn_blocking(move || {
            let news = keeper.timekeeper.news();
            if news.is_none() && is_due {
                keeper.timekeeper.save_or_say();
            }
            news
        });
        let Ok(news) = work.await else { continue };
        if is_due {
            saved = now;
        }
        if let Some(mark) = news {
            take(&shared, mark).await;
        }
        saved = saved.min(clock.now());
    }
}

/// Applies an operator's acceptance of the wall clock. The file refers by number to a change in the feed that revokes
/// every session. The broker must have applied that change before it sets its time back.
async fn take(shared: &Shared, mark: ClockMark) {
    let (broker, keeper) = (&shared.broker, &shared.timekeeper);
    if broker.feed.sequence() < mark.sequence {
        return; // looked at again in a second
    }
    let is_new = mark.sequence > keeper.accepted_by.load(Ordering::Relaxed);
    let found = broker
        .store
        .feed_after(mark.sequence.saturating_sub(1), 1)
        .await;
    let change = match &found {
        Ok(changes) => changes
            .first()
            .filter(|change| change.sequence == mark.sequence),
        Err(_) => return, // looked at again in a second
    };
    if !is_new || change.is_none_or(|change| change.action != commands::ACCEPT_CLOCK) {
        if !keeper.refused.swap(true, Ordering::Relaxed) {
            tracing::error!(
                sequence = mark.sequence,
                "the clock file says that an operator has accepted the clock, but the change with this number in the \
                 feed is no such acceptance, or was applied before: the broker ignores the file. To accept the clock, \
                 run `{ACCEPT}`"
            );
        }
        return;
    }
    keeper.refused.store(false, Ordering::Relaxed);
    keeper.accepted_by.store(mark.sequence, Ordering::Relaxed);
    let before = keeper.clock.now();
    keeper.clock.accept(mark.time());
    keeper.accepted.store(mark.accepted, Ordering::Relaxed);
    // Failures and codes that were recorded under the later time have no meaning now.
    broker.store.forget_mfa();
    broker.budgets.forget_sessions();
    let now = keeper.clock.now();
    tracing::warn!(%before, %now, sequence = mark.sequence, "an operator has accepted the clock; every earlier session has ended");
}

/// The wall clock and the monotonic clock, read at the same moment.
struct Look {
    wall: Timestamp,
    passed: Duration,
}

impl Look {
    fn at(clock: &HighWaterClock) -> Self {
        Self {
            wall: clock.wall(),
            passed: clock.monotonic(),
        }
    }

    /// Logs a jump of the wall clock since `last`, if there was one.
    fn tell_jump(&self, last: &Self) {
        let passed =
            i64::try_from(self.passed.saturating_sub(last.passed).as_millis()).unwrap_or(i64::MAX);
        let jump = self
            .wall
            .millis()
            .saturating_sub(last.wall.millis())
            .saturating_sub(passed);
        let (before, now, seconds) = (last.wall, self.wall, jump / 1_000);
        if jump > JUMP {
            tracing::warn!(
                %before, %now, seconds,
                "the clock jumped forward: sessions that have expired by the new time have ended. If the new time is \
                 wrong, correct the clock, and then run `{ACCEPT}`, which ends every session; without that, the broker \
                 may refuse calls that issue or change something until the corrected clock has caught up"
            );
        } else if jump < -JUMP {
            tracing::warn!(%before, %now, seconds, "the clock jumped back; the broker's own time does not go back \
                with it, and while the clock is too far behind, the broker refuses calls that issue or change \
                something, except revocations: correct the clock if the new time is wrong");
        }
    }
}

/// The state of the clock that was last logged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reported {
    Right,
    Behind,
    FarBehind,
}

impl Reported {
    /// Determines the present state, logs it if it has changed, and returns it.
    fn next(self, clock: &HighWaterClock, lag: Duration) -> Self {
        let next = match clock.is_behind() {
            None => Self::Right,
            Some(_) if lag > LONG => Self::FarBehind,
            Some(_) => Self::Behind,
        };
        match (self, next) {
            (last, next) if last == next => {}
            (_, Self::Right) => {
                tracing::info!(time = %clock.now(), "the clock is no longer behind the latest time that this broker has seen")
            }
            _ => tracing::error!("not ready: {}", why(clock, lag)),
        }
        next
    }
}
