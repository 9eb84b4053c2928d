//! A transaction that reads all rows in their state at one moment, with one deadline for the whole transaction.

use sqlx::AnyConnection;
use tokio::time::{Instant, timeout_at};

use super::classify::{classify, late};
use super::lanes::{Lease, Purpose};
use super::{Engine, SCAN_DEADLINE, Store, StoreError};

/// A transaction that sees all rows in their state when it began. If it is dropped before [`Moment::end`], its
/// connection is closed.
pub(super) struct Moment<'s> {
    lease: Lease<'s>,
    until: Deadline,
}

/// The time by which all reading must be done.
#[derive(Clone, Copy)]
pub(super) struct Deadline(Instant);

impl Deadline {
    /// Runs work, and fails with [`StoreError::Unavailable`] if it is not done by the deadline.
    pub async fn reached_by<T, E: From<StoreError>>(
        self,
        work: impl Future<Output = Result<T, E>>,
    ) -> Result<T, E> {
        match timeout_at(self.0, work).await {
            Ok(result) => result,
            Err(_) => Err(late(SCAN_DEADLINE).into()),
        }
    }
}

impl Store {
    /// Begins a transaction that reads all rows. The whole transaction must end within [`SCAN_DEADLINE`].
    pub(super) async fn moment(&self) -> Result<Moment<'_>, StoreError> {
        let mut lease = self.lease(Purpose::Background).await?;
        let until = Deadline(Instant::now() + SCAN_DEADLINE);
        let connection = lease.raw()?;
        let begin = match self.engine {
            Engine::Postgres => "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY",
            Engine::Sqlite | Engine::Memory => "BEGIN",
        };
        until.reached_by(run(connection, begin)).await?;
        Ok(Moment { lease, until })
    }
}

impl Store {
    /// Begins a transaction like [`Store::moment`], in which changes may be made on trial. [`Moment::undo`] rolls them
    /// back.
    pub(super) async fn trial(&self) -> Result<Moment<'_>, StoreError> {
        let mut lease = self.lease_to_write(Purpose::Background).await?;
        let until = Deadline(Instant::now() + SCAN_DEADLINE);
        let begin = match self.engine {
            Engine::Postgres => "BEGIN ISOLATION LEVEL REPEATABLE READ",
            Engine::Sqlite | Engine::Memory => "BEGIN IMMEDIATE",
        };
        until.reached_by(run(lease.raw()?, begin)).await?;
        Ok(Moment { lease, until })
    }
}

impl Moment<'_> {
    pub fn until(&self) -> Deadline {
        self.until
    }

    pub fn connection(&mut self) -> Result<&mut AnyConnection, StoreError> {
        self.lease.raw()
    }

    /// Ends the transaction, so that the connection can be used again.
    pub async fn end(self) -> Result<(), StoreError> {
        self.end_by("COMMIT").await
    }

    /// Ends the transaction like [`Moment::end`], but rolls back all changes.
    pub async fn undo(self) -> Result<(), StoreError> {
        self.end_by("ROLLBACK").await
    }

    async fn end_by(mut self, sql: &'static str) -> Result<(), StoreError> {
        let until = self.until;
        until.reached_by(run(self.lease.raw()?, sql)).await?;
        self.lease.finish();
        Ok(())
    }
}

async fn run(connection: &mut AnyConnection, sql: &'static str) -> Result<(), StoreError> {
    let done = sqlx::raw_sql(sql).execute(connection).await;
    done.map(|_| ()).map_err(classify)
}
