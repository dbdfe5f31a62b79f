"""What every sampler keeps to."""

import math

import pytest
import torch
from torch import nn

from pipeline.energies.energy import gaussian, tilt
from pipeline.errors import InputError
from pipeline.nets.mlp import MLPEnergy
from pipeline.rng import generator, seeded
from pipeline.samplers.hmc import HMC, warm_up
from pipeline.samplers.kernel import Sampler
from pipeline.samplers.langevin import Langevin
from pipeline.samplers.short_run_density import push_forward, short_run_divergence

SAMPLERS = [Langevin(4, 0.1, 0.3), HMC(3, 2, 0.2)]


class NoisyEnergy(nn.Module):
    """An energy without a gradient of its own, with a layer that training mode changes and one that is frozen."""

    def __init__(self):
        super().__init__()
        with seeded(0):
            self.layers = nn.Sequential(nn.Linear(2, 8), nn.Dropout(0.5), nn.LeakyReLU(), nn.Linear(8, 1))
        self.layers[0].requires_grad_(False)

    def forward(self, x):
        return self.layers(x).squeeze(1)


@pytest.fixture(params=["own gradient", "autograd", "tilted"])
def net_and_energy(request):
    with seeded(0):
        net = MLPEnergy(2, (8,), 0.2) if request.param == "own gradient" else NoisyEnergy()
    return net, tilt(net, gaussian()) if request.param == "tilted" else net


def state_of(net):
    """What a call must not change."""
    values = [p.clone() for p in net.parameters()]
    return values, [p.requires_grad for p in net.parameters()], [module.training for module in net.modules()]


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("sampler", SAMPLERS, ids=repr)
def test_where_gradients_are_enabled_no_graph_is_kept_and_the_network_stays_as_it_was(
    sampler, net_and_energy, training
):
    net, energy = net_and_energy
    net.train(training)
    before, x0 = state_of(net), torch.randn(5, 2, generator=generator(0)).requires_grad_()
    start = x0.detach().clone()
    assert torch.is_grad_enabled()
    x, stats = sampler(energy, x0, generator(1))
    for t in (x, *stats):
        assert not t.requires_grad
        assert t.grad_fn is None
    assert torch.is_grad_enabled()
    after = state_of(net)
    assert all(torch.equal(p, q) for p, q in zip(before[0], after[0], strict=True))
    assert before[1:] == after[1:]
    assert all(p.grad is None for p in net.parameters())
    assert x0.grad is None
    assert torch.equal(x0, start)
    assert not torch.equal(x, start)


@pytest.mark.parametrize("sampler", SAMPLERS, ids=repr)
def test_whether_gradients_are_enabled_changes_nothing(sampler):
    with seeded(0):
        net = MLPEnergy(2, (8,), 0.2)
    x0 = torch.randn(5, 2, generator=generator(0))
    with torch.no_grad():
        without, stats = sampler(net, x0, generator(1))
    x, others = sampler(net, x0, generator(1))
    assert torch.equal(x, without)
    assert all(torch.equal(a, b) for a, b in zip(stats, others, strict=True))


def test_warming_up_keeps_no_graph(net_and_energy):
    net, energy = net_and_energy
    _, x = warm_up(HMC(1, 2, 0.2), energy, torch.randn(5, 2, generator=generator(0)), generator(1), rounds=3)
    assert not x.requires_grad
    assert all(p.grad is None for p in net.parameters())


class Column(nn.Linear):
    """A network that returns (n, 1) in place of (n,)."""


@pytest.mark.parametrize("steps", [0, 2])
@pytest.mark.parametrize(
    "move",
    [
        lambda steps, *args: Langevin(steps, 0.1, 0.1)(*args),
        lambda steps, *args: Langevin(steps + 1, 0.1, 0.1).unrolled(*args),
        lambda steps, *args: HMC(steps, 2, 0.1)(*args),
        lambda steps, *args: push_forward(Langevin(steps + 1, 0.1, 0.1), *args),
        lambda steps, *args: short_run_divergence(args[0], Langevin(steps, 0.1, 0.1), *args[1:]),
    ],
)
def test_an_energy_that_is_not_one_number_a_state_is_refused_by_name_and_shape(move, steps):
    for energy in (Column(2, 1), tilt(Column(2, 1), gaussian())):
        with pytest.raises(InputError, match=r"Column returned energies of shape \(6, 1\) for 6 states"):
            move(steps, energy, torch.zeros(6, 2), generator(0))


@pytest.mark.parametrize(
    ("field", "make"),
    [
        ("steps", lambda: Langevin(-1, 0.1, 0.1)),
        ("drift", lambda: Langevin(1, -0.1, 0.1)),
        ("drift", lambda: Langevin(1, math.nan, 0.1)),
        ("noise", lambda: Langevin(1, 0.1, -0.1)),
        ("noise", lambda: Langevin(1, 0.1, math.inf)),
        ("noise", lambda: Langevin.textbook(1, -0.1)),
        ("steps", lambda: HMC(-1, 1, 0.1)),
        ("leapfrog_steps", lambda: HMC(1, 0, 0.1)),
        ("step_size", lambda: HMC(1, 1, 0.0)),
        ("step_size", lambda: HMC(1, 1, math.nan)),
    ],
)
def test_a_setting_out_of_bounds_is_refused_by_name(field, make):
    with pytest.raises(InputError, match=f"^{field}=") as raised:
        make()
    assert raised.value.field == field


@pytest.mark.parametrize("sampler", SAMPLERS, ids=repr)
def test_a_sampler_is_a_value(sampler):
    assert isinstance(sampler, Sampler)
    assert hash(sampler) == hash(type(sampler)(**vars(sampler)))
