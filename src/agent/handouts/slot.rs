//! One session, and when to fetch it again.

use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwapOption;

use super::Shared;
use crate::agent::cache::KeptSession;
use crate::agent::refresh;
use crate::agent::refusal::Refusal;
use crate::agent::session::RoleSession;
use crate::agent::source::FetchError;
use crate::agent::wanted::Wanted;
use crate::base::clock::Timestamp;
use crate::client::WatchedSession;

/// How long a caller waits for a fetch. SDKs give up after a second.
const PATIENCE: Duration = Duration::from_millis(800);
/// If less time than this is left, SDKs assume a later expiry than the true one: botocore adds ten minutes and up
/// to ten more at random.
const SHORT: Duration = Duration::from_secs(20 * 60);
/// How long a slot without a session is kept after the last request for it, so that the refusal is remembered.
const REFUSAL_KEPT: Duration = Duration::from_secs(60);

/// One session that is renewed before it expires, for everybody who asks for it.
pub struct Slot {
    shared: Arc<Shared>,
    wanted: Wanted,
    is_pinned: AtomicBool,
    /// Whether the session was kept over a restart and has not been renewed since.
    is_restored: AtomicBool,
    current: ArcSwapOption<RoleSession>,
    plan: Mutex<Plan>,
    /// Locked by the task that fetches, so that there is only one fetch at a time.
    fetching: tokio::sync::Mutex<()>,
    /// When the session was last asked for, in milliseconds since 1970.
    asked: AtomicI64,
}

/// When the next fetch is due, and how the last one ended.
struct Plan {
    /// From this time on, a request that finds no fresh session starts a fetch.
    on_demand_at: Timestamp,
    /// From this time on, a fetch is started even without a request.
    ahead_at: Timestamp,
    /// How many attempts have failed in a row, which determines the pause before the next one.
    failures: u32,
    /// Why the last attempt failed; `None` if it succeeded, or if there was no attempt yet.
    refusal: Option<Refusal>,
}

impl Slot {
    pub(super) fn new(shared: Arc<Shared>, wanted: Wanted, random: u16) -> Self {
        let now = shared.clock.now();
        Self {
            shared,
            wanted,
            is_pinned: AtomicBool::new(false),
            is_restored: AtomicBool::new(false),
            current: ArcSwapOption::empty(),
            plan: Mutex::new(Plan {
                on_demand_at: now,
                ahead_at: refresh::first_at(now, random),
                failures: 0,
                refusal: None,
            }),
            fetching: tokio::sync::Mutex::default(),
            asked: AtomicI64::new(now.millis()),
        }
    }

    pub(super) fn pin(&self) {
        self.is_pinned.store(true, Ordering::Relaxed);
    }

    /// The session for a caller that asks at `now`, from memory if there is a good one. Otherwise waits less than a
    /// second for a fetch.
    ///
    /// # Errors
    /// [`Refusal::Denied`] if the broker refuses the session for good, [`Refusal::Unavailable`] if there is no
    /// session in memory and none arrives in time.
    pub async fn get(self: &Arc<Self>, now: Timestamp) -> Result<Arc<RoleSession>, Refusal> {
        self.asked.store(now.millis(), Ordering::Relaxed);
        if let Some(session) = self.good(now)
            && now.plus(SHORT) < session.expires_at
        {
            return Ok(session);
        }
        // The request may be older than this slot, or than the end of its last session.
        let now = self.shared.clock.now();
        if self.plan().on_demand_at > now {
            return self.outcome(now);
        }
        // Boxed, so that the future of every request is small.
        Box::pin(self.fetched()).await
    }

    /// Waits for a fetch, for at most [`PATIENCE`], and returns the session or the reason why there is none.
    async fn fetched(self: &Arc<Self>) -> Result<Arc<RoleSession>, Refusal> {
        // The fetch goes on if the caller hangs up, so that the next one finds its result.
        let slot = self.clone();
        let fetch = tokio::spawn(async move { slot.fetch(Plan::is_due_on_demand).await });
        // After the time limit, or if the task failed, the answer is what there is now.
        let _ = tokio::time::timeout(PATIENCE, fetch).await;
        self.outcome(self.shared.clock.now())
    }

    /// The answer that can be given without waiting: a good session, or why there is none.
    fn outcome(&self, now: Timestamp) -> Result<Arc<RoleSession>, Refusal> {
        if let Some(session) = self.good(now) {
            return Ok(session);
        }
        let refusal = self.plan().refusal.clone();
        Err(refusal.unwrap_or_else(|| Refusal::Unavailable {
            reason: "the broker has not answered yet".to_owned(),
        }))
    }

