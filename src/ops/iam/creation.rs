//! Code that all actions creating an entity share: the authorization, the rules for tags, and the
//! values that IAM generates.

use super::action::{Action, Resource, permit, permit_as, requested};
use super::node_tags::permit_profile;
use crate::base::names;
use crate::directory::declaration::Tag;
use crate::directory::{Defaults, resource};
use crate::error::Error;
use crate::ops::context::Context;

/// An entity that a request creates, before it exists.
pub(super) struct New<'a> {
    /// The ARN that the entity will have.
    pub arn: &'a str,
    pub tags: &'a [Tag],
    /// The ARN of the entity's permissions boundary; `None` if the request sets none.
    pub boundary: Option<&'a str>,
    /// The further permission that the caller needs if the request has tags, such as `iam:TagUser`.
    pub tagging: &'static str,
}

impl New<'_> {
    /// Authorizes the creation of the entity, and its tags.
    ///
    /// # Errors
    /// [`Error::AccessDenied`] if the caller may not create it, may not tag it, or may not pass the role of the
    /// instance profile that a tag names.
    pub(super) fn permit<A: Action>(&self, cx: &mut Context<'_>) -> Result<(), Error> {
        let tags = requested(self.tags);
        let resource = Resource::to_be_made(self.arn, &tags);
        permit::<A>(cx, &resource.with("iam:PermissionsBoundary", self.boundary))?;
        if tags.is_empty() {
            return Ok(());
        }
        permit_as(cx, self.tagging, &Resource::to_be_made(self.arn, &tags))?;
        permit_profile(cx, self.arn, &tags)
    }

    /// Checks the number, the keys and the values of the tags.
    ///
    /// # Errors
    /// [`Error::InvalidInput`] with the rule that they break.
    pub(super) fn check_tags(&self) -> Result<(), Error> {
        let checked = names::tags(requested(self.tags));
        checked
            .map(drop)
            .map_err(|error| Error::InvalidInput(Error::from(error).to_string()))
    }
}

/// Authorizes the creation of an entity, and its tags.
///
/// # Errors
/// [`Error::InvalidInput`] for keys of tags that break a rule, and the errors of [`New::permit`].
pub(super) fn permit_creation<A: Action>(cx: &mut Context<'_>, new: &New<'_>) -> Result<(), Error> {
    check_keys(new.tags.iter().map(|tag| tag.key.as_str()))?;
    new.permit::<A>(cx)
}

/// Checks the keys of tags. None may be reserved for AWS, and none may occur twice, without regard
/// to case.
///
/// # Errors
/// [`Error::InvalidInput`] with AWS's text.
pub(super) fn check_keys<'a>(keys: impl Iterator<Item = &'a str>) -> Result<(), Error> {
    let mut seen = Vec::new();
    for key in keys {
        let folded = key.to_ascii_lowercase();
        if folded.starts_with("aws:") {
            let text = "aws: prefixed tag key names are not allowed for external use.";
            return Err(Error::InvalidInput(text.to_owned()));
        }
        if seen.contains(&folded) {
            let text = "Duplicate tag keys found. Please note that Tag keys are case insensitive.";
            return Err(Error::InvalidInput(text.to_owned()));
        }
        seen.push(folded);
    }
    Ok(())
}

/// Fills in the id and the creation date that IAM generates for a new entity.
///
/// # Errors
/// [`Error::ServiceUnavailable`] if there are no random bytes for the id.
pub(super) fn filled(
    cx: &Context<'_>,
    mut resource: resource::Resource,
) -> Result<resource::Resource, Error> {
    resource.fill(&Defaults {
        entropy: &*cx.broker.entropy,
        now: cx.now,
    })?;
    Ok(resource)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_of_tags_are_not_reserved_and_occur_once() {
        let check = |keys: &[&str]| check_keys(keys.iter().copied());
        assert_eq!(check(&[]), Ok(()));
        assert_eq!(check(&["Team", "Stage", "awsome"]), Ok(()));
        for reserved in ["aws:x", "AWS:x", "Aws:"] {
            let refused = check(&["Team", reserved]).unwrap_err();
            assert_eq!(refused.code(), "InvalidInput", "{reserved}");
        }
        for twice in [["Team", "Team"], ["Team", "tEAM"]] {
            let refused = check(&twice).unwrap_err();
            assert!(refused.to_string().starts_with("Duplicate tag keys found"));
        }
    }
}
