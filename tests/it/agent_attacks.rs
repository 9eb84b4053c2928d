//! What a program beside the agent can do to the others: hold connections, smuggle requests, wait for what was left.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::agent::{Pair, Process, exchange, request, started, with_keys};
use crate::agent_container::{Configured, ROLE, ask, exec, parts};
use crate::agent_imds::{get, token};
use crate::binary::brevet;

const PATH: &str = "/latest/meta-data/iam/security-credentials/Demo";

/// A command with so many file descriptors, as most systems allow by default.
fn with_descriptors(command: &Command, most: u32) -> Command {
    let mut limited = Command::new("prlimit");
    limited
        .arg(format!("--nofile={most}:{most}"))
        .arg(command.get_program())
        .args(command.get_args());
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => limited.env(name, value),
            None => limited.env_remove(name),
        };
    }
    limited
}

#[test]
fn ag_02_who_only_holds_connections_takes_neither_descriptors_nor_places() {
    let dir = tempfile::tempdir().unwrap();
    let mut serve = brevet();
    serve.args(["serve", "--dev", "--listen", "127.0.0.1:0"]);
    let (_broker, broker) = started(serve, &dir.path().join("broker.json"));
    let mut agent = brevet();
    agent.args(["agent", "--dev", "--listen", "127.0.0.1:0"]);
    with_keys(&mut agent, &broker, "alice");
    let (_agent, world) = started(
        with_descriptors(&agent, 128),
        &dir.path().join("agent.json"),
    );
    let (address, path) = parts(&world["ecs"]["full_uri"]);
    let own = world["ecs"]["token"].as_str().unwrap();
    let imds = world["imds"]["endpoint"].as_str().unwrap();
    let imds = imds.strip_prefix("http://").unwrap();
    // Half a request each, on every address, by many more connections than the agent has descriptors.
    let mut held = Vec::new();
    for target in [imds, &*address] {
        for _ in 0..300 {
            let mut stream = TcpStream::connect(target).unwrap();
            // The agent may have closed it already to make room.
            let _ = stream.write_all(b"GET / HTTP/1.1\r\nHost: 127");
            held.push(stream);
        }
    }
    let socket: Vec<String> =
        serde_json::from_value(world["credential_process"]["argv"].clone()).unwrap();
    let socket = &socket[3];
    let local: Vec<_> = (0..300)
        .filter_map(|_| UnixStream::connect(socket).ok())
        .collect();
    assert!(!local.is_empty());
    // Others are answered, by a session that is fetched only now: there are descriptors for the broker and for files.
    let answer = ask(&address, &path, own);
    assert_eq!(answer.status, 200, "{answer:?}");
    assert_eq!(get(imds, PATH, &token(imds)).status, 200);
    let argv: Vec<String> =
        serde_json::from_value(world["credential_process"]["argv"].clone()).unwrap();
    let done = Command::new(&argv[0]).args(&argv[1..]).output().unwrap();
    assert!(
        done.status.success(),
        "{}",
        String::from_utf8_lossy(&done.stderr)
    );
    drop((held, local));
}

