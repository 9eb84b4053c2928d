//! How much a principal, an account and a source address may ask for: calls a second, and sessions
//! that live at a time. Whoever exceeds a budget is refused; nobody else notices.
//!
//! Each broker decides by what it has counted itself. Of a limit that several brokers share it takes
//! an equal share, or what the others leave over if it has heard what they use: see
//! [`Budgets::unsent`] and [`Budgets::heard`].

mod calls;
mod sessions;

use std::fmt;
use std::net::IpAddr;
use std::num::NonZeroU32;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::base::clock::Timestamp;
use crate::base::digest::{hex, sha256};
use calls::Calls;
use sessions::Sessions;

/// The section `[budgets]` of the configuration; `None`: no limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BudgetLimits {
    /// Calls of one principal that issue, change or look something up, a second.
    pub principal_calls: Option<NonZeroU32>,
    /// Calls of one principal that only ask who it is, a second.
    pub principal_reads: Option<NonZeroU32>,
    /// Sessions of one principal that have not ended.
    pub principal_sessions: Option<NonZeroU32>,
    /// Calls of all principals of one account that issue, change or look something up, a second.
    pub account_calls: Option<NonZeroU32>,
    /// Sessions of one account that have not ended.
    pub account_sessions: Option<NonZeroU32>,
    /// Calls from one source address that prove nobody, a second.
    pub unproven_calls: Option<NonZeroU32>,
}

impl BudgetLimits {
    /// No limits.
    pub const OFF: Self = Self {
        principal_calls: None,
        principal_reads: None,
        principal_sessions: None,
        account_calls: None,
        account_sessions: None,
        unproven_calls: None,
    };
}

impl Default for BudgetLimits {
    fn default() -> Self {
        Self {
            principal_calls: NonZeroU32::new(100),
            principal_reads: NonZeroU32::new(5_000),
            account_calls: NonZeroU32::new(2_000),
            unproven_calls: NonZeroU32::new(100),
            ..Self::OFF
        }
    }
}

/// What a call of an operation is counted as.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CountedAs {
    /// It issues, changes or looks something up: counted for the principal and for its account.
    Call,
    /// It says what its own proof says: counted for the principal, apart from calls.
    Read,
    /// It ends sessions: counted for the principal, apart from everything else, so that no other call
    /// of anybody stands in its way.
    Revocation,
}

/// Calls with one signature that may come a second, however small half of the principal's budget is:
/// a client may well make the same call several times in one second, for which its signature is the same.
const MIN_REPEATS: NonZeroU32 = NonZeroU32::MIN.saturating_add(9);

/// Whose call it is.
#[derive(Debug, Clone, Copy)]
pub struct Counted<'a> {
    /// The user or the role.
    pub principal: &'a str,
    /// Its account.
    pub account: &'a str,
    /// The signature that proves it; none: a token does.
    pub signature: Option<&'a [u8]>,
}

/// The budget that is exceeded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exceeded {
    /// `[budgets.principal] calls_per_second`
    Principal,
    /// `[budgets.principal] reads_per_second`
    Reads,
    /// A tenth of `[budgets.principal] calls_per_second`, of calls that end sessions.
    Revocations,
    /// What one signature may use of its principal's budget, however often it comes again: a half.
    Repeats,
    /// `[budgets.account] calls_per_second`
    Account,
    /// `[budgets.source] unproven_calls_per_second`
    Source,
    /// `live_sessions` of the principal or of the account.
    Sessions,
}

impl Exceeded {
    /// As metrics name it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Principal => "principal",
            Self::Reads => "reads",
            Self::Revocations => "revocations",
            Self::Repeats => "repeats",
            Self::Account => "account",
            Self::Source => "source",
            Self::Sessions => "sessions",
        }
    }
}

/// Where a call comes from, as budgets count it: an IPv4 address, or the /64 of an IPv6 address,
/// which is the least that one customer of a network gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Source([u8; 16]);

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match IpAddr::from(self.0).to_canonical() {
            IpAddr::V4(ip) => write!(f, "{ip}"),
            IpAddr::V6(ip) => write!(f, "{ip}/64"),
        }
    }
}

/// The source that an address belongs to.
pub fn source(ip: IpAddr) -> Source {
    match ip.to_canonical() {
        IpAddr::V4(ip) => Source(ip.to_ipv6_mapped().octets()),
        IpAddr::V6(ip) => Source((u128::from(ip) >> 64 << 64).to_be_bytes()),
    }
}

/// Calls of a key that the other brokers have not heard of yet.
#[derive(Debug, Clone)]
pub struct Unsent {
    budget: Exceeded,
    key: Box<[u8]>,
    /// How many.
    pub calls: u64,
}

