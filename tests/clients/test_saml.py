"""Sign-in by SAML: identity providers that we did not write, carried by boto3 and by the AWS CLI.

pysaml2 signs with xmlsec1; samlp (npm) has its own canonicalization and signatures. Both are put in as an administrator
would: their metadata in a file for `brevet import`.
"""

import base64
import datetime
import html
import json
import os
import re
import subprocess
import time
import urllib.parse
import urllib.request
from pathlib import Path

import boto3
import botocore
import pytest
from conftest import BREVET
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from saml2.config import IdPConfig
from saml2.metadata import entity_descriptor
from saml2.saml import NAME_FORMAT_URI, NAMEID_FORMAT_PERSISTENT, NameID
from saml2.server import Server
from saml2.xmldsig import DIGEST_SHA256, SIG_RSA_SHA256
from test_boto3 import NO_RETRY, refused
from test_mfa import iam
from test_oidc import free_port
from test_shell import aws, run

JS = Path(__file__).parent / "js"
ACCOUNT = "111122223333"
SP = "https://sts.example.com/saml/metadata"
ACS = "https://sts.example.com/saml/acs"
ATTRIBUTE = "https://aws.amazon.com/SAML/Attributes/"
PASSWORD = "urn:oasis:names:tc:SAML:2.0:ac:classes:PasswordProtectedTransport"


def arn(kind, name):
    return f"arn:aws:iam::{ACCOUNT}:{kind}/{name}"


def make_key(folder, name):
    """A key and its certificate, as PEM files."""
    key = rsa.generate_private_key(65537, 2048)
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    now = datetime.datetime.now(datetime.timezone.utc)
    builder = x509.CertificateBuilder().subject_name(subject).issuer_name(subject).public_key(key.public_key())
    builder = builder.serial_number(x509.random_serial_number()).not_valid_before(now - datetime.timedelta(days=1))
    certificate = builder.not_valid_after(now + datetime.timedelta(days=365)).sign(key, hashes.SHA256())
    paths = folder / f"{name}.key", folder / f"{name}.crt"
    form = serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    paths[0].write_bytes(key.private_bytes(serialization.Encoding.PEM, *form))
    paths[1].write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    return paths


class Pysaml2:
    """pysaml2 as an identity provider that knows one service provider."""

    def __init__(self, folder):
        key, certificate = make_key(folder, "pysaml2")
        md = "urn:oasis:names:tc:SAML:2.0:metadata"
        (folder / "sp.xml").write_text(
            f'<EntityDescriptor xmlns="{md}" entityID="{SP}">'
            '<SPSSODescriptor protocolSupportEnumeration="urn:oasis:names:tc:SAML:2.0:protocol">'
            '<AssertionConsumerService Binding="urn:oasis:names:tc:SAML:2.0:bindings:HTTP-POST" '
            f'Location="{ACS}" index="0"/></SPSSODescriptor></EntityDescriptor>'
        )
        endpoint = ("https://idp.example.com/sso", "urn:oasis:names:tc:SAML:2.0:bindings:HTTP-Redirect")
        policy = {"lifetime": {"minutes": 5}, "attribute_restrictions": None, "name_form": NAME_FORMAT_URI}
        self.entity_id = "https://idp.example.com/pysaml2"
        self.server = Server(
            config=IdPConfig().load(
                {
                    "entityid": self.entity_id,
                    "xmlsec_binary": "/usr/bin/xmlsec1",
                    "key_file": str(key),
                    "cert_file": str(certificate),
                    "service": {
                        "idp": {
                            "name": "Example",
                            "endpoints": {"single_sign_on_service": [endpoint]},
                            "policy": {"default": policy},
                        }
                    },
                    "metadata": {"local": [str(folder / "sp.xml")]},
                }
            )
        )

    def metadata(self):
        return str(entity_descriptor(self.server.config))

    def sign_in(self, user="alice", roles=None, sign="assertion", audience=SP, recipient=ACS):
        identity = {
            ATTRIBUTE + "Role": roles or [f"{arn('role', 'Pysaml2')},{arn('saml-provider', 'pysaml2')}"],
            ATTRIBUTE + "RoleSessionName": [f"{user}@example.com"],
            ATTRIBUTE + "PrincipalTag:Team": ["blue"],
            "urn:oid:1.3.6.1.4.1.5923.1.1.1.1": ["staff", "member"],
        }
        name = NameID(format=NAMEID_FORMAT_PERSISTENT, text=user, sp_name_qualifier=SP, name_qualifier=self.entity_id)
        response = self.server.create_authn_response(
            identity=identity,
            in_response_to="id-1",
            destination=recipient,
            sp_entity_id=audience,
            name_id=name,
            authn={"class_ref": PASSWORD, "authn_auth": self.entity_id},
            sign_response=sign != "assertion",
            sign_assertion=sign != "response",
            sign_alg=SIG_RSA_SHA256,
            digest_alg=DIGEST_SHA256,
        )
        return base64.b64encode(str(response).encode()).decode()


