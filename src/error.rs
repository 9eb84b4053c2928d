//! [`Error`]: the refusal policy on one page. One variant for each answer that a caller can act
//! on, named as STS names it. Knows no HTTP status and no gRPC code: each face maps its classes once.

mod class;
mod command;

use std::borrow::Cow;
use std::sync::Arc;

use crate::base::entropy::NoEntropy;
use crate::base::field::FieldError;
use crate::base::form::FormError;
use crate::base::http::HostError;
use crate::directory::Dangling;
use crate::proof::sigv4::SigError;
use crate::session::durations::DurationError;
use crate::session::envelope::OpenError;
use crate::session::packing::TooLarge;
use crate::sessions::SessionsError;
use crate::store::StoreError;

pub use class::Class;
pub use command::CommandError;

/// Why a call was refused. `Display` is what the caller reads.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[allow(
    clippy::enum_variant_names,
    reason = "the names of AWS's errors, some of which end with the word"
)]
pub enum Error {
    /// A policy does not allow it. The sentence is AWS's and gives no reason; the audit has it.
    #[error("User: {principal} is not authorized to perform: {action} on resource: {resource}")]
    AccessDenied {
        /// The caller's ARN.
        principal: String,
        /// `sts:AssumeRole`
        action: String,
        /// What it was about.
        resource: String,
        /// Why, for those who may know: DecodeAuthorizationMessage opens it. Empty: there is none.
        encoded_message: String,
    },
    /// Temporary credentials where only long-term ones will do.
    #[error("Cannot call {0} with session credentials")]
    LongTermCredentialsOnly(&'static str),
    /// An MFA code was given, or half of one, and proves nothing.
    #[error(transparent)]
    Mfa(#[from] MfaError),
    /// A parameter breaks a rule.
    #[error("1 validation error detected: Value at '{}' failed to satisfy constraint: Member {}", lower_first(&.0.field), .0.rule)]
    Validation(FieldError),
    /// A duration beyond what the role or the chain allows.
    #[error("{0}")]
    Duration(DurationError),
    /// The request cannot be read as one of this protocol.
    #[error("{0}")]
    Malformed(String),
    /// Its body is longer than any request can be.
    #[error("the request is longer than {0} bytes")]
    TooLarge(usize),
    /// It has more headers, or longer ones, than any request needs.
    #[error("a request has at most {0} headers, of at most {1} bytes together")]
    HeadersTooLarge(usize, usize),
    /// Its body or the work on it took too long.
    #[error("the request was not received and answered within {0} seconds")]
    RequestTimeout(u64),
    /// A session policy that is no policy.
    #[error("{0}")]
    MalformedPolicyDocument(String),
    /// Policies and tags do not fit in a session.
    #[error(transparent)]
    PackedPolicyTooLarge(#[from] Box<TooLarge>),
    /// No action of that name and version.
    #[error("Could not find operation {action} for version {version}")]
    InvalidAction {
        /// As asked.
        action: String,
        /// As asked.
        version: String,
    },
    /// Part of the contract, and not of this version.
    #[error("{0} is not available yet")]
    NotAvailable(Cow<'static, str>),
    /// No credentials where some are needed.
    #[error("Request is missing Authentication Token")]
    MissingAuthenticationToken,
    /// The proof is incomplete or ambiguous.
    #[error("{0}")]
    IncompleteSignature(String),
    /// The proof does not hold.
    #[error("{0}")]
    SignatureDoesNotMatch(String),
    /// The action is not one that a presigned request may ask for.
    #[error(
        "A presigned request may not ask for {0}: sign it in the Authorization header, or name the action in [sts] presigned_actions"
    )]
    PresignedAction(&'static str),
    /// An action of a service that is not here.
    #[error("{0}")]
    UnknownOperation(String),
    /// The proof is too old or from the future.
    #[error("{0}")]
    RequestExpired(String),
    /// Unknown key, disabled key, token that does not open, or the wrong token for the key.
    #[error("The security token included in the request is invalid")]
    InvalidClientTokenId,
    /// The session was ended before its time: revoked, or what it came from is no more. The caller
    /// reads what holders of unknown credentials read; the audit says more.
    #[error("The security token included in the request is invalid")]
    Ended,
    /// The session is over.
    #[error("The security token included in the request is expired")]
    ExpiredToken,
    /// Something that is needed cannot be had now: nothing was granted.
    #[error("{0} is not available at the moment")]
    ServiceUnavailable(&'static str),
    /// What was asked for is not there, or not the caller's.
    #[error("{0}")]
    NotFound(String),
    /// A trust policy does not allow it; whoever shows a token is told no more. STS says it in these words.
    #[error("Not authorized to perform {action}")]
    NotAuthorized {
        /// `sts:AssumeRoleWithWebIdentity`
        action: String,
        /// Why, for those who may know.
        encoded_message: String,
    },
    /// A token that no provider of the role's account vouches for, or that is not for us.
    #[error("{0}")]
    InvalidIdentityToken(String),
    /// A token that is over.
    #[error("{0}")]
    ExpiredWebIdentityToken(String),
    /// A token that is good and not taken.
    #[error("{0}")]
    IdpRejectedClaim(String),
    /// The provider's keys cannot be had now.
    #[error(
        "The identity provider could not be reached, or somebody else is asking it now; try again"
    )]
    IdpCommunicationError,
    /// A message that is no encoded authorization message, is too old, or is not the caller's to read.
    #[error("The message is not an encoded authorization message that can be decoded here")]
    InvalidAuthorizationMessage,
    /// Too many calls, or too many live sessions.
    #[error("Rate exceeded")]
    Throttling,
    /// This broker issues no tokens for others.
    #[error("{0}")]
    OutboundWebIdentityFederationDisabled(String),
    /// A token would outlive the session that asks for it.
    #[error(
        "The requested token duration would extend the session beyond its original expiration time"
    )]
    SessionDurationEscalation,
    /// A token's claims are too long.
    #[error("The requested token payload size exceeds the maximum allowed size: {0} of {1} bytes")]
    JwtPayloadSizeExceeded(usize, usize),
    /// There is one already.
    #[error("{0}")]
    EntityAlreadyExists(String),
    /// Something depends on it.
    #[error("{0}")]
    DeleteConflict(String),
    /// One too many.
    #[error("{0}")]
    LimitExceeded(String),
    /// Somebody else changed it meanwhile.
    #[error("{0}")]
    ConcurrentModification(String),
    /// It cannot be changed just now.
    #[error("{0}")]
    EntityTemporarilyUnmodifiable(String),
    /// It cannot be changed at all.
    #[error("It cannot be changed here: {0}.")]
    UnmodifiableEntity(&'static str),
    /// Two codes that are not a device's.
    #[error("Authentication code for device is not valid.")]
    InvalidAuthenticationCode,
    /// The store did not do what was needed: nothing was granted or changed.
    #[error("the store is not available at the moment")]
    Store(Cause),
    /// The master key cannot be used: nothing was changed.
    #[error("the master key is not available at the moment")]
    MasterKey(Cause),
    /// The directory names something that it does not have: nothing was granted.
    #[error("an internal error occurred")]
    Dangling(Cause),
    /// A broken invariant: nothing was granted.
    #[error("an internal error occurred")]
    InternalFailure,
}

/// An error below a refusal, for the log and not for the caller.
#[derive(Debug, Clone)]
pub struct Cause(Arc<dyn std::error::Error + Send + Sync>);

impl Cause {
    fn new(error: impl std::error::Error + Send + Sync + 'static) -> Self {
        Self(Arc::new(error))
    }
}

impl std::fmt::Display for Cause {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

/// The caller is told the same, whatever the cause.
impl PartialEq for Cause {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Eq for Cause {}

/// Why an MFA code proves nothing. The sentences are AWS's, but for the last.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum MfaError {
    /// Half of a proof.
    #[error(
        "MultiFactorAuthentication failed, must provide both MFA serial number and one time pass code."
    )]
    Incomplete,
    /// No such device, or not the caller's.
    #[error(
        "MultiFactorAuthentication failed, unable to validate MFA code.  Please verify your MFA serial number is valid and associated with this user."
    )]
    NotAssociated,
    /// Wrong, or used already.
    #[error("MultiFactorAuthentication failed with invalid MFA one time pass code.")]
    Invalid,
    /// Not looked at.
    #[error(
        "MultiFactorAuthentication failed, too many invalid one time pass codes. Try again in 15 minutes; credentials that need no code go on working."
    )]
    Locked,
}

