"""The pages for people in a real browser: Debian's Chromium, or that of BREVET_CHROMIUM, driven by Playwright.

With BREVET_SCREENSHOTS=FOLDER, a picture of every page is written there, for phone and desktop, light and dark.
"""

import base64
import hashlib
import hmac
import os
import re
import shutil
import struct
import subprocess
import sys
import time
from pathlib import Path

import boto3
import pytest
from botocore.config import Config
from playwright.sync_api import expect, sync_playwright
from test_sign_in_upstream import place  # noqa: F401 - a fixture

AXE = Path(__file__).parent / "js/node_modules/axe-core/axe.min.js"
CHROMIUM = os.environ.get("BREVET_CHROMIUM") or shutil.which("chromium")
SCREENSHOTS = os.environ.get("BREVET_SCREENSHOTS")
SIZES = {"phone": {"width": 360, "height": 740}, "desktop": {"width": 1280, "height": 800}}
DEMO = "arn:aws:iam::111122223333:role/Demo"


def totp(seed, at):
    """RFC 6238 with the defaults of authenticator apps."""
    key = base64.b32decode(seed + "=" * (-len(seed) % 8))
    mac = hmac.new(key, struct.pack(">Q", int(at) // 30), hashlib.sha1).digest()
    number = struct.unpack(">I", mac[mac[-1] & 15 :][:4])[0] & 0x7FFFFFFF
    return f"{number % 1_000_000:06}"


@pytest.fixture(scope="module")
def browser():
    assert CHROMIUM, "Chromium is not installed: apt-get install chromium"
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


def give_passwords(world, alice):
    """Gives the users of the demo passwords, where it has made up none. alice needs a code for her own."""

    def client(service, endpoint, key, secret, token=None):
        return boto3.client(
            service,
            endpoint_url=endpoint,
            region_name="us-east-1",
            aws_access_key_id=key,
            aws_secret_access_key=secret,
            aws_session_token=token,
        )

    sts = client("sts", world["sts_endpoint"], alice["access_key_id"], alice["secret_access_key"])
    code = totp(alice["mfa_seed"], time.time() - 30)
    made = sts.get_session_token(SerialNumber=alice["mfa_serial"], TokenCode=code)["Credentials"]
    keys = (made["AccessKeyId"], made["SecretAccessKey"], made["SessionToken"])
    iam = client("iam", world["iam_endpoint"], *keys)
    for name in ("alice", "bob"):
        iam.create_login_profile(UserName=name, Password="Correct-horse-1")
        world["users"][name]["password"] = "Correct-horse-1"
    here = world["sts_endpoint"]
    start = "https://brevet.awsapps.com/start"
    world["sso"] = {"oidc_endpoint": here, "start_url": start, "portal_url": f"{here}/portal"}


@pytest.fixture(scope="module")
def portal(world):
    """The address of the pages. bob may change his own credentials."""
    alice = world["users"]["alice"]
    iam = boto3.client(
        "iam",
        endpoint_url=world["iam_endpoint"],
        region_name="us-east-1",
        aws_access_key_id=alice["access_key_id"],
        aws_secret_access_key=alice["secret_access_key"],
    )
    policy = """{"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Resource": "*", "Action": [
        "iam:ListAccessKeys", "iam:CreateAccessKey", "iam:UpdateAccessKey", "iam:DeleteAccessKey",
        "iam:ListMFADevices", "iam:CreateVirtualMFADevice", "iam:EnableMFADevice", "iam:DeactivateMFADevice",
        "iam:DeleteVirtualMFADevice", "iam:ChangePassword", "sts:AssumeRole"]}]}"""
    iam.put_user_policy(UserName="bob", PolicyName="self", PolicyDocument=policy)
    if not alice.get("password"):
        give_passwords(world, alice)
    return world["sso"]["portal_url"].removesuffix("/portal")


def signed_in(context, portal, world, name, code=None):
    page = context.new_page()
    page.goto(portal)
    expect(page).to_have_url(f"{portal}/sign-in")
    page.get_by_label("User name").fill(name)
    page.get_by_label("Password").fill(world["users"][name]["password"])
    page.get_by_role("button", name="Sign in").click()
    if code:
        page.get_by_label("Code").fill(code)
        page.get_by_role("button", name="Sign in").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("My roles")
    return page


def identity(lines, environment):
    """What `aws sts get-caller-identity` says in a shell into which the lines were pasted."""
    kept = {name: value for name, value in environment.items() if not name.startswith("AWS_")}
    kept |= {"AWS_DEFAULT_REGION": "us-east-1", "AWS_CONFIG_FILE": "/dev/null"}
    aws = Path(sys.executable).parent / "aws"
    command = f"{lines}\n{aws} sts get-caller-identity --query Arn --output text"
    done = subprocess.run(["bash", "-c", command], env=kept, capture_output=True, text=True, timeout=120)
    return done.stdout.strip() or done.stderr.strip()


@pytest.mark.parametrize("script", [True, False], ids=["with a script", "without"])
def test_a_role_is_picked_pasted_and_ended(browser, portal, world, environment, script):
    context = browser.new_context(java_script_enabled=script, permissions=["clipboard-read", "clipboard-write"])
    if script:
        alice = world["users"]["alice"]
        page = signed_in(context, portal, world, "alice", totp(alice["mfa_seed"], time.time()))
    else:
        page = signed_in(context, portal, world, "bob")
    # The search narrows the list, with a script while typing, without one by Enter.
    page.get_by_label("Search").fill("demo")
    if not script:
        page.get_by_label("Search").press("Enter")
    expect(page.get_by_role("button", name="Deploy")).to_be_hidden()
    page.get_by_role("button", name="Demo").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("Credentials of Demo")
    lines = page.locator("pre").first.inner_text()
    if script:
        page.get_by_role("button", name="Copy").click()
        expect(page.get_by_text("Copied to the clipboard.")).to_be_visible()
        assert page.evaluate("navigator.clipboard.readText()") == lines
        page.get_by_text("PowerShell", exact=True).click()
        expect(page.get_by_text("$Env:AWS_ACCESS_KEY_ID")).to_be_visible()
    said = identity(lines, environment)
    assert re.search(r":assumed-role/Demo/(alice|bob)$", said), said
    page.get_by_role("link", name="sessions").click()
    page.get_by_role("button", name="End session").first.click()
    expect(page.get_by_text("The session has ended.")).to_be_visible()
    ended = time.monotonic()
    sts = client(world, lines)
    while True:
        try:
            sts.get_caller_identity()
        except sts.exceptions.ClientError:
            break
        assert time.monotonic() - ended < 2, "the session works two seconds after its end"
    page.get_by_role("button", name="Sign out").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("You are signed out")
    page.goto(f"{portal}/portal")
    expect(page).to_have_url(f"{portal}/sign-in")
    context.close()


@pytest.mark.parametrize("kind", ["oidc-provider", "samlp"])
def test_a_role_is_picked_by_whoever_signs_in_at_an_identity_provider(browser, place, environment, kind):
    context = browser.new_context()
    page = context.new_page()
    page.goto(place["public"])
    page.locator(f'a[href^="/sign-in/{"oidc" if kind == "oidc-provider" else "saml"}/"]').click()
    if kind == "oidc-provider":
        # Its own pages: the name and any password, then the consent.
        page.locator("input[name=login]").fill("alice")
        page.locator("input[name=password]").fill("any")
        page.locator("button[type=submit]").click()
        page.get_by_role("button", name="Continue").click()
    expect(page).to_have_url(f"{place['public']}/portal")
    expect(page.get_by_role("heading", level=1)).to_have_text("My roles")
    role = {"oidc-provider": "People", "samlp": "Partners"}[kind]
    page.get_by_role("button", name=role).click()
    expect(page.get_by_role("heading", level=1)).to_have_text(f"Credentials of {role}")
    said = identity(page.locator("pre").first.inner_text(), environment)
    assert f":assumed-role/{role}/" in said, said
    page.get_by_role("button", name="Sign out").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("You are signed out")
    context.close()


def client(world, lines):
    values = dict(re.findall(r'export (\w+)="([^"]*)"', lines))
    return boto3.client(
        "sts",
        endpoint_url=world["sts_endpoint"],
        region_name="us-east-1",
        aws_access_key_id=values["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key=values["AWS_SECRET_ACCESS_KEY"],
        aws_session_token=values["AWS_SESSION_TOKEN"],
        config=Config(retries={"total_max_attempts": 1}),
    )


def test_a_device_is_enrolled_from_its_image(browser, portal, world):
    context = browser.new_context()
    page = signed_in(context, portal, world, "bob")
    page.get_by_role("link", name="MFA devices").click()
    page.get_by_role("link", name="Add a device").click()
    page.get_by_role("button", name="Continue").click()
    picture = page.locator(".qr").screenshot()
    seed = page.locator("code[translate=no]").inner_text()
    assert scanned(picture).startswith("otpauth://totp/Brevet:bob%40111122223333?secret=" + seed)
    now = time.time()
    page.get_by_label("First code").fill(totp(seed, now - 30))
    page.get_by_label("Second code").fill(totp(seed, now))
    page.get_by_role("button", name="Continue").click()
    expect(page.get_by_text("The device is added.")).to_be_visible()
    page.get_by_role("link", name="Remove").click()
    page.get_by_label("Code").fill(totp(seed, now + 30))
    page.get_by_role("button", name="Continue").click()
    expect(page.get_by_text("The device is removed.")).to_be_visible()
    context.close()


def scanned(picture):
    """What a phone reads."""
    import io

    from PIL import Image
    from pyzbar.pyzbar import decode

    return decode(Image.open(io.BytesIO(picture)))[0].data.decode()


def test_a_program_is_allowed_and_another_denied(browser, portal, world):
    oidc = boto3.client("sso-oidc", endpoint_url=world["sso"]["oidc_endpoint"], region_name="us-east-1")
    program = oidc.register_client(clientName="my program", clientType="public")
    names = {name: program[name] for name in ("clientId", "clientSecret")}
    grant = {"grantType": "urn:ietf:params:oauth:grant-type:device_code", **names}
    context = browser.new_context()
    page = signed_in(context, portal, world, "bob")
    for decision in ("Allow", "Deny"):
        asked = oidc.start_device_authorization(**names, startUrl=world["sso"]["start_url"])
        # The complete link fills the code in, because the program asks from this computer.
        page.goto(asked["verificationUriComplete"])
        expect(page.get_by_label("Code")).to_have_value(asked["userCode"])
        page.get_by_label("Code").fill(asked["userCode"].lower().replace("-", " "))
        page.get_by_role("button", name="Continue").click()
        for text in ("calls itself “my program”", asked["userCode"], "Boto3", "127.0.0.1"):
            expect(page.locator("main")).to_contain_text(text)
        focused = page.evaluate("document.activeElement.tagName")
        assert focused != "BUTTON", "nothing is decided by Enter"
        page.get_by_role("button", name=decision).click()
        time.sleep(1)
        if decision == "Allow":
            expect(page.get_by_role("heading", level=1)).to_have_text("Allowed")
            assert oidc.create_token(**grant, deviceCode=asked["deviceCode"])["accessToken"]
        else:
            expect(page.get_by_role("heading", level=1)).to_have_text("Denied")
            with pytest.raises(oidc.exceptions.AccessDeniedException):
                oidc.create_token(**grant, deviceCode=asked["deviceCode"])
    context.close()


def pages(page, portal, world):
    """Shows every page, one after the other, and yields its name."""
    page.goto(f"{portal}/sign-in")
    yield "sign-in"
    page.get_by_label("User name").fill("bob")
    page.get_by_label("Password").fill("not the password")
    page.get_by_role("button", name="Sign in").click()
    yield "sign-in-refused"
    page.get_by_label("User name").fill("alice")
    page.get_by_label("Password").fill(world["users"]["alice"]["password"])
    page.get_by_role("button", name="Sign in").click()
    yield "code"
    page.goto(f"{portal}/sign-in")
    page.get_by_label("User name").fill("bob")
    page.get_by_label("Password").fill(world["users"]["bob"]["password"])
    page.get_by_role("button", name="Sign in").click()
    yield "roles"
    page.goto(f"{portal}/portal?q=nothing+like+this")
    yield "roles-none"
    page.goto(f"{portal}/portal")
    page.get_by_role("button", name="Demo").click()
    yield "credentials"
    page.get_by_role("link", name="How to set up a profile").click()
    yield "guide"
    for name in ("sessions", "sessions/end-all", "mfa", "mfa/add", "keys", "keys/make", "password"):
        page.goto(f"{portal}/portal/{name}")
        yield name.replace("/", "-")
    page.goto(f"{portal}/portal/mfa/add")
    page.get_by_role("button", name="Continue").click()
    yield "enrol"
    page.goto(f"{portal}/portal/keys")
    if page.get_by_role("link", name="Delete").count() > 1:
        page.get_by_role("link", name="Delete").last.click()
        page.get_by_role("button", name="Continue").click()
    page.goto(f"{portal}/portal/keys/make")
    page.get_by_role("button", name="Continue").click()
    yield "new-key"
    page.goto(f"{portal}/portal/keys")
    page.get_by_role("link", name="Delete").last.click()
    yield "keys-delete"
    page.goto(f"{portal}/device")
    yield "device"
    page.get_by_label("Code").fill("ABCD-EFGH")
    page.get_by_role("button", name="Continue").click()
    yield "device-refused"
    oidc = boto3.client("sso-oidc", endpoint_url=world["sso"]["oidc_endpoint"], region_name="us-east-1")
    program = oidc.register_client(
        clientName="aws-cli", clientType="public", redirectUris=["http://127.0.0.1/oauth/callback"],
        grantTypes=["authorization_code", "refresh_token", "urn:ietf:params:oauth:grant-type:device_code"],
        issuerUrl=world["sso"]["start_url"], scopes=["sso:account:access"],
    )
    names = {name: program[name] for name in ("clientId", "clientSecret")}
    asked = oidc.start_device_authorization(**names, startUrl=world["sso"]["start_url"])
    page.goto(asked["verificationUriComplete"])
    page.get_by_role("button", name="Continue").click()
    yield "approve"
    page.get_by_role("button", name="Deny").click()
    yield "denied"
    page.goto(
        f"{portal}/authorize?response_type=code&client_id={program['clientId']}"
        "&redirect_uri=http%3A%2F%2F127.0.0.1%3A9%2Foauth%2Fcallback&state=x&scopes=sso%3Aaccount%3Aaccess"
        "&code_challenge_method=S256&code_challenge=E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM"
    )
    yield "authorize"
    page.goto(f"{portal}/portal/nothing")
    yield "error"
    page.get_by_role("button", name="Sign out").click()
    yield "signed-out"


# Each size and each scheme once; all pairs for pictures.
LOOKS = [(size, scheme) for size in SIZES for scheme in ("light", "dark")]


@pytest.mark.parametrize(("size", "scheme"), LOOKS if SCREENSHOTS else [("desktop", "light"), ("phone", "dark")])
def test_every_page_is_accessible_and_fits(browser, portal, world, scheme, size):
    context = browser.new_context(viewport=SIZES[size], color_scheme=scheme)
    page = context.new_page()
    problems, largest, errors = [], ("", 0), []
    page.on("console", lambda m: errors.append(m.text) if m.type == "error" and "status of 4" not in m.text else None)
    page.on("pageerror", lambda error: errors.append(str(error)))
    for name in pages(page, portal, world):
        if SCREENSHOTS:
            Path(SCREENSHOTS).mkdir(parents=True, exist_ok=True)
            page.screenshot(path=f"{SCREENSHOTS}/{name}-{size}-{scheme}.png", full_page=True)
        length = len(page.content().encode())
        largest = max(largest, (name, length), key=lambda pair: pair[1])
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), f"{name} is wider than a {size}"
        # The policy of the pages forbids scripts of others, so axe runs beside it.
        found = page.evaluate(AXE.read_text() + "; axe.run({runOnly: ['wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa', 'wcag22aa', 'best-practice']})")
        for violation in found["violations"]:
            nodes = [node["html"] for node in violation["nodes"]]
            problems.append(f"{name}: {violation['id']}: {violation['help']}: {nodes}")
    context.close()
    assert not problems, "\n".join(problems)
    assert not errors, errors
    print(f"largest page: {largest}")
    assert largest[1] < 30_000, largest


def test_a_page_works_at_320_pixels_and_without_colour(browser, portal, world):
    context = browser.new_context(viewport={"width": 320, "height": 600}, forced_colors="active", reduced_motion="reduce")
    page = signed_in(context, portal, world, "bob")
    for path in ("portal", "portal/sessions", "portal/mfa", "portal/keys", "portal/password", "device"):
        page.goto(f"{portal}/{path}")
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), path
        # What has the focus can be seen, from the first key on.
        page.keyboard.press("Tab")
        assert page.evaluate("document.activeElement.className") == "skip"
    context.close()
