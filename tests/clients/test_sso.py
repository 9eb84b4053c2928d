"""A program signs in through AWS's own APIs, `sso-oidc` and `sso`, by botocore's unmodified clients. The person at
the browser is a script that fills in the forms of the pages."""

import html
import re
import subprocess
import time
from urllib.parse import urlencode, urljoin

import boto3
import pytest
import urllib3
from botocore import UNSIGNED
from botocore.config import Config
from botocore.exceptions import ClientError

DEVICE = "urn:ietf:params:oauth:grant-type:device_code"


class Browser:
    """Keeps cookies, follows redirects and posts forms with their hidden fields."""

    def __init__(self, origin):
        self.origin, self.cookies, self.pool = origin, {}, urllib3.PoolManager()
        self.url, self.text = origin, ""

    def go(self, path, form=None):
        method, url = ("GET" if form is None else "POST"), urljoin(self.url, path)
        for _ in range(5):
            headers = {"Cookie": "; ".join(f"{name}={value}" for name, value in self.cookies.items())}
            body = None
            if form is not None:
                body, headers["Content-Type"] = urlencode(form), "application/x-www-form-urlencoded"
            answer = self.pool.request(method, url, headers=headers, body=body, redirect=False)
            for cookie in answer.headers.getlist("set-cookie"):
                name, _, value = cookie.partition(";")[0].partition("=")
                self.cookies[name] = value
            self.url, self.text = url, answer.data.decode()
            if answer.status not in (302, 303):
                return answer.status
            method, form, url = "GET", None, urljoin(url, answer.headers["location"])
        raise AssertionError("too many redirects")

    def submit(self, action, **fields):
        for attributes, inner in re.findall(r"<form(.*?)>(.*?)</form>", self.text, re.S):
            if f'action="{action}"' in attributes:
                hidden = re.findall(r'name="(\w+)" value="([^"]*)"', inner)
                return self.go(action, {name: html.unescape(value) for name, value in hidden} | fields)
        raise AssertionError(f"no form for {action} on {self.url}: {self.text}")

    def heading(self):
        return re.search("<h1>(.*?)</h1>", self.text, re.S)[1]


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

    browser = Browser(sso["portal_url"])
    assert browser.go(device["verificationUriComplete"]) == 200 and browser.heading() == "Sign in"
    browser.submit("/sign-in", account=sso["account_id"], user_name="alice", password=alice["password"])
    assert browser.heading() == "Enter your code"
    seed = ["oathtool", "--totp", "--base32", alice["mfa_seed"]]
    browser.submit("/sign-in/code", code=subprocess.run(seed, capture_output=True, text=True, check=True).stdout.strip())
    assert browser.heading() == "Connect a device", browser.text
    browser.submit("/device", code=device["userCode"].lower().replace("-", " "))
    assert device["userCode"] in browser.text
    with pytest.raises(oidc.exceptions.AuthorizationPendingException):
        time.sleep(1.1)
        oidc.create_token(**asked)
    browser.submit("/device/decide", decision="allow")
    assert browser.heading() == "Allowed", browser.text

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
    browser.go("/portal")
    browser.submit("/sign-out")
    assert browser.heading() == "You are signed out"
    with pytest.raises(ClientError) as refused:
        sts.get_caller_identity()
    assert code_of(refused) in ("InvalidClientTokenId", "ExpiredToken")
    with pytest.raises(portal.exceptions.UnauthorizedException):
        portal.list_accounts(**bearer)
    with pytest.raises(oidc.exceptions.InvalidGrantException):
        oidc.create_token(**own, grantType="refresh_token", refreshToken=fresh["refreshToken"])
