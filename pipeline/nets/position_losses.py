"""Losses of vectors for positions: kernels of distance, and two forms of isometry."""

import math

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from pipeline.nets.position_code import PositionCode

DISC = 1.5
"""Isometry of a block is asked for where alpha_k d^2 is at most this."""


def pair_squares(cells: Float[Tensor, "n 2"], side: int) -> tuple[Float[Tensor, " pairs"], Tensor]:
    """Squared distances of all pairs of positions, in sides of the square, and the indices (2, pairs) of the two."""
    return (torch.pdist(cells) / (side - 1)).square(), torch.triu_indices(
        len(cells), len(cells), 1, device=cells.device
    )


def kernel_loss(
    v: Float[Tensor, "n blocks units"], squares: Float[Tensor, " pairs"], pairs: Int64[Tensor, "2 pairs"], width: float
) -> Float[Tensor, ""]:
    """Mean over pairs of (<v_i, v_j> - exp(-d_ij^2 / (2 width^2)))^2, for squared distances d_ij^2."""
    flat = v.flatten(1)
    products = (flat @ flat.T).flatten()[pairs[0] * len(v) + pairs[1]]
    return (products - (squares / (-2 * width**2)).exp()).square().mean()


def isometry_loss(
    v: Float[Tensor, "n blocks units"],
    squares: Float[Tensor, " pairs"],
    pairs: Int64[Tensor, "2 pairs"],
    scales: Float[Tensor, " blocks"],
    farthest: float,
) -> Float[Tensor, ""]:
    """Sum over blocks of the mean over near pairs of (<v_ik, v_jk> - (1 - alpha_k d_ij^2) / blocks)^2.

    Pairs are near where d^2 <= DISC / alpha_k and d <= `farthest`. Distances are in sides of the square. The mean is
    the sum over the pairs' expected number, so it is unbiased for any number of positions, uniform in the square.
    """
    close = squares <= farthest**2
    d, (first, second), by_unit = squares[close, None], pairs[:, close], v.permute(2, 0, 1).contiguous()
    radius = (DISC / scales).sqrt().clamp(max=farthest)
    products = (by_unit[:, first] * by_unit[:, second]).sum(0)
    errors = torch.where(d <= radius**2, products - (1 - scales * d) / v.shape[1], 0.0)
    share = math.pi * radius**2 - 8 / 3 * radius**3 + radius**4 / 2  # of pairs, for radii up to 1
    return (errors.square().sum(0) / (share * len(squares))).sum()


def read_out_loss(
    v: Float[Tensor, "n blocks units"], u: Float[Tensor, "n d"], cells: Float[Tensor, "n 2"], width: float
) -> Float[Tensor, ""]:
    """Mean over i != j of (<v_i, u_j> - exp(-d_ij^2 / (2 width^2)))^2, for positions and a width in cells."""
    n = len(v)
    squares = torch.cdist(cells, cells, compute_mode="donot_use_mm_for_euclid_dist").square()
    errors = (v.flatten(1) @ u.T - (squares / (-2 * width**2)).exp()).square()
    return (errors.sum() - errors.diagonal().sum()) / (n * (n - 1))


def isotropy_loss(code: PositionCode, v: Float[Tensor, "n blocks units"], rng: torch.Generator) -> Float[Tensor, ""]:
    """Sum over blocks of the mean of (|B_k(theta) v_k| - |B_k(theta') v_k|)^2, for random directions of each vector."""
    speeds = []
    for turn in torch.rand(2, len(v), generator=rng, device=v.device):
        angle = 2 * math.pi * turn
        direction = torch.stack([angle.cos(), angle.sin()], 1)
        speeds.append(code.act(direction)(v).square().sum(2).add(1e-12).sqrt())
    return (speeds[0] - speeds[1]).square().sum(1).mean()
