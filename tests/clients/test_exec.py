"""`brevet exec`: what the program gets, by the container endpoint and in the environment, and how it ends."""

import json
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest

JS = Path(__file__).parent / "js"
CLI = [sys.executable, "-m", "awscli", "sts", "get-caller-identity"]
BOTO = [sys.executable, "-c", "import boto3; print(boto3.client('sts').get_caller_identity()['Arn'])"]


def heed_signals():
    """A shell that runs the tests in the background lets them ignore SIGINT, and programs inherit that."""
    for number in (signal.SIGINT, signal.SIGQUIT, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)


@pytest.fixture
def brevet(world, environment, tmp_path):
    """Runs `brevet exec` with alice's key, from a home whose default profile is somebody else."""
    home = tmp_path / "home"
    (home / ".aws").mkdir(parents=True)
    (home / ".aws/credentials").write_text("[default]\naws_access_key_id = AKIAOFSOMEBODYELSE00\naws_secret_access_key = x\n")
    (home / ".aws/credentials").chmod(0o600)
    own = {name: value for name, value in environment.items() if not name.endswith("_FILE")}
    own |= {"HOME": str(home), "BREVET_ENDPOINT": world["grpc_endpoint"]}

    def run(*arguments, role="Demo", expect=0, start=False, **more):
        command = [world["brevet"], "exec", "--role", world["roles"][role]["arn"], "--role-session-name", "exec", *arguments]
        if start:
            pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
            return subprocess.Popen(command, env={**own, **more}, preexec_fn=heed_signals, **pipes)
        done = subprocess.run(command, env={**own, **more}, capture_output=True, text=True, timeout=120)
        assert done.returncode == expect, (done.returncode, done.stdout, done.stderr)
        return done

    return run


def environment_of(done):
    return dict(line.split("=", 1) for line in done.stdout.splitlines() if "=" in line)


def test_a_program_gets_credentials_from_an_endpoint_of_its_own(brevet):
    inherited = {
        "AWS_PROFILE": "default",
        "AWS_ROLE_ARN": "arn:aws:iam::111122223333:role/Other",
        "AWS_WEB_IDENTITY_TOKEN_FILE": "/nowhere",
        "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI": "/other",
        "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE": "/nowhere",
    }
    # The profile is that of the caller: alice's key in the environment is stronger.
    seen = environment_of(brevet("--", "env", **inherited))
    assert seen["AWS_CONTAINER_CREDENTIALS_FULL_URI"].startswith("http://127.0.0.1:")
    assert len(seen["AWS_CONTAINER_AUTHORIZATION_TOKEN"]) == 64
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", *inherited):
        assert name not in seen, name
    assert seen["AWS_REGION"] == "us-east-1" and "AWS_ENDPOINT_URL_STS" in seen
    assert seen["AWS_EC2_METADATA_DISABLED"] == "true", "no SDK falls to the role of this machine"
    # No SDK falls to the default profile of the home: what the files say is not read.
    assert seen["AWS_SHARED_CREDENTIALS_FILE"] == seen["AWS_CONFIG_FILE"] == "/dev/null"


@pytest.mark.parametrize("form", [[], ["--env"]], ids=["endpoint", "env"])
def test_unmodified_sdks_act_as_the_role(brevet, form):
    assert brevet(*form, "--", *BOTO).stdout.strip().endswith(":assumed-role/Demo/exec")
    assert json.loads(brevet(*form, "--", *CLI).stdout)["Arn"].endswith(":assumed-role/Demo/exec")
    assert brevet(*form, "--", "node", str(JS / "who.mjs"), "default").stdout.strip().endswith(":assumed-role/Demo/exec")
    if not form:
        for provider in ("http", "container"):
            done = brevet("--", "node", str(JS / "who.mjs"), provider)
            assert done.stdout.strip().endswith(":assumed-role/Demo/exec"), (provider, done.stdout)


def test_fixed_credentials_are_in_the_environment(brevet):
    seen = environment_of(brevet("--env", "--", "env"))
    assert seen["AWS_ACCESS_KEY_ID"].startswith("ASIA") and seen["AWS_SESSION_TOKEN"] and seen["AWS_CREDENTIAL_EXPIRATION"]
    assert not [name for name in seen if "CONTAINER" in name or "PROFILE" in name]


