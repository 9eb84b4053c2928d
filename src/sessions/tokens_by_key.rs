//! The session tokens of live sessions, found by their access key ids, for servers that do not pass on the token of a
//! request. Nobody can use a token without the secret access key of its session, which is not kept here.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Mutex, PoisonError};

use crate::base::clock::Timestamp;
use crate::base::secret::Secret;

/// The maximum number of bytes of tokens and keys in memory. Beyond it, the tokens that expire first are dropped.
const MAX_BYTES: usize = 128 << 20;
/// The bytes that an entry takes besides its texts.
const OVERHEAD: usize = 192;

/// The tokens in the memory of this process, ordered by expiry and found by access key id.
#[derive(Default)]
pub(super) struct TokensByKey(Mutex<State>);

#[derive(Default)]
struct State {
    tokens: HashMap<Box<str>, (i64, Secret<String>)>,
    by_expiry: BTreeSet<(i64, Box<str>)>,
    bytes: usize,
}

impl State {
    fn remove(&mut self, key: &str) {
        if let Some((expires_at, token)) = self.tokens.remove(key) {
            self.by_expiry.remove(&(expires_at, key.into()));
            let weight = 2 * key.len() + token.expose().len() + OVERHEAD;
            self.bytes = self.bytes.saturating_sub(weight);
        }
    }

    fn remove_first(&mut self) -> bool {
        let first = self.by_expiry.first().map(|(_, key)| key.clone());
        if let Some(key) = &first {
            self.remove(key);
        }
        first.is_some()
    }
}

impl TokensByKey {
    /// Adds a token, which is kept until it expires. If two sessions have the same access key id, the later one
    /// replaces the earlier one, and requests with the earlier session are refused.
    pub fn add(&self, key: &str, token: &str, expires_at: i64, now: Timestamp) {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        while state
            .by_expiry
            .first()
            .is_some_and(|(at, _)| *at <= now.seconds())
        {
            state.remove_first();
        }
        state.remove(key);
        state.bytes += 2 * key.len() + token.len() + OVERHEAD;
        state.by_expiry.insert((expires_at, key.into()));
        let entry = (expires_at, Secret::new(token.to_owned()));
        state.tokens.insert(key.into(), entry);
        while state.bytes > MAX_BYTES && state.remove_first() {}
    }

    /// The token of the session with this access key id; `None` if it is not kept.
    pub fn find(&self, key: &str) -> Option<Secret<String>> {
        let state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (_, token) = state.tokens.get(key)?;
        Some(Secret::new(token.expose().clone()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_found_until_it_expires_and_the_newest_one_counts() {
        let tokens = TokensByKey::default();
        let at = Timestamp::from_seconds;
        tokens.add("ASIA1", "one", 100, at(10));
        tokens.add("ASIA2", "two", 200, at(10));
        assert_eq!(tokens.find("ASIA1").unwrap().expose(), "one");
        tokens.add("ASIA2", "other", 150, at(10));
        assert_eq!(tokens.find("ASIA2").unwrap().expose(), "other");
        tokens.add("ASIA3", "three", 300, at(100));
        assert!(tokens.find("ASIA1").is_none() && tokens.find("ASIA2").is_some());
        let state = tokens.0.lock().unwrap();
        assert_eq!((state.tokens.len(), state.by_expiry.len()), (2, 2));
    }
}
