"""Users, groups, roles and instance profiles by boto3, with its own paginators and waiters, and in the order in
which Terraform's provider calls the API."""

import json

import botocore.exceptions
import pytest
from test_boto3 import refused
from test_mfa import iam
from test_saml import make_key


def trust(world, name="alice"):
    principal = world["users"][name]["arn"]
    statement = {"Effect": "Allow", "Principal": {"AWS": principal}, "Action": "sts:AssumeRole"}
    return {"Version": "2012-10-17", "Statement": [statement]}


def message(call):
    with pytest.raises(botocore.exceptions.ClientError) as caught:
        call()
    return caught.value.response["Error"]["Message"]


def gone(call):
    assert refused(call) == ("NoSuchEntity", 404)


TAGS = [{"Key": "Team", "Value": "blue"}, {"Key": "Stage", "Value": "Größe 1"}]
SORTED = sorted(TAGS, key=lambda tag: tag["Key"])


@pytest.mark.parametrize("time", [1, 2])
def test_a_user_from_its_creation_to_its_end(world, time):
    client = iam(world)
    made = client.create_user(UserName="dora", Path="/people/", Tags=TAGS)["User"]
    client.get_waiter("user_exists").wait(UserName="dora")
    assert made["Arn"] == f"arn:aws:iam::{world['account_id']}:user/people/dora" and made["Tags"] == SORTED
    assert client.get_user(UserName="dora")["User"] == made
    assert refused(lambda: client.create_user(UserName="DORA")) == ("EntityAlreadyExists", 409)
    assert message(lambda: client.create_user(UserName="DORA")) == "User with name DORA already exists."
    client.update_user(UserName="dora", NewUserName="dora", NewPath="/people/")
    client.update_user(UserName="dora", NewUserName="doris", NewPath="/")
    renamed = client.get_user(UserName="doris")["User"]
    assert (renamed["UserId"], renamed["CreateDate"]) == (made["UserId"], made["CreateDate"])
    gone(lambda: client.get_user(UserName="dora"))
    client.untag_user(UserName="doris", TagKeys=["team", "none"])
    client.tag_user(UserName="doris", Tags=[{"Key": "STAGE", "Value": ""}])
    assert client.list_user_tags(UserName="doris")["Tags"] == [{"Key": "STAGE", "Value": ""}]
    client.delete_user(UserName="doris")
    gone(lambda: client.delete_user(UserName="doris"))
    gone(lambda: client.get_user(UserName="doris"))


@pytest.mark.parametrize("time", [1, 2])
def test_groups_and_their_members_as_terraform_calls_them(world, time):
    client = iam(world)
    made = client.create_group(GroupName="devs", Path="/dev/")["Group"]
    assert client.get_group(GroupName="devs")["Group"] == made
    names = [f"member{n:02}" for n in range(12)]
    for name in names:
        client.create_user(UserName=name)
        client.add_user_to_group(GroupName="devs", UserName=name)
        client.add_user_to_group(GroupName="devs", UserName=name)
    pages = client.get_paginator("get_group").paginate(GroupName="devs", PaginationConfig={"PageSize": 5})
    pages = list(pages)
    assert [user["UserName"] for page in pages for user in page["Users"]] == names
    assert len(pages) == 3 and all(page["Group"] == made for page in pages)
    client.update_group(GroupName="devs", NewGroupName="devs", NewPath="/dev/")
    client.update_group(GroupName="devs", NewGroupName="makers", NewPath="/")
    of_user = client.get_paginator("list_groups_for_user").paginate(UserName=names[0])
    assert [g["GroupName"] for page in of_user for g in page["Groups"]] == ["makers"]
    assert refused(lambda: client.delete_group(GroupName="makers")) == ("DeleteConflict", 409)
    assert message(lambda: client.delete_user(UserName=names[0])) == "Cannot delete entity, must remove users from group first."
    for name in names:
        client.remove_user_from_group(GroupName="makers", UserName=name)
        client.delete_user(UserName=name)
    gone(lambda: client.remove_user_from_group(GroupName="makers", UserName="alice"))
    client.delete_group(GroupName="makers")
    gone(lambda: client.get_group(GroupName="makers"))


