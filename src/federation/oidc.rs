//! Turns the claims of a verified ID token into a [`FederatedIdentity`]: OpenID Connect Core 1.0
//! section 3.1.3.7. This module knows no keys, and calls no provider.

use std::sync::Arc;
use std::time::Duration;

use super::kubernetes;
use super::vouched::{MAX_METHODS, METHODS};
use super::{Asked, FederatedIdentity, Once, Source};
use crate::base::clock::Timestamp;
use crate::base::names::{self, SourceIdentity, Tag};
use crate::directory::{Directory, OidcProvider};
use crate::error::Error;
use crate::proof::jwt::{Flat, Rounded, Verified};
use crate::session::token;
use crate::unproven::{Reason, Unproven};

/// How many seconds a provider's clock may be ahead of this broker's.
const PROVIDER_AHEAD_SECONDS: i64 = 60;
/// The claim for session tags: IAM User Guide, "Pass session tags in AWS STS".
const TAGS: &str = "https://aws.amazon.com/tags";
/// The claim for the source identity: IAM User Guide, "Monitor and control actions taken with assumed
/// roles".
const SOURCE_IDENTITY: &str = "https://aws.amazon.com/source_identity";
/// The claim with the ARNs of the roles for which the token is valid. A token with this claim is not valid for other
/// roles.
const ROLES: &str = "https://aws.amazon.com/roles";

/// The message of the refusal. It is the same for a token of an unknown provider as for a forged
/// one.
const NOT_VOUCHED: &str =
    "The web identity token is not valid for any identity provider in the account of the role";

/// Makes the refusal of a token for which no provider of the role's account vouches.
pub(crate) fn not_vouched(reason: Reason) -> Box<Unproven> {
    Unproven::because(Error::InvalidIdentityToken(NOT_VOUCHED.to_owned()), reason)
}

fn invalid(text: &str, reason: Reason) -> Box<Unproven> {
    Unproven::because(Error::InvalidIdentityToken(text.to_owned()), reason)
}

/// Reads the identity from a verified token, if all of its claims are valid now.
///
/// # Errors
/// `InvalidIdentityToken` or `ExpiredTokenException`, with the reason for the audit log.
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
        .ok_or_else(|| {
            invalid(
                "The token has no claim `sub` of 1 to 255 characters",
                Reason::NoSubject,
            )
        })?
        .to_owned();
    let audience = audience(&token, &provider)?;
    // A logout token has events. Keycloak's access and refresh tokens state their type in the claim
    // `typ`.
    let kind = token.text("typ").unwrap_or("ID");
    if token.claims().contains_key("events") || !["ID", "JWT"].contains(&kind) {
        return Err(invalid(
            "The token is not an ID token: it has the claim `events`, or its claim `typ` is neither ID nor JWT",
            Reason::NotAnIdToken,
        ));
    }
    let claims = token.flattened();
    let claims = claims.ok_or_else(|| {
        invalid(
            "The token has two claims whose names differ only in case, or more than 500 claims",
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
        remembered: token::Holder::WebIdentity(token::WebIdentity {
            node: kubernetes::service_account(&token)
                .and_then(|account| account.node)
                .unwrap_or_default(),
            ..remembered(&subject, &audience, methods)
        }),
        keys: keys(&provider, &token, claims, &audience),
        asked: asked(&token),
        roles: roles(&token),
        once: provider
            .one_time
            .then(|| once(&provider, &token, issued_at, expires_at)),
        session_duration: None,
        session_ends_by: None,
        subject,
        audience,
        source: Source::Oidc { provider, token },
    })
}

/// Makes the condition keys from the claims. Their prefix is the provider's URL without its scheme.
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
    // As in AWS, `aud` is the client to which the token was issued, and `oaud` the token's
    // audience.
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

/// The claims of the token that the session token carries.
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
        node: String::new(),
    }
}

/// Checks the length of the claim `amr`, because the session token carries it.
fn check_methods(methods: Option<&Flat>) -> Result<(), Box<Unproven>> {
    let length = match methods {
        None => 0,
        Some(Flat::One(method)) => method.len(),
        Some(Flat::Many(methods)) => methods.iter().map(|method| method.len() + 1).sum(),
    };
    if length > MAX_METHODS {
        return Err(invalid(
            "The claim `amr` of the token is longer than 1,024 bytes",
            Reason::MethodsTooLong,
        ));
    }
    Ok(())
}

/// Checks that the provider's current entry in the directory still accepts the token.
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

/// Finds the provider's current entry in the directory. Refuses the token if the provider may now have
/// other keys than those that were used.
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

/// Checks that a token is valid now. Returns when it was issued and when it expires, in seconds
/// since 1970.
fn times(token: &Verified, now: Timestamp) -> Result<(i64, i64), Box<Unproven>> {
    let time = |claim, rounded| {
        token.seconds(claim, rounded).map_err(|_| {
            invalid(
                "The claims `exp`, `iat` and `nbf` of the token must be numbers of seconds since 1970",
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
        return Err(invalid(
            &format!(
                "The token is not valid yet: its `iat` or `nbf` is more than {PROVIDER_AHEAD_SECONDS} seconds in the \
                 future"
            ),
            Reason::NotValidYet,
        ));
    }
    Ok((issued_at, expires_at))
}

/// The audience of a token: OpenID Connect Core 1.0 section 3.1.3.7. Without the claim `azp`, all audiences must be
/// client ids of the provider. With it, `azp` and at least one audience must be.
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

/// Reads the claim with the tags, such as `{"principal_tags": {"Team": ["blue"]},
/// "transitive_tag_keys": ["Team"]}`.
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
    Error::InvalidIdentityToken(format!(
        "The claim `{claim}` of the token does not have the form that AWS documents"
    ))
}

/// Makes the record by which a token is accepted only once, for a provider that demands this.
fn once(
    provider: &OidcProvider,
    token: &Verified,
    issued_at: i64,
    expires_at: i64,
) -> Result<Once, Error> {
    let id = token
        .text("jti")
        .filter(|id| !id.is_empty() && id.len() <= 1_024);
    let missing = "The token must have a `jti` of 1 to 1,024 bytes, because each token of this provider is \
        accepted only once";
    Ok(Once {
        issuer: provider.url.clone(),
        id: id
            .ok_or_else(|| Error::InvalidIdentityToken(missing.into()))?
            .to_owned(),
        issued_at: Timestamp::from_seconds(issued_at),
        ahead: Duration::from_secs(PROVIDER_AHEAD_SECONDS.unsigned_abs()),
        expires_at: Timestamp::from_seconds(expires_at),
    })
}
