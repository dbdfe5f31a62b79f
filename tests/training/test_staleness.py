"""Staleness that is bounded by the measured drift: which updates wait, for what, and that none need know who works."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from running import CPU, local_pool, run

from pipeline.chains.local_pool import LocalPool
from pipeline.distributed.actor_pool import ActorPool
from pipeline.distributed.train import chain_actors
from pipeline.errors import Diverged, InputError
from pipeline.nets.weights import flatten
from pipeline.recipe import init_networks
from pipeline.runs.job import check_job, load_dataset, override
from pipeline.training.learner import Learner
from pipeline.training.worker import Worker

BOUND = 0.01
"""Which the small job crosses at some of its updates."""


@pytest.fixture
def bounded(small):
    return replace(small, lag=2, max_staleness=BOUND, updates=8)


def logged(job):
    return [json.loads(line) for line in (Path(job.out) / "metrics.jsonl").read_text().splitlines()]


def test_an_update_waits_where_its_chains_have_drifted_beyond_the_bound_and_nowhere_else(bounded):
    found, rows = run(bounded), logged(bounded)
    fresh = [row["chains/discarded_staleness"] > BOUND for row in rows]
    assert 0 < sum(fresh) < len(rows) - 1
    assert [row["chains/fresh"] for row in rows] == fresh
    assert [row["chains/lag"] for row in rows] == [0 if waited else min(u, 2) for u, waited in enumerate(fresh)]
    assert [row["chains/staleness"] for row in rows] == pytest.approx(
        [0 if waited else row["chains/discarded_staleness"] for row, waited in zip(rows, fresh, strict=True)], rel=1e-5
    )
    assert found["staleness_waits"] == sum(fresh)
    assert found["gradient_evaluations"] == (8 + sum(fresh)) * 16 * 5


def test_a_bound_that_is_never_crossed_changes_nothing(small):
    free = run(replace(small, lag=2))
    bound = run(replace(small, lag=2, max_staleness=1e9, out=f"{small.out}-bound"))
    assert bound["weights_sha256"] == free["weights_sha256"]
    assert bound["staleness_waits"] == free["staleness_waits"] == 0


@pytest.mark.parametrize("bank", [80, 0])
def test_half_a_run_and_its_resumption_are_the_whole_run(bounded, bank):
    bounded = replace(bounded, recipe=replace(bounded.recipe, bank=bank, restart_prob=0.2 if bank else 0.0))
    half = replace(bounded, out=f"{bounded.out}-half")
    whole = run(bounded)
    run(replace(half, updates=4))
    resumed = run(half)
    for key in ("weights_sha256", "gradient_evaluations", "staleness_waits"):
        assert resumed[key] == whole[key]
    fresh = [row["chains/fresh"] for row in logged(bounded)]
    assert 0 < sum(fresh[:4]) < 3
    assert 0 < sum(fresh[4:]) < 4
    for a, b in zip(logged(bounded), logged(half), strict=True):
        assert {k: v for k, v in a.items() if "time/" not in k} == {k: v for k, v in b.items() if "time/" not in k}


@pytest.mark.slow
def test_actors_give_the_plain_loops_numbers(ray_session, bounded):
    plain = run(replace(bounded, out=f"{bounded.out}-plain"))
    job = override(bounded, actors=2, cpus_per_actor=0.25)
    with chain_actors(job, load_dataset(job).spec) as handles:
        found = run(job, ActorPool(handles))
    for key in ("weights_sha256", "gradient_evaluations", "staleness_waits"):
        assert found[key] == plain[key]
    assert plain["staleness_waits"] > 0


def test_chains_that_are_not_used_are_in_the_bank_all_the_same(bounded):
    pool, collected = local_pool(bounded), []
    collect = pool.collect
    pool.collect = lambda update: collected.append(collect(update)) or collected[-1]
    rank = Worker(replace(bounded, max_staleness=1e-9), load_dataset(bounded), CPU, pool)
    for update in range(2):
        rank.step(update)
    _, stale, fresh = collected
    kept = 0
    for key, one in stale.items():
        states, again = rank.banks["model"].states[key[1]], fresh[key]
        assert np.array_equal(states[again.slots], again.x)
        left = ~np.isin(one.slots, again.slots)
        assert np.array_equal(states[one.slots[left]], one.x[left])
        assert not rank.banks["model"].in_flight[key[1]][one.slots].all()
        kept += left.sum()
    assert kept


def test_a_number_that_is_not_finite_is_not_lost_with_the_chains_that_are_not_used(bounded):
    pool = local_pool(bounded)
    submit = pool.submit
    pool.submit = lambda update, tasks, flat, fixed=None: submit(
        update, tasks, flat * (float("nan") if update == 4 else 1), fixed
    )
    with pytest.raises(Diverged) as caught:
        run(override(bounded, recipe=replace(bounded.recipe, bank=0, restart_prob=0.0), checkpoint_every=8), pool)
    assert (caught.value.quantity, caught.value.update, caught.value.version) == ("chain states", 4, 2)


def test_an_update_submitted_again_does_not_disturb_which_is_next(bounded):
    pool = LocalPool(bounded.recipe, init_networks(bounded.recipe, load_dataset(bounded).spec, 0, CPU))
    flat = flatten(pool.nets)
    for update in (0, 1, 2):
        pool.submit(update, [], flat)
    pool.collect(0)
    pool.submit(0, [], flat)
    assert (pool.next, sorted(pool.ready)) == (3, [0, 1, 2])


def test_drift_that_is_not_finite_is_beyond_every_bound(bounded, monkeypatch):
    monkeypatch.setattr(
        Learner, "staleness", lambda self, update, batches, answers: float("nan" if update == 3 else "inf")
    )
    assert run(bounded)["staleness_waits"] == 8


def test_a_bound_needs_a_lag_and_is_a_number(small):
    with pytest.raises(InputError, match=r"max_staleness=0.1: needs a lag"):
        check_job(replace(small, max_staleness=0.1))
    with pytest.raises(InputError, match=r"max_staleness=-0.1: must be greater than or equal to 0"):
        check_job(replace(small, lag=1, max_staleness=-0.1))
    check_job(replace(small, lag=1, max_staleness=0.1))
