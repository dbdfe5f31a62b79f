"""The laws of Hamiltonian Monte Carlo on a Gaussian whose every moment is known."""

import itertools
import math

import pytest
import torch

from pipeline.energies.energy import gaussian
from pipeline.rng import generator
from pipeline.samplers.hmc import HMC, leapfrog, value_and_gradient, warm_up

N = 4000
MEAN, SD, RHO = torch.tensor([1.0, -2.0]), torch.tensor([1.0, 0.5]), 0.7
PRECISION = torch.linalg.inv(torch.outer(SD, SD) * torch.tensor([[1.0, RHO], [RHO, 1.0]]))


def correlated(x):
    return ((x - MEAN) @ PRECISION * (x - MEAN)).sum(1) / 2


def quartic(x):
    return (x**4).sum(1) / 4 + x.prod(1)


def move(sampler, energy, x, seed=0):
    with torch.no_grad():
        return sampler(energy, x, generator(seed))


def state(n=50, seed=0):
    x, p = (torch.randn(n, 2, generator=generator(s), dtype=torch.float64) for s in (seed, seed + 1))
    return x, p, value_and_gradient(quartic, x)[1]


def test_leapfrog_is_reversible():
    x, p, slope = state()
    there, momentum, _, g = leapfrog(quartic, x, p, slope, 0.05, 20)
    back, turned, _, _ = leapfrog(quartic, there, -momentum, g, 0.05, 20)
    assert (there - x).abs().min() > 1e-3
    torch.testing.assert_close(back, x, atol=1e-6, rtol=0)
    torch.testing.assert_close(-turned, p, atol=1e-6, rtol=0)


def test_leapfrog_conserves_the_energy_to_second_order():
    x, p, slope = state()
    errors = []
    for n in (10, 20, 40):
        there, momentum, _, _ = leapfrog(quartic, x, p, slope, 1.0 / n, n)
        before, after = (quartic(a) + b.square().sum(1) / 2 for a, b in ((x, p), (there, momentum)))
        errors.append((after - before).abs().mean())
    for coarse, fine in itertools.pairwise(errors):
        assert math.log2(coarse / fine) == pytest.approx(2, abs=0.25)


def test_leapfrog_keeps_volume():
    x, p, _ = state(1)

    def flow(z):
        position = z[None, :2]
        x, momentum = position, z[None, 2:]
        for _ in range(5):  # as in leapfrog, but differentiable
            momentum = momentum - 0.05 * (x**3 + x.flip(1))
            x = x + 0.1 * momentum
            momentum = momentum - 0.05 * (x**3 + x.flip(1))
        return torch.cat([x, momentum], 1).flatten()

    z = torch.cat([x, p], 1).flatten()
    there, momentum, _, _ = leapfrog(quartic, x, p, value_and_gradient(quartic, x)[1], 0.1, 5)
    torch.testing.assert_close(flow(z), torch.cat([there, momentum], 1).flatten(), atol=1e-6, rtol=0)
    assert torch.linalg.det(torch.func.jacrev(flow)(z)).item() == pytest.approx(1, abs=1e-9)


@pytest.mark.parametrize("sampler", [HMC(80, 5, 0.3), HMC(400, 1, 0.4)], ids=["HMC", "MALA"])
def test_moments_of_a_correlated_gaussian(sampler):
    x, stats = move(sampler, correlated, torch.zeros(N, 2))
    standard = (x - MEAN) / SD
    assert (standard.mean(0).abs() < 4 / math.sqrt(N)).all()
    assert ((standard.var(0) - 1).abs() < 4 * math.sqrt(2 / N)).all()
    correlation = standard.prod(1)
    assert abs(correlation.mean() - RHO) < 4 * correlation.std() / math.sqrt(N)
    assert 0.5 < stats.acceptance_rate.mean() < 1
    torch.testing.assert_close(stats.energy, correlated(x))


@pytest.mark.parametrize("step", [0.3, 1.0, 1.6])
def test_the_variance_is_exact_for_any_step_size(step):
    x, _ = move(HMC(200, 1, step), gaussian(), torch.zeros(N, 1))
    assert abs(x.var() - 1) < 4 * math.sqrt(2 / N)


class Steep:
    """An energy whose own gradient is not the derivative of its values, which shows which of the two was used."""

    def __call__(self, x):
        return x.sum(1)

    def gradient(self):
        return lambda x: torch.full_like(x, 7.0)


def test_inner_leapfrog_steps_use_an_energys_own_gradient_and_the_last_one_needs_its_value():
    zeros = torch.zeros(4, 2)
    x, momentum, u, slope = leapfrog(Steep(), zeros, zeros, zeros, 1.0, 3)
    assert (x == -21).all()  # 0 - 7 - 14
    assert (momentum == -14.5).all()  # -3.5 - 7 - 3.5 - .5
    assert (slope == 1).all()
    assert torch.equal(u, x.sum(1))


def test_a_proposal_that_is_not_finite_is_rejected():
    x0 = torch.full((10, 1), 1e4)
    x, stats = move(HMC(5, 10, 1e3), lambda x: (x**4).sum(1), x0)
    assert torch.equal(x, x0)
    assert (stats.acceptance_rate == 0).all()


@pytest.mark.parametrize(("leapfrog_steps", "target"), [(1, 0.6), (1, 0.8), (3, 0.9)])
def test_warm_up_tunes_the_acceptance_rate_and_changes_nothing_else(leapfrog_steps, target):
    hmc = HMC(50, leapfrog_steps, 5.0)
    tuned, x = warm_up(hmc, correlated, torch.zeros(500, 2), generator(0), target=target)
    assert hmc.step_size == 5.0
    assert (tuned.steps, tuned.leapfrog_steps) == (50, leapfrog_steps)
    assert (x != 0).all()
    _, stats = move(tuned, correlated, x)
    assert stats.acceptance_rate.mean() == pytest.approx(target, abs=0.05)
