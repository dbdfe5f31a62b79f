"""What a search ends with: its results, figures, and presets."""

import dataclasses
import shlex
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from jobs.cli.command import flag_of
from jobs.cli.results import png
from jobs.cli.search_preset import preset_command, preset_module
from pipeline.distributed.tune import SearchPlan
from pipeline.runs.job import Job
from pipeline.runs.job_json import load_run
from pipeline.runs.storage import Storage
from pipeline.schedule import changed_settings
from pipeline.search import figures
from pipeline.search.budgets import gradients_per_sample
from pipeline.search.objectives import Objective
from pipeline.search.population import leaves, lineage
from pipeline.search.summary import TrialOutcome, describe_best, front_trials, mean_and_sd, rank_trials, spread
from pipeline.search.trials import read_records

ENDS = ("complete", "stopped_early", "diverged", "failed")
"""How a trial can end."""
FIGURES = ("costs.png", "slices.png", "front.png", "schedules.png")
"""Of a search, where they are drawn."""


def confirm_name(name: str, seed: int) -> str:
    """The run of a candidate with a new seed."""
    return f"{name}-seed-{seed}"


def read_trials(plan: SearchPlan) -> list[TrialOutcome]:
    """The trials in the folder of a search; of a population, a line for each stretch that no member goes on from."""
    records, trials = read_records(Storage.at(plan.out) / "trials"), []
    has_lines = plan.scheduler == "pbt"
    for name in leaves(records) if has_lines else records:
        line = lineage(records, name) if has_lines else [name]
        reports = [report for one in line for report in records[one]["reports"]]
        job = trial_job(plan, name)
        steps = gradients_per_sample(job, reports[-1]["updates"])
        complete = reports[-1]["gradient_evaluations"] >= plan.trial_budget.gradient_evaluations
        trials.append(TrialOutcome(name, records[name]["settings"], reports, complete, steps, job.changes))
    return trials


def trial_job(plan: SearchPlan, name: str) -> Job[Any]:
    """The search's job with the settings of a trial, and with the changes that its weights have followed."""
    own = load_run((Storage.at(plan.out) / "trials" / name).uri, sys.modules)
    return dataclasses.replace(plan.job, recipe=own.recipe, changes=own.changes)


def candidates(plan: SearchPlan, objective: Objective, count: int) -> dict[str, Job[Any]]:
    """What runs again with new seeds, by name: the preset, and `count` of the best trials, or of the front."""
    trials, jobs = read_trials(plan), {"preset": plan.job}
    if plan.front:
        front = spread(front_trials(trials, objective), count)
        return jobs | {f"K{one.gradients_per_sample}": trial_job(plan, one.name) for one in front}
    best = rank_trials(trials, objective)[:count]
    return jobs | {f"best-{i + 1}": trial_job(plan, one.name) for i, one in enumerate(best)}


def conclude(
    plan: SearchPlan, preset: Job[Any], objective: Objective, jobs: Mapping[str, Job[Any]], seeds: Sequence[int]
) -> None:
    """Write and print the results of a search.

    Args:
        plan: what was searched.
        preset: the preset that it started from.
        objective: what trials were compared by.
        jobs: what `candidates` returned.
        seeds: of their confirmation runs; empty: there were none.
    """
    out, trials = Storage.at(plan.out), read_trials(plan)
    result = _result(plan, objective, trials, jobs, _confirmed(plan, jobs, seeds))
    out.write_json("result.json", result)
    out.write("costs.png", png(figures.cost_figure(trials, objective)))
    out.write("slices.png", png(figures.slice_figure(trials, objective)))
    if plan.front:
        out.write("front.png", png(figures.front_figure(trials, result["front"], objective)))
    if plan.scheduler == "pbt":
        lines = {t.name: (trial_job(plan, t.name), t.reports[-1]["updates"]) for t in rank_trials(trials, objective)}
        out.write("schedules.png", png(figures.schedule_figure(lines)))
    if chosen := _chosen(plan, result, jobs):
        out.write("preset.py", preset_module(plan, preset, chosen, describe_best(result)).encode())
    _print(plan, objective, result)


def _chosen(plan: SearchPlan, result: Mapping[str, Any], jobs: Mapping[str, Job[Any]]) -> dict[str, Job[Any]]:
    """The jobs that become presets, by the end of their names: the best one, or the front from its best member on."""
    if plan.front:
        return {name: job for name, job in jobs.items() if name != "preset"}
    return {"searched": jobs[result["best"]]} if result["best"] else {}


