//! The directory of a broker, for commands that decide questions without calling the broker.

use std::path::Path;
use std::sync::Arc;

use clap::Args;

use crate::base::arn::{AccountId, IamArn, account_of, name_of};
use crate::base::clock::Timestamp;
use crate::base::entropy::SystemEntropy;
use crate::cli::{Failure, clock, store, values};
use crate::config::Config;
use crate::directory::Directory;
use crate::directory::declaration::{Attached, InlinePolicy};
use crate::directory::resource::{Resource, ResourceKind};
use crate::directory_file::DirectoryFile;
use crate::server;
use crate::store::{DirectoryEntries, Store};

/// Condition keys for the request that is decided.
#[derive(Debug, Args)]
pub(super) struct ContextArgument {
    /// A condition key and a value for it; may be given several times, for several keys or several
    /// values of one key
    #[arg(long = "context", value_name = "KEY=VALUE", value_parser = values::tag)]
    context: Vec<(String, String)>,
}

impl ContextArgument {
    /// The values of each key. A key that was given several times has several values.
    pub fn gathered(&self) -> Vec<(String, Vec<String>)> {
        let mut keys: Vec<(String, Vec<String>)> = Vec::new();
        for (name, value) in &self.context {
            match keys.iter_mut().find(|(n, _)| n.eq_ignore_ascii_case(name)) {
                Some((_, values)) => values.push(value.clone()),
                None => keys.push((name.clone(), vec![value.clone()])),
            }
        }
        keys
    }
}

/// The directory of a broker. If the directory is in a store, the store is kept open, because it has the declared form
/// of each entry.
pub(super) struct Live {
    pub directory: Directory,
    store: Option<(tokio::runtime::Runtime, Store)>,
    pub now: Timestamp,
}

impl Live {
    /// Loads the directory that the broker of this configuration serves: its directory file, or the directory in its
    /// store.
    pub fn load(config: &Path) -> Result<Self, Failure> {
        let config = Config::load(config)?;
        let now = clock::now(&config)?;
        if let Some(path) = &config.directory {
            let file =
                DirectoryFile::read(path, config.master_key.as_deref(), config.issuer.as_deref())?;
            let entropy = SystemEntropy::new();
            let compiled = file.compile(&DirectoryEntries::default(), &entropy)?;
            return Ok(Self {
                directory: compiled.directory,
                store: None,
                now,
            });
        }
        let (_, master_key) = store::master_key(&config)?;
        let (runtime, opened) = store::opened(&config, Some(&master_key))?;
        let directory = runtime.block_on(server::load_store(&opened, &Arc::new(master_key)))?;
        Ok(Self {
            directory,
            store: Some((runtime, opened)),
            now,
        })
    }

    /// Finds an entry in the form in which it was declared.
    fn entry(&self, kind: ResourceKind, id: &str) -> Result<Option<Resource>, Failure> {
        let Some((runtime, store)) = &self.store else {
            let declared = self.directory.declared();
            let mut entries = declared.iter().flat_map(|entries| entries.values());
            return Ok(entries
                .find(|e| e.kind() == kind && e.name().id == id)
                .cloned());
        };
        let rows = runtime.block_on(store.get_all(kind, vec![id.to_owned()]))?;
        let row = rows.into_iter().next();
        Ok(row
            .map(|(_, row)| Resource::parse(kind, &row.body))
            .transpose()?)
    }

    /// Finds the ARN of a user or role by its ARN, or by its name if only one has it.
    pub fn find(&self, field: &str, text: &str, kinds: &[&str]) -> Result<String, Failure> {
        let users = self.directory.users().map(|user| &*user.arn);
        let roles = self.directory.roles().map(|role| &*role.arn);
        let all = users
            .chain(roles)
            .filter(|arn| IamArn::parse(arn).is_some_and(|arn| kinds.contains(&arn.kind)));
        let is_it = |arn: &&str| *arn == text || name_of(arn).eq_ignore_ascii_case(text);
        let mut found: Vec<&str> = all.filter(is_it).collect();
        // A name as it is written is meant before one that differs in case.
        if found.iter().any(|arn| name_of(arn) == text) {
            found.retain(|arn| name_of(arn) == text);
        }
        found.sort_unstable();
        match found.as_slice() {
            [arn] => Ok((*arn).to_owned()),
            [] => Err(format!(
                "{field}: there is no {} `{text}` in the directory",
                kinds.join(" or ")
            )
            .into()),
            several => Err(format!(
                "{field}: `{text}` is ambiguous, since it names {}; use the ARN",
                several.join(" and ")
            )
            .into()),
        }
    }

    /// The names of a principal's policies, in the order in which the directory has them: its own, the one by which
    /// `AllowUsersToChangePassword` lets users change their passwords, and then those of each group.
    pub fn policy_names(&self, arn: &str) -> Result<Vec<String>, Failure> {
        let mut names = Vec::new();
        let user = self.entry(ResourceKind::User, arn)?;
        let entry = match user {
            Some(user) => Some(user),
            None => self.entry(ResourceKind::Role, arn)?,
        };
        match entry {
            Some(Resource::User(user)) => {
                let holder = format!("user {}", user.user_name);
                let attached = &user.attached_managed_policies;
                add_names(&mut names, &holder, &user.user_policy_list, attached);
                let account = AccountId::parse(account_of(arn));
                let policy = account.map(|account| self.directory.password_policy(account));
                if policy.is_some_and(|policy| policy.allow_users_to_change) {
                    names.push("policy of AllowUsersToChangePassword".to_owned());
                }
                for name in &user.group_list {
                    names.extend(self.group_policy_names(arn, name)?);
                }
            }
            Some(Resource::Role(role)) => {
                let holder = format!("role {}", role.role_name);
                let attached = &role.attached_managed_policies;
                add_names(&mut names, &holder, &role.role_policy_list, attached);
            }
            _ => {}
        }
        Ok(names)
    }

    /// The names of the policies of a user's group.
    fn group_policy_names(&self, user: &str, name: &str) -> Result<Vec<String>, Failure> {
        let mut names = Vec::new();
        let group = AccountId::parse(account_of(user))
            .and_then(|account| self.directory.group_named(account, name));
        let entry = match group {
            Some(group) => self.entry(ResourceKind::Group, &group.arn)?,
            None => None,
        };
        if let Some(Resource::Group(group)) = entry {
            let holder = format!("group {}", group.group_name);
            let attached = &group.attached_managed_policies;
            add_names(&mut names, &holder, &group.group_policy_list, attached);
        }
        Ok(names)
    }
}

fn add_names(
    names: &mut Vec<String>,
    holder: &str,
    inline: &[InlinePolicy],
    attached: &[Attached],
) {
    let inline = inline
        .iter()
        .map(|policy| format!("policy {} of {holder}", policy.policy_name));
    names.extend(inline);
    let attached = attached
        .iter()
        .map(|policy| format!("policy {} of {holder}", policy.policy_arn));
    names.extend(attached);
}
