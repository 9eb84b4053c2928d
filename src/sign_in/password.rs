//! The sign-in of a user of the directory by its password, and by a code of its MFA device if it has one.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::known;
use super::{Method, NewSignIn, SignIn};
use crate::base::arn::AccountId;
use crate::base::clock::Timestamp;
use crate::base::names::SerialNumber;
use crate::broker::Broker;
use crate::budgets;
use crate::directory::{Directory, MfaDevice, User};
use crate::error::{Error, MfaError};
use crate::login::{self, Place, Refused};
use crate::mfa::{self, Code, Moment};
use crate::origin::Origin;
use crate::password::text::MAX_BYTES;
use crate::signed_in::{Factor, Who};

/// The input of somebody who signs in as a user.
pub struct Given<'a> {
    /// The number or the alias of the account. If it is empty, the user name must be that of one account only.
    pub account: &'a str,
    pub user_name: &'a str,
    pub password: &'a Zeroizing<String>,
    /// The cookie of a known browser ([`known`](super::known)), if the browser sent one.
    pub known_browser: Option<&'a str>,
}

/// A user whose password, and possibly whose MFA code, was accepted, but who is not signed in yet.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Proven {
    pub user_id: String,
    user_arn: String,
    pub user_name: String,
    /// The mark (`password_mark`) of the password that was given. It no longer matches if the user's password is
    /// changed meanwhile.
    mark: Option<String>,
    /// When the password was given, which is the time of this factor of the sign-in.
    password_at: Timestamp,
    /// When a code was given, and the serial number of its device; `None` if no code was given yet.
    code: Option<(Timestamp, String)>,
}

/// Checks the password of a user who signs in. The answer is the same, and takes the same time, for a user
/// that does not exist, one without a password and a wrong password.
///
/// # Errors
/// The same as for [`login::verify`].
pub async fn check(broker: &Broker, given: &Given<'_>, origin: &Origin) -> Result<Proven, Refused> {
    if given.password.len() > MAX_BYTES || given.user_name.len() > MAX_BYTES {
        return Err(Refused::Wrong);
    }
    let (name, password) = (given.user_name, given.password);
    let source = Place::Browser(budgets::source(origin.source_ip));
    if given.known_browser.is_none() && source.is_shut(broker) {
        // Before the directory is searched for the name.
        return Err(Refused::Locked);
    }
    let directory = broker.directory.load_full();
    let account = account(&directory, given.account, name);
    let user = directory.user_named(account, name);
    let known = user.zip(given.known_browser);
    let known = known.and_then(|(user, text)| known::recognise(broker, text, &user.id));
    let place = match &known {
        Some(browser) => Place::KnownBrowser(browser),
        None => source,
    };
    let verified = login::verify(broker, account, name, password, place).await?;
    let (user, at) = (verified.user, broker.clock.now());
    Ok(Proven {
        user_id: user.id.to_string(),
        user_arn: user.arn.to_string(),
        user_name: user.name.to_string(),
        mark: verified.mark,
        password_at: at,
        code: None,
    })
}

/// The account in which a user signs in. If the account does not exist, or no account was given and not exactly one
/// account has a user of this name with a password, returns an account without users, so that the check fails as for a
/// wrong password.
fn account(directory: &Directory, account: &str, user_name: &str) -> AccountId {
    let account = account.trim();
    let digits: String = account.chars().filter(|c| *c != '-').collect();
    let found = if account.is_empty() {
        let mut users = directory
            .users_named(user_name)
            .filter(|user| directory.login_profile(&user.arn).is_some())
            .map(|user| user.account);
        users.next().filter(|_| users.next().is_none())
    } else {
        AccountId::parse(&digits).or_else(|| directory.account_with_alias(account))
    };
    found.unwrap_or(AccountId::NOBODY)
}

impl Proven {
    /// The present state of the user in the directory.
    ///
    /// # Errors
    /// [`Error::Ended`] if the user was deleted, or deleted and created again, since the password was given.
    pub fn user(&self, broker: &Broker) -> Result<Arc<User>, Error> {
        user_of(broker, &self.user_arn, &self.user_id)
    }

    /// Checks a code of one of the user's MFA devices. A code cannot be used a second time.
    ///
    /// # Errors
    /// [`Error::Mfa`] if the code is not accepted, and [`Error::Ended`] if the user was deleted meanwhile. [`Error`]
    /// also if the store does not answer.
    pub async fn add_code(&mut self, broker: &Broker, code: &str) -> Result<(), Error> {
        let user = self.user(broker)?;
        let (at, serial) = spend_code(broker, &user, code).await?;
        self.code = Some((at, serial));
        Ok(())
    }

    /// Whether a code is still needed: the user has a device, and has given no code of it.
    pub fn needs_code(&self, broker: &Broker) -> bool {
        self.code.is_none() && has_device(&broker.directory.load(), &self.user_arn)
    }

    /// The facts from which [`begin`](super::begin) makes a sign-in.
    ///
    /// # Errors
    /// [`Error::Ended`] if the user was deleted or has no password by now, and [`Error::Mfa`] if a code is needed.
    pub fn sign_in(&self, broker: &Broker) -> Result<NewSignIn, Error> {
        let user = self.user(broker)?;
        let (directory, now) = (broker.directory.load(), broker.clock.now());
        let profile = directory.login_profile(&user.arn).ok_or(Error::Ended)?;
        let mark = self.mark.clone().ok_or(Error::Ended)?;
        let must_change = login::must_change(&directory, &user, profile, now);
        if self.needs_code(broker) {
            return Err(MfaError::Incomplete.into());
        }
        let password = Factor {
            method: Method::Pwd,
            at: self.password_at,
            device: None,
        };
        let code = self.code.as_ref().map(|(at, serial)| Factor {
            method: Method::Otp,
            at: *at,
            device: Some(serial.clone()),
        });
        Ok(NewSignIn {
            who: Who::User {
                account: user.account,
                id: user.id.to_string(),
                name: user.name.to_string(),
                arn: user.arn.to_string(),
            },
            factors: std::iter::once(password).chain(code).collect(),
            ends_by: None,
            provider_session: None,
            password: Some(mark),
            must_change_password: must_change.is_some(),
        })
    }
}

