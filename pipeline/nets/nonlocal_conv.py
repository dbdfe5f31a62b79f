"""The non-local ConvNet energy, which 1903.12370 uses for convergent learning of images."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from pipeline.errors import InputError
from pipeline.nets.sizes import require_at_least


class NonLocal(nn.Module):
    """Self-attention over the pixels of a feature map, added to it (arXiv:1711.07971, embedded Gaussian).

    Max-pooling halves keys and values in size; 1x1 convolutions halve queries, keys and values in width. The last
    convolution is initialised to zero, so a new block is the identity.
    """

    def __init__(self, width: int):
        super().__init__()
        inner = max(1, width // 2)
        self.query, self.key, self.value = (nn.Conv2d(width, inner, 1) for _ in range(3))
        self.out = nn.Conv2d(inner, width, 1)
        for p in self.out.parameters():
            nn.init.zeros_(p)

    def forward(self, x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n c h w"]:
        """Each pixel plus a weighted mean over all pixels."""
        query = self.query(x).flatten(2).transpose(1, 2)
        key, value = (nn.functional.max_pool2d(f(x), 2).flatten(2) for f in (self.key, self.value))
        attention = (query @ key).softmax(2) @ value.transpose(1, 2)
        return x + self.out(attention.transpose(1, 2).unflatten(2, x.shape[2:]))


class NonLocalEnergy(nn.Sequential):
    """Images (n, c, h, w) in [-1, 1] -> energies (n,).

    Three 3x3 convolutions of width, 2 width and 4 width, each with LeakyReLU and 2x2 max-pooling; a non-local block
    before the second and the third; then two linear layers. Weights are channels_last.

    Raises:
        InputError: images are smaller than 8x8, or `width` is below 1.
    """

    def __init__(self, shape: tuple[int, ...], width: int, leaky_slope: float):
        channels, *size = shape
        require_at_least(1, width=width)
        if min(size) < 8:
            raise InputError(
                f"images of {size[0]}x{size[1]} are too small for the non-local energy, which takes 8x8 and more"
            )
        layers: list[nn.Module] = []
        for i, outer in enumerate((width, 2 * width, 4 * width)):
            layers += [NonLocal(channels)] if i else []
            layers += [nn.Conv2d(channels, outer, 3, 1, 1), nn.LeakyReLU(leaky_slope), nn.MaxPool2d(2)]
            channels, size = outer, [s // 2 for s in size]
        inner = channels * size[0] * size[1]
        head = [nn.Flatten(), nn.Linear(inner, 8 * width), nn.LeakyReLU(leaky_slope), nn.Linear(8 * width, 1)]
        super().__init__(*layers, *head)
        self.to(memory_format=torch.channels_last)

    def forward(self, x: Float[Tensor, "n c h w"]) -> Float[Tensor, " n"]:
        """The energy of each image."""
        dtype = next(self.parameters()).dtype
        return super().forward(x.to(dtype=dtype, memory_format=torch.channels_last)).squeeze(1)
