//! The instance metadata service of the agent.

use std::net::TcpStream;
use std::time::{Duration, Instant};

use crate::agent::{Answer, Pair, exchange, request, until_available};

const TTL: &str = "X-aws-ec2-metadata-token-ttl-seconds";
const TOKEN: &str = "X-aws-ec2-metadata-token";
const ROLES: &str = "/latest/meta-data/iam/security-credentials/";

pub fn token(address: &str) -> String {
    let answer = request(address, "PUT", "/latest/api/token", &[(TTL, "21600")]);
    assert_eq!(answer.status, 200, "{answer:?}");
    assert_eq!(answer.header(&TTL.to_lowercase()), Some("21600"));
    assert!(answer.body.len() >= 16 && !answer.body.ends_with('\n'));
    answer.body
}

pub fn get(address: &str, path: &str, token: &str) -> Answer {
    until_available(|| request(address, "GET", path, &[(TOKEN, token)]))
}

#[test]
fn credentials_are_handed_out_as_an_instance_profile_does() {
    let pair = Pair::start();
    let imds = pair.imds();
    let token = token(&imds);
    let role = get(&imds, ROLES, &token);
    assert_eq!((role.status, &*role.body), (200, "Demo"));
    let path = format!("{ROLES}Demo");
    let first = get(&imds, &path, &token).json();
    assert_eq!(first["Code"], "Success");
    assert_eq!(first["Type"], "AWS-HMAC");
    assert_eq!(first["AccountId"], "111122223333");
    assert!(first["AccessKeyId"].as_str().unwrap().starts_with("ASIA"));
    let expiration = first["Expiration"].as_str().unwrap();
    assert_eq!((expiration.len(), expiration.ends_with('Z')), (20, true));
    assert_eq!(
        get(&imds, &path, &token).json(),
        first,
        "it comes from memory"
    );

    // The keys are good for calls.
    let text = |name: &str| first[name].as_str().unwrap().to_owned();
    let mut whoami = pair.brevet_as("alice");
    whoami
        .args(["whoami", "--output", "json"])
        .env("AWS_ACCESS_KEY_ID", text("AccessKeyId"))
        .env("AWS_SECRET_ACCESS_KEY", text("SecretAccessKey"))
        .env("AWS_SESSION_TOKEN", text("Token"));
    let shown = String::from_utf8(whoami.output().unwrap().stdout).unwrap();
    assert!(shown.contains("assumed-role/Demo/i-"), "{shown}");

    let info = get(&imds, "/latest/meta-data/iam/info", &token).json();
    assert_eq!(info["Code"], "Success");
    assert_eq!(
        info["InstanceProfileArn"],
        "arn:aws:iam::111122223333:instance-profile/Demo"
    );
    for (path, body) in [
        ("/", "latest"),
        ("/latest/", "dynamic/\nmeta-data/"),
        ("/latest/meta-data/iam/", "info\nsecurity-credentials/"),
        ("/latest/meta-data/placement/region", "us-east-1"),
        (
            "/latest/meta-data/placement/availability-zone/",
            "us-east-1a",
        ),
    ] {
        let page = get(&imds, path, &token);
        assert_eq!((page.status, &*page.body), (200, body), "{path}");
    }

    // Each hand-out is on record, and no secret is.
    let deadline = Instant::now() + Duration::from_secs(30);
    let lines = loop {
        let text = std::fs::read_to_string(&pair.audit).unwrap();
        if text.lines().count() >= 2 || Instant::now() > deadline {
            break text;
        }
        std::thread::sleep(Duration::from_millis(10));
    };
    let line: serde_json::Value = serde_json::from_str(lines.lines().next().unwrap()).unwrap();
    assert_eq!(line["event"], "HandOut");
    assert_eq!(
        (&line["proof"], &line["outcome"]),
        (&"imds-token".into(), &"ok".into())
    );
    assert_eq!(line["access_key_id"], first["AccessKeyId"]);
    assert!(
        line["workload"].as_str().unwrap().starts_with("i-"),
        "{line}"
    );
    for secret in ["SecretAccessKey", "Token"] {
        assert!(!lines.contains(&text(secret)));
    }
    assert!(!lines.contains(&token));
}

