"""Nodes of a cluster: an agent with a client certificate, or with a token of its own, and pods that ask it with theirs."""

import datetime
import json
import os
import signal
import time
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from statistics import median

import boto3
import botocore.session
import cluster
import pytest

CERTIFICATE = 'identity.certificate = "{0}/node.crt"\nidentity.private_key = "{0}/node.key"'
TOKEN = 'identity.web_identity_token_file = "{}"\nidentity.role_arn = "arn:aws:iam::111122223333:role/Nodes"'
PODS = '[pod_identity]\naddresses = ["127.0.0.1:0"]\ncluster = "prod"\n'
IMDS = '[imds]\naddress = "127.0.0.1:0"\nrole_arn = "arn:aws:iam::111122223333:role/App"\nrole_session_name = "node-a"\n'


@pytest.fixture(scope="module")
def broker(tmp_path_factory):
    broker = cluster.Broker(tmp_path_factory.mktemp("cluster"))
    yield broker
    broker.stop()


@pytest.fixture
def agent(broker, tmp_path):
    """Starts agents, and ends them with the test."""
    agents = []

    def start(identity, sections):
        agents.append(cluster.Agent(broker, tmp_path, identity.format(broker.home), sections))
        return agents[-1]

    yield start
    for one in agents:
        if one.process.poll() is None:
            one.stop()


def get(url, *, method="GET", **headers):
    """The status and the document of an answer. While there are no credentials yet, it is asked again: on a slow machine,
    the broker may take longer than the agent keeps a workload waiting."""
    headers = {name.replace("_", "-"): value for name, value in headers.items()}
    deadline = time.monotonic() + 60
    while True:
        try:
            answer = urllib.request.urlopen(urllib.request.Request(url, method=method, headers=headers), timeout=30)
        except urllib.error.HTTPError as error:
            answer = error
        body = answer.read().decode()
        if answer.status != 503 or time.monotonic() > deadline:
            break
        time.sleep(0.1)
    return answer.status, json.loads(body) if body.startswith("{") else body


def imds(agent):
    """What the instance metadata service has to say about its role."""
    at = agent.world["imds"]["endpoint"]
    token = get(f"{at}/latest/api/token", method="PUT", X_aws_ec2_metadata_token_ttl_seconds="60")[1]
    return get(f"{at}/latest/meta-data/iam/security-credentials/App", X_aws_ec2_metadata_token=token)


def who(broker, monkeypatch, **variables):
    """The ARN as which boto3 calls the broker, with credentials that it finds by itself."""
    for name in list(os.environ):
        if name.startswith("AWS_"):
            monkeypatch.delenv(name)
    common = {"AWS_CONFIG_FILE": "/dev/null", "AWS_SHARED_CREDENTIALS_FILE": "/dev/null", "AWS_METADATA_SERVICE_TIMEOUT": "20"}
    common |= {"AWS_REGION": "us-east-1", "AWS_DEFAULT_REGION": "us-east-1", "AWS_CA_BUNDLE": str(broker.ca_file)}
    for name, value in {**common, "AWS_ENDPOINT_URL_STS": broker.url, **variables}.items():
        monkeypatch.setenv(name, value)
    session = boto3.Session(botocore_session=botocore.session.Session())
    return session.client("sts").get_caller_identity()["Arn"]


def test_a_pod_gets_its_role_by_its_token(broker, agent, monkeypatch, tmp_path):
    node = agent(CERTIFICATE, PODS)
    token = cluster.private(tmp_path / "token", broker.issuer.token("payments:api", "worker-a"))
    uri = node.world["pod_identity"]["full_uri"]
    found = who(broker, monkeypatch, AWS_CONTAINER_CREDENTIALS_FULL_URI=uri, AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE=str(token))
    assert found.startswith("arn:aws:sts::111122223333:assumed-role/Pods/eks-prod-api-7d9f-"), found
    # Kubernetes replaces the token: the new one is as good, and the same session is handed out for the same token.
    first = get(uri, Authorization=token.read_text())
    assert first[0] == 200 and first == get(uri, Authorization=token.read_text())
    cluster.private(token, broker.issuer.token("payments:api", "worker-a", jti="2"))
    assert get(uri, Authorization=token.read_text())[0] == 200
    # The broker knows which pod has the session, and the agent's log has no secret.
    listed = json.loads(broker.administer("sessions", "list", "--role-arn", "Pods", "--output", "json"))["Sessions"]
    mine = [session for session in listed if session["AccessKeyId"] == first[1]["AccessKeyId"]]
    assert len(mine) == 1 and mine[0]["Workload"].startswith("pod 5f2a9c1e-") and mine[0]["MadeBy"] == "AssumeRoleForWorkload"
    node.stop()
    lines = (tmp_path / "agent-audit.jsonl").read_text()
    assert {json.loads(line)["workload"] for line in lines.splitlines()} == {"payments/api-7d9f"}
    for secret in (first[1]["SecretAccessKey"], first[1]["Token"], token.read_text()):
        assert secret not in lines and secret not in (tmp_path / "agent.log").read_text()


