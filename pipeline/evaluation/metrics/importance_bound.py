"""A bound on log p(x) of a latent-variable model from short-run posterior chains (Nijkamp et al., 1912.01909).

With the noise of its steps fixed, a chain is a map z_K = F(z_0), which takes N(0, I) to a density q. As long as F is
one to one, w = p(x, z_K) / q(z_K) has mean p(x), and log of the mean of M weights is on average below log p(x), the
less the larger M. It may be no bound where steps are so long that F folds.
"""

import math
from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

from pipeline.energies.energy import Energy
from pipeline.rng import standard_normal
from pipeline.samplers.langevin import Langevin
from pipeline.samplers.short_run_density import short_run_divergence


def log_weights(
    energy: Energy,
    langevin: Langevin,
    shape: tuple[int, int],
    samples: int,
    rng: torch.Generator,
    tick: Callable[[], object] = lambda: None,
) -> Float[Tensor, "m n"]:
    """Log p(x, z_K) / q(z_K) in nats, for `samples` chains per item.

    Args:
        energy: of the posterior, for item i at z[i]: -log p(x|z) plus the |z|^2/2 of N(0, I). Where it leaves out the
            normaliser of p(x|z), the caller subtracts it (`gaussian_log_normalizer`).
        langevin: the chains' kernel.
        shape: number of items, and dimension of z.
        samples: M.
        rng: of starts and noise.
        tick: called after each sample, for a progress bar.
    """
    rows = []
    for _ in range(samples):
        rows.append(-short_run_divergence(energy, langevin, standard_normal(shape, rng), rng))
        tick()
    return torch.stack(rows)


def importance_bound(log_weights: Float[Tensor, "m n"]) -> Float[Tensor, " n"]:
    """Log of the mean weight of each item."""
    return log_weights.logsumexp(0) - math.log(len(log_weights))


def gaussian_log_normalizer(dimensions: int, sigma: float) -> float:
    """(D/2) log(2 pi sigma^2) in nats, for D independent coordinates of standard deviation sigma."""
    return dimensions / 2 * math.log(2 * math.pi * sigma**2)
