//! The sessions that a request selects to revoke: checks the selection and converts it to the key
//! of a revocation mark.

use crate::base::arn::{AccountId, IamArn, RoleArn};
use crate::base::field::{self, FieldError};
use crate::base::names::{AccessKeyId, SourceIdentity};
use crate::error::Error;
use crate::federation;
use crate::proof::saml::MAX_NAME_ID;
use crate::revocations::{Selector, provider_subject};
use crate::sessions;

/// The request's selection of the sessions to revoke, before any check.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Asked {
    SessionId(String),
    AccessKeyId(String),
    PrincipalArn(String),
    RoleArn(String),
    SourceIdentity(String),
    VouchedFor {
        provider_arn: String,
        subject: Option<String>,
    },
    All(bool),
}

/// The key of a revocation mark without the account, which the caller determines.
pub(super) struct Selected {
    pub(super) selector: Selector,
    pub(super) value: String,
    /// The account in the ARN that the request names, which must be the caller's; `None` if the
    /// request names no ARN.
    pub(super) account: Option<String>,
}

impl Selected {
    /// Selects all sessions of the caller's account.
    pub(super) fn account() -> Self {
        Self {
            selector: Selector::Account,
            value: String::new(),
            account: None,
        }
    }
}

impl Asked {
    /// Checks the selection and converts it to the key of a mark.
    ///
    /// # Errors
    /// [`Error`] that names the field and the rule.
    pub(super) fn selected(self) -> Result<Selected, Error> {
        let mut account = None;
        let (selector, value) = match self {
            Self::SessionId(id) => {
                let rule = "must be 32 hexadecimal digits in lower case";
                sessions::session_id(&id).ok_or_else(|| FieldError::new("SessionId", rule))?;
                (Selector::Session, id)
            }
            Self::AccessKeyId(id) => (
                Selector::AccessKey,
                AccessKeyId::parse("AccessKeyId", &id)?.as_str().to_owned(),
            ),
            Self::PrincipalArn(arn) => {
                account = Some(principal_account(&arn)?);
                (Selector::Principal, arn)
            }
            Self::RoleArn(arn) => {
                account = Some(RoleArn::parse("RoleArn", &arn)?.account().to_string());
                (Selector::Role, arn)
            }
            Self::SourceIdentity(name) => (
                Selector::SourceIdentity,
                SourceIdentity::parse("SourceIdentity", &name)?
                    .as_str()
                    .to_owned(),
            ),
            Self::VouchedFor {
                provider_arn,
                subject,
            } => {
                account = Some(provider_account(&provider_arn)?);
                vouched_for(provider_arn, subject)?
            }
            Self::All(true) => (Selector::Account, String::new()),
            Self::All(false) => {
                return Err(FieldError::new("All", "must be true if it is given").into());
            }
        };
        Ok(Selected {
            selector,
            value,
            account,
        })
    }
}

/// Selects the sessions that were issued on the word of an identity provider: all of them, or those
/// of one subject.
fn vouched_for(provider_arn: String, subject: Option<String>) -> Result<(Selector, String), Error> {
    match subject {
        None => Ok((Selector::Principal, provider_arn)),
        Some(subject) => {
            field::length("Subject", &subject, 1, MAX_NAME_ID)?;
            if subject.chars().any(char::is_control) {
                return Err(
                    FieldError::new("Subject", "must not contain control characters").into(),
                );
            }
            let value = provider_subject(&provider_arn, &subject);
            Ok((Selector::ProviderSubject, value))
        }
    }
}

/// Returns the account in the ARN of an OpenID Connect or SAML provider.
///
/// # Errors
/// [`Error`] if the text is not such an ARN.
fn provider_account(arn: &str) -> Result<String, Error> {
    field::length("ProviderArn", arn, 20, 2048)?;
    let provider = federation::account_of(arn).filter(|_| !arn.contains(' '));
    let rule = "must be the ARN of an OpenID Connect provider (`arn:aws:iam::ACCOUNT:oidc-provider/HOST`) or of a SAML provider (`arn:aws:iam::ACCOUNT:saml-provider/NAME`)";
    provider
        .map(|account| account.to_string())
        .ok_or_else(|| FieldError::new("ProviderArn", rule).into())
}

/// Returns the account in the ARN of a user, a role session or a federated user.
///
/// # Errors
/// [`Error`] if the text is not such an ARN.
fn principal_account(arn: &str) -> Result<String, Error> {
    field::length("PrincipalArn", arn, 20, 2048)?;
    let user = IamArn::parse(arn)
        .filter(|a| a.kind == "user")
        .map(|a| a.account.to_string());
    let session = arn.strip_prefix("arn:aws:sts::").and_then(|rest| {
        let (account, session) = rest.split_once(':')?;
        let role_session = session
            .strip_prefix("assumed-role/")
            .and_then(|s| s.split_once('/'));
        let named = role_session.is_some_and(|(role, name)| !role.is_empty() && !name.is_empty())
            || session
                .strip_prefix("federated-user/")
                .is_some_and(|name| !name.is_empty());
        let whole = named && AccountId::parse(account).is_some();
        whole.then(|| account.to_owned())
    });
    let rule = "must be the ARN of a user, of a role session (`arn:aws:sts::ACCOUNT:assumed-role/ROLE/SESSION`) or of a federated user (`arn:aws:sts::ACCOUNT:federated-user/NAME`)";
    user.or(session)
        .ok_or_else(|| FieldError::new("PrincipalArn", rule).into())
}
