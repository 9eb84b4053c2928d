//! `brevet check`: everything that keeps a broker from starting, or from answering its first request,
//! is reported on a line of its own that says what to do. `cargo test --test it checking --
//! --nocapture` prints the table.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Output;

use serde_json::{Value, json};

use crate::binary::{Home, brevet, serve};
use crate::redis::Redis;
use crate::store::sqlite;

fn check(home: &Home, json: bool) -> Output {
    let mut command = brevet();
    command.args(["check", "--config"]).arg(home.config());
    if json {
        command.args(["--output", "json"]);
    }
    command.output().unwrap()
}

/// The verdict and the text of one line of output.
fn verdict(home: &Home, of: &str) -> (String, String) {
    let output = check(home, true);
    let text = String::from_utf8(output.stdout).unwrap();
    let parsed: Value = serde_json::from_str(&text).unwrap_or_else(|e| panic!("{e}: {text}"));
    let failed = parsed["Checks"]
        .as_array()
        .unwrap()
        .iter()
        .any(|c| c["Verdict"] == "FAIL");
    assert_eq!(output.status.code(), Some(i32::from(failed)), "{text}");
    assert_eq!(parsed["Verdict"], if failed { "FAIL" } else { "ok" });
    let line = parsed["Checks"]
        .as_array()
        .unwrap()
        .iter()
        .find(|c| c["Check"] == of);
    let line = line.unwrap_or_else(|| panic!("no line on {of}: {text}"));
    let said = format!(
        "{} {}",
        line["Says"].as_str().unwrap(),
        line["Fix"].as_str().unwrap_or_default()
    );
    (line["Verdict"].as_str().unwrap().to_owned(), said)
}

/// A certificate that is valid for this many days from now, and its private key.
fn certificate(path: &Path, names: &[&str], days: (i64, i64)) {
    let key = rcgen::KeyPair::generate().unwrap();
    let mut params =
        rcgen::CertificateParams::new(names.iter().map(|n| (*n).to_owned()).collect::<Vec<_>>())
            .unwrap();
    let day = |offset: i64| {
        let at = brevet::base::clock::Clock::now(&brevet::base::clock::SystemClock).seconds()
            + offset * 86_400
            + 3_600;
        let text = brevet::base::clock::Timestamp::from_seconds(at).to_string();
        let number = |from: usize, to: usize| text[from..to].parse::<i32>().unwrap();
        let part = |from, to| u8::try_from(number(from, to)).unwrap();
        rcgen::date_time_ymd(number(0, 4), part(5, 7), part(8, 10))
    };
    (params.not_before, params.not_after) = (day(days.0), day(days.1));
    let made = params.self_signed(&key).unwrap();
    brevet::files::write_private(&path.join("tls.crt"), made.pem().as_bytes()).unwrap();
    brevet::files::write_private(&path.join("tls.key"), key.serialize_pem().as_bytes()).unwrap();
}

fn with_tls(home: &Home) {
    home.edit(|toml| {
        let lines = toml.lines().map(|line| {
            if line.starts_with("names =") {
                "names = [\"localhost\"]"
            } else {
                line
            }
        });
        lines.collect::<Vec<_>>().join("\n")
    });
    home.edit(|toml| {
        format!("{toml}\n[tls]\ncertificate = \"tls.crt\"\nprivate_key = \"tls.key\"\n")
    });
}

/// A fault: its name, how it is made, the line that reports it, its verdict, and what the line must
/// contain.
type Case = (
    &'static str,
    fn(&Home),
    &'static str,
    &'static str,
    &'static [&'static str],
);

