"""The object that is touched is the object that was judged, by the store's own logs: SeaweedFS's log of S3 requests, and
its filer's log of every entry that is made, changed or removed. moto has no such logs, so its objects are compared."""

import collections
import json
import re
import socket
import subprocess
import sys
import threading
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1]))
import object_stores as stores  # noqa: E402
from attacks import attacks, filled, send  # noqa: E402

KEYS = ["home/x", "home/d1", "home/d2", "home/d3", "elsewhere/x", "elsewhere/y", "x", "y"]
# By what moto completes an upload: the id, whatever the key is. It is a store for tests.
ONLY_BY_ID = {"moto"}
CAN = {"anything": set(stores.PROXIES), "presigned": stores.TAKES_PRESIGNED, "lists": {"envoy"}}


class Logged(stores.SeaweedFS):
    """SeaweedFS with its log of S3 requests and the log of its filer."""

    def __init__(self, programs, home):
        self.access, self.entries, self.home = [], [], home
        listener = socket.create_server(("127.0.0.1", 0))
        threading.Thread(target=self.listen, args=(listener,), daemon=True).start()
        (home / "access.json").write_text(json.dumps({"fluent_host": "127.0.0.1", "fluent_port": listener.getsockname()[1], "marshal_as_json": True}))
        super().__init__(programs, home, f"-s3.auditLogConfig={home}/access.json")
        command = programs.running[-1].args
        own = lambda name: next(word.split("=")[1] for word in command if word.startswith(f"-{name}="))
        self.filer = f"127.0.0.1:{own('filer.port')}.{own('filer.port.grpc')}"

    def listen(self, listener):
        while True:
            stream, _ = listener.accept()
            threading.Thread(target=self.read, args=(stream.makefile("r"), self.access, lambda record: record[2]), daemon=True).start()

    def tail(self, programs):
        log = (self.home / "filer.out").open("w")
        process = subprocess.Popen([Path(sys.executable).parent / "weed", "filer.meta.tail", f"-filer={self.filer}", "-pathPrefix=/buckets", "-timeAgo=1s"], stdout=subprocess.PIPE, stderr=log, text=True)
        programs.running.append(process)
        threading.Thread(target=self.read, args=(process.stdout, self.entries, lambda record: record), daemon=True).start()

    @staticmethod
    def read(stream, records, of):
        """JSON texts one after another, as they come."""
        decoder, text = json.JSONDecoder(), ""
        while chunk := stream.read(1):
            text += chunk
            if chunk not in "]}":
                continue
            try:
                record, end = decoder.raw_decode(text.lstrip())
            except json.JSONDecodeError:
                continue
            records.append(of(record))
            text = text.lstrip()[end:]

    def touched(self, records):
        """The keys of entries that were made, changed or removed, by bucket. Folders are made by the way."""
        for record in records:
            event, folder = record["eventNotification"], record["directory"]
            for entry, parent in ((event.get("oldEntry"), folder), (event.get("newEntry"), event.get("newParentPath") or folder)):
                if entry and not entry["isDirectory"]:
                    yield tuple(f"{parent}/{entry['name']}".removeprefix("/buckets/").split("/", 1))

    def has_touched(self, since, key, times):
        return sum(found == key for found in self.touched(self.entries[since:])) >= times


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    programs = stores.Programs(tmp_path_factory.mktemp("stores"))
    try:
        all_stores = [stores.Moto(programs, programs.home), Logged(programs, programs.home)]
        broker = stores.Broker(programs, programs.home, all_stores, stores.directory(), audit='data_events = "all"\n')
        for store in all_stores:
            direct = store.ready().direct()
            for bucket in store.buckets:
                direct.create_bucket(Bucket=bucket)
        all_stores[1].tail(programs)
        yield programs, broker, {store.name: store for store in all_stores}
    finally:
        programs.stop()


def fill(direct, bucket):
    """Objects that hold their own names. Returns the ids of an upload elsewhere, and of one's own."""
    for key in KEYS:
        direct.put_object(Bucket=bucket, Key=key, Body=f"I am {key}".encode())
    return [direct.create_multipart_upload(Bucket=bucket, Key=key)["UploadId"] for key in ("elsewhere/up", "home/up")]


def contents(direct, buckets):
    return {(bucket, o["Key"]): o["ETag"] for bucket in buckets for o in direct.list_objects_v2(Bucket=bucket).get("Contents", [])}


def judged(broker, since):
    """The data events of the broker's own log after a place in it, and the new place."""
    with (broker.home / "audit.jsonl").open() as log:
        log.seek(since)
        text = log.read()
    whole = text[: text.rfind("\n") + 1]
    records = [json.loads(line) for line in whole.splitlines()]
    return [r for r in records if r.get("eventCategory") == "Data"], since + len(whole.encode())


