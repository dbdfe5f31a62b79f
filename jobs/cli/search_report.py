"""What a search ends with: its result, figures, and a preset to paste."""

import dataclasses
import io
import shlex
import sys
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from matplotlib.figure import Figure

from pipeline.data.dataset import Dataset
from pipeline.distributed.tune import SearchPlan, suggested_recipe
from pipeline.recipe import init_networks
from pipeline.runs.storage import Storage
from pipeline.search.budgets import report_updates
from pipeline.search.objectives import Objective
from pipeline.search.summary import TrialOutcome, cost_figure, mean_and_sd, pareto_front, ranked, slice_figure
from pipeline.search.trials import read_records


def confirm_name(name: str, seed: int) -> str:
    """The run of a candidate with a new seed."""
    return f"{name}-seed-{seed}"


def read_trials(folder: str, plan: SearchPlan, data: Dataset) -> list[TrialOutcome]:
    """The trials in a folder."""
    found = []
    for name, record in read_records(folder).items():
        own = suggested_recipe(plan, record["settings"])
        nets = init_networks(own, data.spec, plan.job.seed, torch.device("cpu"))
        sample = own.sampler(own.model, nets, 0).gradient_evaluations
        whole = record["reports"][-1]["gradient_evaluations"] >= plan.trial_budget.budget
        found.append(TrialOutcome(name, record["settings"], record["reports"], whole, sample))
    return found


def conclude(
    plan: SearchPlan, objective: Objective, data: Dataset, recipes: Mapping[str, Any], seeds: Sequence[int]
) -> None:
    """Write and say what came of a search.

    Args:
        plan: what was searched.
        objective: what trials were judged by.
        data: of the trials.
        recipes: the preset's, and those of the best trials, by name, best first.
        seeds: with which each was run again; none: it was not.
    """
    out, trials = Storage.at(plan.out), read_trials(f"{plan.out}/trials", plan, data)
    redone = read_records(f"{plan.out}/confirm")
    confirmed = (
        {name: [_end(redone.get(confirm_name(name, seed))) for seed in seeds] for name in recipes} if seeds else {}
    )
    best = _best(confirmed, objective, recipes)
    done = [t for t in trials if t.whole and not t.diverged]
    chosen = [done[i].name for i in pareto_front([t.sample for t in done], [t.quality for t in done], objective)]
    result = {
        "objective": objective._asdict(),
        "budget": plan.trial_budget.budget,
        "trials": [_told(t) for t in ranked(trials, objective) + [t for t in trials if t.diverged]],
        "counts": _counts(plan, trials),
        "front": chosen,
        "confirmed": {
            name: {"settings": changes(plan.job.recipe, recipes[name]), "quality": confirmed[name]}
            for name in confirmed
        },
        "best": best,
    }
    out.write_json("result.json", result)
    for name, figure in (("costs", cost_figure(trials, objective)), ("slices", slice_figure(trials, objective))):
        out.write(f"{name}.png", _png(figure))
    if best:
        out.write("preset.py", preset(plan, recipes[best]).encode())
    _say(plan, objective, result, recipes)


def _end(record: Mapping[str, Any] | None) -> float | None:
    """The last quality of a run; None where it has none."""
    return float(record["reports"][-1]["quality"]) if record else None


def _best(confirmed: Mapping[str, list[float | None]], objective: Objective, recipes: Mapping[str, Any]) -> str:
    """The candidate of best mean over new seeds, or, where none was run again, the best trial; "" if there is none."""
    if not confirmed:
        return next((name for name in recipes if name != "preset"), "")
    sign = 1 if objective.better == "min" else -1
    means = {n: sum(values) / len(values) for n, values in confirmed.items() if None not in values}  # type: ignore[arg-type]
    return min(means, key=lambda name: sign * means[name]) if means else ""


def _told(trial: TrialOutcome) -> dict[str, Any]:
    about = {"name": trial.name, "settings": dict(trial.settings), "quality": trial.quality, "whole": trial.whole}
    return {**about, "gradient_evaluations": trial.cost, "steps_of_a_sample": trial.sample, "diverged": trial.diverged}


