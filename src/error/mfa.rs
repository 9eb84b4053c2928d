//! Why a code of an MFA device was refused.

/// Why an MFA code was refused. All messages but the last are AWS's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum MfaError {
    /// The request has a serial number or a code, but not both.
    #[error(
        "MultiFactorAuthentication failed, must provide both MFA serial number and one time pass code."
    )]
    Incomplete,
    /// The device does not exist, or belongs to another user.
    #[error(
        "MultiFactorAuthentication failed, unable to validate MFA code.  Please verify your MFA serial number is valid and associated with this user."
    )]
    NotAssociated,
    /// The code is wrong, or was used before.
    #[error("MultiFactorAuthentication failed with invalid MFA one time pass code.")]
    Invalid,
    /// The device is locked after too many wrong codes, so the code was not checked.
    #[error(
        "MultiFactorAuthentication failed, too many invalid one time pass codes. Try again in 15 minutes; calls that need no code are not affected."
    )]
    Locked,
}
