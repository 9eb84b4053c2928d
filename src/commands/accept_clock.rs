//! An operator says that the clock is right, although this node has seen a later time. What was issued
//! before ends: it was dated by a clock that was wrong, and what is known of its revocations and its
//! codes was swept by that clock.

use super::{Actor, CommandError, Detail, Revoked};
use crate::base::clock::Timestamp;
use crate::revocations::{Mark, Selector};
use crate::store::{Entry, Lockout, Store, StoreError};

/// The action of the change by which an operator accepted the clock.
pub const ACCEPT_CLOCK: &str = "AcceptClock";

/// Ends every session that was issued so far, and codes and assertions of the time before `now`. `highest`
/// is the latest time by which a session may have been dated; `lockout` is how many wrong MFA codes a
/// user may give. The change's number.
///
/// # Errors
/// If the store does not answer in time; nothing was changed.
pub async fn accept_clock(
    store: &Store,
    actor: &Actor,
    host: String,
    highest: Timestamp,
    lockout: Lockout,
    now: Timestamp,
) -> Result<i64, CommandError> {
    let mut writer = store.write_revocation().await?;
    // A session may be dated by the wrong clock: the mark outlives that too.
    let expires_at = Mark::outlives(highest.max(now));
    let mark = Mark {
        before_sequence: writer.sequence() + 1,
        before_seconds: 0,
        expires_at,
    };
    let revoked = vec![Revoked::new(Selector::Everything, "", "", mark)];
    let detail = serde_json::to_string(&Detail {
        revoked,
        ..Detail::default()
    });
    let entry = Entry {
        changed_at: now,
        actor: actor.text(),
        action: ACCEPT_CLOCK,
        kind: "clock",
        id: host,
        detail: detail.map_err(|e| StoreError::Row(e.to_string()))?,
    };
    writer.record(&entry).await?;
    writer
        .revoke(Selector::Everything.as_str(), "", "", mark)
        .await?;
    writer.not_before(now);
    writer.forget_codes_after(lockout, now).await?;
    Ok(writer.commit().await?)
}
