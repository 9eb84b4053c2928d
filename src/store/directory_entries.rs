//! Records the entries that a directory file had when a broker last read it, with the unique ids that were generated
//! for them.
//!
//! This way an entry keeps its unique id, and the next start notices an entry that was removed while no broker was
//! running. The reader of the file decides which entries are new or were removed.

mod changing;

use std::collections::{BTreeMap, HashMap};

use serde::Deserialize;
use sqlx::AnyConnection;
use sqlx::Row as _;
use sqlx::any::AnyRow;

use super::classify::classify;
use super::integrity::{self, Contents, Row, Set, Term};
use super::lanes::Purpose;
use super::nodes::SILENT_AFTER_SECONDS;
use super::writer::Writer;
use super::{BoxFuture, DEADLINE, Engine, SCAN_DEADLINE, Store, StoreError, clip, kind, salvage};
use crate::directory::resource::Name;

/// The kind of a change in the feed that records which entries of the directory file are new or were removed.
pub const DIRECTORY_ENTRIES: &str = "directory-entries";
/// The maximum number of wrong rows that a message names.
const MAX_NAMED: usize = 20;

#[derive(Debug, Default)]
pub struct DirectoryEntries(BTreeMap<Name, Kept>);

#[derive(Debug, PartialEq, Eq)]
struct Kept {
    identity: String,
    version: i64,
    term: Term,
}

impl DirectoryEntries {
    /// The recorded identity of an entry, which distinguishes the entry from a later one of the same name: its unique
    /// id, or for an access key the ARN of its user. Kinds of entries that have neither have an empty identity. `None`
    /// if the entry is not recorded.
    pub fn identity(&self, name: &Name) -> Option<&str> {
        self.0.get(name).map(|kept| kept.identity.as_str())
    }

    /// The name and the identity of each entry, ordered by name.
    pub fn iter(&self) -> impl Iterator<Item = (&Name, &str)> {
        self.0
            .iter()
            .map(|(name, kept)| (name, kept.identity.as_str()))
    }

    /// Whether there are no recorded entries, for example because no broker has served a directory file on this store
    /// yet.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether both have the same rows, with the same versions and MACs.
    pub fn is_same(&self, other: &Self) -> bool {
        self.0 == other.0
    }
}

/// A row of the table `directory_entries` whose MAC was not checked yet.
struct EntryRow {
    kind: String,
    id: String,
    identity: String,
    version: i64,
    mac: String,
}

impl EntryRow {
    /// Reads `kind, id, identity, version, mac`.
    fn of(row: &AnyRow) -> Result<Self, sqlx::Error> {
        Ok(Self {
            kind: row.try_get(0)?,
            id: row.try_get(1)?,
            identity: row.try_get(2)?,
            version: row.try_get(3)?,
            mac: row.try_get(4)?,
        })
    }

    fn columns(&self) -> integrity::DirectoryEntry<'_> {
        integrity::DirectoryEntry {
            kind: &self.kind,
            id: &self.id,
            identity: &self.identity,
            version: self.version,
        }
    }
}

async fn rows(engine: Engine, connection: &mut AnyConnection) -> Result<Vec<EntryRow>, StoreError> {
    let sql = "SELECT kind, id, identity, version, mac FROM directory_entries";
    let rows = sqlx::query(sql).fetch_all(&mut *connection).await;
    let rows = rows.and_then(|rows| rows.iter().map(EntryRow::of).collect());
    match rows.map_err(classify) {
        Err(error) => Err(salvage::named(engine, connection, error).await),
        rows => rows,
    }
}