class Samlp:
    """samlp as an identity provider that a browser goes to."""

    def __init__(self, folder):
        key, certificate = make_key(folder, "samlp")
        command = ["node", "saml_idp.mjs", str(free_port()), str(key), str(certificate), SP, ACS]
        self.process = subprocess.Popen(command, cwd=JS, stdout=subprocess.PIPE, text=True)
        self.entity_id = self.process.stdout.readline().strip()
        assert self.entity_id.startswith("http://"), "samlp did not start"

    def get(self, path, **query):
        url = urllib.parse.urljoin(self.entity_id, f"{path}?{urllib.parse.urlencode(query, doseq=True)}")
        with urllib.request.urlopen(url) as answer:
            return answer.read().decode()

    def metadata(self):
        return self.get("/metadata")

    def sign_in(self, user="alice", roles=None, sign="assertion", audience=SP):
        roles = roles or [f"{arn('saml-provider', 'samlp')},{arn('role', 'Samlp')}"]
        page = self.get("/sso", user=user, role=roles, sign=sign, audience=audience)
        return html.unescape(re.search(r'name="SAMLResponse"\s+value="([^"]+)"', page).group(1))


@pytest.fixture(scope="module")
def idps(tmp_path_factory):
    folder = tmp_path_factory.mktemp("idps")
    samlp = Samlp(folder)
    yield {"pysaml2": Pysaml2(folder), "samlp": samlp}
    samlp.process.terminate()
    samlp.process.wait(10)


def trusting(name, provider, condition):
    """A role that trusts the provider, and the permission to tag its sessions."""
    statement = {
        "Effect": "Allow",
        "Principal": {"Federated": arn("saml-provider", provider)},
        "Action": ["sts:AssumeRoleWithSAML", "sts:TagSession"],
        "Condition": condition,
    }
    policy = {"Version": "2012-10-17", "Statement": [statement]}
    return {"RoleName": name, "Arn": arn("role", name), "AssumeRolePolicyDocument": policy}


