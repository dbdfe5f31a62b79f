"""How far samples are from the data, in one number."""

from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor

from pipeline.data.dataset import Dataset
from pipeline.energies.toy_densities import ToyDensity
from pipeline.evaluation.judges.classifier import classifier_features, trained_classifier
from pipeline.evaluation.metrics.frechet import frechet_distance
from pipeline.evaluation.metrics.grid import grid_kl, grid_log_density, grid_log_mass, grid_points, kde_log_density
from pipeline.evaluation.metrics.perplexity import sample_perplexities
from pipeline.nets.weights import Nets, device_of
from pipeline.recipe import Recipe
from pipeline.rng import generator


class FinalMetrics(NamedTuple):
    """Final metrics, and a figure where there is one to draw."""

    metrics: dict[str, float]
    figure: Figure | None


class SampleDistance(NamedTuple):
    """How samples are compared with the data."""

    name: str
    """`frechet` for labelled images; `kl` where the density is known: of the truth, in nats on a grid."""
    of: Callable[[Tensor], float]
    """Of (at most 10,000 of) the data to the samples, or to the samples smoothed by a kernel of bandwidth .1."""
    floor: Callable[[int], dict[str, float]]
    """What the distance is without a model's fault: data's even items to odd ones, or of n exact samples."""


def sample_distance(data: Dataset, device: torch.device, reference: Dataset | None = None) -> SampleDistance | None:
    """How samples are compared with the data, or None where they cannot be.

    Args:
        data: what was learned from; features are of a classifier of these.
        device: of the classifier.
        reference: images that samples are compared with, say `data.test`; None: the data.
    """
    truth = data.density
    if truth is not None:
        points = grid_points(truth.half_width)

        def far(x: Tensor) -> float:
            return grid_kl(truth, kde_log_density(x, points), points)

        return SampleDistance("kl", far, lambda n: {"kl_floor": far(truth.sample(n, generator(0)))})
    if data.spec.kind == "image" and data.spec.num_classes:
        net, of = trained_classifier(data, device), reference or data
        index = np.arange(of.size) if of.size <= 10_000 else np.linspace(0, of.size - 1, 10_000).astype(np.int64)
        parts = np.array_split(index, len(index) // 500 + 1)
        real = torch.cat([classifier_features(net, of.batch(part, device)["x"]) for part in parts])
        floor = {"frechet_floor": frechet_distance(real[::2], real[1::2])}
        return SampleDistance("frechet", lambda x: frechet_distance(classifier_features(net, x), real), lambda n: floor)
    return None


def judge_samples(
    recipe: Recipe, nets: Nets, data: Dataset, drawn: Mapping[str, Tensor], temperature: float
) -> FinalMetrics:
    """Compare samples with the data, as far as the kind of data allows.

    Args:
        recipe: of the model.
        nets: the model's.
        data: what it was trained on.
        drawn: data decoded from `start` and `short_run` (the same chains, before and after), and others (`bank`,
            `long_run`) by name.
        temperature: of the chains.

    Labelled images: `frechet` (short-run samples), `frechet_<name>` of the others, and `frechet_floor`. A known density
    in the plane: `grid_kl`, KL of the truth to exp(-U / temperature) on a grid, `<name>_kl` of samples, and `kl_floor`;
    at temperature 1 `log_mass`, log of the integral of exp(-U) over the square, 0 where U is a normalised density's;
    `<name>_grid_kl` of the recipe's other densities.
    Text: `fppl`, `rppl` and `fppl_floor` (`evaluation.perplexity`).
    """
    from pipeline.evaluation.figures import densities_figure

    device = device_of(nets)
    if data.spec.kind == "text":
        return FinalMetrics(sample_perplexities(data, drawn, device), None)
    distance_ = sample_distance(data, device)
    if distance_ is None:
        return FinalMetrics({}, None)
    if distance_.name == "frechet":
        metrics = {f"frechet_{what}".removesuffix("_short_run"): distance_.of(x) for what, x in drawn.items()}
        return FinalMetrics({"frechet": metrics.pop("frechet"), **metrics, **distance_.floor(0)}, None)
    assert data.density is not None
    density, points = model_grid_density(recipe, nets, data.density, temperature), grid_points(data.density.half_width)
    metrics, planes = {}, {}
    if density is not None:
        metrics["grid_kl"] = grid_kl(data.density, density, points)
        planes[f"exp(-U/T), T = {temperature:.3g}"] = density
        if temperature == 1:
            energy = recipe.energy(nets)
            assert energy is not None
            metrics["log_mass"] = grid_log_mass(energy, data.density.half_width, device)
    for name, of in recipe.normalized_energies(nets).items():
        log_q = grid_log_density(of, points.to(device), 1.0).cpu()
        metrics[f"{name}_grid_kl"] = grid_kl(data.density, log_q, points)
        planes[name] = log_q
    for what, x in drawn.items():
        if density is None or what != "start":
            planes[f"{what.replace('_', '-')} samples"] = log_q = kde_log_density(x, points)
            metrics[f"{what}_kl"] = grid_kl(data.density, log_q, points)
    return FinalMetrics({**metrics, **distance_.floor(len(drawn["short_run"]))}, densities_figure(data.density, planes))


def model_grid_density(recipe: Recipe, nets: Nets, truth: ToyDensity, temperature: float) -> Tensor | None:
    """Log of exp(-U / temperature), normalised over the truth's grid (m,); None without an energy of data."""
    energy, device = recipe.energy(nets), device_of(nets)
    if energy is None:
        return None
    return grid_log_density(lambda x: energy(x.to(device)).cpu(), grid_points(truth.half_width), temperature)
