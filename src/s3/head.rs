//! The head of a request as a proxy reports it, with the checks for ambiguity that apply to all
//! operations.

use super::refusal::{Code, S3Refusal};

/// The maximum number of headers of a request.
const MAX_HEADERS: usize = 128;
/// The maximum total length in bytes of the names and values of all headers.
const MAX_HEADER_BYTES: usize = 64 << 10;
/// The maximum total length in bytes of the path and the query. The query of a presigned URL
/// contains its session token.
const MAX_PATH_BYTES: usize = 32 << 10;

/// The head of a request, exactly as the client sent it.
#[derive(Clone, Copy)]
pub struct Head<'a> {
    pub method: &'a str,
    /// The path and the query as the client sent them, still percent-encoded.
    pub path: &'a str,
    /// The server that the client called: the value of `Host` or `:authority`.
    pub authority: &'a str,
    /// All other headers with lower-case names, in the order of the request.
    pub headers: &'a [(String, String)],
    /// The body. The broker needs it only for `POST ?delete`; `None` if the proxy did not send it.
    pub body: Option<&'a [u8]>,
    /// The length of the body in bytes; `None` if the proxy did not report it.
    pub size: Option<u64>,
}

/// Headers that are refused, because they could make a store or server act on another request than
/// the signed one: they override the method or the path, or are private headers of a store. A
/// trailing `-` stands for all headers with that prefix.
const PRIVATE: &[&str] = &[
    "rgwx-",
    "seaweed-",
    "x-account-",
    "x-auth-token",
    "x-bce-",
    "x-ceph-",
    "x-container-",
    "x-cos-",
    "x-dho-",
    "x-emc-",
    "x-garage-",
    "x-goog-",
    "x-http-method",
    "x-http-method-override",
    "x-method-override",
    "x-minio-",
    "x-object-",
    "x-obs-",
    "x-original-method",
    "x-original-uri",
    "x-original-url",
    "x-oss-",
    "x-rewrite-url",
    "x-rgw-",
    "x-rustfs-",
    "x-scal-",
    "x-seaweedfs-",
];

/// The `x-amz-` headers whose values may contain a comma. All other `x-amz-` headers must not contain a comma: proxies
/// join repeated headers with commas, and a store may use the first or the last value.
const LISTS: &[&str] = &[
    // Dates of HTTP have one.
    "x-amz-copy-source-if-modified-since",
    "x-amz-copy-source-if-unmodified-since",
    "x-amz-if-match-last-modified-time",
    "x-amz-grant-",
    "x-amz-meta-",
    "x-amz-object-attributes",
    "x-amz-optional-object-attributes",
    "x-amz-trailer",
    "x-amz-user-agent",
    "x-amz-website-redirect-location",
];

/// Other headers that stores act on, and that must therefore occur only once.
const SINGLE: &[&str] = &[
    "authorization",
    "connection",
    "content-encoding",
    "content-length",
    "content-md5",
    "content-type",
    "date",
    "expect",
    "host",
    "if-match",
    "if-modified-since",
    "if-none-match",
    "if-range",
    "if-unmodified-since",
    "range",
    "transfer-encoding",
];

