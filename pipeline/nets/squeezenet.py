"""SqueezeNet v1.0 (Iandola et al. 2016, arXiv:1602.07360): a classifier of ImageNet, from a file, to judge by."""

import zipfile
from itertools import pairwise

import numpy as np
import torch
from jaxtyping import Float
from numpy import ndarray
from torch import Tensor, nn
from torch.nn.functional import interpolate, max_pool2d

from pipeline.errors import InputError

SIZE = 227
"""Pixels a side of what it sees."""
MEAN = (104.0, 117.0, 123.0)
"""Of blue, green and red in [0, 255], in this order; it is subtracted."""
SQUEEZES = (16, 16, 32, 32, 48, 48, 64, 64)
"""Channels of the squeezing layers of fire2 ... fire9; each half of the expanding one has four times as many."""
POOLED = (4, 8)
"""Fire modules after which the maximum is taken, beside conv1."""


class Fire(nn.Module):
    """Channels squeezed by 1x1 convolutions, and expanded by 1x1 and 3x3 ones side by side; ReLU after each."""

    def __init__(self, inputs: int, squeeze: int):
        super().__init__()
        self.conv1x1_1 = nn.Conv2d(inputs, squeeze, 1)
        self.conv1x1_2 = nn.Conv2d(squeeze, 4 * squeeze, 1)
        self.conv3x3_2 = nn.Conv2d(squeeze, 4 * squeeze, 3, padding=1)

    def forward(self, x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n e h w"]:
        """(n, 8 squeeze, h, w)."""
        squeezed = self.conv1x1_1(x).relu_()
        return torch.cat([self.conv1x1_2(squeezed), self.conv3x3_2(squeezed)], 1).relu_()


class SqueezeNet(nn.Module):
    """Images (n, 1 or 3, h, w) in [-1, 1] -> features (n, 512) and unnormalised log-probabilities of 1,000 classes."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 96, 7, 2)
        widths = [96, *(8 * squeeze for squeeze in SQUEEZES)]
        for i, ((inputs, _), squeeze) in enumerate(zip(pairwise(widths), SQUEEZES, strict=True), 2):
            self.add_module(f"fire{i}", Fire(inputs, squeeze))
        self.conv_final = nn.Conv2d(widths[-1], 1000, 1)

    def forward(self, x: Float[Tensor, "n c h w"]) -> tuple[Float[Tensor, "n 512"], Float[Tensor, "n 1000"]]:
        """The mean over positions of fire9, and that of the scores made of it."""
        x = max_pool2d(self.conv1(_seen(x)).relu_(), 3, 2, ceil_mode=True)
        for i in range(2, 2 + len(SQUEEZES)):
            x = self.get_submodule(f"fire{i}")(x)
            if i in POOLED:
                x = max_pool2d(x, 3, 2, ceil_mode=True)
        return x.mean((2, 3)), self.conv_final(x).relu_().mean((2, 3))


def _seen(x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n 3 227 227"]:
    """Blue, green, red in [0, 255] less their means, bilinear; beyond [-1, 1] clipped, as in a file."""
    x = (x.float().clamp(-1, 1) + 1) * 127.5
    x = interpolate(x.expand(-1, 3, -1, -1), (SIZE, SIZE), mode="bilinear", antialias=True)
    return x.flip(1) - x.new_tensor(MEAN).view(1, 3, 1, 1)


def squeezenet(path: str) -> SqueezeNet:
    """The network of an .npz with `<layer>/weight` (out, in, height, width) and `<layer>/bias`; frozen.

    Raises:
        InputError: there is no such file, it is damaged, or its layers are others.
    """
    net = SqueezeNet()
    try:
        with np.load(path) as file:
            found: dict[str, ndarray] = {name.replace("/", "."): file[name] for name in file.files}
        net.load_state_dict({name: torch.from_numpy(array) for name, array in found.items()})
    except FileNotFoundError as e:
        raise InputError("there is no such file", "squeezenet", path) from e
    except (OSError, ValueError, AttributeError, EOFError, zipfile.BadZipFile) as e:
        raise InputError(f"it is not an .npz that can be read: {str(e).splitlines()[0]}", "squeezenet", path) from e
    except (RuntimeError, TypeError) as e:
        lines = [line.strip() for line in str(e).splitlines() if line.strip()]
        raise InputError(
            f"it holds no SqueezeNet v1.0: {lines[min(1, len(lines) - 1)][:160]}", "squeezenet", path
        ) from e
    return net.eval().requires_grad_(False)
