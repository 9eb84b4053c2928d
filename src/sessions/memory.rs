//! Session records in this process: bounded, and gone when they end.

use std::collections::{BTreeSet, HashMap};
use std::ops::Bound;
use std::sync::{Mutex, PoisonError};

use prost::Message;

use super::redis::member;
use super::{SessionId, SessionRecord, session_id};
use crate::clock::Timestamp;

/// How many ended records one insertion sweeps away at the most: its cost stays flat.
const SWEEP: usize = 4;

pub(super) struct MemorySessions {
    max_records: usize,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// Encoded: a third of the size of the decoded form.
    records: HashMap<SessionId, Box<[u8]>>,
    by_expiry: BTreeSet<(i64, SessionId)>,
}

impl MemorySessions {
    pub fn new(max_records: usize) -> Self {
        Self { max_records, state: Mutex::default() }
    }

    /// How many live records had to go to make room: those that end first.
    pub fn record(&self, record: &SessionRecord, now: Timestamp) -> u64 {
        let Ok(id) = SessionId::try_from(record.session_id.as_slice()) else { return 1 };
        let bytes = record.encode_to_vec().into_boxed_slice();
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.records.insert(id, bytes);
        state.by_expiry.insert((record.expires_at, id));
        let mut lost = 0;
        for _ in 0..SWEEP {
            let Some((expires_at, id)) = state.by_expiry.first().copied() else { break };
            let live = expires_at > now.seconds();
            if live && state.records.len() <= self.max_records {
                break;
            }
            lost += u64::from(live);
            state.by_expiry.remove(&(expires_at, id));
            state.records.remove(&id);
        }
        lost
    }

    /// As Redis's index names them: those behind the marker, in the order in which they end.
    pub fn list(&self, marker: &str, limit: usize, now: Timestamp) -> Vec<String> {
        let from =
            marker.split_once(':').and_then(|(at, id)| Some((i64::from_str_radix(at, 16).ok()?, session_id(id)?)));
        let start = from.map_or(Bound::Unbounded, Bound::Excluded);
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let live = state.by_expiry.range((start, Bound::Unbounded)).filter(|(at, _)| *at > now.seconds());
        live.take(limit).map(|(at, id)| member(*at, id)).collect()
    }

    pub fn find(&self, id: &SessionId) -> Option<SessionRecord> {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        SessionRecord::decode(state.records.get(id)?.as_ref()).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(n: u8, expires_at: i64) -> SessionRecord {
        SessionRecord { session_id: vec![n; 16], expires_at, ..SessionRecord::default() }
    }

    #[test]
    fn bounded_and_swept() {
        let sessions = MemorySessions::new(2);
        let now = Timestamp::from_seconds(100);
        assert_eq!(sessions.record(&record(1, 110), now), 0);
        assert_eq!(sessions.record(&record(2, 200), now), 0);
        // Full: the one that ends first goes, and is counted.
        assert_eq!(sessions.record(&record(3, 150), now), 1);
        assert!(sessions.find(&[1; 16]).is_none() && sessions.find(&[2; 16]).is_some());
        // An ended one makes room without loss.
        assert_eq!(sessions.record(&record(4, 300), Timestamp::from_seconds(160)), 0);
        assert!(sessions.find(&[3; 16]).is_none());
    }
}
