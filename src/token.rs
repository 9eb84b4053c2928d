//! Session tokens: claims, signed, then sealed, opaque to their holder.
//!
//! `base64url( version ‖ key id ‖ salt ‖ AES-256-GCM( Ed25519 signature ‖ claims ) )`. Only a
//! holder of the signing key can make one, only a broker of the cluster can read one. The header
//! and the cluster id are authenticated; the secret access key is not in it and cannot be derived
//! from it. Knows keys and bytes, no store and no clock.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use prost::Message;

use crate::keyring::{Key, Keyring};

/// The form of everything behind this byte.
const VERSION: u8 = 2;
/// Version, key id, salt.
const HEADER: usize = 1 + 4 + 16;
const SIGNATURE: usize = 64;
/// Told apart from whatever else may ever be signed or sealed with these keys.
const PURPOSE: &[u8] = b"brevet session token v1";
/// The longest token, in characters.
pub const MAX_CHARACTERS: usize = 20_480;

/// What a session is. Times are in seconds since 1970.
#[derive(Clone, PartialEq, Message)]
pub struct Claims {
    /// Sixteen random bytes: the session's name everywhere.
    #[prost(bytes = "vec", tag = "1")]
    pub session_id: Vec<u8>,
    /// `ASIA…`
    #[prost(string, tag = "2")]
    pub access_key_id: String,
    /// The assumed role.
    #[prost(string, tag = "3")]
    pub role_arn: String,
    /// `AROA…`: a role made anew under the same name is another role.
    #[prost(string, tag = "4")]
    pub role_id: String,
    /// What the caller called the session.
    #[prost(string, tag = "5")]
    pub role_session_name: String,
    /// When it was issued.
    #[prost(int64, tag = "6")]
    pub issued_at: i64,
    /// From this second on it is refused.
    #[prost(int64, tag = "7")]
    pub expires_at: i64,
    /// Who stands behind the chain; empty: nobody was named.
    #[prost(string, tag = "8")]
    pub source_identity: String,
    /// Session tags, inherited ones included.
    #[prost(message, repeated, tag = "9")]
    pub tags: Vec<TagClaim>,
    /// The inline session policy; empty: none was passed.
    #[prost(string, tag = "10")]
    pub policy: String,
    /// Managed session policies.
    #[prost(string, repeated, tag = "11")]
    pub policy_arns: Vec<String>,
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
    /// Of a session; empty: a user.
    #[prost(string, tag = "4")]
    pub role_session_name: String,
    /// Of a session.
    #[prost(bytes = "vec", tag = "5")]
    pub session_id: Vec<u8>,
}

/// A session tag.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct TagClaim {
    /// Compared without case.
    #[prost(string, tag = "1")]
    pub key: String,
    /// Its value.
    #[prost(string, tag = "2")]
    pub value: String,
    /// Whether sessions made with this one inherit it.
    #[prost(bool, tag = "3")]
    pub transitive: bool,
}

/// A token that does not open. One word for every reason: its holder has no business knowing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the session token does not open")]
pub struct OpenError;

/// Signs and seals claims under the keyring's current key. `salt` must never repeat.
///
/// # Errors
/// When the keyring has no current key.
pub fn seal(keyring: &Keyring, claims: &Claims, salt: &[u8; 16]) -> Result<String, ring::error::Unspecified> {
    let key = keyring.current().ok_or(ring::error::Unspecified)?;
    let header = header(key, salt);
    let aad = associated(keyring, &header);
    let body = claims.encode_to_vec();
    let mut buffer = Vec::with_capacity(SIGNATURE + body.len() + 16);
    buffer.extend_from_slice(&key.sign(&signed_message(&aad, &body)));
    buffer.extend_from_slice(&body);
    key.seal(salt, &aad, &mut buffer)?;
    let mut token = Vec::with_capacity(HEADER + buffer.len());
    token.extend_from_slice(&header);
    token.extend_from_slice(&buffer);
    Ok(URL_SAFE_NO_PAD.encode(token))
}

/// Opens a token and checks who made it. Whether it has expired is the caller's question.
///
/// # Errors
/// [`OpenError`], whatever the reason.
pub fn open<'k>(keyring: &'k Keyring, token: &str) -> Result<(Claims, &'k Key), OpenError> {
    if token.len() > MAX_CHARACTERS {
        return Err(OpenError);
    }
    let mut bytes = URL_SAFE_NO_PAD.decode(token).map_err(|_| OpenError)?;
    let (head, sealed) = bytes.split_at_mut_checked(HEADER).ok_or(OpenError)?;
    let [VERSION, a, b, c, d, salt @ ..] = &*head else { return Err(OpenError) };
    let key = keyring.find(u32::from_be_bytes([*a, *b, *c, *d])).ok_or(OpenError)?;
    let salt: &[u8; 16] = salt.try_into().map_err(|_| OpenError)?;
    let aad = associated(keyring, head);
    let plain = key.open(salt, &aad, sealed).map_err(|_| OpenError)?;
    let (signature, body) = plain.split_at_checked(SIGNATURE).ok_or(OpenError)?;
    if !key.verify(&signed_message(&aad, body), signature) {
        return Err(OpenError);
    }
    Ok((Claims::decode(body).map_err(|_| OpenError)?, key))
}

fn header(key: &Key, salt: &[u8; 16]) -> [u8; HEADER] {
    let mut header = [0; HEADER];
    let bytes = std::iter::once(VERSION).chain(key.id().to_be_bytes()).chain(*salt);
    for (slot, byte) in header.iter_mut().zip(bytes) {
        *slot = byte;
    }
    header
}

fn associated(keyring: &Keyring, header: &[u8]) -> Vec<u8> {
    [PURPOSE, keyring.cluster_id().as_bytes(), header].concat()
}

fn signed_message(aad: &[u8], body: &[u8]) -> Vec<u8> {
    [aad, body].concat()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Timestamp;
    use crate::entropy::SystemEntropy;

    fn keyring() -> Keyring {
        Keyring::generate(&SystemEntropy::new(), Timestamp::from_seconds(1)).unwrap()
    }

    fn claims() -> Claims {
        Claims { session_id: vec![7; 16], role_session_name: "s".into(), expires_at: 5, ..Claims::default() }
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
                assert!(open(&keyring, &URL_SAFE_NO_PAD.encode(&altered)).is_err(), "byte {i} bit {bit}");
            }
            let mut shorter = bytes.clone();
            shorter.remove(i);
            assert!(open(&keyring, &URL_SAFE_NO_PAD.encode(&shorter)).is_err(), "byte {i} deleted");
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
        let later = now.plus(crate::durations::MAX * 2);
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
