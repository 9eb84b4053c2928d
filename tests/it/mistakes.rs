//! Typical mistakes on the command line: the command, its message, and the exit status. Each message
//! names what is wrong and what to do next. `cargo test --test it mistakes -- --nocapture` prints the
//! table.

use std::path::Path;
use std::process::{Command, Stdio};

use crate::binary::{Daemon, Home, serve};

/// The command line, the exit status, and what the message must contain.
type Mistake<'a> = (&'a str, i32, &'a [&'a str]);

/// The surroundings of a command line: the broker that it calls, and a person's home folder.
struct Fixture {
    plain: Home,
    daemon: Daemon,
    tls: Daemon,
    _tls_home: Home,
    person: tempfile::TempDir,
}

impl Fixture {
    fn new() -> Self {
        let plain = Home::init();
        let daemon = plain.serve();
        let tls_home = Home::init();
        let certificate = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
        let write = |name: &str, text: &str| {
            brevet::files::write_private(&tls_home.path.join(name), text.as_bytes()).unwrap();
        };
        write("tls.crt", &certificate.cert.pem());
        write("tls.key", &certificate.signing_key.serialize_pem());
        tls_home.edit(|toml| {
            format!("{toml}\n[tls]\ncertificate = \"tls.crt\"\nprivate_key = \"tls.key\"\n")
        });
        let tls = serve(&tls_home.config());
        let person = tempfile::tempdir().unwrap();
        std::fs::create_dir(person.path().join(".aws")).unwrap();
        Self {
            plain,
            daemon,
            tls,
            _tls_home: tls_home,
            person,
        }
    }

    /// Writes a file to the person's folder.
    fn file(&self, name: &str, text: &str) {
        brevet::files::write_private(&self.person.path().join(name), text.as_bytes()).unwrap();
    }

    /// A line with the names of this fixture's things in it.
    fn filled(&self, line: &str) -> String {
        let port = |address: &str| address.rsplit(':').next().unwrap().to_owned();
        line.replace("{broker}", &format!("http://{}", self.daemon.address))
            .replace("{address}", &self.daemon.address)
            .replace(
                "{tls}",
                &format!("https://localhost:{}", port(&self.tls.address)),
            )
            .replace(
                "{tls_as_http}",
                &format!("http://localhost:{}", port(&self.tls.address)),
            )
            .replace(
                "{broker_as_https}",
                &format!("https://localhost:{}", port(&self.daemon.address)),
            )
            .replace("{operator}", &self.daemon.operator)
            .replace("{config}", &self.plain.config().display().to_string())
            .replace("{home}", &self.plain.path.display().to_string())
    }

    /// Runs a line in a shell. Returns the exit status and the output.
    fn typed(&self, line: &str) -> (i32, String) {
        let program = Path::new(env!("CARGO_BIN_EXE_brevet")).parent().unwrap();
        let line = self.filled(line);
        let output = Command::new("sh")
            .args(["-c", &line])
            .current_dir(self.person.path())
            .env_clear()
            .env("PATH", format!("{}:/usr/bin:/bin", program.display()))
            .env("HOME", self.person.path())
            .env("AWS_ACCESS_KEY_ID", &self.plain.keys.access_key_id)
            .env(
                "AWS_SECRET_ACCESS_KEY",
                self.plain.keys.secret_access_key.expose(),
            )
            .env(
                "AWS_ENDPOINT_URL_STS",
                format!("http://{}", self.daemon.address),
            )
            .stdin(Stdio::null())
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned()
            + &String::from_utf8_lossy(&output.stdout);
        (output.status.code().unwrap(), said)
    }
}

/// Shortens the output for the table, and replaces what differs between runs.
fn shortened(text: &str) -> String {
    let lines = text.lines().map(|line| {
        let short: String = line.chars().take(300).collect();
        if short.len() < line.len() {
            short + "…"
        } else {
            short
        }
    });
    lines.collect::<Vec<_>>().join("\n      ")
}

