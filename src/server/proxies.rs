//! Finds the client behind proxies, by forwarded headers or the PROXY protocol.
//!
//! Both are only trusted from addresses in `[listen] trusted_proxies`. If a trusted proxy's header cannot be
//! read, the request is refused: no decision is made on a guess.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use http::header::FORWARDED;
use http::{HeaderMap, HeaderName, HeaderValue};
use tokio::io::{AsyncRead, AsyncReadExt};

use crate::config::{ForwardedHeader, Listener};

const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");

/// The client of a request, as the connection or a trusted proxy shows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Client {
    /// The client's address; an IPv4-mapped address is converted to IPv4.
    pub ip: IpAddr,
    /// Whether the client used TLS, to this broker or to a trusted proxy.
    pub secure_transport: bool,
    /// Whether the broker may read the forwarded headers of requests on the connection. It may not if the peer is a
    /// trusted proxy that only passes bytes on without naming its client: such headers come from the client itself.
    pub may_forward: bool,
}

impl Client {
    /// Makes a client from the address of a connection's peer. `secure_transport` says whether the connection uses TLS.
    pub fn new(ip: IpAddr, secure_transport: bool) -> Self {
        Self {
            ip: ip.to_canonical(),
            secure_transport,
            may_forward: true,
        }
    }
}

/// A forwarded header that cannot be read; holds its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Unreadable(pub &'static str);

/// Finds the client of a request that came over a connection of `peer`.
///
/// # Errors
/// [`Unreadable`] if a trusted proxy sent a header that cannot be read.
pub fn client(
    listener: &Listener,
    peer: Client,
    headers: &HeaderMap,
) -> Result<Client, Unreadable> {
    if !peer.may_forward || !listener.is_trusted(peer.ip) {
        return Ok(peer);
    }
    match listener.forwarded_header {
        ForwardedHeader::XForwardedFor => x_forwarded(listener, peer, headers),
        ForwardedHeader::Forwarded => forwarded(listener, peer, headers),
    }
}

/// Reads `X-Forwarded-For: CLIENT, PROXY, …`. Each proxy appends the address that called it, so the last
/// address that is not a trusted proxy is the client. Everything before it was written by the client.
fn x_forwarded(
    listener: &Listener,
    peer: Client,
    headers: &HeaderMap,
) -> Result<Client, Unreadable> {
    let unreadable = Unreadable("x-forwarded-for");
    let mut ip = peer.ip;
    'nearest: for value in headers
        .get_all(X_FORWARDED_FOR)
        .iter()
        .collect::<Vec<_>>()
        .into_iter()
        .rev()
    {
        let list = value.to_str().map_err(|_| unreadable)?;
        for node in list.rsplit(',').map(str::trim).filter(|n| !n.is_empty()) {
            ip = address(node).ok_or(unreadable)?;
            if !listener.is_trusted(ip) {
                break 'nearest;
            }
        }
    }
    // If several proxies say how they were called, all of them must have been called over TLS.
    let all = |value: &HeaderValue| value.as_bytes().split(|b| *b == b',').all(is_https);
    let mut said = headers.get_all(X_FORWARDED_PROTO).iter().peekable();
    let secure_transport = if said.peek().is_none() {
        peer.secure_transport
    } else {
        said.all(all)
    };
    Ok(Client {
        ip,
        secure_transport,
        ..peer
    })
}

fn is_https(scheme: &[u8]) -> bool {
    scheme.trim_ascii().eq_ignore_ascii_case(b"https")
}

/// Reads `Forwarded: for=CLIENT;proto=https, for=PROXY` (RFC 7239).
fn forwarded(listener: &Listener, peer: Client, headers: &HeaderMap) -> Result<Client, Unreadable> {
    let unreadable = Unreadable("forwarded");
    let mut elements = Vec::new();
    for value in headers.get_all(FORWARDED) {
        elements.extend(read_forwarded(value.to_str().map_err(|_| unreadable)?).ok_or(unreadable)?);
    }
    let mut client = peer;
    for element in elements.into_iter().rev() {
        // `unknown` and obfuscated names are not addresses.
        client.ip = element
            .node
            .as_deref()
            .and_then(address)
            .ok_or(unreadable)?;
        client.secure_transport = element.proto.map_or(peer.secure_transport, |proto| {
            proto.eq_ignore_ascii_case("https")
        });
        if !listener.is_trusted(client.ip) {
            break;
        }
    }
    Ok(client)
}

