"""The step size of short-run inference, against the closed form of a linear generator."""

from dataclasses import replace

import pytest
import torch
from running import CPU
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from pipeline.batch import Spec
from pipeline.energies.energy import gaussian, tilt
from pipeline.errors import InputError
from pipeline.nets.generator import GaussianDecoder, ReconstructionEnergy
from pipeline.recipe import ChainStates, init_networks
from pipeline.recipes.short_run_inference import ShortRunInference
from pipeline.rng import generator
from pipeline.samplers import short_run_density
from pipeline.samplers.kernel import Stats
from pipeline.samplers.langevin import Langevin
from pipeline.samplers.short_run_density import push_forward, short_run_divergence

N, K, L, D, SIGMA = 4, 10, 3, 6, 0.5
SPEC = Spec("vector", (D,), 0)
SRI = ShortRunInference(latent_dims=(L,), steps=K, sigma=SIGMA, tune_every=1, tune_items=16, width=4)


class Linear(nn.Linear, GaussianDecoder):
    """x = A z + sigma xi, so that everything is Gaussian."""

    def __init__(self, scale=0.3, d=D, latent_dim=L):
        super().__init__(latent_dim, d, bias=False)
        self.weight.data = scale * torch.randn(d, latent_dim, generator=generator(3))


def posterior(net, x, sigma=SIGMA):
    """Energy and precision of the posterior."""
    precision = torch.eye(net.in_features) + net.weight.T @ net.weight / sigma**2
    return tilt(ReconstructionEnergy({"x": x}, net, sigma), gaussian()), precision.detach()


def normal(seed, *shape):
    return torch.randn(*shape, generator=generator(seed))


def test_the_kl_is_that_of_the_closed_form():
    net, x, z = Linear(), normal(0, N, D), normal(1, N, L)
    energy, precision = posterior(net, x)
    step, end, rng = 0.2, z, generator(2)
    for _ in range(K):
        xi = torch.empty(N, L).normal_(generator=rng)
        end = end - step**2 / 2 * (end @ precision - x @ net.weight.detach() / SIGMA**2) + step * xi
    log_det = torch.linalg.slogdet(torch.linalg.matrix_power(torch.eye(L) - step**2 / 2 * precision, K)).logabsdet
    joint = (x - net(end).detach()).square().sum(1) / (2 * SIGMA**2) + end.square().sum(1) / 2
    result = short_run_divergence(energy, Langevin.textbook(K, step), z, generator(2))
    torch.testing.assert_close(result, joint - z.square().sum(1) / 2 - log_det)


@pytest.mark.parametrize("contraction", [0.1, 0.9])
def test_the_log_determinant_is_a_sum_over_singular_values_for_any_contraction(contraction):
    net, steps = Linear(), 60
    energy, precision = posterior(net, normal(0, N, D))
    stiffest = torch.linalg.eigvalsh(precision.double()).max()
    langevin = Langevin.textbook(steps, float((2 * contraction / stiffest).sqrt()))
    _, log_det, _ = push_forward(langevin, energy, normal(1, N, L), generator(2))
    values = torch.linalg.svdvals(net.weight.detach().double())
    factors = 1 - langevin.drift * (1 + values.square() / SIGMA**2)
    expected = steps * factors.abs().log().sum()
    assert (contraction == 0.9) == (expected < steps * -2.3)  # as one matrix it would exceed float32's digits
    torch.testing.assert_close(log_det, expected.float().expand(N), rtol=1e-4, atol=1e-4)


def test_push_forward_makes_the_samplers_steps():
    recipe = replace(SRI, latent_dims=(2, 1))
    nets = init_networks(recipe, SPEC, 0, CPU)
    energy, z, langevin = (
        recipe.target("posterior", nets, {"x": normal(0, N, D)}),
        normal(1, N, L),
        recipe.sampler("posterior", nets, 0),
    )
    with torch.no_grad():
        expected, _ = langevin(energy, z, generator(2))
    result, *_ = push_forward(langevin, energy, z, generator(2))
    assert torch.equal(result, expected)


def test_the_log_determinant_is_that_of_the_maps_jacobian():
    recipe = replace(SRI, latent_dims=(2, 1), step_size=0.1)
    nets = init_networks(recipe, SPEC, 0, CPU)
    x, z, langevin = normal(0, 1, D), normal(1, 1, L), recipe.sampler("posterior", nets, 0)
    energy = recipe.target("posterior", nets, {"x": x})
    _, log_det, _ = push_forward(langevin, energy, z, generator(2))
    jacobian = torch.autograd.functional.jacobian(lambda s: langevin.unrolled(energy, s, generator(2)), z)[0, :, 0]
    torch.testing.assert_close(log_det[0], torch.linalg.slogdet(jacobian).logabsdet, rtol=1e-4, atol=1e-4)


