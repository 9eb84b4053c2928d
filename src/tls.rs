//! rustls set-up: certificate and key files to a server configuration. TLS 1.2 and 1.3, ring.

use std::path::Path;
use std::sync::Arc;

use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

use crate::files::{self, Audience, FileError};

const MAX_FILE_BYTES: u64 = 1 << 20;

/// Why a certificate or its key was refused.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// One of the files.
    #[error(transparent)]
    File(#[from] FileError),
    /// Not PEM, or nothing in it.
    #[error("{path}: must hold {what} in PEM")]
    Pem {
        /// The file.
        path: std::path::PathBuf,
        /// What was looked for.
        what: &'static str,
    },
    /// The two do not belong together, or rustls does not take them.
    #[error("tls: the certificate and the private key cannot be used: {0}")]
    Unusable(#[from] rustls::Error),
}

/// Reads a certificate chain and its private key (mode 0600).
///
/// # Errors
/// Names the file and the rule; a certificate and key that do not belong together are refused.
pub fn server_config(certificate: &Path, private_key: &Path) -> Result<Arc<ServerConfig>, TlsError> {
    let pem = |path: &Path, what| TlsError::Pem { path: path.to_owned(), what };
    let chain = files::read(certificate, Audience::Everyone, MAX_FILE_BYTES)?;
    let chain: Vec<CertificateDer<'static>> = CertificateDer::pem_slice_iter(chain.expose())
        .collect::<Result<_, _>>()
        .map_err(|_| pem(certificate, "a certificate chain"))?;
    if chain.is_empty() {
        return Err(pem(certificate, "a certificate chain"));
    }
    let key = files::read(private_key, Audience::Owner, MAX_FILE_BYTES)?;
    let key = PrivateKeyDer::from_pem_slice(key.expose()).map_err(|_| pem(private_key, "a private key"))?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(chain, key)?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}
