"""nginx in front of moto, Envoy in front of SeaweedFS, boto3 as the client, and a broker as the judge.
`long/test_object_stores.py` has all proxies, stores and clients."""

import subprocess
import sys
import time

import boto3
import object_stores as stores
import pytest
import requests
from botocore.exceptions import ClientError

KEYS = ["plain", "a b", "a+b", "100%", "p%2Fq", "ü/x", "q?x", "h#x", "a\\b", "(x)!*'~", "eq=a&b"]


@pytest.fixture(scope="module", params=["nginx", "envoy"])
def setup(request, tmp_path_factory):
    programs = stores.Programs(tmp_path_factory.mktemp("stores"))
    try:
        # moto knows buckets below its own name, and SeaweedFS below a name that it is told.
        kind, name, more = {"nginx": (stores.Moto, "localhost", ()), "envoy": (stores.SeaweedFS, "store.localhost", ("-s3.domainName=store.localhost",))}[request.param]
        store = kind(programs, programs.home, *more)
        virtual = stores.Beside(store, "virtual", stores.VIRTUAL, style="virtual-host", authority=f"{name}:{store.port}")
        broker = stores.Broker(programs, programs.home, [store, virtual, stores.Refusing()], stores.directory())
        programs.proxy = stores.PROXIES[request.param]
        endpoint = programs.proxy(programs, store.ready(), broker)
        for bucket in store.buckets + virtual.buckets:
            store.direct().create_bucket(Bucket=bucket)
        yield programs, store, broker, endpoint, store.buckets[0]
    finally:
        programs.stop()


def through(setup, role, session="job", **more):
    programs, _, broker, endpoint, _ = setup
    key, token = broker.assume(role, session)
    return stores.client(endpoint, key, token, verify=str(programs.home / "ca.crt"), **more)


def test_the_operations_are_those_of_the_botocore_that_is_installed():
    made = subprocess.run([sys.executable, stores.ROOT / "src/s3/operations/generate.py"], capture_output=True, text=True, check=True)
    assert made.stdout == (stores.ROOT / "src/s3/operations/table.txt").read_text()


def refusal(call):
    with pytest.raises(ClientError) as caught:
        call()
    return caught.value.response["Error"]


def test_what_is_stored_is_what_was_sent(setup):
    _, store, _, _, bucket = setup
    s3, direct = through(setup, "Home"), store.direct()
    keys = [name for name in KEYS if store.keeps_slashes or "\\" not in name]
    for at, name in enumerate(keys):
        key, body = f"home/{name}", bytes([at]) * (1_000 + at)
        s3.put_object(Bucket=bucket, Key=key, Body=body, Metadata={"note": "two  blanks"})
        assert direct.get_object(Bucket=bucket, Key=key)["Body"].read() == body, key
        assert s3.get_object(Bucket=bucket, Key=key)["Body"].read() == body, key
    assert s3.get_object(Bucket=bucket, Key="home/a b", Range="bytes=0-9")["Body"].read() == bytes([1]) * 10
    listed = s3.list_objects_v2(Bucket=bucket, Prefix="home/")["Contents"]
    assert sorted(o["Key"] for o in listed) == sorted(f"home/{name}" for name in keys)
    s3.copy_object(Bucket=bucket, Key="home/copy", CopySource={"Bucket": bucket, "Key": "home/a+b"})
    assert direct.get_object(Bucket=bucket, Key="home/copy")["Body"].read() == bytes([2]) * 1_002
    s3.delete_object(Bucket=bucket, Key="home/copy")
    assert "home/copy" not in [o["Key"] for o in direct.list_objects_v2(Bucket=bucket)["Contents"]]


def test_many_parts_and_presigned_urls(setup):
    programs, store, _, _, bucket = setup
    s3, verify = through(setup, "Home"), str(programs.home / "ca.crt")
    body = bytes(range(256)) * 24_576  # 6 MiB
    upload = s3.create_multipart_upload(Bucket=bucket, Key="home/large")["UploadId"]
    parts = []
    for number, part in enumerate((body[: 5 << 20], body[5 << 20 :]), 1):
        done = s3.upload_part(Bucket=bucket, Key="home/large", UploadId=upload, PartNumber=number, Body=part)
        parts.append({"PartNumber": number, "ETag": done["ETag"]})
    s3.complete_multipart_upload(Bucket=bucket, Key="home/large", UploadId=upload, MultipartUpload={"Parts": parts})
    assert store.direct().get_object(Bucket=bucket, Key="home/large")["Body"].read() == body
    put = s3.generate_presigned_url("put_object", Params={"Bucket": bucket, "Key": "home/by url"})
    assert requests.put(put, data=b"by url", verify=verify, timeout=30).status_code == 200
    get = s3.generate_presigned_url("get_object", Params={"Bucket": bucket, "Key": "home/by url"})
    assert requests.get(get, verify=verify, timeout=30).content == b"by url"
    elsewhere = s3.generate_presigned_url("get_object", Params={"Bucket": bucket, "Key": "elsewhere"})
    refused = requests.get(elsewhere, verify=verify, timeout=30)
    assert refused.status_code == 403 and b"<Code>AccessDenied</Code>" in refused.content


