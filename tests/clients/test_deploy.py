"""What deploy/ says, done: there is no container engine here, so compose's services run as processes."""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path

import kubernetes_validate
import node
import pytest
import yaml
from conftest import BREVET, ROOT, may_skip

DEPLOY = ROOT / "deploy"


def section(page, heading):
    """What a page says below a heading: its TOML, and its blocks of commands."""
    text = (ROOT / "docs/how-to" / page).read_text().split(f"# {heading}\n", 1)[1]
    text = re.split(r"^##+ ", text, flags=re.MULTILINE)[0]
    toml = re.findall(r"^ *```toml\n(.*?)^ *```$", text, re.MULTILINE | re.DOTALL)
    shell = re.findall(r"^ *```sh .*?\n(.*?)^ *```$", text, re.MULTILINE | re.DOTALL)
    return "".join(textwrap.dedent(block) for block in toml), [textwrap.dedent(block) for block in shell]


@pytest.fixture
def folder():
    """A folder that other accounts may go through."""
    made = subprocess.run(["mktemp", "-d", "/tmp/brevet-deploy-XXXXXXXX"], capture_output=True, text=True, check=True)
    folder = Path(made.stdout.strip())
    folder.chmod(0o755)
    yield folder
    # The mounts are gone with their namespace; should one be left, what it shows is not touched.
    subprocess.run(["rm", "-rf", "--one-file-system", str(folder)], check=True)


