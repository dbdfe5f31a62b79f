"""Chains in the latent space of a flow: what they sample, and the estimate of log Z."""

from dataclasses import replace

import pytest
import torch
from running import CPU
from torch import nn

from pipeline.batch import Spec
from pipeline.nets.flow import FlowSettings, flow_energy
from pipeline.recipe import ChainStates, init_networks
from pipeline.recipes.flow import MaximumLikelihoodFlow
from pipeline.recipes.neural_transport import NeuralTransport
from pipeline.rng import generator, seeded
from pipeline.samplers.hmc import HMC
from pipeline.samplers.kernel import Stats
from pipeline.samplers.langevin import Langevin

GAUSSIAN = NeuralTransport(flow=FlowSettings(family="gaussian"), steps=30, leapfrog_steps=3, step_size=0.3, width=8)
GLOW = FlowSettings(couplings=2, hidden=8, levels=17)


class Linear(nn.Module):
    """U = a.x."""

    def __init__(self, a):
        super().__init__()
        self.a = nn.Parameter(a)

    def forward(self, x):
        return x @ self.a


class Quadratic(nn.Module):
    """U = x.Ax / 2."""

    def __init__(self, a):
        super().__init__()
        self.a = nn.Parameter(a)

    def forward(self, x):
        return ((x @ self.a) * x).sum(1) / 2


def tilted(energy, d=2):
    """Networks with this energy, and a standard Gaussian flow."""
    return {**init_networks(GAUSSIAN, Spec("vector", (d,), 0), 0, CPU), "energy": energy}


@pytest.mark.parametrize("a", [(0.3, -0.4), (0.6, 0.8)])
def test_log_z_of_a_tilted_gaussian_is_estimated(a):
    a, n = torch.tensor(a), 200_000
    log_z, share = GAUSSIAN.estimate_log_z(tilted(Linear(a)), n, 2, generator(0))
    square = a.square().sum()
    error = ((square.exp() - 1) / n) ** 0.5  # of a mean of log-normal weights, relative
    assert abs(log_z - square / 2) < 4 * error
    assert share.item() == pytest.approx((-square).exp().item(), rel=0.1)


def test_item_metrics_are_normalised_by_log_z():
    a = torch.tensor([0.3, -0.4])
    x = torch.randn(50, 2, generator=generator(1))
    recipe = replace(GAUSSIAN, base_samples=100_000)
    metrics = recipe.item_metrics(tilted(Linear(a)), {"data": {"x": x}}, {}, generator(0))
    exact = -torch.distributions.Normal(-a, 1).log_prob(x).sum(1)  # exp(-a.x) shifts the Gaussian by -a
    torch.testing.assert_close(metrics["nll_nats"], exact, rtol=0, atol=0.01)
    torch.testing.assert_close(metrics["flow_nll_nats"], -torch.distributions.Normal(0, 1).log_prob(x).sum(1))
    torch.testing.assert_close(metrics["energy"] + metrics["log_z"], metrics["nll_nats"])


def correlated(n=2000):
    return torch.randn(n, 2, generator=generator(2)) @ torch.tensor([[1.0, 0.8], [0.0, 0.3]]) + torch.tensor([2.0, -1])


