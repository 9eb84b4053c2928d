//! Determines the operation, bucket and object that a head asks for. Refuses every ambiguous
//! request: one with an unknown parameter, one that fits two operations, or one with a name that
//! stores could read differently.

use std::borrow::Cow;

use super::canonical::{Place, Undecodable, decode};
use super::copy_source::CopySource;
use super::head::Head;
use super::key::{ObjectKey, check_bucket, is_id};
use super::operations::{Level, Operation};
use super::refusal::{Code, S3Refusal};
use super::store::{StoreRules, Style};
use crate::proof::sigv4::is_signers_parameter;
use crate::proof::sigv4::s3::SIGNATURE_PARAMETERS;

/// The HTTP methods of Amazon S3's operations. OPTIONS is handled separately, for CORS.
const METHODS: [&str; 5] = ["DELETE", "GET", "HEAD", "POST", "PUT"];

/// Headers that SDKs move into the query of a presigned URL. They do not influence what is allowed.
const MOVED_HEADERS: [&str; 7] = [
    "x-amz-checksum-crc32",
    "x-amz-checksum-crc32c",
    "x-amz-checksum-crc64nvme",
    "x-amz-checksum-mode",
    "x-amz-checksum-sha1",
    "x-amz-checksum-sha256",
    "x-amz-sdk-checksum-algorithm",
];

/// The query parameters of Signature Version 2, which is refused.
const OLD_SIGNATURE: [&str; 3] = ["AWSAccessKeyId", "Expires", "Signature"];

/// The operation that a head asks for, with its bucket, object and parameters.
#[derive(Debug)]
pub struct Routed<'a> {
    pub operation: &'static Operation,
    /// The bucket; `None` if the operation is about the store itself.
    pub bucket: Option<&'a str>,
    /// The object; `None` if the operation is about a bucket or the store.
    pub key: Option<ObjectKey<'a>>,
    /// The version of the object; `None` if the request names none.
    pub version: Option<Cow<'a, str>>,
    /// The object to copy; `None` if the operation does not copy one.
    pub source: Option<CopySource<'a>>,
    /// The complete path, percent-decoded once.
    pub path: Cow<'a, str>,
    /// The query parameters with their decoded values, in the order of the request.
    pub query: Vec<(&'a str, Cow<'a, str>)>,
    /// Whether the host, and not the path, contains the bucket's name.
    pub in_host: bool,
}

impl Routed<'_> {
    /// Returns the decoded value of a query parameter; `None` if it is absent.
    pub fn parameter(&self, name: &str) -> Option<&str> {
        let mut query = self.query.iter();
        query.find(|(n, _)| *n == name).map(|(_, value)| &**value)
    }
}

/// Determines what a head asks for, by the rules of the store that it is for.
///
/// # Errors
/// [`S3Refusal`] if the head is ambiguous, has a value that is not valid, is for another host, or asks for an operation
/// that is not known.
pub fn route<'a>(head: &Head<'a>, rules: &StoreRules) -> Result<Routed<'a>, S3Refusal> {
    if !METHODS.contains(&head.method) {
        return Err(S3Refusal::new(
            Code::MethodNotAllowed,
            "The specified method is not allowed against this resource.",
        ));
    }
    head.check()?;
    let (path, query) = head.target();
    let in_host = bucket_of_host(head.authority, rules)?;
    let below = path
        .strip_prefix('/')
        .ok_or_else(|| S3Refusal::new(Code::InvalidUri, "The path must begin with a slash."))?;
    let (bucket, key) = match in_host {
        Some(bucket) => (Some(bucket), below),
        None if below.is_empty() => (None, ""),
        None => {
            let (bucket, key) = below.split_once('/').unwrap_or((below, ""));
            (Some(bucket), key)
        }
    };
    if let Some(bucket) = bucket {
        check_bucket(bucket)?;
    }
    let key = match key {
        "" => None,
        key => {
            let key = decode(key, Place::Path).map_err(|error| undecodable("path", error))?;
            Some(ObjectKey::new(key, rules)?)
        }
    };
    let level = match (bucket, &key) {
        (None, _) => Level::Service,
        (Some(_), None) => Level::Bucket,
        (Some(_), Some(_)) => Level::Object,
    };
    let query = parameters(query)?;
    let copied = head.header("x-amz-copy-source");
    let operation = operation(head.method, level, &query, copied.is_some())?;
    let source = copied
        .map(|source| CopySource::parse(source, rules))
        .transpose()?;
    let routed = Routed {
        operation,
        bucket,
        key,
        version: None,
        source,
        path: decode(path, Place::Path).map_err(|error| undecodable("path", error))?,
        query,
        in_host: in_host.is_some(),
    };
    check_values(&routed, rules)?;
    let mut query = routed.query.iter();
    let version = query.find(|(name, _)| *name == "versionId");
    Ok(Routed {
        version: version.map(|(_, value)| value.clone()),
        ..routed
    })
}

