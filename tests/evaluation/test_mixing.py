"""How chains mix: ArviZ's own example, and a chain whose autocorrelation is known."""

import arviz
import numpy as np
import pytest
import torch

from pipeline.energies.energy import gaussian
from pipeline.evaluation.metrics.mixing import autocorrelation, mixing
from pipeline.rng import generator
from pipeline.samplers.langevin import Langevin


def test_statistics_equal_those_of_arviz_on_its_own_example():
    data = arviz.load_arviz_data("centered_eight")
    theta = data.posterior["theta"].values
    statistics = mixing(np.stack([data.posterior["mu"].values, data.posterior["tau"].values, theta[..., 0]], 2))
    for name, values in (
        ("rhat", arviz.rhat(data)),
        ("ess_bulk", arviz.ess(data, method="bulk")),
        ("ess_tail", arviz.ess(data, method="tail")),
    ):
        expected = [values["mu"].item(), values["tau"].item(), values["theta"].values[0]]
        np.testing.assert_array_equal(getattr(statistics, name), expected)


@pytest.mark.parametrize("drift", [0.1, 0.5])
def test_autocorrelation_of_langevin_on_a_parabola_is_a_power(drift):
    # x' = (1 - drift) x + noise xi for U = x^2 / 2
    sampler, rng, draws = Langevin(1, drift, 0.5), generator(0), []
    x = torch.randn(100, 1, generator=rng) * (0.25 / (1 - (1 - drift) ** 2)) ** 0.5
    with torch.no_grad():
        for _ in range(3000):
            x, _ = sampler(gaussian(), x, rng)
            draws.append(x[:, 0].numpy().copy())
    values = autocorrelation(np.stack(draws, 1))[:20]
    np.testing.assert_allclose(values, (1 - drift) ** np.arange(20), atol=0.015)
    tau = (2 - drift) / drift  # integrated autocorrelation time
    assert mixing(np.stack(draws, 1)[..., None]).ess_bulk[0] == pytest.approx(300_000 / tau, rel=0.1)


def test_chains_that_stay_apart_do_not_mix():
    apart = np.random.default_rng(0).normal(size=(4, 100, 1)) + np.arange(4)[:, None, None] * 5
    together = np.random.default_rng(0).normal(size=(4, 100, 1))
    assert mixing(apart).rhat[0] > 2 > 1.02 > mixing(together).rhat[0]
    assert mixing(apart).ess_bulk[0] < 10 < 200 < mixing(together).ess_bulk[0]
