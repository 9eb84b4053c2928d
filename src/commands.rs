//! All changes of the directory: typed commands, checked against AWS's rules and written in one
//! transaction with their place in the feed. This module knows no wire format; the IAM API and the
//! import of files both use these commands.
//!
//! Every command on an existing resource may name the version of the resource on which it is based (the number of the
//! change that wrote it). If two administrators change a resource at once, the second gets ConcurrentModification and
//! overwrites nothing.
mod accept_clock;
mod action;
mod change;
mod client_secret;
mod edit;
mod emergency;
mod error;
mod export;
mod import;
mod last_administrator;
mod lint;
mod principals;
mod rules;
mod saml_provider;
mod seal;
mod secrets;

use crate::base::clock::Timestamp;
use crate::base::entropy::Entropy;
use crate::directory::declaration::LoginProfileDetail;
use crate::directory::resource::{Name, Resource};
use crate::directory::{Defaults, Directory};
use crate::master_key::MasterKey;
use crate::password::hash;
use crate::revocations::{Mark, Selector};
use crate::signed_in::password_key;
use crate::store::{Entry, Store, StoreError, Writer};
use action::{Verb, kept, named};
use error::refused;
use last_administrator::Guard;
use seal::{seal, unseal};

pub use crate::error::CommandError;
use crate::error::Message;
pub use accept_clock::{ACCEPT_CLOCK, accept_clock};
pub use change::{Actor, Detail, Revoked};
pub use client_secret::put_client_secret;
pub use edit::{Edit, PrivateKey, SamlUpdate, private_keys};
pub use emergency::{end_sessions, retire_signing_keys, revoke_signing_keys};
pub use export::{export, export_of};
pub use import::{Import, Planned, plan, survey};
pub use principals::bind_stored;
pub use saml_provider::{Put, put_saml_provider};
pub use seal::reseal;
pub use secrets::{Secrets, open_all};

/// A requested change. Values that IAM generates itself (ids, dates, paths) may be missing.
#[derive(Debug)]
pub enum Command {
    /// Creates a resource, whose name must not be in use.
    Create(Resource),
    Replace {
        /// The complete new content.
        resource: Resource,
        /// The version on which the change is based; `None` accepts any.
        expected: Option<i64>,
    },
    /// Changes one aspect of a resource.
    Edit {
        name: Name,
        /// The aspect and its new value.
        edit: Edit,
        /// The version on which the change is based; `None` accepts any.
        expected: Option<i64>,
    },
    /// Deletes a resource on which nothing depends.
    Delete {
        name: Name,
        /// The version on which the change is based; `None` accepts any.
        expected: Option<i64>,
    },
}

impl Command {
    /// Changes one aspect of a resource, whichever version of it is stored.
    pub fn edit(name: Name, edit: Edit) -> Self {
        Self::Edit {
            name,
            edit,
            expected: None,
        }
    }

    /// Deletes a resource, whichever version of it is stored.
    pub fn delete(name: Name) -> Self {
        Self::Delete {
            name,
            expected: None,
        }
    }
}

#[derive(Clone, Copy)]
pub struct CommandContext<'a> {
    /// The store that holds the directory's rows.
    pub store: &'a Store,
    /// The key that seals the secrets in rows.
    pub master_key: &'a MasterKey,
    /// Source of the random bytes of new ids.
    pub entropy: &'a dyn Entropy,
    /// The time at which the change is dated.
    pub now: Timestamp,
    /// The issuer of this broker's own tokens, if it issues any. No identity provider may have that
    /// URL.
    pub issuer: Option<&'a str>,
}

impl<'a> CommandContext<'a> {
    /// The values that IAM generates for new resources and that a command may leave out.
    fn defaults(&self) -> Defaults<'a> {
        Defaults {
            entropy: self.entropy,
            now: self.now,
        }
    }
}

#[cfg(any(test, feature = "internals"))]
/// Executes all commands in order, or none of them if one fails, and returns the number of the last change. The feed
/// records each change under the name `action`, such as `TagUser`, except that a deletion is named after the kind of
/// resource that it deletes.
///
/// # Errors
/// The error of the first command that breaks a rule, or [`CommandError::Store`] if an operation of the store fails.
/// Nothing was changed then, unless the commit failed.
pub async fn execute(
    cx: CommandContext<'_>,
    actor: &Actor,
    action: &'static str,
    commands: Vec<Command>,
) -> Result<i64, CommandError> {
    execute_in(cx.store.write().await?, cx, actor, action, commands, None).await
}

