//! Records when long-term access keys were last used, for their owners. No decision depends on it.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use sqlx::Row as _;

use super::classify::classify;
use super::lanes::Purpose;
use super::{DEADLINE, Store, StoreError};
use crate::base::clock::Timestamp;

/// The last uses of long-term keys that are not yet written to the store.
#[derive(Default)]
pub struct KeyUse(Mutex<HashMap<String, Timestamp>>);

impl KeyUse {
    /// Records that a key was used now.
    pub fn note(&self, access_key_id: &str, now: Timestamp) {
        let mut used = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match used.get_mut(access_key_id) {
            Some(at) => *at = now,
            None => _ = used.insert(access_key_id.to_owned(), now),
        }
    }

    /// Takes the recorded uses, to be written with [`Store::note_key_use`].
    pub fn take(&self) -> Vec<(String, Timestamp)> {
        std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner))
            .into_iter()
            .collect()
    }
}

impl Store {
    /// Writes when long-term keys were last used, in batches, so that other writers do not wait long.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`] if the database does not answer in time; times that were not
    /// written are lost.
    pub async fn note_key_use(
        &self,
        used: &[(String, Timestamp)],
        region: &str,
    ) -> Result<(), StoreError> {
        for portion in used.chunks(256) {
            let (portion, region) = (portion.to_vec(), region.to_owned());
            self.write_one(Purpose::Background, move |c| {
                Box::pin(async move {
                    sqlx::raw_sql("BEGIN").execute(&mut *c).await?;
                    let noted = note(&mut *c, portion, &region).await;
                    // The connection must not go back in the middle of a transaction.
                    let end = if noted.is_ok() { "COMMIT" } else { "ROLLBACK" };
                    sqlx::raw_sql(end).execute(c).await?;
                    noted
                })
            })
            .await?;
        }
        Ok(())
    }

    #[cfg_attr(
        not(any(test, feature = "internals")),
        allow(dead_code, reason = "GetAccessKeyLastUsed is not answered yet")
    )]
    /// The last use of a long-term key, if one is recorded.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`] if the database does not answer in time.
    pub async fn key_used_at(&self, access_key_id: &str) -> Result<Option<Timestamp>, StoreError> {
        let id = access_key_id.to_owned();
        let row = self.read(Purpose::Read, DEADLINE, move |c| {
            let id = id.clone();
            Box::pin(async move {
                sqlx::query("SELECT used_at FROM access_key_use WHERE access_key_id = $1")
                    .bind(id)
                    .fetch_optional(c)
                    .await
            })
        });
        row.await?
            .map(|row| row.try_get(0).map(Timestamp::from_seconds))
            .transpose()
            .map_err(classify)
    }
}

async fn note(
    connection: &mut sqlx::AnyConnection,
    used: Vec<(String, Timestamp)>,
    region: &str,
) -> Result<(), sqlx::Error> {
    for (id, at) in used {
        sqlx::query(
            "INSERT INTO access_key_use (access_key_id, used_at, region, service) VALUES ($1, $2, $3, 'sts') \
             ON CONFLICT (access_key_id) DO UPDATE SET used_at = excluded.used_at, region = excluded.region",
        )
        .bind(id)
        .bind(at.seconds())
        .bind(region.to_owned())
        .execute(&mut *connection)
        .await?;
    }
    Ok(())
}
