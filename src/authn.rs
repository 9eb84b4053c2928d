//! Authentication: turns evidence into a [`Caller`], with one file for each kind of proof.

pub mod bearer;
pub mod certificate;
pub mod saml;
pub mod sign_in;
pub mod signature;
pub mod web_identity;

use std::sync::Arc;

use http::HeaderMap;

use crate::base::arn::{AccountId, SamlProviderArn};
use crate::base::clock::Timestamp;
use crate::base::digest::sha256;
use crate::base::host_names::HostNames;
use crate::base::secret::Secret;
use crate::broker::Broker;
use crate::caller::Caller;
use crate::directory::Directory;
use crate::error::Error;
use crate::federation::saml::provider_for;
use crate::proof::certificate::ClientCertificate;
use crate::proof::sigv4::{Announced, Presented};
use crate::signed_in::{SignIn, Who};
use crate::tokens::OpenedSession;
pub use crate::unproven::{Reason, Unproven};
use signature::SignatureContext;

/// How many seconds the clock of the node that issued a session may be ahead of this node's clock.
pub const ISSUED_AHEAD_SECONDS: i64 = 60;

/// The evidence in a request of who sent it.
pub enum Evidence {
    /// The request contains no proof of who sent it.
    Anonymous,
    /// The request contains a proof, which has not been checked yet.
    Shown(Shown),
}

/// The proof that a caller showed. It has not been checked yet.
pub enum Shown {
    /// A signature, with the session token that accompanied it.
    Signature(Box<Presented>),
    /// The certificate with which the client connected. It is accepted in place of a signature.
    Certificate(Arc<ClientCertificate>),
    WebIdentity {
        /// The token in compact form, whose signature has not been checked.
        token: Secret<String>,
        /// The account of the requested role, whose provider must vouch for the token.
        account: AccountId,
    },
    Saml {
        /// The SAML response in base64, as the form field `SAMLResponse` contains it.
        response: Secret<String>,
        /// The provider that is claimed to have made the response.
        provider: SamlProviderArn,
        /// The account of the requested role, in which the provider must be.
        account: AccountId,
    },
    /// A sign-in of a person, whose cookie or token was checked already.
    SignIn {
        sign_in: Arc<SignIn>,
        /// The account of the requested role, in which a provider must vouch for the person.
        account: AccountId,
    },
}

/// The kind of a proof. Each operation accepts one kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Proof {
    /// A signature with a key from the directory or from a session, or a client certificate in its
    /// place.
    Signature,
    WebIdentity,
    Saml,
}

impl Evidence {
    /// The evidence of a request that may be signed.
    pub fn signed(presented: Option<Presented>) -> Self {
        presented.map_or(Self::Anonymous, |p| {
            Self::Shown(Shown::Signature(Box::new(p)))
        })
    }
}

impl Shown {
    /// The kind of this proof, for comparison with an operation's `PROOF`.
    pub fn proof(&self) -> Proof {
        match self {
            Self::Signature(_) | Self::Certificate(_) => Proof::Signature,
            Self::WebIdentity { .. } => Proof::WebIdentity,
            Self::Saml { .. } => Proof::Saml,
            // A sign-in takes the place of what the person would have shown.
            Self::SignIn { sign_in, .. } => match &sign_in.who {
                Who::User { .. } => Proof::Signature,
                Who::Federated(kept) if kept.is_saml() => Proof::Saml,
                Who::Federated(_) => Proof::WebIdentity,
            },
        }
    }

    /// The sign-in and the account of the requested role, if the proof is a sign-in.
    pub fn sign_in(&self) -> Option<(Arc<SignIn>, AccountId)> {
        match self {
            Self::SignIn { sign_in, account } => Some((sign_in.clone(), *account)),
            _ => None,
        }
    }

    /// The client certificate, if it is the proof.
    pub fn certificate(&self) -> Option<Arc<ClientCertificate>> {
        match self {
            Self::Certificate(certificate) => Some(certificate.clone()),
            _ => None,
        }
    }

    /// Whether the proof is a presigned URL, which its holder can pass on to others.
    pub fn is_presigned(&self) -> bool {
        match self {
            Self::Signature(presented) => presented.is_presigned(),
            Self::Certificate(_)
            | Self::WebIdentity { .. }
            | Self::Saml { .. }
            | Self::SignIn { .. } => false,
        }
    }

    /// A digest of the proof, by which its caller is recognized on a connection. `None` for a presigned URL, which
    /// somebody else may send, and for a SAML response, which has a digest of its own.
    pub fn digest(&self) -> Option<[u8; 16]> {
        match self {
            Self::Signature(presented) if presented.is_presigned() => None,
            Self::Signature(presented) => Some(presented.digest()),
            Self::Certificate(certificate) => Some(certificate.connection()),
            // Somebody else can write some signatures in another way, but not what is signed.
            Self::WebIdentity { token, .. } => {
                let signed = token
                    .expose()
                    .rsplit_once('.')
                    .map_or("", |(signed, _)| signed);
                sha256(signed.as_bytes()).first_chunk().copied()
            }
            // One assertion has many texts, so `FederatedIdentity::digest` identifies it.
            Self::Saml { .. } => None,
            Self::SignIn { sign_in, .. } => Some(sign_in.id),
        }
    }
}

