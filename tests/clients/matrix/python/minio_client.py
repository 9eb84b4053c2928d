from common import *
from minio import Minio
from minio import S3Error
from minio.credentials import AssumeRoleProvider, WebIdentityProvider

version("minio")


def provided(provider):
    credentials = provider.retrieve()
    return "ok" if credentials.access_key.startswith("ASIA") and credentials.session_token else "no session"


def assume(role):
    keys = dict(access_key=KEY, secret_key=SECRET)
    return AssumeRoleProvider(sts_endpoint=ENDPOINT, **keys, region=REGION, role_arn=role, role_session_name="minio")


def web():
    token = lambda: {"access_token": TOKEN, "expires_in": "3600"}
    there = dict(sts_endpoint=ENDPOINT, role_arn=WEB_ROLE, role_session_name="minio")
    return provided(WebIdentityProvider(jwt_provider_func=token, **there))


def buckets():
    try:
        return Minio(HOST, access_key=KEY, secret_key=SECRET, secure=False, region=REGION).list_buckets()
    except S3Error as error:
        return error.code


attempt("AssumeRole", lambda: provided(assume(ROLE)))
attempt("AssumeRole, denied", lambda: provided(assume(DENIED)))
attempt("AssumeRoleWithWebIdentity", web)
attempt("s3:ListBuckets", buckets)