/// Returns the decoded path of a head and its query parameters with their decoded values, without determining the
/// operation.
///
/// # Errors
/// [`S3Refusal`] if the head is too long, or if servers could understand it differently.
pub fn decoded<'a>(head: &Head<'a>) -> Result<Decoded<'a>, S3Refusal> {
    head.check()?;
    let (path, query) = head.target();
    let path = decode(path, Place::Path).map_err(|error| undecodable("path", error))?;
    Ok((path, parameters(query)?))
}

/// A decoded path, and the query parameters with their decoded values.
pub type Decoded<'a> = (Cow<'a, str>, Vec<(&'a str, Cow<'a, str>)>);

/// Returns the bucket in the host name; `None` if the host is the store's own name.
fn bucket_of_host<'a>(
    authority: &'a str,
    rules: &StoreRules,
) -> Result<Option<&'a str>, S3Refusal> {
    let is_port = |port: &str| !port.is_empty() && port.bytes().all(|b| b.is_ascii_digit());
    let host = match authority.rsplit_once(':') {
        Some((host, port)) if is_port(port) => host,
        _ => authority,
    };
    if rules.names.iter().any(|n| n.eq_ignore_ascii_case(host)) {
        return Ok(None);
    }
    let mut buckets = rules
        .names
        .iter()
        .filter(|_| rules.style == Style::VirtualHost)
        .filter_map(|name| {
            let at = host.len().checked_sub(name.len())?;
            let (bucket, own) = host.split_at_checked(at)?;
            let bucket = bucket.strip_suffix('.')?;
            own.eq_ignore_ascii_case(name).then_some(bucket)
        });
    let message = match (buckets.next(), buckets.next()) {
        (Some(bucket), None) => return Ok(Some(bucket)),
        (Some(_), Some(_)) => {
            "The host of the request is below two of the `hosts` of this store in [[s3.stores]], so the name of the \
                bucket is ambiguous. Remove one of the two, or name the bucket in the path."
        }
        (None, _) => {
            "The request is for a host that is not a name of this store: see `hosts` of [[s3.stores]]."
        }
    };
    Err(S3Refusal::new(Code::InvalidRequest, message))
}

