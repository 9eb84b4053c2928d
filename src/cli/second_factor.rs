//! A warning of `brevet check` about users who can administer other users with only an access key:
//! whoever finds such a key is an administrator.

use crate::base::arn::AccountId;
use crate::directory::{Directory, Role, User};
use crate::evaluator::{self, Policies, Policy, Principal, Request, RequestContext};

/// The action that identifies administrators of users: a principal that may call it for all users counts as one.
const ADMINISTERS: &str = "iam:DeactivateMFADevice";

/// Makes a warning for each user who can administer other users with only an access key, and for each role that
/// administers users and that such a user can assume without an MFA code.
pub(super) fn warnings(directory: &Directory) -> Vec<String> {
    let mut roles: Vec<_> = directory
        .roles()
        .filter(|role| administers(directory, role))
        .collect();
    roles.sort_by(|a, b| a.arn.cmp(&b.arn));
    let mut users: Vec<&User> = directory
        .access_keys()
        .filter(|key| key.active)
        .filter_map(|key| directory.user(&key.user_arn).map(|user| &**user))
        .collect();
    users.sort_by(|a, b| a.arn.cmp(&b.arn));
    users.dedup_by(|a, b| a.arn == b.arn);
    let themselves = users
        .iter()
        .filter(|user| administers_without_code(directory, user))
        .map(|user| {
            format!(
                "user {} can administer other users with only an access key: enroll an MFA device (`brevet mfa enroll`), then \
                 add the condition \"Bool\": {{\"aws:MultiFactorAuthPresent\": \"true\"}} to the statements of its policies \
                 that allow something (for the administrator of `brevet init`: `brevet import --config FILE \
                 administrator-mfa.json --apply`)",
                user.arn
            )
        });
    let warn = |role: &&std::sync::Arc<Role>| {
        let user = users
            .iter()
            .find(|user| assumes_without_code(directory, user, role))?;
        Some(format!(
            "user {} may assume {}, which can administer other users, with only an access key: enroll an MFA device \
             (`brevet mfa enroll`), then make the role's trust policy require \"Bool\": {{\"aws:MultiFactorAuthPresent\": \
             \"true\"}} (for the administrator of `brevet init`: `brevet import --config FILE \
               administrator-mfa.json --apply`)",
            user.arn, role.arn
        ))
    };
    themselves.chain(roles.iter().filter_map(warn)).collect()
}

/// Whether a role may change the MFA devices of every user of its account.
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
    let context = RequestContext::new();
    let request = Request {
        principal,
        action: ADMINISTERS,
        resource: &resource,
        resource_account: &account,
        context: &context,
    };
    // A role with a missing policy is reported by another check, and counts as no administrator here.
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

/// Whether a user's long-term key may change the MFA devices of every user of its account without a code.
fn administers_without_code(directory: &Directory, user: &User) -> bool {
    let resource = format!("arn:aws:iam::{}:user/*", user.account);
    may_without_code(
        directory,
        user,
        ADMINISTERS,
        (&resource, user.account),
        None,
    )
}

/// Whether a user can assume a role with a long-term key and no MFA code.
fn assumes_without_code(directory: &Directory, user: &User, role: &Role) -> bool {
    let resource = (&*role.arn, role.account);
    may_without_code(
        directory,
        user,
        "sts:AssumeRole",
        resource,
        Some(&role.trust),
    )
}

/// Whether a long-term key of the user, without a code, may call an action on a resource of the account
/// `owner`. `trust` is the trust policy of the resource, if it is a role.
fn may_without_code(
    directory: &Directory,
    user: &User,
    action: &str,
    (resource, owner): (&str, AccountId),
    trust: Option<&Policy>,
) -> bool {
    let account = user.account.to_string();
    let principal = Principal::User {
        account: &account,
        arn: &user.arn,
        id: Some(&user.id),
    };
    let mut context = RequestContext::new();
    context.set("aws:principalarn", &*user.arn);
    context.set("aws:principalaccount", account.as_str());
    context.set("aws:username", &*user.name);
    context.set("aws:userid", &*user.id);
    let owner = owner.to_string();
    let request = Request {
        principal,
        action,
        resource,
        resource_account: &owner,
        context: &context,
    };
    directory.effective_of_user(user).is_ok_and(|effective| {
        let identity: Vec<&Policy> = effective.identity.iter().map(|p| &**p).collect();
        let policies = Policies {
            identity: &identity,
            resource: trust,
            resource_is_trust: trust.is_some(),
            boundary: effective.boundary.as_deref(),
            ..Policies::default()
        };
        evaluator::evaluate(&request, &policies).is_allowed()
    })
}
