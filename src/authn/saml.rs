//! Authenticates a caller by a SAML response of an identity provider in the role's account.
//! `federation::saml` reads the assertion in it.

use std::sync::Arc;

use super::unproven::Unproven;
use crate::base::arn::{AccountId, SamlProviderArn};
use crate::base::clock::Timestamp;
use crate::base::secret::Secret;
use crate::caller::{Caller, Identity};
use crate::directory::{Directory, Effective};
use crate::federation::saml::{self, ServiceProvider};

/// Returns the caller for whom a response vouches. This contacts no identity provider, because the
/// keys are in the provider's metadata document.
///
/// # Errors
/// `InvalidIdentityToken`, `ExpiredTokenException` or `IDPRejectedClaim`, each with a reason for the
/// audit log.
pub fn authenticate(
    response: Secret<String>,
    provider: &SamlProviderArn,
    account: AccountId,
    service: &Arc<ServiceProvider>,
    directory: &Directory,
    now: Timestamp,
) -> Result<Caller, Box<Unproven>> {
    let provider = saml::provider_for(provider, account, directory, &response, now)?;
    let identity = saml::identity(response, provider, service, now)?;
    Ok(Caller {
        identity: Identity::Federated(Arc::new(identity)),
        access_key_id: String::new(),
        effective: Effective::default(),
    })
}
