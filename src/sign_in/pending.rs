//! Keeps values on the server between two requests of a browser, for example while the browser is at an identity
//! provider. A value is sealed and stored under a random handle. It can be taken only once, on any node.

use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::seal::Sealer;
use super::{digest, secret};
use crate::base::secret::Secret;
use crate::broker::Broker;
use crate::budgets;
use crate::error::Error;
use crate::origin::Origin;
use crate::store::{GrantKind, GrantRow};

/// Keeps a value of this kind for a time. Returns the handle by which it is taken.
///
/// # Errors
/// [`Error::Throttling`] if too many such values are kept already, in all or for browsers of the same source
/// address. [`Error`] also if the store does not answer.
pub async fn keep(
    broker: &Broker,
    kind: &'static str,
    value: &impl Serialize,
    lives: Duration,
    origin: &Origin,
) -> Result<Secret<String>, Error> {
    let handle = secret(broker)?;
    let (id, now) = (digest(handle.expose()), broker.clock.now());
    let name = GrantKind::Pending(kind).name();
    let sealed = Sealer::of(broker)?.seal(&name, &id, value, &*broker.entropy)?;
    let source = format!("pending of {}", budgets::source(origin.source_ip));
    let row = GrantRow {
        family: Some(digest(&source)),
        ..GrantRow::new(id, now.plus(lives), sealed)
    };
    match broker
        .store
        .add_grant(GrantKind::Pending(kind), row, now)
        .await?
    {
        true => Ok(handle),
        false => Err(broker.throttled("sign_ins")),
    }
}

/// Takes the value that was kept under a handle. `None` if there is no such value, if its time is up, or if another
/// request has taken it before.
///
/// # Errors
/// [`Error`] if an operation of the store fails, or there is no master key.
pub async fn take<T: DeserializeOwned>(
    broker: &Broker,
    kind: &'static str,
    handle: &str,
) -> Result<Option<T>, Error> {
    if handle.len() > 128 {
        return Ok(None);
    }
    let (id, now) = (digest(handle), broker.clock.now());
    let row = broker
        .store
        .take_grant(GrantKind::Pending(kind), &id, now)
        .await?;
    let (sealer, name) = (Sealer::of(broker)?, GrantKind::Pending(kind).name());
    Ok(row.and_then(|row| sealer.open(&name, &row.id, &row.sealed)))
}

/// Returns the value that was kept under a handle, without taking it. `None` as for [`take`].
///
/// # Errors
/// [`Error`] if an operation of the store fails, or there is no master key.
pub async fn look<T: DeserializeOwned>(
    broker: &Broker,
    kind: &'static str,
    handle: &str,
) -> Result<Option<T>, Error> {
    if handle.len() > 128 {
        return Ok(None);
    }
    let (id, now) = (digest(handle), broker.clock.now());
    let row = broker.store.grant(GrantKind::Pending(kind), &id).await?;
    let row = row.filter(|row| row.expires_at > now.seconds());
    let (sealer, name) = (Sealer::of(broker)?, GrantKind::Pending(kind).name());
    Ok(row.and_then(|row| sealer.open(&name, &row.id, &row.sealed)))
}
