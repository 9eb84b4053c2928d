//! Watches for sessions that end early. The broker reports within two seconds which of this node's sessions have
//! ended before their expiry, and the agent drops them.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicUsize, Ordering};
use std::time::Duration;

use tokio::task::{AbortHandle, Id, JoinSet};

use super::handouts::Handouts;
use super::metrics::Metrics;
use super::refresh;
use super::refusal::Refusal;
use super::source::{BrokerSource, FetchError, is_about_the_caller};
use crate::base::clock::Clock;
use crate::base::entropy::{self, Entropy};
use crate::client::{ClientError, RevocationWatch, WatchedSession};

/// The maximum number of sessions that one stream watches (`relying.proto`).
const PER_STREAM: usize = 100;
/// The maximum number of streams. If new sessions would need more, the agent closes all streams, and opens as few as
/// possible for all sessions. The broker allows a node 32.
const MOST_STREAMS: usize = 16;
/// A stream without a message for this long is dead, because a heartbeat arrives every 5 seconds.
const SILENCE: Duration = Duration::from_secs(12);
/// New sessions are collected for this long before they are watched.
const GATHER: Duration = Duration::from_millis(300);
/// After this many attempts that the broker could not serve, the agent no longer insists on a broker that knows the
/// last change it has seen: a store that was restored from a backup may never reach that number.
const INSISTENCE: u32 = 3;

/// Watches the sessions that an agent holds.
pub struct Watch {
    pub handouts: Arc<Handouts>,
    pub source: Arc<BrokerSource>,
    pub clock: Arc<dyn Clock>,
    pub entropy: Arc<dyn Entropy>,
    pub metrics: Arc<Metrics>,
    /// The number of the last change of the broker's feed that the agent has applied; negative if there is none.
    pub seen: Arc<AtomicI64>,
    pub state: State,
}

/// The state of the streams, for the metric and for [`Watch::run`].
#[derive(Default)]
pub struct State {
    /// How many streams are needed to watch all sessions.
    wanted: AtomicUsize,
    heard: AtomicUsize,
    /// Whether sessions may have been revoked without this agent knowing: because they were kept over a restart, or
    /// because the broker has refused to continue a stream.
    in_doubt: AtomicBool,
}

/// The streams that are open, with the access keys of the sessions that each of them watches.
#[derive(Default)]
struct Streams {
    tasks: JoinSet<Ended>,
    open: HashMap<Id, (AbortHandle, HashSet<String>)>,
}

/// How a stream ended.
struct Ended {
    /// Whether the broker sent any message on the stream.
    was_heard: bool,
    /// `Ok` if the broker ended the stream regularly.
    result: Result<(), FetchError>,
}

impl Streams {
    fn close(&mut self, id: Id) {
        if let Some((task, _)) = self.open.remove(&id) {
            task.abort();
        }
    }

    fn close_all(&mut self) {
        for (_, (task, _)) in self.open.drain() {
            task.abort();
        }
    }

    /// Closes the streams that watch no session which is still held. Returns the held sessions that no stream watches.
    /// If these need more streams than are allowed, closes all streams and returns all held sessions.
    fn unwatched(&mut self, held: Vec<WatchedSession>) -> Vec<WatchedSession> {
        let ids: HashSet<&str> = held.iter().map(|s| s.access_key_id.as_str()).collect();
        let is_useless = |keys: &HashSet<String>| !keys.iter().any(|key| ids.contains(&**key));
        let useless: Vec<Id> = self
            .open
            .iter()
            .filter(|(_, (_, keys))| is_useless(keys))
            .map(|(id, _)| *id)
            .collect();
        for id in useless {
            self.close(id);
        }
        let is_watched = |session: &WatchedSession| {
            let mut streams = self.open.values();
            streams.any(|(_, keys)| keys.contains(&session.access_key_id))
        };
        let (watched, new): (Vec<_>, Vec<_>) = held.into_iter().partition(is_watched);
        if self.open.len() + new.len().div_ceil(PER_STREAM) <= MOST_STREAMS {
            return new;
        }
        self.close_all();
        [watched, new].concat()
    }

