//! Signing people in at an identity provider: what the directory and the configuration need for it.

use crate::binary::Home;

const ARN: &str = "arn:aws:iam::111122223333:oidc-provider/idp.example.com";

/// Runs a command that reads `input`. Returns its exit status and all that it printed.
fn run_with(home: &Home, arguments: &[&str], input: &str) -> (Option<i32>, String) {
    use std::io::Write;
    use std::process::Stdio;
    let config = home.config().display().to_string();
    let mut child = crate::binary::brevet()
        .args(arguments)
        .args(["--config", &config])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child
        .stdin
        .take()
        .unwrap()
        .write_all(input.as_bytes())
        .unwrap();
    let output = child.wait_with_output().unwrap();
    let said = [output.stdout, output.stderr].concat();
    (
        output.status.code(),
        String::from_utf8_lossy(&said).into_owned(),
    )
}

#[test]
fn a_client_secret_is_sealed_in_the_store_and_never_printed() {
    const SECRET: &str = "open~sesame.2026";
    let home = Home::init();
    let import = |providers: serde_json::Value| {
        let file = serde_json::json!({"Brevet": {"OpenIDConnectProviders": [providers]}});
        let (status, said) = run_with(&home, &["import", "-", "--apply"], &file.to_string());
        assert_eq!(status, Some(0), "{said}");
        assert!(!said.contains(SECRET), "{said}");
    };
    let provider = serde_json::json!({"Arn": ARN, "Url": "https://idp.example.com", "ClientIDList": ["brevet", "ci"]});
    import(provider.clone());
    let put = |arn: &str, client: &str, more: &[&str], input: &str| {
        let arguments = [
            &["provider", "secret", "--arn", arn, "--client-id", client],
            more,
        ]
        .concat();
        run_with(&home, &arguments, input)
    };
    let (status, said) = put(ARN, "brevet", &["--file", "-"], &format!("{SECRET}\n"));
    assert_eq!(status, Some(0), "{said}");
    assert!(said.contains("with its secret"), "{said}");
    // Nothing that anybody reads has the secret.
    let exported = home.run(&["export"]);
    assert!(
        exported.contains("SealedClientSecret") && exported.contains("\"ClientID\": \"brevet\""),
        "{exported}"
    );
    for text in [
        &said,
        &exported,
        &home.run(&["changes"]),
        &home.run(&["check"]),
    ] {
        assert!(!text.contains(SECRET), "{text}");
    }
    // An import of the same client keeps it, and one with a secret seals it.
    import(provider.clone());
    assert_eq!(home.run(&["export"]), exported);
    let mut named = provider.clone();
    named["ClientID"] = "ci".into();
    named["ClientSecret"] = SECRET.into();
    import(named);
    let exported = home.run(&["export"]);
    assert!(
        exported.contains("\"ClientID\": \"ci\"") && !exported.contains(SECRET),
        "{exported}"
    );

    for (arn, client, more, input, named) in [
        (ARN, "other", &["--file", "-"][..], SECRET, "client id"),
        (ARN, "brevet", &["--file", "-"], "", "must hold the secret"),
        (ARN, "brevet", &["--file", "-"], "a\tb", "printable ASCII"),
        (
            "arn:aws:iam::111122223333:oidc-provider/x.example.com",
            "brevet",
            &["--none"],
            "",
            "x.example.com",
        ),
    ] {
        let (status, said) = put(arn, client, more, input);
        assert!(
            status == Some(1) && said.contains(named),
            "{client}: {said}"
        );
        assert!(!said.contains(SECRET), "{said}");
    }
    let (status, said) = put(ARN, "ci", &["--none"], "");
    assert!(
        status == Some(0) && said.contains("public client"),
        "{said}"
    );
    assert!(!home.run(&["export"]).contains("SealedClientSecret"));
}
