//! The evaluator's door: a request and the policies in force go in, a [`Decision`] comes out.
//!
//! This is the only place where policy is judged. It is pure: no clock, no store, no role, no
//! network; whatever a decision depends on is in its arguments. A document is checked and compiled
//! once ([`Policy::parse`]) and then matched without allocation.
//!
//! The rules are those of the IAM User Guide, "Policy evaluation logic" and "IAM JSON policy
//! elements reference". Where AWS's documentation is silent, the answer that refuses is taken: an
//! Allow in doubt does not match, a Deny in doubt does.

mod actions;
mod condition;
mod context;
mod document;
mod evaluate;
mod explain;
mod index;
mod json;
pub mod keys;
mod kind;
pub mod lint;
mod matching;
mod naming;
mod pattern;
mod principals;
mod request;
mod shared_issuers;
pub mod simulate;
mod statement;
pub mod strangers;
mod values;

pub use context::{Context, Value};
pub use document::{Policy, aws_principals};
pub use evaluate::evaluate;
pub use explain::{ConditionReport, Explanation, StatementReport, explain};
pub use json::{ParseError, Place};
pub use kind::Kind;
pub use principals::NamedPrincipal;
pub use request::{Decision, Outcome, Policies, Principal, Request, Source, StatementRef};
pub use values::Network;
