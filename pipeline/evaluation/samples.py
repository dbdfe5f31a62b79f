"""Samples of a model, and what they are worth."""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor

from pipeline.chains import Answers, ChainTask
from pipeline.data import Dataset
from pipeline.evaluation import frechet, likelihood
from pipeline.lanes import Lane
from pipeline.recipe import Recipe
from pipeline.rng import fold, generator
from pipeline.weights import Nets, device_of

PIECE = 100
"""Chains in one task."""


def tasks(recipe: Recipe, nets: Nets, data: Dataset, n: int, update: int, seed: int) -> list[ChainTask]:
    """Tasks that draw n samples by the recipe's first chain: fresh starts, its own sampler, seeds of their own."""
    chain, pieces = next(iter(recipe.chains)), -(-n // PIECE)
    device = device_of(nets)
    sampler, drawn = recipe.sampler(chain, nets, update), []
    for i in range(pieces):
        size = min(PIECE, n - i * PIECE)
        rng = generator(fold(seed, "samples start", i), device)
        items = np.random.default_rng(fold(seed, "samples data", i)).integers(data.size, size=size)
        batch = {stream: data.batch(items, device) for stream in recipe.streams}
        x = recipe.start(chain, size, rng, nets, batch).cpu().numpy()
        slots = np.arange(size)
        drawn.append(ChainTask(chain, Lane(i, pieces), slots, x, None, sampler, fold(seed, "samples", i), update))
    return drawn


def states(answers: Answers, chain: str) -> Tensor:
    """The states of a chain's answers, in the order of the lanes."""
    return torch.from_numpy(np.concatenate([answers[key].x for key in sorted(answers) if key[0] == chain]))


class Verdict(NamedTuple):
    """Final metrics, and a figure where there is one to draw."""

    metrics: dict[str, float]
    figure: Figure | None


def judge(recipe: Recipe, nets: Nets, data: Dataset, start: Tensor, x: Tensor, temperature: float) -> Verdict:
    """Compare samples x with the data, as far as the kind of data allows.

    Labelled images: `frechet` (samples to data), `frechet_start` (the starts of the same chains to data),
    `frechet_floor` (the data's even items to its odd ones). A known density in the plane: `grid_kl`, KL of the truth to
    exp(-U / temperature) on a grid, and `short_run_kl`, to the samples smoothed by a kernel of bandwidth .1.
    """
    if data.spec.kind == "image" and data.spec.classes:
        return Verdict(_frechets(data, start, x, device_of(nets)), None)
    if data.density is None:
        return Verdict({}, None)
    points = likelihood.grid()
    energy = recipe.target(next(iter(recipe.chains)), nets, None)
    device = device_of(nets)
    learned = likelihood.grid_log_density(lambda p: energy(p.to(device)).cpu(), points, temperature)
    smoothed = likelihood.kde_log_density(x, points)
    truth = (-data.density.energy(points)).log_softmax(0)
    metrics = {
        "grid_kl": likelihood.kl(data.density, learned, points),
        "short_run_kl": likelihood.kl(data.density, smoothed, points),
    }
    return Verdict(
        metrics, _planes({"truth": truth, f"exp(-U/T), T = {temperature:.0e}": learned, "short-run samples": smoothed})
    )


def _frechets(data: Dataset, start: Tensor, x: Tensor, device: torch.device) -> dict[str, float]:
    net = frechet.classifier(data, device)
    index = np.arange(data.size) if data.size <= 10_000 else np.linspace(0, data.size - 1, 10_000).astype(np.int64)
    real = torch.cat(
        [frechet.features(net, data.batch(part, device)["x"]) for part in np.array_split(index, len(index) // 500 + 1)]
    )
    return {
        "frechet": frechet.frechet(frechet.features(net, x), real),
        "frechet_start": frechet.frechet(frechet.features(net, start), real),
        "frechet_floor": frechet.frechet(real[::2], real[1::2]),
    }


def _planes(log_densities: Mapping[str, Tensor]) -> Figure:
    figure = Figure(figsize=(4 * len(log_densities), 4), layout="constrained")
    for axes, (name, log_density) in zip(figure.subplots(1, len(log_densities)), log_densities.items(), strict=True):
        side = round(len(log_density) ** 0.5)
        axes.imshow(log_density.exp().view(side, side).T, origin="lower", extent=(-2, 2, -2, 2), cmap="magma")
        axes.set_title(name)
    return figure