@pytest.mark.parametrize("time", [1, 2])
def test_a_role_and_its_instance_profile_as_terraform_calls_them(world, time):
    client = iam(world)
    document = json.dumps(trust(world))
    made = client.create_role(
        RoleName="web", Path="/apps/", AssumeRolePolicyDocument=document, Description="", MaxSessionDuration=3600, Tags=TAGS
    )["Role"]
    client.get_waiter("role_exists").wait(RoleName="web")
    assert "MaxSessionDuration" not in made and made["Tags"] == SORTED
    read = client.get_role(RoleName="web")["Role"]
    assert read["AssumeRolePolicyDocument"] == trust(world) and read["MaxSessionDuration"] == 3600
    assert read["RoleLastUsed"] == {} and read["Description"] == "" and read["RoleId"] == made["RoleId"]

    # Nothing differs when it is read again, and updates are read as they were written.
    assert client.get_role(RoleName="web")["Role"] == read
    bob = trust(world, "bob")
    client.update_assume_role_policy(RoleName="web", PolicyDocument=json.dumps(bob))
    client.update_role_description(RoleName="web", Description="Serves.")
    client.update_role(RoleName="web", MaxSessionDuration=43200)
    client.untag_role(RoleName="web", TagKeys=["Team"])
    client.tag_role(RoleName="web", Tags=[{"Key": "Stage", "Value": "2"}])
    read = client.get_role(RoleName="web")["Role"]
    assert (read["AssumeRolePolicyDocument"], read["Description"], read["MaxSessionDuration"]) == (bob, "Serves.", 43200)
    assert read["Tags"] == client.list_role_tags(RoleName="web")["Tags"] == [{"Key": "Stage", "Value": "2"}]
    nobody = json.dumps(trust(world)).replace("user/alice", "user/nobody")
    wrong = dict(RoleName="web", PolicyDocument=nobody)
    assert refused(lambda: client.update_assume_role_policy(**wrong)) == ("MalformedPolicyDocument", 400)
    assert message(lambda: client.update_assume_role_policy(**wrong)).startswith("Invalid principal in policy")

    profile = client.create_instance_profile(InstanceProfileName="web", Path="/apps/", Tags=TAGS)["InstanceProfile"]
    client.get_waiter("instance_profile_exists").wait(InstanceProfileName="web")
    assert profile["Roles"] == [] and profile["Tags"] == SORTED
    client.add_role_to_instance_profile(InstanceProfileName="web", RoleName="web")
    again = dict(InstanceProfileName="web", RoleName="web")
    assert refused(lambda: client.add_role_to_instance_profile(**again)) == ("LimitExceeded", 409)
    shown = [client.get_instance_profile(InstanceProfileName="web")["InstanceProfile"] for _ in range(3)]
    assert shown[0] == shown[1] == shown[2] and shown[0]["Roles"][0]["RoleName"] == "web"
    assert shown[0]["Roles"][0]["AssumeRolePolicyDocument"] == bob
    client.untag_instance_profile(InstanceProfileName="web", TagKeys=["Team"])
    client.tag_instance_profile(InstanceProfileName="web", Tags=[{"Key": "Team", "Value": "red"}])
    assert len(client.list_instance_profile_tags(InstanceProfileName="web")["Tags"]) == 2

    conflict = "Cannot delete entity, must remove roles from instance profile first."
    assert message(lambda: client.delete_role(RoleName="web")) == conflict
    assert message(lambda: client.delete_instance_profile(InstanceProfileName="web")) == conflict
    profiles = client.get_paginator("list_instance_profiles_for_role").paginate(RoleName="web")
    for found in [p["InstanceProfileName"] for page in profiles for p in page["InstanceProfiles"]]:
        client.remove_role_from_instance_profile(InstanceProfileName=found, RoleName="web")
    gone(lambda: client.remove_role_from_instance_profile(InstanceProfileName="web", RoleName="web"))
    client.delete_instance_profile(InstanceProfileName="web")
    client.delete_role(RoleName="web")
    gone(lambda: client.get_instance_profile(InstanceProfileName="web"))
    gone(lambda: client.get_role(RoleName="web"))
    assert message(lambda: client.get_role(RoleName="web")) == "The role with name web cannot be found."


