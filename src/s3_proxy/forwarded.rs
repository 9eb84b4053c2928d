//! Reads the head of a client's request from the headers in which a proxy describes it: nginx (`auth_request`), Traefik
//! (`forwardAuth`) or Caddy (`forward_auth`).
//!
//! nginx is configured to write `X-Original-…`; Traefik and Caddy write `X-Forwarded-…` by themselves. A proxy replaces
//! the headers that it writes, and passes all other headers on as its client sent them. Therefore the broker refuses a
//! question that has headers of both families, or one of them twice. Otherwise a client could choose which request the
//! broker decides on.

use std::net::IpAddr;

use http::HeaderMap;

use super::gate::SECRET_HEADER;

/// The head of a client's request, as a proxy reports it.
#[derive(Debug, PartialEq, Eq)]
pub struct Forwarded {
    pub method: String,
    /// The path with the query, as the client sent it.
    pub uri: String,
    pub host: String,
    /// The client's headers without those that the proxy added; names in lower case.
    pub headers: Vec<(String, String)>,
    /// The length of the body in bytes; `None` if the proxy does not report it.
    pub size: Option<u64>,
    pub client_ip: IpAddr,
    pub is_secure: bool,
    pub family: Family,
    /// Whether the proxy sends the request to the store under the host name in the broker's answer. nginx always does;
    /// other proxies declare it in the header `X-Brevet-Takes`.
    pub takes_host: bool,
}

/// The family of headers in which a proxy describes a request. It tells which proxy is asking, and so which answers
/// that proxy can use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Family {
    /// `X-Original-…`: nginx. It can send another URI and host to the store, but does not pass the body of a refusal on
    /// to the client.
    Original,
    /// `X-Forwarded-…`: Traefik and Caddy. They pass refusals on to the client with their status and body.
    Forwarded,
}

const ORIGINAL: [&str; 3] = ["x-original-method", "x-original-uri", "x-original-host"];
const FORWARDED: [&str; 3] = ["x-forwarded-method", "x-forwarded-uri", "x-forwarded-host"];
/// The header with the length of the body. A proxy cannot report it in `Content-Length`, because its question has no
/// body.
const LENGTH: &str = "x-original-content-length";
/// The header in which a proxy lists what it copies from the answer besides the signature: `host`, or nothing.
const TAKES: &str = "x-brevet-takes";
const CLIENT: &str = "x-forwarded-for";
const SCHEME: &str = "x-forwarded-proto";

/// Headers of the question that did not come from the client: they concern the connection between the proxy and the
/// broker, or the proxy wrote them.
const NOT_THE_CLIENTS: [&str; 15] = [
    "host",
    "connection",
    "keep-alive",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "content-length",
    CLIENT,
    SCHEME,
    LENGTH,
    TAKES,
    "x-forwarded-server",
    "x-real-ip",
];

/// Reads the head of a client's request.
///
/// # Errors
/// A sentence that names the header of the question that is missing, repeated or not accepted.
pub fn read(headers: &HeaderMap) -> Result<Forwarded, String> {
    let has = |names: [&str; 3]| names.iter().any(|name| headers.contains_key(*name));
    let (family, [method, uri, host]) = match (has(ORIGINAL), has(FORWARDED)) {
        (true, false) => (Family::Original, ORIGINAL),
        (false, true) => (Family::Forwarded, FORWARDED),
        (true, true) => {
            return Err("The proxy must send the request either in X-Original-Method, X-Original-Uri and X-Original-Host, or in X-Forwarded-Method, X-Forwarded-Uri and X-Forwarded-Host, and remove the other three from its client's request.".to_owned());
        }
        (false, false) => {
            return Err("The proxy must send the request in X-Original-Method, X-Original-Uri and X-Original-Host, or in X-Forwarded-Method, X-Forwarded-Uri and X-Forwarded-Host.".to_owned());
        }
    };
    let client = only(headers, CLIENT)?;
    // Each proxy appends the address that called it, so the last one is the proxy's own word.
    let client = client.rsplit(',').next().unwrap_or_default().trim();
    let client_ip = client
        .parse::<IpAddr>()
        .map_err(|_| format!("The last item of {CLIENT} must be the client's IP address."))?;
    let is_secure = match only(headers, SCHEME)? {
        "https" => true,
        "http" => false,
        _ => return Err(format!("{SCHEME} must be `http` or `https`.")),
    };
    let size = match headers.get(LENGTH).map(|_| only(headers, LENGTH)) {
        Some(text) => Some(text?).filter(|text| !text.is_empty()),
        None => None,
    };
    let size = size.map(|text| {
        let digits = text.bytes().all(|b| b.is_ascii_digit());
        let size = text.parse::<u64>().ok().filter(|_| digits);
        size.ok_or_else(|| format!("{LENGTH} must be a number of bytes."))
    });
    let size = size.transpose()?;
    let says_host = headers.get(TAKES).is_some_and(|value| value == "host");
    let mut of_client = clients(headers)?;
    if let Some(size) = size {
        of_client.push(("content-length".to_owned(), size.to_string()));
    }
    Ok(Forwarded {
        method: only(headers, method)?.to_owned(),
        uri: only(headers, uri)?.to_owned(),
        host: only(headers, host)?.to_owned(),
        headers: of_client,
        size,
        client_ip: client_ip.to_canonical(),
        is_secure,
        family,
        takes_host: says_host || family == Family::Original,
    })
}

