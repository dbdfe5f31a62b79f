"""Long chains of a model, moved by any pool: from noise, data or the bank, seen again and again on their way."""

import dataclasses
from collections.abc import Iterator, Sequence
from itertools import count
from typing import Any, Literal, NamedTuple, TypeAlias, cast

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from pipeline.chains.lanes import Lane
from pipeline.chains.local_pool import Pool
from pipeline.chains.task import ChainResults, ChainTask
from pipeline.nets.weights import device_of, flatten
from pipeline.rng import fold, generator
from pipeline.runs.snapshot import Snapshot
from pipeline.samplers.langevin import Langevin
from pipeline.sampling.draw import draw_tasks

ChainStart: TypeAlias = Literal["noise", "data", "bank"]
"""Where chains start: as the recipe says, from data (not where states are latent vectors), from the run's bank."""


class Observation(NamedTuple):
    """Chains at one place of their way."""

    x: Float[Tensor, "n *d"]
    energy: Float[Tensor, " n"]
    """U of the states, in the scale that the chains move under."""
    grad_norm: Float[Tensor, " n"]
    """|dU/dx| on the way there, averaged."""


def has_start(model: Snapshot, start: ChainStart) -> bool:
    """Whether chains of the model can start there."""
    if start == "bank":
        return model.bank is not None
    return start == "noise" or can_start_from_data(model)


def can_start_from_data(model: Snapshot) -> bool:
    """Whether data have states of the model's chains that stand for them."""
    recipe, device = model.job.recipe, device_of(model.nets)
    return recipe.encode(model.nets, model.data.batch(np.arange(1), device)["x"], generator(0, device)) is not None


def start_tasks(model: Snapshot, start: ChainStart, n: int, seed: int) -> list[ChainTask] | None:
    """Tasks of n of the model's chains; None where the model has no such start."""
    recipe, data = model.job.recipe, model.data
    if not has_start(model, start):
        return None
    tasks = draw_tasks(recipe, model.nets, data, n, model.update, fold(seed, start), from_data=start == "data")
    if start == "bank":
        assert model.bank is not None
        index = [np.random.default_rng(fold(t.seed, "bank")).integers(len(model.bank), size=len(t.x)) for t in tasks]
        tasks = [task._replace(x=model.bank[i].numpy()) for task, i in zip(tasks, index, strict=True)]
    return tasks


def run_tasks(pool: Pool, model: Snapshot, tasks: list[ChainTask]) -> ChainResults:
    """The answers of tasks, none of whose lanes are alike, under the model's weights."""
    pool.submit(pool.next, tasks, flatten(model.nets))
    return pool.collect(pool.next - 1)


def tasks_by_start(
    model: Snapshot, starts: Sequence[ChainStart], n: int, seed: int
) -> dict[ChainStart, list[ChainTask]]:
    """Tasks of n chains of each start that the model has, which a pool may move at once: no two have one lane."""
    found = {start: tasks for start in starts if (tasks := start_tasks(model, start, n, seed)) is not None}
    of, numbers = sum(map(len, found.values())), count()
    return {start: [task._replace(lane=Lane(next(numbers), of)) for task in tasks] for start, tasks in found.items()}


def advance_repeatedly(
    pool: Pool, model: Snapshot, tasks: list[ChainTask], steps: int, times: int
) -> Iterator[Observation]:
    """Chains after `steps`, 2 `steps`, ..., `times` * `steps` steps; what a pool does is the same for any actors."""
    chain = model.job.recipe.sample_chain
    for i in range(times):
        sampler = dataclasses.replace(cast(Langevin, tasks[0].sampler), steps=steps)
        tasks = [task._replace(sampler=sampler, seed=fold(task.seed, "stretch", i)) for task in tasks]
        answers = run_tasks(pool, model, tasks)
        parts = [answers[chain, task.lane.index] for task in tasks]
        tasks = [task._replace(x=part.x) for task, part in zip(tasks, parts, strict=True)]
        columns = (np.concatenate([getattr(part, name) for part in parts]) for name in Observation._fields)
        yield Observation(*(torch.from_numpy(column) for column in columns))


STRETCH = 500
"""Steps of a long run that one task makes, so that none is late."""


def stretches(steps: int) -> list[int]:
    """A long run's steps, cut into what one task makes."""
    return [min(STRETCH, steps - done) for done in range(0, steps, STRETCH)]


def with_steps(tasks: list[ChainTask], steps: int) -> list[ChainTask]:
    """The tasks with that many steps and their next seeds."""
    return [
        task._replace(sampler=dataclasses.replace(cast(Any, task.sampler), steps=steps), seed=fold(task.seed, "next"))
        for task in tasks
    ]
