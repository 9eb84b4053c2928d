//! Finds out after a failed call what listens at the host and port of its URL: TLS, plain HTTP, or something else.

use std::io::{Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, RootCertStore};

const TIMEOUT: Duration = Duration::from_secs(2);

/// The protocol that the server at a URL speaks, by its answer to the beginning of a TLS handshake.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Speaks {
    /// A TLS handshake, or an alert.
    Tls,
    /// HTTP/1.1 without TLS.
    Http,
    /// Something that is neither TLS nor HTTP.
    Else,
    /// No answer within [`TIMEOUT`], the connection failed, or the URL has no host that can be resolved.
    Nothing,
}

/// Whether the scheme of a URL is `https`, in upper or lower case.
pub(crate) fn scheme_is_https(url: &str) -> bool {
    url.get(..8)
        .is_some_and(|start| start.eq_ignore_ascii_case("https://"))
}

/// Returns the URL with another scheme, for an error message that suggests it.
pub(crate) fn with_scheme(url: &str, scheme: &str) -> String {
    format!(
        "{scheme}://{}",
        url.split_once("://").map_or(url, |(_, rest)| rest)
    )
}

/// Begins a TLS handshake with the host of a URL, and classifies the first byte of the answer.
pub(crate) fn look(url: &str) -> Speaks {
    match first_byte(url) {
        // The TLS record types `alert` and `handshake` (RFC 8446 section 5.1).
        Some(0x15 | 0x16) => Speaks::Tls,
        Some(b'H') => Speaks::Http,
        Some(_) => Speaks::Else,
        None => Speaks::Nothing,
    }
}

fn first_byte(url: &str) -> Option<u8> {
    let uri: http::Uri = url.parse().ok()?;
    let host = uri
        .host()?
        .trim_start_matches('[')
        .trim_end_matches(']')
        .to_owned();
    let port = uri
        .port_u16()
        .unwrap_or(if scheme_is_https(url) { 443 } else { 80 });
    let address = (host.as_str(), port).to_socket_addrs().ok()?.next()?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .ok()?;
    // No certificate is trusted, and none is needed: the handshake is never completed.
    let config = config
        .with_root_certificates(RootCertStore::empty())
        .with_no_client_auth();
    let mut connection =
        ClientConnection::new(Arc::new(config), ServerName::try_from(host).ok()?).ok()?;
    let mut hello = Vec::new();
    connection.write_tls(&mut hello).ok()?;
    let mut stream = TcpStream::connect_timeout(&address, TIMEOUT).ok()?;
    stream.set_read_timeout(Some(TIMEOUT)).ok()?;
    stream.write_all(&hello).ok()?;
    let mut byte = [0];
    stream.read_exact(&mut byte).ok()?;
    byte.first().copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answering(answer: &'static [u8]) -> String {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut hello = [0; 5];
            stream.read_exact(&mut hello).unwrap();
            assert_eq!(hello[0], 0x16);
            stream.write_all(answer).unwrap();
        });
        format!("http://{address}")
    }

    #[test]
    fn a_port_is_known_by_its_first_byte() {
        for (answer, speaks) in [
            (&[0x15, 3, 3, 0, 2, 2, 50][..], Speaks::Tls),
            (&[0x16, 3, 3][..], Speaks::Tls),
            (b"HTTP/1.1 400 Bad Request\r\n\r\n", Speaks::Http),
            (b"SSH-2.0\r\n", Speaks::Else),
            (b"", Speaks::Nothing),
        ] {
            assert_eq!(look(&answering(answer)), speaks, "{answer:?}");
        }
        assert_eq!(with_scheme("http://x:1", "https"), "https://x:1");
        assert!(
            scheme_is_https("HTTPS://x") && !scheme_is_https("http://x") && !scheme_is_https("h")
        );
    }
}
