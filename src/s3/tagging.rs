//! The tags that a request gives to an object, in the header `x-amz-tagging`.

use std::borrow::Cow;

use super::canonical::{Place, decode};
use super::refusal::{Code, S3Refusal};

/// The maximum number of tags of an object: Amazon S3 User Guide, "Categorizing your objects using tags".
const MAX_TAGS: usize = 10;

/// A tag of an object: its key and its value, decoded.
pub(super) type Tag<'a> = (Cow<'a, str>, Cow<'a, str>);

/// Parses tags that are written like the query of a URL: `key=value&key=value`.
///
/// # Errors
/// [`S3Refusal`] if the tags break a rule of S3, or if two readers could understand them differently.
pub(super) fn parse(text: &str) -> Result<Vec<Tag<'_>>, S3Refusal> {
    let invalid = |rule: &str| {
        S3Refusal::new(
            Code::InvalidArgument,
            format!("The header 'x-amz-tagging' {rule}."),
        )
    };
    let mut tags: Vec<Tag<'_>> = Vec::new();
    for pair in text.split('&').filter(|_| !text.is_empty()) {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        let read = |text| {
            let undecodable = |error| invalid(&format!("is not accepted: {error}"));
            decode(text, Place::Query).map_err(undecodable)
        };
        let (key, value) = (read(key)?, read(value)?);
        if !(1..=128).contains(&key.chars().count()) || value.chars().count() > 256 {
            return Err(invalid(
                "must have keys of 1 to 128 characters and values of up to 256",
            ));
        }
        if tags.iter().any(|(k, _)| k.eq_ignore_ascii_case(&key)) {
            return Err(invalid("must not have a key twice"));
        }
        tags.push((key, value));
    }
    if tags.len() > MAX_TAGS {
        return Err(invalid("must not have more than 10 tags"));
    }
    Ok(tags)
}