def _confirmed(plan: SearchPlan, jobs: Mapping[str, Job[Any]], seeds: Sequence[int]) -> dict[str, list[float | None]]:
    """The last quality of each candidate with each new seed; None where the run has none."""
    if not seeds:
        return {}
    records = read_records(Storage.at(plan.out) / "confirm")
    names = {name: [confirm_name(name, seed) for seed in seeds] for name in jobs}
    return {
        name: [float(records[run]["reports"][-1]["quality"]) if run in records else None for run in runs]
        for name, runs in names.items()
    }


def _result(
    plan: SearchPlan,
    objective: Objective,
    trials: list[TrialOutcome],
    jobs: Mapping[str, Job[Any]],
    confirmed: Mapping[str, list[float | None]],
) -> dict[str, Any]:
    ranking = rank_trials(trials, objective) + [t for t in trials if t.diverged]
    front = []
    for t in front_trials(trials, objective):
        again = confirmed.get(f"K{t.gradients_per_sample}", []) if plan.front else []
        own = {"name": t.name, "gradients_per_sample": t.gradients_per_sample, "quality": t.quality}
        front.append({**own, **({"confirmed": again} if plan.front else {})})
    return {
        "objective": objective._asdict(),
        "scheduler": plan.scheduler,
        "budget": plan.trial_budget.gradient_evaluations,
        "trials": [_trial_content(t) for t in ranking],
        "counts": _counts(plan, trials),
        "front": front,
        "confirmed": {name: {**_job_content(plan, jobs[name]), "quality": confirmed[name]} for name in confirmed},
        "best": _best(confirmed, objective, jobs),
    }


def _job_content(plan: SearchPlan, job: Job[Any]) -> dict[str, Any]:
    """The settings in which a candidate differs from the preset, and how they change."""
    changes = [{"update": one.update, "settings": dict(one.settings)} for one in job.changes]
    return {"settings": changed_settings(plan.job.recipe, job.recipe), **({"changes": changes} if changes else {})}


def _best(confirmed: Mapping[str, list[float | None]], objective: Objective, jobs: Mapping[str, Any]) -> str:
    """The candidate with the best mean over new seeds; without any, the best trial; "" if there is none."""
    if not confirmed:
        return next((name for name in jobs if name != "preset"), "")
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
    """Trials by how they ended, and what all of them cost; what members of a population share counts once."""
    records = read_records(Storage.at(plan.out) / "trials")
    counts: dict[str, float] = {
        "complete": sum(t.complete and not t.diverged for t in trials),
        "stopped_early": sum(not t.complete and not t.diverged for t in trials),
        "diverged": sum(t.diverged for t in trials),
        "failed": max(0, plan.trials - len(trials)),
    }
    for what in ("gradient_evaluations", "cpu_seconds"):
        origins = [records[one["origin"]]["reports"][-1][what] for one in records.values() if one.get("origin")]
        counts[what] = sum(one["reports"][-1][what] for one in records.values()) - sum(origins)
    return counts


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
        changes = f", then {len(one['changes'])} changes" if "changes" in one else ""
        print(f"{name:24} {_mean(one['quality'])}  {_flags(one['settings']) or '(as the preset)'}{changes}")
    if plan.front:
        _print_front(objective, result["front"])
    if result["best"]:
        print(f"{'best':24} {describe_best(result)}")
        print(f"{'train it':24} {preset_command(plan)}")
    for name in (*FIGURES, "result.json"):
        if out.exists(name):
            print(f"{name:24} {out / name}")
    if out.local:
        print(f"{'curves, HParams':24} {sys.executable} -m tensorboard.main --logdir {shlex.quote(plan.out)}")


def _print_front(objective: Objective, front: Sequence[Mapping[str, Any]]) -> None:
    """The front as a table: gradients of a sample, quality on the items for selection, and with new seeds."""
    print(f"{'front':24} {'K':>5}  {objective.name:12} with new seeds")
    for one in front:
        again = _mean(one["confirmed"]) if one["confirmed"] else "(not run again)"
        print(f"{one['name']:24} {one['gradients_per_sample']:5}  {one['quality']:<12.4g} {again}")


def _mean(values: Sequence[float | None]) -> str:
    return mean_and_sd([float("inf") if value is None else value for value in values])
