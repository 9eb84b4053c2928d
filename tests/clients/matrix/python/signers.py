"""Signers for the `requests` library, one by its name: which headers they sign is their own affair."""

import sys

import requests
from common import *

which = sys.argv[1]
version(which)


def auth(key, secret, token=None):
    if which == "requests-aws4auth":
        from requests_aws4auth import AWS4Auth

        return AWS4Auth(key, secret, REGION, "sts", session_token=token)
    if which == "requests-auth-aws-sigv4":
        from requests_auth_aws_sigv4 import AWSSigV4

        return AWSSigV4("sts", region=REGION, aws_access_key_id=key, aws_secret_access_key=secret, aws_session_token=token)
    from aws_requests_auth.aws_auth import AWSRequestsAuth

    return AWSRequestsAuth(key, secret, aws_host=HOST, aws_region=REGION, aws_service="sts", aws_token=token)


def post(auth, **parameters):
    return requests.post(f"{ENDPOINT}/", data={"Version": "2011-06-15", **parameters}, auth=auth, timeout=10).text


def assume():
    text = post(auth(KEY, SECRET), Action="AssumeRole", RoleArn=ROLE, RoleSessionName="requests")
    field = lambda name: text.split(f"<{name}>")[1].split(f"</{name}>")[0]
    session = auth(field("AccessKeyId"), field("SecretAccessKey"), field("SessionToken"))
    return arn(post(session, Action="GetCallerIdentity"))


attempt("GetCallerIdentity", lambda: arn(post(auth(KEY, SECRET), Action="GetCallerIdentity")))
attempt("GetCallerIdentity, GET", lambda: arn(requests.get(f"{ENDPOINT}/?{BODY}", auth=auth(KEY, SECRET), timeout=10).text))
attempt("AssumeRole", assume)
