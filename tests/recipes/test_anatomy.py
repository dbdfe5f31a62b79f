"""The facts of 1903.12370."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from running import CPU, parts

from pipeline.batch import Spec
from pipeline.chains.lanes import lanes_of_rank
from pipeline.errors import InputError
from pipeline.nets.weights import flatten
from pipeline.recipes.anatomy import Anatomy
from pipeline.recipes.short_run import ShortRun
from pipeline.samplers.langevin import Langevin
from pipeline.training.learner import Learner

SPEC = Spec("vector", (2,), 0)
SGD = Anatomy(langevin=Langevin(5, 1.0, 0.01), data_noise=0.0, width=4, optimizer="sgd", lr=0.1)
RNG = np.random.default_rng(0)
DATA, MODEL = (RNG.normal(size=(24, 2)).astype(np.float32) for _ in range(2))


def learner_after_update(recipe, update=0):
    learner = Learner(recipe, SPEC, lanes_of_rank(2), 0, CPU)
    metrics = learner.update(update, *parts(learner.lanes, DATA, MODEL), {})
    return learner, metrics


@pytest.mark.parametrize("noise", [0.01, 0.125])
def test_an_sgd_step_is_the_rate_times_the_gradient_of_f_for_any_noise(noise):
    recipe = replace(SGD, langevin=replace(SGD.langevin, noise=noise))
    learner, metrics = learner_after_update(recipe)
    f = Learner(recipe, SPEC, lanes_of_rank(2), 0, CPU).nets["energy"]
    difference = f(torch.tensor(DATA)).mean() - f(torch.tensor(MODEL)).mean()
    gradient = torch.autograd.grad(difference, list(f.parameters()))
    for p, q, g in zip(f.parameters(), learner.nets["energy"].parameters(), gradient, strict=True):
        torch.testing.assert_close(q, p - 0.1 * g, atol=1e-6, rtol=1e-5)
    # d is on the scale of U = F 2/eps^2
    assert metrics["energy/gap"] == pytest.approx(difference.item() * 2 / noise**2, rel=1e-4)


def test_the_rate_decays_to_its_final_value():
    recipe = replace(SGD, lr_decay=0.9, final_lr=0.05)
    factors = [recipe.learning_rate_factors(update, {})["energy"] for update in range(20)]
    assert factors[:4] == pytest.approx([1, 0.9, 0.81, 0.729])
    assert factors[-1] == pytest.approx(0.5)
    constant = replace(SGD, lr_decay=1.0)
    assert {constant.learning_rate_factors(update, {})["energy"] for update in (0, 10, 10_000)} == {1.0}


def test_an_adam_step_does_not_depend_on_the_noise():
    weights = [
        flatten(learner_after_update(replace(SGD, optimizer="adam", langevin=Langevin(5, 1.0, noise)))[0].nets)
        for noise in (0.01, 0.125)
    ]
    np.testing.assert_allclose(*weights, atol=1e-4)


@pytest.mark.parametrize("recipe", [Anatomy, ShortRun])
def test_chains_without_steps_are_refused(recipe):
    with pytest.raises(InputError, match="steps=0: chains without steps are their own start"):
        recipe(langevin=Langevin(0, 1.0, 0.01))


@pytest.mark.parametrize(("drift", "noise", "field"), [(0.0, 0.1, "drift"), (1.0, 0.0, "noise"), (0.0, 0.0, "drift")])
def test_a_temperature_of_zero_or_infinity_is_refused(drift, noise, field):
    with pytest.raises(InputError, match=f"{field}=0.0: must be above 0"):
        Anatomy(langevin=Langevin(5, drift, noise))
