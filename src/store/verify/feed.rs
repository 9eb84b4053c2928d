//! Checks the whole change feed: each change must follow from the one before it, and each revocation in a change must
//! be among the stored revocations.

use serde::Deserialize;
use sqlx::AnyConnection;

use super::{Findings, Marks};
use crate::base::clock::Timestamp;
use crate::revocations::Selector;
use crate::store::changes::{Change, PAGE, RESTORED, page};
use crate::store::classify::classify;
use crate::store::head::Head;
use crate::store::integrity::Row;
use crate::store::rows::wrong;
use crate::store::{Store, StoreError, clip, salvage};

/// The part of a change's detail that lists revocations.
#[derive(Deserialize)]
struct Ended {
    #[serde(rename = "Revoked", default)]
    revoked: Vec<Revoked>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Revoked {
    selector: String,
    account: String,
    value: String,
    before_sequence: i64,
    before_seconds: i64,
    expires_at: i64,
}

impl Store {
    /// Checks that each change follows from the one before it, from the first change in the feed to the last change in
    /// the store's own row. Also checks that the revocations in the changes are among `marks`, the stored revocations.
    pub(super) async fn look_at_feed(
        &self,
        connection: &mut AnyConnection,
        kept_from: Option<i64>,
        head: &Head,
        marks: &Marks,
        now: Timestamp,
        findings: &mut Findings,
    ) -> Result<(), StoreError> {
        let keys = self.keys.load_full();
        let mut before: Option<(i64, String)> = None;
        let mut lost = Vec::new();
        let mut after = i64::MIN;
        loop {
            let rows = match page(&mut *connection, after, PAGE).await {
                Ok(rows) => rows,
                Err(error) => {
                    let error = classify(error);
                    if !error.is_tampering() {
                        return Err(error);
                    }
                    // After a change that cannot be read, the chain is broken in any case.
                    let error = salvage::named(self.engine, &mut *connection, error).await;
                    findings.add(match error {
                        StoreError::Tampered(what) => what,
                        other => other.to_string(),
                    });
                    return Ok(());
                }
            };
            let Some((last, _)) = rows.last() else { break };
            if last.sequence <= after {
                findings.add(format!(
                    "the database returned change {} of the feed out of order, after change {after}",
                    last.sequence
                ));
                return Ok(());
            }
            after = last.sequence;
            for (change, mac) in rows {
                let fields = change.fields();
                let row = Row::Change(&fields, &change.chain);
                let broken = match keys.check(&row, &mac) {
                    Err(error) => Some(wrong(&row, &error)),
                    Ok(_) => breaks_off(&change, before.as_ref(), kept_from),
                };
                broken.into_iter().for_each(|what| findings.add(what));
                if change.action == RESTORED {
                    // A restore has ended everything that was revoked before.
                    lost.clear();
                }
                let ended = unmarked(&change.detail, marks, now).into_iter();
                lost.extend(
                    ended.map(|ended| format!("{ended} (change {} created it)", change.sequence)),
                );
                before = Some((change.sequence, change.chain));
            }
        }
        lost.into_iter().for_each(|what| findings.add(what));
        let end = ends_elsewhere(before, kept_from, head);
        end.into_iter().for_each(|what| findings.add(what));
        Ok(())
    }
}

/// Describes the gap or the break before a change; `None` if the change follows from the one before it.
fn breaks_off(
    change: &Change,
    before: Option<&(i64, String)>,
    kept_from: Option<i64>,
) -> Option<String> {
    match before {
        None => kept_from
            .filter(|first| *first != change.sequence)
            .map(|first| {
                let found = change.sequence;
                if found > first {
                    format!(
                        "change {first} of the feed is missing: change {found} is the first one"
                    )
                } else {
                    format!("the feed begins with change {found} instead of change {first}")
                }
            }),
        Some((_, chain)) if change.follows(chain) => None,
        Some((at, _)) if change.sequence > at.saturating_add(1) => Some(format!(
            "changes {} to {} of the feed are missing",
            at.saturating_add(1),
            change.sequence.saturating_sub(1)
        )),
        Some(_) => Some(format!(
            "change {} of the feed does not follow the change before it",
            change.sequence
        )),
    }
}

/// Describes how the end of the feed differs from the last change in the store's own row; `None` if they are equal.
fn ends_elsewhere(
    last: Option<(i64, String)>,
    kept_from: Option<i64>,
    head: &Head,
) -> Option<String> {
    match last {
        Some((at, _)) if at < head.sequence => Some(format!(
            "change {} of the feed is missing: the feed ends at change {at}",
            head.sequence
        )),
        Some((at, _)) if at > head.sequence => Some(format!(
            "the feed ends at change {at}, although change {} is the last one that a broker wrote",
            head.sequence
        )),
        Some((at, chain)) if chain != head.chain => Some(format!(
            "change {at} of the feed differs from the last change that a broker wrote"
        )),
        None if kept_from.is_some_and(|first| first <= head.sequence) => Some(format!(
            "change {} of the feed is missing: the feed is empty",
            head.sequence
        )),
        _ => None,
    }
}

/// The ids of the signing keys that a change revoked.
pub(in crate::parts::store) fn revoked_signing_keys(detail: &str) -> Vec<String> {
    let ended = serde_json::from_str::<Ended>(detail)
        .map(|ended| ended.revoked)
        .unwrap_or_default();
    let keys = ended
        .into_iter()
        .filter(|revoked| revoked.selector == Selector::SigningKey.as_str());
    keys.map(|revoked| revoked.value).collect()
}

/// Describes the revocations of a change that are missing among the stored ones, or that end fewer sessions than the
/// change says.
fn unmarked(detail: &str, marks: &Marks, now: Timestamp) -> Vec<String> {
    if !detail.contains("\"Revoked\":") {
        return Vec::new();
    }
    let Ok(ended) = serde_json::from_str::<Ended>(detail) else {
        return Vec::new();
    };
    // A later revocation of everything includes this one. Its own row may have been deleted by a
    // sweep under a clock that was ahead, before an operator corrected the clock.
    let everything = (
        Selector::Everything.as_str().to_owned(),
        String::new(),
        String::new(),
    );
    let everything = marks.get(&everything);
    let is_covered = |revoked: &Revoked| {
        everything.is_some_and(|mark| {
            mark.before_sequence >= revoked.before_sequence && mark.expires_at >= revoked.expires_at
        })
    };
    let lasting = ended
        .revoked
        .into_iter()
        .filter(|revoked| revoked.expires_at > now.seconds() && !is_covered(revoked));
    lasting
        .filter_map(|revoked| {
            let name = format!(
                "the revocation of {} {}",
                clip(&revoked.selector),
                clip(&revoked.value)
            );
            match marks.get(&(revoked.selector, revoked.account, revoked.value)) {
                None => Some(format!("{name} is missing")),
                Some(mark)
                    if mark.before_sequence < revoked.before_sequence
                        || mark.before_seconds < revoked.before_seconds
                        || mark.expires_at < revoked.expires_at =>
                {
                    Some(format!(
                        "{name} ends fewer sessions than when a broker created it"
                    ))
                }
                Some(_) => None,
            }
        })
        .collect()
}
