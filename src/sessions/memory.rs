//! Keeps session records in the memory of this process, with limits of their number and their bytes. Records of
//! sessions that have ended are deleted.

use std::collections::{BTreeSet, HashMap};
use std::ops::Bound;
use std::sync::{Mutex, PoisonError};

use prost::Message;

use super::record::member;
use super::{SessionId, SessionRecord, session_id};
use crate::base::clock::Timestamp;

/// The maximum number of ended records that one insertion deletes, so that every insertion costs about the same.
const SWEEP: usize = 4;
/// The bytes that a record takes besides its encoding: its places in both tables and the allocator's
/// overhead.
const OVERHEAD_BYTES: usize = 128;
/// The additional bytes of the record of a session that came from a sign-in: its place in the table of
/// sign-ins.
const SIGN_IN_BYTES: usize = 300;

/// The limits of the records in memory. Beyond them, the records that end first are dropped.
#[derive(Debug, Clone, Copy)]
pub struct Bounds {
    pub max_records: usize,
    /// The maximum size of all records in bytes, including the tables that index them.
    pub max_bytes: usize,
}

impl Default for Bounds {
    fn default() -> Self {
        Self {
            max_records: 1_000_000,
            max_bytes: 256 << 20,
        }
    }
}

pub(super) struct MemorySessions {
    bounds: Bounds,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// Encoded records, which take a third of the space of decoded ones.
    records: HashMap<SessionId, Box<[u8]>>,
    by_expiry: BTreeSet<(i64, SessionId)>,
    /// The records of the sessions that came from each sign-in, ordered by expiry.
    by_sign_in: HashMap<SessionId, BTreeSet<(i64, SessionId)>>,
    bytes: usize,
}

impl State {
    fn remove_first(&mut self) -> Option<i64> {
        let (expires_at, id) = self.by_expiry.pop_first()?;
        if let Some(record) = self.records.remove(&id) {
            self.release(id, &record);
        }
        Some(expires_at)
    }

    /// Releases the bytes and the places in the tables that a removed record has taken.
    fn release(&mut self, id: SessionId, record: &[u8]) {
        let mut weight = record.len() + OVERHEAD_BYTES;
        if !self.by_sign_in.is_empty()
            && let Ok(record) = SessionRecord::decode(record)
            && let Some(sign_in) = record.sign_in()
        {
            weight += SIGN_IN_BYTES;
            if let Some(own) = self.by_sign_in.get_mut(&sign_in) {
                own.remove(&(record.expires_at, id));
                if own.is_empty() {
                    self.by_sign_in.remove(&sign_in);
                }
            }
        }
        self.bytes = self.bytes.saturating_sub(weight);
    }
}

impl MemorySessions {
    pub fn new(bounds: Bounds) -> Self {
        Self {
            bounds,
            state: Mutex::default(),
        }
    }

    /// Adds a record. Returns how many live records are lost: those that were dropped to make room, beginning with
    /// those that end first, or the new record if it is larger than the limit of all records.
    pub fn record(&self, record: &SessionRecord, now: Timestamp) -> u64 {
        let Ok(id) = SessionId::try_from(record.session_id.as_slice()) else {
            return 1;
        };
        let bytes = record.encode_to_vec().into_boxed_slice();
        let sign_in = record.sign_in();
        let weight = bytes.len() + OVERHEAD_BYTES + sign_in.map_or(0, |_| SIGN_IN_BYTES);
        if weight > self.bounds.max_bytes {
            return 1;
        }
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.bytes += weight;
        if let Some(replaced) = state.records.insert(id, bytes) {
            state.release(id, &replaced);
        }
        state.by_expiry.insert((record.expires_at, id));
        if let Some(sign_in) = sign_in {
            let own = state.by_sign_in.entry(sign_in).or_default();
            own.insert((record.expires_at, id));
        }
        let ended = |state: &State| {
            state
                .by_expiry
                .first()
                .is_some_and(|(at, _)| *at <= now.seconds())
        };
        for _ in 0..SWEEP {
            if !ended(&state) {
                break;
            }
            state.remove_first();
        }
        let mut lost = 0;
        while state.records.len() > self.bounds.max_records || state.bytes > self.bounds.max_bytes {
            let Some(expires_at) = state.remove_first() else {
                break;
            };
            lost += u64::from(expires_at > now.seconds());
        }
        lost
    }

