//! The database schema and its migrations.

use std::cmp::Ordering;

use sqlx::migrate::{MigrateError, Migration, MigrationType, Migrator};
use sqlx::{Row as _, SqlSafeStr};

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
];

impl Store {
    /// Applies the migrations that are missing.
    ///
    /// # Errors
    /// [`StoreError::Newer`] if a later version has changed the schema, [`StoreError::Damaged`] if a
    /// migration fails, and [`StoreError::Unavailable`] if the database does not answer in time.
    pub(super) async fn migrate(&self) -> Result<(), StoreError> {
        let migration = |(version, name, sql): &(i64, &'static str, &'static str)| {
            Migration::new(
                *version,
                (*name).into(),
                MigrationType::Simple,
                sql.into_sql_str(),
                false,
            )
        };
        let migrator = Migrator::with_migrations(MIGRATIONS.iter().map(migration).collect());
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

    /// Checks that the schema is that of this program.
    ///
    /// # Errors
    /// [`StoreError::Newer`] or [`StoreError::Older`] if it is not.
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
            Err(StoreError::Unavailable(why)) if why.contains("_sqlx_migrations") => 0,
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
