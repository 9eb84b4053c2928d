//! Multi-factor authentication with TOTP: checks a code of a device. RFC 6238 with RFC 4226; IAM
//! User Guide, "Configuring MFA-protected API access".
//!
//! A code is valid once: the time step for which it was generated is marked as spent in the store,
//! where steps only increase. Wrong codes are counted in the same transaction, by user and not by
//! session, so more sessions do not give more guesses. Without the store no code is accepted. The
//! broker remembers which users are locked out and which codes are spent, and does not ask the
//! store about them again.

use std::future::Future;
use std::sync::Arc;

use crate::base::clock::Timestamp;
use crate::base::field::FieldError;
use crate::base::names::SerialNumber;
use crate::base::secret::Secret;
use crate::broker::Broker;
use crate::directory::{Directory, MfaDevice, User};
use crate::error::{Error, MfaError};
use crate::store::{Attempt, Lockout, MAX_DRIFT, Matched, STEP_SECONDS, StoreError};

/// The number of time steps before and after the device's current one whose codes are accepted: RFC
/// 6238 section 5.2.
const WINDOW: i64 = 1;
/// The maximum error of a device's clock, in time steps (ten minutes), when the device is enabled
/// or synchronised.
const SYNCHRONISATION: i64 = MAX_DRIFT;
/// Limits wrong codes: a user may give five, and then one more for every 15 minutes that pass,
/// which is at most about a hundred a day.
pub const LOCKOUT: Lockout = Lockout {
    failures: 5,
    forgiven_after_seconds: 900,
};

/// An MFA device and its code as the caller sent them, before any check.
pub struct Code {
    serial_number: Option<SerialNumber>,
    token_code: Option<Secret<String>>,
}

impl Code {
    /// Creates a code from the request's fields. [`prove`] refuses missing and malformed ones.
    pub fn new(serial_number: Option<SerialNumber>, token_code: Option<String>) -> Self {
        Self {
            serial_number,
            token_code: token_code.map(Secret::new),
        }
    }

    /// The serial number of the device, for the audit record; `None` if the request has no valid
    /// one.
    pub fn serial_number(&self) -> Option<&str> {
        self.serial_number.as_ref().map(SerialNumber::as_str)
    }
}

/// Proof that the caller gave an unused code of its own MFA device. Only this module can create it.
pub struct Proven {
    at: Timestamp,
}

impl Proven {
    /// When the code was accepted and spent.
    pub fn at(&self) -> Timestamp {
        self.at
    }
}

pub struct Refused {
    pub error: Error,
    /// The outcome for the audit record: `wrong`, `spent` or `locked`; `None` for all other errors.
    pub remark: Option<&'static str>,
}

impl<E: Into<Error>> From<E> for Refused {
    fn from(error: E) -> Self {
        Self {
            error: error.into(),
            remark: None,
        }
    }
}

/// The directory and the time on which a check of a code is based. Each wait for the store makes it
/// outdated.
pub struct Moment {
    pub directory: Arc<Directory>,
    /// The current time, which selects the time step of a code.
    pub now: Timestamp,
}

/// A check of one code. After each wait for the store it continues with the current directory and
/// time.
struct Attempting<'a, R> {
    broker: &'a Broker,
    moment: Moment,
    /// Returns the current state, or the error with which the caller would now be refused.
    renew: R,
}