class Broker:
    """A broker as an administrator sets it up, with a file imported into its store."""

    def __init__(self, home, audience=SP, recipient=ACS):
        made = subprocess.run([BREVET, "init", str(home), "--account", ACCOUNT], capture_output=True, text=True)
        assert made.returncode == 0, made.stderr
        self.home, self.configuration = home, home / "brevet.toml"
        text = self.configuration.read_text()
        port = free_port()
        text = text.replace("127.0.0.1:7480", f"127.0.0.1:{port}").replace("127.0.0.1:7481", f"127.0.0.1:{free_port()}")
        names = f'entity_id = "{audience}"\naudiences = ["{audience}"]\nrecipients = ["{recipient}"]\n'
        self.configuration.write_text(f"{text}\n[saml]\n{names}")
        self.url = f"http://127.0.0.1:{port}"
        serve = [BREVET, "serve", "--config", str(self.configuration)]
        environment = os.environ | {"BREVET_LOG": "trace"}
        with (home / "log").open("w") as own_log:
            self.process = subprocess.Popen(serve, stderr=own_log, env=environment)
        deadline = time.monotonic() + 60
        while "brevet listens" not in (home / "log").read_text():
            assert self.process.poll() is None and time.monotonic() < deadline, (home / "log").read_text()
            time.sleep(0.05)

    def bring_in(self, directory):
        file = self.home / "directory.json"
        file.write_text(json.dumps(directory))
        file.chmod(0o600)
        command = [BREVET, "import", "--config", str(self.configuration), str(file), "--apply"]
        done = subprocess.run(command, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr

    def sts(self, credentials=None):
        more = {"config": NO_RETRY.merge(botocore.config.Config(signature_version=botocore.UNSIGNED))}
        if credentials:
            more = {
                "aws_access_key_id": credentials["AccessKeyId"],
                "aws_secret_access_key": credentials["SecretAccessKey"],
                "aws_session_token": credentials["SessionToken"],
                "config": NO_RETRY,
            }
        return boto3.client("sts", endpoint_url=self.url, region_name="us-east-1", **more)

    def assume(self, role, provider, response, **more):
        arns = {"RoleArn": arn("role", role), "PrincipalArn": arn("saml-provider", provider)}
        return self.sts().assume_role_with_saml(**arns, SAMLAssertion=response, **more)

    def eventually(self, call):
        """The answer, once the broker has followed the import."""
        deadline = time.monotonic() + 60
        while True:
            try:
                return call()
            except botocore.exceptions.ClientError as error:
                if time.monotonic() > deadline:
                    raise AssertionError(self.log()[-2_000:]) from error
                time.sleep(0.2)

    def log(self):
        """The audit log and the broker's own, with everything that it says."""
        return (self.home / "audit.jsonl").read_text() + (self.home / "log").read_text()

    def tells_nothing_of(self, response):
        """No log has a part of a response: its base64, from wherever it is cut off, its signature, its XML."""
        log, xml = self.log(), base64.b64decode(response).decode()
        parts = [response[at : at + 64] for at in range(0, len(response) - 64, 64)]
        for text in re.findall(r"<(?:\w+:)?(?:SignatureValue|DigestValue)>([^<]+)<", xml):
            parts += [line for line in text.split() if len(line) > 40]
        parts += ["<saml", "<ns0", "AttributeValue"]
        for part in parts:
            assert part not in log, part

    def stop(self):
        self.process.terminate()
        assert self.process.wait(15) == 0


@pytest.fixture(scope="module")
def broker(idps, tmp_path_factory):
    broker = Broker(tmp_path_factory.mktemp("saml") / "home")
    providers = [
        {"Arn": arn("saml-provider", name), "SAMLMetadataDocument": idp.metadata()} for name, idp in idps.items()
    ]
    roles = [
        trusting(name.capitalize(), name, {"StringEquals": {"SAML:aud": ACS, "SAML:sub": "alice"}}) for name in idps
    ]
    broker.bring_in({"RoleDetailList": roles, "Brevet": {"SAMLProviders": providers}})
    for name, idp in idps.items():
        broker.eventually(lambda: broker.assume(name.capitalize(), name, idp.sign_in()))
    yield broker
    broker.stop()


@pytest.mark.parametrize("sign", ["assertion", "response", "both"])
@pytest.mark.parametrize("name", ["pysaml2", "samlp"])
def test_boto3_signs_in(broker, idps, name, sign):
    response = idps[name].sign_in(sign=sign)
    answer = broker.assume(name.capitalize(), name, response)
    assert answer["Subject"] == "alice" and answer["SubjectType"] == "persistent"
    assert answer["Issuer"] == idps[name].entity_id and answer["Audience"] == ACS
    assert len(base64.b64decode(answer["NameQualifier"])) == 20
    who = broker.sts(answer["Credentials"]).get_caller_identity()
    assert who["Arn"] == f"arn:aws:sts::{ACCOUNT}:assumed-role/{name.capitalize()}/alice@example.com"
    broker.tells_nothing_of(response)


@pytest.mark.parametrize("name", ["pysaml2", "samlp"])
def test_the_cli_signs_in(broker, idps, name, tmp_path):
    file = tmp_path / "response"
    file.write_text(idps[name].sign_in())
    environment = {"AWS_ENDPOINT_URL_STS": broker.url, "AWS_REGION": "us-east-1", "AWS_DEFAULT_REGION": "us-east-1"}
    environment |= {"AWS_CONFIG_FILE": "/dev/null", "AWS_SHARED_CREDENTIALS_FILE": "/dev/null", "HOME": str(tmp_path)}
    arns = ["--role-arn", arn("role", name.capitalize()), "--principal-arn", arn("saml-provider", name)]
    command = aws("assume-role-with-saml", *arns, "--saml-assertion", f"file://{file}", "--duration-seconds", "900")
    credentials = json.loads(run(command, environment))["Credentials"]
    keys = {
        "AWS_ACCESS_KEY_ID": credentials["AccessKeyId"],
        "AWS_SECRET_ACCESS_KEY": credentials["SecretAccessKey"],
        "AWS_SESSION_TOKEN": credentials["SessionToken"],
    }
    who = json.loads(run(aws("get-caller-identity"), environment | keys))
    assert who["Arn"].endswith(f":assumed-role/{name.capitalize()}/alice@example.com")
    again = run(command, environment, expect=255)
    assert "(IDPRejectedClaim)" in again and "already" in again, again


def tampered(response, old, new):
    text = base64.b64decode(response).decode()
    assert old in text
    return base64.b64encode(text.replace(old, new).encode()).decode()


@pytest.mark.parametrize("name", ["pysaml2", "samlp"])
def test_what_is_refused(broker, idps, name):
    idp, role = idps[name], name.capitalize()
    other = {"pysaml2": "samlp", "samlp": "pysaml2"}[name]

    shown = []

    def code(response, role=role, provider=name):
        shown.append(response)
        return refused(lambda: broker.assume(role, provider, response))

    invalid = ("InvalidIdentityToken", 400)
    used = idp.sign_in()
    broker.assume(role, name, used)
    assert code(used) == ("IDPRejectedClaim", 403)
    if name == "samlp":
        assert code(idp.sign_in(audience="https://other.example.com")) == invalid
    assert code(tampered(idp.sign_in("mallory"), ">mallory<", ">alice<")) == invalid
    assert code(tampered(idp.sign_in(), "@example.com", "@evil.example.com")) == invalid
    unsigned = base64.b64decode(idp.sign_in()).decode()
    unsigned = re.sub(r"<((?:\w+:)?)Signature[ >].*?</\1Signature>", "", unsigned, flags=re.DOTALL)
    assert code(base64.b64encode(unsigned.encode()).decode()) == invalid
    # Somebody else, another role, another provider.
    assert code(idp.sign_in("mallory")) == ("AccessDenied", 403)
    assert code(idp.sign_in(roles=[f"{arn('role', 'Other')},{arn('saml-provider', name)}"])) == ("AccessDenied", 403)
    assert code(idp.sign_in(), provider=other)[0] in ("InvalidIdentityToken", "AccessDenied")
    assert code(idp.sign_in(), role=other.capitalize()) == ("AccessDenied", 403)
    assert len(shown) > 6
    for response in shown:
        broker.tells_nothing_of(response)


def test_a_demo_broker_takes_what_was_made_for_aws(world, idps):
    """So that an identity provider that is set up for AWS can be tried, with one that an administrator puts in."""
    name, provider = "pysaml2", arn("saml-provider", "pysaml2")
    assert world["account_id"] == ACCOUNT
    client = iam(world)
    made = client.create_saml_provider(Name=name, SAMLMetadataDocument=idps[name].metadata() + " " * 1_000)
    assert made["SAMLProviderArn"] == provider
    aws_url = "https://signin.aws.amazon.com/saml"
    trusts = trusting("Pysaml2", name, {"StringEquals": {"SAML:aud": aws_url}})["AssumeRolePolicyDocument"]
    client.create_role(RoleName="Pysaml2", AssumeRolePolicyDocument=json.dumps(trusts))
    anonymous = NO_RETRY.merge(botocore.config.Config(signature_version=botocore.UNSIGNED))
    sts = boto3.client("sts", endpoint_url=world["sts_endpoint"], region_name=world["region"], config=anonymous)

    def assume(audience, recipient):
        response = idps[name].sign_in(audience=audience, recipient=recipient)
        arns = {"RoleArn": arn("role", "Pysaml2"), "PrincipalArn": provider}
        return sts.assume_role_with_saml(**arns, SAMLAssertion=response)

    answer = assume("urn:amazon:webservices", aws_url)
    assert (answer["Subject"], answer["Audience"]) == ("alice", aws_url)
    # Neither of the two is enough, and nobody else's will do.
    for audience, recipient in [(SP, aws_url), ("urn:amazon:webservices", ACS), ("urn:other", aws_url)]:
        assert refused(lambda a=audience, r=recipient: assume(a, r)) == ("InvalidIdentityToken", 400)
    client.delete_role(RoleName="Pysaml2")
    client.delete_saml_provider(SAMLProviderArn=provider)


@pytest.mark.parametrize("name", ["pysaml2", "samlp"])
def test_an_operator_looks_into_a_response(idps, name, tmp_path):
    (tmp_path / "metadata.xml").write_text(idps[name].metadata())
    (tmp_path / "response").write_text(idps[name].sign_in())
    here = ["--audience", SP, "--recipient", ACS]
    arns = ["--role-arn", arn("role", name.capitalize()), "--provider-arn", arn("saml-provider", name)]
    command = [BREVET, "saml", "inspect", "--metadata", str(tmp_path / "metadata.xml"), str(tmp_path / "response")]
    done = subprocess.run([*command, *here, *arns], capture_output=True, text=True)
    assert done.returncode == 0 and done.stdout.endswith("accepted\n"), done.stdout + done.stderr
    done = subprocess.run([*command, *arns, "--audience", "urn:amazon:webservices"], capture_output=True, text=True)
    assert done.returncode == 1 and SP in done.stdout and ACS in done.stdout, done.stdout
