//! Directory, keyring and certificate are replaced while a broker runs.

use brevet::files::write_private;

use crate::harness::*;

#[tokio::test]
async fn cf_01_a_broken_directory_changes_nothing() {
    let broker = Broker::start().await;
    let path = broker.dir.path().join("directory.json");
    let half = &DIRECTORY[..DIRECTORY.len() / 2];
    let unknown = DIRECTORY.replacen("\"UserName\"", "\"Surprise\": 1, \"UserName\"", 1);
    let twice = DIRECTORY.replacen("\"UserName\"", "\"UserName\": \"x\", \"UserName\"", 1);
    let wrong_type = DIRECTORY.replacen("129600", "\"long\"", 1);
    let operator = DIRECTORY.replacen(
        "\"Effect\": \"Deny\", \"Principal\"",
        "\"Effect\": \"Deny\", \"Condition\": {\"Foo\": {\"a\": \"b\"}}, \"Principal\"",
        1,
    );
    let mut failures = 0;
    for content in [
        b"".as_slice(),
        half.as_bytes(),
        b"{",
        unknown.as_bytes(),
        twice.as_bytes(),
        wrong_type.as_bytes(),
        operator.as_bytes(),
        &[0xff, 0xfe],
    ] {
        write_private(&path, content).unwrap();
        failures += 1;
        let wanted =
            format!("brevet_reloads_total{{what=\"directory\",outcome=\"failed\"}} {failures}");
        eventually("the broken file is noticed", async || {
            broker.operator("/metrics").await.body.contains(&wanted)
        })
        .await;
        assert_eq!(broker.query(Some(&user("alice")), WHO).await.code(), "ok");
        assert!(broker.assume(&user("alice"), OPEN).await.is_ok());
        assert!(broker.assume(&user("alice"), CLOSED).await.is_err());
        assert_eq!(broker.operator("/readyz").await.status, 200);
    }
    std::fs::remove_file(&path).unwrap();
    assert_eq!(broker.query(Some(&user("alice")), WHO).await.code(), "ok");
}

#[tokio::test]
async fn cf_02_a_good_directory_binds_at_once_and_as_a_whole() {
    let broker = Broker::start().await;
    let session = broker.assume(&user("alice"), OPEN).await.unwrap();
    assert!(broker.client(&session).get_caller_identity().await.is_ok());
    // The role goes and comes back as another one; bob's key is switched off.
    let changed = DIRECTORY.replace("AROAOPENOPENOPENOPE1", "AROANEWNEWNEWNEWNEW1").replace(
        "\"SecretAccessKey\": \"canary+secret/of/bob/0123456789abcdefghij\"",
        "\"SecretAccessKey\": \"canary+secret/of/bob/0123456789abcdefghij\", \"Status\": \"Inactive\"",
    );
    write_private(
        &broker.dir.path().join("directory.json"),
        changed.as_bytes(),
    )
    .unwrap();
    eventually("the new file is read", async || {
        broker.query(Some(&user("bob")), WHO).await.code() == "InvalidClientTokenId"
    })
    .await;
    let old = broker
        .client(&session)
        .get_caller_identity()
        .await
        .unwrap_err();
    assert_eq!(
        code(&old),
        "InvalidClientTokenId",
        "the sessions of the role that went have ended"
    );
    assert!(broker.assume(&user("alice"), OPEN).await.is_ok());
}

#[tokio::test]
async fn a_rotated_keyring_keeps_sessions_and_a_removed_key_ends_them() {
    use brevet::keyring_file::{load, save};
    let broker = Broker::start().await;
    let path = broker.dir.path().join("keyring.json");
    let session = broker.assume(&user("alice"), OPEN).await.unwrap();
    let entropy = brevet::base::entropy::SystemEntropy::new();
    save(
        &load(&path).unwrap().rotate(&entropy, now()).unwrap(),
        &path,
    )
    .unwrap();
    let reloaded = |n: u32| format!("brevet_reloads_total{{what=\"keyring\",outcome=\"ok\"}} {n}");
    eventually("the rotation is read", async || {
        broker
            .operator("/metrics")
            .await
            .body
            .contains(&reloaded(1))
    })
    .await;
    assert!(broker.client(&session).get_caller_identity().await.is_ok());
    let newer = broker.assume(&user("alice"), OPEN).await.unwrap();
    let later = now().plus(brevet::session::durations::MAX * 2);
    save(
        &load(&path).unwrap().rotate(&entropy, later).unwrap(),
        &path,
    )
    .unwrap();
    eventually("the retirement is read", async || {
        broker
            .operator("/metrics")
            .await
            .body
            .contains(&reloaded(2))
    })
    .await;
    assert!(
        broker.client(&session).get_caller_identity().await.is_err(),
        "cached or not, its key is gone"
    );
    assert!(broker.client(&newer).get_caller_identity().await.is_ok());
}

#[tokio::test]
async fn tls_serves_both_wires_and_a_certificate_is_exchanged_live() {
    let dir = home();
    let write = |name: &str| {
        let ca_key = rcgen::KeyPair::generate().unwrap();
        let mut ca = rcgen::CertificateParams::new(Vec::new()).unwrap();
        ca.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        ca.distinguished_name.push(rcgen::DnType::CommonName, name);
        let ca_certificate = ca.self_signed(&ca_key).unwrap();
        let issuer = rcgen::Issuer::from_params(&ca, &ca_key);
        let key = rcgen::KeyPair::generate().unwrap();
        let leaf = rcgen::CertificateParams::new(vec!["localhost".to_owned()])
            .unwrap()
            .signed_by(&key, &issuer)
            .unwrap();
        write_private(&dir.path().join("tls.key"), key.serialize_pem().as_bytes()).unwrap();
        write_private(&dir.path().join("tls.crt"), leaf.pem().as_bytes()).unwrap();
        ca_certificate.pem()
    };
    let first_ca = write("first");
    let files = (dir.path().join("tls.crt"), dir.path().join("tls.key"));
    let broker = Broker::start_in(dir.clone(), |c| c.tls = Some(files)).await;
    let who = async |ca: &str| {
        let url = format!("https://localhost:{}", broker.address.port());
        let endpoint = brevet::client::Endpoint {
            url,
            region: "us-east-1".into(),
            ca_pem: Some(ca.to_owned()),
        };
        let keys = user("alice");
        let credentials = brevet::client::Credentials::long_term(&keys.id, &keys.secret);
        brevet::client::Client::with_clock(&endpoint, credentials, broker.clock.clone())
            .unwrap()
            .get_caller_identity()
            .await
            .is_ok()
    };
    assert!(who(&first_ca).await);
    // A key that does not fit is not taken.
    write_private(
        &dir.path().join("tls.key"),
        rcgen::KeyPair::generate()
            .unwrap()
            .serialize_pem()
            .as_bytes(),
    )
    .unwrap();
    tokio::time::sleep(std::time::Duration::from_millis(1_500)).await;
    assert!(who(&first_ca).await);
    let second_ca = write("second");
    eventually("the new certificate is served", async || {
        who(&second_ca).await
    })
    .await;
    assert!(!who(&first_ca).await);
}
