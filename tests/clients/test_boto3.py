"""boto3, unmodified."""

import base64
import json
import os
import urllib.request
from concurrent.futures import ThreadPoolExecutor

import boto3
import botocore.config
import botocore.exceptions
import pytest

NO_RETRY = botocore.config.Config(retries={"total_max_attempts": 1})


def sts(world, key=None, secret=None, token=None, user="alice", region=None):
    user = world["users"][user]
    return boto3.client(
        "sts",
        endpoint_url=world["sts_endpoint"],
        region_name=region or world["region"],
        aws_access_key_id=key or user["access_key_id"],
        aws_secret_access_key=secret or user["secret_access_key"],
        aws_session_token=token,
        config=NO_RETRY,
    )


def session(world, credentials):
    return sts(world, credentials["AccessKeyId"], credentials["SecretAccessKey"], credentials["SessionToken"])


def role(world, name="Demo"):
    return world["roles"][name]["arn"]


def refused(call):
    with pytest.raises(botocore.exceptions.ClientError) as caught:
        call()
    assert caught.value.response["ResponseMetadata"]["RequestId"]
    return caught.value.response["Error"]["Code"], caught.value.response["ResponseMetadata"]["HTTPStatusCode"]


def test_assume_chain_and_identify(world):
    assert sts(world).get_caller_identity()["Arn"] == world["users"]["alice"]["arn"]
    first = sts(world).assume_role(RoleArn=role(world), RoleSessionName="first", DurationSeconds=43200)
    assert first["AssumedRoleUser"]["AssumedRoleId"] == world["roles"]["Demo"]["role_id"] + ":first"
    assert len(first["Credentials"]["SecretAccessKey"]) == 40
    client = session(world, first["Credentials"])
    assert client.get_caller_identity()["Arn"].endswith(":assumed-role/Demo/first")
    second = client.assume_role(RoleArn=role(world, "Deploy"), RoleSessionName="second")
    assert session(world, second["Credentials"]).get_caller_identity()["UserId"].endswith(":second")
    account = client.get_access_key_info(AccessKeyId=second["Credentials"]["AccessKeyId"])["Account"]
    assert account == world["account_id"]


