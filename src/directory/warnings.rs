//! Warnings about a snapshot, for the operator.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use super::kinds::{OWN_ISSUER, Role};
use super::policies::{EntityPolicies, is_aws_managed};
use super::resource::{Name, ResourceKind};
use super::{Directory, owners};
use crate::base::arn::AccountId;
use crate::evaluator::{NamedPrincipal, Policy, strangers};

impl Directory {
    /// Says why a provider that has the broker's own issuer must be removed; `None` if there is none.
    pub fn own_provider(&self, issuer: Option<&str>) -> Option<String> {
        let provider = issuer.and_then(|issuer| self.provider_of(issuer))?;
        Some(format!(
            "OpenIDConnectProviders {}: Url {OWN_ISSUER}",
            provider.arn
        ))
    }

    /// Makes one sentence for each problem: an AWS managed policy without a document, a principal in a policy that does
    /// not exist, a SAML provider that cannot be used, a role whose trust policy is not in force, trust in another
    /// account without an external id, and a bucket policy with a problem. Sentences about problems of one kind are
    /// sorted by ARN or name.
    pub fn warnings(&self) -> Vec<String> {
        let mut roles: Vec<_> = self.roles().collect();
        roles.sort_by(|a, b| a.arn.cmp(&b.arn));
        let mut all = self.of_missing_policies(&roles);
        all.extend(self.named_by_arn().into_iter().filter(|named| !named.is_here).map(|named| {
            let (whose, principal) = (naming_policy(&named.owner), named.principal);
            format!("{whose} names {principal}, but no user or role has this ARN. A user or role that gets the ARN \
                later would be trusted; remove the ARN from the policy")
        }));
        all.extend(self.of_saml_providers());
        let naming = self.naming_policies();
        let arns = self.arns_of_principals(&naming);
        for (owner, policy) in &naming {
            all.extend(of_unknown_ids(owner, policy, &arns));
        }
        for role in &roles {
            all.extend(of_trust(role, &arns));
            all.extend(self.of_trusted_saml_providers(role));
        }
        let mut buckets: Vec<_> = self.bucket_policies().collect();
        buckets.sort_by(|a, b| a.bucket.cmp(&b.bucket));
        all.extend(buckets.iter().filter_map(|policy| policy.warning()));
        all
    }

    /// Makes one sentence for each AWS managed policy that a user, group or role has and whose document is
    /// missing.
    fn of_missing_policies(&self, roles: &[&Arc<Role>]) -> Vec<String> {
        let mut all = Vec::new();
        let mut look = |kind: &str, owner: &str, policies: &EntityPolicies| {
            let missing = policies
                .named()
                .filter(|arn| is_aws_managed(arn) && self.managed(arn).is_none());
            all.extend(missing.map(|arn| closed_warning(&format!("{kind} {owner}"), arn)));
        };
        for user in self.users.values() {
            look("user", &user.arn, &user.policies);
        }
        for group in self.groups.values() {
            look("group", &group.folded, &group.policies);
        }
        for role in roles {
            look("role", &role.arn, &role.policies);
        }
        all.sort();
        all
    }

    /// Makes one sentence for each SAML provider whose metadata document is not accepted.
    fn of_saml_providers(&self) -> Vec<String> {
        let closed = self.saml_providers().filter_map(|provider| {
            let rule = provider.metadata.as_ref().err()?;
            Some(format!(
                "SAML provider {} cannot be used, because the broker does not accept the provider's metadata \
                 document: {rule}",
                provider.arn
            ))
        });
        let mut closed: Vec<String> = closed.collect();
        closed.sort();
        closed
    }

    /// Makes one sentence for each SAML provider that a role trusts although the provider does not exist, or belongs to
    /// another account and so can vouch for nobody who assumes the role.
    fn of_trusted_saml_providers(&self, role: &Role) -> Vec<String> {
        let named = strangers::saml_providers(&role.trust);
        let useless = named.into_iter().filter_map(|arn| {
            let why = match self.saml_provider(arn) {
                None => "which does not exist",
                Some(provider) if provider.account != role.account => {
                    "which belongs to another account: only providers of the role's own account count"
                }
                Some(_) => return None,
            };
            Some(format!(
                "the trust policy of role {} names the SAML provider {arn}, {why}",
                role.arn
            ))
        });
        useless.collect()
    }

    /// The trust policies of roles and the policies of buckets, by the names of their owners.
    fn naming_policies(&self) -> Vec<(Name, &Policy)> {
        let roles = self.roles.values();
        let roles = roles.map(|r| (Name::new(ResourceKind::Role, &*r.arn), &r.trust));
        let buckets = self.bucket_policies.values();
        let buckets =
            buckets.map(|b| (Name::new(ResourceKind::BucketPolicy, &*b.bucket), &b.policy));
        let mut all: Vec<_> = roles.chain(buckets).collect();
        all.sort_by(|a, b| a.0.cmp(&b.0));
        all
    }

