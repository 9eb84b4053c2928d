//! MFA devices: IAM API Reference, "CreateVirtualMFADevice", "EnableMFADevice", "ResyncMFADevice",
//! "DeactivateMFADevice", "DeleteVirtualMFADevice", "ListMFADevices", "ListVirtualMFADevices".
//!
//! A user that has a device changes its own devices with a code of the last quarter of an hour
//! alone, and not by way of a role either: whoever finds its access key must not be able to take the
//! second factor off.

use std::collections::HashMap;
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::{Action, Target, change, permit};
use crate::base::entropy;
use crate::base::field::FieldError;
use crate::base::names;
use crate::commands::{Command, Edit};
use crate::directory::declaration::{self, Tag};
use crate::directory::resource::{Kind, Name, Resource};
use crate::directory::{MfaDevice, User};
use crate::error::Error;
use crate::ops::context::Context;
use crate::store::Stored;

/// How old a code may be when a user changes its own devices, in seconds.
const FRESH_SECONDS: i64 = 900;
/// Bytes of a seed: RFC 4226 section 4, R6.
const SEED_BYTES: usize = 20;
/// What an authenticator shows the code under.
const ISSUER: &str = "Brevet";

/// A new device of the account, nobody's yet.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct CreateVirtualMfaDevice {
    path: Option<String>,
    #[serde(rename = "VirtualMFADeviceName")]
    name: String,
    #[serde(default)]
    tags: Vec<Tag>,
}

/// The seed is in this answer and in no other.
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
        let asked: Vec<names::Tag> = self
            .tags
            .iter()
            .map(|t| names::Tag {
                key: t.key.clone(),
                value: t.value.clone(),
            })
            .collect();
        // The tags of what is made are the resource's already.
        let permit = |cx: &mut Context<'_>| {
            permit(cx, "iam:CreateVirtualMFADevice", &serial, &asked, &asked)
        };
        permit(cx)?;
        if serial.len() > 256 {
            let rule = "must leave the serial number, path included, at most 256 characters";
            return Err(FieldError::new("VirtualMFADeviceName", rule).into());
        }
        let chance = Zeroizing::new(entropy::bytes::<SEED_BYTES>(&*cx.broker.entropy)?);
        let secret = totp_rs::Secret::from(chance.to_vec());
        let seed = Zeroizing::new(secret.to_base32());
        let totp = totp_rs::Builder::new()
            .with_secret(secret)
            .with_account_name(format!("{}@{account}", self.name))
            .with_issuer(Some(ISSUER))
            .build()
            .map_err(|_| Error::InternalFailure)?;
        let qr_code = Zeroizing::new(totp.to_qr_png().map_err(|_| Error::InternalFailure)?);
        let device = declaration::MfaDeviceDetail {
            serial_number: serial.clone(),
            base32_string_seed: Some(seed.clone()),
            create_date: Some(cx.now.to_string()),
            tags: self.tags.clone(),
            ..declaration::MfaDeviceDetail::default()
        };
        change(cx, |cx| {
            permit(cx)?;
            Ok(vec![Command::Create(Resource::MfaDevice(device.clone()))])
        })
        .await?;
        Ok(Created {
            device: CreatedDevice {
                serial_number: serial,
                base32_string_seed: STANDARD.encode(seed.as_bytes()),
                qr_code_png: STANDARD.encode(qr_code.as_slice()),
                tags: self.tags,
            },
        })
    }
}

/// A device becomes a user's, by two consecutive codes.
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
            let target = Target::find(cx, Some(&self.user_name))?;
            permit(cx, "iam:EnableMFADevice", &target.arn, target.tags(), &[])?;
            let user = target.there()?.clone();
            let device = device(cx, &self.serial_number)?;
            fresh(cx, &user, "iam:EnableMFADevice")?;
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
        change(cx, |cx| {
            let (user, _) = decide(cx)?;
            Ok(vec![edited(
                &self.serial_number,
                Edit::AssignMfaDevice(user.arn.to_string()),
            )])
        })
        .await
    }
}

