"""Settings that are drawn from a space, or moved within it."""

import math

import numpy as np
import pytest
from optuna.trial import FixedTrial

from jobs import EXPERIMENTS
from jobs.cli.experiment import load_experiment
from pipeline.search.explorer import FACTORS, Explorer

SPACES = {name: load_experiment(name) for name in EXPERIMENTS}
SPACES = {name: module for name, module in SPACES.items() if hasattr(module, "space")}


def rng(seed=0):
    return np.random.default_rng(seed)


@pytest.mark.parametrize("name", SPACES)
def test_whatever_is_drawn_or_moved_is_a_setting_of_the_space(name):
    module = SPACES[name]
    for preset in module.PRESETS.values():
        explorer = Explorer({}, rng())
        for step in range(6):
            recipe = module.space(explorer, preset.recipe, 10**6)
            assert module.space(FixedTrial(explorer.settings), preset.recipe, 10**6) == recipe  # refuses other values
            assert module.space(Explorer(explorer.settings, None), preset.recipe, 10**6) == recipe
            explorer = Explorer(explorer.settings, rng(step))


def test_numbers_move_by_a_factor_within_their_bounds_and_choices_stay():
    before = {"noise": 0.1, "steps": 2, "optimizer": "sgd", "share": 0.09}
    seen = []
    for seed in range(20):
        explorer = Explorer(before, rng(seed))
        explorer.suggest_float("noise", 0.01, 1.0, log=True)
        explorer.suggest_int("steps", 1, 100, log=True)
        explorer.suggest_categorical("optimizer", ["adam", "sgd"])
        explorer.suggest_float("share", 0.0, 0.1)
        seen.append(explorer.settings)
    assert {one["noise"] for one in seen} == {0.1 * factor for factor in FACTORS}
    assert {one["steps"] for one in seen} == {1, 3}
    assert {one["optimizer"] for one in seen} == {"sgd"}
    assert {one["share"] for one in seen} == {0.09 * FACTORS[0], 0.1}


def test_drawn_numbers_fill_their_range_evenly_on_its_scale():
    explorers = [Explorer({}, rng(seed)) for seed in range(2000)]
    logs = np.log([one.suggest_float("a", 1e-3, 1.0, log=True) for one in explorers])
    whole = [one.suggest_int("b", 1, 4) for one in explorers]
    assert logs.mean() == pytest.approx(math.log(1e-3) / 2, abs=0.15)
    assert logs.std() == pytest.approx(-math.log(1e-3) / math.sqrt(12), rel=0.05)
    assert np.bincount(whole)[1:] / 2000 == pytest.approx(0.25, abs=0.04)
