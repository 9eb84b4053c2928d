//! The entity that an action concerns, before it is known whether the caller may know that entity.

use std::sync::Arc;

use super::action::{Action, Resource, permit};
use crate::base::arn::{IamArn, account_of, account_of_provider, name_of};
use crate::base::names::Tag;
use crate::directory::resource::{Name, ResourceKind, folded};
use crate::directory::{MfaDevice, User};
use crate::error::{Error, no_such};
use crate::ops::context::Context;

/// What the ARN of a service-linked role contains.
const SERVICE_LINKED: &str = ":role/aws-service-role/";

/// The entity that an action concerns: as it is in the directory, or as it would be called if it
/// existed. Finding it does not ask the store, because it is not decided yet whether the caller may
/// know the answer.
pub(super) struct Target {
    kind: ResourceKind,
    /// The name or ARN in the request.
    asked: String,
    /// The ARN in the directory, or the ARN that the entity would have if it existed.
    pub(super) arn: String,
    tags: Vec<Tag>,
    boundary: Option<String>,
    exists: bool,
}

impl Target {
    /// The user with this name in the caller's account, or the calling user if no name is given.
    ///
    /// # Errors
    /// [`Error::UserNameRequired`] if no name is given and the caller is not a user.
    pub(super) fn user(cx: &Context<'_>, user_name: Option<&str>) -> Result<Self, Error> {
        let name = match (user_name, cx.caller().user()) {
            (Some(name), _) => name.to_owned(),
            (None, Some(user)) => user.name.to_string(),
            (None, None) => {
                return Err(Error::UserNameRequired);
            }
        };
        let account = cx.caller().account();
        Ok(match cx.directory.user_named(account, &name).cloned() {
            Some(user) => Self {
                kind: ResourceKind::User,
                asked: name,
                arn: user.arn.to_string(),
                tags: user.tags.to_vec(),
                boundary: user.boundary().map(str::to_owned),
                exists: true,
            },
            None => Self::missing(ResourceKind::User, cx, name),
        })
    }

    /// The role with this name in the caller's account.
    pub(super) fn role(cx: &Context<'_>, name: &str) -> Self {
        match cx.directory.role_named(cx.caller().account(), name) {
            Some(role) => Self {
                kind: ResourceKind::Role,
                asked: name.to_owned(),
                arn: role.arn.to_string(),
                tags: role.tags.to_vec(),
                boundary: role.boundary().map(str::to_owned),
                exists: true,
            },
            None => Self::missing(ResourceKind::Role, cx, name.to_owned()),
        }
    }

    /// The group with this name in the caller's account.
    pub(super) fn group(cx: &Context<'_>, name: &str) -> Self {
        let found = cx.directory.group_named(cx.caller().account(), name);
        let found = found.map(|group| (group.arn.to_string(), Vec::new()));
        Self::named(ResourceKind::Group, cx, name, found)
    }

    /// The instance profile with this name in the caller's account.
    pub(super) fn instance_profile(cx: &Context<'_>, name: &str) -> Self {
        let account = cx.caller().account();
        let found = cx.directory.instance_profile_named(account, name);
        let found = found.map(|profile| (profile.arn.to_string(), profile.tags.to_vec()));
        Self::named(ResourceKind::InstanceProfile, cx, name, found)
    }

    /// The managed policy with this ARN: one of the caller's account, or one of AWS's.
    ///
    /// # Errors
    /// [`Error::InvalidArn`] if the text is not the ARN of a policy.
    pub(super) fn policy(cx: &Context<'_>, arn: &str) -> Result<Self, Error> {
        let account = account_of(arn);
        let is_policy = arn.starts_with("arn:aws:iam::") && arn.contains(":policy/");
        if !is_policy || (account != "aws" && IamArn::parse(arn).is_none()) {
            return Err(Error::InvalidArn);
        }
        let own = account == "aws" || account == cx.caller().account().as_str();
        let found = cx.directory.managed(arn).filter(|_| own);
        Ok(Self::with_arn(
            ResourceKind::Policy,
            arn,
            found.map(|policy| policy.tags.to_vec()),
        ))
    }

    /// The OpenID Connect provider with this ARN in the caller's account.
    pub(super) fn oidc_provider(cx: &Context<'_>, arn: &str) -> Self {
        let own = account_of_provider(arn, "oidc-provider") == Some(cx.caller().account());
        let found = cx.directory.oidc_provider(arn).filter(|_| own);
        Self::with_arn(
            ResourceKind::OidcProvider,
            arn,
            found.map(|p| p.tags.to_vec()),
        )
    }

    /// The SAML provider with this ARN in the caller's account.
    pub(super) fn saml_provider(cx: &Context<'_>, arn: &str) -> Self {
        let own = account_of_provider(arn, "saml-provider") == Some(cx.caller().account());
        let found = cx.directory.saml_provider(arn).filter(|_| own);
        Self::with_arn(
            ResourceKind::SamlProvider,
            arn,
            found.map(|p| p.tags.to_vec()),
        )
    }

