"""What data are to networks and losses: a batch of tensors, and the kind and shape of one item."""

import math
from typing import Literal, NamedTuple, TypeAlias

from torch import Tensor

Batch: TypeAlias = dict[str, Tensor]
"""`x`, `index` and, where the data have them, `label`, `length`: tensors of equal leading size."""


class Spec(NamedTuple):
    """Kind and shape of the data, which is all that networks are built from."""

    kind: Literal["image", "vector"]
    shape: tuple[int, ...]
    """Of one item: (c, h, w) for images in [-1, 1], (d,) for vectors."""
    classes: int
    """Number of labels; 0 where the data have none."""

    @property
    def size(self) -> int:
        """Numbers in one item."""
        return math.prod(self.shape)