def _counts(plan: SearchPlan, trials: Sequence[TrialOutcome]) -> dict[str, float]:
    """Trials by how they ended, and what they cost in all."""
    return {
        "whole": sum(t.whole and not t.diverged for t in trials),
        "stopped_early": sum(not t.whole and not t.diverged for t in trials),
        "diverged": sum(t.diverged for t in trials),
        "failed": max(0, plan.trials - len(trials)),
        "gradient_evaluations": sum(t.cost for t in trials),
        "cpu_seconds": sum(t.reports[-1]["cpu_seconds"] for t in trials),
    }


def changes(before: Any, after: Any) -> dict[str, Any]:
    """The fields, by name, in which a recipe differs from another of its kind."""
    found: dict[str, Any] = {}
    for field in dataclasses.fields(before):
        a, b = getattr(before, field.name), getattr(after, field.name)
        if dataclasses.is_dataclass(a):
            found |= changes(a, b)
        elif a != b:
            found[field.name] = b
    return found


def literal(value: Any, digits: int = 4) -> str:
    """Python that makes a value: of dataclasses, the fields that are not the default's; floats to some digits."""
    if dataclasses.is_dataclass(value):
        parts = [
            f"{f.name}={literal(v, digits)}"
            for f in dataclasses.fields(value)
            if (v := getattr(value, f.name)) != f.default
        ]
        return f"{type(value).__name__}({', '.join(parts)})"
    return f"{value:.{digits}g}" if isinstance(value, float) else repr(value)


def preset(plan: SearchPlan, chosen: Any) -> str:
    """The winner as a preset to paste, and as a command."""
    job = dataclasses.replace(plan.job, recipe=chosen)
    updates, module = report_updates(job, plan.trial_budget)[-1], type(chosen).__module__.rpartition(".")[2]
    flags = {**changes(plan.job.recipe, chosen), "updates": updates}
    line = " ".join(f"--{name.replace('_', '-')} {_word(value)}" for name, value in flags.items())
    name = job.name.partition("-")[2]
    return (
        f'"""Found by jobs.search, {plan.trials} trials, judged by {plan.trial_budget.objective}."""\n\n'
        f"# python -m jobs.{module} {name} {line}\n"
        f'replace(PRESETS["{name}"], updates={updates}, recipe={literal(chosen)})\n'
    )


def _word(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _png(figure: Figure) -> bytes:
    image = io.BytesIO()
    figure.savefig(image, format="png", dpi=120)
    return image.getvalue()


def _say(plan: SearchPlan, objective: Objective, result: Mapping[str, Any], recipes: Mapping[str, Any]) -> None:
    counts = result["counts"]
    way = "least" if objective.better == "min" else "most"
    print(f"{'objective':24} {objective.name} ({way} is best): {objective.about}")
    ends = ("whole", "stopped_early", "diverged", "failed")
    print(f"{'trials':24} " + ", ".join(f"{counts[name]} {name.replace('_', ' ')}" for name in ends))
    spent, whole = counts["gradient_evaluations"], plan.trial_budget.budget
    print(f"{'gradient evaluations':24} {spent:,} in all, {whole:,} a whole trial")
    for name, found in result["confirmed"].items():
        values = [float("inf") if value is None else value for value in found["quality"]]
        settings = " ".join(f"--{k.replace('_', '-')} {_word(v)}" for k, v in found["settings"].items())
        print(f"{name:24} {mean_and_sd(values)}  {settings or '(as written)'}")
    if result["best"]:
        print(f"{'best':24} {result['best']}: {plan.out}/preset.py")
    for name in ("costs.png", "slices.png", "result.json"):
        print(f"{name:24} {plan.out}/{name}")
    print(f"{'curves, HParams':24} {sys.executable} -m tensorboard.main --logdir {shlex.quote(plan.out)}")