def kl(precision, step):
    """Expected KL over starts, noise and data x from the model, up to terms that do not depend on the step size.

    In each eigendirection of the posterior the error of the mean falls by the contraction to the power of K.
    """
    values = torch.linalg.eigvalsh(precision.double())
    shrink = 1 - step**2 / 2 * values
    start = 1 + (1 - 1 / values)  # variance of z_0, and of the posterior's mean
    noise = step**2 * (1 - shrink ** (2 * K)) / (1 - shrink**2)
    return float((values * (shrink ** (2 * K) * start + noise) / 2 - K * shrink.abs().log()).sum())


@pytest.mark.parametrize("step", [0.02, 0.1, 1.0])  # at the last one chains diverge
def test_the_search_finds_the_step_size_of_least_kl_from_either_side(step):
    recipe = replace(SRI, step_size=step, tune_items=200)
    net = Linear(0.6)
    x = net(normal(5, 200, L)).detach() + SIGMA * normal(6, 200, D)
    nets = {**init_networks(recipe, SPEC, 0, CPU), "generator": net}
    optimizer = recipe.optimizers(nets)["step_size"]
    for update in range(10):
        chains = {"posterior": ChainStates(normal(7, 200, L), Stats(*torch.zeros(3, 200)))}
        losses, _ = recipe.losses(nets, {"data": {"x": x}}, chains, generator(update), update)
        nets["step_size"].zero_grad()
        losses["step_size"].backward()
        optimizer.step()
    _, precision = posterior(net, x)
    grid = torch.logspace(-2, 0, 200)
    best = min((float(s) for s in grid), key=lambda s: kl(precision, s))
    assert 1 / 1.2 < float(nets["step_size"]().detach()) / best < 1.2


def test_a_step_size_at_which_chains_diverge_is_not_best():
    recipe = replace(SRI, step_size=4.0, steps=100, tune_grid=(1.0, 0.05, 2.0))
    nets = {**init_networks(recipe, SPEC, 0, CPU), "generator": Linear(0.6)}
    items = {"x": normal(5, 8, D)}
    langevin = recipe.sampler("posterior", nets, 0)
    target, z = recipe.target("posterior", nets, items), normal(1, 8, L)
    assert not short_run_divergence(target, langevin, z, generator(2)).isfinite().any()
    assert recipe.best_step_size(nets, items, generator(0)) == pytest.approx(0.2)


class Decompositions(TorchDispatchMode):
    """Counts decompositions of matrices, each of which is a wait for a GPU."""

    count = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        self.count += function is torch.ops.aten._linalg_eigh.default
        return function(*args, **(kwargs or {}))


@pytest.mark.parametrize(("at_once", "count"), [(short_run_density.DECOMPOSED_AT_ONCE, 1), (3 * N * L**2, 4), (1, K)])
def test_steps_are_decomposed_together_and_nothing_depends_on_how_many(monkeypatch, at_once, count):
    energy, z = lambda z: (0.1 * z).exp().sum(1) + z.square().sum(1), normal(1, N, L)
    expected = push_forward(Langevin.textbook(K, 0.3), energy, z, generator(2))
    monkeypatch.setattr(short_run_density, "DECOMPOSED_AT_ONCE", at_once)
    with Decompositions() as decompositions:
        result = push_forward(Langevin.textbook(K, 0.3), energy, z, generator(2))
    assert decompositions.count == count
    assert all(torch.equal(here, there) for here, there in zip(result, expected, strict=True))


def test_an_infinite_curvature_gives_nan():
    start = torch.cat([torch.zeros(1, L), 10 * torch.ones(1, L)])
    result = push_forward(Langevin(8, 0.2, 0.0), lambda z: z.pow(4).sum(1), start, generator(0))
    assert result.log_det[0] == result.stiffness[0] == 0
    assert result.log_det[1].isnan()
    assert result.stiffness[1].isnan()


def test_a_search_without_items_or_step_sizes_is_refused():
    for nothing in ({"tune_items": 0}, {"tune_grid": ()}, {"tune_grid": (1.0, -0.5)}):
        with pytest.raises(InputError) as raised:
            replace(SRI, **nothing)
        assert raised.value.field in nothing
    assert replace(SRI, tune_every=0, tune_items=0, tune_grid=()).tune_items == 0