def test_a_bucket_in_the_host_is_called_by_its_host(setup):
    programs, store, broker, endpoint, _ = setup
    key, token = broker.assume("Home")
    called = endpoint.replace(store.host, stores.VIRTUAL)
    s3 = stores.client(called, key, token, verify=str(programs.home / "ca.crt"), style="virtual")
    for name in ("home/x", "home/a b", "home/ü"):
        s3.put_object(Bucket="virtual-data", Key=name, Body=name.encode())
        assert store.direct().get_object(Bucket="virtual-data", Key=name)["Body"].read() == name.encode()
        assert s3.get_object(Bucket="virtual-data", Key=name)["Body"].read() == name.encode()
    assert len(s3.list_objects_v2(Bucket="virtual-data", Prefix="home/")["Contents"]) == 3
    assert refusal(lambda: s3.get_object(Bucket="virtual-data", Key="elsewhere/x"))["Code"] == "AccessDenied"
    assert refusal(lambda: s3.get_object(Bucket="virtual-other", Key="home/x"))["Code"] == "AccessDenied"


def test_a_refusal_of_the_store_itself_is_not_passed_on(setup):
    programs, _, broker, _, _ = setup
    store = broker.stores["refusing"]
    endpoint = programs.proxy(programs, store, broker)
    stores.what_a_refusal_of_the_store_becomes(endpoint, store, *broker.assume("Home"), str(programs.home / "ca.crt"))


def test_elsewhere_is_refused_with_a_reason(setup):
    _, store, broker, _, bucket = setup
    s3 = through(setup, "Home")
    store.direct().put_object(Bucket=bucket, Key="elsewhere/x", Body=b"x")
    for call in (
        lambda: s3.get_object(Bucket=bucket, Key="elsewhere/x"),
        lambda: s3.put_object(Bucket=bucket, Key="elsewhere/x", Body=b"y"),
        lambda: s3.list_objects_v2(Bucket=bucket),
        lambda: s3.copy_object(Bucket=bucket, Key="home/x", CopySource={"Bucket": bucket, "Key": "elsewhere/x"}),
        lambda: s3.list_buckets(),
    ):
        assert refusal(call)["Code"] == "AccessDenied"
    assert store.direct().get_object(Bucket=bucket, Key="elsewhere/x")["Body"].read() == b"x"
    message = refusal(lambda: s3.get_object(Bucket=bucket, Key="elsewhere/x"))["Message"]
    assert "s3:GetObject" in message and "elsewhere/x" in message
    encoded = message.split("message: ")[1]
    told = broker.run("explain", "--endpoint", broker.endpoint, encoded, environment={**broker.administrator, "AWS_REGION": stores.REGION})
    assert "s3:GetObject" in told and "elsewhere/x" in told
    # Of another account, only that account's policy could let them in.
    everything = through(setup, "Everything")
    assert refusal(lambda: everything.list_objects_v2(Bucket=store.buckets[1]))["Code"] == "AccessDenied"
    assert refusal(lambda: everything.list_objects_v2(Bucket="not-listed"))["Code"] == "AccessDenied"


def test_a_revoked_session_is_refused_within_two_seconds(setup):
    _, _, broker, _, bucket = setup
    s3 = through(setup, "Home", "revoked")
    s3.put_object(Bucket=bucket, Key="home/r", Body=b"r")
    arn = f"arn:aws:iam::{stores.ACCOUNT}:role/Home"
    broker.run("sessions", "revoke", "--role-arn", arn, "--endpoint", broker.endpoint, environment={**broker.administrator, "AWS_REGION": stores.REGION})
    revoked = time.monotonic()
    while True:
        try:
            s3.get_object(Bucket=bucket, Key="home/r")
        except ClientError as error:
            assert error.response["Error"]["Code"] == "InvalidToken"
            break
        assert time.monotonic() - revoked < 2, "still served after two seconds"
    # A session that begins afterwards is served.
    assert through(setup, "Home").get_object(Bucket=bucket, Key="home/r")["Body"].read() == b"r"


def test_nobody_asks_but_the_proxies(setup):
    programs, store, broker, _, bucket = setup
    url, verify = f"https://localhost:{broker.s3}/s3/authorize", str(programs.home / "ca.crt")
    head = {"X-Original-Method": "GET", "X-Original-Uri": f"/{bucket}/home/r", "X-Original-Host": store.host,
            "X-Forwarded-For": "192.0.2.1", "X-Forwarded-Proto": "https"}
    for more in ({}, {"X-Brevet-Proxy-Secret": "x" * 40}, {"X-Brevet-Proxy-Secret": ""}):
        answer = requests.get(url, headers={**head, **more}, verify=verify, timeout=30)
        assert answer.status_code == 403 and "Only the operator's own proxies" in answer.text
    asked = requests.get(url, headers={**head, "X-Brevet-Proxy-Secret": stores.SECRET}, verify=verify, timeout=30)
    assert asked.status_code == 403 and "<Code>AccessDenied</Code>" in asked.text, "a request without a signature"
    both = {**head, "X-Forwarded-Uri": f"/{bucket}/home/s", "X-Brevet-Proxy-Secret": stores.SECRET}
    assert "remove the other three" in requests.get(url, headers=both, verify=verify, timeout=30).text


def test_the_stores_key_is_nowhere(setup):
    programs, _, broker, _, _ = setup
    texts = {**programs.logs(), "audit": (broker.home / "audit.jsonl").read_text()}
    for name, text in texts.items():
        if not name.startswith(("moto", "seaweedfs")):
            assert stores.STORE_KEY[1] not in text and stores.STORE_KEY[0] not in text, name
            assert "Signature=" not in text, f"a signature in {name}"
            assert stores.SECRET not in text, name
