//! Finds the roles whose trust policies can allow a principal, in the order of account and name. The index finds the
//! roles that a person may assume among very many others, without evaluating each trust policy. Callers must still
//! evaluate the trust policies of the roles that are found.

use std::cmp::Ordering;
use std::sync::Arc;

use super::kinds::Role;
use super::table::{Keyed, Table};
use crate::base::arn::AccountId;
use crate::evaluator::AllowedPrincipal;

/// The maximum number of roles in a chunk of a list. If a copy of a list is changed, only one chunk
/// is duplicated.
const CHUNK: usize = 512;

/// An index of the roles by each principal that their trust policies name.
#[derive(Clone, Default)]
pub(super) struct Trusting(Table<Trusted>);

/// The roles whose trust policies name one principal.
#[derive(Clone)]
struct Trusted {
    key: Box<str>,
    roles: Sorted,
}

impl Keyed for Trusted {
    fn key(&self) -> &str {
        &self.key
    }
}

impl Trusting {
    /// Adds a role under each principal that its trust policy names.
    pub(super) fn put(&mut self, role: &Arc<Role>) {
        for key in keys(role) {
            let known = self.0.remove(&key);
            let mut trusted = known.map_or_else(
                || Trusted {
                    key: key.clone(),
                    roles: Sorted::default(),
                },
                Arc::unwrap_or_clone,
            );
            trusted.roles.put(role.clone());
            self.0.put(trusted);
        }
    }

    /// Removes a role from each principal that its trust policy names.
    pub(super) fn remove(&mut self, role: &Role) {
        for key in keys(role) {
            let Some(trusted) = self.0.remove(&key) else {
                continue;
            };
            let mut trusted = Arc::unwrap_or_clone(trusted);
            trusted.roles.remove(role);
            if !trusted.roles.chunks.is_empty() {
                self.0.put(trusted);
            }
        }
    }

