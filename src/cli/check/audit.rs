//! Checks of the audit log: whether it can be written, and how much space is left for it.

use super::Look;
use super::line::{Line, failed, ok, warning};
use crate::audit::{self, Room, Target};
use crate::cli::journal;
use crate::files::{self, FileError};

impl Look<'_> {
    /// Checks that the audit log, and the log of commands next to it, can be written, and how much
    /// space their file system has.
    pub(super) fn audit(&mut self) {
        let Target::File { path, .. } = &self.config.audit else {
            return self.lines.push(ok("audit log", "standard output"));
        };
        let shown = path.display();
        let folder = files::folder(path);
        let place = if path.exists() {
            path.as_path()
        } else {
            folder
        };
        if let Err(error) = rustix::fs::access(place, rustix::fs::Access::WRITE_OK) {
            let says = format!("{}: cannot be written: {error}", place.display());
            let fix = if place.exists() {
                "make the user of the broker process the owner of this path, and run `brevet check` as that user; the \
                 broker issues no credentials without an audit log"
            } else {
                "create this folder, with the user of the broker process as its owner; the broker issues no credentials \
                 without an audit log"
            };
            return self.lines.push(failed("audit log", says, fix));
        }
        if let Err(error) = journal::of(self.config).is_writable() {
            let why = "commands such as backup, restore and export record themselves in";
            let fix = match &error {
                FileError::Io { path, .. } => {
                    let place = if path.exists() {
                        path.as_path()
                    } else {
                        files::folder(path)
                    };
                    let (place, path) = (place.display(), path.display());
                    format!("make {place} writable for this user: {why} {path}")
                }
                FileError::Unfit { path, .. } => {
                    format!("follow the rule above: {why} {}", path.display())
                }
            };
            self.lines.push(failed("audit log", error, fix));
            return;
        }
        let line = match audit::room(folder) {
            Err(error) => failed(
                "audit log",
                format!("{shown}: {error}"),
                "check the file system of the audit log",
            ),
            Ok((room, free)) => of_room(room, &format!("{shown}, {} MiB free", free >> 20)),
        };
        self.lines.push(line);
    }
}

/// The line about a log that can be written. `says` names the log and its free space.
fn of_room(room: Room, says: &str) -> Line {
    let fix =
        "free some space on the file system of the audit log, or move [audit] file to another one";
    match room {
        Room::Enough => ok("audit log", says),
        Room::CountsRefusals => warning(
            "audit log",
            format!("{says}: the broker counts refused calls, and does not record each of them"),
            fix,
        ),
        Room::CountsReads => warning(
            "audit log",
            format!(
                "{says}: the broker counts refused calls and calls that only read, but does not record each one"
            ),
            fix,
        ),
        Room::Full => failed(
            "audit log",
            format!(
                "{says}: the broker issues no credentials and refuses changes other than revocations"
            ),
            fix,
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::super::line::Verdict;
    use super::*;

    #[test]
    fn only_a_log_without_space_for_credentials_fails() {
        let verdicts = [
            Room::Enough,
            Room::CountsRefusals,
            Room::CountsReads,
            Room::Full,
        ]
        .map(|room| of_room(room, "audit.jsonl").verdict);
        assert_eq!(
            verdicts,
            [
                Verdict::Ok,
                Verdict::Warning,
                Verdict::Warning,
                Verdict::Failed
            ]
        );
    }
}
