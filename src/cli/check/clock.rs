//! Checks of this machine's clock, against the database's clock and the time of the last change.

use std::time::Duration;

use super::Look;
use super::line::{failed, ok};
use crate::cli::clock;
use crate::store::{Store, StoreError};

/// How far this machine's clock may differ from the database's, or be behind the last change.
const MAX_CLOCK_OFFSET: Duration = Duration::from_secs(60);

impl Look<'_> {
    pub(super) async fn clock(&mut self, store: Option<&Store>) {
        match clock::now(self.config) {
            Err(error) => {
                return self.lines.push(failed(
                    "clock",
                    error,
                    "correct the file, or run `brevet clock accept`, which replaces the \
                        file and ends every session that was issued before now",
                ));
            }
            Ok(highest) if highest.since(self.now) > MAX_CLOCK_OFFSET => {
                let says = format!(
                    "this machine's clock shows {}, which is before {highest}, the latest time that the broker has \
                    seen",
                    self.now
                );
                let fix = "correct this machine's clock; if the clock is right now but was ahead before, run `brevet \
                    clock accept`";
                return self.lines.push(failed("clock", says, fix));
            }
            Ok(_) => {}
        }
        let Some(store) = store else { return };
        let read = async {
            Ok::<_, StoreError>((store.database_time().await?, store.last_changed_at().await?))
        };
        let line = match read.await {
            Err(error) => failed(
                "clock",
                error,
                "check the log of PostgreSQL, or the file system of the SQLite store",
            ),
            Ok((database, last)) => {
                let here = self.now;
                let off = database.map(|there| here.seconds() - there);
                let behind = last.map_or(0, |last| last.div_euclid(1_000) - here.seconds());
                let most = i64::try_from(MAX_CLOCK_OFFSET.as_secs()).unwrap_or(60);
                match off {
                    Some(off) if off.abs() > most => failed(
                        "clock",
                        format!(
                            "this machine's clock differs by {} s from the database's clock; it may differ by at \
                             most {most} s",
                            off.abs()
                        ),
                        "synchronize both clocks by NTP, since signatures and sessions depend on correct clocks",
                    ),
                    _ if behind > most => failed(
                        "clock",
                        format!(
                            "this machine's clock is {behind} s behind the last change of the store; it may be at \
                             most {most} s behind"
                        ),
                        "correct this machine's clock; while it is behind, the broker may accept sessions that have \
                         expired",
                    ),
                    Some(off) => ok(
                        "clock",
                        format!(
                            "{here}, differs by {} s from the database's clock",
                            off.abs()
                        ),
                    ),
                    None => ok(
                        "clock",
                        format!("{here}, at most {most} s behind the last change of the store"),
                    ),
                }
            }
        };
        self.lines.push(line);
    }
}
