"""Samples of a model, and what they are worth."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, cast

import numpy as np
import torch
from matplotlib.figure import Figure
from numpy import ndarray
from torch import Tensor

from pipeline.chains import Answers, ChainTask
from pipeline.data import Dataset
from pipeline.densities import Density
from pipeline.errors import BadInput
from pipeline.evaluation import frechet, likelihood, perplexity
from pipeline.lanes import Lane
from pipeline.recipe import Recipe
from pipeline.rng import fold, generator
from pipeline.weights import Nets, device_of

PIECE = {"image": 100, "vector": 1000, "text": 1000, "counts": 1000}
"""Chains in one task."""


STRETCH = 500
"""Steps of a long run that one task makes, so that none is late."""


def tasks(
    recipe: Recipe, nets: Nets, data: Dataset, n: int, update: int, seed: int, from_data: bool = False
) -> list[ChainTask]:
    """Tasks that draw n samples by the chain of the recipe's model and its own sampler, with seeds of their own.

    They start afresh as the recipe says, or, for long runs of chains whose states are data, from data.
    """
    chain, piece = recipe.model, PIECE[data.spec.kind]
    pieces, device, what = -(-n // piece), device_of(nets), "long run" if from_data else "samples"
    sampler, drawn = recipe.sampler(chain, nets, update), []
    for i in range(pieces):
        size = min(piece, n - i * piece)
        rng = generator(fold(seed, f"{what} start", i), device)
        items = np.random.default_rng(fold(seed, f"{what} data", i)).integers(data.size, size=size)
        batch = {stream: data.batch(items, device) for stream in recipe.streams}
        with torch.no_grad():
            x = recipe.encode(nets, data.batch(items, device)["x"], rng) if from_data else None
            x = (recipe.start(chain, size, rng, nets, batch) if x is None else x).cpu()
        task_seed = fold(seed, what, i)
        drawn.append(ChainTask(chain, Lane(i, pieces), np.arange(size), x.numpy(), None, sampler, task_seed, update))
    return drawn


def of_classes(recipe: Recipe, nets: Nets, data: Dataset, labels: ndarray, update: int, seed: int) -> list[ChainTask]:
    """Tasks that draw one sample of each of the classes `labels` (n,), which may repeat, by the chain `class`.

    Raises:
        BadInput: the recipe has no such classes.
    """
    classes, device = recipe.classes(data.spec), device_of(nets)
    if not classes:
        raise BadInput(f"{type(recipe).__name__} has no classes that samples could be drawn of")
    if labels.min() < 0 or labels.max() >= classes:
        raise BadInput(f"--label {labels.max()}: there are the classes 0 to {classes - 1}")
    piece = PIECE[data.spec.kind]
    parts = [labels[i : i + piece].astype(np.int64) for i in range(0, len(labels), piece)]
    sampler, drawn = recipe.sampler("class", nets, update), []
    for i, part in enumerate(parts):
        x = recipe.start("class", len(part), generator(fold(seed, "class start", i), device), nets, {}).cpu().numpy()
        lane, own = Lane(i, len(parts)), fold(seed, "class", i)
        drawn.append(ChainTask("class", lane, np.arange(len(part)), x, {"label": part}, sampler, own, update))
    return drawn


def stretches(steps: int) -> list[int]:
    """A long run's steps, cut into what one task makes."""
    return [min(STRETCH, steps - done) for done in range(0, steps, STRETCH)]


def stretched(tasks: list[ChainTask], steps: int) -> list[ChainTask]:
    """The tasks with that many steps and their next seeds."""
    return [
        task._replace(sampler=dataclasses.replace(cast(Any, task.sampler), steps=steps), seed=fold(task.seed, "next"))
        for task in tasks
    ]


def starts(tasks: list[ChainTask]) -> Tensor:
    """The states that tasks start from, in their order."""
    return torch.from_numpy(np.concatenate([task.x for task in tasks]))


def states(answers: Answers, chain: str) -> Tensor:
    """The states of a chain's answers, in the order of the lanes."""
    return torch.from_numpy(np.concatenate([answers[key].x for key in sorted(answers) if key[0] == chain]))


def decoded(recipe: Recipe, nets: Nets, x: Tensor, seed: int) -> Tensor:
    """The data that states (n, *d) of the model's chains stand for, on the CPU; the networks are left in eval mode."""
    device = device_of(nets)
    for net in nets.values():
        net.eval()
    with torch.no_grad():
        parts = [
            recipe.decode(nets, part.to(device), generator(fold(seed, "decode", i), device)).cpu()
            for i, part in enumerate(x.split(PIECE["vector"]))
        ]
    return torch.cat(parts)


class Verdict(NamedTuple):
    """Final metrics, and a figure where there is one to draw."""

    metrics: dict[str, float]
    figure: Figure | None


