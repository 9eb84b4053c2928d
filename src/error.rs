//! [`Error`]: every way in which a call can be refused. There is one variant for each answer that a caller can act on,
//! named as AWS names it. This module knows no HTTP status and no gRPC code: each API of the broker maps [`Class`] to
//! its own.

mod cause;
mod class;
mod command;
mod grant;
mod mfa;

use std::borrow::Cow;

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

pub use cause::Cause;
pub use class::Class;
pub use command::{CommandError, INVALID_JSON, Message, no_such};
pub use grant::{GrantError, GrantErrorKind};
pub use mfa::MfaError;

/// Why a call was refused. `Display` is the message to the caller.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[allow(
    clippy::enum_variant_names,
    reason = "the variants have the names of AWS's errors, some of which end with `Error`"
)]
pub enum Error {
    /// A policy denies the call, no policy allows it, or a rule of the broker that AWS reports in the same way forbids
    /// it. The message is AWS's and gives no reason; the audit record has it.
    #[error("User: {principal} is not authorized to perform: {action} on resource: {resource}")]
    AccessDenied {
        principal: String,
        action: String,
        resource: String,
        /// The sealed reason, which DecodeAuthorizationMessage opens for those who may read it; empty if
        /// there is none.
        encoded_message: String,
    },
    /// The action with this name requires long-term credentials, and the caller has temporary ones.
    #[error("Cannot call {0} with session credentials")]
    LongTermCredentialsOnly(&'static str),
    /// The MFA code of a request, or the serial number of its device, is missing or was not accepted.
    #[error(transparent)]
    Mfa(#[from] MfaError),
    /// A program that acts for a person does not get what it requested. These are the refusals of OAuth 2.0
    /// and of AWS's API for sign-ins.
    #[error(transparent)]
    Grant(#[from] GrantError),
    /// The request does not come from a sign-in, the sign-in has ended, or the person must first choose another
    /// password.
    #[error("Session token not found or invalid")]
    NotSignedIn,
    #[error("1 validation error detected: Value at '{}' failed to satisfy constraint: Member {}", lower_first(&.0.field), .0.rule)]
    Validation(FieldError),
    /// The duration is longer than the role or role chaining allows.
    #[error("{0}")]
    Duration(DurationError),
    /// The request does not follow the protocol, or breaks a rule that is not about a single parameter.
    #[error("{0}")]
    Malformed(String),
    /// The body is longer than this limit, in bytes.
    #[error("The request is longer than {0} bytes.")]
    TooLarge(usize),
    /// The request has more headers than the first limit, or they are longer together than the second, in
    /// bytes.
    #[error("The request has more than {0} headers, or they are longer than {1} bytes together.")]
    HeadersTooLarge(usize, usize),
    /// Receiving and answering the request took longer than this limit, in seconds.
    #[error("The request was not received and answered within {0} seconds.")]
    RequestTimeout(u64),
    /// A policy document in the request cannot be parsed, or breaks a rule of the policy language.
    #[error("{0}")]
    MalformedPolicyDocument(String),
    /// A policy simulation takes too long.
    #[error("The simulation takes too long. Use fewer or shorter policies, or fewer ResourceArns.")]
    PolicyEvaluation,
    /// GetScopedCredentials was called with credentials that are not those of a session.
    #[error(
        "GetScopedCredentials must be called with temporary security credentials; a user gets them from GetSessionToken"
    )]
    InvalidSubjectCredentials,
    /// The caller requested credentials that would outlast its own session, which ends in this number of seconds.
    #[error(
        "The requested DurationSeconds exceeds the remaining lifetime of the calling session: {0} seconds"
    )]
    InsufficientSessionLifetime(i64),
    /// The session token would be longer than its limit: its size and the limit, in bytes.
    #[error("The session token size exceeds the maximum allowed size: {0} bytes, but at most {1}")]
    TokenTooLarge(usize, usize),
    /// The session policies and tags do not fit in a session token.
    #[error(transparent)]
    PackedPolicyTooLarge(#[from] Box<TooLarge>),
    /// There is no action with this name in this version of the API.
    #[error("Could not find operation {action} for version {version}")]
    InvalidAction {
        /// The parameter `Action` of the request.
        action: String,
        /// The parameter `Version` of the request.
        version: String,
    },
    /// AWS has the action with this name, but Brevet does not implement it, or what it needs is not configured.
    #[error("{0} is not available")]
    NotAvailable(Cow<'static, str>),
    /// AWS has the action, but Brevet refuses it on purpose.
    #[error("Brevet does not support {action}: {why}")]
    RefusedAction {
        /// The parameter `Action` of the request.
        action: String,
        /// The reason why it is refused, without a full stop.
        why: &'static str,
    },
    /// The request carries no credentials, and the action requires some.
    #[error("Request is missing Authentication Token")]
    MissingAuthenticationToken,
    /// The signature, or something that must come with it, is missing, incomplete or ambiguous.
    #[error("{0}")]
    IncompleteSignature(String),
    #[error("{0}")]
    SignatureDoesNotMatch(String),
    /// The action with this name may not be called by a presigned URL.
    #[error(
        "A presigned request may not call {0}: sign the request in the Authorization header. For an action of STS, the \
         operator can also name the action in [sts] presigned_actions."
    )]
    PresignedAction(&'static str),
    /// The request is for an action of an AWS service that Brevet does not implement.
    #[error("{0}")]
    UnknownOperation(String),
    /// The date of the signature is too old or too far in the future.
    #[error("{0}")]
    RequestExpired(String),
    /// The access key, certificate or bearer token is unknown or not valid, or the session token cannot be opened or
    /// does not belong to the key.
    #[error("The security token included in the request is invalid")]
    InvalidClientTokenId,
    /// The session was ended before its expiry: it was revoked, or a principal or key behind it was deleted, replaced
    /// or switched off. Or another store issued the session, or the user was deleted or got another password during a
    /// sign-in. The caller gets the same message as for unknown credentials;
    /// only the audit record has the reason.
    #[error("The security token included in the request is invalid")]
    Ended,
    #[error("The security token included in the request is expired")]
    ExpiredToken,
    /// The call requires something that is unavailable, which the text names. Nothing was granted.
    #[error("The broker cannot answer at the moment: {0} is not available.")]
    ServiceUnavailable(&'static str),
    /// The broker has too much to do for this call; holds one or two sentences that say so. Nothing was granted.
    #[error("{0}")]
    Overloaded(Cow<'static, str>),
    /// The requested entity does not exist, or belongs to another account.
    #[error("{0}")]
    NotFound(String),
    /// The trust policy, or the SAML assertion itself, does not allow the holder of a token to assume the role. The
    /// message is that of STS and gives no reason.
    #[error("Not authorized to perform {action}")]
    NotAuthorized {
        action: String,
        /// The sealed reason, as in [`Error::AccessDenied`].
        encoded_message: String,
    },
    /// The token of an identity provider is malformed or not valid, or its provider or audience is not accepted.
    #[error("{0}")]
    InvalidIdentityToken(String),
    #[error("{0}")]
    ExpiredWebIdentityToken(String),
    /// The token is valid, but was refused, for example because it was used before; or the identity provider did not
    /// authenticate the user.
    #[error("{0}")]
    IdpRejectedClaim(String),
    /// The identity provider or its keys cannot be reached at the moment.
    #[error(
        "The broker has no current keys of the identity provider: it could not fetch them, or another call is fetching them; try again."
    )]
    IdpCommunicationError,
    /// The message is not an encoded authorization message, is too old, or may not be read by the caller.
    #[error("The message is not an encoded authorization message that this broker can decode")]
    InvalidAuthorizationMessage,
    /// The caller makes too many calls, has too many live sessions or gave wrong passwords too often; too many calls
    /// wait for the store or for a hash; or a single-use signature was used before or cannot be remembered.
    #[error("Rate exceeded")]
    Throttling,
    /// This broker has no issuer configured, or no usable key for the algorithm, so it does not issue the web identity
    /// token.
    #[error("{0}")]
    OutboundWebIdentityFederationDisabled(String),
    /// The requested token would outlive the session that asks for it.
    #[error(
        "The requested token duration would extend the session beyond its original expiration time"
    )]
    SessionDurationEscalation,
    /// The claims of the requested token are too long: their size and the limit, in bytes.
    #[error(
        "The requested token payload size exceeds the maximum allowed size: {0} bytes, but at most {1}"
    )]
    JwtPayloadSizeExceeded(usize, usize),
    #[error("{0}")]
    EntityAlreadyExists(String),
    /// The entity cannot be deleted while others depend on it, or while it is the default version of a policy.
    #[error("{0}")]
    DeleteConflict(String),
    #[error("{0}")]
    LimitExceeded(String),
    /// Somebody else changed the entity in the meantime.
    #[error("{0}")]
    ConcurrentModification(String),
    /// The user has given too many wrong MFA codes, so the codes of the device are not checked for 15 minutes. The text
    /// says so.
    #[error("{0}")]
    EntityTemporarilyUnmodifiable(String),
    /// The broker cannot change its directory, because it is managed in a file; holds what to do instead.
    #[error("The directory is read-only here: {0}.")]
    ReadOnlyDirectory(&'static str),
    /// The entity must not be changed in this way, such as the permissions of a service-linked role or the rights of
    /// the last administrator.
    #[error("{0}")]
    UnmodifiableEntity(String),
    /// Parameters contradict each other, or one breaks a rule for which AWS answers `InvalidInput` instead of
    /// `ValidationError`.
    #[error("{0}")]
    InvalidInput(String),
    /// The value of `Marker` does not have the form of the markers of this list.
    #[error("Invalid Marker.")]
    InvalidMarker,
    /// A parameter that names a policy by its ARN is not the ARN of a policy.
    #[error("Invalid ARN:  Could not be parsed!")]
    InvalidArn,
    /// `UserName` is missing, and the caller is not a user.
    #[error("Must specify userName when calling with non-User credentials")]
    UserNameRequired,
    /// The managed policy exists, but may not be attached.
    #[error("{0}")]
    PolicyNotAttachable(String),
    /// The new password breaks the account's password policy.
    #[error("{0}")]
    PasswordPolicyViolation(String),
    /// The password or code of a user who signs in, confirms a change or chooses another password is missing or was not
    /// accepted; holds the reason.
    #[error("{0}")]
    WrongPassword(&'static str),
    /// The action is only for the kind of principal that the message names, such as a user.
    #[error("{0}")]
    InvalidUserType(String),
    /// No credential report was generated yet.
    #[error("The credential report does not exist. To generate one, use GenerateCredentialReport.")]
    ReportNotPresent,
    /// The credential report is too old, so that a new one must be generated.
    #[error(
        "The credential report has expired. To generate a new one, use GenerateCredentialReport."
    )]
    ReportExpired,
    /// The two codes are not consecutive codes of the device, or were used before, or the device was replaced
    /// meanwhile.
    #[error("Authentication code for device is not valid.")]
    InvalidAuthenticationCode,
    /// An operation of the store failed. Nothing was granted.
    #[error("The broker cannot answer at the moment: an operation of the store failed.")]
    Store(Cause),
    /// A secret cannot be sealed or opened with the master key. For example, the key under which it is sealed is not
    /// in the master key file, the secret was altered or is sealed for another entry, or there are no random bytes.
    /// Nothing was changed.
    #[error(
        "The broker cannot answer at the moment: a secret cannot be sealed or opened with the master key."
    )]
    MasterKey(Cause),
    /// An entity of the directory refers to another that does not exist. Nothing was granted.
    #[error("An internal error occurred.")]
    Dangling(Cause),
    /// An invariant is broken. Nothing was granted.
    #[error("An internal error occurred.")]
    InternalFailure,
}

