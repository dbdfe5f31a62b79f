"""What a search ends with: its results, figures, and a preset."""

import dataclasses
import shlex
import sys
from collections.abc import Mapping, Sequence
from typing import Any

import torch

from jobs.cli.command import flag_of
from jobs.cli.python_source import source_fields, source_imports
from jobs.cli.results import png
from pipeline.data.dataset import Dataset
from pipeline.distributed.tune import SearchPlan, suggested_recipe
from pipeline.recipe import init_networks
from pipeline.runs.job import Job
from pipeline.runs.storage import Storage
from pipeline.search import figures
from pipeline.search.budgets import report_updates
from pipeline.search.objectives import Objective
from pipeline.search.summary import TrialOutcome, describe_best, mean_and_sd, pareto_front, rank_trials
from pipeline.search.trials import read_records

ENDS = ("complete", "stopped_early", "diverged", "failed")
"""How a trial can end."""


def confirm_name(name: str, seed: int) -> str:
    """The run of a candidate with a new seed."""
    return f"{name}-seed-{seed}"


def read_trials(plan: SearchPlan, data: Dataset) -> list[TrialOutcome]:
    """The trials in the folder of a search."""
    trials = []
    for name, record in read_records(Storage.at(plan.out) / "trials").items():
        recipe, reports = suggested_recipe(plan, record["settings"]), record["reports"]
        nets = init_networks(recipe, data.spec, plan.job.seed, torch.device("cpu"))
        steps = recipe.sampler(recipe.sample_chain, nets, 0).gradient_evaluations
        complete = reports[-1]["gradient_evaluations"] >= plan.trial_budget.gradient_evaluations
        trials.append(TrialOutcome(name, record["settings"], reports, complete, steps))
    return trials


def conclude(
    plan: SearchPlan,
    preset: Job[Any],
    objective: Objective,
    data: Dataset,
    recipes: Mapping[str, Any],
    seeds: Sequence[int],
) -> None:
    """Write and print the results of a search.

    Args:
        plan: what was searched.
        preset: the preset that it started from.
        objective: what trials were compared by.
        data: of the trials.
        recipes: the preset's, and those of the best trials, by name, best first.
        seeds: of their confirmation runs; empty: there were none.
    """
    out, trials = Storage.at(plan.out), read_trials(plan, data)
    result = _result(plan, objective, trials, recipes, _confirmed(plan, recipes, seeds))
    out.write_json("result.json", result)
    out.write("costs.png", png(figures.cost_figure(trials, objective)))
    out.write("slices.png", png(figures.slice_figure(trials, objective)))
    if result["best"]:
        out.write("preset.py", preset_module(plan, preset, recipes[result["best"]], result).encode())
    _print(plan, objective, result)


def _confirmed(plan: SearchPlan, recipes: Mapping[str, Any], seeds: Sequence[int]) -> dict[str, list[float | None]]:
    """The last quality of each candidate with each new seed; None where the run has none."""
    if not seeds:
        return {}
    records = read_records(Storage.at(plan.out) / "confirm")
    names = {name: [confirm_name(name, seed) for seed in seeds] for name in recipes}
    return {
        name: [float(records[run]["reports"][-1]["quality"]) if run in records else None for run in runs]
        for name, runs in names.items()
    }


def _result(
    plan: SearchPlan,
    objective: Objective,
    trials: list[TrialOutcome],
    recipes: Mapping[str, Any],
    confirmed: Mapping[str, list[float | None]],
) -> dict[str, Any]:
    ended = [t for t in trials if t.complete and not t.diverged]
    front = pareto_front([t.gradients_per_sample for t in ended], [t.quality for t in ended], objective)
    ranking = rank_trials(trials, objective) + [t for t in trials if t.diverged]
    return {
        "objective": objective._asdict(),
        "budget": plan.trial_budget.gradient_evaluations,
        "trials": [_trial_content(t) for t in ranking],
        "counts": _counts(plan, trials),
        "front": [ended[i].name for i in front],
        "confirmed": {
            name: {"settings": changes(plan.job.recipe, recipes[name]), "quality": qualities}
            for name, qualities in confirmed.items()
        },
        "best": _best(confirmed, objective, recipes),
    }