def test_paginators_see_everything_once(world):
    client, names = iam(world), [f"many{n:03}" for n in range(25)]
    document = json.dumps(trust(world))
    for name in names:
        client.create_user(UserName=name, Path="/many/")
        client.create_group(GroupName=name, Path="/many/")
        client.create_role(RoleName=name, Path="/many/", AssumeRolePolicyDocument=document)
        client.create_instance_profile(InstanceProfileName=name, Path="/many/")
    kinds = {
        "list_users": ("Users", "UserName"),
        "list_groups": ("Groups", "GroupName"),
        "list_roles": ("Roles", "RoleName"),
        "list_instance_profiles": ("InstanceProfiles", "InstanceProfileName"),
    }
    for operation, (list_name, name) in kinds.items():
        paginator = client.get_paginator(operation)
        pages = list(paginator.paginate(PathPrefix="/many", PaginationConfig={"PageSize": 10}))
        assert len(pages) == 3
        listed = [entry for page in pages for entry in page[list_name]]
        assert [entry[name] for entry in listed] == names
        assert not any("Tags" in entry or "PermissionsBoundary" in entry for entry in listed)
    roles = client.list_roles(PathPrefix="/many/")["Roles"]
    assert all(role["AssumeRolePolicyDocument"] == trust(world) for role in roles)
    for name in names:
        client.delete_user(UserName=name)
        client.delete_group(GroupName=name)
        client.delete_role(RoleName=name)
        client.delete_instance_profile(InstanceProfileName=name)


def test_tags_of_a_device(world):
    client = iam(world)
    serial = client.create_virtual_mfa_device(VirtualMFADeviceName="tagged", Tags=TAGS)["VirtualMFADevice"]["SerialNumber"]
    client.untag_mfa_device(SerialNumber=serial, TagKeys=["Team"])
    client.tag_mfa_device(SerialNumber=serial, Tags=[{"Key": "Owner", "Value": "x"}])
    tags = client.list_mfa_device_tags(SerialNumber=serial)["Tags"]
    assert [tag["Key"] for tag in tags] == ["Owner", "Stage"]
    client.delete_virtual_mfa_device(SerialNumber=serial)
    gone(lambda: client.list_mfa_device_tags(SerialNumber=serial))


METADATA = (
    '<EntityDescriptor xmlns="urn:oasis:names:tc:SAML:2.0:metadata" entityID="https://tags.example.com">'
    '<IDPSSODescriptor protocolSupportEnumeration="urn:oasis:names:tc:SAML:2.0:protocol"><KeyDescriptor use="signing">'
    '<KeyInfo xmlns="http://www.w3.org/2000/09/xmldsig#"><X509Data><X509Certificate>%s</X509Certificate></X509Data>'
    '</KeyInfo></KeyDescriptor><SingleSignOnService Binding="urn:oasis:names:tc:SAML:2.0:bindings:HTTP-POST" '
    'Location="https://tags.example.com/sso"/></IDPSSODescriptor></EntityDescriptor>' + " " * 1_000
)


