//! Role, caller and facts to [`Grant`]: where trust, identity, boundary and session policies meet.
//! Awaits nothing.

mod denied;
mod explain;
mod facts;
mod question;

use std::marker::PhantomData;
use std::sync::Arc;

pub use self::denied::Denied;
pub use self::explain::{Asked, explain};
pub use self::facts::{Facts, SessionRequest, Supposed};
use self::question::Question;
use crate::base::arn::{AccountId, RoleArn};
use crate::caller::{Caller, Identity};
use crate::directory::{Directory, Role, User};
use crate::evaluator::Outcome;
use crate::session::token::{self, Ancestor, Kind as SessionKind};

/// Leave to hold a session. Made in this file alone; `mint` consumes it, so that no credentials
/// exist without a decision.
///
/// It borrows the caller that it was decided for: a call that waits sees its caller anew, and then
/// needs a new decision.
pub struct Grant<'c> {
    to: Bearer,
    lineage: Vec<Ancestor>,
    web_identity: Option<token::WebIdentity>,
    caller: PhantomData<&'c Caller>,
}

enum Bearer {
    Role(Arc<Role>),
    User(Arc<User>),
    FederatedUser(Arc<User>),
}

impl Grant<'_> {
    /// How the session comes about, and the ARN and unique id of its principal.
    pub fn principal(&self) -> (SessionKind, &str, &str) {
        match &self.to {
            Bearer::Role(role) => (SessionKind::Role, &role.arn, &role.id),
            Bearer::User(user) => (SessionKind::User, &user.arn, &user.id),
            Bearer::FederatedUser(user) => (SessionKind::FederatedUser, &user.arn, &user.id),
        }
    }

    /// The principal's account.
    pub fn account(&self) -> AccountId {
        match &self.to {
            Bearer::Role(role) => role.account,
            Bearer::User(user) | Bearer::FederatedUser(user) => user.account,
        }
    }

    /// Whom the session comes from, the one that was let in last.
    pub fn lineage(&self) -> &[Ancestor] {
        &self.lineage
    }

    /// What a provider's token said of the holder, where one was shown for this session.
    pub fn web_identity(&self) -> Option<&token::WebIdentity> {
        self.web_identity.as_ref()
    }
}

/// Decides whether the caller may act as the role: every action must be allowed, by the trust
/// policy and by what the caller's account, boundary and session policies leave. `asked` is the ARN
/// that the caller named; where there is no such role, `role` is the directory's decoy.
///
/// # Errors
/// The first action that is not allowed.
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
        web_identity: caller
            .federated()
            .and_then(|identity| identity.remembered.clone()),
        caller: PhantomData,
    })
}

/// Whether [`admit`] would decide so if what is supposed were proven.
///
/// # Errors
/// As [`admit`].
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

/// The chain of principals that leads to the role, if the caller may act as it.
fn admissible(
    role: &Arc<Role>,
    asked: &RoleArn,
    caller: &Caller,
    directory: &Directory,
    facts: Facts<'_>,
    actions: &[&'static str],
) -> Result<Vec<Ancestor>, Box<Denied>> {
    // From here on it lives no longer than the role.
    let mut facts: Facts<'_> = facts;
    facts
        .keys
        .set("aws:resourceaccount", asked.account().to_string());
    facts.resource_tags(&role.tags, true);
    let found = *role.arn == *asked.as_str();
    let question = |action| Question {
        resource_account: asked.account(),
        trust: Some(&role.trust),
        ..Question::own(caller, directory, &facts, action, asked.as_str())
    };
    for action in actions {
        let question = question(action);
        // What is not there is judged all the same, and takes as long.
        let decision = question.decide();
        if !decision.is_allowed() || !found {
            return Err(question.denied(decision));
        }
    }
    // A session that policies cut does not come back to its role, by itself or by another, without
    // them; nor does it go anywhere that they do not name.
    let lineage = caller.lineage();
    let question = question("sts:AssumeRole");
    let note = if lineage.iter().any(|a| a.restricted && *a.arn == *role.arn) {
        "A session that session policies cut does not come back to its role without them."
    } else if !question.is_within_session_policies() {
        "The calling session's own session policies do not allow it."
    } else {
        return Ok(lineage);
    };
    Err(Box::new(Denied::because(
        question.action.to_owned(),
        &facts,
        note,
    )))
}

/// Leave for a user's own session. It needs no permission (IAM User Guide, "Permissions for
/// GetSessionToken"); an explicit deny refuses it all the same.
///
/// # Errors
/// When a policy denies it, or the caller is no user with a long-term key.
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
        web_identity: None,
        caller: PhantomData,
    })
}

/// Whether [`own_session`] would decide so if what is supposed were proven.
///
/// # Errors
/// As [`own_session`].
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
        Identity::User(user) if decision.outcome != Outcome::ExplicitlyDenied => Ok(user),
        _ => Err(question.denied(decision)),
    }
}

/// Leave for somebody whom a user vouches for: every action must be allowed on the federated user.
///
/// # Errors
/// The first action that is not allowed.
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
                web_identity: None,
                caller: PhantomData,
            })
        }
        _ => {
            let note = "Temporary credentials do not vouch for anybody.";
            Err(Box::new(Denied::because(
                "sts:GetFederationToken".to_owned(),
                facts,
                note,
            )))
        }
    }
}

/// Decides whether the caller's own policies allow an action of this service.
///
/// # Errors
/// When they do not.
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
