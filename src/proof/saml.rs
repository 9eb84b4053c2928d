//! Verifies SAML 2.0 responses of identity providers. The caller passes in the response in base64,
//! the identity provider's keys and the time, and gets the assertion. This module uses no clock, no
//! network and no directory.
//!
//! A response goes through these steps. The first rule that it breaks refuses it:
//!
//! 1. [`verify`] checks the length before anything else, then the base64 and the limits of the XML
//!    text (`limits`), and parses the text (`xml`). The response must have exactly one assertion,
//!    and signatures only directly in the response or in the assertion. An encrypted assertion is
//!    decrypted (`encryption`), and the result goes through the same steps.
//! 2. Every signature must have been made with a key in the `metadata` (`signature`). The check
//!    returns the signed canonical octets, which are parsed again. From then on nothing else is
//!    read, so an element that was moved, wrapped or added outside the signed octets has no effect.
//! 3. [`Verified::accept`] checks the `rules` about issuer, audience, recipient, request and time.
//! 4. [`AwsClaims::read`] reads the attributes that AWS defines.
//!
//! The caller must ensure that an assertion is used only once: see [`Accepted::usable_until`].

mod assertion;
mod c14n;
mod claims;
mod context_keys;
mod element;
mod encryption;
mod limits;
mod metadata;
mod refusal;
mod request;
mod rules;
mod seen;
mod signature;
mod xml;

#[cfg(test)]
mod attacks;
#[cfg(test)]
mod tests;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use roxmltree::{Document, Node};

pub use assertion::{
    Assertion, Attribute, AuthnStatement, Conditions, Envelope, MAX_NAME_ID, NameId,
    SubjectConfirmation,
};
pub use claims::{AwsClaims, RolePair};
pub use context_keys::ContextKey;
pub use encryption::{DecryptionKey, DecryptionKeyError};
pub use limits::XmlError;
pub use metadata::{Endpoint, Metadata, MetadataError, SigningKey};
pub use refusal::{AwsCode, Refusal};
pub use request::{AuthnRequest, RequestSigner, RequestSignerError, escaped};
pub use rules::{Accepted, LEEWAY, MADE_AHEAD, Rules};
pub use signature::SignatureError;

use crate::base::clock::Timestamp;
use crate::base::digest::sha256;
use assertion::{SAML, SAMLP};
use limits::{CANONICAL, RESPONSE};
use xml::Source;

/// The maximum length of a response in characters of base64: STS API Reference, "AssumeRoleWithSAML".
pub const MAX_CHARACTERS: usize = 100_000;

/// A response with an assertion that a key of the identity provider signed. The assertion's
/// audience and validity have not been checked yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verified {
    envelope: Envelope,
    assertion: Assertion,
    signer: [u8; 32],
}

impl Verified {
    /// The SHA-256 digest of the public key that verified the assertion's signature, or the
    /// response's if the assertion has no signature of its own.
    pub fn signer(&self) -> &[u8; 32] {
        &self.signer
    }

    /// The part of the response outside the assertion. It is only trustworthy if the response
    /// itself is signed.
    pub fn envelope(&self) -> &Envelope {
        &self.envelope
    }

    /// The signed assertion, before [`Self::accept`] checks its issuer, audience and validity.
    pub fn unchecked_assertion(&self) -> &Assertion {
        &self.assertion
    }
}

/// Checks the form of a response and its signatures.
///
/// # Errors
/// [`Refusal`] if the response is malformed, reports a failure, is encrypted but not for one of the `keys`, or is not
/// signed with a key of `idp` whose certificate is valid at the time `now`, or if the metadata `idp` itself is no
/// longer valid.
pub fn verify(
    encoded: &str,
    idp: &Metadata,
    keys: &[DecryptionKey],
    now: Timestamp,
) -> Result<Verified, Refusal> {
    if encoded.len() > MAX_CHARACTERS {
        return Err(Refusal::TooLong(encoded.len()));
    }
    let verified = verify_signatures(encoded, idp, keys, now)?;
    // This comes last, so that the time it takes reveals nothing about the metadata.
    match idp.valid_until().filter(|end| *end <= now) {
        Some(valid_until) => Err(Refusal::MetadataExpired { valid_until, now }),
        None => Ok(verified),
    }
}

