"""Search the settings of an experiment on Ray Tune: drift, noise, steps, the data's noise, learning rates.

Trials start from a preset and differ in what the experiment's `space` suggests. Each is an ordinary run in
<out>/trials: `jobs.evaluate`, `jobs.sample` and TensorBoard read it. Trials are compared by a quality on held-out
items, never by the loss, after equal shares of a budget of gradient evaluations, so that a long chain has to pay for
itself. ASHA stops trials that fall behind; with --scheduler pbt these take over the best ones and go on with other
settings, so that the winner is a schedule. --front searches for cheap samples as well as good ones. At the end the best
trials, and the preset, run again with new seeds, and are compared on other held-out items: <out>/preset.py has the
winner, which the experiment takes by --preset-file; costs.png and slices.png show all trials. A search that was killed
continues with `python -m jobs.resume <out>`.
"""

import dataclasses
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from types import ModuleType
from typing import TYPE_CHECKING, Any

import torch

from jobs import EXPERIMENTS
from jobs.cli.begin import is_begun
from jobs.cli.command import find_name, run_command
from jobs.cli.experiment import load_experiment, named_presets
from jobs.cli.first_stage import begin_first_stage, flow_preset
from jobs.cli.parsing import parse
from jobs.cli.search_args import Search, read_args
from pipeline import stop
from pipeline.data.dataset import Dataset
from pipeline.data.sources import ReadSettings, resolve_source
from pipeline.errors import InputError, RunWriteError
from pipeline.runs.job import Job, check_job, load_dataset, override
from pipeline.runs.job_json import to_json
from pipeline.runs.storage import Storage
from pipeline.search import SEARCH_FILE
from pipeline.search.budgets import TrialBudget, gradient_costs, gradients_per_sample, gradients_until
from pipeline.search.objectives import OBJECTIVES, Objective, check_objective
from pipeline.search.population import Population, check_population
from pipeline.search.trials import read_records
from pipeline.training.pretrained import check_pretrained, resolve_checkpoint

if TYPE_CHECKING:
    from pipeline.distributed.tune import SearchPlan

FROM_PRESET = ("max_items", "held_out_class", "labels_per_class", "init_from", *ReadSettings._fields)
"""Settings that the trials take from the preset where the search says nothing."""
OF_COMMAND = ("out", "minutes", "resume_if_exists")
"""Arguments in which the command that continues a search may differ from the one that began it."""


def main(argv: Sequence[str]) -> None:
    """The command."""
    args = parse(Search, argv, "python -m jobs.search", __doc__ or "")
    module = _searchable(args)
    job = _job(args, module)
    data = _check(args, module, job)
    out = args.out or f"runs/search-{job.name}-{time.strftime('%Y%m%d-%H%M%S')}"
    storage = Storage.at(out)
    init_from = resolve_checkpoint(args.init_from) if args.init_from else ""
    args = replace(args, out=storage.uri, data=resolve_source(job.data.source), init_from=init_from)
    if is_begun(storage, "search", out, args.resume_if_exists):
        return _resume_same(args)
    _run(args, module, data, new=True)


def _resume_same(args: Search) -> None:
    """Continue the search in the arguments' folder. Raises InputError where it has other settings."""
    storage = Storage.at(args.out)
    own = read_args(storage)
    for name in (f.name for f in dataclasses.fields(args) if f.name not in OF_COMMAND):
        if getattr(args, name) != getattr(own, name):
            raise InputError(f"the search has {getattr(own, name)!r}", name, getattr(args, name))
    if storage.exists("result.json"):
        print(f"{args.out} has finished; see its result.json")
        return
    resume(args.out, args.minutes)


