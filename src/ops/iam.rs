//! The actions of the IAM API. Each parses its input by AWS's model, is authorized on the resource
//! that it concerns, and answers in the form of the model. A new action is an [`action::Action`] and a line
//! in [`actions`].

mod absent;
mod access_keys;
mod account_alias;
#[allow(dead_code, reason = "the actions that use it are being added")]
pub mod action;
pub mod actions;
pub mod catalogue;
pub(super) mod change;
mod context_keys;
#[allow(dead_code, reason = "the actions that use it are being added")]
mod entities;
mod fresh;
mod login_profiles;
mod mfa_devices;
#[allow(dead_code, reason = "the actions that use it are being added")]
mod page;
mod password_policy;
#[allow(dead_code, reason = "the actions that use it are being added")]
mod rows;
mod simulation;
#[allow(dead_code, reason = "the actions that use it are being added")]
mod target;
