"""What Ray Tune costs a trial, and how trials an hour grow with cores: without Tune, on one core, on two.

Random settings of short runs on eight Gaussians, no early stopping, so that every side makes the same trials. Processes
are started before time is taken, as they are in a search of many trials.
"""

import tempfile
import time
from dataclasses import replace
from pathlib import Path

import torch

from benchmarks.timing import Row, faster, smaller
from jobs.short_run import PRESETS, space
from pipeline.chains.local_pool import LocalPool
from pipeline.data.dataset import load_data
from pipeline.distributed.tune import SearchPlan, search, suggested_recipe
from pipeline.recipe import init_networks
from pipeline.runs.job import override
from pipeline.runs.storage import Storage
from pipeline.search.budgets import TrialBudget
from pipeline.search.trials import read_records, run_trial

TRIALS = 8
BUDGET = 1_500_000
"""Gradient evaluations of a trial: some seconds."""


def plan(folder: str, trials: int) -> SearchPlan:
    preset = PRESETS["eight-gaussians-K100"]
    recipe = replace(preset.recipe, langevin=replace(preset.recipe.langevin, steps=50))
    job = override(preset, recipe=recipe, eval_samples=0, learners=0, actors=0)
    budget = TrialBudget("kl", BUDGET, report_count=3, sample_count=200)
    return SearchPlan(job, steady, budget, trials, "random", "none", 0, folder, 1.0, 0.0)


def steady(trial, recipe, budget):
    """A space whose trials all cost the same."""
    found = space(trial, recipe, budget)
    return replace(found, langevin=replace(found.langevin, steps=recipe.langevin.steps))


def with_tune(cores: int) -> tuple[float, list[dict]]:
    """Seconds a trial, and the settings tried; what a first trial a core takes, with its process, is not counted."""
    import ray

    ray.init(address="local", num_cpus=cores, include_dashboard=False, logging_level="error", log_to_driver=False)
    with tempfile.TemporaryDirectory() as folder:
        began = time.time()
        search(plan(folder, TRIALS + cores))
        found = read_records(Storage.at(folder) / "trials")
        ends = sorted((Path(folder) / "trials" / name / "trial.json").stat().st_mtime for name in found)
        print(f"{cores} cores: first trial after {ends[0] - began:.1f} s")
        settings = [record["settings"] for record in found.values()]
    ray.shutdown()
    return (ends[-1] - ends[cores - 1]) / TRIALS, settings


def without_tune(settings: list[dict]) -> float:
    data = load_data("eight-gaussians")
    with tempfile.TemporaryDirectory() as folder:
        of = plan(folder, 0)
        began = time.time()
        for i, one in enumerate(settings[:TRIALS]):
            job = replace(of.job, recipe=suggested_recipe(of, one), out=f"{folder}/{i}")
            device = torch.device("cpu")

            def pool(job=job, device=device):
                return LocalPool(job.recipe, init_networks(job.recipe, data.spec, 0, device))

            list(run_trial(job, of.trial_budget, one, device, pool))
        return (time.time() - began) / TRIALS


def rows() -> list[Row]:
    one, settings = with_tune(1)
    two, _ = with_tune(2)
    plain = without_tune(settings)
    return [
        smaller(f"search: a trial of {BUDGET:,} evaluations on one core: the same without Tune", "s", one, plain),
        faster("search: trials an hour on two cores: on one", "trials/h", 3600 / two, 3600 / one),
    ]
