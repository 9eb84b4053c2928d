//! Which master keys the secrets of a store are sealed under, and whether each of them opens.

use std::collections::BTreeMap;

use crate::directory::resource::{Name, Resource};
use crate::master_key::{MasterKey, MasterKeyError};
use crate::store::{Store, StoreError};

/// How many secrets that do not open are named.
const NAMED: usize = 10;

/// What was found of the secrets of a store.
#[derive(Debug, Default)]
pub struct Secrets {
    /// How many open, by the id of their key; secrets of the first version do not say which one that is.
    pub opened: BTreeMap<String, usize>,
    /// How many are sealed under a key that is not at hand, by its id.
    pub missing: BTreeMap<String, usize>,
    /// Some of those that do not open under their own key: they were altered, or belong to another owner.
    pub broken: Vec<Name>,
    /// How many there are of these.
    pub broken_count: usize,
}

impl Secrets {
    /// How many there are.
    pub fn count(&self) -> usize {
        self.opened.values().sum::<usize>()
            + self.missing.values().sum::<usize>()
            + self.broken_count
    }

    /// Whether all of them open.
    pub fn all_open(&self) -> bool {
        self.missing.is_empty() && self.broken_count == 0
    }

    /// How many are sealed under another key than this one.
    pub fn sealed_otherwise(&self, id: &str) -> usize {
        self.count() - self.opened.get(id).copied().unwrap_or_default()
    }
}

/// Opens every secret of a store.
///
/// # Errors
/// Without an answer, or a row that is not understood.
pub async fn open_all(store: &Store, master_key: &MasterKey) -> Result<Secrets, StoreError> {
    let mut found = Secrets::default();
    store
        .scan::<StoreError>(|kind, id, _, body| {
            if !kind.has_secret() {
                return Ok(());
            }
            let thing = Resource::parse(kind, body)
                .map_err(|e| StoreError::Row(format!("{kind} {id}: {e}")))?;
            let field = thing.secret();
            let sealed = field
                .as_ref()
                .and_then(|field| Some((field, field.sealed?)));
            let Some((field, sealed)) = sealed else {
                return Ok(());
            };
            let key = MasterKey::sealed_by(sealed).unwrap_or_default().to_owned();
            match master_key.open(&field.bound_to, sealed) {
                Ok(_) => *found.opened.entry(key).or_default() += 1,
                Err(MasterKeyError::Unknown(key)) => *found.missing.entry(key).or_default() += 1,
                Err(_) => {
                    found.broken_count += 1;
                    if found.broken.len() < NAMED {
                        found.broken.push(thing.name());
                    }
                }
            }
            Ok(())
        })
        .await?;
    Ok(found)
}
