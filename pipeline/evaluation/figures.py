"""Figures of evaluations."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure
from numpy import ndarray
from torch import Tensor

from pipeline.energies.toy_densities import ToyDensity
from pipeline.evaluation.metrics.grid import grid_log_density, grid_points, kde_log_density
from pipeline.evaluation.metrics.long_run import LongRunTrajectory
from pipeline.evaluation.metrics.mixing import autocorrelation
from pipeline.evaluation.metrics.traces import MixingTrajectory
from pipeline.nets.weights import device_of
from pipeline.runs.image_grid import image_grid
from pipeline.runs.snapshot import Snapshot
from pipeline.sampling.draw import ChainStart
from pipeline.training.dynamics import LAGS, correlations

PANEL_IMAGES = 25
"""Images of a sheet's panel."""


def energy_figure(found: Mapping[ChainStart, LongRunTrajectory], steps: int) -> Figure:
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


def distance_figure(curves: Mapping[ChainStart, Mapping[float, float]], floor: float, name: str, steps: int) -> Figure:
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


def samples_figure(snapshot: Snapshot, seen: Mapping[str, Tensor], columns: int) -> Figure:
    """Data by name, `columns` a row: densities in the plane beside the truth, or images."""
    if snapshot.data.density is not None:
        points = grid_points(snapshot.data.density.half_width)
        planes = {name: kde_log_density(x, points) for name, x in seen.items()}
        return densities_figure(snapshot.data.density, planes, 5)
    rows = -(-len(seen) // columns)
    figure = Figure(figsize=(2.6 * columns, 2.8 * rows), layout="constrained")
    for axes, (name, x) in zip(figure.subplots(rows, columns, squeeze=False).flat, seen.items(), strict=True):
        axes.imshow(image_grid(x[:PANEL_IMAGES], 5).permute(1, 2, 0))
        axes.set_title(name, fontsize=9)
        axes.axis("off")
    return figure


def plane_figure(snapshot: Snapshot, samples: Mapping[str, Tensor]) -> Figure:
    """The truth, the model's normalised energies and its samples, as densities in the plane."""
    truth, recipe, device = snapshot.data.density, snapshot.job.recipe, device_of(snapshot.nets)
    assert truth is not None
    points, temperature, planes = grid_points(truth.half_width), snapshot.sampler.temperature, {}
    energy = recipe.energy(snapshot.nets)
    if energy is not None:
        log_p = grid_log_density(energy, points.to(device), temperature).cpu()
        planes[f"exp(-U/T), T = {temperature:.3g}"] = log_p
    for name, other in recipe.normalized_energies(snapshot.nets).items():
        planes[name] = grid_log_density(other, points.to(device), 1.0).cpu()
    for name, x in samples.items():
        if energy is None or name != "start":
            planes[name if name == "samples" else f"samples, {name}"] = kde_log_density(x, points)
    return densities_figure(truth, planes)


def few_labels_figure(found: Mapping[str, Mapping[int, Sequence[float]]]) -> Figure:
    """Accuracy against the labels a class, by method: mean and standard deviation over runs."""
    figure = Figure(figsize=(5, 3.4), layout="constrained")
    axes = figure.subplots()
    for name, by_labels in found.items():
        known = sorted(by_labels)
        mean, sd = ([f(by_labels[n]) for n in known] for f in (np.mean, np.std))
        axes.errorbar(known, mean, sd, marker="o", capsize=3, label=name)
    axes.set(xlabel="labels a class", ylabel="accuracy", xscale="log")
    ticks = sorted({n for by_labels in found.values() for n in by_labels})
    axes.set_xticks(ticks, [str(n) for n in ticks])
    axes.minorticks_off()
    axes.legend()
    return figure


def anomaly_figure(energies: Mapping[str, Tensor], anomalous: ndarray, names: Mapping[bool, str]) -> Figure:
    """Each energy of what is anomalous and of what is not, as densities; the ends beyond 99.5 % are cut."""
    figure = Figure(figsize=(5 * len(energies), 3.4), layout="constrained")
    for axes, (what, energy) in zip(
        figure.subplots(1, len(energies), squeeze=False).flat, energies.items(), strict=True
    ):
        bins = np.linspace(float(energy.min()), float(energy.quantile(0.995)), 60).tolist()
        for kind, name in names.items():
            axes.hist(energy.numpy()[anomalous == kind], bins, density=True, alpha=0.6, label=name)
        axes.set(xlabel=what.replace("_", ", "), ylabel="density")
        axes.legend(loc="upper right")  # the best place takes a while to find
    return figure


def densities_figure(truth: ToyDensity, planes: Mapping[str, Tensor], columns: int = 10) -> Figure:
    """The truth and other log-densities on its grid, `columns` a row, each in the scale of its own maximum."""
    planes = {"truth": -truth.energy(grid_points(truth.half_width)).double(), **planes}
    columns, rows = min(columns, len(planes)), -(-len(planes) // columns)
    figure = Figure(figsize=(3 * columns, 3.4 * rows), layout="constrained")
    panels = list(figure.subplots(rows, columns, squeeze=False).flat)
    for axes in panels[len(planes) :]:
        axes.axis("off")
    for axes, (name, log_density) in zip(panels, planes.items(), strict=False):
        side, extent = round(len(log_density) ** 0.5), (-truth.half_width, truth.half_width) * 2
        axes.imshow(log_density.exp().view(side, side).T, origin="lower", extent=extent, cmap="magma")
        axes.set_title(name, fontsize=9)
    return figure


def mixing_figure(found: MixingTrajectory, each: Mapping[str, Mapping[str, float]]) -> Figure:
    """Energies of some chains of each start along their way, their autocorrelation, and R-hat of each quantity."""
    figure = Figure(figsize=(13, 3.8), layout="constrained")
    trace, correlation, rhat = figure.subplots(1, 3)
    steps = (np.arange(found.energy.shape[1]) + 1) * found.every
    for i, start in enumerate(dict.fromkeys(found.starts)):
        own = found.energy[np.array(found.starts) == start]
        for j, energy in enumerate(own[:4]):
            trace.plot(steps, energy, color=f"C{i}", linewidth=0.6, label=None if j else f"from {start}")
        kept = own[:, found.warm_up :]
        lags = np.arange(min(kept.shape[1], 100))
        correlation.plot(lags * found.every, autocorrelation(kept)[: len(lags)], color=f"C{i}", label=f"from {start}")
    trace.axvspan(0, found.warm_up * found.every, color="black", alpha=0.07, label="warm-up")
    trace.set(xlabel="Langevin steps", ylabel="energy / temperature", title="energy of some chains")
    correlation.axhline(0, color="black", linewidth=0.6, linestyle="--")
    correlation.set(xlabel="lag, in Langevin steps", title="autocorrelation of the energy, within chains")
    rhat.bar(list(each), [one["rhat"] - 1 for one in each.values()], bottom=1)
    rhat.axhline(1.01, color="black", linewidth=0.6, linestyle="--")
    rhat.set(title="R-hat (mixed: below 1.01)")
    rhat.tick_params(axis="x", rotation=90)
    for axes in (trace, correlation):
        axes.legend(fontsize=8)
    return figure


def dynamics_figure(d: Sequence[float], v: Sequence[float], until: int, lags: int = LAGS) -> Figure:
    """Energy gap d_t, gradient v_t and their correlations, for the updates before `until`."""
    figure = Figure(figsize=(10, 6), layout="constrained")
    (top, right), (cross, auto) = figure.subplots(2, 2)
    updates, result = np.arange(until - len(d), until), correlations(d, v, lags)
    for axes, values, title in (
        (top, d, "d: energy gap, data minus chains"),
        (right, v, "v: gradient along the chains"),
    ):
        axes.plot(updates, values, linewidth=0.6)
        axes.set(title=title, xlabel="update")
    cross.bar(np.arange(-lags, lags + 1), result.cross)
    cross.set(title="cross-correlation of d(t + lag) and v(t)", xlabel="lag")
    auto.bar(np.arange(lags + 1) - 0.2, result.d, 0.4, label="d")
    auto.bar(np.arange(lags + 1) + 0.2, result.v, 0.4, label="v")
    auto.set(title="autocorrelations", xlabel="lag")
    auto.legend()
    for axes in (top, cross, auto):
        axes.axhline(0, color="black", linewidth=0.6, linestyle="--")
    return figure
