"""Asks an agent at 169.254.170.2 with a relative URI. Run by test_agent_container.py in a network of its own."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import agents

BREVET, folder = os.environ["BREVET"], Path(sys.argv[1])
WHO = "import boto3; print(boto3.client('sts').get_caller_identity()['Arn'])"

for command in (["ip", "link", "set", "lo", "up"], ["ip", "address", "add", "169.254.170.2/32", "dev", "lo"]):
    subprocess.run(command, check=True)
offer = folder / "broker.json"
broker = subprocess.Popen([BREVET, "serve", "--dev", "--listen", "127.0.0.1:0", "--world", str(offer)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
deadline = time.monotonic() + 60
while not offer.exists():
    assert broker.poll() is None and time.monotonic() < deadline
    time.sleep(0.01)
world = {**json.loads(offer.read_text()), "brevet": BREVET}
role = world["roles"]["Demo"]["arn"]
agent, _ = agents.start(world, folder, f'[container]\n[[container.workload]]\nname = "web"\ntoken_file = "token"\nrole_arn = "{role}"\n')
try:
    environment = {
        "PATH": os.environ["PATH"],
        "AWS_REGION": world["region"],
        "AWS_DEFAULT_REGION": world["region"],
        "AWS_ENDPOINT_URL_STS": world["sts_endpoint"],
        "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI": "/credentials/web",
        "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE": str(folder / "token"),
        "AWS_CONFIG_FILE": "/dev/null",
        "AWS_SHARED_CREDENTIALS_FILE": "/dev/null",
    }
    subprocess.run([sys.executable, "-c", WHO], env=environment, check=True)
finally:
    agents.stop(agent)
    broker.terminate()
    broker.wait(30)
