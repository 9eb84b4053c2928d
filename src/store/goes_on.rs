//! Checks that the store continues from a change that this broker has seen before.

use super::changes::{Change, PAGE, RESTORED, page};
use super::head::Head;
use super::integrity::Row;
use super::lanes::Purpose;
use super::{SCAN_DEADLINE, Store, StoreError};

impl Store {
    /// Checks that the store continues from the change `sequence`, which was seen before and whose digest is `chain`.
    /// The feed must lead from that change to the last one without a gap. The only exception is a restore by an
    /// operator, because it has ended all sessions that were issued before it.
    ///
    /// Calls `each` with every change that has a valid MAC, in order. Whether the changes follow from one another is
    /// known only when the function returns.
    ///
    /// # Errors
    /// An error of the database, such as [`StoreError::Unavailable`] if it does not answer in time, and
    /// [`StoreError::Tampered`] if the store does not continue from that change.
    pub async fn goes_on_from(
        &self,
        sequence: i64,
        chain: &str,
        mut each: impl FnMut(Change) + Send,
    ) -> Result<Head, StoreError> {
        let head = self.head().await?;
        let (mut at, mut before) = (sequence, chain.to_owned());
        let mut broken: Option<String> = None;
        while at < head.sequence {
            let rows = self
                .read(Purpose::Background, SCAN_DEADLINE, move |c| {
                    Box::pin(page(c, at, PAGE))
                })
                .await?;
            let mut rows = rows
                .into_iter()
                .take_while(|(change, _)| change.sequence <= head.sequence)
                .peekable();
            if rows.peek().is_none() {
                break;
            }
            for (change, mac) in rows {
                self.check(&Row::Change(&change.fields(), &change.chain), &mac)?;
                if change.sequence <= at {
                    // Without this check, a database that returns the same page again would be asked
                    // forever.
                    return Err(self.tampered(format!(
                        "the database returned change {} of the feed out of order, after change {at}",
                        change.sequence
                    )));
                }
                if change.action == RESTORED {
                    broken = None;
                } else if !change.follows(&before) {
                    broken.get_or_insert_with(|| unseen(change.sequence, at, sequence));
                }
                at = change.sequence;
                before.clone_from(&change.chain);
                each(change);
            }
        }
        if at != head.sequence {
            broken.get_or_insert_with(|| {
                format!("change {} is missing from the feed", at.saturating_add(1))
            });
        } else if before != head.chain {
            broken.get_or_insert_with(|| {
                if at == sequence {
                    format!(
                        "change {sequence} in the store differs from the change with this number that this broker has \
                         seen"
                    )
                } else {
                    format!(
                        "change {at} of the feed differs from the last change that the store's own row names"
                    )
                }
            });
        }
        match broken {
            Some(what) => Err(self.tampered(what)),
            None => Ok(head),
        }
    }
}

fn unseen(sequence: i64, at: i64, seen: i64) -> String {
    if sequence > at.saturating_add(1) {
        format!(
            "changes {} to {} are missing from the feed, so it is unknown whether the store continues from change {seen}, \
             the last one that this broker has seen",
            at.saturating_add(1),
            sequence.saturating_sub(1)
        )
    } else {
        format!(
            "change {sequence} of the feed does not follow the change {at} that this broker has seen"
        )
    }
}
