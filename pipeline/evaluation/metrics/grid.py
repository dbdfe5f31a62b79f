"""Densities on a grid in the plane."""

import math

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from pipeline.energies.energy import Energy
from pipeline.energies.toy_densities import ToyDensity


def grid_points(half: float, n: int = 200) -> Float[Tensor, "n2 2"]:
    """The midpoints of n x n cells of the square [-half, half]^2."""
    line = (torch.arange(n) + 0.5) / n * 2 * half - half
    return torch.cartesian_prod(line, line)


@torch.no_grad()
def grid_log_density(energy: Energy, points: Float[Tensor, "m 2"], temperature: float) -> Float[Tensor, " m"]:
    """Log p at the points of a grid, p ~ exp(-U / temperature), normalised so that p sums to 1 over the points."""
    return (-energy(points).double() / temperature).log_softmax(0)


def log_integral(log_values: Float[Tensor, " m"], half: float) -> float:
    """Log of the integral of a function over the square [-half, half]^2, given its log at the m midpoints of a grid."""
    return float(log_values.logsumexp(0)) + math.log((2 * half) ** 2 / len(log_values))


def kde_log_density(
    samples: Float[Tensor, "n 2"], points: Float[Tensor, "m 2"], bandwidth: float = 0.1
) -> Float[Tensor, " m"]:
    """Log density of samples smoothed by a Gaussian kernel, at points that are the midpoints of equal cells, per cell.

    The standard deviation of the kernel is `bandwidth`. The cells sum to less than 1 where samples lie off the grid.
    """
    from sklearn.neighbors import KernelDensity  # here, because the import takes a second

    kernel = KernelDensity(bandwidth=bandwidth).fit(samples.cpu().double().numpy())
    cell = float((points.amax(0) - points.amin(0)).prod()) / (len(points) ** 0.5 - 1) ** 2
    return torch.from_numpy(np.asarray(kernel.score_samples(points.cpu().double().numpy()))) + math.log(cell)


def grid_kl(truth: ToyDensity, log_q: Float[Tensor, " m"], points: Float[Tensor, "m 2"]) -> float:
    """KL(truth || q) in nats, over the cells of a grid."""
    log_p = (-truth.energy(points).double()).log_softmax(0)
    p = log_p.exp()
    return float((p * (log_p - log_q.to(log_p.device)))[p > 0].sum())
