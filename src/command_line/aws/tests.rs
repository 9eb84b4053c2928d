use std::path::Path;

use super::*;

/// Makes a home folder with `.aws/config` and `.aws/credentials`.
fn home(config: &str, credentials: &str) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir(dir.path().join(".aws")).unwrap();
    std::fs::write(dir.path().join(".aws/config"), config).unwrap();
    std::fs::write(dir.path().join(".aws/credentials"), credentials).unwrap();
    dir
}

fn environment(home: &Path, variables: &[(&str, &str)]) -> Environment {
    let home = ("HOME".to_owned(), home.display().to_string());
    Environment(
        variables
            .iter()
            .map(|(n, v)| ((*n).to_owned(), (*v).to_owned()))
            .chain([home])
            .collect(),
    )
}

fn flags() -> CallArguments {
    CallArguments {
        endpoint: None,
        region: None,
        profile: None,
        ca: None,
        plaintext_off_loopback: false,
    }
}

const CONFIG: &str = "\
[default]
region = eu-west-1
[profile local]
region = eu-central-1
services = here
endpoint_url = https://general.example.com
[profile general]
endpoint_url = https://general.example.com
[profile \"two words\"]
services = gone
[services here]
sts =
  endpoint_url = https://sts.example.com
iam =
  endpoint_url = https://iam.example.com
";

impl Settings {
    pub(crate) fn for_tests(environment: Environment) -> Self {
        Self::resolve(&flags(), environment).unwrap()
    }
}

#[test]
fn flags_then_environment_then_profile_then_default() {
    let home = home(
        CONFIG,
        "[keys]\naws_access_key_id = A\naws_secret_access_key = S\n",
    );
    let at = |variables: &[(&str, &str)], change: &dyn Fn(&mut CallArguments)| {
        let mut call = flags();
        change(&mut call);
        let settings = Settings::resolve(&call, environment(home.path(), variables)).unwrap();
        (settings.endpoint.value, settings.region.value)
    };
    let pair = |a: &str, b: &str| (a.to_owned(), b.to_owned());
    let none = |_: &mut CallArguments| {};
    assert_eq!(at(&[], &none), pair(DEFAULT_ENDPOINT, "eu-west-1"));
    assert_eq!(
        at(&[("AWS_PROFILE", "local")], &none),
        pair("https://sts.example.com", "eu-central-1")
    );
    assert_eq!(
        at(&[("AWS_PROFILE", "general")], &none).0,
        "https://general.example.com"
    );
    let both = [("AWS_PROFILE", "general"), ("AWS_DEFAULT_PROFILE", "local")];
    assert_eq!(
        at(&both, &none).0,
        "https://sts.example.com",
        "as botocore has it"
    );
    let mut variables = vec![
        ("AWS_PROFILE", "local"),
        ("AWS_ENDPOINT_URL", "https://b.example.com"),
    ];
    assert_eq!(at(&variables, &none).0, "https://b.example.com");
    variables.push(("AWS_ENDPOINT_URL_STS", "https://c.example.com"));
    assert_eq!(at(&variables, &none).0, "https://c.example.com");
    variables.push(("BREVET_ENDPOINT", "https://d.example.com"));
    assert_eq!(at(&variables, &none).0, "https://d.example.com");
    assert_eq!(
        at(&variables, &|c| c.endpoint =
            Some("https://e.example.com".into()))
        .0,
        "https://e.example.com"
    );
    assert_eq!(
        at(&[("AWS_PROFILE", "general")], &|c| c.profile =
            Some("local".into()))
        .1,
        "eu-central-1"
    );
    assert_eq!(
        at(&[("AWS_DEFAULT_REGION", "us-west-2")], &none).1,
        "us-west-2"
    );
    assert_eq!(
        at(
            &[
                ("AWS_DEFAULT_REGION", "us-west-2"),
                ("AWS_REGION", "us-east-2")
            ],
            &none
        )
        .1,
        "us-east-2"
    );
    assert_eq!(
        at(&[("AWS_REGION", "us-east-2")], &|c| c.region =
            Some("ap-south-1".into()))
        .1,
        "ap-south-1"
    );
    let ignored = [
        ("AWS_PROFILE", "local"),
        ("AWS_IGNORE_CONFIGURED_ENDPOINT_URLS", "true"),
        ("AWS_ENDPOINT_URL", "https://b.example.com"),
    ];
    assert_eq!(at(&ignored, &none).0, DEFAULT_ENDPOINT);
    assert_eq!(
        at(&[("AWS_PROFILE", "keys")], &none),
        pair(DEFAULT_ENDPOINT, "us-east-1"),
        "of the credentials file"
    );
}

#[test]
fn a_setting_that_cannot_be_used_is_named_with_its_place() {
    let home = home(CONFIG, "");
    let refused = |variables: &[(&str, &str)]| {
        Settings::resolve(&flags(), environment(home.path(), variables))
            .err()
            .expect("refused")
            .to_string()
    };
    let message = refused(&[("AWS_PROFILE", "nobody")]);
    assert!(
        message.starts_with("AWS_PROFILE: the profile `nobody` is neither in "),
        "{message}"
    );
    assert!(
        message.ends_with("the configured profiles are: default, general, local, two words"),
        "{message}"
    );
    assert!(refused(&[("AWS_PROFILE", super::FAILED_PROFILE)]).contains("unset AWS_PROFILE"));
    assert!(refused(&[("AWS_PROFILE", "two words")]).contains("has no [services gone]"));
    for (url, expected) in [
        (
            "broker.example.com:7480",
            "write https://broker.example.com:7480",
        ),
        ("127.0.0.1:7480", "write http://127.0.0.1:7480"),
        ("localhost", "write http://localhost"),
        ("ftp://x", "`ftp://` is not supported"),
        ("https://", "https://HOST:PORT"),
        (
            "https://x/sts",
            "must be a scheme, a host and a port only; write https://x",
        ),
        (
            "https://u:p@x",
            "must be a scheme, a host and a port only; write https://x",
        ),
        ("https://x y", "https://HOST:PORT"),
    ] {
        let message = refused(&[("AWS_ENDPOINT_URL_STS", url)]);
        assert!(
            message.starts_with("AWS_ENDPOINT_URL_STS: ") && message.contains(expected),
            "{message}"
        );
    }
    assert!(
        refused(&[("AWS_REGION", "Frankfurt")])
            .starts_with("AWS_REGION: `Frankfurt`: a region has")
    );
    std::fs::write(home.path().join(".aws/config"), "[default\n").unwrap();
    assert!(refused(&[]).contains(".aws/config: line 1: "));
}

#[tokio::test]
async fn credentials_are_found_in_botocores_order() {
    let home = home(
        "[default]\n[profile both]\naws_access_key_id = OFCONFIG\naws_secret_access_key = S\n\
         [profile process]\ncredential_process = sh -c 'echo \"{\\\"Version\\\": 1, \\\"AccessKeyId\\\": \\\"OFPROCESS\\\", \\\"SecretAccessKey\\\": \\\"S\\\"}\"'\n\
         aws_access_key_id = OFCONFIG\naws_secret_access_key = S\n",
        "[both]\naws_access_key_id = OFCREDENTIALS\naws_secret_access_key = S\naws_session_token = T\n",
    );
    let found = async |flag: Option<&str>, variables: &[(&str, &str)]| {
        let call = CallArguments {
            profile: flag.map(str::to_owned),
            ..flags()
        };
        let settings = Settings::resolve(&call, environment(home.path(), variables)).unwrap();
        settings
            .credentials()
            .await
            .map(|f| f.credentials.access_key_id)
            .map_err(|e| e.to_string())
    };
    let keys = [
        ("AWS_ACCESS_KEY_ID", "OFENV"),
        ("AWS_SECRET_ACCESS_KEY", "S"),
        ("AWS_PROFILE", "both"),
    ];
    assert_eq!(
        found(None, &keys).await.unwrap(),
        "OFENV",
        "keys beat a profile of the environment"
    );
    assert_eq!(
        found(Some("both"), &keys).await.unwrap(),
        "OFCREDENTIALS",
        "and not one of a flag"
    );
    assert_eq!(
        found(None, &[("AWS_PROFILE", "process")]).await.unwrap(),
        "OFPROCESS"
    );
    let nothing = found(None, &[]).await.unwrap_err();
    assert!(
        nothing.contains("AWS_ACCESS_KEY_ID is not set") && nothing.contains("--profile"),
        "{nothing}"
    );
    let half = found(None, &[("AWS_ACCESS_KEY_ID", "A")])
        .await
        .unwrap_err();
    assert!(half.contains("AWS_SECRET_ACCESS_KEY is not"), "{half}");
}

#[tokio::test]
async fn what_is_not_supported_is_refused_by_name() {
    for (config, expected) in [
        (
            "[default]\nsso_session = x\n",
            "there is no [sso-session x]",
        ),
        (
            "[default]\nlogin_session = x\n",
            "login_session, but brevet cannot use sessions of `aws login`",
        ),
        (
            "[default]\nrole_arn = r\n",
            "role_arn but neither source_profile nor credential_source",
        ),
        (
            "[default]\nrole_arn = r\nsource_profile = a\ncredential_source = b\n",
            "both source_profile and credential_source",
        ),
        (
            "[default]\nrole_arn = r\ncredential_source = Ec2InstanceMetadata\n",
            "use Environment, or source_profile",
        ),
        (
            "[default]\nrole_arn = r\ncredential_source = Environment\n",
            "AWS_ACCESS_KEY_ID is not set",
        ),
        (
            "[default]\nrole_arn = r\nsource_profile = gone\n",
            "there is no such profile",
        ),
        (
            "[default]\nrole_arn = r\nsource_profile = default\n",
            "is circular: default -> default",
        ),
        (
            "[default]\nrole_arn = r\nsource_profile = a\n[profile a]\nrole_arn = r\nsource_profile = default\n",
            "is circular: default -> a -> default",
        ),
        (
            "[default]\nrole_arn = r\nsource_profile = a\n[profile a]\nregion = x\n",
            "the profile `a`, which is source_profile of `default`, has no credentials",
        ),
        (
            "[default]\nweb_identity_token_file = /t\n",
            "no role is named for the web identity token",
        ),
        (
            "[default]\naws_access_key_id = A\n",
            "no aws_secret_access_key",
        ),
        (
            "[default]\ncredential_process = 'x\n",
            "a quote that is not closed",
        ),
        (
            "[default]\ncredential_process = /does/not/exist --x\n",
            "cannot run /does/not/exist",
        ),
        (
            "[default]\ncredential_process = sh -c 'echo why >&2; exit 3'\n",
            "failed (exit status: 3): why",
        ),
        (
            "[default]\ncredential_process = echo nonsense\n",
            "did not print JSON",
        ),
        (
            "[default]\ncredential_process = echo '{\"Version\": 2}'\n",
            "`\"Version\": 1`",
        ),
        (
            "[default]\ncredential_process = echo '{\"Version\": 1}'\n",
            "printed no AccessKeyId",
        ),
    ] {
        let home = home(config, "");
        let settings = Settings::resolve(&flags(), environment(home.path(), &[])).unwrap();
        let message = settings
            .credentials()
            .await
            .err()
            .expect("refused")
            .to_string();
        assert!(message.contains(expected), "{config}: {message}");
    }
    let home = home("[default]\ncredential_process = brevet\n", "");
    let inside = environment(
        home.path(),
        &[("BREVET_CREDENTIAL_PROCESS_OF", "x\ndefault")],
    );
    let message = Settings::resolve(&flags(), inside)
        .unwrap()
        .credentials()
        .await
        .err()
        .unwrap()
        .to_string();
    assert!(message.contains("would never end"), "{message}");
}

#[test]
fn a_shell_that_leaves_a_profile_keeps_its_endpoints() {
    let home = home(CONFIG, "");
    let settings = Settings::resolve(
        &flags(),
        environment(home.path(), &[("AWS_PROFILE", "local")]),
    )
    .unwrap();
    let endpoints: Vec<_> = settings.endpoints_of_profile().into_iter().collect();
    let pair = |a: &str, b: &str| (a.to_owned(), b.to_owned());
    assert_eq!(
        endpoints,
        [
            pair("AWS_ENDPOINT_URL", "https://general.example.com"),
            pair("AWS_ENDPOINT_URL_IAM", "https://iam.example.com"),
            pair("AWS_ENDPOINT_URL_STS", "https://sts.example.com"),
        ]
    );
}

#[test]
fn credentials_go_in_clear_only_where_it_was_said() {
    let call = CallArguments {
        endpoint: Some("http://10.0.0.1:7480".into()),
        ..flags()
    };
    let settings = Settings::resolve(&call, Environment::default()).unwrap();
    let message = settings.endpoint().unwrap_err().to_string();
    assert!(
        message.starts_with("--endpoint: http://10.0.0.1:7480: ")
            && message.contains("--plaintext-off-loopback"),
        "{message}"
    );
    let call = CallArguments {
        plaintext_off_loopback: true,
        ..call
    };
    assert!(
        Settings::resolve(&call, Environment::default())
            .unwrap()
            .endpoint()
            .is_ok()
    );
}
