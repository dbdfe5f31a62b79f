"""Flat weights as bfloat16, half as many bytes: numpy has no such type, so their bits travel as uint16."""

from typing import Literal, TypeAlias

import numpy as np
import torch
from jaxtyping import UInt16
from numpy import ndarray

from pipeline.nets.weights import FlatWeights

WeightsType: TypeAlias = Literal["float32", "bfloat16"]
"""Type in which weights are sent to those who move chains."""
SentWeights: TypeAlias = FlatWeights | UInt16[ndarray, " _"]
"""Flat weights in float32, or packed."""


def pack(flat: FlatWeights) -> UInt16[ndarray, " _"]:
    """The nearest bfloat16 of each number (8 bits of exponent, 7 of the mantissa), as bits.

    >>> import numpy as np
    >>> unpack(pack(np.array([1.0, -0.1, 3e38], np.float32))).tolist()
    [1.0, -0.10009765625, 3.004...e+38]
    """
    rounded = torch.from_numpy(flat).bfloat16()
    return rounded.view(torch.int16).numpy().view("uint16")


def unpack(weights: SentWeights) -> FlatWeights:
    """The float32 numbers that packed weights stand for; weights in float32 as they are."""
    if weights.dtype != "uint16":
        return weights
    return np.left_shift(weights, 16, dtype=np.uint32).view(np.float32)
