//! Refuses a change that would leave the directory without an administrator.
//!
//! The store remembers one administrator and the rows that make it one. A transaction that changes none of these rows
//! and no organization needs no check. After any other transaction, the remembered administrator is checked again. If
//! it is no longer an administrator, the guard searches for another one.

use std::collections::HashSet;
use std::sync::Arc;

use super::{CommandContext, CommandError, read, refused};
use crate::administrators::{administrators, is_administrator};
use crate::directory::resource::{Name, Resource, ResourceKind};
use crate::directory::{Administrator, Directory};
use crate::store::{KnownAdministrator, StoreError, Writer};

/// The maximum number of access keys and other rows of a user that are read to see whether it is an administrator.
const MAX_ROWS: i64 = 100;
/// The maximum number of changed rows of a transaction that are taken into account in the search for another
/// administrator.
const MAX_TOUCHED: usize = 10_000;

/// Guards one transaction. It knows an administrator from before the transaction, unless none was found.
pub(super) struct Guard<'d> {
    /// The directory in which other administrators are searched for.
    directory: &'d Directory,
    known: Option<Known>,
}

struct Known {
    who: Administrator,
    depends_on: Arc<HashSet<Name>>,
}

impl<'d> Guard<'d> {
    /// Finds an administrator by the rows as they are at the beginning of a transaction. Candidates come
    /// from `directory`, which may be slightly older.
    ///
    /// # Errors
    /// [`CommandError::Store`] if an operation of the store fails or a row cannot be read.
    pub async fn begin(
        cx: CommandContext<'_>,
        writer: &mut Writer<'_>,
        directory: &'d Directory,
    ) -> Result<Self, CommandError> {
        let mut guard = Self {
            directory,
            known: None,
        };
        let known = cx.store.known_administrator();
        if let Some(KnownAdministrator {
            who,
            depends_on,
            at,
        }) = known
        {
            if at == writer.sequence() {
                guard.known = Some(Known { who, depends_on });
                return Ok(guard);
            }
            guard.known = verified(cx, writer, who).await?;
        }
        if guard.known.is_none() && cx.store.may_look_for_administrators(cx.now) {
            guard.known = another(cx, writer, administrators(directory, cx.now)).await?;
            if guard.known.is_none() {
                cx.store.found_no_administrator(cx.now);
            }
        }
        Ok(guard)
    }

    /// Checks that the directory still has an administrator with the rows as the transaction leaves them.
    ///
    /// # Errors
    /// [`CommandError::LastAdministrator`] if it has none, although it had one before the transaction;
    /// [`CommandError::Store`] if an operation of the store fails or a row cannot be read.
    pub async fn end(
        &mut self,
        cx: CommandContext<'_>,
        writer: &mut Writer<'_>,
    ) -> Result<(), CommandError> {
        let Some(known) = &self.known else {
            return Ok(());
        };
        let is_concerned = |name: &Name| {
            name.kind == ResourceKind::Organization || known.depends_on.contains(name)
        };
        if !writer.touched().any(is_concerned) {
            return Ok(());
        }
        let mut found = verified(cx, writer, known.who.clone()).await?;
        if found.is_none() {
            let after = after(cx, writer, self.directory).await?;
            found = another(cx, writer, administrators(&after, cx.now)).await?;
        }
        match found {
            Some(found) => {
                self.known = Some(found);
                Ok(())
            }
            None => Err(CommandError::LastAdministrator),
        }
    }

    /// Makes the store remember the administrator. The caller must have committed the transaction as change `sequence`.
    pub fn committed(self, cx: CommandContext<'_>, sequence: i64) {
        if let Some(Known { who, depends_on }) = self.known {
            cx.store.remember_administrator(KnownAdministrator {
                who,
                depends_on,
                at: sequence,
            });
        }
    }
}

/// Returns the directory `before` with the rows that the transaction has changed so far.
async fn after(
    cx: CommandContext<'_>,
    writer: &mut Writer<'_>,
    before: &Directory,
) -> Result<Directory, CommandError> {
    let mut touched: Vec<Name> = writer.touched().take(MAX_TOUCHED).cloned().collect();
    touched.sort();
    let mut directory = before.clone();
    for name in touched {
        directory.remove(&name);
        if let Some(stored) = writer.get(&name).await? {
            // A row that does not compile is in no broker's directory either.
            let _ = directory.insert_stored(&read(&name, &stored.body)?, Some(cx.master_key));
        }
    }
    Ok(directory)
}

