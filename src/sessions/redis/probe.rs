//! Whether this Redis answers, and is set up as a broker needs it.

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

/// How often a Redis that does not answer is asked by [`RedisSessions::examine`].
const EXAMINED: u32 = 3;
/// How many probes come between two looks at whether Redis is fit.
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

    /// Once a second: whether a Redis that went away is back, and now and then whether it is fit.
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
            // It went into the pause, or what the server said is known already.
            Err(_) => {}
        }
    }

    /// Why this Redis must not be used, if it answers: it may drop records for want of room, or does
    /// not keep what is written.
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
                    "its maxmemory-policy is `{policy}`; set `noeviction`"
                )));
            }
        }
        let name = format!("brevet:{}:probe", keyring.cluster_id());
        let value = authenticated(keyring, &name, &now.millis().to_be_bytes())
            .ok_or(SessionsError::Forged)?;
        let mut set = redis::cmd("SET");
        set.arg(&name).arg(&value).arg("EX").arg(60);
        let mut trim = redis::cmd("ZREMRANGEBYLEX");
        trim.arg(index_name(keyring))
            .arg("-")
            .arg(format!("({}", member(now.seconds() + 1, &[])));
        // An index of a wrong type is reported by itself, and is no reason to do without Redis.
        self.ask_each(&[set, trim], &[WRONG_TYPE]).await?;
        Ok(None)
    }

    /// Whether it answers, lets this broker in and is set up as one needs it. It may be slow at first, and is
    /// asked [`EXAMINED`] times.
    ///
    /// # Errors
    /// Why not.
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

    /// Notes why Redis must not be used as it is, or that it is fit, and logs it when that is news.
    pub(super) fn fit(&self, why: Option<String>) {
        let mut unfit = self.unfit.lock().unwrap_or_else(PoisonError::into_inner);
        if *unfit != why {
            match &why {
                Some(why) => {
                    tracing::error!(%why, "redis must not be used as it is: this node is not ready")
                }
                None => tracing::info!("redis is fit again"),
            }
            self.metrics.sessions_fit.set(i64::from(why.is_none()));
            *unfit = why;
        }
    }
}
