//! How much one principal and one account may ask for: calls a second, and sessions that live at a
//! time. What is beyond it waits; everybody else does not notice. Each broker counts for itself, and
//! brokers that share a Redis count calls together besides.

use std::collections::{HashMap, VecDeque};
use std::num::NonZeroU32;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use governor::clock::Clock as GovernorClock;
use governor::middleware::NoOpMiddleware;
use governor::nanos::Nanos;
use governor::state::keyed::DashMapStateStore;
use governor::{Quota, RateLimiter};

use crate::clock::{Clock, Timestamp};

/// The budgets of a principal or of an account; none: no limit.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Budget {
    /// Calls a second; twice as many may come at once.
    pub calls_per_second: Option<NonZeroU32>,
    /// Sessions that have not ended.
    pub live_sessions: Option<NonZeroU32>,
}

/// Beyond a budget.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Exceeded;

type Limiter = RateLimiter<Box<str>, DashMapStateStore<Box<str>>, Injected, NoOpMiddleware<Nanos>>;

/// What each has used of its budget.
pub struct Budgets {
    principal: Used,
    account: Used,
}

struct Used {
    calls_per_second: Option<NonZeroU32>,
    calls: Option<Limiter>,
    live_sessions: Option<Sessions>,
}

struct Sessions {
    most: u64,
    live: Mutex<HashMap<Box<str>, Live>>,
}

/// Sessions by the minute in which they end.
#[derive(Default)]
struct Live {
    ends: VecDeque<(i64, u64)>,
    count: u64,
}

/// The broker's clock as the limiter reads it.
#[derive(Clone)]
struct Injected(Arc<dyn Clock>);

impl GovernorClock for Injected {
    type Instant = Nanos;

    fn now(&self) -> Nanos {
        Nanos::from(self.0.monotonic())
    }
}

impl Budgets {
    /// With nothing used.
    pub fn new(principal: Budget, account: Budget, clock: &Arc<dyn Clock>) -> Self {
        Self { principal: Used::new(principal, clock), account: Used::new(account, clock) }
    }

    /// Counts a call.
    ///
    /// # Errors
    /// When the principal or its account has had too many.
    pub fn call(&self, principal: &str, account: &str) -> Result<(), Exceeded> {
        self.principal.call(principal)?;
        self.account.call(account)
    }

    /// Whose calls brokers count together, and how many of them there may be in [`WINDOW`].
    pub fn shared<'a>(&self, principal: &'a str, account: &'a str) -> Vec<(&'a str, u64)> {
        let limit = |used: &Used| used.calls_per_second.map(|calls| u64::from(calls.get()) * WINDOW.as_secs());
        let principal = limit(&self.principal).map(|limit| (principal, limit));
        principal.into_iter().chain(limit(&self.account).map(|limit| (account, limit))).collect()
    }

    /// Counts a session that ends then.
    ///
    /// # Errors
    /// When the principal or its account has too many that live.
    pub fn session(&self, principal: &str, account: &str, now: Timestamp, end: Timestamp) -> Result<(), Exceeded> {
        self.principal.session(principal, now, end)?;
        self.account.session(account, now, end)
    }

    /// Forgets who asks for nothing.
    pub fn sweep(&self, now: Timestamp) {
        for used in [&self.principal, &self.account] {
            if let Some(calls) = &used.calls {
                calls.retain_recent();
            }
            if let Some(sessions) = &used.live_sessions {
                sessions.live.lock().unwrap_or_else(PoisonError::into_inner).retain(|_, live| {
                    live.forget(now);
                    live.count > 0
                });
            }
        }
    }
}

impl Used {
    fn new(budget: Budget, clock: &Arc<dyn Clock>) -> Self {
        let limiter = |calls: NonZeroU32| {
            let quota = Quota::per_second(calls).allow_burst(calls.saturating_mul(NonZeroU32::MIN.saturating_add(1)));
            RateLimiter::new(quota, DashMapStateStore::default(), Injected(clock.clone()))
        };
        Self {
            calls_per_second: budget.calls_per_second,
            calls: budget.calls_per_second.map(limiter),
            live_sessions: budget
                .live_sessions
                .map(|most| Sessions { most: most.get().into(), live: Mutex::default() }),
        }
    }

    fn call(&self, who: &str) -> Result<(), Exceeded> {
        match &self.calls {
            Some(calls) => calls.check_key(&who.into()).map_err(|_| Exceeded),
            None => Ok(()),
        }
    }

    fn session(&self, who: &str, now: Timestamp, end: Timestamp) -> Result<(), Exceeded> {
        let Some(sessions) = &self.live_sessions else { return Ok(()) };
        let mut all = sessions.live.lock().unwrap_or_else(PoisonError::into_inner);
        let live = match all.get_mut(who) {
            Some(live) => live,
            None => all.entry(who.into()).or_default(),
        };
        live.forget(now);
        if live.count >= sessions.most {
            return Err(Exceeded);
        }
        live.add(end);
        Ok(())
    }
}

impl Live {
    fn forget(&mut self, now: Timestamp) {
        while let Some((minute, count)) = self.ends.front().copied() {
            if (minute + 1) * 60 > now.seconds() {
                return;
            }
            self.ends.pop_front();
            self.count = self.count.saturating_sub(count);
        }
    }

    fn add(&mut self, end: Timestamp) {
        let minute = end.seconds().div_euclid(60);
        let at = self.ends.partition_point(|(m, _)| *m < minute);
        match self.ends.get_mut(at) {
            Some((m, count)) if *m == minute => *count += 1,
            _ => self.ends.insert(at, (minute, 1)),
        }
        self.count += 1;
    }
}

/// In what brokers count calls together: so that twice a second's may come at once, as on one.
pub const WINDOW: Duration = Duration::from_secs(2);

/// How long between two sweeps.
pub const SWEEP_EVERY: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::ManualClock;

    #[test]
    fn each_has_its_own_budget_and_time_gives_it_back() {
        let manual = Arc::new(ManualClock::new(Timestamp::from_seconds(1_000)));
        let clock: Arc<dyn Clock> = manual.clone();
        let budget = |calls, sessions| Budget {
            calls_per_second: NonZeroU32::new(calls),
            live_sessions: NonZeroU32::new(sessions),
        };
        let budgets = Budgets::new(budget(2, 2), budget(0, 3), &clock);
        let call = |who| budgets.call(who, "111122223333").is_ok();
        assert_eq!(
            [call("a"), call("a"), call("a"), call("a"), call("a"), call("b")],
            [true, true, true, true, false, true]
        );
        manual.pass(Duration::from_millis(500));
        assert_eq!([call("a"), call("a")], [true, false]);

        let at = Timestamp::from_seconds;
        let session = |who, now, end| budgets.session(who, "111122223333", at(now), at(end)).is_ok();
        assert!(session("a", 0, 900) && session("a", 0, 3_600) && !session("a", 0, 900));
        assert!(session("b", 0, 900) && !session("b", 0, 900), "the account has three");
        assert!(session("a", 961, 3_600) && !session("a", 961, 3_600), "one of a's has ended");
        budgets.sweep(at(10_000));
        assert!(session("a", 10_000, 20_000));
    }
}
