"""A release's archive: made twice, unpacked, and its programs run as they are."""

import hashlib
import json
import os
import re
import subprocess
import tarfile
import time
import tomllib

import boto3
import pytest
from conftest import ROOT

# What docs/explanation/performance.md promises of the agent, with room for the next compiler.
AGENT_BYTES = 14 << 20
AGENT_RESIDENT = 20 << 20


@pytest.fixture(scope="module")
def archive(tmp_path_factory):
    """The folder that the archive holds, unpacked; beside it what else was made."""
    made = tmp_path_factory.mktemp("archive")
    for name in ("one", "two"):
        subprocess.run([ROOT / "deploy/archive", made / name], check=True, capture_output=True)
    return made


def unpacked(archive):
    (file,) = (archive / "one").glob("*.tar.gz")
    folder = archive / "usr-local"
    if not folder.exists():
        folder.mkdir()
        command = ["tar", "--extract", "--directory", folder, "--strip-components", "1", "--file", file]
        subprocess.run(command, check=True)
    return folder


def test_the_sums_are_right_and_the_same_again(archive):
    lines = (archive / "one/SHA256SUMS").read_text().splitlines()
    assert len(lines) == 2 and (archive / "two/SHA256SUMS").read_text().splitlines() == lines
    for line in lines:
        digest, name = line.split()
        assert hashlib.sha256((archive / "one" / name).read_bytes()).hexdigest() == digest
    version = tomllib.loads((ROOT / "Cargo.toml").read_text())["package"]["version"]
    assert {line.split()[1].split("-")[1] for line in lines} == {version}


def test_everything_is_where_it_is_looked_for(archive):
    root = unpacked(archive)
    (file,) = (archive / "one").glob("*.tar.gz")
    with tarfile.open(file) as tar:
        for entry in tar:
            assert entry.uid == 0 and entry.gid == 0 and not entry.mode & 0o022, entry.name
    for unit in ("brevet", "brevet-agent"):
        text = (root / f"lib/systemd/system/{unit}.service").read_text()
        started = re.search(r"^ExecStart=/usr/local/(\S+)", text, re.MULTILINE)[1]
        assert os.access(root / started, os.X_OK)
        assert (root / f"lib/sysusers.d/{unit}.conf").exists() and (root / f"lib/tmpfiles.d/{unit}.conf").exists()
    pages = {page.name for page in (root / "share/man/man1").iterdir()}
    assert {"brevet.1", "brevet-serve.1", "brevet-agent.1"} <= pages
    bash = root / "share/bash-completion/completions/brevet"
    subprocess.run(["bash", "-n", bash], check=True)
    assert "assume-role" in bash.read_text()
    assert (root / "share/zsh/site-functions/_brevet").exists() and (root / "share/fish/vendor_completions.d/brevet.fish").exists()
    docs = root / "share/doc/brevet"
    for name in ("README.md", "LICENSE-MIT", "config/brevet.toml", "deploy/brevet-agent.service.d/addresses.conf", "deploy/logrotate.conf"):
        assert (docs / name).exists(), name
    for page in docs.rglob("*.md"):
        for target in re.findall(r"\]\(((?:\.\./)*(?:docs|config|deploy|how-to|reference|explanation|tutorials)/[^)#\s]+)", page.read_text()):
            assert (page.parent / target).exists(), (page, target)


def test_the_programs_name_no_folder_of_this_machine(archive):
    for name in ("brevet", "brevet-agent"):
        program = (unpacked(archive) / "bin" / name).read_bytes()
        for folder in (ROOT, os.environ.get("CARGO_HOME", os.path.expanduser("~/.cargo"))):
            assert str(folder).encode() not in program, f"{name} names {folder}"


def test_the_agent_is_small_and_hands_out_credentials_of_the_broker(archive, tmp_path, monkeypatch):
    programs = unpacked(archive) / "bin"
    assert (programs / "brevet-agent").stat().st_size < AGENT_BYTES
    for name in list(os.environ):
        if name.startswith("AWS_"):
            monkeypatch.delenv(name)
    running = []

    def started(*command, **environment):
        """Starts a program, and returns what it says it offers."""
        file = tmp_path / f"{len(running)}.json"
        running.append(subprocess.Popen([*command, "--world", file], env={**os.environ, **environment}, stderr=subprocess.DEVNULL))
        deadline = time.monotonic() + 60
        while not file.exists():
            assert running[-1].poll() is None and time.monotonic() < deadline
            time.sleep(0.01)
        return json.loads(file.read_text())

    try:
        broker = started(programs / "brevet", "serve", "--dev", "--listen", "127.0.0.1:0")
        alice = broker["users"]["alice"]
        key = {"AWS_ACCESS_KEY_ID": alice["access_key_id"], "AWS_SECRET_ACCESS_KEY": alice["secret_access_key"]}
        agent = started(programs / "brevet-agent", "agent", "--dev", "--listen", "127.0.0.1:0", AWS_ENDPOINT_URL_STS=broker["grpc_endpoint"], **key)
        monkeypatch.setenv("AWS_EC2_METADATA_SERVICE_ENDPOINT", agent["imds"]["endpoint"])
        monkeypatch.setenv("AWS_METADATA_SERVICE_TIMEOUT", "20")
        for name in ("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"):
            monkeypatch.setenv(name, "/dev/null")
        sts = boto3.Session(region_name=broker["region"]).client("sts", endpoint_url=broker["sts_endpoint"])
        assert ":assumed-role/Demo/" in sts.get_caller_identity()["Arn"]
        with open(f"/proc/{running[1].pid}/status") as status:
            resident = int(re.search(r"^VmRSS:\s+(\d+) kB$", status.read(), re.MULTILINE)[1]) << 10
        assert resident < AGENT_RESIDENT
    finally:
        for process in running:
            process.terminate()
    assert [process.wait(30) for process in running] == [0, 0]
