"""Object stores on loopback, each a process of its own, and an environment that leads to no other."""

import os
import random
import socket
import subprocess
import sys
import time
import urllib.request
from contextlib import contextmanager
from pathlib import Path

BUCKET = "runs"
KEYS = {"AWS_ACCESS_KEY_ID": "tests", "AWS_SECRET_ACCESS_KEY": "tests-secret", "AWS_REGION": "us-east-1"}
SCHEMES = {"s3": "s3://", "gs": "gs://anonymous@"}


def free_port():
    """A port outside of the ranges from which Ray and the kernel take theirs, as it is used later than it is chosen."""
    while True:
        with socket.socket() as s:
            try:
                s.bind(("127.0.0.1", port := random.randrange(20_000, 32_000)))
            except OSError:
                continue
            return port


PORTS = {name: free_port() for name in SCHEMES}
ADDRESSES = {
    "AWS_ENDPOINT_URL": f"http://127.0.0.1:{PORTS['s3']}",
    "STORAGE_EMULATOR_HOST": f"http://127.0.0.1:{PORTS['gs']}",
}
"""Where a URI without a query leads; set before Ray starts, so that its processes go there too."""


def command(store, port, folder, address="127.0.0.1"):
    if store == "s3":
        return [sys.executable, str(Path(__file__).with_name("s3_server.py")), address, str(port)]
    emulator = [sys.executable, "-c", "from gcp_storage_emulator.__main__ import main; import sys; main(sys.argv[1:])"]
    where = [] if folder else ["--in-memory"]
    return [*emulator, "start", *where, "--default-bucket", BUCKET, "--host", address, "--port", str(port)]


@contextmanager
def serve(store, port, folder=None):
    """A server with a bucket; its process. Google's store may be kept in a folder."""
    quiet, env = (
        {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL},
        {**os.environ, "STORAGE_BASE": str(folder)},
    )
    server = subprocess.Popen(command(store, port, folder), **quiet, env=env)
    try:
        while True:
            assert server.poll() is None, f"the {store} server ended"
            try:
                socket.create_connection(("127.0.0.1", port), timeout=1).close()
                break
            except OSError:
                time.sleep(0.05)
        if store == "s3":
            create = urllib.request.Request(f"http://127.0.0.1:{port}/{BUCKET}", method="PUT")
            urllib.request.urlopen(create).close()
        yield server
    finally:
        server.kill()
        server.wait()


def query(port):
    """What leads to a server where the environment does not."""
    return f"?endpoint_override=127.0.0.1:{port}&scheme=http"


os.environ.update(KEYS | ADDRESSES | {"AWS_EC2_METADATA_DISABLED": "true"})
