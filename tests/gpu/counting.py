"""How many operators a GPU is given by a step of a chain, and by the learner in an update: each is a launch.

Copies between host and device are not counted (they are waits), nor views. An operator over a list of tensors
(`_foreach_`), as optimizers use them, counts once.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any
from unittest import mock

import torch
from simulated_gpu import Record, simulated_gpu

from jobs import latent_prior, short_run
from pipeline.batch import Spec
from pipeline.chains.task import to_tensors
from pipeline.energies.energy import Energy
from pipeline.nets.bfloat16 import NetsByPrecision
from pipeline.nets.flow import FlowSettings
from pipeline.nets.weights import eval_copy
from pipeline.precision import Precision, at_precision
from pipeline.recipe import init_networks
from pipeline.recipes.neural_transport import NeuralTransport
from pipeline.rng import generator
from pipeline.samplers.langevin import Langevin
from pipeline.training.learner import Learner
from pipeline.training.worker import Worker

GPU = torch.device("cuda")
PLANE, IMAGE = Spec("vector", (2,), 0), Spec("image", (1, 28, 28), 0)
PRESETS = {
    "ConvNet of short_run, cifar10": (short_run.PRESETS["cifar10"].recipe, "model", Spec("image", (3, 32, 32), 0)),
    "prior of latent_prior, mnist": (latent_prior.PRESETS["mnist"].recipe, "prior", IMAGE),
    "HMC behind affine couplings x 4": (NeuralTransport(flow=FlowSettings("affine", 4)), "model", PLANE),
    "HMC behind splines x 4": (NeuralTransport(flow=FlowSettings("spline", 4)), "model", PLANE),
    "HMC behind Glow 2 x 4": (NeuralTransport(flow=FlowSettings("glow", 4, 2)), "model", IMAGE),
}
"""Recipes with networks of usual depth, a chain of each, and what their data are."""


def of_steps(worker: Worker) -> dict[str, int]:
    """Of a step of each chain of a worker's recipe, by its name."""
    recipe, nets, found = worker.job.recipe, worker.pool.nets, dict[str, int]()
    with simulated_gpu() as record:
        for task in worker.tasks(0, 0):
            if task.lane.index == 0 and task.sampler.gradient_evaluations:
                energy = recipe.target(task.chain, nets, to_tensors(task.context, GPU) if task.context else None)
                found[task.chain] = _of_step(task.sampler, energy, torch.from_numpy(task.x).to(GPU), record)
    return found


@contextmanager
def of_updates(learner: Learner, record: Record) -> Iterator[list[int]]:
    """A list of a learner's updates inside the block. A first one makes the optimizers' moments, too."""
    update, found = learner.update, list[int]()

    def counted(*args: Any) -> dict[str, float]:
        before = record.operators.total()
        metrics = update(*args)
        found.append(record.operators.total() - before)
        return metrics

    with mock.patch.object(learner, "update", counted):
        yield found


def of_preset(name: str) -> dict[str, int]:
    """Of a step of a chain of PRESETS, at each precision that it may have in learning."""
    recipe, chain, spec = PRESETS[name]
    with simulated_gpu() as record:
        nets = NetsByPrecision(eval_copy(init_networks(recipe, spec, 0, GPU)))
        x, found = recipe.initial_states(chain, 2, generator(0, GPU), nets.nets, spec, None), dict[str, int]()
        sampler = recipe.sampler(chain, nets.nets, 0)
        precisions: dict[str, Precision] = {"step": "highest"}
        precisions |= {"step in bf16": "bf16"} if isinstance(sampler, Langevin) else {}
        for what, precision in precisions.items():
            energy = recipe.target(chain, nets.at(precision), None)
            with at_precision(precision, GPU):
                found[what] = _of_step(sampler, energy, x, record)
        return found


def of_two_lanes(name: str) -> int:
    """Of a step of the chains of two lanes of PRESETS that move as one batch."""
    recipe, chain, spec = PRESETS[name]
    with simulated_gpu() as record:
        nets = eval_copy(init_networks(recipe, spec, 0, GPU))
        x = recipe.initial_states(chain, 4, generator(0, GPU), nets, spec, None)
        rngs = [generator(seed, GPU) for seed in range(2)]
        return _of_step(recipe.sampler(chain, nets, 0), recipe.target(chain, nets, None), x, record, rngs)


def _of_step(sampler: Any, energy: Energy, x: torch.Tensor, record: Record, rngs: Any = None) -> int:
    """What a step adds to none: what begins and ends a call is left out."""
    totals = [record.operators.total()]
    for steps in (0, 1):
        replace(sampler, steps=steps)(energy, x, rngs or generator(0, GPU))
        totals.append(record.operators.total())
    return totals[2] - 2 * totals[1] + totals[0]
