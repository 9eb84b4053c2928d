//! Finds the tables of a database with their columns, and copies their rows from one engine to another.

use sqlx::any::AnyRow;
use sqlx::{AnyConnection, AssertSqlSafe, Row as _};
use tokio_stream::StreamExt as _;

use crate::base::digest::sha256;
use crate::store::classify::classify;
use crate::store::{Engine, StoreError, clip};

/// The maximum number of rows that one statement writes.
const BATCH: usize = 100;

/// A table of a store, in either engine.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Table {
    pub name: String,
    columns: Vec<(String, Type)>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Type {
    Number,
    Text,
    Bytes,
}

enum Cell {
    Number(Option<i64>),
    Text(Option<String>),
    Bytes(Option<Vec<u8>>),
}

/// Lists every table with its columns, ordered by name. The table of the schema version is left out.
pub(super) async fn tables(
    engine: Engine,
    connection: &mut AnyConnection,
) -> Result<Vec<Table>, StoreError> {
    let (names, columns) = match engine {
        Engine::Postgres => (
            "SELECT CAST(table_name AS TEXT) FROM information_schema.tables WHERE table_schema = current_schema() \
             AND table_type = 'BASE TABLE' AND table_name <> '_sqlx_migrations' ORDER BY 1",
            "SELECT CAST(column_name AS TEXT), CAST(data_type AS TEXT) FROM information_schema.columns \
             WHERE table_schema = current_schema() AND table_name = $1",
        ),
        Engine::Sqlite | Engine::Memory => (
            "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite%' \
             AND name <> '_sqlx_migrations' ORDER BY name",
            "SELECT name, type FROM pragma_table_info($1)",
        ),
    };
    let place = place(engine);
    let mut found = Vec::new();
    for row in sqlx::query(names)
        .fetch_all(&mut *connection)
        .await
        .map_err(classify)?
    {
        let name = identifier(row.try_get(0).map_err(classify)?, place)?;
        let rows = sqlx::query(columns)
            .bind(name.clone())
            .fetch_all(&mut *connection)
            .await
            .map_err(classify)?;
        let column = |row: &AnyRow| -> Result<(String, Type), StoreError> {
            let (column, kind): (String, String) = (
                row.try_get(0).map_err(classify)?,
                row.try_get(1).map_err(classify)?,
            );
            let kind = match kind.to_ascii_lowercase().as_str() {
                "bigint" | "integer" => Type::Number,
                "text" => Type::Text,
                "blob" | "bytea" => Type::Bytes,
                other => {
                    return Err(StoreError::Unmovable(format!(
                        "the column {column} of the table {name} in {place} has the type {other}, which Brevet does \
                         not use; drop the column or the table if Brevet did not create it"
                    )));
                }
            };
            Ok((identifier(column, place)?, kind))
        };
        let mut columns = rows.iter().map(column).collect::<Result<Vec<_>, _>>()?;
        columns.sort_by(|a, b| a.0.cmp(&b.0));
        found.push(Table { name, columns });
    }
    // Sorted here, since the two databases sort names differently.
    found.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(found)
}

/// Names a database in messages. The two databases of a move have different engines.
fn place(engine: Engine) -> &'static str {
    match engine {
        Engine::Postgres => "the PostgreSQL database",
        Engine::Sqlite | Engine::Memory => "the SQLite database",
    }
}

/// Checks that a name has only the characters of names in this program's schema, since it is put into statements
/// unescaped.
fn identifier(name: String, place: &str) -> Result<String, StoreError> {
    match name
        .bytes()
        .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_')
    {
        true => Ok(name),
        false => Err(StoreError::Unmovable(format!(
            "{place} has a table or column with the name `{}`, which Brevet does not use; drop it or rename it",
            clip(&name)
        ))),
    }
}

