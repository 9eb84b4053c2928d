//! Authenticates a token of an OpenID Connect provider by its signature. `federation::oidc` checks
//! the claims.

use std::sync::Arc;

use crate::base::arn::AccountId;
use crate::base::clock::Timestamp;
use crate::broker::Broker;
use crate::caller::{Caller, Identity};
use crate::directory::{Directory, Effective, OidcProvider, is_issuer};
use crate::error::Error;
use crate::federation::FederatedIdentity;
use crate::federation::oidc::{self, not_vouched};
use crate::federation::providers::{KeyError, Providers};
use crate::proof::jwt::{TokenError, Unverified, Verified};
use crate::unproven::{Reason, Unproven};

/// Authenticates the holder of a token. The caller is told what is wrong with the token only if it can do something
/// about it; the full reason is for the audit log. Tokens of the broker's own issuer, `own_issuer`, are refused,
/// because a new session for such a token would not be bound by the limits and revocations of the session that got the
/// token. If the provider's keys have to be fetched, the token is checked against the directory and the clock that
/// `moment` returns after that.
///
/// # Errors
/// [`Unproven`] with `InvalidIdentityToken`, `ExpiredTokenException` or `IDPCommunicationError`, and the
/// reason for the audit log.
pub async fn authenticate(
    token: &str,
    account: AccountId,
    providers: &Providers,
    directory: &Directory,
    own_issuer: Option<&str>,
    moment: impl FnOnce() -> (Arc<Directory>, Timestamp),
) -> Result<Caller, Box<Unproven>> {
    let identity = identity(token, account, providers, directory, own_issuer, moment).await?;
    Ok(Caller {
        identity: Identity::Federated(identity),
        access_key_id: String::new(),
        effective: Effective::default(),
        sign_in: None,
    })
}

/// Verifies a token that a caller shows in addition to its own proof, as strictly as [`authenticate`]
/// does.
///
/// # Errors
/// The same as for [`authenticate`].
pub async fn identify(
    broker: &Broker,
    token: &str,
    account: AccountId,
    directory: &Directory,
) -> Result<Arc<FederatedIdentity>, Box<Unproven>> {
    let moment = || (broker.directory.load_full(), broker.clock.now());
    let (providers, own) = (&broker.providers, broker.issuer.as_deref());
    identity(token, account, providers, directory, own, moment).await
}

/// Returns the identity for which a token vouches; see [`authenticate`].
async fn identity(
    token: &str,
    account: AccountId,
    providers: &Providers,
    directory: &Directory,
    own_issuer: Option<&str>,
    moment: impl FnOnce() -> (Arc<Directory>, Timestamp),
) -> Result<Arc<FederatedIdentity>, Box<Unproven>> {
    let token = read(Unverified::read(token))?;
    let (token, asked) = verified(token, account, providers, directory, own_issuer).await?;
    let (directory, now) = moment();
    let provider = oidc::as_it_is_now(&asked, &directory)?.clone();
    Ok(Arc::new(oidc::identity(token, provider, now)?))
}

/// Verifies that a provider of the account signed a logout token, and that it is still the same provider.
/// The caller must check the claims.
///
/// # Errors
/// The same as for [`authenticate`].
pub async fn logout_token(
    broker: &Broker,
    token: &str,
    account: AccountId,
) -> Result<(Verified, Arc<OidcProvider>), Box<Unproven>> {
    let token = read(Unverified::read_logout(token))?;
    let directory = broker.directory.load_full();
    let (providers, own) = (&broker.providers, broker.issuer.as_deref());
    let (token, asked) = verified(token, account, providers, &directory, own).await?;
    let directory = broker.directory.load_full();
    let provider = oidc::as_it_is_now(&asked, &directory)?.clone();
    Ok((token, provider))
}

/// Returns the token, or the refusal of one that could not be parsed.
fn read<'t>(token: Result<Unverified<'t>, TokenError>) -> Result<Unverified<'t>, Box<Unproven>> {
    token.map_err(|error| match error {
        TokenError::Header { field, fault } => not_vouched(Reason::Header { field, fault }),
        _ => not_vouched(Reason::Malformed),
    })
}

/// Verifies that one of the account's providers signed the token. Returns its claims and the
/// provider.
async fn verified(
    unverified: Unverified<'_>,
    account: AccountId,
    providers: &Providers,
    directory: &Directory,
    own_issuer: Option<&str>,
) -> Result<(Verified, Arc<OidcProvider>), Box<Unproven>> {
    let issuer = unverified.unverified_text("iss").unwrap_or_default();
    let rest = issuer
        .strip_prefix("https://")
        .or_else(|| issuer.strip_prefix("http://"))
        .unwrap_or_default();
    // The provider is looked up by its whole name, and its URL is then compared byte for byte.
    let provider = directory.oidc_provider(&format!("arn:aws:iam::{account}:oidc-provider/{rest}"));
    let own = own_issuer.is_some_and(|own| is_issuer(issuer, own));
    let unknown = if own {
        Reason::OwnIssuer
    } else {
        Reason::UnknownIssuer
    };
    let provider = provider.filter(|p| *p.url == *issuer && !own).cloned();
    let key = match &provider {
        None => Err(unknown.clone()),
        Some(provider) => match providers.key(provider, unverified.key_id()).await {
            Ok(key) => Ok(key),
            Err(KeyError::Unknown) => Err(Reason::UnknownKey),
            Err(KeyError::Unreachable) => {
                return Err(Unproven::because(
                    Error::IdpCommunicationError,
                    Reason::KeysUnavailable,
                ));
            }
        },
    };
    let token = unverified.verify(key.as_ref().ok());
    let token = token.map_err(|_| not_vouched(key.err().unwrap_or(Reason::Signature)))?;
    let asked = provider.ok_or_else(|| not_vouched(unknown))?;
    Ok((token, asked))
}
