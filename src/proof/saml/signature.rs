//! Verifies XML signatures of one form (XML Signature 1.1, SAML Core 2.0 section 5.4): a signature
//! in the element that it signs, with exclusive canonicalization and one reference, to the ID of
//! that element. This module does not interpret the signed element.
//!
//! Other forms are not implemented: other transforms and references, keyed digests, and keys that
//! the signature itself contains. The caller gets the signed octets, and must not read any other
//! part of the document.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ring::digest;
use ring::signature as ring_signature;
use ring::signature::UnparsedPublicKey;
use roxmltree::Node;

use super::c14n::canonical;
use super::limits::{CANONICAL, SPACE};
use super::seen::seen;
use super::xml::{self, Source};

pub(super) const NAMESPACE: &str = "http://www.w3.org/2000/09/xmldsig#";

const EXCLUSIVE: &str = "http://www.w3.org/2001/10/xml-exc-c14n#";
/// Exclusive canonicalization with comments. The result is the same as without comments, because a
/// reference by ID never covers comments, and a signature that contains a comment is refused.
const EXCLUSIVE_WITH_COMMENTS: &str = "http://www.w3.org/2001/10/xml-exc-c14n#WithComments";
const ENVELOPED: &str = "http://www.w3.org/2000/09/xmldsig#enveloped-signature";
/// The maximum number of prefixes in an `InclusiveNamespaces` list.
const MAX_INCLUSIVE: usize = 16;
/// The text about a signature with other parts than it may have.
const PARTS: &str = "the signature does not consist of SignedInfo, SignatureValue and at most one KeyInfo, in this order";

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SignatureError {
    /// The signature has a form that is not accepted, for the reason in the text.
    #[error("{0}")]
    Shape(&'static str),
    /// The signature uses the algorithm with this URI, which is not accepted.
    #[error("the algorithm `{0}` is not accepted")]
    Algorithm(String),
    /// The element's digest differs from the signed one, so the element was changed after signing.
    #[error("the element was changed after it was signed, so its digest differs")]
    Digest,
    /// The signature was not made with a signing key of the identity provider.
    #[error("no signing key of the identity provider's metadata made the signature")]
    Key,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum KeyKind {
    Rsa,
    P256,
    P384,
}

/// A public key in the form in which certificates contain it: an RSA key in PKCS #1, or an
/// uncompressed curve point.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct PublicKey {
    pub kind: KeyKind,
    pub bytes: Vec<u8>,
}

/// Verifies a signature. Returns the canonical text of the signed element, and the index of the key
/// that made the signature. `element` is the parent of `signature`.
///
/// # Errors
/// [`SignatureError`] if the signature has another form, uses an algorithm that is not accepted, or is
/// not valid.
pub(super) fn verify(
    element: Node<'_, '_>,
    signature: Node<'_, '_>,
    keys: &[&PublicKey],
) -> Result<(String, usize), SignatureError> {
    // Implementations differ in how they read a comment or text between the parts.
    let is_legible = |node: Node<'_, '_>| match node.first_element_child() {
        Some(_) => xml::has_only_elements(node),
        None => node.children().all(|child| child.is_text()),
    };
    if !signature
        .descendants()
        .filter(Node::is_element)
        .all(is_legible)
    {
        return Err(Shape(
            "the signature contains a comment or text in a place where neither is accepted",
        ));
    }
    let [signed_info, signature_value, ..] = *children(signature) else {
        return Err(Shape(PARTS));
    };
    let key_info = children(signature).split_off(2);
    if !is(signed_info, "SignedInfo")
        || !is(signature_value, "SignatureValue")
        || !matches!(*key_info, [] | [_])
        || !key_info.iter().all(|node| is(*node, "KeyInfo"))
    {
        return Err(Shape(PARTS));
    }

    let unverified = SignedInfo::read(signed_info)?;
    let octets = canonicalized(signed_info, None, &unverified.canonicalization)?;
    let made = base64(signature_value)?;
    let key = unverified.method.verify(&octets, &made, keys)?;
    // SignedInfo is read again from its canonical text, which is what the signature covers.
    let source = Source::new(octets.as_bytes(), &CANONICAL).map_err(|_| AMBIGUOUS)?;
    let document = source.parse().map_err(|_| AMBIGUOUS)?;
    let signed = SignedInfo::read(document.root_element())?;
    if signed != unverified {
        return Err(AMBIGUOUS);
    }

    // The reference must name the parent. IDs are unique in the document.
    let id = xml::attribute(element, "ID").filter(|id| !id.is_empty());
    if id.is_none() || signed.reference.strip_prefix('#') != id {
        return Err(Shape(
            "the Reference does not name the ID of the element that contains the signature",
        ));
    }
    let octets = canonicalized(element, Some(signature), &signed.transform)?;
    if digest::digest(signed.digest_method.0, octets.as_bytes()).as_ref() != signed.digest {
        return Err(SignatureError::Digest);
    }
    Ok((octets, key))
}

use SignatureError::Shape;

const AMBIGUOUS: SignatureError =
    Shape("SignedInfo has other content when it is read again from its canonical form");

/// The content of a SignedInfo element: the reference to the signed element with its digest, and
/// the algorithms.
#[derive(Debug, PartialEq)]
struct SignedInfo {
    canonicalization: Canonicalization,
    method: Method,
    reference: String,
    transform: Canonicalization,
    digest_method: DigestMethod,
    digest: Vec<u8>,
}

impl SignedInfo {
    fn read(node: Node<'_, '_>) -> Result<Self, SignatureError> {
        let [canonicalization, method, reference] = *children(node) else {
            return Err(Shape(
                "SignedInfo does not have exactly one CanonicalizationMethod, SignatureMethod and \
                Reference",
            ));
        };
        if !is(node, "SignedInfo")
            || !is(canonicalization, "CanonicalizationMethod")
            || !is(method, "SignatureMethod")
            || !is(reference, "Reference")
        {
            return Err(Shape(
                "SignedInfo does not consist of CanonicalizationMethod, SignatureMethod and Reference, in this order",
            ));
        }
        let [transforms, digest_method, digest] = *children(reference) else {
            return Err(Shape(
                "the Reference does not have exactly one Transforms, DigestMethod and DigestValue",
            ));
        };
        if !is(transforms, "Transforms")
            || !is(digest_method, "DigestMethod")
            || !is(digest, "DigestValue")
        {
            return Err(Shape(
                "the Reference does not consist of Transforms, DigestMethod and DigestValue, in this order",
            ));
        }
        let [enveloped, transform] = *children(transforms) else {
            return Err(Shape(
                "Transforms must be the enveloped signature and then exclusive canonicalization",
            ));
        };
        if !is(enveloped, "Transform") || !is(transform, "Transform") {
            return Err(Shape("Transforms contains other elements than Transform"));
        }
        if algorithm(enveloped)? != ENVELOPED {
            return Err(SignatureError::Algorithm(seen(algorithm(enveloped)?)));
        }
        if !children(enveloped).is_empty() {
            return Err(Shape(
                "the Transform for the enveloped signature contains elements",
            ));
        }
        if !reference
            .attributes()
            .all(|a| a.namespace().is_none() && matches!(a.name(), "URI" | "Id"))
        {
            return Err(Shape("the Reference has other attributes than URI and Id"));
        }
        Ok(Self {
            canonicalization: Canonicalization::read(canonicalization)?,
            method: Method::read(method)?,
            reference: xml::attribute(reference, "URI")
                .unwrap_or_default()
                .to_owned(),
            transform: Canonicalization::read(transform)?,
            digest_method: DigestMethod::read(digest_method)?,
            digest: base64(digest)?,
        })
    }
}

/// The parameters of exclusive canonicalization: the prefixes whose declarations are written even
/// where no name uses them.
#[derive(Debug, PartialEq)]
struct Canonicalization {
    inclusive: Vec<String>,
}

impl Canonicalization {
    fn read(method: Node<'_, '_>) -> Result<Self, SignatureError> {
        let algorithm = algorithm(method)?;
        if !matches!(algorithm, EXCLUSIVE | EXCLUSIVE_WITH_COMMENTS) {
            return Err(SignatureError::Algorithm(seen(algorithm)));
        }
        let list = match *children(method) {
            [] => "",
            [list]
                if xml::is(list, EXCLUSIVE, "InclusiveNamespaces")
                    && list.children().count() == 0 =>
            {
                xml::attribute(list, "PrefixList").unwrap_or_default()
            }
            _ if is(method, "Transform") => {
                return Err(Shape(
                    "a Transform contains something other than one empty InclusiveNamespaces",
                ));
            }
            _ => {
                return Err(Shape(
                    "CanonicalizationMethod contains something other than one empty InclusiveNamespaces",
                ));
            }
        };
        let prefixes = list.split(SPACE).filter(|prefix| !prefix.is_empty());
        let prefix = |prefix: &str| if prefix == "#default" { "" } else { prefix }.to_owned();
        let inclusive: Vec<_> = prefixes.map(prefix).take(MAX_INCLUSIVE + 1).collect();
        if inclusive.len() > MAX_INCLUSIVE {
            return Err(Shape("InclusiveNamespaces lists more than 16 prefixes"));
        }
        Ok(Self { inclusive })
    }
}

fn canonicalized(
    element: Node<'_, '_>,
    without: Option<Node<'_, '_>>,
    how: &Canonicalization,
) -> Result<String, SignatureError> {
    let inclusive: Vec<_> = how.inclusive.iter().map(String::as_str).collect();
    canonical(element, without, &inclusive, CANONICAL.bytes).map_err(|_| {
        Shape(if is(element, "SignedInfo") {
            "SignedInfo is longer than 225,000 bytes in canonical form"
        } else {
            "the signed element is longer than 225,000 bytes in canonical form"
        })
    })
}

/// An accepted signature algorithm: RFC 6931 section 2.3. SHA-1, keyed digests and DSA are not
/// accepted.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Method {
    RsaSha256,
    RsaSha384,
    RsaSha512,
    EcdsaSha256,
    EcdsaSha384,
    EcdsaSha512,
}

