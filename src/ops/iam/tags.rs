//! The tags of all kinds of entities: IAM API Reference, "TagUser", "UntagUser", "ListUserTags" and
//! the same for roles, instance profiles, policies, providers and MFA devices.

use serde::{Deserialize, Serialize};

use super::action::{Action, Resource, permission, permit, requested};
use super::change::change;
use super::creation::check_keys;
use super::fresh::fresh;
use super::node_tags::permit_profile;
use super::page::{PageEnd, PageRequest};
use super::rows;
use super::target::Target;
use crate::base::arn::account_of;
use crate::base::digest::{hex, sha256};
use crate::commands::{Command, Edit};
use crate::directory::declaration::Tag;
use crate::error::Error;
use crate::ops::context::Context;

/// The maximum length of a tag's position in a marker. Clients refuse longer markers.
const MAX_POSITION: usize = 319;
/// The number of characters that remain of a longer position. A digest of the position follows
/// them.
const KEPT: usize = 240;

/// One page of an entity's tags, sorted by key.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct Tags {
    tags: Vec<Tag>,
    #[serde(flatten)]
    end: PageEnd,
}

/// Defines the actions that tag, untag and list the tags of one kind of entity. The arguments are
/// AWS's noun, the names of the three types, the parameter that names the entity, and the function
/// that finds it.
macro_rules! tagged {
    ($($noun:literal: $tag:ident, $untag:ident, $list:ident, $field:literal => $target:expr;)+) => {$(
        #[doc = concat!("Tag", $noun, ": sets tags, and replaces the values of keys that exist.")]
        #[derive(Deserialize)]
        pub struct $tag {
            #[serde(rename = $field)]
            of: String,
            #[serde(rename = "Tags")]
            tags: Vec<Tag>,
        }

        impl Action for $tag {
            const NAME: &'static str = concat!("Tag", $noun);
            const READ_ONLY: bool = false;
            type Output = ();

            async fn run(self, cx: &mut Context<'_>) -> Result<(), Error> {
                tag::<Self>(cx, &self.tags, |cx| $target(cx, &self.of)).await
            }
        }

        #[doc = concat!("Untag", $noun, ": removes tags. Keys that do not exist are no error.")]
        #[derive(Deserialize)]
        pub struct $untag {
            #[serde(rename = $field)]
            of: String,
            #[serde(rename = "TagKeys")]
            keys: Vec<String>,
        }

        impl Action for $untag {
            const NAME: &'static str = concat!("Untag", $noun);
            const READ_ONLY: bool = false;
            type Output = ();

            async fn run(self, cx: &mut Context<'_>) -> Result<(), Error> {
                untag::<Self>(cx, &self.keys, |cx| $target(cx, &self.of)).await
            }
        }

        #[doc = concat!("List", $noun, "Tags: the tags page by page.")]
        #[derive(Deserialize)]
        pub struct $list {
            #[serde(rename = $field)]
            of: String,
            #[serde(flatten)]
            page: PageRequest,
        }

        impl Action for $list {
            const NAME: &'static str = concat!("List", $noun, "Tags");
            const READ_ONLY: bool = true;
            type Output = Tags;

            async fn run(self, cx: &mut Context<'_>) -> Result<Tags, Error> {
                let target = $target(cx, &self.of)?;
                list::<Self>(cx, &target, &self.page).await
            }
        }
    )+};
}

tagged! {
    "User": TagUser, UntagUser, ListUserTags, "UserName" => user;
    "Role": TagRole, UntagRole, ListRoleTags, "RoleName" => role;
    "InstanceProfile": TagInstanceProfile, UntagInstanceProfile, ListInstanceProfileTags,
        "InstanceProfileName" => instance_profile;
    "Policy": TagPolicy, UntagPolicy, ListPolicyTags, "PolicyArn" => Target::policy;
    "OpenIDConnectProvider": TagOidcProvider, UntagOidcProvider, ListOidcProviderTags,
        "OpenIDConnectProviderArn" => oidc_provider;
    "SAMLProvider": TagSamlProvider, UntagSamlProvider, ListSamlProviderTags,
        "SAMLProviderArn" => saml_provider;
    "MFADevice": TagMfaDevice, UntagMfaDevice, ListMfaDeviceTags, "SerialNumber" => mfa_device;
}

fn user(cx: &Context<'_>, name: &str) -> Result<Target, Error> {
    Target::user(cx, Some(name))
}

fn role(cx: &Context<'_>, name: &str) -> Result<Target, Error> {
    Ok(Target::role(cx, name))
}

fn instance_profile(cx: &Context<'_>, name: &str) -> Result<Target, Error> {
    Ok(Target::instance_profile(cx, name))
}

