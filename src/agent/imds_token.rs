//! Tokens of the instance metadata service, version 2. A token is a MAC over its own expiry by a key that this
//! agent makes when it starts, so nothing is remembered, and a token of another agent, or from before a restart, is
//! not valid.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::hmac;

use crate::base::clock::Timestamp;
use crate::base::entropy::{self, Entropy, NoEntropy};

/// The maximum time in seconds for which a token is valid: six hours (EC2 User Guide, "Use the Instance Metadata
/// Service").
pub const MAX_TTL_SECONDS: u32 = 21_600;
const EXPIRY: usize = 8;
/// The length of a token's random part. It makes `LENGTH` divisible by three, so that every base64 digit of the
/// token matters.
const NONCE: usize = 17;
const MAC: usize = 32;
const LENGTH: usize = EXPIRY + NONCE + MAC;
/// The length in characters of a token, which is all of its bytes in base64.
const TEXT: usize = LENGTH / 3 * 4;

/// The key that authenticates this agent's tokens.
pub struct TokenKey(hmac::Key);

/// The error for every token that is not accepted. Clients are not told the reason.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct InvalidToken;

impl TokenKey {
    /// Makes a key.
    ///
    /// # Errors
    /// [`NoEntropy`] if there are no random bytes.
    pub fn generate(entropy: &dyn Entropy) -> Result<Self, NoEntropy> {
        let bytes = zeroize::Zeroizing::new(entropy::bytes::<32>(entropy)?);
        Ok(Self(hmac::Key::new(hmac::HMAC_SHA256, &*bytes)))
    }

    /// Makes a token that is valid for `ttl_seconds` from `now` on.
    ///
    /// # Errors
    /// [`NoEntropy`] if there are no random bytes.
    pub fn issue(
        &self,
        now: Timestamp,
        ttl_seconds: u32,
        entropy: &dyn Entropy,
    ) -> Result<String, NoEntropy> {
        let expires_at = now.millis().saturating_add(i64::from(ttl_seconds) * 1_000);
        let mut token = Vec::with_capacity(LENGTH);
        token.extend(expires_at.to_be_bytes());
        token.extend(entropy::bytes::<NONCE>(entropy)?);
        let mac = hmac::sign(&self.0, &token);
        token.extend(mac.as_ref());
        Ok(URL_SAFE_NO_PAD.encode(token))
    }

    /// Checks a token, in constant time.
    ///
    /// # Errors
    /// [`InvalidToken`] if this agent has not issued it, or it has expired.
    pub fn check(&self, token: &[u8], now: Timestamp) -> Result<(), InvalidToken> {
        let mut bytes = [0; LENGTH];
        if token.len() != TEXT || URL_SAFE_NO_PAD.decode_slice(token, &mut bytes) != Ok(LENGTH) {
            return Err(InvalidToken);
        }
        let (signed, mac) = bytes.split_at(EXPIRY + NONCE);
        hmac::verify(&self.0, signed, mac).map_err(|_| InvalidToken)?;
        let expiry = signed.first_chunk::<EXPIRY>().ok_or(InvalidToken)?;
        match now.millis() < i64::from_be_bytes(*expiry) {
            true => Ok(()),
            false => Err(InvalidToken),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::entropy::SystemEntropy;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_seconds(seconds)
    }

    #[test]
    fn ag_01_a_token_is_good_at_its_own_agent_until_it_expires() {
        let entropy = SystemEntropy::new();
        let (own, other) = (
            TokenKey::generate(&entropy).unwrap(),
            TokenKey::generate(&entropy).unwrap(),
        );
        let token = own.issue(at(100), 1, &entropy).unwrap();
        assert_eq!(token.len(), TEXT);
        assert_ne!(own.issue(at(100), 1, &entropy).unwrap(), token);
        let just_before = Timestamp::from_millis(100_999);
        assert_eq!(own.check(token.as_bytes(), just_before), Ok(()));
        assert_eq!(own.check(token.as_bytes(), at(101)), Err(InvalidToken));
        assert_eq!(other.check(token.as_bytes(), at(100)), Err(InvalidToken));
        let longest = own.issue(at(0), MAX_TTL_SECONDS, &entropy).unwrap();
        assert_eq!(own.check(longest.as_bytes(), at(21_599)), Ok(()));
        assert_eq!(own.check(longest.as_bytes(), at(21_600)), Err(InvalidToken));
    }

    #[test]
    fn ag_01_a_changed_token_is_none() {
        let entropy = SystemEntropy::new();
        let key = TokenKey::generate(&entropy).unwrap();
        let token = key.issue(at(0), 60, &entropy).unwrap().into_bytes();
        for position in 0..token.len() {
            for other in [b'A', b'z', b'-', b'_', b'0'] {
                let mut changed = token.clone();
                if changed[position] != other {
                    changed[position] = other;
                    assert_eq!(key.check(&changed, at(0)), Err(InvalidToken), "{position}");
                }
            }
        }
        for none in [
            &b""[..],
            b"short",
            &token[1..],
            &[b'A'; 20_000],
            &[0xff; TEXT],
        ] {
            assert_eq!(key.check(none, at(0)), Err(InvalidToken));
        }
        assert_eq!(
            key.check(&[&token[..], b"="].concat(), at(0)),
            Err(InvalidToken)
        );
    }
}
