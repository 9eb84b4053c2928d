"""Debian's AWS CLI 2.9 signs in as it would at AWS. It calls AWS's own host names, which lead to the broker, and knows
nothing of it but the certificate of its CA. With BREVET_AWS, another AWS CLI 2 does the same."""

import datetime
import json
import os
import re
import subprocess
import time
from pathlib import Path

import hosts
import person
import pytest
from cluster import Ca, private
from conftest import BREVET, may_skip
from cryptography import x509

ACCOUNT = "111122223333"
NAMES = [f"{service}.us-east-1.amazonaws.com" for service in ("oidc", "portal.sso", "sts")]
UNPACKED = Path(__file__).parents[2] / "target/clients/awscli"
# What Argon2 makes of the password, as an import takes it from other programs.
PASSWORD = "Correct-horse-1"
HASH = "$argon2id$v=19$m=19456,t=2,p=1$6gfpG8mjAlxLuS94B4n/5w$WM0FbVzevQFC3IMOCZH2sMPYmnwGJe6GOoa1uNyxO/0"
CONFIG = f"""[sso-session work]
sso_start_url = https://work.awsapps.com/start
sso_region = us-east-1
sso_registration_scopes = sso:account:access
[profile dev]
sso_session = work
sso_account_id = {ACCOUNT}
sso_role_name = Demo
region = us-east-1
[profile legacy]
sso_start_url = https://legacy.awsapps.com/start
sso_region = us-east-1
sso_account_id = {ACCOUNT}
sso_role_name = Demo
region = us-east-1
"""


def directory():
    allow = {"Effect": "Allow", "Action": "sts:AssumeRole"}
    document = lambda statement: {"Version": "2012-10-17", "Statement": [statement]}
    user, role = (f"arn:aws:iam::{ACCOUNT}:{name}" for name in ("user/carol", "role/Demo"))
    policy = {"PolicyName": "own", "PolicyDocument": document({**allow, "Resource": "*"})}
    trust = document({**allow, "Principal": {"AWS": f"arn:aws:iam::{ACCOUNT}:root"}})
    return {
        "UserDetailList": [{"UserName": "carol", "UserId": "AIDA000000000000CAROL", "Arn": user, "Path": "/", "UserPolicyList": [policy]}],
        "RoleDetailList": [{"RoleName": "Demo", "RoleId": "AROA0000000000000DEMO", "Arn": role, "Path": "/", "AssumeRolePolicyDocument": trust}],
        "Brevet": {"LoginProfiles": [{"UserArn": user, "PasswordHash": HASH}]},
    }


def cli():
    """The AWS CLI, and what it needs in its environment; None if there is none that signs in."""
    if given := os.environ.get("BREVET_AWS"):
        return given, {}
    modules = "usr/lib/python3/dist-packages"
    for root, more in ((Path("/"), {}), (UNPACKED, {"PYTHONPATH": str(UNPACKED / modules)})):
        if (root / modules / "awscli/customizations/sso").is_dir():
            return str(root / "usr/bin/aws"), more
    return None


class Shell:
    """A person's shell in that network, with a broker there."""

    def __init__(self, home, network):
        self.home, self.network = home, network
        self.aws, more = cli()
        browser = person.program(home / "browser", ACCOUNT, "carol", PASSWORD)
        self.environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(home),
            "AWS_CA_BUNDLE": str(home / "ca.crt"),
            "SSL_CERT_FILE": str(home / "ca.crt"),
            "AWS_EC2_METADATA_DISABLED": "true",
            "BROWSER": browser,
            **more,
        }
        (home / ".aws").mkdir()
        (home / ".aws/config").write_text(CONFIG)

    def run(self, *arguments, status=0):
        command = [*self.network.enter, self.aws, *arguments]
        done = subprocess.run(command, env=self.environment, capture_output=True, text=True, timeout=120)
        assert done.returncode == status, (arguments, done.stdout, done.stderr)
        return done.stdout if status == 0 else done.stderr

    def arn(self, profile):
        return json.loads(self.run("sts", "get-caller-identity", "--profile", profile))["Arn"]

    def token(self):
        """The file with the tokens of the sign-in."""
        files = [(path, json.loads(path.read_text())) for path in (self.home / ".aws/sso/cache").iterdir()]
        return next((path, held) for path, held in files if "accessToken" in held)


