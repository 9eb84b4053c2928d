//! Opens the secrets of resources that are added to a snapshot, and seals those that a file has in
//! clear.

use super::declared::{Declared, Insertion};
use super::secret_field::{SecretField, SecretText};
use super::{Declaration, Directory, DirectoryError, fault};
use crate::base::entropy::Entropy;
use crate::base::secret::Secret;
use crate::master_key::{MasterKey, MasterKeyError};

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
                    "cannot be opened without its master key: set [directory] master_key",
                ));
            }
            _ => {
                return Err(fault(
                    place,
                    format!("exactly one of {name} and Sealed{name} must be given"),
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
            || any(&self.brevet.login_profiles)
            || any(&self.brevet.saml_providers)
            || any(&self.brevet.open_id_connect_providers)
    }

    /// Seals all secrets that are in clear and returns their number.
    ///
    /// # Errors
    /// [`MasterKeyError`] if a secret cannot be sealed; the secrets that were sealed until then stay sealed.
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
            + seal(&mut self.brevet.login_profiles, key, entropy)?
            + seal(&mut self.brevet.saml_providers, key, entropy)?
            + seal(&mut self.brevet.open_id_connect_providers, key, entropy)?)
    }
}
