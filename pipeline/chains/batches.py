"""Which tasks of a process move as one batch: on a GPU, which takes as long to launch small operators as to compute.

Where a batch is cut makes no difference but that of rounding, since each lane has noise of its own. On a CPU every task
moves by itself, so that its numbers are the same bit for bit wherever it moves.
"""

from collections.abc import Iterable
from typing import Any

import torch

from pipeline.chains.task import ChainTask
from pipeline.samplers.langevin import Langevin

MOST_CHAINS = 512
"""Chains of a batch of several tasks: an evaluation has many tasks, which would not fit a GPU's memory together."""


def batches_of_tasks(tasks: Iterable[ChainTask], device: torch.device) -> list[list[ChainTask]]:
    """The tasks by the batch in which they move, in the order of their first."""
    batches: list[list[ChainTask]] = []
    for task in tasks:
        fits = (batch for batch in batches if device.type != "cpu" and _fits(task, batch))
        batch = next(fits, None)
        if batch is None:
            batches.append([task])
        else:
            batch.append(task)
    return batches


def _fits(task: ChainTask, batch: list[ChainTask]) -> bool:
    return (
        isinstance(task.sampler, Langevin)
        and all(len(array) == len(task.x) for array in (task.context or {}).values())
        and (len(batch) + 1) * len(task.x) <= MOST_CHAINS
        and _in_common(task) == _in_common(batch[0])
    )


def _in_common(task: ChainTask) -> tuple[Any, ...]:
    """What tasks of a batch have in common."""
    arrays = {"": task.x, **(task.context or {})}
    shapes = {name: (array.shape, array.dtype) for name, array in arrays.items()}
    return task.chain, task.sampler, task.version, task.settings, task.precision, shapes
