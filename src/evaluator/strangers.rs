//! Finds principals that a trust policy allows, probably against its author's intention: everybody,
//! or anyone with an account at an identity provider that many organisations share.

use super::condition::Condition;
use super::document::Policy;
use super::principals::{PrincipalPattern, Principals};
use super::shared_issuers::{find, is_unbound, issuer};
use super::statement::{ActionPattern, Actions, Effect, Statement};
use crate::base::arn::arn_of_principal;

pub use super::shared_issuers::{SharedProvider, shared_providers};

/// A shared issuer that a trust policy allows without saying whose tokens are meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Unbound<'a> {
    /// The issuer as the list of shared issuers writes it, such as `gitlab.com`.
    pub issuer: &'a str,
    /// The provider's name as people know it, such as `GitLab`.
    pub name: &'static str,
    /// The claim that a condition should check.
    pub control: &'static str,
}

/// The shared issuers that Allow statements of a trust policy name without saying whose tokens are
/// meant, each once.
pub fn unbound_issuers(trust: &Policy) -> Vec<Unbound<'_>> {
    let mut all = Vec::new();
    for (_, statement) in allows(trust) {
        let Principals::Are(patterns) = &statement.principals else {
            continue;
        };
        for pattern in patterns {
            if let PrincipalPattern::Federated(provider) = pattern
                && is_unbound(provider, &statement.conditions)
                && let Some(issuer) = issuer(provider)
            {
                let unbound = match find(issuer) {
                    Some((provider, issuer)) => Unbound {
                        issuer,
                        name: &provider.name,
                        control: provider.control.as_deref().unwrap_or("sub"),
                    },
                    // Every issuer counts as shared, and each is named, so that it is overridden for itself only.
                    None => Unbound {
                        issuer,
                        name: "perhaps: the broker cannot read its list of shared issuers",
                        control: "sub",
                    },
                };
                if !all.contains(&unbound) {
                    all.push(unbound);
                }
            }
        }
    }
    all
}

/// The principals of other accounts that the policy allows without demanding an external id. An
/// account that acts for several third parties needs external ids to keep them apart: IAM User
/// Guide, "The confused deputy problem". `arn` returns the ARN of the user or role with a unique
/// id.
pub fn without_external_id<'a>(
    trust: &Policy,
    account: &str,
    arn: impl Fn(&str) -> Option<&'a str>,
) -> Vec<String> {
    let bound = |id: &str, principal: &str| {
        let own = arn(id)?.split(':').nth(4) == Some(account);
        if own {
            None
        } else {
            arn_of_principal(principal, &arn)
        }
    };
    let mut all = Vec::new();
    for (_, statement) in allows(trust) {
        let Principals::Are(patterns) = &statement.principals else {
            continue;
        };
        if demands_external_id(&statement.conditions) {
            continue;
        }
        all.extend(patterns.iter().filter_map(|pattern| match pattern {
            PrincipalPattern::Id(id) => bound(id, id),
            PrincipalPattern::Session { role, name } => bound(role, &format!("{role}:{name}")),
            _ => foreign(pattern, account),
        }));
    }
    all
}

/// Whether a condition demands a particular external id, not just any.
pub(super) fn demands_external_id(conditions: &[Condition]) -> bool {
    let says_which = |pinned: Vec<(String, bool)>| {
        pinned
            .iter()
            .all(|(literal, whole)| *whole || !literal.is_empty())
    };
    conditions
        .iter()
        .any(|c| c.key() == "sts:externalid" && c.pinned().is_some_and(says_which))
}

