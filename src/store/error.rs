//! Why the store refuses or fails, each with what an operator can do about it.

use std::path::PathBuf;

use crate::base::entropy::NoEntropy;
use crate::files::FileError;

/// The value of `[store] unverified_off_loopback`: what is given up where a database beyond this
/// machine is not verified.
pub const UNVERIFIED_SENTENCE: &str =
    "whoever is on the network in between can read and change the store";

/// Why the store did not do it. Nothing was changed unless it says otherwise.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// No answer, or no connection.
    #[error("the store does not answer: {0}")]
    Unavailable(String),
    /// Made by a later version.
    #[error(
        "the store has schema {found}, which is newer than this program's ({known}); run the newer program"
    )]
    Newer {
        /// What it has.
        found: i64,
        /// What is known here.
        known: i64,
    },
    /// Made by an earlier version, and not brought up to date yet.
    #[error(
        "the store has schema {found}, older than this program's ({known}); `brevet serve` brings it up to date"
    )]
    Older {
        /// What it has.
        found: i64,
        /// What is known here.
        known: i64,
    },
    /// The connection ended.
    #[error("the store does not answer: {0}")]
    Disconnected(String),
    /// Too many callers wait for it.
    #[error("too many callers wait for the store")]
    Busy,
    /// There is no database.
    #[error(
        "{0}: there is no store; `brevet init` makes one, `brevet restore` brings a backup back"
    )]
    Missing(PathBuf),
    /// It is no store, or was damaged.
    #[error("{0}; restore a backup: `brevet restore FILE`")]
    Damaged(String),
    /// A file to restore from is none.
    #[error(
        "{path}: is not a whole backup of a store: {why}; name another file. Nothing was replaced"
    )]
    Backup {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// It was moved.
    #[error(
        "this store was moved to {0}, and what is here is what was left behind: name the other one in [store]. To come back, \
         restore this one: `brevet restore FILE`"
    )]
    Moved(String),
    /// It is a copy that is not complete.
    #[error(
        "this is a copy of a store that `brevet move` was making when it was cut off; run it again"
    )]
    Arriving,
    /// It cannot be moved there.
    #[error("the store cannot be moved: {0}")]
    Unmovable(String),
    /// Another process serves it.
    #[error("{0}: another broker serves this store; SQLite is for one broker, PostgreSQL for many")]
    InUse(PathBuf),
    /// No room, or no right to write.
    #[error("the store cannot be written: {0}")]
    NotWritable(String),
    /// Something else has that name.
    #[error("something has that name, that alias or that unique id already")]
    Taken,
    /// Its address, or the options in it.
    #[error("[store]: {0}")]
    Address(String),
    /// The server is not known to be the database.
    #[error(
        "the database at {server} is not verified: {reason}. Give the server a certificate for that name, and name its CA \
         in [store] ca_file if it is your own; or do without with a lesser sslmode in [store] url, for which [store] needs \
         unverified_off_loopback = \"{UNVERIFIED_SENTENCE}\""
    )]
    Unverified {
        /// `HOST:PORT`
        server: String,
        /// What is wrong with its certificate, or that it has none.
        reason: String,
    },
    /// A file beside it.
    #[error(transparent)]
    File(#[from] FileError),
    /// No chance, no store.
    #[error(transparent)]
    Entropy(#[from] NoEntropy),
    /// A row that this program did not write.
    #[error("the store holds a row that is not understood: {0}")]
    Row(String),
    /// The database holds what no broker wrote, or does not hold what one wrote.
    #[error(
        "{0}: the database was changed by something other than a broker. Put it right, or, if it is meant as it is, \
         `brevet restore --accept` takes it, ends everything that was issued before, and goes on"
    )]
    Tampered(String),
    /// Its rows are written under a master key that is not here.
    #[error(
        "the store is sealed under the master key {0}, which the master key file does not hold; copy the file from a broker \
         that has it"
    )]
    Key(String),
    /// It is at an earlier change than it was.
    #[error(
        "the store is at change {found}, and this broker has seen change {seen}: it was put back to an earlier state"
    )]
    WentBack {
        /// As it is.
        found: i64,
        /// As it was.
        seen: i64,
    },
    /// A backup of an earlier version.
    #[error(
        "{0}: was written by an earlier version, whose rows carry no MACs, so that nobody can tell whether they were \
         changed; `brevet restore FILE --accept` takes them as they are"
    )]
    Unsealed(String),
    /// No key can be derived from the master key.
    #[error("[directory] master_key: {0}")]
    MasterKey(#[from] crate::master_key::MasterKeyError),
}

impl StoreError {
    /// Whether the database holds what no broker wrote.
    pub fn is_tampering(&self) -> bool {
        matches!(self, Self::Tampered(_) | Self::Row(_) | Self::Key(_))
    }
}
