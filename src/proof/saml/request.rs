//! Authentication requests in the URL of an identity provider: SAML Core 2.0 section 3.4.1, SAML
//! Bindings 2.0 section 3.4 (HTTP Redirect).

use std::fmt;
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use ring::rand::SystemRandom;
use ring::rsa;
use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, RSA_PKCS1_SHA256};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer};
use x509_parser::certificate::X509Certificate;
use x509_parser::prelude::FromDer;

use super::metadata::{Endpoint, Metadata};
use crate::base::clock::Timestamp;

const REDIRECT: &str = "urn:oasis:names:tc:SAML:2.0:bindings:HTTP-Redirect";
const RSA_SHA256: &str = "http://www.w3.org/2001/04/xmldsig-more#rsa-sha256";
const ECDSA_SHA256: &str = "http://www.w3.org/2001/04/xmldsig-more#ecdsa-sha256";
/// The compression level of Deflate. A higher level gains nothing, because requests are short.
const LEVEL: u8 = 6;

impl Metadata {
    /// The URL of the first endpoint with the HTTP Redirect binding; `None` if there is no such endpoint, or if its
    /// location is not an http or https URL in printable ASCII without a fragment.
    pub fn redirect_endpoint(&self) -> Option<&str> {
        let endpoints = self.single_sign_on().iter();
        let mut redirects = endpoints.filter(|Endpoint { binding, .. }| binding == REDIRECT);
        let url = redirects.next()?.location.as_str();
        let is_url = ["https://", "http://"]
            .iter()
            .any(|scheme| url.starts_with(scheme));
        let is_plain = url.bytes().all(|b| b.is_ascii_graphic()) && !url.contains('#');
        (is_url && is_plain).then_some(url)
    }
}

/// A request that the identity provider authenticate a user and send its answer with the HTTP POST
/// binding.
#[derive(Debug, Clone, Copy)]
pub struct AuthnRequest<'a> {
    /// The ID, which the answer must repeat in `InResponseTo`: an XML name with at least 128 random
    /// bits.
    pub id: &'a str,
    pub issue_instant: Timestamp,
    /// The URL of the identity provider that receives the request.
    pub destination: &'a str,
    /// The entity ID of this broker as a service provider.
    pub issuer: &'a str,
    /// The URL of this broker to which the identity provider must send the answer.
    pub consumer: &'a str,
    /// Whether the user must authenticate again even if it is signed in at the identity provider
    /// (`ForceAuthn`).
    pub force: bool,
}

impl AuthnRequest<'_> {
    /// Returns the URL of the identity provider with the request, for a redirect of the browser.
    /// The identity provider returns `relay_state` with its answer; it must be an opaque text of at
    /// most 80 octets.
    ///
    /// # Errors
    /// [`ring::error::Unspecified`] if the request cannot be signed. This does not happen with a
    /// key that [`RequestSigner::from_pem`] accepted.
    pub fn url(
        &self,
        relay_state: &str,
        signer: Option<&RequestSigner>,
    ) -> Result<String, ring::error::Unspecified> {
        let compressed = miniz_oxide::deflate::compress_to_vec(self.xml().as_bytes(), LEVEL);
        let encode = |text: &str| utf8_percent_encode(text, NON_ALPHANUMERIC).to_string();
        let mut query = format!(
            "SAMLRequest={}&RelayState={}",
            encode(&STANDARD.encode(compressed)),
            encode(relay_state)
        );
        if let Some(signer) = signer {
            query.push_str("&SigAlg=");
            query.push_str(&encode(signer.algorithm()));
            // Exactly these octets are signed, in this order: SAML Bindings 2.0 section 3.4.4.1.
            let signature = signer.sign(query.as_bytes())?;
            query.push_str("&Signature=");
            query.push_str(&encode(&STANDARD.encode(signature)));
        }
        let separator = if self.destination.contains('?') {
            '&'
        } else {
            '?'
        };
        Ok(format!("{}{separator}{query}", self.destination))
    }

    fn xml(&self) -> String {
        let force = if self.force {
            " ForceAuthn=\"true\""
        } else {
            ""
        };
        format!(
            "<samlp:AuthnRequest xmlns:samlp=\"urn:oasis:names:tc:SAML:2.0:protocol\" \
             xmlns:saml=\"urn:oasis:names:tc:SAML:2.0:assertion\" ID=\"{}\" Version=\"2.0\" \
             IssueInstant=\"{}\" Destination=\"{}\"{force} AssertionConsumerServiceURL=\"{}\" \
             ProtocolBinding=\"urn:oasis:names:tc:SAML:2.0:bindings:HTTP-POST\">\
             <saml:Issuer>{}</saml:Issuer><samlp:NameIDPolicy AllowCreate=\"true\"/></samlp:AuthnRequest>",
            escaped(self.id),
            self.issue_instant,
            escaped(self.destination),
            escaped(self.consumer),
            escaped(self.issuer),
        )
    }
}

