"""Curves of metrics.jsonl: one chart per metric that varies, with all runs in it."""

import math
from collections.abc import Sequence

from pipeline.report.chart import Line, chart, figure, legend
from pipeline.report.lineup import ReportedRun
from pipeline.report.markup import Markup, element, fold, join, short, show_number

MEANINGS = {
    "energy/gap": "d, energy of the data minus that of the chains",
    "energy/data": "mean energy of the data",
    "energy/model": "mean energy of the chains",
    "chains/grad_norm": "v, gradient along the chains",
    "chains/step_ratio": "a step over what a chain needs of it; above 10, the run has diverged",
    "chains/gradient_to_noise": "a step's drift over its noise",
    "chains/acceptance_rate": "accepted share of proposals",
    "chains/rms": "root mean square of the states",
    "chains/rms_displacement": "from start to end of a chain",
    "chains/temperature": "temperature of the chains",
    "chains/staleness": "change of energies under a lag",
}
"""What metrics are, in a few words."""
FOLDED = ("lr/", "time/", "faults/", "attempt")
"""Beginnings of metrics that are shown on request."""
MOST_VALUES = 4
"""Runs, at most, whose last values stand above a chart."""


def curves_section(runs: Sequence[ReportedRun]) -> Markup:
    """All curves, those of learning rates and times folded, and what stayed constant."""
    names = list(dict.fromkeys(name for run in runs for row in run.record.rows for name in row if name != "update"))
    if not names:
        return element("p", "Nothing is logged yet.")
    constant = {name: values for name in names if (values := _constant(runs, name)) is not None}
    varying = [name for name in names if name not in constant]
    main = [name for name in varying if not name.startswith(FOLDED)]
    rest = [name for name in varying if name.startswith(FOLDED)]
    parts = [legend([(run.style, run.label) for run in runs])] if len(runs) > 1 else []
    parts.append(element("div", *(_curve(runs, name) for name in sorted(main, key=_group)), class_="charts"))
    if rest:
        charts = element("div", *(_curve(runs, name) for name in rest), class_="charts")
        parts.append(fold("Learning rates, times and faults", charts))
    if constant:
        items = [element("li", element("code", name), f" {short(value)}") for name, value in constant.items()]
        parts.append(fold("What stayed constant", element("ul", *items, class_="inline")))
    return join(parts)


def _group(name: str) -> int:
    """The energy gap and other energies first, then losses, chains, and the recipe's own metrics."""
    if name == "energy/gap":
        return -1
    order = ("energy", "loss", "chains")
    group = name.partition("/")[0]
    return order.index(group) if group in order else len(order)


def _constant(runs: Sequence[ReportedRun], name: str) -> float | None:
    """The one finite value that a metric has in all runs; None where it varies."""
    values = {row[name] for run in runs for row in run.record.rows if name in row}
    return float(*values) if len(values) == 1 and all(map(math.isfinite, values)) else None


def _curve(runs: Sequence[ReportedRun], name: str) -> Markup:
    lines, last, missing = [], [], []
    for run in runs:
        rows = [row for row in run.record.rows if name in row]
        if not rows:
            continue
        updates, values = [row["update"] for row in rows], [float(row[name]) for row in rows]
        lines.append(Line(run.label, updates, values, run.style))
        last.append(element("span", show_number(values[-1]), class_=f"value {run.style}"))
        if bad := [update for update, value in zip(updates, values, strict=True) if not math.isfinite(value)]:
            missing.append(f"{run.label}: {len(bad)} values are not finite, the first at update {bad[0]:,}.")
    events = [(one["update"], f"rollback of {run.label}") for run in runs for one in run.record.rollbacks]
    picture = chart(lines, _describe(name, lines), "update", events=events)
    shown = [element("span", MEANINGS[name], class_="meaning")] if name in MEANINGS else []
    if len(last) <= MOST_VALUES:
        shown.append(element("span", "last ", join(last, " · "), class_="last"))
    notes = [element("p", note, class_="bad") for note in missing]
    return join([figure(join([picture, *notes]), name, join(shown, " "))])


def _describe(name: str, lines: Sequence[Line]) -> str:
    """The chart in words."""
    parts = []
    for line in lines:
        finite = [value for value in line.y if math.isfinite(value)]
        between = f", between {short(min(finite))} and {short(max(finite))}" if finite else ""
        parts.append(f"{line.label} from {short(line.y[0])} to {short(line.y[-1])}{between}")
    return f"{name} over updates: {'; '.join(parts)}"
