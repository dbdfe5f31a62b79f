"""`jobs.sample` into a folder, as a user types it."""

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from pipeline.sampling.draw import CHAINS_PER_TASK

ONE_LINE = 1


def hashes(folder):
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(Path(folder).iterdir())}


@pytest.fixture
def alone(command, a_run):
    code, out, err = command(f"sample {a_run} --n 90 --block 20 --out alone/")
    assert code == 0, err
    assert "90 in alone/, 90 of them new" in out
    return hashes("alone")


@pytest.mark.slow
def test_any_number_of_actors_writes_the_same_files(command, a_run, alone, ray_session):
    assert [name for name in alone if name.endswith(".parquet")] == [f"block-00000{i}.parquet" for i in range(5)]
    code, out, err = command(f"sample {a_run} --n 90 --block 20 --out both/ --actors 1:2 --cpus-per-actor .5")
    assert code == 0, err
    assert hashes("both") == alone
    Path("both/block-000003.parquet").unlink()
    written = Path("both/block-000002.parquet").stat().st_mtime_ns
    code, out, err = command(f"sample {a_run} --n 90 --block 20 --out both/ --actors 1 --cpus-per-actor .5")
    assert (code, "20 of them new" in out) == (0, True), err
    assert hashes("both") == alone
    assert Path("both/block-000002.parquet").stat().st_mtime_ns == written


def test_more_actors_than_there_is_room_for_are_refused(command, a_run, ray_session):
    code, _, err = command(f"sample {a_run} --n 90 --out many/ --actors 50")
    assert (code, err.count("\n")) == (2, ONE_LINE)
    assert "50 actors need 50 CPU (2 there)" in err
    assert not Path("many").exists()


@pytest.mark.parametrize(
    ("flags", "complaint"),
    [
        ("--out alone/ --seed 1 --block 20", "alone: has samples of another seed: 0, not 1"),
        ("--out alone/", "has samples of another block: 20, not 500"),
        ("--out run", "has other files: choose a new folder"),
        ("--out new/ --start bank", "--start bank: run has no bank"),
        ("--out new/ --label 3", "--label 3: ShortRun cannot sample a given class"),
        ("--out new/ --actors 3:2", "--actors 3:2: must be 1 <= least <= most"),
        ("--out new.npy --actors 2", "name a folder for actors"),
        ("--out new/ --steps -1", "--steps -1: must be greater than or equal to 0"),
    ],
)
def test_what_cannot_be_drawn_is_refused_and_nothing_written(command, a_run, alone, flags, complaint):
    before = hashes("alone")
    code, _, err = command(f"sample {a_run} --n 90 {flags}")
    assert (code, err.count("\n")) == (2, ONE_LINE), err
    assert complaint in err
    assert hashes("alone") == before
    assert not Path("new").exists()


@pytest.mark.slow
def test_a_killed_command_leaves_whole_files_and_can_be_continued(command, a_run, tmp_path):
    line = f"sample {a_run} --n 200 --block 20 --steps 200"
    assert command(f"{line} --out whole/")[0] == 0
    args = [sys.executable, "-m", "jobs.sample", *line.split()[1:], "--out", "killed/"]
    env = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    killed = subprocess.Popen(args, cwd=tmp_path, env=env, stderr=subprocess.DEVNULL)
    while not (tmp_path / "killed/block-000002.parquet").exists() and killed.poll() is None:
        time.sleep(0.005)
    killed.send_signal(signal.SIGKILL)
    killed.wait()
    there = [path for path in Path("killed").iterdir() if path.suffix == ".parquet"]
    assert 3 <= len(there) < 10
    assert all(pq.read_metadata(path).num_rows == 20 for path in there)
    assert command(f"{line} --out killed/")[0] == 0
    assert hashes("killed") == hashes("whole")
    assert json.loads(Path("killed/sampling.json").read_text())["steps"] == 200


def test_more_samples_begin_with_the_same_ones(command, a_run):
    piece = CHAINS_PER_TASK["image"]
    for n in (piece, 2 * piece):
        assert command(f"sample {a_run} --n {n} --out {n}.npy")[0] == 0
    few, many = np.load(f"{piece}.npy"), np.load(f"{2 * piece}.npy")
    assert np.array_equal(few, many[:piece])
