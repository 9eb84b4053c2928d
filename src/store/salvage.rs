//! Finds rows that do not have the form in which brokers write rows, whatever their MACs: the kind of the entry is
//! unknown, or a column has another type, is not UTF-8, is NULL or is too long. Messages name each of these rows. If an
//! operator accepts the store, the rows are repaired or deleted.

use sqlx::any::AnyRow;
use sqlx::{AnyConnection, AssertSqlSafe, Row as _};
use tokio_stream::StreamExt as _;

use super::classify::classify;
use super::shape::{self, Deviation, TABLES, Table, Type};
use super::{Engine, StoreError, clip};
use crate::directory::resource::{Resource, ResourceKind};
use crate::revocations::Selector;

/// The maximum length of a column's text in bytes. The detail of a change may be longer, since it can list every entry
/// of a directory file.
pub(super) const LONGEST: usize = 32 << 20;
/// The longest detail of a change, in bytes.
const LONGEST_DETAIL: usize = 256 << 20;
/// The maximum number of unreadable rows that a message names.
const MAX_NAMED: usize = 20;
/// The highest number of a change that is accepted. Numbers above it remain for later changes.
const HIGHEST_CHANGE: i64 = 1 << 52;

/// A row that cannot be read, with the reason.
pub(super) struct Fault {
    table: &'static Table,
    place: Place,
    /// The name of the row in messages.
    name: String,
    why: String,
    /// The columns with the types to which their values must be converted to repair the row. If the list is empty, the
    /// row cannot be repaired.
    convert: Vec<(&'static str, Type)>,
}

/// The position of the row in the database: `rowid` or `ctid`.
enum Place {
    Sqlite(i64),
    Postgres(String),
}

impl Fault {
    pub fn says(&self) -> String {
        format!(
            "{} differs from what a broker wrote ({})",
            self.name, self.why
        )
    }

    /// Tells an operator what accepting the store does to this row.
    fn says_what_becomes_of_it(&self, is_repaired: bool) -> String {
        let (name, why) = (&self.name, &self.why);
        if is_repaired {
            format!("{name} is repaired: {why}")
        } else if self.convert.is_empty() {
            format!("{name} is deleted: {why}")
        } else {
            format!(
                "{name} is deleted, since it cannot be repaired beside another row of the same name: {why}"
            )
        }
    }
}

/// Finds at most `most` rows that cannot be read.
///
/// # Errors
/// An error of the database, such as [`StoreError::Unavailable`] if it does not answer in time.
pub(super) async fn faults(
    engine: Engine,
    connection: &mut AnyConnection,
    most: usize,
) -> Result<Vec<Fault>, StoreError> {
    let mut found = Vec::new();
    for table in &TABLES {
        let sql = AssertSqlSafe(cells_of(engine, table));
        let mut rows = sqlx::query(sql).fetch(&mut *connection);
        while let Some(row) = rows.next().await {
            if found.len() >= most {
                return Ok(found);
            }
            let row = row.map_err(classify)?;
            let place = match engine {
                Engine::Postgres => Place::Postgres(row.try_get(0).map_err(classify)?),
                Engine::Sqlite | Engine::Memory => Place::Sqlite(row.try_get(0).map_err(classify)?),
            };
            let cells = cells(&row, table)?;
            if let Some((why, convert)) = judge(table, &cells) {
                found.push(Fault {
                    table,
                    place,
                    name: name(table, &cells),
                    why,
                    convert,
                });
            }
        }
    }
    Ok(found)
}

/// If `error` means that rows cannot be read, returns an error that names these rows, at most [`MAX_NAMED`] of them.
/// Otherwise returns `error`.
pub(super) async fn named(
    engine: Engine,
    connection: &mut AnyConnection,
    error: StoreError,
) -> StoreError {
    if !error.is_tampering() {
        return error;
    }
    match faults(engine, connection, MAX_NAMED).await {
        Ok(faults) if !faults.is_empty() => {
            let named: Vec<String> = faults.iter().map(Fault::says).collect();
            StoreError::Tampered(named.join("; "))
        }
        _ => error,
    }
}

/// Repairs or deletes the rows that cannot be read, and drops triggers, rules and other objects on the tables. Returns
/// a sentence for each.
///
/// # Errors
/// [`StoreError::Damaged`] if a table or a column is missing, so that only a backup helps, [`StoreError::Tampered`] if
/// the database does not delete exactly one row where it should, and an error of the database, such as
/// [`StoreError::Unavailable`] if it does not answer in time.
pub(super) async fn mend(
    engine: Engine,
    connection: &mut AnyConnection,
) -> Result<Vec<String>, StoreError> {
    let mut told = Vec::new();
    for deviation in shape::deviations(engine, &mut *connection).await? {
        match deviation {
            Deviation::Lacks(what) => return Err(StoreError::Damaged(what)),
            Deviation::Acts { what, removal } => {
                run(&mut *connection, &removal, None).await?;
                told.push(format!("{what} is removed"));
            }
        }
    }
    for fault in faults(engine, &mut *connection, usize::MAX).await? {
        let done = match conversion(engine, &fault) {
            Some(sql) => run(&mut *connection, &sql, Some(&fault.place)).await?,
            None => 0,
        };
        told.push(fault.says_what_becomes_of_it(done != 0));
        // A row that cannot be repaired, since another row has its name, is deleted.
        if done == 0 {
            let place = place_of(engine);
            let sql = format!("DELETE FROM {} WHERE {place}", fault.table.name);
            let deleted = run(&mut *connection, &sql, Some(&fault.place)).await?;
            if deleted != 1 {
                return Err(StoreError::Tampered(format!(
                    "the database deleted {deleted} rows instead of one for {}",
                    fault.name
                )));
            }
        }
    }
    Ok(told)
}

async fn run(
    connection: &mut AnyConnection,
    sql: &str,
    place: Option<&Place>,
) -> Result<u64, StoreError> {
    let query = sqlx::query(AssertSqlSafe(sql.to_owned()));
    let query = match place {
        Some(Place::Sqlite(row)) => query.bind(*row),
        Some(Place::Postgres(row)) => query.bind(row.clone()),
        None => query,
    };
    let done = query.execute(connection).await.map_err(classify)?;
    Ok(done.rows_affected())
}

fn place_of(engine: Engine) -> &'static str {
    match engine {
        Engine::Postgres => "ctid = CAST($1 AS tid)",
        Engine::Sqlite | Engine::Memory => "rowid = $1",
    }
}

