//! Control characters in texts from outside have no effect on a log or on a terminal.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::Stdio;
use std::time::{Duration, Instant};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::json;

use crate::binary::brevet;

const HOSTILE: &str = "http://127.0.0.1:1/\n2026-01-01T00:00:00Z ERROR forged\r\u{1b}[2J\u{1b}]0;t\u{7}\u{9b}1m\u{202e}\u{2028}\u{85}";

/// Checks that a text has no control characters except line feeds.
fn is_legible(text: &str) -> bool {
    !text
        .chars()
        .any(|c| (c.is_control() && c != '\n') || "\u{202e}\u{2028}".contains(c))
}

/// An identity provider whose discovery document has hostile text as the address of its keys.
fn hostile_provider() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let body = json!({"issuer": url, "jwks_uri": HOSTILE}).to_string();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let (mut stream, mut request) = (stream.unwrap(), Vec::new());
            let mut byte = [0];
            while !request.ends_with(b"\r\n\r\n") && stream.read_exact(&mut byte).is_ok() {
                request.extend(byte);
            }
            let head = format!(
                "HTTP/1.1 200 OK\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
                body.len()
            );
            let _ = stream.write_all((head + &body).as_bytes());
        }
    });
    url
}

#[test]
fn an_identity_provider_writes_no_lines_into_the_log() {
    let url = hostile_provider();
    let host = url.trim_start_matches("http://");
    let arn = format!("arn:aws:iam::111122223333:oidc-provider/{host}");
    let role = "arn:aws:iam::111122223333:role/Web";
    let directory = json!({
        "RoleDetailList": [{
            "Path": "/", "RoleName": "Web", "RoleId": "AROAWEBWEBWEBWEBWEB1", "Arn": role,
            "AssumeRolePolicyDocument": {"Version": "2012-10-17", "Statement": [{
                "Effect": "Allow", "Principal": {"Federated": arn}, "Action": "sts:AssumeRoleWithWebIdentity",
                "Condition": {"StringEquals": {format!("{host}:sub"): "x", format!("{host}:aud"): "brevet"}}
            }]}
        }],
        "Brevet": {"OpenIDConnectProviders": [{"Arn": arn, "Url": url, "ClientIDList": ["brevet"]}]}
    });
    let part = |value: serde_json::Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let token = format!(
        "{}.{}.{}",
        part(json!({"alg": "ES256", "kid": "k"})),
        part(json!({"iss": url, "sub": "x", "aud": "brevet", "exp": 4_000_000_000_i64, "iat": 1})),
        URL_SAFE_NO_PAD.encode([1; 64])
    );
    for format in ["text", "json"] {
        let dir = tempfile::tempdir().unwrap();
        let [file, world, log] =
            ["directory.json", "world.json", "log"].map(|name| dir.path().join(name));
        std::fs::write(&file, directory.to_string()).unwrap();
        let mut child = brevet()
            .args([
                "serve",
                "--dev",
                "--listen",
                "127.0.0.1:0",
                "--log",
                "trace",
                "--log-format",
                format,
            ])
            .arg("--directory")
            .arg(&file)
            .arg("--world")
            .arg(&world)
            .stdout(Stdio::null())
            .stderr(std::fs::File::create(&log).unwrap())
            .spawn()
            .unwrap();
        let started = Instant::now();
        let read_log = || String::from_utf8(std::fs::read(&log).unwrap()).unwrap();
        let wait_for = |what: &dyn Fn() -> bool| {
            while !what() {
                assert!(
                    started.elapsed() < Duration::from_secs(60),
                    "{}",
                    read_log()
                );
                std::thread::sleep(Duration::from_millis(20));
            }
        };
        wait_for(&|| world.exists());
        let world: serde_json::Value =
            serde_json::from_slice(&std::fs::read(&world).unwrap()).unwrap();
        let address = world["sts_endpoint"]
            .as_str()
            .unwrap()
            .trim_start_matches("http://")
            .to_owned();
        let form = format!(
            "Action=AssumeRoleWithWebIdentity&Version=2011-06-15&RoleArn={role}&RoleSessionName=web&WebIdentityToken={token}"
        );
        let mut stream = TcpStream::connect(&address).unwrap();
        let request = format!(
            "POST / HTTP/1.1\r\nhost: {address}\r\ncontent-type: application/x-www-form-urlencoded\r\nuser-agent: a\u{9b}1m\u{202e}\r\n\
             content-length: {}\r\nconnection: close\r\n\r\n{form}",
            form.len()
        );
        stream.write_all(request.as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        wait_for(&|| read_log().contains("forged"));
        child.kill().unwrap();
        child.wait().unwrap();
        let log = read_log();
        assert!(is_legible(&log), "{log:?}");
        for line in log.lines().filter(|line| line.contains("forged")) {
            assert!(
                line.contains("keys of an identity provider could not be fetched"),
                "{line}"
            );
        }
        assert!(
            !log.lines().any(|line| line.starts_with("2026-01-01")),
            "{log}"
        );
        if format == "json" {
            assert!(
                log.lines()
                    .all(|line| serde_json::from_str::<serde_json::Value>(line).is_ok()),
                "{log}"
            );
        }
    }
}

#[test]
fn what_a_file_names_is_shown_and_not_obeyed() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("directory.json");
    let hostile = format!("a{}", &HOSTILE[HOSTILE.find('\n').unwrap()..]);
    let directory = json!({
        "RoleDetailList": [{
            "Path": "/", "RoleName": hostile, "Arn": "arn:aws:iam::111122223333:role/Web",
            "AssumeRolePolicyDocument": {"Version": "2012-10-17", "Statement": [{
                "Sid": hostile, "Effect": "Allow", "Principal": {"AWS": "*"}, "Action": "sts:AssumeRole",
                "Condition": {"StringEquals": {hostile.clone(): hostile}}
            }]}
        }]
    });
    std::fs::write(&file, directory.to_string()).unwrap();
    let home = crate::binary::Home::init();
    let path = file.to_str().unwrap();
    for arguments in [
        vec!["policy", "analyze", path],
        vec!["policy", "analyze", "--output", "json", path],
        vec!["policy", "check", path],
        vec!["policy", "check", "--output", "json", path],
        vec!["import", "--config", home.config().to_str().unwrap(), path],
        vec![
            "serve",
            "--dev",
            "--listen",
            "127.0.0.1:0",
            "--directory",
            path,
        ],
        vec!["sessions", "list", "--endpoint", HOSTILE],
        vec![
            "sessions",
            "list",
            "--max-items",
            &hostile[hostile.find('\r').unwrap()..],
        ],
    ] {
        let output = brevet().args(&arguments).output().unwrap();
        let printed = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
        assert!(
            !output.status.success() && is_legible(&printed),
            "{arguments:?}: {printed:?}"
        );
        assert!(
            !printed.lines().any(|line| line.starts_with("2026-01-01")),
            "{arguments:?}: {printed}"
        );
    }
}
