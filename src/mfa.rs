//! MFA by TOTP: a device and its code to a proof. RFC 6238 with RFC 4226; IAM User Guide,
//! "Configuring MFA-protected API access".
//!
//! A code is good once: the step that it was made for is spent in the store, where steps only grow.
//! Wrong codes are counted in the same transaction, by user and not by session, so that guessing is
//! bounded whatever else happens. Without the store nothing is proven; what the store has said of a
//! user who is locked out, or of a code that is spent, need not be asked again.

use std::sync::Arc;

use serde::Serialize;

use crate::base::clock::Timestamp;
use crate::base::field::FieldError;
use crate::base::names::SerialNumber;
use crate::base::secret::Secret;
use crate::directory::{MfaDevice, User};
use crate::error::{Error, MfaError};
use crate::ops::context::Context;
use crate::store::{Attempt, MAX_DRIFT, Matched, STEP_SECONDS};

/// How many steps beside the device's own a code may be of: RFC 6238 section 5.2.
const WINDOW: i64 = 1;
/// How far a device's clock may be off when it is enabled or synchronised, in steps: ten minutes.
const SYNCHRONISATION: i64 = MAX_DRIFT;

/// An MFA device and its code, as a caller gave them.
pub struct Code {
    serial_number: Option<SerialNumber>,
    token_code: Option<Secret<String>>,
}

impl Code {
    /// As given; what is missing or malformed is refused, and counted, by [`prove`].
    pub fn new(serial_number: Option<SerialNumber>, token_code: Option<String>) -> Self {
        Self {
            serial_number,
            token_code: token_code.map(Secret::new),
        }
    }

    /// The device, for the audit.
    pub fn serial_number(&self) -> Option<&str> {
        self.serial_number.as_ref().map(SerialNumber::as_str)
    }
}

/// The caller gave a code of a device of its own, now, for the first time.
pub struct Proven(());

/// Checks and spends a code of the calling user. It waits for the store: what is decided with the
/// proof is decided on what holds afterwards.
///
/// # Errors
/// [`MfaError`] says why, as much as the caller may know. A store that does not answer is a refusal.
pub async fn prove(cx: &mut Context<'_>, code: &Code) -> Result<Proven, Error> {
    let (Some(serial), Some(given)) = (&code.serial_number, &code.token_code) else {
        return Err(MfaError::Incomplete.into());
    };
    let (serial, given) = (serial.as_str(), given.expose());
    let Some(user) = cx.caller().user().cloned() else {
        return Err(MfaError::NotAssociated.into()); // a role has no device
    };
    if cx.broker.store.is_locked(&user.id, cx.now) {
        return Err(locked(cx));
    }
    let Some(device) = device_of(cx, &user, serial) else {
        return Err(failed(cx, &user, MfaError::NotAssociated.into()).await);
    };
    if given.len() != usize::from(device.digits) || !given.bytes().all(|b| b.is_ascii_digit()) {
        let rule = format!("must be the device's {} digits", device.digits);
        return Err(failed(cx, &user, FieldError::new("TokenCode", rule).into()).await);
    }
    // A code that was used is no guess, however late it comes again.
    let is_used = |step: Option<i64>| step.is_some_and(|step| shows(&device, given, step));
    if is_used(cx.broker.store.last_spent_step(serial)) {
        return Err(spent(cx));
    }
    let past = cx.wait(cx.broker.store.device_past(serial)).await?;
    if is_used(past.last_spent_step) {
        return Err(spent(cx));
    }
    let here = step_of(cx.now) + past.drift;
    let Some(step) = (here - WINDOW..=here + WINDOW)
        .filter(|s| shows(&device, given, *s))
        .max()
    else {
        return Err(failed(cx, &user, MfaError::Invalid.into()).await);
    };
    let matched = Matched {
        serial_number: serial.to_owned(),
        step,
        offset: step - here,
        made_at: device.made_at,
    };
    match cx
        .wait(cx.broker.store.attempt(&user.id, Some(matched), cx.now))
        .await?
    {
        // It may have been taken away meanwhile, or made anew with another seed.
        Attempt::Accepted
            if device_of(cx, &user, serial).is_some_and(|d| shows(&d, given, step)) =>
        {
            Ok(Proven(()))
        }
        Attempt::Accepted => Err(MfaError::NotAssociated.into()),
        Attempt::Spent => Err(spent(cx)),
        Attempt::Locked | Attempt::Counted => Err(locked(cx)),
    }
}

