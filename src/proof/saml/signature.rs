//! XML signatures of one shape (XML Signature 1.1, SAML Core 2.0 section 5.4): inside of the
//! element that they sign, by exclusive canonicalization, with one reference, to the ID of that
//! element. Knows XML and keys, nothing of what is signed.
//!
//! What is not of this shape is not written here at all: other transforms, other references, keyed
//! digests, keys that the signature itself brings. The caller gets the octets that were signed and
//! reads nothing else.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ring::digest;
use ring::signature as ring_signature;
use ring::signature::{UnparsedPublicKey, VerificationAlgorithm};
use roxmltree::Node;

use super::c14n::canonical;
use super::limits::{CANONICAL, SPACE};
use super::seen::seen;
use super::xml::{self, Source};

/// The namespace of XML Signature.
pub(super) const NAMESPACE: &str = "http://www.w3.org/2000/09/xmldsig#";

const EXCLUSIVE: &str = "http://www.w3.org/2001/10/xml-exc-c14n#";
/// Over an element by its ID both mean the same, since such a reference covers no comments; and a
/// signature with a comment in it is refused.
const EXCLUSIVE_WITH_COMMENTS: &str = "http://www.w3.org/2001/10/xml-exc-c14n#WithComments";
const ENVELOPED: &str = "http://www.w3.org/2000/09/xmldsig#enveloped-signature";
/// Prefixes on one `InclusiveNamespaces` list.
const MAX_INCLUSIVE: usize = 16;

/// Why a signature is not accepted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SignatureError {
    /// It is not of the one shape that is accepted.
    #[error("the signature does not have the accepted form: {0}")]
    Shape(&'static str),
    /// An algorithm that is not accepted.
    #[error("the signature uses an algorithm that is not accepted: `{0}`")]
    Algorithm(String),
    /// The element is not the one that was signed.
    #[error("the element is not the one that was signed: its digest differs")]
    Digest,
    /// No key of the identity provider made it.
    #[error("no signing key of the identity provider's metadata made the signature")]
    Key,
}

/// How a key signs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum KeyKind {
    Rsa,
    P256,
    P384,
}

/// A public key, as its certificate has it: an RSA key in PKCS #1, a point uncompressed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct PublicKey {
    pub kind: KeyKind,
    pub bytes: Vec<u8>,
}

/// The octets of the element that a signature signs, canonical, and which of the keys made it.
///
/// `element` is the parent of `signature`.
///
/// # Errors
/// When anything about the signature is not as it must be.
pub(super) fn verify(
    element: Node<'_, '_>,
    signature: Node<'_, '_>,
    keys: &[&PublicKey],
) -> Result<(String, usize), SignatureError> {
    // A comment or text between the parts would be read by some and not by others.
    let is_legible = |node: Node<'_, '_>| match node.first_element_child() {
        Some(_) => xml::has_only_elements(node),
        None => node.children().all(|child| child.is_text()),
    };
    if !signature
        .descendants()
        .filter(Node::is_element)
        .all(is_legible)
    {
        return Err(Shape("a comment or stray text is inside of it"));
    }
    let [signed_info, signature_value, ..] = *children(signature) else {
        return Err(Shape("SignedInfo or SignatureValue is missing"));
    };
    let key_info = children(signature).split_off(2);
    if !is(signed_info, "SignedInfo")
        || !is(signature_value, "SignatureValue")
        || !matches!(*key_info, [] | [_])
        || !key_info.iter().all(|node| is(*node, "KeyInfo"))
    {
        return Err(Shape(
            "it has other parts than SignedInfo, SignatureValue and KeyInfo",
        ));
    }

    let unverified = SignedInfo::read(signed_info)?;
    let octets = canonicalized(signed_info, None, &unverified.canonicalization)?;
    let made = base64(signature_value)?;
    let key = unverified.method.verify(&octets, &made, keys)?;
    // Read again from what was signed: nothing of the text around it has a part in this.
    let source = Source::new(octets.as_bytes(), &CANONICAL).map_err(|_| AMBIGUOUS)?;
    let document = source.parse().map_err(|_| AMBIGUOUS)?;
    let signed = SignedInfo::read(document.root_element())?;
    if signed != unverified {
        return Err(AMBIGUOUS);
    }

    // The reference names the parent, and the ID is the only one of its kind in the document.
    let id = xml::attribute(element, "ID").filter(|id| !id.is_empty());
    if id.is_none() || signed.reference.strip_prefix('#') != id {
        return Err(Shape(
            "it does not refer to the element that it is in by its ID",
        ));
    }
    let octets = canonicalized(element, Some(signature), &signed.transform)?;
    if digest::digest(signed.digest_method.0, octets.as_bytes()).as_ref() != signed.digest {
        return Err(SignatureError::Digest);
    }
    Ok((octets, key))
}

