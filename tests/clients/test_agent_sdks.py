"""SDKs beside the agent, unmodified: each finds credentials by itself, in each of the three ways, and calls the broker.

`matrix/install` puts Go and JavaScript here. boto3 and the AWS CLI are in the tests of each way.
"""

import os
import subprocess
import sys
import urllib.request
from pathlib import Path

import agents
import pytest

HERE = Path(__file__).parent
INSTALLED = HERE.parents[1] / "target/clients"
SDKS = {
    "Go 2": [str(INSTALLED / "go/agent")],
    "JavaScript 2": ["node", str(INSTALLED / "javascript/agent2.mjs")],
    "JavaScript 3": ["node", str(HERE / "js/who.mjs"), "default"],
}
WAYS = ["imds", "container", "process"]
BOTO3 = "import boto3; print(boto3.client('sts').get_caller_identity()['Arn'])"
# These ask the instance metadata service after a refusal, whatever its form is. The how-tos say how to prevent it.
LOOKS_FURTHER = [("JavaScript 2", "container"), ("JavaScript 2", "process"), ("JavaScript 3", "process")]
PYTHON = {"boto3": [sys.executable, "-c", BOTO3], "AWS CLI": [sys.executable, "-m", "awscli", "sts", "get-caller-identity"]}


@pytest.fixture(scope="module")
def agent(world, tmp_path_factory):
    folder = tmp_path_factory.mktemp("agent")
    role = world["roles"]["Demo"]["arn"]
    sections = f'[imds]\naddress = "127.0.0.1:0"\nrole_arn = "{role}"\nrole_session_name = "imds"\n'
    sections += f'[container]\naddress = "127.0.0.1:0"\n[[container.workload]]\nname = "container"\ntoken_file = "token"\nrole_arn = "{role}"\n'
    sections += f'[unix_socket]\npath = "socket"\n[[unix_socket.program]]\nname = "process"\nuid = {os.getuid()}\nrole_arn = "{role}"\n'
    process, offer = agents.start(world, folder, sections)
    yield offer | {"folder": folder}
    agents.stop(process)


@pytest.fixture(scope="module")
def refused(world, agent, tmp_path_factory):
    """An agent whose only role is one that the broker does not give it."""
    folder = tmp_path_factory.mktemp("refused")
    role = world["roles"]["Demo"]["arn"].replace("role/Demo", "role/NoSuchRole")
    sections = f'[imds]\naddress = "127.0.0.1:0"\nrole_arn = "{role}"\nrole_session_name = "imds"\n'
    sections += f'[container]\naddress = "127.0.0.1:0"\n[[container.workload]]\nname = "container"\ntoken_file = "token"\nrole_arn = "{role}"\n'
    sections += f'[unix_socket]\npath = "socket"\n[[unix_socket.program]]\nname = "process"\nuid = {os.getuid()}\nrole_arn = "{role}"\n'
    process, offer = agents.start(world, folder, sections)
    yield offer | {"folder": folder}
    agents.stop(process)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("sdk", SDKS | PYTHON)
def test_an_sdk_that_is_refused_does_not_take_another_identity(world, agent, refused, sdk, way):
    """Another identity is where the SDK looks last: at the instance metadata service."""
    if sdk in SDKS:
        there(sdk)
    variables = environment(world, refused, way)
    if way != "imds":
        variables["AWS_EC2_METADATA_SERVICE_ENDPOINT"] = agent["imds"]["endpoint"]
        if (sdk, way) not in LOOKS_FURTHER:
            variables.pop("AWS_EC2_METADATA_DISABLED")
    before = denied(refused)
    done = subprocess.run((SDKS | PYTHON)[sdk], env=variables, capture_output=True, text=True, timeout=120)
    assert denied(refused) > before, (done.stdout, done.stderr)
    assert "assumed-role" not in done.stdout, done.stdout


def denied(agent):
    """How often the agent has passed on that the broker refuses."""
    text = urllib.request.urlopen(f"{agent['ops_endpoint']}/metrics", timeout=30).read().decode()
    return sum(int(line.split()[-1]) for line in text.splitlines() if 'outcome="denied"' in line)


def there(sdk):
    if not Path(SDKS[sdk][-1] if sdk == "Go 2" else SDKS[sdk][1]).exists():
        # What Debian, PyPI and npm do not have at the moment is named by the installer, and left out.
        pytest.skip(f"the SDK for {sdk} is not installed: tests/clients/matrix/install")


def environment(world, agent, way):
    """The environment of a program that has no keys, and finds the agent in one way."""
    config = agent["folder"] / "config"
    command = " ".join(agent["credential_process"]["argv"])
    config.write_text(f"[profile agent]\nregion = {world['region']}\ncredential_process = {command}\n")
    kept = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
    common = {
        "AWS_SHARED_CREDENTIALS_FILE": "/dev/null",
        "AWS_SDK_LOAD_CONFIG": "1",
        "AWS_REGION": world["region"],
        "AWS_ENDPOINT_URL_STS": world["sts_endpoint"],
    }
    of_way = {
        "imds": {"AWS_CONFIG_FILE": "/dev/null", "AWS_EC2_METADATA_SERVICE_ENDPOINT": agent["imds"]["endpoint"]},
        "container": {
            "AWS_CONFIG_FILE": "/dev/null",
            "AWS_EC2_METADATA_DISABLED": "true",
            "AWS_CONTAINER_CREDENTIALS_FULL_URI": agent["ecs"]["full_uri"],
            "AWS_CONTAINER_AUTHORIZATION_TOKEN": agent["ecs"]["token"],
        },
        "process": {"AWS_CONFIG_FILE": str(config), "AWS_PROFILE": "agent", "AWS_EC2_METADATA_DISABLED": "true"},
    }
    return {**kept, **common, **of_way[way]}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("sdk", SDKS)
def test_an_sdk_finds_the_agent(world, agent, sdk, way):
    there(sdk)
    # It waits for the instance metadata service for a second, which is short on a slow machine: asked before, the agent
    # has the session in memory.
    for _ in range(3):
        done = subprocess.run(SDKS[sdk], env=environment(world, agent, way), capture_output=True, text=True, timeout=120)
        if done.stdout.strip().endswith(f":assumed-role/Demo/{way}"):
            return
    raise AssertionError((done.stdout, done.stderr))