const CASES: &[Case] = &[
    ("nothing", |_| {}, "store", "ok", &["store.db", "change"]),
    (
        "the directory is whole",
        |_| {},
        "directory",
        "ok",
        &["1 users, 1 roles, 1 access keys"],
    ),
    (
        "a public master key",
        |home| chmod(&home.path.join("master.key"), 0o644),
        "file modes",
        "FAIL",
        &["master.key", "chmod 600"],
    ),
    (
        "a public audit log",
        |home| {
            std::fs::write(home.path.join("audit.jsonl"), b"").unwrap();
            chmod(&home.path.join("audit.jsonl"), 0o666);
        },
        "file modes",
        "FAIL",
        &["audit.jsonl", "chmod 600"],
    ),
    (
        "no master key",
        |home| std::fs::remove_file(home.path.join("master.key")).unwrap(),
        "master key",
        "FAIL",
        &["master.key"],
    ),
    (
        "another master key",
        |home| {
            std::fs::remove_file(home.path.join("master.key")).unwrap();
            brevet::master_key::MasterKey::create(
                &home.path.join("master.key"),
                &brevet::base::entropy::SystemEntropy::new(),
            )
            .unwrap();
        },
        "store",
        "FAIL",
        &["master key"],
    ),
    (
        "no keyring",
        |home| std::fs::remove_file(home.path.join("keyring.json")).unwrap(),
        "keyring",
        "FAIL",
        &["keyring.json"],
    ),
    (
        "a torn keyring",
        |home| {
            brevet::files::write_private(&home.path.join("keyring.json"), b"{\"ClusterId\"")
                .unwrap();
        },
        "keyring",
        "FAIL",
        &["keyring.json", "another broker"],
    ),
    (
        "no store",
        |home| {
            for name in ["store.db", "store.db-wal", "store.db-shm"] {
                let _ = std::fs::remove_file(home.path.join(name));
            }
        },
        "store",
        "FAIL",
        &["store.db", "brevet restore"],
    ),
    (
        "a damaged store",
        |home| {
            brevet::files::write_private(&home.path.join("store.db"), &[b'x'; 8_192]).unwrap();
        },
        "store",
        "FAIL",
        &["store.db", "brevet restore"],
    ),
    (
        "a row that no broker wrote",
        |home| {
            sqlite(
                &home.path.join("store.db"),
                "UPDATE resources SET body = '{\"Surprise\":1}' WHERE kind = 'role'",
            );
        },
        "integrity",
        "FAIL",
        &["role", "brevet restore --accept"],
    ),
    (
        "a store of an earlier version",
        |home| {
            sqlite(
                &home.path.join("store.db"),
                "DELETE FROM _sqlx_migrations WHERE version > 2",
            );
        },
        "store",
        "warn",
        &["older", "back up the store"],
    ),
    (
        "a clock that is behind the store",
        |home| {
            sqlite(
                &home.path.join("store.db"),
                "UPDATE changes SET changed_at = changed_at + 7200000",
            );
        },
        "clock",
        "FAIL",
        &["behind the last change", "clock"],
    ),
    (
        "no certificate",
        with_tls,
        "certificate",
        "FAIL",
        &["tls.crt"],
    ),
    (
        "a certificate for a year",
        |home| {
            certificate(&home.path, &["localhost"], (-1, 365));
            with_tls(home);
        },
        "certificate",
        "ok",
        &["localhost", "days left"],
    ),
    (
        "a certificate that ends soon",
        |home| {
            certificate(&home.path, &["localhost"], (-1, 10));
            with_tls(home);
        },
        "certificate",
        "warn",
        &["expires at", "renew"],
    ),
    (
        "a certificate that ended",
        |home| {
            certificate(&home.path, &["localhost"], (-10, -2));
            with_tls(home);
        },
        "certificate",
        "FAIL",
        &["expired at", "renew"],
    ),
    (
        "a certificate of tomorrow",
        |home| {
            certificate(&home.path, &["localhost"], (2, 20));
            with_tls(home);
        },
        "certificate",
        "FAIL",
        &["is not valid before", "clock"],
    ),
    (
        "a certificate for another name",
        |home| {
            certificate(&home.path, &["other.example.com"], (-1, 365));
            with_tls(home);
        },
        "certificate",
        "warn",
        &[
            "not for",
            "requests for other.example.com are refused",
            "`names` in [listen]",
        ],
    ),
    (
        "a key of another certificate",
        |home| {
            certificate(&home.path, &["localhost"], (-1, 365));
            let first = std::fs::read(home.path.join("tls.key")).unwrap();
            certificate(&home.path, &["localhost"], (-1, 365));
            brevet::files::write_private(&home.path.join("tls.key"), &first).unwrap();
            with_tls(home);
        },
        "certificate",
        "FAIL",
        &["private key"],
    ),
    (
        "an audit log in a folder that is not there",
        |home| {
            home.edit(|toml| toml.replace("\"audit.jsonl\"", "\"gone/audit.jsonl\""));
        },
        "audit log",
        "FAIL",
        &["gone", "issues no credentials"],
    ),
    (
        "a Redis that is not there",
        |home| {
            home.edit(|toml| {
                format!("{toml}\n[sessions.redis]\nurls = [\"redis://127.0.0.1:1/0\"]\n")
            });
        },
        "redis",
        "FAIL",
        &["127.0.0.1:1", "start Redis"],
    ),
    (
        "a provider that is not reached",
        |home| {
            declare_provider(home);
            home.edit(|toml| format!("{toml}\n[federation]\nprivate_addresses = true\n"));
        },
        "provider",
        "FAIL",
        &["https://127.0.0.1:1", "discovery"],
    ),
    (
        "an address of another machine",
        |home| {
            home.edit(|toml| {
                toml.replacen("127.0.0.1:0", "192.0.2.1:7480", 1)
                    + "\n[tls]\ncertificate = \"tls.crt\"\nprivate_key = \"tls.key\"\n"
            });
            certificate(&home.path, &["localhost"], (-1, 365));
        },
        "listen",
        "FAIL",
        &["192.0.2.1:7480", "[listen] address"],
    ),
];

