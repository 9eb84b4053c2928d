"""Policies, attachments, providers and the account, as boto3, Terraform and importers call them."""

import json
import subprocess
import urllib.parse
from pathlib import Path

import pytest
from test_boto3 import refused
from test_mfa import iam

DATA = Path(__file__).parents[1] / "data"


def document(*actions, effect="Allow"):
    statement = {"Effect": effect, "Action": list(actions), "Resource": "*"}
    return json.dumps({"Version": "2012-10-17", "Statement": [statement]}, indent=2)


@pytest.fixture
def client(world):
    return iam(world)


def gone(client, call):
    with pytest.raises(client.exceptions.NoSuchEntityException):
        call()


def delete_policy(client, arn):
    """As Terraform and Ansible do it: versions first."""
    for version in client.list_policy_versions(PolicyArn=arn)["Versions"]:
        if not version["IsDefaultVersion"]:
            client.delete_policy_version(PolicyArn=arn, VersionId=version["VersionId"])
    client.delete_policy(PolicyArn=arn)


def test_terraform_policy(client, world):
    """aws_iam_policy: create, read, update beyond five versions, import, delete; all of it twice."""
    arn = f"arn:aws:iam::{world['account_id']}:policy/tf/example"
    for _ in range(2):
        made = client.create_policy(
            PolicyName="example",
            Path="/tf/",
            PolicyDocument=document("s3:Get*"),
            Description="",
            Tags=[{"Key": "Name", "Value": "example"}],
        )["Policy"]
        assert made["Arn"] == arn and made["PolicyId"].startswith("ANPA")
        client.get_waiter("policy_exists").wait(PolicyArn=arn)
        for count in range(7):
            versions = client.list_policy_versions(PolicyArn=arn)["Versions"]
            if len(versions) == 5:
                others = [v for v in versions if not v["IsDefaultVersion"]]
                oldest = min(others, key=lambda v: (v["CreateDate"], int(v["VersionId"][1:])))
                client.delete_policy_version(PolicyArn=arn, VersionId=oldest["VersionId"])
            text = document(f"s3:Get{count}")
            version = client.create_policy_version(PolicyArn=arn, PolicyDocument=text, SetAsDefault=False)
            version = version["PolicyVersion"]
            assert version["VersionId"] == f"v{count + 2}"
            client.set_default_policy_version(PolicyArn=arn, VersionId=version["VersionId"])
            # The read finds what was written, to the byte.
            policy = client.get_policy(PolicyArn=arn)["Policy"]
            assert policy["DefaultVersionId"] == version["VersionId"]
            read = client.get_policy_version(PolicyArn=arn, VersionId=policy["DefaultVersionId"])
            assert read["PolicyVersion"]["Document"] == json.loads(text)
            assert policy["Description"] == "" and policy["Tags"] == [{"Key": "Name", "Value": "example"}]
        delete_policy(client, arn)
        gone(client, lambda: client.get_policy(PolicyArn=arn))
        gone(client, lambda: client.list_policy_versions(PolicyArn=arn))


def test_a_document_comes_back_as_it_was_sent(client, world):
    text = '{ "Version":"2012-10-17",\n\t"Statement":{"Effect":"Allow","Action":"s3:*","Resource":"arn:aws:s3:::a+b/~ é%"} }'
    client.put_user_policy(UserName="bob", PolicyName="raw", PolicyDocument=text)
    kept = []
    client.meta.events.register("before-parse.iam.GetUserPolicy", lambda response_dict, **_: kept.append(response_dict["body"]))
    client.get_user_policy(UserName="bob", PolicyName="raw")
    (raw,) = kept
    encoded = raw.decode().split("<PolicyDocument>")[1].split("</PolicyDocument>")[0]
    assert encoded == urllib.parse.quote(text, safe="-._~")
    client.delete_user_policy(UserName="bob", PolicyName="raw")


@pytest.mark.parametrize("kind,name", [("user", "bob"), ("role", "Demo")])
def test_terraform_inline_policy_and_attachment(client, world, kind, name):
    owner = {f"{kind.title()}Name": name}
    call = lambda verb, noun, **more: getattr(client, f"{verb}_{noun}")(**owner, **more)
    inline = f"{kind}_policy"
    arn = client.create_policy(PolicyName=f"att-{kind}", PolicyDocument=document("s3:*"))["Policy"]["Arn"]
    of_aws = "arn:aws:iam::aws:policy/service-role/AWSLambdaBasicExecutionRole"
    for _ in range(2):
        for text in (document("s3:Get*"), document("s3:List*")):
            call("put", inline, PolicyName="tf", PolicyDocument=text)
            got = call("get", inline, PolicyName="tf")
            assert got["PolicyDocument"] == json.loads(text) and got[f"{kind.title()}Name"] == name
        pages = client.get_paginator(f"list_{kind}_policies").paginate(**owner, PaginationConfig={"PageSize": 1})
        assert "tf" in [policy for page in pages for policy in page["PolicyNames"]]
        call("delete", inline, PolicyName="tf")
        gone(client, lambda: call("get", inline, PolicyName="tf"))
        gone(client, lambda: call("delete", inline, PolicyName="tf"))
        for policy in (arn, of_aws):
            call("attach", inline, PolicyArn=policy)
            call("attach", inline, PolicyArn=policy)
        pages = client.get_paginator(f"list_attached_{kind}_policies").paginate(**owner, PaginationConfig={"PageSize": 1})
        attached = [policy["PolicyArn"] for page in pages for policy in page["AttachedPolicies"]]
        assert sorted(attached) == sorted([arn, of_aws])
        # aws_iam_policy_attachment reads the other way round.
        pages = client.get_paginator("list_entities_for_policy").paginate(PolicyArn=arn, PaginationConfig={"PageSize": 1})
        found = [entity[f"{kind.title()}Name"] for page in pages for entity in page[f"Policy{kind.title()}s"]]
        assert found == [name]
        with pytest.raises(client.exceptions.DeleteConflictException):
            client.delete_policy(PolicyArn=arn)
        for policy in (arn, of_aws):
            call("detach", inline, PolicyArn=policy)
            gone(client, lambda: call("detach", inline, PolicyArn=policy))
    client.delete_policy(PolicyArn=arn)


