//! Checks of the audit log.

use super::Look;
use super::line::{failed, ok, warning};
use crate::audit::{self, Room, Target};
use crate::cli::journal;
use crate::files;

impl Look<'_> {
    /// Checks that the audit log and the log of commands beside it can be written, and how much space
    /// their file system has.
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
            return self.lines.push(failed(
                "audit log",
                says,
                "make the broker's account its owner: nothing is issued without an audit log",
            ));
        }
        if let Err(error) = journal::of(self.config).is_writable() {
            let fix =
                "make it writable: backup, restore, export and keyring rotation are recorded there";
            self.lines.push(failed("audit log", error, fix));
            return;
        }
        let line = match audit::room(folder) {
            Err(error) => failed(
                "audit log",
                format!("{shown}: {error}"),
                "check the file system",
            ),
            Ok((room, free)) => {
                let says = format!("{shown}, {} MiB free", free >> 20);
                let fix = "make room on that file system, or move [audit] file";
                match room {
                    Room::Enough => ok("audit log", says),
                    Room::CountsRefusals => warning(
                        "audit log",
                        format!("{says}: refusals are counted but not recorded"),
                        fix,
                    ),
                    Room::RefusesReads => failed(
                        "audit log",
                        format!("{says}: calls that only read are refused"),
                        fix,
                    ),
                    Room::Full => {
                        failed("audit log", format!("{says}: all calls are refused"), fix)
                    }
                }
            }
        };
        self.lines.push(line);
    }
}
