"""Chains of one density behind its flow and before it."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from running import CPU
from small_recipes import CONTRASTIVE, COUPLINGS, FLOW, TRANSPORT
from torch import nn

from pipeline.energies.toy_densities import EightGaussians
from pipeline.errors import InputError
from pipeline.evaluation.metrics.mixing import autocorrelation
from pipeline.evaluation.metrics.transport import (
    _latent_energy,
    mixing_by_space,
    nearest_modes,
    second_half,
    space_trajectories,
)
from pipeline.recipe import init_networks
from pipeline.recipes.short_run import ShortRun
from pipeline.rng import generator, standard_normal
from pipeline.runs.job import load_dataset, override
from pipeline.runs.snapshot import Snapshot
from pipeline.runs.storage import Storage
from pipeline.samplers.langevin import Langevin

GAUSSIAN = replace(COUPLINGS, family="gaussian")


class Slope(nn.Module):
    """U(x) = a x, which moves a Gaussian and leaves its covariance."""

    def __init__(self, *a):
        super().__init__()
        self.a = nn.Parameter(torch.tensor(a))

    def forward(self, x):
        return x @ self.a


@pytest.fixture
def model(small):
    def make(recipe, **nets):
        job = override(small, recipe=recipe, source="eight-gaussians")
        data = load_dataset(job)
        found = init_networks(recipe, data.spec, 0, CPU)
        if "flow" in found:
            with torch.no_grad():
                found["flow"].init_from_data(data.batch(np.arange(1000))["x"])
        return Snapshot(job, data, found | nets, 0, Storage.at(job.out))

    return make


def courses(model, steps=500):
    return space_trajectories(model, 16, steps, 1, 2, 0.8, 0, lambda draws, total: draws)


def test_chains_of_both_spaces_have_the_moments_of_the_tilted_gaussian(model):
    tilted = model(replace(TRANSPORT, flow=GAUSSIAN), energy=Slope(0.5, -0.3))
    flow = tilted.nets["flow"]
    covariance = flow.scale @ flow.scale.T
    mean = flow.mean - covariance @ torch.tensor([0.5, -0.3])
    found = courses(tilted)
    assert found["z"].acceptance_rate == pytest.approx(found["x"].acceptance_rate, abs=0.1)
    for course in found.values():
        x = course.x[:, 100:].reshape(-1, 2)
        assert np.abs(x.mean(0) - mean.numpy()).max() < 0.05
        assert np.abs(np.cov(x.T) - covariance.numpy()).max() < 0.05


def test_an_energy_of_data_is_the_same_density_behind_its_flow(model):
    own = model(replace(FLOW, flow=COUPLINGS))
    z = standard_normal((50, 2), generator(0))
    with torch.no_grad():
        behind = _latent_energy(own.nets, own.job.recipe.energy(own.nets))(z)
    torch.testing.assert_close(behind, z.square().sum(1) / 2 + np.log(2 * np.pi), rtol=1e-4, atol=1e-4)


def test_the_energy_that_is_told_is_of_x_in_both_spaces(model):
    found = courses(model(replace(CONTRASTIVE, flow=COUPLINGS)), steps=40)
    assert found["z"].x.shape == found["x"].x.shape == (16, 40, 2)
    assert found["z"].quantities.shape == (16, 40, 2)
    for course in found.values():
        assert np.isfinite(course.energy).all()


def test_visits_are_to_the_nearest_mode_and_mixing_tells_of_them():
    modes = EightGaussians().modes
    x = modes.numpy()[np.array([[0, 0, 1, 7], [3, 3, 3, 3]])] + 0.01
    assert nearest_modes(x, modes).tolist() == [[0, 0, 1, 7], [3, 3, 3, 3]]


def test_chains_that_stay_apart_have_a_high_r_hat(model):
    course = courses(model(replace(TRANSPORT, flow=GAUSSIAN), energy=Slope(0.0, 0.0)), steps=200)["z"]
    apart = course._replace(quantities=course.quantities + 10 * np.arange(16)[:, None, None])
    told = mixing_by_space({"z": course, "x": apart}, EightGaussians().modes)
    assert told["rhat_max_z"] < 1.1
    assert told["rhat_max_x"] > 2
    assert told["mode_changes_z"] > 1


def test_a_chain_that_never_moves_is_counted_and_left_out(model):
    course = courses(model(replace(TRANSPORT, flow=GAUSSIAN), energy=Slope(0.0, 0.0)), steps=200)["z"]
    energy, seen = course.energy.copy(), course.quantities.copy()
    energy[3], seen[3] = 7, 7
    stuck = course._replace(energy=energy, quantities=seen)
    told = mixing_by_space({"z": course, "x": stuck}, None)
    assert (told["stuck_chains_z"], told["stuck_chains_x"]) == (0, 1)
    assert told["rhat_max_x"] < 1.1
    assert np.isfinite(autocorrelation(second_half(stuck)[..., 1])).all()


def test_a_model_without_a_flow_is_refused(model):
    recipe = ShortRun(langevin=Langevin(3, 1.0, 0.01), batch_size=8, width=4)
    with pytest.raises(InputError, match="ShortRun has no flow"):
        courses(model(recipe))
