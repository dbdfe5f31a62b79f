"""Normalisers by annealed chains in a pool: they agree with exact ones, and do not depend on the pool."""

import math
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from running import CPU, sentences_in
from small_recipes import CONTRASTIVE, FLOW, LATENT, RECIPES, TRANSPORT, with_recipe

from pipeline.chains.local_pool import LocalPool
from pipeline.distributed import train as distributed
from pipeline.distributed.actor_pool import ActorPool
from pipeline.energies.energy import gaussian, tilt
from pipeline.energies.toy_densities import EightGaussians
from pipeline.evaluation.metrics.annealing import GaussianBase, log_normalizer, posterior_integrals
from pipeline.evaluation.metrics.grid import grid_points, log_integral
from pipeline.evaluation.metrics.log_likelihood import likelihood_metrics, why_no_likelihood
from pipeline.evaluation.protocol import EvaluationSetup
from pipeline.nets.generator import GaussianDecoder
from pipeline.recipe import init_networks
from pipeline.recipes.anatomy import Anatomy
from pipeline.recipes.short_run_inference import ShortRunInference
from pipeline.rng import generator
from pipeline.runs.job import load_dataset, override
from pipeline.runs.snapshot import Snapshot
from pipeline.samplers.langevin import Langevin

TRUTH = EightGaussians()


@dataclass(frozen=True)
class ScaledTruth(Anatomy):
    """The energy is three times that of the data, plus seven."""

    def target(self, chain, nets, context):
        return lambda x: 3 * TRUTH.energy(x) + 7


@dataclass(frozen=True)
class TiltedNetwork(Anatomy):
    """The energy is the network's inside a wide Gaussian, so that there is a normaliser without training."""

    def energy(self, nets):
        return tilt(lambda x: 6 * nets["energy"](x), gaussian(0.7))

    def target(self, chain, nets, context):
        return self.energy(nets)


class Linear(torch.nn.Linear, GaussianDecoder):
    """x = W z + b, a decoder whose likelihood is known."""


def snapshot_of(job, **settings):
    job = override(job, **settings)
    data = load_dataset(job)
    return Snapshot(job, data, init_networks(job.recipe, data.spec, 3, CPU), 5)


def pool_of(snapshot):
    recipe = snapshot.recipe
    return LocalPool(recipe, init_networks(recipe, snapshot.data.spec, 0, CPU))


def test_a_fitted_gaussian_has_the_moments_of_the_data():
    x = torch.randn(5000, 1, 2, generator=generator(0)) * 3 + torch.tensor([[1.0, -2.0]])
    base = GaussianBase.fit(torch.cat([x, torch.ones(5000, 1, 1)], 2))
    assert base.shape == (1, 3)
    np.testing.assert_allclose(base.mean, [1, -2, 1], atol=0.2)
    np.testing.assert_allclose(base.sd, [3, 3, max(base.sd) / 100], rtol=0.05)
    assert GaussianBase.standard(4).log_normalizer == pytest.approx(2 * math.log(2 * math.pi))


def test_the_normaliser_of_a_known_density_at_its_temperature(small):
    recipe = ScaledTruth(langevin=Langevin(1, 1.0, 6**0.5), width=4)
    snapshot = snapshot_of(small, recipe=recipe, source="eight-gaussians")
    base = GaussianBase.fit(snapshot.data.batch(np.arange(2000))["x"])
    ratio = log_normalizer(pool_of(snapshot), snapshot, base, 3.0, 200, 50, 0)
    error = float((1 / ratio.ess - 1 / 200).sqrt())
    assert abs(float(ratio.log_ratio) + 7 / 3) < 4 * error < 0.15
    assert ratio.ess > 100
    assert 0.7 < ratio.acceptance_rate < 0.9


def test_annealing_agrees_with_the_grid_on_a_network(small):
    recipe = TiltedNetwork(langevin=Langevin(1, 1.0, 2**0.5), width=16)
    snapshot = snapshot_of(small, recipe=recipe, source="eight-gaussians")
    with torch.no_grad():
        exact = log_integral(-snapshot.energy(grid_points(4.0)).double(), 4.0)
    base = GaussianBase.fit(snapshot.data.batch(np.arange(2000))["x"])
    ratio = log_normalizer(pool_of(snapshot), snapshot, base, 1.0, 600, 40, 1)
    assert ratio.ess > 200
    assert float(ratio.log_ratio) == pytest.approx(exact, abs=0.05)


def test_the_likelihood_of_a_linear_latent_variable_model(small):
    recipe = ShortRunInference(latent_dims=(2,), steps=2, sigma=0.4, width=4)
    snapshot = snapshot_of(small, recipe=recipe, source="eight-gaussians")
    snapshot.nets["generator"] = Linear(2, 2).requires_grad_(False)
    with torch.no_grad():
        snapshot.nets["generator"].weight.copy_(torch.tensor([[0.7, 0.1], [-0.2, 0.5]]))
    setup = EvaluationSetup(snapshot, LocalPool(recipe, dict(snapshot.nets)), "data", snapshot.data, 0)
    (measurement,) = likelihood_metrics(setup, 10, 250, 25, 10, 50)
    x, net = snapshot.data.batch(np.arange(10))["x"], snapshot.nets["generator"]
    covariance = net.weight @ net.weight.T + 0.4**2 * torch.eye(2)
    exact = torch.distributions.MultivariateNormal(net.bias, covariance).log_prob(x)
    assert measurement.value == pytest.approx(float(exact.mean()), abs=0.08)
    assert measurement.ess > 20


@pytest.mark.slow
def test_actors_and_this_process_anneal_alike(small, ray_session):
    snapshot = snapshot_of(small, recipe=LATENT, source="digits", actors=2, cpus_per_actor=0.25)
    items, base = snapshot.data.batch(np.arange(7)), GaussianBase.standard(3)
    here = posterior_integrals(pool_of(snapshot), snapshot, "posterior", items, base, 40, 4, 0)
    with distributed.chain_actors(snapshot.job, snapshot.data.spec) as handles:
        there = posterior_integrals(ActorPool(handles), snapshot, "posterior", items, base, 40, 4, 0)
        pools = pool_of(snapshot), ActorPool(handles)
        prior = [log_normalizer(pool, snapshot, base, 1.0, 150, 4, 0) for pool in pools]
    assert torch.equal(here.log_integral, there.log_integral)
    assert len(here.log_integral) == 7
    assert torch.equal(prior[0].log_ratio, prior[1].log_ratio)


@pytest.mark.parametrize("name", RECIPES)
def test_a_likelihood_of_data_needs_chains_that_move_under_the_energy_of_data(small, tmp_path, name):
    job = with_recipe(small, name, sentences_in(tmp_path))
    snapshot = snapshot_of(job)
    energy = job.recipe.energy(snapshot.nets)
    if why_no_likelihood(snapshot) or energy is None:
        return
    x = snapshot.data.batch(np.arange(4))["x"]
    assert torch.equal(snapshot.energy(x), energy(x))


def test_a_flow_has_no_likelihood_by_annealing_in_its_latent_space(small):
    for recipe in (FLOW, TRANSPORT, CONTRASTIVE):
        assert "move latent vectors, not data" in why_no_likelihood(snapshot_of(small, recipe=recipe))
