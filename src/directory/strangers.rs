//! Rules against trust policies that allow everybody, or every user of an identity provider that many organisations
//! share, and the tags of a role that override these rules.

use super::{DirectoryError, fault};
use crate::base::arn::account_of;
use crate::base::names::Tag;
use crate::evaluator::{Policy, strangers};

/// The tag of a role that may trust a shared issuer without a condition on the subject. Its value
/// is the issuer without `https://`, or several issuers separated by spaces.
pub const UNBOUND_SUBJECT: &str = "brevet:unbound-subject";
/// The tag of a role that may trust everybody without a condition that keeps strangers out. Its
/// value is `true`.
pub const PUBLIC: &str = "brevet:public";

/// Checks whom a trust policy allows. Returns those of the role's tags [`UNBOUND_SUBJECT`] and [`PUBLIC`] that switch
/// off a rule which the policy would otherwise break.
///
/// # Errors
/// A text with the rule that is broken and not overridden, and with the tag that would override it.
pub(super) fn overriding_tags(trust: &Policy, tags: &[Tag]) -> Result<Vec<String>, String> {
    let value = |key: &str| tags.iter().find(|t| t.key == key).map(|t| t.value.as_str());
    let mut overridden = Vec::new();
    if let Some(at) = strangers::public_statement(trust) {
        if value(PUBLIC) != Some("true") {
            return Err(format!(
                "Statement[{at}] allows everybody: its Principal is `*`, and no condition restricts the principal; name \
                 the principals, or tag the role with `{PUBLIC}` = `true`"
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
                "anybody can get tokens of `{issuer}` ({name}): add a condition on `{control}`, or on another claim \
                 that identifies the owner, without a wildcard before the owner's name; or tag the role with \
                 `{UNBOUND_SUBJECT}` = `{issuer}`"
            ));
        }
        overridden.push(format!("{UNBOUND_SUBJECT} = {}", issuer.issuer));
    }
    Ok(overridden)
}

/// Refuses a trust policy that allows everybody, and thereby all tenants of a shared issuer, if the role's account has
/// a provider with this issuer. A policy that is meant to allow them must name the provider.
///
/// # Errors
/// [`DirectoryError`] with the provider that a role would trust for all tenants.
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
                "Principal `*` would allow anybody with a token of `{provider}`, which anybody can get: name the \
                 principals, or name the provider and add a condition on the subject of its tokens"
            );
            Err(fault(place, rule))
        }
    }
}
