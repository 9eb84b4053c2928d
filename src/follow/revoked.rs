//! Puts in force the revocations in changes of the feed: of sessions and of signing keys.

use super::error::FollowError;
use crate::broker::Broker;
use crate::commands::Detail;
use crate::revocations::{Mark, RevocationKey, Selector};
use crate::store::Change;

/// Puts in force every revocation in these changes. Returns the details of the changes.
///
/// # Errors
/// [`FollowError::Change`] for the first change whose detail cannot be read, or has a revocation with an unknown
/// selector.
pub(super) fn revoke(broker: &Broker, changes: &[Change]) -> Result<Vec<Detail>, FollowError> {
    changes
        .iter()
        .map(|change| revoke_one(broker, change.sequence, &change.detail))
        .collect()
}

pub(super) fn revoke_one(
    broker: &Broker,
    sequence: i64,
    detail: &str,
) -> Result<Detail, FollowError> {
    let fault = |why: String| FollowError::Change(sequence, why);
    let detail: Detail = serde_json::from_str(detail).map_err(|e| fault(e.to_string()))?;
    for revoked in &detail.revoked {
        let selector = Selector::parse(&revoked.selector).ok_or_else(|| {
            fault(format!(
                "it revokes by `{}`, which this version of Brevet does not know; run the version that made the change",
                revoked.selector
            ))
        })?;
        if selector == Selector::SigningKey {
            broker.revocations.revoke_signing_key(&revoked.value);
            bind_revoked_keys(broker);
            continue;
        }
        let mark = Mark {
            before_sequence: revoked.before_sequence,
            before_seconds: revoked.before_seconds,
            expires_at: revoked.expires_at,
        };
        let key = RevocationKey::new(selector, &revoked.account, &revoked.value);
        if revoked.replaces {
            broker.revocations.replace(&key, mark);
        } else {
            broker.revocations.mark(&key, mark);
        }
    }
    Ok(detail)
}

/// Makes this broker refuse the signing keys that the store lists as revoked.
pub(super) fn bind_revoked_keys(broker: &Broker) {
    if broker.tokens.revoke(&broker.revocations.signing_keys()) {
        broker.tokens.warn_unless_it_can_sign();
    }
}
