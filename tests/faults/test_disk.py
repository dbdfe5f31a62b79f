"""A disk that is full: a small one in memory, which only root can mount."""

import os
import subprocess
import sys

import pytest

from pipeline.runs import checkpoint
from pipeline.runs.storage import Storage

SETTINGS = (
    "--steps 3 --width 16 --batch-size 8 --eval-samples 0 --lanes 2 --updates 40 --checkpoint-every 5 --log-every 1"
)


def command(line):
    return subprocess.run([sys.executable, "-m", *line.split()], capture_output=True, text=True)


@pytest.fixture
def disk(tmp_path):
    """A disk of 300 kB; the run needs about 450."""
    place = tmp_path / "disk"
    place.mkdir()
    if os.geteuid() or subprocess.run(["mount", "-t", "tmpfs", "-o", "size=300k", "tmpfs", place]).returncode:
        pytest.skip("this user cannot mount a disk")
    yield place
    subprocess.run(["umount", place], check=True)


@pytest.mark.parametrize("resources", ["--learners 0 --actors 0", "--learners 1 --actors 0 --cpus-per-learner .5"])
def test_a_full_disk_is_one_line_and_the_run_continues_once_there_is_space(disk, tmp_path, resources):
    line = f"jobs.short_run digits {SETTINGS} {resources}"
    whole = command(f"jobs.short_run digits {SETTINGS} --learners 0 --actors 0 --out {tmp_path}/whole")
    assert whole.returncode == 0, whole.stderr
    stopped = command(f"{line} --out {disk}/run")
    assert stopped.returncode == 1, stopped.stderr
    assert "cannot be written to" in stopped.stderr.replace("\r", "\n").splitlines()[-1]
    assert "\nTraceback" not in stopped.stderr  # of this process: Ray may print those of its own helpers
    checkpoints = Storage.at(f"{disk}/run/checkpoints")
    before = checkpoint.whole_names(checkpoints)
    assert before == checkpoints.names() != []
    subprocess.run(["mount", "-o", "remount,size=64m", disk], check=True)
    resumed = command(f"jobs.resume {disk}/run")
    assert resumed.returncode == 0, resumed.stderr
    sha = {line for done in (whole, resumed) for line in done.stdout.splitlines() if line.startswith("weights")}
    assert len(sha) == 1
    print(f"stopped after {before}")
