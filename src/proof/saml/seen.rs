//! Values of strangers as messages and logs repeat them: on one line, legible, and not long.

use crate::base::legible::Legible;

/// Characters of a foreign value that a message repeats.
const MAX_SEEN: usize = 200;

/// A foreign value as messages repeat it: on one line, legible, and not long.
pub(super) fn seen(value: &str) -> String {
    let end = value.char_indices().nth(MAX_SEEN).map(|(at, _)| at);
    match end.and_then(|end| value.get(..end)) {
        Some(beginning) => format!("{}...", Legible(beginning)),
        None => Legible(value).to_string(),
    }
}

/// A value that may be missing, as messages repeat it.
pub(super) fn seen_or_missing(value: Option<&str>) -> String {
    value.map_or_else(
        || "missing".to_owned(),
        |value| format!("`{}`", seen(value)),
    )
}
