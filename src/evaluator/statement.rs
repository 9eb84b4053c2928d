//! A compiled statement, with everything that evaluation, explanation and lint need.

use super::condition::Condition;
use super::pattern::{ArnPattern, Pattern};
use super::principals::Principals;

#[derive(Debug, Clone)]
pub(super) struct Statement {
    /// The line and the column where the statement begins, both counted from 1.
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
    /// Whether a statement with this effect applies if AWS's documentation leaves that open, or it depends on a key
    /// whose value is not known here: a Deny does, an Allow does not.
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
    /// `service:name`, each with wildcards and matched without regard to case.
    Named {
        /// The whole pattern as the policy spells it.
        text: Box<str>,
        service: Pattern,
        name: Pattern,
    },
}

#[derive(Debug, Clone)]
pub(super) enum Resources {
    /// The statement has no such element: a trust policy applies to its own role.
    Implied,
    Are(Box<[ArnPattern]>),
    AreNot(Box<[ArnPattern]>),
}
