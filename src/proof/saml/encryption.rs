//! Decrypts encrypted assertions of one form (XML Encryption 1.1, SAML Core 2.0 section 6.1): given
//! an encrypted element and private keys, it returns the octets of the element. Anybody can encrypt
//! for a public key, so decryption does not show who made an assertion: the result must be verified
//! like any other assertion.
//!
//! The content must be encrypted with AES-GCM, and its key with RSA-OAEP. AES-CBC is not accepted,
//! because it does not authenticate the content: an attacker who learns whether an altered
//! ciphertext could be decrypted can find out the plaintext (Jager and Somorovsky, "How to Break
//! XML Encryption", 2011). For the same reason, all failures with a key or a ciphertext result in
//! the same refusal.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ring::aead;
use roxmltree::Node;
use zeroize::Zeroizing;

use super::element::Element;
use super::limits::SPACE;
use super::refusal::Refusal;
use super::seen::seen;
use super::signature::NAMESPACE as XMLDSIG;
use super::xml;

mod key;
#[cfg(all(test, feature = "saml-encryption"))]
mod tests;

pub use key::{DecryptionKey, DecryptionKeyError};

const XMLENC: &str = "http://www.w3.org/2001/04/xmlenc#";
const XMLENC11: &str = "http://www.w3.org/2009/xmlenc11#";

/// The maximum number of copies of the content's key, each encrypted for another private key. The
/// broker tries each copy with each private key of the provider, which takes some milliseconds for
/// each pair with keys of 4,096 bits.
const MAX_COPIES: usize = 2;
/// The maximum number of private keys of a provider. If a provider has fewer, or does not exist,
/// decoy keys fill up the number, so that the time of a refusal does not show which providers have
/// keys. The decoy has 2,048 bits, so a ciphertext for a longer key is still refused sooner if the
/// provider has no such key.
const MAX_KEYS: usize = 2;

/// The digest of RSA-OAEP, which the mask generation function must use, too.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Oaep {
    Sha1,
    Sha256,
}

/// The key of the content, encrypted for one private key.
struct Copy {
    how: Oaep,
    ciphertext: Vec<u8>,
}

/// Decrypts an `EncryptedAssertion`, and returns the octets of the assertion.
///
/// # Errors
/// [`Refusal::EncryptionNotBuilt`] if the program was built without the feature `saml-encryption`,
/// [`Refusal::Encrypted`] if there are no private keys, [`Refusal::Element`] if the element has another form,
/// [`Refusal::EncryptionAlgorithm`] if an algorithm is not accepted, and [`Refusal::Decryption`] if none of the keys
/// decrypts it.
pub(super) fn decrypt(encrypted: Node<'_, '_>, keys: &[DecryptionKey]) -> Result<Vec<u8>, Refusal> {
    let opened = open_with(encrypted, keys);
    if !cfg!(feature = "saml-encryption") {
        return Err(Refusal::EncryptionNotBuilt);
    }
    // After as much work as for a provider that has keys.
    if keys.is_empty() {
        Err(Refusal::Encrypted)
    } else {
        opened
    }
}

fn open_with(encrypted: Node<'_, '_>, keys: &[DecryptionKey]) -> Result<Vec<u8>, Refusal> {
    let encrypted = Element(encrypted, "EncryptedAssertion");
    encrypted.has_only(&[(XMLENC, "EncryptedData"), (XMLENC, "EncryptedKey")])?;
    let data = Element(encrypted.one(XMLENC, "EncryptedData")?, "EncryptedData");
    // The other types are the content of an element, and data that is not XML.
    if !matches!(
        data.text_attribute("Type")?.as_deref(),
        None | Some("http://www.w3.org/2001/04/xmlenc#Element")
    ) {
        return Err(data.wrong("the Type is not http://www.w3.org/2001/04/xmlenc#Element"));
    }
    let method = Element(data.one(XMLENC, "EncryptionMethod")?, "EncryptionMethod");
    method.has_only(&[])?;
    let algorithm = match xml::attribute(method.0, "Algorithm") {
        Some("http://www.w3.org/2009/xmlenc11#aes128-gcm") => &aead::AES_128_GCM,
        Some("http://www.w3.org/2009/xmlenc11#aes256-gcm") => &aead::AES_256_GCM,
        other => return Err(not_accepted(other)),
    };
    let ciphertext = cipher_value(data)?;
    let copies = copies(encrypted, data)?;
    let keys = tried(keys);
    for copy in &copies {
        for key in &keys {
            let opened = key
                .open(copy.how, &copy.ciphertext)
                .and_then(|key| open(algorithm, &key, &ciphertext));
            if let Some(octets) = opened {
                return Ok(octets);
            }
        }
    }
    Err(Refusal::Decryption)
}

/// Returns the keys to try for a provider with these keys: [`MAX_KEYS`] keys, filled up with the decoy. Without the
/// feature `saml-encryption`, there are none.
fn tried(keys: &[DecryptionKey]) -> Vec<&DecryptionKey> {
    let missing = MAX_KEYS.saturating_sub(keys.len());
    let decoys = key::decoy().into_iter().cycle().take(missing);
    keys.iter().chain(decoys).collect()
}

