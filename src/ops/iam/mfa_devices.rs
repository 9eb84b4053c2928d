//! MFA devices: IAM API Reference, "CreateVirtualMFADevice", "EnableMFADevice", "ResyncMFADevice",
//! "DeactivateMFADevice", "DeleteVirtualMFADevice", "ListMFADevices", "ListVirtualMFADevices".
//!
//! A user that has a device changes its own devices with a code of the last 15 minutes only, and not
//! by way of a role either: whoever finds its access key must not be able to take the second factor
//! off.

mod assignment;
mod lists;
mod qr_code;
mod virtual_device;

use std::sync::Arc;

use super::action::{Action, permission};
use crate::base::arn::IamArn;
use crate::directory::{MfaDevice, User};
use crate::error::Error;
use crate::ops::context::Context;

pub use assignment::{DeactivateMfaDevice, EnableMfaDevice, ResyncMfaDevice};
pub use lists::{ListMfaDevices, ListVirtualMfaDevices};
pub use virtual_device::{CreateVirtualMfaDevice, DeleteVirtualMfaDevice};

/// How old a code may be when a user changes its own devices, in seconds.
const FRESH_SECONDS: i64 = 900;

/// A device of the caller's account.
fn device(cx: &Context<'_>, serial_number: &str) -> Result<Arc<MfaDevice>, Error> {
    let account = cx.caller().account();
    let own = |d: &&Arc<MfaDevice>| {
        let arn = d
            .user_arn
            .as_deref()
            .unwrap_or_else(|| d.serial_number.as_str());
        IamArn::parse(arn).is_some_and(|a| a.account == account)
    };
    cx.directory
        .mfa_device(serial_number)
        .filter(own)
        .cloned()
        .ok_or_else(missing)
}

/// A device of that user.
fn device_of(cx: &Context<'_>, user: &User, serial_number: &str) -> Result<Arc<MfaDevice>, Error> {
    Some(device(cx, serial_number)?)
        .filter(|d| d.user_arn.as_deref() == Some(&*user.arn))
        .ok_or_else(missing)
}

fn missing() -> Error {
    Error::NotFound("There is no such MFA device.".to_owned())
}

/// Whoever changes its own devices and has one must have used it lately.
fn fresh<A: Action>(cx: &mut Context<'_>, user: &User) -> Result<(), Error> {
    // A role's session has no code of its own, and the found key makes one as well.
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
    let note = "A user that has an MFA device changes its own devices with a code of the last quarter of an hour alone, and not by way of a role.";
    Err(cx.refuse_because(&permission::<A>(), &user.arn, note))
}
