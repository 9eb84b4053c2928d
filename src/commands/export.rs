//! Exports the store's directory in the format of a directory file.

use crate::directory::declaration::Declaration;
use crate::directory::principals;
use crate::directory::resource::{Name, Resource};
use crate::store::{Store, StoreError};

/// Exports the whole directory in the format of a directory file.
///
/// # Errors
/// [`StoreError`] if an operation of the store fails or a row cannot be read.
pub async fn export(store: &Store) -> Result<Declaration, StoreError> {
    export_of(store, |_| true).await
}

/// Exports the part of the directory for which `is_wanted` holds, in the format of a directory file.
///
/// # Errors
/// [`StoreError`] if an operation of the store fails or a row cannot be read.
pub async fn export_of(
    store: &Store,
    is_wanted: impl Fn(&Name) -> bool,
) -> Result<Declaration, StoreError> {
    let mut all = Vec::new();
    store
        .scan::<StoreError>(|kind, id, _, body| {
            let thing = Resource::parse(kind, body);
            all.push(thing.map_err(|e| StoreError::Row(format!("{kind} {id}: {e}")))?);
            Ok(())
        })
        .await?;
    all.sort_by_cached_key(Resource::name);
    principals::show(&mut all);
    all.retain(|thing| is_wanted(&thing.name()));
    Ok(Declaration::from_resources(all))
}
