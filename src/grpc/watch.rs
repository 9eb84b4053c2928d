//! The stream of WatchRevocations: when it sends a message, and when it ends.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::Response;
use tokio::sync::watch;
use tokio::time::Instant;
use tonic::Status;
use tonic::body::Body;

use super::call::Call;
use super::framing;
use super::status::failure;
use crate::api::relying::v1 as pb;
use crate::broker::Broker;
use crate::directory::Directory;
use crate::error::Error;
use crate::ops::relying::watch_revocations::{WatchRevocations, Watching};

/// The interval at which the stream checks the position in the feed.
const LOOK_EVERY: Duration = Duration::from_millis(250);
/// The maximum time between two messages.
const HEARTBEAT: Duration = Duration::from_secs(5);
/// How long a stream lasts at most. The client then opens a new one.
const LONGEST: Duration = Duration::from_secs(3_600);

/// Answers a call of WatchRevocations with a stream. It ends when `stop` becomes true, when the caller would be
/// refused, and after [`LONGEST`].
pub(super) async fn answer(call: Call, stop: watch::Receiver<bool>) -> Response<Body> {
    let broker = call.broker().clone();
    let read = |message: pb::WatchRevocationsRequest| {
        let sessions = message.sessions.into_iter();
        let sessions = sessions.map(|s| (s.access_key_id, s.session_token));
        WatchRevocations::parse(sessions.collect(), message.after_sequence_number)
    };
    let reply = call.serve(read).await;
    let watching = match reply.result {
        Ok(watching) => watching,
        Err(error) => return failure(&reply.request_id, &error).into_http(),
    };
    let stream = Stream {
        broker,
        watching,
        stop,
        request_id: reply.request_id.clone(),
        seen: None,
        ends_at: Instant::now() + LONGEST,
    };
    let messages = futures_util::stream::try_unfold(stream, Stream::next);
    framing::stream(messages, reply.request_id)
}

/// Waits until the broker is told to stop, or has ended.
async fn stopped(stop: &mut watch::Receiver<bool>) {
    let _ = stop.wait_for(|stop| *stop).await; // an error means that the sender is gone
}

struct Stream {
    broker: Arc<Broker>,
    watching: Watching,
    stop: watch::Receiver<bool>,
    request_id: String,
    /// The position in the feed and the directory when they were last checked.
    seen: Option<(i64, Arc<Directory>)>,
    ends_at: Instant,
}

impl Stream {
    /// Waits for the next message. Nothing is queued for a client that does not read: sessions that
    /// ended in the meantime are in the message that it reads next.
    async fn next(mut self) -> Result<Option<(Bytes, Self)>, Status> {
        let heartbeat_at = Instant::now() + HEARTBEAT;
        loop {
            let is_heartbeat = Instant::now() >= heartbeat_at;
            let is_due = self.seen.as_ref().is_none_or(|(sequence, directory)| {
                Watching::may_have_ended(&self.broker, *sequence, directory)
            });
            if is_due || is_heartbeat {
                let looked = self.watching.look(&self.broker);
                let (seen, directory) = looked.map_err(|error| self.failure(&error))?;
                let is_first = self.seen.replace((seen.sequence, directory)).is_none();
                if is_first || is_heartbeat || !seen.ended.is_empty() {
                    let message = pb::WatchRevocationsResponse {
                        sequence_number: seen.sequence,
                        ended_access_key_ids: seen.ended,
                    };
                    return Ok(Some((framing::frame(&message), self)));
                }
            }
            if Instant::now() >= self.ends_at {
                return Ok(None);
            }
            let is_stopped = tokio::select! {
                () = tokio::time::sleep(LOOK_EVERY) => false,
                () = stopped(&mut self.stop) => true,
            };
            if is_stopped {
                let error = Error::ServiceUnavailable("this broker, which is stopping,");
                return Err(self.failure(&error));
            }
        }
    }

    fn failure(&self, error: &Error) -> Status {
        failure(&self.request_id, error)
    }
}
