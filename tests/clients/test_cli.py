"""The command line as a person, a shell and AWS's own tools meet it."""

import datetime
import json
import os
import pty
import re
import select
import subprocess
import sys
import time
from concurrent import futures

import boto3
import botocore.exceptions
import botocore.session
import grpc
import jwt
import pytest
from conftest import BREVET
from cryptography.hazmat.primitives.asymmetric import ec
from test_mfa import code, early_in_a_step
from test_oidc import free_port
from test_shell import EXAMPLE, aws, run

ACCOUNT = "111122223333"
ROLE = f"arn:aws:iam::{ACCOUNT}:role/"


class Person:
    """A home folder with AWS's two files, and an environment without anything of the machine's own."""

    def __init__(self, home, world):
        self.home, self.world = home, world
        (home / ".aws").mkdir()
        self.environment = {"PATH": os.environ["PATH"], "HOME": str(home), "USER": "pat"}
        alice, url = world["users"]["alice"], world["sts_endpoint"]
        self.files(
            f"""
[default]
region = us-east-1
services = local
# comments, and a section with quotes
[profile "alice"]
services = local
region = us-east-1
[profile demo]
role_arn = {ROLE}Demo
source_profile = alice
services = local
region = us-east-1
role_session_name = by-profile
[profile chained]
role_arn = {ROLE}Deploy
source_profile = demo
services = local
region = us-east-1
[services local]
sts =
  endpoint_url = {url}
iam =
  endpoint_url = {url}
""",
            f"[alice]\naws_access_key_id = {alice['access_key_id']}\n"
            f"aws_secret_access_key = {alice['secret_access_key']}\n",
        )

    def files(self, config, credentials):
        (self.home / ".aws/config").write_text(config)
        (self.home / ".aws/credentials").write_text(credentials)

    def run(self, *arguments, expect=0, **variables):
        return run([BREVET, *arguments], {**self.environment, **variables}, expect)

    def shell(self, script, **variables):
        """Standard output of a POSIX shell, and its exit status."""
        environment = {**self.environment, "BREVET": BREVET, **variables}
        done = subprocess.run(["sh", "-c", script], env=environment, capture_output=True, text=True)
        return done.stdout, done.returncode, done.stderr

    def keys(self):
        alice = self.world["users"]["alice"]
        return {
            "AWS_ACCESS_KEY_ID": alice["access_key_id"],
            "AWS_SECRET_ACCESS_KEY": alice["secret_access_key"],
            "AWS_ENDPOINT_URL_STS": self.world["sts_endpoint"],
        }


@pytest.fixture
def person(tmp_path, world):
    home = tmp_path / "home"
    home.mkdir()
    return Person(home, world)


def test_one_profile_works_unmodified_with_every_tool(person, monkeypatch):
    for profile, arn in [
        ("alice", f"arn:aws:iam::{ACCOUNT}:user/alice"),
        ("demo", f"arn:aws:sts::{ACCOUNT}:assumed-role/Demo/by-profile"),
        ("chained", f"arn:aws:sts::{ACCOUNT}:assumed-role/Deploy/"),
    ]:
        ours = json.loads(person.run("whoami", "--profile", profile))
        by_cli = json.loads(run(aws("get-caller-identity", "--profile", profile), person.environment))
        for name in ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_ENDPOINT_URL_STS"]:
            monkeypatch.delenv(name, raising=False)
        monkeypatch.setenv("AWS_CONFIG_FILE", str(person.home / ".aws/config"))
        monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(person.home / ".aws/credentials"))
        by_boto3 = boto3.Session(profile_name=profile).client("sts").get_caller_identity()
        for answer in (ours, by_cli, by_boto3):
            assert answer["Arn"].startswith(arn), (profile, answer)
            assert {"UserId", "Account", "Arn"} <= set(answer)
        assert ours["Account"] == by_cli["Account"] == ACCOUNT
    devices = [sys.executable, "-m", "awscli", "iam", "list-mfa-devices", "--profile", "alice"]
    assert "MFADevices" in json.loads(run(devices, person.environment))
    table = person.run("whoami", "--profile", "demo", "--output", "table")
    assert "sts of [services local] in the profile `demo`" in table and "assumed with the profile `alice`" in table


