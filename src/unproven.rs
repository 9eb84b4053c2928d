//! The result of a failed authentication: the error for the caller, and the reason for the audit log.

use std::borrow::Cow;

use crate::error::Error;
use crate::proof::saml::Refusal;

/// The caller could not be authenticated, or its credentials have ended meanwhile.
#[derive(Debug, PartialEq, Eq)]
pub struct Unproven {
    /// The error that the caller receives. It may say less than `reason`.
    pub error: Error,
    /// The access key id in the request, which is unverified; `None` if the request has none.
    pub claimed_key: Option<String>,
    /// The reason for the audit log; `None` if the error alone is enough.
    pub reason: Option<Reason>,
}

impl Unproven {
    /// The failure of a caller that claimed no access key.
    pub fn because(error: Error, reason: Reason) -> Box<Self> {
        Box::new(Self {
            error,
            claimed_key: None,
            reason: Some(reason),
        })
    }
}

/// Why a caller could not be authenticated, as audit records state it.
#[derive(Debug, Clone, PartialEq, Eq)]
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
    UnknownSamlProvider,
    SamlMetadata,
    CertificateDates,
    UnknownCertificate,
    Saml(Box<Refusal>),
}

impl Reason {
    /// The text of the reason in audit records.
    pub fn text(&self) -> Cow<'static, str> {
        Cow::Borrowed(match self {
            Self::Saml(refusal) => return refusal.to_string().into(),
            Self::Ended => "ended",
            Self::Header => "the header of the token is not accepted",
            Self::Malformed => "malformed",
            Self::OwnIssuer => "the token was issued by this broker itself",
            Self::UnknownIssuer => "unknown issuer",
            Self::UnknownKey => "unknown key",
            Self::KeysUnavailable => "the provider's keys could not be fetched",
            Self::Signature => "the signature is not valid",
            Self::NoSubject => "no sub",
            Self::NotAnIdToken => "not an ID token",
            Self::AmbiguousClaims => "ambiguous claims",
            Self::MethodsTooLong => "amr too long",
            Self::ProviderChanged => {
                "the provider was changed while this call was waiting for its keys"
            }
            Self::Times => "times",
            Self::NoExpiry => "no exp",
            Self::NoIssueTime => "no iat",
            Self::Expired => "expired",
            Self::NotValidYet => "not valid yet",
            Self::AuthorizedParty => "azp",
            Self::Audience => "aud",
            Self::UnknownSamlProvider => {
                "the account of the role has no SAML provider with this ARN"
            }
            Self::CertificateDates => "the client certificate has expired, or is not valid yet",
            Self::UnknownCertificate => {
                "the directory maps the client certificate to no user, or the mapping is inactive"
            }
            Self::SamlMetadata => {
                "the metadata document of the SAML provider is not accepted, or is that of another issuer"
            }
        })
    }
}
