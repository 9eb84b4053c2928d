//! The compiled organization: which control policies apply to the principals and the resources of
//! each account.

use std::collections::HashMap;
use std::sync::Arc;

use super::{OrganizationDetail, RESOURCE_CONTROL_POLICY, SERVICE_CONTROL_POLICY, rules};
use crate::base::arn::AccountId;
use crate::directory::compile::compile;
use crate::directory::{DirectoryError, fault};
use crate::evaluator::{Policy, PolicyKind, Source};

/// The organization in a snapshot, with its policies compiled.
#[derive(Debug)]
pub struct Organization {
    /// The id, `o-…`.
    pub id: Box<str>,
    members: HashMap<AccountId, Member>,
}

/// The place of an account in the organization, and the policies of each level above it.
#[derive(Debug)]
pub struct Member {
    /// The value of `aws:PrincipalOrgID`.
    pub organization: Arc<str>,
    /// The value of `aws:PrincipalOrgPaths`: the ids from the organization to the account's parent,
    /// each followed by a slash.
    pub path: Box<str>,
    /// The levels from the root down to the account; empty for the management account, which control
    /// policies do not bind.
    levels: Box<[Arc<Level>]>,
    /// Whether each level must have a service control policy that allows the request.
    has_service_control: bool,
}

/// The control policies that are attached to one root, unit or account.
#[derive(Debug)]
struct Level {
    target: Box<str>,
    service: Box<[Arc<ControlPolicy>]>,
    resource: Box<[Arc<ControlPolicy>]>,
}

/// A service or resource control policy.
#[derive(Debug)]
pub struct ControlPolicy {
    /// The id, `p-…`.
    pub id: Box<str>,
    /// The name that the policy's author gave it; empty if it has none.
    pub name: Box<str>,
    policy: Policy,
}

/// Policies, grouped by the level to which they are attached, from the root down.
pub type Levels<'a> = Vec<Vec<&'a Policy>>;

impl Organization {
    /// Compiles a declared organization and its policies.
    ///
    /// # Errors
    /// [`DirectoryError`] for the first rule that is broken.
    pub(super) fn compile(
        declared: &OrganizationDetail,
        place: &str,
    ) -> Result<Self, DirectoryError> {
        if let Some(rule) = rules::broken(declared).into_iter().next() {
            return Err(fault(place, rule));
        }
        let attached = attached(declared, place)?;
        let level = |target: &str| {
            let of = |kind: PolicyKind| {
                let attached = attached.get(&(target, kind)).map(Vec::as_slice);
                attached.unwrap_or_default().into()
            };
            Arc::new(Level {
                target: target.into(),
                service: of(PolicyKind::ServiceControl),
                resource: of(PolicyKind::ResourceControl),
            })
        };
        let organization: Arc<str> = declared.id.as_str().into();
        let parents: HashMap<&str, &str> = declared
            .organizational_units
            .iter()
            .map(|unit| (unit.id.as_str(), unit.parent_id.as_str()))
            .collect();
        let roots = declared.roots.iter().map(|root| root.id.as_str());
        let above: HashMap<&str, Arc<Level>> = roots
            .chain(parents.keys().copied())
            .map(|target| (target, level(target)))
            .collect();
        let has_service_control = rules::is_in_force(declared, SERVICE_CONTROL_POLICY);
        let mut members = HashMap::with_capacity(declared.accounts.len());
        for account in &declared.accounts {
            let Some(id) = AccountId::parse(&account.id) else {
                return Err(fault(
                    place,
                    "the Id of each account in Accounts must be twelve digits",
                ));
            };
            // The rules have checked that this ends at the root.
            let mut ids = vec![account.parent_id.as_str()];
            while let Some(parent) = ids.last().and_then(|id| parents.get(id)) {
                ids.push(parent);
            }
            ids.reverse();
            let is_management = account.id == declared.master_account_id;
            let levels = match is_management {
                true => Box::default(),
                false => {
                    let above = ids.iter().filter_map(|id| above.get(id)).cloned();
                    above.chain([level(&account.id)]).collect()
                }
            };
            let path = std::iter::once(&*organization).chain(ids.iter().copied());
            let member = Member {
                path: path.map(|id| format!("{id}/")).collect::<String>().into(),
                organization: organization.clone(),
                levels,
                has_service_control: has_service_control && !is_management,
            };
            members.insert(id, member);
        }
        Ok(Self {
            id: declared.id.as_str().into(),
            members,
        })
    }

    /// Where an account is in the organization; `None` if it does not belong to it.
    pub fn member(&self, account: AccountId) -> Option<&Member> {
        self.members.get(&account)
    }
}

/// Compiled policies, by the id of the root, unit or account and by kind.
type Attached<'a> = HashMap<(&'a str, PolicyKind), Vec<Arc<ControlPolicy>>>;

/// Compiles the policies, and groups them by the id of the root, unit or account and by kind, in
/// the order of the declaration.
fn attached<'a>(
    declared: &'a OrganizationDetail,
    place: &str,
) -> Result<Attached<'a>, DirectoryError> {
    let mut attached = Attached::new();
    for policy in &declared.policies {
        let Some(kind) = policy.kind() else {
            let rule = format!(
                "each policy in Policies must have the Type {SERVICE_CONTROL_POLICY} or {RESOURCE_CONTROL_POLICY}"
            );
            return Err(fault(place, rule));
        };
        if policy.is_implied() {
            continue;
        }
        let place = format!("{place}: {}: Content", policy.place());
        let compiled = Arc::new(ControlPolicy {
            id: policy.policy_summary.id.as_str().into(),
            name: policy
                .policy_summary
                .name
                .as_deref()
                .unwrap_or_default()
                .into(),
            policy: compile(&place, kind, policy.content.as_ref())?,
        });
        for target in &policy.targets {
            let key = (target.target_id.as_str(), kind);
            attached.entry(key).or_default().push(compiled.clone());
        }
    }
    Ok(attached)
}

