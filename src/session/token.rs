//! Session tokens: the claims of a session in an [`envelope`]. The secret access key is not in the
//! token and cannot be derived from it.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use prost::Message;

use crate::base::secret::Secret;
use crate::session::envelope::{self, OpenError, Purpose};
use crate::session::keyring::{Keyring, SessionKey};

/// The maximum length of a token in characters, as the signature of a request limits it.
pub const MAX_CHARACTERS: usize = crate::proof::sigv4::MAX_TOKEN_BYTES;
const PURPOSE: Purpose = Purpose {
    name: "brevet session token v1",
    form: 3,
    max_characters: MAX_CHARACTERS,
};

/// How a session was issued.
#[derive(Debug, Clone, Copy, PartialEq, Eq, prost::Enumeration)]
#[repr(i32)]
pub enum SessionKind {
    /// By AssumeRole and its variants: the principal is a role.
    Role = 0,
    /// By GetSessionToken: the principal is the user itself.
    User = 1,
    /// By GetFederationToken: the principal is a user that vouches for a federated user.
    FederatedUser = 2,
}

/// The claims of a session. Times are in seconds since 1970.
#[derive(Clone, PartialEq, Message)]
pub struct Claims {
    /// The id of the session: 16 random bytes.
    #[prost(bytes = "vec", tag = "1")]
    pub session_id: Vec<u8>,
    #[prost(string, tag = "2")]
    pub access_key_id: String,
    /// The ARN of the assumed role, or of the user whose session it is.
    #[prost(string, tag = "3")]
    pub principal_arn: String,
    /// The unique id of the principal, `AROA…` or `AIDA…`, so that a principal recreated under the
    /// same name is another one.
    #[prost(string, tag = "4")]
    pub principal_id: String,
    /// The name of the session; empty for a user's own session.
    #[prost(string, tag = "5")]
    pub session_name: String,
    /// The time of issue, by the clock of the broker that issued the session.
    #[prost(int64, tag = "6")]
    pub issued_at: i64,
    /// When the session expires; it is refused from this second on.
    #[prost(int64, tag = "7")]
    pub expires_at: i64,
    /// The source identity; empty if there is none.
    #[prost(string, tag = "8")]
    pub source_identity: String,
    /// The packed session policies and tags: [`crate::session::packing`].
    #[prost(bytes = "vec", tag = "9")]
    pub packed: Vec<u8>,
    /// How the session was issued, as a [`SessionKind`].
    #[prost(enumeration = "SessionKind", tag = "10")]
    pub kind: i32,
    /// When the user gave an MFA code for the session; 0 if it gave none.
    #[prost(int64, tag = "11")]
    pub mfa_at: i64,
    /// The chain of principals behind the session, oldest first: the user of a long-term key, then
    /// the sessions in between. A revocation of any of them ends this session.
    #[prost(message, repeated, tag = "12")]
    pub ancestors: Vec<Ancestor>,
    /// The last change of the feed that was in force when the session was issued. A revocation
    /// refuses sessions issued under an earlier change than its own, whatever the clocks say.
    #[prost(int64, tag = "13")]
    pub issued_under: i64,
    /// The store to which that change belongs. Another store does not know what was revoked in this
    /// one.
    #[prost(string, tag = "14")]
    pub store_id: String,
    /// The holder as an identity provider describes it, if the session was issued for a token or an
    /// assertion. The provider is then the session's only ancestor.
    #[prost(oneof = "Holder", tags = "15, 16")]
    pub holder: Option<Holder>,
    /// The workload for which a node got the session, if it did.
    #[prost(message, optional, tag = "17")]
    pub workload: Option<Workload>,
}

/// The node to which a session was issued, and the workload that it is for.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct Workload {
    /// The first 16 bytes of a digest of the node's identity, which stays the same when the node renews
    /// its own session.
    #[prost(bytes = "vec", tag = "1")]
    pub node: Vec<u8>,
    /// The kind of workload and its id, such as `instance i-0abc`.
    #[prost(string, tag = "2")]
    pub name: String,
}

/// The holder of a session as an identity provider describes it: the part of a token or an assertion that
/// policies see on every request of the session.
#[derive(Clone, PartialEq, Eq, prost::Oneof, serde::Serialize, serde::Deserialize)]
pub enum Holder {
    /// From a token of an OpenID Connect provider.
    #[prost(message, tag = "15")]
    WebIdentity(WebIdentity),
    /// From an assertion of a SAML provider.
    #[prost(message, tag = "16")]
    Saml(SamlSubject),
}

