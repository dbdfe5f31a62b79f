"""A run in an object store whose driver is killed and a machine lost: it ends with the weights of one process."""

import subprocess
import sys
import time

import hosts
import numpy as np
import pytest
from store_servers import BUCKET, KEYS, SCHEMES, command

SETTINGS = "--steps 5 --width 4 --batch-size 16 --lanes 4 --eval-samples 0 --checkpoint-every 4 --updates 700"
RESOURCES = "--cpus-per-learner 1.2 --cpus-per-actor .4 --wait-for-resources 90"
PORT = 9000
MAKE_BUCKET = """
import sys, time, urllib.request
for attempt in range(100):
    try:
        urllib.request.urlopen(urllib.request.Request(sys.argv[1], method=sys.argv[2])).close()
        break
    except OSError:
        time.sleep(0.2)
else:
    raise SystemExit("the server never came")
"""


def train(out, resources):
    line = f"-m jobs.short_run digits {SETTINGS} {resources} --resume-if-exists --out {out}"
    return [sys.executable, *line.split()]


def start_store(store, host, folder):
    """Start a server of a store on a host; the URI of its bucket."""
    log = (folder / "server.log").open("w")
    host.popen(command(store, PORT, None, host.address), stdout=log, stderr=log)
    first = {"s3": (f"{BUCKET}", "PUT"), "gs": (f"storage/v1/b/{BUCKET}", "GET")}[store]
    done = host.run([sys.executable, "-c", MAKE_BUCKET, f"http://{host.address}:{PORT}/{first[0]}", first[1]])
    assert done.returncode == 0, done.stderr
    return f"{SCHEMES[store]}{BUCKET}/run?endpoint_override={host.address}:{PORT}&scheme=http"


def digest(out):
    """The digest that a command has printed."""
    (line,) = {line for line in out.splitlines() if line.startswith("weights")}
    return line


def kill_after(process, seconds):
    """Kill a command that is still at work after some seconds."""
    try:
        code = process.wait(timeout=seconds)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
        return True
    assert code == 0
    return False


@pytest.mark.parametrize("store", ["s3", "gs"])
def test_kills_and_a_lost_machine_change_nothing_in_a_store(machines, tmp_path, store):
    whole = subprocess.run(
        train(tmp_path / "whole", "--learners 0 --actors 0"), cwd=hosts.ROOT, check=True, capture_output=True, text=True
    )
    three = machines(3, **KEYS)
    uri = start_store(store, three[0], tmp_path)
    hosts.start_cluster(three, cpus=2)
    words = ["env", f"RAY_ADDRESS={three[0].address}:6379", *train(uri, f"--learners 1:2 --actors 2 {RESOURCES}")]
    log, rng, kills = tmp_path / "log", np.random.default_rng(0), 0
    with log.open("a") as f:
        for seconds in rng.uniform(12, 24, 3):
            kills += kill_after(three[0].popen(words, stdout=f, stderr=f), seconds)
        process = three[0].popen(words, stdout=f, stderr=f)
        time.sleep(15)
        assert process.poll() is None, "the run has ended before the machine is lost"
        three[2].power_off()
        assert process.wait(timeout=500) == 0, log.read_text()[-3000:]
    assert kills
    assert digest(log.read_text()) == digest(whole.stdout)
    print(f"{store}: {kills} kills of the driver, and one machine lost")
