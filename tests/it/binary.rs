//! The built executable: exit codes, signals, invalid configuration, and an audit log that cannot be
//! written.

use std::io::{BufRead, BufReader, Read};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use brevet::api::sts::v1 as pb;
use brevet::client::{AssumeRole, Client, Credentials, Endpoint};

use crate::harness::{PATIENCE, code};

pub fn brevet() -> Command {
    Command::new(env!("CARGO_BIN_EXE_brevet"))
}

/// The folder that `brevet init` made.
pub struct Home {
    _dir: tempfile::TempDir,
    pub path: PathBuf,
    pub keys: Credentials,
}

impl Home {
    pub fn init() -> Self {
        Self::init_with(&[])
    }

    pub fn init_with(more: &[&str]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("broker");
        let made = brevet()
            .arg("init")
            .arg(&path)
            .args(["--account", "111122223333"])
            .args(more)
            .output()
            .unwrap();
        assert!(
            made.status.success(),
            "{}",
            String::from_utf8_lossy(&made.stderr)
        );
        let text = String::from_utf8(made.stdout).unwrap();
        let value = |name: &str| {
            text.split_whitespace()
                .find_map(|w| w.strip_prefix(name))
                .unwrap()
                .to_owned()
        };
        let keys = Credentials::long_term(
            &value("AWS_ACCESS_KEY_ID="),
            &value("AWS_SECRET_ACCESS_KEY="),
        );
        let home = Self {
            _dir: dir,
            path,
            keys,
        };
        home.edit(|toml| {
            toml.replace("127.0.0.1:7480", "127.0.0.1:0")
                .replace("127.0.0.1:7481", "127.0.0.1:0")
        });
        home
    }

    pub fn config(&self) -> PathBuf {
        self.path.join("brevet.toml")
    }

    pub fn edit(&self, change: impl FnOnce(String) -> String) {
        let text = change(std::fs::read_to_string(self.config()).unwrap());
        std::fs::write(self.config(), text).unwrap();
    }

    /// Moves the directory from the store to a file.
    pub fn declared_in_a_file(self) -> Self {
        let exported = brevet()
            .args(["export", "--config"])
            .arg(self.config())
            .output()
            .unwrap();
        assert!(exported.status.success());
        brevet::files::write_private(&self.path.join("directory.json"), &exported.stdout).unwrap();
        self.edit(|toml| toml.replace("[directory]\n", "[directory]\nfile = \"directory.json\"\n"));
        self
    }

    pub fn serve(&self) -> Daemon {
        serve(&self.config())
    }

    pub fn client(&self, daemon: &Daemon) -> Client {
        daemon.client(&self.keys)
    }

    /// Runs a command on this broker's store, which must succeed. Returns its output.
    pub fn run(&self, arguments: &[&str]) -> String {
        let output = self.try_run(arguments);
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{arguments:?}: {error}");
        String::from_utf8(output.stdout).unwrap() + &error
    }

    pub fn try_run(&self, arguments: &[&str]) -> std::process::Output {
        let (command, rest) = arguments.split_first().unwrap();
        brevet()
            .arg(command)
            .arg("--config")
            .arg(self.config())
            .args(rest)
            .output()
            .unwrap()
    }

    pub fn refused(&self, named: &str) {
        let output = brevet()
            .args(["serve", "--config"])
            .arg(self.config())
            .output()
            .unwrap();
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(1), "{error}");
        assert!(error.contains(named), "{named}: {error}");
    }
}

/// Starts a daemon, and returns when it listens.
pub fn serve(config: &Path) -> Daemon {
    serve_with(config, &[])
}

/// Starts a daemon with further environment variables.
fn serve_with(config: &Path, environment: &[(&str, &std::ffi::OsStr)]) -> Daemon {
    let mut command = brevet();
    command.envs(environment.iter().copied());
    serve_by(command, config, "trace")
}

