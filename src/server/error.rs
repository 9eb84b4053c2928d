//! Why a daemon does not start.

use std::net::SocketAddr;

use crate::base::entropy::NoEntropy;
use crate::clock_mark::ClockMarkError;
use crate::directory_file::{DirectoryLoadError, TakeError};
use crate::keyring_file::KeyringFileError;
use crate::master_key::MasterKeyError;
use crate::store::{StoreError, WatermarkError};
use crate::tls::TlsError;

/// Why the daemon did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The directory file or its master key.
    #[error(transparent)]
    Directory(#[from] DirectoryLoadError),
    /// What the directory file has cannot be taken in.
    #[error(transparent)]
    Take(#[from] TakeError),
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The store is not what this node knew.
    #[error("[store] watermark: {0}")]
    Watermark(WatermarkError),
    /// The highest time that this node has seen.
    #[error("[store] watermark: {0}")]
    ClockMark(#[from] ClockMarkError),
    /// What the store holds cannot be loaded.
    #[error("the directory in the store cannot be loaded: {0}")]
    Rows(String),
    /// The master key.
    #[error("[directory] master_key: {0}")]
    MasterKey(#[from] MasterKeyError),
    /// No chance.
    #[error(transparent)]
    Entropy(#[from] NoEntropy),
    /// No thread for what is urgent.
    #[error("a thread cannot be started: {0}")]
    Thread(std::io::Error),
    /// The keyring file.
    #[error(transparent)]
    Keyring(#[from] KeyringFileError),
    /// Certificate or private key.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// Nobody knows what clients call this broker.
    #[error("[listen] names: {0}")]
    Names(String),
    /// No TLS to ask identity providers by.
    #[error("tls: {0}")]
    Outbound(#[from] rustls::Error),
    /// The audit log.
    #[error("[audit]: {0}")]
    Audit(std::io::Error),
    /// Redis's address or certificate.
    #[error("[sessions.redis]: {0}")]
    Redis(#[from] ::redis::RedisError),
    /// SIGHUP cannot be received.
    #[error("SIGHUP cannot be received: {0}")]
    Signal(std::io::Error),
    /// An address that cannot be listened on.
    #[error("{key} {address}: {source}; name another address, or port 0 for any free one")]
    Listen {
        /// `[listen] address`
        key: &'static str,
        /// As configured.
        address: SocketAddr,
        /// What the system said.
        source: std::io::Error,
    },
}

impl From<WatermarkError> for StartError {
    fn from(error: WatermarkError) -> Self {
        match error {
            WatermarkError::Store(error) => Self::Store(error),
            other => Self::Watermark(other),
        }
    }
}
