//! Looks after the clock: keeps the highest time that was seen on the disk, says when the wall clock is
//! behind it or jumps, and takes an operator's word that the wall clock is right.

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

/// How often the clock is looked at.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// By so much the highest time may have risen until it is written down again.
const SAVE_EVERY: Duration = Duration::from_secs(60);
/// By so much the wall clock may run away from the time that passes between two looks.
const JUMP: i64 = 60_000;
/// A wall clock that is further behind is not waited for: it would take more than half a day.
const LONG: Duration = Duration::from_secs(3_600);
/// What an operator does when the clock is right and the mark is not.
pub(super) const ACCEPT: &str = "brevet clock accept";

/// The clock of a broker, and where its mark is kept.
pub(super) struct Timekeeper {
    clock: Arc<HighWaterClock>,
    file: Option<ClockMarkFile>,
    /// How often an operator has accepted the clock, as far as it is in force here.
    accepted: AtomicU64,
    /// The change of the feed that the last of these is.
    accepted_by: AtomicI64,
    /// Whether the log has said that a mark is not believed.
    refused: AtomicBool,
}

impl Timekeeper {
    /// A clock that goes on from where this node was.
    ///
    /// # Errors
    /// When the mark is there and cannot be read.
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

    /// The clock that everything is judged by.
    pub(super) fn clock(&self) -> Arc<HighWaterClock> {
        self.clock.clone()
    }

    /// Writes down the highest time that was seen. It waits for the disk.
    ///
    /// # Errors
    /// The system's answer.
    pub(super) fn save(&self) -> Result<(), ClockMarkError> {
        if let Some(file) = &self.file {
            file.raise(self.clock.now(), self.accepted.load(Ordering::Relaxed))?;
        }
        Ok(())
    }

    /// As [`Timekeeper::save`]; a failure is logged.
    pub(super) fn save_or_say(&self) {
        if let Err(error) = self.save() {
            tracing::error!(%error, "the highest time that was seen is not written; what has expired may be valid after a restart");
        }
    }

    /// What an operator has accepted, if that is not in force here yet.
    fn news(&self) -> Option<ClockMark> {
        let mark = self.file.as_ref()?.load().ok().flatten()?;
        (mark.accepted > self.accepted.load(Ordering::Relaxed)).then_some(mark)
    }
}

/// Why a node whose clock is behind is not ready.
pub(super) fn why(clock: &HighWaterClock, lag: Duration) -> String {
    let wall = clock.wall();
    let behind = format!(
        "the clock ({wall}) is {} s behind the highest time that this node has seen ({})",
        lag.as_secs(),
        wall.plus(lag)
    );
    let minutes = clock.until_caught_up().as_secs().div_ceil(60);
    match lag > LONG {
        true => format!(
            "{behind}: set the clock right; if it is right, run `{ACCEPT}`, which ends every session"
        ),
        false => format!(
            "{behind}: nothing is issued until it has caught up, in about {minutes} minutes if it is right; `{ACCEPT}` \
             ends every session, and goes on at once"
        ),
    }
}

/// Looks after the clock until the daemon is gone.
pub(super) async fn watch(shared: Arc<Shared>) {
    let clock = shared.timekeeper.clock();
    let mut tick = tokio::time::interval(LOOK_EVERY);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut saved = clock.now();
    let mut look = Look::at(&clock);
    let mut told = Told::Right;
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
        told = told.next(&clock, lag);
        let now = clock.now();
        let is_due = now.since(saved) >= SAVE_EVERY;
        if !is_due && lag < LOOK_EVERY {
            continue;
        }
        // Both wait for the disk.
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

/// The operator has accepted the clock. What was issued before must have ended here before time goes
/// back: the file is only a pointer to the change of the feed that did so.
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
                "the clock's mark says that an operator has accepted the clock, and the change that it names does not: \
                 the mark is not believed"
            );
        }
        return;
    }
    keeper.refused.store(false, Ordering::Relaxed);
    keeper.accepted_by.store(mark.sequence, Ordering::Relaxed);
    let before = keeper.clock.now();
    keeper.clock.accept(mark.time());
    keeper.accepted.store(mark.accepted, Ordering::Relaxed);
    // What was noted under the time before means nothing now.
    broker.store.forget_mfa();
    broker.budgets.forget_sessions();
    let now = keeper.clock.now();
    tracing::warn!(%before, %now, sequence = mark.sequence, "an operator has accepted the clock; every session of before has ended");
}

/// What the wall clock and the time that passes said at one moment.
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

    /// Says when the wall clock ran away from the time that passed.
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
                 wrong, set the clock right and run `{ACCEPT}`, which ends every session; nothing is issued until then"
            );
        } else if jump < -JUMP {
            tracing::warn!(%before, %now, seconds, "the clock jumped back: time goes on from where it was");
        }
    }
}

/// What the log last said of the clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Told {
    Right,
    Behind,
    FarBehind,
}

impl Told {
    /// Logs what is news.
    fn next(self, clock: &HighWaterClock, lag: Duration) -> Self {
        let next = match clock.is_behind() {
            None => Self::Right,
            Some(_) if lag > LONG => Self::FarBehind,
            Some(_) => Self::Behind,
        };
        match (self, next) {
            (last, next) if last == next => {}
            (_, Self::Right) => tracing::info!(time = %clock.now(), "the clock is right again"),
            _ => tracing::error!("not ready: {}", why(clock, lag)),
        }
        next
    }
}