/// The element that one proxy has added to a `Forwarded` header.
#[derive(Debug, Default, PartialEq, Eq)]
struct Element {
    node: Option<String>,
    proto: Option<String>,
}

/// The elements of one header line. The last element is from the nearest proxy. `None` if the line breaks the grammar
/// of RFC 7239 section 4.
fn read_forwarded(text: &str) -> Option<Vec<Element>> {
    let mut elements = Vec::new();
    let mut element = Element::default();
    let mut rest = text.trim();
    while !rest.is_empty() {
        let (name, after) = rest.split_once('=')?;
        let (value, after) = read_value(after)?;
        let slot = match name.trim() {
            n if n.eq_ignore_ascii_case("for") => Some(&mut element.node),
            n if n.eq_ignore_ascii_case("proto") => Some(&mut element.proto),
            n if !n.is_empty() && n.bytes().all(is_token) => None,
            _ => return None,
        };
        if slot.is_some_and(|slot| slot.replace(value).is_some()) {
            return None;
        }
        let after = after.trim_start();
        rest = match after.chars().next() {
            None => "",
            Some(';') => after.get(1..)?.trim_start(),
            Some(',') => {
                elements.push(std::mem::take(&mut element));
                after.get(1..)?.trim_start()
            }
            Some(_) => return None,
        };
        // A separator must be followed by another pair.
        if rest.is_empty() && !after.is_empty() {
            return None;
        }
    }
    if !text.trim().is_empty() {
        elements.push(element);
    }
    Some(elements)
}

/// Reads a token or a quoted string; returns it and the rest of the text.
fn read_value(text: &str) -> Option<(String, &str)> {
    let Some(quoted) = text.strip_prefix('"') else {
        let end = text
            .bytes()
            .position(|b| !is_token(b))
            .unwrap_or(text.len());
        return (end > 0).then(|| Some((text.get(..end)?.to_owned(), text.get(end..)?)))?;
    };
    let mut value = String::new();
    let mut characters = quoted.char_indices();
    loop {
        match characters.next()? {
            (at, '"') => return Some((value, quoted.get(at + 1..)?)),
            (_, '\\') => value.push(characters.next()?.1),
            (_, c) => value.push(c),
        }
    }
}

/// Whether a byte may be part of a token (RFC 9110 section 5.6.2).
fn is_token(b: u8) -> bool {
    b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b)
}

/// Parses an address with or without a port: `192.0.2.1`, `192.0.2.1:80`, `2001:db8::1`, `[2001:db8::1]:80`.
fn address(node: &str) -> Option<IpAddr> {
    if let Ok(ip) = node.parse::<IpAddr>() {
        return Some(ip.to_canonical());
    }
    let (host, port) = match node.strip_prefix('[') {
        Some(rest) => {
            let (host, after) = rest.split_once(']')?;
            (
                IpAddr::V6(host.parse().ok()?),
                if after.is_empty() {
                    "0"
                } else {
                    after.strip_prefix(':')?
                },
            )
        }
        None => {
            let (host, port) = node.split_once(':')?;
            (IpAddr::V4(host.parse().ok()?), port)
        }
    };
    port.parse::<u16>().ok()?;
    Some(host.to_canonical())
}

/// The first bytes of a PROXY protocol header, version 2 ("The PROXY protocol", section 2.2).
const SIGNATURE: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";
/// The maximum length of a PROXY protocol header, in bytes after its first sixteen.
const MAX_PROXY_HEADER_BYTES: usize = 4_096;
/// The field `PP2_TYPE_SSL`; the bit [`CLIENT_SSL`] of its first byte says that the client used TLS.
const TYPE_SSL: u8 = 0x20;
const CLIENT_SSL: u8 = 0x01;

