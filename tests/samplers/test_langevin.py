"""The laws of Langevin dynamics on quadratic energies, where every moment is known."""

import math

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from pipeline.energies.energy import gaussian
from pipeline.nets.conv import ConvEnergy
from pipeline.precision import at_precision
from pipeline.rng import generator, seeded
from pipeline.samplers.langevin import Langevin

N = 20_000


def quadratic(curvature):
    return lambda x: curvature * x.square().flatten(1).sum(1) / 2


def conv(width):
    with seeded(0):
        return ConvEnergy((1, 8, 8), width, 0.2)


def move(sampler, energy, x, seed=0):
    with torch.no_grad():
        return sampler(energy, x, generator(seed))


@pytest.mark.parametrize(("steps", "drift", "noise"), [(1, 0.3, 0.5), (7, 0.08, 0.4), (40, 1.0, 0.01), (25, 1.6, 0.2)])
def test_moments_after_any_number_of_steps(steps, drift, noise):
    x0, a = 2.0, 1 - drift
    x, _ = move(Langevin(steps, drift, noise), gaussian(), torch.full((N, 1), x0))
    mean = a**steps * x0
    variance = noise**2 * (1 - a ** (2 * steps)) / (1 - a**2) if abs(a) < 1 else noise**2 * steps
    assert abs(x.mean() - mean) < 4 * math.sqrt(variance / N)
    assert abs(x.var() - variance) < 4 * variance * math.sqrt(2 / N)


@pytest.mark.parametrize(("step", "variance"), [(0.4, 1.0417), (0.1, 1.0025)])
def test_stationary_variance_of_the_textbook_step(step, variance):
    sampler = Langevin.textbook(600, step)
    x, _ = move(sampler, gaussian(), torch.randn(N, 1, generator=generator(1)))
    assert sampler.temperature == pytest.approx(1)
    assert abs(x.var() - variance) < 4 * variance * math.sqrt(2 / N)


def test_chains_sample_at_the_temperature():
    # F = eps^2/4 x^2 at drift 1 and noise eps is U = x^2/2 at temperature 1 (papers A and B, temperature table)
    eps = 0.3
    sampler = Langevin(400, drift=1.0, noise=eps)
    x, _ = move(sampler, quadratic(eps**2 / 2), torch.randn(N, 1, generator=generator(1)))
    curvature = eps**2 / 2
    exact = eps**2 / (1 - (1 - curvature) ** 2)
    assert sampler.temperature == pytest.approx(eps**2 / 2)
    assert exact == pytest.approx(1, abs=0.03)
    assert abs(x.var() - exact) < 4 * exact * math.sqrt(2 / N)


def test_diverges_exactly_beyond_the_stability_limit():
    start = torch.ones(4, 1)
    below, _ = move(Langevin(200, drift=1.9, noise=0.0), gaussian(), start)
    above, _ = move(Langevin(200, drift=2.1, noise=0.0), gaussian(), start)
    assert below.abs().max() < 1e-6
    assert above.abs().min() > 1e6


def test_stats_describe_the_returned_state_and_the_path():
    x, stats = move(Langevin(3, drift=0.5, noise=0.0), gaussian(), torch.tensor([[4.0], [8.0]]))
    assert torch.equal(x, torch.tensor([[0.5], [1.0]]))
    assert torch.equal(stats.energy, gaussian()(x))
    assert torch.equal(stats.grad_norm, torch.tensor([(4 + 2 + 1) / 3, (8 + 4 + 2) / 3]))


def test_no_parameter_gradients_no_graph_and_an_unchanged_start():
    net, x0 = conv(4), torch.zeros(3, 1, 8, 8)
    x, stats = move(Langevin(4, 1.0, 0.01), net, x0)
    assert all(p.grad is None for p in net.parameters())
    assert not x.requires_grad
    assert not stats.energy.requires_grad
    assert torch.equal(x0, torch.zeros(3, 1, 8, 8))
    assert not torch.equal(x, x0)


def test_noise_comes_from_the_generator_alone():
    x0, sampler = torch.zeros(5, 2), Langevin(3, 0.1, 0.5)
    torch.manual_seed(3)
    before = torch.get_rng_state()
    once, again, other = (move(sampler, gaussian(), x0, seed)[0] for seed in (1, 1, 2))
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(once, again)
    assert not torch.equal(once, other)


