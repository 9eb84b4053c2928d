"""The contract as a table: each action and each of its errors, over boto3, the AWS CLI and gRPC."""

import hashlib
import importlib.util
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import boto3
import botocore.config
import botocore.exceptions
import grpc
import pytest
from botocore.credentials import Credentials
from google.protobuf import json_format
from google.rpc import error_details_pb2, status_pb2
from test_boto3 import role
from test_mfa import code

EXAMPLE = Path(__file__).parents[2] / "examples/python/assume_role.py"
spec = importlib.util.spec_from_file_location("example", EXAMPLE)
example = importlib.util.module_from_spec(spec)
spec.loader.exec_module(example)
NAIVE = botocore.config.Config(parameter_validation=False, retries={"total_max_attempts": 1})

WIDE = '{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"*","Resource":"*"}]}'


def tags(*keys, value="x"):
    return [{"Key": key, "Value": value} for key in keys]


def cases(world):
    """(action, case, who calls, parameters, expected code)"""
    demo, guarded, partner = role(world), role(world, "Guarded"), role(world, "Partner")
    serial = world["users"]["alice"]["mfa_serial"]
    assume = dict(RoleArn=demo, RoleSessionName="table")
    web = dict(Audience=["relying.example"], SigningAlgorithm="ES384")
    yield "AssumeRole", "allowed", "alice", assume, "ok"
    yield "AssumeRole", "by a role session", "session", assume, "ok"
    yield "AssumeRole", "by a user's own session", "own", assume, "ok"
    yield "AssumeRole", "by a federated user", "guest", assume, "AccessDenied"
    yield "AssumeRole", "no permission", "bob", assume, "AccessDenied"
    yield "AssumeRole", "no such role", "alice", {**assume, "RoleArn": demo + "x"}, "AccessDenied"
    yield "AssumeRole", "external id", "alice", {**assume, "RoleArn": partner, "ExternalId": "demo-1234"}, "ok"
    yield "AssumeRole", "external id, wrong", "alice", {**assume, "RoleArn": partner, "ExternalId": "x-1"}, "AccessDenied"
    yield "AssumeRole", "MFA wanted, not given", "alice", {**assume, "RoleArn": guarded}, "AccessDenied"
    yield "AssumeRole", "MFA, half of it", "alice", {**assume, "SerialNumber": serial}, "AccessDenied"
    yield "AssumeRole", "MFA, a role's session", "session", {**assume, "SerialNumber": serial, "TokenCode": "123456"}, "AccessDenied"
    yield "AssumeRole", "session policy, ARNs, tags", "alice", {**assume, "Policy": WIDE, "Tags": tags("team"), "TransitiveTagKeys": ["team"], "SourceIdentity": "al"}, "ok"
    yield "AssumeRole", "policy is none", "alice", {**assume, "Policy": "{}"}, "MalformedPolicyDocument"
    yield "AssumeRole", "policy of another account", "alice", {**assume, "PolicyArns": [{"arn": "arn:aws:iam::999999999999:policy/x"}]}, "ValidationError"
    yield "AssumeRole", "too much to pack", "alice", {**assume, "Tags": HEAVY}, "PackedPolicyTooLarge"
    yield "AssumeRole", "tag twice, but for case", "alice", {**assume, "Tags": tags("Team", "team")}, "ValidationError"
    yield "AssumeRole", "tag key reserved", "alice", {**assume, "Tags": tags("aws:x")}, "ValidationError"
    yield "AssumeRole", "transitive key of no tag", "alice", {**assume, "TransitiveTagKeys": ["x"]}, "ValidationError"
    yield "AssumeRole", "899 s", "alice", {**assume, "DurationSeconds": 899}, "ValidationError"
    yield "AssumeRole", "beyond the role", "alice", {**assume, "DurationSeconds": 43201}, "ValidationError"
    yield "AssumeRole", "chain beyond an hour", "session", {**assume, "DurationSeconds": 3601}, "ValidationError"
    yield "AssumeRole", "provided contexts", "alice", {**assume, "ProvidedContexts": [{"ProviderArn": "arn:aws:iam::aws:contextProvider/IdentityCenter", "ContextAssertion": "abcd"}]}, "ValidationError"
    yield "AssumeRole", "bad name", "alice", {**assume, "RoleSessionName": "a b"}, "ValidationError"
    yield "AssumeRole", "wrong secret", "thief", assume, "SignatureDoesNotMatch"
    yield "AssumeRole", "unknown key", "nobody", assume, "InvalidClientTokenId"
    yield "GetSessionToken", "allowed", "alice", {}, "ok"
    yield "GetSessionToken", "no permission needed", "bob", {"DurationSeconds": 129600}, "ok"
    yield "GetSessionToken", "129601 s", "alice", {"DurationSeconds": 129601}, "ValidationError"
    yield "GetSessionToken", "by a role session", "session", {}, "AccessDenied"
    yield "GetSessionToken", "by a user's own session", "own", {}, "AccessDenied"
    yield "GetSessionToken", "a device of another user", "bob", {"SerialNumber": serial, "TokenCode": "123456"}, "AccessDenied"
    yield "GetFederationToken", "allowed", "alice", {"Name": "guest", "Policy": WIDE, "Tags": tags("team")}, "ok"
    yield "GetFederationToken", "no permission", "bob", {"Name": "guest"}, "AccessDenied"
    yield "GetFederationToken", "by a role session", "session", {"Name": "guest"}, "AccessDenied"
    yield "GetFederationToken", "policy is none", "alice", {"Name": "guest", "Policy": "{"}, "MalformedPolicyDocument"
    yield "GetFederationToken", "too much to pack", "alice", {"Name": "guest", "Tags": HEAVY}, "PackedPolicyTooLarge"
    yield "GetFederationToken", "name too long", "alice", {"Name": "x" * 33}, "ValidationError"
    for who in ("alice", "bob", "session", "own", "guest"):
        yield "GetCallerIdentity", "by " + who, who, {}, "ok"
    yield "GetAccessKeyInfo", "allowed", "alice", {"AccessKeyId": world["users"]["bob"]["access_key_id"]}, "ok"
    yield "GetAccessKeyInfo", "no permission", "bob", {"AccessKeyId": "AKIA" + "A" * 16}, "AccessDenied"
    yield "GetAccessKeyInfo", "by a user's own session", "own", {"AccessKeyId": "AKIA" + "A" * 16}, "AccessDenied"
    yield "GetAccessKeyInfo", "no key's form", "alice", {"AccessKeyId": "A" * 15 + "!"}, "ValidationError"
    yield "DecodeAuthorizationMessage", "a refusal", "alice", {"EncodedMessage": REFUSAL}, "ok"
    yield "DecodeAuthorizationMessage", "no permission", "bob", {"EncodedMessage": REFUSAL}, "AccessDenied"
    yield "DecodeAuthorizationMessage", "no message", "alice", {"EncodedMessage": "nonsense"}, "InvalidAuthorizationMessageException"
    yield "GetScopedCredentials", "allowed", "session", {"Policy": WIDE, "DurationSeconds": 1, "ScopedSessionDescription": "for a helper"}, "ok"
    yield "GetScopedCredentials", "by a user's own session", "own", {"Policy": WIDE}, "ok"
    yield "GetScopedCredentials", "by a federated user", "guest", {"DurationSeconds": 1}, "ok"
    yield "GetScopedCredentials", "by a long-term key", "alice", {"Policy": WIDE}, "InvalidSubjectCredentials"
    yield "GetScopedCredentials", "no permission", "narrow", {"DurationSeconds": 1}, "AccessDenied"
    yield "GetScopedCredentials", "a fourth policy", "narrowed", {"Policy": WIDE}, "AccessDenied"
    yield "GetScopedCredentials", "longer than the session", "short", {"DurationSeconds": 901}, "InsufficientSessionLifetime"
    yield "GetScopedCredentials", "policy is none", "session", {"Policy": "{"}, "MalformedPolicyDocument"
    yield "GetScopedCredentials", "nothing narrowed", "session", {"ScopedSessionDescription": "for nothing"}, "ValidationError"
    yield "GetScopedCredentials", "129601 s", "session", {"DurationSeconds": 129601}, "ValidationError"
    yield "GetWebIdentityToken", "allowed", "alice", web, "ok"
    yield "GetWebIdentityToken", "no permission", "bob", web, "AccessDenied"
    yield "GetWebIdentityToken", "unknown algorithm", "alice", {**web, "SigningAlgorithm": "HS256"}, "ValidationError"
    yield "GetWebIdentityToken", "59 s", "alice", {**web, "DurationSeconds": 59}, "ValidationError"
    yield "GetWebIdentityToken", "beyond its session", "short", {**web, "DurationSeconds": 3600}, "SessionDurationEscalationException"
    yield "GetWebIdentityToken", "too many claims", "alice", {**web, "Tags": [{"Key": f"k{i}", "Value": "x" * 256} for i in range(50)]}, "JWTPayloadSizeExceededException"


