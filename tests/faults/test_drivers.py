"""Drivers that are killed at any time: the run continues from a whole checkpoint, to the same weights."""

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

SETTINGS = "--steps 5 --width 4 --batch-size 16 --bank 80 --restart-prob .2 --lanes 4 --lag 1 --updates 60"
SETTINGS += " --eval-samples 0 --checkpoint-every 1 --log-every 1"
RAY = "--cpus-per-learner .25 --cpus-per-actor .25"
ALONE = "--learners 0 --actors 0"
RUNS = {"alone": (16, ALONE, 9.0), "ray": (4, f"--learners 1 --actors 2 {RAY}", 45.0)}
"""By name: the number of runs, their resources, and the seconds within which a command is killed."""
KILLS = 2
"""Per run, at most: the run may end before one."""


def command(line, log):
    return subprocess.Popen([sys.executable, "-m", *line.split()], stdout=log, stderr=log)


def finish(line, log):
    """Run a command to its end."""
    with Path(log).open("w") as f:
        assert command(line, f).wait(timeout=600) == 0, Path(log).read_text()


def start_line(out, resources):
    return f"jobs.anatomy digits-nonconvergent {SETTINGS} {resources} --out {out}"


def next_line(out, resources):
    """The command that resumes a run, or starts it where it was killed before there was a run folder."""
    return f"jobs.resume {out}" if (out / "job.json").exists() else start_line(out, resources)


def kill_after(line, log, seconds):
    """Run a command and kill it after some seconds; whether it was still running."""
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
    content = json.loads((out / "result.json").read_text())
    rows = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    assert [row["update"] for row in rows] == list(range(60))
    checkpoints = Storage.at(str(out / "checkpoints"))
    assert checkpoints.names() == checkpoint.whole_names(checkpoints) == ["update-00000059", "update-00000060"]
    losses = [row["loss/energy"] for row in rows]
    return content["weights_sha256"], content["gradient_evaluations"], losses


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The result of the undisturbed run."""
    out = tmp_path_factory.mktemp("whole") / "run"
    finish(start_line(out, ALONE), out.parent / "log")
    return result(out)


@pytest.mark.parametrize(("name", "number"), [(name, i) for name, (runs, *_) in RUNS.items() for i in range(runs)])
def test_a_run_whose_driver_is_killed_at_any_time_ends_with_the_same_weights(name, number, whole, tmp_path):
    _, resources, longest = RUNS[name]
    rng = np.random.default_rng([number, len(name)])
    out, log, hits = tmp_path / "run", tmp_path / "log", 0
    for seconds in rng.uniform(0.1, longest, KILLS):
        hits += kill_after(next_line(out, resources), log, seconds)
    finish(next_line(out, resources), log)
    assert result(out) == whole
    print(f"{name} {number}: {hits} kills")


def test_of_two_processes_of_one_run_only_the_newer_continues(whole, tmp_path):
    out, old, new = tmp_path / "run", tmp_path / "old", tmp_path / "new"
    with old.open("w") as f:
        process = command(start_line(out, ALONE).replace("--steps 5", "--steps 5 --threads 1"), f)
        while not (out / "checkpoints" / "update-00000002" / "manifest.json").exists():
            assert process.poll() is None, old.read_text()
            time.sleep(0.01)
        process.send_signal(signal.SIGSTOP)  # like a machine that is cut off for a while
        finish(f"jobs.resume {out} --updates 30", new)
        process.send_signal(signal.SIGCONT)
        assert process.wait(timeout=60) == 1
    last = old.read_text().replace("\r", "\n").splitlines()[-1]
    assert "works on the run, so this command stops" in last
    assert "Traceback" not in old.read_text()
    finish(f"jobs.resume {out} --updates 60", new)
    assert result(out) == whole


POPULATION = "jobs.search anatomy --preset eight-gaussians-convergent --scheduler pbt --budget 200000 --reports 3"
POPULATION += " --trials 3 --max-items 500 --confirm 1 --seeds 1 --cpus-per-trial .5"


def trials_and_best(out):
    content = json.loads((out / "result.json").read_text())
    content["counts"].pop("cpu_seconds")
    hashes = {
        path.parent.name: json.loads(path.read_text())["weights_sha256"] for path in out.glob("trials/*/result.json")
    }
    return content, hashes


def test_a_population_whose_driver_is_killed_again_and_again_ends_alike(tmp_path):
    finish(f"{POPULATION} --out {tmp_path / 'whole'}", tmp_path / "whole.log")
    out, log, hits = tmp_path / "search", tmp_path / "log", 0
    rng = np.random.default_rng(0)
    for _ in range(6):
        begun = (out / "search.json").exists()
        if not kill_after(f"jobs.resume {out}" if begun else f"{POPULATION} --out {out}", log, rng.uniform(15, 60)):
            break
        hits += begun
    print(f"{hits} kills of a search that was under way")
    finish(f"{POPULATION} --resume-if-exists --out {out}", tmp_path / "last.log")
    assert trials_and_best(out) == trials_and_best(tmp_path / "whole")
