//! Warnings about the principals of Allow statements, such as everybody, another account without an external id, or an
//! identity provider without a condition on its tokens.

use super::who::is_named;
use crate::evaluator::condition::Condition;
use crate::evaluator::kind::PolicyKind;
use crate::evaluator::principals::{PrincipalPattern, Principals};
use crate::evaluator::shared_issuers::is_unbound;
use crate::evaluator::statement::Statement;
use crate::evaluator::strangers;

/// Warns about principals that a statement allows, but that its author probably did not intend to allow.
pub(super) fn check(
    kind: PolicyKind,
    statement: &Statement,
    account: Option<&str>,
    warn: &mut impl FnMut(&'static str, String),
) {
    let bound = |suffix: &str| {
        statement
            .conditions
            .iter()
            .any(|c| c.needs_its_key() && c.key().ends_with(suffix))
    };
    match &statement.principals {
        Principals::Implied => {}
        Principals::AreNot(_) => {
            warn(
                "not-principal-allow",
                "NotPrincipal with Allow allows everybody who is not listed, even people outside your accounts: list \
                 the allowed principals in Principal instead".to_owned(),
            );
        }
        Principals::Are(patterns) => {
            for pattern in patterns {
                match pattern {
                    PrincipalPattern::Any | PrincipalPattern::AnyAws
                        if !statement.conditions.iter().any(Condition::restricts) =>
                    {
                        let message = "Principal `*` allows everybody, and no condition restricts the principal: name \
                            the principals, or add a condition that only your principals meet";
                        warn("public", message.to_owned());
                    }
                    PrincipalPattern::Any | PrincipalPattern::AnyAws if !is_named(statement) => {
                        let message = "Principal `*` allows everybody who meets the conditions, and none of these \
                            restricts the principal: add a condition on aws:PrincipalAccount or aws:PrincipalArn";
                        warn("public", message.to_owned());
                    }
                    _ if kind == PolicyKind::Trust
                        && let Some(other) =
                            account.and_then(|own| strangers::foreign(pattern, own))
                        && !strangers::demands_external_id(&statement.conditions) =>
                    {
                        let message = format!(
                            "{other} could be made to act for a third party (the confused deputy problem): add a condition on sts:ExternalId"
                        );
                        warn("confused-deputy", message);
                    }
                    PrincipalPattern::Federated(provider) if kind == PolicyKind::Trust => {
                        federated(provider, statement, warn)
                    }
                    PrincipalPattern::Service(service)
                        if !bound("aws:sourcearn")
                            && !bound("aws:sourceaccount")
                            && !bound("aws:sourceorgid")
                            && kind == PolicyKind::Resource =>
                    {
                        warn(
                            "confused-deputy",
                            format!(
                                "{service} acts on behalf of any account: add a condition on aws:SourceArn or aws:SourceAccount"
                            ),
                        );
                    }
                    _ => {}
                }
            }
        }
    }
}

/// Warns if an OIDC provider is built into AWS but not into Brevet, or if the conditions do not say for which audience
/// and for whom tokens of the provider are accepted.
fn federated(provider: &str, statement: &Statement, warn: &mut impl FnMut(&'static str, String)) {
    if provider.contains(":saml-provider/") {
        return;
    }
    if let Some(instead) = strangers::instead_of_built_in(provider) {
        warn(
            "built-in-provider",
            format!(
                "`{provider}` is built into AWS but not into Brevet; {instead}, and name the ARN of that provider \
                instead"
            ),
        );
        return;
    }
    let on = |claim: &str| -> Vec<&Condition> {
        statement
            .conditions
            .iter()
            .filter(|c| c.needs_its_key() && c.key().ends_with(claim))
            .collect()
    };
    if on(":aud").is_empty() {
        warn(
            "no-audience",
            format!(
                "tokens of `{provider}` are accepted for every audience in its ClientIDList: add a condition on its `:aud` key"
            ),
        );
    }
    let subjects = on(":sub");
    let wide = |c: &&Condition| {
        c.wanted()
            .iter()
            .any(|w| w.trim_start_matches("repo:").starts_with('*') || &**w == "*")
    };
    if subjects.is_empty() {
        warn(
            "wildcard-subject",
            format!(
                "no condition restricts the subject of the tokens of `{provider}`: add a condition on its `:sub` key"
            ),
        );
    } else if subjects.iter().any(wide) {
        warn(
            "wildcard-subject",
            format!(
                "a pattern for subjects of `{provider}` begins with `*` or `repo:*`: begin the pattern with the part that only your subjects have"
            ),
        );
    }
    if is_unbound(provider, &statement.conditions) {
        let message = format!(
            "anybody can get tokens of `{provider}`, and no condition restricts their subject: the broker refuses a \
             role with this trust policy, unless a tag `brevet:unbound-subject` of the role names the issuer"
        );
        warn("unbound-subject", message);
    }
}
