//! A statement as it is compiled: what is left of the JSON for those who judge, explain and lint.

use super::condition::Condition;
use super::pattern::{ArnPattern, Pattern};
use super::principals::Principals;

/// One statement.
#[derive(Debug, Clone)]
pub(super) struct Statement {
    /// Line and column where it begins.
    pub begins: (usize, usize),
    pub sid: Option<Box<str>>,
    pub effect: Effect,
    pub principals: Principals,
    pub actions: Actions,
    pub resources: Resources,
    pub conditions: Box<[Condition]>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Effect {
    Allow,
    Deny,
}

impl Effect {
    /// The answer to what documentation leaves open: a Deny in doubt applies, an Allow does not.
    #[inline]
    pub fn applies_in_doubt(self) -> bool {
        self == Self::Deny
    }
}

#[derive(Debug, Clone)]
pub(super) enum Actions {
    Are(Box<[ActionPattern]>),
    AreNot(Box<[ActionPattern]>),
}

#[derive(Debug, Clone)]
pub(super) enum ActionPattern {
    Any,
    /// `service:name`, each with wildcards and without regard to case.
    Named {
        /// As written.
        text: Box<str>,
        service: Pattern,
        name: Pattern,
    },
}

#[derive(Debug, Clone)]
pub(super) enum Resources {
    /// A trust policy speaks of its role.
    Implied,
    Are(Box<[ArnPattern]>),
    AreNot(Box<[ArnPattern]>),
}
