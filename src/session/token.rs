//! Session tokens: what a session is, in an [`envelope`]. The secret access key is not in it and
//! cannot be derived from it.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use prost::Message;

use crate::base::secret::Secret;
use crate::session::envelope::{self, OpenError, Purpose};
use crate::session::keyring::{Keyring, SessionKey};

/// The longest token, in characters: what a request's signature may name.
pub const MAX_CHARACTERS: usize = crate::proof::sigv4::MAX_TOKEN_BYTES;
const PURPOSE: Purpose = Purpose {
    name: "brevet session token v1",
    form: 3,
    max_characters: MAX_CHARACTERS,
};

/// How a session came about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, prost::Enumeration)]
#[repr(i32)]
pub enum Kind {
    /// AssumeRole: the principal is a role.
    Role = 0,
    /// GetSessionToken: the principal is the user itself.
    User = 1,
    /// GetFederationToken: somebody whom a user vouches for.
    FederatedUser = 2,
}

/// What a session is. Times are in seconds since 1970.
#[derive(Clone, PartialEq, Message)]
pub struct Claims {
    /// Sixteen random bytes: the session's name everywhere.
    #[prost(bytes = "vec", tag = "1")]
    pub session_id: Vec<u8>,
    /// `ASIA…`
    #[prost(string, tag = "2")]
    pub access_key_id: String,
    /// The assumed role, or the user whose session it is.
    #[prost(string, tag = "3")]
    pub principal_arn: String,
    /// `AROA…` or `AIDA…`: a principal made anew under the same name is another one.
    #[prost(string, tag = "4")]
    pub principal_id: String,
    /// What the caller called the session; empty for a user's own.
    #[prost(string, tag = "5")]
    pub session_name: String,
    /// When it was issued.
    #[prost(int64, tag = "6")]
    pub issued_at: i64,
    /// From this second on it is refused.
    #[prost(int64, tag = "7")]
    pub expires_at: i64,
    /// Who stands behind the chain; empty: nobody was named.
    #[prost(string, tag = "8")]
    pub source_identity: String,
    /// What cuts it: [`crate::session::packing`].
    #[prost(bytes = "vec", tag = "9")]
    pub packed: Vec<u8>,
    /// How it came about.
    #[prost(enumeration = "Kind", tag = "10")]
    pub kind: i32,
    /// When its holder gave an MFA code; 0: not at all.
    #[prost(int64, tag = "11")]
    pub mfa_at: i64,
    /// Whom the session comes from, the first first: a long-term key's user, then the sessions in
    /// between. What ends one of them ends this session.
    #[prost(message, repeated, tag = "12")]
    pub ancestors: Vec<Ancestor>,
    /// The last change of the feed that was in force where it was issued. A revocation refuses what
    /// was issued under an earlier change than its own, whatever the clocks say.
    #[prost(int64, tag = "13")]
    pub issued_under: i64,
    /// The store that the change is of. Another store knows nothing of what was revoked here.
    #[prost(string, tag = "14")]
    pub store_id: String,
    /// What a provider's token said, where one was shown for this very session; the provider is its only
    /// ancestor.
    #[prost(message, optional, tag = "15")]
    pub web_identity: Option<WebIdentity>,
}

/// The claims of a provider's token that the session's own requests show to policies. IAM User Guide,
/// "Available keys for AWS OIDC federation": these are "available in session", and no others are.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct WebIdentity {
    /// `sub`
    #[prost(string, tag = "1")]
    pub subject: String,
    /// `azp`; without one, `aud`.
    #[prost(string, tag = "2")]
    pub audience: String,
    /// `amr`; empty: the token has none.
    #[prost(string, repeated, tag = "3")]
    pub authentication_methods: Vec<String>,
    /// Whether `amr` is a list.
    #[prost(bool, tag = "4")]
    pub methods_are_a_list: bool,
}

/// A principal in the chain that led to a session.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct Ancestor {
    /// A user's ARN, or the ARN of a session's role.
    #[prost(string, tag = "1")]
    pub arn: String,
    /// `AIDA…` or `AROA…`: a principal made anew under the same name is another one.
    #[prost(string, tag = "2")]
    pub unique_id: String,
    /// The key that it signed with.
    #[prost(string, tag = "3")]
    pub access_key_id: String,
    /// Of a role's session or a federated user.
    #[prost(string, tag = "4")]
    pub session_name: String,
    /// Of a session; empty: a user by a long-term key.
    #[prost(bytes = "vec", tag = "5")]
    pub session_id: Vec<u8>,
    /// Whether session policies cut it: such a session does not come back to its role without them.
    #[prost(bool, tag = "6")]
    pub restricted: bool,
    /// Of a provider: whom it vouched for, as its tokens name them (`sub`).
    #[prost(string, tag = "7")]
    pub subject: String,
}

