//! [`Operation`]: what the door has to know of an action before it runs it.

use std::future::Future;

use serde_json::value::RawValue;

use super::context::Context;
use super::service::Service;
use crate::authn::Proof;
use crate::budgets::CountedAs;
use crate::caller::{Caller, Identity};
use crate::error::Error;

/// One action of the API. Its `run` is the story.
pub trait Operation: Sized + Send + 'static {
    /// As AWS names it.
    const NAME: &'static str;
    /// Whose action it is.
    const SERVICE: Service = Service::Sts;
    /// What proves the caller. Nothing else stands in for it.
    const PROOF: Proof = Proof::Signature;
    /// Which kinds of credentials may ask for it at all.
    const OPEN_TO: OpenTo = OpenTo::UsersAndRoles;
    /// Whether a URL that was signed beforehand, and can be passed on, may always ask for it; else the
    /// configuration says so.
    const TAKES_PRESIGNED: bool = false;
    /// Which budget its calls are counted in.
    const COUNTED_AS: CountedAs;
    /// Whether it leaves everything as it is; a session is no change.
    const READ_ONLY: bool = true;
    /// Whether the answer holds credentials: its record must then be on stable storage first.
    const HANDS_OUT: bool;
    /// Whether an answer needs a record. An action that only takes away does not.
    const MUST_BE_RECORDED: bool = true;
    /// Whether it must not wait for the calls of others.
    const IS_URGENT: bool = false;
    /// What the caller gets.
    type Output: Send + 'static;

    /// The parameters for the audit; never a secret.
    fn parameters(&self) -> Option<Box<RawValue>>;

    /// From request to output.
    fn run(self, cx: &mut Context<'_>) -> impl Future<Output = Result<Self::Output, Error>> + Send;
}

/// What kinds of credentials an action is open to at all: IAM User Guide, "Compare AWS STS
/// credentials". Whatever else limits the caller comes on top.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OpenTo {
    /// Long-term keys, sessions of roles, and whoever a provider vouches for.
    UsersAndRoles,
    /// Those, and a user's own sessions.
    UserSessions,
    /// Those, and a user's own sessions if an MFA code was given for them.
    UserSessionsWithMfa,
    /// All kinds. An operation that refuses some of them in AWS's own words says this, too.
    All,
}

impl OpenTo {
    pub(super) fn admits(self, caller: &Caller) -> bool {
        match (&caller.identity, self) {
            (_, Self::All)
            | (Identity::User(_) | Identity::RoleSession { .. } | Identity::Federated(_), _)
            | (Identity::UserSession { .. }, Self::UserSessions) => true,
            (Identity::UserSession { session, .. }, Self::UserSessionsWithMfa) => {
                session.claims.mfa_at > 0
            }
            (Identity::UserSession { .. }, Self::UsersAndRoles)
            | (Identity::FederatedUser { .. }, _) => false,
        }
    }
}
