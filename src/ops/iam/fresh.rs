//! The rule for users who change their own credentials. A user that has an MFA device may change its own devices and
//! access keys, and its own password without the old one, only with an MFA code from the last 15 minutes, and not
//! through a role. Without this rule, a thief of the user's access key could remove the second factor or make more
//! keys.

use super::action::{Action, permission};
use crate::directory::User;
use crate::error::Error;
use crate::ops::context::Context;

/// The maximum age in seconds of the MFA code with which a user may change its own credentials.
const FRESH_SECONDS: i64 = 900;

/// Checks that a caller who changes its own credentials has given an MFA code recently, if it has
/// an MFA device.
///
/// # Errors
/// [`Error::AccessDenied`] if the code is older than [`FRESH_SECONDS`], or if there was none.
pub(super) fn fresh<A: Action>(cx: &mut Context<'_>, user: &User) -> Result<(), Error> {
    // A role session has no code of its own, and a stolen key can make one just as easily.
    let own = cx.caller().user_behind() == Some(&*user.id);
    let protected = || {
        cx.directory
            .mfa_devices()
            .any(|d| d.user_arn.as_deref() == Some(&*user.arn))
    };
    let is_fresh = cx
        .caller()
        .mfa_age(cx.now)
        .is_some_and(|age| age <= FRESH_SECONDS);
    if !own || is_fresh || !protected() {
        return Ok(());
    }
    let note = "To change your own MFA devices, access keys or password, use a session of your own with an MFA code from the last 15 minutes, not a role session.";
    Err(cx.refuse_because(&permission::<A>(), &user.arn, note))
}
