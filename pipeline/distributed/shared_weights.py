"""Weights that all learners have alike: on each node one of them puts them into the object store for all.

References travel through an actor, since one that is pickled otherwise would stay in the store. It knows no paper.
"""

import threading
from collections import Counter
from collections.abc import Callable, Sequence
from typing import TypeAlias

import ray
from ray.actor import ActorHandle
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

WeightRefs: TypeAlias = list[ray.ObjectRef]
"""References to the flat weights of one version: of all networks, or of those that learn and of the frozen ones."""


class WeightsBoard:
    """References to weights, by the rank that has put them, until all who send them on have read them."""

    def __init__(self) -> None:
        self._posted: dict[tuple[int, int], WeightRefs] = {}
        self._left: dict[tuple[int, int], int] = {}
        self._changed = threading.Condition()

    def post(self, rank: int, number: int, refs: WeightRefs, readers: int) -> None:
        """Show the weights that a rank has put as its `number`-th, to so many readers."""
        with self._changed:
            self._posted[rank, number], self._left[rank, number] = refs, readers
            self._changed.notify_all()

    def read(self, rank: int, number: int) -> WeightRefs:
        """The weights that a rank has put as its `number`-th; waits for them."""
        key = rank, number
        with self._changed:
            self._changed.wait_for(lambda: key in self._posted)
            self._left[key] -= 1
            if self._left[key]:
                return self._posted[key]
            del self._left[key]
            return self._posted.pop(key)

    def size(self) -> int:
        """How many versions have not been read by all."""
        return len(self._posted)


class SharedWeights:
    """One rank's part: it puts weights for other ranks, or sends those on that another rank has put, or both."""

    def __init__(self, board: ActorHandle, rank: int, sources: Sequence[int], readers: int):
        """Begin with the first version.

        Args:
            board: a WeightsBoard, the same for all ranks.
            rank: this one.
            sources: by actor of this rank, the rank that puts its weights.
            readers: how many other ranks send on what this one puts.
        """
        self.board, self.rank, self.sources, self.readers, self.number = board, rank, sources, readers, 0

    def by_actor(self, put: Callable[[], WeightRefs]) -> list[WeightRefs]:
        """References to the next version for each actor of this rank; all ranks call this for the same versions.

        Args:
            put: puts the version into the object store. It is called only where an actor gets this rank's.
        """
        by_rank = dict[int, WeightRefs]()
        if self.readers or self.rank in self.sources:
            by_rank[self.rank] = put()
        if self.readers:
            self.board.post.remote(self.rank, self.number, by_rank[self.rank], self.readers)
        others = sorted({*self.sources} - {self.rank})
        found = ray.get([self.board.read.remote(rank, self.number) for rank in others])
        by_rank |= dict(zip(others, found, strict=True))
        self.number += 1
        return [by_rank[rank] for rank in self.sources]


def readers_by_rank(sources: Sequence[Sequence[int]]) -> list[int]:
    """How many other ranks send on what each rank puts.

    >>> readers_by_rank([[0, 0], [0, 2], [2, 2]])
    [1, 0, 1]

    Args:
        sources: by rank and actor, as `locality.sources_by_rank` returns them.
    """
    counts = Counter(source for reader, own in enumerate(sources) for source in {*own} - {reader})
    return [counts[rank] for rank in range(len(sources))]


def start_board(ranks: int) -> ActorHandle:
    """A board on this node, which ends with this process; as many may wait as there are ranks, while others post."""
    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    options = {"num_cpus": 0, "max_concurrency": ranks + 1, "scheduling_strategy": here}
    return ray.remote(**options)(WeightsBoard).remote()