def tagged_things(client, world, folder):
    """Of each noun with tags: the parameter that names one, its name, and what deletes it."""
    policy = json.dumps({"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "s3:*", "Resource": "*"}]})
    _, certificate = make_key(folder, "tags")
    certificate = "".join(certificate.read_text().split("-----")[2].split())
    client.create_user(UserName="tagged", Tags=TAGS)
    client.create_role(RoleName="tagged", AssumeRolePolicyDocument=json.dumps(trust(world)), Tags=TAGS)
    client.create_instance_profile(InstanceProfileName="tagged", Tags=TAGS)
    policy = client.create_policy(PolicyName="tagged", PolicyDocument=policy, Tags=TAGS)["Policy"]["Arn"]
    provider = client.create_open_id_connect_provider(Url="https://tags.example.com", ClientIDList=["a"], Tags=TAGS)
    saml = client.create_saml_provider(Name="tagged", SAMLMetadataDocument=METADATA % certificate, Tags=TAGS)
    device = client.create_virtual_mfa_device(VirtualMFADeviceName="tagged", Tags=TAGS)["VirtualMFADevice"]
    return {
        "user": ("UserName", "tagged", client.delete_user),
        "role": ("RoleName", "tagged", client.delete_role),
        "instance_profile": ("InstanceProfileName", "tagged", client.delete_instance_profile),
        "policy": ("PolicyArn", policy, client.delete_policy),
        "open_id_connect_provider": (
            "OpenIDConnectProviderArn", provider["OpenIDConnectProviderArn"], client.delete_open_id_connect_provider),
        "saml_provider": ("SAMLProviderArn", saml["SAMLProviderArn"], client.delete_saml_provider),
        "mfa_device": ("SerialNumber", device["SerialNumber"], client.delete_virtual_mfa_device),
    }


def test_tags_of_every_noun_are_set_listed_and_removed(world, tmp_path):
    client = iam(world)
    things = tagged_things(client, world, tmp_path)
    for noun, (parameter, name, delete) in things.items():
        which = {parameter: name}
        tags = lambda: getattr(client, f"list_{noun}_tags")(**which)["Tags"]
        assert tags() == SORTED, noun
        getattr(client, f"tag_{noun}")(**which, Tags=[{"Key": "Owner", "Value": "x"}, {"Key": "Team", "Value": "red"}])
        assert tags() == [{"Key": "Owner", "Value": "x"}, SORTED[0], {"Key": "Team", "Value": "red"}], noun
        getattr(client, f"untag_{noun}")(**which, TagKeys=["Team", "Stage", "none"])
        assert tags() == [{"Key": "Owner", "Value": "x"}], noun
        many = [{"Key": f"k{n:02}", "Value": str(n)} for n in range(49)]
        getattr(client, f"tag_{noun}")(**which, Tags=many)
        pages, more = [], {}
        while True:
            page = getattr(client, f"list_{noun}_tags")(**which, **more, MaxItems=20)
            pages.append(page["Tags"])
            if not page["IsTruncated"]:
                break
            more = {"Marker": page["Marker"]}
        assert [len(page) for page in pages] == [20, 20, 10], noun
        assert [tag for page in pages for tag in page] == [{"Key": "Owner", "Value": "x"}, *many], noun
        one_more = lambda: getattr(client, f"tag_{noun}")(**which, Tags=[{"Key": "one-more", "Value": ""}])
        assert refused(one_more) == ("LimitExceeded", 409), noun
        delete(**which)
        gone(lambda: tags())
        gone(lambda: getattr(client, f"tag_{noun}")(**which, Tags=TAGS))
        gone(lambda: getattr(client, f"untag_{noun}")(**which, TagKeys=["Team"]))


def test_who_may_not_learns_nothing(world):
    bob = iam(world, user="bob")
    for call in [
        lambda: bob.get_user(UserName="alice"),
        lambda: bob.get_user(UserName="nobody"),
        lambda: bob.delete_user(UserName="nobody"),
        lambda: bob.get_role(RoleName="nobody"),
        lambda: bob.create_user(UserName="alice"),
        lambda: bob.list_roles(),
        lambda: bob.tag_policy(PolicyArn=f"arn:aws:iam::{world['account_id']}:policy/none", Tags=TAGS),
        lambda: bob.list_saml_provider_tags(SAMLProviderArn=f"arn:aws:iam::{world['account_id']}:saml-provider/none"),
    ]:
        assert refused(call) == ("AccessDenied", 403)