def test_the_dockerfile_is_sound():
    hadolint = Path(sys.executable).parent / "hadolint"
    done = subprocess.run([hadolint, str(DEPLOY / "Dockerfile")], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_build_has_all_the_files_that_it_needs(folder):
    """What the Dockerfile builds passes the compiler's checks where there is only what .dockerignore lets through."""
    tracked = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.splitlines()
    rules = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if line and not line.startswith("#")]
    assert rules[0] == "*" and all(rule.startswith("!") for rule in rules[1:])
    for name in tracked:
        if any(name == rule[1:] or name.startswith(f"{rule[1:]}/") for rule in rules[1:]):
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, folder / name)
    # The broker's, which has all that the agent's has. It is only checked, for which what `tests/run lint` has compiled of
    # the dependencies serves again.
    build = re.search(r"^RUN (cargo build .*)$", (DEPLOY / "Dockerfile").read_text(), re.MULTILINE)[1]
    words = shlex.split(build.replace("cargo build --release", "cargo check --quiet"))
    target = {**os.environ, "CARGO_TARGET_DIR": os.environ.get("CARGO_TARGET_DIR", str(ROOT / "target"))}
    done = subprocess.run(words, cwd=folder, env=target, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_the_list_of_parts_is_what_cargo_links():
    parts = json.loads(subprocess.run([DEPLOY / "sbom"], check=True, capture_output=True, text=True).stdout)
    names = {part["name"] for part in parts["components"]}
    assert parts["specVersion"] == "1.6" and {"aws-lc-rs", "redis", "ring", "sqlx", "tokio"} <= names
    assert not names & {"criterion", "proptest", "tempfile"}, "what only tests need is no part"
    for part in parts["components"]:
        assert part["hashes"][0]["alg"] == "SHA-256" and part["licenses"][0]["expression"], part["name"]
    refs = {part["bom-ref"] for part in [parts["metadata"]["component"], *parts["components"]]}
    for dependency in parts["dependencies"]:
        assert {dependency["ref"], *dependency["dependsOn"]} <= refs


def test_the_agents_program_has_no_database():
    tree = ["cargo", "tree", "--locked", "--no-default-features", "--features", "agent", "--edges", "normal", "--prefix", "none"]
    done = subprocess.run(tree, cwd=ROOT, check=True, capture_output=True, text=True)
    names = {line.split()[0] for line in done.stdout.splitlines() if line}
    assert "tonic" in names and not {name for name in names if re.match("sqlx|libsqlite3|redis", name)}, names


@pytest.mark.parametrize("version", ["1.31", "1.37"])
def test_the_daemonset_is_what_kubernetes_takes(version):
    kinds = []
    for resource in yaml.safe_load_all((DEPLOY / "kubernetes/agent.yaml").read_text()):
        kubernetes_validate.validate(resource, version, strict=True)
        kinds.append(resource["kind"])
    assert kinds == ["Namespace", "ServiceAccount", "ClusterRoleBinding", "ConfigMap", "DaemonSet"]


def test_the_daemonset_starts_the_agent(folder):
    """Its init container's command, and then its agent, as their accounts on a node's network; until the probes succeed."""
    resources = {r["kind"]: r for r in yaml.safe_load_all((DEPLOY / "kubernetes/agent.yaml").read_text())}
    pod = resources["DaemonSet"]["spec"]["template"]["spec"]
    (init,), (agent,) = pod["initContainers"], pod["containers"]
    for name, text in resources["ConfigMap"]["data"].items():
        (folder / name).write_text(text.replace("/etc/brevet-agent", str(folder)))
    # The image's own configuration is somewhere else, so the arguments name it.
    arguments = [word.replace("/etc/brevet-agent", str(folder)) for word in agent["args"]]
    program = folder / "brevet-agent"
    shutil.copy(Path(BREVET).with_name("brevet-agent"), program)
    user = pod["securityContext"]
    account = ["setpriv", f"--reuid={user['runAsUser']}", f"--regid={user['runAsGroup']}", "--clear-groups", "--bounding-set=-all", "--no-new-privs"]
    ready, live = agent["readinessProbe"]["httpGet"], agent["livenessProbe"]["tcpSocket"]
    script = f"""
        set -e
        ip link set lo up
        for again in 1 2; do {shlex.join(init["command"])}; done
        {shlex.join([*account, str(program), *arguments])} &
        trap 'kill %1; wait' EXIT
        for try in $(seq 300); do
            if (: </dev/tcp/{live["host"]}/{live["port"]}) 2>/dev/null; then break; fi
            sleep 0.1
        done
        exec 3<>/dev/tcp/{ready["host"]}/{ready["port"]}
        printf 'GET {ready["path"]} HTTP/1.1\\r\\nHost: {ready["host"]}\\r\\nConnection: close\\r\\n\\r\\n' >&3
        head -1 <&3
        (: </dev/tcp/fd00:ec2::23/{live["port"]}) && echo "it listens by IPv6"
    """
    tried = subprocess.run(["unshare", "--net", "ip", "link"], capture_output=True, text=True)
    if tried.returncode != 0:
        may_skip(f"a network of its own needs root and iproute2: {tried.stderr}")
    done = subprocess.run(["unshare", "--net", "bash", "-c", script], capture_output=True, text=True, timeout=60)
    assert "it listens by IPv6" in done.stdout, done.stdout + done.stderr
    assert "HTTP/1.1 200 OK" in done.stdout, done.stdout + done.stderr


def test_images_are_pinned_and_state_is_in_a_named_volume():
    compose = yaml.safe_load((DEPLOY / "compose.yaml").read_text())
    images = re.findall(r"^FROM (\S+)", (DEPLOY / "Dockerfile").read_text(), re.MULTILINE)
    images += [s["image"] for s in compose["services"].values() if s["image"] not in ("brevet", "brevet-agent")]
    for image in images:
        assert re.search(r"@sha256:[0-9a-f]{64}$|:\d+\.\d+(\.\d+)?(-[a-z]+)?$", image), image
    used = {v.split(":")[0] for s in compose["services"].values() for v in s.get("volumes", [])}
    assert used == set(compose["volumes"]), "each volume is named, and each name is used"
    for name, service in compose["services"].items():
        assert service["read_only"] and service["cap_drop"] == ["ALL"] and service["user"] != "0:0", name
        assert all(p.startswith("127.0.0.1:") for p in service.get("ports", [])), "plaintext stays on this machine"
    # The rights of the Redis user are those that the configuration's documentation gives.
    rights = re.search(r"ACL SETUSER brevet on >… (.*?)`", (ROOT / "config/brevet.toml").read_text())[1]
    assert rights in (DEPLOY / "first-start").read_text()
    assert "password" not in json.dumps(compose["services"]["redis"]["command"]).lower()


def test_compose_comes_up_and_keeps_its_state(folder):
    namespaces = ["unshare", "--mount", "--net", "--fork", "--kill-child"]
    tried = subprocess.run([*namespaces, "true"], capture_output=True, text=True)
    if tried.returncode != 0 or os.geteuid() != 0:
        may_skip(f"users and mounts of services need root and namespaces: {tried.stderr}")
    _, blocks = section("deploy.md", "Containers")
    agent, start = section("deploy.md", "The agent in a container")
    pages = {"import": blocks[1].replace(" - <", " - --apply <"), "agent.toml": agent, "agent": start[0]}
    script = Path(__file__).with_name("containers.py")
    inside = [*namespaces, sys.executable, str(script), str(folder), BREVET, json.dumps(pages)]
    done = subprocess.run(inside, capture_output=True, text=True, timeout=180)
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads(done.stdout)
    password = (folder / "volumes/state/redis.password").read_text()
    modes = {name: (folder / "volumes/state" / name).stat().st_mode & 0o777 for name in ("redis.password", "administrator.env")}
    assert found["health"] == "ready"
    assert found["user"] == ["7480"] * 4 and found["no_new_privileges"] == "1"
    assert {int(mask, 16) for mask in found["capabilities"]} == {0}
    assert found["writable"] == ["/var/lib/brevet"], "the volume alone"
    assert len(password) == 64 and password not in found["redis_arguments"]
    assert set(modes.values()) == {0o600}
    assert found["ended"]["broker"] == 0, "SIGTERM ends it in order"
    assert found["arn"].endswith(":user/administrator") and found["arn_after"] == found["arn"]
    assert found["session_after"].endswith("assumed-role/Administrator/kept"), "sessions outlive the containers"
    assert found["without_redis"].startswith("ready; degraded")
    assert found["gone"][0] == 1 and "does not answer" in found["gone"][1]
    assert found["agent_user"] == ["7482"] * 4 and found["agent_capabilities"] == ["0" * 16] * 4
    assert found["agent_writable"] == ["/var/lib/brevet-agent"], "its volume alone"
    assert found["agent_arn"].split("/")[0].endswith(":assumed-role") and found["agent_arn"].split("/")[1] == "App"


@pytest.mark.parametrize("name", ["brevet.service", "brevet-agent.service"])
def test_a_unit_has_no_mistake(tmp_path, name):
    there = tmp_path / name
    there.write_text((DEPLOY / name).read_text().replace("/usr/local/bin/", f"{Path(BREVET).parent}/"))
    if (DEPLOY / f"{name}.d").exists():
        shutil.copytree(DEPLOY / f"{name}.d", tmp_path / f"{name}.d")
    done = subprocess.run(["systemd-analyze", "verify", str(there)], capture_output=True, text=True)
    assert done.returncode == 0 and name not in done.stderr, done.stderr


def test_the_units_run_by_the_commands_of_the_pages(folder):
    """From the installation to a program that gets credentials, below a systemd, as whom and where the units say."""
    namespaces = ["unshare", "--mount", "--pid", "--net", "--ipc", "--uts", "--fork", "--kill-child"]
    tried = subprocess.run([*namespaces, "--cgroup", "true"], capture_output=True, text=True)
    if tried.returncode != 0:
        may_skip(f"systemd needs root and namespaces: {tried.stderr}")
    work = folder / "steps"
    (work / "target/release").mkdir(parents=True)
    for name in ("brevet", "brevet-agent"):
        shutil.copy(Path(BREVET).with_name(name), work / "target/release")
    # They are built already.
    (work / "stub").mkdir()
    (work / "stub/cargo").write_text("#!/bin/sh\n")
    (work / "stub/cargo").chmod(0o755)
    shutil.copytree(DEPLOY, work / "deploy")
    directory, key = node.declared("111122223333")
    (work / "account.json").write_text(directory)
    (work / "access-key.json").write_text(key)
    (work / "ca.pem").write_text("no certificate: the broker is on loopback\n")
    _, (install, import_) = section("deploy.md", "systemd")
    (work / "broker.install").write_text(install.replace("brevet init /var/lib/brevet", "brevet init /var/lib/brevet --account 111122223333"))
    (work / "broker.import").write_text(import_.replace(" - <", " - --apply <"))
    (work / "broker.health").write_text("".join(section("deploy.md", "Health")[1]))
    agent, steps = section("sidecar.md", "Set up a machine")
    broker = 'endpoint = "https://sts.example.com:7480"\nca_file = "ca.pem"\n'
    assert broker in agent and "--account" in (work / "broker.install").read_text()
    agent = agent.replace(broker, 'endpoint = "http://127.0.0.1:7480"\n')
    # The unit `reporter.service` of that page, with the role that the node may hand out.
    local, _ = section("unix-socket.md", "Give local programs credentials over a Unix socket")
    (work / "agent.toml").write_text(agent + local.replace("role/Reporter", "role/App"))
    for number, step in enumerate(steps):
        (work / f"step.{number}").write_text(step)
    shutil.copy(Path(__file__).with_name("units.sh"), work)
    inside = [*namespaces, sys.executable, str(Path(__file__).with_name("units.py")), str(folder), "/steps/units.sh"]
    try:
        done = subprocess.run(inside, capture_output=True, text=True, timeout=240)
    finally:
        subprocess.run(["unshare", "--mount", *inside[-4:-1], "clean"], check=True)
    printed = {name: (folder / name).read_text() if (folder / name).exists() else "" for name in ("out", "log")}
    assert "\ndone\n" in printed["out"], done.stdout + done.stderr + "".join(printed.values())
    found = dict(re.findall(r"^([\w -]+): (.*)$", printed["out"], re.MULTILINE))
    assert sorted(found["addresses"].split()) == ["169.254.169.254/32", "169.254.170.2/32", "fd00:ec2::254/128"]
    for when in ("before", "after"):
        assert json.loads(found[when])["Code"] == "Success" and json.loads(found[when])["AccessKeyId"].startswith("ASIA")
    lines = [json.loads(line) for line in found["audit"].split("\t")]
    handed = [json.loads(found[name])["AccessKeyId"] for name in ("before", "after", "unit")]
    assert [line["access_key_id"] for line in lines] == handed
    assert [line["proof"] for line in lines] == ["imds-token", "imds-token", "peer-unit"]
    assert json.loads(found["unit"])["AccessKeyId"].startswith("ASIA") and found["another unit"] == "refused"
    # CAP_NET_BIND_SERVICE, for port 80, is the agent's only right.
    for unit, right in (("brevet", 0), ("brevet-agent", 1 << 10)):
        assert found[f"{unit} state"] == "active enabled 0" and found[f"{unit} user"] == unit
        assert [int(word, 16) for word in found[f"{unit} capabilities"].split()] == [right, right]
        assert found[f"{unit} limits"] == "2 1", "system calls are filtered, and nothing raises its rights"
        assert found[f"{unit} folder"] == f"{unit} 700" and found[f"{unit} open files"] == ""


def test_the_audit_log_is_rotated(tmp_path):
    logrotate = shutil.which("logrotate") or "/usr/sbin/logrotate"
    if not os.path.exists(logrotate) or os.geteuid() != 0:
        may_skip("there is no logrotate here, or no root")
    home = tmp_path / "home"
    made = subprocess.run([BREVET, "init", str(home)], capture_output=True, text=True)
    assert made.returncode == 0, made.stderr
    configuration = home / "brevet.toml"
    configuration.write_text(re.sub(r"127\.0\.0\.1:748\d", "127.0.0.1:0", configuration.read_text()))
    serve = [BREVET, "serve", "--config", str(configuration)]
    broker = subprocess.Popen(serve, stderr=subprocess.PIPE, text=True)
    assert "brevet listens" in broker.stderr.readline()
    log = home / "audit.jsonl"
    before = log.stat().st_ino
    log.write_text("{}\n") if log.stat().st_size == 0 else None
    text = (DEPLOY / "logrotate.conf").read_text()
    text = text.replace("/var/lib/brevet/audit.jsonl", str(log)).replace("su brevet brevet", "su root root")
    text = text.replace("systemctl reload brevet.service", f"kill -HUP {broker.pid}; sleep 1")
    rotation = tmp_path / "logrotate.conf"
    rotation.write_text(text)
    rotation.chmod(0o600)
    state = ["--state", str(tmp_path / "state")]
    done = subprocess.run([logrotate, "--force", *state, str(rotation)], capture_output=True, text=True)
    broker.terminate()
    assert broker.wait(15) == 0
    assert done.returncode == 0, done.stderr
    old = [p for p in home.glob("audit.jsonl-*")]
    assert len(old) == 1 and old[0].stat().st_ino == before, "renamed"
    assert log.exists() and log.stat().st_ino != before and log.stat().st_mode & 0o777 == 0o600, "opened anew"
