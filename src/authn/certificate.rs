//! Authenticates a client certificate: the directory maps the certificate to a user.

use std::sync::Arc;

use crate::base::clock::Timestamp;
use crate::caller::{Caller, Identity};
use crate::directory::Directory;
use crate::error::Error;
use crate::proof::certificate::ClientCertificate;
use crate::unproven::{Reason, Unproven};

/// Authenticates the client of a connection by its certificate, which counts as a long-term credential of
/// its user, without MFA.
///
/// # Errors
/// `InvalidClientTokenId` if the certificate is not valid now, or the directory maps it to no user or has it switched
/// off; another error if the directory lacks a policy of the user.
pub fn authenticate(
    shown: &ClientCertificate,
    directory: &Directory,
    now: Timestamp,
) -> Result<Caller, Box<Unproven>> {
    let refused = |error, reason| {
        Box::new(Unproven {
            error,
            claimed_key: Some(crate::audit::clip(shown.name())),
            reason,
        })
    };
    let unknown = |reason| refused(Error::InvalidClientTokenId, Some(reason));
    if !shown.is_valid_at(now) {
        return Err(unknown(Reason::CertificateDates));
    }
    let certificate = directory.certificate(shown.name()).filter(|c| c.active);
    let certificate = certificate.ok_or_else(|| unknown(Reason::UnknownCertificate))?;
    let user = directory.user(&certificate.user_arn).map(Arc::clone);
    let user = user.ok_or_else(|| unknown(Reason::UnknownCertificate))?;
    let effective = directory
        .effective_of_user(&user)
        .map_err(|dangling| refused(dangling.into(), None))?;
    Ok(Caller {
        identity: Identity::User(user),
        access_key_id: certificate.id.to_string(),
        effective,
        sign_in: None,
    })
}
