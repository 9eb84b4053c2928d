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
    /// A field of the token's header; `fault` is the end of a sentence about the field.
    Header {
        field: &'static str,
        fault: &'static str,
    },
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
            Self::Header { field, fault } => {
                return format!("the field `{field}` of the token's header {fault}").into();
            }
            Self::Ended => "the credentials or the sign-in of the caller have ended",
            Self::Malformed => {
                "the token is not a well-formed JWT, is too long, or has control characters in its claims"
            }
            Self::OwnIssuer => "the token was issued by this broker itself",
            Self::UnknownIssuer => {
                "the account has no identity provider for this issuer, or the one at which the person signed in is gone"
            }
            Self::UnknownKey => {
                "the provider has no usable key with the key id (`kid`) in the token's header"
            }
            Self::KeysUnavailable => "the provider's keys could not be fetched",
            Self::Signature => "the signature is not valid",
            Self::NoSubject => "the token has no claim `sub` of 1 to 255 characters",
            Self::NotAnIdToken => {
                "the token is not an ID token: it has the claim `events`, or its claim `typ` is neither ID nor JWT"
            }
            Self::AmbiguousClaims => {
                "the token has two claims whose names differ only in case, or more than 500 claims"
            }
            Self::MethodsTooLong => "the claim `amr` of the token is longer than 1,024 bytes",
            Self::ProviderChanged => {
                "the provider was changed while this call was waiting for its keys"
            }
            Self::Times => {
                "the claims `exp`, `iat` and `nbf` of the token must be numbers of seconds since 1970"
            }
            Self::NoExpiry => "the token has no claim `exp`",
            Self::NoIssueTime => "the token has no claim `iat`",
            Self::Expired => {
                "the token has expired, or the user's session at the identity provider has ended"
            }
            Self::NotValidYet => {
                "the token is not valid yet: its `iat` or `nbf` is more than 60 seconds in the future"
            }
            Self::AuthorizedParty => {
                "the claim `azp` of the token is not a client id of the provider"
            }
            Self::Audience => {
                "the audience (`aud`) of the token or sign-in does not fit the client ids of the provider"
            }
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