impl Method {
    fn read(method: Node<'_, '_>) -> Result<Self, SignatureError> {
        if !children(method).is_empty() {
            return Err(Shape("SignatureMethod contains elements"));
        }
        let uri = algorithm(method)?;
        match uri.strip_prefix("http://www.w3.org/2001/04/xmldsig-more#") {
            Some("rsa-sha256") => Ok(Self::RsaSha256),
            Some("rsa-sha384") => Ok(Self::RsaSha384),
            Some("rsa-sha512") => Ok(Self::RsaSha512),
            Some("ecdsa-sha256") => Ok(Self::EcdsaSha256),
            Some("ecdsa-sha384") => Ok(Self::EcdsaSha384),
            Some("ecdsa-sha512") if ecdsa_sha512::IS_BUILT => Ok(Self::EcdsaSha512),
            _ => Err(SignatureError::Algorithm(seen(uri))),
        }
    }

    /// Returns the index of the key with which the signature `made` of `octets` was made.
    fn verify(
        self,
        octets: &str,
        made: &[u8],
        keys: &[&PublicKey],
    ) -> Result<usize, SignatureError> {
        let is_by = |key: &&PublicKey| self.is_by(key, octets.as_bytes(), made).unwrap_or(false);
        keys.iter().position(is_by).ok_or(SignatureError::Key)
    }

