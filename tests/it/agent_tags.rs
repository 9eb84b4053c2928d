//! The session tags that the agent adds by itself, and trust policies that demand them.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use brevet::base::clock::{Clock, SystemClock};
use serde_json::{Value, json};

use crate::agent_beside::Beside;
use crate::binary::brevet;
use crate::harness::{Broker, Keys, eventually, may_skip};
use crate::workloads::{arn, broker_with, session, signing_key};

/// A broker whose role `job` allows session tags for programs of `backup.service` only, and an agent that serves two
/// units.
async fn beside_broker(session_tags: &str) -> (Broker, Beside) {
    let broker = broker_with(&signing_key()).await;
    // `brevet credential-process` has no clock but the system's.
    broker.clock.set(SystemClock.now());
    let role = arn("role", "job");
    let program = |unit: &str| {
        format!(
            "[[unix_socket.program]]\nname = \"{unit}\"\nunit = \"{unit}.service\"\nrole_arn = \"{role}\"\n"
        )
    };
    let sections = format!(
        "{session_tags}[unix_socket]\npath = \"socket\"\n{}{}",
        program("backup"),
        program("web")
    );
    let agent = Beside::start(&broker, "node-a", &sections).await;
    (broker, agent)
}

/// Waits until the agent has asked for both sessions: how many it got, and how many it was refused.
async fn outcomes(broker: &Broker, agent: &Beside) -> (u64, u64) {
    // What is configured is fetched within 30 seconds, though nobody asks for it.
    broker.elapse(31);
    let mut found = (0, 0);
    eventually("both sessions were asked for", async || {
        let metrics = agent.metrics().await;
        let count = |outcome: &str| {
            let name = format!("brevet_agent_fetches_total{{outcome=\"{outcome}\"}} ");
            let line = metrics.lines().find_map(|line| line.strip_prefix(&name));
            line.map_or(0, |count| count.parse().unwrap())
        };
        found = (count("ok"), count("refused"));
        found.0 + found.1 >= 2
    })
    .await;
    found
}

#[tokio::test]
async fn a_trust_policy_decides_by_the_unit_that_the_agent_names() {
    let (broker, agent) = beside_broker("[session_tags]\nunit = true\nnode = \"worker-a\"\n").await;
    assert_eq!(outcomes(&broker, &agent).await, (1, 1));
    drop(agent);
    let audit = broker.into_audit().await;
    let asked = |unit: &str| {
        let record = audit.iter().find(|record| {
            record["eventName"] == "AssumeRoleForWorkload"
                && record["requestParameters"]["workload"]["unit"] == unit
        });
        let record = record.unwrap_or_else(|| panic!("{unit}: {audit:?}"));
        (
            record["requestParameters"]["tags"].clone(),
            record["errorCode"].clone(),
        )
    };
    let tags =
        |unit: &str| json!([{"key": "node", "value": "worker-a"}, {"key": "unit", "value": unit}]);
    assert_eq!(
        asked("backup.service"),
        (tags("backup.service"), Value::Null)
    );
    assert_eq!(
        asked("web.service"),
        (tags("web.service"), json!("AccessDenied"))
    );
}

#[tokio::test]
async fn by_default_a_trust_policy_without_tags_lets_every_unit_in() {
    let (broker, agent) = beside_broker("").await;
    assert_eq!(outcomes(&broker, &agent).await, (2, 0));
}

/// Control groups as systemd makes one for each service, in a slice of this test.
struct Slice(PathBuf);

impl Slice {
    /// Makes the groups of these units. `None` if this process may not make any.
    fn with(units: &[&str]) -> Option<Self> {
        let mounts = std::fs::read_to_string("/proc/mounts").unwrap();
        let root = mounts.lines().find_map(|line| {
            let mut words = line.split(' ').skip(1);
            words.next().filter(|_| words.next() == Some("cgroup2"))
        })?;
        let name = format!("brevet-test-{}.slice", std::process::id());
        let slice = Path::new(root).join(name);
        std::fs::create_dir(&slice).ok()?;
        for unit in units {
            std::fs::create_dir(slice.join(unit)).unwrap();
        }
        Some(Self(slice))
    }

    /// Runs the command that gets credentials over the socket, as a program of a unit.
    async fn credential_process(&self, unit: &str, socket: &Path, role: &str) -> Output {
        let mut shell = Command::new("sh");
        shell.args(["-c", "echo $$ > \"$0/cgroup.procs\" && exec \"$@\""]);
        shell.arg(self.0.join(unit)).arg(brevet().get_program());
        shell.args(["credential-process", "--agent-socket"]);
        shell.arg(socket).args(["--role", role]);
        let run = tokio::task::spawn_blocking(move || shell.output());
        run.await.unwrap().unwrap()
    }
}

impl Drop for Slice {
    fn drop(&mut self) {
        // The processes have ended, so the groups are empty.
        for unit in std::fs::read_dir(&self.0).into_iter().flatten().flatten() {
            let _ = std::fs::remove_dir(unit.path());
        }
        let _ = std::fs::remove_dir(&self.0);
    }
}

#[tokio::test]
async fn a_program_of_a_unit_has_the_units_tag() {
    let Some(slice) = Slice::with(&["backup.service", "web.service"]) else {
        return may_skip("units need root and a hierarchy of control groups that it may change");
    };
    let (broker, agent) = beside_broker("[session_tags]\nunit = true\n").await;
    let (socket, role) = (agent.path("socket"), arn("role", "job"));
    let done = slice
        .credential_process("backup.service", &socket, &role)
        .await;
    let error = String::from_utf8_lossy(&done.stderr);
    assert!(done.status.success(), "{error}");
    let document: Value = serde_json::from_slice(&done.stdout).unwrap();
    let text = |name: &str| document[name].as_str().unwrap().to_owned();
    let got = Keys {
        id: text("AccessKeyId"),
        secret: text("SecretAccessKey"),
        token: Some(text("SessionToken")),
    };
    let who = broker.client(&got).get_caller_identity().await.unwrap();
    assert_eq!(who.arn, session("job", "backup"));
    let done = slice
        .credential_process("web.service", &socket, &role)
        .await;
    let error = String::from_utf8_lossy(&done.stderr);
    assert!(
        !done.status.success() && error.contains("AccessDenied"),
        "{error}"
    );
}
