//! Signature Version 4 in the form of Amazon S3: the path is encoded once and never normalised, and
//! the signature covers the hash of the payload that the request declares. This module verifies and
//! makes such signatures.
//!
//! Amazon S3 API Reference, "Authenticating Requests (AWS Signature Version 4)".

use std::borrow::Cow;
use std::time::Duration;

use super::canonical::{push_trimmed, string_to_sign};
use super::{ALGORITHM, SigningSecret};
use crate::base::clock::Timestamp;
use crate::base::digest::{hex, sha256};

/// The maximum validity of a presigned URL.
pub const MAX_EXPIRES: Duration = Duration::from_secs(7 * 24 * 3600);
/// The value of `x-amz-content-sha256` for a payload that the signature does not cover.
pub const UNSIGNED_PAYLOAD: &str = "UNSIGNED-PAYLOAD";
/// The value of `x-amz-content-sha256` for a payload in unsigned chunks that a checksum follows.
pub const UNSIGNED_TRAILER: &str = "STREAMING-UNSIGNED-PAYLOAD-TRAILER";
/// The name of Amazon S3 in the scope of a signature.
pub const SERVICE: &str = "s3";

/// The query parameters of a presigned request. Their spelling is case-sensitive.
pub const SIGNATURE_PARAMETERS: [&str; 8] = [
    "X-Amz-Algorithm",
    "X-Amz-Content-Sha256",
    "X-Amz-Credential",
    "X-Amz-Date",
    "X-Amz-Expires",
    "X-Amz-Security-Token",
    "X-Amz-Signature",
    "X-Amz-SignedHeaders",
];

/// The parts of a request's head that are signed.
#[derive(Debug, Clone, Copy)]
pub struct S3Request<'a> {
    pub method: &'a str,
    /// The complete path, percent-decoded once.
    pub path: &'a str,
    /// The query parameters with their decoded values, in the order of the request. Their names
    /// contain only characters that need no encoding.
    pub query: &'a [(&'a str, Cow<'a, str>)],
    /// All headers with lower-case names, in the order of the request.
    pub headers: &'a [(String, String)],
    /// The server that the client called: the value of `Host` or `:authority`.
    pub host: &'a str,
}

impl S3Request<'_> {
    /// Returns the SHA-256 of the canonical request without the query parameters for which
    /// `leave_out` returns `true`. `headers` contains the signed headers as lines of the canonical
    /// request, and `signed` their names.
    pub(super) fn digest(
        &self,
        leave_out: impl Fn(&str) -> bool,
        headers: &str,
        signed: &str,
        payload: &str,
    ) -> [u8; 32] {
        let mut text = String::with_capacity(256 + self.path.len() + headers.len());
        text.push_str(self.method);
        text.push('\n');
        encode(&mut text, self.path, true);
        text.push('\n');
        let mut pairs = Vec::with_capacity(self.query.len());
        for (name, value) in self.query.iter().filter(|(name, _)| !leave_out(name)) {
            let mut encoded = String::with_capacity(value.len() + 8);
            encode(&mut encoded, value, false);
            pairs.push((*name, encoded));
        }
        pairs.sort();
        for (i, (name, value)) in pairs.iter().enumerate() {
            for part in [if i == 0 { "" } else { "&" }, name, "=", value] {
                text.push_str(part);
            }
        }
        for part in ["\n", headers, "\n", signed, "\n", payload] {
            text.push_str(part);
        }
        sha256(text.as_bytes())
    }

    /// Appends a header as a line of the canonical request, with several values joined by commas. Returns `None` if the
    /// header is absent; the header's name and a colon were then appended all the same, so `lines` must be discarded.
    pub(super) fn push_header(&self, lines: &mut String, name: &str) -> Option<()> {
        lines.push_str(name);
        lines.push(':');
        if name == "host" {
            lines.push_str(self.host);
        } else {
            let mut values = self.headers.iter().filter(|(n, _)| n == name);
            push_trimmed(lines, &values.next()?.1);
            for (_, value) in values {
                lines.push(',');
                push_trimmed(lines, value);
            }
        }
        lines.push('\n');
        Some(())
    }
}

/// Signs a request with the object store's own access key, and returns the value of the
/// `Authorization` header. `headers` are the headers to sign, in ascending order of their
/// lower-case names.
pub fn authorization(
    (access_key_id, secret): (&str, &SigningSecret),
    region: &str,
    now: Timestamp,
    request: &S3Request<'_>,
    leave_out: impl Fn(&str) -> bool,
    headers: &[(&str, &str)],
    payload: &str,
) -> String {
    let (mut lines, mut signed) = (String::with_capacity(256), String::with_capacity(64));
    for (name, value) in headers {
        lines.push_str(name);
        lines.push(':');
        push_trimmed(&mut lines, value);
        lines.push('\n');
        if !signed.is_empty() {
            signed.push(';');
        }
        signed.push_str(name);
    }
    let canonical = request.digest(leave_out, &lines, &signed, payload);
    let date = now.to_amz();
    let day = date.get(..8).unwrap_or_default();
    let text = string_to_sign(&date, day, region, SERVICE, &canonical);
    let signature = hex(secret.sign((day, region, SERVICE), &text).as_ref());
    format!(
        "{ALGORITHM} Credential={access_key_id}/{day}/{region}/{SERVICE}/aws4_request, SignedHeaders={signed}, Signature={signature}"
    )
}

/// Appends a text with the encoding of canonical requests: every character except the unreserved
/// ones becomes `%` and two upper-case hexadecimal digits. Slashes stay if `keeps_slashes` is set.
fn encode(out: &mut String, text: &str, keeps_slashes: bool) {
    const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
    let digit = |n: u8| DIGITS.get(usize::from(n)).map_or('0', |d| char::from(*d));
    for byte in text.bytes() {
        let plain = byte.is_ascii_alphanumeric()
            || matches!(byte, b'-' | b'.' | b'_' | b'~')
            || (keeps_slashes && byte == b'/');
        if plain {
            out.push(char::from(byte));
        } else {
            out.push('%');
            out.push(digit(byte >> 4));
            out.push(digit(byte & 15));
        }
    }
}

#[cfg(test)]
mod tests;