/// Escapes a text for XML, for use between tags or in the value of an attribute in double quotes.
pub fn escaped(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('"', "&quot;")
}

/// The private key with which this service provider signs its requests, and its certificate, which
/// identity providers know from the metadata.
#[derive(Clone)]
pub struct RequestSigner {
    key: Arc<Key>,
    certificate: Box<[u8]>,
}

enum Key {
    Rsa(rsa::KeyPair),
    P256(EcdsaKeyPair),
}

/// Why a key and a certificate cannot be used to sign requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RequestSignerError {
    #[error(
        "must be one RSA key of 2,048 to 4,096 bits, or one key on P-256, as PEM in PKCS#8 (`BEGIN PRIVATE KEY`)"
    )]
    Key,
    #[error("must be one certificate as PEM (`BEGIN CERTIFICATE`)")]
    Certificate,
    #[error("does not belong to request_key: it certifies another key")]
    Other,
}

impl RequestSignerError {
    /// Returns the name of the configuration key whose value breaks the rule.
    pub fn key(self) -> &'static str {
        match self {
            Self::Key => "[saml] request_key",
            Self::Certificate | Self::Other => "[saml] request_certificate",
        }
    }
}

impl fmt::Debug for RequestSigner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("RequestSigner([redacted])")
    }
}

impl PartialEq for RequestSigner {
    fn eq(&self, other: &Self) -> bool {
        self.certificate == other.certificate
    }
}

impl Eq for RequestSigner {}

impl RequestSigner {
    /// Reads a private key and its certificate, both in PEM.
    ///
    /// # Errors
    /// [`RequestSignerError`] if one of them is not of an accepted kind, or they do not belong together.
    pub fn from_pem(key: &[u8], certificate: &[u8]) -> Result<Self, RequestSignerError> {
        let mut keys = PrivatePkcs8KeyDer::pem_slice_iter(key);
        let (Some(Ok(der)), None) = (keys.next(), keys.next()) else {
            return Err(RequestSignerError::Key);
        };
        let der = der.secret_pkcs8_der();
        let algorithm = &ECDSA_P256_SHA256_FIXED_SIGNING;
        let key = match rsa::KeyPair::from_pkcs8(der) {
            Ok(key) => Key::Rsa(key),
            Err(_) => EcdsaKeyPair::from_pkcs8(algorithm, der, &random())
                .map(Key::P256)
                .map_err(|_| RequestSignerError::Key)?,
        };
        let mut certificates = CertificateDer::pem_slice_iter(certificate);
        let (Some(Ok(certificate)), None) = (certificates.next(), certificates.next()) else {
            return Err(RequestSignerError::Certificate);
        };
        let Ok((_, parsed)) = X509Certificate::from_der(&certificate) else {
            return Err(RequestSignerError::Certificate);
        };
        let public: &[u8] = match &key {
            Key::Rsa(pair) => ring::signature::KeyPair::public_key(pair).as_ref(),
            Key::P256(pair) => ring::signature::KeyPair::public_key(pair).as_ref(),
        };
        if *public != *parsed.public_key().subject_public_key.data {
            return Err(RequestSignerError::Other);
        }
        Ok(Self {
            key: Arc::new(key),
            certificate: certificate.to_vec().into(),
        })
    }

    /// The certificate in DER, for the broker's metadata as a service provider.
    pub fn certificate(&self) -> &[u8] {
        &self.certificate
    }

    fn algorithm(&self) -> &'static str {
        match *self.key {
            Key::Rsa(_) => RSA_SHA256,
            Key::P256(_) => ECDSA_SHA256,
        }
    }

    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, ring::error::Unspecified> {
        match &*self.key {
            Key::Rsa(pair) => {
                let mut signature = vec![0; pair.public().modulus_len()];
                pair.sign(&RSA_PKCS1_SHA256, &random(), message, &mut signature)?;
                Ok(signature)
            }
            Key::P256(pair) => Ok(pair.sign(&random(), message)?.as_ref().to_vec()),
        }
    }
}

fn random() -> SystemRandom {
    crate::base::entropy::system()
}

#[cfg(test)]
mod tests {
    use ring::signature::{RSA_PKCS1_2048_8192_SHA256, UnparsedPublicKey};

    use super::*;
    use crate::proof::saml::tests::metadata;