class Distance(NamedTuple):
    """How samples are compared with the data."""

    name: str
    """`frechet` for labelled images; `kl` where the density is known: of the truth, in nats on a grid."""
    of: Callable[[Tensor], float]
    """Of (at most 10,000 of) the data to the samples, or to the samples smoothed by a kernel of bandwidth .1."""
    floor: Callable[[int], dict[str, float]]
    """What the distance is without a model's fault: data's even items to odd ones, or of n exact samples."""


def distance(data: Dataset, device: torch.device, reference: Dataset | None = None) -> Distance | None:
    """How samples are compared with the data, or None where they cannot be.

    Args:
        data: what was learned from; features are of a classifier of these.
        device: of the classifier.
        reference: images that samples are compared with, say `data.test`; None: the data.
    """
    truth = data.density
    if truth is not None:
        points = likelihood.grid(truth.half)

        def far(x: Tensor) -> float:
            return likelihood.kl(truth, likelihood.kde_log_density(x, points), points)

        return Distance("kl", far, lambda n: {"kl_floor": far(truth.sample(n, generator(0)))})
    if data.spec.kind == "image" and data.spec.classes:
        net, of = frechet.classifier(data, device), reference or data
        index = np.arange(of.size) if of.size <= 10_000 else np.linspace(0, of.size - 1, 10_000).astype(np.int64)
        parts = np.array_split(index, len(index) // 500 + 1)
        real = torch.cat([frechet.features(net, of.batch(part, device)["x"]) for part in parts])
        floor = {"frechet_floor": frechet.frechet(real[::2], real[1::2])}
        return Distance("frechet", lambda x: frechet.frechet(frechet.features(net, x), real), lambda n: floor)
    return None


def judge(recipe: Recipe, nets: Nets, data: Dataset, drawn: Mapping[str, Tensor], temperature: float) -> Verdict:
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
    device = device_of(nets)
    if data.spec.kind == "text":
        return Verdict(perplexity.of_samples(data, drawn, device), None)
    distance_ = distance(data, device)
    if distance_ is None:
        return Verdict({}, None)
    if distance_.name == "frechet":
        metrics = {f"frechet_{what}".removesuffix("_short_run"): distance_.of(x) for what, x in drawn.items()}
        return Verdict({"frechet": metrics.pop("frechet"), **metrics, **distance_.floor(0)}, None)
    assert data.density is not None
    density, points = learned(recipe, nets, data.density, temperature), likelihood.grid(data.density.half)
    metrics, planes = {}, {}
    if density is not None:
        metrics["grid_kl"] = likelihood.kl(data.density, density, points)
        planes[f"exp(-U/T), T = {temperature:.3g}"] = density
        if temperature == 1:
            energy = recipe.energy(nets)
            assert energy is not None
            metrics["log_mass"] = likelihood.grid_log_mass(energy, data.density.half, device)
    for name, of in recipe.densities(nets).items():
        log_q = likelihood.grid_log_density(of, points.to(device), 1.0).cpu()
        metrics[f"{name}_grid_kl"] = likelihood.kl(data.density, log_q, points)
        planes[name] = log_q
    for what, x in drawn.items():
        if density is None or what != "start":
            planes[f"{what.replace('_', '-')} samples"] = log_q = likelihood.kde_log_density(x, points)
            metrics[f"{what}_kl"] = likelihood.kl(data.density, log_q, points)
    return Verdict({**metrics, **distance_.floor(len(drawn["short_run"]))}, densities(data.density, planes))


def learned(recipe: Recipe, nets: Nets, truth: Density, temperature: float) -> Tensor | None:
    """Log of exp(-U / temperature), normalised over the truth's grid (m,); None without an energy of data."""
    energy, device = recipe.energy(nets), device_of(nets)
    if energy is None:
        return None
    return likelihood.grid_log_density(lambda x: energy(x.to(device)).cpu(), likelihood.grid(truth.half), temperature)


def densities(truth: Density, planes: Mapping[str, Tensor], columns: int = 10) -> Figure:
    """The truth and other log-densities on its grid, `columns` a row, each in the scale of its own maximum."""
    planes = {"truth": -truth.energy(likelihood.grid(truth.half)).double(), **planes}
    columns, rows = min(columns, len(planes)), -(-len(planes) // columns)
    figure = Figure(figsize=(3 * columns, 3.4 * rows), layout="constrained")
    panels = list(figure.subplots(rows, columns, squeeze=False).flat)
    for axes in panels[len(planes) :]:
        axes.axis("off")
    for axes, (name, log_density) in zip(panels, planes.items(), strict=False):
        side, extent = round(len(log_density) ** 0.5), (-truth.half, truth.half) * 2
        axes.imshow(log_density.exp().view(side, side).T, origin="lower", extent=extent, cmap="magma")
        axes.set_title(name, fontsize=9)
    return figure