impl Error {
    /// What the audit and the caller read, with the encoded authorization message if there is one.
    pub fn message(&self) -> String {
        match self.encoded_message() {
            Some(encoded) => format!("{self}. Encoded authorization failure message: {encoded}"),
            None => self.to_string(),
        }
    }

    /// What DecodeAuthorizationMessage opens, if it goes with the refusal.
    pub fn encoded_message(&self) -> Option<&str> {
        match self {
            Self::AccessDenied {
                encoded_message, ..
            }
            | Self::NotAuthorized {
                encoded_message, ..
            } => Some(encoded_message.as_str()).filter(|m| !m.is_empty()),
            _ => None,
        }
    }

    /// The code that AWS clients know this answer by.
    pub fn code(&self) -> &'static str {
        self.kind().0
    }

    /// What kind of answer this is: each wire has one status for each.
    pub fn class(&self) -> Class {
        self.kind().1
    }

    /// The one table of refusals: a new one is a variant and a line here.
    fn kind(&self) -> (&'static str, Class) {
        match self {
            Self::AccessDenied { .. } | Self::NotAuthorized { .. } => {
                ("AccessDenied", Class::Forbidden)
            }
            Self::LongTermCredentialsOnly(_) | Self::PresignedAction(_) | Self::Mfa(_) => {
                ("AccessDenied", Class::WrongCredentials)
            }
            Self::SessionDurationEscalation => (
                "SessionDurationEscalationException",
                Class::WrongCredentials,
            ),
            Self::InvalidAuthenticationCode => {
                ("InvalidAuthenticationCode", Class::WrongCredentials)
            }
            Self::OutboundWebIdentityFederationDisabled(_) => (
                "OutboundWebIdentityFederationDisabledException",
                Class::SwitchedOff,
            ),
            Self::InvalidIdentityToken(_) => ("InvalidIdentityToken", Class::InvalidToken),
            Self::ExpiredWebIdentityToken(_) => ("ExpiredTokenException", Class::InvalidToken),
            Self::IdpRejectedClaim(_) => ("IDPRejectedClaim", Class::RejectedToken),
            Self::IdpCommunicationError => ("IDPCommunicationError", Class::ProviderUnavailable),
            Self::Validation(_) | Self::Duration(_) | Self::Malformed(_) => {
                ("ValidationError", Class::InvalidArgument)
            }
            Self::MalformedPolicyDocument(_) => ("MalformedPolicyDocument", Class::InvalidArgument),
            Self::PackedPolicyTooLarge(_) => ("PackedPolicyTooLarge", Class::InvalidArgument),
            Self::InvalidAuthorizationMessage => (
                "InvalidAuthorizationMessageException",
                Class::InvalidArgument,
            ),
            Self::JwtPayloadSizeExceeded(..) => {
                ("JWTPayloadSizeExceededException", Class::InvalidArgument)
            }
            Self::TooLarge(_) => ("RequestEntityTooLarge", Class::BodyTooLarge),
            Self::HeadersTooLarge(..) => ("RequestHeaderFieldsTooLarge", Class::HeadersTooLarge),
            Self::RequestTimeout(_) => ("RequestTimeout", Class::Timeout),
            Self::InvalidAction { .. } | Self::NotAvailable(_) => {
                ("InvalidAction", Class::Unimplemented)
            }
            Self::UnknownOperation(_) => ("UnknownOperationException", Class::Unimplemented),
            Self::MissingAuthenticationToken => {
                ("MissingAuthenticationToken", Class::Unauthenticated)
            }
            Self::SignatureDoesNotMatch(_) => ("SignatureDoesNotMatch", Class::Unauthenticated),
            Self::InvalidClientTokenId | Self::Ended => {
                ("InvalidClientTokenId", Class::Unauthenticated)
            }
            Self::ExpiredToken => ("ExpiredToken", Class::Unauthenticated),
            Self::IncompleteSignature(_) => ("IncompleteSignature", Class::UnfitProof),
            Self::RequestExpired(_) => ("RequestExpired", Class::UnfitProof),
            Self::ServiceUnavailable(_) | Self::Store(_) | Self::MasterKey(_) => {
                ("ServiceUnavailable", Class::Unavailable)
            }
            Self::Throttling => ("Throttling", Class::Throttled),
            Self::NotFound(_) => ("NoSuchEntity", Class::NotFound),
            Self::EntityAlreadyExists(_) => ("EntityAlreadyExists", Class::AlreadyExists),
            Self::DeleteConflict(_) => ("DeleteConflict", Class::Conflict),
            Self::EntityTemporarilyUnmodifiable(_) => {
                ("EntityTemporarilyUnmodifiable", Class::Conflict)
            }
            Self::LimitExceeded(_) => ("LimitExceeded", Class::LimitExceeded),
            Self::ConcurrentModification(_) => {
                ("ConcurrentModification", Class::ConcurrentModification)
            }
            Self::UnmodifiableEntity(_) => ("UnmodifiableEntity", Class::Unmodifiable),
            Self::InternalFailure | Self::Dangling(_) => ("InternalFailure", Class::Internal),
        }
    }

    /// Whether the same call may be answered a moment later.
    pub fn is_temporary(&self) -> bool {
        matches!(
            self.class(),
            Class::Unavailable | Class::Throttled | Class::ProviderUnavailable
        )
    }

    /// Writes to the log what an operator has to know of this refusal and the caller must not: once,
    /// by whoever handles it.
    pub fn log(&self) {
        match self {
            Self::Store(error) => {
                tracing::warn!(%error, "a call that needs the store is refused");
            }
            Self::MasterKey(error) => tracing::error!(%error, "a change is refused"),
            Self::Dangling(error) => tracing::error!(%error, "nothing can be decided"),
            _ => {}
        }
    }

    /// The field and the rule, where one parameter is to blame.
    pub fn field(&self) -> Option<&FieldError> {
        match self {
            Self::Validation(field) | Self::Duration(DurationError::Bounds(field)) => Some(field),
            _ => None,
        }
    }
}