def test_a_token_of_another_pod_node_audience_or_issuer_is_worth_nothing(broker, agent):
    node = agent(CERTIFICATE, PODS)
    uri, issuer = node.world["pod_identity"]["full_uri"], broker.issuer
    good = issuer.token("payments:worker", "worker-a", pod="worker-1")
    assert get(uri, Authorization=good)[0] == 200
    head, claims, signature = good.split(".")
    swapped = ".".join([head, issuer.token("payments:api", "worker-a").split(".")[1], signature])
    for token, status in (
        (issuer.token("payments:api", "worker-b"), 403),
        (issuer.token("payments:other", "worker-a"), 403),
        (issuer.token("payments:api", "worker-a", audience="sts.amazonaws.com"), 403),
        (issuer.token("payments:api", "worker-a", audience="https://kubernetes.default.svc"), 403),
        (cluster.Issuer().token("payments:api", "worker-a"), 403),
        (swapped, 403),
        (issuer.token("payments:api", "worker-a", seconds=-5), 400),
        (issuer.token("payments:api", "worker-a", iss="https://other.example.com"), 403),
        (f"Bearer {good}", 400),
        (good + ".", 400),
        ("", 400),
    ):
        answer = get(uri, Authorization=token)
        assert answer[0] == status and set(answer[1]) == {"code", "message"}, (token, answer)
    assert get(uri)[0] == 400
    assert get(uri, Authorization=good, Host="rebound.example.com")[0] == 403
    assert get(uri, Authorization=good, X_Forwarded_For="10.0.0.1")[0] == 403
    assert get(uri, method="POST", Authorization=good)[0] == 405
    for path in ("/v1/credentials/", "/v1/credential", "/v1/credentials?x=1", "/v1//credentials", "/v1/../v1/credentials", "/"):
        status, _ = get(uri.removesuffix("/v1/credentials") + path, Authorization=good)
        assert status in (400, 404) or "?" in path and status == 200, (path, status)


def test_a_flood_of_forged_tokens_reaches_neither_the_broker_nor_other_pods(broker, agent):
    node = agent(CERTIFICATE, PODS)
    uri = node.world["pod_identity"]["full_uri"]
    good = broker.issuer.token("payments:api", "worker-a", pod="good-1")
    first = get(uri, Authorization=good)
    assert first[0] == 200
    before, stranger = len(broker.records("AssumeRoleForWorkload")), cluster.Issuer()
    forged = [stranger.token("payments:api", "worker-a", jti=str(n)) for n in range(120)]
    with ThreadPoolExecutor(16) as pool:
        statuses = list(pool.map(lambda token: get(uri, Authorization=token)[0], forged))
    assert set(statuses) <= {403, 429} and statuses.count(429) >= 100, statuses
    # From the same address, the pod whose session is held gets it.
    assert get(uri, Authorization=good) == first
    time.sleep(1)
    assert len(broker.records("AssumeRoleForWorkload")) - before <= 20


def test_an_agent_with_a_token_of_its_own(broker, agent, monkeypatch, tmp_path):
    """As kubelet projects it: a link to a folder that is replaced as a whole."""
    of_agent = lambda **more: broker.issuer.token("brevet:agent", "worker-a", pod="agent-x", audience="sts.amazonaws.com", **more)
    projected = tmp_path / "projected"

    def project(version, token):
        folder = projected / version
        folder.mkdir(parents=True)
        (folder / "token").write_text(token)
        (projected / "..new").symlink_to(version)
        os.replace(projected / "..new", projected / "..data")

    project("..1", of_agent())
    (projected / "token").symlink_to("..data/token")
    node = agent(TOKEN.format(projected / "token"), IMDS + PODS)
    at = node.world["imds"]["endpoint"]
    assert who(broker, monkeypatch, AWS_EC2_METADATA_SERVICE_ENDPOINT=at) == "arn:aws:sts::111122223333:assumed-role/App/node-a"
    uri = node.world["pod_identity"]["full_uri"]
    assert get(uri, Authorization=broker.issuer.token("payments:api", "worker-a"))[0] == 200
    assert get(uri, Authorization=broker.issuer.token("payments:api", "worker-b"))[0] == 403
    # A new token of the agent is taken without a restart.
    exchanged = len(broker.records("AssumeRoleWithWebIdentity"))
    project("..2", of_agent(jti="2"))
    assert get(uri, Authorization=broker.issuer.token("payments:api", "worker-a", jti="3"))[0] == 200
    assert len(broker.records("AssumeRoleWithWebIdentity")) == exchanged + 1


