"""Entropy by nearest neighbours, against densities whose entropy is known."""

import math

import pytest
import torch

from pipeline.energies.entropy import nearest_neighbour_entropy
from pipeline.rng import generator, standard_normal

N = 4000
LAWS = {
    "uniform on an interval": (1, lambda rng: 3 * torch.rand(N, 1, generator=rng), math.log(3)),
    "uniform on a square": (2, lambda rng: 3 * torch.rand(N, 2, generator=rng), 2 * math.log(3)),
    "a Gaussian": (1, lambda rng: 2 * standard_normal((N, 1), rng), math.log(2) + math.log(2 * math.pi * math.e) / 2),
    "a Gaussian in space": (3, lambda rng: standard_normal((N, 3), rng), 1.5 * math.log(2 * math.pi * math.e)),
}


@pytest.mark.parametrize("law", LAWS)
def test_the_estimate_is_the_entropy_within_its_error(law):
    """The logarithm of a nearest distance has a variance of about pi^2/6 / dim^2; three dimensions bend at the edge."""
    dim, sample, entropy = LAWS[law]
    estimates = torch.tensor([float(nearest_neighbour_entropy(sample(generator(seed)), dim)) for seed in range(4)])
    error = 1.6 * (math.pi**2 / 6 + 1) ** 0.5 / (4 * N) ** 0.5
    assert float(estimates.mean()) == pytest.approx(entropy, abs=3 * error + 0.02 * (dim - 1))


def test_a_line_in_space_has_the_entropy_of_its_length():
    """L1 distance along (1, 1, 1) is three times a coordinate's."""
    t = torch.rand(N, 1, generator=generator(0))
    assert float(nearest_neighbour_entropy(t.expand(N, 3).contiguous(), 1)) == pytest.approx(math.log(3), abs=0.08)


def test_a_factor_adds_its_logarithm_per_dimension():
    x = standard_normal((50, 7), generator(0))
    change = nearest_neighbour_entropy(3 * x, 4) - nearest_neighbour_entropy(x, 4)
    assert float(change) == pytest.approx(4 * math.log(3), abs=1e-4)


def test_equal_samples_have_a_low_finite_entropy_and_a_finite_gradient():
    x = torch.ones(5, 3, requires_grad=True)
    entropy = nearest_neighbour_entropy(x, 3)
    (gradient,) = torch.autograd.grad(entropy, x)
    assert -60 < float(entropy.detach()) < -40
    assert gradient.isfinite().all()


def test_the_gradient_is_that_of_finite_differences():
    x = standard_normal((6, 2), generator(1)).double().requires_grad_()
    assert torch.autograd.gradcheck(lambda y: nearest_neighbour_entropy(y, 2), x)
