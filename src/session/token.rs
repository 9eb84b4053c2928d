//! Session tokens: the claims of a session in an [envelope](crate::session::envelope). The secret access key is not in
//! the token and cannot be derived from it.
//!
//! There are three forms:
//!
//! - Form 3: tokens of an earlier version, each with a signature of its own.
//! - Form 4: tokens that are issued together share one signature.
//! - Form 5: tokens of narrowed sessions. Brokers of earlier versions would ignore the limits of these sessions, so the
//!   form makes them refuse the tokens.

use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use prost::Message;

use crate::base::secret::Secret;
use crate::session::batch::{Batch, VerifiedRoots};
use crate::session::envelope::{OpenError, Purpose, Received, Unsigned, open_batched};
use crate::session::keyring::{Keyring, SessionKey};

/// The maximum length of a token in characters. Requests with a longer token are refused when their signature is read.
pub const MAX_CHARACTERS: usize = crate::proof::sigv4::MAX_TOKEN_BYTES;
/// The purpose that the envelopes of session tokens are sealed for.
pub const PURPOSE: Purpose = Purpose {
    name: "brevet session token v1",
    form: 4,
    max_characters: MAX_CHARACTERS,
};
/// The purpose of tokens of an earlier version, each of which was signed by itself. Such tokens are accepted until they
/// expire.
const SIGNED_ALONE: Purpose = Purpose { form: 3, ..PURPOSE };
/// The purpose of tokens of sessions that GetScopedCredentials has narrowed.
const NARROWED: Purpose = Purpose { form: 5, ..PURPOSE };

/// How a session was issued, which determines who its principal is.
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
    /// When an MFA code was given for the session; 0 if none was given.
    #[prost(int64, tag = "11")]
    pub mfa_at: i64,
    /// The chain of principals behind the session, oldest first: a user or an identity provider, then the sessions in
    /// between. A revocation of any of them ends this session.
    #[prost(message, repeated, tag = "12")]
    pub ancestors: Vec<Ancestor>,
    /// The number of the last change of the feed that was in force when the session was issued.
    ///
    /// A revocation is also a change with a number. It ends a session that it concerns if the session was issued under
    /// an earlier change. Clocks do not matter for this.
    #[prost(int64, tag = "13")]
    pub issued_under: i64,
    /// The id of the store to which the change in [`Self::issued_under`] belongs. A broker on another store refuses the
    /// session, because that store does not know what was revoked in this one.
    #[prost(string, tag = "14")]
    pub store_id: String,
    /// The holder as an identity provider describes it, if the session was issued for a token or an assertion. The
    /// provider is then the session's only ancestor, apart from the earlier credentials of a narrowed session.
    #[prost(oneof = "Holder", tags = "15, 16")]
    pub holder: Option<Holder>,
    /// The workload for which a node requested the session; `None` for other sessions.
    #[prost(message, optional, tag = "17")]
    pub workload: Option<Workload>,
    /// How the session was narrowed by GetScopedCredentials; `None` if it was not. A narrowed session keeps the
    /// identity, the times of issue and of MFA, and [`Self::issued_under`] of the original session, so that a condition
    /// on these values or a revocation of the original session applies to it as well.
    #[prost(message, optional, tag = "18")]
    pub narrowed: Option<Narrowed>,
    // Tag 19 is kept free for caveats that a holder adds without the broker.
    /// Zero bytes that make the token at least as long as the caller requested.
    #[prost(bytes = "vec", tag = "20")]
    pub padding: Vec<u8>,
}

/// How a session was narrowed by GetScopedCredentials, once or several times.
#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub struct Narrowed {
    /// When these credentials were issued, in seconds since 1970.
    #[prost(int64, tag = "1")]
    pub at: i64,
    /// How often the session was narrowed. This is also the number of entries at the end of [`Claims::ancestors`] that
    /// are earlier credentials of this session, the oldest first.
    #[prost(uint32, tag = "2")]
    pub times: u32,
}