fn verify_signatures(
    encoded: &str,
    idp: &Metadata,
    keys: &[DecryptionKey],
    now: Timestamp,
) -> Result<Verified, Refusal> {
    let octets = decode(encoded)?;
    let source = Source::new(&octets, &RESPONSE)?;
    let document = source.parse()?;
    let response = document.root_element();
    let mut envelope = match Envelope::read(response, false) {
        Err(Refusal::Status { .. }) => return Err(failure(response, idp, now)?),
        read => read?,
    };
    if let Some(encrypted) = only_encrypted(&document)? {
        let signed_response = signed(response, "Response", idp, now)?;
        return decrypted(encrypted, envelope, signed_response, idp, keys, now);
    }
    let assertion = only_assertion(&document)?;
    let signed_response = signed(response, "Response", idp, now)?;
    let signed_assertion = signed(assertion, "Assertion", idp, now)?;

    // From here on, only signed content is read.
    let mut read = None;
    let signer = signed_assertion.as_ref().or(signed_response.as_ref());
    let signer = signer.map(|signed| signed.key).ok_or(Refusal::Unsigned)?;
    if let Some(Signed { octets, .. }) = signed_response {
        let source = Source::new(octets.as_bytes(), &CANONICAL)?;
        let document = source.parse()?;
        envelope = Envelope::read(document.root_element(), true)?;
        read = Some(Assertion::read(only_assertion(&document)?)?);
    }
    if let Some(Signed { octets, .. }) = signed_assertion {
        let inner = read_assertion(&octets)?;
        if read.as_ref().is_some_and(|outer| *outer != inner) {
            return Err(Refusal::Element {
                element: "Assertion",
                rule: "what is signed with the Response differs from what is signed with the Assertion"
                    .into(),
            });
        }
        read = Some(inner);
    }
    Ok(Verified {
        envelope,
        assertion: read.ok_or(Refusal::Unsigned)?,
        signer,
    })
}

/// The sender that a response claims to have, before any verification. It is only used to find the
/// keys to verify the response with.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct UnverifiedSender {
    /// The entity ID in the response or its assertion; `None` if neither has one.
    pub issuer: Option<String>,
    /// The ID of the request that the response claims to answer.
    pub in_response_to: Option<String>,
}

/// Reads the sender that a response claims to have.
///
/// # Errors
/// [`Refusal`] if the response is too long or malformed.
pub fn unverified_sender(encoded: &str) -> Result<UnverifiedSender, Refusal> {
    if encoded.len() > MAX_CHARACTERS {
        return Err(Refusal::TooLong(encoded.len()));
    }
    let octets = decode(encoded)?;
    let source = Source::new(&octets, &RESPONSE)?;
    let document = source.parse()?;
    let response = document.root_element();
    let issuer = |node| {
        xml::children(node, SAML, "Issuer")
            .next()
            .and_then(xml::text)
    };
    let assertion = xml::children(response, SAML, "Assertion").next();
    Ok(UnverifiedSender {
        issuer: issuer(response).or_else(|| assertion.and_then(issuer)),
        in_response_to: xml::attribute(response, "InResponseTo").map(str::to_owned),
    })
}

/// Does the work of [`verify`] for a response with an encrypted assertion. Either the decrypted
/// assertion or the response around it must be signed.
fn decrypted(
    encrypted: Node<'_, '_>,
    envelope: Envelope,
    signed_response: Option<Signed>,
    idp: &Metadata,
    keys: &[DecryptionKey],
    now: Timestamp,
) -> Result<Verified, Refusal> {
    let (envelope, octets) = match &signed_response {
        // Of a decrypted assertion, too, only signed content is read.
        Some(Signed { octets, .. }) => {
            let source = Source::new(octets.as_bytes(), &CANONICAL)?;
            let document = source.parse()?;
            let envelope = Envelope::read(document.root_element(), true)?;
            let encrypted = only_encrypted(&document)?.ok_or(Refusal::Assertions)?;
            (envelope, encryption::decrypt(encrypted, keys)?)
        }
        None => (envelope, encryption::decrypt(encrypted, keys)?),
    };
    let source = Source::new(&octets, &RESPONSE)?;
    let document = source.parse()?;
    let assertion = document.root_element();
    alone(&document, assertion)?;
    signatures_are_in(&document, &[assertion])?;
    let (assertion, signer) = match (signed(assertion, "Assertion", idp, now)?, signed_response) {
        (Some(Signed { octets, key }), _) => (read_assertion(&octets)?, key),
        (None, Some(Signed { key, .. })) => (Assertion::read(assertion)?, key),
        (None, None) => return Err(Refusal::Unsigned),
    };
    Ok(Verified {
        envelope,
        assertion,
        signer,
    })
}

/// Reads an assertion from its signed canonical text.
fn read_assertion(signed: &str) -> Result<Assertion, Refusal> {
    let source = Source::new(signed.as_bytes(), &CANONICAL)?;
    let document = source.parse()?;
    if !xml::is(document.root_element(), SAML, "Assertion") {
        return Err(Refusal::Assertions);
    }
    Assertion::read(document.root_element())
}

/// Decodes base64 with padding. The text may be on one line or several.
fn decode(encoded: &str) -> Result<Vec<u8>, Refusal> {
    let is_break = |c: char| matches!(c, '\r' | '\n');
    let bytes = if encoded.contains(is_break) {
        STANDARD.decode(encoded.replace(is_break, ""))
    } else {
        STANDARD.decode(encoded)
    };
    bytes.map_err(|_| Refusal::Base64)
}

/// Returns the elements with this name in any namespace.
fn named<'a, 'i: 'a>(
    document: &'a Document<'i>,
    name: &'static str,
) -> impl Iterator<Item = Node<'a, 'i>> {
    document
        .descendants()
        .filter(move |node| node.is_element() && node.tag_name().name() == name)
}

