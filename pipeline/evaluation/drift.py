"""Where long chains go: the distance to the data and the energy at multiples of a model's own K steps (1903.12370)."""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from matplotlib.figure import Figure
from torch import Tensor

from pipeline.chains import AnyPool
from pipeline.evaluation import likelihood, samples
from pipeline.evaluation.comparison import Comparison
from pipeline.evaluation.protocol import Bench, Measured
from pipeline.evaluation.walk import Seen, Start, together, walked
from pipeline.model import Model
from pipeline.report import grid
from pipeline.rng import fold

SHOWN = 25
"""Images of a sheet's panel."""

Bar = Callable[[Iterable[Seen], int], Iterable[Seen]]
"""Shows how far chains have come that are looked at so many times."""


class Way(NamedTuple):
    """Chains of one start."""

    data: dict[float, Tensor]
    """What the n states stand for, by multiple of K."""
    energy: Float[Tensor, " t"]
    """Their mean energy over temperature (not over 0), after each `unit` of steps."""


def unit(model: Model, multiples: Sequence[float]) -> int:
    """Steps between energies: K, or what makes every multiple a whole number of steps, or what one task makes."""
    steps = model.kernel.steps
    common = math.gcd(steps, *(round(m * steps) for m in multiples))
    return common if common <= samples.STRETCH else math.gcd(common, samples.STRETCH)


def ways(
    pool: AnyPool, model: Model, starts: Sequence[Start], n: int, multiples: Sequence[float], seed: int, bar: Bar
) -> dict[Start, Way]:
    """N chains of each start that the model has, as far as the largest multiple of its K steps."""
    kernel, every = model.kernel, unit(model, multiples)
    begun = together(model, starts, n, seed)
    tasks = [task for some in begun.values() for task in some]
    wanted = {round(m * kernel.steps) // every: m for m in multiples}
    states = {start: {} if 0 not in wanted else {wanted[0]: samples.starts(some)} for start, some in begun.items()}
    energies: dict[Start, list[Tensor]] = {start: [] for start in begun}
    walk = walked(pool, model, tasks, every, max(wanted))
    for i, seen in enumerate(bar(walk, max(wanted)), 1):
        for start, x, energy in zip(begun, seen.x.split(n), seen.energy.split(n), strict=True):
            energies[start].append(energy.mean() / (kernel.temperature or 1.0))
            if i in wanted:
                states[start][wanted[i]] = x
    recipe, nets = model.job.recipe, model.nets
    return {
        start: Way({m: samples.decoded(recipe, nets, x, seed) for m, x in of.items()}, torch.stack(energies[start]))
        for start, of in states.items()
    }


def drifted(
    bench: Bench, way: Comparison, starts: Sequence[Start], n: int, multiples: Sequence[float], bar: Bar
) -> tuple[list[Measured], dict[Start, Way]]:
    """The distance to the reference, of n items that were learned from, and of n chains of each start at each multiple
    of K; and the chains.
    """
    seed, data = fold(bench.seed, "drift"), bench.model.data
    some = data.batch(np.random.default_rng(seed).permutation(data.size)[:n])["x"]
    told = [Measured(f"{way.name}_data", way.distance(some), bench.protocol("drift of data", (), n, way.features))]
    found = ways(bench.pool, bench.model, starts, n, multiples, seed, bar)
    for start, chains in found.items():
        for m, x in chains.data.items():
            protocol = bench.protocol("drift", (start,), n, way.features, multiple=m)
            told.append(Measured(f"{way.name}_{start}_{m:g}K", way.distance(x), protocol))
    return told, found


def energies(found: Mapping[Start, Way], steps: int) -> Figure:
    """Mean energies along the chains, one each `steps` steps."""
    figure = Figure(figsize=(6, 4), layout="constrained")
    axes = figure.subplots()
    for start, way in found.items():
        axes.plot(
            np.arange(1, len(way.energy) + 1) * steps, way.energy, label=f"from {start}", marker=".", markersize=3
        )
    axes.set(xscale="log", xlabel="Langevin steps", ylabel="mean energy / temperature", title="energy along the chains")
    axes.legend()
    return figure


def distances(curves: Mapping[Start, Mapping[float, float]], floor: float, name: str, steps: int) -> Figure:
    """Distances by start and multiple of `steps` steps, above that of as many items of the data."""
    figure = Figure(figsize=(6, 4), layout="constrained")
    axes = figure.subplots()
    for start, curve in curves.items():
        axes.plot([m * steps for m in curve], list(curve.values()), label=f"from {start}", marker=".")
    axes.axhline(floor, color="black", linewidth=0.6, linestyle="--", label="as many of the data")
    at_start = any(0 in curve for curve in curves.values())
    axes.set(
        xscale="symlog" if at_start else "log",
        yscale="log",
        xlabel="Langevin steps",
        ylabel=name,
        title="distance to the data",
    )
    axes.legend()
    return figure


def sheets(model: Model, seen: Mapping[str, Tensor], columns: int) -> Figure:
    """Data by name, `columns` a row: densities in the plane beside the truth, or images."""
    if model.data.density is not None:
        points = likelihood.grid(model.data.density.half)
        planes = {name: likelihood.kde_log_density(x, points) for name, x in seen.items()}
        return samples.densities(model.data.density, planes, 5)
    rows = -(-len(seen) // columns)
    figure = Figure(figsize=(2.6 * columns, 2.8 * rows), layout="constrained")
    for axes, (name, x) in zip(figure.subplots(rows, columns, squeeze=False).flat, seen.items(), strict=True):
        axes.imshow(grid(x[:SHOWN], 5).permute(1, 2, 0))
        axes.set_title(name, fontsize=9)
        axes.axis("off")
    return figure