/// Starts a daemon through another program, and returns when it listens.
pub fn serve_by(mut command: Command, config: &Path, log: &str) -> Daemon {
    let mut child = command
        .args(["serve", "--log-format", "json", "--log", log, "--config"])
        .arg(config)
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
    let mut log = Vec::new();
    let (address, operator) = loop {
        let line = lines.next().expect("it listens").unwrap();
        let json: serde_json::Value = serde_json::from_str(&line).unwrap_or_default();
        log.push(line);
        if let (Some(address), Some(operator)) = (
            json["fields"]["address"].as_str(),
            json["fields"]["operator"].as_str(),
        ) {
            break (address.to_owned(), operator.to_owned());
        }
    };
    let log = std::thread::spawn(move || {
        log.extend(lines.map_while(Result::ok));
        log
    });
    Daemon {
        child,
        address,
        operator,
        log: Some(log),
    }
}

pub struct Daemon {
    pub child: Child,
    pub address: String,
    pub operator: String,
    log: Option<std::thread::JoinHandle<Vec<String>>>,
}

impl Daemon {
    pub fn client(&self, keys: &Credentials) -> Client {
        let endpoint = Endpoint {
            url: format!("http://{}", self.address),
            region: "us-east-1".into(),
            ca_pem: None,
        };
        Client::new(&endpoint, keys.clone()).unwrap()
    }

    pub fn signal(&self, name: &str) {
        assert!(
            Command::new("kill")
                .args([name, &self.child.id().to_string()])
                .status()
                .unwrap()
                .success()
        );
    }