def test_the_profile_that_init_prints_is_pasted_and_works(tmp_path):
    home = tmp_path / "broker"
    made = subprocess.run([BREVET, "init", str(home), "--account", ACCOUNT], capture_output=True, text=True)
    assert made.returncode == 0, made.stderr
    address, configuration = f"127.0.0.1:{free_port()}", home / "brevet.toml"
    text = configuration.read_text().replace("127.0.0.1:7480", address)
    configuration.write_text(text.replace("127.0.0.1:7481", f"127.0.0.1:{free_port()}"))
    # What a person copies: the indented lines below the sentence that says where they go.
    said = made.stderr.replace("127.0.0.1:7480", address)
    _, rest = said.split("~/.aws/config:\n")
    profile, rest = rest.split("and with the key")
    commands = [line[2:] for line in rest.splitlines() if line.startswith("  aws configure")]
    assert len(commands) == 2
    user = tmp_path / "user"
    (user / ".aws").mkdir(parents=True)
    (user / ".aws/config").write_text("".join(line[2:] + "\n" for line in profile.splitlines()))
    # Whose AWS CLI is not in the path of this test.
    tools = tmp_path / "bin"
    tools.mkdir()
    (tools / "aws").write_text(f'#!/bin/sh\nexec {sys.executable} -m awscli "$@"\n')
    (tools / "aws").chmod(0o755)
    clean = {"PATH": f"{tools}:{os.environ['PATH']}", "HOME": str(user)}
    with (home / "log").open("w") as log:
        process = subprocess.Popen([BREVET, "serve", "--config", str(configuration)], stderr=log)
    try:
        deadline = time.monotonic() + 60
        while "brevet listens" not in (home / "log").read_text():
            assert process.poll() is None and time.monotonic() < deadline, (home / "log").read_text()
            time.sleep(0.05)
        setup = made.stdout + "\n".join(commands)
        subprocess.run(["sh", "-e"], input=setup, env=clean, text=True, check=True)
        shown = json.loads(run(["aws", "iam", "get-user", "--profile", "brevet"], clean))
        assert shown["User"]["Arn"] == f"arn:aws:iam::{ACCOUNT}:user/administrator"
        role = f"arn:aws:iam::{ACCOUNT}:role/Administrator"
        arguments = ["--role-arn", role, "--role-session-name", "first", "--profile", "brevet"]
        assumed = json.loads(run(["aws", "sts", "assume-role", *arguments], clean))
        assert assumed["AssumedRoleUser"]["Arn"].endswith(":assumed-role/Administrator/first")
        ours = json.loads(run([BREVET, "whoami", "--profile", "brevet"], clean))
        assert ours["Arn"] == shown["User"]["Arn"]
    finally:
        process.terminate()
        assert process.wait(30) == 0


