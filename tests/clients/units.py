"""Runs commands below a systemd of their own: a root folder, processes, cgroups, a network and mounts that end with it.

    unshare --mount --pid --net --ipc --uts --fork --kill-child python3 units.py FOLDER SCRIPT

FOLDER becomes the root folder, with this machine's programs, and without its units: systemd starts SCRIPT, which is below
FOLDER, and nothing else. What the script prints is in FOLDER/out, and what units print in FOLDER/log. systemd ends when
the script does. Then `units.py FOLDER clean`, in a mount namespace of its own, removes the cgroups that it had.
"""

import os
import subprocess
import sys
from pathlib import Path

PROGRAMS = ["usr", "bin", "sbin", "lib", "lib64"]
DEVICES = ["null", "zero", "full", "random", "urandom", "tty"]
# What units that are installed depend on. Other units of the machine would change it: they set clocks, limits and devices.
TARGETS = ["basic", "sysinit", "multi-user", "network-online", "network", "shutdown", "umount", "sockets", "paths", "timers", "slices"]
ACCOUNTS = ["pam.d", "login.defs", "security", "nsswitch.conf", "ld.so.cache", "ld.so.conf", "ld.so.conf.d", "alternatives"]


def sh(*arguments):
    subprocess.run([str(a) for a in arguments], check=True)


def cgroups(folder):
    """The cgroup that systemd gets as its root, where the kernel shows all of them."""
    sh("mount", "-t", "cgroup2", "none", "/mnt")
    return Path("/mnt") / folder.name


def root(folder):
    """The folders that systemd and the script see."""
    # systemd changes the root of what it starts, which is possible at a mount only.
    sh("mount", "--bind", folder, folder)
    os.chdir(folder)
    for name in ["dev", "proc", "sys", "tmp", "mnt", "etc/systemd/system", "etc/logrotate.d", "var/lib", "run", "root", "steps"]:
        (folder / name).mkdir(parents=True, exist_ok=True)
    for name in PROGRAMS:
        host = Path("/") / name
        if host.is_symlink():
            (folder / name).symlink_to(os.readlink(host))
        elif host.exists():
            (folder / name).mkdir()
            sh("mount", "--rbind", host, folder / name)
            sh("mount", "-o", "remount,bind,ro", folder / name)
    # What the script installs is its own. The machine's units and the machine's accounts stay out.
    units = [unit for name in TARGETS if (unit := Path(f"/usr/lib/systemd/system/{name}.target")).exists()]
    units = {unit.name: unit.read_text() for unit in units}
    for name in ["local", "lib/systemd/system", "lib/systemd/system-generators", "lib/sysusers.d", "lib/tmpfiles.d"]:
        if (folder / "usr" / name).is_dir():
            sh("mount", "-t", "tmpfs", "none", folder / "usr" / name)
    (folder / "usr/local/bin").mkdir()
    for name, text in units.items():
        (folder / "usr/lib/systemd/system" / name).write_text(text)
    for name in ACCOUNTS:
        host = Path("/etc") / name
        if host.exists():
            sh("cp", "--archive", host, folder / "etc")
    (folder / "etc/passwd").write_text("root:x:0:0::/root:/bin/sh\nnobody:x:65534:65534::/:/usr/sbin/nologin\n")
    (folder / "etc/group").write_text("root:x:0:\nnogroup:x:65534:\n")
    (folder / "etc/hosts").write_text("127.0.0.1 localhost\n")
    (folder / "etc/machine-id").write_text("")
    sh("mount", "-t", "proc", "proc", folder / "proc")
    sh("mount", "--bind", folder / "proc/sys", folder / "proc/sys")
    sh("mount", "-o", "remount,bind,ro", folder / "proc/sys")
    sh("mount", "-t", "sysfs", "-o", "ro", "none", folder / "sys")
    sh("mount", "-t", "cgroup2", "none", folder / "sys/fs/cgroup")
    sh("mount", "-t", "tmpfs", "-o", "mode=0755", "none", folder / "run")
    sh("mount", "-t", "tmpfs", "-o", "mode=0755", "none", folder / "dev")
    for name in DEVICES:
        (folder / "dev" / name).touch()
        sh("mount", "--bind", f"/dev/{name}", folder / "dev" / name)
    (folder / "dev/ptmx").symlink_to("pts/ptmx")
    for name, kind in (("pts", "devpts"), ("shm", "tmpfs"), ("mqueue", "mqueue")):
        (folder / "dev" / name).mkdir()
        sh("mount", "-t", kind, "none", folder / "dev" / name)


def main():
    folder, script = Path(sys.argv[1]), sys.argv[2]
    if script == "clean":
        for path, _, _ in os.walk(cgroups(folder), topdown=False):
            os.rmdir(path)
        return
    if len(sys.argv) == 3:
        sh("ip", "link", "set", "lo", "up")
        own = cgroups(folder)
        own.mkdir()
        (own / "cgroup.procs").write_text(str(os.getpid()))
        sh("umount", "/mnt")
        # Again, in a namespace in which that cgroup is the root.
        os.execvp("unshare", ["unshare", "--cgroup", sys.executable, __file__, *sys.argv[1:], "inside"])
    root(folder)
    units = folder / "etc/systemd/system"
    # A journal would be a unit of the machine.
    for kind in ("service.d", "script.service.d"):
        (units / kind).mkdir()
    (units / "service.d/output.conf").write_text("[Service]\nStandardOutput=append:/log\nStandardError=append:/log\n")
    (units / "script.service.d/output.conf").write_text("[Service]\nStandardOutput=append:/out\nStandardError=append:/out\n")
    (units / "script.service").write_text(
        "[Unit]\nDefaultDependencies=no\n[Service]\nType=oneshot\nWorkingDirectory=/steps\nEnvironment=HOME=/root\n"
        f"ExecStart=/bin/bash {script}\nExecStopPost=+/bin/systemctl --force --force poweroff\n"
    )
    # A root folder by chroot could have no namespaces for users.
    sh("pivot_root", folder, folder / "mnt")
    os.chdir("/")
    sh("umount", "--lazy", "/mnt")
    command = ["/lib/systemd/systemd", "--system", "--unit=script.service", "--log-target=console", "--show-status=no"]
    os.execve(command[0], command, {"container": "brevet", "PATH": "/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"})


main()
