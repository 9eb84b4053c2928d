//! Opening a store: where it is, what for, and its first row where it is made.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, Once};

use arc_swap::ArcSwap;
use sqlx::any::AnyConnectOptions;

use super::address;
use super::head::{self, RawHead};
use super::integrity::{self, Contents, Keys};
use super::lanes::{Lanes, Purpose};
use super::mfa_attempts::Remembered;
use super::{DEADLINE, Engine, KEEP_CHANGES, Store, StoreError, relocate, sqlite};
use crate::base::clock::Timestamp;
use crate::base::entropy::{self, Entropy};
use crate::base::secret::Secret;
use crate::master_key::MasterKey;

/// Where the store is.
#[derive(Debug, Clone)]
pub enum Place {
    /// A file; one broker at a time.
    Sqlite(PathBuf),
    /// `postgres://USER@HOST/DATABASE`, no password in it.
    Postgres {
        /// The address.
        url: String,
        /// Its password.
        password: Option<Secret<String>>,
    },
    /// Nowhere. Development alone.
    Memory,
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Sqlite(path) => write!(f, "{}", path.display()),
            Self::Postgres { url, .. } => f.write_str(url),
            Self::Memory => f.write_str("in memory"),
        }
    }
}

/// What a store is opened for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// To make one where there is none.
    Create,
    /// To serve it: the schema is brought up to date.
    Serve,
    /// To read or change it beside its broker: the schema must be this program's.
    Use,
    /// A copy, to be put in a store's place: it may be one that was moved elsewhere.
    Recover,
    /// To move it, or to move another one there: as [`Access::Create`], in whatever state a move that was
    /// cut off has left it.
    Move,
}

impl Access {
    fn may_create(self) -> bool {
        matches!(self, Self::Create | Self::Move)
    }
}

/// What a database holds.
enum Found {
    /// A store.
    Here(RawHead),
    /// A store that was moved elsewhere.
    Elsewhere,
    /// No store yet.
    Nothing,
}

impl Store {
    /// Connects, and brings the schema up to date or checks it. Whether the store is the one that this
    /// node has seen is for [`Entrance`](super::Entrance) to check.
    ///
    /// # Errors
    /// Each with the way out.
    pub async fn open(
        place: &Place,
        access: Access,
        master_key: Option<&MasterKey>,
        now: Timestamp,
        entropy: &dyn Entropy,
    ) -> Result<Self, StoreError> {
        let (engine, options) = driver(place, access)?;
        let mut store = Self {
            engine,
            options,
            lanes: Lanes::new(engine),
            metrics: Arc::default(),
            seen: tokio::sync::Mutex::default(),
            mfa: Remembered::default(),
            id: String::new(),
            keep_changes: KEEP_CHANGES,
            keys: ArcSwap::from_pointee(Keys::derive(master_key, "")?),
            suspicion: Mutex::default(),
            reached: Mutex::default(),
            known: Mutex::default(),
            is_unsealed: AtomicBool::new(false),
            is_new: false,
        };
        if access == Access::Use {
            store.check_schema().await?
        } else {
            store.migrate().await?
        }
        if access == Access::Recover {
            store.stay().await?;
        }
        let raw = match store.present(access).await? {
            Found::Here(raw) => raw,
            Found::Elsewhere => return Ok(store),
            Found::Nothing => {
                let (raw, is_new) = store.found_anew(master_key, now, entropy).await?;
                store.is_new = is_new;
                raw
            }
        };
        store
            .keys
            .store(Keys::derive(master_key, &raw.store_id)?.into());
        if raw.is_unsealed() && access == Access::Use {
            return Err(StoreError::Address(
                "the rows of the store carry no MACs yet; `brevet serve` makes them".to_owned(),
            ));
        }
        store
            .is_unsealed
            .store(raw.is_unsealed(), Ordering::Release);
        store.id = raw.store_id;
        Ok(store)
    }

    /// Looks for the store's own row. That there is none is an error unless one may be made.
    async fn present(&self, access: Access) -> Result<Found, StoreError> {
        let found = self.read(Purpose::Background, DEADLINE, |c| Box::pin(head::read(c)));
        if let Some(raw) = found.await? {
            return Ok(Found::Here(raw));
        }
        match self.moved_to().await? {
            // Only its rows are read, as they are.
            Some(_) if access == Access::Move => Ok(Found::Elsewhere),
            Some(to) if to == relocate::ARRIVING => Err(StoreError::Arriving),
            Some(to) => Err(StoreError::Moved(to)),
            None if access.may_create() => Ok(Found::Nothing),
            None => Err(StoreError::Damaged(
                "the database has no store in it; `brevet init` makes one, if it is a new one"
                    .to_owned(),
            )),
        }
    }

    /// A store that knows nothing of the past: sessions of another store end with it, and codes from
    /// before it are not taken. Whether this call made it: another node may have been first.
    async fn found_anew(
        &self,
        master_key: Option<&MasterKey>,
        now: Timestamp,
        entropy: &dyn Entropy,
    ) -> Result<(RawHead, bool), StoreError> {
        let store_id = crate::base::digest::hex(&entropy::bytes::<8>(entropy)?);
        // One in memory ends with its process, and never had a past.
        let not_before = if self.engine == Engine::Memory {
            0
        } else {
            now.seconds()
        };
        let chain = integrity::beginning(&store_id);
        let mut raw = RawHead {
            store_id,
            sequence: 0,
            not_before,
            chain,
            seal: String::new(),
        };
        let keys = Keys::derive(master_key, &raw.store_id)?;
        let sealed = keys.first()?.seal(&raw.place(), &Contents::empty(1));
        raw.seal = sealed
            .map_err(|_| StoreError::Row("the store's own row cannot be sealed".to_owned()))?;
        let row = raw.clone();
        let done = self.write_one(Purpose::Background, move |c| {
            Box::pin(async move {
                sqlx::query(
                    "INSERT INTO store (id, store_id, sequence, not_before, chain, seal) \
                     VALUES (1, $1, $2, $3, $4, $5) ON CONFLICT DO NOTHING",
                )
                .bind(row.store_id)
                .bind(row.sequence)
                .bind(row.not_before)
                .bind(row.chain)
                .bind(row.seal)
                .execute(c)
                .await
            })
        });
        done.await?;
        let there = self.raw_head(Purpose::Background).await?;
        let is_new = there.store_id == raw.store_id;
        Ok((there, is_new))
    }
}

fn driver(place: &Place, access: Access) -> Result<(Engine, AnyConnectOptions), StoreError> {
    static DRIVERS: Once = Once::new();
    DRIVERS.call_once(sqlx::any::install_default_drivers);
    Ok(match place {
        Place::Sqlite(path) => (Engine::Sqlite, sqlite::options(path, access.may_create())?),
        Place::Postgres { url, password } => (
            Engine::Postgres,
            address::postgres_options(url, password.as_ref())?,
        ),
        Place::Memory => (Engine::Memory, address::driver_options("sqlite::memory:")?),
    })
}
