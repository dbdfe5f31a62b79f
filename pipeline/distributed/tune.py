"""Ray Tune around trials: who is tried next, who is stopped, and what goes on after a kill. It knows no paper."""

import logging
import os
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from types import SimpleNamespace
from typing import Any, Literal

os.environ.setdefault("TUNE_DISABLE_AUTO_CALLBACK_LOGGERS", "1")  # trials log for themselves
os.environ.setdefault("TUNE_DISABLE_SIGINT_HANDLER", "1")  # Ctrl-C ends the command, and jobs.resume goes on
os.environ.setdefault("RAY_AIR_NEW_OUTPUT", "0")  # with verbose=0: silent, since the driver has a bar of its own

from pipeline.distributed.cluster import (
    machines,
    missing,  # before ray, whose environment it sets
)

# isort: split
import optuna
import ray
import torch
from optuna.trial import FixedTrial
from ray import tune
from ray.tune.schedulers import ASHAScheduler, FIFOScheduler
from ray.tune.search.optuna import OptunaSearch
from tqdm import tqdm

from pipeline.batch import Spec
from pipeline.chains.local_pool import LocalPool
from pipeline.distributed.actor_pool import ActorPool
from pipeline.distributed.train import chain_actors
from pipeline.errors import InputError
from pipeline.process import configure_process
from pipeline.recipe import init_networks
from pipeline.runs.job import Job, load_dataset
from pipeline.runs.storage import Storage
from pipeline.search.budgets import TrialBudget
from pipeline.search.objectives import OBJECTIVES
from pipeline.search.trials import read_records, run_trial

FACTOR = 3
"""ASHA lets the best one in so many go on from each rung to the next, of so many times the budget."""
FAILURES = 2
"""Deaths of its process that a trial survives: it goes on from its run's newest checkpoint."""
COST = "gradient_evaluations"
"""ASHA's axis."""

Space = Callable[[Any, Any, int], Any]
"""`space(trial, recipe, budget) -> recipe`: the recipe with what an optuna trial suggests."""


@dataclass(frozen=True)
class Plan:
    """What is searched; it travels to the trials."""

    job: Job[Any]
    """What trials have in common: they differ in the recipe."""
    space: Space
    yardstick: TrialBudget
    trials: int
    suggestions: Literal["tpe", "random"]
    early_stopping: Literal["asha", "none"]
    seed: int
    """Of the suggestions."""
    out: str
    """Folder of the search, that every machine sees."""
    cpus_per_trial: float
    gpus_per_trial: float


class ResumableASHA(ASHAScheduler):  # type: ignore[misc]
    """ASHA that knows, after a kill, what trials had reported before: Tune keeps searchers, and no schedulers."""

    def __init__(self, plan: Plan):
        yardstick, objective = plan.yardstick, OBJECTIVES[plan.yardstick.objective]
        share = yardstick.budget / yardstick.reports * (1 - 1e-9)  # or rounding might cost the last rung
        super().__init__(COST, objective.name, objective.better, yardstick.budget, share, FACTOR)
        self.folder, self.told = f"{plan.out}/trials", False

    def on_trial_add(self, tune_controller: Any, trial: Any) -> None:
        """Before the first trial, take over what lies in the folder."""
        if not self.told:
            self.told = True
            for name, record in read_records(self.folder).items():
                for report in record["reports"]:
                    known = SimpleNamespace(trial_id=name)
                    self._brackets[0].on_result(known, report[COST], self._metric_op * report["quality"])
        super().on_trial_add(tune_controller, trial)


class TrialProgress(tune.Callback):  # type: ignore[misc]
    """Progress on the driver: trials that have ended, and the best quality so far."""

    def __init__(self, total: int, desc: str, objective: str):
        self.total, self.desc, self.objective = total, desc, objective
        self.best: float | None = None
        self._bar: tqdm | None = None

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_bar": None}

    @property
    def bar(self) -> tqdm:
        """Drawn when something is to be seen."""
        self._bar = self._bar or tqdm(total=self.total, desc=self.desc, unit="trial", mininterval=1.0)
        return self._bar

    def setup(self, *args: Any, **info: Any) -> None:
        """Draw it."""
        self.bar.refresh()

    def on_trial_result(
        self, iteration: int, trials: list[Any], trial: Any, result: dict[str, Any], **info: Any
    ) -> None:
        """Look whether it is the best."""
        pick = min if OBJECTIVES[self.objective].better == "min" else max
        self.best = pick([value for value in (self.best, result[self.objective]) if value is not None])
        running = sum(one.status == "RUNNING" for one in trials)
        self.bar.set_postfix_str(f"{running} at work, best {self.objective} {self.best:.4g}")

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """One more."""
        self.bar.update(sum(one.status in ("TERMINATED", "ERROR") for one in trials) - self.bar.n)

    def on_experiment_end(self, trials: list[Any], **info: Any) -> None:
        """Leave it as it is."""
        self.bar.update(len(trials) - self.bar.n)
        self.bar.close()


