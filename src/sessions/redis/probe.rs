//! Checks that Redis answers, and that its settings suit a broker.

use std::sync::PoisonError;
use std::sync::atomic::Ordering;

use super::DEADLINE;
use super::RedisSessions;
use super::ask::{PAUSE, WRONG_TYPE};
use super::authentic::authenticated;
use super::names::{index_name, texts};
use crate::base::clock::Timestamp;
use crate::session::keyring::Keyring;
use crate::sessions::record::member;
use crate::sessions::{SessionsError, Standing};

/// How many times [`RedisSessions::examine`] asks a Redis that does not answer.
const EXAMINED: u32 = 3;
/// The settings of Redis are checked once in this many probes. There is one probe a second.
const CHECK_EVERY: u64 = 5;

impl RedisSessions {
    pub fn standing(&self) -> Standing {
        let unfit = self.unfit.lock().unwrap_or_else(PoisonError::into_inner);
        match &*unfit {
            Some(why) => Standing::Unfit(why.clone()),
            None if self.paused_until.load(Ordering::Relaxed) != 0 => Standing::Down,
            None if self.odd_until.load(Ordering::Relaxed) > self.age() => Standing::Odd,
            None => Standing::Up,
        }
    }

    /// Asks whether Redis answers again, and at every fifth call checks its settings. Must be called once a second.
    pub async fn probe(&self, keyring: &Keyring, now: Timestamp) {
        let due = self
            .probes
            .fetch_add(1, Ordering::Relaxed)
            .is_multiple_of(CHECK_EVERY);
        if !due && self.standing() == Standing::Up {
            return;
        }
        match self.check(keyring, now).await {
            Ok(None) => self.fit(None),
            Ok(Some(why)) => self.fit(Some(why)),
            // The failure has begun the pause, or the server's answer has been recorded.
            Err(_) => {}
        }
    }

    /// Checks the settings of Redis. Returns the reason why a broker must not use it, because it may evict records, or
    /// `None` if its settings are suitable.
    async fn check(
        &self,
        keyring: &Keyring,
        now: Timestamp,
    ) -> Result<Option<String>, SessionsError> {
        let mut info = redis::cmd("INFO");
        info.arg("memory");
        let mut text = String::new();
        texts(&self.ask_one(info).await?, &mut text);
        let policies = text
            .lines()
            .filter_map(|l| l.trim().strip_prefix("maxmemory_policy:"));
        for policy in policies {
            if policy != "noeviction" {
                return Ok(Some(format!(
                    "the maxmemory-policy of redis is `{policy}`; set `noeviction`"
                )));
            }
        }
        let name = format!("brevet:{}:probe", keyring.cluster_id());
        let value = authenticated(keyring, &name, &now.millis().to_be_bytes())
            .ok_or(SessionsError::WithoutKey)?;
        let mut set = redis::cmd("SET");
        set.arg(&name).arg(&value).arg("EX").arg(60);
        let mut trim = redis::cmd("ZREMRANGEBYLEX");
        trim.arg(index_name(keyring))
            .arg("-")
            .arg(format!("({}", member(now.seconds() + 1, &[])));
        // An index of a wrong type is reported separately, and is no reason to do without Redis.
        self.ask_each(&[set, trim], &[WRONG_TYPE]).await?;
        Ok(None)
    }

    /// Checks that Redis answers, accepts this broker, and has suitable settings. Since Redis may just be starting, it
    /// is asked up to [`EXAMINED`] times.
    ///
    /// # Errors
    /// The reason why Redis cannot be used, as a sentence.
    pub async fn examine(&self, keyring: &Keyring, now: Timestamp) -> Result<(), String> {
        let mut why = String::new();
        for attempt in 0..EXAMINED {
            if attempt > 0 {
                tokio::time::sleep(PAUSE + DEADLINE).await;
            }
            match (self.check(keyring, now).await, self.standing()) {
                (Ok(None), _) => return Ok(()),
                (Ok(Some(unfit)), _) | (Err(_), Standing::Unfit(unfit)) => return Err(unfit),
                (Err(error), _) => why = error.to_string(),
            }
        }
        Err(why)
    }

    /// Records the reason why the settings of Redis do not suit a broker, or `None` if they do, and logs a change.
    pub(super) fn fit(&self, why: Option<String>) {
        let mut unfit = self.unfit.lock().unwrap_or_else(PoisonError::into_inner);
        if *unfit != why {
            match &why {
                Some(why) => {
                    tracing::error!(%why, "redis is not configured as a broker needs it; this node is not ready")
                }
                None => tracing::info!("redis is configured as a broker needs it again"),
            }
            self.metrics.sessions_fit.set(i64::from(why.is_none()));
            *unfit = why;
        }
    }
}
