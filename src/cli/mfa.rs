//! `brevet mfa enroll`: makes a phone a user's second factor, by calling actions of the IAM API.

use std::io::{BufRead, Write};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use clap::{Args, Subcommand};
use qrcodegen::{QrCode, QrCodeEcc};
use zeroize::Zeroizing;

use super::aws::Settings;
use super::{CallArguments, Failure, print};
use crate::client::Client;

const EXAMPLES: &str = "\
Examples:
  brevet mfa enroll";

const ENROLL_EXAMPLES: &str = "\
Examples:
  brevet mfa enroll
      Enrolls a device for yourself.
  brevet mfa enroll --user-name bob --device-name bobs-phone
      Enrolls a device for somebody else, as an administrator.";

/// Enroll an MFA device
///
/// Makes an authenticator app a user's second factor. For everything else use `aws iam`:
/// list-mfa-devices, deactivate-mfa-device, resync-mfa-device and so on.
#[derive(Debug, Subcommand)]
#[command(after_long_help = EXAMPLES)]
pub(super) enum MfaCommand {
    Enroll(EnrollArguments),
}

/// Enroll a new device: shows a QR code for a phone, and asks for two codes from it
///
/// Creates a virtual device, shows its key once as a QR code and as text, and enables the device for
/// the user with two consecutive codes. If the codes are refused three times, the device is deleted again.
#[derive(Debug, Args)]
#[command(after_long_help = ENROLL_EXAMPLES)]
pub(super) struct EnrollArguments {
    #[command(flatten)]
    call: CallArguments,
    /// The user who gets the device [default: the user whose credentials sign the call]
    #[arg(long, value_name = "NAME")]
    user_name: Option<String>,
    /// The name of the device [default: the user's name]
    #[arg(long, value_name = "NAME")]
    device_name: Option<String>,
}

/// After this many failed attempts the device is deleted.
const TRIES: usize = 3;

pub(super) fn run(command: MfaCommand) -> Result<(), Failure> {
    let MfaCommand::Enroll(arguments) = command;
    super::runtime()?.block_on(async {
        let client = Settings::of(&arguments.call)?.client().await?;
        enroll(&client, arguments.user_name, arguments.device_name).await
    })
}

async fn enroll(
    client: &Client,
    user_name: Option<String>,
    device_name: Option<String>,
) -> Result<(), Failure> {
    let identity = client.get_caller_identity().await?;
    let own = || {
        identity
            .arn
            .split_once(":user/")
            .and_then(|(_, path)| path.rsplit('/').next())
            .map(str::to_owned)
    };
    let user = user_name
        .or_else(own)
        .ok_or("--user-name: is required, since your credentials are not those of a user")?;
    let name = device_name.unwrap_or_else(|| user.clone());

    let created = client
        .iam("CreateVirtualMFADevice", &[("VirtualMFADeviceName", &name)])
        .await?;
    let field = |name: &str| {
        created
            .pointer(&format!("/VirtualMFADevice/{name}"))
            .and_then(|v| v.as_str())
    };
    let serial = field("SerialNumber").ok_or("the broker's answer has no SerialNumber")?;
    let show_seed = || -> Result<(), Failure> {
        let seed =
            field("Base32StringSeed").ok_or("the broker's answer has no Base32StringSeed")?;
        let seed = Zeroizing::new(String::from_utf8(STANDARD.decode(seed)?)?);
        show(&seed, &name, &identity.account)
    };
    let enabled = match show_seed() {
        Ok(()) => enable(client, &user, serial).await,
        Err(error) => Err(error),
    };
    match &enabled {
        Ok(()) => {
            print::note(format_args!("\nThe device is enabled for {user}:"));
            print::line(serial)?;
        }
        // A device that was not enabled is useless, and would keep its name taken.
        Err(_) => {
            let deleted = client
                .iam("DeleteVirtualMFADevice", &[("SerialNumber", serial)])
                .await;
            match deleted {
                Ok(_) => print::note(format_args!(
                    "The device {serial} was not enabled, and is deleted."
                )),
                Err(error) => print::note(format_args!(
                    "The device {serial} was not enabled, and could not be deleted: {}\nDelete it before you enroll a \
                     device with this name again: `aws iam delete-virtual-mfa-device --serial-number {serial}`",
                    print::visible(&error.to_string())
                )),
            }
        }
    }
    enabled
}

async fn enable(client: &Client, user: &str, serial: &str) -> Result<(), Failure> {
    let mut left = TRIES;
    loop {
        left -= 1;
        let (first, second) = (
            ask("A code from the device")?,
            ask("The next code (wait up to 30 seconds)")?,
        );
        let parameters = [
            ("UserName", user),
            ("SerialNumber", serial),
            ("AuthenticationCode1", &*first),
            ("AuthenticationCode2", &*second),
        ];
        match client.iam("EnableMFADevice", &parameters).await {
            Ok(_) => return Ok(()),
            Err(error) if left > 0 => {
                let error = print::visible(&error.to_string());
                print::note(format_args!(
                    "{error}\nTry again, with two consecutive codes."
                ))
            }
            Err(error) => return Err(error.into()),
        }
    }
}

/// Prints the seed as a QR code and as text to standard error. It cannot be shown again later.
fn show(seed: &str, name: &str, account: &str) -> Result<(), Failure> {
    let secret = totp_rs::Secret::try_from_base32(seed).map_err(
        |_| "the seed in the broker's answer is not base32, so the device cannot be set up",
    )?;
    let totp = totp_rs::Builder::new()
        .with_secret(secret)
        .with_account_name(format!("{name}@{account}"))
        .with_issuer(Some("Brevet"))
        .build()?;
    let url = Zeroizing::new(totp.to_url()?);
    let code = QrCode::encode_text(&url, QrCodeEcc::Low).map_err(|e| e.to_string())?;
    print::drawing(&drawn(&code, print::may_colour_stderr()));
    print::note(format_args!(
        "Scan the QR code with an authenticator app, or enter this key: {seed}\n"
    ));
    Ok(())
}

/// Draws a QR code in text. Each line shows two rows of modules, with the light ones filled, and the
/// code has a margin of two modules.
fn drawn(code: &QrCode, colours: bool) -> String {
    let light = |x: i32, y: i32| !code.get_module(x, y);
    let (begin, end) = if colours {
        ("\u{1b}[97;40m", "\u{1b}[0m")
    } else {
        ("", "")
    };
    let mut out = String::new();
    for y in (-2..code.size() + 2).step_by(2) {
        out.push_str(begin);
        for x in -2..code.size() + 2 {
            out.push(match (light(x, y), light(x, y + 1)) {
                (true, true) => '█',
                (true, false) => '▀',
                (false, true) => '▄',
                (false, false) => ' ',
            });
        }
        out.push_str(end);
        out.push('\n');
    }
    out.truncate(out.trim_end_matches('\n').len());
    out
}

fn ask(what: &str) -> Result<Zeroizing<String>, Failure> {
    write!(std::io::stderr(), "{what}: ")?;
    std::io::stderr().flush()?;
    let mut line = Zeroizing::new(String::new());
    if std::io::stdin().lock().read_line(&mut line)? == 0 {
        return Err(
            "no code was entered, so the MFA device was not enabled; run the command again".into(),
        );
    }
    Ok(Zeroizing::new(line.trim().to_owned()))
}
