//! Binds the principals of trust policies and bucket policies to unique ids when they are written: see
//! [`crate::directory::principals`].

use std::collections::HashMap;

use super::action::{Verb, named};
use super::{Actor, CommandContext, CommandError, Detail, Message, read, record};
use crate::base::arn::{AccountId, account_of, name_of};
use crate::directory::Directory;
use crate::directory::owners::Named;
use crate::directory::principals::{exchange, written};
use crate::directory::resource::{Name, Resource, ResourceKind, folded};
use crate::directory::unique_id;
use crate::store::Writer;

/// The result of looking up a principal that is named by ARN.
pub(super) enum Resolved {
    /// The account is not in this directory, so the principal stays an ARN.
    Elsewhere,
    /// The account is in this directory, but the principal does not exist.
    Missing,
    /// The unique id by which a row names the principal.
    Bound(String),
}

/// The error for a principal of a trust policy or bucket policy that is not in the store.
pub(super) fn missing(owner: &Name, principal: &str) -> CommandError {
    let place = match owner.kind {
        ResourceKind::Role => "AssumeRolePolicyDocument",
        _ => "Policy",
    };
    let message = Message::from(format!(
        "{owner}: {place}: the principal `{principal}` will not exist in the store after this change; \
                    remove the principal from the policy, or create the principal too"
    ));
    let principal = serde_json::Value::from(principal);
    let words = format!("Invalid principal in policy: \"AWS\":{principal}");
    CommandError::MalformedPolicyDocument(message.or_at_aws(words))
}

