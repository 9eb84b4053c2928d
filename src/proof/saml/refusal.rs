//! Why a response is not accepted. There is one variant for each rule, with the values that break
//! it. The operator sees them in the log; callers of the API only get the AWS error code.

use std::borrow::Cow;

use super::limits::XmlError;
use super::signature::SignatureError;
use crate::base::clock::Timestamp;

/// The AWS error code for a refusal: STS API Reference, "AssumeRoleWithSAML", Errors.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AwsCode {
    /// The response breaks a rule for which there is no other code: it is malformed, has no valid signature, is not
    /// valid yet, lacks an attribute, or is meant for another service provider, for example.
    InvalidIdentityToken,
    ExpiredTokenException,
    /// The identity provider reports that authentication failed.
    IdpRejectedClaim,
    /// The response is valid but does not grant the role.
    AccessDenied,
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The response has more than [`super::MAX_CHARACTERS`] characters; the number is its length.
    #[error("the response has {0} characters; at most 100,000 are accepted")]
    TooLong(usize),
    /// The response is not base64 with padding, on one or more lines.
    #[error("the response is not base64")]
    Base64,
    /// The response is not XML, or has a construct that is not accepted.
    #[error(transparent)]
    Xml(#[from] XmlError),
    /// The root element is not a Response. The text is its name.
    #[error("the root element is `{0}` and not a SAML 2.0 Response")]
    NotResponse(String),
    /// An element lacks something that SAML requires, or has something that is not allowed.
    #[error("the element {element} breaks a rule: {rule}")]
    Element {
        element: &'static str,
        rule: Cow<'static, str>,
    },
    /// The assertion is encrypted, and there is no private key of this provider with which to decrypt it.
    #[error("the assertion is encrypted, but there is no private key to decrypt it")]
    Encrypted,
    /// The assertion is encrypted, and the program was built without the feature `saml-encryption`.
    #[error(
        "the assertion is encrypted, but this program was built without the feature `saml-encryption` and cannot \
         decrypt it"
    )]
    EncryptionNotBuilt,
    /// A part of the assertion is encrypted separately. The text names the part.
    #[error(
        "{0} is encrypted separately (EncryptedID or EncryptedAttribute), which is not supported"
    )]
    EncryptedPart(&'static str),
    /// The assertion is encrypted with an algorithm that is not accepted. The text is the algorithm's URI in
    /// backquotes, or a description of the algorithm.
    #[error("the assertion is encrypted with {0}, which is not accepted")]
    EncryptionAlgorithm(String),
    /// The assertion cannot be decrypted. All causes give this same refusal, because the cause
    /// would help an attacker.
    #[error("the assertion cannot be decrypted with a private key of the provider")]
    Decryption,
    /// The response does not have exactly one assertion as its child, or contains another assertion or response
    /// elsewhere.
    #[error(
        "the response must have exactly one Assertion or EncryptedAssertion, as its child, and neither another one nor \
         another Response elsewhere"
    )]
    Assertions,
    /// A signature is not a child of the response or of the assertion, or one of these has two
    /// signatures.
    #[error(
        "a signature is not a child of the Response or the Assertion, or one of these has two signatures"
    )]
    MisplacedSignature,
    #[error("the identity provider reports the status `{code}`{}", stated(.message))]
    Status {
        code: String,
        /// The status message; empty if there is none.
        message: String,
    },
    /// Neither the response nor the assertion is signed.
    #[error("neither the response nor the assertion is signed")]
    Unsigned,
    /// The response reports a failed sign-in, and the report is not signed.
    #[error(
        "the response reports a failed sign-in, but is not signed, so that anybody may have written it"
    )]
    UnsignedStatus,
    /// The signature of the response or of the assertion is not valid, or has a form that is not
    /// accepted.
    #[error("the signature of the {signed} is not accepted: {why}")]
    Signature {
        /// The name of the element: `Response` or `Assertion`.
        signed: &'static str,
        why: SignatureError,
    },
    /// The certificate of the key that made the signature is not valid now.
    #[error(
        "the certificate of the signing key is valid from {not_before} to {not_after}, but the time \
         is {now}"
    )]
    Certificate {
        not_before: Timestamp,
        not_after: Timestamp,
        now: Timestamp,
    },
    #[error(
        "the identity provider's metadata was valid until {valid_until}, but the time is {now}"
    )]
    MetadataExpired {
        valid_until: Timestamp,
        now: Timestamp,
    },
    /// The issuer is not the identity provider in the SAML provider's metadata document.
    #[error(
        "the Issuer of the {element} is `{seen}`, but the provider's metadata is that of `{expected}`"
    )]
    Issuer {
        /// The name of the element: `Response` or `Assertion`.
        element: &'static str,
        seen: String,
        expected: String,
    },
    /// The `Destination` of the response is this URL, which is not one of the accepted recipients.
    #[error(
        "the Destination of the response is `{0}`, which is not one of the accepted recipients"
    )]
    Destination(String),
    /// An AudienceRestriction names no accepted audience, or the assertion has no such restriction.
    #[error("the assertion is for no accepted audience: {seen}")]
    Audience {
        /// A clause that lists the audiences of one restriction, or says that there is none.
        seen: String,
    },
    /// The assertion has this condition, which is not supported. SAML Core 2.0 section 2.5.1 forbids
    /// ignoring it.
    #[error("the Conditions element contains `{0}`, which is not supported")]
    Condition(String),
    /// The subject has no confirmation with the bearer method, or each of them names a presenter.
    #[error(
        "the subject has no SubjectConfirmation with the bearer method and without a BaseID, NameID or EncryptedID"
    )]
    NoBearer,
    /// The bearer confirmation does not name an accepted recipient.
    #[error(
        "the Recipient of the SubjectConfirmationData is {seen}, which is not one of the accepted \
         recipients"
    )]
    Recipient {
        /// The recipient in the confirmation, or the word `missing`.
        seen: String,
    },
    /// The response does not answer the request that this sign-in sent.
    #[error("the InResponseTo of the {element} is {seen}, but must be `{expected}`")]
    InResponseTo {
        /// The name of the element: `Response` or `SubjectConfirmationData`.
        element: &'static str,
        /// The value of `InResponseTo`, or the word `missing`.
        seen: String,
        /// The expected ID: that of the sent request, or the `InResponseTo` of the response itself.
        expected: String,
    },
    /// The response answers a request, although this sign-in began at the identity provider without
    /// one.
    #[error(
        "the response answers the request {0}, but this browser is waiting for no answer to it"
    )]
    Solicited(String),
    /// The bearer confirmation has no `NotOnOrAfter`.
    #[error("the SubjectConfirmationData has no NotOnOrAfter")]
    NoEnd,
    /// The assertion was made in the future, by more than [`super::MADE_AHEAD`].
    #[error(
        "the IssueInstant of the Assertion is {at}, more than six minutes in the future: the time is {now}"
    )]
    MadeAhead { at: Timestamp, now: Timestamp },
    #[error("the NotBefore of the {element} is {at}, but the time is {now}")]
    NotYetValid {
        /// The name of the element: `Conditions` or `SubjectConfirmationData`.
        element: &'static str,
        at: Timestamp,
        now: Timestamp,
    },
    #[error("the {attribute} of the {element} is {at}, but the time is {now}")]
    Expired {
        /// The name of the element: `Conditions`, `SubjectConfirmationData` or `AuthnStatement`.
        element: &'static str,
        /// The name of the attribute: `NotOnOrAfter` or `SessionNotOnOrAfter`.
        attribute: &'static str,
        at: Timestamp,
        now: Timestamp,
    },
    /// The assertion has no AuthnStatement, which would say when the subject was authenticated.
    #[error("the assertion has no AuthnStatement")]
    NoAuthnStatement,
    #[error("the assertion has no attribute `{0}`")]
    NoAttribute(String),
    /// The attribute with this name occurs more than once, or does not have exactly one value
    /// although it must.
    #[error("the attribute `{0}` occurs more than once, or does not have exactly one value")]
    RepeatedAttribute(String),
    /// There are more than [`crate::base::names::MAX_TAGS`] session tags.
    #[error(
        "the assertion has more than 50 attributes `PrincipalTag:…`, each of which is a session tag"
    )]
    TooManyTags,
    #[error("the attribute `{name}` is `{seen}`: it {rule}")]
    Attribute {
        name: String,
        seen: String,
        /// The rule, as a clause that follows "it".
        rule: String,
    },
    /// The attribute `Role` does not contain the pair of this role and this provider.
    #[error(
        "the attribute `Role` does not name the role `{role}` with the provider `{provider}`, but {pairs} other pairs \
         of a role and a provider"
    )]
    RoleNotGranted {
        role: String,
        provider: String,
        pairs: usize,
    },
}