    /// Lists at most `limit` records after the marker, ordered by expiry. They are the records of all sessions, or of
    /// the sessions that came from the sign-in `of`. Each is returned with its name `EXPIRY:ID`, as in the index in
    /// Redis.
    pub fn list(
        &self,
        of: Option<&SessionId>,
        marker: &str,
        limit: usize,
        now: Timestamp,
    ) -> Vec<String> {
        let from = marker
            .split_once(':')
            .and_then(|(at, id)| Some((i64::from_str_radix(at, 16).ok()?, session_id(id)?)));
        let start = from.map_or(Bound::Unbounded, Bound::Excluded);
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let places = match of {
            None => Some(&state.by_expiry),
            Some(sign_in) => state.by_sign_in.get(sign_in),
        };
        let places = places.into_iter();
        let live = places
            .flat_map(|places| places.range((start, Bound::Unbounded)))
            .filter(|(at, _)| *at > now.seconds());
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
    use crate::session::token::Ancestor;

    fn record(n: u8, expires_at: i64) -> SessionRecord {
        SessionRecord {
            session_id: vec![n; 16],
            expires_at,
            ..SessionRecord::default()
        }
    }

    fn sessions(max_records: usize, max_bytes: usize) -> MemorySessions {
        MemorySessions::new(Bounds {
            max_records,
            max_bytes,
        })
    }

    #[test]
    fn sessions_are_found_by_their_sign_in_until_they_end() {
        let sessions = sessions(3, usize::MAX);
        let now = Timestamp::from_seconds(100);
        let of = |id: u8, access_key_id: &str| Ancestor {
            session_id: vec![id; 16],
            access_key_id: access_key_id.to_owned(),
            ..Ancestor::default()
        };
        for (n, ancestors) in [
            (1, vec![of(70, "password of arn"), of(71, "ASIA")]),
            (2, vec![of(71, "ASIA")]),
            (3, vec![of(70, "")]),
        ] {
            let record = SessionRecord {
                ancestors,
                ..record(n, 100 + i64::from(n))
            };
            sessions.record(&record, now);
        }
        let of_sign_in = |id: u8, at: i64| {
            let listed = sessions.list(Some(&[id; 16]), "", 10, Timestamp::from_seconds(at));
            listed.len()
        };
        assert_eq!((of_sign_in(70, 100), of_sign_in(71, 100)), (2, 0));
        assert_eq!((of_sign_in(70, 101), of_sign_in(70, 103)), (1, 0));
        // What ends takes its place along.
        for n in 10..13 {
            sessions.record(&record(n, 300), Timestamp::from_seconds(200));
        }
        let state = sessions.state.lock().unwrap();
        let held: usize = state
            .records
            .values()
            .map(|r| r.len() + OVERHEAD_BYTES)
            .sum();
        assert_eq!((state.by_sign_in.len(), state.bytes), (0, held));
    }

    #[test]
    fn bounded_and_swept() {
        let sessions = sessions(2, usize::MAX);
        let now = Timestamp::from_seconds(100);
        assert_eq!(sessions.record(&record(1, 110), now), 0);
        assert_eq!(sessions.record(&record(2, 200), now), 0);
        // When there is no room, the record that ends first is dropped, and counted.
        assert_eq!(sessions.record(&record(3, 150), now), 1);
        assert!(sessions.find(&[1; 16]).is_none() && sessions.find(&[2; 16]).is_some());
        // A record that has ended makes room without loss.
        assert_eq!(
            sessions.record(&record(4, 300), Timestamp::from_seconds(160)),
            0
        );
        assert!(sessions.find(&[3; 16]).is_none());
    }

    #[test]
    fn large_records_push_out_those_that_end_first() {
        let sessions = sessions(1_000, 4_096);
        let now = Timestamp::from_seconds(100);
        let weighing = |n: u8, bytes: usize| SessionRecord {
            session_name: "x".repeat(bytes),
            ..record(n, 200 + i64::from(n))
        };
        let lost: u64 = (0..20)
            .map(|n| sessions.record(&weighing(n, 50), now))
            .sum();
        assert_eq!((lost, sessions.find(&[0; 16]).is_some()), (0, true));
        let lost = sessions.record(&weighing(20, 2_000), now);
        assert!((5..20).contains(&lost), "{lost}");
        assert!(sessions.find(&[0; 16]).is_none() && sessions.find(&[19; 16]).is_some());
        // A record that can never fit is not kept but counted, and no other record is dropped for it.
        assert_eq!(sessions.record(&weighing(21, 5_000), now), 1);
        assert!(sessions.find(&[21; 16]).is_none() && sessions.find(&[20; 16]).is_some());
        let state = sessions.state.lock().unwrap();
        let held: usize = state
            .records
            .values()
            .map(|r| r.len() + OVERHEAD_BYTES)
            .sum();
        assert_eq!(
            (state.bytes, state.by_expiry.len()),
            (held, state.records.len())
        );
    }
}
