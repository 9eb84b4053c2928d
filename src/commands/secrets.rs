//! Finds out under which master keys the secrets of a store are sealed, and whether each secret can
//! be opened.

use std::collections::BTreeMap;

use crate::directory::resource::{Name, Resource};
use crate::master_key::{MasterKey, MasterKeyError};
use crate::store::{Store, StoreError};

/// The maximum length of [`Secrets::broken`].
const NAMED: usize = 10;

/// The result of opening the secrets of a store.
#[derive(Debug, Default)]
pub struct Secrets {
    /// How many secrets could be opened, by the id of their key. Secrets of the first format
    /// version do not record the id.
    pub opened: BTreeMap<String, usize>,
    /// How many secrets are sealed under a key that is not available, by the key's id.
    pub missing: BTreeMap<String, usize>,
    /// Some of the resources whose secrets cannot be opened with their own key, because they were
    /// altered or belong to another owner. At most 10.
    pub broken: Vec<Name>,
    pub broken_count: usize,
}

impl Secrets {
    /// The number of secrets in the store, whether or not they could be opened.
    pub fn count(&self) -> usize {
        self.opened.values().sum::<usize>()
            + self.missing.values().sum::<usize>()
            + self.broken_count
    }

    pub fn all_open(&self) -> bool {
        self.missing.is_empty() && self.broken_count == 0
    }

    /// How many secrets are sealed under a key other than the one with this id.
    pub fn sealed_otherwise(&self, id: &str) -> usize {
        self.count() - self.opened.get(id).copied().unwrap_or_default()
    }
}

/// Opens every secret of a store.
///
/// # Errors
/// [`StoreError`] if an operation of the store fails or a row cannot be read.
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
