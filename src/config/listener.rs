//! `[listen]`: what clients call the broker, and which proxies it believes.

use std::net::{IpAddr, SocketAddr};

use http::HeaderValue;
use serde::Deserialize;

use super::document::Listen;
use super::{ConfigError, value};
use crate::base::host_names::{HostName, HostNames};
use crate::evaluator::Network;

/// The sentence that lets credentials travel in clear beyond this machine.
pub const PLAINTEXT_SENTENCE: &str = "a proxy in front terminates TLS";

/// Who may be meant and believed on the service's listener.
#[derive(Debug, Clone, Default)]
pub struct Listener {
    /// What clients call this broker.
    pub names: Names,
    /// Whose forwarded headers, and whose PROXY headers, are believed.
    pub trusted_proxies: Vec<Network>,
    /// The header in which they name their clients.
    pub forwarded_header: ForwardedHeader,
    /// Whether their connections begin with a header of the PROXY protocol, version 2.
    pub proxy_protocol: bool,
    /// Pages of these origins may call the broker from a browser.
    pub cors_origins: Vec<HeaderValue>,
}

impl Listener {
    /// Whether an address is a proxy's that is believed.
    pub fn is_trusted(&self, ip: IpAddr) -> bool {
        let ip = ip.to_canonical();
        self.trusted_proxies
            .iter()
            .any(|network| network.contains(ip))
    }
}

/// Where the names come from that clients call this broker.
#[derive(Debug, Clone, Default)]
pub enum Names {
    /// The address that it listens on, and its certificate.
    #[default]
    Derived,
    /// The configuration.
    Listed(HostNames),
    /// Every name is taken: for development.
    Any,
}

/// Which header names a proxy's client.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
pub enum ForwardedHeader {
    /// `X-Forwarded-For`, with `X-Forwarded-Proto`.
    #[default]
    #[serde(rename = "x-forwarded-for")]
    XForwardedFor,
    /// `Forwarded`: RFC 7239.
    #[serde(rename = "forwarded")]
    Forwarded,
}

/// Refuses a listener on which credentials would travel in clear without anybody having said so.
pub(super) fn check_plaintext(section: &Listen, has_certificate: bool) -> Result<(), ConfigError> {
    if !has_certificate
        && !section.address.ip().is_loopback()
        && section.plaintext_off_loopback.as_deref() != Some(PLAINTEXT_SENTENCE)
    {
        let rule = format!(
            "{} is not a loopback address: give [tls] a certificate, or set plaintext_off_loopback = \"{PLAINTEXT_SENTENCE}\"",
            section.address
        );
        return Err(value("[listen] address", rule));
    }
    Ok(())
}

pub(super) fn listener(section: Listen, has_certificate: bool) -> Result<Listener, ConfigError> {
    const NAMES: &str = "[listen] names";
    let names = match section.names {
        Some(list) if list.is_empty() => return Err(value(NAMES, "must be at least one name")),
        Some(list) => {
            let one = |text: &String| {
                let rule = format!(
                    "`{text}` must be a host name or an IP address, such as `sts.example.com`"
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
            "needs trusted_proxies: whose PROXY header is believed",
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

/// What is wrong with a listener whose names nobody knows.
pub fn names_are_needed(address: SocketAddr) -> String {
    format!(
        "is needed: {} is every address of this machine, and no certificate names a host. Name what clients call \
         this broker, for example names = [\"sts.example.com\"]",
        address.ip()
    )
}

/// RFC 6454 section 6.1, as browsers send it.
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
