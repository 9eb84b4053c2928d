//! Accounts, which are known by declaration or because something declared belongs to them.

use std::sync::Arc;

use crate::base::arn::AccountId;
use crate::base::entropy::NoEntropy;
use crate::directory::declared::{Declared, Defaults, Insertion, Source, keep};
use crate::directory::limits::Limits;
use crate::directory::shape::shape;
use crate::directory::{Directory, DirectoryError, fault};

shape! {
    /// An account; the alias is optional and unique among all accounts.
    Account {
        account_id: String,
        account_alias: Option<String>,
    }
}

impl Declared for Account {
    fn id(&self) -> &str {
        &self.account_id
    }

    /// Account aliases are unique among all accounts.
    fn folded(&self) -> String {
        let alias = self.account_alias.as_ref();
        alias.map_or_else(|| self.account_id.clone(), |a| a.to_ascii_lowercase())
    }

    fn account(&self) -> &str {
        &self.account_id
    }

    fn fill(&mut self, _: &Defaults<'_>) -> Result<(), NoEntropy> {
        Ok(())
    }

    /// An account that is only mentioned keeps its alias.
    fn keep_what_is_left_out(&mut self, old: &Self) {
        keep(&mut self.account_alias, &old.account_alias);
    }

    fn check(&self, limits: &mut Limits<'_>) {
        if AccountId::parse(&self.account_id).is_none() {
            limits.invalid("AccountId must be twelve digits");
        }
        let legal = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
        let is_alias = |alias: &str| {
            (3..=63).contains(&alias.len())
                && alias.bytes().all(legal)
                && !alias.starts_with('-')
                && !alias.ends_with('-')
        };
        if self.account_alias.as_deref().is_some_and(|a| !is_alias(a)) {
            limits.invalid("AccountAlias must be 3 to 63 characters of a-z, 0-9 and hyphens, and must not begin or end with a hyphen");
        }
    }

    fn insert(&self, directory: &mut Directory, how: &Insertion<'_>) -> Result<(), DirectoryError> {
        let Some(account) = AccountId::parse(&self.account_id) else {
            return Err(fault(how.place, "AccountId must be twelve digits"));
        };
        // The snapshot of a command or import exists only to check one resource.
        if !matches!(how.source, Source::Declared) {
            Arc::make_mut(&mut directory.accounts).insert(account);
        }
        Ok(())
    }

    fn remove(directory: &mut Directory, id: &str) {
        let known = AccountId::parse(id).filter(|account| directory.accounts.contains(account));
        if let Some(account) = known {
            Arc::make_mut(&mut directory.accounts).remove(&account);
        }
    }
}
