//! The names by which clients call this broker, and the checks whether a `Host` is one of them and whether a host is
//! this machine.
//!
//! A signature covers the host that the client meant to call. A request that was signed for another
//! host was meant for another server, which may be passing it on. This module reads no certificates
//! and opens no listeners.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr};

/// The maximum length of a DNS name in characters: RFC 1035 section 2.3.4.
const MAX_NAME_LENGTH: usize = 253;

/// Whether a host, with or without the brackets of an IPv6 address, denotes this machine:
/// `localhost`, or a loopback address. No name is looked up.
pub fn is_loopback(host: &str) -> bool {
    let address = host
        .trim_start_matches('[')
        .trim_end_matches(']')
        .parse::<IpAddr>();
    host.eq_ignore_ascii_case("localhost") || address.is_ok_and(|a| a.to_canonical().is_loopback())
}

/// The names of a broker. Case, a trailing dot and the port are ignored in comparisons.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostNames(Option<Vec<HostName>>);

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HostName {
    /// An IP address. IPv4-mapped IPv6 addresses are converted to IPv4.
    Address(IpAddr),
    /// A DNS name in lower case, without a trailing dot.
    Domain(Box<str>),
    /// `*.example.com`: any single label before the rest, as in certificates (RFC 9525 section
    /// 6.3).
    AnyLabel(Box<str>),
}

impl HostNames {
    /// Creates names that accept every host, for brokers whose names are not known.
    pub fn any() -> Self {
        Self(None)
    }

    /// Creates names that accept only these hosts. Duplicates are dropped.
    pub fn new(names: impl IntoIterator<Item = HostName>) -> Self {
        let mut kept: Vec<HostName> = Vec::new();
        for name in names {
            if !kept.contains(&name) {
                kept.push(name);
            }
        }
        Self(Some(kept))
    }

    pub fn iter(&self) -> impl Iterator<Item = &HostName> {
        self.0.iter().flatten()
    }

    /// Whether the list is empty, so that every host is refused.
    pub fn is_empty(&self) -> bool {
        self.0.as_ref().is_some_and(Vec::is_empty)
    }

    /// Whether a `Host` or `:authority`, with or without a port, is accepted.
    pub fn contains(&self, host: &str) -> bool {
        let Some(names) = &self.0 else { return true };
        let Some(host) = without_port(host) else {
            return false;
        };
        let address = host.parse::<IpAddr>().ok().map(|ip| ip.to_canonical());
        names.iter().any(|name| match name {
            HostName::Address(own) => Some(*own) == address,
            HostName::Domain(own) => own.eq_ignore_ascii_case(host),
            HostName::AnyLabel(rest) => host
                .split_once('.')
                .is_some_and(|(label, after)| is_label(label) && rest.eq_ignore_ascii_case(after)),
        })
    }

    /// One of the accepted hosts, for requests that the broker makes to itself.
    pub fn example(&self) -> String {
        match self.0.as_ref().and_then(|names| names.first()) {
            None => "localhost".to_owned(),
            Some(HostName::AnyLabel(rest)) => format!("any.{rest}"),
            Some(name) => name.to_string(),
        }
    }
}

/// Formats the names, separated by commas.
impl fmt::Display for HostNames {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(names) = &self.0 else {
            return f.write_str("any host");
        };
        for (i, name) in names.iter().enumerate() {
            if i > 0 {
                f.write_str(", ")?;
            }
            name.fmt(f)?;
        }
        Ok(())
    }
}

impl HostName {
    /// Parses a name as an operator or a certificate writes it: an address, a DNS name, or one
    /// whose first label is `*`. A port is dropped. `None` for anything else.
    pub fn parse(text: &str) -> Option<Self> {
        if let Ok(address) = text.parse::<IpAddr>() {
            return Some(Self::Address(address.to_canonical()));
        }
        let host = without_port(text)?;
        if let Ok(address) = host.parse::<IpAddr>() {
            return Some(Self::Address(address.to_canonical()));
        }
        let lower = host.to_ascii_lowercase();
        let rest = lower.strip_prefix("*.").unwrap_or(&lower);
        if lower.len() > MAX_NAME_LENGTH || !rest.split('.').all(is_label) {
            return None;
        }
        Some(if rest.len() < lower.len() {
            Self::AnyLabel(rest.into())
        } else {
            Self::Domain(rest.into())
        })
    }
}

impl fmt::Display for HostName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address(IpAddr::V4(address)) => address.fmt(f),
            Self::Address(IpAddr::V6(address)) => write!(f, "[{address}]"),
            Self::Domain(name) => f.write_str(name),
            Self::AnyLabel(rest) => write!(f, "*.{rest}"),
        }
    }
}

