//! Limits on how much a principal, an account and a source address may ask for: calls per second,
//! and live sessions. A caller that exceeds a budget is refused.
//!
//! Each broker decides from its own counts. If several brokers share a limit, each uses an equal share. If a broker
//! knows how many calls the others have admitted, it also uses what they leave: see [`Budgets::unsent`] and
//! [`Budgets::heard`].

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

/// The limits of the configuration section `[budgets]`. `None` means no limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BudgetLimits {
    /// Calls per second of one principal that issue, change or look up something.
    pub principal_calls: Option<NonZeroU32>,
    /// Calls per second of one principal that change nothing and issue nothing: GetCallerIdentity, and a service's
    /// questions about its own callers (who signed a request, and what a principal may do).
    pub principal_reads: Option<NonZeroU32>,
    /// Requests per second of one principal to object stores.
    pub principal_object_requests: Option<NonZeroU32>,
    /// The maximum number of unexpired sessions of one principal.
    pub principal_sessions: Option<NonZeroU32>,
    /// Calls per second of all principals of one account that issue, change or look up something.
    pub account_calls: Option<NonZeroU32>,
    /// The maximum number of unexpired sessions of one account.
    pub account_sessions: Option<NonZeroU32>,
    /// Calls per second from one source address whose caller was not authenticated.
    pub unproven_calls: Option<NonZeroU32>,
}

impl BudgetLimits {
    /// Limits that never refuse a call or session.
    pub const OFF: Self = Self {
        principal_calls: None,
        principal_reads: None,
        principal_object_requests: None,
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
            principal_object_requests: NonZeroU32::new(10_000),
            account_calls: NonZeroU32::new(2_000),
            unproven_calls: NonZeroU32::new(100),
            ..Self::OFF
        }
    }
}

/// The budgets to which the calls of an operation count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CountedAs {
    /// The call issues, changes or looks up something. It counts for the principal and for its
    /// account.
    Call,
    /// The call is GetCallerIdentity, or a service's question about one of its own callers. It counts for the
    /// principal, separately from other calls.
    Read,
    /// A request to an object store. It counts for the principal, separately from calls.
    ObjectRequest,
    /// The call ends sessions. It counts for the principal, separately from all other calls, so
    /// that no other call can keep a revocation from being made.
    Revocation,
}

/// The lower bound of [`Exceeded::Repeats`], the limit on calls with one and the same signature, in calls per second. A
/// client may make the same call several times in one second, and the calls then have the same signature. These calls
/// count to the budgets of the principal and its account like all others.
const MIN_REPEATS: NonZeroU32 = NonZeroU32::MIN.saturating_add(9);

/// How many decisions count as one call. Ten further decisions take about as much processor time as one call with its
/// signature (docs/explanation/performance.md).
const DECISIONS_IN_A_CALL: usize = 10;

/// How many calls a call with so many decisions counts as: one for each ten begun, and at least one.
pub fn calls_of_decisions(decisions: usize) -> u64 {
    u64::try_from(decisions.div_ceil(DECISIONS_IN_A_CALL))
        .unwrap_or(u64::MAX)
        .max(1)
}

#[derive(Debug, Clone, Copy)]
pub struct Counted<'a> {
    pub principal: &'a str,
    /// The 12-digit id of the principal's account.
    pub account: &'a str,
    /// The call's signature; `None` if the call is not signed, because a token, a certificate or a sign-in
    /// authenticates the caller.
    pub signature: Option<&'a [u8]>,
    /// How many calls it counts as. It is admitted if there is room for one, and uses up what comes later for the rest.
    pub amount: u64,
    /// Those about whom a service asks, by the keys under which they are counted, each with how many calls the
    /// decisions about it count as. Empty if the call is about its caller alone.
    pub subjects: &'a [(String, u64)],
}