/// Calls `each` for every row of the table, with the MAC of the row.
pub(super) async fn look(
    engine: Engine,
    connection: &mut AnyConnection,
    mut each: impl FnMut(&Row<'_>, &str),
) -> Result<(), StoreError> {
    for row in rows(engine, connection).await? {
        each(&Row::DirectoryEntry(row.columns()), &row.mac);
    }
    Ok(())
}

/// Describes how the sum or the number of the rows differs from the sealed one; `None` if they are equal.
pub(super) fn differs(found: &Contents, expected: &Contents) -> Option<String> {
    let set = Set::DirectoryEntries;
    let (found, expected) = (found.sum(set), expected.sum(set));
    (found != expected)
        .then(|| super::scan::differing("that are directory entries", found.count, expected.count))
}

/// Describes how the rows differ from the sealed sum; empty if they do not. Names the wrong rows as far as the changes
/// in the feed show them.
pub(super) async fn differing(
    engine: Engine,
    connection: &mut AnyConnection,
    found: &Contents,
    expected: &Contents,
) -> Result<Vec<String>, StoreError> {
    let Some(differs) = differs(found, expected) else {
        return Ok(Vec::new());
    };
    let mut named = missing(engine, connection).await?;
    named.push(differs);
    Ok(named)
}

/// The detail of a change in the feed, which lists entries that are new or were removed.
#[derive(Deserialize)]
struct Said {
    /// The kind, the id and the identity; an identity of `None` means that the entry was removed.
    #[serde(rename = "Entries", default)]
    entries: Vec<(String, String, Option<String>)>,
}

/// Compares the rows with the changes in the feed. Names wrong rows: rows that are missing, occur twice or have an
/// earlier version, and rows that a change has deleted but that exist.
async fn missing(
    engine: Engine,
    connection: &mut AnyConnection,
) -> Result<Vec<String>, StoreError> {
    let mut there = HashMap::<(String, String), (i64, usize)>::new();
    for row in rows(engine, &mut *connection).await? {
        let place = there.entry((row.kind, row.id)).or_default();
        *place = (row.version, place.1 + 1);
    }
    let changes =
        sqlx::query("SELECT sequence, detail FROM changes WHERE kind = $1 ORDER BY sequence")
            .bind(DIRECTORY_ENTRIES)
            .fetch_all(connection)
            .await
            .map_err(classify)?;
    let mut last = BTreeMap::<(String, String), (i64, bool)>::new();
    for row in &changes {
        let sequence: i64 = row.try_get(0).map_err(classify)?;
        let detail: &str = row.try_get(1).map_err(classify)?;
        let said = serde_json::from_str::<Said>(detail).map(|said| said.entries);
        for (kind, id, identity) in said.unwrap_or_default() {
            last.insert((kind, id), (sequence, identity.is_some()));
        }
    }
    let mut named = Vec::new();
    for ((kind, id), (change, is_kept)) in &last {
        let name = format!("directory entry {} {}", clip(kind), clip(id));
        named.extend(match (there.get(&(kind.clone(), id.clone())), is_kept) {
            (None, true) => Some(format!(
                "{name} is missing, although change {change} wrote it"
            )),
            (Some(_), false) => Some(format!(
                "{name} exists, although change {change} deleted it"
            )),
            (Some((version, _)), true) if version != change => Some(format!(
                "{name} has the content of change {version}, although change {change} changed it later"
            )),
            _ => None,
        });
    }
    for ((kind, id), (_, count)) in &there {
        if *count > 1 {
            let (kind, id) = (clip(kind), clip(id));
            named.push(format!("directory entry {kind} {id} occurs twice"));
        }
    }
    named.truncate(MAX_NAMED);
    Ok(named)
}

impl Store {
    /// Reads the recorded entries.
    ///
    /// # Errors
    /// An error of the database, such as [`StoreError::Unavailable`] if it does not answer in time, and
    /// [`StoreError::Tampered`] if the rows are not those that brokers wrote.
    pub async fn directory_entries(&self) -> Result<DirectoryEntries, StoreError> {
        let mut moment = self.moment().await?;
        let until = moment.until();
        let connection = moment.connection()?;
        let work = async {
            let (_, contents) = self.checked_head(&mut *connection).await?;
            let rows = rows(self.engine, &mut *connection)
                .await
                .map_err(|error| self.noted(error))?;
            let (entries, found) = self.checked_entries(rows)?;
            let differing = differing(self.engine, &mut *connection, &found, &contents).await?;
            match differing.is_empty() {
                true => Ok(entries),
                false => Err(self.tampered(differing.join("; "))),
            }
        };
        let entries = until.reached_by(work).await?;
        moment.end().await?;
        Ok(entries)
    }

    fn checked_entries(
        &self,
        rows: Vec<EntryRow>,
    ) -> Result<(DirectoryEntries, Contents), StoreError> {
        let mut found = Contents::empty(0);
        let mut entries = BTreeMap::new();
        for row in rows {
            let term = self.check(&Row::DirectoryEntry(row.columns()), &row.mac)?;
            found.add(Set::DirectoryEntries, term);
            let kept = Kept {
                identity: row.identity,
                version: row.version,
                term,
            };
            entries.insert(Name::new(kind(&row.kind)?, row.id), kept);
        }
        Ok((DirectoryEntries(entries), found))
    }

    /// Whether another connected broker serves a directory file whose digest differs from `digest`. `node` is the id of
    /// the calling broker.
    ///
    /// # Errors
    /// An error of the database, such as [`StoreError::Unavailable`] if it does not answer in time.
    pub async fn has_other_directories(
        &self,
        node: &str,
        digest: &str,
    ) -> Result<bool, StoreError> {
        if !self.is_shared() {
            return Ok(false);
        }
        let (node, digest) = (node.to_owned(), digest.to_owned());
        self.read(Purpose::Background, DEADLINE, move |c| {
            others(c, node.clone(), digest.clone())
        })
        .await
    }
}

fn others(
    connection: &mut AnyConnection,
    node: String,
    digest: String,
) -> BoxFuture<'_, Result<bool, sqlx::Error>> {
    Box::pin(async move {
        let row = sqlx::query(
            "SELECT COUNT(*) FROM nodes WHERE node <> $1 AND directory <> '' AND directory <> $2 \
             AND seen_at >= CAST(EXTRACT(EPOCH FROM now()) AS BIGINT) - $3",
        )
        .bind(node)
        .bind(digest)
        .bind(SILENT_AFTER_SECONDS)
        .fetch_one(connection)
        .await?;
        Ok(row.try_get::<i64, _>(0)? > 0)
    })
}

