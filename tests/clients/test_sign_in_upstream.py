"""People sign in at identity providers that we did not write, in a browser without a screen."""

import hashlib
import html
import json
import os
import re
import subprocess
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path

import pytest
from conftest import BREVET
from person import Browser
from test_oidc import JS, free_port
from test_saml import make_key

ACCOUNT = "111122223333"


def slug(arn):
    """The name of a provider in URLs of the broker."""
    name = arn.split("-provider/", 1)[1].lower()
    words = re.sub(r"[^a-z0-9.]", "-", name)[:40].strip("-.")
    return f"{words}-{hashlib.sha256(arn.encode()).hexdigest()[:12]}"


def role(name, number, provider, action):
    return {
        "RoleName": name,
        "RoleId": f"AROAPEOPLEPEOPLEPEO{number}",
        "Arn": f"arn:aws:iam::{ACCOUNT}:role/{name}",
        "AssumeRolePolicyDocument": {
            "Version": "2012-10-17",
            "Statement": [
                {"Effect": "Allow", "Principal": {"Federated": provider}, "Action": [action, "sts:TagSession"]}
            ],
        },
    }


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """The two identity providers, and a broker that offers both."""
    home = tmp_path_factory.mktemp("people")
    idp_port, saml_port, port = free_port(), free_port(), free_port()
    public = f"http://127.0.0.1:{port}"
    oidc = f"arn:aws:iam::{ACCOUNT}:oidc-provider/127.0.0.1:{idp_port}"
    saml = f"arn:aws:iam::{ACCOUNT}:saml-provider/corp"
    base = f"{public}/sign-in/oidc/{slug(oidc)}"
    key, certificate = make_key(home, "samlp")
    commands = [
        ["idp.mjs", "oidc-provider", str(idp_port), f"{base}/callback", f"{base}/logout"],
        [
            *["saml_idp.mjs", str(saml_port), str(key), str(certificate), f"{public}/saml/metadata"],
            *[f"{public}/saml/acs", f"arn:aws:iam::{ACCOUNT}:role/Partners,{saml}"],
        ],
    ]
    processes = []
    for command in commands:
        process = subprocess.Popen(["node", *command], cwd=JS, stdout=subprocess.PIPE, text=True)
        processes.append(process)
        line = ""
        while not line.startswith("http://"):
            line = process.stdout.readline()
            assert line, f"{command} did not start"
    with urllib.request.urlopen(f"http://127.0.0.1:{saml_port}/metadata") as answer:
        metadata = answer.read().decode()
    directory = {
        "RoleDetailList": [
            role("People", 1, oidc, "sts:AssumeRoleWithWebIdentity"),
            role("Partners", 2, saml, "sts:AssumeRoleWithSAML"),
        ],
        "Brevet": {
            "Accounts": [{"AccountId": ACCOUNT}],
            "OpenIDConnectProviders": [
                {
                    "Arn": oidc,
                    "Url": f"http://127.0.0.1:{idp_port}",
                    "ClientIDList": ["brevet"],
                    "ClientSecret": "a-client-secret",
                }
            ],
            "SAMLProviders": [{"Arn": saml, "SAMLMetadataDocument": metadata + " " * max(0, 1000 - len(metadata))}],
        },
    }
    (home / "directory.json").write_text(json.dumps(directory))
    (home / "directory.json").chmod(0o600)
    world = home / "world.json"
    arguments = ["--listen", f"127.0.0.1:{port}", "--directory", str(home / "directory.json"), "--world", str(world)]
    broker = subprocess.Popen(
        [BREVET, "serve", "--dev", *arguments, "--audit", str(home / "audit.jsonl")], stdout=subprocess.DEVNULL
    )
    deadline = time.monotonic() + 60
    while not world.exists():
        assert broker.poll() is None and time.monotonic() < deadline
        time.sleep(0.01)
    yield {"public": public, "idp": f"http://127.0.0.1:{idp_port}", "oidc": oidc, "saml": saml, "home": home}
    for process in [broker, *processes]:
        process.terminate()
    assert broker.wait(15) == 0
    for process in processes:
        process.wait(10)
    assert "a-client-secret" not in (home / "audit.jsonl").read_text()


def at_oidc_provider(browser, place, who="alice"):
    """Signs in at npm oidc-provider: its page for the name, and that for the consent."""
    browser.open(place["public"] + "/sign-in").follow("/sign-in/oidc/")
    for _ in range(3):
        if browser.url.startswith(place["public"]):
            break
        prompt = re.search(r'name="prompt" value="(\w+)"', browser.page).group(1)
        browser.submit(prompt=prompt, login=who, password="any")
    assert browser.url == place["public"] + "/portal", (browser.url, browser.page)
    return browser


