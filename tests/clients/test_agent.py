"""The agent with boto3 and the AWS CLI as they are: credentials by the instance metadata service."""

import datetime
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import boto3
import pytest
from botocore.config import Config


@pytest.fixture(params=["127.0.0.1:0", "[::1]:0"], ids=["ipv4", "ipv6"])
def agent(request, world, environment, tmp_path):
    """An agent that hands out the demo role."""
    path = tmp_path / "agent.json"
    audit = tmp_path / "agent-audit.jsonl"
    arguments = ["--listen", request.param, "--world", str(path), "--audit", str(audit)]
    process = subprocess.Popen([world["brevet"], "agent", "--dev", *arguments], env=environment, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 60
    while not path.exists():
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.01)
    assert path.stat().st_mode & 0o777 == 0o600
    yield json.loads(path.read_text()) | {"audit": audit}
    process.terminate()
    assert process.wait(15) == 0


@pytest.fixture
def workload(world, environment, agent):
    """The environment of a program beside the agent: it has no keys."""
    kept = {name: value for name, value in environment.items() if not name.startswith("AWS_ACCESS") and not name.startswith("AWS_SECRET")}
    # botocore waits for one second, and asks once: more on a slow machine.
    return {**kept, "AWS_EC2_METADATA_SERVICE_ENDPOINT": agent["imds"]["endpoint"], "AWS_METADATA_SERVICE_TIMEOUT": "20"}


def test_the_aws_cli_gets_the_role(workload):
    done = subprocess.run(
        [Path(sys.executable).parent / "aws", "sts", "get-caller-identity"], env=workload, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    assert ":assumed-role/Demo/i-" in json.loads(done.stdout)["Arn"]


def test_boto3_gets_the_role_and_keeps_it_over_refreshes(world, workload, agent, monkeypatch):
    for name in list(os.environ):
        if name.startswith("AWS_"):
            monkeypatch.delenv(name)
    for name, value in workload.items():
        monkeypatch.setenv(name, value)
    session = boto3.Session()
    sts = session.client("sts", config=Config(retries={"max_attempts": 1}))
    assert ":assumed-role/Demo/" in sts.get_caller_identity()["Arn"]
    credentials = session.get_credentials()
    assert credentials.method == "iam-role"
    left = credentials._expiry_time - datetime.datetime.now(datetime.timezone.utc)
    assert left > datetime.timedelta(minutes=20), "botocore would take a later expiry for the real one"

    # Each time that botocore's clock says that the credentials end soon, it asks the agent, and goes on.
    refreshed = []
    get = credentials._refresh_using
    monkeypatch.setattr(credentials, "_refresh_using", lambda: refreshed.append(1) or get())
    now = credentials._time_fetcher
    for hours in range(1, 6):
        monkeypatch.setattr(credentials, "_time_fetcher", lambda: now() + datetime.timedelta(minutes=55))
        credentials.get_frozen_credentials()
        monkeypatch.setattr(credentials, "_time_fetcher", now)
        assert len(refreshed) >= hours
        assert ":assumed-role/Demo/" in sts.get_caller_identity()["Arn"]
    lines = [json.loads(line) for line in agent["audit"].read_text().splitlines()]
    assert len(lines) >= 5
    assert {line["outcome"] for line in lines} == {"ok"}
    secrets = credentials.get_frozen_credentials()
    assert secrets.secret_key not in agent["audit"].read_text()
    assert secrets.token not in agent["audit"].read_text()
