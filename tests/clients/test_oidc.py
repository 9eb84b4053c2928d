"""Logins by identity providers that we did not write, carried by boto3's own web-identity provider."""

import datetime
import http.cookiejar
import json
import os
import re
import socket
import subprocess
import time
import urllib.parse
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import boto3
import botocore.session
import jwt
import pytest
from conftest import BREVET
from test_boto3 import NO_RETRY, refused

JS = Path(__file__).parent / "js"
ACCOUNT = "111122223333"


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def start(kind):
    port = free_port()
    process = subprocess.Popen(["node", "idp.mjs", kind, str(port)], cwd=JS, stdout=subprocess.PIPE, text=True)
    line = ""
    while not line.startswith("http://"):
        line = process.stdout.readline()
        assert line, f"{kind} did not start"
    return process, line.strip()


@pytest.fixture(scope="module")
def idps():
    started = {kind: start(kind) for kind in ("oidc-provider", "mock")}
    yield {kind: url for kind, (_, url) in started.items()}
    for process, _ in started.values():
        process.terminate()
        process.wait(10)


@pytest.fixture(scope="module")
def broker(idps, tmp_path_factory):
    home = tmp_path_factory.mktemp("oidc")

    def provider(url, client):
        host = url.removeprefix("http://")
        return {"Arn": f"arn:aws:iam::{ACCOUNT}:oidc-provider/{host}", "Url": url, "ClientIDList": [client]}

    def role(name, number, url, subject):
        host = url.removeprefix("http://")
        return {
            "RoleName": name,
            "RoleId": f"AROAOIDCOIDCOIDCOID{number}",
            "Arn": f"arn:aws:iam::{ACCOUNT}:role/{name}",
            "AssumeRolePolicyDocument": {
                "Version": "2012-10-17",
                "Statement": [
                    {
                        "Effect": "Allow",
                        "Principal": {"Federated": f"arn:aws:iam::{ACCOUNT}:oidc-provider/{host}"},
                        "Action": "sts:AssumeRoleWithWebIdentity",
                        "Condition": {"StringEquals": {f"{host}:sub": subject}},
                    }
                ],
            },
        }

    directory = {
        "RoleDetailList": [
            {**role("People", 1, idps["oidc-provider"], "alice"), "RolePolicyList": [{"PolicyName": "vouch", "PolicyDocument": {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "sts:GetWebIdentityToken", "Resource": "*"}]}}]},
            role("Ci", 2, idps["mock"], "repo:octo/app:ref:refs/heads/main"),
        ],
        "Brevet": {
            "Accounts": [{"AccountId": ACCOUNT}],
            "OpenIDConnectProviders": [
                provider(idps["oidc-provider"], "brevet"),
                provider(idps["mock"], "sts.amazonaws.com"),
            ],
        },
    }
    (home / "directory.json").write_text(json.dumps(directory))
    (home / "directory.json").chmod(0o600)
    world = home / "world.json"
    arguments = ["--listen", "127.0.0.1:0", "--directory", str(home / "directory.json"), "--world", str(world)]
    process = subprocess.Popen(
        [BREVET, "serve", "--dev", *arguments, "--audit", str(home / "audit.jsonl")], stdout=subprocess.DEVNULL
    )
    deadline = time.monotonic() + 60
    while not world.exists():
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.01)
    yield {**json.loads(world.read_text()), "audit": home / "audit.jsonl"}
    process.terminate()
    assert process.wait(15) == 0


