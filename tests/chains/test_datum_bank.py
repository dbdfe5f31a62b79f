"""One persistent state per datum, through whole and interrupted runs."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from running import newest, run

from pipeline.chains.bank import Bank
from pipeline.chains.lanes import Lane
from pipeline.recipe import ChainSettings
from pipeline.recipes.alternating_backprop import AlternatingBackprop
from pipeline.runs import checkpoint
from pipeline.runs.job import override

LANE = Lane(1, 3)


@pytest.fixture
def persistent(small):
    """Six updates of alternating back-propagation: four epochs of 24 items in batches of 16."""
    recipe = AlternatingBackprop(latent_dim=3, steps=2, batch_size=16, width=4)
    return override(small, recipe=recipe, max_items=24)


def banks(job):
    """The bank of each lane in the newest checkpoint."""
    return [checkpoint.read_part(newest(job), f"lane-{p:04d}")["banks"]["posterior"] for p in range(job.lanes)]


@pytest.mark.parametrize("lag", [0, 1, 2])
def test_half_a_run_and_its_resumption_are_the_whole_run(persistent, tmp_path, lag):
    whole = replace(persistent, lag=lag)
    half = replace(whole, out=str(tmp_path / "half"))
    result = run(whole)
    run(replace(half, updates=3))
    assert run(half)["weights_sha256"] == result["weights_sha256"]
    for one, other in zip(banks(whole), banks(half), strict=True):
        assert one["filled"].all()
        assert torch.equal(one["states"], other["states"])


def test_lag_changes_the_computation(persistent, tmp_path):
    hashes = [run(replace(persistent, lag=lag, out=str(tmp_path / f"{lag}")))["weights_sha256"] for lag in (0, 1)]
    assert len(set(hashes)) == 2


def fresh(n):
    return np.full((n, 2), -1.0, np.float32)


def test_every_item_keeps_its_own_state():
    one, moves = Bank(ChainSettings(6, context="data", bank="datum"), [LANE], 31), np.zeros(31, int)
    rng = np.random.default_rng(0)
    own = np.arange(LANE.index, 31, LANE.count)
    for update in range(40):
        index = rng.choice(own, 4, replace=False)
        slots, x = one.draw(LANE, 4, fresh, update, index)
        assert (x[:, 0] == np.where(moves[index], 100 * index + moves[index], -1)).all()
        moves[index] += 1
        one.put(LANE, slots, np.repeat((100 * index + moves[index])[:, None], 2, 1).astype(np.float32))
    assert moves[own].min() > 1
    assert moves.sum() == moves[own].sum()


def test_an_item_in_flight_starts_from_the_state_that_was_put_last():
    one, index = Bank(ChainSettings(3, context="data", bank="datum"), [LANE], 31), np.array([1, 4, 7])
    slots, _ = one.draw(LANE, 3, fresh, 0, index)
    one.put(LANE, slots, fresh(3) + 2)
    for seed in (1, 2):  # twice before either comes back
        _, x = one.draw(LANE, 3, fresh, seed, index)
        assert (x == 1).all()
