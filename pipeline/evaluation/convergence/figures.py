"""Figures of an observation: energies and distances along long chains, and the chains themselves."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

from torch import Tensor

from pipeline.evaluation.convergence.evidence import Evidence
from pipeline.evaluation.figures import draw_density, draw_images, draw_level, new_figure
from pipeline.evaluation.metrics.grid import grid_points, kde_log_density
from pipeline.runs.snapshot import Snapshot
from pipeline.sampling.draw import ChainStart

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def convergence_figure(evidence: Evidence) -> "Figure":
    """Mean energies along the long chains and, where there is a distance, their distance to the data."""
    figure = new_figure(10 if evidence.metric else 5, 3.6)
    energy, *distance = figure.subplots(1, 1 + bool(evidence.metric), squeeze=False).flat
    for start, chains in evidence.trajectories.items():
        steps = [multiple * evidence.steps for multiple in chains.energy]
        energy.plot(steps, list(chains.energy.values()), label=start, marker=".")
        for axes in distance:
            steps = [multiple * evidence.steps for multiple in chains.distance]
            axes.plot(steps, list(chains.distance.values()), label=f"from {start}", marker=".")
    energy.set(xscale="log", xlabel="Langevin steps", title="mean energy / temperature")
    energy.legend()
    for axes in distance:
        draw_level(axes, evidence.floor, "as many samples of the data")
        axes.set_xscale("symlog", linthresh=evidence.steps)
        axes.set(xlim=(0, None), yscale="log", xlabel="Langevin steps", title=f"{evidence.metric} to the data")
        axes.legend()
    return figure


def chains_figure(snapshot: Snapshot, data: Mapping[ChainStart, Mapping[int, Tensor]]) -> "Figure":
    """The chains' data by start (rows) and multiple of K (columns): images, or densities in the plane."""
    truth, rows, columns = snapshot.data.density, len(data), max(map(len, data.values()))
    figure = new_figure(2.4 * columns, 2.6 * rows)
    panels = figure.subplots(rows, columns, squeeze=False)
    for row, (start, by_multiple) in zip(panels, data.items(), strict=True):
        for axes, (multiple, x) in zip(row, by_multiple.items(), strict=True):
            title = f"{start}, {multiple * snapshot.sampler.steps:,} steps"
            if truth is None:
                draw_images(axes, x, title)
                continue
            axes.set_title(title, fontsize=9)
            axes.axis("off")
            if x.isfinite().all():
                draw_density(axes, kde_log_density(x, grid_points(truth.half_width)), truth.half_width)
    return figure
