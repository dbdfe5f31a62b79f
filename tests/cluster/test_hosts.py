"""A run over several hosts: it ends with the weights of one process, whatever is lost on the way."""

import json
import subprocess
import sys
import time
from pathlib import Path

import hosts
import pytest

SETTINGS = (
    "--steps 5 --width 4 --batch-size 16 --lanes 4 --eval-samples 0 --checkpoint-every 20 --log-every 1 --updates 120"
)
RESOURCES = "--cpus-per-learner 1.2 --cpus-per-actor .4 --wait-for-resources 60"
"""On hosts of two CPUs, with at most four actors: one learner a host, wherever the actors are."""


def train(out, learners, actors, more=""):
    """The words of a command that trains."""
    flags = f"{SETTINGS} {RESOURCES} --learners {learners} --actors {actors} {more}"
    return [sys.executable, "-m", "jobs.short_run", "digits", *flags.split(), "--out", str(out)]


@pytest.fixture(scope="session")
def sha(tmp_path_factory):
    """The digest of the weights that one process ends with."""
    out = tmp_path_factory.mktemp("whole") / "run"
    subprocess.run(train(out, 0, 0), cwd=hosts.ROOT, check=True, capture_output=True)
    return sha_of(out)


def sha_of(out):
    return json.loads((Path(out) / "result.json").read_text())["weights_sha256"]


def start(host, words, log):
    """Start a command on a host that joins the cluster of the first one."""
    return host.popen(["env", "RAY_ADDRESS=10.77.0.1:6379", *words], stdout=log.open("a"), stderr=subprocess.STDOUT)


def newest_update(out):
    """The newest update of a run that is in its log; -1 before the first."""
    path = Path(out) / "metrics.jsonl"
    lines = path.read_text().splitlines() if path.exists() else []
    whole = [line for line in lines if line.endswith("}")]
    return json.loads(whole[-1])["update"] if whole else -1


def wait_for(condition, process, seconds=300):
    """Wait until a condition holds, as long as a command is at work; the seconds that it took."""
    began = time.monotonic()
    while not condition():
        assert process.poll() is None, f"the command ended with {process.returncode}"
        assert time.monotonic() - began < seconds
        time.sleep(0.1)
    return time.monotonic() - began


def finish(process, log, seconds=500):
    code = process.wait(timeout=seconds)
    assert code == 0, log.read_text()[-3000:]
    return log.read_text()


ACTORS = """
import json, ray
from ray._private.state import actors
ray.init(address="10.77.0.1:6379", logging_level="error")
print(json.dumps([[one["ActorClassName"], one["Address"]["IPAddress"]] for one in actors().values()]))
"""


def places(head):
    """The addresses of the hosts where actors of each class are or were."""
    done = head.run([sys.executable, "-c", ACTORS])
    assert done.returncode == 0, done.stderr
    found = {}
    for name, address in json.loads(done.stdout.splitlines()[-1]):
        found.setdefault(name, set()).add(address)
    return found


def test_two_learners_and_four_actors_over_three_hosts_equal_one_process(machines, tmp_path, sha):
    three = machines(3)
    hosts.start_cluster(three, cpus=2, head_cpus=2)
    log = tmp_path / "log"
    finish(start(three[0], train(tmp_path / "run", 2, 4), log), log)
    assert sha_of(tmp_path / "run") == sha
    where = places(three[0])
    carried = where["ChainActor"] | where["RayTrainWorker"]
    assert len(where["RayTrainWorker"]) == 2
    print(f"learners on {where['RayTrainWorker']}, actors on {where['ChainActor']}: {len(carried)} hosts")


def seconds_to_the_next_update(out, process):
    """How long the run stands still: from now until it logs an update that was not under way."""
    before = newest_update(out)
    began = time.monotonic()
    while time.monotonic() - began < 2:  # an update that was under way may still end
        before = max(before, newest_update(out))
        time.sleep(0.1)
    return 2 + wait_for(lambda: newest_update(out) > before or finished(out), process)


def finished(out):
    return (Path(out) / "result.json").exists()