/// Returns the only assertion, which must be a child of the response. Refuses a response with
/// another assertion in any namespace, or with a signature that is not directly in the response or
/// in the assertion.
fn only_assertion<'a, 'i>(document: &'a Document<'i>) -> Result<Node<'a, 'i>, Refusal> {
    let response = document.root_element();
    let assertion = named(document, "Assertion").next();
    let assertion = assertion.ok_or(Refusal::Assertions)?;
    alone(document, assertion)?;
    if assertion.parent() != Some(response) || !xml::is(response, SAMLP, "Response") {
        return Err(Refusal::Assertions);
    }
    signatures_are_in(document, &[response, assertion])?;
    Ok(assertion)
}

/// Checks that an element is an assertion and the only one in any namespace, that no assertion is
/// encrypted, and that no response is inside another element.
fn alone(document: &Document<'_>, assertion: Node<'_, '_>) -> Result<(), Refusal> {
    let root = document.root_element();
    if xml::is(assertion, SAML, "Assertion")
        && named(document, "Assertion").all(|node| node == assertion)
        && named(document, "Response").all(|node| node == root)
        && named(document, "EncryptedAssertion").next().is_none()
    {
        Ok(())
    } else {
        Err(Refusal::Assertions)
    }
}

/// Returns the only encrypted assertion, which must be a child of the response; `None` if there is
/// none. Signatures outside the encrypted part must then be directly in the response.
fn only_encrypted<'a, 'i>(document: &'a Document<'i>) -> Result<Option<Node<'a, 'i>>, Refusal> {
    let response = document.root_element();
    let mut all = named(document, "EncryptedAssertion");
    let Some(encrypted) = all.next() else {
        return Ok(None);
    };
    if all.next().is_some()
        || named(document, "Assertion").next().is_some()
        || named(document, "Response").any(|node| node != response)
        || !xml::is(encrypted, SAML, "EncryptedAssertion")
        || encrypted.parent() != Some(response)
        || !xml::is(response, SAMLP, "Response")
    {
        return Err(Refusal::Assertions);
    }
    signatures_are_in(document, &[response])?;
    Ok(Some(encrypted))
}

/// Checks that each of these elements has at most one signature as its child, and that there are no
/// other signatures.
fn signatures_are_in(document: &Document<'_>, parents: &[Node<'_, '_>]) -> Result<(), Refusal> {
    let mut seen = Vec::new();
    for signature in named(document, "Signature") {
        let parent = signature.parent().ok_or(Refusal::MisplacedSignature)?;
        if !xml::is(signature, signature::NAMESPACE, "Signature")
            || !parents.contains(&parent)
            || seen.contains(&parent)
        {
            return Err(Refusal::MisplacedSignature);
        }
        seen.push(parent);
    }
    Ok(())
}

/// The canonical text of a signed element, with the key that verified its signature.
struct Signed {
    /// The canonical text of the element.
    octets: String,
    /// The SHA-256 digest of the public key that verified the signature.
    key: [u8; 32],
}

/// Verifies the signature of an element, and returns the signed canonical text; `None` if the
/// element has no signature.
fn signed(
    element: Node<'_, '_>,
    name: &'static str,
    idp: &Metadata,
    now: Timestamp,
) -> Result<Option<Signed>, Refusal> {
    let Some(signature) = xml::children(element, signature::NAMESPACE, "Signature").next() else {
        return Ok(None);
    };
    // Valid certificates come first, because a renewed certificate can have the key of its predecessor.
    let mut keys: Vec<_> = idp.signing_keys().iter().collect();
    keys.sort_by_key(|key| !key.is_valid(now));
    let public_keys: Vec<_> = keys.iter().map(|key| key.public_key()).collect();
    let refused = |why| Refusal::Signature { signed: name, why };
    let (octets, key) = signature::verify(element, signature, &public_keys).map_err(refused)?;
    let key = keys.get(key).ok_or(refused(SignatureError::Key))?;
    if !key.is_valid(now) {
        return Err(Refusal::Certificate {
            not_before: key.not_before(),
            not_after: key.not_after(),
            now,
        });
    }
    Ok(Some(Signed {
        octets,
        key: sha256(&key.public_key().bytes),
    }))
}

/// Returns the refusal for a response whose status is a failure. The status is included only if the
/// response is signed, since anybody can write a status into a response.
fn failure(response: Node<'_, '_>, idp: &Metadata, now: Timestamp) -> Result<Refusal, Refusal> {
    let Some(Signed { octets, .. }) = signed(response, "Response", idp, now)? else {
        return Ok(Refusal::UnsignedStatus);
    };
    let source = Source::new(octets.as_bytes(), &CANONICAL)?;
    let document = source.parse()?;
    Ok(match Envelope::read(document.root_element(), true) {
        Err(refusal) => refusal,
        Ok(_) => Refusal::UnsignedStatus,
    })
}