/// Signs and seals claims under the keyring's current key. `salt` must never repeat.
///
/// # Errors
/// When the keyring has no current key.
pub fn seal(
    keyring: &Keyring,
    claims: &Claims,
    salt: &[u8; 16],
) -> Result<String, ring::error::Unspecified> {
    envelope::seal(keyring, &PURPOSE, &claims.encode_to_vec(), salt)
}

/// The forty characters that a session's holder signs with.
///
/// # Errors
/// Never with a sound key.
pub fn secret_access_key(
    key: &SessionKey,
    session_id: &[u8; 16],
    access_key_id: &str,
) -> Result<Secret<String>, ring::error::Unspecified> {
    let secret = key.session_secret(session_id, access_key_id)?;
    Ok(Secret::new(STANDARD.encode(secret.as_ref())))
}

/// Opens a token and checks who made it. Whether it has expired is the caller's question.
///
/// # Errors
/// [`OpenError`], whatever the reason.
pub fn open<'k>(keyring: &'k Keyring, token: &str) -> Result<(Claims, &'k SessionKey), OpenError> {
    let (body, key) = envelope::open(keyring, &PURPOSE, token)?;
    Ok((Claims::decode(&*body).map_err(|_| OpenError)?, key))
}

#[cfg(test)]
mod tests {
    use base64::Engine;
    use base64::engine::general_purpose::URL_SAFE_NO_PAD;

    use super::*;
    use crate::base::clock::Timestamp;
    use crate::base::entropy::SystemEntropy;

    fn keyring() -> Keyring {
        Keyring::generate(&SystemEntropy::new(), Timestamp::from_seconds(1)).unwrap()
    }

    fn claims() -> Claims {
        Claims {
            session_id: vec![7; 16],
            session_name: "s".into(),
            expires_at: 5,
            ..Claims::default()
        }
    }

    #[test]
    fn tk_07_every_flipped_bit_and_every_deleted_byte_refuses() {
        let keyring = keyring();
        let token = seal(&keyring, &claims(), &[1; 16]).unwrap();
        assert_eq!(open(&keyring, &token).unwrap().0, claims());
        let bytes = URL_SAFE_NO_PAD.decode(&token).unwrap();
        for i in 0..bytes.len() {
            for bit in 0..8 {
                let mut altered = bytes.clone();
                altered[i] ^= 1 << bit;
                assert!(
                    open(&keyring, &URL_SAFE_NO_PAD.encode(&altered)).is_err(),
                    "byte {i} bit {bit}"
                );
            }
            let mut shorter = bytes.clone();
            shorter.remove(i);
            assert!(
                open(&keyring, &URL_SAFE_NO_PAD.encode(&shorter)).is_err(),
                "byte {i} deleted"
            );
        }
    }

    #[test]
    fn tk_05_other_spellings_of_a_token_refuse() {
        let keyring = keyring();
        let token = seal(&keyring, &claims(), &[1; 16]).unwrap();
        let mut tail = token.clone();
        let last = tail.pop().unwrap();
        for c in ('A'..='Z').chain('a'..='z').chain('0'..='9') {
            let other = format!("{tail}{c}");
            assert_eq!(open(&keyring, &other).is_ok(), c == last, "{c}");
        }
        for bad in [
            format!("{token}="),
            format!(" {token}"),
            format!("{token}\n"),
            format!("{token}A"),
            ".".repeat(1 << 20),
            "a.b.c".into(),
            String::new(),
        ] {
            assert!(open(&keyring, &bad).is_err());
        }
    }

    #[test]
    fn tk_02_tk_06_keys_and_clusters_do_not_mix() {
        let (one, two) = (keyring(), keyring());
        let token = seal(&one, &claims(), &[1; 16]).unwrap();
        assert!(open(&two, &token).is_err());
        // A retired key is gone from the ring and opens nothing.
        let now = Timestamp::from_seconds(1);
        let later = now.plus(crate::session::durations::MAX * 2);
        let entropy = SystemEntropy::new();
        let rotated = one.rotate(&entropy, now).unwrap();
        assert!(open(&rotated, &token).is_ok());
        let retired = rotated.rotate(&entropy, later).unwrap();
        assert!(open(&retired, &token).is_err());
    }

    proptest::proptest! {
        #[test]
        fn no_text_opens_or_panics(text in ".{0,300}") {
            proptest::prop_assert!(open(&keyring(), &text).is_err());
        }
    }
}
