//! A declared directory against the store's: what would change, and its doing.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use serde_json::Value;
use similar::TextDiff;

use super::action::{Verb, named};
use super::change::public;
use super::principals::{Resolved, bind, missing};
use super::{
    Actor, CommandContext, CommandError, Detail, delete, ends, lint, put, read, record, refused,
    rules, seal,
};
use crate::base::arn::{arn_of_principal, name_of};
use crate::directory::declaration::Declaration;
use crate::directory::principals::{Named, exchange};
use crate::directory::resource::{Kind, Name, Resource, folded};
use crate::directory::{
    Directory, Role, check_everybody, closed_warning, declared, external_id_warning,
};
use crate::evaluator::strangers;
use crate::store::{StoreError, Writer};

/// How long a difference may take to become a short one; after that it is any difference.
const DIFF_WITHIN: Duration = Duration::from_millis(500);

/// So many things that break a rule are told of.
const MAX_ERRORS: usize = 1_000;

/// One thing that differs.
#[derive(Debug)]
pub enum Planned {
    /// It is declared and not there.
    Create(Resource),
    /// It is there and declared otherwise.
    Update {
        /// As it is.
        old: Box<Resource>,
        /// As it is declared.
        new: Box<Resource>,
        /// The change that wrote what is there.
        version: i64,
        /// Both as people read them, where rows say it otherwise.
        readable: Option<Box<(Resource, Resource)>>,
    },
    /// It is there and not declared.
    Delete {
        /// As it is.
        old: Resource,
        /// The change that wrote it.
        version: i64,
    },
}

/// What an import would change.
#[derive(Debug)]
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

/// As [`plan`], with every declared thing that breaks a rule in [`Import::errors`].
///
/// # Errors
/// When the declaration cannot be read as a whole, and whatever the store says.
pub async fn survey(
    cx: CommandContext<'_>,
    declaration: Declaration,
    prune: bool,
) -> Result<Import, CommandError> {
    let unsupported = declaration.unsupported();
    let wanted = declared(declaration).map_err(|e| CommandError::Validation(e.to_string()))?;
    let mut there: HashMap<Name, (i64, String)> = HashMap::new();
    cx.store
        .scan::<StoreError>(|kind, id, version, body| {
            there.insert(Name::new(kind, id), (version, body.to_owned()));
            Ok(())
        })
        .await?;
    let accounts: HashSet<String> = wanted.iter().map(|r| r.account().to_owned()).collect();
    let mut after = After::default();
    let mut errors = Vec::new();
    let mut changed = Vec::with_capacity(wanted.len());
    for mut new in wanted {
        let name = new.name();
        let old = there
            .remove(&name)
            .map(|(version, body)| Ok((version, read(&name, &body)?)));
        let old = old.transpose().map_err(|e: CommandError| e)?;
        if let Some((_, old)) = &old {
            new.keep_what_is_left_out(old);
        }
        new.fill(&cx.defaults())?;
        match after.put(&new) {
            Ok(()) => changed.push((new, old)),
            Err(error) if errors.len() < MAX_ERRORS => errors.push(error),
            Err(_) => {}
        }
    }
    let mut import = Import {
        planned: Vec::new(),
        unchanged: 0,
        kept: 0,
        warnings: unsupported,
        errors,
        bound: HashMap::new(),
    };
    let mut gone: Vec<(Name, i64, Resource)> = Vec::new();
    for (name, (version, body)) in there {
        let thing = read(&name, &body)?;
        if prune && accounts.contains(thing.account()) {
            gone.push((name, version, thing));
        } else {
            import.kept += 1;
            after.put(&thing)?;
        }
    }
    // What others depend on goes last.
    gone.sort_by(|a, b| b.0.cmp(&a.0));
    import.planned.extend(
        gone.into_iter()
            .map(|(_, version, old)| Planned::Delete { old, version }),
    );
    let mut scratch = Directory::empty().map_err(refused)?;
    for (new, old) in changed {
        match import.take(cx, &after, &mut scratch, new, old) {
            Ok(()) => {}
            Err(error) if import.errors.len() < MAX_ERRORS => import.errors.push(error),
            Err(_) => {}
        }
    }
    import.warnings.extend(after.closed());
    Ok(import)
}

/// What the store will hold when an import is done, as far as things say something of each other.
#[derive(Default)]
struct After {
    names: HashSet<Name>,
    /// By kind and folded name.
    folded: HashMap<(Kind, String), Name>,
    unique_ids: HashMap<String, Name>,
    /// By ARN, the unique ids of users and roles.
    ids: HashMap<String, String>,
    /// ARNs of OpenID Connect providers.
    providers: Vec<String>,
    /// Who refers to which policy of AWS's.
    of_aws: Vec<(Name, String)>,
}