impl Claims {
    /// The principals behind the session, the oldest first. If the session was narrowed, its own earlier
    /// credentials, which are the last of the ancestors, are left out.
    pub fn origins(&self) -> &[Ancestor] {
        let times = self.narrowed.map_or(0, |narrowed| narrowed.times);
        let times = usize::try_from(times).unwrap_or(usize::MAX);
        let count = self.ancestors.len().saturating_sub(times);
        self.ancestors.get(..count).unwrap_or_default()
    }

    /// The time, in seconds since 1970, after which no session that is assumed from this one may last. `None` unless
    /// this session or one of its ancestors was narrowed: a narrowed session must not be prolonged by assuming a role.
    pub fn outlasted_by_none(&self) -> Option<i64> {
        let is_narrowed = self.narrowed.is_some() || self.ancestors.iter().any(|a| a.narrowed);
        is_narrowed.then_some(self.expires_at)
    }

    /// Pads the claims so that their token has at least `min_characters` characters. The token may be longer, because
    /// the envelope adds its own bytes.
    pub fn pad(&mut self, min_characters: usize) {
        let bytes = (min_characters * 3).div_ceil(4);
        self.padding = vec![0; bytes.saturating_sub(self.encoded_len())];
    }
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

/// The holder of a session as an identity provider describes it: the claims of a token, or the attributes of an
/// assertion, that become condition keys of every request of the session.
#[derive(Clone, PartialEq, Eq, prost::Oneof, serde::Serialize, serde::Deserialize)]
pub enum Holder {
    /// The claims of a token of an OpenID Connect provider.
    #[prost(message, tag = "15")]
    WebIdentity(WebIdentity),
    /// The subject of an assertion of a SAML provider.
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

/// The subject of a SAML assertion. The values in this type become condition keys of the session's requests. Other
/// attributes of the assertion do not: IAM User Guide, "Available keys for SAML-based AWS STS federation".
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

/// The claims of a provider's token that become condition keys of the session's requests: those that IAM User Guide,
/// "Available keys for AWS OIDC federation", calls "available in session".
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
    /// Whether the claim `amr` is a list; otherwise it is a single string.
    #[prost(bool, tag = "4")]
    pub methods_are_a_list: bool,
    /// For a token of a Kubernetes service account, the node on which the pod with this token runs; empty for other
    /// tokens.
    #[prost(string, tag = "5")]
    pub node: String,
}

/// A principal in the chain behind a session.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct Ancestor {
    /// The ARN of a user, of the role of a role session, or of an identity provider. A session from GetSessionToken or
    /// GetFederationToken has the ARN of its user.
    #[prost(string, tag = "1")]
    pub arn: String,
    /// The unique id of the user or role, `AIDA…` or `AROA…`, so that a principal recreated under the same name is
    /// another one. Empty for an identity provider.
    #[prost(string, tag = "2")]
    pub unique_id: String,
    /// The access key with which the next session of the chain was requested. For the sign-in of a user, a name that
    /// stands for the user's password; empty for an identity provider.
    #[prost(string, tag = "3")]
    pub access_key_id: String,
    /// The name of the role session or federated user; otherwise empty.
    #[prost(string, tag = "4")]
    pub session_name: String,
    /// The id of the session or sign-in; empty for a user with a long-term key, and for an identity provider without a
    /// sign-in.
    #[prost(bytes = "vec", tag = "5")]
    pub session_id: Vec<u8>,
    /// Whether the session has session policies or was narrowed. Such a session must not assume its own role again,
    /// because it would lose these limits.
    #[prost(bool, tag = "6")]
    pub restricted: bool,
    /// For an identity provider, the subject for which it vouched: the claim `sub` or the NameID. Empty for other
    /// principals, and in the token of the session that the provider's own token or assertion began, because
    /// [`Claims::holder`] contains the subject there.
    #[prost(string, tag = "7")]
    pub subject: String,
    /// Whether the session was narrowed. Sessions that are assumed from a narrowed session must not outlast it.
    #[prost(bool, tag = "8")]
    pub narrowed: bool,
}

