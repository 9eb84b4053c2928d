//! The rules that commands and imports check before a change. The rules and quotas of a single
//! resource are in its file in `directory/kinds`.

use std::future::Future;

use super::{CommandError, Message};
use crate::base::arn::{AccountId, name_of};
use crate::directory::resource::{Name, Resource, ResourceKind};
use crate::directory::{
    ACCESS_KEYS_PER_USER, BrokenRule, Limits, MFA_DEVICES_PER_USER, Remains, is_aws_managed,
    is_built_in,
};
use crate::error::no_such;
use crate::store::Writer;

/// The directory against which the rules are checked: that of the store, or the result of an import.
pub(super) trait Whole {
    /// Whether the resource that a link names, by id or by folded name, exists.
    fn has(&mut self, link: &Name) -> impl Future<Output = Result<bool, CommandError>> + Send;

    /// How many resources of the kind of `own` a user has, not counting `own`.
    fn others_of_user(
        &mut self,
        user_arn: &str,
        own: &Name,
    ) -> impl Future<Output = Result<usize, CommandError>> + Send;
}

impl Whole for Writer<'_> {
    async fn has(&mut self, link: &Name) -> Result<bool, CommandError> {
        Ok(match link.kind {
            ResourceKind::Group | ResourceKind::Role => {
                self.find(link.kind, &link.id).await?.is_some()
            }
            _ => self.get(link).await?.is_some(),
        })
    }

    async fn others_of_user(&mut self, user_arn: &str, own: &Name) -> Result<usize, CommandError> {
        let all = self
            .referrers(ResourceKind::User, user_arn, user_arn, 100)
            .await?;
        let others = all
            .iter()
            .filter(|name| name.kind == own.kind && *name != own);
        Ok(others.count())
    }
}

/// Checks a resource that is new or replaces `old`. `issuer` is the issuer of the broker's own
/// tokens.
///
/// # Errors
/// The error of the first rule that the resource breaks, or [`CommandError::Store`] if an operation of the store fails.
/// A quota does not count as broken if `old` exceeded it by at least as much, because the resource may be older than
/// the quota.
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

/// Checks the rules and quotas that concern one resource alone.
fn check_itself(
    new: &Resource,
    old: Option<&Resource>,
    issuer: Option<&str>,
) -> Result<(), CommandError> {
    let name = new.name();
    // The subject of a certificate may have spaces.
    let spaces = name.kind == ResourceKind::Certificate;
    let legal = |b: u8| b.is_ascii_graphic() || (spaces && b == b' ');
    let characters = name.id.bytes().all(legal);
    if !characters || !(1..=2_048).contains(&name.id.len()) {
        return Err(CommandError::Validation(format!(
            "{name}: the name must be 1 to 2048 printable ASCII characters, without spaces unless it is the subject of \
             a certificate"
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

/// Checks that everything to which a resource refers exists. A reference to a missing AWS managed
/// policy may stay if `old` had it; such a policy denies everything.
async fn check_references(
    whole: &mut impl Whole,
    new: &Resource,
    old: Option<&Resource>,
) -> Result<(), CommandError> {
    let account = new.account();
    if AccountId::parse(account).is_some()
        && new.kind() != ResourceKind::Account
        && !whole
            .has(&Name::new(ResourceKind::Account, account))
            .await?
    {
        return Err(CommandError::NoSuchEntity(
            format!("account {account}").into(),
        ));
    }
    for link in new.links() {
        let was = || is_missing_policy(&link) && old.is_some_and(|old| old.links().contains(&link));
        if !is_built_in_policy(&link) && !whole.has(&link).await? && !was() {
            let message = Message::from(format!("{link}, which {} refers to", new.name()));
            return Err(CommandError::NoSuchEntity(
                message.or_at_aws(missing_link(&link)),
            ));
        }
    }
    Ok(())
}

/// AWS's message about a reference to an entity that does not exist.
fn missing_link(link: &Name) -> String {
    match link.kind {
        ResourceKind::Policy => {
            format!("Policy {} does not exist or is not attachable.", link.id)
        }
        kind => no_such(kind, name_of(&link.id)),
    }
}

/// Whether a link names an AWS managed policy without a built-in document. Exports of AWS may leave
/// out its document.
pub(super) fn is_missing_policy(link: &Name) -> bool {
    link.kind == ResourceKind::Policy && is_aws_managed(&link.id) && !is_built_in(&link.id)
}

fn is_built_in_policy(link: &Name) -> bool {
    link.kind == ResourceKind::Policy && is_built_in(&link.id)
}

/// The quota on how many resources of one kind a user may have.
pub(super) struct UserQuota {
    pub kind: ResourceKind,
    /// AWS's name of the quota.
    quota: &'static str,
    most: usize,
}

/// Returns the quota toward which a resource counts, and the ARN of its user. `None` if no quota applies, or the
/// resource has no user.
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

/// Checks that `new` does not give its user more access keys or MFA devices than the quota allows.
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

/// Checks that no other resource has the name of a new one.
pub(super) async fn check_name_is_free(
    writer: &mut Writer<'_>,
    new: &Resource,
) -> Result<(), CommandError> {
    let name = new.name();
    if writer.get(&name).await?.is_some() {
        return Err(CommandError::taken(&name, name.to_string()));
    }
    check_folded_name_is_free(writer, new, &name).await
}

/// Checks that no resource but `own` has the name of `new`, without regard to case.
pub(super) async fn check_folded_name_is_free(
    writer: &mut Writer<'_>,
    new: &Resource,
    own: &Name,
) -> Result<(), CommandError> {
    let name = new.name();
    match writer.find(name.kind, &new.folded()).await? {
        Some(_) if name.kind == ResourceKind::Organization => Err(second_organization()),
        Some(other) if other != own.id => {
            let by = format!(
                "{other}, which has the same name as {name} (upper and lower case count as equal)"
            );
            Err(CommandError::taken(&name, by))
        }
        _ => Ok(()),
    }
}

/// Makes the error about an organization that is created or declared although the directory has one already.
pub(super) fn second_organization() -> CommandError {
    CommandError::EntityAlreadyExists(
        "another organization, and a directory has at most one: delete that one first"
            .to_owned()
            .into(),
    )
}

/// Checks that nothing depends on the resource and that it has nothing left of its own: IAM API
/// Reference, "DeleteUser", "DeleteRole", "DeleteGroup", "DeletePolicy".
pub(super) async fn check_deletable(
    writer: &mut Writer<'_>,
    resource: &Resource,
) -> Result<(), CommandError> {
    let name = resource.name();
    let conflict = |remains: Remains, why: String| {
        let message = Message::from(format!("{name} cannot be deleted: {why}"));
        CommandError::DeleteConflict(message.or_at_aws(remains.at_aws(name.kind)))
    };
    if let Some(remains) = resource.must_go_first() {
        return Err(conflict(remains, remains.instruction().to_owned()));
    }
    if let Resource::Account(account) = resource
        && let Some(owned) = writer.owns(&account.account_id).await?
    {
        return Err(conflict(
            Remains::Referrers(owned.kind),
            format!("the account still has {owned}"),
        ));
    }
    let referrers = writer
        .referrers(name.kind, &name.id, &resource.folded(), 1)
        .await?;
    match referrers.first() {
        Some(first) => Err(conflict(
            Remains::Referrers(first.kind),
            format!("{first} still refers to this entry"),
        )),
        None => Ok(()),
    }
}
