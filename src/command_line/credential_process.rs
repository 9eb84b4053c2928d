//! `brevet credential-process`: prints credentials of a role for `credential_process` in ~/.aws/config, from a
//! cache that parallel runs share.

mod cache;

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

use super::aws::Settings;
use super::role::{self, SessionArguments};
use super::session_credentials::SessionCredentials;
use super::{Failure, print};
use crate::base::clock::{Clock, SystemClock, Timestamp};
use crate::client::ClientError;
use cache::Entry;

/// Credentials that expire sooner than this are not printed, because the SDK for JavaScript would
/// request new ones at once.
const SHORTEST: Duration = Duration::from_secs(300);
/// Cached credentials are replaced when this much of their lifetime is left, or half of the
/// lifetime if that is less. botocore requests new credentials when 15 minutes are left; the cache
/// then already has them.
const RENEW_AHEAD: Duration = Duration::from_secs(20 * 60);
/// How long a run waits for another one that is getting the same credentials, before it gets its
/// own. Connecting and a call may take ten seconds each.
const MAX_WAIT: Duration = Duration::from_secs(25);

const EXAMPLES: &str = "\
Examples:
  brevet credential-process --profile alice --role arn:aws:iam::111122223333:role/Deploy
      Prints JSON, from the cache if that has credentials of the role with enough time left.
  brevet credential-process --role \"$ROLE\" --web-identity-token-file /run/app/jwt --no-cache
      Proves who you are with a token, and stores nothing in the cache. ROLE is the role's ARN.
  brevet credential-process --profile alice --role Deploy --endpoint https://sts.example.com
      Is for `credential_process = ` in ~/.aws/config. Write the program's whole path there.";

/// Print credentials of a role for `credential_process` in ~/.aws/config
///
/// AWS's tools and SDKs run this command when they need credentials. It prints only JSON on standard output, and
/// explains a failure on standard error. It caches credentials in files of mode 0600, and several runs at the same time
/// make only one call. It needs no environment variables, since every setting has a flag.
#[derive(Debug, Args)]
#[command(after_long_help = EXAMPLES)]
pub(crate) struct CredentialProcessArguments {
    #[command(flatten)]
    session: SessionArguments,
    /// The folder of the cache [default: brevet/credentials in XDG_CACHE_HOME or ~/.cache]
    #[arg(long, value_name = "DIR")]
    cache: Option<PathBuf>,
    /// Neither read nor write the cache
    #[arg(long, conflicts_with = "cache")]
    no_cache: bool,
}

pub(crate) fn run(arguments: &CredentialProcessArguments) -> Result<(), Failure> {
    let settings = Settings::of(&arguments.session.role.call)?;
    let entry = entry(&settings, arguments)?;
    let session = super::runtime()?.block_on(obtain(entry.as_ref(), &SystemClock, || {
        role::session(&settings, &arguments.session)
    }))?;
    print::json_line(&session.printed(Some(1)))
}

/// The place of these credentials in the cache. `None` if the cache is off or has no folder, or if an agent is asked,
/// which has a cache of its own. `None` also if the proof comes from standard input, because the cache could then give
/// one user's credentials to another.
fn entry(
    settings: &Settings,
    arguments: &CredentialProcessArguments,
) -> Result<Option<Entry>, Failure> {
    let SessionArguments { role, agent_socket } = &arguments.session;
    if arguments.no_cache || agent_socket.is_some() || role.reads_standard_input() {
        return Ok(None);
    }
    let folder = match &arguments.cache {
        Some(folder) => Some(folder.clone()),
        None => settings
            .cache_folder()
            .map(|folder| folder.join("credentials")),
    };
    let asked = role.asked(settings)?;
    Ok(folder.map(|folder| Entry::new(folder, &asked)))
}

/// Returns credentials with enough time left, from the cache or new ones. If several runs need new
/// credentials, one of them makes the call, and the others wait for it for at most [`MAX_WAIT`]. While the
/// broker cannot be reached, cached credentials are used for longer.
///
/// # Errors
/// The error of `ask`, or a sentence if the new credentials expire too soon by this machine's
/// clock.
async fn obtain(
    entry: Option<&Entry>,
    clock: &dyn Clock,
    ask: impl AsyncFnOnce() -> Result<SessionCredentials, Failure>,
) -> Result<SessionCredentials, Failure> {
    let fresh = || {
        entry
            .and_then(Entry::read)
            .filter(|session| clock.now() < renew_at(session))
    };
    if let Some(session) = fresh() {
        return Ok(session);
    }
    let _turn = match entry {
        Some(entry) => entry.lock(MAX_WAIT).await,
        None => None,
    };
    // Another run may have got them while this one waited.
    if let Some(session) = fresh() {
        return Ok(session);
    }
    match ask().await {
        Ok(session) if !is_usable(&session, clock.now()) => Err(format!(
            "the new credentials expire at {}, which is not more than {} seconds ahead by this machine's clock; \
             check the clock",
            session.expires_at,
            SHORTEST.as_secs()
        )
        .into()),
        Ok(session) => {
            if let Some(entry) = entry {
                entry.write(&session, clock.now());
            }
            Ok(session)
        }
        Err(failure) => {
            let cached = entry.and_then(Entry::read);
            match cached.filter(|session| is_usable(session, clock.now())) {
                Some(session) if is_passing(&failure) => {
                    tracing::debug!(%failure, "new credentials could not be obtained; the cached ones are still valid \
                        and are used");
                    Ok(session)
                }
                _ => {
                    if let (Some(entry), false) = (entry, is_passing(&failure)) {
                        entry.remove();
                    }
                    Err(failure)
                }
            }
        }
    }
}

/// When to replace credentials, although they are still valid.
fn renew_at(session: &SessionCredentials) -> Timestamp {
    let life = session.expires_at.since(session.received_at);
    session.expires_at.minus(RENEW_AHEAD.min(life / 2))
}

fn is_usable(session: &SessionCredentials, now: Timestamp) -> bool {
    session.expires_at.since(now) > SHORTEST
}

/// Whether a failure is temporary and says nothing about what the caller may do: the broker cannot be reached, is
/// overloaded or has a fault.
fn is_passing(failure: &Failure) -> bool {
    match failure.downcast_ref::<ClientError>() {
        Some(ClientError::Unreachable { .. }) => true,
        Some(ClientError::Refused { code, .. }) => {
            ["ServiceUnavailable", "InternalFailure", "Throttling"].contains(&code.as_str())
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests;
