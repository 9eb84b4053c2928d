//! The claims of a provider about a person who signed in, kept for as long as the sign-in lasts. Whenever the person
//! chooses a role, Brevet makes the identity from these claims again, and checks it against the current directory.

use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::oidc::not_vouched;
use super::{Asked, Assertion, FederatedIdentity, Source, has_provider};
use crate::base::arn::AccountId;
use crate::base::clock::Timestamp;
use crate::base::names::{RoleSessionName, SourceIdentity, Tag};
use crate::directory::Directory;
use crate::error::Error;
use crate::proof::jwt::Flat;
use crate::proof::saml::{AwsClaims, RolePair};
use crate::session::token;
use crate::unproven::{Reason, Unproven};

/// The maximum length in characters of a name that is shown to people.
const MAX_SHOWN: usize = 128;

/// The claims of a provider about a person, which were verified when the person signed in.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Kept {
    /// The ARN of the provider at which the person signed in.
    pub provider_arn: String,
    /// The account that declares the provider at which the person signed in.
    pub account: AccountId,
    /// The provider's URL or entity ID.
    pub issuer: String,
    /// The person's id at the provider: the claim `sub`, or the NameID.
    pub subject: String,
    /// The client to which the token was issued, or the URL to which the assertion was sent.
    pub audience: String,
    /// The id under which CloudTrail knows the person: [`FederatedIdentity::principal_id`].
    pub principal_id: String,
    keys: Vec<(String, Flat)>,
    tags: Vec<Tag>,
    transitive_tag_keys: Vec<String>,
    source_identity: Option<String>,
    roles: Option<Vec<String>>,
    session_seconds: Option<u64>,
    /// When the sign-in and its role sessions must end at the latest; `None` if the provider does not say.
    pub session_ends_by: Option<Timestamp>,
    remembered: token::Holder,
    assertion: Option<KeptAssertion>,
}

/// The part of an assertion that AssumeRoleWithSAML needs in addition to the identity.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct KeptAssertion {
    id: String,
    subject_type: String,
    name_qualifier: String,
    pairs: Vec<RolePair>,
    /// Whether the trust policies alone determine which roles the person may have. The configuration can allow
    /// this for assertions without the attribute `Role`.
    trust_decides: bool,
}

/// An identity that was made from the claims of a sign-in. It also holds these claims.
pub(super) struct OfSignIn {
    kept: Arc<Kept>,
    provider_arn: Box<str>,
    claims: Option<AwsClaims>,
}

impl Kept {
    /// Takes the claims to keep from a verified identity.
    ///
    /// # Errors
    /// The error of a claim about tags, the source identity or roles that is malformed.
    pub fn of(identity: &FederatedIdentity) -> Result<Self, Error> {
        let asked = identity.asked.as_ref().map_err(Error::clone)?;
        let assertion = identity.assertion().map(|assertion| KeptAssertion {
            id: assertion.id.to_owned(),
            subject_type: assertion.subject_type.to_owned(),
            name_qualifier: assertion.name_qualifier.to_owned(),
            pairs: assertion.claims.roles.clone(),
            trust_decides: false,
        });
        Ok(Self {
            provider_arn: identity.provider_arn.to_string(),
            account: identity.account,
            issuer: identity.issuer.to_string(),
            subject: identity.subject.clone(),
            audience: identity.audience.clone(),
            principal_id: identity.principal_id.clone(),
            keys: identity.keys.clone(),
            tags: asked.tags.clone(),
            transitive_tag_keys: asked.transitive_tag_keys.clone(),
            source_identity: asked
                .source_identity
                .as_ref()
                .map(|source| source.as_str().to_owned()),
            roles: identity.roles.clone()?,
            session_seconds: identity.session_duration.map(|span| span.as_secs()),
            session_ends_by: identity.session_ends_by,
            remembered: identity.remembered.clone(),
            assertion,
        })
    }

    /// Lets the trust policies alone determine which roles the person may have. Callers must do this only for an
    /// assertion without the attribute `Role`, and only if the configuration allows it for the provider.
    #[must_use]
    pub fn by_trust_policies(mut self) -> Self {
        if let Some(assertion) = &mut self.assertion {
            assertion.trust_decides = true;
        }
        self
    }

    /// Whether the provider is a SAML provider; otherwise it is an OpenID Connect provider.
    pub fn is_saml(&self) -> bool {
        self.assertion.is_some()
    }

    /// The name of the person for display: the claim `preferred_username` or `email`, or else `sub`; for SAML the
    /// NameID.
    pub fn name(&self) -> &str {
        let claimed = |claim: &str| {
            let (_, rest) = self.issuer.split_once("://")?;
            let named = |key: &str| {
                key.strip_prefix(rest)
                    .and_then(|key| key.strip_prefix(':'))
                    .is_some_and(|key| key.eq_ignore_ascii_case(claim))
            };
            let found = self.keys.iter().find(|(key, _)| named(key));
            found.and_then(|(_, value)| match value {
                Flat::One(text) if !text.trim().is_empty() => Some(text.as_str()),
                _ => None,
            })
        };
        let claims = ["preferred_username", "email"];
        let claimed = claims
            .into_iter()
            .filter(|_| !self.is_saml())
            .find_map(claimed);
        claimed.unwrap_or(&self.subject)
    }

    /// The name that [`Self::name`] returns, cut to 128 characters.
    pub fn shown_name(&self) -> String {
        self.name().chars().take(MAX_SHOWN).collect()
    }

