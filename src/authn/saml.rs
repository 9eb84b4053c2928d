//! Authenticates a caller by a SAML response for which a provider of the role's account vouches. The
//! assertion itself is read in `federation::saml`.

use std::sync::Arc;

use crate::base::clock::Timestamp;
use crate::base::secret::Secret;
use crate::broker::Broker;
use crate::caller::{Caller, Identity};
use crate::directory::{Effective, SamlProvider};
use crate::error::Error;
use crate::federation::FederatedIdentity;
use crate::federation::saml::{self, ServiceProvider};
use crate::store::unless_abandoned;
use crate::unproven::Unproven;

/// Authenticates a caller as [`authenticate`] does, but on a separate thread, because verifying a long response takes
/// milliseconds and would delay other calls. The semaphore `verifications` of the broker limits how many responses are
/// verified at once. A call whose client disconnects while it waits loses its turn.
///
/// # Errors
/// The same as for [`authenticate`]; also [`Error::ServiceUnavailable`] if the client disconnects while the call waits,
/// and [`Error::InternalFailure`] if the thread fails.
pub async fn prove(
    broker: &Broker,
    response: Secret<String>,
    provider: Option<Arc<SamlProvider>>,
    now: Timestamp,
) -> Result<Caller, Box<Unproven>> {
    let service = broker.service_provider.clone();
    in_turn(broker, move || {
        authenticate(response, provider.as_ref(), &service, now)
    })
    .await
}

/// The values that a response must contain if a person signs in with it.
pub struct Expected {
    /// The URL to which the identity provider must have sent the response.
    pub consumer: String,
    /// The ID of the request that the response must answer; `None` if it must not answer any request.
    pub request: Option<String>,
}

/// Verifies a response with which a person signs in. The verification waits for its turn together with those of
/// [`prove`].
///
/// # Errors
/// The same as for [`prove`].
pub async fn sign_in(
    broker: &Broker,
    response: Secret<String>,
    provider: Arc<SamlProvider>,
    expected: Expected,
) -> Result<FederatedIdentity, Box<Unproven>> {
    let (service, now) = (broker.service_provider.clone(), broker.clock.now());
    in_turn(broker, move || {
        let Expected { consumer, request } = &expected;
        saml::sign_in(
            response,
            &provider,
            &service,
            consumer,
            request.as_deref(),
            now,
        )
    })
    .await
}

/// Waits for a turn, and then runs a verification on a separate thread.
async fn in_turn<T: Send + 'static>(
    broker: &Broker,
    verify: impl FnOnce() -> Result<T, Box<Unproven>> + Send + 'static,
) -> Result<T, Box<Unproven>> {
    let failed = |error| {
        Box::new(Unproven {
            error,
            claimed_key: None,
            reason: None,
        })
    };
    let Some(Ok(permit)) = unless_abandoned(broker.verifications.acquire()).await else {
        let connection = Error::ServiceUnavailable(
            "the connection to the client, which closed it while the call waited for its \
                turn,",
        );
        return Err(failed(connection));
    };
    let verified = tokio::task::spawn_blocking(verify).await;
    drop(permit);
    verified.unwrap_or_else(|_| Err(failed(Error::InternalFailure)))
}

/// Returns the caller for whom a response vouches. `provider` is the provider that the caller named; `None` if the
/// account of the role has no such provider. No identity provider is contacted, because its keys are in the metadata
/// document.
///
/// # Errors
/// `InvalidIdentityToken`, `ExpiredTokenException` or `IDPRejectedClaim`, each with a reason for the
/// audit log.
fn authenticate(
    response: Secret<String>,
    provider: Option<&Arc<SamlProvider>>,
    service: &Arc<ServiceProvider>,
    now: Timestamp,
) -> Result<Caller, Box<Unproven>> {
    let identity = match provider {
        Some(provider) => saml::identity(response, provider, service, now)?,
        None => return Err(saml::unknown_provider(&response, now)),
    };
    Ok(Caller {
        identity: Identity::Federated(Arc::new(identity)),
        access_key_id: String::new(),
        effective: Effective::default(),
        sign_in: None,
    })
}
