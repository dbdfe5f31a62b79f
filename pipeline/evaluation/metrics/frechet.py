"""Distances between two sets of features, and how certain and diverse the classes of samples are.

Over the features of the small classifier, which is trained on the data set itself, these numbers compare models of one
data set, and the Fréchet distance is no FID; `judges.features` has other features.
"""

from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

PARTS = 10
"""Parts into which items are split; each gives an estimate, and their spread the standard error of the mean."""


def frechet_distance(a: Float[Tensor, "n f"], b: Float[Tensor, "m f"]) -> float:
    """|mu_a - mu_b|^2 + tr(C_a + C_b - 2 (C_a^1/2 C_b C_a^1/2)^1/2), the distance of Gaussians fitted to features.

    The square roots are of symmetric matrices, by their eigenvalues.
    """
    mean = (a.mean(0) - b.mean(0)).square().sum()
    cov_a, cov_b = a.T.cov(), b.T.cov()
    values, vectors = torch.linalg.eigh(cov_a)
    root = vectors * values.clamp(min=0).sqrt() @ vectors.T
    cross = torch.linalg.eigvalsh(root @ cov_b @ root).clamp(min=0).sqrt().sum()
    return float(mean + cov_a.trace() + cov_b.trace() - 2 * cross)


class MeanEstimate(NamedTuple):
    """The mean of estimates from parts of the items."""

    value: float
    standard_error: float
    """Of the value, from the spread over the parts, which share no item."""


def kernel_distance(a: Float[Tensor, "n f"], b: Float[Tensor, "m f"], parts: int = PARTS) -> MeanEstimate:
    """Unbiased squared maximum mean discrepancy under the kernel (x.y / f + 1)^3; it may be below 0.

    Over Inception's features this is the kernel inception distance (Binkowski et al. 2018, section 4). The original
    averages over random subsets that overlap. Here the subsets are items i mod `parts`: every item is used once, and
    the spread over subsets gives an honest standard error. The mean does not depend on their size.

    Args:
        a: features of at least 2 `parts` items.
        b: features of at least 2 `parts` other items.
        parts: number of subsets.
    """
    estimates = torch.tensor([_discrepancy(a[i::parts], b[i::parts]) for i in range(parts)], dtype=torch.float64)
    return MeanEstimate(float(estimates.mean()), float(estimates.std() / parts**0.5))


def _discrepancy(a: Float[Tensor, "n f"], b: Float[Tensor, "m f"]) -> float:
    """The U-statistic, without pairs of an item with itself."""
    n, m = len(a), len(b)
    aa, bb, ab = ((x @ y.T / x.shape[1] + 1).pow(3) for x, y in ((a, a), (b, b), (a, b)))
    within = (aa.sum() - aa.trace()) / (n * (n - 1)) + (bb.sum() - bb.trace()) / (m * (m - 1))
    return float(within - 2 * ab.mean())


def class_score(logits: Float[Tensor, "n k"]) -> MeanEstimate:
    """Exp of the mean KL(p(y|x), p(y)): 1 where all items have the same class probabilities, k at most.

    With Inception's logits this is the inception score (Salimans et al. 2016, section 4): p(y) is the mean of p(y|x)
    over a part of n / PARTS items, and the result is the mean over parts. Few items per class bias it down.
    """
    scores = []
    for part in (logits[i::PARTS].double() for i in range(PARTS)):
        log_p = part.log_softmax(1)
        log_mean = log_p.logsumexp(0) - log_p.new_tensor(len(part)).log()
        scores.append((log_p.exp() * (log_p - log_mean)).sum(1).mean().exp())
    values = torch.stack(scores)
    return MeanEstimate(float(values.mean()), float(values.std() / PARTS**0.5))