/// Makes the token of these claims, which must still be signed and sealed. A `salt` must never be
/// used twice.
///
/// # Errors
/// [`ring::error::Unspecified`] if the keyring has no current key.
pub fn unsigned(
    keyring: &Keyring,
    claims: &Claims,
    salt: &[u8; 16],
) -> Result<Unsigned, ring::error::Unspecified> {
    let purpose = match claims.narrowed {
        Some(_) => &NARROWED,
        None => &PURPOSE,
    };
    Unsigned::new(keyring, purpose, claims.encode_to_vec(), salt)
}

/// Signs a token without others and seals it.
///
/// # Errors
/// [`ring::error::Unspecified`] if its key was removed or revoked.
pub fn seal_alone(
    keyring: &Arc<Keyring>,
    token: Unsigned,
) -> Result<String, ring::error::Unspecified> {
    let (_, batch) = Batch::sign([&token.leaf(keyring.clone())]);
    let batch = batch.map_err(|_| ring::error::Unspecified)?;
    let proof = batch.proofs().next().ok_or(ring::error::Unspecified)?;
    token.seal(keyring, &proof)
}

/// Makes, signs and seals the token of these claims, for tests and measurements.
///
/// # Errors
/// The same as those of [`unsigned`] and [`seal_alone`].
#[cfg(any(test, feature = "internals"))]
pub fn seal(
    keyring: &Arc<Keyring>,
    claims: &Claims,
    salt: &[u8; 16],
) -> Result<String, ring::error::Unspecified> {
    seal_alone(keyring, unsigned(keyring, claims, salt)?)
}

/// Derives the secret access key of a session, which has 40 characters.
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