#[test]
fn ag_01_nothing_without_a_token_of_this_agent() {
    let pair = Pair::start();
    let (imds, path) = (pair.imds(), format!("{ROLES}Demo"));
    let good = token(&imds);
    let refused = |answer: Answer, allowed: &[u16]| {
        assert!(allowed.contains(&answer.status), "{allowed:?}: {answer:?}");
        assert!(!answer.body.contains("SecretAccessKey"), "{answer:?}");
    };
    for path in [
        &*path,
        ROLES,
        "/",
        "/no/such/path",
        "/latest/meta-data/instance-id",
    ] {
        refused(request(&imds, "GET", path, &[]), &[401]);
    }
    let in_query = format!("{path}?{TOKEN}={good}");
    refused(request(&imds, "GET", &in_query, &[]), &[401]);
    for name in ["X-Forwarded-For", "Forwarded", "Via"] {
        let put = request(
            &imds,
            "PUT",
            "/latest/api/token",
            &[(TTL, "60"), (name, "192.0.2.1")],
        );
        refused(put, &[403]);
        refused(
            request(&imds, "GET", &path, &[(TOKEN, &good), (name, "192.0.2.1")]),
            &[403],
        );
    }
    for ttl in [
        "",
        "0",
        "21601",
        "-1",
        "1.5",
        "text",
        "99999999999999999999",
    ] {
        refused(
            request(&imds, "PUT", "/latest/api/token", &[(TTL, ttl)]),
            &[400],
        );
    }
    refused(request(&imds, "PUT", "/latest/api/token", &[]), &[400]);
    let twice = [(TTL, "60"), (TTL, "60")];
    refused(request(&imds, "PUT", "/latest/api/token", &twice), &[400]);
    let other = Pair::start();
    refused(get(&imds, &path, &token(&other.imds())), &[401]);
    refused(get(&imds, &path, &format!("{good}A")), &[401]);
    refused(get(&imds, &path, &good[1..]), &[401]);
    refused(get(&imds, &path, &"A".repeat(20_000)), &[401, 431]);
    refused(
        request(&imds, "GET", &path, &[(TOKEN, &good), (TOKEN, &good)]),
        &[401],
    );
    assert_ne!(token(&imds), good);

    // A token of one second is over after it.
    let short = request(&imds, "PUT", "/latest/api/token", &[(TTL, "1")]).body;
    let deadline = Instant::now() + Duration::from_secs(60);
    while get(&imds, ROLES, &short).status != 401 {
        assert!(Instant::now() < deadline);
        std::thread::sleep(Duration::from_millis(50));
    }
    assert_eq!(get(&imds, &path, &good).status, 200);
}

