//! What was revoked, in this process's memory: the store's rows, ready to be asked by every call.
//! A mark is dropped when every session that it can touch has ended, and never for want of room.
//!
//! A mark speaks of *one thing that sessions come from* (a session, an access key, a principal, a
//! role, a source identity, an account), and refuses the sessions that came from it before a change
//! of the feed, or before an instant. Each session says under which change it was issued, so that
//! no clock decides whether it came before a revocation.

use std::collections::{BTreeSet, HashMap};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{PoisonError, RwLock};
use std::time::Duration;

use crate::base::clock::Timestamp;
use crate::base::digest::sha256;
use crate::session::durations;

/// What kind of thing sessions come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Selector {
    /// One session, by its id.
    Session,
    /// An access key, temporary or long-term.
    AccessKey,
    /// A user or a role session, by ARN.
    Principal,
    /// All sessions of a role.
    Role,
    /// Whoever stands behind a chain of sessions.
    SourceIdentity,
    /// All sessions of an account's roles.
    Account,
    /// All sessions of the cluster.
    Everything,
    /// Whom an OpenID Connect provider vouched for: the provider's ARN and the subject, see
    /// [`provider_subject`].
    ProviderSubject,
    /// A signing key, by its id in the keyring. It is revoked for ever, and has no mark: see
    /// [`Revocations::revoke_signing_key`].
    SigningKey,
}

/// How many kinds there are.
const KINDS: usize = 9;

/// What [`Selector::ProviderSubject`] names: an ARN has no space in it.
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

    /// As rows and people name it.
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

    /// Reverses [`Self::as_str`].
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

/// One thing that sessions come from, as sixteen bytes. It holds the account, so that nobody ends
/// sessions of another account by a name that both use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Key {
    selector: Selector,
    digest: [u8; 16],
}

impl Key {
    /// Of a thing of an account (twelve digits; empty for [`Selector::Everything`]).
    pub fn new(selector: Selector, account: &str, value: &str) -> Self {
        let text = format!("{}\n{account}\n{value}", selector.as_str());
        let mut digest = [0; 16];
        for (slot, byte) in digest.iter_mut().zip(sha256(text.as_bytes())) {
            *slot = byte;
        }
        Self { selector, digest }
    }
}

/// Which sessions of a thing are refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Mark {
    /// Those issued under a change before this one.
    pub before_sequence: i64,
    /// Those issued before this second since 1970.
    pub before_seconds: i64,
    /// When the last of them has ended, in seconds since 1970.
    pub expires_at: i64,
}

impl Mark {
    /// When the last session that was issued by `now` has ended.
    pub fn outlives(now: Timestamp) -> i64 {
        // A broker whose clock is ahead by the skew that is let pass may have issued it.
        now.plus(durations::MAX + Duration::from_secs(60)).seconds()
    }

    /// Whether it refuses a session that was issued under a change, at a second since 1970.
    pub fn refuses(self, issued_under: i64, issued_at: i64) -> bool {
        issued_under < self.before_sequence || issued_at < self.before_seconds
    }

    /// Both marks at once.
    #[must_use]
    pub fn joined(self, other: Self) -> Self {
        Self {
            before_sequence: self.before_sequence.max(other.before_sequence),
            before_seconds: self.before_seconds.max(other.before_seconds),
            expires_at: self.expires_at.max(other.expires_at),
        }
    }
}

/// A sweep holds one of so many locks of a kind, and for that long only.
const SHARDS: usize = 16;

type Shard = RwLock<HashMap<[u8; 16], Mark>>;

/// All marks in force.
#[derive(Default)]
pub struct Revocations {
    kinds: [[Shard; SHARDS]; KINDS],
    counts: [AtomicUsize; KINDS],
    signing_keys: RwLock<BTreeSet<String>>,
}

