//! Lets an operator confirm the clock although this node has seen a later time. All sessions end, because a wrong clock
//! dated them, and because revocations and used codes may have been deleted too early under that clock.

use super::{Actor, CommandError, Detail, Revoked};
use crate::base::clock::Timestamp;
use crate::revocations::{Mark, Selector};
use crate::store::{Entry, Lockout, Store, StoreError};

/// The name under which the feed records that an operator confirmed the clock.
pub use crate::store::ACCEPT_CLOCK;

/// Ends every session issued so far, and forgets codes and assertions dated after `now`. `highest` is the latest time
/// that the wrong clock may have given to a session; `lockout` is the limit on wrong MFA codes. Returns the number of
/// the change.
///
/// # Errors
/// [`CommandError::Store`] if an operation of the store fails. Unless that was the commit, nothing was changed.
pub async fn accept_clock(
    store: &Store,
    actor: &Actor,
    host: String,
    highest: Timestamp,
    lockout: Lockout,
    now: Timestamp,
) -> Result<i64, CommandError> {
    let mut writer = store.write_revocation().await?;
    // A session may be dated by the wrong clock, so the mark must outlive that date too.
    let expires_at = Mark::outlives(highest.max(now));
    let mark = Mark {
        before_sequence: writer.sequence() + 1,
        // A restore under the wrong clock may have ended all sessions up to a time in the future.
        before_seconds: now.seconds(),
        expires_at,
    };
    let revoked = vec![Revoked {
        replaces: true,
        ..Revoked::new(Selector::Everything, "", "", mark)
    }];
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
        .replace_mark(Selector::Everything.as_str(), "", "", mark)
        .await?;
    writer.not_before(now);
    writer.forget_codes_after(lockout, now).await?;
    Ok(writer.commit().await?)
}