impl Holder {
    /// The subject for which the provider vouched: the claim `sub`, or the NameID.
    pub fn subject(&self) -> &str {
        match self {
            Self::WebIdentity(identity) => &identity.subject,
            Self::Saml(subject) => &subject.subject,
        }
    }
}

/// The subject of an assertion. The requests of the session have these keys and no others of the
/// assertion: IAM User Guide, "Available keys for SAML-based AWS STS federation".
#[derive(Clone, PartialEq, Eq, Message, serde::Serialize, serde::Deserialize)]
pub struct SamlSubject {
    #[prost(string, tag = "1")]
    pub subject: String,
    /// The format of the NameID, without the prefix of SAML 2.0.
    #[prost(string, tag = "2")]
    pub subject_type: String,
    /// The NameQualifier as AWS computes it: a hash of the issuer, the account and the provider's name.
    #[prost(string, tag = "3")]
    pub name_qualifier: String,
}

/// The claims of a provider's token that policies see in requests of the session. IAM User Guide,
/// "Available keys for AWS OIDC federation": exactly these are "available in session".
#[derive(Clone, PartialEq, Eq, Message, serde::Serialize, serde::Deserialize)]
pub struct WebIdentity {
    #[prost(string, tag = "1")]
    pub subject: String,
    /// The claim `azp`, or `aud` if there is no `azp`.
    #[prost(string, tag = "2")]
    pub audience: String,
    /// The claim `amr`; empty if the token has none.
    #[prost(string, repeated, tag = "3")]
    pub authentication_methods: Vec<String>,
    /// Whether the claim `amr` is a list.
    #[prost(bool, tag = "4")]
    pub methods_are_a_list: bool,
    /// The node on which the pod runs that holds a token of a Kubernetes service account; empty for
    /// other tokens.
    #[prost(string, tag = "5")]
    pub node: String,
}

/// A principal in the chain behind a session.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct Ancestor {
    /// The ARN of a user, of a role in the case of a session, or of an identity provider.
    #[prost(string, tag = "1")]
    pub arn: String,
    /// The unique id, `AIDA…` or `AROA…`, so that a principal recreated under the same name is
    /// another one.
    #[prost(string, tag = "2")]
    pub unique_id: String,
    /// The access key with which the next session of the chain was requested.
    #[prost(string, tag = "3")]
    pub access_key_id: String,
    /// The name of the role session or federated user; otherwise empty.
    #[prost(string, tag = "4")]
    pub session_name: String,
    /// The id of the session; empty for a user with a long-term key.
    #[prost(bytes = "vec", tag = "5")]
    pub session_id: Vec<u8>,
    /// Whether session policies limit the session, which then must not return to its role without
    /// them.
    #[prost(bool, tag = "6")]
    pub restricted: bool,
    /// The subject for which a provider vouched, as its tokens (`sub`) or assertions (NameID) name it;
    /// empty for other principals.
    #[prost(string, tag = "7")]
    pub subject: String,
}

/// Signs and seals claims with the keyring's current key. A `salt` must never be used twice.
///
/// # Errors
/// [`ring::error::Unspecified`] if the keyring has no current key.
pub fn seal(
    keyring: &Keyring,
    claims: &Claims,
    salt: &[u8; 16],
) -> Result<String, ring::error::Unspecified> {
    envelope::seal(keyring, &PURPOSE, &claims.encode_to_vec(), salt)
}

/// The secret access key of a session, which has 40 characters.
///
/// # Errors
/// [`ring::error::Unspecified`] if the derivation fails, which does not happen with a valid key.
pub fn secret_access_key(
    key: &SessionKey,
    session_id: &[u8; 16],
    access_key_id: &str,
) -> Result<Secret<String>, ring::error::Unspecified> {
    let secret = key.session_secret(session_id, access_key_id)?;
    Ok(Secret::new(STANDARD.encode(secret.as_ref())))
}

/// Opens a token and checks its signature. The caller must check whether it has expired.
///
/// # Errors
/// [`OpenError`] if the token is malformed or altered, or no key of the keyring made it. The error does
/// not say which.
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
        // A key that was removed from the keyring opens nothing.
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
