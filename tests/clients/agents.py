"""An agent beside a demo broker, with a configuration of its own."""

import json
import subprocess
import time


def start(world, folder, sections):
    """Starts an agent that acts as alice, and returns its process and what `--world` says."""
    alice = world["users"]["alice"]
    key = folder / "key.json"
    key.write_text(json.dumps({"AccessKeyId": alice["access_key_id"], "SecretAccessKey": alice["secret_access_key"]}))
    key.chmod(0o600)
    config = folder / "agent.toml"
    config.write_text(
        f'broker.endpoint = "{world["grpc_endpoint"]}"\nbroker.region = "{world["region"]}"\n'
        'identity.access_key_file = "key.json"\noperator.address = "127.0.0.1:0"\naudit.file = "agent-audit.jsonl"\n' + sections
    )
    config.chmod(0o600)
    offer = folder / "world.json"
    command = [world["brevet"], "agent", "--config", str(config), "--world", str(offer)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 60
    while not offer.exists():
        assert process.poll() is None, process.stderr.read()
        assert time.monotonic() < deadline
        time.sleep(0.01)
    return process, json.loads(offer.read_text())


def stop(process):
    process.terminate()
    _, log = process.communicate(timeout=30)
    assert process.returncode == 0, log
    return log
