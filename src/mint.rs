//! [`Grant`] to credentials and session record. Knows no policy, awaits nothing.

use std::time::Duration;

use crate::base::clock::Timestamp;
use crate::base::entropy::{self, Entropy};
use crate::base::names::{AccessKeyId, AccessKeyKind};
use crate::base::secret::Secret;
use crate::error::Error;
use crate::lineage;
use crate::mfa::Proven;
use crate::session::keyring::Keyring;
use crate::session::packing::{Packed, TagClaim};
use crate::session::token::{self, Ancestor, Claims};
use crate::sessions::{SessionId, SessionRecord};
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
    /// When they were made.
    pub issued_at: Timestamp,
    /// From then on they are refused.
    pub expires_at: Timestamp,
}

/// A session that was made: credentials for its holder, a record for the broker.
pub struct Session {
    /// For the holder.
    pub credentials: Credentials,
    /// For the broker.
    pub record: SessionRecord,
    /// `AROA…:SESSION`, `ACCOUNT:NAME` or `AIDA…`.
    pub user_id: String,
    /// `arn:aws:sts::ACCOUNT:assumed-role/ROLE/SESSION`, `…:federated-user/NAME`, or the user's.
    pub arn: String,
}

/// How a session differs from its principal.
pub struct Shape {
    /// What the caller calls it; empty for a user's own.
    pub session_name: String,
    /// Who stands behind it; empty: nobody was named.
    pub source_identity: String,
    /// Session tags, inherited ones included, for the record.
    pub tags: Vec<TagClaim>,
    /// What cuts it.
    pub packed: Packed,
    /// The MFA code that was given for it.
    pub mfa: Option<Proven>,
}

/// Makes a session of a grant that ends after `term`. `issued_under` is the last change of the feed
/// that is in force here, and the store that it is of: a revocation that comes later ends it.
///
/// # Errors
/// Without randomness or without a current key.
pub fn session(
    grant: Grant<'_>,
    term: Duration,
    shape: Shape,
    issued_under: (i64, &str),
    keyring: &Keyring,
    entropy: &dyn Entropy,
    now: Timestamp,
) -> Result<Session, Error> {
    let [chance @ .., a, b, c, d, e] = entropy::bytes::<37>(entropy)?;
    let (session_id, salt): (SessionId, [u8; 16]) = split(chance);
    let account = grant.account();
    let access_key_id = AccessKeyId::mint(AccessKeyKind::Temporary, account, [a, b, c, d, e]);
    let issued_at = now.whole_second();
    let expires_at = issued_at.plus(term);
    let (kind, principal_arn, principal_id) = grant.principal();
    let claims = Claims {
        session_id: session_id.to_vec(),
        access_key_id: access_key_id.as_str().to_owned(),
        principal_arn: principal_arn.to_owned(),
        principal_id: principal_id.to_owned(),
        session_name: shape.session_name,
        issued_at: issued_at.seconds(),
        expires_at: expires_at.seconds(),
        source_identity: shape.source_identity,
        packed: shape.packed.bytes,
        kind: kind.into(),
        mfa_at: shape.mfa.map_or(0, |proven| proven.at().seconds()),
        ancestors: grant.lineage().to_vec(),
        issued_under: issued_under.0,
        store_id: issued_under.1.to_owned(),
        web_identity: grant.web_identity().cloned(),
    };
    let key = keyring.current().ok_or(Error::InternalFailure)?;
    let secret_access_key = token::secret_access_key(key, &session_id, access_key_id.as_str())?;
    let session_token = Secret::new(token::seal(keyring, &claims, &salt)?);
    if session_token.expose().len() > token::MAX_CHARACTERS {
        // The allotment and the limit of chains are set so that this cannot be.
        tracing::error!(
            length = session_token.expose().len(),
            "a session token is too long to be used"
        );
        return Err(Error::InternalFailure);
    }
    let own = Ancestor {
        arn: claims.principal_arn.clone(),
        session_name: claims.session_name.clone(),
        ..Ancestor::default()
    };
    let ancestors = lineage::ancestors(&claims).into_owned();
    Ok(Session {
        user_id: lineage::user_id(account, kind, &claims.principal_id, &claims.session_name),
        arn: own.principal_arn(),
        record: SessionRecord {
            session_id: claims.session_id,
            access_key_id: claims.access_key_id,
            principal_arn: claims.principal_arn,
            principal_id: claims.principal_id,
            session_name: claims.session_name,
            source_identity: claims.source_identity,
            tags: shape.tags,
            issued_at: claims.issued_at,
            expires_at: claims.expires_at,
            ancestors,
            issued_under: claims.issued_under,
            kind: claims.kind,
        },
        credentials: Credentials {
            access_key_id,
            secret_access_key,
            session_token,
            issued_at,
            expires_at,
        },
    })
}

fn split(bytes: [u8; 32]) -> ([u8; 16], [u8; 16]) {
    let (mut first, mut second) = ([0; 16], [0; 16]);
    for (slot, byte) in first.iter_mut().chain(second.iter_mut()).zip(bytes) {
        *slot = byte;
    }
    (first, second)
}
