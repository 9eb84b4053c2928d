"""A limited administrator cannot make itself more powerful. Each attempt is refused by one rule, and the same call
succeeds once a policy allows it: what refused it was the rule, not the call."""

import itertools
import json
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from test_boto3 import refused, sts
from test_iam_entities import METADATA
from test_mfa import code, iam
from test_saml import make_key

ALL = {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "*", "Resource": "*"}]}
WIDE = "arn:aws:iam::aws:policy/AdministratorAccess"
NARROW = "arn:aws:iam::aws:policy/ReadOnlyAccess"
NUMBERS = itertools.count()


def allow(action, resource="*", **condition):
    statement = {"Effect": "Allow", "Action": action, "Resource": resource}
    if condition:
        statement["Condition"] = {operator: keys for operator, keys in condition.items()}
    return statement


def document(*statements):
    return json.dumps({"Version": "2012-10-17", "Statement": list(statements)})


@dataclass
class Stage:
    """An account with an administrator's group, role and policy, and eve, who may do a little."""

    world: dict
    admin: object
    number: int = field(default_factory=lambda: next(NUMBERS))
    made: dict = field(default_factory=dict)

    def name(self, what):
        return f"{what}{self.number}"

    def arn(self, kind, name, path="/"):
        return f"arn:aws:iam::{self.world['account_id']}:{kind}{path}{self.name(name)}"

    def build(self):
        admin, name = self.admin, self.name
        self.boundary = admin.create_policy(PolicyName=name("boundary"), PolicyDocument=json.dumps(ALL))["Policy"]["Arn"]
        self.power = admin.create_policy(PolicyName=name("power"), PolicyDocument=json.dumps(ALL))["Policy"]["Arn"]
        narrow = document(allow("s3:Get*"))
        admin.create_policy_version(PolicyArn=self.power, PolicyDocument=narrow, SetAsDefault=True)
        admin.create_group(GroupName=name("Admins"))
        admin.attach_group_policy(GroupName=name("Admins"), PolicyArn=WIDE)
        admin.create_user(UserName=name("boss"), Tags=[{"Key": "team", "Value": "red"}])
        admin.add_user_to_group(GroupName=name("Admins"), UserName=name("boss"))
        trust = document({
            "Effect": "Allow", "Principal": {"AWS": self.world["account_id"]}, "Action": "sts:AssumeRole",
            "Condition": {"StringEquals": {"sts:ExternalId": "none"}},
        })
        admin.create_role(RoleName=name("Power"), AssumeRolePolicyDocument=trust)
        admin.attach_role_policy(RoleName=name("Power"), PolicyArn=WIDE)
        admin.create_instance_profile(InstanceProfileName=name("profile"))
        admin.create_user(UserName=name("eve"), PermissionsBoundary=self.boundary)
        admin.create_group(GroupName=name("Locked"))
        admin.put_group_policy(
            GroupName=name("Locked"), PolicyName="lock",
            PolicyDocument=document({"Effect": "Deny", "Action": "s3:*", "Resource": "*"}),
        )
        admin.add_user_to_group(GroupName=name("Locked"), UserName=name("eve"))
        self.key = admin.create_access_key(UserName=name("eve"))["AccessKey"]
        self.eve = iam(self.world, self.key["AccessKeyId"], self.key["SecretAccessKey"])
        self.trust = trust
        return self

    def once(self, what, make):
        """Something that the administrator makes for an attempt, however often the attempt is repeated."""
        if what not in self.made:
            self.made[what] = make()
        return self.made[what]

    def with_password(self):
        boss = self.name("boss")
        self.once("password", lambda: self.admin.create_login_profile(UserName=boss, Password="Correct-Horse-7-Battery"))
        return boss

    def old_key(self):
        def make():
            key = self.admin.create_access_key(UserName=self.name("boss"))["AccessKey"]["AccessKeyId"]
            self.admin.update_access_key(UserName=self.name("boss"), AccessKeyId=key, Status="Inactive")
            return key

        return self.once("key", make)

    def device(self):
        """A device that nobody has yet, with two codes of it."""

        def make():
            made = self.admin.create_virtual_mfa_device(VirtualMFADeviceName=self.name("phone"))["VirtualMFADevice"]
            self.seed = made["Base32StringSeed"].decode()
            return made["SerialNumber"]

        return {"SerialNumber": self.once("device", make), **self.codes(-1)}

    def codes(self, steps):
        return {"AuthenticationCode1": code(self.seed, steps), "AuthenticationCode2": code(self.seed, steps + 1)}

    def enabled(self):
        self.once("enabled", lambda: self.admin.enable_mfa_device(UserName=self.name("boss"), **self.device()))
        return self.device()["SerialNumber"]

    def metadata(self, entity):
        with tempfile.TemporaryDirectory() as folder:
            _, certificate = make_key(Path(folder), entity)
            return METADATA % "".join(certificate.read_text().split("-----")[2].split())

    def saml(self):
        create = self.admin.create_saml_provider
        make = lambda: create(Name=self.name("corp"), SAMLMetadataDocument=self.metadata("corp"))["SAMLProviderArn"]
        return self.once("saml", make)

    def oidc(self):
        create, url = self.admin.create_open_id_connect_provider, f"https://trusted{self.number}.example.net"
        return self.once("oidc", lambda: create(Url=url, ClientIDList=["a"])["OpenIDConnectProviderArn"])

    def may(self, *statements):
        """Replaces what eve may do. The audit of `iam:Get*` and `iam:List*` on everything is always hers."""
        everything = [allow(["iam:Get*", "iam:List*"]), *statements]
        self.admin.put_user_policy(UserName=self.name("eve"), PolicyName="may", PolicyDocument=document(*everything))


