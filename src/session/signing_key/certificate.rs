//! The self-signed certificate of a key that signs tokens, for services that read the member `x5c` of a key set (RFC
//! 7517 section 4.7). It is encoded in DER by X.690 and RFC 5280.
//!
//! The certificate proves nothing by itself: a verifier can trust it only as far as the key set in which it is
//! published. The keyring file contains its signature, and everything else is computed from the key, so that every
//! broker publishes the same certificate.

use super::Algorithm;
use crate::base::digest::sha256;

/// The start of the validity, a `UTCTime`. It is the same for every key, since the key set says which keys
/// are valid.
const NOT_BEFORE: &[u8] = b"250101000000Z";
/// The end of the validity: by RFC 5280 section 4.1.2.5 this value means "no well-defined expiration date".
const NOT_AFTER: &[u8] = b"99991231235959Z";

const INTEGER: u8 = 0x02;
const BIT_STRING: u8 = 0x03;
const OCTET_STRING: u8 = 0x04;
const OBJECT_IDENTIFIER: u8 = 0x06;
const UTF8_STRING: u8 = 0x0c;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;
const SEQUENCE: u8 = 0x30;
const SET: u8 = 0x31;

const NULL: &[u8] = &[0x05, 0x00];
const COMMON_NAME: &[u8] = &[0x55, 0x04, 0x03];
const KEY_USAGE: &[u8] = &[0x55, 0x1d, 0x0f];
const BASIC_CONSTRAINTS: &[u8] = &[0x55, 0x1d, 0x13];
const RSA_ENCRYPTION: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x01];
const SHA256_WITH_RSA: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x0b];
const EC_PUBLIC_KEY: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01];
const P_256: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07];
const P_384: &[u8] = &[0x2b, 0x81, 0x04, 0x00, 0x22];
const ECDSA_WITH_SHA256: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x03, 0x02];
const ECDSA_WITH_SHA384: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x03, 0x03];
const ED25519: &[u8] = &[0x2b, 0x65, 0x70];

/// Encodes the part of the certificate that is signed (`TBSCertificate`). `public_key` is the key as ring gives it: an
/// `RSAPublicKey`, an uncompressed point, or the 32 bytes of Ed25519.
pub(super) fn to_be_signed(key_id: &str, algorithm: Algorithm, public_key: &[u8]) -> Vec<u8> {
    let key_algorithm = match algorithm {
        Algorithm::RS256 => sequence(&[&oid(RSA_ENCRYPTION), NULL]),
        Algorithm::ES256 => sequence(&[&oid(EC_PUBLIC_KEY), &oid(P_256)]),
        Algorithm::ES384 => sequence(&[&oid(EC_PUBLIC_KEY), &oid(P_384)]),
        Algorithm::EdDSA => sequence(&[&oid(ED25519)]),
    };
    let public = sequence(&[&key_algorithm, &bits(public_key)]);
    // Sixteen bytes, positive and without a leading zero: RFC 5280 section 4.1.2.2.
    let [first, rest @ ..] = sha256(&public);
    let digits = rest.iter().take(15).copied();
    let serial: Vec<u8> = std::iter::once(first & 0x3f | 0x40).chain(digits).collect();
    let common_name = element(UTF8_STRING, format!("Brevet key {key_id}").as_bytes());
    let attribute = sequence(&[&oid(COMMON_NAME), &common_name]);
    let name = sequence(&[&element(SET, &attribute)]);
    let validity = sequence(&[
        &element(UTC_TIME, NOT_BEFORE),
        &element(GENERALIZED_TIME, NOT_AFTER),
    ]);
    let critical: &[u8] = &[0x01, 0x01, 0xff];
    // Not a certification authority; for digital signatures only.
    let no_authority = element(OCTET_STRING, &sequence(&[]));
    let signs = element(OCTET_STRING, &[BIT_STRING, 2, 7, 0x80]);
    let extensions = sequence(&[
        &sequence(&[&oid(BASIC_CONSTRAINTS), critical, &no_authority]),
        &sequence(&[&oid(KEY_USAGE), critical, &signs]),
    ]);
    sequence(&[
        // Version 3.
        &element(0xa0, &[INTEGER, 1, 2]),
        &element(INTEGER, &serial),
        &signature_algorithm(algorithm),
        &name,
        &validity,
        &name,
        &public,
        &element(0xa3, &extensions),
    ])
}

