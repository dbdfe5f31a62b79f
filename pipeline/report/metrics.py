"""Metrics of final and later evaluations, with their protocols."""

import math
import statistics
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from pipeline.report.lineup import ReportedRun, seed_groups
from pipeline.report.markup import Markup, element, fold, join, short, show_number, show_setting, table


class Column(NamedTuple):
    """One evaluation of one run."""

    title: str
    metrics: Mapping[str, Mapping[str, Any]]
    protocols: Mapping[str, Mapping[str, Any]]


def metrics_section(runs: Sequence[ReportedRun]) -> Markup:
    """A table of all metrics by evaluation, and the protocols."""
    columns = _columns(runs)
    if not columns:
        return element("p", "Nothing is measured yet: a run is evaluated at its end, or by jobs.evaluate RUN.")
    protocols = {key: one for column in columns for key, one in column.protocols.items()}
    groups = [some for some in seed_groups(runs).values() if sum(bool(run.record.result) for run in some) > 1]
    rows = []
    for name in dict.fromkeys(name for column in columns for name in column.metrics):
        found = [column.metrics.get(name) for column in columns]
        spreads = [_mean_and_sd([_final(run, name) for run in some]) for some in groups]
        compared = [_difference([protocols[one["protocol"]] for one in found if one])] if len(columns) > 1 else []
        rows.append([name, *(_cell(one) for one in found), *spreads, *compared])
    head = ["metric", *(column.title for column in columns)]
    head += [f"mean ± sd of {len(some)} seeds" for some in groups] + (["protocols"] if len(columns) > 1 else [])
    hint = "Below each number stands the hash of its protocol. Two numbers are comparable where their hashes are equal."
    return join([
        table(head, rows, "Metrics", "metrics"),
        element("p", hint, class_="note"),
        fold("Protocols", table(["hash", "what", "how"], _spelled_out(protocols), "Protocols", "prose")),
    ])  # fmt: skip


def _columns(runs: Sequence[ReportedRun]) -> list[Column]:
    columns = []
    for run in runs:
        prefix = f"{run.label}: " if len(runs) > 1 else ""
        results = {"final evaluation": run.record.result, **run.record.evaluations}
        for name, one in results.items():
            if one.get("metrics"):
                title = run.label if prefix and name == "final evaluation" else f"{prefix}{name}"
                columns.append(Column(title, one["metrics"], one["protocols"]))
    return columns


def _cell(one: Mapping[str, Any] | None) -> Markup:
    if one is None:
        return Markup("–")
    error = [" ± ", show_number(one["standard_error"], digits=2)] if "standard_error" in one else []
    ess = [element("small", "ess ", show_number(one["ess"], digits=3))] if "ess" in one else []
    note = [element("small", one["note"], class_="warning")] if "note" in one else []
    link = element("a", one["protocol"], href=f"#protocol-{one['protocol']}", class_="hash")
    return join([show_number(one["value"]), *error, *ess, *note, element("small", link)])


def _final(run: ReportedRun, name: str) -> float | None:
    metrics = run.record.result.get("metrics", {})
    return float(metrics[name]["value"]) if name in metrics else None


def _mean_and_sd(values: Sequence[float | None]) -> str:
    present = [value for value in values if value is not None]
    if len(present) < 2:
        return "–"
    if not all(map(math.isfinite, present)):
        return "not finite"
    return f"{short(statistics.fmean(present))} ± {short(statistics.stdev(present), 2)}"


def _difference(protocols: Sequence[Mapping[str, Any]]) -> str:
    """In which of their fields protocols differ."""
    fields = dict.fromkeys(name for one in protocols for name in one)
    names = [name for name in fields if any(one.get(name) != protocols[0].get(name) for one in protocols)]
    if len(protocols) < 2:
        return ""
    return f"differ in {', '.join(names)}" if names else "the same"


def _spelled_out(protocols: Mapping[str, Mapping[str, Any]]) -> list[list[object]]:
    rows: list[list[object]] = []
    for key, one in protocols.items():
        words = [f"{name} {show_setting(value)}" for name, value in one.items() if name != "group"]
        rows.append([element("span", key, id=f"protocol-{key}", class_="hash"), one.get("group", ""), "; ".join(words)])
    return rows
