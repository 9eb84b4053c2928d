//! Reading much in portions of [`PAGE`] rows.

use super::changes::PAGE;

/// Where the next portion begins; none: that was the last.
pub(super) type Next<T> = Option<T>;

/// Whether there may be more behind a portion of so many rows.
pub(super) fn next<T>(rows: usize, last: Option<T>) -> Next<T> {
    let whole = i64::try_from(rows).is_ok_and(|rows| rows >= PAGE);
    last.filter(|_| whole)
}