fn chmod(path: &Path, mode: u32) {
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
}

fn declare_provider(home: &Home) {
    let file = json!({"Brevet": {"OpenIDConnectProviders": [{"Arn": "arn:aws:iam::111122223333:oidc-provider/127.0.0.1:1",
        "Url": "https://127.0.0.1:1", "ClientIDList": ["x"]}]}});
    let path = home.path.join("provider.json");
    brevet::files::write_private(&path, file.to_string().as_bytes()).unwrap();
    home.run(&["import", path.to_str().unwrap(), "--apply"]);
}

#[test]
fn everything_that_a_broker_needs_has_a_line() {
    println!("{:<4}  {:<12} what is wrong, and what is said", "", "line");
    let mut wrong = Vec::new();
    for (what, break_it, of, expected, named) in CASES {
        let home = Home::init();
        break_it(&home);
        let (got, said) = verdict(&home, of);
        println!(
            "{got:<4}  {of:<12} {what}\n      {}",
            said.replace(home.path.to_str().unwrap(), "…")
        );
        let missing: Vec<_> = named.iter().filter(|name| !said.contains(**name)).collect();
        if got != *expected || !missing.is_empty() {
            wrong.push(format!(
                "{what}: {got}, expected {expected}; does not say {missing:?}: {said}"
            ));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// A copy from another broker would not mend the mode.
#[test]
fn keys_with_a_wrong_mode_need_no_copy() {
    for (file, line) in [("master.key", "master key"), ("keyring.json", "keyring")] {
        let home = Home::init();
        chmod(&home.path.join(file), 0o644);
        let (got, said) = verdict(&home, line);
        assert!(
            got == "FAIL" && said.contains("chmod 600") && !said.contains("copy"),
            "{line}: {got} {said}"
        );
    }
}

#[test]
fn a_running_broker_is_no_fault_and_another_program_is() {
    let home = Home::init();
    let daemon = home.serve();
    home.edit(|toml| {
        toml.replacen("127.0.0.1:0", &daemon.address, 1).replacen(
            "127.0.0.1:0",
            &daemon.operator,
            1,
        )
    });
    for line in ["listen", "operator"] {
        let (got, said) = verdict(&home, line);
        assert!(
            got == "ok" && said.contains("a broker answers") && said.contains("(ready)"),
            "{line}: {got} {said}"
        );
    }
    drop(daemon);
    let other = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    home.edit(|toml| {
        let text: Vec<String> = toml
            .lines()
            .map(|line| match line.starts_with("address") {
                true => format!("address = \"{}\"", other.local_addr().unwrap()),
                false => line.to_owned(),
            })
            .collect();
        text.join("\n")
    });
    let (got, said) = verdict(&home, "listen");
    assert!(
        got == "FAIL" && said.contains("no broker answers") && said.contains("ss -ltnp"),
        "{got} {said}"
    );
}

#[test]
fn a_redis_that_evicts_or_does_not_let_the_broker_in_fails() {
    let redis = Redis::start_with(&["--maxmemory-policy", "allkeys-lru", "--maxmemory", "100mb"]);
    let home = Home::init();
    let at = |port: u16| format!("\n[sessions.redis]\nurls = [\"redis://127.0.0.1:{port}/0\"]\n");
    home.edit(|toml| toml + &at(redis.port));
    let (got, said) = verdict(&home, "redis");
    assert!(got == "FAIL" && said.contains("noeviction"), "{got} {said}");
    drop(redis);
    let redis = Redis::start_with(&["--requirepass", "secret"]);
    let home = Home::init();
    home.edit(|toml| toml + &at(redis.port));
    let (got, said) = verdict(&home, "redis");
    assert!(
        got == "FAIL" && said.contains("NOAUTH") && said.contains("password file"),
        "{got} {said}"
    );
    brevet::files::write_private(&home.path.join("redis.pass"), b"secret\n").unwrap();
    home.edit(|toml| toml + "password_file = \"redis.pass\"\n");
    let (got, said) = verdict(&home, "redis");
    assert!(got == "ok", "{got} {said}");
}

#[test]
fn a_configuration_that_cannot_be_read_is_a_line_too() {
    let home = Home::init();
    home.edit(|toml| toml + "\nsurprise = 1\n");
    let (got, said) = verdict(&home, "configuration");
    assert!(got == "FAIL" && said.contains("surprise"), "{got} {said}");
    let text = String::from_utf8(check(&home, false).stdout).unwrap();
    assert!(
        text.starts_with("FAIL  configuration") && text.contains("next: "),
        "{text}"
    );
}

#[test]
fn a_certificate_that_ends_soon_is_in_the_metrics_and_in_the_log() {
    let home = Home::init();
    certificate(&home.path, &["localhost"], (-1, 10));
    with_tls(&home);
    let mut daemon = serve(&home.config());
    let metrics = std::process::Command::new("python3")
        .args(["-c", "import sys, urllib.request; print(urllib.request.urlopen(sys.argv[1]).read().decode())"])
        .arg(format!("http://{}/metrics", daemon.operator))
        .output()
        .unwrap();
    let metrics = String::from_utf8(metrics.stdout).unwrap();
    let name = "brevet_tls_certificate_expiration_timestamp_seconds";
    let line = metrics
        .lines()
        .find(|l| l.starts_with(name))
        .unwrap_or_else(|| panic!("{metrics}"));
    let ends_at: i64 = line.rsplit(' ').next().unwrap().parse().unwrap();
    let left =
        ends_at - brevet::base::clock::Clock::now(&brevet::base::clock::SystemClock).seconds();
    assert!((8 * 86_400..=11 * 86_400).contains(&left), "{line}");
    // The first look comes with the start; what it says may come a little later.
    std::thread::sleep(std::time::Duration::from_millis(500));
    daemon.signal("-TERM");
    let (_, log) = daemon.ended();
    let warned = log
        .iter()
        .filter(|line| line.contains("the certificate expires at") && line.contains("WARN"))
        .count();
    assert_eq!(warned, 1, "once a day");
}