/// Compiles the whole directory of the store, in which [`Guard`] searches for administrators.
///
/// # Errors
/// [`CommandError`] if an operation of the store fails, or a row cannot be read or compiled.
pub(super) async fn load(cx: CommandContext<'_>) -> Result<Directory, CommandError> {
    let mut directory = Directory::empty().map_err(refused)?;
    let rows = cx.store.scan::<StoreError>(|kind, id, _, body| {
        let wrong = |why: String| StoreError::Row(format!("{kind} {id}: {why}"));
        let row = Resource::parse(kind, body).map_err(|e| wrong(e.to_string()))?;
        let inserted = directory.insert_stored(&row, Some(cx.master_key));
        inserted.map_err(|e| wrong(e.to_string()))
    });
    rows.await?;
    Ok(directory)
}

/// Finds the first candidate that is an administrator according to the rows in the transaction.
async fn another(
    cx: CommandContext<'_>,
    writer: &mut Writer<'_>,
    candidates: impl Iterator<Item = Administrator>,
) -> Result<Option<Known>, CommandError> {
    for who in candidates {
        if let Some(known) = verified(cx, writer, who).await? {
            return Ok(Some(known));
        }
    }
    Ok(None)
}

/// Checks whether `who` is an administrator according to the rows in the transaction. Returns `None` if not.
async fn verified(
    cx: CommandContext<'_>,
    writer: &mut Writer<'_>,
    who: Administrator,
) -> Result<Option<Known>, CommandError> {
    let mut rows = Rows::default();
    let (user, role, provider) = match &who {
        Administrator::User(user) => (Some(user), None, None),
        Administrator::RoleOfUser(role, user) => (Some(user), Some(role), None),
        Administrator::RoleOfProvider(role, provider) => (None, Some(role), Some(provider)),
    };
    if let Some(organization) = writer
        .find(ResourceKind::Organization, "organization")
        .await?
    {
        rows.add(writer, Name::new(ResourceKind::Organization, organization))
            .await?;
    }
    if let Some(provider) = provider {
        for kind in [ResourceKind::OidcProvider, ResourceKind::SamlProvider] {
            rows.add(writer, Name::new(kind, provider.as_str())).await?;
        }
    }
    if let Some(role) = role {
        rows.add(writer, Name::new(ResourceKind::Role, role.as_str()))
            .await?;
    }
    if let Some(user) = user {
        rows.add(writer, Name::new(ResourceKind::User, user.as_str()))
            .await?;
        for owned in writer
            .referrers(ResourceKind::User, user, user, MAX_ROWS)
            .await?
        {
            rows.add(writer, owned).await?;
        }
    }
    let mut directory = Directory::empty().map_err(refused)?;
    // Each kind after those to which it refers.
    rows.found.sort_by_key(Resource::kind);
    for row in &rows.found {
        // A row that does not compile is in no broker's directory either.
        if directory.insert_stored(row, Some(cx.master_key)).is_err() {
            return Ok(None);
        }
    }
    let depends_on = Arc::new(rows.names);
    Ok(is_administrator(&directory, &who, cx.now).then_some(Known { who, depends_on }))
}

/// Rows of the store, together with the rows to which they refer, directly or through others.
#[derive(Default)]
struct Rows {
    names: HashSet<Name>,
    found: Vec<Resource>,
}

impl Rows {
    async fn add(&mut self, writer: &mut Writer<'_>, name: Name) -> Result<(), CommandError> {
        let mut names = vec![name];
        while let Some(name) = names.pop() {
            // Access keys and MFA devices refer to their user, who is there already.
            if !self.names.insert(name.clone()) {
                continue;
            }
            let Some(stored) = writer.get(&name).await? else {
                continue;
            };
            let row = read(&name, &stored.body)?;
            for link in row.links() {
                match link.kind {
                    ResourceKind::Group | ResourceKind::Role => {
                        let found = writer.find(link.kind, &link.id).await?;
                        names.extend(found.map(|id| Name::new(link.kind, id)));
                    }
                    _ => names.push(link),
                }
            }
            self.found.push(row);
        }
        Ok(())
    }
}
