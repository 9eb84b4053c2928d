//! The origin of a request: the client's address, its certificate and some of its headers.

use std::net::IpAddr;
use std::sync::Arc;

use crate::admission::{Call, Shed};
use crate::proof::certificate::ClientCertificate;

/// The facts about the sender of a request that come from its connection and headers.
#[derive(Debug, Clone)]
pub struct Origin {
    /// The client's address: the peer of the connection, or the address that a trusted proxy
    /// reports (`[listen] trusted_proxies`).
    pub source_ip: IpAddr,
    /// Whether the client uses TLS, on this connection or on the one that a trusted proxy reports.
    pub secure_transport: bool,
    /// The `User-Agent` header, cut to 512 characters; `None` if the request has none.
    pub user_agent: Option<String>,
    /// The `Referer` header, cut to 512 characters; `None` if the request has none.
    pub referer: Option<String>,
    /// The client certificate of the connection, if a CA that the broker trusts issued it.
    pub certificate: Option<Arc<ClientCertificate>>,
    /// The call's place in the limits on memory and calls in progress; `None` if the call did not
    /// arrive over a connection.
    pub call: Option<Arc<Call>>,
}

impl Origin {
    /// Returns the exhausted resource if the body of the request was not accepted for lack of
    /// capacity.
    pub fn shed(&self) -> Option<Shed> {
        self.call.as_ref().and_then(|call| call.shed())
    }
}