/// Whether the user with this ARN has an MFA device, so that a sign-in needs a code of it.
pub fn has_device(directory: &Directory, user_arn: &str) -> bool {
    devices(directory, user_arn).next().is_some()
}

fn devices<'d>(
    directory: &'d Directory,
    user_arn: &str,
) -> impl Iterator<Item = &'d Arc<MfaDevice>> {
    directory
        .mfa_devices()
        .filter(move |device| device.user_arn.as_deref() == Some(user_arn))
}

/// Checks a code of one of the user's MFA devices, which cannot be used a second time. Returns the time of the check,
/// and the device's serial number.
async fn spend_code(
    broker: &Broker,
    user: &Arc<User>,
    code: &str,
) -> Result<(Timestamp, String), Error> {
    let moment = || {
        broker.must_know_what_is_revoked()?;
        broker.must_know_the_time()?;
        user_of(broker, &user.arn, &user.id)?;
        Ok(Moment {
            directory: broker.directory.load_full(),
            now: broker.clock.now(),
        })
    };
    let serial = device_that_shows(broker, user, code).await?;
    let Some(serial) = serial else {
        return Err(MfaError::NotAssociated.into());
    };
    let number = SerialNumber::parse("SerialNumber", &serial).ok();
    let code = Code::new(number, Some(code.to_owned()));
    let proven = mfa::prove(broker, Some(user.clone()), &code, moment()?, moment).await;
    match proven {
        Ok(proven) => Ok((proven.at(), serial)),
        Err(refused) => Err(refused.error),
    }
}

/// The serial number of the device that shows this code now, or of the first device if none of them shows it. A person
/// does not say which of their devices they use, so this function finds it. It does not accept the code; the caller
/// must check the code.
///
/// While the user is locked out, no device is compared with the code. Otherwise all of them are compared, so that the
/// time of the answer reveals nothing.
async fn device_that_shows(
    broker: &Broker,
    user: &User,
    code: &str,
) -> Result<Option<String>, Error> {
    let directory = broker.directory.load_full();
    let mut all: Vec<&Arc<MfaDevice>> = devices(&directory, &user.arn).collect();
    all.sort_by(|a, b| a.serial_number.as_str().cmp(b.serial_number.as_str()));
    let mut shows = None;
    if all.len() > 1 && !broker.store.is_locked(&user.id, broker.clock.now()) {
        let mut drifts = Vec::with_capacity(all.len());
        for device in &all {
            let past = broker.store.device_past(device.serial_number.as_str());
            drifts.push(past.await?.drift);
        }
        let now = broker.clock.now();
        for (device, drift) in all.iter().zip(drifts) {
            if mfa::shows_now(device, code, now, drift) {
                shows = Some(device);
            }
        }
    }
    let device = shows.or_else(|| all.first());
    Ok(device.map(|device| device.serial_number.as_str().to_owned()))
}

/// The proof by which a person confirms a change of its own credentials.
pub enum Confirmation<'a> {
    /// A code of one of the user's MFA devices.
    Code(&'a str),
    /// The user's password, if the user has no device.
    Password(&'a Zeroizing<String>),
    /// No further proof; accepted if the sign-in is recent and the user has no device.
    Recent,
}

/// For this many seconds after giving a factor, a user without an MFA device may change its own credentials without
/// giving its password again.
const RECENT_SECONDS: i64 = 300;

/// Whether a factor of this sign-in was given within the last five minutes.
pub fn is_recent(sign_in: &SignIn, now: Timestamp) -> bool {
    let newest = sign_in.factors.iter().map(|factor| factor.at).max();
    newest.is_some_and(|at| now.since(at).as_secs() <= RECENT_SECONDS.unsigned_abs())
}

/// Checks that the person at the browser is still the one who signed in. Returns the factor that was given as
/// confirmation, or `None` for [`Confirmation::Recent`].
///
/// # Errors
/// [`Refused`] if the password or the code is not accepted, or is missing.
pub async fn confirm(
    broker: &Broker,
    sign_in: &SignIn,
    user: &Arc<User>,
    confirmation: Confirmation<'_>,
) -> Result<Option<Factor>, Refused> {
    let has_device = has_device(&broker.directory.load(), &user.arn);
    match confirmation {
        Confirmation::Code(code) => {
            let (at, device) = spend_code(broker, user, code).await?;
            Ok(Some(Factor {
                method: Method::Otp,
                at,
                device: Some(device),
            }))
        }
        Confirmation::Password(password) if !has_device => {
            if password.len() > MAX_BYTES {
                return Err(Refused::Wrong);
            }
            let (account, name) = (user.account, &user.name);
            login::verify(broker, account, name, password, Place::Signed).await?;
            Ok(Some(Factor {
                method: Method::Pwd,
                at: broker.clock.now(),
                device: None,
            }))
        }
        Confirmation::Recent if !has_device && is_recent(sign_in, broker.clock.now()) => Ok(None),
        Confirmation::Password(_) | Confirmation::Recent => Err(MfaError::Incomplete.into()),
    }
}

fn user_of(broker: &Broker, arn: &str, id: &str) -> Result<Arc<User>, Error> {
    let directory = broker.directory.load();
    let user = directory.user(arn).filter(|user| &*user.id == id);
    user.cloned().ok_or(Error::Ended)
}
