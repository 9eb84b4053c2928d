//! What a running agent offers, as `--world` writes it for programs that test with an agent. It holds secrets.

use std::net::SocketAddr;

use serde::Serialize;

/// What a running agent offers.
#[derive(Debug, Serialize)]
pub struct World {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub imds: Option<ImdsWorld>,
    pub ops_endpoint: String,
}

/// The instance metadata service.
#[derive(Debug, Serialize)]
pub struct ImdsWorld {
    pub endpoint: String,
    /// The name of the role.
    pub role: String,
    /// Whether requests without a token are answered.
    pub v1: bool,
    pub account_id: String,
}

/// The URL of a listener.
pub fn url(address: SocketAddr) -> String {
    format!("http://{address}")
}