HEAVY = REFUSAL = None


@pytest.fixture(scope="module")
def callers(world):
    global HEAVY, REFUSAL
    digest = lambda i: "".join(hashlib.sha256(f"{i}{j}".encode()).hexdigest() for j in range(4))[:250]
    HEAVY = [{"Key": f"key{i}", "Value": digest(i)} for i in range(30)]
    key = lambda user: (world["users"][user]["access_key_id"], world["users"][user]["secret_access_key"], None)
    alice = client(world, key("alice"))
    temporary = lambda answer: tuple(answer["Credentials"][n] for n in ("AccessKeyId", "SecretAccessKey", "SessionToken"))
    with pytest.raises(botocore.exceptions.ClientError) as refused:
        alice.assume_role(RoleArn=role(world, "Guarded"), RoleSessionName="table")
    session = temporary(alice.assume_role(RoleArn=role(world), RoleSessionName="caller"))
    narrow = lambda key, policy: temporary(client(world, key).get_scoped_credentials(Policy=policy))
    narrowed = session
    for _ in range(3):
        narrowed = narrow(narrowed, WIDE)
    REFUSAL = refused.value.response["Error"]["Message"].rsplit(": ", 1)[1]
    return {
        "alice": key("alice"),
        "bob": key("bob"),
        "thief": (key("alice")[0], "x" * 40, None),
        "nobody": ("AKIA" + "X" * 16, "x" * 40, None),
        "session": session,
        "narrowed": narrowed,
        "narrow": narrow(session, WIDE.replace('"*"', '"s3:*"', 1)),
        "short": temporary(alice.assume_role(RoleArn=role(world, "Deploy"), RoleSessionName="short", DurationSeconds=900)),
        "own": temporary(alice.get_session_token()),
        "guest": temporary(alice.get_federation_token(Name="guest", Policy=WIDE)),
    }


