//! The one door for changes of the directory: typed commands, checked by AWS's rules, written with
//! their place in the feed in one transaction. Knows no wire: the IAM API and the import of files
//! are faces on exactly these commands.
//!
//! Every command may name the version of the resource that it was based on (the change that wrote
//! it). Of two administrators who change a resource at once, the second gets ConcurrentModification
//! and overwrites nothing.
mod accept_clock;
mod action;
mod change;
mod edit;
mod emergency;
mod error;
mod export;
mod import;
mod lint;
mod principals;
mod rules;
mod seal;
mod secrets;

use crate::base::clock::Timestamp;
use crate::base::entropy::Entropy;
use crate::directory::resource::{Name, Resource};
use crate::directory::{Defaults, Directory};
use crate::master_key::MasterKey;
use crate::revocations::{Mark, Selector};
use crate::store::{Entry, Store, StoreError, Writer};
use action::{Verb, kept, named};
use error::refused;
use seal::{seal, unseal};

pub use crate::error::CommandError;
pub use accept_clock::{ACCEPT_CLOCK, accept_clock};
pub use change::{Actor, Detail, Revoked};
pub use edit::Edit;
pub use emergency::{end_sessions, revoke_signing_keys};
pub use export::{export, export_of};
pub use import::{Import, Planned, plan, survey};
pub use principals::bind_stored;
pub use seal::reseal;
pub use secrets::{Secrets, open_all};

/// One change that somebody asks for. What IAM gives by itself (ids, dates, paths) may be left empty.
#[derive(Debug)]
pub enum Command {
    /// Creates a resource.
    Create(Resource),
    #[cfg_attr(
        not(any(test, feature = "internals")),
        allow(
            dead_code,
            reason = "actions of the IAM API that are not answered yet make it"
        )
    )]
    /// Gives a resource another content.
    Replace {
        /// Its whole content.
        resource: Resource,
        /// The version that the decision was based on; none: whichever there is.
        expected: Option<i64>,
    },
    /// Changes one aspect of a resource.
    Edit {
        /// The resource.
        name: Name,
        /// The aspect and its new value.
        edit: Edit,
        /// The version that the decision was based on; none: whichever there is.
        expected: Option<i64>,
    },
    /// Deletes a resource on which nothing depends.
    Delete {
        /// The resource.
        name: Name,
        /// The version that the decision was based on; none: whichever there is.
        expected: Option<i64>,
    },
}

/// What every command is executed with.
#[derive(Clone, Copy)]
pub struct CommandContext<'a> {
    /// Holds the rows that a command changes.
    pub store: &'a Store,
    /// Seals the secrets of rows.
    pub master_key: &'a MasterKey,
    /// Source of the random bytes of new ids.
    pub entropy: &'a dyn Entropy,
    /// The instant of the change.
    pub now: Timestamp,
    /// The issuer of this broker's own tokens, if it issues any: no provider may have that URL.
    pub issuer: Option<&'a str>,
}

impl<'a> CommandContext<'a> {
    /// What IAM gives new resources by itself.
    fn defaults(&self) -> Defaults<'a> {
        Defaults {
            entropy: self.entropy,
            now: self.now,
        }
    }
}

#[cfg(any(test, feature = "internals"))]
/// Executes commands in order, all of them or none, and gives the number of the last change. The feed
/// records them as `action`, the name of what was asked for (`TagUser`); a deletion is named after
/// what it deletes.
///
/// # Errors
/// The first command that breaks a rule; nothing was changed.
pub async fn execute(
    cx: CommandContext<'_>,
    actor: &Actor,
    action: &'static str,
    commands: Vec<Command>,
) -> Result<i64, CommandError> {
    execute_in(cx.store.write().await?, cx, actor, action, commands).await
}

/// Executes commands as one change that was begun.
///
/// # Errors
/// As [`execute`].
pub async fn execute_in(
    mut writer: Writer<'_>,
    cx: CommandContext<'_>,
    actor: &Actor,
    action: &'static str,
    commands: Vec<Command>,
) -> Result<i64, CommandError> {
    for command in commands {
        if let Err(error) = run(cx, &mut writer, actor, action, command).await {
            writer.abandon().await;
            return Err(error);
        }
    }
    Ok(writer.commit().await?)
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
    if matches!(edit, Edit::AssignMfaDevice(_) | Edit::ReleaseMfaDevice) {
        unseal(&mut new, cx)?;
    }
    edit.apply(&mut new, cx.now)?;
    // Whoever writes a trust policy names those who are there.
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

/// The resource as the store has it.
///
/// # Errors
/// If it is not there, or has another version than the command was based on.
async fn current(
    writer: &mut Writer<'_>,
    name: &Name,
    expected: Option<i64>,
) -> Result<Resource, CommandError> {
    let stored = writer
        .get(name)
        .await?
        .ok_or_else(|| CommandError::NoSuchEntity(name.to_string()))?;
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
    // The compiler of snapshots has the last word: what it does not take, no node could load.
    let mut scratch = Directory::empty().map_err(refused)?;
    scratch.insert(&new, Some(cx.master_key)).map_err(refused)?;
    if let Some(id) = new.unique_id().filter(|id| !id.is_empty())
        && let Some(other) = writer.find_unique(id).await?.filter(|other| *other != name)
    {
        return Err(CommandError::EntityAlreadyExists(format!(
            "{other}, which has the unique id `{id}` of {name}"
        )));
    }
    let overridden = scratch
        .role(&name.id)
        .map(|role| role.overridden.to_vec())
        .unwrap_or_default();
    let revoked = if old.as_ref().is_some_and(Resource::is_active) && !new.is_active() {
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

/// Gives a resource another ARN. What refers to it refers to the new one from then on, and sessions
/// that came from the old one end.
async fn rename(
    cx: CommandContext<'_>,
    writer: &mut Writer<'_>,
    actor: &Actor,
    action: &'static str,
    old: Resource,
    new: Resource,
) -> Result<(), CommandError> {
    let (from, to) = (old.name(), new.name());
    if writer.get(&to).await?.is_some() {
        return Err(CommandError::EntityAlreadyExists(to.to_string()));
    }
    let referrers = writer
        .referrers(from.kind, &from.id, &old.folded(), i64::MAX)
        .await?;
    let mut after = Vec::new();
    for referrer in referrers {
        let mut thing = current(writer, &referrer, None).await?;
        unseal(&mut thing, cx)?;
        edit::follow(&mut thing, &old, &new);
        after.push(thing);
    }
    delete(cx, writer, actor, old).await?;
    put(cx, writer, actor, action, None, new).await?;
    for thing in after {
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
        // What was issued under the change before this one has ended.
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

/// The sessions that end with a resource that is deleted or disabled.
fn ends(resource: &Resource) -> Option<(Selector, String, String)> {
    let (account, id) = (resource.account().to_owned(), resource.name().id);
    resource.sessions().map(|selector| (selector, account, id))
}

#[cfg(test)]
mod tests;
