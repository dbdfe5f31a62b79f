"""What an ensemble of classifiers is worth, and how its members differ (1905.02898, section 5)."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor

from pipeline.data.dataset import Dataset
from pipeline.energies.entropy import nearest_neighbour_entropy
from pipeline.nets.classifier import Members
from pipeline.nets.gauge import Gauge, fix_gauge
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

    >>> round(disagreement(torch.eye(2)[torch.tensor([[0, 1], [0, 0], [0, 0]])]), 3)
    0.333
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


@torch.no_grad()
def path_accuracy(
    net: Hypernetwork, w: Float[Tensor, "paths points p"], x: Tensor, label: Int64[Tensor, " k"]
) -> Float[Tensor, "paths points"]:
    """Accuracy on k items along paths of weights."""
    return torch.stack([member_accuracy(probabilities(net, path, x), label) for path in w])


class Ensemble(NamedTuple):
    """Classifiers of one origin, and what they say of held-out items."""

    w: Members
    p: Probabilities
    label: Int64[Tensor, " k"]

    @property
    def accuracy(self) -> Float[Tensor, " n"]:
        """Of each member."""
        return member_accuracy(self.p, self.label)

    def by_size(self, sizes: Sequence[int], seed: int) -> dict[int, float]:
        """Accuracy of ensembles, by their number of members; of the sizes that there are enough members for."""
        return {n: ensemble_accuracy(self.p, self.label, n, seed) for n in sorted({*sizes}) if n <= len(self.p)}

    def metrics(self, net: Hypernetwork) -> dict[str, float]:
        """Mean and standard deviation of the members' accuracy, and how they differ from each other."""
        accuracy = self.accuracy
        return {
            "accuracy": float(accuracy.mean()),
            "accuracy_sd": float(accuracy.std()),
            "disagreement": disagreement(self.p),
            "dimension": participation_dimension(fix_gauge(net.classifier, self.w, "full")),
        }


def classify(net: Hypernetwork, w: Members, data: Dataset) -> Ensemble:
    """The classifiers with these weights, on all items of the data; items without a label are left out."""
    x, label = all_items(data.labelled, w.device)
    return Ensemble(w, probabilities(net, w, x), label.cpu())


def all_items(data: Dataset, device: torch.device) -> tuple[Tensor, Int64[Tensor, " k"]]:
    """All items (k, *d) and their labels."""
    batch = data.batch(np.arange(data.size), device)
    return batch["x"], batch["label"]


@torch.no_grad()
def noise_accuracy(
    net: Hypernetwork, w: Members, data: Dataset, levels: Sequence[float], seed: int
) -> dict[str, dict[float, float]]:
    """Accuracy of a `member` (the mean) and of the `ensemble` on items with Gaussian noise, by its sd."""
    x, label = all_items(data.labelled, w.device)
    noise = standard_normal(tuple(x.shape), generator(fold(seed, "noise"), w.device))
    by_level = {sd: probabilities(net, w, x + sd * noise) for sd in levels}
    return {
        "member": {sd: float(member_accuracy(p, label.cpu()).mean()) for sd, p in by_level.items()},
        "ensemble": {sd: ensemble_accuracy(p, label.cpu(), len(p), seed) for sd, p in by_level.items()},
    }


@torch.no_grad()
def sample_entropy(net: Hypernetwork, w: Members, z_dim: int, members: int, gauge: Gauge) -> float:
    """Entropy of the weights in a gauge, in nats: the mean of the estimates from `members` of them at a time."""
    parts = [part for part in fix_gauge(net.classifier, w, gauge).split(members) if len(part) == members]
    return float(torch.stack([nearest_neighbour_entropy(part, z_dim) for part in parts]).mean())
