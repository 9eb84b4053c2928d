//! Connects `jsonwebtoken` to the cryptography of `ring`, which the rest of Brevet uses too.

use std::sync::LazyLock;

use jsonwebtoken::crypto::{CryptoProvider, JwtVerifier, KeyUtils};
use jsonwebtoken::errors::{Error as JwtError, ErrorKind};
use jsonwebtoken::{Algorithm, DecodingKey, DecodingKeyKind, EncodingKey};
use ring::signature::{self as sig, UnparsedPublicKey, VerificationAlgorithm};

/// Returns whether `signature`, in base64url, is a valid signature of `message` with this key and
/// algorithm.
pub(super) fn verify(
    message: &str,
    signature: &str,
    key: &DecodingKey,
    algorithm: Algorithm,
) -> bool {
    LazyLock::force(&PROVIDER_INSTALLED);
    jsonwebtoken::crypto::verify(signature, message.as_bytes(), key, algorithm)
        .is_ok_and(|good| good)
}

/// The cryptography that `jsonwebtoken` uses. It only verifies, because Brevet signs tokens with
/// `ring` directly.
static RING: CryptoProvider = CryptoProvider {
    signer_factory: |_: &Algorithm, _: &EncodingKey| {
        Err(JwtError::from(ErrorKind::InvalidAlgorithm))
    },
    verifier_factory: |algorithm: &Algorithm, key: &DecodingKey| {
        Ok(Box::new(RingVerifier {
            algorithm: *algorithm,
            key: key.clone(),
        }) as Box<dyn JwtVerifier>)
    },
    key_utils: KeyUtils::new_unimplemented(),
};

static PROVIDER_INSTALLED: LazyLock<()> = LazyLock::new(|| {
    // An error means that a provider is already installed.
    let _ = RING.install_default();
});

struct RingVerifier {
    algorithm: Algorithm,
    key: DecodingKey,
}

impl signature::Verifier<Vec<u8>> for RingVerifier {
    fn verify(&self, message: &[u8], signature: &Vec<u8>) -> Result<(), signature::Error> {
        let (rsa, other): (
            Option<&'static sig::RsaParameters>,
            Option<&'static dyn VerificationAlgorithm>,
        ) = match self.algorithm {
            Algorithm::RS256 => (Some(&sig::RSA_PKCS1_2048_8192_SHA256), None),
            Algorithm::RS384 => (Some(&sig::RSA_PKCS1_2048_8192_SHA384), None),
            Algorithm::RS512 => (Some(&sig::RSA_PKCS1_2048_8192_SHA512), None),
            Algorithm::PS256 => (Some(&sig::RSA_PSS_2048_8192_SHA256), None),
            Algorithm::PS384 => (Some(&sig::RSA_PSS_2048_8192_SHA384), None),
            Algorithm::PS512 => (Some(&sig::RSA_PSS_2048_8192_SHA512), None),
            Algorithm::ES256 => (None, Some(&sig::ECDSA_P256_SHA256_FIXED)),
            Algorithm::ES384 => (None, Some(&sig::ECDSA_P384_SHA384_FIXED)),
            Algorithm::EdDSA => (None, Some(&sig::ED25519)),
            _ => (None, None),
        };
        let good = match (self.key.kind(), rsa, other) {
            (DecodingKeyKind::RsaModulusExponent { n, e }, Some(rsa), _) => {
                sig::RsaPublicKeyComponents { n, e }
                    .verify(rsa, message, signature)
                    .is_ok()
            }
            (DecodingKeyKind::SecretOrDer(bytes), _, Some(other)) => {
                UnparsedPublicKey::new(other, bytes)
                    .verify(message, signature)
                    .is_ok()
            }
            _ => false,
        };
        if good {
            Ok(())
        } else {
            Err(signature::Error::new())
        }
    }
}

impl JwtVerifier for RingVerifier {
    fn algorithm(&self) -> Algorithm {
        self.algorithm
    }
}
