//! A declared directory against the store's: what would change, and its doing. Each declared resource is
//! judged by the rules of a command ([`rules::check`]).

mod after;
mod planned;

use std::collections::{HashMap, HashSet};

use super::change::public;
use super::principals::{bind, missing};
use super::{Actor, CommandContext, CommandError, lint, read, refused, rules, seal};
use crate::directory::declaration::Declaration;
use crate::directory::resource::{Name, Resource};
use crate::directory::{Directory, declared};
use crate::store::{Store, StoreError, Writer};
use after::After;

pub use planned::Planned;

/// So many resources that break a rule are named.
const MAX_ERRORS: usize = 1_000;

/// What an import would change.
#[derive(Debug, Default)]
pub struct Import {
    /// In the order in which it is done.
    pub planned: Vec<Planned>,
    /// How many things are as they are declared.
    pub unchanged: usize,
    /// How many are there and not declared, and stay.
    pub kept: usize,
    /// What is taken, and most likely not meant: a sentence each.
    pub warnings: Vec<String>,
    /// Why it cannot be done. The plan then leaves out what these are about.
    pub errors: Vec<CommandError>,
    /// Unique ids that trust policies were bound to, each with a role that names it and its ARN.
    bound: HashMap<String, (String, String)>,
}

/// Compares a declaration with the store. With `prune`, what is in the declaration's accounts and
/// not declared goes.
///
/// # Errors
/// The first declared thing that breaks a rule, and whatever the store says.
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

/// As [`plan`], with every declared resource that breaks a rule in [`Import::errors`].
///
/// # Errors
/// When the declaration cannot be read as a whole, and whatever the store says.
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
        if prune && accounts.contains(resource.account()) {
            gone.push((name, version, resource));
        } else {
            import.kept += 1;
            after.put(&resource)?;
        }
    }
    // What others depend on goes last.
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

/// All rows of the directory: the version and text of each.
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
    /// Plans one declared resource; `old` is its version and content in the store.
    ///
    /// # Errors
    /// The rule that it breaks.
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
        // The compiler of snapshots has the last word: what it does not take, no node could load.
        scratch.insert(&new, Some(cx.master_key)).map_err(refused)?;
        let looked = scratch.role(&name.id).map(|role| after.look_at(role));
        scratch.remove(&name);
        let warnings = looked.transpose()?.unwrap_or_default();
        self.warnings.extend(warnings);
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
            .extend(bound.map(|(id, arn)| (id, (name.id.clone(), arn))));
        Ok(())
    }

    /// Binds a role's trust policy to the users and roles that will be there: their unique ids and ARNs.
    fn bind(
        &mut self,
        after: &After,
        new: &mut Resource,
        old: Option<&Resource>,
    ) -> Result<Vec<(String, String)>, CommandError> {
        let mut bound = Vec::new();
        if let Resource::Role(role) = new {
            let old = match old {
                Some(Resource::Role(old)) => Some(&**old),
                _ => None,
            };
            let not_here = bind(role, old, |named| after.resolve(named, &mut bound))?;
            self.warnings.extend(not_here.iter().map(|principal| {
                format!("role {} names {principal} in its trust policy, as before, and nobody has that ARN: leave the entry out", role.arn)
            }));
        }
        Ok(bound)
    }

    /// Remembers why something cannot be done.
    fn refuse(&mut self, error: CommandError) {
        if self.errors.len() < MAX_ERRORS {
            self.errors.push(error);
        }
    }

    /// The names of what is changed or deleted.
    pub fn replaced(&self) -> HashSet<Name> {
        let old = |planned: &Planned| match planned {
            Planned::Create(_) => None,
            Planned::Update { old, .. } => Some(old.name()),
            Planned::Delete { old, .. } => Some(old.name()),
        };
        self.planned.iter().filter_map(old).collect()
    }

    /// Does it, all of it or nothing. The number of the last change.
    ///
    /// # Errors
    /// When something was changed since the plan was made, or something declared refers to what is
    /// not there.
    pub async fn apply(&self, cx: CommandContext<'_>, actor: &Actor) -> Result<i64, CommandError> {
        Ok(self.write(cx, actor).await?.commit().await?)
    }

    /// Does everything that [`Import::apply`] does, and undoes it.
    ///
    /// # Errors
    /// Those of [`Import::apply`].
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
        let mut writer = cx.store.write_much().await?;
        match self.write_to(&mut writer, cx, actor).await {
            Ok(()) => Ok(writer),
            Err(error) => {
                writer.abandon().await;
                Err(error)
            }
        }
    }

    async fn write_to(
        &self,
        writer: &mut Writer<'_>,
        cx: CommandContext<'_>,
        actor: &Actor,
    ) -> Result<(), CommandError> {
        if let Some(error) = self.errors.first() {
            return Err(CommandError::Validation(error.to_string()));
        }
        for planned in &self.planned {
            planned.run(cx, writer, actor).await?;
        }
        if let Some((name, target)) = writer.dangling().await? {
            return Err(CommandError::NoSuchEntity(format!(
                "{target}, which {name} refers to"
            )));
        }
        for (id, (role, principal)) in &self.bound {
            // Somebody else may have deleted it since the plan was made.
            if writer.find_unique(id).await?.is_none() {
                return Err(missing(role, principal));
            }
        }
        Ok(())
    }
}
