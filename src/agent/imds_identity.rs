//! The instance identity document (EC2 User Guide, "Instance identity documents"), and its signature by a key of this
//! node. A program that trusts the key can tell from the document which instance it is communicating with.

use std::path::PathBuf;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ring::rand::SecureRandom;
use ring::signature::{self, EcdsaKeyPair, RsaKeyPair};
use serde_json::json;
use zeroize::Zeroizing;

use super::config::ImdsConfig;
use crate::base::arn::account_of;
use crate::base::clock::Timestamp;
use crate::base::entropy;
use crate::files::{self, Audience, FileError};

const FOLDER: &str = "/latest/dynamic/instance-identity";
const MAX_KEY_BYTES: u64 = 16_384;

/// Why the document cannot be signed.
#[derive(Debug, thiserror::Error)]
pub enum IdentityKeyError {
    #[error(transparent)]
    File(#[from] FileError),
    /// The file does not contain a key that can sign.
    #[error(
        "{0}: must hold an RSA (2048 to 4096 bits) or P-256 private key in PEM that begins with `-----BEGIN PRIVATE \
         KEY-----` (PKCS #8); make one with `openssl genpkey -algorithm RSA -pkeyopt rsa_keygen_bits:2048`"
    )]
    Key(PathBuf),
}

/// Makes the pages with the document and, if there is a key, its signature: SHA-256 with RSA (PKCS #1 v1.5) or
/// P-256, in base64, as `openssl dgst -sha256 -verify` checks it.
///
/// # Errors
/// See [`IdentityKeyError`].
pub fn pages(
    config: &ImdsConfig,
    started_at: Timestamp,
) -> Result<Vec<(String, String)>, IdentityKeyError> {
    let document = document(config, started_at);
    let mut names = vec!["document"];
    let mut pages = Vec::new();
    if let Some(path) = &config.identity_document_key {
        let key = files::read(path, Audience::Owner, MAX_KEY_BYTES)?;
        let signature = std::str::from_utf8(key.expose())
            .ok()
            .and_then(|pem| sign(pem, document.as_bytes()));
        let signature = signature.ok_or_else(|| IdentityKeyError::Key(path.clone()))?;
        names.push("signature");
        pages.push((format!("{FOLDER}/signature"), STANDARD.encode(signature)));
    }
    pages.push((format!("{FOLDER}/document"), document));
    pages.push((FOLDER.to_owned(), names.join("\n")));
    pages.push((
        "/latest/dynamic".to_owned(),
        "instance-identity/".to_owned(),
    ));
    Ok(pages)
}

fn document(config: &ImdsConfig, started_at: Timestamp) -> String {
    let value = |path: &str| config.meta_data.value(path);
    let document = json!({
        "accountId": account_of(&config.role_arn),
        "architecture": std::env::consts::ARCH,
        "availabilityZone": value("placement/availability-zone"),
        "billingProducts": null,
        "devpayProductCodes": null,
        "imageId": value("ami-id"),
        "instanceId": value("instance-id"),
        "instanceType": value("instance-type"),
        "kernelId": null,
        "marketplaceProductCodes": null,
        "pendingTime": started_at.to_string(),
        "privateIp": value("local-ipv4"),
        "ramdiskId": null,
        "region": value("placement/region"),
        "version": "2017-09-30",
    });
    format!("{document:#}")
}

/// Signs with a key in PEM (RFC 7468, PKCS #8). `None` if the text holds no RSA or P-256 key of this form, or the key
/// cannot sign.
fn sign(pem: &str, message: &[u8]) -> Option<Vec<u8>> {
    let (_, rest) = pem.split_once("-----BEGIN PRIVATE KEY-----")?;
    let (base64, _) = rest.split_once("-----END PRIVATE KEY-----")?;
    let digits: Zeroizing<Vec<u8>> = Zeroizing::new(
        base64
            .bytes()
            .filter(|b| !b.is_ascii_whitespace())
            .collect(),
    );
    let der = Zeroizing::new(STANDARD.decode(&*digits).ok()?);
    let random = entropy::system();
    if let Ok(key) = RsaKeyPair::from_pkcs8(&der) {
        let mut signed = vec![0; key.public().modulus_len()];
        key.sign(&signature::RSA_PKCS1_SHA256, &random, message, &mut signed)
            .ok()?;
        return Some(signed);
    }
    let algorithm = &signature::ECDSA_P256_SHA256_ASN1_SIGNING;
    let key = EcdsaKeyPair::from_pkcs8(algorithm, &der, &random as &dyn SecureRandom).ok()?;
    Some(key.sign(&random, message).ok()?.as_ref().to_vec())
}

#[cfg(test)]
mod tests {
    use ring::signature::{KeyPair, UnparsedPublicKey};

    use super::*;

    #[test]
    fn the_signature_is_of_the_key() {
        let algorithm = &signature::ECDSA_P256_SHA256_ASN1_SIGNING;
        let random = entropy::system();
        let der = EcdsaKeyPair::generate_pkcs8(algorithm, &random).unwrap();
        let base64 = STANDARD.encode(der.as_ref());
        let pem = format!("-----BEGIN PRIVATE KEY-----\n{base64}\n-----END PRIVATE KEY-----\n");
        let signed = sign(&pem, b"document").unwrap();
        let key = EcdsaKeyPair::from_pkcs8(algorithm, der.as_ref(), &random).unwrap();
        let public = UnparsedPublicKey::new(&signature::ECDSA_P256_SHA256_ASN1, key.public_key());
        assert!(public.verify(b"document", &signed).is_ok());
        assert!(public.verify(b"other", &signed).is_err());
        for none in [
            "",
            "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n",
        ] {
            assert_eq!(sign(none, b"document"), None);
        }
    }
}
