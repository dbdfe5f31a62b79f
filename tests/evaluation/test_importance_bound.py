"""The bound on log p(x), where p(x) is known."""

import math
from functools import partial

import torch
from running import CPU
from torch import nn

from pipeline.batch import Spec
from pipeline.energies.energy import gaussian, tilt
from pipeline.evaluation.metrics.importance_bound import gaussian_log_normalizer, importance_bound, log_weights
from pipeline.nets.generator import GaussianDecoder, ReconstructionEnergy
from pipeline.recipe import init_networks
from pipeline.recipes.short_run_inference import ShortRunInference
from pipeline.rng import generator
from pipeline.samplers.langevin import Langevin

L, D, SIGMA = 2, 5, 0.5


class Linear(nn.Linear, GaussianDecoder):
    """x = A z + sigma xi, where the columns of A are orthogonal and of equal length."""

    def __init__(self, length):
        super().__init__(L, D, bias=False)
        self.weight.data = length * torch.linalg.qr(torch.randn(D, L, generator=generator(3))).Q


def normal(seed, *shape):
    return torch.randn(*shape, generator=generator(seed))


def posterior(net, x):
    return tilt(ReconstructionEnergy({"x": x}, net, SIGMA), gaussian())


def normalized_log_weights(energy, langevin, x, samples):
    """Log weights (samples, items), with p(x|z) normalised; `energy` maps items to the energy of their z."""
    repeated = x.repeat(samples, *[1] * (x.dim() - 1))
    log_w = log_weights(energy(repeated), langevin, (len(repeated), L), 1, generator(1))
    return log_w.view(samples, -1) - gaussian_log_normalizer(D, SIGMA)


def mean_gaps(log_w, truth):
    """The bound minus the truth, averaged over items, for 1, 4, 16 and 64 samples."""
    parts = [log_w.view(m, -1, log_w.shape[1]).flatten(1) for m in (1, 4, 16, 64)]
    return [(importance_bound(part).mean() - truth.mean()).item() for part in parts]


def mean_weight(log_w, truth):
    """The mean of p(x, z) / q(z) over p(x), and its standard error."""
    ratio = (log_w - truth).exp()
    return ratio.mean().item(), (ratio.mean(1).std() / len(ratio) ** 0.5).item()


def log_p(net, x):
    """Log N(x; 0, A A^T + sigma^2 I)."""
    covariance = (net.weight @ net.weight.T + SIGMA**2 * torch.eye(D)).detach()
    return torch.distributions.MultivariateNormal(torch.zeros(D), covariance).log_prob(x)


def test_every_weight_is_the_likelihood_where_the_chains_have_the_posterior_density():
    # at x = 0 the posterior is N(0, 1/precision); without noise, K contractions take N(0, 1) to it
    net, x, steps, precision = Linear(1.0), torch.zeros(1, D), 5, 1 + 1 / SIGMA**2
    drift = (1 - precision ** (-0.5 / steps)) / precision
    log_w = normalized_log_weights(partial(posterior, net), Langevin(steps, drift, 0.0), x, 20)
    torch.testing.assert_close(log_w, log_p(net, x).expand(20, 1), rtol=1e-5, atol=1e-5)


def test_the_mean_weight_is_the_likelihood_and_the_bound_rises_to_it():
    net = Linear(0.5)
    x = (SIGMA * normal(0, 50, D) + normal(4, 50, L) @ net.weight.T).detach()
    truth = log_p(net, x)
    log_w = normalized_log_weights(partial(posterior, net), Langevin.textbook(3, 0.35), x, 1024)
    mean, error = mean_weight(log_w, truth)
    assert abs(mean - 1) < 4 * error < 0.1
    gaps = mean_gaps(log_w, truth)
    assert gaps == sorted(gaps)
    assert gaps[0] < -0.5
    assert -0.15 < gaps[-1] < 0


def test_the_bound_is_below_the_quadrature_of_a_network():
    recipe = ShortRunInference(latent_dims=(1, 1), steps=4, step_size=0.2, sigma=SIGMA, width=16)
    nets = init_networks(recipe, Spec("vector", (D,), 0), 0, CPU)
    with torch.no_grad():
        for p in nets["generator"].parameters():
            p.mul_(1.5)  # more curved than after initialisation
        x = nets["generator"](normal(0, 40, L)) + SIGMA * normal(4, 40, D)
        side = torch.linspace(-6, 6, 301)
        z = torch.cartesian_prod(side, side)
        joint = -(x[:, None] - nets["generator"](z)).square().sum(2) / (2 * SIGMA**2) - z.square().sum(1) / 2
        truth = joint.logsumexp(1) + 2 * math.log(float(side[1] - side[0])) - math.log(2 * math.pi)
    truth = truth - gaussian_log_normalizer(D, SIGMA)

    def energy(items):
        return recipe.target("posterior", nets, {"x": items})

    log_w = normalized_log_weights(energy, recipe.sampler("posterior", nets, 0), x, 512)
    mean, error = mean_weight(log_w, truth)
    assert 0.8 < mean < 1 + 4 * error
    gaps = mean_gaps(log_w, truth)
    assert gaps == sorted(gaps)
    assert -0.3 < gaps[-1] < 0
