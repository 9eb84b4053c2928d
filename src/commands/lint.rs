//! The findings of `brevet policy check` for the policies of a declared resource.

use crate::directory::resource::Resource;
use crate::evaluator::PolicyKind;
use crate::evaluator::lint::lint;

/// Makes one sentence for each warning, with the names of the resource and the policy.
pub(super) fn warnings(resource: &Resource) -> Vec<String> {
    let name = resource.name();
    let mut all = Vec::new();
    for policy in resource.policies() {
        let Some(text) = policy.document.and_then(|d| d.text().ok()) else {
            continue;
        };
        let findings = lint(policy.kind, &text, Some(resource.account()));
        // Trust in other accounts without an external id has its own warning, which names both
        // sides.
        let is_said = |check: &str| policy.kind == PolicyKind::Trust && check == "confused-deputy";
        let findings = findings
            .iter()
            .filter(|f| f.level == "warning" && !is_said(f.check));
        all.extend(findings.map(|f| {
            let (place, message) = (&policy.place, &f.message);
            format!("{name}: {place}: {message} [{}] at {}", f.check, f.pointer)
        }));
    }
    all
}
