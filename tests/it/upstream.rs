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
        &run_with(&home, &["check"], "").1,
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
        (
            ARN,
            "brevet",
            &["--file", "-"],
            "",
            "must contain the client secret",
        ),
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

#[test]
fn check_says_what_to_enter_at_each_identity_provider() {
    let home = Home::init();
    let saml = "arn:aws:iam::111122223333:saml-provider/corp";
    let metadata = std::fs::read_to_string(
        std::path::Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("tests/data/saml/pysaml2-metadata.xml"),
    )
    .unwrap();
    let providers = serde_json::json!({"Brevet": {
        "OpenIDConnectProviders": [
            {"Arn": ARN, "Url": "https://idp.example.com", "ClientIDList": ["brevet"], "ClientSecret": "s"},
            {"Arn": format!("{ARN}/several"), "Url": "https://idp.example.com/several", "ClientIDList": ["a", "b"]},
        ],
        "SAMLProviders": [{"Arn": saml, "SAMLMetadataDocument": metadata}],
    }});
    let (status, said) = run_with(&home, &["import", "-", "--apply"], &providers.to_string());
    assert_eq!(status, Some(0), "{said}");
    let toml = std::fs::read_to_string(home.config()).unwrap();
    home.edit(|_| {
        format!(
            "{toml}\n[sign_in]\npublic_url = \"https://sts.example.com\"\nproviders = [\
             {{ arn = \"{ARN}\", name = \"Corp\", amr = {{ otp = \"otp\" }} }}, \
             {{ arn = \"{ARN}/several\", name = \"Several\" }}, \
             {{ arn = \"{ARN}/gone\", name = \"Gone\" }}, \
             {{ arn = \"{saml}\", name = \"Partner\", idp_initiated = true, roles_by_trust_policies = true }}]\n"
        )
    });
    let (_, said) = run_with(&home, &["check"], "");
    let slug = brevet::upstream::offered::slug(ARN);
    for text in [
        "people sign in at https://sts.example.com/sign-in, including directory users with a password",
        &format!("redirect URI https://sts.example.com/sign-in/oidc/{slug}/callback"),
        &format!("back-channel logout URI https://sts.example.com/sign-in/oidc/{slug}/logout"),
        "the client is brevet, which has a secret",
        "several client ids",
        "/gone: this provider is not in the directory",
        "entity ID https://sts.example.com/saml/metadata; ACS URL https://sts.example.com/saml/acs",
    ] {
        assert!(said.contains(text), "{text}: {said}");
    }

    for (more, named) in [
        (
            "roles_by_trust_policies = true",
            "cannot be set for an OpenID Connect provider",
        ),
        (
            "idp_initiated = true",
            "cannot be set for an OpenID Connect provider",
        ),
        ("scopes = [\"email\"]", "one of them `openid`"),
        (
            "amr = { otp = \"strong\" }",
            "the factor that each one proves",
        ),
        ("max_age_seconds = 1", "from 60 to"),
        ("client_id = \"a b\"", "without spaces"),
        ("secret = \"x\"", "unknown field"),
    ] {
        home.edit(|_| {
            format!(
                "{toml}\n[sign_in]\npublic_url = \"https://sts.example.com\"\n\
                 providers = [{{ arn = \"{ARN}\", name = \"Corp\", {more} }}]\n"
            )
        });
        home.refused(named);
    }
}