/// AWS names fields in messages with a small first letter: `roleSessionName`.
fn lower_first(field: &str) -> String {
    let mut chars = field.chars();
    chars
        .next()
        .map(|c| c.to_ascii_lowercase())
        .into_iter()
        .chain(chars)
        .collect()
}

impl From<FieldError> for Error {
    fn from(error: FieldError) -> Self {
        Self::Validation(error)
    }
}

impl From<FormError> for Error {
    fn from(error: FormError) -> Self {
        Self::Malformed(error.to_string())
    }
}

impl From<HostError> for Error {
    fn from(error: HostError) -> Self {
        Self::Malformed(error.to_string())
    }
}

impl From<DurationError> for Error {
    fn from(error: DurationError) -> Self {
        match error {
            DurationError::Bounds(field) => Self::Validation(field),
            other => Self::Duration(other),
        }
    }
}

impl From<SigError> for Error {
    fn from(error: SigError) -> Self {
        match error {
            SigError::Incomplete(text) => Self::IncompleteSignature(text),
            SigError::Mismatch(text) => Self::SignatureDoesNotMatch(text),
            SigError::Expired(text) => Self::RequestExpired(text),
        }
    }
}

impl From<OpenError> for Error {
    fn from(_: OpenError) -> Self {
        Self::InvalidClientTokenId
    }
}

impl From<Dangling> for Error {
    fn from(error: Dangling) -> Self {
        Self::Dangling(Cause::new(error))
    }
}

impl From<StoreError> for Error {
    fn from(error: StoreError) -> Self {
        match error {
            // Counted where it was found: a line for each would be one more thing to flood.
            StoreError::Busy => Self::Throttling,
            error => Self::Store(Cause::new(error)),
        }
    }
}

impl From<SessionsError> for Error {
    fn from(error: SessionsError) -> Self {
        match error {
            SessionsError::Unreachable(_) => Self::ServiceUnavailable("the session store"),
            // It was told and counted where it was found; the caller learns nothing of it.
            SessionsError::Forged => Self::InternalFailure,
        }
    }
}

impl From<NoEntropy> for Error {
    fn from(_: NoEntropy) -> Self {
        Self::ServiceUnavailable("randomness")
    }
}

impl From<ring::error::Unspecified> for Error {
    fn from(_: ring::error::Unspecified) -> Self {
        Self::InternalFailure
    }
}
