//! The entity that an action concerns, before the caller is authorized to learn whether it exists.

use std::sync::Arc;

use super::action::{Action, Resource, permit};
use crate::base::arn::{AccountId, IamArn, account_of, account_of_provider, name_of, path_of};
use crate::base::names::Tag;
use crate::directory::resource::{Name, ResourceKind, folded};
use crate::directory::{ManagedPolicy, MfaDevice, OidcProvider, Profile, Role, SamlProvider, User};
use crate::error::{Error, no_such};
use crate::ops::context::Context;

/// The prefix of the paths of service-linked roles, which only AWS may change.
const SERVICE_LINKED: &str = "/aws-service-role/";

/// The entity that an action concerns. If the directory does not contain it, its ARN is the one
/// that it would have. It is looked up in memory only: a read from the store would take a time that
/// tells an unauthorized caller whether it exists.
pub(super) struct Target {
    kind: ResourceKind,
    /// The name or ARN as the request spells it, for the error if the entity does not exist.
    asked: String,
    /// The ARN in the directory, or the ARN that the entity would have if it existed.
    pub(super) arn: String,
    /// The name of the entity in refusals: the ARN with the path `/` and the name as the request
    /// spells it. The ARN in the directory would reveal that the entity exists.
    shown_as: String,
    found: Option<Found>,
}

/// An entity in the directory. It is shared and not copied, so that the time of a refusal does not
/// reveal how large the entity is.
enum Found {
    User(Arc<User>),
    Role(Arc<Role>),
    Group,
    InstanceProfile(Arc<Profile>),
    Policy(Arc<ManagedPolicy>),
    OidcProvider(Arc<OidcProvider>),
    SamlProvider(Arc<SamlProvider>),
    MfaDevice(Arc<MfaDevice>),
}

impl Found {
    fn tags(&self) -> &[Tag] {
        match self {
            Self::User(user) => &user.tags,
            Self::Role(role) => &role.tags,
            Self::Group => &[],
            Self::InstanceProfile(profile) => &profile.tags,
            Self::Policy(policy) => &policy.tags,
            Self::OidcProvider(provider) => &provider.tags,
            Self::SamlProvider(provider) => &provider.tags,
            Self::MfaDevice(device) => &device.tags,
        }
    }

    fn boundary(&self) -> Option<&str> {
        match self {
            Self::User(user) => user.boundary(),
            Self::Role(role) => role.boundary(),
            _ => None,
        }
    }
}

