"""A grid of images in one picture."""

import torch
from jaxtyping import Float
from torch import Tensor


def image_grid(x: Float[Tensor, "n c h w"], columns: int = 10) -> Float[Tensor, "3 height width"]:
    """Images in [-1, 1], `columns` per row, as one picture in [0, 1]; small images are enlarged."""
    from torchvision.utils import make_grid  # slow to import

    scale = max(1, round(48 / x.shape[-1]))
    x = (x.float().clamp(-1, 1) + 1) / 2
    x = torch.nn.functional.interpolate(x, scale_factor=scale, mode="nearest")
    return make_grid(x, nrow=columns, padding=2, pad_value=0.5)
