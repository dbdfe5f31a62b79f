"""Ray Tune around trials: which settings to try, which trials to stop, and how to continue after a kill.

It knows no paper.
"""

import logging
import sys
import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from types import SimpleNamespace
from typing import Any, Literal

import optuna
import ray
import torch
from optuna.trial import FixedTrial
from ray import tune
from ray.actor import ActorHandle
from ray.tune.schedulers import ASHAScheduler, FIFOScheduler
from ray.tune.search.optuna import OptunaSearch

from pipeline.distributed.aside import call_aside, guarded
from pipeline.distributed.cluster import require_resources
from pipeline.distributed.placement import Bundle, bundles
from pipeline.distributed.status import RemoteRequest, status_actor
from pipeline.distributed.train import chain_actors, chain_pool
from pipeline.errors import Stopped
from pipeline.process import configure_process
from pipeline.progress import TerminalBar
from pipeline.runs.job import Job, load_dataset
from pipeline.runs.storage import Storage
from pipeline.search.budgets import TrialBudget, gradients_per_sample, report_updates
from pipeline.search.objectives import OBJECTIVES
from pipeline.search.trials import TrialReport, read_records, run_trial

REDUCTION_FACTOR = 3
"""ASHA continues the best third of the trials at each rung; each rung has three times the budget of the one before."""
MAX_FAILURES = 2
"""Deaths of its process that a trial survives: it continues from its run's newest checkpoint."""
COST = "gradient_evaluations"
"""The metric that ASHA's rungs are budgets of."""
SAMPLE_COST = "gradients_per_sample"
"""The metric that a search for the front minimises beside its quality."""

Space = Callable[[Any, Any, int], Any]
"""`space(trial, recipe, budget) -> recipe`: the recipe with the settings that an optuna trial suggests."""


@dataclass(frozen=True)
class SearchPlan:
    """What a search tries; every trial gets a copy."""

    job: Job[Any]
    """The trials' job, apart from the recipe's settings and the run folder."""
    space: Space
    trial_budget: TrialBudget
    trials: int
    suggestions: Literal["tpe", "nsga2", "random"]
    scheduler: Literal["asha", "pbt", "none"]
    seed: int
    """Seed of the suggestions."""
    out: str
    """Folder of the search, which every machine sees."""
    cpus_per_trial: float
    gpus_per_trial: float
    minutes: float = 0.0
    """Budget of time of one command; 0: none."""
    front: bool = False
    """Whether suggestions aim at quality and at cheap samples alike."""


class ResumableASHA(ASHAScheduler):  # type: ignore[misc]
    """ASHA that, after a kill, knows what trials reported before it: Tune saves searchers, but no schedulers."""

    def __init__(self, plan: SearchPlan):
        objective, whole = OBJECTIVES[plan.trial_budget.objective], plan.trial_budget.gradient_evaluations
        first_rung = whole / plan.trial_budget.report_count * (1 - 1e-9)  # less, or rounding could cost the last rung
        super().__init__(COST, objective.name, objective.direction, whole, first_rung, REDUCTION_FACTOR)
        self.out, self.replayed = plan.out, False

    def on_trial_add(self, tune_controller: Any, trial: Any) -> None:
        """Before the first trial, replay the reports of the trials in the search's folder."""
        if not self.replayed:
            self.replayed = True
            for name, record in read_records(Storage.at(self.out) / "trials").items():
                self._replay(name, [{COST: one[COST], self.metric: one["quality"]} for one in record["reports"]])
        super().on_trial_add(tune_controller, trial)

    def _replay(self, name: str, results: list[dict[str, float]]) -> None:
        trial = SimpleNamespace(trial_id=name)
        super().on_trial_add(None, trial)
        for result in results:
            super().on_trial_result(None, trial, result)
        super().on_trial_complete(None, trial, results[-1])


