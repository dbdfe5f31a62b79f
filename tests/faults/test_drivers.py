"""Drivers that are killed at any time: the run always goes on from a whole checkpoint, to the same weights."""

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from pipeline.runs import checkpoint
from pipeline.runs.storage import Storage

SETTINGS = "--steps 5 --width 4 --batch 16 --bank 80 --restart .2 --lanes 4 --lag 1 --samples 0 --updates 60"
SETTINGS += " --checkpoint-every 1 --log-every 1"
RAY = "--cpus-per-learner .25 --cpus-per-actor .25"
ALONE = "--learners 0 --actors 0"
RUNS = {"alone": (16, ALONE, 9.0), "ray": (4, f"--learners 1 --actors 2 {RAY}", 45.0)}
"""By name: how many runs, on what, and within how many seconds from the start of a command it is killed."""
KILLS = 2
"""Of a run, at most: one may come after its end."""


def command(line, log):
    return subprocess.Popen([sys.executable, "-m", *line.split()], stdout=log, stderr=log)


def finished(line, log):
    """Run a command to its end."""
    with Path(log).open("w") as f:
        assert command(line, f).wait(timeout=600) == 0, Path(log).read_text()


def begin(out, machines):
    return f"jobs.anatomy digits-nonconvergent {SETTINGS} {machines} --out {out}"


def next_line(out, machines):
    """The command that goes on with a run, or starts it where it was killed before there was one."""
    return f"jobs.resume {out}" if (out / "job.json").exists() else begin(out, machines)


def killed(line, log, seconds):
    """Run a command and kill it after so long; whether it was still at work."""
    with log.open("a") as f:
        process = command(line, f)
        try:
            return_code = process.wait(timeout=seconds)
        except subprocess.TimeoutExpired:
            process.kill()
            return process.wait() == -signal.SIGKILL
    assert return_code == 0, log.read_text()
    return False


def result(out):
    found = json.loads((out / "result.json").read_text())
    rows = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    assert [row["update"] for row in rows] == list(range(60))
    checkpoints = Storage.at(str(out / "checkpoints"))
    assert checkpoints.names() == checkpoint.whole_names(checkpoints) == ["update-00000059", "update-00000060"]
    losses = [row["loss/energy"] for row in rows]
    return found["weights_sha256"], found["gradient_evaluations"], losses


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """What the undisturbed run comes to."""
    out = tmp_path_factory.mktemp("whole") / "run"
    finished(begin(out, ALONE), out.parent / "log")
    return result(out)


@pytest.mark.parametrize(("name", "number"), [(name, i) for name, (runs, *_) in RUNS.items() for i in range(runs)])
def test_a_driver_that_is_killed_at_any_time_goes_on_to_the_same_weights(name, number, whole, tmp_path):
    _, machines, longest = RUNS[name]
    rng = np.random.default_rng([number, len(name)])
    out, log, hits = tmp_path / "run", tmp_path / "log", 0
    for seconds in rng.uniform(0.1, longest, KILLS):
        hits += killed(next_line(out, machines), log, seconds)
    finished(next_line(out, machines), log)
    assert result(out) == whole
    print(f"{name} {number}: {hits} kills")


def test_a_run_that_is_resumed_while_it_runs_ends_in_the_newer_process(whole, tmp_path):
    out, old, new = tmp_path / "run", tmp_path / "old", tmp_path / "new"
    with old.open("w") as f:
        process = command(begin(out, ALONE).replace("--steps 5", "--steps 5 --threads 1"), f)
        while not (out / "checkpoints" / "update-00000002" / "manifest.json").exists():
            assert process.poll() is None, old.read_text()
            time.sleep(0.01)
        process.send_signal(signal.SIGSTOP)  # as a machine that is cut off for a while
        finished(f"jobs.resume {out} --updates 30", new)
        process.send_signal(signal.SIGCONT)
        assert process.wait(timeout=60) == 1
    last = old.read_text().replace("\r", "\n").splitlines()[-1]
    assert "is worked on by process" in last
    assert "Traceback" not in old.read_text()
    finished(f"jobs.resume {out} --updates 60", new)
    assert result(out) == whole
