//! [`Caller`]: the authenticated caller of a request. It answers what policies, audit, budgets and
//! new sessions need to know about the caller; `authn` does the authentication.

use std::borrow::Cow;
use std::sync::Arc;

use crate::audit::{SessionAttributes, SessionContext, SessionIssuer, UserIdentity};
use crate::base::arn::{AccountId, IamArn};
use crate::base::clock::Timestamp;
use crate::base::names::Tag;
use crate::directory::{Effective, Role, User};
use crate::evaluator::{Policy, Principal};
use crate::federation::FederatedIdentity;
use crate::lineage;
use crate::session::token::{Ancestor, Holder};
use crate::signed_in::SignIn;
use crate::tokens::OpenedSession;

/// An authenticated caller, with what the directory says about it.
pub struct Caller {
    /// The kind of principal, with its entry in the directory.
    pub identity: Identity,
    /// The id of the access key that signed the request, or of the client certificate; empty if a token, an assertion
    /// or a sign-in authenticated the caller.
    pub access_key_id: String,
    /// The caller's policies and boundary, from the snapshot against which it was authenticated.
    pub effective: Effective,
    /// The sign-in that authenticated the caller, if one did.
    pub sign_in: Option<Arc<SignIn>>,
}

/// An authenticated principal, with its current entry in the directory and its session.
pub enum Identity {
    /// A user with a long-term access key, a client certificate or a sign-in.
    User(Arc<User>),
    /// A user with a session of its own, from GetSessionToken.
    UserSession {
        user: Arc<User>,
        /// The claims and limits of the session token that the caller sent.
        session: Arc<OpenedSession>,
    },
    /// A session of a role that still exists.
    RoleSession {
        role: Arc<Role>,
        /// The claims and limits of the session token that the caller sent.
        session: Arc<OpenedSession>,
    },
    /// A federated user, for whom a user called GetFederationToken.
    FederatedUser {
        /// The user who called GetFederationToken.
        user: Arc<User>,
        /// The claims and limits of the session token that the caller sent.
        session: Arc<OpenedSession>,
    },
    /// A caller for whom an external identity provider vouches, by a token, a SAML assertion or a sign-in.
    Federated(Arc<FederatedIdentity>),
}

impl Caller {
    /// The ARN of the user, session or identity provider.
    pub fn arn(&self) -> &str {
        match (&self.identity, self.session()) {
            (Identity::Federated(identity), _) => &identity.provider_arn,
            (_, Some(session)) => &session.arn,
            (_, None) => self.user().map_or("", |user| &user.arn),
        }
    }

    /// The ARN that identity policies and their owner use for the caller: the role's for a role session, otherwise the
    /// same as [`Self::arn`].
    pub fn own_arn(&self) -> &str {
        match &self.identity {
            Identity::RoleSession { role, .. } => &role.arn,
            _ => self.arn(),
        }
    }

    /// The caller's `UserId`: `AIDA…` for a user, `AROA…:SESSION` for a role session, `ACCOUNT:NAME` for a federated
    /// user.
    pub fn user_id(&self) -> &str {
        match (&self.identity, self.session()) {
            (Identity::Federated(identity), _) => &identity.principal_id,
            (_, Some(session)) => &session.user_id,
            (_, None) => self.user().map_or("", |user| &user.id),
        }
    }

    pub fn account(&self) -> AccountId {
        *self.account_ref()
    }

    /// The caller's account, borrowed for as long as the caller.
    pub fn account_ref(&self) -> &AccountId {
        match &self.identity {
            Identity::User(user) => &user.account,
            Identity::UserSession { session, .. }
            | Identity::RoleSession { session, .. }
            | Identity::FederatedUser { session, .. } => &session.account,
            Identity::Federated(identity) => &identity.account,
        }
    }

    /// The session, if the caller has temporary credentials.
    pub fn session(&self) -> Option<&OpenedSession> {
        self.shared_session().map(Arc::as_ref)
    }

