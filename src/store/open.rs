//! Opens a store. Creates the store's own row if the database does not contain a store yet.

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

#[derive(Debug, Clone)]
pub enum Place {
    /// A SQLite file, which one broker can serve at a time.
    Sqlite(PathBuf),
    /// A PostgreSQL database, which several brokers can serve.
    Postgres {
        /// The address, `postgres://USER@HOST/DATABASE`, without a password.
        url: String,
        password: Option<Secret<String>>,
    },
    /// A database in memory, for development and tests.
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

/// The purpose for which a store is opened. It decides in which states the store is accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    Create,
    /// Serves the store; the schema is migrated.
    Serve,
    /// Reads or changes the store beside its broker. The schema must have the version that this program needs.
    Use,
    /// Opens a backup that is to replace a store. A copy of a store that was moved elsewhere is accepted.
    Recover,
    /// Opens the source or the target of `brevet move`. The same states are accepted as for [`Access::Create`], and
    /// also every state that an interrupted move can leave.
    Move,
}

impl Access {
    fn may_create(self) -> bool {
        matches!(self, Self::Create | Self::Move)
    }
}

/// The result of looking for a store in a database.
enum Found {
    Here(RawHead),
    Elsewhere,
    Nothing,
}

impl Store {
    /// Connects to the store, and migrates or checks its schema. [`Entrance`](super::Entrance) then compares it with
    /// the node's watermark.
    ///
    /// # Errors
    /// [`StoreError`] for a store that is missing, moved, locked, damaged, of another schema version or sealed under
    /// another key. Its text says what an operator can do.
    pub async fn open(
        place: &Place,
        access: Access,
        master_key: Option<&MasterKey>,
        now: Timestamp,
        entropy: &dyn Entropy,
    ) -> Result<Self, StoreError> {
        let (engine, options) = driver(place, access)?;
        let file = match place {
            Place::Sqlite(path) => Some(sqlite::OpenFile::of(path)?),
            Place::Postgres { .. } | Place::Memory => None,
        };
        let mut store = Self {
            engine,
            file,
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
            administrators: Mutex::default(),
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
                "the rows of the store have no MACs yet; `brevet serve` adds them when it starts"
                    .to_owned(),
            ));
        }
        store
            .is_unsealed
            .store(raw.is_unsealed(), Ordering::Release);
        store.id = raw.store_id;
        Ok(store)
    }

    /// Looks for the store's own row. If there is none, returns an error unless `access` may create it.
    async fn present(&self, access: Access) -> Result<Found, StoreError> {
        let found = self.read(Purpose::Background, DEADLINE, |c| Box::pin(head::read(c)));
        if let Some(raw) = found.await.map_err(head::unreadable)? {
            return Ok(Found::Here(raw));
        }
        match self.moved_to().await? {
            // Only the rows are copied, so their MACs need not be current.
            Some(_) if access == Access::Move => Ok(Found::Elsewhere),
            Some(to) if to == relocate::ARRIVING => Err(StoreError::Arriving),
            Some(to) => Err(StoreError::Moved(to)),
            None if access.may_create() => Ok(Found::Nothing),
            None => Err(StoreError::Damaged(
                "the database contains no store (for a new database, run `brevet init` instead)"
                    .to_owned(),
            )),
        }
    }

    /// Creates the store's own row. The new store has no records of the past, so MFA codes from before now and sessions
    /// of another store are refused.
    ///
    /// Also returns whether this call created the row. If not, another node has created it first.
    async fn found_anew(
        &self,
        master_key: Option<&MasterKey>,
        now: Timestamp,
        entropy: &dyn Entropy,
    ) -> Result<(RawHead, bool), StoreError> {
        let store_id = crate::base::digest::hex(&entropy::bytes::<8>(entropy)?);
        // A store in memory ends with its process, so it has no past that it could have forgotten.
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
        raw.seal = sealed.map_err(|_| {
            StoreError::Row("the MAC of the store's own row cannot be computed".to_owned())
        })?;
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
