//! The claims of a verified ID token to a [`FederatedIdentity`]: OpenID Connect Core 1.0 section
//! 3.1.3.7. It knows no keys and asks nobody.

use std::sync::Arc;

use super::vouched::{MAX_METHODS, METHODS};
use super::{Asked, FederatedIdentity, Once, Source};
use crate::authn::unproven::{Reason, Unproven};
use crate::base::clock::Timestamp;
use crate::base::names::{self, SourceIdentity, Tag};
use crate::directory::{Directory, OidcProvider};
use crate::error::Error;
use crate::proof::jwt::{Flat, Rounded, Verified};
use crate::session::token;

/// How far a provider's clock may be ahead of ours, in seconds.
const PROVIDER_AHEAD_SECONDS: i64 = 60;
/// Where a token carries session tags, and who stands behind the session: IAM User Guide, "Pass
/// session tags in AWS STS" and "Monitor and control actions taken with assumed roles".
const TAGS: &str = "https://aws.amazon.com/tags";
const SOURCE_IDENTITY: &str = "https://aws.amazon.com/source_identity";
/// Where a token says which roles it is good for, and no others, by their ARNs.
const ROLES: &str = "https://aws.amazon.com/roles";

/// What whoever shows an unknown provider's token reads, and whoever shows a forged one.
const NOT_VOUCHED: &str = "The web identity token that was passed is not one that an identity provider of the role's account vouches for";

/// The refusal of a token that nobody vouches for.
pub(crate) fn not_vouched(reason: Reason) -> Box<Unproven> {
    Unproven::because(Error::InvalidIdentityToken(NOT_VOUCHED.to_owned()), reason)
}

fn invalid(text: &str, reason: Reason) -> Box<Unproven> {
    Unproven::because(Error::InvalidIdentityToken(text.to_owned()), reason)
}

/// What a verified token says of its bearer, if all of it is in order now.
///
/// # Errors
/// InvalidIdentityToken or ExpiredTokenException, each with a reason.
pub fn identity(
    token: Verified,
    provider: Arc<OidcProvider>,
    now: Timestamp,
) -> Result<FederatedIdentity, Box<Unproven>> {
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
    let methods = methods.map(|(_, value)| value);
    check_methods(methods)?;
    Ok(FederatedIdentity {
        provider_arn: provider.arn.clone(),
        account: provider.account,
        issuer: provider.url.clone(),
        principal_id: format!("{}:{audience}:{subject}", provider.url),
        remembered: Some(remembered(&subject, &audience, methods)),
        keys: keys(&provider, &token, claims, &audience),
        asked: asked(&token),
        roles: roles(&token),
        once: provider
            .one_time
            .then(|| once(&token, issued_at, expires_at)),
        session_ends_by: None,
        subject,
        audience,
        source: Source::Oidc { provider, token },
    })
}

/// The claims as condition keys: each under the provider's URL without its scheme.
fn keys(
    provider: &OidcProvider,
    token: &Verified,
    claims: Vec<(String, Flat)>,
    audience: &str,
) -> Vec<(String, Flat)> {
    let url = &*provider.url;
    let issuer = url.split_once("://").map_or(url, |(_, rest)| rest);
    let mut keys: Vec<_> = claims
        .into_iter()
        .map(|(path, value)| (format!("{issuer}:{path}"), value))
        .collect();
    // As AWS has it: whom the token was given to stands for its audience, which is the other key.
    let audiences = token.texts("aud").unwrap_or_default();
    let audiences = match audiences.as_slice() {
        [] => None,
        [audience] => Some(Flat::One((*audience).to_owned())),
        several => Some(Flat::Many(
            several.iter().map(|a| (*a).to_owned()).collect(),
        )),
    };
    keys.extend(audiences.map(|audiences| (format!("{issuer}:oaud"), audiences)));
    keys.push((format!("{issuer}:aud"), Flat::One(audience.to_owned())));
    keys
}