def test_a_thousand_policies_by_pages(client, world):
    count = 250
    for number in range(count):
        client.create_policy(PolicyName=f"many-{number:04}", Path="/many/", PolicyDocument=document("s3:*"))
    for size in (None, 7, 1000):
        config = {} if size is None else {"PaginationConfig": {"PageSize": size}}
        pages = client.get_paginator("list_policies").paginate(Scope="Local", PathPrefix="/many/", **config)
        names = [policy["PolicyName"] for page in pages for policy in page["Policies"]]
        assert names == [f"many-{number:04}" for number in range(count)]
    for number in range(count):
        client.delete_policy(PolicyArn=f"arn:aws:iam::{world['account_id']}:policy/many/many-{number:04}")


def test_terraform_openid_connect_provider(client, world):
    arn = f"arn:aws:iam::{world['account_id']}:oidc-provider/token.example.com/x"
    for _ in range(2):
        made = client.create_open_id_connect_provider(
            Url="https://token.example.com/x", ClientIDList=["sts.amazonaws.com"], Tags=[{"Key": "a", "Value": "b"}]
        )
        assert made["OpenIDConnectProviderArn"] == arn
        client.update_open_id_connect_provider_thumbprint(OpenIDConnectProviderArn=arn, ThumbprintList=["ab" * 20])
        client.add_client_id_to_open_id_connect_provider(OpenIDConnectProviderArn=arn, ClientID="more")
        client.remove_client_id_from_open_id_connect_provider(OpenIDConnectProviderArn=arn, ClientID="sts.amazonaws.com")
        got = client.get_open_id_connect_provider(OpenIDConnectProviderArn=arn)
        assert got["Url"] == "token.example.com/x" and got["ThumbprintList"] == ["ab" * 20]
        assert got["ClientIDList"] == ["more"] and got["Tags"] == [{"Key": "a", "Value": "b"}]
        assert {"Arn": arn} in client.list_open_id_connect_providers()["OpenIDConnectProviderList"]
        client.delete_open_id_connect_provider(OpenIDConnectProviderArn=arn)
        gone(client, lambda: client.get_open_id_connect_provider(OpenIDConnectProviderArn=arn))


def test_terraform_saml_provider(client, world):
    text = (DATA / "saml" / "pysaml2-metadata.xml").read_text()
    for _ in range(2):
        arn = client.create_saml_provider(Name="tf", SAMLMetadataDocument=text)["SAMLProviderArn"]
        assert client.get_saml_provider(SAMLProviderArn=arn)["SAMLMetadataDocument"] == text
        changed = text + "\r\n<!-- renewed -->"
        client.update_saml_provider(SAMLProviderArn=arn, SAMLMetadataDocument=changed)
        got = client.get_saml_provider(SAMLProviderArn=arn)
        assert got["SAMLMetadataDocument"] == changed and got["SAMLProviderUUID"]
        assert [p["Arn"] for p in client.list_saml_providers()["SAMLProviderList"]] == [arn]
        client.delete_saml_provider(SAMLProviderArn=arn)
        gone(client, lambda: client.get_saml_provider(SAMLProviderArn=arn))


def test_the_whole_account(client, world, tmp_path):
    client.attach_role_policy(RoleName="Demo", PolicyArn="arn:aws:iam::aws:policy/ReadOnlyAccess")
    whole = {}
    for page in client.get_paginator("get_account_authorization_details").paginate(PaginationConfig={"PageSize": 2}):
        for name in ("UserDetailList", "GroupDetailList", "RoleDetailList", "Policies"):
            whole.setdefault(name, []).extend(page[name])
    assert {role["RoleName"] for role in whole["RoleDetailList"]} == set(world["roles"])
    (policy,) = [p for p in whole["Policies"] if p["PolicyName"] == "ReadOnlyAccess"]
    assert policy["AttachmentCount"] == 1 and policy["PolicyVersionList"][0]["Document"]["Statement"]
    path = tmp_path / "account.json"
    path.write_text(json.dumps(whole, default=str))
    analyzed = subprocess.run([world["brevet"], "policy", "analyze", path], capture_output=True, text=True)
    assert analyzed.returncode in (0, 1), analyzed.stderr
    client.detach_role_policy(RoleName="Demo", PolicyArn="arn:aws:iam::aws:policy/ReadOnlyAccess")
    summary = client.get_account_summary()["SummaryMap"]
    assert summary["Roles"] == len(world["roles"]) and summary["Users"] == len(whole["UserDetailList"])


def test_bob_may_not(world):
    bob = iam(world, user="bob")
    for call in (
        lambda: bob.list_policies(),
        lambda: bob.get_account_authorization_details(),
        lambda: bob.create_policy(PolicyName="p", PolicyDocument="{}"),
        lambda: bob.attach_user_policy(UserName="bob", PolicyArn="arn:aws:iam::aws:policy/AdministratorAccess"),
    ):
        assert refused(call) == ("AccessDenied", 403)
