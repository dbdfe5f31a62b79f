"""An energy with a learned constant, -log p(x) = U(x) + c, where c is an estimate of log Z."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from pipeline.batch import Spec
from pipeline.nets.conv import build_energy, halving_layers
from pipeline.nets.mlp import MLP


class EnergyWithConstant(nn.Module):
    """Data -> -log p(x) = U(x) + c.

    With `classes` heads F the energy is U = -log sum_k exp F(x)_k, so p(x, k) ~ exp F(x)_k and softmax F is a
    classifier. With 0 heads U is a network of one output. Images have a ConvNet, vectors an MLP with three hidden
    layers.

    Raises:
        InputError: images are too small, or `width` is below 1.
    """

    def __init__(self, spec: Spec, classes: int, width: int, leaky_slope: float):
        super().__init__()
        self.classes = classes
        self.net = _heads(spec, classes, width, leaky_slope) if classes else build_energy(spec, width, leaky_slope)
        self.constant = nn.Parameter(torch.zeros(()))

    def forward(self, x: Float[Tensor, "n *d"]) -> Float[Tensor, " n"]:
        """U(x) + c."""
        return (-self.net(x).logsumexp(1) if self.classes else self.net(x)) + self.constant

    def heads(self, x: Float[Tensor, "n *d"]) -> Float[Tensor, "n k"]:
        """F(x)."""
        return self.net(x)


def _heads(spec: Spec, classes: int, width: int, leaky_slope: float) -> nn.Sequential:
    if spec.kind != "image":
        return MLP(spec.size, (width,) * 3, classes, leaky_slope)
    layers, (inner, *end) = halving_layers(spec.shape, width, leaky_slope)
    return nn.Sequential(*layers, nn.Conv2d(inner, classes, (end[0], end[1])), nn.Flatten())
