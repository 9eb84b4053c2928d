"""AssumeRole over gRPC from Python: the recipe of docs/how-to/call-over-grpc.md.

    pip install grpcio grpcio-tools botocore
    python assume_role.py 127.0.0.1:7480 arn:aws:iam::111122223333:role/Demo my-session

The access key comes from AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and AWS_SESSION_TOKEN.
"""

import os
import sys
from pathlib import Path

import grpc
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

SERVICE = "brevet.sts.v1.SecurityTokenService"
sys.path.insert(0, str(Path(__file__).parents[2] / "proto"))
sts = grpc.protos("brevet/sts/v1/sts.proto")


def call(channel, host, method, request, answer_type, credentials, region="us-east-1"):
    """Signs one unary call and makes it. `host` is what the channel was opened with."""
    path = f"/{SERVICE}/{method}"
    # Serialized once: the bytes that are signed are the bytes that are sent.
    message = request.SerializeToString()
    signed = AWSRequest("POST", f"http://{host}{path}", data=message, headers={"Content-Type": "application/grpc"})
    SigV4Auth(credentials, "sts", region).add_auth(signed)
    sent = ("authorization", "x-amz-date", "x-amz-security-token")
    metadata = [(name.lower(), value) for name, value in signed.headers.items() if name.lower() in sent]
    unary = channel.unary_unary(path, request_serializer=lambda raw: raw, response_deserializer=answer_type.FromString)
    return unary(message, metadata=metadata, timeout=10)


def from_environment():
    return Credentials(
        os.environ["AWS_ACCESS_KEY_ID"], os.environ["AWS_SECRET_ACCESS_KEY"], os.environ.get("AWS_SESSION_TOKEN")
    )


def main(host, role_arn, role_session_name):
    with grpc.insecure_channel(host) as channel:
        request = sts.AssumeRoleRequest(role_arn=role_arn, role_session_name=role_session_name)
        answer = call(channel, host, "AssumeRole", request, sts.AssumeRoleResponse, from_environment())
        session = Credentials(
            answer.credentials.access_key_id, answer.credentials.secret_access_key, answer.credentials.session_token
        )
        who = call(
            channel, host, "GetCallerIdentity", sts.GetCallerIdentityRequest(), sts.GetCallerIdentityResponse, session
        )
        print(who.arn, "until", answer.credentials.expiration.ToJsonString())


if __name__ == "__main__":
    main(*sys.argv[1:])