def shell(place, tmp_path, file=None):
    kept = {name: os.environ[name] for name in ("PATH",) if name in os.environ}
    program = tmp_path / "browser"
    program.write_text(
        f"#!{sys.executable}\nimport sys\nsys.path.insert(0, {str(Path(__file__).parent)!r})\n"
        "from person import Browser\n"
        f"b = Browser({str(file)!r}).open(sys.argv[1])\n"
        "assert b.status == 200, b.page\n"
        "b.submit(at=-1, decision='allow')\n"
    )
    program.chmod(0o755)
    environment = {**kept, "HOME": str(tmp_path), "BROWSER": str(program), "AWS_EC2_METADATA_DISABLED": "true"}

    def run(*command):
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, (command, done.stdout, done.stderr)
        return done.stdout

    return run


def test_oidc_provider_signs_in_a_page_and_a_shell_and_logs_both_out(place, tmp_path):
    cookies = tmp_path / "cookies"
    browser = at_oidc_provider(Browser(cookies), place)
    assert "People" in browser.page and "Partners" not in browser.page
    run = shell(place, tmp_path, cookies)
    said = run(
        *[BREVET, "configure", "sso", "--new-profile", "dev", "--endpoint", place["public"]],
        *["--account-id", ACCOUNT, "--role-name", "People"],
    )
    assert "dev" in said
    aws = str(Path(sys.executable).parent / "aws")
    caller = json.loads(run(aws, "sts", "get-caller-identity", "--profile", "dev"))
    assert caller["Arn"] == f"arn:aws:sts::{ACCOUNT}:assumed-role/People/alice"
    # brevet's own commands use the profile as well, and the token can be had again.
    assert "assumed-role/People/alice" in run(BREVET, "whoami", "--profile", "dev")
    run(BREVET, "login", "--profile", "dev")
    cache = list((tmp_path / ".aws" / "sso" / "cache").iterdir())
    assert len(cache) == 1 and cache[0].stat().st_mode & 0o777 == 0o600
    assert {"accessToken", "expiresAt", "clientId", "clientSecret", "startUrl", "region"} <= set(
        json.loads(cache[0].read_text())
    )

    # The person signs out at the provider, which calls the broker: the page and the shell end.
    browser.open(place["idp"] + "/session/end").submit(logout="yes")
    deadline = time.monotonic() + 20
    while browser.open(place["public"] + "/portal").url.endswith("/portal"):
        assert time.monotonic() < deadline, browser.page
        time.sleep(0.1)
    environment = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "AWS_EC2_METADATA_DISABLED": "true"}
    ended = subprocess.run(
        [BREVET, "whoami", "--profile", "dev"], env=environment, capture_output=True, text=True, timeout=60
    )
    assert ended.returncode == 1 and "brevet login --profile dev" in ended.stderr, ended.stderr


def test_samlp_signs_in_by_a_request_and_a_post_without_cookies(place):
    browser = Browser()
    browser.open(place["public"] + "/sign-in").follow("/sign-in/saml/")
    # The page of the identity provider posts its answer. A browser leaves cookies of SameSite=Lax out of that.
    assert "SAMLResponse" in browser.page, browser.page
    fields = dict(re.findall(r'name="(SAMLResponse|RelayState)"[^>]*value="([^"]*)"', browser.page))
    fields = {name: html.unescape(value) for name, value in fields.items()}

    class Stop(urllib.request.HTTPRedirectHandler):
        def redirect_request(self, *_):
            return None

    poster = urllib.request.build_opener(Stop())
    try:
        poster.open(place["public"] + "/saml/acs", urllib.parse.urlencode(fields).encode())
        raise AssertionError("the answer was not taken")
    except urllib.error.HTTPError as answer:
        assert answer.code == 303, answer.read()
        assert answer.headers["set-cookie"] is None
        location = answer.headers["location"]
    stranger = Browser().open(place["public"] + "/sign-in").open(location)
    assert stranger.status == 403 and "another browser" in stranger.page
    # That was the only try, so the person begins again.
    browser.open(place["public"] + "/sign-in").follow("/sign-in/saml/")
    fields = dict(re.findall(r'name="(SAMLResponse|RelayState)"[^>]*value="([^"]*)"', browser.page))
    browser.open(place["public"] + "/saml/acs", {name: html.unescape(value) for name, value in fields.items()})
    assert browser.url == place["public"] + "/portal", (browser.url, browser.page)
    assert "Partners" in browser.page and "People" not in browser.page
