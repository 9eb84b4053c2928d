//! Whom a provider outside vouches for: one shape, whatever kind of provider it is. What reads tokens
//! of one kind fills it in; callers, policies, audit and operations only know the shape.

pub mod oidc;
pub mod providers;
pub mod vouched;

use std::sync::Arc;

use crate::authn::unproven::Unproven;
use crate::base::arn::{AccountId, IamArn, RoleArn};
use crate::base::clock::Timestamp;
use crate::base::names::{SourceIdentity, Tag};
use crate::directory::{Directory, OidcProvider};
use crate::error::Error;
use crate::proof::jwt::{Flat, Verified};
use crate::session::token;

/// Somebody whom a provider vouches for, by a token or an assertion that was verified.
pub struct FederatedIdentity {
    /// `arn:aws:iam::ACCOUNT:oidc-provider/HOST/PATH`
    pub provider_arn: Box<str>,
    /// The provider's account: it vouches for that account's roles only.
    pub account: AccountId,
    /// As the provider names itself: its URL.
    pub issuer: Box<str>,
    /// Whom it vouches for.
    pub subject: String,
    /// Whom the token was given to.
    pub audience: String,
    /// `ISSUER:AUDIENCE:SUBJECT`, as CloudTrail names it; calls are counted by it.
    pub principal_id: String,
    /// The condition keys that the token sets, under the provider's name, in the order in which they
    /// are set: of two with the same name the later one holds.
    pub keys: Vec<(String, Flat)>,
    /// What the token asks for the session.
    pub asked: Result<Asked, Error>,
    /// The roles, by ARN, that the token says it is good for; none: it does not say.
    pub roles: Result<Option<Vec<String>>, Error>,
    /// What marks the token as used, where it is good once.
    pub once: Option<Result<Once, Error>>,
    /// When its sessions end at the latest; none: the provider does not say.
    pub session_ends_by: Option<Timestamp>,
    /// What a session of it carries.
    pub remembered: Option<token::WebIdentity>,
    source: Source,
}

/// What a token asks for the session that is made of it.
#[derive(Debug, Default)]
pub struct Asked {
    /// Session tags.
    pub tags: Vec<Tag>,
    /// The keys of those that are inherited.
    pub transitive_tag_keys: Vec<String>,
    /// Who stands behind the session.
    pub source_identity: Option<SourceIdentity>,
}

/// What tells a token that is good once from all others.
#[derive(Debug)]
pub struct Once {
    /// The token's own id, unique among its issuer's.
    pub id: String,
    /// When it was issued.
    pub issued_at: Timestamp,
    /// From then on it is refused anyway.
    pub expires_at: Timestamp,
}

/// What was verified, by kind of provider: the only place that tells them apart.
enum Source {
    Oidc {
        provider: Arc<OidcProvider>,
        token: Verified,
    },
}

impl FederatedIdentity {
    /// What CloudTrail calls this kind of principal.
    pub fn user_type(&self) -> &'static str {
        match self.source {
            Source::Oidc { .. } => "WebIdentityUser",
        }
    }

    /// Whether the token names the role among those that it is good for; false: it names none at all.
    ///
    /// # Errors
    /// A token that names other roles only, or says so in a malformed way, is refused whatever the
    /// role's trust policy says. Service Authorization Reference for AWS STS,
    /// `sts:RoleAuthorizedByIdp`.
    pub fn authorizes(&self, role: &RoleArn) -> Result<bool, Error> {
        match &self.roles {
            Ok(None) => Ok(false),
            Ok(Some(roles)) if roles.iter().any(|arn| arn == role.as_str()) => Ok(true),
            Ok(Some(_)) => {
                let text =
                    "The target role ARN is not present in the roles claim of the identity token";
                Err(Error::InvalidIdentityToken(text.to_owned()))
            }
            Err(error) => Err(error.clone()),
        }
    }

    /// Whether the provider still vouches: the token is not over, and the provider, as the directory
    /// has it now, would take it.
    ///
    /// # Errors
    /// As when the token is shown now.
    pub fn still_good(&self, directory: &Directory, now: Timestamp) -> Result<(), Box<Unproven>> {
        match &self.source {
            Source::Oidc { provider, token } => oidc::still_good(provider, token, directory, now),
        }
    }
}

/// Whether the directory has the provider of an ARN; none: it is no provider's.
pub fn has_provider(directory: &Directory, arn: &str) -> Option<bool> {
    match IamArn::parse(arn)?.kind {
        "oidc-provider" => Some(directory.oidc_provider(arn).is_some()),
        _ => None,
    }
}
