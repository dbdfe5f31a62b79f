"""Observers watch a run from its checkpoints, and change none of its numbers, whatever becomes of them."""

import io
import json
import os
import signal
import time
from functools import partial
from pathlib import Path

import pytest
from running import CPU, local_pool
from running import run as plain_run
from tqdm import tqdm

from pipeline.distributed.observe import observers
from pipeline.distributed.train import run
from pipeline.runs import lease
from pipeline.runs.job import load_dataset, override, to_json
from pipeline.runs.storage import Storage
from pipeline.training.loop import train


@pytest.fixture
def plane(small):
    job = override(small, source="eight-gaussians", observers=1)
    Storage.at(job.out).write_json("job.json", to_json(job))
    return job


def lines(out, name):
    rows = [json.loads(line) for line in (Path(out) / name).read_text().splitlines()]
    return [{k: v for k, v in row.items() if not k.startswith("time/")} for row in rows]


def same(job, found):
    """Whether a run gave the numbers of one that nobody watched."""
    alone = plain_run(override(job, observers=0, out=job.out + "-plain"))
    assert found["weights_sha256"] == alone["weights_sha256"]
    assert lines(job.out, "metrics.jsonl") == lines(job.out + "-plain", "metrics.jsonl")


def test_a_run_that_is_watched_is_the_run_bit_for_bit(ray_session, plane, capsys):
    found = run(plane, load_dataset(plane).spec, CPU)
    same(plane, found)
    seen = lines(plane.out, "observe.jsonl")
    assert seen[-1]["update"] == plane.updates
    assert seen[-1]["reach"] == 100
    assert {"noise", "data", "bank"} == set(seen[-1]["trails"])
    assert list((Path(plane.out) / "observe").glob("events.out.tfevents.*"))
    assert "failed" not in capsys.readouterr().err


def of_class(ray, name):
    """The process of a living actor of that class."""
    from ray._private.state import actors

    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        for actor in actors().values():
            if actor["ActorClassName"] == name and actor["State"] == "ALIVE":
                return actor["Pid"]
        time.sleep(0.1)
    raise TimeoutError(name)


def test_observers_that_are_killed_disturb_nothing_and_come_back(ray_session, plane):
    command = lease.acquire(Storage.at(plane.out))
    with observers(plane, load_dataset(plane).spec, command):
        for name in ("Mover", "Watcher"):
            os.kill(of_class(ray_session, name), signal.SIGKILL)
        found = train(plane, CPU, local_pool(plane), partial(tqdm, file=io.StringIO()), command)
    same(plane, found)
    assert lines(plane.out, "observe.jsonl")[-1]["update"] == plane.updates


def test_an_observer_that_cannot_write_is_told_of_in_one_line(ray_session, plane, capsys):
    (Path(plane.out) / "observe.jsonl").mkdir()
    same(plane, run(plane, load_dataset(plane).spec, CPU))
    err = capsys.readouterr().err
    assert "the observer failed 1 times" in err
    assert "the run is as it was" in err