impl Target {
    /// Finds the user with this name in the caller's account, or the calling user if no name is
    /// given.
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
        let found = cx.directory.user_named(account, &name).cloned();
        let found = found.map(|user| (user.arn.to_string(), Found::User(user)));
        let target = Self::named(ResourceKind::User, account, name, found);
        // Callers know their own path and name.
        Ok(match user_name {
            Some(_) => target,
            None => target.known_by_arn(),
        })
    }

    /// Makes refusals contain the ARN from the directory, for a caller that knows it already.
    pub(super) fn known_by_arn(mut self) -> Self {
        self.shown_as.clone_from(&self.arn);
        self
    }

    /// Finds the role with this name in the caller's account.
    pub(super) fn role(cx: &Context<'_>, name: &str) -> Self {
        let account = cx.caller().account();
        let found = cx.directory.role_named(account, name).cloned();
        let found = found.map(|role| (role.arn.to_string(), Found::Role(role)));
        Self::named(ResourceKind::Role, account, name.to_owned(), found)
    }

    /// Finds the group with this name in the caller's account.
    pub(super) fn group(cx: &Context<'_>, name: &str) -> Self {
        let account = cx.caller().account();
        let found = cx.directory.group_named(account, name);
        let found = found.map(|group| (group.arn.to_string(), Found::Group));
        Self::named(ResourceKind::Group, account, name.to_owned(), found)
    }

    /// Finds the instance profile with this name in the caller's account.
    pub(super) fn instance_profile(cx: &Context<'_>, name: &str) -> Self {
        let account = cx.caller().account();
        let found = cx.directory.instance_profile_named(account, name).cloned();
        let found = found.map(|p| (p.arn.to_string(), Found::InstanceProfile(p)));
        Self::named(
            ResourceKind::InstanceProfile,
            account,
            name.to_owned(),
            found,
        )
    }

    /// Finds the managed policy with this ARN. Only policies of the caller's account and of AWS are
    /// found.
    ///
    /// # Errors
    /// [`Error::InvalidArn`] if the text is not the ARN of a policy.
    pub(super) fn policy(cx: &Context<'_>, arn: &str) -> Result<Self, Error> {
        let account = account_of(arn);
        let is_policy = match arn.strip_prefix("arn:aws:iam::aws:") {
            Some(resource) => resource.starts_with("policy/"),
            None => IamArn::parse(arn).is_some_and(|arn| arn.kind == "policy"),
        };
        if !is_policy {
            return Err(Error::InvalidArn);
        }
        let own = account == "aws" || account == cx.caller().account().as_str();
        let found = cx.directory.managed(arn).filter(|_| own);
        let found = found.cloned().map(Found::Policy);
        Ok(Self::with_arn(ResourceKind::Policy, arn, found))
    }

    /// Finds the OpenID Connect provider with this ARN. Only providers of the caller's account are
    /// found.
    pub(super) fn oidc_provider(cx: &Context<'_>, arn: &str) -> Self {
        let own = account_of_provider(arn, "oidc-provider") == Some(cx.caller().account());
        let found = cx.directory.oidc_provider(arn).filter(|_| own);
        let found = found.cloned().map(Found::OidcProvider);
        Self::with_arn(ResourceKind::OidcProvider, arn, found)
    }

    /// Finds the SAML provider with this ARN. Only providers of the caller's account are found.
    pub(super) fn saml_provider(cx: &Context<'_>, arn: &str) -> Self {
        let own = account_of_provider(arn, "saml-provider") == Some(cx.caller().account());
        let found = cx.directory.saml_provider(arn).filter(|_| own);
        let found = found.cloned().map(Found::SamlProvider);
        Self::with_arn(ResourceKind::SamlProvider, arn, found)
    }

    /// Finds the MFA device with this serial number. Only devices of the caller's account are
    /// found.
    pub(super) fn mfa_device(cx: &Context<'_>, serial_number: &str) -> Self {
        let own = |device: &&Arc<MfaDevice>| {
            let owner = device.user_arn.as_deref();
            let arn = owner.unwrap_or_else(|| device.serial_number.as_str());
            account_of(arn) == cx.caller().account().as_str()
        };
        let found = cx.directory.mfa_device(serial_number).filter(own);
        let found = found.cloned().map(Found::MfaDevice);
        Self::with_arn(ResourceKind::MfaDevice, serial_number, found)
    }

    fn named(
        kind: ResourceKind,
        account: AccountId,
        asked: String,
        found: Option<(String, Found)>,
    ) -> Self {
        let shown_as = format!("arn:aws:iam::{account}:{kind}/{asked}");
        let (arn, found) = found.unzip();
        Self {
            kind,
            asked,
            arn: arn.unwrap_or_else(|| shown_as.clone()),
            shown_as,
            found,
        }
    }

    fn with_arn(kind: ResourceKind, arn: &str, found: Option<Found>) -> Self {
        Self {
            kind,
            asked: arn.to_owned(),
            arn: arn.to_owned(),
            shown_as: arn.to_owned(),
            found,
        }
    }

    /// The entity as the resource on which the action is authorized, with its tags.
    pub(super) fn resource(&self) -> Resource<'_> {
        let tags = self.found.as_ref().map_or(&[][..], Found::tags);
        Resource {
            shown_as: &self.shown_as,
            ..Resource::new(&self.arn, tags)
        }
    }

    /// Like [`Self::resource`], with the current boundary of the user or role as
    /// `iam:PermissionsBoundary`. Use it only for actions for which AWS documents that condition
    /// key.
    pub(super) fn bounded(&self) -> Resource<'_> {
        let boundary = self.found.as_ref().and_then(Found::boundary);
        self.resource().with("iam:PermissionsBoundary", boundary)
    }

    /// Checks that the entity is not a service-linked role, which callers may not change.
    ///
    /// # Errors
    /// [`Error::UnmodifiableEntity`] with AWS's text for a service-linked role.
    pub(super) fn modifiable(&self) -> Result<(), Error> {
        // A path may contain what looks like the beginning of another one.
        if self.kind != ResourceKind::Role || !path_of(&self.arn).starts_with(SERVICE_LINKED) {
            return Ok(());
        }
        let name = name_of(&self.arn);
        Err(Error::UnmodifiableEntity(format!(
            "Cannot perform the operation on the protected role '{name}' - this role is only modifiable by AWS"
        )))
    }

    /// The entity's name for commands and rows. The action must be authorized first, because the
    /// error tells whether the entity exists.
    ///
    /// # Errors
    /// [`Error::NotFound`] with AWS's text if it does not exist.
    pub(super) fn name(&self) -> Result<Name, Error> {
        if self.found.is_some() {
            Ok(Name::new(self.kind, self.arn.as_str()))
        } else {
            Err(self.not_found())
        }
    }

    /// The account and the lower-case name, by which other entities refer to this one.
    pub(super) fn folded(&self) -> String {
        folded(account_of(&self.arn), name_of(&self.arn))
    }

    /// Returns the user from the directory. The action must be authorized first, because the error
    /// tells whether the user exists.
    ///
    /// # Errors
    /// [`Error::NotFound`] if the user does not exist.
    pub(super) fn existing_user(&self, cx: &Context<'_>) -> Result<Arc<User>, Error> {
        let user = cx
            .directory
            .user(&self.arn)
            .filter(|_| self.kind == ResourceKind::User);
        user.cloned().ok_or_else(|| self.not_found())
    }

    /// Returns the user to whom the MFA device is assigned; `None` if it is not assigned or is no
    /// MFA device.
    pub(super) fn user_of_device(&self, cx: &Context<'_>) -> Option<Arc<User>> {
        let device = (self.kind == ResourceKind::MfaDevice)
            .then(|| cx.directory.mfa_device(&self.arn))
            .flatten()?;
        cx.directory.user(device.user_arn.as_deref()?).cloned()
    }

    /// Returns the error for this entity if it does not exist, with AWS's text.
    pub(super) fn not_found(&self) -> Error {
        Error::NotFound(no_such(self.kind, &self.asked))
    }
}

/// Authorizes an action on a user and returns the user: the one with this name in the caller's
/// account, or the calling user if no name is given.
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