/// What is known of a device's clock, by two consecutive codes.
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
        let target = Target::find(cx, Some(&self.user_name))?;
        permit(cx, "iam:ResyncMFADevice", &target.arn, target.tags(), &[])?;
        let user = target.there()?;
        let device = device_of(cx, user, &self.serial_number)?;
        cx.synchronise(
            user,
            &device,
            (&self.authentication_code1, &self.authentication_code2),
        )
        .await
    }
}

/// A device is nobody's any more.
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
        change(cx, |cx| {
            let target = Target::find(cx, self.user_name.as_deref())?;
            permit(
                cx,
                "iam:DeactivateMFADevice",
                &target.arn,
                target.tags(),
                &[],
            )?;
            let user = target.there()?;
            device_of(cx, user, &self.serial_number)?;
            fresh(cx, user, "iam:DeactivateMFADevice")?;
            Ok(vec![edited(&self.serial_number, Edit::ReleaseMfaDevice)])
        })
        .await
    }
}

/// A device that is nobody's is no more.
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
        change(cx, |cx| {
            let found = device(cx, &self.serial_number);
            let tags = found.as_ref().map(|d| d.tags.to_vec()).unwrap_or_default();
            permit(
                cx,
                "iam:DeleteVirtualMFADevice",
                &self.serial_number,
                &tags,
                &[],
            )?;
            if found?.user_arn.is_some() {
                let text = "Cannot delete an entity that is in use: deactivate it first.";
                return Err(Error::DeleteConflict(text.to_owned()));
            }
            let name = Name::new(Kind::MfaDevice, self.serial_number.as_str());
            Ok(vec![Command::Delete {
                name,
                expected: None,
            }])
        })
        .await
    }
}

/// A user's devices.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct ListMfaDevices {
    user_name: Option<String>,
    marker: Option<String>,
    max_items: Option<usize>,
}

/// One page of a user's devices.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct Devices {
    #[serde(rename = "MFADevices")]
    mfa_devices: Vec<Device>,
    is_truncated: bool,
    marker: Option<String>,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Device {
    user_name: String,
    serial_number: String,
    enable_date: Option<String>,
}

impl Action for ListMfaDevices {
    const NAME: &'static str = "ListMFADevices";
    const READ_ONLY: bool = true;
    type Output = Devices;

    async fn run(self, cx: &mut Context<'_>) -> Result<Devices, Error> {
        let target = Target::find(cx, self.user_name.as_deref())?;
        permit(cx, "iam:ListMFADevices", &target.arn, target.tags(), &[])?;
        let user = target.there()?;
        let own = |d: &MfaDevice| d.user_arn.as_deref() == Some(&*user.arn);
        let (page, marker) = page(cx, own, self.marker, self.max_items);
        let shown = |device: &Arc<MfaDevice>| Device {
            user_name: user.name.to_string(),
            serial_number: device.serial_number.as_str().to_owned(),
            enable_date: Some(
                device
                    .enable_date
                    .as_deref()
                    .unwrap_or(UNKNOWN_DATE)
                    .to_owned(),
            ),
        };
        Ok(Devices {
            mfa_devices: page.iter().map(shown).collect(),
            is_truncated: marker.is_some(),
            marker,
        })
    }
}

/// The account's virtual devices.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct ListVirtualMfaDevices {
    assignment_status: Option<String>,
    marker: Option<String>,
    max_items: Option<usize>,
}

