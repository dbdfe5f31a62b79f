"""Phases and frequencies of known filters."""

import math

import pytest
import torch

from pipeline.evaluation.metrics.quadrature import inspect_pairs, pair_spectra
from pipeline.nets.patch_code import PatchCode, patches_at, whiten
from pipeline.rng import generator, standard_normal


def gabor(degrees, frequency=(0.125, 0.1875), size=16):
    line = torch.arange(size) - (size - 1) / 2
    wave = 2 * math.pi * (frequency[0] * line[:, None] + frequency[1] * line) + math.radians(degrees)
    return wave.cos() * (-(line[:, None].square() + line.square()) / 18).exp()


@pytest.mark.parametrize("degrees", [0, 60, 90, 180])
def test_the_phase_between_two_gabor_filters(degrees):
    filters = torch.stack([gabor(20), gabor(20 + degrees)])[None]
    spectra = pair_spectra(filters)
    assert spectra.phase.item() == pytest.approx(degrees, abs=3)
    torch.testing.assert_close(spectra.frequency[0].abs(), torch.tensor([0.125, 0.1875]), atol=0.01, rtol=0)


def test_quadrature_along_the_motion_that_turns_the_pair():
    code = PatchCode(16, 2)
    with torch.no_grad():
        code.filters.copy_(torch.stack([torch.stack([gabor(0), gabor(-90)]), torch.stack([gabor(0), gabor(0)])]))
        code.turns.copy_(2 * math.pi * torch.tensor([[0.125, 0.1875], [0.125, 0.1875]]))
    metrics = inspect_pairs(code).metrics
    assert metrics["quadrature_share"] == 0.5
    assert metrics["orientation_cosine"] > 0.999


def test_rotation_follows_a_plane_wave_that_moves():
    code, line, frequency = PatchCode(16, 1), torch.arange(40.0), torch.tensor([0.125, 0.25])
    with torch.no_grad():  # whole periods, so that patches see nothing but phase
        x = torch.arange(16.0)
        wave = 2 * math.pi * (frequency[0] * x[:, None] + frequency[1] * x)
        code.filters.copy_(torch.stack([wave.cos(), wave.sin()])[None])
        code.turns.copy_(-2 * math.pi * frequency)
    image = (2 * math.pi * (frequency[0] * line[:, None] + frequency[1] * line)).cos()[None]
    at, motion = torch.tensor([[3, 5]]), torch.tensor([[2, -1]])
    before, after = (patches_at(image, place, 16) for place in (at, at + motion))
    torch.testing.assert_close(code.move(code(before), motion.float()), code(after), atol=1e-3, rtol=1e-3)
    torch.testing.assert_close(code.move(code(before), motion.float()).norm(), code(before).norm())


def test_whitening_flattens_a_steep_spectrum_and_leaves_constant_images_finite():
    f = torch.hypot(torch.fft.fftfreq(32)[:, None], torch.fft.fftfreq(32)).clamp(min=1 / 32)
    images = torch.fft.ifft2(torch.fft.fft2(standard_normal((200, 1, 32, 32), generator(0))) / f).real
    white = whiten(images)
    torch.testing.assert_close(white.square().mean((1, 2)), torch.ones(200))
    power = torch.fft.fft2(white).abs().square().mean(0)
    low, high = power[(f > 0.06) & (f < 0.12)].mean(), power[(f > 0.2) & (f < 0.26)].mean()
    assert 0.5 < low / high < 2
    assert whiten(torch.full((1, 3, 16, 16), 0.5)).isfinite().all()
