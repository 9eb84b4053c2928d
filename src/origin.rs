//! The origin of a request: what its connection says about the client.

use std::net::IpAddr;
use std::sync::Arc;

use crate::admission::{Call, Shed};
use crate::proof::certificate::ClientCertificate;

/// What a connection and the headers say about the sender of a request.
#[derive(Debug, Clone)]
pub struct Origin {
    /// The client's address: that of the peer, or the one that a trusted proxy reports (`[listen]
    /// trusted_proxies`).
    pub source_ip: IpAddr,
    /// Whether the client's connection uses TLS: this connection, or the one that a trusted proxy
    /// reports.
    pub secure_transport: bool,
    /// The `User-Agent` header, cut to 512 characters.
    pub user_agent: Option<String>,
    /// The `Referer` header, cut to 512 characters.
    pub referer: Option<String>,
    /// The certificate with which the client connected to this broker, if the broker trusts its CA.
    pub certificate: Option<Arc<ClientCertificate>>,
    /// How the call is counted while it is served; `None` if it did not arrive over a connection.
    pub call: Option<Arc<Call>>,
}

impl Origin {
    /// Why the body of the request was not accepted, if that was for lack of capacity.
    pub fn shed(&self) -> Option<Shed> {
        self.call.as_ref().and_then(|call| call.shed())
    }
}
