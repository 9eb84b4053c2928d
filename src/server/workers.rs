//! The threads on which connections are served: one for each processor, each with a runtime of its own.
//!
//! A connection and its calls stay on one thread, so that threads need not pass calls to each other. All other work
//! runs elsewhere: the store's connections, the background tasks and the operators' endpoints on the runtime on which
//! the daemon was started, urgent work on its own thread.

use std::sync::Arc;
use std::thread;

use tokio::net::TcpStream;
use tokio::runtime::{Builder, Handle, Runtime};
use tokio::sync::oneshot;

use super::StartError;

/// How many workers there are: as many as processors that this process may use.
pub(super) fn count() -> usize {
    thread::available_parallelism().map_or(1, usize::from)
}

/// The workers of a daemon. When this is dropped they end, and with them the connections that they serve.
pub(super) struct Workers(Vec<Worker>);

struct Worker {
    runtime: Handle,
    /// Each connection of this worker holds a reference.
    connections: Arc<()>,
    /// The thread ends when this is dropped.
    _end: oneshot::Sender<()>,
}

impl Workers {
    /// Starts the threads.
    ///
    /// # Errors
    /// [`StartError::Thread`] if the system has no threads or file descriptors for them.
    pub(super) fn start() -> Result<Self, StartError> {
        let all: std::io::Result<_> = (0..count()).map(Worker::start).collect();
        all.map(Self).map_err(StartError::Thread)
    }

    /// Serves a connection on the worker that has the fewest. The system would choose by a hash of the addresses
    /// (`SO_REUSEPORT`), which gives few connections to few workers.
    pub(super) fn serve<F>(
        &self,
        stream: TcpStream,
        serve: impl FnOnce(TcpStream) -> F + Send + 'static,
    ) where
        F: Future<Output = ()> + Send + 'static,
    {
        let least = |worker: &&Worker| Arc::strong_count(&worker.connections);
        let (Some(worker), Ok(stream)) = (self.0.iter().min_by_key(least), stream.into_std())
        else {
            return;
        };
        let connection = worker.connections.clone();
        worker.runtime.spawn(async move {
            // The socket is watched by the runtime of its worker. An error closes the connection.
            match TcpStream::from_std(stream) {
                Ok(stream) => serve(stream).await,
                Err(error) => tracing::debug!(%error, "a connection could not be served"),
            }
            drop(connection);
        });
    }
}

impl Worker {
    fn start(number: usize) -> std::io::Result<Self> {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let handle = runtime.handle().clone();
        let (end, ended) = oneshot::channel();
        thread::Builder::new()
            .name(format!("brevet-{number}"))
            .spawn(move || run(runtime, ended))?;
        Ok(Self {
            runtime: handle,
            connections: Arc::default(),
            _end: end,
        })
    }
}

/// Runs the tasks of a runtime until it is told to end.
fn run(runtime: Runtime, ended: oneshot::Receiver<()>) {
    let _ = runtime.block_on(ended); // the sender is dropped, which is the signal
    // What blocks on other threads, such as a hash that is being computed, is not waited for.
    runtime.shutdown_background();
}
