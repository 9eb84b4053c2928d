//! TLS: loads certificate and key files into a rustls configuration (TLS 1.2 and 1.3, with ring), and reads
//! the names and dates of the certificate.

use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;

use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::ClientCertVerifier;
use rustls::{RootCertStore, ServerConfig};
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer, X509Certificate};

use crate::base::clock::Timestamp;
use crate::base::digest::sha256;
use crate::base::host_names::HostName;
use crate::files::{self, Audience, FileError};

const MAX_FILE_BYTES: u64 = 1 << 20;

#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    #[error(transparent)]
    File(#[from] FileError),
    /// A file is not in PEM, or does not contain `what`.
    #[error("{path}: must contain {what} in PEM")]
    Pem {
        path: std::path::PathBuf,
        /// What the file should contain, such as `a private key`.
        what: &'static str,
    },
    /// The private key does not fit the certificate, or rustls does not support them.
    #[error("the certificate and the private key cannot be used together: {0}")]
    Unusable(#[from] rustls::Error),
}

/// The certificate of a server with its private key, and the facts that were read from the certificate.
pub struct Identity {
    /// The rustls configuration of a server with this certificate.
    pub config: Arc<ServerConfig>,
    /// The DNS names and IP addresses in the certificate's subject alternative names.
    pub names: Vec<HostName>,
    /// The first and the last instant at which the certificate is valid; `None` if the dates cannot be read.
    pub validity: Option<(Timestamp, Timestamp)>,
    /// The SHA-256 of the file with the CA of client certificates; `None` without such a file.
    pub client_ca: Option<[u8; 32]>,
}

/// Whether clients may or must show a certificate. The path names a file with the CA certificates by which client
/// certificates are verified. The handshake fails for a client that shows a certificate of another CA.
#[derive(Debug, Clone, Copy)]
pub enum Clients<'a> {
    /// Clients are not asked for a certificate.
    Unknown,
    MayBeCertified(&'a Path),
    Certified(&'a Path),
}

/// Reads a certificate chain and its private key, whose file must be private to its owner.
///
/// # Errors
/// [`TlsError`] if a file cannot be read or is not in PEM, or if the key does not belong to the certificate.
pub fn load(
    certificate: &Path,
    private_key: &Path,
    clients: Clients<'_>,
) -> Result<Identity, TlsError> {
    let pem = |path: &Path, what| TlsError::Pem {
        path: path.to_owned(),
        what,
    };
    let chain = files::read(certificate, Audience::Everyone, MAX_FILE_BYTES)?;
    let chain: Vec<CertificateDer<'static>> = CertificateDer::pem_slice_iter(chain.expose())
        .collect::<Result<_, _>>()
        .map_err(|_| pem(certificate, "a certificate chain"))?;
    let first = chain
        .first()
        .ok_or_else(|| pem(certificate, "a certificate chain"))?;
    let (names, validity) = (names(first), validity(first));
    let key = files::read(private_key, Audience::Owner, MAX_FILE_BYTES)?;
    let key = PrivateKeyDer::from_pem_slice(key.expose())
        .map_err(|_| pem(private_key, "a private key"))?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let clients = match clients {
        Clients::Unknown => None,
        Clients::MayBeCertified(ca) => Some((ca, false)),
        Clients::Certified(ca) => Some((ca, true)),
    };
    let clients = clients
        .map(|(ca, is_required)| client_verifier(ca, is_required, provider.clone()))
        .transpose()?;
    let (verifier, client_ca) = clients.unzip();
    let builder =
        ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
    let builder = match verifier {
        Some(verifier) => builder.with_client_cert_verifier(verifier),
        None => builder.with_no_client_auth(),
    };
    let mut config = builder.with_single_cert(chain, key)?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(Identity {
        config: Arc::new(config),
        names,
        validity,
        client_ca,
    })
}

/// Makes a verifier for the certificates of clients from the CA certificates in a file. Also returns the SHA-256 of the
/// file.
fn client_verifier(
    path: &Path,
    is_required: bool,
    provider: Arc<CryptoProvider>,
) -> Result<(Arc<dyn ClientCertVerifier>, [u8; 32]), TlsError> {
    let unfit = || TlsError::Pem {
        path: path.to_owned(),
        what: "CA certificates",
    };
    let text = files::read(path, Audience::Everyone, MAX_FILE_BYTES)?;
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(text.expose()) {
        let certificate = certificate.map_err(|_| unfit())?;
        roots.add(certificate).map_err(|_| unfit())?;
    }
    let builder = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
    let builder = match is_required {
        true => builder,
        false => builder.allow_unauthenticated(),
    };
    let verifier = builder.build().map_err(|_| unfit())?;
    Ok((verifier, sha256(text.expose())))
}

impl<'a> From<Option<&'a Path>> for Clients<'a> {
    fn from(ca: Option<&'a Path>) -> Self {
        ca.map_or(Self::Unknown, Self::MayBeCertified)
    }
}

/// The subject alternative names of a certificate; empty if it has none or cannot be read. The common name is ignored
/// (RFC 9525 section 2).
fn names(certificate: &[u8]) -> Vec<HostName> {
    let Ok((_, parsed)) = X509Certificate::from_der(certificate) else {
        return Vec::new();
    };
    let Ok(Some(extension)) = parsed.subject_alternative_name() else {
        return Vec::new();
    };
    let name = |general: &GeneralName<'_>| match general {
        GeneralName::DNSName(name) => HostName::parse(name),
        GeneralName::IPAddress(octets) => {
            let v4 = <[u8; 4]>::try_from(*octets).map(IpAddr::from);
            let v6 = <[u8; 16]>::try_from(*octets).map(IpAddr::from);
            v4.or(v6)
                .ok()
                .map(|ip| HostName::Address(ip.to_canonical()))
        }
        _ => None,
    };
    extension
        .value
        .general_names
        .iter()
        .filter_map(name)
        .collect()
}

