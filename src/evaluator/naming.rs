//! Checks whether the Principal element of a statement names a caller, and in which form.
//!
//! The rules are in the IAM User Guide, "AWS JSON policy elements: Principal" and "NotPrincipal".

use super::principals::{PrincipalPattern, Principals};
use super::request::{Principal, Request};
use super::shared_issuers::is_unbound;
use super::statement::{Effect, Statement};

/// The form in which a resource policy names the principal that it allows, from the weakest to the strongest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Named {
    /// The policy names the principal's account: the account's own policies must allow the request
    /// too.
    Account,
    /// The policy names the principal's role: the permissions boundary and session policies still
    /// limit the grant.
    Role,
    /// The policy names the principal itself, or everybody: in the principal's own account, neither the permissions
    /// boundary nor session policies limit the grant.
    Directly,
}

/// Whether the Principal element matches the caller; `None` if the statement has no such element.
pub(super) fn principal_matches(
    statement: &Statement,
    request: &Request<'_>,
    bounded: bool,
) -> Option<bool> {
    match (&statement.principals, statement.effect) {
        (Principals::Implied, _) => None,
        (Principals::Are(patterns), _) => Some(
            patterns
                .iter()
                .any(|p| names_in(statement, p, &request.principal).is_some()),
        ),
        (Principals::AreNot(patterns), Effect::Allow) => Some(
            patterns
                .iter()
                .all(|p| names(p, &request.principal, Effect::Deny).is_none()),
        ),
        // `NotPrincipal` with `Deny` always applies to a principal that has a permissions boundary.
        // Otherwise a principal escapes only if each of its forms (account, role, session) is
        // named.
        (Principals::AreNot(patterns), Effect::Deny) => {
            Some(bounded || !names_fully(patterns, &request.principal))
        }
    }
}

/// Returns the form in which a statement's Principal element names the principal; `None` if it does not. `*` in an
/// Allow does not name an identity provider that many organisations share unless the conditions say whose tokens are
/// meant.
pub(super) fn names_in(
    statement: &Statement,
    pattern: &PrincipalPattern,
    principal: &Principal<'_>,
) -> Option<Named> {
    let named = names(pattern, principal, statement.effect)?;
    let stranger = match (pattern, principal, statement.effect) {
        (PrincipalPattern::Any, Principal::Federated(provider), Effect::Allow) => {
            is_unbound(provider, &statement.conditions)
        }
        _ => false,
    };
    (!stranger).then_some(named)
}

/// Returns the form in which an entry names the principal; `None` if it does not. AWS's documentation leaves open
/// whether `{"AWS": "*"}` names an identity provider: here it does if `effect` is Deny, and does not if it is Allow.
pub(super) fn names(
    pattern: &PrincipalPattern,
    principal: &Principal<'_>,
    effect: Effect,
) -> Option<Named> {
    match (pattern, principal) {
        (PrincipalPattern::AnyAws, Principal::Federated(_)) => {
            (effect == Effect::Deny).then_some(Named::Directly)
        }
        (PrincipalPattern::Any | PrincipalPattern::AnyAws, _) => Some(Named::Directly),
        (PrincipalPattern::Federated(wanted), Principal::Federated(got)) => {
            (**wanted == **got).then_some(Named::Directly)
        }
        (PrincipalPattern::Service(wanted), Principal::Service(got)) => {
            (**wanted == **got).then_some(Named::Directly)
        }
        (PrincipalPattern::Account { partition, id }, _) => {
            let here = partition
                .as_deref()
                .is_none_or(|p| principal.partition() == Some(p));
            (here && Some(&**id) == principal.account()).then_some(Named::Account)
        }
        (
            PrincipalPattern::Role { arn, account, name },
            Principal::RoleSession {
                account: got,
                role,
                role_arn,
                ..
            },
        ) => {
            let same = match role_arn {
                Some(role_arn) => **arn == **role_arn,
                None => {
                    **account == **got
                        && **name == **role
                        && arn.split(':').nth(1) == principal.partition()
                }
            };
            same.then_some(Named::Role)
        }
        (PrincipalPattern::Id(wanted), Principal::User { id, .. }) => {
            (Some(&**wanted) == *id).then_some(Named::Directly)
        }
        (PrincipalPattern::Id(wanted), Principal::RoleSession { id, .. }) => {
            (Some(&**wanted) == *id).then_some(Named::Role)
        }
        (PrincipalPattern::Session { role, name }, Principal::RoleSession { id, arn, .. }) => {
            let same = Some(&**role) == *id && arn.rsplit('/').next() == Some(&**name);
            same.then_some(Named::Directly)
        }
        (
            PrincipalPattern::Exact(wanted),
            Principal::User { arn, .. }
            | Principal::RoleSession { arn, .. }
            | Principal::FederatedUser { arn, .. },
        ) => (**wanted == **arn).then_some(Named::Directly),
        _ => None,
    }
}

