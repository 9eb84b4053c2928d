"""The agent's container endpoint in the form of Amazon ECS, asked by unmodified clients."""

import json
import os
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path

import agents
import boto3
import botocore.session
import pytest
from conftest import may_skip

HERE = Path(__file__).parent
JS = HERE / "js"


@pytest.fixture(scope="module")
def agent(world, tmp_path_factory):
    folder = tmp_path_factory.mktemp("agent")
    role = world["roles"]["Demo"]["arn"]
    workloads = "".join(
        f'[[container.workload]]\nname = "{name}"\ntoken_file = "{name}.token"\nrole_arn = "{role}"\n' for name in ("web", "mailer")
    )
    process, offer = agents.start(world, folder, f'[container]\naddress = "127.0.0.1:0"\n{workloads}')
    offer["folder"] = folder
    yield offer
    log = agents.stop(process)
    secrets = [(folder / f"{name}.token").read_text() for name in ("web", "mailer")]
    secrets.append(world["users"]["alice"]["secret_access_key"])
    audit = (folder / "agent-audit.jsonl").read_text()
    for secret in secrets:
        assert secret not in log and secret not in audit


@pytest.fixture
def container(world, agent):
    """The environment of a container: no keys, and where to ask."""
    kept = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
    return {
        **kept,
        "AWS_CONFIG_FILE": "/dev/null",
        "AWS_SHARED_CREDENTIALS_FILE": "/dev/null",
        "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_REGION": world["region"],
        "AWS_DEFAULT_REGION": world["region"],
        "AWS_ENDPOINT_URL_STS": world["sts_endpoint"],
        "AWS_CONTAINER_CREDENTIALS_FULL_URI": agent["ecs"]["full_uri"],
        "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE": str(agent["folder"] / "web.token"),
    }


def ask(uri, token=None, method="GET", **headers):
    headers = {name.replace("_", "-"): value for name, value in headers.items()}
    if token is not None:
        headers["Authorization"] = token
    try:
        answer = urllib.request.urlopen(urllib.request.Request(uri, method=method, headers=headers), timeout=30)
    except urllib.error.HTTPError as error:
        answer = error
    body = answer.read()
    assert "json" in answer.headers["content-type"]
    return answer.status, json.loads(body) if body else {}


def test_the_answer_is_as_sdks_read_it(world, agent):
    status, document = ask(**{"uri": agent["ecs"]["full_uri"], "token": agent["ecs"]["token"]})
    assert status == 200 and document["AccessKeyId"].startswith("ASIA")
    assert set(document) == {"AccessKeyId", "SecretAccessKey", "Token", "Expiration", "AccountId", "RoleArn"}
    assert document["AccountId"] == world["account_id"] and document["RoleArn"] == world["roles"]["Demo"]["arn"]
    again = ask(agent["ecs"]["full_uri"], agent["ecs"]["token"])[1]
    assert again == document, "it is handed out from memory"


def test_a_workload_gets_nothing_of_another(agent):
    web = agent["ecs"]["full_uri"]
    mailer = web.replace("/web", "/mailer")
    tokens = {name: (agent["folder"] / f"{name}.token").read_text() for name in ("web", "mailer")}
    keys = {ask(uri, tokens[name])[1]["AccessKeyId"] for uri, name in ((web, "web"), (mailer, "mailer"))}
    assert len(keys) == 2
    assert ask(mailer, tokens["web"])[0] == ask(web, tokens["mailer"])[0] == 403
    token = tokens["web"]
    for touched in (token[:-1], token + "0", "Bearer " + token, token.upper(), "0" + token[1:], token[:-1] + "x"):
        status, document = ask(web, touched)
        assert status == 403 or touched == token, touched
        assert set(document) <= {"code", "message"} or touched == token
    for status, document in (
        ask(web),
        ask(web, ""),
        ask(web.replace("/web", "/other"), token),
        ask(web.rsplit("/", 1)[0] + "/", token),
        ask(web + "/", token),
        ask(web, token, method="POST"),
        ask(web, token, method="PUT"),
        ask(web, token, Host="rebound.example.com"),
        ask(web, token, X_Forwarded_For="10.0.0.1"),
        ask(web, token, Origin="http://evil.example"),
    ):
        assert 400 <= status < 500 and set(document) == {"code", "message"}, (status, document)


def test_the_audit_log_names_the_workload(agent):
    ask(agent["ecs"]["full_uri"], agent["ecs"]["token"])
    lines = [json.loads(line) for line in (agent["folder"] / "agent-audit.jsonl").read_text().splitlines()]
    of_web = [line for line in lines if line["workload"] == "web"]
    assert of_web and {line["listener"] for line in of_web} == {"container"} and of_web[0]["outcome"] == "ok"


def test_boto3(container, monkeypatch):
    for name in list(os.environ):
        if name.startswith("AWS_"):
            monkeypatch.delenv(name)
    for name, value in container.items():
        monkeypatch.setenv(name, value)
    session = boto3.Session(botocore_session=botocore.session.Session())
    assert session.get_credentials().method == "container-role"
    assert session.client("sts").get_caller_identity()["Arn"].endswith(":assumed-role/Demo/web")


def test_the_cli(container):
    aws = [sys.executable, "-m", "awscli", "sts", "get-caller-identity"]
    done = subprocess.run(aws, env=container, capture_output=True, text=True, timeout=60)
    assert json.loads(done.stdout)["Arn"].endswith(":assumed-role/Demo/web"), done.stderr
    token = {"AWS_CONTAINER_AUTHORIZATION_TOKEN": "0" * 64, "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE": ""}
    wrong = {name: value for name, value in {**container, **token}.items() if value}
    done = subprocess.run(aws, env=wrong, capture_output=True, text=True, timeout=60)
    assert done.returncode != 0 and "403" in done.stderr, "no other identity is tried"


def test_the_sdk_for_javascript(agent, container):
    own = {name: value for name, value in container.items() if name != "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE"}
    by_value = {**own, "AWS_CONTAINER_AUTHORIZATION_TOKEN": agent["ecs"]["token"]}
    for provider, environment in (("default", container), ("http", container), ("http", by_value), ("container", by_value)):
        done = subprocess.run(["node", str(JS / "who.mjs"), provider], env=environment, capture_output=True, text=True, timeout=60)
        assert done.stdout.strip().endswith(":assumed-role/Demo/web"), (provider, done.stdout, done.stderr)


def test_a_replaced_token_counts_and_the_old_one_does_not(agent):
    uri = agent["ecs"]["full_uri"].replace("/web", "/mailer")
    file = agent["folder"] / "mailer.token"
    old, new = file.read_text(), "n" * 64
    file.write_text(new)
    for _ in range(600):
        if ask(uri, new)[0] == 200:
            break
    assert ask(uri, new)[0] == 200 and ask(uri, old)[0] == 403
    file.write_text(old)


def test_a_relative_uri_is_asked_for_at_amazons_address(world, tmp_path):
    """In a network of its own, in which the address is on loopback as in a container host."""
    inside = ["unshare", "--net", "--", sys.executable, str(HERE / "relative_uri.py"), str(tmp_path)]
    probe = subprocess.run(["unshare", "--net", "ip", "link"], capture_output=True, text=True)
    if probe.returncode != 0:
        may_skip(f"a network of its own needs root and iproute2: {probe.stderr}")
    done = subprocess.run(inside, env={**os.environ, "BREVET": world["brevet"]}, capture_output=True, text=True, timeout=180)
    assert done.returncode == 0 and done.stdout.strip().endswith(":assumed-role/Demo/web"), done.stderr
