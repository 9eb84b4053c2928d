//! An agent beside a broker: the built executable as both.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::binary::brevet;

/// The agent by itself: what it does must not need the broker's program.
fn brevet_agent() -> Command {
    Command::new(env!("CARGO_BIN_EXE_brevet-agent"))
}

/// A process that is ended with the test.
pub struct Process(pub Child);

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Process {
    /// Stops the process for a while, as if the machine it runs on were away, or lets it go on.
    pub fn signal(&self, name: &str) {
        let id = self.0.id().to_string();
        let sent = Command::new("kill").args([name, &id]).status().unwrap();
        assert!(sent.success());
    }
}

/// Starts a command that writes a world once it is ready, and reads it.
pub fn started(mut command: Command, world: &PathBuf) -> (Process, Value) {
    let child = command
        .arg("--world")
        .arg(world)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut process = Process(child);
    let deadline = Instant::now() + Duration::from_secs(60);
    while !world.exists() {
        assert!(
            Instant::now() < deadline,
            "{} was not written",
            world.display()
        );
        assert_eq!(process.0.try_wait().unwrap(), None, "it has ended");
        std::thread::sleep(Duration::from_millis(5));
    }
    let text = std::fs::read(world).unwrap();
    (process, serde_json::from_slice(&text).unwrap())
}

/// A broker in development mode, and an agent that hands out its demo role.
pub struct Pair {
    pub broker: Process,
    pub broker_world: Value,
    pub agent: Process,
    pub world: Value,
    pub audit: PathBuf,
    dir: tempfile::TempDir,
}

impl Pair {
    pub fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut serve = brevet();
        serve.args(["serve", "--dev", "--listen", "127.0.0.1:0"]);
        let (broker, broker_world) = started(serve, &dir.path().join("broker.json"));
        let audit = dir.path().join("agent-audit.jsonl");
        let mut agent = brevet_agent();
        agent
            .args(["agent", "--dev", "--listen", "127.0.0.1:0", "--audit"])
            .arg(&audit);
        with_keys(&mut agent, &broker_world, "alice");
        let (agent, world) = started(agent, &dir.path().join("agent.json"));
        Self {
            broker,
            broker_world,
            agent,
            world,
            audit,
            dir,
        }
    }

    /// The file in which the agent says what it offers.
    pub fn world_file(&self) -> PathBuf {
        self.dir.path().join("agent.json")
    }

    /// The address of the instance metadata service.
    pub fn imds(&self) -> String {
        let url = self.world["imds"]["endpoint"].as_str().unwrap();
        url.strip_prefix("http://").unwrap().to_owned()
    }

    /// A `brevet` with the keys of a user of the broker.
    pub fn brevet_as(&self, user: &str) -> Command {
        let mut command = brevet();
        with_keys(&mut command, &self.broker_world, user);
        command
    }
}

/// Sets the variables that `brevet serve --dev` prints.
pub fn with_keys(command: &mut Command, broker: &Value, user: &str) {
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    command
        .env("BREVET_ENDPOINT", text(&broker["grpc_endpoint"]))
        .env("AWS_REGION", text(&broker["region"]))
        .env(
            "AWS_ACCESS_KEY_ID",
            text(&broker["users"][user]["access_key_id"]),
        )
        .env(
            "AWS_SECRET_ACCESS_KEY",
            text(&broker["users"][user]["secret_access_key"]),
        )
        .env_remove("AWS_SESSION_TOKEN");
}

/// An HTTP answer.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    /// The headers, in lower case.
    pub head: String,
    pub body: String,
}

impl Answer {
    pub fn header(&self, name: &str) -> Option<&str> {
        let line = self.head.lines().find_map(|line| line.strip_prefix(name))?;
        Some(line.strip_prefix(':')?.trim())
    }

    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }
}

/// Sends the bytes of a request on a new connection, and reads the answer to its end.
pub fn exchange(address: &str, request: &[u8]) -> Answer {
    let mut stream = TcpStream::connect(address).unwrap();
    stream
        .set_read_timeout(Some(Duration::from_secs(60)))
        .unwrap();
    // The other end may refuse before it has read everything.
    let _ = stream.write_all(request);
    let mut bytes = Vec::new();
    // A reset after the answer loses nothing of it.
    let _ = stream.read_to_end(&mut bytes);
    let text = String::from_utf8_lossy(&bytes).into_owned();
    let (head, body) = text.split_once("\r\n\r\n").unwrap_or((&text, ""));
    let status = head
        .split(' ')
        .nth(1)
        .and_then(|status| status.parse().ok());
    Answer {
        status: status.unwrap_or(0),
        head: head.to_lowercase(),
        body: body.to_owned(),
    }
}

/// Asks again as long as the agent has no credentials yet: on a slow machine, the broker may take longer than the agent
/// keeps a workload waiting.
pub fn until_available(ask: impl Fn() -> Answer) -> Answer {
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        let answer = ask();
        if answer.status != 503 || Instant::now() > deadline {
            return answer;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// Sends a request with these further header lines.
pub fn request(address: &str, method: &str, path: &str, headers: &[(&str, &str)]) -> Answer {
    let mut text = format!("{method} {path} HTTP/1.1\r\nConnection: close\r\n");
    if !headers
        .iter()
        .any(|(name, _)| name.eq_ignore_ascii_case("host"))
    {
        text.push_str(&format!("Host: {address}\r\n"));
    }
    for (name, value) in headers {
        text.push_str(&format!("{name}: {value}\r\n"));
    }
    text.push_str("\r\n");
    exchange(address, text.as_bytes())
}
