//! The program that `brevet exec` runs: its environment, the signals for it, and its exit status.

use std::env;
use std::ffi::OsString;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, Command, ExitStatus};

use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;

use crate::command_line::{Failure, variables};

/// The end of a program that was run. Contains its exit status, which becomes the exit status of this command.
#[derive(Debug, thiserror::Error)]
#[error("the program has ended")]
pub(crate) struct Ended(pub(crate) u8);

/// The error about a program that cannot be run. As in a shell, the exit status is 127 if there is no such
/// program, otherwise 126.
#[derive(Debug, thiserror::Error)]
#[error("{program}: {source}")]
pub(crate) struct NotRun {
    program: String,
    source: io::Error,
}

impl NotRun {
    pub(crate) fn exit_status(&self) -> u8 {
        match self.source.kind() {
            io::ErrorKind::NotFound => 127,
            _ => 126,
        }
    }
}

/// The signals that are passed on to the program.
const PASSED_ON: [Signal; 6] = [
    Signal::HUP,
    Signal::INT,
    Signal::QUIT,
    Signal::TERM,
    Signal::USR1,
    Signal::USR2,
];

/// Makes the command. The program gets the environment of this process, without other credentials and with the
/// variables in `set`.
fn prepared(words: &[OsString], set: &[(String, String)]) -> Result<Command, Failure> {
    let (program, arguments) = words
        .split_first()
        .ok_or("there is no program to run: write one after `--`")?;
    let mut command = Command::new(program);
    command.args(arguments);
    for (name, _) in env::vars_os() {
        if variables::is_of_credentials(&name) {
            command.env_remove(name);
        }
    }
    command.envs(set.iter().map(|(name, value)| (name, value)));
    Ok(command)
}

fn not_run(words: &[OsString], source: io::Error) -> Failure {
    let program = words
        .first()
        .map(|word| word.to_string_lossy().into_owned());
    NotRun {
        program: program.unwrap_or_default(),
        source,
    }
    .into()
}

/// Replaces this process by the program. Returns only if that is impossible, with the reason.
pub(super) fn replace(words: &[OsString], set: &[(String, String)]) -> Failure {
    match prepared(words, set) {
        Ok(mut command) => not_run(words, command.exec()),
        Err(failure) => failure,
    }
}

/// Runs the program until it ends.
///
/// # Errors
/// [`NotRun`] if the program cannot be run, another error if signals cannot be passed on to it, otherwise [`Ended`].
pub(super) async fn run(words: &[OsString], set: &[(String, String)]) -> Result<(), Failure> {
    let mut command = prepared(words, set)?;
    command.envs(variables::without_proxy(|name| env::var_os(name)));
    // Signals are caught from before the start, so that none ends this process and leaves the program behind.
    let mut signals = caught()?;
    let mut child = command.spawn().map_err(|source| not_run(words, source))?;
    // By this handle a signal reaches no other process, even if the program has ended and its number is in use again.
    let handle = match handle_of(&child) {
        Ok(handle) => handle,
        Err(error) => {
            // The program must not go on without its credentials and its signals.
            child.kill()?;
            child.wait()?;
            return Err(format!(
                "the program was stopped, because this command could not set up the forwarding of signals to it: \
                 {error}"
            )
            .into());
        }
    };
    let mut ended = tokio::task::spawn_blocking(move || child.wait());
    loop {
        tokio::select! {
            status = &mut ended => return Err(Ended(exit_status(status??)).into()),
            Some(signal) = signals.recv() => {
                let by_terminal = [Signal::INT, Signal::QUIT].contains(&signal) && is_in_foreground();
                if !by_terminal {
                    // It fails only if the program has ended.
                    let _ = pidfd_send_signal(&handle, signal);
                }
            }
        }
    }
}

fn handle_of(child: &Child) -> io::Result<OwnedFd> {
    let id = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
    let id = id.ok_or(io::ErrorKind::InvalidData)?;
    Ok(pidfd_open(id, PidfdFlags::empty())?)
}

/// Receives the signals that are passed on. Signals that this process was told to ignore (as `nohup` does) are left
/// out, because the program ignores them too.
fn caught() -> Result<mpsc::Receiver<Signal>, Failure> {
    let (sender, receiver) = mpsc::channel(16);
    let ignored = std::fs::read_to_string("/proc/self/status")
        .map(|status| ignored_signals(&status))
        .unwrap_or_default();
    for number in PASSED_ON {
        if ignored & (1 << (number.as_raw() - 1)) != 0 {
            continue;
        }
        let mut stream = signal(SignalKind::from_raw(number.as_raw()))?;
        let sender = sender.clone();
        tokio::spawn(async move {
            while stream.recv().await.is_some() && sender.send(number).await.is_ok() {}
        });
    }
    Ok(receiver)
}

/// Reads the mask of ignored signals from the text of proc_pid_status(5): bit `n - 1` stands for signal `n`.
fn ignored_signals(status: &str) -> u64 {
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok())
        .unwrap_or_default()
}

/// Whether this process is in the foreground of a terminal. The terminal then sends Ctrl-C and Ctrl-\ to the program
/// too. Passing these signals on would deliver them twice, and many programs end at once on the second one.
fn is_in_foreground() -> bool {
    std::fs::read_to_string("/proc/self/stat").is_ok_and(|stat| has_foreground(&stat))
}

/// Whether the process group is in the foreground of its terminal, according to proc_pid_stat(5). The fields after the
/// name in parentheses are state, ppid, pgrp, session, tty_nr, tpgid.
fn has_foreground(stat: &str) -> bool {
    let Some((_, fields)) = stat.rsplit_once(')') else {
        return false;
    };
    let fields: Vec<&str> = fields.split_whitespace().take(6).collect();
    matches!(fields.as_slice(), [_, _, group, _, _, foreground] if group == foreground)
}

/// The program's exit status as a shell reports it: if a signal ended the program, 128 plus the number of the signal.
fn exit_status(status: ExitStatus) -> u8 {
    let code = match (status.code(), status.signal()) {
        (Some(code), _) => code,
        (None, Some(signal)) => 128 + signal,
        (None, None) => 1,
    };
    u8::try_from(code).unwrap_or(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_exit_status_is_the_programs() {
        assert_eq!(exit_status(ExitStatus::from_raw(0)), 0);
        assert_eq!(exit_status(ExitStatus::from_raw(7 << 8)), 7);
        assert_eq!(exit_status(ExitStatus::from_raw(255 << 8)), 255);
        assert_eq!(exit_status(ExitStatus::from_raw(15)), 143);
        assert_eq!(exit_status(ExitStatus::from_raw(9)), 137);
    }

    #[test]
    fn ignored_signals_and_the_foreground_are_read_from_proc() {
        let status =
            "Name:\tbrevet\nSigBlk:\t0000000000000000\nSigIgn:\t0000000000001001\nSigCgt:\t0\n";
        assert_eq!(ignored_signals(status), 0x1001);
        assert_eq!(ignored_signals("Name:\tx\n"), 0);
        assert!(has_foreground("42 (a) b) c) S 1 42 40 34816 42 4194304 1"));
        assert!(!has_foreground("42 (brevet) S 1 42 40 34816 77 4194304 1"));
        assert!(!has_foreground("42 (brevet) S 1 42 40 0 -1 4194304 1"));
        assert!(!has_foreground("") && !has_foreground("42 (brevet) S 1"));
    }
}
