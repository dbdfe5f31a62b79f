"""Distances over features and class scores, against closed forms and torch-fidelity."""

import numpy as np
import pytest
import torch

from pipeline.data.dataset import load_data
from pipeline.evaluation.judges.classifier import trained_classifier
from pipeline.evaluation.metrics.frechet import _discrepancy, class_score, frechet_distance, kernel_distance
from pipeline.rng import generator


def test_the_frechet_distance_of_gaussians_is_the_closed_form():
    # commuting covariances: |mu|^2 + sum (s_a - s_b)^2
    n, scale, shift = 200_000, torch.tensor([1.0, 2.0, 0.5]), torch.tensor([0.3, 0.0, -1.0])
    a = torch.randn(n, 3, generator=generator(0), dtype=torch.float64)
    b = torch.randn(n, 3, generator=generator(1), dtype=torch.float64) * scale + shift
    exact = (shift.square().sum() + (scale - 1).square().sum()).item()
    assert frechet_distance(a, b) == pytest.approx(exact, rel=0.02)


def test_the_frechet_distance_is_symmetric_and_zero_between_equal_features():
    a, b = (torch.randn(500, 8, generator=generator(s), dtype=torch.float64) for s in (0, 1))
    assert frechet_distance(a, a) == pytest.approx(0, abs=1e-6)
    assert frechet_distance(a, b * 2 + 1) == pytest.approx(frechet_distance(b * 2 + 1, a))


def test_the_frechet_distance_of_constant_features_is_finite():
    a = torch.zeros(50, 4, dtype=torch.float64)
    assert frechet_distance(a, a + 1) == pytest.approx(4)


def test_the_classifier_is_trained_once_and_classifies_the_digits():
    data = load_data("digits")
    once, again = trained_classifier(data), trained_classifier(data)
    batch = data.batch(np.arange(data.size))
    assert torch.equal(once.features(batch["x"]), again.features(batch["x"]))
    assert (once(batch["x"]).argmax(1) == batch["label"]).float().mean() > 0.98


def test_the_kernel_distance_is_the_sum_over_moments():
    # (xy + 1)^3 = sum_j binomial(3, j) x^j y^j: N(0, 1) and N(.5, 1) by their raw moments
    a, b = (torch.randn(20_000, 1, generator=generator(s), dtype=torch.float64) for s in (0, 1))
    exact = 3 * 0.5**2 + 3 * 0.25**2 + (0.5**3 + 3 * 0.5) ** 2
    shifted = kernel_distance(a, b + 0.5)
    assert abs(shifted.value - exact) < 4 * shifted.standard_error < 1
    equal = kernel_distance(a, b)
    assert abs(equal.value) < 4 * equal.standard_error


def test_the_kernel_distance_of_few_items_is_unbiased():
    values = [kernel_distance(*torch.randn(2, 40, 3, generator=generator(s))).value for s in range(400)]
    assert abs(np.mean(values)) < 4 * np.std(values) / 20


def test_the_class_score_of_certain_logits_counts_the_classes():
    certain = 100 * torch.eye(4)[torch.arange(400) // 10 % 4]
    assert class_score(certain).value == pytest.approx(4)
    assert class_score(certain).standard_error == pytest.approx(0, abs=1e-12)
    assert class_score(certain[:10].repeat(10, 1)).value == pytest.approx(1)
    assert class_score(torch.zeros(100, 4)).value == pytest.approx(1)
    half = class_score(
        torch.tensor([[0.0, 0.0], [100.0, 0.0]]).repeat(100, 1)[torch.randperm(200, generator=generator(0))]
    )
    p = torch.tensor([0.75, 0.25])
    exact = ((1 * (1 / p[0]).log() + 0.5 * (0.5 / p[0]).log() + 0.5 * (0.5 / p[1]).log()) / 2).exp()
    assert half.value == pytest.approx(float(exact), abs=0.05)


def test_they_agree_with_torch_fidelity():
    from torch_fidelity import metric_fid, metric_isc, metric_kid

    a, b = (torch.randn(200, 16, generator=generator(s)).double() * (1 + s / 5) for s in (0, 1))
    mu_sigma = [{"mu": x.mean(0).numpy(), "sigma": np.cov(x.numpy(), rowvar=False)} for x in (a, b)]
    assert [frechet_distance(a, b)] == pytest.approx(
        list(metric_fid.fid_statistics_to_metric(*mu_sigma, False).values())
    )
    kernels = [metric_kid.kernel_poly(x.numpy(), y.numpy()) for x, y in ((a, a), (a, b), (b, b))]
    assert _discrepancy(a, b) == pytest.approx(metric_kid.mmd2(*kernels))
    logits = 3 * a
    shuffled = torch.cat([logits[i::10] for i in range(10)])  # its parts are contiguous
    expected = metric_isc.isc_features_to_metric(shuffled, splits=10, shuffle=False)
    assert class_score(logits).value == pytest.approx(expected["inception_score_mean"])
