"""Gridness of known maps: hexagons, squares, noise."""

import math

import pytest
import torch
from plane_waves import plane_wave_code, wave_vectors

from pipeline.evaluation.metrics import grid_maps
from pipeline.evaluation.metrics.grid_maps import describe_blocks, inspect_maps, null_scores, spacing_slope
from pipeline.evaluation.metrics.gridness import autocorrelogram, first_peak, gridness
from pipeline.rng import generator, standard_normal


def waves(k, side=40):
    line = torch.arange(float(side))
    phase = torch.stack(torch.meshgrid(line, line, indexing="ij"), 2) @ k.T
    return torch.cat([phase.cos(), phase.sin()], 2).permute(2, 0, 1)


@pytest.mark.parametrize("spacing", [8.0, 13.0, 20.0])
def test_three_waves_are_a_grid_with_their_spacing(spacing):
    score, measured = gridness(autocorrelogram(waves(wave_vectors(spacing))))
    assert score > 1
    assert abs(measured / spacing - 1) < 0.02


def test_two_waves_at_right_angles_are_none():
    assert gridness(autocorrelogram(waves(torch.tensor([[0.5, 0.1], [-0.1, 0.5]])))).score < -0.3


def test_a_rotation_of_a_blocks_units_changes_nothing():
    maps = standard_normal((6, 20, 20), generator(0))
    turn, _ = torch.linalg.qr(standard_normal((6, 6), generator(1)))
    turned = torch.einsum("ij,jxy->ixy", turn, maps)
    torch.testing.assert_close(autocorrelogram(maps), autocorrelogram(turned), equal_nan=True, atol=1e-5, rtol=0)


def test_the_correlogram_is_pearsons_correlation_of_the_overlap():
    maps = standard_normal((1, 12, 12), generator(0)) + 0.1 * torch.arange(12.0)
    correlogram, (i, j) = autocorrelogram(maps), (3, -2)
    first, second = maps[0, i:, :j], maps[0, :-i, -j:]
    expected = torch.corrcoef(torch.stack([first.flatten(), second.flatten()]))[0, 1]
    torch.testing.assert_close(correlogram[11 + i, 11 + j], expected)
    torch.testing.assert_close(correlogram, correlogram.flip(0, 1), equal_nan=True)
    assert abs(correlogram[11, 11] - 1) < 1e-6


def test_too_wide_a_grid_is_not_defined_and_is_counted(monkeypatch):
    monkeypatch.setattr(grid_maps, "NULL_MAPS", 4)
    assert math.isnan(gridness(autocorrelogram(waves(wave_vectors(36.0)))).score)
    metrics = inspect_maps(plane_wave_code(spacings=(9.0, 36.0)), None, generator(0)).metrics
    assert metrics["gridness_undefined"] == 1
    assert metrics["gridness_share"] == 1


def test_noise_of_the_same_spectrum_is_no_grid():
    null = null_scores(describe_blocks(plane_wave_code()), generator(0))
    assert len(null) > 80
    assert null.quantile(0.95) < 0.4
    assert abs(null.mean()) < 0.2


def test_a_profile_without_a_second_peak_has_no_spacing():
    assert math.isnan(first_peak(torch.linspace(1, 0, 20)))
    assert first_peak(torch.cos(torch.arange(40) * 2 * math.pi / 12.5)) == pytest.approx(12.5, abs=0.05)


def test_the_slope_of_spacing_is_that_of_a_power_law():
    scales = torch.tensor([20.0, 40.0, 80.0])
    assert spacing_slope(100 / scales.sqrt(), scales) == pytest.approx(-0.5)
    assert math.isnan(spacing_slope(100 / scales[:2].sqrt(), scales[:2]))


def test_the_slope_leaves_out_blocks_for_which_the_law_does_not_hold(monkeypatch):
    monkeypatch.setattr(grid_maps, "NULL_MAPS", 4)
    spacings = (11.0, 13.0, 8.0, 6.5)  # the first is not 100 / sqrt(alpha)
    code, scales = plane_wave_code(spacings=spacings), torch.tensor([20.0, (100 / 13) ** 2, 12.5**2, (100 / 6.5) ** 2])
    slopes = [inspect_maps(code, scales, generator(0), least).metrics["spacing_slope"] for least in (0.0, 25.0)]
    assert abs(slopes[0] + 0.5) > 0.1
    assert slopes[1] == pytest.approx(-0.5, abs=0.02)
