"""Search the Langevin settings of a recipe on Ray Tune: drift, noise, steps, the data's noise, rates.

Trials start from a preset and differ in what `space` beside the presets suggests. Each is a run in <out>/trials, as any
other: `jobs.evaluate`, `jobs.sample` and TensorBoard take it. What they are judged by is never the loss: it is a
quality on items held back, taken after equal shares of a budget of gradient evaluations, so that a long chain has to
pay for itself.
ASHA stops those that fall behind. At the end the best ones, and the preset, run again with new seeds and are judged by
other items: <out>/preset.py has the winner, costs.png and slices.png what was seen. A killed search goes on by
`python -m jobs.resume <out>`.
"""

import dataclasses
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Annotated, Any, Literal

import torch
import tyro

from jobs import (
    alternating_backprop,
    anatomy,
    flow_contrastive,
    joint_vae,
    latent_prior,
    neural_transport,
    short_run,
    short_run_inference,
    symbol_vector,
)
from jobs.cli.parsing import parse, run_command
from pipeline.data.dataset import Dataset
from pipeline.data.sources import resolve_source
from pipeline.errors import InputError, RunWriteError
from pipeline.evaluation.comparison import default_comparison
from pipeline.recipe import init_networks
from pipeline.runs.job import Job, check_job, load_dataset, override, to_json
from pipeline.runs.journal import provenance
from pipeline.runs.storage import Storage
from pipeline.search.budgets import TrialBudget, gradients_per_update
from pipeline.search.objectives import OBJECTIVES, Objective, check_objective
from pipeline.search.summary import ranked
from pipeline.training.pretrained import check_pretrained, resolve_checkpoint

PLAN = "search.json"
"""What was asked, in the search's folder."""
RECIPES: Mapping[str, Any] = {
    "short-run": short_run,
    "anatomy": anatomy,
    "latent-prior": latent_prior,
    "short-run-inference": short_run_inference,
    "symbol-vector": symbol_vector,
    "joint-vae": joint_vae,
    "alternating-backprop": alternating_backprop,
    "neural-transport": neural_transport,
    "flow-contrastive": flow_contrastive,
}
"""The jobs that have a space."""
USUAL = {
    "short-run": ("kl", "frechet"),
    "anatomy": ("grid_kl", "frechet_long"),
    "latent-prior": ("kl", "frechet"),
    "short-run-inference": ("mse", "mse"),
    "symbol-vector": ("kl", "accuracy"),
    "joint-vae": ("kl", "frechet"),
    "alternating-backprop": ("mse", "mse"),
    "neural-transport": ("grid_kl", "frechet"),
    "flow-contrastive": ("grid_kl", "frechet"),
}
"""What each is judged by where nothing is said, on densities that are known and on other data."""


@dataclass(frozen=True)
class Search:
    """What is searched, and how."""

    recipe: Annotated[
        Literal[
            "short-run",
            "anatomy",
            "latent-prior",
            "short-run-inference",
            "symbol-vector",
            "joint-vae",
            "alternating-backprop",
            "neural-transport",
            "flow-contrastive",
        ],
        tyro.conf.Positional,
    ]
    """The recipe whose settings are searched."""
    preset: str = ""
    """Preset that trials start from; empty: the recipe's first."""
    trials: int = 32
    """Settings that are tried."""
    objective: Literal["", "frechet", "frechet_long", "kl", "grid_kl", "mse", "nll_nats", "accuracy", "auprc"] = ""
    """What trials are judged by; empty: what fits recipe and data (auprc with --held-out)."""
    budget: int = 0
    """Gradient evaluations of a whole trial; 0: as many as the preset's run takes."""
    suggestions: Literal["tpe", "random"] = "tpe"
    """Where settings come from: Optuna's tree-structured Parzen estimator, which learns of trials, or chance."""
    early_stopping: Literal["asha", "none"] = "asha"
    """asha: after its first report, its third, its ninth, ... only the best third of the trials so far goes on."""
    reports: int = 9
    """Times that a whole trial is judged, after equal shares of the budget."""
    samples: int = 1000
    """Samples, or items at most, that it is judged on."""
    confirm: int = 3
    """How many of the best run again with new seeds, beside the preset; 0: none."""
    seeds: int = 3
    """New seeds of each of those."""
    data: str = ""
    """As of every job; empty: the preset's."""
    max_items: int = 0
    """Use only the first so many items of the data; 0: as the preset."""
    validation_share: float = 0.2
    """Share of the items that trials are judged by; learning never sees them."""
    test_share: float = 0.2
    """Share of the items that the best are judged by at the end, and nothing else."""
    held_out_class: int | None = None
    """Label that learning never sees, for auprc; None: as the preset."""
    labels_per_class: int = 0
    """Items a class whose label is known to learning; 0: as the preset."""
    init_from: str = ""
    """Run, or checkpoint, whose networks all trials begin with, say a flow's; empty: none."""
    trial_actors: int = 0
    """Ray actors that move each trial's chains; 0: they move in the trial's process."""
    cpus_per_trial: float = 1.0
    """CPUs that Ray sets aside for a trial, beside its actors."""
    gpus_per_trial: float = 0.0
    """GPUs that Ray sets aside for a trial, beside its actors."""
    cpus_per_actor: float = 0.5
    """CPUs that Ray sets aside for an actor of a trial."""
    gpus_per_actor: float = 0.0
    """GPUs that Ray sets aside for an actor of a trial."""
    threads: int = 1
    """CPU threads of each process."""
    seed: int = 0
    """Seed of the suggestions and of the trials' runs; new seeds come after it."""
    out: str = ""
    """New folder of the search: a path, s3:// or gs:// that every machine sees; empty: runs/search-<preset>-<time>."""