def test_a_session_is_narrowed(world):
    allow = lambda action, resource: json.dumps(
        {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": action, "Resource": resource}]}
    )
    deploy = role(world, "Deploy")
    parent = sts(world).assume_role(RoleArn=role(world), RoleSessionName="whole", SourceIdentity="alice")
    client = session(world, parent["Credentials"])
    identity = client.get_caller_identity()
    answer = client.get_scoped_credentials(
        Policy=allow(["sts:GetScopedCredentials", "sts:SetSourceIdentity", "sts:AssumeRole"], "*"),
        DurationSeconds=600,
        MinimumSessionTokenSize=2048,
        ScopedSessionDescription="deploys",
    )
    assert answer["SessionInfo"] == {"ScopedSessionId": identity["UserId"], "Arn": identity["Arn"]}
    assert (answer["ScopedPoliciesCount"], answer["SourceIdentity"]) == (1, "alice")
    assert 2048 <= answer["SessionTokenSize"] == len(answer["Credentials"]["SessionToken"])
    assert 0 < answer["SessionTokenUtilization"] <= 100
    assert answer["Credentials"]["Expiration"] < parent["Credentials"]["Expiration"]
    narrowed = session(world, answer["Credentials"])
    assert narrowed.get_caller_identity()["Arn"] == identity["Arn"]
    narrowed.assume_role(RoleArn=deploy, RoleSessionName="helper")
    silent = narrowed.get_scoped_credentials(Policy=allow("s3:*", "*"))
    assert silent["ScopedPoliciesCount"] == 2
    silent = session(world, silent["Credentials"])
    assert refused(lambda: silent.assume_role(RoleArn=deploy, RoleSessionName="helper")) == ("AccessDenied", 403)
    longer = lambda: narrowed.get_scoped_credentials(DurationSeconds=601)
    assert refused(longer) == ("InsufficientSessionLifetime", 400)
    own = lambda: sts(world).get_scoped_credentials(DurationSeconds=60)
    assert refused(own) == ("InvalidSubjectCredentials", 400)


def test_everything_assume_role_takes(world):
    answer = sts(world).assume_role(
        RoleArn=role(world, "Partner"),
        RoleSessionName="all",
        ExternalId="demo-1234",
        SourceIdentity="someone",
        Tags=[{"Key": "Team", "Value": "blue + green@1"}, {"Key": "empty", "Value": ""}],
        TransitiveTagKeys=["Team"],
        Policy='{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"*","Resource":"*"}]}',
        PolicyArns=[],
    )
    assert answer["SourceIdentity"] == "someone" and 0 < answer["PackedPolicySize"] <= 100


def test_presigned_urls(world):
    for keys in (None, sts(world).assume_role(RoleArn=role(world), RoleSessionName="url")["Credentials"]):
        client = session(world, keys) if keys else sts(world)
        url = client.generate_presigned_url("get_caller_identity", ExpiresIn=60, HttpMethod="GET")
        with urllib.request.urlopen(url) as answer:
            assert b"<GetCallerIdentityResult>" in answer.read()
        request = urllib.request.Request(url, headers={"Accept": "application/json"})
        with urllib.request.urlopen(request) as answer:
            assert b'"GetCallerIdentityResult"' in answer.read()
        with pytest.raises(urllib.error.HTTPError) as caught:
            urllib.request.urlopen(url.replace("GetCallerIdentity", "GetSessionToken"))
        assert caught.value.code == 403


def test_thirty_two_threads(world):
    client = sts(world)

    def one(n):
        keys = client.assume_role(RoleArn=role(world), RoleSessionName=f"thread-{n}")["Credentials"]
        return session(world, keys).get_caller_identity()["Arn"].endswith(f"thread-{n}")

    with ThreadPoolExecutor(32) as pool:
        assert all(pool.map(one, range(128)))


def test_refusals(world):
    alice, good = world["users"]["alice"], role(world)
    keys = sts(world).assume_role(RoleArn=good, RoleSessionName="session")["Credentials"]

    def assume(client=None, arn=good, name="session", **more):
        return lambda: (client or sts(world)).assume_role(RoleArn=arn, RoleSessionName=name, **more)

    token = bytearray(base64.urlsafe_b64decode(keys["SessionToken"] + "=" * (-len(keys["SessionToken"]) % 4)))
    token[len(token) // 2] ^= 1
    tampered = base64.urlsafe_b64encode(bytes(token)).rstrip(b"=").decode()
    chained = session(world, keys)
    anonymous = boto3.client(
        "sts",
        endpoint_url=world["sts_endpoint"],
        region_name=world["region"],
        config=botocore.config.Config(signature_version=botocore.UNSIGNED, retries={"total_max_attempts": 1}),
    )
    missing = good.replace("Demo", "Nowhere")
    table = [
        ("unknown key", sts(world, key="AKIAQQQQQQQQQQQQQQQQ").get_caller_identity, ("InvalidClientTokenId", 403)),
        ("wrong secret", sts(world, secret="x" * 40).get_caller_identity, ("SignatureDoesNotMatch", 403)),
        (
            "tampered token",
            sts(world, keys["AccessKeyId"], keys["SecretAccessKey"], tampered).get_caller_identity,
            ("InvalidClientTokenId", 403),
        ),
        ("nobody", anonymous.get_caller_identity, ("MissingAuthenticationToken", 403)),
        # In development any region is taken, but it must be one.
        ("no region", sts(world, region="EU-WEST-3").get_caller_identity, ("SignatureDoesNotMatch", 403)),
        ("denied", assume(sts(world, user="bob")), ("AccessDenied", 403)),
        ("unknown role", assume(arn=missing), ("AccessDenied", 403)),
        ("bad name", assume(name="a b"), ("ValidationError", 400)),
        ("too long", assume(DurationSeconds=129_601), ("ValidationError", 400)),
        ("over the role's maximum", assume(DurationSeconds=43_201), ("ValidationError", 400)),
        ("over an hour when chained", assume(chained, DurationSeconds=3_601), ("ValidationError", 400)),
        ("a bad policy", assume(Policy='{"Statement":[]}'), ("MalformedPolicyDocument", 400)),
        (
            "too many tags to pack",
            assume(Tags=[{"Key": f"k{n}", "Value": os.urandom(96).hex()} for n in range(50)]),
            ("PackedPolicyTooLarge", 400),
        ),
        (
            "no response",
            lambda: sts(world).assume_role_with_saml(
                RoleArn=good, PrincipalArn=good.replace("role", "saml-provider"), SAMLAssertion="abcd"
            ),
            ("InvalidIdentityToken", 400),
        ),
    ]
    got = [(case, refused(call)) for case, call, _ in table]
    assert got == [(case, expected) for case, _, expected in table]
    with pytest.raises(botocore.exceptions.ParamValidationError):
        assume(DurationSeconds=899)()
    assert sts(world).get_caller_identity()["Account"] == alice["arn"].split(":")[4]
    assert sts(world, region="eu-west-3").get_caller_identity()["Account"] == world["account_id"]


def test_the_refreshing_provider(world):
    """botocore's own AssumeRole provider, as a profile's role_arn uses it."""
    from botocore.credentials import AssumeRoleCredentialFetcher, Credentials, DeferredRefreshableCredentials
    import botocore.session

    alice = world["users"]["alice"]
    fetcher = AssumeRoleCredentialFetcher(
        client_creator=lambda service, **more: botocore.session.get_session().create_client(
            service, endpoint_url=world["sts_endpoint"], region_name=world["region"], **more
        ),
        source_credentials=Credentials(alice["access_key_id"], alice["secret_access_key"]),
        role_arn=role(world),
    )
    frozen = DeferredRefreshableCredentials(fetcher.fetch_credentials, "assume-role").get_frozen_credentials()
    assert sts(world, frozen.access_key, frozen.secret_key, frozen.token).get_caller_identity()
