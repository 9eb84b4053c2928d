"""The modules of Ansible for IAM, unmodified. Each entity is created, created again, changed, read and deleted; a
module that finds nothing to change must say so."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT
from test_boto3 import refused
from test_mfa import iam

COLLECTIONS = ROOT / "target/clients/ansible"
METADATA = ROOT / "tests/data/saml/pysaml2-metadata.xml"
READ_ONLY = "arn:aws:iam::aws:policy/ReadOnlyAccess"
POWER_USER = "arn:aws:iam::aws:policy/PowerUserAccess"


def document(*actions):
    return {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": list(actions), "Resource": "*"}]}


def trust(*services):
    principal = {"Service": list(services)}
    return {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Principal": principal, "Action": "sts:AssumeRole"}]}


class Playbook:
    """Tasks, each with whether it must change something."""

    def __init__(self):
        self.tasks = []

    def step(self, module, changes, expect="true", **arguments):
        name = module if "." in module else f"amazon.aws.{module}"
        wrong = f"step.changed != {'true' if changes else 'false'} or not ({expect})"
        self.tasks.append(
            {
                "name": f"{module} {arguments} {'changes something' if changes else 'changes nothing'}",
                name: arguments,
                "register": "step",
                "failed_when": f"step is failed or {wrong}",
            }
        )

    def twice(self, module, expect="true", **arguments):
        """The first time changes something, the second time does not."""
        for changes in (True, False):
            self.step(module, changes, expect, **arguments)

    def run(self, world, home):
        path = home / "playbook.json"
        path.write_text(json.dumps([{"hosts": "localhost", "gather_facts": False, "tasks": self.tasks}]))
        alice = world["users"]["alice"]
        environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(home),
            "LANG": "C.UTF-8",
            "ANSIBLE_COLLECTIONS_PATH": str(COLLECTIONS),
            "ANSIBLE_LOCALHOST_WARNING": "false",
            "ANSIBLE_PIPELINING": "true",
            "ANSIBLE_PYTHON_INTERPRETER": sys.executable,
            "AWS_URL": world["iam_endpoint"],
            "AWS_REGION": "us-east-1",
            "AWS_ACCESS_KEY_ID": alice["access_key_id"],
            "AWS_SECRET_ACCESS_KEY": alice["secret_access_key"],
        }
        program = Path(sys.executable).parent / "ansible-playbook"
        ran = subprocess.run([program, "-i", "localhost,", "-c", "local", path], env=environment, capture_output=True, text=True)
        assert ran.returncode == 0, ran.stdout[-4000:] + ran.stderr[-2000:]
        assert f"ok={len(self.tasks)} " in ran.stdout, ran.stdout[-500:]


@pytest.fixture
def playbook():
    return Playbook()


def test_users_groups_and_keys(world, tmp_path, playbook):
    twice, step = playbook.twice, playbook.step
    user = dict(name="ansible", state="present", path="/people/", tags={"team": "blue"}, boundary=POWER_USER)
    twice("iam_user", managed_policies=[READ_ONLY], **user)
    changed = dict(user, tags={"team": "red", "stage": "1"}, boundary=READ_ONLY)
    twice("iam_user", managed_policies=[POWER_USER], purge_policies=True, **changed)
    read = "step.iam_users | map(attribute='user_name') | list == ['ansible'] and step.iam_users[0].tags.team == 'red'"
    step("iam_user_info", False, read, name="ansible")
    step("iam_user", True, name="ansible", state="present", password="Correct-horse-1")
    step("iam_user", False, name="ansible", state="present", password="Another-horse-2", update_password="on_create")
    step("iam_mfa_device_info", False, "step.mfa_devices == []", user_name="ansible")

    group = dict(name="ansible", state="present", path="/teams/")
    twice("iam_group", users=["ansible"], managed_policies=[READ_ONLY], **group)
    twice("iam_group", users=[], purge_users=True, managed_policies=[POWER_USER], purge_policies=True, **group)
    step("iam_group", True, users=["ansible"], **group)
    members = "step.iam_users | map(attribute='user_name') | list == ['ansible']"
    step("iam_user_info", False, members, group="ansible")

    of_user, of_group = (dict(iam_type=kind, iam_name="ansible", policy_name="inline") for kind in ("user", "group"))
    twice("iam_policy", policy_json=document("s3:Get*"), **of_user)
    step("iam_policy", True, policy_json=document("s3:List*"), **of_user)
    step("iam_policy_info", False, "step.policies[0].policy_document.Statement[0].Action == ['s3:List*']", **of_user)
    step("iam_policy", True, policy_json=document("s3:Get*"), **of_group)
    step("iam_policy", True, state="absent", **of_group)

    step("iam_access_key", True, "step.access_key.status == 'Active'", user_name="ansible")
    step("iam_access_key_info", False, "step.access_keys | length == 1", user_name="ansible")
    playbook.tasks.append({"ansible.builtin.set_fact": {"key": "{{ step.access_keys[0].access_key_id }}"}})
    twice("iam_access_key", "step.access_key.status == 'Inactive'", user_name="ansible", id="{{ key }}", active=False)
    step("iam_access_key", True, user_name="ansible")
    step("iam_access_key", True, "step.deleted_access_key_id == key", user_name="ansible", rotate_keys=True)

    # The module takes everything that the user has away before it deletes the user.
    twice("iam_user", name="ansible", state="absent")
    twice("iam_group", name="ansible", state="absent")
    playbook.run(world, tmp_path)
    client = iam(world)
    assert refused(lambda: client.get_user(UserName="ansible")) == ("NoSuchEntity", 404)
    assert refused(lambda: client.get_group(GroupName="ansible")) == ("NoSuchEntity", 404)


def test_roles_policies_and_instance_profiles(world, tmp_path, playbook):
    twice, step = playbook.twice, playbook.step
    arn = f"arn:aws:iam::{world['account_id']}:policy/own/ansible"
    policy = dict(name="ansible", path="/own/", description="By Ansible.")
    twice("iam_managed_policy", policy=document("s3:Get*"), tags={"a": "b"}, **policy)
    # The module deletes the oldest version to make room for a sixth.
    for number in range(4):
        step("iam_managed_policy", True, policy=document(f"s3:Get{number}"), **policy)
    versions = "step.policy.default_version_id == 'v6'"
    twice("iam_managed_policy", versions, policy=document("s3:Put*"), tags={"a": "c", "d": ""}, **policy)
    step("iam_managed_policy", True, policy=document("s3:Delete*"), only_version=True, **policy)

    role = dict(name="ansible", path="/apps/", description="Serves.", max_session_duration=7200)
    role |= dict(boundary=POWER_USER, create_instance_profile=False, tags={"team": "blue"})
    twice("iam_role", assume_role_policy_document=trust("ec2.amazonaws.com"), managed_policies=[arn], **role)
    role |= dict(boundary="", tags={"team": "red"}, description="Serves more.", max_session_duration=43200)
    both = trust("ec2.amazonaws.com", "lambda.amazonaws.com")
    twice("iam_role", assume_role_policy_document=both, managed_policies=[arn, READ_ONLY], **role)
    inline = dict(iam_type="role", iam_name="ansible", policy_name="inline")
    step("iam_policy", True, policy_json=document("s3:List*"), **inline)
    read = "step.iam_roles[0].max_session_duration == 43200 and step.iam_roles[0].inline_policies == ['inline']"
    step("iam_role_info", False, read, name="ansible")
    step("iam_role_info", False, "step.iam_roles | length == 1", path_prefix="/apps/")

    profile = dict(name="ansible-more", path="/apps/")
    twice("iam_instance_profile", role="ansible", tags={"a": "b"}, **profile)
    step("iam_instance_profile", True, role="", tags={"a": "c"}, **profile)
    step("iam_instance_profile_info", False, "step.iam_instance_profiles | length == 1", name="ansible-more")
    step("iam_instance_profile", True, name="ansible-more", state="absent")

    # The module takes everything that the role has away before it deletes the role.
    twice("iam_role", name="ansible", state="absent")
    twice("iam_managed_policy", name="ansible", state="absent")
    playbook.run(world, tmp_path)
    client = iam(world)
    assert refused(lambda: client.get_role(RoleName="ansible")) == ("NoSuchEntity", 404)
    assert refused(lambda: client.get_policy(PolicyArn=arn)) == ("NoSuchEntity", 404)


def test_the_account_and_its_providers(world, tmp_path, playbook):
    twice, step = playbook.twice, playbook.step
    policy = dict(state="present", min_pw_length=12, require_numbers=True, pw_max_age=90, pw_reuse_prevent=5)
    twice("iam_password_policy", **policy)
    step("iam_password_policy", True, **dict(policy, min_pw_length=14, allow_pw_change=True))
    twice("iam_password_policy", state="absent")
    text = METADATA.read_text()
    provider = "community.aws.iam_saml_federation"
    twice(provider, name="ansible", saml_metadata_document=text, state="present")
    step(provider, True, name="ansible", saml_metadata_document=text + "<!-- renewed -->", state="present")
    twice(provider, name="ansible", state="absent")
    playbook.run(world, tmp_path)
    assert iam(world).list_saml_providers()["SAMLProviderList"] == []
