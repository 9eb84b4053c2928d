//! The rules for a declared organization: the forms of ids, the tree, and the attachments of policies.
//!
//! The sources are the AWS Organizations API Reference and the page "Quotas and service limits for AWS Organizations".
//! Everything to which a declaration refers must be declared too, because a missing policy could allow a request that
//! AWS denies.

use std::collections::{HashMap, HashSet};

use super::{
    FULL_AWS_ACCESS, OrganizationDetail, OrganizationPolicy, RESOURCE_CONTROL_POLICY,
    SERVICE_CONTROL_POLICY,
};
use crate::base::arn::AccountId;
use crate::directory::limits::Limits;
use crate::directory::shape::Document;

/// The maximum number of units from the root to an account.
pub(super) const MAX_DEPTH: usize = 5;
/// The maximum number of policies of one type that are attached to a root, unit or account.
const ATTACHED_PER_TARGET: usize = 10;

/// Checks the organization, and adds each broken rule to `limits`.
pub(super) fn check(organization: &OrganizationDetail, limits: &mut Limits<'_>) {
    for rule in broken(organization) {
        limits.invalid(rule);
    }
}

/// Checks the organization. Returns one sentence for each broken rule.
pub(super) fn broken(organization: &OrganizationDetail) -> Vec<String> {
    let mut all = Vec::new();
    if !is_id(&organization.id, "o-", 10..=32) {
        all.push("Id must be `o-` followed by 10 to 32 lower-case letters and digits".to_owned());
    }
    if AccountId::parse(&organization.master_account_id).is_none() {
        all.push("MasterAccountId must be twelve digits".to_owned());
    }
    check_tree(organization, &mut all);
    let mut ids = HashSet::new();
    for policy in &organization.policies {
        let id = &policy.policy_summary.id;
        if !ids.insert(id.as_str()) {
            all.push(format!("duplicate `{id}` in Policies"));
        }
        check_policy(policy, &mut all);
    }
    // Attachments can be checked only in a tree without faults.
    if all.is_empty() {
        check_attachments(organization, &mut all);
    }
    all
}

/// Whether a text is `prefix`, followed by as many lower-case letters and digits as `length` allows.
fn is_id(text: &str, prefix: &str, length: std::ops::RangeInclusive<usize>) -> bool {
    let legal = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    text.strip_prefix(prefix)
        .is_some_and(|rest| length.contains(&rest.len()) && rest.bytes().all(legal))
}

fn is_unit_id(text: &str) -> bool {
    let parts = text
        .strip_prefix("ou-")
        .and_then(|rest| rest.split_once('-'));
    parts.is_some_and(|(root, unit)| is_id(root, "", 4..=32) && is_id(unit, "", 8..=32))
}

fn check_tree(organization: &OrganizationDetail, all: &mut Vec<String>) {
    match organization.roots.as_slice() {
        [root] if is_id(&root.id, "r-", 4..=32) => {}
        [_] => all.push(
            "the Id of a root must be `r-` followed by 4 to 32 lower-case letters and digits"
                .to_owned(),
        ),
        roots => all.push(format!("Roots must have one member, not {}", roots.len())),
    }
    let mut parents = HashMap::new();
    for unit in &organization.organizational_units {
        if !is_unit_id(&unit.id) {
            all.push(format!(
                "`{}` in OrganizationalUnits must have the form `ou-ROOT-UNIT`, where ROOT has 4 to 32 and UNIT 8 to 32 \
                 lower-case letters and digits",
                unit.id
            ));
        }
        if parents
            .insert(unit.id.as_str(), unit.parent_id.as_str())
            .is_some()
        {
            all.push(format!("duplicate `{}` in OrganizationalUnits", unit.id));
        }
    }
    let roots: HashSet<&str> = organization
        .roots
        .iter()
        .map(|root| root.id.as_str())
        .collect();
    for (unit, parent) in &parents {
        if let Err(rule) = depth(parent, &parents, &roots) {
            all.push(format!("`{unit}` in OrganizationalUnits {rule}"));
        }
    }
    let mut accounts = HashSet::new();
    for account in &organization.accounts {
        let id = account.id.as_str();
        if AccountId::parse(id).is_none() {
            all.push(format!("`{id}` in Accounts must be twelve digits"));
        }
        if !accounts.insert(id) {
            all.push(format!("duplicate `{id}` in Accounts"));
        }
        if !parents.contains_key(account.parent_id.as_str())
            && !roots.contains(account.parent_id.as_str())
        {
            all.push(format!(
                "`{id}` in Accounts has the ParentId `{}`, which is neither the root nor a unit",
                account.parent_id
            ));
        }
    }
    if !accounts.contains(organization.master_account_id.as_str()) {
        all.push(format!(
            "Accounts must list the management account {}, which MasterAccountId names",
            organization.master_account_id
        ));
    }
    all.sort();
}

