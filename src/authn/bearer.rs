//! Bearer tokens that stand for an access key, for clients that cannot sign: object stores that use OpenStack's
//! Identity API, and clients that use OAuth 2.0. A token contains the sealed key. The broker signs the holder's
//! requests with that key, so they are authenticated like all others, and the key must be active whenever the token is
//! used.

use std::time::Duration;

use http::HeaderMap;
use http::header::AUTHORIZATION;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::Evidence;
use crate::base::clock::Timestamp;
use crate::base::digest::sha256;
use crate::base::entropy;
use crate::base::secret::Secret;
use crate::broker::Broker;
use crate::error::Error;
use crate::proof::sigv4::{Incoming, Presented, Signer};
use crate::session::envelope::{self, Purpose};

/// How long a token is valid, unless its access key ends before.
pub const LIFETIME: Duration = Duration::from_secs(3_600);
/// The purpose of a token that an object store gets when it logs in by OpenStack's Identity API.
pub const OF_STORE: Purpose = Purpose {
    name: "brevet keystone token v1",
    form: 1,
    max_characters: 1_024,
};
/// The purpose of a token that a client gets when it logs in by OAuth 2.0.
pub const OF_CLIENT: Purpose = Purpose {
    name: "brevet bearer token v1",
    form: 1,
    max_characters: 8_192,
};
/// The maximum length in bytes of the id of a key, and of its secret.
const MAX_KEY: usize = 128;
/// The maximum length in characters of a session token that a bearer token can hold: 4,096, and 256 for the longest
/// hash path of a token that was signed together with others.
const MAX_SESSION_TOKEN: usize = 4_096 + 256;

/// The content of a token: an access key, and when the token expires.
#[derive(Serialize, Deserialize)]
pub struct Bearer {
    access_key_id: String,
    secret_access_key: Zeroizing<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    session_token: Option<Zeroizing<String>>,
    expires_at: i64,
}

impl Bearer {
    /// Makes the content of a new token. It does not check whether the key is valid.
    ///
    /// # Errors
    /// [`Error::InvalidClientTokenId`] if a part is longer than in any valid key.
    pub fn new(
        access_key_id: &str,
        secret_access_key: &str,
        session_token: Option<&str>,
        now: Timestamp,
    ) -> Result<Self, Error> {
        let is_long = |text: &str, most: usize| text.len() > most;
        if is_long(access_key_id, MAX_KEY)
            || is_long(secret_access_key, MAX_KEY)
            || session_token.is_some_and(|token| is_long(token, MAX_SESSION_TOKEN))
        {
            return Err(Error::InvalidClientTokenId);
        }
        Ok(Self {
            access_key_id: access_key_id.to_owned(),
            secret_access_key: Zeroizing::new(secret_access_key.to_owned()),
            session_token: session_token.map(|token| Zeroizing::new(token.to_owned())),
            expires_at: now.plus(LIFETIME).seconds(),
        })
    }

    /// Seals the content into the token that its holder gets.
    ///
    /// # Errors
    /// [`Error`] if the operating system gives no random bytes, or the keyring has no current key.
    pub fn seal(&self, broker: &Broker, purpose: &Purpose) -> Result<Secret<String>, Error> {
        let body = serde_json::to_vec(self).map(Zeroizing::new);
        let body = body.map_err(|_| Error::InternalFailure)?;
        let salt = entropy::bytes(&*broker.entropy)?;
        let sealed = broker
            .tokens
            .with_keyring(|keyring| envelope::seal(keyring, purpose, &body, &salt));
        Ok(Secret::new(sealed?))
    }

    /// Opens a token that a broker of the cluster has made.
    ///
    /// # Errors
    /// [`Error::InvalidClientTokenId`] if no broker of the cluster has made it, and [`Error::ExpiredToken`] once it has
    /// expired.
    pub fn open(
        broker: &Broker,
        purpose: &Purpose,
        sealed: &str,
        now: Timestamp,
    ) -> Result<Self, Error> {
        let opened = broker
            .tokens
            .with_keyring(|keyring| envelope::open(keyring, purpose, sealed).map(|(body, _)| body));
        let opened = Zeroizing::new(opened?);
        let bearer: Self =
            serde_json::from_slice(&opened).map_err(|_| Error::InvalidClientTokenId)?;
        match now.seconds() < bearer.expires_at {
            true => Ok(bearer),
            false => Err(Error::ExpiredToken),
        }
    }

    /// Opens a client's bearer token in the header `Authorization`. `None` if the header is missing, duplicate or of
    /// another scheme.
    ///
    /// # Errors
    /// The same as for [`Self::open`].
    pub fn of_client(
        broker: &Broker,
        headers: &HeaderMap,
        now: Timestamp,
    ) -> Result<Option<Self>, Error> {
        let mut values = headers.get_all(AUTHORIZATION).iter();
        let (Some(value), None) = (values.next(), values.next()) else {
            return Ok(None);
        };
        let text = value.to_str().unwrap_or_default();
        match text.split_once(' ') {
            Some((scheme, token)) if scheme.eq_ignore_ascii_case("bearer") => {
                Self::open(broker, &OF_CLIENT, token.trim(), now).map(Some)
            }
            _ => Ok(None),
        }
    }

    pub fn access_key_id(&self) -> &str {
        &self.access_key_id
    }

    pub fn secret_access_key(&self) -> Secret<String> {
        Secret::new(self.secret_access_key.to_string())
    }

    pub fn session_token(&self) -> Option<&str> {
        self.session_token.as_ref().map(|token| token.as_str())
    }

    /// Signs a call in the holder's name, so that it is authenticated like every other.
    ///
    /// # Errors
    /// [`Error`] if a part of the key cannot be sent in a header.
    pub fn evidence(
        &self,
        broker: &Broker,
        path: &str,
        body: &[u8],
        now: Timestamp,
    ) -> Result<Evidence, Error> {
        let host = &broker.names.load().example();
        let signer = Signer {
            access_key_id: &self.access_key_id,
            secret_access_key: self.secret_access_key.as_bytes(),
            session_token: self.session_token(),
            region: &broker.region,
            service: "sts",
        };
        let mut headers = HeaderMap::new();
        let payload_sha256 = sha256(body);
        signer.sign("POST", path, host, &mut headers, &payload_sha256, now)?;
        let incoming = Incoming {
            method: "POST",
            path,
            query: &[],
            headers: &headers,
            host,
            payload_sha256,
        };
        let presented = Presented::read(&incoming)?.ok_or(Error::InternalFailure)?;
        Ok(Evidence::signed(Some(presented)))
    }
}
