//! Compares a declared directory with the store's, shows what would change, and applies it. A declared resource must
//! satisfy the same rules as one that a command writes ([`rules::check`]).

mod after;
mod planned;

use std::collections::{HashMap, HashSet};

use super::change::public;
use super::last_administrator::{self, Guard};
use super::principals::{bind, missing};
use super::{Actor, CommandContext, CommandError, lint, read, refused, rules, seal};
use crate::directory::declaration::Declaration;
use crate::directory::resource::{Name, Resource, ResourceKind};
use crate::directory::{Directory, declared, naming_policy};
use crate::store::{Store, StoreError, Writer};
use after::After;

pub use planned::Planned;

/// The maximum number of resources whose errors are reported.
const MAX_ERRORS: usize = 1_000;

/// The plan of an import: what it would change.
#[derive(Debug, Default)]
pub struct Import {
    /// The changes, in the order in which they are applied.
    pub planned: Vec<Planned>,
    /// How many resources are in the store exactly as declared.
    pub unchanged: usize,
    /// How many resources of the store are not declared and are not deleted.
    pub kept: usize,
    /// Findings about resources that are accepted but probably not as intended, one sentence each.
    pub warnings: Vec<String>,
    /// Why the import cannot be applied. The plan leaves out the resources concerned.
    pub errors: Vec<CommandError>,
    /// Whether the import is applied even if nobody can administer the directory afterwards.
    pub allows_lockout: bool,
    /// The unique ids to which trust policies and bucket policies were bound, each with a resource whose policy
    /// contains it and the ARN that it replaced.
    bound: HashMap<String, (Name, String)>,
}

/// Compares a declaration with the store. With `prune`, resources that exist in the declaration's
/// accounts but are not declared are deleted.
///
/// # Errors
/// The error of the first declared resource that breaks a rule, or an error of [`survey`].
pub async fn plan(
    cx: CommandContext<'_>,
    declaration: Declaration,
    prune: bool,
) -> Result<Import, CommandError> {
    let mut import = survey(cx, declaration, prune).await?;
    if import.errors.is_empty() {
        Ok(import)
    } else {
        Err(import.errors.swap_remove(0))
    }
}

/// Like [`plan`], but collects the errors of all declared resources in [`Import::errors`].
///
/// # Errors
/// [`CommandError::Validation`] if the declaration cannot be read as a whole, [`CommandError::EntityAlreadyExists`] if
/// a resource that is kept has the name or unique id of another one, or [`CommandError::Store`].
pub async fn survey(
    cx: CommandContext<'_>,
    declaration: Declaration,
    prune: bool,
) -> Result<Import, CommandError> {
    let mut import = Import {
        warnings: declaration.unsupported(),
        ..Import::default()
    };
    let wanted = declared(declaration).map_err(|e| CommandError::Validation(e.to_string()))?;
    let accounts: HashSet<String> = wanted.iter().map(|r| r.account().to_owned()).collect();
    let mut stored = rows(cx.store).await?;
    let mut after = After::default();
    let mut changed = Vec::with_capacity(wanted.len());
    for mut new in wanted {
        let name = new.name();
        let old = match stored.remove(&name) {
            Some((version, body)) => Some((version, read(&name, &body)?)),
            None => None,
        };
        if let Some((_, old)) = &old {
            new.keep_what_is_left_out(old);
        }
        new.fill(&cx.defaults())?;
        match after.put(&new) {
            Ok(()) => changed.push((new, old)),
            Err(error) => import.refuse(error),
        }
    }
    let mut gone: Vec<(Name, i64, Resource)> = Vec::new();
    for (name, (version, body)) in stored {
        let resource = read(&name, &body)?;
        if prune && accounts.contains(resource.pruned_with()) {
            gone.push((name, version, resource));
        } else {
            import.kept += 1;
            after.put(&resource)?;
        }
    }
    // Resources on which others depend are deleted last.
    gone.sort_by(|a, b| b.0.cmp(&a.0));
    let gone = gone.into_iter();
    let gone = gone.map(|(_, version, old)| Planned::Delete { old, version });
    import.planned.extend(gone);
    let mut scratch = Directory::empty().map_err(refused)?;
    for (new, old) in changed {
        if let Err(error) = import.take(cx, &after, &mut scratch, new, old).await {
            import.refuse(error);
        }
    }
    import.warnings.extend(after.closed());
    Ok(import)
}

/// Reads all rows of the directory, each with its version and text.
async fn rows(store: &Store) -> Result<HashMap<Name, (i64, String)>, StoreError> {
    let mut rows = HashMap::new();
    store
        .scan::<StoreError>(|kind, id, version, body| {
            rows.insert(Name::new(kind, id), (version, body.to_owned()));
            Ok(())
        })
        .await?;
    Ok(rows)
}