/// Whether the text is a label of a DNS name: 1 to 63 letters, digits, `-` and `_`.
fn is_label(text: &str) -> bool {
    (1..=63).contains(&text.len())
        && text
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
}

/// Removes the port, the brackets and one trailing dot from a `Host`. `None` if it is malformed.
fn without_port(host: &str) -> Option<&str> {
    let is_port = |port: &str| port.len() <= 5 && port.bytes().all(|b| b.is_ascii_digit());
    if let Some(rest) = host.strip_prefix('[') {
        let (address, after) = rest.split_once(']')?;
        let port = if after.is_empty() {
            ""
        } else {
            after.strip_prefix(':')?
        };
        return (is_port(port) && address.parse::<Ipv6Addr>().is_ok()).then_some(address);
    }
    let (name, port) = host.split_once(':').unwrap_or((host, ""));
    let name = name.strip_suffix('.').unwrap_or(name);
    (is_port(port) && !name.is_empty()).then_some(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(list: &[&str]) -> HostNames {
        HostNames::new(list.iter().map(|n| HostName::parse(n).unwrap()))
    }

    #[test]
    fn case_final_dot_and_port_do_not_matter() {
        let names = names(&[
            "STS.Example.com:443",
            "192.0.2.7",
            "::1",
            "*.tenant.example.",
            "localhost",
        ]);
        for host in [
            "sts.example.com",
            "STS.EXAMPLE.COM.",
            "sts.example.com:7480",
            "sts.example.com.:1",
            "sts.example.com:",
            "192.0.2.7",
            "192.0.2.7:80",
            "[::1]",
            "[::1]:7480",
            "[0:0::1]:7480",
            "[::ffff:192.0.2.7]:1",
            "a.tenant.example:9",
            "LocalHost",
        ] {
            assert!(names.contains(host), "{host}");
        }
        for host in [
            "",
            ":",
            ".",
            ":80",
            "sts.amazonaws.com",
            "user@a.tenant.example",
            "evil/x.tenant.example",
            "evil?x.tenant.example",
            "a b.tenant.example",
            "*.tenant.example",
            "sts.example.com.evil.example",
            "evil.sts.example.com",
            "sts.example.com..",
            "sts.example.com:80:80",
            "sts.example.com:http",
            "sts.example.com:123456",
            "user@sts.example.com",
            "sts.example.com/",
            " sts.example.com",
            "192.0.2.8",
            "192.0.2.07",
            "3221225991",
            "::1",
            "[::1",
            "[::1]x",
            "[::1]:x",
            "[192.0.2.7]",
            "tenant.example",
            ".tenant.example",
            "a.b.tenant.example",
            "*",
        ] {
            assert!(!names.contains(host), "{host}");
        }
        assert!(HostNames::any().contains("anything at all"));
        assert_eq!(
            names.to_string(),
            "sts.example.com, 192.0.2.7, [::1], *.tenant.example, localhost"
        );
    }

    #[test]
    fn what_is_no_name_is_refused() {
        let long = format!("{}.example", "a.".repeat(125));
        for bad in [
            "",
            ".",
            "*",
            "a..b",
            "a b",
            "https://a",
            "a/b",
            "*.*.a",
            "a.*",
            "a:b",
            "é.example",
            "[a]",
            &long,
        ] {
            assert_eq!(HostName::parse(bad), None, "{bad}");
        }
        assert!(HostNames::new([]).is_empty() && !HostNames::any().is_empty());
        assert!(!HostNames::new([]).contains("a"));
    }

    proptest::proptest! {
        #[test]
        fn an_example_of_a_name_is_taken(text in "[a-z*.:0-9\\[\\]-]{0,20}") {
            if let Some(name) = HostName::parse(&text) {
                let names = HostNames::new([name]);
                proptest::prop_assert!(names.contains(&names.example()));
            }
        }
    }
    #[test]
    fn a_host_is_loopback_by_its_very_name() {
        for host in [
            "localhost",
            "LOCALHOST",
            "127.0.0.1",
            "127.9.9.9",
            "::1",
            "[::1]",
            "[::ffff:127.0.0.1]",
        ] {
            assert!(is_loopback(host), "{host}");
        }
        for host in [
            "",
            "localhost.example",
            "127.1",
            "127.0.0.1.example",
            "10.0.0.1",
            "0.0.0.0",
            "[::]",
            "db",
        ] {
            assert!(!is_loopback(host), "{host}");
        }
    }
}
