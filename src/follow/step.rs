//! One step along the feed: applies the new changes in the store, or confirms that there are none.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::applied::{Applied, apply};
use super::catch_up::catch_up;
use super::error::FollowError;
use super::revoked::{revoke, revoke_one};
use super::{AbortOnDrop, FollowContext};
use crate::store::{Step, StoreError};

/// The maximum number of changes that a step applies itself. A separate task applies more, so that a revocation among
/// later changes does not wait for them.
const FEW: i64 = 64;
/// The minimum time between the end of a task for many changes and the start of the next one, whether
/// the first one failed or succeeded.
const PAUSE: Duration = Duration::from_secs(1);
/// The maximum number of changes with revocations that are read at once.
const MAX_MARKED: usize = 1_000;

/// How far this node has followed the feed, and the work that is under way.
pub(super) struct Follower {
    context: Arc<FollowContext>,
    /// The number of the change up to which all revocations are in force here.
    marked: i64,
    /// The task that applies many changes or loads the whole store, and the monotonic time at which it
    /// started.
    work: Option<(AbortOnDrop<Result<Applied, FollowError>>, Duration)>,
    /// The earliest time at which the next task for many changes may start.
    pause_until: Instant,
}

impl Follower {
    pub(super) fn new(context: Arc<FollowContext>) -> Self {
        Self {
            marked: context.broker.feed.sequence(),
            work: None,
            pause_until: Instant::now(),
            context,
        }
    }

    /// Asks the store for the head of the feed, and applies the changes since the last step.
    ///
    /// # Errors
    /// [`FollowError::WentBack`] if the store lacks changes that are in force here or is another store;
    /// [`FollowError::Change`] if a change cannot be applied; [`FollowError::Store`] if an operation of the store fails
    /// or the store contains something that no broker wrote; [`FollowError::Load`] if the whole directory must be
    /// loaded again and cannot be; [`FollowError::Panicked`] if the task that applies the changes panicked.
    pub(super) async fn step(&mut self) -> Result<(), FollowError> {
        let broker = &self.context.broker;
        let asked_at = broker.clock.monotonic();
        let head = broker.store.feed_head().await?;
        if let Some(found) = broker.store.suspicion() {
            return Err(found.into());
        }
        let (here, chain) = broker.feed.place();
        if head.store_id != broker.store.id() || head.sequence < here {
            // This node does not give up what it knows for a store that knows less.
            return Err(FollowError::WentBack(format!(
                "the store is at change {}, although this broker has applied change {here}: the store was \
                 restored from a backup, or this broker is connected to another store. Restart this broker; the \
                 error at its start says what to do",
                head.sequence
            )));
        }
        if head.sequence == here {
            if head.chain != chain {
                return Err(StoreError::Tampered(format!(
                    "change {here} in the store differs from the change with this number that this broker has \
                     applied"
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
                let details = revoke(broker, &changes)?;
                apply(broker, changes, details)?.put_in_force(broker, asked_at);
                return Ok(());
            }
            if Instant::now() >= self.pause_until {
                let work = self
                    .context
                    .ordinary
                    .spawn(catch_up(self.context.clone(), here, chain));
                self.work = Some((AbortOnDrop(work), asked_at));
            }
            return self.mark_ahead(head.sequence).await;
        };
        if work.0.is_finished() {
            let (applied, begun_at) = ((&mut work.0).await, *begun_at);
            self.work = None;
            self.pause_until = Instant::now() + PAUSE;
            let applied = applied.map_err(|_| FollowError::Panicked(here))??;
            applied.put_in_force(broker, begun_at);
        }
        self.mark_ahead(head.sequence).await
    }

    /// Puts all revocations up to the change `head` in force, even while changes before them have not
    /// been applied.
    async fn mark_ahead(&mut self, head: i64) -> Result<(), FollowError> {
        while self.marked < head {
            let found = self
                .context
                .broker
                .store
                .revoking_after(self.marked, MAX_MARKED)
                .await?;
            for (sequence, detail) in &found {
                revoke_one(&self.context.broker, *sequence, detail)?;
            }
            self.marked = found
                .get(MAX_MARKED - 1)
                .map_or(head, |(sequence, _)| *sequence);
        }
        Ok(())
    }
}
