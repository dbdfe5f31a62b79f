"""Search the settings of an experiment on Ray Tune: drift, noise, steps, the data's noise, learning rates.

Trials start from a preset and differ in what the experiment's `space` suggests. Each is an ordinary run in
<out>/trials: `jobs.evaluate`, `jobs.sample` and TensorBoard read it. Trials are compared by a quality on held-out
items, never by the loss, after equal shares of a budget of gradient evaluations, so that a long chain has to pay for
itself. ASHA stops trials that fall behind. At the end the best ones, and the preset, run again with new seeds, and are
compared on other held-out items: <out>/preset.py has the winner, costs.png and slices.png show all trials. A search
that was killed continues with `python -m jobs.resume <out>`.
"""

import dataclasses
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from types import ModuleType
from typing import Annotated, Any, Literal

import torch
import tyro

from jobs import EXPERIMENTS
from jobs.cli.command import find_name, run_command
from jobs.cli.experiment import load_experiment, named_presets
from jobs.cli.parsing import parse
from pipeline.data.dataset import Dataset
from pipeline.data.files import SplitName
from pipeline.data.sources import ReadSettings, resolve_source
from pipeline.errors import InputError, RunWriteError
from pipeline.recipe import init_networks
from pipeline.runs.job import Job, Settings, check_job, load_dataset, override
from pipeline.runs.job_json import to_json
from pipeline.runs.storage import Storage
from pipeline.search.budgets import TrialBudget, gradients_per_update
from pipeline.search.objectives import OBJECTIVES, Objective, check_objective
from pipeline.settings import Count, NonNegative, Positive, PositiveInt, Share
from pipeline.training.pretrained import check_pretrained, resolve_checkpoint

SEARCH_FILE = "search.json"
"""The arguments of a search, in its folder."""
FROM_PRESET = ("max_items", "held_out_class", "labels_per_class", "init_from", *ReadSettings._fields)
"""Settings that the trials take from the preset where the search says nothing."""


