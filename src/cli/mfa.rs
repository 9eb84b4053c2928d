//! `brevet mfa enroll`: a phone becomes a user's second factor, on the IAM API's own actions.

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
      For yourself.
  brevet mfa enroll --user-name bob --device-name bobs-phone
      For somebody else, as an administrator.";

/// Enroll an MFA device
///
/// A phone or a hardware token becomes a user's second factor. `aws iam` has the other actions on
/// devices: list-mfa-devices, deactivate-mfa-device, resync-mfa-device and so on.
#[derive(Debug, Subcommand)]
#[command(after_long_help = EXAMPLES)]
pub(super) enum MfaCommand {
    Enroll(EnrollArguments),
}

/// Enroll a new device: shows a QR code for a phone, and asks for two codes of it
///
/// Creates a virtual device, shows its key as a QR code and as text (once, here), and enables the
/// device for the user with two codes that follow each other. If that fails three times, the device
/// is deleted again.
#[derive(Debug, Args)]
#[command(after_long_help = ENROLL_EXAMPLES)]
pub(super) struct EnrollArguments {
    #[command(flatten)]
    call: CallArguments,
    /// For this user [default: whoever signs]
    #[arg(long, value_name = "NAME")]
    user_name: Option<String>,
    /// What to call the device [default: the user's name]
    #[arg(long, value_name = "NAME")]
    device_name: Option<String>,
}

/// Tries until the device is given up.
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
        .ok_or("--user-name: whoever signs is no user, so name one")?;
    let name = device_name.unwrap_or_else(|| user.clone());

    let created = client
        .iam("CreateVirtualMFADevice", &[("VirtualMFADeviceName", &name)])
        .await?;
    let field = |name: &str| {
        created
            .pointer(&format!("/VirtualMFADevice/{name}"))
            .and_then(|v| v.as_str())
    };
    let serial = field("SerialNumber").ok_or("the answer has no serial number")?;
    let seed = field("Base32StringSeed").ok_or("the answer has no seed")?;
    let seed = Zeroizing::new(String::from_utf8(STANDARD.decode(seed)?)?);
    show(&seed, &name, &identity.account)?;

    let enabled = enable(client, &user, serial).await;
    match &enabled {
        Ok(()) => {
            print::note(format_args!("\n{user} has the device from now on:"));
            print::line(serial)?;
        }
        // Nobody's device is of no use, and its name would be taken.
        Err(_) => {
            _ = client
                .iam("DeleteVirtualMFADevice", &[("SerialNumber", serial)])
                .await?
        }
    }
    enabled
}

async fn enable(client: &Client, user: &str, serial: &str) -> Result<(), Failure> {
    let mut left = TRIES;
    loop {
        left -= 1;
        let (first, second) = (
            ask("A code of the device")?,
            ask("The code after it (up to 30 seconds later)")?,
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
                    "{error}\nAgain, with two codes that follow each other."
                ))
            }
            Err(error) => return Err(error.into()),
        }
    }
}

/// The seed as a QR code that a phone reads, and in letters. It is shown here and never again.
fn show(seed: &str, name: &str, account: &str) -> Result<(), Failure> {
    let secret =
        totp_rs::Secret::try_from_base32(seed).map_err(|_| "the answer's seed is not base32")?;
    let totp = totp_rs::Builder::new()
        .with_secret(secret)
        .with_account_name(format!("{name}@{account}"))
        .with_issuer(Some("Brevet"))
        .build()?;
    let url = Zeroizing::new(totp.to_url()?);
    let code = QrCode::encode_text(&url, QrCodeEcc::Low).map_err(|e| e.to_string())?;
    print::drawing(&drawn(&code, print::may_colour_stderr()));
    print::note(format_args!(
        "Scan it with an authenticator, or type its key: {seed}\n"
    ));
    Ok(())
}

/// Two rows of modules in a line of text, light ones filled, with a quiet zone around.
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
        return Err("no code was given; nothing was enabled".into());
    }
    Ok(Zeroizing::new(line.trim().to_owned()))
}
