//! Emergency revocations of signing keys and sessions, by an operator on the broker's machine, after
//! something has leaked. They need no session and no permission, and wait for no other call.

use super::{Actor, Detail, Revoked};
use crate::base::arn::AccountId;
use crate::base::clock::Timestamp;
use crate::revocations::{Mark, Selector};
use crate::store::{Entry, Store, StoreError, Writer};

/// Revokes signing keys permanently, by their ids in the keyring (see
/// [`crate::session::keyring::normal_id`]). Returns the number of the last change.
///
/// # Errors
/// [`StoreError`] if the store cannot write the change. Nothing was changed then, unless the commit failed.
pub async fn revoke_signing_keys(
    store: &Store,
    actor: &Actor,
    ids: impl IntoIterator<Item = &str>,
    now: Timestamp,
) -> Result<i64, StoreError> {
    let ids = ids.into_iter().map(str::to_owned).collect();
    end_keys(store, actor, "RevokeSigningKey", ids, now).await
}

async fn end_keys(
    store: &Store,
    actor: &Actor,
    action: &'static str,
    ids: Vec<String>,
    now: Timestamp,
) -> Result<i64, StoreError> {
    let mut writer = store.write_revocation().await?;
    // The mark must cover every session of the key, whatever date the session claims.
    let mark = Mark {
        before_sequence: i64::MAX,
        before_seconds: i64::MAX,
        expires_at: i64::MAX,
    };
    for id in &ids {
        end(
            &mut writer,
            actor,
            action,
            (Selector::SigningKey, "", id),
            mark,
            now,
        )
        .await?;
    }
    writer.commit().await
}

/// Records that rotations have removed the signing keys with these ids. From then on, brokers refuse these keys like
/// revoked ones, even if an older keyring file is put back. Returns the number of the last change.
///
/// # Errors
/// [`StoreError`] if the store cannot write the change. Nothing was changed then, unless the commit failed.
pub async fn retire_signing_keys(
    store: &Store,
    actor: &Actor,
    ids: Vec<String>,
    now: Timestamp,
) -> Result<i64, StoreError> {
    end_keys(store, actor, "RetireSigningKey", ids, now).await
}

/// Ends every session issued before now, of one account or of all. Returns the number of the
/// change.
///
/// # Errors
/// [`StoreError`] if the store cannot write the change. Nothing was changed then, unless the commit failed.
pub async fn end_sessions(
    store: &Store,
    actor: &Actor,
    account: Option<AccountId>,
    now: Timestamp,
) -> Result<i64, StoreError> {
    let mut writer = store.write_revocation().await?;
    let account = account.map(|account| account.to_string());
    let selector = if account.is_some() {
        Selector::Account
    } else {
        Selector::Everything
    };
    let mark = Mark {
        before_sequence: writer.sequence() + 1,
        before_seconds: 0,
        expires_at: Mark::outlives(now),
    };
    let thing = (selector, account.as_deref().unwrap_or_default(), "");
    end(&mut writer, actor, "RevokeSessions", thing, mark, now).await?;
    writer.commit().await
}

async fn end(
    writer: &mut Writer<'_>,
    actor: &Actor,
    action: &'static str,
    (selector, account, value): (Selector, &str, &str),
    mark: Mark,
    now: Timestamp,
) -> Result<(), StoreError> {
    let revoked = vec![Revoked::new(selector, account, value, mark)];
    let detail = Detail {
        revoked,
        ..Detail::default()
    };
    let named = if value.is_empty() { account } else { value };
    let entry = Entry {
        changed_at: now,
        actor: actor.text(),
        action,
        kind: "revocation",
        id: format!("{} {named}", selector.as_str())
            .trim_end()
            .to_owned(),
        detail: serde_json::to_string(&detail).map_err(|e| StoreError::Row(e.to_string()))?,
    };
    writer.record(&entry).await?;
    writer.revoke(selector.as_str(), account, value, mark).await
}
