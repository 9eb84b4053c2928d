//! WatchRevocations: reports which sessions have ended before their expiry.

use std::fmt;
use std::sync::Arc;

use super::{Client, ClientError};
use crate::api::relying::v1 as pb;
use crate::base::secret::Secret;

/// A session to watch. AssumeRoleForWorkload must have issued the session to the caller, unless the caller has
/// permission to verify requests.
#[derive(Debug, Clone)]
pub struct WatchedSession {
    /// The id of the session's access key, `ASIA…`.
    pub access_key_id: String,
    /// The session token that belongs to the key.
    pub session_token: Arc<Secret<String>>,
}

/// A message of the stream: a heartbeat, or a report of sessions that have ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RevocationsSeen {
    /// The number of the last change that the message takes into account. Pass the highest one to the next
    /// stream.
    pub sequence_number: i64,
    /// The ids of the access keys whose sessions have ended. Empty in a heartbeat.
    pub ended_access_key_ids: Vec<String>,
}

/// An open stream of WatchRevocations. A message arrives at least every 5 seconds. A caller that gets none
/// for longer should open another stream.
pub struct RevocationWatch {
    client: Client,
    stream: tonic::Streaming<pb::WatchRevocationsResponse>,
}

impl fmt::Debug for RevocationWatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RevocationWatch({})", self.client.url)
    }
}

impl RevocationWatch {
    /// Waits for the next message. `None` if the broker ended the stream; a new one must then be opened.
    ///
    /// # Errors
    /// [`ClientError::Refused`] if the caller may not watch any more, [`ClientError::Unreachable`] if the
    /// connection was lost.
    pub async fn next(&mut self) -> Result<Option<RevocationsSeen>, ClientError> {
        let message = self.stream.message().await;
        let message = message.map_err(|status| self.client.failed(&status))?;
        Ok(message.map(|message| RevocationsSeen {
            sequence_number: message.sequence_number,
            ended_access_key_ids: message.ended_access_key_ids,
        }))
    }
}

impl Client {
    /// Calls WatchRevocations for 1 to 100 sessions. `after_sequence_number` is the highest
    /// [`RevocationsSeen::sequence_number`] of an earlier stream; `None` if there was no earlier stream.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn watch_revocations(
        &self,
        sessions: &[WatchedSession],
        after_sequence_number: Option<i64>,
    ) -> Result<RevocationWatch, ClientError> {
        let session = |session: &WatchedSession| pb::WatchedSession {
            access_key_id: session.access_key_id.clone(),
            session_token: session.session_token.expose().clone(),
        };
        let message = pb::WatchRevocationsRequest {
            sessions: sessions.iter().map(session).collect(),
            after_sequence_number,
        };
        let answer = self.relying.clone().watch_revocations(message).await;
        let stream = answer.map_err(|s| self.failed(&s))?.into_inner();
        Ok(RevocationWatch {
            client: self.clone(),
            stream,
        })
    }
}
