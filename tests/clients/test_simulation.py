"""Policy simulations as boto3 and Terraform ask for them."""

import json
from pathlib import Path

import pytest
from test_boto3 import refused
from test_mfa import iam

CASES = Path(__file__).parents[1] / "data/policy/public.jsonl"
WORDS = {"Allowed": "allowed", "ExplicitlyDenied": "explicitDeny", "ImplicitlyDenied": "implicitDeny"}
# Keys that the simulator knows by itself, which a case may leave out.
KNOWN = {
    "aws:currenttime",
    "aws:epochtime",
    "aws:principalarn",
    "aws:principalaccount",
    "aws:principaltype",
    "aws:username",
    "aws:resourceaccount",
    "aws:viaawsservice",
    "aws:principalisawsservice",
}


def applicable():
    """The conformance cases whose caller is a user and whose policies a request can carry."""
    for line in CASES.read_text().splitlines():
        case = json.loads(line)
        request, policies = case["request"], case["policies"]
        text = json.dumps(policies).lower()
        given = {name.lower() for name in request["context"]}
        is_plain = ":user/" in request["principal"] and policies["session"] is None and policies["rcp"] is None
        leaves_out = any(key in text and key not in given for key in KNOWN)
        is_sized = all(len(name) >= 5 for name in request["context"])
        # The owner of a resource is the account in its ARN, if there is one.
        account = (request["resource"].split(":") + [""] * 5)[4]
        is_owned = account in ("", request["resource_account"])
        if is_plain and is_sized and is_owned and not leaves_out and request["resource"].startswith("arn:"):
            yield case


def arguments(case):
    request, policies = case["request"], case["policies"]
    entries = [
        {
            "ContextKeyName": name,
            "ContextKeyType": "stringList" if isinstance(value, list) else "string",
            "ContextKeyValues": value if isinstance(value, list) else [value],
        }
        for name, value in request["context"].items()
    ]
    asked = {
        "PolicyInputList": [json.dumps(document) for document in policies["identity"]],
        "ActionNames": [request["action"]],
        "ResourceArns": [request["resource"]],
        "ResourceOwner": request["resource_account"],
        "CallerArn": request["principal"],
        "ContextEntries": entries,
    }
    if policies["resource"]:
        asked["ResourcePolicy"] = json.dumps(policies["resource"])
    if policies["boundary"]:
        asked["PermissionsBoundaryPolicyInputList"] = [json.dumps(policies["boundary"])]
    if policies["scp"] is not None:
        asked["OrderedOrganizationPolicyInputList"] = [
            {"ServiceControlPolicyInputList": [json.dumps(document) for document in level]} for level in policies["scp"]
        ]
    return asked


def test_the_conformance_cases_are_simulated_as_they_are_decided(world):
    client, decided = iam(world), {}
    for case in applicable():
        (result,) = client.simulate_custom_policy(**arguments(case))["EvaluationResults"]
        assert result["EvalDecision"] == WORDS[case["expect"]], case["name"]
        assert result["EvalActionName"] == case["request"]["action"]
        (single,) = result["ResourceSpecificResults"]
        assert single["EvalResourceDecision"] == result["EvalDecision"]
        for statement in result["MatchedStatements"]:
            assert_is_a_statement(statement, case)
        decided[result["EvalDecision"]] = decided.get(result["EvalDecision"], 0) + 1
    assert min(decided.values()) >= 10 and sum(decided.values()) >= 80, decided


def assert_is_a_statement(matched, case):
    """The positions cut exactly one statement out of the document."""
    kind, _, number = matched["SourcePolicyId"].partition(".")
    documents = {
        "PolicyInputList": case["policies"]["identity"],
        "PermissionsBoundaryPolicyInputList": [case["policies"]["boundary"]],
        "ResourcePolicy": [case["policies"]["resource"]],
    }[kind]
    document = documents[int(number or 1) - 1]
    begin, end = matched["StartPosition"], matched["EndPosition"]
    assert begin["Line"] == end["Line"] == 1
    cut = json.dumps(document)[begin["Column"] - 1 : end["Column"] - 1]
    statements = document["Statement"]
    assert json.loads(cut) in (statements if isinstance(statements, list) else [statements])


