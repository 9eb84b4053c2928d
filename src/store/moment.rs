//! A transaction that sees everything as it is at one moment, with a deadline for all that is read in
//! it.

use sqlx::AnyConnection;
use tokio::time::{Instant, timeout_at};

use super::classify::{classify, late};
use super::lanes::{Lease, Purpose};
use super::{Engine, SCAN_DEADLINE, Store, StoreError};

/// The transaction. Dropped before [`Moment::end`], its connection is thrown away.
pub(super) struct Moment<'s> {
    lease: Lease<'s>,
    until: Deadline,
}

/// When all that is read must have been read.
#[derive(Clone, Copy)]
pub(super) struct Deadline(Instant);

impl Deadline {
    /// Does something that has to be done by then.
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
    /// Begins to read everything as it is now. All of it has [`SCAN_DEADLINE`].
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
    /// As [`Store::moment`], where something is tried in it: to be ended by [`Moment::undo`].
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

    /// Everything was read: the connection is good for others.
    pub async fn end(self) -> Result<(), StoreError> {
        self.end_by("COMMIT").await
    }

    /// As [`Moment::end`]; whatever was changed is as it was.
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