    /// Waits for the next stream that ends by itself. Streams that were closed on purpose are skipped. `None` if no
    /// stream is open.
    async fn ended(&mut self) -> Option<Ended> {
        loop {
            match self.tasks.join_next_with_id().await? {
                Ok((id, ended)) if self.open.remove(&id).is_some() => return Some(ended),
                Err(error) if self.open.remove(&error.id()).is_some() => {
                    let text = format!("the task of a stream failed: {error}");
                    let result = Err(FetchError::Bug(text));
                    let was_heard = false;
                    return Some(Ended { was_heard, result });
                }
                _ => {}
            }
        }
    }
}

impl Watch {
    /// Watches until the agent ends. Each session is watched by one of the streams, and a stream that ends is opened
    /// again. The first message of a stream lists the sessions that have ended in the meantime.
    pub async fn run(self: Arc<Self>) {
        let mut changed = self.handouts.changes();
        let mut streams = Streams::default();
        let mut failures = 0;
        let is_restored = self.handouts.holds_restored();
        self.state.in_doubt.store(is_restored, Ordering::Relaxed);
        loop {
            changed.borrow_and_update();
            let new = streams.unwatched(self.handouts.watchable());
            for part in new.chunks(PER_STREAM) {
                let keys = part.iter().map(|s| s.access_key_id.clone()).collect();
                let (watch, part) = (self.clone(), part.to_vec());
                let task = streams
                    .tasks
                    .spawn(async move { watch.stream(&part).await });
                streams.open.insert(task.id(), (task, keys));
            }
            self.show(streams.open.len());
            if streams.open.is_empty() {
                // The sender lives as long as the sessions, which this task holds.
                let _ = changed.changed().await;
                continue;
            }
            let ended = tokio::select! {
                ended = streams.ended() => ended,
                _ = changed.changed() => None,
            };
            let Some(ended) = ended else {
                tokio::time::sleep(GATHER).await;
                continue;
            };
            let Err(error) = ended.result else {
                failures = 0;
                continue;
            };
            self.show(streams.open.len() + 1);
            failures = if ended.was_heard { 1 } else { failures + 1 };
            let text = error.to_string();
            let is_own = matches!(&error, FetchError::Client(ClientError::Refused { code, .. }) if is_about_the_caller(code));
            if is_own {
                // The node's own session is over; the next stream begins with a new one.
                self.source.forget_session().await;
            }
            let mut is_first = false;
            match Refusal::from(error) {
                Refusal::Denied { .. } if ended.was_heard => {
                    // Perhaps only the node's own session was over, so it is tried again at once.
                    tracing::info!(
                        error = text,
                        "the broker has closed the stream of ended sessions; the agent opens a new one at once"
                    );
                    self.state.in_doubt.store(true, Ordering::Relaxed);
                    streams.close_all();
                    continue;
                }
                // If this node is not accepted any more, its sessions have ended, and a renewal is refused.
                Refusal::Denied { .. } if self.state.in_doubt.swap(false, Ordering::Relaxed) => {
                    self.handouts.renew_all();
                }
                Refusal::Unavailable { .. } if failures >= INSISTENCE => {
                    self.seen.store(-1, Ordering::Relaxed);
                }
                Refusal::Unavailable { .. } => is_first = failures == 1,
                Refusal::Denied { .. } => {}
            }
            let now = self.clock.now();
            let random = entropy::bytes::<2>(&*self.entropy).map_or(0, u16::from_be_bytes);
            let again_at = match is_first {
                true => refresh::reopen_at(now, random),
                false => refresh::retry_at(now, failures, true, random),
            };
            let pause = again_at.since(now);
            tracing::warn!(
                error = text,
                ?pause,
                "the stream of ended sessions from the broker failed or could not be opened; the agent tries again \
                 after the pause, and until then does not notice if the broker ends one of its sessions"
            );
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                _ = changed.changed() => {}
            }
        }
    }

    /// Updates the metric that shows whether every session is watched.
    fn show(&self, wanted: usize) {
        self.state.wanted.store(wanted, Ordering::Relaxed);
        let heard = self.state.heard.load(Ordering::Relaxed);
        let is_up = wanted > 0 && heard >= wanted;
        self.metrics.watch_up.set(i64::from(is_up));
    }

    /// Opens one stream for these sessions, and applies its messages until it ends.
    async fn stream(&self, sessions: &[WatchedSession]) -> Ended {
        let mut heard = None;
        let result = self.follow(sessions, &mut heard).await;
        Ended {
            was_heard: heard.is_some(),
            result,
        }
    }

    async fn follow<'w>(
        &'w self,
        sessions: &[WatchedSession],
        heard: &mut Option<Heard<'w>>,
    ) -> Result<(), FetchError> {
        let after = Some(self.seen.load(Ordering::Relaxed)).filter(|seen| *seen >= 0);
        let client = self.source.client().await?;
        let mut stream: RevocationWatch = client.watch_revocations(sessions, after).await?;
        loop {
            let message = tokio::time::timeout(SILENCE, stream.next()).await;
            let message = message.map_err(|_| {
                FetchError::Client(ClientError::Unreachable {
                    url: self.source.url().to_owned(),
                    reason: format!(
                        "the broker sent nothing on the stream of ended sessions for {} s",
                        SILENCE.as_secs()
                    ),
                })
            })?;
            let Some(seen) = message? else {
                return Ok(());
            };
            if heard.is_none() {
                *heard = Some(Heard::new(self));
            }
            self.seen.fetch_max(seen.sequence_number, Ordering::Relaxed);
            self.handouts.ended(&seen.ended_access_key_ids);
        }
    }
}

