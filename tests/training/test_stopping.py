"""A run that is asked to stop, and goes on: the numbers, and the checkpoints, of one that was not."""

import io
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
from running import CPU, local_pool, run
from small_recipes import SYMBOL
from tqdm import tqdm

from pipeline.chains.local_pool import LocalPool
from pipeline.errors import Stopped
from pipeline.run import run as run_whole
from pipeline.runs import checkpoint
from pipeline.runs.job import override
from pipeline.runs.job_json import to_json
from pipeline.runs.storage import Storage
from pipeline.training import loop


def stop_after(job, updates):
    """Run a job that is asked to stop once it has made so many updates."""
    Storage.at(job.out).write_json("job.json", to_json(job))
    asked = iter(range(1, updates))
    requested = lambda: "SIGTERM" if next(asked, None) is None else ""  # noqa: E731
    with pytest.raises(Stopped, match="SIGTERM"):
        run_whole(job, CPU, local_pool(job), partial(tqdm, file=io.StringIO()), requested=requested)


def names(job):
    return checkpoint.whole_names(Storage.at(job.out) / "checkpoints")


@pytest.mark.parametrize(("updates", "lag"), [(1, 0), (5, 1)])
def test_a_run_that_stopped_and_went_on_is_the_whole_run(small, tmp_path, updates, lag):
    job = override(small, updates=9, checkpoint_every=4, lag=lag)
    whole = run(job)
    other = replace(job, out=str(tmp_path / "other"))
    stop_after(other, updates)
    assert names(other)[-1] == f"update-{updates:08d}"
    assert not (Path(other.out) / "result.json").exists()
    resumed = run(other)
    assert resumed["weights_sha256"] == whole["weights_sha256"]
    assert resumed["gradient_evaluations"] == whole["gradient_evaluations"]
    assert names(other) == names(job)
    rows = [(Path(one.out) / "metrics.jsonl").read_text().count("\n") for one in (job, other)]
    assert rows == [9, 9]


def test_a_checkpoint_of_a_stop_takes_no_place_of_one_that_a_rollback_may_need(small):
    job = override(small, updates=30, checkpoint_every=4, keep_checkpoints=2)
    stop_after(job, 10)
    assert names(job) == ["update-00000004", "update-00000008", "update-00000010"]
    stop_after(job, 5)  # so many further updates
    assert names(job) == ["update-00000008", "update-00000012", "update-00000015"]


class Interrupted(LocalPool):
    """A pool whose chains of one update are interrupted by a signal."""

    def submit(self, update, tasks, flat, frozen=None):
        if update == self.at:
            raise Stopped("SIGINT")
        super().submit(update, tasks, flat, frozen)


@pytest.mark.parametrize("lag", [0, 1])
def test_an_update_that_was_interrupted_while_its_chains_moved_has_not_begun(small, tmp_path, lag):
    job = override(small, checkpoint_every=100, lag=lag)
    whole = run(job)
    other, pool = replace(job, out=str(tmp_path / "other")), local_pool(job)
    pool.__class__, pool.at = Interrupted, 3 + lag
    with pytest.raises(Stopped):
        run(other, pool)
    assert names(other) == ["update-00000003"]
    assert run(other)["weights_sha256"] == whole["weights_sha256"]


def test_after_the_last_update_there_is_nothing_to_stop(small):
    job = override(small, updates=3)
    Storage.at(job.out).write_json("job.json", to_json(job))
    requested = lambda: "SIGTERM" if names(job)[-1:] == ["update-00000003"] else ""  # noqa: E731
    progress = partial(tqdm, file=io.StringIO())
    assert run_whole(job, CPU, local_pool(job), progress, requested=requested)["updates"] == 3


def test_a_stop_in_the_final_evaluation_leaves_the_last_checkpoint_and_no_result(small):
    job = override(small, updates=3, eval_samples=300)
    Storage.at(job.out).write_json("job.json", to_json(job))
    requested = lambda: "SIGTERM" if names(job)[-1:] == ["update-00000003"] else ""  # noqa: E731
    with pytest.raises(Stopped):
        run_whole(job, CPU, local_pool(job), partial(tqdm, file=io.StringIO()), requested=requested)
    assert names(job)[-1] == "update-00000003"
    assert not (Path(job.out) / "result.json").exists()


def test_metrics_of_held_out_items_change_no_weight(small, monkeypatch):
    job = override(replace(small, recipe=SYMBOL), test_share=0.2, labels_per_class=5, lanes=1, updates=4)
    measured = run(job)
    events = next(Path(job.out).glob("events*")).read_bytes()
    assert b"held_out/accuracy" in events
    monkeypatch.setattr(loop, "HELD_OUT_ITEMS", 0)
    assert run(override(job, out=job.out + "-without"))["weights_sha256"] == measured["weights_sha256"]
