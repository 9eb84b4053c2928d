//! Reads all rows of the directory, or all revocations, in their state at one moment. Each row is checked, and at the
//! end the sums show whether a row is missing.

use sqlx::{AnyConnection, AssertSqlSafe, Row as _};
use tokio_stream::StreamExt as _;

use super::classify::classify;
use super::head::Head;
use super::integrity::{Contents, Resource, Row, Set};
use super::known::Versions;
use super::rows::{RevocationRow, is_deletion};
use super::salvage::{self, LONGEST};
use super::{Engine, Store, StoreError, clip, sqlite};
use crate::base::clock::Timestamp;
use crate::directory::resource::ResourceKind;
use crate::revocations::{RevocationKey, Revocations, Selector};

/// The maximum number of wrong rows that a message names.
const MAX_NAMED: usize = 20;

impl Store {
    /// Calls `each` with the kind, id, version and body of each entry of the directory, all in their state at one
    /// moment. Returns the state of the store at that moment.
    ///
    /// The caller may use the rows only if the function succeeds, because only the sums at the end show whether a row
    /// is missing.
    ///
    /// # Errors
    /// An error of the database, such as [`StoreError::Unavailable`] if it does not answer in time,
    /// [`StoreError::Tampered`] if the rows are not those that brokers wrote, or the first error that `each` returns.
    pub async fn scan<E: From<StoreError> + Send + 'static>(
        &self,
        mut each: impl FnMut(ResourceKind, &str, i64, &str) -> Result<(), E> + Send,
    ) -> Result<Head, E> {
        let mut moment = self.moment().await?;
        let until = moment.until();
        let connection = moment.connection()?;
        let work = async {
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
                // Findings that name rows come first.
                let named = missing(&mut *connection).await?;
                return Err(self.tampered([named, differing].concat().join("; ")).into());
            }
            Ok::<_, E>((head, versions))
        };
        let (head, versions) = until.reached_by(work).await?;
        moment.end().await?;
        self.know(versions, head.sequence);
        Ok(head)
    }

    /// Loads every revocation that has not expired into `revocations`, so that it applies on this broker.
    ///
    /// # Errors
    /// An error of the database, such as [`StoreError::Unavailable`] if it does not answer in time, and
    /// [`StoreError::Tampered`] if the revocations are not those that brokers wrote.
    pub async fn load_revocations(
        &self,
        into: &Revocations,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        let mut moment = self.moment().await?;
        let until = moment.until();
        let connection = moment.connection()?;
        let work = async {
            let (_, contents) = self.checked_head(&mut *connection).await?;
            let mut found = Contents::empty(contents.kept_from);
            let mut take = |row: RevocationRow| {
                found.add(
                    Set::Revocations,
                    self.check(&Row::Revocation(row.columns()), &row.mac)?,
                );
                let selector = Selector::parse(&row.selector);
                let selector = selector.ok_or_else(|| {
                    StoreError::Row(format!(
                        "the revocation of {} {} has a selector that this version of Brevet does not know",
                        clip(&row.selector),
                        clip(&row.value)
                    ))
                })?;
                if selector == Selector::SigningKey {
                    into.revoke_signing_key(&row.value);
                } else if row.mark.expires_at > now.seconds() {
                    into.mark(
                        &RevocationKey::new(selector, &row.account, &row.value),
                        row.mark,
                    );
                }
                Ok::<(), StoreError>(())
            };
            walk_revocations(self.engine, &mut *connection, &mut take).await?;
            match differing_revocations(&found, &contents) {
                Some(why) => Err(self.tampered(why)),
                None => Ok(()),
            }
        };
        until.reached_by(work).await?;
        moment.end().await
    }
}