STATIC = "aws_access_key_id = {id}\naws_secret_access_key = {secret}\n"
CASES = [
    # configuration file, credentials file, environment, flags
    ("", "[default]\n" + STATIC, {}, []),
    ("[default]\n" + STATIC, "", {}, []),
    ("[profile default]\n" + STATIC, "", {}, []),
    ("[default]\nAWS_ACCESS_KEY_ID: {id}\nAws_Secret_Access_Key:{secret}\n", "", {}, []),
    ("[profile 'a b']\n" + STATIC, "", {"AWS_PROFILE": "a b"}, []),
    ("[a]\n" + STATIC, "", {"AWS_PROFILE": "a"}, []),
    ("", "[a]\n" + STATIC, {"AWS_PROFILE": "a"}, []),
    ("", "[a]\n" + STATIC, {"AWS_PROFILE": "nobody"}, []),
    ("", "[a]\n" + STATIC, {"AWS_PROFILE": "nobody", "AWS_DEFAULT_PROFILE": "a"}, []),
    ("", "[a]\n" + STATIC, {}, ["--profile", "a"]),
    ("", "[a]\n" + STATIC, {"AWS_ACCESS_KEY_ID": "{bob_id}", "AWS_SECRET_ACCESS_KEY": "{bob_secret}"}, ["--profile", "a"]),
    ("", "[a]\n" + STATIC, {"AWS_ACCESS_KEY_ID": "{bob_id}", "AWS_SECRET_ACCESS_KEY": "{bob_secret}", "AWS_PROFILE": "a"}, []),
    ("", "", {"AWS_ACCESS_KEY_ID": "{bob_id}", "AWS_SECRET_ACCESS_KEY": "{bob_secret}"}, []),
    ("", "", {"AWS_ACCESS_KEY_ID": "{bob_id}"}, []),
    ("", "", {"AWS_SECRET_ACCESS_KEY": "{bob_secret}"}, []),
    ("[profile r]\nrole_arn = {role}\nsource_profile = s\n", "[s]\n" + STATIC, {"AWS_PROFILE": "r"}, []),
    ("[profile r]\nrole_arn = {role}\nsource_profile = r\n", "[r]\n" + STATIC, {"AWS_PROFILE": "r"}, []),
    ("[profile r]\nrole_arn = {role}\nsource_profile = r\n", "", {"AWS_PROFILE": "r"}, []),
    ("[profile r]\nrole_arn = {role}\nsource_profile = q\n[profile q]\nrole_arn = {role}\nsource_profile = r\n", "", {"AWS_PROFILE": "r"}, []),
    ("[profile r]\nrole_arn = {role}\n", "", {"AWS_PROFILE": "r"}, []),
    ("[profile r]\nrole_arn = {role}\nsource_profile = gone\n", "", {"AWS_PROFILE": "r"}, []),
    (
        "[profile r]\nrole_arn = {role}\ncredential_source = Environment\n",
        "",
        {"AWS_ACCESS_KEY_ID": "{id}", "AWS_SECRET_ACCESS_KEY": "{secret}"},
        ["--profile", "r"],
    ),
    ("[profile r]\nrole_arn = {role}\ncredential_source = Nonsense\n", "", {"AWS_PROFILE": "r"}, []),
    ("[profile p]\ncredential_process = cat '{home}/with space/keys.json'\n", "", {"AWS_PROFILE": "p"}, []),
    ("[profile p]\ncredential_process = false\n", "", {"AWS_PROFILE": "p"}, []),
    ("[profile p]\ncredential_process = cat {home}/nothing | true\n", "", {"AWS_PROFILE": "p"}, []),
    ("[profile p]\ncredential_process = cat '{home}/with space/keys.json'\naws_access_key_id = AKIAX\n", "[p]\n" + STATIC, {"AWS_PROFILE": "p"}, []),
    ("[profile r]\nrole_arn = {role}\nsource_profile = p\n[profile p]\ncredential_process = cat '{home}/with space/keys.json'\n", "", {"AWS_PROFILE": "r"}, []),
    ("[default\n" + STATIC, "", {}, []),
    ("[default]\n" + STATIC + STATIC, "", {}, []),
    ("[default]\nnonsense\n" + STATIC, "", {}, []),
    ("[DEFAULT]\n" + STATIC + "[profile a]\nregion = us-east-1\n", "", {"AWS_PROFILE": "a"}, []),
    ("[default]\n; comment\n# comment\n\n" + STATIC + "\n[profile unused]\nregion =\n", "", {}, []),
    ("[default]\nservices = gone\n" + STATIC, "", {"AWS_ENDPOINT_URL_STS": ""}, []),
]


@pytest.mark.parametrize("case", range(len(CASES)))
def test_the_same_verdict_as_the_aws_cli(person, case):
    config, credentials, variables, flags = CASES[case]
    alice, bob = person.world["users"]["alice"], person.world["users"]["bob"]
    words = {
        "{id}": alice["access_key_id"],
        "{secret}": alice["secret_access_key"],
        "{bob_id}": bob["access_key_id"],
        "{bob_secret}": bob["secret_access_key"],
        "{role}": ROLE + "Demo",
        "{home}": str(person.home),
    }

    def filled(text):
        for word, value in words.items():
            text = text.replace(word, value)
        return text

    (person.home / "with space").mkdir()
    (person.home / "with space/keys.json").write_text(
        json.dumps({"Version": 1, "AccessKeyId": alice["access_key_id"], "SecretAccessKey": alice["secret_access_key"]})
    )
    person.files(filled(config), filled(credentials))
    environment = {
        **person.environment,
        "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_REGION": "us-east-1",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_ENDPOINT_URL_STS": person.world["sts_endpoint"],
        **{name: filled(value) for name, value in variables.items()},
    }
    verdicts = []
    for command in ([BREVET, "whoami", "--output", "json"], aws("get-caller-identity", "--output", "json")):
        done = subprocess.run([*command, *flags], env=environment, capture_output=True, text=True)
        arn = json.loads(done.stdout)["Arn"] if done.returncode == 0 else "refused"
        verdicts.append(re.sub(r"/[^/]*$", "", arn) if "assumed-role" in arn else arn)
    assert verdicts[0] == verdicts[1], (config, credentials, variables, flags, verdicts)


