//! Why somebody is not who they say: what the caller is told, and what the audit says besides.

use crate::error::Error;

/// Somebody is not who they say, or no longer.
#[derive(Debug, PartialEq, Eq)]
pub struct Unproven {
    /// What the caller is told.
    pub error: Error,
    /// The access key that was claimed.
    pub claimed_key: Option<String>,
    /// What the audit says besides the error; none: the error says it all.
    pub reason: Option<Reason>,
}

impl Unproven {
    /// Of somebody who claims no access key.
    pub fn because(error: Error, reason: Reason) -> Box<Self> {
        Box::new(Self {
            error,
            claimed_key: None,
            reason: Some(reason),
        })
    }
}

/// Why somebody is not proven, in words for the audit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)] // each is its text
pub enum Reason {
    Ended,
    Header,
    Malformed,
    OwnIssuer,
    UnknownIssuer,
    UnknownKey,
    KeysUnavailable,
    Signature,
    NoSubject,
    NotAnIdToken,
    AmbiguousClaims,
    MethodsTooLong,
    ProviderChanged,
    Times,
    NoExpiry,
    NoIssueTime,
    Expired,
    NotValidYet,
    AuthorizedParty,
    Audience,
}

impl Reason {
    /// As audit records have it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ended => "ended",
            Self::Header => "the header is not accepted",
            Self::Malformed => "malformed",
            Self::OwnIssuer => "the broker's own issuer",
            Self::UnknownIssuer => "unknown issuer",
            Self::UnknownKey => "unknown key",
            Self::KeysUnavailable => "the provider's keys cannot be had",
            Self::Signature => "the signature is not good",
            Self::NoSubject => "no sub",
            Self::NotAnIdToken => "not an ID token",
            Self::AmbiguousClaims => "ambiguous claims",
            Self::MethodsTooLong => "amr too long",
            Self::ProviderChanged => "the provider was changed meanwhile",
            Self::Times => "times",
            Self::NoExpiry => "no exp",
            Self::NoIssueTime => "no iat",
            Self::Expired => "expired",
            Self::NotValidYet => "not valid yet",
            Self::AuthorizedParty => "azp",
            Self::Audience => "aud",
        }
    }
}
