//! Findings about policies that are legal but probably not what their author meant.
//!
//! Many checks are those of AWS's IAM Access Analyzer. Others are Brevet's own: among others, they find a condition on
//! a key that no request to this broker has, if that decides the outcome, and a condition on a key whose value the
//! broker does not know.

mod outsiders;
mod principals;
mod who;

use serde::Serialize;

use super::actions;
use super::condition::Condition;
use super::document::Policy;
use super::json::ParseError;
use super::keys;
use super::kind::PolicyKind;
use super::statement::{Actions, Effect};

pub use outsiders::{Outsider, outsiders};

/// A problem found in a policy document.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// `error` if the document is refused, otherwise `warning`.
    pub level: &'static str,
    /// The short name of the check, such as `confused-deputy`.
    pub check: &'static str,
    /// What is wrong and what to do about it.
    pub message: String,
    /// The place of the problem, as a JSON pointer (RFC 6901).
    pub pointer: String,
    /// The line, counted from 1.
    pub line: usize,
    /// The column in characters, counted from 1.
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

/// Checks a document. `account` is the account that owns it, if that is known; principals of other
/// accounts then count as foreign.
pub fn lint(kind: PolicyKind, text: &str, account: Option<&str>) -> Vec<Finding> {
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
            principals::check(kind, statement, account, &mut warn);
        }
        for condition in &*statement.conditions {
            if let Some(message) = absent_key(kind, statement.effect, condition) {
                warn("absent-key", message);
            }
            let keys = condition.keys();
            for (key, why) in keys.filter_map(|key| Some((key, keys::why_unknown(key)?))) {
                let outcome = match statement.effect {
                    Effect::Allow => "the statement never allows a request to an object store",
                    Effect::Deny => {
                        "the statement denies every request to an object store that its other elements match"
                    }
                };
                warn(
                    "unknown-key",
                    format!("this broker does not know the value of `{key}` ({why}): {outcome}"),
                );
            }
        }
        let (Actions::Are(named) | Actions::AreNot(named)) = &statement.actions;
        for (action, meant) in named.iter().filter_map(actions::unknown) {
            let service = action.split(':').next().unwrap_or_default();
            let meant = meant
                .map(|meant| format!("; did you mean `{meant}`?"))
                .unwrap_or_default();
            warn(
                "unknown-action",
                format!("`{service}` has no action `{action}`{meant}"),
            );
        }
    }
    findings
}

