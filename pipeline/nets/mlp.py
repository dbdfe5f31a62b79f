"""The multilayer perceptron energy of the two-dimensional experiments."""

from jaxtyping import Float
from torch import Tensor, nn


class MLPEnergy(nn.Sequential):
    """Vectors (n, d) -> energies (n,): linear layers of the given widths, LeakyReLU between."""

    def __init__(self, inputs: int, widths: tuple[int, ...], slope: float):
        layers: list[nn.Module] = []
        for width in widths:
            layers += [nn.Linear(inputs, width), nn.LeakyReLU(slope)]
            inputs = width
        super().__init__(*layers, nn.Linear(inputs, 1))

    def forward(self, x: Float[Tensor, "n d"]) -> Float[Tensor, " n"]:
        """The energy of each vector."""
        return super().forward(x).squeeze(1)
