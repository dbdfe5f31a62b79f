"""Ctrl-C in a terminal and signals of a scheduler: a checkpoint, one line, an exit code, and no process left."""

import json
import os
import shlex
import signal
import subprocess
import sys
import time

import psutil
import pytest

from pipeline.runs import checkpoint
from pipeline.runs.storage import Storage

SMALL = "--steps 5 --width 4 --batch-size 16 --lanes 2 --eval-samples 0 --log-every 1"
RAY = "--cpus-per-learner .25 --cpus-per-actor .25"
UPDATES = 600
RESOURCES = {
    "alone": "--learners 0 --actors 0",
    "actors": f"--learners 0 --actors 2 {RAY}",
    "learners": f"--learners 2 --actors 2 {RAY}",
}
CRASH = ("Traceback", "Error:", "(raylet)", "resource_tracker", "WARNING", "died")
"""What looks like a crash on a terminal."""


class Terminal:
    """A command in a session of its own, as a terminal starts it."""

    def __init__(self, line, folder, number):
        self.log = folder / "log"
        with self.log.open("ab") as log:
            line = [sys.executable, "-m", *line.split()] if isinstance(line, str) else line
            self.process = subprocess.Popen(line, start_new_session=True, stdout=log, stderr=log)
        self.number = number

    def wait_for(self, path):
        while not path.exists():
            assert self.process.poll() is None, self.log.read_text()
            time.sleep(0.05)

    def signal(self, whole_group):
        """Send the signal, to the group as a terminal does or to the driver alone; the exit code, within 15 s."""
        self.children = psutil.Process(self.process.pid).children(recursive=True)
        (os.killpg if whole_group else os.kill)(self.process.pid, self.number)
        code = self.process.wait(timeout=15)
        _, alive = psutil.wait_procs(self.children, timeout=5)
        assert not [one for one in alive if one.status() != psutil.STATUS_ZOMBIE]
        return code

    def last_line(self):
        """The last line, where nothing before it looks like a crash."""
        text = self.log.read_text()
        assert not [word for word in CRASH if word in text], text
        return text.replace("\r", "\n").strip().splitlines()[-1]


