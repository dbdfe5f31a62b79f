"""Chains as data: persistent states, tasks that move them, and the one pure step that any process can do.

Everything here is numpy and host memory, so that a task is the same thing to a function call and to a message.
"""

import time
from collections.abc import Mapping
from typing import NamedTuple, TypeAlias

import numpy as np
import torch
from jaxtyping import Float, Int64
from numpy import ndarray

from pipeline.batch import Batch
from pipeline.chains.lanes import Lane
from pipeline.nets.weights import Nets, device_of
from pipeline.recipe import ChainStates, Recipe
from pipeline.rng import generator
from pipeline.samplers.kernel import Sampler, Stats


class ChainTask(NamedTuple):
    """All steps of one lane's chains of one name."""

    chain: str
    lane: Lane
    slots: Int64[ndarray, " n"]
    """Where in the lane's bank the states came from and go back to."""
    x: Float[ndarray, "n *d"]
    context: dict[str, ndarray] | None
    sampler: Sampler
    seed: int
    version: int
    """The update whose weights, as they stood before it, move the chains."""


class ChainResult(NamedTuple):
    """What comes back: a pure function of the task and the weights it names."""

    lane: Lane
    slots: Int64[ndarray, " n"]
    x: Float[ndarray, "n *d"]
    energy: Float[ndarray, " n"]
    grad_norm: Float[ndarray, " n"]
    acceptance_rate: Float[ndarray, " n"]
    rms_displacement: float
    """Root mean square, over chains and coordinates, of the way from start to end."""
    version: int
    temperature: float
    gradient_evaluations: int
    """Gradients of the energy taken, over all chains."""
    cpu_seconds: float
    """Spent by the process that moved them: a measurement, not part of the answer."""


ChainResults: TypeAlias = dict[tuple[str, int], ChainResult]
"""The answers of one update, by (chain, index of the lane)."""


def advance(recipe: Recipe, nets: Nets, task: ChainTask) -> ChainResult:
    """Move a task's chains with `nets`, on the device and with the weights that `nets` have."""
    began = time.process_time()
    device = device_of(nets)
    x = torch.from_numpy(np.array(task.x)).to(device)
    if x.dim() == 4:
        x = x.contiguous(memory_format=torch.channels_last)
    energy = recipe.target(task.chain, nets, to_tensors(task.context, device) if task.context else None)
    with torch.no_grad():
        x, stats = task.sampler(energy, x, generator(task.seed, device))
    states, energies, grad_norm, acceptance_rate = (t.contiguous().cpu().numpy() for t in (x, *stats))
    with np.errstate(over="ignore"):  # beyond float32's squares it is infinite, and said to be
        way = float(np.sqrt(np.mean(np.square(states - task.x, dtype=np.float64))))
    return ChainResult(
        lane=task.lane,
        slots=task.slots,
        x=states,
        energy=energies,
        grad_norm=grad_norm,
        acceptance_rate=acceptance_rate,
        rms_displacement=way,
        version=task.version,
        temperature=task.sampler.temperature,
        gradient_evaluations=len(x) * task.sampler.gradient_evaluations,
        cpu_seconds=time.process_time() - began,
    )


def to_tensors(arrays: Mapping[str, ndarray], device: torch.device | str) -> Batch:
    """The arrays, copied to `device`."""
    return {name: torch.from_numpy(np.array(a)).to(device) for name, a in arrays.items()}


def chain_states(answer: ChainResult, device: torch.device | str) -> ChainStates:
    """An answer as a recipe's losses see it."""
    arrays = {name: getattr(answer, name) for name in ("x", *Stats._fields)}
    found = to_tensors(arrays, device)
    return ChainStates(found.pop("x"), Stats(**found))
