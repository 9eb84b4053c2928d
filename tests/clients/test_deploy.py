"""What deploy/ says, done: there is no container engine here, so compose's services run as processes."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import kubernetes_validate
import pytest
import yaml
from conftest import BREVET, ROOT

DEPLOY = ROOT / "deploy"


def test_the_dockerfile_is_sound():
    hadolint = Path(sys.executable).parent / "hadolint"
    done = subprocess.run([hadolint, str(DEPLOY / "Dockerfile")], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("version", ["1.31", "1.37"])
def test_the_daemonset_is_what_kubernetes_takes(version):
    kinds = []
    for resource in yaml.safe_load_all((DEPLOY / "kubernetes/agent.yaml").read_text()):
        kubernetes_validate.validate(resource, version, strict=True)
        kinds.append(resource["kind"])
    assert kinds == ["Namespace", "ServiceAccount", "ClusterRoleBinding", "ConfigMap", "DaemonSet"]


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


def test_compose_comes_up_and_keeps_its_state(tmp_path):
    if os.geteuid() != 0 or shutil.which("unshare") is None:
        pytest.skip("users and mounts of services need root and unshare")
    tried = subprocess.run(["unshare", "--mount", "--net", "true"], capture_output=True, text=True)
    if tried.returncode != 0:
        pytest.skip(f"this machine lets nobody unshare: {tried.stderr}")
    # Folders on the way must let the services' accounts through.
    folder = Path(subprocess.run(["mktemp", "-d", "/tmp/brevet-compose-XXXXXXXX"], capture_output=True, text=True, check=True).stdout.strip())
    folder.chmod(0o755)
    try:
        script = Path(__file__).with_name("containers.py")
        inside = ["unshare", "--mount", "--net", "--fork", "--kill-child", sys.executable, str(script), str(folder), BREVET]
        done = subprocess.run(inside, capture_output=True, text=True, timeout=180)
        assert done.returncode == 0, done.stdout + done.stderr
        found = json.loads(done.stdout)
        password = (folder / "volumes/state/redis.password").read_text()
        modes = {name: (folder / "volumes/state" / name).stat().st_mode & 0o777 for name in ("redis.password", "administrator.env")}
    finally:
        # The mounts are gone with their namespace; should one be left, what it shows is not touched.
        subprocess.run(["rm", "-rf", "--one-file-system", str(folder)], check=True)
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


def test_the_unit_the_accounts_and_the_rotation(tmp_path):
    unit = (DEPLOY / "brevet.service").read_text()
    assert "Type=notify" in unit and "ExecReload=/bin/kill -HUP $MAINPID" in unit
    if shutil.which("systemd-analyze"):
        there = tmp_path / "brevet.service"
        there.write_text(unit.replace("/usr/local/bin/brevet", BREVET))
        done = subprocess.run(["systemd-analyze", "verify", str(there)], capture_output=True, text=True)
        assert "brevet.service" not in done.stderr, done.stderr
    if shutil.which("systemd-sysusers") and shutil.which("systemd-tmpfiles"):
        root = tmp_path / "root"
        for kind in ("sysusers.d", "tmpfiles.d"):
            shutil.copytree(DEPLOY / kind, root / "usr/lib" / kind)
        (root / "etc").mkdir()
        subprocess.run(["systemd-sysusers", f"--root={root}"], check=True, capture_output=True)
        assert "brevet:x:" in (root / "etc/passwd").read_text()
        if os.geteuid() == 0:
            subprocess.run(["systemd-tmpfiles", f"--root={root}", "--create"], check=True, capture_output=True)
            assert (root / "var/lib/brevet").stat().st_mode & 0o777 == 0o700
    logrotate = shutil.which("logrotate") or "/usr/sbin/logrotate"
    if os.path.exists(logrotate) and os.geteuid() == 0:
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
