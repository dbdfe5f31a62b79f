"""What data are to networks and losses: a batch of tensors, and the kind and shape of one item."""

import math
from typing import Literal, NamedTuple, TypeAlias

from torch import Tensor

Batch: TypeAlias = dict[str, Tensor]
"""Tensors of equal leading size: `x`, `index` and, where the data have labels, `label`. Sentences also have `length`,
their number of words with the end. `observed` is 1 where a coordinate of `x` is known and 0 where it is missing."""

LABELLED = "labelled"
"""Name of the stream of items whose label is known to learning; every other stream holds all items."""


class Spec(NamedTuple):
    """Kind and shape of the data; a recipe builds its networks from nothing else.

    >>> Spec("image", (3, 32, 32), num_classes=10).size
    3072
    """

    kind: Literal["image", "vector", "text", "counts"]
    """text: sentences as sequences of word numbers; counts: how often each word occurs in a text (bag of words)."""
    shape: tuple[int, ...]
    """Of one item: (c, h, w) for images in [-1, 1], (d,) for vectors, (longest,) for text, (words,) for counts."""
    num_classes: int
    """Number of labels; 0 where the data have none."""
    frequency: tuple[float, ...] = ()
    """Relative frequency of each word in the training split, summing to 1; empty where the data are not text."""

    @property
    def size(self) -> int:
        """Numbers in one item."""
        return math.prod(self.shape)
