"""Chains as data: tasks, their results, and the pure function from one to the other, which any process can run.

Tasks and results are numpy arrays in host memory, so a task can be passed to a function or sent in a message alike.
"""

import time
from collections.abc import Mapping, Sequence
from typing import NamedTuple, TypeAlias

import numpy as np
import torch
from jaxtyping import Float, Int64
from numpy import ndarray

from pipeline.batch import Batch, Spec
from pipeline.chains.lanes import Lane
from pipeline.nets.weights import Nets, device_of, to_device
from pipeline.precision import Precision, at_precision
from pipeline.recipe import ChainStates, InitialStates, Recipe
from pipeline.rng import generator
from pipeline.samplers.kernel import Sampler, Stats
from pipeline.samplers.langevin import Langevin
from pipeline.schedule import Setting, with_settings


class ChainTask(NamedTuple):
    """All steps that one lane's chains of one name make for an update."""

    chain: str
    """Name of the chain in `Recipe.chains`, or of one that only evaluation runs."""
    lane: Lane
    slots: Int64[ndarray, " n"]
    """Slots of the lane's bank that the states come from and return to."""
    x: Float[ndarray, "n *d"]
    """States before the steps."""
    context: dict[str, ndarray] | None
    """The lane's part of the stream that the target depends on; None: it depends on none."""
    sampler: Sampler
    seed: int
    """Seed of the steps."""
    version: int
    """The chains move under the weights as they were before this update."""
    settings: Mapping[str, Setting] = {}
    """Settings in which the recipe that they move under differs from the one that a pool was made with."""
    carried: Mapping[str, ndarray] = {}
    """What the chains carry from their starts, and do not move: arrays of n rows."""
    precision: Precision = "highest"
    """Of the networks that move them."""


class ChainResult(NamedTuple):
    """The chains after their steps: a pure function of the task and the weights, but for `cpu_seconds`."""

    lane: Lane
    slots: Int64[ndarray, " n"]
    x: Float[ndarray, "n *d"]
    """States after the steps."""
    energy: Float[ndarray, " n"]
    """This and the next two are the sampler's `Stats`."""
    grad_norm: Float[ndarray, " n"]
    acceptance_rate: Float[ndarray, " n"]
    rms_displacement: float
    """Root mean square, over chains and coordinates, of the displacement from start to end."""
    version: int
    temperature: float
    gradient_evaluations: int
    """Gradients of the energy, over all chains."""
    cpu_seconds: float
    """CPU time of the process that moved the chains: a measurement that no computation uses."""
    carried: Mapping[str, ndarray] = {}
    """As in the task."""


ChainResults: TypeAlias = dict[tuple[str, int], ChainResult]
"""The results of one update, by (chain, index of the lane)."""


@torch.no_grad()
def initial_arrays(
    recipe: Recipe, chain: str, n: int, rng: torch.Generator, nets: Nets, spec: Spec, context: Batch | None
) -> tuple[ndarray, dict[str, ndarray]]:
    """The recipe's `initial_states`, and what they carry."""
    states = recipe.initial_states(chain, n, rng, nets, spec, context)
    x, carried = states if isinstance(states, InitialStates) else (states, dict[str, torch.Tensor]())
    return x.cpu().numpy(), {name: t.cpu().numpy() for name, t in carried.items()}


def advance(recipe: Recipe, nets: Nets, task: ChainTask) -> ChainResult:
    """Move a task's chains with these networks, on their device."""
    return move_as_one_batch(recipe, nets, [task])[0]


def move_as_one_batch(recipe: Recipe, nets: Nets, tasks: Sequence[ChainTask]) -> list[ChainResult]:
    """Move the chains of tasks that differ in lanes, states, context and seeds alone; each has noise of its own.

    Several tasks need a Langevin sampler, and equally many chains each. Raises TypeError for another sampler.
    """
    began, task, device = time.process_time(), tasks[0], device_of(nets)
    x = to_device(torch.from_numpy(np.concatenate([one.x for one in tasks])), device)
    if x.dim() == 4:
        x = x.contiguous(memory_format=torch.channels_last)
    recipe = with_settings(recipe, task.settings) if task.settings else recipe
    energy = recipe.target(task.chain, nets, _context(tasks, device))
    rngs = [generator(one.seed, device) for one in tasks]
    with torch.no_grad(), at_precision(task.precision, device):
        if len(tasks) == 1:
            x, stats = task.sampler(energy, x, rngs[0])
        elif isinstance(task.sampler, Langevin):
            x, stats = task.sampler(energy, x, rngs)
        else:
            raise TypeError(f"several tasks cannot share a batch under {type(task.sampler).__name__}")
    arrays = [t.contiguous().cpu().numpy() for t in (x, *stats)]
    seconds = (time.process_time() - began) / len(tasks)
    parts = zip(*(np.split(array, len(tasks)) for array in arrays), strict=True)
    return [_result(one, seconds, *part) for one, part in zip(tasks, parts, strict=True)]


def _context(tasks: Sequence[ChainTask], device: torch.device) -> Batch | None:
    contexts = [task.context for task in tasks if task.context]
    if not contexts:
        return None
    return to_tensors({name: np.concatenate([one[name] for one in contexts]) for name in contexts[0]}, device)


def _result(
    task: ChainTask, seconds: float, x: ndarray, energy: ndarray, grad_norm: ndarray, acceptance_rate: ndarray
) -> ChainResult:
    with np.errstate(over="ignore"):  # chains that diverged have an infinite displacement
        displacement = float(np.sqrt(np.mean(np.square(x - task.x, dtype=np.float64))))
    return ChainResult(
        lane=task.lane,
        slots=task.slots,
        x=x,
        energy=energy,
        grad_norm=grad_norm,
        acceptance_rate=acceptance_rate,
        rms_displacement=displacement,
        version=task.version,
        temperature=task.sampler.temperature,
        gradient_evaluations=len(x) * task.sampler.gradient_evaluations,
        cpu_seconds=seconds,
        carried=task.carried,
    )


def to_tensors(arrays: Mapping[str, ndarray], device: torch.device | str) -> Batch:
    """Copies of the arrays on `device`."""
    return {name: to_device(torch.from_numpy(np.array(a)), device) for name, a in arrays.items()}


def chain_states(result: ChainResult, device: torch.device | str) -> ChainStates:
    """A result in the form that a recipe's losses receive."""
    tensors = to_tensors({name: getattr(result, name) for name in ("x", *Stats._fields)}, device)
    return ChainStates(tensors.pop("x"), Stats(**tensors), to_tensors(result.carried, device))
