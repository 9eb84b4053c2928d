"""Writes `heads.jsonl`: the heads of requests that botocore signs for many operations and names of objects.

    pip install botocore==1.44.8
    python3 tests/data/s3/generate.py > tests/data/s3/heads.jsonl

Nothing is sent. The clock of botocore stands still, so that the signatures are always the same.
"""

import datetime
import json

import botocore.auth
import botocore.awsrequest
import botocore.compat
import botocore.session
from botocore.config import Config

NOW = datetime.datetime(2026, 11, 24, 12, 0, 0, tzinfo=datetime.timezone.utc)
KEYS = ["a", "a b", "a+b", "ü/x", "q?x", "p%2Fq", "%", "a\\b", "a=b&c", "x;y", "100%25", "(1)!*'", "~", "dir/", "🦀", "a:b@c,d"]
BODY = b"hello"


def frozen(remove_tzinfo=True):
    return NOW.replace(tzinfo=None) if remove_tzinfo else NOW


def client(style, token, checksums):
    session = botocore.session.Session()
    session.set_credentials("AKIAEXAMPLEEXAMPLE00", "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY", token)
    config = Config(
        signature_version="s3v4",
        s3={"addressing_style": style},
        request_checksum_calculation=checksums,
        retries={"max_attempts": 0},
    )
    return session.create_client("s3", "us-east-1", endpoint_url="https://s3.example.com", config=config)


def write(method, url, headers, expected):
    host, _, path = url.partition("://")[2].partition("/")
    text = lambda v: v.decode() if isinstance(v, bytes) else v
    # What differs from run to run is neither signed nor read.
    left_out = ("host", "user-agent", "amz-sdk-invocation-id", "amz-sdk-request")
    pairs = sorted((k.lower(), text(v)) for k, v in headers.items() if k.lower() not in left_out)
    print(json.dumps({"method": method, "path": "/" + path, "host": host, "headers": pairs, "expected": expected}))


def signed(s3, operation, expected, **parameters):
    def stop(request, **_):
        write(request.method, request.url, request.headers, expected)
        response = botocore.awsrequest.AWSResponse(request.url, 500, {}, None)
        response._content = b""
        return response

    s3.meta.events.register("before-send", stop)
    try:
        getattr(s3, operation)(**parameters)
    except Exception:  # The made-up answer is an error.
        pass
    s3.meta.events.unregister("before-send", stop)


def presigned(s3, operation, expected, **parameters):
    url = s3.generate_presigned_url(operation, Params=parameters, ExpiresIn=604800)
    write("PUT" if operation == "put_object" else "GET", url, {}, expected)


def main():
    for module in (botocore.auth, botocore.compat):
        if hasattr(module, "get_current_datetime"):
            module.get_current_datetime = frozen
    for style in ("path", "virtual"):
        for token in (None, "a-token/with+signs=="):
            for checksums in ("when_required", "when_supported"):
                s3 = client(style, token, checksums)
                for key in KEYS if checksums == "when_supported" else []:
                    signed(s3, "get_object", ["GetObject", "data", key], Bucket="data", Key=key)
                    signed(s3, "put_object", ["PutObject", "data", key], Bucket="data", Key=key, Body=BODY, Metadata={"x": "1  2"})
                    presigned(s3, "get_object", ["GetObject", "data", key], Bucket="data", Key=key)
                    presigned(s3, "put_object", ["PutObject", "data", key], Bucket="data", Key=key)
                on = {"Bucket": "data", "Key": "a b/ü"}
                key = ["data", "a b/ü"]
                for operation, expected, parameters in [
                    ("list_buckets", ["ListBuckets", None, None], {}),
                    ("list_objects", ["ListObjects", "data", None], {"Bucket": "data", "Prefix": "a b/ü+", "Delimiter": "/"}),
                    ("list_objects_v2", ["ListObjectsV2", "data", None], {"Bucket": "data", "Prefix": "a", "MaxKeys": 5}),
                    ("list_object_versions", ["ListObjectVersions", "data", None], {"Bucket": "data"}),
                    ("head_bucket", ["HeadBucket", "data", None], {"Bucket": "data"}),
                    ("get_bucket_location", ["GetBucketLocation", "data", None], {"Bucket": "data"}),
                    ("head_object", ["HeadObject", *key], on),
                    ("get_object", ["GetObject", *key], {**on, "Range": "bytes=0-9", "ResponseContentType": "a/b; c=d"}),
                    ("get_object", ["GetObject", *key], {**on, "VersionId": "3sL4kqtJlcpXroDTDmJ+rmSpXd3dIbrHY+MTRCxf"}),
                    ("get_object_tagging", ["GetObjectTagging", *key], on),
                    ("get_object_acl", ["GetObjectAcl", *key], on),
                    ("put_object", ["PutObject", *key], {**on, "Body": BODY, "Tagging": "a=b%20c&d=e", "ACL": "private", "ContentType": "text/plain"}),
                    ("delete_object", ["DeleteObject", *key], on),
                    ("delete_objects", ["DeleteObjects", "data", None], {"Bucket": "data", "Delete": {"Objects": [{"Key": "a"}]}}),
                    ("copy_object", ["CopyObject", *key], {**on, "CopySource": {"Bucket": "data", "Key": "a b+c/ü,d", "VersionId": "v1"}}),
                    ("create_multipart_upload", ["CreateMultipartUpload", *key], on),
                    ("upload_part", ["UploadPart", *key], {**on, "UploadId": "u-1", "PartNumber": 7, "Body": BODY}),
                    ("upload_part_copy", ["UploadPartCopy", *key], {**on, "UploadId": "u-1", "PartNumber": 7, "CopySource": "data/x", "CopySourceRange": "bytes=0-9"}),
                    ("complete_multipart_upload", ["CompleteMultipartUpload", *key], {**on, "UploadId": "u-1", "MultipartUpload": {"Parts": [{"ETag": "e", "PartNumber": 7}]}}),
                    ("abort_multipart_upload", ["AbortMultipartUpload", *key], {**on, "UploadId": "u-1"}),
                    ("list_parts", ["ListParts", *key], {**on, "UploadId": "u-1"}),
                ]:
                    signed(s3, operation, expected, **parameters)


main()