/// Checks and spends a code of the calling user; `user` is `None` if the caller is not a user. After each wait, `renew`
/// returns the current state or refuses a caller that is no longer valid.
///
/// # Errors
/// [`Refused`] with an [`MfaError`] if the code is not accepted, with [`Error::Validation`] if it does not have the
/// form of the device's codes, with the error of `renew` if the caller is no longer valid, or with the store's error if
/// the store does not answer.
pub async fn prove(
    broker: &Broker,
    user: Option<Arc<User>>,
    code: &Code,
    moment: Moment,
    renew: impl FnMut() -> Result<Moment, Error>,
) -> Result<Proven, Refused> {
    let mut at = Attempting {
        broker,
        moment,
        renew,
    };
    let (Some(serial), Some(given)) = (&code.serial_number, &code.token_code) else {
        // No code of a device was tried, so this is no guess and is not counted.
        return Err(MfaError::Incomplete.into());
    };
    let (serial, given) = (serial.as_str(), given.expose());
    let Some(user) = user else {
        return Err(MfaError::NotAssociated.into()); // a role has no device
    };
    if broker.store.is_locked(&user.id, at.moment.now) {
        return Err(at.locked());
    }
    let Some(device) = at.moment.device_of(&user, serial) else {
        return Err(at.failed(&user, MfaError::NotAssociated.into()).await);
    };
    if given.len() != usize::from(device.digits) || !given.bytes().all(|b| b.is_ascii_digit()) {
        let rule = format!(
            "must be the code of {} digits that the device shows",
            device.digits
        );
        return Err(at
            .failed(&user, FieldError::new("TokenCode", rule).into())
            .await);
    }
    // A code that was used before is not a guess, however late it is repeated.
    let is_used = |step: Option<i64>| step.is_some_and(|step| shows(&device, given, step));
    if is_used(broker.store.last_spent_step(serial)) {
        return Err(at.spent());
    }
    let past = at.wait(broker.store.device_past(serial)).await?;
    if is_used(past.last_spent_step) {
        return Err(at.spent());
    }
    let here = step_of(at.moment.now) + past.drift;
    let Some(step) = (here - WINDOW..=here + WINDOW)
        .filter(|s| shows(&device, given, *s))
        .max()
    else {
        return Err(at.failed(&user, MfaError::Invalid.into()).await);
    };
    let matched = Matched {
        serial_number: serial.to_owned(),
        step,
        offset: step - here,
        made_at: device.made_at,
    };
    match at.attempt(&user, Some(matched)).await? {
        // Meanwhile the device may have been taken away, or replaced by one with another seed.
        Attempt::Accepted => match at.moment.device_of(&user, serial) {
            Some(device) if shows(&device, given, step) => Ok(Proven { at: at.moment.now }),
            _ => Err(MfaError::NotAssociated.into()),
        },
        Attempt::Spent => Err(at.spent()),
        Attempt::Locked | Attempt::Counted => Err(at.locked()),
    }
}

/// Checks two consecutive codes of a device and stores the offset of its clock: IAM API Reference, "EnableMFADevice"
/// and "ResyncMFADevice".
///
/// # Errors
/// `InvalidAuthenticationCode` if the codes are wrong, which counts against the user, or were used before, or if the
/// device was replaced meanwhile; `EntityTemporarilyUnmodifiable` after too many failures; and the error of `renew` or
/// of the store.
pub async fn synchronise(
    broker: &Broker,
    user: &User,
    device: &MfaDevice,
    codes: (&str, &str),
    moment: Moment,
    renew: impl FnMut() -> Result<Moment, Error>,
) -> Result<(), Refused> {
    let mut at = Attempting {
        broker,
        moment,
        renew,
    };
    let locked = |at: &Attempting<'_, _>| {
        let error = Error::EntityTemporarilyUnmodifiable(MfaError::Locked.to_string());
        at.refused("locked", error)
    };
    if broker.store.is_locked(&user.id, at.moment.now) {
        return Err(locked(&at));
    }
    let here = step_of(at.moment.now);
    let shows_both =
        |device: &MfaDevice, step| shows(device, codes.0, step) && shows(device, codes.1, step + 1);
    let found =
        (here - SYNCHRONISATION..=here + SYNCHRONISATION).find(|step| shows_both(device, *step));
    let serial = device.serial_number.as_str();
    let made_at = device.made_at;
    let matched = found.map(|step| Matched {
        serial_number: serial.to_owned(),
        step: step + 1,
        offset: 0,
        made_at,
    });
    match (at.attempt(user, matched).await?, found) {
        (Attempt::Accepted, Some(step)) => {
            // An offset of one step is normal for reading and typing.
            let off = step + 1 - here;
            let drift = if off.abs() > WINDOW { off } else { 0 };
            at.wait(broker.store.set_mfa_drift(serial, drift)).await?;
            // Meanwhile the device may have been replaced by one with another seed.
            let now = at.moment.directory.mfa_device(serial);
            if now.is_some_and(|device| shows_both(device, step)) {
                Ok(())
            } else {
                Err(Error::InvalidAuthenticationCode.into())
            }
        }
        (Attempt::Accepted | Attempt::Spent, _) => {
            Err(at.refused("spent", Error::InvalidAuthenticationCode))
        }
        (Attempt::Counted, _) => Err(at.wrong(user, Error::InvalidAuthenticationCode)),
        (Attempt::Locked, _) => Err(locked(&at)),
    }
}