/// Executes commands in a transaction that has already begun. If `directory`, the directory before the changes, has an
/// administrator, there must be one afterwards too. `None` skips this check.
///
/// # Errors
/// The same as for [`execute`], and [`CommandError::LastAdministrator`] if there would be no administrator.
pub async fn execute_in(
    mut writer: Writer<'_>,
    cx: CommandContext<'_>,
    actor: &Actor,
    action: &'static str,
    commands: Vec<Command>,
    directory: Option<&Directory>,
) -> Result<i64, CommandError> {
    match run_all(&mut writer, cx, actor, action, commands, directory).await {
        Ok(guard) => {
            let sequence = writer.commit().await?;
            if let Some(guard) = guard {
                guard.committed(cx, sequence);
            }
            Ok(sequence)
        }
        Err(error) => {
            writer.abandon().await;
            Err(error)
        }
    }
}

async fn run_all<'d>(
    writer: &mut Writer<'_>,
    cx: CommandContext<'_>,
    actor: &Actor,
    action: &'static str,
    commands: Vec<Command>,
    directory: Option<&'d Directory>,
) -> Result<Option<Guard<'d>>, CommandError> {
    let mut guard = match directory {
        Some(directory) => Some(Guard::begin(cx, writer, directory).await?),
        None => None,
    };
    for command in commands {
        run(cx, writer, actor, action, command).await?;
    }
    if let Some(guard) = &mut guard {
        guard.end(cx, writer).await?;
    }
    Ok(guard)
}

async fn run(
    cx: CommandContext<'_>,
    writer: &mut Writer<'_>,
    actor: &Actor,
    action: &'static str,
    command: Command,
) -> Result<(), CommandError> {
    match command {
        Command::Create(mut resource) => {
            resource.fill(&cx.defaults())?;
            rules::check_name_is_free(writer, &resource).await?;
            principals::bind_to_store(writer, &mut resource, None).await?;
            rules::check(writer, &resource, None, cx.issuer).await?;
            put(cx, writer, actor, action, None, resource).await
        }
        Command::Replace {
            mut resource,
            expected,
        } => {
            let old = current(writer, &resource.name(), expected).await?;
            principals::bind_to_store(writer, &mut resource, Some(&old)).await?;
            rules::check(writer, &resource, Some(&old), cx.issuer).await?;
            put(cx, writer, actor, action, Some(old), resource).await
        }
        Command::Edit {
            name,
            edit,
            expected,
        } => {
            let old = current(writer, &name, expected).await?;
            change_one_aspect(cx, writer, actor, action, old, &edit).await
        }
        Command::Delete { name, expected } => {
            let old = current(writer, &name, expected).await?;
            rules::check_deletable(writer, &old).await?;
            delete(cx, writer, actor, old).await
        }
    }
}

async fn change_one_aspect(
    cx: CommandContext<'_>,
    writer: &mut Writer<'_>,
    actor: &Actor,
    action: &'static str,
    old: Resource,
    edit: &Edit,
) -> Result<(), CommandError> {
    let name = old.name();
    let mut new = old.clone();
    if edit.needs_secret() {
        unseal(&mut new, cx)?;
    }
    edit.apply(&mut new, cx.now)?;
    if new.folded() != old.folded() {
        rules::check_folded_name_is_free(writer, &new, &name).await?;
    }
    // Everybody that a new trust policy names must exist.
    let is_trust = matches!(edit, Edit::UpdateAssumeRolePolicy(_));
    let named_before = (!is_trust).then_some(&old);
    principals::bind_to_store(writer, &mut new, named_before).await?;
    rules::check(writer, &new, Some(&old), cx.issuer).await?;
    if new.name() == name {
        put(cx, writer, actor, action, Some(old), new).await
    } else {
        rename(cx, writer, actor, action, old, new).await
    }
}

/// Reads a resource from the store.
///
/// # Errors
/// `NoSuchEntity` if it does not exist, `ConcurrentModification` if its version is not `expected`, and
/// [`CommandError::Store`] if it cannot be read.
async fn current(
    writer: &mut Writer<'_>,
    name: &Name,
    expected: Option<i64>,
) -> Result<Resource, CommandError> {
    let stored = writer
        .get(name)
        .await?
        .ok_or_else(|| CommandError::no_such(name))?;
    match expected {
        Some(expected) if expected != stored.version => Err(CommandError::ConcurrentModification {
            name: name.clone(),
            found: stored.version,
            expected,
        }),
        _ => read(name, &stored.body),
    }
}

fn read(name: &Name, body: &str) -> Result<Resource, CommandError> {
    Resource::parse(name.kind, body).map_err(|e| StoreError::Row(format!("{name}: {e}")).into())
}

