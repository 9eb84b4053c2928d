//! The work that a broker does on its store in the background: it checks all rows, deletes expired rows, deactivates
//! access keys that are too old, and records the use of access keys and the retirement of signing keys.

mod check;
mod key_ages;
mod retired_keys;
mod sweep;

use std::sync::Arc;
use std::time::Duration;

use crate::broker::Broker;
use crate::clock_mark::ClockMarkError;
use check::Checks;
use retired_keys::RetiredKeys;
use sweep::Sweeps;

pub use key_ages::endings;
pub use sweep::note_key_use;

/// How often the broker checks which of the tasks are due.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// A function that writes the highest time that this node has seen to the disk, and returns when it is stored there.
pub type SaveTime = Arc<dyn Fn() -> Result<(), ClockMarkError> + Send + Sync>;

/// Runs the background tasks until the daemon ends. `loaded_in` is how long it took to load the store, which was the
/// first check of all rows.
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
