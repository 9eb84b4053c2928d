//! A secret access key with a cache of the signing keys for the days, regions and services that it was
//! last used with.

use std::fmt;
use std::sync::Arc;

use arc_swap::ArcSwapOption;
use ring::hmac;
use zeroize::Zeroizing;

use super::SigError;
use super::canonical::signing_key;
use super::presented::Presented;
use crate::base::secret::Secret;

/// The number of signing keys that are cached for one secret. A client that calls STS and IAM in
/// two regions needs four.
const KEPT: usize = 4;

/// The secret of an access key or session. Four of the six HMACs of a signature depend only on the
/// secret and the scope, and a client uses the same few scopes all day, so the signing keys of the
/// scopes of the last valid signatures are cached. Only verified signatures, and signatures that
/// the broker makes itself, change the cache. The cache is wiped from memory together with the
/// secret.
pub struct SigningSecret {
    secret: Secret<String>,
    /// The cached signing keys, at most [`KEPT`] of them, the newest first; `None` while there are
    /// none.
    kept: ArcSwapOption<Vec<Arc<Derived>>>,
}

struct Derived {
    day: [u8; 8],
    region: Box<str>,
    service: Box<str>,
    key: Zeroizing<[u8; 32]>,
}

/// The day, region and service in the scope of a signature.
type Scope<'a> = (&'a str, &'a str, &'a str);

impl Derived {
    fn is_for(&self, (day, region, service): Scope<'_>) -> bool {
        self.day == *day.as_bytes() && *self.region == *region && *self.service == *service
    }
}

impl SigningSecret {
    /// Creates a secret with an empty cache.
    pub fn new(secret: Secret<String>) -> Self {
        Self {
            secret,
            kept: ArcSwapOption::empty(),
        }
    }

    /// Returns the secret access key as text, for the answer to its owner.
    pub fn expose(&self) -> &String {
        self.secret.expose()
    }

    /// The signing key for a day (`YYYYMMDD`), a region and a service. Whoever has it can sign requests of this
    /// scope as the owner of the secret: IAM User Guide, "Create a signed AWS API request".
    pub fn signing_key(&self, day: &str, region: &str, service: &str) -> Zeroizing<[u8; 32]> {
        self.derive((day, region, service))
    }

    /// Signs a text for a day, region and service. Caches the signing key for the next text.
    pub(super) fn sign(&self, scope: Scope<'_>, text: &str) -> hmac::Tag {
        let sign = |key: &hmac::Key| hmac::sign(key, text.as_bytes());
        if let Some(key) = self.kept_key(scope) {
            return sign(&key);
        }
        let key = self.derive(scope);
        let tag = sign(&hmac_key(&key));
        self.keep(scope, key);
        tag
    }

    /// Verifies that a request was signed with this secret.
    ///
    /// # Errors
    /// [`SigError::Mismatch`] if it was not.
    pub fn verify(&self, presented: &Presented) -> Result<(), SigError> {
        let scope = presented.scope();
        if let Some(key) = self.kept_key(scope) {
            return presented.verify_by(&key);
        }
        let key = self.derive(scope);
        presented.verify_by(&hmac_key(&key))?;
        self.keep(scope, key);
        Ok(())
    }

    fn kept_key(&self, scope: Scope<'_>) -> Option<hmac::Key> {
        let kept = self.kept.load();
        let derived = kept.as_ref()?.iter().find(|key| key.is_for(scope))?;
        Some(hmac_key(&derived.key))
    }

    fn derive(&self, (day, region, service): Scope<'_>) -> Zeroizing<[u8; 32]> {
        signing_key(self.secret.expose().as_bytes(), day, region, service)
    }

    /// Puts a signing key into the cache, and drops the oldest one if there are too many.
    fn keep(&self, (day, region, service): Scope<'_>, key: Zeroizing<[u8; 32]>) {
        let Ok(day) = <[u8; 8]>::try_from(day.as_bytes()) else {
            return;
        };
        let mut kept = Vec::with_capacity(KEPT);
        kept.push(Arc::new(Derived {
            day,
            region: region.into(),
            service: service.into(),
            key,
        }));
        if let Some(before) = &*self.kept.load() {
            kept.extend(before.iter().take(KEPT - 1).cloned());
        }
        self.kept.store(Some(Arc::new(kept)));
    }
}

