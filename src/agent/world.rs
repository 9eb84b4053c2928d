//! The description of a running agent that `--world` writes, for programs that test with an agent. It contains
//! secrets.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use serde::Serialize;

/// The addresses and secrets of the endpoints that a running agent has.
#[derive(Debug, Serialize)]
pub struct World {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub imds: Option<ImdsWorld>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ecs: Option<ContainerWorld>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pod_identity: Option<PodIdentityWorld>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub credential_process: Option<ProcessWorld>,
    pub ops_endpoint: String,
}

/// The address of the instance metadata service, and the role that it hands out.
#[derive(Debug, Serialize)]
pub struct ImdsWorld {
    pub endpoint: String,
    /// The name of the role whose credentials are handed out.
    pub role: String,
    /// Whether requests without a token are answered, as version 1 of the service did.
    pub v1: bool,
    pub account_id: String,
}

/// The URL and the token with which the first configured container fetches credentials in the way of Amazon ECS.
#[derive(Debug, Default, Serialize)]
pub struct ContainerWorld {
    pub full_uri: String,
    pub token: String,
}

/// The container endpoint in the form of EKS Pod Identity.
#[derive(Debug, Serialize)]
pub struct PodIdentityWorld {
    pub full_uri: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub token_file: Option<PathBuf>,
}

/// The command that gets credentials over the Unix socket.
#[derive(Debug, Serialize)]
pub struct ProcessWorld {
    pub argv: Vec<String>,
}

impl ProcessWorld {
    /// Makes the command for this socket and role. It needs no environment variables. `None` if the path of this
    /// program or of the socket cannot be found out or is not UTF-8.
    pub fn new(socket: &Path, role_arn: &str) -> Option<Self> {
        let program = std::env::current_exe().ok()?;
        let socket = std::path::absolute(socket).ok()?;
        let words = [
            program.to_str()?,
            "credential-process",
            "--agent-socket",
            socket.to_str()?,
            "--role",
            role_arn,
        ];
        Some(Self {
            argv: words.map(str::to_owned).to_vec(),
        })
    }
}

pub fn url(address: SocketAddr) -> String {
    format!("http://{address}")
}