def resume(out: str, minutes: float | None = None) -> None:
    """Continue a search that was killed, or print the results of one that has ended.

    Args:
        out: its folder.
        minutes: the command's budget of time; None: as the search began.

    Raises:
        InputError: the folder has no search of this version, or the preset has changed since.
    """
    storage = Storage.at(out)
    args = replace(read_args(storage), out=storage.uri)
    if minutes is not None:
        args = replace(args, minutes=minutes)
    module = _searchable(args)
    job = _job(args, module)
    if to_json(job) != storage.read_json(SEARCH_FILE)["job"]:
        raise InputError(f"the preset {args.preset or job.name} has changed since the search began", "run", out)
    _run(args, module, _check(args, module, job), new=False)


def _searchable(args: Search) -> ModuleType:
    """The module of the experiment. Raises InputError where it has no space."""
    module = load_experiment(args.experiment)
    if not hasattr(module, "space"):
        names = ", ".join(name for name in EXPERIMENTS if hasattr(load_experiment(name), "space"))
        raise InputError(f"it has no space to search; these have: {names}", "experiment", args.experiment)
    return module


def _preset(args: Search, module: ModuleType) -> Job[Any]:
    """The preset that trials start from. Raises InputError where there is no such preset."""
    presets = named_presets(module)
    return presets[find_name(args.preset, presets, "preset")] if args.preset else next(iter(presets.values()))


def _job(args: Search, module: ModuleType) -> Job[Any]:
    """The preset with the settings that every trial starts from. Raises InputError where there is no such preset."""
    preset = _preset(args, module)
    source = args.data or preset.data.source
    changed = {f.name: getattr(args, f.name) for f in dataclasses.fields(args) if f.name in FROM_PRESET
               and getattr(args, f.name) != f.default}  # fmt: skip
    density_known = source == preset.data.source and load_dataset(preset).density is not None
    return override(
        preset,
        **changed,
        source=source,
        changes=(),
        learners=0,
        actors=args.trial_actors,
        lanes=max(preset.lanes, args.trial_actors),
        seed=args.seed,
        threads=args.threads,
        validation_share=0.0 if density_known else args.validation_share,
        test_share=0.0 if density_known else args.test_share,
        cpus_per_actor=args.cpus_per_actor,
        gpus_per_actor=args.gpus_per_actor,
        eval_samples=0,
        eval_long_run_steps=0,
        on_divergence="stop" if args.scheduler == "pbt" else preset.divergence.on_divergence,
        out="",
    )


def _check(args: Search, module: ModuleType, job: Job[Any]) -> Dataset:
    """The data. Raises InputError for what no trial could run with."""
    check_job(job)
    data = load_dataset(job)
    check_objective(_objective(args, module, job, data), job, data)
    if args.front and not gradients_per_sample(job, job.updates):
        raise InputError(f"a sample of {type(job.recipe).__name__} takes no chain", "front")
    if args.scheduler == "pbt":
        budget = _budget(args, module, job, data)
        check_population(Population(job, module.space, budget, args.trials, args.seed, args.out))
    if not flow_preset(module, _short_name(job), job):
        check_pretrained(job, data.spec)
    return data


def _short_name(job: Job[Any]) -> str:
    """The preset's name in its experiment."""
    return job.name.partition("-")[2]


def _objective(args: Search, module: ModuleType, job: Job[Any], data: Dataset) -> Objective:
    """The objective that the arguments name, or what suits experiment and data."""
    if args.objective:
        return OBJECTIVES[find_name(args.objective, OBJECTIVES, "objective")]
    of_density, of_items = module.OBJECTIVE
    usual = of_items if data.density is None else of_density
    if job.data.held_out_class is not None:
        usual = "auprc"
    if data.spec.kind == "text" and usual != "accuracy":
        usual = "nll_nats"
    return OBJECTIVES[usual]


