//! A secret access key with a cache of the signing key for the day, region and service that it was
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

/// The secret of an access key or session. Four of the six HMACs of a signature depend only on the
/// secret and the scope, and a client uses the same scope all day, so the signing key for the scope
/// of the last valid signature is cached. Only valid signatures, and those made with the secret, change
/// the cache.
pub struct SigningSecret {
    secret: Secret<String>,
    last: ArcSwapOption<Derived>,
}

struct Derived {
    day: [u8; 8],
    region: Box<str>,
    service: Box<str>,
    key: Zeroizing<[u8; 32]>,
}

impl Derived {
    fn is_for(&self, day: &str, region: &str, service: &str) -> bool {
        self.day == *day.as_bytes() && *self.region == *region && *self.service == *service
    }
}

impl SigningSecret {
    /// Creates a secret with an empty cache.
    pub fn new(secret: Secret<String>) -> Self {
        Self {
            secret,
            last: ArcSwapOption::empty(),
        }
    }

    /// The secret access key itself, for its owner.
    pub fn expose(&self) -> &String {
        self.secret.expose()
    }

    /// Signs a text for a day, region and service, and keeps the signing key for the next one.
    pub(super) fn sign(&self, (day, region, service): (&str, &str, &str), text: &str) -> hmac::Tag {
        let with =
            |key: &[u8; 32]| hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), text.as_bytes());
        if let Some(last) = &*self.last.load()
            && last.is_for(day, region, service)
        {
            return with(&last.key);
        }
        let key = signing_key(self.secret.expose().as_bytes(), day, region, service);
        let tag = with(&key);
        self.keep((day, region, service), key);
        tag
    }

    fn keep(&self, (day, region, service): (&str, &str, &str), key: Zeroizing<[u8; 32]>) {
        if let Ok(day) = day.as_bytes().try_into() {
            self.last.store(Some(Arc::new(Derived {
                day,
                region: region.into(),
                service: service.into(),
                key,
            })));
        }
    }

    /// Verifies that a request was signed with this secret.
    ///
    /// # Errors
    /// [`SigError::Mismatch`] if it was not.
    pub fn verify(&self, presented: &Presented) -> Result<(), SigError> {
        let (day, region, service) = presented.scope();
        if let Some(last) = &*self.last.load()
            && last.is_for(day, region, service)
        {
            return presented.verify_by(&hmac::Key::new(hmac::HMAC_SHA256, &*last.key));
        }
        let key = signing_key(self.secret.expose().as_bytes(), day, region, service);
        presented.verify_by(&hmac::Key::new(hmac::HMAC_SHA256, &*key))?;
        self.keep((day, region, service), key);
        Ok(())
    }
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

    #[test]
    fn a_kept_key_is_good_for_its_scope_and_its_secret_alone() {
        const DAY: i64 = 86_400;
        let secret = SigningSecret::new(Secret::new(RIGHT.to_owned()));
        let kept = || {
            secret
                .last
                .load()
                .as_ref()
                .map(|k| (k.region.to_string(), k.service.to_string(), k.day))
        };
        assert!(
            secret
                .verify(&signed("another", "us-east-1", "sts", DAY))
                .is_err()
        );
        assert_eq!(kept(), None, "a bad signature leaves nothing behind");
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
            let before = kept();
            assert_eq!(
                before.as_ref().map(|(r, s, _)| (r.as_str(), s.as_str())),
                Some((region, service))
            );
            // With the same scope, and with another.
            for (region, at) in [(region, at), ("ap-south-1", at), (region, at + DAY)] {
                assert!(
                    secret
                        .verify(&signed("another", region, service, at))
                        .is_err()
                );
            }
            assert_eq!(kept(), before, "nobody else changes what is kept");
        }
        assert_eq!(format!("{secret:?}"), "[redacted]");
    }
}
