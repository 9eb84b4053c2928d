//! A store's rows in another database: from SQLite to PostgreSQL, or back. All of them, whatever tables a
//! version has; what is left behind is marked, so that nobody serves it by mistake.
//!
//! The copy is one transaction of the database that it goes to, and is marked as well until the old store
//! has its mark: wherever a move is cut off, at most one of the two is served, and the same command goes on.

use sqlx::any::AnyRow;
use sqlx::{AnyConnection, AssertSqlSafe, Row as _};
use tokio_stream::StreamExt as _;

use super::lanes::{Lease, Purpose};
use super::{BACKUP_DEADLINE, DEADLINE, Engine, Head, Store, StoreError, late, told};

/// Which brokers are on a store is of that store alone.
const LEFT_OUT: &str = "nodes";
/// So many rows are written with one statement.
const BATCH: usize = 100;

/// What a copy is marked with that is not complete. Any other mark says where a store was moved to.
pub(super) const ARRIVING: &str = "";

/// A store whose rows are in another database too. Until [`Relocation::complete`] nobody else writes to
/// it, and dropped, it is as it was.
pub struct Relocation<'s> {
    lease: Lease<'s>,
    /// Whether an earlier attempt was cut off at its last step.
    is_marked: bool,
    /// What the store is.
    pub head: Head,
    /// Its tables, and how many rows each of them has, here and there.
    pub tables: Vec<(String, i64)>,
}

/// The row that says what a store is.
struct Marked {
    head: Head,
    moved_to: Option<String>,
}

#[derive(Debug, PartialEq, Eq)]
struct Table {
    name: String,
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

/// Copies every row of a store to an empty database, or over an earlier attempt that was cut off.
///
/// # Errors
/// When the other database holds anything else, or has other tables; both are then as they were.
pub async fn relocate<'s>(from: &'s Store, to: &Store) -> Result<Relocation<'s>, StoreError> {
    let mut source = from.lease_to_write(Purpose::Background).await?;
    let mut target = to.lease_to_write(Purpose::Background).await?;
    let work = async {
        let here = source.raw()?;
        begin(from.engine, here).await?;
        // Writing the row is what keeps everybody else from writing.
        sqlx::raw_sql("UPDATE store SET sequence = sequence WHERE id = 1")
            .execute(&mut *here)
            .await
            .map_err(told)?;
        let own = marked(here)
            .await?
            .ok_or_else(|| StoreError::Unmovable("there is no store in it".to_owned()))?;
        let tables = tables(from.engine, here).await?;
        let there = target.raw()?;
        begin(to.engine, there).await?;
        if tables != self::tables(to.engine, there).await? {
            return Err(StoreError::Unmovable(
                "the tables of the two databases differ".to_owned(),
            ));
        }
        let other = marked(there).await?;
        let is_cut_off = other.as_ref().is_some_and(|o| {
            o.moved_to.as_deref() == Some(ARRIVING) && o.head.store_id == own.head.store_id
        });
        let is_marked = own.moved_to.is_some();
        match &own.moved_to {
            None if is_cut_off || is_fresh(there, &tables, other.as_ref()).await? => {
                for table in &tables {
                    let sql = format!("DELETE FROM {}", table.name);
                    sqlx::query(AssertSqlSafe(sql))
                        .execute(&mut *there)
                        .await
                        .map_err(told)?;
                }
                for table in tables.iter().filter(|table| table.name != LEFT_OUT) {
                    copy(here, there, table).await?;
                }
            }
            // Everything was copied, and nobody has written since.
            Some(_) if is_cut_off => {}
            Some(to) => return Err(StoreError::Moved(to.clone())),
            None => {
                let what = other.map_or_else(String::new, |o| {
                    format!(" {} at change {}", o.head.store_id, o.head.sequence)
                });
                return Err(StoreError::Unmovable(format!(
                    "the other database holds a store{what} already; name an empty one"
                )));
            }
        }
        let mut counts = Vec::new();
        for table in tables
            .iter()
            .filter(|table| table.name != LEFT_OUT && (table.name != "store" || !is_marked))
        {
            let (rows, copied) = (look(here, table).await?, look(there, table).await?);
            if rows != copied {
                let name = &table.name;
                return Err(StoreError::Unmovable(format!(
                    "{name}: {} rows became {} others",
                    rows.0, copied.0
                )));
            }
            counts.push((table.name.clone(), rows.0));
        }
        sqlx::query("UPDATE store SET moved_to = $1 WHERE id = 1")
            .bind(ARRIVING)
            .execute(&mut *there)
            .await
            .map_err(told)?;
        sqlx::raw_sql("COMMIT").execute(there).await.map_err(told)?;
        Ok((own.head, is_marked, counts))
    };
    let (head, is_marked, tables) = match tokio::time::timeout(BACKUP_DEADLINE, work).await {
        Ok(result) => result?,
        Err(_) => return Err(late(BACKUP_DEADLINE)),
    };
    target.finish();
    Ok(Relocation {
        lease: source,
        is_marked,
        head,
        tables,
    })
}

impl Relocation<'_> {
    /// Marks what is left behind, and takes the mark off the copy. `name` is where the store is now, for
    /// people.
    ///
    /// # Errors
    /// Without an answer it is not known whether the marks last: the same command goes on.
    pub async fn complete(mut self, to: &Store, name: &str) -> Result<(), StoreError> {
        let (name, is_marked) = (name.to_owned(), self.is_marked);
        let marked = self.lease.ask(DEADLINE, move |c| {
            Box::pin(async move {
                if !is_marked {
                    sqlx::query("UPDATE store SET moved_to = $1 WHERE id = 1")
                        .bind(name)
                        .execute(&mut *c)
                        .await?;
                }
                sqlx::raw_sql("COMMIT").execute(c).await
            })
        });
        marked.await?;
        self.lease.finish();
        to.stay().await
    }
}