#[test]
fn ag_02_one_request_is_read_in_one_way() {
    let pair = Pair::start();
    let imds = pair.imds();
    let good = token(&imds);
    let head = |first: &str, rest: &str| {
        let text = format!(
            "{first}\r\nHost: {imds}\r\nX-aws-ec2-metadata-token: {good}\r\nConnection: close\r\n{rest}\r\n"
        );
        exchange(&imds, text.as_bytes())
    };
    let line = format!("GET {PATH} HTTP/1.1");
    assert_eq!(head(&line, "").status, 200);
    // A second request in what one reader takes for a body.
    let inner =
        format!("GET {PATH} HTTP/1.1\r\nHost: {imds}\r\nX-aws-ec2-metadata-token: {good}\r\n\r\n");
    for body in [
        format!("Content-Length: {}\r\n\r\n{inner}", inner.len()),
        format!("Content-Length: 0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n{inner}"),
        format!("Content-Length: 5\r\nContent-Length: 0\r\n\r\n{inner}"),
        format!("Content-Length: +0\r\n\r\n{inner}"),
        format!("Transfer-Encoding: identity\r\n\r\n{inner}"),
        format!("Transfer-Encoding : chunked\r\n\r\n{inner}"),
        format!("Transfer-Encoding:\r\n chunked\r\n\r\n{inner}"),
    ] {
        let answer = head(&line, &body);
        assert_ne!(answer.status, 200, "{body}: {answer:?}");
        assert!(
            !answer.body.contains("SecretAccessKey"),
            "{body}: {answer:?}"
        );
    }
    // Heads that one could read in two ways, and targets that are no paths of this agent.
    for first in [
        format!("GET http://evil.example{PATH} HTTP/1.1"),
        format!("GET http://{imds}@evil.example{PATH} HTTP/1.1"),
        format!("GET {PATH} HTTP/1.1\r\nHost: evil.example"),
        format!("GET {PATH} HTTP/1.1\r\nHost : evil.example"),
        format!("GET {PATH}\u{0} HTTP/1.1"),
        format!("GET {PATH}%0d%0a HTTP/1.1"),
        format!("GET {PATH}\\..\\x HTTP/1.1"),
        format!("GET {PATH};x HTTP/1.1"),
        format!("GET {PATH}/. HTTP/1.1"),
        format!("get {PATH} HTTP/1.1"),
        format!("HEAD {PATH} HTTP/1.1"),
        format!("GET {PATH} HTTP/1.1\r\nX-HTTP-Method-Override: PUT\r\nX-Original-URL: /"),
        "GET * HTTP/1.1".to_owned(),
        "CONNECT evil.example:443 HTTP/1.1".to_owned(),
    ] {
        let answer = head(&first, "");
        assert_ne!(answer.status, 200, "{first}: {answer:?}");
    }
    let hosts = [
        "[::ffff:127.0.0.1]",
        "127.1",
        "2130706433",
        "0x7f000001",
        "017700000001",
        "127.0.0.1.",
        "localhost.",
        "127.0.0.1.nip.io",
        "rebound.example.com",
        "0.0.0.0",
        "127.0.0.2",
    ];
    for host in hosts {
        let answer = request(
            &imds,
            "GET",
            PATH,
            &[("Host", host), ("X-aws-ec2-metadata-token", &good)],
        );
        assert_eq!(answer.status, 403, "{host}: {answer:?}");
    }
}

#[test]
fn ag_04_watching_many_sessions_is_not_many_calls() {
    let workloads: String = (0..30)
        .map(|n| {
            format!(
                "[[container.workload]]\nname = \"w{n}\"\ntoken_file = \"tokens/w{n}\"\nrole_arn = \"{ROLE}\"\n"
            )
        })
        .collect();
    let dir = tempfile::tempdir().unwrap();
    let audit = dir.path().join("audit.jsonl");
    let broker = ["--audit", audit.to_str().unwrap()];
    let sections = format!("[container]\naddress = \"127.0.0.1:0\"\n{workloads}");
    let agent = Configured::start_beside(&broker, &sections);
    let (address, _) = parts(&agent.world["ecs"]["full_uri"]);
    for n in 0..30 {
        let own = agent.read(&format!("tokens/w{n}"));
        assert_eq!(
            ask(&address, &format!("/credentials/w{n}"), &own).status,
            200
        );
    }
    let ops = agent.world["ops_endpoint"].as_str().unwrap().to_owned();
    let ops = ops.strip_prefix("http://").unwrap();
    // Each stream names its sessions in the audit log.
    let watched = || -> u64 {
        let text = std::fs::read_to_string(&audit).unwrap();
        let records = text
            .lines()
            .filter_map(|line| serde_json::from_str::<Value>(line).ok());
        records
            .filter(|record| record["eventName"] == "WatchRevocations")
            .map(|record| record["requestParameters"]["sessions"].as_u64().unwrap())
            .sum()
    };
    let deadline = Instant::now() + Duration::from_secs(60);
    let up = || {
        let metrics = request(ops, "GET", "/metrics", &[]);
        metrics.body.contains("brevet_agent_watch_up 1")
    };
    while !up() || watched() < 30 {
        assert!(Instant::now() < deadline, "the sessions are not watched");
        std::thread::sleep(Duration::from_millis(50));
    }
    let watched = watched();
    // Each stream names new sessions only; now and then all of them are put into one.
    assert!((30..=120).contains(&watched), "{watched}");
}

