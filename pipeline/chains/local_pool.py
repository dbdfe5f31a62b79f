"""Pools move chains. `Pool` is their interface; `LocalPool` works in this process."""

from typing import Protocol, runtime_checkable

from pipeline.chains.batches import batches_of_tasks
from pipeline.chains.task import ChainResults, ChainTask, move_as_one_batch
from pipeline.nets.bfloat16 import NetsByPrecision, SentWeights, unpack
from pipeline.nets.weights import FlatWeights, Nets, device_of, eval_copy, load, partition
from pipeline.recipe import Recipe


@runtime_checkable
class Pool(Protocol):
    """Moves chains: a LocalPool, or an ActorPool."""

    next: int
    """The first update whose tasks were not submitted yet."""
    ready: dict[int, ChainResults]
    """Results that have arrived and were not collected yet, by update."""
    remote: bool
    """Whether other processes do the work."""
    faults: dict[str, int]
    """Number of tasks `resent` because they were late or lost, and of tries that `died` with an actor for good."""

    def submit(self, update: int, tasks: list[ChainTask], flat: SentWeights, frozen: FlatWeights | None = None) -> None:
        """Start the tasks whose results `update` will use; also again, after it was collected.

        Args:
            update: the update.
            tasks: its tasks, all of different chains or lanes.
            flat: the weights that move them: of all networks, or, if `frozen` is passed, of the networks that learn;
                in bfloat16 as `nets.bfloat16.pack` returns them.
            frozen: the weights of the recipe's frozen networks, the same array object as long as they are the same.
        """

    def collect(self, update: int) -> ChainResults:
        """The results of `update`, once; waits for them."""
        ...

    def drain(self) -> dict[int, ChainResults]:
        """All results not collected yet, by update; waits for them, and leaves them to be collected."""
        ...

    def reset(self) -> None:
        """Drop everything that was submitted, and start again at update 0."""


class LocalPool:
    """Moves chains in this process, with its own copies of the networks: the pool of a run without actors."""

    remote = False

    def __init__(self, recipe: Recipe, nets: Nets):
        self.recipe, self.nets, self.next, self.ready = recipe, eval_copy(nets), 0, dict[int, ChainResults]()
        self.by_precision = NetsByPrecision(self.nets)
        self.faults = {"resent": 0, "died": 0}
        self.frozen: FlatWeights | None = None

    def submit(self, update: int, tasks: list[ChainTask], flat: SentWeights, frozen: FlatWeights | None = None) -> None:
        """Move the chains that `update` will use, before the call returns."""
        learning, others = partition(self.nets, self.recipe.frozen if frozen is not None else ())
        load(learning, unpack(flat))
        self.by_precision.renew(learning)
        if frozen is not None and frozen is not self.frozen:
            load(others, frozen)
            self.by_precision.renew(others)
        self.frozen = frozen
        results: ChainResults = {}
        for batch in batches_of_tasks(tasks, device_of(self.nets)):
            moved = move_as_one_batch(self.recipe, self.by_precision.at(batch[0].precision), batch)
            results |= {(batch[0].chain, result.lane.index): result for result in moved}
        self.ready[update] = results
        self.next = max(self.next, update + 1)

    def collect(self, update: int) -> ChainResults:
        """The results of `update`, once."""
        return self.ready.pop(update)

    def drain(self) -> dict[int, ChainResults]:
        """All results not collected yet, by update; they stay to be collected."""
        return self.ready

    def reset(self) -> None:
        """Drop everything that was submitted, and start again at update 0."""
        self.ready, self.next = {}, 0
