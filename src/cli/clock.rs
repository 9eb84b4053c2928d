//! `brevet clock accept`, and the current time for commands that run next to a broker.

use clap::{Args, Subcommand};

use serde_json::json;

use super::{ConfigArgument, Failure, journal, print};
use crate::base::clock::{Clock, SystemClock, Timestamp};
use crate::clock_mark::{ClockMark, ClockMarkError, ClockMarkFile};
use crate::commands;
use crate::config::Config;
use crate::mfa;
use crate::store::Store;

const EXAMPLES: &str = "\
Examples:
  brevet clock accept --config /var/lib/brevet/brevet.toml";

/// Tell the broker that the machine's clock is right
///
/// A broker records the latest time that it has seen, and its own time never goes back. If the machine's clock was
/// ahead and has been corrected, the broker's time runs a sixteenth more slowly until the clock has caught up with it.
/// While the clock is behind by more than the allowed skew, the broker is not ready; each minute beyond the skew takes
/// 16 minutes. An operator who confirms that the clock is right ends this at once.
#[derive(Debug, Subcommand)]
#[command(after_long_help = EXAMPLES)]
pub(super) enum ClockCommand {
    Accept(AcceptArguments),
}

/// Accept the clock as it is, and end every session that was issued before now
///
/// Sets the latest time that this node has seen to the present time. Earlier sessions were issued by a wrong clock, so
/// all of them end, on every broker of the store; MFA codes and assertions from before are refused. The broker may be
/// running, and then notices the change within seconds. Changes nothing if the clock is not behind, unless the file
/// with the latest time cannot be read.
#[derive(Debug, Args)]
#[command(after_long_help = EXAMPLES)]
pub(super) struct AcceptArguments {
    #[command(flatten)]
    config: ConfigArgument,
}

pub(super) fn run(command: ClockCommand) -> Result<(), Failure> {
    let ClockCommand::Accept(arguments) = command;
    let config = Config::load(&arguments.config.config)?;
    let file = mark_file(&config)
        .ok_or("[store] watermark: is not set, so this node does not record the latest time, and there is nothing to \
            correct")?;
    let now = SystemClock.now();
    let highest = match file.load() {
        Ok(mark) => match mark.map(ClockMark::time).filter(|highest| *highest > now) {
            Some(highest) => highest,
            None => {
                print::note(format_args!(
                    "This machine's clock ({now}) is not behind the latest time that this node has seen; nothing was \
                    changed."
                ));
                return Ok(());
            }
        },
        // The earlier time is lost with the file; all sessions end in either case.
        Err(error) => {
            match error {
                ClockMarkError::Content(path) => print::note(format_args!(
                    "{}: the content of this file is damaged, so the latest time that this node has seen is unknown; \
                     a new file is written.",
                    path.display()
                )),
                ClockMarkError::File(error) => print::note(format_args!("{error}")),
            }
            now
        }
    };
    let host = rustix::system::uname()
        .nodename()
        .to_string_lossy()
        .into_owned();
    let parameters = json!({"highest": highest.to_string()});
    let accepting = async {
        let work = async |store: &Store| {
            commands::accept_clock(store, &super::operator(), host, highest, mfa::LOCKOUT, now)
                .await
        };
        let sequence = super::beside::with_store(&config, now, work).await?;
        file.accept(now, sequence)?;
        Ok((sequence, json!({"sequenceNumber": sequence})))
    };
    let sequence = super::runtime()?.block_on(journal::recorded_if_possible(
        &journal::of(&config),
        "AcceptClock",
        parameters,
        accepting,
    ))?;
    let before = match highest > now {
        true => format!("it was {highest}"),
        false => "the earlier one could not be read".to_owned(),
    };
    print::note(format_args!(
        "The latest time that this node has seen is now {now}; {before}."
    ));
    print::note(format_args!(
        "Every session that was issued before now has ended (change {sequence}). A running broker notices this \
         within seconds."
    ));
    Ok(())
}

/// The current time for a command that runs next to a broker: the machine's time, or the latest time that the broker
/// has recorded if that is later.
///
/// # Errors
/// The file with the recorded time cannot be read.
pub(super) fn now(config: &Config) -> Result<Timestamp, Failure> {
    let mark = mark_file(config)
        .map(|file| file.load())
        .transpose()?
        .flatten();
    let now = SystemClock.now();
    Ok(mark.map_or(now, |mark| mark.time().max(now)))
}

fn mark_file(config: &Config) -> Option<ClockMarkFile> {
    config.watermark.as_deref().map(ClockMarkFile::beside)
}