def own(s):
    return s.arn("user", "eve")


# Each attempt: what eve may do, what she tries, and what she would have to be allowed.
ATTEMPTS = {
    "a new default version of a policy that others have": (
        lambda s: allow("iam:CreatePolicyVersion", s.arn("policy", "other")),
        lambda s: s.eve.create_policy_version(PolicyArn=s.power, PolicyDocument=json.dumps(ALL), SetAsDefault=True),
        lambda s: allow("iam:CreatePolicyVersion", s.power),
    ),
    "back to an old version that allowed more": (
        lambda s: allow("iam:CreatePolicyVersion", s.power),
        lambda s: s.eve.set_default_policy_version(PolicyArn=s.power, VersionId="v1"),
        lambda s: allow("iam:SetDefaultPolicyVersion", s.power),
    ),
    "deleting the version that limits": (
        lambda s: allow("iam:SetDefaultPolicyVersion", s.power),
        lambda s: s.eve.delete_policy_version(PolicyArn=s.power, VersionId="v1"),
        lambda s: allow("iam:DeletePolicyVersion", s.power),
    ),
    "another policy than those she may attach to herself": (
        lambda s: allow("iam:AttachUserPolicy", own(s), ArnEquals={"iam:PolicyARN": NARROW}),
        lambda s: s.eve.attach_user_policy(UserName=s.name("eve"), PolicyArn=WIDE),
        lambda s: allow("iam:AttachUserPolicy", own(s), ArnEquals={"iam:PolicyARN": WIDE}),
    ),
    "another policy for a role": (
        lambda s: allow("iam:AttachRolePolicy", "*", ArnEquals={"iam:PolicyARN": NARROW}),
        lambda s: s.eve.attach_role_policy(RoleName=s.name("Power"), PolicyArn=s.power),
        lambda s: allow("iam:AttachRolePolicy", "*", ArnEquals={"iam:PolicyARN": s.power}),
    ),
    "another policy for a group": (
        lambda s: allow("iam:AttachGroupPolicy", "*", ArnEquals={"iam:PolicyARN": NARROW}),
        lambda s: s.eve.attach_group_policy(GroupName=s.name("Locked"), PolicyArn=WIDE),
        lambda s: allow("iam:AttachGroupPolicy", "*", ArnEquals={"iam:PolicyARN": WIDE}),
    ),
    "an inline policy for herself": (
        lambda s: allow("iam:PutUserPolicy", s.arn("user", "other")),
        lambda s: s.eve.put_user_policy(UserName=s.name("eve"), PolicyName="x", PolicyDocument=json.dumps(ALL)),
        lambda s: allow("iam:PutUserPolicy", own(s)),
    ),
    "an inline policy for her group": (
        lambda s: allow("iam:PutGroupPolicy", s.arn("group", "other")),
        lambda s: s.eve.put_group_policy(GroupName=s.name("Locked"), PolicyName="x", PolicyDocument=json.dumps(ALL)),
        lambda s: allow("iam:PutGroupPolicy", s.arn("group", "Locked")),
    ),
    "an inline policy for a role": (
        lambda s: allow("iam:PutRolePolicy", s.arn("role", "other")),
        lambda s: s.eve.put_role_policy(RoleName=s.name("Power"), PolicyName="x", PolicyDocument=json.dumps(ALL)),
        lambda s: allow("iam:PutRolePolicy", s.arn("role", "Power")),
    ),
    "membership of the administrators": (
        lambda s: allow("iam:AddUserToGroup", s.arn("group", "Developers")),
        lambda s: s.eve.add_user_to_group(GroupName=s.name("Admins"), UserName=s.name("eve")),
        lambda s: allow("iam:AddUserToGroup", s.arn("group", "Admins")),
    ),
    "membership, by a permission on the user": (
        lambda s: allow("iam:AddUserToGroup", own(s)),
        lambda s: s.eve.add_user_to_group(GroupName=s.name("Admins"), UserName=s.name("eve")),
        lambda s: allow("iam:AddUserToGroup", s.arn("group", "Admins")),
    ),
    "leaving the group that denies": (
        lambda s: allow("iam:RemoveUserFromGroup", s.arn("group", "Developers")),
        lambda s: s.eve.remove_user_from_group(GroupName=s.name("Locked"), UserName=s.name("eve")),
        lambda s: allow("iam:RemoveUserFromGroup", s.arn("group", "Locked")),
    ),
    "deleting the policy that denies": (
        lambda s: allow("iam:DeleteGroupPolicy", s.arn("group", "Developers")),
        lambda s: s.eve.delete_group_policy(GroupName=s.name("Locked"), PolicyName="lock"),
        lambda s: allow("iam:DeleteGroupPolicy", s.arn("group", "Locked")),
    ),
    "detaching another policy than those she may detach": (
        lambda s: allow("iam:DetachGroupPolicy", "*", ArnEquals={"iam:PolicyARN": NARROW}),
        lambda s: s.eve.detach_group_policy(GroupName=s.name("Admins"), PolicyArn=WIDE),
        lambda s: allow("iam:DetachGroupPolicy", "*", ArnEquals={"iam:PolicyARN": WIDE}),
    ),
    "a trust policy that names her": (
        lambda s: allow("iam:UpdateAssumeRolePolicy", s.arn("role", "dev-*")),
        lambda s: s.eve.update_assume_role_policy(RoleName=s.name("Power"), PolicyDocument=document(
            {"Effect": "Allow", "Principal": {"AWS": own(s)}, "Action": "sts:AssumeRole"})),
        lambda s: allow("iam:UpdateAssumeRolePolicy", s.arn("role", "Power")),
    ),
    "longer sessions of a role": (
        lambda s: allow("iam:UpdateRole", s.arn("role", "dev-*")),
        lambda s: s.eve.update_role(RoleName=s.name("Power"), MaxSessionDuration=43_200),
        lambda s: allow("iam:UpdateRole", s.arn("role", "Power")),
    ),
    "an access key of the boss": (
        lambda s: allow("iam:CreateAccessKey", "arn:aws:iam::*:user/${aws:username}"),
        lambda s: s.eve.create_access_key(UserName=s.name("boss")),
        lambda s: allow("iam:CreateAccessKey", s.arn("user", "boss")),
    ),
    "a password of the boss": (
        lambda s: allow("iam:CreateLoginProfile", "arn:aws:iam::*:user/${aws:username}"),
        lambda s: s.eve.create_login_profile(UserName=s.name("boss"), Password="Correct-Horse-7-Battery"),
        lambda s: allow("iam:CreateLoginProfile", s.arn("user", "boss")),
    ),
    "another password of the boss": (
        lambda s: allow("iam:UpdateLoginProfile", "arn:aws:iam::*:user/${aws:username}"),
        lambda s: s.eve.update_login_profile(UserName=s.with_password(), Password="Correct-Horse-8-Battery"),
        lambda s: allow("iam:UpdateLoginProfile", s.arn("user", "boss")),
    ),
    "the boss locked out by the end of a password": (
        lambda s: allow("iam:DeleteLoginProfile", "arn:aws:iam::*:user/${aws:username}"),
        lambda s: s.eve.delete_login_profile(UserName=s.with_password()),
        lambda s: allow("iam:DeleteLoginProfile", s.arn("user", "boss")),
    ),
    "an inactive key of the boss switched on": (
        lambda s: allow("iam:UpdateAccessKey", "arn:aws:iam::*:user/${aws:username}"),
        lambda s: s.eve.update_access_key(UserName=s.name("boss"), AccessKeyId=s.old_key(), Status="Active"),
        lambda s: allow("iam:UpdateAccessKey", s.arn("user", "boss")),
    ),
    "a key of the boss deleted": (
        lambda s: allow("iam:DeleteAccessKey", "arn:aws:iam::*:user/${aws:username}"),
        lambda s: s.eve.delete_access_key(UserName=s.name("boss"), AccessKeyId=s.old_key()),
        lambda s: allow("iam:DeleteAccessKey", s.arn("user", "boss")),
    ),
    "a device of hers for the boss": (
        lambda s: allow("iam:EnableMFADevice", "arn:aws:iam::*:user/${aws:username}"),
        lambda s: s.eve.enable_mfa_device(UserName=s.name("boss"), **s.device()),
        lambda s: allow("iam:EnableMFADevice", s.arn("user", "boss")),
    ),
    "the boss without a second factor": (
        lambda s: allow("iam:DeactivateMFADevice", "arn:aws:iam::*:user/${aws:username}"),
        lambda s: s.eve.deactivate_mfa_device(UserName=s.name("boss"), SerialNumber=s.enabled()),
        lambda s: allow("iam:DeactivateMFADevice", s.arn("user", "boss")),
    ),
    "a device that somebody needs deleted": (
        lambda s: allow("iam:DeleteVirtualMFADevice", "arn:aws:iam::*:mfa/${aws:username}"),
        lambda s: s.eve.delete_virtual_mfa_device(SerialNumber=s.device()["SerialNumber"]),
        lambda s: allow("iam:DeleteVirtualMFADevice", "arn:aws:iam::*:mfa/*"),
    ),
    "a device of the boss out of step": (
        lambda s: allow("iam:ResyncMFADevice", "arn:aws:iam::*:user/${aws:username}"),
        lambda s: s.eve.resync_mfa_device(UserName=s.name("boss"), SerialNumber=s.enabled(), **s.codes(3)),
        lambda s: allow("iam:ResyncMFADevice", s.arn("user", "boss")),
    ),
    "her own keys in the metadata of a provider that roles trust": (
        lambda s: allow("iam:UpdateSAMLProvider", "arn:aws:iam::*:saml-provider/hers"),
        lambda s: s.eve.update_saml_provider(SAMLProviderArn=s.saml(), SAMLMetadataDocument=s.metadata("hers")),
        lambda s: allow("iam:UpdateSAMLProvider", s.arn("saml-provider", "corp")),
    ),
    "a SAML provider of her own": (
        lambda s: allow("iam:CreateSAMLProvider", "arn:aws:iam::*:saml-provider/corp"),
        lambda s: s.eve.create_saml_provider(Name=s.name("hers"), SAMLMetadataDocument=s.metadata("hers")),
        lambda s: allow("iam:CreateSAMLProvider", s.arn("saml-provider", "hers")),
    ),
    "an audience of hers for a provider that roles trust": (
        lambda s: allow("iam:AddClientIDToOpenIDConnectProvider", "arn:aws:iam::*:oidc-provider/login.example.com"),
        lambda s: s.eve.add_client_id_to_open_id_connect_provider(OpenIDConnectProviderArn=s.oidc(), ClientID="hers"),
        lambda s: allow("iam:AddClientIDToOpenIDConnectProvider", "arn:aws:iam::*:oidc-provider/trusted*.example.net"),
    ),
    "a user without the boundary": (
        lambda s: allow("iam:CreateUser", "*", ArnEquals={"iam:PermissionsBoundary": s.boundary}),
        lambda s: s.eve.create_user(UserName=s.name("free")),
        lambda s: allow("iam:CreateUser", "*"),
    ),
    "a user with another boundary": (
        lambda s: allow("iam:CreateUser", "*", ArnEquals={"iam:PermissionsBoundary": s.boundary}),
        lambda s: s.eve.create_user(UserName=s.name("free"), PermissionsBoundary=WIDE),
        lambda s: allow("iam:CreateUser", "*", ArnEquals={"iam:PermissionsBoundary": WIDE}),
    ),
    "a role without the boundary": (
        lambda s: allow("iam:CreateRole", "*", ArnEquals={"iam:PermissionsBoundary": s.boundary}),
        lambda s: s.eve.create_role(RoleName=s.name("Free"), AssumeRolePolicyDocument=s.trust),
        lambda s: allow("iam:CreateRole", "*"),
    ),
    "a role with another boundary": (
        lambda s: allow("iam:CreateRole", "*", ArnEquals={"iam:PermissionsBoundary": s.boundary}),
        lambda s: s.eve.create_role(RoleName=s.name("Free"), AssumeRolePolicyDocument=s.trust, PermissionsBoundary=WIDE),
        lambda s: allow("iam:CreateRole", "*", ArnEquals={"iam:PermissionsBoundary": WIDE}),
    ),
    "her boundary removed": (
        lambda s: allow("iam:DeleteUserPermissionsBoundary", "*", ArnNotEquals={"iam:PermissionsBoundary": s.boundary}),
        lambda s: s.eve.delete_user_permissions_boundary(UserName=s.name("eve")),
        lambda s: allow("iam:DeleteUserPermissionsBoundary", "*", ArnEquals={"iam:PermissionsBoundary": s.boundary}),
    ),
    "her boundary widened": (
        lambda s: allow("iam:PutUserPermissionsBoundary", "*", ArnEquals={"iam:PermissionsBoundary": s.boundary}),
        lambda s: s.eve.put_user_permissions_boundary(UserName=s.name("eve"), PermissionsBoundary=WIDE),
        lambda s: allow("iam:PutUserPermissionsBoundary", "*", ArnEquals={"iam:PermissionsBoundary": WIDE}),
    ),
    "the boundary of a role widened": (
        lambda s: allow("iam:PutRolePermissionsBoundary", "*", ArnEquals={"iam:PermissionsBoundary": s.boundary}),
        lambda s: s.eve.put_role_permissions_boundary(RoleName=s.name("Power"), PermissionsBoundary=WIDE),
        lambda s: allow("iam:PutRolePermissionsBoundary", "*", ArnEquals={"iam:PermissionsBoundary": WIDE}),
    ),
    "a policy for somebody who has no boundary": (
        lambda s: allow("iam:PutUserPolicy", "*", ArnEquals={"iam:PermissionsBoundary": s.boundary}),
        lambda s: s.eve.put_user_policy(UserName=s.name("boss"), PolicyName="x", PolicyDocument=json.dumps(ALL)),
        lambda s: allow("iam:PutUserPolicy", "*"),
    ),
    "an attachment for somebody who has no boundary": (
        lambda s: allow("iam:AttachUserPolicy", "*", ArnEquals={"iam:PermissionsBoundary": s.boundary}),
        lambda s: s.eve.attach_user_policy(UserName=s.name("boss"), PolicyArn=NARROW),
        lambda s: allow("iam:AttachUserPolicy", "*"),
    ),
    "a role's policy where the role has no boundary": (
        lambda s: allow("iam:PutRolePolicy", "*", ArnEquals={"iam:PermissionsBoundary": s.boundary}),
        lambda s: s.eve.put_role_policy(RoleName=s.name("Power"), PolicyName="x", PolicyDocument=json.dumps(ALL)),
        lambda s: allow("iam:PutRolePolicy", "*"),
    ),
    "a tag of the team whose things she may not touch": (
        lambda s: allow("iam:TagUser", own(s), StringEquals={"aws:RequestTag/team": "blue"}),
        lambda s: s.eve.tag_user(UserName=s.name("eve"), Tags=[{"Key": "team", "Value": "red"}]),
        lambda s: allow("iam:TagUser", own(s), StringEquals={"aws:RequestTag/team": "red"}),
    ),
    "a key of a tag beyond those she may set": (
        lambda s: allow("iam:TagRole", "*", **{"ForAllValues:StringEquals": {"aws:TagKeys": ["note"]}}),
        lambda s: s.eve.tag_role(RoleName=s.name("Power"), Tags=[{"Key": "note", "Value": ""}, {"Key": "team", "Value": "x"}]),
        lambda s: allow("iam:TagRole", "*", **{"ForAllValues:StringEquals": {"aws:TagKeys": ["note", "team"]}}),
    ),
    "a tag removed that a condition needs": (
        lambda s: allow("iam:UntagUser", "*", **{"ForAllValues:StringEquals": {"aws:TagKeys": ["note"]}}),
        lambda s: s.eve.untag_user(UserName=s.name("boss"), TagKeys=["team"]),
        lambda s: allow("iam:UntagUser", "*", **{"ForAllValues:StringEquals": {"aws:TagKeys": ["team"]}}),
    ),
    "a user born with tags that she may not set": (
        lambda s: allow("iam:CreateUser", "*"),
        lambda s: s.eve.create_user(UserName=s.name("born"), Tags=[{"Key": "team", "Value": "red"}]),
        lambda s: allow(["iam:CreateUser", "iam:TagUser"], "*"),
    ),
    "a role born with tags that she may not set": (
        lambda s: allow("iam:CreateRole", "*"),
        lambda s: s.eve.create_role(
            RoleName=s.name("Born"), AssumeRolePolicyDocument=s.trust, Tags=[{"Key": "team", "Value": "red"}]),
        lambda s: allow(["iam:CreateRole", "iam:TagRole"], "*"),
    ),
    "a policy born with tags that she may not set": (
        lambda s: allow("iam:CreatePolicy", "*"),
        lambda s: s.eve.create_policy(
            PolicyName=s.name("born"), PolicyDocument=document(allow("s3:*")), Tags=[{"Key": "team", "Value": "red"}]),
        lambda s: allow(["iam:CreatePolicy", "iam:TagPolicy"], "*"),
    ),
    "somebody of another team, where only her own team is hers": (
        lambda s: allow("iam:PutUserPolicy", "*", StringEquals={"aws:ResourceTag/team": "blue"}),
        lambda s: s.eve.put_user_policy(UserName=s.name("boss"), PolicyName="x", PolicyDocument=json.dumps(ALL)),
        lambda s: allow("iam:PutUserPolicy", "*", StringEquals={"iam:ResourceTag/team": "red"}),
    ),
    "a role passed to an instance": (
        lambda s: allow("iam:AddRoleToInstanceProfile", "*"),
        lambda s: s.eve.add_role_to_instance_profile(InstanceProfileName=s.name("profile"), RoleName=s.name("Power")),
        lambda s: allow(["iam:AddRoleToInstanceProfile", "iam:PassRole"], "*"),
    ),
    "a role passed to another service than hers": (
        lambda s: [allow("iam:AddRoleToInstanceProfile", "*"),
                   allow("iam:PassRole", "*", StringEquals={"iam:PassedToService": "ecs-tasks.amazonaws.com"})],
        lambda s: s.eve.add_role_to_instance_profile(InstanceProfileName=s.name("profile"), RoleName=s.name("Power")),
        lambda s: [allow("iam:AddRoleToInstanceProfile", "*"),
                   allow("iam:PassRole", "*", StringEquals={"iam:PassedToService": "ec2.amazonaws.com"})],
    ),
    "a new name that policies name": (
        lambda s: allow("iam:UpdateUser", own(s)),
        lambda s: s.eve.update_user(UserName=s.name("eve"), NewUserName=s.name("root-like")),
        lambda s: allow("iam:UpdateUser", [own(s), s.arn("user", "root-like")]),
    ),
    "a new path that policies name": (
        lambda s: allow("iam:UpdateUser", own(s)),
        lambda s: s.eve.update_user(UserName=s.name("eve"), NewPath="/admins/"),
        lambda s: allow("iam:UpdateUser", [own(s), s.arn("user", "eve", "/admins/")]),
    ),
    "a new name of a group that policies name": (
        lambda s: allow("iam:UpdateGroup", s.arn("group", "Locked")),
        lambda s: s.eve.update_group(GroupName=s.name("Locked"), NewGroupName=s.name("Trusted")),
        lambda s: allow("iam:UpdateGroup", [s.arn("group", "Locked"), s.arn("group", "Trusted")]),
    ),
    "a user in a path that is not hers": (
        lambda s: allow("iam:CreateUser", "arn:aws:iam::*:user/dev/*"),
        lambda s: s.eve.create_user(UserName=s.name("new"), Path="/admins/"),
        lambda s: allow("iam:CreateUser", "arn:aws:iam::*:user/admins/*"),
    ),
    "an identity provider that trusts her tokens": (
        lambda s: allow("iam:CreateOpenIDConnectProvider", "arn:aws:iam::*:oidc-provider/login.example.com"),
        lambda s: s.eve.create_open_id_connect_provider(
            Url=f"https://idp{s.number}.example.net", ClientIDList=["a"], ThumbprintList=["0" * 40]),
        lambda s: allow("iam:CreateOpenIDConnectProvider", "arn:aws:iam::*:oidc-provider/idp*.example.net"),
    ),
    "a looser password policy": (
        lambda s: allow("iam:ChangePassword", own(s)),
        lambda s: s.eve.update_account_password_policy(MinimumPasswordLength=8),
        lambda s: allow("iam:UpdateAccountPasswordPolicy"),
    ),
}


