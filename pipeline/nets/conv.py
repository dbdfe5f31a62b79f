"""The ConvNet energy of 1904.09770 and 1903.12370, and the choice between it and an MLP by the kind of data."""

from functools import partial

import torch
from jaxtyping import Float
from torch import Tensor, nn

from pipeline.batch import Spec
from pipeline.energies.energy import Gradient, autograd_gradient
from pipeline.errors import InputError
from pipeline.nets.input_gradient import input_gradient
from pipeline.nets.mlp import MLPEnergy
from pipeline.nets.sizes import require_at_least

PIECE = 32
"""Chains per gradient call on a CPU: the activations of more do not fit its caches."""


def halving_layers(
    shape: tuple[int, ...], width: int, leaky_slope: float
) -> tuple[list[nn.Module], tuple[int, int, int]]:
    """Layers from images of `shape` to a side of 4 pixels or fewer, and the shape (c, h, w) of their output.

    A 3x3 convolution at full size, then 4x4 convolutions of stride 2 that halve the image and double the width, up to
    eightfold; LeakyReLU after each. Raises InputError for a width below 1.
    """
    require_at_least(1, width=width)
    channels, height, across = shape
    layers: list[nn.Module] = [nn.Conv2d(channels, width, 3, 1, 1), nn.LeakyReLU(leaky_slope)]
    inner = width
    while min(height, across) > 4:
        outer = min(2 * inner, 8 * width)
        layers += [nn.Conv2d(inner, outer, 4, 2, 1), nn.LeakyReLU(leaky_slope)]
        height, across, inner = height // 2, across // 2, outer
    return layers, (inner, height, across)


class ConvEnergy(nn.Sequential):
    """Images (n, c, h, w) in [-1, 1] -> energies (n,).

    Convolutions that halve the image (`halving_layers`), then a valid convolution to one number. Without normalisation
    layers, which would couple chains. Weights are channels_last.

    Raises:
        InputError: images are smaller than 4x4, or `width` is below 1.
    """

    def __init__(self, shape: tuple[int, ...], width: int, leaky_slope: float):
        _, *size = shape
        if min(size) < 4:
            raise InputError(
                f"images of {size[0]}x{size[1]} are too small for the ConvNet energy, which takes 4x4 and more"
            )
        layers, (inner, *end) = halving_layers(shape, width, leaky_slope)
        super().__init__(*layers, nn.Conv2d(inner, 1, (end[0], end[1])))
        self.to(memory_format=torch.channels_last)

    def forward(self, x: Float[Tensor, "n c h w"]) -> Float[Tensor, " n"]:
        """The energy of each image."""
        dtype = next(self.parameters()).dtype
        return super().forward(x.to(dtype=dtype, memory_format=torch.channels_last)).flatten()

    def gradient(self) -> Gradient:
        """The energy's own gradient (`energies.energy.gradient`)."""
        by_layers = input_gradient(self) if type(self) is ConvEnergy else None
        if by_layers is None:
            return partial(autograd_gradient, self)
        dtype = next(self.parameters()).dtype

        def gradient(x: Tensor) -> Tensor:
            piece = PIECE if x.device.type == "cpu" else max(len(x), 1)
            pieces = x.to(dtype=dtype, memory_format=torch.channels_last).split(piece)
            return torch.cat([by_layers(part) for part in pieces]).to(x.dtype)

        return gradient


def build_energy(spec: Spec, width: int, leaky_slope: float) -> nn.Module:
    """The energy for a kind of data: the ConvNet for images, otherwise an MLP with three layers of `width` units.

    Raises:
        InputError: images are smaller than 4x4, or `width` is below 1.
    """
    if spec.kind == "image":
        return ConvEnergy(spec.shape, width, leaky_slope)
    return MLPEnergy(spec.size, (width,) * 3, leaky_slope)
