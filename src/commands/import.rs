//! A declared directory against the store's: what would change, and its doing.

use std::collections::HashMap;

use serde_json::Value;
use similar::TextDiff;

use super::{
    Actor, CommandError, Desk, Detail, action, delete, difference, ends, fill, is_active, public, put, read, record,
    refused, rules, seal,
};
use crate::directory::declaration::Declaration;
use crate::directory::resource::{Kind, Name, Resource};
use crate::directory::{Directory, check_everybody, declared, external_id_warning};
use crate::evaluator::strangers;
use crate::store::StoreError;

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
}

/// Compares a declaration with the store. With `prune`, what is in the declaration's accounts and
/// not declared goes.
///
/// # Errors
/// The first declared thing that breaks a rule, and whatever the store says.
pub async fn plan(desk: Desk<'_>, declaration: Declaration, prune: bool) -> Result<Import, CommandError> {
    let wanted = declared(declaration).map_err(|e| CommandError::Validation(e.to_string()))?;
    let mut there: HashMap<Name, (i64, String)> = HashMap::new();
    desk.store
        .scan::<StoreError>(|kind, id, version, body| {
            there.insert(Name::new(kind, id), (version, body.to_owned()));
            Ok(())
        })
        .await?;
    let mut accounts: Vec<&str> = wanted.iter().map(Resource::account).collect();
    accounts.sort_unstable();
    accounts.dedup();
    let accounts: Vec<String> = accounts.into_iter().map(str::to_owned).collect();
    let mut import = Import { planned: Vec::new(), unchanged: 0, kept: 0, warnings: Vec::new() };
    let (mut updates, mut names) = (Vec::new(), std::collections::HashSet::new());
    let mut scratch = Directory::empty().map_err(refused)?;
    let (mut roles, mut providers) = (Vec::new(), Vec::new());
    for mut new in wanted {
        let name = new.name();
        if !names.insert(name.clone()) {
            return Err(CommandError::Validation(format!("{name} is declared twice")));
        }
        let old = there.remove(&name).map(|(version, body)| Ok((version, read(&name, &body)?)));
        let old = old.transpose().map_err(|e: CommandError| e)?;
        if let Some((_, old)) = &old {
            adopt(&mut new, old);
        }
        fill(&mut new, desk)?;
        seal(&mut new, old.as_ref().map(|(_, old)| old), desk)?;
        rules::check(&new)?;
        // The compiler of snapshots has the last word: what it does not take, no node could load.
        scratch.take(&new, Some(desk.master_key)).map_err(refused)?;
        match &new {
            Resource::Role(_) => roles.extend(scratch.role(&name.id).cloned()),
            Resource::OidcProvider(_) => providers.push(name.id.clone()),
            _ => {}
        }
        scratch.leave(&name);
        match old {
            Some((_, old)) if public(&old) == public(&new) => import.unchanged += 1,
            Some((version, old)) => updates.push(Planned::Update { old: old.into(), new: new.into(), version }),
            None => updates.push(Planned::Create(new)),
        }
    }
    let mut gone: Vec<(Name, i64, String)> = Vec::new();
    for (name, (version, body)) in there {
        let thing = read(&name, &body)?;
        if prune && accounts.iter().any(|a| a == thing.account()) {
            gone.push((name, version, body));
        } else {
            import.kept += 1;
            if name.kind == Kind::OidcProvider {
                providers.push(name.id);
            }
        }
    }
    let providers: Vec<&str> = providers.iter().map(String::as_str).collect();
    for role in roles {
        check_everybody(&format!("role {}: AssumeRolePolicyDocument", role.arn), &role.arn, &role.trust, &providers)
            .map_err(refused)?;
        let tags = role.overridden.iter().map(|tag| format!("role {} lets in strangers by its tag {tag}", role.arn));
        import.warnings.extend(tags);
        let foreign = strangers::without_external_id(&role.trust, role.account.as_str());
        import.warnings.extend(foreign.iter().map(|who| external_id_warning(&role.arn, who)));
    }
    // What others depend on goes last.
    gone.sort_by(|a, b| b.0.cmp(&a.0));
    for (name, version, body) in gone {
        import.planned.push(Planned::Delete { old: read(&name, &body)?, version });
    }
    import.planned.extend(updates);
    Ok(import)
}

