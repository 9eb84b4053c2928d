"""The AWS SDK for Rust beside the agent: it finds credentials by itself, in each of the three ways."""

import subprocess

import pytest
from conftest import ROOT
from test_agent_sdks import WAYS, agent, environment  # noqa: F401

FOLDER = ROOT / "tests/clients/long/rust"
TARGET = ROOT / "target/clients/long/rust"


@pytest.fixture(scope="module")
def program():
    build = ["cargo", "build", "--locked", "--quiet", "--manifest-path", str(FOLDER / "Cargo.toml"), "--target-dir", str(TARGET)]
    subprocess.run(build, check=True)
    return TARGET / "debug/agent-client"


@pytest.mark.parametrize("way", WAYS)
def test_the_sdk_finds_the_agent(world, agent, program, way):  # noqa: F811
    done = subprocess.run([program], env=environment(world, agent, way), capture_output=True, text=True, timeout=120)
    assert done.stdout.strip().endswith(f":assumed-role/Demo/{way}"), (done.stdout, done.stderr)
