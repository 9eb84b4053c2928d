//! The errors that keep a daemon from starting.

use std::net::SocketAddr;

use crate::base::entropy::NoEntropy;
use crate::clock_mark::ClockMarkError;
use crate::directory_file::{DirectoryLoadError, TakeError};
use crate::keyring_file::KeyringFileError;
use crate::master_key::MasterKeyError;
use crate::store::{StoreError, WatermarkError};
use crate::tls::TlsError;

#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The directory file or its master key cannot be loaded.
    #[error(transparent)]
    Directory(#[from] DirectoryLoadError),
    /// The store cannot record the entries of the directory file.
    #[error(transparent)]
    Take(#[from] TakeError),
    /// The store cannot be opened, or an operation of it failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The store was put back to an earlier state, or is not the store that this node has seen before.
    #[error("[store] watermark: {0}")]
    Watermark(WatermarkError),
    /// The file with the latest time that this node has seen cannot be used.
    #[error("[store] watermark: {0}")]
    ClockMark(#[from] ClockMarkError),
    /// A row of the store cannot be loaded.
    #[error("the directory in the store cannot be loaded: {0}")]
    Rows(String),
    #[error("[directory] master_key: {0}")]
    MasterKey(#[from] MasterKeyError),
    #[error(transparent)]
    Entropy(#[from] NoEntropy),
    /// A thread for calls, or a runtime for calls or for urgent work, cannot be started.
    #[error(
        "a runtime or thread of the broker cannot be started: {0}; if too many files are open, raise the limit \
         (`ulimit -n`, `LimitNOFILE=`)"
    )]
    Thread(std::io::Error),
    #[error(transparent)]
    Keyring(#[from] KeyringFileError),
    /// The certificate or its private key cannot be loaded.
    #[error("[tls]: {0}")]
    Tls(#[from] TlsError),
    /// Neither the configuration nor the certificate has a host name by which clients call this broker.
    #[error("[listen] names: {0}")]
    Names(String),
    /// TLS to identity providers cannot be set up.
    #[error("TLS to identity providers cannot be set up: {0}")]
    Outbound(#[from] rustls::Error),
    #[error("[audit]: {0}")]
    Audit(std::io::Error),
    /// The address or the CA of Redis cannot be used.
    #[error("[sessions.redis]: {0}")]
    Redis(#[from] ::redis::RedisError),
    /// A file of the listener for proxies, or the key of a store, cannot be used.
    #[error("[s3]: {0}")]
    S3(String),
    #[error("the handler for SIGHUP cannot be installed: {0}")]
    Signal(std::io::Error),
    #[error("{key} {address}: {source}; set another address, or port 0 for any free one")]
    Listen {
        /// The key of the configuration, such as `[listen] address`.
        key: &'static str,
        address: SocketAddr,
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
