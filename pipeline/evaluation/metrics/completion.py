"""Completion of partly hidden data: which coordinates are hidden, the errors, and a linear-Gaussian baseline."""

from typing import Literal, NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from pipeline.errors import InputError

Side = Literal["left", "right", "top", "bottom", "centre", "random"]
"""The coordinates that are hidden: at a side, in the middle, or random ones."""


def observed_mask(
    hide: Side, share: float, shape: tuple[int, ...], n: int, rng: torch.Generator
) -> Float[Tensor, "n *shape"]:
    """1 for observed coordinates of n items, 0 for hidden ones; the channels of a pixel are hidden together.

    Args:
        hide: a side, the middle, or random coordinates, which differ between items.
        share: of the coordinates that are hidden, as nearly as whole rows and columns allow.
        shape: (c, h, w) of images, (d,) of vectors.
        n: number of items.
        rng: of random coordinates.

    Raises:
        InputError: vectors have no sides.
    """
    if hide == "random":
        pixels = int(np.prod(shape[-2:]))
        order = torch.rand(n, pixels, generator=rng).argsort(1).argsort(1)
        observed = (order >= round(share * pixels)).float().view(n, *[1] * (len(shape) - 2), *shape[-2:])
        return observed.expand(n, *shape)
    if len(shape) < 2:
        raise InputError("vectors have no sides; hide random coordinates", "hide", hide)
    observed, (height, width) = torch.ones(n, *shape), shape[-2:]
    rows, columns = round(share * height), round(share * width)
    if hide == "centre":
        rows, columns = round(share**0.5 * height), round(share**0.5 * width)
        top, left = (height - rows) // 2, (width - columns) // 2
        observed[..., top : top + rows, left : left + columns] = 0
    elif hide in ("left", "right"):
        observed[..., slice(None, columns) if hide == "left" else slice(width - columns, None)] = 0
    else:
        observed[..., slice(None, rows) if hide == "top" else slice(height - rows, None), :] = 0
    return observed


def masked_errors(
    x: Float[Tensor, "n *d"], completed: Float[Tensor, "n *d"], observed: Float[Tensor, "n *d"]
) -> dict[str, float]:
    """Mean squared error per coordinate, of the `hidden` and of the `observed` ones, where there are any."""
    masks, errors = {"hidden": 1 - observed, "observed": observed}, (x - completed).square()
    return {name: float((mask * errors).sum() / mask.sum()) for name, mask in masks.items() if mask.any()}


class PPCA(NamedTuple):
    """Probabilistic principal component analysis: x = mean + loadings z + e, with z ~ N(0, I) and e ~ N(0, variance I).

    Michael Tipping, Christopher Bishop, "Probabilistic Principal Component Analysis", JRSS B 1999.
    """

    mean: Float[Tensor, " d"]
    loadings: Float[Tensor, "d k"]
    variance: float
    """Of a coordinate beyond the factors."""


def fit_ppca(x: Float[Tensor, "n *d"], k: int) -> PPCA:
    """The maximum-likelihood model with k factors, or as many as fit below the data's dimension and number."""
    from sklearn.decomposition import PCA  # here, because the import takes a second

    flat = x.flatten(1).double().numpy()
    pca = PCA(min(k, min(flat.shape) - 1), svd_solver="full").fit(flat)
    scale = np.sqrt(pca.explained_variance_ - pca.noise_variance_)
    return PPCA(torch.from_numpy(pca.mean_), torch.from_numpy(pca.components_.T * scale), float(pca.noise_variance_))


def ppca_completion(model: PPCA, x: Float[Tensor, "n *d"], observed: Float[Tensor, "n *d"]) -> Float[Tensor, "n *d"]:
    """Mean + loadings E[z | observed coordinates] for each item: a ridge regression whose ridge is the variance.

    An item without hidden coordinates is projected on the factors, which gives the nearest point.
    """
    flat, mask = x.flatten(1).double(), observed.flatten(1).double()
    ridge = torch.where(mask.all(1), 0.0, model.variance)
    masked = mask[:, :, None] * model.loadings
    gram = masked.transpose(1, 2) @ model.loadings + ridge[:, None, None] * torch.eye(model.loadings.shape[1])
    z = torch.linalg.solve(gram, (masked * (flat - model.mean)[:, :, None]).sum(1))
    return (model.mean + z @ model.loadings.T).view_as(x).to(x.dtype)
