"""The matrix of object stores: clients, proxies and stores that we did not write, with a broker as the judge.

It prints a line for each client, proxy and store. Every stored byte is compared with what was sent. `test_touched.py`
compares every object that the store's own log names with what the broker judged.
"""

import base64
import hashlib
import json
import os
import re
import shutil
import socket
import ssl
import subprocess
import sys
import time
from pathlib import Path
from urllib.parse import unquote

import boto3
import pytest
import requests
import yaml
from botocore.exceptions import ClientError

sys.path.insert(0, str(Path(__file__).parents[1]))
import object_stores as stores  # noqa: E402
from attacks import EMPTY, signed  # noqa: E402

HERE = Path(__file__).parent / "object-stores"
NODE = stores.ROOT / "target/clients/long/object-stores"
RUST = stores.ROOT / "target/clients/long/rust"
KEYS = [f"home/{name}" for name in ("plain", "a b", "a+b", "100%", "p%2Fq", "ü/x", "q?x", "h#x", "a\\b", "(x)!*'~", "eq=a&b", "semi;colon", "日本", "double//slash")]
# Objects that are there before a client comes, for it to delete by one request.
GONE = ["home/gone 1", "home/gone+2"]
LARGE = bytes(range(256)) * 36_864  # 9 MiB
body_of = lambda key: f"body of {key}".encode()
text = lambda data: base64.b64encode(data).decode()


def prepared(home):
    """What the clients need besides a store."""
    programs = stores.Programs(home)
    (home / "large").write_bytes(LARGE)
    (home / "aws.config").write_text("[default]\ns3 =\n  signature_version = s3v4\n  addressing_style = path\n")
    return programs


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    programs = prepared(tmp_path_factory.mktemp("stores"))
    try:
        moto, seaweedfs = stores.Moto(programs, programs.home), stores.SeaweedFS(programs, programs.home, "-s3.domainName=store.localhost")
        all_stores = [moto, seaweedfs]
        beside = [stores.Beside(seaweedfs, "virtual", stores.VIRTUAL, style="virtual-host", authority=f"store.localhost:{seaweedfs.port}"),
                  stores.Beside(seaweedfs, "strange", stores.STRANGER, key_file="stranger.key")]
        broker = stores.Broker(programs, programs.home, [*all_stores, *beside, stores.Refusing()], stores.directory(), "")
        for store in all_stores:
            store.ready()
        for store in [*all_stores, *beside]:
            for bucket in store.buckets:
                store.direct().create_bucket(Bucket=bucket)
            store.direct().put_object(Bucket=store.buckets[0], Key="elsewhere/x", Body=b"x")
        endpoints = {(proxy, store.name): start(programs, store, broker) for proxy, start in stores.PROXIES.items() for store in all_stores}
        yield programs, broker, {store.name: store for store in all_stores}, endpoints
    finally:
        programs.stop()


class Results(dict):
    def attempt(self, name, action):
        try:
            result = action()
            self[name] = "ok" if result in (None, b"") else result
        except ClientError as error:
            self[name] = error.response["Error"]["Code"]
        except subprocess.CalledProcessError as error:
            self[name] = "refused: " + (error.stderr or b"").decode(errors="replace")[:4_000]


def python(world, store, endpoint, key, token):
    s3, bucket, results = stores.client(endpoint, key, token, verify=str(world[0].home / "ca.crt"), request_checksum_calculation=checksums(store)), store.buckets[0], Results()
    for name in KEYS:
        results.attempt(f"put {name}", lambda: s3.put_object(Bucket=bucket, Key=name, Body=body_of(name)) and None)
        results.attempt(f"get {name}", lambda: text(s3.get_object(Bucket=bucket, Key=name)["Body"].read()))
    results.attempt("large", lambda: s3.upload_file(str(world[0].home / "large"), bucket, "home/large"))
    results.attempt("range", lambda: text(s3.get_object(Bucket=bucket, Key=KEYS[0], Range="bytes=0-3")["Body"].read()))
    results.attempt("copy", lambda: s3.copy_object(Bucket=bucket, Key="home/copy", CopySource={"Bucket": bucket, "Key": KEYS[0]}) and None)
    results.attempt("list", lambda: sorted(o["Key"] for o in s3.list_objects_v2(Bucket=bucket, Prefix="home/")["Contents"]))
    url = lambda action, name: s3.generate_presigned_url(action, Params={"Bucket": bucket, "Key": name})
    verify = str(world[0].home / "ca.crt")

    def presigned(method, action, name, **more):
        answer = requests.request(method, url(action, name), verify=verify, timeout=60, **more)
        return answer.content if answer.ok else f"status {answer.status_code}"

    results.attempt("presigned get", lambda: (lambda a: a if isinstance(a, str) else text(a))(presigned("GET", "get_object", KEYS[0])))
    results.attempt("presigned put", lambda: (lambda a: a if isinstance(a, str) else "ok")(presigned("PUT", "put_object", "home/by url", data=b"by url")))

    def delete_many():
        done = s3.delete_objects(Bucket=bucket, Delete={"Objects": [{"Key": key} for key in GONE]})
        return done["Errors"][0]["Code"] if done.get("Errors") else "ok"

    results.attempt("delete many", delete_many)
    results.attempt("elsewhere", lambda: s3.get_object(Bucket=bucket, Key="elsewhere/x") and None)
    return results


