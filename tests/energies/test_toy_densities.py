import math

import pytest
import torch

from pipeline.data.named import DENSITIES
from pipeline.energies.toy_densities import Checkerboard, EightGaussians, Rings, Spirals, ToyDensity, UniformSquare
from pipeline.evaluation.metrics.grid import grid_kl, grid_log_density, grid_points, log_integral
from pipeline.rng import generator

ALL = [EightGaussians(), Rings(), Checkerboard(), Spirals(), UniformSquare()]


@pytest.mark.parametrize("density", ALL)
def test_densities_integrate_to_one(density):
    assert isinstance(density, ToyDensity)
    assert density in DENSITIES.values()
    edges = torch.linspace(-density.half_width, density.half_width, 201)
    line = (edges[1:] + edges[:-1]) / 2
    cell = (2 * density.half_width / 200) ** 2
    mass = (-density.energy(torch.cartesian_prod(line, line)).double()).exp().sum() * cell
    exact = isinstance(density, Checkerboard | UniformSquare)  # whose squares are whole cells
    assert mass == pytest.approx(1, abs=1e-6 if exact else 1e-4)


@pytest.mark.parametrize("density", ALL)
def test_samples_fall_into_cells_as_often_as_the_density_says(density):
    n, cells, fine = 100_000, 20, 10
    edges = torch.linspace(-density.half_width, density.half_width, cells * fine + 1)
    line = (edges[1:] + edges[:-1]) / 2
    p = (-density.energy(torch.cartesian_prod(line, line)).double()).exp().view(cells, fine, cells, fine).sum((1, 3))
    expected = n * (p * (2 * density.half_width / (cells * fine)) ** 2).flatten()
    x = density.sample(n, generator(0))
    assert x.shape == (n, 2)
    index = ((x + density.half_width) / (2 * density.half_width) * cells).floor().long()
    inside = ((index >= 0) & (index < cells)).all(1)
    assert (~inside).sum() <= max(10, 2 * (n - expected.sum()))
    counts = torch.bincount(index[inside, 0] * cells + index[inside, 1], minlength=cells**2)
    often = expected > 5
    statistic = ((counts - expected)[often].square() / expected[often]).sum()
    freedom = int(often.sum())
    assert abs(statistic - freedom) < 5 * math.sqrt(2 * freedom)
    rare = expected[~often].sum()
    assert abs(counts[~often].sum() - rare) <= 5 * math.sqrt(rare + 1)


@pytest.mark.parametrize("density", ALL)
def test_samples_have_the_densitys_entropy_and_mean(density):
    n = 100_000
    x = density.sample(n, generator(1))
    assert x.mean(0).abs().max() < 4 * x.std() / math.sqrt(n)
    energy = density.energy(x)
    assert energy.isfinite().all()
    line = torch.linspace(-density.half_width, density.half_width, 201)
    points = torch.cartesian_prod((line[1:] + line[:-1]) / 2, (line[1:] + line[:-1]) / 2)
    u = density.energy(points).double()
    terms = torch.where(u.isfinite(), (-u).exp() * u, 0)
    entropy = terms.sum() * (2 * density.half_width / 200) ** 2
    assert abs(energy.double().mean() - entropy) < 4 * energy.std() / math.sqrt(n) + 1e-3


def test_the_checkerboard_is_flat_on_every_other_square():
    density = Checkerboard()
    centres = torch.cartesian_prod(*[torch.arange(4) - 1.5] * 2)
    energy = density.energy(centres).view(4, 4)
    black = (torch.arange(4)[:, None] + torch.arange(4)) % 2 == 0
    assert torch.equal(energy.isfinite(), black)
    assert (energy[black] == math.log(8)).all()  # eight squares of area 1
    assert density.energy(torch.tensor([[2.5, 0.5], [-9.0, 3.0]])).isinf().all()


def test_spirals_have_two_arms_each_the_others_reflection():
    density = Spirals()
    x = density.sample(1000, generator(0))
    torch.testing.assert_close(density.energy(x), density.energy(-x), rtol=1e-4, atol=1e-3)


def test_eight_gaussians_and_rings_have_their_radii():
    n, density = 100_000, EightGaussians()
    square = density.sample(n, generator(0)).square().sum(1)
    assert abs(square.mean() - density.radius**2 - 2 * density.sd**2) < 4 * square.std() / math.sqrt(n)
    radius = Rings().sample(n, generator(0)).norm(dim=1)
    assert abs(radius.mean() - 2.5) < 4 * radius.std() / math.sqrt(n)


@pytest.mark.parametrize("density", ALL)
def test_a_normalised_density_has_log_z_zero_and_is_not_far_from_itself(density):
    points = grid_points(density.half_width)
    assert log_integral(-density.energy(points).double(), density.half_width) == pytest.approx(0, abs=1e-3)
    shifted = log_integral(-density.energy(points).double() - 1.5, density.half_width)
    assert shifted == pytest.approx(-1.5, abs=1e-3)
    assert grid_kl(density, grid_log_density(density.energy, points, 1.0), points) == pytest.approx(0, abs=1e-6)


def test_the_divergence_from_a_truth_of_infinite_energy_is_finite():
    points, truth = grid_points(2.0), Checkerboard()
    uniform = torch.full((len(points),), -math.log(len(points)))
    assert grid_kl(truth, uniform, points) == pytest.approx(math.log(2), abs=1e-6)
