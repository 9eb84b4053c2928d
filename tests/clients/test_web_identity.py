"""Web identity tokens, checked as a relying party does: discovery, key set, an independent library."""

import json
import time
import urllib.request

import jwt
import pytest
from test_boto3 import refused, role, session, sts


def discovered(world):
    with urllib.request.urlopen(world["sts_endpoint"] + "/.well-known/openid-configuration") as answer:
        return json.load(answer)


@pytest.mark.parametrize("algorithm", ["ES384", "RS256", "ES256", "EdDSA"])
def test_a_relying_party_knows_a_session(world, algorithm):
    deadline = time.monotonic() + 60
    while algorithm not in discovered(world)["id_token_signing_alg_values_supported"]:
        assert time.monotonic() < deadline
        time.sleep(0.1)
    credentials = sts(world).assume_role(
        RoleArn=role(world, "Deploy"), RoleSessionName="job", SourceIdentity="alice", Tags=[{"Key": "Team", "Value": "blue"}]
    )["Credentials"]
    answer = session(world, credentials).get_web_identity_token(
        Audience=["https://relying.example"], SigningAlgorithm=algorithm, Tags=[{"Key": "Build", "Value": "7"}]
    )
    provider = discovered(world)
    keys = jwt.PyJWKClient(provider["jwks_uri"])
    key = keys.get_signing_key_from_jwt(answer["WebIdentityToken"]).key
    claims = jwt.decode(
        answer["WebIdentityToken"],
        key,
        algorithms=[algorithm],
        audience="https://relying.example",
        issuer=provider["issuer"],
        options={"require": ["exp", "iat", "sub", "aud", "iss", "jti"]},
    )
    assert claims["sub"] == role(world, "Deploy") and claims["exp"] - claims["iat"] == 300
    own = claims["https://sts.amazonaws.com/"]
    assert own["aws_account"] == world["account_id"] and own["source_identity"] == "alice"
    assert own["principal_tags"] == {"Team": "blue"} and own["request_tags"] == {"Build": "7"}
    assert answer["WebIdentityToken"] not in world["audit"].read_text()


def test_what_is_refused(world):
    ask = dict(Audience=["a"], SigningAlgorithm="ES384")
    assert refused(lambda: sts(world, user="bob").get_web_identity_token(**ask)) == ("AccessDenied", 403)
    assert refused(lambda: sts(world).get_web_identity_token(**{**ask, "SigningAlgorithm": "HS256"})) == ("ValidationError", 400)
    assert refused(lambda: sts(world).get_web_identity_token(**ask, DurationSeconds=3601)) == ("ValidationError", 400)
    short = sts(world).assume_role(RoleArn=role(world, "Deploy"), RoleSessionName="short", DurationSeconds=900)
    client = session(world, short["Credentials"])
    assert refused(lambda: client.get_web_identity_token(**ask, DurationSeconds=901)) == (
        "SessionDurationEscalationException",
        403,
    )
    tags = [{"Key": f"key{n}", "Value": "x" * 256} for n in range(50)]
    assert refused(lambda: sts(world).get_web_identity_token(**ask, Tags=tags)) == ("JWTPayloadSizeExceededException", 400)
    own = sts(world).get_session_token()["Credentials"]
    assert refused(lambda: session(world, own).get_web_identity_token(**ask)) == ("AccessDenied", 403)
