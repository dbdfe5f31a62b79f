"""What is measured on a sample is what a run of the recipe does."""

import dataclasses

import pytest
import torch
from running import sentences_in
from small_recipes import ARCHETYPES, recipe_names, with_recipe

from pipeline.planning.costs import from_json, to_json
from pipeline.planning.machines import Layout, Machines
from pipeline.planning.steady import simulate
from pipeline.runs.job import override
from pipeline.training import calibration

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def _quick(monkeypatch):
    for name, value in (("PASSES", 1), ("ROUNDS", 2), ("ROUNDS_SECONDS", 0.0), ("TASK_SECONDS", 0.0)):
        monkeypatch.setattr(calibration, name, value)
    monkeypatch.setattr(calibration, "configure_process", lambda threads: None)


@pytest.mark.parametrize("name", recipe_names(*ARCHETYPES))
def test_every_recipe_can_be_planned(name, small, tmp_path):
    job = with_recipe(small, name, sentences_in(tmp_path))
    costs = calibration.as_costs(job, calibration.measure_job(job, CPU), CPU)
    own, described = costs.job, calibration.describe_job(job).job
    assert {k: one.count for k, one in own.chains.items()} == {k: one.count for k, one in job.recipe.chains.items()}
    assert {k: one.steps for k, one in own.chains.items()} == {k: one.steps for k, one in described.chains.items()}
    assert own.weight_bytes == described.weight_bytes
    assert dataclasses.replace(from_json(to_json(costs)), about={}) == dataclasses.replace(costs, about={})
    assert simulate(costs, Machines(), Layout(1, 1, min(1, len(own.chains)))).seconds > 0


def test_two_lanes_of_the_jobs_size_sum_up_to_what_they_took(small, monkeypatch):
    """However an update is divided into what its lanes take and the rest."""
    monkeypatch.setattr(calibration, "_learning_seconds", lambda job, n, lanes, device, lag=0: 5 + 3 * n * lanes + lag)
    job = override(small, lanes=2)
    costs, _ = calibration.measure_job(job, CPU)
    n = job.recipe.batch_size // 2
    assert n in costs.learn.sizes
    both = 2 * (costs.prepare(n) + costs.read(n) + costs.learn(n)) + costs.pack + costs.step
    assert both == pytest.approx(5 + 3 * n * 2)
    assert costs.compare(n) == pytest.approx(1)