#[test]
fn typical_mistakes_are_answered_with_the_thing_and_the_next_step() {
    let fixture = Fixture::new();
    fixture.file(
        "trust.json",
        "{\"Version\": \"2012-10-17\", \"Statement\": []}",
    );
    fixture.file("notes.txt", "not JSON");
    fixture.file(
        "account.json",
        "{\"RoleDetailList\": [{\"RoleName\": \"x\", \"AssumeRolePolicyDocument\": {}}]}",
    );
    fixture.file("open.toml", "[listen]\naddress = \"127.0.0.1:0\"\n");
    fixture.file("typo.toml", "[listen]\nadress = \"127.0.0.1:0\"\n");
    fixture.file(
        "public.toml",
        "[listen]\naddress = \"0.0.0.0:7480\"\n[directory]\nmaster_key = \"k\"\n[keyring]\nfile = \"k\"\n",
    );
    fixture.file(".aws/config", CONFIG);
    let mistakes: &[Mistake<'_>] = &[
        // Words.
        ("brevet serv", 2, &["serv", "serve"]),
        (
            "brevet serve",
            2,
            &["--config", "--dev", "brevet init", "BREVET_CONFIG"],
        ),
        (
            "brevet check",
            2,
            &["--config", "brevet init", "BREVET_CONFIG"],
        ),
        ("brevet import", 2, &["<FILE>", "--config"]),
        ("brevet assume-role", 2, &["--role-arn"]),
        (
            "brevet assume-role --rolearn Administrator",
            2,
            &["--rolearn", "--role-arn"],
        ),
        (
            "brevet assume-role --role-arn Administrator --duration-seconds 1h",
            2,
            &["1h", "--duration-seconds", "3600"],
        ),
        (
            "brevet assume-role --role-arn Administrator --duration-seconds 60",
            1,
            &["durationSeconds", "900", "request id"],
        ),
        (
            "brevet assume-role --role-arn Administrator --duration-seconds 7200",
            1,
            &["DurationSeconds", "raise MaxSessionDuration", "request id"],
        ),
        (
            "brevet assume-role --role-arn Administrator --format credential-process",
            2,
            &["--format", "brevet credential-process"],
        ),
        (
            "brevet credential-process --role Administrator --token-code 123456",
            2,
            &["--serial-number"],
        ),
        (
            "brevet assume-role --role-arn Administrator --tag Team",
            2,
            &["Team", "--tag", "KEY=VALUE"],
        ),
        (
            "brevet assume-role --role-arn Administrator --policy notes.txt",
            2,
            &["--policy", "notes.txt", "must be JSON"],
        ),
        (
            "brevet assume-role --role-arn Administrator --policy file://gone.json",
            2,
            &["gone.json", "No such file"],
        ),
        (
            "brevet assume-role --role-arn Administrator --role-session-name 'a b'",
            1,
            &["roleSessionName", "request id"],
        ),
        (
            "brevet assume-role --role-arn Administrator --token-code 123456",
            2,
            &["--serial-number"],
        ),
        (
            "brevet assume-role --role-arn 'Admin istrator'",
            1,
            &[
                "--role-arn Admin istrator",
                "arn:aws:iam::ACCOUNT:role/NAME",
            ],
        ),
        (
            "brevet assume-role --role-arn Nobody",
            1,
            &[
                "AccessDenied",
                "role/Nobody",
                "request id",
                "brevet explain ",
            ],
        ),
        (
            "brevet assume-role --role-arn arn:aws:iam:role/Administrator",
            1,
            &["roleArn", "arn:aws:iam::", "request id"],
        ),
        (
            "brevet assume-role --role-arn Administrator --web-identity-token-file notes.txt",
            1,
            &["Administrator", "write the role's ARN"],
        ),
        (
            "brevet assume-role --role-arn arn:aws:iam::111122223333:role/Administrator --web-identity-token-file notes.txt",
            1,
            &["notes.txt", "JSON Web Token"],
        ),
        (
            "brevet web-identity-token --audience x --write gone/token",
            1,
            &["--write gone/token", "the folder gone", "create it first"],
        ),
        (
            "setsid brevet assume-role --role-arn Administrator --serial-number arn:aws:iam::111122223333:mfa/x",
            1,
            &["mfa/x", "--token-code"],
        ),
        (
            "eval \"$(brevet assume-role --role-arn Nobody --format env)\"",
            1,
            &["AccessDenied", "role/Nobody"],
        ),
        (
            "brevet sessions revoke",
            2,
            &["--session-id", "--role-arn", "--issued-before"],
        ),
        (
            "brevet sessions revoke --role-arn Administrator --issued-before yesterday",
            2,
            &["yesterday", "2026-01-02T03:04:05Z"],
        ),
        (
            "brevet sessions revoke --role-arn Administrator --issued-before 2999-01-01T00:00:00Z",
            1,
            &["issuedBefore", "future", "request id"],
        ),
        (
            "brevet sessions revoke --role-arn Adminstrator",
            0,
            &["no entry with this name", "spelling"],
        ),
        (
            "brevet sessions show 1234",
            1,
            &["sessionId", "32 hexadecimal digits", "request id"],
        ),
        (
            "brevet sessions show 00000000000000000000000000000000",
            1,
            &["NoSuchEntity", "brevet sessions list", "request id"],
        ),
        (
            "brevet explain nonsense",
            1,
            &["InvalidAuthorizationMessage", "whole message", "request id"],
        ),
        (
            "echo error: something else | brevet explain",
            1,
            &["no encoded message", "AccessDenied"],
        ),
        (
            "brevet web-identity-token --audience x",
            1,
            &["[web_identity] issuer", "request id"],
        ),
        ("brevet web-identity-token", 2, &["--audience"]),
        ("brevet completions tcsh", 2, &["tcsh", "bash"]),
        (
            "brevet check --config {config} --log '=='",
            2,
            &["--log", "debug"],
        ),
        // The broker, and how to reach it.
        (
            "AWS_ENDPOINT_URL_STS=broker.example.com:7480 brevet whoami",
            1,
            &[
                "AWS_ENDPOINT_URL_STS",
                "no scheme",
                "https://broker.example.com:7480",
            ],
        ),
        (
            "brevet whoami --endpoint {address}",
            1,
            &["--endpoint", "no scheme", "write http://{address}"],
        ),
        (
            "brevet whoami --endpoint {broker}/sts",
            1,
            &["--endpoint", "write {broker}"],
        ),
        (
            "brevet whoami --endpoint http://10.1.2.3:7480",
            1,
            &["10.1.2.3", "https://", "--plaintext-off-loopback"],
        ),
        (
            "brevet whoami --endpoint {tls_as_http}",
            1,
            &["expects TLS", "{tls}"],
        ),
        (
            "brevet whoami --endpoint {broker_as_https}",
            1,
            &["does not use TLS", "http://localhost"],
        ),
        (
            "brevet whoami --endpoint {tls}",
            1,
            &["--ca", "AWS_CA_BUNDLE"],
        ),
        (
            "brevet whoami --endpoint {tls} --ca notes.txt",
            1,
            &["--ca", "notes.txt", "PEM"],
        ),
        (
            "brevet whoami --endpoint {tls} --ca gone.pem",
            1,
            &["--ca", "gone.pem", "No such file"],
        ),
        (
            "brevet whoami --endpoint http://127.0.0.1:1",
            1,
            &["127.0.0.1:1", "brevet serve --dev", "--endpoint"],
        ),
        (
            "brevet whoami --endpoint https://no-such-host.invalid",
            1,
            &["no-such-host.invalid", "--endpoint"],
        ),
        (
            "brevet whoami --endpoint http://{operator}",
            1,
            &["{operator}", "operators' port"],
        ),
        (
            "brevet health --operator 127.0.0.1:1",
            1,
            &["127.0.0.1:1", "[operator] address"],
        ),
        (
            "brevet health --operator {address}",
            1,
            &["{address}", "HTTP 400", "[operator] address"],
        ),
        (
            "brevet health --operator localhost:7481",
            2,
            &["localhost:7481", "127.0.0.1:7481"],
        ),
        // Credentials.
        (
            "env -u AWS_ACCESS_KEY_ID brevet whoami",
            1,
            &[
                "AWS_ACCESS_KEY_ID is not set",
                "brevet serve --dev",
                "--profile",
            ],
        ),
        (
            "env -u AWS_SECRET_ACCESS_KEY brevet whoami",
            1,
            &["AWS_SECRET_ACCESS_KEY", "export both"],
        ),
        (
            "AWS_SECRET_ACCESS_KEY=wrong brevet whoami",
            1,
            &[
                "SignatureDoesNotMatch",
                "AWS_SECRET_ACCESS_KEY",
                "request id",
            ],
        ),
        (
            "AWS_ACCESS_KEY_ID=AKIAIOSFODNN7EXAMPLE brevet whoami",
            1,
            &[
                "InvalidClientTokenId",
                "paste the lines that it printed",
                "request id",
            ],
        ),
        (
            "AWS_SESSION_TOKEN=stale brevet whoami",
            1,
            &["AWS_SESSION_TOKEN", "unset AWS_SESSION_TOKEN"],
        ),
        (
            "brevet whoami --region us-west-9",
            1,
            &["us-east-1", "--region", "request id"],
        ),
        (
            "brevet whoami --region Frankfurt",
            1,
            &["--region", "us-east-1"],
        ),
        (
            "AWS_PROFILE=prod brevet whoami",
            1,
            &["AWS_PROFILE", "prod", "circle", ".aws/config"],
        ),
        (
            "brevet whoami --profile roleless",
            1,
            &["roleless", "source_profile"],
        ),
        (
            "brevet whoami --profile circle",
            1,
            &["circle -> circle", "source_profile"],
        ),
        (
            "brevet whoami --profile sso",
            1,
            &["[sso-session corp]", "brevet configure sso"],
        ),
        (
            "brevet whoami --profile process",
            1,
            &["credential_process", "/does/not/exist"],
        ),
        (
            "setsid brevet whoami --profile mfa",
            1,
            &["mfa/administrator", "no terminal"],
        ),
        (
            "env -u AWS_ENDPOINT_URL_STS brevet whoami --profile lost",
            1,
            &["services = nowhere", "[services nowhere]"],
        ),
        (
            "AWS_CONFIG_FILE=notes.txt brevet whoami",
            1,
            &["notes.txt", "line 1"],
        ),
        // Files of the broker.
        ("brevet init .", 1, &["not empty", "new folder"]),
        (
            "brevet init new --account 12",
            1,
            &["--account 12", "twelve digits"],
        ),
        (
            "brevet serve --config gone.toml",
            1,
            &["gone.toml", "No such file"],
        ),
        (
            "brevet serve --config typo.toml",
            1,
            &["typo.toml", "adress", "address"],
        ),
        (
            "brevet serve --config open.toml",
            1,
            &["[keyring]", "brevet init"],
        ),
        (
            "brevet serve --config public.toml",
            1,
            &["[listen] address", "[tls]"],
        ),
        ("brevet serve --config {config}", 1, &["store.db"]),
        (
            "brevet serve --dev --listen {address}",
            1,
            &["{address}", "port 0"],
        ),
        (
            "brevet serve --dev --listen 0.0.0.0:7480",
            1,
            &["--listen", "brevet init"],
        ),
        (
            "brevet serve --dev --listen localhost:7480",
            2,
            &["localhost:7480", "127.0.0.1:7480"],
        ),
        (
            "brevet serve --dev --directory account.json --listen 127.0.0.1:0",
            1,
            &["account.json"],
        ),
        (
            "brevet import --config {config} notes.txt",
            1,
            &["notes.txt", "JSON"],
        ),
        (
            "brevet import --config {config} account.json",
            1,
            &["account.json", "Arn"],
        ),
        (
            "brevet import --config {config} gone.json",
            1,
            &["gone.json", "No such file"],
        ),
        (
            "brevet backup --config {config} notes.txt",
            1,
            &["notes.txt"],
        ),
        (
            "brevet restore --config {config} notes.txt",
            1,
            &[
                "store.db",
                "another broker serves this store",
                "stop it first",
            ],
        ),
        (
            "brevet keyring list gone.json",
            1,
            &["gone.json", "No such file"],
        ),
        ("brevet keyring list trust.json", 1, &["trust.json"]),
        (
            "brevet policy check notes.txt",
            1,
            &["notes.txt", "1 document is malformed"],
        ),
        ("brevet policy check .", 1, &[".", "directory"]),
        (
            "brevet policy explain --cases notes.txt x",
            1,
            &["notes.txt", "x"],
        ),
        (
            "brevet seal --config {config}",
            1,
            &["[directory] file", "always sealed"],
        ),
    ];
    let mut wrong = Vec::new();
    println!("{:>3}  {:>4}  typed, and what was said", "#", "exit");
    for (n, (line, status, names)) in mistakes.iter().enumerate() {
        let (got, said) = fixture.typed(line);
        println!(
            "{:>3}  {got:>4}  $ {line}\n      {}",
            n + 1,
            shortened(&said)
        );
        let missing: Vec<_> = names
            .iter()
            .map(|n| fixture.filled(n))
            .filter(|name| !said.contains(name))
            .collect();
        if got != *status || !missing.is_empty() || said.contains("panicked") {
            wrong.push(format!(
                "$ {line}\n  exit {got}, expected {status}; does not say {missing:?}:\n{said}"
            ));
        }
    }
    assert!(
        wrong.is_empty(),
        "{} of {}:\n{}",
        wrong.len(),
        mistakes.len(),
        wrong.join("\n")
    );
}

