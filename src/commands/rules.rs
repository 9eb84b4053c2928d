//! The rules of a change that need more than the resource itself: what it refers to is there, nobody
//! has too many of it, and nothing depends on what is deleted.

use super::CommandError;
use crate::base::arn::AccountId;
use crate::directory::resource::{Kind, Name, Resource};
use crate::directory::{
    ACCESS_KEYS_PER_USER, BrokenRule, Limits, MFA_DEVICES_PER_USER, is_aws_managed,
};
use crate::store::Writer;

/// The rules and quotas of one resource by itself. `issuer` is the broker as an issuer of tokens.
pub(super) fn check(resource: &Resource, issuer: Option<&str>) -> Result<(), CommandError> {
    let name = resource.name();
    let characters = name.id.bytes().all(|b| b.is_ascii_graphic());
    if !characters || !(1..=2_048).contains(&name.id.len()) {
        return Err(CommandError::Validation(format!(
            "{name}: its name must be 1 to 2048 printable ASCII characters"
        )));
    }
    let mut limits = Limits {
        issuer,
        ..Limits::default()
    };
    resource.check(&mut limits);
    match limits.broken.into_iter().next() {
        None => Ok(()),
        Some(BrokenRule::Invalid(rule)) => Err(CommandError::Validation(format!("{name}: {rule}"))),
        Some(BrokenRule::Exceeded { quota, most, .. }) => Err(CommandError::LimitExceeded(
            format!("{name}: {quota}: the most is {most}"),
        )),
    }
}

/// Everything that a thing refers to is there. A policy of AWS's that is not here may stay where it was
/// before (`old`); it closes what it is attached to.
pub(super) async fn check_references(
    writer: &mut Writer<'_>,
    resource: &Resource,
    old: Option<&Resource>,
) -> Result<(), CommandError> {
    let account = resource.account();
    if AccountId::parse(account).is_some()
        && resource.kind() != Kind::Account
        && writer
            .get(&Name::new(Kind::Account, account))
            .await?
            .is_none()
    {
        return Err(CommandError::NoSuchEntity(format!("account {account}")));
    }
    for link in resource.links() {
        let there = match link.kind {
            Kind::Group | Kind::Role => writer.find(link.kind, &link.id).await?.is_some(),
            _ => writer.get(&link).await?.is_some(),
        };
        let was = || is_missing_policy(&link) && old.is_some_and(|old| old.links().contains(&link));
        if !there && !was() {
            return Err(CommandError::NoSuchEntity(format!(
                "{link}, which {} refers to",
                resource.name()
            )));
        }
    }
    Ok(())
}

/// Whether a link is to a policy of AWS's, which exports may leave out.
pub(super) fn is_missing_policy(link: &Name) -> bool {
    link.kind == Kind::Policy && is_aws_managed(&link.id)
}

/// Limits on how many things another thing has.
pub(super) async fn check_counts(
    writer: &mut Writer<'_>,
    resource: &Resource,
) -> Result<(), CommandError> {
    let (owner, kind, most) = match resource {
        Resource::AccessKey(k) => (&k.user_arn, Kind::AccessKey, ACCESS_KEYS_PER_USER),
        Resource::MfaDevice(d) => (&d.user_arn, Kind::MfaDevice, MFA_DEVICES_PER_USER),
        _ => return Ok(()),
    };
    let all = writer.referrers(Kind::User, owner, owner, 100).await?;
    if all.iter().filter(|n| n.kind == kind).count() >= most {
        let what = if kind == Kind::AccessKey {
            "access keys"
        } else {
            "MFA devices"
        };
        return Err(CommandError::LimitExceeded(format!(
            "user {owner} has {most} {what}, which is the most"
        )));
    }
    Ok(())
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