    pub fn ended(&mut self) -> (Option<i32>, Vec<String>) {
        let status = self.child.wait().unwrap();
        (status.code(), self.log.take().unwrap().join().unwrap())
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn role() -> AssumeRole {
    AssumeRole::new("arn:aws:iam::111122223333:role/Administrator", "test")
}

#[tokio::test]
async fn au_06_init_serve_use_stop_and_no_secret_in_any_log() {
    let home = Home::init();
    let checked = brevet()
        .args(["check", "--config"])
        .arg(home.config())
        .output()
        .unwrap();
    assert!(
        checked.status.success() && String::from_utf8(checked.stdout).unwrap().ends_with("ok\n")
    );
    let mut daemon = home.serve();
    let client = home.client(&daemon);
    let assumed = client.assume_role(&role()).await.unwrap();
    let forged = Credentials::long_term(&home.keys.access_key_id, "canary-wrong-secret-0123456789");
    let endpoint = Endpoint {
        url: format!("http://{}", daemon.address),
        region: "us-east-1".into(),
        ca_pem: None,
    };
    assert_eq!(
        code(
            &Client::new(&endpoint, forged)
                .unwrap()
                .get_caller_identity()
                .await
                .unwrap_err()
        ),
        "SignatureDoesNotMatch"
    );
    // Whatever else hands out or takes a secret: a user's own session, a device, an import, a wrong code.
    let own = client.get_session_token(None).await.unwrap();
    let made = client
        .iam(
            "CreateVirtualMFADevice",
            &[("VirtualMFADeviceName", "canary")],
        )
        .await
        .unwrap();
    let seed = made
        .pointer("/VirtualMFADevice/Base32StringSeed")
        .unwrap()
        .as_str()
        .unwrap()
        .to_owned();
    let serial = "arn:aws:iam::111122223333:mfa/canary";
    let codes = [
        ("AuthenticationCode1", "314159"),
        ("AuthenticationCode2", "271828"),
    ];
    let enable = [
        &[("UserName", "administrator"), ("SerialNumber", serial)][..],
        &codes,
    ]
    .concat();
    client.iam("EnableMFADevice", &enable).await.unwrap_err();
    client
        .get_session_token(Some((serial, "161803")))
        .await
        .unwrap_err();
    client
        .decode_authorization_message("canary-encoded-message")
        .await
        .unwrap_err();
    let imported = serde_json::json!({
        "UserDetailList": [{"Path": "/", "UserName": "canary", "Arn": "arn:aws:iam::111122223333:user/canary"}],
        "Brevet": {"AccessKeys": [{"UserArn": "arn:aws:iam::111122223333:user/canary",
            "AccessKeyId": "AKIACANARYCANARYCANA", "SecretAccessKey": "canary-imported-secret-0123456789-0123456"}]}
    });
    let file = home.path.join("import.json");
    brevet::files::write_private(&file, imported.to_string().as_bytes()).unwrap();
    let said = home.run(&["import", file.to_str().unwrap(), "--apply"])
        + &home.run(&["changes", "--documents"]);
    let canary = Credentials::long_term(
        "AKIACANARYCANARYCANA",
        "canary-imported-secret-0123456789-0123456",
    );
    crate::harness::eventually("it is there", async || {
        daemon.client(&canary).get_caller_identity().await.is_ok()
    })
    .await;
    let operator = daemon.operator.parse().unwrap();
    let metrics = crate::harness::http1(
        operator,
        "GET",
        "/metrics",
        http::HeaderMap::new(),
        Vec::new(),
    )
    .await
    .body;
    drop(client);
    daemon.signal("-TERM");
    let (status, log) = daemon.ended();
    assert_eq!(status, Some(0));
    std::fs::remove_file(file).unwrap();
    let mut everything = log.join("\n") + &said + &metrics;
    for entry in std::fs::read_dir(&home.path).unwrap() {
        let path = entry.unwrap().path();
        if !["master.key", "keyring.json"].contains(&path.file_name().unwrap().to_str().unwrap()) {
            everything += &String::from_utf8_lossy(&std::fs::read(path).unwrap());
        }
    }
    assert!(everything.contains(&assumed.credentials.access_key_id));
    let secrets = [
        home.keys.secret_access_key.expose().clone(),
        assumed.credentials.secret_access_key.expose().clone(),
        assumed
            .credentials
            .session_token
            .as_ref()
            .unwrap()
            .expose()
            .clone(),
        "canary-wrong-secret".to_owned(),
        "canary-imported-secret".to_owned(),
        own.secret_access_key.expose().clone(),
        own.session_token.as_ref().unwrap().expose().clone(),
        String::from_utf8(
            base64::Engine::decode(&base64::engine::general_purpose::STANDARD, &seed).unwrap(),
        )
        .unwrap(),
        seed,
    ];
    // Six digits are part of many numbers.
    for code in ["314159", "271828", "161803"] {
        let texts = ["\"", "=", ":", " "].map(|before| format!("{before}{code}"));
        assert!(
            !texts.iter().any(|text| everything.contains(text)),
            "{code} in a log"
        );
    }
    for file in ["master.key", "keyring.json"] {
        let text = std::fs::read_to_string(home.path.join(file)).unwrap();
        for secret in text.split(['"', '\n']).filter(|w| w.len() == 44) {
            assert!(!everything.contains(secret), "{file} in a log");
        }
    }
    for secret in secrets {
        assert!(!everything.contains(&secret), "a secret in a log");
        assert!(!everything.contains(&base64::Engine::encode(
            &base64::engine::general_purpose::STANDARD,
            &secret
        )));
    }
    for file in [
        "master.key",
        "keyring.json",
        "store.db",
        "store.watermark",
        "brevet.toml",
        "audit.jsonl",
    ] {
        let mode = std::fs::metadata(home.path.join(file))
            .unwrap()
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o600, "{file}");
    }
}

#[tokio::test]
async fn no_answered_credential_without_its_line_after_kill_9() {
    let home = Home::init();
    let mut kept: Option<Credentials> = None;
    for round in 0..5 {
        let mut daemon = home.serve();
        let client = home.client(&daemon);
        if let Some(old) = &kept {
            let endpoint = Endpoint {
                url: format!("http://{}", daemon.address),
                region: "us-east-1".into(),
                ca_pem: None,
            };
            assert!(
                Client::new(&endpoint, old.clone())
                    .unwrap()
                    .get_caller_identity()
                    .await
                    .is_ok(),
                "a session of the killed process"
            );
        }
        let mut callers = Vec::new();
        for _ in 0..16 {
            let client = client.clone();
            callers.push(tokio::spawn(async move {
                let mut got = Vec::new();
                while let Ok(assumed) = client.assume_role(&role()).await {
                    got.push(assumed.credentials);
                }
                got
            }));
        }
        let granted = || {
            std::fs::read_to_string(home.path.join("audit.jsonl"))
                .unwrap()
                .matches("AssumeRole")
                .count()
        };
        let before = granted();
        crate::harness::eventually("something is granted", async || granted() > before + 16).await;
        tokio::time::sleep(Duration::from_millis(37 * round)).await;
        daemon.child.kill().unwrap();
        daemon.child.wait().unwrap();
        let mut received = Vec::new();
        for caller in callers {
            received.extend(caller.await.unwrap());
        }
        let audit = std::fs::read_to_string(home.path.join("audit.jsonl")).unwrap();
        assert!(!received.is_empty());
        for credentials in &received {
            assert!(
                audit.contains(&credentials.access_key_id),
                "answered, and not on record"
            );
        }
        kept = received.pop();
    }
}

#[tokio::test]
async fn au_01_a_log_that_cannot_be_written_issues_nothing() {
    let home = Home::init();
    home.edit(|toml| toml.replace("file = \"audit.jsonl\"", "file = \"/dev/full\""));
    let daemon = home.serve();
    let client = home.client(&daemon);
    for _ in 0..3 {
        let started = Instant::now();
        assert_eq!(
            code(&client.assume_role(&role()).await.unwrap_err()),
            "ServiceUnavailable"
        );
        assert!(started.elapsed() < PATIENCE);
    }
}

#[tokio::test]
async fn au_02_a_log_that_hangs_answers_by_its_deadline() {
    let home = Home::init();
    let fifo = home.path.join("fifo");
    assert!(
        Command::new("mkfifo")
            .arg(&fifo)
            .status()
            .unwrap()
            .success()
    );
    home.edit(|toml| toml.replace("file = \"audit.jsonl\"", "file = \"fifo\""));
    // Without a reader it cannot be opened: the start says so, and does not hang.
    let started = Instant::now();
    home.refused("[audit]");
    assert!(started.elapsed() < PATIENCE);
    // A reader that stops reading: the pipe fills, and then calls are refused.
    let reader = std::fs::OpenOptions::new()
        .read(true)
        .write(true)
        .open(&fifo)
        .unwrap();
    let daemon = home.serve();
    let client = home.client(&daemon);
    assert!(client.assume_role(&role()).await.is_ok());
    let mut refused = 0;
    for _ in 0..2_000 {
        let started = Instant::now();
        let result = client.assume_role(&role()).await;
        assert!(started.elapsed() < PATIENCE);
        if let Err(error) = result {
            assert_eq!(code(&error), "ServiceUnavailable");
            refused += 1;
            if refused == 2 {
                break;
            }
        }
    }
    assert_eq!(refused, 2);
    // Somebody reads again: it recovers by itself.
    let mut reader = reader;
    std::thread::spawn(move || {
        let mut sink = [0; 65_536];
        while reader.read(&mut sink).is_ok_and(|n| n > 0) {}
    });
    let mut recovered = false;
    for _ in 0..300 {
        recovered = client.assume_role(&role()).await.is_ok();
        if recovered {
            break;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert!(recovered);
}

#[test]
fn cf_03_files_that_others_reach_refuse_the_start() {
    let home = Home::init().declared_in_a_file();
    let chmod = |path: &Path, mode| {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap()
    };
    for (file, mode) in [
        ("keyring.json", 0o644),
        ("master.key", 0o640),
        ("brevet.toml", 0o666),
        ("directory.json", 0o620),
        ("store.db", 0o644),
    ] {
        chmod(&home.path.join(file), mode);
        home.refused(file);
        chmod(&home.path.join(file), 0o600);
    }
    std::fs::rename(home.path.join("keyring.json"), home.path.join("real.json")).unwrap();
    std::os::unix::fs::symlink("real.json", home.path.join("keyring.json")).unwrap();
    home.refused("symbolic link");
    std::fs::remove_file(home.path.join("keyring.json")).unwrap();
    home.refused("keyring.json");
    std::fs::rename(home.path.join("real.json"), home.path.join("keyring.json")).unwrap();
    chmod(&home.path, 0o777);
    home.refused("folder");
    chmod(&home.path, 0o700);
}

#[test]
fn az_01_cf_01_a_policy_or_key_that_is_not_understood_refuses_the_start() {
    let home = Home::init().declared_in_a_file();
    let directory = home.path.join("directory.json");
    let good = std::fs::read_to_string(&directory).unwrap();
    for (from, to, named) in [
        ("sts:AssumeRole", "AssumeRole", "AssumeRolePolicyDocument"),
        ("\"Effect\"", "\"effect\"", "effect"),
        ("2012-10-17", "2012-10-18", "Version"),
        ("\"Version\"", "\"Condition\"", "Condition"),
        (
            "\"MaxSessionDuration\": 3600",
            "\"MaxSessionDuration\": 1",
            "MaxSessionDuration",
        ),
    ] {
        std::fs::write(&directory, good.replace(from, to)).unwrap();
        home.refused(named);
    }
    std::fs::write(&directory, &good).unwrap();
    home.edit(|toml| format!("{toml}\nsurprise = 1\n"));
    home.refused("surprise");
}

#[test]
fn an_05_development_mode_stays_on_loopback_and_examples_are_no_secrets() {
    for address in ["0.0.0.0:0", "[::]:0", "192.0.2.1:0"] {
        let output = brevet()
            .args(["serve", "--dev", "--listen", address])
            .output()
            .unwrap();
        assert_eq!(output.status.code(), Some(1));
        assert!(String::from_utf8_lossy(&output.stderr).contains("--listen"));
    }
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("directory.json");
    let text = crate::harness::DIRECTORY.replace(
        "canary+secret/of/alice/0123456789abcdefgh",
        "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY",
    );
    std::fs::write(&file, text).unwrap();
    let output = brevet()
        .args(["serve", "--dev", "--listen", "127.0.0.1:0", "--directory"])
        .arg(&file)
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("SecretAccessKey"));
    assert_eq!(
        brevet().arg("serve").output().unwrap().status.code(),
        Some(2),
        "neither --config nor --dev"
    );
}

#[tokio::test]
async fn the_demo_writes_its_world_once_everything_listens() {
    let dir = tempfile::tempdir().unwrap();
    let world = dir.path().join("world.json");
    let mut child = brevet()
        .args(["serve", "--dev", "--listen", "127.0.0.1:0", "--world"])
        .arg(&world)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let started = Instant::now();
    while !world.exists() {
        assert!(started.elapsed() < PATIENCE);
        std::thread::sleep(Duration::from_millis(5));
    }
    let text = std::fs::read_to_string(&world).unwrap();
    assert_eq!(
        std::fs::metadata(&world).unwrap().permissions().mode() & 0o777,
        0o600
    );
    let json: serde_json::Value = serde_json::from_str(&text).unwrap();
    let alice = &json["users"]["alice"];
    let text = |v: &serde_json::Value| v.as_str().unwrap().to_owned();
    let endpoint = Endpoint {
        url: text(&json["grpc_endpoint"]),
        region: text(&json["region"]),
        ca_pem: None,
    };
    let keys = Credentials::long_term(
        &text(&alice["access_key_id"]),
        &text(&alice["secret_access_key"]),
    );
    let client = Client::new(&endpoint, keys).unwrap();
    assert_eq!(
        client.get_caller_identity().await.unwrap().arn,
        text(&alice["arn"])
    );
    assert!(
        client
            .assume_role(&AssumeRole::new(
                json["roles"]["Demo"]["arn"].as_str().unwrap(),
                "demo"
            ))
            .await
            .is_ok()
    );
    child.kill().unwrap();
    child.wait().unwrap();
}

#[test]
fn keys_are_rotated_and_secrets_sealed() {
    let home = Home::init().declared_in_a_file();
    let keyring = home.path.join("keyring.json");
    let list = |verb: &str| {
        String::from_utf8(
            brevet()
                .args(["keyring", verb])
                .arg(&keyring)
                .output()
                .unwrap()
                .stdout,
        )
        .unwrap()
    };
    assert_eq!(list("list").matches("current").count(), 1);
    let rotated = list("rotate");
    assert_eq!(
        (
            rotated.matches("previous").count(),
            rotated.matches("next").count()
        ),
        (1, 1),
        "{rotated}"
    );
    let directory = home.path.join("directory.json");
    brevet::files::write_private(&directory, crate::harness::DIRECTORY.as_bytes()).unwrap();
    let seal = || {
        brevet()
            .args(["seal", "--config"])
            .arg(home.config())
            .output()
            .unwrap()
    };
    let first = seal();
    assert!(
        first.status.success(),
        "{}",
        String::from_utf8_lossy(&first.stderr)
    );
    let sealed = std::fs::read_to_string(&directory).unwrap();
    assert!(
        !sealed.contains("canary")
            && !sealed.contains("JBSWY3DP")
            && sealed.contains("SealedSecretAccessKey")
    );
    assert!(String::from_utf8_lossy(&seal().stderr).contains("0 secrets"));
    let checked = brevet()
        .args(["check", "--config"])
        .arg(home.config())
        .output()
        .unwrap();
    assert!(
        checked.status.success(),
        "{}",
        String::from_utf8_lossy(&checked.stderr)
    );
}

#[test]
fn op_02_a_second_signal_does_not_wait() {
    let home = Home::init();
    let mut daemon = home.serve();
    // A call that never ends: its headers are there, its body is not.
    let mut stuck = std::net::TcpStream::connect(&daemon.address).unwrap();
    std::io::Write::write_all(
        &mut stuck,
        b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 10\r\n\r\n",
    )
    .unwrap();
    std::thread::sleep(Duration::from_millis(200));
    let started = Instant::now();
    daemon.signal("-TERM");
    std::thread::sleep(Duration::from_millis(300));
    assert!(
        daemon.child.try_wait().unwrap().is_none(),
        "it waits for the call"
    );
    daemon.signal("-TERM");
    assert_eq!(daemon.ended().0, Some(0));
    assert!(started.elapsed() < Duration::from_secs(5));
}

/// Tags of a little less than 16 KiB, the most that a session may carry.
fn heavy_tags() -> Vec<(String, String)> {
    (0..40)
        .map(|n| (format!("{n:03}{}", "k".repeat(125)), "v".repeat(256)))
        .collect()
}

#[tokio::test]
async fn sessions_with_long_tags_are_all_listed_page_by_page() {
    let home = Home::init();
    let daemon = home.serve();
    let client = home.client(&daemon);
    for _ in 0..90 {
        client
            .assume_role(&AssumeRole {
                tags: heavy_tags(),
                ..role()
            })
            .await
            .unwrap();
    }
    // 90 times 15.6 KB are more than a page.
    let request = |max_items, marker| pb::ListSessionsRequest {
        max_items,
        marker,
        ..Default::default()
    };
    let page = client
        .list_sessions(request(Some(1_000), None))
        .await
        .unwrap();
    let bytes = prost::Message::encoded_len(&page);
    assert!(
        (900_000..1 << 20).contains(&bytes) && !page.marker.is_empty(),
        "{bytes}"
    );
    let rest = client
        .list_sessions(request(None, Some(page.marker)))
        .await
        .unwrap();
    assert_eq!(
        (
            page.sessions.len() + rest.sessions.len(),
            rest.marker.as_str()
        ),
        (90, "")
    );

    // The command goes on by itself until it has as many as were asked for.
    let list = |max_items: &str| {
        let output = brevet()
            .args(["sessions", "list", "--max-items", max_items])
            .env("BREVET_ENDPOINT", format!("http://{}", daemon.address))
            .env("AWS_ACCESS_KEY_ID", &home.keys.access_key_id)
            .env(
                "AWS_SECRET_ACCESS_KEY",
                home.keys.secret_access_key.expose(),
            )
            .env("AWS_REGION", "us-east-1")
            .output()
            .unwrap();
        assert!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
        let listed: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        (
            listed["Sessions"].as_array().unwrap().len(),
            listed.get("Marker").is_some(),
        )
    };
    assert_eq!(list("1000"), (90, false));
    assert_eq!(list("80"), (80, true));
}

#[tokio::test]
async fn what_cuts_a_session_is_bounded_before_it_is_packed() {
    let home = Home::init();
    let daemon = home.serve();
    let client = home.client(&daemon);
    let mut tags = heavy_tags();
    tags.extend((0..4).map(|n| (format!("more{n}"), "v".repeat(256))));
    let refused = client
        .assume_role(&AssumeRole { tags, ..role() })
        .await
        .unwrap_err()
        .to_string();
    assert!(
        refused.starts_with("PackedPolicyTooLarge: Packed size of session tags consumes 10"),
        "{refused}"
    );
    // Blanks mean nothing: they neither count nor end up in the token.
    let policy = r#"{"Version": "2012-10-17", "Statement": {"Effect": "Allow", "Action": "sts:*", "Resource": "*"}}"#;
    let padded = format!("{policy}{}", " ".repeat(2_048 - policy.len()));
    let session = client
        .assume_role(&AssumeRole {
            policy: Some(padded),
            ..role()
        })
        .await
        .unwrap();
    assert!(
        session.packed_policy_size <= 2
            && session
                .credentials
                .session_token
                .as_ref()
                .unwrap()
                .expose()
                .len()
                < 1_000
    );
    let caller = daemon
        .client(&session.credentials)
        .get_caller_identity()
        .await
        .unwrap();
    assert!(caller.arn.contains("assumed-role"), "{}", caller.arn);
}

#[test]
fn the_service_manager_is_told_and_the_start_says_what_an_operator_looks_for() {
    let home = Home::init();
    let socket = std::os::unix::net::UnixDatagram::bind(home.path.join("notify")).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    let told = || {
        let mut buffer = [0; 256];
        let length = socket.recv(&mut buffer).expect("in time");
        String::from_utf8_lossy(&buffer[..length]).into_owned()
    };
    let mut daemon = serve_with(
        &home.config(),
        &[("NOTIFY_SOCKET", home.path.join("notify").as_os_str())],
    );
    assert_eq!(
        told(),
        format!("READY=1\nSTATUS=listens on {}", daemon.address)
    );
    let health = |operator: &str| {
        brevet()
            .args(["health", "--operator", operator])
            .output()
            .unwrap()
    };
    let healthy = health(&daemon.operator);
    assert_eq!(
        (healthy.status.code(), healthy.stdout.as_slice()),
        (Some(0), b"ready\n".as_slice())
    );
    daemon.signal("-HUP");
    let reloading = told();
    let instant = reloading
        .strip_prefix("RELOADING=1\nMONOTONIC_USEC=")
        .expect("a reload");
    assert!(instant.parse::<u64>().is_ok(), "{instant}");
    assert_eq!(told(), "READY=1");
    daemon.signal("-TERM");
    assert_eq!(told(), "STOPPING=1");
    let (status, log) = daemon.ended();
    assert_eq!(status, Some(0));
    assert_eq!(health(&daemon.operator).status.code(), Some(1));
    let line = log
        .iter()
        .find(|line| line.contains("brevet listens"))
        .unwrap();
    let fields: serde_json::Value =
        serde_json::from_str::<serde_json::Value>(line).unwrap()["fields"].take();
    let text = |name: &str| fields[name].as_str().unwrap_or_default().to_owned();
    assert!(
        text("version").starts_with(env!("CARGO_PKG_VERSION")),
        "{line}"
    );
    assert!(
        text("store").ends_with("store.db") && text("audit").ends_with("audit.jsonl"),
        "{line}"
    );
    assert!(
        text("cluster").len() == 16 && text("certificate") == "none: plaintext",
        "{line}"
    );
}

#[test]
fn a_reader_that_goes_away_ends_a_command_quietly() {
    let home = Home::init();
    let program = env!("CARGO_BIN_EXE_brevet");
    let cases = home.path.join("cases.jsonl");
    std::fs::write(&cases, "{\"kind\": \"decide\"}\n".repeat(20_000)).unwrap();
    for line in [
        format!(
            "{program} policy simulate --cases {} | head -n 1 >/dev/null",
            cases.display()
        ),
        format!(
            "{program} export --config {} | true",
            home.config().display()
        ),
        format!(
            "{program} changes --config {} | true",
            home.config().display()
        ),
        format!("{program} --help | true"),
        format!("{program} completions bash | true"),
        format!("{program} man | true"),
        format!("{program} version --output json | true"),
        format!(
            "{program} keyring list {} | true",
            home.path.join("keyring.json").display()
        ),
        format!("{program} sessions list 2>&1 >/dev/null | true"),
    ] {
        let line = line.replace(&format!("{program} "), &format!("{{ {program} "));
        let line = line.replacen(" | ", "; echo $? >&3; } | ", 1);
        let output = Command::new("sh")
            .args(["-c", &format!("{{ {line}; }} 3>&1")])
            .output()
            .unwrap();
        let (status, error) = (
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr),
        );
        assert!(
            !error.contains("panicked") && !error.contains("error"),
            "{line}: {error}"
        );
        // A verdict that nobody read to its end is none.
        let expected = if line.contains("sessions list") || line.contains("policy simulate") {
            "1"
        } else {
            "0"
        };
        assert_eq!(status.trim(), expected, "{line}");
    }
    // What was asked for is done all the same.
    let file = home.path.join("directory.json");
    brevet::files::write_private(&file, crate::harness::DIRECTORY.as_bytes()).unwrap();
    let line = format!(
        "{program} import --config {} {} --apply | true",
        home.config().display(),
        file.display()
    );
    assert!(
        Command::new("sh")
            .args(["-c", &line])
            .stderr(Stdio::null())
            .status()
            .unwrap()
            .success()
    );
    assert!(
        home.run(&["import", file.to_str().unwrap()])
            .contains("nothing to change")
    );
}

#[test]
fn a_log_without_colour_and_a_log_that_nobody_reads() {
    // A terminal would get colours; a file and NO_COLOR do not. Without a reader the broker goes on.
    let home = Home::init();
    let mut child = brevet()
        .args(["serve", "--config"])
        .arg(home.config())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
    let first = lines.next().unwrap().unwrap();
    assert!(
        first.contains("brevet listens") && !first.contains('\u{1b}'),
        "{first}"
    );
    drop(lines);
    assert!(
        Command::new("kill")
            .args(["-HUP", &child.id().to_string()])
            .status()
            .unwrap()
            .success()
    );
    std::thread::sleep(Duration::from_millis(500));
    assert!(child.try_wait().unwrap().is_none(), "it still serves");
    assert!(
        Command::new("kill")
            .args(["-TERM", &child.id().to_string()])
            .status()
            .unwrap()
            .success()
    );
    assert_eq!(child.wait().unwrap().code(), Some(0));
}
