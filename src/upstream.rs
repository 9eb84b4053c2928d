//! Signs people in at an identity provider of the directory: at OpenID Connect providers by the authorization code
//! flow, at SAML providers by a request or by an unsolicited answer. Also handles the reports of providers that a
//! person has signed out.
//!
//! Between two requests of a browser, the state of the sign-in is kept on the server ([`crate::sign_in::pending`]). The
//! state is bound to the browser by a cookie, and can be taken only once. Both protocols result in the same
//! [`SignIn`](crate::sign_in::SignIn).

pub mod logout;
pub mod offered;
pub mod oidc;
pub mod refused;
pub mod saml;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::digest::{SHA256, digest};
use serde::{Deserialize, Serialize};

use crate::base::clock::Timestamp;
use crate::base::entropy;
use crate::base::secret::Secret;
use crate::broker::Broker;
use crate::error::Error;
use crate::federation::FederatedIdentity;
use crate::sign_in::{Handle, Method};
use crate::signed_in::Factor;
pub use offered::{Kind, Offered};
pub use refused::Refused;

/// The digest of a browser's cookie, by which the server recognizes the browser that began a sign-in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Browser([u8; 32]);

impl Browser {
    /// Computes the digest of a cookie's value, which identifies the browser that sent the cookie.
    pub fn of(cookie: &str) -> Self {
        Self(crate::base::digest::sha256(cookie.as_bytes()))
    }
}

/// The result of a finished sign-in, from which the page makes its answer.
pub struct SignedIn {
    /// The value for the cookie of the new sign-in.
    pub handle: Handle,
    /// The page that the browser requested before the sign-in, as it was passed to `start`; empty if the identity
    /// provider began the sign-in.
    pub destination: String,
}

/// Makes 256 random bits in base64url, for nonces and code verifiers.
fn random(broker: &Broker) -> Result<Secret<String>, Error> {
    let bytes = entropy::bytes::<32>(&*broker.entropy)?;
    Ok(Secret::new(URL_SAFE_NO_PAD.encode(bytes)))
}

/// The code challenge of a verifier: RFC 7636 section 4.2, S256.
fn challenge(verifier: &str) -> String {
    URL_SAFE_NO_PAD.encode(digest(&SHA256, verifier.as_bytes()))
}

/// The factors of a sign-in at a provider: [`Method::Fed`], and the factors that the provider's answer proves.
fn factors_of(methods: impl Iterator<Item = Method>, at: Timestamp) -> Vec<Factor> {
    let factor = |method| Factor {
        method,
        at,
        device: None,
    };
    let mut factors = vec![factor(Method::Fed)];
    for method in methods {
        if factors.iter().all(|known| known.method != method) {
            factors.push(factor(method));
        }
    }
    factors
}

/// Marks the token or assertion as used if it is of a kind that may be used only once.
///
/// # Errors
/// [`Refused::NotProven`] if it has been used, on any node, and [`Refused::Broker`] if it cannot be marked.
async fn spend(broker: &Broker, identity: &FederatedIdentity) -> Result<(), Refused> {
    let Some(once) = &identity.once else {
        return Ok(());
    };
    let once = once.as_ref().map_err(Error::clone)?;
    let (issued_at, expires_at) = ((once.issued_at, once.ahead), once.expires_at);
    let store = &broker.store;
    let first = store.mark_used(&once.issuer, &once.id, issued_at, expires_at);
    match first.await.map_err(Error::from)? {
        true => Ok(()),
        false => Err(Refused::NotProven(format!(
            "the {} has already been used",
            identity.proof_name()
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_challenge_is_that_of_the_rfc() {
        // RFC 7636 appendix B.
        let verifier = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk";
        assert_eq!(
            challenge(verifier),
            "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM"
        );
    }
}
