"""The multilayer perceptron energy of the two-dimensional experiments."""

from jaxtyping import Float
from torch import Tensor, nn

from pipeline.errors import BadInput


class MLPEnergy(nn.Sequential):
    """Vectors (n, d) -> energies (n,): linear layers of the given widths, LeakyReLU between.

    Raises:
        BadInput: a layer of no width.
    """

    def __init__(self, inputs: int, widths: tuple[int, ...], slope: float):
        if min(widths) < 1:
            raise BadInput(f"--width {min(widths)}: it must be 1 or more")
        layers: list[nn.Module] = []
        for width in widths:
            layers += [nn.Linear(inputs, width), nn.LeakyReLU(slope)]
            inputs = width
        super().__init__(*layers, nn.Linear(inputs, 1))

    def forward(self, x: Float[Tensor, "n d"]) -> Float[Tensor, " n"]:
        """The energy of each vector."""
        return super().forward(x).squeeze(1)