async fn put(
    cx: CommandContext<'_>,
    writer: &mut Writer<'_>,
    actor: &Actor,
    action: &'static str,
    old: Option<Resource>,
    mut new: Resource,
) -> Result<(), CommandError> {
    let name = new.name();
    seal(&mut new, old.as_ref(), cx)?;
    // The snapshot compiler has the last word: no broker could load what it refuses.
    let mut scratch = Directory::empty().map_err(refused)?;
    scratch.insert(&new, Some(cx.master_key)).map_err(refused)?;
    if let Some(id) = new.unique_id().filter(|id| !id.is_empty())
        && let Some(other) = writer.find_unique(id).await?.filter(|other| *other != name)
    {
        let by = format!("{other}, which has the unique id `{id}` of {name}");
        return Err(CommandError::EntityAlreadyExists(by.into()));
    }
    let overridden = scratch
        .role(&name.id)
        .map(|role| role.overridden.to_vec())
        .unwrap_or_default();
    let is_disabled = old.as_ref().is_some_and(Resource::is_active) && !new.is_active();
    let revoked = if is_disabled || is_other_password(cx, old.as_ref(), &new) {
        ends(&new)
    } else {
        None
    };
    let detail = Detail {
        overridden,
        ..Detail::of(old.as_ref(), Some(&new))
    };
    let action = kept(action, name.kind);
    record(cx, writer, actor, action, &name, detail, revoked).await?;
    Ok(writer.put(&new).await?)
}

async fn delete(
    cx: CommandContext<'_>,
    writer: &mut Writer<'_>,
    actor: &Actor,
    old: Resource,
) -> Result<(), CommandError> {
    let name = old.name();
    let detail = Detail::of(Some(&old), None);
    let action = named(Verb::Delete, name.kind);
    record(cx, writer, actor, action, &name, detail, ends(&old)).await?;
    Ok(writer.delete(&name).await?)
}

/// Changes the name of a resource, and thereby its ARN. Resources that refer to it are updated, and
/// sessions issued under the old name end.
async fn rename(
    cx: CommandContext<'_>,
    writer: &mut Writer<'_>,
    actor: &Actor,
    action: &'static str,
    old: Resource,
    new: Resource,
) -> Result<(), CommandError> {
    let from = old.name();
    let referrers = writer
        .referrers(from.kind, &from.id, &old.folded(), i64::MAX)
        .await?;
    let mut after = Vec::new();
    for referrer in referrers {
        let stored = current(writer, &referrer, None).await?;
        let mut thing = stored.clone();
        unseal(&mut thing, cx)?;
        edit::follow(&mut thing, &old, &new);
        after.push((stored, thing));
    }
    delete(cx, writer, actor, old).await?;
    put(cx, writer, actor, action, None, new).await?;
    for (stored, thing) in after {
        // A login profile is stored under the ARN of its user.
        if stored.name() != thing.name() {
            delete(cx, writer, actor, stored).await?;
        }
        put(cx, writer, actor, action, None, thing).await?;
    }
    Ok(())
}

async fn record(
    cx: CommandContext<'_>,
    writer: &mut Writer<'_>,
    actor: &Actor,
    action: &'static str,
    name: &Name,
    mut detail: Detail,
    revoked: Option<(Selector, String, String)>,
) -> Result<(), CommandError> {
    if let Some((selector, account, value)) = revoked {
        // Everything issued before this change has ended.
        let mark = Mark {
            before_sequence: writer.sequence() + 1,
            before_seconds: 0,
            expires_at: Mark::outlives(cx.now),
        };
        writer
            .revoke(selector.as_str(), &account, &value, mark)
            .await?;
        detail
            .revoked
            .push(Revoked::new(selector, &account, &value, mark));
    }
    let entry = Entry {
        changed_at: cx.now,
        actor: actor.text(),
        action,
        kind: name.kind.as_str(),
        id: name.id.clone(),
        detail: serde_json::to_string(&detail).map_err(|e| StoreError::Row(e.to_string()))?,
    };
    let sequence = writer.record(&entry).await?;
    Ok(writer.keep_documents(sequence, &detail.documents).await?)
}

/// Whether a change gives a user another password, or requires a new one. Everything that began with the
/// old password then ends.
fn is_other_password(cx: CommandContext<'_>, old: Option<&Resource>, new: &Resource) -> bool {
    let (Some(old), Resource::LoginProfile(after)) = (old, new) else {
        return false;
    };
    let Resource::LoginProfile(before) = old else {
        return false;
    };
    let must_choose = |profile: &LoginProfileDetail| profile.password_reset_required == Some(true);
    // A hash that cannot be read counts as that of another password.
    let mark = |profile: &Resource| {
        let field = profile.secret()?;
        let hashes = cx.master_key.open(&field.bound_to, field.sealed?).ok()?;
        hash::mark(hash::each(hashes.expose()).next()?).ok()
    };
    let is_same = before.sealed_password_hash == after.sealed_password_hash
        || mark(old).is_some_and(|mark_before| mark(new) == Some(mark_before));
    !is_same || must_choose(after) && !must_choose(before)
}

/// Returns the selector, the account and the value of the revocation that ends the sessions of a deleted or disabled
/// resource; `None` if no sessions depend on it.
fn ends(resource: &Resource) -> Option<(Selector, String, String)> {
    let (account, mut id) = (resource.account().to_owned(), resource.name().id);
    if matches!(resource, Resource::LoginProfile(_)) {
        id = password_key(&id);
    }
    resource.sessions().map(|selector| (selector, account, id))
}

#[cfg(test)]
mod tests;
