//! Compiles the directory from the rows of the store.

use std::sync::Arc;

use super::error::FollowError;
use crate::directory::Directory;
use crate::directory::resource::{Resource, ResourceKind};
use crate::master_key::MasterKey;
use crate::store::{Head, Store};

/// How many rows at a time the thread that reads hands to the thread that compiles.
const BATCH: usize = 512;

/// Reads all rows of the store, and compiles the directory. Returns it with the head of the feed to
/// which it belongs.
///
/// # Errors
/// [`FollowError::Change`] for the first row that cannot be compiled, [`FollowError::Load`] if the rows cannot be
/// compiled for another reason, and [`FollowError::Store`] if the store cannot be read.
pub async fn load(
    store: &Store,
    master_key: &Arc<MasterKey>,
) -> Result<(Directory, Head), FollowError> {
    // Rows are read and compiled at the same time, because for a million rows each takes as long as
    // the other.
    let (sender, receiver) = std::sync::mpsc::sync_channel::<Batch>(16);
    let master_key = master_key.clone();
    let compiling = tokio::task::spawn_blocking(move || compile(&receiver, &master_key));
    let mut batch = Batch::default();
    let scanned = store
        .scan::<FollowError>(|kind, id, version, body| {
            batch.push(kind, id, version, body);
            if batch.rows.len() < BATCH {
                return Ok(());
            }
            sender.send(batch.take()).map_err(|_| {
                FollowError::Change(
                    version,
                    "another row of the directory could not be compiled".to_owned(),
                )
            })
        })
        .await;
    // If nobody receives the batch, compiling has failed, and its result says why.
    let _ = sender.send(batch);
    drop(sender);
    let directory = compiling.await.map_err(|_| {
        FollowError::Load("the task that compiles it panicked, which is a bug in Brevet".to_owned())
    })??;
    Ok((directory, scanned?))
}

/// Rows whose texts are joined to one text, so that a batch needs only two allocations.
#[derive(Default)]
struct Batch {
    text: String,
    rows: Vec<Row>,
}

struct Row {
    kind: ResourceKind,
    version: i64,
    /// Where the id begins in the text of the batch, and where it ends and the body begins.
    id: (usize, usize),
    /// Where the body ends.
    end: usize,
}

impl Batch {
    fn push(&mut self, kind: ResourceKind, id: &str, version: i64, body: &str) {
        let begin = self.text.len();
        self.text.push_str(id);
        let middle = self.text.len();
        self.text.push_str(body);
        self.rows.push(Row {
            kind,
            version,
            id: (begin, middle),
            end: self.text.len(),
        });
    }

    /// Takes the rows out of the batch, which is then empty and has room for as many rows.
    fn take(&mut self) -> Self {
        let next = Self {
            text: String::with_capacity(self.text.len()),
            rows: Vec::with_capacity(self.rows.len()),
        };
        std::mem::replace(self, next)
    }

    /// The kind, id, version and body of each row.
    fn iter(&self) -> impl Iterator<Item = (ResourceKind, &str, i64, &str)> {
        self.rows.iter().map(|row| {
            let (begin, middle) = row.id;
            let text = |from: usize, to: usize| self.text.get(from..to).unwrap_or_default();
            (
                row.kind,
                text(begin, middle),
                row.version,
                text(middle, row.end),
            )
        })
    }
}

fn compile(
    batches: &std::sync::mpsc::Receiver<Batch>,
    master_key: &MasterKey,
) -> Result<Directory, FollowError> {
    let mut directory = Directory::empty().map_err(|e| FollowError::Load(e.to_string()))?;
    for batch in batches {
        for (kind, id, version, body) in batch.iter() {
            let fault = |why: String| FollowError::Change(version, format!("{kind} {id}: {why}"));
            let resource = Resource::parse(kind, body).map_err(|e| fault(e.to_string()))?;
            directory
                .insert_stored(&resource, Some(master_key))
                .map_err(|e| fault(e.to_string()))?;
        }
    }
    Ok(directory)
}
