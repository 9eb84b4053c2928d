//! Managed policies: IAM API Reference, "CreatePolicy", "GetPolicy", "DeletePolicy", "ListPolicies",
//! "CreatePolicyVersion", "GetPolicyVersion", "ListPolicyVersions", "DeletePolicyVersion" and
//! "SetDefaultPolicyVersion".

mod lists;
mod policy;
mod versions;

use super::action::{Action, permission};
use super::rows;
use super::target::Target;
use crate::base::arn::account_of;
use crate::commands::{Command, Edit};
use crate::directory::declaration::ManagedPolicyDetail;
use crate::directory::resource::{Name, Resource};
use crate::error::Error;
use crate::ops::context::Context;

pub use lists::ListPolicies;
pub use policy::{CreatePolicy, DeletePolicy, GetPolicy};
pub use versions::{
    CreatePolicyVersion, DeletePolicyVersion, GetPolicyVersion, ListPolicyVersions,
    SetDefaultPolicyVersion,
};

/// Reads the managed policy that an action concerns, and authorizes the action on it.
///
/// # Errors
/// The same as for [`rows::one`].
async fn one<A: Action>(
    cx: &mut Context<'_>,
    target: &Target,
) -> Result<ManagedPolicyDetail, Error> {
    match rows::one::<A>(cx, target).await? {
        Resource::Policy(policy) => Ok(policy),
        _ => Err(target.not_found()),
    }
}

/// Returns the name of a policy that the account may change. The caller must have authorized the
/// action before, because the error tells whether the policy exists.
///
/// # Errors
/// [`Error::AccessDenied`] for one of AWS's own policies, which no account may change, and
/// [`Error::NotFound`] if the policy does not exist.
fn changeable<A: Action>(cx: &mut Context<'_>, target: &Target) -> Result<Name, Error> {
    if account_of(&target.arn) == "aws" {
        let note = "AWS managed policies belong to no account and cannot be changed.";
        return Err(cx.refuse_because(&permission::<A>(), &target.arn, note));
    }
    target.name()
}

fn edited(name: Name, edit: Edit) -> Vec<Command> {
    vec![Command::edit(name, edit)]
}
