//! Sets and removes tags. Keys are compared without regard to case, and keep the case in which they
//! were last written.

use super::unfit;
use crate::commands::CommandError;
use crate::directory::declaration::Tag;
use crate::directory::resource::Resource;

pub(super) fn set(resource: &mut Resource, tags: &[(String, String)]) -> Result<(), CommandError> {
    let list = of(resource)?;
    for (key, value) in tags {
        let new = Tag {
            key: key.clone(),
            value: value.clone(),
        };
        match list.iter_mut().find(|t| t.key.eq_ignore_ascii_case(key)) {
            Some(tag) => *tag = new,
            None => list.push(new),
        }
    }
    Ok(())
}

/// Removes tags. It is not an error if a key does not exist: IAM API Reference, "UntagRole".
pub(super) fn remove(resource: &mut Resource, keys: &[String]) -> Result<(), CommandError> {
    of(resource)?.retain(|t| !keys.iter().any(|k| t.key.eq_ignore_ascii_case(k)));
    Ok(())
}

fn of(resource: &mut Resource) -> Result<&mut Vec<Tag>, CommandError> {
    let refused = unfit(resource, "tags");
    resource.tags_mut().ok_or(refused)
}
