//! The page with the MFA devices of the signed-in user, and the enrolment of a new one: the user
//! scans a QR code and enters two consecutive codes.

use std::time::Duration;

use askama::Template;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use qrcodegen::{QrCode, QrCodeEcc};
use serde::{Deserialize, Serialize};
use zeroize::{Zeroize, Zeroizing};

use super::account;
use super::answer::Answer;
use super::confirmation::{Change, again, form_status};
use super::form::Form;
use super::frame::{Frame, Moment};
use super::problem::{Problem, retry_after, text_of};
use super::visit::{SignedInUser, Visit, encoded};
use crate::ops::iam::mfa_devices::{
    CreateVirtualMfaDevice, DeleteVirtualMfaDevice, EnableMfaDevice, ListMfaDevices,
};
use crate::sign_in::pending;

/// The kind of [`pending`] value for a device that was created and is not assigned yet.
const ENROLMENT: &str = "enrolment";
/// The time limit for entering the two codes of a new device.
const WITHIN: Duration = Duration::from_secs(900);
/// The width in modules of the light border around a QR code: ISO/IEC 18004, "quiet zone".
const QUIET_ZONE: i32 = 4;

#[derive(Template)]
#[template(path = "mfa.html", config = "src/portal/askama.toml")]
struct Page<'a> {
    frame: Frame<'a>,
    devices: Vec<Device>,
}

struct Device {
    serial: String,
    encoded: String,
    since: Option<Moment>,
}

#[derive(Template)]
#[template(path = "enrol.html", config = "src/portal/askama.toml")]
struct EnrolPage<'a> {
    frame: Frame<'a>,
    pending: &'a str,
    qr: &'a Drawing,
    seed: &'a str,
}

/// A QR code as an SVG path, in modules.
struct Drawing {
    side: i32,
    path: String,
}

/// A device that was created for a user, who must still enter its two codes.
#[derive(Serialize, Deserialize)]
struct Enrolment {
    user_id: String,
    serial: String,
    seed: String,
}

impl Drop for Enrolment {
    fn drop(&mut self) {
        self.seed.zeroize();
    }
}

/// Shows the page with the user's MFA devices.
pub(super) async fn page(visit: &mut Visit<'_>) -> Result<Answer, Problem> {
    let signed_in = match visit.must_be_signed_in() {
        Ok(signed_in) => signed_in,
        Err(answer) => return Ok(*answer),
    };
    let me = visit.user_of(&signed_in.sign_in)?;
    let of = [("UserName", &*me.user.name)];
    let listed = account::call::<ListMfaDevices>(visit, &me, &of, &[]).await;
    let (devices, alert) = match listed {
        Ok(listed) => (devices(&listed), None),
        Err(refused) => {
            visit.request_id = refused.request_id;
            (Vec::new(), Some(text_of(visit.t, &refused.error)))
        }
    };
    Ok(Answer::page(&Page {
        devices,
        frame: visit.frame().alert(alert).done(Change::done(visit)?),
    })?)
}

fn devices(listed: &serde_json::Value) -> Vec<Device> {
    let all = listed.get("MFADevices").and_then(|all| all.as_array());
    let device = |device: &serde_json::Value| {
        let text = |name: &str| device.get(name).and_then(|value| value.as_str());
        let serial = text("SerialNumber")?;
        Some(Device {
            serial: serial.to_owned(),
            encoded: encoded(serial),
            since: text("EnableDate").map(Moment::of),
        })
    };
    all.into_iter().flatten().filter_map(device).collect()
}

/// Creates a device, and shows its seed as a QR code for the user to scan.
pub(super) async fn begin(visit: &mut Visit<'_>, me: &SignedInUser) -> Result<Answer, Problem> {
    let name = free_name(visit, me);
    // What an earlier attempt has left behind is of no use, because nobody has its seed any more.
    let serial = format!("arn:aws:iam::{}:mfa/{name}", me.account);
    if visit.broker.directory.load().mfa_device(&serial).is_some() {
        let left = [("SerialNumber", &*serial)];
        let deleted = account::call::<DeleteVirtualMfaDevice>(visit, me, &left, &[]).await;
        if let Err(refused) = deleted {
            return again(visit, me, Change::AddDevice, "", refused);
        }
    }
    let named = [("VirtualMFADeviceName", &*name)];
    let made = match account::call::<CreateVirtualMfaDevice>(visit, me, &named, &[]).await {
        Ok(made) => made,
        Err(refused) => return again(visit, me, Change::AddDevice, "", refused),
    };
    let text = |name: &str| made.pointer(name).and_then(|value| value.as_str());
    let seed =
        text("/VirtualMFADevice/Base32StringSeed").and_then(|seed| STANDARD.decode(seed).ok());
    let seed = seed.and_then(|seed| String::from_utf8(seed).ok());
    let (Some(serial), Some(seed)) = (text("/VirtualMFADevice/SerialNumber"), seed) else {
        return Err(Problem::fault(
            "the answer of CreateVirtualMFADevice has no device",
        ));
    };
    let enrolment = Enrolment {
        user_id: me.user.id.to_string(),
        serial: serial.to_owned(),
        seed,
    };
    let kept = pending::keep(visit.broker, ENROLMENT, &enrolment, WITHIN, visit.origin).await;
    let handle = kept.map_err(|error| Problem::refused(&error, None))?;
    enrol_page(visit, me, &enrolment, handle.expose(), None)
}

