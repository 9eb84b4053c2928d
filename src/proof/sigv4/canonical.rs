//! The canonical request, the string to sign and the signing key of AWS Signature Version 4, for
//! signing and verifying.

use std::borrow::Cow;

use http::HeaderMap;
use http::header::HOST;
use ring::hmac;
use zeroize::Zeroizing;

use super::{ALGORITHM, PathForm, SigError, incomplete, mismatch};
use crate::base::digest::{Hex, sha256};

/// Returns the path as the canonical request contains it. Refuses a path with `.`, `..` or empty
/// segments, or with characters that `form` does not allow.
pub(super) fn canonical_path(path: &str, form: PathForm) -> Result<Cow<'_, str>, SigError> {
    let is_plain = |segment: &str| segment.bytes().all(unreserved);
    let is_legal = |segment: &str| {
        !matches!(segment, "." | "..")
            && match form {
                PathForm::Own => is_plain(segment),
                PathForm::EncodedAgain => segment.bytes().all(|b| b.is_ascii_graphic()),
            }
    };
    let mut segments = path.split('/').skip(1);
    if !path.starts_with('/') || !segments.all(is_legal) || path.contains("//") {
        return Err(incomplete(match form {
            PathForm::Own => {
                "the path must begin with `/`, must not have empty, `.` or `..` segments, and may contain only \
                letters, digits, `-`, `.`, `_` and `~` between the slashes"
            }
            PathForm::EncodedAgain => {
                "the path must begin with `/`, must not have empty, `.` or `..` segments, and may contain only \
                visible ASCII characters"
            }
        }));
    }
    if path.split('/').all(is_plain) {
        return Ok(path.into());
    }
    let encoded: Vec<String> = path.split('/').map(encode).collect();
    Ok(encoded.join("/").into())
}

/// Returns the SHA-256 of the canonical request: "Create a canonical request". `path` must be
/// canonical already. `signed_headers` contains the names of the signed headers, separated by
/// semicolons.
pub(super) fn canonical_request(
    method: &str,
    path: &str,
    query: &[(String, String)],
    headers: &HeaderMap,
    host: &str,
    signed_headers: &str,
    payload_sha256_hex: &str,
) -> Result<[u8; 32], SigError> {
    let mut text = String::with_capacity(1024);
    for part in [method, "\n", path, "\n"] {
        text.push_str(part);
    }
    let mut pairs: Vec<(String, String)> = Vec::with_capacity(query.len());
    for (name, value) in query.iter().filter(|(name, _)| name != "X-Amz-Signature") {
        pairs.push((encode(name), encode(value)));
    }
    pairs.sort();
    for (i, (name, value)) in pairs.iter().enumerate() {
        for part in [if i == 0 { "" } else { "&" }, name, "=", value] {
            text.push_str(part);
        }
    }
    text.push('\n');
    for name in signed_headers.split(';') {
        text.push_str(name);
        text.push(':');
        if name == HOST.as_str() {
            text.push_str(host);
        } else {
            let mut values = headers.get_all(name).iter().peekable();
            if values.peek().is_none() {
                return Err(mismatch(format!(
                    "the signed header '{name}' is missing from the request"
                )));
            }
            for (i, value) in values.enumerate() {
                if i > 0 {
                    text.push(',');
                }
                let value = value
                    .to_str()
                    .map_err(|_| incomplete(format!("the header '{name}' is not ASCII text")))?;
                push_trimmed(&mut text, value);
            }
        }
        text.push('\n');
    }
    text.push('\n');
    text.push_str(signed_headers);
    text.push('\n');
    text.push_str(payload_sha256_hex);
    Ok(sha256(text.as_bytes()))
}

/// Appends the value of a header without surrounding white space, and with each run of spaces
/// replaced by one space.
pub(super) fn push_trimmed(text: &mut String, value: &str) {
    if !value.contains("  ") {
        text.push_str(value.trim());
        return;
    }
    for (i, word) in value.split(' ').filter(|w| !w.is_empty()).enumerate() {
        if i > 0 {
            text.push(' ');
        }
        text.push_str(word);
    }
}

/// Returns the text that the signature is an HMAC of: "Create a string to sign".
pub(super) fn string_to_sign(
    amz_date: &str,
    day: &str,
    region: &str,
    service: &str,
    canonical: &[u8; 32],
) -> String {
    let mut text = String::with_capacity(160);
    for part in [
        ALGORITHM,
        "\n",
        amz_date,
        "\n",
        day,
        "/",
        region,
        "/",
        service,
        "/aws4_request\n",
        &Hex::of(canonical),
    ] {
        text.push_str(part);
    }
    text
}

/// Derives the HMAC key for a day, region and service from a secret access key: "Derive a signing
/// key".
pub(super) fn signing_key(
    secret: &[u8],
    day: &str,
    region: &str,
    service: &str,
) -> Zeroizing<[u8; 32]> {
    let mut first = Zeroizing::new(Vec::with_capacity(4 + secret.len()));
    first.extend_from_slice(b"AWS4");
    first.extend_from_slice(secret);
    let mut key = hmac::Key::new(hmac::HMAC_SHA256, &first);
    let mut derived = Zeroizing::new([0; 32]);
    for part in [day, region, service, "aws4_request"] {
        derived.copy_from_slice(hmac::sign(&key, part.as_bytes()).as_ref());
        key = hmac::Key::new(hmac::HMAC_SHA256, &*derived);
    }
    derived
}

fn unreserved(b: u8) -> bool {
    b.is_ascii_alphanumeric() || b"-._~".contains(&b)
}

fn encode(text: &str) -> String {
    const SET: percent_encoding::AsciiSet = percent_encoding::NON_ALPHANUMERIC
        .remove(b'-')
        .remove(b'.')
        .remove(b'_')
        .remove(b'~');
    percent_encoding::utf8_percent_encode(text, &SET).to_string()
}