@pytest.fixture(scope="module")
def admin(world):
    return iam(world)


@pytest.mark.parametrize("attempt", ATTEMPTS)
def test_az_04_an_attempt_is_refused_by_its_rule_alone(world, admin, attempt):
    less, call, more = ATTEMPTS[attempt]
    stage = Stage(world, admin).build()
    listed = lambda made: made if isinstance(made, list) else [made]
    stage.may(*listed(less(stage)))
    assert refused(lambda: call(stage)) == ("AccessDenied", 403)
    stage.may(*listed(more(stage)))
    call(stage)


def test_az_04_who_may_not_act_does_not_learn_what_exists(world, admin):
    stage = Stage(world, admin).build()
    stage.admin.put_user_policy(UserName=stage.name("eve"), PolicyName="may", PolicyDocument=document(allow("s3:*")))
    words = []
    for user in (stage.name("boss"), "nobody-of-this-name"):
        with pytest.raises(stage.eve.exceptions.ClientError) as caught:
            stage.eve.get_user(UserName=user)
        error = caught.value.response["Error"]
        words.append((error["Code"], error["Message"].replace(user, "NAME").split(". Encoded")[0]))
    assert words[0] == words[1] and words[0][0] == "AccessDenied"


def test_az_04_a_deny_wins_over_everything(world, admin):
    stage = Stage(world, admin).build()
    stage.may(allow("*"), {"Effect": "Deny", "Action": "iam:Create*", "Resource": "*"})
    assert refused(lambda: stage.eve.create_user(UserName=stage.name("x"))) == ("AccessDenied", 403)
    stage.eve.tag_user(UserName=stage.name("eve"), Tags=[{"Key": "k", "Value": "v"}])


