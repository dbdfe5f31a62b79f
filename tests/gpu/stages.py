"""What is done with a recipe, stage by stage, on a device; each stage returns its numbers by name."""

from importlib import import_module

import numpy as np

from jobs.cli.search_args import Search
from jobs.search import _objective as usual_objective
from pipeline.batch import LABELLED
from pipeline.chains.local_pool import LocalPool
from pipeline.evaluation.comparison import default_comparison
from pipeline.evaluation.convergence.evidence import SHORTEST_REACH, gather_evidence
from pipeline.evaluation.evaluate import evaluate
from pipeline.evaluation.options import EvaluationOptions
from pipeline.evaluation.plan import plan_evaluation
from pipeline.nets import weights
from pipeline.recipe import Recipe, init_networks
from pipeline.runs.job import load_dataset, override
from pipeline.runs.snapshot import newest_snapshot
from pipeline.sampling.bulk import BlockSettings, BulkSource
from pipeline.search.budgets import TrialBudget, gradients_per_update
from pipeline.search.trials import run_trial
from pipeline.training.worker import Worker

FEW = EvaluationOptions(
    n=10, multiples=(2,), long_run_chains=4, chains=4, draws=4, warm_up=1, annealed=4, temperatures=3, items=4,
    item_chains=2,
)  # fmt: skip
"""Every metric, of few chains."""
EXPERIMENTS = {"path_integration": "grid_cells", "simple_cells": "grid_cells"}
"""Experiments of recipes that are called otherwise."""


def make_worker(job, device):
    """A worker at update 0, or at the newest checkpoint."""
    data = load_dataset(job)
    worker = Worker(job, data, device, LocalPool(job.recipe, init_networks(job.recipe, data.spec, 1, device)))
    worker.restore()
    return worker


def update(worker):
    """The first update."""
    metrics, _ = worker.step(0)
    own = {name: value for name, value in metrics.items() if "time/" not in name}
    return {**own, "weights": weights.flatten(worker.learner.nets)}


def checkpoint(worker):
    """A checkpoint, and the second update, of the run that resumes."""
    worker.save(1)
    resumed = make_worker(worker.job, worker.device)
    resumed.step(1)
    return {"weights": weights.flatten(resumed.learner.nets)}


def bulk(worker):
    """A block of samples."""
    snapshot = newest_snapshot(worker.job, worker.device)
    if type(snapshot.recipe).initial_states is Recipe.initial_states:
        return {}
    source = BulkSource(snapshot.job, weights.flatten(snapshot.nets), 1, None, BlockSettings(seed=3, size=5))
    return source.writer(worker.device).sample(0, 5)._asdict()


def evaluation(worker):
    """Every group of metrics that the model allows, but for the observer's, which is a stage of its own."""
    snapshot = newest_snapshot(worker.job, worker.device)
    groups = [group for group in plan_evaluation(snapshot, options=FEW).groups if group != "convergence"]
    result = evaluate(snapshot, LocalPool(snapshot.recipe, snapshot.nets), groups, FEW)
    return {one.name: one.value for one in result.measurements}


def trial(worker):
    """A trial of a search, by the objective that the recipe's experiment has for such data; none where it has none."""
    job = override(worker.job, out=f"{worker.job.out}-trial", validation_share=0.2, test_share=0.2)
    name = type(job.recipe).__module__.rpartition(".")[2]
    experiment = import_module(f"jobs.{EXPERIMENTS.get(name, name)}")
    if not hasattr(experiment, "OBJECTIVE"):
        return {}
    objective = usual_objective(Search(name), experiment, job, worker.data)
    if objective.name == "accuracy" and LABELLED not in job.recipe.streams:
        return {}
    gradients = 2 * gradients_per_update(job.recipe, worker.learner.nets)
    budget = TrialBudget(objective.name, gradients, report_count=2, sample_count=10)
    reports = run_trial(job, budget, {}, worker.device, lambda: LocalPool(job.recipe, worker.learner.nets))
    return {f"report {i}": one.quality for i, one in enumerate(reports)}


def observation(worker):
    """What an observer finds out about the newest checkpoint, by few and short chains; none where no chain moves."""
    snapshot = newest_snapshot(worker.job, worker.device)
    if not snapshot.recipe.samples_are_data or not snapshot.sampler.gradient_evaluations:
        return {}
    calls = iter(range(SHORTEST_REACH))
    pool, comparison = LocalPool(snapshot.recipe, snapshot.nets), default_comparison(snapshot.data, worker.device)
    found = gather_evidence(snapshot, pool, comparison, 4, stop=lambda: next(calls, None) is None)
    assert found
    evidence, _ = found
    energies = {f"energy {name}": np.array([*one.energy.values()]) for name, one in evidence.trajectories.items()}
    distances = {f"distance {name}": np.array([*one.distance.values()]) for name, one in evidence.trajectories.items()}
    return {**energies, **distances, "rhat": evidence.rhat}