    const KEY: &str = include_str!("../../../tests/data/saml/rsa.key");
    const REQUEST: AuthnRequest<'_> = AuthnRequest {
        id: "_a1",
        issue_instant: Timestamp::from_seconds(1_800_000_000),
        destination: "https://idp.example.com/sso?tenant=a&b",
        issuer: "https://sts.example.com/saml/metadata",
        consumer: "https://sts.example.com/saml/acs",
        force: false,
    };

    /// The parameters of a URL, decoded.
    fn parameters(url: &str) -> Vec<(String, String)> {
        let (_, query) = url.split_once('?').unwrap();
        crate::base::form::pairs(query.as_bytes()).unwrap()
    }

    fn value<'a>(parameters: &'a [(String, String)], name: &str) -> &'a str {
        let found = parameters.iter().find(|(n, _)| n == name);
        &found.unwrap().1
    }

    fn signer() -> RequestSigner {
        let key = rcgen::KeyPair::from_pem(KEY).unwrap();
        let certificate = rcgen::CertificateParams::default()
            .self_signed(&key)
            .unwrap();
        RequestSigner::from_pem(KEY.as_bytes(), certificate.pem().as_bytes()).unwrap()
    }

    #[test]
    fn a_request_is_raw_deflate_in_a_url() {
        let url = REQUEST.url("handle", None).unwrap();
        assert!(url.starts_with("https://idp.example.com/sso?tenant=a&b&SAMLRequest="));
        let parameters = parameters(&url);
        assert_eq!(value(&parameters, "RelayState"), "handle");
        let octets = STANDARD.decode(value(&parameters, "SAMLRequest")).unwrap();
        let xml = miniz_oxide::inflate::decompress_to_vec(&octets).unwrap();
        let xml = String::from_utf8(xml).unwrap();
        let document = roxmltree::Document::parse(&xml).unwrap();
        let root = document.root_element();
        let attribute = |name: &str| root.attribute(name);
        assert_eq!(attribute("ID"), Some("_a1"));
        assert_eq!(attribute("Version"), Some("2.0"));
        assert_eq!(attribute("IssueInstant"), Some("2027-01-15T08:00:00Z"));
        assert_eq!(attribute("Destination"), Some(REQUEST.destination));
        assert_eq!(
            attribute("AssertionConsumerServiceURL"),
            Some(REQUEST.consumer)
        );
        assert_eq!(attribute("ForceAuthn"), None);
        let issuer = root.first_element_child().unwrap();
        assert_eq!(issuer.text(), Some(REQUEST.issuer));
        let again = AuthnRequest {
            force: true,
            ..REQUEST
        };
        assert!(again.xml().contains(" ForceAuthn=\"true\""));
    }

    #[test]
    fn exactly_what_is_sent_is_signed() {
        let url = REQUEST.url("h&=", Some(&signer())).unwrap();
        let at = url.find("SAMLRequest=").unwrap();
        let (signed, signature) = url[at..].split_once("&Signature=").unwrap();
        let parameters = parameters(&url);
        assert_eq!(value(&parameters, "SigAlg"), RSA_SHA256);
        assert!(signed.contains("&RelayState=h%26%3D&SigAlg="));
        let signature = percent_encoding::percent_decode_str(signature);
        let signature = STANDARD.decode(signature.collect::<Vec<u8>>()).unwrap();
        let pair = rsa::KeyPair::from_pkcs8(
            PrivatePkcs8KeyDer::from_pem_slice(KEY.as_bytes())
                .unwrap()
                .secret_pkcs8_der(),
        );
        let pair = pair.unwrap();
        let key = UnparsedPublicKey::new(
            &RSA_PKCS1_2048_8192_SHA256,
            ring::signature::KeyPair::public_key(&pair).as_ref(),
        );
        key.verify(signed.as_bytes(), &signature).unwrap();
        assert!(key.verify(&url.as_bytes()[at..], &signature).is_err());
    }

    #[test]
    fn a_key_has_its_own_certificate() {
        let other = rcgen::generate_simple_self_signed(["x".to_owned()]).unwrap();
        let (pem, key) = (other.cert.pem(), other.signing_key.serialize_pem());
        let read = |key: &str, certificate: &str| {
            RequestSigner::from_pem(key.as_bytes(), certificate.as_bytes())
        };
        let made = read(&key, &pem).unwrap();
        assert_eq!(made.algorithm(), ECDSA_SHA256);
        assert_eq!(made.sign(b"x").unwrap().len(), 64);
        assert_eq!(read(KEY, &pem), Err(RequestSignerError::Other));
        assert_eq!(read("", &pem), Err(RequestSignerError::Key));
        assert_eq!(read(&pem, &pem), Err(RequestSignerError::Key));
        assert_eq!(read(&key, &key), Err(RequestSignerError::Certificate));
        assert_eq!(format!("{made:?}"), "RequestSigner([redacted])");
    }

    #[test]
    fn a_browser_is_sent_to_the_redirect_endpoint() {
        let idp = metadata("pysaml2");
        assert_eq!(
            idp.redirect_endpoint(),
            Some("https://idp.example.com/sso/redirect")
        );
    }
}