/// Calls `each` for every row of the directory, with the MAC of the row.
pub(super) async fn walk<E: From<StoreError>>(
    engine: Engine,
    connection: &mut AnyConnection,
    each: &mut (impl FnMut(Resource<'_>, &str) -> Result<(), E> + Send),
) -> Result<(), E> {
    let unreadable = match engine {
        Engine::Postgres => walk_postgres(&mut *connection, each).await?,
        Engine::Sqlite | Engine::Memory => walk_sqlite(&mut *connection, each).await?,
    };
    match unreadable {
        Some(error) => Err(salvage::named(engine, connection, error).await.into()),
        None => Ok(()),
    }
}

/// Reads the rows of the directory from PostgreSQL. Returns the error of the first row that cannot be read; `None` if
/// all can be read.
async fn walk_postgres<E: From<StoreError>>(
    connection: &mut AnyConnection,
    each: &mut (impl FnMut(Resource<'_>, &str) -> Result<(), E> + Send),
) -> Result<Option<StoreError>, E> {
    // A text that is far too long is not read; the row is then reported.
    let sql = AssertSqlSafe(format!(
        "SELECT kind, id, account, folded, unique_id, version, \
         CASE WHEN octet_length(body) <= {LONGEST} THEN body END, \
         CASE WHEN octet_length(mac) <= {LONGEST} THEN mac END FROM resources"
    ));
    let mut rows = sqlx::query(sql).fetch(connection);
    while let Some(row) = rows.next().await {
        let row = match row {
            Ok(row) => row,
            Err(error) => return Ok(Some(classify(error))),
        };
        let read = || {
            let text = |at: usize| row.try_get::<&str, _>(at);
            let columns = Resource {
                kind: text(0)?,
                id: text(1)?,
                account: text(2)?,
                folded: text(3)?,
                unique_id: row.try_get(4)?,
                version: row.try_get(5)?,
                body: text(6)?,
            };
            Ok::<_, sqlx::Error>((columns, text(7)?))
        };
        match read() {
            Ok((columns, mac)) => each(columns, mac)?,
            Err(error) => return Ok(Some(classify(error))),
        }
    }
    Ok(None)
}

/// Reads the rows of the directory from SQLite. Returns the error of the first row that cannot be read; `None` if all
/// can be read.
async fn walk_sqlite<E: From<StoreError>>(
    connection: &mut AnyConnection,
    each: &mut (impl FnMut(Resource<'_>, &str) -> Result<(), E> + Send),
) -> Result<Option<StoreError>, E> {
    let mut after = None;
    loop {
        let portion = match sqlite::portion(&mut *connection, after).await {
            Ok(Some(portion)) => portion,
            Ok(None) => return Ok(None),
            Err(error) => return Ok(Some(error)),
        };
        after = Some(portion.last);
        let mut found = 0;
        for row in portion.rows() {
            match row {
                Ok((columns, mac)) => each(columns, mac)?,
                Err(error) => return Ok(Some(error)),
            }
            found += 1;
        }
        if found != portion.count {
            return Ok(Some(StoreError::Tampered(format!(
                "the database returned {} rows of the directory, but their text splits into {found}: one of them \
                 contains the character that separates rows",
                portion.count
            ))));
        }
    }
}

/// Calls `each` for every row of the revocations.
pub(super) async fn walk_revocations(
    engine: Engine,
    connection: &mut AnyConnection,
    each: &mut (impl FnMut(RevocationRow) -> Result<(), StoreError> + Send),
) -> Result<(), StoreError> {
    let unreadable = {
        let sql = AssertSqlSafe(format!(
            "SELECT selector, account, CASE WHEN octet_length(value) <= {LONGEST} THEN value END, before_sequence, \
             before_seconds, expires_at, CASE WHEN octet_length(mac) <= {LONGEST} THEN mac END FROM revocations"
        ));
        let mut rows = sqlx::query(sql).fetch(&mut *connection);
        loop {
            match rows.next().await {
                None => return Ok(()),
                Some(row) => match row.and_then(|row| RevocationRow::of(&row)) {
                    Ok(revocation) => each(revocation)?,
                    Err(error) => break classify(error),
                },
            }
        }
    };
    Err(salvage::named(engine, connection, unreadable).await)
}

/// Describes each kind whose sum or number of rows differs from the sealed one.
pub(super) fn differing_kinds(found: &Contents, expected: &Contents) -> Vec<String> {
    let differs = |kind: &ResourceKind| {
        let (found, expected) = (found.sum(Set::Of(*kind)), expected.sum(Set::Of(*kind)));
        (found != expected)
            .then(|| differing(&format!("of kind {kind}"), found.count, expected.count))
    };
    ResourceKind::ALL.iter().filter_map(differs).collect()
}

/// Describes how the sum or the number of the revocations differs from the sealed one; `None` if they are equal.
pub(super) fn differing_revocations(found: &Contents, expected: &Contents) -> Option<String> {
    let (found, expected) = (found.sum(Set::Revocations), expected.sum(Set::Revocations));
    (found != expected).then(|| differing("that are revocations", found.count, expected.count))
}

pub(super) fn differing(which: &str, found: u64, expected: u64) -> String {
    if found == expected {
        format!(
            "the {found} rows {which} include one of an earlier version, or one occurs twice and another is missing"
        )
    } else {
        format!("there are {found} rows {which} instead of {expected}")
    }
}

/// Compares the rows of the directory with the changes in the feed. Describes at most [`MAX_NAMED`] wrong rows: rows
/// that are missing, occur twice or have another version, and rows that a change has deleted but that exist.
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
            let row = row.map_err(classify)?;
            let text = |at: usize| row.try_get::<&str, _>(at).map_err(classify);
            let (kind, id, action) = (text(0)?, text(1)?, text(3)?);
            let last: i64 = row.try_get(2).map_err(classify)?;
            if ResourceKind::parse(kind).is_none() {
                continue;
            }
            let name = format!("{kind} {}", clip(id));
            let Ok(version) = row.try_get::<Option<i64>, _>(4) else {
                named.push(format!(
                    "{name} differs from what a broker wrote (the version is of another type)"
                ));
                continue;
            };
            match (version, is_deletion(action)) {
                (None, true) => {}
                (None, false) => named.push(format!(
                    "{name} is missing, although change {last} wrote it"
                )),
                (Some(_), true) => {
                    named.push(format!("{name} exists, although change {last} deleted it"))
                }
                (Some(version), false) if version == last => {}
                (Some(version), false) => {
                    named.push(format!(
                        "{name} has the content of change {version}, although change {last} changed it later"
                    ));
                }
            }
        }
    }
    let sql = "SELECT kind, id FROM resources GROUP BY kind, id HAVING COUNT(*) > 1 LIMIT 20";
    for row in sqlx::query(sql)
        .fetch_all(connection)
        .await
        .map_err(classify)?
    {
        let text = |at: usize| row.try_get::<&str, _>(at).map_err(classify);
        named.push(format!(
            "{} {} occurs twice",
            clip(text(0)?),
            clip(text(1)?)
        ));
    }
    Ok(named)
}