/// A user's device, as the directory has it now.
fn device_of(cx: &Context<'_>, user: &User, serial_number: &str) -> Option<Arc<MfaDevice>> {
    cx.directory
        .mfa_device(serial_number)
        .filter(|d| d.user_arn.as_deref() == Some(&*user.arn))
        .cloned()
}

/// Checks two consecutive codes of a device, and sets what is known of its clock: IAM API
/// Reference, "EnableMFADevice" and "ResyncMFADevice".
///
/// # Errors
/// `InvalidAuthenticationCode`, counted for the user; `EntityTemporarilyUnmodifiable` once there were
/// too many.
pub async fn synchronise(
    cx: &mut Context<'_>,
    user: &User,
    device: &MfaDevice,
    codes: (&str, &str),
) -> Result<(), Error> {
    let locked = |cx: &mut Context<'_>| {
        note(cx, "locked");
        Error::EntityTemporarilyUnmodifiable(MfaError::Locked.to_string())
    };
    if cx.broker.store.is_locked(&user.id, cx.now) {
        return Err(locked(cx));
    }
    let here = step_of(cx.now);
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
    match (
        cx.wait(cx.broker.store.attempt(&user.id, matched, cx.now))
            .await?,
        found,
    ) {
        (Attempt::Accepted, Some(step)) => {
            // One step off is what reading and typing takes.
            let off = step + 1 - here;
            let drift = if off.abs() > WINDOW { off } else { 0 };
            cx.wait(cx.broker.store.set_mfa_drift(serial, drift))
                .await?;
            // It may have been made anew meanwhile, with another seed.
            let same = cx
                .directory
                .mfa_device(serial)
                .is_some_and(|d| shows_both(d, step));
            if same {
                Ok(())
            } else {
                Err(Error::InvalidAuthenticationCode)
            }
        }
        (Attempt::Accepted | Attempt::Spent, _) => {
            note(cx, "spent");
            Err(Error::InvalidAuthenticationCode)
        }
        (Attempt::Counted, _) => {
            wrong(cx, user);
            Err(Error::InvalidAuthenticationCode)
        }
        (Attempt::Locked, _) => Err(locked(cx)),
    }
}

/// Whether a code is the one that the device shows in a step; compared in constant time.
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

/// Counts a failure of the user; the refusal itself, or that there were too many.
async fn failed(cx: &mut Context<'_>, user: &User, refusal: Error) -> Error {
    match cx
        .wait(cx.broker.store.attempt(&user.id, None, cx.now))
        .await
    {
        Ok(Attempt::Locked) => locked(cx),
        Ok(_) => {
            wrong(cx, user);
            refusal
        }
        Err(error) => error,
    }
}

fn wrong(cx: &mut Context<'_>, user: &User) {
    note(cx, "wrong");
    if cx.broker.store.is_locked(&user.id, cx.now) {
        // Said once: what is tried from here on is in the metrics and the audit.
        tracing::warn!(user = &*user.arn, "too many MFA codes of a user failed");
    }
}

fn spent(cx: &mut Context<'_>) -> Error {
    note(cx, "spent");
    MfaError::Invalid.into()
}

fn locked(cx: &mut Context<'_>) -> Error {
    note(cx, "locked");
    MfaError::Locked.into()
}

#[derive(Serialize)]
struct Noted {
    mfa: &'static str,
}

/// Somebody guesses, or mistypes: monitoring and the auditor see it.
fn note(cx: &mut Context<'_>, outcome: &'static str) {
    cx.broker
        .metrics
        .mfa_refused
        .get_or_create(&crate::metrics::MfaRefused { outcome })
        .inc();
    cx.remark(&Noted { mfa: outcome });
}
