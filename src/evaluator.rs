//! Policy evaluation: takes a request and the policies in force and returns a [`Decision`].
//!
//! This is the only place where policies are evaluated. It is pure: it reads no clock, no store and no network; a
//! decision depends only on the arguments. A document is validated and compiled once ([`Policy::parse`]), so that a
//! decision parses nothing of it.
//!
//! The rules are those of the IAM User Guide, "Policy evaluation logic" and "IAM JSON policy elements reference". Where
//! AWS's documentation leaves a case open, the restrictive answer is taken: an ambiguous Allow does not match, and an
//! ambiguous Deny does.

mod actions;
pub mod cases;
mod condition;
mod context;
mod document;
mod evaluate;
mod explain;
mod index;
mod json;
mod key_uses;
pub mod keys;
mod kind;
pub mod lint;
mod matching;
mod naming;
mod pattern;
mod possible;
mod principals;
mod request;
mod shared_issuers;
mod simulate;
mod statement;
pub mod strangers;
mod values;

pub use context::{RequestContext, Value};
pub use document::{AnnotatedPolicy, Policy, Position, Span, aws_principals};
pub use evaluate::evaluate;
pub use explain::{ConditionReport, Explanation, StatementReport, explain};
pub use json::{ParseError, Place};
pub use kind::PolicyKind;
pub use possible::{Possibility, possible};
pub use principals::{AllowedPrincipal, NamedPrincipal};
pub use request::{
    Decision, Outcome, Policies, Principal, Request, SessionPolicies, Source, StatementRef,
};
pub use simulate::{Simulation, simulate};
pub use values::{Network, ValueType};
