"""An unmodified Ceph RGW asks Brevet whose an S3 request is, in the form of OpenStack Keystone.

Its programs are taken from CEPH_ROOT if that is set (a folder into which Debian's packages were unpacked).
"""

import json
import os
import subprocess
import time
import uuid
from pathlib import Path

import pytest
from botocore.exceptions import ClientError
from test_boto3 import role, session, sts
from test_mfa import iam
from test_relying import answers, free_ports, s3_client, started

ROOT = Path(os.environ.get("CEPH_ROOT", "/"))
LIB = ROOT / "usr/lib/x86_64-linux-gnu"

CONF = """[global]
fsid = {fsid}
mon host = [v2:127.0.0.1:{mon}/0]
ms bind msgr1 = false
auth cluster required = none
auth service required = none
auth client required = none
osd objectstore = memstore
memstore device bytes = 1073741824
osd pool default size = 1
osd pool default min size = 1
osd pool default pg num = 4
osd crush chooseleaf type = 0
mon allow pool size one = true
osd class dir = {lib}/rados-classes
erasure code dir = {lib}/ceph/erasure-code
plugin dir = {lib}/ceph
run dir = {dir}
admin socket = {dir}/$name.asok
log file = {dir}/$name.log
mon cluster log file = {dir}/cluster.log
pid file = {dir}/$name.pid
mon data = {dir}/mon
osd data = {dir}/osd
mon data avail crit = 1
mon data avail warn = 1
public addr = 127.0.0.1
cluster addr = 127.0.0.1
keyring = {dir}/keyring

[client.rgw]
rgw frontends = beast endpoint=127.0.0.1:{rgw}
rgw s3 auth use keystone = true
rgw keystone url = {brevet}
rgw keystone api version = 3
rgw keystone admin user = {key}
rgw keystone admin password path = {dir}/secret
rgw keystone admin domain = Default
rgw keystone admin project = {account}
rgw keystone accepted roles = brevet
rgw thread pool size = 16
"""


@pytest.fixture
def rgw(world, tmp_path):
    environment = {"PATH": f"{ROOT}/usr/bin:{os.environ['PATH']}", "HOME": str(tmp_path)}
    if str(ROOT) != "/":
        libraries = [LIB, ROOT / "lib/x86_64-linux-gnu", LIB / "ceph"]
        environment["LD_LIBRARY_PATH"] = ":".join(map(str, libraries))
        environment["PYTHONPATH"] = str(ROOT / "usr/lib/python3/dist-packages")
    own = world["users"]["alice"]
    mon, port = free_ports(2)
    (tmp_path / "secret").write_text(own["secret_access_key"])
    for name in ("mon", "osd"):
        (tmp_path / name).mkdir()
    fsid = str(uuid.uuid4())
    conf = tmp_path / "ceph.conf"
    conf.write_text(CONF.format(fsid=fsid, mon=mon, rgw=port, lib=LIB, dir=tmp_path, brevet=world["sts_endpoint"],
                                key=own["access_key_id"], account=world["account_id"]))
    processes = []

    def run(*command):
        ran = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)
        assert ran.returncode == 0, (command, ran.stdout, ran.stderr)
        return ran.stdout

    def serve(*command):
        log = (tmp_path / f"{command[0]}.out").open("wb")
        processes.append(subprocess.Popen([*command, "-c", str(conf), "-f"], env=environment, stdout=log, stderr=log))

    def ceph(*command):
        return run("/usr/bin/python3", f"{ROOT}/usr/bin/ceph", "-c", str(conf), "--connect-timeout", "60", *command)

    try:
        monmap = str(tmp_path / "monmap")
        run("monmaptool", "--create", "--fsid", fsid, "--addv", "a", f"[v2:127.0.0.1:{mon}]", monmap)
        run("ceph-mon", "--mkfs", "-i", "a", "--monmap", monmap, "-c", str(conf))
        serve("ceph-mon", "-i", "a")
        osd = str(uuid.uuid4())
        ceph("osd", "create", osd)
        run("ceph-osd", "--mkfs", "-i", "0", "--osd-uuid", osd, "-c", str(conf))
        serve("ceph-osd", "-i", "0")
        deadline = time.monotonic() + 120
        while json.loads(ceph("osd", "stat", "-f", "json"))["num_up_osds"] != 1:
            assert time.monotonic() < deadline
            time.sleep(1)
        address = f"http://127.0.0.1:{port}"
        # Its own defaults of these two come before the configuration.
        plain = ["--auth-client-required", "none", "--ms-mon-client-mode", "crc"]
        run("ceph-authtool", "--create-keyring", str(tmp_path / "keyring"), "--gen-key", "-n", "client.rgw")
        command = ["radosgw", "-n", "client.rgw", "-c", str(conf), "-f", *plain]
        processes.append(started(command, tmp_path, lambda: answers(address), seconds=240, env=environment))
        yield address
    finally:
        for process in reversed(processes):
            process.kill()
            process.wait(60)