def test_az_04_a_boundary_holds_whatever_policies_allow(world, admin):
    stage = Stage(world, admin).build()
    stage.may(allow("*"))
    stage.eve.create_user(UserName=stage.name("x"))
    admin.create_policy_version(
        PolicyArn=stage.boundary, PolicyDocument=document(allow("iam:Get*")), SetAsDefault=True)
    assert refused(lambda: stage.eve.create_user(UserName=stage.name("y"))) == ("AccessDenied", 403)
    stage.eve.get_user(UserName=stage.name("x"))


def test_az_04_sessions_of_a_user_administer_nothing(world, admin):
    """Sessions of GetFederationToken call no IAM action, sessions of GetSessionToken none without an MFA code."""
    stage = Stage(world, admin).build()
    stage.may(allow("*"))
    own = sts(world, stage.key["AccessKeyId"], stage.key["SecretAccessKey"])
    for made in (
        own.get_session_token(),
        own.get_federation_token(Name="fed", Policy=json.dumps(ALL)),
    ):
        credentials = made["Credentials"]
        keys = (credentials["AccessKeyId"], credentials["SecretAccessKey"], credentials["SessionToken"])
        assert refused(lambda: iam(world, *keys).create_user(UserName=stage.name("x"))) == ("AccessDenied", 403)
        assert refused(lambda: iam(world, *keys).list_users()) == ("AccessDenied", 403)
    stage.eve.list_users()


