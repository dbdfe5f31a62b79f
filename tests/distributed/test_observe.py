"""Observers watch a run from its checkpoints and change none of its numbers, even if they die."""

import io
import json
import os
import re
import signal
import time
from contextlib import suppress
from functools import partial
from pathlib import Path

import psutil
import pytest
from running import CPU, local_pool, run
from tqdm import tqdm

from pipeline.distributed.observe import observers
from pipeline.distributed.train import run_on_ray
from pipeline.run import run as run_whole
from pipeline.runs import lease
from pipeline.runs.job import load_dataset, override
from pipeline.runs.job_json import to_json
from pipeline.runs.storage import Storage

pytestmark = pytest.mark.xdist_group("ray")


@pytest.fixture
def plane(small):
    job = override(small, source="eight-gaussians", observers=1)
    Storage.at(job.out).write_json("job.json", to_json(job))
    return job


def rows(out, name):
    """The rows of a file of a run, without times."""
    lines = [json.loads(line) for line in (Path(out) / name).read_text().splitlines()]
    return [{k: v for k, v in row.items() if not k.startswith("time/")} for row in lines]


def check_unchanged(job, result):
    """A run has the numbers of the same run without observers."""
    alone = run(override(job, observers=0, out=job.out + "-plain"))
    assert result["weights_sha256"] == alone["weights_sha256"]
    assert rows(job.out, "metrics.jsonl") == rows(job.out + "-plain", "metrics.jsonl")


@pytest.mark.slow
def test_an_observed_run_is_the_same_run_bit_for_bit(ray_session, plane, capsys):
    result = run_on_ray(plane, load_dataset(plane).spec, CPU)
    check_unchanged(plane, result)
    last = rows(plane.out, "observe.jsonl")[-1]
    assert last["update"] == plane.updates
    assert last["reach"] == 100
    assert {"noise", "data", "bank"} == set(last["trajectories"])
    assert list((Path(plane.out) / "observe").glob("events.out.tfevents.*"))
    assert "failed" not in capsys.readouterr().err


def process_of(actor_class):
    """The process id of an actor of that class; Ray, and so its actors, are children of this process."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        for process in psutil.Process().children(recursive=True):
            with suppress(psutil.Error):  # it has ended
                if re.match(rf"ray::{actor_class}\b(?!\.__init__)", " ".join(process.cmdline())):
                    return process.pid
        time.sleep(0.1)
    raise TimeoutError(actor_class)


@pytest.mark.slow
def test_observers_that_are_killed_come_back_and_change_nothing(ray_session, plane):
    command = lease.acquire(Storage.at(plane.out))
    with observers(plane, load_dataset(plane).spec, command):
        for actor_class in ("ObserverChainActor", "ObserverActor"):
            os.kill(process_of(actor_class), signal.SIGKILL)
        result = run_whole(plane, CPU, local_pool(plane), partial(tqdm, file=io.StringIO()), command)
    check_unchanged(plane, result)
    assert rows(plane.out, "observe.jsonl")[-1]["update"] == plane.updates


@pytest.mark.slow
def test_an_observer_that_cannot_write_is_reported_in_one_line(ray_session, plane, capsys):
    (Path(plane.out) / "observe.jsonl").mkdir()
    check_unchanged(plane, run_on_ray(plane, load_dataset(plane).spec, CPU))
    err = capsys.readouterr().err
    assert "the observer failed 1 times" in err
    assert "the run is intact" in err
