//! Reads the header section of an HTTP request unambiguously.

use http::header::HOST;
use http::{HeaderMap, HeaderValue, Uri};

/// The name of a header, and of gRPC metadata, in an answer to a call that changed something. Its
/// value is the number of the change in the feed.
pub const CHANGE: &str = "x-brevet-change";

/// Why the host of a request could not be determined, as a clause for its sender.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct HostError(&'static str);

/// The host that the client meant to call. `Host` and `:authority` must not differ.
///
/// # Errors
/// [`HostError`] if the request names no host, two hosts, or one that is not ASCII text.
pub fn host<'a>(uri: &'a Uri, headers: &'a HeaderMap) -> Result<&'a str, HostError> {
    let mut hosts = headers.get_all(HOST).iter().map(|v| v.to_str());
    let header = hosts
        .next()
        .transpose()
        .map_err(|_| HostError("the header 'host' is not ASCII text"))?;
    if hosts.next().is_some() {
        return Err(HostError("duplicate 'host' header"));
    }
    match (uri.authority().map(http::uri::Authority::as_str), header) {
        (Some(authority), Some(header)) if authority != header => {
            Err(HostError("'host' and ':authority' must be the same"))
        }
        (Some(host), _) | (None, Some(host)) if !host.is_empty() => Ok(host),
        _ => Err(HostError("the header 'host' is missing")),
    }
}

/// A content type without its parameters.
pub fn media_type(value: &HeaderValue) -> &[u8] {
    value
        .as_bytes()
        .split(|b| *b == b';')
        .next()
        .unwrap_or_default()
        .trim_ascii()
}

/// Marks a response whose body may pause for as long as it likes. Its connection does not count as idle meanwhile.
#[derive(Debug, Clone, Copy)]
pub struct LongLived;
