"""A network of its own in which the host names of AWS are this machine."""

import os
import shutil
import subprocess
import sys

UP = """
import fcntl, socket, struct, subprocess, sys
with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
    IFF_UP_AND_RUNNING, SIOCSIFFLAGS = 0x41, 0x8914
    fcntl.ioctl(control, SIOCSIFFLAGS, struct.pack("16sh14x", b"lo", IFF_UP_AND_RUNNING))
subprocess.run(["mount", "--bind", sys.argv[1], "/etc/hosts"], check=True)
print("ready", flush=True)
sys.stdin.read()
"""


class Hosts:
    """Mount and network namespaces with an `/etc/hosts` of their own, for as long as this exists."""

    def __init__(self, folder, *names):
        hosts = folder / "hosts"
        hosts.write_text(f"127.0.0.1 localhost {' '.join(names)}\n")
        root = [] if os.getuid() == 0 else ["--user", "--map-root-user"]
        command = ["unshare", *root, "--mount", "--net", "--propagation", "private", sys.executable, "-c", UP, str(hosts)]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        self.refusal = None
        if self.process.stdout.readline() != "ready\n":
            self.refusal = self.process.communicate()[1].strip()
        user = ["--user", "--preserve-credentials"] if root else []
        self.enter = ["nsenter", "--target", str(self.process.pid), "--mount", "--net", *user]

    def close(self):
        if self.process.poll() is None:
            self.process.stdin.close()
            self.process.wait(10)


def are_here():
    """Whether there are the programs for it."""
    return all(shutil.which(name) for name in ("unshare", "nsenter", "mount"))