@pytest.mark.parametrize("kernel", ["hmc", "langevin"])
def test_chains_in_z_have_the_moments_of_the_model_in_x(kernel):
    own, n = torch.tensor([[1.0, 0.5], [0.5, 2.0]]), 4000
    nets = tilted(Quadratic(own))
    MaximumLikelihoodFlow(flow=GAUSSIAN.flow).data_dependent_init(
        nets, {"data": {"x": correlated()}}, generator(0), frozenset()
    )
    recipe = GAUSSIAN if kernel == "hmc" else replace(GAUSSIAN, kernel="langevin", steps=400, step_size=0.12)
    z = recipe.initial_states("model", n, generator(3), nets, Spec("vector", (2,), 0), None)
    with torch.no_grad():
        z, _ = recipe.sampler("model", nets, 0)(recipe.target("model", nets, None), z, generator(4))
        x = recipe.decode(nets, z, generator(5))
    flow = nets["flow"]
    of_flow = torch.linalg.inv(flow.scale @ flow.scale.T)
    covariance = torch.linalg.inv(own + of_flow)
    mean = covariance @ of_flow @ flow.mean
    sd = covariance.diagonal().sqrt()
    assert ((x.mean(0) - mean).abs() < 4 * sd / n**0.5).all()
    errors = ((covariance.square() + torch.outer(sd, sd).square()) / n).sqrt()  # of a Gaussian's covariance
    bias = 0.0 if kernel == "hmc" else 0.03  # langevin's, from its finite steps
    assert ((torch.cov(x.T) - covariance).abs() < 4 * errors + bias * torch.outer(sd, sd)).all()


def test_kernels_are_at_temperature_one():
    hmc = GAUSSIAN.sampler("model", {}, 0)
    langevin = replace(GAUSSIAN, kernel="langevin").sampler("model", {}, 0)
    assert isinstance(hmc, HMC)
    assert isinstance(langevin, Langevin)
    assert hmc.temperature == langevin.temperature == pytest.approx(1)


def flows(family, spec):
    recipe = NeuralTransport(flow=GLOW if family == "glow" else FlowSettings(family=family, hidden=8))
    nets = init_networks(recipe, spec, 0, CPU)
    with seeded(1), torch.no_grad():
        for p in nets["flow"].parameters():
            p.add_(0.05 * torch.randn_like(p))
    return recipe, nets


@pytest.mark.parametrize("family", ["spline", "affine", "gaussian"])
def test_vectors_survive_encoding_and_decoding(family):
    recipe, nets = flows(family, Spec("vector", (3,), 0))
    x = torch.randn(100, 3, generator=generator(0))
    z = recipe.encode(nets, x, generator(1))
    torch.testing.assert_close(recipe.decode(nets, z, generator(2)), x, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(recipe.encode(nets, recipe.decode(nets, x, generator(2)), generator(1)), x)


def test_images_survive_encoding_and_decoding_exactly():
    recipe, nets = flows("glow", Spec("image", (1, 8, 8), 0))
    k = torch.randint(17, (100, 1, 8, 8), generator=generator(0))
    x = k / 16 * 2 - 1
    assert torch.equal(recipe.decode(nets, recipe.encode(nets, x, generator(1)), generator(2)), x)


def test_the_energy_of_images_is_the_target_of_z_minus_the_log_det():
    spec = Spec("image", (1, 8, 8), 0)
    recipe, nets = flows("glow", spec)
    x = torch.randn(20, *spec.shape, generator=generator(0))
    z, log_det = nets["flow"].encode(x)
    target = recipe.target("model", nets, None)(z)
    constant = spec.size / 2 * torch.tensor(2 * torch.pi).log()
    torch.testing.assert_close(recipe.energy(nets)(x), target + constant - log_det, rtol=1e-4, atol=1e-3)
    torch.testing.assert_close(recipe.normalized_energies(nets)["flow"](x), flow_energy(nets["flow"])(x))


def test_the_loss_is_the_energy_gap_through_the_flow():
    recipe, nets = flows("affine", Spec("vector", (3,), 0))
    x, z = torch.randn(8, 3, generator=generator(0)), torch.randn(8, 3, generator=generator(1))
    states = ChainStates(z, Stats(*(torch.zeros(8) for _ in range(3))))
    losses, metrics = recipe.losses(nets, {"data": {"x": x}}, {"model": states}, generator(2), 0)
    torch.testing.assert_close(losses["energy"], nets["energy"](x).mean() - nets["energy"](nets["flow"](z)).mean())
    assert set(losses) == {"energy"}
    log_z, share = recipe.estimate_log_z(nets, 8, 3, generator(2))
    assert (metrics["log_z"], metrics["log_z_ess"]) == (log_z, share)
