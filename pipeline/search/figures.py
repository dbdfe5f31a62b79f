"""Figures of a search: quality against cost with the Pareto front, and quality against each setting."""

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from pipeline.evaluation.figures import new_figure
from pipeline.runs.job import Job
from pipeline.schedule import flat_settings
from pipeline.search.objectives import Objective
from pipeline.search.summary import TrialOutcome, pareto_front

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

LOG_SCALE_RATIO = 8.0
"""Ratio of the greatest to the least value on an axis above which the axis is logarithmic."""


def cost_figure(trials: Sequence[TrialOutcome], objective: Objective) -> "Figure":
    """Quality against gradient evaluations: of training, at every report, and of one sample, at the end."""
    figure = new_figure(11, 4.4)
    left, right = figure.subplots(1, 2)
    finite = {t.name: [r for r in t.reports if math.isfinite(r["quality"])] for t in trials}
    for trial in trials:
        x, y = ([r[key] for r in finite[trial.name]] for key in ("gradient_evaluations", "quality"))
        left.plot(x, y, color="tab:red" if trial.diverged else "tab:blue", marker=".", alpha=0.35, linewidth=0.8)
    _draw_front(
        left, [(r["gradient_evaluations"], r["quality"]) for reports in finite.values() for r in reports], objective
    )
    ends = [t for t in trials if not t.diverged]
    x, y = [t.gradients_per_sample for t in ends], [t.quality for t in ends]
    right.scatter(x, y, s=[30 if t.complete else 8 for t in ends], alpha=0.6)
    _draw_front(right, [(t.gradients_per_sample, t.quality) for t in ends if t.complete], objective)
    left.set(xlabel="gradient evaluations of training", title="trials at each report (red: diverged)")
    right.set(xlabel="gradient evaluations of a sample (K)", title="trials at their end (small: stopped early)")
    for axes in (left, right):
        axes.set(ylabel=objective.name)
        _set_scale(axes, "y", y)
    _set_scale(right, "x", x)
    return figure


def slice_figure(trials: Sequence[TrialOutcome], objective: Objective) -> "Figure":
    """Quality against each setting; the colour is the cost, and crosses at the top are diverged trials."""
    names = list(dict.fromkeys(name for t in trials for name in t.settings))
    columns = min(4, max(1, len(names)))
    rows = max(1, -(-len(names) // columns))
    figure = new_figure(3.4 * columns, 2.8 * rows + 0.4)
    panels = figure.subplots(rows, columns, squeeze=False, sharey=True)
    points = None
    for axes, name in zip(panels.flat, names, strict=False):
        ends = [t for t in trials if name in t.settings and not t.diverged]
        diverged = [t for t in trials if name in t.settings and t.diverged]
        x = [t.settings[name] for t in ends]
        points = axes.scatter(x, [t.quality for t in ends], c=[t.cost for t in ends], cmap="viridis_r", s=22)
        top = axes.get_xaxis_transform()  # x in data, y in the panel
        axes.plot([t.settings[name] for t in diverged], [0.97] * len(diverged), "x", color="tab:red", transform=top)
        axes.set(xlabel=name)
        if all(isinstance(value, int | float) for value in x):
            _set_scale(axes, "x", [float(value) for value in x])
        _set_scale(axes, "y", [t.quality for t in ends])
    for axes in panels.flat[len(names) :]:
        axes.axis("off")
    for axes in panels[:, 0]:
        axes.set(ylabel=objective.name)
    if points is not None:
        figure.colorbar(points, ax=panels, label="gradient evaluations of training")
    return figure


def front_figure(trials: Sequence[TrialOutcome], front: Sequence[Mapping[str, Any]], objective: Objective) -> "Figure":
    """Quality against gradients of a sample: complete trials, their front, and its members with new seeds.

    Args:
        trials: of the search.
        front: its members, as result.json has them.
        objective: the quality.
    """
    figure = new_figure(7, 4.6)
    axes, ended = figure.subplots(), [t for t in trials if t.complete and not t.diverged]
    x, y = [t.gradients_per_sample for t in ended], [t.quality for t in ended]
    axes.scatter(x, y, s=22, alpha=0.5, color="tab:blue", label="trials, on the items for selection")
    _draw_front(axes, [(t.gradients_per_sample, t.quality) for t in ended], objective)
    again = [(one["gradients_per_sample"], [q for q in one["confirmed"] if q is not None]) for one in front]
    points = [(cost, quality) for cost, some in again for quality in some if math.isfinite(quality)]
    if points:
        ks, qualities = zip(*points, strict=True)
        axes.plot(ks, qualities, "x", color="tab:orange", label="members of the front, new seeds, on test items")
        axes.legend(fontsize=8)
    axes.set(xlabel="gradient evaluations of a sample (K)", ylabel=objective.name)
    _set_scale(axes, "x", x)
    _set_scale(axes, "y", y)
    return figure


def schedule_figure(lines: Mapping[str, tuple[Job[Any], int]]) -> "Figure":
    """Each setting against the update: the schedules of the trials that ended well, the best in black.

    Args:
        lines: each trial's job and its last update, best first.
    """
    names = list(dict.fromkeys(name for job, _ in lines.values() for one in job.changes for name in one.settings))
    columns = min(4, max(1, len(names)))
    rows = max(1, -(-len(names) // columns))
    figure = new_figure(3.4 * columns, 2.6 * rows + 0.4)
    panels = figure.subplots(rows, columns, squeeze=False)
    for axes, name in zip(panels.flat, names, strict=False):
        values: list[float] = []
        for rank, (job, last) in reversed([*enumerate(lines.values())]):
            updates = [0, *(one.update for one in job.changes if one.update < last), last]
            y = [flat_settings(job.recipe_at(min(update, last - 1)))[name] for update in updates]
            axes.step(updates, y, where="post", color="black" if rank == 0 else "tab:blue", alpha=0.4 if rank else 1.0)
            values += y
        axes.set(xlabel="update", ylabel=name)
        _set_scale(axes, "y", values)
    for axes in panels.flat[len(names) :]:
        axes.axis("off")
    return figure


def _draw_front(axes: "Axes", points: list[tuple[float | int, float]], objective: Objective) -> None:
    front = [points[i] for i in pareto_front([x for x, _ in points], [y for _, y in points], objective)]
    x, y = [point[0] for point in front], [point[1] for point in front]
    axes.step(x, y, where="post", color="black", linewidth=1.2, marker="o", markersize=4, label="Pareto front")
    if points:
        axes.legend(fontsize=8)


def _set_scale(axes: "Axes", which: str, values: Sequence[float | int]) -> None:
    """Make an axis logarithmic, with few ticks, for values that need it."""
    from matplotlib.ticker import LogLocator, NullFormatter

    if values and min(values) > 0 and max(values) > LOG_SCALE_RATIO * min(values):
        axes.set(**{f"{which}scale": "log"})
        axis = axes.xaxis if which == "x" else axes.yaxis
        axis.set_major_locator(LogLocator(subs=(1, 3)))
        axis.set_major_formatter("{x:g}")
        axis.set_minor_formatter(NullFormatter())
