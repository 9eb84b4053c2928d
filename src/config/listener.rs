//! `[listen]`: the names of the broker, the proxies that it trusts, and the origins of web pages that may call
//! it.

use std::net::{IpAddr, SocketAddr};

use http::HeaderValue;

use super::document::Listen;
use super::forwarded_header::ForwardedHeader;
use super::{ConfigError, value};
use crate::base::host_names::{HostName, HostNames};
use crate::evaluator::Network;

/// The value that `[listen] plaintext_off_loopback` must have before the broker listens without TLS on an
/// address other than loopback.
pub const PLAINTEXT_SENTENCE: &str = "a proxy in front terminates TLS";

/// The names, proxies and origins that the service accepts.
#[derive(Debug, Clone, Default)]
pub struct Listener {
    /// The host names by which clients call this broker.
    pub names: Names,
    /// The proxies that the broker believes when they name a client in a header or by the PROXY protocol.
    pub trusted_proxies: Vec<Network>,
    /// The header in which the proxies name their clients.
    pub forwarded_header: ForwardedHeader,
    /// Whether connections of the proxies begin with a header of the PROXY protocol, version 2.
    pub proxy_protocol: bool,
    /// The origins of web pages that may call the broker from a browser.
    pub cors_origins: Vec<HeaderValue>,
}

impl Listener {
    /// Whether an address belongs to a trusted proxy.
    pub fn is_trusted(&self, ip: IpAddr) -> bool {
        let ip = ip.to_canonical();
        self.trusted_proxies
            .iter()
            .any(|network| network.contains(ip))
    }
}

/// The host names for which a request may be signed.
#[derive(Debug, Clone, Default)]
pub enum Names {
    /// The address that the broker listens on, and the names in its certificate.
    #[default]
    Derived,
    /// The names that `[listen] names` lists.
    Listed(HostNames),
    /// Any name, in development mode.
    Any,
}

/// Refuses an address other than loopback without TLS, unless the configuration says that a proxy in front terminates
/// TLS.
///
/// # Errors
/// [`ConfigError::Value`] that names `[listen] address` and says what to set.
pub(super) fn check_plaintext(section: &Listen, has_certificate: bool) -> Result<(), ConfigError> {
    if !has_certificate
        && !section.address.ip().is_loopback()
        && section.plaintext_off_loopback.as_deref() != Some(PLAINTEXT_SENTENCE)
    {
        let rule = format!(
            "{} is not a loopback address, so TLS is required: name a certificate in [tls], or set \
             plaintext_off_loopback = \
             \"{PLAINTEXT_SENTENCE}\"",
            section.address
        );
        return Err(value("[listen] address", rule));
    }
    Ok(())
}

pub(super) fn listener(section: Listen, has_certificate: bool) -> Result<Listener, ConfigError> {
    const NAMES: &str = "[listen] names";
    let names = match section.names {
        Some(list) if list.is_empty() => {
            return Err(value(NAMES, "must have at least one name, or be left out"));
        }
        Some(list) => {
            let one = |text: &String| {
                let rule = format!(
                    "`{text}` must be a host name such as `sts.example.com` or `*.example.com`, or an IP address"
                );
                HostName::parse(text).ok_or_else(|| value(NAMES, rule))
            };
            Names::Listed(HostNames::new(
                list.iter().map(one).collect::<Result<Vec<_>, _>>()?,
            ))
        }
        None if section.address.ip().is_unspecified() && !has_certificate => {
            return Err(value(NAMES, names_are_needed(section.address)));
        }
        None => Names::Derived,
    };
    let network = |text: &String| {
        let rule = format!("`{text}` must be an IP address or a range such as `10.0.0.0/8`");
        Network::parse(text).ok_or_else(|| value("[listen] trusted_proxies", rule))
    };
    let trusted_proxies = section
        .trusted_proxies
        .iter()
        .map(network)
        .collect::<Result<Vec<_>, _>>()?;
    if section.proxy_protocol && trusted_proxies.is_empty() {
        return Err(value(
            "[listen] proxy_protocol",
            "requires trusted_proxies, the addresses of the proxies whose PROXY header the broker trusts",
        ));
    }
    Ok(Listener {
        names,
        trusted_proxies,
        forwarded_header: section.forwarded_header,
        proxy_protocol: section.proxy_protocol,
        cors_origins: section
            .cors_origins
            .iter()
            .map(|o| cors_origin(o))
            .collect::<Result<_, _>>()?,
    })
}

/// Makes the error message for a listener on all addresses without a certificate: no host names can be derived, so
/// `names` must be set.
pub fn names_are_needed(address: SocketAddr) -> String {
    format!(
        "is required, since {} means every address of this machine and no certificate names a host. Set the names by \
         which clients call this broker, for example names = [\"sts.example.com\"]",
        address.ip()
    )
}

/// Checks that an origin is written as browsers send it (RFC 6454 section 6.1).
fn cors_origin(text: &str) -> Result<HeaderValue, ConfigError> {
    let rest = text
        .split_once("://")
        .filter(|(scheme, _)| !scheme.is_empty())
        .map_or("", |(_, rest)| rest);
    let legal = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b"-._:[]+".contains(&b);
    let is_origin =
        !rest.is_empty() && rest.bytes().all(legal) && text.bytes().all(|b| legal(b) || b == b'/');
    HeaderValue::from_str(text).ok().filter(|_| is_origin).ok_or_else(|| {
        let rule =
            format!("`{text}` must be an origin such as `https://app.example.com`, in lower case and without a path");
        value("[listen] cors_origins", rule)
    })
}
