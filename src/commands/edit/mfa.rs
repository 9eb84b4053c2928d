//! Assigns MFA devices to users, and removes them again. A device belongs to at most one user.

use super::unfit;
use crate::base::clock::Timestamp;
use crate::commands::CommandError;
use crate::directory::declaration::MfaDeviceDetail;
use crate::directory::resource::Resource;

pub(super) fn assign(
    resource: &mut Resource,
    user_arn: &str,
    now: Timestamp,
) -> Result<(), CommandError> {
    let device = of(resource)?;
    if !device.user_arn.is_empty() {
        let what = format!(
            "a user to whom the MFA device {} is assigned",
            device.serial_number
        );
        return Err(CommandError::EntityAlreadyExists(what.into()));
    }
    user_arn.clone_into(&mut device.user_arn);
    device.enable_date = Some(now.to_string());
    Ok(())
}

pub(super) fn release(resource: &mut Resource) -> Result<(), CommandError> {
    let device = of(resource)?;
    if device.user_arn.is_empty() {
        let what = format!(
            "user to whom the MFA device {} is assigned",
            device.serial_number
        );
        return Err(CommandError::NoSuchEntity(what.into()));
    }
    device.user_arn.clear();
    device.enable_date = None;
    Ok(())
}

fn of(resource: &mut Resource) -> Result<&mut MfaDeviceDetail, CommandError> {
    match resource {
        Resource::MfaDevice(device) => Ok(device),
        other => Err(unfit(other, "a user")),
    }
}