const CONFIG: &str = "\
[default]
region = us-east-1
[profile roleless]
role_arn = arn:aws:iam::111122223333:role/Administrator
[profile circle]
role_arn = arn:aws:iam::111122223333:role/Administrator
source_profile = circle
[profile sso]
sso_session = corp
[profile process]
credential_process = /does/not/exist
[profile mfa]
role_arn = arn:aws:iam::111122223333:role/Administrator
credential_source = Environment
mfa_serial = arn:aws:iam::111122223333:mfa/administrator
[profile lost]
services = nowhere
";

#[test]
fn a_full_disk_is_called_one() {
    // A file system of its own that is small enough to fill, where the machine lets us mount one.
    let dir = tempfile::tempdir().unwrap();
    let program = env!("CARGO_BIN_EXE_brevet");
    let script = format!(
        "mount -t tmpfs -o size=4m tmpfs {0} || exit 77\n{program} init {0}/b >/dev/null 2>&1 || exit 78\n\
         sed -i 's/:748[01]/:0/' {0}/b/brevet.toml\ncat /dev/zero >{0}/fill 2>/dev/null\n\
         for command in 'serve --config {0}/b/brevet.toml' 'export --config {0}/b/brevet.toml' \
         'keyring rotate {0}/b/keyring.json' 'init {0}/c'; do\n\
         {program} $command >/dev/null; echo \"exit $?\" >&2\ndone",
        dir.path().display()
    );
    let output = Command::new("unshare")
        .args(["--user", "--map-root-user", "--mount", "sh", "-c", &script])
        .output();
    let output = output.expect("unshare, of util-linux");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    if said.contains("unshare failed") || output.status.code() == Some(77) {
        println!("this machine lets nobody mount: {said}");
        return;
    }
    println!("{said}");
    assert_eq!(said.matches("exit 1").count(), 4, "{said}");
    assert_eq!(said.matches("is full (").count(), 2, "{said}");
    assert_eq!(said.matches("No space left on device").count(), 2, "{said}");
    assert_eq!(said.matches("next: free some space").count(), 4, "{said}");
}
