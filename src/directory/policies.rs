//! Compiles and looks up the policies of users, groups and roles.

use std::collections::HashMap;
use std::sync::Arc;

use super::aws_managed::is_built_in;
use super::compile::compile;
use super::declared::PolicyOf;
use super::kinds::{Role, User};
use super::name::{Name, ResourceKind};
use super::shape::{Attached, Boundary, InlinePolicy};
use super::{Directory, DirectoryError, fault};
use crate::base::arn::{AccountId, IamArn};
use crate::evaluator::{Policy, PolicyKind};

/// Whether an ARN is that of an AWS managed policy: `arn:aws:iam::aws:policy/` and a name.
pub fn is_aws_managed(policy_arn: &str) -> bool {
    policy_arn
        .strip_prefix("arn:aws:iam::aws:policy/")
        .is_some_and(|name| !name.is_empty())
}

/// The policy that users get if `AllowUsersToChangePassword` of the password policy is set. It lets users change only
/// their own passwords, because no two users of an account have the same name, whatever their paths.
pub(super) const PASSWORD_CHANGE: &str = r#"{"Version": "2012-10-17", "Statement": [
    {"Sid": "PasswordPolicy", "Effect": "Allow", "Action": "iam:ChangePassword",
        "Resource": ["arn:aws:iam::*:user/${aws:username}", "arn:aws:iam::*:user/*/${aws:username}"],
        "Condition": {"StringEquals": {"aws:ResourceAccount": "${aws:PrincipalAccount}"}}},
    {"Sid": "PasswordPolicyRead", "Effect": "Allow", "Action": "iam:GetAccountPasswordPolicy", "Resource": "*"}
]}"#;

/// The policies of one user, group or role. Managed policies are referenced by ARN, so that a
/// change of a policy takes effect for all at once.
#[derive(Debug, Default)]
pub(super) struct EntityPolicies {
    inline: Box<[Arc<Policy>]>,
    managed: Box<[Arc<str>]>,
    boundary: Option<Arc<str>>,
}

impl EntityPolicies {
    pub fn boundary(&self) -> Option<&str> {
        self.boundary.as_deref()
    }

    /// The ARNs of the managed policies, followed by that of the permissions boundary.
    pub fn named(&self) -> impl Iterator<Item = &Arc<str>> {
        self.managed.iter().chain(&self.boundary)
    }
}

/// The policies that decide what a principal may do.
#[derive(Debug, Default)]
pub struct Effective {
    /// Managed and inline policies, including those of groups.
    pub identity: Vec<Arc<Policy>>,
    pub boundary: Option<Arc<Policy>>,
}

/// The error about a user, group or role that refers to a policy or group which the snapshot does not have. No decision
/// can be made about a principal with such an entry.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("an entry of the directory refers to `{0}`, which does not exist in the directory")]
pub struct Dangling(pub String);

/// Links to the managed policies and the permissions boundary of a user, group or role.
pub(super) fn links(attached: &[Attached], boundary: Option<&Boundary>) -> Vec<Name> {
    let attached = attached.iter().map(|a| &a.policy_arn);
    let arns = attached.chain(boundary.map(|b| &b.permissions_boundary_arn));
    arns.map(|arn| Name::new(ResourceKind::Policy, arn.as_str()))
        .collect()
}

/// The inline policies of a user, group or role, with their names for messages.
pub(super) fn inline_policies(list: &[InlinePolicy]) -> Vec<PolicyOf<'_>> {
    let policies = list.iter().map(|policy| PolicyOf {
        kind: PolicyKind::Identity,
        place: format!("inline policy {}", policy.policy_name),
        document: policy.policy_document.as_ref(),
    });
    policies.collect()
}

/// How often each account attaches a managed policy to users, groups and roles, and how often the
/// policy is the permissions boundary of a user or role.
pub(super) type Uses = HashMap<AccountId, HashMap<Arc<str>, (usize, usize)>>;

impl Directory {
    /// How often an account attaches a managed policy to users, groups and roles, and how often the
    /// policy is the permissions boundary of one of its users and roles. All policies of a snapshot are
    /// counted at the first call.
    pub fn policy_uses(&self, account: AccountId, policy_arn: &str) -> (usize, usize) {
        let uses = self.all_policy_uses().get(&account);
        uses.and_then(|uses| uses.get(policy_arn))
            .copied()
            .unwrap_or_default()
    }