def test_files_are_read_as_botocore_reads_them(person, monkeypatch):
    for name in ["AWS_DEFAULT_REGION", "AWS_REGION", "AWS_PROFILE", "AWS_DEFAULT_PROFILE"]:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_CONFIG_FILE", str(person.home / ".aws/config"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/dev/null")
    for text in [
        "region = eu-west-1",
        "region=eu-west-1   ",
        "\tregion : eu-west-1",
        "REGION = eu-west-1",
        "region = eu-west-1\n# comment\n; comment\n\noutput = json",
        "output =\nregion = eu-west-1",
        "s3 =\n  a = b\n  region = eu-west-3\nregion = eu-west-1",
        "region =\n  eu-west-1",
        "region\n",
        "region = eu-west-1\nregion = eu-west-2",
        "[profile x]\nregion = eu-west-1",
        "  [default]",
    ]:
        person.files(f"[default]\n{text}\n", "")
        try:
            expected = botocore.session.Session(profile="default").get_config_variable("region")
        except botocore.exceptions.BotoCoreError:
            expected = "refused"
        done = subprocess.run(
            [BREVET, "whoami", "--output", "table"],
            env={**person.environment, **person.keys()},
            capture_output=True,
            text=True,
        )
        region = re.search(r"^Region +(\S+) \(region of", done.stdout, re.MULTILINE)
        got = region[1] if region else "refused" if done.returncode else None
        assert got == expected, (text, got, expected, done.stderr)


def test_a_shell_takes_the_role_and_nothing_stale_stays(person):
    out, status, error = person.shell(
        'eval "$("$BREVET" assume-role --role-arn Demo --format env)" && echo "status $?" && env | grep ^AWS_ | sort &&'
        f' "{sys.executable}" -m awscli sts get-caller-identity --query Arn --output text && "$BREVET" whoami --output table',
        AWS_PROFILE="alice",
        AWS_SECURITY_TOKEN="",
        AWS_ACCOUNT_ID="999999999999",
    )
    assert status == 0, error
    names = [line.split("=")[0] for line in out.splitlines() if line.startswith("AWS_")]
    assert names == [
        "AWS_ACCESS_KEY_ID",
        "AWS_CREDENTIAL_EXPIRATION",
        "AWS_DEFAULT_REGION",
        "AWS_ENDPOINT_URL_IAM",
        "AWS_ENDPOINT_URL_STS",
        "AWS_REGION",
        "AWS_SECRET_ACCESS_KEY",
        "AWS_SESSION_TOKEN",
    ]
    host = os.uname().nodename.split(".")[0]
    assert f"arn:aws:sts::{ACCOUNT}:assumed-role/Demo/pat@{host}\n" in out
    assert "AWS_ACCESS_KEY_ID in the environment" in out


@pytest.mark.parametrize(
    "arguments",
    [
        "--role-arn Nobody",
        "--role-arn Demo --duration-seconds 1h",
        "--rolearn Demo",
        "--role-arn Demo --endpoint http://127.0.0.1:1",
        "--role-arn Demo --profile nobody",
    ],
)
def test_a_shell_that_gets_nothing_is_left_with_nothing(person, arguments):
    alice = person.world["users"]["alice"]
    person.files("[default]\nregion = us-east-1\n", f"[default]\naws_access_key_id = {alice['access_key_id']}\naws_secret_access_key = {alice['secret_access_key']}\n")
    cli = f'"{sys.executable}" -m awscli sts get-caller-identity'
    out, _, error = person.shell(
        f'eval "$("$BREVET" assume-role {arguments} --format env)"; echo "status $?"; env | grep ^AWS_ | sort;'
        f' {cli}; echo "aws $?"; "$BREVET" whoami; echo "brevet $?"; unset AWS_PROFILE; {cli} --query Arn --output text',
        AWS_SESSION_TOKEN="",
        **person.keys(),
    )
    assert out.splitlines()[0] == "status 1", error
    left = [line.split("=")[0] for line in out.splitlines() if line.startswith("AWS_")]
    assert left == ["AWS_ENDPOINT_URL_STS", "AWS_PROFILE"], out
    assert "aws 255" in out and "brevet 1" in out, "not even with the default profile"
    assert "unset AWS_PROFILE" in error
    assert out.splitlines()[-1].endswith(":user/alice"), "the way back"
    strict, status, _ = person.shell(f'set -e; eval "$("$BREVET" assume-role {arguments} --format env)"; echo on', **person.keys())
    assert status == 1 and "on" not in strict


