"""The ConvNet energy of 1904.09770 and 1903.12370."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from pipeline.errors import BadInput


class ConvEnergy(nn.Sequential):
    """Images (n, c, h, w) in [-1, 1] -> energies (n,).

    A 3x3 convolution at full size, 4x4 convolutions of stride 2 that halve the image and double the width (up to
    eightfold) until at most 4 pixels are left, and one valid convolution to a number; LeakyReLU between. No
    normalisation: it would couple chains. Weights are channels_last.

    Raises:
        BadInput: an image smaller than 4x4, or no width.
    """

    def __init__(self, shape: tuple[int, ...], width: int, slope: float):
        channels, *size = shape
        if width < 1:
            raise BadInput(f"--width {width}: it must be 1 or more")
        if min(size) < 4:
            raise BadInput(f"images of {size[0]}x{size[1]} are too small for the ConvNet energy: it takes 4x4 and more")
        layers: list[nn.Module] = [nn.Conv2d(channels, width, 3, 1, 1), nn.LeakyReLU(slope)]
        inner = width
        while min(size) > 4:
            outer = min(2 * inner, 8 * width)
            layers += [nn.Conv2d(inner, outer, 4, 2, 1), nn.LeakyReLU(slope)]
            size, inner = [s // 2 for s in size], outer
        layers.append(nn.Conv2d(inner, 1, (size[0], size[1])))
        super().__init__(*layers)
        self.to(memory_format=torch.channels_last)

    def forward(self, x: Float[Tensor, "n c h w"]) -> Float[Tensor, " n"]:
        """The energy of each image."""
        dtype = next(self.parameters()).dtype
        return super().forward(x.to(dtype=dtype, memory_format=torch.channels_last)).flatten()
