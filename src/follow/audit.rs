//! Writes changes of the feed, and the overrides in a directory file, to this node's audit log.

use std::borrow::Cow;

use serde_json::value::{RawValue, to_raw_value};

use super::MAX_AUDITED;
use crate::audit::{self, UserIdentity};
use crate::base::entropy;
use crate::broker::Broker;
use crate::commands::{Actor, Detail};
use crate::directory::{Directory, Role};
use crate::store::{Change, StoreError};

/// Writes to this node's audit log those of the first 256 changes after number `after` that revoke something. These
/// changes were made before this node began to follow the feed.
///
/// # Errors
/// [`StoreError`] if the changes cannot be read from the store, and [`StoreError::Row`] if the detail of a change
/// cannot be parsed.
pub async fn write_down_what_ended(broker: &Broker, after: i64) -> Result<(), StoreError> {
    for change in broker.store.feed_after(after, MAX_AUDITED).await? {
        match serde_json::from_str::<Detail>(&change.detail) {
            Ok(detail) if detail.revoked.is_empty() => {}
            Ok(detail) => write_down(broker, &change, detail),
            Err(error) => return Err(StoreError::Row(error.to_string())),
        }
    }
    Ok(())
}

/// Writes a change of the feed to the audit log: who made it, what it changed, the digests before and
/// after, and its sequence number. Logs an error if that is impossible.
pub(super) fn write_down(broker: &Broker, change: &Change, detail: Detail) {
    if record_change(broker, change, detail).is_none() {
        let (sequence, action) = (change.sequence, &*change.action);
        tracing::error!(
            sequence,
            action,
            kind = %change.kind,
            id = %change.id,
            "this change could not be written to the audit log; it is only in the change feed"
        );
    }
}

/// Writes a change of the feed to the audit log. Returns `None` if there are no random bytes for the ids of the record,
/// or too many records are waiting to be written.
fn record_change(broker: &Broker, change: &Change, detail: Detail) -> Option<()> {
    let (request_id, event_id) = ids(broker)?;
    let actor: Actor =
        serde_json::from_str(&change.actor).unwrap_or_else(|_| Actor::operator("unknown"));
    let request_id = actor.request_id.clone().unwrap_or(request_id);
    let mut record = audit::record(
        change.action.clone(),
        broker.clock.now(),
        request_id,
        event_id,
    );
    record.event_type = "BrevetChange";
    record.event_source = "iam.amazonaws.com";
    record.read_only = false;
    record.aws_region = broker.region.as_str().into();
    record.user_identity = UserIdentity {
        r#type: actor.r#type.into(),
        arn: actor.arn.map(Cow::from),
        access_key_id: actor.access_key_id.map(Cow::from),
        user_name: actor.user_name.map(Cow::from),
        ..UserIdentity::default()
    };
    record.request_parameters = raw(&serde_json::json!({"kind": change.kind, "id": change.id}));
    record.additional_event_data = raw(&serde_json::json!({
        "sequenceNumber": change.sequence, "before": detail.before, "after": detail.after, "beforeSha256": detail.before_sha256, "afterSha256": detail.after_sha256, "revoked": detail.revoked,
        "overridden": detail.overridden, "entries": detail.entries,
    }));
    broker.audit.note(&record).ok()
}

/// Writes the roles of a directory file whose tags switch off a rule about whom a trust policy may allow to the audit
/// log. Logs an error for each role with which that is impossible.
pub(super) fn write_down_overridden(broker: &Broker, directory: &Directory) {
    for role in directory.roles().filter(|role| !role.overridden.is_empty()) {
        if record_overridden(broker, role).is_none() {
            tracing::error!(role = %role.arn, "a tag of this role overrides a rule for trust policies, but the \
                record of this could not be written to the audit log");
        }
    }
}

/// Writes a role whose tags override a rule to the audit log. Returns `None` in the same cases as [`record_change`].
fn record_overridden(broker: &Broker, role: &Role) -> Option<()> {
    let (request_id, event_id) = ids(broker)?;
    let mut record = audit::record("LoadDirectory", broker.clock.now(), request_id, event_id);
    record.event_type = "BrevetChange";
    record.event_source = "iam.amazonaws.com";
    record.read_only = false;
    record.aws_region = broker.region.as_str().into();
    record.request_parameters = raw(&serde_json::json!({"kind": "role", "id": role.arn}));
    record.additional_event_data = raw(&serde_json::json!({"overridden": role.overridden}));
    broker.audit.note(&record).ok()
}

/// Makes two random UUIDs, the request id and the event id of an audit record; `None` if there are no random bytes.
fn ids(broker: &Broker) -> Option<(String, String)> {
    let uuid = || {
        let bytes = entropy::bytes::<16>(&*broker.entropy).ok()?;
        Some(
            uuid::Builder::from_random_bytes(bytes)
                .into_uuid()
                .to_string(),
        )
    };
    Some((uuid()?, uuid()?))
}

fn raw(value: &serde_json::Value) -> Option<Box<RawValue>> {
    to_raw_value(value).ok()
}
