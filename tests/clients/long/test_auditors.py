"""Programs that audit an AWS account read one of Brevet's, unmodified, and find what is there to be found."""

import csv
import json
import os
import subprocess

import pytest
from conftest import ROOT
from test_mfa import iam

PROGRAMS = ROOT / "target/clients/long"


@pytest.fixture
def run(world, tmp_path):
    alice = world["users"]["alice"]
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(tmp_path),
        # Every service, so that nothing leaves this machine.
        "AWS_ENDPOINT_URL": world["iam_endpoint"],
        "AWS_REGION": "us-east-1",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_ACCESS_KEY_ID": alice["access_key_id"],
        "AWS_SECRET_ACCESS_KEY": alice["secret_access_key"],
        "AWS_EC2_METADATA_DISABLED": "true",
    }

    def run(package, program, *arguments):
        command = [PROGRAMS / package / "bin" / program, *arguments]
        ran = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
        assert ran.returncode == 0, ran.stdout[-4000:] + ran.stderr[-4000:]
        return ran.stdout + ran.stderr

    return run


@pytest.fixture
def escalation(world):
    """A user who is no administrator, and can make himself one."""
    client = iam(world)
    statement = {"Effect": "Allow", "Action": ["iam:CreatePolicyVersion", "s3:GetObject"], "Resource": "*"}
    document = json.dumps({"Version": "2012-10-17", "Statement": [statement]})
    arn = client.create_policy(PolicyName="helpdesk", PolicyDocument=document)["Policy"]["Arn"]
    client.create_user(UserName="helper")
    client.attach_user_policy(UserName="helper", PolicyArn=arn)
    yield "helper"
    client.detach_user_policy(UserName="helper", PolicyArn=arn)
    client.delete_policy(PolicyArn=arn)
    client.delete_user(UserName="helper")


def test_prowler_checks_the_account(run, world, tmp_path):
    said = run("prowler", "prowler", *"aws --services iam --region us-east-1 --no-banner -M csv -z -o".split(), tmp_path)
    assert "Something went wrong" not in said and "Scan completed!" in said, said[-4000:]
    (path,) = tmp_path.glob("prowler-output-*.csv")
    with path.open() as lines:
        found = list(csv.DictReader(lines, delimiter=";"))
    assert {row["ACCOUNT_UID"] for row in found} == {world["account_id"]}

    def failed(check):
        return {row["RESOURCE_UID"].rpartition("/")[2] for row in found if (row["CHECK_ID"], row["STATUS"]) == (check, "FAIL")}

    assert failed("iam_inline_policy_no_administrative_privileges") == {"Deploy", "Guarded"}
    assert "alice" in failed("iam_user_hardware_mfa_enabled")
    assert failed("iam_password_policy_minimum_length_14")
    assert not failed("iam_avoid_root_usage") and not failed("iam_no_root_access_key")
    assert len({row["CHECK_ID"] for row in found}) >= 30


def test_cloudsplaining_reads_the_details(run, escalation, tmp_path):
    run("cloudsplaining", "cloudsplaining", "download")
    run("cloudsplaining", "cloudsplaining", "scan", "--input-file", "default.json", "--skip-open-report")
    results = json.loads((tmp_path / "iam-results-default.json").read_text())
    assert {user["name"] for user in results["users"].values()} >= {"alice", "bob", "helper"}
    policies = {policy["PolicyName"]: policy for policy in results["customer_managed_policies"].values()}
    escalations = policies["helpdesk"]["PrivilegeEscalation"]
    assert "CreateNewPolicyVersion" in json.dumps(escalations)


def test_principalmapper_sees_who_can_become_whom(run, world, escalation):
    said = run("principalmapper", "pmapper", "graph", "create", "--include-regions", "us-east-1")
    assert "role/Demo can access via sts:AssumeRole role/Deploy" in said, said
    answer = run("principalmapper", "pmapper", "query", "who can do iam:CreateUser")
    assert "user/alice IS authorized to call action iam:CreateUser" in answer, answer
    assert "role/Demo CAN call action iam:CreateUser for resource * THRU role/Deploy" in answer, answer
    assert "user/helper CAN BECOME authorized" in answer and "user/bob" not in answer, answer
