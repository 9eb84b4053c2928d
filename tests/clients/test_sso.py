"""A program signs in through AWS's own APIs, `sso-oidc` and `sso`, by unmodified clients and SDKs. The person at
the browser is a script that fills in the forms of the pages."""

import base64
import datetime
import hashlib
import json
import os
import re
import secrets
import subprocess
import sys
import time
from pathlib import Path
from urllib.parse import parse_qs, urlencode, urlsplit

import boto3
import pytest
from botocore import UNSIGNED
from botocore.config import Config
from botocore.exceptions import ClientError
from person import Browser

DEVICE = "urn:ietf:params:oauth:grant-type:device_code"


def code_of(error):
    return error.value.response["Error"]["Code"]


@pytest.fixture
def unsigned(world):
    def client(service, endpoint):
        return boto3.client(
            service, endpoint_url=world["sso"][endpoint], region_name="us-east-1", config=Config(signature_version=UNSIGNED)
        )

    return client("sso-oidc", "oidc_endpoint"), client("sso", "portal_endpoint")


def test_a_device_gets_the_credentials_that_a_person_allows_until_the_sign_out(world, unsigned):
    oidc, portal = unsigned
    sso, alice = world["sso"], world["users"]["alice"]
    own = oidc.register_client(clientName="a program", clientType="public", scopes=["sso:account:access"])
    own = {name: own[name] for name in ("clientId", "clientSecret")}
    device = oidc.start_device_authorization(**own, startUrl=sso["start_url"])
    assert re.fullmatch("[A-HJ-NP-Z2-9]{4}-[A-HJ-NP-Z2-9]{4}", device["userCode"])
    asked = own | {"grantType": DEVICE, "deviceCode": device["deviceCode"]}
    with pytest.raises(oidc.exceptions.AuthorizationPendingException):
        oidc.create_token(**asked)

    browser = Browser().open(device["verificationUriComplete"])
    assert browser.status == 200 and browser.heading() == "Sign in"
    browser.sign_in(sso["account_id"], "alice", alice["password"])
    assert browser.heading() == "Enter your code"
    seed = ["oathtool", "--totp", "--base32", alice["mfa_seed"]]
    browser.submit("/sign-in/code", code=subprocess.run(seed, capture_output=True, text=True, check=True).stdout.strip())
    assert browser.heading() == "Connect a device", browser.page
    browser.submit("/device", code=device["userCode"].lower().replace("-", " "))
    assert device["userCode"] in browser.page
    with pytest.raises(oidc.exceptions.AuthorizationPendingException):
        time.sleep(1.1)
        oidc.create_token(**asked)
    browser.submit("/device/decide", decision="allow")
    assert browser.heading() == "Allowed", browser.page

    time.sleep(1.1)
    token = oidc.create_token(**asked)
    assert (token["tokenType"], token["expiresIn"]) == ("Bearer", 3600)
    with pytest.raises(oidc.exceptions.InvalidGrantException):
        oidc.create_token(**asked)
    fresh = oidc.create_token(**own, grantType="refresh_token", refreshToken=token["refreshToken"])
    assert fresh["refreshToken"] != token["refreshToken"]

    bearer = {"accessToken": fresh["accessToken"]}
    assert [account["accountId"] for account in portal.list_accounts(**bearer)["accountList"]] == [sso["account_id"]]
    roles = portal.list_account_roles(**bearer, accountId=sso["account_id"])["roleList"]
    assert sso["role_name"] in [role["roleName"] for role in roles]
    wanted = {"accountId": sso["account_id"], "roleName": sso["role_name"]}
    keys = portal.get_role_credentials(**bearer, **wanted)["roleCredentials"]
    sts = boto3.client(
        "sts",
        endpoint_url=sso["oidc_endpoint"],
        region_name="us-east-1",
        aws_access_key_id=keys["accessKeyId"],
        aws_secret_access_key=keys["secretAccessKey"],
        aws_session_token=keys["sessionToken"],
    )
    assert sts.get_caller_identity()["Arn"].endswith(f"assumed-role/{sso['role_name']}/alice")
    with pytest.raises(ClientError) as refused:
        portal.get_role_credentials(**bearer, accountId=sso["account_id"], roleName="Nobody")
    assert code_of(refused) == "ForbiddenException"

    # Signing out ends the tokens, and what came from the sign-in.
    browser.open(sso["portal_url"])
    browser.submit("/sign-out")
    assert browser.heading() == "You are signed out"
    with pytest.raises(ClientError) as refused:
        sts.get_caller_identity()
    assert code_of(refused) in ("InvalidClientTokenId", "ExpiredToken")
    with pytest.raises(portal.exceptions.UnauthorizedException):
        portal.list_accounts(**bearer)
    with pytest.raises(oidc.exceptions.InvalidGrantException):
        oidc.create_token(**own, grantType="refresh_token", refreshToken=fresh["refreshToken"])