impl Import {
    /// Does it, all of it or nothing. The number of the last change.
    ///
    /// # Errors
    /// When something was changed since the plan was made, or something declared refers to what is
    /// not there.
    pub async fn apply(self, desk: Desk<'_>, actor: &Actor) -> Result<i64, CommandError> {
        let mut writer = desk.store.write().await?;
        for planned in self.planned {
            if let Err(error) = planned.run(desk, &mut writer, actor).await {
                writer.abandon().await;
                return Err(error);
            }
        }
        if let Some((name, target)) = writer.dangling().await? {
            writer.abandon().await;
            return Err(CommandError::NoSuchEntity(format!("{target}, which {name} refers to")));
        }
        Ok(writer.commit().await?)
    }
}

impl Planned {
    async fn run(
        self,
        desk: Desk<'_>,
        writer: &mut crate::store::Writer<'_>,
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
                put(desk, writer, actor, action("Create", name.kind), None, new).await
            }
            Self::Update { old, new, version } => {
                super::current(writer, &old.name(), Some(version)).await?;
                let name = new.name();
                // Made anew under its name: what came from the old one ends.
                let remade = old.unique_id() != new.unique_id();
                let ended = (remade || (is_active(&old) && !is_active(&new))).then(|| ends(&old)).flatten();
                if remade && ended.is_some() {
                    let (before, after) = difference(Some(&old), None);
                    let detail = Detail { before, after, ..Detail::default() };
                    record(desk, writer, actor, action("Delete", name.kind), &name, detail, ended).await?;
                }
                put(desk, writer, actor, action("Update", name.kind), Some(*old), *new).await
            }
            Self::Delete { old, version } => {
                super::current(writer, &old.name(), Some(version)).await?;
                delete(desk, writer, actor, old).await
            }
        }
    }

    /// For people: a line, and what differs in it.
    pub fn describe(&self) -> String {
        match self {
            Self::Create(new) => format!("+ {}\n", new.name()),
            Self::Delete { old, .. } => format!("- {}\n", old.name()),
            Self::Update { old, new, .. } => {
                let pretty = |r: &Resource| serde_json::to_string_pretty(&shown(public(r))).unwrap_or_default();
                let (before, after) = (pretty(old), pretty(new));
                let diff = TextDiff::from_lines(&before, &after).unified_diff().context_radius(2).to_string();
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
            Some(digest) => Value::String(format!("(sealed, {}…)", digest.chars().take(8).collect::<String>())),
            None => Value::String(text),
        },
        Value::Object(fields) => fields.into_iter().map(|(k, v)| (k, shown(v))).collect(),
        other => other,
    }
}

/// What a declaration leaves out because IAM gives it stays as it is.
fn adopt(new: &mut Resource, old: &Resource) {
    fn keep<T: Clone>(new: &mut Option<T>, old: &Option<T>) {
        if new.is_none() {
            new.clone_from(old);
        }
    }
    fn keep_id(new: &mut String, old: &str) {
        if new.is_empty() {
            old.clone_into(new);
        }
    }
    match (new, old) {
        (Resource::User(new), Resource::User(old)) => {
            keep_id(&mut new.user_id, &old.user_id);
            keep(&mut new.create_date, &old.create_date);
        }
        (Resource::Group(new), Resource::Group(old)) => {
            keep_id(&mut new.group_id, &old.group_id);
            keep(&mut new.create_date, &old.create_date);
        }
        (Resource::Role(new), Resource::Role(old)) => {
            keep_id(&mut new.role_id, &old.role_id);
            keep(&mut new.create_date, &old.create_date);
        }
        (Resource::Policy(new), Resource::Policy(old)) => {
            keep(&mut new.policy_id, &old.policy_id);
            keep(&mut new.create_date, &old.create_date);
        }
        (Resource::InstanceProfile(new), Resource::InstanceProfile(old)) => {
            keep_id(&mut new.instance_profile_id, &old.instance_profile_id);
            keep(&mut new.create_date, &old.create_date);
        }
        (Resource::AccessKey(new), Resource::AccessKey(old)) => keep(&mut new.create_date, &old.create_date),
        (Resource::OidcProvider(new), Resource::OidcProvider(old)) => keep(&mut new.create_date, &old.create_date),
        (Resource::SamlProvider(new), Resource::SamlProvider(old)) => keep(&mut new.create_date, &old.create_date),
        // An account that is only mentioned keeps its alias.
        (Resource::Account(new), Resource::Account(old)) => keep(&mut new.account_alias, &old.account_alias),
        _ => {}
    }
}
