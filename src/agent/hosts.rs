//! The hosts that requests of a listener may name, each with the port at which clients call it. Knows no requests.

use std::net::{IpAddr, Ipv6Addr};

use crate::base::host_names::{HostName, HostNames};

/// The port of a URL of HTTP that names none, which clients leave out of `Host` (RFC 9110 section 4.2.1).
const DEFAULT_PORT: u16 = 80;

/// The hosts that requests of a listener may name.
#[derive(Debug, Clone)]
pub struct Hosts {
    /// Names, with the port that must be named beside them; `None` stands for any port.
    names: Vec<(HostNames, Option<u16>)>,
    /// The names as clients write them, so that most requests are only compared.
    usual: Vec<String>,
}

/// Why a request for a host is not answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OtherHost {
    /// The listener does not have this host, or does not have it with this port.
    Foreign,
    /// The listener has this host, but no client spells it like this.
    Misspelled,
}

impl Hosts {
    /// Makes a list of names, each with its port; `None` stands for any port.
    pub fn new(names: impl IntoIterator<Item = (HostName, Option<u16>)>) -> Self {
        let (mut all, mut usual) = (Vec::new(), Vec::new());
        for (name, port) in names {
            if !matches!(name, HostName::AnyLabel(_)) {
                if port.is_none_or(|port| port == DEFAULT_PORT) {
                    usual.push(name.to_string());
                }
                usual.extend(port.map(|port| format!("{name}:{port}")));
            }
            all.push((HostNames::new([name]), port));
        }
        Self { names: all, usual }
    }

    /// A list that has every host.
    pub fn any() -> Self {
        Self {
            names: vec![(HostNames::any(), None)],
            usual: Vec::new(),
        }
    }

    /// Whether the listener has this `Host`, in the spelling that clients usually use. `false` does not mean that the
    /// host is refused; [`Self::check`] decides that.
    pub fn is_usual(&self, host: &[u8]) -> bool {
        self.usual.iter().any(|usual| usual.as_bytes() == host)
    }

    /// Checks the `Host` of a request.
    ///
    /// # Errors
    /// [`OtherHost`] if the agent does not answer requests for this host.
    pub fn check(&self, host: &str) -> Result<(), OtherHost> {
        if self.is_usual(host.as_bytes()) {
            return Ok(());
        }
        let port = port(host).ok_or(OtherHost::Foreign)?;
        let port = port.unwrap_or(DEFAULT_PORT);
        let is_it = |(names, own): &(HostNames, Option<u16>)| {
            own.is_none_or(|own| own == port) && names.contains(host)
        };
        if !self.names.iter().any(is_it) {
            return Err(OtherHost::Foreign);
        }
        is_spelled_plainly(host)
            .then_some(())
            .ok_or(OtherHost::Misspelled)
    }
}

/// The port in a host; `Some(None)` if it has none, and `None` if it is not a number from 0 to 65,535.
pub fn port(host: &str) -> Option<Option<u16>> {
    if host.parse::<Ipv6Addr>().is_ok() {
        return Some(None);
    }
    let after = host.rsplit_once(']').map_or(host, |(_, after)| after);
    match after.split_once(':') {
        None | Some((_, "")) => Some(None),
        Some((_, port)) if port.bytes().all(|b| b.is_ascii_digit()) => port.parse().ok().map(Some),
        Some(_) => None,
    }
}

/// Whether a host is written as clients of this agent write it. Attackers use other spellings of an address to get a
/// URL past the filter of a program that fetches URLs for them.
fn is_spelled_plainly(host: &str) -> bool {
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|b| b.is_ascii_digit()) => name,
        _ => host,
    };
    let is_mapped = name
        .strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'))
        .and_then(|address| address.parse::<Ipv6Addr>().ok())
        .is_some_and(|address| address.to_ipv4().is_some() && !address.is_loopback());
    !is_mapped && !name.ends_with('.')
}