CALLBACK = "http://127.0.0.1/oauth/callback"
CONFIG = """[sso-session work]
sso_start_url = https://work.awsapps.com/start
sso_region = us-east-1
sso_registration_scopes = sso:account:access
[profile dev]
sso_session = work
sso_account_id = {account_id}
sso_role_name = {role_name}
region = us-east-1
"""
BOTO3 = "import boto3; print(boto3.client('sts').get_caller_identity()['Arn'])"
SDKS = {"boto3": [sys.executable, "-c", BOTO3], "JavaScript": ["node", str(Path(__file__).parent / "js/who.mjs"), "sso"]}


def by_code(oidc, browser, sso, user):
    """A program gets its tokens by the code flow: it listens on this machine, and the browser comes there."""
    grants = ["authorization_code", "refresh_token"]
    own = oidc.register_client(
        clientName="a program", clientType="public", scopes=["sso:account:access"], grantTypes=grants, redirectUris=[CALLBACK],
        issuerUrl=sso["start_url"],
    )
    verifier, state, back = secrets.token_urlsafe(48), secrets.token_urlsafe(16), CALLBACK.replace("127.0.0.1", "127.0.0.1:9")
    challenge = base64.urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).rstrip(b"=").decode()
    asked = {
        "response_type": "code", "client_id": own["clientId"], "redirect_uri": back, "state": state,
        "code_challenge_method": "S256", "code_challenge": challenge, "scopes": "sso:account:access",
    }
    browser.open(f"{sso['oidc_endpoint']}/authorize?{urlencode(asked)}").sign_in(sso["account_id"], *user)
    browser.program = back
    browser.allow()
    answer = {name: values[0] for name, values in parse_qs(urlsplit(browser.sent_to).query).items()}
    assert answer["state"] == state
    own = {name: own[name] for name in ("clientId", "clientSecret", "clientSecretExpiresAt")}
    expires = own.pop("clientSecretExpiresAt")
    redeem = {**own, "grantType": "authorization_code", "code": answer["code"], "redirectUri": back}
    return own, expires, oidc.create_token(**redeem, codeVerifier=verifier)


def test_sdks_use_what_a_sign_in_left_and_refresh_it(world, unsigned, tmp_path):
    oidc, _ = unsigned
    sso, alice, bob = world["sso"], world["users"]["alice"], world["users"]["bob"]
    keys = {"aws_access_key_id": alice["access_key_id"], "aws_secret_access_key": alice["secret_access_key"]}
    iam = boto3.client("iam", endpoint_url=world["iam_endpoint"], region_name="us-east-1", **keys)
    policy = {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "sts:AssumeRole", "Resource": "*"}]}
    iam.put_user_policy(UserName="bob", PolicyName="assume", PolicyDocument=json.dumps(policy))
    own, expires, token = by_code(oidc, Browser(), sso, ("bob", bob["password"]))

    # What `aws sso login` writes.
    cache = tmp_path / ".aws/sso/cache" / f"{hashlib.sha1(b'work').hexdigest()}.json"
    cache.parent.mkdir(parents=True)
    (tmp_path / ".aws/config").write_text(CONFIG.format(**sso))
    time_of = lambda at: at.strftime("%Y-%m-%dT%H:%M:%SZ")
    now = datetime.datetime.now(datetime.timezone.utc)

    def write(held, lasts):
        cache.write_text(json.dumps({**held, "expiresAt": time_of(now + datetime.timedelta(seconds=lasts))}))

    held = {
        "startUrl": sso["start_url"], "region": "us-east-1", "accessToken": token["accessToken"], **own,
        "registrationExpiresAt": time_of(datetime.datetime.fromtimestamp(expires, datetime.timezone.utc)),
        "refreshToken": token["refreshToken"],
    }
    write(held, token["expiresIn"])
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(tmp_path),
        "AWS_PROFILE": "dev",
        "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_ENDPOINT_URL_STS": world["sts_endpoint"],
        "AWS_ENDPOINT_URL_SSO": sso["portal_endpoint"],
        "AWS_ENDPOINT_URL_SSO_OIDC": sso["oidc_endpoint"],
    }

    def arn(sdk):
        done = subprocess.run(SDKS[sdk], env=environment, capture_output=True, text=True, timeout=60)
        return done.stdout.strip() or done.stderr

    for sdk in SDKS:
        assert arn(sdk).endswith(f":assumed-role/{sso['role_name']}/bob"), sdk
        assert json.loads(cache.read_text())["accessToken"] == held["accessToken"], sdk
        # Each refreshes the token before its end, and leaves the new one for the next.
        write(held, 240)
        assert arn(sdk).endswith(f":assumed-role/{sso['role_name']}/bob"), sdk
        fresh = json.loads(cache.read_text())
        for name in ("accessToken", "refreshToken"):
            assert fresh[name] != held[name], (sdk, name)
        held = fresh