fn oidc_provider(cx: &Context<'_>, arn: &str) -> Result<Target, Error> {
    Ok(Target::oidc_provider(cx, arn))
}

fn saml_provider(cx: &Context<'_>, arn: &str) -> Result<Target, Error> {
    Ok(Target::saml_provider(cx, arn))
}

fn mfa_device(cx: &Context<'_>, serial_number: &str) -> Result<Target, Error> {
    Ok(Target::mfa_device(cx, serial_number))
}

async fn tag<A: Action>(
    cx: &mut Context<'_>,
    tags: &[Tag],
    target: impl Fn(&Context<'_>) -> Result<Target, Error>,
) -> Result<(), Error> {
    check_keys(tags.iter().map(|tag| tag.key.as_str()))?;
    let asked = requested(tags);
    let pairs: Vec<_> = tags
        .iter()
        .map(|tag| (tag.key.clone(), tag.value.clone()))
        .collect();
    change(cx, A::NAME, |cx| {
        let target = target(cx)?;
        let resource = Resource {
            requested_tags: &asked,
            ..target.resource()
        };
        let commands = decide::<A>(cx, &target, &resource, Edit::Tag(pairs.clone()))?;
        permit_profile(cx, &target.arn, &asked)?;
        Ok(commands)
    })
    .await
}

async fn untag<A: Action>(
    cx: &mut Context<'_>,
    keys: &[String],
    target: impl Fn(&Context<'_>) -> Result<Target, Error>,
) -> Result<(), Error> {
    check_keys(keys.iter().map(String::as_str))?;
    change(cx, A::NAME, |cx| {
        let target = target(cx)?;
        let resource = Resource {
            requested_keys: keys,
            ..target.resource()
        };
        decide::<A>(cx, &target, &resource, Edit::Untag(keys.to_vec()))
    })
    .await
}

fn decide<A: Action>(
    cx: &mut Context<'_>,
    target: &Target,
    resource: &Resource<'_>,
    edit: Edit,
) -> Result<Vec<Command>, Error> {
    permit::<A>(cx, resource)?;
    if account_of(&target.arn) == "aws" {
        let note = "The tags of AWS managed policies cannot be changed.";
        return Err(cx.refuse_because(&permission::<A>(), &target.arn, note));
    }
    let name = target.name()?;
    if let Some(user) = target.user_of_device(cx) {
        fresh::<A>(cx, &user)?;
    }
    Ok(vec![Command::edit(name, edit)])
}

async fn list<A: Action>(
    cx: &mut Context<'_>,
    target: &Target,
    page: &PageRequest,
) -> Result<Tags, Error> {
    let mut entry = rows::one::<A>(cx, target).await?;
    let tags = entry.tags_mut().map(std::mem::take).unwrap_or_default();
    let tags = tags.into_iter().map(|tag| (position(&tag.key), tag));
    let (tags, end) = page.take(tags, |(position, _)| position)?;
    Ok(Tags {
        tags: tags.into_iter().map(|(_, tag)| tag).collect(),
        end,
    })
}

/// The position of a tag in the list, for use in a marker: its key in printable ASCII, so that
/// positions sort as the keys do. Keys that are too long for a marker and have the same first
/// [`KEPT`] characters sort by their digests.
fn position(key: &str) -> String {
    let mut text = String::with_capacity(key.len());
    for byte in key.bytes() {
        if (0x20..0x7e).contains(&byte) {
            text.push(char::from(byte));
        } else {
            // `~` comes after all other printable characters, as these bytes do.
            text.push_str(&format!("~{byte:02x}"));
        }
    }
    if text.len() > MAX_POSITION {
        let digest = hex(&sha256(text.as_bytes()));
        text.truncate(KEPT);
        text.push_str(&digest);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_position_of_a_tag_fits_into_a_marker_and_keeps_the_order() {
        let mut keys = vec![
            "Team".to_owned(),
            "Team 2".to_owned(),
            "team".to_owned(),
            "a".repeat(128),
            "zz".to_owned(),
            "Ärger".to_owned(),
            "Ö".to_owned(),
            "語".repeat(35),
            "𠀀".to_owned(),
        ];
        keys.sort();
        let positions: Vec<String> = keys.iter().map(|key| position(key)).collect();
        assert!(positions.is_sorted(), "{positions:?}");
        let long = [0, 1, 2].map(|n| format!("{}{n}", "𠀀".repeat(127)));
        let mut positions: Vec<String> = long.iter().map(|key| position(key)).collect();
        positions.sort();
        positions.dedup();
        assert_eq!(positions.len(), 3);
        for position in positions {
            assert!(position.len() <= MAX_POSITION);
            assert!(position.bytes().all(|b| (0x20..0x7f).contains(&b)));
        }
    }
}