impl Revocations {
    /// Whether one of the things that a session came from was revoked after it was issued.
    pub fn is_revoked(&self, came_from: &[Key], issued_under: i64, issued_at: i64) -> bool {
        came_from.iter().any(|key| {
            self.find(key)
                .is_some_and(|m| m.refuses(issued_under, issued_at))
        })
    }

    /// Puts a mark in force, beside what is marked already.
    pub fn mark(&self, key: &Key, mark: Mark) {
        let Some((shard, count)) = self.shard(key) else {
            return;
        };
        let mut shard = shard.write().unwrap_or_else(PoisonError::into_inner);
        let old = shard.get(&key.digest).copied();
        if old.is_none() {
            count.fetch_add(1, Ordering::Relaxed);
        }
        shard.insert(key.digest, mark.joined(old.unwrap_or_default()));
    }

    /// Remembers that a signing key was revoked, by its id in the keyring. Nothing takes that back.
    pub fn revoke_signing_key(&self, id: &str) {
        self.signing_keys
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(id.to_owned());
    }

    /// The ids of all signing keys that were revoked.
    pub fn signing_keys(&self) -> BTreeSet<String> {
        self.signing_keys
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Drops the marks of which every session has ended.
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
    /// How many marks are in force.
    pub fn len(&self) -> usize {
        self.counts.iter().map(|c| c.load(Ordering::Relaxed)).sum()
    }

    #[cfg(any(test, feature = "internals"))]
    /// Whether nothing is revoked.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The mark in force on one thing that sessions come from.
    pub fn find(&self, key: &Key) -> Option<Mark> {
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

    fn shard(&self, key: &Key) -> Option<(&Shard, &AtomicUsize)> {
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
        let role = Key::new(Selector::Role, "", "arn:aws:iam::111122223333:role/R");
        let other = Key::new(Selector::Role, "", "arn:aws:iam::111122223333:role/S");
        assert!(!revocations.is_revoked(&[role], 0, 0));
        revocations.mark(&role, mark(7, 0));
        assert!(revocations.is_revoked(&[other, role], 6, 1_000_000));
        assert!(!revocations.is_revoked(&[other, role], 7, 0));
        assert!(!revocations.is_revoked(&[other], 6, 0));
        // A later, weaker mark takes nothing back.
        revocations.mark(&role, mark(3, 500));
        assert!(revocations.is_revoked(&[role], 6, 1_000));
        assert!(
            revocations.is_revoked(&[role], 9, 499) && !revocations.is_revoked(&[role], 9, 500)
        );
        assert_eq!(revocations.len(), 1);
    }

    #[test]
    fn kinds_and_accounts_do_not_mix() {
        let revocations = Revocations::default();
        revocations.mark(
            &Key::new(Selector::SourceIdentity, "111122223333", "alice"),
            mark(9, 0),
        );
        assert!(!revocations.is_revoked(
            &[Key::new(Selector::SourceIdentity, "444455556666", "alice")],
            0,
            0
        ));
        assert!(!revocations.is_revoked(
            &[Key::new(Selector::Principal, "111122223333", "alice")],
            0,
            0
        ));
        assert!(revocations.is_revoked(
            &[Key::new(Selector::SourceIdentity, "111122223333", "alice")],
            0,
            0
        ));
    }

    #[test]
    fn a_mark_goes_when_its_sessions_have_ended_and_not_before() {
        let revocations = Revocations::default();
        let key = Key::new(Selector::Session, "111122223333", "00");
        revocations.mark(&key, mark(9, 0));
        revocations.sweep(NOW.plus(durations::MAX));
        assert!(revocations.is_revoked(&[key], 0, 0));
        revocations.sweep(NOW.plus(durations::MAX + Duration::from_secs(60)));
        assert!(revocations.is_empty() && !revocations.is_revoked(&[key], 0, 0));
    }

    proptest::proptest! {
        #[test]
        fn order_never_matters(marks in proptest::collection::vec((0i64..20, 0i64..20), 0..8), under in 0i64..20, at in 0i64..20) {
            let key = Key::new(Selector::Everything, "", "");
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
