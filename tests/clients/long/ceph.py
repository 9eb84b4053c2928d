"""Ceph in memory: a monitor, an OSD and RGW, as Debian has them.

The programs are taken from CEPH_ROOT if that is set (a folder into which Debian's packages were unpacked).
"""

import json
import os
import subprocess
import time
import uuid
from pathlib import Path

from test_relying import answers, free_ports, started

ROOT = Path(os.environ.get("CEPH_ROOT", "/"))
LIB = ROOT / "usr/lib/x86_64-linux-gnu"

CONF = """[global]
fsid = {fsid}
mon host = [v2:127.0.0.1:{mon}/0]
ms bind msgr1 = false
auth cluster required = none
auth service required = none
auth client required = none
osd objectstore = memstore
memstore device bytes = 1073741824
osd pool default size = 1
osd pool default min size = 1
osd pool default pg num = 4
osd crush chooseleaf type = 0
mon allow pool size one = true
osd class dir = {lib}/rados-classes
erasure code dir = {lib}/ceph/erasure-code
plugin dir = {lib}/ceph
run dir = {dir}
admin socket = {dir}/$name.asok
log file = {dir}/$name.log
mon cluster log file = {dir}/cluster.log
pid file = {dir}/$name.pid
mon data = {dir}/mon
osd data = {dir}/osd
mon data avail crit = 1
mon data avail warn = 1
public addr = 127.0.0.1
cluster addr = 127.0.0.1
keyring = {dir}/keyring

{rgw}
rgw frontends = beast endpoint=127.0.0.1:{port}
rgw thread pool size = 16
"""


class Ceph:
    """Programs that run in a folder. `rgw` is the section `[client.rgw]` of the configuration."""

    def __init__(self, folder, rgw="[client.rgw]"):
        self.folder, self.processes = Path(folder), []
        self.environment = {"PATH": f"{ROOT}/usr/bin:{os.environ['PATH']}", "HOME": str(folder)}
        if str(ROOT) != "/":
            libraries = [LIB, ROOT / "lib/x86_64-linux-gnu", LIB / "ceph"]
            self.environment["LD_LIBRARY_PATH"] = ":".join(map(str, libraries))
            self.environment["PYTHONPATH"] = str(ROOT / "usr/lib/python3/dist-packages")
        mon, self.port = free_ports(2)
        self.address, self.conf = f"http://127.0.0.1:{self.port}", str(self.folder / "ceph.conf")
        for name in ("mon", "osd"):
            (self.folder / name).mkdir()
        fsid = str(uuid.uuid4())
        Path(self.conf).write_text(CONF.format(fsid=fsid, mon=mon, port=self.port, lib=LIB, dir=self.folder, rgw=rgw))
        try:
            monmap = str(self.folder / "monmap")
            self.run("monmaptool", "--create", "--fsid", fsid, "--addv", "a", f"[v2:127.0.0.1:{mon}]", monmap)
            self.run("ceph-mon", "--mkfs", "-i", "a", "--monmap", monmap, "-c", self.conf)
            self.serve("ceph-mon", "-i", "a")
            osd = str(uuid.uuid4())
            self.ceph("osd", "create", osd)
            self.run("ceph-osd", "--mkfs", "-i", "0", "--osd-uuid", osd, "-c", self.conf)
            self.serve("ceph-osd", "-i", "0")
            deadline = time.monotonic() + 120
            while json.loads(self.ceph("osd", "stat", "-f", "json"))["num_up_osds"] != 1:
                assert time.monotonic() < deadline
                time.sleep(1)
            # Its own defaults of these two come before the configuration.
            plain = ["--auth-client-required", "none", "--ms-mon-client-mode", "crc"]
            self.run("ceph-authtool", "--create-keyring", str(self.folder / "keyring"), "--gen-key", "-n", "client.rgw")
            command = ["radosgw", "-n", "client.rgw", "-c", self.conf, "-f", *plain]
            self.processes.append(started(command, self.folder, lambda: answers(self.address), seconds=240, env=self.environment))
        except BaseException:
            self.stop()
            raise

    def run(self, *command):
        ran = subprocess.run(command, env=self.environment, capture_output=True, text=True, timeout=120)
        assert ran.returncode == 0, (command, ran.stdout, ran.stderr)
        return ran.stdout

    def serve(self, *command):
        log = (self.folder / f"{command[0]}.out").open("wb")
        self.processes.append(subprocess.Popen([*command, "-c", self.conf, "-f"], env=self.environment, stdout=log, stderr=log))

    def ceph(self, *command):
        return self.run("/usr/bin/python3", f"{ROOT}/usr/bin/ceph", "-c", self.conf, "--connect-timeout", "60", *command)

    def admin(self, *command):
        plain = ["--auth-client-required", "none", "--ms-mon-client-mode", "crc"]
        return self.run("radosgw-admin", "-n", "client.rgw", "-c", self.conf, *plain, *command)

    def user(self, name, key, secret):
        """Makes a user of RGW itself."""
        self.admin("user", "create", f"--uid={name}", f"--display-name={name}", f"--access-key={key}", f"--secret={secret}")

    def stop(self):
        for process in reversed(self.processes):
            process.kill()
            process.wait(60)
