"""A broker as an administrator sets it up, with its directory in a store."""

import re
import subprocess
import time

import boto3
import botocore.config
from conftest import BREVET

ACCOUNT = "111122223333"
# As boto3 retries what a busy broker sheds.
PATIENT = botocore.config.Config(retries={"mode": "standard", "total_max_attempts": 5})


class Stored:
    """A broker into whose store this file is imported before it starts."""

    def __init__(self, home, file):
        made = subprocess.run([BREVET, "init", str(home), "--account", ACCOUNT], capture_output=True, text=True)
        assert made.returncode == 0, made.stderr
        self.keys = re.search(r"ACCESS_KEY_ID=(\S+)[^=]*SECRET_ACCESS_KEY=(\S+)", made.stdout).groups()
        configuration = home / "brevet.toml"
        configuration.write_text(re.sub(r"127\.0\.0\.1:748\d", "127.0.0.1:0", configuration.read_text()))
        path = home / "import.json"
        path.write_text(file)
        path.chmod(0o600)
        command = [BREVET, "import", "--config", str(configuration), str(path), "--apply"]
        done = subprocess.run(command, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
        log = home / "log"
        with log.open("w") as lines:
            self.process = subprocess.Popen([BREVET, "serve", "--config", str(configuration)], stderr=lines)
        deadline = time.monotonic() + 60
        while not (listens := re.search(r"brevet listens address=(\S+)", log.read_text())):
            assert self.process.poll() is None and time.monotonic() < deadline, log.read_text()
            time.sleep(0.05)
        self.url = f"http://{listens[1]}"

    def iam(self):
        key, secret = self.keys
        return boto3.client(
            "iam",
            endpoint_url=self.url,
            region_name="us-east-1",
            aws_access_key_id=key,
            aws_secret_access_key=secret,
            config=PATIENT,
        )

    def stop(self):
        self.process.terminate()
        assert self.process.wait(30) == 0
