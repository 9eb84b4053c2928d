//! One step along the feed: what is new in the store is taken, or it is made sure that nothing is.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::applied::{Applied, apply};
use super::catch_up::catch_up;
use super::error::FollowError;
use super::revoked::{revoke, revoke_one};
use super::{AbortOnDrop, FollowContext};
use crate::store::{Step, StoreError};

/// So many changes are taken where they are found; more are taken beside, so that what ends sessions
/// after them does not wait.
const FEW: i64 = 64;
/// How long many changes that could not be taken, or that were followed by as many, wait.
const PAUSE: Duration = Duration::from_secs(1);
/// So many changes that end sessions are read at once.
const MAX_MARKED: usize = 1_000;

/// This node on its way along the feed.
pub(super) struct Follower {
    context: Arc<FollowContext>,
    /// Whatever ended sessions up to this change is in force here.
    marked: i64,
    /// The taking of many changes, or of everything, which goes on beside; and when it was begun.
    work: Option<(AbortOnDrop<Result<Applied, FollowError>>, Duration)>,
    /// What failed is not begun again at once.
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

    /// Asks for the feed's head, and takes what came since.
    pub(super) async fn step(&mut self) -> Result<(), FollowError> {
        let broker = &self.context.broker;
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
            let applied = applied
                .map_err(|_| FollowError::Change(here, "taking the changes failed".to_owned()))??;
            applied.put_in_force(broker, begun_at);
        }
        self.mark_ahead(head.sequence).await
    }

    /// Puts in force what ended sessions up to a change, whatever else there is to do before it.
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
