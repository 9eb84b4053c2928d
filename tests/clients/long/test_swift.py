"""An unmodified OpenStack Swift asks Brevet whose an S3 request is, in the form of OpenStack Keystone."""

import getpass
import json
import os
import subprocess
import time

import pytest
from conftest import ROOT
from test_boto3 import role, sts
from test_mfa import iam
from test_radosgw import code
from test_relying import answers, free_ports, s3_client

BIN = ROOT / "target/clients/long/swift/bin"
STORAGE = """[DEFAULT]
devices = {home}/srv
mount_check = false
bind_ip = 127.0.0.1
bind_port = {port}
workers = 0
user = {user}
swift_dir = {home}

[pipeline:main]
pipeline = {kind}-server

[app:{kind}-server]
use = egg:swift#{kind}
"""
PROXY = """[DEFAULT]
bind_ip = 127.0.0.1
bind_port = {port}
workers = 0
user = {user}
swift_dir = {home}

[pipeline:main]
pipeline = catch_errors listing_formats bulk s3api s3token keystoneauth slo dlo proxy-server

[filter:catch_errors]
use = egg:swift#catch_errors
[filter:listing_formats]
use = egg:swift#listing_formats
[filter:bulk]
use = egg:swift#bulk
[filter:slo]
use = egg:swift#slo
[filter:dlo]
use = egg:swift#dlo
[filter:s3api]
use = egg:swift#s3api
[filter:s3token]
use = egg:swift#s3token
auth_uri = {brevet}/v3
auth_type = v3password
auth_url = {brevet}/v3
username = {key}
password = {secret}
user_domain_name = Default
project_name = {account}
project_domain_name = Default
# Each request is asked about, so that a revocation counts at once.
secret_cache_duration = 0
[filter:keystoneauth]
use = egg:swift#keystoneauth
operator_roles = brevet

[app:proxy-server]
use = egg:swift#proxy
account_autocreate = true
"""


@pytest.fixture
def swift(world, tmp_path):
    environment = {"PATH": f"{BIN}:{os.environ['PATH']}", "HOME": str(tmp_path)}
    own, running = world["users"]["alice"], []
    ports = dict(zip(("account", "container", "object", "proxy"), free_ports(4)))
    (tmp_path / "srv/d1").mkdir(parents=True)
    (tmp_path / "swift.conf").write_text("[swift-hash]\nswift_hash_path_suffix = tests\n[storage-policy:0]\nname = one\ndefault = yes\n")
    values = {"home": tmp_path, "user": getpass.getuser(), "brevet": world["sts_endpoint"], "key": own["access_key_id"], "secret": own["secret_access_key"], "account": world["account_id"]}
    try:
        for kind, port in ports.items():
            template = PROXY if kind == "proxy" else STORAGE
            (tmp_path / f"{kind}.conf").write_text(template.format(kind=kind, port=port, **values))
            if kind != "proxy":
                builder = str(tmp_path / f"{kind}.builder")
                for words in (("create", "4", "1", "1"), ("add", f"r1z1-127.0.0.1:{port}/d1", "1"), ("rebalance",)):
                    ran = subprocess.run([BIN / "swift-ring-builder", builder, *words], env=environment, capture_output=True, text=True)
                    assert ran.returncode == 0, ran.stdout + ran.stderr
            log = (tmp_path / f"{kind}.log").open("wb")
            running.append(subprocess.Popen([BIN / f"swift-{kind}-server", tmp_path / f"{kind}.conf", "-v"], env=environment, stdout=log, stderr=log))
        address = f"http://127.0.0.1:{ports['proxy']}"
        deadline = time.monotonic() + 120
        while not answers(address):
            assert time.monotonic() < deadline, (tmp_path / "proxy.log").read_text()[-4000:]
            time.sleep(0.2)
        yield address
    finally:
        for process in reversed(running):
            process.terminate()
        for process in running:
            process.wait(60)


def test_swift_lets_brevets_keys_in(world, swift):
    own = world["users"]["alice"]
    alice = s3_client(swift, own["access_key_id"], own["secret_access_key"])
    alice.create_bucket(Bucket="demo")
    alice.put_object(Bucket="demo", Key="a b", Body=b"hello")
    statement = {"Effect": "Allow", "Action": "brevet:UseObjectStore", "Resource": "*"}
    document = json.dumps({"Version": "2012-10-17", "Statement": [statement]})
    iam(world).put_role_policy(RoleName="Deploy", PolicyName="store", PolicyDocument=document)

    def assumed(**more):
        return sts(world).assume_role(RoleArn=role(world, "Deploy"), RoleSessionName="job", **more)["Credentials"]

    def client(made):
        return s3_client(swift, made["AccessKeyId"], made["SecretAccessKey"], made["SessionToken"])

    made = assumed()
    assert client(made).get_object(Bucket="demo", Key="a b")["Body"].read() == b"hello"
    client(made).put_object(Bucket="demo", Key="c", Body=b"world")
    assert {entry["Key"] for entry in alice.list_objects_v2(Bucket="demo")["Contents"]} == {"a b", "c"}
    limited = assumed(Policy=json.dumps({"Version": "2012-10-17", "Statement": [{**statement, "Action": "s3:*"}]}))
    bob = world["users"]["bob"]
    for refused in (client(limited), s3_client(swift, bob["access_key_id"], bob["secret_access_key"]), s3_client(swift, made["AccessKeyId"], "wrong" * 8, made["SessionToken"])):
        assert code(lambda: refused.get_object(Bucket="demo", Key="c")) in ("AccessDenied", "SignatureDoesNotMatch")
    environment = {"PATH": os.environ["PATH"], "AWS_ACCESS_KEY_ID": own["access_key_id"], "AWS_SECRET_ACCESS_KEY": own["secret_access_key"], "AWS_REGION": world["region"]}
    command = [world["brevet"], "sessions", "revoke", "--endpoint-url", world["sts_endpoint"], "--access-key-id", made["AccessKeyId"]]
    subprocess.run(command, env=environment, check=True, capture_output=True)
    assert code(lambda: client(made).get_object(Bucket="demo", Key="c")) in ("AccessDenied", "SignatureDoesNotMatch")
