//! `brevet web-identity-token`: gets a token that proves to others who the caller is, and keeps it fresh in
//! a file.

use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{Args, ValueEnum};
use tokio::signal::unix::{SignalKind, signal};

use super::aws::Settings;
use super::{CallArguments, Failure, LogArguments, print, values};
use crate::base::clock::{Clock, SystemClock, Timestamp};
use crate::client::WebIdentityToken;
use crate::files;

const EXAMPLES: &str = "\
Examples:
  brevet web-identity-token --audience https://vault.example.com
      Prints one token.
  brevet web-identity-token --audience sts.amazonaws.com --write /run/app/token
      Writes the file and keeps it fresh until the command is stopped. An AWS SDK uses the token with
      AWS_WEB_IDENTITY_TOKEN_FILE=/run/app/token and AWS_ROLE_ARN.
  brevet web-identity-token --audience vault --write token.jwt --once
      Writes the file once.";

/// Get a JSON Web Token that proves your identity to other services, and keep it fresh in a file
///
/// Calls GetWebIdentityToken. Services that accept JSON Web Tokens (AWS, Vault, Kubernetes, any OpenID
/// Connect relying party) verify the token with the broker's published keys. With --write, the command replaces the
/// file atomically, with mode 0600, when half of the token's lifetime is over. If the broker cannot be reached, the old
/// token stays in the file and the command tries again.
#[derive(Debug, Args)]
#[command(after_long_help = EXAMPLES)]
pub(super) struct WebIdentityTokenArguments {
    #[command(flatten)]
    call: CallArguments,
    /// A service that the token is for, which becomes its `aud`; may be given up to 10 times
    #[arg(long = "audience", value_name = "NAME", required = true)]
    audience: Vec<String>,
    /// Write the token to this file, mode 0600, and keep it fresh [default: print one]
    #[arg(long, value_name = "FILE")]
    write: Option<PathBuf>,
    /// With --write: write the token once and exit
    #[arg(long, requires = "write")]
    once: bool,
    /// How long a token is valid, in seconds: 60 to 3600 [default: 300]
    #[arg(long, value_name = "SECONDS", value_parser = values::seconds)]
    duration_seconds: Option<i32>,
    /// The signature algorithm of the token
    #[arg(long, value_enum, ignore_case = true, default_value_t = Algorithm::Es384)]
    signing_algorithm: Algorithm,
    /// A tag for the token; may be given up to 50 times
    #[arg(long = "tag", value_name = "KEY=VALUE", value_parser = values::tag)]
    tags: Vec<(String, String)>,
    #[command(flatten)]
    pub(super) log: LogArguments,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
#[value(rename_all = "UPPER")]
enum Algorithm {
    /// ECDSA with the curve P-384
    Es384,
    /// ECDSA with the curve P-256
    Es256,
    /// RSA, for services that support nothing else
    Rs256,
    /// EdDSA with the curve Ed25519
    #[value(name = "EdDSA")]
    EdDsa,
}

impl Algorithm {
    fn as_str(self) -> &'static str {
        match self {
            Self::Es384 => "ES384",
            Self::Es256 => "ES256",
            Self::Rs256 => "RS256",
            Self::EdDsa => "EdDSA",
        }
    }
}

/// The pauses after the first and after many failures; each pause is twice as long as the one before.
const RETRY: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(30));
/// The minimum time after which a token is replaced.
const SHORTEST: Duration = Duration::from_secs(5);
/// The interval between reads of the wall clock, which show when the machine has slept.
const LOOK_EVERY: Duration = Duration::from_secs(5);

