"""Runs what deploy/compose.yaml says as processes, where there is no container engine.

Each service gets a root folder of its own (the machine's programs, and what the Dockerfile copies),
its volumes, its user, no capabilities, and a root that cannot be written where compose says so. All
of them share a network of their own, in which their names are known. Started by test_deploy.py as
`unshare --mount --net --fork python3 containers.py FOLDER BREVET PAGES`, it prints what it found as JSON.
PAGES has commands of the documentation. They find this program as `docker`, which understands what they say.
"""

import argparse
import fcntl
import json
import os
import re
import shlex
import signal
import socket
import struct
import subprocess
import sys
import time
from pathlib import Path

import node
import yaml

ROOT = Path(__file__).parents[2]
FOLDER, BREVET = Path(sys.argv[1]), sys.argv[2]
STAGES = {"brevet": "", "brevet-agent": "agent"}
PROGRAMS = ["usr", "bin", "sbin", "lib", "lib64"]


def sh(*arguments, **more):
    return subprocess.run(arguments, check=True, **more)


def loopback():
    """The network's own 127.0.0.1."""
    with socket.socket() as s:
        request = bytearray(struct.pack("16sh22x", b"lo", 0x1))
        fcntl.ioctl(s, 0x8914, request)  # SIOCSIFFLAGS, IFF_UP


def instructions(image):
    """The Dockerfile's stage of an image: its instructions, each on one line."""
    text = (ROOT / "deploy/Dockerfile").read_text().replace("\\\n", " ")
    stages = {}
    for stage in re.split(r"^FROM ", text, flags=re.MULTILINE)[1:]:
        first, *lines = stage.splitlines()
        stages[first.partition(" AS ")[2]] = lines
    return [line.split(None, 1) for line in stages[STAGES[image]] if line and not line.startswith("#")]


def image(name):
    """A root folder as an image has it."""
    root = FOLDER / name
    for folder in ["dev", "proc", "tmp", "etc", "var/lib", "run"]:
        (root / folder).mkdir(parents=True)
    for folder in PROGRAMS:
        host = Path("/") / folder
        if host.is_symlink():
            (root / folder).symlink_to(os.readlink(host))
        elif host.exists():
            (root / folder).mkdir()
            sh("mount", "--rbind", str(host), str(root / folder))
    # The image's own /usr/local, not the machine's.
    local = FOLDER / f"{name}.local"
    (local / "bin").mkdir(parents=True)
    sh("mount", "--bind", str(local), str(root / "usr/local"))
    for device in ["null", "urandom"]:
        (root / "dev" / device).touch()
        sh("mount", "--bind", f"/dev/{device}", str(root / "dev" / device))
    (root / "etc/passwd").write_text("root:x:0:0::/root:/bin/sh\n")
    (root / "etc/group").write_text("root:x:0:\n")
    (root / "etc/hosts").write_text("127.0.0.1 localhost broker redis\n")
    (root / "etc/nsswitch.conf").write_text("hosts: files\npasswd: files\ngroup: files\n")
    return root


def build(root, image):
    """What the Dockerfile's stage of an image does."""
    for name, rest in instructions(image):
        if name == "RUN":
            sh("chroot", str(root), "sh", "-c", rest)
        elif name == "COPY":
            options = [w for w in rest.split() if w.startswith("--")]
            source, target = [w for w in rest.split() if not w.startswith("--")]
            mode = next((o.split("=")[1] for o in options if o.startswith("--chmod=")), "0644")
            if any(option.startswith("--from=") for option in options):
                source = Path(BREVET).with_name(Path(source).name) if "/target/release/" in source else source
            else:
                ignored = (ROOT / ".dockerignore").read_text().splitlines()
                assert f"!{source}" in ignored, f"{source} is not in the build's context"
                source = ROOT / source
            if not Path(source).exists():
                continue  # certificates of a machine that has none
            sh("install", "-D", "-m", mode, str(source), str(root / target.lstrip("/")))