def test_the_endpoint_answers_its_program_only(brevet):
    script = """
import json, os, urllib.error, urllib.request
uri, token = os.environ["AWS_CONTAINER_CREDENTIALS_FULL_URI"], os.environ["AWS_CONTAINER_AUTHORIZATION_TOKEN"]
def ask(uri=uri, method="GET", **headers):
    try:
        answer = urllib.request.urlopen(urllib.request.Request(uri, method=method, headers=headers))
    except urllib.error.HTTPError as error:
        answer = error
    return [answer.status, answer.headers["content-type"], json.loads(answer.read())]
touched = token[:-1] + ("0" if token[-1] != "0" else "1")
print(json.dumps([
    ask(Authorization=token), ask(), ask(Authorization=touched), ask(uri + "x", Authorization=token),
    ask(method="POST", Authorization=token), ask(Authorization=token, Host="rebound.example.com"),
    ask(Authorization=token, **{"X-Forwarded-For": "10.0.0.1"}),
]))
"""
    good, *bad = json.loads(brevet("--", sys.executable, "-c", script).stdout)
    assert good[:2] == [200, "application/json"]
    assert {"AccessKeyId", "SecretAccessKey", "Token", "Expiration", "AccountId", "RoleArn"} <= set(good[2])
    assert [status for status, _, _ in bad] == [401, 403, 404, 405, 403, 403]
    for _, kind, document in bad:
        assert kind == "application/json" and set(document) == {"code", "message"}
        assert good[2]["SecretAccessKey"] not in json.dumps(document)


def test_a_policy_narrows_the_session(brevet, tmp_path):
    policy = tmp_path / "narrow.json"
    statement = {"Effect": "Deny", "Action": "sts:AssumeRole", "Resource": "*"}
    policy.write_text(json.dumps({"Version": "2012-10-17", "Statement": [statement]}))
    assume = "import boto3; boto3.client('sts').assume_role(RoleArn='{}', RoleSessionName='again')"
    role = "arn:aws:iam::111122223333:role/Demo"
    program = [sys.executable, "-c", assume.format(role)]
    brevet("--", *program)
    done = brevet("--policy", str(policy), "--", *program, expect=1)
    assert "AccessDenied" in done.stderr


@pytest.mark.parametrize("form", [[], ["--env"]], ids=["endpoint", "env"])
def test_the_exit_status_is_the_programs(brevet, form):
    assert brevet(*form, "--", "true").stderr == "", "quiet on success"
    for code in (1, 7, 255):
        brevet(*form, "--", "sh", "-c", f"exit {code}", expect=code)
    expected = 128 + signal.SIGTERM if not form else -signal.SIGTERM
    brevet(*form, "--", "sh", "-c", "kill -TERM $$", expect=expected)
    assert "no-such-program" in brevet(*form, "--", "no-such-program", expect=127).stderr
    assert "/etc/passwd" in brevet(*form, "--", "/etc/passwd", expect=126).stderr


def test_nothing_is_run_without_credentials(brevet, tmp_path):
    ran = tmp_path / "ran"
    for form in ([], ["--env"]):
        done = brevet(*form, "--external-id", "wrong", "--", "touch", str(ran), role="Partner", expect=1)
        assert "AccessDenied" in done.stderr and not ran.exists()


@pytest.mark.parametrize("form", [[], ["--env"]], ids=["endpoint", "env"])
@pytest.mark.parametrize("name", ["TERM", "INT", "HUP", "USR1"])
def test_signals_are_passed_on(brevet, form, name):
    script = f"trap 'echo got {name}; exit 3' {name}; echo ready; while :; do sleep 0.1; done"
    process = brevet(*form, "--", "sh", "-c", script, start=True)
    assert process.stdout.readline() == "ready\n"
    process.send_signal(getattr(signal, f"SIG{name}"))
    out, _ = process.communicate(timeout=60)
    assert out == f"got {name}\n" and process.returncode == 3


def test_an_ignored_signal_stays_ignored(brevet, world):
    """As `nohup` has it: the program ignores it too."""
    script = "echo ready; sleep 0.5; echo done"
    process = subprocess.Popen(
        ["sh", "-c", "trap '' HUP; exec \"$@\"", "sh", world["brevet"], "exec", "--role", world["roles"]["Demo"]["arn"], "--", "sh", "-c", script],
        env={**os.environ, **keys(world), "BREVET_ENDPOINT": world["grpc_endpoint"]},
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout.readline() == "ready\n"
    process.send_signal(signal.SIGHUP)
    out, _ = process.communicate(timeout=60)
    assert out == "done\n" and process.returncode == 0


def keys(world):
    alice = world["users"]["alice"]
    return {"AWS_ACCESS_KEY_ID": alice["access_key_id"], "AWS_SECRET_ACCESS_KEY": alice["secret_access_key"]}
