"""Vectors for local image content, and matrices that local motion turns them by (1911.11374; 1902.03871).

A patch I around a place has the vector v = W I, and a motion of the image by dx turns each block of v by an angle that
is linear in dx: v(I moved by dx) = M(dx) v(I). Patches come back as W^T v: the rows of W are a tied frame.
"""

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn

from pipeline.nets.weights import Nets

CUTOFF = 0.4
"""Cycles per pixel above which images hold little but noise."""
MARGIN = 4
"""Pixels by which an image is continued for its filter."""
FAINTEST = 1e-3
"""Standard deviation below which an image counts as constant."""


class PatchCode(nn.Module):
    """W and the angles of M(dx).

    Args:
        size: pixels in a row of a patch.
        pairs: blocks of two units.

    >>> code = PatchCode(8, 3)
    >>> v = code(torch.zeros(5, 8, 8))
    >>> v.shape, code.move(v, torch.ones(5, 2)).shape, code.decode(v).shape
    (torch.Size([5, 3, 2]), torch.Size([5, 3, 2]), torch.Size([5, 8, 8]))
    """

    def __init__(self, size: int, pairs: int):
        super().__init__()
        self.size, self.pairs = size, pairs
        self.filters = nn.Parameter(torch.randn(pairs, 2, size, size) / size)
        self.turns = nn.Parameter(0.1 * torch.randn(pairs, 2))
        """Radians per pixel of motion, along rows and columns."""

    def forward(self, patches: Float[Tensor, "n size size"]) -> Float[Tensor, "n pairs 2"]:
        """v."""
        return (patches.flatten(1) @ self.filters.flatten(0, 1).flatten(1).T).unflatten(1, (self.pairs, 2))

    def decode(self, v: Float[Tensor, "n pairs 2"]) -> Float[Tensor, "n size size"]:
        """W^T v."""
        return (v.flatten(1) @ self.filters.flatten(0, 1).flatten(1)).unflatten(1, (self.size, self.size))

    def move(self, v: Float[Tensor, "n pairs 2"], motion: Float[Tensor, "n 2"]) -> Float[Tensor, "n pairs 2"]:
        """M(dx) v for motions in pixels."""
        angle = motion @ self.turns.T
        cos, sin, (first, second) = angle.cos(), angle.sin(), v.unbind(2)
        return torch.stack([cos * first - sin * second, sin * first + cos * second], 2)


def patch_code_of(nets: Nets) -> PatchCode:
    """The network `code` of a recipe."""
    code = nets["code"]
    assert isinstance(code, PatchCode)
    return code


def whiten(images: Float[Tensor, "n c h w"]) -> Float[Tensor, "n h w"]:
    """Grey images under a filter |f| exp(-(f / .4)^4), f in cycles per pixel, in units of their standard deviation.

    It flattens the spectrum of natural images, except where they hold little but noise (Olshausen and Field, 1996).
    """
    grey, margin = images.mean(1, keepdim=True), MARGIN
    padded = nn.functional.pad(grey, (margin,) * 4, mode="reflect")[:, 0]  # else opposite borders would touch
    rows, columns = (torch.fft.fftfreq(n, device=images.device) for n in padded.shape[-2:])
    f = torch.hypot(rows[:, None], columns)
    whitened = torch.fft.ifft2(torch.fft.fft2(padded) * (f * (-((f / CUTOFF) ** 4)).exp())).real
    whitened = whitened[:, margin:-margin, margin:-margin]
    return whitened / whitened.square().mean((1, 2), keepdim=True).sqrt().clamp(min=FAINTEST)


def patches_at(images: Float[Tensor, "n h w"], places: Int64[Tensor, "n 2"], size: int) -> Float[Tensor, "n size size"]:
    """A patch of each image, from its upper left corner."""
    line = torch.arange(size, device=images.device)
    rows, columns = places[:, 0, None] + line, places[:, 1, None] + line
    return images[torch.arange(len(images), device=images.device)[:, None, None], rows[:, :, None], columns[:, None]]