def volume(name, root, target):
    """A named volume: empty at first, and then with the owner that the image's folder has."""
    folder = FOLDER / "volumes" / name
    if not folder.exists():
        folder.mkdir(parents=True)
        # Volumes of an image that lacks the folder belong to root.
        like = root / target.lstrip("/")
        if like.exists():
            stat = like.stat()
            os.chown(folder, stat.st_uid, stat.st_gid)
            folder.chmod(stat.st_mode & 0o7777)
    return folder


def command(compose, name):
    """A service's command line, and the rest of what compose says of it."""
    service = compose["services"][name]
    entrypoint = service.get("entrypoint")
    if service["image"] in STAGES:
        told = dict(instructions(service["image"]))
        entrypoint = entrypoint or json.loads(told["ENTRYPOINT"])
        words = entrypoint + service.get("command", json.loads(told["CMD"]))
    else:
        words = (entrypoint or []) + service["command"]
    return service, words


def container(compose, name, words=None):
    """The command line that runs a service, or something else in it."""
    service, own = command(compose, name)
    root = FOLDER / name
    user, group = service["user"].split(":")
    lines = ["set -e"]
    for mount in service.get("volumes", []):
        source, target, *mode = mount.split(":")
        folder, at = volume(source, root, target), root / target.lstrip("/")
        at.mkdir(parents=True, exist_ok=True)
        lines += [f"mount --bind {folder} {at}"]
        if mode == ["ro"]:
            lines += [f"mount -o remount,bind,ro {at}"]
    if service.get("read_only"):
        lines += [f"mount --bind {root} {root}.view", f"mount -o remount,bind,ro {root}.view"]
        # Binds below the root are not part of a plain bind: again, on the view.
        for folder in [p for p in PROGRAMS if not (root / p).is_symlink() and (root / p).exists()]:
            lines += [f"mount --rbind {root}/{folder} {root}.view/{folder}"]
        lines += [f"mount --bind {FOLDER}/{name}.local {root}.view/usr/local"]
        lines += [f"mount -o remount,bind,ro {root}.view/usr/local"]
        for device in ["null", "urandom"]:
            lines += [f"mount --bind /dev/{device} {root}.view/dev/{device}"]
        for mount in service.get("volumes", []):
            source, target, *mode = mount.split(":")
            lines += [f"mount --bind {FOLDER}/volumes/{source} {root}.view{target}"]
            if mode == ["ro"]:
                lines += [f"mount -o remount,bind,ro {root}.view{target}"]
        Path(f"{root}.view").mkdir(exist_ok=True)
    view = f"{root}.view" if service.get("read_only") else root
    limits = ["--no-new-privs"] if "no-new-privileges:true" in service.get("security_opt", []) else []
    limits += ["--bounding-set=-all", "--inh-caps=-all"] if service.get("cap_drop") == ["ALL"] else []
    words = words or own
    inside = ["setpriv", f"--reuid={user}", f"--regid={group}", "--clear-groups", *limits, "--", *words]
    where = service.get("working_dir", "/")
    lines += [f"cd {view}{where}", f"exec /usr/sbin/chroot {view} sh -c {shlex.quote(f'cd {where}; exec ' + shlex.join(inside))}"]
    return ["unshare", "--mount", "sh", "-c", "\n".join(lines)]


ENVIRONMENT = {"PATH": "/usr/local/bin:/usr/bin:/bin", "HOME": "/"}


def up(compose):
    """Every service, in the order of what it depends on."""
    running = {}
    first = subprocess.run(container(compose, "first-start"), env=ENVIRONMENT, capture_output=True, text=True)
    assert first.returncode == 0 and "Usage:" not in first.stderr, first.stderr
    for name in ["redis", "broker"]:
        log = open(FOLDER / f"{name}.log", "a")
        running[name] = subprocess.Popen(container(compose, name), env=ENVIRONMENT, stdout=log, stderr=log)
    check = compose["services"]["broker"]["healthcheck"]["test"]
    assert check[0] == "CMD"
    deadline = time.monotonic() + 60
    while True:
        health = subprocess.run(container(compose, "broker", check[1:]), env=ENVIRONMENT, capture_output=True, text=True)
        # Degraded would be well enough for the check, and not for this test: Redis must let the broker in.
        if health.returncode == 0 and "degraded" not in health.stdout:
            return running, health.stdout.strip()
        logs = (FOLDER / "broker.log").read_text() + (FOLDER / "redis.log").read_text()
        assert time.monotonic() < deadline, health.stdout + health.stderr + logs
        time.sleep(0.2)