def code(call):
    with pytest.raises(ClientError) as refused:
        call()
    return refused.value.response["Error"]["Code"]


def test_rgw_lets_brevets_keys_in(world, rgw):
    own = world["users"]["alice"]
    alice = s3_client(rgw, own["access_key_id"], own["secret_access_key"])
    alice.create_bucket(Bucket="demo")
    alice.put_object(Bucket="demo", Key="a b", Body=b"hello")
    # A role whose sessions may use the store, which gets the access key without the session token.
    statement = {"Effect": "Allow", "Action": "brevet:UseObjectStore", "Resource": "*"}
    document = json.dumps({"Version": "2012-10-17", "Statement": [statement]})
    iam(world).put_role_policy(RoleName="Deploy", PolicyName="store", PolicyDocument=document)

    def assumed(**more):
        return sts(world).assume_role(RoleArn=role(world, "Deploy"), RoleSessionName="job", **more)["Credentials"]

    def client(made):
        return s3_client(rgw, made["AccessKeyId"], made["SecretAccessKey"], made["SessionToken"])

    made = assumed()
    assert client(made).get_object(Bucket="demo", Key="a b")["Body"].read() == b"hello"
    client(made).put_object(Bucket="demo", Key="c", Body=b"world")
    assert {entry["Key"] for entry in alice.list_objects_v2(Bucket="demo")["Contents"]} == {"a b", "c"}
    # RGW has one code for all refusals: a session policy without the permission, a user without it, a wrong secret, an ended session.
    only = json.dumps({"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "s3:*", "Resource": "*"}]})
    limited = assumed(Policy=only)
    assert code(lambda: client(limited).get_object(Bucket="demo", Key="c")) == "SignatureDoesNotMatch"
    bob = world["users"]["bob"]
    bobs = s3_client(rgw, bob["access_key_id"], bob["secret_access_key"])
    assert code(lambda: bobs.get_object(Bucket="demo", Key="c")) == "SignatureDoesNotMatch"
    wrong = s3_client(rgw, made["AccessKeyId"], "wrong" * 8, made["SessionToken"])
    assert code(lambda: wrong.get_object(Bucket="demo", Key="c")) == "SignatureDoesNotMatch"
    environment = {"PATH": os.environ["PATH"], "AWS_ACCESS_KEY_ID": own["access_key_id"],
                   "AWS_SECRET_ACCESS_KEY": own["secret_access_key"], "AWS_REGION": world["region"]}
    command = [world["brevet"], "sessions", "revoke", "--endpoint-url", world["sts_endpoint"], "--access-key-id", made["AccessKeyId"]]
    subprocess.run(command, env=environment, check=True, capture_output=True)
    assert code(lambda: client(made).get_object(Bucket="demo", Key="c")) == "SignatureDoesNotMatch"
    assert session(world, assumed()).get_caller_identity()["Account"] == world["account_id"]