def suggested_recipe(plan: Plan, settings: Mapping[str, Any]) -> Any:
    """The recipe with settings that were suggested before."""
    return plan.space(FixedTrial(dict(settings)), plan.job.recipe, plan.yardstick.budget)


def check_room(plan: Plan) -> None:
    """Raise BadInput where the cluster has no room for a trial."""
    if lacks := missing(_bundles(plan), machines()):
        raise InputError(f"a trial needs {lacks}; ask for less (--cpus-per-trial, --trial-actors, ...)")


def search(plan: Plan) -> None:
    """Try what is suggested, each trial as a run in `trials/<id>`, new or where a killed search left off."""
    objective = OBJECTIVES[plan.yardstick.objective]
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    logging.getLogger("ray.tune.analysis.experiment_analysis").setLevel(logging.ERROR)  # misses the loggers' files
    kind = optuna.samplers.TPESampler if plan.suggestions == "tpe" else optuna.samplers.RandomSampler
    searcher = OptunaSearch(partial(_suggest, plan), objective.name, objective.better, sampler=kind(seed=plan.seed))
    config = tune.TuneConfig(
        search_alg=searcher,
        scheduler=ResumableASHA(plan) if plan.early_stopping == "asha" else FIFOScheduler(),
        num_samples=plan.trials,
        reuse_actors=True,  # a process that imports torch for each trial would cost more than many a trial
    )
    _tuned(plan, "trials", _trial, config, {}, plan.trials)


def confirm(plan: Plan, jobs: Mapping[str, Job[Any]]) -> None:
    """Run each of the jobs to the end of the budget in `confirm/<name>`, judged by what no trial was judged by."""
    again = replace(plan, yardstick=replace(plan.yardstick, reports=1, part="test"))
    config = tune.TuneConfig(num_samples=1, reuse_actors=True)
    _tuned(again, "confirm", partial(_again, jobs), config, {"name": tune.grid_search(list(jobs))}, len(jobs))


def _tuned(
    plan: Plan, name: str, trainable: Callable[..., None], config: tune.TuneConfig, space: dict[str, Any], total: int
) -> None:
    storage = Storage.at(plan.out) / "tune"
    place = f"{storage.path}/{name}"
    bound = tune.with_resources(partial(trainable, plan), tune.PlacementGroupFactory(_bundles(plan)))
    if tune.Tuner.can_restore(place, storage.fs):
        tuner = tune.Tuner.restore(place, bound, storage_filesystem=storage.fs, resume_errored=True)
    else:
        tuner = tune.Tuner(
            bound,
            param_space=space,
            tune_config=config,
            run_config=tune.RunConfig(
                name=name,
                storage_path=storage.path,
                storage_filesystem=storage.fs,
                failure_config=tune.FailureConfig(max_failures=FAILURES),
                callbacks=[TrialProgress(total, f"{plan.job.name}, {name}", plan.yardstick.objective)],
                verbose=0,
            ),
        )
    if errors := tuner.fit().errors:
        lines = [line for line in str(errors[0]).splitlines() if line.strip()]
        print(f"warning: {len(errors)} of {total} {name} failed, the first by {lines[-1].strip()}", file=sys.stderr)


def _bundles(plan: Plan) -> list[dict[str, float]]:
    """What a trial asks Ray for: its process, and its actors."""
    own = {"CPU": plan.cpus_per_trial, "GPU": plan.gpus_per_trial}
    actor = {"CPU": plan.job.resources.cpus_per_actor, "GPU": plan.job.resources.gpus_per_actor}
    bundles = [own] + [actor] * plan.job.resources.actors
    return [{name: amount for name, amount in bundle.items() if amount} for bundle in bundles]


def _suggest(plan: Plan, trial: Any) -> None:
    plan.space(trial, plan.job.recipe, plan.yardstick.budget)


def _trial(plan: Plan, config: dict[str, Any]) -> None:
    """What each trial's process does."""
    name = tune.get_context().get_trial_id()
    job = replace(plan.job, recipe=suggested_recipe(plan, config), out=f"{plan.out}/trials/{name}")
    _run(plan, job, config)


def _again(jobs: Mapping[str, Job[Any]], plan: Plan, config: dict[str, Any]) -> None:
    _run(plan, replace(jobs[config["name"]], out=f"{plan.out}/confirm/{config['name']}"), config)


def _run(plan: Plan, job: Job[Any], settings: Mapping[str, Any]) -> None:
    configure_process(job.resources.threads)
    device = torch.device("cuda" if ray.get_gpu_ids() else "cpu")
    spec = load_dataset(job).spec
    with chain_actors(job, spec) as handles:
        for report in run_trial(job, plan.yardstick, settings, device, lambda: _pool(job, spec, device, handles)):
            said = {plan.yardstick.objective: report.quality, COST: report.gradient_evaluations}
            tune.report({**said, "updates": report.updates, "diverged": bool(report.diverged)})


def _pool(job: Job[Any], spec: Spec, device: torch.device, handles: list[Any]) -> Any:
    return ActorPool(handles) if handles else LocalPool(job.recipe, init_networks(job.recipe, spec, job.seed, device))