def test_az_04_a_session_policy_cannot_be_shed_by_way_of_iam(world, admin):
    stage = Stage(world, admin).build()
    trust = document({"Effect": "Allow", "Principal": {"AWS": stage.arn("user", "eve")}, "Action": "sts:AssumeRole"})
    admin.update_assume_role_policy(RoleName=stage.name("Power"), PolicyDocument=trust)
    own = sts(world, stage.key["AccessKeyId"], stage.key["SecretAccessKey"])
    role = stage.arn("role", "Power")
    narrow = own.assume_role(RoleArn=role, RoleSessionName="narrow", Policy=document(allow("iam:Get*")))["Credentials"]
    keys = (narrow["AccessKeyId"], narrow["SecretAccessKey"], narrow["SessionToken"])
    limited = iam(world, *keys)
    limited.get_role(RoleName=stage.name("Power"))
    for call in (
        lambda: limited.create_access_key(UserName=stage.name("eve")),
        lambda: limited.put_role_policy(RoleName=stage.name("Power"), PolicyName="x", PolicyDocument=json.dumps(ALL)),
        lambda: limited.update_assume_role_policy(RoleName=stage.name("Power"), PolicyDocument=trust),
    ):
        assert refused(call) == ("AccessDenied", 403)
    whole = own.assume_role(RoleArn=role, RoleSessionName="whole")["Credentials"]
    keys = (whole["AccessKeyId"], whole["SecretAccessKey"], whole["SessionToken"])
    iam(world, *keys).create_user(UserName=stage.name("made"))