/// Returns how many levels a unit with this parent is below the root: 1 if the parent is the root. The error is the
/// rule that the place of the unit breaks.
fn depth(
    parent: &str,
    parents: &HashMap<&str, &str>,
    roots: &HashSet<&str>,
) -> Result<usize, String> {
    let mut at = parent;
    for depth in 1..=MAX_DEPTH {
        if roots.contains(at) {
            return Ok(depth);
        }
        match parents.get(at) {
            Some(next) => at = next,
            None => {
                return Err(format!(
                    "has the ParentId `{at}`, or is below a unit that has it, but `{at}` is neither the root nor a unit"
                ));
            }
        }
    }
    Err(format!(
        "is more than {MAX_DEPTH} levels below the root, or a unit is its own ancestor: correct the ParentId of this \
        unit or of a unit above it"
    ))
}

fn check_policy(policy: &OrganizationPolicy, all: &mut Vec<String>) {
    let id = &policy.policy_summary.id;
    let legal = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
    let is_policy_id = id
        .strip_prefix("p-")
        .is_some_and(|rest| (8..=128).contains(&rest.len()) && rest.bytes().all(legal));
    if !is_policy_id {
        all.push(format!(
            "`{id}` in Policies must be `p-` followed by 8 to 128 letters, digits and underscores"
        ));
    }
    if policy.kind().is_none() {
        all.push(format!(
            "`{id}` in Policies has the Type `{}`: only {SERVICE_CONTROL_POLICY} and {RESOURCE_CONTROL_POLICY} are \
            supported; leave this policy out",
            policy.policy_summary.r#type
        ));
    }
    if policy.is_implied() && !policy.content.as_ref().is_none_or(allows_only) {
        all.push(format!("`{id}` in Policies has the id of AWS's policy that allows everything, so it must not deny \
            anything"));
    }
    let mut targets = HashSet::new();
    for target in &policy.targets {
        if !targets.insert(target.target_id.as_str()) {
            all.push(format!(
                "duplicate target `{}` of `{id}` in Policies",
                target.target_id
            ));
        }
    }
}

/// Whether every statement of the document has the effect `Allow`.
fn allows_only(document: &Document) -> bool {
    let text = document.text().unwrap_or_default();
    let value: serde_json::Value = serde_json::from_str(&text).unwrap_or_default();
    let allows =
        |statement: &serde_json::Value| statement.get("Effect").is_some_and(|e| e == "Allow");
    match value.get("Statement") {
        Some(serde_json::Value::Array(all)) => all.iter().all(allows),
        Some(one) => allows(one),
        None => false,
    }
}

