//! Reads the metadata document of an identity provider: SAML Metadata 2.0. Signatures in the document are ignored,
//! because an administrator has uploaded it. Only assertions that one of its signing keys has signed are accepted.

use std::collections::BTreeSet;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use roxmltree::Node;
use x509_parser::certificate::X509Certificate;
use x509_parser::prelude::FromDer;
use x509_parser::public_key::PublicKey as ParsedKey;

use super::assertion::SAMLP;
use super::element::Element;
use super::limits::{METADATA, SPACE, XmlError};
use super::refusal::Refusal;
use super::seen::seen;
use super::signature::{KeyKind, NAMESPACE as XMLDSIG, PublicKey};
use super::xml::{self, Source};
use crate::base::clock::Timestamp;
use crate::base::digest::{hex, sha256};

const MD: &str = "urn:oasis:names:tc:SAML:2.0:metadata";
/// The maximum number of keys in a document, for signing and encryption together.
const MAX_KEYS: usize = 10;
/// The accepted sizes of RSA keys in bits. `ring` verifies shorter keys only for legacy use, and longer ones not at
/// all.
const RSA_BITS: std::ops::RangeInclusive<usize> = 2_048..=8_192;
/// The maximum length of an entity ID in characters: SAML Metadata 2.0 section 2.2.1.
const MAX_ENTITY_ID: usize = 1_024;
/// The accepted curves: the object identifier of RFC 5480 section 2.1.1.1, and the size of a point in
/// bytes.
const P256: (&str, usize) = ("1.2.840.10045.3.1.7", 65);
const P384: (&str, usize) = ("1.3.132.0.34", 97);

/// Why a document is not accepted as an identity provider's metadata.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MetadataError {
    /// The document is not XML, or has a construct that is not accepted.
    #[error(transparent)]
    Xml(#[from] XmlError),
    /// The document does not contain exactly one identity provider. The number says how many it contains; it is 0 also
    /// for one whose parent is not an `EntityDescriptor`, or whose `EntityDescriptor` is inside an element other than
    /// an `EntitiesDescriptor`.
    #[error(
        "the metadata must have exactly one EntityDescriptor with an IDPSSODescriptor for SAML \
         2.0, but has {0}; give the metadata of one identity provider, and not of a group or of a service provider"
    )]
    Entities(usize),
    /// An element breaks a rule, or there are more keys than are accepted. The text says which.
    #[error("{0}")]
    Element(String),
    /// The document has no usable signing key. The list has a sentence for each key that says why
    /// it is not usable.
    #[error("the metadata has no signing key that can be used{}", reasons(.0))]
    NoSigningKey(Vec<String>),
}

fn reasons(unusable: &[String]) -> String {
    unusable
        .iter()
        .map(|reason| format!("; {reason}"))
        .collect()
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Metadata {
    entity_id: String,
    valid_until: Option<Timestamp>,
    keys: Vec<SigningKey>,
    unusable: Vec<String>,
    single_sign_on: Vec<Endpoint>,
    wants_signed_requests: bool,
}

/// A URL at which users sign in at the identity provider.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// The URI of the SAML binding by which requests are sent, such as
    /// `urn:oasis:names:tc:SAML:2.0:bindings:HTTP-Redirect`.
    pub binding: String,
    /// The URL at which the identity provider receives requests with this binding.
    pub location: String,
}

/// A public key that verifies the identity provider's signatures, with the validity of its
/// certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SigningKey {
    key: PublicKey,
    not_before: Timestamp,
    not_after: Timestamp,
    fingerprint: String,
}

impl SigningKey {
    pub(super) fn public_key(&self) -> &PublicKey {
        &self.key
    }

    pub fn not_before(&self) -> Timestamp {
        self.not_before
    }

    pub fn not_after(&self) -> Timestamp {
        self.not_after
    }

    /// Returns whether the certificate is valid at the time `now`.
    pub fn is_valid(&self, now: Timestamp) -> bool {
        self.not_before <= now && now <= self.not_after
    }

    /// The SHA-256 digest of the certificate, in hexadecimal.
    pub fn fingerprint(&self) -> &str {
        &self.fingerprint
    }
}

