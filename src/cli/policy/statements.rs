//! Formats, for people, what each statement contributed to a decision.

use crate::cli::print;
use crate::evaluator::StatementReport;

/// The statement's effect: `Allow` or `Deny`.
pub(super) fn effect(statement: &StatementReport) -> &'static str {
    if statement.denies { "Deny" } else { "Allow" }
}

/// Makes the line for a statement: its place, its Sid if it has one, its effect, and what it did
/// and why.
pub(super) fn statement_line(place: &str, statement: &StatementReport) -> String {
    let sid = statement.sid.as_ref();
    let sid = sid.map(|sid| format!(" ({sid})")).unwrap_or_default();
    let text = format!("{place}{sid} {}: {}", effect(statement), statement.why());
    format!("  {}", print::visible(&text))
}

/// Makes the line with the condition keys that the request does not have; `None` if it has all of
/// them.
pub(super) fn missing_keys(keys: &[String]) -> Option<String> {
    let keys = Some(keys.join(", ")).filter(|keys| !keys.is_empty())?;
    let keys = print::visible(&keys);
    Some(format!(
        "condition keys that the request does not have: {keys}"
    ))
}
