//! [`Grant`] to credentials and session record. Knows no policy, awaits nothing.

use std::time::Duration;

use crate::authn;
use crate::clock::Timestamp;
use crate::entropy::{self, Entropy};
use crate::error::Error;
use crate::keyring::Keyring;
use crate::names::{AccessKeyId, AccessKeyKind};
use crate::secret::Secret;
use crate::sessions::{SessionId, SessionRecord};
use crate::token::{self, Claims, TagClaim};
use crate::trust::Grant;

/// What a caller takes away.
#[derive(Debug)]
pub struct Credentials {
    /// `ASIA…`
    pub access_key_id: AccessKeyId,
    /// Forty characters.
    pub secret_access_key: Secret<String>,
    /// Goes with every request.
    pub session_token: Secret<String>,
    /// From then on they are refused.
    pub expires_at: Timestamp,
}

/// A session that was made: credentials for its holder, a record for the broker.
pub struct Session {
    /// For the holder.
    pub credentials: Credentials,
    /// For the broker.
    pub record: SessionRecord,
    /// `AROA…:SESSION`
    pub assumed_role_id: String,
    /// `arn:aws:sts::ACCOUNT:assumed-role/ROLE/SESSION`
    pub arn: String,
}

/// How a session differs from its role.
pub struct Shape {
    /// What the caller calls it.
    pub role_session_name: String,
    /// Who stands behind it; empty: nobody was named.
    pub source_identity: String,
    /// Session tags, inherited ones included.
    pub tags: Vec<TagClaim>,
    /// The inline session policy; empty: none.
    pub policy: String,
    /// Managed session policies.
    pub policy_arns: Vec<String>,
    /// The last change of the feed that is in force here: a revocation that comes later ends it.
    pub issued_under: i64,
    /// The store that the change is of.
    pub store_id: String,
}

/// Makes a session of a granted role that ends after `term`.
///
/// # Errors
/// Without randomness or without a current key.
pub fn session(
    grant: Grant,
    term: Duration,
    shape: Shape,
    keyring: &Keyring,
    entropy: &dyn Entropy,
    now: Timestamp,
) -> Result<Session, Error> {
    let [chance @ .., a, b, c, d, e] = entropy::bytes::<37>(entropy)?;
    let (session_id, salt): (SessionId, [u8; 16]) = split(chance);
    let role = grant.role();
    let access_key_id = AccessKeyId::mint(AccessKeyKind::Temporary, role.account, [a, b, c, d, e]);
    let issued_at = now.whole_second();
    let expires_at = issued_at.plus(term);
    let claims = Claims {
        session_id: session_id.to_vec(),
        access_key_id: access_key_id.as_str().to_owned(),
        role_arn: role.arn.to_string(),
        role_id: role.id.to_string(),
        role_session_name: shape.role_session_name,
        issued_at: issued_at.seconds(),
        expires_at: expires_at.seconds(),
        source_identity: shape.source_identity,
        tags: shape.tags,
        policy: shape.policy,
        policy_arns: shape.policy_arns,
        ancestors: grant.lineage().to_vec(),
        issued_under: shape.issued_under,
        store_id: shape.store_id,
    };
    let key = keyring.current().ok_or(Error::InternalFailure)?;
    let secret_access_key = authn::session_secret(key, &session_id, access_key_id.as_str())?;
    let session_token = Secret::new(token::seal(keyring, &claims, &salt)?);
    let length = session_token.expose().len();
    if length > token::MAX_CHARACTERS {
        let percent = (length * 100).div_ceil(token::MAX_CHARACTERS);
        return Err(Error::PackedPolicyTooLarge(u64::try_from(percent).unwrap_or(u64::MAX)));
    }
    Ok(Session {
        assumed_role_id: format!("{}:{}", role.id, claims.role_session_name),
        arn: authn::session_arn(role.account, &role.name, &claims.role_session_name),
        record: SessionRecord {
            session_id: claims.session_id,
            access_key_id: claims.access_key_id,
            role_arn: claims.role_arn,
            role_id: claims.role_id,
            role_session_name: claims.role_session_name,
            source_identity: claims.source_identity,
            tags: claims.tags,
            issued_at: claims.issued_at,
            expires_at: claims.expires_at,
            ancestors: claims.ancestors,
            issued_under: claims.issued_under,
        },
        credentials: Credentials { access_key_id, secret_access_key, session_token, expires_at },
    })
}

fn split(bytes: [u8; 32]) -> ([u8; 16], [u8; 16]) {
    let (mut first, mut second) = ([0; 16], [0; 16]);
    for (slot, byte) in first.iter_mut().chain(second.iter_mut()).zip(bytes) {
        *slot = byte;
    }
    (first, second)
}
