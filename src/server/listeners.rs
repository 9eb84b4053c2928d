//! Binds the listeners, and determines the host names of the service.

use std::net::SocketAddr;

use tokio::net::{TcpListener, TcpSocket};

use super::StartError;
use crate::base::host_names::{HostName, HostNames};
use crate::config::{self, Config, Names};

/// How many connections may wait to be accepted; the system may allow fewer. If a flood of connections fills a short
/// queue, other clients wait for a second or more before they try again.
const BACKLOG: u32 = 4_096;

/// The bound listeners, on which no connection is accepted yet.
pub(super) struct Listeners {
    pub(super) service: TcpListener,
    pub(super) operators: TcpListener,
    /// The listener for proxies in front of object stores; `None` if `[s3]` is not configured.
    pub(super) proxies: Option<TcpListener>,
    /// The address of the service. If the configured port is 0, the port is the one that the system chose; this holds
    /// for the other addresses, too.
    pub(super) address: SocketAddr,
    /// The address of the operators' listener: `/healthz`, `/readyz` and `/metrics`.
    pub(super) operator: SocketAddr,
    /// The address of the listener for proxies; `None` if `[s3]` is not configured.
    pub(super) proxy: Option<SocketAddr>,
}

impl Listeners {
    /// Binds the listener of the service, the operators' listener and, if there are object stores, the listener for
    /// proxies.
    ///
    /// # Errors
    /// [`StartError::Listen`] with the key and the address, if it cannot be listened on.
    pub(super) fn bind(config: &Config) -> Result<Self, StartError> {
        let (service, address) = bind("[listen] address", config.listen)?;
        let (operators, operator) = bind("[operator] address", config.operator)?;
        let s3 = config.s3.as_ref();
        let s3 = s3.map(|s3| bind("[s3] address", s3.address)).transpose()?;
        let (proxies, proxy) = s3.unzip();
        Ok(Self {
            service,
            operators,
            proxies,
            address,
            operator,
            proxy,
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

/// The host names by which clients may call this broker. They are the names in the configuration. If the configuration
/// has none, they are the address of `[listen]` unless that stands for all addresses, the names of this machine on
/// loopback if that address is on loopback, and the names in `certificate`.
///
/// # Errors
/// [`StartError::Names`] if there are none.
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
