//! Errors in fields of a request, and the length rule that most fields have.

use std::borrow::Cow;

/// A field of a request that breaks a rule. The value is not repeated, because it may be a secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FieldError {
    /// The name of the field in the API, such as `RoleSessionName`.
    pub field: Cow<'static, str>,
    /// The rule as a clause: "must have length greater than or equal to 2".
    pub rule: Cow<'static, str>,
}

impl FieldError {
    /// Creates the error for a field and the rule that it breaks.
    pub fn new(field: impl Into<Cow<'static, str>>, rule: impl Into<Cow<'static, str>>) -> Self {
        Self {
            field: field.into(),
            rule: rule.into(),
        }
    }
}

/// Checks that the number of characters of a text is from `min` to `max`.
pub(crate) fn length(
    field: &'static str,
    text: &str,
    min: usize,
    max: usize,
) -> Result<(), FieldError> {
    let count = text.chars().count();
    if count < min {
        return Err(FieldError::new(
            field,
            format!("must have length greater than or equal to {min}"),
        ));
    }
    if count > max {
        return Err(FieldError::new(
            field,
            format!("must have length less than or equal to {max}"),
        ));
    }
    Ok(())
}
