//! Records on this node's disk the last change that it has seen, so that it notices at the next
//! start if the store has gone back.

use std::path::Path;
use std::sync::Arc;

use tokio::sync::watch;

use super::FollowContext;
use crate::broker::Broker;
use crate::store::Watermark;

/// Writes the watermark whenever the feed moves on. Nothing waits for it, so that a slow disk does not
/// delay a revocation.
pub(super) async fn save_each(
    context: Arc<FollowContext>,
    mut latest: watch::Receiver<(i64, String)>,
) {
    while latest.changed().await.is_ok() {
        let place = latest.borrow_and_update().clone();
        let context = context.clone();
        // `save_watermark` logs what goes wrong.
        let _ = tokio::task::spawn_blocking(move || {
            save_watermark(&context.broker, context.watermark.as_deref(), place)
        })
        .await;
    }
}

/// Writes the watermark to `path`: the last change of the store that this node has seen, with its
/// digest. Logs an error if that fails.
pub fn save_watermark(broker: &Broker, path: Option<&Path>, (sequence, chain): (i64, String)) {
    let Some(path) = path else {
        return;
    };
    let watermark = Watermark {
        store_id: broker.store.id().to_owned(),
        sequence,
        chain: Some(chain),
        key: Some(broker.store.sealing_key()).filter(|key| !key.is_empty()),
    };
    if let Err(error) = watermark.advance(path) {
        tracing::error!(%error, "the watermark file cannot be written; if the store is restored to an earlier state, \
            the broker may not notice at its next start");
    }
}
