"""Multilayer perceptrons; the energy of the two-dimensional experiments is one."""

from jaxtyping import Float
from torch import Tensor, nn

from pipeline.energies import by_autograd
from pipeline.errors import BadInput
from pipeline.nets.by_hand import by_hand, known


class MLP(nn.Sequential):
    """Vectors (n, d) -> vectors (n, outputs): linear layers of the given widths, LeakyReLU between.

    Raises:
        BadInput: a layer of no width.
    """

    def __init__(self, inputs: int, widths: tuple[int, ...], outputs: int, slope: float):
        if min(widths) < 1:
            raise BadInput(f"--width {min(widths)}: it must be 1 or more")
        layers: list[nn.Module] = []
        for width in widths:
            layers += [nn.Linear(inputs, width), nn.LeakyReLU(slope)]
            inputs = width
        super().__init__(*layers, nn.Linear(inputs, outputs))


class MLPEnergy(MLP):
    """Vectors (n, d) -> energies (n,), by an MLP."""

    def __init__(self, inputs: int, widths: tuple[int, ...], slope: float):
        super().__init__(inputs, widths, 1, slope)

    def forward(self, x: Float[Tensor, "n d"]) -> Float[Tensor, " n"]:
        """The energy of each vector."""
        return super().forward(x).squeeze(1)

    def gradient(self, x: Float[Tensor, "n d"]) -> Float[Tensor, "n d"]:
        """dU/dx, for chains (`energies.gradient`)."""
        plain = type(self) is MLPEnergy and known(self)
        return by_hand(self, x) if plain else by_autograd(self, x)
