//! The two listeners, and what clients call the one for the service.

use std::net::SocketAddr;

use tokio::net::{TcpListener, TcpSocket};

use super::StartError;
use crate::base::host_names::{HostName, HostNames};
use crate::config::{self, Config, Names};

/// How many connections wait to be accepted at the most; the system may allow fewer. With fewer a flood
/// makes others wait for a second and more, until they ask again.
const BACKLOG: u32 = 4_096;

/// Two listeners that nobody accepts on yet.
pub(super) struct Listeners {
    pub(super) service: TcpListener,
    pub(super) operators: TcpListener,
    /// Where the service listens: with the port that the system chose.
    pub(super) address: SocketAddr,
    /// Where the operators' endpoints listen.
    pub(super) operator: SocketAddr,
}

impl Listeners {
    /// Binds both.
    ///
    /// # Errors
    /// Names the key and the address that cannot be listened on.
    pub(super) fn bind(config: &Config) -> Result<Self, StartError> {
        let (service, address) = bind("[listen] address", config.listen)?;
        let (operators, operator) = bind("[operator] address", config.operator)?;
        Ok(Self {
            service,
            operators,
            address,
            operator,
        })
    }
}

fn bind(key: &'static str, address: SocketAddr) -> Result<(TcpListener, SocketAddr), StartError> {
    let socket = if address.is_ipv4() {
        TcpSocket::new_v4()
    } else {
        TcpSocket::new_v6()
    };
    let bound = socket.and_then(|socket| {
        socket.set_reuseaddr(true)?;
        socket.bind(address)?;
        let listener = socket.listen(BACKLOG)?;
        let local = listener.local_addr()?;
        Ok((listener, local))
    });
    bound.map_err(|source| StartError::Listen {
        key,
        address,
        source,
    })
}

/// What clients may call a broker of this configuration, whose certificate names these hosts.
///
/// # Errors
/// When nobody knows.
pub fn host_names(config: &Config, certificate: &[HostName]) -> Result<HostNames, StartError> {
    let names = match &config.listener.names {
        Names::Any => HostNames::any(),
        Names::Listed(names) => names.clone(),
        Names::Derived => {
            let ip = config.listen.ip().to_canonical();
            let local: &[&str] = if ip.is_loopback() {
                &["localhost", "127.0.0.1", "::1"]
            } else {
                &[]
            };
            let own = (!ip.is_unspecified()).then_some(HostName::Address(ip));
            let local = local.iter().filter_map(|name| HostName::parse(name));
            HostNames::new(
                own.into_iter()
                    .chain(local)
                    .chain(certificate.iter().cloned()),
            )
        }
    };
    if names.is_empty() {
        return Err(StartError::Names(config::names_are_needed(config.listen)));
    }
    Ok(names)
}
