"""A node for an agent: what its broker's directory must have, and the key that the agent shows."""

import base64
import json
import os

REGION = "us-east-1"


def declared(account):
    """The file to import, with the user `node-1` and the role `App` that it may hand out; and the user's key, in the form
    of `aws iam create-access-key`."""
    user, role = f"arn:aws:iam::{account}:user/node-1", f"arn:aws:iam::{account}:role/App"
    key = {
        "AccessKeyId": "AKIA" + base64.b32encode(os.urandom(10)).decode(),
        "SecretAccessKey": base64.b64encode(os.urandom(30)).decode(),
    }

    def policy(**statement):
        return {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", **statement}]}

    grants = [
        {"PolicyName": "hand-out", "PolicyDocument": policy(Action="brevet:AssumeRoleForWorkload", Resource=role)},
        {"PolicyName": "watch", "PolicyDocument": policy(Action="brevet:WatchRevocations", Resource=user)},
    ]
    directory = {
        "UserDetailList": [{"UserName": "node-1", "Arn": user, "UserPolicyList": grants}],
        "RoleDetailList": [
            {"RoleName": "App", "Arn": role, "AssumeRolePolicyDocument": policy(Principal={"AWS": user}, Action="sts:AssumeRole")}
        ],
        "Brevet": {"AccessKeys": [{"UserArn": user, **key, "Status": "Active"}]},
    }
    return json.dumps(directory), json.dumps({"AccessKey": {"UserName": "node-1", "Status": "Active", **key}})
