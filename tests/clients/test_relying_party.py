"""Libraries that services use to check tokens, with Brevet's key set; and a service that asks by AuthZEN."""

import base64
import json
import urllib.error
import urllib.request

import jwt
import pytest
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from jose import jwt as jose
from jwcrypto import jwk
from jwcrypto import jwt as jwcrypto_jwt
from test_boto3 import sts
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
