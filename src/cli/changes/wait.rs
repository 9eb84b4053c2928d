//! `brevet changes wait`: waits until a change is in force on every broker of the store.

use std::net::SocketAddr;
use std::time::Duration;

use clap::Args;
use tokio::time::Instant;

use crate::cli::health::{self, NoAnswer};
use crate::cli::{ConfigArgument, Failure, print, runtime, store};
use crate::config::Config;
use crate::store::{Place, Seen};

/// The interval between questions to the store or the broker.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// How long one request waits for the operators' endpoint of the broker.
const LOOK_TIMEOUT: Duration = Duration::from_secs(2);
/// The beginning of the line in `/metrics` with the number of the last change in force.
const METRIC: &str = "brevet_feed_sequence ";

const EXAMPLES: &str = "\
Examples:
  brevet changes wait 1042 --config /var/lib/brevet/brevet.toml
  brevet changes wait 1042 --config /var/lib/brevet/brevet.toml --timeout-seconds 5";

/// Wait until a change is in force on every broker
///
/// The number of a change is in the header x-brevet-change of the answer to the call that made it, and in each line of
/// `brevet changes`. Exits with 0 as soon as every broker that may accept calls on this store has applied the change,
/// and with 1 if the time runs out first, or if no broker runs.
#[derive(Debug, Args)]
#[command(after_long_help = EXAMPLES)]
pub(super) struct WaitArguments {
    #[command(flatten)]
    config: ConfigArgument,
    /// The number of the change to wait for
    #[arg(value_name = "NUMBER", value_parser = clap::value_parser!(i64).range(0..))]
    change: i64,
    /// How long to wait, in seconds: 0 to 3600
    #[arg(long, visible_alias = "timeout", value_name = "SECONDS", default_value_t = 30,
          value_parser = clap::value_parser!(u64).range(0..=3_600))]
    timeout_seconds: u64,
}

/// Which brokers of a store have the change.
struct Progress {
    connected: usize,
    /// A text about each broker that does not have the change yet.
    pending: Vec<String>,
}

pub(super) fn run(arguments: &WaitArguments) -> Result<(), Failure> {
    let config = Config::load(&arguments.config.config)?;
    let (change, seconds) = (arguments.change, arguments.timeout_seconds);
    let timeout = Duration::from_secs(seconds);
    let progress = match &config.store {
        Place::Postgres { .. } => {
            let (runtime, store) = store::opened_to_read(&config)?;
            runtime.block_on(until_done(timeout, async || {
                Ok(among(change, &store.nodes_after(Instant::now()).await?))
            }))?
        }
        // One broker at a time serves a SQLite store, and it does not report itself there.
        Place::Sqlite(_) | Place::Memory => {
            let address = health::reachable(config.operator);
            runtime()?.block_on(until_done(timeout, async || Ok(one(change, address))))?
        }
    };
    let Progress { connected, pending } = progress;
    if pending.is_empty() {
        let plural = if connected == 1 { "" } else { "s" };
        return print::line(format_args!(
            "Change {change} is in force on {connected} broker{plural}."
        ));
    }
    let pending = pending.join("; ");
    Err(
        format!("change {change} is not in force on every broker after {seconds} s: {pending}")
            .into(),
    )
}

/// Repeats `look` until nothing is pending or the time is over, at least once.
async fn until_done(
    timeout: Duration,
    look: impl AsyncFn() -> Result<Progress, Failure>,
) -> Result<Progress, Failure> {
    let end = Instant::now() + timeout;
    loop {
        let progress = look().await?;
        if progress.pending.is_empty() || Instant::now() + LOOK_EVERY > end {
            return Ok(progress);
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

/// Finds out which of the brokers that have reported themselves to a shared store have the change.
fn among(change: i64, nodes: &[Seen]) -> Progress {
    let pending = nodes.iter().filter(|seen| seen.node.confirmed < change);
    let mut pending: Vec<String> = pending
        .map(|seen| {
            let node = &seen.node;
            let silent = if seen.is_silent {
                " (it has stopped reporting, but may still accept sessions)"
            } else {
                ""
            };
            format!(
                "the broker on {} (node {}) is at change {}{silent}",
                node.host, node.node, node.confirmed
            )
        })
        .collect();
    if nodes.is_empty() {
        pending.push("no broker is connected to the store".to_owned());
    }
    Progress {
        connected: nodes.len(),
        pending,
    }
}

/// Asks the operators' endpoint of a store's only broker whether the broker has the change.
fn one(change: i64, address: SocketAddr) -> Progress {
    let pending = match health::ask(address, "/metrics", LOOK_TIMEOUT) {
        Err(NoAnswer::Failed(why)) => Some(format!(
            "the broker does not answer at its [operator] address {address} ({why})"
        )),
        Err(NoAnswer::NotHttp) => Some(format!(
            "something other than a broker answers at the [operator] address {address}, since the answer is not \
             HTTP: stop that program, or correct [operator] address"
        )),
        Ok((200, body)) => match in_force(&body) {
            Some(at) if at >= change => None,
            Some(at) => Some(format!("the broker is at change {at}")),
            None => Some(format!(
                "something other than a broker answers at the [operator] address {address}, since the answer has no \
                 metric `{}` with a number: stop that program, or correct [operator] address",
                METRIC.trim_end()
            )),
        },
        Ok((status, _)) => Some(format!(
            "something other than a broker answers at the [operator] address {address}, with HTTP status {status}: \
             stop that program, or correct [operator] address"
        )),
    };
    Progress {
        connected: 1,
        pending: pending.into_iter().collect(),
    }
}

/// Reads the number of the last change in force from the text of `/metrics`.
fn in_force(metrics: &str) -> Option<i64> {
    let number = metrics.lines().find_map(|line| line.strip_prefix(METRIC))?;
    number.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::Node;

    fn seen(node: &str, confirmed: i64, is_silent: bool) -> Seen {
        Seen {
            node: Node {
                node: node.to_owned(),
                host: "h".to_owned(),
                confirmed,
                refuse_after_seconds: 60,
                master_keys: String::new(),
                cluster_id: String::new(),
                directory: String::new(),
            },
            is_silent,
        }
    }

    #[test]
    fn every_broker_that_may_accept_calls_must_have_the_change() {
        let both = [seen("a", 7, false), seen("b", 9, false)];
        assert!(among(7, &both).pending.is_empty());
        assert_eq!(
            among(8, &both).pending,
            ["the broker on h (node a) is at change 7"]
        );
        // A broker that was cut off may still accept what the others refuse.
        let silent = [seen("a", 9, false), seen("b", 7, true)];
        let progress = among(9, &silent);
        assert_eq!((progress.connected, progress.pending.len()), (2, 1));
        assert_eq!(
            among(0, &[]).pending,
            ["no broker is connected to the store"]
        );
    }

    #[test]
    fn the_number_is_read_from_the_metrics() {
        let text = "# HELP brevet_feed_sequence The last\nbrevet_feed_up 1\nbrevet_feed_sequence 42\n# EOF\n";
        assert_eq!(in_force(text), Some(42));
        for strange in ["", "brevet_feed_sequence x", "brevet_feed_sequence_total 4"] {
            assert_eq!(in_force(strange), None, "{strange}");
        }
    }
}