    /// Returns whether this key made the signature; `None` if the key is of another kind than the algorithm needs, if
    /// an ECDSA signature has another length than the key needs, or if one of its numbers is zero.
    fn is_by(self, key: &PublicKey, octets: &[u8], made: &[u8]) -> Option<bool> {
        let made = match key.kind {
            KeyKind::Rsa => made.to_vec(),
            KeyKind::P256 => pair(made, 32)?,
            KeyKind::P384 => pair(made, 48)?,
        };
        let algorithm: &'static dyn ring_signature::VerificationAlgorithm = match (self, key.kind) {
            (Self::RsaSha256, KeyKind::Rsa) => &ring_signature::RSA_PKCS1_2048_8192_SHA256,
            (Self::RsaSha384, KeyKind::Rsa) => &ring_signature::RSA_PKCS1_2048_8192_SHA384,
            (Self::RsaSha512, KeyKind::Rsa) => &ring_signature::RSA_PKCS1_2048_8192_SHA512,
            (Self::EcdsaSha256, KeyKind::P256) => &ring_signature::ECDSA_P256_SHA256_ASN1,
            (Self::EcdsaSha384, KeyKind::P256) => &ring_signature::ECDSA_P256_SHA384_ASN1,
            (Self::EcdsaSha256, KeyKind::P384) => &ring_signature::ECDSA_P384_SHA256_ASN1,
            (Self::EcdsaSha384, KeyKind::P384) => &ring_signature::ECDSA_P384_SHA384_ASN1,
            (Self::EcdsaSha512, _) => return ecdsa_sha512::is_by(key, octets, &made),
            _ => return None,
        };
        let key = UnparsedPublicKey::new(algorithm, &key.bytes);
        Some(key.verify(octets, &made).is_ok())
    }
}

