//! The directory of the store, as a file declares it.

use crate::directory::declaration::Declaration;
use crate::directory::principals;
use crate::directory::resource::{Name, Resource};
use crate::store::{Store, StoreError};

/// The whole directory, as a file declares it.
///
/// # Errors
/// Without an answer, or a row that is not understood.
pub async fn export(store: &Store) -> Result<Declaration, StoreError> {
    export_of(store, |_| true).await
}

/// Those things of the directory that are wanted, as a file declares them.
///
/// # Errors
/// Without an answer, or a row that is not understood.
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
