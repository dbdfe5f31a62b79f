"""What an ensemble of classifiers is worth, and how its members differ (1905.02898, section 5)."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor

from pipeline.nets.classifier import Members
from pipeline.nets.hypernetwork import Hypernetwork
from pipeline.rng import fold, generator, standard_normal

DRAWS = 20
"""Random ensembles per size, over which accuracy is averaged."""
EVALUATIONS = 20_000
"""Pairs of member and item in one call of the classifiers."""

Probabilities = Float[Tensor, "n k classes"]
"""Of k items, by each of n members."""


@torch.no_grad()
def probabilities(net: Hypernetwork, w: Members, x: Tensor) -> Probabilities:
    """Of k items of data (k, *d), by each member, on the CPU."""
    parts = x.split(max(1, EVALUATIONS // len(w)))
    return torch.cat([net.logits(w, part).softmax(2).cpu() for part in parts], 1)


def member_accuracy(p: Probabilities, label: Int64[Tensor, " k"]) -> Float[Tensor, " n"]:
    """Accuracy of each member."""
    return (p.argmax(2) == label).double().mean(1)


def ensemble_accuracy(p: Probabilities, label: Int64[Tensor, " k"], size: int, seed: int) -> float:
    """Accuracy of the mean probability of `size` members, over random ensembles of different members.

    >>> p = torch.tensor([[[0.9, 0.1]], [[0.4, 0.6]], [[0.3, 0.7]]])
    >>> ensemble_accuracy(p, torch.tensor([0]), 3, seed=0)
    1.0
    """
    rng, draws = generator(fold(seed, "ensembles", size)), 1 if size == len(p) else DRAWS
    chosen = [torch.randperm(len(p), generator=rng)[:size] for _ in range(draws)]
    return float(np.mean([float((p[one].mean(0).argmax(1) == label).double().mean()) for one in chosen]))


def disagreement(p: Probabilities) -> float:
    """Share of the items that two members classify differently, over all pairs of members.

    >>> disagreement(torch.eye(2)[torch.tensor([[0, 1], [0, 0], [0, 0]])])
    0.3333333333333333
    """
    votes = torch.nn.functional.one_hot(p.argmax(2), p.shape[2]).double().sum(0)
    n = len(p)
    return float(1 - ((votes * (votes - 1)).sum(1) / (n * (n - 1))).mean())


def participation_dimension(x: Float[Tensor, "n p"]) -> float:
    """(tr C)^2 / tr C^2 of the covariance C of n vectors: the number of directions in which they vary.

    >>> round(participation_dimension(torch.randn(5000, 3, generator=torch.Generator().manual_seed(0))), 1)
    3.0
    """
    centred = (x - x.mean(0)).double()
    gram = centred @ centred.T
    return float(gram.trace().square() / gram.square().sum())


def lines(a: Float[Tensor, "n d"], b: Float[Tensor, "n d"], points: int) -> Float[Tensor, "n points d"]:
    """Points on the straight lines from a to b, both ends included."""
    t = torch.linspace(0, 1, points, device=a.device)[:, None]
    return a[:, None] * (1 - t) + b[:, None] * t


class Paths(NamedTuple):
    """Accuracy along paths between members."""

    accuracy: Float[Tensor, "paths points"]

    @property
    def lowest(self) -> float:
        """The lowest accuracy along a path, averaged over the paths."""
        return float(self.accuracy.amin(1).mean())


def path_accuracy(net: Hypernetwork, w: Float[Tensor, "paths points p"], x: Tensor, label: Tensor) -> Paths:
    """Accuracy on k items along paths of weights."""
    return Paths(torch.stack([member_accuracy(probabilities(net, path, x), label) for path in w]))


def noise_accuracy(
    net: Hypernetwork, w: Members, x: Tensor, label: Int64[Tensor, " k"], levels: Sequence[float], seed: int
) -> dict[float, tuple[float, float]]:
    """Accuracy of a member (the mean), and of the ensemble, on items with Gaussian noise, by its standard deviation."""
    result = dict[float, tuple[float, float]]()
    for sd in levels:
        noise = standard_normal(tuple(x.shape), generator(fold(seed, "noise"))).to(x.device)
        p = probabilities(net, w, x + sd * noise)
        result[sd] = float(member_accuracy(p, label).mean()), ensemble_accuracy(p, label, len(p), seed)
    return result