/// The limit because of which a call or session was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exceeded {
    /// The limit `[budgets.principal] calls_per_second`.
    Principal,
    /// The limit `[budgets.principal] reads_per_second`.
    Reads,
    /// The limit `[budgets.principal] object_requests_per_second`.
    ObjectRequests,
    /// A tenth of `[budgets.principal] calls_per_second`, for calls that end sessions.
    Revocations,
    /// Half of the principal's budget, but at least 10 calls per second: the most that calls with one and the
    /// same signature may use.
    Repeats,
    /// Half of a service's share of `[budgets.principal] reads_per_second`, but at least 10 calls per second: the most
    /// that its questions about one and the same subject may use.
    Subjects,
    /// The limit `[budgets.account] calls_per_second`.
    Account,
    /// The limit `[budgets.source] unproven_calls_per_second`.
    Source,
    /// The limit `live_sessions` of the principal or of the account.
    Sessions,
}

impl Exceeded {
    /// The budget's name in metrics.
    pub fn name(self) -> &'static str {
        match self {
            Self::Principal => "principal",
            Self::Reads => "reads",
            Self::ObjectRequests => "object_requests",
            Self::Revocations => "revocations",
            Self::Repeats => "repeats",
            Self::Subjects => "subjects",
            Self::Account => "account",
            Self::Source => "source",
            Self::Sessions => "sessions",
        }
    }
}

/// The source to which a call is counted: an IPv4 address, or the /64 of an IPv6 address, which is
/// the smallest network that a customer gets.
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

/// The source to which the calls from an address are counted.
pub fn source(ip: IpAddr) -> Source {
    match ip.to_canonical() {
        IpAddr::V4(ip) => Source(ip.to_ipv6_mapped().octets()),
        IpAddr::V6(ip) => Source((u128::from(ip) >> 64 << 64).to_be_bytes()),
    }
}

/// Calls of one key that the other brokers have not been told about.
#[derive(Debug, Clone)]
pub struct Unsent {
    budget: Exceeded,
    key: Box<[u8]>,
    /// How many calls have not been reported.
    pub calls: u64,
}

impl Unsent {
    /// The key's name in the exchange with other brokers. It has a fixed length, even if the
    /// principal's id is long.
    pub fn name(&self) -> String {
        let digest = sha256(&[self.budget.name().as_bytes(), b"\n", &self.key].concat());
        hex(digest.get(..16).unwrap_or(&digest))
    }
}

/// Counts what each key has used of its budgets. Times are those of the monotonic clock.
pub struct Budgets {
    principal_calls: Option<Calls>,
    principal_reads: Option<Calls>,
    principal_object_requests: Option<Calls>,
    revocations: Option<Calls>,
    /// The calls of each signature. Copies of a captured request have the same signature, so they are limited together.
    repeated_calls: Option<Calls>,
    repeated_reads: Option<Calls>,
    repeated_object_requests: Option<Calls>,
    /// The questions of each service about each subject. A service's client decides how many there are, so one client
    /// must not use up what the service needs for the others.
    subjects: Option<Calls>,
    account_calls: Option<Calls>,
    /// A reserve in each account for the other principals, if a few have used up the account's
    /// budget. It is counted in total by account, and within it by principal.
    account_reserve: Option<Calls>,
    principal_reserve: Option<Calls>,
    unproven: Option<Calls>,
    principal_sessions: Option<Sessions>,
    account_sessions: Option<Sessions>,
    /// The number of brokers that share the limits, including this one.
    brokers: AtomicU64,
}

