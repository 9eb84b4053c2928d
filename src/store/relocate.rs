//! Moves the rows of a store to another database, from SQLite to PostgreSQL or back, for any version of the schema.
//! Only the list of running brokers is left out. The old store is then marked as moved, so that nobody serves it by
//! mistake.
//!
//! The rows are copied in one transaction of the new database. The copy is marked as incomplete until the old store is
//! marked as moved. Wherever a move is interrupted, at most one of the two databases can be served, and the same
//! command continues the move.

mod tables;

use sqlx::any::AnyRow;
use sqlx::{AnyConnection, AssertSqlSafe, Row as _};

use self::tables::{Table, copy, count, look, tables};
use super::classify::{classify, late};
use super::lanes::{Lease, Purpose};
use super::{BACKUP_DEADLINE, DEADLINE, Engine, Head, Store, StoreError};

/// The table that is not copied. It lists the running brokers of a store, none of which serves the copy.
const LEFT_OUT: &str = "nodes";
/// The mark (`moved_to`) of an incomplete copy. Any other mark is the address of the database to which the store was
/// moved.
pub(super) const ARRIVING: &str = "";

/// A store whose rows are copied to another database. Until [`Relocation::complete`] nobody else can write to the
/// store. If this value is dropped, the store is unchanged.
pub struct Relocation<'s> {
    lease: Lease<'s>,
    /// Whether an earlier attempt was interrupted after it had marked the old store.
    is_marked: bool,
    pub head: Head,
    /// The names of the tables that were compared, and the number of rows of each. The table `nodes` is left out, since
    /// it is not copied, and so is the table `store` if an earlier attempt has already marked the old store.
    pub tables: Vec<(String, i64)>,
}

/// The store's own row, with the mark (`moved_to`) that a move leaves in it.
struct Marked {
    head: Head,
    moved_to: Option<String>,
}

/// Copies the rows of a store to another database, which must be empty or contain an incomplete copy of an earlier
/// attempt. Only the list of running brokers is not copied.
///
/// # Errors
/// [`StoreError::Unmovable`] if there is no store to copy, the other database holds anything else or has other tables,
/// or the copy differs from the original; [`StoreError::Moved`] if the store was already moved to another database; and
/// an error of one of the databases, such as [`StoreError::Unavailable`] if it does not answer in time. The old store
/// is then unchanged. The other database is unchanged too, or contains an incomplete copy, with which the same
/// command continues.
pub async fn relocate<'s>(from: &'s Store, to: &Store) -> Result<Relocation<'s>, StoreError> {
    let mut source = from.lease_to_write(Purpose::Background).await?;
    let mut target = to.lease_to_write(Purpose::Background).await?;
    let work = copy_all(from.engine, source.raw()?, to.engine, target.raw()?);
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

/// Copies the tables in one transaction of each database, except for the one that lists the running brokers. The
/// transaction in the old database stays open, so that nobody can write to it.
async fn copy_all(
    engine: Engine,
    here: &mut AnyConnection,
    other_engine: Engine,
    there: &mut AnyConnection,
) -> Result<(Head, bool, Vec<(String, i64)>), StoreError> {
    begin(engine, here).await?;
    // Writing the row takes the lock that keeps everybody else from writing.
    sqlx::raw_sql("UPDATE store SET sequence = sequence WHERE id = 1")
        .execute(&mut *here)
        .await
        .map_err(classify)?;
    let own = marked(here).await?.ok_or_else(|| {
        StoreError::Unmovable("the database to move from contains no store".to_owned())
    })?;
    let tables = tables(engine, here).await?;
    begin(other_engine, there).await?;
    let others = self::tables(other_engine, there).await?;
    if tables != others {
        let differs = |table: &&Table| !tables.contains(table) || !others.contains(table);
        let differing = tables.iter().chain(&others).find(differs);
        let name = differing.map_or("", |table| table.name.as_str());
        return Err(StoreError::Unmovable(format!(
            "the table {name} is missing in one of the two databases, or has other columns there; drop the table if \
             Brevet did not create it, or give an empty target database"
        )));
    }
    let other = marked(there).await?;
    let is_cut_off = other.as_ref().is_some_and(|o| {
        o.moved_to.as_deref() == Some(ARRIVING) && o.head.store_id == own.head.store_id
    });
    let is_marked = own.moved_to.is_some();
    match &own.moved_to {
        None if is_cut_off || is_fresh(there, &tables, other.as_ref()).await? => {
            copy_tables(here, there, &tables).await?
        }
        // The copy is complete, and nobody can have written since.
        Some(_) if is_cut_off => {}
        Some(to) => return Err(StoreError::Moved(to.clone())),
        None => {
            let what = match other {
                Some(o) => format!("a store, {} at change {}", o.head.store_id, o.head.sequence),
                None => "rows in the tables of a store".to_owned(),
            };
            return Err(StoreError::Unmovable(format!(
                "the target database already contains {what}; give an empty database"
            )));
        }
    }
    let counts = compare(here, there, &tables, is_marked).await?;
    sqlx::query("UPDATE store SET moved_to = $1 WHERE id = 1")
        .bind(ARRIVING)
        .execute(&mut *there)
        .await
        .map_err(classify)?;
    sqlx::raw_sql("COMMIT")
        .execute(there)
        .await
        .map_err(classify)?;
    Ok((own.head, is_marked, counts))
}

