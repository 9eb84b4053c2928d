//! Explicit deny, boundaries, session policies, allow. Knows no role and no store.
//!
//! IAM User Guide, "Policy evaluation logic" and "Cross-account policy evaluation logic".

use super::context::Context;
use super::document::{
    ActionPattern, Actions, Effect, Policy, PrincipalPattern, Principals, Resources, Statement,
};
use super::pattern::Match;
use super::strangers;

/// Who asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Principal<'a> {
    /// An IAM user, by ARN.
    User {
        /// Twelve digits.
        account: &'a str,
        /// The user's ARN.
        arn: &'a str,
        /// The user's unique id (`AIDA…`), where it is known.
        id: Option<&'a str>,
    },
    /// A session of a role: `arn:aws:sts::ACCOUNT:assumed-role/ROLE/SESSION`.
    RoleSession {
        /// Twelve digits.
        account: &'a str,
        /// The role's name without its path.
        role: &'a str,
        /// The role's ARN with its path. Where it is not known, the name says which role it is.
        role_arn: Option<&'a str>,
        /// The session's ARN.
        arn: &'a str,
        /// The role's unique id (`AROA…`), where it is known.
        id: Option<&'a str>,
    },
    /// A session of GetFederationToken: `arn:aws:sts::ACCOUNT:federated-user/NAME`.
    FederatedUser {
        /// Twelve digits.
        account: &'a str,
        /// The session's ARN.
        arn: &'a str,
    },
    /// An identity provider, by ARN or domain; only `Federated` entries name it.
    Federated(&'a str),
    /// A service; only `Service` entries name it.
    Service(&'a str),
}

impl<'a> Principal<'a> {
    fn account(&self) -> Option<&'a str> {
        match self {
            Self::User { account, .. }
            | Self::RoleSession { account, .. }
            | Self::FederatedUser { account, .. } => Some(account),
            Self::Federated(_) | Self::Service(_) => None,
        }
    }

    /// The partition of its ARN: `aws`, `aws-us-gov`, `aws-cn`.
    fn partition(&self) -> Option<&'a str> {
        match self {
            Self::User { arn, .. }
            | Self::RoleSession { arn, .. }
            | Self::FederatedUser { arn, .. } => arn.split(':').nth(1),
            Self::Federated(_) | Self::Service(_) => None,
        }
    }
}

/// What is asked.
#[derive(Debug, Clone, Copy)]
pub struct Request<'a> {
    /// Who asks.
    pub principal: Principal<'a>,
    /// `service:Name`.
    pub action: &'a str,
    /// A literal name, even if it holds `*` or `?`.
    pub resource: &'a str,
    /// The account that owns the resource (not every ARN names it).
    pub resource_account: &'a str,
    /// What is known of each condition key.
    pub context: &'a Context<'a>,
}

/// The policies in force for one request.
#[derive(Debug, Clone, Copy, Default)]
pub struct Policies<'a> {
    /// Of the user and its groups, or of the role; managed and inline.
    pub identity: &'a [&'a Policy],
    /// The resource's policy, or the role's trust policy.
    pub resource: Option<&'a Policy>,
    /// Whether `resource` is a trust policy, which must always allow.
    pub resource_is_trust: bool,
    /// Session policies, which act as one document; `None`: none was passed.
    pub session: Option<&'a [&'a Policy]>,
    /// The permissions boundary.
    pub boundary: Option<&'a Policy>,
    /// Service control policies from the root down, a list a level; `None`: not in an organization.
    pub service_control: Option<&'a [&'a [&'a Policy]]>,
    /// Resource control policies, likewise; what `RCPFullAWSAccess` allows is not spelled out.
    pub resource_control: Option<&'a [&'a [&'a Policy]]>,
}

/// The three answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// Something allows and nothing denies.
    Allowed,
    /// A Deny statement applies.
    ExplicitlyDenied,
    /// Nothing denies, and something that is needed is missing.
    ImplicitlyDenied,
}

/// Which of the policies in force a statement stands in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// `Policies::identity`, by position.
    Identity(usize),
    /// The resource's or the trust policy.
    Resource,
    /// `Policies::session`, by position.
    Session(usize),
    /// The permissions boundary.
    Boundary,
    /// `Policies::service_control`, by level and position.
    ServiceControl(usize, usize),
    /// `Policies::resource_control`, by level and position.
    ResourceControl(usize, usize),
}

/// A statement, by its place in the policies in force.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StatementRef {
    /// The policy.
    pub source: Source,
    /// The statement's position in it, from 0.
    pub index: usize,
}

/// The answer and the statement that made it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Decision {
    /// Allowed or not, and how.
    pub outcome: Outcome,
    /// The statement that denied, or that granted; none where something was missing.
    pub by: Option<StatementRef>,
}

impl Decision {
    /// Whether the request may go on.
    pub fn is_allowed(&self) -> bool {
        self.outcome == Outcome::Allowed
    }
}

/// How a resource policy names the principal it allows, weakest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Named {
    /// By its account alone: that account's own policies must allow too.
    Account,
    /// By its role: within boundary and session policies.
    Role,
    /// Itself, or everybody: nothing limits the grant.
    Directly,
}

