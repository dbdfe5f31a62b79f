"""Multilayer perceptrons; one of them is the energy of the two-dimensional experiments."""

from functools import partial

from jaxtyping import Float
from torch import Tensor, nn

from pipeline.energies.energy import Gradient, autograd_gradient
from pipeline.nets.input_gradient import input_gradient
from pipeline.nets.sizes import require_at_least


class MLP(nn.Sequential):
    """Vectors (n, d) -> vectors (n, outputs): hidden layers of `widths` units with LeakyReLU and, if asked, dropout.

    Raises:
        InputError: a width is below 1.
    """

    def __init__(self, inputs: int, widths: tuple[int, ...], outputs: int, leaky_slope: float, dropout: float = 0.0):
        require_at_least(1, width=min(widths))
        layers: list[nn.Module] = []
        for width in widths:
            layers += [nn.Linear(inputs, width), nn.LeakyReLU(leaky_slope), *([nn.Dropout(dropout)] if dropout else [])]
            inputs = width
        super().__init__(*layers, nn.Linear(inputs, outputs))


class MLPEnergy(MLP):
    """Vectors (n, d) -> energies (n,): an MLP with one output."""

    def __init__(self, inputs: int, widths: tuple[int, ...], leaky_slope: float):
        super().__init__(inputs, widths, 1, leaky_slope)

    def forward(self, x: Float[Tensor, "n d"]) -> Float[Tensor, " n"]:
        """The energy of each vector."""
        return super().forward(x).squeeze(1)

    def gradient(self) -> Gradient:
        """The energy's own gradient (`energies.energy.gradient`)."""
        by_layers = input_gradient(self) if type(self) is MLPEnergy else None
        return by_layers or partial(autograd_gradient, self)
