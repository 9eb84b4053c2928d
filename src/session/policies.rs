//! [`Compiled`]: the policies that limit a session, ready to be evaluated. Every decision about a session's requests
//! uses this type, so that none of its policies can be left out.

use super::packing::Limits;
use crate::evaluator::{ParseError, Policy, PolicyKind};

/// The policies that limit a session, compiled from [`Limits`].
#[derive(Default)]
pub struct Compiled {
    /// The inline session policy with which the session was requested.
    pub inline: Option<Policy>,
    /// The ARNs of the managed session policies with which the session was requested.
    pub arns: Box<[String]>,
    /// The scope-down policies by which the session was narrowed later, the oldest first. An action is allowed only if
    /// every one of them allows it.
    pub scope_down: Box<[Policy]>,
}

impl Compiled {
    /// Compiles the policies among the limits of a session.
    ///
    /// # Errors
    /// [`ParseError`] if one of them is not a valid session policy. This does not happen with the limits in a token
    /// that a broker has issued.
    pub fn new(limits: &Limits) -> Result<Self, ParseError> {
        let parse = |text: &str| Policy::parse(PolicyKind::Session, text);
        let scope_down = limits.scope_down.iter().map(|s| parse(&s.policy));
        Ok(Self {
            inline: match limits.policy.as_str() {
                "" => None,
                text => Some(parse(text)?),
            },
            arns: limits.policy_arns.clone().into(),
            scope_down: scope_down.collect::<Result<_, _>>()?,
        })
    }

    /// Whether any session policy or scope-down policy limits the session.
    pub fn is_restricted(&self) -> bool {
        self.was_passed() || !self.scope_down.is_empty()
    }

    /// Whether session policies were passed when the session was requested. Scope-down policies, which are added later,
    /// do not count.
    pub fn was_passed(&self) -> bool {
        self.inline.is_some() || !self.arns.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::session::packing::ScopeDown;

    #[test]
    fn every_policy_counts_as_a_limit_and_a_bad_one_is_an_error() {
        const POLICY: &str = r#"{"Version":"2012-10-17","Statement":{"Effect":"Allow","Action":"*","Resource":"*"}}"#;
        let scope_down = |policy: &str| ScopeDown {
            policy: policy.into(),
            description: String::new(),
        };
        let limits = |policy: &str, arns: &[&str], narrowed: &[&str]| Limits {
            tags: Vec::new(),
            policy: policy.into(),
            policy_arns: arns.iter().map(|&a| a.into()).collect(),
            scope_down: narrowed.iter().map(|p| scope_down(p)).collect(),
        };
        for (limits, restricted, passed) in [
            (limits("", &[], &[]), false, false),
            (limits(POLICY, &[], &[]), true, true),
            (
                limits("", &["arn:aws:iam::111122223333:policy/P"], &[]),
                true,
                true,
            ),
            (limits("", &[], &[POLICY]), true, false),
        ] {
            let compiled = Compiled::new(&limits).ok().unwrap();
            assert_eq!(
                (compiled.is_restricted(), compiled.was_passed()),
                (restricted, passed)
            );
        }
        for bad in [limits("{}", &[], &[]), limits("", &[], &[POLICY, ""])] {
            assert!(Compiled::new(&bad).is_err());
        }
    }
}