#[test]
fn ag_02_what_a_browser_or_a_confused_proxy_sends_is_refused() {
    let pair = Pair::start();
    let (imds, path) = (pair.imds(), format!("{ROLES}Demo"));
    let good = token(&imds);
    for host in ["rebound.example.com", "169.254.169.254", ""] {
        let answer = request(&imds, "GET", &path, &[("Host", host), (TOKEN, &good)]);
        assert!([400, 403].contains(&answer.status), "{host}: {answer:?}");
    }
    let page = [(TOKEN, &*good), ("Origin", "https://evil.example")];
    assert_eq!(request(&imds, "GET", &path, &page).status, 403);
    for path in [
        "/latest/../latest/meta-data/iam/security-credentials/Demo",
        "/latest/meta-data/iam//security-credentials/Demo",
        "/latest/meta-data/iam/security-credentials/%44emo",
        "/latest/meta-data/iam/security-credentials/a/b",
        "/latest/meta-data/iam/security-credentials/%00",
        "/latest/meta-data/iam/security-credentials/demo",
        "/latest/meta-data/iam/security-credentials/Deploy",
        "/2021-07-15/meta-data/",
        "/latest/user-data",
    ] {
        let answer = get(&imds, path, &good);
        assert!([400, 404].contains(&answer.status), "{path}: {answer:?}");
    }
    for method in ["TRACE", "CONNECT", "POST", "DELETE", "PUT", "OPTIONS"] {
        let answer = request(&imds, method, &path, &[(TOKEN, &good)]);
        assert_eq!(answer.status, 405, "{method}: {answer:?}");
    }
    let long = "x".repeat(65_536);
    let answer = request(&imds, "GET", &path, &[(TOKEN, &good), ("x-long", &long)]);
    assert_eq!(answer.status, 431, "{}", answer.head);
    let many = "x-many: 1\r\n".repeat(200);
    let many = format!("GET {path} HTTP/1.1\r\nHost: {imds}\r\n{many}\r\n");
    assert_eq!(exchange(&imds, many.as_bytes()).status, 431);
    for body in [
        "Content-Length: 5\r\n\r\nhello",
        "Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    ] {
        let text = format!(
            "GET {path} HTTP/1.1\r\nHost: {imds}\r\nConnection: close\r\n{TOKEN}: {good}\r\n{body}"
        );
        assert_eq!(exchange(&imds, text.as_bytes()).status, 400, "{body}");
    }
    // Not even an answer: the connection is closed.
    let preface = exchange(&imds, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
    assert!([0, 400].contains(&preface.status), "{preface:?}");
    assert_eq!(get(&imds, &path, &good).status, 200);
}

#[test]
fn ag_04_a_broker_that_has_gone_away_is_not_noticed() {
    let mut pair = Pair::start();
    let (imds, path) = (pair.imds(), format!("{ROLES}Demo"));
    let good = token(&imds);
    let before = get(&imds, &path, &good).json();
    pair.broker.0.kill().unwrap();
    pair.broker.0.wait().unwrap();
    for _ in 0..20 {
        assert_eq!(get(&imds, &path, &good).json(), before);
    }
}

#[test]
fn ag_04_a_session_that_was_revoked_is_replaced() {
    let pair = Pair::start();
    let (imds, path) = (pair.imds(), format!("{ROLES}Demo"));
    let good = token(&imds);
    let key = || get(&imds, &path, &good).json()["AccessKeyId"].clone();
    for _ in 0..2 {
        let before = key();
        let revoked = pair
            .brevet_as("alice")
            .args(["sessions", "revoke", "--role-arn", "Demo"])
            .output()
            .unwrap();
        let error = String::from_utf8_lossy(&revoked.stderr);
        assert!(revoked.status.success(), "{error}");
        // A workload gets a new session, without knowing of anything.
        let deadline = Instant::now() + Duration::from_secs(60);
        while key() == before {
            assert!(Instant::now() < deadline, "{before} is still handed out");
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}

#[test]
fn the_operators_endpoints_say_how_the_agent_is() {
    let pair = Pair::start();
    let ops = pair.world["ops_endpoint"].as_str().unwrap();
    let ops = ops.strip_prefix("http://").unwrap();
    assert_eq!(request(ops, "GET", "/healthz", &[]).body, "ok\n");
    let imds = pair.imds();
    assert_eq!(
        get(&imds, &format!("{ROLES}Demo"), &token(&imds)).status,
        200
    );
    assert_eq!(request(ops, "GET", "/readyz", &[]).status, 200);
    let metrics = request(ops, "GET", "/metrics", &[]).body;
    let line = "brevet_agent_hand_outs_total{listener=\"imds\",outcome=\"ok\"} 1";
    assert!(metrics.contains(line), "{metrics}");
    // The world is for its owner only, and the agent ends when it is told to.
    drop(TcpStream::connect(&imds).unwrap());
    pair.agent.signal("-TERM");
    let mut pair = pair;
    assert!(pair.agent.0.wait().unwrap().success());
}
