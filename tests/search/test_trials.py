"""A trial of a search: a run that stops at fixed budgets, and is the whole run nevertheless."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
from running import CPU, Fragile, local_pool, run
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


@pytest.mark.slow
def test_a_trial_is_the_same_run_as_one_without_stops(trial, tmp_path):
    reports(trial)
    whole = replace(trial, out=str(tmp_path / "whole"))
    assert json.loads((Path(trial.out) / "result.json").read_text())["weights_sha256"] == run(whole)["weights_sha256"]


@pytest.mark.slow
def test_a_trial_reports_after_equal_shares_of_gradient_evaluations_for_any_number_of_steps(trial):
    all_reports = reports(trial)
    assert [one.updates for one in all_reports] == [2, 4, 6]
    assert [one.gradient_evaluations for one in all_reports] == [160, 320, 480]
    longer = replace(trial, recipe=replace(trial.recipe, langevin=Langevin(8, 1.0, 0.01)))
    assert report_updates(longer, BUDGET) == [2, 3, 4]  # of 128 evaluations each: the first to reach 160, 320, 480
    assert report_updates(replace(longer, recipe=replace(longer.recipe, langevin=Langevin(50, 1.0, 0.01))), BUDGET) == [
        1
    ]


def test_gradients_per_update_count_chains_or_else_items():
    latent_prior = LatentPrior(batch_size=10, prior_steps=6, posterior_steps=4)
    assert gradients_per_update(latent_prior, {}) == 10 * 6 + 10 * 4
    assert gradients_per_update(JointVAE(batch_size=10), {}) == 10  # no chains: gradients of items' losses


def test_a_killed_trial_repeats_its_reports_and_continues(trial, tmp_path):
    undisturbed = replace(trial, out=str(tmp_path / "undisturbed"))
    expected = reports(undisturbed)
    running = run_trial(trial, BUDGET, SETTINGS, CPU, lambda: local_pool(trial))
    next(running), next(running)
    running.close()
    again = reports(trial)
    assert [(one.updates, one.quality) for one in again] == [(one.updates, one.quality) for one in expected]


def test_quality_is_measured_on_the_named_split(trial):
    *_, last = reports(trial)
    snapshot = newest_snapshot(trial, CPU)
    assert set(snapshot.data.rows).isdisjoint(snapshot.data.validation_rows)
    assert set(snapshot.data.test_rows).isdisjoint(snapshot.data.validation_rows)
    assert len(snapshot.data.rows) + len(snapshot.data.test_rows) + len(snapshot.data.validation_rows) == 1797
    pool = local_pool(trial)
    assert measure_quality(snapshot, OBJECTIVES["frechet"], snapshot.data.validation, 40, 0, pool) == last.quality
    assert measure_quality(snapshot, OBJECTIVES["frechet"], snapshot.data.test, 40, 0, pool) != last.quality
    assert json.loads((Path(trial.out) / "result.json").read_text())["metrics"] == {}


def test_a_diverged_trial_ends_early_with_the_worst_quality(trial):
    broken = replace(trial, recipe=Fragile.like(trial.recipe, at=3, attempts=1))
    all_reports = reports(broken)
    assert [one.quality == float("inf") for one in all_reports] == [False, True]
    assert (all_reports[-1].updates, all_reports[-1].gradient_evaluations) == (3, 240)
    assert "update 3" in all_reports[-1].diverged
    assert reports(broken) == all_reports
    assert OBJECTIVES["accuracy"].worst == -float("inf")


def test_trials_are_in_tensorboards_hparams_tab(trial):
    reports(trial)
    events = EventAccumulator(f"{trial.out}/search").Reload()
    assert "search/frechet" in events.Tags()["scalars"]
    assert {"_hparams_/session_start_info", "_hparams_/experiment"} <= set(events.summary_metadata)
    assert [point.step for point in events.Scalars("search/frechet")] == [160, 320, 480]
