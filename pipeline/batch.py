"""What data are to networks and losses: a batch of tensors, and the kind and shape of one item."""

import math
from typing import Literal, NamedTuple, TypeAlias

from torch import Tensor

Batch: TypeAlias = dict[str, Tensor]
"""Tensors of equal leading size: `x`, `index` and, where there are any, `label`; `length` of sentences, their words and
the end; `observed`, 1 where a coordinate of `x` is known and 0 where it is to be completed."""


class Spec(NamedTuple):
    """Kind and shape of the data, which is all that networks are built from."""

    kind: Literal["image", "vector", "text", "counts"]
    """text: sentences, as the numbers of their words; counts: how often each word is in a text (bag of words)."""
    shape: tuple[int, ...]
    """Of one item: (c, h, w) for images in [-1, 1], (d,) for vectors, (longest,) for text, (words,) for counts."""
    num_classes: int
    """Number of labels; 0 where the data have none."""
    frequency: tuple[float, ...] = ()
    """Of each word in what is learned from, all of them together 1; empty for what is no text."""

    @property
    def size(self) -> int:
        """Numbers in one item."""
        return math.prod(self.shape)
