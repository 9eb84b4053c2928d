//! Checks the password of a user: IAM User Guide, "Manage passwords for IAM users".
//!
//! A user that does not exist, one without a password and a wrong password take the same work and
//! give the same answer. Only somebody who gives the right password learns whether it has expired.

use std::sync::Arc;

use zeroize::Zeroizing;

use crate::base::arn::AccountId;
use crate::base::clock::Timestamp;
use crate::base::digest::{hex, sha256};
use crate::base::secret::Secret;
use crate::broker::Broker;
use crate::budgets::Source;
use crate::commands::{self, Actor, Command, CommandContext, Edit};
use crate::directory::resource::{Name, ResourceKind};
use crate::directory::{Directory, LoginProfile, User};
use crate::error::Error;
use crate::hashing::HashingError;
use crate::password::policy::PasswordPolicy;
use crate::signed_in::password_mark;
use crate::store::{Attempt, Lockout};

/// The limit on guesses at one user's password from one place: ten wrong passwords, and another one
/// every five minutes.
const LOCKOUT: Lockout = Lockout {
    failures: 10,
    forgiven_after_seconds: 300,
};
/// The limit on guesses at one user's password from all places together, a hundred wrong passwords: NIST
/// SP 800-63B-4 section 3.2.2.
const OF_USER: Lockout = Lockout {
    failures: 100,
    forgiven_after_seconds: 300,
};
/// The limit on guesses from one source address at any passwords: a hundred wrong ones, and another one
/// every 30 seconds. There may be a whole office behind one address.
const OF_SOURCE: Lockout = Lockout {
    failures: 100,
    forgiven_after_seconds: 30,
};

/// The place from which a password is given. It determines which guesses are counted together.
#[derive(Debug, Clone, Copy)]
pub enum Place<'a> {
    /// A call that the user itself has signed.
    Signed,
    /// A browser at this address.
    Browser(Source),
    /// A browser with this id, in which the user has signed in before. Its guesses are counted
    /// separately, so that nobody else can lock the user out of it.
    KnownBrowser(&'a str),
}

/// Guesses that are counted together.
struct Guesses {
    name: String,
    lockout: Lockout,
}

impl Place<'_> {
    /// All counters for a guess at the password of `whom` from this place.
    fn counted(&self, whom: &str) -> Vec<Guesses> {
        let guesses = |name: String, lockout| Guesses { name, lockout };
        match self {
            Self::Signed => vec![guesses(whom.to_owned(), LOCKOUT)],
            Self::Browser(source) => vec![
                guesses(format!("{whom} from {source}"), LOCKOUT),
                guesses(format!("{whom} from anywhere"), OF_USER),
                guesses(of_source(*source), OF_SOURCE),
            ],
            Self::KnownBrowser(id) => vec![guesses(format!("{whom} by {id}"), LOCKOUT)],
        }
    }

    /// Whether the browser's address has given too many wrong passwords, for any users. `false` for the other places.
    pub fn is_shut(&self, broker: &Broker) -> bool {
        match self {
            Self::Browser(source) => broker
                .store
                .is_locked(&of_source(*source), broker.clock.now()),
            Self::Signed | Self::KnownBrowser(_) => false,
        }
    }
}

fn of_source(source: Source) -> String {
    format!("passwords from {source}")
}

/// A user that has given the right password.
pub struct Verified {
    pub user: Arc<User>,
    /// Why the user must choose another password before it may do anything else; `None` if it need not.
    #[cfg_attr(
        not(any(test, feature = "internals")),
        allow(
            dead_code,
            reason = "only tests read it; a sign-in calls `must_change` with the current directory"
        )
    )]
    pub must_change: Option<MustChange>,
    /// The mark of the user's password (see [`password_mark`]), by which a later change of the password is noticed.
    pub mark: Option<String>,
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
    /// The user does not exist, has no password, or has a different one.
    Wrong,
    /// Too many wrong passwords were given, so even the right one is refused.
    Locked,
    /// The password is right but has expired, and only an administrator may set another one.
    Expired,
    /// The password cannot be checked at the moment.
    Unavailable(Error),
}

impl<E: Into<Error>> From<E> for Refused {
    fn from(error: E) -> Self {
        Self::Unavailable(error.into())
    }
}

