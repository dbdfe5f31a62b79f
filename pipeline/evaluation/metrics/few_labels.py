"""Accuracy with few labels, of a model and of two baselines: labels alone, and labels spread over a graph."""

import itertools
import warnings
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from numpy import ndarray
from torch import Tensor
from torch.nn.functional import cross_entropy

from pipeline.batch import LABELLED
from pipeline.data.dataset import Dataset
from pipeline.nets.weights import Nets, device_of
from pipeline.progress import track
from pipeline.recipe import Recipe
from pipeline.rng import generator

NEIGHBOURS = 7
"""Neighbours in the graph that labels spread over (scikit-learn's default)."""
MAX_DENSE_ITEMS = 3000
"""Items of a graph of all pairs, at most."""
SPREAD_ITEMS = 10_000
"""Unlabelled items that labels spread over, at most, unless asked otherwise."""
PIECE = 1000
"""Items that the networks process in one call."""


@runtime_checkable
class ClassifierRecipe(Recipe, Protocol):
    """A recipe whose networks classify items."""

    def class_scores(self, nets: Nets, x: Tensor) -> Tensor:
        """(n, k) scores of the classes."""
        ...


@torch.no_grad()
def class_scores(recipe: ClassifierRecipe, nets: Nets, data: Dataset) -> Tensor:
    """(n, k) scores of the classes for all items; the networks are left in eval mode."""
    for net in nets.values():
        net.eval()
    parts = np.array_split(np.arange(data.size), -(-data.size // PIECE))
    inputs = (data.batch(part, device_of(nets))["x"] for part in parts)
    return torch.cat([recipe.class_scores(nets, x).cpu() for x in inputs])


def accuracy(scores: Tensor, data: Dataset) -> float:
    """Share of the items, all of them labelled, whose label has the highest of the scores (n, k)."""
    return float((scores.argmax(1) == true_labels(data)).float().mean())


def calibration(scores: Tensor, data: Dataset, bins: int = 15) -> float:
    """Expected calibration error: the mean over bins of confidence, weighted by size, of |accuracy - confidence|."""
    confidence, guess = scores.softmax(1).max(1)
    correct = (guess == true_labels(data)).float()
    bin_index = (confidence * bins).long().clamp(max=bins - 1)
    gaps = torch.zeros(bins).index_add_(0, bin_index, correct - confidence)
    return float(gaps.abs().sum() / len(correct))


def true_labels(data: Dataset) -> Tensor:
    """(n,) labels of all items."""
    return torch.from_numpy(data.table.column("label")[data.rows])


def majority_share(data: Dataset) -> float:
    """Share of the items that are of the most frequent class."""
    return float(true_labels(data).unique(return_counts=True)[1].max()) / data.size


def train_on_labels_only(
    recipe: ClassifierRecipe, nets: Nets, data: Dataset, updates: int, size: int, seed: int
) -> None:
    """Train the classifier, in place, on the labelled items alone, by cross entropy.

    Args:
        recipe: its optimizers are used, with their learning rates and weight decays.
        nets: its networks after initialisation; those that do not classify stay.
        data: the run's.
        updates: number of updates.
        size: items per update, drawn without replacement; all of them if there are no more.
        seed: of the draws and of dropout.
    """
    labelled, optimizers, rng = data.stream(LABELLED), recipe.optimizers(nets), generator(seed)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        for net in nets.values():
            net.train()
        for _ in track(range(updates), updates, "training on the labels alone", "update"):
            index = torch.randperm(labelled.size, generator=rng)[:size].numpy()
            batch = labelled.batch(index, device_of(nets))
            loss = cross_entropy(recipe.class_scores(nets, batch["x"]), batch["label"])
            for optimizer in optimizers.values():
                optimizer.zero_grad()
            loss.backward()
            for optimizer in optimizers.values():
                optimizer.step()


def label_spreading_accuracy(data: Dataset, test: Dataset, items: int, seed: int) -> float:
    """The best accuracy on `test` of labels that spread over a graph of the items (scikit-learn's LabelSpreading).

    Three clamping factors are tried on the graph of 7 nearest neighbours and, up to MAX_DENSE_ITEMS, on graphs of all
    pairs with three widths. The best is chosen on the test items, in favour of the method.

    Args:
        data: the run's, with its labelled items.
        test: the items to classify.
        items: unlabelled items, drawn without replacement, at most.
        seed: of the draw.
    """
    from sklearn.exceptions import ConvergenceWarning  # here, because the import takes a second
    from sklearn.neighbors import NearestNeighbors
    from sklearn.semi_supervised import LabelSpreading

    labelled = data.stream(LABELLED).rows
    unlabelled = np.random.default_rng(seed).permutation(np.setdiff1d(data.rows, labelled))[:items]
    x, queries = graph_features(data._replace(rows=np.concatenate([labelled, unlabelled])), test)
    y = np.concatenate([data.table.column("label")[labelled], np.full(len(unlabelled), -1)])
    graphs: list[dict[str, Any]] = [{"kernel": "knn", "n_neighbors": NEIGHBOURS}]
    if len(x) <= MAX_DENSE_ITEMS:
        distance = NearestNeighbors(n_neighbors=NEIGHBOURS + 1).fit(x).kneighbors()[0][:, -1]
        graphs += [{"kernel": "rbf", "gamma": factor / float(np.mean(distance**2))} for factor in (0.5, 2.0, 8.0)]
    accuracies = []
    for graph, alpha in itertools.product(graphs, (0.2, 0.9, 0.99)):
        with np.errstate(invalid="ignore"), warnings.catch_warnings():  # about items that no label reaches
            warnings.simplefilter("ignore", ConvergenceWarning)
            guess = LabelSpreading(**graph, alpha=alpha, max_iter=200).fit(x, y).predict(queries)
        accuracies.append(float((guess == true_labels(test).numpy()).mean()))
    return max(accuracies)


def graph_features(*sets: Dataset) -> list[ndarray]:
    """(n, d) items of each set for a graph: the networks' input, but counts as tf-idf of length 1, by the first set."""
    features = [data.batch(np.arange(data.size))["x"].flatten(1).numpy() for data in sets]
    if sets[0].spec.kind == "counts":
        from sklearn.feature_extraction.text import TfidfTransformer

        weights = TfidfTransformer(sublinear_tf=True).fit(features[0])
        return [weights.transform(x).toarray() for x in features]
    return features
