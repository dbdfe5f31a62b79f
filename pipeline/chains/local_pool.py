"""Pools: what moves chains. `Pool` is the interface; `LocalPool` works in this process."""

from typing import Protocol, runtime_checkable

from jaxtyping import Float32
from numpy import ndarray

from pipeline.chains.task import ChainResults, ChainTask, advance
from pipeline.nets.weights import Nets, eval_copy, load, partition
from pipeline.recipe import Recipe


@runtime_checkable
class Pool(Protocol):
    """What moves chains: a LocalPool, or a Pool of actors."""

    next: int
    """The first update whose chains were not submitted yet."""
    ready: dict[int, ChainResults]
    """Answers that came back before they were asked for."""
    remote: bool
    """Whether other processes do the work."""
    faults: dict[str, int]
    """Tasks `resent` because they were late or lost, and tries that `died` with an actor that is gone for good."""

    def submit(
        self,
        update: int,
        tasks: list[ChainTask],
        flat: Float32[ndarray, " p"],
        fixed: Float32[ndarray, " q"] | None = None,
    ) -> None:
        """Begin the tasks that `update` will use, under the weights `flat`; again, if it was collected already.

        `fixed` are the weights of the recipe's fixed networks, the same array each time, and `flat` those of the
        others; without it `flat` has them all.
        """

    def collect(self, update: int) -> ChainResults:
        """The answers of `update`, once all are there."""
        ...

    def drain(self) -> dict[int, ChainResults]:
        """All answers not collected yet, by update; they stay to be collected."""
        ...

    def reset(self) -> None:
        """Drop all that was submitted, and begin at update 0."""


class LocalPool:
    """Moves chains in this process, with networks of its own: the pool of a run without actors."""

    remote = False

    def __init__(self, recipe: Recipe, nets: Nets):
        self.recipe, self.nets, self.next, self.ready = recipe, eval_copy(nets), 0, dict[int, ChainResults]()
        self.faults = {"resent": 0, "died": 0}
        self.fixed: ndarray | None = None

    def submit(
        self,
        update: int,
        tasks: list[ChainTask],
        flat: Float32[ndarray, " p"],
        fixed: Float32[ndarray, " q"] | None = None,
    ) -> None:
        """Move the chains that `update` will use, under the weights `flat`, which all its tasks name, and `fixed`."""
        learned, others = partition(self.nets, self.recipe.frozen if fixed is not None else ())
        load(learned, flat)
        if fixed is not None and fixed is not self.fixed:
            load(others, fixed)
        self.fixed = fixed
        self.ready[update] = {(t.chain, t.lane.index): advance(self.recipe, self.nets, t) for t in tasks}
        self.next = max(self.next, update + 1)

    def collect(self, update: int) -> ChainResults:
        """The answers of `update`, once."""
        return self.ready.pop(update)

    def drain(self) -> dict[int, ChainResults]:
        """All answers not collected yet, by update; they stay to be collected."""
        return self.ready

    def reset(self) -> None:
        """Drop all that was submitted, and begin at update 0."""
        self.ready, self.next = {}, 0
