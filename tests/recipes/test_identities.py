"""Recipes that are special cases of one another."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from running import CPU, local_pool
from torch.distributions import Normal

from pipeline.batch import Spec
from pipeline.data.dataset import load_data
from pipeline.energies.energy import gaussian, gradient, tilt
from pipeline.nets.flow import FlowSettings, flow_energy, flow_of
from pipeline.nets.generator import GaussianDecoder
from pipeline.recipe import ChainStates, init_networks
from pipeline.recipes.alternating_backprop import AlternatingBackprop
from pipeline.recipes.joint_vae import JointVAE
from pipeline.recipes.latent_prior import LatentPrior
from pipeline.recipes.neural_transport import NeuralTransport
from pipeline.recipes.short_run import ShortRun
from pipeline.recipes.short_run_inference import ShortRunInference
from pipeline.rng import generator
from pipeline.runs.job import override
from pipeline.samplers.kernel import Stats
from pipeline.samplers.langevin import Langevin
from pipeline.training.worker import Worker

SRI = ShortRunInference(latent_dims=(5,), steps=4, step_size=0.1, tune_every=0, sigma=0.3, batch_size=8, width=16)
STEP = float(init_networks(SRI, Spec("vector", (2,), 0), 0, CPU)["step_size"]().detach())
"""SRI's step size after the rounding by its network."""
SAME = {"latent_dim": 5, "sigma": 0.3, "batch_size": 8, "width": 16, "architecture": "mlp"}
ABP = AlternatingBackprop(steps=4, step_size=STEP, **SAME)
LATENT = LatentPrior(
    posterior_steps=4, posterior_step_size=STEP, prior_steps=2, generator_lr=1e-3, energy_lr=0.0, **SAME
)


ROUNDING = 1e-5
"""Tolerance for two networks of the same function: some CPUs multiply their matrices in another order."""


def near(a, b):
    """Equal to rounding, for numbers about 1."""
    return np.allclose(a, b, rtol=ROUNDING, atol=ROUNDING)


@pytest.fixture
def ranks(small):
    """A rank of short-run inference with one layer, and one of another recipe with the same generator's weights."""

    def make(other):
        pair = []
        for recipe in (SRI, other):
            job = override(small, recipe=recipe, max_items=24)
            pair.append(Worker(job, load_data(job.data.source, max_items=job.data.max_items), CPU, local_pool(job)))
        sri, rank = pair
        for p, q in zip(weights(rank), weights(sri), strict=True):
            p.data.copy_(q)
        return sri, rank

    return make


def weights(rank):
    """Weights of the generator, from its input to its output."""
    net = rank.learner.nets["generator"]
    layers = [net.read[0], net.mix[0], net.out[0]] if hasattr(net, "read") else [net[0], net[2], net[4]]
    return [p for layer in layers for p in (layer.weight, layer.bias)]


def states(results):
    return {lane: result.x for (chain, lane), result in results.items() if chain == "posterior"}


def test_a_latent_prior_of_zero_energy_is_short_run_inference_with_one_layer(ranks):
    sri, rank = ranks(LATENT)
    for p in rank.learner.nets["energy"].parameters():
        p.data.zero_()
    z, context = torch.randn(6, 5, generator=generator(0)), sri.data.batch(np.arange(6))
    targets = [r.job.recipe.target("posterior", r.learner.nets, context)(z) for r in (sri, rank)]
    assert torch.equal(*targets)
    for update in range(3):
        (metrics, ends), (others, other_ends) = sri.step(update), rank.step(update)
        assert metrics["loss/generator"] == pytest.approx(others["loss/generator"], rel=ROUNDING)
        assert states(ends).keys() == states(other_ends).keys()
        assert all(near(x, states(other_ends)[lane]) for lane, x in states(ends).items())
    assert all(near(p.detach(), q.detach()) for p, q in zip(weights(sri), weights(rank), strict=True))


def test_alternating_backprop_is_short_run_inference_whose_states_persist(ranks):
    sri, rank = ranks(ABP)
    left = {}
    for update in range(6):  # two epochs of 24 items in batches of 8
        if update < 3:
            assert all(
                near(a.x, b.x) for a, b in zip(sri.tasks(update, update), rank.tasks(update, update), strict=True)
            )
            losses = [one.step(update)[0]["loss/generator"] for one in (sri, rank)]
            assert losses[0] == pytest.approx(losses[1], rel=ROUNDING)
            assert all(near(p.detach(), q.detach()) for p, q in zip(weights(sri), weights(rank), strict=True))
        else:
            for task in rank.tasks(update, update):
                index = task.context["index"]
                assert np.array_equal(task.x, np.stack([left[i] for i in index]))
            rank.step(update)
        for lane in rank.lanes:
            states = rank.banks["posterior"].state_dict(lane)
            left |= {
                int(slot) * lane.count + lane.index: states["states"][slot] for slot in np.flatnonzero(states["filled"])
            }
    assert sorted(left) == list(range(24))


VAE = JointVAE(latent_dim=3, sigma=1.0, batch_size=4, energy_weight=0.0, width=8)


class Linear(torch.nn.Linear, GaussianDecoder):
    """A decoder under which the expected reconstruction has a closed form."""


@pytest.fixture
def vae():
    """Networks whose encoder is far from the prior, and items."""
    nets = init_networks(VAE, Spec("vector", (6,), 0), 0, CPU)
    with torch.no_grad():
        for p in nets["encoder"].parameters():
            p.mul_(1.5)
    return nets, torch.randn(4, 6, generator=generator(1))


def losses(nets, x, rng):
    return VAE.losses(nets, {"data": {"x": x, "index": torch.arange(len(x))}}, {}, rng, 0)[0]


