"""The agent's Unix socket: programs are known by the kernel, and ask by `brevet credential-process`."""

import json
import os
import socket
import subprocess
import sys
import tempfile
from pathlib import Path

import agents
import pytest
from conftest import may_skip

UNIT = f"brevet-test-{os.getpid()}.service"


@pytest.fixture(scope="module")
def agent(world, tmp_path_factory):
    folder = tmp_path_factory.mktemp("agent")
    # The path of a socket is short, and other users must reach it.
    short = Path(tempfile.mkdtemp(prefix="brevet-", dir="/tmp"))
    short.chmod(0o755)
    path = short / "agent.sock"
    role = world["roles"]["Demo"]["arn"]
    brevet = os.path.realpath(world["brevet"])

    def entry(name, **who):
        lines = "".join(f"{key} = {json.dumps(value)}\n" for key, value in who.items())
        return f'[[unix_socket.program]]\nname = "{name}"\n{lines}role_arn = "{role}"\n'

    sections = f'[unix_socket]\npath = "{path}"\n'
    sections += entry("by-other-unit", unit="no-such.service", uid=os.getuid())
    sections += entry("by-unit", unit=UNIT)
    sections += entry("by-executable", executable=brevet, uid=os.getuid())
    sections += entry("by-user", uid=65534)
    process, offer = agents.start(world, folder, sections)
    offer |= {"folder": folder, "path": path, "role": role, "brevet": world["brevet"]}
    yield offer
    agents.stop(process)
    assert not path.exists(), "the socket is removed"
    short.rmdir()


def raw(path, target="/v1/credentials", method="GET", host="localhost"):
    with socket.socket(socket.AF_UNIX) as s:
        s.settimeout(30)
        s.connect(str(path))
        s.sendall(f"{method} {target} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode())
        answer = b""
        while piece := s.recv(65536):
            answer += piece
    head, body = answer.split(b"\r\n\r\n", 1)
    return int(head.split()[1]), json.loads(body)


def process(agent, *more, **options):
    command = [agent["brevet"], "credential-process", "--agent-socket", str(agent["path"]), "--role", agent["role"], *more]
    return subprocess.run(command, env={}, capture_output=True, text=True, timeout=60, **options)


def test_the_program_is_known_by_its_executable(agent):
    done = process(agent)
    assert done.returncode == 0 and done.stderr == "", done.stderr
    document = json.loads(done.stdout)
    assert document["Version"] == 1 and document["AccessKeyId"].startswith("ASIA") and len(document["AccountId"]) == 12
    # The same user with another program.
    status, document = raw(agent["path"])
    assert status == 403 and document["code"] == "AccessDenied", document
    assert os.path.realpath(sys.executable) in document["message"], "it says what it knows"


def test_the_command_of_the_world_needs_no_environment(agent):
    done = subprocess.run(agent["credential_process"]["argv"], env={}, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0 and json.loads(done.stdout)["AccessKeyId"], done.stderr


def test_the_program_is_known_by_its_user(agent):
    if os.geteuid() != 0:
        may_skip("programs of other users need root")
    curl = ["python3", "-c", SCRIPT, str(agent["path"])]
    for uid, expected in ((65534, "200"), (65533, "403")):
        done = subprocess.run(["setpriv", f"--reuid={uid}", f"--regid={uid}", "--clear-groups", *curl], env={"PATH": "/usr/bin:/bin"}, capture_output=True, text=True)
        assert done.stdout.split()[:1] == [expected], (uid, done.stdout, done.stderr)


def test_the_program_is_known_by_its_unit(agent):
    """A unit is a control group: systemd makes one for each service, and this test makes one of the same form."""
    mounts = [line.split() for line in Path("/proc/mounts").read_text().splitlines()]
    roots = [Path(point) for _, point, kind, *_ in mounts if kind == "cgroup2"]
    if os.geteuid() != 0 or not roots or not os.access(roots[0], os.W_OK):
        may_skip("needs root and a hierarchy of control groups that it may change")
    unit = roots[0] / UNIT
    unit.mkdir()
    as_nobody = ["setpriv", "--reuid=65532", "--regid=65532", "--clear-groups", sys.executable, "-c", SCRIPT, str(agent["path"])]
    inside = ["sh", "-c", f'echo $$ > {unit}/cgroup.procs; exec "$@"', "sh", *as_nobody]
    try:
        for words, expected in ((inside, "200"), (as_nobody, "403")):
            done = subprocess.run(words, env={"PATH": "/usr/bin:/bin"}, capture_output=True, text=True, timeout=60)
            assert done.stdout.split() == [expected], (done.stdout, done.stderr)
    finally:
        unit.rmdir()
    lines = [json.loads(line) for line in (agent["folder"] / "agent-audit.jsonl").read_text().splitlines()]
    of_unit = [line for line in lines if line["workload"] == "by-unit"]
    assert of_unit and {(line["proof"], line["outcome"]) for line in of_unit} == {("peer-unit", "ok")}


# A program that has only just started is told to connect again, if it matters which one it is.
SCRIPT = """
import socket, sys, time
status = "503"
while status == "503":
    s = socket.socket(socket.AF_UNIX)
    s.connect(sys.argv[1])
    s.sendall(b"GET /v1/credentials HTTP/1.1\\r\\nHost: localhost\\r\\nConnection: close\\r\\n\\r\\n")
    status = s.makefile().read().split()[1]
    time.sleep(0.02)
print(status)
"""


def test_a_refusal_has_words(agent, tmp_path):
    other = agent["role"] + "x"
    command = [agent["brevet"], "credential-process", "--agent-socket", str(agent["path"]), "--role", other]
    done = subprocess.run(command, env={}, capture_output=True, text=True, timeout=60)
    assert done.returncode == 1 and done.stdout == "" and other in done.stderr
    command[3] = str(tmp_path / "gone.sock")
    done = subprocess.run(command, env={}, capture_output=True, text=True, timeout=60)
    assert done.returncode == 1 and "brevet agent" in done.stderr
    for arguments, status in (({"target": "/other"}, 404), ({"method": "POST"}, 405), ({"host": "evil.example"}, 403), ({"target": "/v1/credentials?x=1"}, 400)):
        answer = raw(agent["path"], **arguments)
        assert answer[0] == status and set(answer[1]) == {"code", "message"}, (arguments, answer)


def test_a_connection_is_worth_nothing_to_whoever_inherits_it(agent):
    """The program that connected ends, and another one goes on with its connection: its id could be anybody's by then."""
    script = """
import os, socket, sys, time
s = socket.socket(socket.AF_UNIX)
s.connect(sys.argv[1])
if os.fork():
    os._exit(0)
time.sleep(0.5)
s.sendall(b"GET /v1/credentials HTTP/1.1\\r\\nHost: localhost\\r\\nConnection: close\\r\\n\\r\\n")
print(s.makefile().read())
"""
    done = subprocess.run([sys.executable, "-c", script, str(agent["path"])], capture_output=True, text=True, timeout=60)
    assert " 403 " in done.stdout.splitlines()[0] and "has ended" in done.stdout, done.stdout
