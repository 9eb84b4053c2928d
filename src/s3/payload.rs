//! The declaration of a request's payload in its head, in the forms that a proxy can pass on
//! without the broker reading the payload.

use super::head::Head;
use super::refusal::{Code, S3Refusal};
use super::store::StoreRules;
use crate::proof::sigv4::s3::{UNSIGNED_PAYLOAD, UNSIGNED_TRAILER};

/// The meaning of `x-amz-content-sha256` in a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Payload<'a> {
    /// The payload's SHA-256 in lower-case hexadecimal digits. The store compares it with the
    /// payload.
    Hashed(&'a str),
    /// `UNSIGNED-PAYLOAD`: the signature does not cover the payload.
    Unsigned,
    /// `STREAMING-UNSIGNED-PAYLOAD-TRAILER`: the signature does not cover the payload, which comes
    /// in chunks with a checksum at the end. The store compares the checksum.
    UnsignedTrailer,
}

impl<'a> Payload<'a> {
    /// Reads the value of `x-amz-content-sha256`, and checks that the other headers agree with it.
    ///
    /// # Errors
    /// [`S3Refusal`] if the value is unknown, the store does not support it, or the headers
    /// contradict it.
    pub fn read(declared: &'a str, head: &Head<'_>, rules: &StoreRules) -> Result<Self, S3Refusal> {
        let payload = match declared {
            UNSIGNED_PAYLOAD => Self::Unsigned,
            UNSIGNED_TRAILER if rules.takes_trailers => Self::UnsignedTrailer,
            UNSIGNED_TRAILER => {
                return Err(S3Refusal::new(
                    Code::NotImplemented,
                    "The store does not take a checksum after the payload. Set `request_checksum_calculation = when_required` in the client's profile, or set `takes_trailers` of [[s3.stores]] if the store takes such checksums.",
                ));
            }
            declared if declared.starts_with("STREAMING-") => {
                return Err(S3Refusal::new(
                    Code::NotImplemented,
                    "Chunks that are signed one by one cannot be passed on, since only the client's key can sign them for the store. Use HTTPS, or tell the client not to sign payloads (`payload_signing_enabled = false`).",
                ));
            }
            hash if is_hash(hash) => Self::Hashed(hash),
            _ => {
                return Err(S3Refusal::new(
                    Code::InvalidArgument,
                    "x-amz-content-sha256 must be UNSIGNED-PAYLOAD, STREAMING-UNSIGNED-PAYLOAD-TRAILER, or a valid sha256 value.",
                ));
            }
        };
        let encoding = head.header("content-encoding").unwrap_or_default();
        let chunked = encoding
            .split(',')
            .any(|e| e.trim().eq_ignore_ascii_case("aws-chunked"));
        let announced = chunked
            || head.header("x-amz-trailer").is_some()
            || head.header("x-amz-decoded-content-length").is_some();
        if announced != (payload == Self::UnsignedTrailer) {
            return Err(S3Refusal::new(
                Code::InvalidRequest,
                "x-amz-content-sha256 must be STREAMING-UNSIGNED-PAYLOAD-TRAILER if the request has \
                 `aws-chunked`, x-amz-trailer or x-amz-decoded-content-length, and only then.",
            ));
        }
        Ok(payload)
    }

    /// Returns the value of `x-amz-content-sha256` for this payload.
    pub fn declared(self) -> &'a str {
        match self {
            Self::Hashed(hash) => hash,
            Self::Unsigned => UNSIGNED_PAYLOAD,
            Self::UnsignedTrailer => UNSIGNED_TRAILER,
        }
    }
}

fn is_hash(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
}