/// ECDSA with SHA-512. `ring` does not support it; the feature `saml-encryption` adds a library
/// that does.
#[cfg(feature = "saml-encryption")]
mod ecdsa_sha512 {
    use aws_lc_rs::signature::{ECDSA_P256_SHA512_ASN1, ECDSA_P384_SHA512_ASN1, UnparsedPublicKey};

    use super::{KeyKind, PublicKey};

    pub(super) const IS_BUILT: bool = true;

    pub(super) fn is_by(key: &PublicKey, octets: &[u8], made: &[u8]) -> Option<bool> {
        let algorithm = match key.kind {
            KeyKind::P256 => &ECDSA_P256_SHA512_ASN1,
            KeyKind::P384 => &ECDSA_P384_SHA512_ASN1,
            KeyKind::Rsa => return None,
        };
        let key = UnparsedPublicKey::new(algorithm, &key.bytes);
        Some(key.verify(octets, made).is_ok())
    }
}

#[cfg(not(feature = "saml-encryption"))]
mod ecdsa_sha512 {
    use super::PublicKey;

    pub(super) const IS_BUILT: bool = false;

    pub(super) fn is_by(_: &PublicKey, _: &[u8], _: &[u8]) -> Option<bool> {
        None
    }
}

/// Encodes an ECDSA signature in DER. In XML Signature it is two numbers of `size` bytes, one after the
/// other (XML Signature 1.1 section 6.4.3).
fn pair(made: &[u8], size: usize) -> Option<Vec<u8>> {
    let (r, s) = made
        .split_at_checked(size)
        .filter(|(_, s)| s.len() == size)?;
    let mut numbers = Vec::with_capacity(2 * size + 6);
    for number in [r, s] {
        let zeros = number.iter().take_while(|byte| **byte == 0).count();
        let number = number.get(zeros..)?;
        // DER reads a number whose first bit is set as negative.
        let sign: &[u8] = if number.first()? & 0x80 == 0 {
            &[]
        } else {
            &[0]
        };
        numbers.extend([2, u8::try_from(sign.len() + number.len()).ok()?]);
        numbers.extend(sign);
        numbers.extend(number);
    }
    let mut der = vec![
        0x30,
        u8::try_from(numbers.len())
            .ok()
            .filter(|length| *length < 128)?,
    ];
    der.append(&mut numbers);
    Some(der)
}

