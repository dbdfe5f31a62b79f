"""Path integration by a code of plane waves, which is exact but for reading positions."""

import torch
from plane_waves import plane_wave_code

from pipeline.evaluation.metrics.path_integration import decoding_errors, integrate, path_errors, random_walks
from pipeline.rng import generator


def walk(n=100, steps=60):
    return random_walks(39 * torch.rand(n, 2, generator=generator(0)), steps, 3.0, 40, generator(1))


def test_walks_are_sums_of_their_motions_within_the_square():
    walks = walk()
    torch.testing.assert_close(walks.positions[0] + walks.motions.sum(0), walks.positions[-1], atol=1e-3, rtol=0)
    assert walks.positions.min() >= 0
    assert walks.positions.max() <= 39


def test_plane_waves_follow_a_path_without_noise():
    code, walks = plane_wave_code(), walk()
    errors = path_errors(walks, integrate(code, walks, 0.0, False, generator(2)))
    assert errors.mean() < 0.2
    assert errors[-1].mean() < errors[0].mean() + 0.1


def test_reencoding_corrects_the_errors_of_noise():
    code, walks = plane_wave_code(), walk()
    alone, corrected = (
        path_errors(walks, integrate(code, walks, 0.3, reencodes, generator(2)))[-1].mean()
        for reencodes in (False, True)
    )
    assert corrected < alone / 2


def test_noise_spoils_decoding_by_degrees():
    code, at = plane_wave_code(), 39 * torch.rand(500, 2, generator=generator(0))
    errors = [float(decoding_errors(code, at, noise, generator(1)).mean()) for noise in (0.0, 0.5, 2.0)]
    assert errors[0] < errors[1] < errors[2]
    assert errors[0] < 0.2
