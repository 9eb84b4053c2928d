//! A gRPC client for the broker, which signs each call and can keep session credentials fresh. Commands,
//! tests and other programs use it.
//!
//! ```no_run
//! # async fn example() -> Result<(), brevet::client::ClientError> {
//! use brevet::client::{AssumeRole, Client, Credentials, Endpoint, RoleCredentials};
//!
//! let endpoint = Endpoint { url: "http://127.0.0.1:7480".into(), region: "us-east-1".into(), ca_pem: None };
//! let keys = Credentials::long_term("AKIA…", "secret");
//! let client = Client::new(&endpoint, keys)?;
//! let role = AssumeRole::new("arn:aws:iam::111122223333:role/Deploy", "ci");
//! let credentials = RoleCredentials::new(client, role);
//! let fresh = credentials.get().await?; // cached, refreshed ahead of expiry, one fetch at a time
//! # Ok(()) }
//! ```

mod calls;
mod error;
mod role_credentials;
mod signed;
mod sso;
mod types;
mod watch;
mod workload;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use tonic::transport::{Certificate, Channel, ClientTlsConfig, Identity};
use tonic_types::StatusExt;

use crate::api::relying::v1::relying_client::RelyingClient;
use crate::api::sts::v1::security_token_service_client::SecurityTokenServiceClient;
use crate::api::sts::v1::session_administration_client::SessionAdministrationClient;
use crate::base::clock::{Clock, SystemClock};
use crate::base::secret::Secret;
use error::{ENCODED_MESSAGE_MARK, chain};
use signed::Signed;

pub use error::{ClientError, split_encoded_message};
pub use role_credentials::RoleCredentials;
pub use sso::{DeviceAuthorization, Grant, Registering, Registration, Sso, SsoAccount, SsoToken};
pub use types::{
    AssumeRole, AssumeRoleWithSaml, AssumeRoleWithWebIdentity, AssumedRole, CallerIdentity,
    Credentials, Endpoint, SamlRole, WebIdentityRole, WebIdentityToken,
};
pub use watch::{RevocationWatch, RevocationsSeen, WatchedSession};
pub use workload::{AssumeRoleForWorkload, Workload, WorkloadRole};

/// The maximum time for connecting, and for a call.
const CALL_TIMEOUT: Duration = Duration::from_secs(10);

/// A client for one broker and one set of credentials. Clones share the connection.
#[derive(Clone)]
pub struct Client {
    grpc: SecurityTokenServiceClient<Signed>,
    administration: SessionAdministrationClient<Signed>,
    relying: RelyingClient<Signed>,
    signed: Signed,
    url: String,
    clock: Arc<dyn Clock>,
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Client({})", self.url)
    }
}

impl Client {
    /// Makes a client. It connects at the first call, and again whenever the connection is lost.
    ///
    /// # Errors
    /// [`ClientError::Unreachable`] if the URL or the CA cannot be used, [`ClientError::InClear`] if the URL is
    /// `http://` to another machine.
    pub fn new(endpoint: &Endpoint, credentials: Credentials) -> Result<Self, ClientError> {
        Self::with_clock(endpoint, credentials, Arc::new(SystemClock))
    }

