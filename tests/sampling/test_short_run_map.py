from weakref import WeakSet

import pytest
import torch
from torch import nn

from pipeline.energies.energy import gaussian
from pipeline.nets.conv import ConvEnergy
from pipeline.rng import generator, seeded
from pipeline.samplers.langevin import Langevin
from pipeline.sampling.short_run_map import generate, interpolate_starts, reconstruct


@pytest.fixture
def smooth():
    with seeded(0):
        net = nn.Sequential(nn.Linear(3, 32), nn.Tanh(), nn.Linear(32, 1)).requires_grad_(False)
    return lambda x: net(x).squeeze(1)


def test_gradient_is_that_of_all_steps_at_once(smooth):
    z = torch.randn(5, 3, generator=generator(0), requires_grad=True)
    weight = torch.randn(5, 3, generator=generator(1))
    x = generate(smooth, Langevin(35, 0.3, 0.1), z)
    plain = Langevin(35, 0.3, 0.0).unrolled(smooth, z, generator(0))
    assert torch.equal(x, plain)
    (direct,) = torch.autograd.grad((plain * weight).sum(), z)
    (x * weight).sum().backward()
    torch.testing.assert_close(z.grad, direct)
    assert (direct - weight).norm() > 0.1 * weight.norm()  # not the identity, so there was something to go through


class Kept:
    """A tensor that a graph holds on to."""

    def __init__(self, tensor):
        self.tensor = tensor


def test_memory_of_the_graph_is_that_of_the_states_alone(smooth):
    def held(make):
        kept = WeakSet()

        def pack(tensor):
            one = Kept(tensor)
            kept.add(one)
            return one

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda one: one.tensor):
            result = make(torch.zeros(5, 3, requires_grad=True))
        assert result.requires_grad
        return sum(one.tensor.numel() for one in kept)

    assert held(lambda z: generate(smooth, Langevin(80, 0.3, 0.0), z)) <= 8 * 5 * 3  # one state a segment of ten steps
    assert held(lambda z: Langevin(80, 0.3, 0.0).unrolled(smooth, z, generator(0))) > 80 * 5 * 3


def test_a_piecewise_linear_energy_passes_gradients_on_unchanged():
    with seeded(0):
        energy = ConvEnergy((1, 8, 8), 4, 0.2).requires_grad_(False)
    z = torch.randn(2, 1, 8, 8, generator=generator(0), requires_grad=True)
    generate(energy, Langevin(20, 1.0, 0.1), z).sum().backward()
    assert torch.equal(z.grad, torch.ones_like(z))


def test_interpolation_keeps_variance_and_ends():
    a, b = torch.randn(2, 10_000, generator=generator(0))
    path = interpolate_starts(a, b, 9)
    assert torch.equal(path[0], b)
    assert torch.equal(path[-1], a)
    assert path.var(1) == pytest.approx(torch.ones(9), abs=0.06)


def test_reconstruction_inverts_the_chain():
    # on |x|^2/2 without noise M(z) = (1 - drift)^K z
    langevin, x = Langevin(12, 0.1, 0.5), torch.randn(6, 4, generator=generator(0))
    ticks = []
    z, errors = reconstruct(gaussian(), langevin, x, torch.zeros(6, 4), 400, 0.1, lambda: ticks.append(1))
    torch.testing.assert_close(z, x / 0.9**12, atol=1e-2, rtol=1e-2)
    assert errors.shape == (401, 6)
    assert len(ticks) == 400
    torch.testing.assert_close(errors[0], x.square().mean(1))
    torch.testing.assert_close((generate(gaussian(), langevin, z) - x).square().mean(1), errors.min(0).values)
