import numpy as np
import pytest
import torch

from pipeline.data import load
from pipeline.evaluation.frechet import classifier, features, frechet
from pipeline.rng import generator


def test_distance_of_gaussians_is_the_closed_form():
    # commuting covariances: |mu|^2 + sum (s_a - s_b)^2
    n, scale, shift = 200_000, torch.tensor([1.0, 2.0, 0.5]), torch.tensor([0.3, 0.0, -1.0])
    a = torch.randn(n, 3, generator=generator(0), dtype=torch.float64)
    b = torch.randn(n, 3, generator=generator(1), dtype=torch.float64) * scale + shift
    exact = (shift.square().sum() + (scale - 1).square().sum()).item()
    assert frechet(a, b) == pytest.approx(exact, rel=0.02)


def test_distance_to_oneself_is_zero_and_it_is_symmetric():
    a, b = (torch.randn(500, 8, generator=generator(s), dtype=torch.float64) for s in (0, 1))
    assert frechet(a, a) == pytest.approx(0, abs=1e-6)
    assert frechet(a, b * 2 + 1) == pytest.approx(frechet(b * 2 + 1, a))


def test_constant_features_give_no_nan():
    a = torch.zeros(50, 4, dtype=torch.float64)
    assert frechet(a, a + 1) == pytest.approx(4)


def test_classifier_is_the_same_each_time_and_knows_the_digits():
    data = load("digits")
    once, again = classifier(data), classifier(data)
    batch = data.batch(np.arange(data.size))
    assert torch.equal(features(once, batch["x"]), features(again, batch["x"]))
    assert (once(batch["x"]).argmax(1) == batch["label"]).float().mean() > 0.98
