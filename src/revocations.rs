//! The revocations in force, in memory, so that every call can check them quickly. The store has
//! the same revocations as rows. A mark is dropped once all sessions to which it can apply have
//! expired, and never for lack of space.
//!
//! A mark applies to *one origin of sessions* (a session, an access key, a principal, a role, a
//! source identity, an account). It refuses the sessions from that origin that were issued before a
//! change of the feed, or before an instant. Each session records the last change that was in force
//! when it was issued, so that comparing it with a revocation needs no clock.

use std::collections::{BTreeSet, HashMap};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{PoisonError, RwLock};
use std::time::Duration;

use crate::base::clock::Timestamp;
use crate::base::digest::sha256;
use crate::session::durations;

/// The kinds of origins of sessions that a revocation can name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Selector {
    Session,
    /// A long-term access key, for all sessions that came from it, or the temporary key of one
    /// session.
    AccessKey,
    /// The ARN of a user, a role session, a federated user or an identity provider.
    Principal,
    Role,
    SourceIdentity,
    Account,
    Everything,
    /// The sessions of one subject of an identity provider, by the provider's ARN and the
    /// subject; see [`provider_subject`].
    ProviderSubject,
    /// A signing key, by its id in the keyring. It is revoked permanently and has no mark: see
    /// [`Revocations::revoke_signing_key`].
    SigningKey,
}

const KINDS: usize = 9;

/// Returns the value of the key for [`Selector::ProviderSubject`]. It is unambiguous, because an
/// ARN contains no space.
pub fn provider_subject(provider_arn: &str, subject: &str) -> String {
    format!("{provider_arn} {subject}")
}

impl Selector {
    const ALL: [Self; KINDS] = [
        Self::Session,
        Self::AccessKey,
        Self::Principal,
        Self::Role,
        Self::SourceIdentity,
        Self::Account,
        Self::Everything,
        Self::ProviderSubject,
        Self::SigningKey,
    ];

    /// The name of the selector in the store's rows and in messages.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Session => "session",
            Self::AccessKey => "access-key",
            Self::Principal => "principal",
            Self::Role => "role",
            Self::SourceIdentity => "source-identity",
            Self::Account => "account",
            Self::Everything => "everything",
            Self::ProviderSubject => "provider-subject",
            Self::SigningKey => "signing-key",
        }
    }

    /// Returns the selector with this name. The inverse of [`Self::as_str`].
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|s| s.as_str() == text)
    }

    fn index(self) -> usize {
        Self::ALL
            .iter()
            .position(|s| *s == self)
            .unwrap_or_default()
    }
}

/// An origin of sessions as a 16-byte digest. The digest includes the account, so that a revocation
/// in one account has no effect on a name that also exists in another one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct RevocationKey {
    selector: Selector,
    digest: [u8; 16],
}

impl RevocationKey {
    /// Returns the key of an origin in an account. `account` has 12 digits, or is empty for
    /// [`Selector::Everything`].
    pub fn new(selector: Selector, account: &str, value: &str) -> Self {
        let text = format!("{}\n{account}\n{value}", selector.as_str());
        let mut digest = [0; 16];
        for (slot, byte) in digest.iter_mut().zip(sha256(text.as_bytes())) {
            *slot = byte;
        }
        Self { selector, digest }
    }
}

/// The part of a revocation that says which sessions of an origin are refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Mark {
    /// Sessions that were issued before this change of the feed was in force are refused.
    pub before_sequence: i64,
    /// Sessions issued before this time, in seconds since 1970, are refused.
    pub before_seconds: i64,
    /// The time in seconds since 1970 at which all refused sessions have expired, so that the mark
    /// can be dropped.
    pub expires_at: i64,
}

impl Mark {
    /// Returns the time in seconds since 1970 at which all sessions that were issued by `now` have
    /// expired.
    pub fn outlives(now: Timestamp) -> i64 {
        // The session may have been issued by a broker whose clock is ahead by the tolerated skew.
        now.plus(durations::MAX + Duration::from_secs(60)).seconds()
    }

    /// Returns whether the mark refuses a session that was issued under this change of the feed and
    /// at this time, in seconds since 1970.
    pub fn refuses(self, issued_under: i64, issued_at: i64) -> bool {
        issued_under < self.before_sequence || issued_at < self.before_seconds
    }

