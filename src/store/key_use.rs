//! When long-term access keys were last used: a convenience for their owners, which no decision
//! depends on.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use sqlx::Row as _;

use super::classify::classify;
use super::lanes::Purpose;
use super::{DEADLINE, Store, StoreError};
use crate::base::clock::Timestamp;

/// When long-term keys were last used, until it is written down.
#[derive(Default)]
pub struct KeyUse(Mutex<HashMap<String, Timestamp>>);

impl KeyUse {
    /// Notes a use.
    pub fn note(&self, access_key_id: &str, now: Timestamp) {
        let mut used = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match used.get_mut(access_key_id) {
            Some(at) => *at = now,
            None => _ = used.insert(access_key_id.to_owned(), now),
        }
    }

    /// What is to be written down.
    pub fn take(&self) -> Vec<(String, Timestamp)> {
        std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner))
            .into_iter()
            .collect()
    }
}

impl Store {
    /// Notes when long-term keys were last used: a convenience, written now and then, in portions, so
    /// that nobody who writes waits long.
    ///
    /// # Errors
    /// Without an answer; the times are then lost.
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
                    // The connection must not be left in the middle of a transaction.
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
    /// When a long-term key was last used, as far as it was noted.
    ///
    /// # Errors
    /// If the database does not answer in time.
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
