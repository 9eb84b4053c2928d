//! The first check of each request of a workload. It refuses whatever a proxy, a web page or a confused client
//! could have sent, so that credentials are given only to programs that meant to ask this agent. Does no I/O.

use std::net::Ipv6Addr;

use http::header::{CONTENT_LENGTH, TRANSFER_ENCODING};
use http::{Method, Request, StatusCode};

use crate::base::host_names::HostNames;
use crate::base::http::host;

/// The refusal of a request, as an HTTP status and a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Refused {
    pub status: StatusCode,
    /// A sentence for the client that says which rule the request breaks.
    pub message: &'static str,
}

impl Refused {
    const fn new(status: StatusCode, message: &'static str) -> Self {
        Self { status, message }
    }
}

/// Checks the host, the path and the headers of a request, before its body is read.
///
/// # Errors
/// [`Refused`] with the answer for the client.
pub fn check<B>(request: &Request<B>, hosts: &HostNames) -> Result<(), Refused> {
    let headers = request.headers();
    let host = host(request.uri(), headers).map_err(|_| {
        Refused::new(
            StatusCode::BAD_REQUEST,
            "The request must name exactly one host (in the header Host), in ASCII characters.",
        )
    })?;
    if !hosts.contains(host) {
        let message = "The header Host names another host. Call this agent by its address, or add the name to `hosts` in its configuration.";
        return Err(Refused::new(StatusCode::FORBIDDEN, message));
    }
    if !is_spelled_plainly(host) {
        let message = "The host must be written in its usual form: an IPv4 address as four decimal numbers, and no dot at the end.";
        return Err(Refused::new(StatusCode::FORBIDDEN, message));
    }
    let (mut is_forwarded, mut is_of_a_page) = (false, false);
    for name in headers.keys() {
        match name.as_str() {
            "forwarded"
            | "via"
            | "cf-connecting-ip"
            | "client-ip"
            | "fastly-client-ip"
            | "forwarded-for"
            | "true-client-ip"
            | "x-client-ip"
            | "x-cluster-client-ip"
            | "x-original-url"
            | "x-real-ip"
            | "x-rewrite-url" => is_forwarded = true,
            // Browsers send Sec-Fetch-Site also where they send no Origin (Fetch Metadata Request Headers).
            // Programs do not: the `fetch` of Node.js sends only Sec-Fetch-Mode.
            "origin" | "sec-fetch-site" => is_of_a_page = true,
            name => {
                is_forwarded |= name.starts_with("x-forwarded") || name.starts_with("x-envoy-");
            }
        }
    }
    if is_forwarded {
        let message = "This request was forwarded by a proxy (it has a header such as X-Forwarded-For). Call this \
        agent without a proxy.";
        return Err(Refused::new(StatusCode::FORBIDDEN, message));
    }
    if is_of_a_page {
        let message = "This request comes from a web page (it has the header Origin or Sec-Fetch-Site). This agent \
        answers programs only.";
        return Err(Refused::new(StatusCode::FORBIDDEN, message));
    }
    if matches!(*request.method(), Method::TRACE | Method::CONNECT) {
        let message = "The methods TRACE and CONNECT are not allowed.";
        return Err(Refused::new(StatusCode::METHOD_NOT_ALLOWED, message));
    }
    let length = headers.get(CONTENT_LENGTH);
    if headers.contains_key(TRANSFER_ENCODING) || length.is_some_and(|length| length != "0") {
        let message = "A request must not have a body.";
        return Err(Refused::new(StatusCode::BAD_REQUEST, message));
    }
    if !is_plain(request.uri().path()) {
        let message =
            "The path must not contain `..`, `//`, `\\`, `;` or percent-encoded characters.";
        return Err(Refused::new(StatusCode::BAD_REQUEST, message));
    }
    Ok(())
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

/// Whether a path can be understood in only one way: it has no empty part, no dot segment and no escape.
fn is_plain(path: &str) -> bool {
    let Some(path) = path.strip_prefix('/') else {
        return false;
    };
    // The length of the segment, and how many dots are in it.
    let (mut length, mut dots) = (0, 0);
    let is_relative = |length, dots| dots == length && (1..=2).contains(&length);
    for byte in path.bytes() {
        match byte {
            b'/' if length == 0 || is_relative(length, dots) => return false,
            b'/' => (length, dots) = (0, 0),
            b'%' | b'\\' | b';' => return false,
            _ if !byte.is_ascii_graphic() => return false,
            _ => {
                length += 1;
                dots += u32::from(byte == b'.');
            }
        }
    }
    !is_relative(length, dots)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::host_names::HostName;

    fn status(build: impl FnOnce(http::request::Builder) -> http::request::Builder) -> u16 {
        let hosts =
            HostNames::new(["169.254.169.254", "localhost"].map(|n| HostName::parse(n).unwrap()));
        let request = Request::builder().uri("/latest/meta-data/");
        let request = build(request).body(()).unwrap();
        match check(&request, &hosts) {
            Ok(()) => 200,
            Err(refused) => refused.status.as_u16(),
        }
    }

    const HOST: (&str, &str) = ("host", "169.254.169.254");

    #[test]
    fn ag_02_only_the_agents_own_names_are_answered() {
        for (host, expected) in [
            ("169.254.169.254", 200),
            ("169.254.169.254:80", 200),
            ("localhost:8080", 200),
            ("rebound.example.com", 403),
            ("169.254.169.254.example.com", 403),
            ("", 400),
            // Spellings by which a URL gets past a filter.
            ("2852039166", 403),
            ("0xa9fea9fe", 403),
            ("0251.0376.0251.0376", 403),
            ("169.254.43518", 403),
            ("[::ffff:169.254.169.254]", 403),
            ("[::ffff:a9fe:a9fe]:80", 403),
            ("[0:0:0:0:0:ffff:a9fe:a9fe]", 403),
            ("[::169.254.169.254]", 403),
            ("169.254.169.254.", 403),
            ("localhost.:8080", 403),
            ("169.254.169.254@evil.example", 403),
            ("evil.example#@169.254.169.254", 403),
            ("169.254.169.254.nip.io", 403),
        ] {
            assert_eq!(status(|r| r.header("host", host)), expected, "{host}");
        }
        assert_eq!(status(|r| r), 400);
        assert_eq!(
            status(|r| r.header(HOST.0, HOST.1).header("host", "localhost")),
            400
        );
        let foreign =
            |r: http::request::Builder| r.uri("http://evil.example/latest/").header(HOST.0, HOST.1);
        assert_eq!(status(foreign), 400);
    }

    #[test]
    fn ag_01_what_was_forwarded_is_refused() {
        for name in [
            "X-Forwarded-For",
            "x-forwarded-host",
            "Forwarded",
            "Via",
            "X-Real-IP",
            "True-Client-IP",
            "X-Envoy-External-Address",
            "Origin",
            "Sec-Fetch-Site",
        ] {
            let refused = status(|r| r.header(HOST.0, HOST.1).header(name, "x"));
            assert_eq!(refused, 403, "{name}");
        }
    }

    #[test]
    fn ag_02_a_path_has_one_reading() {
        for path in [
            "/latest/../latest/meta-data/",
            "/latest/./meta-data/",
            "//latest/meta-data/",
            "/latest//meta-data/",
            "/latest/%2e%2e/meta-data/",
            "/latest/meta-data/%00",
            "/latest/meta-data;x/",
            "/latest\\meta-data/",
            "/..",
        ] {
            let parsed = Request::builder().uri(path).body(());
            if parsed.is_ok() {
                assert_eq!(
                    status(|r| r.uri(path).header(HOST.0, HOST.1)),
                    400,
                    "{path}"
                );
            }
        }
        for method in ["TRACE", "CONNECT"] {
            assert_eq!(
                status(|r| r.method(method).header(HOST.0, HOST.1)),
                405,
                "{method}"
            );
        }
        assert_eq!(
            status(|r| r.header(HOST.0, HOST.1).header("content-length", "1")),
            400
        );
        assert_eq!(
            status(|r| r.header(HOST.0, HOST.1).header("content-length", "0")),
            200
        );
        assert_eq!(
            status(|r| r
                .header(HOST.0, HOST.1)
                .header("transfer-encoding", "chunked")),
            400
        );
    }
}