@dataclass(frozen=True)
class Search(Settings):
    """What is searched, and how."""

    experiment: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="EXPERIMENT")]
    """The experiment whose settings are searched, with - or _; `python -m jobs` lists them."""
    preset: str = ""
    """Preset that trials start from; empty: the experiment's first."""
    trials: PositiveInt = 32
    """Number of trials."""
    objective: str = ""
    """Quality that trials are compared by: frechet, frechet_long, kl, grid_kl, mse, nll_nats, accuracy or auprc; empty:
    what suits experiment and data (auprc with --held-out-class)."""
    budget: Count = 0
    """Gradient evaluations of a complete trial; 0: as many as the preset's run takes."""
    suggestions: Literal["tpe", "random"] = "tpe"
    """Where settings come from: Optuna's tree-structured Parzen estimator, which learns from trials, or chance."""
    early_stopping: Literal["asha", "none"] = "asha"
    """asha: after its first report, its third, its ninth, ... only the best third of the trials so far continues."""
    reports: PositiveInt = 9
    """Reports of a complete trial, after equal shares of the budget."""
    samples: PositiveInt = 1000
    """Samples, or items at most, per report."""
    confirm: Count = 3
    """How many of the best trials run again with new seeds, beside the preset; 0: none."""
    seeds: PositiveInt = 3
    """New seeds for each of those."""
    data: str = ""
    """Data as for every experiment; empty: the preset's."""
    max_items: Count = 0
    """Use only the first so many items of the data; 0: as the preset."""
    validation_share: Share = 0.2
    """Share of the items that trials are compared on."""
    test_share: Share = 0.2
    """Share of the items that the best trials are compared on at the end, and nothing else uses."""
    held_out_class: int | str | None = None
    """Label held out from learning, for auprc; None: as the preset."""
    labels_per_class: Count = 0
    """Items per class whose label is known to learning; 0: as the preset."""
    split: SplitName = "train"
    """Which files of a folder to read, where their names say a split."""
    columns: tuple[str, ...] = ()
    """Columns that are the features; none: as the preset."""
    label_column: str = "label"
    """Column of labels."""
    image_column: str = "image"
    """Column of images."""
    text_column: str = "text"
    """Column of texts."""
    background: str = "white"
    """Colour behind the transparent pixels of pictures."""
    init_from: str = ""
    """Run, or checkpoint, whose networks all trials start with, for example a flow's; empty: none."""
    trial_actors: Count = 0
    """Ray actors that move each trial's chains; 0: they move in the trial's process."""
    cpus_per_trial: Positive = 1.0
    """CPUs that Ray reserves per trial, beside its actors."""
    gpus_per_trial: NonNegative = 0.0
    """GPUs that Ray reserves per trial, beside its actors."""
    cpus_per_actor: NonNegative = 0.5
    """CPUs that Ray reserves per actor of a trial."""
    gpus_per_actor: NonNegative = 0.0
    """GPUs that Ray reserves per actor of a trial."""
    threads: PositiveInt = 1
    """CPU threads per process."""
    seed: Count = 0
    """Seed of the suggestions and of the trials' runs; the new seeds follow it."""
    out: str = ""
    """New folder of the search: a path, s3:// or gs:// that every machine sees; empty: runs/search-<preset>-<time>."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.samples < 2:
            raise InputError("a distance needs two samples or more", "samples", self.samples)


def main(argv: Sequence[str]) -> None:
    """The command."""
    args = parse(Search, argv, "python -m jobs.search", __doc__ or "")
    module = _searchable(args)
    job = _job(args, module)
    data = _check(args, module, job)
    out = args.out or f"runs/search-{job.name}-{time.strftime('%Y%m%d-%H%M%S')}"
    if (storage := Storage.at(out)).check_exists():
        raise InputError(f"exists: a search is never overwritten; continue it with jobs.resume {out}", "out", out)
    out, init_from = (
        storage.path if storage.local else out,
        resolve_checkpoint(args.init_from) if args.init_from else "",
    )
    args = replace(args, out=out, data=resolve_source(job.data.source), init_from=init_from)
    _run(args, module, data, new=True)


def resume(out: str) -> None:
    """Continue a search that was killed, or print the results of one that has ended.

    Raises:
        InputError: the folder has no search of this version, or the preset has changed since.
    """
    storage = Storage.at(out)
    try:
        content = storage.read_json(SEARCH_FILE)
        args = Search(**content["args"])
    except (TypeError, ValueError, KeyError) as e:
        raise InputError(f"{SEARCH_FILE} is not a search of this version: {str(e).splitlines()[0]}", "run", out) from e
    args = replace(args, out=storage.path if storage.local else out)
    module = _searchable(args)
    job = _job(args, module)
    if to_json(job) != content["job"]:
        raise InputError(f"the preset {args.preset or job.name} has changed since the search began", "run", out)
    _run(args, module, _check(args, module, job), new=False)


def _searchable(args: Search) -> ModuleType:
    """The module of the experiment. Raises InputError where it has no space."""
    module = load_experiment(args.experiment)
    if not hasattr(module, "space"):
        names = ", ".join(name for name in EXPERIMENTS if hasattr(load_experiment(name), "space"))
        raise InputError(f"it has no space to search; these have: {names}", "experiment", args.experiment)
    return module


def _job(args: Search, module: ModuleType) -> Job[Any]:
    """The preset with the settings that every trial starts from. Raises InputError where there is no such preset."""
    presets = named_presets(module)
    preset = presets[find_name(args.preset, presets, "preset")] if args.preset else next(iter(presets.values()))
    source = args.data or preset.data.source
    changed = {f.name: getattr(args, f.name) for f in dataclasses.fields(args) if f.name in FROM_PRESET
               and getattr(args, f.name) != f.default}  # fmt: skip
    density_known = source == preset.data.source and load_dataset(preset).density is not None
    return override(
        preset,
        **changed,
        source=source,
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
        out="",
    )


def _check(args: Search, module: ModuleType, job: Job[Any]) -> Dataset:
    """The data. Raises InputError for what no trial could run with."""
    check_job(job)
    data = load_dataset(job)
    check_objective(_objective(args, module, job, data), job, data)
    check_pretrained(job, init_networks(job.recipe, data.spec, job.seed, torch.device("cpu")))
    return data


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
    from pipeline.distributed import cluster, tune
    from pipeline.evaluation.comparison import default_comparison
    from pipeline.search.summary import rank_trials

    plan = _plan(args, module, data)
    objective = OBJECTIVES[plan.trial_budget.objective]
    with cluster.connected():
        tune.check_room(plan)
        if new:
            _record(args, plan.job)
        for line in data.describe():
            print(f"{'data':24} {line}", file=sys.stderr)
        default_comparison(data, torch.device("cpu"))  # trains its classifier once, before all trials would
        tune.search(plan)
        trials = rank_trials(search_report.read_trials(f"{args.out}/trials", plan, data), objective)
        recipes = {"preset": plan.job.recipe}
        for i, trial in enumerate(trials[: args.confirm]):
            recipes[f"best-{i + 1}"] = tune.suggested_recipe(plan, trial.settings)
        seeds = list(range(args.seed + 1, args.seed + 1 + args.seeds)) if args.confirm else []
        runs = {search_report.confirm_name(name, seed): replace(plan.job, recipe=recipe, seed=seed)
                for name, recipe in recipes.items() for seed in seeds}  # fmt: skip
        if runs:
            tune.confirm(plan, runs)
    search_report.conclude(plan, objective, data, recipes, seeds)


def _plan(args: Search, module: ModuleType, data: Dataset) -> Any:
    from pipeline.distributed.tune import SearchPlan

    job = _job(args, module)
    nets = init_networks(job.recipe, data.spec, job.seed, torch.device("cpu"))
    evaluations = args.budget or job.updates * gradients_per_update(job.recipe, nets)
    budget = TrialBudget(_objective(args, module, job, data).name, evaluations, args.reports, args.samples)
    how = args.trials, args.suggestions, args.early_stopping, args.seed, args.out
    return SearchPlan(job, module.space, budget, *how, args.cpus_per_trial, args.gpus_per_trial)


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
