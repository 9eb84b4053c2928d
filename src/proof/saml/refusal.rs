//! Why a response is not accepted: one variant for each rule, with what was seen, for the operator.
//! Callers of the API learn the AWS code only.

use super::limits::XmlError;
use super::signature::SignatureError;
use crate::base::clock::Timestamp;

/// The AWS error that a refusal becomes: STS API Reference, "AssumeRoleWithSAML", Errors.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AwsCode {
    /// The response is not one that this broker may act on.
    InvalidIdentityToken,
    /// The response was good, and is not any more.
    ExpiredTokenException,
    /// The identity provider itself says that authentication failed.
    IdpRejectedClaim,
    /// The response is good, and does not grant the role.
    AccessDenied,
}

/// Why a response is not accepted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// More than [`super::MAX_CHARACTERS`].
    #[error("the response has {0} characters; at most 100,000 are accepted")]
    TooLong(usize),
    /// Not base64 with padding, in one line or several.
    #[error("the response is not base64")]
    Base64,
    /// Not XML that is accepted.
    #[error(transparent)]
    Xml(#[from] XmlError),
    /// The root element is another one.
    #[error("the root element is `{0}` and not a SAML 2.0 Response")]
    NotResponse(String),
    /// An element lacks what it must have, or has what it must not have.
    #[error("the element {element} is not accepted: {rule}")]
    Element {
        /// Its name, without a prefix.
        element: &'static str,
        /// What is wrong with it.
        rule: &'static str,
    },
    /// An assertion that is encrypted.
    #[error("the assertion, or a part of it, is encrypted")]
    Encrypted,
    /// Not exactly one assertion, as a child of the response.
    #[error("the response must have exactly one Assertion, as its child, and none elsewhere")]
    Assertions,
    /// A signature elsewhere than in the response or the assertion, or two in one of them.
    #[error(
        "a signature is elsewhere than directly in the Response or the Assertion, once in each"
    )]
    MisplacedSignature,
    /// The status is not `Success`.
    #[error("the identity provider reports `{code}`: `{message}`")]
    Status {
        /// The innermost status code.
        code: String,
        /// The status message, or nothing.
        message: String,
    },
    /// Neither the response nor the assertion is signed.
    #[error("neither the response nor the assertion is signed")]
    Unsigned,
    /// A signature is not accepted.
    #[error("the signature of the {signed} is not accepted: {why}")]
    Signature {
        /// `Response` or `Assertion`.
        signed: &'static str,
        /// Why.
        why: SignatureError,
    },
    /// The key that made the signature has a certificate that is not valid now.
    #[error(
        "the certificate of the key that signed is valid from {not_before} to {not_after}, and it \
         is {now}"
    )]
    Certificate {
        /// The beginning.
        not_before: Timestamp,
        /// The last instant.
        not_after: Timestamp,
        /// The time by which it was judged.
        now: Timestamp,
    },
    /// The metadata is out of date, by its own word.
    #[error("the identity provider's metadata was valid until {valid_until}, and it is {now}")]
    MetadataExpired {
        /// Its `validUntil`.
        valid_until: Timestamp,
        /// The time by which it was judged.
        now: Timestamp,
    },
    /// Another issuer than the one of the metadata.
    #[error("the Issuer of the {element} is `{seen}`; the metadata is that of `{expected}`")]
    Issuer {
        /// `Response` or `Assertion`.
        element: &'static str,
        /// What it says.
        seen: String,
        /// The entity ID of the metadata.
        expected: String,
    },
    /// The response was sent elsewhere.
    #[error(
        "the Destination of the response is `{0}`, which is not one of the accepted recipients"
    )]
    Destination(String),
    /// No audience that is accepted.
    #[error("the AudienceRestriction names {seen}, and none of the accepted audiences")]
    Audience {
        /// The audiences of one restriction, or that there is none.
        seen: String,
    },
    /// A condition that is not understood, which SAML Core 2.0 section 2.5.1 says not to pass over.
    #[error("the Conditions have `{0}`, which is not understood")]
    Condition(String),
    /// No subject confirmation by bearer.
    #[error("the subject has no SubjectConfirmation by the bearer method")]
    NoBearer,
    /// The bearer confirmation is for another recipient.
    #[error(
        "the Recipient of the SubjectConfirmationData is {seen}, which is not one of the accepted \
         recipients"
    )]
    Recipient {
        /// It, or that there is none.
        seen: String,
    },
    /// The response answers another request, or none.
    #[error("the InResponseTo of the {element} is {seen}; expected is `{expected}`")]
    InResponseTo {
        /// `Response` or `SubjectConfirmationData`.
        element: &'static str,
        /// It, or that there is none.
        seen: String,
        /// The request, or what the response says.
        expected: String,
    },
    /// A bearer confirmation without an end.
    #[error("the SubjectConfirmationData has no NotOnOrAfter")]
    NoEnd,
    /// The time of the assertion has not come.
    #[error("the NotBefore of the {element} is {at}, and it is {now}")]
    NotYetValid {
        /// Whose time.
        element: &'static str,
        /// The time.
        at: Timestamp,
        /// The time by which it was judged.
        now: Timestamp,
    },
    /// The time of the assertion is over.
    #[error("the {attribute} of the {element} is {at}, and it is {now}")]
    Expired {
        /// `Conditions`, `SubjectConfirmationData` or `AuthnStatement`.
        element: &'static str,
        /// `NotOnOrAfter` or `SessionNotOnOrAfter`.
        attribute: &'static str,
        /// The time.
        at: Timestamp,
        /// The time by which it was judged.
        now: Timestamp,
    },
    /// No statement that the subject was authenticated.
    #[error("the assertion has no AuthnStatement")]
    NoAuthnStatement,
    /// An attribute that is needed is missing.
    #[error("the assertion has no attribute `{0}`")]
    NoAttribute(String),
    /// An attribute that must be one is in the assertion twice, or has not exactly one value.
    #[error("the attribute `{0}` is there more than once, or has not exactly one value")]
    RepeatedAttribute(String),
    /// The value of an attribute breaks a rule.
    #[error("the attribute `{name}` is `{seen}`: it {rule}")]
    Attribute {
        /// Its name.
        name: String,
        /// Its value.
        seen: String,
        /// The rule, as a clause.
        rule: String,
    },
    /// The role and this provider are no pair of the `Role` attribute.
    #[error(
        "the attribute `Role` does not name the role `{role}` with the provider `{provider}`; it \
         has {pairs} such pairs"
    )]
    RoleNotGranted {
        /// The role that was asked for.
        role: String,
        /// The provider that was named.
        provider: String,
        /// How many pairs there are.
        pairs: usize,
    },
}

