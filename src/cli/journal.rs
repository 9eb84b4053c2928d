//! What commands that change or copy secrets write down: a record before they begin, and one when they
//! have ended (`docs/reference/audit.md`). Without the first one nothing is done.

use std::path::Path;

use serde_json::Value;

use super::{Failure, operator, print};
use crate::audit::{Deed, LocalLog, Phase};
use crate::base::clock::{Clock, SystemClock};
use crate::base::entropy::{self, SystemEntropy};
use crate::config::Config;
use crate::files;

/// The log of the commands of a configuration's broker.
pub(super) fn of(config: &Config) -> LocalLog {
    LocalLog::of(&config.audit, files::folder(&config.keyring))
}

/// The log of commands that have a keyring and no configuration: beside the keyring.
pub(super) fn beside(keyring: &Path) -> LocalLog {
    LocalLog::of(&crate::audit::Target::Stdout, files::folder(keyring))
}

/// Does something that must be on record. `work` returns what it came to, and what of it belongs on
/// record.
///
/// # Errors
/// When the record cannot be written: nothing was done then. Otherwise those of `work`.
pub(super) fn recorded<T>(
    log: &LocalLog,
    name: &'static str,
    parameters: Value,
    work: impl FnOnce() -> Result<(T, Value), Failure>,
) -> Result<T, Failure> {
    let entropy = SystemEntropy::new();
    let request_id = uuid::Builder::from_random_bytes(entropy::bytes(&entropy)?)
        .into_uuid()
        .to_string();
    let deed = Deed {
        name,
        user_name: operator::operator().user_name,
        parameters,
        request_id,
    };
    log.write(&deed, Phase::Begun, SystemClock.now(), &entropy).map_err(|error| {
        format!("this must be on record, and the log of commands cannot be written: {error}; nothing was done")
    })?;
    let result = work();
    let text = result.as_ref().err().map(ToString::to_string);
    let phase = match (&result, &text) {
        (Ok((_, came_of_it)), _) => Phase::Done(came_of_it),
        (Err(_), text) => Phase::Failed(text.as_deref().unwrap_or_default()),
    };
    if let Err(error) = log.write(&deed, phase, SystemClock.now(), &entropy) {
        print::note(format_args!(
            "warning: the log of commands does not say how this ended: {error}"
        ));
    }
    result.map(|(value, _)| value)
}

/// As [`recorded`], for work that returns nothing.
///
/// # Errors
/// As [`recorded`].
pub(super) fn note(
    log: &LocalLog,
    name: &'static str,
    parameters: Value,
    work: impl FnOnce() -> Result<(), Failure>,
) -> Result<(), Failure> {
    recorded(log, name, parameters, || work().map(|()| ((), Value::Null)))
}
