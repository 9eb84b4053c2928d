//! Reads entities for answers: from the rows of the store, or from the directory file. Every read is authorized before
//! and after it waits for the store, by a function of this module or by its caller.

use std::collections::HashMap;

use super::action::{self, Action, permit};
use super::page::{PageEnd, PageRequest};
use super::target::Target;
use crate::base::arn::arn_of_principal;
use crate::directory::resource::{Name, Resource, ResourceKind};
use crate::directory::{self, principals};
use crate::error::Error;
use crate::ops::context::Context;
use crate::store::Listed;

/// The maximum number of rows that one call reads to fill a page. If a call reaches it, the page
/// may be shorter than requested, or empty, and its marker continues the list.
const MOST_ROWS: usize = 5_000;
/// The minimum number of rows that are read from the store at once.
const PORTION: usize = 500;

/// A list of entities, sorted by name.
pub(super) enum List<'a> {
    /// All entities of one kind in an account. The account of AWS's own policies is `aws`.
    Of(ResourceKind, &'a str),
    /// The entities of one kind in the caller's account that refer to the target, such as the users
    /// of a group.
    Referring(ResourceKind, &'a Target),
    /// The AWS managed policies that are built into Brevet, except those that the directory also
    /// contains.
    BuiltIn,
}

/// Reads the entity that an action concerns, and authorizes the action on it.
///
/// # Errors
/// [`Error::AccessDenied`] if the caller may not read it, then [`Error::NotFound`] with AWS's text if it does not
/// exist, and the errors of [`Context::wait`].
pub(super) async fn one<A: Action>(
    cx: &mut Context<'_>,
    target: &Target,
) -> Result<Resource, Error> {
    one_on::<A>(cx, target, &target.resource()).await
}

/// Does what [`one`] does, but authorizes the action on `resource`.
///
/// # Errors
/// The same as for [`one`].
pub(super) async fn one_on<A: Action>(
    cx: &mut Context<'_>,
    target: &Target,
    resource: &action::Resource<'_>,
) -> Result<Resource, Error> {
    permit::<A>(cx, resource)?;
    let name = target.name()?;
    let mut found = by_id(cx, name.kind, vec![name.id.clone()]).await?;
    permit::<A>(cx, resource)?;
    found.remove(&name.id).ok_or_else(|| target.not_found())
}

/// Returns a page of the entities in a list for which `wanted` returns `true`. Authorizes the action on `resource`.
///
/// # Errors
/// [`Error::AccessDenied`] if the caller may not list them, [`Error::InvalidMarker`] for a wrong marker, and the errors
/// of [`Context::wait`].
pub(super) async fn page<A: Action>(
    cx: &mut Context<'_>,
    resource: &action::Resource<'_>,
    list: &List<'_>,
    request: &PageRequest,
    wanted: impl Fn(&Resource) -> bool,
) -> Result<(Vec<Resource>, PageEnd), Error> {
    permit::<A>(cx, resource)?;
    let found = select(cx, list, request.after()?, request.limit(), wanted).await?;
    permit::<A>(cx, resource)?;
    Ok(found)
}

/// Returns a page of the entities of one kind in the caller's account whose path begins with
/// `prefix`, by default `/`. Authorizes the action on `resource`.
///
/// # Errors
/// The same as for [`page`].
pub(super) async fn page_in_path<A: Action>(
    cx: &mut Context<'_>,
    resource: &action::Resource<'_>,
    kind: ResourceKind,
    prefix: Option<&str>,
    request: &PageRequest,
) -> Result<(Vec<Resource>, PageEnd), Error> {
    let account = cx.caller().account();
    let list = List::Of(kind, account.as_str());
    let prefix = prefix.unwrap_or("/");
    let is_in_path = |entry: &Resource| path(entry).unwrap_or("/").starts_with(prefix);
    page::<A>(cx, resource, &list, request, is_in_path).await
}

/// The path of an entity; `None` if it has the default path `/`, or its kind has no paths.
fn path(entry: &Resource) -> Option<&str> {
    match entry {
        Resource::User(user) => user.path.as_deref(),
        Resource::Group(group) => group.path.as_deref(),
        Resource::Role(role) => role.path.as_deref(),
        Resource::InstanceProfile(profile) => profile.path.as_deref(),
        Resource::Policy(policy) => policy.path.as_deref(),
        _ => None,
    }
}

/// Returns a page of an answer with several lists, one after the other. The lists share the maximum
/// number of items. Authorizes the action on `resource`.
///
/// # Errors
/// The same as for [`page`].
pub(super) async fn pages<A: Action>(
    cx: &mut Context<'_>,
    resource: &action::Resource<'_>,
    lists: &[List<'_>],
    request: &PageRequest,
    wanted: impl Fn(&Resource) -> bool,
) -> Result<(Vec<Resource>, PageEnd), Error> {
    permit::<A>(cx, resource)?;
    let (first, mut after) = request.place()?;
    let mut all = Vec::new();
    let mut end = PageEnd::of_the_list();
    for (index, list) in lists.iter().enumerate().skip(first) {
        let room = request.limit().saturating_sub(all.len());
        let (found, its_end) = select(cx, list, after, room, &wanted).await?;
        all.extend(found);
        end = its_end.in_list(index);
        after = "";
        if end.is_truncated() {
            break;
        }
    }
    permit::<A>(cx, resource)?;
    Ok((all, end))
}

/// Returns at most `limit` entities that come after the key `after` and for which `wanted` returns
/// `true`. The caller must be authorized before this call, and again afterwards, because it waits
/// for the store.
pub(super) async fn select(
    cx: &mut Context<'_>,
    list: &List<'_>,
    after: &str,
    limit: usize,
    wanted: impl Fn(&Resource) -> bool,
) -> Result<(Vec<Resource>, PageEnd), Error> {
    let account = account_of_list(cx, list);
    let wanted = |resource: &Resource| resource.account() == account && wanted(resource);
    let mut all = Vec::new();
    let mut after = after.to_owned();
    let mut looked_at = 0;
    let portion = (limit + 1).max(PORTION);
    loop {
        let rows = read(cx, list, &after, portion).await?;
        let is_last = rows.len() < portion;
        for (key, resource) in rows {
            if wanted(&resource) {
                if all.len() == limit {
                    return Ok((all, PageEnd::after(&after)));
                }
                all.push(resource);
                after = key;
            } else if all.len() < limit {
                after = key;
            }
            looked_at += 1;
        }
        if is_last {
            return Ok((all, PageEnd::of_the_list()));
        }
        if looked_at >= MOST_ROWS {
            return Ok((all, PageEnd::after(&after)));
        }
    }
}

/// Returns the account whose entities a list contains, which is `aws` for the built-in policies.
fn account_of_list(cx: &Context<'_>, list: &List<'_>) -> String {
    match list {
        List::Of(_, account) => (*account).to_owned(),
        List::Referring(..) => cx.caller().account().to_string(),
        List::BuiltIn => "aws".to_owned(),
    }
}

/// The prefix of the folded (lower-case) names of all entities of one kind in one account. It is
/// empty for kinds whose names are unique in all accounts.
fn prefix(kind: ResourceKind, account: &str) -> String {
    match kind {
        ResourceKind::User
        | ResourceKind::Group
        | ResourceKind::Role
        | ResourceKind::Policy
        | ResourceKind::InstanceProfile => format!("{account}/"),
        _ => String::new(),
    }
}

/// Reads at most `limit` entities of a list that come after the key `after`. Returns each with its
/// key: the folded (lower-case) name without the account.
async fn read(
    cx: &mut Context<'_>,
    list: &List<'_>,
    after: &str,
    limit: usize,
) -> Result<Vec<(String, Resource)>, Error> {
    let account = account_of_list(cx, list);
    let (kind, referred) = match list {
        List::Of(kind, _) => (*kind, None),
        List::Referring(kind, target) => (*kind, Some((target.name()?, target.folded()))),
        List::BuiltIn => (ResourceKind::Policy, None),
    };
    let prefix = prefix(kind, &account);
    let from = format!("{prefix}{after}");
    if matches!(list, List::BuiltIn) {
        let built_in = directory::built_in_after(&from)
            .filter(|(_, policy)| !cx.directory.declares_policy(&policy.name().id));
        return Ok(without_account(&prefix, built_in.take(limit)));
    }
    if let Some(entries) = cx.directory.declared() {
        let belongs = |resource: &Resource| match &referred {
            None => resource.account() == account,
            Some((name, folded)) => resource
                .links()
                .iter()
                .any(|link| link.kind == name.kind && (link.id == name.id || link.id == *folded)),
        };
        let entries = entries
            .range((kind, from.clone())..)
            .take_while(|((of, _), _)| *of == kind)
            .filter(|((_, folded), resource)| *folded > from && belongs(resource))
            .map(|((_, folded), resource)| (folded, resource.clone()));
        return Ok(without_account(&prefix, entries.take(limit)));
    }
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    let store = &cx.broker.store;
    let rows: Vec<Listed> = match referred {
        None => {
            cx.wait(store.list_by_name(kind, account, from, limit))
                .await?
        }
        Some((name, folded)) => {
            cx.wait(store.list_referrers(kind, name, folded, from, limit))
                .await?
        }
    };
    let parsed = rows.into_iter().map(|row| {
        let resource = parse(kind, &row.folded, &row.stored.body)?;
        Ok((row.folded, resource))
    });
    Ok(without_account(
        &prefix,
        parsed.collect::<Result<Vec<_>, Error>>()?,
    ))
}

/// Removes the account and its `/` from the folded names of entities, which makes them the keys of
/// a list.
fn without_account<K: AsRef<str>>(
    prefix: &str,
    entries: impl IntoIterator<Item = (K, Resource)>,
) -> Vec<(String, Resource)> {
    let key = |folded: &str| folded.strip_prefix(prefix).unwrap_or(folded).to_owned();
    entries
        .into_iter()
        .map(|(folded, resource)| (key(folded.as_ref()), resource))
        .collect()
}

/// Reads the entities of one kind with these ids, including built-in policies, and omits ids that
/// do not exist. Waits for the store, so the caller must be authorized again afterwards.
pub(super) async fn by_id(
    cx: &mut Context<'_>,
    kind: ResourceKind,
    ids: Vec<String>,
) -> Result<HashMap<String, Resource>, Error> {
    let built_in = ids.iter().filter(|_| kind == ResourceKind::Policy);
    let built_in = built_in.filter_map(|id| Some((id.clone(), directory::built_in_detail(id)?)));
    let built_in: Vec<(String, Resource)> = built_in.collect();
    let mut found = declared_by_id(cx, kind, ids).await?;
    for (id, policy) in built_in {
        found.entry(id).or_insert(policy);
    }
    Ok(found)
}

async fn declared_by_id(
    cx: &mut Context<'_>,
    kind: ResourceKind,
    ids: Vec<String>,
) -> Result<HashMap<String, Resource>, Error> {
    if ids.is_empty() {
        return Ok(HashMap::new());
    }
    if let Some(entries) = cx.directory.declared() {
        let wanted = entries.iter().filter(|((of, _), _)| *of == kind);
        let wanted = wanted.map(|(_, resource)| (resource.name().id, resource));
        return Ok(wanted
            .filter(|(id, _)| ids.contains(id))
            .map(|(id, resource)| (id, resource.clone()))
            .collect());
    }
    let rows = cx.wait(cx.broker.store.get_all(kind, ids)).await?;
    let parsed = rows.into_iter().map(|(id, row)| {
        let resource = parse(kind, &id, &row.body)?;
        Ok((id, resource))
    });
    parsed.collect()
}

/// Replaces unique ids by the ARNs of their users and roles in the trust policies of roles and in
/// bucket policies, as AWS shows them. An id without an owner stays. Waits for the store, so the
/// caller must be authorized again afterwards.
pub(super) async fn show_principals(
    cx: &mut Context<'_>,
    resources: &mut [Resource],
) -> Result<(), Error> {
    let mut ids = Vec::new();
    for resource in resources.iter() {
        let written = principals::written(resource);
        ids.extend(written.iter().map(|text| principals::id(text).to_owned()));
    }
    ids.retain(|id| !id.contains([':', '*']));
    ids.sort();
    ids.dedup();
    if ids.is_empty() || cx.directory.declared().is_some() {
        return Ok(());
    }
    let names = cx.wait(cx.broker.store.names_of_unique_ids(ids)).await?;
    let arns: HashMap<String, Name> = names.into_iter().collect();
    for resource in resources {
        principals::exchange(resource, |principal| {
            arn_of_principal(principal, |id| arns.get(id).map(|name| name.id.as_str()))
        });
    }
    Ok(())
}

fn parse(kind: ResourceKind, id: &str, body: &str) -> Result<Resource, Error> {
    Resource::parse(kind, body).map_err(|error| {
        tracing::error!(
            %error, %kind, id,
            "a row of the directory could not be parsed, so the call was refused: run `brevet check`, which loads every row"
        );
        Error::InternalFailure
    })
}
