//! Authenticates a caller by a SAML response for which a provider of the role's account vouches. The
//! assertion itself is read in `federation::saml`.

use std::sync::Arc;

use super::unproven::Unproven;
use crate::base::clock::Timestamp;
use crate::base::secret::Secret;
use crate::caller::{Caller, Identity};
use crate::directory::{Effective, SamlProvider};
use crate::federation::saml::{self, ServiceProvider};

/// Returns the caller for whom a response vouches. `provider` is the provider that was named, if the
/// account of the role has it. This contacts no identity provider, because the keys are in the
/// provider's metadata document.
///
/// # Errors
/// `InvalidIdentityToken`, `ExpiredTokenException` or `IDPRejectedClaim`, each with a reason for the
/// audit log.
pub fn authenticate(
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
    })
}
