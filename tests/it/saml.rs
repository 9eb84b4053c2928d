//! `brevet saml` with responses that other programs signed.

use crate::binary::brevet;

const AUDIENCE: &str = "https://sts.example.com/saml/metadata";
const RECIPIENT: &str = "https://sts.example.com/saml/acs";

fn data(name: &str) -> String {
    format!("{}/tests/data/saml/{name}", env!("CARGO_MANIFEST_DIR"))
}

/// The time at which the responses were made, as the command line takes it.
fn made_at() -> String {
    let now = std::fs::read_to_string(data("now")).unwrap();
    let now = brevet::base::clock::Timestamp::from_amz(now.trim()).unwrap();
    now.to_string()
}

/// The exit status and standard output of `brevet saml inspect`.
fn inspect(response: &str, metadata: &str, more: &[&str]) -> (Option<i32>, String) {
    let output = brevet()
        .args([
            "saml",
            "inspect",
            &data(response),
            "--metadata",
            &data(metadata),
        ])
        .args(more)
        .output()
        .unwrap();
    (
        output.status.code(),
        String::from_utf8(output.stdout).unwrap(),
    )
}

#[test]
fn a_response_is_shown_with_every_rule_that_it_breaks() {
    let at = made_at();
    let here = ["--audience", AUDIENCE, "--recipient", RECIPIENT];
    let good: Vec<&str> = here.into_iter().chain(["--at", &at]).collect();
    let (status, text) = inspect("pysaml2-both.xml", "pysaml2-metadata.xml", &good);
    assert_eq!(status, Some(0), "{text}");
    assert!(text.contains("alice-7f3a (persistent)"), "{text}");
    assert!(text.contains("PrincipalTag:Site = Zürich"), "{text}");
    assert!(text.ends_with("accepted\n"), "{text}");

    let role = "arn:aws:iam::111122223333:role/Admin";
    let provider = "arn:aws:iam::111122223333:saml-provider/example";
    let more = [
        "--output",
        "json",
        "--at",
        "2030-01-01T00:00:00Z",
        "--role-arn",
        role,
    ];
    let more: Vec<&str> = more
        .into_iter()
        .chain(["--provider-arn", provider])
        .collect();
    let (status, text) = inspect("pysaml2-both.xml", "pysaml2-metadata.xml", &more);
    assert_eq!(status, Some(1));
    let told: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(told["Accepted"], false);
    assert_eq!(told["Assertion"]["Subject"], "alice-7f3a");
    let refusals = told["Refusals"].as_array().unwrap();
    let codes: Vec<_> = refusals
        .iter()
        .map(|r| r["Code"].as_str().unwrap())
        .collect();
    // The destination, the time, the audience, the recipient, the role.
    for code in [
        "InvalidIdentityToken",
        "ExpiredTokenException",
        "AccessDenied",
    ] {
        assert!(codes.contains(&code), "{text}");
    }
    assert!(
        refusals
            .iter()
            .all(|r| r["Remedy"].as_str().unwrap().ends_with('.')),
        "{text}"
    );
}

#[test]
fn what_the_broker_refuses_is_not_shown_as_accepted() {
    use brevet::base::clock::{Clock, SystemClock};

    use crate::saml_idp::{Idp, Says};
    use crate::saml_login::{PROVIDER, ROLE};
    let idp = Idp::new("https://idp.example.com/saml");
    let folder = tempfile::tempdir().unwrap();
    let (metadata, response) = (
        folder.path().join("metadata"),
        folder.path().join("response"),
    );
    std::fs::write(&metadata, idp.metadata()).unwrap();
    let good = || Says::new("one", ROLE, PROVIDER, SystemClock.now());
    let (mail, targeted_id) = (
        "urn:oid:0.9.2342.19200300.100.1.3",
        "urn:oid:1.3.6.1.4.1.5923.1.1.1.10",
    );
    let mut cases = vec![
        (good(), None),
        (
            good().with("Role", &[PROVIDER]),
            Some("does not name the role"),
        ),
        (good().with_any(mail, &["a", "b"]), Some(mail)),
        (
            good().with_any(targeted_id, &["<saml:NameID>x</saml:NameID>"]),
            Some(targeted_id),
        ),
    ];
    let mut changed = |change: &dyn Fn(&mut Says), named| {
        let mut says = good();
        change(&mut says);
        cases.push((says, Some(named)));
    };
    changed(&|says| says.subject = "x".repeat(257), "NameID");
    changed(
        &|says| says.format = format!("urn:{}", "x".repeat(253)),
        "NameID",
    );
    changed(
        &|says| says.session_until = Some(says.issued_at),
        "SessionNotOnOrAfter",
    );
    for (says, named) in cases {
        std::fs::write(&response, idp.response(&says)).unwrap();
        let output = brevet()
            .args([
                "saml",
                "inspect",
                "--audience",
                AUDIENCE,
                "--recipient",
                RECIPIENT,
            ])
            .args(["--role-arn", ROLE, "--provider-arn", PROVIDER, "--metadata"])
            .args([&metadata, &response])
            .output()
            .unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        match named {
            None => assert!(text.ends_with("accepted\n"), "{text}"),
            Some(named) => {
                let mut refusals = text.lines().filter(|line| line.starts_with("refused ("));
                assert!(refusals.any(|line| line.contains(named)), "{named}: {text}");
                assert_eq!(output.status.code(), Some(1));
            }
        }
    }
}

