//! A token of an OpenID Connect provider to a caller: whose key signed it. What its claims say is
//! `federation::oidc`'s.

use std::sync::Arc;

use super::unproven::{Reason, Unproven};
use crate::base::arn::AccountId;
use crate::base::clock::Timestamp;
use crate::caller::{Caller, Identity};
use crate::directory::{Directory, Effective, OidcProvider, is_issuer};
use crate::error::Error;
use crate::federation::oidc::{self, not_vouched};
use crate::federation::providers::{KeyError, Providers};
use crate::proof::jwt::{TokenError, Unverified, Verified};

/// Whom a token is of. What is wrong with it the caller learns as far as it can act on it; the reason
/// is for the audit. The broker itself, `own_issuer`, vouches for nobody here: what limits a session and
/// what ends it would be lost. The provider may have to be asked for its keys: the
/// token is then judged by the directory and the clock of the `moment` at which they are there.
///
/// # Errors
/// InvalidIdentityToken, ExpiredTokenException or IDPCommunicationError, each with a reason.
pub async fn authenticate(
    token: &str,
    account: AccountId,
    providers: &Providers,
    directory: &Directory,
    own_issuer: Option<&str>,
    moment: impl FnOnce() -> (Arc<Directory>, Timestamp),
) -> Result<Caller, Box<Unproven>> {
    let (token, asked) = verified(token, account, providers, directory, own_issuer).await?;
    let (directory, now) = moment();
    let provider = oidc::as_it_is_now(&asked, &directory)?.clone();
    let identity = oidc::identity(token, provider, now)?;
    Ok(Caller {
        identity: Identity::Federated(Arc::new(identity)),
        access_key_id: String::new(),
        effective: Effective::default(),
    })
}

/// A token that one of the account's providers has signed, and the provider.
async fn verified(
    token: &str,
    account: AccountId,
    providers: &Providers,
    directory: &Directory,
    own_issuer: Option<&str>,
) -> Result<(Verified, Arc<OidcProvider>), Box<Unproven>> {
    let unverified = Unverified::read(token).map_err(|error| match error {
        TokenError::Header => not_vouched(Reason::Header),
        _ => not_vouched(Reason::Malformed),
    })?;
    let issuer = unverified.unverified_text("iss").unwrap_or_default();
    let rest = issuer
        .strip_prefix("https://")
        .or_else(|| issuer.strip_prefix("http://"))
        .unwrap_or_default();
    // The provider is found by its whole name, which is then compared byte for byte.
    let provider = directory.oidc_provider(&format!("arn:aws:iam::{account}:oidc-provider/{rest}"));
    let own = own_issuer.is_some_and(|own| is_issuer(issuer, own));
    let unknown = if own {
        Reason::OwnIssuer
    } else {
        Reason::UnknownIssuer
    };
    let provider = provider.filter(|p| *p.url == *issuer && !own).cloned();
    let key = match &provider {
        None => Err(unknown),
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
