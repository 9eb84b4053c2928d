//! Strict parsing of the parts of a token: base64url without padding or stray bits, no duplicate
//! names in an object, and no control characters in texts that people and logs read.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Map, Value};

use super::TokenError;
use crate::base::strict_json;

/// Parses a part of a token: strict base64url of a JSON object without duplicate names.
pub(super) fn object(part: &str) -> Result<Map<String, Value>, TokenError> {
    let bytes = URL_SAFE_NO_PAD
        .decode(part)
        .map_err(|_| TokenError::Malformed)?;
    match strict_json::parse(&bytes) {
        Ok(Value::Object(map)) => Ok(map),
        _ => Err(TokenError::Malformed),
    }
}

/// Returns whether a claim's names and texts contain no control characters. A postal address may
/// contain line breaks: OpenID Connect Core 1.0 section 5.1.1.
pub(super) fn is_plain(name: &str, value: &Value) -> bool {
    fn printable(text: &str) -> bool {
        !text.chars().any(char::is_control)
    }
    let lines = |member: &str, value: &Value| {
        name == "address"
            && matches!(member, "formatted" | "street_address")
            && value
                .as_str()
                .is_some_and(|text| printable(&text.replace(['\r', '\n'], "")))
    };
    printable(name)
        && match value {
            Value::String(text) => printable(text),
            Value::Array(items) => items.iter().all(|item| is_plain("", item)),
            Value::Object(members) => members
                .iter()
                .all(|(member, value)| is_plain(member, value) || lines(member, value)),
            _ => true,
        }
}
