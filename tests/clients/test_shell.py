"""What people paste: the AWS CLI, our own commands, and the Python example over gRPC."""

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

EXAMPLE = Path(__file__).parents[2] / "examples/python/assume_role.py"


def run(arguments, environment, expect=0):
    done = subprocess.run(arguments, env=environment, capture_output=True, text=True)
    assert done.returncode == expect, done.stderr
    return done.stdout if expect == 0 else done.stderr


def aws(*arguments):
    return [sys.executable, "-m", "awscli", "sts", *arguments]


def test_the_cli(world, environment):
    role = world["roles"]["Demo"]["arn"]
    assert json.loads(run(aws("get-caller-identity"), environment))["Arn"] == world["users"]["alice"]["arn"]
    answer = json.loads(run(aws("assume-role", "--role-arn", role, "--role-session-name", "cli"), environment))
    assert answer["Credentials"]["Expiration"].endswith("Z")
    error = run(aws("assume-role", "--role-arn", role + "x", "--role-session-name", "cli"), environment, expect=255)
    assert "An error occurred (AccessDenied) when calling the AssumeRole operation: User: " in error


def test_a_refusal_is_explained(world, environment):
    partner = world["roles"]["Partner"]["arn"]
    arguments = ["--role-arn", partner, "--role-session-name", "cli", "--external-id", "Demo-1234"]
    error = run(aws("assume-role", *arguments), environment, expect=255)
    explain = [world["brevet"], "explain", "--endpoint", world["grpc_endpoint"]]
    told = run([*explain, error], environment)
    assert "Statement[0] of the role's trust policy requires StringEquals sts:externalid `demo-1234`" in told
    assert "the request has `Demo-1234` (differs only in case)" in told
    encoded = error.rsplit(": ", 1)[1].strip()
    decoded = json.loads(run([*explain, "--json", encoded], environment))
    answered = json.loads(run(aws("decode-authorization-message", "--encoded-message", encoded), environment))
    assert decoded["context"]["resource"] == json.loads(answered["DecodedMessage"])["context"]["resource"] == partner


def test_our_command_feeds_the_cli(world, environment):
    role = world["roles"]["Demo"]["arn"]
    command = [world["brevet"], "assume-role", "--endpoint", world["grpc_endpoint"], "--role-session-name", "ours"]
    printed = json.loads(run([*command, "--role-arn", role], environment))
    assert printed["AssumedRoleUser"]["Arn"].endswith("/ours")
    exports = run([*command, "--role-arn", role, "--format", "env"], environment)
    lines = [line.removeprefix("export ") for line in exports.splitlines() if line.startswith("export ")]
    keys = {name: value.strip("'") for name, value in (line.split("=", 1) for line in lines)}
    assert json.loads(run(aws("get-caller-identity"), {**environment, **keys}))["Arn"].endswith("/ours")
    refused = run([*command, "--role-arn", role + "x"], environment, expect=1)
    assert refused.startswith("error: AccessDenied: User: ")


def test_the_python_example_signs_grpc_calls(world, environment):
    host = world["grpc_endpoint"].removeprefix("http://")
    output = run([sys.executable, str(EXAMPLE), host, world["roles"]["Demo"]["arn"], "python"], environment)
    assert output.startswith("arn:aws:sts::111122223333:assumed-role/Demo/python until ")


def test_sessions_end_by_our_command_and_by_python(world, environment):
    def assume(name):
        command = aws("assume-role", "--role-arn", world["roles"]["Demo"]["arn"], "--role-session-name", name)
        keys = json.loads(run(command, environment))["Credentials"]
        names = {"AWS_ACCESS_KEY_ID": "AccessKeyId", "AWS_SECRET_ACCESS_KEY": "SecretAccessKey", "AWS_SESSION_TOKEN": "SessionToken"}
        return {**environment, **{name: keys[field] for name, field in names.items()}}

    ours, theirs = assume("ours-to-end"), assume("theirs-to-end")
    sessions = [world["brevet"], "sessions"]
    call = ["--endpoint", world["grpc_endpoint"]]
    listed = json.loads(run([*sessions, "list", *call, "--max-items", "1000"], environment))["Sessions"]
    found = next(s for s in listed if s["AccessKeyId"] == ours["AWS_ACCESS_KEY_ID"])
    assert found["CameFrom"] == [world["users"]["alice"]["arn"]] and not found["Revoked"]
    answer = json.loads(run([*sessions, "revoke", *call, "--session-id", found["SessionId"]], environment))
    assert (answer["NodesConnected"], answer["NodesConfirmed"], answer["Pending"]) == (1, 1, [])
    assert "InvalidClientTokenId" in run(aws("get-caller-identity"), ours, expect=255)
    assert json.loads(run([*sessions, "show", *call, found["SessionId"]], environment))["Revoked"]
    assert json.loads(run(aws("get-caller-identity"), theirs))["Arn"].endswith("/theirs-to-end")

    spec = importlib.util.spec_from_file_location("example", EXAMPLE)
    example = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(example)
    example.SERVICE = "brevet.sts.v1.SessionAdministration"
    admin = example.grpc.protos("brevet/sts/v1/session_administration.proto")
    host = world["grpc_endpoint"].removeprefix("http://")
    alice = example.Credentials(environment["AWS_ACCESS_KEY_ID"], environment["AWS_SECRET_ACCESS_KEY"])
    request = admin.RevokeSessionsRequest(access_key_id=theirs["AWS_ACCESS_KEY_ID"])
    with example.grpc.insecure_channel(host) as channel:
        revoked = example.call(channel, host, "RevokeSessions", request, admin.RevokeSessionsResponse, alice)
    assert revoked.sequence_number == answer["SequenceNumber"] + 1
    assert "InvalidClientTokenId" in run(aws("get-caller-identity"), theirs, expect=255)
    assert "required" in run([*sessions, "revoke", *call], environment, expect=2)