/// Returns a free name for a new device: the user's name, with the end of the user's id and a number if a device of
/// that name is assigned already.
fn free_name(visit: &Visit<'_>, me: &SignedInUser) -> String {
    let directory = visit.broker.directory.load();
    let is_taken = |name: &str| {
        let serial = format!("arn:aws:iam::{}:mfa/{name}", me.account);
        let device = directory.mfa_device(&serial);
        device.is_some_and(|device| device.user_arn.is_some())
    };
    let first = me.user.name.to_string();
    // Another user may be called like this one with a number.
    let own = me
        .user
        .id
        .get(me.user.id.len().saturating_sub(6)..)
        .unwrap_or_default();
    let more = (2..100).map(|n| format!("{first}-{own}-{n}"));
    let mut names = std::iter::once(first.clone()).chain(more);
    names.find(|name| !is_taken(name)).unwrap_or(first)
}

fn enrol_page(
    visit: &Visit<'_>,
    me: &SignedInUser,
    enrolment: &Enrolment,
    pending: &str,
    alert: Option<String>,
) -> Result<Answer, Problem> {
    let label = format!("{}@{}", me.user.name, me.account);
    let uri = Zeroizing::new(format!(
        "otpauth://totp/Brevet:{}?secret={}&issuer=Brevet",
        encoded(&label),
        enrolment.seed
    ));
    let drawing = draw(&uri)
        .ok_or_else(|| Problem::fault("the address of the device is too long for a QR code"))?;
    Ok(Answer::page(&EnrolPage {
        pending,
        qr: &drawing,
        seed: &enrolment.seed,
        frame: visit.frame().narrow().alert(alert),
    })?)
}

/// Encodes a text as a QR code; `None` if the text is too long for one.
fn draw(text: &str) -> Option<Drawing> {
    let code = QrCode::encode_text(text, QrCodeEcc::Medium).ok()?;
    let mut path = String::new();
    for y in 0..code.size() {
        let mut x = 0;
        while x < code.size() {
            let from = x;
            while x < code.size() && code.get_module(x, y) {
                x += 1;
            }
            match x - from {
                0 => x += 1,
                // A run of dark modules.
                run => path.push_str(&format!(
                    "M{} {}h{run}v1h-{run}z",
                    from + QUIET_ZONE,
                    y + QUIET_ZONE
                )),
            }
        }
    }
    Some(Drawing {
        side: code.size() + 2 * QUIET_ZONE,
        path,
    })
}

/// Assigns a new device to the user, after checking two consecutive codes of it.
pub(super) async fn enrol(visit: &mut Visit<'_>, mut form: Form) -> Result<Answer, Problem> {
    let Some(signed_in) = visit.signed_in.clone() else {
        return Err(Problem::ended());
    };
    let me = visit.user_of(&signed_in.sign_in)?;
    let handle = form.take("pending");
    let (first, second) = (form.code("code1"), form.code("code2"));
    let enrolment = pending::look::<Enrolment>(visit.broker, ENROLMENT, &handle).await;
    let enrolment = enrolment.map_err(|error| Problem::refused(&error, None))?;
    let Some(enrolment) = enrolment.filter(|e| *e.user_id == *me.user.id) else {
        return Ok(Answer::go_to("/portal/mfa"));
    };
    let device = [
        ("UserName", &*me.user.name),
        ("SerialNumber", &*enrolment.serial),
    ];
    let codes = [
        ("AuthenticationCode1", &**first),
        ("AuthenticationCode2", &**second),
    ];
    if let Err(refused) = account::call::<EnableMfaDevice>(visit, &me, &device, &codes).await {
        visit.request_id = refused.request_id;
        let (error, text) = (&refused.error, text_of(visit.t, &refused.error));
        let answer = enrol_page(visit, &me, &enrolment, &handle, Some(text))?;
        return Ok(answer
            .with_status(form_status(error))
            .with_retry_after(retry_after(error)));
    }
    let taken = pending::take::<Enrolment>(visit.broker, ENROLMENT, &handle).await;
    taken.map_err(|error| Problem::refused(&error, None))?;
    Ok(Answer::go_to("/portal/mfa?done=add"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_drawing_has_the_modules_of_the_code() {
        let text = "otpauth://totp/Brevet:alice?secret=GEZDGNBVGY3TQOJQ";
        let drawing = draw(text).unwrap();
        let code = QrCode::encode_text(text, QrCodeEcc::Medium).unwrap();
        assert_eq!(drawing.side, code.size() + 8);
        // The finder pattern in the corner begins with a run of seven.
        assert!(drawing.path.starts_with("M4 4h7v1h-7z"), "{}", drawing.path);
        let dark: i32 = drawing
            .path
            .split('h')
            .skip(1)
            .filter_map(|run| run.split('v').next()?.parse::<i32>().ok())
            .filter(|run| *run > 0)
            .sum();
        let all = (0..code.size()).flat_map(|y| (0..code.size()).map(move |x| (x, y)));
        let expected = all.filter(|(x, y)| code.get_module(*x, *y)).count();
        assert_eq!(dark, i32::try_from(expected).unwrap());
        assert!(draw(&"x".repeat(3_000)).is_none());
    }
}
