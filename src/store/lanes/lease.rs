//! A connection that is in use. Every statement has a deadline. A connection that is dropped during a statement or a
//! transaction is closed, or in a store in memory rolled back, so that nobody else uses it in an unknown state.

use std::sync::atomic::Ordering;
use std::time::Duration;

use sqlx::{AnyConnection, ConnectOptions};
use tokio::sync::{MutexGuard, SemaphorePermit};
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout_at};

use super::{Lane, Purpose};
use crate::store::classify::classify;
use crate::store::{BoxFuture, DEADLINE, Engine, Store, StoreError, address, sqlite};

/// Makes PostgreSQL end a transaction whose client has been silent, so that a broker that was
/// suspended does not keep the others from writing.
const POSTGRES_IDLE: &str = "SET idle_in_transaction_session_timeout = '10s'";
/// Makes PostgreSQL stop waiting for a lock after two seconds, since the client stops waiting at about the same time.
const POSTGRES_LOCK: &str = "SET lock_timeout = '2s'";

/// Overrides settings that the server or the role may have:
///
/// - Names are looked up only in the schema of the store and in PostgreSQL's own schema. The schema of the store is
///   searched for explicitly, because it need not be the first one in the search path: a schema with the name of the
///   role may have been created later.
/// - Queries fail if row security would leave out rows.
/// - Commits wait for stable storage.
const POSTGRES_OWN: &str = "SELECT pg_catalog.set_config('search_path', pg_catalog.quote_ident(COALESCE( \
    (SELECT n.nspname FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n \
    ON n.oid OPERATOR(pg_catalog.=) c.relnamespace \
    WHERE c.oid OPERATOR(pg_catalog.=) pg_catalog.to_regclass('store')), pg_catalog.current_schema())), false); \
    SET row_security = off; \
    SELECT pg_catalog.set_config('synchronous_commit', 'on', false) \
    WHERE pg_catalog.current_setting('synchronous_commit') IN ('off', 'local')";

/// A connection that is in use. When dropped, it becomes idle again. It is closed instead if its state is unknown or a
/// transaction is open, unless it is the connection of a store in memory.
pub(in crate::parts::store) struct Lease<'s> {
    store: &'s Store,
    lane: &'s Lane,
    /// The connection; `None` after a failure.
    connection: Option<AnyConnection>,
    /// The time by which all statements must be done; if `None`, each statement has its own deadline.
    until: Option<Instant>,
    /// Whether no statement is running on the connection.
    at_rest: bool,
    /// Whether a transaction is open.
    is_unfinished: bool,
    /// Whether the connection was idle before, so that the server may have ended it.
    was_idle: bool,
    _turn: Option<MutexGuard<'s, ()>>,
    _permit: SemaphorePermit<'s>,
}

impl Store {
    /// Takes a connection for a purpose, waiting for at most the purpose's longest wait.
    pub(in crate::parts::store) async fn lease(
        &self,
        purpose: Purpose,
    ) -> Result<Lease<'_>, StoreError> {
        let lane = self.lanes.of(purpose);
        let wait = purpose.longest_wait();
        let until = Instant::now() + wait;
        let permit = lane.enter(until, &self.metrics).await?;
        let until = purpose.is_of_requests().then_some(until);
        let mut lease = Lease {
            store: self,
            lane,
            connection: None,
            until,
            at_rest: true,
            is_unfinished: false,
            was_idle: false,
            _turn: None,
            _permit: permit,
        };
        let idle = lane.connections.idle().pop();
        lease.was_idle = idle.is_some();
        lease.connection = Some(match idle {
            Some(connection) => connection,
            None => {
                lane.within(lease.until(DEADLINE), self.connect(purpose), &self.metrics)
                    .await??
            }
        });
        if lane.connections.unclean.swap(false, Ordering::Relaxed) {
            // Outside a transaction this fails, which does no harm.
            let _ = lease
                .ask(DEADLINE, |c| {
                    Box::pin(async move { sqlx::raw_sql("ROLLBACK").execute(c).await })
                })
                .await;
        }
        Ok(lease)
    }

    /// Takes a connection for writing. On SQLite it also waits until no other task of this process is writing.
    pub(in crate::parts::store) async fn lease_to_write(
        &self,
        purpose: Purpose,
    ) -> Result<Lease<'_>, StoreError> {
        let mut lease = self.lease(purpose).await?;
        if self.engine == Engine::Sqlite {
            let until = lease.until(purpose.longest_wait());
            lease._turn = Some(
                lease
                    .lane
                    .within(until, self.lanes.turn.lock(), &self.metrics)
                    .await?,
            );
        }
        Ok(lease)
    }

    async fn connect(&self, purpose: Purpose) -> Result<AnyConnection, StoreError> {
        // A socket is watched by the runtime on which it was opened, and must not wait for that of a caller.
        let options = self.options.clone();
        let mut opening = JoinSet::new(); // aborts what it holds when it is dropped
        let open = async move { options.connect().await };
        opening.spawn_on(open, &self.lanes.of(purpose).runtime);
        let connected = match opening.join_next().await {
            Some(Ok(connected)) => connected,
            _ => Err(sqlx::Error::WorkerCrashed),
        };
        let connection = connected.map_err(|error| {
            address::not_verified(&error, &self.options).unwrap_or_else(|| classify(error))
        })?;
        self.set_up(connection, purpose).await.map_err(classify)
    }

    async fn set_up(
        &self,
        mut connection: AnyConnection,
        purpose: Purpose,
    ) -> Result<AnyConnection, sqlx::Error> {
        match self.engine {
            Engine::Sqlite => sqlite::prepare(&mut connection).await?,
            Engine::Postgres => {
                for statement in [POSTGRES_OWN, POSTGRES_IDLE] {
                    sqlx::raw_sql(statement).execute(&mut connection).await?;
                }
                if purpose != Purpose::Background {
                    sqlx::raw_sql(POSTGRES_LOCK)
                        .execute(&mut connection)
                        .await?;
                }
                if purpose == Purpose::Feed {
                    // A crash of the database may lose only this node's report, which is repeated
                    // within a second.
                    sqlx::raw_sql("SET synchronous_commit = off")
                        .execute(&mut connection)
                        .await?;
                }
            }
            Engine::Memory => {}
        }
        Ok(connection)
    }
}

