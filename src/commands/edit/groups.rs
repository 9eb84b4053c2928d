//! Adds a user to groups, and removes it from them. Names are compared without regard to case.

use super::{remove_from, unfit};
use crate::commands::CommandError;
use crate::directory::resource::Resource;

/// Adds a user to a group. It is not an error if the user is already in it: IAM API Reference,
/// "AddUserToGroup".
pub(super) fn add(resource: &mut Resource, name: &str) -> Result<(), CommandError> {
    let groups = of(resource)?;
    if !groups.iter().any(|g| g.eq_ignore_ascii_case(name)) {
        groups.push(name.to_owned());
    }
    Ok(())
}

pub(super) fn remove(resource: &mut Resource, name: &str) -> Result<(), CommandError> {
    let label = resource.label().to_owned();
    let words = format!("User {label} is not in group {name}.");
    let what = format!("group {name} among the groups of the {}", resource.name());
    remove_from(of(resource)?, |g| g.eq_ignore_ascii_case(name), what, words)
}

fn of(resource: &mut Resource) -> Result<&mut Vec<String>, CommandError> {
    match resource {
        Resource::User(u) => Ok(&mut u.group_list),
        other => Err(unfit(other, "groups")),
    }
}