async fn copy_tables(
    here: &mut AnyConnection,
    there: &mut AnyConnection,
    tables: &[Table],
) -> Result<(), StoreError> {
    for table in tables {
        let sql = format!("DELETE FROM {}", table.name);
        sqlx::query(AssertSqlSafe(sql))
            .execute(&mut *there)
            .await
            .map_err(classify)?;
    }
    for table in tables.iter().filter(|table| table.name != LEFT_OUT) {
        copy(here, there, table).await?;
    }
    Ok(())
}

/// Compares the rows of both databases, and returns the name and the number of rows of each table that was compared.
/// These are all tables that are copied, except that the store's own row is not compared if an earlier attempt has
/// already marked the old store as moved.
async fn compare(
    here: &mut AnyConnection,
    there: &mut AnyConnection,
    tables: &[Table],
    is_marked: bool,
) -> Result<Vec<(String, i64)>, StoreError> {
    let mut counts = Vec::new();
    for table in tables
        .iter()
        .filter(|table| table.name != LEFT_OUT && (table.name != "store" || !is_marked))
    {
        let (rows, copied) = (look(here, table).await?, look(there, table).await?);
        if rows != copied {
            let name = &table.name;
            return Err(StoreError::Unmovable(format!(
                "the copy of the table {name} has {} rows and differs from the original with {} rows; run `brevet \
                 move` again",
                copied.0, rows.0
            )));
        }
        counts.push((table.name.clone(), rows.0));
    }
    Ok(counts)
}

impl Relocation<'_> {
    /// Marks the old store as moved, and removes the mark of the copy. `name` is the address of the
    /// new store for messages.
    ///
    /// # Errors
    /// An error of one of the databases, such as [`StoreError::Unavailable`] if it does not answer in time. It is then
    /// unknown whether the marks were written; running the same command again continues.
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
    /// The address of the database to which the store was moved, or [`ARRIVING`] for an incomplete copy; `None` without
    /// a mark.
    pub(super) async fn moved_to(&self) -> Result<Option<String>, StoreError> {
        let row = self.read(Purpose::Background, DEADLINE, |c| {
            Box::pin(async move {
                sqlx::query("SELECT moved_to FROM store WHERE id = 1")
                    .fetch_optional(c)
                    .await
            })
        });
        match row.await? {
            Some(row) => row.try_get(0).map_err(classify),
            None => Ok(None),
        }
    }

    /// Removes the mark of a move from this store, so that a broker can serve it.
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
        // The rows of both are read in turn.
        Engine::Postgres => {
            "BEGIN ISOLATION LEVEL REPEATABLE READ; SET LOCAL idle_in_transaction_session_timeout = 0"
        }
        Engine::Sqlite | Engine::Memory => "BEGIN IMMEDIATE",
    };
    sqlx::raw_sql(sql)
        .execute(connection)
        .await
        .map(|_| ())
        .map_err(classify)
}

async fn marked(connection: &mut AnyConnection) -> Result<Option<Marked>, StoreError> {
    let sql = "SELECT store_id, sequence, not_before, chain, moved_to FROM store WHERE id = 1";
    let row = sqlx::query(sql)
        .fetch_optional(connection)
        .await
        .map_err(classify)?;
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
    row.map(read).transpose().map_err(classify)
}

/// Whether a database has nothing but the schema and the row of a new store.
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