/// Reads the encrypted copies of the content's key, which are in the `KeyInfo` of the encrypted
/// data or next to that data (SAML Core 2.0 section 6.1).
fn copies(encrypted: Element<'_, '_>, data: Element<'_, '_>) -> Result<Vec<Copy>, Refusal> {
    let inside = data
        .optional(XMLDSIG, "KeyInfo")?
        .into_iter()
        .flat_map(|info| xml::children(info, XMLENC, "EncryptedKey"));
    let beside = xml::children(encrypted.0, XMLENC, "EncryptedKey");
    let all: Vec<_> = inside.chain(beside).collect();
    if all.is_empty() || all.len() > MAX_COPIES {
        return Err(encrypted.wrong("there must be one or two EncryptedKey elements"));
    }
    all.into_iter()
        .map(|copy| {
            let copy = Element(copy, "EncryptedKey");
            Ok(Copy {
                how: oaep(copy)?,
                ciphertext: cipher_value(copy)?,
            })
        })
        .collect()
}

/// Reads the parameters of RSA-OAEP: XML Encryption 1.1 section 5.5. A missing digest or mask
/// generation function means SHA-1, which is secure in this use.
fn oaep(copy: Element<'_, '_>) -> Result<Oaep, Refusal> {
    let method = Element(copy.one(XMLENC, "EncryptionMethod")?, "EncryptionMethod");
    method.has_only(&[(XMLDSIG, "DigestMethod"), (XMLENC11, "MGF")])?;
    let named = |namespace, name: &'static str| {
        let element = method.optional(namespace, name)?;
        Ok::<_, Refusal>(element.map(|e| xml::attribute(e, "Algorithm").unwrap_or_default()))
    };
    let (digest, mask) = (named(XMLDSIG, "DigestMethod")?, named(XMLENC11, "MGF")?);
    let digest = match digest {
        None | Some("http://www.w3.org/2000/09/xmldsig#sha1") => Oaep::Sha1,
        Some("http://www.w3.org/2001/04/xmlenc#sha256") => Oaep::Sha256,
        other => return Err(not_accepted(other)),
    };
    let mask = match (xml::attribute(method.0, "Algorithm"), mask) {
        (Some("http://www.w3.org/2001/04/xmlenc#rsa-oaep-mgf1p"), None) => Oaep::Sha1,
        (Some("http://www.w3.org/2009/xmlenc11#rsa-oaep"), mask) => match mask {
            None | Some("http://www.w3.org/2009/xmlenc11#mgf1sha1") => Oaep::Sha1,
            Some("http://www.w3.org/2009/xmlenc11#mgf1sha256") => Oaep::Sha256,
            other => return Err(not_accepted(other)),
        },
        (other, _) => return Err(not_accepted(other)),
    };
    if digest == mask {
        Ok(digest)
    } else {
        Err(Refusal::EncryptionAlgorithm(
            "RSA-OAEP with different hash functions for DigestMethod and MGF".to_owned(),
        ))
    }
}

fn not_accepted(algorithm: Option<&str>) -> Refusal {
    Refusal::EncryptionAlgorithm(match algorithm.filter(|uri| !uri.is_empty()) {
        Some(uri) => format!("`{}`", seen(uri)),
        None => "an unknown algorithm, whose attribute Algorithm is missing or empty".to_owned(),
    })
}

fn cipher_value(of: Element<'_, '_>) -> Result<Vec<u8>, Refusal> {
    let data = Element(of.one(XMLENC, "CipherData")?, "CipherData");
    data.has_only(&[(XMLENC, "CipherValue")])?;
    let value = Element(data.one(XMLENC, "CipherValue")?, "CipherValue");
    let mut text = xml::text(value.0).ok_or(value.wrong("the text contains an element"))?;
    text.retain(|c| !SPACE.contains(&c));
    STANDARD
        .decode(text)
        .map_err(|_| value.wrong("the text is not base64"))
}

/// Decrypts the content, which consists of a nonce, the ciphertext and its tag (XML Encryption 1.1 section 5.2.4);
/// `None` if the key is not the right one, or the ciphertext was altered or is too short.
fn open(
    algorithm: &'static aead::Algorithm,
    key: &Zeroizing<Vec<u8>>,
    ciphertext: &[u8],
) -> Option<Vec<u8>> {
    let key = aead::LessSafeKey::new(aead::UnboundKey::new(algorithm, key).ok()?);
    let (nonce, rest) = ciphertext.split_at_checked(aead::NONCE_LEN)?;
    let nonce = aead::Nonce::try_assume_unique_for_key(nonce).ok()?;
    let mut octets = rest.to_vec();
    let length = key
        .open_in_place(nonce, aead::Aad::empty(), &mut octets)
        .ok()?
        .len();
    octets.truncate(length);
    Some(octets)
}