    /// The MFA device with this serial number in the caller's account.
    pub(super) fn mfa_device(cx: &Context<'_>, serial_number: &str) -> Self {
        let own = |device: &&Arc<MfaDevice>| {
            let owner = device.user_arn.as_deref();
            let arn = owner.unwrap_or_else(|| device.serial_number.as_str());
            account_of(arn) == cx.caller().account().as_str()
        };
        let found = cx.directory.mfa_device(serial_number).filter(own);
        Self::with_arn(
            ResourceKind::MfaDevice,
            serial_number,
            found.map(|device| device.tags.to_vec()),
        )
    }

    fn named(
        kind: ResourceKind,
        cx: &Context<'_>,
        name: &str,
        found: Option<(String, Vec<Tag>)>,
    ) -> Self {
        let Some((arn, tags)) = found else {
            return Self::missing(kind, cx, name.to_owned());
        };
        Self {
            kind,
            asked: name.to_owned(),
            arn,
            tags,
            boundary: None,
            exists: true,
        }
    }

    fn with_arn(kind: ResourceKind, arn: &str, found: Option<Vec<Tag>>) -> Self {
        Self {
            kind,
            asked: arn.to_owned(),
            arn: arn.to_owned(),
            exists: found.is_some(),
            tags: found.unwrap_or_default(),
            boundary: None,
        }
    }

    fn missing(kind: ResourceKind, cx: &Context<'_>, name: String) -> Self {
        Self {
            arn: format!("arn:aws:iam::{}:{kind}/{name}", cx.caller().account()),
            kind,
            asked: name,
            tags: Vec::new(),
            boundary: None,
            exists: false,
        }
    }

    /// The resource on which the action is authorized.
    pub(super) fn resource(&self) -> Resource<'_> {
        Resource::new(&self.arn, &self.tags)
    }

    /// The resource, with the key `iam:PermissionsBoundary` for the boundary that the user or role
    /// has now. Only the actions that AWS documents for that key are authorized on it.
    pub(super) fn bounded(&self) -> Resource<'_> {
        self.resource()
            .with("iam:PermissionsBoundary", self.boundary.as_deref())
    }

    /// Checks that the entity may be changed by callers: a service-linked role may not.
    ///
    /// # Errors
    /// [`Error::UnmodifiableEntity`] for a service-linked role, in AWS's words.
    pub(super) fn modifiable(&self) -> Result<(), Error> {
        if !self.arn.contains(SERVICE_LINKED) {
            return Ok(());
        }
        let name = name_of(&self.arn);
        Err(Error::UnmodifiableEntity(format!(
            "Cannot perform the operation on the protected role '{name}' - this role is only modifiable by AWS"
        )))
    }

    /// The name of the entity for commands and rows. Must be called after the authorization, so that
    /// a caller without permission learns nothing.
    ///
    /// # Errors
    /// [`Error::NotFound`] in AWS's words if it does not exist.
    pub(super) fn name(&self) -> Result<Name, Error> {
        if self.exists {
            Ok(Name::new(self.kind, self.arn.as_str()))
        } else {
            Err(self.not_found())
        }
    }

    /// The folded name by which other entries refer to it.
    pub(super) fn folded(&self) -> String {
        folded(account_of(&self.arn), name_of(&self.arn))
    }

    /// The user. Must be called after the authorization.
    ///
    /// # Errors
    /// [`Error::NotFound`] if there is no such user.
    pub(super) fn existing_user(&self, cx: &Context<'_>) -> Result<Arc<User>, Error> {
        let user = cx
            .directory
            .user(&self.arn)
            .filter(|_| self.kind == ResourceKind::User);
        user.cloned().ok_or_else(|| self.not_found())
    }

    /// The user to whom the MFA device is assigned.
    pub(super) fn user_of_device(&self, cx: &Context<'_>) -> Option<Arc<User>> {
        let device = (self.kind == ResourceKind::MfaDevice)
            .then(|| cx.directory.mfa_device(&self.arn))
            .flatten()?;
        cx.directory.user(device.user_arn.as_deref()?).cloned()
    }

    /// The error for an entity that does not exist, in AWS's words.
    pub(super) fn not_found(&self) -> Error {
        Error::NotFound(no_such(self.kind, &self.asked))
    }
}

/// The user on which an action is authorized: the one with this name in the caller's account, or the
/// calling user if no name is given.
///
/// # Errors
/// [`Error::UserNameRequired`] if no name is given and the caller is not a user,
/// [`Error::AccessDenied`] if the caller may not perform the action on the user, and then
/// [`Error::NotFound`] if there is no such user.
pub(super) fn permitted_user<A: Action>(
    cx: &mut Context<'_>,
    user_name: Option<&str>,
) -> Result<Arc<User>, Error> {
    let target = Target::user(cx, user_name)?;
    permit::<A>(cx, &target.resource())?;
    target.existing_user(cx)
}
