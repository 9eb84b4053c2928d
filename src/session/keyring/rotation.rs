//! Adds, rotates and removes keys. A rotation publishes the key that will be used next, and keeps the previous keys
//! until everything that they sealed or signed has expired. [`Keyring::without`] removes keys at once.

use std::collections::BTreeSet;
use std::time::Duration;

use super::{Keyring, KeyringError, MAX_KEYS, MAX_RETIRED, SessionKey, content, text_id};
use crate::base::clock::Timestamp;
use crate::base::entropy::{self, Entropy, NoEntropy};
use crate::base::secret::Secret;
use crate::session::durations;
use crate::session::key_state::KeyState;
use crate::session::signing_key::{Algorithm, SigningKey};

/// How long a previous key of web identity tokens is still published: the longest lifetime of a
/// token, and a day for services that seldom fetch the keys.
const PUBLISHED: Duration = Duration::from_secs(90_000);

impl Keyring {
    /// Adds a current and a next key of web identity tokens for each of these algorithms that has no usable current
    /// key.
    ///
    /// # Errors
    /// [`KeyringError::Entropy`] if there are no random bytes.
    pub fn with_signing_keys(
        mut self,
        algorithms: &[Algorithm],
        entropy: &dyn Entropy,
        now: Timestamp,
    ) -> Result<Self, KeyringError> {
        for algorithm in algorithms
            .iter()
            .filter(|a| self.signing_key(**a).is_none())
            .copied()
            .collect::<Vec<_>>()
        {
            for state in [KeyState::Current, KeyState::Next] {
                self.web_identity
                    .push(signing_key(algorithm, state, entropy, now)?);
            }
        }
        Ok(self)
    }

    /// Makes the next key the current one and the current key a previous one, and adds a new next key. Removes previous
    /// keys whose sessions have all ended. Rotates the keys of web identity tokens in the same way, and adds those that
    /// are missing.
    ///
    /// # Errors
    /// [`KeyringError::Content`] if there is no next key, because other brokers could not open the tokens of a key that
    /// was never published; if there would be too many keys, or if the random id of the new key is taken.
    /// [`KeyringError::Entropy`] if there are no random bytes.
    pub fn rotate(mut self, entropy: &dyn Entropy, now: Timestamp) -> Result<Self, KeyringError> {
        let before = self.ids();
        let next = self.keys.iter().position(|k| k.state == KeyState::Next);
        let next = next.ok_or_else(|| {
            content("Keys: no key has the State `next`, so there is no published key that a rotation could put into \
                use; copy the keyring file of a broker that has one, or run `brevet keyring revoke` with the id of the \
                current key, which ends its sessions and makes a new current and a new next key")
        })?;
        for (i, key) in self.keys.iter_mut().enumerate() {
            if i == next || key.state == KeyState::Current {
                key.state = if i == next {
                    KeyState::Current
                } else {
                    KeyState::Previous
                };
                key.since = now;
            }
        }
        let fresh = self.fresh(KeyState::Next, entropy, now)?;
        self.keys.push(fresh);
        self.keys
            .retain(|k| k.state != KeyState::Previous || now.since(k.since) <= durations::MAX);
        if self.keys.len() > MAX_KEYS {
            let oldest = self.keys.iter().map(|key| key.since).min().unwrap_or(now);
            return Err(content(format!(
                "Keys: there would be more than {MAX_KEYS} keys, because sessions of the previous ones \
                 last until {}; rotate again after that",
                oldest.plus(durations::MAX)
            )));
        }
        self.current = self
            .keys
            .iter()
            .position(|k| k.state == KeyState::Current)
            .unwrap_or_default();
        for algorithm in Algorithm::ALL {
            for key in self
                .web_identity
                .iter_mut()
                .filter(|k| k.algorithm() == algorithm)
            {
                let state = match key.state {
                    KeyState::Next => KeyState::Current,
                    KeyState::Current | KeyState::Previous => KeyState::Previous,
                };
                if state != key.state {
                    (key.state, key.since) = (state, now);
                }
            }
            if self.signing_key(algorithm).is_some() {
                self.web_identity
                    .push(signing_key(algorithm, KeyState::Next, entropy, now)?);
            }
        }
        self.web_identity
            .retain(|k| k.state != KeyState::Previous || now.since(k.since) <= PUBLISHED);
        let after = self.ids();
        self.retired.extend(before.difference(&after).cloned());
        let excess = self.retired.len().saturating_sub(MAX_RETIRED);
        self.retired.drain(..excess);
        // A keyring of an earlier version may lack keys for some algorithms, and certificates.
        let certified = self.web_identity.into_iter().map(SigningKey::certified);
        self.web_identity = certified
            .collect::<Result<_, _>>()
            .map_err(|error| content(format!("WebIdentityKeys: {error}")))?;
        self.with_signing_keys(&Algorithm::ALL, entropy, now)
    }

