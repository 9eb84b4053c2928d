//! What an operator should look at in a snapshot.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use super::kinds::{OWN_ISSUER, Role};
use super::policies::is_aws_managed;
use super::{Directory, principals};
use crate::base::arn::AccountId;
use crate::evaluator::{NamedPrincipal, strangers};

impl Directory {
    /// Why a provider must be removed that is the broker itself, which vouches for nobody here. `issuer` is
    /// the broker as an issuer of tokens. None: no provider is.
    pub fn own_provider(&self, issuer: Option<&str>) -> Option<String> {
        let provider = issuer.and_then(|issuer| self.provider_of(issuer))?;
        Some(format!(
            "OpenIDConnectProviders {}: Url {OWN_ISSUER}",
            provider.arn
        ))
    }

    /// What an operator should look at: whoever may do nothing because a policy is not here, roles
    /// whose trust policy is not in force, and cross-account trust without an external id. A sentence
    /// each, in the order of ARNs.
    pub fn warnings(&self) -> Vec<String> {
        let mut roles: Vec<_> = self.roles().collect();
        roles.sort_by(|a, b| a.arn.cmp(&b.arn));
        let owners = self
            .users
            .values()
            .map(|u| (format!("user {}", u.arn), &u.policies));
        let owners = owners.chain(
            self.groups
                .values()
                .map(|g| (format!("group {}", g.folded), &g.policies)),
        );
        let owners = owners.chain(
            roles
                .iter()
                .map(|r| (format!("role {}", r.arn), &r.policies)),
        );
        let mut all: Vec<String> = owners
            .flat_map(|(owner, policies)| {
                let missing = policies
                    .named()
                    .filter(|arn| is_aws_managed(arn) && self.managed.get(arn).is_none());
                missing
                    .map(move |arn| closed_warning(&owner, arn))
                    .collect::<Vec<_>>()
            })
            .collect();
        all.sort();
        all.extend(self.named_by_arn().into_iter().filter(|named| !named.is_here).map(|named| {
            let (role, principal) = (&named.role.arn, named.principal);
            format!("role {role} names {principal} by ARN in its trust policy, and nobody here has that ARN: whoever gets it is meant; leave the entry out")
        }));
        let arns = self.arns_of_principals(&roles);
        for role in &roles {
            let ids = role
                .trust
                .named_principals()
                .filter_map(|named| match named {
                    NamedPrincipal::ById(id) => Some(id),
                    NamedPrincipal::ByArn(_) => None,
                });
            let gone: BTreeSet<&str> = ids.filter(|id| !arns.contains_key(id)).collect();
            all.extend(gone.into_iter().map(|id| {
                format!(
                    "role {} names {id} in its trust policy, a unique id that nobody here has: leave the entry out",
                    role.arn
                )
            }));
        }
        for role in roles {
            if let Some(rule) = &role.closed {
                all.push(format!("role {} lets in nobody: {rule}", role.arn));
            }
            let arn = |id: &str| arns.get(id).copied();
            let foreign = strangers::without_external_id(&role.trust, role.account.as_str(), arn);
            all.extend(
                foreign
                    .into_iter()
                    .map(|who| external_id_warning(&role.arn, &who)),
            );
        }
        all
    }

    /// By unique id, the ARNs of the users and roles that the trust policies of these roles name so.
    fn arns_of_principals(&self, roles: &[&Arc<Role>]) -> HashMap<&str, &str> {
        let wanted: HashSet<&str> = roles
            .iter()
            .flat_map(|role| role.trust.named_principals())
            .filter_map(|named| {
                if let NamedPrincipal::ById(id) = named {
                    Some(id)
                } else {
                    None
                }
            })
            .collect();
        if wanted.is_empty() {
            return HashMap::new();
        }
        let users = self.users.values().map(|user| (&*user.id, &*user.arn));
        let all = users.chain(self.roles.values().map(|role| (&*role.id, &*role.arn)));
        all.filter(|(id, _)| wanted.contains(id)).collect()
    }

    /// The principals of accounts that are here that trust policies name by ARN, in the order of the roles'
    /// ARNs: rows of an earlier version, and of a time when the account was not here; of a file, principals
    /// that it does not declare.
    fn named_by_arn(&self) -> Vec<NamedByArn<'_>> {
        let mut all = Vec::new();
        for role in self.roles.values() {
            for named in role.trust.named_principals() {
                let NamedPrincipal::ByArn(principal) = named else {
                    continue;
                };
                let Some(named) = principals::Named::parse(principal) else {
                    continue;
                };
                let account = AccountId::parse(named.account())
                    .filter(|account| self.accounts.contains(account));
                let Some(account) = account else { continue };
                let is_here = match named {
                    principals::Named::User { arn, .. } => self.user(arn).is_some(),
                    principals::Named::Role { arn, .. } => self.role(arn).is_some(),
                    principals::Named::Session { role, .. } => self
                        .role_named(account, role)
                        .is_some_and(|found| *found.name == *role),
                };
                all.push(NamedByArn {
                    role,
                    principal,
                    is_here,
                });
            }
        }
        all.sort_by(|a, b| (&a.role.arn, a.principal).cmp(&(&b.role.arn, b.principal)));
        all
    }

    /// The ARNs of the roles whose trust policies name somebody of an account in the store by ARN, and should
    /// do so by unique id.
    pub fn bindable(&self) -> Vec<String> {
        let named = self.named_by_arn().into_iter();
        let mut roles: Vec<String> = named.map(|named| named.role.arn.to_string()).collect();
        roles.dedup();
        roles
    }
}

/// A principal that a trust policy names by ARN although its account is in the store.
struct NamedByArn<'a> {
    role: &'a Arc<Role>,
    principal: &'a str,
    /// Whether somebody has the ARN.
    is_here: bool,
}

/// What is said of somebody who is attached to a policy of AWS's whose document is not here.
pub fn closed_warning(owner: &str, policy_arn: &str) -> String {
    format!(
        "{owner} may do nothing: the document of `{policy_arn}` is not here, and it may deny anything; import the policy (a deprecated one with a document of your own) or detach it"
    )
}

/// What is said of a role that another account's principal may assume without an external id.
pub fn external_id_warning(role: &str, principal: &str) -> String {
    format!(
        "role {role} trusts {principal} of another account without an sts:ExternalId: if that account acts for others, any of them may ask it to assume this role"
    )
}
