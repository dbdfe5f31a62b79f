"""Lanes that move as one batch end where they end alone, to rounding, and only on a GPU."""

import numpy as np
import pytest
import torch
from running import CPU

from pipeline.batch import Spec
from pipeline.chains.batches import MOST_CHAINS, batches_of_tasks
from pipeline.chains.lanes import Lane
from pipeline.chains.task import ChainTask, advance, move_as_one_batch
from pipeline.nets.weights import eval_copy
from pipeline.recipe import init_networks
from pipeline.recipes.latent_prior import LatentPrior
from pipeline.recipes.short_run import ShortRun
from pipeline.samplers.hmc import HMC
from pipeline.samplers.langevin import Langevin

GPU = torch.device("cuda")
LANGEVIN = Langevin(5, 0.05, 0.3)


def task(lane, shape=(2,), n=3, sampler=LANGEVIN, context=None, lanes=3):
    x = np.random.default_rng(lane).standard_normal((n, *shape)).astype(np.float32)
    return ChainTask("model", Lane(lane, lanes), np.arange(n), x, context, sampler, 10 + lane, 0)


def lanes_of(batches):
    return [[one.lane.index for one in batch] for batch in batches]


def test_on_a_cpu_each_task_moves_by_itself():
    assert lanes_of(batches_of_tasks([task(0), task(1)], CPU)) == [[0], [1]]


def test_on_a_gpu_lanes_move_together_that_differ_in_nothing_else():
    tasks = [task(0), task(1), task(2)]
    assert lanes_of(batches_of_tasks(tasks, GPU)) == [[0, 1, 2]]
    others = {
        "chain": "other", "sampler": Langevin(6, 0.05, 0.3), "version": 1, "settings": {"lr": 1.0},
        "precision": "tf32", "x": np.zeros((4, 2), np.float32), "context": {"x": np.zeros((3, 1), np.float32)},
    }  # fmt: skip
    for name, value in others.items():
        assert lanes_of(batches_of_tasks([tasks[0], tasks[1]._replace(**{name: value}), tasks[2]], GPU)) == [
            [0, 2],
            [1],
        ]


def test_chains_that_accept_or_reject_move_lane_by_lane():
    assert lanes_of(batches_of_tasks([task(0, sampler=HMC(1, 1, 0.1)), task(1, sampler=HMC(1, 1, 0.1))], GPU)) == [
        [0],
        [1],
    ]


def test_tasks_under_another_sampler_do_not_share_a_batch():
    recipe = ShortRun(width=4)
    nets = eval_copy(init_networks(recipe, Spec("vector", (2,), 0), 0, CPU))
    tasks = [task(lane, sampler=HMC(1, 1, 0.1)) for lane in range(2)]
    with pytest.raises(TypeError, match="cannot share a batch under HMC"):
        move_as_one_batch(recipe, nets, tasks)


def test_a_context_that_is_no_row_for_each_chain_is_not_joined():
    tasks = [task(lane, context={"x": np.zeros((1, 4), np.float32)}) for lane in range(2)]
    assert lanes_of(batches_of_tasks(tasks, GPU)) == [[0], [1]]


def test_a_batch_is_no_larger_than_memory_may_allow():
    tasks = [task(lane, n=MOST_CHAINS // 2, lanes=5) for lane in range(5)]
    assert lanes_of(batches_of_tasks(tasks, GPU)) == [[0, 1], [2, 3], [4]]
    assert lanes_of(batches_of_tasks([task(lane, n=2 * MOST_CHAINS) for lane in range(2)], GPU)) == [[0], [1]]


@pytest.mark.parametrize("shape", [(2,), (3, 8, 8)])
def test_lanes_end_where_they_end_alone_each_with_its_own_noise(shape):
    recipe, spec = ShortRun(width=4), Spec("vector" if len(shape) == 1 else "image", shape, 0)
    nets, tasks = eval_copy(init_networks(recipe, spec, 0, CPU)), [task(lane, shape) for lane in range(3)]
    for one, result in zip(tasks, move_as_one_batch(recipe, nets, tasks), strict=True):
        alone = advance(recipe, nets, one)
        assert result.lane == one.lane
        assert (result.gradient_evaluations, result.temperature) == (alone.gradient_evaluations, alone.temperature)
        for name in ("x", "energy", "grad_norm", "acceptance_rate", "rms_displacement"):
            np.testing.assert_allclose(getattr(result, name), getattr(alone, name), 1e-5, 1e-5, err_msg=name)


def test_each_chain_keeps_its_own_row_of_the_context():
    recipe = LatentPrior(latent_dim=2, energy_width=4, width=4, architecture="mlp")
    nets = eval_copy(init_networks(recipe, Spec("vector", (2,), 0), 0, CPU))
    tasks = [
        task(lane, context={"x": np.full((3, 2), lane, np.float32)})._replace(chain="posterior") for lane in range(2)
    ]
    for one, result in zip(tasks, move_as_one_batch(recipe, nets, tasks), strict=True):
        np.testing.assert_allclose(result.x, advance(recipe, nets, one).x, 1e-5, 1e-5)
