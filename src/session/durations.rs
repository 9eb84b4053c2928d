//! The durations of sessions: every minimum, maximum and role-chaining rule.

use std::time::Duration;

use crate::base::field::FieldError;

/// The minimum duration of a session, except for one of GetScopedCredentials: 15 minutes.
pub const MIN: Duration = Duration::from_secs(900);
/// The maximum duration of any session: 36 hours. AWS's limit for roles is 12 hours.
pub const MAX: Duration = Duration::from_secs(129_600);
/// The minimum and default `MaxSessionDuration` of a role, and the default duration of its
/// sessions: an hour.
pub const ROLE_DEFAULT: Duration = Duration::from_secs(3_600);
/// The default duration of a user's own session and of a federated user's session: 12 hours.
pub const USER_DEFAULT: Duration = Duration::from_secs(43_200);
/// The maximum duration of a session issued to temporary credentials: IAM User Guide, "Role
/// chaining".
pub const CHAINED_MAX: Duration = Duration::from_secs(3_600);

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DurationError {
    /// The duration is outside the bounds of the API.
    #[error("{} {}", .0.field, .0.rule)]
    Bounds(FieldError),
    /// The duration is within the bounds of the API but longer than the role allows.
    #[error("The requested DurationSeconds exceeds the MaxSessionDuration set for this role.")]
    OverRoleMaximum,
    /// More than an hour was requested with temporary credentials (role chaining).
    #[error(
        "The requested DurationSeconds exceeds the 1 hour session limit for roles assumed by role chaining."
    )]
    OverChainingLimit,
}

/// The duration of a role session. The default is an hour, or the role's maximum if that is shorter. A requested
/// duration that is too long is refused, never shortened.
///
/// # Errors
/// [`DurationError`] that names the limit that is exceeded.
pub fn role_session(
    asked: Option<Duration>,
    role_max: Duration,
    chained: bool,
) -> Result<Duration, DurationError> {
    let Some(term) = asked else {
        return Ok(ROLE_DEFAULT.min(role_max));
    };
    if term > role_max {
        return Err(DurationError::OverRoleMaximum);
    }
    if chained && term > CHAINED_MAX {
        return Err(DurationError::OverChainingLimit);
    }
    Ok(term)
}

/// Checks that a number of seconds is within the bounds of the API: 900 to 129,600.
///
/// # Errors
/// [`DurationError::Bounds`] that names the bound.
pub fn bounded(seconds: i64) -> Result<Duration, DurationError> {
    within(seconds, MIN)
}

/// Checks that a number of seconds is within the bounds of GetScopedCredentials: 1 to 129,600.
///
/// # Errors
/// [`DurationError::Bounds`] that names the bound.
pub fn scoped(seconds: i64) -> Result<Duration, DurationError> {
    within(seconds, Duration::from_secs(1))
}

fn within(seconds: i64, min: Duration) -> Result<Duration, DurationError> {
    let error = |rule: String| DurationError::Bounds(FieldError::new("DurationSeconds", rule));
    let span = Duration::from_secs(u64::try_from(seconds).unwrap_or_default());
    if span < min {
        return Err(error(format!(
            "must have value greater than or equal to {}",
            min.as_secs()
        )));
    }
    if span > MAX {
        return Err(error(format!(
            "must have value less than or equal to {}",
            MAX.as_secs()
        )));
    }
    Ok(span)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tk_09_the_accepted_set_is_exact() {
        let ask = |seconds| bounded(seconds).is_ok();
        assert!(ask(900) && ask(129_600));
        for bad in [899, 129_601, 0, -1, 1 << 31, i64::MAX, i64::MIN] {
            assert!(!ask(bad), "{bad}");
        }
        let scoped = |seconds| super::scoped(seconds).is_ok();
        assert!(scoped(1) && scoped(129_600));
        assert!(![0, -1, 129_601, i64::MIN, i64::MAX].into_iter().any(scoped));
        let hour = Duration::from_secs(3_600);
        assert_eq!(
            role_session(Some(hour + MIN), hour, false),
            Err(DurationError::OverRoleMaximum)
        );
        assert_eq!(
            role_session(Some(hour + MIN), MAX, true),
            Err(DurationError::OverChainingLimit)
        );
        assert_eq!(role_session(Some(hour), MAX, true), Ok(hour));
        assert_eq!(role_session(None, MAX, true), Ok(hour));
    }
}
