"""MFA as people use it: oathtool computes the codes, boto3 and the AWS CLI carry them."""

import io
import json
import subprocess
import sys
import time
from pathlib import Path

import boto3
import iam_model
import pytest
from PIL import Image
from pyzbar import pyzbar
from test_boto3 import NO_RETRY, refused, role, session, sts

STEP = 30


def code(seed, steps=0, *options):
    """The code of a device so many steps from now, by an independent tool."""
    at = f"@{int(time.time()) + steps * STEP}"
    arguments = ["oathtool", "--base32", *(options or ["--totp"]), f"--now={at}", seed]
    return subprocess.run(arguments, check=True, capture_output=True, text=True).stdout.strip()


def early_in_a_step():
    """What follows takes a few seconds, and counts in steps."""
    left = STEP - time.time() % STEP
    if left < 8:
        time.sleep(left + 0.1)


def iam(world, key=None, secret=None, token=None, user="alice"):
    user = world["users"][user]
    return boto3.client(
        "iam",
        endpoint_url=world["iam_endpoint"],
        region_name="us-east-1",
        aws_access_key_id=key or user["access_key_id"],
        aws_secret_access_key=secret or user["secret_access_key"],
        aws_session_token=token,
        config=NO_RETRY,
    )


def with_session(make, world, credentials):
    return make(world, credentials["AccessKeyId"], credentials["SecretAccessKey"], credentials["SessionToken"])


@pytest.fixture(scope="module")
def alice(world):
    user = world["users"]["alice"]
    return user["mfa_serial"], user["mfa_seed"]


def test_a_code_opens_a_gated_role_once(world, alice):
    serial, seed = alice
    gated = dict(RoleArn=role(world, "Guarded"), RoleSessionName="mfa")
    early_in_a_step()
    assert refused(lambda: sts(world).assume_role(**gated)) == ("AccessDenied", 403)
    # Two steps ago, then the one before, then this one: each newer than the last.
    two_ago = dict(SerialNumber=serial, TokenCode=code(seed, -2))
    assert refused(lambda: sts(world).assume_role(**gated, **two_ago)) == ("AccessDenied", 403)
    first = dict(SerialNumber=serial, TokenCode=code(seed, -1))
    opened = sts(world).assume_role(**gated, **first)
    assert session(world, opened["Credentials"]).get_caller_identity()["Arn"].endswith(":assumed-role/Guarded/mfa")
    with pytest.raises(Exception, match="MultiFactorAuthentication failed with invalid MFA one time pass code"):
        sts(world).assume_role(**gated, **first)

    # A session of the user's own carries the proof; the role's session does not.
    own = sts(world).get_session_token(SerialNumber=serial, TokenCode=code(seed))["Credentials"]
    assert session(world, own).get_caller_identity()["Arn"] == world["users"]["alice"]["arn"]
    opened = session(world, own).assume_role(**gated)["Credentials"]
    assert refused(lambda: session(world, opened).assume_role(**gated)) == ("AccessDenied", 403)
    without = sts(world).get_session_token()["Credentials"]
    assert refused(lambda: session(world, without).assume_role(**gated)) == ("AccessDenied", 403)
    assert refused(lambda: with_session(iam, world, without).list_mfa_devices()) == ("AccessDenied", 403)
    assert with_session(iam, world, own).list_mfa_devices()["MFADevices"][0]["SerialNumber"] == serial
    # Its own devices change by a fresh code alone.
    assert refused(lambda: iam(world).deactivate_mfa_device(UserName="alice", SerialNumber=serial)) == ("AccessDenied", 403)