pub(super) fn run(arguments: &WebIdentityTokenArguments) -> Result<(), Failure> {
    super::runtime()?.block_on(async {
        // Handled before the file is written: whoever waits for the file may stop this program at once.
        let (mut term, mut interrupt) = (
            signal(SignalKind::terminate())?,
            signal(SignalKind::interrupt())?,
        );
        if let Some(path) = &arguments.write {
            check_folder(path)?;
        }
        let token = fetch(arguments).await?;
        let Some(path) = &arguments.write else {
            return print::line(token.token.expose());
        };
        write(path, &token)?;
        if arguments.once {
            return Ok(());
        }
        tokio::select! {
            never = keep_fresh(arguments, path, token) => match never {},
            _ = term.recv() => Ok(()),
            _ = interrupt.recv() => Ok(()),
        }
    })
}

/// Gets one token. The credentials are looked up again for each call, because the credentials of a profile may change.
async fn fetch(arguments: &WebIdentityTokenArguments) -> Result<WebIdentityToken, Failure> {
    let client = Settings::of(&arguments.call)?.client().await?;
    let algorithm = arguments.signing_algorithm.as_str();
    let (audience, tags) = (&arguments.audience, &arguments.tags);
    let token = client
        .get_web_identity_token(audience, algorithm, arguments.duration_seconds, tags)
        .await?;
    // The token goes into files and the requests of other programs, so only the characters of the compact
    // serialization are accepted (RFC 7515 section 3.1).
    let legal = |b: u8| b.is_ascii_alphanumeric() || b"._-".contains(&b);
    if !token.token.expose().bytes().all(legal) {
        return Err(
            "the broker's answer cannot be trusted: the token contains characters that a JSON Web Token never has"
                .into(),
        );
    }
    Ok(token)
}

/// Refuses a path in a folder that does not exist, before any call is made. Otherwise the failed write
/// would say "No such file" about the token, which need not exist.
fn check_folder(path: &Path) -> Result<(), Failure> {
    let folder = files::folder(path);
    if folder.exists() {
        return Ok(());
    }
    Err(format!(
        "--write {}: the folder {} does not exist; create it first",
        path.display(),
        folder.display()
    )
    .into())
}

fn write(path: &Path, token: &WebIdentityToken) -> Result<(), Failure> {
    files::write_private(path, token.token.expose().as_bytes())
        .map_err(|error| format!("--write {error}"))?;
    tracing::info!(file = %path.display(), until = %token.expires_at, "the token was written to the file");
    Ok(())
}

async fn keep_fresh(
    arguments: &WebIdentityTokenArguments,
    path: &Path,
    mut token: WebIdentityToken,
) -> std::convert::Infallible {
    loop {
        until(refresh_at(SystemClock.now(), token.expires_at)).await;
        let mut pause = RETRY.0;
        token = loop {
            let fetched = fetch(arguments)
                .await
                .and_then(|token| write(path, &token).map(|()| token));
            match fetched {
                Ok(token) => break token,
                Err(error) => {
                    let left = token.expires_at.since(SystemClock.now()).as_secs();
                    tracing::warn!(%error, seconds_left = left, "the token in the file could not be replaced; the \
                        old one stays in the file, and the command tries again");
                    tokio::time::sleep(pause).await;
                    pause = (pause * 2).min(RETRY.1);
                }
            }
        };
    }
}

/// When to replace the token: halfway between now and its expiry, at least [`SHORTEST`] from now.
fn refresh_at(now: Timestamp, expires_at: Timestamp) -> Timestamp {
    now.plus((expires_at.since(now) / 2).max(SHORTEST))
}

async fn until(instant: Timestamp) {
    loop {
        let left = instant.since(SystemClock.now());
        if left.is_zero() {
            return;
        }
        tokio::time::sleep(left.min(LOOK_EVERY)).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_replaced_when_half_of_its_life_is_over() {
        let at = Timestamp::from_seconds;
        assert_eq!(refresh_at(at(1_000), at(1_300)), at(1_150));
        assert_eq!(
            refresh_at(at(1_000), at(1_004)),
            at(1_005),
            "never in a hurry"
        );
        assert_eq!(
            refresh_at(at(1_000), at(900)),
            at(1_005),
            "a clock that is ahead"
        );
    }
}