/// Replaces the ARNs in a role's trust policy or a bucket's policy by unique ids, which `resolve` looks up. An ARN that
/// no user or role has is left in the policy and returned, provided that the old policy (`old`) had it too.
///
/// # Errors
/// `MalformedPolicyDocument`, with the resource and the principal that does not exist.
pub(super) fn bind(
    thing: &mut Resource,
    old: Option<&Resource>,
    mut resolve: impl FnMut(&Named<'_>) -> Resolved,
) -> Result<Vec<String>, CommandError> {
    let mut not_here = Vec::new();
    exchange(thing, |principal| {
        match resolve(&Named::parse(principal)?) {
            Resolved::Elsewhere => None,
            Resolved::Missing => {
                not_here.push(principal.to_owned());
                None
            }
            Resolved::Bound(id) => Some(id),
        }
    });
    let before = if not_here.is_empty() {
        Vec::new()
    } else {
        old.map(written).unwrap_or_default()
    };
    match not_here
        .iter()
        .find(|principal| !before.contains(principal))
    {
        Some(principal) => Err(missing(&thing.name(), principal)),
        None => Ok(not_here),
    }
}

/// Binds the trust policy of a role, or the policy of a bucket, to the users and roles of the store, including that
/// role itself.
///
/// # Errors
/// The same as for [`bind`], and [`CommandError::Store`] if an operation of the store fails.
pub(super) async fn bind_to_store(
    writer: &mut Writer<'_>,
    thing: &mut Resource,
    old: Option<&Resource>,
) -> Result<(), CommandError> {
    let mut resolved = HashMap::new();
    for principal in written(thing) {
        if let Some(named) = Named::parse(&principal)
            && !resolved.contains_key(&principal)
        {
            let found = find(writer, thing, &named).await?;
            resolved.insert(principal, found);
        }
    }
    let by_arn: HashMap<Named<'_>, &Resolved> = resolved
        .iter()
        .filter_map(|(principal, found)| Some((Named::parse(principal)?, found)))
        .collect();
    bind(thing, old, |named| match by_arn.get(named) {
        Some(Resolved::Bound(id)) => Resolved::Bound(id.clone()),
        Some(Resolved::Elsewhere) => Resolved::Elsewhere,
        Some(Resolved::Missing) | None => Resolved::Missing,
    })?;
    Ok(())
}

async fn find(
    writer: &mut Writer<'_>,
    own: &Resource,
    named: &Named<'_>,
) -> Result<Resolved, CommandError> {
    let own = match own {
        Resource::Role(role) => Some(role),
        _ => None,
    };
    if writer
        .get(&Name::new(ResourceKind::Account, named.account()))
        .await?
        .is_none()
    {
        return Ok(Resolved::Elsewhere);
    }
    let name = match named {
        Named::User { arn, .. } => Name::new(ResourceKind::User, *arn),
        Named::Role { arn, .. } => Name::new(ResourceKind::Role, *arn),
        Named::Session { account, role, .. } => {
            match writer
                .find(ResourceKind::Role, &folded(account, role))
                .await?
            {
                Some(arn) if name_of(&arn) == *role => Name::new(ResourceKind::Role, arn),
                _ => {
                    let itself = own
                        .filter(|own| own.role_name == *role && account_of(&own.arn) == *account);
                    return Ok(itself.map_or(Resolved::Missing, |own| {
                        Resolved::Bound(named.bound(&own.role_id))
                    }));
                }
            }
        }
    };
    if name.kind == ResourceKind::Role
        && let Some(own) = own.filter(|own| own.arn == name.id)
    {
        return Ok(Resolved::Bound(named.bound(&own.role_id)));
    }
    let Some(stored) = writer.get(&name).await? else {
        return Ok(Resolved::Missing);
    };
    let thing = read(&name, &stored.body)?;
    Ok(thing
        .unique_id()
        .map_or(Resolved::Missing, |id| Resolved::Bound(named.bound(id))))
}

/// Binds in one change the trust policies and bucket policies of rows that are not bound yet, because an earlier
/// version wrote them or an account was not in the directory then. ARNs of existing users and roles are replaced by
/// their unique ids. An ARN that no user or role has is replaced by a new, unused unique id, so that a user or role
/// that gets the ARN later is not trusted. Returns the number of policies that were bound.
///
/// # Errors
/// [`CommandError`] if an operation of the store fails, or a row cannot be read or bound. Unless the commit failed,
/// nothing was changed then, and the policies still name principals by ARN.
pub async fn bind_stored(
    cx: CommandContext<'_>,
    directory: &Directory,
) -> Result<usize, CommandError> {
    let names = directory.bindable();
    if names.is_empty() {
        return Ok(0);
    }
    let mut writer = cx.store.write_much().await?;
    match bind_rows(cx, &mut writer, names).await {
        Ok(0) => {
            writer.abandon().await;
            Ok(0)
        }
        Ok(bound) => {
            writer.commit().await?;
            Ok(bound)
        }
        Err(error) => {
            writer.abandon().await;
            Err(error)
        }
    }
}

/// Replaces the ARNs of users and roles that do not exist in a known account. A new, unused unique id takes the place
/// of each.
async fn close(
    cx: CommandContext<'_>,
    writer: &mut Writer<'_>,
    thing: &mut Resource,
) -> Result<(), CommandError> {
    let mut closed = HashMap::new();
    for principal in written(thing) {
        let Some(named) = Named::parse(&principal) else {
            continue;
        };
        if closed.contains_key(&principal)
            || !matches!(find(writer, thing, &named).await?, Resolved::Missing)
        {
            continue;
        }
        let Some(account) = AccountId::parse(named.account()) else {
            continue;
        };
        let kind = match named {
            Named::User { .. } => ResourceKind::User,
            Named::Role { .. } | Named::Session { .. } => ResourceKind::Role,
        };
        let prefix = unique_id::prefix(kind).unwrap_or_default();
        let id = named.bound(&unique_id::mint(prefix, account, cx.entropy)?);
        tracing::warn!(
            policy_of = %thing.name(),
            principal = %principal,
            id = %id,
            "a policy named a principal by the ARN of no user or role; the broker replaced the ARN by an unused \
             unique id, so that a later user or role with this name is not trusted"
        );
        closed.insert(principal, id);
    }
    exchange(thing, |principal| closed.get(principal).cloned());
    Ok(())
}

async fn bind_rows(
    cx: CommandContext<'_>,
    writer: &mut Writer<'_>,
    names: Vec<Name>,
) -> Result<usize, CommandError> {
    let actor = Actor::operator("brevet");
    let mut bound = 0;
    for name in names {
        // Another broker may have been first, or the resource may be gone.
        let Some(stored) = writer.get(&name).await? else {
            continue;
        };
        let old = read(&name, &stored.body)?;
        let mut new = old.clone();
        bind_to_store(writer, &mut new, Some(&old)).await?;
        close(cx, writer, &mut new).await?;
        let detail = Detail::of(Some(&old), Some(&new));
        if detail.before == detail.after {
            continue;
        }
        let action = match name.kind {
            ResourceKind::Role => "UpdateAssumeRolePolicy",
            kind => named(Verb::Update, kind),
        };
        record(cx, writer, &actor, action, &name, detail, None).await?;
        writer.put(&new).await?;
        bound += 1;
    }
    Ok(bound)
}
