//! An agent in this process, by the clock of a broker: it listens on real sockets, and its time moves when the broker's
//! does.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use brevet::agent::config::AgentConfig;
use brevet::agent::run::{self, Running};
use brevet::agent::source::BrokerSource;
use brevet::base::entropy::SystemEntropy;
use http::{HeaderMap, HeaderName, HeaderValue};
use serde_json::{Value, json};

use crate::harness::{Answer, Broker, Keys, PATIENCE, http1};
use crate::workloads::keys_of;

const ROLES: &str = "/latest/meta-data/iam/security-credentials/";

/// An agent with a configuration of its own.
pub struct Beside {
    pub running: Running,
    pub dir: tempfile::TempDir,
}

impl Beside {
    /// Starts an agent with the key of a user, and with these sections of its configuration.
    pub async fn start(broker: &Broker, user: &str, sections: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let keys = keys_of(user);
        let key = json!({"AccessKeyId": keys.id, "SecretAccessKey": keys.secret}).to_string();
        let config = format!(
            "broker.endpoint = \"{}\"\nidentity.access_key_file = \"key.json\"\noperator.address = \"127.0.0.1:0\"\n{sections}",
            broker.url()
        );
        for (name, text) in [("key.json", key), ("agent.toml", config)] {
            brevet::files::write_private(&dir.path().join(name), text.as_bytes()).unwrap();
        }
        let config = AgentConfig::load(&dir.path().join("agent.toml")).unwrap();
        let clock = broker.clock.clone();
        let (to, identity) = (config.broker.clone(), config.identity.clone());
        let source = Arc::new(BrokerSource::new(to, identity, clock.clone()));
        let entropy = Arc::new(SystemEntropy::new());
        let running = run::start(config, source, clock, entropy).await.unwrap();
        Self { running, dir }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Where the instance metadata service listens.
    pub fn imds(&self) -> SocketAddr {
        let world = self.running.world.imds.as_ref().unwrap();
        parts(&world.endpoint).0
    }

    /// What the operators' endpoint says of the agent.
    pub async fn metrics(&self) -> String {
        let (address, _) = parts(&self.running.world.ops_endpoint);
        ask(address, "GET", "/metrics", &[]).await.body
    }
}

/// The address and the path in a URL.
pub fn parts(url: &str) -> (SocketAddr, String) {
    let rest = url.strip_prefix("http://").unwrap();
    let (address, path) = rest.split_once('/').unwrap_or((rest, ""));
    (address.parse().unwrap(), format!("/{path}"))
}

/// Asks as SDKs do: the port is in `Host`, unless it is 80.
pub async fn ask(
    address: SocketAddr,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
) -> Answer {
    let host = address.to_string();
    let host = host.strip_suffix(":80").unwrap_or(&host);
    let mut all = HeaderMap::new();
    for (name, value) in [("host", host)].iter().chain(headers) {
        let name = HeaderName::from_bytes(name.as_bytes()).unwrap();
        all.insert(name, HeaderValue::from_str(value).unwrap());
    }
    http1(address, method, path, all, Vec::new()).await
}

/// A token of the instance metadata service, for six hours.
pub async fn token(imds: SocketAddr) -> String {
    let ttl = [("x-aws-ec2-metadata-token-ttl-seconds", "21600")];
    let answer = ask(imds, "PUT", "/latest/api/token", &ttl).await;
    assert_eq!(answer.status, 200, "{}", answer.body);
    answer.body
}

/// What the instance metadata service answers to who asks for the credentials of its role.
pub async fn credentials(imds: SocketAddr, role: &str, token: &str) -> Answer {
    let token = [("x-aws-ec2-metadata-token", token)];
    ask(imds, "GET", &format!("{ROLES}{role}"), &token).await
}

/// Asks again as long as the agent has no credentials yet: on a slow machine, the broker may take longer than the agent
/// keeps a workload waiting.
pub async fn until_available(mut ask: impl AsyncFnMut() -> Answer) -> Answer {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let answer = ask().await;
        if answer.status != 503 || Instant::now() > deadline {
            return answer;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// The keys in an answer with credentials.
pub fn keys(answer: &Answer) -> Keys {
    assert_eq!(answer.status, 200, "{}", answer.body);
    let document: Value = serde_json::from_str(&answer.body).unwrap();
    let text = |name: &str| {
        let value = document[name].as_str();
        value
            .unwrap_or_else(|| panic!("{name}: {document}"))
            .to_owned()
    };
    Keys {
        id: text("AccessKeyId"),
        secret: text("SecretAccessKey"),
        token: Some(text("Token")),
    }
}
