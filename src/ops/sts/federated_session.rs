//! Issues a role session to a federated caller after its authentication. The AssumeRoleWith…
//! actions share this code for every kind of provider.

use std::sync::Arc;
use std::time::Duration;

use super::seen::Seen;
use super::session_input::{check_policy_arns, check_session_policy};
use crate::base::arn::{AccountId, RoleArn};
use crate::base::clock::Timestamp;
use crate::base::names::{RoleSessionName, SourceIdentity};
use crate::caller::Caller;
use crate::directory::Role;
use crate::error::Error;
use crate::federation::{Asked, FederatedIdentity, Once};
use crate::mint::{self, SessionDetails};
use crate::ops::context::Context;
use crate::session::durations;
use crate::session::packing::{self, Limits, Packed, TagClaim};
use crate::trust::{self, Denied, Grant, SessionRequest};

/// A request for a session, after the form of each parameter has been checked.
pub(super) struct FederatedSession {
    pub(super) role_arn: RoleArn,
    pub(super) role_session_name: RoleSessionName,
    pub(super) policy_arns: Vec<String>,
    pub(super) policy: Option<String>,
    pub(super) duration: Option<Duration>,
}

pub(super) struct Made {
    pub(super) session: mint::Session,
    /// The size of the packed session policies and tags, in percent of the limit.
    pub(super) packed_policy_size: u64,
    pub(super) account: AccountId,
}

struct Limited {
    term: Duration,
    tags: Vec<TagClaim>,
    packed: Packed,
}

impl FederatedSession {
    /// Issues the session if the role's trust policy allows `action`, and the session tags and source identity that the
    /// token requests. `authorized` is the value of `sts:RoleAuthorizedByIdp`; with `None` the key is absent.
    ///
    /// # Errors
    /// [`Error`] if the token's tags or source identity are malformed, the trust policy does not allow the session, the
    /// token was used before, the duration or the packed policies and tags exceed a limit, the user's session at the
    /// identity provider has ended, a budget is exhausted, or the store or a signing key is unavailable. A refusal by
    /// the trust policy does not tell whether the role exists.
    pub(super) async fn make(
        self,
        cx: &mut Context<'_>,
        identity: &FederatedIdentity,
        action: &'static str,
        authorized: Option<bool>,
    ) -> Result<Made, Error> {
        let asked = match &identity.asked {
            Ok(asked) => asked,
            Err(error) => return cx.count_unadmitted().and(Err(error.clone())),
        };
        let asked = request(asked, &self.role_session_name, authorized);
        let role = self.role(cx);
        let grant = match self.admit(cx, &role, identity, action, &asked) {
            Ok(grant) => grant,
            Err(denied) => {
                cx.count_unadmitted()?;
                return Err(cx.refuse_as_federated(&denied, self.role_arn.as_str()));
            }
        };
        let granted = (grant, self.limits(cx, &role, identity, &asked)?);
        let (role, (grant, limited)) = match &identity.once {
            None => {
                cx.count_admitted(role.account)?;
                (role, granted)
            }
            Some(once) => {
                // A refused caller keeps its token or assertion, so the decision is made first. Spending it
                // takes time, so the decision is made again after it.
                drop(granted);
                // So does a caller that makes too many calls, which clients then make again.
                cx.check_budgets(role.account)?;
                spend(cx, identity, once).await?;
                // Whoever shows what has been used is counted for the source alone.
                cx.count_admitted(role.account)?;
                let role = self.role(cx);
                match self.admit(cx, &role, identity, action, &asked) {
                    Ok(grant) => {
                        let limited = self.limits(cx, &role, identity, &asked)?;
                        (role, (grant, limited))
                    }
                    Err(denied) => {
                        return Err(cx.refuse_as_federated(&denied, self.role_arn.as_str()));
                    }
                }
            }
        };
        let packed_policy_size = limited.packed.percent;
        let details = SessionDetails {
            session_name: self.role_session_name.as_str().to_owned(),
            source_identity: asked.source_identity.unwrap_or_default().to_owned(),
            tags: limited.tags,
            packed: limited.packed,
            mfa: None,
        };
        Ok(Made {
            session: cx.issue(grant, limited.term, details).await?,
            packed_policy_size,
            account: role.account,
        })
    }

    /// Returns the role from the directory, or a decoy role that trusts nobody, so that a missing
    /// role is refused like any other.
    fn role(&self, cx: &Context<'_>) -> Arc<Role> {
        cx.directory
            .role(self.role_arn.as_str())
            .unwrap_or_else(|| cx.directory.decoy())
            .clone()
    }

