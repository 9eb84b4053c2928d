//! The actions of the IAM API. Each parses its input by AWS's model, is authorized on the resource
//! that it concerns, and answers in the form of the model. A new action is an [`action::Action`] and a line
//! in [`actions`].

pub mod action;
pub mod actions;
pub(super) mod change;
mod mfa_devices;
mod page;
mod target;