def test_a_shell_never_runs_what_a_broker_answers(person, tmp_path):
    spec = __import__("importlib.util").util.spec_from_file_location("example", EXAMPLE)
    example = __import__("importlib.util").util.module_from_spec(spec)
    spec.loader.exec_module(example)
    sts = example.grpc.protos("brevet/sts/v1/sts.proto")
    mark = tmp_path / "ran"
    answers = {}

    def assume_role(request, context):
        answer = sts.AssumeRoleResponse()
        values = {"access_key_id": "ASIA0123456789ABCDEF", "secret_access_key": "s" * 40, "session_token": "t" * 100}
        for name, value in {**values, **answers}.items():
            setattr(answer.credentials, name, value)
        answer.credentials.expiration.seconds = int(time.time()) + 3600
        answer.assumed_role_user.arn = "arn:aws:sts::111122223333:assumed-role/x/\x1b]0;title\x07"
        return answer

    server = grpc.server(futures.ThreadPoolExecutor(2))
    handler = grpc.unary_unary_rpc_method_handler(
        assume_role,
        request_deserializer=sts.AssumeRoleRequest.FromString,
        response_serializer=sts.AssumeRoleResponse.SerializeToString,
    )
    server.add_generic_rpc_handlers(
        (grpc.method_handlers_generic_handler("brevet.sts.v1.SecurityTokenService", {"AssumeRole": handler}),)
    )
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    keys = {**person.keys(), "AWS_ENDPOINT_URL_STS": f"http://127.0.0.1:{port}"}
    script = f'eval "$("$BREVET" assume-role --role-arn {ROLE}Demo --format env)"; echo "status $?"'
    assert person.shell(script, **keys)[0] == "status 0\n", "a sound answer is taken"
    for field in ("access_key_id", "secret_access_key", "session_token"):
        for hostile in (f"$(touch {mark})", f"'; touch {mark}; '", f"`touch {mark}`", f"x\ntouch {mark}", f'";touch {mark};"', "é"):
            answers.clear()
            answers[field] = hostile
            out, _, error = person.shell(script, **keys)
            assert out == "status 1\n" and "cannot be trusted" in error, (field, hostile, out, error)
            assert not mark.exists()
    answers.clear()
    shown = person.run("assume-role", "--role-arn", ROLE + "Demo", **keys)
    assert "\x1b" not in shown and json.loads(shown)["AssumedRoleUser"]["Arn"].endswith("\x1b]0;title\x07")
    server.stop(None)


def on_a_terminal(arguments, environment, answer, prompt):
    """What a program writes that has a terminal; what is typed when it asks."""
    pid, terminal = pty.fork()
    if pid == 0:
        os.execvpe(arguments[0], arguments, environment)
    seen, deadline, typed = b"", time.monotonic() + 60, False
    while time.monotonic() < deadline:
        if select.select([terminal], [], [], 0.1)[0]:
            try:
                piece = os.read(terminal, 4096)
            except OSError:
                break
            if not piece:
                break
            seen += piece
        if prompt and not typed and prompt.encode() in seen:
            os.write(terminal, answer().encode() + b"\n")
            typed = True
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    os.close(terminal)
    return seen.decode(), status


def test_a_code_is_asked_for_on_the_terminal(person):
    alice = person.world["users"]["alice"]
    serial, seed = alice["mfa_serial"], alice["mfa_seed"]
    early_in_a_step()
    steps = iter([0, 1, -1])
    arguments = [BREVET, "credential-process", "--role", "Guarded", "--serial-number", serial, "--no-cache"]
    # Standard output is read by a program: the question is on the terminal itself.
    script = ["sh", "-c", 'out=$("$@"); echo "status $?"; echo "${#out}"', "sh", *arguments]
    environment = {**person.environment, "AWS_PROFILE": "alice", "TERM": "dumb"}
    seen, status = on_a_terminal(script, environment, lambda: code(seed, next(steps)), f"Code of {serial}: ")
    assert status == 0 and "status 0" in seen and int(seen.split()[-1]) > 200, seen
    (person.home / ".aws/config").write_text(
        (person.home / ".aws/config").read_text()
        + f"[profile guarded]\nrole_arn = {ROLE}Guarded\nsource_profile = alice\nservices = local\nmfa_serial = {serial}\n"
    )
    whoami = [BREVET, "whoami", "--profile", "guarded"]
    seen, status = on_a_terminal(whoami, person.environment, lambda: code(seed, next(steps)), f"Code of {serial}: ")
    assert status == 0 and "assumed-role/Guarded/" in seen, seen
    assert "Access key" in seen, "a terminal gets a table"
    refused = person.run("assume-role", "--role-arn", "Guarded", AWS_PROFILE="alice", expect=1)
    assert "AccessDenied" in refused and "brevet explain " in refused


