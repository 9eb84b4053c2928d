//! How old an access key may become, and for how long it may stay unused. These limits decide no call: when a key is
//! due, the broker changes the directory so that the key is inactive.

use std::time::Duration;

use crate::base::clock::Timestamp;

/// The limits of `[credentials]` on access keys. `None` means that there is no limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KeyAges {
    /// The age at which a key is deactivated.
    pub max_age: Option<Duration>,
    /// The time without use after which a key is deactivated.
    pub unused_after: Option<Duration>,
    /// How long before a key is deactivated the broker begins to warn about it.
    pub notice: Duration,
}

/// The limit because of which a key is deactivated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    Age,
    Unused,
}

impl Reason {
    /// The name of the setting in `[credentials]` that sets the limit, for messages.
    pub fn setting(self) -> &'static str {
        match self {
            Self::Age => "access_key_max_age_days",
            Self::Unused => "access_key_unused_days",
        }
    }
}

/// When a key will be deactivated, and because of which limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct End {
    pub at: Timestamp,
    pub reason: Reason,
}

impl KeyAges {
    /// No limits: keys of any age are accepted.
    pub const OFF: Self = Self {
        max_age: None,
        unused_after: None,
        notice: Duration::from_secs(7 * 86_400),
    };

    /// Whether any limit is set.
    pub fn is_on(&self) -> bool {
        self.max_age.is_some() || self.unused_after.is_some()
    }

    /// Computes when a key will be deactivated; `None` if no limit applies. `last_used` is the last use that is known;
    /// a key that was never used counts from its creation.
    pub fn end(&self, created_at: Timestamp, last_used: Option<Timestamp>) -> Option<End> {
        let age = self.max_age.map(|limit| End {
            at: created_at.plus(limit),
            reason: Reason::Age,
        });
        let used = last_used.map_or(created_at, |used| used.max(created_at));
        let unused = self.unused_after.map(|limit| End {
            at: used.plus(limit),
            reason: Reason::Unused,
        });
        age.into_iter().chain(unused).min_by_key(|end| end.at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: Duration = Duration::from_secs(86_400);

    fn day(n: i64) -> Timestamp {
        Timestamp::from_seconds(n * 86_400)
    }

    #[test]
    fn a_key_ends_by_its_age_or_without_use_whichever_comes_first() {
        assert_eq!(KeyAges::OFF.end(day(0), None), None);
        assert!(!KeyAges::OFF.is_on());
        let ages = KeyAges {
            max_age: Some(90 * DAY),
            unused_after: Some(45 * DAY),
            ..KeyAges::OFF
        };
        assert!(ages.is_on());
        let end = |n, reason| Some(End { at: day(n), reason });
        assert_eq!(ages.end(day(10), None), end(55, Reason::Unused));
        assert_eq!(ages.end(day(10), Some(day(20))), end(65, Reason::Unused));
        assert_eq!(ages.end(day(10), Some(day(80))), end(100, Reason::Age));
        // A use before the creation, by a clock that was wrong, takes nothing away.
        assert_eq!(ages.end(day(10), Some(day(2))), end(55, Reason::Unused));
        let only_age = KeyAges {
            unused_after: None,
            ..ages
        };
        assert_eq!(only_age.end(day(10), Some(day(99))), end(100, Reason::Age));
    }
}
