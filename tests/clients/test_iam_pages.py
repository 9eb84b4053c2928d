"""A thousand users and a thousand roles by boto3's own paginators and waiters, also while others are created and
deleted between two pages."""

import json
import threading

import pytest
from stored import ACCOUNT, Stored

COUNT = 1_000
TRUST = {
    "Version": "2012-10-17",
    "Statement": [{"Effect": "Allow", "Principal": {"AWS": ACCOUNT}, "Action": "sts:AssumeRole"}],
}
USERS = [f"user-{number:04}" for number in range(COUNT)]
ROLES = [f"role-{number:04}" for number in range(COUNT)]


def arn(kind, name):
    return f"arn:aws:iam::{ACCOUNT}:{kind}/many/{name}"


@pytest.fixture(scope="module")
def client(tmp_path_factory):
    """An administrator of a broker into whose store all of them were imported."""
    users = [{"UserName": name, "Path": "/many/", "Arn": arn("user", name)} for name in USERS]
    roles = [{"RoleName": name, "Path": "/many/", "Arn": arn("role", name)} for name in ROLES]
    roles = [role | {"AssumeRolePolicyDocument": TRUST} for role in roles]
    broker = Stored(tmp_path_factory.mktemp("many") / "home", json.dumps({"UserDetailList": users, "RoleDetailList": roles}))
    yield broker.iam()
    broker.stop()


KINDS = {
    "user": ("list_users", "Users", "UserName", USERS, {}),
    "role": ("list_roles", "Roles", "RoleName", ROLES, {"AssumeRolePolicyDocument": json.dumps(TRUST)}),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("size", [None, 7, 999, 1000])
def test_each_is_listed_exactly_once(client, kind, size):
    operation, members, name, names, _ = KINDS[kind]
    pages = client.get_paginator(operation).paginate(PathPrefix="/many/", PaginationConfig={"PageSize": size})
    listed = [[entry[name] for entry in page[members]] for page in pages]
    assert [name for page in listed for name in page] == names
    assert all(len(page) <= (size or 100) for page in listed)


@pytest.mark.parametrize("kind", KINDS)
def test_who_is_there_throughout_is_listed_exactly_once(client, kind):
    """After each page, one of it goes, one that is yet to come goes, and one comes before and one behind."""
    operation, members, name, names, more = KINDS[kind]
    create, delete = getattr(client, f"create_{kind}"), getattr(client, f"delete_{kind}")
    listed, gone, new = [], set(), []
    for number, page in enumerate(client.get_paginator(operation).paginate(PathPrefix="/many/", PaginationConfig={"PageSize": 90})):
        of_page = [entry[name] for entry in page[members]]
        listed += of_page
        # The marker is the last name of the page, which goes too.
        for former in (of_page[-1], f"{kind}-{min(90 * (number + 1) + 45, COUNT - 1):04}"):
            if former in names and former not in gone:
                delete(**{name: former})
                gone.add(former)
        for other in (f"{kind}-0000-{number}", f"{kind}-9999-{number}"):
            create(**{name: other}, Path="/many/", **more)
            new.append(other)
    assert len(listed) == len(set(listed))
    assert set(names) - gone <= set(listed) <= set(names) | set(new)
    assert len(gone) > 20
    for other in new:
        delete(**{name: other})
    for former in gone:
        create(**{name: former}, Path="/many/", **more)


def test_the_details_of_all_of_them(client):
    pages = client.get_paginator("get_account_authorization_details").paginate(PaginationConfig={"PageSize": 300})
    users, roles = [], []
    for page in pages:
        users += [user["UserName"] for user in page["UserDetailList"] if user["Path"] == "/many/"]
        roles += [role["RoleName"] for role in page["RoleDetailList"] if role["Path"] == "/many/"]
    assert (users, roles) == (USERS, ROLES)


def test_waiters_find_all_of_them(client):
    for name in USERS[::25]:
        client.get_waiter("user_exists").wait(UserName=name)
    for name in ROLES[::25]:
        client.get_waiter("role_exists").wait(RoleName=name)
    # One that comes while it is waited for.
    late = threading.Timer(1.5, lambda: client.create_user(UserName="late"))
    late.start()
    client.get_waiter("user_exists").wait(UserName="late")
    late.join()
    client.delete_user(UserName="late")
