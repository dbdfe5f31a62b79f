"""The verdicts of convergence, with the long chains behind the last one."""

from collections.abc import Mapping, Sequence
from typing import Any

from pipeline.evaluation.convergence.verdict import verdict_line
from pipeline.report.chart import Line, chart, figure, legend
from pipeline.report.lineup import ReportedRun
from pipeline.report.markup import Markup, element, fold, join, show_number, table
from pipeline.report.overview import verdicts

BADGES = {"convergent": "good", "short-run only": "open", "diverging": "bad", "undecided": "open"}
STARTS = {"noise": "c1 shade0", "data": "c0 shade0", "bank": "c2 shade0"}
"""Colours of chains by their start."""
NONE = (
    "No verdict: nobody observed the run. Observers watch a run at work (--observers 1), and jobs.evaluate RUN "
    "--metrics convergence judges its newest checkpoint."
)


def convergence_section(runs: Sequence[ReportedRun]) -> Markup:
    """A verdict per run."""
    seen = [(run, rows) for run in runs if (rows := verdicts(run.record))]
    if not seen:
        return element("p", NONE)
    parts = [_of_run(run, rows, len(runs) > 1) for run, rows in seen]
    if without := [run.label for run in runs if not verdicts(run.record)]:
        parts.append(element("p", f"No verdict: nobody observed {', '.join(without)}."))
    return join(parts)


def _of_run(run: ReportedRun, rows: Sequence[tuple[str, Mapping[str, Any]]], named: bool) -> Markup:
    last = rows[-1][1]
    badge = element("span", last["verdict"], class_=f"badge {BADGES.get(last['verdict'], 'open')}")
    parts = [element("h3", run.label)] if named else []
    parts.append(element("p", badge, " ", verdict_line(last).partition(", ")[2], "."))
    evidence = next((row for _, row in reversed(rows) if row.get("trajectories")), None)
    if evidence:
        parts.append(_chains(evidence))
    if len(rows) > 1:
        cells = [[show_number(row["update"]), who, row["verdict"], row["why"]] for who, row in rows]
        parts.append(fold("All verdicts", table(["update", "by", "verdict", "why"], cells, "All verdicts", "prose")))
    return join(parts)


def _chains(evidence: Mapping[str, Any]) -> Markup:
    """Energies and distances along the long chains, by their start."""
    steps, metric, starts = evidence["steps"], evidence["metric"], evidence["trajectories"]
    energies = [_line(start, one["energy"], steps) for start, one in starts.items()]
    about = f"at update {evidence['update']:,}, {evidence['chains']} chains per start"
    title = "mean energy over temperature"
    charts = [figure(chart(energies, _words(title, energies), "steps", log_x=True), title, about)]
    if metric:
        distances = [_line(start, one["distance"], steps) for start, one in starts.items()]
        picture = chart(distances, _words(metric, distances), "steps", log_x=True, level=evidence["floor"])
        floor = join(["to the data; dashed: as many samples of the data, ", show_number(evidence["floor"])])
        charts.append(figure(picture, metric, floor))
    entries = [(STARTS.get(start, "c3 shade0"), f"chains from {start}") for start in starts]
    numbers = join(["R-hat of the energies ", show_number(evidence["rhat"]), ", K = ", show_number(steps), "."])
    return join([legend(entries), element("div", *charts, class_="charts"), element("p", numbers)])


def _line(start: str, by_multiple: Mapping[str, float], steps: int) -> Line:
    """By the number of steps; the start itself has no place on a logarithmic axis."""
    points = {int(multiple) * steps: value for multiple, value in by_multiple.items() if int(multiple)}
    return Line(f"from {start}", list(points), list(points.values()), STARTS.get(start, "c3 shade0"))


def _words(title: str, lines: Sequence[Line]) -> str:
    ends = "; ".join(f"{line.label} from {line.y[0]:.3g} to {line.y[-1]:.3g}" for line in lines if line.y)
    return f"{title} along long chains: {ends}"
