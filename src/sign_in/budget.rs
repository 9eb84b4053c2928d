//! Limits the requests for tokens that present no valid code or token, by the address from which they come.

use crate::broker::Broker;
use crate::budgets;
use crate::error::{Class, Error, GrantError, GrantErrorKind};
use crate::origin::Origin;

/// Runs a request for tokens within the budget of its source address.
///
/// A request with a code or a refresh token costs a query of the store. It is counted before it runs, and the count is
/// taken back unless the request proves to present no valid code or token.
///
/// A poll of the device flow (`is_poll`) is answered from memory, so it is counted only if its device code is unknown.
/// Therefore a program with a valid device code is served even if others at its address have used up the budget.
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

/// Whether an error shows that a request came without a valid code or token. A failure of the broker does not show
/// this.
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