#[test]
fn nothing_of_a_response_without_a_good_signature_is_shown() {
    let at = made_at();
    let (status, text) = inspect("pysaml2-both.xml", "samlp-metadata.xml", &["--at", &at]);
    assert_eq!(status, Some(1));
    assert!(
        text.starts_with("refused (InvalidIdentityToken): "),
        "{text}"
    );
    assert!(text.contains("import its current metadata"), "{text}");
    assert!(!text.contains("alice"), "{text}");
    let (status, text) = inspect("pysaml2-both.xml", "pysaml2-both.xml", &[]);
    assert_eq!((status, text.as_str()), (Some(1), ""));
}

#[test]
fn metadata_that_will_not_do_for_long_is_warned_of() {
    let warned = |at: &str| {
        let output = brevet()
            .args(["saml", "inspect", &data("xmlsec-rsa-sha256.xml")])
            .args(["--metadata", &data("xmlsec-metadata.xml"), "--at", at])
            .output()
            .unwrap();
        String::from_utf8(output.stderr).unwrap()
    };
    let text = warned("2030-01-01T00:00:00Z");
    assert!(
        text.contains("has an RSA key with fewer than 2,048"),
        "{text}"
    );
    assert!(!text.contains("newer metadata"), "{text}");
    // The certificates end with the year 2049.
    assert!(warned("2049-12-15T00:00:00Z").contains("newer metadata"));
    let late = warned("2051-01-01T00:00:00Z");
    assert_eq!(
        late.matches("to 2050-01-01T00:00:00Z: responses").count(),
        3,
        "{late}"
    );
}

#[test]
fn a_provider_is_put_in_and_renewed_by_one_command() {
    const ARN: &str = "arn:aws:iam::111122223333:saml-provider/example";
    let home = crate::binary::Home::init();
    home.edit(|toml| toml + "\n[web_identity]\nissuer = \"https://sts.example.com\"\n");
    let run = |arguments: &[&str]| {
        let output = brevet().args(arguments).output().unwrap();
        let said = [output.stdout, output.stderr].concat();
        (
            output.status.code(),
            String::from_utf8_lossy(&said).into_owned(),
        )
    };
    let config = home.config().display().to_string();
    let put = |arn: &str, metadata: &str| {
        let more = ["--arn", arn, "--metadata", metadata];
        run(&[&["saml", "put-provider", "--config", &config], &more[..]].concat())
    };
    let (first, second) = (data("pysaml2-metadata.xml"), data("samlp-metadata.xml"));
    let (status, said) = put(ARN, &first);
    assert!(status == Some(0) && said.contains("was created"), "{said}");
    let (status, said) = put(ARN, &first);
    assert!(
        status == Some(0) && said.contains("nothing was changed"),
        "{said}"
    );
    let (status, said) = put(ARN, &second);
    assert!(
        status == Some(1) && said.contains("urn:example:samlp"),
        "{said}"
    );
    let forced = |metadata: &str| {
        let more = ["--arn", ARN, "--metadata", metadata, "--force"];
        run(&[&["saml", "put-provider", "--config", &config], &more[..]].concat())
    };
    let (status, said) = forced(&second);
    assert!(
        status == Some(0) && said.contains("has this metadata"),
        "{said}"
    );
    assert_eq!(forced(&first).0, Some(0));
    for (arn, metadata, named) in [
        ("arn:aws:iam::111122223333:role/X", &first, "SAML provider"),
        (
            ARN,
            &data("pysaml2-both.xml"),
            "exactly one EntityDescriptor",
        ),
    ] {
        let (status, said) = put(arn, metadata);
        assert!(status == Some(1) && said.contains(named), "{said}");
    }
    let changes = home.run(&["changes"]);
    for action in ["CreateSAMLProvider", "UpdateSAMLProvider"] {
        assert!(changes.contains(action), "{action}: {changes}");
    }

    let at = made_at();
    let inspected = run(&[
        "saml",
        "inspect",
        "--config",
        &config,
        "--provider-arn",
        ARN,
        "--role-arn",
        "arn:aws:iam::111122223333:role/Deploy",
        "--at",
        &at,
        &data("pysaml2-both.xml"),
    ]);
    assert_eq!(inspected.0, Some(0), "{}", inspected.1);
    assert!(inspected.1.ends_with("accepted\n"), "{}", inspected.1);

    let (_, checked) = run(&["check", "--config", &config]);
    for named in [
        "entity ID (audience) https://sts.example.com/saml/metadata",
        "ACS URL (recipient) https://sts.example.com/saml/acs",
        "https://aws.amazon.com/SAML/Attributes/Role ",
        "https://idp.example.com/metadata, signing certificates",
    ] {
        assert!(checked.contains(named), "{named}: {checked}");
    }
}

