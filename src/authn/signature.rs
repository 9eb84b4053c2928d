//! Authenticates a signature: who signed, with which key, and whether the principals behind the key
//! still exist.

use std::sync::Arc;

use super::ISSUED_AHEAD_SECONDS;
use crate::audit;
use crate::base::clock::Timestamp;
use crate::base::host_names::HostNames;
use crate::caller::{Caller, Identity};
use crate::directory::{Directory, Effective};
use crate::error::Error;
use crate::federation;
use crate::proof::sigv4::{Announced, Presented, Rules};
use crate::revocations::Revocations;
use crate::session::token::{self, Ancestor};
use crate::tokens::{OpenedSession, Tokens};

/// The state against which a signature is checked.
pub struct SignatureContext<'a> {
    pub tokens: &'a Tokens,
    /// The snapshot in which keys, users and roles are looked up.
    pub directory: &'a Directory,
    /// Tells whether a session was ended early.
    pub revocations: &'a Revocations,
    /// The id of this broker's store. Sessions issued under another store are refused.
    pub store_id: &'a str,
    /// The accepted regions and the permitted difference of clocks.
    pub rules: &'a Rules,
    pub names: &'a HostNames,
    /// The service that the signature must name: `sts` or `iam`.
    pub service: &'a str,
}

/// Authenticates the caller of a signed request. The host, the scope and the time are checked
/// first, because they need no key.
///
/// # Errors
/// AWS's error for each case: another host, service, region or time than the broker accepts, an unknown key, a wrong
/// signature, an expired or revoked session, or a token of another cluster.
pub fn authenticate(
    presented: &Presented,
    context: &SignatureContext<'_>,
    now: Timestamp,
) -> Result<Caller, Error> {
    for_this_broker(presented.unverified_host(), context.names)?;
    presented.check_scope(now, context.rules, context.service)?;
    signer(presented, context, now)
}

/// Authenticates the signer of a request whose host, scope and date were checked before.
///
/// # Errors
/// The same as for [`authenticate`].
pub fn signer(
    presented: &Presented,
    context: &SignatureContext<'_>,
    now: Timestamp,
) -> Result<Caller, Error> {
    let directory = context.directory;
    let id = presented.unverified_access_key_id();
    match presented.unverified_session_token() {
        Some(token) => {
            let session = context.tokens.open(token)?;
            if session.claims.access_key_id != id {
                return Err(Error::InvalidClientTokenId);
            }
            session.secret.verify(presented)?;
            must_not_be_over(&session, context, now)?;
            let (identity, effective) = current_principal(session, directory)?;
            Ok(Caller {
                identity,
                access_key_id: id.to_owned(),
                effective,
                sign_in: None,
            })
        }
        None => {
            let key = directory
                .access_key(id)
                .filter(|k| k.active)
                .ok_or(Error::InvalidClientTokenId)?;
            key.secret.verify(presented)?;
            let user = directory
                .user(&key.user_arn)
                .ok_or(Error::InvalidClientTokenId)?;
            let effective = directory.effective_of_user(user)?;
            Ok(Caller {
                identity: Identity::User(user.clone()),
                access_key_id: id.to_owned(),
                effective,
                sign_in: None,
            })
        }
    }
}

/// Returns the holder of a session that can be used now. This function checks no signature, so its caller must have
/// verified in another way that the request comes from the holder.
///
/// # Errors
/// The error with which the session's own calls would be refused.
pub fn of_session(
    session: &Arc<OpenedSession>,
    context: &SignatureContext<'_>,
    now: Timestamp,
) -> Result<Caller, Error> {
    must_not_be_over(session, context, now)?;
    let access_key_id = session.claims.access_key_id.clone();
    let (identity, effective) = current_principal(session.clone(), context.directory)?;
    Ok(Caller {
        identity,
        access_key_id,
        effective,
        sign_in: None,
    })
}

/// Whether a request announces an active key of this broker: a long-term key of the directory, or the key
/// of a session that is still valid. This is no proof of who sent the request.
pub fn is_active(
    announced: &Announced<'_>,
    context: &SignatureContext<'_>,
    now: Timestamp,
) -> bool {
    let id = announced.access_key_id;
    match announced.session_token {
        Some(token) => context.tokens.open(token).is_ok_and(|session| {
            session.claims.access_key_id == id && must_not_be_over(&session, context, now).is_ok()
        }),
        None => context.directory.access_key(id).is_some_and(|k| k.active),
    }
}

