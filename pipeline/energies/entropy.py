"""Differential entropy from samples, by nearest neighbours (Kozachenko & Leonenko, 1987)."""

import math

import torch
from jaxtyping import Float
from torch import Tensor

FLOOR = 1e-8
"""Added to distances, so that two equal samples give a low entropy instead of -inf (1905.02898, code)."""


def nearest_neighbour_entropy(x: Float[Tensor, "n p"], dim: int) -> Float[Tensor, ""]:
    """The entropy, in nats, of the density on a manifold of `dim` dimensions that the n samples were drawn from.

    dim * mean_i log(rho_i + 1e-8) + psi(n) - psi(1) + log(2^dim / dim!), where rho_i is the L1 distance of sample i to
    the nearest other and 2^dim / dim! the volume of the L1 ball. With few samples in many dimensions it is biased, and
    only its gradient is of use.

    Args:
        x: the samples, 2 or more.
        dim: of the manifold, `p` or less.

    >>> x = torch.rand(2000, 2, generator=torch.Generator().manual_seed(0))
    >>> abs(float(nearest_neighbour_entropy(3 * x, 2)) - math.log(9)) < 0.1
    True
    """
    with torch.no_grad():
        distance = torch.cdist(x, x, p=1.0).fill_diagonal_(math.inf)
        nearest = distance.argmin(1)
    rho = (x - x[nearest]).abs().sum(1)
    counts = torch.tensor([float(len(x)), 1.0], device=x.device).digamma()
    ball = dim * math.log(2) - math.lgamma(dim + 1)
    return dim * (rho + FLOOR).log().mean() + counts[0] - counts[1] + ball
