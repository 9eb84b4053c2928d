//! Lists the MFA devices of a user, and the virtual devices of an account.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::directory::MfaDevice;
use crate::directory::resource::{self, ResourceKind};
use crate::error::Error;
use crate::ops::context::Context;
use crate::ops::iam::action::{Action, Resource, permit};
use crate::ops::iam::entities::{self, Extent, UNKNOWN_DATE};
use crate::ops::iam::page::{PageEnd, PageRequest};
use crate::ops::iam::rows;
use crate::ops::iam::target::permitted_user;

/// ListMFADevices: the devices of one user, page by page.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct ListMfaDevices {
    user_name: Option<String>,
    #[serde(flatten)]
    page: PageRequest,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct Devices {
    #[serde(rename = "MFADevices")]
    mfa_devices: Vec<Device>,
    #[serde(flatten)]
    end: PageEnd,
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
        let user = permitted_user::<Self>(cx, self.user_name.as_deref())?;
        let own = |d: &MfaDevice| d.user_arn.as_deref() == Some(&*user.arn);
        let (page, end) = page(cx, own, &self.page)?;
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
            end,
        })
    }
}

/// ListVirtualMFADevices: the virtual devices of the account, page by page.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct ListVirtualMfaDevices {
    assignment_status: Option<String>,
    #[serde(flatten)]
    page: PageRequest,
}

/// One page of an account's virtual devices, without their seeds.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct VirtualDevices {
    #[serde(rename = "VirtualMFADevices")]
    virtual_mfa_devices: Vec<VirtualDevice>,
    #[serde(flatten)]
    end: PageEnd,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct VirtualDevice {
    serial_number: String,
    user: Option<entities::User>,
    enable_date: Option<String>,
}

impl Action for ListVirtualMfaDevices {
    const NAME: &'static str = "ListVirtualMFADevices";
    const READ_ONLY: bool = true;
    type Output = VirtualDevices;

    async fn run(self, cx: &mut Context<'_>) -> Result<VirtualDevices, Error> {
        permit::<Self>(cx, &Resource::any())?;
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
        let (page, end) = page(cx, wanted, &self.page)?;
        let owners: Vec<String> = page
            .iter()
            .filter_map(|d| d.user_arn.as_deref())
            .map(str::to_owned)
            .collect();
        let mut users = rows::by_id(cx, ResourceKind::User, owners).await?;
        permit::<Self>(cx, &Resource::any())?;
        let mut virtual_mfa_devices = Vec::with_capacity(page.len());
        for device in page {
            virtual_mfa_devices.push(VirtualDevice {
                serial_number: device.serial_number.as_str().to_owned(),
                user: match device.user_arn.as_deref().and_then(|arn| users.remove(arn)) {
                    Some(resource::Resource::User(user)) => {
                        Some(entities::User::new(user, Extent::Whole))
                    }
                    _ => None,
                },
                enable_date: device.enable_date.as_deref().map(str::to_owned),
            });
        }
        Ok(VirtualDevices {
            virtual_mfa_devices,
            end,
        })
    }
}

/// Returns one page of the devices for which `wanted` returns `true`, sorted by serial number.
fn page(
    cx: &Context<'_>,
    wanted: impl Fn(&MfaDevice) -> bool,
    page: &PageRequest,
) -> Result<(Vec<Arc<MfaDevice>>, PageEnd), Error> {
    let devices = cx.directory.mfa_devices().filter(|d| wanted(d));
    let (page, end) = page.take(devices, |d| d.serial_number.as_str())?;
    Ok((page.into_iter().cloned().collect(), end))
}