    /// The shortest time between two rotations of the keys of web identity tokens, as far as the keys in the keyring
    /// show it. `None` if they show only one rotation.
    pub fn rotated_every(&self) -> Option<Duration> {
        let of_one = |algorithm: Algorithm| {
            let keys = self.web_identity.iter();
            let keys = keys.filter(move |k| k.algorithm() == algorithm);
            let times: BTreeSet<Timestamp> = keys.map(|k| k.since).collect();
            let times: Vec<Timestamp> = times.into_iter().collect();
            times
                .windows(2)
                .filter_map(|pair| match pair {
                    [earlier, later] => Some(later.since(*earlier)),
                    _ => None,
                })
                .min()
        };
        Algorithm::ALL.into_iter().filter_map(of_one).min()
    }

    pub(super) fn fresh(
        &self,
        state: KeyState,
        entropy: &dyn Entropy,
        now: Timestamp,
    ) -> Result<SessionKey, KeyringError> {
        let id = u32::from_be_bytes(entropy::bytes(entropy)?);
        if self.keys.iter().any(|k| k.id == id) {
            return Err(content(
                "the id of the new key is already taken; run the command again",
            ));
        }
        let raw = [
            entropy::bytes(entropy)?,
            entropy::bytes(entropy)?,
            entropy::bytes(entropy)?,
        ];
        SessionKey::new(id, state, now, Secret::new(raw))
    }

    /// Removes keys. If the current key is removed, the next key becomes current; missing keys are made anew.
    ///
    /// # Errors
    /// [`KeyringError::Entropy`] if there are no random bytes.
    pub fn without(
        mut self,
        ids: &BTreeSet<String>,
        entropy: &dyn Entropy,
        now: Timestamp,
    ) -> Result<Self, KeyringError> {
        self.keys.retain(|k| !ids.contains(&text_id(k.id)));
        for state in [KeyState::Current, KeyState::Next] {
            if self.keys.iter().any(|k| k.state == state) {
                continue;
            }
            match self.keys.iter_mut().find(|k| k.state == KeyState::Next) {
                Some(next) if state == KeyState::Current => (next.state, next.since) = (state, now),
                _ => {
                    let key = self.fresh(state, entropy, now)?;
                    self.keys.push(key);
                }
            }
        }
        self.current = self
            .keys
            .iter()
            .position(|k| k.state == KeyState::Current)
            .unwrap_or_default();
        let algorithms: BTreeSet<_> = self
            .web_identity
            .iter()
            .map(|k| k.algorithm().name())
            .collect();
        self.web_identity
            .retain(|k| !ids.contains(&k.id().to_ascii_lowercase()));
        for algorithm in algorithms.into_iter().filter_map(Algorithm::parse) {
            for state in [KeyState::Current, KeyState::Next] {
                let mut own = self
                    .web_identity
                    .iter_mut()
                    .filter(|k| k.algorithm() == algorithm);
                if own.any(|k| k.state == state) {
                    continue;
                }
                let mut own = self
                    .web_identity
                    .iter_mut()
                    .filter(|k| k.algorithm() == algorithm);
                match own.find(|k| k.state == KeyState::Next) {
                    Some(next) if state == KeyState::Current => {
                        (next.state, next.since) = (state, now)
                    }
                    _ => self
                        .web_identity
                        .push(signing_key(algorithm, state, entropy, now)?),
                }
            }
        }
        Ok(self)
    }
}

