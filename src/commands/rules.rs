//! AWS's rules for things of a directory: IAM User Guide, "IAM and AWS STS quotas" and "IAM
//! identifiers"; IAM API Reference, each action's parameters. Where a quota can be raised, the
//! bound is what it can be raised to. Accounts have no quotas of users, roles or policies.

use crate::base::arn::{AccountId, IamArn};
use crate::base::names::MAX_TAGS;
use crate::directory::declaration::{Attached, InlinePolicy, Tag};
use crate::directory::is_aws_managed;
use crate::directory::resource::{Kind, Name, Resource};
use crate::directory::{OWN_ISSUER, is_issuer};
use crate::store::Writer;

use super::CommandError;

/// Managed policies attached to one user, group or role.
const MAX_ATTACHED: usize = 25;
/// Groups of one user.
const MAX_GROUPS: usize = 10;
/// Access keys of one user.
const MAX_ACCESS_KEYS: usize = 2;
/// MFA devices of one user.
const MAX_MFA_DEVICES: usize = 8;
/// Versions of one managed policy.
const MAX_VERSIONS: usize = 5;
/// Characters of a path.
const MAX_PATH: usize = 512;
/// Characters of a description.
const MAX_DESCRIPTION: usize = 1_000;

/// Name and path grammar, and limits of one thing by itself. `issuer` is the broker as an issuer of
/// tokens.
pub(super) fn check(resource: &Resource, issuer: Option<&str>) -> Result<(), CommandError> {
    let place = resource.name();
    let invalid = |rule: &str| Err(CommandError::Validation(format!("{place}: {rule}")));
    if place.id.is_empty()
        || place.id.len() > 2_048
        || !place.id.bytes().all(|b| b.is_ascii_graphic())
    {
        return invalid("its name must be 1 to 2048 printable ASCII characters");
    }
    match resource {
        Resource::Account(a) => {
            if AccountId::parse(&a.account_id).is_none() {
                return invalid("AccountId must be twelve digits");
            }
            let alias = |alias: &str| {
                (3..=63).contains(&alias.len())
                    && alias
                        .bytes()
                        .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
                    && !alias.starts_with('-')
                    && !alias.ends_with('-')
            };
            if a.account_alias.as_deref().is_some_and(|a| !alias(a)) {
                return invalid(
                    "AccountAlias must be 3 to 63 of a-z, 0-9 and single hyphens inside",
                );
            }
        }
        Resource::User(u) => {
            named(&place, "user", &u.arn, u.path.as_deref(), &u.user_name, 64)?;
            policies(
                &place,
                &u.user_policy_list,
                &u.attached_managed_policies,
                2_048,
            )?;
            if u.group_list.len() > MAX_GROUPS {
                return Err(limit(&place, "GroupList", MAX_GROUPS));
            }
            twice(&place, "GroupList", u.group_list.iter().map(String::as_str))?;
        }
        Resource::Group(g) => {
            named(
                &place,
                "group",
                &g.arn,
                g.path.as_deref(),
                &g.group_name,
                128,
            )?;
            policies(
                &place,
                &g.group_policy_list,
                &g.attached_managed_policies,
                5_120,
            )?;
        }
        Resource::Role(r) => {
            named(&place, "role", &r.arn, r.path.as_deref(), &r.role_name, 64)?;
            policies(
                &place,
                &r.role_policy_list,
                &r.attached_managed_policies,
                10_240,
            )?;
            description(&place, r.description.as_deref())?;
        }
        Resource::Policy(p) => {
            // AWS's own policies are named by AWS and keep to no quota of its customers.
            if !is_aws_managed(&p.arn) {
                named(
                    &place,
                    "policy",
                    &p.arn,
                    p.path.as_deref(),
                    &p.policy_name,
                    128,
                )?;
                description(&place, p.description.as_deref())?;
                if p.policy_version_list.len() > MAX_VERSIONS {
                    return Err(limit(&place, "PolicyVersionList", MAX_VERSIONS));
                }
            }
            twice(
                &place,
                "PolicyVersionList",
                p.policy_version_list.iter().map(|v| v.version_id.as_str()),
            )?;
        }
        Resource::InstanceProfile(p) => {
            named(
                &place,
                "instance-profile",
                &p.arn,
                p.path.as_deref(),
                &p.instance_profile_name,
                128,
            )?;
            if p.roles.len() > 1 {
                return Err(limit(&place, "Roles", 1));
            }
        }
        Resource::OidcProvider(p) => {
            if p.client_id_list.len() > 100 || p.thumbprint_list.len() > 5 {
                return invalid("ClientIDList has at most 100 members, ThumbprintList at most 5");
            }
            if p.url.is_empty() || p.url.len() > 255 {
                return invalid("Url must have 1 to 255 characters");
            }
            if issuer.is_some_and(|issuer| is_issuer(&p.url, issuer)) {
                return invalid(&format!("Url {OWN_ISSUER}"));
            }
        }
        Resource::SamlProvider(p) => {
            if !(1_000..=10_000_000).contains(&p.saml_metadata_document.len()) {
                return invalid("SAMLMetadataDocument must have 1000 to 10000000 characters");
            }
        }
        Resource::MfaDevice(d) => {
            if d.user_arn.is_empty()
                && IamArn::parse(&d.serial_number).is_none_or(|a| a.kind != "mfa")
            {
                return invalid(
                    "SerialNumber must be `arn:aws:iam::ACCOUNT:mfa/NAME` while it is nobody's",
                );
            }
        }
        Resource::AccessKey(_) => {}
    }
    if tags(resource).len() > MAX_TAGS {
        return Err(limit(&place, "Tags", MAX_TAGS));
    }
    Ok(())
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
        Resource::AccessKey(k) => (&k.user_arn, Kind::AccessKey, MAX_ACCESS_KEYS),
        Resource::MfaDevice(d) => (&d.user_arn, Kind::MfaDevice, MAX_MFA_DEVICES),
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
    let conflict = |what: &str| Err(CommandError::DeleteConflict(format!("{name}: {what}")));
    match resource {
        Resource::User(u)
            if !u.user_policy_list.is_empty() || !u.attached_managed_policies.is_empty() =>
        {
            return conflict("delete or detach its policies first");
        }
        Resource::User(u) if !u.group_list.is_empty() => {
            return conflict("remove it from its groups first");
        }
        Resource::Group(g)
            if !g.group_policy_list.is_empty() || !g.attached_managed_policies.is_empty() =>
        {
            return conflict("delete or detach its policies first");
        }
        Resource::Role(r)
            if !r.role_policy_list.is_empty() || !r.attached_managed_policies.is_empty() =>
        {
            return conflict("delete or detach its policies first");
        }
        Resource::Policy(p) if p.policy_version_list.len() > 1 => {
            return conflict("delete its other versions first");
        }
        Resource::InstanceProfile(p) if !p.roles.is_empty() => {
            return conflict("remove its role first");
        }
        Resource::Account(a) => {
            if let Some(owned) = writer.owns(&a.account_id).await? {
                return Err(CommandError::DeleteConflict(format!(
                    "{name}: it still has {owned}"
                )));
            }
        }
        _ => {}
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

/// Its tags, where it has any.
pub(super) fn tags_mut(resource: &mut Resource) -> Option<&mut Vec<Tag>> {
    match resource {
        Resource::Policy(p) => Some(p.tags.get_or_insert_default()),
        Resource::User(u) => Some(&mut u.tags),
        Resource::Role(r) => Some(&mut r.tags),
        Resource::InstanceProfile(p) => Some(p.tags.get_or_insert_default()),
        Resource::OidcProvider(p) => Some(&mut p.tags),
        Resource::SamlProvider(p) => Some(&mut p.tags),
        Resource::MfaDevice(d) => Some(&mut d.tags),
        Resource::Account(_) | Resource::Group(_) | Resource::AccessKey(_) => None,
    }
}

fn tags(resource: &Resource) -> &[Tag] {
    match resource {
        Resource::Policy(p) => p.tags.as_deref().unwrap_or_default(),
        Resource::User(u) => &u.tags,
        Resource::Role(r) => &r.tags,
        Resource::InstanceProfile(p) => p.tags.as_deref().unwrap_or_default(),
        Resource::OidcProvider(p) => &p.tags,
        Resource::SamlProvider(p) => &p.tags,
        Resource::MfaDevice(d) => &d.tags,
        Resource::Account(_) | Resource::Group(_) | Resource::AccessKey(_) => &[],
    }
}

fn named(
    place: &Name,
    kind: &str,
    arn: &str,
    path: Option<&str>,
    name: &str,
    longest: usize,
) -> Result<(), CommandError> {
    let invalid = |rule: String| Err(CommandError::Validation(format!("{place}: {rule}")));
    let legal = |b: u8| b.is_ascii_alphanumeric() || b"_+=,.@-".contains(&b);
    if name.is_empty() || name.len() > longest || !name.bytes().all(legal) {
        return invalid(format!(
            "a {kind}'s name must be 1 to {longest} characters of [\\w+=,.@-]"
        ));
    }
    let path = path.unwrap_or("/");
    let whole = path.starts_with('/') && path.ends_with('/') && path.len() <= MAX_PATH;
    if !whole || !path.bytes().all(|b| (0x21..=0x7e).contains(&b)) {
        return invalid(format!(
            "Path must begin and end with `/`, have at most {MAX_PATH} characters, and no space"
        ));
    }
    let account = arn.split(':').nth(4).unwrap_or_default();
    if AccountId::parse(account).is_none()
        || arn != format!("arn:aws:iam::{account}:{kind}{path}{name}")
    {
        return invalid(format!(
            "Arn must be `arn:aws:iam::ACCOUNT:{kind}{path}{name}`"
        ));
    }
    Ok(())
}

fn policies(
    place: &Name,
    inline: &[InlinePolicy],
    attached: &[Attached],
    most: usize,
) -> Result<(), CommandError> {
    if attached.len() > MAX_ATTACHED {
        return Err(limit(place, "AttachedManagedPolicies", MAX_ATTACHED));
    }
    twice(
        place,
        "AttachedManagedPolicies",
        attached.iter().map(|a| a.policy_arn.as_str()),
    )?;
    twice(
        place,
        "inline policies",
        inline.iter().map(|p| p.policy_name.as_str()),
    )?;
    let legal = |b: u8| b.is_ascii_alphanumeric() || b"_+=,.@-".contains(&b);
    let mut characters = 0;
    for policy in inline {
        let name = &policy.policy_name;
        if name.is_empty() || name.len() > 128 || !name.bytes().all(legal) {
            let rule = "an inline policy's name must be 1 to 128 characters of [\\w+=,.@-]";
            return Err(CommandError::Validation(format!("{place}: {rule}")));
        }
        let text = policy
            .policy_document
            .as_ref()
            .and_then(|d| d.text().ok())
            .unwrap_or_default();
        characters += text.chars().filter(|c| !c.is_whitespace()).count();
    }
    if characters > most {
        return Err(CommandError::LimitExceeded(format!(
            "{place}: its inline policies have {characters} characters together (white space not counted); the most is {most}"
        )));
    }
    Ok(())
}

fn description(place: &Name, text: Option<&str>) -> Result<(), CommandError> {
    if text.is_some_and(|t| t.chars().count() > MAX_DESCRIPTION) {
        return Err(limit(
            place,
            "the characters of Description",
            MAX_DESCRIPTION,
        ));
    }
    Ok(())
}

fn twice<'a>(
    place: &Name,
    list: &str,
    names: impl Iterator<Item = &'a str>,
) -> Result<(), CommandError> {
    let mut seen = std::collections::HashSet::new();
    for name in names {
        if !seen.insert(name.to_ascii_lowercase()) {
            return Err(CommandError::Validation(format!(
                "{place}: `{name}` is in {list} twice"
            )));
        }
    }
    Ok(())
}

fn limit(place: &Name, list: &str, most: usize) -> CommandError {
    CommandError::LimitExceeded(format!("{place}: {list}: the most is {most}"))
}