#[test]
fn what_an_earlier_agent_left_is_not_taken_for_this_one() {
    let dir = tempfile::tempdir().unwrap();
    let world = dir.path().join("agent.json");
    std::fs::write(&world, "{\"imds\": \"of an agent that has ended\"}").unwrap();
    let mut agent = brevet();
    agent
        .args(["agent", "--config", "/no/such/file", "--world"])
        .arg(&world);
    assert!(!agent.output().unwrap().status.success());
    assert!(!world.exists(), "it is gone before the agent listens");
    let mut pair = Pair::start();
    let path = pair.world_file();
    assert!(path.exists());
    pair.agent.signal("-TERM");
    assert!(pair.agent.0.wait().unwrap().success());
    assert!(!path.exists(), "what it names is not there any more");
}

/// The local address of the endpoint that a program was given.
fn endpoint_of(line: &str) -> SocketAddr {
    let rest = line.trim().strip_prefix("http://").unwrap();
    rest.split('/').next().unwrap().parse().unwrap()
}

#[test]
fn ag_05_nobody_takes_the_port_of_an_endpoint_that_has_gone_away() {
    let agent = Configured::start("");
    let script = "echo $AWS_CONTAINER_CREDENTIALS_FULL_URI; read -r line";
    let mut child = exec(&agent.broker_world, &["--", "sh", "-c", script])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let stdin = child.stdin.take().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let address = endpoint_of(&lines.next().unwrap().unwrap());
    let mut process = Process(child);
    assert_eq!(
        request(&address.to_string(), "GET", "/credentials", &[]).status,
        401
    );
    // `brevet exec` is killed, and the program goes on: whoever listened on the port now would be sent its token.
    process.0.kill().unwrap();
    process.0.wait().unwrap();
    let taken = TcpListener::bind(address).expect_err("the program still has the port");
    assert_eq!(taken.kind(), std::io::ErrorKind::AddrInUse);
    drop(stdin);
}

#[test]
fn a_slow_reader_and_a_slow_writer_hold_only_their_own_connections() {
    let pair = Pair::start();
    let imds = pair.imds();
    let good = token(&imds);
    assert_eq!(get(&imds, PATH, &good).status, 200);
    // Many requests at once of somebody who reads nothing, and a head that comes octet by octet.
    let mut deaf = TcpStream::connect(&imds).unwrap();
    deaf.set_write_timeout(Some(Duration::from_millis(500)))
        .unwrap();
    let one =
        format!("GET {PATH} HTTP/1.1\r\nHost: {imds}\r\nX-aws-ec2-metadata-token: {good}\r\n\r\n");
    for _ in 0..20_000 {
        if deaf.write_all(one.as_bytes()).is_err() {
            break;
        }
    }
    let mut slow = TcpStream::connect(&imds).unwrap();
    for byte in one.as_bytes().iter().take(20) {
        slow.write_all(&[*byte]).unwrap();
        assert_eq!(get(&imds, PATH, &good).status, 200);
    }
    // A head that never ends is given up.
    slow.set_read_timeout(Some(Duration::from_secs(60)))
        .unwrap();
    let mut rest = Vec::new();
    let _ = slow.read_to_end(&mut rest); // a reset is an end too
    assert!(!String::from_utf8_lossy(&rest).contains("200 OK"));
}

#[test]
fn ag_05_a_socket_where_others_could_put_theirs_is_refused() {
    use std::os::unix::fs::PermissionsExt;
    let dir = tempfile::tempdir().unwrap();
    let open = dir.path().join("open");
    std::fs::create_dir(&open).unwrap();
    std::fs::set_permissions(&open, std::fs::Permissions::from_mode(0o777)).unwrap();
    let uid = rustix::process::getuid().as_raw();
    brevet::files::write_private(&dir.path().join("key.json"), b"{}").unwrap();
    let config = format!(
        "broker.endpoint = \"http://127.0.0.1:1\"\nidentity.access_key_file = \"key.json\"\noperator.address = \"127.0.0.1:0\"\n\
         [unix_socket]\npath = \"open/socket\"\n[[unix_socket.program]]\nname = \"app\"\nuid = {uid}\nrole_arn = \"{ROLE}\"\n"
    );
    let path = dir.path().join("agent.toml");
    brevet::files::write_private(&path, config.as_bytes()).unwrap();
    let mut agent = brevet();
    let done = agent
        .args(["agent", "--config"])
        .arg(&path)
        .output()
        .unwrap();
    let error = String::from_utf8_lossy(&done.stderr);
    assert_eq!(done.status.code(), Some(1), "{error}");
    assert!(
        error.contains("chmod go-w") && error.contains("/open"),
        "{error}"
    );
    assert!(!open.join("socket").exists());
}
