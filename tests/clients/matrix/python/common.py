"""What every driver in Python shares: its surroundings, and a line for each action that was tried."""

import os
import urllib.request
from importlib.metadata import version as _version

ENDPOINT = os.environ["BREVET_ENDPOINT"]
HOST = ENDPOINT.split("://", 1)[1]
REGION = os.environ["AWS_REGION"]
KEY = os.environ["AWS_ACCESS_KEY_ID"]
SECRET = os.environ["AWS_SECRET_ACCESS_KEY"]
ROLE = os.environ["BREVET_ROLE"]
DENIED = os.environ["BREVET_DENIED_ROLE"]
WEB_ROLE = os.environ["BREVET_WEB_ROLE"]
TOKEN = os.environ["BREVET_WEB_TOKEN"]
BODY = "Action=GetCallerIdentity&Version=2011-06-15"


def version(package):
    print(f"version\t{_version(package)}", flush=True)


def line(action, result):
    print(f"{action}\t{' '.join(str(result).split())}", flush=True)


def attempt(action, call):
    """What the call returns, or why it failed; a client's own error is a result like any other."""
    try:
        result = call()
    except Exception as error:  # noqa: BLE001 (each client has errors of its own)
        result = f"{type(error).__name__}: {error}"[:200]
    line(action, result)


def arn(text):
    """`ok` if an answer names somebody, in XML or JSON."""
    text = text if isinstance(text, str) else str(text)
    return "ok" if "arn:aws:" in text else text[:200]


def replay(method, url, headers, body=None):
    """Sends a proof as the server does that was given it: a request made by somebody else."""
    request = urllib.request.Request(url, data=body, headers=headers, method=method)
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            return arn(answer.read().decode())
    except urllib.error.HTTPError as error:
        return f"{error.code}: {error.read().decode()}"[:200]