/// An accepted digest algorithm. SHA-1 is not accepted.
#[derive(Debug, Clone, Copy)]
struct DigestMethod(&'static digest::Algorithm);

impl PartialEq for DigestMethod {
    fn eq(&self, other: &Self) -> bool {
        self.0 == other.0
    }
}

impl DigestMethod {
    fn read(method: Node<'_, '_>) -> Result<Self, SignatureError> {
        if !children(method).is_empty() {
            return Err(Shape("DigestMethod contains elements"));
        }
        match algorithm(method)? {
            "http://www.w3.org/2001/04/xmlenc#sha256" => Ok(Self(&digest::SHA256)),
            "http://www.w3.org/2001/04/xmldsig-more#sha384" => Ok(Self(&digest::SHA384)),
            "http://www.w3.org/2001/04/xmlenc#sha512" => Ok(Self(&digest::SHA512)),
            other => Err(SignatureError::Algorithm(seen(other))),
        }
    }
}

fn children<'a, 'i>(node: Node<'a, 'i>) -> Vec<Node<'a, 'i>> {
    node.children().filter(Node::is_element).collect()
}

fn is(node: Node<'_, '_>, local: &str) -> bool {
    xml::is(node, NAMESPACE, local)
}

/// Returns the value of the attribute `Algorithm`, which must be the only attribute of the element.
fn algorithm<'a>(node: Node<'a, '_>) -> Result<&'a str, SignatureError> {
    match xml::attribute(node, "Algorithm") {
        Some(algorithm) if node.attributes().count() == 1 => Ok(algorithm),
        _ => Err(Shape(
            "a CanonicalizationMethod, Transform, SignatureMethod or DigestMethod lacks Algorithm, or has \
             another attribute",
        )),
    }
}

/// Decodes the base64 text of an element, which may contain white space.
fn base64(element: Node<'_, '_>) -> Result<Vec<u8>, SignatureError> {
    let mut text =
        xml::text(element).ok_or(Shape("SignatureValue or DigestValue contains an element"))?;
    text.retain(|c| !SPACE.contains(&c));
    let bytes = STANDARD
        .decode(text)
        .map_err(|_| Shape("SignatureValue or DigestValue is not base64"))?;
    if bytes.is_empty() {
        return Err(Shape("SignatureValue or DigestValue is empty"));
    }
    Ok(bytes)
}

#[cfg(all(test, feature = "saml-encryption"))]
mod tests {
    use super::*;

    fn bytes(hex: &str) -> Vec<u8> {
        let digit = |at: usize| u8::from_str_radix(&hex[at..at + 2], 16).unwrap();
        (0..hex.len()).step_by(2).map(digit).collect()
    }

    /// Uses the vectors of RFC 6979, appendices A.2.5 and A.2.6, with SHA-512 and the message
    /// "sample".
    #[test]
    fn ecdsa_with_sha_512_is_verified_by_the_vectors_of_rfc_6979() {
        let key = |kind, x: &str, y: &str| PublicKey {
            kind,
            bytes: [vec![4], bytes(x), bytes(y)].concat(),
        };
        let p256 = key(
            KeyKind::P256,
            "60FED4BA255A9D31C961EB74C6356D68C049B8923B61FA6CE669622E60F29FB6",
            "7903FE1008B8BC99A41AE9E95628BC64F2F1B20C2D7E9F5177A3C294D4462299",
        );
        let p384 = key(
            KeyKind::P384,
            "EC3A4E415B4E19A4568618029F427FA5DA9A8BC4AE92E02E06AAE5286B300C64DEF8F0EA9055866064A254515480BC13",
            "8015D9B72D7D57244EA8EF9AC0C621896708A59367F9DFB9F54CA84B3F1C9DB1288B231C3AE0D4FE7344FD2533264720",
        );
        let by_p256 = bytes(concat!(
            "8496A60B5E9B47C825488827E0495B0E3FA109EC4568FD3F8D1097678EB97F00",
            "2362AB1ADBE2B8ADF9CB9EDAB740EA6049C028114F2460F96554F61FAE3302FE",
        ));
        let by_p384 = bytes(concat!(
            "ED0959D5880AB2D869AE7F6C2915C6D60F96507F9CB3E047C0046861DA4A799CFE30F35CC900056D7C99CD7882433709",
            "512C8CCEEE3890A84058CE1E22DBC2198F42323CE8ACA9135329F03C068E5112DC7CC3EF3446DEFCEB01A45C2667FDD5",
        ));
        let both = [&p256, &p384];
        let verify = |octets: &str, made: &[u8]| Method::EcdsaSha512.verify(octets, made, &both);
        assert_eq!(verify("sample", &by_p256), Ok(0));
        assert_eq!(verify("sample", &by_p384), Ok(1));
        for (octets, made) in [("samples", &by_p256), ("samples", &by_p384)] {
            assert_eq!(verify(octets, made), Err(SignatureError::Key));
        }
        let mut changed = by_p256.clone();
        changed[40] ^= 1;
        assert_eq!(verify("sample", &changed), Err(SignatureError::Key));
        assert_eq!(verify("sample", &by_p256[1..]), Err(SignatureError::Key));
        // The digest is part of the algorithm.
        let other = Method::EcdsaSha384.verify("sample", &by_p256, &both);
        assert_eq!(other, Err(SignatureError::Key));
    }
}
