"""The presets that a search ends with, as a module that its experiment runs."""

import dataclasses
import shlex
from collections.abc import Mapping
from typing import Any

from jobs.cli.python_source import source_fields, source_imports
from pipeline.distributed.tune import SearchPlan
from pipeline.runs.job import Job
from pipeline.runs.storage import Storage
from pipeline.search.budgets import report_updates


def preset_module(plan: SearchPlan, preset: Job[Any], jobs: Mapping[str, Job[Any]], verdict: str) -> str:
    """A module of presets: recipe, schedule, budget, data and labels as they were searched.

    Args:
        plan: what was searched.
        preset: the preset that it started from.
        jobs: what becomes presets, by the end of their names.
        verdict: what the search found, in one sentence without its full stop.
    """
    name, written, imports = plan.job.name.partition("-")[2], "", set[str]()
    own = {f: getattr(preset, f) for f in ("seed", "resources", "divergence", "logging", "evaluation")}
    for end, job in jobs.items():
        updates = report_updates(job, plan.trial_budget)[-1]
        job = dataclasses.replace(job, updates=updates, name="", out="", **own)
        fields = "".join(f"        {field},\n" for field in source_fields(job))
        written += f'    "{name}-{end}": Job(\n{fields}    ),\n'
        imports |= {*source_imports(job).splitlines()}
    objective = f"{plan.trials} trials, objective {plan.trial_budget.objective}"
    lines = "\n".join(sorted(imports))
    return (
        f'"""{verdict} (jobs.search, {objective}).\n\n    {preset_command(plan)}\n"""\n\n'
        f"{lines}\n\nPRESETS = {{\n{written}}}\n"
    )


def preset_command(plan: SearchPlan) -> str:
    """The command that runs the preset that a search ends with, or the first of them."""
    file = str(Storage.at(plan.out) / "preset.py")
    return f"python -m jobs.{plan.job.name.partition('-')[0]} --preset-file {shlex.quote(file)}"