def test_a_joint_vae_without_its_energy_has_the_gradients_of_a_vae(vae):
    nets, x = vae
    own_losses = losses(nets, x, generator(2))
    rng = generator(2)
    torch.randn(4, 3, generator=rng)  # latent vectors of generated items, which a VAE does not need
    mean, log_sd = nets["encoder"](x)
    posterior = Normal(mean, log_sd.exp())
    z = mean + log_sd.exp() * torch.randn(4, 3, generator=rng)
    log_p = Normal(nets["generator"](z), VAE.sigma).log_prob(x).sum(1)
    negative_elbo = (posterior.log_prob(z) - Normal(0, 1).log_prob(z)).sum(1) - log_p
    for name in ("encoder", "generator"):
        own = list(nets[name].parameters())
        pairs = [torch.autograd.grad(loss, own, retain_graph=True) for loss in (own_losses[name], negative_elbo.mean())]
        for g, wanted in zip(*pairs, strict=True):
            torch.testing.assert_close(g, wanted, rtol=1e-4, atol=1e-5)


def test_a_joint_vae_without_its_energy_has_the_loss_of_a_vae_on_average(vae):
    nets, x = vae
    with torch.random.fork_rng():
        torch.manual_seed(3)
        nets["generator"] = Linear(3, 6)
    net = nets["generator"]
    with torch.no_grad():
        mean, log_sd = nets["encoder"](x)
        kl = (mean.square() + (2 * log_sd).exp() - 1 - 2 * log_sd).sum(1) / 2
        spread = (2 * log_sd).exp() @ net.weight.square().sum(0)
        reconstruction = ((x - net(mean)).square().sum(1) + spread) / (2 * VAE.sigma**2)
        many = x.repeat(1000, 1)
        samples = torch.stack([losses(nets, many, generator(seed))["encoder"] for seed in range(50)])
    error = samples.std() / len(samples) ** 0.5
    constant = 3 / 2  # log p(z) and log q(z) without log 2 pi, and q's entropy without the 1/2 of each dimension
    assert abs(samples.mean() - (kl + reconstruction).mean() - constant) < 4 * error
    assert 4 * error < 0.05 * kl.mean()


IDENTITY = NeuralTransport(
    flow=FlowSettings(family="gaussian"),
    kernel="langevin",
    steps=5,
    step_size=0.1,
    batch_size=8,
    width=16,
    energy_lr=1e-3,
)
SHORT = ShortRun(langevin=Langevin.textbook(5, 0.1), batch_size=8, start_from="gaussian", data_noise=0.0, width=16)


def test_neural_transport_through_the_identity_is_short_run_tilted_by_a_gaussian():
    spec = Spec("vector", (3,), 0)
    nets, others = init_networks(IDENTITY, spec, 0, CPU), init_networks(SHORT, spec, 0, CPU)
    nets["energy"].load_state_dict(others["energy"].state_dict())
    z, x = torch.randn(8, 3, generator=generator(0)), torch.randn(8, 3, generator=generator(1))
    target = IDENTITY.target("model", nets, None)
    tilted = tilt(SHORT.target("model", others, None), gaussian())
    torch.testing.assert_close(target(z), tilted(z), rtol=ROUNDING, atol=ROUNDING)
    with torch.no_grad():
        torch.testing.assert_close(gradient(target)(z), gradient(tilted)(z), rtol=ROUNDING, atol=ROUNDING)
        ends = [
            recipe.sampler("model", {}, 0)(
                energy,
                recipe.initial_states("model", 8, generator(3), {}, Spec("vector", tuple(x.shape[1:]), 0), None),
                rng,
            )
            for recipe, energy, rng in ((IDENTITY, target, generator(4)), (SHORT, tilted, generator(4)))
        ]
    assert near(ends[0][0], ends[1][0])
    states_of_model, batch = ChainStates(z, Stats(*torch.ones(3, 8))), {"data": {"x": x}}
    (loss, metrics), (other, also) = (
        recipe.losses(some, batch, {"model": states_of_model}, generator(5), 0)
        for recipe, some in ((IDENTITY, nets), (SHORT, others))
    )
    for name in ("energy/data", "energy/model", "energy/gap"):
        assert near(metrics[name].detach(), also[name].detach())
    pair = [list(some["energy"].parameters()) for some in (nets, others)]
    gradients = [torch.autograd.grad(some["energy"], p) for some, p in zip((loss, other), pair, strict=True)]
    assert all(near(a, b) for a, b in zip(*gradients, strict=True))


@pytest.mark.parametrize("family", ["spline", "affine", "gaussian"])
def test_the_energy_of_data_is_the_target_of_z_minus_the_log_det(family):
    recipe = replace(IDENTITY, flow=FlowSettings(family=family, couplings=2, hidden=8))
    nets = init_networks(recipe, Spec("vector", (3,), 0), 0, CPU)
    batch = 3 * torch.randn(200, 3, generator=generator(0)) + 1
    flow_of(nets).init_from_data(batch)
    x = batch[:10]
    z = recipe.encode(nets, x, generator(1))
    jacobians = torch.stack([torch.autograd.functional.jacobian(nets["flow"], one[None])[0, :, 0] for one in z])
    volume = -torch.linalg.slogdet(jacobians).logabsdet  # of dz/dx
    constant = 3 / 2 * math.log(2 * math.pi)
    with torch.no_grad():
        energy, target = recipe.energy(nets)(x), recipe.target("model", nets, None)(z)
        assert near(energy, target + constant - volume)
        assert near(flow_energy(flow_of(nets))(x), z.square().sum(1) / 2 + constant - volume)
