import numpy as np
import pytest

from pipeline.evaluation.figures import dynamics_figure
from pipeline.training.dynamics import correlations, oscillation


def autoregressive(phi, n, seed=0):
    noise, x = np.random.default_rng(seed).normal(size=n), [0.0]
    for xi in noise:
        x.append(phi * x[-1] + xi)
    return np.array(x[1:])


@pytest.mark.parametrize("phi", [0.7, -0.7])
def test_autocorrelation_of_an_autoregressive_series_is_a_power(phi):
    n = 20_000
    found = correlations(autoregressive(phi, n), autoregressive(phi, n, 1))
    expected = phi ** np.arange(16)
    error = ((1 + phi**2) / (1 - phi**2) / n) ** 0.5  # Bartlett's, at large lags
    assert np.abs(found.d - expected).max() < 4 * error
    assert np.abs(found.v - expected).max() < 4 * error


def test_cross_correlation_peaks_left_of_zero_where_d_goes_before_v():
    d = np.random.default_rng(0).normal(size=5000)
    found = correlations(d[3:], d[:-3])  # v(t) = d(t - 3)
    assert np.argmax(found.cross) - 15 == -3
    assert found.cross.max() == pytest.approx(1, abs=0.05)


def test_d_is_not_centred_and_v_is():
    found = correlations(np.full(1000, 7.0), 5 + np.random.default_rng(0).normal(size=1000))
    assert found.d[:3] == pytest.approx([1, 0.999, 0.998])
    assert abs(found.v[1]) < 0.15


def test_a_dead_series_has_no_correlation_and_is_drawn():
    found = correlations(np.zeros(50), np.ones(50))
    assert np.isfinite(np.concatenate(found)).all()
    assert len(dynamics_figure([0.0] * 50, [1.0] * 50, end=100).axes) == 4


def test_an_overshooting_optimizer_shows_as_oscillation():
    d = np.array([1.0, -1.0] * 100)
    found = oscillation(list(d), list(np.roll(d, 1)))
    assert found["d_autocorrelation"] == pytest.approx(-0.995)
    assert found["dv_correlation"] == pytest.approx(-1)
    assert oscillation([1.0] * 5, [1.0] * 5) == {}
