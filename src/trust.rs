//! Decides whether a caller may get a session. Trust, identity, boundary and session policies meet
//! here, and the result is a [`Grant`]. It waits for nothing.

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
use self::question::{InForce, Question};
pub use self::simulated::{SimulatedPrincipal, WhatIf, describe_request};
use crate::base::arn::{AccountId, RoleArn, account_of};
use crate::caller::{Caller, Identity};
use crate::directory::{Directory, Role, User};
use crate::evaluator::{Outcome, Principal};
use crate::session::token::{self, Ancestor, SessionKind};
use crate::tokens::OpenedSession;

/// The permission to issue a session. Only this file can create it, and `mint` consumes it, so that
/// no credentials exist without a decision.
///
/// It borrows the caller for whom it was decided: a call that waits authenticates its caller again,
/// and then needs a new decision.
pub struct Grant<'c> {
    to: Bearer,
    lineage: Vec<Ancestor>,
    holder: Option<token::Holder>,
    workload: Option<token::Workload>,
    narrows: Option<Narrows>,
    caller: PhantomData<&'c Caller>,
}

/// The session that a narrowed one continues.
pub struct Narrows {
    /// The calling session.
    pub parent: Arc<OpenedSession>,
    /// What the caller said that the narrowed session is for; empty if it said nothing.
    pub description: String,
    /// The least number of characters of the session token.
    pub min_token_size: usize,
}

enum Bearer {
    Role(Arc<Role>),
    User(Arc<User>),
    FederatedUser(Arc<User>),
}

impl Grant<'_> {
    /// How the session is issued, and the ARN and unique id of its principal.
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

    /// Takes the principals behind the session out of the grant, the caller last.
    pub fn take_lineage(&mut self) -> Vec<Ancestor> {
        std::mem::take(&mut self.lineage)
    }

    /// What a provider said of the holder, where its token or assertion was shown for this session.
    pub fn holder(&self) -> Option<&token::Holder> {
        self.holder.as_ref()
    }

    /// The workload for which a node gets the session, if it does.
    pub fn workload(&self) -> Option<&token::Workload> {
        self.workload.as_ref()
    }

    /// The session that the new one continues with fewer permissions or for a shorter time; `None`
    /// for a session of its own.
    pub fn narrows(&self) -> Option<&Narrows> {
        self.narrows.as_ref()
    }

    /// Records the workload for which the caller, a node, gets the session.
    #[must_use]
    pub fn for_workload(self, workload: token::Workload) -> Self {
        Self {
            workload: Some(workload),
            ..self
        }
    }
}

/// Decides whether the caller may assume the role: the trust policy and the caller's own policies,
/// boundary and session policies must allow every action. `asked` is the ARN that the caller named;
/// if there is no such role, `role` is the directory's decoy.
///
/// # Errors
/// [`Denied`] for the first action that is not allowed.
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

/// Decides whether a service of AWS may assume the role, for which the caller acts: the trust policy and
/// the resource control policies decide by themselves, since a service has no policies of its own. Whether
/// the caller may act for the service must be decided before.
///
/// # Errors
/// [`Denied`] for the first action that is not allowed.
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

/// The facts of a request for a role, with what they say of the role.
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

/// Whether [`admit`] would allow it if the supposed facts were true.
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

/// The chain of principals that leads to the role, if the caller may assume it.
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

/// Decides on a user's own session. It needs no permission (IAM User Guide, "Permissions for
/// GetSessionToken"), but an explicit deny refuses it, and so do service control policies that do
/// not allow it.
///
/// # Errors
/// [`Denied`] if a policy denies it, or the caller is not a user with a long-term key.
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

/// Whether [`own_session`] would allow it if the supposed facts were true.
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

/// Decides on a session for a federated user. Every action must be allowed on the federated user's
/// ARN.
///
/// # Errors
/// [`Denied`] for the first action that is not allowed.
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

/// Decides whether the calling session may get narrowed credentials of itself. Its own policies and
/// limits must allow it, those by which it was narrowed before included: IAM User Guide, "Permissions
/// for GetScopedCredentials".
///
/// # Errors
/// [`Denied`] if a policy denies it or none allows it, or the caller is not a session.
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

/// Decides whether an action on a bucket, or on something in it, is allowed: by the caller's own policies
/// and the policy of the bucket, of which one suffices within an account and both are needed between two.
/// `None` is a caller without credentials.
///
/// # Errors
/// [`Denied`] if a policy denies the action, or none that must allow it does.
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

/// Decides whether the caller's own policies allow an action.
///
/// # Errors
/// [`Denied`] if a policy denies the action, or none allows it.
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

/// The account that owns a resource, if its ARN contains one.
fn account_that_owns(resource: &str) -> Option<AccountId> {
    AccountId::parse(account_of(resource))
}