    /// Makes the identity for the roles of an account, if a provider in the directory vouches for it now. An OpenID
    /// Connect provider vouches in every account that declares a provider with the same URL and with the client to
    /// which the token was issued, because these accounts would accept the token itself. A SAML provider vouches in its
    /// own account only.
    ///
    /// # Errors
    /// [`Unproven`] if no provider of the account vouches any more, or the session at the identity provider has ended.
    pub fn identity(
        self: &Arc<Self>,
        account: AccountId,
        session_name: &RoleSessionName,
        directory: &Directory,
        now: Timestamp,
    ) -> Result<FederatedIdentity, Box<Unproven>> {
        let provider_arn = self.vouching_in(account, directory)?;
        self.has_not_ended(now)?;
        let source_identity = self
            .source_identity
            .as_ref()
            .and_then(|text| SourceIdentity::parse("SourceIdentity", text).ok());
        let claims = self.assertion.as_ref().map(|assertion| AwsClaims {
            role_session_name: session_name.clone(),
            session_duration: self.session_seconds.map(Duration::from_secs),
            tags: self.tags.clone(),
            transitive_tag_keys: self.transitive_tag_keys.clone(),
            source_identity: source_identity.clone(),
            has_roles: !assertion.trust_decides,
            roles: assertion.pairs.clone(),
        });
        Ok(FederatedIdentity {
            provider_arn: provider_arn.clone(),
            account,
            issuer: self.issuer.as_str().into(),
            subject: self.subject.clone(),
            audience: self.audience.clone(),
            principal_id: self.principal_id.clone(),
            keys: self.keys.clone(),
            asked: Ok(Asked {
                tags: self.tags.clone(),
                transitive_tag_keys: self.transitive_tag_keys.clone(),
                source_identity,
            }),
            roles: Ok(self.roles.clone()),
            // It was spent when the person signed in.
            once: None,
            session_duration: self.session_seconds.map(Duration::from_secs),
            session_ends_by: self.session_ends_by,
            remembered: self.remembered.clone(),
            source: Source::SignIn(Box::new(OfSignIn {
                kept: self.clone(),
                provider_arn,
                claims,
            })),
        })
    }

    /// Lists the accounts in which there may be roles for the person: for SAML the provider's own account, otherwise
    /// also each account that declares a provider with the same URL. Whether a provider vouches there is decided by
    /// [`Self::vouching_in`].
    pub fn accounts(&self, directory: &Directory) -> Vec<AccountId> {
        if self.is_saml() {
            return vec![self.account];
        }
        let same = directory
            .oidc_providers()
            .filter(|provider| *provider.url == *self.issuer);
        let mut accounts: Vec<_> = same.map(|provider| provider.account).collect();
        accounts.push(self.account);
        accounts.sort_unstable();
        accounts.dedup();
        accounts
    }

    /// Whether the provider at which the person signed in still vouches for the person.
    pub fn is_vouched_for(&self, directory: &Directory) -> bool {
        self.vouching_in(self.account, directory).is_ok()
    }

    /// Finds the provider of an account that vouches for the person, and returns its ARN.
    ///
    /// # Errors
    /// [`Unproven`] if the account has no such provider, or the provider no longer has the issuer or the client of the
    /// sign-in.
    pub fn vouching_in(
        &self,
        account: AccountId,
        directory: &Directory,
    ) -> Result<Box<str>, Box<Unproven>> {
        if self.is_saml() {
            let provider = directory
                .saml_provider(&self.provider_arn)
                .filter(|provider| provider.account == account)
                .ok_or_else(|| not_vouched(Reason::UnknownSamlProvider))?;
            let metadata = provider.metadata.as_ref().ok();
            return match metadata.filter(|metadata| metadata.entity_id() == self.issuer) {
                Some(_) => Ok(provider.arn.clone()),
                None => Err(not_vouched(Reason::SamlMetadata)),
            };
        }
        let (_, name) = self
            .provider_arn
            .split_once(":oidc-provider/")
            .unwrap_or_default();
        let provider = directory
            .oidc_provider(&format!("arn:aws:iam::{account}:oidc-provider/{name}"))
            .filter(|provider| *provider.url == *self.issuer)
            .ok_or_else(|| not_vouched(Reason::UnknownIssuer))?;
        if provider.client_ids.contains(&self.audience) {
            Ok(provider.arn.clone())
        } else {
            Err(not_vouched(Reason::Audience))
        }
    }

    fn has_not_ended(&self, now: Timestamp) -> Result<(), Box<Unproven>> {
        match self.session_ends_by {
            Some(end) if now >= end => Err(Unproven::because(
                Error::ExpiredWebIdentityToken(
                    "The user's session at the identity provider has ended".to_owned(),
                ),
                Reason::Expired,
            )),
            _ => Ok(()),
        }
    }
}

impl OfSignIn {
    pub(super) fn trust_decides(&self) -> bool {
        let assertion = self.kept.assertion.as_ref();
        assertion.is_some_and(|assertion| assertion.trust_decides)
    }

    pub(super) fn is_saml(&self) -> bool {
        self.kept.is_saml()
    }

    pub(super) fn assertion(&self) -> Option<Assertion<'_>> {
        let (kept, claims) = (self.kept.assertion.as_ref()?, self.claims.as_ref()?);
        Some(Assertion {
            id: &kept.id,
            subject_type: &kept.subject_type,
            name_qualifier: &kept.name_qualifier,
            claims,
        })
    }

    pub(super) fn still_good(
        &self,
        account: AccountId,
        directory: &Directory,
        now: Timestamp,
    ) -> Result<(), Box<Unproven>> {
        // The one at which the person signed in must be there, too.
        if has_provider(directory, &self.kept.provider_arn) != Some(true) {
            return Err(not_vouched(Reason::UnknownIssuer));
        }
        let vouching = self.kept.vouching_in(account, directory)?;
        if vouching != self.provider_arn {
            return Err(not_vouched(Reason::UnknownIssuer));
        }
        self.kept.has_not_ended(now)
    }
}
