//! Decides what a caller may do, and above all whether it may get a session. Trust, identity, boundary and session
//! policies meet here, and the permission to issue a session is a [`Grant`]. This module awaits nothing.

mod denied;
mod elsewhere;
mod explain;
mod facts;
mod question;
mod simulated;

use std::marker::PhantomData;
use std::sync::Arc;

pub use self::denied::Denied;
pub use self::elsewhere::{Elsewhere, Judged, RequestElsewhere};
pub use self::explain::{Asked, Control, Explained, explain};
pub use self::facts::{Facts, ServicePrincipal, SessionRequest, Supposed};
pub use self::question::OwnedBucket;
pub use self::question::Verdict;
use self::question::{InForce, Question};
pub use self::simulated::{SimulatedPrincipal, WhatIf, describe_request};
use crate::base::arn::{AccountId, RoleArn, account_of};
use crate::caller::{Caller, Identity};
use crate::directory::{Directory, Role, User};
use crate::evaluator::{Outcome, Principal};
use crate::session::token::{self, Ancestor, SessionKind};
use crate::tokens::OpenedSession;

/// The permission to issue a session. Only this file can create a grant, and `mint` consumes it, so that no credentials
/// exist without a decision.
///
/// A grant borrows its caller. A call that has to wait must authenticate its caller again, and the borrow ensures that
/// it also makes a new decision.
pub struct Grant<'c> {
    to: Bearer,
    lineage: Vec<Ancestor>,
    holder: Option<token::Holder>,
    workload: Option<token::Workload>,
    narrows: Option<Narrows>,
    caller: PhantomData<&'c Caller>,
}

/// The details of a session that is narrowed by GetScopedCredentials.
pub struct Narrows {
    /// The calling session, which the narrowed session continues.
    pub parent: Arc<OpenedSession>,
    /// The purpose of the narrowed session in the caller's words; empty if the caller gave none.
    pub description: String,
    /// The minimum length of the session token in characters.
    pub min_token_size: usize,
}

enum Bearer {
    Role(Arc<Role>),
    User(Arc<User>),
    FederatedUser(Arc<User>),
}

impl Grant<'_> {
    /// The kind of the session, and the ARN and unique id of its principal.
    pub fn principal(&self) -> (SessionKind, &str, &str) {
        match &self.to {
            Bearer::Role(role) => (SessionKind::Role, &role.arn, &role.id),
            Bearer::User(user) => (SessionKind::User, &user.arn, &user.id),
            Bearer::FederatedUser(user) => (SessionKind::FederatedUser, &user.arn, &user.id),
        }
    }

    /// The account of the role or user to which the session will belong.
    pub fn account(&self) -> AccountId {
        match &self.to {
            Bearer::Role(role) => role.account,
            Bearer::User(user) | Bearer::FederatedUser(user) => user.account,
        }
    }

    /// Takes the principals behind the session out of the grant. The last of them is the caller.
    pub fn take_lineage(&mut self) -> Vec<Ancestor> {
        std::mem::take(&mut self.lineage)
    }

    /// The holder as an identity provider describes it; `None` if the session is not issued for a provider's token or
    /// assertion.
    pub fn holder(&self) -> Option<&token::Holder> {
        self.holder.as_ref()
    }

    /// The workload for which a node requests the session; `None` for other sessions.
    pub fn workload(&self) -> Option<&token::Workload> {
        self.workload.as_ref()
    }

    /// The session that the new one continues with fewer permissions or for a shorter time; `None` if the new one is
    /// not narrowed.
    pub fn narrows(&self) -> Option<&Narrows> {
        self.narrows.as_ref()
    }

    /// Records the workload for which the caller, a node, requests the session.
    #[must_use]
    pub fn for_workload(self, workload: token::Workload) -> Self {
        Self {
            workload: Some(workload),
            ..self
        }
    }
}

/// Decides whether the caller may assume the role. For each action, the evaluator decides by the role's trust policy,
/// the caller's own policies, boundary and session policies, and the policies of the organization.
///
/// `asked` is the ARN that the caller named. If there is no such role, `role` is the directory's decoy.
///
/// # Errors
/// [`Denied`] for the first action that is not allowed. Also if there is no such role, or if the calling session would
/// escape from the policies that limit it.
pub fn admit<'c>(
    role: &Arc<Role>,
    asked: &RoleArn,
    caller: &'c Caller,
    directory: &Directory,
    facts: Facts<'_>,
    actions: &[&'static str],
) -> Result<Grant<'c>, Box<Denied>> {
    let lineage = admissible(role, asked, caller, directory, facts, actions)?;
    Ok(Grant {
        to: Bearer::Role(role.clone()),
        lineage,
        holder: caller
            .federated()
            .map(|identity| identity.remembered.clone()),
        workload: None,
        narrows: None,
        caller: PhantomData,
    })
}

