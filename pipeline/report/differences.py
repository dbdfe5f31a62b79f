"""How runs differ from their presets and from each other, and all their settings."""

from collections.abc import Mapping, Sequence
from typing import Any

from pipeline.report.lineup import ReportedRun
from pipeline.report.markup import Markup, element, fold, join, show_setting, table
from pipeline.runs.job import Job
from pipeline.runs.job_json import flatten, to_json

UNCOMPARED = ("format", "name", "out")
ORDER = ("recipe", "updates", "lanes", "lag", "max_staleness", "seed", "init_from", "data", "evaluation", "divergence")
"""Settings that come first; processes and logs, which do not change the numbers, come last."""


def settings_section(runs: Sequence[ReportedRun]) -> Markup:
    """The settings in which runs and presets differ, and all of them to unfold."""
    columns = {run.label: flat_settings(run.record.job) for run in runs}
    presets = {run.preset.name: flat_settings(run.preset) for run in runs if run.preset}
    rows = differing({**columns, **{f"preset {name}": one for name, one in presets.items()}})
    several = len(runs) > 1
    head: list[object] = ["setting", *(map(run_title, runs) if several else ["this run"])]
    head += [f"preset {name}" if several else "preset" for name in presets]
    parts = [table(head, rows, "Settings that differ", "settings")] if rows else [_same(len(runs), bool(presets))]
    everything = [
        [name, *(_cell(one.get(name)) for one in columns.values())]
        for name in _ordered({name for one in columns.values() for name in one})
    ]
    parts.append(fold("All settings", table(["setting", *columns], everything, "All settings", "settings")))
    parts.append(fold("Versions", _versions(runs)))
    return join(parts)


def flat_settings(job: Job[Any]) -> dict[str, Any]:
    """The settings of a job by their paths; those of the recipe without its name."""
    flat = flatten(to_json(job))
    flat["recipe"] = flat.pop("recipe.type").rpartition(".")[2]
    return {name.removeprefix("recipe."): value for name, value in flat.items() if name not in UNCOMPARED}


def differing(columns: Mapping[str, Mapping[str, Any]]) -> list[list[object]]:
    """A row for each setting that is not the same in all columns: its name, and its values.

    >>> differing({"a": {"lr": 0.1, "seed": 0}, "b": {"lr": 0.1, "seed": 1}})
    [['seed', '0', '1']]
    """
    names = _ordered({name for one in columns.values() for name in one})
    absent = object()
    rows = list[list[object]]()
    for name in names:
        values = [one.get(name, absent) for one in columns.values()]
        if any(value != values[0] for value in values):
            rows.append([name, *("–" if value is absent else _cell(value) for value in values)])
    return rows


def _ordered(names: set[str]) -> list[str]:
    def place(name: str) -> tuple[int, str]:
        group = name.partition(".")[0]
        recipe_setting = group not in (*ORDER, "resources", "logging")
        if recipe_setting or group == "langevin":
            return 1, name
        return (ORDER.index(group) * 2 if group in ORDER else 99), name

    return sorted(names, key=place)


def _cell(value: object) -> str:
    return show_setting(value)


def run_title(run: ReportedRun) -> Markup:
    """The label of a run, with its colour."""
    return join([element("span", class_=f"dot {run.style}", aria_hidden="true"), run.label])


def _same(runs: int, has_preset: bool) -> Markup:
    with_preset = " and of their preset" if runs > 1 and has_preset else ""
    text = (
        f"The settings of the runs{with_preset} are the same." if runs > 1 else "Every setting is that of the preset."
    )
    return element("p", text if runs > 1 or has_preset else "There is no preset to compare the settings with.")


def _versions(runs: Sequence[ReportedRun]) -> Markup:
    names = list(dict.fromkeys(name for run in runs for name in run.record.provenance))
    rows = [[name, *(run.record.provenance.get(name, "–") for run in runs)] for name in names]
    return table(["version", *(run.label for run in runs)], rows, "Versions", "settings")