def main() -> None:
    """The command."""
    asked = parse(Search, sys.argv[1:], "python -m jobs.search", __doc__ or "")
    job = _job(asked)
    data = _checked(asked, job)
    out = asked.out or f"runs/search-{job.name}-{time.strftime('%Y%m%d-%H%M%S')}"
    if (storage := Storage.at(out)).check_exists():
        raise InputError(
            f"--out {out} exists: a search is never overwritten; go on with it by python -m jobs.resume {out}"
        )
    asked = replace(asked, out=storage.path if storage.local else out, data=resolve_source(job.data.source))
    asked = replace(asked, init_from=resolve_checkpoint(asked.init_from) if asked.init_from else "")
    go(asked, _job(asked), data, new=True)


def resume(out: str) -> None:
    """Go on with a search that was killed, or say again what came of one that has ended."""
    storage = Storage.at(out)
    try:
        found = storage.read_json(PLAN)
        asked = Search(**found["asked"])
    except (TypeError, ValueError, KeyError) as e:
        raise InputError(f"{out}/{PLAN} is not a search of this version: {str(e).splitlines()[0]}") from e
    asked = replace(asked, out=storage.path if storage.local else out)
    job = _job(asked)
    if to_json(job) != found["job"]:
        raise InputError(f"{out}: the preset {asked.preset or job.name} is another than when the search began")
    go(asked, job, _checked(asked, job), new=False)


def _job(asked: Search) -> Job[Any]:
    """The preset, as every trial begins from it. Raises BadInput where there is none."""
    presets = RECIPES[asked.recipe].PRESETS
    name = asked.preset or next(iter(presets))
    if name not in presets:
        raise InputError(f"--preset {name}: there are {', '.join(presets)}")
    preset = presets[name]
    known = asked.data in ("", preset.data) and load_dataset(preset).density is not None
    chosen = {
        key: value
        for key in ("data", "max_items", "held_out_class", "labels_per_class", "init_from")
        if (value := getattr(asked, key))
    }
    return override(
        preset,
        **chosen,
        learners=0,
        actors=asked.trial_actors,
        lanes=max(preset.lanes, asked.trial_actors),
        seed=asked.seed,
        threads=asked.threads,
        validation_share=0.0 if known else asked.validation_share,
        test_share=0.0 if known else asked.test_share,
        cpus_per_actor=asked.cpus_per_actor,
        gpus_per_actor=asked.gpus_per_actor,
        eval_samples=0,
        eval_long_run_steps=0,
        out="",
    )


def _checked(asked: Search, job: Job[Any]) -> Dataset:
    """The data. Raises BadInput for what no trial could make right."""
    for name in ("trials", "reports", "seeds", "threads"):
        if getattr(asked, name) < 1:
            raise InputError(f"--{name} {getattr(asked, name)}: it must be 1 or more")
    if asked.samples < 2 or asked.budget < 0 or asked.confirm < 0 or asked.seed < 0:
        raise InputError("--samples must be 2 or more, --budget, --confirm and --seed 0 or more")
    if not asked.cpus_per_trial > 0:
        raise InputError(f"--cpus-per-trial {asked.cpus_per_trial}: Ray needs a share, however small")
    check_job(job)
    data = load_dataset(job)
    check_objective(_objective(asked, job, data), job, data)
    check_pretrained(job, init_networks(job.recipe, data.spec, job.seed, torch.device("cpu")))
    return data


def _objective(asked: Search, job: Job[Any], data: Dataset) -> Objective:
    usual = USUAL[asked.recipe][data.density is None]
    if job.data.held_out_class is not None:
        usual = "auprc"
    if data.spec.kind == "text" and usual != "accuracy":
        usual = "nll_nats"
    return OBJECTIVES[asked.objective or usual]


def go(asked: Search, job: Job[Any], data: Dataset, new: bool) -> None:
    """Search, confirm, and say what came of it; every part goes on where it was left off."""
    from jobs.cli.search_report import conclude, confirm_name, read_trials  # here: --help need not wait for Ray
    from pipeline.distributed import cluster, tune

    objective, storage = _objective(asked, job, data), Storage.at(asked.out)
    nets = init_networks(job.recipe, data.spec, job.seed, torch.device("cpu"))
    budget = asked.budget or job.updates * gradients_per_update(job.recipe, nets)
    plan = tune.SearchPlan(
        job,
        RECIPES[asked.recipe].space,
        TrialBudget(objective.name, budget, asked.reports, asked.samples),
        asked.trials,
        asked.suggestions,
        asked.early_stopping,
        asked.seed,
        asked.out,
        asked.cpus_per_trial,
        asked.gpus_per_trial,
    )
    with cluster.connected():
        tune.check_room(plan)
        if new:
            about = {"asked": dataclasses.asdict(asked), "job": to_json(job), "provenance": provenance()}
            try:
                storage.write_json(PLAN, about)
            except RunWriteError as e:
                raise InputError(f"--out {e}") from e
        default_comparison(data, torch.device("cpu"))  # its classifier is trained once, before trials all do so
        tune.search(plan)
        best = ranked(read_trials(f"{asked.out}/trials", plan, data), objective)[: asked.confirm]
        recipes = {"preset": job.recipe} | {
            f"best-{i + 1}": tune.suggested_recipe(plan, one.settings) for i, one in enumerate(best)
        }
        seeds = range(asked.seed + 1, asked.seed + 1 + asked.seeds)
        if asked.confirm:
            tune.confirm(
                plan, {confirm_name(n, s): replace(job, recipe=r, seed=s) for n, r in recipes.items() for s in seeds}
            )
    conclude(plan, objective, data, recipes, list(seeds) if asked.confirm else [])


if __name__ == "__main__":
    run_command(main)