fn signing_key(
    algorithm: Algorithm,
    state: KeyState,
    entropy: &dyn Entropy,
    now: Timestamp,
) -> Result<SigningKey, KeyringError> {
    SigningKey::generate(algorithm, state, entropy, now)
        .map_err(|_| KeyringError::Entropy(NoEntropy))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::entropy::SystemEntropy;

    #[test]
    fn the_way_out_of_a_keyring_without_a_next_key_makes_one() {
        let (entropy, now) = (SystemEntropy::new(), Timestamp::from_seconds(1_000));
        let lacking = || {
            let mut keyring = Keyring::generate(&entropy, now).unwrap();
            keyring.keys.retain(|key| key.state != KeyState::Next);
            Keyring::parse(&keyring.to_bytes().unwrap()).unwrap()
        };
        let refused = lacking().rotate(&entropy, now).err().unwrap().to_string();
        assert!(refused.contains("brevet keyring revoke"), "{refused}");
        let keyring = lacking();
        let current = BTreeSet::from([text_id(keyring.current().unwrap().id())]);
        let renewed = keyring.without(&current, &entropy, now).unwrap();
        assert!(renewed.current().is_some() && renewed.rotate(&entropy, now).is_ok());
    }

    #[test]
    fn a_keyring_is_written_read_and_rotated() {
        let (entropy, now) = (SystemEntropy::new(), Timestamp::from_seconds(1_000));
        let first = Keyring::generate(&entropy, now).unwrap();
        let first_id = first.current().unwrap().id();
        let second = Keyring::parse(&first.to_bytes().unwrap())
            .unwrap()
            .rotate(&entropy, now)
            .unwrap();
        assert_ne!(second.current().unwrap().id(), first_id);
        assert_eq!(second.find(first_id).unwrap().state, KeyState::Previous);
        assert_eq!(second.current().unwrap().id(), first.keys[1].id());
        // Once the longest session has ended, the key that sealed it is removed.
        let third = second.rotate(&entropy, now.plus(durations::MAX)).unwrap();
        assert!(third.find(first_id).is_some());
        let fourth = third
            .rotate(&entropy, now.plus(durations::MAX * 2))
            .unwrap();
        assert!(fourth.find(first_id).is_none());
        // The file lists the removed keys, so that no older file brings them back.
        let fourth = Keyring::parse(&fourth.to_bytes().unwrap()).unwrap();
        assert!(fourth.retired().contains(&text_id(first_id)));
        assert!(fourth.retired().is_disjoint(&fourth.ids()));
    }

    #[test]
    fn the_time_between_rotations_is_known_while_it_is_short() {
        let (entropy, now) = (SystemEntropy::new(), Timestamp::from_seconds(100_000));
        let day = Duration::from_secs(86_400);
        let keyring = Keyring::generate(&entropy, now).unwrap();
        assert_eq!(keyring.rotated_every(), None);
        let keyring = keyring.rotate(&entropy, now.plus(day)).unwrap();
        let keyring = keyring.rotate(&entropy, now.plus(day * 2)).unwrap();
        assert_eq!(keyring.rotated_every(), Some(day));
        let hour = day / 24;
        let keyring = keyring.rotate(&entropy, now.plus(day * 2 + hour)).unwrap();
        assert_eq!(keyring.rotated_every(), Some(hour));
        // A month later the previous keys have gone.
        let keyring = keyring.rotate(&entropy, now.plus(day * 32)).unwrap();
        let keyring = keyring.rotate(&entropy, now.plus(day * 62)).unwrap();
        assert!(keyring.rotated_every().is_none_or(|every| every > day * 28));
    }

    #[test]
    fn it_is_not_rotated_into_more_keys_than_a_broker_reads() {
        let (entropy, now) = (SystemEntropy::new(), Timestamp::from_seconds(1_000));
        let mut keyring = Keyring::generate(&entropy, now).unwrap();
        let refused = loop {
            match keyring.rotate(&entropy, now) {
                Ok(rotated) => keyring = Keyring::parse(&rotated.to_bytes().unwrap()).unwrap(),
                Err(refused) => break refused.to_string(),
            }
        };
        assert!(refused.contains("more than 16"), "{refused}");
    }
}
