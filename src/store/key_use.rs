//! Records when long-term access keys and passwords were last used, so that owners can see it and unused keys can be
//! deactivated. A password is recorded under the unique id of its user. No decision on a call depends on these times.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use sqlx::Row as _;
use sqlx::any::AnyRow;

use super::classify::classify;
use super::lanes::Purpose;
use super::{DEADLINE, Engine, SCAN_DEADLINE, Store, StoreError};
use crate::base::clock::Timestamp;

/// When and how an access key or a password was last used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LastUse {
    pub at: Timestamp,
    /// The service in the signature: `sts` or `iam`.
    pub service: Box<str>,
    /// The region in the signature.
    pub region: Box<str>,
}

/// The last uses of keys and passwords that are not yet written to the store.
#[derive(Default)]
pub struct KeyUse(Mutex<HashMap<String, LastUse>>);

impl KeyUse {
    /// Records that the access key with this id, or the password of the user with this unique id,
    /// was used.
    pub fn note(&self, id: &str, now: Timestamp, service: &str, region: &str) {
        let mut used = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match used.get_mut(id) {
            Some(last) => {
                last.at = last.at.max(now);
                if *last.service != *service || *last.region != *region {
                    last.service = service.into();
                    last.region = region.into();
                }
            }
            None => {
                let last = LastUse {
                    at: now,
                    service: service.into(),
                    region: region.into(),
                };
                used.insert(id.to_owned(), last);
            }
        }
    }

    /// The last use of an access key or password that is not yet written to the store; `None` if there is none.
    pub fn last(&self, id: &str) -> Option<LastUse> {
        let used = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        used.get(id).cloned()
    }

    /// Takes the recorded uses, to be written with [`Store::note_key_use`].
    pub fn take(&self) -> Vec<(String, LastUse)> {
        std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner))
            .into_iter()
            .collect()
    }

    /// Puts uses back that could not be written, so that the next attempt includes them.
    pub fn put_back(&self, uses: Vec<(String, LastUse)>) {
        let mut used = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for (id, last) in uses {
            used.entry(id).or_insert(last);
        }
    }
}

impl Store {
    /// Writes when long-term keys and passwords were last used, in batches, so that other writers do not wait long. If
    /// another broker has already written a later use, the later use is kept.
    ///
    /// # Errors
    /// An error of the database, such as [`StoreError::Unavailable`] if it does not answer in time; some uses were then
    /// not written.
    pub async fn note_key_use(&self, used: &[(String, LastUse)]) -> Result<(), StoreError> {
        for portion in used.chunks(256) {
            let portion = portion.to_vec();
            self.write_one(Purpose::Background, move |c| {
                Box::pin(async move {
                    sqlx::raw_sql("BEGIN").execute(&mut *c).await?;
                    let noted = note(&mut *c, portion).await;
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

    /// The last use of an access key or password, as brokers have written it to the store; `None` if no use was
    /// written. Brokers write the uses once a minute.
    ///
    /// # Errors
    /// An error of the database, such as [`StoreError::Unavailable`] if it does not answer in time.
    pub async fn last_key_use(&self, id: &str) -> Result<Option<LastUse>, StoreError> {
        let id = id.to_owned();
        let row = self.read(Purpose::Read, DEADLINE, move |c| {
            let id = id.clone();
            Box::pin(async move {
                sqlx::query(
                    "SELECT used_at, service, region FROM access_key_use WHERE access_key_id = $1",
                )
                .bind(id)
                .fetch_optional(c)
                .await
            })
        });
        let row = row.await?;
        row.map(|row| last_use(&row)).transpose().map_err(classify)
    }

    /// The last uses of several access keys and passwords, by their ids. Those without a use are
    /// left out.
    ///
    /// # Errors
    /// The same as for [`Self::last_key_use`].
    pub async fn last_key_uses(
        &self,
        ids: &[String],
    ) -> Result<HashMap<String, LastUse>, StoreError> {
        let ids = serde_json::to_string(ids).map_err(|e| StoreError::Row(e.to_string()))?;
        let sql = match self.engine {
            Engine::Postgres => {
                "SELECT used_at, service, region, access_key_id FROM access_key_use WHERE access_key_id IN \
                 (SELECT value FROM json_array_elements_text(CAST($1 AS JSON)) AS ids(value))"
            }
            Engine::Sqlite | Engine::Memory => {
                "SELECT used_at, service, region, access_key_id FROM access_key_use WHERE access_key_id IN \
                 (SELECT value FROM json_each($1))"
            }
        };
        let rows = self.read(Purpose::Read, DEADLINE, move |c| {
            let ids = ids.clone();
            Box::pin(async move { sqlx::query(sql).bind(ids).fetch_all(c).await })
        });
        let rows = rows.await?;
        let named = rows.iter().map(|row| Ok((row.try_get(3)?, last_use(row)?)));
        named.collect::<Result<_, sqlx::Error>>().map_err(classify)
    }
}

fn last_use(row: &AnyRow) -> Result<LastUse, sqlx::Error> {
    Ok(LastUse {
        at: Timestamp::from_seconds(row.try_get(0)?),
        service: row.try_get::<String, _>(1)?.into(),
        region: row.try_get::<String, _>(2)?.into(),
    })
}

impl Store {
    /// The last use of every access key and password that a broker has written, by its id.
    ///
    /// # Errors
    /// An error of the database, such as [`StoreError::Unavailable`] if it does not answer in time.
    pub async fn all_key_uses(&self) -> Result<HashMap<String, Timestamp>, StoreError> {
        let rows = self.read(Purpose::Background, SCAN_DEADLINE, |c| {
            Box::pin(async move {
                sqlx::query("SELECT access_key_id, used_at FROM access_key_use")
                    .fetch_all(c)
                    .await
            })
        });
        let uses = rows.await?;
        let uses = uses
            .iter()
            .map(|row| Ok((row.try_get(0)?, Timestamp::from_seconds(row.try_get(1)?))));
        uses.collect::<Result<_, sqlx::Error>>().map_err(classify)
    }
}

async fn note(
    connection: &mut sqlx::AnyConnection,
    used: Vec<(String, LastUse)>,
) -> Result<(), sqlx::Error> {
    for (id, last) in used {
        sqlx::query(
            "INSERT INTO access_key_use (access_key_id, used_at, region, service) VALUES ($1, $2, $3, $4) \
             ON CONFLICT (access_key_id) DO UPDATE SET used_at = excluded.used_at, region = excluded.region, \
             service = excluded.service WHERE excluded.used_at >= access_key_use.used_at",
        )
        .bind(id)
        .bind(last.at.seconds())
        .bind(String::from(last.region))
        .bind(String::from(last.service))
        .execute(&mut *connection)
        .await?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn last(at: i64, service: &str) -> LastUse {
        LastUse {
            at: Timestamp::from_seconds(at),
            service: service.into(),
            region: "eu-west-1".into(),
        }
    }

    #[test]
    fn the_last_use_is_kept_until_it_is_written() {
        let uses = KeyUse::default();
        let note = |at, service| {
            uses.note("AKIA1", Timestamp::from_seconds(at), service, "eu-west-1");
        };
        assert_eq!(uses.last("AKIA1"), None);
        note(10, "sts");
        note(20, "iam");
        assert_eq!(uses.last("AKIA1"), Some(last(20, "iam")));
        let taken = uses.take();
        assert!(uses.take().is_empty());
        note(30, "sts");
        // What could not be written does not replace a later use.
        uses.put_back(taken);
        assert_eq!(uses.take(), [("AKIA1".to_owned(), last(30, "sts"))]);
    }
}
