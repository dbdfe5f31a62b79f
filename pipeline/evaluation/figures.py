"""Figures of evaluations; matplotlib is imported when the first one is drawn."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy import ndarray
from torch import Tensor

from pipeline.energies.toy_densities import ToyDensity
from pipeline.evaluation.metrics.grid import grid_log_density, grid_points, kde_log_density
from pipeline.evaluation.metrics.long_run import LongRunTrajectory
from pipeline.evaluation.metrics.mixing import autocorrelation, mixing
from pipeline.evaluation.metrics.mixing_trajectories import MixingTrajectory
from pipeline.evaluation.metrics.transport import SpaceTrajectory, first_draws, second_half
from pipeline.runs.image_grid import image_grid
from pipeline.runs.snapshot import Snapshot
from pipeline.sampling.draw import ChainStart
from pipeline.training.dynamics import LAGS, correlations

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

CLASS_ROWS = 30
"""Classes in a figure, at most."""
PANEL_IMAGES = 25
"""Images in a panel."""
FEWEST_RHAT_DRAWS = 100
"""Draws of the shortest part of a trajectory whose R-hat is drawn."""


def energy_figure(trajectories: Mapping[ChainStart, LongRunTrajectory], every: int) -> "Figure":
    """Mean energies along chains, one per `every` steps."""
    figure = new_figure(6, 4)
    axes = figure.subplots()
    for start, chains in trajectories.items():
        steps = np.arange(1, len(chains.energy) + 1) * every
        axes.plot(steps, chains.energy, label=f"from {start}", marker=".", markersize=3)
    axes.set(xscale="log", xlabel="Langevin steps", ylabel="mean energy / temperature", title="energy along the chains")
    axes.legend()
    return figure


def distance_figure(
    curves: Mapping[ChainStart, Mapping[float, float]], floor: float, name: str, steps: int
) -> "Figure":
    """Distances to the data by start and multiple of `steps` steps, above that of as many samples of the data."""
    figure = new_figure(6, 4)
    axes = figure.subplots()
    for start, curve in curves.items():
        axes.plot([m * steps for m in curve], list(curve.values()), label=f"from {start}", marker=".")
    draw_level(axes, floor, "as many samples of the data")
    at_start = any(0 in curve for curve in curves.values())
    axes.set(xscale="symlog" if at_start else "log", yscale="log", xlabel="Langevin steps", ylabel=name)
    axes.set(title="distance to the data")
    axes.legend()
    return figure


def samples_figure(snapshot: Snapshot, by_name: Mapping[str, Tensor], columns: int) -> "Figure":
    """Data by name, `columns` per row: densities in the plane beside the truth, or images."""
    if snapshot.data.density is not None:
        points = grid_points(snapshot.data.density.half_width)
        planes = {name: kde_log_density(x, points) for name, x in by_name.items()}
        return densities_figure(snapshot.data.density, planes, 5)
    rows = -(-len(by_name) // columns)
    figure = new_figure(2.6 * columns, 2.8 * rows)
    for axes, (name, x) in zip(figure.subplots(rows, columns, squeeze=False).flat, by_name.items(), strict=True):
        draw_images(axes, x, name)
    return figure


def classes_figure(x: Tensor, names: Sequence[str]) -> "Figure":
    """Images (k n, c, h, w), n of each of k classes: a row with its name for each of the first CLASS_ROWS classes."""
    rows = list(zip(names, x.chunk(len(names)), strict=True))[:CLASS_ROWS]
    figure = new_figure(5, 0.5 * len(rows))
    for axes, (name, row) in zip(figure.subplots(len(rows), 1, squeeze=False).flat, rows, strict=True):
        axes.imshow(image_grid(row, len(row)).permute(1, 2, 0))
        axes.text(-0.01, 0.5, name, ha="right", va="center", transform=axes.transAxes)
        axes.axis("off")
    return figure


def plane_figure(snapshot: Snapshot, samples: Mapping[str, Tensor]) -> "Figure":
    """The truth, the model's normalised energies and its samples, as densities in the plane."""
    truth, recipe, device = snapshot.data.density, snapshot.recipe, snapshot.device
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