    /// Returns the mark that replaces `old`. The time of `old` may come from a wrong clock, so the
    /// result has the earlier of the two times. If `old` belongs to the same change or to a later
    /// one, the result is `old` with the later expiry of the two.
    #[must_use]
    pub fn in_place_of(self, old: Self) -> Self {
        let expires_at = self.expires_at.max(old.expires_at);
        if old.before_sequence >= self.before_sequence {
            return Self { expires_at, ..old };
        }
        Self {
            before_seconds: self.before_seconds.min(old.before_seconds),
            expires_at,
            ..self
        }
    }

    /// Returns a mark that refuses every session that one of the two marks refuses.
    #[must_use]
    pub fn joined(self, other: Self) -> Self {
        Self {
            before_sequence: self.before_sequence.max(other.before_sequence),
            before_seconds: self.before_seconds.max(other.before_seconds),
            expires_at: self.expires_at.max(other.expires_at),
        }
    }
}

/// The number of shards for each kind of origin. A sweep locks one shard at a time, so that calls
/// wait only briefly.
const SHARDS: usize = 16;

type Shard = RwLock<HashMap<[u8; 16], Mark>>;

/// The revocations in force, which every call checks. A check takes a short read lock on one shard.
#[derive(Default)]
pub struct Revocations {
    kinds: [[Shard; SHARDS]; KINDS],
    counts: [AtomicUsize; KINDS],
    signing_keys: RwLock<BTreeSet<String>>,
}

impl Revocations {
    /// Returns whether one of the origins of a session was revoked after the session was issued.
    pub fn is_revoked(
        &self,
        came_from: &[RevocationKey],
        issued_under: i64,
        issued_at: i64,
    ) -> bool {
        came_from.iter().any(|key| {
            self.find(key)
                .is_some_and(|m| m.refuses(issued_under, issued_at))
        })
    }

    /// Puts a mark in force. If the origin has a mark already, the result refuses the sessions of
    /// both.
    pub fn mark(&self, key: &RevocationKey, mark: Mark) {
        self.put(key, |old| mark.joined(old));
    }

    /// Puts a mark in force that replaces an earlier mark with the same key: see
    /// [`Mark::in_place_of`].
    pub fn replace(&self, key: &RevocationKey, mark: Mark) {
        self.put(key, |old| mark.in_place_of(old));
    }

    /// Replaces the mark of a key by the result of `becomes`, which gets the old mark, or the
    /// default if the key has none.
    fn put(&self, key: &RevocationKey, becomes: impl FnOnce(Mark) -> Mark) {
        let Some((shard, count)) = self.shard(key) else {
            return;
        };
        let mut shard = shard.write().unwrap_or_else(PoisonError::into_inner);
        let old = shard.get(&key.digest).copied();
        if old.is_none() {
            count.fetch_add(1, Ordering::Relaxed);
        }
        shard.insert(key.digest, becomes(old.unwrap_or_default()));
    }

    /// Notes that a signing key was revoked. `id` is its id in the keyring. This cannot be undone.
    pub fn revoke_signing_key(&self, id: &str) {
        self.signing_keys
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(id.to_owned());
    }