impl After {
    /// # Errors
    /// When something else is declared or stays that has its name or its unique id: names both.
    fn put(&mut self, thing: &Resource) -> Result<(), CommandError> {
        let name = thing.name();
        if !self.names.insert(name.clone()) {
            return Err(CommandError::Validation(format!(
                "{name} is declared twice"
            )));
        }
        let same = |what: &str, other: &Name| {
            CommandError::EntityAlreadyExists(format!("{name} and {other} have {what}"))
        };
        if let Some(other) = self
            .folded
            .insert((name.kind, thing.folded()), name.clone())
        {
            return Err(same("the same name (without regard to case)", &other));
        }
        if let Some(id) = thing.unique_id().filter(|id| !id.is_empty())
            && let Some(other) = self.unique_ids.insert(id.to_owned(), name.clone())
        {
            return Err(same(&format!("the same unique id `{id}`"), &other));
        }
        if let (Kind::User | Kind::Role, Some(id)) = (name.kind, thing.unique_id()) {
            self.ids.insert(name.id.clone(), id.to_owned());
        }
        let of_aws = thing.links().into_iter().filter(rules::is_missing_policy);
        self.of_aws
            .extend(of_aws.map(|policy| (name.clone(), policy.id)));
        if name.kind == Kind::OidcProvider {
            self.providers.push(name.id);
        }
        Ok(())
    }

    /// How a row names a principal; `bound` gets the unique id and the ARN.
    fn resolve(&self, named: &Named<'_>, bound: &mut Vec<(String, String)>) -> Resolved {
        if !self
            .names
            .contains(&Name::new(Kind::Account, named.account()))
        {
            return Resolved::Elsewhere;
        }
        let found = match named {
            Named::User { arn, .. } | Named::Role { arn, .. } => self.ids.get_key_value(*arn),
            Named::Session { account, role, .. } => {
                let name = self.folded.get(&(Kind::Role, folded(account, role)));
                let exact = name.filter(|name| name_of(&name.id) == *role);
                exact.and_then(|name| self.ids.get_key_value(&name.id))
            }
        };
        match found {
            Some((arn, id)) => {
                bound.push((id.clone(), arn.clone()));
                Resolved::Bound(named.bound(id))
            }
            None => Resolved::Missing,
        }
    }

    /// The ARN of whoever will have a unique id.
    fn arn(&self, id: &str) -> Option<&str> {
        let name = self
            .unique_ids
            .get(id)
            .filter(|name| matches!(name.kind, Kind::User | Kind::Role));
        name.map(|name| name.id.as_str())
    }

    /// A role before and after, with ARNs in its trust policy for the unique ids of those who will be here.
    fn readable(&self, old: &Resource, new: &Resource) -> Option<Box<(Resource, Resource)>> {
        let show = |thing: &Resource| {
            let Resource::Role(role) = thing else {
                return None;
            };
            let mut role = role.clone();
            exchange(&mut role, |principal| {
                arn_of_principal(principal, |id| self.arn(id))
            });
            Some(Resource::Role(role))
        };
        Some(Box::new((show(old)?, show(new)?)))
    }

    /// What is most likely not meant in a role.
    ///
    /// # Errors
    /// When it lets in the tenants of a shared issuer without saying which.
    fn look_at(&self, role: &Role) -> Result<Vec<String>, CommandError> {
        if strangers::names_everybody(&role.trust) {
            let providers: Vec<&str> = self.providers.iter().map(String::as_str).collect();
            let place = format!("role {}: AssumeRolePolicyDocument", role.arn);
            check_everybody(&place, &role.arn, &role.trust, &providers).map_err(refused)?;
        }
        let tags = role
            .overridden
            .iter()
            .map(|tag| format!("role {} lets in strangers by its tag {tag}", role.arn));
        let foreign =
            strangers::without_external_id(&role.trust, role.account.as_str(), |id| self.arn(id));
        let foreign = foreign
            .iter()
            .map(|who| external_id_warning(&role.arn, who));
        Ok(tags.chain(foreign).collect())
    }

    /// Who will have a policy of AWS's whose document is not here.
    fn closed(&self) -> Vec<String> {
        let missing = self
            .of_aws
            .iter()
            .filter(|(_, arn)| !self.names.contains(&Name::new(Kind::Policy, arn.as_str())));
        let mut all: Vec<String> = missing
            .map(|(owner, arn)| closed_warning(&owner.to_string(), arn))
            .collect();
        all.sort();
        all
    }
}