def test_no_color_is_honoured(person):
    for variables, coloured in [({}, True), ({"NO_COLOR": "1"}, False), ({"NO_COLOR": ""}, True)]:
        environment = {**person.environment, "TERM": "xterm", **variables}
        seen, _ = on_a_terminal([BREVET, "--help"], environment, None, None)
        assert ("\x1b[" in seen) == coloured, (variables, seen[:200])
        serve = ["sh", "-c", f'"{BREVET}" serve --dev --listen 127.0.0.1:0 >/dev/null & sleep 2; kill $!; wait']
        seen, _ = on_a_terminal(serve, environment, None, None)
        # The log repeats what strangers said, so it never has colours of any kind.
        assert "brevet listens" in seen and "\x1b[" not in seen, (variables, seen)


def test_a_profile_that_calls_brevet_does_not_call_itself(person):
    config = (person.home / ".aws/config").read_text()
    process = f"credential_process = {BREVET} credential-process --role {ROLE}Demo"
    (person.home / ".aws/config").write_text(config + f"[profile loop]\n{process}\nservices = local\n[profile good]\n{process} --profile alice\nservices = local\n")
    answer = json.loads(run(aws("get-caller-identity", "--profile", "good", "--region", "us-east-1"), person.environment))
    assert "/Demo/" in answer["Arn"]
    assert "/Demo/" in json.loads(person.run("whoami", "--profile", "good"))["Arn"]
    # AWS's CLI hands AWS_PROFILE on to what it runs.
    refused = run([BREVET, "whoami"], {**person.environment, "AWS_PROFILE": "loop"}, expect=1)
    assert "would never end" in refused, refused


@pytest.fixture(scope="module")
def trusting(tmp_path_factory):
    """A broker with a provider whose keys are declared, and how to make its tokens."""
    home = tmp_path_factory.mktemp("trusting")
    key = ec.generate_private_key(ec.SECP256R1())
    public = json.loads(jwt.algorithms.ECAlgorithm.to_jwk(key.public_key()))
    host = "ci.example.com"
    provider = f"arn:aws:iam::{ACCOUNT}:oidc-provider/{host}"
    directory = {
        "RoleDetailList": [
            {
                "RoleName": "CI",
                "RoleId": "AROACICICICICICICICI1",
                "Arn": ROLE + "CI",
                "AssumeRolePolicyDocument": {
                    "Version": "2012-10-17",
                    "Statement": [
                        {
                            "Effect": "Allow",
                            "Principal": {"Federated": provider},
                            "Action": "sts:AssumeRoleWithWebIdentity",
                            "Condition": {"StringEquals": {f"{host}:sub": "job-1"}},
                        }
                    ],
                },
            },
        ],
        "Brevet": {
            "OpenIDConnectProviders": [
                {
                    "Arn": provider,
                    "Url": f"https://{host}",
                    "ClientIDList": ["sts.amazonaws.com"],
                    "JsonWebKeySet": {"keys": [{**public, "kid": "1", "alg": "ES256", "use": "sig"}]},
                }
            ]
        },
    }
    (home / "directory.json").write_text(json.dumps(directory))
    world = home / "world.json"
    arguments = ["--listen", "127.0.0.1:0", "--world", str(world), "--directory", str(home / "directory.json")]
    process = subprocess.Popen([BREVET, "serve", "--dev", *arguments], stdout=subprocess.DEVNULL)
    deadline = time.monotonic() + 60
    while not world.exists():
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.01)

    def token(sub="job-1"):
        now = datetime.datetime.now(datetime.timezone.utc)
        claims = {"iss": f"https://{host}", "aud": "sts.amazonaws.com", "sub": sub, "iat": now, "exp": now + datetime.timedelta(minutes=5)}
        return jwt.encode(claims, key, algorithm="ES256", headers={"kid": "1"})

    yield json.loads(world.read_text())["sts_endpoint"], token
    process.terminate()
    assert process.wait(15) == 0


