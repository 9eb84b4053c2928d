"""What `aws iam get-account-authorization-details` prints of one broker is imported into another one as it is, and
that one prints the same."""

import json
import os
import subprocess
import sys

from stored import Stored
from test_mfa import iam

LISTS = ("UserDetailList", "GroupDetailList", "RoleDetailList", "Policies")
BOUNDARY = "arn:aws:iam::aws:policy/PowerUserAccess"
# White space, a scalar where AWS writes a list, and characters that are encoded on the wire.
SPACED = '{ "Version": "2012-10-17",\n "Statement": { "Effect": "Allow", "Action": "s3:Get*", "Resource": "arn:aws:s3:::a+b/ö%" } }'


def trust(principal):
    statement = {"Effect": "Allow", "Principal": {"AWS": principal}, "Action": "sts:AssumeRole"}
    return json.dumps({"Version": "2012-10-17", "Statement": [statement]})


def details(url, key, secret):
    environment = {
        "PATH": os.environ["PATH"],
        "AWS_REGION": "us-east-1",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_ENDPOINT_URL_IAM": url,
        "AWS_ACCESS_KEY_ID": key,
        "AWS_SECRET_ACCESS_KEY": secret,
        "AWS_CONFIG_FILE": "/dev/null",
        "AWS_SHARED_CREDENTIALS_FILE": "/dev/null",
    }
    command = [sys.executable, "-m", "awscli", "iam", "get-account-authorization-details", "--page-size", "3"]
    printed = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert printed.returncode == 0, printed.stderr
    return printed.stdout


def test_the_details_of_an_account_are_imported_as_they_are_printed(world, tmp_path):
    client, account = iam(world), world["account_id"]
    arn = client.create_policy(PolicyName="rich", Path="/rich/", PolicyDocument=SPACED, Description="Größe <1>")["Policy"]["Arn"]
    for _ in range(2):
        client.create_policy_version(PolicyArn=arn, PolicyDocument=SPACED.replace("Get", "List"), SetAsDefault=True)
    client.delete_policy_version(PolicyArn=arn, VersionId="v2")

    tags = [{"Key": "Größe", "Value": "1 = 2"}, {"Key": "empty", "Value": ""}]
    client.create_user(UserName="Rich", Path="/people/", PermissionsBoundary=BOUNDARY, Tags=tags)
    client.create_group(GroupName="rich", Path="/teams/")
    client.add_user_to_group(GroupName="rich", UserName="Rich")
    leaver = client.create_user(UserName="leaver")["User"]
    for name in ("rich", "left"):
        document = trust(f"arn:aws:iam::{account}:user/{'people/Rich' if name == 'rich' else 'leaver'}")
        client.create_role(RoleName=name, Path="/rich/", AssumeRolePolicyDocument=document)
    client.update_role(RoleName="rich", Description="Serves\nall.", MaxSessionDuration=43200)
    client.put_role_permissions_boundary(RoleName="rich", PermissionsBoundary=arn)
    client.tag_role(RoleName="rich", Tags=tags)
    for kind, name in (("user", "Rich"), ("group", "rich"), ("role", "rich")):
        owner = {f"{kind.title()}Name": name}
        getattr(client, f"put_{kind}_policy")(**owner, PolicyName="own", PolicyDocument=SPACED)
        for attached in (arn, "arn:aws:iam::aws:policy/SecurityAudit"):
            getattr(client, f"attach_{kind}_policy")(**owner, PolicyArn=attached)
    client.create_instance_profile(InstanceProfileName="rich", Path="/rich/", Tags=tags)
    client.add_role_to_instance_profile(InstanceProfileName="rich", RoleName="rich")
    # Now a role trusts an id that nobody has any more.
    client.delete_user(UserName="leaver")

    alice = world["users"]["alice"]
    printed = details(world["iam_endpoint"], alice["access_key_id"], alice["secret_access_key"])
    assert leaver["UserId"] in printed and "user/leaver" not in printed
    other = Stored(tmp_path / "home", printed)
    try:
        found = json.loads(details(other.url, *other.keys))
    finally:
        other.stop()
    # What `brevet init` made of itself.
    for part in LISTS:
        found[part] = [entry for entry in found[part] if entry.get("Arn", "").rpartition("/")[2].lower() != "administrator"]
    assert found == json.loads(printed)