def client(world, key):
    return boto3.client(
        "sts",
        endpoint_url=world["sts_endpoint"],
        region_name=world["region"],
        aws_access_key_id=key[0],
        aws_secret_access_key=key[1],
        aws_session_token=key[2],
        config=NAIVE,
    )


def by_boto3(world, key, action, parameters):
    method = {"GetWebIdentityToken": "get_web_identity_token"}.get(action) or botocore.xform_name(action)
    try:
        getattr(client(world, key), method)(**parameters)
        return "ok"
    except botocore.exceptions.ClientError as error:
        return error.response["Error"]["Code"]


# The pinned AWS CLI has a botocore of its own, which does not know the action yet.
UNKNOWN_TO_THE_CLI = {"GetScopedCredentials"}


def by_cli(world, key, action, parameters, environment):
    if action in UNKNOWN_TO_THE_CLI:
        return "no such command"
    environment = {**environment, "AWS_ACCESS_KEY_ID": key[0], "AWS_SECRET_ACCESS_KEY": key[1]}
    if key[2]:
        environment["AWS_SESSION_TOKEN"] = key[2]
    command = [sys.executable, "-m", "awscli", "sts", botocore.xform_name(action, "-")]
    done = subprocess.run(
        [*command, "--cli-input-json", json.dumps(parameters)], env=environment, capture_output=True, text=True
    )
    if done.returncode == 0:
        return "ok"
    if "Parameter validation failed" in done.stderr:
        return "refused by the client"
    return done.stderr.split("An error occurred (", 1)[1].split(")", 1)[0]


