"""Chains under one density, in a flow's latent space and in data space."""

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
from pipeline.samplers.langevin import Langevin

GAUSSIAN = replace(COUPLINGS, family="gaussian")


class Slope(nn.Module):
    """U(x) = a x, which shifts a Gaussian and keeps its covariance."""

    def __init__(self, *a):
        super().__init__()
        self.a = nn.Parameter(torch.tensor(a))

    def forward(self, x):
        return x @ self.a


@pytest.fixture
def make_snapshot(small):
    def make(recipe, **nets):
        job = override(small, recipe=recipe, source="eight-gaussians")
        data = load_dataset(job)
        initial = init_networks(recipe, data.spec, 0, CPU)
        if "flow" in initial:
            with torch.no_grad():
                initial["flow"].init_from_data(data.batch(np.arange(1000))["x"])
        return Snapshot(job, data, initial | nets, 0)

    return make


def trajectories_of(snapshot, steps=500):
    return space_trajectories(snapshot, 16, steps, 1, 2, 0.8, 0, lambda draws: draws)


@pytest.fixture
def gaussian_trajectory(make_snapshot):
    """Chains under the flow's own Gaussian, in z."""
    recipe = replace(TRANSPORT, flow=GAUSSIAN)
    return trajectories_of(make_snapshot(recipe, energy=Slope(0.0, 0.0)), steps=200)["z"]


@pytest.mark.slow
def test_chains_of_both_spaces_have_the_moments_of_the_tilted_gaussian(make_snapshot):
    tilted = make_snapshot(replace(TRANSPORT, flow=GAUSSIAN), energy=Slope(0.5, -0.3))
    flow = tilted.nets["flow"]
    covariance = flow.scale @ flow.scale.T
    mean = flow.mean - covariance @ torch.tensor([0.5, -0.3])
    trajectories = trajectories_of(tilted)
    assert trajectories["z"].acceptance_rate == pytest.approx(trajectories["x"].acceptance_rate, abs=0.1)
    for trajectory in trajectories.values():
        x = trajectory.x[:, 100:].reshape(-1, 2)
        assert np.abs(x.mean(0) - mean.numpy()).max() < 0.05
        assert np.abs(np.cov(x.T) - covariance.numpy()).max() < 0.05


def test_the_flows_own_energy_is_that_of_the_standard_normal_in_latent_space(make_snapshot):
    snapshot = make_snapshot(replace(FLOW, flow=COUPLINGS))
    z = standard_normal((50, 2), generator(0))
    with torch.no_grad():
        energy = _latent_energy(snapshot.nets, snapshot.recipe.energy(snapshot.nets))(z)
    torch.testing.assert_close(energy, z.square().sum(1) / 2 + np.log(2 * np.pi), rtol=1e-4, atol=1e-4)


def test_trajectories_of_both_spaces_have_the_energy_of_their_data(make_snapshot):
    snapshot = make_snapshot(replace(CONTRASTIVE, flow=COUPLINGS))
    trajectories, energy = trajectories_of(snapshot, steps=40), snapshot.recipe.energy(snapshot.nets)
    assert trajectories["z"].x.shape == trajectories["x"].x.shape == (16, 40, 2)
    assert trajectories["z"].quantities.shape == (16, 40, 2)
    for trajectory in trajectories.values():
        assert np.isfinite(trajectory.energy).all()
        with torch.no_grad():
            last = energy(torch.from_numpy(trajectory.x[:, -1]))
        np.testing.assert_allclose(trajectory.energy[:, -1], last, rtol=1e-4)


def test_a_draw_belongs_to_the_nearest_mode():
    modes = EightGaussians().modes
    x = modes.numpy()[np.array([[0, 0, 1, 7], [3, 3, 3, 3]])] + 0.01
    assert nearest_modes(x, modes).tolist() == [[0, 0, 1, 7], [3, 3, 3, 3]]


def test_chains_that_stay_apart_have_a_high_rhat(gaussian_trajectory):
    quantities = gaussian_trajectory.quantities + 10 * np.arange(16)[:, None, None]
    apart = gaussian_trajectory._replace(quantities=quantities)
    numbers = mixing_by_space({"z": gaussian_trajectory, "x": apart}, EightGaussians().modes)
    assert numbers["rhat_max_z"] < 1.1
    assert numbers["rhat_max_x"] > 2
    assert numbers["mode_changes_z"] > 1


def test_a_chain_that_never_moves_is_counted_and_left_out(gaussian_trajectory):
    energy, quantities = gaussian_trajectory.energy.copy(), gaussian_trajectory.quantities.copy()
    energy[3], quantities[3] = 7, 7
    stuck = gaussian_trajectory._replace(energy=energy, quantities=quantities)
    numbers = mixing_by_space({"z": gaussian_trajectory, "x": stuck}, None)
    assert (numbers["stuck_chains_z"], numbers["stuck_chains_x"]) == (0, 1)
    assert numbers["rhat_max_x"] < 1.1
    assert np.isfinite(autocorrelation(second_half(stuck)[..., 1])).all()


def test_a_model_without_a_flow_is_refused(make_snapshot):
    recipe = ShortRun(langevin=Langevin(3, 1.0, 0.01), batch_size=8, width=4)
    with pytest.raises(InputError, match="ShortRun has no flow"):
        trajectories_of(make_snapshot(recipe))
