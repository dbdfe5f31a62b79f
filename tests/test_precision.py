"""Precision: a setting of learning; what is measured, and what accepts or rejects, has the highest."""

from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch
from running import CPU, local_pool, run, sentences_in
from small_recipes import COUPLINGS, LATENT, TRANSPORT, with_recipe
from torch.utils._python_dispatch import TorchDispatchMode

from pipeline.chains.task import advance
from pipeline.energies.energy import autograd_gradient
from pipeline.evaluation.evaluate import evaluate
from pipeline.evaluation.options import EvaluationOptions
from pipeline.nets.bfloat16 import cast_products
from pipeline.nets.weights import eval_copy, flatten, load
from pipeline.precision import at_precision
from pipeline.process import configure_process
from pipeline.runs.job import load_dataset, override
from pipeline.runs.job_json import from_json, to_json
from pipeline.runs.snapshot import Snapshot
from pipeline.samplers import langevin
from pipeline.sampling.draw import draw_tasks
from pipeline.training.worker import Worker

CAST = ("short_run on images", "anatomy by sgd", "latent_prior on text", "neural_transport by langevin")
"""Recipes of which autocast casts convolutions, attention, a recurrent network and word embeddings, and a flow."""


def flags():
    return torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32, torch.is_autocast_enabled("cpu")


@pytest.fixture
def make_worker():
    return lambda job: Worker(job, load_dataset(job), CPU, local_pool(job))


def test_a_process_rounds_nothing_and_a_block_has_its_own_precision():
    torch.backends.cudnn.allow_tf32 = True  # as torch has it
    configure_process(1)
    assert flags() == ("highest", False, False)
    with at_precision("tf32", CPU):
        assert flags() == ("high", True, False)
        with at_precision("highest", CPU):
            assert flags() == ("highest", False, False)
        assert flags() == ("high", True, False)
    with at_precision("bf16", CPU):
        assert flags() == ("high", True, True)
    assert flags() == ("highest", False, False)


def test_job_json_has_the_precision(small):
    job = replace(small, precision="bf16")
    assert to_json(job)["precision"] == "bf16"
    assert from_json(to_json(job)) == job


def test_chains_move_at_the_runs_precision_unless_they_accept_or_reject(small, make_worker):
    learning = make_worker(override(small, recipe=LATENT, precision="bf16")).tasks(0, 0)
    assert {task.precision for task in learning} == {"bf16"}
    corrected = override(small, recipe=replace(TRANSPORT, flow=COUPLINGS), source="eight-gaussians", precision="bf16")
    assert {task.precision for task in make_worker(corrected).tasks(0, 0)} == {"highest"}


def test_samples_are_drawn_and_measured_at_the_highest_precision(small, make_worker):
    worker = make_worker(replace(small, precision="bf16"))
    snapshot = Snapshot(worker.job, worker.data, worker.learner.nets, 1)
    assert {task.precision for task in draw_tasks(snapshot, 5, seed=0)} == {"highest"}
    with at_precision("tf32", CPU):
        result = evaluate(snapshot, worker.pool, ["samples"], EvaluationOptions(n=10))
    exact = evaluate(snapshot, worker.pool, ["samples"], EvaluationOptions(n=10))
    assert result.measurements == exact.measurements
    assert {one.protocol.content()["precision"] for one in exact.measurements} == {"highest"}


def test_chains_in_bfloat16_keep_a_float32_state_and_are_near_the_exact_ones(small, make_worker):
    worker = make_worker(small)
    task = worker.tasks(0, 0)[0]
    exact, rough = (advance(small.recipe, worker.learner.nets, task._replace(precision=p)) for p in ("highest", "bf16"))
    assert rough.x.dtype == rough.energy.dtype == np.float32
    error = np.linalg.norm(rough.x - exact.x) / np.linalg.norm(exact.x - task.x)
    assert 1e-5 < error < 0.05


@pytest.mark.parametrize("name", CAST)
def test_networks_that_were_cast_before_give_what_autocast_gives(small, make_worker, tmp_path, monkeypatch, name):
    monkeypatch.setattr(langevin, "gradient", lambda energy: partial(autograd_gradient, energy))
    worker = make_worker(with_recipe(small, name, sentences_in(tmp_path)))
    recipe, nets = worker.job.recipe, eval_copy(worker.learner.nets)
    for task in worker.tasks(0, 0):
        task = task._replace(precision="bf16")
        here, there = advance(recipe, nets, task), advance(recipe, cast_products(nets), task)
        assert np.array_equal(here.x, there.x)
        assert np.array_equal(here.energy, there.energy)


class CastMemory(TorchDispatchMode):
    """The addresses of all numbers that are cast."""

    def __init__(self):
        super().__init__()
        self.addresses = set()

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        if function is torch.ops.aten._to_copy.default:
            self.addresses.add(args[0].data_ptr())
        return function(*args, **(kwargs or {}))


def test_weights_are_cast_once_a_version_and_every_version_is(small):
    job = override(small, recipe=LATENT, precision="bf16")
    worker = Worker(job, load_dataset(job), CPU, local_pool(job))
    pool, initial = worker.pool, flatten(worker.pool.nets)
    for version, flat in enumerate((initial, 2 * initial)):
        tasks = worker.tasks(version, version)
        pool.submit(2 * version, tasks, flat)
        with CastMemory() as casts:
            pool.submit(2 * version + 1, tasks, flat)
        results, again = pool.collect(2 * version), pool.collect(2 * version + 1)
        weights = {p.data_ptr() for net in pool.nets.values() for p in net.parameters()}
        assert casts.addresses
        assert not casts.addresses & weights
        load(pool.nets, flat)
        for task in tasks:
            expected = advance(job.recipe, pool.nets, task).x
            for found in (results, again):
                assert np.array_equal(found[task.chain, task.lane.index].x, expected)


def test_on_a_cpu_tf32_changes_nothing_and_bfloat16_does(small, tmp_path):
    digests = [
        run(override(small, updates=2, precision=precision, out=str(tmp_path / precision)))["weights_sha256"]
        for precision in ("highest", "tf32", "bf16")
    ]
    assert digests[0] == digests[1] != digests[2]


def test_deterministic_algorithms_are_asked_for_and_what_has_none_says_so():
    try:
        configure_process(1, deterministic=True)
        assert torch.are_deterministic_algorithms_enabled()
        with pytest.warns(UserWarning, match="put_ does not have a deterministic implementation"):
            torch.zeros(3).put_(torch.tensor([0]), torch.ones(1))
    finally:
        configure_process(1)
    assert not torch.are_deterministic_algorithms_enabled()
