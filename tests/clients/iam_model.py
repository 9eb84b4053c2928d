"""Writes src/query/iam_model.json: botocore's published model of IAM without its documentation.

    python iam_model.py > src/query/iam_model.json
"""
import json
import sys

import botocore
from botocore.loaders import Loader

KEEP = ("type", "required", "members", "member", "key", "value", "min", "max", "pattern", "enum", "sensitive")


def shape(definition):
    out = {}
    for name in KEEP:
        if name not in definition:
            continue
        value = definition[name]
        if name == "members":
            value = {member: reference["shape"] for member, reference in value.items()}
        elif name in ("member", "key", "value"):
            value = value["shape"]
        out[name] = value
    return out


def trimmed():
    model = Loader().load_service_model("iam", "service-2")
    operations = {}
    for name, definition in model["operations"].items():
        operation = {}
        if "input" in definition:
            operation["input"] = definition["input"]["shape"]
        if "output" in definition:
            operation["output"] = definition["output"]["shape"]
        operations[name] = operation
    wanted, shapes = [s for o in operations.values() for s in o.values()], {}
    while wanted:
        name = wanted.pop()
        if name in shapes:
            continue
        shapes[name] = shape(model["shapes"][name])
        for reference in ("member", "key", "value"):
            if reference in shapes[name]:
                wanted.append(shapes[name][reference])
        wanted.extend(shapes[name].get("members", {}).values())
    return {"source": f"botocore {botocore.__version__}, iam 2010-05-08 (Apache-2.0)", "operations": operations, "shapes": shapes}


def text():
    model = trimmed()
    line = lambda items: ",\n".join(f"{json.dumps(k)}: {json.dumps(v, ensure_ascii=False)}" for k, v in sorted(items))
    return (
        f'{{"source": {json.dumps(model["source"])},\n"operations": {{\n{line(model["operations"].items())}}},\n'
        f'"shapes": {{\n{line(model["shapes"].items())}}}}}\n'
    )


if __name__ == "__main__":
    sys.stdout.write(text())