def test_noise_is_normal_in_any_memory_layout():
    x0, sampler = torch.zeros(500, 3, 8, 4), Langevin(2, 0.0, 0.5)
    channels_last = x0.contiguous(memory_format=torch.channels_last)
    assert not channels_last.is_contiguous()
    for start in (x0, channels_last, torch.zeros(500, 4, 8, 3).transpose(1, 3)):
        x, _ = move(sampler, gaussian(), start)
        assert x.stride() == start.stride()
        assert len(x.unique()) > 0.9 * x.numel()  # every number has its own noise
        scale = 0.5 * math.sqrt(2)
        flat = x.flatten(1)
        assert (flat.mean(0).abs() < 5 * scale / math.sqrt(len(x))).all()
        assert abs(x.std() / scale - 1) < 4 / math.sqrt(2 * x.numel())
        correlation = torch.corrcoef(flat.T) - torch.eye(flat.shape[1])
        assert correlation.abs().max() < 6 / math.sqrt(len(x))


def test_unrolled_is_differentiable_through_all_steps():
    x0, sampler = torch.tensor([[1.5]], requires_grad=True), Langevin(6, drift=0.3, noise=0.0)
    x = sampler.unrolled(gaussian(), x0, generator(0))
    (slope,) = torch.autograd.grad(x.sum(), x0)
    assert slope.item() == pytest.approx(0.7**6, rel=1e-5)
    scale = torch.tensor(1.0, requires_grad=True)
    x = sampler.unrolled(lambda s: scale * gaussian()(s), x0, generator(0))
    (by_scale,) = torch.autograd.grad(x.sum(), scale)
    assert by_scale.item() == pytest.approx(-0.3 * 6 * 0.7**5 * 1.5, rel=1e-5)


@pytest.mark.parametrize("enabled", [False, True])
def test_unrolled_makes_the_steps_of_the_plain_call(enabled):
    net, x0, sampler = conv(4), torch.rand(3, 1, 8, 8, generator=generator(0)), Langevin(4, 1.0, 0.01)
    x, _ = sampler(net, x0, generator(1))
    with torch.set_grad_enabled(enabled):
        unrolled = sampler.unrolled(net, x0, generator(1))
    torch.testing.assert_close(unrolled, x, atol=1e-6, rtol=1e-5)
    assert torch.equal(x0, torch.rand(3, 1, 8, 8, generator=generator(0)))


class Steep:
    """An energy whose own gradient is not the derivative of its values, which shows which of the two was used."""

    def __call__(self, x):
        return x.sum(1)

    def gradient(self):
        return lambda x: torch.full_like(x, 7.0)


def test_an_energys_own_gradient_moves_chains_unless_they_are_unrolled():
    x0, sampler = torch.zeros(3, 2), Langevin(2, 0.5, 0.0)
    assert (move(sampler, Steep(), x0)[0] == -7).all()
    assert (sampler(Steep(), x0, generator(0))[0] == -7).all()  # also where gradients are enabled
    assert (sampler.unrolled(Steep(), x0, generator(0)) == -1).all()


class NoHostSync(TorchDispatchMode):
    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        assert func not in (torch.ops.aten._local_scalar_dense.default, torch.ops.aten.nonzero.default)
        return func(*args, **(kwargs or {}))


def test_nothing_in_the_loop_waits_for_the_device():
    net = conv(4)
    with NoHostSync():
        move(Langevin(3, 1.0, 0.01), net, torch.zeros(2, 1, 8, 8))
        with pytest.raises(AssertionError):
            torch.ones(1).item()


@pytest.mark.parametrize("halve", ["autocast", "weights"])
def test_state_is_float32_whatever_the_network(halve):
    net, x0 = conv(8), torch.rand(6, 1, 8, 8, generator=generator(0))
    exact, _ = move(Langevin(1, 1.0, 0.0), net, x0)
    with at_precision("bf16" if halve == "autocast" else "highest", "cpu"):
        rough, stats = move(Langevin(1, 1.0, 0.0), net.bfloat16() if halve == "weights" else net, x0)
    assert rough.dtype == stats.energy.dtype == torch.float32
    error = (rough - exact).norm() / (exact - x0).norm()
    assert 1e-4 < error < 0.05  # of the gradient, which bfloat16 carries with 8 bits


def test_compiled_step_agrees_with_the_plain_one():
    net, x0 = conv(4), torch.rand(4, 1, 8, 8, generator=generator(0))
    plain, _ = move(Langevin(5, 1.0, 0.01), net, x0)
    compiled, _ = move(Langevin(5, 1.0, 0.01, compile=True), net, x0)
    torch.testing.assert_close(compiled, plain, atol=1e-6, rtol=1e-5)