/// Checks the password of a user. The directory is read again after the hash was computed, so that a change in the
/// meantime counts.
///
/// # Errors
/// [`Refused`] if the password is wrong or has expired, after too many wrong ones, and if it cannot be checked.
pub async fn verify(
    broker: &Broker,
    account: AccountId,
    user_name: &str,
    password: &Zeroizing<String>,
    place: Place<'_>,
) -> Result<Verified, Refused> {
    if place.is_shut(broker) {
        // This says nothing about any user, so it need not take as long as a comparison.
        return Err(Refused::Locked);
    }
    let directory = broker.directory.load_full();
    let costs = directory.password_costs();
    let known = profile_of(&directory, account, user_name);
    let hash = known
        .as_ref()
        .map(|(_, profile)| profile.hash.expose().as_str());
    // Guesses of a name that nobody has are counted as well, or a refusal would take less time.
    let whom = match &known {
        Some((user, _)) => format!("password {}", user.id),
        None => {
            let name = format!("{account}/{}", user_name.to_ascii_lowercase());
            format!("password of nobody {}", hex(&sha256(name.as_bytes())))
        }
    };
    let counted = place.counted(&whom);
    let is_locked = || {
        let now = broker.clock.now();
        let mut all = counted.iter();
        all.any(|guesses| broker.store.is_locked(&guesses.name, now))
    };
    if is_locked() {
        // This takes as long as a comparison.
        let compared = broker.hashing.is_of(&whom, password, None, &costs).await;
        compared.map_err(|error| refused(broker, error))?;
        return Err(Refused::Locked);
    }
    let right = broker.hashing.is_of(&whom, password, hash, &costs).await;
    let right = right.map_err(|error| refused(broker, error))?;
    let Some((user, given)) = known.filter(|_| right) else {
        let mut refusal = Refused::Wrong;
        for guesses in &counted {
            // The store counts for all brokers.
            let (name, now) = (&guesses.name, broker.clock.now());
            let attempt = broker.store.attempt(name, None, guesses.lockout, now);
            if attempt.await? == Attempt::Locked {
                refusal = Refused::Locked;
            }
        }
        return Err(refusal);
    };
    make_anew(broker, &whom, &user, &given, password).await;
    if is_locked() {
        return Err(Refused::Locked);
    }
    broker.must_know_what_is_revoked()?;
    broker.must_know_the_time()?;
    let directory = broker.directory.load();
    let current = profile_of(&directory, account, user_name)
        .filter(|(now, profile)| now.id == user.id && profile.mark == given.mark);
    let Some((user, profile)) = current else {
        return Err(Refused::Wrong);
    };
    let now = broker.clock.now();
    let must_change = must_change(&directory, &user, &profile, now);
    let policy = directory.password_policy(account);
    if policy.hard_expiry && has_expired(policy, &profile, now) {
        return Err(Refused::Expired);
    }
    broker.key_use.note(&user.id, now, "signin", &broker.region);
    Ok(Verified {
        mark: password_mark(&directory, &user.arn),
        user,
        must_change,
    })
}

/// Replaces the hash of a user's password if its cost is not that of the broker's new hashes, for example after an
/// import. The password and the sessions that began with it stay. If this fails, the broker tries again at the next
/// right password.
async fn make_anew(
    broker: &Broker,
    whom: &str,
    user: &User,
    profile: &LoginProfile,
    password: &Zeroizing<String>,
) {
    let master_key = broker.master_key.load_full();
    let Some(master_key) = master_key.filter(|_| broker.directory_is_in_the_store) else {
        return;
    };
    let anew = broker.hashing.anew(whom, password, profile.hash.expose());
    let hash = match anew.await {
        Ok(Some(hash)) => Secret::new(hash.to_string()),
        Ok(None) => return,
        Err(error) => {
            tracing::debug!(%error, user = %user.arn, "the hash of a password could not be updated to the current \
                parameters");
            return;
        }
    };
    let context = CommandContext {
        store: &broker.store,
        master_key: &master_key,
        entropy: &*broker.entropy,
        now: broker.clock.now(),
        issuer: broker.issuer.as_deref(),
    };
    let command = Command::edit(
        Name::new(ResourceKind::LoginProfile, &*user.arn),
        Edit::MakePasswordHashAnew(hash),
    );
    let done = match broker.store.write().await {
        Ok(writer) => {
            let actor = Actor::broker("passwords");
            let action = "UpdateLoginProfile";
            commands::execute_in(writer, context, &actor, action, vec![command], None).await
        }
        Err(error) => Err(error.into()),
    };
    match done {
        Ok(_) => broker.feed.nudge(),
        Err(error) => {
            tracing::debug!(%error, user = %user.arn, "the hash of a password could not be updated to the current \
                parameters");
        }
    }
}

/// Why a user must choose another password; `None` if it need not.
pub fn must_change(
    directory: &Directory,
    user: &User,
    profile: &LoginProfile,
    now: Timestamp,
) -> Option<MustChange> {
    let policy = directory.password_policy(user.account);
    match (profile.must_be_reset, has_expired(policy, profile, now)) {
        (true, _) => Some(MustChange::ResetRequired),
        (false, true) => Some(MustChange::Expired),
        (false, false) => None,
    }
}

fn has_expired(policy: &PasswordPolicy, profile: &LoginProfile, now: Timestamp) -> bool {
    policy.has_expired(now.seconds().saturating_sub(profile.changed_at))
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

/// Converts the error of a hash that was not computed into the refusal of the call.
pub fn refused(broker: &Broker, error: HashingError) -> Error {
    match error {
        HashingError::Busy => broker.throttled("passwords"),
        HashingError::Entropy(error) => error.into(),
        HashingError::Hash(error) => {
            tracing::error!(%error, "the hash of a password could not be computed or compared; the call was refused");
            Error::InternalFailure
        }
    }
}