/// Decides whether a service of AWS, for which the caller acts, may assume the role. The trust policy and the resource
/// control policies alone decide, since a service has no policies of its own. The caller's right to act for the service
/// must have been checked before.
///
/// # Errors
/// [`Denied`] for the first action that is not allowed, or if there is no such role.
pub fn admit_service<'c>(
    role: &Arc<Role>,
    asked: &RoleArn,
    service: &str,
    caller: &'c Caller,
    directory: &Directory,
    facts: Facts<'_>,
    actions: &[&'static str],
) -> Result<Grant<'c>, Box<Denied>> {
    let facts = about_role(facts, role, asked, directory);
    let found = *role.arn == *asked.as_str();
    for action in actions {
        let question = Question {
            principal: Principal::Service(service),
            account: asked.account(),
            identity: Vec::new(),
            boundary: None,
            session: InForce::default(),
            context: &facts.keys,
            action,
            resource: asked.as_str(),
            resource_account: asked.account(),
            trust: Some(&role.trust),
            principal_member: None,
            resource_member: directory.member(asked.account()),
        };
        let decision = question.decide();
        if !decision.is_allowed() || !found {
            return Err(question.denied(decision));
        }
    }
    Ok(Grant {
        to: Bearer::Role(role.clone()),
        lineage: caller.lineage(),
        holder: None,
        workload: None,
        narrows: None,
        caller: PhantomData,
    })
}

/// Adds the condition keys that describe the requested role: its account, its organization and its tags.
fn about_role<'f>(
    facts: Facts<'f>,
    role: &'f Role,
    asked: &'f RoleArn,
    directory: &'f Directory,
) -> Facts<'f> {
    let mut facts = facts;
    let account = account_of(asked.as_str());
    facts.keys.set("aws:resourceaccount", account);
    facts.resource_organization(directory.member(asked.account()));
    facts.resource_tags(&role.tags, true);
    facts
}

/// Checks whether [`admit`] would allow the request if the supposed facts were true.
///
/// # Errors
/// The same as for [`admit`].
pub fn would_admit(
    role: &Arc<Role>,
    asked: &RoleArn,
    caller: &Caller,
    directory: &Directory,
    facts: Supposed<'_>,
    actions: &[&'static str],
) -> Result<(), Box<Denied>> {
    admissible(role, asked, caller, directory, facts.0, actions).map(drop)
}

/// Decides whether the caller may assume the role. Returns the principals that will be behind the new session.
fn admissible(
    role: &Arc<Role>,
    asked: &RoleArn,
    caller: &Caller,
    directory: &Directory,
    facts: Facts<'_>,
    actions: &[&'static str],
) -> Result<Vec<Ancestor>, Box<Denied>> {
    let facts = about_role(facts, role, asked, directory);
    let found = *role.arn == *asked.as_str();
    let mut question = Question {
        resource_account: asked.account(),
        trust: Some(&role.trust),
        resource_member: directory.member(asked.account()),
        ..Question::own(caller, directory, &facts, "", asked.as_str())
    };
    for action in actions {
        question.action = action;
        // A role that does not exist is evaluated all the same, so that the time does not reveal
        // it.
        let decision = question.decide();
        if !decision.is_allowed() || !found {
            return Err(question.denied(decision));
        }
    }
    // A session that is limited by session policies must not return to its role without them,
    // neither itself nor through another session, and must not assume a role that they do not
    // allow.
    let lineage = caller.lineage();
    question.action = "sts:AssumeRole";
    let note = if lineage.iter().any(|a| a.restricted && *a.arn == *role.arn) {
        "A session that is narrowed, or limited by session policies, cannot assume its own role again."
    } else if !question.is_within_session_policies() {
        "The session policies of the calling session do not allow the request."
    } else {
        return Ok(lineage);
    };
    Err(Box::new(Denied::because(
        question.action.to_owned(),
        &facts,
        note,
    )))
}

/// Decides whether a user may get a session of its own. This requires no permission (IAM User Guide, "Permissions for
/// GetSessionToken"). It is refused only by an explicit deny, or by service control policies that do not allow it.
///
/// # Errors
/// [`Denied`] if a policy denies it, service control policies do not allow it, or the caller is not a user with a
/// long-term key.
pub fn own_session<'c>(
    caller: &'c Caller,
    directory: &Directory,
    facts: &Facts<'_>,
) -> Result<Grant<'c>, Box<Denied>> {
    let user = may_have_session(caller, directory, facts)?;
    let lineage = caller.lineage();
    Ok(Grant {
        to: Bearer::User(user.clone()),
        lineage,
        holder: None,
        workload: None,
        narrows: None,
        caller: PhantomData,
    })
}

/// Checks whether [`own_session`] would allow the session if the supposed facts were true.
///
/// # Errors
/// The same as for [`own_session`].
pub fn would_have_session(
    caller: &Caller,
    directory: &Directory,
    facts: &Supposed<'_>,
) -> Result<(), Box<Denied>> {
    may_have_session(caller, directory, &facts.0).map(drop)
}

