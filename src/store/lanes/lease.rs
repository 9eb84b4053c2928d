//! A connection while something is asked of it: with a deadline, and thrown away when it was left in the
//! middle of something.

use std::sync::atomic::Ordering;
use std::time::Duration;

use sqlx::{AnyConnection, ConnectOptions};
use tokio::sync::{MutexGuard, SemaphorePermit};
use tokio::time::{Instant, timeout_at};

use super::{Lane, Purpose};
use crate::store::classify::classify;
use crate::store::{BoxFuture, DEADLINE, Engine, Store, StoreError, address, sqlite};

/// What PostgreSQL itself gives up: a transaction whose client does nothing (a broker that was stopped
/// must not keep the others from writing)…
const POSTGRES_IDLE: &str = "SET idle_in_transaction_session_timeout = '10s'";
/// … and waiting for a lock when its client has given up too.
const POSTGRES_LOCK: &str = "SET lock_timeout = '2s'";

/// What PostgreSQL says of who asks and of what is asked goes by nobody's settings: names are those of the
/// schema that holds the store, and of PostgreSQL's own; no row is left out by row security, but the question
/// fails; and what was committed is on stable storage, also where the server or the role says otherwise.
const POSTGRES_OWN: &str = "SELECT pg_catalog.set_config('search_path', \
    pg_catalog.quote_ident(pg_catalog.current_schema()), false); \
    SET row_security = off; \
    SELECT pg_catalog.set_config('synchronous_commit', 'on', false) \
    WHERE pg_catalog.current_setting('synchronous_commit') IN ('off', 'local')";

/// A connection, for as long as it is needed. It goes back when all that was asked of it went well.
pub(in crate::parts::store) struct Lease<'s> {
    store: &'s Store,
    lane: &'s Lane,
    /// None once something went wrong with it.
    connection: Option<AnyConnection>,
    /// By when everything must be done; none: each statement has a deadline of its own.
    until: Option<Instant>,
    /// Whether no statement is under way on the connection.
    at_rest: bool,
    /// Whether a transaction, or anything else of several statements, is not at its end.
    is_unfinished: bool,
    /// Whether the connection had been idle, and may have ended meanwhile.
    was_idle: bool,
    _turn: Option<MutexGuard<'s, ()>>,
    _permit: SemaphorePermit<'s>,
}

impl Store {
    /// A connection for a purpose, at the latest after the purpose's longest wait.
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
            // Without a transaction to end this is an error that says nothing.
            let _ = lease
                .ask(DEADLINE, |c| {
                    Box::pin(async move { sqlx::raw_sql("ROLLBACK").execute(c).await })
                })
                .await;
        }
        Ok(lease)
    }

    /// As [`Store::lease`], for a change: on SQLite it then is this process's turn to write.
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
        let connected = self.options.connect().await;
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
                    // What is lost in a crash, this node's report, is said again at once.
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
    /// Asks for something on the connection. What the database itself refuses leaves the connection
    /// as it was; after anything else that goes wrong it is thrown away.
    pub async fn ask<T>(
        &mut self,
        statement: Duration,
        work: impl for<'c> FnOnce(&'c mut AnyConnection) -> BoxFuture<'c, Result<T, sqlx::Error>>,
    ) -> Result<T, StoreError> {
        let until = self.until(statement);
        let connection = self.connection.as_mut();
        let connection = connection
            .ok_or_else(|| StoreError::Unavailable("the connection was lost".to_owned()))?;
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
                    // The others have ended with it, most likely.
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

    /// Begins a transaction, or anything else of several statements: if the lease ends before
    /// [`Lease::finish`], the connection is thrown away.
    pub fn begin(&mut self) {
        self.is_unfinished = true;
    }

    /// The work that was begun is at its end.
    pub fn finish(&mut self) {
        self.is_unfinished = false;
    }

    /// The connection itself, for work that `ask` cannot do: it is begun with this.
    pub fn raw(&mut self) -> Result<&mut AnyConnection, StoreError> {
        self.begin();
        self.connection
            .as_mut()
            .ok_or_else(|| StoreError::Unavailable("the connection was lost".to_owned()))
    }

    /// Whether an error says no more than that the connection had ended while it was idle: nothing
    /// was done, if this was the first that was asked of it.
    pub fn had_ended(&self, error: &StoreError) -> bool {
        self.was_idle && matches!(error, StoreError::Disconnected(_))
    }

    /// Gives each statement from here on a deadline of its own.
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
