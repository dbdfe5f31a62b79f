import pytest
import torch

from pipeline.energies import EightGaussians
from pipeline.evaluation.likelihood import grid, grid_log_density, kde_log_density, kl
from pipeline.rng import generator

TRUTH, POINTS = EightGaussians(), grid(2.0)


def test_the_truth_is_at_distance_zero_whatever_its_temperature_is_called():
    log_q = grid_log_density(lambda x: 3 * TRUTH.energy(x) + 7, POINTS, temperature=3.0)
    assert log_q.exp().sum() == pytest.approx(1)
    assert kl(TRUTH, log_q, POINTS) == pytest.approx(0, abs=1e-6)


def test_distance_of_two_gaussian_mixtures_of_one_mode():
    one = EightGaussians(radius=0.0, sd=0.3)
    q = grid_log_density(lambda x: (x - 0.2).square().sum(1) / (2 * 0.3**2), POINTS, 1.0)
    assert kl(one, q, POINTS) == pytest.approx(2 * 0.2**2 / (2 * 0.3**2), rel=1e-3)


def test_exact_samples_are_as_near_as_the_kernel_lets_them():
    log_q = kde_log_density(TRUTH.sample(5000, generator(0)), POINTS)
    assert 0.03 < kl(TRUTH, log_q, POINTS) < 0.09
    assert kl(TRUTH, kde_log_density(torch.randn(2000, 2, generator=generator(0)), POINTS), POINTS) > 0.4
