//! Compiles the directory from the rows of the store.

use std::sync::Arc;

use super::error::FollowError;
use crate::directory::Directory;
use crate::directory::resource::{Resource, ResourceKind};
use crate::master_key::MasterKey;
use crate::store::{Head, Store};

/// How many rows are passed at once from the thread that reads to the one that compiles.
const BATCH: usize = 512;

/// Reads all rows of the store, and compiles the directory. Returns it with the head of the feed to
/// which it belongs.
///
/// # Errors
/// [`FollowError::Change`] for the first row that cannot be compiled, and [`FollowError::Store`] if the
/// store cannot be read.
pub async fn load(
    store: &Store,
    master_key: &Arc<MasterKey>,
) -> Result<(Directory, Head), FollowError> {
    // Rows are read and compiled at the same time, because for a million rows each takes as long as
    // the other.
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
            sender.send(full).map_err(|_| {
                FollowError::Change(version, "an earlier row cannot be compiled".to_owned())
            })
        })
        .await;
    // If nobody receives the batch, compiling has failed, and its result says why.
    let _ = sender.send(batch);
    drop(sender);
    let directory = compiling.await.map_err(|_| {
        FollowError::Change(
            0,
            "the task that compiles the directory panicked".to_owned(),
        )
    })??;
    Ok((directory, scanned?))
}

struct Row {
    kind: ResourceKind,
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
