"""Figures of ensembles of classifiers; matplotlib is imported when the first one is drawn."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from pipeline.evaluation.figures import draw_level, new_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def members_figure(accuracies: Mapping[str, Tensor]) -> "Figure":
    """Histograms of the accuracy of single members, by where they come from."""
    figure = new_figure(5, 3.4)
    axes = figure.subplots()
    lowest = min(float(one.min()) for one in accuracies.values())
    highest = max(float(one.max()) for one in accuracies.values())
    bins = np.linspace(lowest - 1e-3, highest + 1e-3, 25).tolist()
    for name, accuracy in accuracies.items():
        axes.hist(accuracy.numpy(), bins, density=True, alpha=0.6, label=f"{name} ({len(accuracy)})")
    axes.set(xlabel="accuracy of a member", ylabel="density")
    axes.legend(loc="upper left")
    return figure


def sizes_figure(curves: Mapping[str, Mapping[int, float]], member: float) -> "Figure":
    """Accuracy of ensembles against their size by origin, and that of a single sampled member."""
    figure = new_figure(5, 3.4)
    axes = figure.subplots()
    for name, curve in curves.items():
        axes.plot(list(curve), list(curve.values()), marker=".", label=name.replace("_", " "))
    draw_level(axes, member, "a single member")
    axes.set(xscale="log", xlabel="members", ylabel="accuracy of the mean probability")
    axes.legend()
    return figure


def paths_figure(paths: Mapping[str, Tensor]) -> "Figure":
    """Accuracy (paths, points) along paths between members: the mean, and all between the lowest and the highest."""
    figure = new_figure(5, 3.4)
    axes = figure.subplots()
    for name, accuracy in paths.items():
        t = np.linspace(0, 1, accuracy.shape[1])
        axes.plot(t, accuracy.mean(0).numpy(), label=name)
        axes.fill_between(t, accuracy.amin(0).numpy(), accuracy.amax(0).numpy(), alpha=0.2)
    axes.set(xlabel="position on the path", ylabel="accuracy")
    axes.legend(loc="lower right")
    return figure


def plane_of_weights_figure(weights: Mapping[str, Tensor]) -> "Figure":
    """Gauge-fixed weights (n, p) on the first two principal components of all of them."""
    figure = new_figure(4.6, 4)
    axes = figure.subplots()
    together = torch.cat(list(weights.values())).double()
    centre = together.mean(0)
    components = torch.linalg.svd(together - centre, full_matrices=False).Vh[:2]
    for name, w in weights.items():
        plane = (w.double() - centre) @ components.T
        axes.scatter(plane[:, 0].numpy(), plane[:, 1].numpy(), s=8, alpha=0.6, label=name)
    axes.set(xlabel="first principal component", ylabel="second principal component")
    axes.legend()
    return figure


def noise_figure(accuracies: Mapping[str, Mapping[float, float]]) -> "Figure":
    """Accuracy against the standard deviation of noise in the items."""
    figure = new_figure(5, 3.4)
    axes = figure.subplots()
    for name, curve in accuracies.items():
        axes.plot(list(curve), list(curve.values()), marker=".", label=name)
    axes.set(xlabel="standard deviation of the noise", ylabel="accuracy")
    axes.legend()
    return figure
