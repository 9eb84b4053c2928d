//! The actions of the IAM API. Each reads its model's input, is authorised on what it is about, and
//! answers in its model's shape. A new one is an [`Action`] and a line in [`actions`].

pub mod action;
pub mod actions;
pub(super) mod change;
mod mfa_devices;
mod page;
mod target;