impl Member {
    /// The service control policies that bind the account's principals, from the root down. `None` if service control
    /// policies are not in force, or the account is the management account.
    pub fn service_control(&self) -> Option<Levels<'_>> {
        self.has_service_control
            .then(|| self.by_level(|level| &level.service))
    }

    /// The resource control policies that bind the account's resources, from the root down. `None` if
    /// there is none.
    pub fn resource_control(&self) -> Option<Levels<'_>> {
        let any = self.levels.iter().any(|level| !level.resource.is_empty());
        any.then(|| self.by_level(|level| &level.resource))
    }

    fn by_level(&self, of: fn(&Level) -> &[Arc<ControlPolicy>]) -> Levels<'_> {
        let levels = self.levels.iter();
        levels
            .map(|level| of(level).iter().map(|control| &control.policy).collect())
            .collect()
    }

    /// The policy to which a statement belongs, and the root, unit or account to which it is attached.
    /// `None` if the statement belongs to a policy of another kind.
    pub fn attached(&self, source: Source) -> Option<(&ControlPolicy, &str)> {
        let (level, policies, at) = match source {
            Source::ServiceControl(level, at) => {
                let level = self.levels.get(level)?;
                (level, &level.service, at)
            }
            Source::ResourceControl(level, at) => {
                let level = self.levels.get(level)?;
                (level, &level.resource, at)
            }
            _ => return None,
        };
        Some((policies.get(at)?, &level.target))
    }

    /// The id of the root, unit or account at this level, where 0 is the root; `None` if there is no such level.
    pub fn target(&self, level: usize) -> Option<&str> {
        self.levels.get(level).map(|level| &*level.target)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn levels_go_from_the_root_to_the_account_and_the_management_account_has_none() {
        let targets = |ids: &[&str]| -> Vec<serde_json::Value> {
            ids.iter().map(|id| json!({"TargetId": id})).collect()
        };
        let all = [
            "r-exam",
            "ou-exam-11111111",
            "ou-exam-22222222",
            "999988887777",
            "111122223333",
            "444455556666",
        ];
        let denies = json!({"Version": "2012-10-17", "Statement": [{"Effect": "Deny", "Principal": "*", "Action": "sts:*", "Resource": "*"}]});
        let declared = json!({
            "Id": "o-exampleorgid", "MasterAccountId": "999988887777", "Roots": [{"Id": "r-exam"}],
            "OrganizationalUnits": [{"Id": "ou-exam-22222222", "ParentId": "ou-exam-11111111"},
                {"Id": "ou-exam-11111111", "Path": "o-exampleorgid/r-exam/ou-exam-11111111/"}],
            "Accounts": [{"Id": "999988887777", "ParentId": "r-exam"}, {"Id": "444455556666", "ParentId": "r-exam"},
                {"Id": "111122223333", "Paths": ["o-exampleorgid/r-exam/ou-exam-11111111/ou-exam-22222222/111122223333/"]}],
            "Policies": [
                {"PolicySummary": {"Id": "p-FullAWSAccess", "Type": SERVICE_CONTROL_POLICY}, "Targets": targets(&all)},
                {"PolicySummary": {"Id": "p-RCPFullAWSAccess", "Type": RESOURCE_CONTROL_POLICY}, "Targets": targets(&all)},
                {"PolicySummary": {"Id": "p-perimeter", "Name": "P", "Type": RESOURCE_CONTROL_POLICY}, "Content": denies,
                    "Targets": targets(&["ou-exam-22222222", "111122223333"])}],
        });
        let mut declared: OrganizationDetail = serde_json::from_value(declared).unwrap();
        crate::directory::declared::Declared::drop_what_is_observed(&mut declared);
        let organization = Organization::compile(&declared, "Organization").unwrap();
        let member = |id: &str| organization.member(AccountId::parse(id).unwrap());
        let deep = member("111122223333").unwrap();
        assert_eq!(
            &*deep.path,
            "o-exampleorgid/r-exam/ou-exam-11111111/ou-exam-22222222/"
        );
        let counts = |levels: Option<Levels<'_>>| -> Option<Vec<usize>> {
            levels.map(|levels| levels.iter().map(Vec::len).collect())
        };
        assert_eq!(counts(deep.service_control()), Some(vec![1, 1, 1, 1]));
        assert_eq!(counts(deep.resource_control()), Some(vec![0, 0, 1, 1]));
        let (policy, target) = deep.attached(Source::ResourceControl(2, 0)).unwrap();
        assert_eq!(
            (&*policy.id, &*policy.name, target),
            ("p-perimeter", "P", "ou-exam-22222222")
        );
        assert!(deep.attached(Source::ResourceControl(0, 0)).is_none());
        let flat = member("444455556666").unwrap();
        assert_eq!(&*flat.path, "o-exampleorgid/r-exam/");
        assert_eq!(counts(flat.service_control()), Some(vec![1, 1]));
        assert_eq!(counts(flat.resource_control()), None);
        let management = member("999988887777").unwrap();
        assert_eq!(&*management.path, "o-exampleorgid/r-exam/");
        assert!(management.service_control().is_none() && management.resource_control().is_none());
        assert!(member("222233334444").is_none());
    }
}
