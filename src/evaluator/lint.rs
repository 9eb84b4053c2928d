//! What is legal and most likely not meant: findings with their places.
//!
//! The checks are those that AWS's Access Analyzer warns of, and one of our own: a condition on a
//! key that no request to this broker has, where that decides the outcome.

use serde::Serialize;

use super::condition::Condition;
use super::document::{Effect, Kind, ParseError, Policy, PrincipalPattern, Principals, Statement};
use super::keys;
use super::strangers;

/// Something to look at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// `error` (the document is refused) or `warning`.
    pub level: &'static str,
    /// A short name of the check.
    pub check: &'static str,
    /// What is the matter.
    pub message: String,
    /// JSON pointer.
    pub pointer: String,
    /// Counted from 1.
    pub line: usize,
    /// Counted from 1.
    pub column: usize,
}

impl From<ParseError> for Finding {
    fn from(error: ParseError) -> Self {
        Self {
            level: "error",
            check: "malformed",
            message: error.rule.into_owned(),
            pointer: error.place.pointer,
            line: error.place.line,
            column: error.place.column,
        }
    }
}

/// Checks a document. `account`, if known, is its owner: principals of others are foreign.
pub fn lint(kind: Kind, text: &str, account: Option<&str>) -> Vec<Finding> {
    let policy = match Policy::parse(kind, text) {
        Ok(policy) => policy,
        Err(error) => return vec![error.into()],
    };
    let mut findings = Vec::new();
    for (i, statement) in policy.statements.iter().enumerate() {
        let mut warn = |check, message: String| {
            let (line, column) = statement.begins;
            findings.push(Finding {
                level: "warning",
                check,
                message,
                pointer: format!("/Statement/{i}"),
                line,
                column,
            });
        };
        if statement.effect == Effect::Allow {
            principals(kind, statement, account, &mut warn);
        }
        for condition in &*statement.conditions {
            if keys::find(condition.key()).is_none() && condition.needs_its_key() {
                let outcome = if statement.effect == Effect::Allow { "never allows" } else { "never denies" };
                let message =
                    format!("no request to this broker has the key `{}`: the statement {outcome}", condition.key());
                warn("absent-key", message);
            }
        }
    }
    findings
}

fn principals(kind: Kind, statement: &Statement, account: Option<&str>, warn: &mut impl FnMut(&'static str, String)) {
    let bound = |suffix: &str| statement.conditions.iter().any(|c| c.needs_its_key() && c.key().ends_with(suffix));
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
                    PrincipalPattern::Any | PrincipalPattern::AnyAws if statement.conditions.is_empty() => {
                        warn("public", "Principal `*` without a condition lets in everybody".to_owned());
                    }
                    _ if kind == Kind::Trust
                        && let Some(other) = account.and_then(|own| strangers::foreign(pattern, own))
                        && !strangers::demands_external_id(&statement.conditions) =>
                    {
                        let message = format!("{other} may act for a third party: demand an sts:ExternalId");
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
                            format!("{service} acts for any account: demand an aws:SourceArn or aws:SourceAccount"),
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
        warn("built-in-provider", format!("`{provider}` is built in to AWS and not here: {instead}, and name its ARN"));
        return;
    }
    let on = |claim: &str| -> Vec<&Condition> {
        statement.conditions.iter().filter(|c| c.needs_its_key() && c.key().ends_with(claim)).collect()
    };
    if on(":aud").is_empty() {
        warn("no-audience", format!("tokens of `{provider}` for any audience are taken: bind `:aud`"));
    }
    let subjects = on(":sub");
    let wide =
        |c: &&Condition| c.wanted().iter().any(|w| w.trim_start_matches("repo:").starts_with('*') || &**w == "*");
    if subjects.is_empty() {
        warn("wildcard-subject", format!("every subject of `{provider}` is let in: bind `:sub`"));
    } else if subjects.iter().any(wide) {
        warn("wildcard-subject", format!("subjects of `{provider}` are bound by a pattern that begins with `*`"));
    }
    if strangers::is_unbound(provider, &statement.conditions) {
        let message = format!(
            "anybody can get tokens of `{provider}`, and no condition says whose are meant: a role with this policy is refused"
        );
        warn("unbound-subject", message);
    }
}

/// Somebody from outside an account whom a trust policy lets in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Outsider {
    /// As the policy names it; `*` is everybody.
    pub principal: String,
    /// The statement's position.
    pub statement: usize,
    /// What else must hold: `StringEquals sts:externalid [x]`.
    pub conditions: Vec<String>,
}

