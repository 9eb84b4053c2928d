//! The log of commands: each command that changes the broker's data or copies secrets writes a record before it begins,
//! and another when it has ended (`docs/reference/audit.md`). If the first cannot be written, the command does nothing,
//! unless it ends access.

use std::path::Path;

use serde_json::Value;

use super::{Failure, operator, print};
use crate::audit::{Deed, LocalLog, Phase};
use crate::base::clock::{Clock, SystemClock};
use crate::base::entropy::{self, SystemEntropy};
use crate::config::Config;
use crate::files;

/// The log of commands for a broker with this configuration.
pub(super) fn of(config: &Config) -> LocalLog {
    LocalLog::of(&config.audit, files::folder(&config.keyring))
}

/// The log of commands for a command that has only a keyring. The log is in the folder of the keyring file.
pub(super) fn beside(keyring: &Path) -> LocalLog {
    LocalLog::of(&crate::audit::Target::Stdout, files::folder(keyring))
}

/// Runs `work` between its two records. `work` returns its result, and the part of the result that the second
/// record contains.
///
/// # Errors
/// The first record cannot be written, in which case `work` is not run; otherwise the errors of `work`. If the
/// second record cannot be written, there is only a warning.
pub(super) fn recorded<T>(
    log: &LocalLog,
    name: &'static str,
    parameters: Value,
    work: impl FnOnce() -> Result<(T, Value), Failure>,
) -> Result<T, Failure> {
    let entropy = SystemEntropy::new();
    let deed = deed(name, parameters, &entropy)?;
    log.write(&deed, Phase::Begun, SystemClock.now(), &entropy).map_err(|error| {
        format!("the log of commands, which must record this command, cannot be written: {error}; nothing was done")
    })?;
    let result = work();
    conclude(
        log,
        &deed,
        result.as_ref().map(|(_, came_of_it)| came_of_it),
    );
    result.map(|(value, _)| value)
}

/// Does what [`recorded`] does for a command that ends access, which runs even if the log cannot be written.
///
/// # Errors
/// The errors of `work`, or the operating system gives no random bytes for the id of the record.
pub(super) async fn recorded_if_possible<T>(
    log: &LocalLog,
    name: &'static str,
    parameters: Value,
    work: impl Future<Output = Result<(T, Value), Failure>>,
) -> Result<T, Failure> {
    let entropy = SystemEntropy::new();
    let deed = deed(name, parameters, &entropy)?;
    if let Err(error) = log.write(&deed, Phase::Begun, SystemClock.now(), &entropy) {
        print::note(format_args!(
            "warning: the log of commands cannot be written: {error}; the command continues without a record"
        ));
    }
    let result = work.await;
    conclude(
        log,
        &deed,
        result.as_ref().map(|(_, came_of_it)| came_of_it),
    );
    result.map(|(value, _)| value)
}

fn deed(name: &'static str, parameters: Value, entropy: &SystemEntropy) -> Result<Deed, Failure> {
    let request_id = uuid::Builder::from_random_bytes(entropy::bytes(entropy)?)
        .into_uuid()
        .to_string();
    Ok(Deed {
        name,
        user_name: operator::operator().user_name,
        parameters,
        request_id,
    })
}

/// Writes the second record of a command, with its result or its error. Prints a warning if that fails.
fn conclude(log: &LocalLog, deed: &Deed, result: Result<&Value, &Failure>) {
    let text = result.err().map(ToString::to_string);
    let phase = match (result, &text) {
        (Ok(came_of_it), _) => Phase::Done(came_of_it),
        (Err(_), text) => Phase::Failed(text.as_deref().unwrap_or_default()),
    };
    if let Err(error) = log.write(deed, phase, SystemClock.now(), &SystemEntropy::new()) {
        print::note(format_args!(
            "warning: the result of this command could not be written to the log of commands: {error}"
        ));
    }
}

/// Does what [`recorded`] does, for work that returns nothing.
///
/// # Errors
/// The same as for [`recorded`].
pub(super) fn note(
    log: &LocalLog,
    name: &'static str,
    parameters: Value,
    work: impl FnOnce() -> Result<(), Failure>,
) -> Result<(), Failure> {
    recorded(log, name, parameters, || work().map(|()| ((), Value::Null)))
}
