//! Where a request came from: what a connection says of its client.

use std::net::IpAddr;
use std::sync::Arc;

use crate::admission::{Call, Shed};

/// Where a request came from.
#[derive(Debug, Clone)]
pub struct Origin {
    /// The client's address: the peer's, or what a trusted proxy says of its client (`[listen]
    /// trusted_proxies`).
    pub source_ip: IpAddr,
    /// Whether the client's connection is TLS: this one, or by a trusted proxy's word the one to it.
    pub secure_transport: bool,
    /// At most 512 characters.
    pub user_agent: Option<String>,
    /// The `Referer` header, at most 512 characters.
    pub referer: Option<String>,
    /// As what it is counted while it is served; none: it came over no connection.
    pub call: Option<Arc<Call>>,
}

impl Origin {
    /// Why its body was not taken, if it was not for want of room.
    pub fn shed(&self) -> Option<Shed> {
        self.call.as_ref().and_then(|call| call.shed())
    }
}