/// Assembles the certificate from its signed part and the signature. `signature` has the format of signatures of tokens
/// (RFC 7518 section 3); this function converts it to the format of X.509.
pub(super) fn certificate(to_be_signed: &[u8], algorithm: Algorithm, signature: &[u8]) -> Vec<u8> {
    let signature = match algorithm {
        Algorithm::RS256 | Algorithm::EdDSA => signature.to_vec(),
        // Certificates have the two numbers of ECDSA in DER: RFC 3279 section 2.2.3.
        Algorithm::ES256 | Algorithm::ES384 => {
            let (r, s) = signature.split_at(signature.len() / 2);
            sequence(&[&unsigned(r), &unsigned(s)])
        }
    };
    sequence(&[
        to_be_signed,
        &signature_algorithm(algorithm),
        &bits(&signature),
    ])
}

fn signature_algorithm(algorithm: Algorithm) -> Vec<u8> {
    match algorithm {
        Algorithm::RS256 => sequence(&[&oid(SHA256_WITH_RSA), NULL]),
        Algorithm::ES256 => sequence(&[&oid(ECDSA_WITH_SHA256)]),
        Algorithm::ES384 => sequence(&[&oid(ECDSA_WITH_SHA384)]),
        Algorithm::EdDSA => sequence(&[&oid(ED25519)]),
    }
}

fn oid(bytes: &[u8]) -> Vec<u8> {
    element(OBJECT_IDENTIFIER, bytes)
}

fn bits(bytes: &[u8]) -> Vec<u8> {
    element(BIT_STRING, &[&[0], bytes].concat())
}

fn sequence(elements: &[&[u8]]) -> Vec<u8> {
    element(SEQUENCE, &elements.concat())
}

/// Encodes an INTEGER that is not negative, in the shortest form as DER requires.
fn unsigned(bytes: &[u8]) -> Vec<u8> {
    let zeros = bytes.iter().take_while(|b| **b == 0).count();
    let digits = bytes.get(zeros..).unwrap_or_default();
    let padding: &[u8] = match digits.first() {
        Some(first) if *first < 0x80 => &[],
        _ => &[0],
    };
    element(INTEGER, &[padding, digits].concat())
}

/// Encodes an element of DER: the tag, the length and the content, which is shorter than 65,536 bytes.
fn element(tag: u8, content: &[u8]) -> Vec<u8> {
    let [high, low] = u16::try_from(content.len())
        .unwrap_or(u16::MAX)
        .to_be_bytes();
    let length: &[u8] = match (high, low) {
        (0, 0..=0x7f) => &[low],
        (0, _) => &[0x81, low],
        _ => &[0x82, high, low],
    };
    [&[tag], length, content].concat()
}

#[cfg(test)]
mod tests {
    use x509_parser::prelude::{FromDer, X509Certificate};

    use super::super::SigningKey;
    use super::*;
    use crate::base::clock::Timestamp;
    use crate::base::entropy::SystemEntropy;
    use crate::session::key_state::KeyState;

    #[test]
    fn each_key_has_a_certificate_that_others_read() {
        let (entropy, now) = (SystemEntropy::new(), Timestamp::from_seconds(1));
        for algorithm in Algorithm::ALL {
            let key = SigningKey::generate(algorithm, KeyState::Next, &entropy, now).unwrap();
            let der = key.certificate().unwrap();
            let (rest, read) = X509Certificate::from_der(&der).unwrap();
            assert!(rest.is_empty(), "{algorithm:?}");
            assert_eq!(read.subject(), read.issuer());
            assert_eq!(
                read.subject().to_string(),
                format!("CN=Brevet key {}", key.id())
            );
            assert!(!read.is_ca());
            let usage = read.key_usage().unwrap().unwrap();
            assert!(usage.critical && usage.value.digital_signature());
            assert!(!usage.value.key_cert_sign());
            assert!(read.serial.bits() > 120, "{}", read.serial);
            let bytes = &read.public_key().subject_public_key.data;
            assert_eq!(&**bytes, key.public_key(), "{algorithm:?}");
            // Another broker that reads the same file publishes the same certificate.
            let again = SigningKey::parse(&key.document()).unwrap();
            assert_eq!(again.certificate().unwrap(), der);
            assert_eq!(again.jwk(), key.jwk());
        }
    }

    #[test]
    fn numbers_are_positive_and_short() {
        assert_eq!(unsigned(&[0, 0, 1]), [2, 1, 1]);
        assert_eq!(unsigned(&[0x80]), [2, 2, 0, 0x80]);
        assert_eq!(unsigned(&[0, 0]), [2, 1, 0]);
        assert_eq!(element(4, &[7; 200])[..3], [4, 0x81, 200]);
        assert_eq!(element(4, &[7; 300])[..4], [4, 0x82, 1, 44]);
    }
}
