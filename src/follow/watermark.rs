//! How far the store had come, on the disk of this node: a store that goes back is noticed at the next start.

use std::path::Path;
use std::sync::Arc;

use tokio::sync::watch;

use super::FollowContext;
use crate::broker::Broker;
use crate::store::Watermark;

/// Keeps the watermark on the disk. Nobody waits for it: a revocation does not bind later because the
/// disk is slow.
pub(super) async fn save_each(
    context: Arc<FollowContext>,
    mut latest: watch::Receiver<(i64, String)>,
) {
    while latest.changed().await.is_ok() {
        let place = latest.borrow_and_update().clone();
        let context = context.clone();
        // It waits for the disk; what goes wrong is logged there.
        let _ = tokio::task::spawn_blocking(move || {
            save_watermark(&context.broker, context.watermark.as_deref(), place)
        })
        .await;
    }
}

/// Writes down how far the store had come.
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
        tracing::error!(%error, "the watermark is not written; a store that goes back may not be told");
    }
}
