//! The identity for which an external identity provider vouches, in one form for all kinds of
//! providers. The reader of each kind of token fills it in; callers, policies, audit and operations
//! know only this form.

pub mod kept;
pub mod kubernetes;
pub mod oidc;
pub mod providers;
pub mod saml;
pub mod vouched;

use std::sync::Arc;
use std::time::Duration;

use crate::base::arn::{AccountId, RoleArn, account_of_provider};
use crate::base::clock::Timestamp;
use crate::base::digest::sha256;
use crate::base::names::{SourceIdentity, Tag};
use crate::directory::{Directory, OidcProvider};
use crate::error::Error;
use crate::proof::jwt::{Flat, Verified};
use crate::proof::saml::{AuthnStatement, AwsClaims};
use crate::session::token;
use crate::unproven::Unproven;
use kept::OfSignIn;
use kubernetes::ServiceAccount;

/// An identity for which a provider vouches, by a token or assertion that was verified.
pub struct FederatedIdentity {
    /// The provider's ARN, `arn:aws:iam::ACCOUNT:oidc-provider/HOST/PATH` or
    /// `arn:aws:iam::ACCOUNT:saml-provider/NAME`.
    pub provider_arn: Box<str>,
    /// The provider's account. The provider vouches only for the roles of this account.
    pub account: AccountId,
    /// The provider's URL or entity ID, by which its tokens or assertions name it.
    pub issuer: Box<str>,
    /// The user or workload for which the provider vouches, as the provider names it.
    pub subject: String,
    /// The client to which the token was issued, or the URL to which the assertion was sent.
    pub audience: String,
    /// `ISSUER:AUDIENCE:SUBJECT` or `NAME_QUALIFIER:SUBJECT`, as in CloudTrail. Calls are counted under
    /// this id.
    pub principal_id: String,
    /// The condition keys from the token or assertion, in the order in which they are set: of two with
    /// the same name, the later one applies.
    pub keys: Vec<(String, Flat)>,
    /// The tags and the source identity that the token or assertion sets for the session; an error if they are
    /// malformed.
    pub asked: Result<Asked, Error>,
    /// The ARNs of the roles for which the token is valid, or `None` if it does not say.
    pub roles: Result<Option<Vec<String>>, Error>,
    /// The record of the use of the token or assertion, if it is valid only once.
    pub once: Option<Result<Once, Error>>,
    /// The maximum duration of sessions, which is also the default; `None` if the provider sets none.
    pub session_duration: Option<Duration>,
    /// When sessions must end at the latest; `None` if the provider does not say.
    pub session_ends_by: Option<Timestamp>,
    /// The claims of the token or assertion that the session token carries.
    pub remembered: token::Holder,
    source: Source,
}

/// What a token or assertion requests for the session that is made from it.
#[derive(Debug, Default)]
pub struct Asked {
    /// Session tags, which the role's trust policy must allow with `sts:TagSession`.
    pub tags: Vec<Tag>,
    /// The keys of the tags that sessions assumed from this one inherit.
    pub transitive_tag_keys: Vec<String>,
    /// The source identity, which the role's trust policy must allow with `sts:SetSourceIdentity`.
    pub source_identity: Option<SourceIdentity>,
}

/// The identification of a token or assertion that is accepted only once.
#[derive(Debug)]
pub struct Once {
    /// The issuer of the token or assertion. Two issuers may use the same id.
    pub issuer: Box<str>,
    pub id: String,
    /// The token's `iat`, which dates its use in the store.
    pub issued_at: Timestamp,
    /// How far `issued_at` may be ahead of this broker's clock.
    pub ahead: Duration,
    /// When the token or assertion expires. After that, its use need not be remembered.
    pub expires_at: Timestamp,
}

/// The verified proof, by kind of provider. Only this type distinguishes the kinds.
enum Source {
    Oidc {
        provider: Arc<OidcProvider>,
        token: Verified,
    },
    Saml(Box<saml::Shown>),
    /// The claims that were kept when the person signed in with a token or an assertion.
    SignIn(Box<OfSignIn>),
}

/// The parts of a verified assertion that AssumeRoleWithSAML needs in addition to the identity.
pub struct Assertion<'a> {
    pub id: &'a str,
    /// The format of the NameID, such as `persistent` or `transient`.
    pub subject_type: &'a str,
    /// The NameQualifier as AWS computes it.
    pub name_qualifier: &'a str,
    /// The attributes that AWS defines.
    pub claims: &'a AwsClaims,
}

