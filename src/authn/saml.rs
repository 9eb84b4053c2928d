//! A SAML response to a caller: whom an identity provider of the role's account vouches for. What
//! the assertion says is `federation::saml`'s.

use std::sync::Arc;

use super::unproven::Unproven;
use crate::base::arn::{AccountId, SamlProviderArn};
use crate::base::clock::Timestamp;
use crate::base::secret::Secret;
use crate::caller::{Caller, Identity};
use crate::directory::{Directory, Effective};
use crate::federation::saml::{self, ServiceProvider};

/// Whom a response is about. Nobody is asked: the provider's keys are in its metadata.
///
/// # Errors
/// InvalidIdentityToken, ExpiredTokenException or IDPRejectedClaim, each with a reason.
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