impl Unsent {
    /// The key's name among brokers: of a fixed length, whatever a principal is called.
    pub fn name(&self) -> String {
        let digest = sha256(&[self.budget.name().as_bytes(), b"\n", &self.key].concat());
        hex(digest.get(..16).unwrap_or(&digest))
    }
}

/// What each has used of its budgets. Times are those of the monotonic clock.
pub struct Budgets {
    principal_calls: Option<Calls>,
    principal_reads: Option<Calls>,
    revocations: Option<Calls>,
    /// By signature: of calls, and of reads.
    repeated_calls: Option<Calls>,
    repeated_reads: Option<Calls>,
    account_calls: Option<Calls>,
    /// What is left for everybody when some have used up the account's budget: by account, and of it by
    /// principal.
    account_reserve: Option<Calls>,
    principal_reserve: Option<Calls>,
    unproven: Option<Calls>,
    principal_sessions: Option<Sessions>,
    account_sessions: Option<Sessions>,
    /// Brokers that share the limits, this one included.
    brokers: AtomicU64,
}

impl Budgets {
    /// With nothing used, and no other broker heard of.
    pub fn new(limits: BudgetLimits) -> Self {
        let divided = |limit: NonZeroU32, by: u32| {
            NonZeroU32::new(limit.get() / by).unwrap_or(NonZeroU32::MIN)
        };
        let part =
            |limit: Option<NonZeroU32>, of: u32| limit.map(|limit| Calls::new(divided(limit, of)));
        let repeats = |limit: Option<NonZeroU32>| {
            limit.map(|limit| Calls::new(divided(limit, 2).max(MIN_REPEATS)))
        };
        Self {
            principal_calls: limits.principal_calls.map(Calls::new),
            principal_reads: limits.principal_reads.map(Calls::new),
            revocations: part(limits.principal_calls, 10),
            repeated_calls: repeats(limits.principal_calls),
            repeated_reads: repeats(limits.principal_reads),
            account_calls: limits.account_calls.map(Calls::new),
            account_reserve: part(limits.account_calls, 4),
            principal_reserve: part(limits.principal_calls, 8),
            unproven: limits.unproven_calls.map(Calls::new),
            principal_sessions: limits.principal_sessions.map(Sessions::new),
            account_sessions: limits.account_sessions.map(Sessions::new),
            brokers: AtomicU64::new(1),
        }
    }

    /// Counts a call of a principal that its signature has proven. Whoever captured a signed request can
    /// send it again for a quarter of an hour, so a signature may use half of a budget and no more.
    ///
    /// # Errors
    /// When the principal's or the account's budget is used up, or the signature's part of it. The call
    /// is then not counted for the one that has none left.
    pub fn call(
        &self,
        counted_as: CountedAs,
        caller: Counted<'_>,
        now: Duration,
    ) -> Result<(), Exceeded> {
        let repeats = if counted_as == CountedAs::Read {
            &self.repeated_reads
        } else {
            &self.repeated_calls
        };
        if let (Some(repeats), Some(signature)) = (repeats, caller.signature)
            && !repeats.take(signature, 1, now)
        {
            return Err(Exceeded::Repeats);
        }
        let principal = caller.principal.as_bytes();
        match counted_as {
            CountedAs::Read => self.take(Exceeded::Reads, principal, now),
            CountedAs::Revocation => self.take(Exceeded::Revocations, principal, now),
            CountedAs::Call => {
                self.take(Exceeded::Principal, principal, now)?;
                self.take(Exceeded::Account, caller.account.as_bytes(), now)
                    .or_else(|exceeded| {
                        // The many calls of some are not in the way of the few of others.
                        let brokers = self.brokers_in(Exceeded::Account);
                        let left = |reserve: &Option<Calls>, key: &[u8]| {
                            reserve
                                .as_ref()
                                .is_some_and(|calls| calls.take(key, brokers, now))
                        };
                        let admitted = left(&self.principal_reserve, principal)
                            && left(&self.account_reserve, caller.account.as_bytes());
                        if admitted { Ok(()) } else { Err(exceeded) }
                    })
            }
        }
    }

    /// Counts a call that a token proves and that nobody has admitted, for whoever vouches for it.
    ///
    /// # Errors
    /// When there were too many.
    pub fn unadmitted(&self, provider: &str, now: Duration) -> Result<(), Exceeded> {
        self.take(Exceeded::Principal, provider.as_bytes(), now)
    }

