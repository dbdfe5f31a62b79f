"""bfloat16: weights that travel as half as many bytes, and networks whose products need no cast.

numpy has no such type, so the bits of flat weights travel as uint16.
"""

import copy
from collections.abc import Collection
from typing import Literal, TypeAlias

import numpy as np
import torch
from jaxtyping import UInt16
from numpy import ndarray
from torch import nn

from pipeline.nets.weights import FlatWeights, Nets
from pipeline.precision import Precision

WeightsType: TypeAlias = Literal["float32", "bfloat16"]
"""Type in which weights are sent to those who move chains."""
SentWeights: TypeAlias = FlatWeights | UInt16[ndarray, " _"]
"""Flat weights in float32, or packed."""
FACTORS = (nn.Linear, nn.Conv2d, nn.ConvTranspose2d, nn.GRU, nn.Embedding)
"""By exact type, modules whose parameters autocast would cast at each call; embeddings of words are factors of their
scores, too."""


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


def cast_products(nets: Nets) -> Nets:
    """Copies of the networks in which the parameters of FACTORS are bfloat16.

    Under autocast they compute what the networks themselves would, bit for bit, with fewer operators.
    """
    copies = copy.deepcopy(nets)
    for module in (module for net in copies.values() for module in net.modules() if type(module) in FACTORS):
        for name, p in list(module.named_parameters(recurse=False)):
            setattr(module, name, nn.Parameter(p.detach().bfloat16(), requires_grad=False))
    return copies


class NetsByPrecision:
    """Networks that move chains, and their bfloat16 copies: cast once a version of the weights, not at each step."""

    def __init__(self, nets: Nets):
        self.nets, self.copies = nets, dict[str, nn.Module]()

    def at(self, precision: Precision) -> Nets:
        """The networks for tasks of a precision."""
        if precision != "bf16":
            return self.nets
        self.copies = self.copies or cast_products(self.nets)
        return self.copies

    @torch.no_grad()
    def renew(self, names: Collection[str]) -> None:
        """Cast the networks of these names again, where there are copies: they have new weights."""
        for name in names if self.copies else ():
            own = self.nets[name].state_dict()
            for key, tensor in self.copies[name].state_dict().items():
                tensor.copy_(own[key])