def checksums(store):
    """Whether a client adds checksums of its own to what it uploads, which come after the body."""
    return "when_supported" if store.takes_trailers else "when_required"


def environment(world, store, key, token):
    """What programs have of their user; nothing of the machine's own."""
    home = world[0].home
    return {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "HOME": str(home), "AWS_ACCESS_KEY_ID": key[0], "AWS_SECRET_ACCESS_KEY": key[1],
            "AWS_SESSION_TOKEN": token, "AWS_REGION": stores.REGION, "AWS_DEFAULT_REGION": stores.REGION, "AWS_CA_BUNDLE": str(home / "ca.crt"),
            "AWS_CONFIG_FILE": str(home / "aws.config"), "AWS_SHARED_CREDENTIALS_FILE": "/dev/null", "AWS_MAX_ATTEMPTS": "1", "NODE_EXTRA_CA_CERTS": str(home / "ca.crt"),
            "AWS_REQUEST_CHECKSUM_CALCULATION": checksums(store).upper(), "LC_ALL": "C.UTF-8"}


def cli(world, store, endpoint, key, token):
    bucket, results, kept = store.buckets[0], Results(), environment(world, store, key, token)
    run = lambda *a, **more: subprocess.run(["aws", "--endpoint-url", endpoint, *a], env=kept, capture_output=True, check=True, timeout=120, **more).stdout
    for name in KEYS:
        results.attempt(f"put {name}", lambda: run("s3", "cp", "-", f"s3://{bucket}/{name}", input=body_of(name)) and None)
        results.attempt(f"get {name}", lambda: text(run("s3", "cp", f"s3://{bucket}/{name}", "-")))
    results.attempt("large", lambda: run("s3", "cp", "--quiet", str(world[0].home / "large"), f"s3://{bucket}/home/large") and None)
    out = world[0].home / "range"
    results.attempt("range", lambda: run("s3api", "get-object", "--bucket", bucket, "--key", KEYS[0], "--range", "bytes=0-3", str(out)) and text(out.read_bytes()))
    results.attempt("copy", lambda: run("s3", "cp", "--quiet", f"s3://{bucket}/{KEYS[0]}", f"s3://{bucket}/home/copy") and None)
    listing = lambda: json.loads(run("s3api", "list-objects-v2", "--bucket", bucket, "--prefix", "home/", "--output", "json"))
    results.attempt("list", lambda: sorted(o["Key"] for o in listing()["Contents"]))

    def presigned():
        answer = requests.get(run("s3", "presign", f"s3://{bucket}/{KEYS[0]}").decode().strip(), verify=kept["AWS_CA_BUNDLE"], timeout=60)
        return text(answer.content) if answer.ok else f"status {answer.status_code}"

    results.attempt("presigned get", presigned)
    objects = json.dumps({"Objects": [{"Key": key} for key in GONE]})
    results.attempt("delete many", lambda: run("s3api", "delete-objects", "--bucket", bucket, "--delete", objects) and None)
    results.attempt("elsewhere", lambda: run("s3", "cp", f"s3://{bucket}/elsewhere/x", "-") and None)
    return results