#[test]
fn the_command_line_gets_a_session_by_a_response() {
    use brevet::base::clock::{Clock, SystemClock};

    use crate::saml_idp::{Idp, Says};
    use crate::saml_login::{PROVIDER, ROLE, declaration};
    let home = crate::binary::Home::init();
    home.edit(|toml| toml + "\n[web_identity]\nissuer = \"https://sts.example.com\"\n");
    let idp = Idp::new("https://idp.example.com/saml");
    let file = home.path.join("saml.json");
    brevet::files::write_private(&file, declaration(&idp).to_string().as_bytes()).unwrap();
    home.run(&["import", file.to_str().unwrap(), "--apply"]);
    let daemon = home.serve();
    let response = home.path.join("response");
    let says = Says::new("cli", ROLE, PROVIDER, SystemClock.now());
    // As a browser's tools copy it: in lines, with a line break at the end.
    let text = idp.response(&says);
    let lines = text.as_bytes().chunks(76).map(String::from_utf8_lossy);
    let text: String = lines.map(|line| format!("{line}\n")).collect();
    std::fs::write(&response, text).unwrap();
    let assume = || {
        let endpoint = format!("http://{}", daemon.address);
        let output = brevet()
            .args(["assume-role", "--endpoint", &endpoint, "--role-arn", ROLE])
            .args(["--saml-provider-arn", PROVIDER, "--saml-response-file"])
            .arg(&response)
            .env("HOME", &home.path)
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        (output.status.code(), output.stdout, said)
    };
    let (status, told, said) = assume();
    assert_eq!(status, Some(0), "{said}");
    let told: serde_json::Value = serde_json::from_slice(&told).unwrap();
    assert_eq!(told["Subject"], "alice");
    assert_eq!(told["SubjectType"], "persistent");
    assert_eq!(told["Audience"], RECIPIENT);
    let (status, _, said) = assume();
    assert_eq!(status, Some(1));
    assert!(
        said.contains("The assertion has already been used"),
        "{said}"
    );
}

#[cfg(feature = "saml-encryption")]
#[test]
fn an_encrypted_response_is_shown_with_its_private_key() {
    let at = made_at();
    let key = data("encrypted/sp.key");
    let here = [
        "--audience",
        AUDIENCE,
        "--recipient",
        RECIPIENT,
        "--at",
        &at,
    ];
    let (status, text) = inspect("encrypted/aes256.xml", "xmlsec-metadata.xml", &here);
    assert_eq!(status, Some(1));
    assert!(
        text.contains("there is no private key to decrypt it") && text.contains("--private-key"),
        "{text}"
    );
    let with_key: Vec<&str> = here.into_iter().chain(["--private-key", &key]).collect();
    let (status, text) = inspect("encrypted/aes256.xml", "xmlsec-metadata.xml", &with_key);
    assert_eq!(status, Some(0), "{text}");
    assert!(text.contains("carol (transient)"), "{text}");
    let (status, text) = inspect(
        "encrypted/refused-cbc.xml",
        "xmlsec-metadata.xml",
        &with_key,
    );
    assert_eq!(status, Some(1));
    assert!(
        text.contains("aes256-cbc") && text.contains("AES-GCM"),
        "{text}"
    );
    let no_key = data("xmlsec-metadata.xml");
    let wrong: Vec<&str> = here.into_iter().chain(["--private-key", &no_key]).collect();
    let (status, text) = inspect("encrypted/aes256.xml", "xmlsec-metadata.xml", &wrong);
    assert_eq!((status, text.as_str()), (Some(1), ""));
}
