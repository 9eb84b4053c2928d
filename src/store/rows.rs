//! All things of the directory and all revocations at one moment, each row checked, and their sums.

use sqlx::any::AnyRow;
use sqlx::{AnyConnection, Row as _};
use tokio_stream::StreamExt as _;

use super::integrity::{self, Contents, Resource, Row, Set, Term, Wrong};
use super::known::Versions;
use super::lanes::Purpose;
use super::{Engine, Head, SCAN_DEADLINE, Store, StoreError, clip, late, sqlite, told};
use crate::base::clock::Timestamp;
use crate::directory::resource::Kind;
use crate::revocations::{Key, Mark, Revocations, Selector};

/// The actions that leave no row behind.
const DELETIONS: [&str; 10] = [
    "DeleteAccount",
    "DeletePolicy",
    "DeleteGroup",
    "DeleteUser",
    "DeleteRole",
    "DeleteInstanceProfile",
    "DeleteAccessKey",
    "DeleteVirtualMFADevice",
    "DeleteOpenIDConnectProvider",
    "DeleteSAMLProvider",
];

/// Whether a change took a thing away.
pub(super) fn is_deletion(action: &str) -> bool {
    DELETIONS.contains(&action)
}

/// How many rows are named at the most when something is wrong with more of them.
const MAX_NAMED: usize = 20;

/// A row of the directory.
pub(super) struct ResourceRow {
    pub kind: String,
    pub id: String,
    account: String,
    folded: String,
    unique_id: Option<String>,
    pub version: i64,
    pub body: String,
    pub mac: String,
}

impl ResourceRow {
    /// Of `kind, id, account, folded, unique_id, version, body, mac`.
    pub fn of(row: &AnyRow) -> Result<Self, sqlx::Error> {
        Self::behind(row, 0)
    }

    /// Of the same columns behind those of a change and its MAC.
    pub fn joined(row: &AnyRow) -> Result<Self, sqlx::Error> {
        Self::behind(row, 9)
    }

    fn behind(row: &AnyRow, at: usize) -> Result<Self, sqlx::Error> {
        Ok(Self {
            kind: row.try_get(at)?,
            id: row.try_get(at + 1)?,
            account: row.try_get(at + 2)?,
            folded: row.try_get(at + 3)?,
            unique_id: row.try_get(at + 4)?,
            version: row.try_get(at + 5)?,
            body: row.try_get(at + 6)?,
            mac: row.try_get(at + 7)?,
        })
    }

    pub fn columns(&self) -> Resource<'_> {
        Resource {
            kind: &self.kind,
            id: &self.id,
            account: &self.account,
            folded: &self.folded,
            unique_id: self.unique_id.as_deref(),
            version: self.version,
            body: &self.body,
        }
    }
}

/// A revocation's row.
pub(super) struct RevocationRow {
    pub selector: String,
    pub account: String,
    pub value: String,
    pub mark: Mark,
    pub mac: String,
}

impl RevocationRow {
    /// Of `selector, account, value, before_sequence, before_seconds, expires_at, mac`.
    pub fn of(row: &AnyRow) -> Result<Self, sqlx::Error> {
        let mark = Mark {
            before_sequence: row.try_get(3)?,
            before_seconds: row.try_get(4)?,
            expires_at: row.try_get(5)?,
        };
        Ok(Self {
            selector: row.try_get(0)?,
            account: row.try_get(1)?,
            value: row.try_get(2)?,
            mark,
            mac: row.try_get(6)?,
        })
    }

    pub fn columns(&self) -> integrity::Revocation<'_> {
        revocation(&self.selector, &self.account, &self.value, self.mark)
    }
}

/// A revocation's columns.
pub(super) fn revocation<'a>(
    selector: &'a str,
    account: &'a str,
    value: &'a str,
    mark: Mark,
) -> integrity::Revocation<'a> {
    integrity::Revocation {
        selector,
        account,
        value,
        before_sequence: mark.before_sequence,
        before_seconds: mark.before_seconds,
        expires_at: mark.expires_at,
    }
}

/// What begins a transaction that reads everything as it is at one moment.
pub(super) fn begin(engine: Engine) -> &'static str {
    match engine {
        Engine::Postgres => "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY",
        Engine::Sqlite | Engine::Memory => "BEGIN",
    }
}

/// What is wrong with a row.
pub(super) fn wrong(row: &Row<'_>, wrong: &Wrong) -> String {
    match wrong {
        Wrong::Mac => format!("{} is not as a broker wrote it", row.name()),
        Wrong::Key(id) => {
            format!(
                "{} is written under the master key {id}, which the master key file does not hold",
                row.name()
            )
        }
    }
}

