//! The reasons why a sign-in at an identity provider is refused, with the message for the person and the text for the
//! audit log.

use crate::error::Error;
use crate::federation::providers::ExchangeError;
use crate::proof::saml::Refusal;
use crate::unproven::{Reason, Unproven};

/// Why a sign-in at an identity provider was refused. `Display` is for the person at the browser.
#[derive(Debug, thiserror::Error)]
pub enum Refused {
    #[error("This broker does not offer this identity provider for signing in.")]
    Unknown,
    #[error("This sign-in was finished before, took too long, or was not begun at this broker.")]
    NotWaiting,
    #[error("This sign-in was started in another browser, or this browser does not keep cookies.")]
    OtherBrowser,
    /// The identity provider began the sign-in, which the configuration does not allow.
    #[error(
        "This broker does not accept a sign-in that this identity provider starts: start the sign-in at this \
        broker."
    )]
    Unsolicited,
    /// The answer came from another identity provider than the one at which the sign-in was begun.
    #[error(
        "The answer came from another identity provider than the one to which this broker sent you, or does not say \
         from which one."
    )]
    OtherProvider,
    #[error("The answer of the identity provider could not be read: {0}.")]
    Malformed(&'static str),
    /// The provider reports an error. Both texts come from the provider.
    #[error("The identity provider did not sign you in.")]
    Denied { code: String, description: String },
    #[error("The identity provider could not be reached, or did not answer as expected.")]
    Unreachable(String),
    /// The answer does not prove the person's identity. The text is for the audit log.
    #[error(
        "The identity provider's answer could not be accepted. The audit log of the broker says why."
    )]
    NotProven(String),
    /// The provider or the broker is not configured completely. The text tells the administrator what is missing.
    #[error("This identity provider is not set up completely for signing in: {0}.")]
    NotSetUp(String),
    /// The broker refuses the sign-in for a reason that does not concern the provider.
    #[error("{0}")]
    Broker(#[from] Error),
}

impl Refused {
    /// Tells the person what to do next, in one or two sentences for the page.
    pub fn remedy(&self) -> &'static str {
        match self {
            Self::Unknown | Self::NotSetUp(_) => "Tell the administrator of this broker.",
            Self::NotWaiting
            | Self::Unsolicited
            | Self::OtherBrowser
            | Self::OtherProvider
            | Self::Malformed(_) => "Sign in again, from the beginning.",
            Self::Denied { .. } => {
                "Sign in again. If it happens again, ask the administrator of the identity provider."
            }
            Self::Unreachable(_) => "Try again in a minute.",
            Self::NotProven(_) => {
                "Sign in again. If it happens again, tell the administrator of this broker the request id."
            }
            Self::Broker(_) => "Try again.",
        }
    }

    /// The provider's own error text. It is not trusted, so the page must mark it as a quotation.
    pub fn foreign(&self) -> Option<String> {
        match self {
            Self::Denied { code, description } if description.is_empty() => Some(code.clone()),
            Self::Denied { code, description } => Some(format!("{code}: {description}")),
            _ => None,
        }
    }

    /// The error with which the refusal is recorded.
    pub fn error(&self) -> Error {
        match self {
            Self::Broker(error) => error.clone(),
            Self::Unreachable(_) => Error::IdpCommunicationError,
            Self::Denied { .. } => Error::IdpRejectedClaim(self.to_string()),
            Self::Malformed(_) | Self::Unknown => Error::Malformed(self.to_string()),
            _ => Error::InvalidIdentityToken(self.to_string()),
        }
    }

    /// The reason for the audit log; `None` if the error alone is enough.
    pub fn reason(&self) -> Option<String> {
        match self {
            Self::NotProven(reason) | Self::Unreachable(reason) | Self::NotSetUp(reason) => {
                Some(reason.clone())
            }
            _ => self.foreign(),
        }
    }
}

impl From<Box<Unproven>> for Refused {
    fn from(unproven: Box<Unproven>) -> Self {
        // Only these two texts are the provider's own words.
        if let Some(Reason::Saml(refusal)) = &unproven.reason
            && let Refusal::Status { code, message } = &**refusal
        {
            return Self::Denied {
                code: code.clone(),
                description: message.clone(),
            };
        }
        let reason = unproven.reason.map(|reason| reason.text().into_owned());
        match unproven.error {
            Error::IdpCommunicationError => Self::Unreachable(reason.unwrap_or_default()),
            Error::InvalidIdentityToken(text)
            | Error::IdpRejectedClaim(text)
            | Error::ExpiredWebIdentityToken(text) => Self::NotProven(reason.unwrap_or(text)),
            other => Self::Broker(other),
        }
    }
}

impl From<ExchangeError> for Refused {
    fn from(error: ExchangeError) -> Self {
        match error {
            ExchangeError::Refused { code, description } => Self::Denied { code, description },
            ExchangeError::Unreachable(reason) => Self::Unreachable(reason),
            ExchangeError::Answer(_) => Self::NotProven(error.to_string()),
            ExchangeError::Method | ExchangeError::NoSecret => Self::NotSetUp(error.to_string()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_words_of_the_provider_are_shown_as_its_own() {
        let status = "urn:oasis:names:tc:SAML:2.0:status:Responder";
        let refusal = Refusal::Status {
            code: status.to_owned(),
            message: "no such user".to_owned(),
        };
        let rejected = || Error::IdpRejectedClaim("It did not authenticate the user".to_owned());
        let reason = Reason::Saml(Box::new(refusal));
        let denied = Refused::from(Unproven::because(rejected(), reason));
        assert_eq!(denied.foreign(), Some(format!("{status}: no such user")));
        let refused = Refused::from(Unproven::because(rejected(), Reason::NoSubject));
        assert_eq!(refused.foreign(), None);
        assert_eq!(
            refused.reason().as_deref(),
            Some("the token has no claim `sub` of 1 to 255 characters")
        );
    }
}