/// When the first certificate of a file, which is the broker's own, expires.
///
/// # Errors
/// [`TlsError`] if the file cannot be read, or does not contain a certificate in PEM.
pub fn not_after(certificate: &Path) -> Result<Timestamp, TlsError> {
    let pem = || TlsError::Pem {
        path: certificate.to_owned(),
        what: "a certificate",
    };
    let chain = files::read(certificate, Audience::Everyone, MAX_FILE_BYTES)?;
    let first = CertificateDer::from_pem_slice(chain.expose()).map_err(|_| pem())?;
    validity(&first).map(|(_, until)| until).ok_or_else(pem)
}

/// The first and the last instant at which a certificate is valid (RFC 5280 section 4.1.2.5).
fn validity(certificate: &[u8]) -> Option<(Timestamp, Timestamp)> {
    let (_, parsed) = X509Certificate::from_der(certificate).ok()?;
    let validity = parsed.validity();
    let at = |time: x509_parser::time::ASN1Time| Timestamp::from_seconds(time.timestamp());
    Some((at(validity.not_before), at(validity.not_after)))
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_end_of_a_certificate_is_read() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("tls.crt");
        for (year, expected) in [
            (2049, "2049-07-08T00:00:00Z"),
            (2051, "2051-07-08T00:00:00Z"),
        ] {
            let key = rcgen::KeyPair::generate().unwrap();
            let mut params = rcgen::CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
            params.not_after = rcgen::date_time_ymd(year, 7, 8);
            crate::files::write_private(&path, params.self_signed(&key).unwrap().pem().as_bytes())
                .unwrap();
            assert_eq!(super::not_after(&path).unwrap().to_string(), expected);
        }
        crate::files::write_private(&path, b"nothing").unwrap();
        assert!(
            super::not_after(&path)
                .unwrap_err()
                .to_string()
                .contains("must contain a certificate in PEM")
        );
    }

    #[test]
    fn a_certificate_names_hosts_and_addresses() {
        let of = |names: &[&str]| {
            let mut parameters = rcgen::CertificateParams::default();
            for text in names {
                parameters.subject_alt_names.push(match text.parse() {
                    Ok(ip) => rcgen::SanType::IpAddress(ip),
                    Err(_) if text.contains('@') => {
                        rcgen::SanType::Rfc822Name((*text).try_into().unwrap())
                    }
                    Err(_) => rcgen::SanType::DnsName((*text).try_into().unwrap()),
                });
            }
            parameters
                .distinguished_name
                .push(rcgen::DnType::CommonName, "common.example");
            let made = parameters
                .self_signed(&rcgen::KeyPair::generate().unwrap())
                .unwrap();
            super::names(made.der())
                .iter()
                .map(ToString::to_string)
                .collect::<Vec<_>>()
        };
        let all = [
            "STS.example.com",
            "*.example.org",
            "192.0.2.1",
            "2001:db8::1",
            "a@example.com",
        ];
        assert_eq!(
            of(&all),
            [
                "sts.example.com",
                "*.example.org",
                "192.0.2.1",
                "[2001:db8::1]"
            ]
        );
        assert!(of(&[]).is_empty());
        assert!(super::names(b"no certificate").is_empty());
    }
}