impl Store {
    /// What a row adds to its sum, if a broker wrote it.
    pub(super) fn check(&self, row: &Row<'_>, mac: &str) -> Result<Term, StoreError> {
        self.keys
            .load()
            .check(row, mac)
            .map_err(|error| self.tampered(wrong(row, &error)))
    }

    /// The kind of a row of the directory, and what it adds to its sum, if a broker wrote it.
    pub(super) fn check_resource(
        &self,
        row: Resource<'_>,
        mac: &str,
    ) -> Result<(Kind, Term), StoreError> {
        let term = self.check(&Row::Resource(row), mac)?;
        Ok((super::kind(row.kind)?, term))
    }

    /// Everything of the directory at one moment, thing by thing: kind, id, version, body. The head
    /// that it belongs to. What `each` was told is of use only if all of it went well: that nothing is
    /// missing is known at the end.
    ///
    /// # Errors
    /// Without an answer, when a row is not as a broker wrote it, or the first error that `each` returns.
    pub async fn scan<E: From<StoreError> + Send + 'static>(
        &self,
        mut each: impl FnMut(Kind, &str, i64, &str) -> Result<(), E> + Send,
    ) -> Result<Head, E> {
        let mut lease = self.lease(Purpose::Background).await?;
        let connection = lease.raw()?;
        let work = async {
            sqlx::raw_sql(begin(self.engine))
                .execute(&mut *connection)
                .await
                .map_err(told)?;
            let (head, contents) = self.checked_head(&mut *connection).await?;
            let mut found = Contents::empty(contents.kept_from);
            let mut versions = Versions::default();
            let mut take = |row: Resource<'_>, mac: &str| {
                let (kind, term) = self.check_resource(row, mac)?;
                found.add(Set::Of(kind), term);
                versions.put(row.kind, row.id, row.version);
                each(kind, row.id, row.version, row.body)
            };
            walk(self.engine, &mut *connection, &mut take).await?;
            let differing = differing_kinds(&found, &contents);
            if !differing.is_empty() {
                // Names first: they say more than numbers.
                let named = missing(&mut *connection).await?;
                return Err(self.tampered([named, differing].concat().join("; ")).into());
            }
            sqlx::raw_sql("COMMIT")
                .execute(&mut *connection)
                .await
                .map_err(told)?;
            self.know(versions, head.sequence);
            Ok::<Head, E>(head)
        };
        let result = match tokio::time::timeout(SCAN_DEADLINE, work).await {
            Ok(result) => result,
            Err(_) => Err(late(SCAN_DEADLINE).into()),
        };
        if result.is_ok() {
            lease.finish();
        }
        result
    }

    /// Puts every revocation in force that has not run out.
    ///
    /// # Errors
    /// Without an answer, or when the revocations are not those that brokers wrote.
    pub async fn load_revocations(
        &self,
        into: &Revocations,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        let mut lease = self.lease(Purpose::Background).await?;
        let connection = lease.raw()?;
        let work = async {
            sqlx::raw_sql(begin(self.engine))
                .execute(&mut *connection)
                .await
                .map_err(told)?;
            let (_, contents) = self.checked_head(&mut *connection).await?;
            let mut found = Contents::empty(contents.kept_from);
            let mut take = |row: RevocationRow| {
                found.add(
                    Set::Revocations,
                    self.check(&Row::Revocation(row.columns()), &row.mac)?,
                );
                let selector = Selector::parse(&row.selector);
                let selector = selector
                    .ok_or_else(|| StoreError::Row("a revocation's selector".to_owned()))?;
                if selector == Selector::SigningKey {
                    into.revoke_signing_key(&row.value);
                } else if row.mark.expires_at > now.seconds() {
                    into.mark(&Key::new(selector, &row.account, &row.value), row.mark);
                }
                Ok::<(), StoreError>(())
            };
            walk_revocations(&mut *connection, &mut take).await?;
            if let Some(why) = differing_revocations(&found, &contents) {
                return Err(self.tampered(why));
            }
            sqlx::raw_sql("COMMIT")
                .execute(&mut *connection)
                .await
                .map_err(told)?;
            Ok(())
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
}

/// Each row of the directory, with its MAC.
pub(super) async fn walk<E: From<StoreError>>(
    engine: Engine,
    connection: &mut AnyConnection,
    each: &mut (impl FnMut(Resource<'_>, &str) -> Result<(), E> + Send),
) -> Result<(), E> {
    match engine {
        Engine::Postgres => {
            let sql =
                "SELECT kind, id, account, folded, unique_id, version, body, mac FROM resources";
            let mut rows = sqlx::query(sql).fetch(connection);
            while let Some(row) = rows.next().await {
                let row = row.map_err(told)?;
                let text = |at: usize| row.try_get::<&str, _>(at).map_err(told);
                let columns = Resource {
                    kind: text(0)?,
                    id: text(1)?,
                    account: text(2)?,
                    folded: text(3)?,
                    unique_id: row.try_get(4).map_err(told)?,
                    version: row.try_get(5).map_err(told)?,
                    body: text(6)?,
                };
                each(columns, text(7)?)?;
            }
        }
        Engine::Sqlite | Engine::Memory => {
            let mut after = None;
            while let Some((last, portion)) = sqlite::portion(&mut *connection, after).await? {
                for row in portion.rows() {
                    let (columns, mac) = row?;
                    each(columns, mac)?;
                }
                after = Some(last);
            }
        }
    }
    Ok(())
}

/// Each revocation's row.
pub(super) async fn walk_revocations(
    connection: &mut AnyConnection,
    each: &mut (impl FnMut(RevocationRow) -> Result<(), StoreError> + Send),
) -> Result<(), StoreError> {
    let sql = "SELECT selector, account, value, before_sequence, before_seconds, expires_at, mac FROM revocations";
    let mut rows = sqlx::query(sql).fetch(connection);
    while let Some(row) = rows.next().await {
        let row = row.map_err(told)?;
        let revocation = RevocationRow::of(&row).map_err(|error| {
            let text = |at: usize| row.try_get::<&str, _>(at).map(clip).unwrap_or_default();
            StoreError::Tampered(format!(
                "the revocation of {} {} is not as a broker wrote it ({error})",
                text(0),
                text(2)
            ))
        })?;
        each(revocation)?;
    }
    Ok(())
}

/// The kinds of which other rows are there than belong there: a sentence each.
pub(super) fn differing_kinds(found: &Contents, expected: &Contents) -> Vec<String> {
    let differs = |kind: &Kind| {
        let (found, expected) = (found.sum(Set::Of(*kind)), expected.sum(Set::Of(*kind)));
        (found != expected)
            .then(|| differing(&format!("of kind {kind}"), found.count, expected.count))
    };
    Kind::ALL.iter().filter_map(differs).collect()
}

/// Whether other revocations are there than belong there.
pub(super) fn differing_revocations(found: &Contents, expected: &Contents) -> Option<String> {
    let (found, expected) = (found.sum(Set::Revocations), expected.sum(Set::Revocations));
    (found != expected).then(|| differing("that are revocations", found.count, expected.count))
}

pub(super) fn differing(which: &str, found: u64, expected: u64) -> String {
    if found == expected {
        format!(
            "among the {found} rows {which} is one of an earlier state, or one twice and another one missing"
        )
    } else {
        format!("there are {found} rows {which} where {expected} belong")
    }
}

/// What is known of rows that are missing, from earlier or there twice: by the feed, as far as it goes
/// back.
pub(super) async fn missing(connection: &mut AnyConnection) -> Result<Vec<String>, StoreError> {
    let sql = "SELECT l.kind, l.id, l.last, c.action, r.version \
         FROM (SELECT kind, id, MAX(sequence) AS last FROM changes GROUP BY kind, id) l \
         JOIN changes c ON c.sequence = l.last LEFT JOIN resources r ON r.kind = l.kind AND r.id = l.id \
         WHERE r.version IS NULL OR r.version <> l.last OR c.action LIKE 'Delete%' ORDER BY l.last DESC";
    let mut named = Vec::new();
    {
        let mut rows = sqlx::query(sql).fetch(&mut *connection);
        while let Some(row) = rows.next().await
            && named.len() < MAX_NAMED
        {
            let row = row.map_err(told)?;
            let text = |at: usize| row.try_get::<&str, _>(at).map_err(told);
            let (kind, id, action) = (text(0)?, text(1)?, text(3)?);
            let last: i64 = row.try_get(2).map_err(told)?;
            let version: Option<i64> = row.try_get(4).map_err(told)?;
            if Kind::parse(kind).is_none() {
                continue;
            }
            let name = format!("{kind} {}", clip(id));
            match (version, is_deletion(action)) {
                (None, true) => {}
                (None, false) => {
                    named.push(format!("{name} is missing, which change {last} wrote"))
                }
                (Some(_), true) => {
                    named.push(format!("{name} is there, which change {last} deleted"))
                }
                (Some(version), false) if version == last => {}
                (Some(version), false) => {
                    named.push(format!(
                        "{name} is as change {version} wrote it, and change {last} wrote it last"
                    ));
                }
            }
        }
    }
    let sql = "SELECT kind, id FROM resources GROUP BY kind, id HAVING COUNT(*) > 1 LIMIT 20";
    for row in sqlx::query(sql).fetch_all(connection).await.map_err(told)? {
        let text = |at: usize| row.try_get::<&str, _>(at).map_err(told);
        named.push(format!(
            "{} {} is there twice",
            clip(text(0)?),
            clip(text(1)?)
        ));
    }
    Ok(named)
}
