//! This machine's clock.

use std::time::Duration;

use super::Look;
use super::line::{failed, ok};
use crate::cli::clock;
use crate::store::{Store, StoreError};

/// How far the database's clock, or the last change, may be off.
const MAX_CLOCK_OFFSET: Duration = Duration::from_secs(60);

impl Look<'_> {
    pub(super) async fn clock(&mut self, store: Option<&Store>) {
        match clock::now(self.config) {
            Err(error) => {
                return self
                    .lines
                    .push(failed("clock", error, "run what the line says"));
            }
            Ok(highest) if highest.since(self.now) > MAX_CLOCK_OFFSET => {
                let says = format!("{}: behind {highest}, which the broker has seen", self.now);
                let fix = "set this machine's clock; if it was ahead before and is right now: brevet clock accept";
                return self.lines.push(failed("clock", says, fix));
            }
            Ok(_) => {}
        }
        let Some(store) = store else { return };
        let read = async {
            Ok::<_, StoreError>((store.database_time().await?, store.last_changed_at().await?))
        };
        let line = match read.await {
            Err(error) => failed("clock", error, "look at the database's log"),
            Ok((database, last)) => {
                let here = self.now;
                let off = database.map(|there| here.seconds() - there);
                let behind = last.map_or(0, |last| last.div_euclid(1_000) - here.seconds());
                let most = i64::try_from(MAX_CLOCK_OFFSET.as_secs()).unwrap_or(60);
                match off {
                    Some(off) if off.abs() > most => failed(
                        "clock",
                        format!("{} s off the database's", off.abs()),
                        "set both clocks, by NTP: signatures and sessions depend on them",
                    ),
                    _ if behind > most => failed(
                        "clock",
                        format!("{behind} s behind the last change of the store"),
                        "set this machine's clock: a clock that was put back revives what has ended",
                    ),
                    Some(off) => ok(
                        "clock",
                        format!("{here}, {} s off the database's", off.abs()),
                    ),
                    None => ok(
                        "clock",
                        format!("{here}, not behind the last change of the store"),
                    ),
                }
            }
        };
        self.lines.push(line);
    }
}