impl<'s> Lease<'s> {
    /// Runs a statement on the connection. An error that the database reports leaves the connection
    /// usable; after any other error it is closed.
    pub async fn ask<T>(
        &mut self,
        statement: Duration,
        work: impl for<'c> FnOnce(&'c mut AnyConnection) -> BoxFuture<'c, Result<T, sqlx::Error>>,
    ) -> Result<T, StoreError> {
        let until = self.until(statement);
        let connection = self.connection.as_mut();
        let connection = connection.ok_or_else(|| {
            StoreError::Unavailable("the connection to the database was lost".to_owned())
        })?;
        self.at_rest = false;
        match timeout_at(until, work(connection)).await {
            Ok(Ok(value)) => {
                self.at_rest = true;
                Ok(value)
            }
            Ok(Err(error)) => {
                let is_database = matches!(error, sqlx::Error::Database(_));
                let error = classify(error);
                let is_lost = matches!(error, StoreError::Disconnected(_));
                self.at_rest = is_database && !is_lost;
                self.end_unless_at_rest();
                if is_lost && self.store.engine != Engine::Memory {
                    // The server has probably ended the other connections too.
                    drop(self.lane.connections.take_all());
                }
                Err(error)
            }
            Err(_) => {
                self.end_unless_at_rest();
                Err(self.lane.late(statement, &self.store.metrics))
            }
        }
    }

    /// Marks the beginning of several statements that must all be executed. If the lease is dropped before
    /// [`Lease::finish`], the connection is closed.
    pub fn begin(&mut self) {
        self.is_unfinished = true;
    }

    /// Marks the end of the statements that [`Lease::begin`] has announced. The connection can be used again.
    pub fn finish(&mut self) {
        self.is_unfinished = false;
    }

    /// The connection itself, for work that [`Lease::ask`] cannot do. Calls [`Lease::begin`].
    pub fn raw(&mut self) -> Result<&mut AnyConnection, StoreError> {
        self.begin();
        self.connection.as_mut().ok_or_else(|| {
            StoreError::Unavailable("the connection to the database was lost".to_owned())
        })
    }

    /// Whether the error only means that the server had ended the connection while it was idle. If the first statement
    /// on the connection fails in this way, it was not executed and can be tried again.
    pub fn had_ended(&self, error: &StoreError) -> bool {
        self.was_idle && matches!(error, StoreError::Disconnected(_))
    }

    /// Gives each further statement a deadline of its own, instead of one deadline for all statements together.
    pub fn take_time(&mut self) {
        self.until = None;
    }

    fn until(&self, span: Duration) -> Instant {
        self.until.unwrap_or_else(|| Instant::now() + span)
    }

    fn end_unless_at_rest(&mut self) {
        if !self.at_rest && self.store.engine != Engine::Memory {
            self.connection = None;
        }
    }
}

impl Drop for Lease<'_> {
    fn drop(&mut self) {
        self.at_rest &= !self.is_unfinished;
        self.end_unless_at_rest();
        if let Some(connection) = self.connection.take() {
            let connections = &self.lane.connections;
            connections
                .unclean
                .fetch_or(!self.at_rest, Ordering::Relaxed);
            connections.idle().push(connection);
        }
    }
}
