//! MFA devices: IAM API Reference, "CreateVirtualMFADevice", "EnableMFADevice", "ResyncMFADevice",
//! "DeactivateMFADevice", "DeleteVirtualMFADevice", "ListMFADevices", "ListVirtualMFADevices".
//!
//! A user that has a device may change its own devices only with an MFA code from the last 15
//! minutes, and not through a role. Otherwise, whoever finds the user's access key could remove the
//! second factor.

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

/// The maximum age in seconds of the MFA code with which a user may change its own devices.
const FRESH_SECONDS: i64 = 900;

/// The device with this serial number, if it belongs to the caller's account.
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

/// The device with this serial number, if it is assigned to the user.
fn device_of(cx: &Context<'_>, user: &User, serial_number: &str) -> Result<Arc<MfaDevice>, Error> {
    Some(device(cx, serial_number)?)
        .filter(|d| d.user_arn.as_deref() == Some(&*user.arn))
        .ok_or_else(missing)
}

fn missing() -> Error {
    Error::NotFound("There is no such MFA device.".to_owned())
}

/// Checks that a caller that changes its own devices, and has one, has given a code recently.
fn fresh<A: Action>(cx: &mut Context<'_>, user: &User) -> Result<(), Error> {
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
    let note = "To change your own MFA devices, use a session of your own with an MFA code from the last 15 minutes, not a role session.";
    Err(cx.refuse_because(&permission::<A>(), &user.arn, note))
}
