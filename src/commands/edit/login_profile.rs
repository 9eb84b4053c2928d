//! Changes passwords of users. The hashes of earlier passwords are kept, because the password policy of the account may
//! forbid their reuse.

use zeroize::Zeroizing;

use super::unfit;
use crate::base::clock::Timestamp;
use crate::commands::CommandError;
use crate::directory::resource::Resource;
use crate::password::hash;

/// Sets the password hash and the flag of a login profile, whose secret must be unsealed. `None` keeps a value.
pub(super) fn update(
    resource: &mut Resource,
    password_hash: Option<&str>,
    password_reset_required: Option<bool>,
    now: Timestamp,
) -> Result<(), CommandError> {
    let Resource::LoginProfile(profile) = resource else {
        return Err(unfit(resource, "a password"));
    };
    if let Some(new) = password_hash {
        let old = profile.password_hash.as_deref();
        profile.password_hash = Some(match old {
            Some(old) => hash::with_new(new, old),
            None => Zeroizing::new(new.to_owned()),
        });
        profile.password_last_changed = Some(now.to_string());
    }
    if password_reset_required.is_some() {
        profile.password_reset_required = password_reset_required;
    }
    Ok(())
}

/// Replaces the current hash of a login profile by another hash of the same password. The secret must be unsealed.
///
/// # Errors
/// `Validation` if the current hash belongs to another password, because the password was changed at the same time, or
/// if a hash cannot be read.
pub(super) fn make_anew(resource: &mut Resource, new: &str) -> Result<(), CommandError> {
    let name = resource.name();
    let Resource::LoginProfile(profile) = resource else {
        return Err(unfit(resource, "a password"));
    };
    let hashes = profile.password_hash.as_deref().map(String::as_str);
    let current = hashes.and_then(|hashes| hash::each(hashes).next());
    let mark = |hash: &str| hash::mark(hash).ok();
    match (hashes, current.and_then(mark), mark(new)) {
        (Some(hashes), Some(current), Some(new_mark)) if current == new_mark => {
            profile.password_hash = Some(hash::with_anew(new, hashes));
            Ok(())
        }
        _ => Err(CommandError::Validation(format!(
            "{name}: the stored hash was not replaced, because it is of another password than the new hash, or cannot be \
             read"
        ))),
    }
}
