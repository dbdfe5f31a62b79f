"""What divergence is, and what is done about it: a non-finite number stops the run and says where it arose."""

from dataclasses import dataclass

import torch
from torch import Tensor

QUANTITIES = ("chain states", "loss", "gradient")
"""What is looked at on every lane before the weights move; bit i of a lane's flag says that the i-th is not finite."""


@dataclass(eq=False)
class Diverged(Exception):
    """A quantity is no longer finite. The newest checkpoint was written before that."""

    quantity: str
    update: int
    version: int
    """The update whose weights moved the chains."""
    lane: int
    """-1 where the quantity belongs to no lane."""
    seed: int
    """The seed of the lane's chains, or the run's."""

    def __str__(self) -> str:
        place = f"lane {self.lane}" if self.lane >= 0 else "all lanes"
        return (
            f"diverged: {self.quantity} not finite at update {self.update} ({place}, seed {self.seed}, "
            f"chains moved under the weights of update {self.version})"
        )


def flag(*quantities: list[Tensor]) -> Tensor:
    """One number, 0 where all of the QUANTITIES are finite, without waiting for the device."""
    bad = [
        (~torch.stack([t.isfinite().all() for t in group]).all()).float() * 2**i
        for i, group in enumerate(quantities)
        if group
    ]
    return torch.stack(bad).sum()


def named(flag: int) -> str:
    """The first quantity that a lane's flag names."""
    return next(q for i, q in enumerate(QUANTITIES) if flag >> i & 1)
