//! The actions of the IAM API. Each parses its input according to AWS's model, authorizes the
//! caller on the resource that it concerns, and returns the output that the model defines. A new
//! action is an [`action::Action`] and a line in [`actions`].

mod absent;
pub mod access_keys;
mod account_alias;
mod account_details;
mod account_summary;
pub mod action;
pub mod actions;
mod attachments;
mod boundaries;
pub mod catalogue;
pub(super) mod change;
mod context_keys;
mod creation;
mod credential_report;
mod documents;
mod entities;
mod fresh;
mod groups;
mod inline_policies;
mod instance_profiles;
pub mod login_profiles;
mod memberships;
pub mod mfa_devices;
mod node_tags;
mod oidc_providers;
mod owner;
mod page;
mod password_policy;
mod policies;
mod rename;
mod roles;
mod rows;
mod saml_providers;
mod simulation;
mod tags;
mod target;
mod users;