/// Whether the entries name every form of the principal: account, role and session.
fn names_fully(patterns: &[PrincipalPattern], principal: &Principal<'_>) -> bool {
    // This is the `NotPrincipal` of a Deny: an entry that only may name the principal must not
    // spare it, so the entries are read as in an Allow.
    let named = |wanted| {
        patterns
            .iter()
            .any(|p| names(p, principal, Effect::Allow) == Some(wanted))
    };
    match principal {
        Principal::Federated(_) | Principal::Service(_) | Principal::Anonymous => {
            named(Named::Directly)
        }
        _ if patterns
            .iter()
            .any(|p| matches!(p, PrincipalPattern::Any | PrincipalPattern::AnyAws)) =>
        {
            true
        }
        Principal::RoleSession { .. } => {
            named(Named::Directly) && named(Named::Role) && named(Named::Account)
        }
        Principal::User { .. } | Principal::FederatedUser { .. } => {
            named(Named::Directly) && named(Named::Account)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::evaluator::{Outcome, Policies, Policy, PolicyKind, RequestContext, evaluate};

    const USER: Principal<'_> = Principal::User {
        account: "111122223333",
        arn: "arn:aws:iam::111122223333:user/dev/alice",
        id: Some("AIDAALICEALICEALICE1"),
    };
    const SESSION: Principal<'_> = Principal::RoleSession {
        account: "111122223333",
        role: "Mid",
        role_arn: Some("arn:aws:iam::111122223333:role/dev/Mid"),
        arn: "arn:aws:sts::111122223333:assumed-role/Mid/job",
        id: Some("AROAMIDMIDMIDMIDMID1"),
    };
    const GITLAB: Principal<'_> =
        Principal::Federated("arn:aws:iam::111122223333:oidc-provider/gitlab.com");
    const OWN_IDP: Principal<'_> =
        Principal::Federated("arn:aws:iam::111122223333:oidc-provider/idp.example");

    /// Whether a trust policy with this principal allows the caller, and whether a Deny applies to
    /// it.
    fn named(principal: Principal<'_>, element: &str, condition: &str) -> (bool, bool) {
        let decide = |effect: &str, more: &str| {
            let text = format!(
                r#"{{"Version":"2012-10-17","Statement":[{{"Effect":"{effect}","Principal":{element},"Action":"sts:*","Condition":{{{condition}}}}}{more}]}}"#
            );
            let policy =
                Policy::parse(PolicyKind::Trust, &text).unwrap_or_else(|e| panic!("{text}: {e}"));
            let mut context = RequestContext::new();
            context.set(
                "gitlab.com:sub",
                "project_path:acme/app:ref_type:branch:ref:main",
            );
            context.set("aws:SourceIp", "192.0.2.1");
            let request = Request {
                principal,
                action: "sts:AssumeRole",
                resource: "arn:aws:iam::111122223333:role/Target",
                resource_account: "111122223333",
                context: &context,
            };
            let policies = Policies {
                resource: Some(&policy),
                resource_is_trust: true,
                ..Policies::default()
            };
            evaluate(&request, &policies).outcome
        };
        (
            decide("Allow", "") == Outcome::Allowed,
            decide("Deny", "") == Outcome::ExplicitlyDenied,
        )
    }

    #[test]
    fn aws_star_lets_in_no_identity_provider_and_denies_it() {
        for caller in [USER, SESSION] {
            assert_eq!(named(caller, r#"{"AWS":"*"}"#, ""), (true, true));
            assert_eq!(named(caller, r#""*""#, ""), (true, true));
        }
        for provider in [GITLAB, OWN_IDP] {
            assert_eq!(named(provider, r#"{"AWS":"*"}"#, ""), (false, true));
        }
        assert_eq!(named(OWN_IDP, r#""*""#, ""), (true, true));
        // The holder of a shared issuer's token is named only if conditions identify the owner, not
        // by `*` alone.
        let ip = r#""IpAddress":{"aws:SourceIp":"192.0.2.0/24"}"#;
        assert_eq!(named(GITLAB, r#""*""#, ""), (false, true));
        assert_eq!(named(GITLAB, r#""*""#, ip), (false, true));
        assert_eq!(
            named(
                GITLAB,
                r#""*""#,
                r#""StringLike":{"gitlab.com:sub":"project_path:acme/*"}"#
            ),
            (true, true)
        );
        assert_eq!(
            named(
                GITLAB,
                r#"{"Federated":"arn:aws:iam::111122223333:oidc-provider/gitlab.com"}"#,
                ip
            ),
            (true, true)
        );
    }

    #[test]
    fn a_caller_without_credentials_is_named_as_everybody_and_in_no_other_way() {
        for everybody in [r#""*""#, r#"{"AWS":"*"}"#] {
            assert_eq!(named(Principal::Anonymous, everybody, ""), (true, true));
        }
        for other in [
            r#"{"AWS":"111122223333"}"#,
            r#"{"AWS":"arn:aws:iam::111122223333:role/dev/Mid"}"#,
            r#"{"Federated":"arn:aws:iam::111122223333:oidc-provider/idp.example"}"#,
            r#"{"Service":"ec2.amazonaws.com"}"#,
        ] {
            assert_eq!(
                named(Principal::Anonymous, other, ""),
                (false, false),
                "{other}"
            );
        }
    }

    #[test]
    fn principals_are_compared_with_their_path_and_partition() {
        let aws = |text: &str| format!(r#"{{"AWS":"{text}"}}"#);
        for (caller, wanted, is) in [
            (USER, "arn:aws:iam::111122223333:user/dev/alice", true),
            (USER, "arn:aws:iam::111122223333:user/alice", false),
            (USER, "arn:aws:iam::111122223333:user/prod/alice", false),
            (
                USER,
                "arn:aws-us-gov:iam::111122223333:user/dev/alice",
                false,
            ),
            (SESSION, "arn:aws:iam::111122223333:role/dev/Mid", true),
            (SESSION, "arn:aws:iam::111122223333:role/prod/Mid", false),
            (SESSION, "arn:aws:iam::111122223333:role/Mid", false),
            (SESSION, "arn:aws-cn:iam::111122223333:role/dev/Mid", false),
            (
                SESSION,
                "arn:aws:sts::111122223333:assumed-role/Mid/job",
                true,
            ),
            (
                SESSION,
                "arn:aws:sts::111122223333:assumed-role/Mid/other",
                false,
            ),
            (
                SESSION,
                "arn:aws-us-gov:sts::111122223333:assumed-role/Mid/job",
                false,
            ),
        ] {
            assert_eq!(named(caller, &aws(wanted), ""), (is, is), "{wanted}");
        }
        // The account of another partition is another account.
        for (wanted, is) in [
            ("111122223333", true),
            ("arn:aws:iam::111122223333:root", true),
            ("arn:aws-us-gov:iam::111122223333:root", false),
        ] {
            assert_eq!(named(USER, &aws(wanted), "").1, is, "{wanted}");
            assert_eq!(named(SESSION, &aws(wanted), "").1, is, "{wanted}");
        }
        // Without a path, a role is identified by its name, as in the cases of `policy simulate`.
        let Principal::RoleSession {
            account, role, arn, ..
        } = SESSION
        else {
            return;
        };
        let bare = Principal::RoleSession {
            account,
            role,
            role_arn: None,
            arn,
            id: None,
        };
        assert_eq!(
            named(bare, &aws("arn:aws:iam::111122223333:role/any/Mid"), ""),
            (true, true)
        );
        assert_eq!(
            named(bare, &aws("arn:aws-cn:iam::111122223333:role/Mid"), ""),
            (false, false)
        );
    }

    #[test]
    fn a_unique_id_names_whoever_has_it() {
        let aws = |text: &str| format!(r#"{{"AWS":"{text}"}}"#);
        for (caller, wanted, is) in [
            (USER, "AIDAALICEALICEALICE1", true),
            (USER, "AIDAALICEALICEALICE2", false),
            (SESSION, "AROAMIDMIDMIDMIDMID1", true),
            (SESSION, "AROAMIDMIDMIDMIDMID1:job", true),
            (SESSION, "AROAMIDMIDMIDMIDMID1:other", false),
            (SESSION, "AROAMIDMIDMIDMIDMID2:job", false),
            (SESSION, "AIDAALICEALICEALICE1", false),
            (OWN_IDP, "AIDAALICEALICEALICE1", false),
        ] {
            assert_eq!(named(caller, &aws(wanted), ""), (is, is), "{wanted}");
        }
    }
}
