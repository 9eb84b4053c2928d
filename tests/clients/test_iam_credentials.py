"""Access keys, passwords and the settings of an account, by boto3 and its paginators."""

import time

import botocore.exceptions
import pytest
from test_boto3 import refused, sts
from test_mfa import iam


def words(call):
    with pytest.raises(botocore.exceptions.ClientError) as caught:
        call()
    error = caught.value.response["Error"]
    return error["Code"], error["Message"]


@pytest.fixture
def admin(world):
    """Alice has an MFA device and may change everybody's credentials but, without a code, her own."""
    return iam(world)


def test_a_key_from_its_making_to_its_end(world, admin):
    made = admin.create_access_key(UserName="bob")["AccessKey"]
    assert made["Status"] == "Active" and made["UserName"] == "bob" and len(made["SecretAccessKey"]) == 40
    key = (made["AccessKeyId"], made["SecretAccessKey"])
    assert words(lambda: admin.create_access_key(UserName="bob")) == (
        "LimitExceeded",
        "Cannot exceed quota for AccessKeysPerUser: 2",
    )
    unused = admin.get_access_key_last_used(AccessKeyId=key[0])
    assert unused["UserName"] == "bob"
    assert unused["AccessKeyLastUsed"] == {"ServiceName": "N/A", "Region": "N/A"}
    sts(world, *key, region="us-east-1").get_caller_identity()
    used = admin.get_access_key_last_used(AccessKeyId=key[0])["AccessKeyLastUsed"]
    assert used["ServiceName"] == "sts" and used["Region"] == "us-east-1"
    assert abs(used["LastUsedDate"].timestamp() - time.time()) < 120
    assert refused(lambda: iam(world, *key).list_access_keys()) == ("AccessDenied", 403)
    assert admin.get_access_key_last_used(AccessKeyId=key[0])["AccessKeyLastUsed"]["ServiceName"] == "iam"

    pages = admin.get_paginator("list_access_keys").paginate(UserName="bob", PaginationConfig={"PageSize": 1})
    listed = [entry for page in pages for entry in page["AccessKeyMetadata"]]
    assert sorted(entry["AccessKeyId"] for entry in listed) == sorted([key[0], world["users"]["bob"]["access_key_id"]])
    assert all("SecretAccessKey" not in entry and entry["CreateDate"] for entry in listed)

    admin.update_access_key(UserName="bob", AccessKeyId=key[0], Status="Inactive")
    assert refused(lambda: sts(world, *key).get_caller_identity()) == ("InvalidClientTokenId", 403)
    admin.update_access_key(UserName="bob", AccessKeyId=key[0], Status="Active")
    sts(world, *key).get_caller_identity()
    admin.delete_access_key(UserName="bob", AccessKeyId=key[0])
    assert words(lambda: admin.delete_access_key(UserName="bob", AccessKeyId=key[0])) == (
        "NoSuchEntity",
        f"The Access Key with id {key[0]} cannot be found.",
    )
    assert refused(lambda: admin.create_access_key()) == ("AccessDenied", 403)
    assert key[1] not in world["audit"].read_text()


def test_a_password_from_its_making_to_its_end(world, admin):
    missing = ("NoSuchEntity", "Login Profile for User bob cannot be found.")
    admin.delete_login_profile(UserName="bob")  # the demo's
    assert words(lambda: admin.get_login_profile(UserName="bob")) == missing
    code, message = words(lambda: admin.create_login_profile(UserName="bob", Password="horse"))
    assert code == "PasswordPolicyViolation" and message.startswith("Password should have a minimum length of 8")
    profile = dict(UserName="bob", Password="Correct-horse-1", PasswordResetRequired=True)
    made = admin.create_login_profile(**profile)["LoginProfile"]
    assert made["UserName"] == "bob" and made["PasswordResetRequired"] is True and made["CreateDate"]
    assert admin.get_login_profile(UserName="bob")["LoginProfile"] == made
    assert refused(lambda: admin.create_login_profile(**profile)) == ("EntityAlreadyExists", 409)
    bob = iam(world, user="bob")
    change = dict(OldPassword="Correct-horse-1", NewPassword="Another-horse-2")
    assert refused(lambda: bob.change_password(**change)) == ("AccessDenied", 403)
    admin.update_account_password_policy(AllowUsersToChangePassword=True, PasswordReusePrevention=3)
    bob.change_password(**change)
    assert admin.get_login_profile(UserName="bob")["LoginProfile"]["PasswordResetRequired"] is False
    back = dict(OldPassword="Another-horse-2", NewPassword="Correct-horse-1")
    assert refused(lambda: bob.change_password(**back)) == ("PasswordPolicyViolation", 400)
    admin.update_login_profile(UserName="bob", Password="Third horse \u00e9\u00ff 3", PasswordResetRequired=True)
    bob.change_password(OldPassword="Third horse \u00e9\u00ff 3", NewPassword="Fourth-horse-4")
    admin.delete_login_profile(UserName="bob")
    assert words(lambda: admin.delete_login_profile(UserName="bob")) == missing
    admin.delete_account_password_policy()
    audit = world["audit"].read_text()
    assert "horse" not in audit and "argon2" not in audit


def test_the_settings_of_an_account(admin):
    assert refused(admin.get_account_password_policy) == ("NoSuchEntity", 404)
    admin.update_account_password_policy(MinimumPasswordLength=12, RequireNumbers=True, MaxPasswordAge=90)
    policy = admin.get_account_password_policy()["PasswordPolicy"]
    assert policy["MinimumPasswordLength"] == 12 and policy["RequireNumbers"] and policy["ExpirePasswords"]
    assert policy["MaxPasswordAge"] == 90 and "PasswordReusePrevention" not in policy
    admin.update_account_password_policy()
    policy = admin.get_account_password_policy()["PasswordPolicy"]
    assert policy["MinimumPasswordLength"] == 6 and not policy["ExpirePasswords"] and "MaxPasswordAge" not in policy
    admin.delete_account_password_policy()
    assert refused(admin.delete_account_password_policy) == ("NoSuchEntity", 404)

    def aliases():
        pages = admin.get_paginator("list_account_aliases").paginate()
        return [alias for page in pages for alias in page["AccountAliases"]]

    assert aliases() == []
    admin.create_account_alias(AccountAlias="acme")
    admin.create_account_alias(AccountAlias="acme-next")
    assert aliases() == ["acme-next"]
    assert refused(lambda: admin.delete_account_alias(AccountAlias="acme")) == ("NoSuchEntity", 404)
    admin.delete_account_alias(AccountAlias="acme-next")
    assert aliases() == []