fn hmac_key(derived: &[u8; 32]) -> hmac::Key {
    hmac::Key::new(hmac::HMAC_SHA256, derived)
}

impl fmt::Debug for SigningSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.secret.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderMap;

    use super::*;
    use crate::base::clock::Timestamp;
    use crate::base::digest::sha256;
    use crate::proof::sigv4::{Incoming, Signer};

    const RIGHT: &str = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY";

    fn signed(secret: &str, region: &str, service: &str, at: i64) -> Presented {
        let mut headers = HeaderMap::new();
        headers.insert("host", "sts.example".parse().unwrap());
        let secret_access_key = secret.as_bytes();
        let signer = Signer {
            access_key_id: "AKIAEXAMPLE",
            secret_access_key,
            session_token: None,
            region,
            service,
        };
        let payload_sha256 = sha256(b"");
        signer
            .sign(
                "POST",
                "/",
                "sts.example",
                &mut headers,
                &payload_sha256,
                Timestamp::from_seconds(at),
            )
            .unwrap();
        let (method, path, host) = ("POST", "/", "sts.example");
        Presented::read(&Incoming {
            method,
            path,
            query: &[],
            headers: &headers,
            host,
            payload_sha256,
        })
        .unwrap()
        .unwrap()
    }

    const DAY: i64 = 86_400;

    fn kept(secret: &SigningSecret) -> Vec<(String, String, [u8; 8])> {
        let kept = secret.kept.load();
        let kept = kept.iter().flat_map(|kept| kept.iter());
        kept.map(|k| (k.region.to_string(), k.service.to_string(), k.day))
            .collect()
    }

    #[test]
    fn a_kept_key_is_good_for_its_scope_and_its_secret_alone() {
        let secret = SigningSecret::new(Secret::new(RIGHT.to_owned()));
        assert!(
            secret
                .verify(&signed("another", "us-east-1", "sts", DAY))
                .is_err()
        );
        assert_eq!(kept(&secret), [], "a bad signature leaves nothing behind");
        for (region, service, at) in [
            ("us-east-1", "sts", DAY),
            ("us-east-1", "sts", DAY + 1),
            ("eu-west-1", "sts", DAY),
            ("eu-west-1", "iam", DAY),
            ("eu-west-1", "iam", 2 * DAY),
            ("us-east-1", "sts", DAY),
        ] {
            let good = signed(RIGHT, region, service, at);
            secret.verify(&good).unwrap();
            secret.verify(&good).unwrap();
            let before = kept(&secret);
            assert!(
                before
                    .iter()
                    .any(|(r, s, _)| (r.as_str(), s.as_str()) == (region, service))
            );
            // With the same scope, and with another.
            for (region, at) in [(region, at), ("ap-south-1", at), (region, at + DAY)] {
                assert!(
                    secret
                        .verify(&signed("another", region, service, at))
                        .is_err()
                );
            }
            assert_eq!(kept(&secret), before, "nobody else changes what is kept");
        }
        assert_eq!(format!("{secret:?}"), "[redacted]");
    }

    #[test]
    fn the_keys_of_the_last_four_scopes_are_kept() {
        let secret = SigningSecret::new(Secret::new(RIGHT.to_owned()));
        let verify = |region, at| {
            let good = signed(RIGHT, region, "sts", at);
            secret.verify(&good).unwrap();
        };
        let regions = || {
            let kept = kept(&secret).into_iter();
            kept.map(|(region, ..)| region).collect::<Vec<_>>()
        };
        for region in [
            "us-east-1",
            "us-west-2",
            "eu-west-1",
            "ap-south-1",
            "ca-central-1",
        ] {
            verify(region, DAY);
        }
        assert_eq!(
            regions(),
            ["ca-central-1", "ap-south-1", "eu-west-1", "us-west-2"]
        );
        // A key that is there changes nothing, and the first one is derived again.
        verify("us-west-2", DAY + 7);
        verify("us-east-1", DAY);
        assert_eq!(
            regions(),
            ["us-east-1", "ca-central-1", "ap-south-1", "eu-west-1"]
        );
        // Around midnight some clients have the next day already.
        verify("us-east-1", 2 * DAY);
        verify("us-east-1", DAY);
        assert_eq!(
            regions(),
            ["us-east-1", "us-east-1", "ca-central-1", "ap-south-1"]
        );
    }
}
