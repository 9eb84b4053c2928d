//! Prepares untrusted values for messages and logs: shortens them, and makes them legible on one
//! line.

use crate::base::legible::Legible;

/// The maximum number of characters of an untrusted value in a message.
const MAX_SEEN: usize = 200;

/// Returns an untrusted value for a message: legible, on one line, and cut off after [`MAX_SEEN`]
/// characters.
pub(super) fn seen(value: &str) -> String {
    let end = value.char_indices().nth(MAX_SEEN).map(|(at, _)| at);
    match end.and_then(|end| value.get(..end)) {
        Some(beginning) => format!("{}...", Legible(beginning)),
        None => Legible(value).to_string(),
    }
}

/// Returns an untrusted value as [`seen`] does, in backquotes; or the word `missing` if there is
/// none.
pub(super) fn seen_or_missing(value: Option<&str>) -> String {
    value.map_or_else(
        || "missing".to_owned(),
        |value| format!("`{}`", seen(value)),
    )
}
