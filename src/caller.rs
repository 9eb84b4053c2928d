//! [`Caller`]: who calls, once that is proven. It answers what policies, audit, budgets and a new
//! session ask of whoever calls; how it was proven is `authn`'s.

use std::sync::Arc;

use crate::audit::{SessionAttributes, SessionContext, SessionIssuer, UserIdentity};
use crate::base::arn::{AccountId, IamArn};
use crate::base::clock::Timestamp;
use crate::base::names::Tag;
use crate::directory::{Effective, Role, User};
use crate::evaluator::{Policy, Principal};
use crate::federation::FederatedIdentity;
use crate::lineage;
use crate::session::token::Ancestor;
use crate::tokens::OpenedSession;

/// Who calls: proven, and still in the directory.
pub struct Caller {
    /// What kind of principal.
    pub identity: Identity,
    /// The key that signed.
    pub access_key_id: String,
    /// What it may do and what limits it, in the snapshot that it was proven by.
    pub effective: Effective,
}

/// A proven principal.
pub enum Identity {
    /// A user, by a long-term key.
    User(Arc<User>),
    /// A user, by a session of its own.
    UserSession {
        /// The user as the directory has it now.
        user: Arc<User>,
        /// The session.
        session: Arc<OpenedSession>,
    },
    /// A session of a role that still exists.
    RoleSession {
        /// The role as the directory has it now.
        role: Arc<Role>,
        /// The session.
        session: Arc<OpenedSession>,
    },
    /// Somebody whom a user vouches for.
    FederatedUser {
        /// The user as the directory has it now.
        user: Arc<User>,
        /// The session.
        session: Arc<OpenedSession>,
    },
    /// Whoever a provider outside vouches for.
    Federated(Arc<FederatedIdentity>),
}

impl Caller {
    /// The principal's own ARN: the user's, or the session's.
    pub fn arn(&self) -> &str {
        match (&self.identity, self.session()) {
            (Identity::Federated(identity), _) => &identity.provider_arn,
            (_, Some(session)) => &session.arn,
            (_, None) => self.user().map_or("", |user| &user.arn),
        }
    }

    /// `AIDA…`, `AROA…:SESSION` or `ACCOUNT:NAME`.
    pub fn user_id(&self) -> &str {
        match (&self.identity, self.session()) {
            (Identity::Federated(identity), _) => &identity.principal_id,
            (_, Some(session)) => &session.user_id,
            (_, None) => self.user().map_or("", |user| &user.id),
        }
    }

    /// The principal's account.
    pub fn account(&self) -> AccountId {
        match &self.identity {
            Identity::User(user) => user.account,
            Identity::UserSession { session, .. }
            | Identity::RoleSession { session, .. }
            | Identity::FederatedUser { session, .. } => session.account,
            Identity::Federated(identity) => identity.account,
        }
    }

    /// The session, if the caller holds temporary credentials.
    pub fn session(&self) -> Option<&OpenedSession> {
        match &self.identity {
            Identity::User(_) | Identity::Federated(_) => None,
            Identity::UserSession { session, .. }
            | Identity::RoleSession { session, .. }
            | Identity::FederatedUser { session, .. } => Some(session),
        }
    }

    /// The user that the caller is, by whichever of its own credentials.
    pub fn user(&self) -> Option<&Arc<User>> {
        match &self.identity {
            Identity::User(user) | Identity::UserSession { user, .. } => Some(user),
            Identity::RoleSession { .. }
            | Identity::FederatedUser { .. }
            | Identity::Federated(_) => None,
        }
    }

    /// The unique id of the user whose key or session this caller goes back to: its own, or that of
    /// whoever assumed the first role of the chain. A rule that protects a user from whoever has found a
    /// key of it asks for this, since a role's session is made with the key as easily.
    pub fn user_behind(&self) -> Option<&str> {
        match &self.identity {
            Identity::User(user)
            | Identity::UserSession { user, .. }
            | Identity::FederatedUser { user, .. } => Some(&user.id),
            Identity::RoleSession { session, .. } => {
                let is_user =
                    |a: &&Ancestor| IamArn::parse(&a.arn).is_some_and(|arn| arn.kind == "user");
                session
                    .claims
                    .ancestors
                    .iter()
                    .find(is_user)
                    .map(|user| user.unique_id.as_str())
            }
            Identity::Federated(_) => None,
        }
    }

    /// Whom a provider outside vouches for.
    pub fn federated(&self) -> Option<&Arc<FederatedIdentity>> {
        match &self.identity {
            Identity::Federated(identity) => Some(identity),
            _ => None,
        }
    }

    /// Whose budget a call is counted in: the user's or the role's unique id.
    pub fn budget_key(&self) -> &str {
        match &self.identity {
            Identity::User(user)
            | Identity::UserSession { user, .. }
            | Identity::FederatedUser { user, .. } => &user.id,
            Identity::RoleSession { role, .. } => &role.id,
            Identity::Federated(identity) => &identity.principal_id,
        }
    }

