//! Evidence to [`Caller`]: one kind of proof a file.

pub mod signature;
pub mod unproven;
pub mod web_identity;

use crate::base::arn::AccountId;
use crate::base::clock::Timestamp;
use crate::base::digest::sha256;
use crate::base::secret::Secret;
use crate::broker::Broker;
use crate::caller::Caller;
use crate::directory::Directory;
use crate::error::Error;
use crate::proof::sigv4::Presented;
use signature::Judges;
pub use unproven::{Reason, Unproven};

/// How far another node's clock may be ahead of ours when it issues.
pub const ISSUED_AHEAD_SECONDS: i64 = 60;

/// What came with a request to say who calls.
pub enum Evidence {
    /// Nothing.
    Anonymous,
    /// Something, not judged yet.
    Shown(Shown),
}

/// What a caller showed.
pub enum Shown {
    /// A signature, with the session token that came along.
    Signature(Box<Presented>),
    /// A token of an OpenID Connect provider of that account.
    WebIdentity {
        /// As it came.
        token: Secret<String>,
        /// Of the role that is asked for.
        account: AccountId,
    },
}

/// The kinds of [`Shown`]: each operation takes one of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Proof {
    /// A signature with a key of the directory or of a session.
    Signature,
    /// A token of an OpenID Connect provider.
    WebIdentity,
}

impl Evidence {
    /// A signature; none: nothing was shown.
    pub fn signed(presented: Option<Presented>) -> Self {
        presented.map_or(Self::Anonymous, |p| {
            Self::Shown(Shown::Signature(Box::new(p)))
        })
    }
}

impl Shown {
    /// Which kind it is.
    pub fn proof(&self) -> Proof {
        match self {
            Self::Signature(_) => Proof::Signature,
            Self::WebIdentity { .. } => Proof::WebIdentity,
        }
    }

    /// The region that a signature names.
    pub fn unverified_region(&self) -> Option<&str> {
        match self {
            Self::Signature(presented) => Some(presented.unverified_region()),
            Self::WebIdentity { .. } => None,
        }
    }

    /// Whether it is a signature in a URL, which is made to be passed on.
    pub fn is_presigned(&self) -> bool {
        match self {
            Self::Signature(presented) => presented.is_presigned(),
            Self::WebIdentity { .. } => false,
        }
    }

    /// What tells it from others, if whoever shows it is who is connected: a presigned URL does not
    /// say so.
    pub fn digest(&self) -> Option<[u8; 32]> {
        match self {
            Self::Signature(presented) if presented.is_presigned() => None,
            Self::Signature(presented) => presented.signature().try_into().ok(),
            Self::WebIdentity { token, .. } => Some(sha256(token.expose().as_bytes())),
        }
    }
}

/// Who calls, and what it signed. `service` is whom a signature must be for: `sts`, `iam`.
///
/// # Errors
/// AWS's code for each, with what the audit says of it.
pub async fn prove(
    broker: &Broker,
    service: &str,
    directory: &Directory,
    now: Timestamp,
    shown: Shown,
) -> Result<(Caller, Option<Box<Presented>>), Box<Unproven>> {
    match shown {
        Shown::Signature(presented) => match signed(broker, service, directory, now, &presented) {
            Ok(caller) => Ok((caller, Some(presented))),
            Err(error) => Err(Box::new(Unproven {
                reason: (error == Error::Ended).then_some(Reason::Ended),
                error,
                claimed_key: Some(presented.unverified_access_key_id().to_owned()),
            })),
        },
        Shown::WebIdentity { token, account } => {
            // Its provider may have to be asked for keys; the token is judged by what holds then.
            let moment = || (broker.directory.load_full(), broker.clock.now());
            let (providers, own) = (&broker.providers, broker.issuer.as_deref());
            let token = token.expose();
            let asked =
                web_identity::authenticate(token, account, providers, directory, own, moment);
            // Boxed, as it is larger than all that a signed call needs.
            Ok((Box::pin(asked).await?, None))
        }
    }
}

/// Who signed, judged by what the broker knows.
///
/// # Errors
/// As [`signature::authenticate`].
pub fn signed(
    broker: &Broker,
    service: &str,
    directory: &Directory,
    now: Timestamp,
    presented: &Presented,
) -> Result<Caller, Error> {
    let judges = Judges {
        tokens: &broker.tokens,
        directory,
        revocations: &broker.revocations,
        store_id: broker.store.id(),
        rules: &broker.rules,
        names: &broker.names.load(),
        service,
    };
    signature::authenticate(presented, &judges, now)
}
