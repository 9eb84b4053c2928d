"""Proofs of identity that others replay: made by the libraries of Vault, MongoDB, Google and EKS, and sent to
the broker as their servers send them."""

import base64
import json
import os
import subprocess
import sys

from common import *

which = sys.argv[1]


def hvac_login():
    """Vault: hvac makes the proof, and Vault's server puts the signed path behind its `sts_endpoint`."""
    from hvac import Client

    proofs = []
    client = Client(url="http://127.0.0.1:9")
    client.auth.aws._adapter.login = lambda use_token, url, json: proofs.append(json)
    client.auth.aws.iam_login(KEY, SECRET, header_value="vault.example.com", role="dev", region=REGION)
    proof = proofs[0]
    headers = json.loads(base64.b64decode(proof["iam_request_headers"]))
    flat = {n: ",".join(v) if isinstance(v, list) else v for n, v in headers.items()}
    body = base64.b64decode(proof["iam_request_body"])
    path = "/" + base64.b64decode(proof["iam_request_url"]).decode().split("://", 1)[1].partition("/")[2]
    return replay(proof["iam_http_request_method"], f"{ENDPOINT}/{path}", flat, body)


def mongodb():
    """MONGODB-AWS: the driver signs for the host that the server names, and the server replays the POST."""
    import bson
    from pymongo_auth_aws.auth import AwsCredential, AwsSaslContext

    context = AwsSaslContext(AwsCredential(KEY, SECRET, None))
    context.binary_type = lambda: bson.binary.Binary
    context.bson_encode = bson.encode
    context.bson_decode = bson.decode
    first = bson.decode(context.step(None))
    server_nonce = bytes(first["r"]) + bytes(32)
    # The driver takes the scope's region from the second part of this name.
    sts = f"sts.{REGION}.example.com"
    proof = bson.decode(context.step(bson.encode({"s": bson.binary.Binary(server_nonce), "h": sts})))
    headers = {
        "Authorization": proof["a"],
        "X-Amz-Date": proof["d"],
        "Content-Type": "application/x-www-form-urlencoded",
        "X-MongoDB-Server-Nonce": base64.b64encode(server_nonce).decode(),
        "X-MongoDB-GS2-CB-Flag": "n",
        "Host": sts,
    }
    return replay("POST", f"{ENDPOINT}/", headers, BODY.encode())


def google():
    """Workload identity federation: the client signs the request that Google's token service then makes."""
    from google.auth.aws import AwsSecurityCredentials, RequestSigner

    # The client takes the scope's service from the first part of the host's name.
    url = f"https://sts.{REGION}.example.com?{BODY}"
    signed = RequestSigner(REGION).get_request_options(
        AwsSecurityCredentials(KEY, SECRET), url, "POST", additional_headers={"x-goog-cloud-target-resource": "//iam"}
    )
    return replay("POST", f"{ENDPOINT}?{BODY}", signed["headers"], b"")


def eks():
    """`aws eks get-token`: a presigned URL, which the cluster's authenticator asks for with two headers."""
    command = [sys.executable, "-m", "awscli", "eks", "get-token", "--cluster-name", "c", "--output", "json"]
    environment = {**os.environ, "AWS_ENDPOINT_URL_STS": ENDPOINT}
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    token = json.loads(done.stdout)["status"]["token"].removeprefix("k8s-aws-v1.")
    url = base64.urlsafe_b64decode(token + "=" * (-len(token) % 4)).decode()
    return replay("GET", url, {"x-k8s-aws-id": "c", "accept": "application/json"})


package, proof = {
    "hvac": ("hvac", hvac_login),
    "pymongo-auth-aws": ("pymongo-auth-aws", mongodb),
    "google-auth": ("google-auth", google),
    "eks": ("awscli", eks),
}[which]
version(package)
attempt("GetCallerIdentity, replayed", proof)