    /// The accounts with a role that can allow one of these principals, ordered by id.
    pub(super) fn accounts(&self, principals: &[AllowedPrincipal<'_>]) -> Vec<AccountId> {
        let mut accounts = Vec::new();
        for list in self.lists(principals) {
            let mut next = list.from(None);
            while let Some(role) = next {
                accounts.push(role.account);
                next = list.from(Some(&Place::AfterAccount(role.account)));
            }
        }
        accounts.sort_unstable();
        accounts.dedup();
        accounts
    }

    /// At most `limit` roles of an account that can allow one of these principals, in the order of
    /// their names without regard to case. If the name of a role is given, the list begins after
    /// it.
    pub(super) fn of_account(
        &self,
        principals: &[AllowedPrincipal<'_>],
        account: AccountId,
        after: Option<&str>,
        limit: usize,
    ) -> Vec<Arc<Role>> {
        let start = match after {
            Some(name) => Place::AfterName(account, name),
            None => Place::AtAccount(account),
        };
        let mut found: Vec<Arc<Role>> = Vec::new();
        for list in self.lists(principals) {
            let roles = list.iter_from(&start);
            found.extend(
                roles
                    .take_while(|role| role.account == account)
                    .take(limit)
                    .cloned(),
            );
        }
        found.sort_by(|a, b| compare(a, (b.account, &b.name)));
        found.dedup_by(|a, b| Arc::ptr_eq(a, b));
        found.truncate(limit);
        found
    }

    fn lists(&self, principals: &[AllowedPrincipal<'_>]) -> impl Iterator<Item = &Sorted> {
        principals
            .iter()
            .filter_map(|principal| self.0.get(&key(*principal)))
            .map(|trusted| &trusted.roles)
    }
}

/// The keys under which a role is found, without duplicates.
fn keys(role: &Role) -> Vec<Box<str>> {
    let mut keys: Vec<Box<str>> = role.trust.allowed_principals().map(key).collect();
    keys.sort_unstable();
    keys.dedup();
    keys
}

fn key(principal: AllowedPrincipal<'_>) -> Box<str> {
    match principal {
        AllowedPrincipal::Everybody => "*".into(),
        AllowedPrincipal::Account(id) => id.into(),
        AllowedPrincipal::User(name) | AllowedPrincipal::Provider(name) => name.into(),
    }
}

/// Roles in the order of account and name, in chunks. A changed copy shares all chunks but one.
#[derive(Clone, Default)]
struct Sorted {
    chunks: Vec<Arc<Vec<Arc<Role>>>>,
}

/// A place in the order of account and name, at which a list begins.
enum Place<'a> {
    AtAccount(AccountId),
    AfterAccount(AccountId),
    AfterName(AccountId, &'a str),
}

impl Place<'_> {
    /// Whether this place comes after the role in the order, so that a list which begins here leaves the role out.
    fn is_after(&self, role: &Role) -> bool {
        match self {
            Self::AtAccount(account) => role.account < *account,
            Self::AfterAccount(account) => role.account <= *account,
            Self::AfterName(account, name) => compare(role, (*account, name)) != Ordering::Greater,
        }
    }
}

/// Compares a role with an account and a name, without regard to case.
fn compare(role: &Role, (account, name): (AccountId, &str)) -> Ordering {
    let lower = |byte: u8| byte.to_ascii_lowercase();
    let names = || role.name.bytes().map(lower).cmp(name.bytes().map(lower));
    role.account.cmp(&account).then_with(names)
}

impl Sorted {
    fn put(&mut self, role: Arc<Role>) {
        let wanted = (role.account, &*role.name);
        let at = self.chunk_of(wanted);
        let Some(shared) = self.chunks.get_mut(at) else {
            self.chunks.push(Arc::new(vec![role]));
            return;
        };
        let chunk = Arc::make_mut(shared);
        match chunk.binary_search_by(|there| compare(there, wanted)) {
            Ok(place) => {
                if let Some(there) = chunk.get_mut(place) {
                    *there = role;
                }
            }
            Err(place) => {
                chunk.insert(place, role);
                if chunk.len() > CHUNK {
                    let rest = chunk.split_off(CHUNK / 2);
                    self.chunks.insert(at + 1, Arc::new(rest));
                }
            }
        }
    }

    fn remove(&mut self, role: &Role) {
        let wanted = (role.account, &*role.name);
        let at = self.chunk_of(wanted);
        let Some(shared) = self.chunks.get_mut(at) else {
            return;
        };
        let Ok(place) = shared.binary_search_by(|there| compare(there, wanted)) else {
            return;
        };
        let chunk = Arc::make_mut(shared);
        chunk.remove(place);
        if chunk.is_empty() {
            self.chunks.remove(at);
        }
    }

    /// The index of the chunk to which a role belongs: the last chunk that does not begin after the
    /// role.
    fn chunk_of(&self, wanted: (AccountId, &str)) -> usize {
        let begins_before = |chunk: &Arc<Vec<Arc<Role>>>| {
            chunk
                .first()
                .is_some_and(|first| compare(first, wanted) != Ordering::Greater)
        };
        self.chunks.partition_point(begins_before).saturating_sub(1)
    }

    /// The first role that is not before `place`; without a place, the first of all.
    fn from(&self, place: Option<&Place<'_>>) -> Option<&Arc<Role>> {
        match place {
            None => self.chunks.first()?.first(),
            Some(place) => self.iter_from(place).next(),
        }
    }

    /// The roles that are not before a place, in order.
    fn iter_from(&self, place: &Place<'_>) -> impl Iterator<Item = &Arc<Role>> {
        let at = self
            .chunks
            .partition_point(|chunk| chunk.last().is_some_and(|last| place.is_after(last)));
        let chunks = self.chunks.get(at..).unwrap_or_default();
        let skipped = chunks.first().map_or(0, |first| {
            first.partition_point(|role| place.is_after(role))
        });
        chunks.iter().flat_map(|chunk| chunk.iter()).skip(skipped)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::directory::Directory;

    fn directory(roles: impl Iterator<Item = (String, String, String)>) -> Directory {
        let roles: Vec<_> = roles
            .enumerate()
            .map(|(n, (account, name, principal))| {
                serde_json::json!({"Path": "/", "RoleName": name, "RoleId": format!("AROA{n:016}"),
                    "Arn": format!("arn:aws:iam::{account}:role/{name}"),
                    "AssumeRolePolicyDocument": {"Version": "2012-10-17", "Statement": [
                        {"Effect": "Allow", "Principal": serde_json::from_str::<serde_json::Value>(&principal).unwrap(),
                         "Action": "sts:AssumeRole"}]}})
            })
            .collect();
        let text = serde_json::json!({"RoleDetailList": roles}).to_string();
        Directory::compile(text.as_bytes(), None).unwrap()
    }

    #[test]
    fn roles_are_found_by_whom_they_trust_in_the_order_of_their_names() {
        const ONE: &str = "111122223333";
        const TWO: &str = "444455556666";
        let root = format!(r#"{{"AWS":"{ONE}"}}"#);
        let other = format!(r#"{{"AWS":"{TWO}"}}"#);
        // More than fit in a chunk, added in no particular order.
        let many = (0..2_000).map(|n| {
            let n = n * 7 % 2_000;
            (
                ONE.to_owned(),
                format!("Role{n:04}"),
                if n % 2 == 0 {
                    root.clone()
                } else {
                    other.clone()
                },
            )
        });
        let foreign = std::iter::once((TWO.to_owned(), "far".to_owned(), root.clone()));
        let mut directory = directory(many.chain(foreign));
        let one = AccountId::parse(ONE).unwrap();
        let principals = [
            AllowedPrincipal::Account(ONE),
            AllowedPrincipal::User("AIDANOBODYNOBODY"),
        ];
        assert_eq!(
            directory.accounts_trusting(&principals),
            [one, AccountId::parse(TWO).unwrap()]
        );
        let mut names = Vec::new();
        loop {
            let after = names.last().map(String::as_str);
            let page = directory.roles_trusting(&principals, one, after, 300);
            if page.is_empty() {
                break;
            }
            names.extend(page.iter().map(|role| role.name.to_string()));
        }
        let expected: Vec<_> = (0..1_000).map(|n| format!("Role{:04}", n * 2)).collect();
        assert_eq!(names, expected);
        let copy = directory.clone();
        directory.remove(&crate::directory::resource::Name::new(
            crate::directory::resource::ResourceKind::Role,
            format!("arn:aws:iam::{ONE}:role/Role0002"),
        ));
        let first = |d: &Directory| {
            d.roles_trusting(&principals, one, Some("ROLE0000"), 1)[0]
                .name
                .to_string()
        };
        assert_eq!(
            (first(&directory), first(&copy)),
            ("Role0004".to_owned(), "Role0002".to_owned())
        );
        assert!(
            directory
                .roles_trusting(&[AllowedPrincipal::Everybody], one, None, 9)
                .is_empty()
        );
    }
}
