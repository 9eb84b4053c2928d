"""botocore of any age, without boto3 around it."""

import botocore
import botocore.session
from botocore.config import Config
from common import *


def client(service="sts", credentials=None, **more):
    keys = credentials or {"AccessKeyId": KEY, "SecretAccessKey": SECRET}
    return botocore.session.get_session().create_client(
        service,
        region_name=REGION,
        endpoint_url=ENDPOINT,
        aws_access_key_id=keys["AccessKeyId"],
        aws_secret_access_key=keys["SecretAccessKey"],
        aws_session_token=keys.get("SessionToken"),
        **more,
    )


def assume(role=ROLE):
    return client().assume_role(RoleArn=role, RoleSessionName="botocore")["Credentials"]


def refused(call):
    try:
        call()
    except botocore.exceptions.ClientError as error:
        return error.response["Error"]["Code"]


def presigned():
    from botocore.signers import RequestSigner

    sts = client()
    signer = RequestSigner(
        sts.meta.service_model.service_id,
        REGION,
        "sts",
        "v4",
        sts._request_signer._credentials,
        sts.meta.events,
    )
    request = {"method": "GET", "url": f"{ENDPOINT}/?{BODY}", "body": {}, "headers": {"x-k8s-aws-id": "c"}, "context": {}}
    url = signer.generate_presigned_url(request, region_name=REGION, expires_in=60, operation_name="")
    return replay("GET", url, {"x-k8s-aws-id": "c"})


version("botocore")
attempt("GetCallerIdentity", lambda: arn(client().get_caller_identity()["Arn"]))
attempt("AssumeRole", lambda: arn(client(credentials=assume()).get_caller_identity()["Arn"]))
attempt("AssumeRole, denied", lambda: refused(lambda: assume(DENIED)))
anonymous = {"config": Config(signature_version=botocore.UNSIGNED)}
web = {"RoleArn": WEB_ROLE, "RoleSessionName": "botocore", "WebIdentityToken": TOKEN}
attempt(
    "AssumeRoleWithWebIdentity",
    lambda: arn(client(**anonymous).assume_role_with_web_identity(**web)["AssumedRoleUser"]["Arn"]),
)
attempt("GetCallerIdentity, presigned", presigned)
attempt("iam:ListMFADevices", lambda: "ok" if "MFADevices" in client("iam").list_mfa_devices(UserName="alice") else "none")
attempt("organizations:DescribeOrganization", lambda: refused(lambda: client("organizations").describe_organization()))
attempt("s3:ListBuckets", lambda: refused(lambda: client("s3").list_buckets()))
