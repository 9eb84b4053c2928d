//! The grants of sign-ins: pending requests to an identity provider, device flows, authorization codes, access tokens
//! and families of refresh tokens.
//!
//! The state of a grant is compared and changed in one statement, so that a grant is used only once, whichever nodes
//! receive it. The content of a grant is sealed; this module does not open it.

use sqlx::Row as _;
use sqlx::any::AnyRow;

use super::classify::classify;
use super::lanes::Purpose;
use super::{DEADLINE, Store, StoreError};
use crate::base::clock::Timestamp;

/// The maximum number of pending requests of one kind, and of device flows, that may be open at a time.
const MAX_OPEN: i64 = 10_000;
/// The maximum number of pending requests of one kind that may be open for one source address at a time.
const MAX_OF_SOURCE: i64 = 300;
/// The maximum number of device flows that may be open for one source address at a time, on all brokers together.
const MAX_DEVICES_OF_SOURCE: i64 = 1_000;
/// The maximum number of authorization codes, and of families of tokens, that one sign-in may have.
const MAX_OF_SIGN_IN: i64 = 100;
const ADD_OF_KIND: &str = "INSERT INTO sign_in_grants (kind, id, also, sign_in, family, state, expires_at, sealed) \
     SELECT $1, $2, $3, $4, $5, $6, $7, $8 FROM store WHERE store.id = 1 AND \
     (SELECT COUNT(*) FROM sign_in_grants g WHERE g.kind = $1 AND g.expires_at > $9) < $10 AND \
     (SELECT COUNT(*) FROM sign_in_grants g WHERE g.family = $5 AND g.kind = $1 AND g.expires_at > $9) < $11";
const ADD_OF_SIGN_IN: &str = "INSERT INTO sign_in_grants (kind, id, also, sign_in, family, state, expires_at, sealed) \
     SELECT $1, $2, $3, $4, $5, $6, $7, $8 FROM store WHERE store.id = 1 AND \
     (SELECT COUNT(*) FROM sign_in_grants g WHERE g.sign_in = $4 AND g.kind = $1 AND g.expires_at > $9) < $10";
/// The maximum length of the sealed text of a grant in bytes.
const MAX_SEALED: usize = 65_536;

/// A kind of grant, which determines its name in rows and how many such grants there may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GrantKind {
    /// A value that is kept for a browser between two requests. The text names what the browser waits for.
    Pending(&'static str),
    Device,
    Code,
    Access,
    Family,
}

impl GrantKind {
    /// The name of the kind in rows. The sealed text of a grant is bound to this name.
    pub fn name(self) -> String {
        match self {
            Self::Pending(kind) => format!("pending {kind}"),
            Self::Device => "device".to_owned(),
            Self::Code => "code".to_owned(),
            Self::Access => "access".to_owned(),
            Self::Family => "family".to_owned(),
        }
    }

    /// The statement that adds a grant of this kind, and the limits that the statement checks: how many grants of this
    /// kind there may be in all and for one source address, or for one sign-in.
    fn addition(self) -> (&'static str, &'static [i64]) {
        match self {
            Self::Pending(_) => (ADD_OF_KIND, &[MAX_OPEN, MAX_OF_SOURCE]),
            Self::Device => (ADD_OF_KIND, &[MAX_OPEN, MAX_DEVICES_OF_SOURCE]),
            Self::Code | Self::Family => (ADD_OF_SIGN_IN, &[MAX_OF_SIGN_IN]),
            Self::Access => (ADD_OF_SIGN_IN, &[10 * MAX_OF_SIGN_IN]),
        }
    }
}

/// The row of a grant. Its `id` is the digest of the secret by which its holder is recognized, such as a token or a
/// code, or for [`GrantKind::Family`] the random id of the family.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GrantRow {
    pub id: String,
    /// A second text by which the grant can be found: for a device flow the MAC of its user code, until a person has
    /// decided. For an authorization code that was used, the family of its tokens. `None` for other grants.
    pub also: Option<String>,
    /// The id of the sign-in to which the grant belongs. When the sign-in ends, the grant is deleted.
    pub sign_in: Option<String>,
    /// The id of the family of tokens to which the grant belongs. For [`GrantKind::Pending`] and [`GrantKind::Device`],
    /// a digest of the source address against whose limit the grant counts.
    pub family: Option<String>,
    pub state: i64,
    /// When the grant expires, in seconds since 1970.
    pub expires_at: i64,
    pub sealed: String,
}

