"""A broker with TLS for the nodes of a Kubernetes cluster, and what a cluster has: an issuer of tokens, a CA, nodes."""

import datetime
import json
import os
import re
import subprocess
import time

import jwt
from conftest import BREVET
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

ACCOUNT = "111122223333"
ISSUER = "https://cluster.example.com"
PROVIDER = f"arn:aws:iam::{ACCOUNT}:oidc-provider/cluster.example.com"
AUDIENCE = "pods.eks.amazonaws.com"
SPIFFE_ID = "spiffe://example.org/node/a"
PEM = serialization.Encoding.PEM


def arn(kind, name):
    return f"arn:aws:iam::{ACCOUNT}:{kind}/{name}"


def private(path, text):
    """Writes a file for its owner only, and replaces it in one step."""
    new = path.with_name(path.name + ".new")
    new.unlink(missing_ok=True)
    new.touch(0o600)
    new.write_bytes(text if isinstance(text, bytes) else text.encode())
    os.replace(new, path)
    return path


class Ca:
    """A CA and its certificates."""

    def __init__(self):
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.pem = self._made("cluster CA", self.key, x509.BasicConstraints(True, None), True)

    def _made(self, subject, key, extension, critical):
        now = datetime.datetime.now(datetime.timezone.utc)
        name = lambda text: x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, text)])
        builder = x509.CertificateBuilder().subject_name(name(subject)).issuer_name(name("cluster CA")).public_key(key.public_key())
        builder = builder.serial_number(x509.random_serial_number()).not_valid_before(now - datetime.timedelta(hours=1))
        builder = builder.not_valid_after(now + datetime.timedelta(days=2)).add_extension(extension, critical)
        return builder.sign(self.key, hashes.SHA256()).public_bytes(PEM)

    def certify(self, folder, name, *names):
        """Writes NAME.crt and NAME.key for these alternative names."""
        key = ec.generate_private_key(ec.SECP256R1())
        private(folder / f"{name}.crt", self._made(name, key, x509.SubjectAlternativeName(names), False))
        encoded = key.private_bytes(PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        private(folder / f"{name}.key", encoded)


class Issuer:
    """The issuer of a cluster's service-account tokens."""

    def __init__(self):
        self.key = ec.generate_private_key(ec.SECP256R1())

    def keys(self):
        public = json.loads(jwt.algorithms.ECAlgorithm.to_jwk(self.key.public_key()))
        return {"keys": [{**public, "kid": "1", "alg": "ES256", "use": "sig"}]}

    def token(self, account, node, *, pod="api-7d9f", audience=AUDIENCE, seconds=3600, **more):
        """A projected token of a pod, as kubelet gets it."""
        namespace, name = account.split(":")
        now = int(time.time())
        bound = {
            "namespace": namespace,
            "serviceaccount": {"name": name, "uid": "0b1c2d3e"},
            "pod": {"name": pod, "uid": f"5f2a9c1e-0000-4000-8000-{abs(hash(pod)) % 10**12:012}"},
            "node": {"name": node, "uid": "9a8b7c6d"},
        }
        claims = {"iss": ISSUER, "aud": [audience], "sub": f"system:serviceaccount:{account}", "iat": now, "nbf": now}
        claims |= {"exp": now + seconds, "kubernetes.io": bound, **more}
        return jwt.encode(claims, self.key, "ES256", headers={"kid": "1"})


def directory(issuer, certificate="Active"):
    """Nodes, the roles that they hand out, and the pods that have them."""
    document = lambda *statements: {"Version": "2012-10-17", "Statement": list(statements)}
    allow = lambda action, **more: {"Effect": "Allow", "Action": action, **more}
    node = arn("user", "node-a")
    hands_out = allow("brevet:AssumeRoleForWorkload", Resource=[arn("role", name) for name in ("App", "Pods", "Reports")])
    watches = allow("brevet:WatchRevocations", Resource="*")
    host = ISSUER.removeprefix("https://")
    of_agents = {"StringEquals": {f"{host}:sub": "system:serviceaccount:brevet:agent", f"{host}:aud": "sts.amazonaws.com"}}
    of_pods = {"StringEquals": {"aws:RequestTag/kubernetes-namespace": "payments", "aws:SourceAccount": ACCOUNT}}
    of_unit = {"StringEquals": {"aws:RequestTag/unit": "reporter.service"}}
    trusts = {
        "App": document(allow("sts:AssumeRole", Principal={"AWS": [node, arn("role", "Nodes")]})),
        "Pods": document(allow(["sts:AssumeRole", "sts:TagSession"], Principal={"Service": AUDIENCE}, Condition=of_pods)),
        "Reports": document(allow(["sts:AssumeRole", "sts:TagSession"], Principal={"AWS": node}, Condition=of_unit)),
        "Nodes": document(allow("sts:AssumeRoleWithWebIdentity", Principal={"Federated": PROVIDER}, Condition=of_agents)),
    }
    own = {"Nodes": [{"PolicyName": "own", "PolicyDocument": document(hands_out, watches)}]}
    pod = lambda account: {
        "Cluster": "prod", "Namespace": "payments", "ServiceAccount": account, "RoleArn": arn("role", "Pods"), "ProviderArn": PROVIDER,
    }
    return {
        "UserDetailList": [{
            "UserName": "node-a", "UserId": "AIDA0000000000000NODEA", "Arn": node, "Path": "/",
            "Tags": [{"Key": "brevet:node", "Value": "prod/worker-a"}],
            "UserPolicyList": [{"PolicyName": "own", "PolicyDocument": document(hands_out, watches)}],
        }],
        "RoleDetailList": [
            {
                "RoleName": name, "RoleId": f"AROA0000000000000{n:05}", "Arn": arn("role", name), "Path": "/",
                "AssumeRolePolicyDocument": trust, "RolePolicyList": own.get(name, []),
            }
            for n, (name, trust) in enumerate(trusts.items())
        ],
        "Brevet": {
            "Certificates": [{"SpiffeId": SPIFFE_ID, "UserArn": node, "Status": certificate}],
            "OpenIDConnectProviders": [{
                "Arn": PROVIDER, "Url": ISSUER, "JsonWebKeySet": issuer.keys(), "ClientIDList": ["sts.amazonaws.com", AUDIENCE],
            }],
            "PodAssociations": [pod("api"), pod("worker")],
        },
    }


class Broker:
    """A broker that knows the cluster, with a certificate for `localhost`."""

    def __init__(self, home):
        self.home, self.issuer, self.ca = home, Issuer(), Ca()
        made = self.run("init", str(home / "broker"), "--account", ACCOUNT)
        self.key, self.secret = re.search(r"ACCESS_KEY_ID=(\S+)[^=]*SECRET_ACCESS_KEY=(\S+)", made.stdout).groups()
        self.ca.certify(home, "tls", x509.DNSName("localhost"))
        self.ca.certify(home, "node", x509.UniformResourceIdentifier(SPIFFE_ID))
        self.ca_file = private(home / "ca.crt", self.ca.pem)
        self.config = home / "broker/brevet.toml"
        text = re.sub(r"127\.0\.0\.1:748\d", "127.0.0.1:0", self.config.read_text())
        text = re.sub(r"(?m)^names = .*$", "", text)
        files = {"certificate": "tls.crt", "private_key": "tls.key", "client_ca": "ca.crt"}
        tls = "\n".join(f'{key} = "{home / name}"' for key, name in files.items())
        self.config.write_text(f"{text}\n[tls]\n{tls}\n")
        self.declare()
        log = home / "broker.log"
        with log.open("w") as lines:
            self.process = subprocess.Popen([BREVET, "serve", "--config", str(self.config)], stderr=lines)
        deadline = time.monotonic() + 60
        while not (listens := re.search(r"brevet listens address=\S+?:(\d+)", log.read_text())):
            assert self.process.poll() is None and time.monotonic() < deadline, log.read_text()
            time.sleep(0.05)
        self.url = f"https://localhost:{listens[1]}"

    def run(self, *arguments, **environment):
        done = subprocess.run([BREVET, *arguments], env={**os.environ, **environment}, capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, done.stdout + done.stderr
        return done

    def declare(self, **more):
        """Puts the directory into the store, as an administrator imports it."""
        file = private(self.home / "import.json", json.dumps(directory(self.issuer, **more)))
        self.run("import", "--config", str(self.config), str(file), "--apply")

    def administer(self, *arguments):
        """Runs a command as the administrator of the account."""
        call = ["--endpoint", self.url, "--ca", str(self.ca_file)]
        return self.run(*arguments, *call, AWS_ACCESS_KEY_ID=self.key, AWS_SECRET_ACCESS_KEY=self.secret).stdout

    def records(self, name):
        """The records of an operation in the audit log."""
        lines = (self.home / "broker/audit.jsonl").read_text().splitlines()
        return [record for record in map(json.loads, lines) if record.get("eventName") == name]

    def stop(self):
        self.process.terminate()
        assert self.process.wait(60) == 0


class Agent:
    """An agent of a node of the cluster."""

    def __init__(self, broker, folder, identity, sections):
        self.folder = folder
        self.config = private(
            folder / "agent.toml",
            f'broker.endpoint = "{broker.url}"\nbroker.ca_file = "{broker.ca_file}"\n{identity}\noperator.address = "127.0.0.1:0"\n'
            f"{sections}",
        )
        self.start()

    def start(self):
        offer = self.folder / "world.json"
        with (self.folder / "agent.log").open("a") as lines:
            command = [BREVET, "agent", "--config", str(self.config), "--world", str(offer)]
            self.process = subprocess.Popen(command, stderr=lines)
        deadline = time.monotonic() + 60
        while not offer.exists():
            assert self.process.poll() is None and time.monotonic() < deadline, (self.folder / "agent.log").read_text()
            time.sleep(0.01)
        self.world = json.loads(offer.read_text())

    def stop(self):
        self.process.terminate()
        assert self.process.wait(30) == 0
