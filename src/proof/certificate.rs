//! The names and the dates in a client certificate. The TLS handshake has verified that a trusted
//! CA issued the certificate, and that the client has its private key.

use std::sync::Arc;

use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer, X509Certificate};
use x509_parser::x509::X509Name;

use crate::base::clock::Timestamp;
use crate::base::digest::{hex, sha256};

/// The scheme of SPIFFE IDs, which identify workloads by URI.
const SPIFFE: &str = "spiffe://";

/// The name and the validity of the certificate with which a client connected.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientCertificate {
    /// The certificate's SPIFFE ID, or its subject if it has none. The directory maps this name to
    /// a user.
    name: String,
    not_before: Timestamp,
    not_after: Timestamp,
    /// A digest of a secret that only the two ends of the connection know.
    connection: [u8; 16],
}

impl ClientCertificate {
    /// Parses a certificate in DER. `connection` is a secret that only the two ends of this
    /// connection know. Returns `None` if the certificate is malformed, or has several URIs in its
    /// subject alternative names: a SPIFFE ID must be the only one (X509-SVID section 2).
    pub fn read(der: &[u8], connection: &[u8]) -> Option<Self> {
        let (_, parsed) = X509Certificate::from_der(der).ok()?;
        let names = parsed.subject_alternative_name().ok()?;
        let names = names.map(|extension| extension.value.general_names.as_slice());
        let mut uris = names
            .unwrap_or_default()
            .iter()
            .filter_map(|name| match name {
                GeneralName::URI(uri) => Some(*uri),
                _ => None,
            });
        let name = match (uris.next(), uris.next()) {
            (Some(uri), None) if uri.starts_with(SPIFFE) => uri.to_owned(),
            (_, Some(_)) => return None,
            _ => subject(parsed.subject()),
        };
        let at = |time: x509_parser::time::ASN1Time| Timestamp::from_seconds(time.timestamp());
        Some(Self {
            name,
            not_before: at(parsed.validity().not_before),
            not_after: at(parsed.validity().not_after),
            connection: sha256(connection).first_chunk().copied()?,
        })
    }

    /// The certificate's SPIFFE ID or subject, which the directory maps to a user.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Returns whether the certificate is valid at this time. The first and the last second of its
    /// validity are included: RFC 5280 section 4.1.2.5.
    pub fn is_valid_at(&self, now: Timestamp) -> bool {
        (self.not_before.seconds()..=self.not_after.seconds()).contains(&now.seconds())
    }

    /// A digest that identifies the connection, so that it differs from that of every other
    /// connection.
    pub fn connection(&self) -> [u8; 16] {
        self.connection
    }
}

/// The certificate of a client, and a digest of the CA file by which the TLS handshake has verified it.
#[derive(Debug, Clone)]
pub struct Certified {
    certificate: Arc<ClientCertificate>,
    ca: [u8; 32],
}

impl Certified {
    /// A certificate that was verified by the CA file with the SHA-256 `ca`.
    pub fn new(certificate: ClientCertificate, ca: [u8; 32]) -> Self {
        Self {
            certificate: Arc::new(certificate),
            ca,
        }
    }

    /// The certificate, if `trusted` is the digest of the CA file that has verified it. A connection may be older than
    /// the file that is trusted now, so every request asks again.
    pub fn under(&self, trusted: Option<&[u8; 32]>) -> Option<&Arc<ClientCertificate>> {
        (trusted == Some(&self.ca)).then_some(&self.certificate)
    }
}

/// Formats a subject as RFC 4514 does: the most specific name first, with special characters and non-ASCII bytes
/// escaped. Two subjects with different attributes or values never have the same text.
fn subject(name: &X509Name<'_>) -> String {
    let mut relative: Vec<String> = name
        .iter_rdn()
        .map(|rdn| {
            let parts: Vec<String> = rdn
                .iter()
                .map(|part| {
                    let oid = part.attr_type().to_id_string();
                    let value = part.attr_value();
                    match (short_name(&oid), part.as_str()) {
                        (Some(short), Ok(text)) => format!("{short}={}", escaped(text)),
                        _ => format!("{oid}=#{}", hex(value.data)),
                    }
                })
                .collect();
            parts.join("+")
        })
        .collect();
    relative.reverse();
    relative.join(",")
}

/// Returns the short name of an attribute type, such as `CN`: RFC 4514 section 3.
fn short_name(oid: &str) -> Option<&'static str> {
    Some(match oid {
        "2.5.4.3" => "CN",
        "2.5.4.7" => "L",
        "2.5.4.8" => "ST",
        "2.5.4.10" => "O",
        "2.5.4.11" => "OU",
        "2.5.4.6" => "C",
        "2.5.4.9" => "STREET",
        "0.9.2342.19200300.100.1.25" => "DC",
        "0.9.2342.19200300.100.1.1" => "UID",
        _ => return None,
    })
}

/// Escapes the value of an attribute: RFC 4514 section 2.4.
fn escaped(text: &str) -> String {
    let last = text.len().saturating_sub(1);
    let mut out = String::with_capacity(text.len());
    for (at, byte) in text.bytes().enumerate() {
        let at_an_end = (at == 0 && (byte == b' ' || byte == b'#')) || (at == last && byte == b' ');
        match byte {
            b'"' | b'+' | b',' | b';' | b'<' | b'>' | b'\\' => {
                out.push('\\');
                out.push(char::from(byte));
            }
            _ if at_an_end => {
                out.push('\\');
                out.push(char::from(byte));
            }
            0x20..=0x7e => out.push(char::from(byte)),
            _ => out.push_str(&format!("\\{byte:02X}")),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, DnType, KeyPair, SanType};

    use super::*;

    fn name(uris: &[&str], names: &[(DnType, &str)]) -> Option<String> {
        let mut params = CertificateParams::default();
        params.distinguished_name = rcgen::DistinguishedName::new();
        for (kind, value) in names {
            params.distinguished_name.push(kind.clone(), *value);
        }
        for uri in uris {
            params
                .subject_alt_names
                .push(SanType::URI((*uri).try_into().unwrap()));
        }
        let made = params.self_signed(&KeyPair::generate().unwrap()).unwrap();
        ClientCertificate::read(made.der(), b"secret").map(|c| c.name().to_owned())
    }

    #[test]
    fn a_certificate_has_one_name() {
        let of = |names: &[(DnType, &str)]| name(&[], names).unwrap();
        assert_eq!(
            of(&[
                (DnType::OrganizationName, "Example Inc"),
                (DnType::CommonName, "node-1")
            ]),
            "CN=node-1,O=Example Inc"
        );
        // A comma in a value is not the end of the value.
        assert_eq!(
            of(&[(DnType::CommonName, "node-1,O=Other")]),
            "CN=node-1\\,O=Other"
        );
        assert_eq!(of(&[(DnType::CommonName, " #é ")]), "CN=\\ #\\C3\\A9\\ ");
        let id = "spiffe://example.org/node/1";
        let common = [(DnType::CommonName, "node-1")];
        assert_eq!(name(&[id], &common).as_deref(), Some(id));
        assert_eq!(name(&[id, "spiffe://example.org/node/2"], &common), None);
        assert_eq!(
            name(&["https://example.org"], &common).as_deref(),
            Some("CN=node-1")
        );
        assert_eq!(ClientCertificate::read(b"no certificate", b"secret"), None);
    }
}
