"""An unmodified Ceph RGW asks Brevet whose an S3 request is, in the form of OpenStack Keystone, as
config/relying/ceph-rgw.conf says."""

import json
import os
import subprocess

import pytest
from botocore.exceptions import ClientError
from ceph import Ceph
from test_boto3 import role, session, sts
from test_mfa import iam
from test_relying import EXAMPLES, s3_client


@pytest.fixture
def rgw(world, tmp_path):
    own = world["users"]["alice"]
    (tmp_path / "secret").write_text(own["secret_access_key"])
    section = (EXAMPLES / "ceph-rgw.conf").read_text()
    for example, real in (("https://sts.example.com", world["sts_endpoint"]), ("AKIAREPLACEREPLACE01", own["access_key_id"]),
                          ("/etc/ceph/brevet.secret", str(tmp_path / "secret")), ("111122223333", world["account_id"])):
        assert example in section, example
        section = section.replace(example, real)
    ceph = Ceph(tmp_path, section)
    yield ceph.address
    ceph.stop()


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