def by_grpc(world, key, action, parameters):
    host = world["grpc_endpoint"].removeprefix("http://")
    renamed = {n[0].lower() + n[1:]: v for n, v in parameters.items()}
    if "tags" in renamed:
        renamed["tags"] = [{"key": t["Key"], "value": t["Value"]} for t in renamed["tags"]]
    if "policyArns" in renamed:
        renamed["policyArns"] = [p["arn"] for p in renamed["policyArns"]]
    if "providedContexts" in renamed:
        return "no such parameter"
    request = json_format.ParseDict(renamed, getattr(example.sts, action + "Request")())
    with grpc.insecure_channel(host) as channel:
        try:
            example.call(channel, host, action, request, getattr(example.sts, action + "Response"), Credentials(*key))
            return "ok"
        except grpc.RpcError as error:
            trailers = dict(error.trailing_metadata())
            status = status_pb2.Status.FromString(trailers["grpc-status-details-bin"])
            info = error_details_pb2.ErrorInfo()
            assert any(detail.Unpack(info) for detail in status.details)
            return info.reason


def test_the_table(world, callers, environment, capsys):
    # What the CLI refuses by itself never reaches the broker; what gRPC has no field for cannot be sent.
    excused = {"refused by the client", "no such parameter", "no such command"}
    rows, wrong = [], []
    for action, case, who, parameters, expected in cases(world):
        key = callers[who]
        got = {
            "boto3": by_boto3(world, key, action, parameters),
            "aws": by_cli(world, key, action, parameters, environment),
            "gRPC": by_grpc(world, key, action, parameters),
        }
        rows.append((action, case, expected, *got.values()))
        if any(code != expected and code not in excused for code in got.values()):
            wrong.append(rows[-1])
    with capsys.disabled():
        header = ("action", "case", "expected", "boto3", "aws", "gRPC")
        widths = [max(len(row[i]) for row in [header, *rows]) for i in range(len(header))]
        print()
        for row in [header, *rows]:
            print("  ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip())
    assert not wrong


def test_the_packed_size_and_its_bill(world, callers):
    alice = client(world, callers["alice"])
    assume = lambda **more: alice.assume_role(RoleArn=role(world), RoleSessionName="packed", **more)["PackedPolicySize"]
    assert assume() == 0
    few, many = assume(Tags=HEAVY[:3]), assume(Tags=HEAVY[:10])
    assert 0 < few < many <= 100 and assume(Tags=HEAVY[:10], Policy=WIDE) >= many
    # Transitive status costs nothing.
    assert assume(Tags=HEAVY[:3], TransitiveTagKeys=["key0", "key1", "key2"]) - few <= 1
    assert alice.get_federation_token(Name="guest", Tags=HEAVY[:3])["PackedPolicySize"] == few
    with pytest.raises(botocore.exceptions.ClientError) as refused:
        assume(Tags=HEAVY, Policy=WIDE)
    message = refused.value.response["Error"]["Message"]
    assert message.startswith("Packed size of session policies and tags consumes 1"), message
    assert "% from Policy" in message and "% from tag key" in message and "from 20 more tags" in message


def test_mfa_by_grpc(world, callers):
    user = world["users"]["alice"]
    time.sleep(30 - time.time() % 30 + 0.1)
    proof = dict(SerialNumber=user["mfa_serial"], TokenCode=code(user["mfa_seed"], 1))
    assert by_grpc(world, callers["alice"], "GetSessionToken", proof) == "ok"
    assert by_grpc(world, callers["alice"], "GetSessionToken", proof) == "AccessDenied"


def test_the_sdk_for_javascript(world, environment):
    here = Path(__file__).parent / "js"
    arguments = ["node", str(here / "chain.mjs"), role(world)]
    done = subprocess.run(arguments, env=environment, capture_output=True, text=True, cwd=here)
    assert done.stdout.split() == [f"arn:aws:sts::{world['account_id']}:assumed-role/Demo/javascript", "AccessDenied"], done.stderr


def test_the_sdk_for_rust(world, environment):
    here = Path(__file__).parent / "rust"
    target = {"CARGO_TARGET_DIR": str(Path(__file__).parents[2] / "target/sdk-client")}
    build = ["cargo", "build", "--quiet", "--locked", "--manifest-path", str(here / "Cargo.toml")]
    subprocess.run(build, env={**os.environ, **target}, check=True)
    program = Path(target["CARGO_TARGET_DIR"]) / "debug/sdk-client"
    done = subprocess.run([program, role(world)], env=environment, capture_output=True, text=True)
    assert done.stdout.split() == [f"arn:aws:sts::{world['account_id']}:assumed-role/Demo/rust", "AccessDenied"], done.stderr