impl Writer<'_> {
    /// Reads the recorded entries within this transaction.
    ///
    /// # Errors
    /// An error of the database, such as [`StoreError::Unavailable`] if it does not answer in time, and
    /// [`StoreError::Tampered`] if the rows are not those that brokers wrote.
    pub async fn directory_entries(&mut self) -> Result<DirectoryEntries, StoreError> {
        let engine = self.store.engine;
        let rows = self.ask_for(SCAN_DEADLINE, move |c| {
            Box::pin(async move { Ok(rows(engine, c).await) })
        });
        let rows = rows.await?.map_err(|error| self.store.noted(error))?;
        let (entries, found) = self.store.checked_entries(rows)?;
        let expected = self.contents.clone();
        let differing = self
            .ask_for(SCAN_DEADLINE, move |c| {
                Box::pin(async move { Ok(differing(engine, c, &found, &expected).await) })
            })
            .await??;
        match differing.is_empty() {
            true => Ok(entries),
            false => Err(self.store.tampered(differing.join("; "))),
        }
    }

    /// Records in the list of nodes which directory file this broker serves. If the broker has not reported yet, this
    /// adds it to the list. An entry without reports soon counts as silent.
    ///
    /// # Errors
    /// An error of the database, such as [`StoreError::Unavailable`] if it does not answer in time.
    pub async fn serves_directory(
        &mut self,
        node: &str,
        host: &str,
        digest: &str,
    ) -> Result<(), StoreError> {
        if !self.store.is_shared() {
            return Ok(());
        }
        let (node, host, digest) = (node.to_owned(), host.to_owned(), digest.to_owned());
        let confirmed = self.sequence();
        self.ask(move |c| {
            Box::pin(async move {
                sqlx::query(
                    "INSERT INTO nodes (node, host, confirmed, refuse_after, directory, seen_at) \
                     VALUES ($1, $2, $3, 0, $4, CAST(EXTRACT(EPOCH FROM now()) AS BIGINT)) \
                     ON CONFLICT (node) DO UPDATE SET directory = excluded.directory",
                )
                .bind(node)
                .bind(host)
                .bind(confirmed)
                .bind(digest)
                .execute(c)
                .await
            })
        })
        .await
        .map(|_| ())
    }

    /// Does the same as [`Store::has_other_directories`] within this transaction.
    ///
    /// # Errors
    /// An error of the database, such as [`StoreError::Unavailable`] if it does not answer in time.
    pub async fn has_other_directories(
        &mut self,
        node: &str,
        digest: &str,
    ) -> Result<bool, StoreError> {
        if !self.store.is_shared() {
            return Ok(false);
        }
        let (node, digest) = (node.to_owned(), digest.to_owned());
        self.ask(move |c| others(c, node, digest)).await
    }
}