def rclone(world, store, endpoint, key, token):
    bucket, results, kept = store.buckets[0], Results(), environment(world, store, key, token)
    kept |= {"RCLONE_CONFIG": "/dev/null", "RCLONE_CONFIG_X_TYPE": "s3", "RCLONE_CONFIG_X_PROVIDER": "Other", "RCLONE_CONFIG_X_ENDPOINT": endpoint,
             "RCLONE_CONFIG_X_ENV_AUTH": "true", "RCLONE_CONFIG_X_REGION": stores.REGION, "RCLONE_CA_CERT": kept["AWS_CA_BUNDLE"], "RCLONE_S3_NO_CHECK_BUCKET": "true",
             "RCLONE_RETRIES": "1", "RCLONE_LOW_LEVEL_RETRIES": "1", "RCLONE_CONFIG_X_ENCODING": "Slash,InvalidUtf8"}
    run = lambda *a, **more: subprocess.run(["rclone", *a], env=kept, capture_output=True, check=True, timeout=120, **more).stdout
    for name in keys_of("rclone"):
        results.attempt(f"put {name}", lambda: run("rcat", f"X:{bucket}/{name}", input=body_of(name)) and None)
        results.attempt(f"get {name}", lambda: text(run("cat", f"X:{bucket}/{name}")))
    results.attempt("large", lambda: run("copyto", "--s3-upload-cutoff", "5M", str(world[0].home / "large"), f"X:{bucket}/home/large") and None)
    results.attempt("range", lambda: text(run("cat", "--offset", "0", "--count", "4", f"X:{bucket}/{KEYS[0]}")))
    results.attempt("copy", lambda: run("copyto", f"X:{bucket}/{KEYS[0]}", f"X:{bucket}/home/copy") and None)
    results.attempt("list", lambda: sorted("home/" + line for line in run("lsf", "-R", "--files-only", f"X:{bucket}/home/").decode().splitlines()))
    results.attempt("elsewhere", lambda: run("cat", f"X:{bucket}/elsewhere/x") and None)
    return results


def s3cmd(world, store, endpoint, key, token):
    bucket, results, kept = store.buckets[0], Results(), environment(world, store, key, token)
    host = endpoint.removeprefix("https://")
    file = world[0].home / "s3cfg"
    file.write_text(f"[default]\naccess_key = {key[0]}\nsecret_key = {key[1]}\naccess_token = {token}\nhost_base = {host}\nhost_bucket = {host}\nuse_https = True\n"
                    f"ca_certs_file = {kept['AWS_CA_BUNDLE']}\nbucket_location = {stores.REGION}\nmax_retries = 1\nmultipart_chunk_size_mb = 5\nsocket_timeout = 60\n")
    given = world[0].home / "given"
    run = lambda *a: subprocess.run(["s3cmd", "-c", str(file), *a], env=kept, capture_output=True, check=True, timeout=120).stdout

    def put(name):
        given.write_bytes(body_of(name))
        run("put", "--no-progress", str(given), f"s3://{bucket}/{name}")

    for name in KEYS:
        results.attempt(f"put {name}", lambda: put(name))
        results.attempt(f"get {name}", lambda: text(run("get", "--no-progress", f"s3://{bucket}/{name}", "-")))
    results.attempt("large", lambda: run("put", "--no-progress", str(world[0].home / "large"), f"s3://{bucket}/home/large") and None)
    results.attempt("copy", lambda: run("cp", f"s3://{bucket}/{KEYS[0]}", f"s3://{bucket}/home/copy") and None)
    results.attempt("list", lambda: sorted(line.split(f"s3://{bucket}/")[1] for line in run("ls", "-r", f"s3://{bucket}/home/").decode().splitlines()))
    results.attempt("elsewhere", lambda: run("get", "--no-progress", f"s3://{bucket}/elsewhere/x", "-") and None)
    return results


