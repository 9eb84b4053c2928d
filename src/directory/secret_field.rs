//! The secret of a resource that has one: an access key's secret or an MFA device's seed. A file may
//! hold it in clear; rows hold it sealed under the master key.

use zeroize::Zeroizing;

use super::declared::{Declared, Insertion};
use super::{Declaration, Directory, DirectoryError, fault};
use crate::base::entropy::Entropy;
use crate::base::secret::Secret;
use crate::master_key::{MasterKey, MasterKeyError};

/// The secret as a declared form holds it.
pub struct SecretField<'a> {
    /// The field that holds it in clear, as a file names it: `SecretAccessKey`. Sealed, its name
    /// begins with `Sealed`.
    pub name: &'static str,
    /// What a sealed secret is bound to: the kind, the id and the owner of its resource. Under
    /// another owner it does not open.
    pub bound_to: String,
    /// In clear.
    pub clear: Option<&'a str>,
    /// Sealed.
    pub sealed: Option<&'a str>,
    /// Checks a secret, and gives it the form in which it is kept.
    pub normal: fn(&str) -> Result<Zeroizing<String>, &'static str>,
}

/// The secret to put in the place of the one that is there.
pub enum SecretText {
    /// In clear.
    Clear(Zeroizing<String>),
    /// Sealed under the master key.
    Sealed(String),
}

impl SecretText {
    /// Its two fields: in clear and sealed.
    pub(super) fn into_fields(self) -> (Option<Zeroizing<String>>, Option<String>) {
        match self {
            Self::Clear(text) => (Some(text), None),
            Self::Sealed(text) => (None, Some(text)),
        }
    }
}

/// The names of all fields that hold a secret in clear. Nothing that is shown or recorded has what is
/// in them.
pub const SECRET_FIELDS: [&str; 3] = ["SecretAccessKey", "Base32StringSeed", "PrivateKeyList"];

/// What a sealed secret is bound to.
pub fn sealing_name(kind: &str, name: &str, owner: &str) -> String {
    format!("brevet {kind} v1\n{name}\n{owner}")
}

impl Directory {
    /// The secret of a resource that is put into the snapshot, in the form in which it is kept.
    pub(super) fn open_secret(
        &mut self,
        field: Option<SecretField<'_>>,
        how: &Insertion<'_>,
    ) -> Result<Secret<String>, DirectoryError> {
        let place = how.place;
        let Some(field) = field else {
            return Err(fault(place, "has no secret"));
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
                    "needs the master key it was sealed with",
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
    /// Whether a secret in it is not sealed: the file must then be private.
    pub fn has_clear_secrets(&self) -> bool {
        fn any(list: &[impl Declared]) -> bool {
            list.iter()
                .filter_map(Declared::secret)
                .any(|secret| secret.clear.is_some())
        }
        any(&self.brevet.access_keys) || any(&self.brevet.mfa_devices)
    }

    /// Seals all of its secrets that are in clear. How many there were.
    ///
    /// # Errors
    /// Without randomness; what was sealed by then stays sealed.
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
            + seal(&mut self.brevet.mfa_devices, key, entropy)?)
    }
}