def test_a_trust_policy_checks_the_tags_of_a_workload_and_the_broker_knows_its_name(broker, agent, tmp_path):
    entry = '[[container.workload]]\nname = "{0}"\ntoken_file = "{0}"\nrole_arn = "{1}"\n{2}\n'
    tags = {"reporter": 'tags = { unit = "reporter.service" }', "other": 'tags = { unit = "other.service" }', "untagged": ""}
    entries = [entry.format(name, cluster.arn("role", "Reports"), line) for name, line in tags.items()]
    node = agent(CERTIFICATE, '[container]\naddress = "127.0.0.1:0"\n' + "".join(entries))
    at = node.world["ecs"]["full_uri"].removesuffix("reporter")
    answers = {name: get(at + name, Authorization=(tmp_path / name).read_text()) for name in tags}
    assert {name: status for name, (status, _) in answers.items()} == {"reporter": 200, "other": 403, "untagged": 403}
    assert answers["other"][1]["code"] == "AccessDenied"
    # Not the agent's own user, who would be the same for every container.
    def recorded(name):
        records = broker.records("AssumeRoleForWorkload")
        return {"type": "process", "name": name} in [record["requestParameters"]["workload"] for record in records]

    # A refusal is written within half a second.
    for name in tags:
        wait_until(lambda: recorded(name))
    listed = json.loads(broker.administer("sessions", "list", "--role-arn", "Reports", "--output", "json"))["Sessions"]
    assert [session["Workload"] for session in listed] == ["workload reporter"]


def test_a_restart_while_the_broker_is_away_and_a_revocation_afterwards(broker, agent, tmp_path):
    cluster.private(tmp_path / "cache.key", "bm9uZSBvZiB5b3VyIGJ1c2luZXNzIGF0IGFsbCEhISE=")
    cache = '[cache]\nfile = "sessions.sealed"\nkey_file = "cache.key"\n'
    node = agent(CERTIFICATE, IMDS + cache)
    status, before = imds(node)
    assert status == 200 and before["Code"] == "Success"
    sealed = tmp_path / "sessions.sealed"
    wait_until(sealed.exists)
    assert sealed.stat().st_mode & 0o777 == 0o600 and before["SecretAccessKey"].encode() not in sealed.read_bytes()
    node.stop()
    broker.process.send_signal(signal.SIGSTOP)
    try:
        node.start()
        assert imds(node)[1]["AccessKeyId"] == before["AccessKeyId"]
    finally:
        broker.process.send_signal(signal.SIGCONT)
    # What was kept is watched like everything else.
    broker.administer("sessions", "revoke", "--role-arn", "App")
    wait_until(lambda: imds(node)[1]["AccessKeyId"] != before["AccessKeyId"])
    # A file that was cut off, or that is another agent's, is not used.
    node.stop()
    whole = sealed.read_bytes()
    cluster.private(sealed, whole[:-1])
    node.start()
    assert imds(node)[1]["Code"] == "Success"
    assert "the agent ignores its session file" in (tmp_path / "agent.log").read_text()


def test_how_long_a_revoked_session_is_still_handed_out(broker, agent, capsys):
    node = agent(CERTIFICATE, IMDS)
    assert imds(node)[0] == 200
    metrics = f"{node.world['ops_endpoint']}/metrics"
    took = []
    for _ in range(5):
        wait_until(lambda: "brevet_agent_watch_up 1" in get(metrics)[1])
        before = imds(node)[1]["AccessKeyId"]
        broker.administer("sessions", "revoke", "--role-arn", "App")
        revoked = time.monotonic()
        wait_until(lambda: imds(node)[1].get("AccessKeyId") != before, pause=0.005)
        took.append(time.monotonic() - revoked)
    with capsys.disabled():
        print(f"\na revoked session was handed out for {median(took):.2f} s more, at most {max(took):.2f} s")
    assert max(took) < 2, took


def test_a_node_that_is_not_trusted_any_more_hands_nothing_out(broker, agent, monkeypatch):
    node = agent(CERTIFICATE, IMDS)
    status, first = imds(node)
    assert status == 200 and first["Code"] == "Success"
    wait_until(lambda: "brevet_agent_watch_up 1" in get(f"{node.world['ops_endpoint']}/metrics")[1])
    broker.declare(certificate="Inactive")
    try:
        # Nothing was revoked by its name, and nobody waits for the session's end.
        wait_until(lambda: imds(node)[1].get("Code") == "AssumeRoleUnauthorizedAccess")
    finally:
        broker.declare()
    wait_until(lambda: isinstance(imds(node)[1], dict) and imds(node)[1].get("Code") == "Success")


def wait_until(is_so, pause=0.05):
    deadline = time.monotonic() + 60
    while not is_so():
        assert time.monotonic() < deadline
        time.sleep(pause)
