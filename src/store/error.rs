//! The errors of the store. Each text is for the operator.

use std::path::PathBuf;

use crate::base::entropy::NoEntropy;
use crate::files::FileError;

/// The required value of `[store] unverified_off_loopback`. By this sentence an operator accepts the risk of an
/// unverified database on another machine.
pub const UNVERIFIED_SENTENCE: &str =
    "whoever is on the network in between can read and change the store";

/// Why an operation of the store failed. Unless the variant says otherwise, nothing was changed; if the database failed
/// while it committed, the change may have been made.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The database cannot be reached, did not answer in time, or failed in a way that has no variant.
    #[error("the store does not answer as it should: {0}")]
    Unavailable(String),
    /// A later version of Brevet has changed the store's schema.
    #[error(
        "the store has schema {found}, which is newer than this program's ({known}); run the newer program"
    )]
    Newer {
        found: i64,
        /// The latest schema version that this program knows.
        known: i64,
    },
    /// An earlier version of Brevet made the store, and no broker has migrated it yet.
    #[error(
        "the store has schema {found}, older than this program's ({known}); `brevet serve` brings it up to date"
    )]
    Older {
        found: i64,
        /// The schema version that this program needs.
        known: i64,
    },
    /// The connection to the database ended; another attempt gets a new one.
    #[error("the store does not answer: {0}")]
    Disconnected(String),
    /// Too many callers are waiting for a connection.
    #[error("too many callers are waiting for the store")]
    Busy,
    /// The database file does not exist.
    #[error(
        "{0}: there is no store; create one with `brevet init`, or restore a backup with `brevet restore`"
    )]
    Missing(PathBuf),
    #[error("{0}; restore a backup: `brevet restore FILE`")]
    Damaged(String),
    /// The file for `brevet restore` is not a complete backup.
    #[error(
        "{path}: is not a complete backup of a store: {why}. Nothing was replaced; choose another file"
    )]
    Backup { path: PathBuf, why: String },
    /// `brevet move` has moved the store; holds the address of the new one.
    #[error(
        "this store was moved to {0}, and this is the old copy: set [store] to the new one. To use the old copy \
         again, run \
         `brevet restore FILE`"
    )]
    Moved(String),
    /// The database is the target of a `brevet move` that was interrupted.
    #[error(
        "this is an incomplete copy of a store, since `brevet move` was interrupted; run `brevet move` again"
    )]
    Arriving,
    /// `brevet move` cannot move the store to this database; holds the reason.
    #[error("the store cannot be moved: {0}")]
    Unmovable(String),
    /// Another process has locked the SQLite store.
    #[error(
        "{0}: another broker serves this store, or another brevet command is using it; stop it first (a SQLite store is \
         for one broker, PostgreSQL for several)"
    )]
    InUse(PathBuf),
    /// The disk is full, or the process or database user may not write.
    #[error("the store cannot be written: {0}")]
    NotWritable(String),
    /// The change breaks a unique constraint: another entry already has the name, alias or unique id.
    #[error("another entry already has the same name, alias or unique id")]
    Taken,
    /// The address of the store, or an option in it, breaks a rule.
    #[error("[store]: {0}")]
    Address(String),
    /// The PostgreSQL server did not prove its identity by a certificate.
    #[error(
        "the database at {server} is not verified: {reason}. Give the server a valid certificate for that name, and name its CA \
         in [store] ca_file if it is your own (`brevet move --ca-file`, `brevet init --store-ca-file`); or accept an \
         unverified server with a lower sslmode in [store] url, for which [store] needs unverified_off_loopback = \
         \"{UNVERIFIED_SENTENCE}\""
    )]
    Unverified {
        /// The server as `HOST:PORT`.
        server: String,
        /// The fault in the server's certificate, or that the server has none.
        reason: String,
    },
    /// A file beside the store, such as its lock or its watermark, cannot be read or written.
    #[error(transparent)]
    File(#[from] FileError),
    #[error(transparent)]
    Entropy(#[from] NoEntropy),
    /// A row does not have the form in which this program writes rows.
    #[error("the content of the store cannot be used: {0}")]
    Row(String),
    /// The database has rows that no broker wrote, or lacks rows that a broker wrote.
    #[error(
        "{0}: the database was changed by something other than a broker. Undo the change, or, if it is intended, \
         accept it \
         with `brevet restore --accept`, which ends every session that was issued before"
    )]
    Tampered(String),
    /// The rows are sealed under a master key that is not in the master key file.
    #[error(
        "the store is sealed under the master key {0}, which is not in the master key file; copy the file from a \
         broker \
         that has it"
    )]
    Key(String),
    /// The last change of the store is earlier than one that this node has already seen.
    #[error(
        "the store is at change {found}, but this broker has seen change {seen}: the store was restored to an earlier \
         state. To continue with the store as it is, run `brevet restore --accept`, which ends everything that was \
         issued before"
    )]
    WentBack {
        /// The number of the store's last change.
        found: i64,
        /// The number of the last change that this node has seen.
        seen: i64,
    },
    /// A backup of an earlier version, whose rows have no MACs.
    #[error(
        "{0}: this backup was written by an earlier version of Brevet and its rows have no MACs, so changes to them \
         cannot be detected; to accept them as they are, run `brevet restore FILE --accept`"
    )]
    Unsealed(String),
    /// The keys of the store cannot be derived from the master key.
    #[error("[directory] master_key: {0}")]
    MasterKey(#[from] crate::master_key::MasterKeyError),
}

impl StoreError {
    /// Whether the error means that something other than a broker may have written to the database.
    pub fn is_tampering(&self) -> bool {
        matches!(
            self,
            Self::Tampered(_) | Self::Row(_) | Self::Key(_) | Self::Damaged(_)
        )
    }
}
