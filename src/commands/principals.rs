//! Binds the principals of trust policies to unique ids when a role is written: see
//! [`crate::directory::principals`].

use std::collections::HashMap;

use super::{Actor, CommandContext, CommandError, Detail, Message, read, record};
use crate::base::arn::{AccountId, account_of, name_of};
use crate::directory::Directory;
use crate::directory::declaration::RoleDetail;
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

/// The error for a principal of a trust policy that is not in the store.
pub(super) fn missing(role: &str, principal: &str) -> CommandError {
    let message = Message::from(format!(
        "role {role}: AssumeRolePolicyDocument: the principal `{principal}` will not exist in the store after this change; \
                    remove it from the policy, or create it as well"
    ));
    let principal = serde_json::Value::from(principal);
    let words = format!("Invalid principal in policy: \"AWS\":{principal}");
    CommandError::MalformedPolicyDocument(message.or_at_aws(words))
}

/// Replaces the ARNs in a role's trust policy by unique ids, which `resolve` looks up. ARNs that do
/// not exist stay if the role had them before (`old`); they are returned.
///
/// # Errors
/// `MalformedPolicyDocument`, with the role and the principal that does not exist.
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

/// Binds the trust policy, if `thing` is a role, to the users and roles of the store, including
/// itself.
///
/// # Errors
/// The same as for [`bind`].
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
    if name.kind == ResourceKind::Role && name.id == own.arn {
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

/// Binds the trust policies of rows that an earlier version wrote, or that were written when an
/// account was not in the directory, in one change. ARNs of existing users and roles are replaced
/// by their unique ids; an ARN that nobody has is replaced by a new unique id that nobody has, so
/// that whoever gets the name later is not trusted. Returns the number of roles.
///
/// # Errors
/// [`CommandError`] if the store refuses the change. Nothing was changed then, and the trust
/// policies still name principals by ARN.
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

/// Replaces ARNs that nobody in a known account has by unique ids that nobody has.
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
            Named::User { .. } => ResourceKind::User,
            Named::Role { .. } | Named::Session { .. } => ResourceKind::Role,
        };
        let prefix = unique_id::prefix(kind).unwrap_or_default();
        let id = named.bound(&unique_id::mint(prefix, account, cx.entropy)?);
        tracing::warn!(
            role = %role.arn,
            principal = %principal,
            id = %id,
            "a trust policy names a principal by an ARN that nobody has; it now names an unused unique id instead, \
                            so that whoever gets the name later is not trusted"
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
        let name = Name::new(ResourceKind::Role, arn);
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
