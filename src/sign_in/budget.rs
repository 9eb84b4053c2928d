//! Requests for tokens that prove nothing are counted for the address that they come from.

use crate::broker::Broker;
use crate::budgets;
use crate::error::{Class, Error, GrantError, GrantErrorKind};
use crate::origin::Origin;

/// Runs a request for tokens within the budget of its source address. The store is asked about codes and
/// refresh tokens, so such a request is counted first, and taken back if it was good. A question whether a
/// person has decided (`is_poll`) is answered from memory, so it is counted only if nobody knows its code:
/// others at the same address cannot shut it out.
///
/// # Errors
/// [`Error::Throttling`] if the address is over its budget, or the error of the request.
pub async fn counted<T>(
    broker: &Broker,
    origin: &Origin,
    is_poll: bool,
    request: impl Future<Output = Result<T, Error>>,
) -> Result<T, Error> {
    let source = budgets::source(origin.source_ip);
    let count = || {
        let counted = broker.budgets.unproven(source, broker.clock.monotonic());
        counted.map_err(|exceeded| broker.throttled(exceeded.name()))
    };
    if !is_poll {
        count()?;
    }
    let result = request.await;
    match (is_poll, result.as_ref().is_err_and(proves_nothing)) {
        (true, true) => count()?,
        (false, false) => broker.budgets.proven(source),
        _ => {}
    }
    result
}

/// Whether a refused request has not even shown that it knows a device code. An internal failure proves
/// nothing about whoever asked.
fn proves_nothing(error: &Error) -> bool {
    match error {
        Error::Grant(GrantError { kind, .. }) => !matches!(
            kind,
            GrantErrorKind::AuthorizationPending
                | GrantErrorKind::SlowDown
                | GrantErrorKind::ExpiredToken
                | GrantErrorKind::AccessDenied
        ),
        error => error.class() == Class::InvalidArgument,
    }
}
