//! A token of an OpenID Connect provider to a caller: OpenID Connect Core 1.0 section 3.1.3.7.

use std::sync::Arc;

use super::{Reason, Unproven};
use crate::base::arn::AccountId;
use crate::base::clock::Timestamp;
use crate::caller::{Caller, Identity};
use crate::directory::{Directory, Effective, OidcProvider, is_issuer};
use crate::error::Error;
use crate::federation::{MAX_METHODS, METHODS, WebIdentity};
use crate::proof::jwt::{Flat, Rounded, TokenError, Unverified, Verified};
use crate::providers::{KeyError, Providers};

/// How far a provider's clock may be ahead of ours, in seconds.
const PROVIDER_AHEAD_SECONDS: i64 = 60;
/// What whoever shows an unknown provider's token reads, and whoever shows a forged one.
const NOT_VOUCHED: &str = "The web identity token that was passed is not one that an identity provider of the role's account vouches for";

fn not_vouched(reason: Reason) -> Box<Unproven> {
    Unproven::because(Error::InvalidIdentityToken(NOT_VOUCHED.to_owned()), reason)
}

fn invalid(text: &str, reason: Reason) -> Box<Unproven> {
    Unproven::because(Error::InvalidIdentityToken(text.to_owned()), reason)
}

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
    let provider = as_it_is_now(&asked, &directory)?.clone();
    let identity = identity(token, provider, now)?;
    Ok(Caller {
        identity: Identity::WebIdentity(Arc::new(identity)),
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

/// What a verified token says of its bearer, if all of it is in order now.
fn identity(
    token: Verified,
    provider: Arc<OidcProvider>,
    now: Timestamp,
) -> Result<WebIdentity, Box<Unproven>> {
    let (issued_at, expires_at) = times(&token, now)?;
    let subject = token
        .text("sub")
        .filter(|sub| (1..=255).contains(&sub.chars().count()));
    let subject = subject
        .ok_or_else(|| invalid("The token has no `sub`", Reason::NoSubject))?
        .to_owned();
    let audience = audience(&token, &provider)?;
    // A logout token has events; Keycloak's access and refresh tokens say what they are in the claims.
    let kind = token.text("typ").unwrap_or("ID");
    if token.claims().contains_key("events") || !["ID", "JWT"].contains(&kind) {
        return Err(invalid(
            "The token is not an ID token",
            Reason::NotAnIdToken,
        ));
    }
    let claims = token.flattened();
    let claims = claims.ok_or_else(|| {
        invalid(
            "Two claims of the token differ in case only",
            Reason::AmbiguousClaims,
        )
    })?;
    let methods = claims
        .iter()
        .find(|(path, _)| path.eq_ignore_ascii_case(METHODS));
    check_methods(methods.map(|(_, value)| value))?;
    let principal_id = format!("{}:{audience}:{subject}", provider.url);
    Ok(WebIdentity {
        provider,
        claims,
        subject,
        audience,
        issued_at,
        expires_at,
        principal_id,
        token,
    })
}

/// A session token carries them: they have a limit.
fn check_methods(methods: Option<&Flat>) -> Result<(), Box<Unproven>> {
    let length = match methods {
        None => 0,
        Some(Flat::One(method)) => method.len(),
        Some(Flat::Many(methods)) => methods.iter().map(|method| method.len() + 1).sum(),
    };
    if length > MAX_METHODS {
        return Err(invalid(
            "The claim `amr` of the token is too long: 1,024 bytes are taken",
            Reason::MethodsTooLong,
        ));
    }
    Ok(())
}

/// Whether the provider that vouched for a caller still does: the token is not over, and the provider,
/// as the directory has it now, would take it. A caller that no provider vouches for passes.
///
/// # Errors
/// As [`authenticate`].
pub fn still_vouched(caller: &Caller, directory: &Directory, now: Timestamp) -> Result<(), Error> {
    let Some(identity) = caller.web_identity() else {
        return Ok(());
    };
    let judged = as_it_is_now(&identity.provider, directory).and_then(|provider| {
        times(&identity.token, now)?;
        audience(&identity.token, provider)
    });
    judged.map(|_| ()).map_err(|unproven| unproven.error)
}

/// A provider as the directory has it now, if the key that was found for it before is still its own.
fn as_it_is_now<'d>(
    asked: &OidcProvider,
    directory: &'d Directory,
) -> Result<&'d Arc<OidcProvider>, Box<Unproven>> {
    let provider = directory
        .oidc_provider(&asked.arn)
        .filter(|p| p.url == asked.url);
    let provider = provider.ok_or_else(|| not_vouched(Reason::UnknownIssuer))?;
    let is_changed = !std::ptr::eq(&**provider, asked);
    if is_changed && (asked.keys.is_some() || provider.keys.is_some() || !provider.asks_like(asked))
    {
        return Err(Unproven::because(
            Error::IdpCommunicationError,
            Reason::ProviderChanged,
        ));
    }
    Ok(provider)
}

/// When a token was issued and when it expires; it is good now.
fn times(token: &Verified, now: Timestamp) -> Result<(i64, i64), Box<Unproven>> {
    let time = |claim, rounded| {
        token.seconds(claim, rounded).map_err(|_| {
            invalid(
                "A time in the token is not a number of seconds",
                Reason::Times,
            )
        })
    };
    let expires_at = time("exp", Rounded::Down)?
        .ok_or_else(|| invalid("The token has no `exp`", Reason::NoExpiry))?;
    let issued_at = time("iat", Rounded::Up)?
        .ok_or_else(|| invalid("The token has no `iat`", Reason::NoIssueTime))?;
    let not_before = time("nbf", Rounded::Up)?.unwrap_or(issued_at);
    if now.seconds() >= expires_at {
        let text = format!(
            "Token expired: current date/time {now} must be before the expiration date/time {}",
            Timestamp::from_seconds(expires_at)
        );
        return Err(Unproven::because(
            Error::ExpiredWebIdentityToken(text),
            Reason::Expired,
        ));
    }
    if issued_at.max(not_before) > now.seconds() + PROVIDER_AHEAD_SECONDS {
        return Err(invalid("The token is not valid yet", Reason::NotValidYet));
    }
    Ok((issued_at, expires_at))
}

/// Whom a token is for: OpenID Connect Core 1.0 section 3.1.3.7. Of several audiences it must be for
/// us alone, or say whom it was given to.
fn audience(token: &Verified, provider: &OidcProvider) -> Result<String, Box<Unproven>> {
    let audiences = token.texts("aud").unwrap_or_default();
    let ours = |audience: &str| provider.client_ids.iter().any(|id| id == audience);
    let party = match token.claims().get("azp") {
        None => None,
        Some(azp) => Some(
            azp.as_str()
                .filter(|azp| ours(azp))
                .ok_or_else(|| invalid("Incorrect token audience", Reason::AuthorizedParty))?,
        ),
    };
    let for_us = match party {
        Some(_) => audiences.iter().any(|a| ours(a)),
        None => !audiences.is_empty() && audiences.iter().all(|a| ours(a)),
    };
    if !for_us {
        return Err(invalid("Incorrect token audience", Reason::Audience));
    }
    Ok(party
        .or_else(|| audiences.first().copied())
        .unwrap_or_default()
        .to_owned())
}