def test_a_token_of_a_provider_is_proof_enough(person, trusting):
    url, token = trusting
    file = person.home / "token.jwt"
    file.write_text(token() + "\n")
    call = ["--endpoint", url, "--role-arn", ROLE + "CI", "--web-identity-token-file"]
    shown = json.loads(person.run("assume-role", *call, str(file)))
    assert shown["SubjectFromWebIdentityToken"] == "job-1" and shown["AssumedRoleUser"]["Arn"].endswith("/CI/pat@" + os.uname().nodename.split(".")[0])
    assert {"Credentials", "Audience", "Provider", "PackedPolicySize"} <= set(shown)
    out, status, error = person.shell(f'"$BREVET" assume-role {" ".join(call)} - <{file} >/dev/null')
    assert status == 0, error
    by_cli = run(
        aws("assume-role-with-web-identity", "--endpoint-url", url, "--role-arn", ROLE + "CI", "--role-session-name", "by-cli", "--web-identity-token", token()),
        {**person.environment, "AWS_REGION": "us-east-1", "AWS_DEFAULT_REGION": "us-east-1"},
    )
    assert set(shown) == set(json.loads(by_cli)), "as AWS's CLI prints it"
    # As a pod has it: the variables alone. (botocore sends a final line feed along.)
    file.write_text(token())
    pod = {
        "AWS_ENDPOINT_URL_STS": url,
        "AWS_WEB_IDENTITY_TOKEN_FILE": str(file),
        "AWS_ROLE_ARN": ROLE + "CI",
        "AWS_ROLE_SESSION_NAME": "pod",
        "AWS_REGION": "us-east-1",
        "AWS_DEFAULT_REGION": "us-east-1",
    }
    (person.home / ".aws/config").unlink()
    (person.home / ".aws/credentials").unlink()
    ours = json.loads(person.run("whoami", **pod))
    assert ours == json.loads(run(aws("get-caller-identity"), {**person.environment, **pod}))
    assert ours["Arn"].endswith("assumed-role/CI/pod")
    file.write_text(token(sub="somebody-else"))
    refused = person.run("assume-role", *call, str(file), expect=1)
    assert refused.startswith("error: AccessDenied: ") and "request id: " in refused


def test_a_token_file_is_kept_fresh(person):
    file = person.home / "token"
    call = ["web-identity-token", "--audience", "vault", "--profile", "alice", "--duration-seconds", "60"]
    claims = jwt.decode(person.run(*call).strip(), options={"verify_signature": False})
    assert claims["aud"] == ["vault"] or claims["aud"] == "vault"
    person.run(*call, "--write", str(file), "--once", "--signing-algorithm", "es384")
    assert file.stat().st_mode & 0o777 == 0o600
    first = file.read_text()
    assert jwt.get_unverified_header(first)["alg"] == "ES384"
    file.unlink()
    process = subprocess.Popen([BREVET, *call, "--write", str(file)], env=person.environment, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 60
    while not file.exists():
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.01)
    assert process.poll() is None, "it goes on"
    process.terminate()
    assert process.wait(10) == 0 and "the token was written to the file" in process.stderr.read()
    assert not list(person.home.glob("token.new*")), "nothing is left beside it"
    refused = person.run(*call, "--write", str(person.home / "no/such/folder"), "--once", expect=1)
    assert "--write" in refused and "no/such/folder" in refused


def test_the_lines_of_the_demo_can_be_pasted_again(tmp_path):
    world = tmp_path / "world.json"
    arguments = ["--listen", "127.0.0.1:0", "--world", str(world)]
    process = subprocess.Popen([BREVET, "serve", "--dev", *arguments], stdout=subprocess.PIPE, text=True)
    lines = []
    for line in process.stdout:
        if line.startswith("Ctrl-C"):
            break
        if line.startswith("  sign-in"):
            continue
        if line.startswith("  ") and "://" not in line.split()[-1] or line.startswith("  aws") or line.startswith("  eval"):
            lines.append(line.strip().replace("aws ", f'"{sys.executable}" -m awscli ', 1) if line.startswith("  aws") else line.strip())
    assert len(lines) == 6, lines
    script = "set -e\n" + "\n".join(lines + ["export AWS_PROFILE=stale AWS_ENDPOINT_URL_STS=http://127.0.0.1:1"] + lines)
    home = tmp_path / "elsewhere"
    home.mkdir()
    environment = {"PATH": os.environ["PATH"], "HOME": str(home)}
    done = subprocess.run(["sh", "-c", script], env=environment, cwd=home, capture_output=True, text=True)
    process.terminate()
    process.wait(10)
    assert done.returncode == 0, done.stderr
    arns = re.findall(r'"Arn": "([^"]*)"', done.stdout)
    user, role = f"arn:aws:iam::{ACCOUNT}:user/alice", f"arn:aws:sts::{ACCOUNT}:assumed-role/Demo/demo"
    assert arns == [user, role, role] * 2, done.stdout