def sign_in(issuer, who="alice"):
    """A browser's way through the authorization code flow: log in, consent, and change the code for a token."""

    class Stop(urllib.request.HTTPRedirectHandler):
        def redirect_request(self, request, file, code, message, headers, url):
            if url.startswith("http://127.0.0.1:9/"):
                return None
            return super().redirect_request(request, file, code, message, headers, url)

    browser = urllib.request.build_opener(urllib.request.HTTPCookieProcessor(http.cookiejar.CookieJar()), Stop())
    with urllib.request.urlopen(issuer + "/.well-known/openid-configuration") as answer:
        discovery = json.load(answer)
    query = urllib.parse.urlencode(
        dict(
            client_id="brevet",
            response_type="code",
            scope="openid",
            redirect_uri="http://127.0.0.1:9/callback",
            state="s",
            nonce="n",
        )
    )
    page = browser.open(f"{discovery['authorization_endpoint']}?{query}")
    for _ in range(3):
        html = page.read().decode()
        action = re.search(r'action="([^"]+)"', html).group(1)
        prompt = re.search(r'name="prompt" value="(\w+)"', html).group(1)
        fields = dict(prompt=prompt, login=who, password="any")
        try:
            page = browser.open(urllib.parse.urljoin(issuer, action), urllib.parse.urlencode(fields).encode())
        except urllib.error.HTTPError as stopped:
            location = stopped.headers["location"]
            break
    code = urllib.parse.parse_qs(urllib.parse.urlparse(location).query)["code"][0]
    form = dict(
        grant_type="authorization_code",
        code=code,
        redirect_uri="http://127.0.0.1:9/callback",
        client_id="brevet",
        client_secret="a-client-secret",
    )
    with urllib.request.urlopen(discovery["token_endpoint"], urllib.parse.urlencode(form).encode()) as answer:
        return json.load(answer)


def unsigned(broker):
    return boto3.client(
        "sts",
        endpoint_url=broker["sts_endpoint"],
        region_name="us-east-1",
        config=NO_RETRY.merge(botocore.config.Config(signature_version=botocore.UNSIGNED)),
    )


def assume(broker, token, role="People", **more):
    return unsigned(broker).assume_role_with_web_identity(
        RoleArn=f"arn:aws:iam::{ACCOUNT}:role/{role}", RoleSessionName="web", WebIdentityToken=token, **more
    )


def test_sign_in_and_botos_own_provider(broker, idps, tmp_path, monkeypatch):
    tokens = sign_in(idps["oidc-provider"])
    answer = assume(broker, tokens["id_token"])
    assert answer["SubjectFromWebIdentityToken"] == "alice" and answer["Audience"] == "brevet"
    assert answer["Provider"] == idps["oidc-provider"]
    file = tmp_path / "token"
    file.write_text(tokens["id_token"])
    for name in list(os.environ):
        if name.startswith("AWS_"):
            monkeypatch.delenv(name)
    for name, value in {
        "AWS_WEB_IDENTITY_TOKEN_FILE": str(file),
        "AWS_ROLE_ARN": f"arn:aws:iam::{ACCOUNT}:role/People",
        "AWS_ROLE_SESSION_NAME": "boto",
        "AWS_ENDPOINT_URL_STS": broker["sts_endpoint"],
        "AWS_REGION": "us-east-1",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_CONFIG_FILE": "/dev/null",
        "AWS_SHARED_CREDENTIALS_FILE": "/dev/null",
    }.items():
        monkeypatch.setenv(name, value)
    session = boto3.Session(botocore_session=botocore.session.Session())
    client = session.client("sts")
    assert client.get_caller_identity()["Arn"].endswith(":assumed-role/People/boto")
    credentials = session.get_credentials()
    first = credentials.get_frozen_credentials().access_key
    # Nearly over: the provider comes again by itself, with the token that the file then has.
    file.write_text(sign_in(idps["oidc-provider"])["id_token"])
    credentials._refresh_using.__self__._cache.clear()
    credentials._expiry_time = datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(seconds=60)
    assert client.get_caller_identity()["Arn"].endswith(":assumed-role/People/boto")
    assert credentials.get_frozen_credentials().access_key != first
    assert tokens["id_token"] not in broker["audit"].read_text()


def altered(token):
    """Another first character of the signature."""
    message, signature = token.rsplit(".", 1)
    return f"{message}.{'B' if signature[0] == 'A' else 'A'}{signature[1:]}"


def test_somebody_else_and_another_kind_of_token(broker, idps):
    assert refused(lambda: assume(broker, sign_in(idps["oidc-provider"], "mallory")["id_token"])) == ("AccessDenied", 403)
    tokens = sign_in(idps["oidc-provider"])
    assert refused(lambda: assume(broker, tokens["access_token"])) == ("InvalidIdentityToken", 400)
    assert refused(lambda: assume(broker, altered(tokens["id_token"]))) == ("InvalidIdentityToken", 400)
    assert refused(lambda: assume(broker, tokens["id_token"], role="Ci")) == ("AccessDenied", 403)