impl Budgets {
    /// Creates budgets with nothing used. They are not shared with other brokers yet.
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
            principal_object_requests: limits.principal_object_requests.map(Calls::new),
            revocations: part(limits.principal_calls, 10),
            repeated_calls: repeats(limits.principal_calls),
            repeated_reads: repeats(limits.principal_reads),
            repeated_object_requests: repeats(limits.principal_object_requests),
            subjects: repeats(limits.principal_reads),
            account_calls: limits.account_calls.map(Calls::new),
            account_reserve: part(limits.account_calls, 4),
            principal_reserve: part(limits.principal_calls, 8),
            unproven: limits.unproven_calls.map(Calls::new),
            principal_sessions: limits.principal_sessions.map(Sessions::new),
            account_sessions: limits.account_sessions.map(Sessions::new),
            brokers: AtomicU64::new(1),
        }
    }

    /// Counts a call of an authenticated principal. An attacker who captures a signed request can send it again for 15
    /// minutes, or for the 7 days of a presigned URL, so the calls with one signature have the limit
    /// [`Exceeded::Repeats`].
    ///
    /// # Errors
    /// The budget that is used up: the principal's, the account's, or the part for one signature or for one subject.
    /// The call is then not counted in that budget.
    pub fn call(
        &self,
        counted_as: CountedAs,
        caller: Counted<'_>,
        now: Duration,
    ) -> Result<(), Exceeded> {
        let amount = caller.amount;
        let repeats = match counted_as {
            CountedAs::Read => &self.repeated_reads,
            CountedAs::ObjectRequest => &self.repeated_object_requests,
            CountedAs::Call | CountedAs::Revocation => &self.repeated_calls,
        };
        if let (Some(repeats), Some(signature)) = (repeats, caller.signature)
            && !repeats.take_whole(signature, amount, u64::MAX, 1, now)
        {
            return Err(Exceeded::Repeats);
        }
        for (subject, amount) in caller.subjects {
            self.subject(caller.principal, subject, *amount, now)?;
        }
        let principal = caller.principal.as_bytes();
        match counted_as {
            CountedAs::Read => self.take(Exceeded::Reads, principal, amount, now),
            CountedAs::ObjectRequest => self.take(Exceeded::ObjectRequests, principal, amount, now),
            CountedAs::Revocation => self.take(Exceeded::Revocations, principal, amount, now),
            CountedAs::Call => {
                self.take(Exceeded::Principal, principal, amount, now)?;
                self.take(Exceeded::Account, caller.account.as_bytes(), amount, now)
                    .or_else(|exceeded| {
                        // The many calls of a few principals must not block the few calls of
                        // others.
                        let brokers = self.brokers_in(Exceeded::Account);
                        let left = |reserve: &Option<Calls>, key: &[u8]| {
                            reserve
                                .as_ref()
                                .is_some_and(|calls| calls.take(key, amount, brokers, now))
                        };
                        let admitted = left(&self.principal_reserve, principal)
                            && left(&self.account_reserve, caller.account.as_bytes());
                        if admitted { Ok(()) } else { Err(exceeded) }
                    })
            }
        }
    }

    /// Counts the decisions about one subject for a service. A subject may use half of what this broker leaves to the
    /// service.
    fn subject(
        &self,
        service: &str,
        subject: &str,
        amount: u64,
        now: Duration,
    ) -> Result<(), Exceeded> {
        let (Some(reads), Some(subjects)) = (&self.principal_reads, &self.subjects) else {
            return Ok(());
        };
        let brokers = self.brokers_in(Exceeded::Reads);
        let least = u64::from(MIN_REPEATS.get()) * 1_000;
        let half = (reads.share(service.as_bytes(), brokers) / 2).max(least);
        let key = format!("{service}\n{subject}");
        if subjects.take_whole(key.as_bytes(), amount, half, brokers, now) {
            Ok(())
        } else {
            Err(Exceeded::Subjects)
        }
    }

    /// Whether the budgets of a principal and its account have room for a call, which is not counted
    /// yet.
    ///
    /// # Errors
    /// [`Exceeded`] with the first budget that is used up.
    pub fn admit(&self, principal: &str, account: &str, now: Duration) -> Result<(), Exceeded> {
        let admits = |budget: &Option<Calls>, key: &str, brokers| {
            let calls = budget.as_ref();
            calls.is_none_or(|calls| calls.admits(key.as_bytes(), brokers, now))
        };
        let brokers = self.brokers_in(Exceeded::Principal);
        if !admits(&self.principal_calls, principal, brokers) {
            return Err(Exceeded::Principal);
        }
        let brokers = self.brokers_in(Exceeded::Account);
        if admits(&self.account_calls, account, brokers)
            || admits(&self.principal_reserve, principal, brokers)
                && admits(&self.account_reserve, account, brokers)
        {
            Ok(())
        } else {
            Err(Exceeded::Account)
        }
    }

    /// Counts a call that a token of `provider` authenticated, but that was refused.
    ///
    /// # Errors
    /// [`Exceeded::Principal`] if there were too many such calls.
    pub fn unadmitted(&self, provider: &str, now: Duration) -> Result<(), Exceeded> {
        self.take(Exceeded::Principal, provider.as_bytes(), 1, now)
    }

    /// Counts a call whose caller was not authenticated.
    ///
    /// # Errors
    /// [`Exceeded::Source`] if there were too many such calls from its source.
    pub fn unproven(&self, source: Source, now: Duration) -> Result<(), Exceeded> {
        self.unproven_calls(source, 1, now)
    }

    /// Counts a call whose caller was not authenticated as `amount` calls.
    ///
    /// # Errors
    /// [`Exceeded::Source`] if there were too many such calls from its source.
    pub fn unproven_calls(
        &self,
        source: Source,
        amount: u64,
        now: Duration,
    ) -> Result<(), Exceeded> {
        self.take(Exceeded::Source, &source.0, amount, now)
    }

    /// Takes back what [`Budgets::unproven`] counted, for a call whose caller has been
    /// authenticated since.
    pub fn proven(&self, source: Source) {
        if let Some(calls) = &self.unproven {
            calls.give_back(&source.0);
        }
    }

    /// Counts a session that ends at `end`.
    ///
    /// # Errors
    /// [`Exceeded::Sessions`] if the principal or its account has too many live sessions.
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

    /// Sets the number of brokers that share the limits, including this one.
    pub fn share_among(&self, brokers: usize) {
        self.brokers.store(
            u64::try_from(brokers).unwrap_or(u64::MAX).max(1),
            Ordering::Relaxed,
        );
    }

    /// Whether other brokers share the limits.
    pub fn are_shared(&self) -> bool {
        self.brokers.load(Ordering::Relaxed) > 1
    }

    /// The calls to report to the other brokers: at most `most` keys, and of each budget those with the most calls.
    /// Accounts come first. Only calls, reads and requests to object stores are included; each broker counts the rest
    /// by itself.
    pub fn unsent(&self, most: usize) -> Vec<Unsent> {
        let mut unsent = Vec::new();
        for budget in [
            Exceeded::Account,
            Exceeded::Principal,
            Exceeded::Reads,
            Exceeded::ObjectRequests,
        ] {
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

    /// Records the total number of calls that all brokers have reported for a key, including those of `sent`. If
    /// `total` is `None` or an impossible number, this broker does not know how many calls the others have admitted.
    pub fn heard(&self, sent: &Unsent, total: Option<i64>, now: Duration) {
        if let Some(calls) = self.counted_in(sent.budget) {
            calls.heard(&sent.key, sent.calls, total, now);
        }
    }

    /// Forgets keys whose calls are too old to matter.
    pub fn sweep_calls(&self, now: Duration) {
        for budget in [
            Exceeded::Principal,
            Exceeded::Reads,
            Exceeded::ObjectRequests,
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
            &self.repeated_object_requests,
            &self.account_reserve,
            &self.principal_reserve,
        ]
        .into_iter()
        .flatten()
        {
            calls.sweep(1, now);
        }
        if let Some(subjects) = &self.subjects {
            subjects.sweep(self.brokers_in(Exceeded::Reads), now);
        }
    }

    /// Forgets principals and accounts whose sessions have all ended.
    pub fn sweep_sessions(&self, now: Timestamp) {
        for sessions in [&self.principal_sessions, &self.account_sessions]
            .into_iter()
            .flatten()
        {
            sessions.sweep(now);
        }
    }

    /// Forgets all sessions, because they were ended early.
    pub fn forget_sessions(&self) {
        self.sweep_sessions(Timestamp::from_millis(i64::MAX));
    }

    fn take(
        &self,
        budget: Exceeded,
        key: &[u8],
        amount: u64,
        now: Duration,
    ) -> Result<(), Exceeded> {
        let Some(calls) = self.counted_in(budget) else {
            return Ok(());
        };
        if calls.take(key, amount, self.brokers_in(budget), now) {
            Ok(())
        } else {
            Err(budget)
        }
    }

    /// The number of brokers that share a limit.
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
            Exceeded::ObjectRequests => self.principal_object_requests.as_ref(),
            Exceeded::Account => self.account_calls.as_ref(),
            Exceeded::Source => self.unproven.as_ref(),
            Exceeded::Revocations => self.revocations.as_ref(),
            Exceeded::Sessions | Exceeded::Repeats | Exceeded::Subjects => None,
        }
    }
}

#[cfg(test)]
mod tests;