class TrialProgress(tune.Callback):  # type: ignore[misc]
    """A progress bar on the driver: trials that have ended, and the best quality so far."""

    def __init__(self, total: int, desc: str, objective: str, done: int = 0, generations: int = 0):
        """A bar of `total` trials, of which `done` were there before; with the number of generations, or 0."""
        self.total, self.desc, self.objective, self.done, self.generations = total, desc, objective, done, generations
        self.best: float | None = None
        self.ended = 0
        self._bar: TerminalBar | None = None

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_bar": None, "ended": 0}

    @property
    def bar(self) -> TerminalBar:
        """The bar, made at its first use."""
        self._bar = self._bar or TerminalBar(self.total, self.desc, "part" if self.generations else "trial", self.done)
        return self._bar

    def setup(self, *args: Any, **info: Any) -> None:
        """Draw the bar."""
        self.bar.update(0)

    def on_trial_result(
        self, iteration: int, trials: list[Any], trial: Any, result: dict[str, Any], **info: Any
    ) -> None:
        """Update the best quality."""
        pick = min if OBJECTIVES[self.objective].direction == "min" else max
        self.best = pick([value for value in (self.best, result[self.objective]) if value is not None])
        running = f"{sum(one.status == 'RUNNING' for one in trials)} running"
        if self.generations:
            running = f"generation {result['generation']} of {self.generations}"
        self.bar.set_description(f"{self.desc}, {running}, best {self.objective} {self.best:.4g}")

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """Count the trials that have ended."""
        self._count(sum(one.status in ("TERMINATED", "ERROR") for one in trials))

    def on_experiment_end(self, trials: list[Any], **info: Any) -> None:
        """Fill the bar and close it."""
        self._count(len(trials))
        self.bar.close()

    def _count(self, ended: int) -> None:
        self.bar.update(ended - self.ended)
        self.ended = ended


def suggested_recipe(plan: SearchPlan, settings: Mapping[str, Any]) -> Any:
    """The recipe with settings that were suggested before."""
    return plan.space(FixedTrial(dict(settings)), plan.job.recipe, plan.trial_budget.gradient_evaluations)


def check_room(plan: SearchPlan) -> None:
    """Raise InputError where the cluster has no room for a trial."""
    require_resources(_trial_bundles(plan), "a trial needs", "cpus_per_trial, gpus_per_trial or trial_actors")


def search(plan: SearchPlan) -> None:
    """Run the trials, each in `trials/<id>`; a search that was killed continues."""
    objective = OBJECTIVES[plan.trial_budget.objective]
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    names: Any = [objective.name, SAMPLE_COST] if plan.front else objective.name
    directions: Any = [objective.direction, "min"] if plan.front else objective.direction
    config = tune.TuneConfig(
        search_alg=OptunaSearch(partial(_suggest, plan), names, directions, sampler=_sampler(plan)),
        scheduler=ResumableASHA(plan) if plan.scheduler == "asha" else FIFOScheduler(),
        num_samples=plan.trials,
        reuse_actors=True,  # starting a process and importing torch would cost more than many a trial
    )
    bar = TrialProgress(plan.trials, f"{plan.job.name}, trials", objective.name)
    fit(plan, "trials", _run_suggestion, config, {}, bar)