impl FederatedIdentity {
    /// CloudTrail's name for this kind of principal.
    pub fn user_type(&self) -> &'static str {
        if self.is_saml() {
            "SAMLUser"
        } else {
            "WebIdentityUser"
        }
    }

    fn is_saml(&self) -> bool {
        match &self.source {
            Source::Oidc { .. } => false,
            Source::Saml(_) => true,
            Source::SignIn(kept) => kept.is_saml(),
        }
    }

    /// CloudTrail's name for the provider: the ARN of an OpenID Connect provider, or the NameQualifier of an
    /// assertion.
    pub fn audited_provider(&self) -> &str {
        self.assertion()
            .map_or(&*self.provider_arn, |assertion| assertion.name_qualifier)
    }

    /// The word for the proof in messages: `token` or `assertion`.
    pub fn proof_name(&self) -> &'static str {
        if self.is_saml() { "assertion" } else { "token" }
    }

    /// A digest that identifies the assertion. `None` if the proof is not an assertion that was shown for this call.
    pub fn digest(&self) -> Option<[u8; 16]> {
        match (&self.source, &self.once) {
            (Source::Saml(_), Some(Ok(once))) => sha256(once.id.as_bytes()).first_chunk().copied(),
            _ => None,
        }
    }

    /// The assertion that proves the identity, now or at an earlier sign-in. `None` if a token proves it.
    pub fn assertion(&self) -> Option<Assertion<'_>> {
        match &self.source {
            Source::Oidc { .. } => None,
            Source::Saml(shown) => Some(Assertion {
                id: shown.id(),
                subject_type: shown.subject_type(),
                name_qualifier: shown.name_qualifier(),
                claims: shown.claims(),
            }),
            Source::SignIn(kept) => kept.assertion(),
        }
    }

    /// The verified claims of the token that proves the identity. `None` if an assertion or an earlier sign-in proves
    /// it.
    pub fn id_token(&self) -> Option<&Verified> {
        match &self.source {
            Source::Oidc { token, .. } => Some(token),
            Source::Saml(_) | Source::SignIn(_) => None,
        }
    }

    /// How and when an identity provider authenticated the user, as the assertion states. `None` if the proof is a
    /// token, or the claims of an earlier sign-in.
    pub fn authentication(&self) -> Option<&AuthnStatement> {
        match &self.source {
            Source::Oidc { .. } | Source::SignIn(_) => None,
            Source::Saml(shown) => shown.authentication(),
        }
    }

    /// Whether the trust policies alone determine which roles the person may have. This is so for a person
    /// who signed in with an assertion that names no roles. An assertion that is shown to AssumeRoleWithSAML
    /// must name the role.
    pub fn needs_no_role_pair(&self) -> bool {
        match &self.source {
            Source::Oidc { .. } | Source::Saml(_) => false,
            Source::SignIn(kept) => kept.trust_decides(),
        }
    }

    /// The claims of a Kubernetes service account's token about its pod; `None` for other proofs.
    pub fn service_account(&self) -> Option<ServiceAccount> {
        match &self.source {
            Source::Oidc { token, .. } => kubernetes::service_account(token),
            Source::Saml(_) | Source::SignIn(_) => None,
        }
    }

    /// Whether the token names the role among those for which it is valid; `false` if it names no
    /// roles.
    ///
    /// # Errors
    /// `InvalidIdentityToken` if the token names only other roles or its claim is malformed; the token is
    /// then refused, whatever the role's trust policy says. Service Authorization Reference for AWS STS,
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

    /// Checks that the provider still vouches: the token or assertion has not expired, and the
    /// provider's current entry in the directory accepts it.
    ///
    /// # Errors
    /// The error with which the token or assertion would be refused if a caller showed it now.
    pub fn still_good(&self, directory: &Directory, now: Timestamp) -> Result<(), Box<Unproven>> {
        match &self.source {
            Source::Oidc { provider, token } => oidc::still_good(provider, token, directory, now),
            Source::Saml(shown) => shown.still_good(directory, now),
            Source::SignIn(kept) => kept.still_good(self.account, directory, now),
        }
    }
}

/// Whether the directory contains the provider with this ARN; `None` if the ARN is not a
/// provider's.
pub fn has_provider(directory: &Directory, arn: &str) -> Option<bool> {
    if account_of_provider(arn, "oidc-provider").is_some() {
        return Some(directory.oidc_provider(arn).is_some());
    }
    account_of_provider(arn, "saml-provider").map(|_| directory.saml_provider(arn).is_some())
}

/// The account in the ARN of a provider of either kind. `None` if the text is not such an ARN.
pub fn account_of(arn: &str) -> Option<AccountId> {
    account_of_provider(arn, "oidc-provider").or_else(|| account_of_provider(arn, "saml-provider"))
}
