"""Writes `table.txt`, the operations of Amazon S3, from botocore's published model.

    pip install botocore==1.44.8
    python3 src/s3/operations/generate.py > src/s3/operations/table.txt

Only data is taken: names, methods, and the query parameters of each operation. Operations that are called at other
endpoints are left out, and so are the deprecated ones, whose successors have the same method and parameters.
"""

import botocore
import botocore.session

ELSEWHERE = {"WriteGetObjectResponse", "ListDirectoryBuckets"}
LEVELS = {"/": "service", "/{Bucket}": "bucket", "/{Bucket}/{Key+}": "object"}


def words(operation):
    path, _, query = operation.http["requestUri"].partition("?")
    shape = operation.input_shape
    members = shape.members.items() if shape else []
    at = lambda place: {key: m.serialization["name"] for key, m in members if m.serialization.get("location") == place}
    required = set(shape.required_members) if shape else set()
    yield from (operation.name, operation.http["method"], LEVELS[path])
    for pair in filter(None, query.split("&")):
        yield pair if "=" in pair else pair + "="
    parameters = at("querystring")
    yield from sorted(parameters[key] for key in parameters if key in required)
    yield from sorted("?" + parameters[key] for key in parameters if key not in required)
    yield from sorted("@" + name for key, name in at("header").items() if key in required)


def main():
    model = botocore.session.get_session().get_service_model("s3")
    print(f"# The operations of Amazon S3 in botocore {botocore.__version__}, written by generate.py: name, method and level, then")
    print("# NAME=VALUE for a fixed parameter, NAME for a required one, ?NAME for an optional one, @NAME for a required header.")
    for name in sorted(model.operation_names):
        operation = model.operation_model(name)
        if name not in ELSEWHERE and not operation.deprecated:
            print(*words(operation))


main()
