"""`brevet credential-process`, run by AWS's own tools and SDKs, by hand without an environment, and many at once."""

import json
import os
import stat
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta, timezone
from pathlib import Path

import boto3
import botocore.session
import pytest

JS = Path(__file__).parent / "js"
NEEDED = {"Version", "AccessKeyId", "SecretAccessKey", "SessionToken", "Expiration", "AccountId"}


@pytest.fixture
def asker(world, environment, tmp_path):
    """The command with all that it needs in its arguments, and a home of its own."""
    alice = world["users"]["alice"]
    home = tmp_path / "home"
    (home / ".aws").mkdir(parents=True)
    (home / ".aws/config").write_text("")
    keys = tmp_path / "keys"
    keys.write_text(f"[default]\naws_access_key_id = {alice['access_key_id']}\naws_secret_access_key = {alice['secret_access_key']}\n")
    keys.chmod(0o600)

    class Asker:
        command = [world["brevet"], "credential-process", "--endpoint", world["grpc_endpoint"], "--role", world["roles"]["Demo"]["arn"]]
        bare = {"PATH": environment["PATH"], "LANG": "C", "HOME": str(home), "AWS_SHARED_CREDENTIALS_FILE": str(keys)}
        cache = home / ".cache/brevet/credentials"

        def run(self, *more, expect=0, **variables):
            done = subprocess.run([*self.command, *more], env={**self.bare, **variables}, capture_output=True, text=True, timeout=60)
            assert done.returncode == expect, (done.stdout, done.stderr)
            if expect == 0:
                assert done.stderr == ""
                return json.loads(done.stdout)
            assert done.stdout == ""
            return done.stderr

        def profile(self, *more):
            """The environment of a tool whose only profile runs the command."""
            config = home / ".aws/tool"
            line = " ".join(["env", f"AWS_SHARED_CREDENTIALS_FILE={keys}", f"HOME={home}", *self.command, "--profile", "default", *more])
            config.write_text(f"[profile ours]\nregion = {world['region']}\ncredential_process = {line}\n")
            own = {name: value for name, value in environment.items() if "KEY" not in name}
            return {**own, "AWS_CONFIG_FILE": str(config), "AWS_PROFILE": "ours", "HOME": str(home)}

    Asker.home = home
    return Asker()


def sessions_issued(world):
    """How often the broker issued a session of the role."""
    lines = [json.loads(line) for line in world["audit"].read_text().splitlines()]
    return sum(1 for line in lines if line.get("eventName") == "AssumeRole" and not line.get("errorCode"))


