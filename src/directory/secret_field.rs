//! The secret of a resource: the secret of an access key, the seed of an MFA device, the hashes of a password, the
//! private keys of a SAML provider, the client secret of an OpenID Connect provider. A file may contain it in clear;
//! rows contain it sealed under the master key.

use zeroize::Zeroizing;

/// The secret of a declared resource: its two fields, and how it is checked and sealed.
pub struct SecretField<'a> {
    /// The field of a file that holds the secret in clear, such as `SecretAccessKey`. The field for
    /// the sealed secret has the prefix `Sealed`.
    pub name: &'static str,
    /// The context to which a sealed secret is bound: the kind, the id and the owner of its resource. A sealed secret
    /// that was copied to another owner cannot be opened.
    pub bound_to: String,
    /// The secret in clear, as files may contain it.
    pub clear: Option<&'a str>,
    /// The secret sealed under the master key, as rows contain it.
    pub sealed: Option<&'a str>,
    /// Checks a secret and returns its normal form. The error is the rule that the secret breaks.
    pub normal: fn(&str) -> Result<Zeroizing<String>, &'static str>,
}

/// A new secret for a resource.
pub enum SecretText {
    /// The secret itself, which is wiped when dropped.
    Clear(Zeroizing<String>),
    /// The secret sealed under the master key, in the form that a row contains.
    Sealed(String),
}

impl SecretText {
    /// Returns the values of two fields: that of the secret in clear, and that of the sealed secret. One of them is
    /// `None`.
    pub(super) fn into_fields(self) -> (Option<Zeroizing<String>>, Option<String>) {
        match self {
            Self::Clear(text) => (Some(text), None),
            Self::Sealed(text) => (None, Some(text)),
        }
    }
}

/// The names of all fields that hold a secret in clear. The record of a change does not contain their content.
pub const SECRET_FIELDS: [&str; 6] = [
    "SecretAccessKey",
    "Base32StringSeed",
    "PasswordHash",
    "PrivateKeyList",
    "PrivateKeys",
    "ClientSecret",
];

/// Makes the context to which a sealed secret is bound.
pub fn sealing_name(kind: &str, name: &str, owner: &str) -> String {
    format!("brevet {kind} v1\n{name}\n{owner}")
}
