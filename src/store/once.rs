//! What is good once, across nodes, restarts and the loss of any cache: TOTP time steps, and ids of
//! tokens and assertions. Without an answer nothing is good.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use sqlx::Row as _;

use super::{Store, StoreError, told};
use crate::clock::Timestamp;

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
        std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner)).into_iter().collect()
    }
}

impl Store {
    /// Spends a TOTP time step of `seconds` length of a device: true at most once for each, and
    /// never for one before it (RFC 6238 section 5.2). A step that began before this store knew the
    /// device's past counts as spent.
    ///
    /// # Errors
    /// Without an answer: the code must then be refused.
    pub async fn spend_step(&self, serial_number: &str, step: i64, seconds: i64) -> Result<bool, StoreError> {
        let serial_number = serial_number.to_owned();
        let began = step.saturating_mul(seconds);
        self.write_one(move |c| {
            Box::pin(async move {
                // One statement: of two nodes at the same moment one changes the row.
                let done = sqlx::query(
                    "INSERT INTO spent_steps (serial_number, step) \
                     SELECT $1, $2 FROM store WHERE id = 1 AND not_before <= $3 \
                     ON CONFLICT (serial_number) DO UPDATE SET step = excluded.step WHERE excluded.step > spent_steps.step",
                )
                .bind(serial_number)
                .bind(step)
                .bind(began)
                .execute(c)
                .await?;
                Ok(done.rows_affected() == 1)
            })
        })
        .await
    }

    /// Notes a token's or an assertion's id: true the first time. It is kept until `expires_at`,
    /// which must be when the thing itself is refused, skew included. What was issued before this
    /// store knew the past counts as seen.
    ///
    /// # Errors
    /// Without an answer: the token must then be refused.
    pub async fn see(
        &self,
        issuer: &str,
        id: &str,
        issued_at: Timestamp,
        expires_at: Timestamp,
    ) -> Result<bool, StoreError> {
        let (issuer, id) = (issuer.to_owned(), id.to_owned());
        let (issued_at, expires_at) = (issued_at.seconds(), expires_at.seconds());
        self.write_one(move |c| {
            Box::pin(async move {
                let done = sqlx::query(
                    "INSERT INTO seen (issuer, id, expires_at) \
                     SELECT $1, $2, $3 FROM store WHERE id = 1 AND not_before <= $4 \
                     ON CONFLICT (issuer, id) DO NOTHING",
                )
                .bind(issuer)
                .bind(id)
                .bind(expires_at)
                .bind(issued_at)
                .execute(c)
                .await?;
                Ok(done.rows_affected() == 1)
            })
        })
        .await
    }

    /// Notes when long-term keys were last used: a convenience, written now and then.
    ///
    /// # Errors
    /// Without an answer; the times are then lost.
    pub async fn note_key_use(&self, used: Vec<(String, Timestamp)>, region: &str) -> Result<(), StoreError> {
        let region = region.to_owned();
        self.write_one(move |c| {
            Box::pin(async move {
                sqlx::raw_sql("BEGIN").execute(&mut *c).await?;
                let noted = note(&mut *c, used, &region).await;
                // The connection must not be left in the middle of a transaction.
                let end = if noted.is_ok() { "COMMIT" } else { "ROLLBACK" };
                sqlx::raw_sql(end).execute(c).await?;
                noted
            })
        })
        .await
    }

    /// When a long-term key was last used, as far as it was noted.
    ///
    /// # Errors
    /// Without an answer.
    pub async fn key_used_at(&self, access_key_id: &str) -> Result<Option<Timestamp>, StoreError> {
        let id = access_key_id.to_owned();
        let row = self.read(move |c| {
            Box::pin(async move {
                sqlx::query("SELECT used_at FROM access_key_use WHERE access_key_id = $1")
                    .bind(id)
                    .fetch_optional(c)
                    .await
            })
        });
        row.await?.map(|row| row.try_get(0).map(Timestamp::from_seconds)).transpose().map_err(told)
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