/// The ARN of the principal, if it belongs to another account or to a partition other than `aws`.
pub(super) fn foreign(pattern: &PrincipalPattern, account: &str) -> Option<String> {
    match pattern {
        PrincipalPattern::Account { partition, id } => {
            let partition = partition.as_deref().unwrap_or("aws");
            (**id != *account || partition != "aws")
                .then(|| format!("arn:{partition}:iam::{id}:root"))
        }
        PrincipalPattern::Role { arn, .. } | PrincipalPattern::Exact(arn) => {
            let mut parts = arn.split(':');
            let own = parts.nth(1) == Some("aws") && parts.nth(2) == Some(account);
            (!own).then(|| arn.to_string())
        }
        _ => None,
    }
}

/// Finds a shared provider among `providers` (ARNs) whose tokens an Allow statement with `"Principal": "*"` does not
/// limit to one owner. The evaluator does not let such a statement allow the provider's tokens.
pub fn unbound_by_everybody<'a>(trust: &Policy, providers: &[&'a str]) -> Option<&'a str> {
    allows(trust).find_map(|(_, statement)| {
        let Principals::Are(patterns) = &statement.principals else {
            return None;
        };
        let everybody =
            patterns.contains(&PrincipalPattern::Any) && speaks_of_web_identities(statement);
        let shared = |provider: &&&str| is_unbound(provider, &statement.conditions);
        providers.iter().find(shared).filter(|_| everybody).copied()
    })
}

/// Whether an Allow statement has `"Principal": "*"`, which covers identity providers too.
pub fn names_everybody(trust: &Policy) -> bool {
    let everybody = |s: &Statement| matches!(&s.principals, Principals::Are(p) if p.contains(&PrincipalPattern::Any));
    allows(trust).any(|(_, s)| everybody(s))
}

/// The index of an Allow statement that allows everybody without a condition that keeps
/// strangers out; `None` if there is none. A condition that only excludes somebody, or that holds
/// without its key, keeps nobody out.
pub fn public_statement(trust: &Policy) -> Option<usize> {
    let public = |statement: &Statement| match &statement.principals {
        Principals::Are(patterns) => {
            !statement.conditions.iter().any(Condition::restricts)
                && patterns
                    .iter()
                    .any(|p| matches!(p, PrincipalPattern::Any | PrincipalPattern::AnyAws))
        }
        _ => false,
    };
    allows(trust).find(|(_, s)| public(s)).map(|(at, _)| at)
}

/// The service as which AssumeRoleForWorkload requests the role of an instance.
pub const INSTANCES: &str = "ec2.amazonaws.com";
/// The service as which AssumeRoleForWorkload requests the role of a task.
pub const TASKS: &str = "ecs-tasks.amazonaws.com";
/// The service as which AssumeRoleForWorkload requests the role of a pod.
pub const PODS: &str = "pods.eks.amazonaws.com";

/// The AWS services that the Allow statements of a trust policy name, each once, without [`INSTANCES`], [`TASKS`] and
/// [`PODS`]: no AWS service calls this broker, but AssumeRoleForWorkload requests roles in the name of these three.
pub fn who_never_calls(trust: &Policy) -> Vec<String> {
    let mut found = Vec::new();
    for (_, statement) in allows(trust) {
        let Principals::Are(patterns) = &statement.principals else {
            continue;
        };
        found.extend(patterns.iter().filter_map(|pattern| match pattern {
            PrincipalPattern::Service(service)
                if ![INSTANCES, TASKS, PODS].contains(&&**service) =>
            {
                Some(service.to_string())
            }
            _ => None,
        }));
    }
    found.sort();
    found.dedup();
    found
}

/// The identity providers that the Allow statements of a trust policy name, by ARN or domain.
pub fn federated_providers(trust: &Policy) -> Vec<&str> {
    let mut found = Vec::new();
    for (_, statement) in allows(trust) {
        let Principals::Are(patterns) = &statement.principals else {
            continue;
        };
        found.extend(patterns.iter().filter_map(|pattern| match pattern {
            PrincipalPattern::Federated(provider) => Some(&**provider),
            _ => None,
        }));
    }
    found.sort_unstable();
    found.dedup();
    found
}

