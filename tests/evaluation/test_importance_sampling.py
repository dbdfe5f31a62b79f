"""Densities on a grid, and annealed importance sampling, against exact normalisers and likelihoods."""

import math

import pytest
import torch
from torch import nn

from pipeline.energies.energy import gaussian, tilt
from pipeline.energies.toy_densities import EightGaussians
from pipeline.evaluation.metrics.grid import grid_kl, grid_log_density, grid_points, kde_log_density
from pipeline.evaluation.metrics.importance_sampling import anneal, log_marginal
from pipeline.nets.generator import GaussianDecoder
from pipeline.rng import generator, seeded
from pipeline.samplers.hmc import HMC

TRUTH, POINTS = EightGaussians(), grid_points(2.0)


def test_the_truth_has_divergence_zero_at_any_temperature_and_constant():
    log_q = grid_log_density(lambda x: 3 * TRUTH.energy(x) + 7, POINTS, temperature=3.0)
    assert log_q.exp().sum() == pytest.approx(1)
    assert grid_kl(TRUTH, log_q, POINTS) == pytest.approx(0, abs=1e-6)


def test_the_divergence_of_two_gaussians_is_the_closed_form():
    one = EightGaussians(radius=0.0, sd=0.3)
    q = grid_log_density(lambda x: (x - 0.2).square().sum(1) / (2 * 0.3**2), POINTS, 1.0)
    assert grid_kl(one, q, POINTS) == pytest.approx(2 * 0.2**2 / (2 * 0.3**2), rel=1e-3)


@pytest.mark.slow
def test_exact_samples_are_near_the_truth_up_to_the_kernel():
    log_q = kde_log_density(TRUTH.sample(5000, generator(0)), POINTS)
    assert 0.03 < grid_kl(TRUTH, log_q, POINTS) < 0.09
    assert grid_kl(TRUTH, kde_log_density(torch.randn(2000, 2, generator=generator(0)), POINTS), POINTS) > 0.4


class Linear(nn.Linear, GaussianDecoder):
    """x = W z + sigma xi, a model whose likelihood is known."""


def test_the_normaliser_of_a_tilted_gaussian():
    rng, m, d, a, c = generator(0), 500, 4, 1.5, 2.0
    x = torch.randn(m, 1, d, generator=rng)

    def energy(z):
        return (a * z.square() / 2 + c * z).sum(1)

    ratio = anneal(gaussian(), tilt(energy, gaussian()), x, 40, HMC(1, 4, 0.3), rng)
    exact = d * (c**2 / (2 * (1 + a)) - math.log(1 + a) / 2)
    assert ratio.ess > 0.6 * m
    assert abs(ratio.log_ratio - exact) < 4 * (1 / ratio.ess - 1 / m) ** 0.5
    assert 0.8 < ratio.acceptance_rate < 1
    naive = anneal(gaussian(), tilt(energy, gaussian()), x, 1, HMC(1, 4, 0.3), rng)
    assert naive.ess < 0.1 * m


def test_every_item_has_its_own_ratio():
    rng, b = generator(1), torch.tensor([0.0, 0.5, 3.0])
    ratio = anneal(
        gaussian(),
        lambda z: gaussian()(z) + b.repeat(len(z) // 3) * z.square().sum(1) / 2,
        torch.randn(400, 3, 2, generator=rng),
        30,
        HMC(1, 3, 0.3),
        rng,
    )
    error = (1 / ratio.ess - 1 / 400).clamp(min=1e-8).sqrt()
    assert ((ratio.log_ratio + (1 + b).log()).abs() < 4 * error + 1e-6).all()


def test_the_likelihood_of_a_linear_model_under_a_tilted_prior():
    rng, sigma, m, tilted = generator(2), 0.3, 200, 0.7
    with seeded(0):
        net = Linear(2, 5).requires_grad_(False)
    x = torch.randn(6, 5, generator=rng)
    prior = tilt(lambda z: tilted * z.square().sum(1) / 2, gaussian())
    ratio = log_marginal(prior, net, {"x": x}, sigma, 2, m, 60, rng)
    covariance = net.weight @ net.weight.T / (1 + tilted) + sigma**2 * torch.eye(5)
    exact = torch.distributions.MultivariateNormal(net.bias, covariance).log_prob(x)
    constant = 5 / 2 * math.log(2 * math.pi * sigma**2)
    assert (ratio.ess > 0.3 * m).all()
    error = (1 / ratio.ess - 1 / m + 1e-4).sqrt()  # with that of the prior's normaliser, by 1000 chains
    assert ((ratio.log_ratio - constant - exact).abs() < 4 * error).all()