    fn good(&self, now: Timestamp) -> Option<Arc<RoleSession>> {
        let session = self.current.load_full();
        session.filter(|session| refresh::is_good(now, session.expires_at))
    }

    /// The session, if it is still valid for long enough to be handed out.
    pub fn session(&self) -> Option<Arc<RoleSession>> {
        self.good(self.shared.clock.now())
    }

    /// The access key and token by which the broker recognizes the session, so that it can tell this agent when the
    /// session ends. `None` if there is no good session, or the session is not for a workload.
    pub(super) fn watched(&self) -> Option<WatchedSession> {
        let session = self.session()?;
        let token = session.credentials.session_token.clone()?;
        matches!(self.wanted, Wanted::Workload(_)).then(|| WatchedSession {
            access_key_id: session.credentials.access_key_id.clone(),
            session_token: token,
        })
    }

    /// The session as it is written to the sealed file. `None` if there is no good session, or its role is not in the
    /// configuration.
    pub(super) fn kept(&self) -> Option<KeptSession> {
        let session = self.session()?;
        let wanted = self.wanted.lasting_id()?;
        self.is_pinned
            .load(Ordering::Relaxed)
            .then(|| KeptSession::new(&wanted, &session))
    }

    /// Restores a session that was kept over a restart, if it belongs in this slot and is still good.
    pub(super) fn restore(&self, kept: &KeptSession) {
        let now = self.shared.clock.now();
        if self.wanted.lasting_id().as_ref() != Some(&kept.wanted) || self.good(now).is_some() {
            return;
        }
        let session = kept.session();
        let Some(session) = session.filter(|s| refresh::is_good(now, s.expires_at)) else {
            return;
        };
        let random = self.shared.random();
        // At the latest when it would have been renewed, and not at once with all agents that start now.
        let due_at = refresh::renew_at(session.issued_at, session.expires_at, random);
        let renew_at = due_at.max(refresh::first_at(now, random));
        tracing::info!(session = session.arn, until = %session.expires_at, "loaded a session from the session file of \
        the section [cache]");
        self.is_restored.store(true, Ordering::Relaxed);
        self.current.store(Some(Arc::new(session)));
        let mut plan = self.plan();
        plan.on_demand_at = due_at;
        plan.ahead_at = renew_at;
        drop(plan);
        self.shared.note_change();
    }

    /// Whether the slot must be kept: because it is pinned, holds a good session or was asked for recently.
    pub(super) fn is_kept(&self, now: Timestamp) -> bool {
        let asked = Timestamp::from_millis(self.asked.load(Ordering::Relaxed));
        self.is_pinned.load(Ordering::Relaxed)
            || self.good(now).is_some()
            || now < asked.plus(REFUSAL_KEPT)
    }

    /// Whether the slot holds a good session that was kept over a restart and has not been renewed since.
    pub(super) fn is_restored(&self) -> bool {
        self.is_restored.load(Ordering::Relaxed) && self.session().is_some()
    }

    /// The rank by which a full table chooses the slot to drop, lowest first: whether the slot holds a good session,
    /// and when it was last asked for. `None` if the slot is pinned and must not be dropped.
    pub(super) fn worth(&self, now: Timestamp) -> Option<(bool, i64)> {
        let asked = self.asked.load(Ordering::Relaxed);
        (!self.is_pinned.load(Ordering::Relaxed)).then(|| (self.good(now).is_some(), asked))
    }

    /// Makes the session due for renewal at once. It is handed out until the new one arrives.
    pub(super) fn renew_now(&self, now: Timestamp) {
        if self.good(now).is_some() {
            let mut plan = self.plan();
            plan.on_demand_at = now;
            plan.ahead_at = now;
        }
    }

    /// Begins a fetch if one is due. A session is not renewed if nobody has asked for it for as long as it is valid,
    /// unless it is pinned.
    pub(super) fn tend(self: &Arc<Self>, now: Timestamp) {
        let asked = Timestamp::from_millis(self.asked.load(Ordering::Relaxed));
        let life = |session: &RoleSession| session.expires_at.since(session.issued_at);
        let is_wanted = self.is_pinned.load(Ordering::Relaxed)
            || self
                .current
                .load()
                .as_ref()
                .is_some_and(|s| now < asked.plus(life(s)));
        if is_wanted && self.plan().ahead_at <= now && self.fetching.try_lock().is_ok() {
            let slot = self.clone();
            tokio::spawn(async move { slot.fetch(Plan::is_due_ahead).await });
        }
    }

