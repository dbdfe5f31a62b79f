"""What every recipe keeps to."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from running import CPU, local_pool

from pipeline.data import load
from pipeline.rank import Rank
from pipeline.recipe import Recipe
from pipeline.recipes.anatomy import Anatomy
from pipeline.recipes.short_run import ShortRun
from pipeline.samplers import Langevin

QUICK = Langevin(3, 1.0, 0.01)
SMALL = ShortRun(langevin=QUICK, batch=8, width=4)
ANATOMY = Anatomy(langevin=QUICK, batch=8, width=4)
RECIPES = {
    "short_run on images": (SMALL, "digits"),
    "short_run on points": (replace(SMALL, start_from="gaussian", start_scale=2.0), "eight-gaussians"),
    "anatomy from data": (replace(ANATOMY, start_from="data", bank=32), "digits"),
    "anatomy by sgd": (replace(ANATOMY, net="nonlocal", optimizer="sgd", learning_rate=0.1, decay=0.9), "digits"),
    "anatomy on points": (replace(ANATOMY, start_from="gaussian"), "rings"),
}


@pytest.fixture(params=RECIPES)
def rank(request, small):
    recipe, data = RECIPES[request.param]
    job = replace(small, recipe=recipe, data=data)
    return lambda: Rank(job, load(data), CPU, local_pool(job))


def test_it_is_a_frozen_value_with_the_methods_of_a_recipe(rank):
    recipe = rank().job.recipe
    assert isinstance(recipe, Recipe)
    assert hash(recipe) == hash(replace(recipe))


def test_every_network_moves_and_all_is_finite(rank):
    one = rank()
    before = {k: [p.clone() for p in net.parameters()] for k, net in one.learner.nets.items()}
    metrics = [one.step(update)[0] for update in range(3)]
    assert all(np.isfinite(list(row.values())).all() for row in metrics)
    assert len({frozenset(row) for row in metrics}) == 1
    for name, net in one.learner.nets.items():
        moving = [p for p in net.parameters() if p.requires_grad]
        assert any(not torch.equal(p, q) for p, q in zip(moving, before[name], strict=True))


def test_losses_name_every_player_and_every_player_has_an_optimizer(rank):
    one = rank()
    recipe, players = one.job.recipe, one.job.recipe.players(0, {})
    metrics, _ = one.step(0)
    assert {f"loss/{player}" for player in players} <= set(metrics)
    assert set(players) <= set(one.learner.optimizers) <= set(one.learner.nets)
    for optimizer in one.learner.optimizers.values():
        assert all(p.requires_grad for group in optimizer.param_groups for p in group["params"])
    assert all(chain.context is None or chain.context in recipe.streams for chain in recipe.chains.values())


def test_starts_are_those_the_recipe_names(rank):
    one = rank()
    recipe = one.job.recipe
    x = np.concatenate([task.x for task in one.tasks(0, 0)])
    if recipe.start_from == "data":
        data = torch.cat([one.batch(0, lane)["data"]["x"] for lane in one.lanes])
        assert np.array_equal(x, data.numpy())
    elif recipe.start_from == "uniform":
        assert np.abs(x).max() <= 1
        assert abs(x.std() - 3**-0.5) < 0.05
    else:
        assert abs(x.mean()) < 4 / x.size**0.5
        assert abs(x.std() - recipe.start_scale) < 4 / (2 * x.size) ** 0.5
