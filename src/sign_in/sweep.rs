//! Compares all sign-ins with the revocations in force, and deletes those that are over. This must happen in time: a
//! revocation is deleted when every role session that it ends has expired, while a sign-in may last longer.

use crate::broker::Broker;
use crate::error::Error;
use crate::store::{SIGN_INS_AT_ONCE, SignInsOf};

use super::{opened, remove};

/// Compares all sign-ins with the revocations in force, and deletes those that are over.
///
/// # Errors
/// [`Error`] if an operation of the store fails, or this node does not know what is revoked.
pub async fn sweep(broker: &Broker) -> Result<(), Error> {
    if broker.sign_ins.is_none() {
        return Ok(());
    }
    let mut after = String::new();
    loop {
        // Only what is in force when the rows are read is known to have been compared.
        broker.must_know_what_is_revoked()?;
        let (known, now) = (broker.feed.sequence(), broker.clock.now());
        let rows = broker
            .store
            .sign_ins_of(SignInsOf::Everybody, &after, SIGN_INS_AT_ONCE)
            .await?;
        let (Some(first), Some(last)) = (rows.first(), rows.last()) else {
            break;
        };
        let directory = broker.directory.load_full();
        let mut is_compared = true;
        for row in &rows {
            // What another node sealed under a newer key, or in a newer state, is left to that node.
            let Some(sign_in) = opened(broker, row)? else {
                tracing::debug!(id = row.id, "a stored sign-in could not be decrypted");
                is_compared = false;
                continue;
            };
            if sign_in.issued_under > known || now >= sign_in.ends_at {
                is_compared &= now >= sign_in.ends_at;
                continue;
            }
            if sign_in.is_over(&directory, &broker.revocations, broker.store.id(), now) {
                remove(broker, &sign_in).await?;
            }
        }
        if is_compared {
            broker
                .store
                .checked_sign_ins(&first.id, &last.id, now)
                .await?;
        }
        after.clone_from(&last.id);
    }
    if let Some(sign_ins) = &broker.sign_ins {
        sign_ins.devices.sweep(broker.clock.monotonic());
    }
    Ok(())
}
