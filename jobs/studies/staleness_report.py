"""The table and the figure of the study of staleness."""

from collections.abc import Iterator, Sequence
from itertools import product
from typing import Any

import matplotlib
import numpy as np
from matplotlib.figure import Figure

DISTANCES = {"frechet": "Fréchet distance", "kl": "KL(truth, samples), nats"}

RunResult = dict[str, Any]


def _groups(results: Sequence[RunResult], arms: Sequence[str]) -> Iterator[tuple[str, str, list[RunResult]]]:
    for case, arm in product(dict.fromkeys(one["case"] for one in results), arms):
        yield case, arm, [one for one in results if (one["case"], one["arm"]) == (case, arm)]


def _spread(values: Sequence[float | None], form: str) -> str:
    """Mean (least to greatest) of the values that are not None."""
    present = [value for value in values if value is not None]
    if not present:
        return "-"
    spread = f" ({min(present):{form}} to {max(present):{form}})" if min(present) < max(present) else ""
    return f"{np.mean(present):{form}}{spread}"


def table(results: Sequence[RunResult], arms: Sequence[str]) -> str:
    """Markdown; means over seeds, with their range."""
    columns = (
        "data, chains | arm | quality at the end | staleness | waited | seconds per update | times as fast | diverged"
    )
    lines = [f"| {columns} |", "|---" * len(columns.split("|")) + "|"]
    first = {(one["case"], one["seed"]): one["seconds"] for one in results if one["arm"] == arms[0]}
    for case, arm, runs in _groups(results, arms):
        ended = [one["quality"][-1] for one in runs if not one["diverged"]]
        pairs = [(first[case, one["seed"]], one["seconds"]) for one in runs]
        cells = [
            f"{arm} at {runs[0]['max_staleness']:g}" if runs[0]["max_staleness"] else arm,
            _spread(ended, ".3g"),
            _spread([one["staleness"] for one in runs], ".3f"),
            f"{np.mean([one['waits'] for one in runs]):.0%}",
            _spread([one["seconds"] for one in runs], ".3f"),
            _spread([base / own if base and own else None for base, own in pairs], ".2f"),
            f"{sum(bool(one['diverged']) for one in runs)} of {len(runs)}",
        ]
        lines.append(f"| {case} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def figure(results: Sequence[RunResult], arms: Sequence[str]) -> Figure:
    """Quality against updates (above) and against seconds (below), one line per arm: mean and range over seeds."""
    cases = list(dict.fromkeys(one["case"] for one in results))
    result = Figure(figsize=(4 * len(cases), 7), layout="constrained")
    panels = result.subplots(2, len(cases), squeeze=False)
    colours = dict(zip(arms, matplotlib.colormaps["viridis"](np.linspace(0, 0.9, len(arms))), strict=True))
    for case, arm, runs in _groups(results, arms):
        column, diverged = panels[:, cases.index(case)], [one for one in runs if one["diverged"]]
        label = f"{arm} ({len(diverged)} of {len(runs)} diverged)" if diverged else arm
        seconds = [one["seconds"] for one in runs if one["seconds"]]
        for axes, unit in zip(column, (1.0, np.mean(seconds) if seconds else np.nan), strict=True):
            n = min(len(one["updates"]) for one in runs)
            x, y = unit * np.array(runs[0]["updates"][:n]), np.array([one["quality"][:n] for one in runs])
            style = {"color": colours[arm], "linestyle": "--" if "bounded" in arm else "-"}
            axes.plot(x, y.mean(0), marker=".", label=label, **style)
            axes.fill_between(x, y.min(0), y.max(0), color=colours[arm], alpha=0.12, linewidth=0)
            for one in diverged:
                axes.plot([u * unit for u in one["updates"][-1:]], one["quality"][-1:], "x", color=colours[arm])
        if runs[0]["distance"]:
            column[0].set(title=case, ylabel=DISTANCES[runs[0]["distance"]], xlabel="updates", yscale="log")
            column[1].set(ylabel=DISTANCES[runs[0]["distance"]], xlabel="seconds of learning", yscale="log")
    for axes in panels.flat:
        axes.legend(fontsize=7)
    return result