    /// Drops the session if its access key is in the list.
    pub(super) fn ended(&self, access_key_ids: &[String]) {
        let current = self.current.load_full();
        let Some(session) =
            current.filter(|session| access_key_ids.contains(&session.credentials.access_key_id))
        else {
            return;
        };
        // A session that was fetched meanwhile stays.
        let dropped = self.current.compare_and_swap(&Some(session.clone()), None);
        if dropped
            .as_ref()
            .is_some_and(|dropped| Arc::ptr_eq(dropped, &session))
        {
            tracing::info!(
                session = session.arn,
                "the broker has ended the session; the agent no longer hands it out, and asks for a new one"
            );
            let (now, random) = (self.shared.clock.now(), self.shared.random());
            let mut plan = self.plan();
            plan.on_demand_at = now;
            plan.ahead_at = refresh::first_at(now, random);
            drop(plan);
            self.shared.note_change();
        }
    }

    /// Waits until no other fetch is running. Then fetches a session if `is_due` says that the slot still needs one.
    async fn fetch(&self, is_due: fn(&Plan, Timestamp) -> bool) {
        let _turn = self.fetching.lock().await;
        if !is_due(&self.plan(), self.shared.clock.now()) {
            return;
        }
        let fetched = self.shared.source.fetch(&self.wanted).await;
        let (now, random) = (self.shared.clock.now(), self.shared.random());
        self.shared.metrics.fetched(&fetched);
        match fetched.and_then(|session| self.by_own_clock(session, now)) {
            Ok(session) => {
                self.is_restored.store(false, Ordering::Relaxed);
                let renew_at = refresh::renew_at(now, session.expires_at, random);
                tracing::info!(session = session.arn, until = %session.expires_at, "got a session from the broker");
                self.current.store(Some(Arc::new(session)));
                *self.plan() = Plan {
                    on_demand_at: renew_at,
                    ahead_at: renew_at,
                    failures: 0,
                    refusal: None,
                };
                self.shared.note_change();
            }
            Err(error) => self.failed(error, now, random),
        }
    }

    /// Limits the life of a new session by the clock of this machine. If that clock is slow, it would show the
    /// expiry too late; so the session ends at the latest after the duration that was asked for, counted from now.
    ///
    /// # Errors
    /// [`FetchError::Clock`] if the session has expired by this clock, or will within [`refresh::MARGIN`]. The clock
    /// must then be fast.
    fn by_own_clock(
        &self,
        mut session: RoleSession,
        now: Timestamp,
    ) -> Result<RoleSession, FetchError> {
        let longest = now.plus(self.wanted.longest_life());
        session.expires_at = session.expires_at.min(longest);
        if refresh::is_good(now, session.expires_at) {
            return Ok(session);
        }
        let until = session.expires_at;
        Err(FetchError::Clock { now, until })
    }

    fn failed(&self, error: FetchError, now: Timestamp, random: u16) {
        // What workloads are not told.
        let cause = match &error {
            FetchError::Client(_) => None,
            error => Some(error.to_string()),
        };
        let refusal = Refusal::from(error);
        let mut plan = self.plan();
        let again_at = match &refusal {
            Refusal::Denied { .. } => {
                // The broker has decided: what was handed out before is not handed out any more.
                self.current.store(None);
                self.shared.note_change();
                plan.failures = 0;
                refresh::ask_again_at(now, random)
            }
            Refusal::Unavailable { .. } => {
                plan.failures = plan.failures.saturating_add(1);
                let is_urgent = self.good(now).is_none();
                refresh::retry_at(now, plan.failures, is_urgent, random)
            }
        };
        tracing::warn!(wanted = %self.wanted, %refusal, cause, again_at = %again_at, "could not get a session from \
            the broker; the next attempt is at the time again_at");
        plan.refusal = Some(refusal);
        plan.on_demand_at = again_at;
        plan.ahead_at = again_at;
    }

    fn plan(&self) -> std::sync::MutexGuard<'_, Plan> {
        self.plan.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Plan {
    fn is_due_on_demand(&self, now: Timestamp) -> bool {
        self.on_demand_at <= now
    }

    fn is_due_ahead(&self, now: Timestamp) -> bool {
        self.ahead_at <= now
    }
}