def down(running):
    for process in reversed(list(running.values())):
        process.terminate()
    return {name: process.wait(30) for name, process in running.items()}


def docker(arguments):
    """`docker compose -f deploy/compose.yaml`, with `exec`, `run` and `up` of one service."""
    assert arguments[:3] == ["compose", "-f", "deploy/compose.yaml"], arguments
    parser = argparse.ArgumentParser()
    parser.add_argument("--profile")
    kinds = parser.add_subparsers(dest="kind", required=True)
    for kind in ("exec", "run", "up"):
        parsed = kinds.add_parser(kind)
        for flag in {"exec": ["-T"], "run": ["-T", "--rm", "--no-deps"], "up": ["--detach", "--wait"]}[kind]:
            parsed.add_argument(flag, action="store_true", required=True)
        if kind == "run":
            parsed.add_argument("--entrypoint", required=True)
        parsed.add_argument("service")
        if kind != "up":
            parsed.add_argument("words", nargs=argparse.REMAINDER)
    asked = parser.parse_args(arguments[3:])
    compose = yaml.safe_load((ROOT / "deploy/compose.yaml").read_text())
    service = compose["services"][asked.service]
    assert asked.kind != "up" or asked.profile in service["profiles"]
    if asked.kind == "up":
        log = open(FOLDER / f"{asked.service}.log", "a")
        process = subprocess.Popen(container(compose, asked.service), stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        (FOLDER / f"{asked.service}.pid").write_text(str(process.pid))
        return
    words = ([asked.entrypoint] if asked.kind == "run" else []) + asked.words
    command = container(compose, asked.service, words)
    os.execvpe(command[0], command, ENVIRONMENT)


def agent(compose, pages, account):
    """The agent beside the broker, by the commands of the pages, and who a program is by what it gives."""
    folder = FOLDER / "pages"
    (folder / "stub").mkdir(parents=True)
    stub = folder / "stub/docker"
    stub.write_text(f'#!/bin/sh\nexec {sys.executable} {__file__} {FOLDER} {BREVET} docker "$@"\n')
    stub.chmod(0o755)
    directory, key = node.declared(account)
    (folder / "account.json").write_text(directory)
    (folder / "access-key.json").write_text(key)
    (folder / "agent.toml").write_text(pages["agent.toml"].replace("111122223333", account))
    environment = {**os.environ, "PATH": f"{stub.parent}:{os.environ['PATH']}"}
    for step in ("import", "agent"):
        done = subprocess.run(["sh", "-ec", pages[step]], cwd=folder, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
    process = int((FOLDER / "agent.pid").read_text())
    program = {
        "PATH": os.environ["PATH"], "HOME": str(FOLDER), "AWS_DEFAULT_REGION": node.REGION, "AWS_ENDPOINT_URL_STS": "http://127.0.0.1:7480",
        "AWS_EC2_METADATA_SERVICE_ENDPOINT": "http://127.0.0.1:7490", "AWS_METADATA_SERVICE_TIMEOUT": "20",
    }
    deadline = time.monotonic() + 60
    while "the agent listens" not in (log := (FOLDER / "agent.log").read_text()):
        assert time.monotonic() < deadline, log
        time.sleep(0.1)
    command = [sys.executable, "-m", "awscli", "sts", "get-caller-identity"]
    # The broker learns of the import within two seconds, and the agent asks again for what was refused.
    while (done := subprocess.run(command, env=program, capture_output=True, text=True)).returncode != 0:
        assert time.monotonic() < deadline, done.stderr + (FOLDER / "agent.log").read_text()
    arn = json.loads(done.stdout)["Arn"]
    status = dict(re.findall(r"^(\w+):\t(.*)$", Path(f"/proc/{process}/status").read_text(), re.MULTILINE))
    found = {
        "agent_arn": arn,
        "agent_user": status["Uid"].split(),
        "agent_capabilities": [status[name] for name in ("CapEff", "CapPrm", "CapBnd", "CapInh")],
        "agent_writable": writable(compose, "agent"),
    }
    os.kill(process, signal.SIGTERM)
    return found


def writable(compose, name):
    """Which folders a service can write."""
    write = ["sh", "-c", "for d in / /etc /usr/local/bin /tmp /var/lib/brevet /var/lib/brevet-agent; do (: >$d/x) 2>/dev/null && echo $d; done; true"]
    return subprocess.run(container(compose, name, write), env=ENVIRONMENT, capture_output=True, text=True).stdout.split()


def main():
    loopback()
    compose = yaml.safe_load((ROOT / "deploy/compose.yaml").read_text())
    for name, service in compose["services"].items():
        root = image(name)
        if service["image"] in STAGES:
            build(root, service["image"])
        else:
            sh("install", "-D", "-m", "0755", "/usr/bin/redis-server", str(root / "usr/local/bin/redis-server"))
    found = {}
    running, found["health"] = up(compose)
    broker = Path(f"/proc/{running['broker'].pid}")
    status = dict(re.findall(r"^(\w+):\t(.*)$", (broker / "status").read_text(), re.MULTILINE))
    found["user"] = status["Uid"].split()
    found["capabilities"] = [status[name] for name in ("CapEff", "CapPrm", "CapBnd", "CapInh")]
    found["no_new_privileges"] = status["NoNewPrivs"]
    found["redis_arguments"] = Path(f"/proc/{running['redis'].pid}/cmdline").read_text()
    found["writable"] = writable(compose, "broker")
    show = ["cat", "/var/lib/brevet/administrator.env"]
    keys = subprocess.run(container(compose, "broker", show), env=ENVIRONMENT, capture_output=True, text=True, check=True).stdout
    words = dict(word.split("=", 1) for word in keys.split() if "=" in word)
    person = {**os.environ, **words, "AWS_ENDPOINT_URL_STS": "http://127.0.0.1:7480", "HOME": str(FOLDER)}
    cli = [sys.executable, "-m", "awscli", "sts"]
    found["arn"] = json.loads(sh(*cli, "get-caller-identity", env=person, capture_output=True, text=True).stdout)["Arn"]
    account = found["arn"].split(":")[4]
    role = ["assume-role", "--role-arn", f"arn:aws:iam::{account}:role/Administrator", "--role-session-name", "kept"]
    session = json.loads(sh(*cli, *role, env=person, capture_output=True, text=True).stdout)["Credentials"]
    found["ended"] = down(running)
    # All that is not a volume is gone, as after `docker compose down`.
    running, _ = up(compose)
    kept = {
        **person,
        "AWS_ACCESS_KEY_ID": session["AccessKeyId"],
        "AWS_SECRET_ACCESS_KEY": session["SecretAccessKey"],
        "AWS_SESSION_TOKEN": session["SessionToken"],
    }
    found["arn_after"] = json.loads(sh(*cli, "get-caller-identity", env=person, capture_output=True, text=True).stdout)["Arn"]
    found["session_after"] = json.loads(sh(*cli, "get-caller-identity", env=kept, capture_output=True, text=True).stdout)["Arn"]
    found |= agent(compose, json.loads(sys.argv[3]), account)
    running["redis"].kill()
    running["redis"].wait()
    deadline = time.monotonic() + 60
    check = compose["services"]["broker"]["healthcheck"]["test"][1:]
    while "degraded" not in found.get("without_redis", ""):
        assert time.monotonic() < deadline
        found["without_redis"] = subprocess.run(container(compose, "broker", check), env=ENVIRONMENT, capture_output=True, text=True).stdout
    running["broker"].kill()
    running["broker"].wait()
    gone = subprocess.run(container(compose, "broker", check), env=ENVIRONMENT, capture_output=True, text=True)
    found["gone"] = [gone.returncode, gone.stderr]
    print(json.dumps(found))


if sys.argv[3] == "docker":
    docker(sys.argv[4:])
else:
    main()