def javascript(world, store, endpoint, key, token):
    kept = {**environment(world, store, key, token), "BUCKET": store.buckets[0], "ENDPOINT": endpoint, "KEYS": json.dumps(KEYS), "LARGE": str(world[0].home / "large")}
    shutil.copy(HERE / "s3.mjs", NODE / "s3.mjs")
    done = subprocess.run(["node", str(NODE / "s3.mjs")], env=kept, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return Results(json.loads(done.stdout.splitlines()[-1]))


def rust(world, store, endpoint, key, token):
    kept = {**environment(world, store, key, token), "BUCKET": store.buckets[0], "ENDPOINT": endpoint, "KEYS": "\n".join(KEYS), "LARGE": str(world[0].home / "large")}
    done = subprocess.run([RUST / "debug/s3-client"], env=kept, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    given = {name: base64.b64decode(value) for name, value in (line.split("\t") for line in done.stdout.splitlines())}

    def requested(url):
        answer = requests.get(url, verify=kept["AWS_CA_BUNDLE"], timeout=60)
        return text(answer.content) if answer.ok else f"status {answer.status_code}"

    def as_others(name, value):
        """Contents in base64, and all else as it is."""
        if name == "presigned get":
            return requested(value.decode())
        if name == "list":
            return value.decode().splitlines()
        if REFUSAL.fullmatch(value.decode(errors="replace")):
            return value.decode()
        return text(value) if name == "range" or name.startswith("get ") else value.decode()

    return Results({name: as_others(name, value) for name, value in given.items()})


@pytest.fixture(scope="module")
def sdk_for_rust():
    build = ["cargo", "build", "--locked", "--quiet", "--features", "s3", "--manifest-path", str(Path(__file__).parent / "rust/Cargo.toml"), "--target-dir", str(RUST)]
    subprocess.run(build, check=True)


CLIENTS = {"boto3": python, "AWS CLI": cli, "AWS SDK for JavaScript 3": javascript, "AWS SDK for Rust": rust, "rclone": rclone, "s3cmd": s3cmd}
# What each client is made to do, besides writing and reading every key.
COMMON = {"large", "range", "copy", "list", "elsewhere"}
ACTIONS = {"boto3": COMMON | {"presigned get", "presigned put", "delete many"}, "AWS SDK for JavaScript 3": COMMON | {"presigned get", "presigned put", "delete many"},
           "AWS CLI": COMMON | {"presigned get", "delete many"}, "AWS SDK for Rust": COMMON | {"presigned get", "delete many"}, "rclone": COMMON, "s3cmd": COMMON - {"range"}}
# Clients that sign Content-Length when they upload.
SIGN_LENGTH = {"AWS SDK for JavaScript 3", "AWS SDK for Rust", "rclone", "s3cmd"}
# What a refusal looks like in the words of some client: S3's code, or the status of an answer without a body. A proxy or a
# store that does not answer looks otherwise. Through Traefik a signed Content-Length is missing, so the signature does not match.
REFUSAL = re.compile(r"AccessDenied|SignatureDoesNotMatch|InvalidRequest|InvalidURI|NotImplemented|Forbidden|BadRequest|Bad Request|\b(400|403|411|501)\b")


def expected(client, proxy, store, action):
    """What an action gives; `None` if it is refused, since a proxy cannot do it, since the store would touch another object,
    or since nothing allows it."""
    if not store.keeps_slashes and action.endswith(("a\\b", "double//slash")):
        return None
    length = proxy in stores.SAYS_LENGTH or client not in SIGN_LENGTH
    if action.startswith("presigned") and proxy not in stores.TAKES_PRESIGNED:
        return None
    if action == "delete many" and proxy != "envoy":
        return None
    if action == "elsewhere" or not length and (action.startswith("put ") or action in ("large", "delete many")):
        return None
    if action.startswith("get "):
        return text(body_of(action[4:]))
    return {"range": text(b"body"), "presigned get": text(body_of(KEYS[0]))}.get(action, "ok")


def keys_of(client):
    """rclone makes `a/b` of `a//b` by itself."""
    return [key for key in KEYS if client != "rclone" or "//" not in key]


def the_matrix(world, capsys, proxy, store):
    """Every client through one proxy to one store, beside what the store then has."""
    _, broker, all_stores, endpoints = world
    one, wrong = all_stores[store], []
    direct, bucket = one.direct(), one.buckets[0]
    listed = lambda: {o["Key"] for o in direct.list_objects_v2(Bucket=bucket, Prefix="home/").get("Contents", [])}
    stored = lambda key: direct.get_object(Bucket=bucket, Key=key)["Body"].read()
    for name, client in CLIENTS.items():
        for key in listed():
            direct.delete_object(Bucket=bucket, Key=key)
        # What a client reads that cannot write through this proxy.
        given = [] if proxy in stores.SAYS_LENGTH or name not in SIGN_LENGTH else keys_of(name)
        for key in [*given, *GONE]:
            if one.keeps_slashes or not key.endswith(("a\\b", "double//slash")):
                direct.put_object(Bucket=bucket, Key=key, Body=body_of(key))
        key, token = broker.assume("Home", "matrix")
        results = client(world, one, endpoints[proxy, store], key, token)
        bad = []
        actions = ACTIONS[name] | {f"{word} {key}" for word in ("put", "get") for key in keys_of(name)}
        if set(results) != actions:
            bad.append(f"did not do {actions - set(results)}, but {set(results) - actions}")
        after = listed()
        for action, result in results.items():
            wanted = expected(name, proxy, one, action)
            if action == "list":
                # It was made before the presigned PUT and before the deletion.
                stands = isinstance(result, list) and set(result) - {"home/by url"} == (after | set(GONE)) - {"home/by url"}
            elif wanted is None and action.startswith("get ") and name == "rclone":
                # It takes an object whose head is refused for one that is not there, and prints nothing.
                stands = result == "" or REFUSAL.search(result) is not None
            elif wanted is None:
                stands = isinstance(result, str) and REFUSAL.search(result) is not None
            else:
                stands = result == wanted
            if not stands:
                bad.append(f"{action}: {str(result)[:300]}")
        made = {key: body_of(key) for key in keys_of(name) if results.get(f"put {key}") == "ok"}
        made |= {"home/large": LARGE} if results.get("large") == "ok" else {}
        made |= {"home/copy": body_of(KEYS[0])} if results.get("copy") == "ok" else {}
        made |= {"home/by url": b"by url"} if results.get("presigned put") == "ok" else {}
        for key, body in made.items():
            if stored(key) != body:
                bad.append(f"{key}: other bytes were stored")
        there = set(made) | set(given) | (set() if results.get("delete many") == "ok" else set(GONE))
        if not one.keeps_slashes:
            there = {key for key in there if not key.endswith(("a\\b", "double//slash"))}
        if after != there:
            bad.append(f"stored {sorted(after - there)} and not {sorted(there - after)}")
        with capsys.disabled():
            print(f"\n{name:26} {proxy:8} {store:10} {len(actions) - len(bad):3} of {len(actions)} as expected", end="")
        wrong += [f"{name} through {proxy} to {store}: {line}" for line in bad]
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("proxy", stores.PROXIES)
@pytest.mark.parametrize("store", ["moto", "seaweedfs"])
def test_the_matrix(world, sdk_for_rust, capsys, proxy, store):
    the_matrix(world, capsys, proxy, store)


@pytest.mark.parametrize("proxy", stores.PROXIES)
def test_a_revocation_is_in_force_within_two_seconds(world, proxy):
    programs, broker, all_stores, endpoints = world
    store = all_stores["seaweedfs"]
    store.direct().put_object(Bucket=store.buckets[0], Key="home/r", Body=b"r")
    s3 = stores.client(endpoints[proxy, "seaweedfs"], *broker.assume("Home", "revoked"), verify=str(programs.home / "ca.crt"))
    get = lambda: s3.get_object(Bucket=store.buckets[0], Key="home/r")["Body"].read()
    assert get() == b"r"
    revoke = ("sessions", "revoke", "--role-arn", f"arn:aws:iam::{stores.ACCOUNT}:role/Home", "--endpoint", broker.endpoint)
    broker.run(*revoke, environment={**broker.administrator, "AWS_REGION": stores.REGION})
    revoked = time.monotonic()
    while True:
        try:
            get()
        except ClientError as error:
            refused = (error.response["Error"]["Code"], error.response["ResponseMetadata"]["HTTPStatusCode"])
            break
        assert time.monotonic() - revoked < 2
    assert refused == ("InvalidToken", 403 if proxy == "nginx" else 400), refused
    print(f"{proxy}: refused {time.monotonic() - revoked:.3f} s after the revocation")
    time.sleep(1)  # sessions of the same second are ended, too


@pytest.mark.parametrize("proxy", stores.PROXIES)
def test_a_session_is_accepted_until_the_second_of_its_expiration(world, proxy):
    """A session that was narrowed to a life of eight seconds, used some ten times a second."""
    programs, broker, all_stores, endpoints = world
    store = all_stores["seaweedfs"]
    store.direct().put_object(Bucket=store.buckets[0], Key="home/e", Body=b"e")
    key, token = broker.assume("Home", "expires")
    sts = boto3.client("sts", endpoint_url=broker.endpoint, region_name=stores.REGION, aws_access_key_id=key[0], aws_secret_access_key=key[1], aws_session_token=token)
    made = sts.get_scoped_credentials(DurationSeconds=8)["Credentials"]
    key, token, ends = (made["AccessKeyId"], made["SecretAccessKey"]), made["SessionToken"], made["Expiration"].timestamp()
    s3, accepted = stores.client(endpoints[proxy, "seaweedfs"], key, token, verify=str(programs.home / "ca.crt")), 0
    while True:
        begun = time.time()
        try:
            assert s3.get_object(Bucket=store.buckets[0], Key="home/e")["Body"].read() == b"e"
        except ClientError as error:
            refused = (error.response["Error"]["Code"], error.response["ResponseMetadata"]["HTTPStatusCode"])
            break
        assert begun < ends, f"accepted {begun - ends:.3f} s after its end"
        accepted += 1
        time.sleep(0.1)
    early = ends - time.time()
    assert early <= 0, f"refused {early:.3f} s before its end"
    assert accepted > 0 and refused == ("ExpiredToken", 403 if proxy == "nginx" else 400), (accepted, refused)
    print(f"{proxy}: accepted {accepted} times, refused {-early:.3f} s after the end")


@pytest.mark.parametrize("proxy", stores.PROXIES)
def test_a_transfer_that_has_begun_ends_by_itself_and_the_next_request_is_refused(world, proxy):
    """A body that is half read, and one that is half sent, when the session is revoked."""
    programs, broker, all_stores, endpoints = world
    store, ca = all_stores["seaweedfs"], str(programs.home / "ca.crt")
    endpoint, direct, bucket = endpoints[proxy, "seaweedfs"], store.direct(), store.buckets[0]
    large = LARGE * 8  # 72 MiB, more than the buffers of a proxy
    direct.put_object(Bucket=bucket, Key="home/slow", Body=large)
    key, token = broker.assume("Home", "slow")
    host, port = endpoint.removeprefix("https://").split(":")

    def begun(method, path, payload, length):
        """A connection on which the head of a request was sent."""
        target, headers = signed(method, f"/{bucket}/{path}", f"{host}:{port}", {}, payload, key, token, stores.REGION, False)
        lines = [f"{method} {target} HTTP/1.1", f"Host: {host}:{port}", *(f"{n}: {v}" for n, v in headers.items()), f"Content-Length: {length}", "", ""]
        stream = ssl.create_default_context(cafile=ca).wrap_socket(socket.create_connection((host, int(port)), 60), server_hostname=host)
        stream.sendall("\r\n".join(lines).encode())
        return stream

    get, put = begun("GET", "home/slow", EMPTY, 0), begun("PUT", "home/sent", hashlib.sha256(large).hexdigest(), len(large))
    read = get.recv(65_536)
    put.sendall(large[: len(large) // 2])
    revoke = ("sessions", "revoke", "--role-arn", f"arn:aws:iam::{stores.ACCOUNT}:role/Home", "--endpoint", broker.endpoint)
    broker.run(*revoke, environment={**broker.administrator, "AWS_REGION": stores.REGION})
    s3 = stores.client(endpoint, key, token, verify=ca)

    def refused():
        try:
            s3.head_object(Bucket=bucket, Key="home/slow")
        except ClientError as error:
            return error.response["ResponseMetadata"]["HTTPStatusCode"] == (403 if proxy == "nginx" else 400)

    stores.until(refused, 2)
    put.sendall(large[len(large) // 2 :])
    answer = put.recv(65_536)
    assert answer.split(b" ", 2)[1] == b"200", answer[:500]
    # Without the bytes, of which pytest would print the difference.
    sent = direct.get_object(Bucket=bucket, Key="home/sent")["Body"].read()
    assert hashlib.sha256(sent).digest() == hashlib.sha256(large).digest(), len(sent)
    head, _, body = bytearray(read).partition(b"\r\n\r\n")
    while len(body) < len(large) and (chunk := get.recv(1 << 20)):
        body += chunk
    assert head.split(b" ", 2)[1] == b"200" and len(body) == len(large), (head, len(body))
    assert hashlib.sha256(body).digest() == hashlib.sha256(large).digest()
    time.sleep(1)  # sessions of the same second are ended, too


@pytest.mark.parametrize("proxy", stores.PROXIES)
def test_a_refusal_of_the_store_itself_is_not_passed_on(world, proxy):
    """SeaweedFS, which does not know the broker's key; and a store that names the key in its answer."""
    programs, broker, all_stores, endpoints = world
    key, token = broker.assume("Home", "refused")
    ca, strange, refusing = str(programs.home / "ca.crt"), broker.stores["strange"], broker.stores["refusing"]
    through = endpoints[proxy, "seaweedfs"].replace(all_stores["seaweedfs"].host, strange.host)
    stores.what_a_refusal_of_the_store_becomes(through, strange, key, token, ca)
    through = stores.PROXIES[proxy](programs, refusing, broker)
    stores.what_a_refusal_of_the_store_becomes(through, refusing, key, token, ca)


@pytest.mark.parametrize("proxy", stores.PROXIES)
def test_a_bucket_in_the_host_is_called_by_its_host(world, proxy):
    """SeaweedFS, which verifies for which host a request was signed."""
    programs, broker, all_stores, endpoints = world
    store = broker.stores["virtual"]
    key, token = broker.assume("Home", "virtual")
    endpoint = endpoints[proxy, "seaweedfs"].replace(all_stores["seaweedfs"].host, store.host)
    s3 = stores.client(endpoint, key, token, verify=str(programs.home / "ca.crt"), style="virtual")
    bucket, direct = store.buckets[0], store.direct()
    if proxy not in stores.TAKES_HOST:
        direct.put_object(Bucket=bucket, Key="home/x", Body=b"x")
        with pytest.raises(ClientError) as refused:
            s3.get_object(Bucket=bucket, Key="home/x")
        error = refused.value.response["Error"]
        assert error["Code"] == "InvalidRequest" and "path style" in error["Message"]
        return
    for name in ("home/x", "home/a b", "home/ü"):
        s3.put_object(Bucket=bucket, Key=name, Body=name.encode())
        assert direct.get_object(Bucket=bucket, Key=name)["Body"].read() == name.encode()
        assert s3.get_object(Bucket=bucket, Key=name)["Body"].read() == name.encode()
    assert {o["Key"] for o in s3.list_objects_v2(Bucket=bucket, Prefix="home/")["Contents"]} >= {"home/x", "home/a b", "home/ü"}
    for key in ("elsewhere/x", "home/../elsewhere/x"):
        with pytest.raises(ClientError):
            s3.get_object(Bucket=bucket, Key=key)


# What SeaweedFS and its proxies could understand otherwise than the broker.
ATTACKS = ["home//../elsewhere/x", "home/../elsewhere/x", "home/%2e%2e/elsewhere/x", "home/..%2felsewhere/x", "home//x", "home/./x", "home/x/",
           "home/%2e/x", "home\\..\\elsewhere\\x", "home/%5c..%5celsewhere/x", "home/%c0%ae%c0%ae/elsewhere/x", "home/x%00", "home/x%0d%0aX: y", "home/x;a=b", "home/x%23y", "Home/x"]


@pytest.mark.parametrize("proxy", stores.PROXIES)
def test_the_object_that_is_touched_is_the_one_that_was_judged(world, proxy):
    """A client that signs a path of its own making: nothing outside of home/ may be read or written, whatever the store
    makes of the path."""
    from botocore.auth import S3SigV4Auth
    from botocore.awsrequest import AWSRequest
    from botocore.credentials import Credentials

    programs, broker, all_stores, endpoints = world
    store = all_stores["seaweedfs"]
    direct, bucket = store.direct(), store.buckets[0]
    direct.put_object(Bucket=bucket, Key="elsewhere/x", Body=b"secret")
    before = {o["Key"]: o["ETag"] for o in direct.list_objects_v2(Bucket=bucket)["Contents"] if not o["Key"].startswith("home/")}
    key, token = broker.assume("Home", "attack")
    endpoint, tried = endpoints[proxy, "seaweedfs"], []

    def send(method, path, headers, body):
        """Sends a path that no HTTP library cleans."""
        import http.client
        import ssl

        request = AWSRequest(method, f"{endpoint}{path}", headers=headers, data=body)
        S3SigV4Auth(Credentials(key[0], key[1], token), "s3", stores.REGION).add_auth(request)
        host, port = endpoint.removeprefix("https://").split(":")
        connection = http.client.HTTPSConnection(host, int(port), context=ssl.create_default_context(cafile=str(programs.home / "ca.crt")), timeout=30)
        connection.putrequest(method, path, skip_host=True, skip_accept_encoding=True)
        connection.putheader("Host", f"{host}:{port}")
        for name, value in request.headers.items():
            connection.putheader(name, value)
        connection.putheader("Content-Length", str(len(body)))
        connection.endheaders(body)
        answer = connection.getresponse()
        return answer.status, answer.read()

    for path in ATTACKS:
        for method, body in (("GET", b""), ("PUT", b"written"), ("DELETE", b"")):
            try:
                status, got = send(method, f"/{bucket}/{path}", {}, body)
            except Exception as error:  # the proxy closed the connection
                status, got = type(error).__name__, b""
            tried.append(f"{method} {path}: {status}")
            assert b"secret" not in got, tried[-1]
            if (method, status) == ("PUT", 200):
                stored = [o["Key"] for o in direct.list_objects_v2(Bucket=bucket)["Contents"]]
                assert unquote(path) in stored, f"{tried[-1]}: another object was written: {stored}"
    for source in ("elsewhere/x", "home/../elsewhere/x", "home/%2e%2e/elsewhere/x", "/home//../elsewhere/x", "home/x,/elsewhere/x", "home/x?versionId=1&x=/elsewhere/x"):
        for copied in (f"/{bucket}/{source}", f"{bucket}/{source}"):
            status, got = send("PUT", f"/{bucket}/home/copied", {"x-amz-copy-source": copied}, b"")
            tried.append(f"copy of {copied}: {status}")
            if status == 200:
                assert direct.get_object(Bucket=bucket, Key="home/copied")["Body"].read() != b"secret", tried[-1]
    after = {o["Key"]: o["ETag"] for o in direct.list_objects_v2(Bucket=bucket)["Contents"] if not o["Key"].startswith("home/")}
    assert after == before, "\n".join(tried)


def test_the_stores_key_is_nowhere(world):
    programs, broker, _, _ = world
    texts = {**programs.logs(), "audit": (broker.home / "audit.jsonl").read_text()}
    for name, logged in texts.items():
        if not re.match("moto|seaweedfs", name):
            assert stores.STORE_KEY[1] not in logged and stores.STORE_KEY[0] not in logged, name
            assert not re.search(r"Signature=[0-9a-f]{64}", logged), f"a signature in {name}"


def test_the_tutorial_with_the_programs_of_compose(tmp_path):
    """docs/tutorials/object-store.md: what compose.yaml starts, and the page's commands, with other addresses."""
    deploy = stores.ROOT / "deploy/object-store"
    services = yaml.safe_load((deploy / "compose.yaml").read_text())["services"]
    ports = {port: stores.free_port() for port in (7480, 7481, 7482, 8000, 8333)}

    def moved(text):
        for port, own in ports.items():
            text = re.sub(rf"(127\.0\.0\.1:|0\.0\.0\.0:|port_value: |s3\.port=){port}\b", rf"\g<1>{own}", text)
        for volume, place in folders.items():
            text = text.replace(volume, str(place))
        return text.replace("0.0.0.0", "127.0.0.1").replace("-dir=/data", f"-dir={tmp_path}/data")

    folders = {f"/var/lib/brevet{kind}": tmp_path / f"brevet{kind}" for kind in ("-envoy", "-store", "")}
    for place in (*folders.values(), tmp_path / "from", tmp_path / "data"):
        place.mkdir()
    for name in ("brevet.toml", "envoy.yaml", "first-start"):
        (tmp_path / "from" / name).write_text(moved((deploy / name).read_text()) if name != "first-start" else (deploy / name).read_text())
    programs = stores.Programs(tmp_path)
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/brevet").symlink_to(Path(stores.BREVET).resolve())
    path = f"{tmp_path}/bin:{Path(sys.executable).parent}:{os.environ['PATH']}"
    places = {"FROM": tmp_path / "from", "STATE": tmp_path / "brevet", "ENVOY": tmp_path / "brevet-envoy", "STORE": tmp_path / "brevet-store"}
    first = lambda: subprocess.run(["/bin/sh", tmp_path / "from/first-start"], env={"PATH": path, **{k: str(v) for k, v in places.items()}}, capture_output=True, text=True, check=True)
    first()
    made = {file: file.read_bytes() for file in (tmp_path / "brevet").glob("*") if file.is_file()}
    assert (tmp_path / "brevet/store.key").stat().st_mode & 0o77 == 0
    first()
    assert made == {file: file.read_bytes() for file in (tmp_path / "brevet").glob("*") if file.is_file()}, "a second start makes nothing anew"
    try:
        for name, service in services.items():
            if name == "first-start":
                continue
            command = [*service.get("entrypoint", ["brevet"]), *(moved(word) for word in service["command"])]
            if name == "envoy":
                command += ["--base-id", str(os.getpid() % 60_000), "--concurrency", "1"]
            if name == "store":
                others = ("master.port", "master.port.grpc", "volume.port", "volume.port.grpc", "filer.port", "filer.port.grpc", "s3.port.grpc")
                command += [f"-{port}={stores.free_port()}" for port in others]
                command += ["-s3.port.iceberg=0", "-s3.port.lance=0", "-master.volumeSizeLimitMB=64", "-volume.max=20", "-master.telemetry=false"]
            programs.start(name, command, cwd=tmp_path, environment={"PATH": path})
        for port in (7480, 8000, 8333):
            stores.until(lambda: stores.answers(ports[port]), 90)
        shutil.copy(tmp_path / "brevet/administrator.env", tmp_path / "first.env")
        page = (stores.ROOT / "docs/tutorials/object-store.md").read_text()
        blocks = re.findall(r"^```sh example: tests/clients/long.*?\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
        assert len(blocks) == 5
        script = moved("set -eu\n" + "\n".join(blocks).replace("! aws", "if aws").replace(" 2> refusal.txt", " 2> refusal.txt; then exit 9; fi"))
        kept = {"PATH": path, "HOME": str(tmp_path), "AWS_CONFIG_FILE": "/dev/null", "AWS_SHARED_CREDENTIALS_FILE": "/dev/null", "AWS_MAX_ATTEMPTS": "5"}
        done = subprocess.run(["bash", "-c", script], cwd=tmp_path, env=kept, capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, done.stdout + done.stderr
        assert "reports/report.csv" in done.stdout and "s3:PutObject" in done.stdout and "other/report.csv" in done.stdout
        # The last refusal is that of the session that was ended.
        assert "InvalidToken" in (tmp_path / "refusal.txt").read_text()
    finally:
        programs.stop()
