"""Arrow's file system for S3 asks for its session by the AWS SDK for C++."""

import ctypes
import os
import sys
import urllib.request

which = sys.argv[1]
if os.environ.get("BREVET_HOSTS"):
    # It takes AWS_ENDPOINT_URL_STS for a host's name, and goes there by TLS on port 443. Hosts and CAs of this process
    # alone lead to the broker.
    assert ctypes.CDLL(None).unshare(0x00020000) == 0, "CLONE_NEWNS"
    mounts = '"$BREVET_HOSTS" /etc/hosts && mount --bind "$SSL_CERT_FILE" /etc/ssl/certs/ca-certificates.crt'
    os.system(f"mount --make-rprivate / && mount --bind {mounts}")
    os.environ["AWS_ENDPOINT_URL_STS"] = f"sts.{os.environ['AWS_REGION']}.amazonaws.com"

import pyarrow.fs
from common import *

version("pyarrow")
S3 = os.environ["BREVET_S3"]
there = dict(endpoint_override=S3.split("://")[1], scheme="http", region=REGION, connect_timeout=5, request_timeout=5)


def listed(**more):
    urllib.request.urlopen(f"{S3}/forget").read()
    pyarrow.fs.S3FileSystem(**there, **more).get_file_info(pyarrow.fs.FileSelector("bucket"))
    return urllib.request.urlopen(f"{S3}/seen").read().decode()


if which == "AssumeRole":
    attempt(which, lambda: listed(role_arn=ROLE, session_name="arrow"))
else:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        os.environ.pop(name)
    os.environ.update(AWS_ROLE_ARN=WEB_ROLE, AWS_WEB_IDENTITY_TOKEN_FILE=os.environ["BREVET_WEB_TOKEN_FILE"])
    attempt(which, listed)