/// Describes the effect of a condition on a key that no request has. `None` if requests may have the key, or the
/// condition works as intended.
fn absent_key(kind: PolicyKind, effect: Effect, condition: &Condition) -> Option<String> {
    let key = condition.key();
    let why = keys::why_absent(key, kind)?;
    let outcome = match (condition.holds_without_its_key(), effect) {
        (false, Effect::Allow) => "the statement never allows anything",
        (false, Effect::Deny) => "the statement never denies anything",
        (true, _) if condition.is_negated() => "the condition holds for every request",
        // A condition written for the case of an absent key works as intended.
        (true, _) => return None,
    };
    // The keys of other services are not known.
    let service = key.split(':').next().unwrap_or_default();
    let same = |name: &&str| {
        name.split(':')
            .next()
            .is_some_and(|prefix| prefix.eq_ignore_ascii_case(service))
    };
    let mut of_service = keys::all().map(|k| k.name).filter(same).peekable();
    if keys::find(key).is_none() && of_service.peek().is_none() {
        return Some(format!(
            "this broker does not know the key `{key}`: unless a service sends the key in a call of Authorize, {outcome}"
        ));
    }
    let meant = match keys::find(key) {
        Some(_) => None,
        None => actions::nearest(key, of_service),
    };
    let meant = meant
        .map(|meant| format!("; did you mean `{meant}`?"))
        .unwrap_or_default();
    Some(format!(
        "no request to this broker has the key `{key}` ({why}): {outcome}{meant}"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checks(kind: PolicyKind, statement: &str) -> Vec<&'static str> {
        let text = format!("{{\"Version\":\"2012-10-17\",\n\"Statement\":[{statement}]}}");
        let findings = lint(kind, &text, Some("111122223333"));
        assert!(
            findings
                .iter()
                .all(|f| (f.line, f.column) == (2, 14) || f.level == "error"),
            "{findings:?}"
        );
        findings.iter().map(|f| f.check).collect()
    }

    #[test]
    fn what_access_analyzer_warns_of() {
        let trust = |principal: &str, condition: &str| {
            checks(
                PolicyKind::Trust,
                &format!(
                    r#"{{"Effect":"Allow","Action":"sts:AssumeRole","Principal":{principal},"Condition":{{{condition}}}}}"#
                ),
            )
        };
        assert_eq!(trust(r#""*""#, ""), ["public"]);
        assert_eq!(trust(r#"{"AWS":"111122223333"}"#, ""), [""; 0]);
        for other in [
            "444455556666",
            "arn:aws:iam::444455556666:user/x",
            "arn:aws-cn:iam::111122223333:root",
        ] {
            assert_eq!(
                trust(&format!(r#"{{"AWS":"{other}"}}"#), ""),
                ["confused-deputy"],
                "{other}"
            );
        }
        assert_eq!(
            trust(
                r#"{"AWS":"444455556666"}"#,
                r#""StringEquals":{"sts:ExternalId":"x"}"#
            ),
            [""; 0]
        );
        let github = r#"{"Federated":"arn:aws:iam::111122223333:oidc-provider/token.actions.githubusercontent.com"}"#;
        assert_eq!(
            trust(github, ""),
            ["no-audience", "wildcard-subject", "unbound-subject"]
        );
        assert_eq!(
            trust(r#"{"Federated":"graph.facebook.com"}"#, ""),
            ["built-in-provider"]
        );
        let bound = |sub: &str| {
            format!(
                r#""StringEquals":{{"token.actions.githubusercontent.com:aud":"sts"}},"StringLike":{{"token.actions.githubusercontent.com:sub":"{sub}"}}"#
            )
        };
        assert_eq!(
            trust(github, &bound("repo:org/app:ref:refs/heads/main")),
            [""; 0]
        );
        assert_eq!(
            trust(github, &bound("repo:*")),
            ["wildcard-subject", "unbound-subject"]
        );
        let not = r#"{"Effect":"Allow","Action":"s3:*","Resource":"*","NotPrincipal":{"AWS":"444455556666"}}"#;
        assert_eq!(checks(PolicyKind::Resource, not), ["not-principal-allow"]);
    }

    #[test]
    fn a_key_that_never_comes_decides_only_where_it_is_needed() {
        let with = |operator: &str, key: &str| {
            checks(
                PolicyKind::Identity,
                &format!(
                    r#"{{"Effect":"Allow","Action":"s3:*","Resource":"*","Condition":{{"{operator}":{{"{key}":"x"}}}}}}"#
                ),
            )
        };
        assert_eq!(with("StringEquals", "aws:SourceVpc"), ["absent-key"]);
        assert_eq!(with("StringNotEquals", "aws:SourceVpc"), ["absent-key"]);
        assert_eq!(
            with("ForAnyValue:StringEquals", "aws:VpceOrgPaths"),
            ["absent-key"]
        );
        assert_eq!(
            with("ForAllValues:StringEquals", "aws:VpceOrgPaths"),
            [""; 0]
        );
        assert_eq!(with("StringNotEqualsIfExists", "aws:SourceVpc"), [""; 0]);
        assert_eq!(with("StringEqualsIfExists", "aws:SourceVpc"), [""; 0]);
        assert_eq!(with("StringEquals", "aws:username"), [""; 0]);
        assert_eq!(with("StringEquals", "aws:PrincipalTag/team"), [""; 0]);
        assert_eq!(with("StringEquals", "s3:prefix"), [""; 0]);
        assert_eq!(with("StringEquals", "s3:prefixx"), ["absent-key"]);
        for operator in [
            "StringEquals",
            "StringNotEqualsIfExists",
            "ForAllValues:StringLike",
        ] {
            let found = with(operator, "s3:ExistingObjectTag/team");
            assert_eq!(found, ["unknown-key"], "{operator}");
        }
        assert_eq!(
            checks(PolicyKind::Identity, r#"{"Effect":"Allow"}"#),
            ["malformed"]
        );
    }
    #[test]
    fn claims_of_a_provider_are_keys_where_a_login_is_decided() {
        let statement = |claim: &str| {
            format!(
                r#"{{"Effect":"Allow","Action":"sts:AssumeRoleWithWebIdentity","Principal":{{"Federated":"arn:aws:iam::111122223333:oidc-provider/idp.example.com"}},
                "Condition":{{"StringEquals":{{"idp.example.com:aud":"c","idp.example.com:sub":"u","idp.example.com:{claim}":"x"}}}}}}"#
            )
        };
        for claim in [
            "groups",
            "email",
            "actor",
            "oaud",
            "azp",
            "amr",
            "kubernetes.io/namespace",
        ] {
            assert_eq!(
                checks(PolicyKind::Trust, &statement(claim)),
                [""; 0],
                "{claim}"
            );
        }
        let own = |claim: &str| {
            let statement = r#"{"Effect":"Deny","Action":"sts:*","Resource":"*","Condition":{"StringEquals":{"idp.example.com:CLAIM":"x"}}}"#;
            checks(PolicyKind::Identity, &statement.replace("CLAIM", claim))
        };
        assert_eq!((own("sub"), own("groups")), (vec![], vec!["absent-key"]));
    }

    #[test]
    fn everybody_under_a_condition_that_names_nobody_is_the_public() {
        let trust = |condition: &str| {
            checks(
                PolicyKind::Trust,
                &format!(
                    r#"{{"Effect":"Allow","Action":"sts:AssumeRole","Principal":{{"AWS":"*"}},"Condition":{condition}}}"#
                ),
            )
        };
        for open in [
            r#"{"StringLike":{"aws:PrincipalArn":"*"}}"#,
            r#"{"ArnLike":{"aws:PrincipalArn":"arn:aws:iam::*:role/admin"}}"#,
            r#"{"ArnLike":{"aws:PrincipalArn":["arn:aws:iam::111122223333:role/admin","arn:aws:iam::*:role/admin"]}}"#,
            r#"{"StringNotEquals":{"aws:PrincipalAccount":"999999999999"}}"#,
            r#"{"StringEqualsIfExists":{"aws:PrincipalAccount":"111122223333"}}"#,
            r#"{"StringLike":{"aws:PrincipalAccount":"1111*"}}"#,
            r#"{"StringEquals":{"aws:PrincipalAccount":"${aws:PrincipalAccount}"}}"#,
            r#"{"DateLessThan":{"aws:CurrentTime":"2099-01-01T00:00:00Z"}}"#,
            r#"{"Bool":{"aws:MultiFactorAuthPresent":"true"}}"#,
            r#"{"StringEquals":{"aws:PrincipalTag/team":"blue"}}"#,
            r#"{"StringEquals":{"sts:RoleSessionName":"admin"}}"#,
            r#"{"StringEquals":{"sts:ExternalId":"x"}}"#,
            r#"{"StringLike":{"aws:userid":"*:admin"}}"#,
            r#"{"StringLike":{"aws:PrincipalOrgID":"o-*"}}"#,
            r#"{"ForAnyValue:StringLike":{"aws:PrincipalOrgPaths":"*/r-exam/*"}}"#,
            r#"{"Null":{"aws:PrincipalAccount":"false"}}"#,
            r#"{"IpAddress":{"aws:SourceIp":["10.0.0.0/8","0.0.0.0/1"]}}"#,
            r#"{"IpAddress":{"aws:SourceIp":"::/0"}}"#,
        ] {
            assert_eq!(trust(open), ["public"], "{open}");
        }
        for bound in [
            r#"{"StringEquals":{"aws:PrincipalAccount":"111122223333"}}"#,
            r#"{"StringEquals":{"aws:PrincipalAccount":"${aws:ResourceAccount}"}}"#,
            r#"{"StringEquals":{"aws:PrincipalOrgID":"o-exampleorgid"}}"#,
            r#"{"StringEquals":{"aws:PrincipalOrgID":"${aws:ResourceOrgID}"}}"#,
            r#"{"ForAnyValue:StringLike":{"aws:PrincipalOrgPaths":"o-exampleorgid/r-exam/*"}}"#,
            r#"{"ArnLike":{"aws:PrincipalArn":"arn:aws:iam::111122223333:role/*"}}"#,
            r#"{"StringLike":{"aws:userid":"AROAEXAMPLEROLEID0001:*"}}"#,
            r#"{"IpAddress":{"aws:SourceIp":["10.0.0.0/8","192.0.2.1","2001:db8::/32"]}}"#,
            r#"{"StringEquals":{"aws:PrincipalAccount":"111122223333"},"StringLike":{"aws:PrincipalArn":"*"}}"#,
        ] {
            assert_eq!(trust(bound), [""; 0], "{bound}");
        }
    }

    #[test]
    fn what_is_misspelt_is_told_with_what_may_be_meant() {
        let text = r#"{"Version":"2012-10-17","Statement":[{"Effect":"Deny","NotAction":["sts:AsumeRole","sts:Get*"],"Resource":"*",
            "Condition":{"StringEquals":{"aws:PrincipalAcount":"1"}}}]}"#;
        let findings = lint(PolicyKind::Identity, text, None);
        let messages: Vec<&str> = findings.iter().map(|f| f.message.as_str()).collect();
        let [key, action] = messages.as_slice() else {
            panic!("{messages:?}")
        };
        assert!(
            key.contains("never denies") && key.contains("did you mean `aws:PrincipalAccount`?"),
            "{key}"
        );
        assert!(
            action.contains("`sts:AsumeRole`") && action.contains("did you mean `sts:AssumeRole`?"),
            "{action}"
        );
    }
}