/// The names of an address on which a listener listens: the address itself, and `localhost` on loopback.
pub fn of_address(address: IpAddr) -> impl Iterator<Item = HostName> {
    let address = address.to_canonical();
    let local = address
        .is_loopback()
        .then(|| HostName::Domain("localhost".into()));
    [HostName::Address(address)].into_iter().chain(local)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hosts(names: &[(&str, Option<u16>)]) -> Hosts {
        let parsed = |(name, port): &(&str, Option<u16>)| (HostName::parse(name).unwrap(), *port);
        Hosts::new(names.iter().map(parsed))
    }

    #[test]
    fn ag_02_the_port_is_part_of_the_host_and_80_need_not_be_named() {
        let (at_80, elsewhere) = (
            hosts(&[("169.254.169.254", Some(80)), ("fd00:ec2::254", Some(80))]),
            hosts(&[
                ("127.0.0.1", Some(7490)),
                ("localhost", Some(7490)),
                ("::1", Some(7490)),
                ("*.pod.example", Some(7490)),
                ("agent", Some(8080)),
            ]),
        );
        for host in [
            "169.254.169.254",
            "169.254.169.254:80",
            "169.254.169.254:",
            "[fd00:ec2::254]",
            "[fd00:ec2::254]:80",
            "[fd00:0ec2:0::254]:80",
            "[FD00:EC2::254]",
        ] {
            assert_eq!(at_80.check(host), Ok(()), "{host}");
        }
        for host in [
            "127.0.0.1:7490",
            "localhost:7490",
            "LOCALHOST:7490",
            "[::1]:7490",
            "[0:0::1]:7490",
            "a.pod.example:7490",
            "agent:8080",
        ] {
            assert_eq!(elsewhere.check(host), Ok(()), "{host}");
        }
        for host in [
            "127.0.0.1",
            "127.0.0.1:80",
            "127.0.0.1:7491",
            "127.0.0.1:",
            "127.0.0.1:+7490",
            "127.0.0.1:07490x",
            "127.0.0.1:73026", // 7490 in 16 bits
            "127.0.0.1:7490:7490",
            "localhost",
            "[::1]",
            "[::1]:80",
            "a.pod.example",
            "agent",
            "agent:7490",
            "other:7490",
        ] {
            assert_eq!(elsewhere.check(host), Err(OtherHost::Foreign), "{host}");
        }
        for host in ["169.254.169.254:8080", "[fd00:ec2::254]:8080", "::1", ""] {
            assert_eq!(at_80.check(host), Err(OtherHost::Foreign), "{host}");
        }
    }

    #[test]
    fn ag_02_another_spelling_is_refused_with_its_port_too() {
        let hosts = hosts(&[("169.254.169.254", Some(80)), ("localhost", Some(80))]);
        for host in [
            "[::ffff:169.254.169.254]",
            "[::ffff:a9fe:a9fe]:80",
            "169.254.169.254.",
            "localhost.:80",
        ] {
            assert_eq!(hosts.check(host), Err(OtherHost::Misspelled), "{host}");
        }
    }

    #[test]
    fn without_a_port_any_is_answered() {
        let local = hosts(&[("localhost", None)]);
        for host in ["localhost", "localhost:1", "LocalHost:8080"] {
            assert_eq!(local.check(host), Ok(()), "{host}");
        }
        assert_eq!(local.check("127.0.0.1"), Err(OtherHost::Foreign));
        assert_eq!(Hosts::any().check("10.0.0.7:7491"), Ok(()));
    }

    #[test]
    fn a_port_is_read_from_every_form_of_a_host() {
        for (host, expected) in [
            ("agent", Some(None)),
            ("agent:8080", Some(Some(8080))),
            ("agent:", Some(None)),
            ("::1", Some(None)),
            ("[::1]", Some(None)),
            ("[::1]:65535", Some(Some(65_535))),
            ("agent:65536", None),
            ("agent:http", None),
            ("agent:-1", None),
        ] {
            assert_eq!(port(host), expected, "{host}");
        }
    }
}
