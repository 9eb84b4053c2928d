//! Creates and deletes virtual MFA devices.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::{device, qr_code};
use crate::base::entropy;
use crate::base::field::FieldError;
use crate::commands::Command;
use crate::directory::declaration::{self, Tag};
use crate::directory::resource::{Name, Resource, ResourceKind};
use crate::error::Error;
use crate::ops::context::Context;
use crate::ops::iam::action::{self, Action, permit};
use crate::ops::iam::change::change;
use crate::ops::iam::creation::{New, permit_creation};

/// The length of a seed in bytes: RFC 4226 section 4, R6.
const SEED_BYTES: usize = 20;
/// The issuer name that an authenticator app shows with the codes.
const ISSUER: &str = "Brevet";

/// Creates a device in the account. EnableMFADevice assigns it to a user later.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct CreateVirtualMfaDevice {
    path: Option<String>,
    #[serde(rename = "VirtualMFADeviceName")]
    name: String,
    #[serde(default)]
    tags: Vec<Tag>,
}

/// The created device with its seed, which no other answer contains.
#[derive(Serialize)]
pub struct Created {
    #[serde(rename = "VirtualMFADevice")]
    device: CreatedDevice,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct CreatedDevice {
    serial_number: String,
    base32_string_seed: String,
    #[serde(rename = "QRCodePNG")]
    qr_code_png: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    tags: Vec<Tag>,
}

impl Action for CreateVirtualMfaDevice {
    const NAME: &'static str = "CreateVirtualMFADevice";
    const READ_ONLY: bool = false;
    const HANDS_OUT: bool = true;
    type Output = Created;

    async fn run(self, cx: &mut Context<'_>) -> Result<Created, Error> {
        let account = cx.caller().account();
        let serial = format!(
            "arn:aws:iam::{account}:mfa{}{}",
            self.path.as_deref().unwrap_or("/"),
            self.name
        );
        let new = New {
            arn: &serial,
            tags: &self.tags,
            boundary: None,
            tagging: "iam:TagMFADevice",
        };
        permit_creation::<Self>(cx, &new)?;
        if serial.len() > 256 {
            let rule = "is too long: the serial number, which contains Path and VirtualMFADeviceName, may have at \
                most 256 characters";
            return Err(FieldError::new("VirtualMFADeviceName", rule).into());
        }
        let random = Zeroizing::new(entropy::bytes::<SEED_BYTES>(&*cx.broker.entropy)?);
        let secret = totp_rs::Secret::from(random.to_vec());
        let seed = Zeroizing::new(secret.to_base32());
        let totp = totp_rs::Builder::new()
            .with_secret(secret)
            .with_account_name(format!("{}@{account}", self.name))
            .with_issuer(Some(ISSUER))
            .build()
            .map_err(|_| Error::InternalFailure)?;
        let url = Zeroizing::new(totp.to_url().map_err(|_| Error::InternalFailure)?);
        let qr_code = qr_code::png(&url)?;
        let device = declaration::MfaDeviceDetail {
            serial_number: serial.clone(),
            base32_string_seed: Some(seed.clone()),
            create_date: Some(cx.now.to_string()),
            tags: self.tags.clone(),
            ..declaration::MfaDeviceDetail::default()
        };
        change(cx, Self::NAME, |cx| {
            permit_creation::<Self>(cx, &new)?;
            Ok(vec![Command::Create(Resource::MfaDevice(device.clone()))])
        })
        .await?;
        Ok(Created {
            device: CreatedDevice {
                serial_number: serial.clone(),
                base32_string_seed: STANDARD.encode(seed.as_bytes()),
                qr_code_png: STANDARD.encode(qr_code.as_slice()),
                tags: self.tags,
            },
        })
    }
}

/// Deletes a device that is not assigned to a user.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct DeleteVirtualMfaDevice {
    serial_number: String,
}

impl Action for DeleteVirtualMfaDevice {
    const NAME: &'static str = "DeleteVirtualMFADevice";
    const READ_ONLY: bool = false;
    type Output = ();

    async fn run(self, cx: &mut Context<'_>) -> Result<(), Error> {
        change(cx, Self::NAME, |cx| {
            let found = device(cx, &self.serial_number);
            let tags = found.as_ref().map(|d| d.tags.to_vec()).unwrap_or_default();
            let resource = action::Resource::new(&self.serial_number, &tags);
            permit::<Self>(cx, &resource)?;
            if found?.user_arn.is_some() {
                let text = "The MFA device is assigned to a user: deactivate the device first.";
                return Err(Error::DeleteConflict(text.to_owned()));
            }
            let name = Name::new(ResourceKind::MfaDevice, self.serial_number.as_str());
            Ok(vec![Command::delete(name)])
        })
        .await
    }
}
