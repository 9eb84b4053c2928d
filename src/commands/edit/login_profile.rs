//! Changes passwords of users. The hashes of earlier passwords are kept, so that those are not
//! chosen again.

use zeroize::Zeroizing;

use super::unfit;
use crate::base::clock::Timestamp;
use crate::commands::CommandError;
use crate::directory::resource::Resource;
use crate::password::hash;

/// Changes a login profile whose hashes are not sealed.
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