/// Counts the rows of a table and computes a digest of them that does not depend on their order.
pub(super) async fn look(
    connection: &mut AnyConnection,
    table: &Table,
) -> Result<(i64, [u8; 32]), StoreError> {
    let names: Vec<&str> = table
        .columns
        .iter()
        .map(|(name, _)| name.as_str())
        .collect();
    let sql = AssertSqlSafe(format!("SELECT {} FROM {}", names.join(", "), table.name));
    let mut rows = sqlx::query(sql).fetch(connection);
    let (mut number, mut all) = (0, [0; 32]);
    while let Some(row) = rows.next().await {
        let mut text = Vec::new();
        for cell in cells(&row.map_err(classify)?, table).map_err(classify)? {
            let part = match cell {
                Cell::Number(number) => number.map(|number| number.to_be_bytes().to_vec()),
                Cell::Text(text) => text.map(String::into_bytes),
                Cell::Bytes(bytes) => bytes,
            };
            let length = part
                .as_ref()
                .map_or(-1, |part| i64::try_from(part.len()).unwrap_or(i64::MAX));
            text.extend_from_slice(&length.to_be_bytes());
            text.extend(part.unwrap_or_default());
        }
        number += 1;
        for (sum, byte) in all.iter_mut().zip(sha256(&text)) {
            *sum ^= byte;
        }
    }
    Ok((number, all))
}

pub(super) async fn count(connection: &mut AnyConnection, table: &str) -> Result<i64, StoreError> {
    let sql = AssertSqlSafe(format!("SELECT COUNT(*) FROM {table}"));
    sqlx::query(sql)
        .fetch_one(connection)
        .await
        .and_then(|row| row.try_get(0))
        .map_err(classify)
}

pub(super) async fn copy(
    from: &mut AnyConnection,
    to: &mut AnyConnection,
    table: &Table,
) -> Result<(), StoreError> {
    let names: Vec<&str> = table
        .columns
        .iter()
        .map(|(name, _)| name.as_str())
        .collect();
    let sql = AssertSqlSafe(format!("SELECT {} FROM {}", names.join(", "), table.name));
    let mut rows = sqlx::query(sql).fetch(from);
    let mut batch: Vec<Vec<Cell>> = Vec::with_capacity(BATCH);
    while let Some(row) = rows.next().await {
        batch.push(cells(&row.map_err(classify)?, table).map_err(classify)?);
        if batch.len() == BATCH {
            insert(to, table, &names, std::mem::take(&mut batch)).await?;
        }
    }
    if batch.is_empty() {
        Ok(())
    } else {
        insert(to, table, &names, batch).await
    }
}

fn cells(row: &AnyRow, table: &Table) -> Result<Vec<Cell>, sqlx::Error> {
    let cell = |(at, (_, kind)): (usize, &(String, Type))| {
        Ok(match kind {
            Type::Number => Cell::Number(row.try_get(at)?),
            Type::Text => Cell::Text(row.try_get(at)?),
            Type::Bytes => Cell::Bytes(row.try_get(at)?),
        })
    };
    table.columns.iter().enumerate().map(cell).collect()
}

async fn insert(
    to: &mut AnyConnection,
    table: &Table,
    names: &[&str],
    batch: Vec<Vec<Cell>>,
) -> Result<(), StoreError> {
    let width = names.len();
    let row = |n: usize| {
        let places: Vec<String> = (1..=width)
            .map(|column| format!("${}", n * width + column))
            .collect();
        format!("({})", places.join(", "))
    };
    let rows: Vec<String> = (0..batch.len()).map(row).collect();
    let sql = format!(
        "INSERT INTO {} ({}) VALUES {}",
        table.name,
        names.join(", "),
        rows.join(", ")
    );
    let mut query = sqlx::query(AssertSqlSafe(sql));
    for cell in batch.into_iter().flatten() {
        query = match cell {
            Cell::Number(number) => query.bind(number),
            Cell::Text(text) => query.bind(text),
            Cell::Bytes(bytes) => query.bind(bytes),
        };
    }
    query.execute(to).await.map(|_| ()).map_err(classify)
}
