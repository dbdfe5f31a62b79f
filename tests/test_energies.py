import math

import pytest
import torch

from pipeline.densities import EightGaussians, Rings
from pipeline.energies import by_autograd, gaussian, gradient, tilt
from pipeline.rng import generator


def test_gaussian_is_minus_log_density_up_to_its_normaliser():
    x = torch.randn(50, 3, generator=generator(0))
    exact = -torch.distributions.Normal(0, 0.7).log_prob(x).sum(1)
    offset = 3 * math.log(0.7 * math.sqrt(2 * math.pi))
    torch.testing.assert_close(gaussian(0.7)(x), exact - offset)


def test_tilt_multiplies_densities():
    x = torch.randn(50, 2, generator=generator(0))
    torch.testing.assert_close(tilt(gaussian(1.0), gaussian(1.0))(x), gaussian(math.sqrt(0.5))(x))


class Quartic:
    """An energy that brings its own gradient, and counts how often it is asked for it."""

    def __init__(self):
        self.asked = 0

    def __call__(self, x):
        return x.pow(4).flatten(1).sum(1)

    def gradient(self):
        self.asked += 1
        return lambda x: 4 * x**3


def test_a_sum_has_the_gradient_of_its_parts_whether_they_bring_one_or_not():
    x = torch.randn(7, 3, 4, generator=generator(0))
    own = Quartic()
    energy = tilt(lambda x: x.sin().flatten(1).sum(1), tilt(own, gaussian(0.7)))
    with torch.no_grad():
        found = gradient(energy)(x)
    assert own.asked == 1
    assert not found.requires_grad
    torch.testing.assert_close(found, x.cos() + 4 * x**3 + x / 0.49)
    torch.testing.assert_close(found, by_autograd(energy, x))


@pytest.mark.parametrize("density", [EightGaussians(), Rings()])
def test_densities_integrate_to_one(density):
    line = torch.linspace(-density.half, density.half, 1001)
    cell = (2 * density.half / 1000) ** 2
    assert (-density.energy(torch.cartesian_prod(line, line))).exp().sum() * cell == pytest.approx(1, abs=1e-4)


def test_rings_sample_what_they_claim():
    n, density = 100_000, Rings()
    x = density.sample(n, generator(0))
    radius = x.norm(dim=1)
    assert abs(radius.mean() - 2.5) < 4 * radius.std() / math.sqrt(n)
    assert x.mean(0).abs().max() < 4 * x.std() / math.sqrt(n)
    line = torch.linspace(-5, 5, 1001)
    points = torch.cartesian_prod(line, line)
    entropy = ((-density.energy(points)).exp() * density.energy(points)).sum() * 0.01**2
    energy = density.energy(x)
    assert abs(energy.mean() - entropy) < 4 * energy.std() / math.sqrt(n)


def test_eight_gaussians_sample_what_they_claim():
    n, density = 100_000, EightGaussians()
    x = density.sample(n, generator(0))
    radius2 = x.square().sum(1)
    expected = density.radius**2 + 2 * density.sd**2
    assert abs(radius2.mean() - expected) < 4 * radius2.std() / math.sqrt(n)
    assert x.mean(0).abs().max() < 4 * x.std() / math.sqrt(n)
    line = torch.linspace(-2.5, 2.5, 501)
    points = torch.cartesian_prod(line, line)
    entropy = ((-density.energy(points)).exp() * density.energy(points)).sum() * 0.01**2
    energy = density.energy(x)
    assert abs(energy.mean() - entropy) < 4 * energy.std() / math.sqrt(n)