impl Moment {
    /// Returns the device with this serial number if it is assigned to the user.
    fn device_of(&self, user: &User, serial_number: &str) -> Option<Arc<MfaDevice>> {
        self.directory
            .mfa_device(serial_number)
            .filter(|d| d.user_arn.as_deref() == Some(&*user.arn))
            .cloned()
    }
}

impl<R: FnMut() -> Result<Moment, Error>> Attempting<'_, R> {
    async fn wait<T>(
        &mut self,
        work: impl Future<Output = Result<T, StoreError>>,
    ) -> Result<T, Error> {
        let done = work.await?;
        self.moment = (self.renew)()?;
        Ok(done)
    }

    /// Marks the time step of a matching code as spent, or counts a failure if no code matched. A matching code is
    /// refused while the user is locked out.
    async fn attempt(&mut self, user: &User, matched: Option<Matched>) -> Result<Attempt, Error> {
        let now = self.moment.now;
        let broker = self.broker;
        self.wait(broker.store.attempt(&user.id, matched, LOCKOUT, now))
            .await
    }

    /// Counts a failure of the user. Returns `refusal`, or the lockout error after too many
    /// failures.
    async fn failed(&mut self, user: &User, refusal: Error) -> Refused {
        match self.attempt(user, None).await {
            Ok(Attempt::Locked) => self.locked(),
            Ok(_) => self.wrong(user, refusal),
            Err(error) => error.into(),
        }
    }

    fn wrong(&self, user: &User, refusal: Error) -> Refused {
        if self.broker.store.is_locked(&user.id, self.moment.now) {
            // This is logged only once; later attempts are in the metrics and the audit log.
            tracing::warn!(
                user = &*user.arn,
                "too many wrong MFA codes: the codes of this user are refused for up to 15 minutes; its calls without a code are \
                 not affected"
            );
        }
        self.refused("wrong", refusal)
    }

    fn spent(&self) -> Refused {
        self.refused("spent", MfaError::Invalid.into())
    }

    fn locked(&self) -> Refused {
        self.refused("locked", MfaError::Locked.into())
    }

    /// Counts the refusal in the metrics, and notes its outcome for the audit record, so that
    /// guessing is visible in both.
    fn refused(&self, outcome: &'static str, error: Error) -> Refused {
        self.broker
            .metrics
            .mfa_refused
            .get_or_create(&crate::metrics::MfaRefused { outcome })
            .inc();
        Refused {
            error,
            remark: Some(outcome),
        }
    }
}

/// Returns whether the device shows this code at `now`, given that its clock is off by `drift`
/// steps. The code may have been used before, so a match is no proof of the second factor.
pub fn shows_now(device: &MfaDevice, code: &str, now: Timestamp, drift: i64) -> bool {
    let here = step_of(now) + drift;
    (here - WINDOW..=here + WINDOW).any(|step| shows(device, code, step))
}

/// Returns whether the device shows this code in the time step `step`. The comparison takes
/// constant time.
fn shows(device: &MfaDevice, code: &str, step: i64) -> bool {
    let Ok(seconds) = u64::try_from(step.saturating_mul(STEP_SECONDS)) else {
        return false;
    };
    device
        .totp()
        .is_some_and(|totp| totp.check(code, seconds).is_some())
}

fn step_of(now: Timestamp) -> i64 {
    now.seconds().div_euclid(STEP_SECONDS)
}
