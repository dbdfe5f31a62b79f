"""What every recipe keeps to."""

import pickle
from dataclasses import replace

import numpy as np
import pytest
import torch
from running import CPU, local_pool, run, sentences_in
from small_recipes import RECIPES, with_recipe

from pipeline.chains.task import advance, chain_states
from pipeline.nets import weights
from pipeline.nets.weights import eval_copy
from pipeline.recipe import Recipe, init_networks
from pipeline.rng import generator
from pipeline.runs.job import load_dataset
from pipeline.sampling.draw import decode_states, draw_tasks, final_states
from pipeline.training.worker import Worker


@pytest.fixture(params=RECIPES)
def job(request, small, tmp_path):
    return with_recipe(small, request.param, sentences_in(tmp_path))


@pytest.fixture
def rank(job):
    return lambda: Worker(job, load_dataset(job), CPU, local_pool(job))


def test_it_is_a_frozen_value_with_the_methods_of_a_recipe(rank):
    recipe = rank().job.recipe
    assert isinstance(recipe, Recipe)
    assert hash(recipe) == hash(replace(recipe))


def test_every_network_but_the_fixed_ones_moves_and_all_is_finite(rank):
    one = rank()
    learning, fixed = weights.partition(one.learner.nets, one.job.recipe.frozen)
    assert set(fixed) == one.job.recipe.frozen
    still = {k: weights.flatten({k: net}) for k, net in fixed.items()}
    before = {k: [p.clone() for p in net.parameters()] for k, net in learning.items()}
    metrics = [one.step(update)[0] for update in range(3)]
    assert all(np.isfinite(list(row.values())).all() for row in metrics)
    assert len({frozenset(row) for row in metrics}) == 1
    for name, net in learning.items():
        moving = [p for p in net.parameters() if p.requires_grad]
        assert any(not torch.equal(p, q) for p, q in zip(moving, before[name], strict=True))
    for name, net in fixed.items():
        assert not any(p.requires_grad for p in net.parameters())
        assert np.array_equal(weights.flatten({name: net}), still[name])


def test_what_is_prepared_is_a_function_of_its_seed_and_spares_what_is_given(rank):
    def prepared(given):
        one = rank()
        before = {k: weights.digest({k: net}) for k, net in one.learner.nets.items()}
        one.job.recipe.data_dependent_init(one.learner.nets, one.batch(0, one.lanes[0]), generator(3), given)
        assert all(weights.digest({k: one.learner.nets[k]}) == before[k] for k in given)
        return weights.digest(one.learner.nets)

    assert prepared(frozenset()) == prepared(frozenset())
    prepared(frozenset(rank().learner.nets))


def test_losses_name_every_learning_network_and_each_has_an_optimizer(rank):
    one = rank()
    recipe, factors = one.job.recipe, one.job.recipe.learning_rate_factors(0, {})
    learning = set(one.learner.optimizers) if factors is None else set(factors)
    metrics, _ = one.step(0)
    assert {f"loss/{name}" for name in learning} <= set(metrics)
    assert learning <= set(one.learner.optimizers) <= set(one.learner.nets)
    for optimizer in one.learner.optimizers.values():
        assert all(p.requires_grad for group in optimizer.param_groups for p in group["params"])
    assert all(chain.context is None or chain.context in recipe.streams for chain in recipe.chains.values())


def test_samples_of_its_model_are_data(rank):
    one = rank()
    recipe, nets, shape = one.job.recipe, one.learner.nets, one.data.spec.shape
    drawn = [draw_tasks(recipe, nets, one.data, 5, 0, seed=7) for _ in range(2)]
    ends = [{(t.chain, t.lane.index): advance(recipe, nets, t) for t in some} for some in drawn]
    x, again = (decode_states(recipe, nets, final_states(answers, recipe.sample_chain), 7) for answers in ends)
    assert x.shape == (5, *shape)
    assert torch.equal(x, again)
    assert x.isfinite().all()


def test_scores_are_about_every_item(rank):
    one = rank()
    recipe, lane = one.job.recipe, one.lanes[0]
    answers = {(t.chain, t.lane.index): advance(recipe, one.learner.nets, t) for t in one.tasks(0, 0)}
    batch = one.batch(0, lane)
    chains = {c: chain_states(answers[c, lane.index], CPU) for c, s in recipe.chains.items() if s.context}
    for score in recipe.item_metrics(one.learner.nets, batch, chains, generator(0)).values():
        assert score.shape == (len(batch["data"]["x"]),)
        assert score.isfinite().all()


def test_half_a_run_and_its_resumption_are_the_whole_run(job, tmp_path):
    job = replace(job, updates=4, lag=1)
    whole = run(job)
    half = replace(job, out=str(tmp_path / "half"))
    run(replace(half, updates=2))
    assert run(half)["weights_sha256"] == whole["weights_sha256"]


def test_its_tasks_are_pure_and_can_be_sent(rank):
    one = rank()
    one.step(0)
    tasks = one.tasks(1, 1)
    nets = eval_copy(init_networks(one.job.recipe, one.data.spec, 1, CPU))
    weights.load(nets, weights.flatten(one.learner.nets))
    for task in tasks:
        recipe, sent = pickle.loads(pickle.dumps((one.job.recipe, task)))
        here, there = advance(one.job.recipe, nets, task), advance(recipe, nets, sent)
        assert np.array_equal(here.x, there.x)
        assert not np.array_equal(here.x, task.x)


def test_starts_are_those_the_recipe_names(rank):
    one = rank()
    recipe = one.job.recipe
    if not hasattr(recipe, "start_from"):
        pytest.skip("it has one start alone")
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