def test_az_04_the_name_of_a_deleted_user_opens_nothing(world, admin):
    """A trust policy names a user by the unique id, so a new user of the same name is not trusted."""
    stage = Stage(world, admin).build()
    trust = document({"Effect": "Allow", "Principal": {"AWS": stage.arn("user", "boss")}, "Action": "sts:AssumeRole"})
    admin.update_assume_role_policy(RoleName=stage.name("Power"), PolicyDocument=trust)
    key = admin.create_access_key(UserName=stage.name("boss"))["AccessKey"]
    assume = dict(RoleArn=stage.arn("role", "Power"), RoleSessionName="boss")
    sts(world, key["AccessKeyId"], key["SecretAccessKey"]).assume_role(**assume)
    admin.delete_access_key(UserName=stage.name("boss"), AccessKeyId=key["AccessKeyId"])
    admin.remove_user_from_group(GroupName=stage.name("Admins"), UserName=stage.name("boss"))
    admin.delete_user(UserName=stage.name("boss"))
    admin.create_user(UserName=stage.name("boss"))
    key = admin.create_access_key(UserName=stage.name("boss"))["AccessKey"]
    again = sts(world, key["AccessKeyId"], key["SecretAccessKey"])
    assert refused(lambda: again.assume_role(**assume)) == ("AccessDenied", 403)
    shown = admin.get_role(RoleName=stage.name("Power"))["Role"]["AssumeRolePolicyDocument"]
    assert shown["Statement"][0]["Principal"]["AWS"].startswith("AIDA")