@pytest.fixture
def shell(tmp_path):
    if not hosts.are_here() or not cli():
        may_skip("there is no unshare, nsenter or mount here, or no AWS CLI 2")
    network = hosts.Hosts(tmp_path, *NAMES)
    if network.refusal is not None:
        may_skip(f"this machine allows no namespaces: {network.refusal}")
    ca, folder = Ca(), tmp_path / "broker"
    ca.certify(tmp_path, "tls", *map(x509.DNSName, NAMES))
    private(tmp_path / "ca.crt", ca.pem)
    made = subprocess.run([BREVET, "init", str(folder), "--account", ACCOUNT], capture_output=True, text=True)
    assert made.returncode == 0, made.stderr
    config = folder / "brevet.toml"
    text = config.read_text().replace("127.0.0.1:7480", "127.0.0.1:443").replace("127.0.0.1:7481", "127.0.0.1:0")
    text = re.sub(r"(?m)^names = .*$", f"names = {json.dumps(NAMES)}", text)
    text += f'\n[tls]\ncertificate = "{tmp_path}/tls.crt"\nprivate_key = "{tmp_path}/tls.key"\n'
    config.write_text(text + f'[sign_in]\npublic_url = "https://{NAMES[0]}"\n')
    file = private(tmp_path / "import.json", json.dumps(directory()))
    done = subprocess.run([BREVET, "import", "--config", str(config), str(file), "--apply"], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    log = tmp_path / "broker.log"
    with log.open("w") as lines:
        broker = subprocess.Popen([*network.enter, BREVET, "serve", "--config", str(config)], stderr=lines)
    deadline = time.monotonic() + 60
    while "brevet listens" not in log.read_text():
        assert broker.poll() is None and time.monotonic() < deadline, log.read_text()
        time.sleep(0.05)
    yield Shell(tmp_path, network)
    broker.terminate()
    assert broker.wait(30) == 0
    network.close()


def test_the_aws_cli_signs_in_refreshes_and_signs_out(shell):
    assert "work.awsapps.com" in shell.run("sso", "login", "--profile", "dev")
    assert shell.arn("dev") == f"arn:aws:sts::{ACCOUNT}:assumed-role/Demo/carol"

    # Near its end the access token is exchanged, and the new one is what the role's credentials come by.
    path, held = shell.token()
    soon = datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(minutes=5)
    path.write_text(json.dumps({**held, "expiresAt": soon.strftime("%Y-%m-%dT%H:%M:%SZ")}))
    for cached in (shell.home / ".aws/cli/cache").iterdir():
        cached.unlink()
    assert shell.arn("dev").endswith("/Demo/carol")
    _, fresh = shell.token()
    assert fresh["accessToken"] != held["accessToken"] and fresh["refreshToken"] != held["refreshToken"]

    listed = ["sso", "list-account-roles", "--account-id", ACCOUNT, "--region", "us-east-1", "--access-token", fresh["accessToken"]]
    assert json.loads(shell.run(*listed))["roleList"] == [{"roleName": "Demo", "accountId": ACCOUNT}]
    shell.run("sso", "logout")
    assert "UnauthorizedException" in shell.run(*listed, status=254)
    assert "SSO" in shell.run("sts", "get-caller-identity", "--profile", "dev", status=255)

    # A profile of the old form has no refresh token.
    shell.run("sso", "login", "--profile", "legacy")
    assert shell.arn("legacy").endswith("/Demo/carol") and "refreshToken" not in shell.token()[1]