/// Judges one request. Allocates nothing and has no other input than its arguments.
pub fn evaluate(request: &Request<'_>, policies: &Policies<'_>) -> Decision {
    let bounded = policies.boundary.is_some();
    let denied = |source: Source, policy: &Policy| {
        let index = policy.first(Effect::Deny, request, |s| denies(s, request, bounded));
        index.map(|index| Decision {
            outcome: Outcome::ExplicitlyDenied,
            by: Some(StatementRef { source, index }),
        })
    };
    let missing = Decision {
        outcome: Outcome::ImplicitlyDenied,
        by: None,
    };

    if let Some(denial) = in_force(policies).find_map(|(source, policy)| denied(source, policy)) {
        return denial;
    }

    let resource = policies.resource.and_then(|p| grant(p, request));
    let allowed = |by| Decision {
        outcome: Outcome::Allowed,
        by: Some(by),
    };
    let Some(account) = request.principal.account() else {
        // Services and identity providers have no policies of their own.
        return resource.map_or(missing, |(_, index)| {
            allowed(StatementRef {
                source: Source::Resource,
                index,
            })
        });
    };

    let levels = policies.service_control.unwrap_or_default();
    if !levels
        .iter()
        .all(|level| level.iter().any(|p| allow(p, request).is_some()))
    {
        return missing;
    }
    let within = policies
        .boundary
        .is_none_or(|p| allow(p, request).is_some())
        && policies
            .session
            .is_none_or(|set| set.iter().any(|p| allow(p, request).is_some()));
    let identity = match request.principal {
        // A federated user has the calling user's policies, cut by its session policies; with none
        // passed it has nothing.
        Principal::FederatedUser { .. } if policies.session.is_none() => None,
        _ => policies.identity.iter().enumerate().find_map(|(i, p)| {
            let index = allow(p, request)?;
            Some(StatementRef {
                source: Source::Identity(i),
                index,
            })
        }),
    };
    let by_resource = resource.map(|(named, index)| {
        (
            named,
            StatementRef {
                source: Source::Resource,
                index,
            },
        )
    });

    if account != request.resource_account {
        return match (by_resource, identity) {
            (Some((_, by)), Some(_)) if within => allowed(by),
            _ => missing,
        };
    }
    match by_resource {
        Some((Named::Directly, by)) => allowed(by),
        Some((Named::Role, by)) if within => allowed(by),
        Some((Named::Account, by))
            if policies.resource_is_trust && within && identity.is_some() =>
        {
            allowed(by)
        }
        _ if policies.resource_is_trust => missing,
        _ => identity.filter(|_| within).map_or(missing, allowed),
    }
}

/// Every policy in force with its place.
pub(super) fn in_force<'a>(policies: &Policies<'a>) -> impl Iterator<Item = (Source, &'a Policy)> {
    let levels = |set: Option<&'a [&'a [&'a Policy]]>, source: fn(usize, usize) -> Source| {
        let set = set.unwrap_or_default().iter().enumerate();
        set.flat_map(move |(l, level)| {
            level
                .iter()
                .enumerate()
                .map(move |(i, p)| (source(l, i), *p))
        })
    };
    let identity = policies
        .identity
        .iter()
        .enumerate()
        .map(|(i, p)| (Source::Identity(i), *p));
    let session = policies
        .session
        .unwrap_or_default()
        .iter()
        .enumerate()
        .map(|(i, p)| (Source::Session(i), *p));
    identity
        .chain(policies.resource.map(|p| (Source::Resource, p)))
        .chain(session)
        .chain(policies.boundary.map(|p| (Source::Boundary, p)))
        .chain(levels(policies.service_control, Source::ServiceControl))
        .chain(levels(policies.resource_control, Source::ResourceControl))
}

/// The first statement of a policy without principals that allows.
fn allow(policy: &Policy, request: &Request<'_>) -> Option<usize> {
    policy.first(Effect::Allow, request, |s| applies_to_resource(s, request))
}

impl Policy {
    /// The first statement of this effect that speaks of the action and passes `test`.
    fn first(
        &self,
        effect: Effect,
        request: &Request<'_>,
        test: impl Fn(&Statement) -> bool,
    ) -> Option<usize> {
        let candidates = self.index.candidates(effect, request.action);
        candidates
            .filter(|(at, sure)| {
                self.statements
                    .get(*at)
                    .is_some_and(|s| (*sure || action_matches(s, request)) && test(s))
            })
            .map(|(at, _)| at)
            .min()
    }
}

/// The strongest grant of a resource or trust policy, and its statement.
fn grant(policy: &Policy, request: &Request<'_>) -> Option<(Named, usize)> {
    let mut best = None;
    for (index, statement) in policy.statements.iter().enumerate() {
        if statement.effect != Effect::Allow {
            continue;
        }
        let named = match &statement.principals {
            Principals::Implied => None,
            Principals::Are(patterns) => patterns
                .iter()
                .filter_map(|p| names_in(statement, p, &request.principal))
                .max(),
            // In doubt whether an entry names the caller, it does: the Allow is for all others.
            Principals::AreNot(patterns) => patterns
                .iter()
                .all(|p| names(p, &request.principal, Effect::Deny).is_none())
                .then_some(Named::Directly),
        };
        if let Some(named) = named
            && best.is_none_or(|(strongest, _)| named > strongest)
            && action_matches(statement, request)
            && applies_to_resource(statement, request)
        {
            best = Some((named, index));
        }
    }
    best
}

