//! What `brevet check` says of users who administer others with their access key alone: whoever finds
//! such a key is administrator.

use crate::directory::{Directory, Role, User};
use crate::evaluator::{self, Context, Policies, Policy, Principal, Request};

/// An action that administers users, whatever else a role may do.
const ADMINISTERS: &str = "iam:DeactivateMFADevice";

/// The roles that administer users and that a user with an active access key may assume without an MFA
/// code, one line for each.
pub(super) fn warnings(directory: &Directory) -> Vec<String> {
    let mut roles: Vec<_> = directory
        .roles()
        .filter(|role| administers(directory, role))
        .collect();
    if roles.is_empty() {
        return Vec::new();
    }
    roles.sort_by(|a, b| a.arn.cmp(&b.arn));
    let mut users: Vec<&User> = directory
        .access_keys()
        .filter(|key| key.active)
        .filter_map(|key| directory.user(&key.user_arn).map(|user| &**user))
        .collect();
    users.sort_by(|a, b| a.arn.cmp(&b.arn));
    users.dedup_by(|a, b| a.arn == b.arn);
    let warn = |role: &&std::sync::Arc<Role>| {
        let user = users
            .iter()
            .find(|user| assumes_without_code(directory, user, role))?;
        Some(format!(
            "user {} may assume {}, which administers users, by an access key alone: enroll an MFA device (`brevet mfa \
             enroll`), then let the role's trust policy demand \"Bool\": {{\"aws:MultiFactorAuthPresent\": \"true\"}} \
             (`brevet init` leaves a file for its administrator: `brevet import --config FILE administrator-mfa.json \
             --apply`)",
            user.arn, role.arn
        ))
    };
    roles.iter().filter_map(warn).collect()
}

/// Whether a role may change the MFA devices of some user of its account.
fn administers(directory: &Directory, role: &Role) -> bool {
    let resource = format!("arn:aws:iam::{}:user/*", role.account);
    let arn = format!(
        "arn:aws:sts::{}:assumed-role/{}/check",
        role.account, role.name
    );
    let account = role.account.to_string();
    let principal = Principal::RoleSession {
        account: &account,
        role: &role.name,
        role_arn: Some(&role.arn),
        arn: &arn,
        id: Some(&role.id),
    };
    let context = Context::new();
    let request = Request {
        principal,
        action: ADMINISTERS,
        resource: &resource,
        resource_account: &account,
        context: &context,
    };
    // What refers to something that is missing decides nothing, and is told elsewhere.
    directory.effective_of_role(role).is_ok_and(|effective| {
        let identity: Vec<&Policy> = effective.identity.iter().map(|p| &**p).collect();
        let policies = Policies {
            identity: &identity,
            boundary: effective.boundary.as_deref(),
            ..Policies::default()
        };
        evaluator::evaluate(&request, &policies).is_allowed()
    })
}

/// Whether a user's long-term key alone assumes a role.
fn assumes_without_code(directory: &Directory, user: &User, role: &Role) -> bool {
    let account = user.account.to_string();
    let principal = Principal::User {
        account: &account,
        arn: &user.arn,
        id: Some(&user.id),
    };
    let mut context = Context::new();
    context.set("aws:principalarn", &*user.arn);
    context.set("aws:principalaccount", account.as_str());
    context.set("aws:username", &*user.name);
    context.set("aws:userid", &*user.id);
    let owner = role.account.to_string();
    let request = Request {
        principal,
        action: "sts:AssumeRole",
        resource: &role.arn,
        resource_account: &owner,
        context: &context,
    };
    directory.effective_of_user(user).is_ok_and(|effective| {
        let identity: Vec<&Policy> = effective.identity.iter().map(|p| &**p).collect();
        let policies = Policies {
            identity: &identity,
            resource: Some(&role.trust),
            resource_is_trust: true,
            boundary: effective.boundary.as_deref(),
            ..Policies::default()
        };
        evaluator::evaluate(&request, &policies).is_allowed()
    })
}
