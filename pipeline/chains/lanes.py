"""Lanes: fixed shares of a job, to which data, bank slots and seeds belong.

A job has P lanes, whatever the number of learners and actors that work them. Lane p owns the data items and bank slots
i = p (mod P). Rank r of W works the lanes p = r (mod W). So no random number depends on W.
"""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from jaxtyping import Int64
from numpy import ndarray

from pipeline.rng import fold, generator


@dataclass(frozen=True)
class Lane:
    """Share `index` of `count`."""

    index: int
    count: int

    def size(self, items: int) -> int:
        """Number of the items 0 ... `items` - 1 that the lane owns."""
        return len(range(self.index, items, self.count))


def lanes_of_rank(lanes: int, rank: int = 0, world: int = 1) -> list[Lane]:
    """The lanes, out of `lanes`, that rank `rank` of `world` works."""
    return [Lane(p, lanes) for p in range(rank, lanes, world)]


def batch_indices(lane: Lane, items: int, n: int, update: int, seed: int) -> Int64[ndarray, " n"]:
    """Indices of the n data items in the lane's part of batch `update`.

    In each epoch the lane walks through a permutation of its own items, drawn from `seed`. So the order is a function
    of (seed, update). With fewer items than lanes, each lane draws from all items with replacement.
    """
    own = lane.size(items)
    if items < lane.count:
        rng = generator(fold(seed, "replacement", update, lane.index))
        return torch.randint(items, (n,), generator=rng).numpy()
    position = update * n + np.arange(n)
    epochs = position // own
    parts = [_permutation(own, fold(seed, "epoch", int(e), lane.index))[position[epochs == e] % own]
             for e in np.unique(epochs)]  # fmt: skip
    return np.concatenate(parts) * lane.count + lane.index


@lru_cache(maxsize=64)
def _permutation(n: int, seed: int) -> ndarray:
    return torch.randperm(n, generator=generator(seed)).numpy()
