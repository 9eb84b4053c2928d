//! [`Operation`]: an action as [`serve`](super::serve) runs it.

use std::future::Future;

use serde_json::value::RawValue;

use super::context::Context;
use super::service::Service;
use crate::authn::Proof;
use crate::base::arn::AccountId;
use crate::base::clock::Timestamp;
use crate::broker::Broker;
use crate::budgets::CountedAs;
use crate::caller::{Caller, Identity};
use crate::directory::Directory;
use crate::error::Error;

/// An action of an API. Its `run` makes all of its decisions.
pub trait Operation: Sized + Send + 'static {
    /// The name of the action, which policies and the audit log use, too.
    const NAME: &'static str;
    /// The service that the action belongs to, whose name is in the scope of the signature.
    const SERVICE: Service = Service::Sts;
    /// The kind of proof that authenticates the caller. Requests with another kind are refused.
    const PROOF: Proof = Proof::Signature;
    /// The kinds of credentials with which the action may be called.
    const OPEN_TO: OpenTo = OpenTo::UsersAndRoles;
    /// Whether callers may always use a presigned URL, which works for anybody who gets it. If `false`, the
    /// configuration decides for an action of STS, and presigned URLs are refused for the other actions.
    const TAKES_PRESIGNED: bool = false;
    /// The budget that calls of the action count towards.
    const COUNTED_AS: CountedAs;
    /// Whether the action changes nothing. Issuing a session does not count as a change.
    const READ_ONLY: bool = true;
    /// Whether the answer contains credentials. If so, its audit record must be on stable storage
    /// before the answer is sent.
    const HANDS_OUT: bool;
    /// Whether a signature may be used again even if the configuration says that it can be used once: for callers
    /// that make the same call many times in a second, on a connection on which nobody else can repeat it.
    const MAY_REPEAT: bool = false;
    /// Whether a successful call fails if its audit record cannot be written. It is `false` for
    /// actions that only revoke something.
    const MUST_BE_RECORDED: bool = true;
    /// Whether calls of the action run apart from all other calls, so that they never wait behind
    /// them.
    const IS_URGENT: bool = false;
    /// The result of a successful call. Each interface converts it to its wire format.
    type Output: Send + 'static;

    /// The parameters for the audit record, without secrets.
    fn parameters(&self) -> Option<Box<RawValue>>;

    /// How many calls it counts as in the budget of [`Self::COUNTED_AS`]; at least one.
    fn amount(&self) -> u64 {
        1
    }

    /// Those about whom a service asks, by the keys under which they are counted, each with how many calls the
    /// decisions about it count as. None of them may use more than half of the service's budget.
    fn subjects(&self, _view: &View<'_>) -> Vec<(String, u64)> {
        Vec::new()
    }

    /// Makes the decisions and performs the action, after the caller has been authenticated and the
    /// call counted.
    fn run(self, cx: &mut Context<'_>) -> impl Future<Output = Result<Self::Output, Error>> + Send;
}

/// What a service can see: the principals of its own account, at one instant.
#[derive(Clone, Copy)]
pub struct View<'a> {
    pub broker: &'a Broker,
    pub directory: &'a Directory,
    /// The account of the service.
    pub account: AccountId,
    pub now: Timestamp,
}

/// The kinds of credentials that may call an action: IAM User Guide, "Compare AWS STS credentials".
/// Policies and other limits apply in addition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OpenTo {
    /// Long-term keys, role sessions, and callers with a token of an identity provider.
    UsersAndRoles,
    /// The kinds of [`Self::UsersAndRoles`], and sessions that a user got for itself, such as those
    /// of GetSessionToken.
    UserSessions,
    /// The kinds of [`Self::UsersAndRoles`], and sessions that a user got for itself with an MFA
    /// code.
    UserSessionsWithMfa,
    /// All kinds of credentials. An operation that refuses some of them with AWS's own text uses
    /// this value, too.
    All,
}

impl OpenTo {
    /// Returns why the caller's kind of credentials may not call the action; `None` if it may.
    pub(super) fn refusal(self, caller: &Caller) -> Option<&'static str> {
        match (&caller.identity, self) {
            (_, Self::All)
            | (Identity::User(_) | Identity::RoleSession { .. } | Identity::Federated(_), _)
            | (Identity::UserSession { .. }, Self::UserSessions) => None,
            (Identity::UserSession { session, .. }, Self::UserSessionsWithMfa) => {
                (session.claims.mfa_at <= 0).then_some(
                    "A session of GetSessionToken can call this action only if it was requested with an MFA code.",
                )
            }
            (Identity::UserSession { .. }, Self::UsersAndRoles) => Some(
                "Sessions of GetSessionToken cannot call this action: use a role session or the user's access key.",
            ),
            (Identity::FederatedUser { .. }, _) => Some(
                "Sessions of GetFederationToken cannot call this action: use a role session or the user's access key.",
            ),
        }
    }
}
