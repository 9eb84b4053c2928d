//! Reads many rows in pages of [`PAGE`] rows.

use super::changes::PAGE;

/// The key after which the next page begins; `None` after the last page.
pub(super) type Next<T> = Option<T>;

/// The key after which the next page begins; `None` if this page was not full. `rows` is the number of rows of this
/// page, and `last` its last key.
pub(super) fn next<T>(rows: usize, last: Option<T>) -> Next<T> {
    let whole = i64::try_from(rows).is_ok_and(|rows| rows >= PAGE);
    last.filter(|_| whole)
}