impl Refusal {
    /// The AWS error that callers get.
    pub fn code(&self) -> AwsCode {
        match self {
            Self::TooLong(_)
            | Self::Base64
            | Self::Xml(_)
            | Self::NotResponse(_)
            | Self::Element { .. }
            | Self::Encrypted
            | Self::Assertions
            | Self::MisplacedSignature
            | Self::Unsigned
            | Self::Signature { .. }
            | Self::Certificate { .. }
            | Self::MetadataExpired { .. }
            | Self::Issuer { .. }
            | Self::Destination(_)
            | Self::Audience { .. }
            | Self::Condition(_)
            | Self::NoBearer
            | Self::Recipient { .. }
            | Self::InResponseTo { .. }
            | Self::NoEnd
            | Self::NotYetValid { .. }
            | Self::NoAuthnStatement
            | Self::NoAttribute(_)
            | Self::RepeatedAttribute(_)
            | Self::Attribute { .. } => AwsCode::InvalidIdentityToken,
            Self::Status { .. } => AwsCode::IdpRejectedClaim,
            Self::Expired { .. } => AwsCode::ExpiredTokenException,
            Self::RoleNotGranted { .. } => AwsCode::AccessDenied,
        }
    }

    /// What has to be changed, and by whom.
    pub fn remedy(&self) -> &'static str {
        match self {
            Self::TooLong(_) => {
                "Let the identity provider send fewer attributes or values, such as only the \
                 groups that matter here."
            }
            Self::Base64 => {
                "Pass the value of the form field SAMLResponse as the identity provider sends it: \
                 base64 of the XML, not URL-encoded and not deflated."
            }
            Self::Xml(error) => xml_remedy(error),
            Self::NotResponse(_) => {
                "Pass the whole Response of the identity provider, not an Assertion, a \
                 LogoutResponse or a request."
            }
            Self::Element { .. } => {
                "The identity provider does not follow SAML 2.0 here. Look at its configuration, \
                 or report the message to its maker."
            }
            Self::Encrypted => {
                "Switch off the encryption of assertions (and of name IDs and attributes) for \
                 this service provider at the identity provider."
            }
            Self::Assertions => {
                "The identity provider must send one assertion. If it does, somebody has changed \
                 the response on its way."
            }
            Self::MisplacedSignature => {
                "The identity provider must sign the Response, the Assertion or both. If it does, \
                 somebody has changed the response on its way."
            }
            Self::Status { .. } => {
                "The identity provider did not authenticate the user, or refuses this service \
                 provider. Its own log says why."
            }
            Self::Unsigned => "Let the identity provider sign the assertion, or the response.",
            Self::Signature { why, .. } => match why {
                SignatureError::Shape(_) => {
                    "Let the identity provider make enveloped signatures with exclusive \
                     canonicalization (xml-exc-c14n), over the ID of the signed element."
                }
                SignatureError::Algorithm(_) => {
                    "Let the identity provider sign with RSA or ECDSA and SHA-256 or stronger, \
                     with digests of SHA-256 or stronger and exclusive canonicalization. SHA-1 is \
                     not accepted."
                }
                SignatureError::Digest => {
                    "The response was changed after it was signed: by something on its way, such \
                     as a program that reformats XML, or on purpose."
                }
                SignatureError::Key => {
                    "If the identity provider has a new signing certificate, import its current \
                     metadata."
                }
            },
            Self::Certificate { .. } => {
                "Let the identity provider sign with a key whose certificate is valid, and import \
                 its current metadata."
            }
            Self::MetadataExpired { .. } => "Import the identity provider's current metadata.",
            Self::Issuer { .. } => {
                "Use the provider whose metadata has this entity ID, or import the metadata of \
                 this issuer."
            }
            Self::Destination(_) | Self::Recipient { .. } => {
                "Enter this broker's assertion consumer URL at the identity provider (it may call \
                 it ACS, Reply, Recipient or Destination URL), or add the URL to `[saml] \
                 recipients`."
            }
            Self::Audience { .. } => {
                "Enter this broker's entity ID at the identity provider (it may call it Audience, \
                 Entity ID or Relying Party Identifier), or add the audience to `[saml] \
                 audiences`."
            }
            Self::Condition(_) => {
                "Let the identity provider use no other conditions than times, \
                 AudienceRestriction, OneTimeUse and ProxyRestriction."
            }
            Self::NoBearer => {
                "Let the identity provider use the Web Browser SSO profile, which has a \
                 confirmation with the method urn:oasis:names:tc:SAML:2.0:cm:bearer."
            }
            Self::InResponseTo { .. } => {
                "The response answers another request. Sign in again, and use the newest response."
            }
            Self::NoEnd => {
                "Let the identity provider state NotOnOrAfter in the SubjectConfirmationData, as \
                 the Web Browser SSO profile demands."
            }
            Self::NotYetValid { .. } => {
                "Set the clocks of the identity provider and of this broker by a time server."
            }
            Self::Expired { .. } => {
                "Sign in again for a new response. If new ones are refused too, set the clocks of \
                 the identity provider and of this broker by a time server."
            }
            Self::NoAuthnStatement => {
                "Let the identity provider use the Web Browser SSO profile, whose assertions have \
                 an AuthnStatement."
            }
            Self::NoAttribute(_) => {
                "Add the attribute to what the identity provider sends to this service provider. \
                 Its name is case-sensitive."
            }
            Self::RepeatedAttribute(_) => {
                "Let the identity provider send the attribute once (Keycloak: switch on \"Single \
                 Role Attribute\"), and with one value unless it is Role or TransitiveTagKeys."
            }
            Self::Attribute { .. } => {
                "Change the value, or the rule by which the identity provider makes it."
            }
            Self::RoleNotGranted { .. } => {
                "Let the identity provider send the pair `ROLE_ARN,PROVIDER_ARN` as a value of \
                 the attribute https://aws.amazon.com/SAML/Attributes/Role for this user."
            }
        }
    }
}

fn xml_remedy(error: &XmlError) -> &'static str {
    match error {
        XmlError::TooLong(_) | XmlError::TooMany(_) => {
            "Let the identity provider send less. If what it sends is not unusual, somebody has \
             changed the response on its way."
        }
        XmlError::Encoding => "Let the identity provider send UTF-8.",
        XmlError::Declaration
        | XmlError::Dtd
        | XmlError::ProcessingInstruction
        | XmlError::Reference
        | XmlError::Character
        | XmlError::Name
        | XmlError::Namespace
        | XmlError::DuplicateAttribute
        | XmlError::Id
        | XmlError::Malformed => {
            "Pass the response as the identity provider sends it. If it is so, report the message \
             to the maker of the identity provider."
        }
    }
}