/// One page of an account's virtual devices; seeds are not in it.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct VirtualDevices {
    #[serde(rename = "VirtualMFADevices")]
    virtual_mfa_devices: Vec<VirtualDevice>,
    is_truncated: bool,
    marker: Option<String>,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct VirtualDevice {
    serial_number: String,
    user: Option<ListedUser>,
    enable_date: Option<String>,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct ListedUser {
    path: String,
    user_name: String,
    user_id: String,
    arn: String,
    create_date: String,
}

impl Action for ListVirtualMfaDevices {
    const NAME: &'static str = "ListVirtualMFADevices";
    const READ_ONLY: bool = true;
    type Output = VirtualDevices;

    async fn run(self, cx: &mut Context<'_>) -> Result<VirtualDevices, Error> {
        let permit = |cx: &mut Context<'_>| permit(cx, "iam:ListVirtualMFADevices", "*", &[], &[]);
        permit(cx)?;
        let prefix = format!("arn:aws:iam::{}:mfa/", cx.caller().account());
        let assigned = match self.assignment_status.as_deref() {
            Some("Assigned") => Some(true),
            Some("Unassigned") => Some(false),
            _ => None,
        };
        let wanted = |d: &MfaDevice| {
            d.serial_number.as_str().starts_with(&prefix)
                && assigned.is_none_or(|a| a == d.user_arn.is_some())
        };
        let (page, marker) = page(cx, wanted, self.marker, self.max_items);
        let owners: Vec<String> = page
            .iter()
            .filter_map(|d| d.user_arn.as_deref())
            .map(str::to_owned)
            .collect();
        let mut rows = HashMap::new();
        if !owners.is_empty() && cx.broker.directory_is_in_the_store {
            for (arn, stored) in cx.wait(cx.broker.store.get_all(Kind::User, owners)).await? {
                rows.insert(arn, stored);
            }
            permit(cx)?;
        }
        let mut virtual_mfa_devices = Vec::with_capacity(page.len());
        for device in page {
            virtual_mfa_devices.push(VirtualDevice {
                serial_number: device.serial_number.as_str().to_owned(),
                user: match &device.user_arn {
                    Some(arn) => listed(cx, arn, rows.get(&**arn))?,
                    None => None,
                },
                enable_date: device.enable_date.as_deref().map(str::to_owned),
            });
        }
        Ok(VirtualDevices {
            virtual_mfa_devices,
            is_truncated: marker.is_some(),
            marker,
        })
    }
}

/// A date that the model requires and nobody wrote down.
const UNKNOWN_DATE: &str = "1970-01-01T00:00:00Z";

fn listed(cx: &Context<'_>, arn: &str, row: Option<&Stored>) -> Result<Option<ListedUser>, Error> {
    let Some(user) = cx.directory.user(arn) else {
        return Ok(None);
    };
    let row = row
        .map(|row| Resource::parse(Kind::User, &row.body))
        .transpose()
        .map_err(|_| Error::InternalFailure)?;
    let (path, create_date) = match row {
        Some(Resource::User(row)) => (row.path, row.create_date),
        _ => (None, None),
    };
    Ok(Some(ListedUser {
        path: path.unwrap_or_else(|| "/".to_owned()),
        user_name: user.name.to_string(),
        user_id: user.id.to_string(),
        arn: user.arn.to_string(),
        create_date: create_date.unwrap_or_else(|| UNKNOWN_DATE.to_owned()),
    }))
}

/// Devices by serial number, behind the marker; and the marker to go on with.
fn page(
    cx: &Context<'_>,
    wanted: impl Fn(&MfaDevice) -> bool,
    marker: Option<String>,
    max_items: Option<usize>,
) -> (Vec<Arc<MfaDevice>>, Option<String>) {
    let behind = |d: &MfaDevice| {
        marker
            .as_deref()
            .is_none_or(|m| d.serial_number.as_str() > m)
    };
    let mut all: Vec<_> = cx
        .directory
        .mfa_devices()
        .filter(|d| wanted(d) && behind(d))
        .cloned()
        .collect();
    all.sort_by(|a, b| a.serial_number.cmp(&b.serial_number));
    let limit = max_items.unwrap_or(100).max(1);
    let more = all.len() > limit;
    all.truncate(limit);
    let marker = all
        .last()
        .filter(|_| more)
        .map(|d| d.serial_number.as_str().to_owned());
    (all, marker)
}

fn edited(serial_number: &str, edit: Edit) -> Command {
    Command::Edit {
        name: Name::new(Kind::MfaDevice, serial_number),
        edit,
        expected: None,
    }
}

/// A device of the caller's account.
fn device(cx: &Context<'_>, serial_number: &str) -> Result<Arc<MfaDevice>, Error> {
    let account = cx.caller().account();
    let own = |d: &&Arc<MfaDevice>| {
        let arn = d
            .user_arn
            .as_deref()
            .unwrap_or_else(|| d.serial_number.as_str());
        crate::base::arn::IamArn::parse(arn).is_some_and(|a| a.account == account)
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
fn fresh(cx: &mut Context<'_>, user: &User, action: &str) -> Result<(), Error> {
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
    Err(cx.refuse_because(action, &user.arn, note))
}