impl Import {
    /// Plans one declared resource. `old` is its version and content in the store.
    ///
    /// # Errors
    /// [`CommandError`] with the rule that the resource breaks, or because a secret of the resource cannot be sealed.
    async fn take(
        &mut self,
        cx: CommandContext<'_>,
        after: &After,
        scratch: &mut Directory,
        mut new: Resource,
        old: Option<(i64, Resource)>,
    ) -> Result<(), CommandError> {
        let name = new.name();
        self.warnings.extend(lint::warnings(&new));
        let stored = old.as_ref().map(|(_, old)| old);
        seal(&mut new, stored, cx)?;
        let bound = self.bind(after, &mut new, stored)?;
        let mut whole = after;
        rules::check(&mut whole, &new, stored, cx.issuer).await?;
        // The snapshot compiler has the last word: no broker could load what it refuses.
        scratch.insert(&new, Some(cx.master_key)).map_err(refused)?;
        let checked = scratch
            .role(&name.id)
            .map(|role| after.warnings_about(role));
        let buckets: Vec<String> = scratch
            .bucket_policies()
            .filter_map(|p| p.warning())
            .collect();
        scratch.remove(&name);
        let warnings = checked.transpose()?.unwrap_or_default();
        self.warnings.extend(warnings.into_iter().chain(buckets));
        match old {
            Some((_, old)) if public(&old) == public(&new) => {
                self.unchanged += 1;
                return Ok(());
            }
            Some((version, old)) => {
                let readable = after.readable(&old, &new);
                self.planned.push(Planned::Update {
                    old: old.into(),
                    new: new.into(),
                    version,
                    readable,
                });
            }
            None => self.planned.push(Planned::Create(new)),
        }
        let bound = bound.into_iter();
        self.bound
            .extend(bound.map(|(id, arn)| (id, (name.clone(), arn))));
        Ok(())
    }

    /// Binds a role's trust policy or a bucket's policy to the users and roles that will exist after the import.
    /// Returns the unique ids and ARNs of those users and roles.
    fn bind(
        &mut self,
        after: &After,
        new: &mut Resource,
        old: Option<&Resource>,
    ) -> Result<Vec<(String, String)>, CommandError> {
        let mut bound = Vec::new();
        let not_here = bind(new, old, |named| after.resolve(named, &mut bound))?;
        let whose = naming_policy(&new.name());
        self.warnings.extend(not_here.iter().map(|principal| {
            format!("{whose} still names {principal}, but no user or role has this ARN: remove the ARN from the policy")
        }));
        Ok(bound)
    }

    /// Adds the reason why a resource cannot be imported to the errors, unless there are [`MAX_ERRORS`] already.
    fn refuse(&mut self, error: CommandError) {
        if self.errors.len() < MAX_ERRORS {
            self.errors.push(error);
        }
    }

    /// The names of the resources that are changed or deleted.
    pub fn replaced(&self) -> HashSet<Name> {
        let old = |planned: &Planned| match planned {
            Planned::Create(_) => None,
            Planned::Update { old, .. } => Some(old.name()),
            Planned::Delete { old, .. } => Some(old.name()),
        };
        self.planned.iter().filter_map(old).collect()
    }

    /// Applies all changes, or none if one fails. Returns the number of the last change.
    ///
    /// # Errors
    /// `Validation` with the first of [`Import::errors`] if there are any, `ConcurrentModification` if a resource was
    /// changed since the plan was made, `NoSuchEntity` if a declared resource refers to one that does not exist,
    /// [`CommandError::LastAdministrator`] if nobody could administer the directory afterwards, [`CommandError::Store`]
    /// if an operation of the store fails, or the error of another rule that a change breaks.
    pub async fn apply(&self, cx: CommandContext<'_>, actor: &Actor) -> Result<i64, CommandError> {
        Ok(self.write(cx, actor).await?.commit().await?)
    }

    /// Makes all changes in a transaction and rolls it back, to find out whether [`Import::apply`] would succeed.
    ///
    /// # Errors
    /// The same as for [`Import::apply`].
    pub async fn rehearse(
        &self,
        cx: CommandContext<'_>,
        actor: &Actor,
    ) -> Result<(), CommandError> {
        self.write(cx, actor).await?.abandon().await;
        Ok(())
    }

    async fn write<'s>(
        &self,
        cx: CommandContext<'s>,
        actor: &Actor,
    ) -> Result<Writer<'s>, CommandError> {
        // A directory that no broker could load has nobody who administers it.
        let before = match self.may_lock_out() {
            true => last_administrator::load(cx).await.ok(),
            false => None,
        };
        let mut writer = cx.store.write_much().await?;
        match self.write_to(&mut writer, cx, actor, before.as_ref()).await {
            Ok(()) => Ok(writer),
            Err(error) => {
                writer.abandon().await;
                Err(error)
            }
        }
    }

    /// Whether the changes must be checked, because they could leave the directory without an
    /// administrator.
    fn may_lock_out(&self) -> bool {
        let takes_away = |planned: &Planned| match planned {
            Planned::Create(new) => new.kind() == ResourceKind::Organization,
            Planned::Update { .. } | Planned::Delete { .. } => true,
        };
        !self.allows_lockout && self.planned.iter().any(takes_away)
    }

    async fn write_to(
        &self,
        writer: &mut Writer<'_>,
        cx: CommandContext<'_>,
        actor: &Actor,
        before: Option<&Directory>,
    ) -> Result<(), CommandError> {
        if let Some(error) = self.errors.first() {
            return Err(CommandError::Validation(error.to_string()));
        }
        let mut guard = match before {
            Some(before) => Some(Guard::begin(cx, writer, before).await?),
            None => None,
        };
        for planned in &self.planned {
            planned.run(cx, writer, actor).await?;
        }
        if let Some((name, target)) = writer.dangling().await? {
            let what = format!("{target}, which {name} refers to");
            return Err(CommandError::NoSuchEntity(what.into()));
        }
        for (id, (owner, principal)) in &self.bound {
            // Somebody may have deleted it since the plan was made.
            if writer.find_unique(id).await?.is_none() {
                return Err(missing(owner, principal));
            }
        }
        if let Some(guard) = &mut guard {
            guard.end(cx, writer).await?;
        }
        Ok(())
    }
}