use SignatureError::Shape;

const AMBIGUOUS: SignatureError = Shape("SignedInfo cannot be read unambiguously");

/// What a signature says it signs, and how.
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
            return Err(Shape("SignedInfo has not exactly one reference"));
        };
        if !is(node, "SignedInfo")
            || !is(canonicalization, "CanonicalizationMethod")
            || !is(method, "SignatureMethod")
            || !is(reference, "Reference")
        {
            return Err(Shape("SignedInfo has other parts than it must have"));
        }
        let [transforms, digest_method, digest] = *children(reference) else {
            return Err(Shape(
                "the reference has not one list of transforms, one digest method and one digest",
            ));
        };
        if !is(transforms, "Transforms")
            || !is(digest_method, "DigestMethod")
            || !is(digest, "DigestValue")
        {
            return Err(Shape("the reference has other parts than it must have"));
        }
        let [enveloped, transform] = *children(transforms) else {
            return Err(Shape(
                "the transforms are not the enveloped signature and exclusive canonicalization, \
                 in this order",
            ));
        };
        if !is(enveloped, "Transform") || !is(transform, "Transform") {
            return Err(Shape(
                "the list of transforms has other parts than transforms",
            ));
        }
        if algorithm(enveloped)? != ENVELOPED {
            return Err(SignatureError::Algorithm(seen(algorithm(enveloped)?)));
        }
        if !children(enveloped).is_empty() {
            return Err(Shape("the transform of an enveloped signature has parts"));
        }
        if !reference
            .attributes()
            .all(|a| a.namespace().is_none() && matches!(a.name(), "URI" | "Id"))
        {
            return Err(Shape("the reference has other attributes than its URI"));
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

/// Exclusive canonicalization, and the prefixes that are declared although nothing uses them.
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
            _ => {
                return Err(Shape(
                    "the canonicalization has other parameters than InclusiveNamespaces",
                ));
            }
        };
        let prefixes = list.split(SPACE).filter(|prefix| !prefix.is_empty());
        let prefix = |prefix: &str| if prefix == "#default" { "" } else { prefix }.to_owned();
        let inclusive: Vec<_> = prefixes.map(prefix).take(MAX_INCLUSIVE + 1).collect();
        if inclusive.len() > MAX_INCLUSIVE {
            return Err(Shape("the canonicalization lists too many prefixes"));
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
    canonical(element, without, &inclusive, CANONICAL.bytes)
        .map_err(|_| Shape("what it signs is too long"))
}

/// A signature algorithm: RFC 6931 section 2.3. SHA-1, keyed digests and DSA are not among them.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Method {
    RsaSha256,
    RsaSha384,
    RsaSha512,
    EcdsaSha256,
    EcdsaSha384,
}

impl Method {
    fn read(method: Node<'_, '_>) -> Result<Self, SignatureError> {
        if !children(method).is_empty() {
            return Err(Shape("the signature method has parameters"));
        }
        let uri = algorithm(method)?;
        match uri.strip_prefix("http://www.w3.org/2001/04/xmldsig-more#") {
            Some("rsa-sha256") => Ok(Self::RsaSha256),
            Some("rsa-sha384") => Ok(Self::RsaSha384),
            Some("rsa-sha512") => Ok(Self::RsaSha512),
            Some("ecdsa-sha256") => Ok(Self::EcdsaSha256),
            Some("ecdsa-sha384") => Ok(Self::EcdsaSha384),
            _ => Err(SignatureError::Algorithm(seen(uri))),
        }
    }

