//! Rules on trust policies that would let in somebody whom their author cannot mean, and the tags of a
//! role that override them.

use super::{DirectoryError, fault};
use crate::base::arn::account_of;
use crate::base::names::Tag;
use crate::evaluator::{Policy, strangers};

/// The tag of a role that trusts a shared issuer whoever the subject is; its value is the issuer
/// without `https://` (several of them with spaces between).
pub const UNBOUND_SUBJECT: &str = "brevet:unbound-subject";
/// The tag of a role that lets in everybody without a condition that keeps strangers out; its value is `true`.
pub const PUBLIC: &str = "brevet:public";

/// The tags of a role that override a rule on whom its trust policy lets in.
///
/// # Errors
/// The rule that no tag overrides, and the tag that would.
pub(super) fn overriding_tags(trust: &Policy, tags: &[Tag]) -> Result<Vec<String>, String> {
    let value = |key: &str| tags.iter().find(|t| t.key == key).map(|t| t.value.as_str());
    let mut overridden = Vec::new();
    if let Some(at) = strangers::public_statement(trust) {
        if value(PUBLIC) != Some("true") {
            return Err(format!(
                "statement {at} lets in everybody: its Principal is `*`, and no condition demands what a stranger does not have; name who is meant, or tag the role `{PUBLIC}` = `true`"
            ));
        }
        overridden.push(format!("{PUBLIC} = true"));
    }
    for issuer in strangers::unbound_issuers(trust) {
        let named = value(UNBOUND_SUBJECT)
            .is_some_and(|issuers| issuers.split(' ').any(|i| i == issuer.issuer));
        if !named {
            let (issuer, name, control) = (issuer.issuer, issuer.name, issuer.control);
            return Err(format!(
                "anybody can get tokens of `{issuer}` ({name}): bind `{control}`, or a claim that names an owner as well, to a value without a wildcard before the owner; or tag the role `{UNBOUND_SUBJECT}` = `{issuer}`"
            ));
        }
        overridden.push(format!("{UNBOUND_SUBJECT} = {}", issuer.issuer));
    }
    Ok(overridden)
}

/// A role that trusts everybody does not thereby trust the tenants of a shared issuer that its account
/// has a provider for: whoever means them names the provider.
///
/// # Errors
/// Names the provider.
pub fn check_everybody(
    place: &str,
    role: &str,
    trust: &Policy,
    providers: &[&str],
) -> Result<(), DirectoryError> {
    let own: Vec<&str> = providers
        .iter()
        .copied()
        .filter(|p| account_of(p) == account_of(role))
        .collect();
    match strangers::unbound_by_everybody(trust, &own) {
        None => Ok(()),
        Some(provider) => {
            let rule = format!(
                "Principal `*` would let in whoever has a token of `{provider}`, which anybody can get: name the principals, or the provider with a condition on whose tokens are meant"
            );
            Err(fault(place, rule))
        }
    }
}