impl Metadata {
    /// Reads a metadata document: an `EntityDescriptor`, or an `EntitiesDescriptor` with one
    /// identity provider in it.
    ///
    /// # Errors
    /// [`MetadataError`] if the document is not accepted as XML, does not have exactly one identity
    /// provider, has an element that breaks a rule, or has no usable signing key.
    pub fn parse(document: &[u8]) -> Result<Self, MetadataError> {
        let source = Source::new(document, &METADATA)?;
        let document = source.parse()?;
        let is_idp = |role: &Node<'_, '_>| {
            let protocols = xml::attribute(*role, "protocolSupportEnumeration").unwrap_or_default();
            xml::is(*role, MD, "IDPSSODescriptor") && protocols.split(SPACE).any(|p| p == SAMLP)
        };
        let roles: Vec<_> = document.descendants().filter(is_idp).collect();
        let [role] = *roles else {
            return Err(MetadataError::Entities(roles.len()));
        };
        let entity = role
            .parent()
            .filter(|parent| xml::is(*parent, MD, "EntityDescriptor"));
        let entity = entity.ok_or(MetadataError::Entities(0))?;
        // Only groups of entities may contain the entity.
        let around = |node: Node<'_, '_>| node.is_root() || xml::is(node, MD, "EntitiesDescriptor");
        if !entity.ancestors().skip(1).all(around) {
            return Err(MetadataError::Entities(0));
        }

        let mut valid_until = None;
        for node in role.ancestors().filter(Node::is_element) {
            let end = Element(node, "EntityDescriptor")
                .time("validUntil")
                .map_err(element)?;
            valid_until = [valid_until, end].into_iter().flatten().min();
        }
        let descriptor = Element(entity, "EntityDescriptor");
        let entity_id = descriptor.text_attribute("entityID").map_err(element)?;
        let entity_id = entity_id
            .ok_or_else(|| element(descriptor.wrong("the entityID is missing or empty")))?;
        if entity_id.chars().count() > MAX_ENTITY_ID {
            let rule = "the entityID is longer than 1,024 characters";
            return Err(element(descriptor.wrong(rule)));
        }
        let (keys, unusable) = signing_keys(role)?;
        let endpoints = xml::children(role, MD, "SingleSignOnService");
        let wants_signed = xml::attribute(role, "WantAuthnRequestsSigned");
        Ok(Self {
            entity_id,
            valid_until,
            keys,
            unusable,
            single_sign_on: endpoints.map(endpoint).collect::<Result<_, _>>()?,
            wants_signed_requests: matches!(wants_signed, Some("true" | "1")),
        })
    }

    /// The entity ID of the identity provider, which is the issuer of its assertions.
    pub fn entity_id(&self) -> &str {
        &self.entity_id
    }

    /// The earliest `validUntil` of the identity provider and of the elements around it, from which time on the
    /// document must not be used; `None` if none of them has one.
    pub fn valid_until(&self) -> Option<Timestamp> {
        self.valid_until
    }

    /// The usable signing keys, in the order of the document.
    pub fn signing_keys(&self) -> &[SigningKey] {
        &self.keys
    }

    /// A sentence for each signing key that cannot be used, which says why.
    pub fn unusable_keys(&self) -> &[String] {
        &self.unusable
    }

    /// The URLs at which users sign in, in the order of the document.
    pub fn single_sign_on(&self) -> &[Endpoint] {
        &self.single_sign_on
    }

    /// Whether the identity provider accepts only signed authentication requests.
    pub fn wants_signed_requests(&self) -> bool {
        self.wants_signed_requests
    }

    /// The time from which no response is accepted: when the document or the last of its certificates expires,
    /// whichever is earlier. Not `None` for metadata from [`Self::parse`], because certificates always expire.
    pub fn usable_until(&self) -> Option<Timestamp> {
        let last = self.keys.iter().map(SigningKey::not_after).max();
        [last, self.valid_until].into_iter().flatten().min()
    }

    /// Returns until when responses are accepted without interruption from `now` on; `None` if none
    /// is accepted now. A certificate does not extend this time if it becomes valid only after all
    /// earlier ones have expired.
    pub fn usable_without_a_gap(&self, now: Timestamp) -> Option<Timestamp> {
        if self.valid_until.is_some_and(|end| end <= now) {
            return None;
        }
        let mut keys: Vec<&SigningKey> = self.keys.iter().collect();
        keys.sort_by_key(|key| key.not_before());
        let mut end = None;
        for key in keys {
            let is_in_time = key.not_before() <= end.unwrap_or(now);
            if is_in_time && key.not_after() >= now {
                end = end.max(Some(key.not_after()));
            }
        }
        [end?].into_iter().chain(self.valid_until).min()
    }
}

fn element(refusal: Refusal) -> MetadataError {
    MetadataError::Element(refusal.to_string())
}

fn endpoint(service: Node<'_, '_>) -> Result<Endpoint, MetadataError> {
    let service = Element(service, "SingleSignOnService");
    let required = |name: &str| {
        let value = service.text_attribute(name).map_err(element)?;
        value.ok_or_else(|| element(service.wrong(format!("the {name} is missing or empty"))))
    };
    Ok(Endpoint {
        binding: required("Binding")?,
        location: required("Location")?,
    })
}