/// The value of a header that must occur exactly once and must be text.
fn only<'a>(headers: &'a HeaderMap, name: &str) -> Result<&'a str, String> {
    let mut values = headers.get_all(name).iter();
    match (values.next(), values.next()) {
        (Some(value), None) => {
            std::str::from_utf8(value.as_bytes()).map_err(|_| format!("{name} must be UTF-8."))
        }
        (None, _) => Err(format!("The proxy must send {name}.")),
        (Some(_), Some(_)) => Err(format!(
            "{name} occurs twice: the proxy must replace the header that its client sent."
        )),
    }
}

/// The headers that came from the client. A header that occurs several times has as many entries.
fn clients(headers: &HeaderMap) -> Result<Vec<(String, String)>, String> {
    let of_proxy = |name: &str| {
        NOT_THE_CLIENTS.contains(&name)
            || ORIGINAL.contains(&name)
            || FORWARDED.contains(&name)
            || name == SECRET_HEADER.as_str()
    };
    let theirs = headers.iter().filter(|(name, _)| !of_proxy(name.as_str()));
    theirs
        .map(|(name, value)| {
            let text = std::str::from_utf8(value.as_bytes())
                .map_err(|_| format!("The header {name} must be UTF-8."))?;
            Ok((name.as_str().to_owned(), text.to_owned()))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use http::{HeaderName, HeaderValue};

    use super::*;

    fn headers(list: &[(&str, &str)]) -> HeaderMap {
        let pairs = list.iter().map(|(name, value)| {
            let name = HeaderName::from_bytes(name.as_bytes()).unwrap();
            (name, HeaderValue::from_bytes(value.as_bytes()).unwrap())
        });
        let mut all = HeaderMap::new();
        for (name, value) in pairs {
            all.append(name, value);
        }
        all
    }

    const NGINX: [(&str, &str); 9] = [
        ("host", "brevet:7482"),
        ("x-original-method", "PUT"),
        ("x-original-uri", "/data/a%20b?x=%2F"),
        ("x-original-host", "s3.example.com:8080"),
        ("x-original-content-length", "12"),
        ("x-forwarded-for", "198.51.100.7, 192.0.2.9"),
        ("x-forwarded-proto", "https"),
        ("authorization", "AWS4-HMAC-SHA256 …"),
        ("x-amz-meta-a", "é"),
    ];

    #[test]
    fn a_head_is_read_as_the_client_sent_it() {
        let read = read(&headers(&NGINX)).unwrap();
        assert_eq!(
            (read.method.as_str(), read.uri.as_str(), read.host.as_str()),
            ("PUT", "/data/a%20b?x=%2F", "s3.example.com:8080")
        );
        assert_eq!(read.client_ip.to_string(), "192.0.2.9");
        assert!(read.is_secure && read.family == Family::Original && read.size == Some(12));
        let names: Vec<&str> = read.headers.iter().map(|(name, _)| &**name).collect();
        assert_eq!(names, ["authorization", "x-amz-meta-a", "content-length"]);
    }

    #[test]
    fn az_08_a_client_does_not_say_which_request_is_judged() {
        let mut traefik = NGINX.map(|(name, value)| match name.strip_prefix("x-original-") {
            Some(rest @ ("method" | "uri" | "host")) => (format!("x-forwarded-{rest}"), value),
            _ => (name.to_owned(), value),
        });
        let list = |all: &[(String, &'static str)]| -> Vec<(String, String)> {
            let pairs = all.iter().map(|(n, v)| (n.clone(), (*v).to_owned()));
            pairs.collect()
        };
        let read = |all: &[(String, String)]| {
            let pairs: Vec<(&str, &str)> = all.iter().map(|(n, v)| (&**n, &**v)).collect();
            super::read(&headers(&pairs))
        };
        assert_eq!(read(&list(&traefik)).unwrap().family, Family::Forwarded);
        // The client adds names of the other family, or the proxy passes the client's on.
        for extra in [
            "x-original-uri",
            "x-original-host",
            "x-forwarded-uri",
            "x-forwarded-for",
        ] {
            let mut all = list(&traefik);
            all.push((extra.to_owned(), "/data/public".to_owned()));
            assert!(read(&all).is_err(), "{extra}");
        }
        for missing in [
            "x-forwarded-method",
            "x-forwarded-uri",
            "x-forwarded-host",
            "x-forwarded-for",
            "x-forwarded-proto",
        ] {
            let mut all = list(&traefik);
            all.retain(|(name, _)| name != missing);
            assert!(read(&all).unwrap_err().contains(missing), "{missing}");
        }
        traefik[5].1 = "unknown";
        assert!(read(&list(&traefik)).unwrap_err().contains("IP address"));
        assert!(
            read(&[])
                .unwrap_err()
                .contains("The proxy must send the request")
        );
    }
}