def test_a_device_from_its_making_to_its_end(world):
    early_in_a_step()
    client, serial = iam(world), f"arn:aws:iam::{world['account_id']}:mfa/people/bob"
    made = client.create_virtual_mfa_device(
        VirtualMFADeviceName="bob", Path="/people/", Tags=[{"Key": "Team", "Value": "blue"}]
    )["VirtualMFADevice"]
    assert made["SerialNumber"] == serial
    seed = made["Base32StringSeed"].decode()
    # What a phone reads is what the answer says.
    (read,) = pyzbar.decode(Image.open(io.BytesIO(made["QRCodePNG"])))
    uri = read.data.decode()
    assert uri.startswith("otpauth://totp/Brevet:bob%40") and f"secret={seed}" in uri

    assert client.list_virtual_mfa_devices(AssignmentStatus="Unassigned")["VirtualMFADevices"] == [{"SerialNumber": serial}]
    assert refused(lambda: client.create_virtual_mfa_device(VirtualMFADeviceName="bob", Path="/people/")) == (
        "EntityAlreadyExists",
        409,
    )
    enable = dict(UserName="bob", SerialNumber=serial)
    codes = dict(AuthenticationCode1=code(seed, -1), AuthenticationCode2=code(seed))
    swapped = dict(AuthenticationCode1=codes["AuthenticationCode2"], AuthenticationCode2=codes["AuthenticationCode1"])
    assert refused(lambda: client.enable_mfa_device(**enable, **swapped)) == ("InvalidAuthenticationCode", 403)
    assert refused(lambda: client.enable_mfa_device(**{**enable, "UserName": "nobody"}, **codes)) == ("NoSuchEntity", 404)
    assert refused(lambda: iam(world, user="bob").enable_mfa_device(**enable, **codes)) == ("AccessDenied", 403)
    client.enable_mfa_device(**enable, **codes)
    assert refused(lambda: client.enable_mfa_device(**enable, **codes)) == ("EntityAlreadyExists", 409)
    (device,) = client.list_mfa_devices(UserName="bob")["MFADevices"]
    assert device["SerialNumber"] == serial and device["UserName"] == "bob"
    assigned = client.list_virtual_mfa_devices(AssignmentStatus="Assigned", MaxItems=1)
    assert assigned["IsTruncated"] and assigned["Marker"]
    everything = client.get_paginator("list_virtual_mfa_devices").paginate(PaginationConfig={"PageSize": 1})
    listed = {d["SerialNumber"]: d for page in everything for d in page["VirtualMFADevices"]}
    assert listed[serial]["User"]["UserName"] == "bob" and "Base32StringSeed" not in listed[serial]

    # The codes that enabled it are spent; a later one is good, for its own user alone.
    bob, later = sts(world, user="bob"), code(seed, 1)
    assert refused(lambda: bob.get_session_token(SerialNumber=serial, TokenCode=codes["AuthenticationCode2"])) == (
        "AccessDenied",
        403,
    )
    assert refused(lambda: sts(world).get_session_token(SerialNumber=serial, TokenCode=later)) == ("AccessDenied", 403)
    bob.get_session_token(SerialNumber=serial, TokenCode=later)

    # A device that runs ten minutes ahead is synchronised, and then its codes are good.
    ahead = dict(AuthenticationCode1=code(seed, 18), AuthenticationCode2=code(seed, 19))
    client.resync_mfa_device(**enable, **ahead)
    bob.get_session_token(SerialNumber=serial, TokenCode=code(seed, 20))
    assert refused(lambda: client.delete_virtual_mfa_device(SerialNumber=serial)) == ("DeleteConflict", 409)
    client.deactivate_mfa_device(**enable)
    assert client.list_mfa_devices(UserName="bob")["MFADevices"] == []
    client.delete_virtual_mfa_device(SerialNumber=serial)
    assert refused(lambda: client.delete_virtual_mfa_device(SerialNumber=serial)) == ("NoSuchEntity", 404)
    audit = [json.loads(line) for line in world["audit"].read_text().splitlines()]
    created = next(r for r in audit if r["eventName"] == "CreateVirtualMFADevice" and "errorCode" not in r)
    assert created["eventSource"] == "iam.amazonaws.com" and created["readOnly"] is False
    assert seed not in world["audit"].read_text()


