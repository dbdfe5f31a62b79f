"""What the trials of a search have shown: the best, quality against cost with its Pareto front, a slice a setting."""

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter

from pipeline.search.objectives import Objective

WIDE = 8.0
"""Ratio of the greatest to the least value of a setting from which its axis is logarithmic."""


class TrialOutcome(NamedTuple):
    """A trial that has reported."""

    name: str
    settings: Mapping[str, Any]
    reports: Sequence[Mapping[str, Any]]
    """`trial.Report`s, as they are stored."""
    whole: bool
    """Whether it went all the way."""
    sample: int
    """Gradient evaluations of one sample of its model: K."""

    @property
    def quality(self) -> float:
        """What it was worth at last."""
        return float(self.reports[-1]["quality"])

    @property
    def cost(self) -> int:
        """Gradient evaluations that it took."""
        return int(self.reports[-1]["gradient_evaluations"])

    @property
    def diverged(self) -> bool:
        """Whether it ended so."""
        return bool(self.reports[-1]["diverged"])


def ranked(trials: Sequence[TrialOutcome], objective: Objective) -> list[TrialOutcome]:
    """The trials that did not diverge, best first: those that went all the way before those that were stopped."""
    sign = 1 if objective.better == "min" else -1
    return sorted((t for t in trials if not t.diverged), key=lambda t: (not t.whole, sign * t.quality))


def pareto_front(cost: Sequence[float | int], quality: Sequence[float | int], objective: Objective) -> list[int]:
    """Indices of the Pareto front, by rising cost: nothing that costs as little or less is as good or better."""
    sign, best, kept = (1 if objective.better == "min" else -1), math.inf, []
    order = sorted(range(len(cost)), key=lambda i: (cost[i], sign * quality[i]))
    for i in order:
        if sign * quality[i] < best:
            best = sign * quality[i]
            kept.append(i)
    return kept


def cost_figure(trials: Sequence[TrialOutcome], objective: Objective) -> Figure:
    """Quality against the gradients that learning took, at every report, and of one sample, at the end."""
    figure = Figure(figsize=(11, 4.4), layout="constrained")
    left, right = figure.subplots(1, 2)
    ends = [t for t in trials if not t.diverged]
    for trial in trials:
        seen = [r for r in trial.reports if math.isfinite(r["quality"])]
        x, y = [r["gradient_evaluations"] for r in seen], [r["quality"] for r in seen]
        left.plot(x, y, color="tab:red" if trial.diverged else "tab:blue", marker=".", alpha=0.35, linewidth=0.8)
    _front(
        left,
        [(r["gradient_evaluations"], r["quality"]) for t in trials for r in t.reports if math.isfinite(r["quality"])],
        objective,
    )
    right.scatter(
        [t.sample for t in ends], [t.quality for t in ends], s=[30 if t.whole else 8 for t in ends], alpha=0.6
    )
    _front(right, [(t.sample, t.quality) for t in ends if t.whole], objective)
    left.set(xlabel="gradient evaluations of learning", title="trials on their way (red: diverged)")
    right.set(xlabel="gradient evaluations of a sample (K)", title="trials at their end (small: stopped early)")
    for axes in (left, right):
        axes.set(ylabel=objective.name)
        _scaled(axes, "y", [t.quality for t in ends])
    _scaled(right, "x", [t.sample for t in ends])
    return figure


def _front(axes: Axes, points: list[tuple[float | int, float]], objective: Objective) -> None:
    chosen = pareto_front([x for x, _ in points], [y for _, y in points], objective)
    x, y = [points[i][0] for i in chosen], [points[i][1] for i in chosen]
    axes.step(x, y, where="post", color="black", linewidth=1.2, marker="o", markersize=4, label="Pareto front")
    if points:
        axes.legend(fontsize=8)


def _scaled(axes: Axes, which: str, values: Sequence[float | int]) -> None:
    """A logarithmic axis for values that need one, with few labels."""
    if values and min(values) > 0 and max(values) > WIDE * min(values):
        axes.set(**{f"{which}scale": "log"})
        axis = axes.xaxis if which == "x" else axes.yaxis
        axis.set_major_locator(LogLocator(subs=(1, 3)))
        axis.set_major_formatter("{x:g}")
        axis.set_minor_formatter(NullFormatter())


def slice_figure(trials: Sequence[TrialOutcome], objective: Objective) -> Figure:
    """Quality against each setting; the colour is the cost, diverged trials stand at the top as crosses."""
    names = list(dict.fromkeys(name for t in trials for name in t.settings))
    columns = min(4, max(1, len(names)))
    rows = max(1, -(-len(names) // columns))
    figure = Figure(figsize=(3.4 * columns, 2.8 * rows + 0.4), layout="constrained")
    panels = figure.subplots(rows, columns, squeeze=False, sharey=True)
    shown = None
    for axes, name in zip(panels.flat, names, strict=False):
        ends = [t for t in trials if name in t.settings and not t.diverged]
        fell = [t for t in trials if name in t.settings and t.diverged]
        x = [t.settings[name] for t in ends]
        shown = axes.scatter(x, [t.quality for t in ends], c=[t.cost for t in ends], cmap="viridis_r", s=22)
        top = axes.get_xaxis_transform()  # x in data, y in the panel
        axes.plot([t.settings[name] for t in fell], [0.97] * len(fell), "x", color="tab:red", transform=top)
        axes.set(xlabel=name)
        if all(isinstance(value, int | float) for value in x):
            _scaled(axes, "x", [float(value) for value in x])
        _scaled(axes, "y", [t.quality for t in ends])
    for axes in panels.flat[len(names) :]:
        axes.axis("off")
    for axes in panels[:, 0]:
        axes.set(ylabel=objective.name)
    if shown is not None:
        figure.colorbar(shown, ax=panels, label="gradient evaluations of learning")
    return figure


def mean_and_sd(values: Sequence[float]) -> str:
    """Mean ± standard deviation, and how many are missing from it because they diverged."""
    there = np.array([value for value in values if math.isfinite(value)])
    if not len(there):
        return "all diverged"
    missing = f" ({len(values) - len(there)} of {len(values)} diverged)" if len(there) < len(values) else ""
    return f"{there.mean():.4g}" + (f" ± {there.std(ddof=1):.2g}" if len(there) > 1 else "") + missing
