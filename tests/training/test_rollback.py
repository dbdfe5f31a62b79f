"""A diverged run goes back to its last healthy checkpoint, and is a function of its seed all the same."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from running import CPU, Exploding, Fragile, RunningAway, local_pool, newest, run

from pipeline.data.dataset import load_data
from pipeline.errors import Diverged
from pipeline.runs.job import override
from pipeline.runs.job_json import has_finished
from pipeline.runs.storage import Storage
from pipeline.training.rollback import roll_back
from pipeline.training.worker import Worker


@pytest.fixture
def fragile(small):
    """A job whose attempt 0 diverges at update 3, one after a checkpoint."""
    return override(small, recipe=Fragile.like(small.recipe, at=3, attempts=1), on_divergence="rollback")


def test_it_stops_unless_told_otherwise(fragile):
    with pytest.raises(Diverged, match="loss not finite at update 3"):
        run(override(fragile, on_divergence="stop"))
    assert newest(fragile).path.endswith("update-00000002")


def test_it_goes_back_counts_it_and_is_the_same_each_time(fragile, small, tmp_path):
    first = run(fragile)
    assert len(first["rollbacks"]) == 1
    assert "loss not finite at update 3" in first["rollbacks"][0]["reason"]
    assert first["gradient_evaluations"] == (4 + 4) * 16 * 5  # updates 0-3, of which 3 failed, and 2-5 again
    rows = [json.loads(line) for line in (Path(fragile.out) / "metrics.jsonl").read_text().splitlines()]
    assert [(row["update"], row["attempt"]) for row in rows] == [(0, 0), (1, 0), (2, 1), (3, 1), (4, 1), (5, 1)]
    kept = (Path(fragile.out) / "metrics-attempt-0.jsonl").read_text().splitlines()
    assert [json.loads(line)["update"] for line in kept] == [0, 1, 2]
    again = run(replace(fragile, out=str(tmp_path / "again")))
    healthy = run(replace(small, out=str(tmp_path / "healthy")))
    assert first["weights_sha256"] == again["weights_sha256"] != healthy["weights_sha256"]


@pytest.mark.parametrize("lag", [0, 1])
def test_a_resumed_run_goes_back_as_the_whole_run_does(fragile, tmp_path, lag):
    whole = run(replace(fragile, lag=lag))
    for updates in (2, 3, 4):  # stopped before it diverges, at a checkpoint of its own, and after it has gone back
        part = replace(fragile, lag=lag, out=str(tmp_path / f"part-{updates}"))
        run(replace(part, updates=updates))
        resumed = run(part)
        assert resumed["weights_sha256"] == whole["weights_sha256"]
        assert len(resumed["rollbacks"]) == 1


def test_it_goes_further_back_each_time_and_gives_up_at_last(fragile):
    hopeless = override(fragile, recipe=Fragile.like(fragile.recipe, at=5, attempts=9), rollbacks=3)
    with pytest.raises(Diverged):
        run(hopeless)
    folder = Path(hopeless.out)
    starts = []
    for attempt in range(3):
        rows = [json.loads(line) for line in (folder / f"metrics-attempt-{attempt}.jsonl").read_text().splitlines()]
        starts.append(min(row["update"] for row in rows if row["attempt"] == attempt))
    assert starts == [0, 4, 2]


def test_banks_go_back_too_and_rates_fall(fragile):
    job = override(fragile, rollback_lr_factor=0.5)
    rank = Worker(job, load_data(job.data.source), CPU, local_pool(job))
    for update in range(2):
        rank.step(update)
    rank.save(2)
    before = {p: states.copy() for p, states in rank.banks["model"].states.items()}
    rank.step(2)
    assert any(not np.array_equal(states, before[p]) for p, states in rank.banks["model"].states.items())
    back, update = roll_back(rank, Diverged("loss", 3, 3, 0, 0))
    assert update == 2
    assert all(np.array_equal(states, before[p]) for p, states in back.banks["model"].states.items())
    back.step(2)
    assert [group["lr"] for group in back.learner.optimizers["energy"].param_groups] == [0.5 * job.recipe.lr]


def test_it_does_not_give_up_its_last_healthy_checkpoint(fragile):
    recipe = Fragile.like(fragile.recipe, at=3, attempts=3)
    found = run(override(fragile, recipe=recipe, rollbacks=3, patience=0))  # so no history is needed to judge it
    assert len(found["rollbacks"]) == 3
    for attempt in (1, 2):
        text = (Path(fragile.out) / f"metrics-attempt-{attempt}.jsonl").read_text()
        rows = [json.loads(line) for line in text.splitlines()]
        assert min(row["update"] for row in rows if row["attempt"] == attempt) == 2


def test_it_begins_again_where_its_only_checkpoint_was_never_judged_and_fails_twice(fragile):
    recipe = Fragile.like(fragile.recipe, at=3, attempts=2)
    found = run(replace(fragile, recipe=recipe))
    assert len(found["rollbacks"]) == 2
    rows = [json.loads(line) for line in (Path(fragile.out) / "metrics.jsonl").read_text().splitlines()]
    assert [(row["update"], row["attempt"]) for row in rows] == [(update, 2) for update in range(6)]


def test_chains_under_way_are_not_handed_to_the_next_attempt(fragile):
    rank = Worker(replace(fragile, lag=1), load_data(fragile.data.source), CPU, local_pool(fragile))
    for update in range(2):
        rank.step(update)
    rank.save(2)
    assert rank.pool.ready
    back, update = roll_back(rank, Diverged("loss", 3, 3, 0, 0))
    assert (back.pool.ready, back.pool.next, update) == ({}, 2, 2)
    back.step(2)


@pytest.mark.slow
def test_finite_numbers_that_run_away_are_divergence(small):
    recipe = Exploding.like(small.recipe, at=60, attempts=1)
    job = override(small, recipe=recipe, updates=80, lanes=2, patience=5, checkpoint_every=20, log_every=10)
    with pytest.raises(
        Diverged, match=r"(chains|energy)/.*, 5 updates far from all before \(median .*\) at update 6[4-8]"
    ):
        run(job)
    assert newest(job).path.endswith("update-00000060")
    found = run(override(job, on_divergence="rollback", out=job.out + "-back"))
    assert len(found["rollbacks"]) == 1


def test_no_checkpoint_is_written_while_a_metric_is_outside(small):
    recipe = Exploding.like(small.recipe, at=57, attempts=1)
    job = override(small, recipe=recipe, updates=80, lanes=2, patience=10, checkpoint_every=20, log_every=10)
    with pytest.raises(Diverged):
        run(job)
    assert newest(job).path.endswith("update-00000040")


@pytest.mark.slow
def test_it_goes_back_to_where_the_runaway_had_not_begun(small):
    recipe = RunningAway.like(small.recipe, at=90, attempts=1)
    settings = {
        "updates": 140,
        "lanes": 2,
        "patience": 5,
        "checkpoint_every": 10,
        "log_every": 10,
        "keep_checkpoints": 20,
    }
    found = run(override(small, recipe=recipe, on_divergence="rollback", **settings))
    (back,) = found["rollbacks"]
    assert back["resumed_at"] < 110 < back["update"] - 5  # that of 110 was healthy when it was written
    assert back["resumed_at"] >= 70


def test_no_run_ends_while_a_metric_is_outside(small):
    recipe = Exploding.like(small.recipe, at=77, attempts=1)
    job = override(small, recipe=recipe, updates=80, lanes=2, patience=10, checkpoint_every=20, log_every=10)
    with pytest.raises(Diverged, match=r"\d updates far from all before .* at update 79"):
        run(job)
    assert newest(job).path.endswith("update-00000060")
    result = json.loads((Path(job.out) / "result.json").read_text())
    assert result["diverged"]["update"] == 79
    assert "far from all before" in result["diverged"]["reason"]
    assert result["gradient_evaluations"] == 80 * 16 * 5
    assert "metrics" not in result
    assert not has_finished(Storage.at(job.out))
    again = run(override(job, on_divergence="rollback"))
    assert [one["resumed_at"] for one in again["rollbacks"]] == [60]
    assert "diverged" not in again
    assert has_finished(Storage.at(job.out))