impl GrantRow {
    /// Makes a new grant in the state 0, without a second digest, a sign-in or a family.
    pub fn new(id: String, expires_at: Timestamp, sealed: String) -> Self {
        Self {
            id,
            also: None,
            sign_in: None,
            family: None,
            state: 0,
            expires_at: expires_at.seconds(),
            sealed,
        }
    }
}

impl Store {
    /// Adds a grant. Returns whether there was room for it.
    ///
    /// # Errors
    /// An error of the database, such as [`StoreError::Unavailable`] if it does not answer in time.
    pub async fn add_grant(
        &self,
        kind: GrantKind,
        row: GrantRow,
        now: Timestamp,
    ) -> Result<bool, StoreError> {
        if row.sealed.len() > MAX_SEALED {
            return Ok(false);
        }
        let (sql, most) = kind.addition();
        self.write_one(Purpose::Write, move |c| {
            Box::pin(async move {
                let query = sqlx::query(sql)
                    .bind(kind.name())
                    .bind(row.id)
                    .bind(row.also)
                    .bind(row.sign_in)
                    .bind(row.family)
                    .bind(row.state)
                    .bind(row.expires_at)
                    .bind(row.sealed)
                    .bind(now.seconds());
                let query = most.iter().fold(query, |query, most| query.bind(*most));
                query.execute(c).await
            })
        })
        .await
        .map(|done| done.rows_affected() == 1)
    }

    /// The grant with this id, whether or not it has expired; `None` if there is none.
    ///
    /// # Errors
    /// An error of the database, such as [`StoreError::Unavailable`] if it does not answer in time.
    pub async fn grant(&self, kind: GrantKind, id: &str) -> Result<Option<GrantRow>, StoreError> {
        self.find_grant(
            "SELECT id, also, sign_in, family, state, expires_at, sealed FROM sign_in_grants \
             WHERE kind = $1 AND id = $2",
            kind,
            id,
        )
        .await
    }

    /// The grant with this second digest ([`GrantRow::also`]), whether or not it has expired; `None` if there is none.
    ///
    /// # Errors
    /// An error of the database, such as [`StoreError::Unavailable`] if it does not answer in time.
    pub async fn grant_also(
        &self,
        kind: GrantKind,
        also: &str,
    ) -> Result<Option<GrantRow>, StoreError> {
        self.find_grant(
            "SELECT id, also, sign_in, family, state, expires_at, sealed FROM sign_in_grants \
             WHERE kind = $1 AND also = $2",
            kind,
            also,
        )
        .await
    }

    async fn find_grant(
        &self,
        sql: &'static str,
        kind: GrantKind,
        key: &str,
    ) -> Result<Option<GrantRow>, StoreError> {
        let (kind, key) = (kind.name(), key.to_owned());
        let row = self.read(Purpose::Read, DEADLINE, move |c| {
            let (kind, key) = (kind.clone(), key.clone());
            Box::pin(async move {
                sqlx::query(sql)
                    .bind(kind)
                    .bind(key)
                    .fetch_optional(c)
                    .await
            })
        });
        row.await?.map(|row| grant(&row)).transpose()
    }

    /// Deletes a grant that has not expired, and returns it; `None` if there is none. If several callers take the same
    /// grant at once, only one gets it.
    ///
    /// # Errors
    /// An error of the database, such as [`StoreError::Unavailable`] if it does not answer in time.
    pub async fn take_grant(
        &self,
        kind: GrantKind,
        id: &str,
        now: Timestamp,
    ) -> Result<Option<GrantRow>, StoreError> {
        let (id, now) = (id.to_owned(), now.seconds());
        let row = self.write_one(Purpose::Write, move |c| {
            Box::pin(async move {
                sqlx::query(
                    "DELETE FROM sign_in_grants WHERE kind = $1 AND id = $2 AND expires_at > $3 \
                     RETURNING id, also, sign_in, family, state, expires_at, sealed",
                )
                .bind(kind.name())
                .bind(id)
                .bind(now)
                .fetch_optional(c)
                .await
            })
        });
        row.await?.map(|row| grant(&row)).transpose()
    }

