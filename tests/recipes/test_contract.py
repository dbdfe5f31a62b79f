"""What every recipe keeps to."""

import pickle
from dataclasses import replace

import numpy as np
import pytest
import torch
from running import CPU, local_pool, run, sentences_in
from small_recipes import ARCHETYPES, recipe_names, with_recipe

from pipeline.chains.task import advance, chain_states
from pipeline.nets import weights
from pipeline.nets.weights import eval_copy
from pipeline.recipe import Recipe, init_networks
from pipeline.rng import generator
from pipeline.runs.job import load_dataset
from pipeline.runs.snapshot import Snapshot
from pipeline.sampling.draw import decode_states, draw_tasks, final_states
from pipeline.training.worker import Worker


@pytest.fixture(params=recipe_names(*ARCHETYPES))
def job(request, small, tmp_path):
    return with_recipe(small, request.param, sentences_in(tmp_path))


@pytest.fixture
def make_worker(job):
    return lambda: Worker(job, load_dataset(job), CPU, local_pool(job))


def test_a_recipe_is_a_frozen_value_with_the_methods_of_the_protocol(job):
    recipe = job.recipe
    assert isinstance(recipe, Recipe)
    assert hash(recipe) == hash(replace(recipe))


def test_chains_and_streams_have_declared_names(job):
    recipe = job.recipe
    assert all(chain.context is None or chain.context in recipe.streams for chain in recipe.chains.values())
    if any(chain.context is None for chain in recipe.chains.values()):
        assert recipe.sample_chain in recipe.chains


def test_every_network_but_the_frozen_ones_changes_and_all_metrics_are_finite(make_worker):
    worker = make_worker()
    learning, frozen = weights.partition(worker.learner.nets, worker.job.recipe.frozen)
    assert set(frozen) == worker.job.recipe.frozen
    frozen_before = {k: weights.flatten({k: net}) for k, net in frozen.items()}
    before = {k: [p.clone() for p in net.parameters()] for k, net in learning.items()}
    metrics = [worker.step(update)[0] for update in range(3)]
    assert all(np.isfinite(list(row.values())).all() for row in metrics)
    assert len({frozenset(row) for row in metrics}) == 1
    for name, net in learning.items():
        after = [p for p in net.parameters() if p.requires_grad]
        assert any(not torch.equal(p, q) for p, q in zip(after, before[name], strict=True))
    for name, net in frozen.items():
        assert not any(p.requires_grad for p in net.parameters())
        assert np.array_equal(weights.flatten({name: net}), frozen_before[name])


def test_data_dependent_init_is_a_function_of_its_seed_and_leaves_pretrained_networks(make_worker):
    def digest_after(pretrained):
        worker = make_worker()
        nets = worker.learner.nets
        before = {k: weights.digest({k: net}) for k, net in nets.items()}
        batch = worker.batch(0, worker.lanes[0])
        worker.job.recipe.data_dependent_init(nets, batch, generator(3), pretrained)
        assert all(weights.digest({k: nets[k]}) == before[k] for k in pretrained)
        return weights.digest(nets)

    assert digest_after(frozenset()) == digest_after(frozenset())
    digest_after(frozenset(make_worker().learner.nets))


def test_losses_name_every_learning_network_and_each_has_an_optimizer(make_worker):
    worker = make_worker()
    factors, optimizers = worker.job.recipe.learning_rate_factors(0, {}), worker.learner.optimizers
    learning = set(optimizers) if factors is None else set(factors)
    metrics, _ = worker.step(0)
    assert {f"loss/{name}" for name in learning} <= set(metrics)
    assert learning <= set(optimizers) <= set(worker.learner.nets)
    for optimizer in optimizers.values():
        assert all(p.requires_grad for group in optimizer.param_groups for p in group["params"])


def test_samples_of_the_model_are_data_unless_the_recipe_says_not(make_worker):
    worker = make_worker()
    recipe, nets, shape = worker.job.recipe, worker.learner.nets, worker.data.spec.shape
    snapshot = Snapshot(worker.job, worker.data, nets, 0)
    tasks = [draw_tasks(snapshot, 5, seed=7) for _ in range(2)]
    results = [{(t.chain, t.lane.index): advance(recipe, nets, t) for t in tasks_of_one} for tasks_of_one in tasks]
    x, again = (decode_states(snapshot, final_states(one, recipe.sample_chain), 7) for one in results)
    assert (x.shape == (5, *shape)) == recipe.samples_are_data
    assert torch.equal(x, again)
    assert x.isfinite().all()


def test_item_metrics_have_one_finite_number_per_item(make_worker):
    worker = make_worker()
    recipe, lane = worker.job.recipe, worker.lanes[0]
    results = {(t.chain, t.lane.index): advance(recipe, worker.learner.nets, t) for t in worker.tasks(0, 0)}
    batch = worker.batch(0, lane)
    chains = {c: chain_states(results[c, lane.index], CPU) for c, s in recipe.chains.items() if s.context}
    for metric in recipe.item_metrics(worker.learner.nets, batch, chains, generator(0)).values():
        assert metric.shape == (len(next(iter(batch.values()))["x"]),)
        assert metric.isfinite().all()


def test_half_a_run_and_its_resumption_are_the_whole_run(job, tmp_path):
    job = replace(job, updates=4, lag=1)
    whole = run(job)
    half = replace(job, out=str(tmp_path / "half"))
    run(replace(half, updates=2))
    assert run(half)["weights_sha256"] == whole["weights_sha256"]


def test_tasks_are_pure_and_can_be_sent(make_worker):
    worker = make_worker()
    worker.step(0)
    tasks = worker.tasks(1, 1)
    nets = eval_copy(init_networks(worker.job.recipe, worker.data.spec, 1, CPU))
    weights.load(nets, weights.flatten(worker.learner.nets))
    for task in tasks:
        recipe, sent = pickle.loads(pickle.dumps((worker.job.recipe, task)))
        here, there = advance(worker.job.recipe, nets, task), advance(recipe, nets, sent)
        assert np.array_equal(here.x, there.x)
        assert not np.array_equal(here.x, task.x)


def test_chains_start_where_the_recipe_says(make_worker):
    worker = make_worker()
    recipe = worker.job.recipe
    if not hasattr(recipe, "start_from"):
        pytest.skip("it has only one start")
    x = np.concatenate([task.x for task in worker.tasks(0, 0)])
    if recipe.start_from == "data":
        data = torch.cat([worker.batch(0, lane)["data"]["x"] for lane in worker.lanes])
        assert np.array_equal(x, data.numpy())
    elif recipe.start_from == "uniform":
        assert np.abs(x).max() <= 1
        assert abs(x.std() - 3**-0.5) < 0.05
    else:
        assert abs(x.mean()) < 4 / x.size**0.5
        assert abs(x.std() - recipe.start_scale) < 4 / (2 * x.size) ** 0.5
