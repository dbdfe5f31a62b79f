"""Completing data of which a part is hidden: what is hidden, how far off it is, and what factor analysis would say."""

from typing import Literal, NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from pipeline.errors import InputError

Side = Literal["left", "right", "top", "bottom", "centre", "random"]


def observed_mask(
    hide: Side, share: float, shape: tuple[int, ...], n: int, rng: torch.Generator
) -> Float[Tensor, "n *shape"]:
    """1 where a coordinate of n items is known, 0 where it is hidden; the channels of a pixel go together.

    Args:
        hide: a side, the middle, or coordinates drawn for each item alone.
        share: of the coordinates that are hidden, as nearly as whole rows and columns allow.
        shape: (c, h, w) of images, (d,) of vectors.
        n: items.
        rng: of the random ones.

    Raises:
        BadInput: a side of what has none.
    """
    if hide == "random":
        pixels = int(np.prod(shape[-2:]))
        order = torch.rand(n, pixels, generator=rng).argsort(1).argsort(1)
        known = (order >= round(share * pixels)).float().view(n, *[1] * (len(shape) - 2), *shape[-2:])
        return known.expand(n, *shape)
    if len(shape) < 2:
        raise InputError(f"--hide {hide}: vectors have no sides; they can be hidden at random")
    known, (height, width) = torch.ones(n, *shape), shape[-2:]
    rows, columns = round(share * height), round(share * width)
    if hide == "centre":
        rows, columns = round(share**0.5 * height), round(share**0.5 * width)
        top, left = (height - rows) // 2, (width - columns) // 2
        known[..., top : top + rows, left : left + columns] = 0
    elif hide in ("left", "right"):
        known[..., slice(None, columns) if hide == "left" else slice(width - columns, None)] = 0
    else:
        known[..., slice(None, rows) if hide == "top" else slice(height - rows, None), :] = 0
    return known


def masked_errors(
    x: Float[Tensor, "n *d"], made: Float[Tensor, "n *d"], known: Float[Tensor, "n *d"]
) -> dict[str, float]:
    """Mean squared error a coordinate, of the `hidden` and of the `observed` ones, where there are any."""
    parts = {"hidden": 1 - known, "observed": known}
    return {name: float((part * (x - made).square()).sum() / part.sum()) for name, part in parts.items() if part.any()}


class PPCA(NamedTuple):
    """Probabilistic principal components: x = mean + loadings z + sqrt(noise) xi, with z and xi of N(0, I)."""

    mean: Float[Tensor, " d"]
    loadings: Float[Tensor, "d k"]
    noise: float
    """Variance of a coordinate beyond the factors."""


def fit_ppca(x: Float[Tensor, "n *d"], k: int) -> PPCA:
    """The k factors that are likeliest for the data (as many as there can be below their size and number)."""
    from sklearn.decomposition import PCA  # here, since it takes a second that --help need not wait for

    flat = x.flatten(1).double().numpy()
    found = PCA(min(k, min(flat.shape) - 1), svd_solver="full").fit(flat)
    scale = np.sqrt(found.explained_variance_ - found.noise_variance_)
    return PPCA(
        torch.from_numpy(found.mean_), torch.from_numpy(found.components_.T * scale), float(found.noise_variance_)
    )


def ppca_completion(model: PPCA, x: Float[Tensor, "n *d"], known: Float[Tensor, "n *d"]) -> Float[Tensor, "n *d"]:
    """Mean + loadings E[z | what is known of x] for each item: ridge regression, by the variance of the noise.

    An item of which all is known is projected on the factors, which is nearest to it.
    """
    flat, mask = x.flatten(1).double(), known.flatten(1).double()
    ridge = torch.where(mask.all(1), 0.0, model.noise)
    masked = mask[:, :, None] * model.loadings
    gram = masked.transpose(1, 2) @ model.loadings + ridge[:, None, None] * torch.eye(model.loadings.shape[1])
    z = torch.linalg.solve(gram, (masked * (flat - model.mean)[:, :, None]).sum(1))
    return (model.mean + z @ model.loadings.T).view_as(x).to(x.dtype)
