"""The bound on log p(x), where p(x) is known."""

import math

import pytest
import torch
from running import CPU
from torch import nn

from pipeline.batch import Spec
from pipeline.energies import gaussian, tilt
from pipeline.evaluation.bound import gaussian_normaliser, importance_bound, log_weights
from pipeline.learner import build
from pipeline.nets.generator import GaussianDecoder, mismatch
from pipeline.recipes.short_run_inference import ShortRunInference
from pipeline.rng import generator
from pipeline.samplers import Langevin

L, D, SIGMA = 2, 5, 0.5


class Linear(nn.Linear, GaussianDecoder):
    """x = A z + sigma xi, with A's columns orthogonal and of one length."""

    def __init__(self, length):
        super().__init__(L, D, bias=False)
        self.weight.data = length * torch.linalg.qr(torch.randn(D, L, generator=generator(3))).Q


def posterior(net, x):
    return tilt(mismatch({"x": x}, net, SIGMA), gaussian())


def weighed(net, langevin, x, samples):
    """Log weights, with p(x|z) normalised."""
    found = log_weights(posterior(net, x), langevin, (len(x), L), samples, generator(1))
    return found - gaussian_normaliser(D, SIGMA)


def log_p(net, x):
    """Log N(x; 0, A A^T + sigma^2 I)."""
    covariance = (net.weight @ net.weight.T + SIGMA**2 * torch.eye(D)).detach()
    return torch.distributions.MultivariateNormal(torch.zeros(D), covariance).log_prob(x)


def test_every_weight_is_the_likelihood_where_the_chains_density_is_the_posterior():
    # at x = 0 the posterior is N(0, 1/precision); without noise, K contractions take N(0, 1) there
    net, x, steps, precision = Linear(1.0), torch.zeros(1, D), 5, 1 + 1 / SIGMA**2
    drift = (1 - precision ** (-0.5 / steps)) / precision
    found = weighed(net, Langevin(steps, drift, 0.0), x, 20)
    torch.testing.assert_close(found, log_p(net, x).expand(20, 1), rtol=1e-5, atol=1e-5)


def test_weights_have_the_likelihood_for_mean_and_the_bound_rises_to_it():
    net, langevin = Linear(0.7), Langevin.textbook(6, 0.35)
    x = SIGMA * torch.randn(50, D, generator=generator(0)) + torch.randn(50, L, generator=generator(4)) @ net.weight.T
    x, samples = x.detach(), 2048
    truth, found = log_p(net, x), weighed(net, langevin, x, samples)
    ratio = (found - truth).exp()
    error = (ratio.mean(1).std() / samples**0.5).item()
    assert abs(ratio.mean().item() - 1) < 4 * error
    bounds = {m: importance_bound(found.view(m, -1, 50).flatten(1)).mean() - truth.mean() for m in (1, 4, 16, 64)}
    means = [bound.item() for bound in bounds.values()]
    assert means == sorted(means)
    assert means[0] < -0.05
    assert -0.05 < means[-1] < 4 * error


@pytest.mark.parametrize("step", [0.05, 0.1])
def test_the_bound_is_below_what_quadrature_gives_for_a_network(step):
    recipe = ShortRunInference(latents=(1, 1), steps=20, step=step, sigma=SIGMA, width=16)
    nets = build(recipe, Spec("vector", (D,), 0), 0, CPU)
    with torch.no_grad():
        for p in nets["generator"].parameters():
            p.mul_(3)  # as bent as what is learned
        x = nets["generator"](torch.randn(40, L, generator=generator(0)))
        x = x + SIGMA * torch.randn(40, D, generator=generator(4))
        side = torch.linspace(-6, 6, 301)
        z = torch.cartesian_prod(side, side)
        made, cell = nets["generator"](z), float(side[1] - side[0]) ** 2
        joint = -(x[:, None] - made).square().sum(2) / (2 * SIGMA**2) - z.square().sum(1) / 2 - math.log(2 * math.pi)
        truth = joint.logsumexp(1) + math.log(cell) - gaussian_normaliser(D, SIGMA)
    target = recipe.target("posterior", nets, {"x": x})
    found = log_weights(target, recipe.sampler("posterior", nets, 0), (40, L), 256, generator(1))
    gaps = [(importance_bound(found[:m]) - gaussian_normaliser(D, SIGMA) - truth).mean().item() for m in (1, 16, 256)]
    assert gaps[0] < gaps[1] < gaps[2] < 0.05
    assert gaps[2] > -0.5