/// The statement that converts the values of a row to the types of their columns; `None` if a conversion does not
/// repair the row. Only SQLite needs this: in PostgreSQL a value always has the type of its column.
fn conversion(engine: Engine, fault: &Fault) -> Option<String> {
    if fault.convert.is_empty() || engine == Engine::Postgres {
        return None;
    }
    let sets: Vec<String> = fault
        .convert
        .iter()
        .map(|(column, kind)| match kind {
            Type::Number => format!("{column} = CAST(CAST({column} AS TEXT) AS INTEGER)"),
            Type::Text | Type::TextOrNull => format!("{column} = CAST({column} AS TEXT)"),
        })
        .collect();
    Some(format!(
        "UPDATE OR IGNORE {} SET {} WHERE {}",
        fault.table.name,
        sets.join(", "),
        place_of(engine)
    ))
}

/// The query that reads each row of a table as bytes: its position, and for each column the type, the length and, if
/// that is not too large, the value.
fn cells_of(engine: Engine, table: &Table) -> String {
    let column = |(name, kind): &(&str, Type)| {
        let most = longest(name);
        match engine {
            Engine::Postgres => format!(
                "CASE WHEN {name} IS NULL THEN 'null' ELSE '{}' END, \
                 COALESCE(CAST(octet_length(CAST({name} AS TEXT)) AS BIGINT), 0), \
                 CASE WHEN octet_length(CAST({name} AS TEXT)) <= {most} \
                 THEN convert_to(CAST({name} AS TEXT), getdatabaseencoding()) END",
                if *kind == Type::Number {
                    "integer"
                } else {
                    "text"
                }
            ),
            Engine::Sqlite | Engine::Memory => format!(
                "typeof({name}), COALESCE(octet_length({name}), 0), \
                 CASE WHEN octet_length({name}) <= {most} THEN CAST(CAST({name} AS TEXT) AS BLOB) END"
            ),
        }
    };
    let columns: Vec<String> = table.columns.iter().map(column).collect();
    let place = match engine {
        Engine::Postgres => "CAST(ctid AS TEXT)",
        Engine::Sqlite | Engine::Memory => "rowid",
    };
    format!("SELECT {place}, {} FROM {}", columns.join(", "), table.name)
}

