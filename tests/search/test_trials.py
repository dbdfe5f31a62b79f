"""A trial of a search: a run that stops at fixed budgets, and is the whole run all the same."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
from running import CPU, Fragile, local_pool
from running import run as ran
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from pipeline.recipes.joint_vae import JointVAE
from pipeline.recipes.latent_prior import LatentPrior
from pipeline.runs.job import override
from pipeline.runs.snapshot import newest_snapshot
from pipeline.samplers.langevin import Langevin
from pipeline.search.budgets import TrialBudget, gradients_per_update, report_updates
from pipeline.search.objectives import OBJECTIVES, measure_quality
from pipeline.search.trials import run_trial

BUDGET = TrialBudget("frechet", gradient_evaluations=6 * 16 * 5, report_count=3, sample_count=40)
SETTINGS = {"noise": 0.01}


@pytest.fixture
def trial(small):
    return override(small, validation_share=0.2, test_share=0.2)


def reports(job, budget=BUDGET):
    return list(run_trial(job, budget, SETTINGS, CPU, lambda: local_pool(job)))


def test_a_trial_is_the_run_that_it_would_be_without_a_stop(trial, tmp_path):
    reports(trial)
    whole = replace(trial, out=str(tmp_path / "whole"))
    assert json.loads((Path(trial.out) / "result.json").read_text())["weights_sha256"] == ran(whole)["weights_sha256"]


def test_it_reports_after_equal_shares_of_gradient_evaluations_whatever_its_steps(trial):
    found = reports(trial)
    assert [one.updates for one in found] == [2, 4, 6]
    assert [one.gradient_evaluations for one in found] == [160, 320, 480]
    longer = replace(trial, recipe=replace(trial.recipe, langevin=Langevin(8, 1.0, 0.01)))
    assert report_updates(longer, BUDGET) == [2, 3, 4]  # of 128 evaluations each: the first to reach 160, 320, 480
    assert report_updates(replace(longer, recipe=replace(longer.recipe, langevin=Langevin(50, 1.0, 0.01))), BUDGET) == [
        1
    ]


def test_what_one_update_costs():
    latent_dim = LatentPrior(batch_size=10, prior_steps=6, posterior_steps=4)
    assert gradients_per_update(latent_dim, {}) == 10 * 6 + 10 * 4
    assert gradients_per_update(JointVAE(batch_size=10), {}) == 10  # no chains: gradients of items' losses


def test_a_killed_trial_says_what_it_had_said_and_goes_on(trial, tmp_path):
    undisturbed = replace(trial, out=str(tmp_path / "undisturbed"))
    expected = reports(undisturbed)
    walk = run_trial(trial, BUDGET, SETTINGS, CPU, lambda: local_pool(trial))
    next(walk), next(walk)
    walk.close()
    again = reports(trial)
    assert [(one.updates, one.quality) for one in again] == [(one.updates, one.quality) for one in expected]


def test_quality_is_of_the_part_that_is_named_and_of_no_other(trial):
    *_, last = reports(trial)
    model = newest_snapshot(trial, CPU)
    assert set(model.data.rows).isdisjoint(model.data.validation_rows)
    assert set(model.data.test_rows).isdisjoint(model.data.validation_rows)
    assert len(model.data.rows) + len(model.data.test_rows) + len(model.data.validation_rows) == 1797
    pool = local_pool(trial)
    assert measure_quality(model, OBJECTIVES["frechet"], model.data.validation, 40, 0, pool) == last.quality
    assert measure_quality(model, OBJECTIVES["frechet"], model.data.test, 40, 0, pool) != last.quality
    assert json.loads((Path(trial.out) / "result.json").read_text())["metrics"] == {}


def test_a_diverged_trial_ends_early_with_the_worst_there_is(trial):
    broken = replace(trial, recipe=Fragile.like(trial.recipe, at=3, attempts=1))
    found = reports(broken)
    assert [one.quality == float("inf") for one in found] == [False, True]
    assert (found[-1].updates, found[-1].gradient_evaluations) == (3, 240)
    assert "update 3" in found[-1].diverged
    assert reports(broken) == found
    assert OBJECTIVES["accuracy"].worst == -float("inf")


def test_trials_stand_in_tensorboards_hparams_tab(trial):
    reports(trial)
    events = EventAccumulator(f"{trial.out}/search").Reload()
    assert "search/frechet" in events.Tags()["scalars"]
    assert {"_hparams_/session_start_info", "_hparams_/experiment"} <= set(events.summary_metadata)
    assert [point.step for point in events.Scalars("search/frechet")] == [160, 320, 480]
