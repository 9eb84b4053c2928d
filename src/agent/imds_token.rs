//! Tokens of the instance metadata service, version 2. A token contains its expiry and a MAC over it. The agent
//! generates the key of the MAC when it starts, so it need not remember tokens, and tokens of another agent, or from
//! before a restart, are not valid. A few valid tokens are remembered nevertheless, because checking a MAC takes longer
//! than finding the credentials.

use std::hint::black_box;
use std::sync::{Mutex, PoisonError};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::hmac;
use zeroize::Zeroizing;

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
/// The index of a token's character that belongs to the random nonce; it selects the token's place in `known`.
const OF_NONCE: usize = 16;
/// How many tokens are remembered. Each program gets a token of its own, and uses it for hours.
const MOST_KNOWN: usize = 32;

/// The key that authenticates this agent's tokens.
pub struct TokenKey {
    key: hmac::Key,
    /// Tokens that were valid. The character at [`OF_NONCE`] decides which place a token has, so a new token may
    /// replace an older one.
    known: Mutex<[Option<Known>; MOST_KNOWN]>,
}

/// A token that this agent has issued.
struct Known {
    token: Zeroizing<[u8; TEXT]>,
    expires_at: Timestamp,
}

impl Known {
    /// Compares the other token with this one in constant time.
    fn is(&self, token: &[u8; TEXT]) -> bool {
        let pairs = self.token.iter().zip(token);
        black_box(pairs.fold(0, |difference, (a, b)| difference | (a ^ b))) == 0
    }
}

/// The error for every token that is not accepted. Clients are not told the reason.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct InvalidToken;

impl TokenKey {
    /// Generates a key. Tokens that were made with another key are not valid.
    ///
    /// # Errors
    /// [`NoEntropy`] if there are no random bytes.
    pub fn generate(entropy: &dyn Entropy) -> Result<Self, NoEntropy> {
        let bytes = Zeroizing::new(entropy::bytes::<32>(entropy)?);
        Ok(Self {
            key: hmac::Key::new(hmac::HMAC_SHA256, &*bytes),
            known: Mutex::new([const { None }; MOST_KNOWN]),
        })
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
        let mac = hmac::sign(&self.key, &token);
        token.extend(mac.as_ref());
        Ok(URL_SAFE_NO_PAD.encode(token))
    }

    /// Checks a token. Its MAC is compared in constant time.
    ///
    /// # Errors
    /// [`InvalidToken`] if this agent has not issued it since its start, or it has expired.
    pub fn check(&self, token: &[u8], now: Timestamp) -> Result<(), InvalidToken> {
        let token: &[u8; TEXT] = token.try_into().map_err(|_| InvalidToken)?;
        let mut places = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let place = places
            .get_mut(usize::from(token[OF_NONCE]) % MOST_KNOWN)
            .ok_or(InvalidToken)?;
        let known = place.as_ref().filter(|known| known.is(token));
        let expires_at = match known {
            Some(known) => known.expires_at,
            None => self.expiry(token)?,
        };
        if now >= expires_at {
            return Err(InvalidToken);
        }
        if known.is_none() {
            let token = Zeroizing::new(*token);
            *place = Some(Known { token, expires_at });
        }
        Ok(())
    }

    /// When a token expires.
    ///
    /// # Errors
    /// [`InvalidToken`] if this agent has not issued it.
    fn expiry(&self, token: &[u8; TEXT]) -> Result<Timestamp, InvalidToken> {
        let mut bytes = [0; LENGTH];
        if URL_SAFE_NO_PAD.decode_slice(token, &mut bytes) != Ok(LENGTH) {
            return Err(InvalidToken);
        }
        let (signed, mac) = bytes.split_at(EXPIRY + NONCE);
        hmac::verify(&self.key, signed, mac).map_err(|_| InvalidToken)?;
        let expiry = signed.first_chunk::<EXPIRY>().ok_or(InvalidToken)?;
        Ok(Timestamp::from_millis(i64::from_be_bytes(*expiry)))
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
        assert_eq!(key.check(&token, at(0)), Ok(()), "it is remembered now");
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
        assert_eq!(key.check(&token, at(0)), Ok(()), "it is still valid");
        assert_eq!(
            key.check(&[&token[..], b"="].concat(), at(0)),
            Err(InvalidToken)
        );
    }
    #[test]
    fn ag_01_more_tokens_than_are_remembered_are_good_until_they_expire() {
        let entropy = SystemEntropy::new();
        let key = TokenKey::generate(&entropy).unwrap();
        let tokens: Vec<_> = (1..=4 * u32::try_from(MOST_KNOWN).unwrap())
            .map(|ttl| (ttl, key.issue(at(0), ttl, &entropy).unwrap()))
            .collect();
        for now in [0, 1, 50, 100, 127, 128] {
            // Each is asked for twice: the second time, it is remembered.
            for (ttl, token) in tokens.iter().flat_map(|token| [token, token]) {
                let expected = if now < i64::from(*ttl) {
                    Ok(())
                } else {
                    Err(InvalidToken)
                };
                assert_eq!(
                    key.check(token.as_bytes(), at(now)),
                    expected,
                    "{ttl} {now}"
                );
            }
        }
    }
}