/// Who from outside of `account` a role's trust policy lets in.
pub fn outsiders(trust: &Policy, account: &str) -> Vec<Outsider> {
    let mut found = Vec::new();
    for (index, statement) in trust.statements.iter().enumerate().filter(|(_, s)| s.effect == Effect::Allow) {
        let Principals::Are(patterns) = &statement.principals else { continue };
        let foreign = |pattern: &PrincipalPattern| match pattern {
            PrincipalPattern::Any | PrincipalPattern::AnyAws => Some("*".to_owned()),
            PrincipalPattern::Federated(provider) => Some(provider.to_string()),
            PrincipalPattern::Service(service) => Some(service.to_string()),
            _ => strangers::foreign(pattern, account),
        };
        let conditions =
            statement.conditions.iter().map(|c| format!("{} {} [{}]", c.operator(), c.key(), c.wanted().join(", ")));
        let conditions: Vec<String> = conditions.collect();
        for principal in patterns.iter().filter_map(foreign) {
            found.push(Outsider { principal, statement: index, conditions: conditions.clone() });
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checks(kind: Kind, statement: &str) -> Vec<&'static str> {
        let text = format!("{{\"Version\":\"2012-10-17\",\n\"Statement\":[{statement}]}}");
        let findings = lint(kind, &text, Some("111122223333"));
        assert!(findings.iter().all(|f| (f.line, f.column) == (2, 14) || f.level == "error"), "{findings:?}");
        findings.iter().map(|f| f.check).collect()
    }

    #[test]
    fn what_access_analyzer_warns_of() {
        let trust = |principal: &str, condition: &str| {
            checks(
                Kind::Trust,
                &format!(
                    r#"{{"Effect":"Allow","Action":"sts:AssumeRole","Principal":{principal},"Condition":{{{condition}}}}}"#
                ),
            )
        };
        assert_eq!(trust(r#""*""#, ""), ["public"]);
        assert_eq!(trust(r#"{"AWS":"111122223333"}"#, ""), [""; 0]);
        for other in ["444455556666", "arn:aws:iam::444455556666:user/x", "arn:aws-cn:iam::111122223333:root"] {
            assert_eq!(trust(&format!(r#"{{"AWS":"{other}"}}"#), ""), ["confused-deputy"], "{other}");
        }
        assert_eq!(trust(r#"{"AWS":"444455556666"}"#, r#""StringEquals":{"sts:ExternalId":"x"}"#), [""; 0]);
        let github = r#"{"Federated":"arn:aws:iam::111122223333:oidc-provider/token.actions.githubusercontent.com"}"#;
        assert_eq!(trust(github, ""), ["no-audience", "wildcard-subject", "unbound-subject"]);
        assert_eq!(trust(r#"{"Federated":"graph.facebook.com"}"#, ""), ["built-in-provider"]);
        let bound = |sub: &str| {
            format!(
                r#""StringEquals":{{"token.actions.githubusercontent.com:aud":"sts"}},"StringLike":{{"token.actions.githubusercontent.com:sub":"{sub}"}}"#
            )
        };
        assert_eq!(trust(github, &bound("repo:org/app:ref:refs/heads/main")), [""; 0]);
        assert_eq!(trust(github, &bound("repo:*")), ["wildcard-subject", "unbound-subject"]);
        let not = r#"{"Effect":"Allow","Action":"s3:*","Resource":"*","NotPrincipal":{"AWS":"444455556666"}}"#;
        assert_eq!(checks(Kind::Resource, not), ["not-principal-allow"]);
    }

    #[test]
    fn a_key_that_never_comes_decides_only_where_it_is_needed() {
        let with = |operator: &str, key: &str| {
            checks(
                Kind::Identity,
                &format!(
                    r#"{{"Effect":"Allow","Action":"s3:*","Resource":"*","Condition":{{"{operator}":{{"{key}":"x"}}}}}}"#
                ),
            )
        };
        assert_eq!(with("StringEquals", "aws:SourceVpc"), ["absent-key"]);
        assert_eq!(with("StringEqualsIfExists", "aws:SourceVpc"), [""; 0]);
        assert_eq!(with("StringEquals", "aws:username"), [""; 0]);
        assert_eq!(with("StringEquals", "aws:PrincipalTag/team"), [""; 0]);
        assert_eq!(checks(Kind::Identity, r#"{"Effect":"Allow"}"#), ["malformed"]);
    }
}
