//! Principals of trust policies, bound to unique ids when a role is written: see
//! [`crate::directory::principals`].

use std::collections::HashMap;

use super::{Actor, CommandContext, CommandError, Detail, read, record};
use crate::base::arn::{AccountId, account_of, name_of};
use crate::directory::Directory;
use crate::directory::declaration::RoleDetail;
use crate::directory::principals::{Named, exchange, written};
use crate::directory::resource::{Kind, Name, Resource, folded};
use crate::directory::unique_ids;
use crate::store::Writer;

/// What becomes of a principal that is named by ARN.
pub(super) enum Resolved {
    /// Nobody knows its account here: it stays by ARN.
    Elsewhere,
    /// Its account is here and it is not.
    Missing,
    /// A row names it so.
    Bound(String),
}

/// A principal of a trust policy is not in the store.
pub(super) fn missing(role: &str, principal: &str) -> CommandError {
    CommandError::MalformedPolicyDocument(format!(
        "role {role}: AssumeRolePolicyDocument: there is no principal `{principal}` in the store after this change; \
         leave it out, or make it as well"
    ))
}

/// Puts unique ids in the place of the ARNs of a role's trust policy, as `resolve` has them. Principals
/// that are not here and that the role named by ARN before (`old`) stay as they are: returns them.
///
/// # Errors
/// Names the role and the principal that is not here.
pub(super) fn bind(
    role: &mut RoleDetail,
    old: Option<&RoleDetail>,
    mut resolve: impl FnMut(&Named<'_>) -> Resolved,
) -> Result<Vec<String>, CommandError> {
    let mut not_here = Vec::new();
    exchange(role, |principal| match resolve(&Named::parse(principal)?) {
        Resolved::Elsewhere => None,
        Resolved::Missing => {
            not_here.push(principal.to_owned());
            None
        }
        Resolved::Bound(id) => Some(id),
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
        Some(principal) => Err(missing(&role.arn, principal)),
        None => Ok(not_here),
    }
}

/// Binds the trust policy of a thing that is a role to the users and roles of the store, itself included.
///
/// # Errors
/// See [`bind`].
pub(super) async fn bind_to_store(
    writer: &mut Writer<'_>,
    thing: &mut Resource,
    old: Option<&Resource>,
) -> Result<(), CommandError> {
    let Resource::Role(role) = thing else {
        return Ok(());
    };
    let mut resolved = HashMap::new();
    for principal in written(role) {
        if let Some(named) = Named::parse(&principal)
            && !resolved.contains_key(&principal)
        {
            let found = find(writer, role, &named).await?;
            resolved.insert(principal, found);
        }
    }
    let old = old.and_then(|old| {
        if let Resource::Role(role) = old {
            Some(&**role)
        } else {
            None
        }
    });
    let by_arn: HashMap<Named<'_>, &Resolved> = resolved
        .iter()
        .filter_map(|(principal, found)| Some((Named::parse(principal)?, found)))
        .collect();
    bind(role, old, |named| match by_arn.get(named) {
        Some(Resolved::Bound(id)) => Resolved::Bound(id.clone()),
        Some(Resolved::Elsewhere) => Resolved::Elsewhere,
        Some(Resolved::Missing) | None => Resolved::Missing,
    })?;
    Ok(())
}

async fn find(
    writer: &mut Writer<'_>,
    own: &RoleDetail,
    named: &Named<'_>,
) -> Result<Resolved, CommandError> {
    if writer
        .get(&Name::new(Kind::Account, named.account()))
        .await?
        .is_none()
    {
        return Ok(Resolved::Elsewhere);
    }
    let name = match named {
        Named::User { arn, .. } => Name::new(Kind::User, *arn),
        Named::Role { arn, .. } => Name::new(Kind::Role, *arn),
        Named::Session { account, role, .. } => {
            match writer.find(Kind::Role, &folded(account, role)).await? {
                Some(arn) if name_of(&arn) == *role => Name::new(Kind::Role, arn),
                _ => {
                    let itself = own.role_name == *role && account_of(&own.arn) == *account;
                    return Ok(if itself {
                        Resolved::Bound(named.bound(&own.role_id))
                    } else {
                        Resolved::Missing
                    });
                }
            }
        }
    };
    if name.kind == Kind::Role && name.id == own.arn {
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

/// Binds the trust policies of rows that an earlier version wrote, or that were written when an account was
/// not here, in one change: those that name users or roles of accounts that are here by ARN. One that nobody
/// has is exchanged for a unique id that nobody has: whoever gets the name later is not meant. How many
/// roles there were.
///
/// # Errors
/// Nothing was changed then, and the roles go on trusting by name.
pub async fn bind_stored(
    cx: CommandContext<'_>,
    directory: &Directory,
) -> Result<usize, CommandError> {
    let roles = directory.bindable();
    if roles.is_empty() {
        return Ok(0);
    }
    let mut writer = cx.store.write_much().await?;
    match bind_rows(cx, &mut writer, roles).await {
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

/// Puts unique ids that nobody has in the place of ARNs of accounts that are here that nobody has.
async fn close(
    cx: CommandContext<'_>,
    writer: &mut Writer<'_>,
    thing: &mut Resource,
) -> Result<(), CommandError> {
    let Resource::Role(role) = thing else {
        return Ok(());
    };
    let mut closed = HashMap::new();
    for principal in written(role) {
        let Some(named) = Named::parse(&principal) else {
            continue;
        };
        if closed.contains_key(&principal)
            || !matches!(find(writer, role, &named).await?, Resolved::Missing)
        {
            continue;
        }
        let Some(account) = AccountId::parse(named.account()) else {
            continue;
        };
        let kind = match named {
            Named::User { .. } => Kind::User,
            Named::Role { .. } | Named::Session { .. } => Kind::Role,
        };
        let prefix = unique_ids::prefix(kind).unwrap_or_default();
        let id = named.bound(&unique_ids::mint(prefix, account, cx.entropy)?);
        tracing::warn!(
            role = %role.arn,
            principal = %principal,
            id = %id,
            "a trust policy names somebody by ARN whom nobody here is; it names an id that nobody has from now on, \
             so that whoever gets the name is not let in"
        );
        closed.insert(principal, id);
    }
    exchange(role, |principal| closed.get(principal).cloned());
    Ok(())
}

async fn bind_rows(
    cx: CommandContext<'_>,
    writer: &mut Writer<'_>,
    roles: Vec<String>,
) -> Result<usize, CommandError> {
    let actor = Actor::operator("brevet");
    let mut bound = 0;
    for arn in roles {
        let name = Name::new(Kind::Role, arn);
        // Another broker may have been first, or the role may be gone.
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
        record(
            cx,
            writer,
            &actor,
            "UpdateAssumeRolePolicy",
            &name,
            detail,
            None,
        )
        .await?;
        writer.put(&new).await?;
        bound += 1;
    }
    Ok(bound)
}
