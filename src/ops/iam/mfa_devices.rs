//! MFA devices: IAM API Reference, "CreateVirtualMFADevice", "EnableMFADevice", "ResyncMFADevice",
//! "DeactivateMFADevice", "DeleteVirtualMFADevice", "ListMFADevices", "ListVirtualMFADevices".

mod assignment;
mod lists;
mod qr_code;
mod virtual_device;

use std::sync::Arc;

use crate::base::arn::IamArn;
use crate::directory::{MfaDevice, User};
use crate::error::Error;
use crate::ops::context::Context;

pub use assignment::{DeactivateMfaDevice, EnableMfaDevice, ResyncMfaDevice};
pub use lists::{ListMfaDevices, ListVirtualMfaDevices};
pub use virtual_device::{CreateVirtualMfaDevice, DeleteVirtualMfaDevice};

/// Returns the device with this serial number if it belongs to the caller's account.
///
/// # Errors
/// [`Error::NotFound`] if it does not.
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
        .ok_or_else(|| missing("account"))
}

/// Returns the device with this serial number if it is assigned to the user.
///
/// # Errors
/// [`Error::NotFound`] if it is not.
fn device_of(cx: &Context<'_>, user: &User, serial_number: &str) -> Result<Arc<MfaDevice>, Error> {
    Some(device(cx, serial_number)?)
        .filter(|d| d.user_arn.as_deref() == Some(&*user.arn))
        .ok_or_else(|| missing("user"))
}

fn missing(owner: &str) -> Error {
    Error::NotFound(format!(
        "The {owner} has no MFA device with this serial number."
    ))
}
