//! What a directory that is a file had when a broker last read it, with the unique ids that were made for
//! it: so that an id is made once, and what goes from the file while no broker runs is noticed later. Which
//! entries come and go is decided by whoever reads the file.

use std::collections::{BTreeMap, HashMap};

use serde::Deserialize;
use sqlx::AnyConnection;
use sqlx::Row as _;
use sqlx::any::AnyRow;

use super::changes::PAGE;
use super::integrity::{self, Contents, Row, Set, Term};
use super::lanes::Purpose;
use super::rows::begin;
use super::writer::Writer;
use super::{
    BoxFuture, DEADLINE, SCAN_DEADLINE, SILENT_AFTER_SECONDS, Store, StoreError, clip, kind, late,
    told,
};
use crate::directory::resource::Name;

/// The kind of the changes of the feed that say which entries came and went.
pub const DIRECTORY_ENTRIES: &str = "directory-entries";
/// So many rows are written or deleted with one statement.
const BATCH: usize = 1_000;
/// How many rows are named at the most when something is wrong with more of them.
const MAX_NAMED: usize = 20;

/// All entries that are kept.
#[derive(Debug, Default)]
pub struct DirectoryEntries(BTreeMap<Name, Kept>);

#[derive(Debug, PartialEq, Eq)]
struct Kept {
    identity: String,
    version: i64,
    term: Term,
}

impl DirectoryEntries {
    /// What makes an entry the same one under the same name: its unique id; of an access key its user's
    /// ARN; empty where there is nothing like that.
    pub fn identity(&self, name: &Name) -> Option<&str> {
        self.0.get(name).map(|kept| kept.identity.as_str())
    }

    /// Each entry's name and identity, in the order of names.
    pub fn iter(&self) -> impl Iterator<Item = (&Name, &str)> {
        self.0
            .iter()
            .map(|(name, kept)| (name, kept.identity.as_str()))
    }

    /// Whether nothing is kept.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether the rows are the same ones.
    pub fn is_same(&self, other: &Self) -> bool {
        self.0 == other.0
    }
}

/// A row as the database has it.
struct EntryRow {
    kind: String,
    id: String,
    identity: String,
    version: i64,
    mac: String,
}