impl Store {
    /// Where the store was moved to; none: it is here.
    pub(super) async fn moved_to(&self) -> Result<Option<String>, StoreError> {
        let row = self.read(Purpose::Background, DEADLINE, |c| {
            Box::pin(async move {
                sqlx::query("SELECT moved_to FROM store WHERE id = 1")
                    .fetch_optional(c)
                    .await
            })
        });
        match row.await? {
            Some(row) => row.try_get(0).map_err(told),
            None => Ok(None),
        }
    }

    /// Takes the mark off a copy of a store that was moved.
    pub(super) async fn stay(&self) -> Result<(), StoreError> {
        self.write_one(Purpose::Background, |c| {
            Box::pin(async move {
                sqlx::raw_sql("UPDATE store SET moved_to = NULL WHERE id = 1")
                    .execute(c)
                    .await
            })
        })
        .await
        .map(|_| ())
    }
}

async fn begin(engine: Engine, connection: &mut AnyConnection) -> Result<(), StoreError> {
    let sql = match engine {
        // One side waits while the other is read.
        Engine::Postgres => {
            "BEGIN ISOLATION LEVEL REPEATABLE READ; SET LOCAL idle_in_transaction_session_timeout = 0"
        }
        Engine::Sqlite | Engine::Memory => "BEGIN IMMEDIATE",
    };
    sqlx::raw_sql(sql)
        .execute(connection)
        .await
        .map(|_| ())
        .map_err(told)
}

/// Every table but the one that says which schema it is, with its columns, by name.
async fn tables(engine: Engine, connection: &mut AnyConnection) -> Result<Vec<Table>, StoreError> {
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
    let mut found = Vec::new();
    for row in sqlx::query(names)
        .fetch_all(&mut *connection)
        .await
        .map_err(told)?
    {
        let name = identifier(row.try_get(0).map_err(told)?)?;
        let rows = sqlx::query(columns)
            .bind(name.clone())
            .fetch_all(&mut *connection)
            .await
            .map_err(told)?;
        let column = |row: &AnyRow| -> Result<(String, Type), StoreError> {
            let (column, kind): (String, String) =
                (row.try_get(0).map_err(told)?, row.try_get(1).map_err(told)?);
            let kind = match kind.to_ascii_lowercase().as_str() {
                "bigint" | "integer" => Type::Number,
                "text" => Type::Text,
                "blob" | "bytea" => Type::Bytes,
                other => {
                    return Err(StoreError::Unmovable(format!(
                        "{name}.{column} is of the unknown type {other}"
                    )));
                }
            };
            Ok((identifier(column)?, kind))
        };
        let mut columns = rows.iter().map(column).collect::<Result<Vec<_>, _>>()?;
        columns.sort_by(|a, b| a.0.cmp(&b.0));
        found.push(Table { name, columns });
    }
    // Two databases sort names differently.
    found.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(found)
}

/// A name of this program's own schema, which goes into statements as it is.
fn identifier(name: String) -> Result<String, StoreError> {
    match name
        .bytes()
        .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_')
    {
        true => Ok(name),
        false => Err(StoreError::Unmovable(format!(
            "`{}` is not a table or column of a store",
            super::clip(&name)
        ))),
    }
}

async fn marked(connection: &mut AnyConnection) -> Result<Option<Marked>, StoreError> {
    let sql = "SELECT store_id, sequence, not_before, chain, moved_to FROM store WHERE id = 1";
    let row = sqlx::query(sql)
        .fetch_optional(connection)
        .await
        .map_err(told)?;
    let read = |row: AnyRow| {
        let (store_id, sequence, not_before) = (row.try_get(0)?, row.try_get(1)?, row.try_get(2)?);
        let head = Head {
            store_id,
            sequence,
            not_before,
            chain: row.try_get(3)?,
            key: String::new(),
        };
        Ok(Marked {
            head,
            moved_to: row.try_get(4)?,
        })
    };
    row.map(read).transpose().map_err(told)
}

/// Whether a database holds nothing but the schema, and what makes it a store.
async fn is_fresh(
    connection: &mut AnyConnection,
    tables: &[Table],
    own: Option<&Marked>,
) -> Result<bool, StoreError> {
    if own.is_some_and(|own| own.head.sequence != 0 || own.moved_to.is_some()) {
        return Ok(false);
    }
    for table in tables.iter().filter(|table| table.name != "store") {
        if count(connection, &table.name).await? > 0 {
            return Ok(false);
        }
    }
    Ok(true)
}

/// How many rows a table has, and what is in them: the same for the same rows in any order.
async fn look(
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
        for cell in cells(&row.map_err(told)?, table).map_err(told)? {
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
        for (sum, byte) in all.iter_mut().zip(crate::base::digest::sha256(&text)) {
            *sum ^= byte;
        }
    }
    Ok((number, all))
}

async fn count(connection: &mut AnyConnection, table: &str) -> Result<i64, StoreError> {
    let sql = AssertSqlSafe(format!("SELECT COUNT(*) FROM {table}"));
    sqlx::query(sql)
        .fetch_one(connection)
        .await
        .and_then(|row| row.try_get(0))
        .map_err(told)
}

async fn copy(
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
        batch.push(cells(&row.map_err(told)?, table).map_err(told)?);
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
    query.execute(to).await.map(|_| ()).map_err(told)
}