def _run(args: Search, module: ModuleType, data: Dataset, new: bool) -> None:
    """Search, confirm, and print the results; every part continues where it stopped."""
    from jobs.cli import search_report  # here: refusing flags and showing help do not need Ray
    from pipeline.distributed import cluster, generations, tune
    from pipeline.evaluation.comparison import default_comparison

    plan = _plan(args, module, data)
    objective = OBJECTIVES[plan.trial_budget.objective]
    with cluster.connected():
        tune.check_room(plan)
        if new:
            _record(args, plan.job)
        for line in data.describe():
            print(f"{'data':24} {line}", file=sys.stderr)
        with stop.continuing([sys.executable, "-m", "jobs.resume", args.out], partial(_progress, plan)):
            plan = _plan(_with_flow(args, module, data), module, data)
            default_comparison(data, torch.device("cpu"))  # trains its classifier once, before all trials would
            (generations if plan.scheduler == "pbt" else tune).search(plan)
        candidates = search_report.candidates(plan, objective, max(1, args.confirm))
        seeds = list(range(args.seed + 1, args.seed + 1 + args.seeds)) if args.confirm else []
        runs = {search_report.confirm_name(name, seed): replace(one, seed=seed)
                for name, one in candidates.items() for seed in seeds}  # fmt: skip
        if runs:
            with stop.continuing([sys.executable, "-m", "jobs.resume", args.out], partial(_progress, plan)):
                tune.confirm(plan, runs)
    search_report.conclude(plan, _preset(args, module), objective, candidates, seeds)


def _progress(plan: "SearchPlan") -> str:
    """How far a search has come, in words."""
    trials, confirmed = (read_records(Storage.at(plan.out) / folder) for folder in ("trials", "confirm"))
    budget, runs = plan.trial_budget, f", and {len(confirmed)} of its confirmation runs" if confirmed else ""
    if plan.scheduler == "pbt":
        newest = max(trials, default="01").partition("-")[0]
        ended = sum(name.partition("-")[0] == newest for name in trials)
        return f"with {ended} of {plan.trials} trials in generation {int(newest)} of {budget.report_count}{runs}"
    complete = sum(one["reports"][-1]["gradient_evaluations"] >= budget.gradient_evaluations for one in trials.values())
    return f"with {complete} of {plan.trials} trials complete{runs}"


def _budget(args: Search, module: ModuleType, job: Job[Any], data: Dataset) -> TrialBudget:
    """How long trials run, and what they are compared by."""
    evaluations = args.budget or gradients_until(gradient_costs(job), job.updates)
    return TrialBudget(_objective(args, module, job, data).name, evaluations, args.reports, args.samples)


def _plan(args: Search, module: ModuleType, data: Dataset) -> "SearchPlan":
    from pipeline.distributed.tune import SearchPlan

    job = _job(args, module)
    scheduler = args.scheduler or ("none" if args.front else "asha")
    return SearchPlan(
        job=job,
        space=module.space,
        trial_budget=_budget(args, module, job, data),
        trials=args.trials,
        suggestions=args.suggestions or ("random" if scheduler == "pbt" else "tpe"),
        scheduler=scheduler,
        seed=args.seed,
        out=args.out,
        cpus_per_trial=args.cpus_per_trial,
        gpus_per_trial=args.gpus_per_trial,
        minutes=args.minutes,
        front=args.front,
    )


def _with_flow(args: Search, module: ModuleType, data: Dataset) -> Search:
    """The arguments with the checkpoint of the flow, trained by now, that an experiment of two stages starts with."""
    from jobs.cli.launch import finish_first_stage

    job = replace(_job(args, module), out=args.out)
    if flow := flow_preset(module, _short_name(job), job):
        args = replace(args, init_from=finish_first_stage(begin_first_stage(job, flow), data.spec).init_from)
    return args


def _record(args: Search, job: Job[Any]) -> None:
    """Write the search's arguments. Raises InputError where its folder cannot be written to."""
    from pipeline.runs.journal import provenance

    content = {"args": dataclasses.asdict(args), "job": to_json(job), "provenance": provenance()}
    try:
        Storage.at(args.out).write_json(SEARCH_FILE, content)
    except RunWriteError as e:
        raise InputError(str(e)) from e


if __name__ == "__main__":
    run_command(main)
