"""Metrics of single items, and the detection of a class that training never saw."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from running import CPU, run

from pipeline.chains.task import advance
from pipeline.data.dataset import load_data
from pipeline.energies.energy import gaussian
from pipeline.evaluation.metrics.items import detection_metrics
from pipeline.recipe import init_networks
from pipeline.recipes.latent_prior import LatentPrior
from pipeline.recipes.short_run_inference import ShortRunInference
from pipeline.runs.job import DataSettings, Job, override
from pipeline.runs.snapshot import Snapshot
from pipeline.sampling.posterior import item_metrics, posterior_tasks

LATENT = LatentPrior(
    latent_dim=3, prior_steps=3, posterior_steps=2, batch_size=8, energy_width=8, width=4, inference_steps=5
)


def test_detection_is_perfect_for_separated_energies_and_chance_for_equal_ones():
    anomalous = np.array([False, True, False, True, False, False])
    separated = detection_metrics(torch.tensor([0.0, 5, 1, 4, 2, 3]), anomalous)
    assert separated == pytest.approx({"auprc": 1, "auroc": 1})
    equal = detection_metrics(torch.zeros(6), anomalous)
    assert equal == pytest.approx({"auprc": 1 / 3, "auroc": 0.5})
    reversed_ = detection_metrics(-torch.tensor([0.0, 5, 1, 4, 2, 3]), anomalous)
    assert reversed_["auprc"] == pytest.approx((1 / 5 + 2 / 6) / 2)
    assert detection_metrics(torch.zeros(6), np.zeros(6, bool)) == {}


def test_all_items_of_the_held_out_class_are_held_out():
    data = load_data("digits", test_share=0.2, held_out_class=4)
    labels = data.table.column("label")
    assert not (labels[data.rows] == 4).any()
    assert set(np.flatnonzero(labels == 4)) <= set(data.test_rows)
    assert not set(data.rows) & set(data.test_rows)
    assert data.size + data.test.size == len(labels)
    others = (labels[data.test_rows] != 4).sum()
    assert others == pytest.approx(0.2 * (labels != 4).sum(), rel=0.1)


def test_held_out_items_use_the_inference_sampler_and_keep_their_order():
    data = load_data("digits", test_share=0.1).test
    nets = init_networks(LATENT, data.spec, 0, CPU)
    snapshot = Snapshot(Job(recipe=LATENT, data=DataSettings("digits"), updates=1), data, nets, 0)
    tasks = posterior_tasks(snapshot, data, 130, seed=1)
    assert {(t.sampler.steps, t.sampler.noise, t.sampler.drift) for t in tasks} == {(5, 0.0, 0.1**2 / 2)}
    learning = snapshot._replace(job=replace(snapshot.job, recipe=replace(LATENT, inference_steps=0)))
    assert posterior_tasks(learning, data, 9, 1)[0].sampler.noise == 0.1
    results = {(t.chain, t.lane.index): advance(LATENT, nets, t) for t in tasks}
    metrics = item_metrics(snapshot, data, 130, results)
    x = data.batch(np.arange(130))["x"]
    z = torch.from_numpy(np.concatenate([results["posterior", i].x for i in range(len(tasks))]))
    with torch.no_grad():
        error = (x - nets["generator"](z)).flatten(1).square().sum(1)
        prior = nets["energy"](z) + gaussian()(z)
    torch.testing.assert_close(metrics["mse"], error / 64)
    torch.testing.assert_close(metrics["energy"], error / (2 * LATENT.sigma**2) + prior)
    torch.testing.assert_close(metrics["energy_prior"], prior)
    torch.testing.assert_close(
        metrics["energy_unexplained"], error / (x - x.mean((1, 2, 3), True)).square().sum((1, 2, 3))
    )


@pytest.mark.parametrize("recipe", [LATENT, ShortRunInference(latent_dims=(2, 3), steps=2, batch_size=8, width=4)])
@pytest.mark.slow
def test_a_run_reports_the_detection_of_its_held_out_class(small, recipe):
    metrics = run(override(small, recipe=recipe, test_share=0.2, held_out_class=4, eval_samples=20))["metrics"]
    assert {"mse", "auprc", "auprc_chance", "auroc"} <= set(metrics)
    assert 0.3 < metrics["auprc_chance"]["value"] < 0.42
    assert ({"auprc_prior", "auprc_unexplained"} <= set(metrics)) == isinstance(recipe, LatentPrior)
