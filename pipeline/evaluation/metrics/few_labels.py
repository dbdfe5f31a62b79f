"""What labels alone are worth, and what a graph of the items makes of them: what semi-supervised learning must beat."""

import itertools
import warnings
from typing import Any

import numpy as np
import torch
from numpy import ndarray
from sklearn.exceptions import ConvergenceWarning
from sklearn.feature_extraction.text import TfidfTransformer
from sklearn.neighbors import NearestNeighbors
from sklearn.semi_supervised import LabelSpreading
from torch import Tensor
from torch.nn.functional import cross_entropy

from pipeline.data.dataset import Dataset
from pipeline.nets.weights import Nets, device_of
from pipeline.recipe import Recipe
from pipeline.rng import generator

NEIGHBOURS = 7
"""Of the graph that labels spread along (scikit-learn's default)."""
DENSE = 3000
"""Items of a graph of all pairs, at most."""
PIECE = 1000
"""Items that the networks see at a time."""


@torch.no_grad()
def class_scores(nets: Nets, data: Dataset) -> Tensor:
    """(n, K) the energy network's scores at the encoder's mean of all items; the networks are left in eval mode."""
    for net in nets.values():
        net.eval()
    parts = np.array_split(np.arange(data.size), -(-data.size // PIECE))
    inputs = (data.batch(part, device_of(nets))["x"] for part in parts)
    return torch.cat([nets["energy"](nets["encoder"](x)[0]).cpu() for x in inputs])


def accuracy(scores: Tensor, data: Dataset) -> float:
    """Share of the items whose label has the highest of the scores (n, K)."""
    return float((scores.argmax(1) == true_labels(data)).float().mean())


def calibration(scores: Tensor, data: Dataset, bins: int = 15) -> float:
    """Expected calibration error: the mean, over bins of confidence, of |share that is right - mean confidence|."""
    confidence, guess = scores.softmax(1).max(1)
    right = (guess == true_labels(data)).float()
    which = (confidence * bins).long().clamp(max=bins - 1)
    gaps = torch.zeros(bins).index_add_(0, which, right - confidence)
    return float(gaps.abs().sum() / len(right))


def true_labels(data: Dataset) -> Tensor:
    """(n,) of all items."""
    return torch.from_numpy(data.table.column("label")[data.rows])


def train_on_labels_only(recipe: Recipe, nets: Nets, data: Dataset, updates: int, size: int, seed: int) -> None:
    """Teach encoder and energy network, in place, the items of known label alone, by cross entropy at the mean.

    Args:
        recipe: whose optimizers are used, with their rates and weight decays.
        nets: its networks as they are initialised; the generator stays.
        data: of a run.
        updates: how many.
        size: items an update, drawn without replacement; all, if there are no more.
        seed: of the draws, and of dropout.
    """
    known, optimizers, rng = data.stream("labelled"), recipe.optimizers(nets), generator(seed)
    players = [optimizers[name] for name in ("energy", "encoder")]
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        for net in nets.values():
            net.train()
        for _ in range(updates):
            index = torch.randperm(known.size, generator=rng)[:size].numpy()
            batch = known.batch(index, device_of(nets))
            loss = cross_entropy(nets["energy"](nets["encoder"](batch["x"])[0]), batch["label"])
            for optimizer in players:
                optimizer.zero_grad()
            loss.backward()
            for optimizer in players:
                optimizer.step()


def label_spreading_accuracy(data: Dataset, test: Dataset, items: int, seed: int) -> float:
    """The best accuracy on `test` of labels that spread over a graph of the items (scikit-learn's LabelSpreading).

    The best of three clamping factors for the graph of 7 nearest neighbours, and of as many widths and factors for that
    of all pairs where there are at most `DENSE`. It is chosen on the items that it is told of, in the method's favour.

    Args:
        data: of a run: labelled items, and `items` of all of them, drawn without replacement.
        test: what is classified, by the labels of its own neighbours.
        items: how many items without label, at most.
        seed: of the draw.
    """
    known = data.stream("labelled").rows
    chosen = np.random.default_rng(seed).permutation(np.setdiff1d(data.rows, known))[:items]
    x, asked = graph_features(data._replace(rows=np.concatenate([known, chosen])), test)
    y = np.concatenate([data.table.column("label")[known], np.full(len(chosen), -1)])
    graphs: list[dict[str, Any]] = [{"kernel": "knn", "n_neighbors": NEIGHBOURS}]
    if len(x) <= DENSE:
        far = NearestNeighbors(n_neighbors=NEIGHBOURS + 1).fit(x).kneighbors()[0][:, -1]
        graphs += [{"kernel": "rbf", "gamma": times / float(np.mean(far**2))} for times in (0.5, 2.0, 8.0)]
    right = []
    for graph, alpha in itertools.product(graphs, (0.2, 0.9, 0.99)):
        with np.errstate(invalid="ignore"), warnings.catch_warnings():  # of items that no label reaches
            warnings.simplefilter("ignore", ConvergenceWarning)
            guess = LabelSpreading(**graph, alpha=alpha, max_iter=200).fit(x, y).predict(asked)
        right.append(float((guess == true_labels(test).numpy()).mean()))
    return max(right)


def graph_features(*sets: Dataset) -> list[ndarray]:
    """(n, d) items of each set as a graph sees them: as networks do, but counts as tf-idf of length 1, by the first."""
    found = [data.batch(np.arange(data.size))["x"].flatten(1).numpy() for data in sets]
    if sets[0].spec.kind == "counts":
        weights = TfidfTransformer(sublinear_tf=True).fit(found[0])
        return [weights.transform(x).toarray() for x in found]
    return found
