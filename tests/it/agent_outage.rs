//! The agent without its broker, for an hour of moved time: what workloads get, until when, and how agents come back.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use brevet::base::clock::{Clock, Timestamp};
use brevet::base::entropy::SystemEntropy;
use serde_json::Value;

use crate::agent_beside::{Beside, credentials, keys, token, until_available};
use crate::harness::{Broker, config, eventually};
use crate::workloads::{arn, broker_with, signing_key};

const AGENTS: usize = 16;
/// Credentials are not handed out in their last minute.
const MARGIN: Duration = Duration::from_secs(60);
/// The longest pause between two attempts of an agent that has no credentials, in seconds.
const LONGEST_PAUSE: usize = 24;

/// A program that asks one agent.
struct Workload {
    agent: Beside,
    imds: SocketAddr,
    token: String,
    /// The first access key that it got.
    first: String,
    expires_at: String,
}

impl Workload {
    async fn start(broker: &Broker) -> Self {
        let role = arn("role", "job");
        let imds = format!("[imds]\naddress = \"127.0.0.1:0\"\nrole_arn = \"{role}\"\n");
        let agent = Beside::start(broker, "node-a", &imds).await;
        let imds = agent.imds();
        let token = token(imds).await;
        let answer = until_available(async || credentials(imds, "job", &token).await).await;
        let document: Value = serde_json::from_str(&answer.body).unwrap();
        Self {
            agent,
            imds,
            token,
            first: keys(&answer).id,
            expires_at: document["Expiration"].as_str().unwrap().to_owned(),
        }
    }

    /// The access key that the program gets now, or the status of the answer.
    async fn ask(&self) -> Result<String, u16> {
        let answer = credentials(self.imds, "job", &self.token).await;
        match answer.status {
            200 => Ok(keys(&answer).id),
            status => Err(status),
        }
    }
}

/// Starts the broker again at its address, with its clock.
async fn restart(broker: &mut Broker) {
    eventually("the broker listens again", async || {
        let mut config = config(broker.dir.path());
        config.listen = broker.address;
        let entropy = Arc::new(SystemEntropy::new());
        let started = brevet::server::start(config, broker.clock.clone(), entropy).await;
        broker.running = started.ok();
        broker.running.is_some()
    })
    .await;
}

#[tokio::test]
async fn ag_04_an_hour_without_the_broker_is_bridged_and_agents_come_back_apart() {
    let mut broker = broker_with(&signing_key()).await;
    let mut workloads = Vec::new();
    for _ in 0..AGENTS {
        workloads.push(Workload::start(&broker).await);
    }
    // No time passes by itself, so all sessions end at the same moment.
    let issued_at = broker.clock.now();
    let end = issued_at.plus(Duration::from_secs(3_600));
    for workload in &workloads {
        assert_eq!(workload.expires_at, end.to_string());
    }
    broker.stop().await;

    // Until the last minute, each gets what it had. The agents have tried to renew it since.
    let last = end.minus(MARGIN).minus(Duration::from_secs(1));
    while broker.clock.now() < last {
        let left = last.since(broker.clock.now()).as_secs();
        broker.elapse(left.min(10));
        for (number, workload) in workloads.iter().enumerate() {
            let is_asked = number == 0 || left % 100 < 10 || broker.clock.now() == last;
            if is_asked {
                let at = broker.clock.now();
                assert_eq!(workload.ask().await, Ok(workload.first.clone()), "{at}");
            }
        }
    }
    let attempts = failed(&workloads[0].agent).await;
    assert!((10..100).contains(&attempts), "{attempts} attempts");
    // From then on, nobody gets anything, and is not kept waiting for it.
    broker.elapse(1);
    assert!(broker.clock.now().plus(MARGIN) == end);
    for _ in 0..120 {
        for workload in &workloads {
            assert_eq!(workload.ask().await, Err(503), "{}", broker.clock.now());
        }
        broker.elapse(1);
    }

    // The broker is back. Each agent comes in its own time, within its longest pause.
    restart(&mut broker).await;
    let back = broker.clock.now();
    let mut returned = [0; LONGEST_PAUSE + 1];
    let mut away: Vec<&Workload> = workloads.iter().collect();
    for second in &mut returned {
        let mut still_away = Vec::new();
        for workload in away {
            match workload.ask().await {
                Ok(key) => {
                    assert_ne!(key, workload.first);
                    *second += 1;
                }
                Err(status) => {
                    assert_eq!(status, 503);
                    still_away.push(workload);
                }
            }
        }
        away = still_away;
        broker.elapse(1);
    }
    println!("agents that came back in each second: {returned:?}");
    assert!(away.is_empty(), "{} are still away", away.len());
    let most = returned.iter().max().unwrap();
    assert!(*most <= AGENTS / 2, "{most} came in one second");
    // What they hand out now is new, and lasts.
    for workload in &workloads {
        let answer = credentials(workload.imds, "job", &workload.token).await;
        let document: Value = serde_json::from_str(&answer.body).unwrap();
        let until = document["Expiration"].as_str().unwrap();
        assert!(until > &*hour_after(back), "{until}");
        let client = broker.client(&keys(&answer));
        assert!(client.get_caller_identity().await.is_ok());
    }
}

/// The moment an hour after another one, less the second in which it is.
fn hour_after(at: Timestamp) -> String {
    at.plus(Duration::from_secs(3_599)).to_string()
}

/// How many calls of the broker have failed.
async fn failed(agent: &Beside) -> u64 {
    let name = "brevet_agent_fetches_total{outcome=\"unreachable\"} ";
    let metrics = agent.metrics().await;
    let line = metrics.lines().find_map(|line| line.strip_prefix(name));
    line.unwrap_or_else(|| panic!("{metrics}")).parse().unwrap()
}