/// What a session of a token carries of it.
fn remembered(subject: &str, audience: &str, methods: Option<&Flat>) -> token::WebIdentity {
    let (authentication_methods, methods_are_a_list) = match methods {
        None => (Vec::new(), false),
        Some(Flat::One(method)) => (vec![method.clone()], false),
        Some(Flat::Many(methods)) => (methods.clone(), true),
    };
    token::WebIdentity {
        subject: subject.to_owned(),
        audience: audience.to_owned(),
        authentication_methods,
        methods_are_a_list,
    }
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

/// Whether the provider, as the directory has it now, would take the token now.
pub(super) fn still_good(
    provider: &OidcProvider,
    token: &Verified,
    directory: &Directory,
    now: Timestamp,
) -> Result<(), Box<Unproven>> {
    let provider = as_it_is_now(provider, directory)?;
    times(token, now)?;
    audience(token, provider)?;
    Ok(())
}

/// A provider as the directory has it now, if the key that was found for it before is still its own.
pub(crate) fn as_it_is_now<'d>(
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

fn asked(token: &Verified) -> Result<Asked, Error> {
    let (tags, transitive_tag_keys) = session_tags(token)?;
    Ok(Asked {
        tags,
        transitive_tag_keys,
        source_identity: source_identity(token)?,
    })
}

/// `{"principal_tags": {"Team": ["blue"]}, "transitive_tag_keys": ["Team"]}`
fn session_tags(token: &Verified) -> Result<(Vec<Tag>, Vec<String>), Error> {
    let bad = || malformed(TAGS);
    let Some(claim) = token.claims().get(TAGS) else {
        return Ok((Vec::new(), Vec::new()));
    };
    let mut tags = Vec::new();
    for (key, value) in claim
        .get("principal_tags")
        .and_then(|t| t.as_object())
        .ok_or_else(bad)?
    {
        let value = match value {
            serde_json::Value::Array(list) if list.len() == 1 => {
                list.first().and_then(|v| v.as_str())
            }
            other => other.as_str(),
        };
        tags.push(Tag {
            key: key.clone(),
            value: value.ok_or_else(bad)?.to_owned(),
        });
    }
    let transitive: Vec<String> = match claim.get("transitive_tag_keys") {
        None => Vec::new(),
        Some(list) => {
            let list = list.as_array().ok_or_else(bad)?;
            list.iter()
                .map(|v| v.as_str().map(str::to_owned))
                .collect::<Option<_>>()
                .ok_or_else(bad)?
        }
    };
    if transitive
        .iter()
        .any(|k| !tags.iter().any(|t| t.key.eq_ignore_ascii_case(k)))
    {
        return Err(bad());
    }
    Ok((names::tags(tags)?, transitive))
}

fn source_identity(token: &Verified) -> Result<Option<SourceIdentity>, Error> {
    match token.claims().get(SOURCE_IDENTITY) {
        None => Ok(None),
        Some(value) => {
            let text = value.as_str().unwrap_or_default();
            Ok(Some(SourceIdentity::parse("SourceIdentity", text)?))
        }
    }
}

fn roles(token: &Verified) -> Result<Option<Vec<String>>, Error> {
    let text = |value: &serde_json::Value| value.as_str().map(str::to_owned);
    let roles = match token.claims().get(ROLES) {
        None => return Ok(None),
        Some(serde_json::Value::Array(arns)) => arns.iter().map(text).collect(),
        Some(value) => text(value).map(|arn| vec![arn]),
    };
    roles.map(Some).ok_or_else(|| malformed(ROLES))
}

fn malformed(claim: &str) -> Error {
    Error::InvalidIdentityToken(format!("The claim `{claim}` is not as it should be"))
}

/// What marks a token of a provider whose tokens are good once.
fn once(token: &Verified, issued_at: i64, expires_at: i64) -> Result<Once, Error> {
    let id = token
        .text("jti")
        .filter(|id| !id.is_empty() && id.len() <= 1_024);
    let missing = "The token has no `jti`, which this provider's must have";
    Ok(Once {
        id: id
            .ok_or_else(|| Error::InvalidIdentityToken(missing.into()))?
            .to_owned(),
        issued_at: Timestamp::from_seconds(issued_at),
        expires_at: Timestamp::from_seconds(expires_at),
    })
}