/// Authenticates a caller. Returns the caller and, for a signed request, the signature. `service` is the service that a
/// signature must name: `sts` or `iam`.
///
/// # Errors
/// [`Unproven`] with AWS's error for the caller, and the reason for the audit log.
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
        Shown::Certificate(shown) => {
            let caller = certificate::authenticate(&shown, directory, now)?;
            Ok((caller, None))
        }
        Shown::WebIdentity { token, account } => {
            // The provider's keys may have to be fetched first; the token is then checked against
            // the state after that.
            let moment = || (broker.directory.load_full(), broker.clock.now());
            let (providers, own) = (&broker.providers, broker.issuer.as_deref());
            let token = token.expose();
            let asked =
                web_identity::authenticate(token, account, providers, directory, own, moment);
            // Boxed, because it is larger than everything that a signed call needs.
            Ok((Box::pin(asked).await?, None))
        }
        Shown::Saml {
            response,
            provider,
            account,
        } => {
            let provider = provider_for(&provider, account, directory).cloned();
            let asked = saml::prove(broker, response, provider, now);
            Ok((Box::pin(asked).await?, None))
        }
        Shown::SignIn { sign_in, account } => {
            let caller = sign_in::authenticate(broker, &sign_in, account, directory, now)?;
            Ok((caller, None))
        }
    }
}

/// Authenticates a signed request against the broker's current state.
///
/// # Errors
/// The same as for [`signature::authenticate`].
pub fn signed(
    broker: &Broker,
    service: &str,
    directory: &Directory,
    now: Timestamp,
    presented: &Presented,
) -> Result<Caller, Error> {
    let names = broker.names.load();
    let context = context(broker, service, directory, &names);
    signature::authenticate(presented, &context, now)
}

/// Authenticates the signer of a request to an object store. The host, the scope and the date are those of
/// the store, and were checked before.
///
/// # Errors
/// The same as for [`signature::authenticate`].
pub fn signed_for_store(
    broker: &Broker,
    directory: &Directory,
    now: Timestamp,
    presented: &Presented,
) -> Result<Caller, Error> {
    let names = broker.names.load();
    let context = context(broker, "s3", directory, &names);
    signature::signer(presented, &context, now)
}

/// Authenticates again a caller who was authenticated before: the caller's key or session must still be valid according
/// to the current directory and revocations.
///
/// # Errors
/// The error with which the caller would be refused.
pub fn again(
    broker: &Broker,
    caller: &Caller,
    directory: &Directory,
    now: Timestamp,
) -> Result<Caller, Error> {
    let names = broker.names.load();
    let context = context(broker, "sts", directory, &names);
    signature::again(caller, &context, now)
}

/// Whether a session can be used now: it has not expired, was not ended early, and its principal still exists.
pub fn stands(
    broker: &Broker,
    session: &Arc<OpenedSession>,
    directory: &Directory,
    now: Timestamp,
) -> bool {
    let names = broker.names.load();
    let context = context(broker, "sts", directory, &names);
    signature::stands(session, &context, now)
}

/// Authenticates the signer of a request to another service. The caller of this function must check the host, the scope
/// and the time.
///
/// # Errors
/// The same as for [`signature::authenticate`].
pub fn holder(
    broker: &Broker,
    directory: &Directory,
    now: Timestamp,
    presented: &Presented,
) -> Result<Caller, Error> {
    let names = broker.names.load();
    signature::signer(presented, &context(broker, "sts", directory, &names), now)
}

/// The holder of a session, if the session can be used now.
///
/// # Errors
/// The error with which the session's own calls would be refused.
pub fn of_session(
    broker: &Broker,
    session: &Arc<OpenedSession>,
    directory: &Directory,
    now: Timestamp,
) -> Result<Caller, Error> {
    let names = broker.names.load();
    signature::of_session(session, &context(broker, "sts", directory, &names), now)
}

/// Whether the headers of a request announce a signature for this service by an active key of this broker. The
/// body, without which the signature cannot be checked, has not been received yet.
pub fn announces_active_key(broker: &Broker, service: &str, headers: &HeaderMap) -> bool {
    let Some(announced) = Announced::read(headers).filter(|a| a.service == service) else {
        return false;
    };
    let (directory, names) = (broker.directory.load(), broker.names.load());
    let context = context(broker, service, &directory, &names);
    signature::is_active(&announced, &context, broker.clock.now())
}

fn context<'a>(
    broker: &'a Broker,
    service: &'a str,
    directory: &'a Directory,
    names: &'a HostNames,
) -> SignatureContext<'a> {
    SignatureContext {
        tokens: &broker.tokens,
        directory,
        revocations: &broker.revocations,
        store_id: broker.store.id(),
        rules: &broker.rules,
        names,
        service,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_the_same_whatever_its_signature_is() {
        let digest = |token: &str| {
            let shown = Shown::WebIdentity {
                token: Secret::new(token.to_owned()),
                account: AccountId::parse("111122223333").unwrap(),
            };
            shown.digest().unwrap()
        };
        assert_eq!(digest("header.claims.one"), digest("header.claims.other"));
        assert_ne!(digest("header.claims.one"), digest("header.other.one"));
    }
}