    /// The AWS managed policies that are in use with a built-in document, sorted by ARN.
    pub fn built_in_policies_in_use(&self) -> Vec<&str> {
        let used = self.all_policy_uses().values().flat_map(HashMap::keys);
        let built_in = used.filter(|arn| !self.declares_policy(arn) && is_built_in(arn));
        let mut arns: Vec<&str> = built_in.map(|arn| &**arn).collect();
        arns.sort_unstable();
        arns.dedup();
        arns
    }

    fn all_policy_uses(&self) -> &Uses {
        self.policy_uses.get_or_init(|| {
            let mut all = Uses::new();
            let users = self.users.values().map(|u| (u.account, &u.policies));
            let roles = self.roles.values().map(|r| (r.account, &r.policies));
            let groups = self.groups.values().map(|g| (g.account, &g.policies));
            for (account, policies) in users.chain(roles).chain(groups) {
                let uses = all.entry(account).or_default();
                for arn in &policies.managed {
                    uses.entry(arn.clone()).or_default().0 += 1;
                }
                if let Some(arn) = &policies.boundary {
                    uses.entry(arn.clone()).or_default().1 += 1;
                }
            }
            all
        })
    }

    /// Compiles the policies of a user, group or role of `account`.
    pub(super) fn entity_policies(
        &self,
        place: &str,
        account: AccountId,
        inline: &[InlinePolicy],
        attached: &[Attached],
        boundary: Option<&Boundary>,
    ) -> Result<EntityPolicies, DirectoryError> {
        let mut compiled = Vec::with_capacity(inline.len());
        for policy in inline_policies(inline) {
            let place = format!("{place}: {}", policy.place);
            compiled.push(Arc::new(compile(&place, policy.kind, policy.document)?));
        }
        // All entities share the allocation of a policy's ARN.
        let shared = |field: &str, arn: &str| -> Result<Arc<str>, DirectoryError> {
            if IamArn::parse(arn).is_some_and(|a| a.account != account) {
                return Err(fault(
                    format!("{place}: {field}"),
                    format!("`{arn}` is a policy of another account, which cannot be used here"),
                ));
            }
            let known = self.managed(arn);
            Ok(known.map_or_else(|| arn.into(), |policy| policy.arn.clone()))
        };
        let managed = attached
            .iter()
            .map(|a| shared("AttachedManagedPolicies", &a.policy_arn));
        let boundary = boundary.map(|b| shared("PermissionsBoundary", &b.permissions_boundary_arn));
        Ok(EntityPolicies {
            inline: compiled.into(),
            managed: managed.collect::<Result<_, _>>()?,
            boundary: boundary.transpose()?,
        })
    }

    /// The policies of a user, including those of its groups, and the permission that the account's password policy
    /// gives.
    ///
    /// # Errors
    /// [`Dangling`] if a group or policy to which the user or a group refers is missing. A missing AWS managed policy
    /// is no error: [`Directory::closed_policy`] takes its place.
    pub fn effective_of_user(&self, user: &User) -> Result<Effective, Dangling> {
        let mut effective = self.effective(&user.policies)?;
        if self.password_policy(user.account).allow_users_to_change {
            effective.identity.push(self.password_change.clone());
        }
        for name in &user.groups {
            let group = self
                .groups
                .get(name)
                .ok_or_else(|| Dangling(format!("group {name}")))?;
            effective
                .identity
                .append(&mut self.effective(&group.policies)?.identity);
        }
        Ok(effective)
    }

    /// The policies and the boundary of a role's sessions.
    ///
    /// # Errors
    /// [`Dangling`] if a policy to which the role refers is missing. A missing AWS managed policy is no error:
    /// [`Directory::closed_policy`] takes its place.
    pub fn effective_of_role(&self, role: &Role) -> Result<Effective, Dangling> {
        self.effective(&role.policies)
    }

    fn effective(&self, policies: &EntityPolicies) -> Result<Effective, Dangling> {
        // An unknown policy may deny anything, so whoever has it is denied everything.
        let missing = |arn: &Arc<str>| {
            if is_aws_managed(arn) {
                Ok(self.closed.clone())
            } else {
                Err(Dangling(arn.to_string()))
            }
        };
        let find = |arn: &Arc<str>| {
            self.managed_policy(arn)
                .cloned()
                .map_or_else(|| missing(arn), Ok)
        };
        let mut identity = policies.inline.to_vec();
        for arn in &policies.managed {
            identity.push(find(arn)?);
        }
        Ok(Effective {
            identity,
            boundary: policies.boundary.as_ref().map(find).transpose()?,
        })
    }
}
