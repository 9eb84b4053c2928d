//! Why a code of an MFA device was refused.

/// Why an MFA code was refused. All messages but the last are AWS's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum MfaError {
    /// The request has only one of the serial number and the code, or the sign-in or the change needs a code and has
    /// none.
    #[error(
        "MultiFactorAuthentication failed, must provide both MFA serial number and one time pass code."
    )]
    Incomplete,
    /// The device does not exist, belongs to another user or was replaced during the check, or the caller cannot have a
    /// device, as a role.
    #[error(
        "MultiFactorAuthentication failed, unable to validate MFA code.  Please verify your MFA serial number is valid and associated with this user."
    )]
    NotAssociated,
    /// The code is wrong, or was used before.
    #[error("MultiFactorAuthentication failed with invalid MFA one time pass code.")]
    Invalid,
    /// The user is locked out after too many wrong codes, so even a right one is refused.
    #[error(
        "MultiFactorAuthentication failed, too many invalid one time pass codes. Try again in 15 minutes; calls that need no code are not affected."
    )]
    Locked,
}
