//! Decides which senders may ask: only a proxy that shows a client certificate of the CA in `[s3] client_ca`, or one of
//! the shared secrets. All others are refused, because an answer contains a signature that the store accepts, and
//! because the broker relies on the client address that the proxy reports.

use http::{HeaderMap, HeaderName};

use crate::base::clock::Timestamp;
use crate::base::secret::{Secret, is_same_secret};
use crate::proof::certificate::Certified;

/// The header, and the gRPC metadata, in which a proxy shows its secret.
pub const SECRET_HEADER: HeaderName = HeaderName::from_static("x-brevet-proxy-secret");

/// The proofs by which a sender counts as one of the operator's proxies: a client certificate or a shared secret.
#[derive(Debug, Default)]
pub struct Gate {
    /// The SHA-256 of the file with the CA of client certificates; `None` without such a file. A certificate counts
    /// only if it was verified by this CA.
    pub client_ca: Option<[u8; 32]>,
    /// The names that a certificate may have; `None` accepts every certificate of the CA.
    pub client_names: Option<Vec<String>>,
    pub secrets: Vec<Secret<Vec<u8>>>,
}

impl Gate {
    /// Whether the sender of a request is one of the operator's proxies. `certificate` is the client certificate that
    /// the TLS handshake has verified by a CA; `None` without one.
    pub fn admits(
        &self,
        certificate: Option<&Certified>,
        headers: &HeaderMap,
        now: Timestamp,
    ) -> bool {
        self.certifies(certificate, now) || self.knows(headers)
    }

    /// Whether the certificate is that of one of the operator's proxies.
    pub fn certifies(&self, certificate: Option<&Certified>, now: Timestamp) -> bool {
        let certificate = certificate.and_then(|shown| shown.under(self.client_ca.as_ref()));
        certificate.is_some_and(|certificate| {
            let names = self.client_names.as_ref();
            certificate.is_valid_at(now)
                && names.is_none_or(|names| names.iter().any(|name| name == certificate.name()))
        })
    }

    /// Whether a certificate was verified by a CA that has been replaced since.
    pub fn is_outdated(&self, certificate: &Certified) -> bool {
        certificate.under(self.client_ca.as_ref()).is_none()
    }

    /// Whether a request has exactly one secret, and its value is one of the shared secrets. The value is compared with
    /// all shared secrets, so that the response time does not reveal which of them matched.
    fn knows(&self, headers: &HeaderMap) -> bool {
        let mut shown = headers.get_all(SECRET_HEADER).iter();
        let (Some(secret), None) = (shown.next(), shown.next()) else {
            return false;
        };
        let same = |own: &Secret<Vec<u8>>| is_same_secret(own.expose(), secret.as_bytes());
        self.secrets.iter().fold(false, |any, own| any | same(own))
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;
    use rcgen::{CertificateParams, DnType, KeyPair};

    use super::*;
    use crate::proof::certificate::ClientCertificate;

    const CA: [u8; 32] = [1; 32];

    fn certificate(name: &str) -> Certified {
        let mut params = CertificateParams::default();
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, name);
        params.not_before = rcgen::date_time_ymd(2026, 1, 1);
        params.not_after = rcgen::date_time_ymd(2026, 12, 31);
        let made = params.self_signed(&KeyPair::generate().unwrap()).unwrap();
        Certified::new(
            ClientCertificate::read(made.der(), b"connection").unwrap(),
            CA,
        )
    }

    fn shown(secrets: &[&str]) -> HeaderMap {
        let values = secrets.iter().map(|secret| {
            let value = HeaderValue::from_str(secret).unwrap();
            (SECRET_HEADER, value)
        });
        values.collect()
    }

    #[test]
    fn an_06_only_the_operators_proxies_may_ask() {
        let now = Timestamp::from_amz("20260601T000000Z").unwrap();
        let secrets = ["first-secret-of-the-proxies", "second-secret"];
        let gate = Gate {
            client_ca: Some(CA),
            client_names: Some(vec!["CN=envoy".to_owned()]),
            secrets: secrets.map(|s| Secret::new(s.into())).to_vec(),
        };
        let admits = |headers: &[&str]| gate.admits(None, &shown(headers), now);
        assert!(admits(&[secrets[0]]) && admits(&[secrets[1]]));
        for wrong in [
            &[][..],
            &[""],
            &["first-secret-of-the-proxie"],
            &["first-secret-of-the-proxies, second-secret"],
            &[secrets[0], secrets[0]],
            &[secrets[0], "x"],
        ] {
            assert!(!admits(wrong), "{wrong:?}");
        }
        let certified = |name: &str, gate: &Gate, now| {
            gate.admits(Some(&certificate(name)), &HeaderMap::new(), now)
        };
        assert!(certified("envoy", &gate, now));
        assert!(!certified("workload", &gate, now));
        let late = Timestamp::from_amz("20270601T000000Z").unwrap();
        assert!(!certified("envoy", &gate, late));
        let of_the_ca = Gate {
            client_ca: Some(CA),
            ..Gate::default()
        };
        assert!(certified("workload", &of_the_ca, now));
        assert!(!of_the_ca.admits(None, &shown(&[""]), now));
    }

    #[test]
    fn tr_07_a_certificate_of_a_replaced_ca_admits_nobody() {
        let now = Timestamp::from_amz("20260601T000000Z").unwrap();
        let envoy = certificate("envoy");
        for (client_ca, is_admitted) in [(Some(CA), true), (Some([2; 32]), false), (None, false)] {
            let gate = Gate {
                client_ca,
                secrets: vec![Secret::new(b"a-secret-of-the-proxies".to_vec())],
                ..Gate::default()
            };
            let admits = |headers: &HeaderMap| gate.admits(Some(&envoy), headers, now);
            assert_eq!(admits(&HeaderMap::new()), is_admitted);
            assert_eq!(gate.certifies(Some(&envoy), now), is_admitted);
            assert_eq!(gate.is_outdated(&envoy), !is_admitted);
            // What else the sender shows counts as before.
            assert!(admits(&shown(&["a-secret-of-the-proxies"])));
        }
    }
}
