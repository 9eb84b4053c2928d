//! A line of `brevet check`: the result of one check, and what to do about it.

use crate::cli::print;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    Ok,
    Warning,
    Failed,
}

/// The result of one check, with its advice.
#[derive(Debug)]
pub(super) struct Line {
    pub(super) check: &'static str,
    pub(super) verdict: Verdict,
    pub(super) says: String,
    pub(super) fix: Option<String>,
}

pub(super) fn ok(check: &'static str, says: impl Into<String>) -> Line {
    Line {
        check,
        verdict: Verdict::Ok,
        says: says.into(),
        fix: None,
    }
}

pub(super) fn warning(
    check: &'static str,
    says: impl Into<String>,
    fix: impl Into<String>,
) -> Line {
    Line {
        check,
        verdict: Verdict::Warning,
        says: says.into(),
        fix: Some(fix.into()),
    }
}

pub(super) fn failed(check: &'static str, says: impl ToString, fix: impl Into<String>) -> Line {
    Line {
        check,
        verdict: Verdict::Failed,
        says: says.to_string(),
        fix: Some(fix.into()),
    }
}

/// A failure whose text already says what to do.
pub(super) fn explained(check: &'static str, says: impl ToString) -> Line {
    Line {
        check,
        verdict: Verdict::Failed,
        says: says.to_string(),
        fix: None,
    }
}

impl Verdict {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Warning => "warn",
            Self::Failed => "FAIL",
        }
    }
}

impl Line {
    pub(super) fn text(&self) -> String {
        let says = print::visible_lines(&self.says).replace('\n', " ");
        let fix = self
            .fix
            .as_ref()
            .map(|fix| format!("                    next: {}\n", print::visible(fix)));
        format!(
            "{:<4}  {:<13} {says}\n{}",
            self.verdict.name(),
            self.check,
            fix.unwrap_or_default()
        )
    }
}