/// Reads the header of the PROXY protocol, version 2, with which a trusted proxy names its client at the start of a
/// connection. `peer` is the proxy. It counts as the client if the header says LOCAL or has no address.
///
/// # Errors
/// An [`io::Error`] if the header is missing or malformed, or the connection fails.
pub async fn read_proxy_header<S: AsyncRead + Unpin>(
    stream: &mut S,
    peer: Client,
) -> io::Result<Client> {
    let mut start = [0; 16];
    stream.read_exact(&mut start).await?;
    let malformed = |what| io::Error::new(io::ErrorKind::InvalidData, what);
    let [signature @ .., command, family, high, low] = start;
    if signature != *SIGNATURE {
        return Err(malformed(
            "a connection of a trusted proxy must begin with a PROXY header, version 2",
        ));
    }
    let length = usize::from(u16::from_be_bytes([high, low]));
    if length > MAX_PROXY_HEADER_BYTES {
        return Err(malformed("the PROXY header is longer than 4,096 bytes"));
    }
    let mut rest = vec![0; length];
    stream.read_exact(&mut rest).await?;
    match command {
        // LOCAL: a connection of the proxy itself, such as a health check.
        0x20 => Ok(Client {
            may_forward: false,
            ..peer
        }),
        0x21 => {
            let rule = "the PROXY header has malformed addresses or fields, or is not for TCP over IPv4 or IPv6";
            proxied(family, &rest, peer).ok_or_else(|| malformed(rule))
        }
        _ => Err(malformed(
            "the PROXY header has an unknown version or command",
        )),
    }
}