    /// The session as a shared pointer, as the cache of opened tokens holds it.
    pub fn shared_session(&self) -> Option<&Arc<OpenedSession>> {
        match &self.identity {
            Identity::User(_) | Identity::Federated(_) => None,
            Identity::UserSession { session, .. }
            | Identity::RoleSession { session, .. }
            | Identity::FederatedUser { session, .. } => Some(session),
        }
    }

    /// The user, if the caller is one, whether it uses a long-term key or a session of its own.
    pub fn user(&self) -> Option<&Arc<User>> {
        match &self.identity {
            Identity::User(user) | Identity::UserSession { user, .. } => Some(user),
            Identity::RoleSession { .. }
            | Identity::FederatedUser { .. }
            | Identity::Federated(_) => None,
        }
    }

    /// The unique id of the user behind this caller: its own, or that of the user who assumed the first role of the
    /// chain; `None` if there is no user behind the caller. A rule that protects a user against a stolen key must use
    /// this, because the thief can make a role session with the key just as easily.
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

    /// The identity for which an external provider vouches, if the caller is one.
    pub fn federated(&self) -> Option<&Arc<FederatedIdentity>> {
        match &self.identity {
            Identity::Federated(identity) => Some(identity),
            _ => None,
        }
    }

    /// The key under which the call is counted: the unique id of the user or role, or the provider's id of a federated
    /// caller. Nodes of a Kubernetes cluster that share a role are counted separately, because the cluster's own token
    /// says which node it is: `AROA…/NODE`.
    pub fn budget_key(&self) -> Cow<'_, str> {
        let (id, holder) = match &self.identity {
            Identity::User(user)
            | Identity::UserSession { user, .. }
            | Identity::FederatedUser { user, .. } => (user.id.as_ref(), None),
            Identity::RoleSession { role, session } => {
                (role.id.as_ref(), session.claims.holder.as_ref())
            }
            Identity::Federated(identity) => {
                (identity.principal_id.as_str(), Some(&identity.remembered))
            }
        };
        match holder {
            Some(Holder::WebIdentity(holder)) if !holder.node.is_empty() => {
                format!("{id}/{}", holder.node).into()
            }
            _ => id.into(),
        }
    }

    /// How many seconds ago the caller gave an MFA code; `None` if it gave none. This applies only
    /// to a user's own session or sign-in, because a role session does not inherit it.
    pub fn mfa_age(&self, now: Timestamp) -> Option<i64> {
        let age = |at: i64| now.seconds().saturating_sub(at).max(0);
        match &self.identity {
            Identity::User(_) => {
                let at = self.sign_in.as_ref()?.mfa_at()?;
                Some(age(at.seconds()))
            }
            Identity::UserSession { session, .. } if session.claims.mfa_at > 0 => {
                Some(age(session.claims.mfa_at))
            }
            _ => None,
        }
    }

    /// The caller as the principal of an evaluator request.
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

    /// The identity policies of the user, with those of its groups, or of the role.
    pub fn policies(&self) -> &[Arc<Policy>] {
        &self.effective.identity
    }

    /// The permissions boundary of the user or role, if it has one.
    pub fn boundary(&self) -> Option<&Policy> {
        self.effective.boundary.as_deref()
    }

    /// The number of principals behind a session that this caller makes, including the caller.
    pub fn depth(&self) -> usize {
        self.session().map_or(0, |s| s.claims.ancestors.len()) + 1
    }

    /// The principals behind a session that this caller makes: the chain so far, then the caller.
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
            (Identity::User(user), None) if let Some(sign_in) = &self.sign_in => {
                vec![sign_in.ancestor(&user.arn)]
            }
            (Identity::User(user), None) => vec![Ancestor {
                arn: user.arn.to_string(),
                unique_id: user.id.to_string(),
                access_key_id: self.access_key_id.clone(),
                ..Ancestor::default()
            }],
            // The provider is included, because otherwise nothing would be behind the sessions that
            // it vouched for.
            (Identity::Federated(identity), _) if let Some(sign_in) = &self.sign_in => {
                vec![sign_in.ancestor(&identity.provider_arn)]
            }
            (Identity::Federated(identity), _) => {
                vec![Ancestor {
                    arn: identity.provider_arn.to_string(),
                    ..Ancestor::default()
                }]
            }
            _ => Vec::new(),
        }
    }

    /// The tags of the user or role in the directory, which an administrator chose. Session tags are not included,
    /// because the caller of AssumeRole chose them.
    pub fn own_tags(&self) -> &[Tag] {
        match &self.identity {
            Identity::User(user)
            | Identity::UserSession { user, .. }
            | Identity::FederatedUser { user, .. } => &user.tags,
            Identity::RoleSession { role, .. } => &role.tags,
            Identity::Federated(_) => &[],
        }
    }

    /// The keys and values of the caller's tags: those of the user or role, overridden by those of the
    /// session.
    pub fn tags(&self) -> impl Iterator<Item = (&str, &str)> {
        let session = self.session();
        let of_session = session.map_or(&[][..], |session| session.limits.tags.as_slice());
        let is_own = move |tag: &&Tag| {
            let mut others = of_session.iter();
            !others.any(|other| other.key.eq_ignore_ascii_case(&tag.key))
        };
        let own = self.own_tags().iter().filter(is_own);
        let own = own.map(|tag| (tag.key.as_str(), tag.value.as_str()));
        let of_session = of_session.iter();
        own.chain(of_session.map(|tag| (tag.key.as_str(), tag.value.as_str())))
    }

    /// Describes the caller for audit records.
    pub fn audited(&self) -> UserIdentity<'_> {
        let (r#type, user_name, issuer) = match &self.identity {
            Identity::User(user) | Identity::UserSession { user, .. } => {
                ("IAMUser", Some(&*user.name), None)
            }
            Identity::RoleSession { role, .. } => (
                "AssumedRole",
                None,
                Some(("Role", &*role.id, &*role.arn, &role.account, &*role.name)),
            ),
            Identity::FederatedUser { user, .. } => (
                "FederatedUser",
                None,
                Some(("IAMUser", &*user.id, &*user.arn, &user.account, &*user.name)),
            ),
            Identity::Federated(identity) => {
                (identity.user_type(), Some(identity.subject.as_str()), None)
            }
        };
        UserIdentity {
            r#type: r#type.into(),
            principal_id: Some(self.user_id().into()),
            arn: Some(self.arn().into()),
            account_id: Some(self.account_ref().as_str().into()),
            access_key_id: Some(self.access_key_id.as_str())
                .filter(|id| !id.is_empty())
                .map(Cow::from),
            identity_provider: self
                .federated()
                .map(|identity| identity.audited_provider().into()),
            user_name: user_name.map(Cow::from),
            session_context: self.session_context(issuer),
        }
    }

    /// Describes the session of the caller for audit records. A user's sign-in counts as a session, too. `None` if the
    /// caller has neither.
    fn session_context<'c>(
        &'c self,
        issuer: Option<AuditedIssuer<'c>>,
    ) -> Option<SessionContext<'c>> {
        let given = |mfa| if mfa { "true" } else { "false" };
        match (self.session(), &self.sign_in) {
            (Some(session), _) => Some(SessionContext {
                session_issuer: issuer.map(|(r#type, id, arn, account, name)| SessionIssuer {
                    r#type,
                    principal_id: id.into(),
                    arn: arn.into(),
                    account_id: account.as_str().into(),
                    user_name: name.into(),
                }),
                attributes: SessionAttributes {
                    creation_date: Timestamp::from_seconds(session.claims.issued_at),
                    mfa_authenticated: given(self.mfa_age(Timestamp::from_seconds(0)).is_some()),
                },
                source_identity: Some(session.claims.source_identity.as_str())
                    .filter(|s| !s.is_empty())
                    .map(Cow::from),
            }),
            (None, Some(sign_in)) if self.user().is_some() => Some(SessionContext {
                session_issuer: None,
                attributes: SessionAttributes {
                    creation_date: sign_in.at,
                    mfa_authenticated: given(sign_in.mfa_at().is_some()),
                },
                source_identity: None,
            }),
            (None, _) => None,
        }
    }
}

/// The kind, unique id, ARN, account and name of the principal that issued a session.
type AuditedIssuer<'a> = (&'static str, &'a str, &'a str, &'a AccountId, &'a str);
