//! Runs a command on the store, even if a broker that uses the same store is running.

use super::Failure;
use crate::base::clock::Timestamp;
use crate::base::entropy::SystemEntropy;
use crate::config::Config;
use crate::master_key::MasterKey;
use crate::server;
use crate::store::{Access, Store, WatermarkError};

/// Opens the store, which a broker may be using at the same time, runs `work` on it, and writes the
/// watermark.
///
/// # Errors
/// The master key file cannot be read, or the store cannot be opened or is older than what this node has seen of it;
/// otherwise the errors of `work`, or the watermark cannot be written after it.
pub(super) async fn with_store<T, E: Into<Failure>>(
    config: &Config,
    now: Timestamp,
    work: impl AsyncFnOnce(&Store) -> Result<T, E>,
) -> Result<T, Failure> {
    let master_key = config
        .master_key
        .as_deref()
        .map(MasterKey::load)
        .transpose()?;
    let entrance = server::entrance(config, master_key.as_ref());
    let store = entrance
        .open(Access::Use, now, &SystemEntropy::new())
        .await?;
    let done = work(&store).await.map_err(Into::into)?;
    let left = entrance.leave(&store).await;
    left.map_err(|error| unmarked(&error))?;
    store.close().await;
    Ok(done)
}

/// The error about a command that has changed the store, but could not update the watermark file afterwards.
pub(super) fn unmarked(error: &WatermarkError) -> String {
    format!(
        "the store now has what this command asked for, but the watermark file could not be updated: {error}"
    )
}
