//! What `brevet policy check` warns of, for the policies of a thing that is declared.

use crate::directory::declaration::{Document, InlinePolicy};
use crate::directory::resource::Resource;
use crate::evaluator::Kind;
use crate::evaluator::lint::lint;

/// A sentence for each finding, with the thing and the policy.
pub(super) fn warnings(thing: &Resource) -> Vec<String> {
    let mut all = Vec::new();
    let name = thing.name();
    let mut look = |kind: Kind, place: &str, document: Option<&Document>| {
        let Some(text) = document.and_then(|d| d.text().ok()) else {
            return;
        };
        let findings = lint(kind, &text, Some(thing.account()));
        // Trust in other accounts without an external id is told of with the names of both.
        let said = |check: &str| kind == Kind::Trust && check == "confused-deputy";
        let findings = findings
            .iter()
            .filter(|f| f.level == "warning" && !said(f.check));
        all.extend(findings.map(|f| {
            format!(
                "{name}: {place}: {} [{}] at {}",
                f.message, f.check, f.pointer
            )
        }));
    };
    let mut inline = |list: &[InlinePolicy]| {
        for policy in list {
            look(
                Kind::Identity,
                &format!("inline policy {}", policy.policy_name),
                policy.policy_document.as_ref(),
            );
        }
    };
    match thing {
        Resource::User(user) => inline(&user.user_policy_list),
        Resource::Group(group) => inline(&group.group_policy_list),
        Resource::Role(role) => {
            inline(&role.role_policy_list);
            look(
                Kind::Trust,
                "AssumeRolePolicyDocument",
                role.assume_role_policy_document.as_ref(),
            );
        }
        Resource::Policy(policy) => {
            for version in &policy.policy_version_list {
                look(
                    Kind::Identity,
                    &format!("version {}", version.version_id),
                    version.document.as_ref(),
                );
            }
        }
        _ => {}
    }
    all
}
