//! The rows of sign-ins. The facts about the person are sealed; this module does not open them.

use sqlx::Row as _;
use sqlx::any::AnyRow;

use super::classify::classify;
use super::lanes::Purpose;
use super::{DEADLINE, Store, StoreError};
use crate::base::clock::Timestamp;

/// The maximum number of sign-ins that one statement changes or returns.
pub const SIGN_INS_AT_ONCE: usize = 500;

/// The row of a new sign-in. `id` is in hexadecimal; `handle`, `subject` and `provider_session` are digests in
/// hexadecimal.
#[derive(Debug, Clone)]
pub struct NewSignInRow {
    pub id: String,
    pub handle: String,
    pub account: String,
    /// The unique id of the user, or the ARN of the identity provider.
    pub holder: String,
    pub subject: String,
    pub provider_session: String,
    pub ends_at: Timestamp,
    pub sealed: String,
}

/// A stored sign-in. Times are in seconds since 1970.
#[derive(Debug, Clone)]
pub struct SignInRow {
    pub id: String,
    /// When a request from the browser of the sign-in was last recorded.
    pub seen_at: i64,
    /// When the sign-in was last compared with the revocations in force.
    pub checked_at: i64,
    pub sealed: String,
}

/// Selects the sign-ins that [`Store::sign_ins_of`] returns.
#[derive(Debug, Clone)]
pub enum SignInsOf {
    Everybody,
    Account(String),
    /// The sign-ins of a user or of an identity provider.
    Holder(String),
    /// The sign-ins of one subject of an identity provider: the ARN of the provider, and the digest of the subject.
    Subject(String, String),
    /// The sign-ins of one session at an identity provider: the ARN of the provider, and the digest of the session.
    ProviderSession(String, String),
}

const COLUMNS: &str = "id, seen_at, checked_at, sealed";

impl Store {
    /// Adds the row of a new sign-in. `now` is recorded as the time when its browser was last seen, and when it was
    /// last compared with the revocations.
    ///
    /// # Errors
    /// An error of the database, such as [`StoreError::Unavailable`] if it does not answer in time.
    pub async fn add_sign_in(&self, row: NewSignInRow, now: Timestamp) -> Result<(), StoreError> {
        self.write_one(Purpose::Write, move |c| {
            Box::pin(async move {
                sqlx::query(
                    "INSERT INTO sign_ins (id, handle, account, holder, subject, provider_session, \
                     seen_at, checked_at, ends_at, sealed) VALUES ($1, $2, $3, $4, $5, $6, $7, $7, $8, $9)",
                )
                .bind(row.id)
                .bind(row.handle)
                .bind(row.account)
                .bind(row.holder)
                .bind(row.subject)
                .bind(row.provider_session)
                .bind(now.seconds())
                .bind(row.ends_at.seconds())
                .bind(row.sealed)
                .execute(c)
                .await
            })
        })
        .await
        .map(drop)
    }

    /// The sign-in whose cookie has a value with the digest `handle`; `None` if there is none.
    ///
    /// # Errors
    /// An error of the database, such as [`StoreError::Unavailable`] if it does not answer in time.
    pub async fn sign_in_with_handle(&self, handle: &str) -> Result<Option<SignInRow>, StoreError> {
        self.one_sign_in(
            "SELECT id, seen_at, checked_at, sealed FROM sign_ins WHERE handle = $1",
            handle,
        )
        .await
    }

    /// The sign-in with this id, in hexadecimal; `None` if there is none.
    ///
    /// # Errors
    /// An error of the database, such as [`StoreError::Unavailable`] if it does not answer in time.
    pub async fn sign_in(&self, id: &str) -> Result<Option<SignInRow>, StoreError> {
        self.one_sign_in(
            "SELECT id, seen_at, checked_at, sealed FROM sign_ins WHERE id = $1",
            id,
        )
        .await
    }

    async fn one_sign_in(
        &self,
        sql: &'static str,
        key: &str,
    ) -> Result<Option<SignInRow>, StoreError> {
        let key = key.to_owned();
        let row = self.read(Purpose::Read, DEADLINE, move |c| {
            let key = key.clone();
            Box::pin(async move { sqlx::query(sql).bind(key).fetch_optional(c).await })
        });
        row.await?.map(|row| sign_in(&row)).transpose()
    }

    /// Records that the browser of a sign-in was seen now, and that the sign-in was compared with the revocations now.
    ///
    /// # Errors
    /// An error of the database, such as [`StoreError::Unavailable`] if it does not answer in time.
    pub async fn saw_sign_in(&self, id: &str, now: Timestamp) -> Result<(), StoreError> {
        let (id, now) = (id.to_owned(), now.seconds());
        self.write_one(Purpose::Write, move |c| {
            Box::pin(async move {
                sqlx::query("UPDATE sign_ins SET seen_at = $2, checked_at = $2 WHERE id = $1 AND seen_at < $2")
                    .bind(id)
                    .bind(now)
                    .execute(c)
                    .await
            })
        })
        .await
        .map(drop)
    }