    /// The ids of all revoked signing keys, which the keyring must not use any more.
    pub fn signing_keys(&self) -> BTreeSet<String> {
        self.signing_keys
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Drops the marks whose sessions have all expired.
    pub fn sweep(&self, now: Timestamp) {
        for (shards, count) in self.kinds.iter().zip(&self.counts) {
            for shard in shards {
                let mut shard = shard.write().unwrap_or_else(PoisonError::into_inner);
                let before = shard.len();
                shard.retain(|_, m| m.expires_at > now.seconds());
                count.fetch_sub(before - shard.len(), Ordering::Relaxed);
            }
        }
    }

    #[cfg(any(test, feature = "internals"))]
    pub fn len(&self) -> usize {
        self.counts.iter().map(|c| c.load(Ordering::Relaxed)).sum()
    }

    #[cfg(any(test, feature = "internals"))]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Returns the mark in force for an origin of sessions; `None` if there is none.
    pub fn find(&self, key: &RevocationKey) -> Option<Mark> {
        let (shard, count) = self.shard(key)?;
        if count.load(Ordering::Relaxed) == 0 {
            return None;
        }
        shard
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .get(&key.digest)
            .copied()
    }

    fn shard(&self, key: &RevocationKey) -> Option<(&Shard, &AtomicUsize)> {
        let at = key.selector.index();
        let shard = usize::from(*key.digest.first()?) % SHARDS;
        Some((self.kinds.get(at)?.get(shard)?, self.counts.get(at)?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp::from_seconds(1_000_000);

    fn mark(before_sequence: i64, before_seconds: i64) -> Mark {
        Mark {
            before_sequence,
            before_seconds,
            expires_at: Mark::outlives(NOW),
        }
    }

    #[test]
    fn a_mark_refuses_what_came_before_it() {
        let revocations = Revocations::default();
        let role = RevocationKey::new(Selector::Role, "", "arn:aws:iam::111122223333:role/R");
        let other = RevocationKey::new(Selector::Role, "", "arn:aws:iam::111122223333:role/S");
        assert!(!revocations.is_revoked(&[role], 0, 0));
        revocations.mark(&role, mark(7, 0));
        assert!(revocations.is_revoked(&[other, role], 6, 1_000_000));
        assert!(!revocations.is_revoked(&[other, role], 7, 0));
        assert!(!revocations.is_revoked(&[other], 6, 0));
        // A later, weaker mark does not undo the earlier one.
        revocations.mark(&role, mark(3, 500));
        assert!(revocations.is_revoked(&[role], 6, 1_000));
        assert!(
            revocations.is_revoked(&[role], 9, 499) && !revocations.is_revoked(&[role], 9, 500)
        );
        assert_eq!(revocations.len(), 1);
    }

    #[test]
    fn op_05_a_time_of_a_wrong_clock_is_replaced_by_a_later_mark_only() {
        let revocations = Revocations::default();
        let everything = RevocationKey::new(Selector::Everything, "", "");
        revocations.mark(&everything, mark(5, 9_000_000));
        assert!(revocations.is_revoked(&[everything], 7, 1_000_000));
        revocations.replace(&everything, mark(7, 1_000_000));
        assert!(!revocations.is_revoked(&[everything], 7, 1_000_000));
        assert!(revocations.is_revoked(&[everything], 6, 1_000_000));
        assert!(revocations.is_revoked(&[everything], 7, 999_999));
        // A later mark is not replaced.
        revocations.mark(&everything, mark(9, 2_000_000));
        revocations.replace(&everything, mark(7, 1_000_000));
        assert!(revocations.is_revoked(&[everything], 9, 1_999_999));
        assert_eq!(revocations.len(), 1);
    }

    #[test]
    fn kinds_and_accounts_do_not_mix() {
        let revocations = Revocations::default();
        revocations.mark(
            &RevocationKey::new(Selector::SourceIdentity, "111122223333", "alice"),
            mark(9, 0),
        );
        assert!(!revocations.is_revoked(
            &[RevocationKey::new(
                Selector::SourceIdentity,
                "444455556666",
                "alice"
            )],
            0,
            0
        ));
        assert!(!revocations.is_revoked(
            &[RevocationKey::new(
                Selector::Principal,
                "111122223333",
                "alice"
            )],
            0,
            0
        ));
        assert!(revocations.is_revoked(
            &[RevocationKey::new(
                Selector::SourceIdentity,
                "111122223333",
                "alice"
            )],
            0,
            0
        ));
    }

    #[test]
    fn a_mark_goes_when_its_sessions_have_ended_and_not_before() {
        let revocations = Revocations::default();
        let key = RevocationKey::new(Selector::Session, "111122223333", "00");
        revocations.mark(&key, mark(9, 0));
        revocations.sweep(NOW.plus(durations::MAX));
        assert!(revocations.is_revoked(&[key], 0, 0));
        revocations.sweep(NOW.plus(durations::MAX + Duration::from_secs(60)));
        assert!(revocations.is_empty() && !revocations.is_revoked(&[key], 0, 0));
    }

    proptest::proptest! {
        #[test]
        fn order_never_matters(marks in proptest::collection::vec((0i64..20, 0i64..20), 0..8), under in 0i64..20, at in 0i64..20) {
            let key = RevocationKey::new(Selector::Everything, "", "");
            let (one, two) = (Revocations::default(), Revocations::default());
            for (sequence, seconds) in &marks {
                one.mark(&key, mark(*sequence, *seconds));
            }
            for (sequence, seconds) in marks.iter().rev() {
                two.mark(&key, mark(*sequence, *seconds));
            }
            let expected = marks.iter().any(|(sequence, seconds)| under < *sequence || at < *seconds);
            proptest::prop_assert_eq!(one.is_revoked(&[key], under, at), expected);
            proptest::prop_assert_eq!(two.is_revoked(&[key], under, at), expected);
        }
    }
}