impl Error {
    /// The message to the caller, with the encoded authorization message if there is one.
    pub fn message(&self) -> String {
        match self.encoded_message() {
            Some(encoded) => format!("{self}. Encoded authorization failure message: {encoded}"),
            None => self.to_string(),
        }
    }

    /// The encoded authorization message of the refusal, if there is one.
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

    /// AWS's code for the refusal, such as `AccessDenied`.
    pub fn code(&self) -> &'static str {
        self.kind().0
    }

    /// The class of the refusal, from which each API of the broker takes its own status.
    pub fn class(&self) -> Class {
        self.kind().1
    }

    /// The code and the class of each variant. A new refusal needs a variant and a line in this table.
    fn kind(&self) -> (&'static str, Class) {
        match self {
            Self::AccessDenied { .. } | Self::NotAuthorized { .. } => {
                ("AccessDenied", Class::Forbidden)
            }
            Self::LongTermCredentialsOnly(_)
            | Self::PresignedAction(_)
            | Self::Mfa(_)
            | Self::WrongPassword(_) => ("AccessDenied", Class::WrongCredentials),
            Self::Grant(error) => (error.kind.aws(), error.kind.class()),
            Self::NotSignedIn => ("UnauthorizedException", Class::Unauthenticated),
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
            Self::Validation(_)
            | Self::Duration(_)
            | Self::Malformed(_)
            | Self::InvalidMarker
            | Self::InvalidArn
            | Self::UserNameRequired => ("ValidationError", Class::InvalidArgument),
            Self::PolicyNotAttachable(_) => ("PolicyNotAttachable", Class::InvalidArgument),
            Self::PasswordPolicyViolation(_) => ("PasswordPolicyViolation", Class::InvalidArgument),
            Self::InvalidUserType(_) => ("InvalidUserType", Class::InvalidArgument),
            Self::MalformedPolicyDocument(_) => ("MalformedPolicyDocument", Class::InvalidArgument),
            Self::InvalidInput(_) => ("InvalidInput", Class::InvalidArgument),
            Self::PolicyEvaluation => ("PolicyEvaluation", Class::InvalidArgument),
            Self::PackedPolicyTooLarge(_) | Self::TokenTooLarge(..) => {
                ("PackedPolicyTooLarge", Class::InvalidArgument)
            }
            Self::InvalidSubjectCredentials => {
                ("InvalidSubjectCredentials", Class::InvalidArgument)
            }
            Self::InsufficientSessionLifetime(_) => {
                ("InsufficientSessionLifetime", Class::InvalidArgument)
            }
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
            Self::InvalidAction { .. } | Self::NotAvailable(_) | Self::RefusedAction { .. } => {
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
            Self::ServiceUnavailable(_)
            | Self::Overloaded(_)
            | Self::Store(_)
            | Self::MasterKey(_) => ("ServiceUnavailable", Class::Unavailable),
            Self::Throttling => ("Throttling", Class::Throttled),
            Self::NotFound(_) => ("NoSuchEntity", Class::NotFound),
            Self::ReportNotPresent => ("ReportNotPresent", Class::Gone),
            Self::ReportExpired => ("ReportExpired", Class::Gone),
            Self::EntityAlreadyExists(_) => ("EntityAlreadyExists", Class::AlreadyExists),
            Self::DeleteConflict(_) => ("DeleteConflict", Class::Conflict),
            Self::EntityTemporarilyUnmodifiable(_) => {
                ("EntityTemporarilyUnmodifiable", Class::Conflict)
            }
            Self::LimitExceeded(_) => ("LimitExceeded", Class::LimitExceeded),
            Self::ConcurrentModification(_) => {
                ("ConcurrentModification", Class::ConcurrentModification)
            }
            Self::UnmodifiableEntity(_) | Self::ReadOnlyDirectory(_) => {
                ("UnmodifiableEntity", Class::Unmodifiable)
            }
            Self::InternalFailure | Self::Dangling(_) => ("InternalFailure", Class::Internal),
        }
    }

    /// Whether the same call may succeed if it is repeated a moment later.
    pub fn is_temporary(&self) -> bool {
        matches!(
            self.class(),
            Class::Unavailable | Class::Throttled | Class::ProviderUnavailable
        )
    }

    /// Logs the cause of the refusal, which is for operators and must not be shown to the caller. The code
    /// that handles the refusal calls this once.
    pub fn log(&self) {
        match self {
            Self::Store(error) => {
                tracing::warn!(%error, "a call was refused because the store failed");
            }
            Self::MasterKey(error) => {
                tracing::error!(%error, "a change was refused because a secret cannot be sealed or opened with the master key");
            }
            Self::Dangling(error) => {
                tracing::error!(%error, "a call was refused because the directory is inconsistent: add the missing entry, or remove the reference");
            }
            _ => {}
        }
    }

    /// The field and the broken rule, if the refusal is about a single parameter of the request.
    pub fn field(&self) -> Option<&FieldError> {
        match self {
            Self::Validation(field) | Self::Duration(DurationError::Bounds(field)) => Some(field),
            _ => None,
        }
    }
}

/// The name of a field as AWS writes it in messages, with a small first letter: `roleSessionName`.
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
            // It is only counted, where it is found: a line in the log for each would flood the log.
            StoreError::Busy => Self::Throttling,
            error => Self::Store(Cause::new(error)),
        }
    }
}

impl From<SessionsError> for Error {
    fn from(error: SessionsError) -> Self {
        match error {
            SessionsError::Unreachable(_) => Self::ServiceUnavailable("the session store"),
            // It is logged and counted where it is found; the caller must not learn of it.
            SessionsError::Forged => Self::InternalFailure,
            SessionsError::WithoutKey => Self::ServiceUnavailable("the key for new sessions"),
        }
    }
}

impl From<NoEntropy> for Error {
    fn from(_: NoEntropy) -> Self {
        Self::ServiceUnavailable("the source of random bytes")
    }
}

impl From<ring::error::Unspecified> for Error {
    fn from(_: ring::error::Unspecified) -> Self {
        Self::InternalFailure
    }
}