def test_completions_and_manual_pages(person, tmp_path):
    for shell in ("bash", "zsh", "fish"):
        script = tmp_path / shell
        script.write_text(person.run("completions", shell))
        assert "web-identity-token" in script.read_text()
    assert subprocess.run(["bash", "-n", str(tmp_path / "bash")]).returncode == 0
    assert person.run("man").startswith(".ie") or ".TH brevet" in person.run("man")
    pages = tmp_path / "pages"
    pages.mkdir()
    person.run("man", "--dir", str(pages))
    names = {page.name for page in pages.iterdir()}
    assert {"brevet.1", "brevet-assume-role.1", "brevet-sessions-revoke.1"} <= names
    version = json.loads(person.run("version", "--output", "json"))
    assert re.fullmatch(r"[0-9a-f]{12}|unknown", version["Commit"])
    assert re.fullmatch(r"\d{4}-\d\d-\d\d|unknown", version["CommitDate"])


def test_sessions_for_people_and_for_programs(person):
    environment = {"AWS_PROFILE": "alice"}
    person.run("assume-role", "--role-arn", "Demo", "--role-session-name", "shown", **environment)
    listed = json.loads(person.run("sessions", "list", "--max-items", "1000", **environment))["Sessions"]
    session = next(s for s in listed if s["Arn"].endswith("/shown"))
    table = person.run("sessions", "list", "--max-items", "1000", "--output", "table", **environment)
    head, *rows = table.splitlines()
    assert head.split() == ["SESSION", "WHO", "CAME", "FROM", "KEY", "UNTIL", "STATE"]
    assert any(session["SessionId"] in row and row.endswith("live") for row in rows)
    preview = ["sessions", "revoke", "--session-id", session["SessionId"]]
    for _ in range(2):
        tried = json.loads(person.run(*preview, "--dry-run", **environment))
        assert tried == {"DryRun": True, "Target": {"Exists": None, "SessionsOnRecord": 1, "More": False, "AccessKeyGoesOn": False}}
    revoked = json.loads(person.run(*preview, **environment))
    assert revoked["Target"]["SessionsOnRecord"] == 1 and revoked["SequenceNumber"] > 0
    assert json.loads(person.run(*preview, **environment))["Target"]["SessionsOnRecord"] == 0, "it had ended"
    listed = json.loads(person.run("sessions", "list", "--max-items", "1000", **environment))["Sessions"]
    assert session["SessionId"] not in [s["SessionId"] for s in listed]
    listed = json.loads(person.run("sessions", "list", "--include-revoked", "--max-items", "1000", **environment))["Sessions"]
    assert next(s for s in listed if s["SessionId"] == session["SessionId"])["Revoked"]
    key = person.world["users"]["bob"]["access_key_id"]
    done = subprocess.run(
        [BREVET, "sessions", "revoke", "--access-key-id", key, "--output", "table"],
        env={**person.environment, **environment},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0 and done.stdout.startswith("The revocation is change ")
    assert f"The access key {key} is still active and can still sign calls." in done.stderr
    assert f"brevet sessions revoke --access-key-id {key} --deactivate-access-key" in done.stderr
    assert '"Status" to "Inactive"' in done.stderr


def test_a_key_that_leaked_is_deactivated_by_whoever_says_so_on_a_terminal(person):
    key = person.world["users"]["bob"]["access_key_id"]
    arguments = [BREVET, "sessions", "revoke", "--access-key-id", key]
    environment = {**person.environment, "AWS_PROFILE": "alice", "TERM": "dumb"}
    for answer, expected in (("n", "To deactivate it:"), ("", "To deactivate it:"), ("yes", "is now inactive")):
        seen, status = on_a_terminal(arguments, environment, lambda: answer, "Deactivate it too? [y/N]")
        assert status == 0 and f"The access key {key} is" in seen and expected in seen, seen
    shown = json.loads(person.run("sessions", "revoke", "--access-key-id", key, AWS_PROFILE="alice"))
    assert shown["Target"]["AccessKeyGoesOn"] is False and shown["AccessKeyDeactivated"] is False
