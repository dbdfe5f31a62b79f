import math

import pytest
import torch

from pipeline.energies.energy import autograd_gradient, evaluate, gaussian, gradient, tilt
from pipeline.errors import InputError
from pipeline.rng import generator


def test_gaussian_is_minus_log_density_up_to_its_normaliser():
    x = torch.randn(50, 3, generator=generator(0))
    exact = -torch.distributions.Normal(0, 0.7).log_prob(x).sum(1)
    offset = 3 * math.log(0.7 * math.sqrt(2 * math.pi))
    torch.testing.assert_close(gaussian(0.7)(x), exact - offset)


def test_tilt_multiplies_densities():
    x = torch.randn(50, 2, generator=generator(0))
    torch.testing.assert_close(tilt(gaussian(1.0), gaussian(1.0))(x), gaussian(math.sqrt(0.5))(x))


class Quartic:
    """An energy that brings its own gradient, and counts the calls of `gradient`."""

    def __init__(self):
        self.calls = 0

    def __call__(self, x):
        return x.pow(4).flatten(1).sum(1)

    def gradient(self):
        self.calls += 1
        return lambda x: 4 * x**3


def test_a_sum_has_the_gradients_of_its_parts_their_own_or_autograds():
    x = torch.randn(7, 3, 4, generator=generator(0))
    own = Quartic()
    energy = tilt(lambda x: x.sin().flatten(1).sum(1), tilt(own, gaussian(0.7)))
    with torch.no_grad():
        slope = gradient(energy)(x)
    assert own.calls == 1
    assert not slope.requires_grad
    torch.testing.assert_close(slope, x.cos() + 4 * x**3 + x / 0.49)
    torch.testing.assert_close(slope, autograd_gradient(energy, x))


class Column(torch.nn.Linear):
    """A network that returns (n, 1) in place of (n,)."""


@pytest.mark.parametrize(
    "use",
    [
        evaluate,
        autograd_gradient,
        lambda energy, x: gradient(energy)(x),
        lambda energy, x: tilt(energy, gaussian())(x),
        lambda energy, x: tilt(gaussian(), energy)(x),
        lambda energy, x: gradient(tilt(energy, gaussian()))(x),
        lambda energy, x: gradient(tilt(tilt(gaussian(), energy), gaussian()))(x),
    ],
)
def test_an_energy_that_is_not_one_number_a_state_is_refused_by_name_and_shape(use):
    with pytest.raises(InputError, match=r"Column returned energies of shape \(6, 1\) for 6 states, not \(6,\)"):
        use(Column(2, 1), torch.ones(6, 2))
    with pytest.raises(InputError, match=r"total returned energies of shape \(\)"):
        use(total, torch.ones(6, 2))


def total(x):
    """One number for all states together."""
    return x.sum()