def _best(confirmed: Mapping[str, list[float | None]], objective: Objective, recipes: Mapping[str, Any]) -> str:
    """The candidate with the best mean over new seeds; without any, the best trial; "" if there is none."""
    if not confirmed:
        return next((name for name in recipes if name != "preset"), "")
    means = {n: sum(values) / len(values) for n, values in confirmed.items() if None not in values}  # type: ignore[arg-type]
    return min(means, key=lambda name: objective.sign * means[name]) if means else ""


def _trial_content(trial: TrialOutcome) -> dict[str, Any]:
    return {
        "name": trial.name,
        "settings": dict(trial.settings),
        "quality": trial.quality,
        "complete": trial.complete,
        "gradient_evaluations": trial.cost,
        "gradients_per_sample": trial.gradients_per_sample,
        "diverged": trial.diverged,
    }


def _counts(plan: SearchPlan, trials: Sequence[TrialOutcome]) -> dict[str, float]:
    """Trials by how they ended, and what all of them cost."""
    return {
        "complete": sum(t.complete and not t.diverged for t in trials),
        "stopped_early": sum(not t.complete and not t.diverged for t in trials),
        "diverged": sum(t.diverged for t in trials),
        "failed": max(0, plan.trials - len(trials)),
        "gradient_evaluations": sum(t.cost for t in trials),
        "cpu_seconds": sum(t.reports[-1]["cpu_seconds"] for t in trials),
    }


def changes(before: Any, after: Any) -> dict[str, Any]:
    """The fields, by name, in which a recipe differs from another of its kind."""
    changed: dict[str, Any] = {}
    for field in dataclasses.fields(before):
        a, b = getattr(before, field.name), getattr(after, field.name)
        if dataclasses.is_dataclass(a):
            changed |= changes(a, b)
        elif a != b:
            changed[field.name] = b
    return changed


def preset_module(plan: SearchPlan, preset: Job[Any], recipe: Any, result: Mapping[str, Any]) -> str:
    """A module with the preset that the search ends with: recipe, budget, data and labels as they were searched."""
    name = plan.job.name.partition("-")[2]
    updates = report_updates(dataclasses.replace(plan.job, recipe=recipe), plan.trial_budget)[-1]
    own = {f: getattr(preset, f) for f in ("seed", "resources", "divergence", "logging", "evaluation")}
    job = dataclasses.replace(plan.job, recipe=recipe, updates=updates, name="", out="", **own)
    fields = "".join(f"        {field},\n" for field in source_fields(job))
    objective = f"{plan.trials} trials, objective {plan.trial_budget.objective}"
    return (
        f'"""{describe_best(result)} (jobs.search, {objective}).\n\n    {preset_command(plan)}\n"""\n\n'
        f'{source_imports(job)}\n\nPRESETS = {{\n    "{name}-searched": Job(\n{fields}    )\n}}\n'
    )


def preset_command(plan: SearchPlan) -> str:
    """The command that runs the preset that a search ends with."""
    file = str(Storage.at(plan.out) / "preset.py")
    return f"python -m jobs.{plan.job.name.partition('-')[0]} --preset-file {shlex.quote(file)}"


def _flags(settings: Mapping[str, Any]) -> str:
    """Settings as flags."""
    words = {name: f"{value:.4g}" if isinstance(value, float) else str(value) for name, value in settings.items()}
    return " ".join(f"{flag_of(name)} {word}" for name, word in words.items())


def _print(plan: SearchPlan, objective: Objective, result: Mapping[str, Any]) -> None:
    out = Storage.at(plan.out)
    counts, direction = result["counts"], "lower" if objective.direction == "min" else "higher"
    print(f"{'objective':24} {objective.name} ({direction} is better): {objective.description}")
    print(f"{'trials':24} " + ", ".join(f"{counts[name]} {name.replace('_', ' ')}" for name in ENDS))
    evaluations = f"{counts['gradient_evaluations']:,} in all, {result['budget']:,} per complete trial"
    print(f"{'gradient evaluations':24} {evaluations}")
    for name, one in result["confirmed"].items():
        values = [float("inf") if value is None else value for value in one["quality"]]
        print(f"{name:24} {mean_and_sd(values)}  {_flags(one['settings']) or '(as the preset)'}")
    if result["best"]:
        print(f"{'best':24} {describe_best(result)}")
        print(f"{'train it':24} {preset_command(plan)}")
    for name in ("costs.png", "slices.png", "result.json"):
        print(f"{name:24} {out / name}")
    if out.local:
        print(f"{'curves, HParams':24} {sys.executable} -m tensorboard.main --logdir {shlex.quote(plan.out)}")
