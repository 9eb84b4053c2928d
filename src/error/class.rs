//! The classes of refusals: what a status says, on every wire.

/// What kind of answer a refusal is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class {
    /// A policy does not allow it.
    Forbidden,
    /// Credentials of this kind, or this code, do not reach it.
    WrongCredentials,
    /// It is switched off here.
    SwitchedOff,
    /// A token of an identity provider that proves nothing.
    InvalidToken,
    /// A token of an identity provider that is good, and not taken.
    RejectedToken,
    /// An identity provider cannot be asked at the moment.
    ProviderUnavailable,
    /// A parameter, or the request as a whole, breaks a rule.
    InvalidArgument,
    /// The body is too long.
    BodyTooLarge,
    /// There are too many headers, or they are too long.
    HeadersTooLarge,
    /// It was not received and answered in time.
    Timeout,
    /// There is no such action here.
    Unimplemented,
    /// The caller is not who it says, or shows nothing.
    Unauthenticated,
    /// The proof is incomplete or too old.
    UnfitProof,
    /// Something that is needed cannot be had at the moment.
    Unavailable,
    /// Too many calls, or too many sessions.
    Throttled,
    /// It is not there.
    NotFound,
    /// There is one already.
    AlreadyExists,
    /// Something else stands in the way.
    Conflict,
    /// One too many.
    LimitExceeded,
    /// Somebody else changed it meanwhile.
    ConcurrentModification,
    /// It cannot be changed at all.
    Unmodifiable,
    /// A defect, or a broken directory.
    Internal,
}
