//! The container endpoint, the Unix socket and `exec`: who gets credentials, and who does not.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Output, Stdio};

use serde_json::Value;

use crate::agent::{Answer, Pair, Process, request, started, until_available, with_keys};
use crate::binary::brevet;

pub const ROLE: &str = "arn:aws:iam::111122223333:role/Demo";

/// A broker, and an agent with a configuration that has these sections.
pub struct Configured {
    _broker: Process,
    pub broker_world: Value,
    _agent: Process,
    pub world: Value,
    dir: tempfile::TempDir,
}

impl Configured {
    pub fn start(sections: &str) -> Self {
        Self::start_beside(&[], sections)
    }

    /// Does what [`Self::start`] does, with more arguments of the broker.
    pub fn start_beside(broker: &[&str], sections: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut serve = brevet();
        serve.args(["serve", "--dev", "--listen", "127.0.0.1:0"]);
        serve.args(broker);
        let (broker, broker_world) = started(serve, &dir.path().join("broker.json"));
        let alice = &broker_world["users"]["alice"];
        let key = serde_json::json!({
            "AccessKeyId": alice["access_key_id"], "SecretAccessKey": alice["secret_access_key"],
        });
        brevet::files::write_private(&dir.path().join("key.json"), key.to_string().as_bytes())
            .unwrap();
        let config = format!(
            "broker.endpoint = {}\nidentity.access_key_file = \"key.json\"\noperator.address = \"127.0.0.1:0\"\n{sections}",
            broker_world["grpc_endpoint"]
        );
        let path = dir.path().join("agent.toml");
        brevet::files::write_private(&path, config.as_bytes()).unwrap();
        let mut agent = brevet();
        agent.args(["agent", "--config"]).arg(&path);
        let (agent, world) = started(agent, &dir.path().join("agent.json"));
        Self {
            _broker: broker,
            broker_world,
            _agent: agent,
            world,
            dir,
        }
    }

    pub fn read(&self, file: &str) -> String {
        std::fs::read_to_string(self.dir.path().join(file)).unwrap()
    }
}

/// The address and the path in a URL.
pub fn parts(url: &Value) -> (String, String) {
    let rest = url.as_str().unwrap().strip_prefix("http://").unwrap();
    let (address, path) = rest.split_once('/').unwrap();
    (address.to_owned(), format!("/{path}"))
}

pub fn ask(address: &str, path: &str, token: &str) -> Answer {
    until_available(|| request(address, "GET", path, &[("Authorization", token)]))
}

#[test]
fn ag_05_a_container_gets_nothing_by_the_path_or_the_token_of_another() {
    let workload = |name: &str| {
        format!(
            "[[container.workload]]\nname = \"{name}\"\ntoken_file = \"{name}.token\"\nrole_arn = \"{ROLE}\"\n"
        )
    };
    let agent = Configured::start(&format!(
        "[container]\naddress = \"127.0.0.1:0\"\n{}{}",
        workload("one"),
        workload("two")
    ));
    let (address, path) = parts(&agent.world["ecs"]["full_uri"]);
    assert_eq!(path, "/credentials/one");
    let (one, two) = (agent.read("one.token"), agent.read("two.token"));
    assert_eq!(agent.world["ecs"]["token"], one.as_str());

    let first = ask(&address, &path, &one);
    assert_eq!(first.status, 200, "{first:?}");
    let second = ask(&address, "/credentials/two", &two);
    let key = |answer: &Answer| answer.json()["AccessKeyId"].as_str().unwrap().to_owned();
    assert_ne!(key(&first), key(&second), "each has a session of its own");
    let document = first.json();
    assert_eq!(document["RoleArn"], ROLE);
    assert_eq!(document["AccountId"], "111122223333");

    let secret = document["SecretAccessKey"].as_str().unwrap();
    let refused = |answer: Answer, status: u16| {
        assert_eq!(answer.status, status, "{answer:?}");
        let document = answer.json();
        assert!(document["code"].is_string() && document["message"].is_string());
        assert!(!answer.body.contains(secret) && !answer.body.contains(&one));
    };
    refused(ask(&address, "/credentials/two", &one), 403);
    refused(ask(&address, &path, &two), 403);
    refused(ask(&address, &path, &one[1..]), 403);
    refused(ask(&address, &path, &format!("Bearer {one}")), 403);
    for at in [0, 31, 63] {
        let mut touched = one.clone().into_bytes();
        touched[at] = if touched[at] == b'0' { b'1' } else { b'0' };
        let touched = String::from_utf8(touched).unwrap();
        refused(ask(&address, &path, &touched), 403);
    }
    refused(request(&address, "GET", &path, &[]), 401);
    let both = [("Authorization", two.as_str()), ("Authorization", &one)];
    refused(request(&address, "GET", &path, &both), 401);
    refused(ask(&address, "/credentials/three", &one), 404);
    refused(ask(&address, "/credentials/", &one), 404);
    let with_token = [("Authorization", one.as_str())];
    refused(request(&address, "POST", &path, &with_token), 405);
    for foreign in [
        ("Host", "rebound.example.com"),
        ("X-Forwarded-For", "10.0.0.1"),
        ("Origin", "http://evil.example"),
    ] {
        let headers = [("Authorization", one.as_str()), foreign];
        refused(request(&address, "GET", &path, &headers), 403);
    }
    let audit = agent.read("agent-audit.jsonl");
    for secret in [secret, &one, &two] {
        assert!(!audit.contains(secret));
    }
}