fn longest(column: &str) -> usize {
    if column == "detail" {
        LONGEST_DETAIL
    } else {
        LONGEST
    }
}

/// The stored value of a column, with its real type and length.
struct Cell {
    /// The type that SQLite reports, such as `text`, `integer`, `null`, `blob` or `real`.
    kind: String,
    length: i64,
    bytes: Option<Vec<u8>>,
}

impl Cell {
    fn text(&self) -> Option<&str> {
        std::str::from_utf8(self.bytes.as_deref()?).ok()
    }
}

fn cells(row: &AnyRow, table: &Table) -> Result<Vec<Cell>, StoreError> {
    let cell = |at: usize| {
        Ok(Cell {
            kind: row.try_get(at)?,
            length: row.try_get(at + 1)?,
            bytes: row.try_get(at + 2)?,
        })
    };
    (0..table.columns.len())
        .map(|column| cell(1 + column * 3))
        .collect::<Result<_, sqlx::Error>>()
        .map_err(classify)
}

/// Returns why a row cannot be read, and the columns whose conversion to another type would repair
/// it.
fn judge(table: &Table, cells: &[Cell]) -> Option<(String, Vec<(&'static str, Type)>)> {
    let mut convert = Vec::new();
    for ((column, kind), cell) in table.columns.iter().zip(cells) {
        let most = i64::try_from(longest(column)).unwrap_or(i64::MAX);
        let is_number = *kind == Type::Number;
        if cell.kind == "null" {
            if *kind == Type::TextOrNull {
                continue;
            }
            return Some((format!("the column {column} is NULL"), Vec::new()));
        }
        if cell.length > most {
            return Some((
                format!(
                    "the column {column} has {} bytes, and at most {most} are allowed",
                    cell.length
                ),
                Vec::new(),
            ));
        }
        let Some(text) = cell.text() else {
            return Some((format!("the column {column} is not UTF-8"), Vec::new()));
        };
        if is_number && text.parse::<i64>().is_err() {
            return Some((format!("the column {column} is not an integer"), Vec::new()));
        }
        if cell.kind != (if is_number { "integer" } else { "text" }) {
            convert.push((*column, *kind));
        }
    }
    if let Some(why) = is_unknown(table, cells) {
        return Some((why, Vec::new()));
    }
    let named: Vec<&str> = convert.iter().map(|(column, _)| *column).collect();
    (!convert.is_empty()).then(|| {
        (
            format!("columns of another type: {}", named.join(", ")),
            convert,
        )
    })
}

fn is_unknown(table: &Table, cells: &[Cell]) -> Option<String> {
    let text = |column: &str| column_of(table, cells, column).unwrap_or_default();
    let is_json = |text: &str| serde_json::from_str::<serde::de::IgnoredAny>(text).is_ok();
    match table.name {
        "resources" => match ResourceKind::parse(text("kind")) {
            None => Some("the kind is unknown".to_owned()),
            Some(kind) => Resource::parse(kind, text("body"))
                .err()
                .map(|error| format!("the body: {error}")),
        },
        "directory_entries" => ResourceKind::parse(text("kind"))
            .is_none()
            .then(|| "the kind is unknown".to_owned()),
        "revocations" => Selector::parse(text("selector"))
            .is_none()
            .then(|| "the selector is unknown".to_owned()),
        "changes"
            if !text("sequence")
                .parse::<i64>()
                .is_ok_and(|n| (1..=HIGHEST_CHANGE).contains(&n)) =>
        {
            Some("no change can have this number".to_owned())
        }
        "changes" => (!is_json(text("actor")) || !is_json(text("detail")))
            .then(|| "the actor or the detail is not JSON".to_owned()),
        _ => None,
    }
}

fn column_of<'c>(table: &Table, cells: &'c [Cell], column: &str) -> Option<&'c str> {
    let mut columns = table.columns.iter().zip(cells);
    columns.find(|((name, _), _)| *name == column)?.1.text()
}

