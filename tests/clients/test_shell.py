"""What people paste: the AWS CLI, our own commands, and the Python example over gRPC."""

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


def test_our_command_feeds_the_cli(world, environment):
    role = world["roles"]["Demo"]["arn"]
    command = [world["brevet"], "assume-role", "--endpoint", world["grpc_endpoint"], "--role-session-name", "ours"]
    printed = json.loads(run([*command, "--role-arn", role], environment))
    assert printed["AssumedRoleUser"]["Arn"].endswith("/ours")
    exports = run([*command, "--role-arn", role, "--format", "env"], environment)
    keys = dict(line.removeprefix("export ").split("=", 1) for line in exports.splitlines())
    assert json.loads(run(aws("get-caller-identity"), {**environment, **keys}))["Arn"].endswith("/ours")
    refused = run([*command, "--role-arn", role + "x"], environment, expect=1)
    assert refused.startswith("error: AccessDenied: User: ")


def test_credential_process(world, environment, tmp_path):
    config = tmp_path / "config"
    config.write_text(
        f"[profile brevet]\nregion = {world['region']}\ncredential_process = {world['brevet']} assume-role --endpoint"
        f" {world['grpc_endpoint']} --role-arn {world['roles']['Demo']['arn']} --role-session-name process"
        " --format credential-process\n"
    )
    with_profile = {**environment, "AWS_CONFIG_FILE": str(config)}
    answer = json.loads(run(aws("get-caller-identity", "--profile", "brevet"), with_profile))
    assert answer["Arn"].endswith("/process")


def test_the_python_example_signs_grpc_calls(world, environment):
    host = world["grpc_endpoint"].removeprefix("http://")
    output = run([sys.executable, str(EXAMPLE), host, world["roles"]["Demo"]["arn"], "python"], environment)
    assert output.startswith("arn:aws:sts::111122223333:assumed-role/Demo/python until ")