def test_paginators_and_context_keys(world):
    client, bob = iam(world), world["users"]["bob"]["arn"]
    policy = json.dumps(
        {
            "Version": "2012-10-17",
            "Statement": [
                {"Effect": "Allow", "Action": "s3:*", "Resource": "arn:aws:s3:::b/${aws:username}/*"},
                {"Effect": "Deny", "Action": "s3:*", "Resource": "*", "Condition": {"Bool": {"aws:MultiFactorAuthPresent": "false"}}},
            ],
        }
    )
    names = [f"s3:Act{n}" for n in range(230)]
    asked = dict(ActionNames=names, ResourceArns=["arn:aws:s3:::b/bob/x"], PolicyInputList=[policy])
    pages = client.get_paginator("simulate_custom_policy").paginate(**asked, CallerArn=bob, PaginationConfig={"PageSize": 50})
    custom = [r for page in pages for r in page["EvaluationResults"]]
    assert [r["EvalActionName"] for r in custom] == names
    assert {r["EvalDecision"] for r in custom} == {"allowed"}
    assert {tuple(r["MissingContextValues"]) for r in custom} == {("aws:MultiFactorAuthPresent",)}
    pages = client.get_paginator("simulate_principal_policy").paginate(**asked, PolicySourceArn=bob)
    principal = [r for page in pages for r in page["EvaluationResults"]]
    assert [r["EvalActionName"] for r in principal] == names
    # Terraform's data source: all_allowed, with the context that it has.
    entry = {"ContextKeyName": "aws:multifactorauthpresent", "ContextKeyType": "boolean", "ContextKeyValues": ["false"]}
    for entries, all_allowed in (([], True), ([entry], False), ([{**entry, "ContextKeyValues": ["true"]}], True)):
        answer = client.simulate_principal_policy(
            PolicySourceArn=bob, PolicyInputList=[policy], ActionNames=["s3:GetObject", "s3:PutObject"],
            ResourceArns=["arn:aws:s3:::b/bob/x", "arn:aws:s3:::b/bob/y"], ContextEntries=entries,
        )
        assert all(r["EvalDecision"] == "allowed" for r in answer["EvaluationResults"]) is all_allowed
    keys = ["aws:username", "aws:MultiFactorAuthPresent"]
    assert client.get_context_keys_for_custom_policy(PolicyInputList=[policy])["ContextKeyNames"] == keys
    found = client.get_context_keys_for_principal_policy(PolicySourceArn=bob, PolicyInputList=[policy])["ContextKeyNames"]
    assert set(keys) <= set(found)


@pytest.mark.parametrize("kind", ["string", "numeric", "boolean", "ip", "binary", "date"])
def test_context_entries_of_every_type(world, kind):
    operator, good, other, bad = {
        "string": ("StringEquals", "a", "b", None),
        "numeric": ("NumericLessThan", "-3.5", "17", "many"),
        "boolean": ("Bool", "true", "false", "yes"),
        "ip": ("IpAddress", "10.1.2.3", "::1", "10.0.0.0/8"),
        "binary": ("BinaryEquals", "AAEC", "AAED", "?"),
        "date": ("DateLessThan", "2026-01-01T00:00:00Z", "2031-01-01", "soon"),
    }[kind]
    wanted = {"string": "a", "numeric": "1", "boolean": "true", "ip": "10.0.0.0/8", "binary": "AAEC", "date": "2030-01-01"}[kind]
    client = iam(world)

    def decide(operator, type_, *values):
        statement = {"Effect": "Allow", "Action": "*", "Resource": "*", "Condition": {operator: {"app:key": wanted}}}
        answer = client.simulate_custom_policy(
            PolicyInputList=[json.dumps({"Version": "2012-10-17", "Statement": [statement]})],
            ActionNames=["s3:GetObject"],
            ContextEntries=[{"ContextKeyName": "app:key", "ContextKeyType": type_, "ContextKeyValues": list(values)}],
        )
        return answer["EvaluationResults"][0]["EvalDecision"]

    assert decide(operator, kind, good) == "allowed"
    assert decide(operator, kind, other) == "implicitDeny"
    assert decide(f"ForAnyValue:{operator}", f"{kind}List", other, good) == "allowed"
    assert decide(f"ForAllValues:{operator}", f"{kind}List", other, good) == "implicitDeny"
    if bad:
        assert refused(lambda: decide(operator, kind, bad)) == ("InvalidInput", 400)
        assert refused(lambda: decide(operator, f"{kind}List", good, bad)) == ("InvalidInput", 400)
    assert refused(lambda: decide(operator, kind, good, other)) == ("InvalidInput", 400)
