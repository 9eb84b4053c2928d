"""Libraries that services use to check tokens, with Brevet's key set; and services that ask, by AuthZEN and by gRPC."""

import base64
import json
import threading
import urllib.error
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import boto3
import grpc
import jwt
import pytest
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.config import Config
from botocore.credentials import Credentials
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from jose import jwt as jose
from jwcrypto import jwk
from jwcrypto import jwt as jwcrypto_jwt
from test_boto3 import sts
from test_contract import example
from test_web_identity import discovered

AUDIENCE = "https://relying.example"


@pytest.fixture(scope="module")
def keys(world):
    with urllib.request.urlopen(discovered(world)["jwks_uri"]) as answer:
        return json.load(answer)


def token(world, algorithm):
    answer = sts(world).get_web_identity_token(Audience=[AUDIENCE], SigningAlgorithm=algorithm)
    return answer["WebIdentityToken"]


@pytest.mark.parametrize("algorithm", ["ES256", "ES384"])
def test_three_libraries_check_a_token(world, keys, algorithm):
    text = token(world, algorithm)
    issuer = discovered(world)["issuer"]
    claims = jose.decode(text, keys, algorithms=[algorithm], audience=AUDIENCE, issuer=issuer)
    assert claims["sub"].endswith(":user/alice") and claims["nbf"] == claims["iat"]
    checked = jwcrypto_jwt.JWT(jwt=text, key=jwk.JWKSet.from_json(json.dumps(keys)), algs=[algorithm])
    assert json.loads(checked.claims) == claims
    kid = jwt.get_unverified_header(text)["kid"]
    (key,) = [key for key in keys["keys"] if key["kid"] == kid]
    assert jwt.decode(text, jwt.PyJWK(key).key, algorithms=[algorithm], audience=AUDIENCE) == claims
    # A token for one service is none for another, and an altered one is none at all.
    with pytest.raises(jwt.InvalidAudienceError):
        jwt.decode(text, jwt.PyJWK(key).key, algorithms=[algorithm], audience="https://other.example")
    with pytest.raises(jwt.InvalidSignatureError):
        jwt.decode(text[:-8] + "AAAAAAAA", jwt.PyJWK(key).key, algorithms=[algorithm], audience=AUDIENCE)


def test_the_certificate_of_a_key_has_that_key(keys):
    for key in keys["keys"]:
        (der,) = key["x5c"]
        certificate = x509.load_der_x509_certificate(base64.b64decode(der))
        assert certificate.subject == certificate.issuer
        # It is signed by its own key, which is the key of the set.
        certificate.verify_directly_issued_by(certificate)
        encoding, form = serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
        published = jwt.PyJWK(key).key.public_bytes(encoding, form)
        assert certificate.public_key().public_bytes(encoding, form) == published
    # Some services read the first key only: it is one that signs.
    assert keys["keys"][0]["alg"] in ("RS256", "ES256")


def ask(world, question, user="alice"):
    """A service signs its question with botocore."""
    url = world["sts_endpoint"] + "/access/v1/evaluation"
    own = world["users"][user]
    request = AWSRequest("POST", url, {"Content-Type": "application/json", "X-Request-ID": "7"}, json.dumps(question))
    credentials = Credentials(own["access_key_id"], own["secret_access_key"])
    SigV4Auth(credentials, "sts", world["region"]).add_auth(request)
    body = json.dumps(question).encode()
    signed = urllib.request.Request(url, body, dict(request.headers), method="POST")
    try:
        with urllib.request.urlopen(signed) as answer:
            assert answer.headers["X-Request-ID"] == "7"
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)


def test_a_service_asks_by_authzen(world):
    question = {
        "subject": {"type": "user", "id": "alice"},
        "action": {"name": "Read"},
        "resource": {"type": "photos", "id": "album/1"},
    }
    status, answer = ask(world, question)
    # The demo's alice may administer, which is no permission for photos.
    assert (status, answer["decision"], answer["context"]["code"]) == (200, False, "ImplicitDeny")
    assert ask(world, question, user="bob")[0] == 403
    assert ask(world, {**question, "action": {}})[0] == 400
    made = sts(world).assume_role(RoleArn=f"arn:aws:iam::{world['account_id']}:role/Deploy", RoleSessionName="asked")["Credentials"]
    session = {"type": "session", "id": made["AccessKeyId"], "properties": {"session_token": made["SessionToken"]}}
    status, answer = ask(world, {**question, "subject": session})
    assert status == 200 and "expires_at" in answer["context"]