#[test]
fn a_refused_role_is_a_final_error_for_its_container_only() {
    let agent = Configured::start(&format!(
        "[container]\naddress = \"127.0.0.1:0\"\n\
         [[container.workload]]\nname = \"none\"\ntoken_file = \"none\"\nrole_arn = \"{ROLE}x\"\n\
         [[container.workload]]\nname = \"good\"\ntoken_file = \"good\"\nrole_arn = \"{ROLE}\"\n"
    ));
    let (address, _) = parts(&agent.world["ecs"]["full_uri"]);
    let refused = ask(&address, "/credentials/none", &agent.read("none"));
    assert_eq!(refused.status, 403, "{refused:?}");
    assert_eq!(refused.json()["code"], "AccessDenied");
    let good = ask(&address, "/credentials/good", &agent.read("good"));
    assert_eq!(good.status, 200, "{good:?}");
}

fn run_argv(world: &Value) -> Output {
    let argv: Vec<String> =
        serde_json::from_value(world["credential_process"]["argv"].clone()).unwrap();
    let (program, arguments) = argv.split_first().unwrap();
    let mut command = Command::new(program);
    command.args(arguments).env_clear().output().unwrap()
}

#[test]
fn a_local_program_needs_no_secret_and_no_environment() {
    let pair = Pair::start();
    let done = run_argv(&pair.world);
    let error = String::from_utf8_lossy(&done.stderr);
    assert!(done.status.success() && error.is_empty(), "{error}");
    let document: Value = serde_json::from_slice(&done.stdout).unwrap();
    assert_eq!(document["Version"], 1);
    let (address, path) = parts(&pair.world["ecs"]["full_uri"]);
    let answer = ask(
        &address,
        &path,
        pair.world["ecs"]["token"].as_str().unwrap(),
    );
    assert_eq!(
        answer.json()["AccessKeyId"],
        document["AccessKeyId"],
        "the same session for the same wish"
    );
}

#[test]
fn ag_05_a_local_program_that_no_entry_fits_gets_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("s");
    let uid = rustix::process::getuid().as_raw();
    let agent = Configured::start(&format!(
        "[unix_socket]\npath = \"{}\"\n\
         [[unix_socket.program]]\nname = \"unit\"\nuid = {uid}\nunit = \"no-such.service\"\nrole_arn = \"{ROLE}\"\n\
         [[unix_socket.program]]\nname = \"file\"\nuid = {uid}\nexecutable = \"/no/such\"\nrole_arn = \"{ROLE}\"\n\
         [[unix_socket.program]]\nname = \"user\"\nuid = {}\nrole_arn = \"{ROLE}\"\n",
        socket.display(),
        uid + 1
    ));
    let done = run_argv(&agent.world);
    let error = String::from_utf8_lossy(&done.stderr);
    assert_eq!(done.status.code(), Some(1));
    assert!(done.stdout.is_empty());
    assert!(
        error.contains("AccessDenied: No entry of [[unix_socket.program]]")
            && error.contains(&format!("uid {uid}")),
        "{error}"
    );
}

