"""Normalisers by annealed chains in a pool: against exact ones, and alike with any pool."""

import math
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from running import CPU
from small_recipes import LATENT

from pipeline.chains.local_pool import LocalPool
from pipeline.distributed import train as distributed
from pipeline.distributed.actor_pool import ActorPool
from pipeline.energies.energy import gaussian, tilt
from pipeline.energies.toy_densities import EightGaussians
from pipeline.evaluation.metrics.annealing import GaussianBase, log_normalizer, posterior_integrals
from pipeline.evaluation.metrics.grid import grid_points
from pipeline.evaluation.metrics.log_likelihood import likelihood_metrics
from pipeline.evaluation.protocol import EvaluationSetup
from pipeline.nets.generator import GaussianDecoder
from pipeline.recipe import init_networks
from pipeline.recipes.anatomy import Anatomy
from pipeline.recipes.short_run_inference import ShortRunInference
from pipeline.rng import generator
from pipeline.runs.job import load_dataset, override
from pipeline.runs.snapshot import Snapshot
from pipeline.runs.storage import Storage
from pipeline.samplers.langevin import Langevin

TRUTH = EightGaussians()


@dataclass(frozen=True)
class Known(Anatomy):
    """Whose energy is three times that of the data, and seven more."""

    def target(self, chain, nets, context):
        return lambda x: 3 * TRUTH.energy(x) + 7


@dataclass(frozen=True)
class Network(Anatomy):
    """Whose energy is the network's within a wide Gaussian, so that there is a normaliser without learning."""

    def energy(self, nets):
        return tilt(lambda x: 6 * nets["energy"](x), gaussian(0.7))

    def target(self, chain, nets, context):
        return self.energy(nets)


class Linear(torch.nn.Linear, GaussianDecoder):
    """x = W z + b: the one decoder whose likelihood is known."""


def model(job, **changes):
    job = override(job, **changes)
    data = load_dataset(job)
    return Snapshot(job, data, init_networks(job.recipe, data.spec, 3, CPU), 5, Storage.at(job.out))


def pool(of):
    return LocalPool(of.job.recipe, init_networks(of.job.recipe, of.data.spec, 0, CPU))


def test_a_gaussian_of_data_starts_where_they_are():
    x = torch.randn(5000, 1, 2, generator=generator(0)) * 3 + torch.tensor([[1.0, -2.0]])
    base = GaussianBase.fit(torch.cat([x, torch.ones(5000, 1, 1)], 2))
    assert base.shape == (1, 3)
    np.testing.assert_allclose(base.mean, [1, -2, 1], atol=0.2)
    np.testing.assert_allclose(base.sd, [3, 3, max(base.sd) / 100], rtol=0.05)
    assert GaussianBase.standard(4).log_normalizer == pytest.approx(2 * math.log(2 * math.pi))


def test_the_normaliser_of_a_known_density_at_its_temperature(small):
    of = model(small, recipe=Known(langevin=Langevin(1, 1.0, 6**0.5), width=4), source="eight-gaussians")
    base = GaussianBase.fit(of.data.batch(np.arange(2000))["x"])
    found = log_normalizer(pool(of), of, base, 3.0, 200, 50, 0)
    error = float((1 / found.ess - 1 / 200).sqrt())
    assert abs(float(found.log_ratio) + 7 / 3) < 4 * error < 0.15
    assert found.ess > 100
    assert 0.7 < found.acceptance_rate < 0.9


def test_annealing_agrees_with_the_grid_on_a_network(small):
    of = model(small, recipe=Network(langevin=Langevin(1, 1.0, 2**0.5), width=16), source="eight-gaussians")
    points = grid_points(4.0)
    with torch.no_grad():
        exact = float((-of.energy(points)).double().logsumexp(0)) + math.log(64 / len(points))
    base = GaussianBase.fit(of.data.batch(np.arange(2000))["x"])
    found = log_normalizer(pool(of), of, base, 1.0, 600, 40, 1)
    assert found.ess > 200
    assert float(found.log_ratio) == pytest.approx(exact, abs=0.05)


def test_the_likelihood_of_latent_vectors_is_that_of_a_linear_model(small):
    recipe = ShortRunInference(latent_dims=(2,), steps=2, sigma=0.4, width=4)
    of = model(small, recipe=recipe, source="eight-gaussians")
    of.nets["generator"] = Linear(2, 2).requires_grad_(False)
    with torch.no_grad():
        of.nets["generator"].weight.copy_(torch.tensor([[0.7, 0.1], [-0.2, 0.5]]))
    local = LocalPool(recipe, dict(of.nets))
    setup = EvaluationSetup(of, local, "data", of.data, 0)
    (found,) = likelihood_metrics(setup, 10, 250, 25, 10, 50)
    x, net = of.data.batch(np.arange(10))["x"], of.nets["generator"]
    covariance = net.weight @ net.weight.T + 0.4**2 * torch.eye(2)
    exact = torch.distributions.MultivariateNormal(net.bias, covariance).log_prob(x)
    assert found.value == pytest.approx(float(exact.mean()), abs=0.08)
    assert found.ess > 20


def test_actors_anneal_alike(small, ray_session):
    of = model(small, recipe=LATENT, source="digits", actors=2, cpus_per_actor=0.25)
    items = of.data.batch(np.arange(7))
    one = posterior_integrals(pool(of), of, "posterior", items, GaussianBase.standard(3), 40, 4, 0)
    with distributed.chain_actors(of.job, of.data.spec) as handles:
        other = posterior_integrals(ActorPool(handles), of, "posterior", items, GaussianBase.standard(3), 40, 4, 0)
        prior = [
            log_normalizer(p, of, GaussianBase.standard(3), 1.0, 150, 4, 0) for p in (pool(of), ActorPool(handles))
        ]
    assert torch.equal(one.log_integral, other.log_integral)
    assert len(one.log_integral) == 7
    assert torch.equal(prior[0].log_ratio, prior[1].log_ratio)