@pytest.mark.parametrize("loss", ["cut", "power_off"])
def test_a_run_goes_on_with_the_learners_that_are_left(machines, tmp_path, sha, loss):
    three, out, log = machines(3), tmp_path / "run", tmp_path / "log"
    hosts.start_cluster(three, cpus=2)
    process = start(three[0], train(out, "1:2", 2), log)
    wait_for(lambda: newest_update(out) >= 40, process)
    getattr(three[2], loss)()
    seconds = seconds_to_the_next_update(out, process)
    finish(process, log)
    assert sha_of(out) == sha
    assert places(three[0])["StatusActor"] == {three[0].address}  # where the driver is, though it has no CPUs
    print(f"{seconds:.0f} s from the loss ({loss}) to the next update")


def test_when_the_head_is_lost_the_same_command_goes_on_under_a_new_one(machines, tmp_path, sha):
    three, out, log = machines(3), tmp_path / "run", tmp_path / "log"
    head, words = three[0], train(out, "1:2", 2, "--resume-if-exists --wait-for-resources 300")
    hosts.start_head(head)
    for host in three[1:]:
        hosts.keep_joined(host, head, cpus=2)
    process = start(head, words, log)
    wait_for(lambda: newest_update(out) >= 40, process)
    head.power_off()
    process.wait(timeout=60)
    head.boot()
    hosts.start_head(head)
    began, before = time.monotonic(), newest_update(out)
    process = start(head, words, log)
    wait_for(lambda: newest_update(out) > before or finished(out), process, 600)
    print(f"{time.monotonic() - began:.0f} s from the new head to the next update: the workers come back by themselves")
    finish(process, log)
    assert sha_of(out) == sha


def test_a_command_whose_own_host_is_cut_off_ends_in_one_line_and_goes_on_elsewhere(machines, tmp_path, sha):
    """Ray Train's controller is on the host of the driver."""
    three, out, log = machines(3), tmp_path / "run", tmp_path / "log"
    hosts.start_cluster(three, cpus=2)
    words = train(out, "1:2", 2, "--resume-if-exists")
    process = start(three[2], words, log)
    wait_for(lambda: newest_update(out) >= 40, process)
    assert places(three[0])["TrainController"] == {three[2].address}
    three[2].cut()
    began = time.monotonic()
    assert process.wait(timeout=120) == 1
    assert log.read_text().strip().splitlines()[-1].startswith("error: Ray has gone away")
    print(f"{time.monotonic() - began:.0f} s from the cut to the end of the command")
    finish(start(three[0], words, log), log)
    assert sha_of(out) == sha


def test_a_job_is_submitted_from_a_host_outside_the_cluster(machines, tmp_path, sha):
    *three, fourth = machines(4)
    hosts.start_cluster(three, cpus=2, dashboard=True)
    out = tmp_path / "run"
    submit = [hosts.RAY, "job", "submit", f"--address=http://{three[0].address}:8265", f"--working-dir={hosts.ROOT}"]
    done = fourth.run([*submit, "--", *train(out, 2, 4)], timeout=550)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    assert sha_of(out) == sha


def seconds_to_connect(host, other):
    """How long a host takes to learn that nobody listens at a port of another one."""
    attempt = f"import socket; socket.create_connection(('{other.address}', 9), timeout=5)"
    began = time.monotonic()
    assert "Connection refused" in host.run([sys.executable, "-c", attempt]).stderr
    return time.monotonic() - began


def test_a_slow_link_that_loses_packets_changes_nothing(machines, tmp_path, sha):
    three, out, log = machines(3), tmp_path / "run", tmp_path / "log"
    three[2].slow_down(50, 0.01)
    assert seconds_to_connect(three[0], three[2]) >= 0.1  # there and back
    hosts.start_cluster(three, cpus=2)
    finish(start(three[0], train(out, 2, 4), log), log)
    assert sha_of(out) == sha


def test_a_full_disk_on_a_worker_changes_nothing(machines, tmp_path, sha):
    three, out, log = machines(3), tmp_path / "run", tmp_path / "log"
    hosts.start_cluster(three, cpus=2)
    process = start(three[0], train(out, "1:2", 2), log)
    wait_for(lambda: newest_update(out) >= 40, process)
    full = three[2].run(["dd", "if=/dev/zero", "of=/tmp/ray/full", "bs=1M"])
    assert "No space left on device" in full.stderr
    finish(process, log)
    assert sha_of(out) == sha
