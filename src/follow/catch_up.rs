//! Applies many changes at once, or loads the whole store again. This takes long, so it runs in a task of its own while
//! another task goes on following the feed.

use std::sync::Arc;

use super::applied::{Applied, apply};
use super::error::FollowError;
use super::revoked::{bind_revoked_keys, revoke, revoke_one};
use super::{FollowContext, MAX_AUDITED, announce, load};
use crate::broker::Broker;
use crate::store::Step;

/// Applies all changes after `here`, or loads the whole store again in the cases of [`Step::Reload`]. `chain` is the
/// digest of the feed up to `here`.
pub(super) async fn catch_up(
    context: Arc<FollowContext>,
    here: i64,
    chain: String,
) -> Result<Applied, FollowError> {
    let Step::Changes(changes) = context
        .broker
        .store
        .many_changes_after(here, &chain)
        .await?
    else {
        return reload(&context.broker, here, &chain).await;
    };
    let taking = tokio::task::spawn_blocking(move || {
        let details = revoke(&context.broker, &changes)?;
        apply(&context.broker, changes, details)
    });
    taking.await.map_err(|_| FollowError::Panicked(here))?
}

/// Loads all revocations again and, unless the directory is a file, the directory, after checking that the store
/// contains the last change that is in force here.
async fn reload(broker: &Arc<Broker>, here: i64, chain: &str) -> Result<Applied, FollowError> {
    // The head is read first, so that a change made in the meantime is applied a second time rather
    // than missed.
    let mut seen = Vec::new();
    let mut more = 0_usize;
    let mut marked = Ok(());
    let head = broker
        .store
        .goes_on_from(here, chain, |change| {
            // A revocation takes effect even if the rest of the feed proves wrong: ending one session
            // too many lets nobody in.
            match revoke_one(broker, change.sequence, &change.detail) {
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
            .ok_or_else(|| FollowError::Load("[directory] master_key is not set".to_owned()))?;
        let reader = broker.clone();
        // The thread that reads blocks while rows are compiled, so it must not be one that serves calls.
        let loading = tokio::task::spawn_blocking(move || {
            tokio::runtime::Handle::current().block_on(load(&reader.store, &master_key))
        });
        let loaded = loading.await.map_err(|_| {
            FollowError::Load(
                "the task that loads it panicked, which is a bug in Brevet".to_owned(),
            )
        })??;
        announce(broker, &loaded.0);
        directory = Some(loaded.0);
    }
    tracing::info!(
        sequence = head.sequence,
        after = here,
        in_the_feed_only = more,
        "this broker loaded the whole store again instead of single changes, and is up to date"
    );
    Ok(Applied {
        directory,
        changes: seen,
        reached: (head.sequence, head.chain),
    })
}