/// Checks that policies are attached only to the root, units and accounts of the organization, that their type may be
/// attached, that there are not too many at one place, and that each root, unit and account has a service control
/// policy if such policies are in force, because AWS never leaves one without.
fn check_attachments(organization: &OrganizationDetail, all: &mut Vec<String>) {
    let roots = organization.roots.iter().map(|root| root.id.as_str());
    let units = organization
        .organizational_units
        .iter()
        .map(|unit| unit.id.as_str());
    let accounts = organization
        .accounts
        .iter()
        .map(|account| account.id.as_str());
    let targets: Vec<&str> = roots.chain(units).chain(accounts).collect();
    let known: HashSet<&str> = targets.iter().copied().collect();
    let mut counts = HashMap::<(&str, &str), usize>::new();
    for policy in &organization.policies {
        let summary = &policy.policy_summary;
        for target in &policy.targets {
            let target = target.target_id.as_str();
            if !known.contains(target) {
                all.push(format!(
                    "`{}` in Policies is attached to `{target}`, which is neither the root nor a unit nor an account",
                    summary.id
                ));
            }
            *counts.entry((target, summary.r#type.as_str())).or_default() += 1;
        }
    }
    for ((target, kind), count) in &counts {
        if *count > ATTACHED_PER_TARGET {
            all.push(format!("`{target}` has {count} policies of the type {kind}, and at most {ATTACHED_PER_TARGET} are allowed"));
        }
    }
    for kind in [SERVICE_CONTROL_POLICY, RESOURCE_CONTROL_POLICY] {
        let attached = counts.keys().any(|(_, of)| *of == kind);
        if attached && !may_be_attached(organization, kind) {
            all.push(format!(
                "Policies of the type {kind} are attached, although the FeatureSet or the root's PolicyTypes do not \
                enable this type: enable the type, or detach these policies"
            ));
        }
    }
    if is_in_force(organization, SERVICE_CONTROL_POLICY) {
        for target in targets {
            if !counts.contains_key(&(target, SERVICE_CONTROL_POLICY)) {
                all.push(format!(
                    "no service control policy is attached to `{target}`, so every action would be denied there: \
                     attach one, such as `{FULL_AWS_ACCESS}`"
                ));
            }
        }
    }
    all.sort();
}

/// Whether policies of a type may be attached: the organization has all features, and the root lists the type. If the
/// root leaves out `PolicyTypes`, all types may be attached.
fn may_be_attached(organization: &OrganizationDetail, kind: &str) -> bool {
    let mut types = organization
        .roots
        .iter()
        .flat_map(|root| &root.policy_types)
        .peekable();
    let all_features = organization
        .feature_set
        .as_deref()
        .is_none_or(|set| set == "ALL");
    all_features && (types.peek().is_none() || types.any(|summary| summary.r#type == kind))
}

/// Whether policies of a type are in force: the root enables the type, or a policy of the type is attached.
pub(super) fn is_in_force(organization: &OrganizationDetail, kind: &str) -> bool {
    let mut types = organization
        .roots
        .iter()
        .flat_map(|root| &root.policy_types);
    let mut policies = organization.policies.iter();
    types.any(|summary| summary.r#type == kind && summary.status == "ENABLED")
        || policies.any(|policy| policy.policy_summary.r#type == kind && !policy.targets.is_empty())
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn organization() -> Value {
        let all = [
            "r-exam",
            "ou-exam-11111111",
            "ou-exam-22222222",
            "999988887777",
            "111122223333",
        ];
        let targets = all.map(|id| json!({"TargetId": id}));
        let content = json!({"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "*", "Resource": "*"}]});
        json!({
            "Id": "o-exampleorgid", "MasterAccountId": "999988887777", "FeatureSet": "ALL",
            "Roots": [{"Id": "r-exam", "PolicyTypes": [{"Type": SERVICE_CONTROL_POLICY, "Status": "ENABLED"}]}],
            "OrganizationalUnits": [{"Id": "ou-exam-22222222", "ParentId": "ou-exam-11111111"},
                {"Id": "ou-exam-11111111", "ParentId": "r-exam"}],
            "Accounts": [{"Id": "999988887777", "ParentId": "r-exam"}, {"Id": "111122223333", "ParentId": "ou-exam-22222222"}],
            "Policies": [{"PolicySummary": {"Id": "p-FullAWSAccess", "Type": SERVICE_CONTROL_POLICY, "AwsManaged": true},
                "Content": content, "Targets": targets}],
        })
    }

    /// The rules that it breaks once a value is put at a place.
    fn with(place: &str, value: Value) -> Vec<String> {
        let mut changed = organization();
        let (parent, last) = place.rsplit_once('/').unwrap();
        match changed.pointer_mut(parent).unwrap() {
            Value::Object(fields) => {
                fields.insert(last.to_owned(), value);
            }
            Value::Array(list) => list.push(value),
            _ => panic!("{place}"),
        }
        let declared: OrganizationDetail = serde_json::from_value(changed).unwrap();
        broken(&declared)
    }

    #[test]
    fn what_aws_would_not_have_is_refused_with_the_rule() {
        let declared: OrganizationDetail = serde_json::from_value(organization()).unwrap();
        assert_eq!(broken(&declared), [""; 0]);
        let scp = |id: &str, kind: &str, targets: Value| {
            json!({"PolicySummary": {"Id": id, "Type": kind}, "Targets": targets,
                "Content": {"Version": "2012-10-17", "Statement": [{"Effect": "Deny", "Principal": "*", "Action": "sts:*", "Resource": "*"}]}})
        };
        let unit = "ou-exam-11111111";
        for (place, value, rule) in [
            ("/Id", json!("o-short"), "Id must be `o-`"),
            (
                "/MasterAccountId",
                json!("1"),
                "MasterAccountId must be twelve digits",
            ),
            (
                "/MasterAccountId",
                json!("222233334444"),
                "must list the management account",
            ),
            (
                "/Roots/-",
                json!({"Id": "r-second"}),
                "must have one member, not 2",
            ),
            ("/Roots/0/Id", json!("root"), "the Id of a root"),
            (
                "/OrganizationalUnits/-",
                json!({"Id": unit, "ParentId": "r-exam"}),
                "duplicate `ou-exam-11111111`",
            ),
            (
                "/OrganizationalUnits/-",
                json!({"Id": "unit", "ParentId": "r-exam"}),
                "must have the form `ou-ROOT-UNIT`",
            ),
            (
                "/OrganizationalUnits/1/ParentId",
                json!("ou-exam-22222222"),
                "is its own ancestor",
            ),
            (
                "/OrganizationalUnits/1/ParentId",
                json!("r-other"),
                "neither the root nor a unit",
            ),
            (
                "/Accounts/1/ParentId",
                json!("ou-exam-99999999"),
                "neither the root nor a unit",
            ),
            (
                "/Accounts/-",
                json!({"Id": "111122223333", "ParentId": "r-exam"}),
                "duplicate `111122223333`",
            ),
            // It has no policy of its own, so that AWS would allow nothing there.
            (
                "/Accounts/-",
                json!({"Id": "222233334444", "ParentId": "r-exam"}),
                "no service control policy is attached to `222233334444`",
            ),
            (
                "/Policies/-",
                scp(
                    "p-other000",
                    SERVICE_CONTROL_POLICY,
                    json!([{"TargetId": "ou-exam-99999999"}]),
                ),
                "is attached to `ou-exam-99999999`",
            ),
            (
                "/Policies/-",
                scp(
                    "p-other000",
                    SERVICE_CONTROL_POLICY,
                    json!([{"TargetId": unit}, {"TargetId": unit}]),
                ),
                "duplicate target",
            ),
            (
                "/Policies/-",
                scp("p-FullAWSAccess", SERVICE_CONTROL_POLICY, json!([])),
                "duplicate `p-FullAWSAccess`",
            ),
            (
                "/Policies/-",
                scp("p-tags0000", "TAG_POLICY", json!([])),
                "has the Type `TAG_POLICY`",
            ),
            (
                "/Policies/-",
                scp("other", SERVICE_CONTROL_POLICY, json!([])),
                "must be `p-`",
            ),
            (
                "/Policies/-",
                scp("p-RCPFullAWSAccess", RESOURCE_CONTROL_POLICY, json!([])),
                "must not deny anything",
            ),
            (
                "/Policies/-",
                scp(
                    "p-perimeter",
                    RESOURCE_CONTROL_POLICY,
                    json!([{"TargetId": unit}]),
                ),
                "do not enable this type",
            ),
            (
                "/FeatureSet",
                json!("CONSOLIDATED_BILLING"),
                "do not enable this type",
            ),
        ] {
            let found = with(place, value.clone());
            assert!(
                found.iter().any(|found| found.contains(rule)),
                "{place} {value}: {found:?}"
            );
        }
    }

    #[test]
    fn units_may_be_nested_five_deep() {
        let nested = |depth: usize| {
            let mut declared: OrganizationDetail = serde_json::from_value(organization()).unwrap();
            declared.policies.clear();
            declared.roots[0].policy_types.clear();
            declared.organizational_units = (0..depth)
                .map(|n| super::super::OrganizationalUnit {
                    id: format!("ou-exam-{n:08}"),
                    parent_id: match n {
                        0 => "r-exam".to_owned(),
                        n => format!("ou-exam-{:08}", n - 1),
                    },
                    ..Default::default()
                })
                .collect();
            declared.accounts[1].parent_id = format!("ou-exam-{:08}", depth - 1);
            broken(&declared)
        };
        assert_eq!(nested(MAX_DEPTH), [""; 0]);
        assert!(nested(MAX_DEPTH + 1)[0].contains("more than 5 levels"));
    }
}
