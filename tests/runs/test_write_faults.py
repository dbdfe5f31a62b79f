"""A run whose disk fills, or that somebody else goes on with: it stops in one line, and nothing is lost."""

import errno
import json
import resource
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from running import CPU, SMALL, local_pool, newest, run

from pipeline.errors import LeaseLost, RunWriteError
from pipeline.run import run as run_whole
from pipeline.runs import checkpoint, lease
from pipeline.runs.job import override
from pipeline.runs.job_json import to_json
from pipeline.runs.storage import Storage


@pytest.fixture
def tiny(small):
    recipe = replace(small.recipe, batch_size=8, bank=40, langevin=replace(small.recipe.langevin, steps=2))
    return override(small, recipe=recipe, lanes=2, updates=4, lag=1, keep_checkpoints=1)


class Disk:
    """Counts what is written by Storage, and has no room from the n-th file on: half of it is written."""

    def __init__(self, monkeypatch, room):
        self.room, self.written, whole = room, 0, Storage._stream

        def stream(storage, path, data):
            self.written += 1
            whole(storage, path, data if self.written <= self.room else data[: len(data) // 2])
            if self.written > self.room:
                raise OSError(errno.ENOSPC, "No space left on device")

        monkeypatch.setattr(Storage, "_stream", stream)


@pytest.mark.slow
def test_wherever_the_disk_fills_a_checkpoint_is_whole_and_the_run_goes_on_from_it(tiny, tmp_path, monkeypatch):
    with monkeypatch.context() as counting:
        disk = Disk(counting, 10**9)
        whole = run(tiny)
    assert disk.written > 12
    for room in range(1, disk.written):
        job = replace(tiny, out=str(tmp_path / f"room-{room}"))
        with monkeypatch.context() as full:
            committed = commits(full)
            Disk(full, room)
            with pytest.raises(RunWriteError, match=r"cannot be written to: .*No space left on device"):
                run(job)
        checkpoints = Storage.at(job.out) / "checkpoints"
        assert checkpoint.whole_names(checkpoints) == committed[-1:]
        assert checkpoints.names() == committed[-1:]  # what was half written gives its room back
        resumed = run(job)
        assert resumed["weights_sha256"] == whole["weights_sha256"]
        assert resumed["gradient_evaluations"] == whole["gradient_evaluations"]


def commits(patch):
    """The names of the checkpoints that were committed, as they come."""
    names, commit = [], checkpoint.commit

    def counted(place, *rest):
        commit(place, *rest)
        names.append(place.path.rpartition("/")[2])

    patch.setattr(checkpoint, "commit", counted)
    return names


@pytest.mark.slow
@pytest.mark.parametrize("room", [600, 40_000])
def test_a_file_that_cannot_grow_is_one_line_and_exit_code_1(tmp_path, room):
    def limit():
        resource.setrlimit(resource.RLIMIT_FSIZE, (room, room))

    (tmp_path / "run").mkdir()
    flags = f"{SMALL} --updates 200 --checkpoint-every 100 --log-every 1"
    command = [sys.executable, "-m", "jobs.short_run", "digits", *flags.split(), "--out", f"{tmp_path}/run/it"]
    done = subprocess.run(command, capture_output=True, text=True, preexec_fn=limit)
    assert done.returncode == (2 if room == 600 else 1), (
        done.stderr
    )  # that does not hold job.json; 40 kB hold a checkpoint, but not all curves
    assert "Traceback" not in done.stderr
    last = done.stderr.replace("\r", "\n").splitlines()[-1]
    assert last.startswith("error: ")
    assert "cannot be written to" in last
    assert "File too large" in last


class At:
    """A progress bar that does something once, after the third update."""

    def __init__(self, act):
        self.act, self.done = act, 0

    def update(self, n=1):
        self.done += n
        if self.done == 3:
            self.act()

    def set_description(self, desc, refresh=True):
        pass

    def close(self):
        pass


@pytest.fixture
def runner(small):
    Storage.at(small.out).write_json("job.json", to_json(small))
    return lambda act, command="": run_whole(small, CPU, local_pool(small), lambda **settings: At(act), command)


def test_the_older_of_two_that_work_on_a_run_stops_and_harms_nothing(small, runner, tmp_path):
    whole = run(replace(small, out=str(tmp_path / "whole")))
    with pytest.raises(LeaseLost, match=r"process \d+ on .* since .* works on the run, so this command stops"):
        runner(lambda: run(small))
    for job in (small, replace(small, out=str(tmp_path / "whole"))):
        rows = [json.loads(line) for line in (Path(job.out) / "metrics.jsonl").read_text().splitlines()]
        assert [row["update"] for row in rows] == list(range(6))
    assert Storage.at(small.out).read_json("result.json")["weights_sha256"] == whole["weights_sha256"]
    assert newest(small).path.endswith("update-00000006")


def test_a_run_that_is_taken_over_writes_no_checkpoint(small, runner, tmp_path):
    with pytest.raises(LeaseLost):
        runner(lambda: lease.acquire(Storage.at(small.out)))
    assert newest(small).path.endswith("update-00000002")
    assert run(small)["weights_sha256"] == run(replace(small, out=str(tmp_path / "whole")))["weights_sha256"]


def test_learners_of_a_command_that_was_taken_over_begin_nothing(small, runner):
    old = lease.acquire(Storage.at(small.out))
    lease.acquire(Storage.at(small.out))
    with pytest.raises(LeaseLost):
        runner(lambda: None, old)
    assert not Storage.at(small.out).exists("checkpoints")


def test_a_group_of_learners_makes_way_for_the_next_and_is_counted(tmp_path):
    out = Storage.at(str(tmp_path / "run"))
    first = lease.acquire(out)
    one = lease.join(out, first)
    one.check()
    two = lease.join(out, first)
    two.check()
    with pytest.raises(LeaseLost):
        one.check()
    assert (one.restarts, two.restarts) == (0, 1)
    after = lease.join(out, lease.acquire(out))
    assert after.restarts == 1  # a command's first group is no restart
    with pytest.raises(LeaseLost):
        lease.join(out, first)


def test_what_a_run_survives_adds_up_over_its_processes_and_is_no_part_of_it(small, tmp_path):
    whole = run(replace(small, out=str(tmp_path / "whole")))
    assert set(whole["faults"].values()) == {0}
    for updates in (3, 6):
        pool = local_pool(small)
        submit = pool.submit
        pool.submit = lambda *task, submit=submit, pool=pool: (submit(*task), pool.faults.update(count_up(pool)))
        Storage.at(small.out).write_json("job.json", to_json(small))
        job = replace(small, updates=updates)
        found = run_whole(job, CPU, pool, lambda **settings: At(lambda: None), restart_count=lambda: 5)
    assert found["faults"] == {"tasks_resent": 6, "results_lost": 12, "actor_restarts": 10, "learner_restarts": 0}
    assert found["weights_sha256"] == whole["weights_sha256"]
    assert found["gradient_evaluations"] == whole["gradient_evaluations"]
    last = json.loads((Path(small.out) / "metrics.jsonl").read_text().splitlines()[-1])
    assert last["faults/tasks_resent"] == 4 + 0  # as of the checkpoint before


def count_up(pool):
    return {"resent": pool.faults["resent"] + 1, "died": pool.faults["died"] + 2}