    /// Which of the keys made a signature over `octets`.
    fn verify(
        self,
        octets: &str,
        made: &[u8],
        keys: &[&PublicKey],
    ) -> Result<usize, SignatureError> {
        let is_by = |key: &&PublicKey| {
            let Some((algorithm, made)) = self.with(key.kind, made) else {
                return false;
            };
            let key = UnparsedPublicKey::new(algorithm, &key.bytes);
            key.verify(octets.as_bytes(), &made).is_ok()
        };
        keys.iter().position(is_by).ok_or(SignatureError::Key)
    }

    /// Ring's algorithm for a kind of key, and the signature in the form that it takes.
    fn with(
        self,
        key: KeyKind,
        made: &[u8],
    ) -> Option<(&'static dyn VerificationAlgorithm, Vec<u8>)> {
        let algorithm: &'static dyn VerificationAlgorithm = match (self, key) {
            (Self::RsaSha256, KeyKind::Rsa) => &ring_signature::RSA_PKCS1_2048_8192_SHA256,
            (Self::RsaSha384, KeyKind::Rsa) => &ring_signature::RSA_PKCS1_2048_8192_SHA384,
            (Self::RsaSha512, KeyKind::Rsa) => &ring_signature::RSA_PKCS1_2048_8192_SHA512,
            (Self::EcdsaSha256, KeyKind::P256) => &ring_signature::ECDSA_P256_SHA256_ASN1,
            (Self::EcdsaSha384, KeyKind::P256) => &ring_signature::ECDSA_P256_SHA384_ASN1,
            (Self::EcdsaSha256, KeyKind::P384) => &ring_signature::ECDSA_P384_SHA256_ASN1,
            (Self::EcdsaSha384, KeyKind::P384) => &ring_signature::ECDSA_P384_SHA384_ASN1,
            _ => return None,
        };
        let made = match key {
            KeyKind::Rsa => made.to_vec(),
            KeyKind::P256 => pair(made, 32)?,
            KeyKind::P384 => pair(made, 48)?,
        };
        Some((algorithm, made))
    }
}

/// An ECDSA signature in DER, from the two numbers one behind the other that XML Signature has (XML
/// Signature 1.1 section 6.4.3).
fn pair(made: &[u8], size: usize) -> Option<Vec<u8>> {
    let (r, s) = made
        .split_at_checked(size)
        .filter(|(_, s)| s.len() == size)?;
    let mut numbers = Vec::with_capacity(2 * size + 6);
    for number in [r, s] {
        let zeros = number.iter().take_while(|byte| **byte == 0).count();
        let number = number.get(zeros..)?;
        // A first bit that is set would be a minus.
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

/// A digest algorithm. SHA-1 is not among them.
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
            return Err(Shape("the digest method has parameters"));
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

/// The one attribute that an element with an algorithm has.
fn algorithm<'a>(node: Node<'a, '_>) -> Result<&'a str, SignatureError> {
    match xml::attribute(node, "Algorithm") {
        Some(algorithm) if node.attributes().count() == 1 => Ok(algorithm),
        _ => Err(Shape(
            "a method has not exactly one attribute, its algorithm",
        )),
    }
}

/// Base64 in an element, with the white space that lines are broken by.
fn base64(element: Node<'_, '_>) -> Result<Vec<u8>, SignatureError> {
    let mut text = xml::text(element).ok_or(Shape("an element is inside of a value"))?;
    text.retain(|c| !SPACE.contains(&c));
    let bytes = STANDARD
        .decode(text)
        .map_err(|_| Shape("a value is not base64"))?;
    if bytes.is_empty() {
        return Err(Shape("a value is empty"));
    }
    Ok(bytes)
}