impl Import {
    /// One declared thing, and as it is.
    ///
    /// # Errors
    /// The rule that it breaks.
    fn take(
        &mut self,
        cx: CommandContext<'_>,
        after: &After,
        scratch: &mut Directory,
        mut new: Resource,
        old: Option<(i64, Resource)>,
    ) -> Result<(), CommandError> {
        let name = new.name();
        self.warnings.extend(lint::warnings(&new));
        seal(&mut new, old.as_ref().map(|(_, old)| old), cx)?;
        let mut bound = Vec::new();
        if let Resource::Role(role) = &mut new {
            let old = old.as_ref().and_then(|(_, old)| {
                if let Resource::Role(old) = old {
                    Some(&**old)
                } else {
                    None
                }
            });
            let not_here = bind(role, old, |named| after.resolve(named, &mut bound))?;
            self.warnings.extend(not_here.iter().map(|principal| {
                format!("role {} names {principal} in its trust policy, as before, and nobody has that ARN: leave the entry out", role.arn)
            }));
        }
        rules::check(&new, cx.issuer)?;
        // The compiler of snapshots has the last word: what it does not take, no node could load.
        scratch.insert(&new, Some(cx.master_key)).map_err(refused)?;
        let looked = scratch.role(&name.id).map(|role| after.look_at(role));
        scratch.remove(&name);
        self.warnings
            .extend(looked.transpose()?.unwrap_or_default());
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
        self.bound.extend(
            bound
                .into_iter()
                .map(|(id, arn)| (id, (name.id.clone(), arn))),
        );
        Ok(())
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

impl Planned {
    async fn run(
        &self,
        cx: CommandContext<'_>,
        writer: &mut Writer<'_>,
        actor: &Actor,
    ) -> Result<(), CommandError> {
        match self {
            Self::Create(new) => {
                let name = new.name();
                if writer.get(&name).await?.is_some() {
                    return Err(CommandError::EntityAlreadyExists(name.to_string()));
                }
                if let Some(other) = writer.find(name.kind, &new.folded()).await? {
                    return Err(CommandError::EntityAlreadyExists(format!(
                        "{name}: {other} has the same name (without regard to case)"
                    )));
                }
                put(
                    cx,
                    writer,
                    actor,
                    named(Verb::Create, name.kind),
                    None,
                    new.clone(),
                )
                .await
            }
            Self::Update {
                old, new, version, ..
            } => {
                super::current(writer, &old.name(), Some(*version)).await?;
                let name = new.name();
                // Made anew under its name: what came from the old one ends.
                let remade = old.unique_id() != new.unique_id();
                let ended = (remade || (old.is_active() && !new.is_active()))
                    .then(|| ends(old))
                    .flatten();
                if remade && ended.is_some() {
                    let detail = Detail::of(Some(old), None);
                    record(
                        cx,
                        writer,
                        actor,
                        named(Verb::Delete, name.kind),
                        &name,
                        detail,
                        ended,
                    )
                    .await?;
                }
                let (old, new) = (Resource::clone(old), Resource::clone(new));
                put(
                    cx,
                    writer,
                    actor,
                    named(Verb::Update, name.kind),
                    Some(old),
                    new,
                )
                .await
            }
            Self::Delete { old, version } => {
                super::current(writer, &old.name(), Some(*version)).await?;
                delete(cx, writer, actor, old.clone()).await
            }
        }
    }

    /// For people: a line, and what differs in it.
    pub fn describe(&self) -> String {
        match self {
            Self::Create(new) => format!("+ {}\n", new.name()),
            Self::Delete { old, .. } => format!("- {}\n", old.name()),
            Self::Update {
                old, new, readable, ..
            } => {
                let (old, new) = readable
                    .as_deref()
                    .map_or((&**old, &**new), |(old, new)| (old, new));
                let pretty = |r: &Resource| {
                    serde_json::to_string_pretty(&shown(public(r))).unwrap_or_default()
                };
                let (before, after) = (pretty(old), pretty(new));
                let diff = TextDiff::configure()
                    .timeout(DIFF_WITHIN)
                    .diff_lines(&before, &after);
                let diff = diff.unified_diff().context_radius(2).to_string();
                let lines = diff.lines().filter(|l| !l.starts_with("\\ No newline"));
                let lines: String = lines.map(|l| format!("    {l}\n")).collect();
                format!("~ {}\n{lines}", new.name())
            }
        }
    }
}

/// A sealed secret says nothing to people but that it is another one.
fn shown(value: Value) -> Value {
    match value {
        Value::String(text) => match text.strip_prefix("sealed ") {
            Some(digest) => Value::String(format!(
                "(sealed, {}…)",
                digest.chars().take(8).collect::<String>()
            )),
            None => Value::String(text),
        },
        Value::Object(fields) => fields.into_iter().map(|(k, v)| (k, shown(v))).collect(),
        other => other,
    }
}