def test_a_job_with_a_second_kind_of_provider(broker, idps):
    form = urllib.parse.urlencode(dict(grant_type="authorization_code", code="x", client_id="ci", redirect_uri="http://x"))
    with urllib.request.urlopen(idps["mock"] + "/token", form.encode()) as answer:
        token = json.load(answer)["id_token"]
    got = assume(broker, token, role="Ci")
    assert got["SubjectFromWebIdentityToken"] == "repo:octo/app:ref:refs/heads/main"


def exchange(broker, **form):
    form = {"grant_type": "urn:ietf:params:oauth:grant-type:token-exchange", **form}
    request = urllib.request.Request(broker["sts_endpoint"] + "/oauth2/token", urllib.parse.urlencode(form).encode())
    try:
        with urllib.request.urlopen(request) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)


def test_token_exchange(broker, idps):
    token = sign_in(idps["oidc-provider"])["id_token"]
    asked = dict(
        subject_token=token,
        subject_token_type="urn:ietf:params:oauth:token-type:id_token",
        resource=f"arn:aws:iam::{ACCOUNT}:role/People",
        scope="exchanged",
    )
    status, got = exchange(broker, **asked)
    assert status == 200 and got["token_type"] == "N_A" and got["expires_in"] == 3600
    client = boto3.client(
        "sts",
        endpoint_url=broker["sts_endpoint"],
        region_name="us-east-1",
        aws_access_key_id=got["access_key_id"],
        aws_secret_access_key=got["secret_access_key"],
        aws_session_token=got["access_token"],
    )
    assert client.get_caller_identity()["Arn"].endswith(":assumed-role/People/exchanged")
    # A token for somebody else, by way of the same session; the role may ask for it.
    bound = dict(requested_token_type="urn:ietf:params:oauth:token-type:access_token", audience="https://relying.example")
    status, got = exchange(broker, **asked, **bound)
    assert status == 200 and got["token_type"] == "Bearer" and got["expires_in"] == 300, got
    keys = jwt.PyJWKClient(broker["sts_endpoint"] + "/.well-known/jwks.json")
    key = keys.get_signing_key_from_jwt(got["access_token"]).key
    claims = jwt.decode(got["access_token"], key, algorithms=["ES384"], audience="https://relying.example")
    assert claims["sub"] == f"arn:aws:iam::{ACCOUNT}:role/People"
    for change, error in [
        ({"requested_token_type": "urn:ietf:params:oauth:token-type:jwt"}, "invalid_request"),
        ({"subject_token": altered(token)}, "invalid_grant"),
        ({"subject_token": ""}, "invalid_request"),
        ({"subject_token_type": "urn:ietf:params:oauth:token-type:access_token"}, "invalid_request"),
        ({"resource": f"arn:aws:iam::{ACCOUNT}:role/Ci"}, "invalid_target"),
        ({"resource": f"arn:aws:iam::{ACCOUNT}:role/None"}, "invalid_target"),
        ({"resource": "People"}, "invalid_request"),
        ({"grant_type": "password"}, "unsupported_grant_type"),
        ({"actor_token": "x"}, "invalid_request"),
    ]:
        status, got = exchange(broker, **{**asked, **change})
        assert (status, got["error"]) == (400, error), (change, got)


def test_keys_rotate_under_load(broker, idps):
    """No valid token is refused while the provider's keys change."""
    url = idps["oidc-provider"]
    # An unknown key asks the provider once in half a minute: be past the last time.
    time.sleep(31)
    stop, refusals, logins = [], [], []

    def load():
        token = sign_in(url)["id_token"]
        while not stop:
            try:
                assume(broker, token)
                logins.append(1)
            except Exception as error:
                refusals.append(error)

    with ThreadPoolExecutor(4) as pool:
        running = [pool.submit(load) for _ in range(3)]
        time.sleep(2)
        urllib.request.urlopen(url + "/rotate").read()
        fresh = sign_in(url)["id_token"]
        # By the new key, at once; by the old one, still.
        assert assume(broker, fresh)["SubjectFromWebIdentityToken"] == "alice"
        time.sleep(2)
        stop.append(True)
        for thread in running:
            thread.result()
    assert not refusals and len(logins) > 50, (len(refusals), refusals[:1], len(logins))