    /// Does what [`Self::new`] does, with a given clock for the dates of signatures and for expiry.
    ///
    /// # Errors
    /// The same as for [`Self::new`].
    pub fn with_clock(
        endpoint: &Endpoint,
        credentials: Credentials,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, ClientError> {
        if endpoint.is_in_clear() {
            return Err(ClientError::InClear {
                url: endpoint.url.clone(),
            });
        }
        Self::connect(endpoint, Some(credentials), None, clock)
    }

    /// Makes a client that does not sign its calls. It authenticates by a TLS client certificate: the
    /// certificate with its chain, and its private key, both in PEM.
    ///
    /// # Errors
    /// [`ClientError::Unreachable`] if the URL is not `https://`, or the URL, the CA, the certificate or the key
    /// cannot be used.
    pub fn with_certificate(
        endpoint: &Endpoint,
        certificate_pem: &str,
        key_pem: &Secret<String>,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, ClientError> {
        if !endpoint.url.starts_with("https://") {
            return Err(ClientError::Unreachable {
                url: endpoint.url.clone(),
                reason: "a client certificate can be shown over https:// only".to_owned(),
            });
        }
        let identity = Identity::from_pem(certificate_pem, key_pem.expose());
        Self::connect(endpoint, None, Some(identity), clock)
    }

    /// Does what [`Self::new`] does, but allows `http://` to other machines. Anybody on the path can then read
    /// the credentials that are issued, and can answer in place of the broker.
    ///
    /// # Errors
    /// [`ClientError::Unreachable`] if the URL or the CA cannot be used.
    pub fn in_clear(endpoint: &Endpoint, credentials: Credentials) -> Result<Self, ClientError> {
        Self::connect(endpoint, Some(credentials), None, Arc::new(SystemClock))
    }

    /// Makes a client that does not sign its calls, for [`Self::assume_role_with_web_identity`] and
    /// [`Self::assume_role_with_saml`]. `in_clear` allows `http://` to other machines.
    ///
    /// # Errors
    /// The same as for [`Self::new`].
    pub fn anonymous(endpoint: &Endpoint, in_clear: bool) -> Result<Self, ClientError> {
        if endpoint.is_in_clear() && !in_clear {
            return Err(ClientError::InClear {
                url: endpoint.url.clone(),
            });
        }
        Self::connect(endpoint, None, None, Arc::new(SystemClock))
    }

    fn connect(
        endpoint: &Endpoint,
        credentials: Option<Credentials>,
        identity: Option<Identity>,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, ClientError> {
        let unreachable = |e: &dyn std::error::Error| ClientError::Unreachable {
            url: endpoint.url.clone(),
            reason: chain(e),
        };
        let mut builder =
            Channel::from_shared(endpoint.url.clone()).map_err(|e| unreachable(&e))?;
        let host = builder.uri().authority().map(|a| a.as_str().to_owned());
        let host = host.ok_or_else(|| ClientError::Unreachable {
            url: endpoint.url.clone(),
            reason: "the URL has no host".to_owned(),
        })?;
        if endpoint.url.starts_with("https://") {
            let tls = match &endpoint.ca_pem {
                Some(pem) => ClientTlsConfig::new().ca_certificate(Certificate::from_pem(pem)),
                None => ClientTlsConfig::new().with_native_roots(),
            };
            let tls = match identity {
                Some(identity) => tls.identity(identity),
                None => tls,
            };
            builder = builder.tls_config(tls).map_err(|e| unreachable(&e))?;
        }
        let channel = builder
            .connect_timeout(CALL_TIMEOUT)
            .timeout(CALL_TIMEOUT)
            .connect_lazy();
        let signed = Signed {
            channel,
            host,
            region: endpoint.region.clone(),
            credentials,
            clock: clock.clone(),
        };
        let administration = SessionAdministrationClient::new(signed.clone());
        let relying = RelyingClient::new(signed.clone());
        let grpc = SecurityTokenServiceClient::new(signed.clone());
        Ok(Self {
            grpc,
            administration,
            relying,
            signed,
            url: endpoint.url.clone(),
            clock,
        })
    }

    fn failed(&self, status: &tonic::Status) -> ClientError {
        match status.get_details_error_info() {
            Some(info) => {
                let mut message = status.message().to_owned();
                if let Some(encoded) = info.metadata.get("encoded_authorization_message") {
                    message.push_str(". ");
                    message.push_str(ENCODED_MESSAGE_MARK);
                    message.push_str(encoded);
                }
                let request_id = status
                    .get_details_request_info()
                    .map(|r| r.request_id)
                    .unwrap_or_default();
                ClientError::Refused {
                    code: info.reason,
                    message,
                    request_id,
                }
            }
            // The status is not the broker's: something in between answered, or nothing did.
            None => {
                let reason = std::error::Error::source(status)
                    .map_or_else(|| status.message().to_owned(), chain);
                ClientError::Unreachable {
                    url: self.url.clone(),
                    reason,
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_05_credentials_do_not_leave_this_machine_in_clear() {
        let at = |url: &str| Endpoint {
            url: url.into(),
            region: "us-east-1".into(),
            ca_pem: None,
        };
        for local in [
            "http://127.0.0.1:7480",
            "http://127.8.9.10",
            "http://[::1]:7480",
            "http://localhost:7480",
            "https://broker.example.com",
            "HTTPS://10.0.0.1",
        ] {
            assert!(!at(local).is_in_clear(), "{local}");
        }
        let keys = || Credentials::long_term("AKIA", "secret");
        for foreign in [
            "http://broker.example.com",
            "http://10.0.0.1:7480",
            "http://[2001:db8::1]",
            "http://127.0.0.1.example.com",
            "http://localhost.example.com",
            "http://0.0.0.0:7480",
        ] {
            assert!(
                matches!(
                    Client::new(&at(foreign), keys()),
                    Err(ClientError::InClear { .. })
                ),
                "{foreign}"
            );
            assert!(
                matches!(
                    Client::anonymous(&at(foreign), false),
                    Err(ClientError::InClear { .. })
                ),
                "{foreign}"
            );
        }
    }
}
