//! The database schema and its migrations.

use std::cmp::Ordering;

use sqlx::any::AnyRow;
use sqlx::migrate::{MigrateError, Migration, MigrationType, Migrator};
use sqlx::{AnyConnection, Row as _, SqlSafeStr};

use super::classify::{classify, late};
use super::lanes::Purpose;
use super::{DEADLINE, SCAN_DEADLINE, Store, StoreError};

/// The migrations in order. A file never changes after it was released.
const MIGRATIONS: &[(i64, &str, &str)] = &[
    (1, "store", include_str!("migrations/0001_store.sql")),
    (2, "mfa", include_str!("migrations/0002_mfa.sql")),
    (3, "nodes", include_str!("migrations/0003_nodes.sql")),
    (
        4,
        "documents",
        include_str!("migrations/0004_documents.sql"),
    ),
    (
        5,
        "integrity",
        include_str!("migrations/0005_integrity.sql"),
    ),
    (6, "commands", include_str!("migrations/0006_commands.sql")),
    (
        7,
        "directory_entries",
        include_str!("migrations/0007_directory_entries.sql"),
    ),
    (8, "names", include_str!("migrations/0008_names.sql")),
    (9, "sign_ins", include_str!("migrations/0009_sign_ins.sql")),
];

fn migrations() -> impl Iterator<Item = Migration> {
    MIGRATIONS.iter().map(|(version, name, sql)| {
        Migration::new(
            *version,
            (*name).into(),
            MigrationType::Simple,
            sql.into_sql_str(),
            false,
        )
    })
}

/// Returns a sentence for each migration of this program that the database does not record with the same checksum, and
/// one more if the database records another number of migrations.
///
/// # Errors
/// [`StoreError::Row`] if the table of migrations is missing or does not have the expected columns, and other errors of
/// the database, such as [`StoreError::Disconnected`] and [`StoreError::Unavailable`].
pub(super) async fn differing_migrations(
    connection: &mut AnyConnection,
) -> Result<Vec<String>, StoreError> {
    let sql = "SELECT version, checksum FROM _sqlx_migrations";
    let rows = sqlx::query(sql).fetch_all(connection).await;
    let had = rows.and_then(|rows| {
        let read = |row: &AnyRow| Ok((row.try_get(0)?, row.try_get(1)?));
        rows.iter()
            .map(read)
            .collect::<Result<Vec<(i64, Vec<u8>)>, _>>()
    });
    let had = had.map_err(classify)?;
    let is_had = |migration: &Migration| {
        had.iter().any(|(version, checksum)| {
            *version == migration.version && **checksum == *migration.checksum
        })
    };
    let differing = migrations().filter(|migration| !is_had(migration));
    let differing = differing.map(|migration| {
        format!(
            "the table _sqlx_migrations does not record migration {} ({}) with the checksum that it has in this program",
            migration.version, migration.description
        )
    });
    let known = MIGRATIONS.len();
    let count = (had.len() != known).then(|| {
        format!(
            "the table _sqlx_migrations records {} migrations, but this program has {known}",
            had.len()
        )
    });
    Ok(differing.chain(count).collect())
}

impl Store {
    /// Brings the schema of the database to the version of this program, by applying the migrations that are missing.
    ///
    /// # Errors
    /// [`StoreError::Newer`] if a later version has changed the schema, [`StoreError::Damaged`] if a recorded migration
    /// differs from that of this program, [`StoreError::Unavailable`] if the database does not answer in time, or the
    /// error of the database if a migration fails.
    pub(super) async fn migrate(&self) -> Result<(), StoreError> {
        let migrator = Migrator::with_migrations(migrations().collect());
        let mut lease = self.lease_to_write(Purpose::Background).await?;
        let known = MIGRATIONS.last().map_or(0, |(version, _, _)| *version);
        let run = tokio::time::timeout(
            SCAN_DEADLINE,
            migrator.run_direct(None, lease.raw()?, false),
        );
        let result = match run.await {
            Ok(result) => result,
            Err(_) => return Err(late(SCAN_DEADLINE)),
        };
        match result {
            Ok(()) => {
                lease.finish();
                Ok(())
            }
            Err(MigrateError::VersionMissing(found)) => Err(StoreError::Newer { found, known }),
            Err(MigrateError::Execute(error) | MigrateError::ExecuteMigration(error, _)) => {
                Err(classify(error))
            }
            Err(other) => Err(StoreError::Damaged(format!("the store's schema: {other}"))),
        }
    }

    /// Checks that the schema has the version that this program needs.
    ///
    /// # Errors
    /// [`StoreError::Newer`] or [`StoreError::Older`] if it has another version.
    pub(super) async fn check_schema(&self) -> Result<(), StoreError> {
        let row = self.read(Purpose::Background, DEADLINE, |c| {
            Box::pin(async move {
                sqlx::query("SELECT MAX(version) FROM _sqlx_migrations")
                    .fetch_one(c)
                    .await
            })
        });
        let found: i64 = match row.await {
            Ok(row) => row
                .try_get::<Option<i64>, _>(0)
                .map_err(classify)?
                .unwrap_or_default(),
            Err(StoreError::Row(why)) if why.contains("_sqlx_migrations") => 0,
            Err(error) => return Err(error),
        };
        let known = MIGRATIONS.last().map_or(0, |(version, _, _)| *version);
        match found.cmp(&known) {
            Ordering::Equal => Ok(()),
            Ordering::Greater => Err(StoreError::Newer { found, known }),
            Ordering::Less => Err(StoreError::Older { found, known }),
        }
    }
}
