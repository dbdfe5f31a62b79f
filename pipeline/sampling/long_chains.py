"""Long chains of a model, from noise, data or the bank, observed at regular intervals and moved by any pool."""

import dataclasses
from collections.abc import Iterator, Sequence
from itertools import count
from typing import Any, NamedTuple, cast

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from pipeline.chains.lanes import Lane
from pipeline.chains.local_pool import Pool
from pipeline.chains.task import ChainTask
from pipeline.rng import fold, generator
from pipeline.runs.snapshot import Snapshot
from pipeline.sampling.draw import ChainStart, draw_tasks, run_tasks

STRETCH = 500
"""Steps of a long run that one task makes, so that no task takes long."""


class Observation(NamedTuple):
    """n chains after some of their steps."""

    x: Float[Tensor, "n *d"]
    energy: Float[Tensor, " n"]
    """U of the states, on the scale that the chains move under."""
    grad_norm: Float[Tensor, " n"]
    """|dU/dx|, averaged over the steps since the observation before."""


def has_start(snapshot: Snapshot, start: ChainStart) -> bool:
    """Whether chains of the model can start there."""
    if start == "bank":
        return snapshot.bank is not None
    return start == "noise" or can_start_from_data(snapshot)


def can_start_from_data(snapshot: Snapshot) -> bool:
    """Whether data can be encoded to states of the sample chain."""
    x = snapshot.data.batch(np.arange(1), snapshot.device)["x"]
    return snapshot.recipe.encode(snapshot.nets, x, generator(0, snapshot.device)) is not None


def start_tasks(snapshot: Snapshot, start: ChainStart, n: int, seed: int) -> list[ChainTask] | None:
    """Tasks of n sample chains; None where the model has no such start."""
    if not has_start(snapshot, start):
        return None
    return draw_tasks(snapshot, n, fold(seed, start), start)


def tasks_by_start(
    snapshot: Snapshot, starts: Sequence[ChainStart], n: int, seed: int
) -> dict[ChainStart, list[ChainTask]]:
    """Tasks of n chains for each start that the model has, all with lanes of their own, so that a pool can run them."""
    found = {start: tasks for start in starts if (tasks := start_tasks(snapshot, start, n, seed)) is not None}
    total, numbers = sum(map(len, found.values())), count()
    return {start: [task._replace(lane=Lane(next(numbers), total)) for task in tasks] for start, tasks in found.items()}


def advance_repeatedly(
    pool: Pool, snapshot: Snapshot, tasks: list[ChainTask], steps: int, times: int
) -> Iterator[Observation]:
    """The chains after `steps`, 2 `steps`, ..., `times` * `steps` steps; independent of the number of actors."""
    chain = snapshot.recipe.sample_chain
    for i in range(times):
        tasks = [task._replace(seed=fold(task.seed, "stretch", i)) for task in with_steps(tasks, steps)]
        results = run_tasks(pool, snapshot.nets, tasks)
        parts = [results[chain, task.lane.index] for task in tasks]
        tasks = [task._replace(x=part.x) for task, part in zip(tasks, parts, strict=True)]
        columns = (np.concatenate([getattr(part, name) for part in parts]) for name in Observation._fields)
        yield Observation(*(torch.from_numpy(column) for column in columns))


def stretches(steps: int) -> list[int]:
    """A long run's steps, split into what one task makes."""
    return [min(STRETCH, steps - done) for done in range(0, steps, STRETCH)]


def with_steps(tasks: list[ChainTask], steps: int) -> list[ChainTask]:
    """The same tasks with another number of steps."""
    return [task._replace(sampler=dataclasses.replace(cast(Any, task.sampler), steps=steps)) for task in tasks]