/// Splits a query into parameters, and decodes their values.
fn parameters(query: &str) -> Result<Vec<(&str, Cow<'_, str>)>, S3Refusal> {
    let mut parameters: Vec<(&str, Cow<'_, str>)> = Vec::new();
    let invalid = |message: String| Err(S3Refusal::new(Code::InvalidArgument, message));
    for pair in query.split('&').filter(|_| !query.is_empty()) {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        let plain = |b: u8| b.is_ascii_alphanumeric() || b"-._~".contains(&b);
        if name.is_empty() || !name.bytes().all(plain) {
            return invalid("The query has a parameter without a name, or with a character in its name that no \
                parameter of Amazon S3 has.".into());
        }
        if parameters.iter().any(|(n, _)| n.eq_ignore_ascii_case(name)) {
            return invalid(format!("The query parameter `{name}` is repeated."));
        }
        let value = decode(value, Place::Query).map_err(|error| undecodable("query", error))?;
        parameters.push((name, value));
    }
    let signed = parameters
        .iter()
        .any(|(name, _)| SIGNATURE_PARAMETERS.contains(name));
    for (name, _) in &parameters {
        if OLD_SIGNATURE.contains(name) {
            return Err(S3Refusal::new(
                Code::InvalidRequest,
                "The authorization mechanism you have provided is not supported. Please use AWS4-HMAC-SHA256.",
            ));
        }
        let moved = signed && MOVED_HEADERS.contains(name);
        if is_signers_parameter(name) && !SIGNATURE_PARAMETERS.contains(name) && !moved {
            return invalid(format!(
                "The query parameter `{name}` is not accepted: send it as a signed header, or spell it as Amazon does."
            ));
        }
    }
    Ok(parameters)
}

fn operation(
    method: &str,
    level: Level,
    query: &[(&str, Cow<'_, str>)],
    copies: bool,
) -> Result<&'static Operation, S3Refusal> {
    let own: Vec<(&str, &str)> = query
        .iter()
        .filter(|(name, _)| !is_signers_parameter(name) && *name != "x-id")
        .map(|(name, value)| (*name, &**value))
        .collect();
    let Some(operation) = Operation::find(method, level, &own, copies) else {
        let message = if method == "POST" && level == Level::Bucket && own.is_empty() {
            "Uploads by a form are not accepted, since their policy is in the body, which the broker does not see: use a presigned PUT instead."
        } else {
            "A header or parameter you provided implies functionality that is not implemented: no operation, or more than one, has this method with these parameters."
        };
        return Err(S3Refusal::new(Code::NotImplemented, message));
    };
    match query.iter().find(|(name, _)| *name == "x-id") {
        Some((_, id)) if *id != operation.name => Err(S3Refusal::new(
            Code::InvalidArgument,
            format!(
                "The request is for the operation {}, but `x-id` names another operation.",
                operation.name
            ),
        )),
        _ => Ok(operation),
    }
}

/// Returns whether an object's name can begin with this text. For other texts, a store could list the objects with
/// another prefix than the one that was authorized.
fn is_beginning_of_keys(text: &str, rules: &StoreRules) -> bool {
    let odd = text.starts_with('/') || text.contains("//") || text.contains('\\');
    let is_whole = rules.keeps_slashes || !odd;
    text.len() <= 1024 && is_whole && !has_dot_segment(text)
}

fn has_dot_segment(text: &str) -> bool {
    text.split(['/', '\\']).any(|s| matches!(s, "." | ".."))
}

/// The rule of [`is_beginning_of_keys`] for the message to the caller.
const BEGINNING: &str = "must be the beginning of an object's name: at most 1024 bytes, without the segments `.` and `..` \
    and, unless the store has `keeps_slashes`, without empty segments and backslashes";

/// Checks the values of parameters that influence the decision or identify the object.
fn check_values(routed: &Routed<'_>, rules: &StoreRules) -> Result<(), S3Refusal> {
    let prefix = routed.parameter("prefix").unwrap_or_default();
    let number = |text: &str, most: u32| {
        let plain = (1..=10).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_digit());
        plain && text.parse::<u32>().is_ok_and(|n| n <= most)
    };
    for (name, value) in &routed.query {
        let (good, rule) = match *name {
            "partNumber" => (
                number(value, 10_000) && !value.starts_with('0'),
                "must be a number from 1 to 10000",
            ),
            "max-keys" | "max-parts" | "max-uploads" | "max-buckets" | "part-number-marker" => (
                number(value, i32::MAX.unsigned_abs()),
                "must be a number from 0 to 2147483647",
            ),
            "versionId" | "uploadId" | "id" | "version-id-marker" | "upload-id-marker" => (
                is_id(value) || (name.ends_with("-marker") && value.is_empty()),
                "must be 1 to 1024 letters, digits or characters of `-._~+=`, without `..` and without a `.` at the \
                 beginning",
            ),
            "prefix" => (is_beginning_of_keys(value, rules), BEGINNING),
            "marker" | "start-after" | "key-marker" => {
                let is_below = value.starts_with(prefix) || value.is_empty();
                match is_beginning_of_keys(value, rules) {
                    true => (is_below, "must begin with the value of `prefix`"),
                    false => (false, BEGINNING),
                }
            }
            "continuation-token" => (
                !has_dot_segment(value),
                "must not have the segments `.` and `..`",
            ),
            "encoding-type" => (*value == "url", "must be `url`"),
            _ => (true, ""),
        };
        if !good {
            return Err(S3Refusal::new(
                Code::InvalidArgument,
                format!("The query parameter `{name}` {rule}."),
            ));
        }
    }
    Ok(())
}

fn undecodable(place: &str, error: Undecodable) -> S3Refusal {
    S3Refusal::new(
        Code::InvalidUri,
        format!("The {place} of the URL is not accepted: {error}."),
    )
}

#[cfg(test)]
mod tests;
