//! The classes of refusals. Each API of the broker gives every class a status of its own protocol.

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class {
    /// No policy allows the call, or one denies it.
    Forbidden,
    /// The caller is known, but the kind of its credentials or of its signature, its MFA code, its password or the end
    /// of its session does not suffice for the action.
    WrongCredentials,
    /// The action is switched off in the broker's configuration, or the broker has no key for it.
    SwitchedOff,
    /// A token of an identity provider is not valid or has expired.
    InvalidToken,
    /// A token of an identity provider is valid, but was refused; or the provider did not authenticate the user.
    RejectedToken,
    /// An identity provider cannot be reached at the moment.
    ProviderUnavailable,
    /// A parameter, or the request as a whole, breaks a rule.
    InvalidArgument,
    BodyTooLarge,
    /// There are too many headers, or they are too long.
    HeadersTooLarge,
    /// The request was not received and answered in time.
    Timeout,
    /// The broker does not implement the action, or there is none with this name.
    Unimplemented,
    /// The caller showed no credentials, did not prove to be their owner, or showed credentials that are unknown or no
    /// longer valid.
    Unauthenticated,
    /// The signature is incomplete, or its date is too old or too far in the future.
    UnfitProof,
    /// Something that the call requires is unavailable at the moment.
    Unavailable,
    /// The caller makes too many calls or has too many sessions, the broker has too much work waiting, or a signature
    /// was used a second time.
    Throttled,
    NotFound,
    /// The resource that the call asks for does not exist yet or no longer, and must be made first.
    Gone,
    AlreadyExists,
    /// The change conflicts with other entities, or with the present state of the entity itself.
    Conflict,
    LimitExceeded,
    /// Somebody else changed the entity at the same time.
    ConcurrentModification,
    /// The entity, or the whole directory, cannot be changed.
    Unmodifiable,
    /// A fault of Brevet, or an inconsistent directory.
    Internal,
}