/// Authenticates again a caller who was authenticated before, against the current directory and revocations.
///
/// # Errors
/// `InvalidClientTokenId` if its long-term credential or its user is gone or inactive, `MissingAuthenticationToken` if
/// the caller is neither a user nor a session, or the error for a session that is over.
pub fn again(
    caller: &Caller,
    context: &SignatureContext<'_>,
    now: Timestamp,
) -> Result<Caller, Error> {
    let directory = context.directory;
    let (identity, effective) = match (&caller.identity, caller.shared_session()) {
        (_, Some(session)) => {
            must_not_be_over(session, context, now)?;
            current_principal(session.clone(), directory)?
        }
        (Identity::User(user), None) => {
            let user = directory.user(&user.arn).cloned();
            let stands = caller
                .lineage()
                .iter()
                .all(|own| still_exists(own, directory));
            let user = user.filter(|_| stands).ok_or(Error::InvalidClientTokenId)?;
            let effective = directory.effective_of_user(&user)?;
            (Identity::User(user), effective)
        }
        _ => return Err(Error::MissingAuthenticationToken),
    };
    Ok(Caller {
        identity,
        access_key_id: caller.access_key_id.clone(),
        effective,
        sign_in: None,
    })
}

/// Whether a session can be used now: it has not expired, was not ended early, and its principal still exists.
pub fn stands(
    session: &Arc<OpenedSession>,
    context: &SignatureContext<'_>,
    now: Timestamp,
) -> bool {
    must_not_be_over(session, context, now).is_ok()
        && current_principal(session.clone(), context.directory).is_ok()
}

/// Refuses a session that has expired, was ended early, is dated in the future or comes from another store, and a
/// session that came from a principal or key that no longer exists or is switched off.
fn must_not_be_over(
    session: &OpenedSession,
    context: &SignatureContext<'_>,
    now: Timestamp,
) -> Result<(), Error> {
    let claims = &session.claims;
    if now.seconds() >= claims.expires_at {
        return Err(Error::ExpiredToken);
    }
    if claims.issued_at > now.seconds() + ISSUED_AHEAD_SECONDS {
        return Err(Error::InvalidClientTokenId);
    }
    let revoked =
        context
            .revocations
            .is_revoked(&session.came_from, claims.issued_under, claims.issued_at);
    // This store does not know what another store revoked.
    let foreign = claims.store_id != context.store_id;
    let mut ancestors = claims.ancestors.iter();
    if revoked || foreign || !ancestors.all(|a| still_exists(a, context.directory)) {
        return Err(Error::Ended);
    }
    Ok(())
}

/// Refuses a request that was signed for another host, because that host may be passing it on.
fn for_this_broker(host: &str, names: &HostNames) -> Result<(), Error> {
    if names.contains(host) {
        return Ok(());
    }
    Err(Error::SignatureDoesNotMatch(format!(
        "The request was signed for the host `{}`, which is not a name of this broker. The broker accepts requests for {names} \
         ([listen] names).",
        audit::clip(host)
    )))
}

/// Finds the current directory entry of a session's principal. A role or user that was deleted, or recreated under its
/// name, has no valid sessions.
fn current_principal(
    session: Arc<OpenedSession>,
    directory: &Directory,
) -> Result<(Identity, Effective), Error> {
    let (arn, id) = (&session.claims.principal_arn, &session.claims.principal_id);
    let kind = session.claims.kind();
    if kind == token::SessionKind::Role {
        let role = directory
            .role(arn)
            .filter(|r| *r.id == **id)
            .cloned()
            .ok_or(Error::Ended)?;
        let effective = directory.effective_of_role(&role)?;
        return Ok((Identity::RoleSession { role, session }, effective));
    }
    let user = directory
        .user(arn)
        .filter(|u| *u.id == **id)
        .cloned()
        .ok_or(Error::Ended)?;
    let effective = directory.effective_of_user(&user)?;
    let identity = match kind {
        token::SessionKind::FederatedUser => Identity::FederatedUser { user, session },
        _ => Identity::UserSession { user, session },
    };
    Ok((identity, effective))
}

/// Whether a principal of the chain still exists unchanged. If it called with a long-term key or a certificate, that
/// must be active, too.
fn still_exists(ancestor: &Ancestor, directory: &Directory) -> bool {
    if let Some(declared) = federation::has_provider(directory, &ancestor.arn) {
        return declared;
    }
    let user = directory.user(&ancestor.arn);
    if ancestor.session_id.is_empty() {
        let credential = &ancestor.access_key_id;
        let key = directory.access_key(credential);
        let key = key.is_some_and(|k| k.active && *k.user_arn == ancestor.arn);
        let certificate = directory.certificate(credential);
        let certificate = certificate.is_some_and(|c| c.active && *c.user_arn == ancestor.arn);
        return user.is_some_and(|u| *u.id == ancestor.unique_id) && (key || certificate);
    }
    user.is_some_and(|u| *u.id == ancestor.unique_id)
        || directory
            .role(&ancestor.arn)
            .is_some_and(|r| *r.id == ancestor.unique_id)
}