    /// The ARNs of the users and roles that these policies name by unique id. The keys of the map are the ids.
    fn arns_of_principals(&self, policies: &[(Name, &Policy)]) -> HashMap<&str, &str> {
        let wanted: HashSet<&str> = policies
            .iter()
            .flat_map(|(_, policy)| policy.named_principals())
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

    /// The principals of known accounts that trust policies and bucket policies name by ARN, sorted by the policies'
    /// owners. A row of the store has such a principal if an earlier version of Brevet wrote the row, or if the account
    /// was unknown then. A file has one if it does not declare the user or role.
    fn named_by_arn(&self) -> Vec<NamedByArn<'_>> {
        let mut all = Vec::new();
        for (owner, policy) in self.naming_policies() {
            for named in policy.named_principals() {
                let NamedPrincipal::ByArn(principal) = named else {
                    continue;
                };
                let Some(named) = owners::Named::parse(principal) else {
                    continue;
                };
                let account = AccountId::parse(named.account())
                    .filter(|account| self.accounts.contains_key(account));
                let Some(account) = account else { continue };
                let is_here = match named {
                    owners::Named::User { arn, .. } => self.user(arn).is_some(),
                    owners::Named::Role { arn, .. } => self.role(arn).is_some(),
                    owners::Named::Session { role, .. } => self
                        .role_named(account, role)
                        .is_some_and(|found| *found.name == *role),
                };
                all.push(NamedByArn {
                    owner: owner.clone(),
                    principal,
                    is_here,
                });
            }
        }
        all.sort_by(|a, b| (&a.owner, a.principal).cmp(&(&b.owner, b.principal)));
        all
    }

    /// The roles and bucket policies that name principals of known accounts by ARN and should name
    /// them by unique id.
    pub fn bindable(&self) -> Vec<Name> {
        let named = self.named_by_arn().into_iter();
        let mut owners: Vec<Name> = named.map(|named| named.owner).collect();
        owners.dedup();
        owners
    }
}

/// The words with which messages refer to the trust policy of a role, or to the policy of a bucket.
pub fn naming_policy(owner: &Name) -> String {
    match owner.kind {
        ResourceKind::Role => format!("the trust policy of role {}", owner.id),
        _ => format!("the policy of bucket {}", owner.id),
    }
}

/// Makes one sentence for each unique id in a trust policy or bucket policy that no user or role has. `arns` has the
/// ARN of each unique id that a user or role has.
fn of_unknown_ids(owner: &Name, policy: &Policy, arns: &HashMap<&str, &str>) -> Vec<String> {
    let ids = policy.named_principals().filter_map(|named| match named {
        NamedPrincipal::ById(id) => Some(id),
        NamedPrincipal::ByArn(_) => None,
    });
    let gone: BTreeSet<&str> = ids.filter(|id| !arns.contains_key(id)).collect();
    let whose = naming_policy(owner);
    let sentence = |id| {
        format!(
            "{whose} names the unique id {id}, which no user or role has: remove the id from the policy"
        )
    };
    gone.into_iter().map(sentence).collect()
}

/// Makes one sentence if a role's trust policy is not in force, and one for each other account that the role
/// trusts without an external id.
fn of_trust(role: &Role, arns: &HashMap<&str, &str>) -> Vec<String> {
    let closed = role.closed.as_ref().map(|rule| {
        format!(
            "role {} trusts nobody, because its trust policy breaks a rule: {rule}",
            role.arn
        )
    });
    let arn = |id: &str| arns.get(id).copied();
    let foreign = strangers::without_external_id(&role.trust, role.account.as_str(), arn);
    let foreign = foreign
        .into_iter()
        .map(|who| external_id_warning(&role.arn, &who));
    closed.into_iter().chain(foreign).collect()
}

/// A principal that a policy names by ARN although its account is in the directory.
struct NamedByArn<'a> {
    owner: Name,
    principal: &'a str,
    /// Whether a user or role in the directory has the ARN.
    is_here: bool,
}

/// The warning about a resource with an AWS managed policy whose document is missing.
pub fn closed_warning(owner: &str, policy_arn: &str) -> String {
    format!(
        "{owner} is denied everything: the document of its policy `{policy_arn}` is missing and could deny anything; import the policy (for a deprecated one, with a document of your own) or detach it"
    )
}

/// The warning about a role that a principal of another account may assume without an external id.
pub fn external_id_warning(role: &str, principal: &str) -> String {
    format!(
        "role {role} trusts {principal} of another account without a condition on sts:ExternalId: if that account \
         acts on behalf of customers, any customer may be able to use this role through that account"
    )
}
