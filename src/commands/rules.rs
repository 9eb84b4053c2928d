//! The rules of a change: what a command and an import are judged by alike. The rules and quotas of one
//! resource by itself stand with its kind, in the directory.

use std::future::Future;

use super::CommandError;
use crate::base::arn::AccountId;
use crate::directory::resource::{Kind, Name, Resource};
use crate::directory::{
    ACCESS_KEYS_PER_USER, BrokenRule, Limits, MFA_DEVICES_PER_USER, is_aws_managed,
};
use crate::store::Writer;

/// The directory that a changed resource is judged beside: the store's, or the one that an import makes.
pub(super) trait Whole {
    /// Whether it has what a link names, by id or by folded name.
    fn has(&mut self, link: &Name) -> impl Future<Output = Result<bool, CommandError>> + Send;

    /// How many resources of the kind of `own` a user has, without `own` itself.
    fn others_of_user(
        &mut self,
        user_arn: &str,
        own: &Name,
    ) -> impl Future<Output = Result<usize, CommandError>> + Send;
}

impl Whole for Writer<'_> {
    async fn has(&mut self, link: &Name) -> Result<bool, CommandError> {
        Ok(match link.kind {
            Kind::Group | Kind::Role => self.find(link.kind, &link.id).await?.is_some(),
            _ => self.get(link).await?.is_some(),
        })
    }

    async fn others_of_user(&mut self, user_arn: &str, own: &Name) -> Result<usize, CommandError> {
        let all = self.referrers(Kind::User, user_arn, user_arn, 100).await?;
        let others = all
            .iter()
            .filter(|name| name.kind == own.kind && *name != own);
        Ok(others.count())
    }
}

/// Judges a resource that is new, or was `old`. `issuer` is the broker as an issuer of tokens.
///
/// # Errors
/// The first rule that it breaks. A quota that `old` exceeded by as much, because it is older than the
/// quota, is not broken anew.
pub(super) async fn check(
    whole: &mut impl Whole,
    new: &Resource,
    old: Option<&Resource>,
    issuer: Option<&str>,
) -> Result<(), CommandError> {
    check_itself(new, old, issuer)?;
    check_references(whole, new, old).await?;
    check_counts(whole, new, old).await
}

/// The rules and quotas of one resource by itself.
fn check_itself(
    new: &Resource,
    old: Option<&Resource>,
    issuer: Option<&str>,
) -> Result<(), CommandError> {
    let name = new.name();
    let characters = name.id.bytes().all(|b| b.is_ascii_graphic());
    if !characters || !(1..=2_048).contains(&name.id.len()) {
        return Err(CommandError::Validation(format!(
            "{name}: its name must be 1 to 2048 printable ASCII characters"
        )));
    }
    let broken = |resource: &Resource| {
        let mut limits = Limits {
            issuer,
            ..Limits::default()
        };
        resource.check(&mut limits);
        limits.broken
    };
    let all = broken(new);
    if all.is_empty() {
        return Ok(());
    }
    let before = old.map(broken).unwrap_or_default();
    match all.into_iter().find(|rule| !rule.was_broken(&before)) {
        None => Ok(()),
        Some(BrokenRule::Invalid(rule)) => Err(CommandError::Validation(format!("{name}: {rule}"))),
        Some(BrokenRule::Exceeded { quota, count, most }) => Err(CommandError::LimitExceeded {
            what: name.to_string(),
            quota,
            count,
            most,
        }),
    }
}

/// Everything that a resource refers to is there. A policy of AWS's that is not here may stay where it
/// was before (`old`); it closes what it is attached to.
async fn check_references(
    whole: &mut impl Whole,
    new: &Resource,
    old: Option<&Resource>,
) -> Result<(), CommandError> {
    let account = new.account();
    if AccountId::parse(account).is_some()
        && new.kind() != Kind::Account
        && !whole.has(&Name::new(Kind::Account, account)).await?
    {
        return Err(CommandError::NoSuchEntity(format!("account {account}")));
    }
    for link in new.links() {
        let was = || is_missing_policy(&link) && old.is_some_and(|old| old.links().contains(&link));
        if !whole.has(&link).await? && !was() {
            return Err(CommandError::NoSuchEntity(format!(
                "{link}, which {} refers to",
                new.name()
            )));
        }
    }
    Ok(())
}

/// Whether a link is to a policy of AWS's, which exports may leave out.
pub(super) fn is_missing_policy(link: &Name) -> bool {
    link.kind == Kind::Policy && is_aws_managed(&link.id)
}

/// How many resources of a kind one user may have.
pub(super) struct UserQuota {
    /// Of this kind.
    pub kind: Kind,
    /// As AWS names it.
    quota: &'static str,
    most: usize,
}

/// The quota that a resource counts for, and the ARN of its user; none without either.
pub(super) fn user_quota(resource: &Resource) -> Option<(UserQuota, &str)> {
    let (user, quota, most) = match resource {
        Resource::AccessKey(key) => (&key.user_arn, "AccessKeysPerUser", ACCESS_KEYS_PER_USER),
        Resource::MfaDevice(device) => {
            (&device.user_arn, "MFADevicesPerUser", MFA_DEVICES_PER_USER)
        }
        _ => return None,
    };
    let kind = resource.kind();
    (!user.is_empty()).then_some((UserQuota { kind, quota, most }, user))
}

/// No user gets too many access keys or MFA devices.
async fn check_counts(
    whole: &mut impl Whole,
    new: &Resource,
    old: Option<&Resource>,
) -> Result<(), CommandError> {
    let Some((UserQuota { quota, most, .. }, user)) = user_quota(new) else {
        return Ok(());
    };
    if old.and_then(user_quota).is_some_and(|(_, was)| was == user) {
        return Ok(());
    }
    let count = whole.others_of_user(user, &new.name()).await? + 1;
    if count > most {
        return Err(CommandError::LimitExceeded {
            what: format!("user {user}"),
            quota,
            count,
            most,
        });
    }
    Ok(())
}

/// No other resource has the name of a new one.
pub(super) async fn check_name_is_free(
    writer: &mut Writer<'_>,
    new: &Resource,
) -> Result<(), CommandError> {
    let name = new.name();
    if writer.get(&name).await?.is_some() {
        return Err(CommandError::EntityAlreadyExists(name.to_string()));
    }
    match writer.find(name.kind, &new.folded()).await? {
        None => Ok(()),
        Some(other) => Err(CommandError::EntityAlreadyExists(format!(
            "{name}: {other} has the same name (without regard to case)"
        ))),
    }
}

/// Nothing depends on it, and it has nothing of its own left: IAM API Reference, "DeleteUser",
/// "DeleteRole", "DeleteGroup", "DeletePolicy".
pub(super) async fn check_deletable(
    writer: &mut Writer<'_>,
    resource: &Resource,
) -> Result<(), CommandError> {
    let name = resource.name();
    if let Some(first) = resource.must_go_first() {
        return Err(CommandError::DeleteConflict(format!("{name}: {first}")));
    }
    if let Resource::Account(account) = resource
        && let Some(owned) = writer.owns(&account.account_id).await?
    {
        return Err(CommandError::DeleteConflict(format!(
            "{name}: it still has {owned}"
        )));
    }
    let referrers = writer
        .referrers(name.kind, &name.id, &resource.folded(), 1)
        .await?;
    match referrers.first() {
        Some(first) => Err(CommandError::DeleteConflict(format!(
            "{name}: {first} depends on it"
        ))),
        None => Ok(()),
    }
}
