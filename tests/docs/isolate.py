"""Runs a command with the loopback interface up and with empty folders under /var, in fresh namespaces."""

import ctypes
import fcntl
import os
import socket
import struct
import sys

with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
    # SIOCSIFFLAGS with IFF_UP, of netdevice(7).
    fcntl.ioctl(control, 0x8914, struct.pack("16sH14x", b"lo", 1))
libc = ctypes.CDLL(None, use_errno=True)
for folder in ("/var/lib", "/var/backups"):
    if os.path.isdir(folder) and libc.mount(b"tmpfs", folder.encode(), b"tmpfs", 0, b"mode=0755"):
        sys.exit(f"{folder}: {os.strerror(ctypes.get_errno())}")
os.execvp(sys.argv[1], sys.argv[1:])