/// Reads the signing keys: those whose use is signing or not stated. Returns the usable ones, and
/// the reasons why others cannot be used.
fn signing_keys(role: Node<'_, '_>) -> Result<(Vec<SigningKey>, Vec<String>), MetadataError> {
    let (mut keys, mut unusable) = (Vec::new(), Vec::new());
    let mut fingerprints = BTreeSet::new();
    let descriptors: Vec<_> = xml::children(role, MD, "KeyDescriptor").collect();
    if descriptors.len() > MAX_KEYS {
        let many = format!("the metadata has more than {MAX_KEYS} keys");
        return Err(MetadataError::Element(many));
    }
    for descriptor in descriptors {
        match xml::attribute(descriptor, "use") {
            None | Some("signing") => {}
            Some("encryption") => continue,
            Some(other) => {
                unusable.push(format!(
                    "a KeyDescriptor has the unknown use `{}`",
                    seen(other)
                ));
                continue;
            }
        }
        match signing_key(descriptor) {
            Ok(key) if !fingerprints.insert(key.fingerprint.clone()) => {}
            Ok(key) => keys.push(key),
            Err(reason) => unusable.push(reason),
        }
    }
    if keys.is_empty() {
        return Err(MetadataError::NoSigningKey(unusable));
    }
    Ok((keys, unusable))
}

/// Reads the key of a descriptor, which must have exactly one certificate. With several, it would
/// be unclear which of them is the signing certificate and which belong to its issuers.
fn signing_key(descriptor: Node<'_, '_>) -> Result<SigningKey, String> {
    let certificates: Vec<_> = xml::children(descriptor, XMLDSIG, "KeyInfo")
        .flat_map(|info| xml::children(info, XMLDSIG, "X509Data"))
        .flat_map(|data| xml::children(data, XMLDSIG, "X509Certificate"))
        .collect();
    let [certificate] = *certificates else {
        return Err(format!(
            "a KeyDescriptor has {} certificates, but must have exactly one",
            certificates.len()
        ));
    };
    let mut text = xml::text(certificate).unwrap_or_default();
    text.retain(|c| !SPACE.contains(&c));
    let der = STANDARD
        .decode(text)
        .map_err(|_| "a certificate is not base64".to_owned())?;
    let fingerprint = hex(&sha256(&der));
    key_of(&der, &fingerprint)
        .map_err(|reason| format!("the certificate with the SHA-256 digest {fingerprint} {reason}"))
}

