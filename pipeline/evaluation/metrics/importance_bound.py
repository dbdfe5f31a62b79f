"""A bound on log p(x) of a latent-variable model, by the short-run chains of its posterior (1912.01909).

For the noise e of its steps a chain is a map z_K = F(z_0), which takes N(0, I) to a density q of its own. As long as F
is one to one, w = p(x, z_K) / q(z_K) has p(x) for mean, and log (w_1 + ... + w_M) / M lies below log p(x) on average,
less so with more samples. It may be no bound where steps are so long that F folds (`Transport.stiffness` above 1).
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
    """Log p(x, z_K) / q(z_K) in nats, of as many chains an item as `samples`; `tick` is called after each.

    Args:
        energy: of the posterior, item i's at z[i]: -log p(x|z) and the |z|^2/2 of N(0, I). What normalises p(x|z), and
            the energy leaves out, is to be taken off (`gaussian_normaliser`).
        langevin: the chains' kernel.
        shape: items, and dimensions of z.
        samples: M.
        rng: of starts and noise.
        tick: for a progress bar.
    """
    found = []
    for _ in range(samples):
        found.append(-short_run_divergence(energy, langevin, standard_normal(shape, rng), rng))
        tick()
    return torch.stack(found)


def importance_bound(log_weights: Float[Tensor, "m n"]) -> Float[Tensor, " n"]:
    """Log of the mean weight of each item."""
    return log_weights.logsumexp(0) - math.log(len(log_weights))


def gaussian_log_normalizer(dimensions: int, sigma: float) -> float:
    """(D/2) log(2 pi sigma^2) in nats: of the density of D coordinates with standard deviation sigma."""
    return dimensions / 2 * math.log(2 * math.pi * sigma**2)
