//! The tag that makes a user or a role a node with an instance profile: see [`crate::ops::node`].
//! Such a node gets the role of the instance profile, so setting the tag requires `iam:PassRole`,
//! as adding the role to the profile does.

use super::action::{Resource, permit_as};
use super::instance_profiles::{PASS_ROLE, PASSED_TO};
use super::target::Target;
use crate::base::arn::IamArn;
use crate::base::names::Tag;
use crate::error::Error;
use crate::ops::context::Context;
use crate::ops::node;

/// Checks that the caller may pass the role of the instance profile that a tag assigns to a node.
/// If the profile does not exist or has no role, the caller must be allowed to pass every role,
/// because any role might be added later.
///
/// # Errors
/// [`Error::AccessDenied`] if the caller may not pass the role. The error does not reveal its name.
pub(super) fn permit_profile(
    cx: &mut Context<'_>,
    node_arn: &str,
    tags: &[Tag],
) -> Result<(), Error> {
    let is_profile = |tag: &&Tag| tag.key.eq_ignore_ascii_case(node::INSTANCE_PROFILE);
    let is_node = IamArn::parse(node_arn).is_some_and(|arn| ["user", "role"].contains(&arn.kind));
    let Some(tag) = tags.iter().find(is_profile).filter(|_| is_node) else {
        return Ok(());
    };
    let account = cx.caller().account();
    let profile = cx.directory.instance_profile_named(account, &tag.value);
    let role = profile.and_then(|profile| profile.role.clone());
    let role = role
        .as_deref()
        .and_then(|role| role.split_once('/'))
        .map(|(_, name)| Target::role(cx, name));
    let any = format!("arn:aws:iam::{account}:role/*");
    let resource = role
        .as_ref()
        .map_or_else(|| Resource::new(&any, &[]), Target::resource);
    let shown_as = format!("the role of the instance profile {}", tag.value);
    let resource = Resource {
        shown_as: &shown_as,
        ..resource
    };
    let resource = resource
        .with("iam:PassedToService", Some(PASSED_TO))
        .with("iam:AssociatedResourceArn", Some(node_arn));
    permit_as(cx, PASS_ROLE, &resource)
}
