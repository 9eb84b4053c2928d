//! The first check of each request of a workload. It refuses whatever a proxy, a web page or a confused client
//! could have sent, so that credentials are given only to programs that meant to ask this agent. Does no I/O.

use http::{Method, Request, StatusCode};

use super::hosts::{Hosts, OtherHost};
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
pub fn check<B>(request: &Request<B>, hosts: &Hosts) -> Result<(), Refused> {
    // One pass over all headers costs less than a look-up of each.
    let (mut is_forwarded, mut is_of_a_page, mut has_body) = (false, false, false);
    let (mut named, mut is_usual) = (0, false);
    for (name, value) in request.headers() {
        match name.as_str() {
            "host" => {
                named += 1;
                is_usual = hosts.is_usual(value.as_bytes());
            }
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
            "content-length" => has_body |= value != "0",
            "transfer-encoding" => has_body = true,
            name => {
                is_forwarded |= name.starts_with("x-forwarded") || name.starts_with("x-envoy-");
            }
        }
    }
    if named != 1 || !is_usual || request.uri().authority().is_some() {
        check_host(request, hosts)?;
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
    if has_body {
        let message = "A request must not have a body.";
        return Err(Refused::new(StatusCode::BAD_REQUEST, message));
    }
    if !is_plain(request.uri().path()) {
        let message = "The path must begin with `/`, have only printable ASCII characters, and have no `.` or `..` as a part \
             and no `//`, `\\`, `;` or `%`.";
        return Err(Refused::new(StatusCode::BAD_REQUEST, message));
    }
    Ok(())
}

/// Checks the host that a request names, in any spelling.
fn check_host<B>(request: &Request<B>, hosts: &Hosts) -> Result<(), Refused> {
    let host = host(request.uri(), request.headers()).map_err(|_| {
        Refused::new(
            StatusCode::BAD_REQUEST,
            "The request must name exactly one host (in the header Host), in ASCII characters.",
        )
    })?;
    hosts.check(host).map_err(|other| {
        let message = match other {
            OtherHost::Foreign => {
                "The request names another host or another port in the header Host. Use the address and port at \
                 which the agent listens (`localhost` at a Unix socket), or add the name to `hosts` of the \
                 listener's section, if the section has this key."
            }
            OtherHost::Misspelled => {
                "The host must be written in its usual form: an IPv4 address as four decimal numbers and not as an \
                 IPv6 address, and no dot at the end."
            }
        };
        Refused::new(StatusCode::FORBIDDEN, message)
    })
}

/// Whether a path can be understood in only one way: it has no empty part before its end, no dot segment, no `\` and
/// `;`, and no escape.
fn is_plain(path: &str) -> bool {
    let bytes = path.as_bytes();
    // Neither of the two has branches, so that many bytes are looked at together.
    let is_odd = |b: u8| !b.is_ascii_graphic() | (b == b'%') | (b == b'\\') | (b == b';');
    let has_odd = bytes.iter().fold(false, |found, b| found | is_odd(*b));
    let next = bytes.get(1..).unwrap_or_default();
    let is_unusual = |a: u8, b: u8| (a == b'/') & ((b == b'/') | (b == b'.'));
    let has_unusual = bytes
        .iter()
        .zip(next)
        .fold(false, |found, (a, b)| found | is_unusual(*a, *b));
    if has_odd || !path.starts_with('/') {
        return false;
    }
    if !has_unusual {
        return true;
    }
    let mut parts = path.split('/').skip(1).peekable();
    while let Some(part) = parts.next() {
        // Only the last part may be empty: after a slash at the end.
        let is_empty = part.is_empty() && parts.peek().is_some();
        if is_empty || matches!(part, "." | "..") {
            return false;
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::host_names::HostName;

    fn status(build: impl FnOnce(http::request::Builder) -> http::request::Builder) -> u16 {
        let own = [("169.254.169.254", 80), ("localhost", 8080)];
        let hosts = own.map(|(name, port)| (HostName::parse(name).unwrap(), Some(port)));
        let hosts = Hosts::new(hosts);
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
            // A name of the agent with the port of somebody else.
            ("169.254.169.254:8080", 403),
            ("localhost", 403),
            ("localhost:80", 403),
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
            status(|r| r.header(HOST.0, HOST.1).header("host", "localhost:8080")),
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
    fn ag_02_a_path_with_dots_or_slashes_is_looked_at_part_by_part() {
        for (path, expected) in [
            ("/", true),
            ("/latest/", true),
            ("/latest/meta-data/iam/security-credentials/App", true),
            ("/.well-known/x", true),
            ("/a/.b", true),
            ("/a/...", true),
            ("/a/..b/", true),
            ("/a./b..", true),
            ("", false),
            ("*", false),
            ("latest", false),
            ("//", false),
            ("/a//", false),
            ("/a//b", false),
            ("/.", false),
            ("/./", false),
            ("/..", false),
            ("/a/..", false),
            ("/a/../b", false),
            ("/a/.b/./c", false),
            ("/a%2fb", false),
            ("/a\\b", false),
            ("/a;b", false),
            ("/a b", false),
            ("/caf\u{e9}", false),
        ] {
            assert_eq!(is_plain(path), expected, "{path}");
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
