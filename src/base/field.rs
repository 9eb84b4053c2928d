//! What is wrong with one field of a request, and the rule of length that most fields have.

use std::borrow::Cow;

/// A request field that breaks a rule. The value itself is not repeated: it may be a secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FieldError {
    /// The field as the API names it: `RoleSessionName`.
    pub field: Cow<'static, str>,
    /// What must hold, as a clause: "must have length greater than or equal to 2".
    pub rule: Cow<'static, str>,
}

impl FieldError {
    /// A broken rule on a field.
    pub fn new(field: impl Into<Cow<'static, str>>, rule: impl Into<Cow<'static, str>>) -> Self {
        Self {
            field: field.into(),
            rule: rule.into(),
        }
    }
}

/// Refuses a text whose number of characters is out of bounds.
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
