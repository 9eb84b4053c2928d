//! `brevet web-identity-token`: a signed statement of who the caller is, in a file that stays fresh.

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
      Writes the file and keeps it fresh until it is stopped. AWS_WEB_IDENTITY_TOKEN_FILE=/run/app/token
      and AWS_ROLE_ARN then log any AWS SDK in to AWS.
  brevet web-identity-token --audience vault --write token.jwt --once
      Writes the file once.";

/// Get a JSON Web Token that tells others who you are, and keep it fresh in a file
///
/// Calls GetWebIdentityToken. Services that take JSON Web Tokens (AWS, Vault, Kubernetes, any
/// OpenID Connect relying party) check the token by the broker's published keys. With --write the
/// file is replaced as a whole, with mode 0600, when half of the token's life is over; if the broker
/// cannot be reached the old token stays and the call is tried again.
#[derive(Debug, Args)]
#[command(after_long_help = EXAMPLES)]
pub(super) struct WebIdentityTokenArguments {
    #[command(flatten)]
    call: CallArguments,
    /// Whom the token is for; may be given ten times
    #[arg(long = "audience", value_name = "NAME", required = true)]
    audience: Vec<String>,
    /// Write the token to this file, mode 0600, and keep it fresh [default: print one]
    #[arg(long, value_name = "FILE")]
    write: Option<PathBuf>,
    /// With --write: write it once and end
    #[arg(long, requires = "write")]
    once: bool,
    /// How long a token is good: 60 to 3600 [default: 300]
    #[arg(long, value_name = "SECONDS", value_parser = values::seconds)]
    duration_seconds: Option<i32>,
    /// How the token is signed
    #[arg(long, value_enum, ignore_case = true, default_value_t = Algorithm::Es384)]
    signing_algorithm: Algorithm,
    /// A tag that the token carries; may be given fifty times
    #[arg(long = "tag", value_name = "KEY=VALUE", value_parser = values::tag)]
    tags: Vec<(String, String)>,
    #[command(flatten)]
    pub(super) log: LogArguments,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
#[value(rename_all = "UPPER")]
enum Algorithm {
    /// ECDSA on P-384
    Es384,
    /// RSA, for those who take nothing else
    Rs256,
    /// Ed25519
    #[value(name = "EdDSA")]
    EdDsa,
}

impl Algorithm {
    fn as_str(self) -> &'static str {
        match self {
            Self::Es384 => "ES384",
            Self::Rs256 => "RS256",
            Self::EdDsa => "EdDSA",
        }
    }
}

/// The least and the most that is waited after a failure.
const RETRY: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(30));
/// The least that is waited before a token is replaced.
const SHORTEST: Duration = Duration::from_secs(5);
/// The wall clock is looked at this often, so that a machine that slept notices.
const LOOK_EVERY: Duration = Duration::from_secs(5);

pub(super) fn run(arguments: &WebIdentityTokenArguments) -> Result<(), Failure> {
    super::runtime()?.block_on(async {
        // Before the file is there: whoever waits for it may end this program at once.
        let (mut term, mut interrupt) = (
            signal(SignalKind::terminate())?,
            signal(SignalKind::interrupt())?,
        );
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

/// One token, by the credentials of this moment: those of a profile are looked for anew.
async fn fetch(arguments: &WebIdentityTokenArguments) -> Result<WebIdentityToken, Failure> {
    let client = Settings::of(&arguments.call)?.client().await?;
    let algorithm = arguments.signing_algorithm.as_str();
    let (audience, tags) = (&arguments.audience, &arguments.tags);
    let token = client
        .get_web_identity_token(audience, algorithm, arguments.duration_seconds, tags)
        .await?;
    // It goes into files and into other programs' requests: RFC 7515 section 3.1, the compact form.
    let legal = |b: u8| b.is_ascii_alphanumeric() || b"._-".contains(&b);
    if !token.token.expose().bytes().all(legal) {
        return Err(
            "the broker's answer is not to be trusted: its token has characters that no token has"
                .into(),
        );
    }
    Ok(token)
}

fn write(path: &Path, token: &WebIdentityToken) -> Result<(), Failure> {
    files::write_private(path, token.token.expose().as_bytes())
        .map_err(|error| format!("--write {error}"))?;
    tracing::info!(file = %path.display(), until = %token.expires_at, "the token is written");
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
                    tracing::warn!(%error, seconds_left = left, "the token is not replaced; trying again");
                    tokio::time::sleep(pause).await;
                    pause = (pause * 2).min(RETRY.1);
                }
            }
        };
    }
}

/// When half of what is left is over.
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