impl EntryRow {
    /// Of `kind, id, identity, version, mac`.
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

/// Each row, or what is wrong with it.
async fn rows(
    connection: &mut AnyConnection,
) -> Result<Vec<Result<EntryRow, String>>, sqlx::Error> {
    let rows = sqlx::query("SELECT kind, id, identity, version, mac FROM directory_entries")
        .fetch_all(connection)
        .await?;
    let entry = |row: &AnyRow| {
        EntryRow::of(row).map_err(|error| {
            let text = |at: usize| row.try_get::<&str, _>(at).map(clip).unwrap_or_default();
            format!(
                "directory entry {} {} is not as a broker wrote it ({error})",
                text(0),
                text(1)
            )
        })
    };
    Ok(rows.iter().map(entry).collect())
}

/// A row that was looked at.
pub(super) enum Looked<'a> {
    /// Its columns and its MAC.
    Row(Row<'a>, &'a str),
    /// What is wrong with it.
    Unreadable(&'a str),
}

/// Shows each row as the database has it.
pub(super) async fn look(
    connection: &mut AnyConnection,
    mut each: impl FnMut(&Looked<'_>),
) -> Result<(), StoreError> {
    for row in rows(connection).await.map_err(told)? {
        match &row {
            Ok(row) => each(&Looked::Row(Row::DirectoryEntry(row.columns()), &row.mac)),
            Err(what) => each(&Looked::Unreadable(what)),
        }
    }
    Ok(())
}

/// Whether other entries are there than belong there.
pub(super) fn differs(found: &Contents, expected: &Contents) -> Option<String> {
    let set = Set::DirectoryEntries;
    let (found, expected) = (found.sum(set), expected.sum(set));
    (found != expected)
        .then(|| super::rows::differing("that are directory entries", found.count, expected.count))
}

/// Whether other entries are there than belong there: which ones, as far as the feed goes back.
pub(super) async fn differing(
    connection: &mut AnyConnection,
    found: &Contents,
    expected: &Contents,
) -> Result<Vec<String>, StoreError> {
    let Some(differs) = differs(found, expected) else {
        return Ok(Vec::new());
    };
    let mut named = missing(connection).await?;
    named.push(differs);
    Ok(named)
}

/// What a change of the feed says of entries.
#[derive(Deserialize)]
struct Said {
    /// Kind, id, and the identity; none: it went.
    #[serde(rename = "Entries", default)]
    entries: Vec<(String, String, Option<String>)>,
}

/// The rows that are missing, from an earlier state, there again or there twice, as far as the feed tells.
async fn missing(connection: &mut AnyConnection) -> Result<Vec<String>, StoreError> {
    let mut there = HashMap::<(String, String), (i64, usize)>::new();
    for row in rows(&mut *connection)
        .await
        .map_err(told)?
        .into_iter()
        .flatten()
    {
        let place = there.entry((row.kind, row.id)).or_default();
        *place = (row.version, place.1 + 1);
    }
    let changes =
        sqlx::query("SELECT sequence, detail FROM changes WHERE kind = $1 ORDER BY sequence")
            .bind(DIRECTORY_ENTRIES)
            .fetch_all(connection)
            .await
            .map_err(told)?;
    let mut last = BTreeMap::<(String, String), (i64, bool)>::new();
    for row in &changes {
        let sequence: i64 = row.try_get(0).map_err(told)?;
        let detail: &str = row.try_get(1).map_err(told)?;
        let said = serde_json::from_str::<Said>(detail).map(|said| said.entries);
        for (kind, id, identity) in said.unwrap_or_default() {
            last.insert((kind, id), (sequence, identity.is_some()));
        }
    }
    let mut named = Vec::new();
    for ((kind, id), (change, is_kept)) in &last {
        let name = format!("directory entry {} {}", clip(kind), clip(id));
        named.extend(match (there.get(&(kind.clone(), id.clone())), is_kept) {
            (None, true) => Some(format!("{name} is missing, which change {change} wrote")),
            (Some(_), false) => Some(format!("{name} is there, which change {change} deleted")),
            (Some((version, _)), true) if version != change => Some(format!(
                "{name} is as change {version} wrote it, and change {change} wrote it last"
            )),
            _ => None,
        });
    }
    for ((kind, id), (_, count)) in &there {
        if *count > 1 {
            let (kind, id) = (clip(kind), clip(id));
            named.push(format!("directory entry {kind} {id} is there twice"));
        }
    }
    named.truncate(MAX_NAMED);
    Ok(named)
}

impl Store {
    /// The entries that are kept.
    ///
    /// # Errors
    /// Without an answer, or when they are not those that brokers wrote.
    pub async fn directory_entries(&self) -> Result<DirectoryEntries, StoreError> {
        let mut lease = self.lease(Purpose::Background).await?;
        let connection = lease.raw()?;
        let work = async {
            sqlx::raw_sql(begin(self.engine))
                .execute(&mut *connection)
                .await
                .map_err(told)?;
            let (_, contents) = self.checked_head(&mut *connection).await?;
            let rows = rows(&mut *connection).await.map_err(told)?;
            let (entries, found) = self.checked_entries(rows)?;
            let differing = differing(&mut *connection, &found, &contents).await?;
            if !differing.is_empty() {
                return Err(self.tampered(differing.join("; ")));
            }
            sqlx::raw_sql("COMMIT")
                .execute(&mut *connection)
                .await
                .map_err(told)?;
            Ok(entries)
        };
        let result = match tokio::time::timeout(SCAN_DEADLINE, work).await {
            Ok(result) => result,
            Err(_) => Err(late(SCAN_DEADLINE)),
        };
        if result.is_ok() {
            lease.finish();
        }
        result
    }

    fn checked_entries(
        &self,
        rows: Vec<Result<EntryRow, String>>,
    ) -> Result<(DirectoryEntries, Contents), StoreError> {
        let mut found = Contents::empty(0);
        let mut entries = BTreeMap::new();
        for row in rows {
            let row = row.map_err(|what| self.tampered(what))?;
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

    /// Whether a broker that was heard of lately serves a directory file with other entries than the one of
    /// this digest. `node` is the one who asks.
    ///
    /// # Errors
    /// If the database does not answer in time.
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
             AND CAST(EXTRACT(EPOCH FROM now()) AS BIGINT) - seen_at <= $3",
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
    /// The entries that are kept, as this change finds them.
    ///
    /// # Errors
    /// Without an answer, or when they are not those that brokers wrote.
    pub async fn directory_entries(&mut self) -> Result<DirectoryEntries, StoreError> {
        let rows = self.ask_for(SCAN_DEADLINE, |c| Box::pin(rows(c))).await?;
        let (entries, found) = self.store.checked_entries(rows)?;
        let expected = self.contents.clone();
        let differing = self
            .ask_for(SCAN_DEADLINE, move |c| {
                Box::pin(async move { Ok(differing(c, &found, &expected).await) })
            })
            .await??;
        match differing.is_empty() {
            true => Ok(entries),
            false => Err(self.store.tampered(differing.join("; "))),
        }
    }

    /// Says which directory file a broker serves from this change on. A broker that has not reported yet is
    /// known by it for as long as it takes to be silent.
    ///
    /// # Errors
    /// If the database does not answer in time.
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

    /// As [`Store::has_other_directories`], as this change finds it.
    ///
    /// # Errors
    /// If the database does not answer in time.
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

    /// Keeps entries with their identities from now on, as the last recorded change made them. `kept` is
    /// what [`Writer::directory_entries`] returned.
    ///
    /// # Errors
    /// If the database does not answer in time.
    pub async fn keep_directory_entries(
        &mut self,
        kept: &DirectoryEntries,
        entries: &[(&Name, &str)],
    ) -> Result<(), StoreError> {
        let version = self.sequence();
        for batch in entries.chunks(BATCH) {
            let mut rows = Vec::with_capacity(batch.len());
            for (name, identity) in batch {
                let row = integrity::DirectoryEntry {
                    kind: name.kind.as_str(),
                    id: &name.id,
                    identity,
                    version,
                };
                let (mac, term) = self.key()?.mac(&Row::DirectoryEntry(row));
                if let Some(old) = kept.0.get(*name) {
                    self.contents.take(Set::DirectoryEntries, old.term);
                }
                self.contents.add(Set::DirectoryEntries, term);
                rows.push(serde_json::json!([
                    row.kind, row.id, identity, version, mac
                ]));
            }
            self.change_entries(KEEP, rows).await?;
        }
        Ok(())
    }

    /// Forgets entries. `kept` is what [`Writer::directory_entries`] returned.
    ///
    /// # Errors
    /// If the database does not answer in time.
    pub async fn forget_directory_entries(
        &mut self,
        kept: &DirectoryEntries,
        names: &[&Name],
    ) -> Result<(), StoreError> {
        for batch in names.chunks(BATCH) {
            let mut rows = Vec::with_capacity(batch.len());
            for name in batch {
                if let Some(old) = kept.0.get(*name) {
                    self.contents.take(Set::DirectoryEntries, old.term);
                }
                rows.push(serde_json::json!([name.kind.as_str(), name.id]));
            }
            self.change_entries(FORGET, rows).await?;
        }
        Ok(())
    }

    async fn change_entries(
        &mut self,
        statements: [&'static str; 2],
        rows: Vec<serde_json::Value>,
    ) -> Result<(), StoreError> {
        let due = rows.len();
        let done = self.update(statements, rows).await?;
        if u64::try_from(due).is_ok_and(|due| due == done) {
            return Ok(());
        }
        Err(self.store.tampered(format!(
            "of {due} directory entries that were to change, the database changed {done}"
        )))
    }

    /// Takes all entries as they are, and makes their MACs and their sum.
    pub(super) async fn reseal_directory_entries(&mut self) -> Result<(), StoreError> {
        let mut after = Some((String::new(), String::new()));
        while let Some(from) = after {
            let rows = self.ask(move |c| page(c, from)).await?;
            after = super::reseal::next(
                rows.len(),
                rows.last().map(|row| (row.kind.clone(), row.id.clone())),
            );
            let mut macs = Vec::with_capacity(rows.len());
            for row in &rows {
                kind(&row.kind)?;
                let (mac, term) = self.key()?.mac(&Row::DirectoryEntry(row.columns()));
                self.contents.add(Set::DirectoryEntries, term);
                macs.push(serde_json::json!([row.kind, row.id, mac]));
            }
            self.update(MACS, macs).await?;
        }
        Ok(())
    }

    /// Makes the MACs of the next entries behind one anew. How many there were, and the last of them if
    /// there may be more.
    pub(super) async fn renew_directory_entries(
        &mut self,
        after: (String, String),
    ) -> Result<(usize, Option<(String, String)>), StoreError> {
        let rows = self.ask(move |c| page(c, after)).await?;
        let last = rows.last().map(|row| (row.kind.clone(), row.id.clone()));
        let mut macs = Vec::new();
        for row in &rows {
            if self.is_under_own_key(&row.mac) {
                continue;
            }
            let columns = Row::DirectoryEntry(row.columns());
            let old = self.store.check(&columns, &row.mac)?;
            let (mac, term) = self.key()?.mac(&columns);
            self.contents.take(Set::DirectoryEntries, old);
            self.contents.add(Set::DirectoryEntries, term);
            macs.push(serde_json::json!([row.kind, row.id, mac]));
        }
        let done = macs.len();
        self.update(MACS, macs).await?;
        Ok((done, super::reseal::next(rows.len(), last)))
    }
}

/// The next entries behind one, by kind and id.
fn page(
    connection: &mut AnyConnection,
    (kind, id): (String, String),
) -> BoxFuture<'_, Result<Vec<EntryRow>, sqlx::Error>> {
    Box::pin(async move {
        let rows = sqlx::query(
            "SELECT kind, id, identity, version, mac FROM directory_entries \
             WHERE (kind, id) > ($1, $2) ORDER BY kind, id LIMIT $3",
        )
        .bind(kind)
        .bind(id)
        .bind(PAGE)
        .fetch_all(connection);
        rows.await?.iter().map(EntryRow::of).collect()
    })
}

/// As SQLite and as PostgreSQL say it.
const KEEP: [&str; 2] = [
    "INSERT INTO directory_entries (kind, id, identity, version, mac) \
     SELECT json_extract(j.value, '$[0]'), json_extract(j.value, '$[1]'), json_extract(j.value, '$[2]'), \
     json_extract(j.value, '$[3]'), json_extract(j.value, '$[4]') FROM json_each($1) AS j WHERE true \
     ON CONFLICT (kind, id) DO UPDATE SET identity = excluded.identity, version = excluded.version, \
     mac = excluded.mac",
    "INSERT INTO directory_entries (kind, id, identity, version, mac) \
     SELECT j.value->>0, j.value->>1, j.value->>2, CAST(j.value->>3 AS BIGINT), j.value->>4 \
     FROM json_array_elements(CAST($1 AS JSON)) AS j(value) \
     ON CONFLICT (kind, id) DO UPDATE SET identity = excluded.identity, version = excluded.version, \
     mac = excluded.mac",
];
const FORGET: [&str; 2] = [
    "DELETE FROM directory_entries WHERE (kind, id) IN \
     (SELECT json_extract(j.value, '$[0]'), json_extract(j.value, '$[1]') FROM json_each($1) AS j)",
    "DELETE FROM directory_entries WHERE (kind, id) IN \
     (SELECT j.value->>0, j.value->>1 FROM json_array_elements(CAST($1 AS JSON)) AS j(value))",
];
const MACS: [&str; 2] = [
    "UPDATE directory_entries SET mac = json_extract(j.value, '$[2]') FROM json_each($1) AS j \
     WHERE directory_entries.kind = json_extract(j.value, '$[0]') \
     AND directory_entries.id = json_extract(j.value, '$[1]')",
    "UPDATE directory_entries SET mac = j.value->>2 FROM json_array_elements(CAST($1 AS JSON)) AS j(value) \
     WHERE directory_entries.kind = j.value->>0 AND directory_entries.id = j.value->>1",
];