impl<'a> Head<'a> {
    /// Returns the value of a header, or `None` if it is absent. `check` has refused
    /// repeated headers that matter.
    pub fn header(&self, name: &str) -> Option<&'a str> {
        let mut headers = self.headers.iter();
        headers
            .find(|(n, _)| n == name)
            .map(|(_, value)| value.as_str())
    }

    /// Splits the target into the path, and the query without its question mark.
    pub fn target(&self) -> (&'a str, &'a str) {
        self.path.split_once('?').unwrap_or((self.path, ""))
    }

    /// Refuses a head that is too long, or that servers could understand differently.
    ///
    /// # Errors
    /// [`S3Refusal`] that names the header or the part that is not accepted.
    pub(super) fn check(&self) -> Result<(), S3Refusal> {
        let bytes = |headers: &[(String, String)]| {
            let lengths = headers.iter().map(|(n, v)| n.len().saturating_add(v.len()));
            lengths.fold(0, usize::saturating_add)
        };
        if self.headers.len() > MAX_HEADERS || bytes(self.headers) > MAX_HEADER_BYTES {
            return Err(S3Refusal::new(
                Code::InvalidRequest,
                format!(
                    "The request has more than {MAX_HEADERS} headers, or more than {MAX_HEADER_BYTES} bytes of headers."
                ),
            ));
        }
        if self.path.len() > MAX_PATH_BYTES {
            return Err(S3Refusal::new(
                Code::InvalidUri,
                format!("The path and the query together have more than {MAX_PATH_BYTES} bytes."),
            ));
        }
        for (at, (name, value)) in self.headers.iter().enumerate() {
            let earlier = self.headers.get(..at).unwrap_or_default();
            check_header(name, value, earlier)?;
        }
        if self.header("content-length").is_some() && self.header("transfer-encoding").is_some() {
            return Err(invalid(
                "The request has both Content-Length and Transfer-Encoding.",
            ));
        }
        match self.header("host") {
            Some(host) if host != self.authority => Err(invalid(
                "The header 'host' differs from the host of the request (':authority' in HTTP/2).",
            )),
            _ => Ok(()),
        }
    }
}

fn check_header(name: &str, value: &str, earlier: &[(String, String)]) -> Result<(), S3Refusal> {
    // Some stores read `_` as `-`, so that `x_amz_acl` would be another spelling of `x-amz-acl`.
    let of_user = name.starts_with("x-amz-meta-");
    let legal = |b: u8| {
        b.is_ascii_lowercase()
            || b.is_ascii_digit()
            || b == b'-'
            || (of_user && matches!(b, b'_' | b'.'))
    };
    if name.is_empty() || !name.bytes().all(legal) {
        return Err(invalid(format!(
            "The header {name:?} has a character in its name that is not accepted. Names may have letters, digits and \
                hyphens, and after `x-amz-meta-` also `_` and `.`."
        )));
    }
    if value.chars().any(|c| c.is_control() && c != '\t') {
        return Err(invalid(format!(
            "The header '{name}' has a control character."
        )));
    }
    if PRIVATE.iter().any(|private| is_like(name, private)) {
        return Err(invalid(format!(
            "The header '{name}' is not accepted, since some object stores act on this header even if it is not signed."
        )));
    }
    let own = name.starts_with("x-amz-");
    let repeated = earlier.iter().any(|(n, _)| n == name);
    if repeated && (own || SINGLE.contains(&name)) {
        return Err(invalid(format!("The header '{name}' is repeated.")));
    }
    if own && value.contains(',') && !LISTS.iter().any(|list| is_like(name, list)) {
        return Err(invalid(format!(
            "The header '{name}' must not contain a comma, because a comma can also mean that the header was sent several times. If its value is URL-encoded, write `%2C`."
        )));
    }
    if name == "connection" {
        let harmless = |option: &str| {
            let option = option.trim();
            option.is_empty()
                || ["keep-alive", "close", "te"]
                    .iter()
                    .any(|known| option.eq_ignore_ascii_case(known))
        };
        if !value.split(',').all(harmless) {
            return Err(invalid(
                "The header 'connection' may list only `keep-alive`, `close` and `te`, since a proxy would remove \
                 other listed headers before they reach the object store.",
            ));
        }
    }
    Ok(())
}

/// Returns whether a header has the name `listed`, or a name that begins with `listed` if `listed` ends with `-`.
fn is_like(name: &str, listed: &str) -> bool {
    name == listed || (listed.ends_with('-') && name.starts_with(listed))
}

fn invalid(message: impl Into<String>) -> S3Refusal {
    S3Refusal::new(Code::InvalidRequest, message)
}
