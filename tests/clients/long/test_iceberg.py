"""Iceberg tables by unmodified pyiceberg, whose files are in an object store behind a proxy: with a session of the
broker, and with a bearer token only, for which the broker signs each request."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import requests

sys.path.insert(0, str(Path(__file__).parents[1]))
import object_stores as stores  # noqa: E402

PYTHON = stores.ROOT / "target/clients/long/iceberg/bin/python"
TABLES = Path(__file__).parent / "iceberg/tables.py"
IO = {"fsspec": "pyiceberg.io.fsspec.FsspecFileIO", "pyarrow": "pyiceberg.io.pyarrow.PyArrowFileIO"}
READ = {"sum": 489_600, "rows": 1_000, "text": "row 7, ü", "files": 2, "existed": True, "exists": False}


class Rclone:
    """rclone as a store of S3: it refuses headers of Amazon's own that are not signed, and knows no trailers."""

    name, host, takes_trailers, keeps_slashes, remote_signing = "rclone", "rclone.example.com", False, False, True

    def __init__(self, programs, home):
        self.port, self.buckets = stores.free_port(), ["data-rclone", "other-rclone"]
        (home / "rclone").mkdir()
        key = ",".join(stores.STORE_KEY)
        programs.start("rclone", ["rclone", "serve", "s3", "--auth-key", key, "--addr", f"127.0.0.1:{self.port}", home / "rclone"], environment={"RCLONE_CONFIG": "/dev/null"})

    def ready(self):
        stores.until(lambda: stores.answers(self.port))
        return self

    def direct(self):
        return stores.client(f"http://127.0.0.1:{self.port}", stores.STORE_KEY, request_checksum_calculation="when_required")


class Itself(stores.Moto):
    """moto, for clients that call it themselves. It checks no signature; rclone does."""

    remote_signing = True


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    programs = stores.Programs(tmp_path_factory.mktemp("stores"))
    try:
        weed, rclone, moto = all_stores = [kind(programs, programs.home) for kind in (stores.SeaweedFS, Rclone, Itself)]
        broker = stores.Broker(programs, programs.home, all_stores, stores.directory())
        for store in all_stores:
            direct = store.ready().direct()
            for bucket in store.buckets:
                direct.create_bucket(Bucket=bucket)
            direct.put_object(Bucket=store.buckets[0], Key="elsewhere/x", Body=b"secret")
        yield programs, broker, weed, rclone, moto
    finally:
        programs.stop()


@pytest.fixture(scope="module")
def endpoints(world):
    programs, broker, weed, *_ = world
    return {proxy: start(programs, weed, broker) for proxy, start in stores.PROXIES.items()}


def tables(world, store, endpoint, folder, deletes=True, **more):
    home, bucket = world[0].home, store.buckets[0]
    properties = {"warehouse": f"s3://{bucket}/home/{folder}", "s3.endpoint": endpoint, "s3.region": stores.REGION, **more}
    kept = {"PATH": os.environ["PATH"], "HOME": str(home), "AWS_CA_BUNDLE": str(home / "ca.crt"), "SSL_CERT_FILE": str(home / "ca.crt"),
            "AWS_EC2_METADATA_DISABLED": "true", "DELETES": "yes" if deletes else "no", "PROPERTIES": json.dumps(properties), "ELSEWHERE": f"s3://{bucket}/elsewhere/x"}
    done = subprocess.run([PYTHON, TABLES], env=kept, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-20_000:]
    read = json.loads(done.stdout.splitlines()[-1])
    assert read.pop("elsewhere") in ("PermissionError", "OSError", "SignError"), "read what it may not"
    assert read == {**READ, "exists": not deletes}
    stored = store.direct().list_objects_v2(Bucket=bucket, Prefix=f"home/{folder}/")["Contents"]
    assert len(stored) > 8, "the table is not in this store"


def with_session(broker):
    key, token = broker.assume("Home", "tables")
    return {"s3.access-key-id": key[0], "s3.secret-access-key": key[1], "s3.session-token": token}


