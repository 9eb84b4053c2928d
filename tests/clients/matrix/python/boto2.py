import boto
from boto.sts.connection import STSConnection
from boto.regioninfo import RegionInfo
from common import *

host, port = HOST.split(":")


def connect(key=KEY, secret=SECRET, token=None):
    region = RegionInfo(name=REGION, endpoint=host)
    connection = STSConnection(
        key, secret, is_secure=False, port=int(port), region=region, security_token=token, anon=False
    )
    # It takes both from the host's name, unless told.
    connection.auth_region_name, connection.auth_service_name = REGION, "sts"
    return connection


def identity(connection):
    answer = connection.make_request("GetCallerIdentity", {}, "/", "POST")
    return arn(answer.read().decode())


def chained():
    credentials = connect().assume_role(ROLE, "boto").credentials
    return identity(connect(credentials.access_key, credentials.secret_key, credentials.session_token))


def denied():
    try:
        connect().assume_role(DENIED, "boto")
    except boto.exception.BotoServerError as error:
        return error.error_code


def web():
    return arn(connect().assume_role_with_web_identity(WEB_ROLE, "boto", TOKEN).user.arn)


version("boto")
attempt("GetCallerIdentity", lambda: identity(connect()))
attempt("AssumeRole", chained)
attempt("AssumeRole, denied", denied)
attempt("AssumeRoleWithWebIdentity", web)
attempt("GetSessionToken", lambda: "ok" if connect().get_session_token().session_token else "no token")