fn may_have_session<'c>(
    caller: &'c Caller,
    directory: &Directory,
    facts: &Facts<'_>,
) -> Result<&'c Arc<User>, Box<Denied>> {
    let question = Question::own(caller, directory, facts, "sts:GetSessionToken", "*");
    let decision = question.decide();
    match &caller.identity {
        Identity::User(user)
            if decision.outcome != Outcome::ExplicitlyDenied
                && question.is_within_service_control() =>
        {
            Ok(user)
        }
        _ => Err(question.denied(decision)),
    }
}

/// Decides whether a user may get a session for a federated user. Every action must be allowed on the federated user's
/// ARN.
///
/// # Errors
/// [`Denied`] for the first action that is not allowed, or if the caller has temporary credentials.
pub fn vouch<'c>(
    caller: &'c Caller,
    directory: &Directory,
    facts: &Facts<'_>,
    federated_user: &str,
    actions: &[&'static str],
) -> Result<Grant<'c>, Box<Denied>> {
    for action in actions {
        permit(caller, directory, facts, action, federated_user)?;
    }
    match &caller.identity {
        Identity::User(user) => {
            let lineage = caller.lineage();
            Ok(Grant {
                to: Bearer::FederatedUser(user.clone()),
                lineage,
                holder: None,
                workload: None,
                narrows: None,
                caller: PhantomData,
            })
        }
        _ => {
            let note =
                "Temporary credentials cannot be used to get a session for a federated user.";
            Err(Box::new(Denied::because(
                "sts:GetFederationToken".to_owned(),
                facts,
                note,
            )))
        }
    }
}

/// Decides whether the calling session may call GetScopedCredentials to get credentials that may do less than its own.
/// Each kind of policy that limits the session must allow the action, including the scope-down policies of earlier
/// calls: IAM User Guide, "Permissions for GetScopedCredentials".
///
/// # Errors
/// [`Denied`] if a policy denies the action, a policy that must allow it does not, or the caller is not a session.
pub fn narrow<'c>(
    caller: &'c Caller,
    directory: &Directory,
    facts: &Facts<'_>,
    description: String,
    min_token_size: usize,
) -> Result<Grant<'c>, Box<Denied>> {
    const ACTION: &str = "sts:GetScopedCredentials";
    permit(caller, directory, facts, ACTION, "*")?;
    let (to, parent) = match &caller.identity {
        Identity::RoleSession { role, session } => (Bearer::Role(role.clone()), session),
        Identity::UserSession { user, session } => (Bearer::User(user.clone()), session),
        Identity::FederatedUser { user, session } => (Bearer::FederatedUser(user.clone()), session),
        Identity::User(_) | Identity::Federated(_) => {
            let note = "GetScopedCredentials must be called with the credentials of a session.";
            return Err(Box::new(Denied::because(ACTION.to_owned(), facts, note)));
        }
    };
    Ok(Grant {
        to,
        lineage: caller.lineage(),
        holder: parent.claims.holder.clone(),
        workload: parent.claims.workload.clone(),
        narrows: Some(Narrows {
            parent: parent.clone(),
            description,
            min_token_size,
        }),
        caller: PhantomData,
    })
}

/// Decides whether an action on a bucket, or on an object in it, is allowed. `caller` is `None` for a request without
/// credentials.
///
/// If the caller belongs to the account of the bucket, either the caller's own policies or the policy of the bucket
/// must allow the action. Otherwise both must allow it.
///
/// # Errors
/// [`Denied`] if a policy denies the action, or a policy that must allow it does not.
pub fn permit_on_bucket(
    caller: Option<&Caller>,
    directory: &Directory,
    facts: &Facts<'_>,
    action: &str,
    resource: &str,
    bucket: &OwnedBucket<'_>,
) -> Result<(), Box<Denied>> {
    let question = Question::on_bucket(caller, directory, facts, action, resource, bucket);
    let decision = question.decide();
    if !decision.is_allowed() {
        return Err(question.denied(decision));
    }
    // A session must not do more than its session policies and its boundary allow, whomever the policy of
    // the bucket names.
    let is_session = caller.is_some_and(|caller| caller.session().is_some());
    if is_session && !(question.is_within_session_policies() && question.is_within_boundary()) {
        let note = "The bucket policy allows the request, but the session policies or the permissions boundary of the \
            caller do not.";
        return Err(Box::new(Denied::because(action.to_owned(), facts, note)));
    }
    Ok(())
}

/// Decides whether the caller's own policies allow an action. Each kind of policy that limits the caller, such as a
/// permissions boundary or a session policy, must allow the action, too.
///
/// # Errors
/// [`Denied`] if a policy denies the action, or a policy that must allow it does not.
pub fn permit(
    caller: &Caller,
    directory: &Directory,
    facts: &Facts<'_>,
    action: &str,
    resource: &str,
) -> Result<(), Box<Denied>> {
    let question = Question::own(caller, directory, facts, action, resource);
    let decision = question.decide();
    if decision.is_allowed() {
        Ok(())
    } else {
        Err(question.denied(decision))
    }
}

/// The account that owns a resource; `None` if its ARN contains no account.
fn account_that_owns(resource: &str) -> Option<AccountId> {
    AccountId::parse(account_of(resource))
}