def go_on(line, folder):
    command = shlex.split(line.partition("; to go on: ")[2])
    assert command, line
    done = subprocess.run(command, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr


def sha(out):
    return json.loads((out / "result.json").read_text())["weights_sha256"]


def start_line(out, resources):
    return f"jobs.short_run digits {SMALL} {resources} --updates {UPDATES} --checkpoint-every {UPDATES} --out {out}"


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The hash of the undisturbed run."""
    out = tmp_path_factory.mktemp("whole") / "run"
    subprocess.run([sys.executable, "-m", *start_line(out, RESOURCES["alone"]).split()], check=True)
    return sha(out)


@pytest.mark.parametrize("resources", RESOURCES)
@pytest.mark.parametrize(("name", "whole_group"), [("SIGINT", True), ("SIGINT", False), ("SIGTERM", False)])
def test_a_run_stops_at_its_last_whole_update_and_its_command_goes_on(tmp_path, whole, resources, name, whole_group):
    out = tmp_path / "a run"
    line = [sys.executable, "-m", *start_line("OUT", RESOURCES[resources]).split()]
    terminal = Terminal([str(out) if word == "OUT" else word for word in line], tmp_path, getattr(signal, name))
    terminal.wait_for(out / "metrics.jsonl")
    assert terminal.signal(whole_group) == 128 + terminal.number
    newest = checkpoint.newest_name(Storage.at(str(out)) / "checkpoints")
    rows = [json.loads(row) for row in (out / "metrics.jsonl").read_text().splitlines()]
    assert checkpoint.update_of(newest) == rows[-1]["update"] + 1
    last = terminal.last_line()
    assert last.startswith(f"stopped by {name}, at update {rows[-1]['update'] + 1} of {UPDATES}; to go on: ")
    assert not (out / "result.json").exists()
    assert not (out / "ray").exists()
    go_on(last, tmp_path)
    assert sha(out) == whole
    assert not (out / "ray").exists()


@pytest.mark.parametrize("seconds", [0.1, 0.5, 1.0, 2.0, 4.0, 6.0, 8.0, 12.0])
def test_ctrl_c_while_a_command_starts_is_one_line(tmp_path, seconds):
    terminal = Terminal(start_line(tmp_path / "run", RESOURCES["learners"]), tmp_path, signal.SIGINT)
    time.sleep(seconds)
    assert terminal.signal(whole_group=True) == 130
    assert terminal.last_line().startswith("stopped by SIGINT")


@pytest.mark.parametrize("resources", ["alone", "learners"])
def test_the_final_evaluation_stops_and_its_command_makes_it(tmp_path, resources):
    out = tmp_path / "run"
    line = f"{start_line(out, RESOURCES[resources])} --updates 5 --eval-samples 100000"
    terminal = Terminal(line, tmp_path, signal.SIGTERM)
    terminal.wait_for(out / "checkpoints" / "update-00000005" / "manifest.json")
    assert terminal.signal(whole_group=False) == 143
    last = terminal.last_line()
    assert last.startswith("stopped by SIGTERM, at update 5 of 5, in the final evaluation; to go on: ")
    go_on(f"{last} --eval-samples 100", tmp_path)
    assert (out / "result.json").exists()


@pytest.mark.parametrize(
    ("scheduler", "so_far"), [("none", "0 of 2 trials complete"), ("pbt", "0 of 2 trials in generation 1 of 2")]
)
def test_a_search_stops_with_a_checkpoint_of_its_trials_and_its_command_goes_on(tmp_path, scheduler, so_far):
    out = tmp_path / "search"
    line = "jobs.search short-run --preset digits --trials 2 --budget 40000 --reports 2 --samples 100 --confirm 0"
    terminal = Terminal(f"{line} --scheduler {scheduler} --out {out}", tmp_path, signal.SIGINT)
    while not list(out.glob("trials/*/metrics.jsonl")):
        terminal.wait_for(tmp_path)
        time.sleep(0.1)
    assert terminal.signal(whole_group=True) == 130
    assert list(out.glob("trials/*/checkpoints/*/manifest.json"))
    last = terminal.last_line()
    assert last.startswith(f"stopped by SIGINT, with {so_far}; to go on: ")
    go_on(last, tmp_path)
    assert json.loads((out / "result.json").read_text())["counts"]["complete"] == 2


@pytest.mark.parametrize("actors", [0, 2])
def test_bulk_sampling_stops_and_the_same_command_writes_what_is_missing(tmp_path, actors):
    run, out, other = tmp_path / "run", tmp_path / "samples", tmp_path / "other"
    subprocess.run([sys.executable, "-m", *f"jobs.short_run digits {SMALL} {RESOURCES['alone']}".split(),
                    "--updates", "3", "--out", run], check=True)  # fmt: skip
    line = f"jobs.sample {run} --n 4000 --block 20 --cpus-per-actor .25"
    terminal = Terminal(f"{line} --actors {actors} --out {out}", tmp_path, signal.SIGINT)
    terminal.wait_for(out / "block-000002.parquet")
    assert terminal.signal(whole_group=True) == 130
    before = {path.name: path.stat().st_mtime_ns for path in out.glob("*.parquet")}
    assert 2 <= len(before) < 200
    go_on(terminal.last_line(), tmp_path)
    assert before.items() <= {path.name: path.stat().st_mtime_ns for path in out.glob("*.parquet")}.items()
    subprocess.run([sys.executable, "-m", *line.split(), "--out", other], check=True)
    files = sorted(path.name for path in other.glob("*.parquet"))
    assert len(files) == 200
    assert all((out / name).read_bytes() == (other / name).read_bytes() for name in files)


@pytest.mark.parametrize("resources", ["alone", "learners"])
def test_a_second_signal_ends_at_once(tmp_path, resources):
    out = tmp_path / "run"
    terminal = Terminal(start_line(out, RESOURCES[resources]), tmp_path, signal.SIGINT)
    terminal.wait_for(out / "metrics.jsonl")
    os.killpg(terminal.process.pid, signal.SIGINT)
    time.sleep(0.02)
    assert terminal.signal(whole_group=True) == 130
    assert "Traceback" not in terminal.log.read_text()


@pytest.mark.parametrize("process", ["raylet", "gcs_server"])
@pytest.mark.parametrize("resources", ["actors", "learners"])
def test_a_ray_that_goes_away_is_one_line_and_its_command_goes_on(tmp_path, whole, process, resources):
    out = tmp_path / "run"
    terminal = Terminal(start_line(out, RESOURCES[resources]), tmp_path, signal.SIGKILL)
    terminal.wait_for(out / "metrics.jsonl")
    children = psutil.Process(terminal.process.pid).children(recursive=True)
    next(one for one in children if one.name() == process).kill()
    assert terminal.process.wait(timeout=15) == 1
    text = terminal.log.read_text()
    lines = [line for line in text.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1, text
    assert lines[0].startswith("error: Ray has gone away")
    assert "Traceback" not in text
    go_on(lines[0], tmp_path)
    assert sha(out) == whole