def _sampler(plan: SearchPlan) -> optuna.samplers.BaseSampler:
    if plan.suggestions == "nsga2":  # of four generations or more, where trials allow
        return optuna.samplers.NSGAIISampler(seed=plan.seed, population_size=max(2, min(50, plan.trials // 4)))
    kind = optuna.samplers.TPESampler if plan.suggestions == "tpe" else optuna.samplers.RandomSampler
    return kind(seed=plan.seed)


def confirm(plan: SearchPlan, jobs: Mapping[str, Job[Any]]) -> None:
    """Run each of the jobs with the whole budget in `confirm/<name>`, and measure its quality on the test items."""
    plan = replace(plan, trial_budget=replace(plan.trial_budget, report_count=1, split="test"))
    config = tune.TuneConfig(num_samples=1, reuse_actors=True)
    bar = TrialProgress(len(jobs), f"{plan.job.name}, confirm", plan.trial_budget.objective)
    fit(plan, "confirm", partial(_run_confirmation, jobs), config, {"name": tune.grid_search(list(jobs))}, bar)


def fit(
    plan: SearchPlan,
    name: str,
    trainable: Callable[..., None],
    config: tune.TuneConfig,
    space: dict[str, Any],
    bar: TrialProgress,
) -> None:
    """Run a trainable, which takes the plan and the status actor first, as the trials that a configuration asks for.

    What was killed continues; trials that fail for good are said in one line.
    """
    logging.getLogger("ray.tune.analysis.experiment_analysis").setLevel(logging.ERROR)  # misses the loggers' files
    with guarded(), status_actor(shows_progress=False) as status:
        bound = tune.with_resources(partial(trainable, plan, status), tune.PlacementGroupFactory(_trial_bundles(plan)))
        tuner = _tuner(plan, name, bound, config, space, bar)
        errors = call_aside(tuner.fit, plan.minutes, lambda: not ray.get(status.working.remote())).errors
    if errors:
        lines = [line for line in str(errors[0]).splitlines() if line.strip()]
        print(
            f"warning: {len(errors)} of {bar.total} {name} failed, the first with {lines[-1].strip()}", file=sys.stderr
        )


def _tuner(
    plan: SearchPlan, name: str, trainable: Any, config: tune.TuneConfig, space: dict[str, Any], bar: TrialProgress
) -> tune.Tuner:
    """Ray Tune as it was left in the search's folder, or anew."""
    storage = Storage.at(plan.out) / "tune"
    path = f"{storage.path}/{name}"
    if tune.Tuner.can_restore(path, storage.fs):
        return tune.Tuner.restore(path, trainable, storage_filesystem=storage.fs, resume_errored=True)
    return tune.Tuner(
        trainable,
        param_space=space,
        tune_config=config,
        run_config=tune.RunConfig(
            name=name,
            storage_path=storage.path,
            storage_filesystem=storage.fs,
            failure_config=tune.FailureConfig(max_failures=MAX_FAILURES),
            callbacks=[bar],
            verbose=0,
        ),
    )


def _trial_bundles(plan: SearchPlan) -> list[Bundle]:
    """The requests of a trial: its process, and its actors."""
    resources = plan.job.resources
    actors = bundles(resources.cpus_per_actor, resources.gpus_per_actor, resources.actors)
    return bundles(plan.cpus_per_trial, plan.gpus_per_trial) + actors


def _suggest(plan: SearchPlan, trial: Any) -> None:
    plan.space(trial, plan.job.recipe, plan.trial_budget.gradient_evaluations)


def _run_suggestion(plan: SearchPlan, status: ActorHandle, config: dict[str, Any]) -> None:
    """A trial's process, in a search."""
    name = tune.get_context().get_trial_id()
    job = replace(plan.job, recipe=suggested_recipe(plan, config), out=(Storage.at(plan.out) / "trials" / name).uri)
    run_job(plan, status, job, partial(run_trial, job, plan.trial_budget, config))


def _run_confirmation(
    jobs: Mapping[str, Job[Any]], plan: SearchPlan, status: ActorHandle, config: dict[str, Any]
) -> None:
    """A trial's process, in a confirmation."""
    job = replace(jobs[config["name"]], out=(Storage.at(plan.out) / "confirm" / config["name"]).uri)
    run_job(plan, status, job, partial(run_trial, job, plan.trial_budget, config))


def run_job(
    plan: SearchPlan, status: ActorHandle, job: Job[Any], reports: Callable[..., Iterable[TrialReport]], **more: int
) -> None:
    """Tell Tune the reports of a job, which `reports(device, pool, requested)` yields, and what `more` says of it.

    Where the search stops, the job does so with a checkpoint, and waits for the end of its process: were it to return,
    Tune would take it for a trial that has ended.
    """
    configure_process(job.resources.threads, job.resources.deterministic)
    device = torch.device("cuda" if ray.get_gpu_ids() else "cpu")
    spec, requested = load_dataset(job).spec, RemoteRequest(status)
    ray.get(status.add_working.remote(1))
    try:
        with chain_actors(job, spec) as handles:
            pool = partial(chain_pool, job, spec, device, handles)
            cost = gradients_per_sample(job, report_updates(job, plan.trial_budget)[-1])
            for report in reports(device, pool, requested):
                metrics = {plan.trial_budget.objective: report.quality, COST: report.gradient_evaluations}
                more |= {"updates": report.updates, "diverged": int(bool(report.diverged)), SAMPLE_COST: cost}
                tune.report({**metrics, **more})
    except Stopped:
        ray.get(status.add_working.remote(-1))
        threading.Event().wait()
    ray.get(status.add_working.remote(-1))