def test_a_phone_is_enrolled_from_the_terminal(world, environment):
    enroll = [world["brevet"], "mfa", "enroll", "--endpoint", world["grpc_endpoint"], "--user-name", "bob"]
    enrolling = subprocess.Popen(
        [*enroll, "--device-name", "bobs-phone"],
        env=environment,
        text=True,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    shown = ""
    while "enter this key: " not in shown:
        line = enrolling.stderr.readline()
        assert line, shown
        shown += line
    assert "\u2588" in shown
    seed = shown.rsplit(": ", 1)[1].strip()
    early_in_a_step()
    out, told = enrolling.communicate(f"000000\n000000\n{code(seed, -1)}\n{code(seed)}\n", timeout=60)
    serial = f"arn:aws:iam::{world['account_id']}:mfa/bobs-phone"
    assert (enrolling.returncode, out.strip()) == (0, serial) and "InvalidAuthenticationCode" in told
    assert serial in [d["SerialNumber"] for d in iam(world).list_mfa_devices(UserName="bob")["MFADevices"]]
    # Whoever gives up leaves nothing behind.
    given_up = subprocess.run([*enroll, "--device-name", "no"], env=environment, text=True, input="", capture_output=True)
    assert given_up.returncode == 1 and "was not enabled, and is deleted" in given_up.stderr
    assert not any(d["SerialNumber"].endswith("/no") for d in iam(world).list_virtual_mfa_devices()["VirtualMFADevices"])


def test_mf_01_mf_05_guesses_are_counted_by_user(world, alice):
    serial, seed = alice
    bob = sts(world, user="bob")
    tried = [
        dict(SerialNumber=serial, TokenCode="000000"),
        dict(SerialNumber=serial.upper(), TokenCode="000001"),
        dict(SerialNumber=f"arn:aws:iam::{world['account_id']}:mfa/bob", TokenCode="000002"),
        dict(SerialNumber="GAHT12345678", TokenCode=" 123456"),
        dict(SerialNumber=serial, TokenCode=code(seed, 1)),
    ]
    for attempt in tried:
        assert refused(lambda: bob.get_session_token(**attempt)) == ("AccessDenied", 403)
    with pytest.raises(Exception, match="too many invalid one time pass codes"):
        bob.get_session_token(**tried[0])
    # The other credentials go on, and so does everybody else.
    bob.get_session_token()
    alice = sts(world).get_session_token(SerialNumber=serial, TokenCode=code(seed, 1))
    assert alice["Credentials"]["AccessKeyId"].startswith("ASIA")


def test_actions_that_are_left_out_are_refused_by_name(world):
    assert refused(lambda: iam(world).list_organizations_features()) == ("InvalidAction", 400)
    with pytest.raises(Exception, match="Brevet does not support ListOrganizationsFeatures: there is no root user"):
        iam(world).list_organizations_features()


def test_the_lists_that_deletions_ask_for_are_empty(world):
    client = iam(world)
    assert client.list_ssh_public_keys(UserName="bob")["SSHPublicKeys"] == []
    assert client.list_signing_certificates(UserName="bob")["Certificates"] == []
    assert client.list_service_specific_credentials(UserName="bob")["ServiceSpecificCredentials"] == []
    assert list(client.get_paginator("list_server_certificates").paginate())[0]["ServerCertificateMetadataList"] == []
    for call in (
        lambda: client.list_ssh_public_keys(UserName="nobody"),
        lambda: client.delete_ssh_public_key(UserName="bob", SSHPublicKeyId="APKAIOSFODNN7EXAMPLE1"),
        lambda: client.get_server_certificate(ServerCertificateName="web"),
    ):
        with pytest.raises(client.exceptions.NoSuchEntityException):
            call()


def test_an_answer_to_a_change_has_its_number(world):
    client = iam(world)
    number = lambda answer: answer["ResponseMetadata"]["HTTPHeaders"].get("x-brevet-change")
    made = client.create_virtual_mfa_device(VirtualMFADeviceName="numbered")
    gone = client.delete_virtual_mfa_device(SerialNumber=made["VirtualMFADevice"]["SerialNumber"])
    assert 0 < int(number(made)) < int(number(gone))
    assert number(client.list_virtual_mfa_devices()) is None


def test_long_requests_of_iam_are_read(world):
    long = "MIID/+=9" * 1_000_000
    assert refused(lambda: iam(world).list_ssh_public_keys(UserName=long)) == ("ValidationError", 400)
    with pytest.raises(Exception, match="RequestEntityTooLarge|Connection was closed|Broken pipe|Connection reset"):
        iam(world, key="AKIAIOSFODNN7EXAMPLE").list_ssh_public_keys(UserName=long)


def test_the_model_is_botocores():
    assert (Path(__file__).parents[2] / "src/query/iam_model.json").read_text() == iam_model.text()


def test_the_cli_carries_codes(world, alice, environment):
    serial, seed = alice
    time.sleep(STEP - time.time() % STEP + 0.1)
    arguments = ["sts", "get-session-token", "--serial-number", serial, "--token-code", code(seed, 1)]
    done = subprocess.run(
        [sys.executable, "-m", "awscli", *arguments], env=environment, capture_output=True, text=True, check=True
    )
    assert json.loads(done.stdout)["Credentials"]["SessionToken"]
