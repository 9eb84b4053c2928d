//! Authenticates a person by a sign-in, whose cookie or token was checked when it was looked up.

use std::sync::Arc;

use crate::base::arn::AccountId;
use crate::base::clock::Timestamp;
use crate::broker::Broker;
use crate::caller::{Caller, Identity};
use crate::directory::{Directory, Effective};
use crate::error::Error;
use crate::signed_in::{SignIn, Who};
use crate::unproven::{Reason, Unproven};

/// Returns the caller who signed in, according to the directory and the revocations in force now.
/// `account` is the account of the requested role, in which a provider must vouch for a federated
/// person; it has no effect if the caller is a user.
///
/// # Errors
/// [`Unproven`] if the sign-in is over, its user no longer exists, or no provider of the account vouches for the
/// person.
pub fn authenticate(
    broker: &Broker,
    sign_in: &Arc<SignIn>,
    account: AccountId,
    directory: &Directory,
    now: Timestamp,
) -> Result<Caller, Box<Unproven>> {
    let failed = |error: Error| {
        Box::new(Unproven {
            error,
            claimed_key: None,
            reason: None,
        })
    };
    if sign_in.is_over(directory, &broker.revocations, broker.store.id(), now) {
        return Err(Unproven::because(Error::NotSignedIn, Reason::Ended));
    }
    let (identity, effective) = match &sign_in.who {
        Who::User { arn, .. } => {
            let user = directory.user(arn).cloned();
            let user = user.ok_or_else(|| failed(Error::NotSignedIn))?;
            let effective = directory.effective_of_user(&user);
            let effective = effective.map_err(|dangling| failed(dangling.into()))?;
            (Identity::User(user), effective)
        }
        Who::Federated(kept) => {
            let name = sign_in.role_session_name().map_err(failed)?;
            let identity = kept.identity(account, &name, directory, now)?;
            (
                Identity::Federated(Arc::new(identity)),
                Effective::default(),
            )
        }
    };
    Ok(Caller {
        identity,
        access_key_id: String::new(),
        effective,
        sign_in: Some(sign_in.clone()),
    })
}
