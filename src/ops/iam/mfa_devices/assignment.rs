//! Assigns MFA devices to users, synchronises their clocks, and deactivates them.

use serde::Deserialize;
use zeroize::Zeroizing;

use super::{device, device_of};
use crate::commands::{Command, Edit};
use crate::directory::resource::{Name, ResourceKind};
use crate::error::Error;
use crate::ops::context::Context;
use crate::ops::iam::action::Action;
use crate::ops::iam::change::change;
use crate::ops::iam::fresh::fresh;
use crate::ops::iam::target::permitted_user;

/// Assigns a device to a user, who proves possession of it with two consecutive codes.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct EnableMfaDevice {
    user_name: String,
    serial_number: String,
    authentication_code1: Zeroizing<String>,
    authentication_code2: Zeroizing<String>,
}

impl Action for EnableMfaDevice {
    const NAME: &'static str = "EnableMFADevice";
    const READ_ONLY: bool = false;
    type Output = ();

    async fn run(self, cx: &mut Context<'_>) -> Result<(), Error> {
        let decide = |cx: &mut Context<'_>| {
            let user = permitted_user::<Self>(cx, Some(&self.user_name))?;
            let device = device(cx, &self.serial_number)?;
            fresh::<Self>(cx, &user)?;
            match device.user_arn.as_deref() {
                None => Ok((user, device)),
                Some(_) => Err(Error::EntityAlreadyExists(
                    "The MFA device is already in use.".to_owned(),
                )),
            }
        };
        let (user, device) = decide(cx)?;
        cx.synchronise(
            &user,
            &device,
            (&self.authentication_code1, &self.authentication_code2),
        )
        .await?;
        change(cx, Self::NAME, |cx| {
            let (user, _) = decide(cx)?;
            Ok(vec![edited(
                &self.serial_number,
                Edit::AssignMfaDevice(user.arn.to_string()),
            )])
        })
        .await
    }
}

/// Learns the offset of a device's clock from two consecutive codes.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct ResyncMfaDevice {
    user_name: String,
    serial_number: String,
    authentication_code1: Zeroizing<String>,
    authentication_code2: Zeroizing<String>,
}

impl Action for ResyncMfaDevice {
    const NAME: &'static str = "ResyncMFADevice";
    const READ_ONLY: bool = false;
    type Output = ();

    async fn run(self, cx: &mut Context<'_>) -> Result<(), Error> {
        let user = permitted_user::<Self>(cx, Some(&self.user_name))?;
        let device = device_of(cx, &user, &self.serial_number)?;
        cx.synchronise(
            &user,
            &device,
            (&self.authentication_code1, &self.authentication_code2),
        )
        .await
    }
}

/// Deactivates a user's device, which can then be assigned again.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct DeactivateMfaDevice {
    user_name: Option<String>,
    serial_number: String,
}

impl Action for DeactivateMfaDevice {
    const NAME: &'static str = "DeactivateMFADevice";
    const READ_ONLY: bool = false;
    type Output = ();

    async fn run(self, cx: &mut Context<'_>) -> Result<(), Error> {
        change(cx, Self::NAME, |cx| {
            let user = permitted_user::<Self>(cx, self.user_name.as_deref())?;
            device_of(cx, &user, &self.serial_number)?;
            fresh::<Self>(cx, &user)?;
            Ok(vec![edited(&self.serial_number, Edit::ReleaseMfaDevice)])
        })
        .await
    }
}

fn edited(serial_number: &str, edit: Edit) -> Command {
    Command::edit(Name::new(ResourceKind::MfaDevice, serial_number), edit)
}
