//! The configuration that all listeners for workloads have in common: an address close to the workloads, and the
//! host names that requests may contain.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use super::document::Addresses;
use super::{ConfigError, value};
use crate::agent::hosts::{self, Hosts};
use crate::base::host_names::HostName;

/// The maximum number of addresses in one section.
const MAX_ADDRESSES: usize = 8;
/// The value that `off_loopback` must have before a listener may use an address that is neither loopback nor
/// link-local.
pub const OFF_LOOPBACK_SENTENCE: &str =
    "only workloads that may have these credentials reach this address";

/// The address and the host names of a listener for workloads.
#[derive(Debug, Clone)]
pub struct ListenerConfig {
    /// The address to listen on. Port 0 takes any free port.
    pub address: SocketAddr,
    /// The host names in the configuration, each with its port if that is not the port of the listener.
    names: Vec<(HostName, Option<u16>)>,
}

impl ListenerConfig {
    /// The hosts that a request may name if the listener got this port: the address itself unless it is unspecified,
    /// `localhost` on loopback, and the names in the configuration.
    pub fn hosts(&self, port: u16) -> Hosts {
        let ip = self.address.ip();
        let own = (!ip.is_unspecified()).then(|| hosts::of_address(ip));
        let own = own.into_iter().flatten().map(|name| (name, Some(port)));
        let names = self.names.iter().cloned();
        Hosts::new(own.chain(names.map(|(name, own)| (name, Some(own.unwrap_or(port))))))
    }
}

/// Checks the addresses and the additional host names of the listeners of a section. `keys` are the names of the two
/// keys in the configuration, for error messages.
///
/// # Errors
/// [`ConfigError`] with the key and what to write instead.
pub(super) fn listeners(
    keys: [&'static str; 2],
    addresses: Addresses,
    hosts: &[String],
    off_loopback: Option<&str>,
) -> Result<Vec<ListenerConfig>, ConfigError> {
    let (Addresses(addresses), [address_key, _]) = (addresses, keys);
    if addresses.is_empty() || addresses.len() > MAX_ADDRESSES {
        let rule = format!(
            "must have 1 to {MAX_ADDRESSES} addresses, but has {}",
            addresses.len()
        );
        return Err(value(address_key, rule));
    }
    let addresses = addresses.into_iter();
    let listeners = addresses.map(|address| listener(keys, address, hosts, off_loopback));
    listeners.collect()
}

/// Does what [`listeners`] does, for one address.
///
/// # Errors
/// See [`listeners`].
pub(super) fn listener(
    keys: [&'static str; 2],
    address: SocketAddr,
    hosts: &[String],
    off_loopback: Option<&str>,
) -> Result<ListenerConfig, ConfigError> {
    let [address_key, hosts_key] = keys;
    if !is_near(address.ip()) && off_loopback != Some(OFF_LOOPBACK_SENTENCE) {
        let rule = format!(
            "{address} is neither a loopback nor a link-local address, so other machines may reach it. Use one such as \
             127.0.0.1 or 169.254.169.254, or set off_loopback = \"{OFF_LOOPBACK_SENTENCE}\" in that section of the \
             configuration file"
        );
        return Err(value(address_key, rule));
    }
    let mut names = Vec::new();
    for host in hosts {
        let parsed = HostName::parse(host).zip(hosts::port(host));
        names.push(parsed.ok_or_else(|| {
            let rule = format!(
                "`{host}` must be a host name or an IP address, followed by `:PORT` if workloads use another port \
                 than that of the listener"
            );
            value(hosts_key, rule)
        })?);
    }
    if address.ip().is_unspecified() && names.is_empty() {
        let rule = format!(
            "is required, since {} means every address of this machine: list the host names and addresses that \
             workloads call",
            address.ip()
        );
        return Err(value(hosts_key, rule));
    }
    Ok(ListenerConfig { address, names })
}

/// Whether packets to an address stay on the machine or on its link: loopback (RFC 1122 section 3.2.1.3), IPv4
/// link-local (RFC 3927), IPv6 link-local (RFC 4291 section 2.5.6), and the addresses of AWS's own metadata
/// services, `fd00:ec2::/32`.
fn is_near(ip: IpAddr) -> bool {
    match ip.to_canonical() {
        IpAddr::V4(v4) => v4.is_loopback() || v4.is_link_local(),
        IpAddr::V6(v6) => {
            v6 == Ipv6Addr::LOCALHOST
                || v6.is_unicast_link_local()
                || v6.segments().starts_with(&[0xfd00, 0x0ec2])
        }
    }
}
