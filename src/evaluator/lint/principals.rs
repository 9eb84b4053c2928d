//! Whom an Allow statement lets in: everybody, another account without an external id, or an identity
//! provider whose tokens are not bound.

use super::who::is_named;
use crate::evaluator::condition::Condition;
use crate::evaluator::kind::Kind;
use crate::evaluator::principals::{PrincipalPattern, Principals};
use crate::evaluator::shared_issuers::is_unbound;
use crate::evaluator::statement::Statement;
use crate::evaluator::strangers;

/// Whom a statement lets in although its author can hardly mean it.
pub(super) fn check(
    kind: Kind,
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
                "NotPrincipal with Allow lets in everybody else, strangers included".to_owned(),
            );
        }
        Principals::Are(patterns) => {
            for pattern in patterns {
                match pattern {
                    PrincipalPattern::Any | PrincipalPattern::AnyAws
                        if !statement.conditions.iter().any(Condition::restricts) =>
                    {
                        let message = "Principal `*` lets in everybody: no condition demands anything that a stranger \
                                       does not have";
                        warn("public", message.to_owned());
                    }
                    PrincipalPattern::Any | PrincipalPattern::AnyAws if !is_named(statement) => {
                        let message = "Principal `*` lets in everybody who meets the conditions, and none of them \
                                       says who is meant: demand an aws:PrincipalAccount or aws:PrincipalArn";
                        warn("public", message.to_owned());
                    }
                    _ if kind == Kind::Trust
                        && let Some(other) =
                            account.and_then(|own| strangers::foreign(pattern, own))
                        && !strangers::demands_external_id(&statement.conditions) =>
                    {
                        let message =
                            format!("{other} may act for a third party: demand an sts:ExternalId");
                        warn("confused-deputy", message);
                    }
                    PrincipalPattern::Federated(provider) if kind == Kind::Trust => {
                        federated(provider, statement, warn)
                    }
                    PrincipalPattern::Service(service)
                        if !bound("aws:sourcearn")
                            && !bound("aws:sourceaccount")
                            && !bound("aws:sourceorgid")
                            && kind == Kind::Resource =>
                    {
                        warn(
                            "confused-deputy",
                            format!(
                                "{service} acts for any account: demand an aws:SourceArn or aws:SourceAccount"
                            ),
                        );
                    }
                    _ => {}
                }
            }
        }
    }
}

/// Who trusts an OIDC provider must say whose tokens are meant.
fn federated(provider: &str, statement: &Statement, warn: &mut impl FnMut(&'static str, String)) {
    if provider.contains(":saml-provider/") {
        return;
    }
    if let Some(instead) = strangers::instead_of_built_in(provider) {
        warn(
            "built-in-provider",
            format!("`{provider}` is built in to AWS and not here: {instead}, and name its ARN"),
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
            format!("tokens of `{provider}` for any audience are taken: bind `:aud`"),
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
            format!("every subject of `{provider}` is let in: bind `:sub`"),
        );
    } else if subjects.iter().any(wide) {
        warn(
            "wildcard-subject",
            format!("subjects of `{provider}` are bound by a pattern that begins with `*`"),
        );
    }
    if is_unbound(provider, &statement.conditions) {
        let message = format!(
            "anybody can get tokens of `{provider}`, and no condition says whose are meant: a role with this policy is refused"
        );
        warn("unbound-subject", message);
    }
}