@pytest.fixture
def service():
    """A server that keeps the requests that it gets. Returns its address and the requests."""
    got = []

    class Keeps(BaseHTTPRequestHandler):
        def do_GET(self):
            body = self.rfile.read(int(self.headers.get("content-length") or 0))
            got.append((self.command, self.path, list(self.headers.items()), body))
            self.send_response(200)
            self.send_header("content-length", "0")
            self.end_headers()

        do_PUT = do_POST = do_GET

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Keeps)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"127.0.0.1:{server.server_port}", got
    server.shutdown()


def verified(world, monkeypatch, received, host, name):
    """The broker's answer about a request that a service received, which the service asks for by gRPC."""
    relying = grpc.protos("brevet/relying/v1/relying.proto")
    method, uri, headers, body = received
    sent = [relying.Header(name=key.lower(), value=value.encode()) for key, value in headers]
    request = relying.VerifyRequestRequest(request=relying.SignedRequest(method=method, uri=uri, headers=sent, body=body), expected=relying.ExpectedRequest(service=name, hosts=[host]))
    own, address = world["users"]["alice"], world["grpc_endpoint"].removeprefix("http://")
    monkeypatch.setattr(example, "SERVICE", "brevet.relying.v1.Relying")
    with grpc.insecure_channel(address) as channel:
        return example.call(channel, address, "VerifyRequest", request, relying.VerifyRequestResponse, Credentials(own["access_key_id"], own["secret_access_key"]))


def test_a_service_asks_whose_a_request_is_that_botocore_signed(world, monkeypatch, service):
    host, got = service
    made = sts(world).assume_role(RoleArn=f"arn:aws:iam::{world['account_id']}:role/Deploy", RoleSessionName="shown")["Credentials"]
    key = Credentials(made["AccessKeyId"], made["SecretAccessKey"], made["SessionToken"])
    request = AWSRequest("POST", f"http://{host}/albums/summer%202026?page=2", {"Content-Type": "application/json"}, b'{"a": 1}')
    SigV4Auth(key, "photos", "eu-north-1").add_auth(request)
    urllib.request.urlopen(urllib.request.Request(request.url, request.body, dict(request.headers), method="POST"))
    answer = verified(world, monkeypatch, got[0], host, "photos")
    assert answer.signer.role_arn.endswith(":role/Deploy") and answer.signer.region == "eu-north-1", answer
    assert answer.signer.session.session_name == "shown"
    method, uri, headers, body = got[0]
    assert verified(world, monkeypatch, (method, uri, headers, body + b" "), host, "photos").refused.code == "SignatureDoesNotMatch"
    assert verified(world, monkeypatch, got[0], "photos.example.com", "photos").refused.code == "SignatureDoesNotMatch"
    # boto3's client of S3, whose signatures have another form.
    s3 = boto3.client("s3", endpoint_url=f"http://{host}", region_name="us-east-1", aws_access_key_id=key.access_key, aws_secret_access_key=key.secret_key,
                      aws_session_token=key.token, config=Config(s3={"addressing_style": "path"}, request_checksum_calculation="when_required"))
    s3.put_object(Bucket="albums", Key="summer 2026+a", Body=b"bytes")
    method, uri, headers, body = got[1]
    answer = verified(world, monkeypatch, got[1], host, "s3")
    assert answer.signer.session.session_name == "shown" and len(answer.signer.declared_payload) == 64, answer
    assert verified(world, monkeypatch, (method, uri, headers, body + b" "), host, "s3").refused.code == "BadDigest"
    assert verified(world, monkeypatch, (method, uri + "x", headers, body), host, "s3").refused.code == "SignatureDoesNotMatch"
    assert verified(world, monkeypatch, got[1], host, "photos").refused.code != "", "a request for S3 is none for another service"