def densities_figure(truth: ToyDensity, planes: Mapping[str, Tensor], columns: int = 10) -> "Figure":
    """The truth and other log densities on its grid, `columns` per row, each on the scale of its own maximum."""
    planes = {"truth": -truth.energy(grid_points(truth.half_width)).double(), **planes}
    columns, rows = min(columns, len(planes)), -(-len(planes) // columns)
    figure = new_figure(3 * columns, 3.4 * rows)
    panels = list(figure.subplots(rows, columns, squeeze=False).flat)
    for axes in panels[len(planes) :]:
        axes.axis("off")
    for axes, (name, log_density) in zip(panels, planes.items(), strict=False):
        draw_density(axes, log_density, truth.half_width)
        axes.set_title(name, fontsize=9)
    return figure


def few_labels_figure(accuracies: Mapping[str, Mapping[int, Sequence[float]]]) -> "Figure":
    """Accuracy against labels per class, by method: mean and standard deviation over runs."""
    figure = new_figure(5, 3.4)
    axes = figure.subplots()
    for name, by_labels in accuracies.items():
        labels = sorted(by_labels)
        mean, sd = ([f(by_labels[n]) for n in labels] for f in (np.mean, np.std))
        axes.errorbar(labels, mean, sd, marker="o", capsize=3, label=name)
    axes.set(xlabel="labels per class", ylabel="accuracy", xscale="log")
    ticks = sorted({n for by_labels in accuracies.values() for n in by_labels})
    axes.set_xticks(ticks, [str(n) for n in ticks])
    axes.minorticks_off()
    axes.legend()
    return figure


def anomaly_figure(energies: Mapping[str, Tensor], anomalous: ndarray, names: Mapping[bool, str]) -> "Figure":
    """Densities of each energy, of anomalous and of other items, up to the quantile 99.5 %."""
    figure = new_figure(5 * len(energies), 3.4)
    panels = figure.subplots(1, len(energies), squeeze=False).flat
    for axes, (name, energy) in zip(panels, energies.items(), strict=True):
        bins = np.linspace(float(energy.min()), float(energy.quantile(0.995)), 60).tolist()
        for kind, label in names.items():
            axes.hist(energy.numpy()[anomalous == kind], bins, density=True, alpha=0.6, label=label)
        axes.set(xlabel=name.replace("_", ", "), ylabel="density")
        axes.legend(loc="upper right")  # finding the best place is slow
    return figure


def mixing_figure(trajectory: MixingTrajectory, by_name: Mapping[str, Mapping[str, float]]) -> "Figure":
    """Energies along some chains of each start, their autocorrelation, and R-hat of each quantity."""
    figure = new_figure(13, 3.8)
    trace, correlation, rhat = figure.subplots(1, 3)
    steps = (np.arange(trajectory.energy.shape[1]) + 1) * trajectory.every
    for i, start in enumerate(dict.fromkeys(trajectory.starts)):
        energies = trajectory.energy[np.array(trajectory.starts) == start]
        for j, energy in enumerate(energies[:4]):
            trace.plot(steps, energy, color=f"C{i}", linewidth=0.6, label=None if j else f"from {start}")
        late = energies[:, trajectory.warm_up :]
        lags = np.arange(min(late.shape[1], 100))
        values = autocorrelation(late)[: len(lags)]
        correlation.plot(lags * trajectory.every, values, color=f"C{i}", label=f"from {start}")
    trace.axvspan(0, trajectory.warm_up * trajectory.every, color="black", alpha=0.07, label="warm-up")
    trace.set(xlabel="Langevin steps", ylabel="energy / temperature", title="energy of some chains")
    draw_level(correlation, 0)
    correlation.set(xlabel="lag, in Langevin steps", title="autocorrelation of the energy, within chains")
    rhat.bar(list(by_name), [one["rhat"] - 1 for one in by_name.values()], bottom=1)
    draw_level(rhat, 1.01)
    rhat.set(title="R-hat (mixed: below 1.01)")
    rhat.tick_params(axis="x", rotation=90)
    for axes in (trace, correlation):
        axes.legend(fontsize=8)
    return figure


def transport_figure(snapshot: Snapshot, trajectories: Mapping[str, SpaceTrajectory]) -> "Figure":
    """R-hat as chains get longer, autocorrelation of a coordinate and, in the plane, one chain of each space."""
    density = snapshot.data.density
    figure = new_figure(8 + (8 if density else 0), 3.8)
    rhat, correlation, *planes = figure.subplots(1, 4 if density else 2)
    for space, trajectory in trajectories.items():
        draws = trajectory.energy.shape[1]
        lengths = np.unique(np.geomspace(min(FEWEST_RHAT_DRAWS, draws), draws, 12).astype(int))
        values = [float(np.max(mixing(second_half(first_draws(trajectory, n))).rhat)) for n in lengths.tolist()]
        rhat.plot(lengths * trajectory.every, values, marker=".", label=f"in {space}")
        coordinate = second_half(trajectory)[..., 1]
        lags = np.arange(min(coordinate.shape[1], 200))
        correlation.plot(lags * trajectory.every, autocorrelation(coordinate)[: len(lags)], label=f"in {space}")
    draw_level(rhat, 1.05)
    rhat.set(xscale="log", xlabel="proposals", title="greatest R-hat, second half")
    draw_level(correlation, 0)
    correlation.set(xlabel="lag, in proposals", title="autocorrelation of a coordinate, within chains")
    for axes in (rhat, correlation):
        axes.legend(fontsize=8)
    for axes, (space, trajectory) in zip(planes, trajectories.items(), strict=False):
        assert density is not None
        draw_density(axes, -density.energy(grid_points(density.half_width)), density.half_width, "Greys", 0.6)
        color = "C0" if space == "z" else "C1"
        axes.plot(*trajectory.x[0].T, linewidth=0.4, marker=".", markersize=1.5, color=color)
        limits = -density.half_width, density.half_width
        axes.set(xlim=limits, ylim=limits, title=f"one chain that moves in {space}")
    return figure


def dynamics_figure(d: Sequence[float], v: Sequence[float], end: int) -> "Figure":
    """Energy gap d_t, gradient v_t and their correlations, for the updates before `end`."""
    figure = new_figure(10, 6)
    (top, right), (cross, auto) = figure.subplots(2, 2)
    updates, result = np.arange(end - len(d), end), correlations(d, v)
    top.plot(updates, d, linewidth=0.6)
    top.set(title="d: energy gap, data minus chains", xlabel="update")
    right.plot(updates, v, linewidth=0.6)
    right.set(title="v: gradient along the chains", xlabel="update")
    cross.bar(np.arange(-LAGS, LAGS + 1), result.cross)
    cross.set(title="cross-correlation of d(t + lag) and v(t)", xlabel="lag")
    auto.bar(np.arange(LAGS + 1) - 0.2, result.d, 0.4, label="d")
    auto.bar(np.arange(LAGS + 1) + 0.2, result.v, 0.4, label="v")
    auto.set(title="autocorrelations", xlabel="lag")
    auto.legend()
    for axes in (top, cross, auto):
        draw_level(axes, 0)
    return figure


def new_figure(width: float, height: float) -> "Figure":
    """An empty figure of a size in inches."""
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained")


def draw_level(axes: "Axes", y: float, label: str | None = None) -> None:
    """A dashed horizontal line."""
    axes.axhline(y, color="black", linewidth=0.6, linestyle="--", label=label)


def draw_density(axes: "Axes", log_density: Tensor, half: float, cmap: str = "magma", alpha: float = 1.0) -> None:
    """A density on the grid of the square [-half, half]^2."""
    side = round(len(log_density) ** 0.5)
    plane = log_density.exp().view(side, side).T
    axes.imshow(plane, origin="lower", extent=(-half, half) * 2, cmap=cmap, alpha=alpha)


def draw_images(axes: "Axes", x: Tensor, title: str) -> None:
    """Some images in one panel."""
    axes.imshow(image_grid(x[:PANEL_IMAGES], 5).permute(1, 2, 0))
    axes.set_title(title, fontsize=9)
    axes.axis("off")