fn key_of(der: &[u8], fingerprint: &str) -> Result<SigningKey, &'static str> {
    let Ok((&[], certificate)) = X509Certificate::from_der(der) else {
        return Err("is not an X.509 certificate in DER");
    };
    let info = certificate.public_key();
    let bytes = info.subject_public_key.data.to_vec();
    let curve = info
        .algorithm
        .parameters
        .as_ref()
        .and_then(|p| p.as_oid().ok());
    let kind = match info.parsed() {
        Ok(ParsedKey::RSA(key)) if RSA_BITS.contains(&key.key_size()) => KeyKind::Rsa,
        Ok(ParsedKey::RSA(_)) => {
            return Err("has an RSA key with fewer than 2,048 or more than 8,192 bits");
        }
        Ok(ParsedKey::EC(_)) if bytes.first() == Some(&4) => {
            match (curve.map(|oid| oid.to_id_string()).as_deref(), bytes.len()) {
                (Some(oid), size) if (oid, size) == P256 => KeyKind::P256,
                (Some(oid), size) if (oid, size) == P384 => KeyKind::P384,
                _ => return Err("has a key on a curve other than P-256 and P-384"),
            }
        }
        _ => return Err("has a key that is neither RSA nor ECDSA with an uncompressed point"),
    };
    let validity = certificate.validity();
    Ok(SigningKey {
        key: PublicKey { kind, bytes },
        not_before: Timestamp::from_seconds(validity.not_before.timestamp()),
        not_after: Timestamp::from_seconds(validity.not_after.timestamp()),
        fingerprint: fingerprint.to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proof::saml::tests::{data, made_at, metadata};

    fn parse(text: &str) -> Result<Metadata, MetadataError> {
        Metadata::parse(text.as_bytes())
    }

    #[test]
    fn metadata_of_others_is_read() {
        let read = metadata("pysaml2");
        assert_eq!(read.entity_id(), "https://idp.example.com/metadata");
        assert_eq!(read.signing_keys().len(), 1);
        assert!(read.signing_keys()[0].is_valid(made_at()));
        let endpoints: Vec<_> = read
            .single_sign_on()
            .iter()
            .map(|e| e.location.as_str())
            .collect();
        assert_eq!(
            endpoints,
            [
                "https://idp.example.com/sso/redirect",
                "https://idp.example.com/sso/post"
            ]
        );

        let read = metadata("samlp");
        assert_eq!(read.entity_id(), "urn:example:samlp");
        assert_eq!(read.signing_keys().len(), 1);
        assert_eq!(
            read.usable_until(),
            Some(read.signing_keys()[0].not_after())
        );
    }

    #[test]
    fn sa_04_keys_are_those_for_signing() {
        // Three for signing or any use, one that is too short, one for encryption.
        let read = metadata("xmlsec");
        let kinds: Vec<_> = read.signing_keys().iter().map(|key| key.key.kind).collect();
        assert_eq!(kinds, [KeyKind::P256, KeyKind::Rsa, KeyKind::P384]);
        assert!(
            matches!(read.unusable_keys(), [one] if one.contains("2,048 ")),
            "{:?}",
            read.unusable_keys()
        );

        let text = data("xmlsec-metadata.xml");
        let none = text
            .replace("use=\"signing\"", "use=\"encryption\"")
            .replace("<KeyDescriptor>", "<KeyDescriptor use=\"encryption\">");
        assert_eq!(parse(&none), Err(MetadataError::NoSigningKey(Vec::new())));
        // The key of a signature over the document is nobody's key.
        let (before, keys) = text.split_once("<KeyDescriptor").unwrap();
        let (keys, after) = keys.rsplit_once("</KeyDescriptor>").unwrap();
        let key_info = keys
            .split_once('>')
            .unwrap()
            .1
            .split("</KeyDescriptor>")
            .next()
            .unwrap();
        let signature = format!("<Signature xmlns=\"{XMLDSIG}\">{key_info}</Signature>");
        assert!(parse(&format!("{before}{signature}{after}")).is_err());
        let without = format!("{before}{after}");
        assert_eq!(
            parse(&without),
            Err(MetadataError::NoSigningKey(Vec::new()))
        );
        // Two certificates in one descriptor: which one signs cannot be told.
        let two = format!("{before}<KeyDescriptor>{key_info}{key_info}</KeyDescriptor>{after}");
        assert!(matches!(parse(&two), Err(MetadataError::NoSigningKey(why)) if why.len() == 1));
        let broken = format!(
            "{before}<KeyDescriptor>{}</KeyDescriptor>{after}",
            key_info.replace("MII", "AII")
        );
        assert!(
            matches!(parse(&broken), Err(MetadataError::NoSigningKey(why)) if why[0].contains("not an X.509"))
        );
        // The same key twice is one; many are too many.
        let same = format!("<KeyDescriptor>{key_info}</KeyDescriptor>").repeat(3);
        assert_eq!(
            parse(&format!("{before}{same}{after}"))
                .unwrap()
                .signing_keys()
                .len(),
            1
        );
        let many = "<KeyDescriptor use='x'/>".repeat(MAX_KEYS + 1);
        assert!(matches!(
            parse(&format!("{before}{many}{after}")),
            Err(MetadataError::Element(_))
        ));
    }

    #[test]
    fn there_is_one_identity_provider_in_a_document() {
        const GROUP: &str = "<EntitiesDescriptor xmlns='urn:oasis:names:tc:SAML:2.0:metadata' \
                             validUntil='2030-01-01T00:00:00Z'>";
        let text = data("xmlsec-metadata.xml");
        let other = "<EntityDescriptor entityID='urn:sp'><SPSSODescriptor \
                     protocolSupportEnumeration='urn:oasis:names:tc:SAML:2.0:protocol'/>\
                     </EntityDescriptor>";
        let end = "</EntitiesDescriptor>";
        let group = parse(&format!("{GROUP}{other}{GROUP}{text}{end}{end}")).unwrap();
        assert_eq!(group.entity_id(), "https://idp.example.com/xxx");
        assert_eq!(group.valid_until(), Timestamp::from_amz("20300101T000000Z"));
        assert_eq!(
            parse(&format!("{GROUP}{text}{text}{end}")),
            Err(MetadataError::Entities(2))
        );
        assert_eq!(
            parse(&format!("{GROUP}{other}{end}")),
            Err(MetadataError::Entities(0))
        );
        let hidden = text
            .replace("<IDPSSODescriptor", "<Extensions><IDPSSODescriptor")
            .replace("</IDPSSODescriptor>", "</IDPSSODescriptor></Extensions>");
        assert_eq!(parse(&hidden), Err(MetadataError::Entities(0)));
        assert_eq!(
            parse(&format!("<x>{text}</x>")),
            Err(MetadataError::Entities(0))
        );
        let old = text.replace(
            "urn:oasis:names:tc:SAML:2.0:protocol",
            "urn:oasis:names:tc:SAML:1.1:protocol",
        );
        assert_eq!(parse(&old), Err(MetadataError::Entities(0)));
        for broken in [
            text.replace(" entityID=", " id="),
            text.replace(" entityID=\"", " entityID=\"&#10;"),
            text.replace(" entityID=", " validUntil='soon' entityID="),
            text.replace(" Location=", " Place="),
        ] {
            assert!(parse(&broken).is_err());
        }
    }
}