    /// Counts a call that has proven nobody.
    ///
    /// # Errors
    /// When there were too many from its source.
    pub fn unproven(&self, source: Source, now: Duration) -> Result<(), Exceeded> {
        self.take(Exceeded::Source, &source.0, now)
    }

    /// Gives back what [`Budgets::unproven`] has taken for a call that has proven somebody since.
    pub fn proven(&self, source: Source) {
        if let Some(calls) = &self.unproven {
            calls.give_back(&source.0);
        }
    }

    /// Counts a session that ends at `end`.
    ///
    /// # Errors
    /// When the principal or its account has too many that live.
    pub fn session(
        &self,
        principal: &str,
        account: &str,
        now: Timestamp,
        end: Timestamp,
    ) -> Result<(), Exceeded> {
        for (sessions, who) in [
            (&self.principal_sessions, principal),
            (&self.account_sessions, account),
        ] {
            if sessions.as_ref().is_some_and(|s| !s.add(who, now, end)) {
                return Err(Exceeded::Sessions);
            }
        }
        Ok(())
    }

    /// How many brokers share the limits, this one included.
    pub fn share_among(&self, brokers: usize) {
        self.brokers.store(
            u64::try_from(brokers).unwrap_or(u64::MAX).max(1),
            Ordering::Relaxed,
        );
    }

    /// Whether there is anybody to share the limits with.
    pub fn are_shared(&self) -> bool {
        self.brokers.load(Ordering::Relaxed) > 1
    }

    /// Calls to tell the other brokers of: at most `most` keys, those with the most calls first.
    /// Unproven calls are not among them: each broker counts those for itself.
    pub fn unsent(&self, most: usize) -> Vec<Unsent> {
        let mut unsent = Vec::new();
        for budget in [Exceeded::Account, Exceeded::Principal, Exceeded::Reads] {
            if let Some(calls) = self.counted_in(budget) {
                let taken = calls.take_unsent(most.saturating_sub(unsent.len()));
                unsent.extend(
                    taken
                        .into_iter()
                        .map(|(key, calls)| Unsent { budget, key, calls }),
                );
            }
        }
        unsent
    }

    /// Takes in how many calls all brokers have told of for a key, those of `sent` included. `None`,
    /// and a number that cannot be: it is not known what the others use.
    pub fn heard(&self, sent: &Unsent, total: Option<i64>, now: Duration) {
        if let Some(calls) = self.counted_in(sent.budget) {
            calls.heard(&sent.key, sent.calls, total, now);
        }
    }

    /// Forgets whose calls were so long ago that they do not matter any more.
    pub fn sweep_calls(&self, now: Duration) {
        for budget in [
            Exceeded::Principal,
            Exceeded::Reads,
            Exceeded::Revocations,
            Exceeded::Account,
            Exceeded::Source,
        ] {
            if let Some(calls) = self.counted_in(budget) {
                calls.sweep(self.brokers_in(budget), now);
            }
        }
        for calls in [
            &self.repeated_calls,
            &self.repeated_reads,
            &self.account_reserve,
            &self.principal_reserve,
        ]
        .into_iter()
        .flatten()
        {
            calls.sweep(1, now);
        }
    }

    /// Forgets whose sessions have all ended.
    pub fn sweep_sessions(&self, now: Timestamp) {
        for sessions in [&self.principal_sessions, &self.account_sessions]
            .into_iter()
            .flatten()
        {
            sessions.sweep(now);
        }
    }

    /// Forgets all sessions: they have ended before their time.
    pub fn forget_sessions(&self) {
        self.sweep_sessions(Timestamp::from_millis(i64::MAX));
    }

    fn take(&self, budget: Exceeded, key: &[u8], now: Duration) -> Result<(), Exceeded> {
        let Some(calls) = self.counted_in(budget) else {
            return Ok(());
        };
        if calls.take(key, self.brokers_in(budget), now) {
            Ok(())
        } else {
            Err(budget)
        }
    }

    /// How many brokers share a limit.
    fn brokers_in(&self, budget: Exceeded) -> u64 {
        if budget == Exceeded::Source {
            1
        } else {
            self.brokers.load(Ordering::Relaxed)
        }
    }

    fn counted_in(&self, budget: Exceeded) -> Option<&Calls> {
        match budget {
            Exceeded::Principal => self.principal_calls.as_ref(),
            Exceeded::Reads => self.principal_reads.as_ref(),
            Exceeded::Account => self.account_calls.as_ref(),
            Exceeded::Source => self.unproven.as_ref(),
            Exceeded::Revocations => self.revocations.as_ref(),
            Exceeded::Sessions | Exceeded::Repeats => None,
        }
    }
}

#[cfg(test)]
mod tests;