pub fn exec(broker: &Value, arguments: &[&str]) -> Command {
    let mut command = brevet();
    command.args(["exec", "--role", ROLE]).args(arguments);
    with_keys(&mut command, broker, "alice");
    command
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

#[test]
fn a_program_runs_with_a_role_and_its_end_is_passed_on() {
    let agent = Configured::start("");
    let broker = &agent.broker_world;
    for form in [&["--"][..], &["--env", "--"][..]] {
        let run = |script: &str| {
            let arguments: Vec<&str> = form.iter().copied().chain(["sh", "-c", script]).collect();
            exec(broker, &arguments).output().unwrap()
        };
        let done = run("env | sort; exit 7");
        assert_eq!(done.status.code(), Some(7), "{}", said(&done));
        let seen = said(&done);
        let secret = broker["users"]["alice"]["secret_access_key"]
            .as_str()
            .unwrap();
        assert!(
            !seen.contains(secret),
            "the caller's own key is not inherited"
        );
        let is_fixed = form.len() == 2;
        assert_eq!(seen.contains("AWS_SESSION_TOKEN="), is_fixed, "{seen}");
        assert_eq!(
            seen.contains("AWS_CONTAINER_CREDENTIALS_FULL_URI=http://127.0.0.1:"),
            !is_fixed
        );
        let nothing: Vec<&str> = form.iter().copied().chain(["/no/such/program"]).collect();
        let done = exec(broker, &nothing).output().unwrap();
        assert_eq!(done.status.code(), Some(127));
        assert!(said(&done).contains("/no/such/program"), "{}", said(&done));
    }
    let killed = exec(broker, &["--", "sh", "-c", "kill -TERM $$"])
        .output()
        .unwrap();
    assert_eq!(killed.status.code(), Some(128 + 15));
    let refused = exec(broker, &["--role-session-name", "a b", "--", "echo", "ran"])
        .output()
        .unwrap();
    assert_eq!(refused.status.code(), Some(1));
    assert!(
        !said(&refused).contains("ran"),
        "nothing is run without credentials"
    );
}

#[test]
fn signals_reach_the_program() {
    let agent = Configured::start("");
    for name in ["TERM", "HUP", "USR1"] {
        let script =
            format!("trap 'echo got; exit 3' {name}; echo ready; while :; do sleep 0.1; done");
        let child = exec(&agent.broker_world, &["--", "sh", "-c", &script])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut process = Process(child);
        let mut lines = BufReader::new(process.0.stdout.take().unwrap()).lines();
        assert_eq!(lines.next().unwrap().unwrap(), "ready");
        process.signal(&format!("-{name}"));
        assert_eq!(lines.next().unwrap().unwrap(), "got");
        assert_eq!(process.0.wait().unwrap().code(), Some(3), "{name}");
    }
}

#[test]
fn twenty_runs_of_credential_process_at_once_make_one_call() {
    let agent = Configured::start("");
    let cache = agent.dir.path().join("cache");
    let run = |cache: &Path| {
        let mut command = brevet();
        command
            .args(["credential-process", "--role", ROLE, "--cache"])
            .arg(cache)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        with_keys(&mut command, &agent.broker_world, "alice");
        command.spawn().unwrap()
    };
    let runs: Vec<_> = (0..20).map(|_| run(&cache)).collect();
    let mut keys = std::collections::BTreeSet::new();
    for run in runs {
        let done = run.wait_with_output().unwrap();
        assert!(
            done.status.success() && done.stderr.is_empty(),
            "{}",
            said(&done)
        );
        let document: Value = serde_json::from_slice(&done.stdout).unwrap();
        keys.insert(document["AccessKeyId"].as_str().unwrap().to_owned());
    }
    assert_eq!(keys.len(), 1, "one session was issued, and all runs got it");
}

#[test]
fn a_pod_shows_a_token_of_its_own_or_gets_nothing() {
    use base64::Engine;
    use base64::engine::general_purpose::URL_SAFE_NO_PAD;
    let agent = Configured::start(
        "[pod_identity]\naddresses = [\"127.0.0.1:0\"]\ncluster = \"production\"\ntoken_file = \"pod\"\n",
    );
    let offer = &agent.world["pod_identity"];
    let (address, path) = parts(&offer["full_uri"]);
    assert_eq!(path, "/v1/credentials");
    assert!(offer["token_file"].as_str().unwrap().ends_with("/pod"));
    let token = |expires_at: i64, pod: &str| {
        let claims = format!(
            r#"{{"exp":{expires_at},"sub":"system:serviceaccount:web:app","kubernetes.io":{{"namespace":"web","pod":{pod}}}}}"#
        );
        format!("e30.{}.c2ln", URL_SAFE_NO_PAD.encode(claims))
    };
    let pod = r#"{"name":"app-1","uid":"u"}"#;
    let forged = token(4_000_000_000, pod);
    let with = [("Authorization", forged.as_str())];
    let refused = |answer: Answer, statuses: std::ops::RangeInclusive<u16>| {
        assert!(statuses.contains(&answer.status), "{answer:?}");
        let document = answer.json();
        assert!(document["code"].is_string() && document["message"].is_string());
    };
    refused(request(&address, "GET", &path, &[]), 400..=400);
    refused(ask(&address, &path, "not-a-token"), 400..=400);
    refused(ask(&address, &path, &token(1_000, pod)), 400..=400);
    refused(
        ask(&address, &path, &token(4_000_000_000, "null")),
        400..=400,
    );
    refused(ask(&address, "/v1/other", &forged), 404..=404);
    refused(request(&address, "POST", &path, &with), 405..=405);
    let foreign = [with[0], ("Host", "rebound.example.com")];
    refused(request(&address, "GET", &path, &foreign), 403..=403);
    // What looks like a token is for the broker to judge, and this one is nobody's.
    refused(ask(&address, &path, &forged), 400..=503);
}