def test_the_document_is_as_aws_describes_it(world, asker):
    answer = asker.run()
    assert set(answer) == NEEDED and answer["Version"] == 1 and answer["AccountId"] == world["account_id"]
    end = datetime.strptime(answer["Expiration"], "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=timezone.utc)
    assert end - datetime.now(timezone.utc) > timedelta(minutes=5)
    identity = boto3.client(
        "sts",
        endpoint_url=world["sts_endpoint"],
        region_name=world["region"],
        aws_access_key_id=answer["AccessKeyId"],
        aws_secret_access_key=answer["SecretAccessKey"],
        aws_session_token=answer["SessionToken"],
    ).get_caller_identity()
    assert "assumed-role/Demo/" in identity["Arn"]


def test_twenty_runs_at_once_make_one_call(world, asker):
    asker.run()  # for the default session
    before = sessions_issued(world)
    more = ("--role-session-name", "twenty")
    with ThreadPoolExecutor(20) as pool:
        answers = list(pool.map(lambda _: asker.run(*more), range(20)))
    assert len({answer["AccessKeyId"] for answer in answers}) == 1
    assert sessions_issued(world) == before + 1
    assert asker.run(*more) == answers[0]
    assert asker.run()["AccessKeyId"] != answers[0]["AccessKeyId"], "another session has its own place"
    for entry in asker.cache.iterdir():
        assert stat.S_IMODE(entry.stat().st_mode) == 0o600, entry
    assert stat.S_IMODE(asker.cache.stat().st_mode) == 0o700


def test_a_cache_that_cannot_be_written_is_no_error(asker, tmp_path):
    (tmp_path / "file").write_text("")
    one, two = (asker.run("--cache", str(tmp_path / "file/cache")) for _ in range(2))
    assert one["AccessKeyId"] != two["AccessKeyId"]
    one, two = (asker.run("--no-cache") for _ in range(2))
    assert one["AccessKeyId"] != two["AccessKeyId"]
    assert asker.run(HOME="/nonexistent")["AccessKeyId"]


def test_another_identity_does_not_get_what_is_cached(world, asker):
    bob = next(user for name, user in world["users"].items() if name != "alice")
    first = asker.run()
    keys = {"AWS_ACCESS_KEY_ID": bob["access_key_id"], "AWS_SECRET_ACCESS_KEY": bob["secret_access_key"]}
    done = subprocess.run(asker.command, env={**asker.bare, **keys}, capture_output=True, text=True)
    assert done.returncode != 0 or json.loads(done.stdout)["AccessKeyId"] != first["AccessKeyId"]


def test_a_refusal_has_words_and_nothing_else(world, asker):
    refused = asker.run("--role-session-name", "a b", expect=1)
    assert refused.startswith("error: ") and "roleSessionName" in refused
    keys = {"AWS_ACCESS_KEY_ID": world["users"]["alice"]["access_key_id"], "AWS_SECRET_ACCESS_KEY": "wrong"}
    refused = asker.run("--role-session-name", "wrong", expect=1, **keys)
    assert "SignatureDoesNotMatch" in refused
    refused = asker.run("--role-session-name", "none", expect=1, AWS_SHARED_CREDENTIALS_FILE="/dev/null")
    assert "no credentials to sign with" in refused
    command = [*asker.command[:-4], "--endpoint", "http://127.0.0.1:1", *asker.command[-2:]]
    done = subprocess.run(command, env=asker.bare, capture_output=True, text=True)
    assert done.returncode == 1 and done.stdout == "" and "cannot reach" in done.stderr


def test_it_runs_without_an_environment(world, asker):
    """A token is proof enough, so the arguments can say everything; here the broker refuses the token."""
    token = asker.home / "token"
    token.write_text("e30.e30.e30")
    done = subprocess.run([*asker.command, "--web-identity-token-file", str(token)], env={}, capture_output=True, text=True)
    assert done.returncode == 1 and done.stdout == "" and "InvalidIdentityToken" in done.stderr, done.stderr
    done = subprocess.run(asker.command, env={}, capture_output=True, text=True)
    assert done.returncode == 1 and "no credentials to sign with" in done.stderr


def test_boto3(world, asker, monkeypatch):
    for name, value in asker.profile().items():
        monkeypatch.setenv(name, value)
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    session = boto3.Session(botocore_session=botocore.session.Session())
    assert session.get_credentials().method == "custom-process"
    assert session.get_credentials().get_frozen_credentials().access_key.startswith("ASIA")
    assert "assumed-role/Demo/" in session.client("sts").get_caller_identity()["Arn"]


def test_the_cli(asker):
    aws = [sys.executable, "-m", "awscli", "sts", "get-caller-identity"]
    done = subprocess.run(aws, env=asker.profile("--role-session-name", "cli"), capture_output=True, text=True, timeout=60)
    assert json.loads(done.stdout)["Arn"].endswith("/Demo/cli"), done.stderr
    done = subprocess.run(aws, env=asker.profile("--role-session-name", "'a b'"), capture_output=True, text=True, timeout=60)
    assert done.returncode != 0 and "roleSessionName" in done.stderr, "the tool shows the reason"


def test_the_sdk_for_javascript(asker):
    for provider in ("process", "default"):
        environment = asker.profile("--role-session-name", "javascript")
        done = subprocess.run(["node", str(JS / "who.mjs"), provider], env=environment, capture_output=True, text=True, timeout=60)
        assert done.stdout.strip().endswith("/Demo/javascript"), (provider, done.stdout, done.stderr)
    assert os.listdir(asker.cache)
