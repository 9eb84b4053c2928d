"""A demo broker for clients that we did not write."""

import json
import os
import subprocess
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
BREVET = os.environ.get("BREVET", str(ROOT / "target/debug/brevet"))


def may_skip(reason):
    """Fails where the machine lacks what a test needs: a test that passes without running shows nothing."""
    if os.environ.get("BREVET_MAY_SKIP") == "1":
        pytest.skip(reason)
    pytest.fail(f"{reason}. With BREVET_MAY_SKIP=1 such tests are skipped.")


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    home = tmp_path_factory.mktemp("broker")
    path = home / "world.json"
    arguments = ["--listen", "127.0.0.1:0", "--world", str(path), "--audit", str(home / "audit.jsonl")]
    process = subprocess.Popen([BREVET, "serve", "--dev", *arguments], stdout=subprocess.DEVNULL)
    deadline = time.monotonic() + 60
    while not path.exists():
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.01)
    world = json.loads(path.read_text())
    world["audit"] = home / "audit.jsonl"
    world["brevet"] = BREVET
    yield world
    process.terminate()
    assert process.wait(60) == 0
    text = world["audit"].read_text()
    for user in world["users"].values():
        assert user["secret_access_key"] not in text


@pytest.fixture
def environment(world):
    """The demo user's keys as a shell would have them, and nothing of the machine's own."""
    alice = world["users"]["alice"]
    kept = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
    return {
        **kept,
        "AWS_REGION": world["region"],
        "AWS_DEFAULT_REGION": world["region"],
        "AWS_ENDPOINT_URL_STS": world["sts_endpoint"],
        "AWS_ACCESS_KEY_ID": alice["access_key_id"],
        "AWS_SECRET_ACCESS_KEY": alice["secret_access_key"],
        "AWS_CONFIG_FILE": "/dev/null",
        "AWS_SHARED_CREDENTIALS_FILE": "/dev/null",
    }