    /// Decides whether the role's trust policy allows the federated caller to assume the role now.
    fn admit<'c>(
        &self,
        cx: &'c Context<'_>,
        role: &Arc<Role>,
        identity: &FederatedIdentity,
        action: &'static str,
        asked: &SessionRequest<'_>,
    ) -> Result<Grant<'c>, Box<Denied>> {
        let facts = cx.facts().federated(identity).session(asked);
        let actions = actions(action, asked);
        let (wanted, caller) = (&self.role_arn, cx.caller());
        trust::admit(role, wanted, caller, &cx.directory, facts, &actions)
    }

    /// Returns the duration of the session: the requested one, or else the one that the provider
    /// sets, but no longer than the provider and the role allow.
    ///
    /// # Errors
    /// [`Error`] if the requested duration is longer than the role allows, or less than a second is left of
    /// the user's session at the identity provider.
    fn term(
        &self,
        role: &Role,
        identity: &FederatedIdentity,
        now: Timestamp,
    ) -> Result<Duration, Error> {
        let said = identity.session_duration;
        let default = said.map(|most| most.min(role.max_session));
        let term = durations::role_session(self.duration.or(default), role.max_session, false)?;
        let term = said.map_or(term, |most| term.min(most));
        let left = identity.session_ends_by.map(|end| end.since(now));
        let term = left.map_or(term, |left| term.min(left));
        if term < Duration::from_secs(1) {
            let text = "The user's session at the identity provider has ended";
            return Err(Error::ExpiredWebIdentityToken(text.to_owned()));
        }
        Ok(term)
    }

    /// Returns the duration of the session, and its checked and packed session policies and tags.
    fn limits(
        &self,
        cx: &Context<'_>,
        role: &Role,
        identity: &FederatedIdentity,
        asked: &SessionRequest<'_>,
    ) -> Result<Limited, Error> {
        let term = self.term(role, identity, cx.now)?;
        check_policy_arns(cx, &self.policy_arns, role.account)?;
        let tags = asked.tags.iter().map(|t| {
            let transitive = asked
                .transitive_tag_keys
                .iter()
                .any(|k| k.eq_ignore_ascii_case(&t.key));
            TagClaim {
                key: t.key.clone(),
                value: t.value.clone(),
                transitive,
            }
        });
        let mut limits = Limits {
            tags: tags.collect(),
            policy: self.policy.clone().unwrap_or_default(),
            policy_arns: self.policy_arns.clone(),
            scope_down: Vec::new(),
        };
        check_session_policy(cx, &limits.policy)?;
        let packed = packing::pack(&mut limits)?;
        Ok(Limited {
            term,
            tags: limits.tags,
            packed,
        })
    }
}

/// Builds the session's condition keys from the identity's request, the session's name and the
/// provider's authorization.
fn request<'a>(
    asked: &'a Asked,
    role_session_name: &'a RoleSessionName,
    authorized: Option<bool>,
) -> SessionRequest<'a> {
    SessionRequest {
        role_session_name: Some(role_session_name.as_str()),
        source_identity: asked.source_identity.as_ref().map(SourceIdentity::as_str),
        tags: &asked.tags,
        transitive_tag_keys: &asked.transitive_tag_keys,
        external_id: None,
        role_authorized_by_idp: authorized,
    }
}

/// Returns the actions that the trust policy must allow. Session tags and a source identity need
/// permissions of their own.
fn actions(action: &'static str, asked: &SessionRequest<'_>) -> Vec<&'static str> {
    let mut actions = vec![action];
    actions.extend((!asked.tags.is_empty()).then_some("sts:TagSession"));
    let source = asked.source_identity.is_some();
    actions.extend(source.then_some("sts:SetSourceIdentity"));
    actions
}

/// Returns whether a federated caller could assume a role now: with AssumeRoleWithSAML if it has an
/// assertion, otherwise with AssumeRoleWithWebIdentity. Does not count or record anything.
pub fn would_admit(
    caller: &Caller,
    identity: &FederatedIdentity,
    role: &Arc<Role>,
    role_session_name: &RoleSessionName,
    seen: Seen<'_>,
) -> bool {
    let Ok(wanted) = RoleArn::parse("RoleArn", &role.arn) else {
        return false;
    };
    let (action, authorized) = match identity.assertion() {
        Some(assertion) => {
            let pair = assertion
                .claims
                .check_role(&role.arn, &identity.provider_arn);
            if pair.is_err() && !identity.needs_no_role_pair() {
                return false;
            }
            ("sts:AssumeRoleWithSAML", None)
        }
        None => match identity.authorizes(&wanted) {
            Ok(authorized) => ("sts:AssumeRoleWithWebIdentity", Some(authorized)),
            Err(_) => return false,
        },
    };
    let Ok(asked) = &identity.asked else {
        return false;
    };
    let asked = request(asked, role_session_name, authorized);
    let facts = seen.facts(caller).federated(identity).session(&asked);
    let actions = actions(action, &asked);
    trust::admit(role, &wanted, caller, seen.directory, facts, &actions).is_ok()
}

/// Marks a token or assertion that is valid only once as used, in the store.
async fn spend(
    cx: &mut Context<'_>,
    identity: &FederatedIdentity,
    once: &Result<Once, Error>,
) -> Result<(), Error> {
    let once = once.as_ref().map_err(Error::clone)?;
    let (issued_at, expires_at) = ((once.issued_at, once.ahead), once.expires_at);
    let first = cx
        .wait(
            cx.broker
                .store
                .mark_used(&once.issuer, &once.id, issued_at, expires_at),
        )
        .await?;
    if first {
        Ok(())
    } else {
        let text = format!(
            "The {} has already been used, and can be used only once",
            identity.proof_name()
        );
        Err(Error::IdpRejectedClaim(text))
    }
}