/// Returns the end of the sentence about a status: its message, or nothing if it has none.
fn stated(message: &str) -> String {
    match message {
        "" => String::new(),
        message => format!(" with the message `{message}`"),
    }
}

impl Refusal {
    /// Returns the AWS error code that the caller gets.
    pub fn code(&self) -> AwsCode {
        match self {
            Self::TooLong(_)
            | Self::Base64
            | Self::Xml(_)
            | Self::NotResponse(_)
            | Self::Element { .. }
            | Self::Encrypted
            | Self::EncryptionNotBuilt
            | Self::EncryptedPart(_)
            | Self::EncryptionAlgorithm(_)
            | Self::Decryption
            | Self::Assertions
            | Self::MisplacedSignature
            | Self::Unsigned
            | Self::UnsignedStatus
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
            | Self::Solicited(_)
            | Self::NoEnd
            | Self::MadeAhead { .. }
            | Self::NotYetValid { .. }
            | Self::NoAuthnStatement
            | Self::NoAttribute(_)
            | Self::RepeatedAttribute(_)
            | Self::TooManyTags
            | Self::Attribute { .. } => AwsCode::InvalidIdentityToken,
            Self::Status { .. } => AwsCode::IdpRejectedClaim,
            Self::Expired { .. } => AwsCode::ExpiredTokenException,
            Self::RoleNotGranted { .. } => AwsCode::AccessDenied,
        }
    }

