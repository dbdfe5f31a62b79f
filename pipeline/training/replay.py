"""Tasks that are shorter, and results that are there already: to measure what a learner does besides its chains."""

import dataclasses
from typing import Any

from pipeline.chains.local_pool import LocalPool
from pipeline.chains.task import ChainResult, ChainTask
from pipeline.training.worker import Worker


class ReplayPool(LocalPool):
    """A pool whose results are there already: those of one update, with the slots of each task."""

    def __init__(self, worker: Worker, results: dict[str, ChainResult], lag: int):
        super().__init__(worker.job.recipe, worker.learner.nets)
        self.results, self.lag = results, lag

    def submit(self, update: int, tasks: list[ChainTask], flat: Any, frozen: Any = None) -> None:
        """Have the results of `update`, whatever the tasks."""
        self.ready[update] = {
            (task.chain, task.lane.index): self.results[task.chain]._replace(
                lane=task.lane, slots=task.slots, version=update - self.lag, carried=task.carried
            )
            for task in tasks
        }
        self.next = update + 1


def with_steps(task: ChainTask, steps: int) -> ChainTask:
    """The task with so many steps of its sampler, where it is known to have any."""
    if not hasattr(task.sampler, "steps") or not task.sampler.steps:
        return task
    return task._replace(sampler=dataclasses.replace(task.sampler, steps=steps))  # type: ignore[type-var]