/// Whether a Deny statement hits, its action apart.
fn denies(statement: &Statement, request: &Request<'_>, bounded: bool) -> bool {
    principal_matches(statement, request, bounded) != Some(false)
        && applies_to_resource(statement, request)
}

/// Whether the Principal element speaks of the caller; none where it may not stand.
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
        // "NotPrincipal" with "Deny" always hits a principal that has a permissions boundary; else
        // only a principal that is named in each of its forms (account, role, session) escapes.
        (Principals::AreNot(patterns), Effect::Deny) => {
            Some(bounded || !names_fully(patterns, &request.principal))
        }
    }
}

/// How an entry of a statement's Principal names the principal. `*` in an Allow does not name an
/// identity provider that many organisations share, unless the conditions say whose tokens are meant.
fn names_in(
    statement: &Statement,
    pattern: &PrincipalPattern,
    principal: &Principal<'_>,
) -> Option<Named> {
    let named = names(pattern, principal, statement.effect)?;
    let stranger = match (pattern, principal, statement.effect) {
        (PrincipalPattern::Any, Principal::Federated(provider), Effect::Allow) => {
            strangers::is_unbound(provider, &statement.conditions)
        }
        _ => false,
    };
    (!stranger).then_some(named)
}

/// How an entry names the principal. `effect` decides what documentation leaves open: whether
/// `{"AWS": "*"}` names an identity provider. A Deny hits it, an Allow does not let it in.
fn names(pattern: &PrincipalPattern, principal: &Principal<'_>, effect: Effect) -> Option<Named> {
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

fn names_fully(patterns: &[PrincipalPattern], principal: &Principal<'_>) -> bool {
    // `NotPrincipal` of a Deny: what is named in doubt is not spared, so these are read as an Allow reads them.
    let named = |wanted| {
        patterns
            .iter()
            .any(|p| names(p, principal, Effect::Allow) == Some(wanted))
    };
    match principal {
        Principal::Federated(_) | Principal::Service(_) => named(Named::Directly),
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

/// Resource and conditions; principal and action are the callers' business.
fn applies_to_resource(statement: &Statement, request: &Request<'_>) -> bool {
    resource_matches(statement, request)
        && statement
            .conditions
            .iter()
            .all(|c| c.holds(request.context, statement.effect))
}

pub(super) fn action_matches(statement: &Statement, request: &Request<'_>) -> bool {
    match &statement.actions {
        Actions::Are(patterns) => patterns.iter().any(|p| p.matches(request)),
        Actions::AreNot(patterns) => !patterns.iter().any(|p| p.matches(request)),
    }
}

pub(super) fn resource_matches(statement: &Statement, request: &Request<'_>) -> bool {
    match &statement.resources {
        Resources::Implied => true,
        Resources::Are(patterns) => patterns
            .iter()
            .any(|p| p.matches(request.resource, request.context) == Match::Yes),
        Resources::AreNot(patterns) => excluded(patterns, statement.effect, request),
    }
}

/// `NotResource`: a variable without a value names nothing, and what that leaves is not
/// documented: a Deny then applies and an Allow does not.
fn excluded(
    patterns: &[super::pattern::ArnPattern],
    effect: Effect,
    request: &Request<'_>,
) -> bool {
    let mut doubt = false;
    for pattern in patterns {
        match pattern.matches(request.resource, request.context) {
            Match::Yes => return false,
            Match::No => {}
            Match::NoValue => doubt = true,
        }
    }
    !doubt || effect == Effect::Deny
}

impl ActionPattern {
    fn matches(&self, request: &Request<'_>) -> bool {
        match self {
            Self::Any => true,
            Self::Named { service, name, .. } => {
                request.action.split_once(':').is_some_and(|(s, n)| {
                    service.matches_ignore_case(s, request.context) == Match::Yes
                        && name.matches_ignore_case(n, request.context) == Match::Yes
                })
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::evaluator::Kind;

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

    /// Whether a trust policy with that principal lets the caller in, and whether a Deny hits it.
    fn named(principal: Principal<'_>, element: &str, condition: &str) -> (bool, bool) {
        let decide = |effect: &str, more: &str| {
            let text = format!(
                r#"{{"Version":"2012-10-17","Statement":[{{"Effect":"{effect}","Principal":{element},"Action":"sts:*","Condition":{{{condition}}}}}{more}]}}"#
            );
            let policy =
                Policy::parse(Kind::Trust, &text).unwrap_or_else(|e| panic!("{text}: {e}"));
            let mut context = Context::new();
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
        // Whoever has a token of a shared issuer is named by what binds the owner, not by `*`.
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
        // Without its path a role is known by its name: so the cases of `policy simulate` have it.
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
