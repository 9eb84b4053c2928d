//! The principal that a service asks about, and its lookup in the directory.

use std::sync::Arc;

use crate::authn;
use crate::base::arn::IamArn;
use crate::base::field::{self, FieldError};
use crate::base::names::AccessKeyId;
use crate::base::secret::Secret;
use crate::caller::{Caller, Identity};
use crate::directory::{Role, User};
use crate::error::Error;
use crate::ops::context::Context;
use crate::ops::operation::View;
use crate::session::token;
use crate::trust::Judged;

/// The key under which decisions about nobody are counted: it is no unique id of a principal.
pub const NOBODY: &str = "";

/// A principal as a service names it in a call, before it is looked up.
pub enum Subject {
    /// The holder of a session, which presented its session token to the service.
    Session {
        access_key_id: AccessKeyId,
        session_token: Secret<String>,
    },
    /// The user to whom an active long-term access key belongs.
    AccessKey(AccessKeyId),
    /// A user or a role, by its ARN.
    Principal(String),
    /// A user of the caller's account, by its name.
    UserName(String),
    /// A role of the caller's account, by its name.
    RoleName(String),
}

impl Subject {
    /// Creates the subject of a session, after checking the form of its access key id and the
    /// length of its token.
    ///
    /// # Errors
    /// [`FieldError`] that names the field and the rule.
    pub fn session(access_key_id: &str, session_token: String) -> Result<Self, FieldError> {
        let session_token = Secret::new(session_token);
        field::length(
            "SessionToken",
            session_token.expose(),
            1,
            token::MAX_CHARACTERS,
        )?;
        Ok(Self::Session {
            access_key_id: AccessKeyId::parse("AccessKeyId", access_key_id)?,
            session_token,
        })
    }

    /// Creates the subject for the access key in a request to a service. The key of a session must come with the
    /// session token, and a long-term key without one.
    ///
    /// # Errors
    /// [`Unknown`] if the id of the key is malformed, or the token is missing, too long or superfluous.
    pub fn holder(access_key_id: &str, session_token: Option<String>) -> Result<Self, Unknown> {
        let id = AccessKeyId::parse("AccessKeyId", access_key_id);
        let id = id.map_err(|_| Unknown::NoSuchPrincipal)?;
        match (id.is_temporary(), session_token) {
            (false, None) => Ok(Self::AccessKey(id)),
            (true, Some(token)) => {
                Self::session(access_key_id, token).map_err(|_| Unknown::NoSuchSession)
            }
            _ => Err(Unknown::NoSuchSession),
        }
    }

    /// Creates the subject for an ARN, after checking that it is the ARN of a user or a role.
    ///
    /// # Errors
    /// [`FieldError`] that names the field and the rule.
    pub fn principal(arn: String) -> Result<Self, FieldError> {
        let known = IamArn::parse(&arn).is_some_and(|arn| ["user", "role"].contains(&arn.kind));
        if !known || arn.len() > 2_048 {
            let rule = "must be the ARN of a user or a role (`arn:aws:iam::ACCOUNT:user/NAME`) of at most 2048 bytes";
            return Err(FieldError::new("PrincipalArn", rule));
        }
        Ok(Self::Principal(arn))
    }

    /// The subject's name in the audit record: an access key id, an ARN or a name, and never a
    /// session token.
    pub fn audited(&self) -> &str {
        match self {
            Self::Session { access_key_id, .. } | Self::AccessKey(access_key_id) => {
                access_key_id.as_str()
            }
            Self::Principal(name) | Self::UserName(name) | Self::RoleName(name) => name,
        }
    }

    /// Finds the principal in the caller's account.
    ///
    /// # Errors
    /// The inner `Err` says why the subject is denied everything. The outer [`Error`] is returned
    /// if the directory is inconsistent.
    pub fn find(&self, cx: &Context<'_>) -> Result<Result<Judged, Unknown>, Error> {
        self.find_in(&View {
            broker: cx.broker,
            directory: &cx.directory,
            account: cx.caller().account(),
            now: cx.now,
        })
    }

    /// The key under which decisions about the principal are counted: that of its own calls. All that cannot be found
    /// have one key together, so that it is of no use to invent names.
    pub fn budget_key(&self, view: &View<'_>) -> String {
        match self.find_in(view) {
            Ok(Ok(Judged::Caller(caller))) => caller.budget_key().into_owned(),
            Ok(Ok(Judged::Role(role))) => role.id.to_string(),
            Ok(Err(_)) | Err(_) => NOBODY.to_owned(),
        }
    }

    fn find_in(&self, view: &View<'_>) -> Result<Result<Judged, Unknown>, Error> {
        let View {
            broker,
            directory,
            account,
            now,
        } = *view;
        let found = match self {
            Self::Session {
                access_key_id,
                session_token,
            } => {
                let session = broker.tokens.open(session_token.expose());
                let session = session
                    .ok()
                    .filter(|s| s.claims.access_key_id == access_key_id.as_str())
                    .filter(|s| s.account == account);
                let Some(session) = session else {
                    return Ok(Err(Unknown::NoSuchSession));
                };
                return match authn::of_session(broker, &session, directory, now) {
                    Ok(caller) => Ok(Ok(Judged::Caller(caller))),
                    Err(Error::ExpiredToken) => Ok(Err(Unknown::Expired)),
                    Err(Error::Ended) => Ok(Err(Unknown::Ended)),
                    Err(Error::InvalidClientTokenId) => Ok(Err(Unknown::NoSuchSession)),
                    Err(error) => Err(error),
                };
            }
            Self::AccessKey(id) => match directory.holder_of_key(id.as_str()) {
                Some(user) => Found::User(user.clone()),
                None => return Ok(Err(Unknown::NoSuchPrincipal)),
            },
            Self::Principal(arn) => match directory.user(arn) {
                Some(user) => Found::User(user.clone()),
                None => match directory.role(arn) {
                    Some(role) => Found::Role(role.clone()),
                    None => return Ok(Err(Unknown::NoSuchPrincipal)),
                },
            },
            Self::UserName(name) => match directory.user_named(account, name) {
                Some(user) if *user.name == **name => Found::User(user.clone()),
                _ => return Ok(Err(Unknown::NoSuchPrincipal)),
            },
            Self::RoleName(name) => match directory.role_named(account, name) {
                Some(role) if *role.name == **name => Found::Role(role.clone()),
                _ => return Ok(Err(Unknown::NoSuchPrincipal)),
            },
        };
        Ok(match found {
            Found::User(user) if user.account == account => Ok(Judged::Caller(Caller {
                effective: directory.effective_of_user(&user)?,
                identity: Identity::User(user),
                access_key_id: match self {
                    Self::AccessKey(id) => id.as_str().to_owned(),
                    _ => String::new(),
                },
                sign_in: None,
            })),
            Found::Role(role) if role.account == account => Ok(Judged::Role(role)),
            _ => Err(Unknown::NoSuchPrincipal),
        })
    }
}

enum Found {
    User(Arc<User>),
    Role(Arc<Role>),
}

/// The reasons for which a subject is denied everything, whatever the policies say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unknown {
    /// The account has no session with this access key and token, the token is missing or too long, or a long-term
    /// key came with a token.
    NoSuchSession,
    Expired,
    /// The session was revoked, a principal or key that it came from was deleted, replaced or disabled, or another
    /// store issued the session.
    Ended,
    /// The account has no such user or role, or no active long-term key with this id.
    NoSuchPrincipal,
}