/// Opens a token and checks its signature, unless `roots` remembers that the signature of the same batch was found
/// valid. The caller must check whether the token has expired.
///
/// # Errors
/// [`OpenError`] if the token is malformed or altered, or no key of the keyring made it. The error does not say which.
pub fn open<'k>(
    keyring: &'k Keyring,
    roots: &VerifiedRoots,
    token: &str,
) -> Result<(Claims, &'k SessionKey), OpenError> {
    let received = Received::decode(token, MAX_CHARACTERS)?;
    let form = received.unverified_form();
    let (body, key) = if form == Some(SIGNED_ALONE.form) {
        received.open(keyring, &SIGNED_ALONE)?
    } else if form == Some(NARROWED.form) {
        open_batched(received, keyring, &NARROWED, roots)?
    } else {
        open_batched(received, keyring, &PURPOSE, roots)?
    };
    let claims = Claims::decode(&*body).map_err(|_| OpenError)?;
    if claims.narrowed.is_some() != (form == Some(NARROWED.form)) {
        return Err(OpenError);
    }
    Ok((claims, key))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::sync::LazyLock;

    use base64::Engine;
    use base64::engine::general_purpose::URL_SAFE_NO_PAD;
    use proptest::prelude::*;

    use super::*;
    use crate::base::clock::Timestamp;
    use crate::base::entropy::SystemEntropy;
    use crate::session::batch::Leaf;
    use crate::session::envelope;
    use crate::session::merkle::MAX_LEAVES;

    fn keyring() -> Arc<Keyring> {
        let now = Timestamp::from_seconds(1);
        Arc::new(Keyring::generate(&SystemEntropy::new(), now).unwrap())
    }

    static KEYRING: LazyLock<Arc<Keyring>> = LazyLock::new(keyring);

    fn claims() -> Claims {
        Claims {
            session_id: vec![7; 16],
            session_name: "s".into(),
            expires_at: 5,
            ..Claims::default()
        }
    }

    /// The claims of the token with this number, of a length that differs from that of others.
    fn numbered(n: usize) -> Claims {
        Claims {
            session_name: "n".repeat(n % 7) + &n.to_string(),
            ..claims()
        }
    }

    /// Tokens that are signed together.
    fn batch(keyring: &Arc<Keyring>, size: usize) -> Vec<String> {
        let tokens: Vec<Unsigned> = (0..size)
            .map(|n| {
                let salt = [u8::try_from(n).unwrap(); 16];
                unsigned(keyring, &numbered(n), &salt).unwrap()
            })
            .collect();
        let leaves: Vec<Leaf> = tokens.iter().map(|t| t.leaf(keyring.clone())).collect();
        let (count, batch) = Batch::sign(&leaves);
        assert_eq!(count, size);
        let proofs = batch.unwrap();
        let sealed = tokens.into_iter().zip(proofs.proofs());
        sealed
            .map(|(token, proof)| token.seal(keyring, &proof).unwrap())
            .collect()
    }

    fn open_fresh(keyring: &Keyring, token: &str) -> Result<Claims, OpenError> {
        open(keyring, &VerifiedRoots::default(), token).map(|(claims, _)| claims)
    }

    /// What is encrypted in a token.
    fn plain(keyring: &Keyring, token: &str) -> Vec<u8> {
        let mut bytes = URL_SAFE_NO_PAD.decode(token).unwrap();
        let (header, sealed) = bytes.split_at_mut(21);
        let salt: &[u8; 16] = header[5..].try_into().unwrap();
        let aad = [
            PURPOSE.name.as_bytes(),
            keyring.cluster_id().as_bytes(),
            header,
        ]
        .concat();
        let key = keyring.current().unwrap();
        key.open(salt, &aad, sealed).unwrap().to_vec()
    }

    /// A token of these bytes, as somebody makes it who can encrypt and cannot sign.
    fn forged(keyring: &Keyring, plain: &[u8], n: usize) -> String {
        let salt = [u8::try_from(n).unwrap(); 16];
        envelope::seal_only(keyring, &PURPOSE, plain, &salt).unwrap()
    }

    #[test]
    fn tk_07_every_flipped_bit_and_every_deleted_byte_refuses() {
        let keyring = keyring();
        let alone = seal(&keyring, &claims(), &[1; 16]).unwrap();
        assert_eq!(open_fresh(&keyring, &alone), Ok(claims()));
        let together = batch(&keyring, 3).remove(2);
        assert_eq!(open_fresh(&keyring, &together), Ok(numbered(2)));
        for token in [alone, together] {
            let roots = VerifiedRoots::default();
            assert!(open(&keyring, &roots, &token).is_ok());
            let bytes = URL_SAFE_NO_PAD.decode(&token).unwrap();
            for i in 0..bytes.len() {
                for bit in 0..8 {
                    let mut altered = bytes.clone();
                    altered[i] ^= 1 << bit;
                    assert!(
                        open(&keyring, &roots, &URL_SAFE_NO_PAD.encode(&altered)).is_err(),
                        "byte {i} bit {bit}"
                    );
                }
                let mut shorter = bytes.clone();
                shorter.remove(i);
                assert!(
                    open(&keyring, &roots, &URL_SAFE_NO_PAD.encode(&shorter)).is_err(),
                    "byte {i} deleted"
                );
            }
        }
    }

    /// The same for whoever can encrypt, so that only the signature and the tree refuse it. The
    /// root of the batch was checked before.
    #[test]
    fn tk_07_what_is_altered_and_encrypted_again_refuses() {
        let keyring = keyring();
        for (size, n) in [(1, 0), (2, 1), (5, 4), (6, 2), (64, 63)] {
            let token = batch(&keyring, size).remove(n);
            let roots = VerifiedRoots::default();
            assert!(open(&keyring, &roots, &token).is_ok());
            let plain = plain(&keyring, &token);
            assert_eq!(forged(&keyring, &plain, n), token);
            let refuses = |plain: &[u8]| {
                let token = forged(&keyring, plain, n);
                open(&keyring, &roots, &token).is_err() && open_fresh(&keyring, &token).is_err()
            };
            for at in 0..plain.len() {
                let mut altered = plain.clone();
                altered[at] ^= 1 << (at % 8);
                assert!(refuses(&altered), "{size}: byte {at}");
                let mut shorter = plain.clone();
                shorter.remove(at);
                assert!(refuses(&shorter), "{size}: byte {at} deleted");
                assert!(refuses(&plain[..at]), "{size}: cut at {at}");
            }
            // Every other size and index, and a path that is longer or shorter by a hash.
            for (at, value) in (0..=255).flat_map(|value| [(64, value), (65, value)]) {
                let mut altered = plain.clone();
                altered[at] = value;
                assert!(
                    altered == plain || refuses(&altered),
                    "{size}: {at}, {value}"
                );
            }
            let (before, after) = plain.split_at(66);
            assert!(refuses(&[before, &[0; 32], after].concat()));
            if size > 1 {
                assert!(refuses(&[before, &after[32..]].concat()));
            }
            assert!(refuses(&[&plain[..], &[0]].concat()));
            assert!(roots.count() <= 1);
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
            assert_eq!(open_fresh(&keyring, &other).is_ok(), c == last, "{c}");
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
            assert!(open_fresh(&keyring, &bad).is_err());
        }
    }

    #[test]
    fn tk_02_tk_06_keys_and_clusters_do_not_mix() {
        let (one, two) = (keyring(), keyring());
        let tokens = [
            seal(&one, &claims(), &[1; 16]).unwrap(),
            batch(&one, 2).remove(1),
        ];
        let roots = VerifiedRoots::default();
        for token in &tokens {
            assert!(open(&two, &roots, token).is_err());
            assert!(open(&one, &roots, token).is_ok());
            assert!(open(&two, &roots, token).is_err());
        }
        // A key that was removed from the keyring opens nothing, whatever is remembered of it.
        let now = Timestamp::from_seconds(1);
        let later = now.plus(crate::session::durations::MAX * 2);
        let entropy = SystemEntropy::new();
        let again = |keyring: &Keyring| Keyring::parse(&keyring.to_bytes().unwrap()).unwrap();
        let rotated = again(&one).rotate(&entropy, now).unwrap();
        assert!(tokens.iter().all(|t| open(&rotated, &roots, t).is_ok()));
        let retired = again(&rotated).rotate(&entropy, later).unwrap();
        assert!(tokens.iter().all(|t| open(&retired, &roots, t).is_err()));
        // Nor does one that was revoked, and it signs nothing.
        let ids = BTreeSet::from([format!("{:08x}", one.current().unwrap().id())]);
        let waiting = unsigned(&one, &claims(), &[2; 16]).unwrap();
        let leaf = waiting.leaf(one.clone());
        one.revoke(&ids);
        assert!(tokens.iter().all(|t| open(&one, &roots, t).is_err()));
        assert!(matches!(Batch::sign([&leaf]), (1, Err(_))));
        assert!(seal_alone(&one, waiting).is_err());
        assert!(unsigned(&one, &claims(), &[3; 16]).is_err());
    }

    #[test]
    fn tk_06_two_keys_and_two_keyrings_are_not_signed_together() {
        let (one, two) = (keyring(), keyring());
        let leaf = |keyring: &Arc<Keyring>| {
            let token = unsigned(keyring, &claims(), &[1; 16]).unwrap();
            token.leaf(keyring.clone())
        };
        let leaves = [leaf(&one), leaf(&one), leaf(&two), leaf(&one)];
        let (count, batch) = Batch::sign(&leaves);
        assert_eq!((count, batch.unwrap().size()), (2, 2));
        let many: Vec<Leaf> = (0..MAX_LEAVES + 1).map(|_| leaf(&one)).collect();
        assert_eq!(Batch::sign(&many).0, MAX_LEAVES);
        assert!(matches!(Batch::sign([]), (0, Err(_))));
    }

    #[test]
    fn tokens_of_the_form_before_open_and_are_not_taken_for_the_new_one() {
        let keyring = keyring();
        let body = claims().encode_to_vec();
        let former = envelope::seal(&keyring, &SIGNED_ALONE, &body, &[1; 16]).unwrap();
        assert_eq!(open_fresh(&keyring, &former), Ok(claims()));
        for (from, to) in [
            (former, PURPOSE.form),
            (
                seal(&keyring, &claims(), &[1; 16]).unwrap(),
                SIGNED_ALONE.form,
            ),
        ] {
            let mut bytes = URL_SAFE_NO_PAD.decode(from).unwrap();
            bytes[0] = to;
            assert!(open_fresh(&keyring, &URL_SAFE_NO_PAD.encode(bytes)).is_err());
        }
        // What was signed in one form is not signed in the other, even for whoever can encrypt.
        let signed = plain(&keyring, &seal(&keyring, &claims(), &[1; 16]).unwrap());
        let (signature, body) = (&signed[..64], &signed[66..]);
        let as_former = [signature, body].concat();
        let as_former = envelope::seal_only(&keyring, &SIGNED_ALONE, &as_former, &[1; 16]).unwrap();
        assert!(open_fresh(&keyring, &as_former).is_err());
    }

    #[test]
    fn one_check_of_a_signature_is_remembered_for_a_batch_and_for_nothing_else() {
        let keyring = keyring();
        let roots = VerifiedRoots::default();
        let tokens = batch(&keyring, 13);
        for (n, token) in tokens.iter().enumerate() {
            assert_eq!(open(&keyring, &roots, token).unwrap().0, numbered(n));
            assert_eq!(roots.count(), 1);
        }
        // A token that was signed alone shares its root with no other.
        assert!(
            open(
                &keyring,
                &roots,
                &seal(&keyring, &claims(), &[1; 16]).unwrap()
            )
            .is_ok()
        );
        assert_eq!(roots.count(), 1);
        // What does not verify is not remembered.
        let plain = plain(&keyring, &batch(&keyring, 2)[0]);
        for at in [0, 63, 66, 97] {
            let mut altered = plain.clone();
            altered[at] ^= 1;
            assert!(open(&keyring, &roots, &forged(&keyring, &altered, 0)).is_err());
        }
        assert_eq!(roots.count(), 1);
    }

    #[test]
    fn the_longest_proof_is_counted() {
        let keyring = keyring();
        let longest = unsigned(&keyring, &numbered(0), &[0; 16]).unwrap();
        let longest = longest.max_characters();
        let token = &batch(&keyring, MAX_LEAVES)[0];
        assert_eq!(token.len(), longest);
    }

    proptest! {
        #[test]
        fn no_text_opens_or_panics(text in ".{0,300}") {
            prop_assert!(open_fresh(&KEYRING, &text).is_err());
        }

        #[test]
        fn no_bytes_that_are_encrypted_open_or_panic(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
            prop_assert!(open_fresh(&KEYRING, &forged(&KEYRING, &bytes, 1)).is_err());
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]

        #[test]
        fn every_token_of_a_batch_opens_and_none_with_the_proof_of_another(
            size in 1..=MAX_LEAVES,
            one in 0..MAX_LEAVES,
            other in 0..MAX_LEAVES,
        ) {
            let keyring = &*KEYRING;
            let tokens = batch(keyring, size);
            let roots = VerifiedRoots::default();
            for (n, token) in tokens.iter().enumerate() {
                prop_assert_eq!(open(keyring, &roots, token).unwrap().0, numbered(n));
            }
            prop_assert_eq!(roots.count(), usize::from(size > 1));
            let (one, other) = (one % size, other % size);
            if one != other {
                let body = numbered(one).encode_to_vec();
                let plain = plain(keyring, &tokens[other]);
                let proof = &plain[..plain.len() - numbered(other).encoded_len()];
                for salt in [one, other] {
                    let swapped = forged(keyring, &[proof, &body].concat(), salt);
                    prop_assert!(open(keyring, &roots, &swapped).is_err());
                }
            }
        }
    }
}