/// Counts a stream from its first message until it ends.
struct Heard<'w>(&'w Watch);

impl<'w> Heard<'w> {
    fn new(watch: &'w Watch) -> Self {
        watch.state.heard.fetch_add(1, Ordering::Relaxed);
        watch.state.in_doubt.store(false, Ordering::Relaxed);
        watch.show(watch.state.wanted.load(Ordering::Relaxed));
        Self(watch)
    }
}

impl Drop for Heard<'_> {
    fn drop(&mut self) {
        self.0.state.heard.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::secret::Secret;

    fn session(number: usize) -> WatchedSession {
        WatchedSession {
            access_key_id: format!("ASIA{number}"),
            session_token: Arc::new(Secret::new(String::new())),
        }
    }

    fn open(streams: &mut Streams, sessions: &[WatchedSession]) {
        for part in sessions.chunks(PER_STREAM) {
            let keys = part.iter().map(|s| s.access_key_id.clone()).collect();
            let task = streams.tasks.spawn(std::future::pending());
            streams.open.insert(task.id(), (task, keys));
        }
    }

    #[tokio::test]
    async fn a_new_session_opens_one_stream_and_leaves_the_others_alone() {
        let mut streams = Streams::default();
        let mut held: Vec<_> = (0..250).map(session).collect();
        let new = streams.unwatched(held.clone());
        assert_eq!(new.len(), 250);
        open(&mut streams, &new);
        assert_eq!(streams.open.len(), 3);
        assert!(streams.unwatched(held.clone()).is_empty());
        let mut opened = 0;
        for number in 250..450 {
            held.push(session(number));
            let new = streams.unwatched(held.clone());
            opened += new.len().div_ceil(PER_STREAM);
            open(&mut streams, &new);
            assert!(streams.open.len() <= MOST_STREAMS);
        }
        // Each new session needs a stream, and now and then all are put together.
        assert!(opened < 200 * 2, "{opened}");
        // Nothing is held any more: nothing is open.
        assert!(streams.unwatched(Vec::new()).is_empty() && streams.open.is_empty());
    }

    #[tokio::test]
    async fn a_stream_that_was_closed_is_not_one_that_has_ended() {
        let mut streams = Streams::default();
        open(&mut streams, &[session(1)]);
        streams.close_all();
        let task = streams.tasks.spawn(async {
            Ended {
                was_heard: true,
                result: Ok(()),
            }
        });
        streams.open.insert(task.id(), (task, HashSet::new()));
        assert!(streams.ended().await.is_some_and(|ended| ended.was_heard));
        // A stream whose task panics has ended, too, and that says nothing about the agent's identity.
        async fn panics() -> Ended {
            panic!("on purpose")
        }
        let task = streams.tasks.spawn(panics());
        streams.open.insert(task.id(), (task, HashSet::new()));
        let failed = streams.ended().await.unwrap().result;
        assert!(matches!(failed, Err(FetchError::Bug(_))), "{failed:?}");
        assert!(streams.ended().await.is_none());
    }
}