/// The SAML providers that the Allow statements of a trust policy name.
pub fn saml_providers(trust: &Policy) -> Vec<&str> {
    let mut found = federated_providers(trust);
    found.retain(|provider| provider.contains(":saml-provider/"));
    found
}

/// The providers that are built into AWS, and what to declare for each of them in Brevet: IAM User
/// Guide, "AWS JSON policy elements: Principal", "OIDC federated principals".
const BUILT_IN: &[(&str, &str)] = &[
    (
        "accounts.google.com",
        "declare an OpenID Connect provider with the Url `https://accounts.google.com`",
    ),
    (
        "cognito-identity.amazonaws.com",
        "declare an OpenID Connect provider with the Url `https://cognito-identity.amazonaws.com` and the identity pool's id in ClientIDList",
    ),
    (
        "graph.facebook.com",
        "declare an OpenID Connect provider with the Url `https://www.facebook.com`",
    ),
    (
        "www.amazon.com",
        "since Login with Amazon issues no OpenID Connect tokens, declare an OpenID Connect provider to which people \
        can sign in with it (such as a Cognito user pool or Keycloak)",
    ),
];

/// Finds a provider that an Allow statement names by its domain and that is built into AWS but not
/// into Brevet. Returns it with what to declare instead.
pub fn built_in_provider(trust: &Policy) -> Option<(&str, &'static str)> {
    allows(trust).find_map(|(_, statement)| {
        let Principals::Are(patterns) = &statement.principals else {
            return None;
        };
        patterns.iter().find_map(|pattern| match pattern {
            PrincipalPattern::Federated(name) => {
                instead_of_built_in(name).map(|instead| (&**name, instead))
            }
            _ => None,
        })
    })
}

/// What to declare instead of a provider that is built into AWS; `None` if it is not built in.
pub(super) fn instead_of_built_in(provider: &str) -> Option<&'static str> {
    BUILT_IN
        .iter()
        .find(|(domain, _)| domain.eq_ignore_ascii_case(provider))
        .map(|(_, instead)| *instead)
}

fn allows(trust: &Policy) -> impl Iterator<Item = (usize, &Statement)> {
    trust
        .statements
        .iter()
        .enumerate()
        .filter(|(_, s)| s.effect == Effect::Allow)
}