def compare(world, capsys, proxy, name):
    """Sends every attack through one proxy to one store, and compares what was touched with what was judged."""
    programs, broker, all_stores = world
    store = all_stores[name]
    endpoint, direct, bucket = stores.PROXIES[proxy](programs, store, broker), store.direct(), store.buckets[0]
    ca = str(programs.home / "ca.crt")
    key, token = broker.assume("Home", "attack")
    through = stores.client(endpoint, key, token, verify=ca, request_checksum_calculation="when_required")
    upload, own = fill(direct, bucket)
    place, wrong, known, sent, let_through, codes = judged(broker, 0)[1], [], [], 0, 0, collections.Counter()
    for number, attack in enumerate(attacks()):
        attack = filled(attack, bucket=bucket, upload=upload, own=own)
        what = f"{attack.group}: {attack.method} {attack.line or attack.path} {attack.headers} {attack.loose} {attack.body[:60]}"
        before = contents(direct, store.buckets)
        access, entries = len(getattr(store, "access", [])), len(getattr(store, "entries", []))
        status, body = send(attack, bucket, endpoint, key, token, stores.REGION, ca)
        sent += 1
        # Everybody's logs have this one after the attack.
        mark = f"home/mark-{proxy}-{number}"
        if proxy in stores.SAYS_LENGTH:
            through.put_object(Bucket=bucket, Key=mark, Body=b"")
        else:
            direct.put_object(Bucket=bucket, Key=mark, Body=b"")
            through.head_object(Bucket=bucket, Key=mark)
        records = []

        def recorded():
            nonlocal place
            found, place = judged(broker, place)
            records.extend(found)
            return any((r["requestParameters"] or {}).get("key") == mark for r in records)

        stores.until(recorded, 30)
        of_attack = [r for r in records if (r["requestParameters"] or {}).get("key") != mark]
        allowed = [r["requestParameters"] for r in of_attack if "errorCode" not in r]
        let_through += bool(allowed)
        codes.update((attack.group, r["errorCode"]) for r in of_attack if "errorCode" in r)
        # A list of objects to delete has no key of its own, but names of objects.
        named = {(p["bucketName"], o["key"]) for p in allowed for o in p.get("objects", [])}
        keys = {(p.get("bucketName"), p.get("key")) for p in allowed if "objects" not in p} | named
        sources = {p["copySource"].split("?")[0] for p in allowed if "copySource" in p}
        complain = lambda text: wrong.append(f"{what} -> {status}, judged {sorted(map(str, keys))} {sorted(sources)}: {text}")
        # The role's policy says data-*/home/*.
        if any(k and "/home/" not in f"/{k}" for _, k in keys) or any("/home/" not in s for s in sources):
            complain("the broker allowed what no policy allows")
        after = contents(direct, store.buckets)
        after.pop((bucket, mark), None)
        changed = {k for k in before.keys() | after.keys() if before.get(k) != after.get(k)}
        if name in ONLY_BY_ID and attack.group == 6 and changed - keys == {(bucket, "elsewhere/up")}:
            known.append(what)
        elif not changed <= keys:
            complain(f"changed {changed - keys}")
        if proxy in CAN.get(attack.harmless, set()) and not (200 <= status < 300 and allowed):
            complain(f"it does no harm, and was refused: {body[:300]!r}")
        if attack.method == "GET" and status in (200, 206) and b"I am " in body and keys and all(k for _, k in keys):
            if not any(f"I am {k}".startswith(body.decode().split("\r\n")[0]) for _, k in keys):
                complain(f"read {body[:60]!r}")
        if b"I am elsewhere" in body or status == 200 and re.search(rb"<(Key|Prefix)>/?elsewhere/", body):
            complain(f"read {body[:200]!r}")
        if sources and (bucket, "home/copied") in changed and (bucket, "home/copied") in after:
            copied = direct.get_object(Bucket=bucket, Key="home/copied")["Body"].read()
            if copied != b"I am " + next(iter(sources)).split("/", 1)[1].encode() and copied not in (b"written", b""):
                complain(f"copied {copied[:60]!r}")
        if name == "seaweedfs":
            stores.until(lambda: any(r["key"] == mark for r in store.access[access:]), 30)
            stores.until(lambda: store.has_touched(entries, (bucket, mark), 1), 30)
            # The attack names no program; this test does.
            asked = {(r["bucket"], r["key"]) for r in store.access[access:] if r["key"] and "Boto3" not in r["user_agent"]}
            if not asked <= keys:
                complain(f"its log says {asked - keys}")
            touched = {k for k in store.touched(store.entries[entries:]) if k != (bucket, mark)}
            uploads = {k for k in touched if k[1].startswith(".uploads/")}
            if not touched - uploads <= keys:
                complain(f"its filer says {touched - uploads - keys}")
            if any(upload in k[1] for k in uploads):
                complain(f"its filer says {uploads}")
        for k in KEYS:
            if (bucket, k) in before and after.get((bucket, k)) != before[bucket, k]:
                direct.put_object(Bucket=bucket, Key=k, Body=f"I am {k}".encode())
        if (bucket, "home/copied") in after:
            direct.delete_object(Bucket=bucket, Key="home/copied")
        direct.delete_object(Bucket=bucket, Key=mark)
        if name == "seaweedfs":
            stores.until(lambda: store.has_touched(entries, (bucket, mark), 2), 30)
    with capsys.disabled():
        print(f"\n{proxy:8} {name:10} {sent} requests, {let_through} let through, {len(wrong)} touched another object, {len(known)} by the id of an upload")
        print(sorted(codes.items()))
    assert not wrong, "\n".join(wrong)
    # Otherwise the sender itself would be at fault: only groups 9 and 10 send another head than they sign.
    assert {group for group, code in codes if code == "SignatureDoesNotMatch"} <= {9, 10}
    assert let_through > 80


@pytest.mark.parametrize("proxy", stores.PROXIES)
@pytest.mark.parametrize("name", ["moto", "seaweedfs"])
def test_the_object_that_is_touched_is_the_one_that_was_judged(world, capsys, proxy, name):
    compare(world, capsys, proxy, name)