    /// How long ago the session's holder gave an MFA code, in seconds; none: no code was given.
    /// It counts for a user's own session alone: a role's session does not inherit it.
    pub fn mfa_age(&self, now: Timestamp) -> Option<i64> {
        match &self.identity {
            Identity::UserSession { session, .. } if session.claims.mfa_at > 0 => {
                Some(now.seconds().saturating_sub(session.claims.mfa_at).max(0))
            }
            _ => None,
        }
    }

    /// As policies name it.
    pub fn principal(&self) -> Principal<'_> {
        match &self.identity {
            Identity::User(user) | Identity::UserSession { user, .. } => Principal::User {
                account: user.account.as_str(),
                arn: &user.arn,
                id: Some(&user.id),
            },
            Identity::RoleSession { role, session } => Principal::RoleSession {
                account: role.account.as_str(),
                role: &role.name,
                role_arn: Some(&role.arn),
                arn: &session.arn,
                id: Some(&role.id),
            },
            Identity::FederatedUser { user, session } => Principal::FederatedUser {
                account: user.account.as_str(),
                arn: &session.arn,
            },
            Identity::Federated(identity) => Principal::Federated(&identity.provider_arn),
        }
    }

    /// Its identity policies.
    pub fn policies(&self) -> &[Arc<Policy>] {
        &self.effective.identity
    }

    /// Its permissions boundary.
    pub fn boundary(&self) -> Option<&Policy> {
        self.effective.boundary.as_deref()
    }

    /// How many principals a session that this caller makes comes from.
    pub fn depth(&self) -> usize {
        self.session().map_or(0, |s| s.claims.ancestors.len()) + 1
    }

    /// Whom a session that this caller makes comes from: the chain so far, and the caller.
    pub fn lineage(&self) -> Vec<Ancestor> {
        match (&self.identity, self.session()) {
            (_, Some(session)) => {
                let own = lineage::own(&session.claims, session.is_restricted());
                lineage::ancestors(&session.claims)
                    .iter()
                    .cloned()
                    .chain([own])
                    .collect()
            }
            (Identity::User(user), None) => vec![Ancestor {
                arn: user.arn.to_string(),
                unique_id: user.id.to_string(),
                access_key_id: self.access_key_id.clone(),
                ..Ancestor::default()
            }],
            // The provider: without it the sessions that it vouched for have nothing behind them.
            (Identity::Federated(identity), _) => {
                vec![Ancestor {
                    arn: identity.provider_arn.to_string(),
                    ..Ancestor::default()
                }]
            }
            _ => Vec::new(),
        }
    }

    /// Its tags: the user's or the role's under the session's, which override them.
    pub fn tags(&self) -> Vec<Tag> {
        let own = match &self.identity {
            Identity::User(user)
            | Identity::UserSession { user, .. }
            | Identity::FederatedUser { user, .. } => &user.tags,
            Identity::RoleSession { role, .. } => &role.tags,
            Identity::Federated(_) => return Vec::new(),
        };
        let Some(session) = self.session() else {
            return own.to_vec();
        };
        let tags = &session.limits.tags;
        let overridden = |t: &&Tag| !tags.iter().any(|s| s.key.eq_ignore_ascii_case(&t.key));
        let of_session = tags.iter().map(|s| Tag {
            key: s.key.clone(),
            value: s.value.clone(),
        });
        own.iter()
            .filter(overridden)
            .cloned()
            .chain(of_session)
            .collect()
    }

    /// As the audit names it.
    pub fn audited(&self) -> UserIdentity {
        let (r#type, user_name, issuer) = match &self.identity {
            Identity::User(user) | Identity::UserSession { user, .. } => {
                ("IAMUser", Some(user.name.to_string()), None)
            }
            Identity::RoleSession { role, .. } => (
                "AssumedRole",
                None,
                Some(("Role", &role.id, &*role.arn, role.account, &role.name)),
            ),
            Identity::FederatedUser { user, .. } => (
                "FederatedUser",
                None,
                Some(("IAMUser", &user.id, &*user.arn, user.account, &user.name)),
            ),
            Identity::Federated(identity) => {
                (identity.user_type(), Some(identity.subject.clone()), None)
            }
        };
        UserIdentity {
            r#type: r#type.into(),
            principal_id: Some(self.user_id().to_owned()),
            arn: Some(self.arn().to_owned()),
            account_id: Some(self.account().to_string()),
            access_key_id: Some(self.access_key_id.clone()).filter(|id| !id.is_empty()),
            identity_provider: self
                .federated()
                .map(|identity| identity.provider_arn.to_string()),
            user_name,
            session_context: self.session().map(|session| SessionContext {
                session_issuer: issuer.map(|(r#type, id, arn, account, name)| SessionIssuer {
                    r#type,
                    principal_id: id.to_string(),
                    arn: arn.to_owned(),
                    account_id: account.to_string(),
                    user_name: name.to_string(),
                }),
                attributes: SessionAttributes {
                    creation_date: Timestamp::from_seconds(session.claims.issued_at).to_string(),
                    mfa_authenticated: if self.mfa_age(Timestamp::from_seconds(0)).is_some() {
                        "true"
                    } else {
                        "false"
                    },
                },
                source_identity: Some(session.claims.source_identity.clone())
                    .filter(|s| !s.is_empty()),
            }),
        }
    }
}