/// Reads the addresses and the additional fields of a header, which say whether the client used TLS. `None` if they are
/// malformed, or the header is not for TCP over IPv4 or IPv6.
fn proxied(family: u8, rest: &[u8], peer: Client) -> Option<Client> {
    let (ip, mut fields) = match family {
        // UNSPEC: the proxy does not know its client.
        0x00 => {
            return Some(Client {
                may_forward: false,
                ..peer
            });
        }
        0x11 => {
            let (address, fields) = rest.split_at_checked(12)?;
            (
                IpAddr::V4(Ipv4Addr::from(<[u8; 4]>::try_from(address.get(..4)?).ok()?)),
                fields,
            )
        }
        0x21 => {
            let (address, fields) = rest.split_at_checked(36)?;
            (
                IpAddr::V6(Ipv6Addr::from(
                    <[u8; 16]>::try_from(address.get(..16)?).ok()?,
                )),
                fields,
            )
        }
        // Datagrams and Unix sockets are not supported.
        _ => return None,
    };
    let mut secure_transport = false;
    while let Some((head, after)) = fields.split_at_checked(3) {
        let [kind, high, low] = <[u8; 3]>::try_from(head).ok()?;
        let (value, after) =
            after.split_at_checked(usize::from(u16::from_be_bytes([high, low])))?;
        if kind == TYPE_SSL {
            secure_transport |= value.first()? & CLIENT_SSL != 0;
        }
        fields = after;
    }
    fields.is_empty().then(|| Client::new(ip, secure_transport))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::evaluator::Network;

    fn listener(forwarded_header: ForwardedHeader) -> Listener {
        let networks = ["10.0.0.0/8", "2001:db8:1::/48"];
        Listener {
            trusted_proxies: networks
                .iter()
                .map(|n| Network::parse(n).unwrap())
                .collect(),
            forwarded_header,
            ..Listener::default()
        }
    }

    fn ask(
        header: ForwardedHeader,
        peer: &str,
        headers: &[(&'static str, &str)],
    ) -> Result<(String, bool), &'static str> {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(*name, HeaderValue::from_str(value).unwrap());
        }
        let peer = Client::new(peer.parse().unwrap(), false);
        client(&listener(header), peer, &map)
            .map(|c| (c.ip.to_string(), c.secure_transport))
            .map_err(|e| e.0)
    }

    #[test]
    fn az_08_the_last_address_that_is_no_trusted_proxy_is_the_client() {
        const FOR: &str = "x-forwarded-for";
        const PROTO: &str = "x-forwarded-proto";
        let ask = |peer: &str, headers: &[(&'static str, &str)]| {
            ask(ForwardedHeader::XForwardedFor, peer, headers)
        };
        let is = |ip: &str, secure| Ok((ip.to_owned(), secure));
        assert_eq!(
            ask("192.0.2.1", &[(FOR, "198.51.100.1"), (PROTO, "https")]),
            is("192.0.2.1", false)
        );
        assert_eq!(
            ask("10.0.0.1", &[(FOR, "198.51.100.1"), (PROTO, "https")]),
            is("198.51.100.1", true)
        );
        assert_eq!(
            ask("::ffff:10.0.0.1", &[(FOR, "198.51.100.1")]),
            is("198.51.100.1", false)
        );
        assert_eq!(ask("10.0.0.1", &[]), is("10.0.0.1", false));
        assert_eq!(
            ask("10.0.0.1", &[("forwarded", "for=198.51.100.1;proto=https")]),
            is("10.0.0.1", false)
        );
        // What the client itself wrote stands before its address.
        assert_eq!(
            ask("10.0.0.1", &[(FOR, "203.0.113.9, 198.51.100.1")]),
            is("198.51.100.1", false)
        );
        assert_eq!(
            ask("10.0.0.1", &[(FOR, "<script>, 198.51.100.1")]),
            is("198.51.100.1", false)
        );
        assert_eq!(
            ask("10.0.0.1", &[(FOR, "203.0.113.9"), (FOR, "198.51.100.1")]),
            is("198.51.100.1", false)
        );
        // Trusted proxies in a row.
        assert_eq!(
            ask(
                "10.0.0.1",
                &[(FOR, "198.51.100.1,10.2.2.2 , [2001:db8:1::5]:80")]
            ),
            is("198.51.100.1", false)
        );
        assert_eq!(
            ask("10.0.0.1", &[(FOR, "10.3.3.3, 10.2.2.2,")]),
            is("10.3.3.3", false)
        );
        assert_eq!(
            ask("2001:db8:1::1", &[(FOR, "2001:db8:2::7")]),
            is("2001:db8:2::7", false)
        );
        for node in [
            "198.51.100.1:4711",
            "::ffff:198.51.100.1",
            "[::ffff:198.51.100.1]",
            "[::ffff:198.51.100.1]:1",
        ] {
            assert_eq!(
                ask("10.0.0.1", &[(FOR, node)]),
                is("198.51.100.1", false),
                "{node}"
            );
        }
        for bad in [
            "unknown",
            "198.51.100",
            "198.51.100.1:x",
            "198.51.100.1:70000",
            "[2001:db8::1",
            "[1.2.3.4]",
            "a, 10.2.2.2",
            "\u{e9}",
        ] {
            assert_eq!(
                ask("10.0.0.1", &[(FOR, bad)]),
                Err("x-forwarded-for"),
                "{bad}"
            );
        }
        for (proto, secure) in [
            ("HTTPS", true),
            ("https, https", true),
            ("https, http", false),
            ("http", false),
            ("", false),
            ("wss", false),
        ] {
            assert_eq!(
                ask("10.0.0.1", &[(FOR, "198.51.100.1"), (PROTO, proto)]),
                is("198.51.100.1", secure),
                "{proto}"
            );
        }
        assert_eq!(
            ask("10.0.0.1", &[(PROTO, "https"), (PROTO, "http")]),
            is("10.0.0.1", false)
        );
    }

    #[test]
    fn az_08_the_standard_header_is_read_where_it_is_configured() {
        let ask =
            |headers: &[(&'static str, &str)]| ask(ForwardedHeader::Forwarded, "10.0.0.1", headers);
        let is = |ip: &str, secure| Ok((ip.to_owned(), secure));
        assert_eq!(
            ask(&[
                ("x-forwarded-for", "203.0.113.9"),
                ("x-forwarded-proto", "https")
            ]),
            is("10.0.0.1", false)
        );
        for (header, ip, secure) in [
            (
                "for=198.51.100.1;proto=https;by=10.0.0.1",
                "198.51.100.1",
                true,
            ),
            (
                "For=\"198.51.100.1:80\" ; Proto=HTTP",
                "198.51.100.1",
                false,
            ),
            (
                "for=203.0.113.9, for=\"[2001:db8:2::7]:80\";proto=https , for=10.2.2.2;proto=http",
                "2001:db8:2::7",
                true,
            ),
            ("for=\"198.51.100.\\1\"", "198.51.100.1", false),
            (
                "for=unknown, for=198.51.100.1;host=\"a,b;c\"",
                "198.51.100.1",
                false,
            ),
            ("", "10.0.0.1", false),
        ] {
            assert_eq!(ask(&[("forwarded", header)]), is(ip, secure), "{header}");
        }
        for bad in [
            "for=unknown",
            "for=_hidden",
            "proto=https",
            "for=198.51.100.1;for=203.0.113.9",
            "for=\"198.51.100.1",
            "for=[2001:db8:2::7]",
            "for=198.51.100.1,",
            "for=198.51.100.1;",
            "for",
            "for=",
            "=x",
            "for=198.51.100.1 proto=https",
            ",",
        ] {
            assert_eq!(ask(&[("forwarded", bad)]), Err("forwarded"), "{bad}");
        }
    }

    fn header(command: u8, family: u8, rest: &[u8]) -> Vec<u8> {
        let length = u16::try_from(rest.len()).unwrap().to_be_bytes();
        [SIGNATURE.as_slice(), &[command, family], &length, rest].concat()
    }

    async fn read(bytes: &[u8]) -> Option<(String, bool)> {
        let mut stream = bytes;
        let read = read_proxy_header(&mut stream, Client::new([10, 0, 0, 1].into(), false)).await;
        read.ok().map(|c| (c.ip.to_string(), c.secure_transport))
    }

    #[tokio::test]
    async fn az_08_a_proxy_that_names_nobody_passes_on_headers_of_the_client() {
        let listener = listener(ForwardedHeader::XForwardedFor);
        let mut headers = HeaderMap::new();
        headers.insert(X_FORWARDED_FOR, HeaderValue::from_static("203.0.113.5"));
        headers.insert(X_FORWARDED_PROTO, HeaderValue::from_static("https"));
        for (bytes, ip) in [
            (header(0x20, 0x00, &[]), "10.0.0.1"),
            (header(0x21, 0x00, b"any"), "10.0.0.1"),
            // It calls for another trusted proxy, which writes the header.
            (
                header(0x21, 0x11, &[10, 0, 0, 2, 10, 0, 0, 1, 0, 80, 1, 187]),
                "203.0.113.5",
            ),
        ] {
            let peer = Client::new([10, 0, 0, 1].into(), false);
            let peer = read_proxy_header(&mut bytes.as_slice(), peer)
                .await
                .unwrap();
            let client = client(&listener, peer, &headers).unwrap();
            assert_eq!(
                (client.ip.to_string().as_str(), client.secure_transport),
                (ip, ip == "203.0.113.5")
            );
        }
    }

    #[tokio::test]
    async fn az_08_a_proxy_header_is_read_or_ends_the_connection() {
        let v4 = [198, 51, 100, 1, 10, 0, 0, 1, 0, 80, 1, 187];
        let mut v6 = [0; 36];
        v6[..4].copy_from_slice(&[0x20, 0x01, 0x0d, 0xb8]);
        let ssl = |flags| [TYPE_SSL, 0, 5, flags, 0, 0, 0, 0];
        let is = |ip: &str, secure| Some((ip.to_owned(), secure));
        assert_eq!(
            read(&header(0x21, 0x11, &v4)).await,
            is("198.51.100.1", false)
        );
        assert_eq!(
            read(&header(0x21, 0x21, &v6)).await,
            is("2001:db8::", false)
        );
        assert_eq!(read(&header(0x20, 0x00, &[])).await, is("10.0.0.1", false));
        assert_eq!(
            read(&header(0x21, 0x00, b"any")).await,
            is("10.0.0.1", false)
        );
        assert_eq!(
            read(&header(0x21, 0x11, &[&v4[..], &ssl(7)].concat())).await,
            is("198.51.100.1", true)
        );
        assert_eq!(
            read(&header(
                0x21,
                0x11,
                &[&v4[..], &[4, 0, 1, 0], &ssl(0)].concat()
            ))
            .await,
            is("198.51.100.1", false)
        );
        for bad in [
            header(0x21, 0x11, &v4[..11]),
            header(0x21, 0x21, &v6[..35]),
            header(0x21, 0x12, &v4),
            header(0x21, 0x31, &[0; 216]),
            header(0x11, 0x11, &v4),
            header(0x22, 0x11, &v4),
            header(0x21, 0x11, &[&v4[..], &[4, 0]].concat()),
            header(0x21, 0x11, &[&v4[..], &[4, 0, 9, 0]].concat()),
            header(0x21, 0x11, &[&v4[..], &[TYPE_SSL, 0, 0]].concat()),
            header(0x21, 0x11, &vec![0; MAX_PROXY_HEADER_BYTES + 1]),
            b"PROXY TCP4 198.51.100.1 10.0.0.1 80 443\r\n".to_vec(),
            b"POST / HTTP/1.1\r\nhost: a\r\n\r\n".to_vec(),
            SIGNATURE.to_vec(),
        ] {
            assert_eq!(read(&bad).await, None, "{bad:?}");
        }
    }

    proptest::proptest! {
        #[test]
        fn no_header_makes_it_panic(text in "(for=|proto=|[\"\\\\,;=\\[\\]:. a-f0-9]){0,40}", xff in "[0-9a-f.:,\\[\\] ]{0,40}") {
            let _ = ask(ForwardedHeader::Forwarded, "10.0.0.1", &[("forwarded", &text)]);
            let _ = ask(ForwardedHeader::XForwardedFor, "10.0.0.1", &[("x-forwarded-for", &xff)]);
        }
    }
}
