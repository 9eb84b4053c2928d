//! What a broker does with its store beside the calls: all rows are checked, what has expired is swept,
//! and the use of keys is noted.

mod check;
mod retired_keys;
mod sweep;

use std::sync::Arc;
use std::time::Duration;

use crate::broker::Broker;
use crate::clock_mark::ClockMarkError;
use check::Checks;
use retired_keys::RetiredKeys;
use sweep::Sweeps;

pub use sweep::note_key_use;

/// How often it is looked whether something is due.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Writes down the highest time that was seen, and waits for the disk.
pub type SaveTime = Arc<dyn Fn() -> Result<(), ClockMarkError> + Send + Sync>;

/// Checks and sweeps until the daemon is gone. `loaded_in` is how long the first check took.
pub async fn run(broker: Arc<Broker>, save_time: SaveTime, loaded_in: Duration) {
    let mut tick = tokio::time::interval(LOOK_EVERY);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut checks = Checks::new(&broker, loaded_in);
    let mut sweeps = Sweeps::new(&broker, save_time);
    let mut retired_keys = RetiredKeys::default();
    loop {
        tick.tick().await;
        let now = broker.clock.monotonic();
        checks.check_if_due(&broker, now).await;
        sweeps.sweep_if_due(&broker, now).await;
        retired_keys.note_if_new(&broker, now).await;
    }
}
