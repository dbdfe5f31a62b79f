"""Samples of a model, and what they are worth."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, cast

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor

from pipeline.chains import Answers, ChainTask
from pipeline.data import Dataset
from pipeline.energies import Density
from pipeline.evaluation import frechet, likelihood
from pipeline.lanes import Lane
from pipeline.recipe import Recipe
from pipeline.rng import fold, generator
from pipeline.weights import Nets, device_of

PIECE = {"image": 100, "vector": 1000}
"""Chains in one task."""


def tasks(
    recipe: Recipe, nets: Nets, data: Dataset, n: int, update: int, seed: int, long_run: int = 0
) -> list[ChainTask]:
    """Tasks that draw n samples by the recipe's first chain: fresh starts, its own sampler, seeds of their own.

    With `long_run`, chains of that many steps from data instead.
    """
    chain, piece = next(iter(recipe.chains)), PIECE[data.spec.kind]
    pieces, device, drawn = -(-n // piece), device_of(nets), []
    sampler, what = recipe.sampler(chain, nets, update), "samples"
    if long_run:
        sampler, what = dataclasses.replace(cast(Any, sampler), steps=long_run), "long run"
    for i in range(pieces):
        size = min(piece, n - i * piece)
        rng = generator(fold(seed, f"{what} start", i), device)
        items = np.random.default_rng(fold(seed, f"{what} data", i)).integers(data.size, size=size)
        batch = {stream: data.batch(items, device) for stream in recipe.streams}
        x = data.batch(items)["x"] if long_run else recipe.start(chain, size, rng, nets, batch).cpu()
        task_seed = fold(seed, what, i)
        drawn.append(ChainTask(chain, Lane(i, pieces), np.arange(size), x.numpy(), None, sampler, task_seed, update))
    return drawn


def states(answers: Answers, chain: str) -> Tensor:
    """The states of a chain's answers, in the order of the lanes."""
    return torch.from_numpy(np.concatenate([answers[key].x for key in sorted(answers) if key[0] == chain]))


class Verdict(NamedTuple):
    """Final metrics, and a figure where there is one to draw."""

    metrics: dict[str, float]
    figure: Figure | None


def distance(data: Dataset, device: torch.device) -> tuple[str, Callable[[Tensor], float]] | None:
    """How samples are compared with the data, by name; None where they cannot be.

    `frechet` for labelled images: of (at most 10,000 of) the data to the samples. `kl` where the density is known: of
    the truth to the samples smoothed by a kernel of bandwidth .1, on a grid, in nats.
    """
    truth = data.density
    if truth is not None:
        points = likelihood.grid(truth.half)
        return "kl", lambda x: likelihood.kl(truth, likelihood.kde_log_density(x, points), points)
    if data.spec.kind == "image" and data.spec.classes:
        net = frechet.classifier(data, device)
        real = _features(data, net, device)
        return "frechet", lambda x: frechet.frechet(frechet.features(net, x), real)
    return None


def _features(data: Dataset, net: frechet.Classifier, device: torch.device) -> Tensor:
    index = np.arange(data.size) if data.size <= 10_000 else np.linspace(0, data.size - 1, 10_000).astype(np.int64)
    parts = np.array_split(index, len(index) // 500 + 1)
    return torch.cat([frechet.features(net, data.batch(part, device)["x"]) for part in parts])


def judge(recipe: Recipe, nets: Nets, data: Dataset, drawn: Mapping[str, Tensor], temperature: float) -> Verdict:
    """Compare samples with the data, as far as the kind of data allows.

    Args:
        recipe: of the model.
        nets: the model's.
        data: what it was trained on.
        drawn: `start` and `short_run` (the same chains, before and after), and others (`bank`, `long_run`) by name.
        temperature: of the chains.

    Labelled images: `frechet` (short-run samples), `frechet_<name>` of the others, `frechet_floor` (the data's even
    items to its odd ones). A known density in the plane: `grid_kl`, KL of the truth to exp(-U / temperature) on a
    grid, `<name>_kl` of samples, and `kl_floor` of as many exact ones.
    """
    device = device_of(nets)
    found = distance(data, device)
    if found is None:
        return Verdict({}, None)
    name, far = found
    if name == "frechet":
        real = _features(data, frechet.classifier(data, device), device)
        metrics = {"frechet": far(drawn["short_run"])}
        metrics |= {f"frechet_{what}": far(x) for what, x in drawn.items() if what != "short_run"}
        return Verdict({**metrics, "frechet_floor": frechet.frechet(real[::2], real[1::2])}, None)
    assert data.density is not None
    energy, points = recipe.target(next(iter(recipe.chains)), nets, None), likelihood.grid(data.density.half)
    learned = likelihood.grid_log_density(lambda p: energy(p.to(device)).cpu(), points, temperature)
    metrics = {"grid_kl": likelihood.kl(data.density, learned, points)}
    metrics |= {f"{what}_kl": far(x) for what, x in drawn.items() if what != "start"}
    metrics["kl_floor"] = far(data.density.sample(len(drawn["short_run"]), generator(0)))
    return Verdict(metrics, densities(data.density, drawn, {f"exp(-U/T), T = {temperature:.0e}": learned}))


def densities(truth: Density, drawn: Mapping[str, Tensor], learned: Mapping[str, Tensor]) -> Figure:
    """Truth, learned densities (log p on the grid) and smoothed samples (n, 2), each in the scale of its maximum."""
    points = likelihood.grid(truth.half)
    planes = {"truth": -truth.energy(points).double(), **learned}
    for name, x in drawn.items():
        if name != "start":
            planes[f"{name.replace('_', '-')} samples"] = likelihood.kde_log_density(x, points)
    figure = Figure(figsize=(3 * len(planes), 3.4), layout="constrained")
    for axes, (name, log_density) in zip(figure.subplots(1, len(planes)), planes.items(), strict=True):
        side, extent = round(len(log_density) ** 0.5), (-truth.half, truth.half) * 2
        axes.imshow(log_density.exp().view(side, side).T, origin="lower", extent=extent, cmap="magma")
        axes.set_title(name, fontsize=9)
    return figure