    /// Returns a text of one or more sentences that tells the operator what to do, or what the likely cause is.
    pub fn remedy(&self) -> &'static str {
        match self {
            Self::TooLong(_) => {
                "Configure the identity provider to send fewer attributes or values, such as only \
                 the groups that matter here."
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
                "The response breaks a rule of SAML 2.0 or a limit of the broker, as the message says. Check the \
                 identity provider's configuration, or report this message to its maker."
            }
            Self::Encrypted => {
                "Switch off the encryption of assertions for this service provider at the identity \
                 provider, or give the private key for which assertions are encrypted: to a broker as PrivateKeys of \
                 this provider in the directory, to `brevet saml inspect` with --private-key."
            }
            Self::EncryptionNotBuilt => {
                "Switch off the encryption of assertions for this service provider at the identity \
                 provider, or use a program that was built with the feature `saml-encryption`. It also needs the \
                 private key for which assertions are encrypted, as PrivateKeys of this provider in the directory."
            }
            Self::EncryptedPart(_) => {
                "Switch off the encryption of name IDs and attributes for this service provider at \
                 the identity provider. The whole assertion may be encrypted."
            }
            Self::EncryptionAlgorithm(_) => {
                "Configure the identity provider to encrypt with AES-GCM (128 or 256 bits) and \
                 RSA-OAEP (with SHA-1 or SHA-256 throughout), or not at all."
            }
            Self::Decryption => {
                "Give the identity provider the certificate of a private key that was tried here, or use here the \
                 private key that belongs to the certificate at the identity provider."
            }
            Self::Assertions => {
                "The identity provider must send one assertion. If it does, the response was \
                 changed in transit."
            }
            Self::MisplacedSignature => {
                "The identity provider must put one signature directly into the Response, into the Assertion, or into \
                 each of them, and none elsewhere. If it does, the response was changed in transit."
            }
            Self::Status { .. } => {
                "The identity provider did not authenticate the user, or refuses this service provider. The log \
                 of the identity provider says why."
            }
            Self::Unsigned => {
                "Configure the identity provider to sign the assertion or the response."
            }
            Self::UnsignedStatus => {
                "The log of the identity provider says why the sign-in failed. To see the status here, configure the \
                 identity provider to sign the response."
            }
            Self::Signature { why, .. } => match why {
                SignatureError::Shape(_) => {
                    "Configure the identity provider to make enveloped signatures with exclusive \
                     canonicalization (xml-exc-c14n), over the ID of the signed element."
                }
                SignatureError::Algorithm(_) => {
                    "Configure the identity provider to sign with RSA, or with ECDSA on P-256 or \
                     P-384, and SHA-256 or SHA-384, with digests of SHA-256 or stronger and \
                     exclusive canonicalization. SHA-1 is not accepted. SHA-512 is accepted with RSA, \
                     and with ECDSA by a program that was built with the feature `saml-encryption`."
                }
                SignatureError::Digest => {
                    "The response was changed after it was signed, on purpose or by a program in between \
                     that reformats XML."
                }
                SignatureError::Key => {
                    "If the identity provider has a new signing certificate, import its current metadata. Otherwise, \
                     the response comes from somebody else, or was changed in transit."
                }
            },
            Self::Certificate { .. } => {
                "Configure the identity provider to sign with a key whose certificate is valid, \
                 and import its current metadata. If the time is wrong, correct the clock of the broker."
            }
            Self::MetadataExpired { .. } => {
                "Import the identity provider's current metadata. If the time is wrong, correct the clock of the broker."
            }
            Self::Issuer { .. } => {
                "Use the SAML provider whose metadata has the Issuer as its entity ID, or import the metadata of this \
                 issuer."
            }
            Self::Destination(_) | Self::Recipient { .. } => {
                "Enter this broker's assertion consumer URL at the identity provider (whose name for the URL \
                 may be ACS, Reply, Recipient or Destination URL), or add the URL to `[saml] \
                 recipients`."
            }
            Self::Audience { .. } => {
                "Enter this broker's entity ID at the identity provider (whose name for the ID may be Audience, \
                 Entity ID or Relying Party Identifier), or add the audience to `[saml] \
                 audiences`."
            }
            Self::Condition(_) => {
                "Configure the identity provider to use no other conditions than times, \
                 AudienceRestriction, OneTimeUse and ProxyRestriction."
            }
            Self::NoBearer => {
                "Configure the identity provider to use the Web Browser SSO profile, which has a \
                 confirmation with the method urn:oasis:names:tc:SAML:2.0:cm:bearer and without an identifier in it."
            }
            Self::InResponseTo { .. } | Self::Solicited(_) => {
                "The response does not answer the request with which this sign-in began, or its parts answer different \
                 requests. Sign in again, and use the newest response."
            }
            Self::NoEnd => {
                "Configure the identity provider to state NotOnOrAfter in the \
                 SubjectConfirmationData, as the Web Browser SSO profile requires."
            }
            Self::MadeAhead { .. } => {
                "Correct the clock of the identity provider, or of the broker."
            }
            Self::NotYetValid { .. } => {
                "Synchronize the clocks of the identity provider and of this broker with a time \
                 server."
            }
            Self::Expired { .. } => {
                "Sign in again for a new response. If new ones are refused too, synchronize the \
                 clocks of the identity provider and of this broker with a time server."
            }
            Self::NoAuthnStatement => {
                "Configure the identity provider to use the Web Browser SSO profile, whose \
                 assertions have an AuthnStatement."
            }
            Self::NoAttribute(_) => {
                "Configure the identity provider to send this attribute to the broker. The name of the attribute is \
                 case-sensitive."
            }
            Self::RepeatedAttribute(_) => {
                "Configure the identity provider to send the attribute once (Keycloak: switch on \
                 \"Single Role Attribute\"), and with one value unless it is Role or \
                 TransitiveTagKeys."
            }
            Self::TooManyTags => {
                "Configure the identity provider to send at most 50 PrincipalTag attributes."
            }
            Self::Attribute { .. } => {
                "Change the value, or the rule by which the identity provider creates the value."
            }
            Self::RoleNotGranted { .. } => {
                "Configure the identity provider to send the pair `ROLE_ARN,PROVIDER_ARN` as a \
                 value of the attribute https://aws.amazon.com/SAML/Attributes/Role for this \
                 user."
            }
        }
    }
}

fn xml_remedy(error: &XmlError) -> &'static str {
    match error {
        XmlError::TooLong(_) | XmlError::TooMany(_) => {
            "Configure the identity provider to send fewer attributes and values. If it already sends few, the \
             response was changed in transit."
        }
        XmlError::Encoding => "Configure the identity provider to send UTF-8.",
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
            "Pass the response as the identity provider sends it. If you do, report this message to the maker \
             of the identity provider."
        }
    }
}