@pytest.mark.parametrize("proxy", stores.PROXIES)
@pytest.mark.parametrize("kind", IO)
def test_a_table_with_a_session(world, endpoints, proxy, kind):
    if kind == "pyarrow" and proxy not in stores.SAYS_LENGTH:
        pytest.skip("pyarrow signs Content-Length")
    # s3fs deletes by DeleteObjects, whose names only Envoy sends along.
    tables(world, world[2], endpoints[proxy], f"{proxy}-{kind}", kind == "pyarrow" or proxy == "envoy", **{"py-io-impl": IO[kind], **with_session(world[1])})


def bearer(broker):
    """A token for a session of the role Home, by the OAuth endpoint."""
    key, token = broker.assume("Home", "bearer")
    form = {"grant_type": "client_credentials", "client_id": key[0], "client_secret": key[1], "session_token": token, "scope": "catalog"}
    answer = requests.post(f"{broker.endpoint}/oauth2/token", data=form, timeout=30)
    assert answer.status_code == 200, answer.text
    return answer.json()["access_token"]


def signer(broker):
    """The properties of a client that has no key of S3."""
    return {"py-io-impl": IO["fsspec"], "s3.signer": "S3V4RestSigner", "s3.signer.uri": broker.endpoint, "token": bearer(broker)}


def test_a_table_by_remote_signing_through_a_proxy(world, endpoints):
    tables(world, world[2], endpoints["envoy"], "signed", **signer(world[1]))


def test_a_table_by_remote_signing_at_the_store_itself(world):
    _, broker, _, _, moto = world
    # pyiceberg does not tell the signer which objects a request deletes, and there is no proxy to do it.
    tables(world, moto, f"http://127.0.0.1:{moto.port}", "itself", False, **signer(broker))


def test_the_store_acts_on_nothing_that_is_not_signed(world):
    """What a client adds to a request that the broker signed for the store itself."""
    _, broker, _, rclone, _ = world
    bucket, url = rclone.buckets[0], f"http://127.0.0.1:{rclone.port}"
    asked = {"region": stores.REGION, "method": "PUT", "uri": f"{url}/{bucket}/home/x", "headers": {}}
    answer = requests.post(f"{broker.endpoint}/v1/aws/s3/sign", json=asked, headers={"Authorization": f"Bearer {bearer(broker)}"}, timeout=30)
    assert answer.status_code == 200, answer.text
    signed = {name: values[0] for name, values in answer.json()["headers"].items()}
    assert requests.put(asked["uri"], data=b"mine", headers=signed, timeout=30).status_code == 200
    for name, value in (("x-amz-copy-source", f"/{bucket}/elsewhere/x"), ("x-amz-meta-a", "b"), ("x-amz-acl", "public-read")):
        assert requests.put(asked["uri"], data=b"other", headers={**signed, name: value}, timeout=30).status_code == 403, name
    for where in (f"{url}/{bucket}/elsewhere/x", f"{url}/{bucket}/home/y"):
        assert requests.put(where, data=b"other", headers=signed, timeout=30).status_code == 403, where
    assert rclone.direct().get_object(Bucket=bucket, Key="home/x")["Body"].read() == b"mine"
    elsewhere = {**asked, "uri": f"{url}/{bucket}/elsewhere/x", "method": "GET"}
    refused = requests.post(f"{broker.endpoint}/v1/aws/s3/sign", json=elsewhere, headers={"Authorization": f"Bearer {bearer(broker)}"}, timeout=30)
    assert refused.status_code == 403 and "s3:GetObject" in refused.json()["error"]["message"]


def test_no_signature_and_no_token_is_logged(world):
    programs, broker, *_ = world
    texts = {**programs.logs(), "audit": (broker.home / "audit.jsonl").read_text()}
    for name, logged in texts.items():
        if not name.startswith(("seaweedfs", "rclone", "moto")):
            assert stores.STORE_KEY[1] not in logged and "Signature=" not in logged, name