    /// Replaces the sealed content of a sign-in and the digest of its cookie, unless another request has replaced them
    /// since the caller read them. Returns whether they were replaced.
    ///
    /// # Errors
    /// An error of the database, such as [`StoreError::Unavailable`] if it does not answer in time.
    pub async fn replace_sign_in(
        &self,
        id: &str,
        old: String,
        handle: String,
        sealed: String,
    ) -> Result<bool, StoreError> {
        let id = id.to_owned();
        self.write_one(Purpose::Write, move |c| {
            Box::pin(async move {
                sqlx::query(
                    "UPDATE sign_ins SET handle = $2, sealed = $3 WHERE id = $1 AND sealed = $4",
                )
                .bind(id)
                .bind(handle)
                .bind(sealed)
                .bind(old)
                .execute(c)
                .await
            })
        })
        .await
        .map(|done| done.rows_affected() == 1)
    }

    /// Deletes sign-ins, and all grants that belong to them.
    ///
    /// # Errors
    /// An error of the database, such as [`StoreError::Unavailable`] if it does not answer in time.
    pub async fn delete_sign_ins(&self, ids: Vec<String>) -> Result<(), StoreError> {
        if ids.is_empty() {
            return Ok(());
        }
        let mut lease = self.lease_to_write(Purpose::Background).await?;
        lease.begin();
        lease
            .ask(DEADLINE, move |c| {
                Box::pin(async move {
                    sqlx::raw_sql("BEGIN").execute(&mut *c).await?;
                    for id in ids {
                        for sql in [
                            "DELETE FROM sign_in_grants WHERE sign_in = $1",
                            "DELETE FROM sign_ins WHERE id = $1",
                        ] {
                            sqlx::query(sql).bind(id.clone()).execute(&mut *c).await?;
                        }
                    }
                    sqlx::raw_sql("COMMIT").execute(c).await
                })
            })
            .await?;
        lease.finish();
        Ok(())
    }

    /// Records that the sign-ins from the id `first` to the id `last` were compared with the revocations in force.
    ///
    /// # Errors
    /// An error of the database, such as [`StoreError::Unavailable`] if it does not answer in time.
    pub async fn checked_sign_ins(
        &self,
        first: &str,
        last: &str,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        let (first, last, now) = (first.to_owned(), last.to_owned(), now.seconds());
        self.write_one(Purpose::Background, move |c| {
            Box::pin(async move {
                sqlx::query(
                    "UPDATE sign_ins SET checked_at = $3 WHERE id >= $1 AND id <= $2 AND checked_at < $3",
                )
                .bind(first)
                .bind(last)
                .bind(now)
                .execute(c)
                .await
            })
        })
        .await
        .map(drop)
    }

    /// Reads at most `limit` of the selected sign-ins whose ids come after `after`, in the order of their ids.
    ///
    /// # Errors
    /// An error of the database, such as [`StoreError::Unavailable`] if it does not answer in time.
    pub async fn sign_ins_of(
        &self,
        of: SignInsOf,
        after: &str,
        limit: usize,
    ) -> Result<Vec<SignInRow>, StoreError> {
        let (condition, one, two) = match of {
            SignInsOf::Everybody => ("$3 = $3 AND $4 = $4", String::new(), String::new()),
            SignInsOf::Account(account) => ("account = $3 AND $4 = $4", account, String::new()),
            SignInsOf::Holder(holder) => ("holder = $3 AND $4 = $4", holder, String::new()),
            SignInsOf::Subject(holder, subject) => {
                ("holder = $3 AND subject = $4", holder, subject)
            }
            SignInsOf::ProviderSession(holder, session) => {
                ("holder = $3 AND provider_session = $4", holder, session)
            }
        };
        let sql = format!(
            "SELECT {COLUMNS} FROM sign_ins WHERE id > $1 AND {condition} ORDER BY id LIMIT $2"
        );
        let (after, limit) = (after.to_owned(), limit.min(SIGN_INS_AT_ONCE));
        let limit = i64::try_from(limit).unwrap_or_default();
        let rows = self.read(Purpose::Background, DEADLINE, move |c| {
            let (sql, after) = (sqlx::AssertSqlSafe(sql.clone()), after.clone());
            let (one, two) = (one.clone(), two.clone());
            Box::pin(async move {
                sqlx::query(sql)
                    .bind(after)
                    .bind(limit)
                    .bind(one)
                    .bind(two)
                    .fetch_all(c)
                    .await
            })
        });
        rows.await?.iter().map(sign_in).collect()
    }
}

fn sign_in(row: &AnyRow) -> Result<SignInRow, StoreError> {
    let read = || {
        Ok(SignInRow {
            id: row.try_get(0)?,
            seen_at: row.try_get(1)?,
            checked_at: row.try_get(2)?,
            sealed: row.try_get(3)?,
        })
    };
    read().map_err(classify)
}