/// Whether a statement may apply to a caller who shows a provider's token. In a request of such a caller, the keys of
/// account principals are absent, so a statement that requires one of them does not apply.
fn speaks_of_web_identities(statement: &Statement) -> bool {
    const ACTION: &str = "AssumeRoleWithWebIdentity";
    let acts = match &statement.actions {
        Actions::Are(patterns) => patterns.iter().any(|p| match p {
            ActionPattern::Any => true,
            ActionPattern::Named { service, name, .. } => {
                service.is_like("sts") && name.is_like(ACTION)
            }
        }),
        Actions::AreNot(patterns) => !patterns.iter().any(|p| match p {
            ActionPattern::Any => true,
            ActionPattern::Named { service, name, .. } => {
                service.is_like("sts") && name.is_like(ACTION)
            }
        }),
    };
    let of_an_account = [
        "aws:principalaccount",
        "aws:principalarn",
        "aws:principalorgid",
        "aws:principalorgpaths",
        "aws:username",
    ];
    acts && !statement
        .conditions
        .iter()
        .any(|c| c.needs_its_key() && of_an_account.contains(&c.key()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::evaluator::PolicyKind;

    const GITHUB: &str = "token.actions.githubusercontent.com";

    fn parse(statement: &str) -> Policy {
        let text = format!(r#"{{"Version":"2012-10-17","Statement":[{statement}]}}"#);
        Policy::parse(PolicyKind::Trust, &text).unwrap_or_else(|e| panic!("{text}: {e}"))
    }

    fn trust(issuer: &str, condition: &str) -> Policy {
        parse(&format!(
            r#"{{"Effect":"Allow","Action":"sts:AssumeRoleWithWebIdentity","Condition":{{{condition}}},
                "Principal":{{"Federated":"arn:aws:iam::111122223333:oidc-provider/{issuer}"}}}}"#
        ))
    }

    fn first(trust: &Policy) -> Option<&str> {
        unbound_issuers(trust).first().map(|u| u.issuer)
    }

    #[test]
    fn services_whose_workloads_get_credentials_are_not_among_those_that_never_call() {
        let trust = parse(
            r#"{"Effect":"Allow","Action":"sts:AssumeRole","Principal":{"Service":["lambda.amazonaws.com",
                "ec2.amazonaws.com","ecs-tasks.amazonaws.com","pods.eks.amazonaws.com"]}}"#,
        );
        assert_eq!(who_never_calls(&trust), ["lambda.amazonaws.com"]);
    }

    #[test]
    fn oi_03_an_audience_that_everybody_has_binds_nobody_in_any_case() {
        for issuer in ["oidc.vercel.com", "api.pulumi.com/oidc"] {
            for condition in [
                format!(r#""StringEquals":{{"{issuer}:aud":"sts.amazonaws.com"}}"#),
                format!(r#""StringEqualsIgnoreCase":{{"{issuer}:aud":"STS.amazonaws.com"}}"#),
            ] {
                assert_eq!(
                    first(&trust(issuer, &condition)),
                    Some(issuer),
                    "{condition}"
                );
            }
        }
    }

    #[test]
    fn the_list_is_aws_s_and_readable() {
        let listed = shared_providers()
            .iter()
            .filter(|p| p.control.is_some())
            .flat_map(|p| &p.issuers);
        assert_eq!(
            listed.count(),
            22,
            "the table has 17 providers, one of them with six issuers"
        );
        for provider in shared_providers() {
            for issuer in &provider.issuers {
                assert_eq!(
                    first(&trust(issuer, "")),
                    Some(issuer.as_str()),
                    "nothing is bound"
                );
                let audience = format!(r#""StringEquals":{{"{issuer}:aud":"sts.amazonaws.com"}}"#);
                assert!(
                    first(&trust(issuer, &audience)).is_some(),
                    "{issuer}: an audience of all tenants"
                );
                // A condition on the claim that AWS requires is enough if the whole value is
                // compared.
                let Some(control) = &provider.control else {
                    continue;
                };
                let key = if control.contains(':') {
                    control.clone()
                } else {
                    format!("{issuer}:{control}")
                };
                let value = provider.names_an_owner[control][0].replace("OWNER", "acme");
                let bound = format!(r#""StringEquals":{{"{key}":"{value}x"}}"#);
                assert_eq!(first(&trust(issuer, &bound)), None, "{bound}");
                assert!(
                    first(&trust(
                        issuer,
                        &bound.replace("StringEquals", "StringNotEquals")
                    ))
                    .is_some()
                );
            }
        }
    }

    #[test]
    fn oi_03_only_an_equality_that_names_an_owner_binds() {
        let sub =
            |operator: &str, value: &str| format!(r#""{operator}":{{"{GITHUB}:sub":"{value}"}}"#);
        let claim = |operator: &str, claim: &str, value: &str| {
            format!(r#""{operator}":{{"{GITHUB}:{claim}":"{value}"}}"#)
        };
        let main = "repo:good/app:ref:refs/heads/main";
        for bound in [
            sub("StringEquals", main),
            sub("StringEqualsIgnoreCase", main),
            sub("StringLike", "repo:good/*"),
            sub("StringLike", "repo:good/app:*"),
            sub("StringLike", "repo:good@*"),
            sub("StringLike", "repo:good@1234/app@*:ref:refs/heads/main"),
            sub("ForAnyValue:StringEquals", main),
            sub("StringEquals", "repository_owner:good:environment:prod"),
            sub("StringEquals", "repository_owner_id:1234"),
            claim("StringEquals", "repository_owner_id", "1234"),
            claim("StringEquals", "repository_owner_id", "[1234]").replace("\"[1234]\"", "[1234]"),
            claim("StringEquals", "repository", "good/app"),
            claim("StringLike", "repository", "good/*"),
            claim("StringEquals", "enterprise_id", "77"),
            // `${*}` is a literal star.
            sub("StringLike", "repo:good/${*}"),
        ] {
            assert_eq!(first(&trust(GITHUB, &bound)), None, "{bound}");
        }
        for unbound in [
            String::new(),
            sub("StringLike", "*"),
            sub("StringLike", "repo:*"),
            sub("StringLike", "repo:*/app"),
            sub("StringLike", "repo:good*"),
            sub("StringLike", "repo:good?*"),
            sub("StringLike", "?epo:good/app"),
            sub("StringEquals", ""),
            sub("StringEquals", "repo:"),
            sub("StringNotEquals", main),
            sub("StringNotLike", "repo:evil/*"),
            sub("StringEqualsIfExists", main),
            sub("StringLikeIfExists", "repo:good/*"),
            sub("ForAllValues:StringEquals", main),
            sub("Null", "false"),
            // The caller chooses the value of the variable, or the token's claim is compared with
            // itself.
            sub("StringLike", "repo:${sts:RoleSessionName}/*"),
            sub("StringLike", "repo:good/${sts:RoleSessionName}"),
            sub("StringEquals", "${token.actions.githubusercontent.com:sub}"),
            sub("StringEquals", "${aws:PrincipalTag/x, 'repo:good/app'}"),
            claim("NumericGreaterThan", "repository_owner_id", "0"),
            claim("NumericEquals", "repository_owner_id", "1234"),
            claim("StringLike", "repository", "?*/*"),
            claim("StringLike", "repository", "/*"),
            claim("StringLike", "repository_owner", "g*"),
            claim("StringLike", "repository_owner_id", "1*"),
            // The owner of a called workflow says nothing about the caller, and a tenant chooses
            // the form of its subjects.
            claim(
                "StringEquals",
                "job_workflow_ref",
                "good/wf/.github/workflows/x.yml@refs/heads/main",
            ),
            claim("StringLike", "job_workflow_ref", "good/wf/*"),
            sub(
                "StringEquals",
                "job_workflow_ref:good/wf/.github/workflows/x.yml@refs/heads/main",
            ),
            sub("StringEquals", "environment:production"),
            claim("StringEquals", "actor", "octocat"),
            // Another issuer's claim, and one of several values.
            r#""StringEquals":{"gitlab.com:sub":"project_path:good/app:ref_type:branch:ref:main"}"#
                .to_owned(),
            format!(r#""StringLike":{{"{GITHUB}:sub":["repo:good/app:*","repo:*/y:*"]}}"#),
        ] {
            assert_eq!(first(&trust(GITHUB, &unbound)), Some(GITHUB), "{unbound}");
        }
    }

    #[test]
    fn a_cluster_s_issuer_is_its_own_and_so_is_an_enterprise_s() {
        for own in [
            "oidc.eks.us-east-2.amazonaws.com/id/5E5D7BAA84911ACC36EE4D978F209DD7",
            "container.googleapis.com/v1/projects/p/locations/l/clusters/c",
            "token.actions.githubusercontent.com/octo-enterprise",
            "oidc.vercel.com/acme",
            "gitlab.example.com",
            "sts.windows.net/00000000-0000-0000-0000-000000000000",
        ] {
            assert_eq!(first(&trust(own, "")), None, "{own}");
        }
        for shared in [
            "GITLAB.com",
            "gitlab.com/",
            "gitlab.com:443",
            "api.pulumi.com/oidc/",
        ] {
            assert!(first(&trust(shared, "")).is_some(), "{shared}");
        }
    }

    #[test]
    fn whoever_is_named_by_star_is_no_tenant() {
        let everybody = |principal: &str, action: &str, condition: &str| {
            let policy = parse(&format!(
                r#"{{"Effect":"Allow","Action":"{action}","Principal":{principal},"Condition":{{{condition}}}}}"#
            ));
            let providers = [
                "arn:aws:iam::111122223333:oidc-provider/idp.example",
                "arn:aws:iam::111122223333:oidc-provider/gitlab.com",
            ];
            unbound_by_everybody(&policy, &providers).is_some()
        };
        let ip = r#""IpAddress":{"aws:SourceIp":"192.0.2.0/24"}"#;
        assert!(everybody(r#""*""#, "sts:*", ip));
        assert!(everybody(r#""*""#, "sts:AssumeRoleWith*", ip));
        assert!(!everybody(r#""*""#, "sts:AssumeRole", ip));
        assert!(!everybody(r#"{"AWS":"*"}"#, "sts:*", ip));
        assert!(!everybody(
            r#""*""#,
            "sts:*",
            r#""StringEquals":{"aws:PrincipalOrgID":"o-1"}"#
        ));
        assert!(everybody(
            r#""*""#,
            "sts:*",
            r#""StringNotEquals":{"aws:PrincipalOrgID":"o-1"}"#
        ));
        assert!(!everybody(
            r#""*""#,
            "sts:*",
            r#""StringLike":{"gitlab.com:sub":"project_path:acme/*"}"#
        ));
    }

    #[test]
    fn every_unbound_issuer_is_found() {
        let federated =
            |issuer: &str| format!(r#""arn:aws:iam::111122223333:oidc-provider/{issuer}""#);
        let policy = parse(&format!(
            r#"{{"Effect":"Allow","Action":"sts:AssumeRoleWithWebIdentity","Principal":{{"Federated":[{},{},{}]}}}},
               {{"Effect":"Deny","Action":"sts:AssumeRoleWithWebIdentity","Principal":{{"Federated":{}}}}}"#,
            federated("gitlab.com"),
            federated(GITHUB),
            federated("idp.example"),
            federated("scalr.io")
        ));
        assert_eq!(
            unbound_issuers(&policy)
                .iter()
                .map(|u| u.issuer)
                .collect::<Vec<_>>(),
            ["gitlab.com", GITHUB]
        );
    }

    #[test]
    fn trust_in_another_account_wants_an_external_id() {
        let with = |principal: &str, condition: &str| {
            let policy = parse(&format!(
                r#"{{"Effect":"Allow","Action":"sts:AssumeRole","Principal":{{"AWS":"{principal}"}},"Condition":{{{condition}}}}}"#
            ));
            without_external_id(&policy, "111122223333", |_| None)
        };
        for own in [
            "111122223333",
            "arn:aws:iam::111122223333:root",
            "arn:aws:iam::111122223333:user/x",
            "*",
        ] {
            assert!(with(own, "").is_empty(), "{own}");
        }
        for other in [
            "arn:aws:iam::444455556666:root",
            "arn:aws:iam::444455556666:role/a/b",
            "arn:aws:iam::444455556666:user/x",
            "arn:aws:sts::444455556666:assumed-role/a/s",
            "arn:aws-us-gov:iam::111122223333:root",
        ] {
            assert_eq!(with(other, ""), [other]);
            assert_eq!(
                with(other, r#""StringLike":{"sts:ExternalId":"*"}"#),
                [other]
            );
            assert_eq!(
                with(other, r#""StringEqualsIfExists":{"sts:ExternalId":"x"}"#),
                [other]
            );
            assert!(with(other, r#""StringEquals":{"sts:ExternalId":"x"}"#).is_empty());
        }
        assert_eq!(with("444455556666", ""), ["arn:aws:iam::444455556666:root"]);
    }

    #[test]
    fn cf_04_everybody_without_a_condition_is_public() {
        let with = |principal: &str, rest: &str| {
            public_statement(&parse(&format!(
                r#"{{"Action":"sts:AssumeRole","Principal":{principal},{rest}}}"#
            )))
        };
        assert_eq!(with(r#""*""#, r#""Effect":"Allow""#), Some(0));
        assert_eq!(
            with(r#"{"AWS":"*"}"#, r#""Effect":"Allow","Condition":{}"#),
            Some(0)
        );
        assert_eq!(
            with(r#"{"AWS":["111122223333","*"]}"#, r#""Effect":"Allow""#),
            Some(0)
        );
        assert_eq!(with(r#""*""#, r#""Effect":"Deny""#), None);
        assert_eq!(
            with(
                r#""*""#,
                r#""Effect":"Allow","Condition":{"Bool":{"aws:SecureTransport":"true"}}"#
            ),
            None
        );
        assert_eq!(
            with(r#"{"AWS":"111122223333"}"#, r#""Effect":"Allow""#),
            None
        );
    }

    #[test]
    fn cf_04_a_condition_that_strangers_fulfil_is_none() {
        let public = |condition: &str| {
            let statement = r#"{"Effect":"Allow","Action":"sts:AssumeRole","Principal":{"AWS":"*"},"Condition":{"#;
            public_statement(&parse(&format!("{statement}{condition}}}}}"))).is_some()
        };
        for condition in [
            r#""StringNotEquals":{"aws:x":[]}"#,
            r#""StringNotEquals":{"aws:username":"mallory"}"#,
            r#""ArnNotLike":{"aws:PrincipalArn":"arn:aws:iam::444455556666:*"}"#,
            r#""NotIpAddress":{"aws:SourceIp":"10.0.0.0/8"}"#,
            r#""StringEqualsIfExists":{"aws:PrincipalOrgID":"o-abc"}"#,
            r#""ForAllValues:StringEquals":{"aws:TagKeys":"team"}"#,
            r#""StringLike":{"aws:PrincipalArn":["arn:aws:iam::111122223333:role/a","*"]}"#,
            r#""StringLike":{"sts:ExternalId":"**"}"#,
            r#""ArnLike":{"aws:PrincipalArn":"arn:aws:iam::*:*"}"#,
            r#""IpAddress":{"aws:SourceIp":["10.0.0.0/8","0.0.0.0/0"]}"#,
            r#""Bool":{"aws:SecureTransport":["true","false"]}"#,
            r#""Null":{"aws:MultiFactorAuthAge":["true","false"]}"#,
            r#""StringNotEquals":{"aws:username":"a"},"IpAddress":{"aws:SourceIp":"::/0"}"#,
        ] {
            assert!(public(condition), "{condition}");
        }
        for condition in [
            r#""StringEquals":{"aws:PrincipalAccount":"444455556666"}"#,
            r#""StringNotEquals":{"aws:username":"a"},"IpAddress":{"aws:SourceIp":"10.0.0.0/8"}"#,
            r#""ArnLike":{"aws:PrincipalArn":"arn:aws:iam::*:role/deploy"}"#,
            r#""ForAnyValue:StringEquals":{"aws:TagKeys":"team"}"#,
            r#""Null":{"aws:MultiFactorAuthAge":"false"}"#,
            r#""StringEquals":{"sts:ExternalId":[]}"#,
        ] {
            assert!(!public(condition), "{condition}");
        }
    }

    #[test]
    fn built_in_providers_are_named_with_what_takes_their_place() {
        for (domain, says) in BUILT_IN {
            let policy = parse(&format!(
                r#"{{"Effect":"Allow","Action":"sts:AssumeRoleWithWebIdentity","Principal":{{"Federated":["{domain}"]}}}}"#
            ));
            assert_eq!(built_in_provider(&policy), Some((*domain, *says)));
            assert!(says.contains("OpenID Connect"));
        }
        assert_eq!(built_in_provider(&trust("accounts.google.com", "")), None);
    }
}
