//! Checks the password of a user: IAM User Guide, "Manage passwords for IAM users".
//!
//! A user that does not exist, one without a password and a wrong password take the same work and
//! give the same answer. Only somebody who gives the right password learns whether it has expired.

use std::sync::Arc;

use zeroize::Zeroizing;

use crate::base::arn::AccountId;
use crate::base::digest::{hex, sha256};
use crate::base::secret::is_same_secret;
use crate::broker::Broker;
use crate::directory::{Directory, LoginProfile, User};
use crate::error::Error;
use crate::hashing::HashingError;
use crate::store::{Attempt, Lockout};

/// A user may give ten wrong passwords, and another one every five minutes.
const LOCKOUT: Lockout = Lockout {
    failures: 10,
    forgiven_after_seconds: 300,
};

#[cfg_attr(
    not(any(test, feature = "internals")),
    allow(dead_code, reason = "a change of the password needs neither of them")
)]
/// A user that has given its password.
pub struct Verified {
    pub user: Arc<User>,
    /// Why the user must choose another password before it may do anything else.
    pub must_change: Option<MustChange>,
}

/// Why a user must choose another password.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MustChange {
    /// An administrator demands it.
    ResetRequired,
    /// The password is older than the account's password policy allows.
    Expired,
}

/// Why a password was not accepted.
#[derive(Debug, PartialEq, Eq)]
pub enum Refused {
    /// The user does not exist, has no password, or has another one.
    Wrong,
    /// Too many wrong passwords were given for this user. The password was not compared.
    Locked,
    /// The password is right but has expired, and only an administrator may set another one.
    Expired,
    /// It cannot be checked at the moment.
    Unavailable(Error),
}

impl<E: Into<Error>> From<E> for Refused {
    fn from(error: E) -> Self {
        Self::Unavailable(error.into())
    }
}

/// Checks the password of a user, by the state after all waiting.
///
/// # Errors
/// [`Refused`] for a wrong or expired password, for a user that gave too many wrong ones, and if the
/// password cannot be checked.
pub async fn verify(
    broker: &Broker,
    account: AccountId,
    user_name: &str,
    password: &Zeroizing<String>,
) -> Result<Verified, Refused> {
    let known = profile_of(&broker.directory.load(), account, user_name);
    let known = known.map(|(user, profile)| (user, profile.hash.clone()));
    let hash = known.as_ref().map(|(_, hash)| hash.expose().as_str());
    // Guesses of a name that nobody has are counted as well, or a refusal would take less time.
    let guesses = match &known {
        Some((user, _)) => format!("password {}", user.id),
        None => {
            let name = format!("{account}/{}", user_name.to_ascii_lowercase());
            format!("password of nobody {}", hex(&sha256(name.as_bytes())))
        }
    };
    let now = broker.clock.now();
    if broker.store.is_locked(&guesses, now) {
        // This takes as long as a comparison.
        let compared = broker.hashing.is_of(&guesses, password, None).await;
        compared.map_err(|error| refused(broker, error))?;
        return Err(Refused::Locked);
    }
    let right = broker.hashing.is_of(&guesses, password, hash).await;
    let right = right.map_err(|error| refused(broker, error))?;
    let Some((user, hash)) = known.filter(|_| right) else {
        // The store counts for all brokers.
        let attempt = broker.store.attempt(&guesses, None, LOCKOUT, now).await?;
        return Err(match attempt {
            Attempt::Locked => Refused::Locked,
            _ => Refused::Wrong,
        });
    };
    if broker.store.is_locked(&guesses, broker.clock.now()) {
        return Err(Refused::Locked);
    }
    broker.must_know_what_is_revoked()?;
    broker.must_know_the_time()?;
    let directory = broker.directory.load();
    let current = profile_of(&directory, account, user_name).filter(|(now, profile)| {
        now.id == user.id
            && is_same_secret(profile.hash.expose().as_bytes(), hash.expose().as_bytes())
    });
    let Some((user, profile)) = current else {
        return Err(Refused::Wrong);
    };
    let now = broker.clock.now();
    let policy = directory.password_policy(account);
    let has_expired = policy.has_expired(now.seconds().saturating_sub(profile.changed_at));
    if has_expired && policy.hard_expiry {
        return Err(Refused::Expired);
    }
    broker.key_use.note(&user.id, now, "signin", &broker.region);
    let must_change = match (profile.must_be_reset, has_expired) {
        (true, _) => Some(MustChange::ResetRequired),
        (false, true) => Some(MustChange::Expired),
        (false, false) => None,
    };
    Ok(Verified { user, must_change })
}

fn profile_of(
    directory: &Directory,
    account: AccountId,
    user_name: &str,
) -> Option<(Arc<User>, Arc<LoginProfile>)> {
    let user = directory.user_named(account, user_name)?;
    let profile = directory.login_profile(&user.arn)?;
    Some((user.clone(), profile.clone()))
}

/// The refusal of a call whose password was not hashed.
pub fn refused(broker: &Broker, error: HashingError) -> Error {
    match error {
        HashingError::Busy => broker.throttled("passwords"),
        HashingError::Entropy(error) => error.into(),
        HashingError::Hash(error) => {
            tracing::error!(%error, "a password could not be hashed");
            Error::InternalFailure
        }
    }
}
