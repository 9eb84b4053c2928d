//! The broker verifies the database and Redis servers on other machines. The address 0.0.0.0 stands
//! for another machine: it is not a loopback address, and leads back to this one.

use std::io::{Read, Write};
use std::net::TcpListener;

use brevet::client::AssumeRole;

use crate::binary::{Home, brevet};
use crate::postgres::Postgres;

const UNVERIFIED: &str = "unverified_off_loopback = \"whoever is on the network in between can read and change the store\"";

/// A CA, and a certificate that it signed for some hosts, with the private key in PEM.
fn certificate(hosts: &[&str]) -> (String, String, String) {
    let ca_key = rcgen::KeyPair::generate().unwrap();
    let mut ca = rcgen::CertificateParams::new(Vec::new()).unwrap();
    ca.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let ca_pem = ca.self_signed(&ca_key).unwrap().pem();
    let leaf_key = rcgen::KeyPair::generate().unwrap();
    let leaf =
        rcgen::CertificateParams::new(hosts.iter().map(|h| (*h).to_owned()).collect::<Vec<_>>())
            .unwrap();
    let leaf = leaf
        .signed_by(&leaf_key, &rcgen::Issuer::from_params(&ca, &ca_key))
        .unwrap();
    (ca_pem, leaf.pem(), leaf_key.serialize_pem())
}

/// Runs `brevet init` with a store in PostgreSQL. Returns whether it succeeded, and its output.
fn init(url: &str, more: &[&str]) -> (bool, String) {
    let dir = tempfile::tempdir().unwrap();
    let made = brevet()
        .arg("init")
        .arg(dir.path().join("b"))
        .args(["--store", url])
        .args(more)
        .output()
        .unwrap();
    (
        made.status.success(),
        String::from_utf8_lossy(&made.stderr).into_owned(),
    )
}

fn named(text: &str, words: &[&str]) {
    for word in words {
        assert!(text.contains(word), "{word}: {text}");
    }
}

#[tokio::test]
async fn a_database_beyond_this_machine_must_show_who_it_is() {
    let (ca, leaf, key) = certificate(&["0.0.0.0"]);
    let postgres = Postgres::start_with_certificate(&leaf, &key);
    let url = format!("postgres://brevet@0.0.0.0:{}/brevet", postgres.port);
    let server = format!("0.0.0.0:{}", postgres.port);
    // Its CA is not known; and known with a name that is another's.
    let both_ways = [
        "is not verified",
        &server,
        "ca_file",
        "unverified_off_loopback",
    ];
    let (made, said) = init(&url, &[]);
    assert!(!made);
    named(&said, &both_ways);
    named(&said, &["UnknownIssuer"]);
    let files = tempfile::tempdir().unwrap();
    let ca_file = files.path().join("ca.pem");
    brevet::files::write_private(&ca_file, ca.as_bytes()).unwrap();
    let ca_file = ca_file.to_str().unwrap();
    let (made, said) = init(
        &url.replace("0.0.0.0", "127.0.0.1"),
        &["--store-ca-file", ca_file],
    );
    assert!(!made);
    named(
        &said,
        &["is not verified", "certificate not valid for name"],
    );
    // No mode that verifies less is taken without the sentence.
    for mode in ["disable", "allow", "prefer", "require", "verify-ca"] {
        let (made, said) = init(&format!("{url}?sslmode={mode}"), &[]);
        assert!(!made);
        named(
            &said,
            &[
                "[store] url",
                &format!("sslmode={mode}"),
                &server,
                "verify-full",
                "unverified_off_loopback",
            ],
        );
    }
    // Verified, it serves.
    let home = Home::init_with(&["--store", &url, "--store-ca-file", ca_file]);
    let mut daemon = home.serve();
    let role = AssumeRole::new(
        "arn:aws:iam::111122223333:role/Administrator",
        "test-session",
    );
    assert!(home.client(&daemon).assume_role(&role).await.is_ok());
    daemon.child.kill().unwrap();
    daemon.child.wait().unwrap();
    // The configuration lets go of it by a sentence alone.
    home.edit(|toml| {
        toml.replace("/brevet\"", "/brevet?sslmode=require\"")
            .replace("ca_file", "# ca_file")
    });
    home.refused("unverified_off_loopback");
    home.edit(|toml| toml.replace("[store]\n", "[store]\nunverified_off_loopback = \"yes\"\n"));
    home.refused("must be left out, or be exactly this sentence");
    home.edit(|toml| toml.replace("unverified_off_loopback = \"yes\"", UNVERIFIED));
    let mut daemon = home.serve();
    assert!(home.client(&daemon).assume_role(&role).await.is_ok());
    daemon.child.kill().unwrap();
    daemon.child.wait().unwrap();
}

#[test]
fn a_false_database_is_told_no_password() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let heard = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut request = [0; 8];
        stream.read_exact(&mut request).unwrap();
        // SSLRequest; the answer is: no TLS. Then whatever comes.
        assert_eq!(request[4..], 80_877_103_u32.to_be_bytes());
        stream.write_all(b"N").unwrap();
        let mut rest = Vec::new();
        // Whether it ends in order or not.
        let _ = stream.read_to_end(&mut rest);
        rest
    });
    let files = tempfile::tempdir().unwrap();
    let password = files.path().join("password");
    brevet::files::write_private(&password, b"canary-password\n").unwrap();
    let url = format!("postgres://brevet@0.0.0.0:{port}/brevet");
    let (made, said) = init(&url, &["--store-password-file", password.to_str().unwrap()]);
    assert!(!made);
    named(
        &said,
        &[
            "is not verified",
            "does not support TLS",
            &format!("0.0.0.0:{port}"),
            "unverified_off_loopback",
        ],
    );
    assert_eq!(
        heard.join().unwrap(),
        b"",
        "nothing is said to a server without TLS"
    );
}

#[test]
fn a_redis_beyond_this_machine_is_called_by_tls() {
    let home = Home::init();
    home.edit(|toml| format!("{toml}\n[sessions.redis]\nurls = [\"redis://0.0.0.0:1\"]\n"));
    home.refused("[sessions.redis] urls: `redis://0.0.0.0:1` would be used without TLS");
    home.edit(|toml| toml.replace("redis://0.0.0.0:1", "rediss://0.0.0.0:1/#insecure"));
    home.refused("must not hold a `#`");
    home.edit(|toml| toml.replace("rediss://0.0.0.0:1/#insecure", "rediss://0.0.0.0:1"));
    // Nobody is there, which `check` says; it is no longer the configuration's fault.
    let checked = brevet()
        .args(["check", "--config"])
        .arg(home.config())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&checked.stdout) + String::from_utf8_lossy(&checked.stderr);
    assert!(
        !said.contains("[sessions.redis] urls") && said.contains("0.0.0.0:1"),
        "{said}"
    );
    let dev = brevet()
        .args([
            "serve",
            "--dev",
            "--listen",
            "127.0.0.1:0",
            "--redis",
            "redis://0.0.0.0:1",
        ])
        .output()
        .unwrap();
    assert_eq!(dev.status.code(), Some(1));
    named(
        &String::from_utf8_lossy(&dev.stderr),
        &["--redis", "rediss://"],
    );
}