/// The name of a row in messages. A part of its key that cannot be read is written as `?`.
fn name(table: &Table, cells: &[Cell]) -> String {
    let of = |column: &str| {
        let at = table.columns.iter().position(|(name, _)| *name == column);
        let cell = at.and_then(|at| cells.get(at));
        let bytes = cell.and_then(|cell| cell.bytes.as_deref()).unwrap_or(b"?");
        clip(&String::from_utf8_lossy(bytes))
    };
    let name = match table.name {
        "resources" => format!("{} {}", of("kind"), of("id")),
        "revocations" => format!("the revocation of {} {}", of("selector"), of("value")),
        "changes" => format!("change {} of the feed", of("sequence")),
        "directory_entries" => format!("directory entry {} {}", of("kind"), of("id")),
        "change_documents" => format!("the documents of change {}", of("sequence")),
        other => {
            let first = table.columns.first().map_or("", |(column, _)| column);
            format!("the row {} of {other}", of(first))
        }
    };
    name.trim_end().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::clock::Timestamp;
    use crate::base::entropy::SystemEntropy;
    use crate::store::lanes::Purpose;
    use crate::store::{Access, Place, Store};

    #[tokio::test]
    async fn the_tables_are_those_that_the_migrations_make() {
        let now = Timestamp::from_seconds(1_000_000);
        let entropy = SystemEntropy::new();
        let store = Store::open(&Place::Memory, Access::Create, None, now, &entropy)
            .await
            .unwrap();
        let mut lease = store.lease(Purpose::Background).await.unwrap();
        let connection = lease.raw().unwrap();
        let found = shape::deviations(Engine::Memory, connection).await.unwrap();
        let said: Vec<String> = found.iter().map(Deviation::says).collect();
        assert!(said.is_empty(), "{said:?}");
        let sql = "SELECT m.name, x.name FROM sqlite_master m JOIN pragma_table_xinfo(m.name) x \
                   WHERE m.type = 'table' AND m.name <> '_sqlx_migrations' ORDER BY 1, 2";
        let rows = sqlx::query(sql).fetch_all(&mut *connection).await.unwrap();
        let mut there: Vec<(String, String)> =
            rows.iter().map(|row| (row.get(0), row.get(1))).collect();
        let mut known: Vec<(String, String)> = [&shape::STORE]
            .into_iter()
            .chain(&TABLES)
            .flat_map(|table| {
                let of = |(column, _): &(&str, Type)| (table.name.to_owned(), (*column).to_owned());
                table.columns.iter().map(of)
            })
            .collect();
        there.sort();
        known.sort();
        assert_eq!(there, known);
    }

    #[tokio::test]
    async fn a_row_that_cannot_be_repaired_is_said_to_be_deleted() {
        let now = Timestamp::from_seconds(1_000_000);
        let entropy = SystemEntropy::new();
        let store = Store::open(&Place::Memory, Access::Create, None, now, &entropy)
            .await
            .unwrap();
        let mut lease = store.lease(Purpose::Background).await.unwrap();
        let connection = lease.raw().unwrap();
        // SQLite counts bytes and text as different keys, and both become the same text.
        let sql = "INSERT INTO directory_entries (kind, id, identity, version, mac) VALUES \
                   ('user', 'one', 'a', 1, ''), ('user', CAST('one' AS BLOB), 'a', 1, ''), \
                   ('user', CAST('two' AS BLOB), 'a', 1, '')";
        sqlx::raw_sql(sql).execute(&mut *connection).await.unwrap();
        let told = mend(Engine::Memory, &mut *connection).await.unwrap();
        assert_eq!(
            told,
            [
                "directory entry user one is deleted, since it cannot be repaired beside another row of the same \
                 name: columns of another type: id",
                "directory entry user two is repaired: columns of another type: id",
            ]
        );
        let sql = "SELECT id FROM directory_entries ORDER BY id";
        let rows = sqlx::query(sql).fetch_all(connection).await.unwrap();
        let left: Vec<String> = rows.iter().map(|row| row.get(0)).collect();
        assert_eq!(left, ["one", "two"]);
    }
}
