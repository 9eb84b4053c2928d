//! The secret of a resource: the secret of an access key or the seed of an MFA device. A file may
//! contain it in clear; rows contain it sealed under the master key.

use zeroize::Zeroizing;

use super::declared::{Declared, Insertion};
use super::{Declaration, Directory, DirectoryError, fault};
use crate::base::entropy::Entropy;
use crate::base::secret::Secret;
use crate::master_key::{MasterKey, MasterKeyError};

/// The secret in a declared form.
pub struct SecretField<'a> {
    /// The field of a file that holds the secret in clear, such as `SecretAccessKey`. The field for
    /// the sealed secret has the prefix `Sealed`.
    pub name: &'static str,
    /// The context to which a sealed secret is bound: the kind, the id and the owner of its
    /// resource. It cannot be opened for another owner.
    pub bound_to: String,
    /// The secret in clear, as files may contain it.
    pub clear: Option<&'a str>,
    /// The secret sealed under the master key, as rows contain it.
    pub sealed: Option<&'a str>,
    /// Checks a secret and returns its normal form. The error is the rule that it breaks.
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
    /// The values of the two fields, in clear and sealed.
    pub(super) fn into_fields(self) -> (Option<Zeroizing<String>>, Option<String>) {
        match self {
            Self::Clear(text) => (Some(text), None),
            Self::Sealed(text) => (None, Some(text)),
        }
    }
}

/// The names of all fields that hold a secret in clear. Their content is never shown or recorded.
pub const SECRET_FIELDS: [&str; 4] = [
    "SecretAccessKey",
    "Base32StringSeed",
    "PrivateKeyList",
    "PrivateKeys",
];

/// The context to which a sealed secret is bound.
pub fn sealing_name(kind: &str, name: &str, owner: &str) -> String {
    format!("brevet {kind} v1\n{name}\n{owner}")
}

impl Directory {
    /// Opens the secret of a resource that is added to the snapshot, in its normal form.
    pub(super) fn open_secret(
        &mut self,
        field: Option<SecretField<'_>>,
        how: &Insertion<'_>,
    ) -> Result<Secret<String>, DirectoryError> {
        let place = how.place;
        let Some(field) = field else {
            return Err(fault(place, "must have a secret"));
        };
        let name = field.name;
        let secret = match (field.clear, field.sealed, how.master_key) {
            (Some(clear), None, _) => {
                self.clear_secrets += 1;
                Secret::new(clear.to_owned())
            }
            (None, Some(sealed), Some(key)) => key
                .open(&field.bound_to, sealed)
                .map_err(|e| fault(format!("{place}: Sealed{name}"), e.to_string()))?,
            (None, Some(_), None) => {
                return Err(fault(
                    format!("{place}: Sealed{name}"),
                    "needs the master key with which it was sealed ([directory] master_key)",
                ));
            }
            _ => {
                return Err(fault(
                    place,
                    format!("either {name} or Sealed{name} is required"),
                ));
            }
        };
        let normal = (field.normal)(secret.expose());
        let mut normal = normal.map_err(|rule| fault(format!("{place}: {name}"), rule))?;
        Ok(Secret::new(std::mem::take(&mut *normal)))
    }
}

impl Declaration {
    /// Whether a secret in the declaration is in clear; the file must then be private.
    pub fn has_clear_secrets(&self) -> bool {
        fn any(list: &[impl Declared]) -> bool {
            list.iter()
                .filter_map(Declared::secret)
                .any(|secret| secret.clear.is_some())
        }
        any(&self.brevet.access_keys)
            || any(&self.brevet.mfa_devices)
            || any(&self.brevet.saml_providers)
    }

    /// Seals all secrets that are in clear and returns their number.
    ///
    /// # Errors
    /// [`MasterKeyError`] if there are no random bytes. Secrets that were sealed before stay
    /// sealed.
    pub fn seal_secrets(
        &mut self,
        key: &MasterKey,
        entropy: &dyn Entropy,
    ) -> Result<usize, MasterKeyError> {
        fn seal(
            list: &mut [impl Declared],
            key: &MasterKey,
            entropy: &dyn Entropy,
        ) -> Result<usize, MasterKeyError> {
            let mut count = 0;
            for form in list {
                let Some(field) = form.secret() else { continue };
                if let Some(clear) = field.clear {
                    let sealed = key.seal(&field.bound_to, clear.as_bytes(), entropy)?;
                    form.set_secret(SecretText::Sealed(sealed));
                    count += 1;
                }
            }
            Ok(count)
        }
        Ok(seal(&mut self.brevet.access_keys, key, entropy)?
            + seal(&mut self.brevet.mfa_devices, key, entropy)?
            + seal(&mut self.brevet.saml_providers, key, entropy)?)
    }
}