    /// Replaces a grant that is in the state `from` and has not expired. Returns whether the grant was replaced. If
    /// several callers try to replace the same grant at once, only one succeeds.
    ///
    /// # Errors
    /// An error of the database, such as [`StoreError::Unavailable`] if it does not answer in time.
    pub async fn change_grant(
        &self,
        kind: GrantKind,
        from: i64,
        to: GrantRow,
        now: Timestamp,
    ) -> Result<bool, StoreError> {
        self.write_one(Purpose::Write, move |c| {
            Box::pin(async move {
                sqlx::query(
                    "UPDATE sign_in_grants SET also = $4, sign_in = $5, family = $6, state = $7, \
                     expires_at = $8, sealed = $9 \
                     WHERE kind = $1 AND id = $2 AND state = $3 AND expires_at > $10",
                )
                .bind(kind.name())
                .bind(to.id)
                .bind(from)
                .bind(to.also)
                .bind(to.sign_in)
                .bind(to.family)
                .bind(to.state)
                .bind(to.expires_at)
                .bind(to.sealed)
                .bind(now.seconds())
                .execute(c)
                .await
            })
        })
        .await
        .map(|done| done.rows_affected() == 1)
    }

    /// Deletes a family of tokens and all its grants. Returns the number of deleted rows.
    ///
    /// # Errors
    /// An error of the database, such as [`StoreError::Unavailable`] if it does not answer in time.
    pub async fn delete_family(&self, family: &str) -> Result<u64, StoreError> {
        let family = family.to_owned();
        self.write_one(Purpose::Write, move |c| {
            Box::pin(async move {
                sqlx::query("DELETE FROM sign_in_grants WHERE family = $1")
                    .bind(family)
                    .execute(c)
                    .await
            })
        })
        .await
        .map(|done| done.rows_affected())
    }

    /// Deletes the access tokens of a family, except the `keep` tokens that expire last.
    ///
    /// # Errors
    /// An error of the database, such as [`StoreError::Unavailable`] if it does not answer in time.
    pub async fn trim_access(&self, family: &str, keep: i64) -> Result<(), StoreError> {
        let family = family.to_owned();
        self.write_one(Purpose::Write, move |c| {
            Box::pin(async move {
                sqlx::query(
                    "DELETE FROM sign_in_grants WHERE kind = 'access' AND family = $1 AND id NOT IN \
                     (SELECT id FROM sign_in_grants WHERE kind = 'access' AND family = $1 \
                     ORDER BY expires_at DESC, id LIMIT $2)",
                )
                .bind(family)
                .bind(keep)
                .execute(c)
                .await
            })
        })
        .await
        .map(drop)
    }

    /// The ids of the device flows that a person has allowed or denied and that have not expired, at most 10,000. Those
    /// for which tokens were issued are among them, so that no node goes on answering that nobody has decided.
    ///
    /// # Errors
    /// An error of the database, such as [`StoreError::Unavailable`] if it does not answer in time.
    pub async fn decided_devices(&self, now: Timestamp) -> Result<Vec<String>, StoreError> {
        let now = now.seconds();
        let rows = self.read(Purpose::Read, DEADLINE, move |c| {
            Box::pin(async move {
                sqlx::query(
                    "SELECT id FROM sign_in_grants WHERE kind = 'device' AND also IS NULL AND expires_at > $1",
                )
                .bind(now)
                .fetch_all(c)
                .await
            })
        });
        let id = |row: &AnyRow| row.try_get(0);
        rows.await?
            .iter()
            .map(id)
            .collect::<Result<_, sqlx::Error>>()
            .map_err(classify)
    }
}

fn grant(row: &AnyRow) -> Result<GrantRow, StoreError> {
    let read = || {
        Ok(GrantRow {
            id: row.try_get(0)?,
            also: row.try_get(1)?,
            sign_in: row.try_get(2)?,
            family: row.try_get(3)?,
            state: row.try_get(4)?,
            expires_at: row.try_get(5)?,
            sealed: row.try_get(6)?,
        })
    };
    read().map_err(classify)
}
